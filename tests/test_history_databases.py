"""Histories in SQLite databases: atuin, nushell, IPython."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.errors import SourceError
from omnimemory.records import Event
from omnimemory.sources.history import HistoryRead, RowCursor, read_history, stored_cursor
from tests.database_cases import insert, make

KEY = b"k"
DAY = 1_700_000_000


def atuin(number: int, command: str, **more) -> dict:
    row = {"id": f"{number:032}", "timestamp": (DAY + number) * 10**9, "duration": 5 * 10**8, "exit": 0}
    return {**row, "command": command, "cwd": "/src", "session": "s", "hostname": "laptop:ann", **more}


def nushell(number: int, command: str, **more) -> dict:
    row = {"id": number, "command_line": command, "start_timestamp": (DAY + number) * 1000, "session_id": 7}
    return {**row, "hostname": "laptop", "cwd": "/src", "duration_ms": 500, "exit_status": 0, **more}


def ipython(number: int, command: str, **more) -> dict:
    return {"session": 1, "line": number, "source": command, "source_raw": command, **more}


ROWS = {"atuin": atuin, "nushell": nushell, "ipython": ipython}
EVERY = pytest.mark.parametrize("program", list(ROWS))


def read(path, cursor=None, **more) -> HistoryRead:
    return read_history(path, cursor=cursor, key=KEY, **more)


def commands(reading: HistoryRead) -> list[str]:
    return [entry.event.command for entry in reading.entries]


@pytest.mark.parametrize(
    ("program", "event"),
    [
        ("atuin", Event("make", DAY + 1.0, "/src", 2, 0.5, "s", "laptop:ann", "atuin")),
        ("nushell", Event("make", DAY + 1.0, "/src", 2, 0.5, "7", "laptop", "nushell")),
        ("ipython", Event("make", session="1", shell="ipython")),
    ],
)
def test_every_field_that_a_program_keeps_is_read(tmp_path, program, event):
    failed = {"atuin": {"exit": 2}, "nushell": {"exit_status": 2}, "ipython": {}}[program]
    path = make(tmp_path / "h.db", program, [ROWS[program](1, "make", **failed)])
    reading = read(path)
    assert [entry.event for entry in reading.entries] == [event]
    assert (reading.shell, reading.rewritten, reading.unchanged) == (program, False, False)


TYPED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@EVERY
@given(parts=st.lists(st.lists(TYPED, max_size=4), max_size=4))
def test_a_growing_database_is_read_in_steps_each_row_once(program, parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("grows") / "h.db"
    make(path, program)
    known, cursor, number = [], None, 0
    for part in parts:
        insert(path, [ROWS[program](number + at, text) for at, text in enumerate(part, 1)])
        number += len(part)
        reading = read(path, stored_cursor(cursor.to_json()) if cursor else None)
        assert not reading.rewritten
        assert reading.first_position == len(known)
        known += commands(reading)
        cursor = reading.cursor
    assert known == [text for part in parts for text in part]


ROWS_OF_ALL = st.lists(
    st.tuples(
        TYPED,
        st.integers(0, 10**9 - 1),
        st.integers(0, 10**15),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map("/".__add__),
        st.integers(0, 255),
        st.integers(0, 2**62),
    ),
    max_size=6,
)


@settings(max_examples=25)
@given(rows=ROWS_OF_ALL)
def test_every_field_of_every_row_is_read_back(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    atuins, nushells, told, telling = [], [], [], []
    for number, (text, at, took, cwd, code, session) in enumerate(rows, 1):
        nanoseconds, milliseconds = (DAY + number) * 10**9 + at, (DAY + number) * 1000 + at // 10**6
        name = f"{session:032x}"
        more = {"cwd": cwd, "exit": code, "session": name, "duration": took, "timestamp": nanoseconds}
        atuins.append(atuin(number, text, **more))
        told.append(Event(text, nanoseconds / 1e9, cwd, code, took / 1e9, name, "laptop:ann", "atuin"))
        more = {"cwd": cwd, "exit_status": code, "session_id": session, "duration_ms": took}
        nushells.append(nushell(number, text, start_timestamp=milliseconds, **more))
        telling.append(Event(text, milliseconds / 1e3, cwd, code, took / 1e3, str(session), "laptop", "nushell"))
    found = read(make(folder / "atuin.db", "atuin", atuins)).entries
    assert [entry.event for entry in found] == told
    found = read(make(folder / "nushell.db", "nushell", nushells)).entries
    assert [entry.event for entry in found] == telling


def test_what_was_deleted_in_atuin_is_left_out_and_older_databases_have_no_such_mark(tmp_path):
    path = make(tmp_path / "h.db", "atuin", [atuin(1, "ls"), atuin(2, "secret", deleted_at=1), atuin(3, "pwd")])
    assert commands(read(path)) == ["ls", "pwd"]
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("ALTER TABLE history DROP COLUMN deleted_at")
    assert commands(read(path)) == ["ls", "secret", "pwd"]


def test_what_was_imported_into_atuin_has_no_outcome_and_does_not_wait(tmp_path):
    path = make(tmp_path / "h.db", "atuin", [atuin(1, "ls", duration=-1, exit=-1, cwd="unknown", session="x")])
    (entry,) = read(path).entries
    assert entry.event == Event("ls", DAY + 1.0, host="laptop:ann", shell="atuin")


@pytest.mark.parametrize("program", ["atuin", "nushell"])
def test_a_command_that_still_runs_waits_until_its_outcome_is_known_and_is_read_once(tmp_path, program):
    now = int(time.time()) - DAY
    running, done = (
        ({"duration": -1, "exit": -1}, "UPDATE history SET duration = 5, exit = 1 WHERE command = 'make'")
        if program == "atuin"
        else ({"duration_ms": None, "exit_status": None}, "UPDATE history SET exit_status = 1 WHERE id = 2")
    )
    other = {"session": "t"} if program == "atuin" else {"session_id": 8}
    row = ROWS[program]
    path = make(tmp_path / "h.db", program, [row(now - 9, "ls"), row(now - 8, "make", **running)])
    if program == "nushell":
        with closing(sqlite3.connect(path)) as sql, sql:
            sql.execute("UPDATE history SET id = CASE command_line WHEN 'ls' THEN 1 ELSE 2 END")
    insert(path, [row(now, "pwd", **other)])
    first = read(path)
    assert commands(first) == ["ls", "pwd"]
    again = read(path, first.cursor)
    assert (commands(again), again.unchanged) == ([], True)
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute(done)
    last = read(path, again.cursor)
    assert [(entry.event.command, entry.event.exit_code) for entry in last.entries] == [("make", 1)]
    assert read(path, last.cursor).unchanged


def test_a_running_command_of_no_known_session_waits_although_others_ran_since(tmp_path):
    now = int(time.time()) - DAY
    rows = [("old", 1, None), ("make", now - 8, None), ("pwd", now, 0)]
    unnamed = [
        nushell(number, text, start_timestamp=(DAY + at) * 1000, session_id=None, exit_status=code, duration_ms=code)
        for number, (text, at, code) in enumerate(rows, 1)
    ]
    assert commands(read(make(tmp_path / "h.db", "nushell", unnamed))) == ["old", "pwd"]


def test_a_command_without_outcome_is_read_when_its_session_has_gone_on_or_long_ago(tmp_path):
    now = int(time.time()) - DAY
    running = {"duration": -1, "exit": -1}
    rows = [atuin(1, "old", session="o", **running), atuin(now - 5, "killed", **running), atuin(now, "ls")]
    path = make(tmp_path / "h.db", "atuin", rows)
    assert [(one.event.command, one.event.exit_code) for one in read(path).entries] == [
        ("old", None),
        ("killed", None),
        ("ls", 0),
    ]


@EVERY
def test_a_database_that_was_cleared_and_begun_anew_is_read_as_a_whole(tmp_path, program):
    row = ROWS[program]
    path = make(tmp_path / "h.db", program, [row(1, "a"), row(2, "b"), row(3, "c")])
    before = read(path).cursor
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute("DELETE FROM history")
    shrunk = read(path, before)
    assert (shrunk.rewritten, commands(shrunk)) == (True, [])
    insert(path, [row(11, "d"), row(12, "e"), row(13, "f"), row(14, "g")])
    anew = read(path, before)
    assert (anew.rewritten, commands(anew)) == (True, ["d", "e", "f", "g"])


def test_a_database_is_never_written_to_and_read_in_a_folder_that_is_read_only(tmp_path):
    path = make(tmp_path / "in" / "h.db", "atuin", [atuin(1, "ls")])
    before = path.read_bytes()
    path.parent.chmod(0o500)
    try:
        assert commands(read(path)) == ["ls"]
    finally:
        path.parent.chmod(0o700)
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA journal_mode = delete")
    assert commands(read(path)) == ["ls"]
    assert [file.name for file in path.parent.iterdir()] == ["h.db"]


def test_a_locked_database_is_said_to_be_locked_and_read_later(memory, tmp_path):
    path = make(tmp_path / "h.db", "atuin", [atuin(1, "ls")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = delete")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match=r"h\.db is locked by another program.*run it again"):
            memory.ingest_history(path)
        other.execute("ROLLBACK")
    assert memory.ingest_history(path).events == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:4096] + b"\xff" * (len(data) - 4096), "damaged.*atuin history list"),
        (lambda data: data[:100], "damaged"),
        (lambda data: b"SQLite format 3\0" + b"junk" * 2000, "damaged"),
    ],
    ids=["pages", "cut-short", "junk"],
)
def test_a_damaged_database_is_named_with_the_way_out(tmp_path, spoil, message):
    path = make(tmp_path / "h.db", "atuin", [atuin(at, "ls" * 50) for at in range(200)])
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA journal_mode = delete")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SourceError, match=f"(?s)h.db is an SQLite database.*{message}"):
        read(path)


def test_somebody_elses_database_and_the_wrong_shell_are_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "bookmarks.db")) as sql, sql:
        sql.execute("CREATE TABLE history (url TEXT)")
    with pytest.raises(SourceError, match="no history of atuin, nushell or IPython"):
        read(tmp_path / "bookmarks.db")
    with pytest.raises(SourceError, match="a history of ipython, not of atuin"):
        read(make(tmp_path / "i.db", "ipython"), shell="atuin")
    (tmp_path / "text").write_text("ls\n")
    with pytest.raises(SourceError, match="no SQLite database, so it is no history of atuin"):
        read(tmp_path / "text", shell="atuin")


def test_values_of_the_wrong_kind_and_giant_commands_cost_what_they_are(tmp_path):
    rows = [atuin(1, "x" * 10_000_000), atuin(2, b"raw \xff"), atuin(3, "ok", exit="bad", cwd=b"/b", duration="long")]
    path = make(tmp_path / "h.db", "atuin", rows)
    reading = read(path)
    assert (commands(reading), reading.oversize) == (["raw \ufffd", "ok"], 1)
    assert reading.entries[1].event.exit_code is None


@pytest.mark.parametrize("data", [None, {}, {"version": 1, "shell": "atuin"}, {"version": 1, "waiting": []}])
def test_a_cursor_that_is_none_means_from_the_start(data):
    assert stored_cursor(data) is None


def test_a_row_cursor_survives_being_stored():
    cursor = RowCursor("atuin", 7, 5, "0" * 64, (3, 4))
    assert stored_cursor(cursor.to_json()) == cursor
    assert stored_cursor({**cursor.to_json(), "waiting": ["x"]}) is None


@EVERY
def test_ingested_twice_copied_and_grown_it_makes_no_duplicates(memory, tmp_path, program):
    row = ROWS[program]
    path = make(tmp_path / "h.db", program, [row(1, "make"), row(2, "ls"), row(3, "make")])
    assert memory.ingest_history(path).events == 3
    assert memory.ingest_history(path).events == 0
    insert(path, [row(4, "make")])
    assert memory.ingest_history(path).events == 1
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute("DELETE FROM history WHERE rowid >= (SELECT max(rowid) FROM history)")
    assert memory.ingest_history(path).events == 0  # it shrank: what was read stays
    (hit,) = memory.search("make", kind="commands", k=1)
    assert hit.metadata["count"] == 3
