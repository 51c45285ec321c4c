"""What all tenants share: the tenants themselves, their domains, and what they may buy."""

from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Customer(TenantMixin):
    auto_drop_schema = True


class Domain(DomainMixin):
    pass


class Plan(models.Model):
    name = models.CharField(max_length=50)
