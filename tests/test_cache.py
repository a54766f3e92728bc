from __future__ import annotations

import logging
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from omnimemory.errors import ConfigError, InvalidVectorError, StoreError
from omnimemory.storage import bytes_disk
from omnimemory.storage.bytes_disk import BytesDisk, RefusedRowError
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.cache_rows import Scope, row_keys

ROOT = Path(__file__).resolve().parents[1]
ARGS = ("space", "document", 4)
ONE_FOLDER = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    with EmbeddingCache(folder, hot_items=0) as opened:
        yield opened


@pytest.fixture
def warnings_said(caplog):
    caplog.set_level(logging.WARNING, logger="omnimemory")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "omnimemory"]


def made(count: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def names(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def filled(folder: Path, count: int = 5, dim: int = 4) -> np.ndarray:
    vectors = made(count, dim)
    with EmbeddingCache(folder) as cache:
        cache.put_many("space", "document", dim, names(count), vectors)
    return vectors


def database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "cache.db", isolation_level=None)


def changed(folder: Path, statement: str, parameters: tuple = ()) -> None:
    connection = database(folder)
    connection.execute(statement, parameters)
    connection.close()


def key_of(text: str, dim: int = 4) -> bytes:
    return row_keys(Scope("space", "document", dim).materials([text]))[0]


def run(script: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (0, "")
    return output


# What is put is what comes back


def test_vectors_come_back_in_order_with_a_mask_of_the_hits(folder):
    vectors = filled(folder)
    with EmbeddingCache(folder) as cache:
        got, hits = cache.get_many(*ARGS, ["text 3", "unknown", "text 0", "text 3"])
    assert hits.tolist() == [True, False, True, True]
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.array_equal(got, np.stack([vectors[3], np.zeros(4, np.float32), vectors[0], vectors[3]]))


def test_no_texts_are_no_question(cache, folder):
    got, hits = cache.get_many(*ARGS, [])
    assert (got.shape, hits.shape) == ((0, 4), (0,))
    cache.put_many(*ARGS, [], np.empty((0, 4)))
    assert not folder.exists()


def test_more_texts_than_a_statement_can_hold(cache):
    vectors = made(2500)
    cache.put_many(*ARGS, names(2500), vectors)
    got, hits = cache.get_many(*ARGS, names(2500))
    assert hits.all()
    assert np.array_equal(got, vectors)


def test_a_second_put_replaces_the_first(cache):
    cache.put_many(*ARGS, ["text"], made(1, seed=1))
    cache.put_many(*ARGS, ["text"], made(1, seed=2))
    got, _ = cache.get_many(*ARGS, ["text"])
    assert np.array_equal(got, made(1, seed=2))
    assert cache.stats()["items"] == 1


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=8, unique=True)


@settings(max_examples=60, deadline=None, suppress_health_check=ONE_FOLDER)
@given(data=st.data(), texts=TEXTS, hot=st.sampled_from([0, 3, 100]))
def test_get_after_put_returns_exactly_what_was_put(tmp_path_factory, data, texts, hot):
    vectors = data.draw(arrays(np.float32, (len(texts), 3), elements=FLOATS))
    with EmbeddingCache(tmp_path_factory.mktemp("cache"), hot_items=hot) as cache:
        cache.put_many("space", "query", 3, texts, vectors)
        got, hits = cache.get_many("space", "query", 3, texts)
    assert hits.all()
    assert got.tobytes() == vectors.tobytes()


@pytest.mark.parametrize(
    "other",
    [
        ("space2", "document", 4, "text"),
        ("space", "query", 4, "text"),
        ("space", "document", 5, "text"),
        ("space", "document", 4, "text "),
        ("spac", "edocument", 4, "text"),
        ("space", "documen", 4, "ttext"),
        ("spacedocument", "", 4, "text"),
        ("", "spacedocument", 4, "text"),
        ("space", "document\0", 4, "text"),
        ("space", "document", 4, "\0text"),
    ],
    ids=["space", "role", "dim", "text", "shift-1", "shift-2", "all-space", "all-role", "nul-role", "nul-text"],
)
def test_another_question_is_a_miss(cache, other):
    cache.put_many("space", "document", 4, ["text"], made(1))
    *scope, text = other
    assert not cache.get_many(*scope, [text])[1].any()
    cache.put_many(*scope, [text], made(1, scope[2], seed=1))
    assert np.array_equal(cache.get_many("space", "document", 4, ["text"])[0], made(1))
    assert np.array_equal(cache.get_many(*scope, [text])[0], made(1, scope[2], seed=1))


PARTS = st.text(st.sampled_from("ab\0\1|:"), max_size=5)
QUESTIONS = st.tuples(PARTS, PARTS, st.integers(1, 300), PARTS)


@given(QUESTIONS, QUESTIONS)
def test_different_questions_never_share_the_bytes_that_are_hashed(one, two):
    def material(space: str, role: str, dim: int, text: str) -> bytes:
        return Scope(space, role, dim).materials([text])[0]

    assert (material(*one) == material(*two)) == (one == two)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 4)), r"shape \(2, 4\); expected \(1, 4\)"),
        (np.ones((1, 5)), r"shape \(1, 5\)"),
        (np.ones(4), r"shape \(4,\)"),
        ([[1.0, 2.0, float("nan"), 4.0]], "NaN"),
        ([[1.0, 2.0, float("inf"), 4.0]], "NaN or infinity"),
    ],
    ids=["rows", "dim", "1-d", "nan", "inf"],
)
def test_bad_vectors_are_not_stored(cache, vectors, message):
    with pytest.raises(InvalidVectorError, match=message):
        cache.put_many(*ARGS, ["text"], vectors)
    assert not cache.get_many(*ARGS, ["text"])[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size_limit": 1000}, "1 MiB"), ({"size_limit": 0}, "1 MiB"), ({"hot_items": -1}, "use 0")],
    ids=["small-limit", "no-room", "negative-hot"],
)
def test_impossible_settings_are_refused(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingCache(folder, **options)


@pytest.mark.parametrize("dim", [0, -1, 70_000])
def test_impossible_sizes_are_refused(cache, dim):
    with pytest.raises(ConfigError, match="dimensions"):
        cache.get_many("space", "query", dim, ["text"])


# The layer in memory


def test_the_hot_layer_answers_without_the_file(folder):
    vectors = made(3)
    with EmbeddingCache(folder) as cache:
        cache.put_many(*ARGS, names(3), vectors)
        shutil.rmtree(folder)
        got, hits = cache.get_many(*ARGS, names(3))
        assert hits.all()
        assert np.array_equal(got, vectors)
        assert cache.stats()["hot_hits"] == 3


def test_the_hot_layer_keeps_what_was_used_last(folder):
    with EmbeddingCache(folder, hot_items=2) as cache:
        cache.put_many(*ARGS, names(2), made(2))
        cache.get_many(*ARGS, ["text 0"])
        cache.put_many(*ARGS, ["text 9"], made(1))
        shutil.rmtree(folder)
        assert cache.get_many(*ARGS, ["text 0", "text 1", "text 9"])[1].tolist() == [True, False, True]


def test_long_texts_do_not_fill_the_memory(folder):
    with EmbeddingCache(folder) as cache:
        cache.put_many(*ARGS, ["long " * 1000], made(1))
        assert cache.get_many(*ARGS, ["long " * 1000])[1].all()
        assert cache.stats()["hot_hits"] == 0


@pytest.mark.parametrize("hot", [0, 10])
def test_a_caller_cannot_poison_the_cache_through_its_arrays(folder, hot):
    mine = made(2)
    with EmbeddingCache(folder, hot_items=hot) as cache:
        cache.put_many(*ARGS, names(2), mine)
        mine[:] = 7
        for _ in range(2):
            got, _ = cache.get_many(*ARGS, names(2))
            assert np.array_equal(got, made(2))
            got[:] = 9


# Rows that are not believed


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


# A file or folder that is not as it should be


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


# Deleting, limits, figures


def test_deleted_vectors_are_gone_from_every_byte_on_disk(folder):
    vectors = filled(folder, 50, 256)
    with EmbeddingCache(folder) as cache:
        assert cache.get_many("space", "document", 256, names(50))[1].all()
        (folder / "cache.damaged").write_bytes(vectors[7].tobytes())
        assert cache.delete_many("space", "document", 256, ["text 7", "unknown", "text 8", "text 7"]) == 2
        hits = cache.get_many("space", "document", 256, names(50))[1]
        assert np.flatnonzero(~hits).tolist() == [7, 8]
        content = b"".join(entry.read_bytes() for entry in folder.iterdir())
    assert vectors[6].tobytes() in content
    assert vectors[7].tobytes() not in content
    assert vectors[8].tobytes() not in content


def test_clearing_leaves_nothing_and_gives_the_space_back(folder):
    filled(folder, 3000, 64)
    size = (folder / "cache.db").stat().st_size
    (folder / "cache.damaged").write_bytes(b"old")
    with EmbeddingCache(folder) as cache:
        cache.get_many("space", "document", 64, names(10))
        assert cache.clear() == 3000
        assert cache.clear() == 0
        assert not cache.get_many("space", "document", 64, names(3000))[1].any()
    assert sum(entry.stat().st_size for entry in folder.iterdir()) < size / 5
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]


