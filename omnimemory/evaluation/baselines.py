"""What others predict as the next command, for comparison: each is asked, then told what came.

The classics and what shells and history tools do today; sources stand with each.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import MappingProxyType
from typing import Protocol

from omnimemory.evaluation.mcfly import McFly
from omnimemory.procedure.steps import Step

__all__ = ["BASELINES", "Predictor"]


class Predictor(Protocol):
    """Something that ranks commands and then learns which one it was."""

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:
        """Return up to k commands, the likeliest first."""

    def learn(self, context: Sequence[Step], step: Step) -> None:
        """Learn what came."""


def _first(k: int, *rankings: Iterable[str]) -> list[str]:
    return list(islice(dict.fromkeys(chain(*rankings)), k))


def _last(context: Sequence[Step]) -> str | None:
    return context[-1].command if context else None


class MostFrequent:
    """The commands that ran most often."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        return [command for command, _ in self._counts.most_common(k)]

    def learn(self, context: Sequence[Step], step: Step) -> None:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        self._counts[step.command] += 1


class MostRecent:
    """The commands that ran last: what the up arrow offers."""

    def __init__(self) -> None:
        self._commands: OrderedDict[str, None] = OrderedDict()

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        return list(islice(self.ranking(), k))

    def ranking(self) -> Iterator[str]:
        """Yield all commands, the latest first."""
        return reversed(self._commands)

    def learn(self, context: Sequence[Step], step: Step) -> None:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        self._commands[step.command] = None
        self._commands.move_to_end(step.command)


class Bigram:
    """What came after the same command, the latest first; then the most recent."""

    def __init__(self) -> None:
        self._after: dict[str | None, MostRecent] = {}
        self._all = MostRecent()

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        after = self._after.get(_last(context))
        return _first(k, after.ranking() if after else (), self._all.ranking())

    def learn(self, context: Sequence[Step], step: Step) -> None:
        """See :class:`Predictor`."""
        self._after.setdefault(_last(context), MostRecent()).learn(context, step)
        self._all.learn(context, step)


class MatchPreviousCommand:
    """zsh-autosuggestions' strategy ``match_prev_cmd`` with nothing typed yet.

    The latest of the last 200 events whose predecessor is the last command; else the most recent (its
    ``src/strategies/match_prev_cmd.zsh``).
    """

    _LOOK_BACK = 200

    def __init__(self) -> None:
        self._events: list[tuple[str | None, str]] = []
        self._recent = MostRecent()

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        last = _last(context)
        looked_at = reversed(self._events[-self._LOOK_BACK :])
        return _first(k, (command for before, command in looked_at if before == last), self._recent.ranking())

    def learn(self, context: Sequence[Step], step: Step) -> None:
        """See :class:`Predictor`."""
        self._events.append((_last(context), step.command))
        self._recent.learn(context, step)


class Ipam:
    """IPAM: tables of probabilities that fade by .8 (Davison & Hirsh, AAAI Workshop WS-98-07, 1998)."""

    _FADE = 0.8

    def __init__(self) -> None:
        self._after: dict[str | None, dict[str, float]] = {}
        self._default: dict[str, float] = {}

    def rank(self, context: Sequence[Step], cwd: str | None, k: int) -> list[str]:  # noqa: ARG002 - the protocol's
        """See :class:`Predictor`."""
        after = self._after.get(_last(context), {})
        return _first(k, _sorted(after), _sorted(self._default))

    def learn(self, context: Sequence[Step], step: Step) -> None:
        """See :class:`Predictor`."""
        last = _last(context)
        if last not in self._after:
            self._after[last] = dict(self._default)
        for table in (self._after[last], self._default):
            for command in table:
                table[command] *= self._FADE
            table[step.command] = table.get(step.command, 0.0) + 1.0 - self._FADE


def _sorted(table: Mapping[str, float]) -> list[str]:
    return sorted(table, key=lambda command: -table[command])


BASELINES: Mapping[str, Callable[[], Predictor]] = MappingProxyType(
    {
        "most frequent": MostFrequent,
        "most recent": MostRecent,
        "bigram": Bigram,
        "match_prev_cmd": MatchPreviousCommand,
        "IPAM": Ipam,
        "McFly": McFly,
    }
)
