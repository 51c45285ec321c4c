"""Edit a book in the admin, as a librarian would, and see what is invalidated."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.forms.models import model_to_dict
from django.test import Client
from django.urls import reverse

from cachalot.signals import post_invalidation
from library.models import Book

USERNAME = "cachalot-demo"


class RefusedEditError(Exception):
    """Say that the admin did not take an edit."""


def log_in_to_admin() -> tuple[Client, str]:
    """Return a client logged in as the superuser of the demo, and the user's new password.

    The user is created the first time. The password is drawn each time, so that a database that
    others can reach gets no superuser with a known one.
    """
    password = secrets.token_urlsafe(12)
    user, _ = get_user_model().objects.get_or_create(username=USERNAME)
    user.is_staff = user.is_superuser = True
    user.set_password(password)
    user.save()
    client = Client(SERVER_NAME="localhost")
    if not client.login(username=USERNAME, password=password):
        raise RefusedEditError(f"The admin does not let {USERNAME!r} in.")
    return client, password


def edit_in_admin(client: Client, book: Book, title: str) -> None:
    """Send the change form of ``book`` with ``title`` and everything else as it is.

    Raise RefusedEditError when the admin does not accept the form.
    """
    values = model_to_dict(book) | {
        "title": title,
        "authors": [author.pk for author in book.authors.all()],
        "tags": [tag.pk for tag in book.tags.all()],
    }
    response = client.post(reverse("admin:library_book_change", args=[book.pk]), values)
    # The admin answers 200, with the form and its errors, when it does not accept it.
    if response.status_code != 302:
        raise RefusedEditError(
            f"The admin answered {response.status_code} to the edit of {book.title!r}, not 302."
        )


@contextmanager
def record_invalidations() -> Iterator[set[str]]:
    """Collect the names of the tables invalidated meanwhile."""
    tables: set[str] = set()

    def add_table(sender: str, **kwargs: Any) -> None:
        tables.add(sender)

    post_invalidation.connect(add_table)
    try:
        yield tables
    finally:
        post_invalidation.disconnect(add_table)
