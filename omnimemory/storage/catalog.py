"""The catalog: one SQLite file that holds the truth, opened, checked and made here.

Texts, events and vectors are committed to it together; the Chroma index is derived from it. Facts this
relies on: in WAL mode readers never block the writer, and a transaction survives the death of the
process (sqlite.org/wal.html, sqlite.org/atomiccommit.html). ``synchronous=FULL`` makes it survive power
loss as well; a commit per batch makes that cheap.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.errors import CatalogDamagedError, SchemaError, StoreBusyError, StoreError, StoreFullError
from omnimemory.faults import reach
from omnimemory.storage.connections import Connections, waiting
from omnimemory.storage.custody import Custody
from omnimemory.storage.foreign import database_files, refuse_foreign, refuse_foreign_schema
from omnimemory.storage.lock import flock_within, holders_of
from omnimemory.storage.new_catalog import new_catalog
from omnimemory.storage.revision import written_revision
from omnimemory.storage.room import disk_errors, full_message, is_disk_error

__all__ = ["HEAD", "Catalog", "Collection", "catalog_errors"]

_CREATE_SECONDS = 5.0
_SIGNS_OF_DAMAGE = ("Could not decode to UTF-8", "malformed")  # in a text, in JSON
_OURS = ("meta", "spaces", "vectors")

HEAD = "0005"
"""The newest revision of the schema; ``schema.sql`` is its snapshot, ``migrations/`` its history."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of vectors of one space: ``name`` is also its name in Chroma."""

    id: int
    name: str
    dim: int
    fingerprint: str
    model: str


