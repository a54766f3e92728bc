"""Everything that is made is the user's alone, under any umask: 0700 and 0600, also what Chroma and SQLite make."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from store_cases import DIM, add_rows, delete_chunks, opened, unit_vectors, wait_until

from omnimemory.cli import cli
from omnimemory.storage.catalog import Collection
from omnimemory.storage.drain import DrainOptions
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.items import Payload

OPERATIONS = {
    "ingest": ["ingest docs"],
    "ingest-history": ["ingest-history history --shell bash"],
    "add": ["add 'a note' --meta topic=x"],
    "search": ["search note", "search make --kind commands --explain"],
    "record": ["record 'make lint' --exit-code 1"],
    "next": ["next 'make test'"],
    "sessions": ["sessions 'make test'"],
    "steps": ["steps 'make test'"],
    "workflows": ["workflows", "workflows --support 2 --json"],
    "why-failed": ["why-failed 'make lint'"],
    "status": ["status"],
    "export": ["export private/plain.jsonl", "export private/vectors.jsonl --vectors"],
    "import": ["--store private/second import private/vectors.jsonl"],
    "backup": ["backup private/copy"],
    "forget": ["forget --pattern coffee --yes"],
    "scrub": ["scrub --yes"],
    "doctor": ["doctor"],
    "repair": ["repair"],
    "maintain": ["maintain"],
    "reembed": ["reembed --dim 128", "reembed --undo --yes"],
    "schedule": ["schedule log", "schedule explain last"],
    "cache": ["cache stats", "cache clear", "search note"],
    "demo": ["--store private/demo demo"],
}
"""What each command is asked to do; later ones find what earlier ones made."""

WITHOUT_FILES = {"models", "redact", "eval", "config", "completion", "hook"}
"""What a hook writes is made by the shell; ``test_hook.py`` looks at its modes."""


def open_to_others(*roots: Path) -> dict[str, str]:
    """Return everything below these folders, and themselves, that has another mode than it should."""
    found = {}
    for path in (path for root in roots for path in (root, *root.rglob("*"))):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # SQLite's files come and go
            continue
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600):
            found[str(path)] = oct(stat.S_IMODE(mode))
    return found


@pytest.fixture(params=[0o022, pytest.param(0o000, marks=pytest.mark.soak)], ids=oct)
def private(request, tmp_path, monkeypatch):
    """Return a folder for everything that is made, which is also where the commands' store and cache are."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "deploy.md").write_text("# Deploy\n\nRoll back a bad release with one command.\n")
    (tmp_path / "docs" / "coffee.txt").write_text("The coffee machine wants fresh water every day.\n")
    (tmp_path / "history").write_text("make test\nmake install\ncoffee --now\n")
    made = tmp_path / "private"
    made.mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIMEMORY_STORE", str(made / "store"))
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(made / "cache"))
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "no")  # the index has its own test below: it takes seconds
    before = os.umask(request.param)
    yield made
    os.umask(before)


def test_after_each_command_everything_is_private(private):
    for name, calls in OPERATIONS.items():
        for call in calls:
            done = CliRunner().invoke(cli, call.replace("'", '"'), prog_name="omnimemory")
            assert done.exit_code == 0, (name, call, done.output)
            assert open_to_others(private) == {}, call
    kinds = {path.suffix for path in private.rglob("*")}
    assert {".sqlite3", ".db", ".jsonl"} <= kinds, "the commands made less than they should"


def test_every_command_is_among_them():
    context = cli.make_context("omnimemory", [], resilient_parsing=True)
    assert set(cli.list_commands(context)) - WITHOUT_FILES == OPERATIONS.keys()


def test_at_every_moment_of_the_index_everything_is_private(private):
    path = private / "indexed"
    options = {"drain": DrainOptions(sync_rows=20), "exact_rows": 5}
    with opened(path, **options) as store:
        vectors = add_rows(store, 100)
        assert store.warm() is None
        assert open_to_others(path) == {}
        add_rows(store, 100, "more", seed=1)
        delete_chunks(store, [f"row{n}" for n in range(30)])
        store.drain()
        assert open_to_others(path) == {}
        assert store.nearest("documents", vectors[50], 1).answered_by == "chroma"
        assert open_to_others(path) == {}
        store.rebuild()
        assert open_to_others(path) == {}
    assert open_to_others(path) == {}
    assert list(path.rglob("data_level0.bin"))


def test_what_chroma_makes_is_private_before_anything_is_closed(private):
    (private / "index").mkdir(mode=0o700)
    index = ChromaIndex(private / "index" / "1", sync_rows=20)
    assert open_to_others(private) == {}
    ids = [str(number) for number in range(60)]
    index.add(
        Collection(1, "documents", DIM, "x", "x"),
        Payload(list(range(60)), ids, ids, [{"a": 1}] * 60, unit_vectors(60), 60),
    )
    assert list(private.rglob("data_level0.bin"))
    assert open_to_others(private) == {}
    index.close()


@pytest.mark.soak
def test_what_the_child_process_that_drains_makes_is_private_while_it_works(private):
    path = private / "indexed"
    with opened(path, drain=DrainOptions(sync_rows=20, batch_size=200)) as store:
        add_rows(store, 600)
        store.committed()
        assert wait_until(lambda: list(path.rglob("data_level0.bin")))
        assert open_to_others(path) == {}
        assert store.drain() is None
    assert open_to_others(path) == {}
