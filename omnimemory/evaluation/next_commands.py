"""How well the next command is predicted: every step of a history is predicted first and learned then.

Scores are means over the sessions of their means over their steps, so that a long one does not decide alone; the
intervals are from a bootstrap over sessions, paired when two predictors are compared. Where each person's history is
one session, as in data sets of many people, they are means over people.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from omnimemory.evaluation.baselines import BASELINES, Predictor
from omnimemory.procedure.likeness import LikeContexts, VectorsOf
from omnimemory.procedure.predictor import CONTEXT, NextCommand
from omnimemory.procedure.records import Prediction
from omnimemory.procedure.steps import Step

__all__ = ["METRICS", "Calibration", "Observed", "Outcome", "compare", "evaluate", "table"]

METRICS = ("top1", "top3", "top5", "mrr10")
_DEEPEST = 10
_LENGTHS = (1, 2, 3, 4)
_CONTEXT = max(_LENGTHS)
_ROUNDS = 2000
_BINS = 10
_SHUFFLES = 5  # one alone may help or harm by chance


@dataclass(frozen=True, slots=True)
class Observed:
    """One step of a history and the session it belongs to."""

    session: str
    step: Step


@dataclass(slots=True)
class Calibration:
    """What was promised and what came, in ten bins of probability."""

    promised: list[float] = field(default_factory=lambda: [0.0] * _BINS)
    came: list[int] = field(default_factory=lambda: [0] * _BINS)
    count: list[int] = field(default_factory=lambda: [0] * _BINS)

    def add(self, probability: float, came: bool) -> None:
        """Count one prediction."""
        place = min(_BINS - 1, int(probability * _BINS))
        self.promised[place] += probability
        self.came[place] += came
        self.count[place] += 1

    def error(self) -> float:
        """Return the expected calibration error: by how much promise and outcome differ, on average."""
        total = sum(self.count)
        differences = (abs(promised - came) for promised, came in zip(self.promised, self.came, strict=True))
        return sum(differences) / total if total else 0.0


@dataclass(slots=True)
class Outcome:
    """The scores of one predictor: for each session the sums of each metric, and the steps they are over."""

    sums: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    new: Outcome | None = None
    """The same of the steps alone that came after a command that was never followed by anything before."""

    def add(self, session: str, rank: int, *, new: bool = False) -> None:
        """Count one step; ``rank`` is that of the true command, 0: not among the first ten."""
        if new:
            self.new = self.new or Outcome()
            self.new.add(session, rank)
        sums = self.sums.setdefault(session, [0.0] * len(METRICS))
        for place, deepest in enumerate((1, 3, 5)):
            sums[place] += 0 < rank <= deepest
        sums[3] += 1.0 / rank if rank else 0.0
        self.steps[session] = self.steps.get(session, 0) + 1

    def means(self, metric: str) -> dict[str, float]:
        """Return each session's mean of a metric."""
        place = METRICS.index(metric)
        return {session: sums[place] / self.steps[session] for session, sums in self.sums.items()}

    def mean(self, metric: str) -> float:
        """Return the mean over sessions."""
        means = self.means(metric)
        return sum(means.values()) / len(means) if means else 0.0


class _Ours:
    def __init__(self, calibration: Calibration, longest: int, vectors_of: VectorsOf | None) -> None:
        likeness = None if vectors_of is None else LikeContexts(vectors_of)
        self._model = NextCommand(longest=longest, likeness=likeness)
        self._said: list[Prediction] = []
        self._calibration = calibration

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:
        self._said = self._model.predict(context, cwd, k)
        return [prediction.command for prediction in self._said]

    def learn(self, context: Sequence[Step], step: Step) -> None:
        for prediction in self._said:
            self._calibration.add(prediction.probability, prediction.command == step.command)
        self._model.learn(context, step)


