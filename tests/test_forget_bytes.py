"""Not a byte is left: of what was forgotten, in any file of store, cache and backups, whoever dies or looks on."""

import contextlib
import os
import shutil
import signal
import sqlite3

import pytest
from forget_cases import files_with, holders, marker, quick, stamped, texts
from store_cases import finish, start
from test_versions import as_written_by

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.forgetting import purge
from omnimemory.memory import Memory
from omnimemory.storage.backups import LIST
from omnimemory.storage.cache_rows import Scope, row_keys
from omnimemory.storage.tombstones import purges

WORD, HEADING, NOTE, QUESTION, TYPED = (marker(seed) for seed in range(5))


def fill(memory, folder):
    """Bring markers into everything that a memory keeps: text, heading, metadata, ids, commands, questions."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "a.md").write_text(f"# Plain\n\nThe {WORD} is here.\n\n" + "Nothing but sails. " * 300)
    (docs / "b.md").write_text(f"# About {HEADING}\n\n" + "Nothing but knots. " * 300)
    (folder / "history").write_text(stamped("ls -la", f"ssh {TYPED} --{WORD}", "make test"))
    memory.ingest(docs)
    memory.ingest_history(folder / "history", shell="bash")
    memory.add(
        [f"A note on {NOTE}.", "another one"], ids=[f"id-{NOTE}", "b"], metadatas=[{"k": f"v {NOTE}"}, {"k": NOTE}]
    )
    memory.search(f"where is {QUESTION}?")


def forget_all(memory):
    return memory.forget(pattern=f"re:{WORD}|{HEADING}|{NOTE}|{TYPED}|{QUESTION}").unpurged


OWN = ("docs/", "history")  # the user's files
WORDS = (WORD, HEADING, NOTE, TYPED)


@pytest.mark.parametrize("opened", [False, True], ids=["the index is closed", "this process has it open"])
def test_nothing_is_left_in_catalog_index_cache_and_backups_and_the_rest_is_found(settings, indexed, tmp_path, opened):
    with Memory(settings=settings) as memory:
        fill(memory, tmp_path)
        memory.backup(tmp_path / "backup")
    with Memory(settings=indexed) as memory:
        assert (memory.warm() if opened else memory.store.drain()) is None
        for word in WORDS:
            found = " ".join(holders(tmp_path, word, but=OWN))
            assert all(place in found for place in ("store/catalog", "store/index", "backup/catalog")), (word, found)
        assert forget_all(memory) == ()
        assert holders(tmp_path, *WORDS, but=OWN) == []  # while it is still open
        rows = memory.store.catalog.value("SELECT count(*) FROM vectors")
        assert memory.store.status()["index"]["waiting"] == 0
        found = memory.search("make test", kind="commands", mode="vector")[0]
        assert (found.text, found.metadata["count"]) == ("make test", 1)
    assert holders(tmp_path, *WORDS, but=OWN) == []
    with Memory(settings=indexed.with_values({"search.exact_rows": 0})) as memory:
        assert memory.warm() is None
        hit = memory.search("sails", mode="vector", kind="documents", explain=True)
        assert hit.explain["kinds"]["documents"]["answered_by"] == "chroma"
        assert memory.store.catalog.value("SELECT count(*) FROM vectors") == rows
    with Memory(settings=settings.with_values({"store.path": tmp_path / "backup"})) as memory:
        assert memory.search("make test", kind="commands")[0].text == "make test"


def test_no_vector_and_no_key_of_it_is_left_in_the_cache_or_anywhere(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(StaticEmbedder, "instant", False)  # questions are cached as a slower model's are
    memory.add([f"A note on {NOTE}.", "a note on knots"])
    memory.search(f"A note on {NOTE}.")
    memory.search(NOTE)
    space = memory.embeddings.embedder.fingerprint
    asked = [("document", f"A note on {NOTE}."), ("query", f"A note on {NOTE}."), ("query", NOTE)]
    keys = [row_keys(Scope(space, role, 256).materials([text]))[0] for role, text in asked]
    vectors = [memory.embeddings.embed_text(text, role).tobytes() for role, text in asked]
    parts = [*keys, *(vector[64:192] for vector in vectors)]
    assert all(files_with(tmp_path / "cache", [[part] for part in parts]))
    memory.forget(pattern=NOTE)
    memory.close()
    assert files_with(tmp_path, [[part] for part in parts]) == [[]] * len(parts)
    with quick(tmp_path) as cached:
        assert cached.cache.stats()["items"] >= 1  # the other one stays


def test_what_an_earlier_delete_left_in_freed_pages_goes_too(tmp_path):
    with quick(tmp_path) as memory:
        memory.add(["knots", "sails"])
    path = tmp_path / "store" / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as careless:
        careless.execute("PRAGMA secure_delete = OFF")
        careless.execute("CREATE TABLE old (text TEXT)")
        careless.execute("INSERT INTO old VALUES (?)", (f"{WORD} " * 5000,))
        careless.commit()
        careless.execute("DROP TABLE old")
        careless.commit()
    shutil.copy(path, tmp_path / "store" / "catalog.sqlite3.schema-0002.backup")
    assert len(holders(tmp_path, WORD)) == 2
    with quick(tmp_path) as memory:
        report = memory.forget(pattern=WORD)
        assert (report.notes, report.backups) == (("nothing stored matches",), 1)
    assert holders(tmp_path, WORD) == []


def test_a_backup_that_a_migration_made_and_a_backup_of_a_backup_are_rewritten_too(tmp_path):
    with quick(tmp_path) as memory:
        fill(memory, tmp_path)
    as_written_by(tmp_path / "store" / "catalog.sqlite3", "0001")
    with quick(tmp_path) as memory:
        memory.backup(tmp_path / "one")
    with quick(tmp_path, **{"store.path": tmp_path / "one"}) as copy:
        copy.backup(tmp_path / "two")
    catalogs = {"store/catalog.sqlite3", "store/catalog.sqlite3.schema-0001.backup", "one/catalog.sqlite3"}
    assert {*catalogs, "two/catalog.sqlite3"} == {*holders(tmp_path, WORD, but=OWN)}
    with quick(tmp_path) as memory:
        assert forget_all(memory) == ()
        left = texts(memory)
    assert holders(tmp_path, *WORDS, but=OWN) == []
    old = tmp_path / "store" / "catalog.sqlite3.schema-0001.backup"
    for catalog in (old, tmp_path / "two" / "catalog.sqlite3"):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        (tmp_path / "again").mkdir()
        shutil.copy(catalog, tmp_path / "again" / "catalog.sqlite3")
        with quick(tmp_path, **{"store.path": tmp_path / "again"}) as memory:
            assert texts(memory) == left
            assert memory.search("test", mode="keyword", kind="commands")[0].text == "make test"
            assert bool(memory.store.catalog.value("SELECT count(*) FROM tombstones")) == (
                catalog != old
            )  # not in 0001


# -- whoever dies


FORGET = """
import sys
from pathlib import Path
from forget_cases import quick
with quick(Path(sys.argv[1])) as memory:
    report = memory.forget(pattern=sys.argv[2] or None, finish=True)
    print(report.unpurged)
