"""Copies of one vector: the index holds a few, all are found, and none is lost when those it holds are deleted."""

import contextlib
import sqlite3
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import DIM, add_chunks, chunk, delete_chunks, names_of, opened, unit_vectors

from omnimemory.storage import twins
from omnimemory.storage.drain import DrainOptions, drain
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.rebuild import open_index
from omnimemory.storage.twins import MOST_TWINS, left_out, renew_twins, surplus, twins_left_out


def add_groups(store, groups, seed=0, prefix="row"):
    """Store a chunk for each number in ``groups``, in this order: equal numbers have equal vectors."""
    kinds = unit_vectors(max(groups) + 1, seed)
    names = [f"{prefix}{place}" for place in range(len(groups))]
    add_chunks(store, [chunk(name) for name in names], kinds[groups])
    return names, kinds


@contextlib.contextmanager
def manual(tmp_path):
    """Give a store that is drained by hand, its open index, and a function that drains."""
    with opened(tmp_path / "store", index=False) as store:
        index, generation = open_index(store.path, store.catalog, DrainOptions())

        def bring(**options):
            return drain(store.catalog, index, generation, 10, **options)

        try:
            yield store, index, bring
        finally:
            index.close()


def held_and_left(store, index):
    """Return the names of the chunks that the index holds, and of those that it was not given."""
    names = dict(store.catalog.rows("SELECT id, chunk_id FROM chunks"))
    collection = store.documents.collection
    aside = left_out(store.catalog, store.generations.active(), collection)
    return set(index.vectors(collection, list(names.values()))), {names[item] for item in aside}


def check_groups(store, index, group_of):
    """Nobody is missing; of each group the index holds as many as it should at least."""
    held, aside = held_and_left(store, index)
    alive = {name for (name,) in store.catalog.rows("SELECT chunk_id FROM chunks")}
    assert held | aside == alive
    in_index, sizes = Counter(group_of[name] for name in held), Counter(group_of[name] for name in alive)
    assert all(in_index[group] >= min(size, MOST_TWINS) for group, size in sizes.items())


@pytest.mark.parametrize("groups", [[800] * 5, [100] * 20, [4000]])
def test_where_many_texts_are_the_same_the_index_gives_the_hits_of_the_exact_search(tmp_path, groups):
    kinds = [group for group, size in enumerate(groups) for _ in range(size)] + list(range(100, 2100))
    order = np.random.default_rng(5).permutation(kinds).tolist()
    with opened(tmp_path / "store", exact_rows=0) as store:
        _, vectors = add_groups(store, order)
        assert store.drain() is None
        assert store.warm() is None
        everything, found = {"no such key": {"$ne": 0}}, []
        for number in range(40):
            asked = vectors[number * 50] + np.random.default_rng(number).normal(size=DIM).astype(np.float32) * 0.1
            query = asked / np.linalg.norm(asked)
            nearest, exact = (store.nearest("documents", query, 10, where) for where in (None, everything))
            assert (nearest.answered_by, exact.answered_by) == ("chroma", "exact")
            found.append(len(set(nearest.rows) & set(exact.rows)) / 10)
        assert np.mean(found) > 0.99
        assert min(found) > 0.8


