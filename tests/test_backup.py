"""Backups: of one moment while others write, sound or not made, known to the store, and memories themselves."""

import os
import shutil
import signal

import pytest
from store_cases import start
from transfer_cases import export_of, exported, fill, memory_of

from omnimemory.errors import StoreBusyError, StoreError
from omnimemory.storage.backups import confirm_backup, draft_of, known_backups, record_backup
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.tombstones import add_stones
from omnimemory.transfer import backup as backup_module


@pytest.fixture
def memory(settings):
    with memory_of(settings) as opened:
        yield opened


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_backup_is_equal_and_a_memory_itself(settings, tmp_path):
    target = tmp_path / "backup"
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
        report = memory.backup(target)
        assert (report.chunks, report.commands, report.events, report.vectors) == (
            5,
            4,
            8,
            16,
        )  # 5 are of transitions, 2 of sequences
        assert report.bytes == (target / "catalog.sqlite3").stat().st_size
        data = exported(memory, vectors=True)
        question = memory.search("when is staging rebuilt?", k=5)
    with memory_of(settings, target) as copy:
        assert exported(copy, vectors=True) == data
        found = copy.search("when is staging rebuilt?", k=5)
        assert [(hit.id, hit.score, hit.ranks) for hit in found] == [(hit.id, hit.score, hit.ranks) for hit in question]
        assert copy.ingest(tmp_path / "docs").unchanged == 2
        assert copy.ingest_history(tmp_path / "zsh_history", shell="zsh").events == 0
        copy.add("only in the copy")
    assert export_of(settings, vectors=True) == data


def test_the_index_is_not_copied_but_made_anew_when_the_backup_is_used(indexed, tmp_path):
    target = tmp_path / "backup"
    settings = indexed.with_values({"search.exact_rows": 0})
    with memory_of(settings) as memory:
        memory.add([f"note number {number}" for number in range(20)])
        memory.warm()
        memory.backup(target)
        assert names(target) == ["catalog.sqlite3", "index.lock"]
    with memory_of(settings, target) as copy:
        index = copy.status()["store"]["index"]
        assert (index["generation"], index["waiting"]) == (None, 20)
        assert copy.warm() is None
        hits = copy.search("note number 7", k=1, mode="vector", explain=True)
        assert hits.explain["kinds"]["documents"]["answered_by"] == "chroma"
        assert hits[0].text == "note number 7"


def test_a_backup_is_of_one_moment_and_ends_while_others_write(memory, tmp_path, monkeypatch):
    fill(memory, tmp_path)
    before = exported(memory)
    monkeypatch.setattr(backup_module, "_PAGES", 4)
    steps = []

    def write(progress):
        assert len(steps) < 1000, "it begins again with each commit"
        steps.append(progress.done)
        memory.add(f"written during step {len(steps)}")

    memory.backup(tmp_path / "backup", progress=write)
    assert len(steps) > 5
    assert steps == sorted(steps)
    assert exported(memory) != before
    with memory_of(memory.settings, tmp_path / "backup") as copy:
        assert exported(copy) == before


