"""The models in the memory of an Ollama on this machine: looked at, hinted, and unloaded only where that is allowed.

Ollama schedules by itself. What it holds is read from ``/api/ps`` (main memory is ``size`` minus ``size_vram``); how
long it holds a model is told with every request. A model is unloaded by an empty ``/api/generate`` with ``keep_alive``
0, and gone when ``/api/ps`` no longer lists it. What this package has loaded is noted in a small file; anything else
was loaded by others, and stays unless ``schedule.allow_foreign`` says otherwise.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from omnimemory.config import Settings
from omnimemory.errors import ConfigError, ModelServerError
from omnimemory.model_servers.keep_alive import KeepAlive
from omnimemory.model_servers.ollama import Ollama, ollama_terms
from omnimemory.model_servers.ollama_records import (
    InstalledModel,
    ModelDetails,
    RunningModel,
    canonical_name,
    find_model,
)
from omnimemory.model_servers.patience import Patience
from omnimemory.scheduler.cgroups import ABSURD
from omnimemory.scheduler.loadable import Loadable

__all__ = ["OllamaModels"]

_PREFIX = "ollama:"
_QUICK = Patience(tries=1)
_BESIDE = 200 << 20  # what a runner takes beside the weights: context and computation; a prior


class OllamaModels:
    """The models of the Ollama server that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ours = _OurModels(settings.schedule.folder)

    @property
    def is_here(self) -> bool:
        """Whether the server uses the memory of this machine."""
        servers = self._settings.servers
        return ollama_terms(servers.ollama_url, allow_remote=True).address.is_loopback

    @property
    def url(self) -> str:
        """The server's address."""
        return ollama_terms(self._settings.servers.ollama_url, allow_remote=True).address.url

    def running(self) -> list[RunningModel]:
        """Return what is in the server's memory. Raises :class:`ModelServerError`."""
        with self._client() as client:
            found = client.ps()
        self._ours.keep_only(client.url, found)
        # A size that cannot be is no size: nothing is counted on that it would give back.
        return [one if one.total_bytes < ABSURD else replace(one, total_bytes=0, vram_bytes=0) for one in found]

    def installed(self) -> list[InstalledModel]:
        """Return what the server has on its disk. Raises :class:`ModelServerError`."""
        with self._client() as client:
            return client.tags()

    def details(self, name: str) -> ModelDetails:
        """Return what a model is. Raises :class:`ModelServerError`."""
        with self._client() as client:
            return client.show(name)

    def is_ours(self, model: RunningModel) -> bool:
        """Return whether this package loaded it."""
        with self._client() as client:
            return self._ours.has(client.url, model.name)

    def keep(self, name: str, keep_alive: KeepAlive) -> RunningModel:
        """Tell the server how long to keep a model, loading it if it is not there."""
        with self._client() as client:
            was_there = client.is_loaded(name)
            found = client.load(name, keep_alive=keep_alive)
            if not was_there:
                self._ours.add(client.url, name)
            return found

    def neighbours(self) -> list[Loadable]:
        """Return the models that may go when memory is short here; none if the server does not answer quickly."""
        allowed = self._settings.schedule.allow_foreign
        if not (allowed or self._ours.any()) or not self.is_here:
            return []
        with suppress(ModelServerError, ConfigError):
            return [self.loadable(model.name) for model in self.running() if allowed or self.is_ours(model)]
        return []

    def loadable(self, name: str, *, keep_alive: KeepAlive | None = None) -> Loadable:
        """Return how a model is loaded and unloaded. Raises :class:`ModelNotFoundError`, :class:`ModelServerError`."""
        short = canonical_name(name.removeprefix(_PREFIX))
        with self._client() as client:
            running, installed = find_model(self.running(), short), find_model(client.tags(), short)
            if installed is None and running is None:
                client.show(short)  # raises, and names what there is
        seen = _Seen(running is not None)
        size = running.ram_bytes if running is not None else installed.disk_bytes + _BESIDE if installed else 0
        foreign = running is not None and not self.is_ours(running) and not self._settings.schedule.allow_foreign

        def load() -> None:
            keep = keep_alive if keep_alive is not None else self._settings.servers.keep_alive
            self.keep(short, keep)
            seen.there = True

        def unload() -> int:
            with self._client() as client:
                done = client.unload(short, wait=min(30.0, max(1.0, self._settings.schedule.wait)))
                self._ours.keep_only(client.url, client.ps())
            seen.there = False
            return done.freed_bytes

        measured = 9 if running is not None else 0
        # Where a card has room the server uses that, and main memory for what has none.
        return Loadable(
            _PREFIX + short,
            seen,
            load,
            unload,
            lambda: (size, measured),
            size,
            served=True,
            foreign=foreign,
            pools=("gpu", "ram"),
        )

    @contextmanager
    def _client(self) -> Iterator[Ollama]:
        servers = self._settings.servers
        client = Ollama(
            servers.ollama_url,
            allow_remote=servers.allow_remote,
            allow_cloud=servers.allow_cloud,
            seconds=servers.timeout,
            connect_seconds=servers.connect_timeout,
            patience=_QUICK,
        )
        with closing(client):
            yield client


class _Seen:
    """Whether a model was there when the server was last asked: the scheduler asks often, the server is not."""

    def __init__(self, there: bool) -> None:
        self.there = there

    def __call__(self) -> bool:
        return self.there


class _OurModels:
    """The file that notes which models of which servers this package has loaded; names only."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "loaded.json"

    def any(self) -> bool:
        return bool(self._read())

    def has(self, server: str, model: str) -> bool:
        return canonical_name(model) in self._read().get(server, [])

    def add(self, server: str, model: str) -> None:
        self._change(server, lambda names: [*{*names, canonical_name(model)}])

    def keep_only(self, server: str, running: list[RunningModel]) -> None:
        """Forget what is gone: who loads it next may be somebody else."""
        there = {canonical_name(model.name) for model in running}
        if not set(self._read().get(server, [])) <= there:
            self._change(server, lambda names: [name for name in names if name in there])

    def _read(self) -> dict[str, list[str]]:
        try:
            told = json.loads(self._path.read_text("utf-8"))
            return {str(server): [str(name) for name in names] for server, names in told.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _change(self, server: str, change: Callable[[list[str]], list[str]]) -> None:
        with suppress(OSError):  # then they count as others', and stay
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self._path, flags, 0o600), "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                found = self._read()
                found[server] = sorted(change(found.get(server, [])))
                file.truncate(0)
                file.write(json.dumps({name: models for name, models in found.items() if models}))
