"""A process that has a memory open and does what it is told through a pipe; it can be killed at any moment.

The state machine drives one or two of them. They are forked from a server that has imported everything and opened
nothing (``forkserver``), so that a new process costs milliseconds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from store_cases import excused

from omnimemory.config import Settings
from omnimemory.embedders.base import ModelFootprint, Role, Vectors, normalise
from omnimemory.errors import IndexDamagedError, OmniMemoryError
from omnimemory.memory import Memory

DIM = 12
PATIENCE = 60.0


class HashEmbedder:
    """A vector for each text that only the same text has: what is near is random, so a wrong vector is seen."""

    name, dim, max_tokens, loaded = "hash:12", DIM, None, True
    fingerprint = "f" * 32

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        return np.stack([vector_of(text) for text in texts])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) // 4 + bool(text) for text in texts]

    def footprint(self) -> ModelFootprint:
        return ModelFootprint(0, 1, 1)

    def close(self) -> None:
        """Nothing is held."""


def vector_of(text: str) -> Vectors:
    """Return the vector of a text, (DIM,)."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    vector: Vectors = normalise(np.random.default_rng(seed).standard_normal((1, DIM)))[0]
    return vector


def settings_in(folder: Path, *, indexed: bool) -> Settings:
    """Return the settings of every process of one machine: small batches, and no search is too small for Chroma."""
    values = {"store.path": folder / "store", "cache.path": folder / "cache", "index.enabled": indexed}
    return Settings().with_values(
        {**values, "search.exact_rows": 0, "embedding.batch_size": 4, "index.batch_size": 3, "cache.hot_items": 2}
    )


class Served:
    """The memory in the child process, with what the machine asks for and the library has not."""

    def __init__(self, folder: Path, *, indexed: bool) -> None:
        self.memory = Memory(settings=settings_in(folder, indexed=indexed), embedder=HashEmbedder())
        if indexed:
            self.memory.warm()  # so that this process drains, and not a child that takes seconds to start

    def call(self, name: str, arguments: tuple, named: dict[str, Any]) -> Any:
        """Do one thing, by its name here or in the memory."""
        own = getattr(self, name, None)
        return own(*arguments, **named) if own else getattr(self.memory, name)(*arguments, **named)

    def search(self, *arguments: Any, **named: Any) -> list[tuple[str, str, float | None, str | None]]:
        """Return (id, text, score, source) of the hits."""
        found = self.memory.search(*arguments, **named)
        assert found.degraded is None, found.degraded
        return [(hit.id, hit.text, hit.score, hit.source) for hit in found]

    def nearest(self, text: str, kind: str) -> tuple[str, list[float | None]]:
        """Return who answered a vector search for five, and the scores of the hits."""
        found = self.memory.search(text, k=5, kind=kind, mode="vector", explain=True)
        assert found.explain is not None
        return found.explain["kinds"][kind]["answered_by"], [hit.score for hit in found]

    def everything(self) -> dict[str, Any]:
        """Return all rows of the catalog, by what they are."""
        rows = self.memory.store.catalog.rows
        vectors = rows(
            "SELECT c.name, v.item, v.vector FROM vectors v JOIN collections c ON c.id = v.collection_id "
            "WHERE c.name IN ('documents', 'commands')"
        )
        texts = {("documents", row): text for row, text in rows("SELECT id, text FROM chunks")}
        texts |= {("commands", row): text for row, text in rows("SELECT id, text FROM commands")}
        return {
            "chunks": rows(
                "SELECT c.chunk_id, s.uri, s.kind, c.start_char, c.end_char, c.text, c.metadata FROM chunks c "
                "JOIN sources s ON s.id = c.source_id"
            ),
            "commands": [text for (text,) in rows("SELECT text FROM commands")],
            "events": rows("SELECT e.timestamp, c.text FROM events e JOIN commands c ON c.id = e.command_row"),
            "vectors": [(texts.get((kind, item)), np.frombuffer(blob, np.float32)) for kind, item, blob in vectors],
            "items": len(texts),
            "pending": sum(
                count
                for table in ("chunks", "commands")
                for (count,) in rows(f"SELECT count(*) FROM {table} WHERE pending")
            ),
        }

    def index_state(self) -> list[str] | None:
        """Bring the index up to date and say what in it differs from the catalog; ``None`` if it is not open here.

        chromadb 1.5.9 may lose a graph that is in its memory only, and say "Nothing found on disk" (as in
        github.com/vanna-ai/vanna/issues/950). A search would let go of the index then, and the next one open it again.
        """
        try:
            return self._index_state()
        except IndexDamagedError:
            self.memory.store._session.drop()
            self.memory.store.warm()
            return self._index_state()

    def _index_state(self) -> list[str] | None:
        store = self.memory.store
        if store.drain() is not None or store._session._held._index is None:
            return None
        wrong = []
        for kind, table in store.tables.items():
            ids = [
                name
                for (name,) in store.catalog.rows(
                    f"SELECT {'chunk_id' if kind == 'documents' else 'command_id'} FROM "
                    f"{'chunks' if kind == 'documents' else 'commands'} WHERE NOT pending"
                )
            ]
            held = store._session._held._index.vectors(table.collection, ids) if ids else {}
            missing = set(ids) - held.keys() - excused(store.catalog, store._session._held._generation, table, held)
            wrong += [f"{kind}: {name} is not in the index" for name in sorted(missing)]
            if store._session._held._index.count(table.collection) != len(held):
                wrong.append(
                    f"{kind}: the index counts {store._session._held._index.count(table.collection)}, not {len(held)}"
                )
        return wrong

    def rebuild(self) -> None:
        """Make the index anew, and open it again."""
        if self.memory.store.options.index:
            self.memory.store.rebuild()
            self.memory.warm()

    def clear_cache(self) -> int:
        """Lose every cached vector."""
        return self.memory.cache.clear()

    def sick(self) -> list[str]:
        """Return what the doctor finds."""
        found = self.memory.doctor()
        return [] if found.ok else [f"{each.check}: {each.message}" for each in found.findings]


