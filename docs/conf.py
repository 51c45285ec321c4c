"""Sphinx's settings. The examples run on the library of ``example/``, in memory."""

import sys
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "example")]

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "cachalot", "library"],
    # Their tables are made as the models have them, which is faster.
    MIGRATION_MODULES=dict.fromkeys(["auth", "contenttypes", "library"]),
    SECRET_KEY="docs",
    USE_TZ=True,
)
django.setup()

import cachalot  # noqa: E402

project = "cachalot"
author = "The cachalot developers"
copyright = author  # noqa: A001
release = version = cachalot.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest"]
exclude_patterns = ["_build"]
nitpicky = True
# Docstrings say what an argument may be; the types name classes that no page describes.
autodoc_typehints = "none"

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = f"cachalot {release}"
html_static_path = ["_static"]
html_css_files = ["cachalot.css"]
html_show_sphinx = False
html_show_copyright = False

doctest_global_setup = """
import datetime

from django.core.cache import cache
from django.core.management import call_command
from django.db import connection

call_command("migrate", run_syncdb=True, verbosity=0)
call_command("flush", interactive=False, verbosity=0)
cache.clear()

from django.contrib.auth.models import User
from library.models import Author, Book, Tag

_day = datetime.date(2024, 1, 1)
whales = Tag.objects.create(name="whales", slug="whales")
melville = Author.objects.create(name="Herman Melville", born=1819)
for _title, _year, _pages in [("Moby Dick", 1851, 635), ("Typee", 1846, 325)]:
    _book = Book.objects.create(
        title=_title, published=_year, pages=_pages, price=9, added_on=_day
    )
    _book.authors.add(melville)
"""
doctest_global_cleanup = "connection.close()"
