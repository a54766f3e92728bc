"""Every setting of model servers changes something, down to what the server gets to see."""

import numpy as np
import pytest
from fake_http import Reply
from fake_ollama import FakeModel, FakeOllama
from fake_openai import FakeOpenAI
from settings_cases import matters

from omnimemory.config import Settings
from omnimemory.errors import ConfigError, ModelServerError
from omnimemory.memory import Memory


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.fixture
def served(settings, server, tmp_path) -> Settings:
    return settings.with_values(
        {
            "embedding.model": "ollama:tiny",
            "servers.ollama_url": server.url,
            "servers.path": tmp_path / "servers",
            "cache.enabled": False,
        }
    )


def asked(server, settings, **values):
    """Store a note and ask a question with these settings; return what the server was asked for vectors."""
    changed = settings.with_values({f"servers.{name}": value for name, value in values.items()})
    with Memory(settings=changed) as memory:
        memory.add("a note")
        memory.search("a question", mode="vector")
    return server.bodies("/api/embed")


@matters("servers.ollama_url")
def test_where_ollama_is(settings, served, server, monkeypatch):
    assert asked(server, served)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    assert asked(server, served)
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    other = settings.with_values({"embedding.model": "ollama:tiny", "store.path": settings.store.path / "other"})
    before = len(server.asked)
    assert asked(server, other)
    assert len(server.asked) > before


@matters("servers.openai_url")
def test_where_an_openai_compatible_server_is(settings):
    named = settings.with_values({"embedding.model": "openai:any"})
    with pytest.raises(ConfigError, match=r"servers\.openai_url"):
        Memory(settings=named)
    with FakeOpenAI() as fake:
        with Memory(settings=named.with_values({"servers.openai_url": fake.url})) as memory:
            memory.add("a note")
            assert memory.search("note", mode="vector")[0].text == "a note"
        assert fake.bodies("/v1/embeddings")


@matters("servers.allow_remote")
@pytest.mark.parametrize("model", ["ollama:tiny", "openai:any"])
def test_other_machines_are_asked_only_when_allowed(settings, model):
    remote = settings.with_values(
        {
            "embedding.model": model,
            "servers.ollama_url": "https://host.invalid",
            "servers.openai_url": "https://host.invalid/v1",
        }
    )
    with pytest.raises(ConfigError, match="allow_remote"):
        Memory(settings=remote)
    with pytest.raises(ModelServerError, match="cannot be reached"):
        Memory(settings=remote.with_values({"servers.allow_remote": True, "servers.connect_timeout": 1}))


@matters("servers.allow_cloud")
def test_cloud_models_are_used_only_when_allowed(served, server):
    server.models["big:cloud"] = FakeModel(remote_host="https://ollama.com")
    cloud = served.with_values({"embedding.model": "ollama:big:cloud"})
    with pytest.raises(ConfigError, match="allow_cloud"):
        Memory(settings=cloud)
    assert asked(server, cloud, allow_cloud=True)


@matters("servers.document_prompt")
def test_what_stands_before_texts_to_store(served, server):
    assert any("passage: a note" in body["input"] for body in asked(server, served, document_prompt="passage: "))


@matters("servers.query_prompt")
def test_what_stands_before_questions(served, server):
    assert any("Q: a question" in body["input"] for body in asked(server, served, query_prompt="Q: "))


def test_prompts_that_are_known_stand_there_unless_told_otherwise(served, server):
    server.models["nomic-embed-text:v1.5"] = FakeModel()
    nomic = served.with_values({"embedding.model": "ollama:nomic-embed-text:v1.5"})
    texts = [text for body in asked(server, nomic) for text in body["input"]]
    assert {"search_document: a note", "search_query: a question"} <= set(texts)
    server.asked.clear()
    plain = nomic.with_values({"store.path": nomic.store.path / "plain"})
    texts = [text for body in asked(server, plain, document_prompt="", query_prompt="") for text in body["input"]]
    assert {"a note", "a question"} <= set(texts)


@matters("servers.force_dim")
def test_other_sizes_can_be_forced(served):
    cut = served.with_values({"embedding.dim": 20})
    with pytest.raises(ConfigError, match="force_dim"):
        Memory(settings=cut)
    with Memory(settings=cut.with_values({"servers.force_dim": True})) as memory:
        assert memory.embeddings.embed_text("x").shape == (20,)


