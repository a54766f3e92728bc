"""How often a server is asked again, and what an answer that is no result means.

Asked again is what may pass: no answer, 429, 500, 502, 503, 504, and an answer that makes no sense. The pauses grow,
are a little random so that many clients do not come back at once ("Exponential Backoff And Jitter", AWS Architecture
Blog, 2015), and are at least what the server says in ``Retry-After`` (RFC 9110, 10.2.3).
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from omnimemory.errors import ModelServerError
from omnimemory.model_servers.exchange import Answer, Call, NoAnswerError, Pause, Steps

__all__ = ["BadAnswerError", "Patience", "RefusedError", "detail", "impatient", "persist", "refusal"]

T = TypeVar("T")

_PASSING = frozenset({429, 500, 502, 503, 504})
_MOST_DETAIL = 200


class BadAnswerError(ModelServerError):
    """The server answered something that is not what was asked for."""


class RefusedError(ModelServerError):
    """The server answered with an error status.

    ``reason`` is what it said, ``retry_after`` the seconds after which it wants to be asked again (0: it does not say).
    """

    def __init__(self, message: str, status: int, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Patience:
    """``tries`` requests at most, with pauses of ``first`` seconds, then four times that, up to ``longest``.

    A server that asks for more than ``longest`` is not waited for.
    """

    tries: int = 4
    first: float = 0.2
    longest: float = 60.0

    def pause(self, attempt: int) -> float:
        """Return how long to wait after the attempt numbered from 0."""
        return float(min(self.longest, self.first * 4**attempt) * random.uniform(0.75, 1.25))


def persist(
    call: Call,
    read: Callable[[Answer], T],
    patience: Patience,
    *,
    origin: str,
    passing: frozenset[int] = _PASSING,
) -> Steps[T]:
    """Make a call, again if need be, and return what ``read`` makes of the answer.

    ``read`` gets answers of status 200 and raises :class:`BadAnswerError` when one makes no sense. Raises
    :class:`RefusedError` for another status, :class:`~omnimemory.model_servers.exchange.NoAnswerError` for none.
    """
    attempt = 0
    while True:
        attempt += 1
        asked_for = 0.0
        try:
            return (yield from _once(call, read, origin))
        except RefusedError as error:
            if error.status not in passing or attempt >= patience.tries or "quota" in error.reason:
                raise
            asked_for = error.retry_after
            if asked_for > patience.longest:
                raise
        except NoAnswerError as error:
            # Where nobody listens, a few seconds change little, and a search waits for this.
            if attempt >= (patience.tries if error.reached else min(2, patience.tries)):
                raise
        except BadAnswerError:
            if attempt >= patience.tries:
                raise
        yield Pause(max(asked_for, patience.pause(attempt - 1)))


def _once(call: Call, read: Callable[[Answer], T], origin: str) -> Generator[Call | Pause, Answer | None, T]:
    answer = yield call
    assert answer is not None
    if answer.status != 200:
        raise refusal(answer, origin)
    return read(answer)


def impatient(steps: Steps[T]) -> Steps[T]:
    """Run an exchange for somebody who waits for its end: what did not come in time once is not asked for again."""
    try:
        ask = next(steps)
        while True:
            try:
                answer = yield ask
            except NoAnswerError as error:
                if error.late:
                    raise
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def refusal(answer: Answer, origin: str) -> RefusedError:
    """Return the error for an answer whose status is not 200."""
    status, reason = answer.status, detail(answer)
    said = f": {reason}" if reason else "."
    if 300 <= status < 400:
        return RefusedError(
            f"{origin} answers with a redirect ({status}), which is not followed, so that no text goes elsewhere: "
            "set the address to where the server really is.",
            status,
            reason,
        )
    if status in {401, 403} and not answer.body:
        hint = "it may refuse the host name it was called by" if status == 403 else "it wants a key"
        return RefusedError(f"{origin} refuses to answer ({status}; {hint}).", status)
    if status in {401, 403}:
        # What it says may repeat a part of the key.
        return RefusedError(f"{origin} refuses to answer ({status}): check the key.", status)
    retry_after = _retry_after(answer)
    if retry_after:
        message = f"{origin} is busy ({status}) and wants to be asked again in {retry_after:.0f} s{said}"
        return RefusedError(message, status, reason, retry_after)
    return RefusedError(f"{origin} answered {status}{said}", status, reason)


def detail(answer: Answer) -> str:
    """Return what an error answer says in words, on one line of at most 200 characters; "" if it says nothing.

    Understands Ollama's ``{"error": text}``, OpenAI's ``{"error": {"message": text}}``, FastAPI's ``{"detail": ...}``
    and plain text.
    """
    try:
        found = answer.json()
    except ValueError:
        found = answer.body[: 4 * _MOST_DETAIL].decode("utf-8", "replace")
    if isinstance(found, dict):
        found = found.get("error", found.get("detail", found.get("message", "")))
    if isinstance(found, dict):
        found = f"{found.get('message', '')} {found.get('code') or ''}"
    line = " ".join((found if isinstance(found, str) else _compact(found)).split())
    return line[:_MOST_DETAIL] + ("…" if len(line) > _MOST_DETAIL else "")


def _compact(found: Any) -> str:
    return "" if found is None else str(found)[: 4 * _MOST_DETAIL]


def _retry_after(answer: Answer) -> float:
    """Return the seconds a server asks for, 0 when it does not."""
    said = answer.headers.get("retry-after", "").strip()
    if not said:
        return 0.0
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
