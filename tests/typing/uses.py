"""Every public name, used as the documentation shows it, and the types that must come out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from django.core.cache.backends.base import BaseCache
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import ListView
from prometheus_client import REGISTRY
from typing_extensions import assert_type

from cachalot.api import (
    Explanation,
    cachalot_disabled,
    cachalot_enabled,
    cached,
    cached_view,
    explain,
    fresh,
    get_last_invalidation,
    get_stats,
    invalidate,
    recorded,
)
from cachalot.cache import cachalot_caches
from cachalot.contrib.prometheus import CachalotCollector
from cachalot.jinja2ext import cachalot as Jinja2Extension
from cachalot.signals import post_invalidation
from cachalot.utils import UncachableQuery, get_query_cache_key, get_table_cache_key
from tests.library.models import Author, Book

# Invalidating


def invalidating() -> None:
    invalidate()
    invalidate(Book)
    invalidate("library.Book", Author, "library_tag", cache_alias="default", db_alias="other")
    invalidate(*(model for model in (Book, Author)), cache_alias=None, db_alias=None)
    invalidate(Book.tags.through)


def asking() -> None:
    assert_type(get_last_invalidation(), float)
    assert_type(get_last_invalidation(Book, "library.Author", db_alias="other"), float)


# Reading past the cache, and seeing what is read


def reading() -> None:
    assert_type(fresh(Book).get(), Book)
    assert_type(fresh(Book.objects).get(), Book)
    assert_type(fresh(Book.objects.filter(pages=1)).get(), Book)
    with recorded() as reads:
        fresh(Author).count()
    assert_type(reads[0].sql, str)
    assert_type(reads[0].tables, tuple[str, ...])
    assert_type(reads[0].is_hit, bool)
    assert_type(len(reads.queries), int)


# Caching code


@cached
def pages_of(author: Author, least: int = 0) -> list[int]:
    return list(Book.objects.filter(author=author).values_list("pages", flat=True))


@cached(timeout=60, key=lambda request: request.path, cache_alias="default")
def path_of(request: HttpRequest) -> str:
    return request.path


@cached
async def acount(prefix: str) -> int:
    return await Book.objects.filter(title__startswith=prefix).acount()


@cached_view
def cached_books(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Book.objects.count())


@cached_view(timeout=60, statuses=(200, 404), cache_alias="default")
async def acached_books(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await Book.objects.acount())


@cached_view
class CachedBooks(ListView[Book]):
    model = Book


class Shelf:
    @cached
    def count(self) -> int:
        return 1


async def caching(author: Author, request: HttpRequest) -> None:
    assert_type(pages_of(author, least=1), list[int])
    assert_type(pages_of.fresh(author), list[int])
    pages_of.invalidate(author)
    await pages_of.ainvalidate(author)
    assert_type(path_of(request), str)
    assert_type(await acount("a"), int)
    Shelf().count()


# Switching off and on, as a context manager


def blocks() -> int:
    with cachalot_disabled():
        books = Book.objects.all()
    with cachalot_disabled(all_queries=True) as nothing, cachalot_enabled():
        assert_type(nothing, None)
        # It swallows no exception, or the end of the function would be reached without a return.
        return len(books)


def blocks_in_a_stack() -> None:
    with contextlib.ExitStack() as stack:
        assert_type(stack.enter_context(cachalot_enabled()), None)


# As a decorator of functions: their signatures stay


@cachalot_disabled
def bare(pk: int, *, title: str = "") -> Book:
    return Book.objects.get(pk=pk, title=title)


@cachalot_disabled()
def called(pk: int) -> Book | None:
    return Book.objects.filter(pk=pk).first()


@cachalot_disabled(all_queries=True)
def everything(*titles: str) -> dict[str, int]:
    return {book.title: book.pages for book in Book.objects.filter(title__in=titles)}


@cachalot_enabled
def bare_enabled(first: Book, /, second: Book) -> tuple[Book, Book]:
    return first, second


@cachalot_enabled()
def called_enabled(**titles: str) -> list[str]:
    return sorted(titles)


@cachalot_disabled
async def coroutine(pk: int) -> Book:
    return await Book.objects.aget(pk=pk)


@cachalot_disabled
def generator(limit: int) -> Iterator[Book]:
    yield from Book.objects.all()[:limit]


@cachalot_enabled
async def async_generator() -> AsyncIterator[Book]:
    async for book in Book.objects.all():
        yield book


async def decorated() -> None:
    assert_type(bare(1, title="Typee"), Book)
    assert_type(called(pk=1), Book | None)
    assert_type(everything("Typee", "Omoo"), dict[str, int])
    assert_type(bare_enabled(bare(1), second=bare(2)), tuple[Book, Book])
    assert_type(called_enabled(first="Typee"), list[str])
    assert_type(await coroutine(1), Book)
    assert_type(generator(2), Iterator[Book])
    assert_type(async_generator(), AsyncIterator[Book])
    assert_type(cachalot_disabled(len)([]), int)
    assert_type(cachalot_disabled()(len)([]), int)


# As a decorator of views


@cachalot_disabled
def function_view(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(bare(pk).title)


@cachalot_disabled
async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await coroutine(1)).title)


@cachalot_disabled
class BareView(View):
    shelf = "a"

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(self.shelf)


@cachalot_disabled(all_queries=True)
class CalledView(ListView[Book]):
    model = Book


@cachalot_enabled
class EnabledView(BareView):
    @cachalot_disabled
    def rows(self, limit: int) -> list[Book]:
        return list(Book.objects.all()[:limit])


@method_decorator(cachalot_disabled, name="dispatch")
class ByMethodDecorator(View):
    pass


def views(request: HttpRequest) -> None:
    assert_type(function_view(request, pk=1), HttpResponse)
    assert_type(BareView, type[BareView])
    assert_type(BareView().shelf, str)
    assert_type(CalledView().get_queryset().get(), Book)
    assert_type(EnabledView().get(request), HttpResponse)
    assert_type(EnabledView().rows(3), list[Book])
    assert_type(ByMethodDecorator(), ByMethodDecorator)
    assert_type(async_view(request).close(), None)


# Looking into it


def explaining() -> None:
    explanation = explain(Book.objects.filter(pages__gt=3))
    assert_type(explanation, Explanation)
    assert_type(explanation.sql, str)
    assert_type(explanation.db_alias, str)
    assert_type(explanation.tables, tuple[str, ...])
    assert_type(explanation.key, str | None)
    assert_type(explanation.is_cachable, bool)
    assert_type(explanation.reason, str | None)
    assert_type(explanation.timeout, float | None)
    assert_type(explanation.invalidated_by, tuple[str, ...])
    assert_type(explain(Book.objects.values_list("title", flat=True)).tables, tuple[str, ...])
    tuple_: NamedTuple = explanation
    print(tuple_, str(explanation))


def counting() -> None:
    assert_type(get_stats(), dict[str, Any])


def collecting() -> None:
    REGISTRY.register(CachalotCollector())


# Being told


@receiver(post_invalidation, sender=Book._meta.db_table)
def told(sender: str, db_alias: str, **kwargs: object) -> None:
    print(sender, db_alias)


@receiver(post_invalidation)
def told_of_all(sender: str, **kwargs: object) -> None:
    print(sender)


def listening() -> None:
    post_invalidation.connect(told, sender="library_book", weak=False, dispatch_uid="told")
    assert_type(post_invalidation.disconnect(told, sender="library_book"), bool)
    assert_type(post_invalidation.has_listeners("library_book"), bool)
    assert_type(told("library_book", db_alias="default"), None)


# Keys, and the cache


def query_key(compiler: Any) -> str:
    if "library_loan" in compiler.as_sql()[0]:
        raise UncachableQuery("is of the desk")
    return f"library:{get_query_cache_key(compiler)}"


def table_key(db_alias: str, table: str) -> str:
    key = get_table_cache_key(db_alias, table)
    assert_type(key, str)
    return f"library:{key}"


def refused(error: UncachableQuery) -> None:
    assert_type(error.reason, str)


def cache() -> None:
    assert_type(cachalot_caches.get_cache(), BaseCache)
    assert_type(cachalot_caches.get_cache("default"), BaseCache)


def jinja2_extension() -> None:
    assert_type(Jinja2Extension.tags, set[str])
