"""Run by the tests: an ingest in a process whose data (heap, arenas, stacks) may grow by so many MiB and no more.

``scheduled`` ingests as everybody does; ``blind`` with a scheduler that is told there is plenty; ``bare`` hands the
same texts to the model at once. Prints what happened as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.memory import Memory
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

PLENTY = Available(1 << 40, "a test", 1 << 41)
PAGE = resource.getpagesize()


def data_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[5]) * PAGE


def limit_growth(mib: int) -> int:
    limit = data_bytes() + (mib << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit


def main(mode: str, folder: Path, history: Path, mib: int) -> dict:
    values = {
        "store.path": folder / "store",
        "memory.learned": folder / "learned.sqlite3",
        "cache.enabled": False,
        "index.enabled": False,
        "embedding.batch_size": 100_000,
        "memory.reserve": 8 << 20,
    }
    lines = history.read_text().splitlines()
    with Memory(settings=Settings().with_values(values), embedder=StaticEmbedder()) as memory:
        memory.embeddings.embed_batch(lines[:2000], use_cache=False)  # the model is loaded, its table widened
        if mode == "blind":
            memory.embeddings.scheduler = Scheduler(reserve=0, probe=lambda: PLENTY)
        limit = limit_growth(mib)
        if mode == "bare":
            memory.embeddings.embedder.embed(lines, "document")
        report = memory.ingest_history(history, shell="bash")
        return {
            "limit": limit,
            "data": data_bytes(),
            "added": report.added,
            "embedded": report.embedded,
            "pending": report.pending,
            "batches": [(d.action, d.items) for d in memory.embeddings.scheduler.log()][1:],
            "learned": memory.status()["learned"],
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))
