"""Writing everything that a store remembers as JSON Lines, in an order that depends on the content alone.

What is derived is left out: keywords and the index are made again by an import, and so are vectors unless they are
asked for. All of it is read as it was at one moment, whatever others commit meanwhile, and never more than a few
hundred rows are held at once.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from omnimemory.errors import CatalogDamagedError
from omnimemory.records import Progress
from omnimemory.sources.history import CURSOR_FIELDS
from omnimemory.storage.checksums import chunk_checksum, event_checksum, source_checksum
from omnimemory.storage.commands import command_id
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import wrong_vectors
from omnimemory.transfer.contents import FORMAT, VERSION
from omnimemory.transfer.lines import LineWriter
from omnimemory.transfer.new_file import new_file
from omnimemory.transfer.reports import ExportReport

__all__ = ["export"]

_PART = 400
_TICK_LINES = 2000
_EVENT_FIELDS = ("timestamp", "cwd", "exit_code", "duration", "session", "host", "shell")
# When and where a file was looked at: it differs between equal stores, and elsewhere it says nothing.
_OF_THIS_MACHINE = {"file": {"stat"}, "history": CURSOR_FIELDS}
_CHUNKS = (
    "SELECT v.vector, v.checksum, c.id, c.checksum, c.chunk_id, c.start_char, c.end_char, c.heading, c.metadata, "
    "c.text FROM chunks c LEFT JOIN vectors v ON v.collection_id = ? AND v.item = c.id WHERE c.id IN ({marks})"
)
_COMMANDS = (
    "SELECT v.vector, v.checksum, c.id, c.command_id, c.text "
    "FROM commands c LEFT JOIN vectors v ON v.collection_id = ? AND v.item = c.id WHERE c.id IN ({marks})"
)
_EVENTS = (
    "SELECT e.key, e.position, c.id, c.text, e.checksum, e.timestamp, e.cwd, e.exit_code, e.duration, e.session, "
    "e.host, e.shell FROM events e JOIN commands c ON c.id = e.command_row WHERE e.source_id = ? "
    "ORDER BY e.position, e.key"
)
_COUNTS = {
    "sources": "SELECT count(*) FROM sources",
    "chunks": "SELECT count(*) FROM chunks",
    "events": "SELECT count(*) FROM events",
    # A command that no event speaks of is a trace of a run that died.
    "commands": "SELECT count(DISTINCT command_row) FROM events",
}


def export(
    store: Store,
    target: str | Path | IO[bytes],
    *,
    vectors: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """See :meth:`omnimemory.memory.Memory.export`."""
    if not isinstance(target, str | Path):
        return _run(_Export(store, target.write, vectors, progress), None)
    path = Path(target).expanduser().absolute()
    with new_file(path, overwrite=overwrite) as file:
        return _run(_Export(store, file.write, vectors, progress), path)


class _OutputError(Exception):
    """Carries an error of the output past those who would take it for one of the store."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def _run(one: _Export, path: Path | None) -> ExportReport:
    try:
        return one.run(path)
    except _OutputError as carried:
        raise carried.error from None


