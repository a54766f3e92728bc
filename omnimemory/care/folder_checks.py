"""What the doctor looks at in the file system: who may read what, how much room is left, what was left behind."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from omnimemory.care.findings import ERROR, NOTICE, WARNING, Finding
from omnimemory.care.index_checks import held_index
from omnimemory.care.subject import Subject
from omnimemory.errors import StoreBusyError
from omnimemory.storage.room import free_bytes
from omnimemory.storage.store_folder import CATALOG, bytes_under

__all__ = ["files", "left_behind", "leftovers", "open_to_others", "room"]

_LEAST_FREE = 64 << 20
_OLD_SECONDS = 3600.0
_DRAFTS = (f"{CATALOG}.*.new*", f"{CATALOG}.*.migrating*", f"{CATALOG}.*.repairing*")


def files(subject: Subject) -> Iterator[Finding]:
    """Say what others may read or write, what is somebody else's, and what is no file at all."""
    for folder in (subject.path, subject.settings.cache.path):
        for path, status in _entries(folder):
            if stat.S_ISLNK(status.st_mode):
                yield Finding("files", WARNING, f"{path} is a link.", "put the file itself there, or delete the link")
            elif status.st_uid != os.geteuid():
                fix = f"chown -R {os.geteuid()} {folder}, if it is yours"
                yield Finding("files", ERROR, f"{path} belongs to user {status.st_uid}, not to you.", fix)
        readable = open_to_others(folder)
        if any(_of_index(path, folder) for path in readable) and _index_in_use(subject.path):
            readable = [path for path in readable if not _of_index(path, folder)]
        if readable:
            named = ", ".join(path.name for path in readable[:3]) + ", ..." * (len(readable) > 3)
            message = f"{len(readable)} of the files and folders in {folder} are open to other users: {named}."
            yield Finding("files", WARNING, message, "omnimemory repair")


def _of_index(path: Path, store: Path) -> bool:
    return path.is_relative_to(store / "index")


def _index_in_use(store: Path) -> bool:
    # Chroma makes files that everybody may read, in a folder that nobody else may enter; soon they are closed as well.
    try:
        with held_index(store):
            return False
    except StoreBusyError:
        return True


def open_to_others(folder: Path) -> list[Path]:
    """Return what is below a folder, and it, if its mode lets anybody else in and it is ours to change."""
    return [
        path
        for path, status in _entries(folder)
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077 and status.st_uid == os.geteuid()
    ]


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    below = (Path(top, name) for top, folders, names in os.walk(folder) for name in (*folders, *names))
    for path in (folder, *below):
        try:
            yield path, path.lstat()
        except OSError:  # SQLite's and Chroma's files come and go
            continue


def room(subject: Subject) -> Iterator[Finding]:
    """Say whether there is room for what a rebuild or a vacuum needs for a while: the store once more."""
    free = free_bytes(subject.path)
    wanted = max(_LEAST_FREE, bytes_under(subject.path))
    if free is not None and free < wanted:
        message = f"{free >> 20:,} MiB are free beside {subject.path}; a rebuild may need {wanted >> 20:,} MiB."
        yield Finding("room", WARNING, message, "free some space")


def leftovers(subject: Subject) -> Iterator[Finding]:
    """Say what processes that were killed left behind, and what is kept for whoever wants to look into it."""
    drafts = left_behind(subject.path)
    if drafts:
        message = f"{len(drafts)} unfinished copies of the catalog are left by processes that were killed."
        yield Finding("leftovers", NOTICE, message, "omnimemory maintain")
    kept = [*subject.path.glob(f"{CATALOG}.damaged*"), *subject.settings.cache.path.glob("*.damaged")]
    for path in sorted(kept):
        yield Finding("leftovers", NOTICE, f"{path} is a damaged file that was set aside.", f"rm {path}")


def left_behind(store: Path) -> list[Path]:
    """Return drafts of the catalog that nobody has written to for an hour."""
    found = {path for pattern in _DRAFTS for path in store.glob(pattern)}
    return sorted(path for path in found if _age(path) > _OLD_SECONDS)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
