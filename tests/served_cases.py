"""What the tests of server embedders share: an embedder that loses no time, a service on it, and what is right."""

from dataclasses import replace

import numpy as np
from fake_ollama import word_vector

from omnimemory.embedders.ollama import OllamaEmbedder
from omnimemory.embedders.served import ServedOptions
from omnimemory.embedding_service import EmbeddingService
from omnimemory.model_servers.patience import Patience
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.storage.cache import EmbeddingCache

QUICK = ServedOptions(patience=Patience(first=0.001, longest=2.0))


def ollama(server, model="tiny", *, seconds=10.0, **options):
    own = {name: options.pop(name) for name in list(options) if name in ServedOptions.__dataclass_fields__}
    return OllamaEmbedder(
        model, host=server.url, seconds=seconds, seconds_per_text=0.0, options=replace(QUICK, **own), **options
    )


def service(embedder, folder=None, batch_size=512):
    available = Available(4 << 30, "a test", 8 << 30)
    cache = None if folder is None else EmbeddingCache(folder)
    return EmbeddingService(
        embedder, cache=cache, scheduler=Scheduler(reserve=0, probe=lambda: available), batch_size=batch_size
    )


def wrong(texts, found, vector=word_vector):
    """Return the texts whose vector is not theirs; those without one have to be all zeros."""
    right = []
    for index, (text, row) in enumerate(zip(texts, found.vectors, strict=True)):
        without = index in found.left or index in found.unembeddable
        expected = np.zeros(len(row)) if without else np.asarray(vector(text))
        right.append(np.abs(row - expected).max() < 1e-6)
    return [text for text, is_right in zip(texts, right, strict=True) if not is_right]


def stored_wrong(embeddings, texts, vector=word_vector):
    """Return how many texts have a vector in the cache, and those of them that have a wrong one."""
    vectors, known = embeddings.cache.get_many(
        embeddings.embedder.fingerprint, "document", embeddings.embedder.dim, texts
    )
    bad = [
        text
        for text, row, has in zip(texts, vectors, known, strict=True)
        if has and np.abs(row - np.asarray(vector(text))).max() > 1e-6
    ]
    return int(known.sum()), bad
