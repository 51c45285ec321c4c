"""Tenants that come, go, come back and change their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from django_tenants.utils import schema_context, schema_rename

from tests.support import in_process, in_thread
from tests.tenants.accounts.models import Customer
from tests.tenants.shop.models import Product
from tests.tenants.support import TenantTestCase, names, run, within

NO_TABLE = ["no table"]
# What django-tenants defines to clone a schema.
DROP_CLONING = """
    DO $$ DECLARE routine regprocedure; BEGIN
        FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace LOOP
            EXECUTE 'DROP FUNCTION ' || routine || ' CASCADE';
        END LOOP;
    END $$
"""


def groups() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


def products() -> list[str]:
    try:
        with transaction.atomic():
            return names()
    except DatabaseError:
        return NO_TABLE


def create(schema: str = "east") -> Customer:
    tenant = Customer(schema_name=schema)
    tenant.save(verbosity=0)
    return tenant


def elsewhere(code: str) -> Any:
    """Run ``code`` in another process, on the same database and cache."""
    return in_process(code, "tests.tenants.test_lifecycle", "tests.tenants.settings")


class LifecycleTests(TenantTestCase):
    def setUp(self) -> None:
        super().setUp()
        for schema in ("public", "north"):
            within(schema, lambda schema=schema: Group.objects.create(name=f"of {schema}"))

    def read_east(self) -> tuple[list[str], list[str]]:
        """Read what is only a tenant's, and what is found in the shared schema otherwise.

        Here twice, and on another connection.
        """
        with schema_context("east"):
            reads = [(products(), groups()) for _ in range(2)]
        reads.append(in_thread(lambda: within("east", lambda: (products(), groups()))))
        self.assertEqual(reads, reads[:1] * 3)
        self.assertNeverShared(groups, north=["of north"], public=["of public"])
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        return reads[0]

    def test_a_new_tenant(self) -> None:
        """Its tables hide those in the shared schema that were read in its name before."""
        self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
        create()
        self.assertEqual(self.read_east(), ([], []))
        within("east", lambda: Group.objects.create(name="of east"))
        self.assertEqual(self.read_east(), ([], ["of east"]))
        self.assertNeverShared(groups, north=["of north"], east=["of east"], public=["of public"])

    def test_a_tenant_migrated_later(self) -> None:
        run("CREATE SCHEMA east")
        self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
        options: dict[str, Any] = {"tenant": True, "interactive": False, "verbosity": 0}
        call_command("migrate_schemas", "auth", schema_name="east", **options)
        self.assertEqual(self.read_east(), (NO_TABLE, []))
        call_command("migrate_schemas", schema_name="east", **options)
        self.assertEqual(self.read_east(), ([], []))
        call_command("migrate_schemas", "shop", "zero", schema_name="east", **options)
        self.assertEqual(self.read_east(), (NO_TABLE, []))

    def test_a_tenant_dropped_and_made_again(self) -> None:
        for number in range(3):
            tenant = create()
            self.assertEqual(self.read_east(), ([], []))
            within("east", lambda: Group.objects.create(name="of east"))
            within("east", lambda number=number: Product.objects.create(name=f"{number}"))
            self.assertEqual(self.read_east(), ([f"{number}"], ["of east"]))
            tenant.delete(force_drop=True)
            self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))

    def test_a_schema_dropped_and_made_again_by_hand(self) -> None:
        ddl: list[Callable[[], object]] = [
            lambda: run("CREATE SCHEMA east"),
            lambda: run("CREATE TABLE east.auth_group (LIKE north.auth_group INCLUDING ALL)"),
            lambda: run("INSERT INTO east.auth_group (name) VALUES ('of east')"),
            lambda: run("ALTER TABLE east.auth_group SET SCHEMA north_archive"),
            lambda: run("ALTER TABLE north_archive.auth_group SET SCHEMA east"),
            lambda: run("DROP SCHEMA east CASCADE"),
        ]
        expected = [["of public"], [], ["of east"], ["of public"], ["of east"], ["of public"]]
        run("CREATE SCHEMA north_archive")
        try:
            for change, groups_seen in zip(ddl, expected, strict=True):
                change()
                self.assertEqual(self.read_east(), (NO_TABLE, groups_seen))
        finally:
            run("DROP SCHEMA north_archive CASCADE")

    def test_a_schema_made_in_a_transaction_that_is_rolled_back(self) -> None:
        self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
        with transaction.atomic():
            run("CREATE SCHEMA east")
            run("CREATE TABLE east.auth_group (LIKE public.auth_group INCLUDING ALL)")
            self.assertEqual(within("east", groups), [])
            transaction.set_rollback(True)
        self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
        create()
        with transaction.atomic():
            run("DROP SCHEMA east CASCADE")
            self.assertEqual(within("east", groups), ["of public"])
            transaction.set_rollback(True)
        self.assertEqual(self.read_east(), ([], []))

    def test_tenants_that_change_their_names(self) -> None:
        create()
        within("east", lambda: Product.objects.create(name="of east"))
        east, south = (Customer.objects.get(schema_name=name) for name in ("east", "south"))
        self.assertNeverShared(names, north=["of north"], south=["of south"], east=["of east"])
        schema_rename(south, "west")
        schema_rename(east, "south")
        schema_rename(south, "east")
        self.assertNeverShared(names, north=["of north"], south=["of east"], east=["of south"])
        self.assertEqual(in_thread(lambda: within("south", names)), ["of east"])
        for schema, name in (("south", "west"), ("east", "south"), ("west", "east")):
            run(f"ALTER SCHEMA {schema} RENAME TO {name}")
        self.assertNeverShared(names, south=["of south"], north=["of north"], east=["of east"])

    @override_settings(TENANT_CREATION_FAKES_MIGRATIONS=True, TENANT_BASE_SCHEMA="north")
    def test_a_tenant_cloned_from_another(self) -> None:
        """By a function, which is there already the second time."""
        self.addCleanup(run, DROP_CLONING)
        for number in range(2):
            self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
            tenant = create()
            rows = within("north", names)
            self.assertEqual(within("east", lambda: (products(), groups())), (rows, ["of north"]))
            within("north", lambda number=number: Product.objects.create(name=f"{number}"))
            with schema_context("east"):
                self.assertEqual(names(), rows)
            self.assertNeverShared(names, north=[f"{number}", *rows], east=rows)
            within("north", Product.objects.filter(name=f"{number}").delete)
            tenant.delete(force_drop=True)

    def test_a_tenant_made_by_another_process(self) -> None:
        if self.is_alone():
            self.skipTest("Another process has a cache of its own.")
        self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
        # What the other process finds in the cache is what this one has stored.
        code = "result = [within('east', groups), within('north', names), within('south', names)]"
        self.assertEqual(elsewhere(code), [["of public"], ["of north"], ["of south"]])
        elsewhere("create(); within('east', lambda: Product.objects.create(name='of east'))")
        self.assertEqual(self.read_east(), (["of east"], []))
        elsewhere("Customer.objects.get(schema_name='east').delete(force_drop=True)")
        self.assertEqual(self.read_east(), (NO_TABLE, ["of public"]))
        elsewhere("within('north', lambda: Product.objects.update(name='new'))")
        self.assertNeverShared(names, north=["new"], south=["of south"])

    def test_another_connection_reads_while_the_schema_is_made(self) -> None:
        """What it stores before the COMMIT is not served after it."""
        with transaction.atomic():
            run("CREATE SCHEMA east")
            run("CREATE TABLE east.auth_group (LIKE public.auth_group INCLUDING ALL)")
            run("INSERT INTO east.auth_group (name) VALUES ('of east')")
            self.assertEqual(in_thread(lambda: within("east", groups)), ["of public"])
            self.assertEqual(within("east", groups), ["of east"])
        self.assertEqual(connection.schema_name, "public")
        self.assertEqual(self.read_east(), (NO_TABLE, ["of east"]))
