"""The doctor: looks at every part of a store and says what is wrong and what to do. It changes nothing.

The index is opened in a child process, because damaged HNSW files make chromadb end its process. Opening folds
SQLite's log into its file and an index that was not closed cleanly gets its manifest, as with any other use.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator

from omnimemory.care import cache_checks, catalog_checks, folder_checks, index_checks
from omnimemory.care.findings import ERROR, Examination, Finding
from omnimemory.care.subject import Subject, opened_subject
from omnimemory.config import Settings
from omnimemory.errors import OmniMemoryError, StoreBusyError
from omnimemory.storage.store import Store

__all__ = ["CHECKS", "examine"]

CHECKS: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "store": catalog_checks.presence,
    "schema": catalog_checks.schema,
    "structure": catalog_checks.structure,
    "content": catalog_checks.content,
    "keywords": catalog_checks.keywords,
    "vectors": catalog_checks.vectors,
    "model": catalog_checks.model,
    "purges": catalog_checks.purging,
    "index": index_checks.index,
    "cache": cache_checks.cache,
    "files": folder_checks.files,
    "room": folder_checks.room,
    "leftovers": folder_checks.leftovers,
}
"""Every check, in the order it is made."""

# Also what reading a damaged row comes to: its values may be of other types than the schema says.
_UNREADABLE = (OmniMemoryError, sqlite3.Error, OSError, ValueError, TypeError, AttributeError)


def examine(
    settings: Settings, store: Store | None = None, *, progress: Callable[[str], None] | None = None
) -> Examination:
    """Examine the store that the settings name, or an open one; also one that cannot be opened any more.

    ``progress`` is told the name of each check before it begins.
    """
    began = time.monotonic()
    findings: list[Finding] = []
    skipped: list[str] = []
    with opened_subject(settings, store) as subject:
        for name, check in CHECKS.items():
            if progress is not None:
                progress(name)
            try:
                findings.extend(check(subject))
            except StoreBusyError as error:
                skipped.append(f"{name}: {error}")
            except _UNREADABLE as error:
                findings.append(Finding(name, ERROR, f"This could not be looked at: {error}", catalog_checks.RESTORE))
    seconds = round(time.monotonic() - began, 3)
    return Examination(str(subject.path), tuple(CHECKS), tuple(findings), tuple(skipped), seconds)
