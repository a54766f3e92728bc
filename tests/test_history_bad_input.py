"""Histories in a bad state: what is there is kept once, the report says what is not, and nothing comes twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pytest

from omnimemory import Memory
from omnimemory.procedure.timeline import read_sessions
from tests.database_cases import make

HUGE = "echo " + "x" * 10_000_000


def fish(commands: list[str], first: int = 0) -> str:
    return "".join(f"- cmd: {command}\n  when: {at}\n" for at, command in enumerate(commands, 1_700_000_000 + first))


def stamped(commands: list[str], first: int = 0) -> str:
    return "".join(f"#{at}\n{command}\n" for at, command in enumerate(commands, 1_700_000_000 + first))


def extended(commands: list[str], first: int = 0) -> str:
    return "".join(f": {at}:0;{command}\n" for at, command in enumerate(commands, 1_700_000_000 + first))


def plain(commands: list[str], first: int = 0) -> str:
    return "".join(f"{command}\n" for command in commands)


def objects(commands: list[str], first: int = 0) -> str:
    return "".join(json.dumps({"command": command, "exit_code": 0}) + "\n" for command in commands)


WRITERS = {
    "bash": ("bash", plain),
    "bash with times": ("bash", stamped),
    "zsh": ("zsh", plain),
    "zsh extended": ("zsh", extended),
    "fish": ("fish", fish),
    "powershell": ("powershell", plain),
    "nushell": ("nushell", plain),
    "jsonl": ("jsonl", objects),
}
EVERY = pytest.mark.parametrize("kind", list(WRITERS))
COMMANDS = ["make", "git push origin", "ls -la /srv", "make"]


def stored(memory: Memory) -> list[str]:
    rows = memory.store.catalog.rows(
        "SELECT c.text FROM events e JOIN commands c ON c.id = e.command_row ORDER BY e.source_id, e.position"
    )
    return [text for (text,) in rows]


@EVERY
def test_a_history_cut_off_anywhere_and_finished_later_has_each_command_once(memory, tmp_path, kind):
    shell, write = WRITERS[kind]
    data, path = write(COMMANDS).encode(), tmp_path / "history"
    for cut in (*range(len(data) - 24, len(data), 3), len(data)):
        path.write_bytes(data[:cut])
        report = memory.ingest_history(path, shell=shell)
        assert report.failed == 0
    assert stored(memory) == COMMANDS


@EVERY
def test_ten_megabytes_on_one_line_are_left_out_and_said_and_nothing_else(memory, tmp_path, kind):
    shell, write = WRITERS[kind]
    path = tmp_path / "history"
    path.write_text(write([*COMMANDS, HUGE, "make docs"]))
    report = memory.ingest_history(path, shell=shell)
    (failure,) = report.failures
    assert failure.reason == "1 commands longer than 65,536 bytes were left out"
    assert stored(memory) == [*COMMANDS, "make docs"]
    assert memory.ingest_history(path, shell=shell).events == 0


@EVERY
def test_junk_in_the_middle_costs_no_other_command_and_comes_once(memory, tmp_path, kind):
    shell, write = WRITERS[kind]
    path = tmp_path / "history"
    data = write(COMMANDS).encode()
    junk = bytes(range(1, 256)).replace(b"\n", b"") * 3 + b"\n" + b"\0" * 90 + b"\n"
    path.write_bytes(data + junk + data)
    memory.ingest_history(path, shell=shell)
    first = stored(memory)
    assert [text for text in first if text in COMMANDS][:4] == COMMANDS
    assert len([text for text in first if text in COMMANDS]) >= 7
    assert memory.ingest_history(path, shell=shell).events == 0
    with path.open("ab") as file:
        file.write(write(["make clean"], 100).encode())
    assert memory.ingest_history(path, shell=shell).events == 1


APPEND = """
import os, sys
path, name, kind = sys.argv[1:]
for number in range(400):
    line = f"make {name}{number}\\n"
    if kind == "zsh":
        line = f": {1700000000 + number}:0;{line}"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)
