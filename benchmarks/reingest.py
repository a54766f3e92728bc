"""``reingest``: the second ingest of the same sources, against the first.

In the same process for the ratio; and in a new process, which must embed nothing, leave every file of the
index as it is, and not even import chromadb.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.corpus import write_documents
from benchmarks.history import write_history
from benchmarks.options import Options
from benchmarks.table import Row, at_least, compared
from benchmarks.timing import Cost, Stopwatch, interleave

__all__ = ["again", "run", "twice"]


def run(options: Options) -> Iterator[Row]:
    """Compare for documents and for a history."""
    sources = {"documents": options.work / "reingest", "commands": options.work / "reingest_history"}
    if options.docs is None:
        write_documents(sources["documents"], options.size(500, 12))
    else:
        sources["documents"] = options.docs.resolve()
    write_history(sources["commands"], options.size(100_000, 400, options.lines))
    actions = {kind: partial(_round, options.work, kind, str(source)) for kind, source in sources.items()}
    for kind, results in interleave(options.turns(), actions).items():
        first, second, fresh = ([Cost(**result[name]) for result in results] for name in ("first", "second", "fresh"))
        count = results[0]["count"]
        row = compared("reingest", f"{count:,} {kind}, same process", first, second, "again")
        assert row.ratio is not None
        yield at_least(row, 50, row.ratio.median)
        row = compared("reingest", f"{count:,} {kind}, new process", first, fresh, "again")
        problems = sorted({problem for result in results for problem in result["problems"]})
        what = "; ".join([row.what, *problems])
        yield replace(row, what=what, target="nothing embedded or written, no chromadb", ok=not problems)


def _round(work: Path, kind: str, source: str, number: int) -> dict[str, Any]:
    folder = work / f"reingest-{kind}-{number}"
    try:
        result: dict[str, Any] = in_child(
            "benchmarks.reingest:twice", work, folder=str(folder), kind=kind, source=source
        )
        before = _files(folder / "store" / "index")
        later = in_child("benchmarks.reingest:again", work, folder=str(folder), kind=kind, source=source)
        problems = list(later["problems"])
        if not before or _files(folder / "store" / "index") != before:
            problems.append("THE INDEX WAS WRITTEN")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**result, "fresh": later["fresh"], "problems": result["problems"] + problems}


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


# -- in processes of their own


def twice(folder: str, kind: str, source: str) -> dict[str, Any]:
    """Ingest twice into one open memory."""
    with _memory(folder) as memory:
        first, report = _ingest(memory, kind, source)
        second, repeated = _ingest(memory, kind, source)
    return {
        "count": report.added,
        "first": {"wall": first.wall, "cpu": first.cpu},
        "second": {"wall": second.wall, "cpu": second.cpu},
        "problems": _problems(repeated),
    }


def again(folder: str, kind: str, source: str) -> dict[str, Any]:
    """Ingest into a store that another process filled; opening and closing it counts."""
    watch = Stopwatch()
    with _memory(folder) as memory:
        _, report = _ingest(memory, kind, source)
    cost = watch.cost()
    problems = _problems(report)
    if "chromadb_rust_bindings" in sys.modules:
        problems.append("CHROMADB WAS IMPORTED")
    return {"fresh": {"wall": cost.wall, "cpu": cost.cpu}, "problems": problems}


def _memory(folder: str) -> Any:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    return Memory(
        settings=Settings().with_values({"store.path": Path(folder, "store"), "cache.path": Path(folder, "cache")})
    )


def _ingest(memory: Any, kind: str, source: str) -> tuple[Cost, Any]:
    watch = Stopwatch()
    report = memory.ingest(source) if kind == "documents" else memory.ingest_history(source, shell="zsh")
    return watch.cost(), report


def _problems(report: Any) -> list[str]:
    changed = ("added", "updated", "deleted", "embedded", "cache_hits", "pending", "events", "failed")
    return [f"{getattr(report, name)} {name.upper()}" for name in changed if getattr(report, name)]
