"""The Chroma index: derived, trusted only while its manifest fits, questioned in a child, rebuilt from the catalog."""

import json
import os
import shutil
import sqlite3
import warnings

import numpy as np
import pytest
from store_cases import DIM, add_chunks, add_rows, chunk, delete_chunks, opened, run, unit_vectors

from omnimemory.errors import IndexDamagedError, StoreError
from omnimemory.storage.catalog import Collection
from omnimemory.storage.drain import DrainOptions, drain
from omnimemory.storage.generations import Generations
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.items import Payload
from omnimemory.storage.manifest import is_clean
from omnimemory.storage.questioning import trusted
from omnimemory.storage.rebuild import open_index, rebuild, worn
from omnimemory.storage.vectors import insert_vectors

COLLECTION = Collection(1, "documents", DIM, "print", "model")
OPTIONS = DrainOptions()


def payload(names, seed=0, metadata=None):
    vectors = unit_vectors(len(names), seed)
    items = list(range(len(names)))
    return Payload(
        items, list(names), [f"text {name}" for name in names], [metadata or {"source": "s"} for _ in names], vectors, 1
    )


@pytest.fixture
def index(tmp_path):
    made = ChromaIndex(tmp_path / "index" / "1")
    yield made
    made.abandon()


@pytest.fixture
def store(tmp_path):
    """A store whose index is not opened by itself: these tests drain with their own hands."""
    with opened(tmp_path / "store", index=False) as store:
        yield store


def chroma_rows(directory, name="documents"):
    """Return everything in a collection, read by another process with plain chromadb."""
    script = (
        "import chromadb, json, sys\n"
        "with chromadb.PersistentClient(sys.argv[1]) as client:\n"
        "    found = client.get_collection(sys.argv[2], embedding_function=None)\n"
        "    rows = found.get(include=['documents', 'metadatas', 'embeddings'])\n"
        "    print(json.dumps({'ids': rows['ids'], 'documents': rows['documents'], 'metadatas': rows['metadatas'],\n"
        "        'vectors': rows['embeddings'].tolist(), 'hnsw': found.configuration_json['hnsw'],\n"
        "        'metadata': found.metadata}))\n"
    )
    return json.loads(run(script, directory, name))


def test_rows_come_back_near_first_with_their_cosines(index):
    index.add(COLLECTION, payload(["a", "b", "c"]))
    vectors = unit_vectors(3)
    ids, cosines = index.query(COLLECTION, vectors[1], 3)
    assert ids[0] == "b"
    assert dict(zip(ids, cosines, strict=True)) == pytest.approx(
        dict(zip("abc", vectors @ vectors[1], strict=True)), abs=1e-5
    )
    assert index.query(COLLECTION, vectors[1], 50)[0][0] == "b"
    assert index.count(COLLECTION) == 3
    assert index.vectors(COLLECTION, ["c", "none"])["c"] == pytest.approx(vectors[2], abs=1e-6)


def test_adding_twice_changes_nothing_and_deleting_tells_what_was_there(index):
    index.add(COLLECTION, payload(["a", "b"]))
    index.add(COLLECTION, payload(["a", "b", "c"]))
    assert index.count(COLLECTION) == 3
    assert index.delete(COLLECTION, ["a", "unknown"]) == 1
    assert index.delete(COLLECTION, ["a"]) == 0
    assert index.delete(COLLECTION, []) == 0
    assert index.count(COLLECTION) == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"source": "s", "old": 1}, {"source": "s"}, id="a key goes"),
        pytest.param({"source": "s"}, {"source": "t", "new": True}, id="a key comes"),
        pytest.param({"source": "s", "a": 1}, {"source": "s", "a": "text"}, id="another kind"),
        pytest.param({"source": "s", "a": "text"}, {"source": "s", "a": [1, 2]}, id="a list comes"),
        pytest.param({"source": "s", "a": [1, 2]}, {"source": "s", "a": 5}, id="a list becomes a number"),
        pytest.param({"source": "s", "a": [1, 2]}, {"source": "s"}, id="a list goes"),
        pytest.param({"source": "s", "a": ["x"]}, {"source": "s", "a": ["y", "z"]}, id="another list"),
    ],
)
def test_an_update_replaces_metadata_and_leaves_the_vector(index, before, after):
    index.add(COLLECTION, payload(["a", "b"], metadata=before))
    index.update(COLLECTION, {"a": after, "unknown": after})
    index.update(COLLECTION, {})
    rows = index._collection(COLLECTION).get(include=["metadatas"])
    assert dict(zip(rows["ids"], rows["metadatas"], strict=True)) == {"a": after, "b": before}
    assert index.query(COLLECTION, unit_vectors(2)[0], 1)[0] == ["a"]


