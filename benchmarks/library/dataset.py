"""The rows: the same for every contender, without randomness."""

from __future__ import annotations

import datetime
from decimal import Decimal

from django.db import connection, models

from benchmarks.library.models import CHAIN, Author, Book, Review, Row, Tag

AUTHORS = 100
BOOKS = 1000
TAGS = 20
REVIEWS = 1000
LINKS = 10

_NOUNS = ("whale", "harbour", "lighthouse", "compass", "storm", "island", "lantern", "anchor")
_START = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def fill(rows: int) -> None:
    """Fill the empty tables; ``rows`` is the number of ``Row`` objects."""
    Author.objects.bulk_create(
        Author(name=f"Author {n}", born=datetime.date(1900, 1, 1) + datetime.timedelta(days=97 * n))
        for n in range(AUTHORS)
    )
    Tag.objects.bulk_create(Tag(name=f"tag {n}", slug=f"tag-{n}") for n in range(TAGS))
    Book.objects.bulk_create(
        (
            Book(
                title=f"The {_NOUNS[n % len(_NOUNS)]} of the {_NOUNS[n // 7 % len(_NOUNS)]}, {n}",
                pages=100 + 37 * n % 800,
                price=Decimal(500 + 13 * n % 3000) / 100,
                is_lent=n % 5 == 0,
                added=_START + datetime.timedelta(hours=n),
                author_id=1 + n % AUTHORS,
            )
            for n in range(BOOKS)
        ),
        batch_size=100,
    )
    Book.tags.through.objects.bulk_create(
        (
            Book.tags.through(book_id=1 + n, tag_id=1 + (n + step) % TAGS)
            for n in range(BOOKS)
            for step in (0, 7)
        ),
        batch_size=400,
    )
    Review.objects.bulk_create(
        (
            Review(book_id=1 + n % BOOKS, stars=1 + n % 5, text=f"Review {n}. " * 10)
            for n in range(REVIEWS)
        ),
        batch_size=200,
    )
    for model in reversed(CHAIN):
        manager: models.Manager = model._default_manager
        has_next = model is not CHAIN[-1]
        manager.bulk_create(
            model(name=f"link {n}", **({"next_id": 1 + n} if has_next else {}))
            for n in range(LINKS)
        )
    # Too many to make objects of them.
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Row._meta.db_table} (revision, text) "
            "WITH RECURSIVE numbers (n) AS "
            "(SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %s) "
            "SELECT 0, 'Row ' || n FROM numbers",
            [rows],
        )
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")
