"""Telling from an exception that memory ran out: every library says it in its own way.

Python and numpy raise ``MemoryError``. ONNX Runtime raises one of a dozen kinds with "Failed to allocate memory" or
"bad allocation" in it, MLX a ``RuntimeError`` with "[malloc_or_wait] Unable to allocate" or "[metal::malloc]", torch
one with "out of memory"; a thread that cannot be started has no memory for its stack. What raised it may be wrapped,
so the causes are asked as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from omnimemory.errors import MemoryBudgetError

__all__ = ["RanOutError", "is_out_of_memory"]

_WORDS = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|unable to allocate|cannot allocate memory|out of memory"
    r"|attempting to allocate \d+ bytes|can't start new thread|insufficient memory|failed to allocate",
    re.IGNORECASE,
)
_DEEPEST = 8


class RanOutError(MemoryBudgetError):
    """Memory ran out while a batch was computed, though it had been granted."""

    def __init__(self, model: str, items: int) -> None:
        super().__init__(
            f"Memory ran out while {items} text{'s'[: items != 1]} went through {model}. Close programs, raise the "
            "memory limit of this process, container or service, or choose a smaller model."
        )
        self.model = model
        self.items = items

    def __reduce__(self) -> tuple[type[RanOutError], tuple[str, int]]:
        return type(self), (self.model, self.items)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether this error, or one that it was raised from, says that memory ran out."""
    return any(isinstance(one, MemoryError) or _says_so(one) for one in _causes(error))


def _says_so(error: BaseException) -> bool:
    # A message may quote a user's text, so only errors of the libraries themselves are read.
    foreign = not type(error).__module__.startswith("omnimemory.")
    return foreign and isinstance(error, Exception) and _WORDS.search(str(error)[:2000]) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    for _ in range(_DEEPEST):
        if following is None:
            return
        yield following
        following = following.__cause__ or following.__context__
