"""The hooks in real shells, in a real terminal (tmux): recorded once each, and nothing is run by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnimemory import Memory
from omnimemory.sources.spool_folder import spool_folder

# fish without its configuration is private, and then nothing is recorded.
SHELLS = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "-i"]}
EVERY = pytest.mark.parametrize("shell", list(SHELLS))
BIN = Path(sys.executable).parent


class Terminal:
    """One shell in a terminal of its own."""

    def __init__(self, shell: str, folder: Path, store: Path) -> None:
        for program in (shell, "tmux"):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program}")
        if not (BIN / "omnimemory").exists():
            pytest.skip("needs the omnimemory command beside the interpreter")
        self.socket, self.folder, self.store = folder / "tmux", folder, store
        script = folder / f"hook.{shell}"
        self.environ = {
            "HOME": str(folder),
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TERM": "screen",
            "OMNIMEMORY_INDEX_ENABLED": "false",
            "OMNIMEMORY_CACHE_PATH": str(folder / "cache"),
        }
        made = [str(BIN / "omnimemory"), "--store", str(store), "hook", shell]
        script.write_bytes(subprocess.run(made, env=self.environ, check=True, capture_output=True, timeout=60).stdout)
        line = ["env", "-i", *(f"{name}={value}" for name, value in self.environ.items()), *SHELLS[shell]]
        self.tmux("-f", os.devnull, "new-session", "-d", "-x", "200", "-y", "50", "-c", str(folder), *line)
        self.type(f"source {script}")
        self.type("cd sub" if (folder / "sub").exists() else "true")
        self.type("echo rea''dy")
        self.wait(lambda: "ready" in self.screen().split())

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), *arguments], check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def type(self, line: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.keys("Enter")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def wait(self, condition) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.05)

    def events(self) -> list[tuple]:
        with Memory(self.store) as memory:
            memory.take_spool()
            return memory.store.catalog.rows(
                "SELECT c.text, e.cwd, e.exit_code, e.duration, e.session, e.shell FROM events e "
                "JOIN commands c ON c.id = e.command_row ORDER BY e.timestamp"
            )


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))

    def start(shell: str) -> Terminal:
        (tmp_path / "sub").mkdir(exist_ok=True)
        opened.append(Terminal(shell, tmp_path, tmp_path / "store"))
        return opened[-1]

    yield start
    for one in opened:
        subprocess.run(["tmux", "-S", str(one.socket), "kill-server"], check=False, capture_output=True, timeout=60)


@EVERY
def test_each_command_is_recorded_once_with_folder_and_outcome(terminal, shell, tmp_path):
    shown = terminal(shell)
    lines = ["ls", "ls", " echo private", "false", "sh -c 'exit 3'", "cd /", "printf '%s\\n' 'a\\tb' \"ü;\""]
    for line in lines:
        shown.type(line)
    shown.type("echo o''ver")
    shown.wait(lambda: "over" in shown.screen().split())
    shown.type("true")
    shown.wait(lambda: any(row[0] == "true" for row in shown.events()[1:]))
    rows = [row for row in shown.events() if not row[0].startswith("source")]
    sub = str(tmp_path / "sub")
    expected = [("cd sub", str(tmp_path), 0), ("echo rea''dy", sub, 0)]
    expected += [("ls", sub, 0), ("ls", sub, 0), ("false", sub, 1), ("sh -c 'exit 3'", sub, 3), ("cd /", sub, 0)]
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
    shown.wait(lambda: "before" in shown.screen().split())
    shown.type("echo run''ning; sleep 600")
    shown.wait(lambda: "running" in shown.screen().split())
    os.kill(int(shown.tmux("list-panes", "-F", "#{pane_pid}")), signal.SIGKILL)
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
    from click.testing import CliRunner

    from omnimemory.cli import cli

    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert "# omnimemory for zsh" in CliRunner().invoke(cli, ["hook"]).stdout
    monkeypatch.setenv("SHELL", "/usr/bin/tcsh")
    assert CliRunner().invoke(cli, ["hook"]).exit_code == 2


@EVERY
def test_a_store_with_quotes_in_its_path_is_written_to_where_it_is(shell):
    from click.testing import CliRunner

    from omnimemory.cli import cli

    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    store = '/x/it\'s a "store" $HOME \\ here'
    script = CliRunner().invoke(cli, ["--store", store, "hook", shell]).stdout
    line = next(line for line in script.splitlines() if "_omnimemory_folder" in line and "store" in line)
    name = line[line.index("_omnimemory_folder") :].strip().removeprefix("_omnimemory_folder").lstrip("= ")
    done = subprocess.run([shell, "-c", f"printf '%s' {name}"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{store}/spool"
