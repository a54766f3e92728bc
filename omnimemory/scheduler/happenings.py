"""What happens beside the requests of a scheduler, counted: models that go, come back too soon or are loaded ahead."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnimemory.scheduler.admissions import Admissions
    from omnimemory.scheduler.residency import Residency
    from omnimemory.scheduler.scheduler import Scheduler

__all__ = ["TellHappenings", "happenings"]


def happenings(admissions: Admissions, residency: Residency) -> dict[str, int]:
    """Return the counts of a process so far, such as ``unloaded:idle``; what never happened is left out."""
    found = {"dead_purged": admissions.purged, "thrashed": admissions.residents.thrashed}
    found |= {f"unloaded:{reason}": count for reason, count in residency.unloads.items()}
    found |= {f"ahead:{what}": count for what, count in residency.warming.counts.items()}
    return {name: count for name, count in found.items() if count}


class TellHappenings:
    """Has a scheduler write them down; it does not keep the scheduler alive."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = weakref.ref(scheduler)

    def __call__(self) -> None:
        """Write down what is new."""
        scheduler = self._scheduler()
        if scheduler is not None:
            scheduler.count()
