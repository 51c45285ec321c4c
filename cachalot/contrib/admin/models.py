"""What the page's permissions are permissions of."""

from __future__ import annotations

from django.contrib.contenttypes.models import ContentType

from cachalot.settings import cachalot_settings


class Cache(ContentType):
    """The cache in use. It has no rows: nothing is ever asked of it.

    Django's admin knows pages by their models, and users have permissions on models. A model that
    is unmanaged would be one more table, which ``dumpdata`` asks and which is not there; a proxy
    has none of its own.
    """

    class Meta:
        proxy = True
        default_permissions = ("view", "invalidate")
        verbose_name = "cache"
        verbose_name_plural = "cache"

    def __str__(self) -> str:
        return str(cachalot_settings.CACHALOT_CACHE)
