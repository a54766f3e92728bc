"""What became of a request: the decisions about it in their order, and how it ended; as lines of JSON and back.

A request is decided once, or again and again while it waits; only the first wait, every eviction and the last decision
are kept. A line holds one decision with all that went into it, or one end, under the id of the request. There is no
text of the user in it: a batch is a number of texts and bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from omnimemory.scheduler.decision import Decision, Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Limits, Place
from omnimemory.scheduler.probe import Available, Reading
from omnimemory.scheduler.victims import Resident, Spared, Victim

__all__ = ["End", "Trace", "counts_of", "line_of_counts", "line_of_decision", "line_of_end", "traces_of"]

_VERSION = 1
_TELLING = 16 << 20
_COUNTS = b'{"v":1,"counts":'


class End(NamedTuple):
    """How a batch ended: ``done``, ``failed``, ``cancelled`` or ``out of memory``, after so many seconds.

    ``observed`` bytes were seen to be needed, where ``predicted`` were expected; 0 where nothing was measured.
    ``windowed`` texts were longer than the model reads at once and were read in parts, ``truncated`` ones were cut off.
    """

    outcome: str
    seconds: float
    observed: int = 0
    predicted: int = 0
    time: float = 0.0
    windowed: int = 0
    truncated: int = 0

    @property
    def ratio(self) -> float | None:
        """Observed by predicted bytes; ``None`` where nothing was measured, or too little to be the batch's own.

        What a process allocates at its first batch beside a text of some kilobytes is hundreds of times those.
        """
        told = self.observed and self.predicted and max(self.observed, self.predicted) >= _TELLING
        return self.observed / self.predicted if told else None


@dataclass(slots=True)
class Trace:
    """One request of the process ``pid``. Without an ``end`` it runs still, was refused, or the process was killed."""

    id: str
    pid: int
    steps: list[Decision] = field(default_factory=list)
    end: End | None = None

    @property
    def last(self) -> Decision:
        """The last decision, which counts."""
        return self.steps[-1]

    @property
    def outcome(self) -> str:
        """How it ended, in one word or two."""
        if self.end is not None:
            return self.end.outcome
        return {"refuse": "refused", "wait": "waiting", "evict": "waiting"}.get(self.last.action, "running")

    def to_dict(self) -> dict[str, Any]:
        """Return it in short, as JSON-ready data; the steps are the whole decisions."""
        last, end = self.last, self.end
        return {
            "id": self.id,
            "time": last.time,
            "pid": self.pid,
            "model": last.request.model,
            "asked": last.request.items,
            "action": last.action,
            "items": last.items,
            "need": last.need,
            "room": last.room,
            "waited": last.turn.waited,
            "victims": [victim.model for step in self.steps for victim in step.victims],
            "outcome": self.outcome,
            "seconds": None if end is None else end.seconds,
            "observed": None if end is None else end.observed or None,
            "predicted": None if end is None else end.predicted or None,
            "reason": last.reason,
            "steps": [step.to_dict() for step in self.steps],
        }


def line_of_decision(decision: Decision, pid: int) -> str:
    """Return a decision as a line of JSON."""
    return json.dumps({"v": _VERSION, "pid": pid, "decision": decision}, default=_fields, separators=(",", ":"))


def line_of_end(name: str, end: End) -> str:
    """Return the end of a request as a line of JSON."""
    return json.dumps({"v": _VERSION, "id": name, "end": end._asdict()}, separators=(",", ":"))


def line_of_counts(counts: Mapping[str, int]) -> str:
    """Return what happened beside requests since this was last told, such as ``unloaded:idle``, as a line of JSON."""
    return json.dumps({"v": _VERSION, "counts": counts}, separators=(",", ":"))


def counts_of(lines: Iterable[bytes]) -> Counter[str]:
    """Return how often what happened beside requests; damaged lines are left out."""
    found: Counter[str] = Counter()
    for line in lines:
        if not line.startswith(_COUNTS):
            continue
        try:
            found.update({str(name): int(count) for name, count in json.loads(line)["counts"].items()})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return found


def traces_of(lines: Iterable[str | bytes]) -> list[Trace]:
    """Return the requests that the lines are of, in the order they were first decided; damaged lines are left out."""
    found: dict[str, Trace] = {}
    for line in lines:
        try:
            _add(found, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # cut off by a full disk or a kill, or written by another version
    return list(found.values())


def _add(found: dict[str, Trace], entry: Mapping[str, Any]) -> None:
    if entry["v"] != _VERSION:
        return
    if "end" in entry:
        trace = found.get(entry["id"])
        if trace is not None:  # else its decision has been rotated away
            trace.end = End(**entry["end"])
        return
    decision = _decision(entry["decision"])
    found.setdefault(decision.id, Trace(decision.id, int(entry["pid"]))).steps.append(decision)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _decision(told: Mapping[str, Any]) -> Decision:
    parts = {
        "available": _available(told["available"]),
        "request": Request(**{**told["request"], "pools": tuple(told["request"].get("pools", ("ram",)))}),
        "limits": Limits(**told["limits"]),
        "places": tuple(_place(one) for one in told.get("places", ())),
        "turn": Turn(**told["turn"]),
        "residents": tuple(Resident(**one) for one in told["residents"]),
        "victims": tuple(Victim(**one) for one in told["victims"]),
        "spared": tuple(Spared(**one) for one in told["spared"]),
        "drain": tuple(told["drain"]),
    }
    return Decision(**{**told, **parts})


def _place(told: Mapping[str, Any]) -> Place:
    parts = {"available": _available(told["available"]), "limits": Limits(**told["limits"])}
    return Place(**{**told, **parts})


def _available(told: Mapping[str, Any]) -> Available:
    return Available(**{**told, "readings": tuple(Reading(**one) for one in told["readings"])})
