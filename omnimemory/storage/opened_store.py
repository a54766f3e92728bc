"""The stores that this process has open: one object for each directory, however often it is opened."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from omnimemory.errors import ConfigError, StoreError
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.store import Store, check_space

__all__ = ["open_store"]


def _check_options(path: Path, ours: StoreOptions, asked: StoreOptions) -> None:
    if ours != asked:
        raise ConfigError(
            f"{path} is open in this process already, with other settings (index or search.exact_rows), and one store "
            f"has one index: close the other Memory first, or open both with the same settings. {ours} is not {asked}."
        )


_OPEN: dict[tuple[int, Path], tuple[Store, int]] = {}
_OPEN_LOCK = threading.Lock()
os.register_at_fork(before=_OPEN_LOCK.acquire, after_in_parent=_OPEN_LOCK.release, after_in_child=_OPEN_LOCK.release)


class open_store:  # noqa: N801 - used like the function it stands for
    """Open a store, shared with everybody in this process who opened the same directory.

    ``.store`` is the :class:`Store`; ``.close()`` closes it when the last one lets go.
    """

    def __init__(self, path: Path, options: StoreOptions, *, fingerprint: str, model: str, dim: int) -> None:
        self._path = Path(os.path.realpath(path.expanduser()))  # resolve() raises for a loop of links
        self._key = (os.getpid(), self._path)  # a forked child must not be handed its parent's store
        self._done = False
        with _OPEN_LOCK:
            found, users = _OPEN.get(self._key, (None, 0))
            if found is None:
                found = Store(self._path, options, fingerprint=fingerprint, model=model, dim=dim)
            else:
                check_space(self._path, found.documents.collection, model, fingerprint)
                _check_options(self._path, found.options, options)
            _OPEN[self._key] = (found, users + 1)
        self._store = found
        self._retired: list[Store] = []

    @property
    def store(self) -> Store:
        """The shared store. Raises :class:`StoreError` in a forked child, whose locks may never be free."""
        if self._key[0] != os.getpid():
            raise StoreError("A store cannot be used after fork: open it in the child process instead.")
        return self._store

    @property
    def is_shared(self) -> bool:
        """Whether somebody else in this process has the same store open."""
        with _OPEN_LOCK:
            return _OPEN[self._key][1] > 1

    def reopen(self, options: StoreOptions, *, fingerprint: str, model: str, dim: int) -> None:
        """Open the store anew, with another model, after it was moved to that; the old one is closed at the end.

        Until then it answers whoever still asks it. Raises :class:`SpaceMismatchError` if it is of a third model.
        """
        with _OPEN_LOCK:
            self._store.let_go_of_index()
            fresh = Store(self._path, options, fingerprint=fingerprint, model=model, dim=dim)
            self._retired.append(self._store)
            self._store = fresh
            _OPEN[self._key] = (fresh, 1)

    def close(self, *, wait: bool = True) -> None:
        """Let go of the store (see :meth:`Store.close`); calling it again does nothing."""
        with _OPEN_LOCK:
            if self._done:
                return
            self._done = True
            store, users = _OPEN[self._key]
            if users > 1:
                _OPEN[self._key] = (store, users - 1)
                return
            del _OPEN[self._key]
        for old in self._retired:
            old.close(wait=False)
        store.close(wait=wait)
