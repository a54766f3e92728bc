"""``python -m benchmarks NAME``: run a benchmark and print its table."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.history import write_history
from benchmarks.options import Options
from benchmarks.table import Row, print_rows, skipped

NAMES = (
    *("ingest", "reingest", "search", "filter", "cache", "startup", "fusion", "redaction", "schedule", "embed"),
    "quality",
    "ready",
    "procedure",
    "hook",
)


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 when a target was missed."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was measured is shown then, as for Ctrl-C
    if given.name == "history-file":
        write_history(given.path, given.lines, given.seed)
        return 0
    names = NAMES if given.name == "all" else (given.name,)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="omnimemory-benchmarks-") as work:
        options = Options(
            Path(work).resolve(),
            **{key: value for key, value in vars(given).items() if key not in ("name", "json", "path", "seed")},
        )
        try:
            for row in _run(names, options, everything=given.name == "all"):
                rows.append(replace(row, target="", ok=None) if options.quick and row.by_size else row)
                if given.json:
                    print(rows[-1].to_json(), flush=True)
        finally:  # what was measured is shown, also when a later benchmark breaks or is stopped
            if not given.json:
                print_rows(rows)
    return int(any(row.ok is False for row in rows))


def _run(names: tuple[str, ...], options: Options, *, everything: bool) -> Iterator[Row]:
    for name in names:
        run = importlib.import_module(f"benchmarks.{name}").run
        if name == "fusion" and everything and options.tldr is None and options.docs is None:
            yield skipped(name, "it needs --tldr PATH and --docs PATH")
            continue
        yield from run(options)
        if name == "ingest" and everything and not options.history:
            yield from run(replace(options, history=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=sys.modules["benchmarks"].__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name in (*NAMES, "all"):
        module = importlib.import_module(f"benchmarks.{name}") if name != "all" else None
        about = "All of them, with their usual sizes." if module is None else (module.__doc__ or "").partition(": ")[2]
        part = names.add_parser(name, help=about.split(".")[0].replace("%", "%%"), description=about.replace("%", "%%"))
        _common(part)
        if name in ("ingest", "reingest", "fusion", "embed", "quality", "all"):
            part.add_argument(
                "--docs", type=Path, metavar="PATH", help="a folder of documents instead of a generated one"
            )
        if name in ("ingest", "all"):
            part.add_argument(
                "--history", action="store_true", help="commands of a generated history instead of documents"
            )
        if name in ("ingest", "reingest", "procedure", "all"):
            part.add_argument("--lines", type=int, help="lines of the generated history")
        if name in ("search", "filter", "cache", "startup", "ready", "all"):
            part.add_argument("--rows", type=int, help="vectors (of a cache or store)")
        if name in ("search", "filter", "fusion", "quality", "procedure", "all"):
            part.add_argument("--queries", type=int, help="queries a round, or questions with known answers")
        if name in ("fusion", "embed", "quality", "ready", "procedure", "schedule", "all"):
            part.add_argument("--models", type=Path, metavar="PATH", help="a folder of pulled models")
        if name == "fusion":
            part.add_argument("--model", default="static", help="the embedding model to fit for")
        if name in ("embed", "ready", "all"):
            part.add_argument("--peers", type=Path, metavar="PYTHON", help="a Python that has the peers installed")
        if name in ("embed", "schedule", "all"):
            part.add_argument("--texts", type=int, help="commands a round; of longer texts a part of that")
        if name in ("fusion", "redaction", "embed", "quality", "all"):
            part.add_argument("--tldr", type=Path, metavar="PATH", help="page, description and command, tab-separated")
    part = names.add_parser("history-file", help="Write a generated zsh history.")
    part.add_argument("--lines", type=int, default=100_000)
    part.add_argument("--seed", type=int, default=1)
    part.add_argument("path", type=Path)
    return parser


def _common(part: argparse.ArgumentParser) -> None:
    part.add_argument("--rounds", type=int, help="interleaved rounds (5 or more unless --quick)")
    part.add_argument("--quick", action="store_true", help="tiny sizes and one round: shows that it runs, no figures")
    part.add_argument("--json", action="store_true", help="one JSON object for each row instead of a table")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