def test_deleting_from_a_cache_that_is_not_there_makes_none(folder):
    with EmbeddingCache(folder) as cache:
        assert cache.clear() == 0
        assert cache.delete_many(*ARGS, ["text"]) == 0
        assert cache.stats()["items"] == 0
    assert not folder.exists()


def test_a_size_limit_drops_what_was_stored_first(folder):
    limit = 2 << 20
    with EmbeddingCache(folder, size_limit=limit, hot_items=0) as cache:
        for start in range(0, 5000, 250):
            texts = [f"text {number}" for number in range(start, start + 250)]
            cache.put_many("space", "document", 256, texts, made(250, 256, seed=start))
            assert cache.get_many("space", "document", 256, texts)[1].all()
        hits = cache.get_many("space", "document", 256, names(5000))[1]
        assert 1000 < hits.sum() < 2100
        assert cache.stats()["items"] == hits.sum()
    assert hits[-1000:].all()
    assert not hits[:2500].any()
    assert (folder / "cache.db").stat().st_size < limit * 1.25


def test_without_a_limit_nothing_is_dropped_and_little_is_added(folder):
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.put_many("space", "document", 256, names(5000), made(5000, 256))
        assert cache.get_many("space", "document", 256, names(5000))[1].all()
    used = sum(entry.stat().st_size for entry in folder.iterdir())
    assert used <= 1.25 * 5000 * 256 * 4


