"""MLX as it is used here: imported late, in one thread, within limits.

- Its streams belong to the thread that made them, and each new thread that computes gets one, with a thread below it
  that never ends. So every embedder computes in one thread of its own, which lives as long as the embedder does.
- After a fork nobody works on the parent's streams, and who waits for them, as freeing memory does, waits for ever. So
  in a forked child of a process that had imported MLX every use is an error.
- Its buffers are kept for the next batch up to a limit that is by default most of the memory, and were seen to grow to
  ten times the need where lengths vary (github.com/waybarrios/vllm-mlx, issues 667 and 743). Here a batch may keep what
  was granted for it, and all is given back after a call.
- The wheel for Linux brings the reference BLAS: a tenth to a fifteenth of OpenBLAS in our measurements of MiniLM. A
  library that defines the same names and is there before MLX is taken instead, which ``LD_PRELOAD`` does.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from omnimemory.errors import EmbedderError, MissingExtraError
from omnimemory.forks import ForkLock

__all__ = ["Worker", "bounded", "load_mlx", "runs_on_reference_blas"]

_LOG = logging.getLogger("omnimemory")
_PLATFORM: str = sys.platform
_ALLOCATOR = ForkLock()  # MLX has one allocator, and so one pair of limits, for the whole process
_INHERITED = threading.Event()

T = TypeVar("T")


def load_mlx() -> Any:
    """Import ``mlx.core`` and return it. Raises :class:`EmbedderError` that says how to get it."""
    if importlib.util.find_spec("mlx") is None:
        raise MissingExtraError("Embedding with MLX", "mlx")
    slow = runs_on_reference_blas()
    try:
        import mlx.core as mx  # noqa: PLC0415 - heavy, and only a model that is loaded needs it
    except ImportError as error:
        raise EmbedderError(
            f"MLX is installed and cannot be loaded ({error}). Install it with: pip install 'omnimemory[mlx]' (on "
            "Linux that brings its processor backend, which needs glibc 2.35 or later)."
        ) from error
    if slow:
        _tell_slow()
    return mx


def runs_on_reference_blas() -> bool:
    """Return whether MLX has, or will have, nothing but the reference BLAS of its wheel for products of matrices.

    That is so on Linux unless a library that was loaded before it, for all others to see, has ``cblas_sgemm``.
    """
    return _PLATFORM == "linux" and not hasattr(ctypes.CDLL(None), "cblas_sgemm")


@cache
def _tell_slow() -> None:
    _LOG.warning(
        "MLX computes with the reference BLAS here, a tenth of what this processor can do, or less. OpenBLAS loaded "
        "before it mends that: install it (Debian: libopenblas0) and set LD_PRELOAD=libopenblas.so.0; or use an onnx: "
        "model, which is the fast one on Linux."
    )


class Worker:
    """The one thread in which an embedder's arrays are made. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._thread: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the thread and return its result, or raise its error.

        An interrupt is raised here at once; what was begun is then finished in the background. Raises
        :class:`EmbedderError` in a forked child of a process that had imported MLX.
        """
        if _INHERITED.is_set():
            raise EmbedderError(
                "This process was forked from one that used MLX, which does not survive that: start processes afresh "
                '(multiprocessing.get_context("spawn")), or use an onnx: model.'
            )
        with self._lock:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="omnimemory-mlx")
            waiting = self._thread.submit(work)
        return waiting.result()


def _note_fork() -> None:
    if "mlx.core" in sys.modules:
        _INHERITED.set()


os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def bounded(mx: Any, granted: int) -> Iterator[None]:
    """Let MLX take ``granted`` bytes beside what it holds, and keep no more than that for what comes next."""
    with _ALLOCATOR:
        memory = mx.set_memory_limit(mx.get_active_memory() + granted)
        kept = mx.set_cache_limit(granted)
        try:
            yield
        finally:
            mx.set_memory_limit(memory)
            mx.set_cache_limit(kept)
