"""How the embedding service is called: sizes, cache, batches, and callers of asyncio who change their minds."""

import asyncio
import threading

import numpy as np
import pytest
from fake_http import until
from fake_ollama import FakeOllama, word_vector
from served_cases import ollama, service

from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, EmbedderError, InvalidVectorError
from omnimemory.memory import Memory
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

TEXTS = ["undo the last commit", "git revert HEAD", "sourdough bread"]


@pytest.fixture
def embeddings(tmp_path):
    made = service(StaticEmbedder(), tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# -- sizes


@pytest.mark.parametrize("dim", [128, 64])
def test_vectors_are_cut_to_trained_sizes_and_are_unit_vectors_again(embeddings, dim):
    whole = embeddings.embed_batch(TEXTS)
    cut = embeddings.embed_batch(TEXTS, "document", dim)
    np.testing.assert_allclose(cut, unit(whole[:, :dim]), atol=1e-6)
    assert cut.dtype == np.float32
    assert (embeddings.apply_mrl(whole, dim) == cut).all()
    assert (embeddings.apply_mrl(whole[0], dim) == cut[0]).all()
    assert (embeddings.embed_text(TEXTS[0], target_dim=dim) == cut[0]).all()


def test_other_sizes_are_refused_unless_forced(embeddings):
    vector = embeddings.embed_text("x")
    for dim in (100, 512, 0, -1):
        with pytest.raises(InvalidVectorError):
            embeddings.apply_mrl(vector, dim)
    assert embeddings.apply_mrl(vector, 100, force=True).shape == (100,)
    with pytest.raises(InvalidVectorError):
        embeddings.apply_mrl(vector, 512, force=True)


@pytest.mark.parametrize(
    ("vector", "dim", "said"),
    [
        ([float("nan")] * 256, 128, "NaN or infinity"),
        ([[1.0] * 256, [float("inf")] * 256], 128, "NaN or infinity"),
        ("a text", 128, r"expected \(n, dim\) numbers"),
        (None, 128, r"expected \(n, dim\) numbers"),
        ([1.0] * 256, None, "cannot cut vectors of 256 dimensions to None"),
        ([1.0] * 256, 256.0, "cannot cut vectors of 256 dimensions to 256.0"),
    ],
    ids=["nan", "infinity", "text", "nothing", "no-size", "fraction"],
)
def test_what_cannot_be_cut_is_refused(embeddings, vector, dim, said):
    with pytest.raises(InvalidVectorError, match=said):
        embeddings.apply_mrl(vector, dim)


@pytest.mark.parametrize(("name", "dim"), [("full", 256), ("balanced", 128), ("small", 64), ("phone", 128)])
def test_sizes_have_names(name, dim):
    made = EmbeddingService(
        StaticEmbedder(), cache=None, scheduler=service(StaticEmbedder()).scheduler, profiles={"phone": 128}
    )
    assert made.embed_batch(TEXTS, "query", name).shape == (3, dim)


def test_a_name_nobody_knows_lists_those_that_are(embeddings):
    with pytest.raises(InvalidVectorError, match="full, balanced, small"):
        embeddings.apply_mrl(np.ones(256), "tiny")


@pytest.mark.parametrize("entry", ["phone", "phone=", "=128", "phone=many", "phone=-1", "phone=0"])
def test_a_profile_that_is_none_is_an_error_naming_it(settings, entry):
    with pytest.raises(ConfigError, match=r"embedding\.profiles"):
        Memory(settings=settings.with_values({"embedding.profiles": [entry]}))


# -- the cache


def test_the_cache_can_be_passed_by(embeddings):
    embeddings.embed_batch(TEXTS, use_cache=False)
    assert embeddings.get_cache_stats()["cache_size"] == 0
    embeddings.embed_batch(TEXTS)
    stats = embeddings.get_cache_stats()
    assert (stats["enabled"], stats["cache_size"], stats["embedding_dim"]) == (True, 3, 256)
    assert stats["hits"] == 0
    embeddings.embed_batch(TEXTS)
    assert embeddings.get_cache_stats()["hits"] == 3
    embeddings.embed_batch(TEXTS, use_cache=False)
    assert embeddings.get_cache_stats()["hits"] == 3
    assert embeddings.clear_cache() == 3
    assert embeddings.get_cache_stats()["cache_size"] == 0


def test_a_question_is_kept_unless_it_is_answered_faster_than_the_cache_would(embeddings, server, tmp_path):
    first = embeddings.embed_text(TEXTS[0], "query")
    assert embeddings.get_cache_stats()["cache_size"] == 0
    assert (embeddings.embed_text(TEXTS[0]) == first).all()
    assert embeddings.get_cache_stats()["cache_size"] == 1
    made = service(ollama(server), tmp_path / "served")
    for _ in range(2):
        made.embed_text(TEXTS[0], "query")
    stats = made.get_cache_stats()
    assert (stats["cache_size"], stats["hits"]) == (1, 1)
    made.close()


def test_sizes_do_not_multiply_what_is_cached(embeddings):
    embeddings.embed_batch(TEXTS, "document", 64)
    embeddings.embed_batch(TEXTS, "document", 128)
    assert embeddings.get_cache_stats()["cache_size"] == 3


def test_without_a_cache_there_is_nothing_to_count_or_clear():
    made = service(StaticEmbedder())
    assert made.get_cache_stats() == {"enabled": False, "cache_size": 0, "embedding_dim": 256}
    assert made.clear_cache() == 0


def test_a_caller_cannot_poison_the_cache(embeddings):
    first = embeddings.embed_text("x")
    kept = first.copy()
    first[:] = 0
    assert (embeddings.embed_text("x") == kept).all()


# -- batches


def test_the_size_of_a_batch_can_be_given(embeddings):
    texts = [f"text {n}" for n in range(20)]
    embeddings.embed_batch(texts, "document", None, True, 6)
    assert [decision.items for decision in embeddings.scheduler.log()] == [6, 6, 6, 2]
    with pytest.raises(EmbedderError, match="at least 1"):
        embeddings.embed_batch(texts, batch_size=0)


def test_a_server_is_given_what_it_wants_at_once(server):
    made = service(ollama(server, batch_size=11))
    made.embed_batch([f"text {n}" for n in range(35)])
    assert [decision.items for decision in made.scheduler.log()] == [10, 10, 10, 5]
    made.close()


def test_texts_without_a_vector_do_not_cost_the_others_a_second_request(server):
    server.models["tiny:latest"].refuses["poison"] = (200, lambda dim: [0.0] * dim)
    made = service(ollama(server))
    with pytest.raises(UnembeddableTextError, match=r"text 1: .*zero") as caught:
        made.embed_batch(["a", "poison", "b"])
    assert caught.value.indexes == (1,)
    np.testing.assert_allclose(caught.value.vectors[[0, 2]], [word_vector("a"), word_vector("b")], atol=1e-6)
    assert sum("a" in body["input"] for body in server.bodies("/api/embed")) == 1
    made.close()


def test_initialising_loads_the_model_even_when_the_question_is_cached(embeddings, monkeypatch):
    monkeypatch.setattr(StaticEmbedder, "instant", False)
    embeddings.embed_text("warm", "query")
    assert embeddings.get_cache_stats()["cache_size"] == 1
    embeddings.embedder.close()
    assert not embeddings.embedder.loaded
    embeddings.initialize()
    assert embeddings.embedder.loaded


# -- asyncio


def test_asynchronous_callers_get_the_same(embeddings, server):
    for made in (embeddings, service(ollama(server))):

        async def ask(made=made):
            await made.ainitialize()
            return await asyncio.gather(
                made.aembed_batch(TEXTS, "document", None, False),
                made.aembed_text(TEXTS[1], "query", use_cache=False),
                made.aembed_batch([], "query"),
            )

        batch, text, nothing = asyncio.run(ask())
        assert (batch == made.embed_batch(TEXTS)).all()
        assert (text == made.embed_text(TEXTS[1], "query")).all()
        assert nothing.shape == (0, made.dim)
        made.close()


def test_asynchronous_callers_get_the_same_errors(server):
    made = service(ollama(server))
    with pytest.raises(UnembeddableTextError):
        asyncio.run(made.aembed_batch(["fine", " "]))
    server.stop()
    with pytest.raises(EmbedderError, match="cannot be reached"):
        asyncio.run(made.aembed_text("another"))
    server.start()
    made.close()


def test_the_event_loop_goes_on_while_a_server_thinks(server):
    made = service(ollama(server))
    made.initialize()
    server.faults.append("silent")

    async def ask():
        asking = asyncio.create_task(made.aembed_text("slow"))
        await asyncio.to_thread(until, lambda: any("slow" in str(body) for body in server.bodies("/api/embed")))
        server.closing.set()  # the silent one gives up, and is asked again
        return await asking

    assert asyncio.run(ask()).shape == (32,)
    server.closing.clear()
    made.close()


def test_a_cancelled_call_drops_its_request_and_gives_back_its_lease(server):
    made = service(ollama(server))
    made.initialize()
    server.faults.append("silent")

    async def ask():
        asking = asyncio.create_task(made.aembed_batch([f"text {n}" for n in range(100)]))
        await asyncio.to_thread(until, lambda: any("text 0" in str(body) for body in server.bodies("/api/embed")))
        assert made.scheduler.status()["leases"] == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(until, lambda: made.scheduler.status()["leases"] == 0)

    asyncio.run(ask())
    assert sum("text 0" in str(body) for body in server.bodies("/api/embed")) == 1
    assert made.embed_batch(["text 1"]).shape == (1, 32)
    made.close()


def test_a_cancelled_call_asks_nothing_more_of_a_local_model():
    class Slow(StaticEmbedder):
        def embed(self, texts, role):
            batches.append(len(texts))
            begun.set()
            assert go_on.wait(30)
            return super().embed(texts, role)

    batches, begun, go_on = [], threading.Event(), threading.Event()
    made = service(Slow())

    async def ask():
        asking = asyncio.create_task(made.aembed_batch([f"text {n}" for n in range(50)], batch_size=5))
        await asyncio.to_thread(begun.wait, 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go_on.set()

    asyncio.run(ask())
    until(lambda: made.scheduler.status()["leases"] == 0)
    assert batches == [5]


def test_a_cancelled_call_waits_for_memory_no_longer():
    scheduler = Scheduler(reserve=0, probe=lambda: Available(1 << 30, "a test", 1 << 30), patience=300.0)
    made = EmbeddingService(StaticEmbedder(), cache=None, scheduler=scheduler)

    async def ask():
        asking = asyncio.create_task(made.aembed_batch(["a text"]))
        await asyncio.to_thread(until, lambda: scheduler.status()["waiting"] == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        until(lambda: scheduler.status()["waiting"] == 0)  # long before its patience ends

    with scheduler.lease(Request("another", 1, 0, 1 << 30)):
        asyncio.run(ask())
    assert made.embed_batch(["a text"]).shape == (1, 256)
    assert [decision.action for decision in scheduler.log()] == ["grant", "refuse", "grant"]
    made.close()


def test_a_timeout_of_the_caller_is_obeyed(server):
    made = service(ollama(server))
    made.initialize()
    server.faults.append("silent")

    async def ask():
        async with asyncio.timeout(0.1):
            await made.aembed_text("slow")

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    assert made.embed_text("slow").shape == (32,)
    made.close()
