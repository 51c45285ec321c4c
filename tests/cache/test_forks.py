"""Processes that are forked after the cache was used, as ``gunicorn --preload`` does."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from unittest import skipUnless

from django.core.signals import request_finished
from django.db import connections

from cachalot.core.cache.stores import store_of
from tests.library.models import Author
from tests.settings import CACHE, DATABASE
from tests.support import CacheTestCase, count_queries

CHILDREN = 3
READS = 60


def ids_of(name: str) -> list[int]:
    return list(Author.objects.filter(name=name).values_list("pk", flat=True))


@skipUnless(hasattr(os, "fork"), "The system has no fork().")
@skipUnless(DATABASE == "sqlite", "Connections to other databases must not be forked at all.")
class ForkTests(CacheTestCase):
    """Each asks for other results than the others: an answer of theirs would be another one."""

    def setUp(self) -> None:
        self.ids = {name: Author.objects.create(name=name).pk for name in "abcdefgh"}
        self.read_all()
        self.assertEqual(count_queries(self.read_all)[1], 0)

    def read_all(self) -> None:
        for name, pk in self.ids.items():
            self.assertEqual(ids_of(name), [pk])

    def in_children(self, act: Callable[[int], None]) -> None:
        """Fork, and have children and parent act at once."""
        connections.close_all()
        children = []
        for number in range(CHILDREN):
            child = os.fork()
            if not child:
                try:
                    act(number)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                # No clean end: that would run the end of the parent's tests.
                os._exit(0)
            children.append(child)
        act(CHILDREN)
        self.assertEqual([os.waitpid(child, 0)[1] for child in children], [0] * CHILDREN)

    def test_each_gets_its_own_answers(self) -> None:
        def act(number: int) -> None:
            for count in range(READS):
                name = "abcdefgh"[(number + count) % 8]
                self.assertEqual(ids_of(name), [self.ids[name]])
                if count % 20 == 0:
                    # A child's end of a request must not end what the parent uses.
                    request_finished.send(None)

        self.in_children(act)
        self.read_all()

    def test_each_sees_what_it_writes(self) -> None:
        def act(number: int) -> None:
            for count in range(5):
                name = f"{number} {count}"
                self.assertEqual(ids_of(name), [])
                pk = Author.objects.create(name=name).pk
                self.assertEqual(ids_of(name), [pk])

        self.in_children(act)
        if not self.uses_locmem():
            self.assertEqual(Author.objects.count(), 8 + 5 * (CHILDREN + 1))

    @skipUnless(CACHE in {"pymemcache", "pylibmc"}, "Other clients know of forks.")
    def test_a_child_has_a_client_of_its_own(self) -> None:
        before = store_of("default")

        def act(number: int) -> None:
            self.assertIs(store_of("default") is before, number == CHILDREN)

        self.in_children(act)
