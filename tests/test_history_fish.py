from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.history import MAX_COMMAND_BYTES, fish

T = 1_700_000_000.0


def events(data: bytes, start: int = 0) -> list[tuple[str, float | None]]:
    return [(entry.event.command, entry.event.timestamp) for entry in fish.parse(data, start)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", [], id="empty_file"),
        pytest.param(b"- cmd: ls\n  when: 1700000000\n", [("ls", T)], id="one_item"),
        pytest.param(
            b"- cmd: ls /tmp\n  when: 1700000000\n  paths:\n    - /tmp\n    - /x\n- cmd: cd\n  when: 1700000001\n",
            [("ls /tmp", T), ("cd", T + 1)],
            id="paths_are_no_commands",
        ),
        pytest.param(
            b"- cmd: ls\n  paths:\n    - - cmd: x\n    - when: 5\n  when: 1700000000\n- cmd: cd\n  when: 1\n",
            [("ls", T), ("cd", 1.0)],
            id="paths_that_look_like_keys",
        ),
        pytest.param(b"- cmd: for i\\n  x\\nend\n  when: 1700000000\n", [("for i\n  x\nend", T)], id="newlines"),
        pytest.param(b"- cmd: echo \\\\n\n  when: 1700000000\n", [("echo \\n", T)], id="one_pass_unescape"),
        pytest.param(b"- cmd: a\\\\\\\\nb\n  when: 1700000000\n", [("a\\\\nb", T)], id="two_backslashes_then_n"),
        pytest.param(b"- cmd: a\\\\\\nb\n  when: 1700000000\n", [("a\\\nb", T)], id="backslash_then_newline"),
        pytest.param(b"- cmd: echo \\t\n  when: 1700000000\n", [("echo \\t", T)], id="unknown_escape_is_kept"),
        pytest.param(b"- cmd: echo \\\n  when: 1700000000\n", [("echo \\", T)], id="lone_backslash_is_kept"),
        pytest.param(b'- cmd: echo "x: y" # c\n  when: 1700000000\n', [('echo "x: y" # c', T)], id="not_yaml"),
        pytest.param(b"- cmd: [a, b\n  when: 1700000000\n", [("[a, b", T)], id="would_be_invalid_yaml"),
        pytest.param(b"- cmd: ls\n- cmd: cd\n", [("ls", None), ("cd", None)], id="no_when"),
        pytest.param(b"- cmd: ls\n  added_when: 5\n  when: 1700000000\n", [("ls", T)], id="other_keys_are_ignored"),
        pytest.param(b"- cmd: ls\n  when: soon\n", [("ls", None)], id="time_not_a_number"),
        pytest.param(b"- cmd: ls\n  when: -5\n", [("ls", None)], id="negative_time"),
        pytest.param(b"- cmd: ls\n  when: 0\n", [("ls", None)], id="time_zero_is_unknown"),
        pytest.param(b"- cmd: ls\n  when: 253402300800\n", [("ls", None)], id="year_10000"),
        pytest.param(b"- cmd: ls\n  when:\n", [("ls", None)], id="empty_time"),
        pytest.param(b"- cmd: \n  when: 1700000000\n", [], id="empty_command"),
        pytest.param(b"- cmd: ls", [("ls", None)], id="no_final_newline"),
        pytest.param(b"- cmd: - cmd: ls\n  when: 1700000000\n", [("ls", T)], id="doubled_by_fish_1"),
        pytest.param(b"- cmd:    when: 123\n- cmd: ls\n  when: 1700000000\n", [("ls", T)], id="stray_when_of_fish_1"),
        pytest.param(b"%YAML\n---\n- cmd: ls\n  when: 1700000000\n...\n", [("ls", T)], id="yaml_marks_are_ignored"),
        pytest.param(b"garbage\n  more\n- cmd: ls\n  when: 1700000000\nx\n", [("ls", T)], id="garbage_around"),
        pytest.param(b"\0\0\0- cmd: ls\n  when: 1700000000\n", [("ls", T)], id="nul_bytes_before_an_item"),
        pytest.param(b"- cmd: l\0s\n  when: 1700000000\n", [("ls", T)], id="nul_bytes_inside"),
        pytest.param("- cmd: echo é\xa0☃\n  when: 1700000000\n".encode(), [("echo é\xa0☃", T)], id="utf8"),
        pytest.param(b"- cmd: echo \xff\n  when: 1700000000\n", [("echo \ufffd", T)], id="invalid_utf8"),
    ],
)
def test_bytes_become_these_commands(data, expected):
    assert events(data) == expected


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        pytest.param(b"- cmd: a\n  when: 1\n- cmd: b\n  when: 2\n", [True, True], id="an_item_with_its_time_is_final"),
        pytest.param(b"- cmd: a\n  when: 1\n- cmd: b\n", [True, False], id="its_time_may_follow"),
        pytest.param(b"- cmd: a\n  when: 1", [False], id="its_time_may_be_cut"),
        pytest.param(b"- cmd: a\n- cmd: b", [True, False], id="the_next_item_ends_one"),
    ],
)
def test_complete_says_what_cannot_grow(data, complete):
    assert [entry.complete for entry in fish.parse(data)] == complete


def test_an_entry_ends_before_a_line_that_is_only_half_written():
    data = b"- cmd: a\n  when: 1\n- cm"
    (entry,) = fish.parse(data)
    assert data[entry.end :] == b"- cm"


def test_a_command_over_the_limit_is_skipped():
    assert events(b"- cmd: " + b"x" * (MAX_COMMAND_BYTES + 1) + b"\n  when: 5\n- cmd: ls\n") == [("ls", None)]


def test_fish_is_known_to_be_deduplicated_and_marks_its_events():
    assert fish.DEDUPLICATED is True
    assert [entry.event.shell for entry in fish.parse(b"- cmd: ls\n")] == ["fish"]


COMMAND = (
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0")
        | st.sampled_from(["\\", "\n", "n", ":", " "]),
        min_size=1,
        max_size=20,
    )
    # fish's own reader drops whitespace before a command.
    .filter(lambda text: text[0] not in " \t\r\f" and text.strip())
    .filter(lambda text: not text.startswith("- cmd:"))
)


@settings(deadline=None)
@given(st.lists(st.tuples(COMMAND, st.integers(1, 10**10), st.lists(COMMAND, max_size=2)), max_size=8))
def test_what_fish_writes_is_read_back(history):
    def escaped(text):
        return text.replace("\\", "\\\\").replace("\n", "\\n")

    data = ""
    for command, when, paths in history:
        data += f"- cmd: {escaped(command)}\n  when: {when}\n"
        data += "  paths:\n" + "".join(f"    - {escaped(path)}\n" for path in paths) if paths else ""
    assert events(data.encode()) == [(command, float(when)) for command, when, _ in history]


def test_names_and_content_speak_for_fish():
    assert fish.looks_like(b"- cmd: ls\n", "x") > fish.looks_like(b"", "fish_history") > 0
    assert fish.looks_like(b"ls\n", "history.txt") == 0
