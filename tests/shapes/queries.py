"""Generated reads: any lookup on any column in reach, in every clause that takes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.core.exceptions import FieldError
from django.db import NotSupportedError, connection, models
from django.db.models import (
    Avg,
    Case,
    CharField,
    Count,
    Exists,
    F,
    FilteredRelation,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import (
    Cast,
    Coalesce,
    Concat,
    DenseRank,
    ExtractYear,
    Greatest,
    Length,
    Lower,
    NullIf,
    Rank,
    TruncMonth,
    Upper,
)
from hypothesis import strategies as st

from tests.shapes.columns import LOOKUPS, VALUES, Model, columns, columns_of, links, tail
from tests.shapes.models import MODELS, Fan, Mood

T = TypeVar("T")

ROOTS: list[Model] = [*MODELS, Fan]
#: What cannot be built: Django's refusals of a combination.
REFUSALS = (FieldError, NotSupportedError, NotImplementedError, TypeError, ValueError)


class Read:
    """A query set and what is asked of it; each call asks anew."""

    def __init__(self, queryset: QuerySet[Any], end: str, size: int) -> None:
        self.queryset, self.end, self.size = queryset, end, size

    def __repr__(self) -> str:
        try:
            return f"{self.end} of {self.queryset.query}"
        except REFUSALS as error:
            return f"{self.end} of {error}"

    def __call__(self) -> Any:
        """Return plain values whose order means something only where the query orders them."""
        queryset = self.queryset.all()
        if self.end in ("count", "exists"):
            return getattr(queryset, self.end)()
        if self.end == "aggregate":
            return queryset.aggregate(n=Count("*"), low=Min(tail(queryset.model)[0]))
        if self.end in ("first", "last"):
            return plain(getattr(queryset.order_by(*tail(queryset.model)), self.end)())
        if self.end == "slice":
            # Rows that are equal in all of these are equal.
            order = [*tail(queryset.model), *queryset.query.annotation_select]
            return [plain(row) for row in queryset.order_by(*order)[: self.size]]
        if self.end == "stream":
            return sorted(map(repr, map(plain, queryset.iterator(chunk_size=self.size))))
        if self.end == "in_bulk":
            return {pk: plain(row) for pk, row in queryset.in_bulk().items()}
        return sorted(repr(plain(row)) for row in queryset)


def plain(row: Any, depth: int = 2) -> Any:
    """Return the loaded values of a row or object, and of what is loaded with it."""
    if isinstance(row, models.Model):
        state = {name: plain(value) for name, value in vars(row).items() if name[0] != "_"}
        # What is loaded with an object often refers back to it.
        related = depth and {
            name: plain(value, depth - 1) for name, value in row._state.fields_cache.items()
        }
        fetched = {
            name: sorted(repr(plain(item, 0)) for item in queryset)
            for name, queryset in getattr(row, "_prefetched_objects_cache", {}).items()
        }
        return (type(row).__name__, state, related, fetched)
    if isinstance(row, (tuple, list)):
        return type(row)(map(plain, row))
    if isinstance(row, dict):
        return {key: plain(value) for key, value in row.items()}
    return bytes(row) if isinstance(row, memoryview) else row


class Generator:
    """Draws the parts of a query on a model.

    Given the choices of another one, it makes the same query with other values in it.
    """

    def __init__(self, draw: st.DrawFn, choices: Sequence[int] = ()) -> None:
        self.draw = draw
        self.choices: list[int] = []
        self._given = iter(choices)

    def pick(self, candidates: Sequence[T]) -> T:
        choice = next(self._given, None)
        if choice is None:
            choice = self.draw(st.integers(0, len(candidates) - 1))
        self.choices.append(choice)
        return candidates[choice]

    def value(self, candidates: Sequence[T]) -> T:
        """Pick what becomes a parameter of the query."""
        return self.draw(st.sampled_from(candidates))

    def chance(self, one_in: int) -> bool:
        return self.pick(range(one_in)) == one_in - 1

    def lookup(self, model: Model, depth: int = 2) -> Q:
        """Return a condition on one column."""
        path, kind = self.pick(columns(model, depth))
        lookup = self.pick(LOOKUPS[kind])
        value = self.value(VALUES[kind])
        if path.endswith("mood"):
            value = self.value([*Mood, "a"])
        if lookup == "isnull":
            value = self.pick([True, False])
        elif lookup == "k":
            value = self.value([1, "1"])
        elif lookup in ("in", "range"):
            value = [value, self.value(VALUES[kind])]
        return Q(**{f"{path}__{lookup}": value})

    def nested(self, model: Model, levels: int) -> QuerySet[Any]:
        """Return rows next to the outer query's, filtered by up to two levels of outer columns."""
        inner, column, outer = self.pick(links(model))
        queryset = inner._base_manager.filter(**{column: OuterRef(outer)})
        if self.chance(2):
            queryset = queryset.filter(self.lookup(inner, 1))
        if levels and links(inner):
            deepest, column, middle = self.pick(links(inner))
            conditions: dict[str, Any] = {column: OuterRef(middle)}
            names = columns_of(deepest, CharField, depth=0)
            outer_names = columns_of(model, CharField, depth=0)
            if names and outer_names:
                conditions[f"{self.pick(names)}__gte"] = OuterRef(OuterRef(self.pick(outer_names)))
            found = Exists(deepest._base_manager.filter(**conditions))
            queryset = queryset.filter(~found if self.chance(2) else found)
        return queryset

    def condition(self, model: Model, levels: int = 2) -> Q:
        """Return a condition, maybe of several parts and with sub-queries."""
        kinds = ["lookup"] * 3 + ["columns", "in", "exists", "not exists", "raw", "case"]
        if levels:
            kinds += ["and", "or", "not", "xor"]
        kind = self.pick(kinds)
        if kind == "columns":
            names = columns_of(model, CharField)
            if len(names) > 1:
                return Q(**{self.pick(names): F(self.pick(names))})
        elif kind in ("in", "exists", "not exists") and links(model):
            if kind == "in":
                inner, column, outer = self.pick(links(model))
                rows = inner._base_manager.filter(self.lookup(inner, 1))
                return Q(**{f"{outer}__in": rows.values(column)})
            found = Exists(self.nested(model, self.pick([0, 1])))
            return Q(~found if kind == "not exists" else found)
        elif kind == "raw":
            other = self.pick(MODELS)._meta
            sql = f"(SELECT COUNT(*) FROM {connection.ops.quote_name(other.db_table)}) > %s"
            return Q(RawSQL(sql, [self.value([0, 1, 2, 3])], output_field=models.BooleanField()))
        elif kind == "case":
            when = When(self.lookup(model, 1), then=Value(True))
            return Q(Case(when, default=Value(False), output_field=models.BooleanField()))
        elif kind == "not":
            return ~self.condition(model, levels - 1)
        elif kind in ("and", "or", "xor"):
            one, other_condition = (self.condition(model, levels - 1) for _ in range(2))
            if kind == "xor":
                return one ^ other_condition
            return one & other_condition if kind == "and" else one | other_condition
        return self.lookup(model)

    def text(self, model: Model) -> Any:
        """Return an expression that gives text."""
        column: Any = self.pick(columns_of(model, CharField) or [""])
        if not column:
            return Value("a")
        return self.pick(
            [
                lambda: F(column),
                lambda: Upper(column),
                lambda: Lower(Concat(column, Value("-"), column)),
                lambda: Coalesce(column, Value("none")),
                lambda: NullIf(F(column), Value("a")),
                lambda: Greatest(F(column), Value("b")),
                lambda: Case(
                    When(self.condition(model, 1), then=Value("yes")),
                    When(self.lookup(model, 1), then=F(column)),
                    default=Value("no"),
                    output_field=CharField(),
                ),
                lambda: self.subquery(model),
            ]
        )()

    def subquery(self, model: Model) -> Any:
        """Return a scalar sub-query: the first text of the rows next to this one, or a count."""
        if not links(model):
            return Value("none")
        rows = self.nested(model, 0)
        names = columns_of(rows.model, CharField, depth=1)
        if names and self.chance(2):
            name = self.pick(names)
            return Subquery(rows.order_by(name).values(name)[:1])
        grouped = rows.order_by().annotate(one=Value(1)).values("one").annotate(n=Count("*"))
        return Cast(Subquery(grouped.values("n"), output_field=IntegerField()), CharField())

    def aggregate(self, model: Model) -> Any:
        condition = self.condition(model, 1) if self.chance(2) else None
        numbers = columns_of(model, IntegerField)
        choices: list[Callable[[], Any]] = [lambda: Count("*", filter=condition)]
        if numbers:
            number = self.pick(numbers)
            choices += [
                lambda: Count(number, distinct=True, filter=condition),
                lambda: Coalesce(Sum(number, filter=condition), 0),
                lambda: Max(number, filter=condition),
                lambda: Avg(number, filter=condition),
                lambda: Min(F(number) + 1),
            ]
        return self.pick(choices)()

    def window(self, model: Model) -> Any:
        """Return a window function that gives equal rows equal values."""
        local = columns_of(model, CharField, IntegerField, depth=0)
        if not local:
            return Value(1)
        function = self.pick([Rank(), DenseRank(), Count("*"), Max(self.pick(local))])
        return Window(function, partition_by=[F(self.pick(local))], order_by=F(local[0]).asc())

    def annotation(self, model: Model) -> Any:
        kind = self.pick(["text", "text", "aggregate", "window", "number", "exists", "raw"])
        if kind == "aggregate":
            return self.aggregate(model)
        if kind == "window":
            return self.window(model)
        if kind == "number":
            moments = columns_of(model, models.DateTimeField)
            if moments and self.chance(2):
                # MariaDB's Trunc functions need time zone tables, which it may not have.
                functions = [ExtractYear, *([TruncMonth] if connection.vendor != "mysql" else [])]
                return self.pick(functions)(self.pick(moments))
            return Length(self.text(model))
        if kind == "exists" and links(model):
            return Exists(self.nested(model, 1))
        if kind == "raw":
            other = connection.ops.quote_name(self.pick(MODELS)._meta.db_table)
            return RawSQL(f"(SELECT COUNT(*) FROM {other} WHERE %s = 'a')", [self.value("ab")])
        return self.text(model)

    def change(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the query set with one more clause."""
        model = queryset.model
        name = f"x{len(queryset.query.annotations)}"
        kind = self.pick(
            "filter filter exclude annotate annotate alias order distinct extra relation"
            " related prefetch only defer values group".split()
        )
        if kind == "filter":
            return queryset.filter(self.condition(model))
        if kind == "exclude":
            return queryset.exclude(self.condition(model, 1))
        if kind == "annotate":
            return queryset.annotate(**{name: self.annotation(model)})
        if kind == "alias":
            return queryset.alias(**{name: self.text(model)}).filter(**{f"{name}__gt": "a"})
        if kind == "order":
            expression = self.text(model)
            return queryset.order_by(expression if self.chance(2) else Lower(expression).desc())
        if kind == "distinct":
            if connection.vendor == "postgresql" and self.chance(2):
                return queryset.order_by(*tail(model)).distinct(*tail(model))
            return queryset.distinct()
        if kind == "extra":
            options = self.pick(MODELS)._meta
            other = connection.ops.quote_name(options.db_table)
            how = self.pick(["select", "where", "tables"])
            if how == "select":
                return queryset.extra(select={name: f"SELECT COUNT(*) FROM {other}"})
            if how == "where":
                where = f"(SELECT COUNT(*) FROM {other}) <> %s"
                return queryset.extra(where=[where], params=[self.value(range(4))])
            column = connection.ops.quote_name(self.pick(options.local_concrete_fields).column)
            return queryset.extra(tables=[options.db_table], select={name: f"{other}.{column}"})
        relations = [field.name for field in model._meta.get_fields() if field.is_relation]
        if kind == "relation" and relations:
            # Of any kind: to many, generic, to a parent or child.
            relation = self.pick(relations)
            target = model._meta.get_field(relation).related_model
            if target is not None:
                path, column_kind = self.pick(columns(target, 0))
                if column_kind is CharField:
                    condition = Q(**{f"{relation}__{path}__gte": self.value("abc")})
                    queryset = queryset.annotate(
                        **{f"r{name}": FilteredRelation(relation, condition=condition)}
                    )
                    return queryset.annotate(**{name: F(f"r{name}__{path}")})
        if kind == "related":
            single = [
                field.name
                for field in model._meta.get_fields()
                if field.many_to_one or field.one_to_one
            ]
            return queryset.select_related(*([self.pick(single)] if single else []))
        if kind == "prefetch":
            many = [
                field.name
                for field in model._meta.get_fields()
                if field.is_relation and (field.many_to_many or field.many_to_one)
                if field.concrete
            ]
            if many:
                return queryset.prefetch_related(self.pick(many))
        local = [field.name for field in model._meta.concrete_fields]
        if kind == "only":
            return queryset.only(self.pick(local))
        if kind == "defer":
            return queryset.defer(self.pick(local))
        if kind == "values":
            paths = [path for path, _ in columns(model, 1)]
            return queryset.values_list(self.pick(paths), self.pick(paths))
        if kind == "group":
            names = columns_of(model, CharField, IntegerField, depth=1)
            if names:
                return queryset.values(self.pick(names)).annotate(**{name: self.aggregate(model)})
        return queryset

    def queryset(self, model: Model, clauses: int) -> QuerySet[Any]:
        queryset = model._base_manager.all()
        for _ in range(clauses):
            try:
                queryset = self.change(queryset)
            except REFUSALS:
                continue
        return queryset

    def read(self) -> Read:
        """Return a read of one model and, over relations and sub-queries, of others."""
        model = self.pick(ROOTS)
        queryset = self.queryset(model, self.pick([1, 2, 3, 4]))
        end = self.pick(
            "rows rows rows slice count exists aggregate first last stream in_bulk".split()
        )
        if end == "rows" and self.chance(6) and (names := columns_of(model, CharField)):
            other = self.pick(ROOTS)
            if other_names := columns_of(other, CharField):
                one = queryset.order_by().values_list(self.pick(names))
                two = self.queryset(other, 1).order_by().values_list(self.pick(other_names))
                combine = self.pick(["union", "union all", "intersection", "difference"])
                try:
                    if combine == "union all":
                        queryset = one.union(two, all=True)
                    else:
                        queryset = getattr(one, combine)(two)
                except REFUSALS:
                    queryset = one
        return Read(queryset, end, self.pick([1, 2, 3]))


@st.composite
def reads(draw: st.DrawFn) -> list[Read]:
    """A read and maybe its twin: the same with other parameters."""
    generator = Generator(draw)
    found = [generator.read()]
    if draw(st.booleans()):
        found.append(Generator(draw, generator.choices).read())
    return found
