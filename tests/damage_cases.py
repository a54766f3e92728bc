"""What the tests of damage share: a memory with everything in it, ways to damage its files, and what it must answer."""

import os
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from store_cases import SEARCHED, start

from omnimemory.care.doctor import examine
from omnimemory.care.repair import repair
from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import OmniMemoryError
from omnimemory.memory import Memory
from omnimemory.storage.drain import DrainOptions
from omnimemory.storage.rebuild import rebuild
from omnimemory.storage.seal import look_at, read_seal, seal_file

SUBJECTS = ("deploy", "harbour", "rebase", "backup", "lighthouse", "storm", "database", "pipeline", "garden", "bread")
QUESTIONS = ("undo the last deploy", "storm in the harbour", "git rebase number 7", "bread and garden", "backup")
TRUTH = {
    "chunks": "*",
    "commands": "*",
    "events": "*",
    "spaces": "*",
    "sources": "id, uri, kind",  # what they remember only makes the next ingest cheap
    f"vectors {SEARCHED}": "collection_id, item, hex(vector), checksum",
}


class CountingEmbedder(StaticEmbedder):
    """The static model, loaded once for all tests; it counts what it is asked for."""

    def __init__(self, dim):
        super().__init__(dim)
        self.asked = 0

    def embed(self, texts, role):
        self.asked += len(texts)
        return super().embed(texts, role)

    def close(self):
        pass


EMBEDDER = CountingEmbedder(64)


def settings_of(folder, *, index=True):
    return Settings().with_values(
        {
            "store.path": folder / "store",
            "cache.path": folder / "cache",
            "embedding.dim": 64,
            "index.enabled": index,
            "search.exact_rows": 0,  # so few rows: the index shall answer all the same
        }
    )


def memory_of(folder, *, index=True):
    return Memory(settings=settings_of(folder, index=index), embedder=EMBEDDER)


def make_memory(folder, *, files=40, lines=120, index=True):
    """Make a memory of documents, a history and notes, with an index that Chroma has written to its files; closed."""
    docs = folder / "corpus" / "docs"
    docs.mkdir(parents=True)
    for number in range(files):
        text = f"The {SUBJECTS[number % 10]} number {number} meets the {SUBJECTS[(number * 7 + 3) % 10]}. "
        parts = "\n\n".join(f"{text}Part {part}." for part in range(4))
        (docs / f"file-{number}.md").write_text(f"# File {number}\n\n{parts}")
    events = (f": {1_700_000_000 + 60 * n}:{n % 5};git {SUBJECTS[n % 10]} --number {n % 37}\n" for n in range(lines))
    (folder / "corpus" / "history.zsh").write_text("".join(events))
    with memory_of(folder, index=index) as memory:
        memory.ingest(docs)
        memory.ingest_history(folder / "corpus" / "history.zsh", shell="zsh")
        memory.add([f"Note {n} about {SUBJECTS[n % 10]}" for n in range(200)], metadatas=[{"n": n} for n in range(200)])
        if index:  # most rows would wait in Chroma's log otherwise: they are to be in the files that can be damaged
            rebuild(memory.store.path, memory.store.catalog, DrainOptions(sync_rows=100))
    return folder


KILLED = """
import os, signal, sys
from pathlib import Path
from damage_cases import SUBJECTS, memory_of
memory = memory_of(Path(sys.argv[1]), index=sys.argv[2] == "True")
memory.warm()
for n in range(3):
    memory.add([f"Late note {n}.{m} about {SUBJECTS[m]}" for m in range(10)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def end_uncleanly(folder, *, index=True):
    """Let a process be killed that has just committed, and has the index open."""
    child = start(KILLED, folder, index)
    child.communicate(timeout=100)
    assert child.returncode == -9
    return folder


def copy_of(folder, place):
    """Copy a memory; its seal is that of the copy, as if it had been made there."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    catalog = place / "store" / "catalog.sqlite3"
    seal_file(catalog).write_bytes(replace(read_seal(catalog), look=look_at(catalog)).packed())
    return place


# -- what it answers and holds


