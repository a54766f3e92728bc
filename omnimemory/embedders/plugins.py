"""Embedders from other packages, found by their entry points.

A package offers one by an entry point in the group ``omnimemory.embedders``. Its name is the provider: models are then
called ``provider:model``. The entry point names an object that follows :class:`EmbedderPlugin`, or a callable without
arguments that returns one. It is loaded when it is asked for, and what goes wrong names the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

from omnimemory.embedders.base import Embedder
from omnimemory.embedders.models import ModelCard
from omnimemory.errors import EmbedderError

__all__ = ["GROUP", "EmbedderPlugin", "load_plugin", "plugin_names"]

GROUP = "omnimemory.embedders"


@runtime_checkable
class EmbedderPlugin(Protocol):
    """What an entry point gives."""

    def models(self) -> Sequence[ModelCard]:
        """Return the models it has; nothing is loaded for that."""

    def health(self) -> str | None:
        """Return why it cannot be used now, or ``None``."""

    def make(self, model: str, dim: int | None) -> Embedder:
        """Return the embedder of a model; ``dim`` is the size that was asked for. Raises :class:`EmbedderError`."""


def plugin_names() -> list[str]:
    """Return the providers that installed packages offer."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_plugin(provider: str) -> EmbedderPlugin | None:
    """Return the plugin of a provider, ``None`` if no package offers one. Raises :class:`EmbedderError`."""
    point = next((point for point in entry_points(group=GROUP) if point.name == provider), None)
    return None if point is None else _load(point)


def _load(point: EntryPoint) -> EmbedderPlugin:
    package = point.dist.name if point.dist is not None else point.value
    try:
        found = point.load()
        if not isinstance(found, EmbedderPlugin) or isinstance(found, type):
            found = found()
    except Exception as error:
        # Whatever a foreign package does wrong when it is imported.
        raise EmbedderError(
            f"The embedder {point.name!r} of the package {package} cannot be loaded: {error}"
        ) from error
    if not isinstance(found, EmbedderPlugin):
        raise EmbedderError(
            f"The package {package} offers the embedder {point.name!r}, which has no models, health and make."
        )
    return found
