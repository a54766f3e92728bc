"""The parsers against histories that nushell and IPython write (skipped where they are not installed).

nushell comes as one file with ``npm install nushell``, IPython with the kernel that the notebooks run on.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from omnimemory.records import Event
from omnimemory.sources.history import locate_all, read_history, stored_cursor
from tests.terminal_cases import Pane

TYPED = [
    "echo 'é ☃ 日本語 カタカナ'",
    'echo "two\nlines\n\n  four"',
    "echo 'a\\b' r#'c\\n'# # a comment",
    "echo : 1:2;echo colons",
    "echo 'end\\'",
]
PYTHON = [
    "print('é ☃ 日本語 カタカナ')",
    '"""two\nlines\n\n  four"""',
    "for i in range(2):\n    print(i)\n\n    print(-i)\n",
    "!echo a\\\\b | cat",
    "%time 1 + 1",
    "'a\\n' # comment : 1:2;x",
    "1 / 0",
]


def open_in_terminal(program: str, home: Path, socket: str, *flags: str) -> Pane:
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program} (see above)")
    environ = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "screen"}
    return Pane([found, *flags], home, home / socket, environ)


def read(path: Path, cursor=None) -> tuple[list[Event], object]:
    found = read_history(path, key=b"k", cursor=cursor)
    return [entry.event for entry in found.entries], stored_cursor(found.cursor.to_json())


def commands(path: Path) -> list[str]:
    return [event.command for event in read(path)[0]] if path.exists() else []


def run(shown: Pane, path: Path, text: str, count: int, prompt: str = ">") -> None:
    """Paste a text, run it, and wait until the history holds ``count`` commands and the program asks for the next.

    A history may hold a command before it has run, and what is pasted before there is a prompt arrives as if typed:
    a newline runs it, and IPython indents what follows.
    """
    shown.paste(text)
    shown.wait(lambda: len(commands(path)) >= count and shown.screen().rstrip().endswith(prompt))


@pytest.fixture
def nushell(tmp_path):
    opened: list[Pane] = []

    def start(kept: str, *settings: str) -> tuple[Pane, Path]:
        folder = tmp_path / ".config" / "nushell"
        folder.mkdir(parents=True, exist_ok=True)
        prompt = ["$env.config.show_banner = false", '$env.PROMPT_COMMAND_RIGHT = ""']
        lines = [f'$env.config.history.file_format = "{kept}"', *prompt, *settings]
        (folder / "config.nu").write_text("\n".join(lines))
        (folder / "env.nu").touch()
        opened.append(open_in_terminal("nu", tmp_path, f"tmux{len(opened)}"))
        opened[-1].wait(lambda: ">" in opened[-1].screen())
        return opened[-1], folder / ("history.sqlite3" if kept == "sqlite" else "history.txt")

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize("kept", ["sqlite", "plaintext"])
def test_what_is_typed_in_nushell_is_read_as_it_was_typed(nushell, tmp_path, kept):
    shown, path = nushell(kept)
    for number, text in enumerate(TYPED, 1):
        run(shown, path, text, number)
    assert commands(path) == TYPED
    assert locate_all(tmp_path, {}) == [(path, "nushell")]


def test_nushells_database_tells_where_a_command_ran_how_it_ended_and_how_long_it_took(nushell, tmp_path):
    shown, path = nushell("sqlite", "$env.config.history.isolation = true")
    began = time.time()
    for number, text in enumerate(["cd /usr", "^false", "sleep 300ms"], 1):
        run(shown, path, text, number)
    events, cursor = read(path)
    assert [(event.cwd, event.exit_code) for event in events] == [(str(tmp_path), 0), ("/usr", 1), ("/usr", 0)]
    assert events[2].duration >= 0.3
    assert len({event.session for event in events} - {None}) == 1
    assert all(began - 5 < event.timestamp < began + 120 for event in events)
    shown.type("sleep 100sec")
    shown.wait(lambda: not shown.screen().rstrip().endswith(">"))
    shown.kill()
    # What was killed has no outcome; nobody can tell it from what still runs, so it waits.
    assert read(path, cursor)[0] == []
    shown, path = nushell("sqlite", "$env.config.history.isolation = true")
    shown.type("pwd")
    shown.wait(lambda: [event.command for event in read(path, cursor)[0]] == ["pwd"])


def test_of_two_nushells_that_share_a_history_the_slower_command_has_its_outcome(nushell, tmp_path):
    (one, path), (other, _) = nushell("sqlite"), nushell("sqlite")
    one.type("^sh -c 'until test -e go; do sleep .1; done; exit 3'")
    one.wait(lambda: not one.screen().rstrip().endswith(">"))
    run(other, path, "pwd", 1)
    events, cursor = read(path)
    assert [event.command for event in events] == ["pwd"]
    (tmp_path / "go").touch()
    other.wait(lambda: [event.exit_code for event in read(path, cursor)[0]] == [3])


def test_what_is_typed_in_ipython_is_read_as_it_was_typed(tmp_path):
    shown = open_in_terminal("ipython", tmp_path, "tmux", "--no-banner")
    path = tmp_path / ".ipython" / "profile_default" / "history.sqlite"
    try:
        shown.wait(lambda: shown.screen().rstrip().endswith("In [1]:"))
        for number, text in enumerate(PYTHON, 1):
            run(shown, path, text, number, f"In [{number + 1}]:")
        events, _ = read(path)
    finally:
        shown.close()
    assert [event.command for event in events] == [text.rstrip("\n") for text in PYTHON]
    assert {(event.session, event.shell) for event in events} == {("1", "ipython")}
    assert (path, "ipython") in locate_all(tmp_path, {})
