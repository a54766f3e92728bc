"""The events of a history in the catalog: what makes two of them the same one, and which are new.

An event's identity: with a time stamp it is (time, command, how many equal ones came before), the same
in every copy of a history; without one it is its position in its source.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.ingest.tally import Tally
from omnimemory.ingest.twins import without_twins
from omnimemory.records import Event
from omnimemory.sources.history import Entries, HistoryRead, align
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.sources import source_state
from omnimemory.storage.tombstones import lift_stones

__all__ = ["CleanEvents", "NewEvents", "stamped_key"]

_MOST_AHEAD = 20_000

KeyedEvent = tuple[bytes, int, int, Event]
"""Identity, command row, position and event, as the catalog takes them."""


def stamped_key(timestamp: float, command: str, occurrence: int) -> bytes:
    """Return the identity of an event that has a time stamp."""
    return _digest(f"{timestamp!r}\0{command}\0{occurrence}")


def _digest(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class CleanEvents:
    """The events of a reading with their secrets taken out; each pass over them makes them anew.

    ``clean`` tells what each command became; ``None``: it is left out. So are the positions in ``forgotten``.
    """

    entries: Entries
    first_position: int
    clean: dict[str, str | None] = field(default_factory=dict)
    forgotten: set[int] = field(default_factory=set)

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        """Yield (position, event)."""
        for number in range(len(self.entries)):
            position, event = self.first_position + number, self.entries.event(number)
            text = None if position in self.forgotten else self.clean[event.command]
            if text == event.command:
                yield position, event
            elif text is not None:
                yield position, replace(event, command=text)

    def __len__(self) -> int:
        return int(self._kept([self.clean[event.command] is not None for event in self.entries.kinds()]).sum())

    def columns(self, rows: Mapping[str, int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return each event's time in seconds, NaN where it has none, and the row of its command, as ``rows`` tell."""
        kinds = self.entries.kinds()
        texts = [self.clean[event.command] for event in kinds]
        kept = self._kept([text is not None for text in texts])
        which, times, durations = (np.array(column)[kept] for column in self.entries.columns())
        own = np.array([_seconds(event) for event in kinds], dtype=np.float64)
        numbers = np.array([0 if text is None else rows[text] for text in texts], dtype=np.int64)
        return np.where(np.isnan(times) & np.isnan(durations), own[which], times), numbers[which]

    def _kept(self, kinds: list[bool]) -> NDArray[np.bool_]:
        """Return which entries are of the ``kinds`` that stay, and not forgotten."""
        kept: NDArray[np.bool_] = np.array(kinds, dtype=np.bool_)[np.array(self.entries.columns()[0])]
        kept[[position - self.first_position for position in self.forgotten]] = False
        return kept

    def commands(self) -> list[str]:
        """Return the distinct commands."""
        return list(dict.fromkeys(text for text in self.clean.values() if text is not None))


