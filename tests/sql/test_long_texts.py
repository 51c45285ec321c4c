"""A long text costs in proportion to its length, in time and in memory."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from itertools import product
from unittest import mock

import pytest

from cachalot.core import sql
from cachalot.core.sql import remembered
from cachalot.core.sql.kinds import Kind
from cachalot.core.sql.names import canonical
from cachalot.core.sql.remembered import Remembered, remembering
from cachalot.core.sql.statements import classify
from cachalot.core.sql.text import codes_of, names_after_keywords, words_of
from tests.sql.steps import Counter

#: What texts are made of by repetition: words, blanks, whatever opens and closes something, and the
#: beginnings of what the expressions look for.
PIECES = (
    *("a", "1", "a.", "a ", "a, ", "a b, ", " ", "\n", "1 ", "-1 ", "a/b ", "x$", "_"),
    *("'", "''", "'a' ", "\\", "\\'", "E'", '"', '""', '"a".', "`", "``", "[", "[a]", "]"),
    *("(", "(a", ")", "()", "a(", "('a', 1), ", "$", "$a", "$a$ ", "%s, ", "@a", ":="),
    *("/*", "/* ", "*/", "--", "--\n", "FROM ", "FROM (", "FROM a, ", "UPDATE a, ", "FOR "),
    *("SET a = 1, ", "now ", "1 utc ", "set_config('a', 'b', true), ", 'u&"', "date( ", "\n\t"),
)
PREFIXES = ("", "FROM ", "SET x = ", "now ")
#: What is never searched for, only matched from a place that is known.
MATCHED = frozenset(
    {
        "settings._MYSQL_SET",
        "settings._MYSQL_VARIABLE",
        "settings._MYSQL_PHRASE",
        "settings._POSTGRESQL_SET",
        "settings._NO_SETTERS",
        "statements._DEFINITION",
        "text._LIST_TOKEN",
        "clock_words._PART",
    }
)
#: What every text ends with that an expression is given.
ENDS = {"text._COMMENTS": "*/"}


def patterns_in(name: str, value: object) -> Iterator[tuple[str, re.Pattern[str]]]:
    if isinstance(value, re.Pattern):
        yield name, value
    elif isinstance(value, dict) and name.count(".") == 1:
        for key, member in value.items():
            yield from patterns_in(f"{name}[{key}]", member)
    elif hasattr(value, "tokens_and_rows"):
        yield f"{name}.tokens", value.tokens
        yield f"{name}.tokens_and_rows", value.tokens_and_rows


PATTERNS = {
    name: pattern
    for module in pkgutil.iter_modules(sql.__path__)
    for attribute, value in vars(importlib.import_module(f"{sql.__name__}.{module.name}")).items()
    for name, pattern in patterns_in(f"{module.name}.{attribute}", value)
}


@pytest.fixture
def deep_recursion() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("deep_recursion")
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_an_expression_takes_steps_in_proportion(name: str) -> None:
    counter = Counter(PATTERNS[name], limit=100_000)
    for prefix, piece, is_search in product(PREFIXES, PIECES, {False, name not in MATCHED}):
        few, many = (
            counter.count(f"{prefix}{piece * times}{ENDS.get(name, '!')}", whole=not is_search)
            for times in (5, 20)
        )
        told = f"{name} on {prefix!r} and many of {piece!r}: {few}, then {many} steps"
        # Four times as long; the square would be sixteen times as much.
        assert few is not None, told
        assert many is not None, told
        assert many <= 8 * few + 100, told


def test_the_count_tells_the_square() -> None:
    """The search for a word before a parenthesis, from each letter of the word again."""
    counter = Counter(re.compile(r"[\w$]+\("), limit=10_000)
    found = [counter.count("a" * length, whole=False) for length in (10, 40)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[1] > 12 * found[0]


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
def test_what_is_listed_is_left_out(vendor: str) -> None:
    rows = ", ".join(f"({number}, 'it''s; DELETE FROM author', -1.5, NULL)" for number in range(9))
    text = f"INSERT INTO book (a, b) VALUES {rows} ON CONFLICT (a) DO NOTHING"
    (code,) = codes_of(text, vendor, without_rows=True)
    assert code == "INSERT INTO book (a, b) VALUES () ON CONFLICT (a) DO NOTHING"


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO book VALUES (1, f('a')), (2, g(3))",
        "INSERT INTO book VALUES (1 --'\n, '2'), (3, 'DELETE') -- '",
        "INSERT INTO book VALUES ('( '), (1); DELETE FROM author; SELECT ('), (')",
        "SELECT a /* (1, 2), (' */ FROM book WHERE x IN (1, 2) AND y = ')'",
        "INSERT INTO book VALUES (1, '\\'), (2, '), (3, ')",
    ],
)
def test_nothing_else_is_left_out(vendor: str, text: str) -> None:
    for with_rows, without in zip(
        codes_of(text, vendor), codes_of(text, vendor, without_rows=True), strict=False
    ):
        words = set(re.findall("[a-zA-Z]+", with_rows))
        assert set(re.findall("[a-zA-Z]+", without)) == words


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
def test_a_long_insert_writes_what_it_names(vendor: str) -> None:
    rows = ", ".join(["(1, 'author', f(2))"] * 2000)
    statement = classify(
        f"INSERT INTO book SELECT * FROM shelf; INSERT INTO x VALUES {rows}", vendor
    )
    assert statement.kind is Kind.WRITE
    assert {"book", "shelf", "x"} <= statement.tables
    assert "author" not in statement.words


def test_a_long_definition_keeps_every_word() -> None:
    body = "PERFORM 1; " * 2000 + "EXECUTE 'DELETE FROM author'"
    statement = classify(f"CREATE FUNCTION f() RETURNS void AS $$ {body} $$", "postgresql")
    assert statement.kind is Kind.SCHEMA
    assert "author" in statement.words


def test_a_long_name_is_cut_as_the_server_cuts_it() -> None:
    name = "a_table_with_a_name_that_is_longer_than_sixty_three_bytes_in_the_model"
    assert canonical(name) == canonical(name[:63]) == name[:63]
    assert canonical(f'public."{name.title()}"') == name[:63]
    assert canonical("é" * 40) == "é" * 31
    assert names_after_keywords(f"SELECT * FROM {name}") == {name[:63]}
    assert name[:63] in words_of(f"UPDATE {name} SET x = 1")


def test_what_is_remembered_has_a_bound_in_bytes() -> None:
    memo: Remembered[str, int] = Remembered()
    with mock.patch.object(remembered, "MAX_BYTES", 50_000):
        for number in range(100):
            memo.remember(f"{number}{'x' * 10_000}", number, "x" * 10_000)
            assert sum(map(len, memo)) <= 50_000
        assert 99 in memo.values()
        memo.remember("long", 0, "x" * 60_000)
        assert "long" not in memo
        for number in range(1_000):
            memo.remember(str(number), number, "")
        assert len(memo) <= 50


def test_a_text_is_looked_at_once_unless_it_is_long() -> None:
    looked_at = []

    def look_at(text: str, vendor: str) -> int:
        looked_at.append(text)
        return len(text)

    look = remembering(look_at, max_characters=10, copies=1)
    for text in ("short", "short", "x" * 11, "x" * 11):
        assert look(text, "sqlite") == len(text)
    assert looked_at == ["short", "x" * 11, "x" * 11]
