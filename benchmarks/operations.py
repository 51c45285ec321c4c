"""What the contenders do: every operation as a function without arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

from django.db import transaction
from django.db.models import Avg, Count, Model

from benchmarks.catalogue import MIX_LENGTH, Entry
from benchmarks.library.models import CHAIN, Author, Book, Note, Review, Row, Tag


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """How to do what an entry of the catalogue names.

    ``call`` is timed. ``change`` writes to what ``call`` reads, ``tidy`` removes what it has left;
    neither is timed. ``answer`` is a read that shows what a write has done.
    """

    call: Callable[[], Any]
    change: Callable[[], None] = _nothing
    tidy: Callable[[], object] = _nothing
    answer: Callable[[], Any] | None = None


_revisions = count(1)
_held: dict[tuple[type[Model], int], Any] = {}


def change(model: type[Model], pk: int = 7) -> None:
    """Save an object that is at hand, with another revision."""
    found = _held.get((model, pk))
    if found is None:
        found = _held[model, pk] = model._default_manager.get(pk=pk)
    found.revision = next(_revisions)
    found.save()


def changing(*models: type[Model]) -> Callable[[], None]:
    def change_all() -> None:
        for model in models:
            change(model)

    return change_all


def _books(n: int) -> list[Book]:
    return list(Book.objects.order_by("pk")[:n])


def _follow() -> Author:
    """Follow the foreign key of an object that is at hand, and has not done so before."""
    book = Book(pk=7, author_id=7)
    book._state.adding, book._state.db = False, "default"
    return book.author


def _get_in_transaction() -> Book:
    with transaction.atomic():
        return Book.objects.get(pk=7)


READS: dict[str, Operation] = {
    "get": Operation(lambda: Book.objects.get(pk=7), changing(Book)),
    # The slug of the row with the key 7: writes of others leave what was read.
    "get-slug": Operation(lambda: Tag.objects.get(slug="tag-6"), changing(Tag)),
    "foreign-key": Operation(_follow, changing(Author)),
    "atomic-get": Operation(_get_in_transaction, changing(Book)),
    "exists": Operation(lambda: Book.objects.filter(author_id=7).exists(), changing(Book)),
    "count": Operation(lambda: Book.objects.filter(author_id=7).count(), changing(Book)),
    "rows-10": Operation(lambda: _books(10), changing(Book)),
    "rows-100": Operation(lambda: _books(100), changing(Book)),
    "rows-1000": Operation(lambda: _books(1000), changing(Book)),
    "values-1000": Operation(
        lambda: list(Book.objects.order_by("pk").values("pk", "title", "pages", "revision")[:1000]),
        changing(Book),
    ),
    "search": Operation(
        lambda: list(Book.objects.filter(title__icontains="whale").order_by("pk")[:20]),
        changing(Book),
    ),
    "select-related": Operation(
        lambda: list(Book.objects.select_related("author").order_by("pk")[:100]),
        changing(Book, Author),
    ),
    "prefetch": Operation(
        lambda: list(Book.objects.prefetch_related("tags").order_by("pk")[:100]),
        changing(Book, Tag),
    ),
    "annotate": Operation(
        lambda: list(Author.objects.annotate(books=Count("book")).order_by("pk")),
        changing(Author, Book),
    ),
}


def _page() -> list[Any]:
    """Do what the view of a busy page does, in 30 queries."""
    parts: list[Any] = []
    for pk in range(1, 9):
        parts.append(Book.objects.get(pk=pk))
        parts.append(Review.objects.filter(book_id=pk).count())
    for pk in range(1, 5):
        parts.append(list(Book.objects.filter(author_id=pk).order_by("-added")[:5]))
        parts.append(Book.objects.filter(author_id=pk, is_lent=True).exists())
    parts.append(list(Tag.objects.order_by("name")))
    parts.append(list(Book.objects.select_related("author").order_by("-added", "pk")[:20]))
    parts.append(list(Author.objects.annotate(books=Count("book")).order_by("-books", "pk")[:10]))
    parts.append(Review.objects.aggregate(stars=Avg("stars"))["stars"])
    parts.append(list(Book.objects.filter(tags=3).order_by("pk")[:20]))
    parts.append(list(Review.objects.select_related("book").order_by("-pk")[:10]))
    return parts


def _save() -> None:
    change(Book)


def _update() -> None:
    Book.objects.filter(pk=7).update(revision=next(_revisions))


def _atomic_save() -> None:
    with transaction.atomic():
        change(Book)


def _bulk_create() -> None:
    Note.objects.bulk_create([Note(text=f"Note {n}") for n in range(100)])


def _read_changed() -> list[Any]:
    return [Book.objects.get(pk=7), Note.objects.count(), list(Book.objects.order_by("pk")[:10])]


WRITES: dict[str, Operation] = {
    "save": Operation(_save, answer=_read_changed),
    "update": Operation(_update, answer=_read_changed),
    "atomic-save": Operation(_atomic_save, answer=_read_changed),
    "bulk-create": Operation(
        _bulk_create, tidy=lambda: Note.objects.all().delete(), answer=_read_changed
    ),
}


def _scan(n: int) -> Operation:
    return Operation(lambda: list(Row.objects.order_by("pk")[:n]), lambda: change(Row, 1))


def _join(tables: int) -> Operation:
    first = CHAIN[0]._default_manager.order_by("pk")
    path = "__".join(["next"] * (tables - 1))
    queryset = first.select_related(path) if path else first
    return Operation(lambda: list(queryset.all()), changing(CHAIN[tables - 1]))


def fill(entries: int) -> None:
    """Have the cache hold so many results of one table."""
    for number in range(entries):
        Book.objects.filter(pages__gt=number).exists()


_MIX_MODELS = (Author, Book, Review, Tag)


def _mix(percent: int) -> Operation:
    """Read five things of each of four tables, again and again; write to them in turn."""
    reads = cycle([(model, pk) for pk in range(1, 6) for model in _MIX_MODELS])
    written = cycle(_MIX_MODELS)

    def call() -> None:
        due = 0
        for _ in range(MIX_LENGTH):
            due += percent
            if due >= 100:
                due -= 100
                change(next(written))
            else:
                model, pk = next(reads)
                list(model._default_manager.filter(pk__gte=pk).order_by("pk")[:10])

    def answer() -> list[Any]:
        return [
            list(model._default_manager.filter(pk__gte=pk).order_by("pk")[:10])
            for pk in range(1, 6)
            for model in _MIX_MODELS
        ]

    return Operation(call, answer=answer)


def operation_of(entry: Entry) -> Operation:
    """Return how to do what the entry names."""
    size = entry.size or 0
    if entry.group == "reads":
        return READS[entry.name]
    if entry.group == "writes":
        return WRITES[entry.name]
    if entry.group == "rows":
        return _scan(size)
    if entry.group == "tables":
        return _join(size)
    if entry.group == "entries":
        return Operation(lambda: Book.objects.filter(pages__gt=0).exists(), changing(Book))
    if entry.group == "invalidation":
        return WRITES["save"]
    if entry.group == "threads":
        return READS["rows-10"]
    if entry.group == "mix":
        return _mix(size)
    return Operation(_page, changing(Author, Book, Review, Tag))
