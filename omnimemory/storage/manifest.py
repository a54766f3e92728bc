"""The manifest of an index: size and BLAKE2b of each of its files, written at a clean close.

It says byte for byte what the folder was. While the index is open it has another name: then nothing is promised, but
of files that Chroma has not written since it is still known what they were.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from omnimemory.faults import reach

__all__ = ["changed_files", "damaged_files", "is_clean", "suspend_manifest", "write_manifest"]

_MANIFEST = "manifest.json"
_OPENED = f"{_MANIFEST}.open"
"""What the manifest becomes while the index is open: the state that its files began with."""
_PICKLE = "index_metadata.pickle"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _files(directory: Path) -> list[Path]:
    # Neither the manifest nor a draft of it, which a process that was killed may have left behind.
    return sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(_MANIFEST))


def changed_files(directory: Path) -> list[str] | None:
    """Return the files that are not what the last clean close left; ``None`` if there was no clean close."""
    manifest = directory / _MANIFEST
    try:
        expected = dict(json.loads(manifest.read_text("utf-8"))["files"])
        found = {path.relative_to(directory).as_posix(): path for path in _files(directory)}
        return sorted(
            name
            for name in expected.keys() | found.keys()
            if name not in found or expected.get(name) != [found[name].stat().st_size, _digest(found[name])]
        )
    except FileNotFoundError:
        return [_MANIFEST] if manifest.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return [_MANIFEST]


def damaged_files(directory: Path) -> list[str]:
    """Return the HNSW files that differ from the last clean close though Chroma has not written them since.

    It writes the files of a collection together, and with them its ``index_metadata.pickle``.
    """
    try:
        expected = dict(json.loads((directory / _OPENED).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    changed = [name for name, known in expected.items() if "/" in name and not _is_same(directory / name, known)]
    pickles = {name: directory / name for name in expected if name.endswith(f"/{_PICKLE}")}
    written = {name.rpartition("/")[0] for name, path in pickles.items() if name in changed and path.exists()}
    known = {name.rpartition("/")[0] for name in pickles}
    return sorted(name for name in changed if (folder := name.rpartition("/")[0]) in known and folder not in written)


def _is_same(path: Path, known: list[Any]) -> bool:
    try:
        return [path.stat().st_size, _digest(path)] == known
    except OSError:
        return False


def is_clean(directory: Path) -> bool:
    """Return whether the folder is byte for byte what the last clean close left."""
    return changed_files(directory) == []


def suspend_manifest(directory: Path) -> None:
    """Say that the folder is about to be opened."""
    if (directory / _MANIFEST).exists():
        (directory / _MANIFEST).replace(directory / _OPENED)


def write_manifest(directory: Path) -> None:
    """Write down what the files of a folder that was closed are; from now on it is trusted."""
    files = {path.relative_to(directory).as_posix(): [path.stat().st_size, _digest(path)] for path in _files(directory)}
    draft = directory / f"{_MANIFEST}.new"
    descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"files": files}, file)
    reach("manifest.switch")
    draft.replace(directory / _MANIFEST)
    (directory / _OPENED).unlink(missing_ok=True)
