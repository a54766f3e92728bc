from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.errors import ConfigError, SourceError
from omnimemory.sources.history import Cursor, HistoryRead, read_history

KEY = b"key of this store"


def read(path: Path, cursor: Cursor | None = None, **options) -> HistoryRead:
    return read_history(path, cursor=cursor, key=KEY, **options)


def much_later() -> int:
    return time.time_ns() + 3_600 * 10**9


def commands(result: HistoryRead) -> list[str]:
    return [entry.event.command for entry in result.entries]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def history(tmp_path) -> Path:
    return write(tmp_path / "history", "a\nb\nc\n")


def test_a_first_read_returns_everything(history):
    result = read(history)
    assert commands(result) == ["a", "b", "c"]
    assert (result.shell, result.first_position) == ("bash", 0)
    assert (result.rewritten, result.unchanged) == (False, False)
    assert (result.cursor.offset, result.cursor.count, result.cursor.size) == (6, 3, 6)


def test_an_unchanged_file_is_not_read_again(history):
    first = read(history, clock=much_later)
    # A digest that is wrong would show if a single byte were looked at.
    blind = dataclasses.replace(first.cursor, digest="0" * 64)
    result = read(history, blind)
    assert (result.unchanged, result.rewritten, result.entries) == (True, False, [])
    assert result.cursor is blind


def test_a_file_that_had_just_changed_is_verified_by_its_bytes(history):
    first = read(history)  # the file was written a moment ago: its times may not tell a second write
    blind = dataclasses.replace(first.cursor, digest="0" * 64)
    assert read(history, blind).rewritten
    again = read(history, first.cursor, clock=much_later)
    assert (again.unchanged, again.entries, again.cursor.settled) == (True, [], True)


def test_touching_a_file_changes_nothing(history):
    first = read(history, clock=much_later)
    os.utime(history, (1, 1))
    result = read(history, first.cursor)
    assert (result.unchanged, result.rewritten, result.entries) == (True, False, [])
    assert result.cursor.count == 3


def test_a_grown_file_gives_only_what_is_new(history):
    first = read(history, clock=much_later)
    write(history, "a\nb\nc\nd\ne\n")
    result = read(history, first.cursor)
    assert (commands(result), result.first_position) == (["d", "e"], 3)
    assert (result.rewritten, result.unchanged) == (False, False)
    assert result.cursor.count == 5


def test_only_bytes_behind_the_verified_prefix_are_parsed(history):
    first = read(history)
    write(history, "a\nb\nc\nd\n")
    assert [(entry.start, entry.end) for entry in read(history, first.cursor).entries] == [(6, 8)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("b\nc\nd\n", id="trimmed"),
        pytest.param("a\nX\nc\n", id="edited_with_the_same_size"),
        pytest.param("a\nb\nX\nd\n", id="last_line_edited"),
        pytest.param("a\nb\n", id="shrunk"),
        pytest.param("", id="emptied"),
    ],
)
def test_a_rewritten_file_is_returned_whole(history, content):
    first = read(history, clock=much_later)
    write(history, content)
    result = read(history, first.cursor)
    assert (result.rewritten, result.unchanged, result.first_position) == (True, False, 0)
    assert commands(result) == content.split()


def test_an_edit_that_keeps_size_and_modification_time_is_seen(history):
    first = read(history, clock=much_later)
    before = history.stat()
    write(history, "a\nX\nc\n")
    os.utime(history, ns=(before.st_atime_ns, before.st_mtime_ns))
    # A change of the status, too, lies in another tick of the clock than the first read's.
    older = dataclasses.replace(first.cursor, ctime_ns=first.cursor.ctime_ns - 10**9)
    assert read(history, older).rewritten


