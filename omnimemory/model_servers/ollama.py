"""The client of Ollama: :class:`Ollama` for blocking callers, :class:`AsyncOllama` with the same methods for asyncio.

Every method returns a typed result or raises: an error never looks like an empty list, and no error text is ever
returned in the place of data. Both are context managers and start nothing: no thread, no process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from omnimemory.errors import ConfigError
from omnimemory.model_servers.address import ollama_address, require_allowed
from omnimemory.model_servers.exchange import Terms
from omnimemory.model_servers.keep_alive import KeepAlive
from omnimemory.model_servers.lines import AsyncLine, Line
from omnimemory.model_servers.ollama_exchanges import Ways
from omnimemory.model_servers.ollama_records import (
    Embeddings,
    Health,
    InstalledModel,
    ModelDetails,
    RunningModel,
    Unloaded,
    find_model,
)
from omnimemory.model_servers.patience import Patience

__all__ = ["AsyncOllama", "Ollama", "ollama_terms", "ollama_ways"]


def ollama_terms(
    host: str | None = None, *, key: str | None = None, allow_remote: bool = False, connect_seconds: float = 3.0
) -> Terms:
    """Return where Ollama is and with which key it is spoken to.

    ``host`` has any form of ``OLLAMA_HOST``, which is used when it is ``None``; so is ``OLLAMA_API_KEY`` for ``key``.
    Raises :class:`ConfigError` for an address that is none, or that is not on this machine, unless ``allow_remote``.
    """
    address = ollama_address(os.environ.get("OLLAMA_HOST", "") if host is None else host)
    require_allowed(address, allow_remote=allow_remote)
    return Terms(address, (os.environ.get("OLLAMA_API_KEY") if key is None else key) or None, connect_seconds)


def ollama_ways(
    terms: Terms,
    *,
    patience: Patience | None = None,
    seconds: float = 120.0,
    seconds_per_text: float = 2.0,
    allow_cloud: bool = False,
) -> Ways:
    """Return the operations of the server at these terms; times are in seconds."""
    return Ways(terms.address.origin, patience or Patience(), seconds, seconds_per_text, allow_cloud)


class _Client:
    """What both clients are made of.

    ``host`` may have any form that ``OLLAMA_HOST`` may have. ``seconds`` is how long a request may take, at least; each
    text of a request adds ``seconds_per_text`` once that is more. Another machine than this one has to be allowed
    (``allow_remote``), and so have models that Ollama runs in its cloud (``allow_cloud``).
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        key: str | None = None,
        allow_remote: bool = False,
        allow_cloud: bool = False,
        seconds: float = 120.0,
        seconds_per_text: float = 2.0,
        connect_seconds: float = 3.0,
        patience: Patience | None = None,
    ) -> None:
        self._terms = ollama_terms(host, key=key, allow_remote=allow_remote, connect_seconds=connect_seconds)
        self._ways = ollama_ways(
            self._terms, patience=patience, seconds=seconds, seconds_per_text=seconds_per_text, allow_cloud=allow_cloud
        )
        self._begin()

    def _begin(self) -> None:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The server's address."""
        return self._terms.address.url


