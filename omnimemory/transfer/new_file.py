"""A file that appears whole or not at all, and only its owner can read."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from omnimemory.errors import StoreError
from omnimemory.storage.lock import flock_within
from omnimemory.storage.room import LEAST_ROOM, disk_error, disk_errors

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[IO[bytes]]:
    """Give a file to write; it takes its name, with mode 0600 and safe on disk, when the block ends well.

    Raises :class:`StoreError` when there is such a file (unless ``overwrite``) or it cannot be written, of which
    :class:`StoreFullError` means that the disk is full.
    """
    if not overwrite and os.path.lexists(path):
        raise _taken(path)
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise StoreError(f"{path} is no regular file, so it cannot be replaced. Choose another name.")
    with disk_errors(path):
        _remove_left(path)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb", buffering=2**18) as file:
                flock_within(descriptor, fcntl.LOCK_EX, 0.0)
                yield file
                file.flush()
                os.fsync(descriptor)
            _take_name(draft, path, overwrite=overwrite)
        except OSError as error:
            # At least what was written so far is needed, and room for the rest.
            raise disk_error(path, error, draft.stat().st_size + LEAST_ROOM) from error
        finally:
            draft.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Remove the drafts of processes that were killed: nobody holds their locks any more."""
    for draft in path.parent.glob(f"{glob.escape(path.name)}.????????.partial"):
        with suppress(OSError), draft.open("rb") as file:
            if flock_within(file.fileno(), fcntl.LOCK_EX, 0.0):
                draft.unlink()


def _take_name(draft: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        draft.replace(path)
        return
    try:
        os.link(draft, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _taken(path) from None
        draft.rename(path)


def _taken(path: Path) -> StoreError:
    return StoreError(f"{path} exists already. Choose another name, or say that it may be overwritten (--overwrite).")
