"""Search itself: what is asked, what is found, in which order, with which numbers, and what a snippet shows."""

import numpy as np
import pytest

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ConfigError, EmbedderError, InvalidVectorError
from omnimemory.memory import Memory


class Axes(StaticEmbedder):
    """Vectors that are known beforehand: a text's cosine with "x" is the number it ends with."""

    factor = 1.0

    def embed(self, texts, role):
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            cosine = 1.0 if text == "x" else float(text.split()[-1])
            row[0], row[1] = cosine, np.sqrt(1 - cosine**2)
        return rows * np.float32(self.factor)


class Down(StaticEmbedder):
    """An embedder whose server is down."""

    def embed(self, texts, role):
        raise EmbedderError("the model server does not answer")


@pytest.fixture
def axes(settings):
    with Memory(settings=settings.with_values({"cache.enabled": False}), embedder=Axes()) as opened:
        yield opened


# -- numbers


def test_the_least_score_may_be_zero(axes):
    axes.add(["a 0.5", "b 0.0", "c -0.5"])
    assert [hit.score for hit in axes.search("x", mode="vector", min_score=0.0)] == [0.5, 0.0]


def test_a_score_that_was_shown_is_a_least_score_that_its_hit_passes(memory):
    memory.add([f"note {n} about {word}" for n, word in enumerate(["bread", "git", "music", "ships", "trains"])])
    for hit in memory.search("baking bread at home", mode="vector"):
        found = memory.search("baking bread at home", mode="vector", min_score=hit.score)
        assert hit.id in {other.id for other in found}


def test_the_least_score_applies_before_the_best_k_are_cut(axes):
    axes.add([f"x word {-0.9 + n / 1000}" for n in range(150)] + ["other 0.8"])
    assert [hit.text for hit in axes.search("x", k=1, min_score=0.7)] == ["other 0.8"]


def test_scores_stay_between_minus_one_and_one(settings):
    embedder = Axes()
    embedder.factor = 1.0005  # unit length give or take, as float16 models have it
    with Memory(settings=settings.with_values({"cache.enabled": False}), embedder=embedder) as memory:
        memory.add(["a 1.0", "b -1.0"])
        hits = memory.search("x", mode="vector")
    assert [(hit.score, hit.distance) for hit in hits] == [(1.0, 0.0), (-1.0, 2.0)]


def test_ranks_count_from_one_in_each_list(memory):
    memory.add(["alpha beta", "alpha gamma", "alpha delta"])
    hits = memory.search("alpha gamma")
    for name in ("vector", "keyword"):
        assert sorted(hit.ranks[name] for hit in hits) == [1, 2, 3]
    assert hits[0].ranks == {"vector": 1, "keyword": 1}


def test_equal_hits_come_in_the_same_order_every_time(memory):
    memory.add(["the very same text"] * 30, ids=[f"n{n:02}" for n in range(30)])
    for mode in ("vector", "keyword", "hybrid"):
        orders = {tuple(hit.id for hit in memory.search("same text", mode=mode, k=9)) for _ in range(3)}
        assert orders == {tuple(f"n{n:02}" for n in range(9))}, mode


def test_more_hits_can_be_asked_for_than_there_are_candidates(memory):
    memory.add([f"note {n} about bread" for n in range(300)])
    for mode in ("vector", "keyword", "hybrid"):
        hits = memory.search("bread", k=250, mode=mode)
        assert len({hit.id for hit in hits}) == 250, mode


# -- questions


@pytest.mark.parametrize("question", ["???", "'", '"', "OR NOT", "NEAR(", "*", "\0", "\ud800", "\u200b", "x" * 100_000])
@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_a_question_of_any_signs_is_a_question(memory, question, mode):
    memory.add(["the quick brown fox", "a lazy dog"])
    assert len(memory.search(question, mode=mode)) in (0, 2)


def test_a_question_of_a_megabyte_is_answered(memory):
    memory.add([" ".join(f"word{n}" for n in range(start, start + 400)) for start in range(0, 8000, 400)])
    question = " ".join(f"word{n}" for n in range(120_000))
    assert memory.search(question)[0].snippet
    assert memory.search(question, mode="keyword")


