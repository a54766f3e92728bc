"""Repair: everything that is derived is made anew from what is true, without embedding anything.

The catalog is the truth. A page of it that is damaged is given up only when every row of its tables is still
there; a row, only when there is a copy of it that fits its checksum. Otherwise nothing is changed and the report
says what is left: restore a backup, or ``discard`` what is damaged. Nothing is ever emptied in silence.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from omnimemory.care.catalog_checks import RESTORE
from omnimemory.care.doctor import examine
from omnimemory.care.findings import ERROR, NOTICE, Finding
from omnimemory.care.mend_derived import mend_cache, mend_index, mend_modes
from omnimemory.care.mend_rows import mend_rows, mend_vectors
from omnimemory.care.outcome import Deed, RepairReport
from omnimemory.care.remake import remake
from omnimemory.care.subject import Subject, opened_subject
from omnimemory.config import Settings
from omnimemory.errors import CatalogDamagedError, OmniMemoryError, SchemaError, StoreBusyError
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.custody import LostLogError
from omnimemory.storage.mending import fill_all_keywords
from omnimemory.storage.store import Store
from omnimemory.storage.verification import keyword_problems, structure_problems

__all__ = ["repair"]


@dataclass(slots=True)
class _Repair:
    """One run of :func:`repair`."""

    settings: Settings
    store: Store | None
    discard: bool
    done: list[Deed] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def attempt(self, name: str, step: Callable[[], None]) -> None:
        """Do one step; what goes wrong in it does not keep the others from being done."""
        try:
            step()
        except StoreBusyError as error:
            self.skipped.append(f"{name}: {error}")
        except (OmniMemoryError, sqlite3.Error, OSError) as error:
            fix = RESTORE if isinstance(error, CatalogDamagedError) else "omnimemory doctor"
            self.left.append(Finding(name, ERROR, str(error), fix))

    def pages(self) -> None:
        """Write the catalog anew if a page of it is damaged."""
        with opened_subject(self.settings, self.store) as subject:
            file, lost = subject.file, isinstance(subject.refusal, LostLogError)
            broken = _is_broken(subject)
        if broken or lost:
            self._remake(file)

    def _remake(self, file: Path) -> None:
        done, left = remake(file, discard=self.discard)
        self.done += done
        self.left += left

    def _keywords(self, catalog: Catalog) -> bool:
        """Make the keyword index anew where it is wrong; return whether that was possible."""
        if any(keyword_problems(catalog)):
            try:
                texts = fill_all_keywords(catalog)
            except CatalogDamagedError:
                return False
            self.done.append(Deed("keywords", texts, "texts brought into a new keyword index"))
        return True

    def contents(self) -> None:
        """Mend rows, then the keyword index that is made of them."""
        with opened_subject(self.settings, self.store) as subject:
            if subject.catalog is None or self.left:
                return
            done, left = mend_rows(subject.catalog, self.settings, discard=self.discard)
            self.done += [*done, *mend_vectors(subject.catalog, self.settings)]
            self.left += left
            filled = self._keywords(subject.catalog)
        if not filled:
            self._remake(subject.file)  # a table of the keyword index is so damaged that it cannot be emptied

    def derived(self) -> None:
        """Mend the index and the cache, once the catalog can be believed."""
        with opened_subject(self.settings, self.store) as subject:
            if subject.refusal is None:
                self.done += mend_index(subject)
            self.done += mend_cache(subject)


def _is_broken(subject: Subject) -> bool:
    """Return whether pages of the catalog are damaged."""
    if subject.catalog is not None:
        return any(structure_problems(subject.catalog))
    # Of this very schema and refused for it: something was added to it, or it was damaged.
    changed = isinstance(subject.refusal, SchemaError) and subject.revision == HEAD
    return subject.file.exists() and (changed or isinstance(subject.refusal, CatalogDamagedError))


def repair(
    settings: Settings,
    store: Store | None = None,
    *,
    discard: bool = False,
    progress: Callable[[str], None] | None = None,
) -> RepairReport:
    """Mend the store that the settings name, or an open one; also one that cannot be opened any more.

    ``discard`` goes on without rows that are damaged and of which there is no copy, and without transactions that
    were lost with the log; files are read again by the next ingest. ``progress`` is told the name of each step before
    it begins.
    """
    began = time.monotonic()
    run = _Repair(settings, store, discard)
    steps = {
        "files": lambda: run.done.extend(mend_modes(settings)),
        "structure": run.pages,
        "content": run.contents,
        "derived": run.derived,
    }
    for name, step in steps.items():
        if progress is not None:
            progress(name)
        run.attempt(name, step)
    examined = examine(settings, store, progress=progress)
    found = [finding for finding in examined.findings if finding.severity != NOTICE]
    left = {(finding.check, finding.message): finding for finding in (*run.left, *found)}
    return RepairReport(
        examined.path,
        tuple(run.done),
        tuple(left.values()),
        tuple(dict.fromkeys((*run.skipped, *examined.skipped))),
        round(time.monotonic() - began, 3),
    )
