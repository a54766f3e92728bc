from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.history import MAX_COMMAND_BYTES, zsh

T = 1_700_000_000.0


def events(data: bytes, start: int = 0) -> list[tuple[str, float | None, float | None]]:
    return [(e.event.command, e.event.timestamp, e.event.duration) for e in zsh.parse(data, start)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", [], id="empty_file"),
        pytest.param(b"ls\ncd /tmp\n", [("ls", None, None), ("cd /tmp", None, None)], id="plain"),
        pytest.param(b": 1700000000:12;ls -la\n", [("ls -la", T, 12.0)], id="extended_with_duration"),
        pytest.param(b": 1700000000:0;ls\n", [("ls", T, 0.0)], id="zero_duration"),
        pytest.param(b": 1700000000:1700000012;ls\n", [("ls", T, 12.0)], id="end_time_of_zsh_3"),
        pytest.param(b": 1700000000:0;a;b;c\n", [("a;b;c", T, 0.0)], id="multi_semicolon"),
        pytest.param(b": 1700000000:0;ls", [("ls", T, 0.0)], id="no_final_newline"),
        pytest.param(b": 1700000000:0;\n", [], id="extended_without_command"),
        pytest.param(b": 1700000000:0\nls\n", [("ls", None, None)], id="header_cut_short"),
        pytest.param(b": 17", [], id="header_half_written"),
        pytest.param(
            b": 1700000000:0;for i in 1\\\ndo\\\ndone\n: 1700000001:0;ls\n",
            [("for i in 1\ndo\ndone", T, 0.0), ("ls", T + 1, 0.0)],
            id="multi_line_extended",
        ),
        pytest.param(b"for i\\\ndone\nls\n", [("for i\ndone", None, None), ("ls", None, None)], id="multi_line_plain"),
        pytest.param(b"echo a \\\\\n  b\n", [("echo a \\\n  b", None, None)], id="typed_line_continuation"),
        pytest.param(b"a\\\\\\\\\nb\n", [("a\\\\\\\nb", None, None)], id="continuation_is_not_parity"),
        pytest.param(b"a\\\n\\\nb\n", [("a\n\nb", None, None)], id="blank_line_inside"),
        pytest.param(b"\\\n\\\n\nls\n", [("ls", None, None)], id="only_continuations"),
        pytest.param(b"echo a\\ \nls\n", [("echo a\\", None, None), ("ls", None, None)], id="one_space_was_added"),
        pytest.param(b"echo a\\   \n", [("echo a\\  ", None, None)], id="one_of_several_spaces_was_added"),
        pytest.param(b"echo a \n", [("echo a ", None, None)], id="a_typed_space_stays"),
        pytest.param(b"a\\\n  \n", [("a\n  ", None, None)], id="spaces_after_a_continuation_stay"),
        pytest.param(b"\\: null\n", [(": null", None, None)], id="escaped_colon"),
        pytest.param(b": 1700000000:0;\\: x\n", [("\\: x", T, 0.0)], id="no_escape_in_extended_entries"),
        pytest.param(b": 1700000000:0;: x\n", [(": x", T, 0.0)], id="null_command_in_extended_entries"),
        pytest.param(b": ${X:=y}; ls\n", [(": ${X:=y}; ls", None, None)], id="a_colon_alone_is_no_header"),
        pytest.param(b": abc:0;ls\n", [("ls", None, 0.0)], id="time_not_a_number"),
        pytest.param(b": -5:0;ls\n", [("ls", None, 0.0)], id="negative_time"),
        pytest.param(b": 0:0;ls\n", [("ls", None, 0.0)], id="time_zero_is_unknown"),
        pytest.param(b": 1700000000:-5;ls\n", [("ls", T, None)], id="negative_duration"),
        pytest.param(b": 253402300800:0;ls\n", [("ls", None, 0.0)], id="year_10000"),
        pytest.param(b": " + b"9" * 10_000 + b":0;ls\n", [("ls", None, 0.0)], id="ten_thousand_digits"),
        pytest.param(b":1700000000:0;ls\n", [("ls", T, 0.0)], id="header_without_space"),
        pytest.param(b"echo \xe2\x83\xb8\x83\xa3\n", [("echo \u2603", None, None)], id="metafied_snowman"),
        pytest.param(b"echo \xe3\x83\xa3\x83\xaa\n", [("echo \u30ca", None, None)], id="metafied_katakana"),
        pytest.param("echo カタカナ ă\n".encode(), [("echo カタカナ ă", None, None)], id="plain_utf8_of_other_tools"),
        pytest.param(b"echo \xff\x83\n", [("echo \ufffd\ufffd", None, None)], id="lone_meta_byte"),
        pytest.param(b"\0\0: 1700000000:0;l\0s\n", [("ls", T, 0.0)], id="nul_bytes_are_dropped"),
        pytest.param(b"a\x83 b\n", [("ab", None, None)], id="metafied_nul_is_dropped"),
        pytest.param(b"   \nls\n", [("ls", None, None)], id="whitespace_only_is_empty"),
        pytest.param(b"ls\n: 1700000000:0;cd\n", [("ls", None, None), ("cd", T, 0.0)], id="mixed_plain_and_extended"),
    ],
)
def test_bytes_become_these_commands(data, expected):
    assert events(data) == expected


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        pytest.param(b"ls\n: 1:0;cd\n", [True, True], id="a_newline_ends_an_entry"),
        pytest.param(b"ls\ncd", [True, False], id="no_newline_may_grow"),
        pytest.param(b"ls\nfor\\\n", [True, False], id="an_open_continuation_may_grow"),
    ],
)
def test_complete_says_what_cannot_grow(data, complete):
    assert [entry.complete for entry in zsh.parse(data)] == complete


