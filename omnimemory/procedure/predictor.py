"""What comes next: counts of what followed, from the longest context to none.

Witten-Bell interpolation (Witten & Bell, IEEE Trans. Inf. Theory 37(4), 1991) over: the three and the two commands
before, the one before (and whether it worked), its program, the one before that (when the last one is new there, so
that a foreign command does not end a routine), the folder; under all of it lies how often, how lately and how short.
Counts fade with a half-life in steps. After a command of which nothing is known, what followed contexts like this one
counts as well.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from omnimemory.procedure.experts import LONGEST, Mixture, strength
from omnimemory.procedure.followers import Clock, Followers, FollowerTable
from omnimemory.procedure.likeness import LikeContexts, Likely
from omnimemory.procedure.outcomes import Outcomes
from omnimemory.procedure.records import Prediction
from omnimemory.procedure.steps import Step, first_word

__all__ = ["CONTEXT", "NextCommand"]

HALF_LIFE = 1000.0
_SKIP_TYPES = 8.0
"""How much less is learnt from the last but one command, in place of a last one that is new there."""
_RECENT, _LIKELY = 300, 200
_SETTLED, _SELDOM = (
    1000,
    8,
)  # after so many steps the experts are compared at every eighth only: it costs most of learning
_KNOWN = 0.9  # of the mass; the rest is for commands never seen
_START = -1
CONTEXT = 3
"""Commands looked back at: of 1 to 4 it was best, though 2 and 4 are within its interval (README)."""
_LONG = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True, slots=True)
class _Level:
    name: str
    followers: Followers
    caution: float = 1.0


class NextCommand:
    """Learns steps in the order they ran, and tells what comes next. Not safe for several threads at once."""

    def __init__(
        self,
        *,
        half_life: float = HALF_LIFE,
        origin: int = 0,
        longest: int = CONTEXT,
        likeness: LikeContexts | None = None,
    ) -> None:
        self._clock = Clock(half_life, origin)
        self._likeness = likeness
        self._long = [(length, _LONG[length]) for length in range(longest, 1, -1)]
        self._levels_of_commands = (*(name for _, name in self._long), "outcome", "one")
        self._ids: dict[str, int] = {}
        self._names: list[str] = []
        self._programs: list[str] = []
        self._outcomes: list[Outcomes] = []
        self._tables = {name: FollowerTable() for name in (*self._levels_of_commands, "program", "folder")}
        self._all = Followers()
        self._recent: OrderedDict[int, int] = OrderedDict()
        self._mixture = Mixture()
        self._norms: list[float] = []
        self._norms_until = 0
        # Every step in columns, for the reasons that are given.
        self._before, self._folders = array("l"), array("l")
        self._places: list[array[int]] = []
        self._folder_ids: dict[str | None, int] = {}

    def __len__(self) -> int:
        return self._clock.now

    # -- learning

    def learn(self, context: Sequence[Step] | None, step: Step) -> None:
        """Learn one step; ``context`` holds what ran before it in its session, ``None``: nobody knows."""
        command = self._number(step.command)
        weight = self._clock.weight
        if context is not None:
            if command in self._recent and (self._clock.now < _SETTLED or self._clock.now % _SELDOM == 0):
                levels = list(self._levels(context, step.cwd))
                strengths = self._strengths([command])
                self._mixture.update(lambda expert: self._refined(expert, levels, strengths)[command])
            for name, key in self._keys(context, step.cwd):
                self._tables[name].add(key, command, weight)
            if self._likeness is not None:
                self._likeness.learn([before.command for before in context], command)
        elif step.cwd is not None:
            self._tables["folder"].add(step.cwd, command, weight)
        self._all.add(command, weight)
        self._recent[command] = self._clock.now
        self._recent.move_to_end(command)
        self._outcomes[command].add(step.ok)
        self._places[command].append(len(self._before))
        self._before.append(self._last(context) if context is not None else -2)
        self._folders.append(self._folder_ids.setdefault(step.cwd, len(self._folder_ids)))
        self._clock.tick()

    def _number(self, command: str) -> int:
        number = self._ids.get(command)
        if number is None:
            number = self._ids[command] = len(self._names)
            self._names.append(command)
            self._programs.append(first_word(command))
            self._outcomes.append(Outcomes())
            self._places.append(array("l"))
        return number

    def _last(self, context: Sequence[Step], back: int = 1) -> int:
        """Return the number of the step so far back: -1 before the beginning, -3 for a command never seen."""
        return self._ids.get(context[-back].command, -3) if len(context) >= back else _START

    def _keys(self, context: Sequence[Step], cwd: str | None) -> Iterator[tuple[str, Hashable]]:
        last = self._last(context)
        failed = bool(context) and context[-1].ok is False  # what mends it is no routine
        for length, name in self._long:
            yield name, (failed, *(self._last(context, back) for back in range(length, 0, -1)))
        if context and context[-1].ok is not None:
            yield "outcome", (last, context[-1].ok)
        yield "one", last
        yield "program", first_word(context[-1].command) if context else ""
        if cwd is not None:
            yield "folder", cwd

    # -- predicting

    def predict(self, context: Sequence[Step], cwd: str | None = None, k: int = 5) -> list[Prediction]:
        """Return the k likeliest commands, best first. Their probabilities sum to at most 1."""
        if not self._names or k <= 0:
            return []
        levels = list(self._levels(context, cwd))
        strengths = self._strengths(self._candidates(levels))
        probabilities = dict.fromkeys(strengths, 0.0)
        for expert, weight in enumerate(self._mixture.weights):
            for command, probability in self._refined(expert, levels, strengths).items():
                probabilities[command] += weight * probability
        alike, believed = self._alike(levels, context)
        # The norms of the base may be a few steps old.
        scale = (1.0 - believed) / max(1.0, sum(probabilities.values()))
        for command in probabilities:
            probabilities[command] *= scale
        why = {}
        for command, likely in alike.items():
            part = believed * likely.share
            if part > probabilities.get(command, 0.0):
                why[command] = f"came after `{likely.after}`, which is like `{context[-1].command}`"
            probabilities[command] = probabilities.get(command, 0.0) + part
        allowed = (
            (command, probability * self._outcomes[command].factor())
            for command, probability in probabilities.items()
            if not self._outcomes[command].only_failed
        )
        chosen = heapq.nsmallest(k, allowed, key=lambda pair: (-pair[1], -self._places[pair[0]][-1]))
        return [
            Prediction(self._names[command], probability, why.get(command) or self._why(command, levels, context, cwd))
            for command, probability in chosen
        ]

    def _alike(self, levels: list[_Level], context: Sequence[Step]) -> tuple[dict[int, Likely], float]:
        """Return what followed contexts like this one, if nobody knows what follows its last command."""
        if self._likeness is None or not context or any(level.name == "one" for level in levels):
            return {}, 0.0
        return self._likeness.following([step.command for step in context])

    def _levels(self, context: Sequence[Step], cwd: str | None) -> Iterator[_Level]:
        """Yield what is known of this context, the longest first."""
        known = dict(self._keys(context, cwd))
        new = True
        for name in (*self._levels_of_commands, "program"):
            found = self._tables[name].get(known[name]) if name in known else None
            if found is not None:
                new &= name in ("outcome", "one", "program")
                yield _Level(name, found)
        if new and self._long and len(context) > 1:
            skipped = self._tables["one"].get(self._last(context, 2))
            if skipped is not None:
                yield _Level("skipped", skipped, _SKIP_TYPES)
        if "folder" in known:
            found = self._tables["folder"].get(known["folder"])
            if found is not None:
                yield _Level("folder", found)

    def _candidates(self, levels: list[_Level]) -> list[int]:
        found = dict.fromkeys(islice(reversed(self._recent), _RECENT))
        for followers in (*(level.followers for level in levels), self._all):
            found.update(dict.fromkeys(followers.likely(_LIKELY)))
        return list(found)

    def _strengths(self, candidates: Iterable[int]) -> dict[int, float]:
        """Return what speaks for each candidate in no context, however long it is."""
        scale, now, counts, recent = 1.0 / self._clock.weight, self._clock.now, self._all.weights, self._recent
        return {command: strength(counts[command] * scale, now - recent[command]) for command in candidates}

    def _refined(self, expert: int, levels: list[_Level], strengths: dict[int, float]) -> dict[int, float]:
        """Return what one expert thinks of the candidates, from no context to the longest."""
        self._renew_norms()
        view, names = self._mixture.experts[expert], self._names
        norm, brief = _KNOWN / self._norms[expert], view.briefness()
        probabilities = {
            command: norm * value * brief[min(len(names[command]), LONGEST)] for command, value in strengths.items()
        }
        for level in reversed(levels):
            level.followers.refine(probabilities, 1.0 / self._clock.weight, view.types * level.caution)
        return probabilities

    def _renew_norms(self) -> None:
        # Summing over all commands takes longer than learning a step, and the sums hardly change from step to step.
        if self._clock.now >= self._norms_until:
            strengths = self._strengths(self._recent)
            lengths = [min(len(self._names[command]), LONGEST) for command in strengths]
            self._norms = [
                sum(value * brief[length] for value, length in zip(strengths.values(), lengths, strict=True))
                for brief in (view.briefness() for view in self._mixture.experts)
            ]
            self._norms_until = self._clock.now + 1 + len(self._recent) // 16

    # -- why

    def _why(self, command: int, levels: list[_Level], context: Sequence[Step], cwd: str | None) -> str:
        """Say what speaks most for a command, in words."""
        name = next((level.name for level in levels if command in level.followers.weights), "all")
        if name in self._levels_of_commands:
            return self._after(command, self._last(context), context[-1].command if context else None)
        if name == "skipped":
            return self._after(command, self._last(context, 2), context[-2].command)
        if name == "program":
            return f"often follows `{first_word(context[-1].command)}`" if context else "often comes first"
        if name == "folder":
            folder = self._folder_ids.get(cwd)
            times = sum(1 for place in self._places[command] if self._folders[place] == folder)
            return f"seen {_times(times)} in {cwd}"
        return f"seen {_times(len(self._places[command]))}"

    def _after(self, command: int, last: int, text: str | None) -> str:
        places = [place for place in self._places[command] if self._before[place] == last]
        folders = Counter(self._folders[place] for place in places)
        names = {number: folder for folder, number in self._folder_ids.items()}
        place, count = folders.most_common(1)[0] if folders else (-1, 0)
        where = names.get(place)
        mostly = f", mostly in {where}" if where and 2 * count > len(places) > 1 else ""
        after = f"after `{text}`" if text is not None else "at the beginning of a session"
        return f"seen {_times(len(places))} {after}{mostly}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
