"""Every decision is recorded with what it was made from; the record gives the same decision, and holds no text."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from omnimemory.errors import ConfigError, MemoryBudgetError
from omnimemory.memory import Memory
from omnimemory.scheduler.decision import Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal, read_journal
from omnimemory.scheduler.limits import Limits
from omnimemory.scheduler.out_of_memory import RanOutError
from omnimemory.scheduler.placing import replay
from omnimemory.scheduler.policy import decide
from omnimemory.scheduler.probe import Available, Reading
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.scheduler.traces import line_of_decision, traces_of
from omnimemory.scheduler.victims import Resident

ROOT = Path(__file__).resolve().parents[1]


def scheduler(folder, room=1000, **kwargs):
    reading = Reading("fake", room, "of a test", room)
    return Scheduler(
        reserve=0, probe=lambda: Available(room, "fake", room, (reading,)), journal=Journal(folder), **kwargs
    )


def run(of, items, per_item=100, error=None):
    with of.lease(Request("m", items, 0, per_item)) as lease:
        if error is not None:
            raise error
        return lease


def random_decision(dice):
    size = dice.randrange(1, 2000)
    residents = tuple(
        Resident(
            f"m{n}",
            dice.randrange(600),
            leases=dice.randrange(2),
            pinned=dice.random() < 0.2,
            since=dice.uniform(0, 50),
            used=dice.uniform(0, 99),
            expires=dice.choice([None, dice.uniform(0, 200)]),
            load_seconds=dice.uniform(0, 9),
            rate=dice.random(),
        )
        for n in range(dice.randrange(4))
    )
    limits = Limits(
        dice.randrange(300), dice.choice([None, size]), dice.randrange(200), max_loaded=dice.choice([None, 1, 2])
    )
    request = Request(f"m{dice.randrange(5)}", dice.randrange(1, 99), dice.choice([0, 300]), dice.randrange(1, 300))
    turn = Turn(100.0, dice.uniform(0, 12), dice.uniform(0, 12))
    made = decide(Available(size, "fake", 2000, (Reading("fake", size, "x", 2000),)), request, limits, residents, turn)
    return replace(made, id=f"{dice.getrandbits(32):08x}-1", time=dice.uniform(0, 1e9))


def test_what_is_recorded_comes_back_as_it_was_and_decides_the_same():
    dice = random.Random(5)
    made = [random_decision(dice) for _ in range(500)]
    found = [trace.last for trace in traces_of(line_of_decision(decision, 7) for decision in made)]
    assert found == made
    assert {decision.action for decision in found} == {"grant", "shrink", "evict", "wait", "refuse"}
    for decision in found:
        assert replace(replay(decision), id=decision.id, time=decision.time) == decision


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "done"),
        (ValueError(), "failed"),
        (RanOutError("m", 1), "out of memory"),
        (CancelledError(), "failed"),
        (KeyboardInterrupt(), "cancelled"),
    ],
    ids=["well", "error", "memory", "cancelled-future", "interrupt"],
)
def test_the_end_of_a_batch_is_recorded(tmp_path, error, outcome):
    of = scheduler(tmp_path)
    try:
        run(of, 2, error=error)
    except BaseException as raised:  # noqa: BLE001 - an interrupt is among them
        assert raised is error  # noqa: PT017 - as above
    (trace,) = read_journal(tmp_path)
    assert (trace.outcome, trace.pid, trace.last.items) == (outcome, os.getpid(), 2)
    assert trace.end == of.traces()[0].end


def test_a_request_that_waits_is_recorded_once_when_it_begins_to_and_once_when_it_is_decided(tmp_path):
    of = scheduler(tmp_path)
    with of.lease(Request("m", 1, 0, 800)):
        with pytest.raises(MemoryBudgetError), of.lease(Request("m", 1, 0, 300), patience=0.2):
            pytest.fail("there are 200 bytes")
        held, refused = read_journal(tmp_path)
        assert (held.outcome, refused.outcome) == ("running", "refused")
    assert [step.action for step in refused.steps] == ["wait", "refuse"]
    assert refused.last.turn.waited >= 0.2
    assert [decision.action for decision in of.log()] == ["grant", "refuse"]


KILLED = """
import sys, os
from pathlib import Path
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.scheduler import Scheduler

