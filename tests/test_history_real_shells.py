"""The parsers against histories that the real shells write (each test is skipped where its shell is not installed)."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from omnimemory.sources.history import bash, zsh

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
