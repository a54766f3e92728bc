"""The models that the users of one scheduler bring, each for as long as its user stays.

Two users may bring models of one name, such as two memories with the same model: each has a copy of its own. They are
one model for the scheduler: there when any copy is, as large as those that are, unloaded together, and gone when the
last user has left. Who has to load its own copy beside others is charged for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from omnimemory.scheduler.loadable import Loadable

__all__ = ["SharedModels"]


class SharedModels:
    """Models by their names. Callers hold a lock."""

    def __init__(self) -> None:
        self._brought: dict[str, list[tuple[object, Loadable]]] = {}
        self._known: dict[str, Loadable] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Loadable]:
        return iter(list(self._known.values()))

    def get(self, name: str) -> Loadable | None:
        """Return a model that is known, all copies as one."""
        return self._known.get(name)

    def bring(self, model: Loadable, user: object) -> Loadable:
        """Get to know a copy of a model, and return what is known of all; news of a server take the place of older."""
        copies = [] if model.served else self._brought.get(model.name, [])
        copies = [(whose, copy) for whose, copy in copies if not copy.served]
        return self._keep(model.name, [*copies, (user, model)])

    def drop(self, name: str) -> None:
        """Know a model no longer, whoever brought it."""
        self._brought.pop(name, None)
        self._known.pop(name, None)

    def leave(self, user: object) -> tuple[list[Loadable], list[Loadable]]:
        """Forget what a user brought; return the copies that nobody else has, and the models of which others stay."""
        left, stay = [], []
        for name, copies in list(self._brought.items()):
            others = [(whose, copy) for whose, copy in copies if whose is not user]
            if len(others) == len(copies):
                continue
            left += [copy for whose, copy in copies if whose is user]
            if others:
                stay.append(self._keep(name, others))
            else:
                self.drop(name)
        return left, stay

    def _keep(self, name: str, copies: list[tuple[object, Loadable]]) -> Loadable:
        self._brought[name] = copies
        self._known[name] = _together([copy for _, copy in copies])
        return self._known[name]


def _together(copies: list[Loadable]) -> Loadable:
    if len(copies) == 1:
        return copies[0]

    def load() -> None:
        for copy in copies:
            copy.load()

    def loaded() -> list[Loadable]:
        return [copy for copy in copies if copy.is_loaded()]

    return copies[-1]._replace(
        is_loaded=lambda: any(copy.is_loaded() for copy in copies),
        load=load,
        unload=lambda: sum(copy.unload() for copy in loaded()),
        copies=lambda: len(loaded()),
    )