def test_a_backup_is_private(memory, tmp_path):
    memory.add("mine")
    old = os.umask(0)
    try:
        memory.backup(tmp_path / "new" / "backup")
    finally:
        os.umask(old)
    files = [tmp_path / "new" / "backup", *(tmp_path / "new" / "backup").iterdir()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o700, 0o600, 0o600]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        pytest.param("full", "not empty, and a backup never overwrites", id="a folder with something in it"),
        pytest.param("file", "is no folder", id="a file"),
        pytest.param("store/backup", "inside of the store", id="inside of the store"),
        pytest.param("store", "inside of the store", id="the store itself"),
        pytest.param("file/backup", "cannot be used", id="below a file"),
    ],
)
def test_a_place_that_cannot_hold_a_backup_is_refused(memory, tmp_path, place, message):
    memory.add("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    with pytest.raises(StoreError, match=message):
        memory.backup(tmp_path / place)
    assert (tmp_path / "full" / "thesis.txt").read_text() == (tmp_path / "file").read_text() == "dear"
    assert known_backups(memory.store.path) == []


def test_an_empty_folder_is_taken(memory, tmp_path):
    memory.add("mine")
    (tmp_path / "backup").mkdir()
    memory.backup(tmp_path / "backup")
    assert "catalog.sqlite3" in names(tmp_path / "backup")


def test_a_damaged_catalog_gives_no_backup(memory, tmp_path):
    memory.add([f"note {number}" for number in range(300)])
    memory.store.catalog.value("PRAGMA wal_checkpoint(TRUNCATE)")
    page = memory.store.catalog.value("SELECT rootpage FROM sqlite_master WHERE name = 'vectors_item'")
    with (memory.store.path / "catalog.sqlite3").open("r+b") as file:
        file.seek((page - 1) * 8192)
        file.write(bytes(8192))
    with pytest.raises(StoreError, match=r"not sound|damaged"):
        memory.backup(tmp_path / "backup")
    assert not list(tmp_path.glob("backup*"))
    assert known_backups(memory.store.path) == []


KILLED = """
import os, signal, sys
from omnimemory.config import Settings
from omnimemory.memory import Memory
from omnimemory.transfer import backup
backup._PAGES = 4
def kill(progress):
    if progress.done:
        os.kill(os.getpid(), signal.SIGKILL)
with Memory(settings=Settings().with_values({"store.path": sys.argv[1], "index.enabled": False})) as memory:
    memory.backup(sys.argv[2], progress=kill)
"""


def test_a_backup_that_is_killed_is_no_backup_but_known_until_the_next(settings, tmp_path):
    target = tmp_path / "backup"
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
    child = start(KILLED, settings.store.path, target)
    _, error = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, error
    assert not target.exists()
    assert known_backups(settings.store.path) == [draft_of(target)]
    with memory_of(settings) as memory:
        memory.backup(target)
    assert known_backups(settings.store.path) == [target]
    assert not draft_of(target).exists()


def test_a_backup_that_is_interrupted_leaves_nothing(memory, tmp_path):
    memory.add("mine")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.backup(tmp_path / "backup", progress=interrupt)
    assert not list(tmp_path.glob("backup*"))
    assert known_backups(memory.store.path) == []


def test_a_folder_of_that_name_which_is_no_rest_of_a_backup_is_left_alone(memory, tmp_path):
    memory.add("mine")
    draft = draft_of(tmp_path / "backup")
    draft.mkdir()
    (draft / "thesis.txt").write_text("dear")
    with pytest.raises(StoreError, match=r"not the rest of an earlier one \(thesis\.txt\)"):
        memory.backup(tmp_path / "backup")
    assert (draft / "thesis.txt").read_text() == "dear"


def test_two_backups_to_one_place_do_not_meet(memory, tmp_path):
    memory.add("mine")
    draft = draft_of(tmp_path / "backup")
    draft.mkdir()
    other = IndexLock(draft / "index.lock")
    assert other.acquire()
    with pytest.raises(StoreBusyError, match=f"Process {os.getpid()} is making a backup"):
        memory.backup(tmp_path / "backup")
    other.release()
    memory.backup(tmp_path / "backup")


def test_what_is_forgotten_while_a_backup_is_made_is_in_none(memory, tmp_path):
    memory.add("to be forgotten")

    def forget(_):
        with memory.store.catalog.transaction() as sql:
            add_stones(sql, [b"0" * 16])

    with pytest.raises(StoreBusyError, match="Make it again"):
        memory.backup(tmp_path / "backup", progress=forget)
    assert not list(tmp_path.glob("backup*"))
    memory.backup(tmp_path / "backup")


# -- which backups are known


def test_backups_are_known_in_the_order_they_were_made_also_those_of_backups(memory, tmp_path):
    memory.add("mine")
    for name in ("one", "two"):
        memory.backup(tmp_path / name)
    with memory_of(memory.settings, tmp_path / "one") as copy:
        copy.backup(tmp_path / "copy of one")
    migrated = memory.store.path / "catalog.sqlite3.schema-0001.backup"
    migrated.write_bytes(b"")
    expected = [migrated, tmp_path / "one", tmp_path / "copy of one", tmp_path / "two"]
    assert known_backups(memory.store.path) == expected
    shutil.rmtree(tmp_path / "two")
    assert known_backups(memory.store.path) == expected  # its disk may come back
    assert (memory.store.path / "backups.jsonl").stat().st_mode & 0o777 == 0o600


def test_another_memory_where_a_backup_was_is_not_taken_for_it(settings, tmp_path):
    with memory_of(settings) as memory:
        memory.add("mine")
        memory.backup(tmp_path / "backup")
    shutil.rmtree(tmp_path / "backup")
    with memory_of(settings, tmp_path / "backup") as other:
        other.add("somebody else's")
    assert known_backups(settings.store.path) == []


def test_a_backup_that_was_never_begun_or_has_failed_is_not_known(tmp_path):
    record_backup(tmp_path, tmp_path / "failed")
    confirm_backup(tmp_path, tmp_path / "made")
    with (tmp_path / "backups.jsonl").open("a") as file:
        file.write('{"path": "/torn')
    assert known_backups(tmp_path) == [tmp_path / "made"]
    confirm_backup(tmp_path, tmp_path / "later")
    assert known_backups(tmp_path) == [tmp_path / "made", tmp_path / "later"]


@pytest.mark.parametrize("line", ["{}", '{"path": "relative", "state": "made"}', '{"path": 7, "state": "made"}', "{x}"])
def test_a_damaged_list_is_an_error_that_names_the_line(tmp_path, line):
    confirm_backup(tmp_path, tmp_path / "made")
    with (tmp_path / "backups.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(StoreError, match=r"backups\.jsonl, line 2, is damaged"):
        known_backups(tmp_path)


def test_a_list_that_cannot_be_written_stops_the_backup(memory, tmp_path):
    memory.add("mine")
    (memory.store.path / "backups.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="would never be reached by forget"):
        memory.backup(tmp_path / "backup")
    assert not list(tmp_path.glob("backup*"))
