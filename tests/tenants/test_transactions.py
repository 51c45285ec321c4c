"""Transactions that switch from tenant to tenant, and are rolled back."""

from __future__ import annotations

from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from django_tenants.utils import schema_context

from tests.support import in_thread
from tests.tenants.accounts.models import Plan
from tests.tenants.shop.models import Product
from tests.tenants.support import TenantTestCase, names, within


def rename(name: str) -> None:
    Product.objects.update(name=name)


def plans() -> list[str]:
    return sorted(Plan.objects.values_list("name", flat=True))


class TransactionTests(TenantTestCase):
    def assertCommitted(self, **expected: list[str]) -> None:
        """Here and on another connection."""
        for schema, rows in expected.items():
            self.assertEqual(in_thread(lambda schema=schema: within(schema, names)), rows)
        self.assertNeverShared(names, **expected)

    def test_reads_of_one_transaction(self) -> None:
        with transaction.atomic():
            self.assertNeverShared(names, north=["of north"], south=["of south"])
        for schema in ("south", "north"):
            with schema_context(schema):
                self.assertEqual(self.assertHits(names), [f"of {schema}"])

    def test_writes_of_one_transaction(self) -> None:
        with transaction.atomic():
            within("north", lambda: rename("new of north"))
            self.assertNeverShared(names, north=["new of north"], south=["of south"])
            within("south", lambda: rename("new of south"))
            self.assertNeverShared(names, north=["new of north"], south=["new of south"])
            for schema in ("north", "south"):
                self.assertEqual(
                    in_thread(lambda schema=schema: within(schema, names)), [f"of {schema}"]
                )
        self.assertCommitted(north=["new of north"], south=["new of south"])

    def test_a_rollback(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        with self.assertRaises(ZeroDivisionError), schema_context("north"), transaction.atomic():
            rename("lost")
            self.assertEqual(names(), ["lost"])
            with schema_context("south"):
                self.assertEqual(names(), ["of south"])
                rename("lost, too")
                self.assertEqual(names(), ["lost, too"])
            raise ZeroDivisionError
        for schema in ("north", "south"):
            with schema_context(schema):
                self.assertEqual(self.assertHits(names), [f"of {schema}"])
        self.assertCommitted(north=["of north"], south=["of south"])

    def test_a_rollback_in_the_other_tenant(self) -> None:
        """The search_path that the transaction began with is back; the tenant is not."""
        within("north", names)
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            self.assertEqual(connection.schema_name, "public")
            connection.set_schema("north")
            rename("lost")
            connection.set_schema("south")
            self.assertEqual(names(), ["of south"])
            raise ZeroDivisionError
        self.assertEqual(names(), ["of south"])
        self.assertEqual(self.assertHits(names), ["of south"])
        connection.set_schema("north")
        self.assertEqual(self.assertHits(names), ["of north"])

    def test_a_savepoint_of_another_tenant(self) -> None:
        with schema_context("north"), transaction.atomic():
            rename("kept")
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                with schema_context("south"):
                    rename("lost")
                    self.assertEqual(names(), ["lost"])
                    self.assertEqual(within("north", names), ["kept"])
                    raise ZeroDivisionError
            self.assertNeverShared(names, north=["kept"], south=["of south"])
        self.assertCommitted(north=["kept"], south=["of south"])

    def test_a_savepoint_begun_in_one_tenant_and_rolled_back_in_another(self) -> None:
        with transaction.atomic():
            connection.set_schema("north")
            self.assertEqual(names(), ["of north"])
            savepoint = transaction.savepoint()
            connection.set_schema("south")
            rename("lost")
            self.assertEqual(names(), ["lost"])
            transaction.savepoint_rollback(savepoint)
            self.assertEqual(names(), ["of south"])
            connection.set_schema("north")
            self.assertEqual(names(), ["of north"])
        self.assertCommitted(north=["of north"], south=["of south"])

    def test_a_shared_table(self) -> None:
        schemas = ("public", "north", "south")
        self.assertSharedByAll(plans, [])
        with transaction.atomic():
            within("north", lambda: Plan.objects.create(name="new"))
            self.assertSharedByAll(plans, ["new"])
            for schema in schemas:
                self.assertEqual(in_thread(lambda schema=schema: within(schema, plans)), [])
        for schema in schemas:
            self.assertEqual(in_thread(lambda schema=schema: within(schema, plans)), ["new"])
        self.assertSharedByAll(plans, ["new"])

    def test_after_the_commit(self) -> None:
        seen = []

        def read_elsewhere() -> None:
            seen.extend(in_thread(lambda schema=schema: within(schema, names)) for schema in order)

        order = ("south", "north")
        with schema_context("north"), transaction.atomic():
            rename("new")
            transaction.on_commit(read_elsewhere)
        self.assertEqual(seen, [["of south"], ["new"]])

    def test_a_broken_transaction(self) -> None:
        """PostgreSQL refuses SET as well: the path is the one of before."""
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        with schema_context("north"), transaction.atomic():
            self.assertEqual(names(), ["of north"])
            with self.assertRaises(DatabaseError), transaction.atomic():
                with schema_context("south"):
                    Product.objects.create(id=Product.objects.get().pk, name="twice").save()
                    Product.objects.bulk_create([Product(id=Product.objects.get().pk)])
            self.assertNeverShared(names, south=["of south"], north=["of north"])
        self.assertCommitted(north=["of north"], south=["of south"])

    def test_without_autocommit(self) -> None:
        transaction.set_autocommit(False)
        try:
            for schema in ("north", "south"):
                with schema_context(schema):
                    self.assertEqual(names(), [f"of {schema}"])
                    rename(f"new of {schema}")
            self.assertNeverShared(names, north=["new of north"], south=["new of south"])
            transaction.rollback()
            self.assertNeverShared(names, north=["of north"], south=["of south"])
            within("south", lambda: rename("new of south"))
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        self.assertCommitted(north=["of north"], south=["new of south"])


@override_settings(TENANT_LIMIT_SET_CALLS=True)
class LimitedTransactionTests(TransactionTests):
    """search_path is set only when the tenant has changed, and set again after a rollback."""
