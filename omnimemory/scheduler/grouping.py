"""The order of work for servers that schedule themselves, such as Ollama: batches of one model go together.

Such a server may have to unload one model for the next. Two ingests with different models that take turns batch by
batch would have it load a model for each of them. So while it works for one model, batches of another wait, for
three seconds at most, or until nothing more comes: A B A B becomes A A B B. Then the other one has its time. Questions
do not wait, and nothing is refused for it. What other processes ask of the server is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnimemory.scheduler.footprint import Request

__all__ = ["Groups"]

_LONGEST = 3.0
_PAUSE = 0.25
"""Seconds between two batches of one ingest: what is computed and stored between them takes less."""


@dataclass(slots=True)
class _Group:
    model: str
    running: int
    last: float


class Groups:
    """Which model each server works for. Callers hold a lock; times are seconds of one clock."""

    def __init__(self) -> None:
        self._of: dict[str, _Group] = {}

    def busy_with(self, request: Request, waited: float, patience: float, now: float) -> str:
        """Return the model whose batches go before this one, or nothing; not for ever, and never beyond patience."""
        group = self._of.get(request.server)
        if group is None or group.model == request.model or waited >= min(_LONGEST, patience / 2):
            return ""
        return group.model if group.running or now - group.last < _PAUSE else ""

    def began(self, request: Request, now: float) -> None:
        """Note that a batch runs."""
        if not request.server:
            return
        group = self._of.get(request.server)
        if group is None or group.model != request.model:
            group = self._of[request.server] = _Group(request.model, 0, now)
        group.running += 1

    def ended(self, request: Request, now: float) -> None:
        """Note that a batch has ended; one of a model whose time is over counts no more."""
        group = self._of.get(request.server)
        if group is not None and group.model == request.model:
            group.running, group.last = max(0, group.running - 1), now
