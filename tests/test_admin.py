"""``cachalot.contrib.admin``: a page that shows what was counted, and buttons that invalidate."""

from __future__ import annotations

import html
import re
import time
from io import StringIO
from typing import Any
from unittest import mock

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client, modify_settings, override_settings
from django.urls import reverse
from django.utils import translation

from cachalot.api import cachalot_disabled, get_last_invalidation, invalidate
from cachalot.core import events
from cachalot.core.cache import door
from cachalot.core.outcomes import Outcome
from cachalot.core.statistics import Statistics, statistics
from tests.library.models import Author, Book
from tests.support import CacheTestCase, count_queries
from tests.test_stats import SharedLikeCache, read_of

PAGE = "/admin/cachalot_admin/cache/"
BUTTON = f"{PAGE}invalidate/"


class ReadableCache(SharedLikeCache):
    """One that answers reads alone."""

    def add(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("read-only")

    set = add


class BrokenCache(SharedLikeCache):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no <route> to host")

    set = add = get


def text_of(response: HttpResponse) -> str:
    content = re.sub(r"(?s)<(script|style|datalist).*?</\1>", " ", response.content.decode())
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


@modify_settings(
    INSTALLED_APPS={
        "append": ["django.contrib.admin", "django.contrib.staticfiles", "cachalot.contrib.admin"]
    }
)
@override_settings(
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF="tests.admin_urls",
    STATIC_URL="static/",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
class AdminTestCase(CacheTestCase):
    databases = {"default", "other"}
    # The apps of the settings differ from those of the suite.
    available_apps = None

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # The suite's database was made without the admin.
        from django.contrib.admin.models import LogEntry

        cls.LogEntry = LogEntry
        with connection.schema_editor() as editor:
            editor.create_model(LogEntry)

    @classmethod
    def tearDownClass(cls) -> None:
        with connection.schema_editor() as editor:
            editor.delete_model(cls.LogEntry)
        super().tearDownClass()

    def setUp(self) -> None:
        create_permissions(apps.get_app_config("cachalot_admin"), verbosity=0)
        self.shares("SharedLikeCache")
        self.log_in(User.objects.create_superuser("boss"))
        statistics.reset()
        self.addCleanup(statistics.reset)

    def shares(self, backend: str) -> None:
        """Have a cache in use that could be shared, and is empty."""
        SharedLikeCache.values.clear()
        module = "tests.test_stats" if backend == "SharedLikeCache" else "tests.test_admin"
        config = {"BACKEND": f"{module}.{backend}"}
        override = override_settings(CACHES={**caches.settings, "default": config})
        override.enable()
        self.addCleanup(override.disable)

    def log_in(self, user: User) -> None:
        self.client = Client()
        self.client.force_login(user)

    def log_in_with(self, *codenames: str) -> None:
        """Log in as somebody who may do this and nothing else in the admin."""
        user = User.objects.create_user("+".join(codenames) or "none", is_staff=True)
        permissions = Permission.objects.filter(codename__in=codenames)
        self.assertEqual(len(permissions), len(codenames))
        user.user_permissions.set(permissions)
        self.log_in(user)

    def page(self) -> HttpResponse:
        response = self.client.get(PAGE)
        self.assertEqual(response.status_code, 200)
        return response

    def press(self, **fields: Any) -> str:
        """Send a form, and return what the page then says."""
        response = self.client.post(BUTTON, fields, follow=True)
        self.assertEqual(response.redirect_chain, [(PAGE, 302)])
        (message,) = response.context["messages"]
        self.assertIn(html.escape(str(message)), response.content.decode())
        return f"{message.level_tag}: {message}"


class PermissionTests(AdminTestCase):
    def test_the_model_has_these_permissions_alone(self) -> None:
        names = Permission.objects.filter(content_type__app_label="cachalot_admin")
        self.assertEqual(
            sorted(names.values_list("codename", "name")),
            [("invalidate_cache", "Can invalidate cache"), ("view_cache", "Can view cache")],
        )

    def test_who_is_nobody_is_asked_to_log_in(self) -> None:
        for path, method in ((PAGE, Client().get), (BUTTON, Client().post)):
            response = method(path)
            self.assertEqual(response.status_code, 302)
            self.assertTrue(response["Location"].startswith("/admin/login/"))

    def test_who_may_not_look(self) -> None:
        self.log_in_with()
        self.assertEqual(self.client.get(PAGE).status_code, 403)
        self.assertNotIn("Cachalot", text_of(self.client.get("/admin/")))

    def test_who_may_look_has_no_buttons(self) -> None:
        self.log_in_with("view_cache")
        self.assertEqual(list(Book.objects.all()), [])
        page = self.page().content.decode()
        self.assertIn("library_book", page)
        self.assertNotIn(BUTTON, page)
        before = get_last_invalidation(Book)
        self.assertEqual(self.client.post(BUTTON, {"table": "library_book"}).status_code, 403)
        self.assertEqual(get_last_invalidation(Book), before)

    def test_who_may_invalidate_may_look(self) -> None:
        self.log_in_with("invalidate_cache")
        self.assertIn(f'action="{BUTTON}"', self.page().content.decode())
        self.assertEqual(self.press(table="library_book"), "success: Invalidated library_book.")

    def test_the_index_leads_there(self) -> None:
        self.log_in_with("view_cache")
        self.assertIn(f'href="{PAGE}"', self.client.get("/admin/").content.decode())
        self.assertEqual(reverse("admin:cachalot_admin_cache_changelist"), PAGE)

    def test_an_admin_site_of_a_project(self) -> None:
        page = PAGE.replace("admin", "own", 1)
        self.assertIn(f'action="{page}invalidate/"', self.client.get(page).content.decode())
        response = self.client.post(f"{page}invalidate/", {"table": "library_book"})
        self.assertRedirects(response, page)

    def test_a_form_of_another_site_does_nothing(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.get(username="boss"))
        before = get_last_invalidation(Book)
        self.assertEqual(client.post(BUTTON, {"table": "library_book"}).status_code, 403)
        self.assertEqual(get_last_invalidation(Book), before)
        (token, *_) = re.findall(
            r'csrfmiddlewaretoken" value="(\w+)"', client.get(PAGE).content.decode()
        )
        fields = {"table": "library_book", "csrfmiddlewaretoken": token}
        self.assertEqual(client.post(BUTTON, fields).status_code, 302)
        self.assertGreater(get_last_invalidation(Book), before)

    def test_a_link_does_nothing(self) -> None:
        self.assertEqual(self.client.get(BUTTON, {"table": "library_book"}).status_code, 405)


class InvalidationTests(AdminTestCase):
    def titles(self) -> int:
        """Return how many queries it takes to read the books."""
        return count_queries(lambda: [book.title for book in Book.objects.all()])[1]

    def setUp(self) -> None:
        super().setUp()
        self.titles()
        self.assertEqual(self.titles(), 0)

    def test_what_was_changed_from_outside_is_seen(self) -> None:
        for fields in (
            {"table": "library_book"},
            {"names": "library.Book"},
            {"names": "library"},
            {"names": "auth, library.Author library_book"},
            {"everything": "1"},
        ):
            with self.subTest(fields):
                self.titles()
                self.assertIn("success: Invalidated ", self.press(**fields))
                self.assertEqual(self.titles(), 1)

    def test_a_model_comes_with_its_relations(self) -> None:
        self.assertEqual(
            self.press(names="auth.Group"),
            "success: Invalidated auth_group, auth_group_permissions.",
        )
        self.assertEqual(self.press(table="auth_group"), "success: Invalidated auth_group.")

    def test_wrong_names(self) -> None:
        for names, message in (
            ("Book", "'Book' is neither a model ('app.Model'), nor a table, nor an application."),
            ("library.Book library.Boook", "The app 'library' has no model 'Boook'; its models"),
            ("library_boook", "Did you mean 'library_book'?"),
        ):
            with self.subTest(names):
                told = self.press(names=names)
                self.assertTrue(told.startswith("error: Nothing was invalidated: "), told)
                self.assertIn(message, told)
                self.assertEqual(self.titles(), 0)

    def test_markup_in_a_name_is_escaped(self) -> None:
        response = self.client.post(BUTTON, {"names": "<script>"}, follow=True)
        self.assertIn("&#x27;&lt;script&gt;&#x27; is neither", response.content.decode())

    def test_an_app_without_tables(self) -> None:
        self.assertEqual(
            self.press(names="messages"),
            "warning: Nothing was invalidated: there is no table of messages.",
        )

    def test_no_name_is_not_everything(self) -> None:
        for fields in ({}, {"names": " , "}):
            self.assertIn("error: Nothing was named", self.press(**fields))
        self.assertEqual(self.titles(), 0)

    def test_the_history_tells_who_did_what(self) -> None:
        self.log_in_with("invalidate_cache")
        self.press(table="library_book")
        entry = self.LogEntry.objects.latest("pk")
        self.assertEqual(
            (entry.user.username, entry.object_repr, entry.change_message, entry.get_admin_url()),
            ("invalidate_cache", "default", "Invalidated library_book.", None),
        )
        self.assertEqual(entry.content_type.natural_key(), ("cachalot_admin", "cache"))

    def test_a_cache_that_takes_nothing(self) -> None:
        self.shares("ReadableCache")
        with self.assertLogs("cachalot", "WARNING"):
            told = self.press(table="library_book")
        self.assertEqual(
            told,
            "warning: Invalidated library_book. It takes effect in 'default' as soon as the cache "
            "answers again.",
        )
        door._guards.clear()


class FigureTests(AdminTestCase):
    def use(self) -> None:
        """Three hits, one miss, one refusal; and an invalidation of two tables."""
        for _ in range(4):
            list(Book.objects.all())
        with cachalot_disabled():
            list(Book.objects.all())
        invalidate(Book, Author, db_alias="default")

    def another_process(self, misses: int, seconds_ago: float = 0) -> None:
        """Publish the numbers of a process that has done nothing but miss."""
        process = Statistics(lambda: time.time() - seconds_ago)
        process.name = "elsewhere:1"
        for _ in range(misses):
            process.note(read_of(Outcome.MISS, "library_book"))
        process.publish()

    def row(self, name: str) -> str:
        """Return the texts of a table's or a process's row."""
        for row in re.findall(r"<tr>.*?</tr>", self.page().content.decode(), re.DOTALL):
            text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", row)).split())
            if text.startswith(f"{name} "):
                return text
        raise AssertionError(f"no row of {name}")

    def test_what_one_process_has_done(self) -> None:
        self.use()
        self.assertRegex(
            self.row("library_book"),
            r"^library_book library.Book default, mirror 75\.0 % 3 1 1 1 [\d.]+ s ago Invalidate$",
        )
        self.assertRegex(
            self.row("library_author"),
            r"^library_author library.Author default, mirror – 0 0 0 1 [\d.]+ s ago Invalidate$",
        )
        self.assertRegex(self.row(statistics.name), r" answers now .* [\d.]+ bytes \d+ result")
        self.assertIn(
            "Not cached, because Times Reason 1 Caching is switched off by cachalot_disabled()",
            text_of(self.page()),
        )

    def test_processes_are_added_up(self) -> None:
        self.use()
        self.another_process(misses=3)
        self.assertRegex(self.row("library_book"), r" 42\.9 % 3 4 1 1 ")
        self.assertRegex(self.row("elsewhere:1"), r" 0\.0 % 0 3 0 0 ")
        self.assertRegex(text_of(self.page()), r"Since .*?, 2 processes have counted this;")

    def test_it_counts_while_the_app_is_installed(self) -> None:
        self.assertIn(statistics.note, events.listeners)
        with modify_settings(INSTALLED_APPS={"remove": ["cachalot.contrib.admin"]}):
            self.assertEqual(events.listeners, ())
        self.assertIn(statistics.note, events.listeners)

    def test_the_last_hour(self) -> None:
        now = time.time()
        with mock.patch("time.time", return_value=now):
            self.another_process(misses=2, seconds_ago=60)
            self.another_process(misses=9, seconds_ago=3600)
            page = self.page().content.decode()
        heights = re.findall(r'cachalot-misses" x="(\d+)" width="9" y="[\d.]+" height="', page)
        # The minute before this one, and this one: that of the page's own reads.
        self.assertEqual(heights, ["580", "590"])
        self.assertIn("0 hits, 2 misses, 0 not cached</title>", page)

    def test_numbers_of_a_plot_are_no_matter_of_language(self) -> None:
        self.use()
        with override_settings(LANGUAGE_CODE="de"), translation.override("de"):
            page = self.page().content.decode()
        self.assertIn("75,0 %", page)
        for value in re.findall(r'<rect[^>]* width="([^"]+)"', page):
            float(value)

    def test_nothing_has_been_counted(self) -> None:
        with modify_settings(INSTALLED_APPS={"remove": ["cachalot.contrib.admin"]}):
            from cachalot.contrib.admin.figures import figures

            SharedLikeCache.values.clear()
            with mock.patch.object(Statistics, "publish"):
                found = figures()
        self.assertEqual(
            (found["processes"], found["tables"], found["since"], found["total"]["rate"]),
            ([], [], None, None),
        )

    def test_a_cache_that_is_not_shared(self) -> None:
        with override_settings(CACHALOT_CACHE="second"):
            self.use()
            text = text_of(self.page())
            self.assertIn(
                "The cache “second” is not shared between processes: these are the numbers of the "
                "process that answers alone.",
                text,
            )
            self.assertRegex(self.row("library_book"), r" 75\.0 % 3 1 1 1 ")

    def test_a_cache_that_does_not_answer(self) -> None:
        self.use()
        self.shares("BrokenCache")
        with self.assertLogs("cachalot", "WARNING"):
            page = self.page()
        self.assertIn(
            "The cache “default” does not answer: ConnectionError: no <route> to host. These are "
            "the numbers of the process that answers alone.",
            text_of(page),
        )
        door._guards.clear()

    def test_no_table_of_its_own(self) -> None:
        """Other tools find nothing to ask, and nothing to make."""
        output = StringIO()
        call_command("dumpdata", exclude=["library", "shapes"], stdout=output)
        self.assertNotIn('"model": "cachalot_admin.', output.getvalue())
        output = StringIO()
        call_command(
            "makemigrations", "cachalot_admin", check_changes=True, dry_run=True, stdout=output
        )
        self.assertIn("No changes detected", output.getvalue())
