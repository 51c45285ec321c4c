"""What the tests with django-tenants share: two tenants, and counting without search_path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import schema_context

from tests.support import CacheTestCase
from tests.tenants.accounts.models import Customer
from tests.tenants.shop.models import Product

T = TypeVar("T")


def count_queries(read: Callable[[], T]) -> tuple[T, int]:
    """Return what ``read`` returns and how many queries it ran, SET search_path not counted."""
    with CaptureQueriesContext(connection) as queries:
        result = read()
    return result, sum(not query["sql"].startswith("SET search_path") for query in queries)


def run(sql: str, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def names() -> list[str]:
    return sorted(Product.objects.values_list("name", flat=True))


def within(schema: str, function: Callable[[], T]) -> T:
    """Return what ``function`` returns when ``schema`` is the current one."""
    with schema_context(schema):
        return function()


class TenantTestCase(CacheTestCase):
    """Two tenants, north and south, each with a product named after it; the third is for tests."""

    def setUp(self) -> None:
        for schema in ("north", "south"):
            # The schema itself is made for the first test alone.
            Customer(schema_name=schema).save(verbosity=0)
            within(schema, lambda schema=schema: Product.objects.create(name=f"of {schema}"))

    def _fixture_teardown(self) -> None:
        # Django's own flush knows nothing of the tenants' tables, which refer to the shared ones.
        connection.close()
        connection.set_schema_to_public()
        run("DROP SCHEMA IF EXISTS east CASCADE")
        tables = ["public.accounts_customer", "public.accounts_plan", "public.auth_group"]
        for schema in ("north", "south"):
            for table in ("shop_product", "auth_group", "auth_user", "django_session"):
                tables.append(f"{schema}.{table}")
        run(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")

    def count_queries(self, read: Callable[[], T]) -> tuple[T, int]:
        return count_queries(read)

    def assertNeverShared(self, read: Callable[[], T], **expected: T) -> None:
        """Each schema gets what is expected, whichever has filled the cache before, by a hit."""
        for order in (list(expected), list(reversed(expected))):
            for schema in order:
                self.assertEqual(within(schema, read), expected[schema], schema)
            for schema in order:
                with schema_context(schema):
                    self.assertEqual(self.assertHits(read), expected[schema], schema)

    def assertSharedByAll(self, read: Callable[[], T], expected: T) -> None:
        """Every schema gets what is expected, whichever has filled the cache before, by a hit."""
        self.assertNeverShared(read, public=expected, north=expected, south=expected)
