"""The models in memory and what state each is in: only what is ready and idle can be unloaded.

::

    ABSENT -> LOADING -> READY <-> in use (leases > 0) ; READY -> DRAINING (no new leases) -> UNLOADING -> ABSENT
    LOADING -> FAILED -> ABSENT after a pause of 1, 2, 4 ... 60 s

Every change of state counts the model's ``epoch`` up, and news of an older epoch changes nothing. UNLOADING is a point
of no return: who asks for the model then waits until it is gone and loads it again. Nothing here blocks, does I/O or
reads a clock; callers hold a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from omnimemory.scheduler.victims import HALF_LIFE, Resident

__all__ = ["Entry", "Residents", "State"]

_LONGEST_PAUSE = 60.0
_THRASH_SECONDS = 120.0


class State(Enum):
    """What a model is doing."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADING = "unloading"
    FAILED = "failed"


@dataclass(slots=True)
class Entry:
    """One model; times in seconds of the scheduler's clock, sizes in bytes. ``keep_alive`` ``None`` is for ever.

    ``bytes`` is what it holds now, ``footprint`` what it is known to need when it is loaded, both of ``pool``.
    ``is_loaded`` says whether it is in memory where that can happen without the scheduler, ``copies`` how often, where
    several may be.
    """

    name: str
    is_loaded: Callable[[], bool] | None = None
    bytes: int = 0
    footprint: int = 0
    state: State = State.ABSENT
    epoch: int = 0
    leases: int = 0
    pinned: bool = False
    foreign: bool = False
    priority: int = 0
    keep_alive: float | None = 300.0
    since: float = 0.0
    used: float = 0.0
    rate: float = 0.0
    load_seconds: float = 0.0
    began: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    gone_at: float = float("-inf")
    pool: str = "ram"
    copies: Callable[[], int] | None = None

    @property
    def here(self) -> bool:
        """Whether it holds memory and can be used."""
        return self.state in (State.READY, State.DRAINING)

    def expires(self) -> float | None:
        """Return when its keep-alive runs out, ``None`` for never; it does not run while the model is in use."""
        return None if self.keep_alive is None or self.leases else self.used + self.keep_alive


