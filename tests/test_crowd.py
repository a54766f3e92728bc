"""Many processes write and search one store at once: nothing is lost or doubled, readers see what was acknowledged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crowd_child import settings_in, text_of
from store_cases import ROOT, excused, wait_until

from omnimemory.memory import Memory
from omnimemory.storage.rebuild import open_index
from omnimemory.storage.vectors import vectors_of


def start(role: str, number: int, folder: Path, rounds: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "tests" / "crowd_child.py"), role, str(number), str(folder), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )


def finish(process: subprocess.Popen[str], seconds: float) -> str:
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    return out


def check_what_is_stored(memory: Memory, folder: Path) -> int:
    """Compare the store with the writers' logs; return how many rows were acknowledged."""
    store, lines = memory.store, []
    for path in sorted(folder.glob("w*.log")):
        lines += map(json.loads, path.read_text().splitlines())
    notes = {
        name: text_of(token)
        for line in lines
        if line["kind"] == "note"
        for name, token in zip(line["ids"], line["tokens"], strict=True)
    }
    files = {
        line["path"]: text_of(line["tokens"][0]) for line in lines if line["kind"] == "file"
    }  # the last one counts
    commands = [text_of(token) for line in lines if line["kind"] == "command" for token in line["tokens"]]
    texts = dict(
        store.catalog.rows(
            "SELECT c.chunk_id, c.text FROM chunks c JOIN sources s ON s.id = c.source_id WHERE s.kind = 'notes'"
        )
    )
    assert texts == notes
    kept = store.catalog.rows(
        "SELECT s.uri, c.text FROM chunks c JOIN sources s ON s.id = c.source_id WHERE s.kind = 'file'"
    )
    assert sorted(kept) == sorted(files.items())
    stored = [text for (text,) in store.catalog.rows("SELECT text FROM commands WHERE text <> 'make test'")]
    assert sorted(stored) == sorted(commands)
    assert store.catalog.value("SELECT count(*) FROM events") == 2 * len(commands)
    assert store.catalog.value("SELECT count(*) FROM chunks WHERE pending") == 0
    assert store.catalog.value("PRAGMA integrity_check") == "ok"
    return len(notes) + len(files) + len(commands)


def index_misses(memory: Memory) -> tuple[list[str], int]:
    """Ask the index for every vector; return what it has lost or does not find, and how many there are."""
    store, misses, count = memory.store, [], 0
    index, generation = open_index(store.path, store.catalog, store.options.drain)
    for table in [t for t in store.tables.values() if t.count()]:
        name, of_kind = table.collection.name, "SELECT item FROM vectors WHERE collection_id = ?"
        rows = [row for (row,) in store.catalog.rows(of_kind, (table.collection.id,))]
        items, vectors = table.items(rows), vectors_of(store.catalog, table.collection, rows)
        held = index.vectors(table.collection, [item.id for item in items.values()])
        allowed = excused(store.catalog, generation, table, held)
        for row, vector in vectors.items():
            near = max(index.query(table.collection, vector, 1)[1], default=0.0)
            mine = held.get(items[row].id)
            wrong = items[row].id not in allowed if mine is None else abs(mine - vector).max() > 1e-3
            if wrong or near < 0.999:
                misses.append(f"{name} {row} of generation {generation}: {mine is not None}, nearest {near:.4f}")
        count += len(rows)
    index.close()
    return misses, count


@pytest.mark.parametrize(
    ("writers", "readers", "rounds", "seconds"),
    [
        pytest.param(3, 2, 4, 60, marks=pytest.mark.slow),
        pytest.param(8, 4, 10**6, 300, marks=[pytest.mark.soak, pytest.mark.timeout(1500)]),
    ],
    ids=["few", "8-and-4-for-5-minutes"],
)
def test_nothing_is_lost_or_doubled_and_readers_see_what_was_acknowledged(tmp_path, writers, readers, rounds, seconds):
    writing = [start("write", number, tmp_path, rounds) for number in range(writers)]
    reading = [start("read", number, tmp_path) for number in range(readers)]
    end = time.monotonic() + seconds
    assert wait_until(lambda: all(each.poll() is not None for each in writing) or time.monotonic() > end, seconds + 60)
    (tmp_path / "enough").touch()
    for each in writing:
        finish(each, 200)
    (tmp_path / "written").touch()
    told = [json.loads(finish(each, 300)) for each in reading]
    assert sum(each["lost"] for each in told) == 0, told
    assert sum(each["wrong"] for each in told) == 0, told
    assert all(each["looks"] > 20 for each in told), told
    with Memory(settings=settings_in(tmp_path)) as memory:
        acknowledged = check_what_is_stored(memory, tmp_path)
        assert acknowledged >= 10 * writers
        assert memory.store.drain() is None
        assert memory.store.generations.waiting() == 0
    with Memory(settings=settings_in(tmp_path)) as memory:
        assert memory.store._session._held._index_lock.acquire(timeout=30)
        misses, count = index_misses(memory)
        memory.store._session._held._index_lock.release()
        assert misses == []
        sys.stdout.write(f"{acknowledged} rows acknowledged, {count} in the index; readers: {told}\n")
