"""How a command gets its settings and its memory. Both are imported only when a command runs."""

from __future__ import annotations

import sys
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

    _tell_choice(settings)
    return Memory(settings.store.path, settings=settings)


def _tell_choice(settings: Settings) -> None:
    """Say once, when a memory is made, which model it takes; it keeps that."""
    if settings.embedding.model != "auto" or sys.stderr is None or not sys.stderr.isatty():
        return
    if (settings.store.path / "catalog.sqlite3").exists():
        return
    from omnimemory.model_choice import first_choice  # noqa: PLC0415 - only for a new memory

    model = first_choice(settings)
    better = " A better one, for new memories: omnimemory models pull minilm" if model == "static" else ""
    click.echo(f"This is a new memory. It keeps the embedding model it begins with: {model}.{better}", err=True)
