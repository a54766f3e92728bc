"""What came next in one context, with counts that fade.

A step learned ``half_life`` steps ago counts half. Instead of shrinking what is stored, newer steps weigh more; a count
is put in proportion to now when it is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable

__all__ = ["Clock", "FollowerTable", "Followers"]


class Clock:
    """Counts the steps learned. The weight of a step grows by half every ``half_life`` steps, from 1 at ``origin``."""

    def __init__(self, half_life: float, origin: int = 0) -> None:
        self.half_life = half_life
        self.origin = origin
        self.now = 0

    def tick(self) -> None:
        """One more step was learned."""
        self.now += 1

    @property
    def weight(self) -> float:
        """What a step learned now is stored with."""
        return float(2.0 ** ((self.now - self.origin) / self.half_life))


class Followers:
    """The commands that followed in one context, with their stored weights."""

    __slots__ = ("_top", "_top_until", "total", "weights")

    def __init__(self) -> None:
        self.weights: dict[int, float] = {}
        self.total = 0.0
        self._top: list[int] = []
        self._top_until = 0.0

    def add(self, command: int, weight: float) -> None:
        """One more time this command followed."""
        self.weights[command] = self.weights.get(command, 0.0) + weight
        self.total += weight

    def likely(self, most: int) -> Iterable[int]:
        """Return the followers with the highest counts, about as many as ``most``; all if they are no more."""
        if len(self.weights) <= most:
            return self.weights
        if self.total >= self._top_until:  # ranked anew when a sixteenth was added: ranking takes longer than learning
            self._top = heapq.nlargest(most, self.weights, key=self.weights.__getitem__)
            self._top_until = self.total * (1.0 + 1.0 / 16)
        return self._top

    def passed(self, scale: float, types: float) -> float:
        """Return which part of the probability is left to what a wider context knows, by Witten and Bell's rule.

        ``scale`` turns stored weights into counts; ``types`` is how much each distinct follower counts as evidence for
        something new (in the original: one).
        """
        new = types * len(self.weights)
        return new / (self.total * scale + new)


class FollowerTable:
    """The followers of every context of one kind."""

    def __init__(self) -> None:
        self._contexts: dict[Hashable, Followers] = {}

    def add(self, context: Hashable, command: int, weight: float) -> None:
        """Learn that a command followed in a context."""
        found = self._contexts.get(context)
        if found is None:
            found = self._contexts[context] = Followers()
        found.add(command, weight)

    def get(self, context: Hashable) -> Followers | None:
        """Return what followed in a context, ``None`` if it was never seen."""
        return self._contexts.get(context)
