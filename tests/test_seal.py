"""The seal: an untouched catalog is believed at once, a touched one is read, one that lost something is refused."""

import os
import shutil
import sqlite3
import time

import pytest
from care_cases import fill, memory_of
from store_cases import start

from omnimemory.errors import CatalogDamagedError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.custody import LostLogError
from omnimemory.storage.seal import SEALED, SUSPECT, WRITING, Look, Record, look_at, read_seal, seal_file

OPEN = """
import sys
from pathlib import Path
from omnimemory.storage.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]))
print("read" if "omnimemory.storage.verification" in sys.modules else "believed")
catalog.close()
"""


def how_opened(path):
    out, err = start(OPEN, path).communicate(timeout=60)
    assert not err
    return out.strip()


@pytest.fixture
def path(settings, tmp_path):
    return fill(settings, tmp_path).store.path / "catalog.sqlite3"


def test_a_catalog_that_nobody_touched_is_believed_and_a_touched_one_read_once(path):
    assert how_opened(path) == "believed"
    os.utime(path)
    assert [how_opened(path), how_opened(path)] == ["read", "believed"]


def test_a_copied_store_is_read_once(path, tmp_path):
    shutil.copytree(path.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / path.name
    assert [how_opened(copy), how_opened(copy)] == ["read", "believed"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda seal: seal.unlink(), id="gone"),
        pytest.param(lambda seal: seal.write_bytes(b""), id="empty"),
        pytest.param(lambda seal: seal.write_bytes(seal.read_bytes()[:-1] + b"?"), id="garbled"),
        pytest.param(lambda seal: seal.write_bytes(seal.read_bytes() * 2), id="longer"),
    ],
)
def test_a_seal_that_says_nothing_costs_a_check_and_is_made_anew(path, spoil):
    spoil(seal_file(path))
    assert [how_opened(path), how_opened(path)] == ["read", "believed"]
    assert seal_file(path).stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_the_seal_is_not_followed(path, tmp_path):
    (tmp_path / "other").write_text("mine")
    seal_file(path).unlink()
    seal_file(path).symlink_to(tmp_path / "other")
    assert how_opened(path) == "read"
    assert (tmp_path / "other").read_text() == "mine"


KILLED = """
import os, signal, sys
from pathlib import Path
from omnimemory.storage.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]))
for number in range(3):
    with catalog.transaction() as sql:
        sql.execute("INSERT INTO meta VALUES (?, 'x')", (f"row {number}",))
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(path):
    child = start(KILLED, path)
    child.communicate(timeout=60)
    assert child.returncode == -9


def test_the_catalog_of_a_killed_process_is_believed_with_all_it_acknowledged(path):
    kill_a_writer(path)
    assert read_seal(path).state == SEALED
    assert how_opened(path) == "believed"
    catalog = Catalog(path)
    assert catalog.value("SELECT count(*) FROM meta WHERE key LIKE 'row %'") == 3
    catalog.close()


def test_a_lost_log_is_refused_each_time_and_not_only_the_first(path):
    kill_a_writer(path)
    path.with_name(f"{path.name}-wal").unlink()
    for _ in range(3):
        with pytest.raises(LostLogError, match="the last 3"):
            Catalog(path)


def test_an_older_backup_that_is_put_back_is_read_and_believed(path, caplog):
    backup = path.read_bytes()
    kill_a_writer(path)
    how_opened(path)
    path.write_bytes(backup)
    Catalog(path).close()
    assert "backup that was put back" in caplog.text
    assert how_opened(path) == "believed"


@pytest.mark.slow
def test_a_change_right_after_the_close_is_noticed(settings, path):
    for number in range(20):
        with memory_of(settings) as memory:
            memory.add(f"note {number}")
        data = bytearray(path.read_bytes())
        place = data.index(b"All about the harbour")
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(CatalogDamagedError):
            Catalog(path)
        data[place] ^= 1
        path.write_bytes(data)
    assert how_opened(path) == "read"  # it was said to be damaged, so it is read once more
    assert how_opened(path) == "believed"


def test_who_opens_it_beside_somebody_else_does_not_read_it_again(path):
    first = Catalog(path)
    os.utime(path)
    assert how_opened(path) == "believed"
    first.close()


def test_a_check_that_fails_holds_for_everybody_who_waited_for_it(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE chunks SET text = 'something else' WHERE id = 1")
    connection.close()
    children = [start(OPEN, path) for _ in range(4)]
    assert all("CatalogDamagedError" in child.communicate(timeout=60)[1] for child in children)
    assert read_seal(path).state == SUSPECT


def test_a_commit_that_was_broken_off_by_a_kill_is_no_damage(path):
    child = start(KILLED, path, OMNIMEMORY_FAULTS="commit.after:kill@2")
    child.communicate(timeout=60)
    assert read_seal(path).state == WRITING
    catalog = Catalog(path)
    assert catalog.value("SELECT count(*) FROM meta WHERE key LIKE 'row %'") == 2
    catalog.close()


def test_a_store_that_cannot_be_sealed_still_works(settings, path):
    seal_file(path).unlink()
    seal_file(path).mkdir()
    with memory_of(settings) as memory:
        assert memory.add("goes on")


def test_a_record_is_read_as_it_was_written(tmp_path):
    for record in (
        Record(SEALED, 5, Look(1, 2, 3, 4)),
        Record(SUSPECT, 2**62, Look(2**62, time.time_ns(), 0, 2**63 - 1), 2**32 - 1, 7),
    ):
        seal_file(tmp_path / "c").write_bytes(record.packed())
        assert read_seal(tmp_path / "c") == record
    assert look_at(tmp_path / "nowhere") is None
