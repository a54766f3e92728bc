from __future__ import annotations

import shutil

import numpy as np
import pytest
from cache_cases import ARGS, changed, filled, made, names
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from omnimemory.errors import ConfigError, InvalidVectorError
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.cache_rows import Scope

ONE_FOLDER = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    with EmbeddingCache(folder, hot_items=0) as opened:
        yield opened


# What is put is what comes back


def test_vectors_come_back_in_order_with_a_mask_of_the_hits(folder):
    vectors = filled(folder)
    with EmbeddingCache(folder) as cache:
        got, hits = cache.get_many(*ARGS, ["text 3", "unknown", "text 0", "text 3"])
    assert hits.tolist() == [True, False, True, True]
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.array_equal(got, np.stack([vectors[3], np.zeros(4, np.float32), vectors[0], vectors[3]]))


def test_no_texts_are_no_question(cache, folder):
    got, hits = cache.get_many(*ARGS, [])
    assert (got.shape, hits.shape) == ((0, 4), (0,))
    cache.put_many(*ARGS, [], np.empty((0, 4)))
    assert not folder.exists()


def test_more_texts_than_a_statement_can_hold(cache):
    vectors = made(2500)
    cache.put_many(*ARGS, names(2500), vectors)
    got, hits = cache.get_many(*ARGS, names(2500))
    assert hits.all()
    assert np.array_equal(got, vectors)


def test_what_is_written_later_is_known_at_once_where_it_was_put(cache, folder):
    jobs, vectors = [], made(3)
    cache.put_many(*ARGS, names(3), vectors, later=jobs.append)
    with EmbeddingCache(folder) as another:
        got, hits = cache.get_many(*ARGS, ["unknown", *names(3)])
        assert hits.tolist() == [False, True, True, True]
        assert np.array_equal(got[1:], vectors)
        assert not another.get_many(*ARGS, names(3))[1].any()
        for job in jobs:
            job()
        assert np.array_equal(another.get_many(*ARGS, names(3))[0], vectors)
    changed(folder, "DELETE FROM Cache")
    assert not cache.get_many(*ARGS, names(3))[1].any()  # once written, it is on disk only


@pytest.mark.parametrize("how", ["some", "all"])
def test_what_is_deleted_before_it_is_written_never_is(cache, how):
    jobs = []
    cache.put_many(*ARGS, names(3), made(3), later=jobs.append)
    if how == "some":
        cache.delete_many(*ARGS, ["text 1"])
    else:
        cache.clear()
    left = [how == "some", False, how == "some"]
    assert cache.get_many(*ARGS, names(3))[1].tolist() == left
    for job in jobs:
        job()
    assert cache.get_many(*ARGS, names(3))[1].tolist() == left


def test_of_two_puts_that_are_written_later_the_last_stays(cache):
    jobs = []
    for seed in (1, 2):
        cache.put_many(*ARGS, ["text"], made(1, seed=seed), later=jobs.append)
    for job in jobs:
        job()
        assert np.array_equal(cache.get_many(*ARGS, ["text"])[0], made(1, seed=2))


def test_a_second_put_replaces_the_first(cache):
    cache.put_many(*ARGS, ["text"], made(1, seed=1))
    cache.put_many(*ARGS, ["text"], made(1, seed=2))
    got, _ = cache.get_many(*ARGS, ["text"])
    assert np.array_equal(got, made(1, seed=2))
    assert cache.stats()["items"] == 1


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=8, unique=True)


@settings(max_examples=60, deadline=None, suppress_health_check=ONE_FOLDER)
@given(data=st.data(), texts=TEXTS, hot=st.sampled_from([0, 3, 100]))
def test_get_after_put_returns_exactly_what_was_put(tmp_path_factory, data, texts, hot):
    vectors = data.draw(arrays(np.float32, (len(texts), 3), elements=FLOATS))
    with EmbeddingCache(tmp_path_factory.mktemp("cache"), hot_items=hot) as cache:
        cache.put_many("space", "query", 3, texts, vectors)
        got, hits = cache.get_many("space", "query", 3, texts)
    assert hits.all()
    assert got.tobytes() == vectors.tobytes()


