"""The N-th effect fails, for N = 1, 2, ... until nothing fails any more, once and from then on for ever.

Each time the operation must end in an error of ours that says what to do, or do its work all the same, and the next
run must end in the same store. The idea is SQLite's (sqlite.org/testing.html).
"""

import itertools
import random
import shutil
import subprocess
import sys

import pytest
from fault_cases import copy_of, dump, neighbours, tell
from fault_stage import BEGINS_WITH
from store_cases import ROOT

FIXES = ("free some space", "Check ", "look at the system's log", "tries again", "run it again", "restore a backup")
KINDS = ("StoreFullError", "StoreError", "SourceError", "IndexDamagedError", "CatalogDamagedError")
ACTIONS = ("enospc", "eio")
SAMPLE = {"ingest": 3, "search": 2, "index": 1, "rebuild": 1, "forget": 2, "reembed": 3, "migrate": 3}


def fail(stage, operation, number, action, forever):
    """Fail one effect (and those after it) of an operation on a fresh store; return whether it was reached."""
    place = stage.begun(operation)
    done = stage.run(operation, place, f"*:{action}@{number}{'+' * forever}")
    assert done.code == 0
    assert_explained(done)
    return done.fired, place


def assert_explained(done):
    if done.error:
        kind, message, code = done.error
        assert kind in KINDS, done.error
        assert code in (1, 74), done.error
        assert any(fix in message for fix in FIXES), message


@pytest.mark.parametrize("operation", [name for name in BEGINS_WITH if name != "drain"])
def test_whichever_effect_fails_the_error_says_what_to_do_and_the_next_run_completes_the_work(stage, operation):
    chosen = random.Random(operation)
    reached = len(stage.reached[operation])
    for number in sorted({*chosen.sample(range(1, reached + 1), min(reached, SAMPLE[operation]))}):
        fired, place = fail(stage, operation, number, chosen.choice(ACTIONS), chosen.random() < 0.5)
        assert fired or number > reached // 2  # with fewer effects than the last time: nothing was verified, say
        stage.assert_heals(operation, place)


SEARCHES = {
    "exact": {},
    "index": {"settings": {"index.enabled": True, "search.exact_rows": 0}},
}


@pytest.mark.parametrize("how", SEARCHES)
def test_whichever_effect_fails_a_search_is_right_or_says_why_not(stage, how):
    place = copy_of(stage.folder / "indexed", stage.folder / "searched")
    right = neighbours(stage.process.run("search", place, **SEARCHES[how]).value)
    chosen = random.Random(how)
    before = dump(place)
    for number in sorted(chosen.sample(range(1, 90), SAMPLE["search"])):
        done = stage.process.run("search", place, f"*:eio@{number}{'+' * chosen.getrandbits(1)}", **SEARCHES[how])
        assert_explained(done)
        assert done.error or neighbours(done.value) == right
    assert neighbours(stage.process.run("search", place, **SEARCHES[how]).value) == right
    assert dump(place) == before


@pytest.mark.parametrize("point", ["cache.read", "cache.write"])
def test_a_cache_that_fails_for_ever_costs_nothing_but_time(stage, point):
    place = stage.begun("ingest")
    done = stage.run("ingest", place, f"{point}:eio@1+")
    assert (done.error, done.fired) == ((), True)
    assert done.value == {"failed": 0, "degraded": [None, None]}
    assert dump(place) == stage.wanted["ingest"]


def test_a_file_that_cannot_be_read_is_named_in_the_report_and_read_the_next_time(stage):
    place = stage.begun("ingest")
    done = stage.run("ingest", place, "source.read:eio@3")
    assert (done.error, done.value["failed"]) == ((), 1)
    stage.assert_heals("ingest", place)


def test_an_index_that_cannot_be_written_costs_no_data_and_is_written_the_next_time(stage):
    place = stage.begun("rebuild")
    done = stage.run("rebuild", place, "manifest.write:enospc@1+")
    assert done.error[0] == "StoreFullError"
    assert neighbours(stage.process.run("search", place).value)
    stage.assert_heals("rebuild", place)
    assert "cannot be started" in stage.run("drain", stage.begun("drain"), "drainer.start:eio@1+").value


# -- all of them


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("operation", BEGINS_WITH)
def test_every_effect_of_an_operation_may_fail(stage, capsys, operation, action, forever):
    errors = 0
    for number in itertools.count(1):
        fired, place = fail(stage, operation, number, action, forever)
        if not fired:
            break
        errors += 1
        stage.assert_heals(operation, place)
    assert number > len(stage.reached.get(operation, ())) // 2
    tell(capsys, f"{operation}, {action}, {'for ever' if forever else 'once'}: {errors} effects failed, all healed")


CALLS = {
    "pwrite64": "ENOSPC",
    "write": "ENOSPC",
    "fsync": "EIO",
    "fdatasync": "EIO",
    "ftruncate": "ENOSPC",
    "openat": "ENOSPC",
    "pread64": "EIO",
    "rename": "EIO",
    "unlink": "EIO",
}
TRACED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fault_child
case = fault_child.Case(Path(sys.argv[3]), Path(sys.argv[4]), {})
fault_child.StaticEmbedder(256).embed(["warm"], "document")
sys.stdout.write(str(fault_child.act({"operation": sys.argv[2], "place": sys.argv[3], "corpus": sys.argv[4],
                                      "faults": "", "arguments": {}})))
"""


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, which makes system calls fail")
@pytest.mark.parametrize("call", CALLS)
def test_the_nth_system_call_on_the_store_fails(stage, capsys, call):
    chosen, told = random.Random(call), {"ended well": 0, "said why": 0}
    for number in sorted(chosen.sample(range(1, 60), 12)):
        place = stage.begun("index")
        files = [place / "store" / name for name in ("catalog.sqlite3", "catalog.sqlite3-wal", "catalog.sqlite3-shm")]
        done = subprocess.run(
            [
                *("strace", "-f", "-q", "-o", str(stage.folder / "trace"), "-e", f"trace={call}"),
                *itertools.chain.from_iterable(("-P", str(file)) for file in files),
                *("-e", f"inject={call}:error={CALLS[call]}:when={number}"),
                *(sys.executable, "-P", "-c", TRACED, str(ROOT / "tests"), "index", str(place)),
                str(stage.process.corpus),
            ],
            env={**stage.process.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        if done.returncode or "'bug'" in done.stdout:
            pytest.fail(f"{call} {number}: {done.returncode} {done.stdout} {done.stderr}")
        told["said why" if "'error'" in done.stdout else "ended well"] += 1
        stage.assert_heals("index", place)
    tell(capsys, f"{call}: {told}")
