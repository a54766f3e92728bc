"""What the tests of the store share: rows with random vectors, child processes, waiting with a deadline."""

import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from omnimemory.storage.documents import NewChunk
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.opened_store import open_store
from omnimemory.storage.twins import MOST_TWINS, left_out
from omnimemory.storage.vectors import insert_vectors

ROOT = Path(__file__).resolve().parents[1]
SEARCHED = "WHERE collection_id IN (SELECT id FROM collections WHERE name IN ('documents', 'commands'))"
"""The vectors of what is searched, not those that are made of them."""
DIM = 16
SPACE = {"fingerprint": "random-16", "model": "random", "dim": DIM}


def unit_vectors(count, seed=0, dim=DIM):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def chunk(name, metadata=None, text=None):
    text = f"text of {name}" if text is None else text
    return NewChunk(name, text, 0, len(text), "", metadata or {})


def add_chunks(store, chunks, vectors, source="file:notes"):
    """Commit chunks with their vectors, as an ingest does; ``store`` has a catalog and a table of documents."""
    with store.catalog.transaction() as sql:
        owner = store.documents.ensure_source(sql, source, "file")
        rows = store.documents.add(sql, owner, chunks, pending=False)
        insert_vectors(sql, store.documents.collection, rows, vectors)
    return rows


def add_rows(store, count, prefix="row", seed=0, source="file:notes"):
    """Commit ``count`` chunks named ``<prefix><number>``; return their vectors."""
    vectors = unit_vectors(count, seed)
    add_chunks(store, [chunk(f"{prefix}{n}", {"number": n}) for n in range(count)], vectors, source)
    return vectors


def delete_chunks(store, names):
    with store.catalog.transaction() as sql:
        store.documents.delete(sql, list(store.documents.rows_of(names).values()))


@contextmanager
def opened(path, **options):
    held = open_store(path, StoreOptions(**options), **SPACE)
    try:
        yield held.store
    finally:
        held.close()


def excused(catalog, generation, table, held):
    """Return the public ids that an index of ``held`` ids rightly lacks: noted, and it holds enough equal vectors."""
    payload = table.payload(0, 1_000_000)
    if payload is None:
        return set()
    rows = list(zip(payload.ids, payload.items, map(bytes, payload.vectors), strict=True))
    copies = Counter(vector for public, _, vector in rows if public in held)
    aside = left_out(catalog, generation, table.collection)
    return {
        public for public, item, vector in rows if public not in held and item in aside and copies[vector] >= MOST_TWINS
    }


def names_of(store, found):
    """Return the public ids of the rows that a search found, in order."""
    items = store.documents.items(found.rows)
    return [items[row].id for row in found.rows]


def wait_until(condition, seconds=60.0):
    """Return whether the condition came true before the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def start(script, *arguments, cwd=None, **environment):
    """Start a script in another Python that can import the package and this module."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), **environment},
    )


def finish(process, answer=None):
    """Return what a child printed; it must end well."""
    out, err = process.communicate(answer, timeout=100)
    assert process.returncode == 0, err
    return out


def run(script, *arguments, cwd=None, **environment):
    return finish(start(script, *arguments, cwd=cwd, **environment))