@pytest.mark.parametrize(
    "other",
    [
        ("space2", "document", 4, "text"),
        ("space", "query", 4, "text"),
        ("space", "document", 5, "text"),
        ("space", "document", 4, "text "),
        ("spac", "edocument", 4, "text"),
        ("space", "documen", 4, "ttext"),
        ("spacedocument", "", 4, "text"),
        ("", "spacedocument", 4, "text"),
        ("space", "document\0", 4, "text"),
        ("space", "document", 4, "\0text"),
    ],
    ids=["space", "role", "dim", "text", "shift-1", "shift-2", "all-space", "all-role", "nul-role", "nul-text"],
)
def test_another_question_is_a_miss(cache, other):
    cache.put_many("space", "document", 4, ["text"], made(1))
    *scope, text = other
    assert not cache.get_many(*scope, [text])[1].any()
    cache.put_many(*scope, [text], made(1, scope[2], seed=1))
    assert np.array_equal(cache.get_many("space", "document", 4, ["text"])[0], made(1))
    assert np.array_equal(cache.get_many(*scope, [text])[0], made(1, scope[2], seed=1))


PARTS = st.text(st.sampled_from("ab\0\1|:"), max_size=5)
QUESTIONS = st.tuples(PARTS, PARTS, st.integers(1, 300), PARTS)


@given(QUESTIONS, QUESTIONS)
def test_different_questions_never_share_the_bytes_that_are_hashed(one, two):
    def material(space: str, role: str, dim: int, text: str) -> bytes:
        return Scope(space, role, dim).materials([text])[0]

    assert (material(*one) == material(*two)) == (one == two)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 4)), r"shape \(2, 4\); expected \(1, 4\)"),
        (np.ones((1, 5)), r"shape \(1, 5\)"),
        (np.ones(4), r"shape \(4,\)"),
        ([[1.0, 2.0, float("nan"), 4.0]], "NaN"),
        ([[1.0, 2.0, float("inf"), 4.0]], "NaN or infinity"),
    ],
    ids=["rows", "dim", "1-d", "nan", "inf"],
)
def test_bad_vectors_are_not_stored(cache, vectors, message):
    with pytest.raises(InvalidVectorError, match=message):
        cache.put_many(*ARGS, ["text"], vectors)
    assert not cache.get_many(*ARGS, ["text"])[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size_limit": 1000}, "1 MiB"), ({"size_limit": 0}, "1 MiB"), ({"hot_items": -1}, "use 0")],
    ids=["small-limit", "no-room", "negative-hot"],
)
def test_impossible_settings_are_refused(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingCache(folder, **options)


@pytest.mark.parametrize("dim", [0, -1, 70_000])
def test_impossible_sizes_are_refused(cache, dim):
    with pytest.raises(ConfigError, match="dimensions"):
        cache.get_many("space", "query", dim, ["text"])


# The layer in memory


def test_the_hot_layer_answers_without_the_file(folder):
    vectors = made(3)
    with EmbeddingCache(folder) as cache:
        cache.put_many(*ARGS, names(3), vectors)
        shutil.rmtree(folder)
        got, hits = cache.get_many(*ARGS, names(3))
        assert hits.all()
        assert np.array_equal(got, vectors)
        assert cache.stats()["hot_hits"] == 3


def test_the_hot_layer_keeps_what_was_used_last(folder):
    with EmbeddingCache(folder, hot_items=2) as cache:
        cache.put_many(*ARGS, names(2), made(2))
        cache.get_many(*ARGS, ["text 0"])
        cache.put_many(*ARGS, ["text 9"], made(1))
        shutil.rmtree(folder)
        assert cache.get_many(*ARGS, ["text 0", "text 1", "text 9"])[1].tolist() == [True, False, True]


def test_long_texts_do_not_fill_the_memory(folder):
    with EmbeddingCache(folder) as cache:
        cache.put_many(*ARGS, ["long " * 1000], made(1))
        assert cache.get_many(*ARGS, ["long " * 1000])[1].all()
        assert cache.stats()["hot_hits"] == 0


@pytest.mark.parametrize("hot", [0, 10])
def test_a_caller_cannot_poison_the_cache_through_its_arrays(folder, hot):
    mine = made(2)
    with EmbeddingCache(folder, hot_items=hot) as cache:
        cache.put_many(*ARGS, names(2), mine)
        mine[:] = 7
        for _ in range(2):
            got, _ = cache.get_many(*ARGS, names(2))
            assert np.array_equal(got, made(2))
            got[:] = 9


# Deleting, limits, figures


def test_deleted_vectors_are_gone_from_every_byte_on_disk(folder):
    vectors = filled(folder, 50, 256)
    with EmbeddingCache(folder) as cache:
        assert cache.get_many("space", "document", 256, names(50))[1].all()
        (folder / "cache.damaged").write_bytes(vectors[7].tobytes())
        assert cache.delete_many("space", "document", 256, ["text 7", "unknown", "text 8", "text 7"]) == 2
        hits = cache.get_many("space", "document", 256, names(50))[1]
        assert np.flatnonzero(~hits).tolist() == [7, 8]
        content = b"".join(entry.read_bytes() for entry in folder.iterdir())
    assert vectors[6].tobytes() in content
    assert vectors[7].tobytes() not in content
    assert vectors[8].tobytes() not in content


def test_clearing_leaves_nothing_and_gives_the_space_back(folder):
    filled(folder, 3000, 64)
    size = (folder / "cache.db").stat().st_size
    (folder / "cache.damaged").write_bytes(b"old")
    with EmbeddingCache(folder) as cache:
        cache.get_many("space", "document", 64, names(10))
        assert cache.clear() == 3000
        assert cache.clear() == 0
        assert not cache.get_many("space", "document", 64, names(3000))[1].any()
    assert sum(entry.stat().st_size for entry in folder.iterdir()) < size / 5
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]


