"""The store: what is committed is found, by whoever answers, and survives whatever happens to the index."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from store_cases import (
    DIM,
    SPACE,
    add_chunks,
    add_rows,
    chunk,
    delete_chunks,
    finish,
    names_of,
    opened,
    run,
    start,
    unit_vectors,
    wait_until,
)

from omnimemory.errors import ConfigError, SpaceMismatchError, StoreBusyError, StoreError
from omnimemory.storage.chroma_core import stored_description
from omnimemory.storage.drain import DrainOptions, StoreOptions
from omnimemory.storage.manifest import is_clean
from omnimemory.storage.opened_store import open_store


def digest(path):
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


QUERIES = unit_vectors(8, seed=77)

READ = """
import chromadb, json, sys
from pathlib import Path
(folder,) = [path for path in (Path(sys.argv[1]) / "index").iterdir()]
with chromadb.PersistentClient(str(folder)) as client:
    found = client.get_collection("documents", embedding_function=None)
    rows = found.get(include=["documents", "metadatas", "embeddings"])
print(json.dumps([[*row[:3], list(map(float, row[3]))] for row in sorted(
    zip(rows["ids"], rows["documents"], rows["metadatas"], rows["embeddings"]), key=lambda row: row[0])]))
"""


def chroma_holds(path):
    """Return {id: (document, metadata, vector)} as any Chroma client sees it, from another process."""
    return {public: tuple(rest) for public, *rest in json.loads(run(READ, path))}


def catalog_holds(store):
    found = {}
    table = store.documents
    after = 0
    while batch := table.payload(after, 1000):
        found.update(
            zip(batch.ids, zip(batch.texts, batch.metadatas, batch.vectors.tolist(), strict=True), strict=True)
        )
        after = batch.row
    return found


def assert_same(chroma, catalog):
    assert chroma.keys() == catalog.keys()
    for public, (text, metadata, vector) in catalog.items():
        assert chroma[public][:2] == (text, metadata)
        assert chroma[public][2] == pytest.approx(vector, abs=1e-6)


def answers(store, k=10):
    """Return what the store answers to all queries, and by whom."""
    found = [store.nearest("documents", query, k) for query in QUERIES]
    return [(one.rows, one.scores) for one in found], {one.answered_by for one in found}


def exactly(store, k=10):
    """Return the same as :func:`answers`, from an exact search of the whole collection."""
    everything = {"no such key": {"$ne": 0}}
    found = [store.nearest("documents", query, k, everything) for query in QUERIES]
    assert {one.answered_by for one in found} == {"exact"}
    return [(one.rows, one.scores) for one in found]


# -- committed, drained, found


def test_what_is_committed_is_drained_to_a_folder_that_any_chroma_client_reads(tmp_path):
    before = os.umask(0o022)
    try:
        with opened(tmp_path / "store", exact_rows=0) as store:
            add_rows(store, 600)
            store.committed()  # enough for a child to start
            add_chunks(store, [chunk("last", {"tags": ["a", "b"], "year": 2026})], unit_vectors(1, seed=5))
            store.committed()
            assert store.drain() is None
            assert store.generations.waiting() == 0
            # A second drain finds nothing to do, and does not even start a child.
            assert store.drain() is None
            assert store._session._writer._drainer is None
            held = catalog_holds(store)
            assert len(held) == 601
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]}
    assert modes == {path: (0o700 if path.is_dir() else 0o600) for path in modes}
    assert any(path.name == "chroma.sqlite3" for path in modes)
    assert_same(chroma_holds(tmp_path / "store"), held)


def test_the_index_and_the_exact_search_give_the_same_hits_whatever_is_pending(tmp_path):
    before = os.umask(0o022)
    try:
        with opened(tmp_path / "store", exact_rows=0) as store:
            add_rows(store, 400)
            twins = np.repeat(QUERIES[:1], 5, axis=0)
            add_chunks(store, [chunk(f"twin{n}") for n in range(5)], twins)
            assert store.warm() is None
            with store._session._held.lock:  # the keeper must not drain what this test wants to be pending
                assert answers(store) == (exactly(store), {"chroma"})
                assert answers(store, k=1000) == (exactly(store, k=1000), {"chroma"})
                add_rows(store, 30, "tail", seed=9)
                assert answers(store) == (exactly(store), {"chroma"})
                found = store.nearest("documents", unit_vectors(30, seed=9)[4], 3)
                assert names_of(store, found)[0] == "tail4"
                assert "30 newer vectors exactly" in found.reason
                nearest = names_of(store, store.nearest("documents", QUERIES[1], 3))
                delete_chunks(store, nearest)
                assert answers(store) == (exactly(store), {"chroma"})
                assert not set(nearest) & set(names_of(store, store.nearest("documents", QUERIES[1], 10)))
                # More dead rows around a query than the index was asked to spare: the exact search steps in.
                delete_chunks(store, names_of(store, store.nearest("documents", QUERIES[2], 60)))
                assert store.nearest("documents", QUERIES[2], 10).answered_by == "exact"
                assert answers(store)[0] == exactly(store)
                # One that was deleted comes back under its old id, with another vector.
                add_chunks(store, [chunk(nearest[0])], QUERIES[3:4])
                assert names_of(store, store.nearest("documents", QUERIES[3], 1)) == [nearest[0]]
            # The files as they are while the index is open.
            assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "store").iterdir())
            assert store.drain() is None
            assert answers(store) == (exactly(store), {"chroma"})
            held = catalog_holds(store)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]}
    assert modes == {path: (0o700 if path.is_dir() else 0o600) for path in modes}
    assert_same(chroma_holds(tmp_path / "store"), held)


def test_new_metadata_reaches_the_index_and_filters_see_it_at_once(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 40)
        assert store.warm() is None
        owner = store.catalog.value("SELECT source_id FROM chunks LIMIT 1")
        with store.catalog.transaction() as sql:
            stored = store.documents.stored(owner)
            store.documents.move(sql, [(stored["row7"], chunk("row7", {"topic": "new"}))])
        assert names_of(store, store.nearest("documents", QUERIES[0], 9, {"topic": "new"})) == ["row7"]
        assert store.drain() is None
        held = catalog_holds(store)
        assert held["row7"][1] == {"source": "file:notes", "topic": "new"}
    assert_same(chroma_holds(tmp_path / "store"), held)


# -- the options


def test_small_collections_are_answered_exactly_and_large_ones_by_the_index(tmp_path):
    with opened(tmp_path / "store", exact_rows=50) as store:
        add_rows(store, 50)
        assert store.warm() is None
        found = store.nearest("documents", QUERIES[0], 3)
        assert (found.answered_by, found.reason) == ("exact", "50 vectors, exact up to 50")
        add_rows(store, 1, "one more")
        assert store.nearest("documents", QUERIES[0], 3).answered_by == "chroma"
        filtered = store.nearest("documents", QUERIES[0], 3, {"number": {"$lt": 10}})
        assert (filtered.answered_by, filtered.reason) == ("exact", "filtered: 11 of 51 match")


def test_without_an_index_nothing_of_it_is_made(tmp_path):
    with opened(tmp_path / "store", index=False, exact_rows=0) as store:
        add_rows(store, 600)
        store.committed()
        assert store.drain() is None
        assert store.warm() == "the index is switched off (index.enabled)"
        found = store.nearest("documents", QUERIES[0], 3)
        assert (found.answered_by, found.reason) == ("exact", "the index is switched off (index.enabled)")
        assert store.status()["index"] == {
            "enabled": False, "generation": None, "waiting": 0, "open": False, "holder": None,
        }  # fmt: skip
        with pytest.raises(ConfigError, match="switched off"):
            store.rebuild()
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["catalog.sqlite3", "catalog.sqlite3.seal"]


def test_what_the_index_is_made_of_is_what_the_options_say(tmp_path):
    options = DrainOptions(batch_size=7, ef_search=123, documents=False)
    with opened(tmp_path / "store", exact_rows=0, drain=options) as store:
        add_rows(store, 20)
        marks = []
        mark = "UPDATE OF row ON drained BEGIN INSERT INTO marks VALUES (new.row); END"
        with store.catalog.transaction() as sql:
            sql.execute("CREATE TABLE marks (row INTEGER)")
            sql.execute(f"CREATE TRIGGER updated AFTER {mark}")
            sql.execute(f"CREATE TRIGGER made AFTER {mark.replace('UPDATE OF row', 'INSERT')}")
        assert store.warm() is None
        marks = [row for (row,) in store.catalog.rows("SELECT row FROM marks")]
        assert marks == [7, 14, 20]
        handle = store._session._held._index._collection(store.documents.collection)
        assert stored_description(handle)[0]["hnsw"]["ef_search"] == 123
        assert set(handle.get()["documents"]) == {None}


def test_an_idle_index_is_closed_and_its_lock_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr("omnimemory.storage.index_session._KEEP_SECONDS", 0.02)
    with opened(tmp_path / "store", exact_rows=0, idle_seconds=0.0) as store:
        add_rows(store, 20)
        assert store.warm() is None
        assert wait_until(lambda: store.status()["index"]["holder"] is None)
        assert not store.status()["index"]["open"]
    with opened(tmp_path / "store", exact_rows=0, idle_seconds=1000.0) as store:
        assert store.warm() is None
        keeper = store._session._keeper
        keeper.join(0.5)  # it looks many times meanwhile, and would end if it closed the index
        assert keeper.is_alive()
        assert store.status()["index"]["open"]


# -- opening the index


FIRST_SEARCHES = """
import sys
from pathlib import Path
from store_cases import *
with opened(Path(sys.argv[1]), exact_rows=0) as store:
    query = unit_vectors(1, seed=3)[0]
    first = store.nearest("documents", query, 3)
    print(first.answered_by, "chromadb_rust_bindings" in sys.modules, first.reason)
    print(store.nearest("documents", query, 3).reason)  # one vector is one search, as when both kinds are asked
    second = store.nearest("documents", query.copy(), 3)
    print(second.answered_by, second.reason)
    assert wait_until(lambda: store.nearest("documents", query.copy(), 3).answered_by == "chroma")
    print(store.nearest("documents", query.copy(), 3).rows == first.rows == second.rows)
