"""What an export holds, line by line, and the checks that each line passes before anything is done with it.

The first line is the header; then each source is followed by its chunks or its events, the distinct commands follow,
and a last line says that this is the end. Everything is in an order that depends on the content alone, so equal
stores have equal exports, however they came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from omnimemory.embedders.base import Vectors
from omnimemory.errors import SchemaError, SourceError
from omnimemory.records import Event
from omnimemory.transfer.fields import Fields
from omnimemory.transfer.lines import Line, damaged, read_lines

__all__ = [
    "FORMAT",
    "VERSION",
    "Content",
    "ExportedChunk",
    "ExportedCommand",
    "ExportedEvent",
    "ExportedSource",
    "Header",
    "open_export",
]

FORMAT = "omnimemory export"
VERSION = 1
KINDS = ("sources", "chunks", "events", "commands")


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: ``spaces`` is (fingerprint, dim) of each collection, ``models`` their names."""

    spaces: Mapping[str, tuple[str, int]]
    models: Mapping[str, str]
    counts: Mapping[str, int]
    vectors: bool

    @property
    def lines(self) -> int:
        """How many lines the whole export has."""
        return sum(self.counts.values()) + 2


@dataclass(frozen=True, slots=True)
class ExportedSource:
    """A file, a history, or the notes; what follows belongs to it."""

    kind: str
    uri: str
    state: dict[str, Any]
    complete: bool


@dataclass(frozen=True, slots=True)
class ExportedChunk:
    """A piece of a document, or a note."""

    id: str
    text: str
    start: int
    end: int
    heading: str
    metadata: dict[str, Any]
    vector: Vectors | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ExportedEvent:
    """One execution of a command; ``key`` is its identity in the catalog."""

    key: bytes
    position: int
    event: Event


@dataclass(frozen=True, slots=True)
class ExportedCommand:
    """A distinct command."""

    text: str
    vector: Vectors | None = field(default=None, compare=False)


Content = ExportedSource | ExportedChunk | ExportedEvent | ExportedCommand


def open_export(stream: IO[bytes], name: str) -> tuple[Header, Iterator[Content]]:
    """Read the header of an export; return it and an iterator over everything behind it, checked line by line.

    Raises :class:`SourceError` that names the line, there and while iterating, and :class:`SchemaError` for an
    export of a newer version.
    """
    lines = read_lines(stream, name)
    first = next(lines, None)
    if first is None:
        raise SourceError(f"{name} is empty: this is not an export. One is made with: omnimemory export FILE")
    header = _header(first, name)
    return header, _contents(lines, header, name)


def _header(line: Line, name: str) -> Header:
    found = line[1]
    if found.get("format") != FORMAT or type(found.get("version")) is not int:
        raise SourceError(f"{name}, line 1: this is not an export. One is made with: omnimemory export FILE")
    if found["version"] > VERSION:
        raise SchemaError(
            f"{name} was exported by a newer version of omnimemory (format {found['version']}, this one reads "
            f"{VERSION}). Nothing was imported. Upgrade with: pip install --upgrade omnimemory"
        )
    fields = Fields(line, name)
    spaces, models = {}, {}
    for kind, space in fields.get("spaces", dict).items():
        inner = Fields((1, space if isinstance(space, dict) else {}), name)
        spaces[kind] = (inner.text("fingerprint"), inner.whole("dim"))
        models[kind] = inner.text("model")
    counts = Fields((1, fields.get("counts", dict)), name)
    return Header(spaces, models, {kind: counts.whole(kind) for kind in KINDS}, fields.get("vectors", bool))


def _contents(lines: Iterator[Line], header: Header, name: str) -> Iterator[Content]:
    seen: Counter[str] = Counter()
    last, owned = 1, False
    for line in lines:
        last = line[0]
        if line[1].get("end") is True:
            _check_end(lines, line, header, seen, name)
            return
        content, kind = _content(line, header, name)
        seen[kind] += 1
        if isinstance(content, ExportedChunk | ExportedEvent) and not owned:
            damaged(name, last, "it belongs to no source")
        owned = (owned or isinstance(content, ExportedSource)) and not isinstance(content, ExportedCommand)
        yield content
    damaged(name, last, f"the file was cut off behind it, it should have {header.lines:,} lines")


def _check_end(lines: Iterator[Line], line: Line, header: Header, seen: Counter[str], name: str) -> None:
    if dict(seen) != {kind: count for kind, count in header.counts.items() if count}:
        damaged(name, line[0], f"the header promised {dict(header.counts)}, there were {dict(seen)}")
    for number, _ in lines:
        damaged(name, number, "the export ended before it")


def _content(line: Line, header: Header, name: str) -> tuple[Content, str]:
    fields = Fields(line, name)
    if "kind" in line[1]:
        return _source(fields), "sources"
    if "chunk" in line[1]:
        return _chunk(fields, header), "chunks"
    if "event" in line[1]:
        return _event(fields), "events"
    if "command" in line[1]:
        return ExportedCommand(fields.name("command"), fields.vector(_dim(header, "commands"))), "commands"
    return damaged(name, line[0], "it is of no known kind")


def _source(fields: Fields) -> ExportedSource:
    kind, state = fields.name("kind"), Fields((fields.number_of_line, fields.get("state", dict)), fields.origin)
    # What the next ingest will read there must be what it expects.
    for name in ("chunks", "base", "commands"):
        if name in state.found or (name == "chunks" and "digest" in state.found):
            state.whole(name)
    state.optional("root", str)
    if state.found.get("open") is not None:
        state.key("open")
    return ExportedSource(kind, fields.name("source"), state.found, fields.get("complete", bool))


def _chunk(fields: Fields, header: Header) -> ExportedChunk:
    return ExportedChunk(
        fields.name("chunk"),
        fields.text("text"),
        fields.whole("start"),
        fields.whole("end"),
        fields.text("heading"),
        fields.get("metadata", dict),
        fields.vector(_dim(header, "documents")),
    )


def _event(fields: Fields) -> ExportedEvent:
    event = Event(
        fields.name("command"),
        timestamp=fields.number("timestamp"),
        cwd=fields.optional("cwd", str),
        exit_code=fields.optional("exit_code", int),
        duration=fields.number("duration"),
        session=fields.optional("session", str),
        host=fields.optional("host", str),
        shell=fields.optional("shell", str),
    )
    return ExportedEvent(fields.key("event"), fields.whole("position"), event)


def _dim(header: Header, collection: str) -> int:
    return header.spaces[collection][1] if collection in header.spaces else 0