def serve(pipe: Connection, folder: Path, indexed: bool) -> None:
    """Do what comes through the pipe until it says ``close``."""
    served = Served(folder, indexed=indexed)
    pipe.send("open")
    while True:
        name, arguments, named = pipe.recv()
        try:
            answer = (True, served.call(name, arguments, named) if name != "close" else served.memory.close())
        except (OmniMemoryError, AssertionError) as error:
            answer = (False, f"{type(error).__name__}: {error}")
        pipe.send(answer)
        if name == "close":
            os._exit(0)


class Agent:
    """The machine's end of the pipe."""

    def __init__(self, folder: Path, *, indexed: bool) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["machine_agent", *(["chromadb_rust_bindings"] if indexed else [])])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, folder, indexed), daemon=True)
        self._process.start()
        theirs.close()
        assert self._receive() == "open"

    def _receive(self) -> Any:
        assert self._pipe.poll(PATIENCE), "the process does not answer"
        return self._pipe.recv()

    def do(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Do one thing in the process and return what it returned."""
        self.begin(name, *arguments, **named)
        good, answer = self._receive()
        assert good, f"{name}{arguments}: {answer}"
        return answer

    def begin(self, name: str, *arguments: Any, **named: Any) -> None:
        """Have one thing begun; nobody waits for it."""
        self._pipe.send((name, arguments, named))

    def close(self) -> None:
        """End it as it should be ended."""
        self.do("close")
        self._ended()

    def kill(self) -> None:
        """End it as the machine's power supply might."""
        self._process.kill()
        self._ended()

    def _ended(self) -> None:
        self._process.join(PATIENCE)
        self._process.close()
        self._pipe.close()
