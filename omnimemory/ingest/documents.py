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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnimemory.errors import SourceError
from omnimemory.ingest.pipeline import Tally
from omnimemory.records import Document, Failure, Progress
from omnimemory.sources.chunking import TokenCounter, chunk
from omnimemory.sources.documents import Found, Limits, SkippedError, read, walk
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.documents import DocumentTable, NewChunk, StoredChunk, StoredSource
from omnimemory.storage.items import ItemTable
from omnimemory.storage.store import Store

__all__ = ["DocumentReader", "chunk_id", "document_changes"]

READER_VERSION = 1
"""Raise it when chunks of the same file come out differently, so that files are read again."""

_PRUNE_FILES = 10
_PRUNE_SHARE = 0.5
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000


def chunk_id(uri: str, text: str, occurrence: int) -> str:
    """Return a chunk's public id: stable when its lines move, different for equal texts of one source."""
    return hashlib.blake2b(f"{uri}\0{occurrence}\0{text}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class DocumentReader:
    """How files become chunks: limits of the walk, the redactor, and the chunker's settings."""

    limits: Limits
    redactor: Redactor
    count_tokens: TokenCounter
    size: int
    overlap: int

    @property
    def signature(self) -> list[int | bool]:
        """What, besides its bytes, decides how a file is cut."""
        return [READER_VERSION, self.size, self.overlap, self.redactor.enabled]

    def chunks(self, document: Document) -> list[NewChunk]:
        """Cut a document (redacted already) into chunks with their ids."""
        seen: Counter[str] = Counter()
        cut = []
        for piece in chunk(document, self.count_tokens, size=self.size, overlap=self.overlap):
            heading = str(piece.metadata.get("heading", ""))
            extra = {key: value for key, value in piece.metadata.items() if key != "heading"}
            public = chunk_id(document.uri, piece.text, seen[piece.text])
            seen[piece.text] += 1
            metadata = {**document.metadata, **extra, "format": document.format}
            cut.append(NewChunk(public, piece.text, piece.start, piece.end, heading, metadata))
        return cut


@dataclass(slots=True)
class FileChange:
    """A part of what changed in one file: new chunks, and with the last part everything else."""

    table: ItemTable
    documents: DocumentTable
    uri: str
    new: Sequence[NewChunk] = ()
    stale: Sequence[int] = ()
    kept: Sequence[tuple[StoredChunk, NewChunk]] = ()
    state: dict[str, Any] | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def texts(self) -> Sequence[str]:
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        return [piece.text for piece in self.new]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        source = self.documents.ensure_source(sql, self.uri, "file")
        rows = self.documents.add(sql, source, self.new, pending=pending)
        moved = self.documents.move(sql, self.kept)
        self.documents.delete(sql, self.stale)
        if self.state is not None:
            self.documents.finish_source(sql, source, self.state)
        self.tally.added += len(self.new)
        self.tally.updated += moved
        self.tally.unchanged += len(self.kept) - moved
        self.tally.deleted += len(self.stale)
        return rows


@dataclass(slots=True)
class FileRemoval:
    """A file that is gone: its chunks go as well."""

    table: ItemTable
    documents: DocumentTable
    source: StoredSource
    tally: Tally
    texts: Sequence[str] = ()

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        self.tally.deleted += self.documents.delete_source(sql, self.source.id)
        return []


def document_changes(
    store: Store,
    roots: Sequence[Path],
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
    for root in roots:
        found: dict[str, Found] = {}
        troubled = False
        for entry in walk(root, reader.limits):
            if isinstance(entry, Failure):
                tally.failures.append(entry)
                troubled = troubled or entry.error
            else:
                found[entry.uri] = entry
        stored = store.documents.sources(_prefix(root))
        for number, (uri, file) in enumerate(found.items()):
            progress(Progress("documents", number, len(found), uri))
            yield from _file_changes(store.documents, file, stored.get(uri), reader, tally, part)
        progress(Progress("documents", len(found), len(found)))
        if prune:
            yield from _removals(store.documents, root, stored, found, tally, troubled=troubled, prune_all=prune_all)


def _prefix(root: Path) -> str:
    resolved = root.resolve()
    return f"{resolved.as_posix().rstrip('/')}/" if resolved.is_dir() else resolved.as_posix()


def _stat(file: Found) -> list[int]:
    return [file.size, file.mtime_ns, file.inode, file.device]


def _is_fresh(file: Found) -> bool:
    """Return whether the file changed so lately that a second change could leave the same time stamp."""
    # A whole number of seconds means a file system that counts in seconds.
    tick = _COARSE_TICK_NS if file.mtime_ns % 1_000_000_000 == 0 else _TICK_NS
    return file.mtime_ns > time.time_ns() - tick


def _file_changes(
    documents: DocumentTable,
    file: Found,
    stored: StoredSource | None,
    reader: DocumentReader,
    tally: Tally,
    part: int,
) -> Iterator[FileChange]:
    tally.sources += 1
    complete = stored is not None and stored.complete and stored.state.get("how") == reader.signature
    if stored is not None and complete and stored.state.get("stat") == _stat(file):
        tally.unchanged += int(stored.state.get("chunks", 0))
        return
    fresh = _is_fresh(file)
    try:
        document = _redacted(read(file, reader.limits), reader, tally)
    except SkippedError as error:
        tally.failures.append(Failure(file.uri, str(error), error=False))
        return
    except SourceError as error:
        tally.failures.append(Failure(file.uri, str(error)))
        return
    digest = _digest(document)
    state = {"stat": None if fresh else _stat(file), "digest": digest, "how": reader.signature}
    if stored is not None and complete and stored.state.get("digest") == digest:
        count = int(stored.state.get("chunks", 0))
        tally.unchanged += count
        yield FileChange(documents, documents, file.uri, state={**state, "chunks": count})
        return
    yield from _chunk_changes(documents, file.uri, reader.chunks(document), stored, state, tally, part)


def _chunk_changes(
    documents: DocumentTable,
    uri: str,
    chunks: list[NewChunk],
    stored: StoredSource | None,
    state: dict[str, Any],
    tally: Tally,
    part: int,
) -> Iterator[FileChange]:
    old = documents.stored(stored.id) if stored else {}
    new = [piece for piece in chunks if piece.id not in old]
    kept = [(old[piece.id], piece) for piece in chunks if piece.id in old]
    wanted = {piece.id for piece in chunks}
    stale = [piece.row for public, piece in old.items() if public not in wanted]
    while len(new) > part:
        yield FileChange(documents, documents, uri, new=new[:part], tally=tally)
        new = new[part:]
    yield FileChange(
        documents, documents, uri, new=new, stale=stale, kept=kept, state={**state, "chunks": len(chunks)}, tally=tally
    )


def _redacted(document: Document, reader: DocumentReader, tally: Tally) -> Document:
    found = reader.redactor.document(document.text)
    if not found.counts:
        return document
    tally.redactions.update(found.counts)
    # Headings point into the text before redaction: find each again behind the one before.
    headings, position = [], 0
    for heading in document.headings:
        title = reader.redactor.document(heading.title).text
        at = found.text.find(title, position)
        if at >= 0:
            start = found.text.rfind("\n", 0, at) + 1
            headings.append(type(heading)(max(start, position), heading.level, title))
            position = at
    return Document(document.uri, found.text, document.format, tuple(headings), document.metadata)


def _digest(document: Document) -> str:
    metadata = json.dumps([document.format, document.metadata], sort_keys=True)
    return hashlib.blake2b(f"{metadata}\0{document.text}".encode(), digest_size=16).hexdigest()


def _removals(
    documents: DocumentTable,
    root: Path,
    stored: dict[str, StoredSource],
    found: dict[str, Found],
    tally: Tally,
    *,
    troubled: bool,
    prune_all: bool,
) -> Iterator[FileRemoval]:
    skipped = {failure.source for failure in tally.failures}
    gone = [source for uri, source in stored.items() if uri not in found and uri not in skipped]
    if not gone:
        return
    if not prune_all:
        reason = _why_not_prune(root, len(gone), len(stored), bool(found), troubled=troubled)
        if reason:
            tally.failures.append(Failure(str(root), reason, error=False))
            return
    for source in gone:
        yield FileRemoval(documents, documents, source, tally)


def _why_not_prune(root: Path, gone: int, stored: int, anything: bool, *, troubled: bool) -> str | None:
    """Say why files that seem to be gone must be kept: a folder may be unmounted, or unreadable in part."""
    fix = f"{gone} files that are no longer found were kept; forget them with --prune-all"
    if not root.is_dir():
        return f"there is no folder {root}: {fix}"
    if not anything:
        return f"the folder is empty: {fix}"
    if troubled:
        return f"a part of the folder could not be read: {fix}"
    if gone > _PRUNE_FILES and gone > _PRUNE_SHARE * stored:
        return f"more than half of the folder's files are gone: {fix}"
    return None
