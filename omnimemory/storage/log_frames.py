"""What is left of a write-ahead log that SQLite does not believe any more.

SQLite reads a log up to the first frame whose checksum is wrong, and forgets what comes after it. The frames behind a
flipped bit are mostly still there, so they are laid over the file in the order in which they were written
(sqlite.org/fileformat2.html, "The Write-Ahead Log"). Whether what comes of it is sound is told by the checksums of
the rows and the number of transactions.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

__all__ = ["keep_log", "kept_log", "lay_over"]

_HEADER, _FRAME = 32, 24


def kept_log(catalog: Path) -> Path:
    """Return where the log of a catalog is kept once SQLite does not believe it."""
    return catalog.with_name(f"{catalog.name}.damaged-wal")


def keep_log(catalog: Path) -> None:
    """Keep a copy of the log: closing the catalog folds in what SQLite believes of it, and deletes it."""
    log, kept = catalog.with_name(f"{catalog.name}-wal"), kept_log(catalog)
    if log.exists() and log.stat().st_size > _HEADER and not kept.exists():
        kept.touch(mode=0o600)
        shutil.copyfile(log, kept)


def lay_over(log: Path, copy: Path) -> int:
    """Write the pages of a log into a copy of its file; return how many there were."""
    data = log.read_bytes()
    (size,) = struct.unpack(">I", data[8:12]) if len(data) >= _HEADER else (0,)
    if not 512 <= size <= 65536 or size & (size - 1):
        return 0
    salts, count = data[16:24], 0
    with copy.open("r+b") as file:
        for start in range(_HEADER, len(data) - _FRAME - size + 1, _FRAME + size):
            page, _ = struct.unpack(">II", data[start : start + 8])
            # Frames of an earlier round have other salts; one flipped bit in them is no other round.
            if 0 < page < 2**31 and _distance(data[start + 8 : start + 16], salts) <= 1:
                file.seek((page - 1) * size)
                file.write(data[start + _FRAME : start + _FRAME + size])
                count += 1
    return count


def _distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
