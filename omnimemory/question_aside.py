"""A question to the model beside whoever asks, who need not wait for its end.

Loading a model takes from a tenth of a second (MiniLM) to a minute (a large one by a server), and keywords can answer
meanwhile. What was begun is finished all the same: the next question finds the model ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from omnimemory.embedders.base import Vectors
from omnimemory.errors import EmbedderError

__all__ = ["QuestionAside"]

_LEAVE_SECONDS = 2.0


class QuestionAside:
    """Asks one question at a time in a thread; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Future[Vectors] | None = None
        self._abandoned: Future[Vectors] | None = None
        self._closed = False

    def within(self, seconds: float, ask: Callable[[Callable[[], bool]], Vectors]) -> Vectors | None:
        """Return what ``ask`` returns, or ``None`` if that takes longer than ``seconds``; raises what it raises.

        While an earlier question is still being asked nothing else is: the model is not ready. What such a question
        raised in the end is raised by the next call. ``ask`` is given a function that tells whether the answer is of no
        use any more. Raises :class:`EmbedderError` once it is closed.
        """
        end = time.monotonic() + seconds
        mine: Future[Vectors] = Future()
        while (asked := self._begin(mine, ask)) is not mine:
            if not _is_done(asked, end):
                return None
        if not _is_done(mine, end):
            self._abandoned = mine
            return None
        return mine.result()

    def _begin(self, mine: Future[Vectors], ask: Callable[[Callable[[], bool]], Vectors]) -> Future[Vectors]:
        """Start to ask, unless another question is being asked; return what becomes the answer of the one that is."""
        with self._lock:
            if self._closed:
                raise EmbedderError("the memory was closed while the model was asked")
            if self._asked is not None and not self._asked.done():
                return self._asked
            late, self._abandoned = self._abandoned, None
            if late is not None and late is self._asked:
                late.result()
            self._asked = mine
            threading.Thread(target=self._run, args=(mine, ask), name="omnimemory-question", daemon=True).start()
            return mine

    def _run(self, mine: Future[Vectors], ask: Callable[[Callable[[], bool]], Vectors]) -> None:
        try:
            mine.set_result(ask(lambda: self._closed))
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller is
            mine.set_exception(error)

    def leave(self) -> None:
        """Say that no answer is of use any more."""
        with self._lock:
            self._closed = True

    def finish(self) -> None:
        """Wait a little for the question that is being asked."""
        if self._asked is not None:
            _is_done(self._asked, time.monotonic() + _LEAVE_SECONDS)


def _is_done(asked: Future[Vectors], end: float) -> bool:
    """Wait for an answer, or an error instead of one, up to this moment; return whether it is there."""
    return bool(wait([asked], max(0.0, end - time.monotonic())).done)
