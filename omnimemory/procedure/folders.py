"""Which commands belong to which folder: what ran there, and what ran elsewhere only.

`make deploy` runs in one folder, `ls` in all of them. How likely a command is to be run in a folder, of all folders, is
told by Witten and Bell's rule from where it ran: its distinct folders are the evidence that it runs in yet another one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from omnimemory.procedure.followers import Followers, FollowerTable

__all__ = ["Folders"]

_TYPES = 2.0
"""How much each distinct folder counts as evidence for a new one."""
_POWER = 0.5
"""How much it is believed: the commands before tell a part of the same."""


class Folders:
    """The commands that ran in every folder, with their stored weights."""

    def __init__(self) -> None:
        self._ran = FollowerTable()
        self._weights: defaultdict[int, float] = defaultdict(float)
        self._distinct: Counter[int] = Counter()
        self._total = 0.0
        self._folders = 0

    def add(self, folder: str, command: int, weight: float) -> None:
        """Learn that a command ran in a folder."""
        known = self._ran.get(folder)
        self._folders += known is None
        self._distinct[command] += known is None or command not in known.weights
        self._ran.add(folder, command, weight)
        self._weights[command] += weight
        self._total += weight

    def get(self, folder: str) -> Followers | None:
        """Return what ran in a folder, ``None`` if nothing did."""
        return self._ran.get(folder)

    def weigh(self, probabilities: dict[int, float], folder: str, scale: float) -> None:
        """Move probability from commands that run in other folders to those that run in this one; the sum stays.

        ``scale`` turns stored weights into counts.
        """
        if not self._total:
            return
        before = sum(probabilities.values())
        for command, share in zip(probabilities, self._shares(probabilities, folder, scale), strict=True):
            probabilities[command] *= share**_POWER
        after = sum(probabilities.values())
        if after > 0:
            for command in probabilities:
                probabilities[command] *= before / after

    def _shares(self, commands: Iterable[int], folder: str, scale: float) -> list[float]:
        """Return which part of each command's runs is to be expected in this folder."""
        found = self._ran.get(folder)
        here = found.weights if found else {}
        new = 1.0 / (self._folders + 1)
        unknown = max(new, (found.total if found else 0.0) / self._total)
        types = _TYPES / scale
        shares = []
        for command in commands:
            distinct = types * self._distinct.get(command, 0)
            if distinct:
                share = (here.get(command, 0.0) + distinct * new) / (self._weights[command] + distinct)
            else:
                share = unknown
            shares.append(share)
        return shares
