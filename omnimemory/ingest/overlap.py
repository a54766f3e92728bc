"""What goes on beside a model that works outside of Python's lock: the next batch is read, the one before is stored.

The caller's own thread asks the model, so an interrupt ends that as quickly as ever. One thread reads, one batch ahead;
another stores, one batch at a time and in order. The last batch is stored by the caller again. Measured with MiniLM:
reading and storing were a tenth of an ingest, in which a core was idle. Where vectors are made for texts that are
stored already (``embed_pending``, ``reembed``) they are 2 to 8 %, and doing them beside the model made no difference
that could be measured, so that is done one after the other.

Both begin when the model has got its batch, not before. What the caller does between two batches is Python for the
most part: the cache, the memory there is, what was made. Beside others who want Python's lock that took twice as long,
with MiniLM in integers 75 ms for 512 commands instead of 43, in which the model, and so a core, had nothing to do. For
the same reason what was made is written into the cache's file beside the next batch.

Of the two, storing comes first. Side by side they took the lock from each other all the time: a fifth to a half of all
switches of an ingest with MiniLM, and .1 to .2 of the two seconds that they took of the processors.

A thread that computes in Python keeps the lock for five milliseconds while another waits for it, and the caller asks
for it again after each look at the cache, at a file or at the memory there is: with MiniLM and pages of HTML that was
.03 to .1 s before each batch. So turns are half a millisecond meanwhile.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, Self, TypeVar

from omnimemory.embedding_batches import Meanwhile
from omnimemory.forks import ForkLock

__all__ = ["ReadAhead", "overlap"]

Batch = TypeVar("Batch")
Made = TypeVar("Made")

_TURN_SECONDS = 0.0005


def overlap(
    batches: ReadAhead[Batch],
    embed: Callable[[Batch, Meanwhile], Made],
    store: Callable[[Batch, Made], None],
) -> None:
    """Embed and store all batches. An error of storing one is raised once the next is embedded; then nothing follows.

    ``embed`` gets a batch, and what it tells when the model works or it waits for something else: then the batch before
    is stored and the next one read. Both are done in any case, and the former at once where the next is not read yet.
    It may give that more to do, which comes in the order it was given, before this batch is stored.

    However it ends, what was embedded before is stored, and nothing is being read or stored any more when this returns.
    """
    with (
        _TURNS.shorter(),
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="omnimemory-store") as pool,
        batches,
    ):
        beside = _Beside(pool, batches)
        before: _Job | None = None
        try:
            for batch in batches:
                made = embed(batch, beside)
                beside.wait_for_reading()
                if before is not None:
                    beside.wait(before)
                if batches.is_last(batch):
                    beside.wait()
                    store(batch, made)
                else:
                    before = beside.later(partial(store, batch, made))
                if not batches.is_ready:  # the model waits for what is read: nobody is kept from it
                    beside.begin_all()
        finally:
            beside.begin_all()
        beside.wait()


class _Job:
    """Something to do once, and what became of it when it was begun."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self.begun: Future[None] | None = None

    def __call__(self) -> None:
        work, self._work = self._work, None
        if work is not None:  # an interrupt between submitting it and noting that may have it submitted again
            work()


class _Beside(Generic[Batch]):
    """Jobs that a thread does one by one, once they may begin; when those are done, the next batch is read."""

    def __init__(self, pool: ThreadPoolExecutor, batches: ReadAhead[Batch]) -> None:
        self._pool = pool
        self._batches = batches
        self._jobs: deque[_Job] = deque()
        self._reading: Future[None] | None = None

    def later(self, job: Callable[[], None]) -> _Job:
        self._jobs.append(_Job(job))
        return self._jobs[-1]

    def begin(self) -> None:
        self.begin_all()
        if self._reading is None and self._batches.has_thread:
            self._reading = self._pool.submit(self._batches.read_on, model_works=True)

    def wait_for_reading(self) -> None:
        """Wait until the next batch is being read, if it is to be: told later, it would have one more read."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.result()

    def begin_all(self) -> None:
        for job in self._jobs:
            if job.begun is None:
                job.begun = self._pool.submit(job)

    def wait(self, until: _Job | None = None) -> None:
        """Wait for all jobs, or ``until`` this one is done, and raise the error of any."""
        if until is None or until.begun is None:
            self.begin_all()
        while self._jobs and (until is None or until in self._jobs):
            job = self._jobs.popleft()
            assert job.begun is not None
            job.begun.result()


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
    ``model_works`` says that a batch is made beside a model that works, so that what it will need may be prepared.
    """

    def __init__(self, batches: Iterator[Batch], is_last: Callable[[Batch], bool], stop: Callable[[], None]) -> None:
        self.is_last = is_last
        self.ends = self.model_works = False
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
        self.read_on(model_works=False)
        batch, error = self._made.get()
        if error is not None:
            raise error
        self._is_wanted = False
        return batch

    @property
    def has_thread(self) -> bool:
        """Whether batches are read in a thread: there is more than one."""
        return self._thread is not None

    @property
    def is_ready(self) -> bool:
        """Whether the next batch is made."""
        return not self._made.empty()

    def read_on(self, *, model_works: bool) -> None:
        """Let the next batch be made now; called again before that is taken, it does nothing."""
        if self._thread is not None and not self._is_wanted:
            self._is_wanted, self.model_works = True, model_works
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
