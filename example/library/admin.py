"""Show the library in the admin."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from library.models import Author, Book, Borrowing, Review, Tag


class BorrowingStateFilter(admin.SimpleListFilter):
    """Filter borrowings by whether the book came back."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("out", "Out"), ("back", "Returned")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "out":
            return queryset.filter(returned_on=None)
        if self.value() == "back":
            return queryset.exclude(returned_on=None)
        return queryset


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    """List authors with their number of books."""

    list_display = ["name", "born", "book_count", "latest_book"]
    list_per_page = 50
    search_fields = ["name"]

    @admin.display(description="books")
    def book_count(self, author: Author) -> int:
        """Count the books of ``author``."""
        return author.books.count()


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    """List tags with their number of books."""

    list_display = ["name", "book_count"]
    prepopulated_fields = {"slug": ["name"]}
    search_fields = ["name"]

    @admin.display(description="books")
    def book_count(self, tag: Tag) -> int:
        """Count the books under ``tag``."""
        return tag.books.count()


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    """List books with their authors, loans and ratings."""

    autocomplete_fields = ["authors", "tags"]
    date_hierarchy = "added_on"
    list_display = ["title", "author_names", "published", "times_borrowed", "rating", "on_shelf"]
    list_filter = ["tags"]
    list_per_page = 50
    search_fields = ["title", "authors__name"]

    @admin.display(description="authors")
    def author_names(self, book: Book) -> str:
        """Return the names of the authors of ``book``, joined."""
        return ", ".join(author.name for author in book.authors.all())

    @admin.display(description="rating", empty_value="none yet")
    def rating(self, book: Book) -> str | None:
        """Return the average rating to one decimal, None for a book without reviews."""
        average = book.average_rating()
        return None if average is None else f"{average:.1f}"

    @admin.display(description="on the shelf", boolean=True)
    def on_shelf(self, book: Book) -> bool:
        """Tell whether ``book`` can be borrowed now."""
        return not book.is_out()


@admin.register(Borrowing)
class BorrowingAdmin(admin.ModelAdmin):
    """List borrowings, the latest first."""

    autocomplete_fields = ["book"]
    date_hierarchy = "borrowed_on"
    list_display = ["book", "card", "borrowed_on", "due_on", "returned_on"]
    list_filter = [BorrowingStateFilter]
    list_per_page = 50
    search_fields = ["book__title", "=card"]


@admin.register(Review)
class ReviewAdmin(admin.ModelAdmin):
    """List reviews, the latest first."""

    autocomplete_fields = ["book"]
    date_hierarchy = "written_on"
    list_display = ["book", "rating", "written_on"]
    list_filter = ["rating"]
    list_per_page = 50
    search_fields = ["book__title", "text"]
