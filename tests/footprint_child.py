"""Run by the tests: batches of many sizes through MiniLM in a fresh process, measured against what was learned.

Prints, for each batch, the peak of the process over what it held before the model was loaded, and what was predicted
for the model and the largest batch so far, in bytes.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from omnimemory.embedders.installed import find_installed
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedding_costs import learned_key
from omnimemory.embedding_service import EmbeddingService
from omnimemory.scheduler.learned import Learned, Shape
from omnimemory.scheduler.observation import Observer
from omnimemory.scheduler.own_memory import PeakSampler, held
from omnimemory.scheduler.scheduler import Scheduler

WORDS = "git commit undo the last change of a file in this folder and push it to the server".split()  # noqa: SIM905


def main(models: Path, file: Path, seed: int, *, learn: bool) -> list[tuple[int, int, int]]:
    model = find_installed(models, "minilm")
    assert model is not None
    embedder = OnnxEmbedder.of_installed(model)
    learned = Learned(file)
    service = EmbeddingService(
        embedder, cache=None, scheduler=Scheduler(), observer=Observer(learned) if learn else None
    )
    key, rng, idle = learned_key(embedder), random.Random(seed), held().private
    loading = learned.predict(key, Shape(0, 0, embedder.footprint().base))
    found, peak, fit = [], 0, 0
    for number in range(20):
        count = rng.choice((24, 48, 96, 128))
        texts = [f"{' '.join(rng.choices(WORDS, k=14))} {number} {n}" for n in range(count)]
        fit = max(fit, learned.predict(key, service._costs.of(texts).shape))
        with PeakSampler() as sampler:
            service.embed_batch(texts)
        peak = max(peak, sampler.peak - idle)
        found.append((count, peak, loading + fit))
    service.close()
    return found


if __name__ == "__main__":
    models, file, seed, learn = sys.argv[1:]
    sys.stdout.write(json.dumps(main(Path(models), Path(file), int(seed), learn=learn == "learn")))
