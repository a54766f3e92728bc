"""What all processes of a user were promised, in one small file, so that no two are promised the same bytes.

The file holds a row of 64 bytes for each process that has something promised now, and is locked (flock(2)) from
reading the memory to writing the promise. An admission and its end cost 20 us; two transactions of SQLite cost 24 us
without looking whether anybody is alive, and a database has a journal that can be left behind.

A row belongs to a process id together with the time the process started, so the row of one that was killed is purged by
whoever comes next, and an id that is used again is not mistaken for it. A process of another container cannot be looked
up by its id: its row counts for ten minutes after it was last written.

The file's name holds the boot of the machine: a home that several machines share has one file for each, and none
outlives a restart. It holds numbers only. When it cannot be used, :attr:`Ledger.problem` says why, and promises are
known to this process alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ledger", "Row", "Shared", "process_start"]

_ROW = struct.Struct("<QQQQQQdd")
_MAGIC = b"omnimemory leases 1".ljust(_ROW.size, b"\0")
_MOST_ROWS = 256
_ABSURD = 1 << 60
_LOCK_SECONDS = 1.0
_UNSEEN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Row:
    """The promises of one scheduler of one process, in bytes, and what it waits for ``since`` when.

    ``pid``, ``start`` and ``space`` (the namespace of process ids) name the process, ``owner`` the scheduler in it.
    ``since`` and ``written`` are seconds of the machine's monotonic clock.
    """

    pid: int
    start: int
    space: int
    owner: int
    reserved: int
    wanted: int = 0
    since: float = 0.0
    written: float = 0.0


class Shared:
    """The rows of everybody else while the file is locked, and the way to write the own one."""

    def __init__(self, ledger: Ledger | None, rows: tuple[Row, ...] = (), purged: int = 0) -> None:
        self._ledger = ledger
        self.rows = rows
        self.purged = purged

    @property
    def outstanding(self) -> int:
        """Bytes promised to others."""
        return sum(row.reserved for row in self.rows)

    def oldest(self) -> tuple[float, int] | None:
        """Return since when the request elsewhere waits that waited longest, and the bytes it wants."""
        return min(((row.since, row.wanted) for row in self.rows if row.wanted), default=None)

    def write(self, reserved: int, wanted: int = 0, since: float = 0.0) -> None:
        """Write what this scheduler was promised, and what it waits for."""
        if self._ledger is not None:
            self._ledger.put(reserved, wanted, since)


class Ledger:
    """The file in ``folder``, about main memory if no ``pool`` is named.

    Callers hold a lock of their own: one :meth:`locked` at a time for each ledger.
    """

    def __init__(self, folder: Path, pool: str = "") -> None:
        self._folder = folder
        self._pool = pool
        self._beside: dict[str, Ledger] = {}
        self._fd: int | None = None
        self._rows: list[Row | None] = []
        self._me: tuple[int, int, int, int] | None = None
        self._unwritten = ""
        self.problem = ""

    def beside(self, pool: str) -> Ledger:
        """Return the file about another pool of memory, such as ``gpu:0``."""
        return self._beside.setdefault(pool, Ledger(self._folder, pool))

    @contextlib.contextmanager
    def locked(self) -> Iterator[Shared]:
        """Keep every other process out, and give what they were promised. Never raises for the file."""
        try:
            self._lock()
        except OSError as error:
            self.problem = f"the file of promises in {self._folder} cannot be used ({error.strerror or error})"
            yield Shared(None)
            return
        try:
            try:
                purged = self._read()
                self.problem = self._unwritten
            except OSError as error:
                self.problem = f"the file of promises in {self._folder} cannot be read ({error.strerror})"
                yield Shared(None)
                return
            mine = self._identity()
            others = tuple(row for row in self._rows if row is not None and not _is(row, mine))
            yield Shared(self, others, purged)
        finally:
            if self._fd is not None:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def put(self, reserved: int, wanted: int, since: float) -> None:
        """Write the own row; only inside :meth:`locked`."""
        mine = self._identity()
        place = next((i for i, row in enumerate(self._rows) if row is not None and _is(row, mine)), None)
        if place is None:
            if not reserved and not wanted:
                return
            place = next((i for i, row in enumerate(self._rows) if row is None), len(self._rows))
            if place >= _MOST_ROWS:
                self.problem = self._unwritten = f"the file of promises in {self._folder} is full"
                return
        row = Row(*mine, reserved, wanted, since, time.monotonic()) if reserved or wanted else None
        self._write(place, row)

    def rows(self) -> tuple[Row, ...]:
        """Return all rows of living processes, without making the file. Empty when it cannot be read."""
        if self._fd is None and not self._path().exists():
            return ()
        with self.locked():
            return tuple(row for row in self._rows if row is not None)

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        for other in self._beside.values():
            other.close()
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def begin_again(self) -> None:
        """Be another process: in a forked child the row and the lock are its parent's."""
        self._me = None
        for other in self._beside.values():
            other.begin_again()
        with contextlib.suppress(OSError):
            self.close()

    # -- the file

    def _path(self) -> Path:
        return self._folder / "-".join(filter(None, ("leases", _boot(), self._pool.replace(":", "-"))))

    def _lock(self) -> None:
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self.close()  # somebody deleted the file
        if self._fd is None:
            self._fd = self._open()
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise OSError(None, "another process keeps it locked") from None
                time.sleep(0.0005)
            else:
                return

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._path(), flags, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            os.close(fd)
            raise OSError(None, "it is not a file of this user")
        return fd

    def _read(self) -> int:
        """Read the rows, and purge those of processes that are gone; return how many there were."""
        assert self._fd is not None
        data = os.pread(self._fd, _ROW.size * (_MOST_ROWS + 1), 0)
        if data[: _ROW.size] != _MAGIC:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, _MAGIC, 0)
            data = _MAGIC
        whole = len(data) // _ROW.size * _ROW.size
        found = [Row(*fields) for fields in _ROW.iter_unpack(data[_ROW.size : whole])]
        self._rows = [row if row.pid else None for row in found]
        purged = 0
        for place, row in enumerate(self._rows):
            if row is not None and not self._is_alive(row):
                self._write(place, None)
                purged += 1
        return purged

    def _write(self, place: int, row: Row | None) -> None:
        assert self._fd is not None
        data = bytes(_ROW.size) if row is None else _packed(row)
        try:
            os.pwrite(self._fd, data, _ROW.size * (place + 1))
        except OSError as error:
            self.problem = f"the file of promises in {self._folder} cannot be written ({error.strerror})"
            self._unwritten = self.problem
            return
        self._unwritten = ""
        self._rows += [None] * (place + 1 - len(self._rows))
        self._rows[place] = row

    def _identity(self) -> tuple[int, int, int, int]:
        if self._me is None:
            pid = os.getpid()
            self._me = (pid, process_start(pid) or 0, _space(), int.from_bytes(os.urandom(8)) | 1)
        return self._me

    def _is_alive(self, row: Row) -> bool:
        pid, start, space, _ = self._identity()
        if row.reserved >= _ABSURD or row.wanted >= _ABSURD:
            return False  # no process of ours wrote that
        if row.space != space:
            return 0 <= time.monotonic() - row.written < _UNSEEN_SECONDS
        return (row.start == start) if row.pid == pid else process_start(row.pid) == row.start


def _packed(row: Row) -> bytes:
    return _ROW.pack(row.pid, row.start, row.space, row.owner, row.reserved, row.wanted, row.since, row.written)


def _is(row: Row, who: tuple[int, int, int, int]) -> bool:
    return (row.pid, row.start, row.space, row.owner) == who


def process_start(pid: int) -> int | None:
    """Return when a process was started (in a unit of the system), ``None`` when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - half the time of Path.read_bytes
            fields = file.read(4096).rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):  # noqa: PTH110 - as above
            return None
    except (OSError, ValueError, IndexError):
        pass
    return _start_by_psutil(pid)


def _start_by_psutil(pid: int) -> int | None:
    import psutil  # noqa: PLC0415 - only where /proc is missing

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1000)
    except psutil.Error:
        return None


def _space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - as above
    except OSError:
        return 0


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123 - as above
            name = file.read(64)
    except OSError:
        import psutil  # noqa: PLC0415 - only where /proc is missing

        name = str(round(psutil.boot_time(), -1)).encode()
    return hashlib.blake2b(name, digest_size=6).hexdigest()
