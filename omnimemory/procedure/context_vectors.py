"""Vectors of commands that are asked about: the stored ones where there are such, the model's for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from omnimemory.storage.store import Store
from omnimemory.storage.vectors import vectors_of

__all__ = ["context_vectors"]


def context_vectors(
    store: Store, commands: Sequence[str], embed: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the vectors (n, dim) of commands; one that has none is zeros: it is like nothing.

    ``embed`` makes those of commands that are not stored: a model that is down is not missed as long as all are.
    """
    rows = store.commands.known(list(dict.fromkeys(commands)))
    stored = vectors_of(store.catalog, store.commands.collection, sorted(rows.values()))
    found = {text: stored[row] for text, row in rows.items() if row in stored}
    missing = [text for text in dict.fromkeys(commands) if text not in found]
    if missing:
        found.update(zip(missing, embed(missing), strict=True))
    return np.stack([found[text] for text in commands])
