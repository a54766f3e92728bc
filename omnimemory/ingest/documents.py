"""Files and folders as changes of the store: what is unchanged costs a stat, what moved embeds nothing.

A chunk's id is made of its source, its text and how often the text came before in that source; offsets
are no part of it. New chunks are written in the same commit in which old ones go, and a source is marked
complete last, so a run that dies anywhere is continued by the next one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.errors import SourceError
from omnimemory.ingest.clean_document import clean_document
from omnimemory.ingest.document_reader import DocumentReader, chunk_id
from omnimemory.ingest.roots import Root, removable, walk_root
from omnimemory.ingest.tally import Tally
from omnimemory.records import Document, Failure, Progress
from omnimemory.sources.documents import Found, SkippedError, read
from omnimemory.storage.documents import DocumentTable, NewChunk, StoredChunk
from omnimemory.storage.sources import StoredSource, reopen_source, source_state, sources_below
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import lift_stones

__all__ = ["DocumentReader", "chunk_id", "document_changes"]

_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000


@dataclass(slots=True)
class FileChange:
    """A part of what changed in one file: new chunks, and with the last part everything else.

    ``before`` is what the source remembered when the file was compared with it; ``state``, with the last
    part only, what it is to remember from now on; ``lifted`` the tombstones of what comes back with it.
    """

    table: DocumentTable
    uri: str
    before: dict[str, Any]
    tally: Tally
    new: Sequence[NewChunk] = ()
    stale: Sequence[int] = ()
    kept: Sequence[tuple[StoredChunk, NewChunk]] = ()
    state: dict[str, Any] | None = None
    lifted: frozenset[bytes] = frozenset()

    @property
    def texts(self) -> Sequence[str]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        return [piece.text for piece in self.new]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.table.ensure_source(sql, self.uri, "file")
        now = source_state(sql, source)
        there = self.table.rows_of([piece.id for piece in self.new]) if now != self.before else {}
        rows = self.table.add(sql, source, self.new, pending=pending)
        self.tally.added += len(self.new) - len(there)
        self.tally.unchanged += len(there)
        if self.state is None or (now != self.before and not _same_text(now, self.state)):
            # Not the whole file yet; or another process read another version of it meanwhile, and which chunks
            # are old is for the next run to find out.
            reopen_source(sql, source)
            return rows
        moved = self.table.move(sql, self.kept)
        self.table.delete(sql, self.stale)
        self.table.finish_source(sql, source, self.state)
        lift_stones(sql, self.lifted)
        self.tally.updated += moved
        self.tally.unchanged += len(self.kept) - moved
        self.tally.deleted += len(self.stale)
        return rows


def _same_text(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one.get("digest"), one.get("how")) == (other.get("digest"), other.get("how"))


@dataclass(slots=True)
class FileRemoval:
    """A file that is gone: its chunks go as well."""

    table: DocumentTable
    source: StoredSource
    tally: Tally
    texts: Sequence[str] = ()

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.tally.Change`."""
        self.tally.deleted += self.table.delete_source(sql, self.source.id)
        return []


def document_changes(
    store: Store,
    paths: Sequence[Path],
    reader: DocumentReader,
    tally: Tally,
    *,
    part: int,
    prune: bool,
    prune_all: bool,
    progress: Callable[[Progress], None],
) -> Iterator[FileChange | FileRemoval]:
    """Yield what has to change so that the store holds these files and folders as they are now.

    ``part`` is the most new chunks in one change. Everything that is skipped or fails is named in
    ``tally.failures``; nothing stops the run.
    """
    roots = [walk_root(path, reader.limits, reader.own) for path in paths]
    stored = {root.uri: sources_below(store.catalog, root.uri, "file") for root in roots}
    known = {uri: source for sources in stored.values() for uri, source in sources.items()}
    files: dict[str, tuple[Found, Root]] = {}
    for root in roots:
        for uri, file in root.found.items():
            files.setdefault(uri, (file, root))  # roots may overlap
    alive = {uri for root in roots for uri in root.refused}
    for root in roots:
        forgotten = prune_all and not root.exists and stored[root.uri]
        tally.failures += root.failures if not forgotten else ()
    for number, (uri, (file, root)) in enumerate(files.items()):
        if tally.stopped:
            return
        progress(Progress("documents", number, len(files), uri))
        reading = _FileReading(store.documents, file, root, known.get(uri), reader, tally, part)
        yield from reading.changes()
        if not reading.blank:
            alive.add(uri)
    progress(Progress("documents", len(files), len(files)))
    if prune:
        yield from _removals(store.documents, roots, stored, alive, tally, anyway=prune_all)


def _removals(
    table: DocumentTable,
    roots: Sequence[Root],
    stored: dict[str, dict[str, StoredSource]],
    alive: set[str],
    tally: Tally,
    *,
    anyway: bool,
) -> Iterator[FileRemoval]:
    for root in roots:
        gone, why_not = removable(root, stored[root.uri], alive, anyway=anyway)
        if why_not:
            tally.failures.append(Failure(str(root.path), why_not, error=False))
        for source in gone:
            alive.add(source.uri)  # once, though it may be below several roots
            yield FileRemoval(table, source, tally)


