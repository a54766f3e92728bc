"""The catalog: one SQLite file that holds the truth, opened, checked and made here.

Texts, events and vectors are committed to it together; the Chroma index is derived from it. Facts this
relies on: in WAL mode readers never block the writer, and a transaction survives the death of the
process (sqlite.org/wal.html, sqlite.org/atomiccommit.html). ``synchronous=FULL`` makes it survive power
loss as well; a commit per batch makes that cheap.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from omnimemory.errors import SchemaError, StoreBusyError, StoreError, StoreFullError
from omnimemory.storage.connections import Connections

__all__ = ["HEAD", "Catalog", "Collection", "catalog_errors"]

HEAD = "0001"
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
        yield
    except sqlite3.OperationalError as error:
        raise _operational(path, str(error)) from error
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
        raise StoreError(
            f"{path} is damaged or not a catalog ({error}). Restore it from a backup, or move it away and ingest again."
        ) from error


def _operational(path: Path, text: str) -> StoreError:
    if text == "interrupted":  # that is how ``Connections.close`` ends what another thread is doing
        return StoreError(f"{path} was closed while it was in use: open the store again.")
    if "disk is full" in text or "disk I/O error" in text:
        return StoreFullError(
            f"The disk of {path} is full or failing ({text}). What was committed is safe; "
            "free some space and run the same command again."
        )
    if "locked" in text or "busy" in text:
        return StoreBusyError(f"{path} is locked by another process ({text}). Wait for it to finish and run again.")
    if "readonly" in text or "unable to open" in text:
        return StoreError(f"{path} cannot be opened ({text}). Check who owns it and its permissions.")
    return StoreError(f"{path} cannot be used: {text}.")


class Catalog:
    """A store's SQLite file. Each thread has its own connection; writes are transactions.

    Raises :class:`SchemaError` for a catalog of another version and :class:`StoreError` for a file that
    is damaged or is no catalog.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections = Connections(path)
        try:
            if not path.exists():
                self._create()
            self._check_revision()
            if self.value("PRAGMA journal_mode") != "wal":  # a copy or a backup that was put back
                self.value("PRAGMA journal_mode = WAL")
            self.key = bytes.fromhex(self.meta("key"))
        except BaseException:
            self.close()
            raise

    # -- transactions and queries

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write under one transaction: all of it is committed, or nothing."""
        with catalog_errors(self.path), self._connections.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with catalog_errors(self.path), self._connections.use() as connection:
            return connection.execute(sql, parameters).fetchall()

    def blocks(self, sql: str, parameters: Sequence[Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query in lists of ``size``, all as they were when the first was read."""
        with catalog_errors(self.path), self._connections.use() as connection:
            cursor = connection.execute(sql, parameters)
            while block := cursor.fetchmany(size):
                yield block

    def value(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """Return the first column of the first row, or ``None``."""
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close every connection of every thread; the file can then be moved or deleted."""
        self._connections.close()

    # -- the schema

    def _create(self) -> None:
        """Make the file under another name and link it: a half-made catalog never has the real name."""
        draft = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            try:
                with catalog_errors(self.path):
                    _fill(draft)
                self._take_name(draft)
            finally:
                for left in (draft, draft.with_name(f"{draft.name}-wal"), draft.with_name(f"{draft.name}-shm")):
                    left.unlink(missing_ok=True)
        except OSError as error:
            kind = StoreFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
            raise kind(
                f"{self.path} cannot be made ({error.strerror}). Free some space or check the permissions of its "
                "folder, or choose another folder with --store."
            ) from error

    def _take_name(self, draft: Path) -> None:
        try:
            os.link(draft, self.path)
        except FileExistsError:
            pass  # another process was first: its catalog is as good as ours
        except OSError:  # a file system without hard links
            if not self.path.exists():
                draft.rename(self.path)

    def _check_revision(self) -> None:
        try:
            found = self.value("SELECT version_num FROM alembic_version")
        except StoreError as error:
            if "no such table" not in str(error):
                raise
            found = None
        if found == HEAD:
            return
        ours = self.value("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'spaces', 'vectors')")
        if found is None or ours < 3:
            raise SchemaError(f"{self.path} is not an OmniMemory catalog. Choose another folder with --store.")
        from omnimemory.storage.migration import migrate  # noqa: PLC0415 - Alembic only when one is pending

        self._connections.close()
        with catalog_errors(self.path):
            migrate(self.path, str(found), HEAD)
        self._connections = Connections(self.path)

    def meta(self, key: str) -> str:
        """Return a value of the ``meta`` table; '' when it is not set."""
        found = self.value("SELECT value FROM meta WHERE key = ?", (key,))
        return "" if found is None else str(found)

    # -- collections and their spaces

    def collections(self) -> list[Collection]:
        """Return every collection, oldest first."""
        rows = self.rows(
            "SELECT c.id, c.name, s.dim, s.fingerprint, s.model FROM collections c "
            "JOIN spaces s ON s.id = c.space_id ORDER BY c.id"
        )
        return [Collection(*row) for row in rows]

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


def _fill(draft: Path) -> None:
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        # 8 KiB pages hold seven 256-d vectors instead of three: less slack, fewer reads.
        connection.execute("PRAGMA page_size = 8192")
        schema = resources.files("omnimemory.storage").joinpath("schema.sql").read_text("utf-8")
        connection.executescript(f"BEGIN;\n{schema}\nCOMMIT;")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (HEAD,))
        connection.execute("INSERT INTO meta VALUES ('key', ?)", (secrets.token_hex(32),))
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
