"""What an export brings, with its secrets taken out once more: it may come from a version that knew fewer."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import replace
from typing import Any

from omnimemory.ingest.documents import chunk_id
from omnimemory.ingest.events import stamped_key
from omnimemory.ingest.notes import derived_id
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.documents import NewChunk
from omnimemory.transfer.contents import ExportedChunk, ExportedEvent, ExportedSource

__all__ = ["ChunkCleaner", "CommandCleaner"]

_REMEMBERED = 4096


class CommandCleaner:
    """Commands and events without secrets; ``redactor`` may be one that leaves everything as it is."""

    def __init__(self, redactor: Redactor, counts: Counter[str]) -> None:
        self._redactor = redactor
        self._counts = counts
        self._known: OrderedDict[str, str | None] = OrderedDict()

    def command(self, text: str, *, count: bool = False) -> str | None:
        """Return a command without its secrets, or ``None`` if it is to be left out."""
        if text in self._known and not count:
            return self._known[text]
        found = self._redactor.command(text)
        if count:
            self._counts.update(found.counts)
        clean = None if found.skip or not found.text.strip() else found.text
        self._known[text] = clean
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return clean

    def event(self, arrived: ExportedEvent, seen: Counter[tuple[float, str]]) -> ExportedEvent | None:
        """Return an event of a command without secrets, or ``None``.

        The identity of an event with a time depends on its command; ``seen`` counts those of one history that got
        a new one.
        """
        clean, event = self.command(arrived.event.command), arrived.event
        if clean is None or clean == event.command:
            return None if clean is None else arrived
        key = arrived.key
        if event.timestamp is not None:
            key = stamped_key(event.timestamp, clean, seen[event.timestamp, clean])
            seen[event.timestamp, clean] += 1
        return ExportedEvent(key, arrived.position, replace(event, command=clean))


class ChunkCleaner:
    """Chunks of one source without secrets."""

    def __init__(self, source: ExportedSource, redactor: Redactor, counts: Counter[str]) -> None:
        self._source = source
        self._redactor = redactor
        self._counts = counts
        self._seen: Counter[str] = Counter()

    def chunk(self, arrived: ExportedChunk) -> tuple[NewChunk, bool]:
        """Return the chunk, and whether something was taken out of it.

        Its id is derived from its text, so it gets another one then.
        """
        text, heading, metadata = (self._clean(part) for part in (arrived.text, arrived.heading, arrived.metadata))
        chunk = NewChunk(arrived.id, text, arrived.start, arrived.end, heading, metadata)
        if (text, heading, metadata) == (arrived.text, arrived.heading, arrived.metadata):
            return chunk, False
        if text != arrived.text:
            chunk = replace(chunk, id=self._new_id(arrived, text, metadata), end=arrived.start + len(text))
        return chunk, True

    def _new_id(self, arrived: ExportedChunk, text: str, metadata: dict[str, Any]) -> str:
        if self._source.kind == "notes":
            own = derived_id(arrived.text, arrived.metadata)
            return derived_id(text, metadata) if arrived.id == own else arrived.id
        self._seen[text] += 1
        return chunk_id(self._source.uri, text, self._seen[text] - 1)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._clean(member) for key, member in value.items()}
        if isinstance(value, list):
            return [self._clean(member) for member in value]
        if not isinstance(value, str):
            return value
        found = self._redactor.document(value)
        self._counts.update(found.counts)
        return found.text
