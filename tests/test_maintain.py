"""Maintenance gives back what is not needed, tells true counts, and leaves alone what is in use."""

import json

import pytest
from care_cases import fill, in_catalog, make_old, memory_of
from store_cases import start
from test_doctor import run

from omnimemory.storage.drain import DrainOptions
from omnimemory.storage.rebuild import rebuild


@pytest.fixture
def healthy(settings, tmp_path):
    return fill(settings, tmp_path)


def deeds(report):
    return [(deed.part, deed.count) for deed in report.done]


def wear(memory):
    """Leave behind what a long life leaves behind."""
    memory.add(
        [f"Note {number} that will be forgotten soon. " * 40 for number in range(300)], ids=[str(n) for n in range(300)]
    )
    with memory.store.catalog.transaction() as sql:
        rows = memory.store.documents.rows_of([str(number) for number in range(300)])
        memory.store.documents.delete(sql, list(rows.values()))
    folder = memory.store.path
    make_old(folder / "catalog.sqlite3.ab12.new", b"x" * 5000)
    for name in ("3", "4"):
        (folder / "index").mkdir(mode=0o700, exist_ok=True)
        (folder / "index" / name).mkdir(mode=0o700)
        (folder / "index" / name / "chroma.sqlite3").write_bytes(b"x" * 7000)


def test_a_rehearsal_tells_what_is_done_then(healthy):
    with memory_of(healthy) as memory:
        wear(memory)
        told = memory.maintain(dry_run=True)
        size = memory.store.status()["bytes"]
        assert memory.store.status()["bytes"] == size
        done = memory.maintain()
        assert deeds(told) == deeds(done)
        assert {part for part, _ in deeds(done)} >= {"index", "leftovers", "keywords", "catalog"}
        assert ("index", 2) in deeds(done)
        assert done.skipped == ()
        assert 0.5 * told.freed < done.freed
        assert memory.store.status()["bytes"] < 0.5 * size
        again = memory.maintain()
        assert [deed for deed in deeds(again) if deed[0] != "catalog"] == []
        assert memory.doctor().ok
        assert memory.search("note about the harbour", k=1)
    json.dumps(done.to_dict())


def test_there_is_nothing_to_do_where_nothing_was_worn(healthy):
    with memory_of(healthy) as memory:
        memory.maintain()
    with memory_of(healthy) as memory:
        assert (memory.maintain().done, memory.maintain(dry_run=True).freed) == ((), 0)


def test_what_is_still_to_be_purged_is_purged(healthy):
    in_catalog("INSERT INTO purges (place, data) VALUES ('cache', x'')")(healthy)
    with memory_of(healthy) as memory:
        assert ("purges", 1) in deeds(memory.maintain())
        assert memory.store.catalog.value("SELECT count(*) FROM purges") == 0


@pytest.mark.parametrize(("deleted", "anew"), [(2, False), (5, True)])
def test_an_index_of_which_a_fifth_is_dead_is_made_anew(indexed, tmp_path, deleted, anew):
    with memory_of(indexed) as memory:
        names = memory.add([f"Note {number}" for number in range(20)])
        first = rebuild(memory.store.path, memory.store.catalog, DrainOptions())
        with memory.store.catalog.transaction() as sql:
            memory.store.documents.delete(sql, list(memory.store.documents.rows_of(names[:deleted]).values()))
        assert memory.store.drain() is None
        done = memory.maintain()
        assert (("index", deleted) in deeds(done)) is anew
        assert (memory.store.generations.active() != first) is anew
        assert memory.store.generations.tombstones()[0] == (0 if anew else deleted, 20 - deleted)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM chunks").fetchone()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_what_somebody_reads_is_skipped_and_said(healthy):
    with memory_of(healthy) as memory:
        child = start(READER, memory.store.catalog.path)
        assert child.stdout.readline() == "ready\n"
        memory.add("A note that stays in the log.")
        report = memory.maintain()
        child.communicate("\n", timeout=60)
        assert any(text.startswith("catalog: another process is reading") for text in report.skipped)
        assert memory.maintain().skipped == ()


def test_the_command_tells_and_does(healthy):
    with memory_of(healthy) as memory:
        wear(memory)
    told, done = (json.loads(run(healthy, "maintain", *more).stdout) for more in (["--dry-run"], []))
    assert told["dry_run"]
    assert told["done"] == done["done"]
    assert told["freed"] > 0