def test_a_vector_and_a_text_are_asked_together(memory):
    memory.add(["git revert HEAD", "sourdough bread", "ERR-4711 disk full"])
    vector = memory.embeddings.embed_text("baking", "query")
    hits = memory.search("ERR-4711", vector=vector)
    assert {hit.text for hit in hits[:2]} == {"sourdough bread", "ERR-4711 disk full"}
    assert hits[0].score == pytest.approx(float(vector @ memory.embeddings.embed_text(hits[0].text)), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"k": "5"}, ConfigError, "k must be"),
        ({"k": 2.5}, ConfigError, "k must be"),
        ({"k": True}, ConfigError, "k must be"),
        ({"min_score": float("nan")}, ConfigError, "min_score"),
        ({"min_score": 1.5}, ConfigError, "min_score"),
        ({"kind": "document"}, ConfigError, "documents, commands"),
        ({"mode": "fuzzy"}, ConfigError, "hybrid, vector, keyword"),
        ({"where": {}}, ConfigError, "non-empty"),
        ({"vector": "abc"}, InvalidVectorError, "256 numbers"),
        ({"query": None}, ConfigError, "is a text"),
        ({"query": b"bytes"}, ConfigError, "is a text"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, dict) else "",
)
def test_what_cannot_be_asked_is_an_error_that_says_so(memory, arguments, error, says):
    memory.add("the quick brown fox")
    with pytest.raises(error, match=says):
        memory.search(**{"query": "fox", **arguments})


# -- filters


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_a_filter_also_applies_to_what_has_no_vector_yet(settings, tmp_path, mode):
    (tmp_path / "history").write_text(": 1700000000:3;make fox\n: 1700000100:0;make dog\n")
    with Memory(settings=settings.with_values({"cache.enabled": False}), embedder=Down()) as memory:
        metadatas = [{"n": 1, "on": True, "tags": ["a", "b"]}, {"n": 2.5, "on": False, "source": "elsewhere"}]
        memory.add(["one fox", "two fox"], metadatas=metadatas)
        memory.ingest_history(tmp_path / "history", shell="zsh")
        for where, expected in (
            ({"n": 1}, {"one fox"}),
            ({"n": {"$gt": 1}, "on": False}, {"two fox"}),
            ({"tags": {"$contains": "b"}}, {"one fox"}),
            ({"source": "elsewhere"}, {"two fox"}),
            ({"n": {"$ne": 1}}, {"two fox", "make fox"}),
            ({"duration": {"$gte": 3}}, {"make fox"}),
            ({"$or": [{"n": 1}, {"shell": "zsh"}]}, {"one fox", "make fox"}),
        ):
            assert {hit.text for hit in memory.search("fox", mode=mode, where=where)} == expected, where


def test_a_filter_on_what_only_one_kind_has_leaves_the_other_out(memory, tmp_path):
    (tmp_path / "history").write_text("make fox\n")
    memory.ingest_history(tmp_path / "history", shell="bash")
    memory.add("a fox", metadatas={"topic": "animals"})
    assert [hit.kind for hit in memory.search("fox", where={"topic": "animals"})] == ["documents"]
    assert [hit.kind for hit in memory.search("fox", where={"shell": "bash"})] == ["commands"]
    assert [hit.kind for hit in memory.search("fox", where={"topic": {"$ne": "animals"}})] == ["commands"]


def test_names_that_the_memory_itself_uses_may_be_a_users_own_keys(memory):
    keys = {"source": "my shelf", "heading": "my heading", "format": "my format", "count": 7}
    memory.add("a fox", ids=["own"], metadatas=keys)
    memory.add("another fox", ids=["other"])
    for key, value in keys.items():
        assert [hit.id for hit in memory.search("fox", where={key: value})] == ["own"], key
    assert memory.search("fox", where={"source": "notes"})[0].id == "other"


# -- snippets


@pytest.mark.parametrize(
    ("text", "question", "shown"),
    [
        ("\u306e" * 500 + "\u4eac\u90fd" + "\u306f" * 500, "\u4eac\u90fd\u306e\u99c5\u524d", "\u4eac\u90fd"),
        ("start " + "x" * 2000 + "needle " + "y" * 500, "needle", "needle"),
        ("needle " + "pad " * 500 + "needle needle needle " + "pad " * 200, "needle", "needle needle needle"),
        ("pad " * 200 + "needle", "where is the needle", "needle"),
        ("needle " + "pad " * 200, "needle", "needle"),
    ],
    ids=["no-spaces", "a-very-long-word", "the-densest-place", "the-end", "the-beginning"],
)
def test_a_snippet_shows_what_was_looked_for(memory, text, question, shown):
    memory.add(text)
    (hit,) = memory.search(question, k=1)
    assert shown in hit.snippet
    assert len(hit.snippet) <= 250
