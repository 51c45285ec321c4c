"""The admin on which tests/test_admin.py looks at the page, and one that a project has made."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from cachalot.contrib.admin.admin import CacheAdmin
from cachalot.contrib.admin.models import Cache

own_site = admin.AdminSite("own")
own_site.register(Cache, CacheAdmin)

urlpatterns = [path("admin/", admin.site.urls), path("own/", own_site.urls)]
