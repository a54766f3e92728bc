"""What the status counts, what the live view shows, and what pressure does to batches."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from store_cases import wait_until

from omnimemory.cli import cli
from omnimemory.memory import Memory
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.limits import Limits
from omnimemory.scheduler.metrics import metrics, percentiles
from omnimemory.scheduler.policy import decide
from omnimemory.scheduler.presence import present
from omnimemory.scheduler.pressed import PressureWatch
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.scheduler.traces import End

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("values", "p50", "p95", "p99"),
    [([], None, None, None), ([3], 3, 3, 3), ([2, 1], 1, 2, 2), (range(1, 101), 50, 95, 99)],
    ids=["none", "one", "two", "hundred"],
)
def test_percentiles_are_values_that_so_many_are_not_above(values, p50, p95, p99):
    assert percentiles(list(values)) == {"count": len(values), "p50": p50, "p95": p95, "p99": p99}


def test_the_figures_are_those_of_what_was_recorded(tmp_path):
    of = Scheduler(reserve=0, probe=lambda: Available(1000, "fake", 1000), journal=Journal(tmp_path))
    mib = 1 << 20
    for items, observed, predicted in ((4, 300 * mib, 600 * mib), (40, 0, 600 * mib), (2, 24 * mib, 16 * mib)):
        with of.lease(Request("m", items, 0, 100)) as lease:
            lease.observed, lease.predicted = observed, predicted
    with pytest.raises(ZeroDivisionError), of.lease(Request("m", 1, 50, 100)):
        raise ZeroDivisionError
    with of.lease(Request("m", 1, 0, 900)), pytest.raises(Exception, match="memory"), of.lease(Request("m", 1, 0, 500)):
        pytest.fail("there are 100 bytes")
    found = metrics(Journal(tmp_path).traces())
    assert found["actions"] == {"grant": 4, "shrink": 1, "refuse": 1}
    assert found["outcomes"] == {"done": 4, "failed": 1, "refused": 1}
    assert (found["requests"], found["loads"], found["texts"], found["evicted"]) == (6, 1, 4 + 10 + 2 + 1, 0)
    assert found["prediction"] == {"count": 2, "p50": 0.5, "p95": 1.5, "p99": 1.5}
    assert found["seconds"]["count"] == 4
    assert End("done", 0.1, observed=9 * mib, predicted=24 << 10).ratio is None  # a process begins, with a short text


def test_the_status_of_a_memory_counts_its_batches_and_answers(settings):
    with Memory(settings=settings) as memory:
        memory.add(["one note", "another note"])
        for _ in range(3):
            memory.search("note")
        status = json.loads(json.dumps(memory.status()))
    assert status["decisions"]["outcomes"]["done"] >= 2
    assert status["decisions"]["texts"] >= 3
    assert (status["answers"]["count"], status["answers"]["degraded"]) == (3, 0)
    assert 0 < status["answers"]["p50"] <= status["answers"]["p99"]


@pytest.mark.parametrize(("level", "items"), [("ok", 64), ("elevated", 64), ("high", 32), ("critical", 8)])
def test_under_pressure_a_part_of_a_batch_runs_and_says_why(level, items):
    made = decide(Available(10_000, "fake", 10_000), Request("m", 64, 0, 100), Limits(0, pressure=level))
    assert made.items == items
    assert (level in made.reason) == (items != 64)
    one = decide(Available(10_000, "fake", 10_000), Request("m", 1, 0, 100), Limits(0, pressure=level))
    assert (one.action, one.items) == ("grant", 1)
    tight = decide(Available(1000, "fake", 10_000), Request("m", 64, 0, 100), Limits(0, pressure=level))
    assert tight.items == 8


class Pressed(PressureWatch):
    """Says what it is told."""

    level = "ok"

    def __call__(self):
        return self.level


def test_the_scheduler_asks_how_memory_is_pressed_and_records_it():
    watch = Pressed()
    of = Scheduler(reserve=0, probe=lambda: Available(10_000, "fake", 10_000), pressure=watch)
    for level, items in (("ok", 16), ("high", 8), ("ok", 16)):
        watch.level = level
        with of.lease(Request("m", 16, 0, 100)) as lease:
            assert lease.items == items
    assert [decision.limits.pressure for decision in of.log()] == ["ok", "high", "ok"]
    assert metrics(of.traces())["pressed"] == {"ok": 2, "high": 1}


def test_real_pressure_is_read_at_most_once_a_second():
    watch = PressureWatch()
    assert watch() in ("ok", "elevated", "high", "critical")
    gauge = watch._gauge
    began = time.monotonic()
    watch._next = began + 1000
    watch._level = "high"
    assert watch() == "high"
    watch._next = 0.0
    watch()
    assert watch._gauge is gauge


HOLDER = """
import sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory

root = Path(sys.argv[1])
values = {"store.path": root / "store", "cache.path": root / "cache", "schedule.folder": root / "state"}
with Memory(settings=Settings().with_values({**values, "index.enabled": False})) as memory:
    memory.add("a note")
    print("there", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "there\n"
    yield child
    child.kill()
    child.communicate(timeout=30)


def test_the_models_of_other_processes_are_seen_and_gone_with_them(tmp_path, holder):
    folder = tmp_path / "state"
    assert wait_until(lambda: present(folder), 30)
    (one,) = present(folder)
    assert (one["pid"], one["model"]) == (holder.pid, "static:wordllama-256")
    assert one["bytes"] > 1 << 20
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert present(folder) == []
    assert not list(folder.glob("models-*"))


def test_a_process_that_ends_well_leaves_no_file_of_its_models(tmp_path, holder):
    assert wait_until(lambda: present(tmp_path / "state"), 30)
    holder.communicate("end\n", timeout=60)
    assert not list((tmp_path / "state").glob("models-*"))


def test_the_live_view_is_one_line_of_json_without_a_terminal(tmp_path, holder, monkeypatch):
    assert wait_until(lambda: present(tmp_path / "state"), 30)
    monkeypatch.setenv("OMNIMEMORY_SCHEDULE_FOLDER", str(tmp_path / "state"))
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "none"))
    done = CliRunner().invoke(cli, ["status", "--watch"])
    assert done.exit_code == 0, done.output
    seen = json.loads(done.stdout)
    assert seen["pools"][0]["name"] == "ram"
    assert seen["pressure"]["level"] in ("ok", "elevated", "high", "critical")
    assert [one["pid"] for one in seen["models"]] == [holder.pid]
    assert seen["last"][-1]["outcome"] == "done"
    assert not (tmp_path / "none").exists()


def test_the_live_view_on_a_terminal_shows_it_until_it_is_interrupted(tmp_path, holder):
    assert wait_until(lambda: present(tmp_path / "state"), 30)
    ours, its = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "omnimemory", "status", "--watch", "--every", "0.2"],
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=ROOT,
        env={**os.environ, "OMNIMEMORY_SCHEDULE_FOLDER": str(tmp_path / "state"), "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(its)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (b"static:wordllama-256" in shown and b"Last decisions" in shown):
        shown += os.read(ours, 65536)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    os.close(ours)
    for part in (b"pressure:", b"ram", b"Models", b"Leases", b"Last decisions", b"free"):
        assert part in shown, part