"""


def test_no_search_waits_for_the_index_and_the_first_does_not_even_open_it(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 100)
        assert store.warm() is None
    assert run(FIRST_SEARCHES, tmp_path / "store").splitlines() == [
        "exact False the index is not open; the first search does not wait for it",
        "the index is not open; the first search does not wait for it",
        "exact the index is being opened",
        "True",
    ]


def test_a_search_answers_while_another_thread_has_the_index_for_long(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        vectors = add_rows(store, 100)
        assert store.warm() is None
        taken, free = threading.Event(), threading.Event()

        def occupy():
            with store._session._held.lock:
                taken.set()
                free.wait(60)

        thread = threading.Thread(target=occupy)
        thread.start()
        assert taken.wait(30)
        found = store.nearest("documents", vectors[5], 1)
        store.committed()
        free.set()
        thread.join()
        assert (names_of(store, found), found.answered_by, found.reason) == (
            ["row5"],
            "exact",
            "the index is being written",
        )


# -- several processes


HOLD = """
import sys
from pathlib import Path
from store_cases import *
with opened(Path(sys.argv[1]), exact_rows=0) as store:
    print(store.warm(), flush=True)
    sys.stdin.readline()
"""


def test_while_another_process_holds_the_index_searches_are_exact_and_it_drains_what_is_committed(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 100)
        holder = start(HOLD, tmp_path / "store")
        assert holder.stdout.readline() == "None\n"
        assert f"in use by process {holder.pid}" in store.warm()
        assert store.status()["index"]["holder"] == holder.pid
        with pytest.raises(StoreBusyError, match=f"process {holder.pid}"):
            store.rebuild()
        add_rows(store, 700, "more", seed=2)
        store.committed()
        found = store.nearest("documents", unit_vectors(700, seed=2)[30], 1)
        assert (names_of(store, found), found.answered_by) == (["more30"], "exact")
        assert store.drain() is None
        assert wait_until(lambda: store.generations.waiting() == 0)
        finish(holder, "\n")
        assert store.warm() is None
        assert answers(store) == (exactly(store), {"chroma"})


@pytest.mark.slow
def test_a_drainer_that_is_killed_midway_loses_and_doubles_nothing(tmp_path):
    already = 10
    with opened(tmp_path / "store", exact_rows=0, drain=DrainOptions(batch_size=5)) as store:
        add_rows(store, already, "old", seed=6)
        assert store.drain() is None
        vectors = add_rows(store, 700)
        store.committed()
        taken = "SELECT coalesce(max(row), 0) FROM drained"
        assert wait_until(lambda: store.catalog.value(taken) > already)
        store._session._writer._drainer._process.send_signal(signal.SIGKILL)
        assert "-9" in store.drain()
        assert 0 < store.catalog.value(taken) - already < 700
        assert store.generations.waiting() > 0
        assert names_of(store, store.nearest("documents", vectors[699], 1)) == ["row699"]
    with opened(tmp_path / "store", exact_rows=0) as store:
        delete_chunks(store, ["row5", "row695"])
        assert store.drain() is None
        assert store.generations.waiting() == 0
        held = catalog_holds(store)
    assert len(held) == already + 698
    assert_same(chroma_holds(tmp_path / "store"), held)


def test_a_process_that_is_killed_while_it_has_the_index_open_leaves_a_store_that_heals(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 100)
        holder = start(HOLD, tmp_path / "store")
        assert holder.stdout.readline() == "None\n"
        holder.kill()
        holder.communicate()
        assert store.warm() is None  # questioned in a child, found sound
        assert answers(store) == (exactly(store), {"chroma"})
        assert store.generations.active() == 1


@pytest.mark.parametrize("gone", [1, 7, 16, 17])
def test_the_place_of_what_is_gone_but_still_in_the_index_goes_to_the_next(tmp_path, gone):
    with opened(tmp_path / "store", exact_rows=0) as store:
        vectors = add_rows(store, 300)
        assert store.warm() is None
        nearest = store.nearest("documents", vectors[5], 40).rows
        with store.catalog.transaction() as sql:  # sixteen more than asked for come from the index; then all are read
            store.documents.delete(sql, nearest[:gone])
        assert store.nearest("documents", vectors[5], 10).rows == nearest[gone : gone + 10]


@pytest.mark.slow
def test_an_index_that_fails_while_it_is_open_is_made_anew_and_answers_stay_right(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        vectors = add_rows(store, 300)
        assert store.warm() is None
        # The index claims distances to other vectors than the catalog's: that is what silent damage looks like.
        handle = store._session._held._index._collection(store.documents.collection)
        handle.delete(ids=[f"row{n}" for n in range(300)])
        handle.add(ids=[f"row{n}" for n in range(300)], embeddings=unit_vectors(300, seed=4))
        found = store.nearest("documents", vectors[5], 3)
        assert (names_of(store, found)[0], found.answered_by) == ("row5", "exact")
        assert "wrong distance" in found.reason
        assert not store.status()["index"]["open"]
        first = store.generations.active()
        add_rows(store, 1, "new", seed=8)
        assert store.drain() is None
        assert store.generations.active() != first
        assert store.warm() is None
        assert answers(store) == (exactly(store), {"chroma"})
        held = catalog_holds(store)
    assert_same(chroma_holds(tmp_path / "store"), held)


@pytest.mark.slow
def test_an_index_that_only_looks_sound_is_made_anew_by_the_drain_that_stumbles_over_it(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 20)
        assert store.warm() is None
    folder = tmp_path / "store" / "index" / "1"
    connection = sqlite3.connect(folder / "chroma.sqlite3")
    connection.execute("""UPDATE collections SET schema_str = replace(schema_str, '"legacy"', '"known"')""")
    connection.commit()
    connection.close()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["chroma.sqlite3"] = [
        (folder / "chroma.sqlite3").stat().st_size,
        digest(folder / "chroma.sqlite3"),
    ]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert is_clean(folder)
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 1, "new", seed=1)
        assert store.drain() is None
        assert store.generations.active() == 2
        held = catalog_holds(store)
    assert_same(chroma_holds(tmp_path / "store"), held)


def test_an_index_whose_folder_was_deleted_is_made_anew(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 50)
        assert store.warm() is None
    shutil.rmtree(tmp_path / "store" / "index")
    with opened(tmp_path / "store", exact_rows=0) as store:
        assert store.warm() is None
        assert answers(store) == (exactly(store), {"chroma"})


def test_a_drain_that_fails_says_why_and_a_later_one_succeeds(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        vectors = add_rows(store, 20)
        (tmp_path / "store" / "index").touch()
        assert "is not a folder" in store.drain()
        assert names_of(store, store.nearest("documents", vectors[7], 1)) == ["row7"]
        (tmp_path / "store" / "index").unlink()
        assert store.drain() is None
        assert store.generations.waiting() == 0


FULL_DISK = """
import resource, sys
from pathlib import Path
from store_cases import *
with opened(Path(sys.argv[1]), exact_rows=0) as store:
    add_rows(store, 900)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # the drainer inherits it
    print(store.drain())
    print(store.nearest("documents", unit_vectors(900)[5], 1).answered_by, store.generations.waiting())
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_drain_with_its_reason_and_nothing_is_lost(tmp_path):
    reason, answer = run(FULL_DISK, tmp_path / "store").splitlines()
    assert "failed" in reason or "full" in reason
    assert answer == "exact 900"
    with opened(tmp_path / "store", exact_rows=0) as store:
        assert store.drain() is None
        assert store.generations.waiting() == 0
        held = catalog_holds(store)
    assert_same(chroma_holds(tmp_path / "store"), held)


