"""The sentences in which a decision is told: figures rounded to the side that never flatters, and what would help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import UNKNOWN, Available
from omnimemory.scheduler.victims import Spared

if TYPE_CHECKING:
    from omnimemory.scheduler.limits import Limits

__all__ = ["fixes", "granted", "mib_down", "mib_up", "pressed", "refused", "sentence", "shrunk", "texts"]

_MIB = 1 << 20
_RESERVE = "memory.reserve (OMNIMEMORY_MEMORY_RESERVE)"
_MAX_BYTES = "memory.max_bytes (OMNIMEMORY_MEMORY_MAX_BYTES)"


def granted(request: Request, items: int, need: int, room: int) -> str:
    """Say that a batch runs."""
    what = f"{texts(items)} with {request.model} need" if _runs(request) else f"{request.model} needs"
    return f"{what} {mib_up(need)} of {mib_down(room)}"


def shrunk(request: Request, items: int, need: int, room: int, available: Available, limits: Limits) -> str:
    """Say that a part of a batch runs; ``need`` is that of the whole one."""
    helps = [*fixes(available, limits), f"lower --batch-size to {items}"]
    return (
        f"{texts(request.items)} with {request.model} need {mib_up(need)}, but there are "
        f"{mib_down(room)} ({_account(available, limits)}), so {items} run now. {sentence(helps)}"
    )


def pressed(request: Request, items: int, level: str) -> str:
    """Say that a part of a batch runs, because memory is pressed, though it would fit."""
    return (
        f"Memory is under {level} pressure (swapping, stalls, or limits that were hit), so {items} of "
        f"{texts(request.items)} with {request.model} run now. Close programs."
    )


def refused(
    request: Request,
    need: int,
    room: int,
    available: Available,
    limits: Limits,
    *,
    spared: Sequence[Spared] = (),
    waited: float = 0.0,
) -> str:
    """Say that not even one text runs; ``need`` is that of one."""
    if available.source == UNKNOWN and limits.max_bytes is None:
        notes = "; ".join(f"{r.source}: {r.note}" for r in available.readings if r.note) or "no source answered"
        return (
            f"The free memory of this machine cannot be read ({notes}), so no batch may run. "
            f"Set {_MAX_BYTES} to the bytes this process may use."
        )
    helps = fixes(available, limits)
    if request.base > request.per_item:
        helps.append("choose a smaller model")
    if limits.outstanding:
        helps.append("wait for the batches that run now (a lower --batch-size makes them smaller)")
    base = math.ceil(request.base * limits.factor)
    model = f" ({mib_up(base)} of it for the model)" if base else ""
    subject = f"even one text with {request.model}" if _runs(request) else request.model
    kept = " ".join(f"{one.model} stays: {one.why}." for one in spared)
    return (
        f"There is no memory for {subject}: it needs {mib_up(need)}"
        f"{model}, and there are {mib_down(room)} ({_account(available, limits)})"
        f"{f', after {waited:.1f} s of waiting' if waited else ''}. {f'{kept} ' if kept else ''}{sentence(helps)}"
    )


def fixes(available: Available, limits: Limits) -> list[str]:
    """Return what would make more room, for the limit that binds."""
    free = available.bytes - limits.reserve
    if limits.max_bytes is not None and (available.source == UNKNOWN or limits.max_bytes - available.used < free):
        return [f"raise {_MAX_BYTES}"]
    if available.source.startswith("RLIMIT"):
        found = [f"raise the limit of this process ({available.source}, see ulimit)"]
    elif available.source.startswith("cgroup"):
        found = [f"raise the memory limit of the container or service ({available.source})"]
    else:
        found = ["close programs"]
    return [*found, f"lower {_RESERVE}"] if limits.reserve else found


def _runs(request: Request) -> bool:
    """Return whether texts are to run, and not only the model to be loaded."""
    return request.per_item + request.growth_per_item + request.per_batch > 0


def _account(available: Available, limits: Limits) -> str:
    parts = [
        f"{mib_down(available.bytes)} available by {available.source}",
        f"{mib_up(limits.reserve)} kept in reserve",
    ]
    if limits.outstanding:
        parts.append(f"{mib_up(limits.outstanding)} promised to running batches")
    if limits.held:
        parts.append(f"{mib_up(limits.held)} kept for a request that waited longer")
    if limits.max_bytes is not None:
        parts.append(f"{mib_up(available.used)} used of the {mib_down(limits.max_bytes)} this process may use")
    if limits.blind:
        parts.append(f"half of it left to other processes, because {limits.blind}")
    return ", ".join(parts)


def sentence(helps: Sequence[str]) -> str:
    """Join what would help into one sentence."""
    text = ", or ".join(helps)
    return f"{text[:1].upper()}{text[1:]}."


def texts(items: int) -> str:
    """Return the number of texts in words."""
    return "1 text" if items == 1 else f"{items} texts"


def mib_up(size: int) -> str:
    """Return bytes as MiB, rounded up."""
    return f"{math.ceil(size / _MIB * 10) / 10:,.1f} MiB"


def mib_down(size: int) -> str:
    """Return bytes as MiB, rounded down."""
    return f"{math.floor(size / _MIB * 10) / 10:,.1f} MiB"
