"""Make the model known to Django: no table, but permissions."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.contenttypes.models import ContentTypeManager
from django.db import migrations
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    initial = True

    # Whichever it is: some projects have that app without migrations.
    dependencies: ClassVar = [("contenttypes", "__first__")]

    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name="Cache",
            fields=[],
            options={
                "verbose_name": "cache",
                "verbose_name_plural": "cache",
                "proxy": True,
                "default_permissions": ("view", "invalidate"),
                "indexes": [],
                "constraints": [],
            },
            bases=("contenttypes.contenttype",),
            managers=[("objects", ContentTypeManager())],
        ),
    ]
