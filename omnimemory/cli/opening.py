"""How a command gets its settings and its memory. Both are imported only when a command runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

__all__ = ["current_settings", "open_memory"]


def current_settings(values: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of all places, with ``--store`` and a command's own flags on top."""
    from omnimemory.config import load_settings  # noqa: PLC0415 - keeps `--help` light

    store = click.get_current_context().find_root().params.get("store")
    return load_settings({"store.path": store, **(values or {})})


def open_memory(settings: Settings | None = None) -> Memory:
    """Open the memory that the settings name; close it with ``with``."""
    settings = settings or current_settings()
    from omnimemory.memory import Memory  # noqa: PLC0415 - keeps `--help` light, and bad settings fail fast

    return Memory(settings.store.path, settings=settings)
