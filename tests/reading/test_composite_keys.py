"""Reads of rows by a key of several columns."""

from __future__ import annotations

from typing import Any
from unittest import skipUnless

import django
from django.apps.registry import Apps
from django.db import connection, models, transaction
from django.db.models import F

from cachalot.api import cached, explain, recorded
from tests.reading.test_rows import RowTestCase
from tests.support import in_thread

if django.VERSION >= (5, 2):
    seats = Apps()

    class Seat(models.Model):
        # Not in the order of their names.
        pk = models.CompositePrimaryKey("row", "number")
        number = models.IntegerField()
        row = models.IntegerField()
        guest = models.CharField(max_length=20)

        class Meta:
            app_label = "library"
            apps = seats

    class Ticket(models.Model):
        row = models.IntegerField()
        number = models.IntegerField()
        seat = models.ForeignObject(
            Seat, models.CASCADE, from_fields=["row", "number"], to_fields=["row", "number"]
        )

        class Meta:
            app_label = "library"
            apps = seats


@skipUnless(django.VERSION >= (5, 2), "Django has no composite primary keys.")
class CompositeKeyTests(RowTestCase):
    def setUp(self) -> None:
        with connection.schema_editor() as editor:
            editor.create_model(Seat)
            editor.create_model(Ticket)
        self.addCleanup(self.drop)
        super().setUp()
        self.seats = [
            Seat.objects.create(row=row, number=number, guest="-")
            for row, number in ((1, 2), (2, 1), (1, 1))
        ]

    def drop(self) -> None:
        with connection.schema_editor() as editor:
            editor.delete_model(Ticket)
            editor.delete_model(Seat)

    def test_each_form_of_asking_for_a_row(self) -> None:
        one, two, _ = self.seats
        self.assertEqual(one.pk, (1, 2))
        rows, others = (Seat.objects.filter(pk=seat.pk) for seat in (one, two))
        for read in (
            lambda: Seat.objects.get(pk=(1, 2)).guest,
            lambda: Seat.objects.filter(pk=[1, 2]).exists(),
            lambda: Seat.objects.filter(guest__gt="").filter(pk=(1, 2)).first().number,  # type: ignore[union-attr]
            lambda: list(Seat.objects.filter(pk__in=[(1, 2)]).values_list("pk", "guest")),
            lambda: {seat.guest for seat in Seat.objects.filter(pk__in=[(1, 2), (1, 1)])},
            lambda: {seat.guest for seat in Seat.objects.in_bulk([(1, 2), (1, 1)]).values()},
        ):
            with self.subTest():
                self.assertKept(
                    read,
                    two.save,
                    lambda: two.save(update_fields=["guest"]),
                    lambda: others.update(guest="x"),
                    lambda: Seat.objects.filter(pk__in=[two.pk]).update(guest=F("guest")),
                    lambda: Seat.objects.bulk_update([two], ["guest"]),
                    lambda: Seat.objects.create(row=3, number=1, guest="-").delete(),
                )
                self.assertGone(
                    read,
                    one.save,
                    lambda: rows.update(guest="y"),
                    lambda: Seat.objects.bulk_update([one, two], ["guest"]),
                    lambda: Seat.objects.filter(row=1).update(guest="z"),
                    lambda: in_thread(one.save),
                )

    def test_what_asks_for_no_rows(self) -> None:
        """Tables count whole."""
        two = self.seats[1]
        for read in (
            lambda: Seat.objects.filter(row=1, number=2).get().guest,
            lambda: Seat.objects.filter(pk__gt=(1, 1)).count(),
            lambda: list(Seat.objects.filter(pk__in=[(1, 2), (1, 1)]).values_list("pk", "guest")),
            lambda: Seat.objects.filter(pk=("1", "2")).exists(),
        ):
            with self.subTest():
                self.assertGone(read, two.save)

    def test_relations_of_several_columns(self) -> None:
        one, two, _ = self.seats
        ticket = Ticket.objects.create(row=1, number=2)
        for read in (
            lambda: Ticket.objects.filter(seat=one).get().pk,
            lambda: Ticket.objects.get(seat=(1, 2)).pk,
            lambda: [each.pk for each in Ticket.objects.filter(seat__in=[one, two])],
        ):
            with self.subTest():
                self.assertGone(
                    read,
                    lambda: Ticket.objects.create(row=2, number=2).delete(),
                    ticket.save,
                )
        self.assertGone(
            lambda: Ticket.objects.select_related("seat").get(pk=ticket.pk).seat.guest,
            ticket.save,
            one.save,
        )

    def test_rows_that_are_not_there(self) -> None:
        self.assertGone(
            lambda: Seat.objects.filter(pk__in=[(1, 2), (9, 9)]).count(),
            lambda: Seat.objects.create(row=9, number=9, guest="-"),
        )

    def test_a_key_that_changes(self) -> None:
        def read() -> list[Any]:
            return [seat.guest for seat in Seat.objects.filter(pk=(1, 2))]

        self.assertGone(
            read,
            lambda: Seat.objects.filter(pk=(1, 1)).update(guest="moved", number=5),
            lambda: Seat.objects.filter(pk=(1, 2)).update(number=3),
        )
        self.assertEqual(read(), [])
        Seat.objects.filter(pk=(1, 5)).update(number=2)
        self.assertEqual(read(), ["moved"])

    def test_a_row_that_is_deleted(self) -> None:
        def read() -> list[Any]:
            return [seat.guest for seat in Seat.objects.filter(pk=(1, 2))]

        self.assertKept(read, self.seats[1].delete)
        self.assertGone(read, self.seats[0].delete)

    def test_a_transaction(self) -> None:
        one, two, _ = self.seats

        def read() -> Any:
            return Seat.objects.get(pk=(1, 2)).guest

        read()
        with transaction.atomic():
            two.save()
            self.assertEqual(read(), "-")
        self.assertHits(read)
        with transaction.atomic():
            Seat.objects.filter(pk=one.pk).update(guest="x")
            self.assertEqual(read(), "x")
        self.assertEqual(self.assertMisses(read), "x")

    def test_blocks_and_what_is_told(self) -> None:
        @cached
        def guest_of(row: int, number: int) -> str:
            return Seat.objects.get(pk=(row, number)).guest

        self.assertKept(lambda: guest_of(1, 2), self.seats[1].save)
        self.assertGone(lambda: guest_of(1, 2), self.seats[0].save)
        self.assertEqual(explain(Seat.objects.filter(pk=(1, 2))).rows, ((1, 2),))
        with recorded() as reads:
            Seat.objects.get(pk=(1, 2))
        self.assertEqual(reads[0].rows, (("library_seat", (1, 2)),))
