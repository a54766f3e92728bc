"""The end of a memory: closed, interrupted, closed under other threads; and what cannot even be opened."""

import gc
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from store_cases import SPACE, add_rows, opened, wait_until

from omnimemory.errors import ConfigError, SpaceMismatchError, StoreError
from omnimemory.memory import Memory
from omnimemory.storage import drainer
from omnimemory.storage.drain import DrainOptions, StoreOptions
from omnimemory.storage.drainer import Drainer
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.opened_store import open_store

ROOT = Path(__file__).resolve().parents[1]

USES = {
    "search": lambda memory: memory.search("fox"),
    "add": lambda memory: memory.add("fox"),
    "ingest": lambda memory: memory.ingest("."),
    "ingest_history": lambda memory: memory.ingest_history("bash"),
    "status": lambda memory: memory.status(),
    "warm": lambda memory: memory.warm(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "while-another-has-it-open"])
def test_a_closed_memory_says_so(settings, use, shared):
    memory = Memory(settings=settings)
    other = Memory(settings=settings) if shared else None
    memory.close()
    memory.close()
    with pytest.raises(StoreError, match=r"was closed: open it again with Memory\("):
        use(memory)
    if other:
        assert other.add("still open")
        other.close()


def test_one_store_is_not_opened_with_two_sets_of_settings(settings):
    with Memory(settings=settings) as memory:
        for different in ({"search.exact_rows": 5}, {"index.enabled": True}):
            with pytest.raises(ConfigError, match="other settings"):
                Memory(settings=settings.with_values(different))
        memory.add("still usable")
    with Memory(settings=settings.with_values({"search.exact_rows": 5})) as memory:
        assert memory.store.options.exact_rows == 5


def test_what_cannot_be_opened_leaves_nothing_open(settings, tmp_path):
    with Memory(settings=settings) as memory:
        memory.add("a note")
    (tmp_path / "file").write_text("no folder")
    gc.collect()  # what earlier tests left behind must not go meanwhile
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(StoreError):
            Memory(settings=settings.with_values({"store.path": tmp_path / "file"}))
        with pytest.raises(SpaceMismatchError):
            Memory(settings=settings.with_values({"embedding.dim": 64}))
        (settings.store.path / "catalog.sqlite3").write_bytes(b"x" * 9000)
        with pytest.raises(StoreError, match="damaged"):
            Memory(settings=settings)
        gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


CLOSED_UNDER_SEARCHES = """
import random, sys, threading
from omnimemory.config import Settings
from omnimemory.errors import StoreError
from omnimemory.memory import Memory

values = {"store.path": sys.argv[1], "cache.path": sys.argv[2], "index.enabled": False}
strange = []

def search(memory, searched):
    modes = ("keyword", "hybrid", "vector")
    try:
        while True:
            where = random.choice([None, {"n": {"$ne": 1}}])
            memory.search("fox number 5", k=20, mode=random.choice(modes), where=where)
            searched.set()
    except StoreError as error:
        if "closed" not in str(error):
            strange.append(error)
    except BaseException as error:
        strange.append(error)

for _ in range(6):
    memory = Memory(settings=Settings().with_values(values))
    memory.add([f"fox number {n}" for n in range(1500)])
    events = [threading.Event() for _ in range(3)]
    threads = [threading.Thread(target=search, args=(memory, event)) for event in events]
    for thread in threads:
        thread.start()
    for event in events:
        event.wait(30)
    memory.close()
    for thread in threads:
        thread.join()
print(strange)
"""


@pytest.mark.slow
def test_a_memory_that_is_closed_while_threads_search_ends_their_searches_and_nothing_else(settings):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", CLOSED_UNDER_SEARCHES, str(settings.store.path), str(settings.cache.path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# -- interrupts