"""


@pytest.mark.parametrize("kind", ["bash", "zsh"])
def test_two_shells_that_write_at_once_while_it_is_read_have_each_command_once(memory, tmp_path, kind):
    path = tmp_path / "history"
    path.touch()
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), name, kind]) for name in ("a", "b")]
    while any(writer.poll() is None for writer in writers):
        memory.ingest_history(path, shell=kind)
    memory.ingest_history(path, shell=kind)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert Counter(stored(memory)) == Counter(f"make {name}{number}" for name in "ab" for number in range(400))


def test_a_locked_database_is_named_and_the_other_histories_are_read(memory, own_home):
    row = {"id": "1", "timestamp": 10**18, "duration": 1, "exit": 0, "cwd": "/", "session": "s", "hostname": "h"}
    path = make(own_home / ".local/share/atuin/history.db", "atuin", [{**row, "command": "cargo test"}])
    (own_home / ".bash_history").write_text("make\n")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = delete")
        other.execute("BEGIN EXCLUSIVE")
        report = memory.ingest_history(every=True)
        assert (report.events, report.failed) == (1, 1)
        assert "is locked by another program" in report.failures[0].reason
        assert [(one.shell, one.events) for one in report.histories] == [("atuin", 0), ("bash", 1)]
        other.execute("ROLLBACK")
    assert memory.ingest_history(every=True).events == 1
    assert memory.ingest_history(every=True).events == 0
    assert sorted(stored(memory)) == ["cargo test", "make"]


@EVERY
def test_a_history_that_shrank_keeps_what_was_read_and_takes_what_is_new(memory, tmp_path, kind):
    shell, write = WRITERS[kind]
    many = [f"make step{number}" for number in range(40)]
    path = tmp_path / "history"
    path.write_text(write(many))
    assert memory.ingest_history(path, shell=shell).events == 40
    path.write_text(write([*many[30:], "make docs"], 30))
    assert memory.ingest_history(path, shell=shell).events == 1
    path.write_text("")
    assert memory.ingest_history(path, shell=shell).events == 0
    assert Counter(stored(memory)) == Counter([*many, "make docs"])


def test_a_clock_that_goes_back_loses_and_doubles_nothing(memory, tmp_path):
    path = tmp_path / "history"
    now = int(time.time())
    times = [now, now + 5, now - 86_400, now - 86_399, 1, 253_402_300_900, now + 6, now + 6]
    text = "".join(f": {at}:0;make {number % 7}\n" for number, at in enumerate(times))
    for end in range(0, len(text), 11):
        path.write_text(text[:end])
        memory.ingest_history(path, shell="zsh")
    path.write_text(text)
    memory.ingest_history(path, shell="zsh")
    assert stored(memory) == [f"make {number % 7}" for number in range(len(times))]
    assert memory.ingest_history(path, shell="zsh").events == 0


@pytest.mark.parametrize("kind", ["bash", "bash with times", "zsh extended"])
@pytest.mark.parametrize("kept", ["each", "all"])
def test_a_history_whose_shell_keeps_each_command_once_teaches_no_transitions(memory, tmp_path, kind, kept):
    shell, write = WRITERS[kind]
    steps = [text for number in range(60) for text in (f"cd project{number}", f"make target{number}")]
    path = tmp_path / "history"
    path.write_text(write(steps if kept == "each" else [*steps, *steps]))
    report = memory.ingest_history(path, shell=shell)
    assert ["kept only once" in failure.reason for failure in report.failures] == [True] * (kept == "each")
    assert memory.ingest_history(path, shell=shell).failures == ()
    with path.open("a") as file:
        file.write(write(["git status", "git push"], 1000))
    memory.ingest_history(path, shell=shell)
    sessions = read_sessions(memory.store.catalog, 1800.0)
    assert sum(map(len, sessions)) == (0 if kept == "each" else 242)
    assert memory.search("make target7", kind="commands", k=1)[0].text == "make target7"
