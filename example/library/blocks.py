"""Keep whole pages until a table that they show changes."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from cachalot.api import cached_view


def whole_pages(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Return ``get_response`` with each page kept until one of the tables is written it has read.

    Nobody names the tables. Pages with a form's token are not kept. Some pages depend on the date,
    which no table tells.
    """

    @cached_view(key=lambda request: timezone.localdate())
    def whole_page(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    return whole_page
