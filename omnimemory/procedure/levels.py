"""Contexts of which something is known, from the longest to the widest, and how their counts are put together.

Witten-Bell interpolation is linear: each level adds its counts in proportion to what the longer ones left to it. So the
parts are reckoned once for each level instead of once for each command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnimemory.procedure.followers import Followers

__all__ = ["Level", "add_counts", "parts_of"]


@dataclass(frozen=True, slots=True)
class Level:
    """What followed in one context; ``caution`` is how much more than usual is left to wider ones."""

    name: str
    followers: Followers
    caution: float = 1.0


def parts_of(levels: Sequence[Level], scale: float, types: float) -> tuple[list[float], float]:
    """Return what a stored weight adds in each level, the longest first, and what is left below all of them.

    ``scale`` turns stored weights into counts; ``types`` is how much each distinct follower counts against a run.
    """
    parts, left = [], 1.0
    for level in levels:
        passed = level.followers.passed(scale, types * level.caution)
        parts.append(left * (1.0 - passed) / level.followers.total)
        left *= passed
    return parts, left


def add_counts(probabilities: dict[int, float], levels: Sequence[Level], parts: Sequence[float]) -> None:
    """Add what each level counted of the commands that are there."""
    for level, part in zip(levels, parts, strict=True):
        weights = level.followers.weights
        for command in weights if len(weights) < len(probabilities) else probabilities:
            if command in probabilities and command in weights:
                probabilities[command] += part * weights[command]
