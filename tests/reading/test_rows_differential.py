"""Generated reads and writes of rows by their keys and by a unique value that changes hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from hypothesis import strategies as st

from tests.library.models import Tag
from tests.shapes.writes import Write
from tests.test_differential import WAYS, DifferentialTestCase, Example

# The first four are there at the start, under the first four names.
KEYS = [-1, -2, -3, -4, -5]
NAMES = "abcdefghijklmn"


def pairs(queryset: Any) -> list[tuple[int, str]]:
    return sorted(queryset.values_list("pk", "name"))


def get(**conditions: Any) -> str | None:
    try:
        return repr(vars(Tag.objects.get(**conditions)) | {"_state": None})
    except Tag.DoesNotExist:
        return None


READS: dict[str, Callable[[int, int, str], Any]] = {
    "get by key": lambda key, other, name: get(pk=key),
    "by key": lambda key, other, name: pairs(Tag.objects.filter(pk=key)),
    "by keys": lambda key, other, name: pairs(Tag.objects.filter(pk__in=[key, other])),
    "get by value": lambda key, other, name: get(name=name),
    "by value": lambda key, other, name: pairs(Tag.objects.filter(name=name)),
    "by value and more": lambda key, other, name: pairs(Tag.objects.filter(name=name, pk__gt=key)),
    "by value and key": lambda key, other, name: pairs(Tag.objects.filter(name=name, pk=key)),
    "whether there is a value": lambda key, other, name: Tag.objects.filter(name=name).exists(),
    "all": lambda key, other, name: pairs(Tag.objects.all()),
}


class RowRead:
    """A read; each call asks anew."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments

    def __repr__(self) -> str:
        return f"{self.name} {self.arguments}"

    def __call__(self) -> Any:
        return READS[self.name](*self.arguments)


def rename(key: int, other: int, name: str) -> None:
    Tag.objects.filter(pk=key).update(name=name)


def save(key: int, other: int, name: str) -> None:
    Tag(pk=key, name=name).save()


def exchange(key: int, other: int, name: str) -> None:
    with transaction.atomic():
        one, two = Tag.objects.get(pk=key), Tag.objects.get(pk=other)
        if key != other:
            rename(key, other, "")
            rename(other, key, one.name)
            rename(key, other, two.name)


def hand_on(key: int, other: int, name: str) -> None:
    """Rename a row, and have another one take its name."""
    with transaction.atomic():
        one = Tag.objects.get(pk=key)
        rename(key, other, name)
        rename(other, key, one.name)


def recreate(key: int, other: int, name: str) -> None:
    """Delete a row and insert one of its name, or of its key with another name."""
    with transaction.atomic():
        one = Tag.objects.get(pk=key)
        one.delete()
        if other < key:
            Tag.objects.create(name=one.name)
        else:
            Tag.objects.create(pk=key, name=name)


def raw(key: int, other: int, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE library_tag SET name = %s WHERE id = %s", [name, key])


def upsert(key: int, other: int, name: str) -> None:
    arguments: dict[str, Any] = {"update_conflicts": True, "update_fields": ["name"]}
    if connection.features.supports_update_conflicts_with_target:
        arguments["unique_fields"] = ["pk"]
    Tag.objects.bulk_create([Tag(pk=key, name=name)], **arguments)


WRITES: dict[str, Callable[[int, int, str], Any]] = {
    "rename": rename,
    "save": save,
    "exchange": exchange,
    "hand on": hand_on,
    "recreate": recreate,
    "raw": raw,
    "upsert": upsert,
    "create": lambda key, other, name: Tag.objects.create(name=name),
    "delete": lambda key, other, name: Tag.objects.filter(pk=key).delete(),
    "delete by value": lambda key, other, name: Tag.objects.filter(name=name).delete(),
    "rename by value": lambda key, other, name: Tag.objects.filter(name=name).update(name="z"),
    "rename by both": lambda key, other, name: Tag.objects.filter(name="a", pk=key).update(
        name=name
    ),
    "update all": lambda key, other, name: Tag.objects.bulk_update(
        [Tag(pk=key, name=name), Tag(pk=other, name=f"{name}{name}")], ["name"]
    ),
}


@st.composite
def row_examples(draw: st.DrawFn) -> Example:
    key, other = draw(st.sampled_from(KEYS)), draw(st.sampled_from(KEYS))
    name = draw(st.sampled_from(NAMES[:5]))
    reads: list[Any] = [
        RowRead(read, key, other, name)
        for read in draw(st.lists(st.sampled_from([*READS]), min_size=2, max_size=4, unique=True))
    ]
    steps = []
    for _ in range(draw(st.sampled_from([1, 2, 3]))):
        write, way = draw(st.sampled_from([*WRITES])), draw(st.sampled_from(WAYS))
        arguments = (
            draw(st.sampled_from([key, *KEYS])),
            draw(st.sampled_from([other, *KEYS])),
            draw(st.sampled_from([name, *NAMES])),
        )

        def run(write: str = write, arguments: Any = arguments) -> Any:
            return WRITES[write](*arguments)

        steps.append((Write(f"{write} {arguments}", run), way))
    return reads, steps


def reset() -> None:
    Tag.objects.all().delete()
    Tag.objects.bulk_create(
        [Tag(pk=key, name=name) for key, name in zip(KEYS[:4], NAMES, strict=False)]
    )


class RowDifferentialTests(DifferentialTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reset: Any = reset

    def test_reads_by_key_and_value_give_what_the_database_gives(self) -> None:
        self.compare_examples(row_examples())


# Its tests are another module's.
del DifferentialTestCase
