"""``startup``: what a cold process costs, against the least one can cost.

``--help`` and ``import omnimemory`` against ``python -c pass``; a search in a store of 20,000 commands,
whole process and with a question never asked before, against merely importing chromadb. "Cold" is a new
process: files are in the page cache and compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.children import ROOT, environment, in_child
from benchmarks.history import NEW, write_history
from benchmarks.options import Options
from benchmarks.table import Row, at_most, compared
from benchmarks.timing import Cost, interleave, run_program, say

__all__ = ["fill", "run"]

QUESTION = "undo the last {} commits"


def run(options: Options) -> Iterator[Row]:
    """Compare, with each program run in turn."""
    size = options.size(20_000, 300, options.rows)
    say(f"startup: a store of {size:,} commands")
    history = options.work / "startup_history"
    write_history(history, int(size / NEW))
    count = in_child("benchmarks.startup:fill", options.work, folder=str(options.work), history=str(history))
    programs = {
        "nothing": ["-c", "pass"],
        "import": ["-c", "import omnimemory"],
        "help": ["-m", "omnimemory", "--help"],
        "chromadb": ["-c", "import chromadb"],
        "search": ["-m", "omnimemory", "search", QUESTION, "--kind", "commands"],
        "keyword": ["-m", "omnimemory", "search", QUESTION, "--kind", "commands", "--mode", "keyword"],
    }
    actions = {name: partial(_once, options.work, arguments) for name, arguments in programs.items()}
    for action in actions.values():
        action(-1)  # the first run of all compiles and reads from disk
    costs = interleave(options.turns(15), actions)
    pairs = (
        ("omnimemory --help", "help", "nothing", "python -c pass", 6.0),
        ("import omnimemory", "import", "nothing", "python -c pass", None),
        (f"cold search in {count:,} commands", "search", "chromadb", "import chromadb", 0.4),
        (f"cold keyword search in {count:,} commands", "keyword", "chromadb", "import chromadb", None),
    )
    for what, ours, limit, name, most in pairs:
        row = compared("startup", what, costs[ours], costs[limit], name)
        assert row.ratio is not None
        yield row if most is None else at_most(row, most, row.ratio.median)


def _once(work: Path, arguments: list[str], number: int) -> Cost:
    # A question asked before would find its vector in the cache and spare the model.
    asked = [QUESTION.format(number) if argument == QUESTION else argument for argument in arguments]
    places = {
        "OMNIMEMORY_STORE": str(work / "startup-store"),
        "OMNIMEMORY_CACHE_PATH": str(work / "startup-cache"),
        "OMNIMEMORY_CONFIG": "",
    }
    return run_program([sys.executable, *asked], cwd=ROOT, environment={**environment(work), **places})


def fill(folder: str, history: str) -> int:
    """Ingest a history and return how many commands it has."""
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    values = {"store.path": Path(folder, "startup-store"), "cache.path": Path(folder, "startup-cache")}
    with Memory(settings=Settings().with_values(values)) as memory:
        memory.ingest_history(history, shell="zsh")
        return memory.store.commands.count()
