"""Stores of other versions: older ones are migrated, newer ones refused, the index of another chromadb is rebuilt."""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import venv

import numpy as np
import pytest
from store_cases import start
from transfer_cases import exported, fill, memory_of

from omnimemory.errors import SchemaError
from omnimemory.memory import Memory
from omnimemory.storage.backups import known_backups
from omnimemory.storage.catalog import HEAD
from omnimemory.storage.index_version import VERSION_FILE
from omnimemory.storage.manifest import write_manifest
from omnimemory.storage.migration import migrations_directory

QUESTIONS = ("when is staging rebuilt?", "undo the release", "make test")


def answers(memory):
    return [[(hit.id, hit.score, hit.text, hit.metadata) for hit in memory.search(text, k=5)] for text in QUESTIONS]


def as_written_by(path, revision):
    """Replace the catalog at ``path`` by one of an older revision with the same content."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    older = path.with_name("older.sqlite3")
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))
    engine = create_engine(f"sqlite:///{older}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(older, isolation_level=None)) as sql:
        sql.execute("ATTACH ? AS newer", (str(path),))
        tables = [name for (name,) in sql.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in sql.execute(f"PRAGMA main.table_info({table})")]
            if table != "alembic_version" and not table.startswith("sqlite_") and "_fts" not in table:
                names = ", ".join(columns)
                sql.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newer.{table}")
        sql.execute("DELETE FROM meta WHERE key <> 'key'")
        steps = "SELECT id FROM collections WHERE name IN ('transitions', 'sequences')"
        sql.execute(f"DELETE FROM vectors WHERE collection_id IN ({steps})")
        sql.execute(f"DELETE FROM drained WHERE collection_id IN ({steps})")
        sql.execute("DELETE FROM collections WHERE name IN ('transitions', 'sequences')")
        sql.execute("DELETE FROM main.sqlite_sequence")
        sql.execute("INSERT INTO main.sqlite_sequence SELECT * FROM newer.sqlite_sequence")
        for table, fields in (("chunks", "heading, text"), ("commands", "text")):
            for row, *texts in sql.execute(f"SELECT id, {fields} FROM {table}").fetchall():
                marks = ", ".join("?" * len(texts))
                values = [index_text(text) for text in texts]
                sql.execute(f"INSERT INTO {table}_fts (rowid, {fields}) VALUES (?, {marks})", (row, *values))
        sql.execute("PRAGMA journal_mode = WAL")
    for left in path.parent.glob("catalog.sqlite3*"):
        left.unlink()
    older.rename(path)


def index_text(text):
    from omnimemory.storage.keyword import index_text as words

    return words(text)


@pytest.fixture
def older(settings, tmp_path):
    """A store as the first revision made it, with what its memory answered and exported."""
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
        said, data = answers(memory), exported(memory, vectors=True)
    as_written_by(settings.store.path / "catalog.sqlite3", "0001")
    return settings, said, data


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dump(catalog, folder):
    folder.mkdir()
    copy = shutil.copy2(catalog, folder)
    with contextlib.closing(sqlite3.connect(copy)) as sql:
        return list(sql.iterdump())


def revision(path):
    with contextlib.closing(sqlite3.connect(path)) as sql:
        return sql.execute("SELECT version_num FROM alembic_version").fetchone()[0]


# -- older


def test_a_store_of_the_first_revision_is_backed_up_migrated_and_answers_as_before(older):
    settings, said, data = older
    with memory_of(settings) as memory:
        assert answers(memory) == said
        assert exported(memory, vectors=True) == data
        memory.add("written by this version")
    (backup,) = known_backups(settings.store.path)
    assert backup == settings.store.path / "catalog.sqlite3.schema-0001.backup"
    assert (revision(backup), revision(settings.store.path / "catalog.sqlite3")) == ("0001", HEAD)
    assert {path.stat().st_mode & 0o777 for path in settings.store.path.glob("catalog*")} == {0o600}
    backup.replace(settings.store.path / "catalog.sqlite3")  # going back to it must work as well
    (settings.store.path / "catalog.sqlite3.seal").unlink(missing_ok=True)
    with memory_of(settings) as memory:
        assert exported(memory, vectors=True) == data


OPEN = """
import sys
from omnimemory.config import Settings
from omnimemory.memory import Memory
settings = Settings().with_values({"store.path": sys.argv[1], "cache.enabled": False, "index.enabled": False})
with Memory(settings=settings) as memory:
    print(memory.status()["store"]["documents"]["chunks"])
