"""Signals: whoever stops a command, by whatever signal, gets a store that is closed and work that can go on."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest
from fault_cases import copy_of, dump
from store_cases import ROOT, wait_until

from omnimemory.config import Settings
from omnimemory.faults import VARIABLE
from omnimemory.memory import Memory
from omnimemory.storage.drain import DrainOptions
from omnimemory.storage.drainer import Drainer
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.manifest import is_clean

STOPPED = "stopped; what was committed is kept, run again to continue"


@contextlib.contextmanager
def command(place, *words, faults="", **options):
    """Start a command on the store and the cache in ``place``; it does not outlive the block."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMNIMEMORY_STORE": str(place / "store"),
        "OMNIMEMORY_CACHE_PATH": str(place / "cache"),
        "OMNIMEMORY_INDEX_ENABLED": "false",
        "OMNIMEMORY_EMBEDDING_BATCH_SIZE": "8",
        VARIABLE: faults,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "omnimemory", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize(
    ("number", "point"),
    [(signal.SIGINT, "commit.after"), (signal.SIGTERM, "commit.before"), (signal.SIGHUP, "source.read")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_command_that_is_stopped_says_so_and_the_next_one_goes_on(stage, tmp_path, number, point):
    docs = stage.process.corpus / "docs"
    with command(tmp_path, "ingest", docs, faults=f"{point}:pause={tmp_path}/gate") as child:
        assert wait_until((tmp_path / "gate.reached").exists)
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err.strip()) == (128 + number, "", STOPPED)
    assert not list((tmp_path / "store").glob("*-wal")), "the store was not closed"
    assert stage.process.run("ingest", tmp_path).error == ()
    assert dump(tmp_path) == stage.wanted["ingest"]


def test_a_second_signal_ends_a_command_at_once_and_that_is_safe(stage, tmp_path):
    told = tmp_path / "gate.reached"
    with command(
        tmp_path, "ingest", stage.process.corpus / "docs", faults=f"cache.write:pause={tmp_path}/gate"
    ) as child:
        assert wait_until(told.exists)
        told.unlink()
        child.send_signal(signal.SIGTERM)
        assert wait_until(told.exists)  # the cache is written to once more while it is closed
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (-signal.SIGTERM, "", "")
    assert stage.process.run("ingest", tmp_path).error == ()
    assert dump(tmp_path) == stage.wanted["ingest"]


def test_a_signal_that_was_ignored_when_the_command_began_stays_ignored(tmp_path):
    gate = tmp_path / "gate"
    nohup = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731 - what that program does
    with command(tmp_path, "add", "a note", faults=f"commit.before:pause={gate}", preexec_fn=nohup) as child:
        assert wait_until((tmp_path / "gate.reached").exists)
        child.send_signal(signal.SIGHUP)
        gate.touch()
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert "ids" in out


def test_a_drainer_that_is_told_to_end_closes_the_index_cleanly(stage, tmp_path, monkeypatch):
    place = copy_of(stage.folder / "indexed", tmp_path / "place")
    values = {"store.path": place / "store", "cache.path": place / "cache"}
    monkeypatch.setenv(VARIABLE, f"drain.mark:pause={tmp_path}/gate")
    with Memory(settings=Settings().with_values(values)) as memory:
        memory.add(["one more note", "and another"])
        drainer, said = Drainer(place / "store", DrainOptions()), []
        waiting = threading.Thread(target=lambda: said.append(drainer.finish()))
        waiting.start()
        assert wait_until((tmp_path / "gate.reached").exists)
        os.kill(IndexLock(place / "store" / "index.lock").holder(), signal.SIGTERM)
        waiting.join()
        assert said == ["the index process ended with code 143"]
        generations = memory.store.generations
        assert is_clean(generations.directory(place / "store", generations.active()))
        assert generations.waiting() == 2
