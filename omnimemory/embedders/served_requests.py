"""Texts to vectors through a server that may fail in any way: what is asked, what is believed, who is at fault.

One bad text fails a whole request on most servers, so a refused request is asked again in halves until the culprit is
alone. It is given up only when it is refused again and again while a harmless text (a canary) gets its vector in
between: otherwise the server is at fault, and nothing is held against the text.

Nothing says which vector belongs to which text but their order. So every request whose vectors will be stored carries
a canary, at a place that changes, whose vector is known: an answer in another order, of another model, or with one
vector for all is not believed. What cannot be seen in this way is two vectors exchanged in the middle of an otherwise
right answer; no server is known to do that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.base import Role
from omnimemory.embedders.lengths import estimate_tokens, halves
from omnimemory.embedders.served_models import CANARIES, Face, is_same
from omnimemory.embedders.served_rows import Rows, read_rows, unit
from omnimemory.errors import ModelServerError
from omnimemory.model_servers.exchange import Answer, Call, Steps
from omnimemory.model_servers.patience import BadAnswerError, Patience, RefusedError, persist

__all__ = ["Asking", "Dialect", "StrangeAnswerError", "Wanted"]

_TEXTS_FAULT = frozenset({400, 413, 422, 500})
"""Statuses with which servers refuse a request for one of its texts; 500 is how some of them say NaN."""

_PASSING = frozenset({429, 502, 503, 504})
_CONFIRMATIONS = 4
_MOST_CHARACTERS = 200_000
_SAME_FOR_ALL = 0.9999
_TOO_LONG = re.compile(
    r"context (?:length|size|window)|too (?:long|large)|exceed|maximum|physical batch", re.IGNORECASE
)
_TOO_MANY = re.compile(r"too many inputs|number of inputs|maximum allowed batch|per request|array", re.IGNORECASE)


class StrangeAnswerError(BadAnswerError):
    """The vectors cannot be those of the texts: they are mixed up, or another model's."""


class Dialect(Protocol):
    """How a kind of server is asked for vectors."""

    @property
    def origin(self) -> str:
        """Where the server is."""

    def digest(self) -> Steps[str | None]:
        """See that the server has the model, and return what it calls its weights, if it does.

        Raises :class:`ModelServerError`.
        """

    def context(self) -> Steps[int | None]:
        """Ask how many tokens of a text the model reads; ``None`` when the server does not say."""

    def call(self, texts: Sequence[str], role: Role, dim: int | None) -> Call:
        """Return the request for the vectors of some texts, of ``dim`` components if the server can cut them."""

    def read(self, answer: Answer, texts: int) -> list[Any]:
        """Return the vectors in the order of the texts. Raises :class:`BadAnswerError`."""

    def adapt(self, error: RefusedError) -> bool:
        """Learn from a refusal how this server wants to be asked; return whether it is worth another try."""

    def meaning(self, error: RefusedError) -> ModelServerError:
        """Return what a refusal means."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the model ``face``: vectors of ``dim`` components, with ``prompt`` before every text."""

    face: Face
    dim: int
    role: Role = "document"
    prompt: str = ""

    @property
    def asked_dim(self) -> int | None:
        """The components to ask for; ``None`` when the model's own are wanted."""
        return self.dim if self.dim < self.face.dim else None