@contextmanager
def catalog_errors(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the file system into ours, saying what to do."""
    try:
        with disk_errors(path):
            yield
    except sqlite3.OperationalError as error:
        damaged = any(part in str(error) for part in _SIGNS_OF_DAMAGE)
        raise (_damaged if damaged else _operational)(path, str(error)) from error
    except sqlite3.ProgrammingError as error:
        if "closed database" not in str(error):
            raise
        raise StoreError(f"{path} was closed while it was in use: open the store again.") from error
    except sqlite3.IntegrityError as error:
        raise StoreError(
            f"{path} refused rows that contradict what it holds ({error}); nothing of the batch was stored. "
            "Another process may have changed the same items: run it again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, text: str) -> CatalogDamagedError:
    return CatalogDamagedError(
        f"{path} is damaged or not a catalog ({text}). See what is wrong with `omnimemory doctor`, mend what can "
        "be mended with `omnimemory repair`, or restore a backup."
    )


def _operational(path: Path, text: str) -> StoreError:
    if text == "interrupted":  # that is how ``Connections.close`` ends what another thread is doing
        return StoreError(f"{path} was closed while it was in use: open the store again.")
    if "disk is full" in text:
        return StoreFullError(full_message(path))
    if "disk I/O error" in text:  # also a full disk, where SQLite cannot make one of its own files longer
        return StoreFullError(f"{full_message(path)} If there is room, the disk is failing ({text}).")
    if "locked" in text or "busy" in text:
        holder = holders_of(path, path.with_name(f"{path.name}-shm"))
        return StoreBusyError(f"{path} is locked by {holder} ({text}). Wait for it to finish and run again.")
    if "readonly" in text or "unable to open" in text:
        return StoreError(f"{path} cannot be opened ({text}). Check who owns it and its permissions.")
    return StoreError(f"{path} cannot be used: {text}.")


class Catalog:
    """A store's SQLite file. Each thread has its own connection; writes are transactions.

    Raises :class:`SchemaError` for a catalog of another version, :class:`CatalogDamagedError` for a file that is
    not what was written (see ``custody.py``; not with ``check=False``, which is for looking into the damage), and
    :class:`StoreError` for one that cannot be used.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        refuse_foreign(database_files(path))
        self.path = path
        self._connections = Connections(path)
        self._custody = Custody(path)
        try:
            if not path.exists():
                self._custody.refuse_if_gone()
                self._create()
            self._check_revision()
            if self.value("PRAGMA journal_mode") != "wal":  # a copy or a backup that was put back
                self.value("PRAGMA journal_mode = WAL")
            self._custody.join(self, check=check)
            self.key = bytes.fromhex(self.meta("key"))
        except BaseException:
            self.close()
            raise

    # -- transactions and queries

    @contextmanager
    def transaction(self, *, wait: bool = True) -> Iterator[sqlite3.Connection]:
        """Write under one transaction: all of it is committed, or nothing.

        Raises :class:`StoreBusyError` when another process writes too long, without ``wait`` when it writes at all.
        """
        with catalog_errors(self.path), self._connections.use() as connection:
            with nullcontext() if wait else waiting(connection, 0):
                connection.execute("BEGIN IMMEDIATE")
            changes = connection.total_changes
            try:
                yield connection
                commits = self._custody.begin(connection, changes)
                reach("commit.before")
                connection.execute("COMMIT")
                reach("commit.after")
                self._custody.end(commits)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """Let what this thread does inside wait only so long for other processes."""
        with catalog_errors(self.path), self._connections.use() as connection, waiting(connection, seconds):
            yield

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with catalog_errors(self.path), self._connections.use() as connection:
            reach("catalog.read")
            return connection.execute(sql, parameters).fetchall()

    def blocks(self, sql: str, parameters: Sequence[Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query in lists of ``size``, all as they were when the first was read."""
        with catalog_errors(self.path), self._connections.use() as connection:
            reach("catalog.read")
            cursor = connection.execute(sql, parameters)
            while block := cursor.fetchmany(size):
                yield block

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees the catalog as it is now, whatever is committed meanwhile."""
        own = Connections(self.path)
        try:
            with catalog_errors(self.path), own.use() as connection:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM alembic_version").fetchone()  # the first read fixes the moment
                yield connection
        finally:
            own.close()

    def value(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """Return the first column of the first row, or ``None``."""
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close every connection of every thread; the file can then be moved or deleted."""
        with self._custody.leaving(self):
            self._connections.close()

    # -- the schema

    def _create(self) -> None:
        """Make the file under another name and link it: a half-made catalog never has the real name."""
        draft = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}.new")
        with catalog_errors(self.path), _making_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _one_creator(self.path.parent) as alone:
                if alone:
                    _remove(self.path.parent.glob(f"{self.path.name}.*.new*"))  # of a process that was killed here
                os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                try:
                    new_catalog(draft, HEAD)
                    reach("catalog.create")
                    self._take_name(draft)
                finally:
                    _remove(draft.with_name(draft.name + part) for part in ("", "-wal", "-shm"))

    def _take_name(self, draft: Path) -> None:
        try:
            os.link(draft, self.path)
        except FileExistsError:
            pass  # another process was first: its catalog is as good as ours
        except OSError:  # a file system without hard links
            if not self.path.exists():
                draft.rename(self.path)

    def _check_revision(self) -> None:
        found = written_revision(self.path, _OURS) or self._revision()
        if found == HEAD:
            with catalog_errors(self.path), self._connections.use() as connection:
                refuse_foreign_schema(self.path, connection)
            return
        from omnimemory.storage.migration import migrate  # noqa: PLC0415 - Alembic only when one is pending

        self._connections.close()
        with catalog_errors(self.path):
            migrate(self.path, found, HEAD)
        self._connections = Connections(self.path)

    def _revision(self) -> str:
        tables = {name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        whole = tables.issuperset((*_OURS, "alembic_version"))
        found = self.value("SELECT version_num FROM alembic_version") if whole else None
        if found is None:
            self._custody.refuse_if_sealed()
            raise SchemaError(f"{self.path} is not an OmniMemory catalog. Choose another folder with --store.")
        return str(found)

    def meta(self, key: str) -> str:
        """Return a value of the ``meta`` table; '' when it is not set."""
        found = self.value("SELECT value FROM meta WHERE key = ?", (key,))
        return "" if found is None else str(found)

    # -- collections and their spaces

    def collections(self, *, every: bool = False) -> list[Collection]:
        """Return the collections that are searched, oldest first; ``every`` one: also those of ``spaces.py``."""
        rows = self.rows(
            "SELECT c.id, c.name, s.dim, s.fingerprint, s.model FROM collections c "
            "JOIN spaces s ON s.id = c.space_id ORDER BY c.id"
        )
        return [Collection(*row) for row in rows if every or ":" not in row[1]]

    def ensure_collection(self, name: str, *, fingerprint: str, model: str, dim: int) -> Collection:
        """Return the collection, made with this space if it does not exist yet; nothing is written if it does."""
        found = next((c for c in self.collections() if c.name == name), None)
        if found is not None:
            return found
        with self.transaction() as sql:
            sql.execute(
                "INSERT INTO spaces (fingerprint, model, dim) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (fingerprint, model, dim),
            )
            sql.execute(
                "INSERT INTO collections (name, space_id) SELECT ?, id FROM spaces WHERE fingerprint = ? "
                "ON CONFLICT DO NOTHING",
                (name, fingerprint),
            )
        return next(c for c in self.collections() if c.name == name)


@contextmanager
def _making_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_error(error):
            raise
        raise StoreError(
            f"{path} cannot be made ({error.strerror}). Check the permissions of its folder, or choose another folder "
            "with --store."
        ) from error


@contextmanager
def _one_creator(folder: Path) -> Iterator[bool]:
    """Tell whether this process alone is making a catalog in this folder, for as long as the block runs."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        alone = False
        with suppress(OSError):  # a file system without locks
            alone = flock_within(descriptor, fcntl.LOCK_EX, _CREATE_SECONDS)
        yield alone
    finally:
        os.close(descriptor)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
