"""One command that came by two ways: by a shell's history and by a program that writes down more.

Histories tell whole seconds; hooks, atuin and nushell tell fractions, the folder and the outcome. An event of a history
is the same as a finer one of another source when the command is equal and the finer one began within that second, or
at most half a second later (shells note the time before they start the command). Each is the twin of one other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from omnimemory.records import Event
from omnimemory.storage.catalog import Catalog

__all__ = ["stored_twins", "without_twins"]

_SLACK = 1.5
_KNOWN = "SELECT 1 FROM events WHERE key = ?"
_FINER = (
    "SELECT id FROM events WHERE command_row = ? AND timestamp >= ? AND timestamp < ? AND source_id <> ? "
    "AND timestamp <> CAST(timestamp AS INTEGER) ORDER BY timestamp"
)
_COARSER = (
    "SELECT id FROM events WHERE command_row = ? AND timestamp > ? AND timestamp <= ? AND source_id <> ? "
    "AND timestamp = CAST(timestamp AS INTEGER) ORDER BY timestamp DESC"
)
_PAIRS = (
    "SELECT c.id, f.id FROM events c JOIN events f ON f.command_row = c.command_row AND f.source_id <> c.source_id "
    "AND f.timestamp >= c.timestamp AND f.timestamp < c.timestamp + ? "
    "WHERE c.timestamp = CAST(c.timestamp AS INTEGER) AND f.timestamp <> CAST(f.timestamp AS INTEGER) "
    "ORDER BY c.timestamp, c.id, f.timestamp, f.id"
)


def stored_twins(catalog: Catalog) -> list[int]:
    """Return the stored events for which a finer one of another source stands: an import brings both."""
    coarse: set[int] = set()
    fine: set[int] = set()
    for block in catalog.blocks(_PAIRS, (_SLACK,), 1000):
        for one, other in block:
            if one not in coarse and other not in fine:
                coarse.add(one)
                fine.add(other)
    return sorted(coarse)


def without_twins(
    sql: sqlite3.Connection, source: int, events: Iterable[tuple[bytes, int, int, Event]], gone: list[int]
) -> Iterator[tuple[bytes, int, int, Event]]:
    """Yield the events that no finer one stands for; coarser ones that these stand for are deleted.

    ``gone`` gets the rows that were deleted: each is an event that was counted before.
    """
    others = "SELECT EXISTS (SELECT 1 FROM events WHERE source_id <> ? AND timestamp IS NOT NULL)"
    if not sql.execute(others, (source,)).fetchone()[0]:
        yield from events
        return
    used: set[int] = set()
    for keyed in events:
        key, row, _, event = keyed
        when = event.timestamp
        if when is None:
            yield keyed
        elif when == int(when):
            if not _first(sql, _FINER, (row, when, when + _SLACK, source), used):
                yield keyed
        elif sql.execute(_KNOWN, (key,)).fetchone():
            yield keyed  # it took its twin's place when it came first
        else:
            twins = _first(sql, _COARSER, (row, when - _SLACK, when, source), used)
            sql.executemany("DELETE FROM events WHERE id = ?", ((twin,) for twin in twins))
            gone += twins
            yield keyed


def _first(sql: sqlite3.Connection, query: str, values: tuple[float, ...], used: set[int]) -> list[int]:
    """Return the first event that is no other's twin yet, and note that it is one now."""
    found = [number for (number,) in sql.execute(query, values).fetchall() if number not in used][:1]
    used.update(found)
    return found