def test_more_rows_than_chroma_takes_at_once_are_added_deleted_and_updated(index):
    index._limit = 10
    names = [f"n{n}" for n in range(35)]
    index.add(COLLECTION, payload(names))
    index.update(COLLECTION, {name: {"source": "new"} for name in names})
    assert {row["source"] for row in index._collection(COLLECTION).get()["metadatas"]} == {"new"}
    assert index.delete(COLLECTION, names[:25]) == 25
    assert index.count(COLLECTION) == 10


def test_a_clean_close_makes_the_folder_trusted_and_private(tmp_path):
    before = os.umask(0o022)
    try:
        index = ChromaIndex(tmp_path / "index" / "7")
        index.add(COLLECTION, payload(["a", "b"]))
        assert not is_clean(index.directory)
        index.close()
    finally:
        os.umask(before)
    assert is_clean(index.directory)
    for path in [tmp_path / "index", *(tmp_path / "index").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    again = ChromaIndex(index.directory)
    assert not is_clean(index.directory)
    assert again.query(COLLECTION, unit_vectors(2)[1], 1)[0] == ["b"]
    again.abandon()
    assert not is_clean(index.directory)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: (folder / "manifest.json").unlink(), id="manifest missing"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("{"), id="manifest cut"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("[]"), id="manifest of another shape"),
        pytest.param(lambda folder: flip(next(folder.glob("*/data_level0.bin"))), id="one byte of the vectors"),
        pytest.param(lambda folder: flip(folder / "chroma.sqlite3"), id="one byte of the database"),
        pytest.param(lambda folder: next(folder.glob("*/link_lists.bin")).unlink(), id="a file missing"),
        pytest.param(lambda folder: (folder / "chroma.sqlite3").write_bytes(b""), id="an empty database"),
        pytest.param(lambda folder: (folder / "chroma.sqlite3-journal").write_bytes(b"x"), id="a file too many"),
        pytest.param(shutil.rmtree, id="the folder missing"),
    ],
)
def test_any_change_to_the_folder_shows(tmp_path, damage):
    index = ChromaIndex(tmp_path / "1")
    index.add(COLLECTION, payload(["a", "b"]))
    index.close()
    damage(tmp_path / "1")
    assert not is_clean(tmp_path / "1")


def test_the_index_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            index = ChromaIndex(tmp_path / "1")
            index.add(COLLECTION, payload(["a", "b"]))
            index.query(COLLECTION, unit_vectors(1)[0], 1000)
            index.close()


def test_what_a_child_wrote_is_seen_when_the_folder_is_opened_again(tmp_path):
    index = ChromaIndex(tmp_path / "1")
    index.add(COLLECTION, payload(["a"]))
    index.close()
    run(
        "import sys\nfrom pathlib import Path\nfrom test_index import *\n"
        "index = ChromaIndex(Path(sys.argv[1]))\nindex.add(COLLECTION, payload(['b'], seed=8))\nindex.close()",
        tmp_path / "1",
    )
    again = ChromaIndex(tmp_path / "1")
    assert again.query(COLLECTION, unit_vectors(1, seed=8)[0], 2)[0][0] == "b"
    assert again.count(COLLECTION) == 2
    again.close()


BY = {"core": "", "client": "from omnimemory.storage import chroma_core\nchroma_core._TRIED['add'] = 'other things'\n"}
"""What makes a process use Chroma's core, or chromadb's own client as for a core that was not tried."""

SETTINGS = """
import sys
from pathlib import Path
from test_index import *
index = ChromaIndex(Path(sys.argv[1]))
if "chromadb" in sys.modules:
    print(index._client._system.settings.allow_reset, index._client._system.settings.chroma_api_impl)
index.add(COLLECTION, payload(["a"]))
index.close()
"""


