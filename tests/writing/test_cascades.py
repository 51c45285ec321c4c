"""Deletes that the database itself carries on to other tables."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from django.db import connection, models, transaction

from cachalot.settings import cachalot_settings
from tests.library.models import Label, Placement, Shelf
from tests.support import CacheTestCase

pytestmark = pytest.mark.skipif(Placement is None, reason="new in Django 6.1")


class CascadeTests(CacheTestCase):
    def setUp(self) -> None:
        self.shelf = Shelf.objects.create(label="s")
        placement = Placement.objects.create(shelf=self.shelf)
        Label.objects.create(placement=placement)

    def rows(self) -> list[Any]:
        return [
            list(Placement.objects.values_list("shelf__label")),
            list(Label.objects.values_list("placement")),
        ]

    def test_a_delete_reaches_what_the_database_cascades_to(self) -> None:
        def by_queryset() -> None:
            Shelf.objects.filter(label="s").delete()

        def raw() -> None:
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM library_shelf")

        for delete in (self.shelf.delete, by_queryset, raw):
            with self.subTest(delete), transaction.atomic():
                self.assertNotEqual(self.rows()[0], [])
                delete()
                self.assertEqual(self.rows(), [[], [(None,)]])
                transaction.set_rollback(True)
            self.shelf = Shelf.objects.get()
        self.rows()
        self.shelf.delete()
        self.assertEqual(self.rows(), [[], [(None,)]])

    def test_every_action_of_the_database_counts(self) -> None:
        key = Placement._meta.get_field("shelf").remote_field
        for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT"):
            with (
                self.subTest(name),
                mock.patch.object(key, "on_delete", getattr(models, name)),
                transaction.atomic(),
            ):
                cachalot_settings.forget()
                self.addCleanup(cachalot_settings.forget)
                self.assertNotEqual(self.rows()[0], [])
                with connection.cursor() as cursor:
                    cursor.execute("DELETE FROM library_shelf")
                self.assertEqual(self.rows(), [[], [(None,)]])
                transaction.set_rollback(True)

    def test_an_update_does_not(self) -> None:
        self.rows()
        Shelf.objects.update(label="t")
        self.assertHits(lambda: list(Label.objects.values_list("placement")))
