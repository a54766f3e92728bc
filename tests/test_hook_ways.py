"""What people do at a prompt, with the hook: interrupt, nest, type several lines, keep things to themselves."""

from __future__ import annotations

from collections import Counter

import pytest

from omnimemory import Memory
from tests.store_cases import wait_until
from tests.terminal_cases import EVERY

# What is typed, what is recorded, and how it ended.
WAYS = {
    "bash": [
        ("(cd /; exit 5)", "(cd /; exit 5)", 5),
        ("false | true", "false | true", 0),
        ("for i in 1 2\ndo\n  false\ndone", "for i in 1 2; do   false; done", 1),
        ("cat <<X\n a:b \\\\n\nX", "cat <<X\n a:b \\\\n\nX", 0),
    ],
    "zsh": [
        ("(cd /; exit 5)", "(cd /; exit 5)", 5),
        ("false | true", "false | true", 0),
        ("for i in 1 2\ndo\n  false\ndone", "for i in 1 2\ndo\n  false\ndone", 1),
        ("cat <<X\n a:b \\\\n\nX", "cat <<X\n a:b \\\\n\nX", 0),
    ],
    "fish": [
        ("fish -Nc 'cd /; exit 5'", "fish -Nc 'cd /; exit 5'", 5),
        ("false | true", "false | true", 0),
        ("echo 'two\n  lines' | false", "echo 'two\n  lines' | false", 1),
    ],
}


@pytest.mark.parametrize("shell", list(WAYS))
def test_what_is_interrupted_nested_or_of_several_lines_is_recorded_once_as_it_was(terminal, shell, tmp_path):
    shown = terminal(shell, *({"bash": ["PROMPT_COMMAND='true;'", "HISTCONTROL=ignoreboth"]}.get(shell, [])))
    shown.type("echo go''ing; sleep 600")
    shown.wait(lambda: shown.said("going"))
    shown.keys("C-c")
    shown.type("echo ba''ck")
    shown.wait(lambda: shown.said("back"))
    shown.tmux("send-keys", "-l", "echo never run")
    shown.wait(lambda: "never run" in shown.screen())
    at = shown.tmux("display-message", "-p", "#{cursor_x},#{cursor_y}")
    shown.keys("C-c")
    shown.wait(lambda: shown.tmux("display-message", "-p", "#{cursor_x},#{cursor_y}") != at)
    shown.keys("Enter")
    for lines, _, _ in WAYS[shell]:
        for line in lines.split("\n"):
            shown.type(line)
    shown.type("echo o''ver")
    shown.wait(lambda: shown.said("over"))
    expected = [
        ("echo go''ing; sleep 600", 130),
        ("echo ba''ck", 0),
        *(way[1:] for way in WAYS[shell]),
        ("echo o''ver", 0),
    ]
    shown.wait(lambda: len(shown.events()) >= len(expected))
    rows = shown.events()
    assert [(row[0], row[2]) for row in rows] == expected
    assert {row[1] for row in rows} == {str(tmp_path / "sub")}


KEEPS = {
    "bash": ["HISTCONTROL=ignorespace HISTIGNORE='*secret*:*hidden*:*veiled*'"],
    "zsh": [
        "zshaddhistory() { [[ $1 != *hidden* ]] }",
        "two() { [[ $1 != *veiled* ]] && return 0; return 2 }; zshaddhistory_functions=(two)",
        "HISTORY_IGNORE='(*secret*)'",
    ],
    "fish": ["function fish_should_add_to_history; not string match -qr 'secret|hidden|veiled' -- $argv[1]; end"],
}


@pytest.mark.parametrize("shell", list(KEEPS))
def test_what_the_shell_is_told_not_to_keep_is_not_written_down(terminal, shell):
    shown = terminal(shell, *KEEPS[shell])
    for line in ["true before", "true secret", "true hidden", "true veiled", " true private", "true after"]:
        shown.type(line)
    shown.type("echo o''ver")
    shown.wait(lambda: shown.said("over"))
    spool = b"".join(path.read_bytes() for path in (shown.store / "spool").iterdir())
    assert not [word for word in (b"secret", b"hidden", b"veiled", b"private") if b"true " + word in spool]
    assert [row[0] for row in shown.events()][:2] == ["true before", "true after"]


@pytest.mark.slow
@EVERY
def test_two_shells_at_once_are_recorded_in_full_while_their_files_are_taken_away(terminal, shell):
    pair = [terminal(shell), terminal(shell)]
    expected = Counter()
    with Memory(pair[0].store) as memory:

        def found() -> Counter:
            memory.take_spool()
            rows = memory.store.catalog.rows(
                "SELECT c.text, count(*) FROM events e JOIN commands c ON c.id = e.command_row GROUP BY 1"
            )
            return Counter({text: number for text, number in rows if text.startswith("true ")})

        for number in range(12):
            for name, shown in enumerate(pair):
                for command in (f"true {name}-{number}", "true same"):
                    shown.type(command)
                    expected[command] += 1
                    memory.take_spool()
        assert wait_until(lambda: found() == expected, 20), (found() - expected, expected - found())
        memory.take_spool()
        assert found() == expected
