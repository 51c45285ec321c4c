"""Requests to the tenants' domains, one after another on one connection."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client, override_settings
from django_tenants.utils import schema_context

from tests.support import in_thread
from tests.tenants.accounts.models import Customer, Domain, Plan
from tests.tenants.shop.models import Product
from tests.tenants.support import TenantTestCase, count_queries, within


def get(schema: str, path: str = "products", client: Client | None = None) -> Any:
    response = (client or Client()).get(f"/{path}/", headers={"host": f"{schema}.example.com"})
    return response.json() if response.status_code == 200 else response.status_code


def post(schema: str, path: str = "products", client: Client | None = None, **content: str) -> Any:
    host = {"host": f"{schema}.example.com"}
    return (client or Client()).post(f"/{path}/", content, headers=host).json()


def page(schema: str, *products: str, plans: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"tenant": schema, "products": list(products), "plans": list(plans)}


class MiddlewareTests(TenantTestCase):
    def setUp(self) -> None:
        super().setUp()
        for tenant in Customer.objects.all():
            Domain.objects.create(domain=f"{tenant}.example.com", tenant=tenant)

    def test_each_domain_has_its_rows(self) -> None:
        for schema in ("north", "south", "north", "south"):
            self.assertEqual(get(schema), page(schema, f"of {schema}"))
        for schema in ("north", "south"):
            content, queries = count_queries(lambda schema=schema: get(schema))
            self.assertEqual((content, queries), (page(schema, f"of {schema}"), 0))

    def test_a_write_by_one_request_is_seen_by_the_next(self) -> None:
        for schema in ("north", "south"):
            get(schema)
        expected = page("north", "new", "of north")
        self.assertEqual(post("north", name="new"), expected)
        self.assertEqual(get("south"), page("south", "of south"))
        self.assertEqual(get("north"), expected)
        self.assertEqual(in_thread(lambda: get("north")), expected)
        self.assertEqual(in_thread(lambda: get("south")), page("south", "of south"))

    def test_a_shared_table(self) -> None:
        for schema in ("north", "south"):
            get(schema)
        within("public", lambda: Plan.objects.create(name="all"))
        for schema in ("south", "north"):
            self.assertEqual(get(schema), page(schema, f"of {schema}", plans=("all",)))

    def test_a_domain_that_moves_to_another_tenant(self) -> None:
        """The middleware's own reads are cached like any other."""
        for schema in ("north", "south"):
            get(schema)
        Domain.objects.filter(domain="north.example.com").update(
            tenant=Customer.objects.get(schema_name="south")
        )
        self.assertEqual(get("north"), page("south", "of south"))

    def test_a_domain_that_is_not_there_yet(self) -> None:
        self.assertEqual(get("later"), 404)
        self.assertEqual(get("later"), 404)
        north = Customer.objects.get(schema_name="north")
        Domain.objects.create(domain="later.example.com", tenant=north)
        self.assertEqual(get("later"), page("north", "of north"))
        Domain.objects.filter(domain="later.example.com").delete()
        self.assertEqual(get("later"), 404)

    def test_a_session_of_one_tenant_sent_to_another(self) -> None:
        """Session and user have the same keys in both; nobody is logged in where they are not."""
        for schema in ("north", "south"):
            with schema_context(schema):
                User.objects.create_user(f"user of {schema}", password="secret")
        cookies = {}
        for schema in ("north", "south"):
            client = Client()
            answer = post(schema, "session", client, user=f"user of {schema}")
            self.assertEqual(answer, {"user": f"user of {schema}"})
            cookies[schema] = client.cookies["sessionid"].value

        def user(cookie: str, schema: str) -> str:
            client = Client()
            client.cookies["sessionid"] = cookies[cookie]
            return get(schema, "session", client)["user"]

        for _ in range(2):
            self.assertEqual(user("north", "north"), "user of north")
            self.assertEqual(user("north", "south"), "")
            self.assertEqual(user("south", "north"), "")
            self.assertEqual(user("south", "south"), "user of south")

    def test_a_request_within_another_tenants_context(self) -> None:
        """A request chooses for itself, and leaves the connection with its own tenant."""
        with schema_context("south"):
            self.assertEqual(get("north"), page("north", "of north"))
            self.assertEqual([product.name for product in Product.objects.all()], ["of north"])
        self.assertEqual(get("south"), page("south", "of south"))


@override_settings(TENANT_LIMIT_SET_CALLS=True)
class LimitedMiddlewareTests(MiddlewareTests):
    """search_path is set only when the tenant has changed."""
