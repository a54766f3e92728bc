"""What is said to Ollama, one generator an operation; ``ollama.py`` runs them.

Endpoints, statuses and error texts are those of ``server/routes.go`` and ``server/sched.go`` of Ollama (0.33). What
is not obvious there:

- ``/api/embed`` without input loads the model and embeds nothing; ``/api/generate`` refuses models that only embed.
- ``/api/generate`` with ``keep_alive`` 0 and no prompt unloads any model and never loads one; ``/api/embed`` with
  ``keep_alive`` 0 would load it first. It answers before the model is gone: only ``/api/ps`` tells when it is.
- ``truncate`` is true unless it is said otherwise: the end of a long text would be dropped without a word.
- ``keep_alive`` left out keeps what another client said last, which may be 0.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from omnimemory.errors import ConfigError, ModelNotFoundError, ModelServerError, OldServerError
from omnimemory.model_servers.exchange import Answer, Call, NoAnswerError, Pause, Steps, vectors_bytes
from omnimemory.model_servers.keep_alive import KeepAlive, keep_alive_value
from omnimemory.model_servers.ollama_records import (
    Embeddings,
    Health,
    InstalledModel,
    ModelDetails,
    RunningModel,
    Unloaded,
    canonical_name,
    find_model,
    is_cloud_name,
    read_details,
    read_embeddings,
    read_installed,
    read_running,
    read_version,
)
from omnimemory.model_servers.patience import BadAnswerError, Patience, RefusedError, persist

__all__ = ["Ways", "require_own_machine"]

T = TypeVar("T")

_ONCE = Patience(tries=1)
_LOADING_SECONDS = 330.0
"""A load may stall for 5 minutes (``OLLAMA_LOAD_TIMEOUT``) before the server gives up."""


def require_own_machine(model: str, *, allow_cloud: bool) -> None:
    """Raise :class:`ConfigError` for the name of a cloud model, unless those are allowed."""
    if is_cloud_name(model) and not allow_cloud:
        raise ConfigError(
            f"{model} is a cloud model: Ollama would send your texts to ollama.com. "
            "If that is what you want, set servers.allow_cloud = true."
        )


@dataclass(frozen=True, slots=True)
class Ways:
    """The operations of one server. ``seconds`` is the least time a request may take; texts add to it."""

    origin: str
    patience: Patience
    seconds: float
    seconds_per_text: float
    allow_cloud: bool = False

    def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        dimensions: int | None = None,
        keep_alive: KeepAlive | None = None,
        options: Mapping[str, Any] | None = None,
        patience: Patience | None = None,
    ) -> Steps[Embeddings]:
        """Ask for the vectors of some texts; without any, only load the model."""
        call = self.embed_call(model, texts, truncate, dimensions, keep_alive, options)
        read = partial(read_embeddings, model=model, texts=len(texts))
        try:
            return (yield from persist(call, read, patience or self.patience, origin=self.origin))
        except RefusedError as error:
            raise self.meaning(error, model) from error

    def embed_call(
        self,
        model: str,
        texts: Sequence[str],
        truncate: bool,
        dimensions: int | None,
        keep_alive: KeepAlive | None,
        options: Mapping[str, Any] | None,
    ) -> Call:
        """Return the request for the vectors of some texts."""
        require_own_machine(model, allow_cloud=self.allow_cloud)
        body: dict[str, Any] = {"model": model, "input": list(texts), "truncate": truncate}
        if dimensions is not None:
            body["dimensions"] = dimensions
        if keep_alive is not None:
            body["keep_alive"] = keep_alive_value(keep_alive)
        if options:
            body["options"] = dict(options)
        least = self.seconds if texts else max(self.seconds, _LOADING_SECONDS)
        seconds = max(least, self.seconds_per_text * len(texts))
        return Call("POST", "/api/embed", body, seconds=seconds, most_bytes=vectors_bytes(len(texts)))

    def ps(self) -> Steps[list[RunningModel]]:
        """Ask which models are in memory."""
        return (yield from self._ask(Call("GET", "/api/ps"), read_running))

    def tags(self) -> Steps[list[InstalledModel]]:
        """Ask which models are installed."""
        return (yield from self._ask(Call("GET", "/api/tags"), read_installed))

    def show(self, model: str) -> Steps[ModelDetails]:
        """Ask what a model is."""
        return (yield from self._ask(Call("POST", "/api/show", {"model": model}), read_details, model))

    def installed(self, model: str) -> Steps[InstalledModel]:
        """Return the installed model of that name. Raises :class:`ModelNotFoundError` naming the nearest."""
        found = yield from self.tags()
        one = find_model(found, model)
        if one is None:
            raise self._missing(model, [each.name for each in found])
        return one

    def load(
        self, model: str, *, keep_alive: KeepAlive | None = None, options: Mapping[str, Any] | None = None
    ) -> Steps[RunningModel]:
        """Load a model without embedding anything, and see that it is there."""
        yield from self.embed(model, [], keep_alive=keep_alive, options=options)
        running = find_model((yield from self.ps()), model)
        if running is None:
            raise ModelServerError(f"{self.origin} says that it loaded {model}, but does not list it as loaded.")
        return running

    def unload(self, model: str, *, wait: float = 30.0) -> Steps[Unloaded]:
        """Unload a model and see that it is gone. Raises :class:`ModelServerError` if it stays."""
        before = find_model((yield from self.ps()), model)
        if before is None:
            yield from self.show(model)  # a name that nobody knows is an error, not "not loaded"
            return Unloaded(model, was_loaded=False, freed_bytes=0)
        yield from self._ask(Call("POST", "/api/generate", {"model": model, "keep_alive": 0}), _anything, model)
        end, pause = time.monotonic() + wait, 0.02
        while find_model((yield from self.ps()), model) is not None:
            if time.monotonic() > end:
                raise ModelServerError(f"{model} is still loaded after {wait:g} s: something is using it.")
            yield Pause(pause)
            pause = min(0.5, 2 * pause)
        return Unloaded(model, was_loaded=True, freed_bytes=before.total_bytes)

    def version(self) -> Steps[str]:
        """Ask for the server's version."""
        return (yield from self._ask(Call("GET", "/api/version"), read_version))

    def health(self, *, seconds: float = 2.0) -> Steps[Health]:
        """Ask once, and quickly, whether the server is there."""
        call = Call("GET", "/api/version", seconds=seconds)
        try:
            version = yield from persist(call, read_version, _ONCE, origin=self.origin)
        except ModelServerError as error:
            return Health(ok=False, error=str(error))
        return Health(ok=True, version=version)

    def wait_until_ready(self, *, wait: float = 30.0) -> Steps[str]:
        """Ask until the server answers, and return its version. Raises :class:`ModelServerError` if it never does."""
        end, pause = time.monotonic() + wait, 0.05
        while True:
            health = yield from self.health(seconds=max(0.05, min(2.0, end - time.monotonic())))
            if health.version is not None:
                return health.version
            if time.monotonic() >= end:
                raise ModelServerError(f"Ollama was not ready within {wait:g} s: {health.error}")
            yield Pause(min(pause, max(0.0, end - time.monotonic())))
            pause = min(1.0, 2 * pause)

    def meaning(self, error: RefusedError, model: str | None) -> ModelServerError:
        """Return what a refusal means: no such model, a server that is too old, or what it said itself."""
        if error.status != 404:
            return error
        if model is not None and error.reason.startswith("model ") and "not found" in error.reason:
            return self._missing(model, [])
        return OldServerError(
            f"{self.origin} does not know what it is asked for (404): it is no Ollama, or one older than 0.3, "
            "which has no /api/embed. Update it."
        )

    def _ask(self, call: Call, read: Callable[[Answer], T], model: str | None = None) -> Steps[T]:
        try:
            return (yield from persist(call, read, self.patience, origin=self.origin))
        except RefusedError as error:
            raise self.meaning(error, model) from error
        except NoAnswerError as error:
            message = f"{error} Is Ollama running there? Start it with: ollama serve"
            raise NoAnswerError(message, reached=error.reached) from error

    def _missing(self, model: str, names: list[str]) -> ModelNotFoundError:
        near = difflib.get_close_matches(canonical_name(model), [canonical_name(name) for name in names], 1)
        hint = f" There is {near[0]}." if near else ""
        return ModelNotFoundError(f"{self.origin} has no model {model}.{hint} Get it with: ollama pull {model}")


def _anything(answer: Answer) -> None:
    if not answer.body.strip():
        raise BadAnswerError("The server's answer is empty.")
