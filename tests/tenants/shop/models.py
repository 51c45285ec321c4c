"""What each tenant has of its own."""

from __future__ import annotations

from django.db import models

from tests.tenants.accounts.models import Plan


class Product(models.Model):
    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, related_name="products")


class Review(models.Model):
    product = models.ForeignKey(Product, models.CASCADE, related_name="reviews")
    stars = models.IntegerField()


class NorthernProduct(models.Model):
    """The table of one tenant, whichever tenant is the current one."""

    name = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = '"north"."shop_product"'
