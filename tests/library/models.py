"""The models that the suite reads and writes."""

from __future__ import annotations

import uuid

from django.db import models


class Publisher(models.Model):
    name = models.CharField(max_length=100, unique=True)


class Author(models.Model):
    name = models.CharField(max_length=100)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="pupils")


class Tag(models.Model):
    name = models.CharField(max_length=50, unique=True)


class Book(models.Model):
    title = models.CharField(max_length=100)
    pages = models.IntegerField(default=0)
    published = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    details = models.JSONField(null=True)
    cover = models.BinaryField(null=True)
    code = models.UUIDField(default=uuid.uuid4)
    author = models.ForeignKey(Author, models.CASCADE, null=True, related_name="books")
    publisher = models.ForeignKey(Publisher, models.SET_NULL, null=True, related_name="books")
    tags = models.ManyToManyField(Tag, related_name="books")


class Novel(Book):
    """A child by multi-table inheritance."""

    genre = models.CharField(max_length=50)


class Paperback(Book):
    class Meta:
        proxy = True


class Review(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, related_name="reviews")
    stars = models.IntegerField()


class OddlyNamed(models.Model):
    """A table whose name needs quotes and differs by case."""

    name = models.CharField(max_length=50)

    class Meta:
        db_table = "Library_Odd-Name"


class BookSummary(models.Model):
    """A view, made by the tests that use it."""

    title = models.CharField(max_length=100)
    author_name = models.CharField(max_length=100)

    class Meta:
        managed = False
        db_table = "library_summary"


class Shelf(models.Model):
    label = models.CharField(max_length=50)


if hasattr(models, "DB_CASCADE"):  # Django 6.1

    class Placement(models.Model):
        shelf = models.ForeignKey(Shelf, models.DB_CASCADE)

    class Label(models.Model):
        placement = models.ForeignKey(Placement, models.DB_SET_NULL, null=True)

else:
    Placement = Label = None  # type: ignore[assignment,misc]
