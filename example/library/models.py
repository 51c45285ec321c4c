"""Hold what the library knows: authors, books, tags, borrowings and reviews.

The methods ask the database at each call, as such methods usually do: a page that lists 25 books
runs them 25 times.
"""

from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Avg, Count
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

LOAN_DURATION = timedelta(days=28)


class Author(models.Model):
    """Hold the pen name that books are signed with."""

    name = models.CharField(max_length=100, unique=True)
    born = models.PositiveSmallIntegerField("year of birth")
    note = models.TextField(blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("library:author", args=[self.pk])

    def latest_book(self) -> "Book | None":
        """Return the book published last, None for an author without books."""
        return self.books.order_by("-published", "-pk").first()

    def times_borrowed(self) -> int:
        """Count the borrowings of all the books of this author."""
        return Borrowing.objects.filter(book__authors=self).count()


class Tag(models.Model):
    """Hold a subject that books are filed under."""

    name = models.CharField(max_length=50, unique=True)
    slug = models.SlugField(unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("library:tag", args=[self.slug])

    def newest_books(self) -> "models.QuerySet[Book]":
        """Return the five books added last under this tag."""
        return self.books.all()[:5]


class Book(models.Model):
    """Hold a title of the library, which owns one copy of it."""

    title = models.CharField(max_length=150)
    published = models.PositiveSmallIntegerField("year of publication", db_index=True)
    pages = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=6, decimal_places=2)
    summary = models.TextField(blank=True)
    added_on = models.DateField(db_index=True)
    authors = models.ManyToManyField(Author, related_name="books")
    tags = models.ManyToManyField(Tag, related_name="books", blank=True)

    class Meta:
        ordering = ["-added_on", "-pk"]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("library:book", args=[self.pk])

    def author_links(self) -> SafeString:
        """Return the names of the authors, each leading to its page."""
        authors = ((author.get_absolute_url(), author.name) for author in self.authors.all())
        return format_html_join(", ", '<a href="{}">{}</a>', authors)

    def average_rating(self) -> float | None:
        """Return the mean of the ratings, None for a book without reviews."""
        return self.reviews.aggregate(average=Avg("rating"))["average"]

    def times_borrowed(self) -> int:
        """Count the borrowings of this book."""
        return self.borrowings.count()

    def is_out(self) -> bool:
        """Tell whether somebody has the book at home."""
        return self.borrowings.filter(returned_on=None).exists()

    def similar_books(self) -> "models.QuerySet[Book]":
        """Return up to eight books that share the most tags with this one."""
        return (
            Book.objects.filter(tags__in=self.tags.all())
            .exclude(pk=self.pk)
            .annotate(shared_tags=Count("tags"))
            .order_by("-shared_tags", "-added_on", "-pk")[:8]
        )


class Borrowing(models.Model):
    """Hold one loan of a book to the holder of a library card."""

    book = models.ForeignKey(Book, models.CASCADE, related_name="borrowings")
    card = models.PositiveIntegerField("card number", db_index=True)
    borrowed_on = models.DateField(db_index=True)
    due_on = models.DateField()
    returned_on = models.DateField(null=True, blank=True)

    class Meta:
        ordering = ["-borrowed_on", "-pk"]

    def __str__(self) -> str:
        return f"{self.book} to card {self.card}"

    def times_by_card(self) -> int:
        """Count the borrowings of the holder of the same card."""
        return Borrowing.objects.filter(card=self.card).count()


class Review(models.Model):
    """Hold what a reader, who stays unnamed, thought of a book."""

    book = models.ForeignKey(Book, models.CASCADE, related_name="reviews")
    rating = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(5)]
    )
    text = models.TextField()
    written_on = models.DateField(db_index=True)

    class Meta:
        ordering = ["-written_on", "-pk"]

    def __str__(self) -> str:
        return f"{self.rating}/5 for {self.book}"
