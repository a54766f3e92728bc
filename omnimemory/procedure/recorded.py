"""The events of a store as steps in sessions, and a model of what comes next that follows the store."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import EmbedderError, MemoryBudgetError
from omnimemory.procedure.context_vectors import context_vectors
from omnimemory.procedure.likeness import LikeContexts
from omnimemory.procedure.order import orderless
from omnimemory.procedure.predictor import CONTEXT, NextCommand
from omnimemory.procedure.records import Prediction
from omnimemory.procedure.steps import Step, home_relative
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.store import Store

__all__ = ["NEWEST", "RecordedSteps"]

NEWEST = 20_000
"""Events that a model begins with: twenty half-lives. What is older counts less than a millionth."""

Embed = Callable[[list[str]], NDArray[np.float32]]
"""Gives the vectors (n, dim) of commands that are not in the store."""

_COLUMNS = "SELECT e.id, c.text, e.timestamp, e.cwd, e.exit_code, e.session, e.source_id, e.shell FROM"
_JOIN = "JOIN commands c ON c.id = e.command_row"
_ORDER = "ORDER BY e.timestamp IS NOT NULL, e.timestamp, e.source_id, e.position"
_EVENTS = f"{_COLUMNS} events e {_JOIN} WHERE e.id > ? AND e.id <= ? {_ORDER}"
_FIRST = (
    f"{_COLUMNS} "  # noqa: S608 - our own columns
    "(SELECT * FROM events WHERE id > ? AND id <= ? ORDER BY timestamp IS NOT NULL DESC, timestamp DESC, "
    f"source_id DESC, position DESC LIMIT {NEWEST}) e {_JOIN} {_ORDER}"
)


@dataclass(slots=True)
class _Session:
    """What ran last in one session, and when (s since the epoch)."""

    steps: deque[Step] = field(default_factory=lambda: deque(maxlen=CONTEXT))
    last: float | None = None


class RecordedSteps:
    """Learns the events of a store in the order they ran, and goes on where it stopped. Safe for several threads.

    A session is what the history says it is, else a source, and a pause of more than ``session_gap`` seconds ends it.
    ``embed`` gives the vectors of commands that are asked about and not stored.
    Histories that keep each command once (fish) tell what is used, not what follows what. A long history is learnt from
    its :data:`NEWEST` events on, and counts in reasons are of these.
    """

    def __init__(self, store: Store, session_gap: float, embed: Embed | None) -> None:
        self.store = store
        self._embed = embed or self._none
        self._gap = session_gap
        self._lock = threading.Lock()
        self._begin(())

    def _begin(self, version: tuple[int, ...]) -> None:
        self._version = version
        self._read = 0
        self._sessions: dict[tuple[int, str | None], _Session] = {}
        self._newest = _Session()
        events = int(self.store.catalog.value("SELECT count(*) FROM events") or 0)
        likeness = LikeContexts(self._stored, self._asked)
        self._model = NextCommand(origin=min(NEWEST, events), likeness=likeness)

    def _stored(self, commands: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of commands that are in the store; no model is asked for one that has none."""
        return context_vectors(self.store, commands, self._none)

    def _none(self, commands: Sequence[str]) -> NDArray[np.float32]:
        return np.zeros((len(commands), self.store.commands.collection.dim), dtype=np.float32)

    def _asked(self, commands: Sequence[str]) -> NDArray[np.float32]:
        try:
            return context_vectors(self.store, commands, self._embed)
        except (EmbedderError, MemoryBudgetError):  # counts answer alone
            return self._none(commands)

    def predict(self, context: Sequence[Step] | None, cwd: str | None, k: int) -> list[Prediction]:
        """Return the k likeliest next commands; without a context after what was recorded last."""
        with self._lock:
            self._follow()
            steps = list(self._newest.steps) if context is None else list(context)[-CONTEXT:]
            return self._model.predict(steps, home_relative(cwd), k)

    def _follow(self) -> None:
        catalog = self.store.catalog
        version = catalog.rows("SELECT updates, deletes FROM collections WHERE name = 'commands'")[0]
        if version != self._version:  # something was taken away, or given to another command
            self._begin(version)
        newest = int(catalog.value("SELECT max(id) FROM events") or 0)
        read, self._read = self._read, max(self._read, newest)
        for source, session, timestamp, deduplicated, step in _steps(catalog, read, newest):
            if deduplicated:
                self._model.learn(None, step)
                continue
            before = self._session(source, session, timestamp)
            self._model.learn(before.steps, step)
            before.steps.append(step)
            self._newest = before

    def _session(self, source: int, session: str | None, timestamp: float | None) -> _Session:
        key = (source, session)
        found = self._sessions.get(key)
        pause = timestamp - found.last if found and timestamp is not None and found.last is not None else 0.0
        if found is None or (session is None and pause > self._gap):
            found = self._sessions[key] = _Session()
        found.last = timestamp
        return found


def _steps(catalog: Catalog, after: int, upto: int) -> Iterator[tuple[int, str | None, float | None, bool, Step]]:
    is_orderless = orderless(catalog)
    for block in catalog.blocks(_EVENTS if after else _FIRST, (after, upto), 1000):
        for _, text, timestamp, cwd, exit_code, session, source, shell in block:
            step = Step(text, home_relative(cwd), None if exit_code is None else exit_code == 0)
            yield source, session, timestamp, is_orderless(source, shell), step
