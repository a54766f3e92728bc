"""The settings of the scheduler: which models may be in memory, how many, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omnimemory.config.keys import key, user_folder

__all__ = ["ScheduleSettings"]


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """How models share the memory of this machine."""

    profile: str = key(
        "balanced", "text", "how much is left to others", choices=("max_use", "balanced", "conservative")
    )
    wait: float = key(10.0, "float", "most seconds a batch waits for memory", low=0, high=3600)
    folder: Path = key(  # noqa: RUF009 - returns a dataclass field
        lambda: user_folder("state") / "schedule", "path", "folder of what processes were promised, and of decisions"
    )
    log_bytes: int = key(4 << 20, "size", "bytes of decisions kept in that folder, 0 keeps none", low=0)
    max_model_bytes: int | None = key(None, "size", "most bytes a model may need", low=1, optional=True)
    allow: tuple[str, ...] = key((), "list", "patterns: only these models may be used, none is all")
    deny: tuple[str, ...] = key((), "list", "patterns: these models may not be used")
