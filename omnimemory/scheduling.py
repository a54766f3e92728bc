"""The scheduler that the settings describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omnimemory.config import Settings
from omnimemory.errors import ConfigError
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.pressed import PressureWatch
from omnimemory.scheduler.profiles import PROFILES
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from omnimemory.scheduler.pools import Pool
    from omnimemory.scheduler.probe import Available

__all__ = ["scheduler_of"]


def scheduler_of(settings: Settings) -> Scheduler:
    """Return a scheduler that shares what it promises with all processes of this user."""
    memory, schedule = settings.memory, settings.schedule
    rules = Rules(
        PROFILES[schedule.profile],
        reserve=memory.reserve,
        max_bytes=memory.max_bytes,
        max_model_bytes=schedule.max_model_bytes,
        max_loaded=schedule.max_loaded,
        allow=schedule.allow,
        deny=schedule.deny,
        pin=schedule.pin,
        keep_alive=_keep_alive(settings) if schedule.keep_alive else (),
        priority=tuple(_rank(settings, entry) for entry in schedule.priority),
    )
    journal = Journal(schedule.folder, limit=schedule.log_bytes) if schedule.log_bytes else None
    scheduler = Scheduler(
        rules,
        ledger=Ledger(schedule.folder),
        journal=journal,
        pressure=PressureWatch(),
        pools=_pools,
        patience=schedule.wait,
    )
    scheduler.residency.folder = schedule.folder
    scheduler.residency.warms_up = schedule.warm_up
    return scheduler


def _pools(available: Available) -> Sequence[Pool]:
    from omnimemory.scheduler.pools import read_pools  # noqa: PLC0415 - only for models that can be on a GPU

    return read_pools(available)


def _keep_alive(settings: Settings) -> tuple[tuple[str, float | None], ...]:
    from omnimemory.model_servers.keep_alive import keep_alive_seconds  # noqa: PLC0415 - only who sets it

    found = []
    for entry in settings.schedule.keep_alive:
        pattern, sign, duration = entry.rpartition("=")
        try:
            found.append((pattern.strip() if sign else "*", keep_alive_seconds(duration)))
        except ConfigError as error:
            raise ConfigError(f"{settings.origin('schedule.keep_alive')}: schedule.keep_alive: {error}") from None
    return tuple(found)


def _rank(settings: Settings, entry: str) -> tuple[str, int]:
    pattern, _, rank = (part.strip() for part in entry.rpartition("="))
    try:
        if pattern:
            return pattern, int(rank)
    except ValueError:
        pass
    origin = settings.origin("schedule.priority")
    raise ConfigError(f"{origin}: {entry!r:.80} in schedule.priority is not PATTERN=NUMBER: onnx:*=1, for example.")
