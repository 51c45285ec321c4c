"""Tenants served at the same time, each by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

from django.db import connection, transaction
from django_tenants.utils import schema_context

from tests.support import close_connections, in_thread
from tests.tenants.accounts.models import Plan
from tests.tenants.shop.models import Product
from tests.tenants.support import TenantTestCase, names, within

ROUNDS = 8


def together(*functions: Callable[[threading.Barrier], object]) -> None:
    """Run each in a thread of its own; raise what any of them raises."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Callable[[threading.Barrier], object]) -> None:
        try:
            function(barrier)
        except BaseException as error:
            barrier.abort()
            errors.append(error)
        finally:
            close_connections()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    # A broken barrier is the consequence of another thread's error.
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error


class ThreadTests(TenantTestCase):
    def test_reads_at_the_same_time(self) -> None:
        def reader(schema: str) -> Callable[[threading.Barrier], None]:
            def read(barrier: threading.Barrier) -> None:
                with schema_context(schema):
                    for _ in range(ROUNDS):
                        barrier.wait(30)
                        assert names() == [f"of {schema}"], schema

            return read

        together(*[reader(schema) for schema in ("north", "south", "north", "south")])
        self.assertNeverShared(names, north=["of north"], south=["of south"])

    def test_writes_at_the_same_time(self) -> None:
        """Each thread sees what it has written, whatever the others write."""

        def writer(schema: str, *, is_atomic: bool) -> Callable[[threading.Barrier], None]:
            def write(barrier: threading.Barrier) -> None:
                with schema_context(schema):
                    for number in range(ROUNDS):
                        barrier.wait(30)
                        name = f"{number} of {schema}"
                        if is_atomic:
                            with transaction.atomic():
                                Product.objects.update(name=name)
                                assert names() == [name], schema
                        else:
                            Product.objects.update(name=name)
                        assert names() == [name], schema
                        assert names() == [name], schema

            return write

        together(writer("north", is_atomic=True), writer("south", is_atomic=False))
        last = ROUNDS - 1
        self.assertNeverShared(names, north=[f"{last} of north"], south=[f"{last} of south"])

    def test_threads_that_change_their_tenants(self) -> None:
        def switching(*order: str) -> Callable[[threading.Barrier], None]:
            def read(barrier: threading.Barrier) -> None:
                for number in range(ROUNDS):
                    barrier.wait(30)
                    schema = order[number % len(order)]
                    connection.set_schema(schema)
                    assert names() == [f"of {schema}"], schema
                    barrier.wait(30)
                    if number % 3 == 0:
                        # The next round's reads miss.
                        Product.objects.update(price=number)

            return read

        together(switching("north", "south"), switching("south", "north"))

    def test_a_new_thread_begins_with_the_shared_schema(self) -> None:
        with schema_context("north"):
            names()
            self.assertEqual(in_thread(lambda: connection.schema_name), "public")
            self.assertEqual(in_thread(lambda: within("south", names)), ["of south"])
            self.assertEqual(self.assertHits(names), ["of north"])

    def test_another_tenant_reads_and_writes_between_a_query_and_its_storing(self) -> None:
        def another_tenant() -> None:
            with schema_context("south"):
                assert names() == ["of south"]
                Product.objects.update(name="new of south")
                assert names() == ["new of south"]

        self.interrupt_read("north", another_tenant)
        self.assertNeverShared(names, north=["of north"], south=["new of south"])

    def test_the_same_tenant_writes_between_a_query_and_its_storing(self) -> None:
        def the_same_tenant() -> None:
            within("north", lambda: Product.objects.update(name="new of north"))

        self.interrupt_read("north", the_same_tenant)
        self.assertNeverShared(names, south=["of south"], north=["new of north"])

    def test_a_shared_table_written_between_a_query_and_its_storing(self) -> None:
        def plans() -> list[str]:
            return list(Plan.objects.values_list("name", flat=True))

        def another_tenant() -> None:
            within("south", lambda: Plan.objects.create(name="new"))

        self.interrupt_read("north", another_tenant, plans)
        self.assertNeverShared(plans, north=["new"], south=["new"], public=["new"])

    def interrupt_read(
        self, schema: str, meanwhile: Callable[[], Any], read: Callable[[], Any] = names
    ) -> None:
        """Let another thread run ``meanwhile`` when the read's rows are there and not stored."""

        def interrupted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if sql.startswith("SELECT") and not interruption.called:
                interruption()
                in_thread(meanwhile)
            return result

        interruption = mock.Mock()
        with schema_context(schema), connection.execute_wrapper(interrupted):
            read()
        interruption.assert_called_once_with()
