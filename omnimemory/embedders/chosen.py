"""The embedder of a server's model, made from the settings: ``ollama:NAME`` or ``openai:NAME``."""

from __future__ import annotations

import json
from typing import Any

from omnimemory.config import Settings
from omnimemory.embedders.base import Embedder
from omnimemory.embedders.served import ServedOptions
from omnimemory.embedders.served_names import known_name
from omnimemory.errors import ConfigError
from omnimemory.model_servers.keep_alive import KeepAlive, keep_alive_value
from omnimemory.model_servers.patience import Patience

__all__ = ["served_embedder"]


def served_embedder(settings: Settings) -> Embedder:
    """Return the embedder that ``embedding.model`` names. Raises :class:`ConfigError`; asks no server."""
    provider, _, model = settings.embedding.model.partition(":")
    servers = settings.servers
    options = _options(settings, model)
    if provider == "openai":
        from omnimemory.embedders.openai import OpenAIEmbedder  # noqa: PLC0415 - the one that was chosen, no other

        return OpenAIEmbedder(
            model,
            url=servers.openai_url,
            allow_remote=servers.allow_remote,
            seconds=servers.timeout,
            connect_seconds=servers.connect_timeout,
            options=options,
        )
    from omnimemory.embedders.ollama import OllamaEmbedder  # noqa: PLC0415 - as above

    return OllamaEmbedder(
        model,
        host=servers.ollama_url,
        allow_remote=servers.allow_remote,
        allow_cloud=servers.allow_cloud,
        keep_alive=_keep_alive(settings, "keep_alive"),
        index_keep_alive=_keep_alive(settings, "index_keep_alive"),
        model_options=_model_options(settings),
        seconds=servers.timeout,
        connect_seconds=servers.connect_timeout,
        options=options,
    )


def _options(settings: Settings, model: str) -> ServedOptions:
    servers, known = settings.servers, known_name(model)
    return ServedOptions(
        dim=settings.embedding.dim,
        dims=known.dims,
        force_dim=servers.force_dim,
        prompts={
            "document": known.document if servers.document_prompt is None else servers.document_prompt,
            "query": known.query if servers.query_prompt is None else servers.query_prompt,
        },
        max_tokens=servers.max_tokens,
        batch_size=servers.batch_size,
        folder=servers.path,
        patience=Patience(tries=servers.tries, longest=servers.longest_wait),
    )


def _keep_alive(settings: Settings, key: str) -> KeepAlive:
    try:
        return keep_alive_value(getattr(settings.servers, key))
    except ConfigError as error:
        raise ConfigError(f"{settings.origin(f'servers.{key}')}: servers.{key}: {error}") from None


def _model_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for entry in settings.servers.options:
        name, sign, value = entry.partition("=")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            raise ConfigError(
                f"{settings.origin('servers.options')}: {entry!r:.80} in servers.options is not NAME=VALUE (a number, "
                "true or false): num_ctx=8192, for example."
            )
    return options
