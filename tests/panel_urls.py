"""The pages on which tests/test_panel.py looks at the toolbar."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template import Context, Origin, Template
from django.urls import include, path

from tests.library.models import Author, Book, Tag


def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<body></body>")


def books(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"<body>{[book.title for book in Book.objects.all()]}</body>")


async def async_books(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"<body>{[book.title async for book in Book.objects.all()]}</body>")


def busy(request: HttpRequest) -> HttpResponse:
    """Two misses, two hits, one read that is not cached; and a write of two tables."""
    for _ in range(3):
        list(Book.objects.filter(title="<Moby>"))  # three times
    list(Author.objects.order_by("?"))
    list(Tag.objects.using("other").values("name"))
    with transaction.atomic():
        Book.objects.update(pages=3)
        Author.objects.update(name="")
    return HttpResponse("<body></body>")


def tag(request: HttpRequest, key: int) -> HttpResponse:
    return HttpResponse(f"<body>{Tag.objects.get(pk=key).name}</body>")


def templated(request: HttpRequest) -> HttpResponse:
    origin = Origin("shelf.html", template_name="shelf.html")
    template = Template(
        "<body>\n{% for book in books %}{{ book.title }}{% endfor %}</body>", origin
    )
    return HttpResponse(template.render(Context({"books": Book.objects.all()})))


urlpatterns = [
    path("async/", async_books),
    path("busy/", busy),
    path("tag/<int:key>/", tag),
    path("templated/", templated),
    path("empty/", empty),
    path("books/", books),
    path("__debug__/", include("debug_toolbar.urls")),
]
