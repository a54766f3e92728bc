"""Chroma without its Python client: the Rust core of chromadb, spoken to directly where it is one we know.

What chromadb's client adds to the core is checks, telemetry and some forty embedding functions. Importing it takes .5
to .75 s of a processor (1.3 s on the clock, measured with chromadb 1.5.9), the core .02 to .04, and a folder written by
either is read by the other. The core's interface is not promised, so it is used only while its methods take what was
tried here; otherwise ``chromadb.PersistentClient`` does the same, slower.

Both ways give a client with ``get_max_batch_size``, ``get_or_create_collection`` and ``close``, and collections with
``add``, ``get``, ``delete``, ``update``, ``query`` and ``count`` that take and return what chromadb's do.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omnimemory.errors import StoreError

__all__ = ["chroma_opener", "stored_description"]

_TRIED = {
    "add": "ids, collection_id, embeddings, metadatas=None, documents=None, uris=None, tenant=..., database=...",
    "count": "collection_id, tenant=..., database=...",
    "create_collection": "name, configuration_json_str=None, schema_str=None, metadata=None, get_or_create=False, "
    "tenant=..., database=...",
    "delete": "collection_id, ids=None, where=..., where_document=None, limit=None, tenant=..., database=...",
    "get": "collection_id, ids=None, where=..., limit=None, offset=0, where_document=None, include=..., tenant=..., "
    "database=...",
    "get_max_batch_size": "",
    "query": "collection_id, ids, query_embeddings, n_results, where=..., where_document=None, include=..., "
    "tenant=..., database=...",
    "update": "collection_id, ids, embeddings=None, metadatas=None, documents=None, uris=None, tenant=..., "
    "database=...",
}
"""What the methods of the core take, as they say themselves: chromadb 1.5."""

_PLACE = {"tenant": "default_tenant", "database": "default_database"}
_LEAST_GRAPHS, _FILES = 64, 5
"""How many graphs the core keeps open is reckoned as its client does: by the open files allowed, five for each."""


def chroma_opener() -> Callable[[Path], Any]:
    """Return what opens a folder, made if it is new: Chroma's core, or chromadb's client where the core is another.

    Everything is imported when this returns. Raises :class:`StoreError` when chromadb cannot be.
    """
    try:
        import chromadb_rust_bindings as core  # noqa: PLC0415 - a search without the index need not
    except ImportError:
        return _full_client()
    return partial(_CoreClient, core) if _is_known(core) else _full_client()


def stored_description(collection: Any) -> list[Any]:
    """Return what a folder says of a collection, as it stands there: its configuration and schema.

    chromadb builds what it names when it reads them, even in ``add``.
    """
    if isinstance(collection, _CoreCollection):
        return collection.description
    model = collection._model  # noqa: SLF001 - what it shows has been built from it
    return [model.configuration_json, model.serialized_schema]


def _is_known(core: Any) -> bool:
    """Return whether the methods of the core take what was tried."""
    bindings = getattr(core, "Bindings", None)
    said = {name: getattr(getattr(bindings, name, None), "__text_signature__", None) for name in _TRIED}
    return said == {name: f"($self, {takes})" if takes else "($self)" for name, takes in _TRIED.items()}


class _CoreClient:
    """One open folder."""

    def __init__(self, core: Any, directory: Path) -> None:
        database = core.SqliteDBConfig(
            hash_type=core.MigrationHash.MD5,
            migration_mode=core.MigrationMode.Apply,
            url=str(directory / "chroma.sqlite3"),
        )
        self._bindings: Any = core.Bindings(
            allow_reset=False,
            sqlite_db_config=database,
            hnsw_cache_size=max(_LEAST_GRAPHS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES),
            persist_path=str(directory),
        )

    def get_max_batch_size(self) -> int:
        return int(self._bindings.get_max_batch_size())

    def get_or_create_collection(
        self,
        name: str,
        *,
        configuration: dict[str, Any],
        metadata: dict[str, Any],
        embedding_function: None,  # noqa: ARG002 - as chromadb's own client takes it
    ) -> _CoreCollection:
        wanted = json.dumps({"hnsw": None, "spann": None, **configuration, "embedding_function": {"type": "legacy"}})
        found = self._bindings.create_collection(name, wanted, None, metadata, True, **_PLACE)
        return _CoreCollection(self._bindings, found)

    def close(self) -> None:
        self._bindings = None  # the core closes its files when the last of its users lets go


class _CoreCollection:
    """One collection of an open folder."""

    def __init__(self, bindings: Any, found: Any) -> None:
        self._bindings = bindings
        self._id = str(found.id)
        self.metadata = found.metadata
        self.description = [found.configuration, found.schema]

    def add(
        self, *, ids: list[str], embeddings: Any, documents: list[str] | None = None, metadatas: list[Any] | None = None
    ) -> None:
        self._bindings.add(ids, self._id, list(embeddings), metadatas, documents, None, **_PLACE)

    def get(
        self, *, ids: list[str] | None = None, include: Sequence[str] = ("metadatas", "documents")
    ) -> dict[str, Any]:
        said = self._bindings.get(self._id, ids, None, None, 0, None, list(include), **_PLACE)
        return {"ids": said.ids, **{name: getattr(said, name) for name in include}}

    def delete(self, *, ids: list[str]) -> None:
        self._bindings.delete(self._id, ids, None, None, None, **_PLACE)

    def update(self, *, ids: list[str], metadatas: list[Any]) -> None:
        self._bindings.update(self._id, ids, None, metadatas, None, None, **_PLACE)

    def query(self, *, query_embeddings: Any, n_results: int, include: Sequence[str]) -> dict[str, Any]:
        asked = list(query_embeddings)
        said = self._bindings.query(self._id, None, asked, n_results, None, None, list(include), **_PLACE)
        return {"ids": said.ids, **{name: getattr(said, name) for name in include}}

    def count(self) -> int:
        return int(self._bindings.count(self._id, **_PLACE))


def _full_client() -> Callable[[Path], Any]:
    """Return what opens chromadb's own client, with settings that only this module decides about.

    chromadb builds settings of its own while it is imported, from the environment and from ``./.env``,
    whatever project that belongs to.
    """
    try:
        import chromadb  # noqa: PLC0415 - 1.3 s: only who needs it pays
        from chromadb.config import Settings  # noqa: PLC0415 - as above
    except Exception as error:
        raise StoreError(
            f"chromadb cannot be imported ({type(error).__name__}: {error}). It reads a file .env in the working "
            "directory: try another directory. Searches are answered from the catalog meanwhile."
        ) from error
    # model_construct: neither variables (CHROMA_API_IMPL could send everything to a server) nor .env are asked.
    settings = Settings.model_construct(anonymized_telemetry=False)
    return lambda directory: chromadb.PersistentClient(str(directory), settings=settings)
