"""Shell histories as changes of the store: each distinct command once, each execution as an event.

Commands are committed with their vectors first; all new events and the cursor that says how far the
history was read follow in one last commit. A run that dies before it is repeated without a trace.

An event's identity: with a time stamp it is (time, command, how many equal ones came before), the same
in every copy of a history; without one it is its position in its source.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnimemory.ingest.pipeline import Tally
from omnimemory.records import Event, Failure, Progress
from omnimemory.sources.history import MAX_COMMAND_BYTES, Cursor, HistoryRead, align, locate, read_history
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.items import ItemTable
from omnimemory.storage.store import Store

__all__ = ["history_changes"]


@dataclass(slots=True)
class NewCommands:
    """Commands that are not in the store yet."""

    table: ItemTable
    commands: CommandTable
    texts: Sequence[str]
    tally: Tally

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        self.tally.added += len(self.texts)
        return self.commands.add(sql, self.texts, pending=pending)


@dataclass(slots=True)
class NewEvents:
    """The new events of one history, and how far it was read."""

    table: ItemTable
    commands: CommandTable
    store: Store
    uri: str
    before: dict[str, Any]
    reading: HistoryRead
    events: Sequence[tuple[int, Event]]
    tally: Tally
    texts: Sequence[str] = ()

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        source = self.store.documents.ensure_source(sql, self.uri, "history")
        found = json.loads(sql.execute("SELECT state FROM sources WHERE id = ?", (source,)).fetchone()[0])
        if found != self.before:
            return []  # another process read the same history meanwhile: the next run starts from its cursor
        base = int(self.before.get("base", 0))
        if self.reading.unchanged:
            self._finish(sql, source, base)
            return []
        if self.reading.rewritten:
            base = 1 + int(
                sql.execute("SELECT coalesce(max(position), -1) FROM events WHERE source_id = ?", (source,)).fetchone()[
                    0
                ]
            )
        rows = self.commands.known([event.command for _, event in self.events])
        new = self._only_new(sql, source, rows) if self.reading.rewritten else list(self.events)
        first = base + self.reading.first_position
        again = 0
        if not self.reading.rewritten:
            # The last entry may have been read before it was whole: what is read again replaces it.
            again = sql.execute("DELETE FROM events WHERE source_id = ? AND position >= ?", (source, first)).rowcount
        keyed = self._keyed(sql, source, base, new, rows)
        added = self.commands.add_events(sql, source, keyed)
        self.tally.events += added - again
        self._finish(sql, source, base)
        return []

    def _finish(self, sql: sqlite3.Connection, source: int, base: int) -> None:
        self.store.documents.finish_source(sql, source, {**self.reading.cursor.to_json(), "base": base})

    def _only_new(self, sql: sqlite3.Connection, source: int, rows: Mapping[str, int]) -> list[tuple[int, Event]]:
        """After a rewrite: events without a time stamp that the source is not known to hold."""
        timeless = [(position, event) for position, event in self.events if event.timestamp is None]
        stored = [
            row
            for (row,) in sql.execute(
                "SELECT command_row FROM events WHERE source_id = ? AND timestamp IS NULL ORDER BY position", (source,)
            )
        ]
        marks = align(stored, [rows[event.command] for _, event in timeless])
        fresh = {position for (position, _), new in zip(timeless, marks, strict=True) if new}
        return [(p, event) for p, event in self.events if event.timestamp is not None or p in fresh]

    def _keyed(
        self,
        sql: sqlite3.Connection,
        source: int,
        base: int,
        events: Sequence[tuple[int, Event]],
        rows: Mapping[str, int],
    ) -> Iterator[tuple[bytes, int, int, Event]]:
        times = [event.timestamp for _, event in events if event.timestamp is not None]
        before: Counter[tuple[float, int]] = Counter()
        if times and not self.reading.rewritten:
            # Equal commands within the same second may be split between two reads.
            for time, row, count in sql.execute(
                "SELECT timestamp, command_row, count(*) FROM events WHERE source_id = ? AND timestamp >= ? "
                "GROUP BY timestamp, command_row",
                (source, min(times)),
            ):
                before[time, row] = count
        for position, event in events:
            row = rows[event.command]
            if event.timestamp is None:
                identity = f"{self.uri}\0{base + position}"
            else:
                identity = f"{event.timestamp!r}\0{event.command}\0{before[event.timestamp, row]}"
                before[event.timestamp, row] += 1
            yield hashlib.blake2b(identity.encode(), digest_size=16).digest(), row, base + position, event


def history_changes(
    store: Store,
    target: str | Path | None,
    shell: str | None,
    redactor: Redactor,
    tally: Tally,
    *,
    part: int,
    progress: Callable[[Progress], None],
) -> Iterator[NewCommands | NewEvents]:
    """Yield what has to change so that the store holds every event of a history.

    Raises :class:`SourceError` when there is no such history, it cannot be read or is none.
    """
    path, found_shell = locate(target, shell, Path.home(), os.environ)
    uri = path.resolve().as_posix()
    before = _state(store, uri)
    cursor = Cursor.from_json(before)
    reading = read_history(path, shell=found_shell, cursor=cursor, key=store.catalog.key)
    if before and cursor is None:  # a cursor of another version: what is stored cannot be told by position
        reading = replace(reading, rewritten=True)
    tally.sources += 1
    if reading.oversize:
        reason = f"{reading.oversize} commands longer than {MAX_COMMAND_BYTES:,} bytes were left out"
        tally.failures.append(Failure(uri, reason, error=False))
    if reading.unchanged:
        tally.unchanged += reading.cursor.count
        if cursor != reading.cursor:
            yield NewEvents(store.commands, store.commands, store, uri, before, reading, (), tally)
        return
    entries = list(reading.entries)
    progress(Progress("history", 0, len(entries), str(path)))
    events = list(_redacted(entries, reading.first_position, redactor, tally, uri))
    distinct = list(dict.fromkeys(event.command for _, event in events))
    known = store.commands.known(distinct)
    tally.unchanged += len(known)
    new = [text for text in distinct if text not in known]
    for start in range(0, len(new), part):
        progress(Progress("history", start, len(new), str(path)))
        yield NewCommands(store.commands, store.commands, new[start : start + part], tally)
    progress(Progress("history", len(new), len(new), str(path)))
    yield NewEvents(store.commands, store.commands, store, uri, before, reading, events, tally)


def _state(store: Store, uri: str) -> dict[str, Any]:
    found = store.catalog.value("SELECT state FROM sources WHERE uri = ?", (uri,))
    return json.loads(found) if found else {}


def _redacted(
    entries: Sequence[Any], first: int, redactor: Redactor, tally: Tally, uri: str
) -> Iterator[tuple[int, Event]]:
    """Yield (position, event) with secrets taken out; each distinct command is looked at once."""
    seen: dict[str, str | None] = {}
    left_out = 0
    for number, entry in enumerate(entries):
        text = entry.event.command
        if text not in seen:
            found = redactor.command(text)
            tally.redactions.update(found.counts)
            seen[text] = None if found.skip or not found.text.strip() else found.text
        clean = seen[text]
        if clean is None:
            left_out += 1
            continue
        yield first + number, entry.event if clean == text else replace(entry.event, command=clean)
    if left_out:
        tally.skipped += left_out
        reason = f"{left_out} commands that began with a space were left out, as the shell was asked to"
        tally.failures.append(Failure(uri, reason, error=False))
