"""A query whose result depends on more than its tables is refused, and no other one."""

from __future__ import annotations

import datetime
import enum

import pytest
from django.db import connection, transaction
from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Count,
    DateField,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import (
    MD5,
    Cast,
    Coalesce,
    Concat,
    ExtractIsoYear,
    ExtractWeek,
    ExtractYear,
    Greatest,
    Lag,
    Left,
    Length,
    Lower,
    Now,
    Random,
    Rank,
    Replace,
    Round,
    StrIndex,
    Substr,
    Trim,
    TruncDate,
    TruncHour,
    TruncMonth,
    TruncTime,
)
from django.test import SimpleTestCase, override_settings
from django.utils.translation import gettext_lazy

from cachalot.core.sql.clock_words import means_now
from cachalot.core.sql.volatility import volatility_of
from cachalot.utils import UncachableQuery, _get_tables
from tests.library.models import Author, Book, OddlyNamed
from tests.support import CacheTestCase

ALL = ("sqlite", "postgresql", "mysql")
SQLITE, POSTGRESQL, MYSQL = ("sqlite",), ("postgresql",), ("mysql",)


class _Range:
    """As psycopg's, of which a database of another vendor knows nothing."""

    lower_inc = True

    def __init__(self, lower: object, upper: object) -> None:
        self.lower = lower
        self.upper = upper


class _Named(enum.Enum):
    now = 1
    then = 2


class _Valued(enum.Enum):
    DAY = "today"


def for_each_vendor(*rows: tuple) -> list:
    return [
        pytest.param(vendor, *rest, id=f"{vendor}: {rest[0][:60]!r}")
        for vendors, *rest in rows
        for vendor in vendors
    ]


