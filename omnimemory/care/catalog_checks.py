"""What the doctor looks at in the catalog."""

from __future__ import annotations

from collections.abc import Iterator

from omnimemory.care.findings import ERROR, NOTICE, WARNING, Finding
from omnimemory.care.subject import Subject
from omnimemory.errors import OmniMemoryError, SchemaError
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.consistency import ITEM_TABLES, missing_vectors, orphan_vectors, waiting_texts
from omnimemory.storage.custody import LostLogError
from omnimemory.storage.spaces import FORMER, NEXT, space
from omnimemory.storage.tombstones import purges
from omnimemory.storage.verification import content_problems, keyword_problems, structure_problems
from omnimemory.wiring import embedding_service

__all__ = ["RESTORE", "content", "keywords", "model", "presence", "purging", "schema", "structure", "vectors"]

REPAIR = "omnimemory repair"
RESTORE = (
    "restore a backup (made with `omnimemory backup`) in its place; `omnimemory export` writes what can still be read"
)
_MENDED = ("vectors", "counters", "sources")  # parts of which there is a copy, or which the next ingest makes again


def presence(subject: Subject) -> Iterator[Finding]:
    """Say whether there is a store, and whether its file is the one that was left."""
    if not subject.exists:
        yield Finding("store", NOTICE, f"There is no memory at {subject.path} yet.", "omnimemory ingest PATH")
    elif not subject.file.exists():
        yield Finding("store", ERROR, str(subject.refusal), RESTORE)
    elif subject.seal is None:
        yield Finding("store", NOTICE, f"{subject.file.name} had no seal: its content was read, and it gets a new one.")
    elif not subject.fits and subject.refusal is None:
        yield Finding(
            "store",
            NOTICE,
            f"{subject.file.name} is not in the state that was written down: it was copied, restored, changed from "
            "outside, or its last user was killed. All of its content was read.",
        )


def schema(subject: Subject) -> Iterator[Finding]:
    """Say whether this version can work with the catalog."""
    if not isinstance(subject.refusal, SchemaError):
        return
    revision, message = subject.revision or "", str(subject.refusal)
    if revision == HEAD or not revision:
        yield Finding("schema", ERROR, message, f"{REPAIR}; else {RESTORE}")
    elif revision < HEAD:
        yield Finding("schema", NOTICE, message, "the next command that uses it migrates it and keeps a backup")
    else:
        fix = "pip install --upgrade omnimemory"
        yield Finding("schema", ERROR, message, fix if subject.fits else f"{fix}; or, if it is damaged, {RESTORE}")


def structure(subject: Subject) -> Iterator[Finding]:
    """Let SQLite look at every page, index and reference, and tell what was lost of the log."""
    if subject.catalog is None:
        if subject.file.exists() and not isinstance(subject.refusal, SchemaError):
            yield Finding("structure", ERROR, str(subject.refusal), f"{REPAIR}; else {RESTORE}")
        return
    for problem in structure_problems(subject.catalog):
        yield Finding("structure", ERROR, f"{subject.file.name}: {problem.message}", f"{REPAIR}; else {RESTORE}")
    if isinstance(subject.refusal, LostLogError):
        fix = f"{RESTORE}; or `{REPAIR} --discard` goes on with what is left, and the next ingest reads files again"
        yield Finding("structure", ERROR, str(subject.refusal), fix)


def content(subject: Subject) -> Iterator[Finding]:
    """Compare every row with its checksum."""
    if subject.catalog is not None:
        for problem in content_problems(subject.catalog):
            fix = REPAIR if problem.part in _MENDED else f"{REPAIR}, which may find a copy; else {RESTORE}"
            rows = f" (rows {', '.join(map(str, problem.rows[:5]))}{', ...' * (len(problem.rows) > 5)})"
            yield Finding("content", ERROR, f"{problem.message}{rows * bool(problem.rows)}", fix)


def keywords(subject: Subject) -> Iterator[Finding]:
    """Compare the keyword indexes with the texts they were made of."""
    if subject.catalog is not None:
        for problem in keyword_problems(subject.catalog):
            yield Finding("keywords", ERROR, problem.message, REPAIR)


def vectors(subject: Subject) -> Iterator[Finding]:
    """Count items without vectors and vectors without items."""
    catalog = subject.catalog
    if catalog is None:
        return
    for collection in catalog.collections():
        if collection.name in ITEM_TABLES:
            missing = len(missing_vectors(catalog, collection))
            if missing:
                yield Finding("vectors", WARNING, f"{missing:,} {collection.name} have no vector.", REPAIR)
            orphans = len(orphan_vectors(catalog, collection))
            if orphans:
                message = f"{orphans:,} vectors of {collection.name} belong to nothing."
                yield Finding("vectors", WARNING, message, REPAIR)
    waiting = waiting_texts(catalog)
    if waiting:
        message = f"{waiting:,} texts wait for their vectors; keyword search finds them already."
        yield Finding("vectors", NOTICE, message, "the next ingest embeds them")


def model(subject: Subject) -> Iterator[Finding]:
    """Compare the space of the vectors with the model that the settings name."""
    catalog = subject.catalog
    if catalog is None:
        return
    searched = (collection for collection in catalog.collections() if collection.name in ITEM_TABLES)
    stored = {collection.fingerprint: collection.model for collection in searched}
    if len(stored) > 1:
        message = f"The collections hold vectors of different models: {', '.join(sorted(stored.values()))}."
        yield Finding("model", ERROR, message, RESTORE)
    yield from _other_spaces(catalog)
    if subject.store is not None or not stored:
        return  # an open store was compared when it was opened
    try:
        used = embedding_service(subject.settings, None).embedder
    except OmniMemoryError as error:
        yield Finding("model", ERROR, str(error), "omnimemory config show")
        return
    if used.fingerprint not in stored:
        message = f"The vectors are of {', '.join(sorted(stored.values()))}; the settings name {used.name}."
        yield Finding("model", ERROR, message, "set embedding.model and embedding.dim to what it was made with")


def _other_spaces(catalog: Catalog) -> Iterator[Finding]:
    """Say that a move to another model was begun, or waits to be confirmed."""
    for part, what, fix in (
        (NEXT, "A move to {} was begun and not ended.", "the same `omnimemory reembed` again goes on"),
        (FORMER, "The vectors of {} are kept until the move is confirmed.", "omnimemory reembed --confirm, or --undo"),
    ):
        models = {collection.model for collection in space(catalog, part).values()}
        if models:
            yield Finding("model", NOTICE, what.format(", ".join(models)), fix)


def purging(subject: Subject) -> Iterator[Finding]:
    """Say whether bytes of what was forgotten may still be in a file."""
    if subject.catalog is not None:
        waiting = {f"{purge.place} {purge.detail}".strip() for purge in purges(subject.catalog)}
        if waiting:
            message = f"What was forgotten may still be in: {', '.join(sorted(waiting))}."
            yield Finding("purges", WARNING, message, "omnimemory forget --finish")
