"""Give Jinja2 templates the functions that Django's templates have as tags."""

from typing import Any

from django.templatetags.static import static
from django.urls import reverse
from jinja2 import Environment


def environment(**options: Any) -> Environment:
    """Return the Jinja2 environment of the site, with ``static()`` and ``url()``."""
    env = Environment(**options)
    env.globals.update(static=static, url=reverse)
    return env
