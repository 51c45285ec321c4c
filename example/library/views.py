"""Show the library, with the queries that are usually written.

No page prefetches or denormalises: that is what there is to see. No page depends on the current
time to the second either, which would make a new query of it at each request.
"""

from typing import Any

from django.db.models import (
    Avg,
    Count,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Window,
)
from django.db.models.functions import Rank, TruncMonth
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST
from django.views.generic import DetailView, ListView, View

from cachalot.api import cachalot_disabled, cachalot_enabled, cached, fresh, recorded
from library.models import Author, Book, Borrowing, Review, Tag


@cached
def library_sizes() -> dict[str, int]:
    """Count the rows of each kind: again when one of the tables has changed, and not before."""
    return {
        "books": Book.objects.count(),
        "authors": Author.objects.count(),
        "tags": Tag.objects.count(),
        "borrowings": Borrowing.objects.count(),
        "reviews": Review.objects.count(),
    }


def index(request: HttpRequest) -> HttpResponse:
    """Show the totals, the book borrowed most, the newest books and links to every page."""
    context = {
        "totals": library_sizes().items(),
        "favourite": Book.objects.annotate(loans=Count("borrowings"))
        .order_by("-loans", "pk")
        .first(),
        "newest_books": Book.objects.all()[:12],
    }
    return render(request, "library/index.html", context)


class BookList(ListView):
    """List the books, the newest first."""

    model = Book
    paginate_by = 25


class BookDetail(DetailView):
    """Show a book with its reviews, its last borrowings and similar books."""

    model = Book

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        book = self.object
        return super().get_context_data(
            ratings=book.reviews.values("rating").annotate(number=Count("pk")).order_by("-rating"),
            last_borrowings=book.borrowings.all()[:10],
            readers_also_borrowed=Book.objects.filter(
                borrowings__card__in=book.borrowings.values("card")
            )
            .exclude(pk=book.pk)
            .annotate(loans=Count("borrowings"))
            .order_by("-loans", "-pk")[:8],
            **kwargs,
        )


class AuthorList(ListView):
    """List the authors by name."""

    model = Author
    paginate_by = 30


class AuthorDetail(DetailView):
    """Show an author with all the books and the co-authors."""

    model = Author

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        author = self.object
        return super().get_context_data(
            co_authors=Author.objects.filter(books__authors=author)
            .exclude(pk=author.pk)
            .annotate(shared_books=Count("books"))
            .order_by("-shared_books", "name"),
            rating=Review.objects.filter(book__authors=author).aggregate(
                average=Avg("rating"), number=Count("pk")
            ),
            **kwargs,
        )


def tags(request: HttpRequest) -> HttpResponse:
    """List the tags with the numbers of books, borrowings and reviews under them."""
    # Three joins multiplied with each other and counted distinct: the usual slow aggregate.
    annotated_tags = Tag.objects.annotate(
        book_count=Count("books", distinct=True),
        loans=Count("books__borrowings", distinct=True),
        review_count=Count("books__reviews", distinct=True),
        newest=Max("books__added_on"),
    )
    return render(request, "library/tags.html", {"tags": annotated_tags})


class TagDetail(DetailView):
    """Show a tag with its newest books."""

    model = Tag

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        books = self.object.books.all()
        totals = books.aggregate(number=Count("pk"), pages=Sum("pages"), price=Avg("price"))
        return super().get_context_data(books=books[:40], totals=totals, **kwargs)


class BorrowingList(ListView):
    """List the borrowings, the latest first."""

    model = Borrowing
    paginate_by = 60


class ReviewList(ListView):
    """List the reviews, the latest first."""

    model = Review
    paginate_by = 60


def search(request: HttpRequest) -> HttpResponse:
    """Find the books whose title, author or tag holds the text in ``q``."""
    text = request.GET.get("q", "").strip()
    books = Book.objects.none()
    if text:
        books = Book.objects.filter(
            Q(title__icontains=text)
            | Q(authors__name__icontains=text)
            | Q(tags__name__icontains=text)
        ).distinct()
    context = {"text": text, "number": books.count(), "books": books[:50]}
    return render(request, "library/search.html", context)


