from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest
from cache_cases import ARGS, database, filled, made, names

from omnimemory.errors import StoreError
from omnimemory.storage import bytes_disk
from omnimemory.storage.cache import EmbeddingCache


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def warnings_said(caplog):
    caplog.set_level(logging.WARNING, logger="omnimemory")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "omnimemory"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_only_the_user_can_look_inside(folder, umask):
    before = os.umask(umask)
    try:
        with EmbeddingCache(folder) as cache:
            cache.put_many(*ARGS, ["text"], made(1))
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {"cache.db": 0o600, "cache.db-wal": 0o600, "cache.db-shm": 0o600}


def test_an_open_folder_and_file_are_closed_to_others(folder):
    filled(folder)
    folder.chmod(0o755)
    (folder / "cache.db").chmod(0o644)
    with EmbeddingCache(folder) as cache:
        assert cache.get_many(*ARGS, names(5))[1].all()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "cache.db").stat().st_mode) == 0o600


def precious(path: Path) -> Path:
    victim = path.parent.with_name("victim")
    other_schema(victim, "CREATE TABLE precious (thing)")
    return victim


def other_schema(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()


BROKEN = {
    "garbage": lambda path: path.write_bytes(b"not a database" * 1000),
    "short": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "header-only": lambda path: os.truncate(path, 16_384),
    "link": lambda path: path.symlink_to(precious(path)),
    "hard-link": lambda path: os.link(precious(path), path),
    "folder": Path.mkdir,
    "fifo": os.mkfifo,
    "other-table": lambda path: other_schema(path, "CREATE TABLE Cache (key, value)"),
    "view": lambda path: other_schema(path, "CREATE VIEW Cache AS SELECT 1 AS key"),
    "settings-without-names": lambda path: other_schema(path, "CREATE VIEW Settings AS SELECT NULL AS key, 1 AS value"),
    "other-settings": lambda path: other_schema(path, "CREATE TABLE Settings (other)"),
}


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_moved_aside_once_and_work_goes_on(folder, warnings_said, breaks):
    filled(folder, 200)
    path = folder / "cache.db"
    if breaks not in (BROKEN["cut"], BROKEN["header-only"]):
        path.unlink()
    breaks(path)
    victim = folder.with_name("victim")
    before = victim.read_bytes() if victim.exists() else None
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.get_many(*ARGS, names(200))
        cache.put_many(*ARGS, names(200), made(200, seed=5))
        got, hits = cache.get_many(*ARGS, names(200))
        assert hits.all()
        assert np.array_equal(got, made(200, seed=5))
    (said,) = warnings_said()
    assert "damaged" in said
    assert os.path.lexists(folder / "cache.damaged")
    assert {entry.name for entry in folder.iterdir()} == {"cache.db", "cache.damaged"}
    assert before is None or victim.read_bytes() == before


def test_an_empty_file_is_a_new_cache(folder, warnings_said):
    folder.mkdir()
    (folder / "cache.db").touch()
    filled(folder)
    assert warnings_said() == []


def damage_in_use(folder: Path) -> None:
    os.truncate(folder / "cache.db", 20_000)


def replace_in_use(folder: Path) -> None:
    shutil.rmtree(folder)
    filled(folder)


WHILE_OPEN = {
    "folder-deleted": shutil.rmtree,
    "file-deleted": lambda folder: (folder / "cache.db").unlink(),
    "cut": damage_in_use,
    "replaced": replace_in_use,
}


@pytest.mark.parametrize("breaks", WHILE_OPEN.values(), ids=WHILE_OPEN.keys())
def test_a_file_that_goes_while_in_use_is_begun_anew(folder, breaks):
    filled(folder, 300)
    with EmbeddingCache(folder, hot_items=0) as cache:
        assert cache.get_many(*ARGS, ["text 0"])[1].all()
        breaks(folder)
        cache.get_many(*ARGS, names(300))
        cache.put_many(*ARGS, ["after"], made(1))
        assert cache.get_many(*ARGS, ["after"])[1].all()
    with EmbeddingCache(folder) as cache:
        assert cache.get_many(*ARGS, ["after"])[1].all()


def not_a_folder(folder: Path) -> None:
    folder.write_text("a file")


def dangling(folder: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


def circle(folder: Path) -> None:
    folder.symlink_to(folder)


@pytest.mark.parametrize("breaks", [not_a_folder, dangling, circle])
def test_a_folder_that_cannot_be_made_is_said_once_and_everything_is_a_miss(folder, warnings_said, breaks):
    breaks(folder)
    with EmbeddingCache(folder, hot_items=0, retry_seconds=0) as cache:
        for _ in range(3):
            cache.put_many(*ARGS, ["text"], made(1))
            assert not cache.get_many(*ARGS, ["text"])[1].any()
        assert cache.stats()["items"] == 0
    assert len(warnings_said()) == 1


@pytest.mark.parametrize("through_link", [False, True])
def test_the_folder_of_another_user_is_left_alone(folder, tmp_path, warnings_said, through_link):
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 65_534, 65_534)
    else:
        theirs = Path("/")
    before = sorted(entry.name for entry in theirs.iterdir())
    if through_link:
        folder.symlink_to(theirs)
    with EmbeddingCache(folder if through_link else theirs, hot_items=0) as cache:
        cache.put_many(*ARGS, ["text"], made(1))
        assert not cache.get_many(*ARGS, ["text"])[1].any()
    assert sorted(entry.name for entry in theirs.iterdir()) == before
    (said,) = warnings_said()
    assert "another user" in said


def test_after_an_error_the_file_rests_for_a_while(folder, warnings_said):
    not_a_folder(folder)
    with EmbeddingCache(folder, hot_items=0, retry_seconds=3600) as cache:
        cache.put_many(*ARGS, ["text"], made(1))
        folder.unlink()
        cache.put_many(*ARGS, ["text"], made(1))
        assert not folder.exists()
    with EmbeddingCache(folder, hot_items=0, retry_seconds=0) as cache:
        cache.put_many(*ARGS, ["text"], made(1))
        assert cache.get_many(*ARGS, ["text"])[1].all()


def test_a_file_that_somebody_keeps_locked_stops_nobody(folder, warnings_said, monkeypatch):
    monkeypatch.setattr(bytes_disk, "BUSY_SECONDS", 0.05)
    vectors = filled(folder)
    with EmbeddingCache(folder, hot_items=0, retry_seconds=0) as cache:
        cache.get_many(*ARGS, names(1))
        other = database(folder)
        other.execute("BEGIN IMMEDIATE")
        cache.put_many(*ARGS, ["more"], made(1))
        got, hits = cache.get_many(*ARGS, [*names(5), "more"])
        assert hits.tolist() == [True] * 5 + [False]
        assert np.array_equal(got[:5], vectors)
        with pytest.raises(StoreError, match="Cannot clear"):
            cache.clear()
        with pytest.raises(StoreError, match="Cannot delete"):
            cache.delete_many(*ARGS, names(1))
        other.close()
        cache.put_many(*ARGS, ["more"], made(1))
        assert cache.get_many(*ARGS, ["more"])[1].all()
    assert len(warnings_said()) == 1
    assert not (folder / "cache.damaged").exists()


def test_a_full_disk_keeps_what_was_there_and_takes_no_half_batch(folder, warnings_said):
    vectors = filled(folder, 20, 256)
    with EmbeddingCache(folder, hot_items=0, retry_seconds=0) as cache:
        cache.get_many("space", "document", 256, names(1))
        inside = cache._connection._file
        pages = inside.execute("PRAGMA page_count")[0][0]
        inside.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite then says the disk is full
        more = [f"more {number}" for number in range(1000)]
        cache.put_many("space", "document", 256, more, made(1000, 256))
        assert not cache.get_many("space", "document", 256, more)[1].any()
        got, hits = cache.get_many("space", "document", 256, names(20))
        assert hits.all()
        assert np.array_equal(got, vectors)
    (said,) = warnings_said()
    assert "full" in said
