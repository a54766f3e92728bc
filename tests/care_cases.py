"""What the tests of doctor, repair and maintain share: a small memory, and ways to make it ill."""

import os
import sqlite3
import time
from contextlib import closing

from damage_cases import SUBJECTS, CountingEmbedder

from omnimemory.memory import Memory

EMBEDDER = CountingEmbedder(256)
OLD = time.time() - 86_400


def fill(settings, folder):
    """Make a memory of files, a history and notes; closed."""
    docs = folder / "docs"
    docs.mkdir()
    for name in SUBJECTS[:6]:
        (docs / f"{name}.md").write_text(f"# {name}\n\nAll about the {name} and what it needs.\n")
    lines = "".join(f": {1_700_000_000 + n}:0;git {SUBJECTS[n % 10]} --number {n}\n" for n in range(30))
    (folder / "history.zsh").write_text(lines)
    with memory_of(settings) as memory:
        memory.ingest(docs)
        memory.ingest_history(folder / "history.zsh", shell="zsh")
        memory.add([f"A note about {name}" for name in SUBJECTS])
    return settings


def memory_of(settings):
    return Memory(settings=settings, embedder=EMBEDDER)


def answers(settings):
    with memory_of(settings) as memory:
        return [
            [hit.to_dict() for hit in memory.search(f"what the {name} needs", k=5, mode=mode)]
            for name in SUBJECTS
            for mode in ("hybrid", "keyword")
        ]


def in_catalog(*statements):
    """Return a way to make a memory ill: SQL, run by somebody else."""

    def harm(settings):
        with closing(sqlite3.connect(settings.store.path / "catalog.sqlite3", isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return harm


def in_cache(statement):
    def harm(settings):
        with closing(sqlite3.connect(settings.cache.path / "cache.db", isolation_level=None)) as connection:
            connection.execute(statement)

    return harm


def value(settings, query):
    with closing(sqlite3.connect(settings.store.path / "catalog.sqlite3")) as connection:
        return connection.execute(query).fetchone()[0]


def garble_page(settings, name):
    """Overwrite the first page of a table or an index."""
    page = value(settings, f"SELECT rootpage FROM sqlite_master WHERE name = '{name}'")
    with (settings.store.path / "catalog.sqlite3").open("r+b") as file:
        file.seek((page - 1) * 8192)
        file.write(bytes(range(256)) * 32)


def flip_key(settings):
    """Flip a bit of the key of an event, behind the back of the trigger that notices updates."""
    with closing(sqlite3.connect(settings.store.path / "catalog.sqlite3", isolation_level=None)) as connection:
        (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'events_moved'").fetchone()
        (key,) = connection.execute("SELECT key FROM events WHERE id = 5").fetchone()
        connection.execute("DROP TRIGGER events_moved")
        connection.execute("UPDATE events SET key = ? WHERE id = 5", (key[:3] + bytes([key[3] ^ 8]) + key[4:],))
        connection.execute(trigger)


def make_old(path, content=b"left"):
    path.write_bytes(content)
    path.chmod(0o600)
    os.utime(path, (OLD, OLD))
    return path


FLIPPED_VECTOR = in_catalog(
    "UPDATE vectors SET vector = CAST(substr(vector, 1, 99) || x'ff' || substr(vector, 101) AS BLOB) WHERE row = 3"
)
_HARBOUR = "WHERE id = (SELECT min(id) FROM chunks WHERE text LIKE '%harbour%')"
ONE_BIT = in_catalog(f"UPDATE chunks SET text = replace(text, 'what it', 'what iv') {_HARBOUR}")
FLIPPED_TEXT = in_catalog(f"UPDATE chunks SET text = replace(text, 'harbour', 'barbour') {_HARBOUR}")
_TEXT_OF_COMMANDS = "UPDATE sqlite_master SET sql = replace(sql, '{}', '{}') WHERE name = 'commands'"
NO_TEXT = in_catalog(  # what a flipped byte in the header of a row may make of it
    "PRAGMA writable_schema = ON",
    _TEXT_OF_COMMANDS.format("text TEXT NOT NULL", "text TEXT"),
    "PRAGMA writable_schema = RESET",
    "UPDATE commands SET text = NULL WHERE id = 3",
    "PRAGMA writable_schema = ON",
    _TEXT_OF_COMMANDS.format("text TEXT", "text TEXT NOT NULL"),
    "PRAGMA writable_schema = RESET",
)
LOST_EVENT = in_catalog("UPDATE events SET shell = 'fish', exit_code = 77 WHERE id = 5")
LOST_WORDS = in_catalog("INSERT INTO commands_fts (commands_fts) VALUES ('delete-all')")
LOST_VECTORS = in_catalog("DELETE FROM vectors WHERE row IN (2, 20)")
ORPHAN = in_catalog(
    "INSERT INTO vectors (collection_id, item, vector) SELECT 1, 999, vector FROM vectors WHERE row = 1"
)
WRONG_COUNTER = in_catalog(
    "INSERT INTO generations (id, state) VALUES (7, 'active')", "INSERT INTO drained VALUES (7, 1, 4711, 0)"
)
DAMAGED_ROW = in_cache("UPDATE Cache SET value = zeroblob(length(value)) WHERE rowid = 4")


def broken_cache(settings):
    (settings.cache.path / "cache.db").write_bytes(b"SQLite format 3\0" + b"nonsense" * 999)


def opened_to_all(settings):
    settings.store.path.chmod(0o755)
    (settings.store.path / "catalog.sqlite3").chmod(0o644)