"""
POINTS = ["migrate.copy", "migrate.upgrade", "migrate.backup", "migrate.switch", "migrate.done"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=() if p in POINTS[1:4:2] else (pytest.mark.soak,)) for p in POINTS]
)
def test_a_migration_that_is_killed_leaves_the_original_and_the_next_open_succeeds(older, tmp_path, point):
    settings, said, data = older
    catalog = settings.store.path / "catalog.sqlite3"
    before = dump(catalog, tmp_path / "before")
    child = start(OPEN, settings.store.path, OMNIMEMORY_FAULTS=f"{point}:kill@1")
    _, error = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, error
    if point == "migrate.done":
        assert revision(catalog) == HEAD
    else:
        assert revision(catalog) == "0001"
        assert dump(catalog, tmp_path / "after") == before
    with memory_of(settings) as memory:
        assert answers(memory) == said
        assert exported(memory, vectors=True) == data
    assert not list(settings.store.path.glob("*.migrating*[!k]"))


# -- newer


WRITE_AND_DIE = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("INSERT INTO meta VALUES ('only in', 'the log')")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("died", [False, True], ids=["closed cleanly", "its process died"])
def test_a_store_of_a_newer_version_is_refused_and_not_a_byte_of_it_changes(settings, died):
    with memory_of(settings) as memory:
        memory.add("mine")
    catalog = settings.store.path / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(catalog)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '9999'")
        sql.execute("CREATE TABLE inventions (id INTEGER)")
        sql.commit()
    if died:
        child = start(WRITE_AND_DIE, catalog)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        assert catalog.with_name("catalog.sqlite3-wal").stat().st_size > 0
    before = tree(settings.store.path)
    with pytest.raises(SchemaError, match=r"newer version.*schema 9999.*pip install --upgrade"):
        Memory(settings=settings)
    assert tree(settings.store.path) == before


# -- another chromadb


def chroma_answers(settings):
    """Return the generation of the index and what it finds; every answer must come from Chroma."""
    with memory_of(settings.with_values({"search.exact_rows": 0})) as memory:
        assert memory.warm() is None
        hits = memory.search("note number 7", k=3, mode="vector", kind="documents", explain=True)
        assert hits.explain["kinds"]["documents"]["answered_by"] == "chroma"
        return memory.status()["store"]["index"]["generation"], [(hit.text, hit.score) for hit in hits]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("1.0.20"), id="an older one"),
        pytest.param(lambda file: file.unlink(), id="one that did not say"),
    ],
)
def test_an_index_of_another_chromadb_is_made_anew(indexed, change):
    with memory_of(indexed) as memory:
        memory.add([f"note number {number}" for number in range(20)])
    first, said = chroma_answers(indexed)
    assert chroma_answers(indexed) == (first, said)
    folder = indexed.store.path / "index" / str(first)
    change(folder / VERSION_FILE)
    write_manifest(folder)  # it closed its index in good order
    second, again = chroma_answers(indexed)
    assert (second > first, again) == (True, said)
    assert chroma_answers(indexed) == (second, said)


OLD_CHROMA = """
import json, sys
import chromadb
from chromadb.config import Settings
folder, data = sys.argv[1], json.load(open(sys.argv[2]))
client = chromadb.PersistentClient(folder, settings=Settings(anonymized_telemetry=False))
for name in ("documents", "commands"):
    collection = client.create_collection(
        name, embedding_function=None, metadata={"hnsw:space": "cosine", **data["space"]}
    )
    if data[name]:
        ids, texts, vectors = zip(*data[name])
        turned = int(sys.argv[3])  # by one they are not what the catalog holds: this index answers wrongly
        collection.add(ids=list(ids), documents=list(texts), embeddings=list(vectors[turned:] + vectors[:turned]))
print(chromadb.__version__)
"""


@pytest.mark.soak
@pytest.mark.parametrize("version", ["1.0.20", "1.3.7"])
def test_an_index_that_an_older_chromadb_wrote_is_rebuilt_and_not_misread(indexed, tmp_path, version):
    python = tmp_path / "old" / "bin" / "python"
    venv.create(tmp_path / "old", with_pip=True)
    wanted = [str(python), "-m", "pip", "install", "--quiet", f"chromadb=={version}"]
    installed = subprocess.run(wanted, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"chromadb {version} cannot be installed: {installed.stderr.strip().splitlines()[-1:]}")
    with memory_of(indexed) as memory:
        memory.add([f"note number {number}" for number in range(200)])
        memory.store.drain()
        rows = memory.store.catalog.rows(
            "SELECT c.chunk_id, c.text, v.vector FROM chunks c JOIN vectors v ON v.item = c.id AND v.collection_id = ?",
            (memory.store.documents.collection.id,),
        )
        collection = memory.store.documents.collection
    space = {"fingerprint": collection.fingerprint, "model": collection.model, "dim": collection.dim}
    documents = [(public, text, np.frombuffer(blob, dtype="<f4").tolist()) for public, text, blob in rows]
    (tmp_path / "data.json").write_text(json.dumps({"space": space, "documents": documents, "commands": []}))
    first, said = chroma_answers(indexed)
    for turned in (0, 1):
        folder = indexed.store.path / "index" / str(first)
        shutil.rmtree(folder)
        script = [str(python), "-c", OLD_CHROMA, str(folder), str(tmp_path / "data.json"), str(turned)]
        made = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert made.stdout.strip() == version, made.stderr
        second, again = chroma_answers(indexed)
        assert (second > first, again) == (True, said)
        first = second