@pytest.mark.parametrize(
    ("by", "shown"), [("core", []), ("client", ["False", "chromadb.api.rust.RustBindingsAPI"])], ids=list(BY)
)
def test_neither_the_environment_nor_a_dotenv_file_decides_where_the_rows_go(tmp_path, by, shown):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".env").write_text("ALLOW_RESET=true\nOPENAI_API_KEY=x\n")
    said = run(
        BY[by] + SETTINGS,
        tmp_path / "1",
        cwd=tmp_path / "project",
        ALLOW_RESET="true",
        CHROMA_API_IMPL="chromadb.api.fastapi.FastAPI",
        CHROMA_SERVER_HOST="127.0.0.1",
        CHROMA_SERVER_HTTP_PORT="1",
    )
    assert said.split() == shown
    assert (tmp_path / "1" / "chroma.sqlite3").exists()


BROKEN_DOTENV = """
import sys
from pathlib import Path
from store_cases import *
with opened(Path(sys.argv[1]), exact_rows=0) as store:
    add_rows(store, 30)
    print(store.warm())
    print(store.nearest("documents", unit_vectors(30)[3], 1).answered_by)
    print(store.drain(), store.generations.waiting())
"""


@pytest.mark.slow
def test_a_dotenv_file_that_chromadb_cannot_read_stops_neither_searching_nor_draining(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".env").write_bytes(b"NAME=caf\xe9\n")
    with pytest.raises(AssertionError, match=r"StoreError.*chromadb cannot be imported.*\.env"):
        run(BY["client"] + BROKEN_DOTENV, tmp_path / "store", cwd=tmp_path / "project")
    quiet = BROKEN_DOTENV.replace("    print(store.warm())\n", "")
    said = run(BY["client"] + quiet, tmp_path / "store", cwd=tmp_path / "project")
    assert said.splitlines() == ["exact", "None 0"]
    said = run(BROKEN_DOTENV, tmp_path / "core", cwd=tmp_path / "project")  # which does not read it
    assert said.splitlines() == ["None", "chroma", "None 0"]


BUILDING = """
import chromadb, sys
from pathlib import Path
from test_index import *
from chromadb.utils.embedding_functions import known_embedding_functions
class BuiltOnLoad:
    @staticmethod
    def build_from_config(config):
        Path(config["path"]).touch()
known_embedding_functions["built_on_load"] = BuiltOnLoad
if sys.argv[2] == "plain chromadb":
    with chromadb.PersistentClient(sys.argv[1]) as client:
        found = client.get_collection("documents", embedding_function=None)
        found.add(ids=["x"], embeddings=unit_vectors(1))
else:
    index = ChromaIndex(Path(sys.argv[1]))
    for do in (lambda: index.add(COLLECTION, payload(["b"])), lambda: index.query(COLLECTION, unit_vectors(1)[0], 1),
               lambda: index.update(COLLECTION, {"a": {}}), lambda: index.delete(COLLECTION, ["b"])):
        with pytest.raises(IndexDamagedError, match="names an embedding function.*will be rebuilt"):
            do()
    index.abandon()
"""


def test_an_embedding_function_named_in_the_folder_is_never_built(tmp_path, index):
    index.add(COLLECTION, payload(["a"]))
    index.close()
    connection = sqlite3.connect(index.directory / "chroma.sqlite3")
    (text,) = connection.execute("SELECT schema_str FROM collections").fetchone()
    planted = {"type": "known", "name": "built_on_load", "config": {"path": str(tmp_path / "built")}}
    schema = json.loads(text)
    schema["keys"]["#embedding"]["float_list"]["vector_index"]["config"]["embedding_function"] = planted
    connection.execute("UPDATE collections SET schema_str = ?", (json.dumps(schema),))
    connection.commit()
    connection.close()
    for way in BY.values():
        run(way + BUILDING, index.directory, "ours")
    assert not (tmp_path / "built").exists()
    run(BUILDING, index.directory, "plain chromadb")
    assert (tmp_path / "built").exists()  # so the trap works, and adding ready vectors is enough to fall into it


def test_a_folder_of_another_space_is_not_used(index):
    index.add(COLLECTION, payload(["a"]))
    index.close()
    other = ChromaIndex(index.directory)
    with pytest.raises(IndexDamagedError, match="another model; it will be rebuilt"):
        other.count(Collection(1, "documents", DIM, "another print", "another model"))
    other.abandon()


def test_whatever_chroma_says_is_an_index_error_with_the_way_out(index):
    index.add(COLLECTION, payload(["a"]))
    with pytest.raises(IndexDamagedError, match="answered from the catalog, and the index is rebuilt"):
        index.add(COLLECTION, Payload([1], ["b"], ["t"], [{"source": "s"}], unit_vectors(1, dim=3), 1))
    assert issubclass(IndexDamagedError, StoreError)


# -- draining


