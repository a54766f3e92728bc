"""Bringing an older catalog to this version's schema, with Alembic, on a copy.

The original is never changed in place: a copy is migrated and checked, then takes the original's name in
one rename, and the original stays beside it as a backup. While that goes on nobody else can write to the
original, and a second process that wants to migrate waits and finds it done. A catalog of a newer version
is refused untouched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omnimemory.errors import SchemaError, StoreBusyError
from omnimemory.faults import reach
from omnimemory.storage.foreign import refuse_foreign_schema
from omnimemory.storage.lock import IndexLock, holders_of
from omnimemory.storage.room import disk_errors, require_room

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["migrate", "migrations_directory"]

_WAIT_SECONDS = 60.0


def migrations_directory() -> Path:
    """Return the folder of the revisions: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside, beside = package / "migrations", package.parent / "migrations"
    return inside if inside.is_dir() else beside


def migrate(path: Path, found: str, head: str, *, directory: Path | None = None) -> Path:
    """Migrate the catalog at ``path`` from revision ``found`` to ``head``; return the backup's path.

    Raises :class:`SchemaError` when ``found`` is not one of the known revisions or the migration fails, and
    :class:`StoreBusyError` while another process has the catalog open; the original is untouched then.
    """
    config = _configuration(directory or migrations_directory())
    if found not in _known(config):
        raise SchemaError(
            f"{path} was written by a newer version of omnimemory (schema {found}, this one knows {head}). "
            "Nothing was changed. Upgrade with: pip install --upgrade omnimemory"
        )
    backup = path.with_name(f"{path.name}.schema-{found}.backup")
    lock = IndexLock(path.with_name(f"{path.name}.migrating.lock"))
    if not lock.acquire(timeout=_WAIT_SECONDS):
        raise StoreBusyError(f"{path} is being migrated by process {lock.holder()}. Try again when it is done.")
    try:
        with disk_errors(path), _only_user(path) as original:
            refuse_foreign_schema(path, original)
            if _revision(original) == found:  # another process may have migrated it while this one waited
                _migrate(path, original, backup, config, head)
    finally:
        lock.release()
    return backup


def _configuration(directory: Path) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - 0.3 s that only a migration should pay

    config = Config()
    # Alembic reads its options through ConfigParser, where a percent sign stands for itself only when doubled.
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _known(config: Config) -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see _configuration()

    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _revision(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@contextlib.contextmanager
def _only_user(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the catalog so that nobody else can, not even to read, until the block ends."""
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreBusyError(
                f"{path} must be migrated, but {holders_of(path, shared=True)} uses it ({error}). "
                "Close that one and try again."
            ) from error
        yield connection
    finally:
        connection.close()


def _migrate(path: Path, original: sqlite3.Connection, backup: Path, config: Config, head: str) -> None:
    for old in path.parent.glob(f"{path.name}.*.migrating*"):
        old.unlink(missing_ok=True)  # a draft of a process that was killed in the midst of this
    require_room(path, 3 * path.stat().st_size, "migrating a copy of the catalog")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.migrating")
    try:
        reach("migrate.copy")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with contextlib.closing(sqlite3.connect(draft)) as target:
            original.backup(target)
        reach("migrate.upgrade")
        _upgrade(draft, config, head)
        _check(draft, head)
        # The write-ahead log belongs to the original's name: fold it in before the name changes hands.
        if original.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
            raise StoreBusyError(f"{path} must be migrated, but another process uses it. Close that one first.")
        reach("migrate.backup")
        backup.unlink(missing_ok=True)
        try:
            os.link(path, backup)
        except OSError:  # a file system without hard links
            shutil.copy2(path, backup)
        reach("migrate.switch")
        draft.replace(path)
        reach("migrate.done")
    finally:
        for left in ("", "-journal", "-wal", "-shm"):
            draft.with_name(draft.name + left).unlink(missing_ok=True)


def _upgrade(draft: Path, config: Config, head: str) -> None:
    from alembic import command  # noqa: PLC0415 - see _configuration()
    from sqlalchemy import URL, create_engine  # noqa: PLC0415 - see _configuration()

    # An URL object, because a path may hold signs that mean something in the text of one.
    engine = create_engine(URL.create("sqlite", database=str(draft)))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, head)
    except Exception as error:
        raise SchemaError(
            f"The catalog could not be brought to schema {head} ({type(error).__name__}: {error}). "
            "Nothing was changed. Please report this, and go on with the version of omnimemory that made it."
        ) from error
    finally:
        engine.dispose()


def _check(draft: Path, head: str) -> None:
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as checked:
        result = str(checked.execute("PRAGMA quick_check").fetchone()[0])
        orphans = checked.execute("PRAGMA foreign_key_check").fetchone()
        reached = _revision(checked)
        checked.execute("PRAGMA journal_mode = WAL")
    if result != "ok" or orphans is not None or reached != head:
        raise SchemaError(
            f"The migrated copy of the catalog is not sound ({result}, schema {reached}, {orphans}); "
            "nothing was changed. Please report this."
        )
