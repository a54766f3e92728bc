"""Vectors from OpenAI-compatible servers, which share a path and little else."""

import logging

import numpy as np
import pytest
from fake_http import Reply
from fake_ollama import word_vector
from fake_openai import FakeOpenAI
from served_cases import QUICK, service, wrong

from omnimemory.embedders.openai import OpenAIEmbedder
from omnimemory.embedders.served import ServedOptions
from omnimemory.errors import ConfigError, ModelChangedError, ModelNotFoundError, ModelServerError

TEXTS = [f"this is text number {n}" for n in range(40)]


@pytest.fixture
def server():
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def embedder_of(server):
    made = []

    def make(model="any", **options):
        own = {name: options.pop(name) for name in list(options) if name in ServedOptions.__dataclass_fields__}
        url = options.pop("url", server.url)
        settings = ServedOptions(**{"patience": QUICK.patience, **own})
        made.append(OpenAIEmbedder(model, url=url, options=settings, **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def right(vectors, texts=TEXTS):
    return np.abs(vectors - np.asarray([word_vector(text) for text in texts])).max() < 1e-6


def asked(server):
    return server.bodies("/v1/embeddings")


def test_texts_become_unit_vectors_in_order(server, embedder_of):
    server.vector = lambda text: [6 * number for number in word_vector(text)]
    assert right(embedder_of().embed(TEXTS, "document"))
    assert asked(server)[-1]["encoding_format"] == "base64"


HABITS = {
    "answers-out-of-order": {"shuffles": True},
    "floats-whatever-is-asked": {"knows_base64": False},
    "refuses-base64": {"refuses_base64": True},
    "refuses-dimensions": {"refuses_dimensions": True},
    "ignores-dimensions": {"cuts_dimensions": False},
    "few-texts-at-once": {"most_texts": 8},
    "one-text-at-once": {"most_texts": 1},
    "all-of-it": {"shuffles": True, "refuses_base64": True, "refuses_dimensions": True, "most_texts": 8},
}


@pytest.mark.parametrize("habits", HABITS.values(), ids=HABITS)
def test_the_habits_of_a_server_make_no_difference(server, embedder_of, habits):
    for name, value in habits.items():
        setattr(server, name, value)
    assert right(embedder_of().embed(TEXTS, "document"))
    cut = embedder_of(dim=16, force_dim=True).embed(TEXTS, "document")
    expected = np.asarray([word_vector(text)[:16] for text in TEXTS])
    np.testing.assert_allclose(cut, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_what_a_server_refuses_to_be_told_is_left_out_from_then_on(server, embedder_of):
    server.refuses_dimensions = server.refuses_base64 = True
    embedder = embedder_of(dim=16, force_dim=True)
    embedder.embed(TEXTS[:3], "document")
    before = len(asked(server))
    embedder.embed(TEXTS[:3], "document")
    assert len(asked(server)) == before + 1
    assert "dimensions" not in asked(server)[-1]
    assert asked(server)[-1]["encoding_format"] == "float"


def test_a_server_that_takes_few_texts_is_given_few(server, embedder_of):
    server.most_texts = 8
    embedder = embedder_of()
    embedder.embed(TEXTS, "document")
    before = len(asked(server))
    embedder.embed(TEXTS, "document")
    assert all(len(body["input"]) <= 8 for body in asked(server)[before:])


@pytest.mark.parametrize("silently", [True, False])
def test_no_text_is_cut_without_a_word(server, embedder_of, silently):
    server.cuts_silently = silently
    server.most_words = 400
    text = " ".join(f"word{n}" for n in range(2000))
    embedder_of().embed([text], "document")
    sent = [part for body in asked(server) for part in body["input"] if "word" in part]
    accepted = [part for part in sent if len(part.split()) <= 400]
    assert "".join(accepted) == text


def test_a_context_that_the_server_tells_is_used(server, embedder_of):
    server.told_context, server.most_words = 8192, 8192
    text = " ".join(f"w{n}" for n in range(700))
    embedder_of("static").embed([text], "document")
    assert text in asked(server)[-1]["input"]


BROKEN = {
    "no-index": lambda data: [{"embedding": entry["embedding"]} for entry in data],
    "index-twice": lambda data: [{**entry, "index": 0} for entry in data],
    "index-outside": lambda data: [{**entry, "index": entry["index"] + 1} for entry in data],
    "index-a-word": lambda data: [{**entry, "index": str(entry["index"])} for entry in data],
    "no-embedding": lambda data: [{"index": entry["index"]} for entry in data],
    "null-embedding": lambda data: [{**entry, "embedding": None} for entry in data],
    "bad-base64": lambda data: [{**entry, "embedding": "####"} for entry in data],
    "odd-base64": lambda data: [{**entry, "embedding": "AAAA"} for entry in data],
    "empty-embedding": lambda data: [{**entry, "embedding": []} for entry in data],
    "fewer": lambda data: data[:-1],
    "none": lambda data: [],
    "not-a-list": lambda data: {"0": data},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_asked_for_again_and_then_given_up(server, embedder_of, change):
    embeddings = service(embedder_of())
    embeddings.embed_text("a first text")
    answer = server.answer

    def broken(asked):
        reply = answer(asked)
        return Reply(200, {**reply.body, "data": change(reply.body["data"])}) if left.pop() else reply

    server.answer, left = broken, [False] * 100 + [True]
    assert right(embeddings.embed_batch(TEXTS))
    left = [True] * 100
    found = embeddings.resolve(TEXTS, "document")
    assert isinstance(found.error, ModelServerError)
    assert (len(found.left), wrong(TEXTS, found)) == (40, [])


def test_one_bad_text_is_found_and_named(server, embedder_of):
    server.refuses["poison"] = "invalid text"
    texts = [*TEXTS[:20], "poison", *TEXTS[20:]]
    found = service(embedder_of()).resolve(texts, "document")
    assert (list(found.unembeddable), found.error, wrong(texts, found)) == ([20], None, [])


def test_there_is_no_second_v1_in_any_address(server, embedder_of):
    for url in (server.url, f"{server.url}/v1", f"{server.url}/v1/", f"{server.url}/v1/embeddings"):
        embedder_of(url=url).embed(["text"], "query")
    assert {one.path for one in server.asked} <= {"/v1/embeddings", "/v1/models"}


def test_a_wrong_address_says_what_an_address_is(server, embedder_of):
    with pytest.raises(ModelServerError, match="ends in /v1"):
        embedder_of(url=f"{server.url}/api").embed(["text"], "query")


def test_an_unknown_model_is_named(server, embedder_of):
    server.model = "another"
    with pytest.raises(ModelNotFoundError, match="has no model any"):
        embedder_of().embed(["text"], "query")


def test_another_model_under_the_same_name_is_noticed_without_any_digest(server, embedder_of, tmp_path):
    fingerprint = embedder_of(folder=tmp_path).fingerprint
    server.vector = lambda text: word_vector(text, salt="others")
    with pytest.raises(ModelChangedError):
        embedder_of(folder=tmp_path).embed(["text"], "query")
    other = embedder_of(folder=tmp_path)
    other.embed(["text"], "query")
    assert other.fingerprint != fingerprint
    assert other.fingerprint == embedder_of(folder=tmp_path).fingerprint


def test_the_key_goes_to_its_server_and_into_no_message(server, embedder_of, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    key = "sk-0123456789abcdef"
    server.key = key
    monkeypatch.setenv("OPENAI_API_KEY", key)
    embedder = embedder_of()
    embedder.embed(["text"], "query")
    server.key = "another"
    with pytest.raises(ModelServerError, match="OPENAI_API_KEY") as caught:
        embedder.embed(["text"], "query")
    assert key not in str(caught.value) + caplog.text + repr(vars(embedder))


def test_an_address_has_to_be_given():
    with pytest.raises(ConfigError, match=r"servers\.openai_url"):
        OpenAIEmbedder("text-embedding-3-small")


def test_another_machine_has_to_be_allowed_and_is_said_aloud(caplog):
    with pytest.raises(ConfigError, match="allow_remote"):
        OpenAIEmbedder("any", url="https://api.openai.com/v1")
    options = ServedOptions(patience=QUICK.patience)
    remote = OpenAIEmbedder(
        "any", url="https://host.invalid/v1", allow_remote=True, connect_seconds=0.2, seconds=0.2, options=options
    )
    for _ in range(2):
        with pytest.raises(ModelServerError):
            remote.embed(["text"], "query")
    assert caplog.text.count("leave this machine") == 1
    assert "https://host.invalid" in caplog.text
    remote.close()
