"""The documentation says what the code does, of everything that it lists."""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.checks import Error
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.db import connection
from django.http import HttpResponse
from django.template import Context, Template
from django.test import RequestFactory, SimpleTestCase, override_settings
from django.utils.module_loading import import_string

from cachalot import api, utils
from cachalot.api import cachalot_disabled, recorded
from cachalot.checks.messages import DEPLOY_MESSAGES, MESSAGES, as_message
from cachalot.checks.values import check_values
from cachalot.settings import DEFAULTS
from cachalot.signals import post_invalidation
from tests.library.models import Book, Tag
from tests.support import CacheTestCase, count_queries

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.rst"))}
README = (ROOT / "README.rst").read_text(encoding="utf-8")

#: Of the suite and not of the app.
NO_SETTINGS = re.compile(r"CACHALOT_TEST_\w+")


def blocks_of(page: str, language: str) -> list[str]:
    """Return the code blocks of a page."""
    found = re.findall(
        rf"^ *\.\. code-block:: {re.escape(language)}\n\n((?:(?: +.*)?\n)+)", PAGES[page], re.M
    )
    return [textwrap.dedent(block) for block in found]


def documented_settings() -> dict[str, dict[str, str]]:
    """Map each setting that has a section to the fields of the section."""
    sections = re.findall(r"^``(CACHALOT_\w+)``\n~+\n\n((?::.+\n)+)", PAGES["settings"], re.M)
    fields = {name: dict(re.findall(r"^:(.+?): (.+)$", text, re.M)) for name, text in sections}
    assert len(fields) == len(sections), "a setting has two sections"
    return fields


class SettingsTests(SimpleTestCase):
    def test_each_has_a_section(self) -> None:
        self.assertEqual(documented_settings().keys(), DEFAULTS.keys())

    def test_defaults(self) -> None:
        for name, fields in documented_settings().items():
            default = ast.literal_eval(fields["Default"].strip("`"))
            # 0 and 0.0, and 1 and True, are equal.
            self.assertEqual(repr(default), repr(DEFAULTS[name]), name)

    def test_fields(self) -> None:
        for name, fields in documented_settings().items():
            self.assertEqual([*fields], ["Default", "Value", "Since", "After a change"], name)
            self.assertIn(fields["Since"], {"django-cachalot", "cachalot 3.0"}, name)

    def test_no_page_names_one_that_does_not_exist(self) -> None:
        for page, text in PAGES.items():
            named = set(re.findall(r"\bCACHALOT_[A-Z_]+\b", text))
            unknown = {name for name in named - DEFAULTS.keys() if not NO_SETTINGS.match(name)}
            self.assertEqual(unknown, set(), page)

    def test_examples_are_valid(self) -> None:
        shown = set()
        for block in blocks_of("settings", "python"):
            scope: dict[str, Any] = {}
            exec(compile(block, "settings.rst", "exec"), scope)
            values = {name: value for name, value in scope.items() if name in DEFAULTS}
            if "CACHALOT_REPLICAS" in values:
                (replica,) = values["CACHALOT_REPLICAS"].values()
                values["CACHALOT_REPLICAS"] = {"other": replica}  # an alias of the suite
            with override_settings(**values):
                self.assertEqual(check_values(), [])
            shown |= values.keys()
        maps = {name for name, default in DEFAULTS.items() if default == {}}
        self.assertLessEqual(maps, shown)


