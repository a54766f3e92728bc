"""``demo``: the bundled samples go into a memory of their own and are searched, as a first look at everything."""

from __future__ import annotations

import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.ingest import report_lines
from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import print_json, shorten

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory
    from omnimemory.records import Hit, Hits, IngestReport

__all__ = ["MADE_UP_SECRETS", "QUERIES", "demo"]

QUERIES = (
    ("why did checkout go down", "documents"),
    ("restore the database from a backup", "documents"),
    ("undo the last commit", None),
    ("convert a video", "commands"),
    ("who is listening on port 5432", "commands"),
)
MADE_UP_SECRETS = ("correct-horse-battery", "not-a-real-secret")
_WIDTH = 78
_HITS = 2


@dataclass(frozen=True, slots=True)
class _Answer:
    """A search of the demo, and how long it took."""

    query: str
    kind: str | None
    hits: Hits
    milliseconds: float

    def lines(self) -> list[str]:
        """Return the command that asks this, and its best hits."""
        flag = f" --kind {self.kind}" if self.kind else ""
        shown = [line for hit in self.hits for line in _hit_lines(hit)]
        return ["", f"$ omnimemory search {self.query}{flag}", *shown]

    def to_dict(self) -> dict[str, Any]:
        """Return the search as JSON-ready data."""
        asked = {"query": self.query, "kind": self.kind, "milliseconds": round(self.milliseconds, 3)}
        return {**asked, "hits": self.hits.to_dicts()}


@dataclass(frozen=True, slots=True)
class _Run:
    """All that the demo did."""

    documents: IngestReport
    history: IngestReport
    again: IngestReport
    answers: list[_Answer]
    redacted: Hits
    store: dict[str, Any]
    leaks: list[str] | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        reports = {"documents": self.documents, "history": self.history, "again": self.again}
        return {
            **{name: report.to_dict() for name, report in reports.items()},
            "answers": [answer.to_dict() for answer in self.answers],
            "redacted": self.redacted.to_dicts(),
            "store": self.store,
            "leaks": self.leaks,
        }


@click.command(
    short_help="Try it all on bundled samples.",
    epilog=examples("omnimemory demo", "omnimemory --store /tmp/demo.mem demo"),
)
@json_option
@click.pass_context
def demo(ctx: click.Context, as_json: bool) -> None:
    """Try it all on bundled samples: the papers and the shell history of an imaginary bookshop.

    The memory is a temporary one and is deleted at the end, unless --store names a folder for it. Nothing of yours is
    read or changed.
    """
    kept: str | None = ctx.find_root().params.get("store")
    with _place(kept) as (samples, settings):
        run = _run(samples, settings, temporary=kept is None)
    if as_json:
        print_json(run.to_dict())
    else:
        _print(run, kept)
    if run.documents.failed or run.history.failed or run.leaks:
        ctx.exit(1)


@contextmanager
def _place(kept: str | None) -> Iterator[tuple[Path, Settings]]:
    # A temporary memory keeps its cache to itself as well; one that stays is an ordinary one, with the user's settings.
    with resources.as_file(resources.files("omnimemory") / "samples") as samples:
        if kept is not None:
            yield samples, current_settings()
            return
        from omnimemory.config import Settings  # noqa: PLC0415 - keeps `--help` light

        folder = Path(tempfile.mkdtemp(prefix="omnimemory-demo-"))
        try:
            shutil.copytree(samples, folder / "samples", ignore=shutil.ignore_patterns("__*"))
            places = {
                "store.path": "memory",
                "cache.path": "cache",
                "memory.learned": "learned",
                "schedule.folder": "state",
            }
            values = {name: folder / place for name, place in places.items()}
            yield folder / "samples", Settings().with_values(values, "the demo")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _run(samples: Path, settings: Settings, *, temporary: bool) -> _Run:
    with open_memory(settings) as memory:
        documents = memory.ingest(samples / "docs")
        history = memory.ingest_history(samples / "history.zsh")
        answers = [_ask(memory, query, kind) for query, kind in QUERIES]
        redacted = memory.search("export SHOP_DB_PASSWORD", k=1, kind="commands", mode="keyword")
        again = memory.ingest(samples / "docs")
        store = memory.status()["store"]
    return _Run(documents, history, again, answers, redacted, store, _leaks(settings) if temporary else None)


