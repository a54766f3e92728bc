from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from cache_cases import ARGS, changed, database, filled, key_of, made, names
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnimemory.storage.bytes_disk import BytesDisk, RefusedRowError
from omnimemory.storage.cache import EmbeddingCache

ONE_FOLDER = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@settings(max_examples=80, deadline=None, suppress_health_check=ONE_FOLDER)
@given(data=st.data())
def test_a_changed_value_is_never_a_wrong_vector(folder, data):
    shutil.rmtree(folder, ignore_errors=True)
    vectors = filled(folder, 1)
    connection = database(folder)
    value = bytearray(connection.execute("SELECT value FROM Cache").fetchone()[0])
    for place in data.draw(st.lists(st.integers(0, len(value) - 1), min_size=1, max_size=3)):
        value[place] ^= data.draw(st.integers(0, 255))
    kept = data.draw(st.sampled_from([len(value), len(value) - 1, 4, 0]))
    connection.execute("UPDATE Cache SET value = ?", (bytes(value[:kept]),))
    connection.close()
    with EmbeddingCache(folder) as cache:
        got, hits = cache.get_many(*ARGS, names(1))
        if hits.any():
            assert got.tobytes() == vectors.tobytes()
        else:
            assert (cache.stats()["refused"], cache.stats()["items"]) == (1, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=ONE_FOLDER)
@given(seed=st.integers(0, 2**32 - 1), flips=st.sampled_from([1, 16, 200]))
def test_flipped_bytes_anywhere_in_the_file_are_never_a_wrong_vector(folder, seed, flips):
    shutil.rmtree(folder, ignore_errors=True)
    vectors = filled(folder, 60, 64)
    random, path = np.random.default_rng(seed), folder / "cache.db"
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[random.integers(0, len(content), flips)] ^= random.integers(1, 256, flips, dtype=np.uint8)
    path.write_bytes(content.tobytes())
    with EmbeddingCache(folder, hot_items=0, retry_seconds=0) as cache:
        for _ in range(2):
            got, hits = cache.get_many("space", "document", 64, names(60))
            assert np.array_equal(got[hits], vectors[hits])
            cache.put_many("space", "document", 64, names(60), vectors)


def test_the_answer_to_another_question_is_refused_even_under_the_right_key(folder):
    # This is what two texts with the same MD5 would amount to.
    filled(folder, 2)
    connection = database(folder)
    (theirs,) = connection.execute("SELECT value FROM Cache WHERE key = ?", (key_of("text 1"),)).fetchone()
    connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (theirs, key_of("text 0")))
    connection.close()
    with EmbeddingCache(folder) as cache:
        assert cache.get_many(*ARGS, names(2))[1].tolist() == [False, True]
        assert (cache.stats()["refused"], cache.stats()["items"]) == (1, 1)


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


PLANTED = {
    "pickled-value": "UPDATE Cache SET mode = 4, value = :pickle",
    "pickled-value-in-file": "UPDATE Cache SET mode = 4, value = NULL, filename = :name",
    "file-outside": "UPDATE Cache SET mode = 2, value = NULL, filename = :name",
    "text-file-outside": "UPDATE Cache SET mode = 3, value = NULL, filename = :name",
    "file-beside-value": "UPDATE Cache SET filename = :name",
    "wrong-mode": "UPDATE Cache SET mode = 4",
    "mode-of-a-wrong-type": "UPDATE Cache SET mode = 'raw'",
    "raw-pickle": "UPDATE Cache SET value = :pickle",
    "text": "UPDATE Cache SET value = 'text'",
    "broken-text": "UPDATE Cache SET value = CAST(x'ff00fe' AS TEXT)",
    "number": "UPDATE Cache SET value = 7",
    "null": "UPDATE Cache SET value = NULL",
    "huge": "UPDATE Cache SET value = zeroblob(50000000)",
}