def test_an_open_continuation_keeps_what_is_there():
    assert events(b": 1700000000:0;for i\\\ndo\\\n") == [("for i\ndo", T, 0.0)]


def test_offsets_cover_header_continuations_and_newline():
    data = b": 1:0;ls\n: 2:0;a\\\nb\nplain\n"
    assert [data[e.start : e.end] for e in zsh.parse(data)] == [b": 1:0;ls\n", b": 2:0;a\\\nb\n", b"plain\n"]


def test_a_command_over_the_limit_is_skipped():
    assert events(b": 1700000000:0;" + b"x" * (MAX_COMMAND_BYTES + 1) + b"\nls\n") == [("ls", None, None)]


def test_every_command_is_marked_as_zsh():
    assert [entry.event.shell for entry in zsh.parse(b"ls\n: 1:0;cd\n")] == ["zsh", "zsh"]


def metafied(raw: bytes) -> bytes:
    """As zsh stores strings in memory and in its history file: Meta, Marker, tokens and NUL are escaped."""
    return b"".join(bytes((0x83, b ^ 32)) if b == 0 or 0x83 <= b <= 0xA2 else bytes((b,)) for b in raw)


def written(command: str, when: int, elapsed: int, *, extended: bool) -> bytes:
    """Write one entry as Src/hist.c savehistfile does."""
    raw = metafied(command.encode())
    out = b": %d:%d;" % (when, elapsed) if extended else (b"\\" if raw.startswith(b":") else b"")
    out += raw.replace(b"\n", b"\\\n")
    return out + (b" \n" if raw.rstrip(b" ").endswith(b"\\") else b"\n")


COMMAND = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from(["\\", "\n", " ", ":", ";", "1", "é", "カ", "\u2603"]),
    min_size=1,
    max_size=20,
).filter(lambda text: text.strip())


@settings(deadline=None)
@given(st.lists(st.tuples(COMMAND, st.integers(10**6, 10**10), st.integers(0, 10**5)), max_size=8))
def test_what_zsh_writes_extended_is_read_back(history):
    data = b"".join(written(command, when, took, extended=True) for command, when, took in history)
    assert events(data) == [(command, float(when), float(took)) for command, when, took in history]


@settings(deadline=None)
@given(st.lists(COMMAND.filter(lambda text: not text.startswith("\\:")), max_size=8))
def test_what_zsh_writes_plain_is_read_back(history):
    # A plain command that starts with backslash and colon is the one thing that zsh itself cannot tell apart.
    data = b"".join(written(command, 0, 0, extended=False) for command in history)
    assert [command for command, _, _ in events(data)] == history


def test_names_and_content_speak_for_zsh():
    assert zsh.looks_like(b": 1700000000:0;ls\n", "x") > zsh.looks_like(b"", ".zsh_history") > 0
    assert zsh.looks_like(b"", ".zhistory") > 0
    assert zsh.looks_like(b": not a header\n", "history.txt") == 0
