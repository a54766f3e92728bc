from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.history import MAX_COMMAND_BYTES, bash

T = 1_700_000_000


def events(data: bytes, start: int = 0) -> list[tuple[str, float | None]]:
    return [(entry.event.command, entry.event.timestamp) for entry in bash.parse(data, start)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", [], id="empty_file"),
        pytest.param(b"ls\ncd /tmp\n", [("ls", None), ("cd /tmp", None)], id="plain"),
        pytest.param(b"ls\n\n\ncd\n", [("ls", None), ("cd", None)], id="plain_blank_lines_are_nothing"),
        pytest.param(b"ls\n   \t\ncd\n", [("ls", None), ("cd", None)], id="whitespace_only_is_empty"),
        pytest.param(b"ls", [("ls", None)], id="no_final_newline"),
        pytest.param(b"ls\r\ncd\r\n", [("ls", None), ("cd", None)], id="one_carriage_return_is_dropped"),
        pytest.param(b"ls\r\r\n", [("ls\r", None)], id="only_one_carriage_return_is_dropped"),
        pytest.param(b"  ls  \n", [("  ls  ", None)], id="spaces_are_kept_as_typed"),
        pytest.param(b"#1700000000\nls\n", [("ls", T)], id="timestamp"),
        pytest.param(b"#1700000000\r\nls\r\n", [("ls", T)], id="timestamp_with_carriage_return"),
        pytest.param(
            b"#1700000000\nfor i in 1\ndo\n  echo\ndone\n#1700000001\nls\n",
            [("for i in 1\ndo\n  echo\ndone", T), ("ls", T + 1)],
            id="multi_line_under_timestamps",
        ),
        pytest.param(
            b"#1700000000\ncat <<EOF\n\nx\nEOF\n\n#1700000001\nls\n",
            [("cat <<EOF\n\nx\nEOF\n", T), ("ls", T + 1)],
            id="blank_lines_in_a_block_are_kept",
        ),
        pytest.param(b"#1700000000\na\r\nb\r\n", [("a\nb", T)], id="carriage_returns_in_a_block"),
        pytest.param(
            b"#1700000000\n#1 fix\n#1700000001\nls\n",
            [("#1 fix", T), ("ls", T + 1)],
            id="typed_comment_is_no_timestamp",
        ),
        pytest.param(b"ls\n#1 fix\ncd\n", [("ls", None), ("#1 fix", None), ("cd", None)], id="plain_comment"),
        pytest.param(b"#1 fix\nls\ncd\n", [("#1 fix", None), ("ls", None), ("cd", None)], id="comment_on_line_one"),
        pytest.param(
            b"ls\n#1700000000\nfor\ndone\n#1700000001\ncd\n",
            [("ls", None), ("for", T), ("done", None), ("cd", T + 1)],
            id="first_line_decides_against_blocks",
        ),
        pytest.param(b"ls\n#1700000000\n\ncd\n", [("ls", None), ("cd", T)], id="blank_between_stamp_and_command"),
        pytest.param(b"#1700000000\n#1700000001\nls\n", [("ls", T + 1)], id="two_timestamps_the_last_counts"),
        pytest.param(b"x\n#1700000000\n#1700000001\nls\n", [("x", None), ("ls", T + 1)], id="two_timestamps_plain"),
        pytest.param(b"#1700000000\n", [], id="timestamp_without_command"),
        pytest.param(b"#0\nls\n", [("ls", None)], id="time_zero_is_unknown"),
        pytest.param(b"#99999999999999999999999\nls\n", [("ls", None)], id="time_far_too_large"),
        pytest.param(b"#253402300799\nls\n", [("ls", 253402300799.0)], id="last_second_of_9999"),
        pytest.param(b"#253402300800\nls\n", [("ls", None)], id="year_10000"),
        pytest.param(b"#" + b"9" * 10_000 + b"\nls\n", [("ls", None)], id="ten_thousand_digits"),
        pytest.param(b"#-5\nls\n", [("#-5", None), ("ls", None)], id="negative_is_a_comment"),
        pytest.param(b"#17000000x0\nls\n", [("#17000000x0", None), ("ls", None)], id="not_a_number_is_a_comment"),
        pytest.param(b"\0\0#1700000000\nls\0\n", [("ls", T)], id="nul_bytes_are_dropped"),
        pytest.param(b"\0\0\0\nls\n", [("ls", None)], id="line_of_nul_bytes"),
        pytest.param(b"echo \xff\xfe\n", [("echo \ufffd\ufffd", None)], id="invalid_utf8_is_replaced"),
        pytest.param(b"echo \xed\xa0\x80\n", [("echo \ufffd\ufffd\ufffd", None)], id="no_lone_surrogates"),
        pytest.param("echo é 日本\n".encode(), [("echo é 日本", None)], id="utf8"),
        pytest.param(b"echo a\\\nb\n", [("echo a\\", None), ("b", None)], id="a_backslash_continues_nothing"),
        pytest.param(b"ls\n#17", [("ls", None)], id="half_a_timestamp_at_the_end"),
        pytest.param(b"#1700000000\nls\n#17", [("ls", T)], id="half_a_timestamp_after_a_block"),
    ],
)
def test_bytes_become_these_commands(data, expected):
    assert events(data) == expected


