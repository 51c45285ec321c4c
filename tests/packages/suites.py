"""Whose suites are run, how, and which of their tests count queries."""

from __future__ import annotations

from dataclasses import dataclass, field

#: What builds the packages below from their source distributions.
BUILD_REQUIREMENTS = (
    "setuptools==81.0.0",
    "wheel",
    "hatchling==1.33.0",
    "hatch-fancy-pypi-readme==25.1.0",
    "hatch-vcs==0.5.0",
    "flit-core==4.2.0",
)
TEST_REQUIREMENTS = ("pytest==9.2.0", "pytest-django==4.14.0")
DJANGO_VERSION = "5.2.19"


_GUARDIAN = "guardian/testapp/tests"
_HISTORY = "simple_history.tests.tests"
_TREEBEARD = "treebeard/tests/test_treebeard.py"


@dataclass(frozen=True)
class Suite:
    """One package whose source distribution holds its tests.

    ``at_least`` so many of its tests pass without cachalot: less proves nothing.
    ``command`` is run in ``directory`` of the source distribution; ``{settings}`` stands for the
    settings module to use, which is made of ``settings``, the package's own, and ``also``, lines
    added whether cachalot is installed or not. ``counting`` maps a test that fails with
    cachalot, because it counts queries, to the reason why fewer are run; where it is None, the
    traceback alone decides.
    """

    name: str
    version: str
    at_least: int
    command: tuple[str, ...]
    settings: str
    also: str = ""
    directory: str = "."
    requirements: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    counting: dict[str, str] | None = field(default_factory=dict)

    @property
    def is_django(self) -> bool:
        """Whether these are Django's own tests, which have a runner of their own."""
        return self.name == "Django"

    @property
    def archive(self) -> str:
        """A pattern for the file name: both spellings of a name are in use."""
        return f"?{self.name[1:].replace('-', '?')}-{self.version}.tar.gz"


#: Those of Django's own tests that live on the ORM and take no more than a minute together.
_DJANGO_LABELS = """
    aggregation aggregation_regress annotations basic bulk_create custom_managers custom_pk
    dates datetimes defer defer_regress delete delete_regress distinct_on_fields empty
    expressions expressions_case expressions_window extra_regress filtered_relation
    foreign_object from_db_value generic_relations generic_relations_regress
    get_earliest_or_latest get_or_create known_related_objects lookup m2m_and_m2o
    m2m_intermediary m2m_multiple m2m_recursive m2m_regress m2m_signals m2m_through
    m2m_through_regress m2o_recursive many_to_many many_to_one many_to_one_null
    model_inheritance model_inheritance_regress multiple_database null_fk null_queries
    one_to_one or_lookups order_with_respect_to ordering pagination prefetch_related
    proxy_models queries queryset_pickle raw_query reverse_lookup save_delete_hooks
    select_for_update select_related select_related_onetoone select_related_regress signals
    transaction_hooks transactions unmanaged_models update update_only_fields composite_pk
""".split()

SUITES = (
    Suite(
        "django-filter",
        "26.2",
        500,
        ("django-admin", "test", "--settings={settings}"),
        "tests.settings",
        requirements=("djangorestframework==3.18.3", "markdown", "django-crispy-forms", "pytz"),
    ),
    Suite(
        "django-guardian",
        "3.5.2",
        480,
        # Theirs are timed: a test of the machine.
        ("pytest", "-q", "--ds={settings}", "guardian", "--ignore-glob=*/test_indexes.py"),
        "guardian.testapp.testsettings",
        also='PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]',
        requirements=("django-environ==0.14.0",),
        counting={
            f"{_GUARDIAN}/test_backends.py::CheckUserSupportAnonymousCacheTest"
            "::test_anonymous_lookup_hits_database_without_cache": (
                "setUp() has read the anonymous user"
            ),
            f"{_GUARDIAN}/test_core.py::ObjectPermissionCheckerTest"
            "::test_autoprefetch_user_perms": (
                "of what a second checker reads, one table has not changed since the first"
            ),
        },
    ),
    Suite(
        "django-model-utils",
        "5.0.0",
        340,
        ("pytest", "-q", "--ds={settings}", "tests"),
        "tests.settings",
        requirements=("time-machine==3.6.0",),
        environ={"SQLITE": "1"},
    ),
    Suite(
        "django-reversion",
        "6.4.0",
        150,
        ("django-admin", "test", "--settings={settings}"),
        "test_project.settings",
        also="""
DATABASES = {
    alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"} for alias in DATABASES
}
""",
        directory="tests",
    ),
    Suite(
        "django-simple-history",
        "3.13.0",
        350,
        (
            "django-admin",
            "test",
            "--settings={settings}",
            "simple_history.tests",
            "simple_history.registry_tests",
        ),
        "runtests",
        also="""
globals().update(get_default_settings())
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
""",
        counting={
            f"{_HISTORY}.test_manager.PrefetchingMethodsTestCase"
            ".test__select_related_history_tracked_objs__prefetches_expected_objects": (
                "two of the three choices have the same poll"
            ),
            f"{_HISTORY}.test_models.HistoricForeignKeyTest"
            ".test_nested_prefetch_across_historic_foreign_keys": (
                "the second way of prefetching reads what the first has read"
            ),
            f"{_HISTORY}.test_models.HistoricalRecordsTest"
            ".test_history_diff_arg__foreign_keys_are_objs__returns_expected_m2m_values": (
                "the second diff reads what the first has read, and the places"
            ),
            f"{_HISTORY}.test_models.ManyToManyTest.test_diff_against": (
                "the second diff reads what the first has read"
            ),
        },
    ),
    Suite(
        "django-taggit",
        "5.0.1",
        370,
        ("django-admin", "test", "--settings={settings}"),
        "tests.settings",
        requirements=("djangorestframework==3.18.3",),
    ),
    Suite(
        "django-treebeard",
        "4.7.1",
        1150,
        ("pytest", "-q", "--ds={settings}", "treebeard"),
        "treebeard.tests.settings",
        counting={
            f"{_TREEBEARD}::TestMPFormPerformance::test_form_add_subtree_no_of_queries": (
                "making the form has read the tree"
            ),
        },
    ),
    Suite(
        "Django",
        DJANGO_VERSION,
        2900,
        ("runtests.py", "--parallel=1", "--settings={settings}", *_DJANGO_LABELS),
        "test_sqlite",
        directory="tests",
        counting=None,
    ),
)