@pytest.mark.slow
def test_a_worn_index_is_made_anew_by_the_drain(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 5200)
        assert store.drain() is None
        first = store.generations.active()
        delete_chunks(store, [f"row{n}" for n in range(1100)])
        assert store.drain() is None
        assert store.generations.active() != first
        assert store.generations.tombstones() == [(0, 4100)]
        assert [path.name for path in (tmp_path / "store" / "index").iterdir()] == [str(store.generations.active())]


def test_a_rebuild_makes_the_index_anew_from_the_catalog_alone(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 50)
        assert store.warm() is None
        first = store.generations.active()
        second = store.rebuild()
        assert store.generations.active() == second != first
        assert store.status()["index"] == {
            "enabled": True, "generation": second, "waiting": 0, "open": False, "holder": None,
        }  # fmt: skip
        assert store.warm() is None
        assert answers(store) == (exactly(store), {"chroma"})


def test_a_rebuild_first_finishes_the_child_that_is_draining(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 600)
        store.committed()
        child = store._session._writer._drainer._process
        assert wait_until(lambda: store.status()["index"]["holder"] == child.pid)
        assert store.rebuild() == store.generations.active()
        assert store.generations.waiting() == 0


# -- one store a directory and process


def test_a_loop_of_links_is_named_as_what_is_wrong(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StoreError, match="cannot be made"), opened(tmp_path / "a"):
        pass


