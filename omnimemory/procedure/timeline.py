"""What was run, in the order it ran and cut into sessions: the material of recall."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from omnimemory.procedure.order import orderless
from omnimemory.procedure.steps import home_relative
from omnimemory.storage.catalog import Catalog

__all__ = ["Run", "events_version", "read_session_rows", "read_sessions", "session_events", "without_last"]

_EVENTS = (
    "SELECT e.command_row, c.text, e.timestamp, e.cwd, e.exit_code, e.session, e.source_id, e.shell FROM events e "
    "JOIN commands c ON c.id = e.command_row "
    "ORDER BY e.timestamp IS NOT NULL, e.timestamp, e.source_id, e.position"
)
_ROWS = (
    "SELECT id, command_row, timestamp, session, source_id, shell FROM events "
    "ORDER BY timestamp IS NOT NULL, timestamp, source_id, position"
)
_Key = tuple[int, str | None]
_One = TypeVar("_One")


@dataclass(frozen=True, slots=True)
class Run:
    """One execution; ``row`` is the command's row in the catalog, ``at`` seconds since the epoch."""

    row: int
    command: str
    at: float | None
    cwd: str | None
    ok: bool | None


def read_sessions(catalog: Catalog, gap: float) -> list[list[Run]]:
    """Return the sessions of a store, each as it ran; histories that keep each command once tell none.

    A session is what the history says it is, else a source, and a pause of more than ``gap`` seconds ends it.
    """
    return _grouped(((key, run.at, run) for key, run in _runs(catalog)), gap)


def events_version(catalog: Catalog) -> tuple[int, ...]:
    """Return what is another one as soon as an event, or a command of one, has changed."""
    rows = catalog.rows(
        "SELECT updates, deletes, (SELECT max(id) FROM events) FROM collections WHERE name = 'commands'"
    )
    return tuple(number or 0 for number in rows[0])


def read_session_rows(catalog: Catalog, gap: float) -> list[list[tuple[int, int, int]]]:
    """Return (number, event, command row) of the same sessions, in a tenth of the time; numbers grow with time."""
    sessions: list[list[tuple[int, int, int]]] = []
    for number, (session, event) in enumerate(session_events(catalog, gap)):
        if session == len(sessions):
            sessions.append([])
        sessions[session].append((number, *event))
    return sessions


def session_events(catalog: Catalog, gap: float) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield (session, (event, command row)) as they ran, holding none of them; sessions count from 0 as they begin."""
    is_orderless = orderless(catalog)
    found = (
        ((source, session), at, (event, row))
        for block in catalog.blocks(_ROWS, (), 1000)
        for event, row, at, session, source, shell in block
        if not is_orderless(source, shell)
    )
    return _numbered(found, gap)


def _grouped(found: Iterable[tuple[_Key, float | None, _One]], gap: float) -> list[list[_One]]:
    sessions: list[list[_One]] = []
    for session, one in _numbered(found, gap):
        if session == len(sessions):
            sessions.append([])
        sessions[session].append(one)
    return sessions


def _numbered(found: Iterable[tuple[_Key, float | None, _One]], gap: float) -> Iterator[tuple[int, _One]]:
    begun = count()
    open_: dict[_Key, tuple[int, float | None]] = {}
    for key, at, one in found:
        session, last = open_.get(key, (None, None))
        pause = at - last if at is not None and last is not None else 0.0
        if session is None or (key[1] is None and pause > gap):
            session = next(begun)
        open_[key] = session, at
        yield session, one


def without_last(sessions: list[list[Run]], most: int) -> tuple[list[list[Run]], list[str]]:
    """Return the sessions without the last commands of the newest one, and these, at most so many."""
    if not sessions:
        return [], []
    newest = max(range(len(sessions)), key=lambda number: (sessions[number][-1].at or 0.0, number))
    taken = sessions[newest][-most:]
    kept = sessions[newest][:-most]
    rest = [*sessions[:newest], *([kept] if kept else []), *sessions[newest + 1 :]]
    return rest, [run.command for run in taken]


def _runs(catalog: Catalog) -> Iterator[tuple[tuple[int, str | None], Run]]:
    is_orderless = orderless(catalog)
    folders: dict[str | None, str | None] = {}
    for block in catalog.blocks(_EVENTS, (), 1000):
        for row, text, at, cwd, exit_code, session, source, shell in block:
            if is_orderless(source, shell):
                continue
            if cwd not in folders:
                folders[cwd] = home_relative(cwd)
            yield (source, session), Run(row, text, at, folders[cwd], None if exit_code is None else exit_code == 0)
