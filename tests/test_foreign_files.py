"""A store may come from anywhere: links, pipes and foreign files in it are neither followed, written nor removed."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from store_cases import add_rows, names_of, opened

from omnimemory.errors import SchemaError, StoreError
from omnimemory.storage.lock import IndexLock


def contents(root: Path) -> dict[str, tuple]:
    """Return what is in a folder: bytes, modes and owners, links as links."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        inside = hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_size, inside)
    return found


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path / "store", index=False) as made:
        add_rows(made, 20)
    return tmp_path / "store"


def rows_in(path: Path) -> int:
    with opened(path, index=False) as store:
        return store.documents.count()


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_bytes(b"precious" * 9000)
    return folder


CATALOG_FILES = [f"catalog.sqlite3{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]


@pytest.mark.parametrize("name", CATALOG_FILES)
def test_a_link_in_the_place_of_a_catalog_s_file_is_refused(store, outside, name):
    if name == "catalog.sqlite3":  # a link to a good catalog would be followed, was this not looked for
        shutil.copy(store / name, outside / "precious")
        (store / name).unlink()
    (store / name).symlink_to(outside / "precious")
    before = contents(outside)
    with pytest.raises(StoreError, match=rf"{name} is a symbolic link.*--store"):
        rows_in(store)
    assert contents(outside) == before


def test_a_link_to_nothing_is_no_new_catalog(store, outside):
    (store / "catalog.sqlite3").unlink()
    (store / "catalog.sqlite3").symlink_to(outside / "new")
    with pytest.raises(StoreError):
        rows_in(store)
    assert not (outside / "new").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", CATALOG_FILES[1:])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(store, name, make):
    make(store / name)
    with pytest.raises(StoreError, match=f"{name} is not a file"):
        rows_in(store)


@pytest.mark.parametrize(
    "make", [Path.symlink_to, Path.hardlink_to, lambda path, _: os.mkfifo(path)], ids=["symbolic", "hard", "pipe"]
)
def test_the_index_lock_is_written_to_no_other_file(tmp_path, outside, make):
    with opened(tmp_path / "store") as store:
        vectors = add_rows(store, 30)
        make(tmp_path / "store" / "index.lock", outside / "precious")
        with pytest.raises(StoreError, match=r"index\.lock"):
            store.warm()
        assert "index.lock" in store.drain()
        assert names_of(store, store.nearest("documents", vectors[3], 1)) == ["row3"]
    assert (outside / "precious").read_bytes() == b"precious" * 9000
    with pytest.raises(StoreError):
        IndexLock(tmp_path / "store" / "index.lock").holder()


def test_an_index_folder_that_is_a_link_is_neither_filled_nor_emptied(tmp_path, outside):
    for name in ("1", "2", "photos"):
        (outside / name).mkdir()
        (outside / name / "picture").write_text("of a cat")
    with opened(tmp_path / "store", exact_rows=5) as store:
        vectors = add_rows(store, 30)
        (tmp_path / "store" / "index").symlink_to(outside)
        before = contents(outside)
        for use in (store.warm, store.rebuild):
            with pytest.raises(StoreError, match="index is a symbolic link"):
                use()
        assert "index is a symbolic link" in store.drain()
        assert names_of(store, store.nearest("documents", vectors[3], 1)) == ["row3"]
    assert contents(outside) == before


def index_with_rows(path):
    with opened(path, exact_rows=5) as store:
        vectors = add_rows(store, 40)
        assert store.warm() is None
    return vectors


def answers_from_the_index(path, vectors):
    with opened(path, exact_rows=5) as store:
        assert store.warm() is None
        found = store.nearest("documents", vectors[3], 1)
        assert (names_of(store, found), found.answered_by) == (["row3"], "chroma")
        return store.generations.active()


def test_an_index_folder_that_was_moved_away_is_not_used_through_a_link(tmp_path, outside):
    index_with_rows(tmp_path / "store")
    shutil.move(tmp_path / "store" / "index", outside / "index")
    (tmp_path / "store" / "index").symlink_to(outside / "index")
    before = contents(outside)
    with opened(tmp_path / "store", exact_rows=5) as store, pytest.raises(StoreError, match="index is a symbolic link"):
        store.warm()
    assert contents(outside) == before


def test_a_generation_that_is_a_link_is_made_anew_and_what_it_leads_to_stays(tmp_path, outside):
    vectors = index_with_rows(tmp_path / "store")
    index = tmp_path / "store" / "index"
    shutil.move(index / "1", outside / "elsewhere")
    (index / "1").symlink_to(outside / "elsewhere")
    before = contents(outside)
    assert answers_from_the_index(tmp_path / "store", vectors) == 2
    assert contents(outside) == before
    assert [path.name for path in index.iterdir()] == ["2"]


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("chroma.sqlite3", Path.hardlink_to),
        ("data_level0.bin", Path.symlink_to),
        ("chroma.sqlite3-wal", Path.symlink_to),
    ],
    ids=["database-hard", "vectors-symbolic", "log-symbolic"],
)
def test_a_generation_with_a_link_in_it_is_made_anew_and_what_it_leads_to_stays(tmp_path, outside, name, link):
    vectors = index_with_rows(tmp_path / "store")
    generation = tmp_path / "store" / "index" / "1"
    place = next(generation.rglob(name), generation / name)
    if place.exists():
        shutil.move(place, outside / "precious")  # its content is right: only the link tells
    link(place, outside / "precious")
    (outside / "precious").chmod(0o644)
    before = contents(outside)
    assert answers_from_the_index(tmp_path / "store", vectors) == 2
    assert contents(outside) == before


