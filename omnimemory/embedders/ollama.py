"""Vectors from an Ollama server.

Every request says the same of how the model is to be run (``options``, part of the vector space): other options make
the server unload the model and load it anew. What changes is only how long the model is kept afterwards: long after a
question, because another one comes, briefly after texts that were stored.

Ollama's default context has grown from one version to the next, so a text is read in windows of 2,048 tokens unless
``num_ctx`` says otherwise: the same text has the same vector on every server.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omnimemory.embedders.base import Role
from omnimemory.embedders.served import ServedEmbedder, ServedOptions
from omnimemory.errors import ConfigError, ModelServerError
from omnimemory.model_servers.exchange import Answer, Call, Steps
from omnimemory.model_servers.keep_alive import KeepAlive, keep_alive_value
from omnimemory.model_servers.ollama import ollama_terms, ollama_ways
from omnimemory.model_servers.ollama_exchanges import Ways, require_own_machine
from omnimemory.model_servers.ollama_records import canonical_name, is_cloud_name, read_embeddings
from omnimemory.model_servers.patience import RefusedError

__all__ = ["OllamaEmbedder"]

_LOG = logging.getLogger("omnimemory")
_WINDOW = 2048


class OllamaEmbedder(ServedEmbedder):
    """A model of an Ollama server: ``OllamaEmbedder("nomic-embed-text")``.

    ``host`` has any form of ``OLLAMA_HOST``, which is used when it is ``None``. Another machine has to be allowed, and
    so have models that Ollama runs in its cloud. ``keep_alive`` is how long the model stays loaded after a question,
    ``index_keep_alive`` after texts to store. ``seconds`` is the least time a request may take, to which texts add
    ``seconds_per_text`` each once that is more.
    """

    def __init__(
        self,
        model: str,
        *,
        host: str | None = None,
        key: str | None = None,
        allow_remote: bool = False,
        allow_cloud: bool = False,
        keep_alive: KeepAlive = "30m",
        index_keep_alive: KeepAlive = "1m",
        model_options: Mapping[str, Any] | None = None,
        seconds: float = 120.0,
        seconds_per_text: float = 2.0,
        connect_seconds: float = 3.0,
        options: ServedOptions | None = None,
    ) -> None:
        if not model.strip():
            raise ConfigError("Name the model: ollama:nomic-embed-text, for example.")
        require_own_machine(model, allow_cloud=allow_cloud)
        options = options or ServedOptions()
        terms = ollama_terms(host, key=key, allow_remote=allow_remote, connect_seconds=connect_seconds)
        ways = ollama_ways(
            terms,
            patience=options.patience,
            seconds=seconds,
            seconds_per_text=seconds_per_text,
            allow_cloud=allow_cloud,
        )
        keeps: dict[Role, KeepAlive] = {
            "query": keep_alive_value(keep_alive),
            "document": keep_alive_value(index_keep_alive),
        }
        chosen = dict(model_options or {})
        context = chosen.get("num_ctx", _WINDOW)
        if type(context) is not int or context < 1:
            raise ConfigError(f"The option num_ctx must be a whole number of tokens, not {context!r:.80}.")
        super().__init__(
            f"ollama:{canonical_name(model)}",
            _OllamaDialect(model.strip(), ways, keeps, chosen),
            terms,
            options,
            usual_tokens=_WINDOW,
            most_tokens=context,
            space={"options": chosen},
        )


class _OllamaDialect:
    def __init__(self, model: str, ways: Ways, keeps: Mapping[Role, KeepAlive], options: Mapping[str, Any]) -> None:
        self._model = model
        self._ways = ways
        self._keeps = keeps
        self._options = options
        self._told = False

    @property
    def origin(self) -> str:
        return self._ways.origin

    def digest(self) -> Steps[str | None]:
        found = yield from self._ways.installed(self._model)
        elsewhere = found.remote_host or ("ollama.com" if is_cloud_name(self._model) else None)
        if elsewhere is not None and not self._ways.allow_cloud:
            raise ConfigError(
                f"{self._model} is not run by {self.origin}: it passes texts on to {elsewhere}. "
                "If that is what you want, set servers.allow_cloud = true."
            )
        if elsewhere is not None and not self._told:
            self._told = True
            _LOG.warning("Ollama passes texts on to %s to be embedded: they leave this machine.", elsewhere)
        return found.digest.removeprefix("sha256:") or None

    def context(self) -> Steps[int | None]:
        return (yield from self._ways.show(self._model)).context

    def call(self, texts: Sequence[str], role: Role, dim: int | None) -> Call:
        return self._ways.embed_call(
            self._model, texts, truncate=False, dimensions=dim, keep_alive=self._keeps[role], options=self._options
        )

    def read(self, answer: Answer, texts: int) -> list[Any]:
        return list(read_embeddings(answer, self._model, texts).vectors)

    def adapt(self, error: RefusedError) -> bool:  # noqa: ARG002 - there is one way to ask Ollama
        return False

    def meaning(self, error: RefusedError) -> ModelServerError:
        return self._ways.meaning(error, self._model)
