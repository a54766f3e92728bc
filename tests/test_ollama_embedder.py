"""Vectors from Ollama: what is asked, what the space is, and what is noticed of a model behind a name."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_ollama import FakeModel, FakeOllama, word_vector
from served_cases import ollama

from omnimemory.embedders.lengths import estimate_tokens, halves, windows
from omnimemory.embedders.served_models import CANARIES
from omnimemory.errors import ConfigError, ModelServerError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.fixture
def embedder_of(server):
    made = []

    def make(*arguments, **options):
        made.append(ollama(server, *arguments, **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def asked(server):
    return server.bodies("/api/embed")


# -- what is asked


def test_every_request_says_the_same_of_how_the_model_is_run(server, embedder_of):
    embedder = embedder_of(model_options={"num_ctx": 1024}, dim=16, dims=(16,))
    embedder.embed(["a", "b"], "document")
    embedder.embed(["c"], "query")
    embedder.embed([f"text {n}" for n in range(70)], "document")
    assert {json.dumps(body["options"]) for body in asked(server)} == {'{"num_ctx": 1024}'}
    assert all(body["truncate"] is False for body in asked(server))
    assert all("keep_alive" in body for body in asked(server))
    assert {body.get("dimensions") for body in asked(server)[4:]} == {16}
    assert len(server.loads) == 1


def test_a_model_is_kept_longer_after_a_question(server, embedder_of):
    embedder = embedder_of(keep_alive="-1", index_keep_alive="45s")
    embedder.embed(["a question"], "query")
    assert asked(server)[-1]["keep_alive"] == -1
    embedder.embed(["a text"], "document")
    assert asked(server)[-1]["keep_alive"] == "45s"


def test_no_request_has_more_texts_than_it_may(server, embedder_of):
    embedder_of(batch_size=10).embed([f"text {n}" for n in range(95)], "document")
    sizes = [len(body["input"]) for body in asked(server)]
    assert max(sizes) == 10
    assert sum(sizes) == 4 + 95 + 11  # two canaries, twice, when the model is met, and one in each of 11 requests


def test_prompts_stand_before_texts_and_not_before_canaries(server, embedder_of):
    embedder = embedder_of(prompts={"document": "passage: ", "query": "question: "})
    embedder.embed(["one", "two"], "document")
    assert set(asked(server)[-1]["input"]) - set(CANARIES) == {"passage: one", "passage: two"}
    embedder.embed(["one"], "query")
    assert asked(server)[-1]["input"] == ["question: one"]


def test_a_server_is_not_asked_again_who_it_is(server, embedder_of):
    embedder = embedder_of()
    for n in range(5):
        embedder.embed([f"question {n}"], "query")
    assert [one.path for one in server.asked].count("/api/tags") == 1
    assert len(asked(server)[-1]["input"]) == 1


# -- long texts


def test_a_long_text_is_the_weighted_mean_of_its_windows(server, embedder_of):
    text = " ".join(f"word{n}" for n in range(3000))
    vector = embedder_of().embed([text], "document")[0]
    sent = [part for body in asked(server) for part in body["input"] if part not in CANARIES]
    assert "".join(sent) == text
    assert len(sent) > 3
    assert all(server.models["tiny:latest"].tokens(part) <= 2048 for part in sent)
    expected = sum(estimate_tokens(part) * np.asarray(word_vector(part)) for part in sent)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_server_that_reads_less_than_it_says_is_given_less(server, embedder_of):
    embedder = embedder_of()
    embedder.embed(["meet"], "document")
    model = server.models["tiny:latest"]
    model.context = 100
    text = " ".join(f"word{n}" for n in range(300))
    vectors = embedder.embed(["short one", text, "short two"], "document")

    def mean(part):
        if model.tokens(part) <= 100:
            return np.asarray(word_vector(part))
        total = sum(estimate_tokens(half) * mean(half) for half in halves(part))
        return total / np.linalg.norm(total)

    np.testing.assert_allclose(vectors, [mean("short one"), mean(text), mean("short two")], atol=1e-6)
    assert (embedder.embed([text], "document")[0] == vectors[1]).all()


def test_a_blank_stretch_of_a_long_text_is_not_asked_for(server, embedder_of):
    embedder = embedder_of()
    text = "begins" + "\n" * 9000 + "ends"
    embedder.embed([text], "document")
    server.models["tiny:latest"].context = 100
    embedder.embed([text, "x" + " " * 9000 + "y"], "document")
    assert not [part for body in asked(server) for part in body["input"] if part.isspace()]


@pytest.mark.parametrize("most", [16, 100, 1000])
@pytest.mark.parametrize(
    "text",
    ["word " * 900, "x" * 5000, "日本語" * 500, "a\n" * 800, " " * 4000 + "a", "1234567890" * 300],
    ids=["words", "one-word", "japanese", "lines", "spaces", "digits"],
)
def test_windows_fit_and_join_to_the_whole(text, most):
    parts = windows(text, most)
    assert "".join(parts) == text
    assert all(estimate_tokens(part) <= most for part in parts)


# -- the space


def test_one_model_has_one_space_under_all_its_names(server, embedder_of):
    same = {embedder_of(name).fingerprint for name in ("tiny", "tiny:latest", "Tiny", "library/tiny")}
    assert len(same) == 1
    assert {embedder_of(name).name for name in ("tiny", "tiny:latest")} == {"ollama:tiny"}


def test_what_changes_vectors_changes_the_space(server, embedder_of):
    server.models["other:latest"] = FakeModel(salt="other", digest="sha256:" + "c" * 64)
    spaces = [
        embedder_of(),
        embedder_of("other"),
        embedder_of(dim=16, dims=(16,)),
        embedder_of(model_options={"num_ctx": 4096}),
        embedder_of(model_options={"temperature": 0.5}),
        embedder_of(prompts={"query": "question: "}),
        embedder_of(prompts={"document": "question: "}),
        embedder_of(max_tokens=128),
    ]
    assert len({embedder.fingerprint for embedder in spaces}) == len(spaces)


def test_how_it_is_asked_does_not_change_the_space(server, embedder_of):
    assert embedder_of(batch_size=7, keep_alive="1h", seconds=9).fingerprint == embedder_of().fingerprint


def test_vectors_are_cut_by_the_server_or_here_and_are_the_same(server, embedder_of):
    there = embedder_of(dim=16, dims=(16,)).embed(["a text", "another"], "document")
    server.ignores_dimensions = True
    here = embedder_of(dim=16, dims=(16,)).embed(["a text", "another"], "document")
    assert there.shape == (2, 16)
    np.testing.assert_allclose(there, here, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(here, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("dim", "words"), [(64, "has 32 dimensions"), (20, "was not trained")])
def test_a_size_that_the_model_does_not_have_is_refused(embedder_of, dim, words):
    with pytest.raises(ConfigError, match=words):
        _ = embedder_of(dim=dim).fingerprint


def test_a_size_it_was_not_trained_for_can_be_forced(embedder_of):
    assert embedder_of(dim=20, force_dim=True).embed(["x"], "query").shape == (1, 20)


def test_num_ctx_must_be_a_number_of_tokens(server):
    with pytest.raises(ConfigError, match="num_ctx"):
        ollama(server, model_options={"num_ctx": "many"})


# -- where texts go


def test_a_cloud_model_has_to_be_allowed(server):
    with pytest.raises(ConfigError, match="allow_cloud"):
        ollama(server, "gpt-oss:120b-cloud")
    ollama(server, "gpt-oss:120b-cloud", allow_cloud=True).close()


def test_a_local_name_for_a_remote_model_has_to_be_allowed_too(server, embedder_of, caplog):
    server.models["tiny:latest"].remote_host = "https://ollama.com:443"
    with pytest.raises(ConfigError, match=r"ollama\.com"):
        embedder_of().embed(["private"], "document")
    assert asked(server) == []
    allowed = embedder_of(allow_cloud=True)
    for _ in range(2):
        assert allowed.embed(["public"], "document").shape == (1, 32)
        allowed.close()
    assert caplog.text.count("leave this machine") == 1


def test_nothing_is_said_of_a_server_on_this_machine(embedder_of, caplog):
    embedder_of().embed(["text"], "document")
    assert caplog.text == ""


def test_texts_and_keys_are_not_logged(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OLLAMA_API_KEY", "key-0123456789")
    server.models["tiny:latest"].refuses["poison"] = (400, "no")
    embedder = ollama(server)
    with pytest.raises(Exception, match="no vector"):
        embedder.embed(["a very private text", "poison"], "document")
    embedder.close()
    assert "private" not in caplog.text
    assert "key-0123" not in caplog.text + repr(vars(embedder))


def test_a_forked_child_has_connections_of_its_own(server, embedder_of):
    embedder = embedder_of()
    expected = embedder.embed(["text"], "query")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        same = bool((embedder.embed(["text"], "query") == expected).all())
        os.write(writer, b"same" if same else b"other")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"same"
    os.waitpid(child, 0)
    assert server.asked[-1].port != server.asked[0].port
    assert (embedder.embed(["text"], "query") == expected).all()


def test_a_search_with_the_static_model_imports_no_http_client(tmp_path):
    script = (
        "import sys\nfrom omnimemory import Memory\n"
        f"with Memory({str(tmp_path / 'store')!r}) as memory:\n"
        "    memory.add('a note')\n    memory.search('note')\n"
        "print([name for name in sys.modules if 'httpx' in name or 'model_servers' in name or 'served' in name])"
    )
    environment = {**os.environ, "OMNIMEMORY_INDEX_ENABLED": "false"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout.strip() == "[]"


def test_a_question_is_not_asked_again_of_a_server_that_hangs(server, embedder_of):
    embedder = embedder_of(seconds=0.3)
    embedder.embed(["a first text"], "document")
    server.fault_rate, server.fault_names = 1.0, ("silent",)
    for role, times in (("document", 4), ("query", 1)):
        for ask in (embedder.embed, lambda texts, role: asyncio.run(embedder.aembed(texts, role))):
            before = len(server.bodies("/api/embed"))
            with pytest.raises(ModelServerError, match="did not"):
                ask(["text"], role)
            assert len(server.bodies("/api/embed")) == before + times
    server.fault_rate = 0.0
    server.faults.append("500")
    assert embedder.embed(["text"], "query").shape == (1, embedder.dim)  # what may pass is asked again as ever
