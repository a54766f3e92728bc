"""A question to the model beside whoever asks, who need not wait for its end.

Loading a model takes from a tenth of a second (MiniLM) to a minute (a large one by a server), and keywords can answer
meanwhile. What was begun is finished all the same: the next question finds the model ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from omnimemory.embedders.base import Vectors
from omnimemory.errors import EmbedderError

__all__ = ["QuestionAside"]

_LEAVE_SECONDS = 2.0


class QuestionAside:
    """Asks one question at a time in a thread; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: _Question | None = None
        self._late: BaseException | None = None
        self._closed = False

    def within(self, seconds: float, ask: Callable[[Callable[[], bool]], Vectors]) -> Vectors | None:
        """Return what ``ask`` returns, or ``None`` if that takes longer than ``seconds``; raises what it raises.

        While an earlier question is still being asked nothing else is: the model is not ready. What such a question
        raised in the end is raised by the next call. ``ask`` is given a function that tells whether the answer is of no
        use any more. Raises :class:`EmbedderError` once it is closed.
        """
        end = time.monotonic() + seconds
        mine = _Question(partial(ask, lambda: self._closed))
        while (other := self._begin(mine)) is not mine:
            if not other.done.wait(max(0.0, end - time.monotonic())):
                return None
        if not mine.done.wait(max(0.0, end - time.monotonic())) and self._abandoned(mine):
            return None
        if mine.error is not None:
            raise mine.error
        return mine.answer

    def _begin(self, question: _Question) -> _Question:
        """Start to ask, unless another question is being asked; return the one that is."""
        with self._lock:
            if self._closed:
                raise EmbedderError("the memory was closed while the model was asked")
            late, self._late = self._late, None
            if late is not None:
                raise late
            if self._asked is None or self._asked.done.is_set():
                self._asked = question
                name = "omnimemory-question"
                threading.Thread(target=self._run, args=(question,), name=name, daemon=True).start()
            return self._asked

    def _run(self, question: _Question) -> None:
        try:
            question.answer = question.ask()
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller is
            question.error = error
        with self._lock:
            question.done.set()
            if question.is_abandoned:
                self._late = question.error

    def _abandoned(self, question: _Question) -> bool:
        """Note that nobody waits for a question, unless it is answered by now."""
        with self._lock:
            question.is_abandoned = not question.done.is_set()
            return question.is_abandoned

    def leave(self) -> None:
        """Say that no answer is of use any more."""
        with self._lock:
            self._closed = True

    def finish(self) -> None:
        """Wait a little for the question that is being asked."""
        if self._asked is not None:
            self._asked.done.wait(_LEAVE_SECONDS)


@dataclass(slots=True)
class _Question:
    ask: Callable[[], Vectors]
    done: threading.Event = field(default_factory=threading.Event)
    answer: Vectors | None = None
    error: BaseException | None = None
    is_abandoned: bool = False
