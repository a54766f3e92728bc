"""Chroma by its core or by its own client: the same folder, the same rows, the same answers."""

import json
import sqlite3

import pytest
from store_cases import DIM, run, unit_vectors

from omnimemory.storage import chroma_core
from omnimemory.storage.catalog import Collection
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.items import Payload

COLLECTION = Collection(1, "documents", DIM, "print", "model")
WAYS = ["core", "client"]


@pytest.fixture
def by(monkeypatch):
    """A function that opens an index in one of the two ways."""

    def opened(way, directory):
        with monkeypatch.context() as changed:
            if way == "client":
                changed.setitem(chroma_core._TRIED, "add", "other things, as in a chromadb that nobody has tried")
            index = ChromaIndex(directory)
        assert type(index._client).__module__.startswith("chromadb" if way == "client" else "omnimemory")
        return index

    return opened


def payload(first, number):
    metadata = [
        {"source": "ü", "n": place, "share": place / 7, "yes": True, "tags": ["a", "b"]} for place in range(number)
    ]
    texts = [f"line {place}\nof «text»" for place in range(number)]
    names = [f"{first}{place}" for place in range(number)]
    return Payload(list(range(number)), names, texts, metadata, unit_vectors(number, seed=number), 1)


def said(index):
    """Return what an index answers to everything it can be asked."""
    ids = [*(f"a{place}" for place in range(30)), *(f"b{place}" for place in range(20)), "none"]
    handle = index._collection(COLLECTION)
    rows = handle.get(ids=ids, include=["documents", "metadatas"])
    kept = sorted(zip(rows["ids"], rows["documents"], [sorted(row.items()) for row in rows["metadatas"]], strict=True))
    vectors = {public: vector.tolist() for public, vector in index.vectors(COLLECTION, ids).items()}
    return kept, vectors, index.count(COLLECTION), index.query(COLLECTION, unit_vectors(30, seed=30)[7], 40)


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_what_one_way_wrote_the_other_reads_and_changes(by, tmp_path, first, second):
    index = by(first, tmp_path / "1")
    index.add(COLLECTION, payload("a", 30))
    index.add(COLLECTION, payload("a", 30))  # ids that are there are left alone
    assert index.delete(COLLECTION, ["a3", "none"]) == 1
    index.update(COLLECTION, {"a4": {"only": 1}, "none": {"x": 1}})
    before = said(index)
    index.close()
    index = by(second, tmp_path / "1")
    assert said(index) == before
    assert (before[2], before[3][0][0], len(before[0])) == (29, "a7", 29)
    assert next(row for row in before[0] if row[0] == "a4")[2] == [("only", 1)]
    index.add(COLLECTION, payload("b", 20))
    assert index.delete(COLLECTION, [f"a{place}" for place in range(30)]) == 29
    index.close()
    index = by(first, tmp_path / "1")
    kept, vectors, count, _ = said(index)
    assert ([row[0] for row in kept], count) == (sorted(f"b{place}" for place in range(20)), 20)
    assert vectors["b5"] == pytest.approx(unit_vectors(20, seed=20)[5].tolist(), abs=1e-7)
    index.close()


def test_both_ways_tell_chroma_the_same_of_a_collection(by, tmp_path):
    described = {}
    for way in WAYS:
        index = by(way, tmp_path / way)
        index.count(COLLECTION)
        index.close()
        connection = sqlite3.connect(tmp_path / way / "chroma.sqlite3")
        *collection, schema = connection.execute(
            "SELECT name, dimension, config_json_str, schema_str FROM collections"
        ).fetchone()
        described[way] = [
            json.loads(schema),  # whose keys come in any order
            collection,
            connection.execute("SELECT key, str_value, int_value FROM collection_metadata ORDER BY key").fetchall(),
            connection.execute("SELECT type, scope FROM segments ORDER BY type").fetchall(),
            connection.execute("SELECT * FROM databases").fetchall()[0][1:],
        ]
        connection.close()
    assert described["core"] == described["client"]
    vectors = described["core"][0]["keys"]["#embedding"]["float_list"]["vector_index"]["config"]
    assert vectors["hnsw"]["ef_search"] == 200


WITHOUT_CLIENT = """
import sys
from pathlib import Path
from store_cases import *
with opened(Path(sys.argv[1]), exact_rows=0) as store:
    add_rows(store, 30)
    assert store.drain() is None
    assert store.warm() is None
    print(store.nearest("documents", unit_vectors(30)[3], 1).answered_by)
    print(store.rebuild(), "chromadb" in sys.modules, "chromadb_rust_bindings" in sys.modules)
"""


def test_an_index_is_written_asked_and_rebuilt_without_importing_the_client(tmp_path):
    answered, end = run(WITHOUT_CLIENT, tmp_path / "store").splitlines()
    assert answered == "chroma"
    assert end.split()[1:] == ["False", "True"]
