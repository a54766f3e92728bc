from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from omnimemory.errors import ConfigError
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
    assert (result.unchanged, result.rewritten, [*result.entries]) == (True, False, [])
    assert result.cursor is blind


def test_a_file_that_had_just_changed_is_verified_by_its_bytes(history):
    first = read(history)  # the file was written a moment ago: its times may not tell a second write
    blind = dataclasses.replace(first.cursor, digest="0" * 64)
    assert read(history, blind).rewritten
    again = read(history, first.cursor, clock=much_later)
    assert (again.unchanged, [*again.entries], again.cursor.settled) == (True, [], True)


def test_touching_a_file_changes_nothing(history):
    first = read(history, clock=much_later)
    os.utime(history, (1, 1))
    result = read(history, first.cursor)
    assert (result.unchanged, result.rewritten, [*result.entries]) == (True, False, [])
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
    with pytest.raises(ConfigError, match="bash, fish, ipython, jsonl, nushell, powershell, zsh"):
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
