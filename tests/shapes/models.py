"""Models that have, between them, every kind of relation and of field."""

from __future__ import annotations

import django
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models


class Mood(models.TextChoices):
    CALM = "a"
    GLAD = "b"
    SAD = "c"


class Rank(models.IntegerChoices):
    LOW = 1
    HIGH = 2


class Person(models.Model):
    name = models.CharField(max_length=20)
    mood = models.CharField(max_length=1, choices=Mood.choices, default=Mood.CALM)
    age = models.IntegerField(default=0)
    active = models.BooleanField(default=True)
    born = models.DateTimeField(null=True)
    span = models.DurationField(null=True)
    score = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    ratio = models.FloatField(null=True)
    token = models.UUIDField(null=True)
    blob = models.BinaryField(null=True)
    details = models.JSONField(null=True)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="pupils")
    friends = models.ManyToManyField("self")
    notes = GenericRelation("shapes.Note", related_query_name="person")


class Fan(Person):
    class Meta:
        proxy = True


class Club(models.Model):
    name = models.CharField(max_length=20)
    founder = models.ForeignKey(Person, models.CASCADE, null=True, related_name="founded")
    members = models.ManyToManyField(Person, through="Membership", related_name="clubs")
    partners = models.ManyToManyField("self", symmetrical=False, related_name="hosts")


class Membership(models.Model):
    person = models.ForeignKey(Person, models.CASCADE, related_name="memberships")
    club = models.ForeignKey(Club, models.CASCADE, related_name="memberships")
    rank = models.IntegerField(choices=Rank.choices, default=Rank.LOW)
    since = models.DateField(null=True)


class Place(models.Model):
    name = models.CharField(max_length=20)
    club = models.ForeignKey(Club, models.SET_NULL, null=True, related_name="places")
    notes = GenericRelation("shapes.Note", related_query_name="place")


class Cafe(Place):
    """A child by multi-table inheritance."""

    seats = models.IntegerField(default=0)
    owner = models.OneToOneField(Person, models.SET_NULL, null=True, related_name="cafe")


class Bistro(Cafe):
    """A grandchild."""

    stars = models.IntegerField(default=0)


class Note(models.Model):
    text = models.CharField(max_length=20)
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    object_id = models.BigIntegerField()
    target = GenericForeignKey()
    author = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="written")


# Parents first.
MODELS: list[type[models.Model]] = [
    Person,
    Person.friends.through,
    Club,
    Club.partners.through,
    Membership,
    Place,
    Cafe,
    Bistro,
    Note,
]

if django.VERSION >= (5, 0):

    class Box(models.Model):
        width = models.IntegerField(default=1)
        height = models.IntegerField(default=1)
        area = models.GeneratedField(  # type: ignore[attr-defined, unused-ignore]
            expression=models.F("width") * models.F("height"),
            output_field=models.IntegerField(),
            db_persist=True,
        )
        owner = models.ForeignKey(Person, models.CASCADE, null=True, related_name="boxes")

    MODELS.append(Box)

if django.VERSION >= (5, 2):

    class Square(models.Model):
        pk = models.CompositePrimaryKey("line", "column")  # type: ignore[attr-defined, unused-ignore]
        line = models.IntegerField()
        column = models.IntegerField()
        value = models.IntegerField(default=0)
        owner = models.ForeignKey(Person, models.CASCADE, null=True, related_name="squares")

    MODELS.append(Square)

if connection.vendor == "postgresql":
    from django.contrib.postgres import fields

    class Stock(models.Model):
        sizes = fields.ArrayField(models.IntegerField(), default=list)
        grid = fields.ArrayField(fields.ArrayField(models.IntegerField()), default=list)
        labels = fields.HStoreField(default=dict)
        amount = fields.IntegerRangeField(null=True)
        opening = fields.DateTimeRangeField(null=True)
        owner = models.ForeignKey(Person, models.CASCADE, null=True, related_name="stocks")

    MODELS.append(Stock)
