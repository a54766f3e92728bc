"""Embedders from other packages, found by their entry points.

A package offers one by an entry point in the group ``omnimemory.embedders``. Its name is the provider: models are then
called ``provider:model``. The entry point names an object that follows :class:`EmbedderPlugin`, or a callable without
arguments that returns one. It is loaded when it is asked for, and whatever goes wrong in it names the package.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

from omnimemory.embedders.base import Embedder
from omnimemory.embedders.models import ModelCard
from omnimemory.errors import EmbedderError, OmniMemoryError

__all__ = ["GROUP", "EmbedderPlugin", "load_plugin", "plugin_names"]

GROUP = "omnimemory.embedders"

_NEEDED = ("name", "dim", "max_tokens", "fingerprint", "loaded", "embed", "count_tokens", "footprint", "close")
_ABSENT = object()


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


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A plug-in whose every mistake becomes an error that names it and its package."""

    plugin: EmbedderPlugin
    named: str

    def models(self) -> Sequence[ModelCard]:
        with self._blamed("tell its models"):
            cards = list(self.plugin.models())
        if not all(isinstance(card, ModelCard) for card in cards):
            raise EmbedderError(f"{self.named} gives models that are no ModelCard.")
        return cards

    def health(self) -> str | None:
        with self._blamed("tell how it is"):
            told = self.plugin.health()
        return None if told is None else str(told)

    def make(self, model: str, dim: int | None) -> Embedder:
        with self._blamed(f"make {model!r:.80}"):
            made = self.plugin.make(model, dim)
        # Only looked for: to ask for a fingerprint may load a model.
        missing = [part for part in _NEEDED if inspect.getattr_static(made, part, _ABSENT) is _ABSENT]
        if missing:
            raise EmbedderError(f"{self.named} made a {type(made).__name__}, which has no {', '.join(missing)}.")
        return made

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        try:
            yield
        except OmniMemoryError:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise EmbedderError(f"{self.named} could not {what}: {reason}") from error


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
    return _Guarded(found, f"The embedder {point.name!r} of the package {package}")