def test_the_figures_are_true(folder):
    with EmbeddingCache(folder, size_limit=1 << 30) as cache:
        cache.put_many(*ARGS, names(3), made(3))
        cache.get_many(*ARGS, ["text 0", "text 1", "unknown"])
    with EmbeddingCache(folder, size_limit=1 << 30) as cache:
        cache.get_many(*ARGS, ["text 0", "unknown"])
        cache.put_many(*ARGS, names(1), made(1))
        cache.put_many(*ARGS, names(1), made(1))
        cache.get_many(*ARGS, ["text 0"])
        used = sum(entry.stat().st_size for entry in folder.iterdir())
        assert cache.stats() == {
            "directory": str(folder),
            "items": 3,
            "bytes": used,
            "size_limit": 1 << 30,
            "hits": 4,
            "misses": 2,
            "hot_hits": 1,
            "refused": 0,
        }


def test_a_closed_cache_opens_again(folder):
    cache = EmbeddingCache(folder, hot_items=0)
    cache.put_many(*ARGS, ["text"], made(1))
    cache.close()
    cache.close()
    assert cache.get_many(*ARGS, ["text"])[1].all()
    cache.close()
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]


# Several threads and processes


def test_eight_threads_share_one_cache(folder):
    vectors, failures, gate = made(400), [], threading.Barrier(8)
    texts = names(400)

    def work(number: int) -> None:
        gate.wait(timeout=30)
        for start in range(0, 400, 20):
            place = (start + number * 50) % 400
            cache.put_many(*ARGS, texts[place : place + 20], vectors[place : place + 20])
            got, hits = cache.get_many(*ARGS, texts)
            if not np.array_equal(got[hits], vectors[hits]) or not hits[place : place + 20].all():
                failures.append((number, place))

    with EmbeddingCache(folder, hot_items=50) as cache:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert failures == []
        assert cache.stats()["items"] == 400