@pytest.mark.parametrize(
    ("vendor", "sql", "reason"),
    for_each_vendor(
        (ALL, "SELECT CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        (ALL, "SELECT * FROM t WHERE x > current_date", "CURRENT_DATE"),
        (ALL, "SELECT CURRENT_TIME(3)", "CURRENT_TIME"),
        (ALL, "SELECT * FROM t FOR UPDATE", "locks rows"),
        (POSTGRESQL, "SELECT localtimestamp", "LOCALTIMESTAMP"),
        (POSTGRESQL, "SELECT now()", "now()"),
        (POSTGRESQL, "SELECT NOW ( )", "now()"),
        (POSTGRESQL, "SELECT pg_catalog.now()", "now()"),
        (POSTGRESQL, "SELECT clock_timestamp(), 1", "clock_timestamp()"),
        (POSTGRESQL, "SELECT date_trunc('day', transaction_timestamp())", "transaction_timestamp"),
        (POSTGRESQL, "SELECT age(x) FROM t", "age()"),
        (POSTGRESQL, "SELECT nextval('s')", "nextval()"),
        (POSTGRESQL, "SELECT gen_random_uuid()", "gen_random_uuid()"),
        (POSTGRESQL, "SELECT uuidv7()", "uuidv7()"),
        (POSTGRESQL, "SELECT array_shuffle(x) FROM t", "array_shuffle()"),
        (POSTGRESQL, "SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE"),
        (POSTGRESQL, "SELECT current_setting('a.b')", "current_setting()"),
        (POSTGRESQL, "SELECT ARRAY[current_user]", "CURRENT_USER"),
        (POSTGRESQL, "SELECT pg_try_advisory_lock(1)", "pg_try_advisory_lock"),
        (POSTGRESQL, "SELECT pg_advisory_xact_lock(1)", "pg_advisory_xact_lock"),
        (POSTGRESQL, "SELECT pg_sleep(1)", "pg_sleep"),
        (POSTGRESQL, 'SELECT * FROM "pg_stat_activity"', "pg_stat_activity"),
        (POSTGRESQL, "SELECT * FROM information_schema.tables", "information_schema"),
        (POSTGRESQL, "SELECT * FROM t FOR NO KEY UPDATE", "locks rows"),
        (POSTGRESQL, "SELECT * FROM t FOR SHARE", "locks rows"),
        (POSTGRESQL, "SELECT * FROM t FOR KEY SHARE", "locks rows"),
        (POSTGRESQL, "SELECT * FROM t WHERE x > 'today'", "current time"),
        (POSTGRESQL, "SELECT 'Yesterday 10:00'::timestamp", "current time"),
        (POSTGRESQL, "SELECT timestamp '04:05 today'", "current time"),
        (POSTGRESQL, "SELECT $$now$$::timestamp", "current time"),
        (POSTGRESQL, "SELECT '[,now]'::tstzrange", "current time"),
        (POSTGRESQL, "SELECT '[\"yesterday 10:00\",)'::tsrange", "current time"),
        (POSTGRESQL, "SELECT '{2020-01-01, Today}'::date[]", "current time"),
        (POSTGRESQL, "SELECT '{[2020-01-01,now)}'::tstzmultirange", "current time"),
        (POSTGRESQL, "SELECT $x$(1,now)$x$::event", "current time"),
        (POSTGRESQL, "SELECT 'today PST'::timestamptz", "current time"),
        (SQLITE, "SELECT date('now')", "current time"),
        (SQLITE, "SELECT strftime('%Y', 'NOW')", "current time"),
        (SQLITE, "SELECT datetime('now', '-1 day')", "current time"),
        (SQLITE, "SELECT unixepoch('subsec')", "current time"),
        (SQLITE, "SELECT date()", "reads the clock"),
        (SQLITE, "SELECT julianday( )", "reads the clock"),
        (SQLITE, "SELECT strftime('%s')", "reads the clock"),
        (SQLITE, "SELECT strftime(%s)", "reads the clock"),
        (SQLITE, 'SELECT date("now")', "reads the clock"),
        (SQLITE, "SELECT last_insert_rowid()", "last_insert_rowid()"),
        (SQLITE, "SELECT hex(randomblob(16))", "randomblob()"),
        (SQLITE, "SELECT name FROM sqlite_master", "sqlite_master"),
        (MYSQL, "SELECT SYSDATE()", "sysdate()"),
        (MYSQL, "SELECT UTC_DATE", "UTC_DATE"),
        (MYSQL, "SELECT UNIX_TIMESTAMP()", "unix_timestamp()"),
        (MYSQL, "SELECT UUID()", "uuid()"),
        (MYSQL, "SELECT GET_LOCK('a', 1)", "get_lock()"),
        (MYSQL, "SELECT CONNECTION_ID()", "connection_id()"),
        (MYSQL, "SELECT LAST_INSERT_ID()", "last_insert_id()"),
        (MYSQL, "SELECT NEXT VALUE FOR s", "sequence"),
        (MYSQL, "SELECT * FROM t WHERE tenant = @tenant", "session variable"),
        (MYSQL, "SELECT @@sql_mode", "session variable"),
        (MYSQL, "SELECT @`odd name`", "session variable"),
        (MYSQL, "SELECT * FROM t LOCK IN SHARE MODE", "locks rows"),
        (MYSQL, "SELECT * FROM information_schema.tables", "information_schema"),
        (MYSQL, "SELECT 5--CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
    ),
)
def test_it_is_refused(vendor: str, sql: str, reason: str) -> None:
    refusal = volatility_of(sql, vendor).reason
    assert refusal is not None
    assert reason in refusal


_COLUMNS = "now user date time random rand uuid current_user localtime age sleep changes".split()


@pytest.mark.parametrize("column", _COLUMNS)
@pytest.mark.parametrize("vendor", ALL)
def test_a_column_of_such_a_name_is_not(vendor: str, column: str) -> None:
    quoted = f"`{column}`" if vendor == "mysql" else f'"{column}"'
    table = "`t`" if vendor == "mysql" else '"t"'
    volatility = volatility_of(
        f"SELECT {table}.{quoted}, COUNT({table}.{quoted}) AS {quoted} FROM {table} "
        f"WHERE ({table}.{quoted} IN (%s, %s) AND {table}.{quoted} = (SELECT 1)) "
        f"ORDER BY {quoted}",
        vendor,
    )
    assert volatility.reason is None
    assert not volatility.is_random


@pytest.mark.parametrize(
    ("vendor", "sql"),
    for_each_vendor(
        (ALL, "SELECT 'CURRENT_TIMESTAMP'"),
        (ALL, "SELECT 1 -- now()"),
        (ALL, "SELECT 'nowhere', 'today''s news' /* CURRENT_DATE */"),
        (ALL, "SELECT date(x), time(x) FROM t"),
        (ALL, "SELECT known(x), snow(y), username, current_users FROM t"),
        (ALL, "SELECT * FROM t FOR_UPDATE"),
        (POSTGRESQL, "SELECT x @> y, x <@ y, x @@ to_tsquery('z') FROM t"),
        (POSTGRESQL, "SELECT (x)::date, x AT TIME ZONE 'UTC' FROM t"),
        (POSTGRESQL, "SELECT * FROM t WHERE title = 'now and then'"),
        (POSTGRESQL, "SELECT 'then', '[,2020-01-01]'::tstzrange, now FROM t"),
        (POSTGRESQL, "SELECT '[snow,)', '{nowhere}' FROM t"),
        (SQLITE, "SELECT date('2020-02-29')"),
        (SQLITE, "SELECT strftime('%Y', x), date(x, '+1 day') FROM t"),
        (SQLITE, "SELECT 'today'"),
        (MYSQL, "SELECT 'me@example.com', \"me@example.com\", `a@b` FROM t"),
        (MYSQL, "SELECT 'now'"),
    ),
)
def test_what_only_looks_like_it_is_not(vendor: str, sql: str) -> None:
    assert volatility_of(sql, vendor).reason is None


@pytest.mark.parametrize("function", ["RANDOM()", "rand ()", "Random(1, 10)"])
def test_chance_is_told_apart(function: str) -> None:
    for vendor in ALL:
        volatility = volatility_of(f"SELECT * FROM t ORDER BY {function}", vendor)
        assert volatility.reason is None
        assert volatility.is_random


@pytest.mark.parametrize(
    "param",
    [
        *("now", " NOW ", "today", "tomorrow 10:00", "04:05 yesterday", "today 9:00 UTC", "now Z"),
        *("10:00today", "today Europe/Paris", "[,now]", '{"now"}', " [today, infinity)"),
        *('("n\\ow",)', "(1,today)", "{{2020-01-01},{NOW}}"),
        *(["now"], ("x", ["today"]), [[1, "now"]], _Range(None, "now"), _Range("today", None)),
        *([_Range(1, "now")], gettext_lazy("today"), _Named.now, _Valued.DAY, {"now"}),
    ],
)
def test_a_parameter_may_mean_the_current_time(param: object) -> None:
    assert means_now(param)


@pytest.mark.parametrize(
    "param",
    [
        *("", "know", "now and then", "nowhere", "today's special", "Today News", 1, None, b"now"),
        *("[draft] know", "{}", "[1, 2]", ["know", 1, None], (), _Range(1, 2), _Range("a", "b")),
        *(_Named.then, {"now": 1}, datetime.date(2020, 1, 1)),
    ],
)
def test_other_parameters_do_not(param: object) -> None:
    assert not means_now(param)


def test_a_text_of_the_user_is_read_in_one_pass() -> None:
    """Which of two readings fits a part would be tried for all of them: 2 to the 400th."""
    assert not means_now("now" + " 1 utc" * 400 + "!")
    assert means_now("now" + " 1 utc" * 400)


def test_where_parameters_may_mean_the_current_time() -> None:
    assert volatility_of("SELECT date(%s)", "sqlite").reads_clock_words
    assert not volatility_of("SELECT * FROM t WHERE x = %s", "sqlite").reads_clock_words
    # The type of what it is compared with decides, and no text tells it.
    assert volatility_of("SELECT * FROM t WHERE x > %s", "postgresql").reads_clock_words
    assert not volatility_of("SELECT * FROM t WHERE x > %s", "mysql").reads_clock_words


class DjangoFunctionTests(CacheTestCase):
    """What Django compiles for the database of this run."""

    def assertRefused(self, queryset, reason: str = "") -> None:
        with self.assertRaises(UncachableQuery) as caught:
            _get_tables("default", queryset.query)
        self.assertIn(reason, str(caught.exception))
        self.assertNeverCached(lambda: list(queryset.all()))

    def test_the_clock_is_refused(self) -> None:
        books = Book.objects.values_list("pk")
        self.assertRefused(books.filter(published__lt=Now()))
        self.assertRefused(books.annotate(at=Now()).values_list("at"))
        self.assertRefused(books.annotate(day=TruncDate(Now())).values_list("day"))
        self.assertRefused(books.order_by(Now()))
        newest = Book.objects.filter(published__lt=Now()).values("pk")
        self.assertRefused(Author.objects.filter(books__in=newest))
        self.assertRefused(Author.objects.annotate(x=Exists(newest.filter(author=OuterRef("pk")))))
        self.assertRefused(
            Author.objects.annotate(n=Count("books", filter=Q(books__published__lt=Now())))
        )
        self.assertRefused(
            Book.objects.annotate(
                new=Case(When(published__gt=Now(), then=Value(1)), default=Value(0))
            )
        )
        self.assertRefused(Book.objects.values("pk").union(newest))

    def test_chance_is_refused_unless_it_is_asked_for(self) -> None:
        for queryset in (
            Book.objects.order_by("?"),
            Book.objects.annotate(luck=Random()).values("luck"),
            Author.objects.annotate(
                pick=Subquery(
                    Book.objects.filter(author=OuterRef("pk")).order_by("?").values("pk")[:1]
                )
            ),
        ):
            self.assertRefused(queryset, "chance")
            with override_settings(CACHALOT_CACHE_RANDOM=True):
                _get_tables("default", queryset.query)

    def test_locks_are_refused(self) -> None:
        queryset = Book.objects.select_for_update()
        with transaction.atomic(), self.assertRaisesMessage(UncachableQuery, "locks rows"):
            _get_tables("default", queryset.query)

    def test_parameters_that_mean_the_current_time_are_refused(self) -> None:
        if connection.vendor == "mysql":
            self.skipTest("MySQL knows no such words.")
        text = "date(published) = date(%s)" if connection.vendor == "sqlite" else "published > %s"
        self.assertRefused(Book.objects.extra(where=[text], params=["now"]), "'now'")
        as_date = DateTimeField() if connection.vendor == "postgresql" else DateField()
        if connection.vendor == "postgresql":
            self.assertRefused(Book.objects.annotate(x=Cast(Value("now"), as_date)), "'now'")

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_parameters_that_hold_the_current_time_are_refused(self) -> None:
        # psycopg2 has a class of its own.
        Range = pytest.importorskip("psycopg.types.range").Range

        for where, param in (
            ("published < ANY(%s::timestamptz[])", "{now}"),
            ("published < ANY(%s::timestamptz[])", ["now"]),
            ("published <@ %s::tstzrange", "[,today]"),
            ("published <@ %s::tstzrange", Range(None, "today")),
        ):
            queryset = Book.objects.extra(where=[where], params=[param])
            self.assertNeverCached(lambda queryset=queryset: queryset.count())

    def test_ordinary_functions_are_not_refused(self) -> None:
        day = datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc)
        books = Book.objects.all()
        best = Book.objects.filter(author=OuterRef("pk")).order_by("-pages")
        querysets = [
            books.filter(published__year=2020, published__date=day.date()),
            books.filter(published__hour__gt=1, published__time__lt=datetime.time(1)),
            books.filter(published__range=(day, day)),
            books.filter(title__iregex="a", title__icontains="now", title__startswith="user"),
            books.filter(details__seas__0="Pacific", details__has_key="seas"),
            books.annotate(n=F("details__seas")).order_by("n"),
            books.annotate(y=ExtractYear("published"), w=ExtractWeek("published")),
            books.annotate(y=ExtractIsoYear("published")),
            books.annotate(d=TruncDate("published"), t=TruncTime("published")),
            books.annotate(m=TruncMonth("published"), h=TruncHour("published")),
            books.dates("published", "month"),
            books.datetimes("published", "hour"),
            books.annotate(c=Cast("pages", CharField()), d=Cast("published", DateField())),
            books.annotate(c=Cast(Value("2020-02-29"), DateField())),
            books.annotate(c=Coalesce("price", "pages", output_field=IntegerField())),
            books.annotate(c=Concat("title", Value(" and "), "title"), low=Lower("title")),
            books.annotate(r=Replace("title", Value("sea"), Value("then"))),
            books.annotate(h=MD5("title"), left=Left("title", 2), sub=Substr("title", 1, 2)),
            books.annotate(x=StrIndex("title", Value("sea")), n=Length(Trim("title"))),
            books.annotate(g=Greatest("pages", F("pages") + 1), r=Round("price")),
            books.annotate(r=Window(Rank(), order_by="pages")),
            books.annotate(r=Window(Lag("pages"), partition_by="author", order_by="pk")),
            books.values("author").annotate(s=Sum("pages"), n=Count("pk", distinct=True)),
            books.annotate(old=ExpressionWrapper(Q(pages__gt=1), output_field=BooleanField())),
            books.annotate(two=RawSQL("1 + %s", [1])),
            books.filter(code="9b4d0a4a-2c5e-4a0e-b5de-6b1c4a8d9a00", cover=b"now"),
            Author.objects.annotate(best=Subquery(best.values("title")[:1])),
            Author.objects.filter(Exists(best)).select_related("mentor"),
            OddlyNamed.objects.filter(name__in=["now there", "user"]),
        ]
        # Names of functions and keywords that Django quotes.
        querysets += [
            books.annotate(**{name: F("pages")}).order_by(name).values(name)
            for name in ("now", "user", "date", "random", "uuid", "current_date", "localtime")
        ]
        for queryset in querysets:
            with self.subTest(str(queryset.query)):
                self.assertIn("library", min(_get_tables("default", queryset.query)).lower())


class PostgreSQLFunctionTests(CacheTestCase):
    def setUp(self) -> None:
        if connection.vendor != "postgresql":
            self.skipTest("django.contrib.postgres is for PostgreSQL.")

    def test_its_volatile_functions_are_refused(self) -> None:
        from django.contrib.postgres.functions import RandomUUID, TransactionNow

        for function in (RandomUUID(), TransactionNow()):
            with self.assertRaises(UncachableQuery):
                _get_tables("default", Book.objects.annotate(x=function).query)

    def test_its_other_functions_are_not(self) -> None:
        from django.contrib.postgres.aggregates import ArrayAgg, JSONBAgg
        from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector

        vector = SearchVector("title")
        for queryset in (
            Author.objects.annotate(titles=ArrayAgg("books__title")),
            Author.objects.annotate(titles=JSONBAgg("books__title")),
            Book.objects.annotate(v=vector).filter(v=SearchQuery("sea")),
            Book.objects.annotate(r=SearchRank(vector, SearchQuery("sea"))).order_by("r"),
        ):
            with self.subTest(str(queryset.query)):
                self.assertIn("library_book", _get_tables("default", queryset.query))


class CompiledElsewhereTests(SimpleTestCase):
    def test_now_is_refused_on_every_vendor(self) -> None:
        for vendor, sql in {
            "sqlite": "SELECT STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW') AS x",
            "postgresql": "SELECT STATEMENT_TIMESTAMP() AS x",
            "mysql": "SELECT CURRENT_TIMESTAMP(6) AS x",
        }.items():
            with self.subTest(vendor):
                self.assertIsNotNone(volatility_of(sql, vendor).reason)
