"""One line of results, and the table of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.timing import Cost, Spread, ratios

__all__ = ["Row", "at_least", "at_most", "compared", "figures", "print_rows", "shown", "skipped"]

_COLUMNS = ("what", "ours", "limit or peer", "ratio", "target", "ok?")


@dataclass(frozen=True, slots=True)
class Row:
    """What was compared. ``ok`` is ``None`` where there is no target; ``data`` holds what was measured.

    ``by_size`` marks a target that means something at the usual sizes only, not in a quick run.
    """

    benchmark: str
    what: str
    ours: str
    limit: str = ""
    ratio: Spread | None = None
    target: str = ""
    ok: bool | None = None
    cpu_ratio: Spread | None = None
    data: dict[str, Any] | None = None
    by_size: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else shown(self.ratio)
        if self.cpu_ratio is not None:
            ratio += f", CPU {self.cpu_ratio.median:.3g}"
        verdict = {True: "yes", False: "NO", None: ""}[self.ok]
        return (self.what, self.ours, self.limit, ratio, self.target, verdict)


def shown(spread: Spread, unit: str = "") -> str:
    """Return ``median (least-greatest)`` with three digits; a single measurement alone."""
    parts = [
        f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in (spread.median, spread.least, spread.greatest)
    ]
    if spread.least == spread.greatest:
        return f"{parts[0]}{unit}"
    return f"{parts[0]}{unit} ({parts[1]}-{parts[2]})"


def at_least(row: Row, limit: float, value: float) -> Row:
    """Return the row with the target that this value must reach."""
    return replace(row, target=f">= {limit:g}", ok=value >= limit, by_size=True)


def at_most(row: Row, limit: float, value: float) -> Row:
    """Return the row with the target that this value must not exceed."""
    return replace(row, target=f"<= {limit:g}", ok=value <= limit, by_size=True)


def compared(
    benchmark: str, what: str, ours: Sequence[Cost], limit: Sequence[Cost], name: str, *, faster: bool = False
) -> Row:
    """Return the row that compares two lists of costs.

    The ratio is our time by theirs, or, with ``faster``, our speed by theirs.
    """
    walls = [cost.wall for cost in ours], [cost.wall for cost in limit]
    cpus = [cost.cpu for cost in ours], [cost.cpu for cost in limit]
    return Row(
        benchmark,
        what,
        _seconds(ours),
        f"{name}: {_seconds(limit)}",
        ratios(*(walls[::-1] if faster else walls)),
        cpu_ratio=ratios(*(cpus[::-1] if faster else cpus)),
        data={"ours": [asdict(cost) for cost in ours], "limit": [asdict(cost) for cost in limit]},
    )


def figures(
    benchmark: str,
    what: str,
    ours: Sequence[float],
    limit: Sequence[float],
    name: str,
    unit: str,
    *,
    faster: bool = False,
) -> Row:
    """Return the row that compares two lists of figures.

    The ratio is ours by theirs, or, with ``faster``, theirs by ours: for times, how often as fast.
    """
    return Row(
        benchmark,
        what,
        shown(Spread.of(ours), unit),
        f"{name}: {shown(Spread.of(limit), unit)}",
        ratios(limit, ours) if faster else ratios(ours, limit),
        data={"ours": list(ours), "limit": list(limit)},
    )


def _seconds(costs: Sequence[Cost]) -> str:
    wall, cpu = Spread.of([cost.wall for cost in costs]), Spread.of([cost.cpu for cost in costs])
    return f"{shown(wall, ' s')}, CPU {cpu.median:.3g}"


def skipped(benchmark: str, reason: str) -> Row:
    """Return the row of a benchmark that could not run."""
    return Row(benchmark, f"skipped: {reason}", "")


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table to standard output."""
    table = [_COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for number, line in enumerate(table):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if not number:
            print("  ".join("-" * width for width in widths))