@matters("servers.max_tokens")
def test_how_much_of_a_text_goes_into_one_window(served, server):
    long = "word " * 300

    def windows(**values):
        server.asked.clear()
        settings = served.with_values({f"servers.{name}": value for name, value in values.items()})
        with Memory(settings=settings.with_values({"store.path": settings.store.path / str(values)})) as memory:
            memory.embeddings.embed_text(long)
        return sum(text in long for body in server.bodies("/api/embed") for text in body["input"])

    assert windows() == 1
    assert windows(max_tokens=60) > 5


@matters("servers.options")
def test_options_reach_the_server_and_bad_ones_are_named(served, server):
    bodies = asked(server, served, options=["num_ctx=512", "use_mmap=true"])
    assert all(body["options"] == {"num_ctx": 512, "use_mmap": True} for body in bodies)
    for wrong in ("num_ctx", "num_ctx=many", "=5"):
        with pytest.raises(ConfigError, match=r"servers\.options"):
            Memory(settings=served.with_values({"servers.options": [wrong]}))


@matters("servers.batch_size")
def test_how_many_texts_go_into_a_request(served, server):
    with Memory(settings=served.with_values({"servers.batch_size": 5})) as memory:
        memory.embeddings.embed_batch([f"text {n}" for n in range(12)])
    assert max(len(body["input"]) for body in server.bodies("/api/embed")) == 5


@matters("servers.timeout")
def test_how_long_a_request_may_take(served):
    with Memory(settings=served.with_values({"servers.timeout": 77})) as memory:
        call = memory.embeddings.embedder._dialect.call(["text"], "query", None)
        assert call.seconds == 77


@matters("servers.connect_timeout")
def test_how_long_a_connection_may_take(served):
    with Memory(settings=served.with_values({"servers.connect_timeout": 1.5})) as memory:
        memory.embeddings.initialize()
        assert memory.embeddings.embedder._line._client.timeout.connect == 1.5


@matters("servers.tries")
@pytest.mark.parametrize("tries", [1, 2])
def test_how_often_a_server_is_asked(served, server, tries):
    with Memory(settings=served.with_values({"servers.tries": tries})) as memory:
        memory.embeddings.initialize()
        before = len(server.asked)
        server.faults.extend(["reset"] * 9)
        with pytest.raises(ModelServerError):
            memory.embeddings.embed_text("text")
        assert len(server.asked) - before == tries


@matters("servers.longest_wait")
def test_how_long_a_busy_server_is_waited_for(served, server):
    busy = Reply(503, {"error": "busy"}, {"Retry-After": "1"})
    with Memory(settings=served.with_values({"servers.longest_wait": 0.5})) as memory:
        memory.embeddings.initialize()
        server.faults.append(busy)
        with pytest.raises(ModelServerError, match="asked again in 1 s"):
            memory.embeddings.embed_text("text")
    with Memory(settings=served) as memory:
        server.faults.append(busy)
        assert memory.embeddings.embed_text("text").shape == (32,)


@matters("servers.keep_alive")
def test_how_long_the_model_is_kept_after_a_question(served, server):
    assert asked(server, served, keep_alive="-1")[-1]["keep_alive"] == -1
    with pytest.raises(ConfigError, match=r"servers\.keep_alive: 'soon' does not say how long to keep"):
        Memory(settings=served.with_values({"servers.keep_alive": "soon"}))


@matters("servers.index_keep_alive")
def test_how_long_the_model_is_kept_after_texts_to_store(served, server):
    notes = [body for body in asked(server, served, index_keep_alive="7s") if "a note" in body["input"]]
    assert [body["keep_alive"] for body in notes] == ["7s"]
    with pytest.raises(ConfigError, match=r"servers\.index_keep_alive: 'soon' does not say"):
        Memory(settings=served.with_values({"servers.index_keep_alive": "soon"}))


@matters("servers.path")
def test_where_models_are_remembered(served, tmp_path):
    with Memory(settings=served.with_values({"servers.path": tmp_path / "elsewhere"})) as memory:
        memory.add("a note")
    assert list((tmp_path / "elsewhere").glob("ollama-tiny-*.json"))


@matters("embedding.profiles")
def test_sizes_have_names_of_their_own(settings):
    with Memory(settings=settings.with_values({"embedding.profiles": ["phone=128"]})) as memory:
        whole = memory.embeddings.embed_text("x")
        cut = memory.embeddings.embed_text("x", target_dim="phone")
        np.testing.assert_allclose(cut, whole[:128] / np.linalg.norm(whole[:128]), atol=1e-6)
