"""Make up the books of a library, the same ones for the same seed."""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal

from django.db.models import Model
from django.utils.text import slugify

from library.models import LOAN_DURATION, Author, Book, Borrowing, Review, Tag
from library.words import (
    ADJECTIVES,
    FIRST_NAMES,
    LAST_NAME_ENDS,
    LAST_NAME_STARTS,
    NOUNS,
    OPENINGS,
    OPINIONS,
    PLACES,
    TAG_NAMES,
)

MIN_ROWS = 500
LAST_DAY = date(2025, 6, 30)


class Dataset:
    """Generate the rows, in an order in which they can be inserted.

    ``rows`` is the exact number of rows of all tables together. ValueError is raised when it is
    below ``MIN_ROWS``. The rows have primary keys, so that URLs are the same each time.
    """

    def __init__(self, rows: int, seed: int) -> None:
        if rows < MIN_ROWS:
            raise ValueError(f"rows is {rows!r}: ask for at least {MIN_ROWS}.")
        self.rows = rows
        self.random = random.Random(seed)
        self.author_count = rows * 3 // 100
        self.book_count = rows * 12 // 100
        self.borrowing_count = rows * 28 // 100
        # Later books are borrowed and reviewed more, a handful of them much more.
        self.popularity = [1 / (self.book_count - n + 8) for n in range(self.book_count)]

    def rows_by_model(self) -> Iterator[tuple[type[Model], list[Model]]]:
        """Yield each model, those between books, authors and tags included, with its rows."""
        tags = [
            Tag(pk=pk, name=name, slug=slugify(name)) for pk, name in enumerate(TAG_NAMES, start=1)
        ]
        books = self._books()
        made = len(tags) + self.author_count + len(books) + self.borrowing_count
        yield Tag, tags
        yield Author, self._authors()
        yield Book, books
        for link, target, target_count, numbers in (
            (Book.authors.through, "author_id", self.author_count, (1, 1, 1, 2, 3)),
            (Book.tags.through, "tag_id", len(tags), (1, 2, 2, 3)),
        ):
            links = self._links(link, target, target_count, numbers)
            made += len(links)
            yield link, links
        yield Borrowing, self._borrowings(books)
        yield Review, self._reviews(self.rows - made)

    def _authors(self) -> list[Author]:
        names = self._unique_texts(self.author_count, self._pen_name, "the {}.")
        return [
            Author(
                pk=pk,
                name=name,
                born=self.random.randint(1862, 1900),
                note=f"Writes about {self._tag()} and {self._tag()} from {self._place()}.",
            )
            for pk, name in enumerate(names, start=1)
        ]

    def _books(self) -> list[Book]:
        titles = self._unique_texts(self.book_count, self._title, "volume {}")
        first_day = LAST_DAY - timedelta(days=12 * 365)
        span = 6 * 365
        return [
            Book(
                pk=pk,
                title=title,
                published=self.random.randint(1925, 2018),
                pages=self.random.randint(48, 900),
                price=Decimal(self.random.randint(450, 6500)) / 100,
                summary=(
                    f"{self._title()} meets the {self.random.choice(NOUNS).lower()} of "
                    f"{self._place()}: a book on {self._tag()}, in {self.random.randint(5, 40)} "
                    "chapters."
                ),
                added_on=first_day + timedelta(days=span * pk // self.book_count),
            )
            for pk, title in enumerate(titles, start=1)
        ]

    def _links(
        self, link: type[Model], target: str, target_count: int, numbers: tuple[int, ...]
    ) -> list[Model]:
        """Link every book to as many different targets as drawn from ``numbers``."""
        return [
            link(book_id=book_pk, **{target: target_pk})
            for book_pk in range(1, self.book_count + 1)
            for target_pk in self.random.sample(
                range(1, target_count + 1), self.random.choice(numbers)
            )
        ]

    def _borrowings(self, books: list[Book]) -> list[Borrowing]:
        card_count = self.borrowing_count // 12
        days = sorted(self.random.randint(0, 5 * 365) for _ in range(self.borrowing_count))
        borrowings = []
        for pk, (age, book) in enumerate(
            zip(
                reversed(days),
                self.random.choices(books, self.popularity, k=self.borrowing_count),
                strict=True,
            ),
            start=1,
        ):
            borrowed_on = LAST_DAY - timedelta(days=age)
            returned_on = borrowed_on + timedelta(days=self.random.randint(2, 40))
            borrowings.append(
                Borrowing(
                    pk=pk,
                    book=book,
                    card=10_000 + self.random.randint(1, card_count),
                    borrowed_on=borrowed_on,
                    due_on=borrowed_on + LOAN_DURATION,
                    returned_on=returned_on if returned_on <= LAST_DAY else None,
                )
            )
        return borrowings

    def _reviews(self, count: int) -> list[Review]:
        pks = self.random.choices(range(1, self.book_count + 1), self.popularity, k=count)
        return [
            Review(
                pk=pk,
                book_id=book_pk,
                rating=self.random.choices(range(1, 6), (1, 2, 5, 8, 6))[0],
                text=(
                    f"{self.random.choice(OPENINGS)} {self.random.choice(OPINIONS)}, and "
                    f"{self.random.choice(OPINIONS)}."
                ),
                written_on=LAST_DAY - timedelta(days=(count - pk) * 4 * 365 // count),
            )
            for pk, book_pk in enumerate(pks, start=1)
        ]

    def _unique_texts(self, count: int, make_text: Callable[[], str], suffix: str) -> list[str]:
        """Return ``count`` different texts; repeated ones get the suffix with a number."""
        repetitions: dict[str, int] = {}
        texts = []
        for _ in range(count):
            text = make_text()
            number = repetitions[text] = repetitions.get(text, 0) + 1
            texts.append(text if number == 1 else f"{text}, {suffix.format(number)}")
        return texts

    def _pen_name(self) -> str:
        choice = self.random.choice
        return f"{choice(FIRST_NAMES)} {choice(LAST_NAME_STARTS)}{choice(LAST_NAME_ENDS)}"

    def _title(self) -> str:
        choice = self.random.choice
        pattern = choice(
            (
                "The {adjective} {noun}",
                "The {noun} of {place}",
                "A {adjective} {noun} in {place}",
                "{noun} and {other_noun}",
                "{place}: The {adjective} {noun}",
                "What the {noun} Knew about {place}",
            )
        )
        noun, other_noun = self.random.sample(NOUNS, 2)
        return pattern.format(
            adjective=choice(ADJECTIVES), noun=noun, other_noun=other_noun, place=choice(PLACES)
        )

    def _place(self) -> str:
        return self.random.choice(PLACES)

    def _tag(self) -> str:
        return self.random.choice(TAG_NAMES).lower()