class RecordingIndex(ChromaIndex):
    """The index itself, which also writes down what it is asked to do and can let others act in between."""

    def __init__(self, directory, **options):
        super().__init__(directory, **options)
        self.done = []
        self.before_add = lambda: None

    def add(self, collection, payload):
        self.before_add()
        super().add(collection, payload)
        self.done.append(("add", collection.name, len(payload.ids)))

    def delete(self, collection, ids):
        self.done.append(("delete", collection.name, len(ids)))
        return super().delete(collection, ids)

    def update(self, collection, metadatas):
        self.done.append(("update", collection.name, len(metadatas)))
        super().update(collection, metadatas)


@pytest.fixture
def draining(store):
    """A function that drains the store into one index, in batches; ``.index`` is it."""
    generations = Generations(store.catalog)
    generation = generations.begin()
    generations.activate(generation)
    index = RecordingIndex(generations.directory(store.path, generation))

    def now(batch_size=1000):
        index.done.clear()
        return drain(store.catalog, index, generation, batch_size)

    now.index = index
    yield now
    index.abandon()


def ids_in(index, collection):
    return sorted(index._collection(collection).get(include=[])["ids"])


def test_a_drain_takes_all_in_batches_and_a_second_one_writes_nothing(store, draining):
    add_rows(store, 25)
    assert draining(batch_size=10) == 25
    assert draining.index.done == [("add", "documents", 10), ("add", "documents", 10), ("add", "documents", 5)]
    assert store.generations.waiting() == 0
    assert draining(batch_size=10) == 0
    assert draining.index.done == []


def test_a_drain_takes_over_deletions_and_new_metadata(store, draining):
    add_rows(store, 10)
    draining()
    delete_chunks(store, ["row1", "row2"])
    owner = store.catalog.value("SELECT source_id FROM chunks LIMIT 1")
    stored = store.documents.stored(owner)
    with store.catalog.transaction() as sql:
        store.documents.move(sql, [(stored["row3"], chunk("row3", {"topic": "new"}))])
    assert store.generations.waiting() == 3
    assert draining() == 3
    assert ids_in(draining.index, store.documents.collection) == sorted(f"row{n}" for n in (0, *range(3, 10)))
    rows = draining.index._collection(store.documents.collection).get(ids=["row3"])
    assert rows["metadatas"] == [{"source": "file:notes", "topic": "new"}]
    assert store.generations.tombstones() == [(2, 8)]
    assert store.generations.waiting() == 0


STRANGE = {
    "nothing": None, "no list": [], "mixed": [1, "a"], "numbers": [1, 2.5], "nested": {"a": 1}, "lists": [[1]],
    "large": 2**63, "larges": [2**64], "small": -(2**63) - 1, "": 1, "$price": 5, "#tag": "x", "chroma:document": "x",
}  # fmt: skip
FINE = {
    "text": "", "nul": "a\0b", "flag": True, "whole": 2**63 - 1, "real": 1e300, "texts": ["a", ""], "flags": [True],
    " ": 1, "a\0b": 1, "天気": "雨", "$"[1:] + "a$": 1, "id": "x", "long" * 500: 1,
}  # fmt: skip


def test_no_metadata_can_stop_a_drain(store, draining):
    records = [{key: value} for key, value in STRANGE.items()] + [STRANGE | FINE, {"source": {"no": "text"}}, FINE]
    add_chunks(store, [chunk(f"c{n}", one) for n, one in enumerate(records)], unit_vectors(len(records)))
    # What JSON cannot say never comes in, whoever tries.
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_chunks(store, [chunk("nan", {"a": [float("nan")]})], unit_vectors(1))
    assert draining() == len(records)
    handle = draining.index._collection(store.documents.collection)
    rows = dict(zip(*(handle.get()[part] for part in ("ids", "metadatas")), strict=True))
    for n in range(len(STRANGE)):
        assert rows[f"c{n}"] == {"source": "file:notes"}
    assert rows[f"c{len(STRANGE)}"] == {"source": "file:notes", **FINE}
    assert rows[f"c{len(STRANGE) + 1}"] == {"source": "file:notes"}
    assert len(draining.index.query(store.documents.collection, unit_vectors(1)[0], 99)[0]) == len(records)
    shown = store.documents.items(list(store.documents.rows_of([f"c{len(STRANGE)}"]).values()))
    assert [item.metadata for item in shown.values()] == [STRANGE | FINE]


