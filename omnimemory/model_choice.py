"""Which embedder the settings mean.

``auto`` takes the model that the store was made with, and for a new store MiniLM if it has been pulled, else the static
model. Other names are a known model or its alias (``minilm``), ``onnx:`` or ``mlx:`` and such a name or a folder,
``static``, ``ollama:...``, ``openai:...``, or the provider of a plug-in. ``onnx:NAME@int8`` and ``onnx:NAME@float32``
name the precision as well; that is how stores record it. MLX is taken where it is named, and never by default.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypedDict

from omnimemory.config import Settings
from omnimemory.embedders.base import Embedder
from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.storage.recorded_space import RecordedSpace, recorded_space

__all__ = ["choose_embedder", "first_choice"]

_PREFERRED = "all-MiniLM-L6-v2"
_ENCODER = re.compile(r"(?P<model>.+?)(?:@(?P<precision>float32|bfloat16|int8))?(?::(?P<dim>\d{1,5}))?")
_STATIC = re.compile(r"wordllama-(?P<dim>\d{1,5})")


def choose_embedder(settings: Settings) -> Embedder:
    """Return the embedder, not loaded yet.

    Raises :class:`ConfigError` for a name that means nothing, :class:`EmbedderError` for a model that is not here.
    """
    name = settings.embedding.model
    if name != "auto":
        return _with_precision(_named(name, settings), settings)
    recorded = recorded_space(settings.store.path)
    return _named(first_choice(settings), settings) if recorded is None else _recorded(recorded, settings)


def _with_precision(embedder: Embedder, settings: Settings) -> Embedder:
    """Refuse a model that was named together with a precision and has none to choose."""
    if settings.embedding.precision is not None and embedder.name.partition(":")[0] not in ("onnx", "mlx"):
        raise ConfigError(
            f"{settings.origin('embedding.precision')}: {embedder.name} has no precision to choose: leave "
            "embedding.precision out, or choose a model that is computed here, such as onnx:all-MiniLM-L6-v2."
        )
    return embedder


def first_choice(settings: Settings) -> str:
    """Return the name of the model that ``auto`` means for a new store."""
    if not settings.models.path.is_dir():
        return "static"
    from omnimemory.embedders.installed import find_installed  # noqa: PLC0415 - most users have pulled nothing

    model, dim = find_installed(settings.models.path, _PREFERRED), settings.embedding.dim
    fits = model is not None and dim in (None, model.card.dim, *model.card.dims)
    return f"onnx:{_PREFERRED}" if fits else "static"


def _recorded(recorded: RecordedSpace, settings: Settings) -> Embedder:
    dim = recorded.dim if settings.embedding.dim is None else settings.embedding.dim
    asked = settings.with_values({"embedding.dim": dim})
    try:
        return _named(recorded.model, asked)
    except ConfigError:
        if settings.embedding.dim is not None or settings.embedding.precision is not None:
            raise
        return _static(
            settings.embedding.dim
        )  # an embedder that a program brought: the store says so when it is opened
    except EmbedderError as error:
        from omnimemory.embedders.absent import AbsentEmbedder  # noqa: PLC0415 - hardly ever

        return AbsentEmbedder(recorded.model, recorded.dim, recorded.fingerprint, str(error))


def _named(name: str, settings: Settings) -> Embedder:
    provider, colon, model = name.partition(":")
    if name == "static" or (colon and provider == "static"):
        match = _STATIC.fullmatch(model)
        if colon and match is None:
            raise ConfigError(_unknown(name, settings))
        return _static(settings.embedding.dim or (int(match["dim"]) if match else None))
    if not colon or provider in ("onnx", "mlx"):
        return _encoder(provider if colon else None, model if colon else name, settings)
    if provider in ("ollama", "openai"):
        from omnimemory.embedders.chosen import served_embedder  # noqa: PLC0415 - the model that was chosen, no other

        return served_embedder(settings.with_values({"embedding.model": name}))
    from omnimemory.embedders.plugins import load_plugin  # noqa: PLC0415 - as above

    plugin = load_plugin(provider)
    if plugin is None:
        raise ConfigError(_unknown(name, settings))
    return plugin.make(model, settings.embedding.dim)


def _static(dim: int | None) -> Embedder:
    from omnimemory.embedders.static import StaticEmbedder  # noqa: PLC0415 - as above

    return StaticEmbedder(dim or 256)


def _encoder(provider: str | None, name: str, settings: Settings) -> Embedder:
    """Return the embedder of a folder or a pulled model; without a provider, by the one its card names."""
    parts = _ENCODER.fullmatch(name)
    if parts is None:
        raise ConfigError(_unknown(f"{provider}:{name}", settings))
    model = parts["model"]
    asked: _Asked = {
        "dim": settings.embedding.dim or (int(parts["dim"]) if parts["dim"] else None),
        "precision": settings.embedding.precision or parts["precision"],
    }
    if os.sep in model or model.startswith(("~", ".")):
        return _of_folder(provider, Path(model).expanduser().absolute(), asked, settings.embedding.threads)
    from omnimemory.embedders.installed import find_installed  # noqa: PLC0415 - as above

    found = find_installed(settings.models.path, model)
    if found is None:
        return _not_pulled(provider, model, settings)
    found.check()
    if (provider or found.card.provider) == "mlx":
        from omnimemory.embedders.mlx.embedder import MlxEmbedder  # noqa: PLC0415 - as above

        return MlxEmbedder.of_installed(found, **asked)
    from omnimemory.embedders.onnx import OnnxEmbedder  # noqa: PLC0415 - as above

    return OnnxEmbedder.of_installed(found, threads=settings.embedding.threads, **asked)


class _Asked(TypedDict):
    """What is asked of every encoder; ``None`` is what its model usually has."""

    dim: int | None
    precision: str | None


def _of_folder(provider: str | None, folder: Path, asked: _Asked, threads: int | None) -> Embedder:
    from omnimemory.embedders.encoder_parts import check_weights  # noqa: PLC0415 - as above

    check_weights(provider, folder)  # what was pulled was checked then; nothing is to be begun with half a file
    precision = asked["precision"] or "float32"
    if provider == "mlx":
        from omnimemory.embedders.mlx.embedder import MlxEmbedder  # noqa: PLC0415 - as above

        return MlxEmbedder(folder, name=str(folder), precision=precision, dim=asked["dim"])
    from omnimemory.embedders.onnx import OnnxEmbedder  # noqa: PLC0415 - as above

    return OnnxEmbedder(folder, name=str(folder), precision=precision, dim=asked["dim"], threads=threads)


def _not_pulled(provider: str | None, model: str, settings: Settings) -> Embedder:
    from omnimemory.embedders.models import find_card, known_models  # noqa: PLC0415 - only here

    try:
        card = find_card(model, known_models(settings.models.table))
    except ConfigError:
        raise ConfigError(_unknown(model, settings)) from None
    if card.provider == "static":
        if provider is not None:
            raise ConfigError(f"{card.name} is no model that {provider} could run: leave {provider}: out.")
        return _static(settings.embedding.dim)
    raise EmbedderError(f"{card.name} has not been pulled yet. Get it with: omnimemory models pull {model}")


def _unknown(name: str, settings: Settings) -> str:
    return (
        f"{settings.origin('embedding.model')}: There is no embedding model {name!r:.80} (embedding.model). "
        "`omnimemory models list` shows those that are known; ollama:NAME, openai:NAME, onnx:FOLDER and "
        "mlx:FOLDER are others."
    )