with Scheduler(reserve=0, journal=Journal(Path(sys.argv[1]))).lease(Request("m", 3, 0, 100)):
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_was_doing_is_in_the_file(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -9
    (trace,) = read_journal(tmp_path)
    assert (trace.outcome, trace.last.items) == ("running", 3)
    told = scheduler(tmp_path).explain(trace.id)
    assert "its process was killed" in told
    assert told.endswith("killed.")


def test_an_explanation_tells_what_was_asked_what_there_was_and_what_came_of_it(tmp_path):
    of = scheduler(tmp_path)
    lease = run(of, 40)
    told = of.explain(lease.decision.id)
    for part in ("40 texts with m", "Granted in part", "fake", "(of a test)", "the same", "Ended: done", "estimated"):
        assert part in told, part
    with pytest.raises(ConfigError, match="no decision 'nothing'"):
        of.explain("nothing")


def test_damaged_lines_cost_only_themselves(tmp_path):
    of = scheduler(tmp_path)
    run(of, 1)
    file = tmp_path / "decisions.jsonl"
    good = file.read_bytes()
    file.write_bytes(
        b'\x00\xff\n{"v": 1}\n[]\n{"v": 9, "end": 3}\n' + b"[" * 50_000 + b"\n" + good + b'{"v":1,"pid":3,"deci'
    )
    assert len(read_journal(tmp_path)) == 1
    of = scheduler(tmp_path)
    run(of, 1)
    assert [trace.outcome for trace in read_journal(tmp_path)] == ["done", "done"]


def test_the_file_is_private_bounded_and_shared(tmp_path):
    folder = tmp_path / "state"
    journals = [Journal(folder, limit=40_000) for _ in range(2)]
    both = [Scheduler(reserve=0, probe=lambda: Available(999, "fake", 999), journal=journal) for journal in journals]
    for number in range(120):
        run(both[number % 2], 1)
        size = sum(file.stat().st_size for file in folder.iterdir())
        assert size < 44_000
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert 20 < len(read_journal(folder)) < 100
    assert not any(one.status()["problem"] for one in both)


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_file_that_cannot_be_written_is_said_and_stops_nothing(tmp_path, kind):
    folder = tmp_path / "state"
    if kind == "file":
        folder.write_text("a file")
    else:
        folder.mkdir()
    if kind == "link":
        (folder / "decisions.jsonl").symlink_to(tmp_path / "elsewhere")
    if kind == "folder":
        (folder / "decisions.jsonl").mkdir()
    of = scheduler(folder)
    assert run(of, 4).items == 4
    assert "decisions.jsonl cannot be written" in of.status()["problem"]
    assert of.traces()[-1].outcome == "done"
    assert not (tmp_path / "elsewhere").exists()


FULL = """
import resource, sys
from pathlib import Path
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal, read_journal
from omnimemory.scheduler.scheduler import Scheduler

resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
scheduler = Scheduler(reserve=0, journal=Journal(Path(sys.argv[1])))
for _ in range(20):
    with scheduler.lease(Request("m", 3, 0, 100)):
        pass
print(len(scheduler.log()), bool(scheduler.status()["problem"]), len(read_journal(Path(sys.argv[1]))) > 1)
"""


def test_a_full_disk_is_said_and_stops_nothing(tmp_path):
    command = [sys.executable, "-c", FULL, tmp_path]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "20 True True\n"


def test_no_text_of_the_user_is_in_the_file(settings, tmp_path):
    changed = settings.with_values({"schedule.folder": tmp_path / "state"})
    with Memory(settings=changed) as memory:
        memory.add(["the zebra eats grass"])
        memory.search("zebra question")
    data = (tmp_path / "state" / "decisions.jsonl").read_bytes()
    assert b"zebra" not in data
    assert len(read_journal(tmp_path / "state")) == 2


def test_the_commands_show_the_log_and_explain(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_SCHEDULE_FOLDER", str(tmp_path / "state"))
    of = scheduler(tmp_path / "state")
    run(of, 1)
    run(of, 30)
    shown = CliRunner().invoke(cli, ["schedule", "log"])
    assert shown.exit_code == 0, shown.output
    first, second = map(json.loads, shown.stdout.splitlines())
    assert (first["action"], first["outcome"], second["action"], second["items"]) == ("grant", "done", "shrink", 7)
    troubled = CliRunner().invoke(cli, ["schedule", "log", "--troubled", "-n", "5"])
    assert [json.loads(line)["id"] for line in troubled.stdout.splitlines()] == [second["id"]]
    told = json.loads(CliRunner().invoke(cli, ["schedule", "explain", "last"]).stdout)
    assert told["id"] == second["id"]
    assert "Granted in part" in told["explanation"]
    assert json.loads(CliRunner().invoke(cli, ["schedule", "explain", first["id"]]).stdout)["id"] == first["id"]
    wrong = CliRunner().invoke(cli, ["schedule", "explain", "nothing"])
    assert wrong.exit_code == 2
    assert "schedule log" in wrong.output
