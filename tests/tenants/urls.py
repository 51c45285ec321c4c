"""Views of a tenant's site, each of them a few reads."""

from __future__ import annotations

from django.contrib.auth import authenticate, login
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.tenants.accounts.models import Plan
from tests.tenants.shop.models import Product


def products(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        Product.objects.create(name=request.POST["name"])
    return JsonResponse(
        {
            "tenant": request.tenant.schema_name,
            "products": sorted(Product.objects.values_list("name", flat=True)),
            "plans": sorted(Plan.objects.values_list("name", flat=True)),
        }
    )


def session(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        login(request, authenticate(request, username=request.POST["user"], password="secret"))
    return JsonResponse({"user": request.user.get_username()})


urlpatterns = [path("products/", products), path("session/", session)]
