"""How a setting is declared: a field of a dataclass with its default, type, meaning and range."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

from omnimemory.config.spec import Spec

__all__ = ["key", "user_folder"]


def key(default: Any, kind: str, meaning: str, **limits: Any) -> Any:
    """Return the field of a setting; ``limits`` are those of :class:`~omnimemory.config.spec.Spec`."""
    metadata = {"spec": Spec(kind, meaning, **limits)}
    return (
        field(default_factory=default, metadata=metadata)
        if callable(default)
        else field(default=default, metadata=metadata)
    )


def user_folder(kind: str) -> Path:
    """Return this platform's folder for the user's ``data``, ``cache``, ``config`` or ``state`` of this package."""
    import platformdirs  # noqa: PLC0415 - not needed when every path is given

    return Path(getattr(platformdirs, f"user_{kind}_path")("omnimemory", appauthor=False))