def test_what_lies_where_a_new_generation_belongs_is_no_part_of_it(tmp_path, outside):
    vectors = index_with_rows(tmp_path / "store")
    index = tmp_path / "store" / "index"
    (index / "2").symlink_to(outside)
    shutil.rmtree(index / "1")
    before = contents(outside)
    assert answers_from_the_index(tmp_path / "store", vectors) == 2
    assert contents(outside) == before


def test_only_generations_are_removed_from_the_index_folder(tmp_path):
    vectors = index_with_rows(tmp_path / "store")
    index = tmp_path / "store" / "index"
    (index / "7").mkdir()
    (index / "notes of mine").mkdir()
    (index / "notes of mine" / "a.txt").write_text("kept")
    answers_from_the_index(tmp_path / "store", vectors)
    assert {path.name for path in index.iterdir()} == {"1", "notes of mine"}


# -- other users


def test_the_store_of_another_user_is_refused_and_left_alone(store):
    theirs = store if os.geteuid() == 0 else Path("/")
    if theirs == store:
        os.chown(store, 65_534, 65_534)
    before = contents(store)
    with pytest.raises(StoreError, match="belongs to another user"):
        rows_in(theirs)
    assert contents(store) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", CATALOG_FILES[:2])
def test_a_catalog_of_another_user_in_one_s_own_folder_is_refused(store, name):
    (store / name).touch()
    os.chown(store / name, 65_534, 65_534)
    before = contents(store)
    with pytest.raises(StoreError, match="belongs to another user"):
        rows_in(store)
    assert contents(store) == before


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o755])
def test_a_store_that_others_may_enter_is_closed_to_them(store, mode, caplog):
    caplog.set_level(logging.WARNING, logger="omnimemory")
    store.chmod(mode)
    (store / "catalog.sqlite3").chmod(0o666)
    (store / "not ours.sh").touch(0o755)
    assert rows_in(store) == 20
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / "catalog.sqlite3").stat().st_mode & 0o777 == 0o600
    assert (store / "not ours.sh").stat().st_mode & 0o777 == 0o755
    said = [
        record.getMessage() for record in caplog.records if "could be written by other users" in record.getMessage()
    ]
    assert len(said) == (1 if mode & 0o022 else 0)


# -- what SQLite would run

ENDLESS = "(WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n)"
SCHEMA = {
    "deleting-trigger": ["CREATE TRIGGER evil AFTER INSERT ON chunks BEGIN DELETE FROM events; END"],
    "endless-trigger": [f"CREATE TRIGGER evil AFTER UPDATE ON meta BEGIN INSERT INTO meta SELECT 'x', {ENDLESS}; END"],
    "view": [f"CREATE VIEW evil AS SELECT {ENDLESS} AS x"],
    "view-of-the-revision": [
        "DROP TABLE alembic_version",
        f"CREATE VIEW alembic_version AS SELECT {ENDLESS} AS version_num",
    ],
}


@pytest.mark.parametrize("logged", [False, True], ids=["in-the-file", "in-the-log"])
@pytest.mark.parametrize("statements", SCHEMA.values(), ids=SCHEMA)
def test_a_catalog_with_foreign_triggers_or_views_is_refused_and_none_of_them_runs(store, statements, logged):
    connection = sqlite3.connect(store / "catalog.sqlite3", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    if not logged:
        connection.close()
    before = (store / "catalog.sqlite3").read_bytes()
    with pytest.raises(StoreError, match=r"'(evil|alembic_version)'.*does not make|not a catalog"):
        rows_in(store)
    assert (store / "catalog.sqlite3").read_bytes() == before
    connection.close()


def test_one_s_own_trigger_with_another_content_is_refused(store):
    connection = sqlite3.connect(store / "catalog.sqlite3", isolation_level=None)
    triggers = connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, table in triggers:
        connection.execute(f"DROP TRIGGER {name}")
        connection.execute(f"CREATE TRIGGER {name} AFTER UPDATE ON {table} BEGIN DELETE FROM {table}; END")
    connection.close()
    if triggers:
        with pytest.raises(SchemaError, match=triggers[0][0]):
            rows_in(store)
