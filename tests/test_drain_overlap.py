"""Draining beside a writer: it begins early, and another process's long commit does not hold it up."""

import os
import sqlite3

import psutil
import pytest
from store_cases import add_rows, opened, wait_until

from omnimemory.memory import Memory
from omnimemory.storage import drainer
from omnimemory.storage.drain import DrainOptions, drain
from omnimemory.storage.rebuild import open_index


def draining():
    """Return the processes of this one that drain."""
    found = []
    for child in psutil.Process().children():
        try:
            found += [child] if "omnimemory.storage.drainer" in child.cmdline() else []
        except psutil.Error:
            continue  # it ended meanwhile
    return found


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path / "store", index=False) as store:
        yield store


def test_a_drain_goes_on_while_another_process_writes_and_marks_it_later(store):
    add_rows(store, 24)
    index, generation = open_index(store.path, store.catalog, DrainOptions())
    other = sqlite3.connect(store.catalog.path, isolation_level=None)
    collection = store.documents.collection
    taken = {}
    try:
        other.execute("BEGIN IMMEDIATE")
        assert drain(store.catalog, index, generation, 10, taken=taken, least=5) == 20
        assert drain(store.catalog, index, generation, 10, taken=taken, least=5) == 0
        assert index.count(collection) == 20
        assert store.generations.drained(generation, collection) == 0
        other.execute("ROLLBACK")
        assert drain(store.catalog, index, generation, 10, taken=taken) == 4
        assert store.generations.drained(generation, collection) == 24
    finally:
        other.close()
        index.close()


def test_rows_that_come_slowly_are_drained_before_they_fill_half_a_batch(store, monkeypatch):
    collection, now, seen = store.documents.collection, [0.0], []

    def news():
        for number, seconds in enumerate((1.0, 1.0, 1.0, 1.0, 3.0)):
            add_rows(store, 6, prefix=f"{number}-", seed=number)
            now[0] += seconds
            yield True
            generation = store.generations.active()
            seen.append(store.generations.drained(generation, collection))

    monkeypatch.setattr(drainer.time, "monotonic", lambda: now[0])
    drainer._drain_until_told(store.path, store.catalog, DrainOptions(batch_size=40), news())
    # Twice nothing, then what came in three seconds, nothing again, and the rest.
    assert seen == [0, 0, 18, 18, 30]


def test_what_is_the_last_for_now_is_drained_at_once(store):
    collection, seen = store.documents.collection, []

    def news():
        for number, more in enumerate((True, False, True)):
            add_rows(store, 6, prefix=f"{number}-", seed=number)
            yield more
            seen.append(store.generations.drained(store.generations.active(), collection))

    drainer._drain_until_told(store.path, store.catalog, DrainOptions(batch_size=40), news())
    assert seen == [0, 12, 12]
    assert store.generations.drained(store.generations.active(), collection) == 18


@pytest.mark.parametrize(("cores", "kept"), [({3}, {3}), ({0, 2}, 1), (set(range(4)), 1), (set(range(5)), None)])
def test_on_few_cores_the_child_keeps_to_one_of_those_it_may_use(monkeypatch, cores, kept):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda process, chosen: set_to.append((process, chosen)), raising=False
    )
    chosen = set()
    for process in range(8):
        set_to = []
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        drainer._keep_to_one_core()
        if kept is None:
            assert set_to == []
        else:
            ((zero, one),) = set_to
            assert (zero, len(one)) == (0, 1)
            chosen |= one
    assert kept is None or chosen == cores  # processes with other numbers take other cores


def test_the_child_itself_keeps_to_one_core_and_its_parent_does_not(store):
    if not hasattr(os, "sched_setaffinity") or not 2 <= len(os.sched_getaffinity(0)) <= drainer._FEW_CORES:
        pytest.skip("it takes a system with affinities, and two to four cores")
    before = os.sched_getaffinity(0)
    child = drainer.Drainer(store.path, DrainOptions())
    try:
        assert wait_until(lambda: len(os.sched_getaffinity(child._process.pid)) == 1)
        assert os.sched_getaffinity(0) == before
    finally:
        assert child.finish() is None


def test_the_first_generation_is_taken_up_where_a_drain_was_broken_off(store):
    add_rows(store, 24)
    index, generation = open_index(store.path, store.catalog, DrainOptions())
    drain(store.catalog, index, generation, 10, least=5)
    index.abandon()
    index, again = open_index(store.path, store.catalog, DrainOptions())
    try:
        assert again == generation
        assert drain(store.catalog, index, generation, 10) == 4
    finally:
        index.close()


@pytest.mark.slow
def test_the_child_that_drains_starts_while_a_large_history_is_still_being_read(indexed, tmp_path):
    history = tmp_path / "history"
    history.write_text("".join(f"echo {'x' * 200} {number}\n" for number in range(1500)))
    seen = []
    with Memory(settings=indexed) as memory:
        memory.ingest_history(history, shell="bash", progress=lambda _: seen.append(len(draining())))
        assert memory.store.commands.count() == 1500
        assert memory.store.generations.waiting() == 0
    assert seen[0] == 1
    assert wait_until(lambda: not draining())


def test_a_small_history_starts_no_child_before_something_is_committed(indexed, tmp_path):
    history = tmp_path / "history"
    history.write_text("".join(f"echo {number}\n" for number in range(50)))
    seen = []
    with Memory(settings=indexed) as memory:
        memory.ingest_history(history, shell="bash", progress=lambda _: seen.append(len(draining())))
    assert seen[0] == 0
