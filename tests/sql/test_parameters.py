"""Parameters never collide across type or value, and equal ones are equal in every process."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import ipaddress
import itertools
import json
import math
import os
import subprocess
import sys
import uuid
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.functional import lazystr
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from cachalot.core.outcomes import UncachableQuery
from cachalot.core.sql.parameters import encode

UTC = datetime.timezone.utc
PARIS = ZoneInfo("Europe/Paris")
Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = "1"


class Number(enum.IntEnum):
    ONE = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Label(models.TextChoices):
    ONE = "1"
    TWO = "2"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "always the same"

    __repr__ = __str__


def values() -> list[Any]:
    """Values that a driver sends differently, or of which nobody knows whether it does."""
    moment = datetime.datetime(2020, 10, 25, 2, 30)
    code = uuid.UUID("9b4d0a4a-2c5e-4a0e-b5de-6b1c4a8d9a00")
    return [
        *(None, "None", b"None"),
        *(1, "1", True, 1.0, decimal.Decimal(1), b"1", Number.ONE, Label.ONE, SafeString("1")),
        *(0, "0", False, 0.0, -0.0, decimal.Decimal(0), decimal.Decimal("-0"), "", b""),
        *(decimal.Decimal("1.0"), decimal.Decimal("1.00"), decimal.Decimal("1E+1")),
        *(math.inf, -math.inf, math.nan, decimal.Decimal("NaN"), decimal.Decimal("Infinity")),
        *(2**63, 2**63 + 1, float(2**63), 1e16, 1e16 + 2),
        *("True", "1.0", "Decimal('1')", "b'1'", "(1,)", "[1]", "'1'", "é", "e\u0301", "\udc80"),
        *("a\x00", "a", "a ", "A", "x" * 10_000, "x" * 10_001),
        *(b"x" * 10_000, b"x" * 9_999 + b"y", bytearray(b"1"), bytearray(b"2")),
        *(memoryview(b"1"), memoryview(b"2"), memoryview(b"x" * 99 + b"y")),
        *(Text("a"), Text("b"), Label.TWO, Colour.RED, Colour.BLUE),
        *(Access.READ, Access.WRITE, Access.READ | Access.WRITE),
        *(code, str(code), code.hex, code.bytes, code.int),
        *(ipaddress.ip_address("1.2.3.4"), ipaddress.ip_address("::1"), "::1", "1.2.3.4"),
        ipaddress.ip_address("::1.2.3.4"),
        *(ipaddress.ip_network("1.2.3.0/24"), ipaddress.ip_network("1.2.3.0/25")),
        *(ipaddress.ip_interface("1.2.3.0/24"), ipaddress.ip_interface("::1/64")),
        *(datetime.timedelta(days=1), datetime.timedelta(seconds=1), datetime.timedelta(0, 0, 1)),
        *(datetime.timedelta(days=-1), datetime.timedelta(hours=23)),
        *(moment, moment.replace(microsecond=1), moment.isoformat(), str(moment)),
        *(moment.replace(tzinfo=UTC), moment.replace(tzinfo=PARIS)),
        moment.replace(tzinfo=PARIS, fold=1),
        moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=3))),
        *(moment.date(), moment.date().isoformat(), moment.time(), moment.time().isoformat()),
        *(datetime.time(2, 30, tzinfo=UTC), datetime.time(2, 30, tzinfo=PARIS)),
        *([], (), {}, [1], [1, 2], ["1, 2"], ["1", "2"], [[1], 2], [[1, 2]], [1, [2]], [None]),
        *([[], []], [[[]]], ["a", "b"], ["a', 'b"], Point(1, 2), (1, 2)),
        *({"a": 1}, {"a": "1"}, {"a": [1]}, {"a": {"b": 1}}, {"a": 1, "b": 1}, {"1": 1}, {1: 1}),
    ]


def test_members_of_one_value_have_names() -> None:
    """psycopg sends the name, and classes of one name may give it another value."""
    for kind in (enum.Enum, enum.IntEnum, enum.Flag):
        one, other = kind("Status", {"OPEN": 1}), kind("Status", {"SHUT": 1})  # type: ignore[call-overload]
        assert encode([one(1)]) != encode([other(1)])
        assert encode([one(1)]) == encode([kind("Status", {"OPEN": 1})(1)])  # type: ignore[call-overload]


def test_no_two_values_collide() -> None:
    for wrap in (lambda v: [v], lambda v: [v, Point(0, 0)], lambda v: [[v]], lambda v: {"k": v}):
        encoded: dict[bytes, Any] = {}
        for value in values():
            content = encode(wrap(value))
            assert content not in encoded, (value, encoded[content])
            encoded[content] = value


def test_neighbours_do_not_run_together() -> None:
    some = ["a", "ab", "b", "", b"", 1, 11, SafeString("a"), SafeString("ab"), [], ["a"], (), None]
    encoded: dict[bytes, Any] = {}
    for length in range(4):
        for params in itertools.product(some, repeat=length):
            content = encode(params)
            assert content not in encoded, (params, encoded[content])
            encoded[content] = params


def test_equal_values_are_equal() -> None:
    for first, second in zip(values(), values(), strict=True):
        assert encode([first]) == encode([second])
        assert encode([first]) == encode((second,))


def test_one_time_of_one_zone_is_one() -> None:
    class Other(datetime.tzinfo):
        def utcoffset(self, moment: object) -> datetime.timedelta:
            return datetime.timedelta(0)

    # The driver sends wall time and offset, not the name of the zone.
    moment = datetime.datetime(2020, 2, 29, tzinfo=UTC)
    assert encode([moment]) == encode([moment.replace(tzinfo=Other())])
    assert encode([moment]) == encode([moment.replace(tzinfo=ZoneInfo("UTC"))])


def test_lazy_texts() -> None:
    for lazy in (lazystr, gettext_lazy):
        assert encode([lazy("a")]) == encode([lazy("a")]) != encode([lazy("b")])


class Account:
    def __str__(self) -> str:
        return "1"

    __repr__ = __str__


class Money(decimal.Decimal):
    """An adapter may send the currency as well."""


def in_francs() -> Money:
    money = Money(1)
    money.currency = "CHF"
    return money


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    "value",
    [
        Account(),
        Account,
        object(),
        len,
        {1, 2},
        frozenset({1}),
        1j,
        iter([]),
        in_francs(),
        range(3),
    ],
    ids=repr,
)
def test_what_is_unknown_is_not_cached(value: object) -> None:
    for params in ([value], [1, [value]], {"a": value}, (Point(1, value),)):
        with pytest.raises(UncachableQuery):
            encode(params)


def test_the_refusal_names_the_type() -> None:
    with pytest.raises(UncachableQuery, match=r"unknown type tests\.sql\.test_parameters\.Account"):
        encode([Account()])


def test_an_integer_that_python_does_not_write_is_not_cached() -> None:
    for params in ([10**5000], [10**5000, SafeString("a")]):
        with pytest.raises(UncachableQuery, match="cannot be written"):
            encode(params)


# Whatever two lists of parameters are, they are encoded alike only if they are alike.

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.ip_addresses()
    | st.builds(SafeString, st.text())
)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parameters = st.lists(nested, max_size=4)


def shape(value: Any) -> Any:
    """Return what must be equal of two values for them to be sent alike."""
    if isinstance(value, list):
        return ["list", *map(shape, value)]
    if isinstance(value, dict):
        return ["dict", *(shape(part) for item in value.items() for part in item)]
    if isinstance(value, datetime.datetime):
        return ["datetime", value.replace(tzinfo=None).isoformat(), value.utcoffset(), value.fold]
    return [type(value), str(value) if isinstance(value, (float, decimal.Decimal)) else value]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(parameters, parameters)
def test_equal_bytes_mean_equal_parameters(one: list[Any], other: list[Any]) -> None:
    assert (encode(one) == encode(other)) == (shape(one) == shape(other))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(parameters, st.data())
def test_a_change_anywhere_changes_the_bytes(params: list[Any], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(params)))
    assert encode([*params[:position], "new", *params[position:]]) != encode(params)


def test_bytes_are_the_same_in_another_process() -> None:
    program = (
        "import hashlib\n"
        "from tests.sql.test_parameters import encode, values\n"
        "print(hashlib.sha256(b''.join(encode([v]) for v in values())).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


# Adapters of the drivers. Each list holds values that are sent differently.


def json_values(wrap: Any) -> list[Any]:
    return [
        *(wrap(None), wrap(1), wrap("1"), wrap(True), wrap(1.0), wrap([1]), wrap({"a": 1})),
        *(wrap({"a": None}), wrap({"a": "1"}), wrap({"a": True}), wrap("x" * 100)),
        *(wrap({"a": "x" * 100 + end}) for end in ("", "y", "z")),
    ]


def psycopg3_values() -> list[Any]:
    psycopg = pytest.importorskip("psycopg")
    from psycopg.types.json import Json, Jsonb
    from psycopg.types.multirange import Multirange
    from psycopg.types.numeric import Int2, Int4, Int8
    from psycopg.types.range import Range

    return [
        *json_values(Json),
        *json_values(Jsonb),
        Jsonb({"at": datetime.date(2020, 1, 1)}, dumps=partial(json.dumps, cls=DjangoJSONEncoder)),
        *(psycopg.Binary(b"x" * 100 + end) for end in (b"", b"y", b"z")),
        psycopg.Binary(memoryview(b"1")),
        *(Range(1, 2), Range(1, 3), Range("1", "2"), Range(1, 2, "[]"), Range(None, 2)),
        *(Range(1, None), Range(None, None), Range(empty=True)),
        *(Range(datetime.date(2020, 1, 1), datetime.date(2020, 1, day)) for day in (2, 3)),
        *(Multirange([]), Multirange([Range(1, 2)]), Multirange([Range(1, 2), Range(3, 4)])),
        *([Range(1, 2)], [Range(1, 2), Range(3, 4)], [Jsonb(1)], [Jsonb("1")]),
        *(Int2(1), Int4(1), Int8(1), Int8(2)),
    ]


def psycopg2_values() -> list[Any]:
    psycopg2 = pytest.importorskip("psycopg2")
    from psycopg2 import extras
    from psycopg2.extensions import Binary

    assert psycopg2.Binary is Binary
    return [
        *json_values(extras.Json),
        extras.Json({"a": datetime.date(2020, 1, 1)}, dumps=lambda obj: str(obj)),
        *(Binary(b"x" * 100 + end) for end in (b"", b"y", b"z")),
        Binary(memoryview(b"1")),
        *(extras.NumericRange(1, 2), extras.NumericRange(1, 3), extras.NumericRange(1, 2, "[]")),
        *(extras.NumericRange(None, 2), extras.NumericRange(empty=True)),
        *(extras.NumericRange("1", "2"), extras.NumericRange()),
        extras.DateRange(datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
        extras.DateTimeTZRange(datetime.datetime(2020, 1, 1, tzinfo=UTC), None),
        *(extras.Inet("1.2.3.4"), extras.Inet("1.2.3.5"), [extras.Inet("1.2.3.4")]),
    ]


@pytest.mark.parametrize("driver_values", [psycopg3_values, psycopg2_values])
def test_adapters_are_encoded_by_what_they_wrap(driver_values: Any) -> None:
    encoded: dict[bytes, Any] = {}
    for value, same in zip(driver_values(), driver_values(), strict=True):
        content = encode([value])
        assert content == encode([same])
        assert content not in encoded, (value, encoded[content])
        encoded[content] = value


def test_adapters_that_wrap_something_unknown_are_not_cached() -> None:
    psycopg = pytest.importorskip("psycopg")
    from psycopg.types.json import Jsonb
    from psycopg.types.range import Range

    for value in (Jsonb(object()), Range(object(), None), psycopg.Binary(object())):
        with pytest.raises(UncachableQuery):
            encode([value])
    psycopg2 = pytest.importorskip("psycopg2")
    from psycopg2.extensions import AsIs
    from psycopg2.extras import Json

    assert psycopg2 is not None
    for value in (AsIs("now()"), Json(object())):
        with pytest.raises(UncachableQuery):
            encode([value])
