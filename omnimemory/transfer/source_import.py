"""One source of an export: its chunks or events in batches, and what becomes of those the store knows otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from omnimemory.embedders.base import Vectors
from omnimemory.ingest.tally import Change, Tally
from omnimemory.records import Failure
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.documents import NewChunk
from omnimemory.storage.sources import StoredSource, find_source
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import Tombstones
from omnimemory.transfer.arrivals import (
    Arrival,
    ArrivedChunks,
    ArrivedEvents,
    ArrivedNotes,
    FinishedSource,
)
from omnimemory.transfer.clean import ChunkCleaner, CommandCleaner
from omnimemory.transfer.contents import ExportedChunk, ExportedEvent, ExportedSource

__all__ = ["SourceImport"]

_EVENTS = 256
_MOST_NAMED = 20


class SourceImport:
    """Takes what follows a source line and gives changes; ``give`` takes a chunk's vector, where it can be used."""

    def __init__(
        self,
        store: Store,
        source: ExportedSource,
        commands: CommandCleaner,
        tally: Tally,
        stones: Tombstones,
        give: Callable[[str, Vectors | None], None] | None,
        part: int,
        redactor: Redactor,
    ) -> None:
        self._store = store
        self._source = source
        self._commands = commands
        self._tally = tally
        self._stones = stones
        self._forgotten = stones.source(source.kind, source.uri) in stones.hashes
        self._give = give
        self._part = part
        self._keep_secrets = not redactor.enabled
        self._arrival = Arrival(source, store.documents, tally)
        self._cleaner = ChunkCleaner(source, replace(redactor, enabled=True), tally.redactions)
        self._stored = find_source(store.catalog, source.uri, source.kind)
        self._chunks: list[tuple[NewChunk, Vectors | None]] = []
        self._events: list[ExportedEvent] = []
        self._renamed: Counter[tuple[float, str]] = Counter()
        self._skipped = self._kept_out = self._differing = 0

    def take(self, content: ExportedChunk | ExportedEvent) -> Iterator[Change]:
        """Take one chunk or event; yield a change once enough of them wait."""
        if isinstance(content, ExportedEvent):
            self._take_event(content)
        else:
            self._take_chunk(content)
        if len(self._chunks) >= self._part or len(self._events) >= _EVENTS:
            yield from self._changes()

    def _take_event(self, content: ExportedEvent) -> None:
        event = self._commands.event(content, self._renamed)
        if event is None:
            self._skipped += 1
        elif self._forgotten or self._stones.of_event(self._source.uri, event.event.timestamp, event.event.command):
            self._kept_out += 1
        else:
            self._events.append(event)

    def _take_chunk(self, content: ExportedChunk) -> None:
        chunk, changed = self._cleaner.chunk(content)
        if self._forgotten or self._stones.of_chunk(self._source.uri, chunk.text):
            self._kept_out += 1
            return
        self._arrival.chunks += 1
        if self._is_foreign():
            return
        self._arrival.changed |= changed
        self._chunks.append((chunk, content.vector if chunk.text == content.text else None))

    def _is_foreign(self) -> bool:
        """Return whether the store has a version of this file that did not come by an import."""
        return self._source.kind == "file" and self._stored is not None and not _is_open(self._stored)

    def _changes(self) -> Iterator[Change]:
        documents, chunks, events = self._store.documents, self._chunks, self._events
        self._chunks, self._events = [], []
        if events:
            yield ArrivedEvents(self._store.commands, self._arrival, events)
        if not chunks:
            return
        known = self._known([chunk for chunk, _ in chunks])
        fresh = [chunk for chunk, _ in chunks if chunk.id not in known]
        for chunk, vector in chunks:
            if self._give is not None and chunk.id not in known:
                self._give(chunk.text, vector)
        if fresh and self._source.kind == "notes":
            yield ArrivedNotes(documents, self._arrival, fresh)
        elif fresh:
            yield ArrivedChunks(documents, self._arrival, fresh)

    def _known(self, chunks: Sequence[NewChunk]) -> set[str]:
        """Return the ids that the store knows; count them, and name those that are another text there."""
        items = self._store.documents.items(list(self._store.documents.rows_of([c.id for c in chunks]).values()))
        stored = {item.id: (item.text, {"source": item.source, **item.metadata}) for item in items.values()}
        for chunk in chunks:
            if chunk.id in stored and stored[chunk.id] == (chunk.text, self._shown(chunk)):
                self._tally.unchanged += 1
            elif chunk.id in stored:
                self._differing += 1
                if self._differing <= _MOST_NAMED:
                    why = "the store has another text or other metadata under this id, which were kept"
                    self._tally.failures.append(Failure(chunk.id, why, error=False))
        return set(stored)

    def _shown(self, chunk: NewChunk) -> dict[str, Any]:
        heading = {"heading": chunk.heading} if chunk.heading else {}
        return {"source": self._source.uri, **heading, **chunk.metadata}

    def finish(self) -> Iterator[Change]:
        """Yield what is left, and the end of the source; report what was not taken."""
        yield from self._changes()
        if self._forgotten:
            pass
        elif self._is_foreign():
            self._settle_with_own()
        elif self._source.kind == "notes":
            yield ArrivedNotes(self._store.documents, self._arrival, ())  # it exists, also without a note
        else:
            yield FinishedSource(self._store.documents, self._arrival, self._state(), self._source.complete)
        self._report()

    def _settle_with_own(self) -> None:
        assert self._stored is not None
        ours, theirs = self._stored.state, self._source.state
        if self._stored.complete and all(ours.get(key) == theirs.get(key) for key in ("digest", "how")):
            self._tally.unchanged += self._arrival.chunks
        else:
            self._tally.skipped += max(0, self._arrival.chunks - 1)
            self._arrival.keep_own()

    def _state(self) -> dict[str, Any]:
        if self._source.state.get("secrets") and not self._keep_secrets:
            return {**self._source.state, "secrets": False}
        return self._source.state

    def _report(self) -> None:
        if self._skipped:
            self._arrival.tell(self._skipped, "of its commands were left out: they began with a space or were secrets")
        if self._kept_out:
            self._arrival.tell(self._kept_out, "of its parts were left out: they were forgotten here")
        if self._differing > _MOST_NAMED:
            self._arrival.tell(self._differing - _MOST_NAMED, "more ids have another text in the store, which was kept")


def _is_open(stored: StoredSource) -> bool:
    """Return whether an import may fill this source: nobody did, or one did that was not finished."""
    return not stored.complete and stored.state in ({}, {"importing": True})
