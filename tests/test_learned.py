"""What is learned of a model's memory: priors first, then fits; bounded, shared between processes, never in the way."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.scheduler.learned import LEAST, Key, Learned, Shape, machine_name
from omnimemory.scheduler.learned_file import KEPT

MIB = 1 << 20
KEY = Key("onnx", "a" * 32, "float32", "x86_64-2-24")
LOAD = Shape(0, 0, 100 * MIB)
ROOT = Path(__file__).resolve().parents[1]


def batch(prior=40 * MIB, items=8, tokens=512):
    return Shape(items, tokens, prior)


def taught(learned, needs, *, solo=True):
    for prior, need in needs:
        learned.observe(KEY, batch(prior), MIB, MIB + need, MIB, solo=solo)
    return learned


def test_the_prior_counts_until_enough_was_measured():
    learned = Learned(None)
    for number in range(LEAST):
        assert learned.predict(KEY, batch()) == 40 * MIB
        assert learned.count(KEY, batch()) == 0
        taught(learned, [(40 * MIB, 20 * MIB + number)])
    assert learned.count(KEY, batch()) == LEAST
    assert 20 * MIB <= learned.predict(KEY, batch()) <= 22 * MIB


def test_a_need_above_the_prior_is_believed_at_once():
    assert taught(Learned(None), [(40 * MIB, 70 * MIB)]).predict(KEY, batch()) == 70 * MIB


def test_only_windows_in_which_nothing_else_ran_are_learned_from():
    learned = taught(Learned(None), [(40 * MIB, 400 * MIB)] * 10, solo=False)
    assert learned.predict(KEY, batch()) == 40 * MIB
    assert (learned.count(KEY, batch()), learned.seen(KEY, batch())) == (0, 0)


def test_a_constant_and_a_slope_are_found():
    learned = Learned(None)
    for n in range(10, 60, 2):
        learned.observe(KEY, Shape(n, 10 * n, n * MIB), 0, (10 + n // 2) * MIB, 0, solo=True)
    for n in (12, 30, 58):
        assert 1.0 <= learned.predict(KEY, Shape(n, 10 * n, n * MIB)) / ((10 + n // 2) * MIB) <= 1.1


def test_loading_is_learned_apart_from_batches():
    learned = taught(Learned(None), [(40 * MIB, 20 * MIB)] * 5)
    assert learned.predict(KEY, LOAD) == LOAD.prior
    learned.observe(KEY, LOAD, 0, 47 * MIB, 46 * MIB, solo=True)
    assert 47 * MIB <= learned.predict(KEY, LOAD) <= 50 * MIB
    assert learned.predict(KEY, batch()) <= 22 * MIB


def test_models_precisions_and_machines_do_not_learn_from_each_other():
    learned = taught(Learned(None), [(40 * MIB, 20 * MIB)] * 5)
    for name in Key._fields:
        assert learned.predict(KEY._replace(**{name: "other"}), batch()) == 40 * MIB


def test_beyond_what_was_seen_the_prior_is_the_least():
    learned = taught(Learned(None), [(40 * MIB, 10 * MIB)] * 5)
    assert learned.predict(KEY, batch(79 * MIB)) < 79 * MIB
    assert learned.predict(KEY, batch(200 * MIB)) == 200 * MIB


NEEDS = st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(1, 512 * MIB)), min_size=1, max_size=40)


@given(NEEDS, st.integers(0, 128 * MIB), st.integers(0, 128 * MIB))
def test_a_larger_batch_never_needs_less(needs, one, other):
    learned = taught(Learned(None), needs)
    small, large = sorted((one, other))
    assert learned.predict(KEY, batch(small)) <= learned.predict(KEY, batch(large, 9, 600))


@given(NEEDS)
def test_no_answer_is_below_what_was_seen_of_that_shape_or_absurdly_above(needs):
    learned = taught(Learned(None), needs)
    largest = max(need for _, need in needs)
    assert learned.predict(KEY, batch(1)) >= largest
    assert learned.predict(KEY, batch(8 * MIB, items=1, tokens=1)) <= 4 * 8 * MIB


@given(st.lists(st.floats(0.8, 1.2), min_size=20, max_size=60))
def test_at_least_nineteen_of_twenty_measurements_are_at_most_the_answer(spread):
    needs = [(40 * MIB + n, int(30 * MIB * part)) for n, part in enumerate(spread)]
    learned = taught(Learned(None), needs)
    covered = sum(need <= learned.predict(KEY, Shape(1, 1, prior)) for prior, need in needs)
    assert covered >= 0.95 * len(needs) - 1


def test_another_process_knows_what_was_learned(tmp_path):
    path = tmp_path / "state" / "learned.sqlite3"
    first = taught(Learned(path), [(40 * MIB, 20 * MIB)] * 5)
    first.set_budget(KEY, 1024)
    first.save()
    script = (
        "import sys; from pathlib import Path; from omnimemory.scheduler.learned import *; "
        f"learned = Learned(Path(sys.argv[1])); key = Key(*{tuple(KEY)!r}); "
        f"print(learned.predict(key, Shape(8, 512, {40 * MIB})), learned.budget(key))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(first.predict(KEY, batch())), "1024"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_processes_at_once_lose_nothing(tmp_path):
    path = tmp_path / "learned.sqlite3"
    script = (
        "import sys; from pathlib import Path; from omnimemory.scheduler.learned import *; "
        f"learned = Learned(Path(sys.argv[1])); key = Key(*{tuple(KEY)!r})\n"
        "for n in range(24): learned.observe(key, Shape(8, 512, 100), 0, 50, 0, solo=True)\n"
        "learned.save(); assert not learned.problem"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, path], cwd=ROOT) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    assert Learned(path).count(KEY, batch()) == 48


def test_the_file_is_bounded_and_keeps_what_is_new(tmp_path):
    path = tmp_path / "learned.sqlite3"
    learned = Learned(path)
    learned.observe(KEY, LOAD, 0, 47 * MIB, 0, solo=True)
    for number in range(3 * KEPT):
        taught(learned, [(40 * MIB, 20 * MIB + number)])
    assert learned.seen(KEY, batch()) == KEPT
    learned.save()
    again = Learned(path)
    assert again.seen(KEY, batch()) == KEPT
    assert again.predict(KEY, batch()) == learned.predict(KEY, batch())
    assert again.seen(KEY, LOAD) == 1, "loading was pushed out by batches"
    for number in range(KEPT + 5):
        learned.observe(KEY._replace(model=str(number)), batch(), 0, 5, 0, solo=True)
    learned.save()
    with sqlite3.connect(path) as sql:
        assert sql.execute("SELECT count(DISTINCT key) FROM observations").fetchone() == (KEPT,)
    sql.close()
    assert path.stat().st_size < MIB


def test_a_ceiling_is_half_of_what_failed_only_falls_and_is_tried_again_after_a_day(tmp_path):
    now = [1000.0]
    learned = Learned(tmp_path / "learned.sqlite3", clock=lambda: now[0])
    assert learned.ceiling(KEY) is None
    learned.out_of_memory(KEY, batch(items=64))
    assert learned.ceiling(KEY) == 32
    learned.out_of_memory(KEY, batch(items=100))
    assert learned.ceiling(KEY) == 32
    learned.out_of_memory(KEY, batch(items=1))
    assert learned.ceiling(KEY) == 1
    assert Learned(tmp_path / "learned.sqlite3", clock=lambda: now[0]).ceiling(KEY) == 1
    now[0] += 90_000
    assert learned.ceiling(KEY) is None
    now[0] = 10.0  # the clock was set back
    assert learned.ceiling(KEY) is None
    learned.out_of_memory(KEY, batch(items=64))
    assert learned.ceiling(KEY) == 32


def _other_version(path):
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA user_version = 99")
    sql.close()


def _nonsense_rows(path):
    taught(Learned(path), [(40 * MIB, 20 * MIB)] * 8)
    with sqlite3.connect(path) as sql:
        sql.execute("UPDATE observations SET need = 'much'")
    sql.close()


BROKEN = {
    "not-a-database": lambda path: path.write_bytes(b"not a database at all" * 300),
    "cut-short": lambda path: (taught(Learned(path), [(9, 9)] * 8), os.truncate(path, 5000)),
    "rows-that-are-no-measurements": _nonsense_rows,
    "another-version": _other_version,
    "a-folder": lambda path: path.mkdir(),
    "a-link": lambda path: path.symlink_to(path.with_name("elsewhere")),
    "a-pipe": os.mkfifo,
    "below-a-file": lambda path: (path.parent.rmdir(), path.parent.write_text("x")),
}


@pytest.mark.parametrize("break_it", BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_used_is_said_once_and_done_without(tmp_path, caplog, break_it):
    path = tmp_path / "state" / "learned.sqlite3"
    path.parent.mkdir()
    break_it(path)
    with caplog.at_level(logging.WARNING):
        learned = taught(Learned(path), [(40 * MIB, 20 * MIB)] * 20)
        assert 20 * MIB <= learned.predict(KEY, batch()) < 40 * MIB
        learned.out_of_memory(KEY, batch())
        learned.save()
    assert learned.problem
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    assert not (path.with_name("elsewhere")).exists()


def test_a_damaged_file_is_begun_anew(tmp_path):
    path = tmp_path / "learned.sqlite3"
    path.write_bytes(b"not a database at all" * 300)
    taught(Learned(path), [(40 * MIB, 20 * MIB)] * 16)
    assert Learned(path).count(KEY, batch()) >= LEAST


def test_a_full_disk_is_done_without(tmp_path):
    script = (
        "import resource, signal, sys; from pathlib import Path; from omnimemory.scheduler.learned import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"learned = Learned(Path(sys.argv[1])); key = Key(*{tuple(KEY)!r})\n"
        "for n in range(24): learned.observe(key, Shape(8, 512, 100), 0, 50, 0, solo=True)\n"
        "learned.save(); print(learned.problem); print(learned.predict(key, Shape(8, 512, 100)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    problem, need = done.stdout.splitlines()
    assert "cannot be used" in problem
    assert 50 <= int(need) <= 55


def test_the_machine_is_named_by_what_matters_to_memory():
    assert machine_name() == machine_name()
    assert machine_name().startswith(os.uname().machine)
