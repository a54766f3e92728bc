"""Exact search: equal to brute force under any history of inserts and deletes, with any mask, from any thread."""

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_cases import DIM, SPACE, add_chunks, chunk, delete_chunks, opened, unit_vectors

from omnimemory.storage.catalog import Catalog
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.exact import ExactIndex
from omnimemory.storage.vectors import cosines, insert_vectors


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path / "store", index=False) as store:
        yield store


def exact_index(store):
    return ExactIndex(store.catalog, store.documents.collection)


def brute_force(vectors_by_item, query, k):
    """Return the items and cosines of the k nearest, computed with nothing but float64, ties by item."""
    scored = [
        (-float(np.dot(vector.astype(np.float64), query.astype(np.float64))), item)
        for item, vector in vectors_by_item.items()
    ]
    best = sorted((round(score, 9), item) for score, item in scored)[:k]
    return [item for _, item in best], [-score for score, _ in best]


class Changes(RuleBasedStateMachine):
    """Chunks come, go and come back with few distinct vectors, so there are ties; a model keeps count."""

    vectors = unit_vectors(12, seed=5)

    @initialize()
    def begin(self):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.catalog = Catalog(Path(self.folder.name) / "catalog.sqlite3")
        self.documents = DocumentTable(self.catalog, self.catalog.ensure_collection("documents", **SPACE))
        self.exact = ExactIndex(self.catalog, self.documents.collection)
        self.model = {}
        self.frozen = []

    @rule(names=st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), seed=st.integers(0, 2**16))
    def insert(self, names, seed):
        chosen = self.vectors[np.random.default_rng(seed).integers(0, len(self.vectors), len(names))]
        rows = add_chunks(self, [chunk(f"c{name}") for name in names], chosen)
        for row, vector in zip(rows, chosen, strict=True):
            self.model.setdefault(row, vector)

    @rule(names=st.lists(st.integers(0, 30), max_size=8, unique=True))
    def delete(self, names):
        rows = self.documents.rows_of([f"c{name}" for name in names])
        delete_chunks(self, list(rows))
        for row in rows.values():
            del self.model[row]

    @rule(names=st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True), seed=st.integers(0, 2**16))
    def replace_in_one_transaction(self, names, seed):
        public = [f"c{name}" for name in names]
        chosen = unit_vectors(len(names), seed)
        old = self.documents.rows_of(public)
        with self.catalog.transaction() as sql:
            self.documents.delete(sql, list(old.values()))
            owner = self.documents.ensure_source(sql, "file:notes", "file")
            rows = self.documents.add(sql, owner, [chunk(name) for name in public], pending=False)
            insert_vectors(sql, self.documents.collection, rows, chosen)
        for row in old.values():
            del self.model[row]
        self.model.update(zip(rows, chosen, strict=True))

    @rule()
    def freeze(self):
        snapshot = self.exact.snapshot()
        self.frozen.append((snapshot, snapshot.items.copy(), snapshot.vectors.copy()))

    @rule()
    def start_anew(self):
        self.exact = ExactIndex(self.catalog, self.documents.collection)

    @rule(k=st.integers(0, 40), seed=st.integers(0, 2**16), share=st.sampled_from([None, 0.0, 0.3, 1.0]))
    def search(self, k, seed, share):
        random = np.random.default_rng(seed)
        query = self.vectors[seed % 12] if seed % 2 else unit_vectors(1, seed)[0]
        snapshot = self.exact.snapshot()
        mask = None if share is None else random.random(len(snapshot)) < share
        allowed = set(snapshot.items.tolist() if mask is None else snapshot.items[mask].tolist())
        items, scores = self.exact.search(query, k, mask, snapshot)
        wanted, wanted_scores = brute_force({i: v for i, v in self.model.items() if i in allowed}, query, k)
        assert items == wanted
        assert scores == pytest.approx(wanted_scores, abs=1e-8)

    @invariant()
    def the_copy_is_what_the_catalog_holds(self):
        snapshot = self.exact.snapshot()
        assert dict(zip(snapshot.items.tolist(), snapshot.vectors.tolist(), strict=True)) == {
            item: vector.tolist() for item, vector in self.model.items()
        }
        assert snapshot.rows.tolist() == sorted(snapshot.rows.tolist())

    def teardown(self):
        for snapshot, items, vectors in self.frozen:
            assert np.array_equal(snapshot.items, items)
            assert np.array_equal(snapshot.vectors, vectors)
        self.catalog.close()
        self.folder.cleanup()


