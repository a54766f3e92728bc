"""The Chroma index: derived data in one folder a generation, which any Chroma client can read.

Facts about chromadb 1.5.9 that shape this module: the vectors live only in HNSW files that are rewritten
in place, so a folder is trusted only while its manifest (sizes and BLAKE2b, written at a clean close)
still fits; ``add`` of an id that exists is ignored, so adding twice is harmless; an update merges
metadata, so keys that went must be set to ``None``; an embedding function named in a stored collection is
built, with arguments from the file, by as little as an ``add`` of ready vectors (CVE-2026-45829 is its twin in
the server), so such a folder is refused. Whoever opens a folder holds the store's index lock.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import IndexDamagedError, StoreError, StoreFullError
from omnimemory.faults import reach
from omnimemory.storage.blank_memory import BlankMemory
from omnimemory.storage.catalog import Collection
from omnimemory.storage.chroma_core import chroma_opener, stored_description
from omnimemory.storage.foreign import refuse_foreign_folder
from omnimemory.storage.index_version import mark_version
from omnimemory.storage.items import Payload
from omnimemory.storage.manifest import suspend_manifest, write_manifest
from omnimemory.storage.room import LEAST_ROOM, disk_errors, free_bytes, full_message, require_room

__all__ = ["ChromaIndex", "restrict_modes"]


def restrict_modes(directory: Path) -> None:
    """Make folders 0700 and files 0600: Chroma creates them readable for everybody."""
    for folder, _, names in os.walk(directory):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):  # SQLite's journal comes and goes
                mode = path.lstat().st_mode
                private = 0o700 if stat.S_ISDIR(mode) else 0o600
                if stat.S_IMODE(mode) != private and not stat.S_ISLNK(mode):
                    path.chmod(private)


class ChromaIndex:
    """An open generation of the index. The caller holds the index lock for as long as it lives.

    ``documents`` decides whether texts go into Chroma as well; without them the index is made faster and
    is smaller, but other Chroma clients see ids and metadata only. Each ``sync_rows`` rows Chroma rewrites its
    HNSW files.
    """

    def __init__(
        self, directory: Path, *, ef_search: int = 200, documents: bool = True, sync_rows: int = 10_000
    ) -> None:
        self.directory = directory
        self.documents = documents
        self._configuration: Any = {"hnsw": {"space": "cosine", "ef_search": ef_search, "sync_threshold": sync_rows}}
        self._handles: dict[str, Any] = {}
        self._asked: set[str] = set()  # whose graphs are loaded, and have grown to what they hold
        open_folder = chroma_opener()
        require_room(directory, 0, "opening the index")  # which writes to it, and a full disk would damage it
        with disk_errors(directory):
            for folder in (directory.parent, directory):  # parents=True would leave the upper one readable for all
                refuse_foreign_folder(folder)
                folder.mkdir(exist_ok=True, mode=0o700)
            mark_version(directory)
            suspend_manifest(directory)  # from here to a clean close the folder is not to be trusted
            reach("index.open")
        with _index_errors(directory):
            self._client: Any = open_folder(directory)
        try:
            with _index_errors(directory):
                self._limit = int(self._client.get_max_batch_size())
            restrict_modes(directory)
        except BaseException:
            self.abandon()
            raise

    def _collection(self, collection: Collection) -> Any:
        if collection.name not in self._handles:
            handle = self._client.get_or_create_collection(
                collection.name,
                embedding_function=None,
                configuration=self._configuration,
                metadata={"fingerprint": collection.fingerprint, "model": collection.model, "dim": collection.dim},
            )
            if _names_a_function(stored_description(handle)):
                raise IndexDamagedError(
                    f"The index in {self.directory} names an embedding function, which could run foreign code: "
                    "it is not used and will be rebuilt."
                )
            if (handle.metadata or {}).get("fingerprint") != collection.fingerprint:
                raise IndexDamagedError(f"The index in {self.directory} belongs to another model; it will be rebuilt.")
            self._handles[collection.name] = handle
        return self._handles[collection.name]

    def add(self, collection: Collection, payload: Payload) -> None:
        """Add items; ids that are there already are left alone."""
        self._asked.discard(collection.name)
        with _index_errors(self.directory):
            handle = self._collection(collection)
            for start in range(0, len(payload.ids), self._limit):
                part = slice(start, start + self._limit)
                handle.add(
                    ids=payload.ids[part],
                    embeddings=payload.vectors[part],
                    documents=payload.texts[part] if self.documents else None,
                    metadatas=payload.metadatas[part],
                )
        restrict_modes(self.directory)  # of what Chroma wrote anew, now and then

    def delete(self, collection: Collection, ids: Sequence[str]) -> int:
        """Delete ids; unknown ones are left out. Return how many were there: HNSW keeps their places for ever."""
        found = 0
        with _index_errors(self.directory):
            handle = self._collection(collection)
            for start in range(0, len(ids), self._limit):
                known = handle.get(ids=list(ids[start : start + self._limit]), include=[])["ids"]
                if known:
                    handle.delete(ids=known)
                found += len(known)
        return found

    def update(self, collection: Collection, metadatas: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the metadata of ids, without touching their vectors."""
        with _index_errors(self.directory):
            handle = self._collection(collection)
            old = handle.get(ids=list(metadatas), include=["metadatas"]) if metadatas else {"ids": []}
            ids = old["ids"]
            if not ids:
                return
            new = [
                {**dict.fromkeys(before or {}), **metadatas[public]}
                for public, before in zip(ids, old["metadatas"], strict=True)
            ]
            for start in range(0, len(ids), self._limit):
                part = slice(start, start + self._limit)
                handle.update(ids=ids[part], metadatas=new[part])

    def query(self, collection: Collection, vector: NDArray[np.float32], k: int) -> tuple[list[str], list[float]]:
        """Return the ids of the k nearest items and their cosines as the index computes them."""
        with _index_errors(self.directory, blank=collection.name not in self._asked):
            found = self._collection(collection).query(
                query_embeddings=vector[np.newaxis], n_results=k, include=["distances"]
            )
        self._asked.add(collection.name)
        return list(found["ids"][0]), [1.0 - float(distance) for distance in found["distances"][0]]

    def vectors(self, collection: Collection, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the unit vectors that the index holds for these ids; unknown ones are absent."""
        with _index_errors(self.directory):
            found = self._collection(collection).get(ids=list(ids), include=["embeddings"])
            return dict(zip(found["ids"], np.asarray(found["embeddings"], dtype=np.float32), strict=True))

    def count(self, collection: Collection) -> int:
        """Return how many items the index says it holds (its metadata: no proof of health)."""
        with _index_errors(self.directory):
            return int(self._collection(collection).count())

    def abandon(self) -> None:
        """Close the client of a folder that failed, without the manifest that would call it sound."""
        self._handles.clear()
        # It failed before: whatever it says now adds nothing.
        with contextlib.suppress(StoreError), _index_errors(self.directory):
            self._client.close()

    def close(self) -> None:
        """Close the client, tighten the modes, and write the manifest that makes the folder trusted again."""
        with disk_errors(self.directory):
            reach("index.close")
            self._handles.clear()
            with _index_errors(self.directory):
                self._client.close()
            reach("manifest.write")
            restrict_modes(self.directory)
            write_manifest(self.directory)


def _names_a_function(data: Any) -> bool:
    if isinstance(data, dict):
        function = data.get("embedding_function")
        named = isinstance(function, dict) and function.get("type") not in ("unknown", "legacy")  # what None becomes
        return named or any(_names_a_function(value) for value in data.values())
    return isinstance(data, list) and any(_names_a_function(value) for value in data)


class _index_errors:  # noqa: N801 - reads as what it is: a context manager
    """Turn whatever Chroma raises into :class:`IndexDamagedError`, also the panics of its Rust core.

    On a full disk it is :class:`StoreFullError`: a new index would not help. The memory it gets is ``blank``.
    """

    def __init__(self, directory: Path, *, blank: bool = True) -> None:
        self._directory = directory
        self._blank = BlankMemory() if blank else contextlib.nullcontext()

    def __enter__(self) -> None:
        self._blank.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._blank.__exit__(kind, error, trace)
        if error is None or isinstance(error, StoreError | KeyboardInterrupt | SystemExit | GeneratorExit):
            return
        free = free_bytes(self._directory)
        if "disk is full" in str(error) or (free is not None and free < LEAST_ROOM):
            raise StoreFullError(f"The index could not be written. {full_message(self._directory)}") from error
        raise IndexDamagedError(
            f"The index in {self._directory} failed ({type(error).__name__}: {error}). Searches are answered from "
            "the catalog, and the index is rebuilt from it at the next ingest."
        ) from error