def test_what_was_deleted_before_it_was_drained_leaves_no_tombstone(store, draining):
    add_rows(store, 10)
    delete_chunks(store, [f"row{n}" for n in range(10)])
    draining()
    assert [dead for dead, _ in store.generations.tombstones()] == [0]


def test_an_id_that_is_deleted_and_comes_back_while_a_drain_runs_is_not_lost(store, draining):
    add_rows(store, 5)
    draining()
    add_rows(store, 5, "later", seed=1)

    def delete_and_add_again():
        draining.index.before_add = lambda: None
        delete_chunks(store, ["row2", "later1"])
        add_chunks(store, [chunk("row2"), chunk("later1")], unit_vectors(2, seed=2))

    draining.index.before_add = delete_and_add_again
    draining()
    draining()
    assert store.generations.waiting() == 0
    expected = sorted([f"row{n}" for n in range(5)] + [f"later{n}" for n in range(5)])
    assert ids_in(draining.index, store.documents.collection) == expected
    vectors = draining.index.vectors(store.documents.collection, ["row2", "later1"])
    assert vectors["row2"] == pytest.approx(unit_vectors(2, seed=2)[0], abs=1e-6)


def test_a_drain_that_was_broken_off_is_taken_up_again(store, draining):
    add_rows(store, 20)

    def fail():
        if len(draining.index.done) == 1:
            raise OSError("no more")

    draining.index.before_add = fail
    with pytest.raises(OSError, match="no more"):
        draining(batch_size=8)
    assert store.generations.waiting() == 12
    draining.index.before_add = lambda: None
    assert draining(batch_size=8) == 12
    assert len(ids_in(draining.index, store.documents.collection)) == 20


def test_commands_and_documents_are_two_collections(store, draining):
    add_rows(store, 3)
    with store.catalog.transaction() as sql:
        rows = store.commands.add(sql, ["ls", "make"], pending=False)
        insert_vectors(sql, store.commands.collection, rows, unit_vectors(2))
    assert draining() == 5
    assert draining.index.count(store.documents.collection) == 3
    assert draining.index.count(store.commands.collection) == 2


# -- rebuilding, trusting


def test_a_rebuild_switches_and_removes_what_was_before(store):
    add_rows(store, 30)
    first = rebuild(store.path, store.catalog, OPTIONS)
    delete_chunks(store, ["row3"])
    second = rebuild(store.path, store.catalog, OPTIONS)
    assert store.generations.active() == second != first
    assert [path.name for path in (store.path / "index").iterdir()] == [str(second)]
    assert store.catalog.rows("SELECT state FROM generations") == [("active",)]
    assert store.catalog.value("SELECT count(*) FROM index_changes") == 0
    rows = chroma_rows(store.path / "index" / str(second))
    assert sorted(rows["ids"]) == sorted(f"row{n}" for n in range(30) if n != 3)


def test_a_rebuild_that_fails_changes_nothing(store):
    vectors = add_rows(store, 30)
    first = rebuild(store.path, store.catalog, OPTIONS)
    with store.catalog.transaction() as sql:
        (vector,) = sql.execute("SELECT vector FROM vectors WHERE row = 8").fetchone()
        sql.execute(
            "UPDATE vectors SET vector = ?, checksum = NULL WHERE row = 8",
            (np.full(DIM, np.nan, np.float32).tobytes(),),
        )
    with pytest.raises(IndexDamagedError):
        rebuild(store.path, store.catalog, DrainOptions(batch_size=5))
    with store.catalog.transaction() as sql:
        sql.execute("UPDATE vectors SET vector = ?, checksum = NULL WHERE row = 8", (vector,))
    assert store.generations.active() == first
    assert [path.name for path in (store.path / "index").iterdir()] == [str(first)]
    assert is_clean(store.path / "index" / str(first))
    index, generation = open_index(store.path, store.catalog, OPTIONS)
    assert generation == first
    assert index.query(store.documents.collection, vectors[7], 1)[0] == ["row7"]
    index.close()


def test_what_a_killed_rebuild_left_behind_is_removed(store):
    add_rows(store, 5)
    first = rebuild(store.path, store.catalog, OPTIONS)
    (store.path / "index" / "77" / "half").mkdir(parents=True)
    index, generation = open_index(store.path, store.catalog, OPTIONS)
    index.close()
    assert generation == first
    assert [path.name for path in (store.path / "index").iterdir()] == [str(first)]


