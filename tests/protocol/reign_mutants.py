"""Reigns with one mistake each."""

from __future__ import annotations

from tests.protocol.reigns import Client, Content, Line, Realm, Reigns


class NewConnectionsTrusted(Reigns):
    """The server is asked once in a while, but its first answers are believed before that."""

    asks_new_connections = False


class IdentityNotCompared(Reigns):
    """Any server continues the reign whose line it has."""

    def is_of_another(self, identity: int, line: Line | None) -> bool:
        return line is None


class ComesBackToAnOldReign(Reigns):
    """A client goes back to a server that it had left for another, as if it had not."""

    def has_left(self, client: Client, line: Line | None) -> bool:
        return False


class WritesLeftBehind(Reigns):
    """A client that has written to another server goes on where it arrives."""

    def has_written_elsewhere(self, client: Client, identity: int) -> bool:
        return False


class EntryWithoutAWord(Reigns):
    """The version of its table is all that an entry carries."""

    def word_of(self, line: Line) -> str:
        return ""


class EntryUnderTheLatestWord(Reigns):
    """An entry carries the word of the reign in which it is stored, not of that in which its
    version was read."""

    def word_to_store_under(self, client: Client, content: Content) -> str:
        return self.word_of(content.line) if content.line else client.got[0]


class WordUsedAgain(Reigns):
    """Each reign has the same word."""

    def new_word(self, realm: Realm, identity: int) -> str:
        return "reign 0"


class WordOfTheServer(Reigns):
    """The server's identity is the word: no server ever begins a second reign."""

    def new_word(self, realm: Realm, identity: int) -> str:
        return f"reign {identity}"


class LineReadWhenAskedOnly(Reigns):
    """A client goes by the line that it found when it asked, not by that in the answer."""

    def line_in_force(self, client: Client, content: Content) -> Line | None:
        return client.seen if client.has_asked else content.line


class SentTwiceSetsAgain(Reigns):
    """A renewal sets its version whether or not its own mark is there."""

    def without_own_mark(self, content: Content, nonce: str) -> str | None:
        return nonce


class RefusedIsLeft(Reigns):
    """What cannot be marked or renewed is left as it is."""

    def refused(self, content: Content, has_others: bool) -> str | None:
        return content.version


REIGN_MUTANTS: tuple[type[Reigns], ...] = (
    NewConnectionsTrusted,
    IdentityNotCompared,
    ComesBackToAnOldReign,
    WritesLeftBehind,
    EntryWithoutAWord,
    EntryUnderTheLatestWord,
    WordUsedAgain,
    WordOfTheServer,
    LineReadWhenAskedOnly,
)
#: Those of marks, with the numbers of the courses that catch them.
MARK_MUTANTS: tuple[tuple[type[Reigns], int], ...] = (
    (SentTwiceSetsAgain, 3),
    (RefusedIsLeft, 5),
)