def statistics(request: HttpRequest) -> HttpResponse:
    """Show the aggregates that a librarian asks for."""
    loans_of_book = Borrowing.objects.filter(book=OuterRef("pk"))
    last_review = Review.objects.filter(book=OuterRef("pk")).order_by("-written_on", "-pk")
    loans = Borrowing.objects.order_by()
    context = {
        "most_borrowed": Book.objects.annotate(
            loans=Count("borrowings"),
            rank=Window(Rank(), order_by=Count("borrowings").desc()),
        ).order_by("-loans", "pk")[:10],
        "best_rated": Book.objects.annotate(
            rating=Avg("reviews__rating"),
            number=Count("reviews"),
            last_review=Subquery(last_review.values("text")[:1]),
        )
        .filter(number__gte=5)
        .order_by("-rating", "-number", "pk")[:10],
        "authors_by_loans": Author.objects.annotate(
            loans=Count("books__borrowings"), book_count=Count("books", distinct=True)
        ).order_by("-loans", "name")[:10],
        "loans_by_month": loans.annotate(month=TruncMonth("borrowed_on"))
        .values("month")
        .annotate(number=Count("pk"), books=Count("book", distinct=True))
        .order_by("-month")[:24],
        "books_by_decade": Book.objects.order_by()
        .annotate(decade=F("published") - F("published") % 10)
        .values("decade")
        .annotate(number=Count("pk"), pages=Avg("pages"), price=Sum("price"))
        .order_by("decade"),
        "loan_duration": loans.filter(returned_on__isnull=False).aggregate(
            average=Avg(
                ExpressionWrapper(F("returned_on") - F("borrowed_on"), output_field=DurationField())
            )
        )["average"],
        # Today's date makes one query a day of this; the current time would make one a request.
        "overdue": Borrowing.objects.filter(
            returned_on=None, due_on__lt=timezone.localdate()
        ).count(),
        "never_borrowed": Book.objects.filter(~Exists(loans_of_book)).count(),
        "loyal_cards": Borrowing.objects.order_by()
        .values("card")
        .annotate(loans=Count("pk"), last=Max("borrowed_on"))
        .order_by("-loans", "card")[:10],
    }
    # Rows, since the template wants the first ones and the greatest as well.
    rows = {
        name: list(value) if isinstance(value, QuerySet) else value
        for name, value in context.items()
    }
    rows["most_loans"] = max((line["number"] for line in rows["loans_by_month"]), default=0)
    rows["most_books"] = max((line["number"] for line in rows["books_by_decade"]), default=0)
    return render(request, "library/statistics.html", rows)


def catalogue(request: HttpRequest) -> HttpResponse:
    """Show the newest books of each tag, from a fragment cache of Django's templates."""
    # Querysets are lazy: when the template finds the fragment, no query is made from this.
    return render(request, "library/catalogue.html", {"tags": Tag.objects.all()})


def reading_room(request: HttpRequest) -> HttpResponse:
    """Show the books talked about most, from the fragment caches of a Jinja2 template."""
    context = {
        "most_reviewed": Book.objects.annotate(number=Count("reviews")).order_by("-number", "pk")[
            :12
        ],
        "best_reviews": Review.objects.filter(rating=5)[:20],
    }
    return render(request, "library/reading_room.html", context, using="jinja2")


def surprise(request: HttpRequest) -> HttpResponse:
    """Lead to a book taken by chance: a query that is never cached."""
    book = Book.objects.order_by("?").first()
    return redirect(book or "library:index")


@cachalot_disabled
class Desk(View):
    """Show what is out, as the database has it now, to whoever stands at the desk."""

    def get(self, request: HttpRequest) -> HttpResponse:
        out = Borrowing.objects.filter(returned_on=None)
        # Rendered here: a ListView would be rendered, and ask the database, after the block.
        context = {"number": out.count(), "borrowings": out.select_related("book")[:20]}
        return render(request, "library/desk.html", context)


@require_POST
def take_back(request: HttpRequest, pk: int) -> HttpResponse:
    """Note that a book has come back."""
    # What is about to be changed is read as the database has it.
    borrowing = get_object_or_404(fresh(Borrowing), pk=pk, returned_on=None)
    borrowing.returned_on = timezone.localdate()
    borrowing.save(update_fields=["returned_on"])
    return redirect("library:desk")


@cachalot_disabled
def availability(request: HttpRequest, pk: int) -> JsonResponse:
    """Tell whether a book is on the shelf, always from the database."""
    return JsonResponse({"on_shelf": not get_object_or_404(Book, pk=pk).is_out()})


@cachalot_enabled
def totals(request: HttpRequest) -> JsonResponse:
    """Tell the sizes of the library, cached even where ``CACHALOT_ENABLED`` is False."""
    models = (Author, Book, Borrowing, Review, Tag)
    return JsonResponse({model._meta.model_name: model.objects.count() for model in models})


def reads(request: HttpRequest) -> JsonResponse:
    """Show what the front page reads, and what becomes of it."""
    with recorded() as reads:
        index(request)
    return JsonResponse(
        {
            "queries": len(reads.queries),
            "reads": [
                {"sql": read.sql, "tables": read.tables, "outcome": read.outcome.value}
                for read in reads
            ],
            "blocks": [
                {"name": block.name, "outcome": block.outcome.value} for block in reads.blocks
            ],
        }
    )
