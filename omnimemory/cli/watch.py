"""``status --watch``: memory, models, leases and the last decisions, as they are now, until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from omnimemory.cli.output import format_bytes, format_seconds, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from omnimemory.config import Settings

__all__ = ["snapshot", "watch"]

_DECISIONS = 8


def snapshot(settings: Settings, machine: Any) -> dict[str, Any]:
    """Return what the view shows, as JSON-ready data: ``machine`` looks at the memory. No store is opened."""
    from omnimemory.scheduler.journal import read_journal  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.scheduler.ledger import Ledger  # noqa: PLC0415 - as above
    from omnimemory.scheduler.metrics import metrics  # noqa: PLC0415 - as above
    from omnimemory.scheduler.presence import present  # noqa: PLC0415 - as above

    folder = settings.schedule.folder
    traces = read_journal(folder, tail=256 << 10)
    ledger = Ledger(folder)
    try:
        leases = [{"pid": row.pid, "reserved": row.reserved} for row in ledger.rows() if row.reserved]
    finally:
        ledger.close()
    last = [{**trace.to_dict(), "steps": len(trace.steps)} for trace in traces[-_DECISIONS:]]
    return {**machine.status(), "models": present(folder), "leases": leases, "last": last, "figures": metrics(traces)}


def watch(settings: Settings, seconds: float) -> None:
    """Show it on the terminal, anew every so many seconds."""
    from rich.console import Console  # noqa: PLC0415 - keeps `--help` light
    from rich.live import Live  # noqa: PLC0415 - as above

    from omnimemory.scheduler.machine import Machine  # noqa: PLC0415 - as above

    machine = Machine()
    console = Console(highlight=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_view(snapshot(settings, machine)), refresh=True)
            time.sleep(seconds)


def _view(state: dict[str, Any]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - keeps `--help` light
    from rich.text import Text  # noqa: PLC0415 - as above

    figures = state["figures"]
    ratio = figures["prediction"]
    told = f"{figures['requests']} requests, {figures['texts']:,} texts"
    if ratio["count"]:
        told += f"; needed {ratio['p50']:.2f} of what was predicted (median), {ratio['p95']:.2f} (95 of 100)"
    return Group(
        Text(f"omnimemory  {time.strftime('%H:%M:%S')}  pressure: {state['pressure']['level']}", style="bold"),
        _pools(state["pools"]),
        _table("Models", ("model", "process", "memory", "age", "goes in"), [_model(one) for one in state["models"]]),
        _table(
            "Leases", ("process", "promised"), [(str(x["pid"]), format_bytes(x["reserved"])) for x in state["leases"]]
        ),
        _table(
            "Last decisions", ("id", "model", "texts", "need", "waited", "outcome"), [_last(x) for x in state["last"]]
        ),
        Text(told, style="dim"),
    )


def _pools(pools: Sequence[dict[str, Any]]) -> Table:
    from rich.progress_bar import ProgressBar  # noqa: PLC0415 - keeps `--help` light
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table.grid(padding=(0, 1))
    for pool in pools:
        used = pool["total"] - pool["available"]
        free = f"{format_bytes(pool['available'])} of {format_bytes(pool['total'])} free ({pool['source']})"
        table.add_row(pool["name"], ProgressBar(total=max(1, pool["total"]), completed=used, width=30), free)
    return table


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - keeps `--help` light
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left", header_style="dim")
    for name in columns:
        table.add_column(name)
    for row in rows or [["-"] * len(columns)]:
        table.add_row(*(Text(shorten(cell, 40)) for cell in row))
    return table


def _model(one: dict[str, Any]) -> tuple[str, ...]:
    now = time.time()
    left = None if one["keep_alive"] is None else max(0.0, one["used"] + one["keep_alive"] - now)
    goes = "pinned" if one["pinned"] else "-" if left is None else format_seconds(left)
    age = format_seconds(max(0.0, now - one["loaded"]))
    return one["model"], str(one["pid"]), format_bytes(one["bytes"]), age, goes


def _last(one: dict[str, Any]) -> tuple[str, ...]:
    texts = str(one["items"]) if one["items"] == one["asked"] else f"{one['items']} of {one['asked']}"
    waited = format_seconds(one["waited"]) if one["waited"] >= 0.001 else "-"
    return one["id"], one["model"], texts, format_bytes(one["need"]), waited, one["outcome"]