@dataclass(slots=True)
class NewEvents:
    """The new events of one history, and how far it was read.

    ``before`` is what the source remembered when the history was read; ``misread`` the shell whose history
    the very same bytes were taken for then; ``added`` how many commands this run brought into the store.
    ``secrets`` says that commands of this history may be stored with theirs, ``died`` that an earlier run may
    have left commands without events; ``lifted`` are the tombstones of what comes back, ``None``: nothing does.
    """

    table: CommandTable
    documents: DocumentTable
    uri: str
    before: Mapping[str, Any]
    reading: HistoryRead
    events: CleanEvents
    misread: str | None
    secrets: bool
    died: bool
    added: int
    tally: Tally
    lifted: frozenset[bytes] | None = None
    texts: Sequence[str] = ()

    @property
    def may_go_ahead(self) -> bool:
        """Whether this may be committed while the model still works on the commands.

        Not what takes much memory: that would be measured as the model's.
        """
        return not self.reading.rewritten and len(self.reading.entries) <= _MOST_AHEAD

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.documents.ensure_source(sql, self.uri, "history")
        if source_state(sql, source) != self.before:
            return []  # another process read the same history meanwhile: the next run starts from its cursor
        lift_stones(sql, self.lifted or ())
        state = {"base": 0, "commands": 0, **self.before, **self.reading.cursor.to_json(), "secrets": self.secrets}
        if not self.reading.unchanged:
            if self.reading.rewritten:
                query = "SELECT coalesce(max(position), -1) FROM events WHERE source_id = ?"
                state["base"] = 1 + _one(sql, query, source)
            grown, state["open"] = self._write_events(sql, source, state["base"])
            state["commands"] += grown
            if self.reading.is_judged:
                state["deduplicated"] = self.reading.keeps_each_once
        if self.events.forgotten or self.lifted is not None:
            state["forgotten"] = bool(self.events.forgotten)
        if self.died:
            self.table.forget_unused(sql, self.table.unused(sql))
        self.documents.finish_source(sql, source, state)
        self.tally.unchanged += max(0, state["commands"] - self.added)
        return []

    def _write_events(self, sql: sqlite3.Connection, source: int, base: int) -> tuple[int, str | None]:
        """Store what is new; return by how many commands the source has grown, and the key of the open event.

        An event is open when its line was not whole, or may still get more lines: it will be read again.
        """
        rows = self._command_rows(sql)
        grown = _without_events(sql, source, rows.values())
        replaced = self._delete_replaced(sql, source)
        write = self._merge if self.reading.rewritten else self._append
        gone: list[int] = []
        keyed = without_twins(sql, source, self._keyed(sql, source, base, rows), gone)
        added, key = write(sql, source, base, keyed)
        again = 0 if self.misread else len(replaced)
        self.tally.events += max(0, added - again - len(gone))
        return grown - self.table.forget_unused(sql, replaced), key.hex() if key else None

    def _append(
        self, sql: sqlite3.Connection, source: int, base: int, keyed: Iterator[KeyedEvent]
    ) -> tuple[int, bytes | None]:
        """Store events as they come; return how many were new, and the key of the open one."""
        last: deque[KeyedEvent] = deque(maxlen=1)

        def noted() -> Iterator[KeyedEvent]:
            for event in keyed:
                last.append(event)
                yield event

        added = self.table.add_events(sql, source, noted())
        return added, last[0][0] if last and self._is_open(last[0], base) else None

    def _merge(
        self, sql: sqlite3.Connection, source: int, base: int, keyed: Iterator[KeyedEvent]
    ) -> tuple[int, bytes | None]:
        """Store what is new in a rewritten history; return how many events were, and the key of the open one."""
        seen = list(keyed)
        events, stamped = _after_rewrite(sql, source, seen)
        key = None
        if seen and self._is_open(seen[-1], base):
            known = seen[-1][3].timestamp is None and seen[-1] not in events[-1:]
            key = _latest(sql, source, seen[-1][1]) if known else seen[-1][0]
        sql.executemany("DELETE FROM events WHERE id = ?", ((event,) for event in stamped))
        return self.table.add_events(sql, source, events) - len(stamped), key

    def _is_open(self, event: KeyedEvent, base: int) -> bool:
        return event[2] >= base + self.reading.cursor.count

    def _command_rows(self, sql: sqlite3.Connection) -> dict[str, int]:
        texts = self.events.commands()
        rows = self.table.known(texts)
        lost = [text for text in texts if text not in rows]  # another process forgot them this very moment
        return {**rows, **dict(zip(lost, self.table.add(sql, lost, pending=True), strict=True))}

    def _delete_replaced(self, sql: sqlite3.Connection, source: int) -> list[int]:
        """Delete the events that are read anew, and return the rows of their commands."""
        if self.misread:
            gone = sql.execute(
                "DELETE FROM events WHERE source_id = ? AND shell = ? RETURNING command_row", (source, self.misread)
            )
        elif not self.reading.rewritten and self.before.get("open"):
            gone = sql.execute(
                "DELETE FROM events WHERE source_id = ? AND key = ? RETURNING command_row",
                (source, bytes.fromhex(self.before["open"])),
            )
        else:
            return []
        return [row for (row,) in gone]

    def _keyed(self, sql: sqlite3.Connection, source: int, base: int, rows: Mapping[str, int]) -> Iterator[KeyedEvent]:
        times, numbers = self.events.columns(rows)
        stored: dict[tuple[float, int], int] = {}
        if not self.reading.rewritten and not np.isnan(times).all():
            # Equal commands within the same second may be split between two reads.
            query = (
                "SELECT timestamp, command_row, count(*) FROM events WHERE source_id = ? AND timestamp >= ? "
                "GROUP BY timestamp, command_row"
            )
            stored = {(t, row): count for t, row, count in sql.execute(query, (source, float(np.nanmin(times))))}
        for (position, event), before in zip(self.events, _equal_before(times, numbers), strict=True):
            row = rows[event.command]
            if event.timestamp is None:
                key = _digest(f"{self.uri}\0{base + position}")
            else:
                earlier = stored.get((event.timestamp, row), 0)
                key = stamped_key(event.timestamp, event.command, earlier + int(before))
            yield key, row, base + position, event


