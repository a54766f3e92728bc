"""OmniMemory: documents and shell history in a persistent memory on your own machine.

    from omnimemory import Memory

    with Memory("~/notes.mem") as memory:
        memory.ingest("docs/")
        memory.search("how do we deploy?", k=5)

Public names are imported on first use, so ``import omnimemory`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "omnimemory.errors": (
        "CatalogDamagedError",
        "ConfigError",
        "EmbedderError",
        "IndexDamagedError",
        "InvalidVectorError",
        "MemoryBudgetError",
        "MissingExtraError",
        "ModelServerError",
        "OmniMemoryError",
        "SchemaError",
        "SourceError",
        "SpaceMismatchError",
        "StoreBusyError",
        "StoreError",
        "StoreFullError",
    ),
    "omnimemory.records": ("Chunk", "Document", "Event", "Failure", "Hit", "Hits", "IngestReport"),
    "omnimemory.config": ("Settings",),
    "omnimemory.embedders.base": ("Embedder", "cosine_similarity"),
    "omnimemory.memory": ("Memory",),
    "omnimemory.reembedding.report": ("ReembedReport",),
    "omnimemory.transfer.reports": ("BackupReport", "ExportReport", "ImportReport"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604 - names are read from the table above


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from omnimemory.config import Settings as Settings
    from omnimemory.embedders.base import Embedder as Embedder
    from omnimemory.embedders.base import cosine_similarity as cosine_similarity
    from omnimemory.errors import CatalogDamagedError as CatalogDamagedError
    from omnimemory.errors import ConfigError as ConfigError
    from omnimemory.errors import EmbedderError as EmbedderError
    from omnimemory.errors import IndexDamagedError as IndexDamagedError
    from omnimemory.errors import InvalidVectorError as InvalidVectorError
    from omnimemory.errors import MemoryBudgetError as MemoryBudgetError
    from omnimemory.errors import MissingExtraError as MissingExtraError
    from omnimemory.errors import ModelServerError as ModelServerError
    from omnimemory.errors import OmniMemoryError as OmniMemoryError
    from omnimemory.errors import SchemaError as SchemaError
    from omnimemory.errors import SourceError as SourceError
    from omnimemory.errors import SpaceMismatchError as SpaceMismatchError
    from omnimemory.errors import StoreBusyError as StoreBusyError
    from omnimemory.errors import StoreError as StoreError
    from omnimemory.errors import StoreFullError as StoreFullError
    from omnimemory.memory import Memory as Memory
    from omnimemory.records import Chunk as Chunk
    from omnimemory.records import Document as Document
    from omnimemory.records import Event as Event
    from omnimemory.records import Failure as Failure
    from omnimemory.records import Hit as Hit
    from omnimemory.records import Hits as Hits
    from omnimemory.records import IngestReport as IngestReport
    from omnimemory.reembedding.report import ReembedReport as ReembedReport
    from omnimemory.transfer.reports import BackupReport as BackupReport
    from omnimemory.transfer.reports import ExportReport as ExportReport
    from omnimemory.transfer.reports import ImportReport as ImportReport
