"""Settings: what can be set, where it may be set, and which place wins.

From strong to weak: arguments and flags, ``OMNIMEMORY_<SECTION>_<KEY>`` in the environment, ``omnimemory.toml`` of the
project, ``config.toml`` of the user, defaults. A project file comes with a clone, so it may set only what cannot move
the store, the cache or the model. An unknown key or a bad value is an error naming the file, the line and the fix.
Relative paths count from the current directory, in a file from the file's own folder; an empty variable is unset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnimemory.config.places import Found, project_file, read_environment, read_file, user_file, working_folder
from omnimemory.config.settings import (
    SECTIONS,
    SPECS,
    CacheSettings,
    ChunkingSettings,
    DocumentSettings,
    EmbeddingSettings,
    HistorySettings,
    IndexSettings,
    MemorySettings,
    ModelSettings,
    RedactionSettings,
    ScheduleSettings,
    SearchSettings,
    ServerSettings,
    Settings,
    StoreSettings,
    by_section,
    parse_value,
)
from omnimemory.config.spec import Spec, parse_size

__all__ = [
    "SPECS",
    "CacheSettings",
    "ChunkingSettings",
    "DocumentSettings",
    "EmbeddingSettings",
    "HistorySettings",
    "IndexSettings",
    "MemorySettings",
    "ModelSettings",
    "RedactionSettings",
    "ScheduleSettings",
    "SearchSettings",
    "ServerSettings",
    "Settings",
    "Spec",
    "StoreSettings",
    "load_settings",
    "parse_size",
    "project_file",
    "user_file",
]


def load_settings(
    overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Settings:
    """Read the settings of all places. ``overrides`` maps ``section.key`` to a value; ``None`` is "not given"."""
    environ = os.environ if environ is None else environ
    folder = working_folder() if cwd is None else cwd
    user, project = user_file(environ, folder), project_file(environ, folder)
    found: dict[str, Found] = {}
    if environ.get("OMNIMEMORY_CONFIG") or user.exists():
        found |= read_file(user, restricted=False)
    if project is not None:
        found |= read_file(project, restricted=True)
    found |= read_environment(environ, folder)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    found |= {key: Found(parse_value(key, value, "argument", folder), "argument") for key, value in given.items()}
    sections = by_section({key: item.value for key, item in found.items()})
    origins = {key: item.origin for key, item in found.items()}
    return Settings(**{name: SECTIONS[name](**part) for name, part in sections.items()}, origins=origins)
