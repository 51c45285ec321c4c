"""Keep whole pages until a table of the library changes."""

from collections.abc import Callable
from hashlib import sha256

from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from cachalot.api import get_last_invalidation


def cached_page(
    request: HttpRequest, get_response: Callable[[HttpRequest], HttpResponse]
) -> HttpResponse:
    """Return a page as it was kept, or as ``get_response`` gives it, which is kept then.

    The last invalidation is asked for first: what is written while a page is made leaves it under
    a key that nobody asks for again. Its tables are those of the whole app, none of which can be
    forgotten. Pages are the same for each visitor here, but for those with a form's token, which
    are not kept; and they may depend on the date.
    """
    last_invalidation = get_last_invalidation("library", cache_alias="default")
    text = f"{request.get_full_path()} {timezone.localdate()} {last_invalidation}"
    key = f"page:{sha256(text.encode()).hexdigest()}"
    content = caches["template_fragments"].get(key)
    if content is not None:
        return HttpResponse(content)
    response = get_response(request)
    has_token = request.META.get("CSRF_COOKIE_NEEDS_UPDATE", False)
    if request.method == "GET" and response.status_code == 200 and not has_token:
        caches["template_fragments"].set(key, response.content, 3600)
    return response
