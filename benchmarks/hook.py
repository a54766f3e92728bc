"""``hook``: what a shell's hook adds to each prompt, against a hook that does nothing.

Two shells of a kind run side by side in terminals of their own (pseudo-terminals), with a history of some length, one
with the hook and one with functions in the same places that do nothing. In turn each is sent a command that sets what
its prompt shows, and the time from the Enter key to that prompt is taken.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.children import ROOT, environment
from benchmarks.history import commands
from benchmarks.options import Options
from benchmarks.table import Row, at_most, skipped
from benchmarks.timing import say

__all__ = ["run"]

_MOST_ADDED_MS = 5.0
_PATIENCE = 30.0
_PROGRAMS = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "-i"]}
_PREPARED = {
    "bash": "PS1='@$P@ '",
    "zsh": "setopt prompt_subst; unsetopt prompt_sp; HISTSIZE=99999 SAVEHIST=99999; fc -R $HISTFILE; PS1='@$P@ '",
    "fish": 'function fish_prompt; echo "@$P@ "; end',
}
_NOTHING = {
    "bash": "none() { return $?; }\nPROMPT_COMMAND=none\n",
    "zsh": "none() { return 0 }\npreexec_functions+=(none)\nprecmd_functions+=(none)\n",
    "fish": "function none1 --on-event fish_preexec; end\nfunction none2 --on-event fish_postexec; end\n",
}
_SET = {"bash": "P={}", "zsh": "P={}", "fish": "set -g P {}"}
_DEVICE_QUERY, _DEVICE_ANSWER = b"\x1b[c", b"\x1b[?62;22c"  # without an answer fish 4 waits for two seconds


def run(options: Options) -> Iterator[Row]:
    """Compare for each shell that is installed."""
    for shell in _PROGRAMS:
        if shutil.which(shell) is None:
            yield skipped("hook", f"{shell} is not installed")
            continue
        say(f"hook: {shell}")
        yield from _rows(shell, *_measured(options, shell))


def _rows(shell: str, ours: Sequence[float], empty: Sequence[float]) -> Iterator[Row]:
    for name, figure in (("median", statistics.median), ("p95", _p95)):
        added, without = figure(ours) - figure(empty), figure(empty)
        row = Row(
            "hook",
            f"{shell}: added to each of {len(ours):,} prompts, {name}",
            f"{added:.2f} ms",
            f"empty hook: {without:.2f} ms",
            data={"ours": list(ours), "limit": list(empty)},
        )
        # On a shared machine the slowest prompts tell how long others worked, so they are not judged.
        yield at_most(row, _MOST_ADDED_MS, added) if figure is statistics.median else row


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


def _measured(options: Options, shell: str) -> tuple[list[float], list[float]]:
    """Return milliseconds from Enter to the prompt, with the hook and with one that does nothing."""
    turns, length = options.turns(5) * options.size(200, 10), options.size(10_000, 100)
    script = subprocess.run(
        [sys.executable, "-m", "omnimemory", "--store", str(options.work / f"hook-{shell}"), "hook", shell],
        check=True, capture_output=True, text=True, cwd=ROOT, env=environment(options.work),
    ).stdout  # fmt: skip
    pair = [
        _Prompt(shell, _home(options.work / f"{shell}-{name}", shell, text, length))
        for name, text in (("hook", script), ("empty", _NOTHING[shell]))
    ]
    try:
        times = [_turns(pair, number) for number in range(turns + 5)][5:]  # the first make files and caches
    finally:
        for one in pair:
            one.close()
    return [ours for ours, _ in times], [empty for _, empty in times]


def _turns(pair: Sequence[_Prompt], number: int) -> list[float]:
    """Return the milliseconds of each; which one comes first changes."""
    order = [0, 1] if number % 2 else [1, 0]
    took = {at: pair[at].turn(number) for at in order}
    return [took[0], took[1]]


def _home(folder: Path, shell: str, script: str, length: int) -> Path:
    """Make a home with a script to source, and a history."""
    folder.mkdir()
    (folder / "hook").write_text(script)
    past = [command.replace("\n", "; ").replace("\\", "") for command in commands(length)]
    if shell == "fish":
        path = folder / ".local/share/fish/fish_history"
        path.parent.mkdir(parents=True)
        (path.parent / "generated_completions").mkdir()  # else fish reads all manual pages in the background
        path.write_text("".join(f"- cmd: {command}\n  when: {at}\n" for at, command in enumerate(past, 1_600_000_000)))
    else:
        (folder / "history").write_text("".join(f"{command}\n" for command in past))
    return folder


class _Prompt:
    """A shell in a pseudo-terminal."""

    def __init__(self, shell: str, home: Path) -> None:
        self._shell = shell
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            try:
                _become(_PROGRAMS[shell], home)
            finally:
                os._exit(127)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._settle(0.3)
        for line in (_PREPARED[shell], "source ~/hook"):
            self._send(line)
            self._settle(0.1)
            self._send("\r")
            self._settle(0.2)

    def turn(self, number: int) -> float:
        """Have the prompt show a number; return the milliseconds from Enter to that."""
        self._send(_SET[self._shell].format(f"{number}x"))
        self._settle(0.01)  # typed, coloured, and completed from the history
        began = time.perf_counter()
        self._send("\r")
        seen = b""
        while f"@{number}x@".encode() not in seen:
            if time.perf_counter() - began > _PATIENCE:
                raise RuntimeError(f"{self._shell} did not come back to its prompt: {seen[-500:]!r}")
            seen += self._read(1.0)
        took = 1e3 * (time.perf_counter() - began)
        self._settle(0.005)
        return took

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def _send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        data = os.read(self._terminal, 65_536) if ready else b""
        if _DEVICE_QUERY in data:
            os.write(self._terminal, _DEVICE_ANSWER)
        return data

    def _settle(self, seconds: float) -> None:
        """Read until nothing has come for so long."""
        while self._read(seconds):
            pass


def _become(arguments: Sequence[str], home: Path) -> None:
    values: Mapping[str, str] = {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "HISTFILE": str(home / "history"),
        "HISTSIZE": "99999",
    }
    os.chdir(home)
    os.execvpe(arguments[0], arguments, values)
