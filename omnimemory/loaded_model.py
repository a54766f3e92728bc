"""A model in memory, as a person sees it: whether this process holds it, another one, or a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from omnimemory.scheduler.residents import Entry

__all__ = ["LoadedModel"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory: who holds it, how many bytes of main memory (and of video memory), how long still.

    ``where`` is "here" (this process), "process" and its number, or the server's address; ``ours`` is false for one
    that others loaded. ``age`` and ``idle`` are seconds, ``None`` where nobody says; ``seconds_left`` is ``None`` for
    as long as it is not needed.
    """

    name: str
    where: str
    bytes: int
    vram_bytes: int = 0
    ours: bool = True
    pinned: bool = False
    leases: int = 0
    age: float | None = None
    idle: float | None = None
    seconds_left: float | None = None

    @classmethod
    def of_entry(cls, entry: Entry, now: float) -> Self:
        """Return a model of this process; ``now`` is the time of the scheduler's clock."""
        end = None if entry.pinned else entry.expires()
        return cls(
            entry.name,
            "here",
            entry.bytes,
            pinned=entry.pinned,
            leases=entry.leases,
            age=now - entry.since,
            idle=0.0 if entry.leases else now - entry.used,
            seconds_left=None if end is None else max(0.0, end - now),
        )

    @classmethod
    def of_process(cls, told: Mapping[str, Any], now: float) -> Self:
        """Return a model of another process, as that told it; ``now`` is seconds since the epoch."""
        kept = None if told["pinned"] else told["keep_alive"]
        return cls(
            told["model"],
            f"process {told['pid']}",
            told["bytes"],
            pinned=told["pinned"],
            age=max(0.0, now - told["loaded"]),
            idle=max(0.0, now - told["used"]),
            seconds_left=None if kept is None else max(0.0, told["used"] + kept - now),
        )
