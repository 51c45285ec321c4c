"""Put a data set into the tables of the library, and into no other table."""

from collections.abc import Callable

from django.core.management.color import no_style
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

from library.dataset import Dataset
from library.models import Author, Book, Borrowing, Review, Tag

BATCH_SIZE = 500


def library_models() -> list[type[Model]]:
    """Return the models of the library, those between books, authors and tags included."""
    return [Author, Tag, Book, Book.authors.through, Book.tags.through, Borrowing, Review]


def find_foreign_tables(using: str) -> list[str]:
    """Return the names of the library tables that the migrations of this site did not create.

    These are tables that exist without a record of the migration, or that are missing or have
    other columns in spite of the record, which is then the one of another app named library.
    The list is empty for a database without a library and for one filled by this site.
    """
    connection = connections[using]
    columns_by_table = {
        model._meta.db_table: {field.column for field in model._meta.local_fields}
        for model in library_models()
    }
    is_migrated = ("library", "0001_initial") in MigrationRecorder(connection).applied_migrations()
    with connection.cursor() as cursor:
        introspection = connection.introspection
        existing = set(introspection.table_names(cursor))
        if not is_migrated:
            return sorted(columns_by_table.keys() & existing)
        return [
            table
            for table, columns in columns_by_table.items()
            if table not in existing
            or columns
            != {column.name for column in introspection.get_table_description(cursor, table)}
        ]


def empty_tables(using: str) -> None:
    """Delete every row of the tables of the library."""
    operations = connections[using].ops
    tables = [model._meta.db_table for model in library_models()]
    # Without allow_cascade, PostgreSQL refuses rather than empty a foreign table that refers here.
    operations.execute_sql_flush(
        operations.sql_flush(no_style(), tables, reset_sequences=True, allow_cascade=False)
    )


def load(dataset: Dataset, using: str, advance: Callable[[int], object]) -> None:
    """Insert all the rows of ``dataset`` in one transaction.

    ``advance`` is called with the number of rows of each batch once they are inserted.
    """
    connection = connections[using]
    with transaction.atomic(using=using):
        for model, rows in dataset.rows_by_model():
            for start in range(0, len(rows), BATCH_SIZE):
                batch = rows[start : start + BATCH_SIZE]
                model._default_manager.using(using).bulk_create(batch)
                advance(len(batch))
        # PostgreSQL does not move its sequences past primary keys that it was given.
        with connection.cursor() as cursor:
            for sql in connection.ops.sequence_reset_sql(no_style(), library_models()):
                cursor.execute(sql)
