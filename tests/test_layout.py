"""What holds the tree together: imports that point one way, documents that agree with the code."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cachalot
import runtests
from cachalot.api import cachalot_disabled
from cachalot.checks.versions import TESTED_DJANGO
from tests import settings
from tests.library.models import Author, Book
from tests.support import CacheTestCase, count_queries

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cachalot"
README = (ROOT / "README.rst").read_text()

#: What a module may import besides Django, the standard library and cachalot.
OPTIONAL = {
    "cachalot.core.cache.raw_redis": {"redis"},
    "cachalot.core.cache.raw_redis_cluster": {"redis"},
    "cachalot.core.cache.redis_marks": {"redis"},
    "cachalot.core.cache.redis_packets": {"redis"},
    "cachalot.contrib.redis_cluster": {"redis"},
    "cachalot.core.cache.raw_django_redis": {"django_redis", "redis"},
    "cachalot.panels": {"debug_toolbar"},
    "cachalot.toolbar": {"debug_toolbar"},
    "cachalot.jinja2ext": {"jinja2"},
    "cachalot.contrib.opentelemetry": {"opentelemetry"},
    "cachalot.contrib.prometheus": {"prometheus_client"},
}
#: From the bottom to the top: what stands later may import what stands earlier. Everything else is
#: the face, which may import all of it.
FLOORS = (
    "cachalot",
    "cachalot.core.locks",
    "cachalot.rules",
    "cachalot.settings",
    "cachalot.signals",
    "cachalot.core",
    "cachalot.core.outcomes",
    "cachalot.core.collecting",
    "cachalot.core.events",
    "cachalot.core.switch",
    "cachalot.core.sql",
    "cachalot.core.cache",
    "cachalot.core.connection",
    "cachalot.core.schema",
    "cachalot.core.reading",
    "cachalot.core.writing",
    "cachalot.core.blocks",
    "cachalot.core.statistics",
    "cachalot.core.querysets",
    "cachalot.core.patches",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def targets(node: ast.AST) -> list[str]:
    """Return the modules that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.module is not None
        return [
            name if (name := f"{node.module}.{alias.name}") in MODULES else node.module
            for alias in node.names
        ]
    return []


def imports_of(module: str) -> Iterator[str]:
    for node in ast.walk(MODULES[module]):
        yield from targets(node)


def floor(module: str) -> int:
    """Return the place of a module's folder, or of itself, in ``FLOORS``."""
    while module not in FLOORS and module.startswith("cachalot.core."):
        module = module.rpartition(".")[0]
    return FLOORS.index(module) if module in FLOORS else len(FLOORS)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# Imports


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    upwards = {
        target
        for target in imports_of(module)
        if target.partition(".")[0] == "cachalot" and floor(target) > floor(module)
    }
    assert not upwards


def test_imports_go_in_no_circle() -> None:
    path: list[str] = []
    finished: set[str] = set()

    def visit(module: str) -> None:
        assert module not in path, f"a circle: {' → '.join([*path, module])}"
        if module in finished:
            return
        path.append(module)
        for target in imports_of(module):
            if target in MODULES:
                visit(target)
        finished.add(path.pop())

    for module in MODULES:
        visit(module)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_are_absolute(module: str) -> None:
    assert not [
        node.module
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.ImportFrom) and node.level
    ]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_but_django_is_required(module: str) -> None:
    # Django itself requires asgiref.
    known = {"cachalot", "django", "asgiref", *sys.stdlib_module_names, *OPTIONAL.get(module, ())}
    assert {target.partition(".")[0] for target in imports_of(module)} <= known


@pytest.mark.parametrize("module", sorted(MODULES))
def test_functions_import_optional_packages_alone(module: str) -> None:
    inside = {
        target.partition(".")[0]
        for function in ast.walk(MODULES[module])
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        for target in targets(node)
    }
    assert inside <= OPTIONAL.get(module, set())


def test_optional_modules_are_imported_by_none_that_needs_less() -> None:
    assert not {
        (module, target)
        for module in MODULES
        for target in imports_of(module)
        if not OPTIONAL.get(target, set()) <= OPTIONAL.get(module, set())
    }


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"cachalot.settings"}))
def test_what_is_derived_from_settings_or_models_is_a_memo(module: str) -> None:
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    remembers = {"functools.lru_cache", "functools.cache"} & imported
    derives = {"django.apps.apps", "cachalot.settings.cachalot_settings"} & imported
    assert not (remembers and derives)


# Documents


def supported_in_readme(name: str) -> set[str]:
    found = re.search(rf"^\* {name} ([\d., ]+)$", README, re.MULTILINE)
    assert found is not None
    return set(found[1].split(", "))


