"""The catalog: made once, checked at each opening, never half-written, never shared across a fork."""

import os
import re
import sqlite3
import threading

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from store_cases import SPACE, add_chunks, add_rows, chunk, finish, opened, run, start, unit_vectors, wait_until

from omnimemory.errors import InvalidVectorError, SchemaError, StoreError, StoreFullError
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.migration import migrations_directory
from omnimemory.storage.vectors import read_vectors, rows_above

BESIDE = ("catalog.sqlite3-wal", "catalog.sqlite3-shm", "catalog.sqlite3.seal")


def schema_of(path):
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    connection.close()
    made_by_fts = ("_data", "_idx", "_docsize", "_config", "_content")
    return {
        (kind, name, table, " ".join(re.sub("([(),])", r" \1 ", sql).split()) if sql else None)
        for kind, name, table, sql in rows
        if not ("_fts_" in name and name.endswith(made_by_fts))
    }


def alembic_configuration():
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))
    config.set_main_option("path_separator", "os")
    return config


def test_the_snapshot_is_what_the_migrations_make(tmp_path):
    Catalog(tmp_path / "snapshot").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'migrated'}")
    config = alembic_configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
    snapshot, migrated = schema_of(tmp_path / "snapshot"), schema_of(tmp_path / "migrated")
    assert snapshot == migrated
    assert {"chunks_fts", "vectors", "index_changes_todo"} <= {name for _, name, _, _ in snapshot}
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_new_catalog_is_private_and_in_wal_mode(tmp_path):
    before = os.umask(0o022)
    try:
        catalog = Catalog(tmp_path / "catalog.sqlite3")
        with catalog.transaction() as sql:
            sql.execute("INSERT INTO meta VALUES ('a', 'b')")
        files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        assert files == dict.fromkeys(("catalog.sqlite3", *BESIDE), 0o600)
        assert catalog.value("PRAGMA journal_mode") == "wal"
        assert len(catalog.key) == 32
        catalog.close()
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} == {"catalog.sqlite3", "catalog.sqlite3.seal"}


def foreign_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.commit()
    connection.close()


