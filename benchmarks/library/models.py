"""Authors, books and what hangs on them; a table of many rows; a chain of tables to join."""

from __future__ import annotations

from django.db import models


class Revised(models.Model):
    """A model with a column that the benchmarks change."""

    revision = models.IntegerField(default=0)

    class Meta:
        abstract = True


class Author(Revised):
    name = models.CharField(max_length=100)
    born = models.DateField()


class Tag(Revised):
    name = models.CharField(max_length=30)
    slug = models.SlugField(unique=True)


class Book(Revised):
    title = models.CharField(max_length=100)
    pages = models.IntegerField()
    price = models.DecimalField(max_digits=6, decimal_places=2)
    is_lent = models.BooleanField(default=False)
    added = models.DateTimeField()
    author = models.ForeignKey(Author, models.CASCADE)
    tags = models.ManyToManyField(Tag)


class Review(Revised):
    book = models.ForeignKey(Book, models.CASCADE)
    stars = models.IntegerField()
    text = models.TextField()


class Note(Revised):
    """Written in bulk, and deleted again."""

    text = models.CharField(max_length=100)


class Row(Revised):
    """One of many."""

    text = models.CharField(max_length=20)


#: How many tables one query joins at most.
CHAIN_LENGTH = 10


def _link(number: int) -> type[models.Model]:
    attributes: dict[str, object] = {
        "__module__": __name__,
        "name": models.CharField(max_length=20),
    }
    if number < CHAIN_LENGTH:
        attributes["next"] = models.ForeignKey(f"Link{number + 1}", models.CASCADE)
    return type(f"Link{number}", (Revised,), attributes)


#: The tables of a chain: each row refers to one of the next table.
CHAIN = [_link(number) for number in range(1, CHAIN_LENGTH + 1)]
