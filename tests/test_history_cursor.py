from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.sources.history import Cursor, read_history


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history"
    path.write_text("a\nb\nc\n")
    return path


def read(path, cursor=None):
    return read_history(path, cursor=cursor, key=b"k")


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
    assert (result.rewritten, result.shell, [entry.event.command for entry in result.entries]) == (
        True,
        "bash",
        ["a", "b", "c"],
    )
