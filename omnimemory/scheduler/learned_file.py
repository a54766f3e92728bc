"""The file in which measurements of models outlive the process: small, private, and never in the way.

It is SQLite, because several processes write it at once. What it holds can be measured again, so a damaged file is
begun anew, and one that cannot be read or written is done without; either is said once. It is bounded: the last
measurements of the models that were measured last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from omnimemory.forks import inside_sqlite, is_sqlite_stuck

__all__ = ["KEPT", "Ceiling", "LearnedFile", "Observation"]

KEPT = 64
"""How many measurements are kept of each model, and of how many models."""

_VERSION = 1
_SCHEMA = (
    """CREATE TABLE observations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, items INTEGER NOT NULL, tokens INTEGER NOT NULL,
        prior INTEGER NOT NULL, need INTEGER NOT NULL, solo INTEGER NOT NULL
    )""",
    "CREATE INDEX observed ON observations (key, id)",
    "CREATE TABLE ceilings (key TEXT PRIMARY KEY, items INTEGER NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE budgets (key TEXT PRIMARY KEY, tokens INTEGER NOT NULL, time REAL NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)
Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class Observation(NamedTuple):
    """One measurement: of a batch of so many texts and tokens (0: of loading), its prior and what it needed, in bytes.

    ``solo`` says that nothing else of this package ran in the process meanwhile.
    """

    items: int
    tokens: int
    prior: int
    need: int
    solo: bool


class Ceiling(NamedTuple):
    """So many texts at once are the most, found out at a time (seconds since the epoch)."""

    items: int
    time: float


class LearnedFile:
    """The file at ``path``; ``problem`` says why it is not used, or was begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""

    def read(self, key: str) -> tuple[list[Observation], Ceiling | None, int | None]:
        """Return the measurements of a model, oldest first, its ceiling and its budget of padded tokens."""
        if not self._path.exists():
            return [], None, None
        return self._try(lambda sql: _read(sql, key)) or ([], None, None)

    def add(self, key: str, observations: Sequence[Observation]) -> None:
        """Keep measurements, and forget the oldest beyond the bounds."""
        self._try(lambda sql: _add(sql, key, observations))

    def put_ceiling(self, key: str, ceiling: Ceiling) -> None:
        """Keep the most texts at once."""
        self._try(lambda sql: sql.execute("INSERT OR REPLACE INTO ceilings VALUES (?, ?, ?)", (key, *ceiling)))

    def put_budget(self, key: str, tokens: int, time: float) -> None:
        """Keep the padded tokens that a batch should have."""
        self._try(lambda sql: sql.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?)", (key, tokens, time)))

    def _try(self, act: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Do something with the file; whatever is wrong with it is told once, and done without."""
        if is_sqlite_stuck():
            self.problem = f"{self._path} is not used: this process was forked while SQLite was at work"
            return None
        try:
            with inside_sqlite():
                return self._within(act)
        except sqlite3.OperationalError as error:
            self._tell(f"{self._path} cannot be used ({error}); memory is estimated, not learned")
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            self._tell(f"{self._path} was damaged ({error}) and is begun anew")
            with contextlib.suppress(OSError):
                self._path.unlink()
        except OSError as error:
            self._tell(f"{self._path} cannot be used ({error.strerror}); memory is estimated, not learned")
        return None

    def _within(self, act: Callable[[sqlite3.Connection], Result]) -> Result:
        self._make()
        with contextlib.closing(sqlite3.connect(self._path, timeout=1.0)) as sql:
            sql.execute("PRAGMA synchronous = OFF")  # a lost measurement is made again
            (version,) = sql.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.OperationalError(f"it was made by another version, {version}")
            with sql:
                if not version:
                    sql.execute("BEGIN IMMEDIATE")
                    if sql.execute("PRAGMA user_version").fetchone() == (0,):
                        for statement in _SCHEMA:
                            sql.execute(statement)
                return act(sql)

    def _make(self) -> None:
        """Make the file, for its user alone; a link in its place is not followed."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        os.close(os.open(self._path, flags, 0o600))

    def _tell(self, problem: str) -> None:
        if not self.problem:
            _LOG.warning("%s", problem)
        self.problem = self.problem or problem


def _read(sql: sqlite3.Connection, key: str) -> tuple[list[Observation], Ceiling | None, int | None]:
    rows = sql.execute("SELECT items, tokens, prior, need, solo FROM observations WHERE key = ? ORDER BY id", (key,))
    found = [
        Observation(_whole(items), _whole(tokens), _whole(prior), _whole(need), bool(solo))
        for items, tokens, prior, need, solo in rows
    ]
    ceiling = sql.execute("SELECT items, time FROM ceilings WHERE key = ?", (key,)).fetchone()
    budget = sql.execute("SELECT tokens FROM budgets WHERE key = ?", (key,)).fetchone()
    return (
        found,
        None if ceiling is None else Ceiling(_whole(ceiling[0]), float(ceiling[1])),
        None if budget is None else _whole(budget[0]),
    )


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no measurement")
    return value


def _add(sql: sqlite3.Connection, key: str, observations: Sequence[Observation]) -> None:
    sql.executemany(
        "INSERT INTO observations (key, items, tokens, prior, need, solo) VALUES (?, ?, ?, ?, ?, ?)",
        [(key, *observation) for observation in observations],
    )
    for loading in (0, 1):  # loading is measured once a process, and must not be pushed out by batches
        sql.execute(
            "DELETE FROM observations WHERE key = ? AND (items = 0) = ? AND id NOT IN (SELECT id FROM observations "
            "WHERE key = ? AND (items = 0) = ? ORDER BY id DESC LIMIT ?)",
            (key, loading, key, loading, KEPT),
        )
    sql.execute(
        "DELETE FROM observations WHERE key NOT IN "
        "(SELECT key FROM observations GROUP BY key ORDER BY max(id) DESC LIMIT ?)",
        (KEPT,),
    )
