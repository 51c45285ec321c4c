"""The page, and what its buttons do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.text import get_text_list
from django.views.decorators.http import require_POST

from cachalot.api import invalidate
from cachalot.contrib.admin.figures import figures
from cachalot.contrib.admin.models import Cache
from cachalot.core.cache.door import guard_of
from cachalot.core.schema.tables import display_name
from cachalot.names import tables_with_relations_called


@admin.register(Cache)
class CacheAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows what all processes have counted. Who may invalidate may look as well."""

    def get_urls(self) -> list[URLPattern]:
        """Route the page and its buttons; the model has no rows to list, add or change."""
        name = "cachalot_admin_cache"
        return [
            path("", self.admin_site.admin_view(self.page), name=f"{name}_changelist"),
            path(
                "invalidate/",
                self.admin_site.admin_view(self.invalidate),
                name=f"{name}_invalidate",
            ),
        ]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_invalidate_permission(request) or request.user.has_perm(
            "cachalot_admin.view_cache"
        )

    def has_invalidate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("cachalot_admin.invalidate_cache")

    def page(self, request: HttpRequest) -> HttpResponse:
        """Show what is known now. Raise ``PermissionDenied``."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **figures(),
            "title": f"Cache {Cache()}",
            "opts": self.opts,
            "may_invalidate": self.has_invalidate_permission(request),
            "action": reverse(
                "admin:cachalot_admin_cache_invalidate", current_app=self.admin_site.name
            ),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "cachalot_admin/cache.html", context)

    @method_decorator(require_POST)
    def invalidate(self, request: HttpRequest) -> HttpResponse:
        """Invalidate what was sent: ``table``, ``names`` or ``everything``.

        ``table`` is one name as it is; ``names`` are several, with blanks or commas between them.
        Raise ``PermissionDenied``.
        """
        if not self.has_invalidate_permission(request):
            raise PermissionDenied
        names = request.POST.getlist("table")
        names += request.POST.get("names", "").replace(",", " ").split()
        if names:
            self._invalidate_named(request, names)
        elif "everything" in request.POST:
            invalidate()
            self._tell(request, "Invalidated everything.")
        else:
            self.message_user(
                request,
                "Nothing was named, and nothing was invalidated. Name models ('app.Model'), "
                "tables or applications, or choose 'Invalidate everything'.",
                messages.ERROR,
            )
        page = "admin:cachalot_admin_cache_changelist"
        return redirect(reverse(page, current_app=self.admin_site.name))

    def _invalidate_named(self, request: HttpRequest, names: Iterable[str]) -> None:
        try:
            tables = frozenset().union(*map(tables_with_relations_called, names))
        except LookupError as error:
            self.message_user(request, f"Nothing was invalidated: {error}", messages.ERROR)
            return
        if not tables:
            self.message_user(
                request,
                f"Nothing was invalidated: there is no table of {', '.join(names)}.",
                messages.WARNING,
            )
            return
        invalidate(*tables)
        self._tell(request, f"Invalidated {', '.join(sorted(map(display_name, tables)))}.")

    def _tell(self, request: HttpRequest, done: str) -> None:
        """Tell what was done, here and in the admin's history."""
        self.log_change(request, Cache(), done)
        if owing := [alias for alias in settings.CACHES if guard_of(alias).debts.owed]:
            waiting = get_text_list(list(map(repr, owing)), "and")
            done += f" It takes effect in {waiting} as soon as the cache answers again."
            self.message_user(request, done, messages.WARNING)
        else:
            self.message_user(request, done, messages.SUCCESS)