def test_a_drainer_that_is_left_goes_on_alone(tmp_path):
    with opened(tmp_path / "store", index=False) as store:
        add_rows(store, 30)
    drainer = Drainer(tmp_path / "store", DrainOptions())
    drainer.leave()
    assert drainer._process.poll() is None, "it cannot have started yet"
    with opened(tmp_path / "store") as store:
        assert wait_until(lambda: store.generations.waiting() == 0 and store.generations.active() is not None)
    assert wait_until(lambda: drainer._process.returncode == 0)


def ended_by(end, settings):
    with Memory(settings=settings) as memory:
        memory.add([f"note {n}" for n in range(600)])
        raise end


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(143)], ids=["ctrl-c", "signal"])
def test_an_interrupted_block_waits_for_nobody_and_keeps_what_was_committed(indexed, monkeypatch, end):
    left = []
    monkeypatch.setattr(Drainer, "finish", lambda *_: pytest.fail("it waits"))
    real = Drainer.leave
    monkeypatch.setattr(Drainer, "leave", lambda self: (left.append(self), real(self)))
    with pytest.raises(type(end)):
        ended_by(end, indexed)
    monkeypatch.undo()
    assert len(left) == 1
    assert wait_until(lambda: left[0]._process.returncode == 0)
    with Memory(settings=indexed) as memory:
        assert memory.status()["store"]["documents"]["chunks"] == 600
        assert memory.store.drain() is None
        assert memory.store.generations.waiting() == 0


@pytest.mark.parametrize("end", [RuntimeError("of the caller"), SystemExit(1)], ids=["error", "exit"])
def test_any_other_end_of_the_block_finishes_the_index(indexed, end):
    with pytest.raises(type(end)):
        ended_by(end, indexed)
    with Memory(settings=indexed) as memory:
        assert memory.store.generations.waiting() == 0


STOPPED = """
import os, signal, sys
from omnimemory.storage.drainer import Drainer

def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith("note-1400.txt"):
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(hook)
Drainer.finish = lambda *_: sys.exit("it waits for the index")
from omnimemory.cli import main
sys.argv = ["omnimemory", "ingest", "notes"]
main()
"""


@pytest.mark.slow
def test_the_command_line_ends_at_once_and_the_next_run_completes_the_index(indexed, tmp_path):
    (tmp_path / "notes").mkdir()
    for number in range(1500):
        (tmp_path / "notes" / f"note-{number:04}.txt").write_text(f"Note {number}: subject {number * 37 % 101}.\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMNIMEMORY_STORE": str(indexed.store.path),
        "OMNIMEMORY_CACHE_PATH": str(indexed.cache.path),
        "OMNIMEMORY_EMBEDDING_BATCH_SIZE": "100",
    }
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (stopped.returncode, stopped.stdout) == (130, ""), stopped.stderr
    assert stopped.stderr.strip() == "stopped; what was committed is kept, run again to continue"
    assert wait_until(lambda: IndexLock(indexed.store.path / "index.lock").holder() is None)
    settings = indexed.with_values({"embedding.batch_size": 100})
    with Memory(settings=settings) as memory:
        kept = memory.status()["store"]["documents"]["chunks"]
        assert 1000 <= kept < 1500
        report = memory.ingest(tmp_path / "notes")
        assert (report.added, report.unchanged, report.degraded) == (1500 - kept, kept, None)
        assert memory.store.generations.waiting() == 0


def test_an_interrupt_while_the_index_is_waited_for_is_not_answered_with_more_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(drainer, "_TICK_SECONDS", 0.01)  # the child takes longer than that

    def interrupt():
        signal.raise_signal(signal.SIGINT)

    held = open_store(tmp_path / "store", StoreOptions(), **SPACE)
    add_rows(held.store, 600)
    with pytest.raises(KeyboardInterrupt):
        held.store.drain(interrupt)
    held.close(wait=False)
    assert wait_until(lambda: IndexLock(tmp_path / "store" / "index.lock").holder() is None)
    with opened(tmp_path / "store") as store:
        assert store.drain() is None
        assert store.generations.waiting() == 0
