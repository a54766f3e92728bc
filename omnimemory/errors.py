"""Every error this package raises, in one tree. Each message says what to do next.

::

    OmniMemoryError
    |-- ConfigError              a setting is unknown, malformed or out of range
    |-- SourceError              a file or a history cannot be read
    |-- EmbedderError            text could not be turned into a vector
    |   |-- MissingExtraError    an optional dependency is not installed
    |   |-- ModelServerError     a model server is down or answered nonsense
    |   |   |-- ModelNotFoundError   it does not have the model
    |   |   `-- OldServerError       it is too old, or another kind of server
    |   |-- ModelChangedError    another model answers to the same name
    |   `-- InvalidVectorError   a vector is NaN, zero or of the wrong size
    |-- MemoryBudgetError        the scheduler refused a batch: there is no room for it
    `-- StoreError               the store on disk cannot be used as asked
        |-- CatalogDamagedError  the catalog on disk is not what was written
        |-- StoreBusyError       another process holds what is needed
        |-- StoreFullError       the disk is full
        |-- SpaceMismatchError   the store holds vectors of another model
        |-- SchemaError          the store was written by another version
        `-- IndexDamagedError    the Chroma index is damaged (it can be rebuilt)

Catch :class:`OmniMemoryError` for all of them. ``exit_code`` is what the command line exits with.
"""

from __future__ import annotations

__all__ = [
    "CatalogDamagedError",
    "ConfigError",
    "EmbedderError",
    "IndexDamagedError",
    "InvalidVectorError",
    "MemoryBudgetError",
    "MissingExtraError",
    "ModelChangedError",
    "ModelNotFoundError",
    "ModelServerError",
    "OldServerError",
    "OmniMemoryError",
    "SchemaError",
    "SourceError",
    "SpaceMismatchError",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
]


class OmniMemoryError(Exception):
    """The root of the tree: anything this package raises on purpose."""

    exit_code = 1


class ConfigError(OmniMemoryError):
    """A setting is unknown, malformed or out of range."""

    exit_code = 2


class SourceError(OmniMemoryError):
    """A file or a history cannot be read, or is not what it claims to be."""


class EmbedderError(OmniMemoryError):
    """Text could not be turned into a vector."""


class MissingExtraError(EmbedderError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}'. Install it with: pip install 'omnimemory[{extra}]'")


class ModelServerError(EmbedderError):
    """A model server is down, or answered something that is not an embedding."""

    exit_code = 69


class ModelNotFoundError(ModelServerError):
    """A model server does not have the model."""


class OldServerError(ModelServerError):
    """A server does not know what it is asked for: it is too old, or another kind of server."""


class ModelChangedError(EmbedderError):
    """Another model answers to the name than before: its vectors must not be mixed with those that are there."""


class InvalidVectorError(EmbedderError):
    """A vector holds NaN or infinity, is zero, or has the wrong number of dimensions."""


class MemoryBudgetError(OmniMemoryError):
    """The scheduler refused a batch because there is no memory for it."""


class StoreError(OmniMemoryError):
    """The store on disk cannot be used as asked."""


class CatalogDamagedError(StoreError):
    """The catalog on disk is not what was written: it is the truth, so nothing is answered from it."""


class StoreBusyError(StoreError):
    """Another process holds what is needed; try again later."""

    exit_code = 75


class StoreFullError(StoreError):
    """The disk is full; what was acknowledged before is safe."""

    exit_code = 74


class SpaceMismatchError(StoreError):
    """The store holds vectors of another model, so distances would mean nothing."""


class SchemaError(StoreError):
    """The store was written by another version of this package."""


class IndexDamagedError(StoreError):
    """The Chroma index is damaged. It is derived data: it is rebuilt from the catalog."""