@pytest.mark.parametrize("statement", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_row_is_a_miss_that_runs_reads_and_deletes_nothing(folder, tmp_path, statement):
    filled(folder, 1)
    flag, victim = tmp_path / "code-ran", tmp_path / "victim"
    victim.write_bytes(pickle.dumps(Touch(flag)))
    planted = {"pickle": pickle.dumps(Touch(flag)), "name": "../victim"}
    changed(folder, statement, {name: value for name, value in planted.items() if f":{name}" in statement})
    with EmbeddingCache(folder) as cache:
        assert not cache.get_many(*ARGS, names(1))[1].any()
        assert (cache.stats()["refused"], cache.stats()["items"]) == (1, 0)
        cache.put_many(*ARGS, names(1), made(1))
    with EmbeddingCache(folder) as cache:
        assert cache.get_many(*ARGS, names(1))[1].all()
    assert not flag.exists()
    assert victim.exists()


def test_a_pickled_twin_of_a_key_is_deleted_and_the_good_row_answers(folder, tmp_path):
    vectors = filled(folder, 1)
    columns = "store_time, access_count, size, mode, value"
    changed(folder, f"INSERT INTO Cache (key, raw, {columns}) SELECT key, 0, {columns} FROM Cache")
    with EmbeddingCache(folder, hot_items=0) as cache:
        for refused in (1, 1):
            got, hits = cache.get_many(*ARGS, names(1))
            assert hits.all()
            assert np.array_equal(got, vectors)
            assert (cache.stats()["refused"], cache.stats()["items"]) == (refused, 1)


def test_the_ways_of_diskcache_itself_run_nothing(folder, tmp_path):
    filled(folder, 1)
    flag, victim = tmp_path / "code-ran", tmp_path / "victim"
    victim.write_bytes(pickle.dumps(Touch(flag)))
    payload = pickle.dumps(Touch(flag))
    changed(folder, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, x'00')", (payload,))
    changed(folder, "INSERT INTO Cache (key, raw, mode, value) VALUES ('pickle', 1, 4, ?)", (payload,))
    for name, mode in (("binary", 2), ("words", 3), ("pickled", 4)):
        changed(folder, "INSERT INTO Cache (key, raw, mode, filename) VALUES (?, 1, ?, ?)", (name, mode, "../victim"))
    with EmbeddingCache(folder) as cache:
        cache.get_many(*ARGS, names(1))
        inside = cache._connection._file
        for name in ("pickle", "binary", "words", "pickled"):
            assert inside.get(name) is None
            assert inside.get(name, read=True) is None
            assert inside.delete(name)
        with pytest.raises(RefusedRowError):
            list(inside.iterkeys())
        with pytest.raises(TypeError):
            inside.set("key", {"an": "object"})
        with pytest.raises(TypeError):
            inside.set(("a", "tuple"), b"bytes")
        assert inside.set("key", b"bytes" * 100_000)
        assert inside.get("key") == b"bytes" * 100_000
        inside.clear()
    assert not flag.exists()
    assert victim.exists()
    assert {entry.name for entry in folder.iterdir()} == {"cache.db"}


def test_the_disk_takes_and_gives_bytes_only(tmp_path):
    disk = BytesDisk(str(tmp_path), min_file_size=0, pickle_protocol=5, planted="x")
    assert disk.put(b"key") == (b"key", True)
    assert disk.put("key") == ("key", True)
    assert disk.get(b"key", 1) == b"key"
    assert disk.fetch(1, None, b"value", read=False) == b"value"
    for key in (1, 1.0, None, ("a",)):
        with pytest.raises(TypeError):
            disk.put(key)
    for value in ("text", 1, None, bytearray(b"x")):
        with pytest.raises(TypeError):
            disk.store(value, read=False)
    with pytest.raises(TypeError):
        disk.store(b"x", read=True)
    with pytest.raises(TypeError):
        disk.filename()


SETTINGS = {
    "pragma": ("sqlite_writable_schema", 1),
    "our-pragma": ("sqlite_synchronous", 0),
    "statement": ("sqlite_user_version = 666; --", 1),
    "journal": ("sqlite_journal_mode", "delete"),
    "policy": ("eviction_policy", "least-recently-stored"),
    "unknown-policy": ("eviction_policy", "none-such"),
    "limit": ("size_limit", 1),
    "files": ("disk_min_file_size", 0),
    "disk-argument": ("disk_unknown", 1),
    "attribute": ("_sql", "boom"),
    "method": ("execute", "boom"),
    "not-a-name": (b"\xff\x00", 1),
    "number-as-name": (7, 1),
    "count": ("count", "many"),
    "no-count": ("count", None),
    "no-hits": ("hits", None),
    "hits": ("hits", "many"),
}


@pytest.mark.parametrize(("name", "value"), SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_in_the_file_change_nothing(folder, name, value):
    vectors = filled(folder)
    changed(folder, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", (name, value))
    with EmbeddingCache(folder, hot_items=0) as cache:
        got, hits = cache.get_many(*ARGS, names(5))
        assert hits.all()
        assert np.array_equal(got, vectors)
        cache.put_many(*ARGS, ["more"], made(1))
        stats = cache.stats()
        assert (stats["items"], stats["refused"]) == (6, 0)
        inside = cache._connection._file
        expected = {"writable_schema": 0, "synchronous": 1, "user_version": 0, "journal_mode": "wal"}
        assert {pragma: inside.execute(f"PRAGMA {pragma}")[0][0] for pragma in expected} == expected
        assert (inside.eviction_policy, inside.cull_limit) == ("none", 0)
        assert inside.disk.min_file_size > 2**40
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]
