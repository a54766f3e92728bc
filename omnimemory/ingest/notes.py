"""Notes added by hand: texts with ids and metadata, each kept as one chunk."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnimemory.errors import ConfigError
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.documents import DocumentTable, NewChunk
from omnimemory.storage.items import ItemTable
from omnimemory.storage.store import Store

__all__ = ["clean_metadata", "derived_id", "note_changes"]

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
        """See :class:`~omnimemory.ingest.tally.Change`."""
        return [note.text for note in self.notes]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.documents.ensure_source(sql, SOURCE, "notes")
        rows = self.documents.rows_of([note.id for note in self.notes])
        _refuse_foreign(sql, source, rows)
        self.documents.delete(sql, list(rows.values()))
        return self.documents.add(sql, source, self.notes, pending=pending)


def _refuse_foreign(sql: sqlite3.Connection, source: int, rows: Mapping[str, int]) -> None:
    """Raise :class:`ConfigError` if a note would take the id of a file's chunk, which the file would miss."""
    for name, row in rows.items():
        owner, uri = sql.execute(
            "SELECT s.id, s.uri FROM chunks c JOIN sources s ON s.id = c.source_id WHERE c.id = ?", (row,)
        ).fetchone()
        if owner != source:
            raise ConfigError(f"The id {name!r} belongs to a part of {uri}. Give the note another id, or none.")


def note_changes(
    store: Store,
    redactor: Redactor,
    texts: str | Sequence[str],
    ids: str | Sequence[str] | None,
    metadatas: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
) -> tuple[Iterator[Notes], list[str]]:
    """Return the changes that store these notes, and the notes' ids.

    Raises :class:`ConfigError` when the lists do not fit together or hold what cannot be stored.
    """
    if not isinstance(texts, Iterable):
        raise ConfigError(f"A note is a text or a list of texts, got {type(texts).__name__}.")
    given = [texts] if isinstance(texts, str) else list(texts)
    names = [ids] if isinstance(ids, str) else ids
    extras = [metadatas] if isinstance(metadatas, Mapping) else metadatas
    for what, values in (("ids", names), ("metadatas", extras)):
        if values is not None and len(values) != len(given):
            raise ConfigError(f"{len(given)} texts came with {len(values)} {what}: give one for each text.")
    # Of two texts with one id in a call the later one counts, as if they had come in two calls.
    notes: dict[str, NewChunk] = {}
    public = []
    for number, text in enumerate(given):
        metadata = {} if extras is None else extras[number]
        note = _note(redactor, number, text, None if names is None else names[number], metadata)
        notes[note.id] = note
        public.append(note.id)
    return _changes(store, list(notes.values())), public


def _note(redactor: Redactor, number: int, text: Any, name: Any, metadata: Mapping[str, Any]) -> NewChunk:
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"Text {number} is empty or no text: there is nothing to remember.")
    clean = redactor.document(_well_formed(text)).text
    kept = {key: _redacted(value, redactor) for key, value in clean_metadata(metadata).items()}
    if name is None:
        name = derived_id(clean, kept)
    if not isinstance(name, str) or not name.strip() or name != _well_formed(name):
        raise ConfigError(f"The id of text {number} is {name!r}: an id is a text that is not empty.")
    return NewChunk(name, clean, 0, len(clean), "", kept)


def _redacted(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, list):
        return [_redacted(member, redactor) for member in value]
    return redactor.document(value).text if isinstance(value, str) else value


def _well_formed(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


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


def derived_id(text: str, metadata: Mapping[str, Any]) -> str:
    """Return the id of a note that was given none."""
    content = json.dumps([text, metadata], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(f"note\0{content}".encode(), digest_size=16).hexdigest()


def clean_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as the catalog can hold it.

    ``None`` and values that are not finite are left out, other types are written as JSON text, numbers beyond
    64 bits become floats. Raises :class:`ConfigError` for keys that are no text.
    """
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"Metadata is a dictionary, got {type(metadata).__name__}.")
    clean: dict[str, Any] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not key or key.startswith("chroma:") or key != _well_formed(key):
            raise ConfigError(f"Metadata keys are texts that do not start with 'chroma:', got {key!r}.")
        try:
            stored = _clean_value(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"The metadata value of {key!r} cannot be stored: {error}.") from error
        if stored is not None:
            clean[key] = stored
    return clean


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return _well_formed(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _clean_number(value)
    if hasattr(value, "tolist"):  # an array or a scalar of numpy
        return _clean_value(value.tolist())
    if isinstance(value, list | tuple) and len({type(member) for member in value}) == 1:
        members = [_clean_value(member) for member in value]
        if all(isinstance(member, str | int | float | bool) for member in members):
            return members
    return _well_formed(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))


def _clean_number(value: float) -> float | None:
    if isinstance(value, int):
        return value if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else _clean_number(float(value))
    return value if math.isfinite(value) else None
