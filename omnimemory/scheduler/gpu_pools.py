"""The pools beside main memory that a model can be in, as a request finds them, and what is promised of each.

Each pool has a file of promises of its own beside that of main memory (``ledger.py``). That of main memory stays locked
from reading to promising, so two processes are never promised the same bytes of a GPU either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from omnimemory.scheduler.limits import Place
from omnimemory.scheduler.probe import UNKNOWN, Available, Reading

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from omnimemory.scheduler.footprint import Request
    from omnimemory.scheduler.ledger import Shared
    from omnimemory.scheduler.pools import Pool
    from omnimemory.scheduler.rules import Rules

__all__ = ["GpuPools", "Promises"]


class Promises(Protocol):
    """Where processes tell each other what they were promised; see :class:`~omnimemory.scheduler.ledger.Ledger`."""

    problem: str

    def locked(self) -> AbstractContextManager[Shared]:
        """Keep the others out."""

    def beside(self, pool: str) -> Promises:
        """Return the same for another pool of memory."""


class GpuPools:
    """What ``read`` finds on this machine beside main memory. Callers hold a lock."""

    def __init__(self, rules: Rules, read: Callable[[Available], Sequence[Pool]], promises: Promises | None) -> None:
        self._rules = rules
        self._read = read
        self._promises = promises

    def places(self, main: Place, request: Request, promised: Callable[[str], int]) -> tuple[Place, ...]:
        """Return the pools that a request can run in, the preferred kinds first; ``main`` if there is no other.

        ``promised`` tells what this process was promised of a pool. A pool that cannot be read is none.
        """
        return tuple(self._places(main, request, promised)) or (main,)

    def _places(self, main: Place, request: Request, promised: Callable[[str], int]) -> Iterator[Place]:
        last = request.pools[-1] if len(request.pools) > 1 else ""
        found = self._read(main.available)
        for kind in request.pools:
            if kind == "ram" or (found and found[0].kind == kind):
                yield replace(main, last_resort=kind == last)
                continue
            for pool in found[1:]:
                if pool.kind == kind and pool.total:
                    yield self._place(pool, request, promised(pool.name), kind == last)

    def _place(self, pool: Pool, request: Request, promised: int, last: bool) -> Place:
        reading = Reading(pool.source, pool.available, pool.note, pool.total)
        available = Available(pool.available, pool.source or UNKNOWN, pool.total, (reading,))
        others, blind = self._others(pool.name)
        limits = self._rules.limits(available, request, outstanding=promised + others, blind=blind)
        # What the user allows this process, and keeps free, is main memory.
        limits = replace(limits, max_bytes=None, reserve=self._rules.profile.reserve(pool.total))
        return Place(pool.name, available, limits, last)

    def _others(self, pool: str) -> tuple[int, str]:
        """Return what other processes were promised of a pool, or why that is not known."""
        if self._promises is None:
            return 0, ""
        promises = self._promises.beside(pool)
        with promises.locked() as shared:
            return shared.outstanding, promises.problem

    def tell(self, pool: str, promised: int) -> None:
        """Tell the other processes what this one was promised of a pool."""
        if self._promises is not None:
            with self._promises.beside(pool).locked() as shared:
                shared.write(promised)
