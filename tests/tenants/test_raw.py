"""Raw SQL that names a tenant's schema, or sets the path itself."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django_tenants.utils import schema_context

from tests.support import in_thread
from tests.tenants.accounts.models import Plan
from tests.tenants.shop.models import NorthernProduct, Product
from tests.tenants.support import TenantTestCase, names, run, within


def northern_names() -> list[str]:
    return sorted(NorthernProduct.objects.values_list("name", flat=True))


def raw_names() -> list[str]:
    return sorted(product.name for product in Product.objects.raw("SELECT * FROM shop_product"))


class RawTests(TenantTestCase):
    def test_writes_that_name_the_schema(self) -> None:
        statements = (
            """UPDATE "north"."shop_product" SET name = '{}'""",
            """UPDATE north.shop_product SET name = '{}'""",
            """WITH x AS (SELECT 1) UPDATE ONLY North."shop_product" AS p SET name = '{}'""",
            """DO $$ BEGIN UPDATE north.shop_product SET name = '{}'; END $$""",
            """DELETE FROM north.shop_product;
               INSERT INTO north.shop_product (name, price) VALUES ('{}', 0)""",
        )
        for writer in ("public", "north", "south"):
            for number, sql in enumerate(statements):
                new = f"{number} by {writer}"
                with self.subTest(sql, writer=writer):
                    for schema in ("north", "south"):
                        within(schema, lambda: (names(), self.assertHits(names)))
                    within(writer, lambda sql=sql, new=new: run(sql.format(new)))
                    self.assertNeverShared(names, north=[new], south=["of south"])

    def test_statements_of_other_kinds_that_name_the_schema(self) -> None:
        steps = (
            ("TRUNCATE north.shop_product CASCADE", []),
            (
                "INSERT INTO north.shop_product (name, price)"
                " SELECT name, price FROM south.shop_product",
                ["of south"],
            ),
            ("ALTER TABLE north.shop_product RENAME TO other", None),
            ("ALTER TABLE north.other RENAME TO shop_product", ["of south"]),
            (
                "MERGE INTO north.shop_product n USING south.shop_product s ON n.name = s.name"
                " WHEN MATCHED THEN UPDATE SET name = 'merged'",
                ["merged"],
            ),
        )
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        for sql, expected in steps:
            with self.subTest(sql):
                run(sql)
                if expected is not None:
                    self.assertNeverShared(names, north=expected, south=["of south"])

    def test_copy(self) -> None:
        within("north", names)
        with connection.cursor() as cursor:
            if not hasattr(cursor, "copy"):
                pytest.skip("psycopg2 has copy_expert() in its place.")
            with cursor.copy('COPY "north".shop_product (name, price) FROM STDIN') as copying:
                copying.write_row(("copied", 1))
        self.assertNeverShared(names, north=["copied", "of north"], south=["of south"])

    def test_raw_reads(self) -> None:
        self.assertEqual(within("north", raw_names), ["of north"])
        self.assertEqual(within("south", raw_names), ["of south"])

    def test_a_model_whose_table_names_the_schema(self) -> None:
        self.assertSharedByAll(northern_names, ["of north"])
        within("north", lambda: Product.objects.update(name="new"))
        self.assertSharedByAll(northern_names, ["new"])
        self.assertNeverShared(names, north=["new"], south=["of south"])
        within("south", lambda: NorthernProduct.objects.update(name="newer"))
        self.assertNeverShared(names, north=["newer"], south=["of south"])
        self.assertSharedByAll(northern_names, ["newer"])
        within("south", lambda: Product.objects.update(name="of south still"))
        self.assertNeverShared(names, north=["newer"], south=["of south still"])

    def test_a_fragment_that_names_the_schema(self) -> None:
        Plan.objects.create(name="all")

        def read() -> list[str]:
            count = '(SELECT max(name) FROM "north".shop_product)'
            return [plan.best for plan in Plan.objects.extra(select={"best": count})]

        self.assertSharedByAll(read, ["of north"])
        within("north", lambda: Product.objects.update(name="new"))
        self.assertSharedByAll(read, ["new"])

    def test_writes_in_a_transaction_that_is_rolled_back(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        with schema_context("south"), transaction.atomic():
            run('UPDATE "north"."shop_product" SET name = \'lost\'')
            self.assertNeverShared(names, north=["lost"], south=["of south"])
            self.assertEqual(in_thread(lambda: within("north", names)), ["of north"])
            transaction.set_rollback(True)
        self.assertNeverShared(names, north=["of north"], south=["of south"])

    def test_a_cursor_opened_for_one_tenant_and_used_for_another(self) -> None:
        """A cursor's path is that of its last statement's beginning, whatever the tenant is now."""
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        with schema_context("north"), connection.cursor() as cursor:
            with schema_context("south"):
                cursor.execute("UPDATE shop_product SET name = 'by a cursor of north'")
                self.assertEqual(names(), ["of south"])
        self.assertNeverShared(names, north=["by a cursor of north"], south=["of south"])

    def test_raw_statements_between_reads_split_nothing_that_is_a_tenants_own(self) -> None:
        """django-tenants sets the path for raw statements, too: another order, the same rows."""
        for schema in ("north", "south", "north", "south"):
            with schema_context(schema):
                self.assertEqual(names(), [f"of {schema}"])
                run("SELECT 1")
                self.assertEqual(names(), [f"of {schema}"])
                self.assertEqual(self.assertHits(names), [f"of {schema}"])

    def test_a_path_set_by_hand(self) -> None:
        """The engine sets its own again before the next statement."""
        with schema_context("north"):
            self.assertEqual(names(), ["of north"])
            run("SET search_path TO south")
            self.assertEqual(names(), ["of north"])
            with transaction.atomic():
                run("SET LOCAL search_path TO south")
                self.assertEqual(names(), ["of north"])
        self.assertNeverShared(names, north=["of north"], south=["of south"])

    @override_settings(TENANT_LIMIT_SET_CALLS=True)
    def test_a_path_set_by_hand_that_stays(self) -> None:
        with schema_context("north"):
            self.assertEqual(names(), ["of north"])
            run("SET search_path TO south")
            self.assertEqual(names(), ["of south"])
            self.assertEqual(self.assertHits(names), ["of south"])
            self.assertEqual(in_thread(lambda: within("north", names)), ["of north"])
        self.assertEqual(in_thread(lambda: within("south", names)), ["of south"])