def test_a_directory_is_one_store_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "store")
    spellings = ["store", tmp_path / "store", "link", "~/store", "./x/../store"]
    held = [open_store(Path(path), StoreOptions(index=False), **SPACE) for path in spellings]
    assert {id(one.store) for one in held} == {id(held[0].store)}
    store = held[0].store
    for one in held[:-1]:
        one.close()
        one.close()
    assert store.documents.count() == 0
    held[-1].close()
    with pytest.raises(StoreError, match="was closed"):
        store.documents.count()
    with opened(tmp_path / "store", index=False) as again:
        assert again is not store
        assert again.documents.count() == 0


def test_threads_that_open_and_close_at_once_share_stores_without_harm(tmp_path):
    trouble = []

    def use(number):
        try:
            for n in range(15):
                with opened(tmp_path / "store", index=False) as store:
                    add_rows(store, 1, f"t{number}-{n}-", seed=n)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            trouble.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    with opened(tmp_path / "store", index=False) as store:
        assert store.documents.count() == 60


def test_a_store_of_another_space_is_refused_and_nothing_is_written(tmp_path):
    other = {"fingerprint": "other", "model": "another model", "dim": DIM}
    with opened(tmp_path / "store", index=False) as store:
        add_rows(store, 1)
        with pytest.raises(SpaceMismatchError, match=r"vectors of random, not of another model.*--store"):
            open_store(tmp_path / "store", StoreOptions(), **other)
        assert store.documents.count() == 1
    before = (tmp_path / "store" / "catalog.sqlite3").read_bytes()
    with pytest.raises(SpaceMismatchError, match="vectors of random"):
        open_store(tmp_path / "store", StoreOptions(), **other)
    assert (tmp_path / "store" / "catalog.sqlite3").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["catalog.sqlite3", "catalog.sqlite3.seal"]