def test_deleting_from_a_cache_that_is_not_there_makes_none(folder):
    with EmbeddingCache(folder) as cache:
        assert cache.clear() == 0
        assert cache.delete_many(*ARGS, ["text"]) == 0
        assert cache.stats()["items"] == 0
    assert not folder.exists()


def test_a_size_limit_drops_what_was_stored_first(folder):
    limit = 2 << 20
    with EmbeddingCache(folder, size_limit=limit, hot_items=0) as cache:
        for start in range(0, 5000, 250):
            texts = [f"text {number}" for number in range(start, start + 250)]
            cache.put_many("space", "document", 256, texts, made(250, 256, seed=start))
            assert cache.get_many("space", "document", 256, texts)[1].all()
        hits = cache.get_many("space", "document", 256, names(5000))[1]
        assert 1000 < hits.sum() < 2100
        assert cache.stats()["items"] == hits.sum()
    assert hits[-1000:].all()
    assert not hits[:2500].any()
    assert (folder / "cache.db").stat().st_size < limit * 1.25


def test_without_a_limit_nothing_is_dropped_and_little_is_added(folder):
    with EmbeddingCache(folder, hot_items=0) as cache:
        cache.put_many("space", "document", 256, names(5000), made(5000, 256))
        assert cache.get_many("space", "document", 256, names(5000))[1].all()
    used = sum(entry.stat().st_size for entry in folder.iterdir())
    assert used <= 1.25 * 5000 * 256 * 4


def test_the_figures_are_true(folder):
    with EmbeddingCache(folder, size_limit=1 << 30) as cache:
        cache.put_many(*ARGS, names(3), made(3))
        cache.get_many(*ARGS, ["text 0", "text 1", "unknown"])
    with EmbeddingCache(folder, size_limit=1 << 30) as cache:
        cache.get_many(*ARGS, ["text 0", "unknown"])
        cache.put_many(*ARGS, names(1), made(1))
        cache.put_many(*ARGS, names(1), made(1))
        cache.get_many(*ARGS, ["text 0"])
        used = sum(entry.stat().st_size for entry in folder.iterdir())
        assert cache.stats() == {
            "directory": str(folder),
            "items": 3,
            "bytes": used,
            "size_limit": 1 << 30,
            "hits": 4,
            "misses": 2,
            "hot_hits": 1,
            "refused": 0,
        }


def test_a_closed_cache_opens_again(folder):
    cache = EmbeddingCache(folder, hot_items=0)
    cache.put_many(*ARGS, ["text"], made(1))
    cache.close()
    cache.close()
    assert cache.get_many(*ARGS, ["text"])[1].all()
    cache.close()
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]
