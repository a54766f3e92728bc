"""What happened to a request and why, in sentences: for whoever wonders why an ingest was slow, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from omnimemory.scheduler.decision import Decision
from omnimemory.scheduler.placing import replay
from omnimemory.scheduler.reasons import mib_down, mib_up, texts
from omnimemory.scheduler.traces import Trace

__all__ = ["explain"]

_WORDS = {
    "grant": "granted",
    "shrink": "granted in part",
    "evict": "room is made",
    "wait": "it waits",
    "refuse": "refused",
}


def explain(trace: Trace) -> str:
    """Return the whole story of a request: what was asked, what there was, what was decided, what came of it."""
    return "\n".join(_sentences(trace))


def _sentences(trace: Trace) -> Iterator[str]:
    first = trace.steps[0].request
    yield f"Request {trace.id} of process {trace.pid}: {texts(first.items)} with {first.model}."
    learned = f"learned from {first.measured} measurements" if first.measured else "estimated, nothing was measured yet"
    parts = [f"{mib_up(first.per_item)} a text"]
    parts += [f"{mib_up(first.base)} to load the model"] if first.base else []
    parts += [f"{mib_up(first.per_batch)} however few texts"] if first.per_batch else []
    parts += [f"{mib_up(first.growth_per_item)} a text for the index"] if first.growth_per_item else []
    yield f"It needs {', '.join(parts)} ({learned})."
    for step in trace.steps:
        yield from _step(step)
    yield _end(trace)


def _step(step: Decision) -> Iterator[str]:
    waited = f" after {step.turn.waited:.2f} s" if step.turn.waited >= 0.005 else ""
    yield f"{_WORDS[step.action].capitalize()}{waited}: {step.reason.rstrip('.')}."
    readings = [
        f"{reading.source} {'says nothing' if reading.bytes is None else mib_down(reading.bytes)}"
        + (f" ({reading.note})" if reading.note else "")
        for reading in step.available.readings
    ]
    yield f"  memory: {', '.join(readings) or step.available.source}; the least of them counts"
    limits = step.limits
    yield (
        f"  room: {mib_down(step.available.bytes)} available - {mib_up(limits.reserve)} kept in reserve - "
        f"{mib_up(limits.outstanding)} promised to others - {mib_up(limits.held)} held for who waited longer "
        f"= {mib_down(step.room)} at most; one text needs {mib_up(limits.need(step.request, 1))}"
        + (f", times {limits.factor:g} because it was not measured" if limits.factor != 1 else "")
    )
    if step.places:
        rooms = ", ".join(f"{one.pool} {mib_down(one.limits.room(one.available))}" for one in step.places)
        yield f"  pool: {step.pool}; room by pool: {rooms}"
    if limits.pressure != "ok":
        yield f"  pressure: {limits.pressure}"
    yield from (f"  goes: {one.model}, {mib_down(one.bytes)} come back" for one in step.victims)
    yield from (f"  stays: {one.model}, because {one.why}" for one in step.spared)
    same = replace(replay(step), id=step.id, time=step.time) == step
    yield f"  decided again from this record: {'the same' if same else 'otherwise, by the rules of another version'}"


def _end(trace: Trace) -> str:
    end = trace.end
    if end is None:
        return {
            "refused": "Nothing ran.",
            "waiting": "It waits still, or its process was killed while it did.",
        }.get(trace.outcome, "It has not ended: it runs, or its process was killed.")
    told = f"Ended: {end.outcome}, after {end.seconds:.3f} s."
    if end.ratio is not None:
        told += (
            f" It was seen to need {mib_up(end.observed)} where {mib_up(end.predicted)} were expected "
            f"({100 * (end.ratio - 1):+.0f} %)."
        )
    return told