def _seconds(event: Event) -> float:
    return np.nan if event.timestamp is None else event.timestamp


def _equal_before(times: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each event how many before it have its time and its command; none for those without a time."""
    order = np.lexsort((numbers, times))  # stable: equal ones stay as they ran
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(times[order]) != 0) | (np.diff(numbers[order]) != 0)
    places = np.arange(len(order))
    before = np.empty(len(order), dtype=np.int64)
    before[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return before


def _after_rewrite(
    sql: sqlite3.Connection, source: int, events: list[KeyedEvent]
) -> tuple[list[KeyedEvent], list[int]]:
    """Return which events of a rewritten history are new, and which stored ones have got a time stamp by it.

    With a time stamp on either side the identity tells. Without one the place among the others does, also
    between events that have one and events that have none: a shell told to keep times writes them into the
    lines it has, and one told not to leaves them out.
    """
    stored = sql.execute(
        "SELECT id, command_row, timestamp, key FROM events WHERE source_id = ? ORDER BY position", (source,)
    ).fetchall()
    timeless: defaultdict[int, list[int]] = defaultdict(list)
    for number, row, timestamp, _ in stored:
        if timestamp is None:
            timeless[row].append(number)
    if not timeless and all(event.timestamp is not None for *_, event in events):
        return events, []
    known = {key for *_, key in stored}
    marks = align([row for _, row, _, _ in stored], [row for _, row, _, _ in events])
    new, stamped = [], []
    for entry, is_new in zip(events, marks, strict=True):
        key, row, _, event = entry
        if event.timestamp is not None and key not in known:
            new.append(entry)
            if not is_new and timeless[row]:
                stamped.append(timeless[row].pop())
        elif event.timestamp is None and is_new:
            new.append(entry)
    return new, stamped


def _latest(sql: sqlite3.Connection, source: int, row: int) -> bytes | None:
    """Return the key of the last event of a command that has no time stamp."""
    found = sql.execute(
        "SELECT key FROM events WHERE source_id = ? AND command_row = ? AND timestamp IS NULL "
        "ORDER BY position DESC LIMIT 1",
        (source, row),
    ).fetchone()
    return found[0] if found else None


def _without_events(sql: sqlite3.Connection, source: int, rows: Iterable[int]) -> int:
    """Return how many of these commands have no event in a source yet."""
    listed = list(rows)
    if not _one(sql, "SELECT EXISTS (SELECT 1 FROM events WHERE source_id = ?)", source):
        return len(listed)
    # The sign keeps SQLite from walking through the whole source for each command.
    query = "SELECT EXISTS (SELECT 1 FROM events WHERE command_row = ? AND +source_id = ?)"
    return sum(1 for row in listed if not _one(sql, query, row, source))


def _one(sql: sqlite3.Connection, query: str, *parameters: int) -> int:
    return int(sql.execute(query, parameters).fetchone()[0])
