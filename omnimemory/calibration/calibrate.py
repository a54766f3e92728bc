"""Calibrating a model: batches of every size in a child process, what they need learned, the best size remembered.

The best size is the smallest whose speed is within 3 % of the fastest (tokens a processor second, geometric mean over
the lengths of texts): more memory must buy something. What is remembered lies in the one file of what was measured
(``memory.learned``), and every memory made with the model goes by it.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from omnimemory.calibration.sweep import TIME_UP
from omnimemory.config import Settings
from omnimemory.embedding_costs import learned_key
from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.model_choice import choose_embedder
from omnimemory.records import Progress
from omnimemory.scheduler.learned import Key, Learned, Shape
from omnimemory.storage.children import child_environment, python_child

__all__ = ["Calibration", "Point", "calibrate"]

_WORTH = 0.97
_GRACE = 3.0


@dataclass(frozen=True, slots=True)
class Point:
    """A size of batch that was tried: padded ``budget`` (``None``: the model has none), ``texts`` of ``length`` tokens.

    ``speed`` is tokens a processor second, the median of the rounds; ``need`` the bytes that were measured and ``fit``
    what is predicted now.
    """

    budget: int | None
    length: int
    texts: int
    speed: float
    need: int
    fit: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found. ``budget`` is the best one of padded tokens, ``None`` for models that have none.

    ``loading`` is the bytes that loading took; ``skipped`` tells which sizes were not tried, and why.
    """

    model: str
    budget: int | None
    before: int | None
    loading: int
    points: tuple[Point, ...]
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data."""
        return asdict(self)


@dataclass(slots=True)
class _Tried:
    """One size of batch, from round to round."""

    shape: Shape
    need: int
    speeds: list[float] = field(default_factory=list)


def calibrate(
    settings: Settings,
    model: str | None = None,
    *,
    rounds: int = 3,
    seconds: float = 120.0,
    learned: Learned | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Measure a model (the one of the settings if none is named) and remember what it needs and which size is best.

    ``rounds`` of all sizes are run, but no other one begins after so many ``seconds``. ``learned`` is what is already
    open. Raises :class:`ConfigError` for a model that a server runs, :class:`EmbedderError` when nothing could be run.
    """
    asked = settings if model is None else settings.with_values({"embedding.model": model})
    embedder = choose_embedder(asked)
    if embedder.name.partition(":")[0] in ("ollama", "openai"):
        raise ConfigError(f"{embedder.name} is run by a server, which decides about batches: calibrate a local model.")
    key = learned_key(embedder)
    into = learned or Learned(asked.memory.learned)
    found = list(_swept(asked, rounds, seconds, progress))
    loads = [one for one in found if one["kind"] == "loaded"]
    tried = _tried(found)
    if not tried:
        why = next((one["why"] for one in found if one["kind"] == "skipped"), "its process ended early")
        raise EmbedderError(f"{embedder.name} could not be calibrated: {why}")
    for load in loads:
        into.observe(key, Shape(0, 0, load["prior"]), load["before"], load["peak"], load["after"], solo=True)
    for one in tried.values():
        into.observe(key, one.shape, 0, one.need, 0, solo=True)
    budget, before = _best(tried, hurried=any(one.get("why") == TIME_UP for one in found)), into.budget(key)
    if budget is not None:
        into.set_budget(key, budget)
    into.save()
    return Calibration(
        model=embedder.name,
        budget=budget,
        before=before,
        loading=max(load["peak"] - load["before"] for load in loads),
        points=tuple(_point(place, one, into, key) for place, one in tried.items()),
        skipped=tuple(_told(one) for one in found if one["kind"] in ("skipped", "killed")),
    )


_Place = tuple[int | None, int, int]
"""The budget, the length and the number of texts."""


def _tried(found: Sequence[dict[str, Any]]) -> dict[_Place, _Tried]:
    tried: dict[_Place, _Tried] = {}
    for one in found:
        if one["kind"] == "ran":
            place = (one["budget"], one["length"], one["shape"][0])
            if one["turn"] == 0:
                tried[place] = _Tried(Shape(*one["shape"]), one["need"])
            tried[place].speeds.append(one["tokens"] / max(one["cpu"], 1e-6))
    return tried


def _best(tried: dict[_Place, _Tried], *, hurried: bool) -> int | None:
    """Return the smallest budget that is about as fast as the fastest, of those that ran with every length.

    One that was the only one for want of time (``hurried``) is not known to be good.
    """
    lengths = {length for _, length, _ in tried}
    scores: dict[int, float] = {}
    for budget in {budget for budget, _, _ in tried if budget is not None}:
        speeds = [statistics.median(one.speeds) for place, one in tried.items() if place[0] == budget]
        if len(speeds) == len(lengths):
            scores[budget] = math.exp(statistics.fmean(map(math.log, speeds)))
    if hurried and len(scores) < 2:
        return None
    return min((budget for budget, score in scores.items() if score >= _WORTH * max(scores.values())), default=None)


def _point(place: _Place, one: _Tried, learned: Learned, key: Key) -> Point:
    budget, length, _ = place
    fit = learned.predict(key, one.shape)
    return Point(budget, length, one.shape.items, statistics.median(one.speeds), one.need, fit)


def _told(one: dict[str, Any]) -> str:
    if one["kind"] == "killed":
        return f"the process was killed (signal {one['signal']}): larger batches were not tried"
    return f"{one['shape'][0]} texts of {one['length']} tokens, batches of {one['budget'] or 'all'}: {one['why']}"


def _swept(
    settings: Settings, rounds: int, seconds: float, progress: Callable[[Progress], None] | None
) -> Iterator[dict[str, Any]]:
    """Run the child and yield what it says, line by line."""
    environment = child_environment()
    if "MALLOC_ARENA_MAX" not in os.environ:
        environment.pop("MALLOC_ARENA_MAX")  # what it measures must be what other processes need
    values = {key: value for key, value in settings.items() if settings.origin(key) != "default"}
    asked = {"settings": values, "rounds": rounds, "seconds": seconds}
    command = python_child("omnimemory.calibration.sweep")
    with (
        tempfile.TemporaryFile("w+") as complaints,  # a pipe that nobody reads would stop the child
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as child,
    ):
        watch = threading.Timer(_GRACE * seconds + 60, child.kill)
        watch.daemon = True
        watch.start()
        try:
            yield from _said(child, json.dumps(asked, default=str), complaints, progress)
        finally:
            watch.cancel()
            child.kill()


def _said(
    child: subprocess.Popen[str], asked: str, complaints: IO[str], progress: Callable[[Progress], None] | None
) -> Iterator[dict[str, Any]]:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):  # it ended already, and its complaint says why
        child.stdin.write(asked)
        child.stdin.close()
    done, planned = 0, None
    for line in child.stdout:
        found = json.loads(line)
        planned = found.get("batches", planned)
        done += found["kind"] not in ("loaded", "plan")
        if progress is not None:
            progress(Progress("batches", done, planned))
        yield found
    code = child.wait()
    complaints.seek(0)
    complaint = (complaints.read().strip().splitlines() or ["it said nothing"])[-1]
    if code > 0:
        raise EmbedderError(f"The calibration ended with code {code}: {complaint}")
    if code < 0 and not done:
        raise EmbedderError(f"The calibration was killed (signal {-code}) before it measured anything: free memory.")
    if code < 0:
        yield {"kind": "killed", "signal": -code}
