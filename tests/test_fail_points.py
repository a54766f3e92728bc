"""Fail points: a process is killed at each, and whoever comes after it ends where it would have ended."""

import os
import signal
import subprocess
import sys

import pytest
from fault_cases import dump, tell
from fault_stage import CHAINS, make_stage
from store_cases import ROOT, wait_until

from omnimemory.errors import ConfigError
from omnimemory.faults import POINTS, VARIABLE, parse_plan


def test_the_operations_reach_every_point(stage):
    assert set().union(*stage.reached.values(), CHAINS["drain"]) == set(POINTS)
    assert sorted(point for points in CHAINS.values() for point in points) == sorted(POINTS)


@pytest.mark.parametrize("operation", CHAINS)
def test_processes_killed_at_one_point_after_the_other_lose_nothing_and_the_next_ends_where_it_would_have(
    stage, operation
):
    place = stage.begun(operation)
    for point in CHAINS[operation]:
        assert stage.run(operation, place, f"{point}:kill").code == -signal.SIGKILL, point
    if operation != "migrate":
        assert stage.process.run("search", place).error == ()  # whatever is there, it opens and answers
    stage.assert_heals(operation, place)


@pytest.fixture(scope="module")
def large_stage(tmp_path_factory):
    """Return a stage with stores of 20,000 rows and more."""
    settings = {"embedding.batch_size": 64, "index.batch_size": 1000}
    rows = int(os.environ.get("SOAK_ROWS", "20000"))
    yield from make_stage(tmp_path_factory.mktemp("large"), rows, settings=settings, sync_rows=1000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("point", [name for name in POINTS if name != "catalog.create"])
def test_processes_killed_there_five_times_on_a_large_store_lose_nothing(large_stage, capsys, point):
    operation = next(name for name, points in CHAINS.items() if point in points)
    often = max(1, large_stage.reached.get(operation, []).count(point))
    for number in range(5):
        place = large_stage.begun(operation)
        killed = large_stage.run(operation, place, f"{point}:kill@{1 + number * often // 5}")
        assert killed.code == -signal.SIGKILL
        assert operation == "migrate" or large_stage.process.run("search", place).error == ()
        large_stage.assert_heals(operation, place)
    tell(capsys, f"{point}: killed 5 times, {len(dump(place)):,} facts as they would have been")


# -- the environment variable


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("commit.befor:kill", r"there is no point 'commit.befor'; there are: catalog.create"),
        ("commit.before:die", r"there is no action 'die'; there are: kill"),
        ("commit.before", r"there is no action ''"),
        ("commit.before:kill@zero", r"'zero' is not a number such as 3 or 3\+"),
        ("commit.before:kill@0", r"'0' is not a number"),
        ("commit.before:pause", r"pause needs a path"),
        ("commit.before:kill;nowhere:eio", r"no point 'nowhere'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_plan(text)


def test_a_plan_counts_once_for_all_points_or_for_one():
    def reached(text, *names):
        plan, failed = parse_plan(text), []
        for number, name in enumerate(names):
            try:
                plan.reach(name)
            except OSError as error:
                failed.append((number, error.errno))
        return failed

    assert parse_plan(" ; ") is None
    assert reached("cache.read:eio@2", "cache.read", "lock.take", "cache.read", "cache.read") == [(2, 5)]
    assert reached("cache.read:enospc@2+", "cache.read", "cache.read", "cache.write", "cache.read") == [
        (1, 28),
        (3, 28),
    ]
    assert reached("*:eacces@2", "cache.read", "lock.take", "lock.take") == [(1, 13)]


def command(*words, **environment):
    return [sys.executable, "-m", "omnimemory", *words], {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMNIMEMORY_INDEX_ENABLED": "false",
        **environment,
    }


def test_the_command_line_says_what_is_wrong_with_the_variable(tmp_path):
    words, environment = command("--store", str(tmp_path / "store"), "status", **{VARIABLE: "here:kill"})
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "Error: the environment variable OMNIMEMORY_FAULTS: 'here:kill': there is no point" in done.stderr


def test_a_command_waits_at_a_point_and_what_is_killed_there_was_never_stored(tmp_path):
    gate = tmp_path / "gate"
    words, environment = command(
        "--store", str(tmp_path / "store"), "add", "a note", **{VARIABLE: f"commit.before:pause={gate}"}
    )
    child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)
    assert wait_until((tmp_path / "gate.reached").exists)
    child.kill()
    assert child.communicate()[0] == b""
    gate.touch()  # whoever comes after it need not wait, and finds no trace of the note
    words[-2:] = ["search", "note"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, child.returncode) == ("", -signal.SIGKILL)
