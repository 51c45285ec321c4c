"""Whether what was made of a request is for one user alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# django/middleware/csrf.py, get_token(): set whenever a token is made or used, in 4.2 to 6.1.
_CSRF = "CSRF_COOKIE_NEEDS_UPDATE"


#: Why what was made is not kept.
MESSAGES = "it shows messages, or leaves some"
TOKEN = "it uses the CSRF token of one user"


class Traces:
    """What code has used of a request that belongs to one user."""

    uses_token = uses_session = False

    def reason(self) -> str | None:
        """Return why what the code has made must not be shown to others, or None."""
        if self.uses_token:
            return TOKEN
        return "it uses the session of one user" if self.uses_session else None


@contextmanager
def tracing(request: Any) -> Iterator[Traces]:
    """Find out what the body uses of a request; None is no request."""
    traces = Traces()
    if request is None:
        yield traces
        return
    # Others may have used them before, and must be able to tell afterwards.
    token = request.META.pop(_CSRF, None)
    session = getattr(request, "session", None)
    accessed = getattr(session, "accessed", False)
    if accessed:
        session.accessed = False  # type: ignore[union-attr]
    try:
        yield traces
    finally:
        traces.uses_token = bool(request.META.get(_CSRF))
        traces.uses_session = bool(getattr(session, "accessed", False))
        if token is not None:
            request.META.setdefault(_CSRF, token)
        if accessed:
            session.accessed = True  # type: ignore[union-attr]


def has_messages(request: Any) -> bool:
    """Whether messages wait for the user, or have just been shown."""
    messages = getattr(request, "_messages", None)
    return messages is not None and len(messages) > 0
