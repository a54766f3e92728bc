"""Notes added by hand: texts with ids and metadata, each kept as one chunk."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnimemory.errors import ConfigError
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.documents import DocumentTable, NewChunk
from omnimemory.storage.items import ItemTable
from omnimemory.storage.store import Store

__all__ = ["clean_metadata", "note_changes"]

SOURCE = "notes"
_PART = 512
_LARGEST_INTEGER = 2**63


@dataclass(slots=True)
class Notes:
    """Some notes to be stored, replacing those of the same id."""

    table: ItemTable
    documents: DocumentTable
    notes: Sequence[NewChunk]

    @property
    def texts(self) -> Sequence[str]:
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        return [note.text for note in self.notes]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.pipeline.Change`."""
        source = self.documents.ensure_source(sql, SOURCE, "notes")
        rows = self.documents.rows_of([note.id for note in self.notes])
        self.documents.delete(sql, list(rows.values()))
        return self.documents.add(sql, source, self.notes, pending=pending)


def note_changes(
    store: Store,
    redactor: Redactor,
    texts: str | Sequence[str],
    ids: Sequence[str] | None,
    metadatas: Sequence[Mapping[str, Any]] | None,
) -> tuple[Iterator[Notes], list[str]]:
    """Return the changes that store these notes, and the notes' ids.

    Raises :class:`ConfigError` when the lists do not fit together or hold what cannot be stored.
    """
    given = [texts] if isinstance(texts, str) else list(texts)
    for name, values in (("ids", ids), ("metadatas", metadatas)):
        if values is not None and len(values) != len(given):
            raise ConfigError(f"{len(given)} texts came with {len(values)} {name}: give one for each text.")
    notes: dict[str, NewChunk] = {}
    public = []
    for number, text in enumerate(given):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"Text {number} is empty: there is nothing to remember.")
        clean = redactor.document(text.encode("utf-8", "replace").decode("utf-8")).text
        metadata = clean_metadata(metadatas[number]) if metadatas is not None else {}
        name = ids[number] if ids is not None else _derived_id(clean, metadata)
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"The id of text {number} is {name!r}: an id is a text that is not empty.")
        public.append(name)
        # Of two texts with one id in a call the later one counts, as if they had come in two calls.
        notes[name] = NewChunk(name, clean, 0, len(clean), "", metadata)
    return _changes(store, list(notes.values())), public


def _changes(store: Store, notes: list[NewChunk]) -> Iterator[Notes]:
    for start in range(0, len(notes), _PART):
        part = notes[start : start + _PART]
        stored = _same(store, part)
        fresh = [note for note in part if note.id not in stored]
        if fresh:
            yield Notes(store.documents, store.documents, fresh)


def _same(store: Store, notes: Sequence[NewChunk]) -> set[str]:
    """Return the ids that are stored already with the same text and metadata."""
    items = store.documents.items(list(store.documents.rows_of([note.id for note in notes]).values()))
    by_id = {item.id: item for item in items.values()}
    return {
        note.id
        for note in notes
        if note.id in by_id
        and by_id[note.id].text == note.text
        and by_id[note.id].metadata == {key: value for key, value in note.metadata.items() if key != "source"}
        and by_id[note.id].source == str(note.metadata.get("source", SOURCE))
    }


def _derived_id(text: str, metadata: Mapping[str, Any]) -> str:
    content = json.dumps([text, metadata], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(f"note\0{content}".encode(), digest_size=16).hexdigest()


def clean_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as catalog and Chroma can both hold it.

    ``None`` and values that are not finite are left out, other types are written as JSON text, numbers beyond
    64 bits become floats. Raises :class:`ConfigError` for keys that are no text.
    """
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"Metadata is a dictionary, got {type(metadata).__name__}.")
    clean: dict[str, Any] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not key or key.startswith("chroma:"):
            raise ConfigError(f"Metadata keys are texts that do not start with 'chroma:', got {key!r}.")
        stored = _clean_value(value)
        if stored is not None:
            clean[key] = stored
    return clean


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _clean_number(value)
    if isinstance(value, list | tuple) and len({type(member) for member in value}) == 1:
        members = [_clean_value(member) for member in value]
        if all(isinstance(member, str | int | float | bool) for member in members):
            return members
    elif hasattr(value, "item") and not isinstance(value, dict):  # a numpy scalar
        return _clean_value(value.item())
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The metadata value {value!r:.80} cannot be stored: {error}.") from error


def _clean_number(value: float) -> float | None:
    if isinstance(value, int):
        return value if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else float(value)
    return value if math.isfinite(value) else None