WRITER = """
import sys
from pathlib import Path
import numpy as np
from omnimemory.storage.cache import EmbeddingCache
texts = [f"text {number}" for number in range(2000)]
vectors = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
with EmbeddingCache(Path(sys.argv[1]), hot_items=0) as cache:
    for start in range(0, 2000, 50):
        cache.put_many("space", "document", 64, texts[start:start + 50], vectors[start:start + 50])
        got, hits = cache.get_many("space", "document", 64, texts)
        assert np.array_equal(got[hits], vectors[hits])
        assert hits[:start + 50].all()
"""


def test_processes_that_start_together_write_the_same_vectors(folder):
    writers = [run(WRITER, folder) for _ in range(3)]
    for writer in writers:
        finished(writer)
    with EmbeddingCache(folder) as cache:
        got, hits = cache.get_many("space", "document", 64, names(2000))
        assert hits.all()
        assert np.array_equal(got, made(2000, 64))
        assert cache.stats()["items"] == 2000
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]


def test_processes_that_find_the_same_broken_file_move_it_once(folder):
    folder.mkdir(mode=0o700)
    (folder / "cache.db").write_bytes(b"not a database" * 5000)
    writers = [run(WRITER, folder) for _ in range(3)]
    outcomes = [writer.communicate(timeout=100)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sum("damaged" in errors for errors in outcomes) == 1
    assert (folder / "cache.damaged").read_bytes().startswith(b"not a database")
    with EmbeddingCache(folder) as cache:
        assert cache.get_many("space", "document", 64, names(2000))[1].all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_and_its_parent_both_go_on(folder):
    script = """
import os, sys
from pathlib import Path
import numpy as np
from omnimemory.storage.cache import EmbeddingCache
cache = EmbeddingCache(Path(sys.argv[1]), hot_items=0)
scope = ("space", "document", 4)
vectors = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
cache.put_many(*scope, ["before"], vectors[:1])
opened = cache._connection._file
pid = os.fork()
if pid == 0:
    seen = cache.get_many(*scope, ["before"])[1].all() and cache._connection._file is not opened
    cache.put_many(*scope, ["child"], vectors[1:2])
    cache.close()
    os._exit(0 if seen else 3)
cache.put_many(*scope, ["parent"], vectors[2:])
assert os.waitpid(pid, 0)[1] == 0
got, hits = cache.get_many(*scope, ["before", "child", "parent"])
assert hits.all() and (got == vectors).all()
cache.close()
"""
    finished(run(script, folder))
    connection = database(folder)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_process_that_is_killed_while_writing_spoils_nothing(folder):
    writer = run("print('go', flush=True)\n" + WRITER.replace("for start", "while True:\n     for start"), folder)
    assert writer.stdout.readline() == "go\n"
    with EmbeddingCache(folder, hot_items=0) as cache:
        while not cache.get_many("space", "document", 64, ["text 199"])[1].all():
            assert writer.poll() is None
    writer.kill()
    writer.communicate(timeout=30)
    with EmbeddingCache(folder, hot_items=0) as cache:
        got, hits = cache.get_many("space", "document", 64, names(2000))
        assert hits[:200].all()
        assert np.array_equal(got[hits], made(2000, 64)[hits])
