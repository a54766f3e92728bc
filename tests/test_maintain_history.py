"""Maintenance of what was run: kept for good by default; what is too old, came twice or is derived of neither goes."""

from __future__ import annotations

import time

import pytest
from forget_cases import events, stamped

from omnimemory.memory import Memory
from omnimemory.records import Event

DAY = 86_400
COMMANDS = ["cd api", "make test", "git push"]


def bring(memory, folder, name="history"):
    """Three commands a hundred days ago, the same yesterday, and one without a time."""
    old, new = (int(time.time()) - days * DAY for days in (100, 1))
    (folder / name).write_text(stamped(*COMMANDS, "old-tool", first=old) + stamped(*COMMANDS, first=new))
    memory.ingest_history(folder / name, shell="bash")
    memory.record("undated", timestamp=time.time())
    with memory.store.catalog.transaction() as sql:
        sql.execute("UPDATE events SET timestamp = NULL, checksum = NULL WHERE shell IS NULL")


def deeds(report, part):
    return [deed.count for deed in report.done if deed.part == part]


def steps(memory):
    return [memory.store.catalog.value(f"SELECT count(*) FROM {kind}") for kind in ("transitions", "sequences")]


def test_nothing_that_was_run_is_deleted_unasked(memory, tmp_path):
    bring(memory, tmp_path)
    before = events(memory)
    assert deeds(memory.maintain(), "history") == []
    assert events(memory) == before


@pytest.mark.parametrize(("days", "left"), [(50.0, 4), (200.0, 8), (None, 8)], ids=["fifty", "two-hundred", "for-good"])
def test_what_is_older_than_it_is_to_be_kept_is_forgotten_with_true_counts(settings, tmp_path, days, left):
    with Memory(settings=settings.with_values({"history.keep_days": days})) as memory:
        bring(memory, tmp_path)
        memory.maintain()  # which is what is tested; the steps of the record are there now
        assert len(events(memory)) == left
    with Memory(settings=settings.with_values({"history.keep_days": 50.0})) as memory:
        told = memory.maintain(dry_run=True)
        assert deeds(told, "history") == ([] if left == 4 else [4])
        assert len(events(memory)) == left  # a rehearsal deletes nothing
        assert deeds(memory.maintain(), "history") == deeds(told, "history")
        assert {text for text, _ in events(memory)} == {*COMMANDS, "undated"}
        assert "old-tool" not in repr(memory.search("old-tool", kind="commands"))
        assert "old-tool" not in repr(memory.similar_steps("git push", k=99))
        assert deeds(memory.maintain(), "history") == []
        memory.ingest_history(tmp_path / "history", shell="bash")
        assert len(events(memory)) == 4  # the next ingest does not bring it back
        assert memory.doctor().ok


def test_steps_are_brought_in_line_with_what_was_recorded_since(memory, tmp_path):
    bring(memory, tmp_path)
    for at, command in enumerate(["npm ci", "npm test", "npm start"]):
        memory.record(command, 0, timestamp=time.time() + at, session="agent")
    before = steps(memory)
    told = memory.maintain(dry_run=True)
    assert steps(memory) == before
    (count,) = deeds(told, "steps")
    assert count == 3  # two transitions and a sequence
    assert deeds(memory.maintain(), "steps") == [3]
    assert steps(memory) == [before[0] + 2, before[1] + 1]
    assert deeds(memory.maintain(), "steps") == []


def test_an_execution_that_another_source_tells_more_of_is_there_once(memory, tmp_path):
    bring(memory, tmp_path)
    (when,) = (stamp for text, stamp in events(memory) if text == "git push" and stamp > time.time() - 2 * DAY)
    row = memory.store.commands.known(["git push"])["git push"]
    with memory.store.catalog.transaction() as sql:  # as an import brings it
        source = memory.store.documents.ensure_source(sql, "other", "history")
        finer = [Event("git push", when + 0.3, "/api", 0), Event("git push", when + 700.3, "/api", 0)]
        memory.store.commands.add_events(sql, source, [(bytes([n]) * 16, row, n, e) for n, e in enumerate(finer)])
    before = events(memory)
    assert deeds(memory.maintain(dry_run=True), "history") == [1]
    assert deeds(memory.maintain(), "history") == [1]
    assert sorted(set(before) - set(events(memory))) == [("git push", when)]
    assert deeds(memory.maintain(), "history") == []
    assert memory.doctor().ok