def test_offsets_cover_timestamp_command_and_newline():
    data = b"#1700000000\nls\n#1700000001\na\nb\n#1700000002\ncd\n"
    entries = list(bash.parse(data))
    assert [data[e.start : e.end] for e in entries] == [
        b"#1700000000\nls\n",
        b"#1700000001\na\nb\n",
        b"#1700000002\ncd\n",
    ]


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        pytest.param(b"ls\ncd\n", [True, True], id="plain_lines_end_with_their_newline"),
        pytest.param(b"ls\ncd", [True, False], id="no_newline_may_grow"),
        pytest.param(b"#1\nls\n#2\ncd\n", [True, False], id="the_last_block_may_get_more_lines"),
    ],
)
def test_complete_says_what_cannot_grow(data, complete):
    assert [entry.complete for entry in bash.parse(data)] == complete


def test_first_line_decides_even_when_parsing_starts_later():
    data = b"#1700000000\nls\n#1700000001\na\nb\n"
    assert events(data, 15) == [("a\nb", T + 1)]


def test_a_command_over_the_limit_is_skipped_and_one_at_the_limit_is_kept():
    longest = b"x" * MAX_COMMAND_BYTES
    assert events(longest + b"\n" + longest + b"y\nls\n") == [(longest.decode(), None), ("ls", None)]


def test_lines_after_timestamps_were_switched_off_are_not_lost():
    lines = [f"command number {i}" for i in range(5_000)]
    data = b"#1700000000\nls\n#1700000001\nfirst\n" + "\n".join(lines).encode() + b"\n#1700000002\ncd\n"
    found = events(data)
    assert found[:2] == [("ls", T), ("first", T + 1)]
    assert found[2:] == [(line, None) for line in lines] + [("cd", T + 2)]


def test_every_command_is_marked_as_bash_and_has_no_other_claims():
    (entry,) = bash.parse(b"ls\n")
    assert entry.event.shell == "bash"
    assert (entry.event.duration, entry.event.cwd, entry.event.exit_code) == (None, None, None)


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=12)
COMMAND = (
    st.lists(LINE, min_size=1, max_size=4)
    .map("\n".join)
    .filter(lambda text: text.strip() and not any(bash.TIMESTAMP.match(x.encode()) for x in text.split("\n")))
)


@settings(deadline=None)
@given(st.lists(st.tuples(COMMAND, st.integers(1, 10**10)), max_size=8))
def test_what_bash_writes_with_timestamps_is_read_back(history):
    data = "".join(f"#{when}\n{command}\n" for command, when in history).encode()
    assert events(data) == [(command, float(when)) for command, when in history]


@settings(deadline=None)
@given(st.lists(COMMAND, max_size=8))
def test_what_bash_writes_without_timestamps_is_read_back_line_by_line_as_bash_does_it(history):
    data = "".join(f"{command}\n" for command in history).encode()
    lines = [line for command in history for line in command.split("\n") if line.strip()]
    assert events(data) == [(line, None) for line in lines]


def test_names_and_content_speak_for_bash():
    assert bash.looks_like(b"#1700000000\nls\n", "x") > bash.looks_like(b"", ".bash_history") > 0
    assert bash.looks_like(b"ls\n", "history.txt") == 0
