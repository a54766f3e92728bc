"""A store is moved to another model while another process has it open."""

import json
import subprocess
import sys

import pytest
from reembed_cases import notes
from store_cases import ROOT

from omnimemory.memory import Memory
from omnimemory.storage.consistency import waiting_texts

NEIGHBOUR = """
import json, sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory

folder = Path(sys.argv[1])
values = {"store.path": folder / "store", "cache.path": folder / "cache", "search.exact_rows": 0}
memory = Memory(settings=Settings().with_values({**values, "index.enabled": sys.argv[2] == "index"}))

def ask(text):
    hits = memory.search(text, k=1, mode="vector", explain=True)
    return [hits[0].text, hits.explain["kinds"]["documents"]["answered_by"], hits.degraded]

print(json.dumps(memory.warm() if sys.argv[2] == "index" else None), flush=True)
text = json.loads(sys.stdin.readline())
memory.add(f"added {text}", ids="added")
history = folder / "history"
history.write_text("make lighthouse\\n")
report = memory.ingest_history(history, shell="bash")
memory.forget(ids=["n5"])
print(json.dumps({"found": ask(text), "degraded": report.degraded, "events": report.events}), flush=True)
sys.stdin.readline()
memory.close()
"""


def say(child, line):
    child.stdin.write(f"{json.dumps(line)}\n")
    child.stdin.flush()


@pytest.mark.parametrize("how", ["exact", "index"])
def test_it_searches_the_old_vectors_and_what_it_adds_waits_for_its_own(indexed, how):
    chosen = indexed.with_values({"search.exact_rows": 0, "index.enabled": how == "index"})
    with Memory(settings=chosen, model="static") as memory:
        memory.add(notes(40), ids=[f"n{number}" for number in range(40)])
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", NEIGHBOUR, chosen.store.path.parent, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with child:
        assert json.loads(child.stdout.readline()) is None
        with Memory(settings=chosen) as memory:
            assert memory.reembed(dim=128).pending == 0
            say(child, notes(8)[7])
            found = json.loads(child.stdout.readline())
            assert found["found"][:2] == [notes(8)[7], "exact"]
            assert "open it again" in found["found"][2]
            assert "open it again" in found["degraded"]
            assert found["events"] == 1
            assert waiting_texts(memory.store.catalog) == 2
            assert memory.search("n5 harbour", mode="keyword", k=50)
            assert notes(6)[5] not in [hit.text for hit in memory.search("note 5", k=50, mode="vector")]
            say(child, "go")
        assert child.wait(60) == 0
    with Memory(settings=chosen) as memory:
        memory.add("something else", ids="else")  # which embeds what waited
        assert waiting_texts(memory.store.catalog) == 0
        assert memory.search(f"added {notes(8)[7]}", k=1, mode="vector")[0].id == "added"
        assert memory.doctor().ok
        if how == "index":
            assert memory.warm() is None
            hits = memory.search(notes(8)[7], k=1, mode="vector", explain=True)
            assert hits.explain["kinds"]["documents"]["answered_by"] == "chroma"