def evaluate(
    history: Iterable[Observed],
    *,
    separate: bool = False,
    lengths: bool = False,
    vectors_of: VectorsOf | None = None,
) -> dict[str, Outcome]:
    """Return the outcome of our prediction (``ours``) and of every baseline over steps in the order they ran.

    They share one history, or with ``separate`` each session has a history of its own, as if nobody knew the others.
    With ``vectors_of`` commands ours knows which contexts are alike, and is there as well without that, and with the
    vectors shuffled among the commands (the mean of five times). With ``lengths`` it is there with contexts of other
    lengths, 1 to 4 commands.
    """
    steps = list(history)
    outcomes: dict[str, Outcome] = {}

    def add(name: str, longest: int, vectors: VectorsOf | None) -> None:
        outcome = outcomes.setdefault(name, Outcome())
        _run(steps, lambda: _Ours(outcome.calibration, longest, vectors), outcome, separate=separate)

    add("ours", CONTEXT, vectors_of)
    if vectors_of is not None:
        add("ours, counts alone", CONTEXT, None)
        for seed in range(_SHUFFLES):
            add("ours, vectors shuffled", CONTEXT, _shuffled(steps, vectors_of, seed))
    for length in _LENGTHS if lengths else ():
        if length != CONTEXT:
            add(f"ours, {length} command{'s' * (length > 1)} before", length, vectors_of)
    for name, make in BASELINES.items():
        outcomes[name] = _run(steps, make, Outcome(), separate=separate)
    return outcomes


def _shuffled(steps: Sequence[Observed], vectors_of: VectorsOf, seed: int) -> VectorsOf:
    """Give each command the vector of another one, always the same: what still helps then is not what they mean."""
    texts = sorted({observed.step.command for observed in steps})
    others = dict(zip(texts, random.Random(seed).sample(texts, len(texts)), strict=True))
    return lambda asked: vectors_of([others[text] for text in asked])


def _run(history: Sequence[Observed], make: Callable[[], Predictor], outcome: Outcome, *, separate: bool) -> Outcome:
    predictors: dict[str, Predictor] = {}
    contexts: dict[str, list[Step]] = {}
    followed: dict[str, set[str]] = {}
    for observed in history:
        owner, step = observed.session if separate else "", observed.step
        if owner not in predictors:
            predictors[owner] = make()
        context = contexts.setdefault(observed.session, [])
        ranked = predictors[owner].rank(context, step.cwd, _DEEPEST)
        known = followed.setdefault(owner, set())
        new = bool(context) and context[-1].command not in known
        outcome.add(observed.session, ranked.index(step.command) + 1 if step.command in ranked else 0, new=new)
        known.update(before.command for before in context[-1:])
        predictors[owner].learn(context, step)
        context.append(step)
        del context[:-_CONTEXT]
    return outcome


def compare(ours: Outcome, theirs: Outcome, metric: str) -> tuple[float, float, float]:
    """Return by how much ours is better with its 95 % interval, (lower, mean, upper): a paired bootstrap."""
    a, b = ours.means(metric), theirs.means(metric)
    differences = [a[session] - b[session] for session in a]
    if not differences:
        return 0.0, 0.0, 0.0
    return interval(differences)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 2.5th percentile, the mean and the 97.5th percentile of the bootstrapped mean; the seed is fixed."""
    draw = random.Random(0)
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(_ROUNDS))
    return means[int(0.025 * _ROUNDS)], sum(values) / len(values), means[int(0.975 * _ROUNDS)]


def table(outcomes: Mapping[str, Outcome]) -> list[dict[str, object]]:
    """Return one row for each predictor: its scores, and by how much ours is better; both after new commands too."""
    rows: list[dict[str, object]] = []
    ours = outcomes["ours"]
    for name, outcome in outcomes.items():
        row: dict[str, object] = {"predictor": name, **{metric: outcome.mean(metric) for metric in METRICS}}
        row["mrr10_new"] = (outcome.new or Outcome()).mean("mrr10")
        if name != "ours":
            new = compare(ours.new or Outcome(), outcome.new or Outcome(), "mrr10")
            better = {metric: compare(ours, outcome, metric) for metric in ("top5", "mrr10")}
            row["ours_better_by"] = {**better, "mrr10_new": new}
        rows.append(row)
    return rows