def foreign_alembic_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.execute("INSERT INTO alembic_version VALUES ('f00dcafe')")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(foreign_database, SchemaError, "not an OmniMemory catalog", id="a SQLite file of something else"),
        pytest.param(foreign_alembic_database, SchemaError, "not an OmniMemory catalog", id="another Alembic project"),
        pytest.param(lambda path: path.touch(), SchemaError, "not an OmniMemory catalog", id="an empty file"),
        pytest.param(lambda path: path.write_text("dear diary\n" * 99), StoreError, "not a catalog", id="a text file"),
        pytest.param(lambda path: path.mkdir(), StoreError, "is not a file", id="a folder"),
    ],
)
def test_what_is_not_a_catalog_is_refused_and_not_written(tmp_path, make, error, message):
    path = tmp_path / "catalog.sqlite3"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(error, match=message):
        Catalog(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_fix(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made \((Not a directory|File exists)\).*--store"):
        Catalog(tmp_path / "file" / "catalog.sqlite3")


MAKE_AT_ONCE = """
import sys
from pathlib import Path
from omnimemory.storage.catalog import Catalog
print("ready", flush=True)
sys.stdin.readline()
catalog = Catalog(Path(sys.argv[1]))
made = catalog.ensure_collection("documents", fingerprint=sys.argv[2], model=sys.argv[2], dim=3)
print(catalog.key.hex(), made.fingerprint)
"""


def test_processes_that_make_the_same_catalog_at_once_share_one(tmp_path):
    children = [start(MAKE_AT_ONCE, tmp_path / "catalog.sqlite3", f"space{n}") for n in range(4)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert len({finish(child) for child in children}) == 1
    # Processes that end without closing may leave SQLite's own files, never a draft of ours.
    kept = {"catalog.sqlite3", *BESIDE}
    assert {path.name for path in tmp_path.iterdir()} <= kept


def insert_and_fail(sql):
    sql.execute("INSERT INTO meta VALUES ('half', 'done')")
    raise sqlite3.Warning("half way")


def test_a_transaction_is_all_or_nothing(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    with pytest.raises(sqlite3.Warning, match="half way"), catalog.transaction() as sql:
        insert_and_fail(sql)
    assert catalog.meta("half") == ""
    with catalog.transaction() as sql:
        sql.execute("INSERT INTO meta VALUES ('whole', 'done')")
    assert catalog.meta("whole") == "done"
    catalog.close()


def test_threads_write_one_after_the_other_and_nothing_is_lost(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite3")

    def write(name):
        for n in range(20):
            with catalog.transaction() as sql:
                sql.execute("INSERT INTO meta VALUES (?, '')", (f"{name}-{n}",))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalog.value("SELECT count(*) FROM meta WHERE value = ''") == 80
    catalog.close()


def test_connections_of_threads_that_ended_do_not_pile_up(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    for _ in range(50):
        thread = threading.Thread(target=catalog.meta, args=("key",))
        thread.start()
        thread.join()
    assert len(catalog._connections._held) <= 2
    catalog.close()


def test_close_closes_the_connections_of_all_threads(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    closed, heard = threading.Event(), []

    def use():
        heard.append(catalog.meta("key"))
        closed.wait(30)
        try:
            catalog.meta("key")
        except StoreError as error:
            heard.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    assert wait_until(lambda: heard)
    catalog.close()
    # With no connection left, SQLite takes its side files away.
    assert {path.name for path in tmp_path.iterdir()} == {"catalog.sqlite3", "catalog.sqlite3.seal"}
    closed.set()
    thread.join()
    assert heard[1].startswith("The store was closed")
    with pytest.raises(StoreError, match="was closed"):
        catalog.meta("key")


def test_a_backup_that_was_put_back_gets_its_write_ahead_log_again(tmp_path):
    path = tmp_path / "catalog.sqlite3"
    Catalog(path).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    catalog = Catalog(path)
    assert catalog.value("PRAGMA journal_mode") == "wal"
    catalog.close()


def test_rows_that_contradict_the_catalog_are_not_called_damage(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    with pytest.raises(StoreError, match=r"FOREIGN KEY.*run it again"), catalog.transaction() as sql:
        sql.execute("INSERT INTO vectors (collection_id, item, vector) VALUES (77, 1, x'00')")
    catalog.close()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(unit_vectors(1, dim=8), id="another dimension"),
        pytest.param(unit_vectors(1)[0], id="one vector instead of a matrix"),
        pytest.param(unit_vectors(1) * float("nan"), id="not a number"),
        pytest.param(unit_vectors(1) * float("inf"), id="infinite"),
    ],
)
def test_vectors_that_would_spoil_the_collection_are_refused(tmp_path, bad):
    with opened(tmp_path / "store") as store:
        with pytest.raises(InvalidVectorError, match="finite vectors of 16"):
            add_chunks(store, [chunk("a")], bad)
        assert store.documents.count() == 0


FILL = """
import resource, sys
from pathlib import Path
from omnimemory.errors import StoreFullError
from omnimemory.storage.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
done = 0
try:
    while True:
        with catalog.transaction() as sql:
            sql.execute("INSERT INTO meta VALUES (?, ?)", (f"row {done}", "x" * 50_000))
        done += 1
except StoreFullError as error:
    assert "committed is safe" in str(error), error
    print(done)
"""


def test_a_full_disk_is_said_and_loses_nothing_that_was_committed(tmp_path):
    done = int(run(FILL, tmp_path / "catalog.sqlite3"))
    assert done > 3
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    assert catalog.value("SELECT count(*) FROM meta WHERE key LIKE 'row %'") == done
    assert catalog.value("PRAGMA integrity_check") == "ok"
    catalog.close()
    assert issubclass(StoreFullError, StoreError)


FORK = """
import os, sys
from pathlib import Path
from omnimemory.errors import StoreError
from omnimemory.storage.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]))
answer, question = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    try:
        catalog.meta("key")
        said = "no error"
    except StoreError as error:
        said = str(error)
    catalog.close()
    own = Catalog(Path(sys.argv[1]))
    own.meta("key")
    os.write(answer[1], said.encode())
    os.read(question[0], 1)
    for n in range(5):
        with own.transaction() as sql:
            sql.execute("INSERT INTO meta VALUES (?, 'from the child')", (f"child {n}",))
    os.write(answer[1], b"written")
    os.read(question[0], 1)
    os._exit(0)
print(os.read(answer[0], 1000).decode())
catalog.close()  # if the child believed in the parent's locks, its log would be deleted under it now
os.write(question[1], b"x")
os.read(answer[0], 1000)
catalog = Catalog(Path(sys.argv[1]))
print(catalog.value("SELECT count(*) FROM meta WHERE key LIKE 'child %'"))
os.write(question[1], b"x")
os.waitpid(child, 0)
print(catalog.value("SELECT count(*) FROM meta WHERE key LIKE 'child %'"), catalog.value("PRAGMA integrity_check"))
catalog.close()
"""


def test_a_forked_child_must_open_the_catalog_anew_and_then_loses_nothing(tmp_path):
    refused, seen, kept = run(FORK, tmp_path / "catalog.sqlite3").splitlines()
    assert "after fork: open it in the child" in refused
    assert (seen, kept) == ("5", "5 ok")


FORK_INSIDE = """
import os, sys
from pathlib import Path
from omnimemory.errors import StoreError
from omnimemory.storage.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]))
with catalog.transaction() as sql:
    sql.execute("INSERT INTO meta VALUES ('parent', 'kept')")
    if os.fork() == 0:
        try:
            Catalog(Path(sys.argv[1]))
        except StoreError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
print(catalog.meta("parent"))
"""


def test_a_child_forked_inside_a_transaction_is_told_that_it_cannot_open_the_catalog(tmp_path):
    refused, kept = run(FORK_INSIDE, tmp_path / "catalog.sqlite3").splitlines()
    assert "'spawn'" in refused
    assert kept == "kept"


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda store: store.generations.waiting(), id="how much waits"),
        pytest.param(lambda store: store.generations.ends(1, store.documents.collection), id="the bounds of a drain"),
        pytest.param(lambda store: store.generations.changes(1, store.documents.collection, 9, 9), id="what changed"),
        pytest.param(lambda store: store.generations.drained(1, store.documents.collection), id="what was drained"),
        pytest.param(lambda store: rows_above(store.catalog, store.documents.collection, 5), id="the tail"),
        pytest.param(lambda store: list(read_vectors(store.catalog, store.documents.collection, 5)), id="its vectors"),
        pytest.param(lambda store: store.documents.payload(5, 9, 9), id="the next documents for the index"),
        pytest.param(lambda store: store.commands.payload(5, 9, 9), id="the next commands for the index"),
        pytest.param(lambda store: store.documents.pending(9), id="documents without a vector"),
        pytest.param(lambda store: store.commands.pending(9), id="commands without a vector"),
        pytest.param(lambda store: store.documents.items([1, 2]), id="documents by row"),
        pytest.param(lambda store: store.commands.items([1, 2]), id="commands by row"),
        pytest.param(lambda store: store.commands.stamp(), id="whether commands changed"),
        pytest.param(lambda store: store.documents.rows_of(["a", "b"]), id="rows by id"),
        pytest.param(lambda store: store.scores("documents", unit_vectors(1)[0], [1, 2]), id="vectors by row"),
    ],
)
def test_what_is_asked_often_neither_scans_nor_sorts(tmp_path, ask):
    with opened(tmp_path / "store", index=False) as store:
        store.generations.activate(store.generations.begin())
        asked = []
        with store.catalog.transaction() as sql:
            sql.set_trace_callback(asked.append)
            ask(store)
            sql.set_trace_callback(None)
        selects = [statement for statement in asked if statement.startswith("SELECT")]
        assert selects
        for statement in selects:
            plan = [row[3] for row in store.catalog.rows(f"EXPLAIN QUERY PLAN {statement}")]
            assert not [step for step in plan if "TEMP B-TREE" in step], statement
            # There are two collections and a few generations; an index of what is pending holds nothing else.
            scans = [step for step in plan if step.startswith("SCAN")]
            assert not [step for step in scans if not re.search("collections|generations|CONSTANT|_pending", step)]


def test_counting_what_waits_reads_the_tail_only(tmp_path):
    with opened(tmp_path / "store", index=False) as store:
        add_rows(store, 3000)
        generation = store.generations.begin()
        store.generations.mark_drained(generation, store.documents.collection, 2990)
        store.generations.activate(generation)
        steps = []
        with store.catalog.transaction() as sql:
            sql.set_progress_handler(lambda: steps.append(1), 100)
            assert store.generations.waiting() == 10
            few = len(steps)
            sql.execute("SELECT count(*) FROM vectors WHERE length(vector) > 0").fetchone()
            assert few * 10 < len(steps) - few
            sql.set_progress_handler(None, 0)


def test_a_collection_keeps_its_space_and_opening_it_writes_nothing(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    first = catalog.ensure_collection("documents", **SPACE)
    assert catalog.ensure_collection("documents", fingerprint="other", model="other", dim=3) == first
    assert catalog.value("SELECT count(*) FROM spaces") == 1
    other = sqlite3.connect(tmp_path / "catalog.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # a long write of another process must not keep readers from opening
    assert catalog.ensure_collection("documents", **SPACE) == first
    other.close()
    catalog.close()
