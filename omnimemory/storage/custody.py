"""Whether a catalog may be believed: its seal is compared when it is opened, its content read if that does not fit.

What is noticed before anything is answered: a catalog that was cut, overwritten or changed in a single bit
while nobody had it open, also after its last user was killed; a write-ahead log that was lost; a catalog that
is gone. What is done to the file while a process has it open is noticed where rows are read (``checksums.py``),
by ``doctor``, and at the next opening.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omnimemory.errors import CatalogDamagedError, StoreError
from omnimemory.storage.log_frames import keep_log
from omnimemory.storage.seal import SEALED, SUSPECT, WRITING, Look, Record, Seal, look_at, read_seal, seal_file

if TYPE_CHECKING:
    from omnimemory.storage.catalog import Catalog

__all__ = ["ADVICE", "Custody", "LostLogError", "lost_message"]

ADVICE = (
    "Nothing was changed. `omnimemory doctor` says all that is wrong, `omnimemory repair` mends what can be mended "
    "without a loss; otherwise restore a backup."
)
_LOST_ADVICE = "Restore a backup, or let `omnimemory repair --discard` go on with what is left."
_MOST_BYTES = 256 << 20
"""The keyword index of a larger catalog is not read as a whole at its close; ``doctor`` compares it all the same."""

_COUNT = (
    "INSERT INTO meta VALUES ('commits', '1') ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 "
    "RETURNING value"
)
_LOG = logging.getLogger("omnimemory")


def lost_message(path: Path, commits: int, acknowledged: int) -> str:
    """Say that a catalog has fewer transactions than were acknowledged."""
    return (
        f"{path} holds {commits} transactions, but {acknowledged} were acknowledged: its write-ahead log was lost or "
        f"damaged, and with it the last {acknowledged - commits}."
    )


class LostLogError(CatalogDamagedError):
    """The catalog has fewer transactions than were acknowledged."""


class Custody:
    """The part of one open catalog that knows whether its file may be believed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seal = Seal(path)
        self._trusted = self._is_shorter = False

    # -- opening

    def refuse_if_gone(self) -> None:
        """Raise :class:`CatalogDamagedError` when something beside the file says that there was a catalog."""
        log = self._path.with_name(f"{self._path.name}-wal")
        left = next((file for file in (seal_file(self._path), log) if file.exists()), None)
        if left is not None:
            raise CatalogDamagedError(
                f"{self._path} is gone, but {left.name} is still there. The catalog is the truth, so nothing is begun "
                f"in its place: restore it from a backup, or delete {left} to begin anew."
            )

    def refuse_if_sealed(self) -> None:
        """Raise :class:`CatalogDamagedError` when a file that is no catalog was one once."""
        if read_seal(self._path) is not None:
            raise CatalogDamagedError(f"{self._path} is not a catalog any more: it was cut or overwritten. {ADVICE}")

    def join(self, catalog: Catalog, *, check: bool) -> None:
        """Become a user of the file. Raises :class:`CatalogDamagedError` if its content is not what was written.

        Without ``check`` nothing is read, and nothing that happens meanwhile is vouched for.
        """
        alone = self._seal.join()
        try:
            if check:
                self._check(catalog, alone=alone)
                self._trusted = True
        finally:
            self._seal.share()

    def _check(self, catalog: Catalog, *, alone: bool) -> None:
        record, look = self._seal.read(), look_at(self._path)
        if record is not None and record.state != SUSPECT and not alone:
            return  # whoever has it open has checked it
        commits = _commits(catalog)
        lost = record is not None and commits < record.commits
        if record is not None and record.look == look and record.state != SUSPECT and not lost:
            return
        try:
            self._refuse_if_shorter(record, look, commits)
            self._read_all(catalog, record, commits)
        except CatalogDamagedError as error:
            self._is_shorter = isinstance(error, LostLogError)
            # Whoever waits for the end of this check must not take it for passed.
            self._seal.write(replace(record or Record(SUSPECT, commits, look or Look(0, 0, 0, 0)), state=SUSPECT))
            raise
        if record is not None and lost:
            _LOG.warning(
                "%s It passed all checks, so it is taken for a backup that was put back.",
                lost_message(self._path, commits, record.commits),
            )
        if look is not None and look == look_at(self._path):
            self._seal.write(replace(record or Record(SEALED, 0, look), state=SEALED, commits=commits, look=look))

    def _refuse_if_shorter(self, record: Record | None, look: Look | None, commits: int) -> None:
        if record is None or commits >= record.commits:
            return
        # A file of the same size and time, if only copied, is the one that had them all. Another one may be a backup.
        same = look is not None and (look.size, look.mtime_ns) == (record.look.size, record.look.mtime_ns)
        if same or record.state == WRITING:
            with suppress(OSError):
                keep_log(self._path)
            raise LostLogError(f"{lost_message(self._path, commits, record.commits)} {_LOST_ADVICE}")

    def _read_all(self, catalog: Catalog, record: Record | None, commits: int) -> None:
        from omnimemory.storage import verification  # noqa: PLC0415 - nearly no opening needs it

        problems = [*verification.structure_problems(catalog)]
        problems += [] if problems else verification.content_problems(catalog)
        if not problems and record is not None:
            if record.keywords_at == commits:
                problems += verification.digest_problems(catalog, record.keywords)
            elif record.state != WRITING and record.commits == commits and self._is_small():
                problems += verification.keyword_problems(catalog)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise CatalogDamagedError(f"{self._path} is damaged: {problems[0].message}{more}. {ADVICE}")

    def _is_small(self) -> bool:
        look = look_at(self._path)
        return look is not None and look.size <= _MOST_BYTES

    # -- writing

    def begin(self, sql: sqlite3.Connection, changes: int) -> int | None:
        """Count a transaction that changed something and is about to be committed; return its number.

        ``changes`` is what the connection had changed before it.
        """
        if sql.total_changes == changes:
            return None
        if self._trusted:
            self._seal.begin()
        return int(sql.execute(_COUNT).fetchone()[0])

    def end(self, commits: int | None) -> None:
        """Say that so many transactions are committed now."""
        if self._trusted and commits is not None:
            self._seal.end(commits)

    # -- closing

    @contextmanager
    def leaving(self, catalog: Catalog) -> Iterator[None]:
        """Be no user any more, once the block has closed the file; its last user seals it."""
        record = None
        if self._trusted and self._seal.is_last():
            with suppress(StoreError, OSError):
                record = self._last_word(catalog)
                self._seal.begin()  # closing folds the log into the file
        try:
            yield
        finally:
            if record is not None:
                self._seal.settle(record)
            self._remember_shorter()
            self._trusted = False
            self._seal.leave()

    def _remember_shorter(self) -> None:
        """Write down what the file looks like that lacks transactions: its log has just been folded in."""
        record, look = self._seal.read(), look_at(self._path)
        if self._is_shorter and record is not None and look is not None:
            self._seal.write(replace(record, state=SUSPECT, look=look))

    def _last_word(self, catalog: Catalog) -> Record:
        from omnimemory.storage.verification import keyword_digest  # noqa: PLC0415 - only who has written needs it

        commits = _commits(catalog)
        record = self._seal.read() or Record(SEALED, commits, Look(0, 0, 0, 0))
        if record.keywords_at != commits and self._is_small():
            record = replace(record, keywords=keyword_digest(catalog), keywords_at=commits)
        return replace(record, commits=commits)


def _commits(catalog: Catalog) -> int:
    try:
        return int(catalog.meta("commits") or 0)
    except ValueError as error:
        raise CatalogDamagedError(
            f"{catalog.path} is damaged: it does not tell how often it changed. {ADVICE}"
        ) from error
