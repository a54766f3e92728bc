"""A catalog whose pages are damaged, written anew: nothing lost, or nothing changed.

The new file takes the place of the old one in one rename. The old one is kept beside it only when something was
given up: ``forget`` deletes it. While that goes on nobody else may have the catalog open.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnimemory.care.findings import ERROR, Finding
from omnimemory.care.outcome import Deed
from omnimemory.errors import StoreBusyError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.log_frames import kept_log
from omnimemory.storage.mending import prune_dangling
from omnimemory.storage.room import disk_errors, require_room
from omnimemory.storage.salvage import Salvaged, salvage
from omnimemory.storage.seal import SUSPECT, Look, Record, Seal, look_at
from omnimemory.storage.verification import structure_problems

__all__ = ["remake"]

_DISCARD = "restore a backup; or `omnimemory repair --discard` goes on without them, and reads their files again"
_MADE_AGAIN = ("vectors",)  # taken from the cache, or embedded by the next ingest
_BESIDE = ("-wal", "-shm", "-journal", ".seal")


@contextmanager
def _alone_with(file: Path) -> Iterator[Seal]:
    """Keep everybody else out of a catalog for a while. Raises :class:`StoreBusyError` if somebody has it open."""
    seal = Seal(file)
    try:
        if not seal.join():
            raise StoreBusyError(f"{file} is in use. Close what uses it, then run `omnimemory repair`.")
        yield seal
    finally:
        seal.leave()


def _accept(seal: Seal, file: Path, commits: int) -> None:
    """Let the seal say that a catalog has so many transactions and has to be read as a whole at its next opening."""
    seal.write(Record(SUSPECT, commits, look_at(file) or Look(0, 0, 0, 0)))


def remake(file: Path, *, discard: bool) -> tuple[list[Deed], list[Finding]]:
    """Write the catalog anew; return what was done, or what would have been lost.

    With ``discard`` it is done although something is lost. Raises :class:`StoreBusyError` while it is in use, and
    :class:`CatalogDamagedError` if nothing can be read.
    """
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.repairing")
    with _alone_with(file) as seal, disk_errors(file):
        require_room(file, 3 * file.stat().st_size, "a new catalog")
        try:
            saved, before = salvage(file, draft), seal.read()
            losses, commits = _losses(draft, saved, discard=discard)
            if before is not None and commits < before.commits:
                losses.append(f"the last {before.commits - commits} transactions")
            if losses and not discard:
                return [], [Finding("structure", ERROR, f"These cannot be read: {'; '.join(losses)}.", _DISCARD)]
            kept = _switch(file, draft)
            _accept(seal, file, commits)
            kept_log(file).unlink(missing_ok=True)
            if not losses:
                _remove(kept)
        finally:
            _remove(draft)
    rows = sum(saved.rows.values())
    done = [Deed("catalog", rows, "rows written into a new file" + f"; the damaged one is {kept}" * bool(losses))]
    made_again = [saved.losses[table] for table in _MADE_AGAIN if table in saved.losses]
    return done + [Deed("catalog", 1, f"given up: {loss}") for loss in (*losses, *made_again)], []


def _remove(file: Path) -> None:
    for suffix in ("", *_BESIDE):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _losses(draft: Path, saved: Salvaged, *, discard: bool) -> tuple[list[str], int]:
    """Return what the new catalog lacks, and how many transactions it knows of."""
    catalog = Catalog(draft, check=False)
    try:
        losses = [loss for table, loss in saved.losses.items() if table not in _MADE_AGAIN]
        if discard and losses:
            with catalog.transaction() as sql:
                pruned = prune_dangling(sql)
            losses += [f"{count:,} {what}" for what, count in pruned.items() if count]
        losses += [] if discard else [problem.message for problem in structure_problems(catalog)]
        return losses, int(catalog.meta("commits") or 0)
    finally:
        catalog.close()


def _switch(file: Path, draft: Path) -> Path:
    """Let the new catalog take the name of the old one; return where the old one is kept."""
    kept = file.with_name(f"{file.name}.damaged")
    kept.unlink(missing_ok=True)
    kept.hardlink_to(file)
    # A log belongs to the file it was written for: beside the new one it would destroy it.
    for suffix in ("-wal", "-shm", "-journal"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.replace(kept.with_name(kept.name + suffix))
    draft.replace(file)
    return kept
