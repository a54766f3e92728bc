"""Many processes that record at once, by library, command and the spool of a shell: each event is there once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from omnimemory import Memory
from omnimemory.sources.spool_folder import spool_folder
from tests.spool_cases import NOW, spooled
from tests.store_cases import ROOT

AGENT = """
import sys
from pathlib import Path
from omnimemory import Memory

name, rounds = sys.argv[1], int(sys.argv[2])
with Memory() as memory:
    for number in range(rounds):
        print(memory.record(f"make {name}-{number}", number % 3, f"/src/{name}", session=name), flush=True)
        memory.record("make shared", 0, "/src", timestamp=1_700_000_000.5 + number)
"""


def environment(folder) -> dict[str, str]:
    places = {"OMNIMEMORY_STORE": str(folder / "store"), "OMNIMEMORY_CACHE_PATH": str(folder / "cache")}
    return {**os.environ, **places, "OMNIMEMORY_INDEX_ENABLED": "false", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("agents", "rounds"),
    [pytest.param(4, 12, marks=pytest.mark.slow), pytest.param(12, 400, marks=pytest.mark.soak)],
    ids=["few", "many"],
)
def test_each_of_them_is_there_once_with_all_that_was_said(tmp_path, monkeypatch, agents, rounds):
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    python = [sys.executable, "-c", AGENT]
    children = [
        subprocess.Popen([*python, f"agent{number}", str(rounds)], stdout=subprocess.PIPE, text=True)
        for number in range(agents)
    ]
    told = ["-m", "omnimemory", "record", "make told", "--exit-code", "3", "--cwd", "/told", "--timestamp", str(NOW)]
    children += [subprocess.Popen([sys.executable, *told], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folder = spool_folder(tmp_path / "store")
    folder.mkdir(parents=True, exist_ok=True)
    with Memory() as memory:
        for number in range(rounds):
            with (folder / "zsh.1.spool").open("ab") as spool:
                spool.write(spooled(f"make spooled-{number}", start=NOW + number))
            memory.take_spool()
    printed = [child.communicate(timeout=300)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    assert all(len(lines.split()) == rounds for lines in printed[:agents])
    with Memory() as memory:
        memory.take_spool(now=True)
        rows = memory.store.catalog.rows(
            "SELECT c.text, e.exit_code, e.cwd FROM events e JOIN commands c ON c.id = e.command_row"
        )
    expected = Counter(
        (f"make agent{name}-{number}", number % 3, f"/src/agent{name}")
        for name in range(agents)
        for number in range(rounds)
    )
    expected += Counter({("make shared", 0, "/src"): rounds, ("make told", 3, "/told"): 1})
    expected += Counter((f"make spooled-{number}", 0, "/src") for number in range(rounds))
    assert Counter(rows) == expected


def test_a_search_for_commands_shows_where_and_when_last_and_how_often(tmp_path):
    pty = shutil.which("script") or pytest.skip("needs script, which gives it a terminal")
    environ = {**environment(tmp_path), "TZ": "UTC", "COLUMNS": "100", "TERM": "dumb"}
    with Memory(tmp_path / "store") as memory:
        for at, folder in enumerate(["/old", "/old", "/srv/api"]):
            memory.record("make test", 0, folder, timestamp=NOW + 86_400 * at)
    command = f"{sys.executable} -m omnimemory search make --kind commands"
    shown = subprocess.run(
        [pty, "-qec", command, os.devnull], env=environ, capture_output=True, text=True, check=True, timeout=100
    )
    assert "3x, 2023-11-16 22:13, /srv/api" in shown.stdout
