"""Two ways to weigh the same counts, and which of them has been right.

Somebody with years of history is predicted best by what followed in the very same context; somebody with a day of it by
what is short, frequent and recent. Nobody is told to choose: both predict every step that is learned, and the one that
gave it more probability gains weight (a Bayesian mixture with fixed share; Herbster & Warmuth, Machine Learning 32,
1998).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp

__all__ = ["EXPERTS", "LONGEST", "Expert", "Mixture", "Novelty", "strength"]

_AGE_POWER = 0.6
LONGEST = 60
"""Characters; longer commands count as this long."""
_SHARE = 0.005  # as if the better one changed every 200 steps
_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Expert:
    """How much a distinct follower counts against a run, and how much a long command against a short one.

    ``types`` weighs the wider contexts (in Witten and Bell's rule: 1); ``brevity`` is per character.
    """

    types: float
    brevity: float

    def briefness(self) -> tuple[float, ...]:
        """Return what is left of a command of 0 to ``LONGEST`` characters."""
        return _briefness(self.brevity)


@lru_cache(maxsize=16)
def _briefness(brevity: float) -> tuple[float, ...]:
    return tuple(exp(-brevity * length) for length in range(LONGEST + 1))


def strength(count: float, age: int) -> float:
    """Return what speaks for a command in no context: how often it ran and how many steps ago."""
    return float(count * (age + 1) ** -_AGE_POWER)


EXPERTS = (Expert(types=2.0, brevity=0.05), Expert(types=16.0, brevity=0.3))
"""Fitted on histories of 34 students, own and pooled."""


class Mixture:
    """The weights of the experts; they sum to 1."""

    def __init__(self, experts: Sequence[Expert] = EXPERTS) -> None:
        self.experts = tuple(experts)
        self.weights = [1.0 / len(self.experts)] * len(self.experts)

    def update(self, probability: Callable[[int], float]) -> None:
        """Learn which expert was right: ``probability(n)`` is what the n-th gave to the step that came."""
        right = [weight * max(probability(n), _LEAST) for n, weight in enumerate(self.weights)]
        total, share = sum(right), _SHARE / len(right)
        self.weights = [(1.0 - _SHARE) * one / total + share for one in right]


class Novelty:
    """How often a step was a command that had never run before."""

    def __init__(self) -> None:
        self._new = self._known = 0.0

    def add(self, new: bool, weight: float) -> None:
        """Count one step with its stored weight."""
        if new:
            self._new += weight
        else:
            self._known += weight

    def odds(self, unit: float) -> float:
        """Return how likely a new command is against a known one; ``unit`` is what one step weighs now."""
        return (self._new + unit / 2) / (self._known + unit / 2)
