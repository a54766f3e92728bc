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
    max_loaded: int | None = key(
        None, "int", "most models in memory at once, none is the profile's", low=1, high=100, optional=True
    )
    keep_alive: tuple[str, ...] = key(
        (), "list", "how long idle models stay, such as 10m, or onnx:*=1h; none is the profile's"
    )
    priority: tuple[str, ...] = key(
        (), "list", "which idle models stay longer when there is need, such as onnx:*=1; the higher ones"
    )
    warm_up: bool = key(
        default=True, kind="bool", meaning="load the model that is probably used next into memory that is free anyway"
    )
    pin: tuple[str, ...] = key((), "list", "patterns: these models are never unloaded by themselves")
    allow_foreign: bool = key(default=False, kind="bool", meaning="unload models of Ollama that others loaded")
    allow: tuple[str, ...] = key((), "list", "patterns: only these models may be used, none is all")
    deny: tuple[str, ...] = key((), "list", "patterns: these models may not be used")