@dataclass
class Asking:
    """Asks one server for vectors of one model; shared by all calls, and safe for several threads.

    ``most_texts`` go into a request, canary included; a server that refuses so many lowers it.
    """

    dialect: Dialect
    patience: Patience
    most_texts: int
    _numbers: Iterator[int] = field(default_factory=count)

    def canaries(self, again: NDArray[np.float64] | None = None) -> Steps[NDArray[np.float64]]:
        """Return the model's vectors (2, native dim) of the canaries, each asked for alone.

        Raises :class:`BadAnswerError` when they are not those that were got before (``again``).
        """
        rows = []
        for text in CANARIES:
            try:
                found = yield from self._persist([text], "document", None, self._read_canary)
            except RefusedError as error:
                raise self.dialect.meaning(error) from error
            rows.append(found.vectors[0])
        if rows[0].size != rows[1].size or float(rows[0] @ rows[1]) > _SAME_FOR_ALL:
            raise BadAnswerError(f"{self.dialect.origin} gives different texts the same vector.")
        made = np.stack(rows)
        if again is not None and not (made.shape == again.shape and all(map(is_same, made, again))):
            raise BadAnswerError(f"{self.dialect.origin} gives the same text another vector every time.")
        return made

    def vectors(self, texts: Sequence[str], wanted: Wanted, *, check: bool) -> Steps[Rows]:
        """Return the unit vectors (n, dim) of texts; those that the server has none for are named.

        ``check`` wants a canary beside a single question as well. Raises :class:`StrangeAnswerError` when the answers
        stay strange, and :class:`ModelServerError` for everything that is the server's fault.
        """
        made = np.zeros((len(texts), wanted.dim))
        bad: dict[int, str] = {}
        for group in self._groups(texts):
            waiting = [group]
            while waiting:
                part = waiting.pop()
                whole = len(part) == len(group)
                rows = yield from self._ask([texts[i] for i in part], wanted, check=check, patient=whole)
                if rows is None:
                    waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
                    continue
                check = False
                made[part] = rows.vectors
                for index, why in rows.bad.items():
                    if len(part) > 1:
                        waiting.append([part[index]])
                    else:
                        bad[part[0]] = why
        return Rows(made, bad)

    def _ask(self, texts: list[str], wanted: Wanted, *, check: bool, patient: bool) -> Steps[Rows | None]:
        """Return the vectors of a request, or ``None`` when it was refused and is to be asked in halves."""
        try:
            rows = yield from self._request(texts, wanted, check=check, patient=patient)
        except RefusedError as error:
            if error.status not in _TEXTS_FAULT:
                raise self.dialect.meaning(error) from error
            if self.most_texts > 1 and _TOO_MANY.search(error.reason):
                self.most_texts = max(1, (len(texts) + 1) // 2)
                if len(texts) == 1:  # it was the canary that was too many
                    return (yield from self._ask(texts, wanted, check=check, patient=patient))
            elif len(texts) == 1:
                return (yield from self._alone(texts[0], wanted, error.reason))
            return None
        if rows.bad and len(texts) == 1:
            return (yield from self._alone(texts[0], wanted, rows.bad[0]))
        return rows

    def _alone(self, text: str, wanted: Wanted, reason: str) -> Steps[Rows]:
        """Find out whether a text that was refused alone is to blame; one that is too long is asked for in parts."""
        parts = [part for part in halves(text) if not part.isspace()] if _TOO_LONG.search(reason) else [text]
        if parts != [text]:
            rows = yield from self.vectors(parts, wanted, check=False)
            if rows.bad:
                return _none(wanted.dim, next(iter(rows.bad.values())))
            weights = np.array([[max(1, estimate_tokens(part)) for part in parts]], dtype=np.float64)
            return Rows(unit(weights @ rows.vectors), {})
        for which in range(_CONFIRMATIONS):
            yield from self._see_that_it_is_sound(which % len(CANARIES), wanted)
            try:
                rows = yield from self._request([text], wanted, check=False, patient=False)
            except RefusedError as error:
                if error.status not in _TEXTS_FAULT:
                    raise self.dialect.meaning(error) from error
                reason = error.reason or f"status {error.status}"
            else:
                if not rows.bad:
                    return rows
                reason = rows.bad[0]
        return _none(wanted.dim, f"the server has no vector for it ({reason})")

    def _see_that_it_is_sound(self, which: int, wanted: Wanted) -> Steps[None]:
        """Raise :class:`ModelServerError` unless a text whose vector is known gets that."""

        def read(raw: list[Any]) -> Rows:
            rows = self._read_canary(raw)
            if not is_same(_cut(rows, wanted).vectors[0], wanted.face.canaries[which]):
                raise StrangeAnswerError(f"{self.dialect.origin} no longer gives a known text its vector.")
            return rows

        try:
            yield from self._persist([CANARIES[which]], wanted.role, wanted.asked_dim, read)
        except RefusedError as error:
            raise self.dialect.meaning(error) from error

    def _read_canary(self, raw: list[Any]) -> Rows:
        rows = read_rows(raw)
        if rows.bad:
            raise BadAnswerError(f"{self.dialect.origin}: {rows.bad[0]}, whatever the text.")
        return rows

    def _request(self, texts: list[str], wanted: Wanted, *, check: bool, patient: bool) -> Steps[Rows]:
        """Make one request, with a canary unless it is a single question that need not be checked."""
        asked = [wanted.prompt + text for text in texts]
        number = next(self._numbers)
        which, place = number % len(CANARIES), number % (len(texts) + 1)
        has_canary = self.most_texts > 1 and (check or len(texts) > 1 or wanted.role == "document")
        if has_canary:
            asked.insert(place, CANARIES[which])

        def read(raw: list[Any]) -> Rows:
            rows = _cut(read_rows(raw), wanted)
            return _without_canary(rows, place, wanted.face.canaries[which], asked) if has_canary else rows

        return (yield from self._persist(asked, wanted.role, wanted.asked_dim, read, patient=patient))

    def _persist(
        self, texts: list[str], role: Role, dim: int | None, read: Callable[[list[Any]], Rows], *, patient: bool = True
    ) -> Steps[Rows]:
        """Ask again while it may help; 500 only if ``patient``, because it may be what a text always gets."""
        passing = _PASSING | {500} if patient else _PASSING
        while True:
            call = self.dialect.call(texts, role, dim)
            try:
                return (
                    yield from persist(
                        call,
                        lambda answer: read(self.dialect.read(answer, len(texts))),
                        self.patience,
                        origin=self.dialect.origin,
                        passing=passing,
                    )
                )
            except RefusedError as error:
                if not self.dialect.adapt(error):
                    raise

    def _groups(self, texts: Sequence[str]) -> Iterator[list[int]]:
        group: list[int] = []
        characters = 0
        for index, text in enumerate(texts):
            full = len(group) >= max(1, self.most_texts - 1) or characters + len(text) > _MOST_CHARACTERS
            if group and full:
                yield group
                group, characters = [], 0
            group.append(index)
            characters += len(text)
        if group:
            yield group


def _cut(rows: Rows, wanted: Wanted) -> Rows:
    """Return the rows with ``dim`` components each. Raises :class:`StrangeAnswerError` when they have others."""
    size = rows.vectors.shape[1]
    if size not in (wanted.dim, wanted.face.dim):
        raise StrangeAnswerError(f"The server sent vectors of {size} numbers; the model's have {wanted.face.dim}.")
    return rows if size == wanted.dim else Rows(unit(rows.vectors[:, : wanted.dim]), rows.bad)


def _without_canary(rows: Rows, place: int, expected: NDArray[np.float64], asked: list[str]) -> Rows:
    canary = rows.vectors[place]
    if place in rows.bad or not is_same(canary, expected):
        raise StrangeAnswerError("A text whose vector is known got another one: the vectors are mixed up.")
    for index in np.flatnonzero(rows.vectors @ canary > _SAME_FOR_ALL).tolist():
        if asked[index] != asked[place]:
            raise StrangeAnswerError("The server gave different texts the same vector.")
    others = np.delete(rows.vectors, place, axis=0)
    return Rows(others, {index - (index > place): why for index, why in rows.bad.items()})


def _none(dim: int, why: str) -> Rows:
    return Rows(np.zeros((1, dim)), {0: why})