def _ask(memory: Memory, query: str, kind: str | None) -> _Answer:
    start = time.perf_counter()
    hits = memory.search(query, k=_HITS, kind=kind)
    return _Answer(query, kind, hits, (time.perf_counter() - start) * 1000)


def _leaks(settings: Settings) -> list[str]:
    # Only of a memory made a moment ago: one that was there before may be of any size.
    folders = (settings.store.path, settings.cache.path)
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    secrets = [secret.encode() for secret in MADE_UP_SECRETS]
    return [file.name for file in files if any(secret in file.read_bytes() for secret in secrets)]


def _print(run: _Run, kept: str | None) -> None:
    times = [answer.milliseconds for answer in run.answers]
    sections = {
        "A memory of an imaginary bookshop": [
            "8 Markdown files and six weeks of shell history, bundled with omnimemory"
        ],
        "Documents read": report_lines(run.documents, "chunks"),
        "Shell history read": report_lines(run.history, "commands"),
        f"Searches by meaning, {min(times):.0f} to {max(times):.0f} ms each": [
            line for answer in run.answers for line in answer.lines()
        ][1:],
        "Secrets": _redaction_lines(run),
        "The same documents once more": report_lines(run.again, "chunks"),
        "What is stored now": _store_lines(run.store),
        "What to try next": _next_lines(kept),
    }
    for title, lines in sections.items():
        click.secho(title, bold=True)
        click.echo("".join(f"  {line}".rstrip() + "\n" for line in lines))


def _hit_lines(hit: Hit) -> list[str]:
    score = "-" if hit.score is None else f"{hit.score:.2f}"
    if hit.kind == "commands":
        return [f"{score}  {shorten(hit.text, _WIDTH - 8)}"]
    heading = str(hit.metadata.get("heading", "")).rpartition(" > ")[2]
    title = f"{Path(hit.source or '').name}, {heading}" if heading else Path(hit.source or "").name
    text = textwrap.wrap(shorten(hit.snippet or hit.text, 3 * (_WIDTH - 10)), _WIDTH - 8)
    return [f"{score}  {shorten(title, _WIDTH - 8)}", *(f"      {line}" for line in text)]


def _redaction_lines(run: _Run) -> list[str]:
    stored = [f"stored as: {shorten(hit.text, _WIDTH - 13)}" for hit in run.redacted]
    if run.leaks:
        return [*stored, f"FOUND in {', '.join(run.leaks)}: please report this"]
    found = [] if run.leaks is None else ["none of them is in any file of the store or of the cache"]
    return ["The history held three made-up secrets; what was stored instead, for example:", *stored, *found]


def _store_lines(store: dict[str, Any]) -> list[str]:
    chunks, commands = store["documents"]["chunks"], store["commands"]["commands"]
    index = store["index"]
    indexed = f"{chunks + commands - index['waiting']} of them in the Chroma index" if index["enabled"] else "no index"
    size = f"{store['bytes'] / 2**20:.1f} MiB"
    return [
        f"{chunks} chunks and {commands} commands, each with its vector of {store['model']}",
        f"{indexed}; {size} on disk",
    ]


def _next_lines(kept: str | None) -> list[str]:
    own = f" --store {kept}" if kept else ""
    place = "stays; look at it with" if kept else "was temporary and is gone; keep one with"
    command = f"omnimemory{own} status" if kept else "omnimemory --store /tmp/demo.mem demo"
    return [
        "omnimemory ingest ~/notes              your own files",
        "omnimemory ingest-history              your own shell history",
        "omnimemory search how do we deploy     and ask",
        f"This memory {place}:",
        f"  {command}",
    ]
