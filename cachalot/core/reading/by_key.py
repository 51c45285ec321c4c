"""``get()`` by one unique column, and following a foreign key, without building a queryset.

What is built each time, filtered and compiled, is the same but for one value. So it is built once,
and only the value is put in its place. Wherever something on the way is not Django's own, or the
value is not of the column's own type, Django does it all.
"""

from __future__ import annotations

import uuid
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Model, Q
from django.db.models.query import MAX_GET_RESULTS, ModelIterable, QuerySet
from django.db.models.sql.query import Query

from cachalot.core.connection.state import state_of
from cachalot.core.reading import known
from cachalot.core.reading.model_facts import is_plain_model, own_columns_of, tables_of
from cachalot.core.reading.originals import is_original
from cachalot.core.reading.shapes import WITHOUT_EFFECT, fingerprint
from cachalot.core.switch import is_enabled
from cachalot.settings import forget_on_change, memo

# Types of values that lookups leave as they are, by what ``get_internal_type()`` says.
_TYPES: dict[str, type] = {
    **dict.fromkeys(known.INTEGERS, int),
    **dict.fromkeys(known.TEXTS, str),
    "UUIDField": uuid.UUID,
}
# Nothing has been asked of a query with no other attributes, and nothing in these.
_UNTOUCHED = frozenset(vars(Query(Model))) | WITHOUT_EFFECT
_ASKED = attrgetter(
    *("alias_map", "annotations", "external_aliases", "extra", "_filtered_relations"),
    *("where.children", "where.negated"),
)
_ASKED_OF_QUERYSET = attrgetter(
    *("_sticky_filter", "_prefetch_related_lookups", "_known_related_objects", "_fields"),
    *("_deferred_filter", "_result_cache"),
)
#: What a queryset calls in ``get()``.
_METHODS = """
    get filter _filter_or_exclude _filter_or_exclude_inplace _chain _clone order_by _fetch_all
    _not_support_combined_queries __len__ __iter__ query db
""".split()


class Template(NamedTuple):
    """The query of ``get()`` by one column, with some value, as Django has built it.

    It is what Django would build as long as the ``facts`` of ``field`` are the same.
    """

    query: Any
    shape: tuple[Any, ...]
    type: type
    field: Any
    facts: tuple[Any, ...]


_templates: dict[tuple[Any, str], Template | None] = {}


def get(queryset: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what ``queryset.get()`` would, None where that must be called."""
    if args:
        if kwargs or len(args) != 1 or (pair := _pair_in(args[0])) is None:
            return None
        name, value = pair
    elif len(kwargs) == 1:
        ((name, value),) = kwargs.items()
    else:
        return None
    model = queryset.model
    try:
        template = _templates[model, name]
    except KeyError:
        template = _templates[model, name] = _make_template(model, name)
    if (
        template is None
        or not is_enabled()
        or type(value) is not template.type
        or any(_ASKED_OF_QUERYSET(queryset))
        or not _is_djangos(type(queryset))
        or queryset._iterable_class is not ModelIterable
        or not _is_untouched(queryset._query)
        or template.facts != _facts_of(model, template.field)
    ):
        return None
    compiler = _compiler_of(template, value, queryset.db)
    if compiler is None:
        return None
    compiled: Any = _Compiled(queryset, compiler)
    found: list[Any] = list(ModelIterable(compiled))
    # Django has words for none and for many.
    return found[0] if len(found) == 1 else None


def _pair_in(condition: Any) -> tuple[str, Any] | None:
    """Return the name and the value of a condition as a foreign key makes it."""
    if type(condition) is not Q or condition.negated or len(condition.children) != 1:
        return None
    pair = condition.children[0]
    return pair if type(pair) is tuple else None


def _is_untouched(query: Any) -> bool:
    return type(query) is Query and _UNTOUCHED.issuperset(query.__dict__) and not any(_ASKED(query))


@memo(maxsize=1024)
def _is_djangos(queryset_class: type) -> bool:
    """Whether nobody has overridden or replaced what ``get()`` calls."""
    return all(
        getattr(queryset_class, name) is getattr(QuerySet, name) for name in _METHODS
    ) and is_original(QuerySet)


def _make_template(model: Any, name: str) -> Template | None:
    """Return what ``get()`` by the column ``name`` builds; None if it may be another each time."""
    if (name != "pk" and "__" in name) or not is_plain_model(model):
        return None
    field = model._meta.pk if name == "pk" else model._meta._forward_fields_map.get(name)
    if field is None or not field.unique or field.null or field.is_relation:
        return None
    type_of_value = _TYPES.get(field.get_internal_type())
    if type_of_value is None or field not in own_columns_of(model):
        return None
    some: Any = uuid.UUID(int=1) if type_of_value is uuid.UUID else type_of_value(1)
    query = QuerySet(model).filter(**{name: some}).order_by().query
    query.set_limits(high=MAX_GET_RESULTS)
    printed = fingerprint(query)
    if printed is None or printed.values != (some,):
        return None
    return Template(query, printed.shape, type_of_value, field, _facts_of(model, field))


def _facts_of(model: Any, field: Any) -> tuple[Any, ...]:
    """Return what projects change while they run, and nobody is told of."""
    return tables_of(model), model._meta.concrete_fields, field.get_lookup("exact")


def _compiler_of(template: Template, value: Any, db_alias: str) -> Any:
    """Return a compiler that gives the rows of ``value``; None if the query is not known."""
    connection = connections[db_alias]
    ready = state_of(connection).ready
    if ready is None:
        return None
    compiler = template.query.get_compiler(connection=connection)
    recalled = known.find(compiler, ready.origin, template.shape, (value,))
    if recalled.known is None:
        return None
    compiler.using = db_alias
    compiler.cachalot_recalled = recalled

    def as_sql(*args: Any, **kwargs: Any) -> Any:
        """Compile the query as it would be, for whoever does not recall it."""
        compiler.query = query = template.query.clone()
        (lookup,) = query.where.children
        query.where.children = [type(lookup)(lookup.lhs, value)]
        del compiler.as_sql
        return compiler.as_sql(*args, **kwargs)

    compiler.as_sql = as_sql
    return compiler


class _Compiled:
    """A queryset to ``ModelIterable``, whose query has been compiled."""

    def __init__(self, queryset: Any, compiler: Any) -> None:
        self.model = queryset.model
        self.db = compiler.using
        self.query = self
        self._compiler = compiler
        self._known_related_objects: dict[Any, Any] = {}
        self._fetch_mode = getattr(queryset, "_fetch_mode", None)  # Django 6.1

    def get_compiler(self, using: str) -> Any:
        return self._compiler


forget_on_change(_templates.clear)
