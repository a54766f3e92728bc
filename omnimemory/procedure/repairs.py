"""What helped after a command had failed, from exit codes.

Two ways of repair are told apart: the same command worked later in its session, then what was run in between may have
helped (or nothing, then running it again did); or something like it was run next, and worked: a slip of the pen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from omnimemory.procedure.records import Repair
from omnimemory.procedure.steps import first_word
from omnimemory.procedure.timeline import Run

__all__ = ["last_failure", "repairs"]

_REACH = 10
_NEXT = 2
_ALIKE = 0.6


@dataclass(slots=True)
class _Seen:
    times: int = 0
    last: Run | None = None
    failed: set[str] = field(default_factory=set)


def last_failure(sessions: Sequence[Sequence[Run]]) -> str | None:
    """Return the command that failed last, ``None`` if none did."""
    failed = [run for session in sessions for run in session if run.ok is False]
    return max(failed, key=lambda run: run.at or 0.0).command if failed else None


def repairs(sessions: Sequence[Sequence[Run]], command: str, k: int) -> list[Repair]:
    """Return the k things that helped most often after ``command`` had failed, best first.

    If it never failed before, those that helped after the same program with other arguments had.
    """
    exact = _found(sessions, lambda run: run.command == command)
    found = exact or _found(sessions, lambda run: first_word(run.command) == first_word(command))
    ranked = sorted(
        found.items(), key=lambda pair: (-pair[1].times, -(pair[1].last.at or 0.0) if pair[1].last else 0.0)
    )
    return [_told(kind, commands, seen) for (kind, commands), seen in ranked[:k]]


def _found(sessions: Sequence[Sequence[Run]], is_it: Callable[[Run], bool]) -> dict[tuple[str, tuple[str, ...]], _Seen]:
    found: dict[tuple[str, tuple[str, ...]], _Seen] = {}
    for session in sessions:
        for place, run in enumerate(session):
            if run.ok is False and is_it(run):
                for kind, commands, last in _after(session, place):
                    seen = found.setdefault((kind, commands), _Seen())
                    seen.times += 1
                    seen.last = last
                    seen.failed.add(run.command)
    return found


def _after(session: Sequence[Run], place: int) -> Iterator[tuple[str, tuple[str, ...], Run]]:
    failed = session[place].command
    between: list[str] = []
    for run in session[place + 1 : place + 1 + _REACH]:
        if run.command == failed:
            if run.ok:
                yield "then", tuple(between), run
            if run.ok is not None:
                return  # it failed again: what helps comes after that one
        elif run.ok is not False and run.command not in between:
            between.append(run.command)
    for run in session[place + 1 : place + 1 + _NEXT]:
        if run.ok and run.command != failed and SequenceMatcher(None, failed, run.command).ratio() >= _ALIKE:
            yield "instead", (run.command,), run
            return


def _told(kind: str, commands: tuple[str, ...], seen: _Seen) -> Repair:
    failed = min(seen.failed)
    times = "once" if seen.times == 1 else f"{seen.times} times"
    if kind == "instead":
        why = f"worked {times} instead of `{failed}`"
    elif commands:
        why = f"`{failed}` worked {times} after this"
    else:
        why = f"`{failed}` worked {times} when it was run again"
    last = seen.last
    return Repair(commands or (failed,), seen.times, why, last.at if last else None, last.cwd if last else None)