Changes.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestChanges = Changes.TestCase


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 501])
def test_equal_vectors_are_equally_near_and_come_in_order(store, count):
    # A matrix product rounds a row differently at different places: that must not decide who is first.
    same = np.repeat(unit_vectors(1, seed=3), count, axis=0)
    rows = add_chunks(store, [chunk(f"c{n}") for n in range(count + 40)], np.vstack([same, unit_vectors(40, seed=4)]))
    exact = exact_index(store)
    for seed in range(20):
        items, scores = exact.search(unit_vectors(1, seed)[0], count + 40)
        twins = [(item, score) for item, score in zip(items, scores, strict=True) if item in set(rows[:count])]
        assert [item for item, _ in twins] == rows[:count]
        assert len({score for _, score in twins}) == 1


def test_a_score_does_not_depend_on_who_else_is_scored():
    vectors, query = unit_vectors(257, dim=256), unit_vectors(1, seed=9, dim=256)[0]
    together = cosines(vectors, query)
    alone = [cosines(vectors[n : n + 1], query)[0] for n in range(len(vectors))]
    chosen = cosines(vectors, query, np.array([200, 3, 3]))
    assert together.tolist() == alone
    assert chosen.tolist() == together[[200, 3, 3]].tolist()
    assert together == pytest.approx(vectors.astype(np.float64) @ query.astype(np.float64), abs=1e-12)


def test_an_item_keeps_its_place_among_ties_after_it_was_embedded_later(store):
    same = np.repeat(unit_vectors(1), 3, axis=0)
    with store.catalog.transaction() as sql:
        owner = store.documents.ensure_source(sql, "file:a", "file")
        rows = store.documents.add(sql, owner, [chunk("x"), chunk("y"), chunk("z")], pending=True)
        insert_vectors(sql, store.documents.collection, rows[::-1], same)
    assert exact_index(store).search(same[0], 2)[0] == rows[:2]


def test_what_another_process_commits_is_in_the_next_snapshot(tmp_path, store):
    exact = exact_index(store)
    assert len(exact.snapshot()) == 0
    assert exact.search(unit_vectors(1)[0], 3) == ([], [])
    other = Catalog(store.path / "catalog.sqlite3")

    class Other:
        catalog = other
        documents = DocumentTable(other, store.documents.collection)

    rows = add_chunks(Other, [chunk("a"), chunk("b")], unit_vectors(2))
    assert exact.search(unit_vectors(2)[1], 1)[0] == [rows[1]]
    delete_chunks(Other, ["b"])
    assert exact.search(unit_vectors(2)[1], 1)[0] == [rows[0]]
    other.close()


def test_a_mask_is_of_the_snapshot_it_came_with(store):
    rows = add_chunks(store, [chunk(f"c{n}", {"even": n % 2 == 0}) for n in range(10)], unit_vectors(10))
    exact = exact_index(store)
    snapshot, mask = exact.mask({"even": True}, store.documents.stamp(), store.documents.column)
    delete_chunks(store, ["c0", "c2"])
    add_chunks(store, [chunk("new", {"even": True})], unit_vectors(1))
    items, _ = exact.search(unit_vectors(1)[0], 20, mask, snapshot)
    assert set(items) == set(rows[::2])
    snapshot, mask = exact.mask({"even": True}, store.documents.stamp(), store.documents.column)
    assert int(mask.sum()) == len(rows[4::2]) + 1