class ChangedSettingsTests(CacheTestCase):
    #: Another value of each setting whose change asks for nothing.
    OTHERS = {
        "CACHALOT_ENABLED": False,
        "CACHALOT_DATABASES": ["other"],
        "CACHALOT_UNCACHABLE_TABLES": ["library_book"],
        "CACHALOT_UNCACHABLE_APPS": ["library"],
        "CACHALOT_ONLY_CACHABLE_TABLES": ["library_tag"],
        "CACHALOT_ONLY_CACHABLE_APPS": ["auth"],
        "CACHALOT_CACHE_RANDOM": True,
        "CACHALOT_CACHE_ITERATORS": False,
        "CACHALOT_FINAL_SQL_CHECK": True,
        "CACHALOT_ADDITIONAL_TABLES": ["library_legacy"],
        "CACHALOT_TIMEOUT": 0,
        "CACHALOT_CACHE_ERRORS": "raise",
        "CACHALOT_LOCAL_SIZE": 0,
        "CACHALOT_MAX_STALENESS": 60.0,
        "CACHALOT_STATS": True,
        "CACHALOT_ADAPTIVE": False,
        "CACHALOT_WAIT_ABOVE": None,
    }

    def test_nothing_is_to_be_done_where_the_page_says_so(self) -> None:
        documented = {
            name
            for name, fields in documented_settings().items()
            if fields["After a change"].startswith("nothing")
        }
        self.assertEqual(documented, self.OTHERS.keys())
        book = Book.objects.create(title="Moby Dick")

        def titles() -> list[str]:
            return list(Book.objects.values_list("title", flat=True))

        for name, value in self.OTHERS.items():
            with self.subTest(name):
                titles()
                with override_settings(**{name: value}):
                    titles()
                    book.title = name
                    book.save()
                    self.assertEqual(titles(), [name])
                    book.title = f"after {name}"
                    book.save()
                self.assertEqual(titles(), [f"after {name}"])

    def test_the_command_is_needed_and_enough_where_the_page_says_so(self) -> None:
        book = Book.objects.create(title="Moby Dick")

        def titles() -> list[str]:
            return list(Book.objects.values_list("title", flat=True))

        def rename_raw() -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE library_book SET title = 'Typee'")

        def rename() -> None:
            Book.objects.filter(pk=book.pk).update(title="Typee")

        def write_tags() -> None:
            # As if a trigger had written library_book.
            with mock.patch("cachalot.core.writing.writes.is_tracked", return_value=False):
                rename()
            Tag.objects.create(name="whales")

        for name, while_written, then, write in (
            ("CACHALOT_CACHE", "default", "second", rename),
            ("CACHALOT_INVALIDATE_RAW", False, True, rename_raw),
            (
                "CACHALOT_DEPENDENT_TABLES",
                {},
                {"library_tag": ["library_book"]},
                write_tags,
            ),
        ):
            with self.subTest(name):
                self.assertEqual(
                    documented_settings()[name]["After a change"], "``invalidate_cachalot``"
                )
                Book.objects.update(title="Moby Dick")
                with override_settings(**{name: then}):
                    call_command("invalidate_cachalot", verbosity=0)
                    self.assertEqual(titles(), ["Moby Dick"])
                with override_settings(**{name: while_written}):
                    write()
                with override_settings(**{name: then}):
                    self.assertEqual(titles(), ["Moby Dick"])
                    call_command("invalidate_cachalot", verbosity=0)
                    self.assertEqual(titles(), ["Typee"])


class CommandTests(SimpleTestCase):
    commands = {
        name: load_command_class("cachalot", name)
        for name, app in get_commands().items()
        if app == "cachalot"
    }

    def parser_of(self, name: str) -> argparse.ArgumentParser:
        return self.commands[name].create_parser("manage.py", name)

    def options_of(self, name: str) -> list[str]:
        """Return the options as a page should show them, without those of every command."""
        common = {
            option
            for action in BaseCommand().create_parser("manage.py", "any")._actions
            for option in action.option_strings
        }
        shown = []
        for action in self.parser_of(name)._actions:
            value = str(action.metavar or action.dest)
            if not action.option_strings:
                shown.append(value)
            elif common.isdisjoint(action.option_strings):
                suffix = f" [{value}]" if action.nargs == "?" else f" {value}"
                if action.nargs == 0:
                    suffix = ""
                shown.append(", ".join(option + suffix for option in action.option_strings))
        return sorted(shown)

    def test_each_has_a_section(self) -> None:
        programs = re.findall(r"^\.\. program:: (\w+)$", PAGES["commands"], re.M)
        self.assertEqual(sorted(programs), sorted(self.commands))

    def test_options(self) -> None:
        for section in re.split(r"^\.\. program:: ", PAGES["commands"], flags=re.M)[1:]:
            name = section.split()[0]
            documented = re.findall(r"^\.\. option:: (.+)$", section, re.M)
            self.assertEqual(sorted(documented), self.options_of(name), name)

    def test_examples_are_understood(self) -> None:
        run = set()
        for page in PAGES:
            for line in "".join(blocks_of(page, "console")).splitlines():
                words = shlex.split(line, comments=True)
                if words[:3] != ["$", "python", "manage.py"] or words[3] not in self.commands:
                    continue
                # An unknown option ends the process, with its usage.
                self.parser_of(words[3]).parse_args(words[4:])
                run.add(words[3])
        self.assertEqual(run, self.commands.keys())


