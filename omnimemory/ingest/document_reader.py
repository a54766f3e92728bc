"""How a document becomes chunks: with which limits and settings, under which ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from omnimemory.records import Document
from omnimemory.sources.chunking import TokenCounter, chunk
from omnimemory.sources.documents import Limits
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.documents import NewChunk
from omnimemory.storage.tombstones import Tombstones

__all__ = ["DocumentReader", "chunk_id"]

READER_VERSION = 1
"""Raise it when chunks of the same file come out differently, so that files are read again."""


def chunk_id(uri: str, text: str, occurrence: int) -> str:
    """Return a chunk's public id: stable when its lines move, different for equal texts of one source."""
    return hashlib.blake2b(f"{uri}\0{occurrence}\0{text}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class DocumentReader:
    """How files become chunks: limits of the walk, the redactor, and the chunker's settings.

    ``own`` names folders that hold no documents, because they are the memory's own. ``forgotten`` is left out, unless
    ``restore`` asks for it.
    """

    limits: Limits
    redactor: Redactor
    count_tokens: TokenCounter
    size: int
    overlap: int
    own: tuple[str, ...] = ()
    forgotten: Tombstones = field(default_factory=lambda: Tombstones(b""), repr=False)
    restore: bool = False

    @property
    def signature(self) -> list[int | bool]:
        """What, besides its bytes, decides how a file is cut."""
        own = (self.redactor.deny, self.redactor.allow)
        # A digest: a rule of one's own may spell out the very secret.
        rules = [int.from_bytes(hashlib.blake2b(repr(own).encode(), digest_size=6).digest())] if any(own) else []
        return [READER_VERSION, self.size, self.overlap, self.redactor.enabled, *rules]

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
