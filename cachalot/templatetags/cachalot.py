"""The Django template tag."""

from __future__ import annotations

from django.template import Library

from cachalot.api import get_last_invalidation

register = Library()

# {% get_last_invalidation 'auth.User' cache_alias='default' as last_invalidation %}: the function
# itself, with all its arguments.
register.simple_tag(get_last_invalidation)
