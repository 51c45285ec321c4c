from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [("accounts", "0001_initial")]
    operations = [
        migrations.CreateModel(
            "Product",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=50)),
                ("price", models.IntegerField(default=0)),
                (
                    "plan",
                    models.ForeignKey(
                        "accounts.Plan",
                        django.db.models.deletion.SET_NULL,
                        null=True,
                        related_name="products",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            "Review",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("stars", models.IntegerField()),
                (
                    "product",
                    models.ForeignKey(
                        "shop.Product", django.db.models.deletion.CASCADE, related_name="reviews"
                    ),
                ),
            ],
        ),
    ]