def test_another_file_at_the_same_place_is_seen(history):
    first = read(history, clock=much_later)
    before = history.stat()
    other = write(history.with_name("other"), "x\ny\nz\n")
    other.replace(history)
    os.utime(history, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert commands(read(history, first.cursor)) == ["x", "y", "z"]


def test_a_last_line_without_newline_is_read_and_read_again_when_it_has_grown(tmp_path):
    path = write(tmp_path / "h", "a\nls -")
    first = read(path)
    assert commands(first) == ["a", "ls -"]
    assert (first.cursor.offset, first.cursor.count) == (2, 1)
    write(path, "a\nls -la\nb\n")
    second = read(path, first.cursor)
    assert (commands(second), second.first_position, second.rewritten) == (["ls -la", "b"], 1, False)


def test_an_unfinished_last_line_that_was_replaced_is_a_rewrite(tmp_path):
    path = write(tmp_path / "h", "a\nls -")
    first = read(path)
    write(path, "a\ncd /tmp\n")
    assert read(path, first.cursor).rewritten


def test_a_block_that_goes_on_is_returned_again_as_one_command(tmp_path):
    path = write(tmp_path / "h", "#1700000000\nls\n#1700000001\nfor i in 1\n")
    first = read(path)
    assert commands(first) == ["ls", "for i in 1"]
    write(path, "#1700000000\nls\n#1700000001\nfor i in 1\ndone\n#1700000002\ncd\n")
    second = read(path, first.cursor)
    assert (commands(second), second.first_position) == (["for i in 1\ndone", "cd"], 1)


def test_a_timestamp_waits_for_its_command(tmp_path):
    path = write(tmp_path / "h", "a\n#1700000000\n")
    first = read(path)
    write(path, "a\n#1700000000\nb\n")
    (entry,) = read(path, first.cursor).entries
    assert (entry.event.command, entry.event.timestamp) == ("b", 1_700_000_000.0)


def test_an_empty_file_may_turn_out_to_be_of_any_shell(tmp_path):
    path = write(tmp_path / "h", "")
    first = read(path)
    write(path, ": 1700000000:0;ls\n")
    result = read(path, first.cursor)
    assert (result.shell, commands(result), result.rewritten) == ("zsh", ["ls"], False)


def test_the_shell_stays_what_it_was_while_the_file_only_grows(tmp_path):
    path = write(tmp_path / "h", "ls\n")
    first = read(path)
    write(path, "ls\n: 1700000000:0;cd\n: 1700000000:0;cd\n")
    assert read(path, first.cursor).shell == "bash"


def test_another_shell_than_before_reads_everything_anew(history):
    first = read(history, clock=much_later)
    result = read(history, first.cursor, shell="zsh")
    assert (result.rewritten, result.shell, commands(result)) == (True, "zsh", ["a", "b", "c"])
    assert read(history, first.cursor, shell="bash").unchanged


def test_an_unknown_shell_is_refused(history):
    with pytest.raises(ConfigError, match="bash, fish, zsh"):
        read(history, shell="tcsh")


def test_commands_over_the_limit_are_counted(tmp_path):
    result = read(write(tmp_path / "h", "a\n" + "x" * 70_000 + "\nb\n"))
    assert (commands(result), result.oversize, result.cursor.count) == (["a", "b"], 1, 2)


def test_a_digest_of_another_key_is_not_accepted(history):
    first = read(history)
    other = read_history(history, cursor=first.cursor, key=b"another key")
    assert other.rewritten
    assert other.cursor.digest != first.cursor.digest


def test_keys_of_any_length_are_taken(history):
    digests = {read_history(history, key=key).cursor.digest for key in (b"", b"k", b"k" * 64, b"k" * 65, b"k" * 66)}
    assert len(digests) == 5


def test_bytes_that_arrive_while_the_file_is_read_are_read_too_and_looked_at_next_time(history):
    # What the status said first counts for nothing: the cursor goes by the bytes that were read.
    from omnimemory.sources.history.reading import read_all

    descriptor = os.open(history, os.O_RDONLY)
    try:
        assert read_all(descriptor, history, 2, 100) == b"a\nb\nc\n"
    finally:
        os.close(descriptor)


def test_a_symbolic_link_to_a_history_is_followed(history, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(history)
    assert commands(read(link)) == ["a", "b", "c"]


def make_fifo(path):
    os.mkfifo(path)


def make_loop(path):
    path.symlink_to(path)


def make_sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
        pytest.param(Path.mkdir, "not a regular file but a directory", id="directory"),
        pytest.param(make_fifo, "a FIFO", id="fifo_does_not_hang"),
        pytest.param(make_loop, "cannot be read", id="symlink_loop"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a character device", id="device"),
        pytest.param(make_sparse, r"1,073,741,824 bytes.*limit of 268,435,456.*split", id="one_gib_sparse"),
        pytest.param(lambda path: write(path, "SQLite format 3\0 x"), r"SQLite.*atuin history list", id="sqlite"),
        pytest.param(lambda path: path.write_text("ls\n", "utf-16"), "UTF-16.*iconv", id="utf_16_with_mark"),
        pytest.param(lambda path: path.write_text("ls\n", "utf-16-le"), "binary", id="utf_16_without_mark"),
        pytest.param(lambda path: path.write_bytes(b"\x7fELF\2\1\1" + b"\0" * 99), "binary", id="binary"),
    ],
)
def test_what_is_no_history_is_refused_with_its_reason(tmp_path, make, message):
    path = tmp_path / "h"
    make(path)
    with pytest.raises(SourceError, match=f"(?s)h .*{message}"):
        read(path)


def test_a_path_with_a_nul_byte_is_refused():
    with pytest.raises(SourceError, match="cannot be read"):
        read(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused_with_the_fix(history):
    history.chmod(0)
    with pytest.raises(SourceError, match="may not be read by this user"):
        read(history)


def test_the_size_limit_is_exact(history):
    assert commands(read(history, max_bytes=6)) == ["a", "b", "c"]
    with pytest.raises(SourceError, match="limit of 5"):
        read(history, max_bytes=5)


def test_a_few_nul_bytes_of_a_power_cut_do_not_make_a_history_binary(tmp_path):
    path = tmp_path / "h"
    path.write_bytes(b"git status\n" * 20 + b"\0" * 40 + b"ls\n")
    assert commands(read(path))[-1] == "ls"


def test_no_descriptor_stays_open(history, tmp_path):
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")
    before = len(list(folder.iterdir()))
    read(history)
    with pytest.raises(SourceError):
        read(tmp_path)
    assert len(list(folder.iterdir())) == before


def test_a_cursor_survives_json(history):
    cursor = read(history).cursor
    assert Cursor.from_json(json.loads(json.dumps(cursor.to_json()))) == cursor


def test_a_cursor_may_stand_among_other_values(history):
    cursor = read(history).cursor
    assert Cursor.from_json({**cursor.to_json(), "base": 7}) == cursor


VALID = {
    "version": 1,
    "shell": "bash",
    "offset": 6,
    "count": 3,
    "digest": "0" * 64,
    "size": 6,
    "mtime_ns": 1,
    "ctime_ns": 1,
    "inode": 1,
    "device": 1,
    "settled": True,
}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"offset": -1},
        {"offset": 7},
        {"offset": "6"},
        {"count": 7},
        {"count": True},
        {"count": -1},
        {"size": None},
        {"inode": 1.5},
        {"digest": "0" * 63},
        {"digest": "G" * 64},
        {"digest": None},
        {"settled": 1},
        {"shell": 5},
    ],
    ids=str,
)
def test_a_cursor_with_one_wrong_value_is_no_cursor(change):
    assert Cursor.from_json(VALID) is not None
    assert Cursor.from_json({**VALID, **change}) is None


@given(
    st.none()
    | st.text()
    | st.lists(st.integers())
    | st.dictionaries(st.sampled_from(sorted(VALID)), st.none() | st.integers() | st.text() | st.lists(st.none()))
)
def test_garbage_is_no_cursor(data):
    assert Cursor.from_json(data) is None


def test_a_cursor_of_a_shell_that_is_not_known_any_more_reads_everything_anew(history):
    cursor = dataclasses.replace(read(history).cursor, shell="tcsh")
    result = read(history, cursor)
    assert (result.rewritten, result.shell, commands(result)) == (True, "bash", ["a", "b", "c"])
