"""The parts of a memory, made from settings."""

from __future__ import annotations

from omnimemory.config import Settings
from omnimemory.embedders.base import Embedder
from omnimemory.embedding_costs import use_budget
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError
from omnimemory.model_choice import choose_embedder
from omnimemory.scheduler.learned import Learned
from omnimemory.scheduler.loadable import Loadable
from omnimemory.scheduler.observation import Observer
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.scheduling import scheduler_of
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.drain import DrainOptions, StoreOptions

__all__ = ["embedding_cache", "embedding_service", "redactor_of", "store_options"]


def embedding_service(
    settings: Settings, embedder: Embedder | None, scheduler: Scheduler | None = None
) -> EmbeddingService:
    """Return ``embedder``, or the model that the settings name, behind a cache and a scheduler."""
    observer = Observer(Learned(settings.memory.learned)) if settings.memory.learn else None
    used = choose_embedder(settings) if embedder is None else embedder
    if observer is not None and embedder is None:
        use_budget(used, observer.learned)
    return EmbeddingService(
        used,
        cache=embedding_cache(settings),
        scheduler=_with_neighbours(scheduler_of(settings), settings) if scheduler is None else scheduler,
        batch_size=settings.embedding.batch_size,
        profiles=_profiles(settings),
        observer=observer,
        sequence_decay=settings.history.sequence_decay,
    )


def _with_neighbours(scheduler: Scheduler, settings: Settings) -> Scheduler:
    def neighbours() -> list[Loadable]:
        from omnimemory.served_residency import OllamaModels  # noqa: PLC0415 - only when memory is short

        return OllamaModels(settings).neighbours()

    scheduler.neighbours = neighbours
    return scheduler


def _profiles(settings: Settings) -> dict[str, int]:
    found = {}
    for entry in settings.embedding.profiles:
        name, _, size = (part.strip() for part in entry.partition("="))
        if not name or not size.isascii() or not size.isdigit() or int(size) < 1:
            origin = settings.origin("embedding.profiles")
            raise ConfigError(
                f"{origin}: {entry!r:.80} in embedding.profiles is not NAME=SIZE: phone=128, for example."
            )
        found[name] = int(size)
    return found


def embedding_cache(settings: Settings) -> EmbeddingCache | None:
    """Return the cache of vectors, ``None`` if it is switched off. Nothing is made before something is put."""
    if not settings.cache.enabled:
        return None
    return EmbeddingCache(
        settings.cache.path, size_limit=settings.cache.size_limit or None, hot_items=settings.cache.hot_items
    )


def redactor_of(settings: Settings, *, keep_secrets: bool = False) -> Redactor:
    """Return the redactor with the user's own rules. Raises :class:`ConfigError` naming a rule that is wrong."""
    own = settings.redaction
    try:
        return Redactor(enabled=not keep_secrets, deny=own.deny, allow=own.allow)
    except ValueError as error:
        key = f"redaction.{str(error).partition(',')[0]}"
        raise ConfigError(f"{settings.origin(key)}: redaction.{error}") from None


def store_options(settings: Settings) -> StoreOptions:
    """Return how a store is to read and write its index."""
    return StoreOptions(
        drain=DrainOptions(
            batch_size=settings.index.batch_size,
            ef_search=settings.index.ef_search,
            documents=settings.index.documents,
        ),
        index=settings.index.enabled,
        wait=settings.index.wait,
        exact_rows=settings.search.exact_rows,
        idle_seconds=settings.index.idle_seconds,
    )