def test_a_store_whose_catalog_is_gone_is_not_silently_begun_anew(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 10)
        assert store.warm() is None
    (tmp_path / "store" / "catalog.sqlite3").unlink()
    before = sorted(path for path in (tmp_path / "store").rglob("*"))
    with pytest.raises(StoreError, match=r"its catalog is gone.*restore it from a backup"), opened(tmp_path / "store"):
        pytest.fail("an empty store was made")
    assert sorted(path for path in (tmp_path / "store").rglob("*")) == before


def test_a_file_where_the_store_should_be_is_an_error_that_names_the_fix(tmp_path):
    (tmp_path / "store").touch()
    with pytest.raises(StoreError, match="--store"), opened(tmp_path / "store"):
        pytest.fail("a file is no store")


FORK = """
import os, sys
from pathlib import Path
from omnimemory.errors import StoreError
from store_cases import *
with opened(Path(sys.argv[1]), index=False) as store:
    vectors = add_rows(store, 5)
    store.nearest("documents", vectors[0], 1)
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        for use in (lambda: store.nearest("documents", vectors[0], 1), store.documents.count, store.warm, store.drain,
                    store.committed, store.rebuild, store.status, lambda: add_rows(store, 1, "no")):
            try:
                use()
                print("no error", flush=True)
            except StoreError as error:
                assert "after fork" in str(error), error
        store.close()
        with opened(Path(sys.argv[1]), index=False) as own:
            assert own is not store
            add_rows(own, 3, "child", seed=1)
            print(own.documents.count(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    add_rows(store, 2, "parent", seed=2)
    print(store.documents.count())
"""