@pytest.mark.parametrize(
    ("name", "classifier", "factor"),
    [
        ("Django", "Framework :: Django :: ", "dj"),
        ("Python", "Programming Language :: Python :: ", "py"),
    ],
)
def test_the_same_versions_are_named_everywhere(name: str, classifier: str, factor: str) -> None:
    classified = {
        line.removeprefix(classifier)
        for line in pyproject()["project"]["classifiers"]
        if line.startswith(classifier) and "." in line
    }
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    # The gate's list, and what the workflow adds.
    listed = tox["tox"]["env_list"] + (ROOT / ".github/workflows/tests.yml").read_text()
    environments = {
        f"{number[0]}.{number[1:]}" for number in re.findall(rf"\b{factor}(\d+)\b", listed)
    }
    assert supported_in_readme(name) == classified == environments
    if name == "Django":
        assert classified == {*TESTED_DJANGO}


def test_the_oldest_versions_are_the_ones_required() -> None:
    project = pyproject()["project"]

    def oldest(name: str) -> str:
        return min(
            supported_in_readme(name), key=lambda version: tuple(map(int, version.split(".")))
        )

    assert project["requires-python"] == f">={oldest('Python')}"
    # The next one may be another Django: cachalot replaces parts of it.
    major, minor = max(
        tuple(map(int, version.split("."))) for version in supported_in_readme("Django")
    )
    assert f"Django>={oldest('Django')},<{major}.{minor + 1}" in project["dependencies"]


@pytest.mark.parametrize(
    "command",
    [
        "python -m pip install -e '.[example]' && python example/manage.py demo",
        "python -m pip install -e '.[test]' && python runtests.py",
    ],
)
def test_the_commands_of_the_readme_are_run_by_the_gate(command: str) -> None:
    assert f"\n    {command}\n" in README
    assert f'"{command}"' in (ROOT / ".ci" / "run").read_text()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 120


def test_the_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"`[^`]+ <([^>]+)>`_", README)
    assert links
    assert not [link for link in links if not (ROOT / link).is_file()]


def test_the_guide_says_where_things_are() -> None:
    guide = (ROOT / "CONTRIBUTING.rst").read_text()
    places = re.findall(r"``(\w+)(?:\(\))?``[^`]*\b(?:in|of)\s+``([\w/]+\.py)``", guide)
    assert len(places) > 5
    for name, file in places:
        assert re.search(rf"\b{name}\b", (PACKAGE / file).read_text()), f"{name} in {file}"
    for file in re.findall(r"``(core/[\w/]+\.py)``", guide):
        assert (PACKAGE / file).is_file(), file


def test_the_guide_names_every_module_by_its_folder() -> None:
    guide = (ROOT / "CONTRIBUTING.rst").read_text()
    named = set(re.findall(r"``core/(\w+)\.py``", guide))
    for folder, text in re.findall(r"^``core/(\w+)/``: .+\n((?:    .+\n)+)", guide, re.MULTILINE):
        named |= {f"{folder}/{name}" for name in re.findall(r"^    \* ``(\w+)``: ", text, re.M)}
    core = PACKAGE / "core"
    modules = {str(path.relative_to(core).with_suffix("")) for path in core.rglob("*.py")}
    assert named == {module for module in modules if not module.endswith("__init__")}


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    headings = re.findall(r"^(.+)\n-+$", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_the_version_is_that_of_the_package() -> None:
    configuration = pyproject()
    assert configuration["project"]["dynamic"] == ["version"]
    assert configuration["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "cachalot.__version__"
    }
    # A literal, which a build reads without importing the package.
    (literal,) = (
        node.value
        for node in MODULES["cachalot"].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    )
    assert ast.literal_eval(literal) == cachalot.__version__


def test_one_ruff_is_used_everywhere() -> None:
    (required,) = (
        requirement
        for requirement in pyproject()["project"]["optional-dependencies"]["lint"]
        if requirement.startswith("ruff")
    )
    version = required.removeprefix("ruff==")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert f"ruff-pre-commit\n    rev: v{version}\n" in hooks


def test_every_database_and_cache_can_be_chosen() -> None:
    assert set(runtests.DATABASES) == set(settings._DATABASES)
    assert set(runtests.CACHES) == set(settings._CACHES)


class ReadmeTests(CacheTestCase):
    def test_it_counts_queries_as_they_are(self) -> None:
        authors = Author.objects.bulk_create([Author(name=f"Author {n}") for n in range(100)])
        Book.objects.bulk_create([Book(title=f"Book {a.name}", author=a) for a in authors])
        book = Book.objects.latest("pk")

        def shelf() -> list[tuple[str, str]]:
            return [(book.title, book.author.name) for book in Book.objects.all()]

        def save() -> None:
            book.title = "Saved"
            book.save()

        calls = (shelf, shelf, save, shelf)
        with cachalot_disabled():
            without = [count_queries(call)[1] for call in calls]
        Book.objects.update(title="Book")
        Author.objects.update(name="Author")
        cached = [count_queries(call)[1] for call in calls]
        rows = re.findall(r"^``(?:shelf|book\.save)\(\)`` +(\d+) +\D*(\d+)\D*$", README, re.M)
        self.assertEqual(rows, [(str(a), str(b)) for a, b in zip(without, cached, strict=True)])
        self.assertIn("Saved", [title for title, _ in shelf()])
