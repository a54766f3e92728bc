"""What comes next: counts of what followed, from the longest context to none.

Witten-Bell interpolation (Witten & Bell, IEEE Trans. Inf. Theory 37(4), 1991) over: the three and the two commands
before, the one before (and whether it worked), its program, the one before that (when the last one is new there, so
that a foreign command does not end a routine), the folder; under all of it lies how often, how lately and how short.
Counts fade with a half-life in steps. What usually runs in other folders is then less likely, and what never ran has
the part that it had so far. After a command of which nothing is known, what followed contexts like this one counts as
well.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice

from omnimemory.procedure.experts import LONGEST, Mixture, Novelty, strength
from omnimemory.procedure.folders import Folders
from omnimemory.procedure.followers import Clock, Followers, FollowerTable
from omnimemory.procedure.levels import Level, add_counts, parts_of
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
_KNOWN = 0.9
"""Mass of the base. It weighs it against what followed; how much is left for commands never seen is told by how many of
them there were."""
_START = -1
CONTEXT = 3
"""Commands looked back at: of 1 to 4 it was best, though 2 and 4 are within its interval (README)."""
_LONG = {2: "two", 3: "three", 4: "four"}


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
        self._tables = {name: FollowerTable() for name in (*self._levels_of_commands, "program")}
        self._in_folders = Folders()
        self._all = Followers()
        self._novelty = Novelty()
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
        weight = self._clock.weight
        if context is not None:
            self._novelty.add(step.command not in self._ids, weight)
        command = self._number(step.command)
        if context is not None:
            if command in self._recent and (self._clock.now < _SETTLED or self._clock.now % _SELDOM == 0):
                levels = list(self._levels(context, step.cwd))
                self._mixture.update(lambda expert: self._said(expert, levels, command))
            for name, key in self._keys(context):
                self._tables[name].add(key, command, weight)
            if self._likeness is not None:
                self._likeness.learn([before.command for before in context], command)
        if step.cwd is not None:
            self._in_folders.add(step.cwd, command, weight)
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

    def _keys(self, context: Sequence[Step]) -> Iterator[tuple[str, Hashable]]:
        last = self._last(context)
        failed = bool(context) and context[-1].ok is False  # what mends it is no routine
        for length, name in self._long:
            yield name, (failed, *(self._last(context, back) for back in range(length, 0, -1)))
        if context and context[-1].ok is not None:
            yield "outcome", (last, context[-1].ok)
        yield "one", last
        yield "program", first_word(context[-1].command) if context else ""

    # -- predicting

    def predict(self, context: Sequence[Step], cwd: str | None = None, k: int = 5) -> list[Prediction]:
        """Return the k likeliest commands, best first. Their probabilities sum to at most 1."""
        if not self._names or k <= 0:
            return []
        levels = list(self._levels(context, cwd))
        strengths = self._strengths(self._candidates(levels))
        probabilities, known, unseen = self._mixed(levels, strengths)
        if cwd is not None:
            self._in_folders.weigh(probabilities, cwd, 1.0 / self._clock.weight)
        alike, believed = self._alike(levels, context)
        # The norms of the base may be a few steps old.
        scale = (1.0 - believed) / (max(known, sum(probabilities.values())) + unseen)
        for command in probabilities:
            probabilities[command] *= scale
        why = {}
        for command, likely in alike.items():
            part = believed * likely.share * known / (known + unseen)
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

    def _alike(self, levels: list[Level], context: Sequence[Step]) -> tuple[dict[int, Likely], float]:
        """Return what followed contexts like this one, if nobody knows what follows its last command."""
        if self._likeness is None or not context or any(level.name == "one" for level in levels):
            return {}, 0.0
        return self._likeness.following([step.command for step in context])

    def _levels(self, context: Sequence[Step], cwd: str | None) -> Iterator[Level]:
        """Yield what is known of this context, the longest first."""
        known = dict(self._keys(context))
        new = True
        for name in (*self._levels_of_commands, "program"):
            found = self._tables[name].get(known[name]) if name in known else None
            if found is not None:
                new &= name in ("outcome", "one", "program")
                yield Level(name, found)
        if new and self._long and len(context) > 1:
            skipped = self._tables["one"].get(self._last(context, 2))
            if skipped is not None:
                yield Level("skipped", skipped, _SKIP_TYPES)
        here = None if cwd is None else self._in_folders.get(cwd)
        if here is not None:
            yield Level("folder", here)

    def _candidates(self, levels: list[Level]) -> list[int]:
        found = dict.fromkeys(islice(reversed(self._recent), _RECENT))
        for followers in (*(level.followers for level in levels), self._all):
            found.update(dict.fromkeys(followers.likely(_LIKELY)))
        return list(found)

    def _strengths(self, candidates: Iterable[int]) -> dict[int, float]:
        """Return what speaks for each candidate in no context, however long it is."""
        scale, now, counts, recent = 1.0 / self._clock.weight, self._clock.now, self._all.weights, self._recent
        return {command: strength(counts[command] * scale, now - recent[command]) for command in candidates}

    def _said(self, expert: int, levels: list[Level], command: int) -> float:
        """Return what one expert gives to one command."""
        view = self._mixture.experts[expert]
        parts, left = parts_of(levels, 1.0 / self._clock.weight, view.types)
        brief = left * self._norm(expert) * view.briefness()[self._length(command)]
        found = {command: brief * self._strengths([command])[command]}
        add_counts(found, levels, parts)
        return found[command]

    def _mixed(self, levels: list[Level], strengths: dict[int, float]) -> tuple[dict[int, float], float, float]:
        """Return what all experts give to the candidates, their sum over all commands, and what is left for new ones.

        The last is in proportion to the others, above their sum.
        """
        parts, base = [0.0] * len(levels), [0.0] * (LONGEST + 1)
        left = 0.0
        for expert, weight in enumerate(self._mixture.weights):
            view = self._mixture.experts[expert]
            mine, passed = parts_of(levels, 1.0 / self._clock.weight, view.types)
            parts = [part + weight * own for part, own in zip(parts, mine, strict=True)]
            norm = weight * passed * self._norm(expert)
            base = [one + norm * own for one, own in zip(base, view.briefness(), strict=True)]
            left += weight * passed
        probabilities = {command: value * base[self._length(command)] for command, value in strengths.items()}
        add_counts(probabilities, levels, parts)
        return probabilities, 1.0 - left * (1.0 - _KNOWN), left * _KNOWN * self._novelty.odds(self._clock.weight)

    def _length(self, command: int) -> int:
        return min(len(self._names[command]), LONGEST)

    def _norm(self, expert: int) -> float:
        """Return what makes an expert's strengths in no context, over all commands, sum to what is known."""
        self._renew_norms()
        return _KNOWN / self._norms[expert]

    def _renew_norms(self) -> None:
        # Summing over all commands takes longer than learning a step, and the sums hardly change from step to step.
        if self._clock.now >= self._norms_until:
            strengths = self._strengths(self._recent)
            lengths = [self._length(command) for command in strengths]
            self._norms = [
                sum(value * brief[length] for value, length in zip(strengths.values(), lengths, strict=True))
                for brief in (view.briefness() for view in self._mixture.experts)
            ]
            self._norms_until = self._clock.now + 1 + len(self._recent) // 16

    # -- why

    def _why(self, command: int, levels: list[Level], context: Sequence[Step], cwd: str | None) -> str:
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
