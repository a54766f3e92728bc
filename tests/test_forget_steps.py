"""Forgetting reaches what was derived of executions: transitions, sequences, counts, routines, predictions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from forget_cases import files_with, holders, marker, stamped

from omnimemory.memory import Memory
from omnimemory.procedure.stored_steps import sequence_table, transition_table
from omnimemory.storage.vectors import read_vectors

WORD = marker(7)
LINES = ["cd api", f"deploy-{WORD} now", "git push", "make test"]
SECOND = 1_700_000_000


def vectors_by_text(memory, kind):
    table = transition_table(memory.store) if kind == "transitions" else sequence_table(memory.store, 0.1)
    blocks = list(read_vectors(memory.store.catalog, table.collection))
    found = {}
    for _, items, vectors in blocks:
        told = table.items(items.tolist())
        found.update({told[item].text: row for item, row in zip(items.tolist(), vectors, strict=True)})
    return found


def parts_of(vector):
    """Return the middle of a vector as bytes: of a transition a piece of both halves, which no other one has."""
    row = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return [row[len(row) // 2 - 32 : len(row) // 2 + 32]]


def test_no_vector_of_a_step_with_a_forgotten_command_is_left_in_any_file(indexed, tmp_path):
    (tmp_path / "history").write_text(stamped(*LINES * 3))
    with Memory(settings=indexed) as memory:
        memory.ingest_history(tmp_path / "history", shell="bash")
        assert memory.store.drain() is None
        memory.backup(tmp_path / "backup")
        gone, kept = {}, {}
        for kind in ("transitions", "sequences"):
            for text, vector in vectors_by_text(memory, kind).items():
                (gone if WORD in text else kept)[text] = vector
    assert len(gone) >= 3
    needles = [parts_of(vector) for vector in gone.values()]
    places = files_with(tmp_path, needles)
    assert all(any(name.startswith("store/catalog") for name in found) for found in places)
    assert all(any(name.startswith("store/index/") for name in found) for found in places)
    assert all(any(name.startswith("backup/catalog") for name in found) for found in places)
    with Memory(settings=indexed) as memory:
        assert memory.forget(pattern=WORD).unpurged == ()
    assert files_with(tmp_path, needles) == [[]] * len(needles)
    assert holders(tmp_path, WORD, but=("history",)) == []
    with Memory(settings=indexed) as memory:
        assert kept.keys() & vectors_by_text(memory, "transitions").keys()  # the others are still there
        assert memory.doctor().ok


def test_a_step_that_was_taken_in_forgotten_hours_only_is_forgotten_though_both_commands_stay(indexed, tmp_path):
    commands = ["cd api", "make test", "git push"]
    (tmp_path / "history").write_text(stamped(*commands, "make test", "cd api", first=SECOND))
    with Memory(settings=indexed) as memory:
        memory.ingest_history(tmp_path / "history", shell="bash")
        assert memory.store.drain() is None
        steps = vectors_by_text(memory, "transitions")
        assert steps.keys() == {"\n".join(pair) for pair in pairwise([*commands, "make test", "cd api"])}
        needles = [parts_of(steps["git push\nmake test"]), parts_of(steps["make test\ncd api"])]
        assert all(files_with(tmp_path / "store", needles))
        memory.forget(after=SECOND + 150)
        assert vectors_by_text(memory, "transitions").keys() == {"\n".join(pair) for pair in pairwise(commands)}
        assert [one.after for one in memory.similar_steps("git push", k=9) if one.before == "git push"] == []
    assert files_with(tmp_path / "store", needles) == [[], []]


def test_counts_routines_and_predictions_know_nothing_of_it(memory, tmp_path):
    (tmp_path / "history").write_text(stamped(*LINES * 6))
    memory.ingest_history(tmp_path / "history", shell="bash")
    assert WORD in repr((memory.next_command(["cd api"]), memory.workflows(), memory.similar_sessions(["cd api"])))
    memory.forget(pattern=WORD)
    told = (
        memory.next_command(["cd api"], k=50),
        memory.workflows(),
        memory.similar_sessions(["cd api"], k=50),
        memory.similar_steps("cd api", k=50),
        memory.why_failed("cd api"),
    )
    assert WORD not in repr(told)
    assert memory.next_command(["cd api"], k=1)[0].why.startswith("seen 6 times")  # what is left, counted anew
    assert memory.next_command(["cd api"], k=1)[0].command == "git push"