@dataclass(slots=True)
class _FileReading:
    """One file compared with what is stored of it; ``blank`` says afterwards that it holds no text."""

    table: DocumentTable
    file: Found
    root: Root
    stored: StoredSource | None
    reader: DocumentReader
    tally: Tally
    part: int
    blank: bool = False

    def changes(self) -> Iterator[FileChange]:
        """Yield what has to change for this file: nothing when its size and times are what they were."""
        self.tally.sources += 1
        if self._is_forgotten():
            return
        file, state = self.file, self._complete_state()
        if state and state.get("stat") == _stat(file):
            self.tally.unchanged += int(state["chunks"])
            return
        fresh = _is_fresh(file)
        document = self._document()
        if document is None:
            return
        digest = _digest(document)
        now = {"stat": None if fresh else _stat(file), "digest": digest, "how": self.reader.signature}
        now["root"] = self.root.uri
        if state and state.get("digest") == digest:
            self.tally.unchanged += int(state["chunks"])
            now["forgotten"] = state.get("forgotten", False)
            yield self._change(state={**now, "chunks": state["chunks"]})
            return
        yield from self._chunk_changes(self.reader.chunks(document), now)

    def _complete_state(self) -> dict[str, Any] | None:
        """Return what the source remembers, if it was read to its end and in the same way."""
        if self.stored is None or not self.stored.complete or self.stored.state.get("how") != self.reader.signature:
            return None
        if self.reader.restore and self.stored.state.get("forgotten"):
            return None
        return self.stored.state

    def _is_forgotten(self) -> bool:
        stone = self.reader.forgotten.source("file", self.file.uri)
        if stone not in self.reader.forgotten.hashes or self.reader.restore:
            return False
        self._leave_out("it was forgotten")
        return True

    def _leave_out(self, what: str) -> None:
        self.tally.failures.append(Failure(self.file.uri, f"{what}; to bring it back: --restore", error=False))

    def _document(self) -> Document | None:
        """Read the file and take out its secrets; ``None``, and a line in the report, if that is not possible."""
        try:
            document = read(self.file, self.reader.limits)
        except SkippedError as error:
            self.blank = True
            self.tally.failures.append(Failure(self.file.uri, str(error), error=False))
            return None
        except SourceError as error:
            self.tally.failures.append(Failure(self.file.uri, str(error)))
            return None
        document, counts = clean_document(document, self.reader.redactor)
        self.tally.redactions.update(counts)
        return document

    def _chunk_changes(self, chunks: list[NewChunk], state: dict[str, Any]) -> Iterator[FileChange]:
        old = self.table.stored(self.stored.id) if self.stored else {}
        chunks, state, lifted = self._remembered(chunks, state)
        wanted = {piece.id for piece in chunks}
        new = [piece for piece in chunks if piece.id not in old]
        while len(new) > self.part:
            yield self._change(new=new[: self.part])
            new = new[self.part :]
        yield self._change(
            new=new,
            stale=[piece.row for public, piece in old.items() if public not in wanted],
            kept=[(old[piece.id], piece) for piece in chunks if piece.id in old],
            state={**state, "chunks": len(chunks)},
            lifted=lifted,
        )

    def _remembered(
        self, chunks: list[NewChunk], state: dict[str, Any]
    ) -> tuple[list[NewChunk], dict[str, Any], frozenset[bytes]]:
        """Leave out the chunks that were forgotten, or say which tombstones are lifted to bring them back."""
        forgotten, uri = self.reader.forgotten, self.file.uri
        stones = [forgotten.of_chunk(uri, piece.text) for piece in chunks]
        if self.reader.restore:
            return chunks, state, frozenset().union({forgotten.source("file", uri)}, *stones) & forgotten.hashes
        left = [piece for piece, found in zip(chunks, stones, strict=True) if not found]
        if len(left) < len(chunks):
            self._leave_out(f"{len(chunks) - len(left)} of {len(chunks)} parts were forgotten and are left out")
        return left, {**state, "forgotten": len(left) < len(chunks)}, frozenset()

    def _change(self, **parts: Any) -> FileChange:
        before = self.stored.state if self.stored else {}
        return FileChange(self.table, self.file.uri, before, self.tally, **parts)


def _stat(file: Found) -> list[int]:
    return [file.size, file.mtime_ns, file.inode, file.device]


def _is_fresh(file: Found) -> bool:
    """Return whether the file changed so lately that a second change could leave the same time stamp."""
    # A whole number of seconds means a file system that counts in seconds.
    tick = _COARSE_TICK_NS if file.mtime_ns % 1_000_000_000 == 0 else _TICK_NS
    return file.mtime_ns > time.time_ns() - tick


def _digest(document: Document) -> str:
    headings = [[heading.start, heading.level, heading.title] for heading in document.headings]
    rest = json.dumps([document.format, document.metadata, headings], sort_keys=True)
    return hashlib.blake2b(f"{rest}\0{document.text}".encode(), digest_size=16).hexdigest()
