"""Where a test may not use the database, a hit is refused like a query."""

from __future__ import annotations

import unittest
from unittest import mock

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import SimpleTestCase, TestCase

from tests.library.models import Tag
from tests.support import CacheTestCase


def names() -> list[str]:
    return [tag.name for tag in Tag.objects.all()]


class ForbiddingTests(CacheTestCase):
    databases = {"default", "other"}

    def errors_of(self, case: type[SimpleTestCase]) -> list[str]:
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        return [message for _, message in result.errors + result.failures]

    def test_a_test_case_of_django(self) -> None:
        self.assertCached(names)
        for parent in (SimpleTestCase, TestCase):

            class Forbidding(parent):  # type: ignore[misc, valid-type]
                databases = {"other"} if parent is TestCase else set()

                def test(self) -> None:
                    names()

                def test_iterator(self) -> None:
                    list(Tag.objects.iterator())

                def test_single(self) -> None:
                    Tag.objects.count()

            messages = self.errors_of(Forbidding)
            self.assertEqual(len(messages), 3)
            for message in messages:
                self.assertIn("Database queries to 'default' are not allowed", message)
        self.assertHits(names)

    def test_a_blocked_class(self) -> None:
        """As pytest-django has it."""

        def blocked(self_: object) -> None:
            raise RuntimeError("Database access not allowed")

        self.assertCached(names)
        with mock.patch.object(BaseDatabaseWrapper, "ensure_connection", blocked):
            with self.assertRaisesMessage(RuntimeError, "not allowed"):
                names()
        self.assertHits(names)

    def test_a_cursor_that_is_watched_is_no_guard(self) -> None:
        """As django-debug-toolbar has it."""
        self.assertCached(names)
        with mock.patch.object(connection, "cursor", connection.cursor):
            self.assertHits(names)
