"""Counts the steps in which a backtracking matcher goes through a text.

``re`` itself tells no steps, and times of runs say little on a busy machine. This matcher takes the
tree that ``re`` has parsed and tries what ``re`` tries, in the same order, without its short cuts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

Position = int
Continue = Callable[[Position], "Position | None"]
Match = Callable[[Position, Continue], "Position | None"]


class TooManySteps(Exception):
    """More steps than the limit."""


class Counter:
    """Matches ``pattern`` against ``text``, and counts ``steps``."""

    def __init__(self, pattern: re.Pattern[str], limit: int) -> None:
        self.text = ""
        self.steps = 0
        self._limit = limit
        self._folds = bool(pattern.flags & re.IGNORECASE)
        self._dot_matches_all = bool(pattern.flags & re.DOTALL)
        self._groups: dict[int, tuple[int, int]] = {}
        self._matcher = self._sequence(list(parser.parse(pattern.pattern, pattern.flags)))

    def find_all(self) -> None:
        """Do what ``finditer()`` does."""
        start = 0
        while start <= len(self.text):
            end = self._matcher(start, lambda position: position)
            start = start + 1 if end is None or end == start else end

    def match_whole(self) -> None:
        """Do what ``fullmatch()`` does."""
        length = len(self.text)
        self._matcher(0, lambda position: position if position == length else None)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._limit:
            raise TooManySteps

    def _sequence(self, items: list[Any]) -> Match:
        matchers = [self._item(str(name), argument) for name, argument in items]

        def match(position: int, then: Continue, first: int = 0) -> int | None:
            if first == len(matchers):
                return then(position)
            return matchers[first](position, lambda end: match(end, then, first + 1))

        return match

    def _item(self, name: str, argument: Any) -> Match:
        if name in {"MAX_REPEAT", "MIN_REPEAT"}:
            return self._repeat(*argument, is_greedy=name == "MAX_REPEAT")
        if name == "BRANCH":
            branches = [self._sequence(list(branch)) for branch in argument[1]]

            def match_one(position: int, then: Continue) -> int | None:
                for branch in branches:
                    end = branch(position, then)
                    if end is not None:
                        return end
                return None

            return match_one
        if name == "SUBPATTERN":
            return self._group(argument[0], self._sequence(list(argument[-1])))
        if name in {"ASSERT", "ASSERT_NOT"}:
            return self._look(*argument, is_negative=name == "ASSERT_NOT")
        if name == "AT":
            return self._at(str(argument))
        if name == "GROUPREF":

            def match_group(position: int, then: Continue) -> int | None:
                start, end = self._groups[argument]
                text = self.text[start:end]
                self._step()
                return then(position + len(text)) if self.text.startswith(text, position) else None

            return match_group
        is_accepted = self._character(name, argument)

        def match_character(position: int, then: Continue) -> int | None:
            self._step()
            if position < len(self.text) and is_accepted(self.text[position]):
                return then(position + 1)
            return None

        return match_character

    def _repeat(self, least: int, most: Any, items: Any, *, is_greedy: bool) -> Match:
        once = self._sequence(list(items))
        most = int(most)

        def match(position: int, then: Continue, count: int = 0) -> int | None:
            def again() -> int | None:
                if count >= most:
                    return None
                # A second time without a character more would go on for ever.
                return once(
                    position, lambda end: match(end, then, count + 1) if end > position else None
                )

            if count < least:
                return again()
            for attempt in (
                (again, lambda: then(position))
                if is_greedy
                else (
                    lambda: then(position),
                    again,
                )
            ):
                end = attempt()
                if end is not None:
                    return end
            return None

        return match

    def _group(self, number: int | None, matcher: Match) -> Match:
        if number is None:
            return matcher

        def match(position: int, then: Continue) -> int | None:
            def close(end: int) -> int | None:
                self._groups[number] = position, end
                return then(end)

            return matcher(position, close)

        return match

    def _look(self, direction: int, items: Any, *, is_negative: bool) -> Match:
        matcher = self._sequence(list(items))
        width = 0 if direction > 0 else items.getwidth()[0]

        def match(position: int, then: Continue) -> int | None:
            start = position - width
            found = start >= 0 and matcher(start, lambda end: end) is not None
            return then(position) if found is not is_negative else None

        return match

    def _at(self, where: str) -> Match:
        def is_word(position: int) -> bool:
            return 0 <= position < len(self.text) and (
                self.text[position].isalnum() or self.text[position] == "_"
            )

        def match(position: int, then: Continue) -> int | None:
            self._step()
            if where == "AT_BOUNDARY":
                is_there = is_word(position - 1) is not is_word(position)
            elif where in {"AT_END", "AT_END_STRING"}:
                is_there = position == len(self.text)
            else:
                assert where in {"AT_BEGINNING", "AT_BEGINNING_STRING"}, where
                is_there = position == 0
            return then(position) if is_there else None

        return match

    def _character(self, name: str, argument: Any) -> Callable[[str], bool]:
        if name == "ANY":
            return lambda character: self._dot_matches_all or character != "\n"
        if name == "LITERAL":
            return lambda character: self._is(character, argument)
        if name == "NOT_LITERAL":
            return lambda character: not self._is(character, argument)
        assert name == "IN", name
        members = [(str(kind), value) for kind, value in argument]
        is_negative = members[0][0] == "NEGATE"

        def is_accepted(character: str) -> bool:
            return any(self._is_member(character, *member) for member in members) is not is_negative

        return is_accepted

    def _is(self, character: str, code: int) -> bool:
        other = chr(code)
        return character == other or (self._folds and character.lower() == other.lower())

    def _is_member(self, character: str, kind: str, value: Any) -> bool:
        if kind == "LITERAL":
            return self._is(character, value)
        if kind == "RANGE":
            spellings = (
                {character, character.lower(), character.upper()} if self._folds else {character}
            )
            return any(value[0] <= ord(one) <= value[1] for one in spellings if len(one) == 1)
        if kind == "CATEGORY":
            category = str(value)
            is_in = {
                "WORD": character.isalnum() or character == "_",
                "DIGIT": character.isdigit(),
                "SPACE": character.isspace(),
            }[category.rsplit("_", 1)[-1]]
            return is_in is not ("_NOT_" in category)
        return False

    def count(self, text: str, *, whole: bool) -> int | None:
        """Return the steps of ``finditer()``, or ``fullmatch()``; None for more than the limit."""
        self.text, self.steps = text, 0
        try:
            self.match_whole() if whole else self.find_all()
        except TooManySteps:
            return None
        return self.steps
