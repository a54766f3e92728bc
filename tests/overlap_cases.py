"""A model that is said to work aside, and can be held up."""

from __future__ import annotations

import threading

from omnimemory.embedders.static import StaticEmbedder

SMALL = {"embedding.batch_size": 8}


class Aside(StaticEmbedder):
    """The static model, said to work outside of Python's lock; ``first`` runs before each batch of documents."""

    works_aside = True

    def __init__(self, first=lambda _: None):
        super().__init__()
        self._first = first
        self.batches = 0

    def embed(self, texts, role):
        if role == "document":
            self.batches += 1
            self._first(self.batches)
        return super().embed(texts, role)


def beside():
    """Return the names of the threads that an ingest has."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith(("omnimemory-read", "omnimemory-store")))