class Ollama(_Client):
    """A blocking client of one Ollama server, safe for several threads."""

    def _begin(self) -> None:
        self._line = Line(self._terms)

    def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        truncate: bool = False,
        dimensions: int | None = None,
        keep_alive: KeepAlive | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """Return the vectors of one text or several, in order, in one request.

        A text that is too long is refused unless ``truncate``. Raises :class:`ModelServerError`.
        """
        return self._line.run(
            self._ways.embed(
                model,
                _listed(texts),
                truncate=truncate,
                dimensions=dimensions,
                keep_alive=keep_alive,
                options=options,
            )
        )

    def ps(self) -> list[RunningModel]:
        """Return the models that are in memory."""
        return self._line.run(self._ways.ps())

    def is_loaded(self, model: str) -> bool:
        """Return whether a model is in memory."""
        return find_model(self.ps(), model) is not None

    def tags(self) -> list[InstalledModel]:
        """Return the models that are installed."""
        return self._line.run(self._ways.tags())

    def show(self, model: str) -> ModelDetails:
        """Return what a model is. Raises :class:`ModelNotFoundError`."""
        return self._line.run(self._ways.show(model))

    def load(
        self, model: str, *, keep_alive: KeepAlive | None = None, options: Mapping[str, Any] | None = None
    ) -> RunningModel:
        """Load a model and return what it takes, as the server lists it."""
        return self._line.run(self._ways.load(model, keep_alive=keep_alive, options=options))

    def unload(self, model: str, *, wait: float = 30.0) -> Unloaded:
        """Unload a model; return once the server no longer lists it.

        Raises :class:`ModelServerError` when it is still there after ``wait`` seconds, :class:`ModelNotFoundError`
        when the server does not know it.
        """
        return self._line.run(self._ways.unload(model, wait=wait))

    def version(self) -> str:
        """Return the server's version."""
        return self._line.run(self._ways.version())

    def health(self) -> Health:
        """Return whether the server answers, asked once, within 2 seconds. Raises nothing."""
        return self._line.run(self._ways.health())

    def wait_until_ready(self, *, wait: float = 30.0) -> str:
        """Return the server's version as soon as it answers. Raises :class:`ModelServerError` after ``wait`` s."""
        return self._line.run(self._ways.wait_until_ready(wait=wait))

    def close(self) -> None:
        """Close the connections."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncOllama(_Client):
    """:class:`Ollama` for asyncio: the same arguments, methods and results. Cancelling a call drops its request."""

    def _begin(self) -> None:
        self._line = AsyncLine(self._terms)

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        truncate: bool = False,
        dimensions: int | None = None,
        keep_alive: KeepAlive | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """See :meth:`Ollama.embed`."""
        return await self._line.run(
            self._ways.embed(
                model,
                _listed(texts),
                truncate=truncate,
                dimensions=dimensions,
                keep_alive=keep_alive,
                options=options,
            )
        )

    async def ps(self) -> list[RunningModel]:
        """See :meth:`Ollama.ps`."""
        return await self._line.run(self._ways.ps())

    async def is_loaded(self, model: str) -> bool:
        """See :meth:`Ollama.is_loaded`."""
        return find_model(await self.ps(), model) is not None

    async def tags(self) -> list[InstalledModel]:
        """See :meth:`Ollama.tags`."""
        return await self._line.run(self._ways.tags())

    async def show(self, model: str) -> ModelDetails:
        """See :meth:`Ollama.show`."""
        return await self._line.run(self._ways.show(model))

    async def load(
        self, model: str, *, keep_alive: KeepAlive | None = None, options: Mapping[str, Any] | None = None
    ) -> RunningModel:
        """See :meth:`Ollama.load`."""
        return await self._line.run(self._ways.load(model, keep_alive=keep_alive, options=options))

    async def unload(self, model: str, *, wait: float = 30.0) -> Unloaded:
        """See :meth:`Ollama.unload`."""
        return await self._line.run(self._ways.unload(model, wait=wait))

    async def version(self) -> str:
        """See :meth:`Ollama.version`."""
        return await self._line.run(self._ways.version())

    async def health(self) -> Health:
        """See :meth:`Ollama.health`."""
        return await self._line.run(self._ways.health())

    async def wait_until_ready(self, *, wait: float = 30.0) -> str:
        """See :meth:`Ollama.wait_until_ready`."""
        return await self._line.run(self._ways.wait_until_ready(wait=wait))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._line.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _listed(texts: str | Sequence[str]) -> list[str]:
    listed = [texts] if isinstance(texts, str) else list(texts)
    if not listed:
        raise ConfigError("There is no text to embed; load() loads a model without one.")
    return listed
