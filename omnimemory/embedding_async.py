"""Embedding for asyncio: the same code as for everybody else, in a thread, with the network on the event loop.

The cache and the scheduler block for a moment, a local model for longer, so all of that runs in a thread. An embedder
that can be awaited (``aembed``) is awaited on the caller's own loop, so cancelling the caller drops the request that
is under way; any other finishes its batch, and nothing is asked of it after that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from omnimemory.embedders.base import Embedder, Role, Vectors
from omnimemory.embedding_batches import Ask

__all__ = ["run_off_loop"]

T = TypeVar("T")


async def run_off_loop(embedder: Embedder, work: Callable[[Ask, Callable[[], bool]], T]) -> T:
    """Run ``work`` in a thread and return its result; it embeds by what it is given, and can ask whether to end.

    When the caller is cancelled, ``work`` ends with :class:`concurrent.futures.CancelledError` at its next batch, or in
    the request it is waiting for, and does not wait for memory any longer.
    """
    call = _Call(embedder, asyncio.get_running_loop())
    try:
        return await asyncio.to_thread(work, call.ask, call.is_cancelled)
    except asyncio.CancelledError:
        call.cancel()
        raise


class _Call:
    def __init__(self, embedder: Embedder, loop: asyncio.AbstractEventLoop) -> None:
        self._embedder = embedder
        self._loop = loop
        self._lock = threading.Lock()
        self._cancelled = False
        self._pending: Future[Vectors] | None = None

    def ask(self, texts: Sequence[str], role: Role) -> Vectors:
        """Embed a batch; called in the thread."""
        aembed: Callable[..., Coroutine[Any, Any, Vectors]] | None = getattr(self._embedder, "aembed", None)
        with self._lock:
            if self._cancelled:
                raise CancelledError
            if aembed is not None:
                self._pending = asyncio.run_coroutine_threadsafe(aembed(texts, role), self._loop)
        if self._pending is None:
            return self._embedder.embed(texts, role)
        return self._pending.result()

    def is_cancelled(self) -> bool:
        """Return whether nobody waits for the result any more; called in the thread."""
        return self._cancelled

    def cancel(self) -> None:
        """Let nothing more be asked, and drop what is; called on the loop."""
        with self._lock:
            self._cancelled = True
            if self._pending is not None:
                self._pending.cancel()