def test_a_forked_child_must_open_the_store_anew(tmp_path):
    assert run(FORK, tmp_path / "store").splitlines() == ["8", "10"]


def test_a_store_forked_by_multiprocessing_while_it_drains_still_finishes(tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom store_cases import *\n"
        "with opened(Path(sys.argv[1]), exact_rows=0) as store:\n"
        "    add_rows(store, 600)\n    store.committed()\n    ready = os.pipe()\n"
        "    if os.fork() == 0:\n        store.close()\n        os.read(ready[0], 1)\n        os._exit(0)\n"
        "    # The child keeps the drainer's pipe open: it must be told to finish in words.\n"
        "    print(store.drain(), store.generations.waiting())\n    os.write(ready[1], b'x')\n    print(os.wait()[1])\n"
    )
    assert run(script, tmp_path / "store").split() == ["None", "0", "0"]


# -- the end of it


def test_closing_drains_what_a_child_was_started_for(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 600)
        store.committed()
    with opened(tmp_path / "store") as store:
        assert store.generations.waiting() == 0
        assert store.status()["index"]["holder"] is None


def test_the_status_tells_what_there_is(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_rows(store, 5)
        assert store.warm() is None
        add_rows(store, 2, "more", seed=3, source="file:other")
        with store.catalog.transaction() as sql:
            store.documents.add(sql, 1, [chunk("waiting")], pending=True)
        status = store.status()
        assert status["documents"] == {"sources": 2, "chunks": 8, "pending": 1}
        assert status["commands"] == {"sources": 0, "commands": 0, "events": 0, "pending": 0}
        assert status["index"] | {"waiting": 0} == {
            "enabled": True, "generation": 1, "waiting": 0, "open": True, "holder": os.getpid(),
        }  # fmt: skip
        assert (status["model"], status["dim"], status["path"]) == ("random", DIM, str(tmp_path / "store"))
        assert status["bytes"] >= sum(f.stat().st_size for f in (tmp_path / "store").glob("catalog.sqlite3"))
        json.dumps(status)


QUIET = """
import sys
from pathlib import Path
from store_cases import *
with opened(Path(sys.argv[1]), exact_rows=0) as store:
    add_rows(store, 600)
    store.committed()
    assert store.drain() is None
    assert store.warm() is None
    assert store.nearest("documents", unit_vectors(1)[0], 3).answered_by == "chroma"
    print(store.rebuild() > 1)
"""


@pytest.mark.slow
def test_nothing_is_left_open_and_nothing_warns(tmp_path):
    child = start(QUIET, tmp_path / "store", PYTHONWARNINGS="error", PYTHONDEVMODE="1")
    out, err = child.communicate(timeout=100)
    assert (out, err, child.returncode) == ("True\n", "", 0)
