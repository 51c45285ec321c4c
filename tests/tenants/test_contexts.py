"""However the tenant is chosen, a read gets that tenant's rows and the shared ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connection
from django.db.models import Count, Exists, OuterRef, Subquery, Sum
from django.db.models.expressions import RawSQL
from django.test import override_settings
from django_tenants.utils import schema_context, tenant_context

from cachalot.api import get_last_invalidation, invalidate
from tests.tenants.accounts.models import Customer, Domain, Plan
from tests.tenants.shop.models import Product, Review
from tests.tenants.support import TenantTestCase, names, run, within


def plans() -> list[str]:
    return sorted(Plan.objects.values_list("name", flat=True))


def groups() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


class ContextTests(TenantTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.north, self.south = (
            Customer.objects.get(schema_name=schema) for schema in ("north", "south")
        )

    def choices(self) -> dict[str, Callable[[Customer, Callable[[], Any]], Any]]:
        """Return the ways to choose a tenant, by name."""

        def by_schema_context(tenant: Customer, read: Callable[[], Any]) -> Any:
            with schema_context(tenant.schema_name):
                return read()

        def by_tenant_context(tenant: Customer, read: Callable[[], Any]) -> Any:
            with tenant_context(tenant):
                return read()

        def by_decorator(tenant: Customer, read: Callable[[], Any]) -> Any:
            return tenant_context(tenant)(read)()

        def by_the_tenant(tenant: Customer, read: Callable[[], Any]) -> Any:
            with tenant:
                return read()

        def by_set_tenant(tenant: Customer, read: Callable[[], Any]) -> Any:
            connection.set_tenant(tenant)
            try:
                return read()
            finally:
                connection.set_schema_to_public()

        def by_set_schema(tenant: Customer, read: Callable[[], Any]) -> Any:
            connection.set_schema(tenant.schema_name)
            try:
                return read()
            finally:
                connection.set_schema_to_public()

        return {
            function.__name__: function
            for function in (
                by_schema_context,
                by_tenant_context,
                by_decorator,
                by_the_tenant,
                by_set_tenant,
                by_set_schema,
            )
        }

    def test_each_way_to_choose_a_tenant(self) -> None:
        for name, choose in self.choices().items():
            with self.subTest(name):
                invalidate()
                for tenant in (self.north, self.south):
                    rows = choose(tenant, lambda: self.assertMisses(names))
                    self.assertEqual(rows, [f"of {tenant}"])
                for tenant in (self.north, self.south):
                    rows = choose(tenant, lambda: self.assertHits(names))
                    self.assertEqual(rows, [f"of {tenant}"])

    def test_the_ways_to_choose_a_tenant_share_what_is_cached(self) -> None:
        within("north", names)
        for name, choose in self.choices().items():
            with self.subTest(name):
                self.assertEqual(choose(self.north, lambda: self.assertHits(names)), ["of north"])

    def test_contexts_in_contexts(self) -> None:
        with schema_context("north"):
            self.assertEqual(self.assertCached(names), ["of north"])
            with schema_context("south"):
                self.assertEqual(self.assertCached(names), ["of south"])
                with tenant_context(self.north):
                    self.assertEqual(self.assertHits(names), ["of north"])
                self.assertEqual(self.assertHits(names), ["of south"])
            self.assertEqual(self.assertHits(names), ["of north"])
            with self.assertRaises(ZeroDivisionError), schema_context("south"):
                raise ZeroDivisionError
            self.assertEqual(self.assertHits(names), ["of north"])

    def test_every_kind_of_read(self) -> None:
        plan = Plan.objects.create(name="all")
        for schema, price, stars in (("north", 1, (1, 1)), ("south", 2, (5,))):
            with schema_context(schema):
                Product.objects.update(price=price, plan=plan)
                product = Product.objects.get()
                product_id = 7
                Product.objects.filter(pk=product.pk).update(id=product_id)
                for number in stars:
                    Review.objects.create(product_id=product_id, stars=number)
        stars = Review.objects.filter(product=OuterRef("pk")).values("stars")
        reads: dict[str, tuple[Callable[[], Any], Any, Any]] = {
            "all": (lambda: [p.name for p in Product.objects.all()], ["of north"], ["of south"]),
            "get": (lambda: Product.objects.get(pk=7).name, "of north", "of south"),
            "first": (lambda: Product.objects.first().price, 1, 2),
            "values": (
                lambda: list(Product.objects.values("price")),
                [{"price": 1}],
                [{"price": 2}],
            ),
            "count": (Review.objects.count, 2, 1),
            "exists": (Product.objects.filter(name="of north").exists, True, False),
            "aggregate": (lambda: Review.objects.aggregate(n=Sum("stars")), {"n": 2}, {"n": 5}),
            "in_bulk": (lambda: Product.objects.in_bulk([7])[7].price, 1, 2),
            "contains": (lambda: list(Product.objects.filter(price__in=[2])) != [], False, True),
            "iterator": (
                lambda: [p.name for p in Product.objects.iterator(chunk_size=1)],
                ["of north"],
                ["of south"],
            ),
            "select_related": (
                lambda: [(r.product.name, r.product.plan.name) for r in self.reviews()],
                [("of north", "all")] * 2,
                [("of south", "all")],
            ),
            "prefetch_related": (
                lambda: [
                    review.stars
                    for product in Product.objects.prefetch_related("reviews")
                    for review in product.reviews.all()
                ],
                [1, 1],
                [5],
            ),
            "from the shared table": (
                lambda: [p.name for p in Plan.objects.get(name="all").products.all()],
                ["of north"],
                ["of south"],
            ),
            "join": (
                lambda: list(Plan.objects.values_list("products__reviews__stars", flat=True)),
                [1, 1],
                [5],
            ),
            "annotate": (
                lambda: [plan.n for plan in Plan.objects.annotate(n=Count("products__reviews"))],
                [2],
                [1],
            ),
            "subquery": (
                lambda: list(Product.objects.values_list(Subquery(stars[:1]), flat=True)),
                [1],
                [5],
            ),
            "exists subquery": (
                lambda: list(Plan.objects.filter(Exists(Product.objects.filter(price=2)))) != [],
                False,
                True,
            ),
            "union": (
                lambda: sorted(
                    Product.objects.values_list("name", flat=True).union(
                        Plan.objects.values_list("name", flat=True)
                    )
                ),
                ["all", "of north"],
                ["all", "of south"],
            ),
            "raw fragment": (
                lambda: list(
                    Plan.objects.values_list(RawSQL("SELECT max(price) FROM shop_product", ()))
                ),
                [(1,)],
                [(2,)],
            ),
        }
        for name, (read, of_north, of_south) in reads.items():
            with self.subTest(name):
                self.assertNeverShared(read, north=of_north, south=of_south)

    def reviews(self) -> Any:
        return Review.objects.select_related("product__plan")

    def test_what_is_not_there_is_a_tenants_own_as_well(self) -> None:
        """An empty result and a failed get() are cached too."""
        within("south", Product.objects.all().delete)

        def read() -> str:
            try:
                return Product.objects.get(name__startswith="of").name
            except ObjectDoesNotExist:
                return "none"

        self.assertNeverShared(names, south=[], north=["of north"])
        self.assertNeverShared(read, south="none", north="of north")

    def test_a_write_of_one_tenant_leaves_the_others_right(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        for write in (
            lambda: Product.objects.create(name="x"),
            lambda: Product.objects.filter(name="x").update(name="y"),
            lambda: Product.objects.bulk_create([Product(name="z")]),
            lambda: Product.objects.exclude(name="of north").delete(),
        ):
            within("north", write)
            with schema_context("north"):
                expected = self.assertMisses(names)
            self.assertNeverShared(names, north=expected, south=["of south"])
        self.assertEqual(expected, ["of north"])

    def test_a_write_to_a_shared_table_reaches_all(self) -> None:
        expected: list[str] = []
        schemas = ("public", "north", "south")
        for writer in schemas:
            self.assertSharedByAll(plans, expected)
            within(writer, lambda writer=writer: Plan.objects.create(name=f"by {writer}"))
            expected = sorted([*expected, f"by {writer}"])
            for reader in schemas:
                with schema_context(reader):
                    self.assertEqual(self.assertMisses(plans), expected)

    def test_a_table_in_the_shared_schema_and_in_each_tenants(self) -> None:
        for schema in ("public", "north", "south"):
            within(schema, lambda schema=schema: Group.objects.create(name=schema))
        self.assertNeverShared(groups, public=["public"], north=["north"], south=["south"])
        within("public", Group.objects.all().delete)
        self.assertNeverShared(groups, public=[], north=["north"], south=["south"])

    def test_without_the_shared_schema(self) -> None:
        """A table that is found behind the tenant's own is not, once the path ends there."""
        Plan.objects.create(name="shared")
        self.assertEqual(within("north", plans), ["shared"])
        connection.set_tenant(self.north, include_public=False)
        try:
            with self.assertRaises(DatabaseError):
                plans()
            self.assertEqual(self.assertCached(names), ["of north"])
        finally:
            connection.set_schema_to_public()
        self.assertEqual(within("north", plans), ["shared"])

    def test_a_queryset_made_for_one_tenant_and_evaluated_for_another(self) -> None:
        with schema_context("north"):
            products = Product.objects.values_list("name", flat=True)
            self.assertEqual(list(products.all()), ["of north"])
        with schema_context("south"):
            self.assertEqual(list(products.all()), ["of south"])
            self.assertEqual(list(products), ["of south"])
        with schema_context("north"):
            self.assertEqual(self.assertHits(lambda: list(products.all())), ["of north"])

    def test_an_iterator_begun_for_one_tenant_and_ended_for_another(self) -> None:
        for schema in ("north", "south"):
            within(schema, lambda schema=schema: Product.objects.create(name=f"also of {schema}"))

        def begin() -> Any:
            return iter(Product.objects.order_by("name").iterator(chunk_size=1))

        with schema_context("north"):
            products = begin()
            read = [next(products).name]
        with schema_context("south"):
            read += [product.name for product in products]
        self.assertEqual(read, ["also of north", "of north"])
        for schema in ("south", "north"):
            with schema_context(schema):
                self.assertEqual(
                    [product.name for product in begin()], [f"also of {schema}", f"of {schema}"]
                )

    def test_an_instance_of_one_tenant_refreshed_for_another(self) -> None:
        for schema in ("north", "south"):
            within(schema, lambda: Product.objects.update(id=7))
        with schema_context("north"):
            product = Product.objects.get()
            product.refresh_from_db()
            self.assertEqual(product.name, "of north")
        with schema_context("south"):
            product.refresh_from_db()
            self.assertEqual(product.name, "of south")
            deferred = Product.objects.only("id").get()
        with schema_context("north"):
            self.assertEqual(deferred.name, "of north")

    def test_a_tenant_of_the_same_schema_with_another_object(self) -> None:
        within("north", names)
        other = Customer(pk=99, schema_name="north")
        with tenant_context(other):
            self.assertEqual(self.assertHits(names), ["of north"])

    def test_names_that_differ_by_case(self) -> None:
        run('CREATE SCHEMA "North"')
        try:
            run('CREATE TABLE "North".shop_product (LIKE north.shop_product INCLUDING ALL)')
            self.assertNeverShared(names, north=["of north"], North=[])
        finally:
            run('DROP SCHEMA "North" CASCADE')

    def test_the_tenants_themselves(self) -> None:
        """They are rows of shared tables, which every tenant may read."""
        Domain.objects.create(domain="north.example.com", tenant=self.north)

        def domains() -> list[str]:
            return [domain.domain for domain in Domain.objects.filter(tenant__schema_name="north")]

        self.assertSharedByAll(domains, ["north.example.com"])
        Domain.objects.update(domain="another.example.com")
        self.assertSharedByAll(domains, ["another.example.com"])

    def test_invalidation_by_hand_reaches_all(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        before = get_last_invalidation("shop.Product")
        within("north", lambda: invalidate("shop.Product"))
        for schema in ("north", "south"):
            with schema_context(schema):
                self.assertEqual(self.assertMisses(names), [f"of {schema}"])
                self.assertGreaterEqual(get_last_invalidation("shop.Product"), before)


@override_settings(TENANT_LIMIT_SET_CALLS=True)
class LimitedContextTests(ContextTests):
    """search_path is set only when the tenant has changed."""