class CheckTests(SimpleTestCase):
    def documented(self) -> dict[str, list[str]]:
        """Map each section of the page to its ids."""
        parts = re.split(r"^(\w[\w ]+)\n-+$", PAGES["checks"], flags=re.M)[1:]
        return {
            heading: re.findall(r"^``(cachalot\.[A-Z]\d+)``$", text, re.M)
            for heading, text in zip(parts[::2], parts[1::2], strict=True)
        }

    def test_ids(self) -> None:
        def of_level(level: str) -> list[str]:
            return sorted(name for name in MESSAGES if name.startswith(f"cachalot.{level}"))

        self.assertEqual(
            self.documented(),
            {
                "Errors": of_level("E"),
                "Warnings": of_level("W"),
                "Deployment": sorted(DEPLOY_MESSAGES),
            },
        )
        self.assertIsInstance(as_message("cachalot.E000", "", ""), Error)

    def test_no_page_names_one_that_does_not_exist(self) -> None:
        known = MESSAGES.keys() | DEPLOY_MESSAGES.keys()
        for page, text in PAGES.items():
            self.assertEqual(set(re.findall(r"\bcachalot\.[A-Z]\d+\b", text)) - known, set(), page)

    def test_settings_are_named_where_they_are_checked(self) -> None:
        checked = {
            name: set(re.findall(r"\bCACHALOT_[A-Z_]+\b", " ".join(message)))
            for name, message in {**MESSAGES, **DEPLOY_MESSAGES}.items()
        }
        for setting in DEFAULTS.keys() - {"CACHALOT_CACHE", "CACHALOT_DATABASES"}:
            with override_settings(**{setting: object()}):
                (message,) = check_values()
            checked[str(message.id)].add(setting)
        for name, explanation in re.findall(
            r"^``(cachalot\.[A-Z]\d+)``\n((?: {4}.+\n)+)", PAGES["checks"], re.M
        ):
            # Two ids concern all switches and all sequences of names.
            if len(checked[name]) < 3:
                self.assertLessEqual(checked[name], set(re.findall(r"\bCACHALOT_\w+", explanation)))


class ApiTests(SimpleTestCase):
    def test_public_names(self) -> None:
        documented: dict[str, list[str]] = {}
        module = ""
        for directive, name in re.findall(
            r"^\.\. (py:module|auto\w+):: ([\w.]+)", PAGES["api"], re.M
        ):
            if directive == "py:module":
                module = name
            else:
                documented.setdefault(module, []).append(name)
        self.assertEqual(
            {module: sorted(names) for module, names in documented.items()},
            {module.__name__: sorted(module.__all__) for module in (api, utils)},
        )

    def test_what_the_pages_refer_to_exists(self) -> None:
        paths = re.findall(r"^\.\. py:data:: ([\w.]+)", PAGES["api"], re.M)
        for text in [*PAGES.values(), README]:
            paths += re.findall(r"``(cachalot\.(?!core\b)[a-z]\w*\.[\w.]+)(?:\(\))?``", text)
        self.assertGreater(len(paths), 5)
        for path in paths:
            try:
                import_module(path)
            except ImportError:
                import_string(path)


class SignalTests(CacheTestCase):
    def test_arguments(self) -> None:
        (section,) = re.findall(
            r"py:data:: cachalot\.signals\.post_invalidation\n(.+?)\n   >>>", PAGES["api"], re.S
        )
        documented = re.findall(r"^   ``(\w+)``$", section, re.M)
        sent: list[dict[str, Any]] = []

        def receive(**kwargs: Any) -> None:
            sent.append(kwargs)

        post_invalidation.connect(receive)
        self.addCleanup(post_invalidation.disconnect, receive)
        Book.objects.create(title="Moby Dick")
        # Django itself adds "signal".
        self.assertEqual({*sent[0]} - {"signal"}, {*documented})
        # Once for each alias of the database.
        self.assertEqual([kwargs["db_alias"] for kwargs in sent], ["default", "mirror"])
        self.assertEqual({kwargs["sender"] for kwargs in sent}, {Book._meta.db_table})


class TemplateTests(CacheTestCase):
    def assertFollowsItsTables(self, render: Any) -> None:
        book = Book.objects.create(title="Moby Dick")

        def rendered() -> tuple[str, int]:
            with cachalot_disabled():
                content, queries = count_queries(lambda: render(books=Book.objects.all()))
            return re.sub(r"\s+", " ", content).strip(), queries

        self.assertEqual(rendered(), ("<p>Moby Dick</p>", 2))
        self.assertEqual(rendered(), ("<p>Moby Dick</p>", 0))
        tag = Tag.objects.create(name="whale")
        self.assertEqual(rendered(), ("<p>Moby Dick</p>", 2))
        book.tags.add(tag)
        self.assertEqual(rendered(), ("<p>Moby Dick · whale</p>", 2))
        tag.name = "whales"
        tag.save()
        book.title = "The Whale"
        self.assertEqual(rendered(), ("<p>Moby Dick · whales</p>", 2))
        book.save()
        self.assertEqual(rendered(), ("<p>The Whale · whales</p>", 2))
        self.assertEqual(rendered()[1], 0)

    def test_django(self) -> None:
        (example,) = blocks_of("templates", "html+django")
        template = Template(example)
        self.assertFollowsItsTables(lambda **context: template.render(Context(context)))

    def test_jinja2(self) -> None:
        jinja2 = pytest.importorskip("jinja2")
        (configuration,) = blocks_of("templates", "python")
        scope: dict[str, Any] = {}
        exec(compile(configuration, "templates.rst", "exec"), scope)
        (backend,) = scope["TEMPLATES"]
        environment = jinja2.Environment(**backend["OPTIONS"])
        (example,) = blocks_of("templates", "html+jinja")
        self.assertFollowsItsTables(environment.from_string(example).render)

    def test_keywords_of_the_statement(self) -> None:
        jinja2ext = pytest.importorskip("cachalot.jinja2ext")
        documented = re.findall(r"^``(\w+)``$", PAGES["templates"], re.M)
        self.assertEqual(sorted(documented), sorted(jinja2ext._KEYWORDS))


