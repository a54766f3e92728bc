"""Whether a catalog's content is what was written: all of it, read once.

Three things together leave no byte that matters unproven: SQLite's ``integrity_check`` proves the form of every
page, and each index against its table; the checksums of the rows prove what lies in them (``checksums.py``); the
keyword index is proven by a checksum of its own, or compared with one that is made anew from the texts.
Reading 20,000 chunks of 1 kB with vectors of 256 numbers takes 0.3 s, making their keyword index anew 5 s.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from omnimemory.errors import CatalogDamagedError, StoreError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.checksums import chunk_checksum, event_checksum, source_checksum, text_checksum
from omnimemory.storage.commands import command_id
from omnimemory.storage.keyword import index_text
from omnimemory.storage.steps import wrong_steps
from omnimemory.storage.vectors import wrong_vectors

__all__ = [
    "KEYWORD_TABLES",
    "Problem",
    "as_stored",
    "content_problems",
    "digest_problems",
    "index_words",
    "keyword_digest",
    "keyword_problems",
    "structure_problems",
]

_BLOCK = 512
_MOST_COMPLAINTS = 20
_SHADOWS = {"data": "id, block", "idx": "segid, term, pgno", "docsize": "id, sz", "config": "k, v"}
_TOKENS = (
    "SELECT term, count(*), sum((doc * 1000003 + offset * 8191 + (col = 'text')) % 1000000007) "
    "FROM words GROUP BY term ORDER BY term"
)
_LENGTHS = "SELECT id, sz FROM {table}_docsize ORDER BY id"
_AVERAGES = "SELECT block FROM {table}_data WHERE id = 1 AND EXISTS (SELECT 1 FROM {table}_docsize)"
KEYWORD_TABLES = {
    "chunks_fts": ("heading, text", "SELECT id, heading, text FROM chunks ORDER BY id"),
    "commands_fts": ("text", "SELECT id, text FROM commands ORDER BY id"),
}
"""The keyword indexes: their columns, and the query for what they are made of."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written: which part of the catalog, what, and the rows if they are known."""

    part: str
    message: str
    rows: tuple[int, ...] = ()


def structure_problems(catalog: Catalog) -> Iterator[Problem]:
    """Yield what SQLite itself finds wrong with the file."""
    try:
        for (text,) in catalog.rows(f"PRAGMA integrity_check({_MOST_COMPLAINTS})"):
            if text != "ok":
                yield Problem("structure", " ".join(str(text).split()))
        orphans = len(catalog.rows("PRAGMA foreign_key_check"))
    except (StoreError, sqlite3.Error) as error:
        yield Problem("structure", str(error))
        return
    if orphans:
        yield Problem("references", f"{orphans} rows belong to something that is not there")


