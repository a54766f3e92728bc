"""A history file as the steps of sessions, for evaluation only: nothing is stored."""

from __future__ import annotations

import secrets
from pathlib import Path

from omnimemory.errors import SourceError
from omnimemory.evaluation.next_commands import Observed
from omnimemory.procedure.steps import Step, home_relative
from omnimemory.sources.history import is_deduplicated, read_history

__all__ = ["read_steps"]


def read_steps(path: Path, shell: str | None, session_gap: float) -> list[Observed]:
    """Return the steps of a history file in the order they ran.

    A session is what the history says it is, else what no pause of more than ``session_gap`` seconds interrupts. Raises
    SourceError for a file that is no history, or keeps each command only once.
    """
    reading = read_history(path, shell=shell, key=secrets.token_bytes(32))
    if is_deduplicated(reading.shell) or reading.keeps_each_once:
        raise SourceError(
            f"{path} keeps each command only once ({reading.shell}): it does not tell what followed what."
        )
    events = [entry.event for entry in reading.entries]
    if all(event.timestamp is not None for event in events):
        events.sort(key=lambda event: event.timestamp or 0.0)
    found: list[Observed] = []
    number, last = 0, None
    for event in events:
        if event.session is None and None not in (last, event.timestamp) and event.timestamp - last > session_gap:  # type: ignore[operator] # neither is None
            number += 1
        last = event.timestamp
        ok = None if event.exit_code is None else event.exit_code == 0
        found.append(Observed(event.session or f"#{number}", Step(event.command, home_relative(event.cwd), ok)))
    return found
