"""The pages on which tests/test_panel.py looks at the toolbar."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.library.models import Book


def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<body></body>")


def books(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"<body>{[book.title for book in Book.objects.all()]}</body>")


urlpatterns = [
    path("empty/", empty),
    path("books/", books),
    path("__debug__/", include("debug_toolbar.urls")),
]
