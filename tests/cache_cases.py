"""What the tests of the cache share: vectors to put, and ways to look into the file and change it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np

from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.cache_rows import Scope, row_keys

ROOT = Path(__file__).resolve().parents[1]
ARGS = ("space", "document", 4)


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
