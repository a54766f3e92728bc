"""The child process that drains the catalog into the index while its parent goes on.

A process and not a thread, for two reasons that were measured: chromadb holds Python's global lock while
it adds, so a thread would stop the embedding it is meant to overlap with; and damaged index files make it
segfault, which must not take the caller along. The parent writes a line for each commit, and one that says
"finish and close"; the end of the input, as when the parent is killed, means the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from omnimemory.errors import IndexDamagedError, OmniMemoryError, StoreError
from omnimemory.faults import reach
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.children import child_environment, python_child
from omnimemory.storage.drain import DrainOptions, Taken, drain
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.rebuild import open_index, rebuild, worn

__all__ = ["Drainer", "main"]

BUSY = 75
_TICK_SECONDS = 0.3
_SLOW_SECONDS = 2.0
_SHARE, _SLOW_SHARE = 2, 16  # of a batch has to be there, as one in so many
_FEW_CORES = 4
_COMMITTED, _ALL, _FINISH = b"\n", b"all\n", b"finish\n"


class Drainer:
    """The child process that drains while the parent goes on. Raises :class:`StoreError` if it cannot be started."""

    def __init__(self, store: Path, options: DrainOptions) -> None:
        try:
            reach("drainer.start")
            # A session of its own: Ctrl-C reaches the parent only, which lets the child finish its batch.
            self._process = subprocess.Popen(
                python_child("omnimemory.storage.drainer", str(store.resolve()), json.dumps(asdict(options))),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=store,
                env=child_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise StoreError(
                f"The process that writes the index cannot be started ({error.strerror}). Searches are answered from "
                "the catalog; the next ingest tries again."
            ) from error
        assert self._process.stdin is not None
        self._input = self._process.stdin
        os.set_blocking(self._input.fileno(), False)

    def nudge(self, *, last: bool = False) -> None:
        """Tell the child that something was committed; with ``last``, that it need not wait for more."""
        # A full pipe holds plenty of such lines already; a broken one means it stopped, and finish() tells why.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self._input.write(_ALL if last else _COMMITTED)

    def finish(self, tick: Callable[[], None] | None = None) -> str | None:
        """Wait until everything is in the index; return why it is not, or ``None``.

        ``tick`` is called a few times a second while waiting. When another process holds the index, that one
        drains: no reason to complain.
        """
        os.set_blocking(self._input.fileno(), True)
        with contextlib.suppress(BrokenPipeError):
            # Said in words, because a forked copy of this process may keep the pipe open beyond our closing it.
            self._input.write(_FINISH)
        try:
            complaint = self._wait(tick)
        except BaseException:  # an interrupt, most likely: nobody waits for the child any more
            self.leave()
            raise
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        if self._process.returncode == 0 or (self._process.returncode == BUSY and not lines):
            return None
        return lines[-1] if lines else f"the index process ended with code {self._process.returncode}"

    def _wait(self, tick: Callable[[], None] | None) -> bytes:
        while True:
            try:
                complaint: bytes = self._process.communicate(timeout=_TICK_SECONDS if tick else None)[1]
            except subprocess.TimeoutExpired:
                assert tick is not None
                tick()
            else:
                return complaint

    def leave(self) -> None:
        """Let the child finish alone, and wait for nothing. It holds the index until it is done."""
        with contextlib.suppress(OSError, ValueError):  # broken, full or closed already
            self._input.write(_FINISH)
        with contextlib.suppress(OSError):
            self._input.close()
        self._process.stdin = None
        threading.Thread(target=self._process.communicate, name="omnimemory-drainer", daemon=True).start()


def _stop(number: int, frame: object) -> None:  # noqa: ARG001 - Python calls it so
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Drain the store named by the first argument until told to finish."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    _keep_to_one_core()
    store, options = Path(arguments[0]), DrainOptions(**json.loads(arguments[1]))
    lock = IndexLock(store / "index.lock")
    if not lock.acquire(timeout=2.0):
        return BUSY
    try:
        catalog = Catalog(store / "catalog.sqlite3")
        try:
            _drain_all(store, catalog, options)
        finally:
            catalog.close()
    except OmniMemoryError as error:
        sys.stderr.write(" ".join(str(error).split()))
        return error.exit_code
    finally:
        lock.release()
    return 0


def _keep_to_one_core() -> None:
    """Run all threads of this process on one core, where there are only a few.

    Chroma's core does each statement of SQL in another thread, and to wake one on another core costs more than many
    of these do: on two cores a command took 27 % and a chunk 30 % less of the processor, 19 and 30 % less time.
    With many cores, those on which HNSW adds side by side are worth more.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) <= _FEW_CORES:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})  # several such processes share them out


def _drain_all(store: Path, catalog: Catalog, options: DrainOptions) -> None:
    news = _news()
    try:
        _drain_until_told(store, catalog, options, news)
    except IndexDamagedError:
        # It was fit to be opened and broke all the same: make it anew, and let a second failure count.
        rebuild(store, catalog, options)
        _drain_until_told(store, catalog, options, news)
    if worn(catalog):
        rebuild(store, catalog, options)


def _news() -> Iterator[bool]:
    """Yield for each line of the parent whether more is to come soon, and no more once it said "finish"."""
    for line in sys.stdin.buffer:
        yield line == _COMMITTED
        if line == _FINISH:
            return


def _drain_until_told(store: Path, catalog: Catalog, options: DrainOptions, news: Iterator[bool]) -> None:
    index, generation = open_index(store, catalog, options)
    try:
        taken: dict[str, Taken] = {}
        since = time.monotonic()
        for more in news:
            # Where a model is slow, this waits for rows and not they for it: what it does now, nobody waits for later.
            share = _SLOW_SHARE if time.monotonic() - since > _SLOW_SECONDS else _SHARE
            least = -(-options.batch_size // share) if more else None
            if drain(catalog, index, generation, options.batch_size, taken=taken, least=least):
                since = time.monotonic()
        drain(catalog, index, generation, options.batch_size, taken=taken)
        index.close()
    except SystemExit:  # the system shuts down, say: the last batch was added or not, either way the folder is sound
        index.close()
        raise
    except BaseException:
        index.abandon()  # without the manifest that would call the folder sound
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