def test_threads_search_while_others_add_and_delete(store):
    base = unit_vectors(300)
    rows = add_chunks(store, [chunk(f"base{n}") for n in range(300)], base)
    exact, stop, trouble = exact_index(store), threading.Event(), []

    def search(number):
        random = np.random.default_rng(number)
        while not stop.is_set():
            n = int(random.integers(0, 300))
            items, scores = exact.search(base[n], 1)
            if items != [rows[n]] or abs(scores[0] - 1) > 1e-6:
                trouble.append((n, items, scores))

    def change():
        for round_ in range(15):
            added = [f"extra{round_}-{n}" for n in range(20)]
            add_chunks(store, [chunk(name) for name in added], -np.abs(unit_vectors(20, seed=round_ + 1)))
            delete_chunks(store, added[::2])

    threads = [threading.Thread(target=search, args=(number,)) for number in range(3)]
    changers = [threading.Thread(target=change)]
    for thread in threads + changers:
        thread.start()
    changers[0].join()
    stop.set()
    for thread in threads:
        thread.join()
    assert not trouble
    assert len(exact.snapshot()) == 300 + 15 * 10
    assert exact.snapshot().vectors.shape == (450, DIM)


def test_adding_row_by_row_does_not_copy_the_matrix_each_time(store):
    add_chunks(store, [chunk(f"base{n}") for n in range(200)], unit_vectors(200))
    exact = exact_index(store)
    places = set()
    for n in range(30):
        add_chunks(store, [chunk(f"one{n}")], unit_vectors(1, seed=n))
        places.add(exact.snapshot().vectors.__array_interface__["data"][0])
    assert len(places) <= 5


def test_k_larger_than_the_collection_and_an_empty_mask_behave(store):
    add_chunks(store, [chunk(f"c{n}") for n in range(5)], unit_vectors(5))
    exact = exact_index(store)
    assert len(exact.search(unit_vectors(1)[0], 1000)[0]) == 5
    assert exact.search(unit_vectors(1)[0], 3, np.zeros(5, dtype=np.bool_)) == ([], [])
    assert exact.search(unit_vectors(1)[0], 0) == ([], [])


def test_scores_of_single_rows_are_the_same_from_memory_and_from_the_catalog(tmp_path):
    query = unit_vectors(1, 9)[0]
    with opened(tmp_path / "other", index=False) as store:
        rows = add_chunks(store, [chunk(f"n{n}") for n in range(40)], unit_vectors(40))
        read = store.scores("documents", query, rows)
        for _ in range(2):  # the first search of all keeps no copy
            store.nearest("documents", query, 3)
        assert store.scores("documents", query, rows) == read
        more = add_chunks(store, [chunk(f"m{n}") for n in range(5)], unit_vectors(5, 3))
        delete_chunks(store, ["n7"])
        after = store.scores("documents", query, [*rows, *more, 999])
        assert after.keys() == {*rows, *more} - {rows[7]}
        assert {row: after[row] for row in rows if row != rows[7]} == {r: read[r] for r in rows if r != rows[7]}


def test_scores_are_those_of_the_rows_in_whatever_order_they_were_embedded(store):
    vectors = unit_vectors(30)
    order = np.random.default_rng(3).permutation(30)
    with store.catalog.transaction() as sql:
        owner = store.documents.ensure_source(sql, "file:a", "file")
        rows = store.documents.add(sql, owner, [chunk(f"n{n}") for n in range(30)], pending=True)
        insert_vectors(sql, store.documents.collection, [rows[n] for n in order], vectors[order])
    exact, query = exact_index(store), vectors[4]
    assert exact.scores(query, rows) == {}  # there is no copy yet
    exact.snapshot()
    found = exact.scores(query, [rows[n] for n in (29, 4, 0, 11)] + [max(rows) + 7])
    right = dict(zip(rows, cosines(vectors, query).tolist(), strict=True))
    assert found == {rows[n]: right[rows[n]] for n in (29, 4, 0, 11)}
    delete_chunks(store, [f"n{n}" for n in range(30)])
    assert exact.scores(query, rows) == {}
