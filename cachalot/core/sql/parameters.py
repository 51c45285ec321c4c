"""Query parameters as bytes: equal bytes mean equal type and value, in every process."""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from django.utils.functional import Promise

from cachalot.core.outcomes import UncachableQuery

# repr() of these, and of tuples and lists of them, is exact: it gives type and value.
_EXACT = frozenset({int, str, bool, type(None), float, bytes, decimal.Decimal, uuid.UUID})


def encode(params: object) -> bytes:
    """Return ``params`` with the type of every part.

    Raise ``UncachableQuery`` for a type whose value cannot be told from outside.
    """
    try:
        if isinstance(params, (tuple, list)) and _EXACT.issuperset(map(type, params)):
            return repr(tuple(params)).encode("utf-8", "surrogatepass")
        # How the parameters are held says nothing.
        return b"".join(_parts(tuple(params) if type(params) is list else params))
    except ValueError as error:
        # Python writes no integer of thousands of digits (sys.set_int_max_str_digits()).
        raise UncachableQuery(f"has a parameter that cannot be written: {error}") from error


def _sized(tag: str, content: bytes) -> bytes:
    return b"%s:%d:%s" % (tag.encode(), len(content), content)


def _parts(value: object) -> Iterable[bytes]:
    kind = type(value)
    if kind in _EXACT:
        yield _sized("=", repr(value).encode("utf-8", "surrogatepass"))
    elif kind is tuple or kind is list:
        yield _sequence(kind.__name__, value)  # type: ignore[arg-type]
    elif kind is dict:
        yield _sequence("dict", [part for item in value.items() for part in item])  # type: ignore[attr-defined]
    else:
        yield _encode_other(value)


def _sequence(tag: str, values: Iterable[object]) -> bytes:
    return _sized(tag, b"".join(part for value in values for part in _parts(value)))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _encode_other(value: object) -> bytes:
    if isinstance(value, enum.Enum):
        return _sized(_type_name(value), _member(value))
    # The most derived class known comes first: subclasses keep their own name in the tag, so
    # they never meet the plain value.
    for cls in type(value).__mro__:
        encoder = _ENCODERS.get(cls)
        if encoder is None:
            encoder = _ENCODERS_BY_NAME.get(f"{cls.__module__}.{cls.__qualname__}")
        elif cls is not type(value) and _has_state_of_its_own(value):
            break
        if encoder is not None:
            return _sized(_type_name(value), encoder(value))
    if isinstance(value, Promise):
        return _sized("lazy", b"".join(_parts(str(value))))
    raise UncachableQuery(f"has a parameter of the unknown type {_type_name(value)}")


def _has_state_of_its_own(value: object) -> bool:
    """Whether an instance of a subclass has attributes, which an adapter may send instead."""
    return bool(getattr(value, "__dict__", None))


def _moment(value: Any) -> bytes:
    # What a driver sends is the wall time and the offset, not the zone's name; fold decides
    # between two offsets, which utcoffset() has already done.
    # A time in a zone without a date has no offset, and yet is no naive one.
    offset = value.utcoffset()
    wall_time = value.replace(tzinfo=None).isoformat()
    return f"{wall_time} {offset!r} {value.tzinfo is None} {value.fold}".encode()


def _contents(*attributes: str) -> Callable[[Any], bytes]:
    """Encode an adapter by what it wraps. An attribute that is missing makes it unknown."""

    def encode_attributes(value: Any) -> bytes:
        try:
            return _sequence("tuple", [getattr(value, attribute) for attribute in attributes])
        except AttributeError as error:
            raise UncachableQuery(
                f"has a parameter of the unknown type {_type_name(value)}"
            ) from error

    return encode_attributes


def _json(dumps: Callable[[Any], str | bytes], value: Any) -> bytes:
    try:
        text = dumps(value)
    except TypeError as error:
        raise UncachableQuery("has a parameter that cannot be written as JSON") from error
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _psycopg_json(value: Any) -> bytes:
    # psycopg.types.json: ``obj`` and the function that will turn it into text, or None.
    return _json(value.dumps or json.dumps, value.obj)


def _psycopg2_json(value: Any) -> bytes:
    # psycopg2.extras.Json: the method calls the function given or json.dumps.
    return _json(value.dumps, value.adapted)


def _member(value: enum.Enum) -> bytes:
    # psycopg sends the name, others the value; of two classes that are called the same, members of
    # one value may have different names. A combination of flags has none.
    return b"".join(_parts((value.name, value.value)))


def _bytes_of(value: Any) -> bytes:
    return bytes(memoryview(value))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"1" if value else b"0",
    int: lambda value: int.__repr__(value).encode(),
    float: lambda value: float.__repr__(value).encode(),
    str: lambda value: str.__str__(value).encode("utf-8", "surrogatepass"),
    bytes: bytes,
    bytearray: bytes,
    memoryview: _bytes_of,
    decimal.Decimal: lambda value: decimal.Decimal.__str__(value).encode(),
    uuid.UUID: lambda value: value.bytes,
    datetime.datetime: _moment,
    datetime.time: _moment,
    datetime.date: lambda value: value.isoformat().encode(),
    datetime.timedelta: lambda value: f"{value.days} {value.seconds} {value.microseconds}".encode(),
    tuple: lambda value: _sequence("tuple", tuple.__iter__(value)),
    list: lambda value: _sequence("list", list.__iter__(value)),
    dict: lambda value: _sequence("dict", [part for item in dict.items(value) for part in item]),
    ipaddress.IPv4Address: lambda value: value.packed,
    ipaddress.IPv6Address: lambda value: str(value).encode(),
    ipaddress.IPv4Network: lambda value: str(value).encode(),
    ipaddress.IPv6Network: lambda value: str(value).encode(),
    ipaddress.IPv4Interface: lambda value: str(value).encode(),
    ipaddress.IPv6Interface: lambda value: str(value).encode(),
}

# Adapters of the drivers, by name: none of them is imported here.
_ENCODERS_BY_NAME: dict[str, Callable[[Any], bytes]] = {
    "psycopg.types.json._JsonWrapper": _psycopg_json,
    "psycopg.types.range.Range": _contents("_lower", "_upper", "_bounds"),
    "psycopg.types.multirange.Multirange": lambda value: _sequence("list", list(value)),
    "psycopg.dbapi20.Binary": _contents("obj"),
    "psycopg2._json.Json": _psycopg2_json,
    "psycopg2._range.Range": _contents("_lower", "_upper", "_bounds"),
    "psycopg2.extras.Inet": _contents("addr"),
    "psycopg2.extensions.Binary": _contents("adapted"),
    "django.contrib.gis.db.backends.postgis.adapter.PostGISAdapter": _contents(
        "ewkb", "srid", "geography", "is_geometry"
    ),
    "django.contrib.gis.db.backends.base.adapter.WKTAdapter": _contents("wkt", "srid"),
}
