"""The process in which faults happen: it imports everything once, then forks a child for each operation.

Started by :mod:`fault_cases`. It reads a request a line, tells the child's process id, and when that has ended
its exit code (negative: the signal that killed it) and what it said. A child that is killed is a real process
that dies; only its start is cheaper than that of a new Python.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import alembic.command
import chromadb_rust_bindings
import numpy as np
import sqlalchemy
from store_cases import excused

import omnimemory.ingest.history_runs
import omnimemory.ingest.runs
import omnimemory.memory
import omnimemory.storage.migration
import omnimemory.wiring
from omnimemory import faults
from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import OmniMemoryError
from omnimemory.memory import Memory
from omnimemory.storage import index_writer
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.drain import item_tables
from omnimemory.storage.generations import Generations
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.manifest import is_clean

SECONDS = 100
QUESTIONS = ("how do we deploy?", "storm at sea", "git rebase", "lighthouse keeper", "backup")
PRELOADED = (
    alembic.command,
    chromadb_rust_bindings,
    sqlalchemy,
    omnimemory.ingest.history_runs,
    omnimemory.ingest.runs,
    omnimemory.storage.migration,
)


@dataclass
class Case:
    """Where an operation works: ``place`` holds store and cache, ``corpus`` what it reads."""

    place: Path
    corpus: Path
    arguments: dict

    def memory(self, **values) -> Memory:
        folders = {"store.path": self.place / "store", "cache.path": self.place / "cache"}
        small = {"embedding.batch_size": 8, "index.batch_size": 25, "index.enabled": False}
        settings = Settings().with_values({**folders, **small, **self.arguments.get("settings", {}), **values})
        options = omnimemory.wiring.store_options(settings)
        drained = replace(options.drain, sync_rows=self.arguments.get("sync_rows", options.drain.sync_rows))
        omnimemory.memory.store_options = lambda _: replace(options, drain=drained)  # no setting for users
        return Memory(settings=settings)


def ingest(case: Case):
    with case.memory() as memory:
        return read_all(case, memory)


def read_all(case: Case, memory: Memory):
    reports = [memory.ingest(case.corpus / "docs"), memory.ingest_history(case.corpus / "history", shell="bash")]
    names = [f"note-{number}" for number in range(10)]
    memory.add([f"Note {name} about knots and sails" for name in names], ids=names)
    return {"failed": sum(report.failed for report in reports), "degraded": [report.degraded for report in reports]}


def fill(case: Case):
    """Begin a store with many notes that no other operation touches."""
    rows = case.arguments["rows"]
    with case.memory(**{"embedding.batch_size": 512}) as memory:
        for start in range(0, rows, 5000):
            names = [f"old-{number}" for number in range(start, min(rows, start + 5000))]
            memory.add([f"{name} of {QUESTIONS[n % 5]}, number {n * 7919}" for n, name in enumerate(names)], ids=names)


def search(case: Case):
    """Ask in every way there is, of a store that is read only by this."""
    with case.memory() as memory:
        asked = [{"mode": "hybrid"}, {"mode": "keyword"}, {"mode": "vector", "where": {"format": {"$ne": "none"}}}]
        hits = [memory.search(text, k=8, **how) for text in QUESTIONS for how in asked]
        return [[(hit.id, hit.score) for hit in found] for found in hits]


def index(case: Case):
    """Drain in this process, however much it is: first what is there, then deletions, then what an ingest brings."""
    index_writer._CHILD_ROWS = sys.maxsize  # this process does nothing else, and dies
    with case.memory(**{"index.enabled": True}) as memory:
        said = [memory.warm()]
        if said[0]:
            return said
        with memory.store.catalog.transaction() as sql:
            memory.store.documents.delete(sql, list(memory.store.documents.rows_of(["note-3"]).values()))
        said.append(memory.store.drain())
        read_all(case, memory)
        said.append(memory.store.drain())
        return said


def drain(case: Case):
    """Drain in a child process of this one."""
    with case.memory(**{"index.enabled": True}) as memory:
        return memory.store.drain()


def work(case: Case):
    """Add notes, read what is new in the corpus, drain, for each round; note after each step what is acknowledged."""
    log = os.open(case.place / "acknowledged", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    drains = case.arguments["drains"]
    with case.memory(**{"index.enabled": drains != "nobody", "embedding.batch_size": 64}) as memory:
        if drains == "this process":
            memory.warm()
        for number in case.arguments["rounds"]:
            for part in range(4):
                names = [f"round-{number}-{part}-{n}" for n in range(10)]
                memory.add([f"What {name} says about {QUESTIONS[part]}" for name in names], ids=names)
                os.write(log, f"{' '.join(names)}\n".encode())
            for report in (memory.ingest(case.corpus / "docs"), memory.ingest_history(case.corpus / "history")):
                assert not report.failed, report
            os.write(log, f"corpus-{number}\n".encode())
        return memory.store.drain()


def look(case: Case):
    """Return how long opening and a first search take, in seconds, and the ids of all notes."""
    began = time.monotonic()
    with case.memory(**{"index.enabled": True}) as memory:
        memory.search("storm")
        opened = time.monotonic() - began
        notes = memory.store.catalog.rows("SELECT chunk_id FROM chunks WHERE chunk_id LIKE 'round-%'")
        return {"seconds": opened, "notes": [name for (name,) in notes]}


def reembed(case: Case):
    """Move to smaller vectors, and delete the old ones."""
    with case.memory(**{"embedding.model": "auto"}) as memory:
        report = memory.reembed("static", dim=64)
        memory.reembed(confirm=True)
        return report.pending


def rebuild(case: Case):
    with case.memory(**{"index.enabled": True}) as memory:
        return memory.store.rebuild()


def forget(case: Case):
    """Forget whatever speaks of storms, also in a backup; return what could not be purged."""
    with case.memory() as memory:
        if not (case.place / "backup").exists():
            memory.backup(case.place / "backup")
        return [problem.reason for problem in memory.forget(pattern="storm").unpurged]


def migrate(case: Case):
    path = case.place / "store" / "catalog.sqlite3"
    omnimemory.storage.migration.migrate(path, HEAD, "later", directory=Path(case.arguments["migrations"]))


def inspect(case: Case):
    """Return what the index holds that the catalog does not, and the other way round; nothing is well."""
    store = case.place / "store"
    catalog = Catalog(store / "catalog.sqlite3")
    generations = Generations(catalog)
    active = generations.active()
    if active is None:
        return {"no index": generations.waiting()}
    wrong = {"waiting": generations.waiting()} if generations.waiting() else {}
    if not is_clean(generations.directory(store, active)):
        wrong["the folder is not as a clean close leaves it"] = True
    opened = ChromaIndex(generations.directory(store, active))
    for table in item_tables(catalog):
        payload = table.payload(0, 1_000_000)
        wanted = dict(zip(payload.ids, payload.vectors, strict=True)) if payload else {}
        held = set(opened._collection(table.collection).get(include=[])["ids"])
        vectors = {}
        names = list(wanted)
        for start in range(0, len(names), 1000):
            vectors |= opened.vectors(table.collection, names[start : start + 1000])
        wanted = {public: wanted[public] for public in wanted.keys() - excused(catalog, active, table, held)}
        astray = [public for public in wanted if not np.allclose(vectors.get(public, 0), wanted[public], atol=1e-5)]
        wrong |= {
            name: sorted(ids)[:5]
            for name, ids in {
                f"{table.collection.name} lost": wanted.keys() - held,
                f"{table.collection.name} left over": held - wanted.keys(),
                f"{table.collection.name} wrong": set(astray),
            }.items()
            if ids
        }
    opened.close()
    catalog.close()
    return wrong


OPERATIONS = {
    operation.__name__: operation
    for operation in (fill, ingest, search, index, drain, work, look, reembed, rebuild, forget, migrate, inspect)
}
"""What can be asked for. An operation that writes must end in the same store however often it has failed before."""


def act(request: dict) -> dict:
    """Do one operation with its faults; return its value, or the error it ended in."""
    plan = faults.parse_plan(request["faults"])
    faults._PLAN = plan
    os.environ[faults.VARIABLE] = request["faults"]
    said: dict = {}
    try:
        case = Case(Path(request["place"]), Path(request["corpus"]), request["arguments"])
        said["value"] = OPERATIONS[request["operation"]](case)
    except OmniMemoryError as error:
        said["error"] = [type(error).__name__, str(error), error.exit_code]
    except BaseException:  # noqa: BLE001 - whatever it is, it is told
        said["bug"] = traceback.format_exc()
    said["fired"] = plan is not None and any(rule.reached >= rule.first for rule in plan.rules)
    return said


def fork(request: dict, answers: int) -> int:
    child = os.fork()
    if child:
        return child
    signal.alarm(request["arguments"].get("seconds", SECONDS))
    with os.fdopen(answers, "w") as out:
        json.dump(act(request), out)
    os._exit(0)


def say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    StaticEmbedder(256).embed(["warm"], "document")
    say("ready")
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = fork(json.loads(line), writer)
        os.close(writer)
        say(child)
        with os.fdopen(reader) as said:
            text = said.read()
        _, status = os.waitpid(child, 0)
        say(json.dumps([os.waitstatus_to_exitcode(status), text]))


if __name__ == "__main__":
    main()
