"""The hooks in real shells, in a real terminal (tmux): recorded once each, and nothing is run by itself."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from omnimemory import Memory
from omnimemory.cli import cli
from omnimemory.sources.spool_folder import spool_folder
from tests.terminal_cases import EVERY


@EVERY
def test_each_command_is_recorded_once_with_folder_and_outcome(terminal, shell, tmp_path):
    shown = terminal(shell)
    lines = ["ls", "ls", " echo private", "false", "sh -c 'exit 3'", "cd /", "printf '%s\\n' 'a\\tb' \"ü;\""]
    for line in lines:
        shown.type(line)
    shown.type("echo o''ver")
    shown.wait(lambda: shown.said("over"))
    shown.type("true")
    shown.wait(lambda: any(row[0] == "true" for row in shown.events()))
    rows = shown.events()
    sub = str(tmp_path / "sub")
    expected = [("ls", sub, 0), ("ls", sub, 0), ("false", sub, 1), ("sh -c 'exit 3'", sub, 3), ("cd /", sub, 0)]
    expected += [(lines[-1], "/", 0), ("echo o''ver", "/", 0), ("true", "/", 0)]
    assert [row[:3] for row in rows] == expected
    assert {row[5] for row in rows} == {shell}
    assert len({row[4] for row in rows}) == 1
    assert all(row[3] is not None and row[3] < 60 for row in rows)
    spool = spool_folder(shown.store)
    assert spool.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in spool.iterdir()} <= {0o600}


@EVERY
def test_a_terminal_that_is_killed_loses_at_most_the_command_that_runs(terminal, shell):
    shown = terminal(shell)
    shown.type("echo be''fore")
    shown.wait(lambda: shown.said("before"))
    shown.type("echo run''ning; sleep 600")
    shown.wait(lambda: shown.said("running"))
    shown.kill()
    commands = [row[0] for row in shown.events()]
    assert commands.count("echo be''fore") == 1
    assert not any("sleep" in command for command in commands)


@EVERY
def test_a_suggestion_is_put_on_the_line_and_not_run(terminal, shell, tmp_path):
    mark = tmp_path / "mark"
    with Memory(tmp_path / "store") as memory:
        for at in range(5):
            memory.record("echo rea''dy", 0, timestamp=1000.5 + 9 * at, session="a")
            memory.record(f"touch {mark}", 0, timestamp=1001.5 + 9 * at, session="a")
    shown = terminal(shell)
    shown.keys("C-x", "C-n")
    shown.wait(lambda: f"touch {mark}" in shown.screen())
    assert not mark.exists()
    shown.keys("C-u")
    shown.tmux("send-keys", "-l", "touch ma")
    shown.keys("C-x", "C-n")
    shown.wait(lambda: shown.screen().count(f"touch {mark}") >= 1)
    assert not mark.exists()
    shown.keys("C-e", "Enter")
    shown.wait(mark.exists)


def test_the_shell_is_that_of_the_user_and_an_unknown_one_is_refused(monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert "# omnimemory for zsh" in CliRunner().invoke(cli, ["hook"]).stdout
    monkeypatch.setenv("SHELL", "/usr/bin/tcsh")
    assert CliRunner().invoke(cli, ["hook"]).exit_code == 2


@EVERY
def test_a_store_with_quotes_in_its_path_is_written_to_where_it_is(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    store = '/x/it\'s a "store" $HOME \\ here'
    script = CliRunner().invoke(cli, ["--store", store, "hook", shell]).stdout
    line = next(line for line in script.splitlines() if "_omnimemory_folder" in line and "store" in line)
    name = line[line.index("_omnimemory_folder") :].strip().removeprefix("_omnimemory_folder").lstrip("= ")
    done = subprocess.run([shell, "-c", f"printf '%s' {name}"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{store}/spool"