class CachingCodeTests(CacheTestCase):
    def assertFollows(self, render: Any) -> None:
        Book.objects.create(title="Moby Dick")

        def rendered() -> tuple[str, int]:
            with recorded() as reads:
                content = render(books=Book.objects.all(), genre="sea")
            return re.sub(r"\s+", " ", content).strip(), len(reads)

        self.assertEqual(rendered(), ("<p>Moby Dick</p>", 2))
        self.assertEqual(rendered(), ("<p>Moby Dick</p>", 0))
        Book.objects.get().tags.add(Tag.objects.create(name="whale"))
        self.assertEqual(rendered()[0], "<p>Moby Dick · whale</p>")
        self.assertEqual(rendered(), ("<p>Moby Dick · whale</p>", 0))

    def test_django(self) -> None:
        (example,) = blocks_of("caching-code", "html+django")
        self.assertFollows(lambda **names: Template(example).render(Context(names)))

    def test_jinja2(self) -> None:
        jinja2 = pytest.importorskip("jinja2")
        environment = jinja2.Environment(extensions=["cachalot.jinja2ext.cachalot"])
        (example,) = blocks_of("caching-code", "html+jinja")
        self.assertFollows(environment.from_string(example).render)

    def test_views(self) -> None:
        (example,) = blocks_of("caching-code", "python")
        scope: dict[str, Any] = {"Book": Book}
        exec(compile(example, "caching-code.rst", "exec"), scope)
        response = HttpResponse()
        with mock.patch.dict(
            scope, render=lambda request, name, context: HttpResponse(str(len(context["books"])))
        ):
            for _ in range(2):
                Book.objects.create(title="Moby Dick")
                with recorded() as reads:
                    for _ in range(2):
                        response = scope["book_list"](RequestFactory().get("/"))
                self.assertEqual(len(reads), 1)
        self.assertEqual(response.content, b"2")


#: Runs every example with a prompt as Sphinx does, without Sphinx.
RUN_EXAMPLES = """
import doctest, pathlib, sys

docs = pathlib.Path(sys.argv[1])
conf = {"__file__": str(docs / "conf.py")}
exec(compile((docs / "conf.py").read_text(), conf["__file__"], "exec"), conf)
flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
for page in sorted(docs.glob("*.rst")):
    scope = {}
    exec(conf["doctest_global_setup"], scope)
    test = doctest.DocTestParser().get_doctest(page.read_text(), scope, page.stem, str(page), 0)
    result = doctest.DocTestRunner(optionflags=flags).run(test, clear_globs=False)
    print(page.stem, result.attempted, result.failed)
    exec(conf["doctest_global_cleanup"], scope)
"""


class ExampleTests(SimpleTestCase):
    def test_examples_run(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"}
        finished = subprocess.run(
            [sys.executable, "-c", RUN_EXAMPLES, str(DOCS)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(finished.returncode, 0, finished.stderr)
        lines = [line.split() for line in finished.stdout.splitlines()[-len(PAGES) :]]
        self.assertEqual([line[0] for line in lines], [*PAGES], finished.stdout)
        self.assertEqual({line[2] for line in lines}, {"0"}, finished.stdout)
        attempted = {page: int(number) for page, number, _ in lines}
        for page, text in PAGES.items():
            self.assertEqual(attempted[page], len(re.findall(r"^ *>>> ", text, re.M)), page)


class VersionTests(SimpleTestCase):
    def test_the_quick_start_names_what_the_readme_names(self) -> None:
        # Which is compared with the metadata and the environments in test_layout.
        (supported,) = re.findall(r"Supported versions\n-+\n\n((?:\* .+\n)+)", README)
        self.assertIn(f"What you need\n-------------\n\n{supported}\n", PAGES["quickstart"])
