"""A question to the model beside whoever asks, who need not wait for its end.

Loading a model takes from a tenth of a second (MiniLM) to a minute (a large one by a server), and keywords can answer
meanwhile. What was begun is finished all the same: the next question finds the model ready.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from omnimemory.embedders.base import Vectors

__all__ = ["QuestionAside"]

_LEAVE_SECONDS = 2.0


class QuestionAside:
    """Asks one question at a time in a thread; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def within(self, seconds: float, ask: Callable[[Callable[[], bool]], Vectors]) -> Vectors | None:
        """Return what ``ask`` returns, or ``None`` if that takes longer than ``seconds``; raises what it raises.

        While an earlier question is still being asked nothing else is: the model is not ready. ``ask`` is given a
        function that tells whether the answer is of no use any more.
        """
        end = time.monotonic() + seconds
        answer: queue.SimpleQueue[Vectors | BaseException] = queue.SimpleQueue()

        def run() -> None:
            try:
                answer.put(ask(lambda: self._closed))
            except BaseException as error:  # noqa: BLE001 - it is raised where the caller is
                answer.put(error)

        while (before := self._begin(run)) is not None:
            before.join(max(0.0, end - time.monotonic()))
            if before.is_alive():
                return None
        try:
            found = answer.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(found, BaseException):
            raise found
        return found

    def _begin(self, run: Callable[[], None]) -> threading.Thread | None:
        """Start to ask, unless another question is being asked: then return the thread that does."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self._thread
            self._thread = threading.Thread(target=run, name="omnimemory-question", daemon=True)
            self._thread.start()
            return None

    def leave(self) -> None:
        """Say that no answer is of use any more."""
        self._closed = True

    def finish(self) -> None:
        """Wait a little for the question that is being asked."""
        if self._thread is not None:
            self._thread.join(_LEAVE_SECONDS)
