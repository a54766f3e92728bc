"""Vectors from any server with OpenAI's ``/v1/embeddings``: OpenAI itself, llama-server, LM Studio, vLLM, TEI and more.

They share a path, not a behaviour. Some do not scale vectors to unit length, some cut long texts without a word (at 512
tokens, often), some know neither ``dimensions`` nor base64, some answer out of order. So order is taken from ``index``,
length is scaled and guarded here, and what a server refuses to be told is left out from then on.

The API is described at https://platform.openai.com/docs/api-reference/embeddings. There is no digest in it: which
model answers to a name is known by its vectors alone (see ``served_models.py``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from omnimemory.embedders.base import Role
from omnimemory.embedders.served import ServedEmbedder, ServedOptions
from omnimemory.errors import ConfigError, ModelNotFoundError, ModelServerError
from omnimemory.model_servers.address import base_address, require_allowed
from omnimemory.model_servers.exchange import Answer, Call, Steps, Terms, vectors_bytes
from omnimemory.model_servers.patience import BadAnswerError, Patience, RefusedError, persist

__all__ = ["OPENAI_TOKENS", "OpenAIEmbedder"]

OPENAI_TOKENS = 8191
"""What OpenAI's own models read of a text."""

_UNKNOWN_TOKENS = 512
_OPENAI_HOST = "api.openai.com"


class OpenAIEmbedder(ServedEmbedder):
    """A model of an OpenAI-compatible server: ``OpenAIEmbedder("bge-small", url="http://127.0.0.1:8080/v1")``.

    ``key`` is sent to that server only; ``OPENAI_API_KEY`` is used when it is ``None``. Another machine than this one
    has to be allowed. A request may take ``seconds``, or ``seconds_per_text`` for each of its texts if that is more.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        key: str | None = None,
        allow_remote: bool = False,
        seconds: float = 120.0,
        seconds_per_text: float = 2.0,
        connect_seconds: float = 3.0,
        options: ServedOptions | None = None,
    ) -> None:
        if not model.strip():
            raise ConfigError("Name the model as its server does: openai:text-embedding-3-small, for example.")
        if not url:
            raise ConfigError(
                "No address is known for an openai: model. Set servers.openai_url, to http://127.0.0.1:8080/v1 for "
                f"llama-server, for example, or to https://{_OPENAI_HOST}/v1 for OpenAI (with servers.allow_remote)."
            )
        options = options or ServedOptions()
        address = base_address(url)
        require_allowed(address, allow_remote=allow_remote)
        terms = Terms(address, (os.environ.get("OPENAI_API_KEY") if key is None else key) or None, connect_seconds)
        super().__init__(
            f"openai:{model.strip()}",
            _OpenAIDialect(model.strip(), terms, options.patience, seconds, seconds_per_text),
            terms,
            options,
            usual_tokens=OPENAI_TOKENS if address.host == _OPENAI_HOST else _UNKNOWN_TOKENS,
            most_tokens=None,
            space={},
        )


class _OpenAIDialect:
    def __init__(self, model: str, terms: Terms, patience: Patience, seconds: float, seconds_per_text: float) -> None:
        self._model = model
        self._terms = terms
        self._patience = patience
        self._seconds = seconds
        self._seconds_per_text = seconds_per_text
        self._sends_dimensions = True
        self._encoding: str | None = "base64"

    @property
    def origin(self) -> str:
        return self._terms.address.origin

    def digest(self) -> Steps[str | None]:
        """Ask nothing: there is no digest, and ``/models`` is missing or incomplete on many servers."""
        yield from ()
        return None

    def context(self) -> Steps[int | None]:
        call = Call("GET", "/models")
        try:
            return (yield from persist(call, partial(_context, self._model), self._patience, origin=self.origin))
        except ModelServerError:
            return None

    def call(self, texts: Sequence[str], role: Role, dim: int | None) -> Call:  # noqa: ARG002 - one way for both roles
        body: dict[str, Any] = {"model": self._model, "input": list(texts)}
        if dim is not None and self._sends_dimensions:
            body["dimensions"] = dim
        if self._encoding is not None:
            body["encoding_format"] = self._encoding
        seconds = max(self._seconds, self._seconds_per_text * len(texts))
        return Call("POST", "/embeddings", body, seconds=seconds, most_bytes=vectors_bytes(len(texts)))

    def read(self, answer: Answer, texts: int) -> list[Any]:
        data = _entries(answer)
        if len(data) != texts:
            raise BadAnswerError(f"The server gave {len(data)} vectors for {texts} texts.")
        found: list[Any] = [None] * texts  # what is named twice leaves another one without numbers
        for entry in data:
            index = entry.get("index")
            if type(index) is not int or not 0 <= index < texts:
                raise BadAnswerError("The server does not say which vector belongs to which text.")
            found[index] = entry.get("embedding", ())
        return found

    def adapt(self, error: RefusedError) -> bool:
        reason = error.reason.lower()
        if error.status not in {400, 422, 500, 501}:
            return False
        if self._sends_dimensions and ("dimension" in reason or "matryoshka" in reason):
            self._sends_dimensions = False
            return True
        if self._encoding is not None and ("encoding_format" in reason or "base64" in reason):
            self._encoding = "float" if self._encoding == "base64" else None
            return True
        return False

    def meaning(self, error: RefusedError) -> ModelServerError:
        if error.status in {401, 403} and error.reason == "":
            return RefusedError(f"{error} It is taken from OPENAI_API_KEY.", error.status)
        if error.status != 404:
            return error
        if "model" in error.reason.lower():
            return ModelNotFoundError(f"{self.origin} has no model {self._model}: {error.reason}")
        return ModelServerError(
            f"{self._terms.address.url}/embeddings is not there (404). servers.openai_url is the address that ends in "
            "/v1; and some servers answer there only when they are started for embeddings (llama-server --embeddings)."
        )


def _entries(answer: Answer) -> list[Mapping[str, Any]]:
    try:
        found = answer.json()
    except ValueError as error:
        raise BadAnswerError(f"The server's answer is not JSON ({error}).") from None
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise BadAnswerError("The server's answer holds no list of vectors.")
    return data


def _context(model: str, answer: Answer) -> int | None:
    """Return how many tokens the model reads: ``max_model_len`` of vLLM, ``meta.n_ctx_train`` of llama-server."""
    for entry in _entries(answer):
        meta = entry.get("meta")
        said = entry.get("max_model_len") or (meta.get("n_ctx_train") if isinstance(meta, dict) else None)
        if entry.get("id") == model and type(said) is int and said > 0:
            return said
    return None
