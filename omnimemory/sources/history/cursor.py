"""How far a history file was read: a few numbers and a digest that the next read can verify."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["DIGEST", "VERSION", "Cursor", "identity", "is_settled"]

VERSION = 1
SETTLED_NS = 2_000_000_000  # the coarsest file times in use (FAT) have steps of two seconds
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """What was known of a history file when it was last read.

    ``offset`` is where the next read starts to parse: after the last entry, or at its start while it may
    still grow. ``count`` is the number of entries before ``offset``, so it is also the position of the
    first entry that the next read returns. ``digest`` is the keyed BLAKE2b of all ``size`` bytes read: it covers
    the unfinished entry too, so that one that was replaced instead of continued is noticed.
    ``settled`` is false when the file had changed so shortly before it was read that equal times would
    not prove equal content.
    """

    shell: str
    offset: int
    count: int
    digest: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    settled: bool

    def to_json(self) -> dict[str, Any]:
        """Return the cursor as JSON-ready data."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: object) -> Cursor | None:
        """Return the cursor that ``to_json`` gave; None for anything else, which means: read from the start."""
        if not isinstance(data, Mapping) or data.get("version") != VERSION:
            return None
        values = {field.name: data.get(field.name) for field in fields(cls)}
        shell, digest, settled = (values.pop(name) for name in ("shell", "digest", "settled"))
        if not isinstance(shell, str) or not isinstance(digest, str) or not isinstance(settled, bool):
            return None
        numbers = {name: value for name, value in values.items() if type(value) is int}
        if numbers.keys() != values.keys() or not DIGEST.fullmatch(digest):
            return None
        cursor = cls(shell=shell, digest=digest, settled=settled, **numbers)
        return cursor if 0 <= cursor.count <= cursor.offset <= cursor.size else None

    def matches(self, status: os.stat_result) -> bool:
        """Return whether the file's status proves that not a byte of it has changed."""
        return self.settled and self.file_identity() == identity(status)

    def file_identity(self) -> tuple[int, int, int, int, int]:
        """Return size, times and place of the file as they were."""
        return self.size, self.mtime_ns, self.ctime_ns, self.inode, self.device


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return size, times and place of a file, in the order of ``Cursor.file_identity``."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Return whether a later change would be bound to show in the file's times."""
    # The change time counts, not the modification time: programs can set the latter to any value.
    return now_ns - status.st_ctime_ns > SETTLED_NS
