"""Which rows of a catalog are to be forgotten, and by which hashes they are known again elsewhere.

The catalog may be the store's own or that of a backup: both are read through the same few queries. Text is matched
in Python, where a pattern means the same as everywhere else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from omnimemory.forgetting.criteria import Criteria
from omnimemory.forgetting.report import ForgottenItem
from omnimemory.storage.tombstones import Tombstones

__all__ = ["Blocks", "Selection", "select"]

Blocks = Callable[[str, Sequence[Any], int], Iterable[list[tuple[Any, ...]]]]
"""Runs a query and gives its rows in lists of a size, as :meth:`Catalog.blocks` does."""

_BLOCK = 1000


@dataclass(slots=True)
class Selection:
    """Rows by table: ``chunks``, ``events``, ``commands`` that go with all their events, and whole ``sources``.

    ``stones`` are the hashes of all of them; ``items`` are for showing, the first ``limit`` of ``found`` ones.
    """

    limit: int = 0
    chunks: list[int] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    stones: set[bytes] = field(default_factory=set)
    found: int = 0
    items: list[ForgottenItem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.chunks or self.commands or self.events or self.sources)

    def show(self, item: ForgottenItem) -> None:
        """Note something that can be shown."""
        self.found += 1
        if len(self.items) < self.limit:
            self.items.append(item)


def select(blocks: Blocks, criteria: Criteria, stones: Tombstones, *, limit: int = 0) -> Selection:
    """Return what fits all criteria in one catalog; up to ``limit`` of it as items to show."""
    selection = Selection(limit)
    if criteria.wants("documents"):
        _select_chunks(blocks, criteria, stones, selection)
    if criteria.wants("commands"):
        choose = _select_events if criteria.picks_events else _select_commands
        choose(blocks, criteria, stones, selection)
    if criteria.takes_whole_sources:
        _select_sources(blocks, criteria, stones, selection)
    return selection


def _rows(blocks: Blocks, query: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    for block in blocks(query, parameters, _BLOCK):
        yield from block


def _select_chunks(blocks: Blocks, criteria: Criteria, stones: Tombstones, selection: Selection) -> None:
    wanted = None if criteria.ids is None else criteria.ids["documents"]
    for row, public, text, heading, metadata, uri in _rows(
        blocks,
        "SELECT c.id, c.chunk_id, c.text, c.heading, c.metadata, s.uri FROM chunks c JOIN sources s "
        "ON s.id = c.source_id ORDER BY c.id",
    ):
        if (wanted is not None and public not in wanted) or not _is_at(uri, criteria.source):
            continue
        if criteria.contains is not None and not _holds(criteria.contains, text, heading, metadata):
            continue
        selection.chunks.append(row)
        selection.stones.add(stones.chunk(uri, text))
        if criteria.contains is not None:
            lines = text.splitlines()
            selection.stones |= {stones.line(uri, line) for line in lines if criteria.contains(line)}
        selection.show(ForgottenItem("documents", public, text, uri))


def _holds(contains: Callable[[str], bool], text: str, heading: str, metadata: str) -> bool:
    """Return whether a chunk holds the pattern in its text, its heading or its metadata."""
    return contains(text) or (bool(heading) and contains(heading)) or any(map(contains, _texts(json.loads(metadata))))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(member)


def _select_commands(blocks: Blocks, criteria: Criteria, stones: Tombstones, selection: Selection) -> None:
    """Choose commands as such: they go with every event, wherever it is from."""
    for row, public, text, count in _rows(
        blocks,
        "SELECT c.id, c.command_id, c.text, (SELECT count(*) FROM events e WHERE e.command_row = c.id) FROM commands c "
        "ORDER BY c.id",
    ):
        if _fits_command(criteria, public, text):
            selection.commands.append(row)
            selection.stones.add(stones.command(text))
            selection.show(ForgottenItem("commands", public, text, events=count))


def _fits_command(criteria: Criteria, public: str, text: str) -> bool:
    if criteria.ids is not None and public not in criteria.ids["commands"]:
        return False
    return criteria.contains is None or criteria.contains(text)


def _select_events(blocks: Blocks, criteria: Criteria, stones: Tombstones, selection: Selection) -> None:
    """Choose single executions; the commands that are left without any go with them."""
    fits: dict[int, bool] = {}
    chosen: Counter[tuple[int, str, str]] = Counter()
    for event, row, timestamp, cwd, public, text, uri in _rows(
        blocks,
        "SELECT e.id, e.command_row, e.timestamp, e.cwd, c.command_id, c.text, s.uri FROM events e "
        "JOIN commands c ON c.id = e.command_row JOIN sources s ON s.id = e.source_id "
        "WHERE (? IS NULL OR e.timestamp >= ?) AND (? IS NULL OR e.timestamp < ?) ORDER BY e.id",
        (criteria.after, criteria.after, criteria.before, criteria.before),
    ):
        if row not in fits:
            fits[row] = _fits_command(criteria, public, text)
        if fits[row] and _is_at(uri, criteria.source) and _is_at(cwd, criteria.cwd):
            selection.events.append(event)
            selection.stones.add(stones.event(uri, timestamp, text))
            chosen[row, public, text] += 1
    for (_, public, text), count in chosen.items():
        selection.show(ForgottenItem("commands", public, text, events=count))


def _select_sources(blocks: Blocks, criteria: Criteria, stones: Tombstones, selection: Selection) -> None:
    kinds = {"history": "commands", "file": "documents", "notes": "documents"}
    for row, uri, kind in _rows(blocks, "SELECT id, uri, kind FROM sources ORDER BY id"):
        if kinds.get(kind) in criteria.kinds and _is_at(uri, criteria.source):
            selection.sources.append(row)
            if kind != "notes":  # whoever writes a note wants it kept
                selection.stones.add(stones.source(kind, uri))


def _is_at(place: str | None, names: tuple[str, ...] | None) -> bool:
    """Return whether a place is one of these, or below one."""
    if names is None:
        return True
    return place is not None and any(place == name or place.startswith(f"{name.rstrip('/')}/") for name in names)
