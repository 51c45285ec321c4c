"""The example site, and pages that no site should have."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from library.models import Author, Book
from site_example.urls import urlpatterns as site

PAGE = "<!doctype html><link rel=icon href=data:,><title>Page</title><body>{}</body>"


def many(request: HttpRequest) -> HttpResponse:
    """Run 300 queries, 100 of them different ones."""
    for _ in range(3):
        for pages in range(100):
            Book.objects.filter(pages=pages).count()
    return HttpResponse(PAGE.format("many"))


def failing(request: HttpRequest) -> HttpResponse:
    """Fail after a query."""
    raise RuntimeError(f"There are {Author.objects.count()} authors.")


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """Run a query of an asynchronous view."""
    return HttpResponse(PAGE.format(await Author.objects.acount()))


urlpatterns = [
    path("many/", many),
    path("failing/", failing),
    path("async/", asynchronous),
    # The site has these while DEBUG is on; the tests turn it on later.
    path("__debug__/", include("debug_toolbar.urls")),
    *site,
]
