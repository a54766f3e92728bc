"""NVIDIA cards that are not here: what stands in for ``pynvml``."""

from __future__ import annotations

from types import SimpleNamespace


class NVMLError_LibraryNotFound(Exception):  # noqa: N801, N818 - the name that nvidia-ml-py gives it
    pass


class Cards:
    """Answers like pynvml for cards of (total, free) bytes; an exception in their place is raised."""

    def __init__(self, *cards, broken=None):
        self.cards, self.broken, self.opened = cards, broken, 0

    def nvmlInit(self):  # noqa: N802 - as above
        if self.broken is not None:
            raise self.broken
        self.opened += 1

    def nvmlShutdown(self):  # noqa: N802 - as above
        self.opened -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802 - as above
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802 - as above
        return self.cards[number]

    def nvmlDeviceGetMemoryInfo(self, card):  # noqa: N802 - as above
        if isinstance(card, Exception):
            raise card
        return SimpleNamespace(total=card[0], free=card[1], used=card[0] - card[1])
