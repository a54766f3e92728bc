"""Changes in batches: as many texts as go to the model together, and what it is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from omnimemory.ingest.tally import Change
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.items import ItemTable
from omnimemory.storage.store import Store

__all__ = ["ChangeBatch", "in_batches", "masked"]


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes to be embedded and committed together; ``is_last`` when it is known that none follow.

    ``texts`` are those of all changes, in order, and ``shown`` tells which of them the model is to see in another form.
    One that ``goes_ahead`` is committed while the model works on it, and gets its vectors then.
    """

    changes: Sequence[Change]
    is_last: bool
    texts: list[str]
    shown: Mapping[str, str]
    goes_ahead: bool = False

    @classmethod
    def of(cls, store: Store, changes: Sequence[Change], *, is_last: bool, goes_ahead: bool = False) -> ChangeBatch:
        """Return the batch of these changes."""
        texts = [text for change in changes for text in change.texts]
        return cls(changes, is_last, texts, masked(store, ((c.table, c.texts) for c in changes)), goes_ahead)


def in_batches(
    store: Store, changes: Iterable[Change], size: Callable[[], int], *, least_ahead: int | None = None
) -> Iterator[ChangeBatch]:
    """Yield the changes in batches of about ``size`` texts.

    With ``least_ahead`` the last one goes ahead if it has so many texts, and events behind them. So that they come
    together, a batch is held back until it is known what follows it; the first is not, because the model waits for it.
    """
    batch: list[Change] = []
    texts, holds_back = 0, False
    for change in changes:
        if holds_back and texts >= size() and change.texts:
            yield ChangeBatch.of(store, batch, is_last=False)
            batch, texts = [], 0
        batch.append(change)
        texts += len(change.texts)
        if not holds_back and texts >= size():
            yield ChangeBatch.of(store, batch, is_last=False)
            batch, texts, holds_back = [], 0, least_ahead is not None
    if batch:
        ahead = holds_back and least_ahead is not None and texts >= least_ahead
        ahead = ahead and getattr(batch[-1], "may_go_ahead", False)
        yield ChangeBatch.of(store, batch, is_last=True, goes_ahead=ahead)


def masked(store: Store, parts: Iterable[tuple[ItemTable, Sequence[str]]]) -> dict[str, str]:
    """Return the commands that the model is to see in another form: with what may be a secret masked."""
    redactor, commands = Redactor(), store.commands.collection.id
    texts = (text for table, part in parts if table.collection.id == commands for text in part)
    return {text: shown for text in texts if (shown := redactor.embeddable(text)) != text}
