"""Two ingests at once share a budget: what both were promised is never more than there is, and both end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omnimemory.scheduler.journal import read_journal
from omnimemory.scheduler.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
POOL = 6 << 20
LINES = 3000

INGEST = """
import json, sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

root, name, pool = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
values = {"store.path": root / name, "schedule.folder": root / "state", "cache.enabled": False, "index.enabled": False}
with Memory(settings=Settings().with_values({**values, "memory.learn": False})) as memory:
    memory.embeddings.embed_text("the model is loaded before the race")
    memory.embeddings.scheduler = Scheduler(
        reserve=0,
        probe=lambda: Available(pool, "a test", pool),
        ledger=Ledger(root / "state"),
        journal=Journal(root / "state"),
        patience=120.0,
    )
    for line in sys.stdin:
        history = root / f"{name}-{line.strip()}.history"
        history.write_text("".join(f"git commit -m 'number {n} of {name} in {line.strip()}'\\n" for n in range(LINES)))
        print("ready", flush=True)
        sys.stdin.readline()
        report = memory.ingest_history(history, shell="bash")
        print(json.dumps({"embedded": report.embedded, "pending": report.pending}), flush=True)
""".replace("LINES", str(LINES))


@pytest.fixture
def pair(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", INGEST, tmp_path, name, str(POOL)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    yield children
    for child in children:
        child.kill()
        child.communicate(timeout=30)


def tell(child, word):
    child.stdin.write(f"{word}\n")
    child.stdin.flush()


def begin(pair, number):
    for child in pair:
        tell(child, number)
    for child in pair:
        assert child.stdout.readline() == "ready\n"
    for child in pair:
        tell(child, "go")


def promised_until(ledger, over):
    """Return the sums of what was promised at every look, until ``over`` says so."""
    seen = []
    while not over():
        seen.append(sum(row.reserved for row in ledger.rows()))
    return seen


def has_answered(child):
    import select

    return bool(select.select([child.stdout], [], [], 0)[0])


@pytest.mark.parametrize("rounds", [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.soak)])
def test_two_ingests_at_once_are_never_promised_more_than_there_is(pair, tmp_path, rounds):
    ledger = Ledger(tmp_path / "state")
    for number in range(rounds):
        begin(pair, number)
        seen = promised_until(ledger, lambda: all(map(has_answered, pair)))
        assert max(seen) <= POOL
        for child in pair:
            assert json.loads(child.stdout.readline()) == {"embedded": LINES, "pending": 0}
        assert sum(row.reserved for row in ledger.rows()) == 0
    traces = read_journal(tmp_path / "state")
    runs = [trace.last for trace in traces if trace.last.runs and trace.last.available.source == "a test"]
    assert {trace.pid for trace in traces} == {child.pid for child in pair}
    assert any(decision.limits.outstanding for decision in runs), "they never met"
    assert any(decision.items < decision.request.items for decision in runs), "there was room for both"
    for decision in runs:
        assert decision.need + decision.limits.outstanding <= POOL


def test_an_ingest_that_is_killed_frees_what_it_was_promised_and_the_other_one_ends(pair, tmp_path):
    ledger = Ledger(tmp_path / "state")
    begin(pair, 0)
    victim, other = pair
    while not any(row.pid == victim.pid and row.reserved for row in ledger.rows()):
        assert not has_answered(victim), "it was too fast to be killed at work"
    os.kill(victim.pid, signal.SIGKILL)
    os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)  # dead, though nobody has asked for its exit code
    assert not [row for row in ledger.rows() if row.pid == victim.pid]
    assert json.loads(other.stdout.readline()) == {"embedded": LINES, "pending": 0}
    assert ledger.rows() == ()
