"""What the tests of faults share: a corpus, stores made from it, the process in which faults happen, and dumps."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from store_cases import ROOT, SEARCHED

from omnimemory.storage.migration import migrations_directory

SUBJECTS = ("deploy", "harbour", "git rebase", "backup", "lighthouse", "storm", "database", "pipeline")
LONG_AGO = 1_600_000_000.5


def make_corpus(folder, files=8):
    """Make a folder of documents and a history, all last changed long ago, so that every reading says the same."""
    docs = folder / "docs"
    docs.mkdir(parents=True)
    for number in range(files):
        parts = [
            f"## Part {part}\n\n" + f"About {SUBJECTS[(number + part) % 8]} number {number}, part {part}. " * 40
            for part in range(3)
        ]
        (docs / f"file-{number}.md").write_text(f"# File {number}\n\n" + "\n\n".join(parts))
    lines = [f"#{1_700_000_000 + 60 * n}\ngit {SUBJECTS[n % 8].split()[0]} --number {n % 13}" for n in range(40)]
    (folder / "history").write_text("\n".join(lines) + "\n")
    for path in (*docs.iterdir(), folder / "history"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


@dataclass
class Outcome:
    """How an operation ended: its exit code (-9: it was killed), its value, or its error, or its bug."""

    code: int
    value: object = None
    error: tuple = ()
    bug: str = ""
    fired: bool = True

    def __post_init__(self):
        assert not self.bug, self.bug


class FaultProcess:
    """The process of ``fault_child.py``; ``arguments`` are given to each operation."""

    def __init__(self, home, corpus, **arguments):
        self.corpus = corpus
        self.arguments = arguments
        own = {
            "HOME": str(home),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.environment = {**os.environ, **own}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(ROOT / "tests" / "fault_child.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=home,
            env=self.environment,
        )
        assert self._process.stdout.readline() == "ready\n"

    def start(self, operation, place, faults="", **arguments):
        """Start an operation; return the process id of the child that does it."""
        request = {"operation": operation, "place": str(place), "corpus": str(self.corpus), "faults": faults}
        self._process.stdin.write(json.dumps({**request, "arguments": {**self.arguments, **arguments}}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def outcome(self):
        """Wait for the operation that was started last."""
        code, text = json.loads(self._process.stdout.readline())
        if code:
            assert code < 0, f"the child ended with code {code}"
            return Outcome(code)
        said = json.loads(text)
        return Outcome(code, said.get("value"), tuple(said.get("error", ())), said.get("bug", ""), said["fired"])

    def run(self, operation, place, faults="", **arguments):
        self.start(operation, place, faults, **arguments)
        return self.outcome()

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def copy_of(template, place):
    """Return ``place``, made a copy of a folder with store and cache."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place)
    return place


def dump(place):
    """Return everything that a store remembers, row by row, without what only numbers it."""
    # A file on a full disk is read as well: nothing is made beside it.
    path = f"{(place / 'store' / 'catalog.sqlite3').as_uri()}?vfs=unix-excl"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert sql.execute("PRAGMA foreign_key_check").fetchall() == []
        sources = [
            ("source", uri, kind, complete, _state(kind, state))
            for uri, kind, complete, state in sql.execute("SELECT uri, kind, complete, state FROM sources")
        ]
        chunks = sql.execute(
            "SELECT 'chunk', c.chunk_id, s.uri, c.start_char, c.end_char, c.text, c.heading, c.metadata, c.pending, "
            f"c.unembeddable, {_vector('documents')} FROM chunks c JOIN sources s ON s.id = c.source_id"
        ).fetchall()
        commands = sql.execute(
            f"SELECT 'command', c.text, c.command_id, c.pending, c.unembeddable, {_vector('commands')} FROM commands c"
        ).fetchall()
        events = sql.execute(
            "SELECT 'event', hex(e.key), c.text, s.uri, e.position, e.timestamp, e.cwd, e.exit_code, e.shell "
            "FROM events e JOIN commands c ON c.id = e.command_row JOIN sources s ON s.id = e.source_id"
        ).fetchall()
        words = [
            ("word", *row)
            for table, name in (("chunks", "chunk_id"), ("commands", "text"))
            for row in _words(sql, table, name)
        ]
        vectors = sql.execute(f"SELECT count(*) FROM vectors {SEARCHED}").fetchone()
    assert len({row[1] for row in chunks}) == len(chunks)
    assert vectors[0] <= len(chunks) + len(commands), "vectors that belong to nothing"
    return sorted(map(repr, [*sources, *chunks, *commands, *events, *words]))


def _vector(collection):
    return (
        "(SELECT hex(v.vector) FROM vectors v JOIN collections k ON k.id = v.collection_id "
        f"WHERE k.name = '{collection}' AND v.item = c.id)"
    )


def _state(kind, state):
    found = json.loads(state)
    for key in ("digest", "settled") if kind == "history" else ():
        found.pop(key, None)  # its key is the store's own; and how lately the file had changed
    return json.dumps(found, sort_keys=True)


def _words(sql, table, name):
    sql.execute(f"CREATE VIRTUAL TABLE temp.{table}_words USING fts5vocab('main', '{table}_fts', 'instance')")
    return sql.execute(
        f"SELECT t.{name}, w.col, w.offset, w.term FROM {table}_words w LEFT JOIN {table} t ON t.id = w.doc"
    ).fetchall()


def neighbours(found):
    """Return what the exact searches among all found: the scores, and who is surely among the best.

    Equal scores come in the order in which rows were stored, which is not part of what a store remembers.
    """
    hits = [[tuple(hit) for hit in one] for one in found[2::3]]
    assert all(hits)
    return [([score for _, score in one], {public for public, score in one if score > one[-1][1]}) for one in hits]


def tell(capsys, text):
    """Show the figures of a long run while it runs."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}")
        sys.stdout.flush()


def strangers_in(store):
    """Return the files of a store that should not be there once nothing runs."""
    catalog = "catalog.sqlite3"
    known = [catalog, f"{catalog}-wal", f"{catalog}-shm", f"{catalog}.seal", "index.lock", "index"]
    known += ["backups.jsonl", f"{catalog}.migrating.lock", "backups.jsonl"]
    known += [f"{catalog}-journal"]  # emptied, of a migration that was killed
    return sorted(path.name for path in store.iterdir() if path.name not in known and not path.name.endswith(".backup"))


LATER = """
from alembic import op

revision = "later"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("ALTER TABLE chunks ADD COLUMN language TEXT NOT NULL DEFAULT 'en'")
"""


def later_migrations(folder, head):
    """Return a folder of migrations with one more than this version has."""
    shutil.copytree(migrations_directory(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "later.py").write_text(LATER.format(head=head))
    return folder


@contextlib.contextmanager
def fault_process(home, corpus, **arguments):
    process = FaultProcess(home, corpus, **arguments)
    try:
        yield process
    finally:
        process.close()


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
