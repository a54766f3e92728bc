"""Which models are in memory, which could be, and how they come and go: ``memory.models``.

A name is that of a model of this process (``onnx:all-MiniLM-L6-v2@int8``, or ``minilm``), or ``ollama:NAME`` for one of
an Ollama server. A model is never loaded where there is no memory for it, with force neither: force only lets idle
models go that would have stayed.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from omnimemory.config import Settings
from omnimemory.embedding_costs import Costs
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import (
    ConfigError,
    EmbedderError,
    MemoryBudgetError,
    MissingExtraError,
    ModelServerError,
    OmniMemoryError,
)
from omnimemory.loaded_model import LoadedModel
from omnimemory.model_choice import choose_embedder
from omnimemory.model_servers.keep_alive import keep_alive_seconds
from omnimemory.model_servers.ollama_records import canonical_name
from omnimemory.scheduler.decision import Decision
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.loadable import Loadable, Unloaded, trim
from omnimemory.served_residency import OllamaModels

if TYPE_CHECKING:
    from omnimemory.recommending.recommend import Candidate, Recommendation

__all__ = ["LoadedModel", "ResidentModels"]

_OLLAMA = "ollama:"
_BESIDE = 200 << 20  # what a runtime takes beside the weights; a prior, for models that are not here yet


class ResidentModels:
    """Loads, unloads and lists models. ``service`` is what a memory embeds with. Safe for several threads."""

    def __init__(self, settings: Settings, service: EmbeddingService) -> None:
        self._settings = settings
        self.service = service
        self._scheduler = service.scheduler
        self._residency = service.scheduler.residency
        self._ollama = OllamaModels(settings)

    # -- asking

    def can_load(self, name: str, *, force: bool = False) -> tuple[bool, str]:
        """Return whether a model could be loaded now, and why (not). Asks a server only about its own models."""
        if name.startswith("openai:"):
            return True, f"{name} runs on its server: nothing is loaded here"
        try:
            model = self._find(name)
        except OmniMemoryError as error:
            return False, str(error)
        if model.is_loaded():
            return True, f"{model.name} is loaded"
        if model.name.startswith("mlx:") and importlib.util.find_spec("mlx") is None:
            return False, str(MissingExtraError("Embedding with MLX", "mlx"))
        if model.served and not self._ollama.is_here:
            return True, f"{model.name} runs on another machine: it takes no memory of this one"
        decision = self._scheduler.plan(_request(model), may_evict=force)
        return decision.runs or decision.action == "evict", decision.reason

    def plan(self, name: str = "", items: int = 1, tokens: int = 256) -> Decision:
        """Return what would be decided about a batch of ``items`` texts of so many tokens; nothing is promised."""
        model = self._find(name)
        base = 0 if model.is_loaded() else model.need()[0]
        if model.name != self.service.embedder.name:
            return self._scheduler.plan(replace(_request(model), base=base))
        costs = Costs(self.service.embedder, self.service.observer)
        return self._scheduler.plan(costs.request(costs.of(["x" * tokens] * items), stored=True))

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory, of this process and of Ollama; those of a server that is down are left out."""
        return [*self._here(), *self._served()]

    def elsewhere(self) -> list[LoadedModel]:
        """Return the models that other processes of this user say they hold, a second after they were loaded."""
        from omnimemory.scheduler.presence import present  # noqa: PLC0415 - rare

        found = present(self._settings.schedule.folder)
        return [LoadedModel.of_process(one, time.time()) for one in found if one["pid"] != os.getpid()]

    def available(self) -> list[dict[str, Any]]:
        """Return the models that are on this machine and whether each could be loaded now, as JSON-ready data."""
        found = []
        for name in dict.fromkeys(self._names()):
            can, reason = self.can_load(name)
            found.append({"name": name, "can_load": can, "reason": reason})
        return found

    def status(self) -> dict[str, Any]:
        """Return memory, limits, models in memory and what was unloaded, as JSON-ready data."""
        state = self._scheduler.status()
        keys = ("profile", "available", "total", "used", "reserve", "outstanding", "leases", "waiting")
        return {
            **{key: state[key] for key in keys},
            "loaded": [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in self.loaded()],
            "unloads": dict(self._residency.unloads),
        }

    def recommend(self, question: str | None = None, *, level: str | None = None) -> Recommendation:
        """Return which embedding model suits this machine now, and with a question which chat model suits that.

        ``level`` (low, medium, high) overrides how hard the question looks. What :meth:`can_load` would refuse stands
        last. Raises :class:`ConfigError` for another level and for a damaged table of models.
        """
        from omnimemory.recommending.candidates import known_candidates, served_candidates  # noqa: PLC0415 - rare
        from omnimemory.recommending.recommend import recommend  # noqa: PLC0415 - rare

        notes: list[str] = []
        found = [*known_candidates(self._settings), *served_candidates(self._settings, notes)]
        return recommend(found, self._would_fit, question, level=level, notes=tuple(notes))

    def _would_fit(self, candidate: Candidate) -> tuple[bool, str]:
        if candidate.ready:
            return self.can_load(candidate.name)
        decision = self._scheduler.plan(Request(candidate.name, 1, candidate.bytes + _BESIDE, 0))
        return decision.runs, decision.reason

    # -- loading

    def load(self, name: str = "", *, force: bool = False, keep_alive: float | str | None = None) -> LoadedModel:
        """Load a model (this memory's own if no name is given) and return it once it is there.

        Models whose keep-alive has run out go for it; with ``force`` other idle ones as well. Raises
        :class:`MemoryBudgetError` with the reason when there is no memory, :class:`ConfigError` for an unknown name,
        :class:`EmbedderError` when loading fails.
        """
        model = self._find(name, keep_alive)
        self._know(model)
        if not model.is_loaded():
            if model.served and not self._ollama.is_here:
                model.load()
            else:
                with self._scheduler.lease(_request(model), may_evict=force):
                    model.load()
        elif model.served and keep_alive is not None:
            model.load()
        if keep_alive is not None and not model.served:
            self._residency.set_keep_alive(model.name, keep_alive_seconds(keep_alive))
        found = next((one for one in self.loaded() if one.name == model.name), None)
        if found is None:
            raise EmbedderError(f"{model.name} was loaded and is gone again: it is kept for no time (keep_alive 0).")
        return found

    def preload(self, name: str = "") -> bool:
        """Load a model if there is room without unloading anything that is still kept; return whether it is there."""
        try:
            self.load(name)
        except (MemoryBudgetError, EmbedderError):
            return False
        return True

    def unload(self, name: str = "", *, foreign: bool = False) -> Unloaded:
        """Unload a model, see that it is gone, and return the bytes that came back.

        Raises :class:`MemoryBudgetError` while it is in use, :class:`ConfigError` for one that others loaded, unless
        ``foreign`` (or ``schedule.allow_foreign``).
        """
        model = self._find(name)
        if not model.is_loaded():
            holders = "" if model.served else ", ".join(one.where for one in self.elsewhere() if one.name == model.name)
            held = f" here: {holders} holds it, and lets it go when it is idle or ends" if holders else ""
            return Unloaded(model.name, 0, f"it was not loaded{held}")
        if model.foreign and not foreign:
            raise ConfigError(
                f"{model.name} was loaded by others, who may be using it: unload it with foreign=True (--foreign), or "
                "set schedule.allow_foreign = true."
            )
        self._know(model._replace(foreign=False))
        done = self._residency.unload(model.name, "asked")
        if done is None:
            raise MemoryBudgetError(f"{model.name} is in use: it cannot be unloaded before its batches have ended.")
        return done

    def unload_idle(self) -> list[Unloaded]:
        """Unload what has been idle for as long as it is kept; return what went."""
        return self._residency.unload_idle()

    def keep(self, name: str = "", keep_alive: float | str = "5m") -> None:
        """Keep a model so long after its last use: seconds, a duration such as "1h30m", 0, or -1 for ever.

        A model of Ollama is loaded if it is not there. Raises :class:`ConfigError` for anything else.
        """
        seconds = keep_alive_seconds(keep_alive)
        model = self._find(name)
        if model.served:
            self._ollama.keep(model.name.removeprefix(_OLLAMA), keep_alive)
        else:
            self._know(model)
            self._residency.set_keep_alive(model.name, seconds)

    def pin(self, name: str = "", *, pinned: bool = True) -> None:
        """Never unload a model of this process by itself, or (``pinned=False``) do so again."""
        model = self._find(name)
        self._know(model)
        self._residency.set_pinned(model.name, pinned=pinned)

    def trim(self) -> int:
        """Give back what nobody uses: garbage, caches, free memory of the C library. Returns the bytes freed."""
        return trim()

    # -- finding

    def _find(self, name: str, keep_alive: float | str | None = None) -> Loadable:
        own = self.service.embedder
        if name.startswith(_OLLAMA) or (not name and own.name.startswith(_OLLAMA)):
            return self._ollama.loadable(name or own.name, keep_alive=keep_alive)
        if not name or name == own.name:
            name = own.name
        known = self._residency.get(name)
        if known is not None:
            return known
        embedder = own if name == own.name else choose_embedder(self._settings.with_values({"embedding.model": name}))
        known = self._residency.get(embedder.name)
        found = known or Costs(embedder, None).loadable()
        if found is None:
            raise ConfigError(f"{embedder.name} is not loaded here: it runs on its server, or takes no memory.")
        return found

    def _know(self, model: Loadable) -> None:
        known = self._residency.get(model.name)
        if known is None or model.served:
            self._residency.know(model, self.service.seat)

    def _here(self) -> Iterator[LoadedModel]:
        now = time.monotonic()
        for entry in self._residency.entries():
            model = self._residency.get(entry.name)
            if model is None or model.served:
                continue
            yield LoadedModel.of_entry(entry, now)

    def _served(self) -> Iterator[LoadedModel]:
        try:
            running = self._ollama.running()
            for model in running:
                left = model.seconds_left(datetime.now(UTC))
                yield LoadedModel(
                    _OLLAMA + canonical_name(model.name),
                    self._ollama.url,
                    model.ram_bytes,
                    model.vram_bytes,
                    ours=self._ollama.is_ours(model),
                    seconds_left=None if left is None or left > 1e9 else left,
                )
        except (ModelServerError, ConfigError):
            return

    def _names(self) -> Iterator[str]:
        yield self.service.embedder.name
        from omnimemory.embedders.installed import installed_models  # noqa: PLC0415 - most users have pulled nothing

        if self._settings.models.path.is_dir():
            own = self.service.embedder.name
            for model in installed_models(self._settings.models.path, damaged={}):
                name = f"{model.card.provider}:{model.card.name}"
                if not own.startswith(f"{name}@"):
                    yield name
        try:
            yield from (_OLLAMA + canonical_name(model.name) for model in self._ollama.installed())
        except (ModelServerError, ConfigError):
            return


def _request(model: Loadable) -> Request:
    need, measured = model.need()
    return Request(model.name, 1, need, 0, measured=measured, pools=model.pools)