def content_problems(catalog: Catalog) -> Iterator[Problem]:
    """Yield what is not as it was written in the rows that hold texts, events, vectors and book-keeping."""
    checks: tuple[tuple[str, Callable[[Catalog], Iterable[int]]], ...] = (
        ("vectors", _wrong_vectors),
        ("chunks", _wrong_chunks),
        ("commands", _wrong_commands),
        ("events", _wrong_events),
        ("sources", _wrong_sources),
        ("steps", wrong_steps),
        ("meta", _wrong_meta),
        ("counters", _wrong_counters),
    )
    for part, check in checks:
        try:
            rows = tuple(check(catalog))
        except (StoreError, sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            yield Problem(part, f"the {part} cannot be read: {error}")
        else:
            if rows:
                yield Problem(part, f"{len(rows)} of the {part} {'is' if len(rows) == 1 else 'are'} damaged", rows)


def _wrong_vectors(catalog: Catalog) -> Iterator[int]:
    dims = {collection.id: collection.dim for collection in catalog.collections(every=True)}
    query = "SELECT row, collection_id, item, vector, checksum FROM vectors NOT INDEXED ORDER BY row"
    for block in catalog.blocks(query, (), _BLOCK):
        owned: dict[int, list[tuple[int, int, bytes, int | None]]] = defaultdict(list)
        for row, owner, *rest in block:
            owned[owner].append((row, *rest))
        for owner, some in owned.items():
            rows, items, blobs, checksums = zip(*some, strict=True)
            yield from (rows[place] for place in wrong_vectors(dims.get(owner, 1), items, blobs, checksums)[1])


def _wrong_chunks(catalog: Catalog) -> Iterator[int]:
    columns = "chunk_id, start_char, end_char, heading, metadata, text, source_id"
    query = f"SELECT id, checksum, {columns} FROM chunks NOT INDEXED"
    for row, check, *content in _each(catalog, query):
        if check not in (None, chunk_checksum(*content)):
            yield row


def _wrong_commands(catalog: Catalog) -> Iterator[int]:
    query = "SELECT id, command_id, text FROM commands NOT INDEXED"
    return (row for row, public, text in _each(catalog, query) if command_id(str(text)) != public)


def _wrong_events(catalog: Catalog) -> Iterator[int]:
    columns = "timestamp, cwd, exit_code, duration, session, host, shell, key, command_row, source_id, position"
    for row, check, *content in _each(catalog, f"SELECT id, checksum, {columns} FROM events NOT INDEXED"):
        if check not in (None, event_checksum(*content)):
            yield row


def _wrong_sources(catalog: Catalog) -> Iterator[int]:
    for row, check, *content in _each(catalog, "SELECT id, checksum, state, uri, kind FROM sources NOT INDEXED"):
        if check not in (None, source_checksum(*content)) or not _is_json(content[0]):
            yield row


def _wrong_meta(catalog: Catalog) -> Iterator[int]:
    check = catalog.meta("key_checksum")
    if check and check != str(text_checksum(catalog.meta("key"))):
        yield 1


def _wrong_counters(catalog: Catalog) -> Iterator[int]:
    """Yield the generations whose book-keeping tells of vectors that never were."""
    for (generation,) in catalog.rows(
        "SELECT DISTINCT generation_id FROM drained WHERE row < 0 OR tombstones < 0 OR row > "
        "max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'vectors'), 0), "
        "coalesce((SELECT max(row) FROM vectors), 0))"
    ):
        yield int(generation)


def _each(catalog: Catalog, query: str) -> Iterator[Any]:
    with catalog.snapshot() as sql:
        sql.text_factory = as_stored
        yield from sql.execute(query)


def as_stored(data: bytes) -> str:
    """Return a text of the catalog, also one that is no UTF-8 any more; it can be encoded back to the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError):
        return False


def keyword_digest(catalog: Catalog) -> int:
    """Return a checksum of everything the keyword indexes consist of."""
    digest = 0
    for table, (shadow, columns) in itertools.product(KEYWORD_TABLES, _SHADOWS.items()):
        for row in _each(catalog, f"SELECT {columns} FROM {table}_{shadow} ORDER BY 1, 2"):
            digest = zlib.crc32(b"\0".join(_bytes(value) for value in row), digest)
    return digest


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def digest_problems(catalog: Catalog, digest: int) -> Iterator[Problem]:
    """Yield a problem unless the keyword indexes have this checksum."""
    try:
        if keyword_digest(catalog) != digest:
            yield Problem("keywords", "the keyword index is not what was written")
    except CatalogDamagedError as error:
        yield Problem("keywords", f"the keyword index is damaged ({error})")


def keyword_problems(catalog: Catalog) -> Iterator[Problem]:
    """Yield the keyword indexes that do not hold exactly the words of the texts."""
    for table in KEYWORD_TABLES:
        try:
            _walk(catalog, table)
            if _differs(catalog, table):
                yield Problem("keywords", f"{table} does not hold the words of the texts")
        except (CatalogDamagedError, sqlite3.DatabaseError) as error:
            yield Problem("keywords", f"{table} is damaged ({error})")


def _walk(catalog: Catalog, table: str) -> None:
    """Let FTS5 prove its tree of words, through which the comparison does not walk."""
    try:
        catalog.rows(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")
    except CatalogDamagedError:
        raise
    except StoreError:
        return  # it is asked with an INSERT, and the catalog cannot be written now


def _differs(catalog: Catalog, table: str) -> bool:
    columns, query = KEYWORD_TABLES[table]
    definition = catalog.value("SELECT sql FROM sqlite_master WHERE name = ?", (table,))
    with catalog.snapshot() as stored, closing(sqlite3.connect("", isolation_level=None)) as made:
        made.execute(definition)
        made.execute("BEGIN")
        marks = ", ".join("?" * (columns.count(",") + 2))
        stored.text_factory = as_stored
        texts = ((row, *map(index_words, content)) for row, *content in stored.execute(query))
        made.executemany(f"INSERT INTO {table} (rowid, {columns}) VALUES ({marks})", texts)
        for connection in (stored, made):
            connection.execute(f"CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, {table}, instance)")
        questions = (_LENGTHS.format(table=table), _AVERAGES.format(table=table), _TOKENS)
        return not all(_same(stored.execute(question), made.execute(question)) for question in questions)


def index_words(text: Any) -> str:
    """Return what is indexed of a text, also of one that is no UTF-8 any more; nothing of what is no text any more."""
    return index_text(text.encode("utf-8", "replace").decode("utf-8")) if isinstance(text, str) else ""


def _same(ours: Iterable[Any], theirs: Iterable[Any]) -> bool:
    return all(one == other for one, other in itertools.zip_longest(ours, theirs))
