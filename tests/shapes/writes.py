"""Generated writes: each way to change rows, on each model, and the rows to begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models import Case, Subquery, Value, When
from django.db.models.functions import Coalesce
from hypothesis import strategies as st

from tests.shapes.columns import Model, kind_of, tail, values_of
from tests.shapes.models import MODELS, Cafe, Club, Note, Person
from tests.shapes.queries import ROOTS, Generator, Read

#: Negative, so that they never meet the numbers that the database gives.
KEYS = (-3, -2, -1)


def quoted(model: Model) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def row(model: Model, number: int) -> models.Model:
    """Return a new object, its columns and relations chosen by a number."""
    attributes: dict[str, Any] = {}
    for field in model._meta.local_concrete_fields:
        if getattr(field, "generated", False):
            continue
        if field.name == "object_id" or (field.is_relation and not field.primary_key):
            attributes[field.attname] = KEYS[number % 3]
        elif kind_of(field):
            values = values_of(field)
            attributes[field.attname] = values[number % len(values)]
    if model is Note:
        content_type = ContentType.objects.get_for_model((Person, Cafe)[number % 2])
        attributes["content_type_id"] = content_type.pk
    if tail(model) != ("pk",):
        attributes |= {"line": number, "column": -number}
    return model(**attributes)


class Reset:
    """Empties the tables of all models and gives each the same rows, the second time faster."""

    def __init__(self) -> None:
        self._statements: list[tuple[str, Any]] = []

    def __call__(self) -> None:
        # Made on first use, which is not to be repeated.
        ContentType.objects.get_for_models(Person, Cafe)
        with transaction.atomic(), connection.cursor() as cursor:
            if self._statements:
                for statement in self._statements:
                    cursor.execute(*statement)
            else:
                with connection.execute_wrapper(self._record):
                    fill()

    def _record(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if not sql.startswith("SELECT"):
            self._statements.append((sql, params))
        return execute(sql, params, many, context)


def fill() -> None:
    """Empty the tables of all models and give each the same three rows."""
    with connection.cursor() as cursor:
        # MariaDB checks each row at once, and rows of this table refer to each other.
        cursor.execute(f"UPDATE {quoted(Person)} SET mentor_id = NULL")
        for model in reversed(MODELS):
            cursor.execute(f"DELETE FROM {quoted(model)}")
        for model in MODELS:
            new = [row(model, number) for number in range(3)]
            if model._meta.parents:
                # Two of the places are cafés, and one of these is a bistro.
                for item, key in zip(new, KEYS[len(model._meta.get_parent_list()) :], strict=False):
                    setattr(item, model._meta.pk.attname, key)
                    item.save_base(raw=True, force_insert=True)
                continue
            if tail(model) == ("pk",):
                for item, key in zip(new, KEYS, strict=True):
                    item.pk = key
            model._base_manager.bulk_create(new)
        cursor.execute(f"UPDATE {quoted(Person)} SET mentor_id = -3 WHERE id <> -3")


class Write(NamedTuple):
    """What is done to which model, and the function that does it and may fail."""

    name: str
    run: Callable[[], Any]

    def __repr__(self) -> str:
        return self.name


class WriteGenerator(Generator):
    """Draws writes. Each is a function of no arguments that may be called once."""

    def assignments(self, model: Model) -> dict[str, Any]:
        """Return a new value for one or two columns of the model's own table or its parents'."""
        fields = [
            field
            for field in model._meta.concrete_fields
            if kind_of(field) and not getattr(field, "generated", False)
            if field.name not in tail(model) and field.name != "object_id"
        ]
        chosen = [self.pick(fields) for _ in range(self.pick([1, 2]))] if fields else []
        return {field.name: self.pick(values_of(field)) for field in chosen}

    def update(self, model: Model) -> Callable[[], Any]:
        queryset = model._base_manager.all()
        if self.chance(2):
            queryset = queryset.filter(self.condition(model, 1))
        values = self.assignments(model)
        names = [name for name, value in values.items() if isinstance(value, str)]
        if names and self.chance(3):
            name = names[0]
            one = Person.objects.order_by("name", "pk").values("name")[:1]
            values[name] = self.pick(
                [
                    Case(When(**{name: "a"}, then=Value("c")), default=Value("a")),
                    Coalesce(Subquery(one), Value("c")),
                ]
            )
        return lambda: queryset.update(**values)

    def related(self) -> Callable[[], Any]:
        """Return a change of a relation to many."""
        manager, target = self.pick(
            [("friends", Person), ("clubs", Club), ("partners", Club), ("pupils", Person)]
        )
        source = Club if manager == "partners" else Person
        how = self.pick(["add", "remove", "set", "clear", "create"])
        key, other = self.value(KEYS), self.value(KEYS)

        def run() -> None:
            related = getattr(source._base_manager.get(pk=key), manager)
            if how == "clear":
                related.clear()
            elif how == "create":
                related.create(name="c")
            elif how == "set":
                related.set(target._base_manager.filter(pk__gte=other))
            else:
                getattr(related, how)(target._base_manager.get(pk=other))

        return run

    def raw(self, model: Model) -> Callable[[], Any]:
        """Return a statement, of one of the ways to spell it."""
        table, values = quoted(model), self.assignments(model)
        own = {field.name for field in model._meta.local_concrete_fields}
        plain = {
            name: value
            for name, value in values.items()
            if name in own and isinstance(value, (str, int)) and not isinstance(value, bool)
        }
        pk = model._meta.pk if tail(model) == ("pk",) else model._meta.get_field("column")
        key = connection.ops.quote_name(pk.column)
        if plain and self.chance(2):
            name, value = next(iter(plain.items()))
            column = connection.ops.quote_name(name)
            statement = f"UPDATE {table} SET {column} = %s WHERE {key} <> %s"
            rows = [(value, self.value(KEYS))]
        else:
            statement, rows = f"DELETE FROM {table} WHERE {key} = %s", [(self.value(KEYS),)]
        # psycopg 3.3 loses the connection where executemany() meets a deferred constraint.
        many = statement.startswith("UPDATE") and self.chance(3)
        statement = self.pick(["{}", "/* SELECT */ {}", "-- SELECT\n{};"]).format(statement)

        def run() -> None:
            with connection.cursor() as cursor:
                if many:
                    cursor.executemany(statement, rows)
                else:
                    cursor.execute(statement, rows[0])

        return run

    def write(self, models_read: Sequence[Model]) -> Write:
        """Return a write, mostly to one of the models that are read."""
        model = self.pick(ROOTS if self.chance(4) else models_read)
        concrete = model._meta.concrete_model
        number, key = self.value(range(6)), self.value(KEYS)
        how = self.pick(
            "create save update update delete delete_one bulk_create bulk_update update_or_create"
            " upsert related raw raw".split()
        )
        values = self.assignments(model)
        if how == "related":
            return Write(how, self.related())
        if how in ("update", "raw"):
            return Write(f"{how} {model.__name__}", getattr(self, how)(model))
        unknown = dict.fromkeys(tail(model), number + 7) if tail(model) != ("pk",) else {}

        def new() -> models.Model:
            item = row(concrete, number)
            for name, value in {**values, **unknown}.items():
                setattr(item, name, value)
            return item

        def chosen() -> models.Model | None:
            return model._base_manager.order_by(*tail(model)).first()

        def save() -> None:
            if item := chosen():
                for name, value in values.items():
                    setattr(item, name, value)
                item.save(update_fields=list(values) if number % 2 and values else None)

        def bulk_update() -> None:
            items = list(model._base_manager.order_by(*tail(model)))
            for item in items:
                for name, value in values.items():
                    setattr(item, name, value)
            if values:
                model._base_manager.bulk_update(items, list(values), batch_size=2)

        def upsert() -> None:
            arguments: dict[str, Any] = {"update_conflicts": True, "update_fields": list(values)}
            if connection.features.supports_update_conflicts_with_target:
                arguments["unique_fields"] = list(tail(model))
            item = row(concrete, number)
            if tail(model) == ("pk",):
                item.pk = key
            for name, value in values.items():
                setattr(item, name, value)
            model._base_manager.bulk_create([item], **arguments)

        def delete_one() -> None:
            if item := chosen():
                item.delete()

        functions: dict[str, Callable[[], Any]] = {
            "create": lambda: new().save(),
            "save": save,
            "delete": model._base_manager.filter(self.condition(model, 1)).delete,
            "delete_one": delete_one,
            "bulk_create": lambda: model._base_manager.bulk_create(
                [new()], ignore_conflicts=bool(number % 2)
            ),
            "bulk_update": bulk_update,
            "update_or_create": lambda: model._base_manager.update_or_create(
                **dict.fromkeys(tail(model), number), defaults=values
            ),
            "upsert": upsert,
        }
        return Write(f"{how} {model.__name__}", functions[how])


@st.composite
def writes(draw: st.DrawFn, queries: Sequence[Read]) -> Write:
    """A write that is likely to matter for one of the queries."""
    texts = "".join(map(repr, queries))
    read = [model for model in ROOTS if model._meta.db_table in texts]
    return WriteGenerator(draw).write(read or ROOTS)