def answers(folder, *, index=True):
    """Return what the memory answers, in all ways it can."""
    with memory_of(folder, index=index) as memory:
        memory.warm()
        found = {}
        for question in QUESTIONS:
            for mode in ("vector", "keyword", "hybrid"):
                hits = memory.search(question, k=8, mode=mode)
                if hits.degraded:
                    raise OmniMemoryError(hits.degraded)
                found[mode, question] = [hit.to_dict() for hit in hits]
            found["filter", question] = [
                hit.to_dict() for hit in memory.search(question, k=8, where={"n": {"$lt": 50}}, kind="documents")
            ]
        return found


def content(folder):
    """Return every row of the truth; transitions and sequences are made of it."""
    with closing(sqlite3.connect(folder / "store" / "catalog.sqlite3")) as connection:
        return {
            table: sorted(map(repr, connection.execute(f"SELECT {columns} FROM {table}")))
            for table, columns in TRUTH.items()
        }


def cached_rows(folder):
    """Return what the cache holds, ``None`` if that cannot be read."""
    try:
        with closing(sqlite3.connect(folder / "cache" / "cache.db")) as connection:
            return connection.execute("SELECT key, value FROM Cache ORDER BY key").fetchall()
    except sqlite3.DatabaseError:
        return None


# -- damage


def path_of(folder, kind):
    """Return a file of a memory by the name it has in every memory; ``*`` stands for a generation or a segment."""
    return min(folder.glob(kind))


