"""Which models the processes of a user hold: a small file of each process, for whoever looks (``status --watch``).

A file is named after its process and when that started, so those of processes that were killed are recognised and
deleted by whoever looks next. It holds names of models, sizes and times. It is written beside the work, never before a
batch, and one that cannot be written is done without: nothing is decided from it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omnimemory.scheduler.ledger import process_start
from omnimemory.scheduler.residents import Entry

__all__ = ["present", "publish", "withdraw"]


def publish(folder: Path, entries: Sequence[Entry]) -> None:
    """Write which models this process holds; without any, its file goes."""
    if not entries:
        withdraw(folder)
        return
    ahead = time.time() - time.monotonic()
    told = [
        {
            "model": entry.name,
            "bytes": entry.bytes,
            "pinned": entry.pinned,
            "loaded": entry.since + ahead,
            "used": entry.used + ahead,
            "keep_alive": entry.keep_alive,
        }
        for entry in entries
    ]
    path = folder / _name(os.getpid())
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            file.write(json.dumps(told))


def withdraw(folder: Path) -> None:
    """Delete this process's file."""
    with suppress(OSError):
        (folder / _name(os.getpid())).unlink()


def present(folder: Path) -> list[dict[str, Any]]:
    """Return the models that living processes said they hold, with their ``pid``, as JSON-ready data."""
    found = []
    for path in sorted(folder.glob("models-*-*.json")):
        try:
            pid, start = (int(part) for part in path.stem.split("-")[1:])
            if process_start(pid) != start:
                path.unlink()
                continue
            found += [{"pid": pid, **one} for one in json.loads(path.read_text("ascii"))]
        except (OSError, ValueError, TypeError):
            continue  # being written, or nothing of ours
    return found


def _name(pid: int) -> str:
    return f"models-{pid}-{process_start(pid) or 0}.json"
