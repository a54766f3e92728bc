"""Routines: recurring sequences of steps, named by what they do, with how often and how well they went."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from math import log, prod

import numpy as np

from omnimemory.procedure.mining import Frequent, mine
from omnimemory.procedure.records import Workflow
from omnimemory.procedure.templates import shape, short_name
from omnimemory.procedure.timeline import Run

__all__ = ["as_alias", "as_script", "find_workflows"]

_LOOKING = frozenset({"ls", "pwd", "clear", "history", "exit", "ll", "la"})
"""Programs that say nothing about a routine."""
_LEAST, _SHARE = 3, 1 / 2000
_GAP = 2
_LEAST_LIFT = 0.01


def find_workflows(sessions: Sequence[Sequence[Run]], k: int, support: int | None) -> list[Workflow]:
    """Return the k routines that explain most of what was run, best first.

    ``support`` is how often one has to occur: 3, or a two-thousandth of all runs, when not given.
    """
    numbers: dict[str, int] = {}
    kept = [[run for run in session if short_name(shape(run.command)) not in _LOOKING] for session in sessions]
    steps = [[numbers.setdefault(shape(run.command), len(numbers)) for run in session] for session in kept]
    least = support or max(_LEAST, int(sum(map(len, steps)) * _SHARE))
    names = list(numbers)
    counts = Counter(step for session in steps for step in session)
    found = sorted(mine(steps, support=least, gap=_GAP), key=lambda one: (-_weight(one, counts), one.steps))
    return [_told(one, names, steps, kept) for one in _unlike(found, steps, k)]


def _unlike(found: Sequence[Frequent], steps: Sequence[Sequence[int]], k: int) -> list[Frequent]:
    """Return the first k that are no variants of an earlier one: most of what they explain is not explained yet."""
    explained = [np.zeros(len(session), dtype=bool) for session in steps]
    chosen: list[Frequent] = []
    for one in found:
        if len(chosen) == k:
            break
        old = sum(int(explained[number][start : end + 1].sum()) for number, start, end in one.places)
        if 2 * old < sum(end + 1 - start for _, start, end in one.places):
            chosen.append(one)
            for number, start, end in one.places:
                explained[number][start : end + 1] = True
    return chosen


def _weight(one: Frequent, counts: Counter[int]) -> float:
    """Return what a routine explains: steps saved, times how much more often they meet than by chance."""
    total = counts.total()
    expected = total * prod(counts[step] / total for step in one.steps) * (_GAP + 1) ** (len(one.steps) - 1)
    return one.support * (len(one.steps) - 1) * max(log(one.support / expected), _LEAST_LIFT)


def _told(
    one: Frequent, names: Sequence[str], steps: Sequence[Sequence[int]], sessions: Sequence[Sequence[Run]]
) -> Workflow:
    runs = [[sessions[number][at] for at in _matched(one.steps, steps[number], end)] for number, _, end in one.places]
    failed = sum(1 for run in runs if any(step.ok is False for step in run))
    worked = sum(1 for run in runs if any(step.ok for step in run) and all(step.ok is not False for step in run))
    latest = max(runs, key=lambda run: (not any(step.ok is False for step in run), run[-1].at or 0.0))
    last = max(runs, key=lambda run: run[-1].at or 0.0)[-1]
    templates = tuple(names[step] for step in one.steps)
    return Workflow(
        name=" > ".join(short_name(template) for template in templates),
        steps=templates,
        commands=tuple(step.command for step in latest),
        support=one.support,
        worked=worked,
        failed=failed,
        timestamp=last.at,
        cwd=last.cwd,
    )


def _matched(steps: Sequence[int], sequence: Sequence[int], end: int) -> list[int]:
    """Return where the steps stand, the last one at ``end`` and each other as late as can be."""
    places: list[int] = []
    at = end
    for step in reversed(steps):
        while sequence[at] != step:
            at -= 1
        places.append(at)
        at -= 1
    return places[::-1]


def as_script(workflow: Workflow) -> str:
    """Return a routine as a shell script: the commands of its latest good run, which stops at the first that fails."""
    lines = ["#!/bin/sh", f"# {workflow.name}: seen {workflow.support} times. Look at it before you run it.", "set -e"]
    for template, command in zip(workflow.steps, workflow.commands, strict=True):
        lines.append(f"# {template}")
        # A secret was taken out of it, so it cannot run as it stands.
        lines.append("\n".join(f"# {line}" for line in command.split("\n")) if "[REDACTED:" in command else command)
    return "\n".join(lines) + "\n"


def as_alias(workflow: Workflow) -> str:
    """Return a routine as one line that defines an alias."""
    name = re.sub(r"[^a-z0-9]+", "-", workflow.name.lower()).strip("-")[:40].strip("-") or "routine"
    joined = " && ".join(f"{{ {command}\n}}" if "\n" in command else command for command in workflow.commands)
    return f"alias {name}={shlex.quote(joined)}\n"
