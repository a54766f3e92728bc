"""Maintenance of what was run: what is older than it is to be kept, what came twice, what is derived of neither.

Nothing that was run is deleted unless ``history.keep_days`` says after how long, and then it is forgotten as by
``forget``: from backups too, and the next ingest does not bring it back. What has no time has no age, and stays. How
much an execution counts in predictions fades anyway; nothing has to be deleted for that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

from omnimemory.care.outcome import Deed, Task
from omnimemory.config import Settings
from omnimemory.forgetting.criteria import Criteria
from omnimemory.forgetting.forget import forget_matching
from omnimemory.forgetting.removal import correct_state
from omnimemory.ingest.twins import stored_twins
from omnimemory.procedure.stored_steps import stale_steps, store_steps
from omnimemory.storage.steps import clear_steps
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import count_updates

__all__ = ["history_tasks"]

_DAY = 86_400.0
_PART = 500


def history_tasks(store: Store, settings: Settings) -> Iterator[Task]:
    """Yield what there is to do, each with its true count."""
    history = settings.history
    stale = stale_steps(store, history.session_gap, history.sequence_decay, history.steps)
    made = (stale.transitions_added + stale.sequences_added, stale.transitions_removed + stale.sequences_removed)
    if any(made):
        deed = Deed("steps", sum(made), f"transitions and sequences brought in line: {made[0]:,} new, {made[1]:,} gone")
        yield Task(deed, 0, lambda: _bring_in_line(store, settings))
    twins = stored_twins(store.catalog)
    if twins:
        deed = Deed("history", len(twins), "executions that another source tells more of removed")
        yield Task(deed, 0, lambda: _remove_twins(store, settings, twins))
    if history.keep_days is not None:
        before = time.time() - history.keep_days * _DAY
        old = int(store.catalog.value("SELECT count(*) FROM events WHERE timestamp < ?", (before,)))
        if old:
            deed = Deed("history", old, f"executions of more than {history.keep_days:g} days ago forgotten")
            criteria = Criteria(kinds=("commands",), before=before)
            yield Task(deed, 0, lambda: forget_matching(store, settings, criteria))


def _bring_in_line(store: Store, settings: Settings) -> None:
    history = settings.history
    store_steps(store, history.session_gap, history.sequence_decay, history.steps)
    store.drain()


def _remove_twins(store: Store, settings: Settings, events: Sequence[int]) -> None:
    with store.catalog.transaction() as sql:
        sources: set[int] = set()
        for start in range(0, len(events), _PART):
            gone = sql.execute(
                "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?)) RETURNING source_id",
                (json.dumps(events[start : start + _PART]),),
            )
            sources.update(source for (source,) in gone.fetchall())
        for source in sources:
            correct_state(sql, source, forgotten=False)
        clear_steps(sql)
        count_updates(sql, store.commands.collection)
    _bring_in_line(store, settings)