@dataclass(frozen=True)
class Damage:
    """What is done to a file: how, and the seed of where."""

    how: str
    seed: int = 0

    def do(self, path):
        size = path.stat().st_size
        rng = random.Random(f"{self.how} {self.seed} {path.name}")
        if self.how == "delete":
            path.unlink()
        elif self.how == "empty":
            path.write_bytes(b"")
        elif self.how == "half":
            os.truncate(path, size // 2)
        elif self.how == "tail":
            os.truncate(path, max(0, size - rng.randrange(1, 200)))
        elif size:
            whole = path.read_bytes()
            data = bytearray(whole)
            while data == whole:  # zeros over zeros are no damage
                self._overwrite(data, rng)
            path.write_bytes(data)

    def _overwrite(self, data, rng):
        start = rng.randrange(len(data))
        if self.how in ("bit", "bits"):
            for _ in range(1 if self.how == "bit" else 64):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            length = len(data[start : start + 512])
            data[start : start + length] = bytes(length) if self.how == "zeros" else rng.randbytes(length)


WHOLE = tuple(Damage(how) for how in ("delete", "empty", "half", "tail"))


def damages(bit, bits, zeros, noise):
    """Return every damage to a whole file, and so many of each kind to parts of it."""
    counts = {"bit": bit, "bits": bits, "zeros": zeros, "noise": noise}
    return WHOLE + tuple(Damage(how, seed) for how, count in counts.items() for seed in range(count))


@dataclass(frozen=True)
class Case:
    """A memory that was closed or whose last user was killed, a file of it, and what is done to that."""

    state: str
    kind: str
    damage: Damage

    @property
    def index(self):
        """Whether the index is used: always when it is what is damaged, now and then otherwise, for it takes long."""
        return "index/" in self.kind or self.damage.seed % 5 == 4

    def __str__(self):
        return f"{self.state} {self.kind} {self.damage.how} {self.damage.seed}"


CATALOG, LOG = "store/catalog.sqlite3", "store/catalog.sqlite3-wal"
INDEX_FILES = (
    *("chroma.sqlite3", "chromadb.version", "*/header.bin", "*/data_level0.bin", "*/length.bin"),
    *("*/link_lists.bin", "*/index_metadata.pickle"),
)


def all_cases():
    """Return the cases; more than 300."""
    in_index = [f"store/index/*/{name}" for name in INDEX_FILES]
    plan = {
        "closed": {
            CATALOG: damages(30, 6, 6, 6),
            f"{CATALOG}.seal": damages(6, 1, 1, 1),
            "cache/cache.db": damages(12, 4, 4, 4),
            "store/index/*/manifest.json": damages(2, 1, 1, 1),
            **dict.fromkeys(in_index, damages(3, 1, 1, 1)),
        },
        "killed": {
            CATALOG: damages(24, 4, 4, 4),
            LOG: damages(12, 4, 3, 3),
            f"{CATALOG}.seal": damages(3, 1, 0, 0),
            "cache/cache.db": damages(8, 2, 2, 2),
            "cache/cache.db-wal": damages(4, 2, 0, 0),
            **dict.fromkeys(in_index, damages(2, 1, 0, 1)),
        },
    }
    return [
        Case(state, kind, damage) for state, files in plan.items() for kind, some in files.items() for damage in some
    ]


# -- what comes of it


class Base:
    """The memory in both states, what it answers and holds undamaged, and a backup of it."""

    def __init__(self, folder, *, index=True):
        self.folder = folder
        make_memory(folder / "closed", index=index)
        end_uncleanly(copy_of(folder / "closed", folder / "killed"), index=index)
        self._known = {}

    def known(self, state, index):
        """Return what is to be known of the undamaged memory."""
        if (state, index) not in self._known:
            place = copy_of(self.folder / state, self.folder / "undamaged")
            said = {(finding.check, finding.message) for finding in examine(settings_of(place, index=index)).findings}
            found = answers(place, index=index)
            backup = self.folder / f"backup of {state} {index}"
            with memory_of(place, index=index) as memory:
                memory.backup(backup)
            self._known[state, index] = Known(found, content(place), said, cached_rows(place), backup)
        return self._known[state, index]

    def damaged(self, case):
        """Return a fresh memory with this damage."""
        place = copy_of(self.folder / case.state, self.folder / "case")
        case.damage.do(path_of(place, case.kind))
        return place

    def outcome(self, case):
        """Ask, examine and repair memories with this damage."""
        known = self.known(case.state, case.index)
        place = self.damaged(case)
        asked = _asked(place, case, known)
        harmless = case.kind.startswith("cache/") and asked == "right" and cached_rows(place) == known.rows
        place = self.damaged(case)
        found = examine(settings_of(place, index=case.index)).findings
        named = any((finding.check, finding.message) not in known.said for finding in found)
        return Outcome(case, asked, named, harmless, *self._repaired(case, known))

    def _repaired(self, case, known):
        place = self.damaged(case)
        before = EMBEDDER.asked
        report = repair(settings_of(place, index=case.index))
        calls = EMBEDDER.asked - before
        after = _asked(place, case, known)
        if after == "right" and content(place) != known.content:
            after = "wrong"
        if after != "refused":
            return calls, report.ok, after, after
        shutil.rmtree(place / "store")
        shutil.copytree(known.backup, place / "store")
        return calls, report.ok, after, _asked(place, case, known)


@dataclass(frozen=True)
class Known:
    answers: dict
    content: dict
    said: set
    rows: list
    backup: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a damage. ``asked`` and ``after`` (the repair) are "right", "refused" or "wrong".

    ``harmless``: the bytes hold nothing. ``calls`` are the texts that repair had embedded, ``ok`` is its own word.
    """

    case: Case
    asked: str
    named: bool
    harmless: bool
    calls: int
    ok: bool
    after: str
    with_backup: str

    @property
    def mended(self):
        return self.after == "right"

    def complaints(self):
        """Return what is wrong with this outcome."""
        may_be_lost = self.case.kind in (CATALOG, LOG)
        rules = {
            "a wrong answer": self.asked != "wrong",
            "not named by the doctor": self.named or self.harmless or self._is_sound_index(),
            "a model was called": self.calls == 0,
            "wrong after the repair": self.after != "wrong" and self.with_backup == "right",
            "derived, and not mended": self.mended or may_be_lost,
            "repair says otherwise": self.ok == self.mended,
        }
        return [complaint for complaint, kept in rules.items() if not kept]

    def _is_sound_index(self):
        # Of an index that nobody closed only what it holds can be told, and that is what it should be.
        return self.case.state == "killed" and "index/" in self.case.kind and self.asked == "right"


def _asked(place, case, known):
    try:
        return "right" if answers(place, index=case.index) == known.answers else "wrong"
    except OmniMemoryError:
        return "refused"
