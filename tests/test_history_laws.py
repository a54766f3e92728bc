"""Laws that hold for every shell's parser and every byte string, also cut off anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.history import MAX_COMMAND_BYTES, SHELLS, read_history

# Fragments that mean something to one of the parsers, so that random files reach their corners.
LINE_ENDS = [b"\n", b"\n\n", b"\r\n", b"\\\n", b"\\ \n", b"\r"]
BASH = [b"#1700000000\n", b"#1700000001\n", b"#17", b"00", b" fix\n", b"#"]
ZSH = [b": 1700000000:5;", b": 17", b":", b"\\:", b"\\", b"\x83", "\u2603".encode()]
FISH = [b"- cmd: ", b"- cm", b"d: ", b"  when: 1700000001\n", b"  when:", b"  paths:\n", b"    - /x\n"]
OTHERS = [b"`\n", b"`\r\n", b"`", b"<\\n>", b"\xef\xbb\xbf"]
TEXT = [b"ls", b"cd /", b" ", b"\0", b"\xff", b"LONG\n"]
FRAGMENTS = st.lists(st.sampled_from(LINE_ENDS + BASH + ZSH + FISH + OTHERS + TEXT), max_size=25)
# Half of the files start with a timestamp, without which bash reads no blocks.
FILES = st.tuples(st.sampled_from([[], [b"#1700000000\n"]]), FRAGMENTS).map(lambda parts: parts[0] + parts[1])
EVERY_SHELL = pytest.mark.parametrize("shell", sorted(SHELLS))


def joined(parts: list[bytes]) -> bytes:
    """Put the parts together; LONG stands for a line of half the longest command, which no report should print."""
    return b"".join(parts).replace(b"LONG", b"x" * (MAX_COMMAND_BYTES // 2))


@EVERY_SHELL
@settings(deadline=None, max_examples=150)
@given(parts=FILES | st.lists(st.binary(max_size=300), max_size=1))
def test_no_bytes_make_a_parser_fail_and_what_it_yields_is_sound(shell, parts):
    data = joined(parts)
    end = 0
    for entry in SHELLS[shell].parse(data):
        assert end <= entry.start < entry.end <= len(data)
        end = entry.end
        command = entry.event.command
        assert command.strip()
        assert "\0" not in command
        command.encode("utf-8")  # fails on a lone surrogate
        assert entry.event.timestamp is None or 0 < entry.event.timestamp < 253402300800


def assert_tails_agree(shell: str, data: bytes) -> None:
    parse = SHELLS[shell].parse
    entries = list(parse(data))
    for index, entry in enumerate(entries):
        assert list(parse(data, entry.start)) == entries[index:]
        if entry.complete:
            assert list(parse(data, entry.end)) == entries[index + 1 :]


@EVERY_SHELL
@settings(deadline=None, max_examples=150)
@given(parts=FILES)
def test_parsing_from_an_entry_boundary_gives_the_tail(shell, parts):
    assert_tails_agree(shell, joined(parts))


def assert_reading_in_steps_agrees(shell: str, steps: list[bytes], path) -> None:
    known, cursor = [], None
    data = b""
    path.write_bytes(data)
    for step in steps:
        data += step
        path.write_bytes(data)
        if data[:8192].count(b"\0") > 0.2 * len(data[:8192]):
            continue  # a file full of NULs is refused as binary: the law is about histories
        read = read_history(path, shell=shell, cursor=cursor, key=b"k")
        assert not read.rewritten
        if not read.unchanged:
            known = known[: read.first_position] + [entry.event for entry in read.entries]
        cursor = read.cursor
        assert known == [entry.event for entry in SHELLS[shell].parse(data)]


@EVERY_SHELL
@settings(deadline=None, max_examples=200)
@given(data=st.data(), parts=FILES)
def test_reading_a_growing_file_in_steps_gives_what_reading_it_once_gives(shell, data, parts, tmp_path_factory):
    steps = [b""]
    for part in parts:
        if data.draw(st.booleans()):
            steps.append(b"")
        steps[-1] += joined([part])
    assert_reading_in_steps_agrees(shell, steps, tmp_path_factory.getbasetemp() / f"grows-{shell}")


SWITCHED_OFF = [b"#1700000000\nls\n#1700000001\n", *[b"%05d " % i + b"x" * 994 + b"\n" for i in range(80)]]


def test_a_bash_block_that_is_read_line_by_line_may_be_entered_at_any_line():
    assert_tails_agree("bash", b"".join(SWITCHED_OFF) + b"#1700000002\na\nb\n")
    assert_tails_agree("bash", b"\n\n".join(SWITCHED_OFF))


def test_a_bash_block_may_grow_over_the_limit_between_two_reads(tmp_path):
    steps = [*SWITCHED_OFF, b"#17", b" fix\n", b"#1700000002\n", b"a\n", b"b\n"]
    assert_reading_in_steps_agrees("bash", steps, tmp_path / "h")


@pytest.mark.parametrize(
    ("shell", "steps"),
    [
        pytest.param("bash", [b"#1700000000\nls\n", b"#17", b" fix\n", b"#1\n"], id="bash_comment_or_timestamp"),
        pytest.param("bash", [b"#1700000000\nls\n", b"#", b"17\n", b"cd\n"], id="bash_timestamp_cut_after_its_mark"),
        pytest.param("bash", [b"#17", b" fix\n", b"ls\n"], id="bash_comment_on_line_one"),
        pytest.param("zsh", [b": 17", b"00000000:0;", b"ls\\", b"\n", b"cd\n"], id="zsh_cut_everywhere"),
        pytest.param("fish", [b"- cmd: a\n  when: 1\n- c", b"md: b\n  when: 1", b"7\n"], id="fish_cut_everywhere"),
    ],
)
def test_a_shell_may_be_half_way_through_writing(shell, steps, tmp_path):
    assert_reading_in_steps_agrees(shell, steps, tmp_path / "h")