class Residents:
    """All models that this scheduler knows."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.thrashed = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, name: str) -> Entry | None:
        """Return a model that is known."""
        return self._entries.get(name)

    def know(self, entry: Entry) -> Entry:
        """Get to know a model, or return it as it is known already."""
        return self._entries.setdefault(entry.name, entry)

    def forget(self, name: str) -> None:
        """Know a model no longer."""
        self._entries.pop(name, None)

    @property
    def loading(self) -> str:
        """The name of the model that is being loaded, or nothing."""
        return next((one.name for one in self._entries.values() if one.state is State.LOADING), "")

    def view(self) -> tuple[Resident, ...]:
        """Return what a decision needs to know of the models that hold memory."""
        return tuple(
            Resident(
                one.name,
                one.bytes,
                one.leases,
                one.pinned,
                one.foreign,
                one.priority,
                one.since,
                one.used,
                one.expires(),
                one.load_seconds,
                one.rate,
                one.state is State.DRAINING,
                one.pool,
            )
            for one in self._entries.values()
            if one.here
        )

    def sync(self, name: str, now: float) -> Entry | None:
        """Return a model in the state it is really in: it may have been loaded, or closed, by others."""
        entry = self._entries.get(name)
        if entry is None or entry.is_loaded is None or entry.state is State.UNLOADING:
            return entry
        there = entry.is_loaded()
        if entry.state is State.LOADING:
            if there:
                self.loaded(name, entry.epoch, now, entry.footprint, now - entry.began)
        elif there and not entry.here:
            self._become(entry, State.READY)
            entry.bytes, entry.since, entry.used = entry.footprint, now, now
        elif not there and entry.here:
            self._become(entry, State.ABSENT)
            entry.bytes = 0
        if entry.copies is not None and entry.here:
            entry.bytes = entry.footprint * entry.copies()
        return entry

    def begin_load(self, name: str, now: float, *, by_itself: bool = False) -> int | None:
        """Begin to load a model that is absent, and return the epoch; ``None`` when it may not be loaded now.

        After a failure a load that nobody asked for (``by_itself``) has to wait.
        """
        entry = self._entries[name]
        early = by_itself and now < entry.retry_at
        if self.loading or entry.state not in (State.ABSENT, State.FAILED) or early:
            return None
        entry.began = now
        return self._become(entry, State.LOADING)

    def loaded(self, name: str, epoch: int, now: float, size: int, seconds: float) -> bool:
        """Note that a load has ended well: it took so many seconds and holds so many bytes."""
        entry = self._current(name, epoch, State.LOADING)
        if entry is None:
            return False
        self._become(entry, State.READY)
        if now - entry.gone_at < _THRASH_SECONDS:
            self.thrashed += 1
            entry.rate *= 2  # what has to come back so soon should not have gone
        entry.bytes, entry.load_seconds, entry.since, entry.used = size, seconds, now, now
        entry.failures, entry.retry_at = 0, 0.0
        return True

    def failed(self, name: str, epoch: int, now: float) -> bool:
        """Note that a load has failed; the next one that nobody asks for has to wait."""
        entry = self._current(name, epoch, State.LOADING)
        if entry is None:
            return False
        self._become(entry, State.FAILED)
        entry.failures += 1
        entry.retry_at = now + min(_LONGEST_PAUSE, 2.0 ** (entry.failures - 1))
        return True

    def lease(self, name: str, now: float) -> None:
        """Count a batch that uses the model."""
        entry = self._entries.get(name)
        if entry is None:
            return
        entry.rate = entry.rate * 0.5 ** (max(0.0, now - entry.used) / HALF_LIFE) + 1
        entry.leases += 1
        entry.used = now

    def release(self, name: str, now: float) -> None:
        """Count a batch that has ended; from now on the keep-alive runs."""
        entry = self._entries.get(name)
        if entry is not None and entry.leases:
            entry.leases -= 1
            entry.used = max(entry.used, now)

    def drain(self, name: str) -> None:
        """Let no new batch use the model."""
        entry = self._entries.get(name)
        if entry is not None and entry.state is State.READY:
            self._become(entry, State.DRAINING)

    def undrain(self) -> None:
        """Let all models be used again that were kept for a request which is gone."""
        for entry in self._entries.values():
            if entry.state is State.DRAINING:
                self._become(entry, State.READY)

    def begin_unload(self, name: str) -> int | None:
        """Begin to unload a model that is idle, and return the epoch; ``None`` when it is in use or not there."""
        entry = self._entries.get(name)
        if entry is None or not entry.here or entry.leases:
            return None
        return self._become(entry, State.UNLOADING)

    def unloaded(self, name: str, epoch: int, now: float) -> bool:
        """Note that unloading has ended; if the model is there all the same, :meth:`sync` finds it."""
        entry = self._current(name, epoch, State.UNLOADING)
        if entry is None:
            return False
        self._become(entry, State.ABSENT)
        entry.bytes, entry.gone_at = 0, now
        return True

    def expired(self, now: float) -> list[str]:
        """Return the idle models whose keep-alive has run out; pinned ones stay."""
        found = []
        for entry in self._entries.values():
            end = entry.expires()
            if entry.here and not entry.pinned and not entry.foreign and end is not None and end <= now:
                found.append(entry.name)
        return found

    def _current(self, name: str, epoch: int, state: State) -> Entry | None:
        entry = self._entries.get(name)
        return entry if entry is not None and entry.epoch == epoch and entry.state is state else None

    @staticmethod
    def _become(entry: Entry, state: State) -> int:
        entry.state = state
        entry.epoch += 1
        return entry.epoch
