"""What flows through the package: plain frozen data, no behaviour that needs a store.

``Document -> Chunk`` is the path of a file, ``Event`` that of one executed command;
``Hit`` and ``IngestReport`` are what a caller gets back. The JSON of the command line
uses the same field names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = [
    "Chunk",
    "Document",
    "Event",
    "Failure",
    "FoundHistory",
    "Heading",
    "Hit",
    "Hits",
    "IngestReport",
    "Metadata",
    "Progress",
]

Scalar = str | int | float | bool
Metadata = Mapping[str, Scalar | list[Scalar]]
"""Metadata of a record: flat, with the value types that Chroma accepts."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at ``start`` (characters into the document's text), ``level`` 1 is the outermost."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Document:
    """One file or note as text, before it is cut into chunks.

    ``text`` is what offsets point into: the decoded file for text, Markdown, reStructuredText and
    source code; the extracted text for HTML and notebooks.
    """

    uri: str
    text: str
    format: str = "text"
    headings: tuple[Heading, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: ``document.text[start:end] == text``, offsets in characters."""

    text: str
    start: int
    end: int
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One execution of a command, as a shell history tells it; ``None`` is "the history does not say".

    ``timestamp`` is in seconds since the epoch, ``duration`` in seconds.
    """

    command: str
    timestamp: float | None = None
    cwd: str | None = None
    exit_code: int | None = None
    duration: float | None = None
    session: str | None = None
    host: str | None = None
    shell: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was skipped or failed, and why. ``error`` is false for a harmless skip."""

    source: str
    reason: str
    error: bool = True


@dataclass(frozen=True, slots=True)
class FoundHistory:
    """A history that was found on this machine, and how many events it added."""

    shell: str
    source: str
    events: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did. Counts are of chunks (documents) or of commands (history).

    ``unchanged`` counts what was stored before, also in files that were not read again for that;
    ``embedded`` counts texts the model was asked for; ``cache_hits`` those it was spared.
    ``events`` counts history events added; ``pending`` rows committed but not embedded yet;
    ``failures`` names each file that failed or was skipped, ``failed`` counts the real failures;
    ``histories`` are those that were found, when all were asked for.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    skipped: int = 0
    sources: int = 0
    events: int = 0
    embedded: int = 0
    cache_hits: int = 0
    pending: int = 0
    redacted: int = 0
    redactions: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    degraded: str | None = None
    failures: tuple[Failure, ...] = ()
    histories: tuple[FoundHistory, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415 - only notebooks need it

        rows = [
            (name, value) for name, value in self.to_dict().items() if value and name not in ("failures", "histories")
        ]
        body = "".join(f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows)
        bad = "".join(f"<li>{html.escape(f.source)}: {html.escape(f.reason)}</li>" for f in self.failures)
        return f"<table>{body}</table>" + (f"<ul>{bad}</ul>" if bad else "")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long run is: ``done`` of ``total`` (``None`` when nobody knows yet) in one ``stage`` of it."""

    stage: str
    done: int
    total: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result.

    ``score`` is the cosine similarity of query and text in [-1, 1] (higher is better; ``None`` where
    only keywords could be compared), ``distance`` is ``1 - score``. ``ranks`` tells where each list
    placed it (1 is best), e.g. ``{"vector": 1, "keyword": 4}``; ``start`` and ``end`` are offsets in
    characters into the source's text.
    """

    id: str
    text: str
    kind: str
    score: float | None = None
    distance: float | None = None
    source: str | None = None
    start: int | None = None
    end: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    snippet: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as JSON-ready data."""
        return asdict(self)

    def replace(self, **changes: Any) -> Hit:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


class Hits(list[Hit]):
    """The hits of one search, best first: a list that a notebook shows as a table.

    ``degraded`` gives the reason when part of the search could not run (for example because the embedder is down and
    only keywords answered); ``fallback`` why all vectors were compared where the index should have answered: as good,
    but slower. ``explain`` holds which index answered, the weights and times in milliseconds if that was asked for.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        degraded: str | None = None,
        explain: dict[str, Any] | None = None,
        fallback: str | None = None,
    ) -> None:
        super().__init__(hits)
        self.degraded = degraded
        self.explain = explain
        self.fallback = fallback

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the hits as JSON-ready data."""
        return [hit.to_dict() for hit in self]

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415 - only notebooks need it

        head = "<tr><th>score</th><th>text</th><th>source</th></tr>"
        rows = "".join(
            f"<tr><td>{'' if h.score is None else f'{h.score:.3f}'}</td>"
            f"<td><pre>{html.escape(h.snippet or h.text)}</pre></td><td>{html.escape(h.source or '')}</td></tr>"
            for h in self
        )
        note = f"<p>degraded: {html.escape(self.degraded)}</p>" if self.degraded else ""
        return f"{note}<table>{head}{rows}</table>"