"""


def test_a_forget_that_is_killed_anywhere_has_done_all_or_nothing_and_the_next_completes_it(tmp_path):
    with quick(tmp_path) as memory:
        fill(memory, tmp_path)
        memory.backup(tmp_path / "backup")
        everything = texts(memory)
    for point in ("commit.before", "purge.catalog"):
        child = start(FORGET, tmp_path, NOTE, OMNIMEMORY_FAULTS=f"{point}:kill")
        _, error = child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL, error
        with quick(tmp_path) as memory:
            gone = point != "commit.before"
            assert texts(memory) == [
                text for text in everything if not (gone and (NOTE in text or text == "another one"))
            ]
            assert bool(memory.search(NOTE, mode="keyword")) != gone
            assert bool(purges(memory.store.catalog)) == gone
    assert holders(tmp_path, NOTE)
    with quick(tmp_path) as memory:
        assert memory.forget(finish=True).unpurged == ()
        assert purges(memory.store.catalog) == []
    assert holders(tmp_path, NOTE) == []


# -- whoever looks on


HOLD = """
import sys
from pathlib import Path
from omnimemory.storage.lock import IndexLock
lock = IndexLock(Path(sys.argv[1]) / "store" / "index.lock")
print(lock.acquire(), flush=True)
sys.stdin.readline()
"""


def test_an_index_in_use_is_named_with_its_process_and_purged_when_that_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(purge, "WAIT_SECONDS", 0.1)
    with quick(tmp_path) as memory:
        memory.add(["knots", f"a note on {NOTE}"])
        old = tmp_path / "store" / "index" / "1"
        old.mkdir(parents=True)
        (old / "chroma.sqlite3").write_text(NOTE)  # what an index holds is not asked for here
        child = start(HOLD, tmp_path)
        assert child.stdout.readline() == "True\n"
        (problem,) = memory.forget(pattern=NOTE).unpurged
        assert (problem.place, problem.busy) == ("index", True)
        assert f"process {child.pid}" in problem.reason
        assert texts(memory) == ["knots"]
        assert memory.forget(finish=True).unpurged == (problem,)
        finish(child, "\n")
        assert memory.forget(finish=True).unpurged == ()
        assert holders(tmp_path, NOTE) == []


READ = """
import sys, sqlite3
from pathlib import Path
reader = sqlite3.connect(Path(sys.argv[1]) / "store" / "catalog.sqlite3", isolation_level=None)
reader.execute("BEGIN")
print(len(reader.execute("SELECT text FROM chunks").fetchall()), flush=True)
sys.stdin.readline()
"""


def test_old_pages_that_a_reader_keeps_alive_are_told_and_purged_when_it_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(purge, "WAIT_SECONDS", 0.1)
    with quick(tmp_path) as memory:
        memory.add(["knots", f"a note on {NOTE}"])
        child = start(READ, tmp_path)
        assert child.stdout.readline() == "2\n"
        (problem,) = memory.forget(pattern=NOTE).unpurged
        assert (problem.place, problem.busy) == ("catalog", True)
        assert holders(tmp_path, NOTE)
        finish(child, "\n")
        assert memory.forget(finish=True).unpurged == ()
        assert holders(tmp_path, NOTE) == []


def test_a_backup_out_of_reach_is_named_and_purged_once_it_is_back_or_off_the_list(tmp_path):
    away = tmp_path / "away"
    with quick(tmp_path) as memory:
        memory.add(["knots", f"a note on {NOTE}"])
        for name in ("first", "second"):
            memory.backup(tmp_path / name)
        away.mkdir()
        for name in ("first", "second"):
            (tmp_path / name).rename(away / name)
        report = memory.forget(pattern=NOTE)
        assert [(problem.place, problem.path) for problem in report.unpurged] == [
            ("backup", str(tmp_path / "first")),
            ("backup", str(tmp_path / "second")),
        ]
        (away / "first").rename(tmp_path / "first")
        assert [problem.path for problem in memory.forget(finish=True).unpurged] == [str(tmp_path / "second")]
        assert holders(tmp_path, NOTE, but=["away"]) == []
        listed = tmp_path / "store" / LIST
        listed.write_text(
            "".join(line for line in listed.read_text().splitlines(keepends=True) if "second" not in line)
        )
        assert memory.forget(finish=True).unpurged == ()
        assert purges(memory.store.catalog) == []


def test_copies_that_a_killed_process_or_a_repair_left_go_too(tmp_path):
    store = tmp_path / "store"
    with quick(tmp_path) as memory:
        memory.add(f"a note on {NOTE}")
        for name in (
            "catalog.sqlite3.0a1b2c3d.migrating",
            "catalog.sqlite3.0a1b2c3d.new-wal",
            "catalog.sqlite3.damaged",
        ):
            (store / name).write_text(NOTE)
        assert memory.forget(pattern=NOTE).unpurged == ()
        assert holders(tmp_path, NOTE) == []


def test_a_cache_that_is_switched_off_now_is_purged_all_the_same(tmp_path):
    with quick(tmp_path) as memory:
        memory.add(f"a note on {NOTE}")
        vector = memory.embeddings.embed_text(f"a note on {NOTE}").tobytes()[64:192]
        assert files_with(tmp_path / "cache", [[vector]]) != [[]]
    with quick(tmp_path, **{"cache.enabled": False}) as memory:
        memory.forget(pattern=NOTE)
    assert files_with(tmp_path, [[vector]]) == [[]]


def test_everything_stays_private(tmp_path):
    before = os.umask(0o022)
    try:
        with quick(tmp_path) as memory:
            memory.add(f"a note on {NOTE}")
            memory.backup(tmp_path / "backup")
            memory.forget(pattern=NOTE)
    finally:
        os.umask(before)
    files = [path for folder in ("store", "cache", "backup") for path in (tmp_path / folder).rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in files if path.is_file()} == {0o600}
