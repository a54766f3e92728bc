"""What the tests of moves to another model share: models, stores to be moved, and what a store holds."""

import hashlib

import numpy as np

from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ModelServerError
from omnimemory.memory import Memory

KINDS = {"documents": "chunks", "commands": "commands"}
COMMANDS = ["git push --force-with-lease", "docker compose up -d", "tar xzf backup.tar.gz", "ls -la", "make test"]


class OtherModel(StaticEmbedder):
    """A model of 24 dimensions that knows no text with "unknown" in it, and that may stop after some batches."""

    name = "other:model"
    dim = 24
    dims = ()
    fingerprint = "other-24"

    def __init__(self, batches=10**6, before=None):
        super().__init__(256)
        self.batches = batches
        self.before = before or (lambda: None)
        self.asked = []

    def embed(self, texts, role):
        self.before()
        if self.batches == 0:
            raise ModelServerError("the model went away. Start it again.")
        unknown = [index for index, text in enumerate(texts) if "unknown" in text]
        if unknown:
            raise UnembeddableTextError("not every text", unknown, reasons=dict.fromkeys(unknown, "it is unknown"))
        self.batches -= 1
        self.asked += texts
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text):
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        vector = np.random.default_rng(seed).normal(size=self.dim).astype(np.float32)
        return vector / np.linalg.norm(vector)


def notes(count, prefix="note"):
    return [f"{prefix} {number} tells of harbour number {number * 7919 % 997}" for number in range(count)]


def fill(memory, folder, count=40):
    """Put notes and commands into a memory."""
    memory.add(notes(count), ids=[f"n{number}" for number in range(count)])
    history = folder / "history"
    history.write_text("".join(f": {1_600_000_000 + n}:0;{text}\n" for n, text in enumerate(COMMANDS)))
    memory.ingest_history(history, shell="zsh")


def held(memory):
    """Return by kind what each text has: its vector as bytes, or why it has none; vectors of nothing are an error."""
    catalog, found = memory.store.catalog, {}
    for kind, table in KINDS.items():
        owner = memory.store.tables[kind].collection.id
        rows = catalog.rows(
            f"SELECT i.text, v.vector, i.pending, i.unembeddable FROM {table} i "
            "LEFT JOIN vectors v ON v.item = i.id AND v.collection_id = ?",
            (owner,),
        )
        found[kind] = {text: vector or (pending, why) for text, vector, pending, why in rows}
        strays = (
            f"SELECT count(*) FROM vectors v JOIN collections c ON c.id = v.collection_id WHERE c.name LIKE '{kind}%' "
        )
        assert catalog.value(f"{strays} AND v.item NOT IN (SELECT id FROM {table})") == 0
    return found


def spaces(memory):
    """Return how many vectors each collection holds."""
    query = "SELECT c.name, (SELECT count(*) FROM vectors v WHERE v.collection_id = c.id) FROM collections c"
    return dict(memory.store.catalog.rows(query))


def fresh(settings, folder, embedder, texts_of=fill, **values):
    """Return what a store holds that never had another model."""
    place = {"store.path": folder / "fresh", "cache.path": folder / "fresh-cache", **values}
    with Memory(settings=settings.with_values(place), embedder=embedder) as memory:
        texts_of(memory, folder)
        return held(memory)
