"""The scheduler that the settings describe."""

from __future__ import annotations

from omnimemory.config import Settings
from omnimemory.scheduler.admissions import Rules
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.profiles import PROFILES
from omnimemory.scheduler.scheduler import Scheduler

__all__ = ["scheduler_of"]


def scheduler_of(settings: Settings) -> Scheduler:
    """Return a scheduler that shares what it promises with all processes of this user."""
    memory, schedule = settings.memory, settings.schedule
    rules = Rules(
        PROFILES[schedule.profile],
        reserve=memory.reserve,
        max_bytes=memory.max_bytes,
        max_model_bytes=schedule.max_model_bytes,
        allow=schedule.allow,
        deny=schedule.deny,
    )
    journal = Journal(schedule.folder, limit=schedule.log_bytes) if schedule.log_bytes else None
    return Scheduler(rules, ledger=Ledger(schedule.folder), journal=journal, patience=schedule.wait)