class _Export:
    """One export on its way."""

    def __init__(
        self,
        store: Store,
        write: Callable[[bytes], object],
        vectors: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._store = store
        self._write = write
        self._out = LineWriter(self._written)
        self._with_vectors = vectors
        self._progress = progress
        self._total = 0
        self._vectors = 0

    def run(self, path: Path | None) -> ExportReport:
        """Write it all and report."""
        began = time.monotonic()
        with self._store.catalog.snapshot() as sql:
            counts = {kind: int(sql.execute(query).fetchone()[0]) for kind, query in _COUNTS.items()}
            self._total = sum(counts.values()) + 2
            self._put({"format": FORMAT, "version": VERSION, **self._spaces(sql), "counts": counts})
            for line in self._sources(sql):
                self._put(line)
            for line in self._commands(sql):
                self._put(line)
            self._put({"end": True})
        self._tell()
        return ExportReport(
            path=None if path is None else str(path),
            vectors=self._vectors,
            bytes=self._out.bytes,
            seconds=round(time.monotonic() - began, 3),
            **counts,
        )

    def _written(self, data: bytes) -> None:
        try:
            self._write(data)
        except OSError as error:
            raise _OutputError(error) from error

    def _put(self, content: dict[str, Any]) -> None:
        self._out.put(content)
        self._vectors += "vector" in content
        if self._out.lines % _TICK_LINES == 0:
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(Progress("export", self._out.lines, self._total))

    def _spaces(self, sql: sqlite3.Connection) -> dict[str, Any]:
        rows = sql.execute(
            "SELECT c.name, s.fingerprint, s.model, s.dim FROM collections c JOIN spaces s ON s.id = c.space_id "
            "WHERE c.name IN ('commands', 'documents') ORDER BY c.name"
        )
        spaces = {name: {"fingerprint": mark, "model": model, "dim": dim} for name, mark, model, dim in rows}
        return {"vectors": self._with_vectors, "spaces": spaces}

    def _collection(self, kind: str) -> int:
        return self._store.tables[kind].collection.id if self._with_vectors else 0

    def _sources(self, sql: sqlite3.Connection) -> Iterator[dict[str, Any]]:
        for row, kind, uri, state, complete, check in sql.execute(
            "SELECT id, kind, uri, state, complete, checksum FROM sources ORDER BY uri, kind"
        ):
            self._verify(check in (None, source_checksum(state, uri, kind)), f"the source {uri}")
            yield {"kind": kind, "source": uri, "state": self._portable(kind, uri, state), "complete": bool(complete)}
            yield from self._chunks(sql, row)
            yield from self._events(sql, row)

    def _chunks(self, sql: sqlite3.Connection, source: int) -> Iterator[dict[str, Any]]:
        order = sql.execute("SELECT id FROM chunks WHERE source_id = ? ORDER BY start_char, chunk_id", (source,))
        for blob, vector_check, row, check, *values in self._in_order(sql, order, _CHUNKS, "documents"):
            self._verify(check in (None, chunk_checksum(*(*values, source))), f"chunk {row}")
            line = dict(zip(("chunk", "start", "end", "heading", "metadata", "text"), values, strict=True))
            line["metadata"] = self._json(line["metadata"], f"chunk {row}")
            yield {**line, **self._vector("documents", row, blob, vector_check)}

    def _events(self, sql: sqlite3.Connection, source: int) -> Iterator[dict[str, Any]]:
        for key, position, owner, command, check, *values in sql.execute(_EVENTS, (source,)):
            fits = check in (None, event_checksum(*(*values, key, owner, source, position)))
            self._verify(fits, f"event {key.hex()}")
            known = {name: value for name, value in zip(_EVENT_FIELDS, values, strict=True) if value is not None}
            yield {"event": key.hex(), "position": position, "command": command, **known}

    def _commands(self, sql: sqlite3.Connection) -> Iterator[dict[str, Any]]:
        order = sql.execute(
            "SELECT id FROM commands c WHERE EXISTS (SELECT 1 FROM events e WHERE e.command_row = c.id) "
            "ORDER BY command_id"
        )
        for blob, check, row, public, text in self._in_order(sql, order, _COMMANDS, "commands"):
            self._verify(public == command_id(text), f"command {row}")
            yield {"command": text, **self._vector("commands", row, blob, check)}

    def _in_order(
        self, sql: sqlite3.Connection, order: sqlite3.Cursor, query: str, kind: str
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that ``query`` gives for the ids of ``order``, in that order; the id is their third column.

        Sorting the ids alone takes little memory, however long the texts are.
        """
        while part := [row for (row,) in order.fetchmany(_PART)]:
            marks = ",".join("?" * len(part))
            found = {row[2]: row for row in sql.execute(query.format(marks=marks), (self._collection(kind), *part))}
            for row in part:
                yield found[row]

    def _vector(self, kind: str, item: int, blob: bytes | None, check: int | None) -> dict[str, str]:
        if blob is None:
            return {}
        _, wrong = wrong_vectors(self._store.tables[kind].collection.dim, [item], [blob], [check])
        self._verify(not wrong, f"the vector of {kind} {item}")
        return {"vector": base64.b64encode(blob).decode()}

    def _portable(self, kind: str, uri: str, state: str) -> dict[str, Any]:
        found = self._json(state, f"the state of {uri}")
        left_out = {"importing", *_OF_THIS_MACHINE.get(kind, ())}
        return {key: value for key, value in found.items() if key not in left_out}

    def _json(self, text: str, what: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            return self._verify(sound=False, what=what)

    def _verify(self, sound: bool, what: str) -> None:
        if not sound:
            raise CatalogDamagedError(
                f"{self._store.catalog.path} is damaged: {what} is not what was stored. Run `omnimemory repair`, which "
                "may find a copy of it, or restore a backup."
            )
