"""Shell histories as changes of the store: each distinct command once, each execution as an event.

Commands are committed first, all but the last of them with their vectors; all new events and the cursor that says how
far the history was read follow in one last commit. A run that dies before it is repeated without a trace.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from omnimemory.ingest.events import CleanEvents, NewEvents
from omnimemory.ingest.pace import Pace
from omnimemory.ingest.paths import path_uri
from omnimemory.ingest.scrub import ScrubbedEvents, commands_with_secrets
from omnimemory.ingest.tally import Tally
from omnimemory.records import Failure, Progress
from omnimemory.sources.history import (
    MAX_COMMAND_BYTES,
    Cursor,
    HistoryRead,
    RowCursor,
    locate,
    read_history,
    read_stream,
    stored_cursor,
)
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.sources import reopen_source, sources_below
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import read_tombstones

__all__ = ["NewCommands", "history_changes", "tells_what_to_forget"]

_MUCH = 256 * 1024
"""Bytes by which a history has grown that hold thousands of commands, most of them new to the store."""

Read = Callable[..., HistoryRead]
"""Reads a history: takes ``shell`` and ``cursor``."""

# Such a line names what was to go.
_FORGETS = re.compile(r"\bomnimemory\b[^|;&\n]*\sforget\b")


@dataclass(slots=True)
class NewCommands:
    """Commands that are not in the store yet; their events follow."""

    table: CommandTable
    documents: DocumentTable
    uri: str
    texts: Sequence[str]
    tally: Tally

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        # Should this run die before the events are there, the next one knows.
        reopen_source(sql, self.documents.ensure_source(sql, self.uri, "history"))
        self.tally.added += len(self.texts)
        return self.table.add(sql, self.texts, pending=pending)


def tells_what_to_forget(command: str) -> bool:
    """Return whether a command names what this memory is to forget, and would thus keep it."""
    return _FORGETS.search(command) is not None


def history_changes(
    store: Store,
    target: str | Path | IO[bytes] | None,
    shell: str | None,
    redactor: Redactor,
    tally: Tally,
    *,
    name: str = "stdin",
    part: int,
    restore: bool,
    progress: Callable[[Progress], None],
) -> Iterator[NewCommands | NewEvents | ScrubbedEvents]:
    """Yield what has to change so that the store holds every event of a history but those that were forgotten.

    With ``restore`` these come back as well.
    ``target`` may be an open binary stream: its history is remembered by ``name``.
    Raises :class:`SourceError` when there is no such history, it cannot be read or is none.
    """
    key = store.catalog.key
    file: Path | None
    if target is None or isinstance(target, str | Path):
        path, shell = locate(target, shell, Path.home(), os.environ)
        uri, file = path_uri(path), path
        read: Read = partial(read_history, path, key=key)
    else:
        uri, file = f"stdin:{name}", None
        read = partial(read_stream, uri, target, key=key)
    tally.sources += 1
    history = _History(store, uri, file, read, redactor, tally, part, progress, restore=restore)
    yield from history.scrubbed()
    yield from history.changes(shell)


class _History:
    """One history and what is stored of it."""

    def __init__(
        self,
        store: Store,
        uri: str,
        file: Path | None,
        read: Read,
        redactor: Redactor,
        tally: Tally,
        part: int,
        progress: Callable[[Progress], None],
        *,
        restore: bool,
    ) -> None:
        self._store = store
        self._uri = uri
        self._file = file
        self._read = read
        self._redactor = redactor
        self._tally = tally
        self._part = part
        self._progress = progress
        stored = sources_below(store.catalog, self._uri, "history").get(self._uri)
        self._before: dict[str, Any] = stored.state if stored else {}
        self._died = stored is not None and not stored.complete
        self._forgotten = read_tombstones(store.catalog)
        self._restore = restore

    def scrubbed(self) -> Iterator[NewCommands | ScrubbedEvents]:
        """Yield what takes secrets out that an earlier run was asked to keep."""
        if not self._redactor.enabled or not self._before.get("secrets"):
            return
        clean = commands_with_secrets(self._store.catalog, self._uri, self._redactor, self._tally)
        yield from self._new_commands((text for text in clean.values() if text is not None), len(clean))
        yield ScrubbedEvents(self._store.commands, self._store.documents, self._uri, self._before, clean, self._tally)
        self._before = {**self._before, "secrets": False}

    def changes(self, shell: str | None) -> Iterator[NewCommands | NewEvents]:
        """Yield what is new in the file."""
        source = self._forgotten.source("history", self._uri)
        if source in self._forgotten.hashes and not self._restore:
            self._left_out(1, "history was forgotten; to bring it back: --restore")
            return
        again = self._restore and self._before.get("forgotten")
        cursor = None if again else stored_cursor(self._before)
        if _bytes_of(self._file) - (cursor.size if cursor else 0) >= _MUCH:
            self._store.expect()
        reading = self._read(shell=shell, cursor=cursor)
        if self._before and cursor is None:  # a cursor of another version: positions tell nothing
            reading = replace(reading, rewritten=True)
        if reading.oversize:
            self._left_out(reading.oversize, f"commands longer than {MAX_COMMAND_BYTES:,} bytes were left out")
        if reading.unreadable:
            self._left_out(reading.unreadable, "lines that are no commands were left out")
        keeps = bool(self._before.get("secrets")) or not self._redactor.enabled
        if reading.unchanged and cursor == reading.cursor and not self._died and keeps == self._before.get("secrets"):
            self._tally.unchanged += int(self._before.get("commands", 0))
            return
        if reading.keeps_each_once and not self._before.get("deduplicated"):
            reason = "each command is kept only once in it, so what followed what is not learnt from it"
            self._tally.failures.append(Failure(self._uri, reason, error=False))
        self._say_what_stays()
        events = CleanEvents(reading.entries, reading.first_position)
        texts, lifted = self._redacted(events), None
        if self._forgotten:
            texts, lifted = self._remembered(events, texts)
        new = yield from self._new_commands(texts, len(reading.entries.commands()))
        yield NewEvents(
            self._store.commands,
            self._store.documents,
            self._uri,
            self._before,
            reading,
            events,
            misread=_misread(cursor, reading),
            secrets=keeps,
            died=self._died,
            added=new,
            tally=self._tally,
            lifted=lifted,
        )

    def _new_commands(self, texts: Iterable[str], total: int) -> Generator[NewCommands, None, int]:
        """Yield the commands that are not in the store, each once, in parts; return how many they are."""
        new: set[str] = set()
        looked = 0
        for part in _parts(texts, self._part):
            self._progress(Progress("history", looked, total, self._uri))
            looked += len(part)
            known = self._store.commands.known(part)
            unknown = [text for text in dict.fromkeys(part) if text not in known and text not in new]
            new.update(unknown)
            if unknown:
                yield NewCommands(self._store.commands, self._store.documents, self._uri, unknown, self._tally)
        self._progress(Progress("history", total, total, self._uri))
        return len(new)

    def _redacted(self, events: CleanEvents) -> Iterator[str]:
        """Yield each distinct command without its secrets, and note in ``events`` what it became."""
        telling: set[str] = set()
        for text in events.entries.commands():
            found = self._redactor.command(text)
            self._tally.redactions.update(found.counts)
            if tells_what_to_forget(text):
                telling.add(text)
            clean = None if found.skip or text in telling or not found.text.strip() else found.text
            events.clean[text] = clean
            if clean is not None:
                yield clean
        left_out = len(events.entries) - len(events)
        told = sum(1 for entry in events.entries if entry.event.command in telling) if telling else 0
        if told:
            self._left_out(told, "commands that say what this memory is to forget were left out")
        if left_out > told:
            self._left_out(left_out - told, "commands that began with a space were left out, as the shell was asked to")

    def _remembered(self, events: CleanEvents, texts: Iterator[str]) -> tuple[Iterator[str], frozenset[bytes] | None]:
        """Leave out what was forgotten; return the commands that are left.

        Or, where it is to come back, return which tombstones are lifted for that.
        """
        deque(texts, maxlen=0)  # what each command becomes is noted in ``events``
        stones = {self._forgotten.source("history", self._uri)} & self._forgotten.hashes
        for position, event in events:
            found = self._forgotten.of_event(self._uri, event.timestamp, event.command)
            stones |= found
            if found and not self._restore:
                events.forgotten.add(position)
        if self._restore:
            return iter(events.commands()), frozenset(stones)
        left = {event.command for _, event in events}
        for text, clean in events.clean.items():
            events.clean[text] = clean if clean in left else None
        if events.forgotten:
            self._left_out(
                len(events.forgotten), "commands were forgotten and are left out; to bring them back: --restore"
            )
        return iter(events.commands()), None

    def _left_out(self, count: int, why: str) -> None:
        self._tally.failures.append(Failure(self._uri, f"{count:,} {why}", error=False))
        self._tally.skipped += count - 1  # one of them is counted by its line in the report

    def _say_what_stays(self) -> None:
        if self._before and not self._before.get("secrets") and not self._redactor.enabled:
            reason = "what was read before stays without its secrets; only what is new is stored with them"
            self._tally.failures.append(Failure(self._uri, reason, error=False))


def _parts(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield the texts in lists; the first is small, because the model waits for it."""
    rest, size = iter(texts), Pace(most).least
    while part := list(islice(rest, size)):
        yield part
        size = most


def _bytes_of(path: Path | None) -> int:
    """Return how large a file is, 0 if it is none or cannot be asked: reading it tells why."""
    try:
        return path.stat().st_size if path is not None and path.is_file() else 0
    except OSError:
        return 0


def _misread(cursor: Cursor | RowCursor | None, reading: HistoryRead) -> str | None:
    """Return the shell that a history was taken for, if the same bytes are now read as another one's."""
    now = reading.cursor
    if cursor is None or (cursor.size, cursor.digest) != (now.size, now.digest) or cursor.shell == now.shell:
        return None
    return cursor.shell
