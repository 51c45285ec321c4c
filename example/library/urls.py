"""Route the pages of the library."""

from importlib.util import find_spec

from django.urls import path

from library import operations, views

app_name = "library"

urlpatterns = [
    path("", views.index, name="index"),
    path("books/", views.BookList.as_view(), name="books"),
    path("books/<int:pk>/", views.BookDetail.as_view(), name="book"),
    path("authors/", views.AuthorList.as_view(), name="authors"),
    path("authors/<int:pk>/", views.AuthorDetail.as_view(), name="author"),
    path("tags/", views.tags, name="tags"),
    path("tags/<slug:slug>/", views.TagDetail.as_view(), name="tag"),
    path("borrowings/", views.BorrowingList.as_view(), name="borrowings"),
    path("reviews/", views.ReviewList.as_view(), name="reviews"),
    path("search/", views.search, name="search"),
    path("statistics/", views.statistics, name="statistics"),
    path("catalogue/", views.catalogue, name="catalogue"),
    path("reading-room/", views.reading_room, name="reading_room"),
    path("surprise/", views.surprise, name="surprise"),
    path("desk/", views.Desk.as_view(), name="desk"),
    path("desk/<int:pk>/", views.take_back, name="take_back"),
    path("books/<int:pk>/availability.json", views.availability, name="availability"),
    path("totals.json", views.totals, name="totals"),
    path("numbers.json", operations.numbers, name="numbers"),
    path("reads.json", views.reads, name="reads"),
]

if find_spec("prometheus_client"):
    from library.metrics import metrics

    urlpatterns.append(path("metrics", metrics, name="metrics"))
