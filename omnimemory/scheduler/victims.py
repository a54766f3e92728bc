"""Which idle models go to make room: never more than are needed, the least worth keeping first.

What a model is worth is how often it is used, times the seconds it takes to load again, by its bytes
(GreedyDual-Size-Frequency, Cherkasova 1998); the rate of use halves every five minutes. A model whose keep-alive has
run out goes before any other. One that is in use, pinned, loaded by somebody else, or just loaded does not go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["HALF_LIFE", "Resident", "Spared", "Victim", "choose_victims", "least_residency", "worth"]

HALF_LIFE = 300.0
"""Seconds in which the rate of use of a model that is not used halves."""

_LEAST_RESIDENCY = 5.0
_LEAST_LOAD = 0.05  # a model that loads in no time is still worth something


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, as a decision sees it: bytes, and times in seconds of the scheduler's clock.

    ``leases`` batches use it now. ``foreign`` models were loaded by somebody else. ``expires`` is when its keep-alive
    runs out (``None``: never); ``rate`` how often it was used lately, as of ``used``. A ``draining`` model gets no new
    leases. Its bytes are of ``pool``.
    """

    name: str
    bytes: int
    leases: int = 0
    pinned: bool = False
    foreign: bool = False
    priority: int = 0
    since: float = 0.0
    used: float = 0.0
    expires: float | None = None
    load_seconds: float = 0.0
    rate: float = 1.0
    draining: bool = False
    pool: str = "ram"


@dataclass(frozen=True, slots=True)
class Victim:
    """A model that is to go: the bytes that come back and what keeping it was worth."""

    model: str
    bytes: int
    score: float


@dataclass(frozen=True, slots=True)
class Spared:
    """A model that does not go, and why."""

    model: str
    why: str


def worth(resident: Resident, now: float) -> float:
    """Return what keeping the model is worth: uses x seconds to load again / bytes."""
    rate: float = resident.rate * 0.5 ** (max(0.0, now - resident.used) / HALF_LIFE)
    return rate * max(_LEAST_LOAD, resident.load_seconds) / max(1, resident.bytes)


def least_residency(resident: Resident) -> float:
    """Return how long a model stays at least once it was loaded, in seconds: loading must have been worth it."""
    return max(_LEAST_RESIDENCY, 2 * resident.load_seconds)


def choose_victims(
    residents: Sequence[Resident],
    wanted: int,
    count: int,
    now: float,
    *,
    without: str = "",
    starved: bool = False,
    expired_only: bool = False,
    leased: bool = False,
) -> tuple[tuple[Victim, ...], tuple[Spared, ...]]:
    """Return the models to unload for ``wanted`` bytes and ``count`` places, or none at all if that is not enough.

    No one of them could stay. ``without`` is the model that the room is for. For a ``starved`` request models that were
    just loaded go as well; with ``expired_only`` only those whose keep-alive has run out; with ``leased`` also those in
    use (to be drained, not unloaded). What is spared, and why, comes second.
    """
    free: list[Resident] = []
    spared: list[Spared] = []
    for resident in residents:
        if resident.name == without:
            continue
        why = _why_spared(resident, now, starved=starved, expired_only=expired_only, leased=leased)
        if why:
            spared.append(Spared(resident.name, why))
        else:
            free.append(resident)
    chosen: list[Resident] = []
    for resident in sorted(free, key=lambda one: _rank(one, now)):
        if _enough(chosen, wanted, count):
            break
        chosen.append(resident)
    if not _enough(chosen, wanted, count):
        return (), tuple(spared)
    for resident in list(reversed(chosen)):
        rest = [one for one in chosen if one is not resident]
        if _enough(rest, wanted, count):
            chosen = rest
    return tuple(Victim(one.name, one.bytes, worth(one, now)) for one in chosen), tuple(spared)


def _why_spared(resident: Resident, now: float, *, starved: bool, expired_only: bool, leased: bool) -> str:
    fixed = "it is pinned" if resident.pinned else "others loaded it" if resident.foreign else ""
    if resident.leases and not leased:
        return f"it is in use ({resident.leases})"
    if fixed or _is_expired(resident, now):
        return fixed
    if expired_only:
        return "its keep-alive has not run out"
    age = now - resident.since
    if age < least_residency(resident) and not starved:
        return f"it was loaded {age:.1f} s ago and stays {least_residency(resident):.1f} s at least"
    return ""


def _is_expired(resident: Resident, now: float) -> bool:
    return resident.expires is not None and resident.expires <= now


def _rank(resident: Resident, now: float) -> tuple[bool, int, float, float, str]:
    expired = _is_expired(resident, now)
    return not expired, resident.priority, worth(resident, now), resident.used, resident.name


def _enough(chosen: Iterable[Resident], wanted: int, count: int) -> bool:
    found = list(chosen)
    return len(found) >= count and sum(one.bytes for one in found) >= wanted
