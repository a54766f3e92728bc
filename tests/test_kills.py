"""kill -9 at any moment: what was acknowledged is there, nothing is there twice, and the next run completes it."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field

import pytest
from fault_cases import LONG_AGO, copy_of, dump, fault_process, folder_of, make_corpus, neighbours, strangers_in, tell
from store_cases import wait_until

from omnimemory.storage.lock import IndexLock

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "200"))
ROWS = int(os.environ.get("SOAK_ROWS", "20000"))


@dataclass
class Kills:
    """Rounds of the same work, each on what the last one left; ``figures`` tells what happened."""

    folder: object
    process: object
    seed: int
    arguments: dict = field(default_factory=dict)
    figures: dict = field(default_factory=lambda: {"killed": 0, "drainers killed": 0, "acknowledged": 0, "open": 0.0})

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.place = folder_of(self.folder / "store under kills")
        (self.place / "acknowledged").touch()

    def round(self, number, seconds, drains=""):
        """Do one round and kill it: up to ``seconds`` after one of its steps was acknowledged; check what is left.

        ``drains`` says who does: "this process" (that works), "a child" of it, "nobody"; by chance if not given.
        """
        drains = drains or self.random.choice(["this process", "a child"])
        log = self.place / "acknowledged"
        size, steps = _lines(log), self.random.randrange(5)
        child = self.process.start("work", self.place, **self.arguments, rounds=[number], drains=drains, seconds=600)
        # A torn index is made anew first, which takes minutes when the store is large and the machine busy.
        assert wait_until(lambda: _lines(log) >= size + steps, 500)
        time.sleep(self.random.uniform(0.0, seconds))
        if drains == "a child" and self.random.getrandbits(1):
            self.figures["drainers killed"] += self._kill_drainer(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        self.figures["killed"] += self.process.outcome().code == -signal.SIGKILL
        self._check()

    def _kill_drainer(self, child):
        lock = self.place / "store" / "index.lock"
        holder = IndexLock(lock).holder() if lock.exists() else None
        if not holder or holder == child:
            return 0
        os.kill(holder, signal.SIGKILL)
        return 1

    def _check(self):
        seen = self.process.run("look", self.place, **self.arguments).value
        self.figures["open"] = max(self.figures["open"], seen["seconds"])
        assert len(set(seen["notes"])) == len(seen["notes"])
        log = self.place / "acknowledged"
        promised = set(log.read_text().split())
        lost = {name for name in promised if name.startswith("round-")} - set(seen["notes"])
        assert not lost, sorted(lost)
        self.figures["acknowledged"] = len(promised)

    def finish(self, place, rounds):
        """Do the work of all rounds to its end; return the dump and the exact neighbours."""
        lock = place / "store" / "index.lock"
        assert wait_until(lambda: not lock.exists() or IndexLock(lock).holder() is None)  # a drainer that was left
        given = {
            **self.arguments,
            "rounds": list(range(rounds)),
            "drains": "this process",
            "seconds": 100 + 10 * rounds,
        }
        done = self.process.run("work", place, **given)
        assert (done.code, done.error, done.value) == (0, (), None)
        assert self.process.run("inspect", place).value == {}
        assert strangers_in(place / "store") == []
        return dump(place), neighbours(self.process.run("search", place).value)


def _lines(log):
    """Return how many steps were acknowledged."""
    return log.read_text().count("\n")


def test_five_kills_at_random_moments_lose_and_double_nothing(stage):
    kills = Kills(stage.folder, stage.process, 3)
    undisturbed = kills.finish(folder_of(stage.folder / "in peace"), 5)
    for number in range(5):
        kills.round(number, 0.2, "nobody" if number % 2 else "this process")
    assert kills.figures["killed"] >= 1  # a fast machine is done before most of them
    assert kills.figures["acknowledged"] > 0
    assert kills.finish(kills.place, 5) == undisturbed


class Persists(threading.Thread):
    """Counts how often Chroma was seen to have written its HNSW files: fewer than it did, never more."""

    def __init__(self, store):
        super().__init__(daemon=True)
        self._store = store
        self.seen = set()
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.005):
            for path in self._store.glob("index/*/*/header.bin"):
                with contextlib.suppress(OSError):
                    self.seen.add((str(path), path.stat().st_mtime_ns))


def grow(corpus, number):
    """Let the corpus be what it is in this round: new files, a changed one, one that is gone, more history."""
    for n in range(2):
        words = " ".join(f"word{number * 7 + k} matters to subject {n} of round {number}." for k in range(1500))
        (corpus / "docs" / f"round-{number}-{n}.md").write_text(words)
    (corpus / "docs" / "changing.md").write_text(f"This changes in round {number}. " * 50)
    (corpus / "docs" / f"round-{number - 10}-1.md").unlink(missing_ok=True)
    with (corpus / "history").open("a") as file:
        file.writelines(f"#{1_700_100_000 + number * 100 + n}\nmake round-{number} step-{n}\n" for n in range(5))
    for path in (*(corpus / "docs").iterdir(), corpus / "history"):
        os.utime(path, (LONG_AGO, LONG_AGO + number))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_kills_on_a_large_store_lose_and_double_nothing(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "corpus", ROWS // 125)
    for number, path in enumerate((corpus / "docs").iterdir()):
        path.write_text("".join(f"\n\n# Part {part}\n\n{number} says {part * number} " * 12 for part in range(45)))
    with fault_process(folder_of(tmp_path / "home"), corpus) as process:
        kills = Kills(tmp_path, process, 1, {"sync_rows": 100, "settings": {"index.batch_size": 500}})
        grow(corpus, 0)
        began = time.monotonic()
        kills.finish(kills.place, 1)
        template = copy_of(kills.place, tmp_path / "begin")
        tell(capsys, f"begun with {rows_of(kills.place):,} rows in {time.monotonic() - began:.0f} s")
        counter = Persists(kills.place / "store")
        counter.start()
        for number in range(1, ROUNDS + 1):
            grow(corpus, number)
            kills.round(number, 4.0)
            if number % 10 == 0:
                tell(capsys, f"round {number}: {kills.figures}, {len(counter.seen)} persists seen")
        found = kills.finish(kills.place, ROUNDS + 1)
        counter.over.set()
        assert found == kills.finish(template, ROUNDS + 1)
        tell(capsys, f"{kills.figures}, {len(counter.seen)} persists seen, {rows_of(kills.place):,} rows in the end")
    shutil.rmtree(tmp_path / "begin")


def rows_of(place):
    return sum(1 for line in dump(place) if line.startswith(("('chunk'", "('command'")))
