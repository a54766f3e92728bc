"""Maintenance: what deleted items, old generations and killed processes left behind is given back.

First it is counted, then it is done, so a rehearsal tells the same numbers as the run that follows it.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from omnimemory.care.folder_checks import left_behind
from omnimemory.care.history_tasks import history_tasks
from omnimemory.care.index_checks import WORN_SHARE, held_index, stale_folders, worn_share
from omnimemory.care.outcome import Deed, MaintainReport, Task
from omnimemory.config import Settings
from omnimemory.errors import OmniMemoryError, StoreBusyError
from omnimemory.forgetting.purge import finish
from omnimemory.storage import tidying
from omnimemory.storage.generations import Generations
from omnimemory.storage.store import Store
from omnimemory.storage.store_folder import bytes_under
from omnimemory.storage.tombstones import purges

__all__ = ["maintain"]

_WAIT = 5.0


def maintain(
    store: Store,
    settings: Settings,
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> MaintainReport:
    """Tidy up an open store and the cache; with ``dry_run`` only say what that would be.

    What another process is using is skipped and said. ``progress`` is told the name of each part before it begins.
    """
    began = time.monotonic()
    places = (store.path, settings.cache.path)
    before = sum(map(bytes_under, places))
    tasks = list(_tasks(store, settings))
    done, skipped = ([task.deed for task in tasks], []) if dry_run else _run(tasks, progress)
    freed = sum(task.freed for task in tasks) if dry_run else max(0, before - sum(map(bytes_under, places)))
    seconds = round(time.monotonic() - began, 3)
    return MaintainReport(str(store.path), dry_run, tuple(done), tuple(skipped), freed, seconds)


def _run(tasks: list[Task], progress: Callable[[str], None] | None) -> tuple[list[Deed], list[str]]:
    done, skipped = [], []
    for task in tasks:
        if progress is not None:
            progress(task.deed.part)
        try:
            task.run()
        except StoreBusyError as error:
            skipped.append(f"{task.deed.part}: {error}")
        except (OmniMemoryError, sqlite3.Error, OSError) as error:
            skipped.append(f"{task.deed.part}: {error}")
        else:
            done.append(task.deed)
    return done, skipped


def _tasks(store: Store, settings: Settings) -> Iterator[Task]:
    waiting = len(purges(store.catalog))
    if waiting:
        yield Task(Deed("purges", waiting, "places purged of what was forgotten"), 0, lambda: finish(store, settings))
    yield from history_tasks(store, settings)
    yield from _index_tasks(store)
    drafts = left_behind(store.path)
    if drafts:
        size = sum(path.stat().st_size for path in drafts)
        deed = Deed("leftovers", len(drafts), "unfinished copies of the catalog removed")
        yield Task(deed, size, lambda: _remove(drafts))
    yield from _catalog_tasks(store)
    if settings.cache.enabled:
        yield from _cache_tasks(settings)


def _remove(drafts: list[Path]) -> None:
    for path in drafts:
        path.unlink(missing_ok=True)


def _index_tasks(store: Store) -> Iterator[Task]:
    generations = Generations(store.catalog)
    dead = sum(count for count, _ in generations.tombstones())
    if store.options.index and worn_share(generations) > WORN_SHARE:
        yield Task(Deed("index", dead, "deleted items left out of a new index"), 0, store.rebuild)
    stale = stale_folders(store.path, generations.active())
    if stale:
        deed = Deed("index", len(stale), "folders of old or unfinished indexes removed")
        yield Task(deed, sum(map(bytes_under, stale)), lambda: _remove_stale(store))


def _remove_stale(store: Store) -> None:
    with held_index(store.path, wait=_WAIT):
        generations = Generations(store.catalog)
        active = generations.active()
        for folder in stale_folders(store.path, active):
            shutil.rmtree(folder)
        if active is not None:
            generations.activate(active)  # which forgets all others


def _catalog_tasks(store: Store) -> Iterator[Task]:
    catalog = store.catalog
    segments, slack = tidying.keyword_segments(catalog), tidying.catalog_slack(catalog)
    if segments:
        deed = Deed("keywords", segments, "segments of the keyword indexes merged into others")
        yield Task(deed, 0, lambda: tidying.merge_keywords(catalog))
    if slack.pays:
        deed = Deed("catalog", slack.unused, "unused pages given back")
        yield Task(deed, slack.unused_bytes, lambda: tidying.shrink_catalog(catalog, anew=True))
    if slack.log_bytes or segments or slack.pays:
        deed = Deed("catalog", 1, "log folded into the file")
        yield Task(deed, slack.log_bytes, lambda: tidying.shrink_catalog(catalog, anew=False))


def _cache_tasks(settings: Settings) -> Iterator[Task]:
    folder = settings.cache.path
    slack = tidying.cache_slack(folder)
    if slack.pays:
        deed = Deed("cache", slack.unused, "unused pages given back")
        yield Task(deed, slack.unused_bytes, lambda: tidying.shrink_cache(folder, anew=True))
    elif slack.log_bytes:
        deed = Deed("cache", 1, "log folded into the file")
        yield Task(deed, slack.log_bytes, lambda: tidying.shrink_cache(folder, anew=False))
