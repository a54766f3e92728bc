"""What the doctor looks at in the index: its manifest, its answers (in a child process), its left-overs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omnimemory.care.findings import ERROR, NOTICE, Finding
from omnimemory.care.subject import Subject
from omnimemory.errors import StoreBusyError
from omnimemory.storage.generations import Generations
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.manifest import changed_files
from omnimemory.storage.questioning import question, why_not_to_open

__all__ = ["WORN_SHARE", "held_index", "index", "index_complaint", "stale_folders", "worn_share"]

REPAIR, MAINTAIN = "omnimemory repair", "omnimemory maintain"
WORN_SHARE = 0.2


def index(subject: Subject) -> Iterator[Finding]:
    """Look at the active generation, and for what others left behind."""
    if subject.catalog is None or subject.refusal is not None or not subject.settings.index.enabled:
        return  # what the index should hold is known only once the catalog can be believed
    generations = Generations(subject.catalog)
    active, waiting = generations.active(), generations.waiting()
    if active is not None:
        directory = generations.directory(subject.path, active)
        with held_index(subject.path):
            unsealed = directory.is_dir() and changed_files(directory) is None
            complaint = index_complaint(subject, active)
        if complaint:
            yield Finding("index", ERROR, complaint, f"{REPAIR} (the next ingest does it as well)")
        elif unsealed:
            message = "The index was not closed cleanly, or its manifest is gone; it was questioned and is whole."
            yield Finding("index", NOTICE, message, "nothing: it has a new manifest")
    if waiting:
        message = f"{waiting:,} rows and changes are not in the index yet; searches take them from the catalog."
        yield Finding("index", NOTICE, message, "the next ingest brings them in")
    share = worn_share(generations)
    if share > WORN_SHARE:
        yield Finding("index", NOTICE, f"{share:.0%} of the index is deleted items.", MAINTAIN)
    stale = stale_folders(subject.path, active)
    if stale:
        yield Finding("index", NOTICE, f"{len(stale)} folders of old or unfinished indexes are left.", MAINTAIN)


class held_index:  # noqa: N801 - used with `with`
    """The lock of the index, for as long as a block runs. Raises :class:`StoreBusyError` if somebody has it open."""

    def __init__(self, store: Path, *, wait: float = 0.0) -> None:
        self._lock = IndexLock(store / "index.lock")
        self._wait = wait

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._wait):
            raise StoreBusyError(f"the index is in use by process {self._lock.holder()}")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def index_complaint(subject: Subject, generation: int) -> str | None:
    """Return what is wrong with a generation's folder, ``None`` if it is whole. The caller holds the index lock."""
    assert subject.catalog is not None
    directory = Generations(subject.catalog).directory(subject.path, generation)
    why = why_not_to_open(directory)
    if why:
        return why
    complaint = question(subject.path, generation)
    return f"The index does not hold what it should: {complaint}." if complaint else None


def stale_folders(store: Path, active: int | None) -> list[Path]:
    """Return the folders of generations that are not the active one."""
    folder = store / "index"
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name != str(active))


def worn_share(generations: Generations) -> float:
    """Return the share of deleted items in the collection that has the most of them, 0 to 1."""
    return max((dead / (dead + living) for dead, living in generations.tombstones() if dead), default=0.0)
