"""How far a long run is: one line on standard error, and only when that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from omnimemory.cli.output import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from omnimemory.records import Progress

__all__ = ["progress_on_terminal"]


@contextmanager
def progress_on_terminal() -> Iterator[Callable[[Progress], None] | None]:
    """Give what :meth:`Memory.ingest` calls with its progress, or ``None`` where nobody would see it."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed on terminals only
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - as above

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        yield _Stages(bars)


class _Stages:
    """One bar per stage of a run, with its rate."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, int] = {}
        self._began: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        stage = progress.stage
        if stage not in self._tasks:
            self._began[stage] = time.monotonic()
            self._tasks[stage] = self._bars.add_task(visible(stage, multiline=False), total=None, rate="", note="")
        seconds = time.monotonic() - self._began[stage]
        rate = f"{progress.done / seconds:,.0f}/s" if seconds > 0.2 else ""
        text = visible(progress.note, multiline=False)
        text = text if len(text) <= 40 else f"…{text[-39:]}"
        self._bars.update(
            self._tasks[stage],  # type: ignore[arg-type]  # rich's TaskID is an int
            completed=progress.done,
            total=progress.total,
            rate=rate,
            note=text,
        )
