"""What a cache may hold that somebody else wrote: planted rows of every kind, and a child that is watched meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import sqlite3
import sys
from pathlib import Path

import numpy as np
from cache_cases import ARGS, database, key_of, made, names

from omnimemory.storage.bytes_disk import RefusedRowError
from omnimemory.storage.cache import EmbeddingCache

ANYTHING = {
    "eviction_policy": "least-recently-used",
    "statistics": 1,
    "tag_index": 1,
    "cull_limit": 10,
    "size_limit": 0,
}
ANYTHING |= {"disk_min_file_size": 0, "sqlite_journal_mode": "off", "sqlite_writable_schema": 1, "count": "many"}


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def lay_bait(folder: Path, outside: Path, flag: Path) -> list:
    """Put files to read and delete outside of the cache and in it; return names for them, and worse ones."""
    payload = pickle.dumps(Touch(flag))
    for path in (outside / "0.bin", outside / "1.bin", outside / "2.bin", folder / "ab/cd/0123456789.val"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    (folder / "link").symlink_to(outside / "2.bin")
    os.mkfifo(folder / "fifo")
    near = ["../outside/0.bin", str(outside / "1.bin"), "link", "ab/cd/0123456789.val", "fifo", "cache.db", "..", "."]
    return [*near, "", "/nowhere/at/all", "a" * 5000, "nul\0byte", b"\xff\xfe", 7, 2**62]


def plant(folder: Path, outside: Path, flag: Path, count: int, seed: int) -> None:
    """Fill a cache with ``count`` texts and change the row of every one, or put others beside it."""
    with EmbeddingCache(folder) as cache:
        cache.put_many(*ARGS, names(count), made(count))
    files, payload, dice = lay_bait(folder, outside, flag), pickle.dumps(Touch(flag)), random.Random(seed)
    connection = database(folder)
    good = dict(connection.execute("SELECT key, value FROM Cache"))
    values = list(good.values())
    connection.execute("BEGIN")
    for text in names(count):
        key = key_of(text)
        row = _planted(dice, key, good[key], dice.choice(values), files, payload)
        if dice.random() < 0.7:
            connection.execute("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))
        with contextlib.suppress(sqlite3.IntegrityError):
            connection.execute(
                "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode,"
                " filename, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
    connection.executemany("INSERT OR REPLACE INTO Settings VALUES (?, ?)", ANYTHING.items())
    connection.commit()
    connection.close()


def _planted(dice: random.Random, key: bytes, good: bytes, other: bytes, files: list, payload: bytes) -> tuple:
    flipped = bytearray(good)
    flipped[dice.randrange(len(good))] ^= 1 << dice.randrange(8)
    values = [
        good,
        good,
        other,
        payload,
        bytes(flipped),
        good[:-1],
        good + b"x",
        b"",
        "text",
        7,
        3.5,
        None,
        bytes(99_999),
    ]
    return (
        dice.choice([key] * 6 + [key.hex(), payload, 7, None, key + b"x"]),
        dice.choice([1, 1, 1, 0, 0, 2, None, "1", b"", "raw"]),
        *(dice.choice([0.0, 1e300, -1.0, "now", None, payload]) for _ in range(3)),
        dice.choice([0, 2**62, "often"]),
        dice.choice([None, payload, "tag"]),
        dice.choice([0, 2**62, -5, "big", None]),
        dice.choice([1, 1, 0, 2, 3, 4, 5, -1, 2**62, None, "1", payload]),
        dice.choice([None, None, *files]),
        dice.choice(values),
    )


def watched_use(folder: Path, count: int) -> None:
    """Use a cache in every way there is, and print what happened besides, as JSON. Made for a child process."""
    events: dict[str, set[str]] = {"opened": set(), "called": set()}
    for_real = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "shutil.rmtree")
    for_real += ("os.remove", "os.rmdir", "os.rename", "os.truncate", "os.link", "os.symlink", "ctypes.dlopen")
    vectors = made(count)  # and what is imported late is imported now

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            events["opened"].add(os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else "a descriptor")
        elif event in for_real or "enable_load_extension" in event:
            events["called"].add(f"{event} {arguments[:1]}")

    sys.addaudithook(hook)
    wrong, hits, refused = _use(folder, vectors)
    told = {"wrong": wrong, "hits": hits, "refused": refused, **{key: sorted(each) for key, each in events.items()}}
    sys.stdout.write(json.dumps(told))


def _use(folder: Path, vectors: np.ndarray) -> tuple[int, int, int]:
    count, texts = len(vectors), names(len(vectors))
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.stats()
        _in_the_way_of_diskcache(cache, [key_of(text) for text in texts[:: max(1, count // 100)]])
        got, found = cache.get_many(*ARGS, texts)
        wrong = int((got[found] != vectors[found]).any(axis=1).sum())
        refused = cache.stats()["refused"]
        cache.put_many(*ARGS, texts[::2], vectors[::2])
        again, now = cache.get_many(*ARGS, texts)
        assert now[::2].all()
        wrong += int((again[now] != vectors[now]).any(axis=1).sum())
        cache.delete_many(*ARGS, texts[::3])
        assert not cache.get_many(*ARGS, texts[::3])[1].any()
    with EmbeddingCache(folder, size_limit=1 << 20, hot_items=0) as small:
        small.put_many(*ARGS, texts, vectors)
        got, kept = small.get_many(*ARGS, texts)
        wrong += int((got[kept] != vectors[kept]).any(axis=1).sum())
        small.clear()
    return wrong, int(found.sum()), refused


def _in_the_way_of_diskcache(cache: EmbeddingCache, keys: list[bytes]) -> None:
    """Do what this package never does, too. It may fail on such rows, but it must do nothing for them."""
    inside = cache._connection._file
    calls = [(ask, key) for key in (*keys, "7", b"") for ask in (inside.get, inside.touch, inside.__contains__)]
    calls += [(lambda key: inside.get(key, read=True, tag=True, expire_time=True), key) for key in keys]
    calls += [
        (lambda _, walk=walk: list(walk()), "") for walk in (inside.iterkeys, inside.__iter__, inside.__reversed__)
    ]
    calls += [
        (lambda _: inside.peekitem(), ""),
        (inside.evict, b"tag"),
        (inside.expire, 0.0),
        (lambda _: inside.cull(), ""),
    ]
    calls += [(remove, key) for key in keys[::2] for remove in (inside.pop, inside.delete)]
    for call, argument in calls:
        with contextlib.suppress(RefusedRowError, KeyError, TypeError, ValueError, sqlite3.Error):
            call(argument)
    assert np.isfinite(cache.stats()["bytes"])
