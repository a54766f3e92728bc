"""A real shell with the hook in a real terminal (tmux), and what it recorded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnimemory import Memory
from tests.store_cases import wait_until

__all__ = ["EVERY", "SHELLS", "Pane", "Terminal", "without_manual_pages"]

# fish without its configuration is private, and then nothing is recorded.
SHELLS = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "-i"]}
EVERY = pytest.mark.parametrize("shell", list(SHELLS))
BIN = Path(sys.executable).parent


def without_manual_pages(home: Path) -> None:
    """Tell fish that it has read all manual pages: in a new home it does so, in the background, for many seconds."""
    (home / ".local/share/fish/generated_completions").mkdir(parents=True, exist_ok=True)


class Pane:
    """A program in a terminal of its own, 200 by 50, begun in ``folder`` with no other environment than ``environ``."""

    def __init__(self, command: list[str], folder: Path, socket: Path, environ: dict[str, str]) -> None:
        for program in (command[0], "tmux"):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program}")
        self.socket = socket
        line = ["env", "-i", *(f"{name}={value}" for name, value in environ.items()), *command]
        self.tmux("-f", os.devnull, "new-session", "-d", "-x", "200", "-y", "50", "-c", str(folder), *line)

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

    def paste(self, text: str) -> None:
        """Paste a text as terminals do, so that a newline does not run it, and run it."""
        self.tmux("set-buffer", text)
        self.tmux("paste-buffer", "-p")
        self.keys("Enter")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def wait(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition, 20), self.screen()

    def said(self, word: str) -> bool:
        return word in self.screen().split()

    def prompted_after(self, word: str) -> bool:
        """Whether the word was said and a prompt followed: what is pasted before there is one arrives as if typed."""
        return self.said(word) and not self.screen().rstrip().endswith(word)

    def kill(self) -> None:
        """Kill the shell as a terminal that dies does, at once."""
        os.kill(int(self.tmux("list-panes", "-F", "#{pane_pid}")), signal.SIGKILL)

    def close(self) -> None:
        subprocess.run(["tmux", "-S", str(self.socket), "kill-server"], check=False, capture_output=True, timeout=60)


class Terminal(Pane):
    """One shell in a terminal of its own, with the hook, in the folder ``sub``; ``first`` is typed before the hook."""

    def __init__(self, shell: str, folder: Path, name: str, first: tuple[str, ...] = (), *, hook: bool = True) -> None:
        if not (BIN / "omnimemory").exists():
            pytest.skip("needs the omnimemory command beside the interpreter")
        self.store = folder / "store"
        (folder / "sub").mkdir(exist_ok=True)
        without_manual_pages(folder)
        environ = {
            "HOME": str(folder),
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TERM": "screen",
            "OMNIMEMORY_INDEX_ENABLED": "false",
            "OMNIMEMORY_CACHE_PATH": str(folder / "cache"),
        }
        super().__init__(SHELLS[shell], folder, folder / name, environ)
        for text in first:
            self.type(text)
        if hook:
            self._source_hook(shell, folder / f"hook.{shell}", environ)
        self.type("cd sub")
        self.type("echo rea''dy")
        self.wait(lambda: self.prompted_after("ready"))

    def _source_hook(self, shell: str, script: Path, environ: dict[str, str]) -> None:
        made = [str(BIN / "omnimemory"), "--store", str(self.store), "hook", shell]
        script.write_bytes(subprocess.run(made, env=environ, check=True, capture_output=True, timeout=60).stdout)
        self.type(f"source {script}")

    def events(self) -> list[tuple[Any, ...]]:
        """Take in what was recorded, and return what is stored without what the test itself typed first."""
        with Memory(self.store) as memory:
            memory.take_spool()
            rows = memory.store.catalog.rows(
                "SELECT c.text, e.cwd, e.exit_code, e.duration, e.session, e.shell FROM events e "
                "JOIN commands c ON c.id = e.command_row ORDER BY e.timestamp"
            )
        return [row for row in rows if not row[0].startswith("source ") and row[0] not in ("cd sub", "echo rea''dy")]
