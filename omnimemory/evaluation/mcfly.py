"""McFly's ordering with nothing typed yet: ten features of each command through a network of three nodes.

The features and the weights are those of its ``src/history/history.rs`` and ``src/network.rs`` (cantino/mcfly,
MIT). McFly also knows which commands were chosen in its own window and which failed with exit code 1 in the last two
minutes; histories do not tell, so these features are 0 here, and so does every command count as successful.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import tanh

from omnimemory.procedure.steps import Step

__all__ = ["McFly"]

_LOOK_BACK = 3
_FINAL_BIAS = -0.38293
_FINAL = (0.44657, -1.95504, -2.96332)
# offset, age, length, exit, folder, overlap, immediate overlap, occurrences
_HIDDEN = (
    (-0.87818, -0.90455, 0.54069, -0.34728, -0.24661, 0.47918, 0.55658, 0.15694),
    (-0.04363, -0.25382, 0.42388, 0.21907, -2.28583, -0.56227, -0.47252, -1.48465),
    (-0.11993, 0.37590, 1.67460, -0.15530, 0.34723, 0.09372, 0.39399, -2.19622),
)


@dataclass(slots=True)
class _Counts:
    last: int = 0
    here: int = 0
    overlap: float = 0.0
    immediate: int = 0
    times: int = 0


class McFly:
    """Ranks all commands anew at each question, as McFly does: slow on long histories."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, str, str | None]] = []
        self._times: Counter[str] = Counter()

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:
        """See :class:`~omnimemory.evaluation.baselines.Predictor`."""
        if not self._steps:
            return []
        before = [_template(step.command) for step in reversed(context[-_LOOK_BACK:])]
        found: dict[str, _Counts] = {}
        for place, (command, _, folder) in enumerate(self._steps):
            counts = found.setdefault(command, _Counts())
            counts.last, counts.times = place, counts.times + 1
            counts.here += folder == cwd
            run = [template for _, template, _ in self._steps[max(0, place - _LOOK_BACK) : place]]
            counts.overlap += len(set(run) & set(before)) / _LOOK_BACK
            counts.immediate += bool(run and before) and run[-1] == before[0]
        ranked = sorted(found, key=lambda command: (self._score(command, found[command]), command), reverse=True)
        return ranked[:k]

    def _score(self, command: str, counts: _Counts) -> float:
        most = max(self._times.values())
        age = (len(self._steps) - 1 - counts.last) / max(1, len(self._steps) - 1)
        length = len(command) / max(map(len, self._times))
        shares = (counts.here / most, counts.overlap / most, counts.immediate / most, counts.times / most)
        features = (1.0, age, length, 1.0, *shares)
        nodes = (tanh(sum(a * b for a, b in zip(node, features, strict=True))) for node in _HIDDEN)
        return _FINAL_BIAS + sum(weight * node for weight, node in zip(_FINAL, nodes, strict=True))

    def learn(self, context: Sequence[Step], step: Step) -> None:  # noqa: ARG002 - the protocol's signature
        """See :class:`~omnimemory.evaluation.baselines.Predictor`."""
        self._steps.append((step.command, _template(step.command), step.cwd))
        self._times[step.command] += 1


def _template(command: str) -> str:
    return " ".join("PATH" if "/" in word else word for word in command.split()[:2])