def test_of_equal_texts_the_first_are_given_as_by_the_exact_search(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        names, vectors = add_groups(store, [0] * 60)
        assert store.drain() is None
        assert store.warm() is None
        nearest = store.nearest("documents", vectors[0], 50)
        assert nearest.answered_by == "chroma"
        assert names_of(store, nearest) == names[:50]


def test_the_index_holds_a_few_copies_and_the_rest_is_noted(tmp_path):
    with manual(tmp_path) as (store, index, bring):
        names, _ = add_groups(store, [0] * 30 + [1] * MOST_TWINS)
        assert bring() == 2 * MOST_TWINS
        held, aside = held_and_left(store, index)
        assert held == {*names[:MOST_TWINS], *names[30:]}
        assert aside == set(names) - held


def test_a_rebuild_leaves_the_same_out_and_the_index_passes_its_questions(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        add_groups(store, [0] * 100 + list(range(1, 30)))
        assert store.drain() is None
        collection = store.documents.collection
        before = left_out(store.catalog, store.generations.active(), collection)
        (store.path / "index" / str(store.generations.active()) / "manifest.json").unlink(missing_ok=True)
        assert store.warm() is None
        assert store.generations.active() == 1
        assert store.rebuild() == 2
        assert left_out(store.catalog, 2, collection) == before
        assert left_out(store.catalog, 1, collection) == set()


def test_when_copies_in_the_index_are_deleted_others_take_their_place(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        names, vectors = add_groups(store, [0] * 40 + list(range(1, 40)))
        assert store.drain() is None
        assert store.warm() is None
        delete_chunks(store, names[:MOST_TWINS])
        assert store.drain() is None
        nearest = store.nearest("documents", vectors[0], 32)
        assert nearest.answered_by == "chroma"
        assert names_of(store, nearest) == names[MOST_TWINS:40]


@pytest.mark.parametrize("others", [1, 2, 5, MOST_TWINS, 30])
def test_what_is_left_out_is_taken_when_the_others_go(tmp_path, others):
    with manual(tmp_path) as (store, index, bring):
        names, _ = add_groups(store, [0] * (MOST_TWINS + others))
        bring()
        delete_chunks(store, names[:MOST_TWINS])
        bring()
        held, aside = held_and_left(store, index)
        assert len(held) == min(others, MOST_TWINS)
        assert held | aside == set(names[MOST_TWINS:])
        assert not held & aside
        delete_chunks(store, sorted(aside))
        assert held_and_left(store, index)[1] == set()


def test_a_deletion_while_a_drain_decides_leaves_nobody_behind(tmp_path, monkeypatch):
    add = ChromaIndex.add
    with manual(tmp_path) as (store, index, bring):
        names, _ = add_groups(store, [0] * MOST_TWINS)
        bring()
        more, _ = add_groups(store, [0] * 25, prefix="more")

        def add_late(self, collection, payload):
            add(self, collection, payload)
            if not deleted:
                deleted.extend(names)
                delete_chunks(store, names)  # another process does, after it was decided that these are enough

        deleted = []
        monkeypatch.setattr(ChromaIndex, "add", add_late)
        bring()
        bring()
        assert deleted
        check_groups(store, index, dict.fromkeys([*names, *more], 0))


def test_what_was_left_out_but_not_marked_is_not_taken_for_a_copy_in_the_index(tmp_path):
    with manual(tmp_path) as (store, index, bring):
        names, _ = add_groups(store, [0] * 40)
        other = sqlite3.connect(store.catalog.path, isolation_level=None)
        taken = {}
        try:
            other.execute("BEGIN IMMEDIATE")
            bring(taken=taken, least=5)
            assert taken["documents"].left_out
            other.execute("ROLLBACK")
            delete_chunks(store, names[:MOST_TWINS])
            bring(taken=taken)
        finally:
            other.close()
        check_groups(store, index, dict.fromkeys(names, 0))
        assert not taken["documents"].left_out


def test_copies_are_found_while_the_deletion_of_others_is_still_news_to_the_index(tmp_path):
    with opened(tmp_path / "store", exact_rows=0) as store:
        names, vectors = add_groups(store, [0] * 40 + list(range(1, 60)))
        assert store.drain() is None
        assert store.warm() is None
        with store._session._held.lock:  # the keeper must not drain what this test wants to be news
            delete_chunks(store, names[:MOST_TWINS])
            nearest = store.nearest("documents", vectors[0], 20)
            assert nearest.answered_by == "chroma"
            assert names_of(store, nearest) == names[MOST_TWINS:28]


@pytest.mark.parametrize(("copies", "kept"), [(MOST_TWINS, True), (MOST_TWINS + 1, False), (40, False)])
def test_an_index_that_was_given_all_copies_by_an_older_version_is_made_anew(tmp_path, monkeypatch, copies, kept):
    monkeypatch.setattr(twins, "MOST_TWINS", 10**6)
    with opened(tmp_path / "store", exact_rows=0) as store:
        names, vectors = add_groups(store, [0] * copies + list(range(1, 20)))
        assert store.warm() is None
        assert store._session._held._index.count(store.documents.collection) == len(names)
    monkeypatch.undo()
    catalog = sqlite3.connect(tmp_path / "store" / "catalog.sqlite3", isolation_level=None)
    catalog.execute("DROP TABLE left_out")
    catalog.execute("DROP INDEX vectors_twins")
    catalog.execute("UPDATE alembic_version SET version_num = '0004'")
    catalog.close()
    with opened(tmp_path / "store", exact_rows=0) as store:
        assert (store.generations.active() == 1) == kept
        assert store.warm() is None
        assert store._session._held._index.count(store.documents.collection) == min(copies, MOST_TWINS) + 19
        nearest = store.nearest("documents", vectors[0], copies)
        assert nearest.answered_by == "chroma"
        assert names_of(store, nearest) == names[:copies]


def plans_of(asked, connection):
    """Return how SQLite looks for each of (statement, parameters)."""
    return [
        line[-1]
        for statement, parameters in asked
        for line in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]


def test_no_question_about_copies_reads_a_whole_collection(tmp_path, monkeypatch):
    with opened(tmp_path / "store", index=False) as store:
        names, _ = add_groups(store, [0] * 40 + list(range(1, 40)))
        collection, asked = store.documents.collection, []
        generation = store.generations.begin_empty()
        for name in ("rows", "blocks"):
            real = getattr(store.catalog, name)
            monkeypatch.setattr(store.catalog, name, lambda *given, real=real: asked.append(given[:2]) or real(*given))
        found = surplus(store.catalog, generation, collection, 0, 10**6, set())
        assert len(found) == 40 - MOST_TWINS
        store.generations.mark_drained(generation, collection, 79, found)
        assert len(twins_left_out(store.catalog, generation, collection, [1, 50], 10)) == 10

        class Seen:
            def execute(self, statement, parameters=()):
                asked.append((statement, parameters))
                return sql.execute(statement, parameters)

            def executemany(self, statement, rows):
                return sql.executemany(statement, rows)

        with store.catalog.transaction() as sql:
            renew_twins(Seen(), collection.id, list(store.documents.rows_of(names[:5]).values()))
        connection = sqlite3.connect(store.catalog.path)
        plans = plans_of(asked, connection)
        connection.close()
    assert sum("vectors_twins (collection_id=? AND <expr>=?" in line for line in plans) >= 4
    for line in plans:
        if line.startswith("SCAN"):
            assert line.split()[1] in {"j", "CONSTANT", "json_each", "sqlite_master", "generations"}, line
        elif line.startswith("SEARCH"):
            assert " (collection_id=?)" not in line, line


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 1), min_size=8, max_size=30)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 40), min_size=1, max_size=30)),
        st.tuples(st.just("drain"), st.booleans()),
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=25)
@given(STEPS)
def test_whatever_comes_and_goes_nobody_is_lost_to_the_index(tmp_path_factory, steps):
    with manual(tmp_path_factory.mktemp("law")) as (store, index, bring):
        group_of, taken = {}, {}
        for number, (what, content) in enumerate(steps):
            if what == "add":
                names, _ = add_groups(store, content, prefix=f"{number}-")
                group_of |= dict(zip(names, content, strict=True))
            elif what == "delete":
                alive = sorted(store.documents.rows_of(list(group_of)))
                delete_chunks(store, sorted({alive[place % len(alive)] for place in content}) if alive else [])
            else:
                bring(taken=taken, least=5 if content else None)
        bring(taken=taken)
        check_groups(store, index, group_of)
