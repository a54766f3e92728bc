"""What Ollama says about models, read strictly: an answer in another form is an error, never an empty list.

The forms are those of ``api/types.go`` and ``server/routes.go`` of Ollama. Two traps: ``size`` of a running model
includes the part in video memory, so main memory is the difference; and fields are left out when they are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from omnimemory.model_servers.exchange import Answer
from omnimemory.model_servers.patience import BadAnswerError

__all__ = [
    "Embeddings",
    "Health",
    "InstalledModel",
    "ModelDetails",
    "RunningModel",
    "Unloaded",
    "canonical_name",
    "find_model",
    "is_cloud_name",
    "read_details",
    "read_embeddings",
    "read_installed",
    "read_running",
    "read_version",
]

Found = TypeVar("Found", "InstalledModel", "RunningModel")

_REGISTRY = "registry.ollama.ai/"
_LIBRARY = "library/"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of the texts of one request, in their order; ``tokens`` is how many were read in all."""

    model: str
    vectors: list[list[float]]
    total_seconds: float
    load_seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model in memory: its bytes in all, and how many of them are video memory."""

    name: str
    digest: str
    total_bytes: int
    vram_bytes: int
    expires: datetime | None
    context: int | None

    @property
    def ram_bytes(self) -> int:
        """Bytes in main memory: the total without the part in video memory."""
        return max(0, self.total_bytes - self.vram_bytes)

    def seconds_left(self, now: datetime | None = None) -> float | None:
        """Return how long it stays unless it is used; ``None`` when the server does not say."""
        if self.expires is None:
            return None
        return max(0.0, (self.expires - (now or datetime.now(UTC))).total_seconds())


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on the server's disk, or one elsewhere that it passes texts on to (``remote_host``)."""

    name: str
    digest: str
    disk_bytes: int
    remote_host: str | None


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What a model is: ``context`` in tokens, ``dim`` the components of its vectors; ``None`` where nothing is said."""

    architecture: str | None
    context: int | None
    dim: int | None
    parameters: int | None
    quantization: str | None
    capabilities: tuple[str, ...]
    remote_host: str | None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What unloading did: ``freed_bytes`` is what the model had held, 0 if it was not loaded."""

    model: str
    was_loaded: bool
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server answers as Ollama does: its ``version``, or the ``error``."""

    ok: bool
    version: str | None = None
    error: str | None = None


def canonical_name(model: str) -> str:
    """Return the one name of a model: ``:latest`` and the default registry left out, in lower case.

    ``nomic-embed-text`` and ``registry.ollama.ai/library/Nomic-Embed-Text:latest`` are the same model to the server.
    """
    name = model.strip().lower()
    if name.startswith(_REGISTRY):
        name = name.removeprefix(_REGISTRY)
    return name.removeprefix(_LIBRARY).removesuffix(":latest")


def is_cloud_name(model: str) -> bool:
    """Return whether the name is one of Ollama's cloud models, which are not run on the server's machine."""
    tag = canonical_name(model).rpartition("/")[2].partition(":")[2]
    return tag == "cloud" or tag.endswith("-cloud")


def find_model(models: list[Found], name: str) -> Found | None:
    """Return the model of that name, whatever form the names have."""
    wanted = canonical_name(name)
    return next((model for model in models if canonical_name(model.name) == wanted), None)


def read_version(answer: Answer) -> str:
    """Read ``/api/version``."""
    version = _table(answer, "/api/version").get("version")
    if not isinstance(version, str) or not version:
        raise BadAnswerError("The server does not tell a version as Ollama does: is it another one?")
    return version


def read_running(answer: Answer) -> list[RunningModel]:
    """Read ``/api/ps``."""
    return [
        RunningModel(
            name=_name(entry, "/api/ps"),
            digest=str(entry.get("digest", "")),
            total_bytes=_count(entry, "size"),
            vram_bytes=_count(entry, "size_vram"),
            expires=_time(entry.get("expires_at")),
            context=_count(entry, "context_length") or None,
        )
        for entry in _models(answer, "/api/ps")
    ]


def read_installed(answer: Answer) -> list[InstalledModel]:
    """Read ``/api/tags``."""
    return [
        InstalledModel(
            name=_name(entry, "/api/tags"),
            digest=str(entry.get("digest", "")),
            disk_bytes=_count(entry, "size"),
            remote_host=_text(entry, "remote_host") or _text(entry, "remote_model"),
        )
        for entry in _models(answer, "/api/tags")
    ]


def read_details(answer: Answer) -> ModelDetails:
    """Read ``/api/show``."""
    found = _table(answer, "/api/show")
    info, details = _inner(found, "model_info"), _inner(found, "details")
    architecture = _text(info, "general.architecture")
    capabilities = found.get("capabilities")
    return ModelDetails(
        architecture=architecture,
        context=_count(info, f"{architecture}.context_length") or None,
        dim=_count(info, f"{architecture}.embedding_length") or None,
        parameters=_count(info, "general.parameter_count") or None,
        quantization=_text(details, "quantization_level"),
        capabilities=tuple(map(str, capabilities)) if isinstance(capabilities, list) else (),
        remote_host=_text(found, "remote_host") or _text(found, "remote_model"),
    )


def read_embeddings(answer: Answer, model: str, texts: int) -> Embeddings:
    """Read ``/api/embed``: exactly ``texts`` vectors of this model; their numbers are not looked at here."""
    found = _table(answer, "/api/embed")
    vectors = found.get("embeddings")
    if not isinstance(vectors, list) or not all(isinstance(vector, list) for vector in vectors):
        raise BadAnswerError("The server's answer to /api/embed holds no list of vectors.")
    if len(vectors) != texts:
        raise BadAnswerError(f"The server gave {len(vectors)} vectors for {texts} texts.")
    answered = found.get("model")
    if isinstance(answered, str) and canonical_name(answered) != canonical_name(model):
        raise BadAnswerError(f"The server was asked for {model!r:.100} and answered for {answered!r:.100}.")
    return Embeddings(
        model=model,
        vectors=vectors,
        total_seconds=_count(found, "total_duration") / 1e9,
        load_seconds=_count(found, "load_duration") / 1e9,
        tokens=_count(found, "prompt_eval_count"),
    )


def _table(answer: Answer, path: str) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError as error:
        raise BadAnswerError(f"The server's answer to {path} is not JSON ({error}).") from None
    if not isinstance(found, dict):
        raise BadAnswerError(f"The server's answer to {path} is not a JSON object.")
    return found


def _models(answer: Answer, path: str) -> list[Mapping[str, Any]]:
    models = _table(answer, path).get("models", [])
    if models is None:  # how Go writes an empty list
        return []
    if not isinstance(models, list) or not all(isinstance(entry, dict) for entry in models):
        raise BadAnswerError(f"The server's answer to {path} holds no list of models.")
    return models


def _name(entry: Mapping[str, Any], path: str) -> str:
    name = _text(entry, "name") or _text(entry, "model")
    if name is None:
        raise BadAnswerError(f"The server's answer to {path} holds a model without a name.")
    return name


def _inner(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) and value else None


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    return max(0, int(value)) if isinstance(value, int) and not isinstance(value, bool) else 0


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
