"""The files and folders that an ingest was given: what is there now, and which stored files may be forgotten.

A file that is gone is forgotten, because the memory mirrors the files; but a folder that is unmounted or
unreadable looks like one that was emptied, so doubt keeps everything (see :func:`removable`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omnimemory.ingest.paths import path_uri
from omnimemory.records import Failure
from omnimemory.sources.documents import Found, Limits, walk
from omnimemory.storage.sources import StoredSource

__all__ = ["Root", "removable", "walk_root"]

_FEW_FILES = 10
_MOST_SHARE = 0.5


@dataclass(slots=True)
class Root:
    """One file or folder to ingest, as it was found.

    ``refused`` are the uris that could not be looked at: what is stored of them is not gone.
    """

    path: Path
    uri: str
    exists: bool
    found: dict[str, Found] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def refused(self) -> set[str]:
        """What is there but could not be looked at."""
        return {failure.source for failure in self.failures if failure.error and self.exists}


def walk_root(path: Path, limits: Limits, own: Sequence[str]) -> Root:
    """Return what is in a root; folders of our own, such as the store, hold no documents."""
    root = Root(path, path_uri(path), exists=_exists(path))
    for entry in walk(path, limits):
        uri = entry.source if isinstance(entry, Failure) else entry.uri
        if any(_is_below(uri, folder) for folder in own):
            continue
        if isinstance(entry, Failure):
            root.failures.append(entry)
        else:
            root.found[entry.uri] = entry
    return root


def _exists(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - Path.exists raises, or says no, where a folder may not be entered
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def removable(
    root: Root, stored: dict[str, StoredSource], alive: set[str], *, anyway: bool
) -> tuple[list[StoredSource], str | None]:
    """Return the stored files of a root that are to be forgotten, or why none of those that are gone is.

    ``alive`` are the uris that hold text, or could not be looked at. ``anyway`` overrules all doubts.
    """
    gone = [source for uri, source in stored.items() if uri not in alive and not _has_own_root(source, root)]
    doubt = _doubt(root, gone, len(stored)) if gone and not anyway else None
    if doubt is None:
        return gone, None
    files = (
        "1 file that is no longer found was" if len(gone) == 1 else f"{len(gone)} files that are no longer found were"
    )
    return [], f"{doubt}: {files} kept; to forget: --prune-all"


def _has_own_root(source: StoredSource, root: Root) -> bool:
    """Return whether a file is there and was ingested by a path of its own, which may lead where no walk goes."""
    own = str(source.state.get("root", root.uri))
    return own != root.uri and _is_below(own, root.uri) and os.path.lexists(source.uri)


def _is_below(uri: str, folder: str) -> bool:
    return uri == folder or uri.startswith(f"{folder.rstrip('/')}/")


def _doubt(root: Root, gone: Sequence[StoredSource], stored: int) -> str | None:
    """Say why files that seem to be gone must be kept: a folder may be unmounted, or unreadable in part."""
    if root.exists and [source.uri for source in gone] == [root.uri]:
        return None  # the file itself is there, and holds no text any more
    is_folder = os.path.isdir(root.path)  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
    doubts = {
        "there is no such file or folder": not root.exists,
        "it was a folder and is none": not is_folder,
        "the folder is empty": not root.found,
        "a part of the folder could not be read": any(failure.error for failure in root.failures),
        "more than half of the folder's files are gone": len(gone) > max(_FEW_FILES, _MOST_SHARE * stored),
    }
    return next((doubt for doubt, is_so in doubts.items() if is_so), None)
