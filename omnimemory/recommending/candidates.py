"""The models that may be recommended: those this package knows, and those that an Ollama has."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping

from omnimemory.config import Settings
from omnimemory.embedders.installed import installed_models
from omnimemory.embedders.models import ModelCard, known_models
from omnimemory.errors import ConfigError, ModelServerError
from omnimemory.model_servers.ollama_records import ModelDetails, canonical_name
from omnimemory.recommending.recommend import Candidate
from omnimemory.served_residency import OllamaModels

__all__ = ["known_candidates", "served_candidates"]

_MEASURED = {"all-MiniLM-L6-v2": "From descriptions to commands its MRR is .48, the static model's .32."}


def known_candidates(settings: Settings) -> Iterator[Candidate]:
    """Yield the embedding models of the tables and those that were pulled. Raises :class:`ConfigError`."""
    pulled: Mapping[str, ModelCard] = {}
    if settings.models.path.is_dir():
        pulled = {model.card.name: model.card for model in installed_models(settings.models.path, damaged={})}
    for name, card in {**known_models(settings.models.table), **pulled}.items():
        embedded = "embedded" in card.capabilities
        if card.provider == "mlx" and not _has_metal():
            continue  # on a processor alone it is slower than the same model in onnx
        ready = embedded or name in pulled
        fetch = "" if ready else f"Not here yet: `omnimemory models pull {name}`."
        model = "static" if embedded else f"{card.provider}:{name}"
        yield Candidate(model, "embedding", card.bytes, ready, fetch, card.note, _MEASURED.get(name, ""))


def _has_metal() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def served_candidates(settings: Settings, notes: list[str]) -> Iterator[Candidate]:
    """Yield the models of the Ollama that the settings name; what cannot be found out is added to ``notes``."""
    models = OllamaModels(settings)
    try:
        for model in models.installed():
            name = canonical_name(model.name)
            if model.remote_host is not None:
                notes.append(f"ollama:{name} runs on {model.remote_host}, not on this machine: it is left out.")
                continue
            details = models.details(name)
            kind = _kind(details)
            if kind:
                yield Candidate(f"ollama:{name}", kind, model.disk_bytes, parameters=details.parameters)
    except (ModelServerError, ConfigError) as error:
        notes.append(f"No models of an Ollama are among these: {error}")


def _kind(details: ModelDetails) -> str:
    if "embedding" in details.capabilities:
        return "embedding"
    # A server that tells no capabilities is an old one, and what it serves is mostly there to chat.
    return "chat" if not details.capabilities or "completion" in details.capabilities else ""
