"""Figures from what was recorded: how often batches were granted, cut down, refused, how long they waited and took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from omnimemory.scheduler.traces import Trace

__all__ = ["metrics", "percentiles"]


def metrics(traces: Sequence[Trace], counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the figures of some requests as JSON-ready data; times are seconds.

    ``windowed`` texts were read in several parts, ``truncated`` ones not to their end. ``prediction`` is observed by
    predicted bytes, where that was 16 MiB or more: above 1 more was needed than expected. ``since`` is when the first
    of the requests was decided (seconds since the epoch). ``counts`` is what happened beside requests: models that
    went, by reason, came back too soon (``thrashed``) or were loaded ahead, and leases of processes that had died.
    """
    beside = counts or {}
    ends = [trace.end for trace in traces if trace.end is not None]
    return {
        "requests": len(traces),
        "since": min((trace.steps[0].time for trace in traces), default=None),
        "actions": dict(Counter(trace.last.action for trace in traces)),
        "outcomes": dict(Counter(trace.outcome for trace in traces)),
        "loads": sum(1 for trace in traces if trace.last.runs and trace.last.request.base),
        "evicted": sum(len(step.victims) for trace in traces for step in trace.steps),
        "unloaded": _of(beside, "unloaded:"),
        "thrashed": beside.get("thrashed", 0),
        "ahead": _of(beside, "ahead:"),
        "dead_purged": beside.get("dead_purged", 0),
        "pressed": dict(Counter(trace.last.limits.pressure for trace in traces)),
        "texts": sum(trace.last.items for trace in traces if trace.outcome == "done"),
        "windowed": sum(end.windowed for end in ends),
        "truncated": sum(end.truncated for end in ends),
        "waited": percentiles([trace.last.turn.waited for trace in traces if len(trace.steps) > 1]),
        "seconds": percentiles([end.seconds for end in ends if end.outcome == "done"]),
        "prediction": percentiles([end.ratio for end in ends if end.ratio is not None]),
    }


def _of(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {name.removeprefix(kind): count for name, count in sorted(counts.items()) if name.startswith(kind)}


def percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return how many values there are, the median, and what 95 and 99 of 100 are not above."""
    ordered = sorted(values)

    def at(share: float) -> float | None:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99)}
