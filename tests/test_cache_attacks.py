"""Whoever can write to the cache's folder gets nothing for it: no code runs, no file is read or deleted for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import diskcache
import numpy as np
import pytest
from attack_cases import lay_bait, plant
from cache_cases import ARGS, changed, database, filled, made, names
from store_cases import run

from omnimemory.storage import cache as cache_module
from omnimemory.storage.bytes_disk import BytesCache
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.cache_rows import Scope, row_keys

USE = """
import sys
from pathlib import Path
from attack_cases import watched_use
watched_use(Path(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def everything(*roots: Path) -> dict[str, str]:
    """Return what is in these folders, besides the database itself."""
    found = {}
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("cache.d"):
                found[str(path)] = hashlib.blake2b(path.read_bytes()).hexdigest()
            elif not path.name.startswith("cache.d"):
                found[str(path)] = str(path.readlink()) if path.is_symlink() else ""
    return found


@pytest.mark.parametrize(
    ("count", "seed"), [(400, 1), pytest.param(10_000, 2, marks=pytest.mark.soak)], ids=["400", "10000"]
)
def test_planted_rows_run_read_and_delete_nothing_and_are_never_a_wrong_vector(folder, tmp_path, count, seed):
    outside, flag = tmp_path / "outside", tmp_path / "code-ran"
    plant(folder, outside, flag, count, seed)
    before = everything(folder, outside)
    told = json.loads(run(USE, folder, count))
    assert told["wrong"] == 0
    assert [call for call in told["called"] if "cache.damaged" not in call] == []  # the one file that is ours to remove
    assert set(told["opened"]) <= {str(folder), str(folder / "cache.db")}
    assert not flag.exists()
    assert everything(folder, outside) == before
    assert count / 100 < told["hits"] < count / 2, "the planting misses its aim"
    assert told["refused"] > count / 4


def test_the_watch_sees_what_diskcache_alone_would_do(folder, tmp_path):
    # Without this the test above could pass because nothing is seen.
    outside, flag = tmp_path / "outside", tmp_path / "code-ran"
    folder.mkdir()
    lay_bait(folder, outside, flag)
    with diskcache.Cache(str(folder)) as plain:
        plain["key"] = "value"
    changed(folder, "UPDATE Cache SET mode = 4, value = NULL, filename = '../outside/0.bin'")
    script = (
        "import sys, diskcache\nseen = set()\nsys.addaudithook(lambda event, _: seen.add(event))\n"
        "cache = diskcache.Cache(sys.argv[1])\ncache.get('key')\ncache.delete('key')\n"
        "print(sorted(seen & {'pickle.find_class', 'os.remove'}))"
    )
    assert run(script, folder) == "['os.remove', 'pickle.find_class']\n"
    assert flag.exists()
    assert not (outside / "0.bin").exists()


# -- MD5

TWINS = [f"TEXTCOLLBYfGiJUETHQ4h{letter}cKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak" for letter in "AE"]
"""Two texts with one MD5, found by Marc Stevens (2024)."""

WANG = (
    "d131dd02c5e6eec4693d9a0698aff95c2fcab5{}712467eab4004583eb8fb7f8955ad340609f4b30283e4888325{}1415a085125e8f7cdc99fd91d"
    "bd{}280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2{}487da03fd02396306d248cda0e99f33420f577ee8ce54b67080{}80d1ec69821bcb"
    "6a8839396f965{}b6ff72a70"
)
"""The first collision that was published (Wang, Feng, Lai, Yu 2004), as the six places in which its halves differ."""

BLOCKS = [bytes.fromhex(WANG.format(*places)) for places in ("87fba2", "0f732a")]


class NothingBefore(Scope):
    """A scope whose texts are hashed bare, so that texts with one MD5 have one key."""

    def __init__(self, space: str, role: str, dim: int) -> None:
        super().__init__(space, role, dim)
        self.prefix = b""


def test_texts_with_one_md5_never_get_each_other_s_vector(folder, monkeypatch):
    monkeypatch.setattr(cache_module, "Scope", NothingBefore)
    one, other = made(2)
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.put_many(*ARGS, TWINS[:1], [one])
        assert cache.get_many(*ARGS, TWINS[1:])[1].tolist() == [False]
        cache.put_many(*ARGS, TWINS[1:], [other])
        cache.put_many(*ARGS, TWINS[:1], [one])
        got, hits = cache.get_many(*ARGS, TWINS)
        assert hits.tolist() == [True, False]
        assert np.array_equal(got[0], one)
        cache.put_many(*ARGS, TWINS, [one, other])
        got, hits = cache.get_many(*ARGS, TWINS)
        assert hits.sum() == 1
        assert np.array_equal(got[hits], made(2)[hits])
        assert cache.stats()["items"] == 0, "a row that is no answer to one of the questions goes"
    assert len(set(row_keys(text.encode() for text in TWINS))) == 1


@pytest.mark.parametrize("pair", [[text.encode() for text in TWINS], BLOCKS], ids=["stevens-2024", "wang-2004"])
def test_what_has_one_md5_has_one_key_and_two_checks(pair):
    assert pair[0] != pair[1]
    assert len(set(row_keys(pair))) == 1
    scope, vector = Scope(*ARGS), made(1)[0]
    sealed = scope.seal(pair[0], memoryview(vector.tobytes()))
    assert scope.open(pair[0], sealed) == vector.tobytes()
    assert scope.open(pair[1], sealed) is None


# -- what SQLite itself would do

ENDLESS = "(WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n)"
SCHEMA = {
    "endless-trigger": [f"CREATE TRIGGER t AFTER INSERT ON Cache BEGIN UPDATE Settings SET value = {ENDLESS}; END"],
    "deleting-trigger": ["CREATE TRIGGER t AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END"],
    "trigger-of-the-same-name": [
        "DROP TRIGGER Settings_count_insert",
        f"CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache BEGIN DELETE FROM Cache WHERE {ENDLESS}; END",
    ],
    "endless-settings": ["DROP TABLE Settings", f"CREATE VIEW Settings AS SELECT 'hits' AS key, {ENDLESS} AS value"],
    "endless-cache": [
        "DROP TABLE Cache",
        f"CREATE VIEW Cache AS SELECT 1 AS rowid, 2 AS key, 1 AS raw, {ENDLESS} AS value",
    ],
    "virtual-table": ["CREATE VIRTUAL TABLE more USING fts5 (text)"],
    "one-more-table": ["CREATE TABLE more (text)"],
    "one-more-index": ["CREATE INDEX more ON Cache (length(value))"],
    "computed-column": ["ALTER TABLE Cache ADD COLUMN more AS (zeroblob(1000000000)) VIRTUAL"],
}


@pytest.mark.parametrize("statements", SCHEMA.values(), ids=SCHEMA)
def test_a_schema_that_diskcache_does_not_make_is_moved_aside_and_never_run(folder, statements):
    filled(folder)
    for statement in statements:
        changed(folder, statement)
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.get_many(*ARGS, names(5))
        cache.put_many(*ARGS, names(5), made(5))
        got, hits = cache.get_many(*ARGS, names(5))
        assert hits.all()
        assert np.array_equal(got, made(5))
        assert cache.stats()["items"] == 5
    assert (folder / "cache.damaged").exists()


def test_the_file_of_an_interrupted_start_is_taken_as_it_is(folder):
    filled(folder)
    for name in ("Settings_size_delete", "Settings_size_update"):
        changed(folder, f"DROP TRIGGER {name}")
    with EmbeddingCache(folder, hot_items=0) as cache:
        assert cache.get_many(*ARGS, names(5))[1].all()
    assert not (folder / "cache.damaged").exists()


LOGS = [f"cache.db{suffix}" for suffix in ("-wal", "-shm", "-journal")]


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to], ids=["symbolic", "hard"])
def test_a_link_in_the_place_of_a_log_is_not_written_through(folder, tmp_path, name, link):
    filled(folder)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious" * 9000)
    link(folder / name, precious)
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.put_many(*ARGS, names(200), made(200))
        assert cache.get_many(*ARGS, names(200))[1].all()
    assert precious.read_bytes() == b"precious" * 9000


def test_diskcache_is_not_asked_to_keep_anything_in_files(folder):
    filled(folder)
    with EmbeddingCache(folder) as cache:
        cache.get_many(*ARGS, names(1))
        inside = cache._connection._file
        assert isinstance(inside, BytesCache)
        with pytest.raises(TypeError, match="never in files"):
            inside.disk.filename()
    assert database(folder).execute("SELECT count(*) FROM Cache WHERE filename IS NOT NULL").fetchone() == (0,)
