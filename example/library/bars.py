"""Draw what pages cost as lines of text."""

from library.measure import Comparison, Page

WIDTH = 30


class Pens:
    """Hold the characters to draw with, which the output can write."""

    def __init__(self, encoding: str | None) -> None:
        try:
            "█░▏".encode(encoding or "ascii")
        except (LookupError, UnicodeEncodeError):
            self.full, self.light, self.thin = "#", ".", "|"
        else:
            self.full, self.light, self.thin = "█", "░", "▏"


def lines_of(comparison: Comparison, pens: Pens) -> list[str]:
    """Return a line for each page, drawn to one scale, and one for all.

    Of the cached page, what Django takes without any query is drawn lightly.
    """
    pages = list(comparison.queries)
    unit = max(comparison.without.values()) / WIDTH
    name_width = max(len(page.name) for page in pages)
    cached_width = max(round(comparison.cached[page] / unit) for page in pages)
    columns = [WIDTH + 8, max(cached_width, 6) + 8]
    head = "without cache".ljust(columns[0]) + "cached".ljust(columns[1]) + "as a block"
    return [
        f"{'':{name_width}}  {head}",
        *(
            f"{page.name:{name_width}}  "
            + _bar(comparison.without[page], 0.0, unit, pens).ljust(columns[0])
            + _bar(comparison.cached[page], comparison.django[page], unit, pens).ljust(columns[1])
            + _bar(comparison.block[page], 0.0, unit, pens)
            for page in pages
        ),
    ]


def _bar(milliseconds: float, of_django: float, unit: float, pens: Pens) -> str:
    whole = round(milliseconds / unit)
    light = min(round(of_django / unit), whole)
    drawn = pens.full * (whole - light) + pens.light * light or pens.thin
    return f"{drawn} {milliseconds:.1f}"


def total(column: dict[Page, float]) -> float:
    """Return the sum of all pages, in milliseconds."""
    return sum(column.values())