@pytest.mark.parametrize("documents", [True, False])
def test_what_is_in_the_folder_is_what_the_options_say(store, documents):
    vectors = add_rows(store, 10)
    generation = rebuild(store.path, store.catalog, DrainOptions(ef_search=123, documents=documents))
    rows = chroma_rows(store.path / "index" / str(generation))
    order = np.argsort([int(name.removeprefix("row")) for name in rows["ids"]])
    assert [rows["documents"][n] for n in order] == [f"text of row{n}" if documents else None for n in range(10)]
    assert [rows["metadatas"][n] for n in order] == [{"source": "file:notes", "number": n} for n in range(10)]
    assert np.array([rows["vectors"][n] for n in order]) == pytest.approx(vectors, abs=1e-6)
    assert (rows["hnsw"]["space"], rows["hnsw"]["ef_search"]) == ("cosine", 123)
    assert rows["metadata"] == {"fingerprint": "random-16", "model": "random", "dim": DIM}


@pytest.mark.parametrize(
    ("deleted", "total", "expected"),
    [(999, 3000, False), (1000, 3000, True), (1100, 6000, False), (1300, 6000, True)],
)
def test_an_index_is_worn_when_a_fifth_of_it_and_a_thousand_rows_are_dead(store, deleted, total, expected):
    generation = store.generations.begin()
    store.generations.activate(generation)
    assert not worn(store.catalog)
    add_rows(store, total - deleted)
    store.generations.forget_changes(generation, store.documents.collection, 0, tombstones=deleted)
    assert worn(store.catalog) is expected


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store of 300 rows with an index that Chroma has written to its files, closed."""
    path = tmp_path_factory.mktemp("sound") / "store"
    with opened(path, index=False) as store:
        add_rows(store, 300)
        generation = rebuild(store.path, store.catalog, OPTIONS)
        # Chroma keeps few rows in its log only; these are to be in the files that can be damaged.
        script = (
            "import chromadb, sys\nfor threshold in (10, 10000):\n"
            "    with chromadb.PersistentClient(sys.argv[1]) as client:\n"
            "        found = client.get_collection('documents', embedding_function=None)\n"
            "        found.count(), found.get(limit=1, include=['embeddings'])\n"
            "        found.modify(configuration={'hnsw': {'sync_threshold': threshold}})\n"
            "with chromadb.PersistentClient(sys.argv[1]) as client:\n"
            "    client.get_collection('documents', embedding_function=None).get(limit=1, include=['embeddings'])\n"
        )
        run(script, store.path / "index" / str(generation))
        (store.path / "index" / str(generation) / "manifest.json").unlink()  # as after an unclean end
    assert list((path / "index" / str(generation)).glob("*/index_metadata.pickle"))
    return path


def hnsw(folder, name):
    return next(folder.glob(f"*/{name}"))


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def lose_one_row(folder):
    connection = sqlite3.connect(folder / "chroma.sqlite3")
    assert connection.execute("DELETE FROM embeddings WHERE embedding_id = 'row5'").rowcount == 1
    connection.commit()
    connection.close()


def garble(path):
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "fits"),
    [
        pytest.param(lambda folder: None, True, id="nothing but a missing manifest"),
        pytest.param(lambda folder: shutil.rmtree(hnsw(folder, "header.bin").parent), False, id="vectors deleted"),
        pytest.param(lambda folder: cut(hnsw(folder, "index_metadata.pickle")), False, id="pickle truncated"),
        pytest.param(lambda folder: garble(hnsw(folder, "data_level0.bin")), False, id="level 0 garbled"),
        pytest.param(lambda folder: (folder / "chroma.sqlite3").write_bytes(b""), False, id="database emptied"),
        pytest.param(lose_one_row, False, id="one row lost"),
        pytest.param(shutil.rmtree, False, id="folder deleted"),
    ],
)
def test_damage_is_found_before_it_can_answer_and_the_index_is_made_anew(tmp_path, sound, damage, fits):
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with opened(path, index=False) as store:
        first = store.generations.active()
        damage(path / "index" / str(first))
        assert trusted(path, store.catalog, first) is fits
        if not fits:
            index, second = open_index(path, store.catalog, OPTIONS)
            assert second != first
            vectors = unit_vectors(300)
            assert [index.query(store.documents.collection, vectors[n], 1)[0] for n in (0, 150, 299)] == [
                ["row0"], ["row150"], ["row299"],
            ]  # fmt: skip
            index.close()
            assert is_clean(path / "index" / str(second))
