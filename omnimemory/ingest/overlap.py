"""What goes on beside a model that works outside of Python's lock: the next batch is read, the one before is stored.

The caller's own thread asks the model, so an interrupt ends that as quickly as ever. One thread reads, one batch ahead;
another stores, one batch at a time and in order. The last batch, which may bring a long commit of its own, is stored by
the caller again. Measured with MiniLM: reading and storing were a tenth of an ingest, in which a core was idle. Where
vectors are made for texts that are stored already (``embed_pending``, ``reembed``) they are 2 to 8 %, and doing them
beside the model made no difference that could be measured, so that is done one after the other.

Both begin when the model has got its batch, not before. What the caller does between two batches is Python for the
most part: the cache, the memory there is, what was made. Beside others who want Python's lock that took twice as long,
with MiniLM in integers 75 ms for 512 commands instead of 43, in which the model, and so a core, had nothing to do.

A thread that computes in Python keeps the lock for five milliseconds while another waits for it, and the caller asks
for it again after each look at the cache, at a file or at the memory there is: with MiniLM and pages of HTML that was
.03 to .1 s before each batch. So turns are half a millisecond meanwhile.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

from omnimemory.forks import ForkLock

__all__ = ["ReadAhead", "overlap"]

Batch = TypeVar("Batch")
Made = TypeVar("Made")

_TURN_SECONDS = 0.0005


def overlap(
    batches: ReadAhead[Batch],
    embed: Callable[[Batch, Callable[[], None]], Made],
    store: Callable[[Batch, Made], None],
) -> None:
    """Embed and store all batches. An error of storing one is raised once the next is embedded; then nothing follows.

    ``embed`` gets a batch and what it may call, once or more often, when the model works or it waits for something
    else: then the batch before is stored and the next one read. Both are done in any case.

    However it ends, what was embedded before is stored, and nothing is being read or stored any more when this returns.
    """
    with (
        _TURNS.shorter(),
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="omnimemory-store") as pool,
        batches,
    ):
        beside = _Beside(pool, store)

        def meanwhile() -> None:
            beside.begin()
            batches.read_on()

        try:
            for batch in batches:
                made = embed(batch, meanwhile)
                meanwhile()
                beside.wait()
                if batches.is_last(batch):
                    store(batch, made)
                else:
                    beside.put(batch, made)
        finally:
            beside.begin()
        beside.wait()


class _Beside(Generic[Batch, Made]):
    """One batch to be stored in a thread, once that may begin."""

    def __init__(self, pool: ThreadPoolExecutor, store: Callable[[Batch, Made], None]) -> None:
        self._pool = pool
        self._store = store
        self._waiting: tuple[Batch, Made] | None = None
        self._begun: Future[None] | None = None

    def put(self, batch: Batch, made: Made) -> None:
        self._waiting = batch, made

    def begin(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._begun = self._pool.submit(self._store, *waiting)

    def wait(self) -> None:
        """Wait for the batch that is being stored, and raise its error."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()


class _Turns:
    """How long a thread may keep Python's lock while others wait for it: a setting of the whole process."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._users, self._usual = 0, 0.0

    @contextlib.contextmanager
    def shorter(self) -> Iterator[None]:
        """Make turns short until the last of those who asked for it is done."""
        with self._lock:
            if not self._users:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual, _TURN_SECONDS))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    sys.setswitchinterval(self._usual)


_TURNS = _Turns()


class ReadAhead(Generic[Batch]):
    """Batches of which the next is made in a thread while the caller is busy with one, from ``read_on`` on.

    The first is made by the caller, and no thread starts when ``is_last`` says that it is all. ``stop`` is called when
    the caller leaves before the end: it is to end the making soon, and is waited for. ``ends`` once the last is made.
    """

    def __init__(self, batches: Iterator[Batch], is_last: Callable[[Batch], bool], stop: Callable[[], None]) -> None:
        self.is_last = is_last
        self.ends = False
        self._batches = batches
        self._stop = stop
        self._wanted, self._is_wanted = threading.Semaphore(0), False
        self._made: queue.SimpleQueue[tuple[Batch | None, BaseException | None]] = queue.SimpleQueue()
        self._left = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[Batch]:
        first = next(self._batches, None)
        if first is None:
            return
        if not self.is_last(first):
            self._thread = threading.Thread(target=self._make, name="omnimemory-read", daemon=True)
            self._thread.start()
        yield first
        while (batch := self._next()) is not None:
            yield batch

    def _next(self) -> Batch | None:
        if self._thread is None:
            return next(self._batches, None)
        self.read_on()
        batch, error = self._made.get()
        if error is not None:
            raise error
        self._is_wanted = False
        return batch

    def read_on(self) -> None:
        """Let the next batch be made now; called again before that is taken, it does nothing."""
        if self._thread is not None and not self._is_wanted:
            self._is_wanted = True
            self._wanted.release()

    def _make(self) -> None:
        batch: Batch | None
        while self._wanted.acquire() and not self._left:
            try:
                batch = next(self._batches, None)
            except BaseException as error:  # noqa: BLE001 - it is raised where the caller is
                self._made.put((None, error))
                return
            self.ends = batch is None or self.is_last(batch)
            self._made.put((batch, None))
            if batch is None:
                return

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._left = True
            self._stop()
            self._wanted.release()
            self._thread.join()
