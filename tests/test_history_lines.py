"""Histories of PowerShell and nushell as text: what the shells' own rules write is read as it was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.sources.history import nushell, powershell

TYPED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1).filter(str.strip)


def as_psreadline_writes(commands: list[str], end: str) -> bytes:
    return "".join(command.replace("\n", f"`{end}") + end for command in commands).encode()


def as_reedline_writes(commands: list[str]) -> bytes:
    return "".join(command.replace("\n", "<\\n>") + "\n" for command in commands).encode()


@given(
    st.lists(TYPED.filter(lambda text: not text.endswith("`") and "\ufeff" not in text)),
    st.sampled_from(["\n", "\r\n"]),
)
def test_powershell_histories_are_read_as_they_were_typed(commands, end):
    entries = list(powershell.parse(as_psreadline_writes(commands, end)))
    assert [entry.event.command for entry in entries] == commands
    assert all(entry.complete for entry in entries)


@given(st.lists(TYPED.filter(lambda text: "<\\n>" not in text)))
def test_nushell_histories_are_read_as_they_were_typed(commands):
    entries = list(nushell.parse(as_reedline_writes(commands)))
    assert [entry.event.command for entry in entries] == commands


@pytest.mark.parametrize(
    ("module", "data", "commands"),
    [
        (powershell, b"\xef\xbb\xbfGet-Date\r\n", ["Get-Date"]),
        (powershell, b"foreach ($i in 1..3) {`\n  $i`\n}\nls\n", ["foreach ($i in 1..3) {\n  $i\n}", "ls"]),
        (powershell, b"Get-Item a ``\n  -Force\n", ["Get-Item a `\n  -Force"]),
        (powershell, b"half`\n", ["half"]),
        (nushell, b"def f [] {<\\n>  ls<\\n>}\nls", ["def f [] {\n  ls\n}", "ls"]),
    ],
    ids=["byte-order-mark", "multi-line", "typed-backtick", "half-written", "nushell"],
)
def test_known_lines(module, data, commands):
    assert [entry.event.command for entry in module.parse(data)] == commands


def test_a_line_that_goes_on_is_open(tmp_path):
    assert [entry.complete for entry in powershell.parse(b"ls\nfor {`\n")] == [True, False]
