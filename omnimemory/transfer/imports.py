"""Reading an export into a store, empty or not, as often as one likes: what is there already is not done again.

A regular file is read to its end and checked before the store is touched. A pipe can be read only once, so what comes
before a damaged line is stored; importing the sound file later completes it. Either way a line goes through the same
pipeline as an ingest, and only a batch of lines is held at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

from omnimemory.embedders.base import Vectors
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import SourceError
from omnimemory.ingest.commits import ForgottenMeanwhileError
from omnimemory.ingest.pipeline import embed_pending, run, run_batch
from omnimemory.ingest.tally import Change, Tally, ignore_progress
from omnimemory.records import Failure, Progress
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import Tombstones, forgets, read_tombstones
from omnimemory.transfer.arrivals import ArrivedCommands
from omnimemory.transfer.clean import CommandCleaner
from omnimemory.transfer.contents import Content, ExportedCommand, ExportedSource, Header, open_export
from omnimemory.transfer.given import GivenVectors
from omnimemory.transfer.reports import ImportReport
from omnimemory.transfer.source_import import SourceImport

__all__ = ["import_export"]

_MOST_CHANGES = 256
_TICK_LINES = 500
ProgressCallback = Callable[[Progress], None]


def import_export(
    store: Store,
    embeddings: EmbeddingService,
    origin: str | Path | IO[bytes],
    *,
    redactor: Redactor,
    progress: ProgressCallback | None = None,
) -> ImportReport:
    """See :meth:`omnimemory.memory.Memory.import_`."""
    show = progress or ignore_progress
    if not isinstance(origin, str | Path):
        return _import(store, embeddings, origin, "standard input", redactor, show)
    path = Path(origin).expanduser()
    with _opened(path) as stream:
        if stream.seekable():
            header, contents = open_export(stream, str(path))
            deque(_told(contents, header, "check", show), maxlen=0)
            stream.seek(0)
        return _import(store, embeddings, stream, str(path), redactor, show)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error}). Check the path.") from error


def _import(
    store: Store,
    embeddings: EmbeddingService,
    stream: IO[bytes],
    name: str,
    redactor: Redactor,
    progress: ProgressCallback,
) -> ImportReport:
    tally, given = Tally(forgets=forgets(store.catalog)), GivenVectors(embeddings)
    header, contents = open_export(stream, name)
    arriving = _Arriving(store, header, given, tally, read_tombstones(store.catalog), redactor)
    try:
        for batch in _batches(arriving.changes(_told(contents, header, "import", progress)), given.batch_size):
            run_batch(store, given, batch, tally)
            given.forget()
    except ForgottenMeanwhileError as error:
        tally.failures.append(Failure(name, str(error)))
    embed_pending(store, embeddings, tally)
    run(store, embeddings, (), tally, progress=progress)  # brings it into the index
    arriving.tell_of_vectors()
    report = tally.report()
    return ImportReport(**{part.name: getattr(report, part.name) for part in fields(report)}, reused=given.reused)


def _told(contents: Iterable[Content], header: Header, stage: str, progress: ProgressCallback) -> Iterator[Content]:
    """Pass everything on and tell now and then how far it is."""
    number = 1
    for number, content in enumerate(contents, 2):
        if number % _TICK_LINES == 0:
            progress(Progress(stage, number, header.lines))
        yield content
    progress(Progress(stage, number + 1, header.lines))


def _batches(changes: Iterable[Change | None], size: int) -> Iterator[list[Change]]:
    """Yield changes in batches of about ``size`` texts, and never many; ``None`` ends one."""
    batch: list[Change] = []
    for change in changes:
        batch += [] if change is None else [change]
        full = sum(len(one.texts) for one in batch) >= size or len(batch) >= _MOST_CHANGES
        if batch and (full or change is None):
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(slots=True)
class _Arriving:
    """Everything behind the header, turned into changes."""

    store: Store
    header: Header
    given: GivenVectors
    tally: Tally
    stones: Tombstones
    redactor: Redactor

    def changes(self, contents: Iterable[Content]) -> Iterator[Change | None]:
        """Yield what has to change so that the store holds all of it; ``None``: commit what came so far."""
        commands = CommandCleaner(self.redactor, self.tally.redactions)
        source: SourceImport | None = None
        waiting: dict[str, Vectors | None] = {}
        for content in contents:
            if isinstance(content, ExportedSource | ExportedCommand) and source is not None:
                yield from source.finish()
                source = None
                if isinstance(content, ExportedCommand):
                    yield None  # events bring the commands that get their vectors now
            if isinstance(content, ExportedSource):
                self.tally.sources += 1
                source = self._source(content, commands)
            elif isinstance(content, ExportedCommand):
                text = commands.command(content.text, count=True)
                if text is not None:
                    waiting[text] = content.vector if text == content.text else None
                if len(waiting) >= self.given.batch_size:
                    yield from self._commands(waiting)
                    waiting = {}
            else:
                assert source is not None
                yield from source.take(content)
        if source is not None:
            yield from source.finish()
        yield from self._commands(waiting)

    def _source(self, content: ExportedSource, commands: CommandCleaner) -> SourceImport:
        give = self.given.give if self._fits("documents") else None
        return SourceImport(
            self.store, content, commands, self.tally, self.stones, give, self.given.batch_size, self.redactor
        )

    def _commands(self, waiting: Mapping[str, Vectors | None]) -> Iterator[ArrivedCommands]:
        """Yield the change that gives those of these commands a vector that wait for one."""
        table, catalog = self.store.commands, self.store.catalog
        rows = table.known(list(waiting))
        marks = ",".join("?" * len(rows))
        query = f"SELECT id FROM commands WHERE pending AND id IN ({marks})"  # noqa: S608 - question marks
        pending = {row for (row,) in catalog.rows(query, list(rows.values()))}
        self.tally.unchanged += len(rows) - len(pending)
        fresh = [text for text, row in rows.items() if row in pending]
        for text in fresh:
            if self._fits("commands"):
                self.given.give(text, waiting[text])
        if fresh:
            yield ArrivedCommands(table, fresh)

    def _fits(self, kind: str) -> bool:
        """Return whether the vectors of the export are of the space that the store's collection has."""
        collection = self.store.tables[kind].collection
        return self.header.spaces.get(kind) == (collection.fingerprint, collection.dim)

    def tell_of_vectors(self) -> None:
        """Report why vectors that the export holds were not used."""
        if not self.header.vectors:
            return
        strange = [kind for kind in self.store.tables if not self._fits(kind)]
        why = ""
        if strange:
            models = ", ".join(sorted({self.header.models.get(kind, "?") for kind in strange}))
            why = f"the vectors in the export are of another model ({models}); the texts were embedded anew"
        elif self.given.refused:
            why = "the vectors in the export are not what the model makes of the texts; the texts were embedded anew"
        if why:
            self.tally.failures.append(Failure("vectors", why, error=False))
