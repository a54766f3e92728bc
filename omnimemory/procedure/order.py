"""Which histories do not tell what followed what, because they keep each command only once."""

from __future__ import annotations

from collections.abc import Callable

from omnimemory.sources.history import is_deduplicated
from omnimemory.storage.catalog import Catalog

__all__ = ["orderless"]

_SOURCES = (
    "SELECT id, json_extract(state, '$.shell'), json_extract(state, '$.deduplicated') FROM sources "
    "WHERE kind = 'history'"
)


def orderless(catalog: Catalog) -> Callable[[int, str | None], bool]:
    """Return what says of an event, by its source and its shell, that its place among the others means nothing.

    An event says which shell ran it; the history it came by may keep more than that shell's own.
    """
    known = {source: (name, bool(once)) for source, name, once in catalog.rows(_SOURCES)}

    def is_orderless(source: int, shell: str | None) -> bool:
        name, once = known.get(source, (None, False))
        return once or is_deduplicated(name or shell)

    return is_orderless
