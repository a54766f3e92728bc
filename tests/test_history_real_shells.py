"""The parsers against histories that the real shells write (each test is skipped where its shell is not installed)."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time

import pytest

from omnimemory.sources.history import bash, read_history, zsh
from tests.store_cases import wait_until

COMMANDS = [
    "ls -la",
    "for i in 1 2\ndo echo $i\n\ndone",
    "cat <<EOF\n#heading\n  text\nEOF\n",
    "echo trailing\\",
    "echo trailing\\  ",
    "echo a \\\n  b",
    "echo \u2603 é 日本語 カタカナ ă",
    ": null; command",
    "printf '\\n'",
    "#1 typed comment",
    "last",
]


def run(shell: str, *flags: str, script: str, folder) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    path = folder / "script"
    path.write_text(script)
    subprocess.run(
        [program, *flags, str(path)], env=environ, stdin=subprocess.DEVNULL, check=True, timeout=60, cwd=folder
    )


def test_bash_histories_with_timestamps_are_read_as_they_were_typed(tmp_path):
    lines = [f"history -s -- {shlex.quote(command)}" for command in COMMANDS]
    script = "\n".join(
        ["set -o history", "HISTTIMEFORMAT=%s", "history -c", *lines, "history -w out", "set +o history"]
    )
    run("bash", "--norc", script=script, folder=tmp_path)
    entries = list(bash.parse((tmp_path / "out").read_bytes()))
    # bash notes its own "history -w" as well.
    assert [entry.event.command for entry in entries][: len(COMMANDS)] == COMMANDS
    assert all(entry.event.timestamp for entry in entries)


@pytest.mark.parametrize("extended", [True, False])
def test_zsh_histories_are_read_as_they_were_typed(tmp_path, extended):
    lines = [f"print -rs -- {shlex.quote(command)}" for command in COMMANDS]
    option = "setopt extended_history" if extended else "unsetopt extended_history"
    script = "\n".join(["HISTSIZE=99 SAVEHIST=99", option, *lines, "fc -W $PWD/out"])
    run("zsh", "-f", "-i", script=script, folder=tmp_path)
    entries = list(zsh.parse((tmp_path / "out").read_bytes()))
    assert [entry.event.command for entry in entries] == COMMANDS
    assert all((entry.event.timestamp is not None) == extended for entry in entries)


TYPED = [
    "echo a\\\\b 'c\\d' \"\\n\"",
    " echo leading space",
    ": 1:2; echo colons",
    "echo é ☃ カタカナ 日本語 ă",
    "echo 'two\nlines\n\n  four'",
    "printf '%s\\n' x; # a comment",
    "echo 'a *glob* ~' `echo b`",
    "echo \\\n  continued",
    "echo end\\\\",
]
ONE_LINE = [command for command in TYPED if "\n" not in command]
NOT_CONTINUED = [command for command in TYPED if "\\\n" not in command]  # bash joins such lines before it keeps them
KEEP = {
    "bash, times": ("bash", "HISTFILE=~/kept HISTCONTROL= HISTTIMEFORMAT=%s", NOT_CONTINUED),
    "bash, no times": ("bash", "HISTFILE=~/kept HISTCONTROL=; unset HISTTIMEFORMAT", ONE_LINE),
    "zsh, extended": (
        "zsh",
        "HISTFILE=~/kept HISTSIZE=99 SAVEHIST=99; setopt extended_history inc_append_history interactive_comments",
        TYPED,
    ),
    "zsh, plain": ("zsh", "HISTFILE=~/kept HISTSIZE=99 SAVEHIST=99; setopt interactive_comments rcs", TYPED),
    # How fish is told to keep nothing of a command is a space.
    "fish": ("fish", "true", [command for command in TYPED if command[0] != " "]),
}


@pytest.mark.parametrize("kept", list(KEEP))
def test_what_is_typed_at_a_prompt_is_read_from_the_history_that_the_shell_writes(terminal, kept, tmp_path):
    shell, first, typed = KEEP[kept]
    shown = terminal(shell, first, hook=False)
    path = tmp_path / (".local/share/fish/fish_history" if shell == "fish" else "kept")
    began = time.time()
    for number, command in enumerate(typed):
        shown.paste(command)
        shown.type(f"echo do''ne{number}")
        shown.wait(lambda number=number: shown.prompted_after(f"done{number}"))
    shown.tmux("send-keys", "-l", "exit")
    shown.tmux("send-keys", "Enter")
    assert wait_until(lambda: path.exists() and b"exit" in path.read_bytes(), 20)
    events = [entry.event for entry in read_history(path, shell=shell, key=b"k").entries]
    between = [event for event in events if not event.command.startswith("echo do''ne")]
    start = next(at for at, event in enumerate(between) if event.command == typed[0])
    assert [event.command for event in between[start:]] == [*typed, "exit"]
    assert all((event.timestamp is not None) == (kept not in ("bash, no times", "zsh, plain")) for event in events)
    assert all(event.timestamp is None or abs(event.timestamp - began) < 600 for event in events)
