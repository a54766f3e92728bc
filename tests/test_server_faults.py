"""A server that fails in every way there is: nothing wrong is ever stored, and each fault ends as it should."""

import asyncio
import threading

import numpy as np
import pytest
from fake_http import REPLIES, ROWS, WIRE, Reply
from fake_ollama import FakeModel, FakeOllama
from served_cases import ollama, service, stored_wrong, wrong

from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedders.served_models import CANARIES
from omnimemory.errors import EmbedderError, ModelChangedError, ModelNotFoundError, ModelServerError, OldServerError
from omnimemory.model_servers.patience import Patience

TEXTS = [f"this is text number {n}" for n in range(40)]
FAULTS = [*REPLIES, *WIRE, *ROWS]
FINAL = {"redirect", "204"}
"""Not asked again: another try would get the same."""
SECONDS = {"drip": 0.5, "silent": 0.5}
"""How long is waited for what never comes."""
CHANGED = {"other-model", "wrong-dim"}
"""Always and consistently wrong vectors are those of another model."""


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.endswith("with-retry-after")])
def test_a_fault_that_passes_costs_nothing_but_time(server, tmp_path, fault):
    embeddings = service(ollama(server, seconds=SECONDS.get(fault, 10.0)), tmp_path)
    embeddings.embed_text("a first text")
    server.faults.append(fault)
    found = embeddings.resolve(TEXTS, "document")
    assert wrong(TEXTS, found) == []
    assert stored_wrong(embeddings, TEXTS)[1] == []
    assert not found.unembeddable
    if fault in FINAL:
        assert isinstance(found.error, ModelServerError)
        found = embeddings.resolve(TEXTS, "document")
    assert (found.error, found.left) == (None, frozenset())
    assert stored_wrong(embeddings, TEXTS) == (40, [])
    embeddings.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_leaves_the_texts_for_later_and_stores_nothing(server, tmp_path, fault):
    patience = Patience(first=0.001, longest=0.5)
    embeddings = service(ollama(server, seconds=SECONDS.get(fault, 10.0), patience=patience), tmp_path)
    embeddings.embed_text("a first text")
    server.fault_rate, server.fault_names = 1.0, (fault,)
    found = embeddings.resolve(TEXTS, "document")
    assert isinstance(found.error, ModelChangedError if fault in CHANGED else ModelServerError)
    assert found.left == frozenset(range(40))
    assert not found.unembeddable
    assert not found.vectors.any()
    assert stored_wrong(embeddings, TEXTS) == (0, [])
    server.fault_rate = 0.0
    if fault in CHANGED:
        embeddings.close()
        return
    again = embeddings.resolve(TEXTS, "document")
    assert (again.error, wrong(TEXTS, again)) == (None, [])
    embeddings.close()


BAD_TEXTS = {
    "400": (400, "unsupported value: NaN"),
    "413": (413, "input is refused"),
    "422": (422, "unprocessable"),
    "500": (500, "failed to encode response: json: unsupported value: NaN"),
    "nan": (200, lambda dim: [float("nan")] * dim),
    "infinity": (200, lambda dim: [float("-inf")] + [0.1] * (dim - 1)),
    "zero": (200, lambda dim: [0.0] * dim),
}


@pytest.mark.parametrize("place", [0, 39])
@pytest.mark.parametrize("refusal", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_one_bad_text_is_found_and_named_and_the_others_have_their_vectors(server, tmp_path, refusal, place):
    server.models["tiny:latest"].refuses["poison"] = refusal
    texts = [*TEXTS[:place], "some poison", *TEXTS[place:-1]]
    embeddings = service(ollama(server), tmp_path)
    found = embeddings.resolve(texts, "document")
    assert found.error is None
    assert list(found.unembeddable) == [place]
    assert wrong(texts, found) == []
    assert stored_wrong(embeddings, texts) == (39, [])
    reason = refusal[1] if isinstance(refusal[1], str) else "the model answers with"
    assert reason in found.unembeddable[place]
    embeddings.close()


def test_several_bad_texts_are_all_found(server):
    server.models["tiny:latest"].refuses |= {"poison": (400, "no"), "venom": (200, lambda dim: [0.0] * dim)}
    texts = [f"{'poison ' * (n % 7 == 0)}{'venom ' * (n % 9 == 0)}text {n}" for n in range(60)]
    embedder = ollama(server)
    with pytest.raises(UnembeddableTextError) as caught:
        embedder.embed(texts, "document")
    assert caught.value.indexes == tuple(n for n in range(60) if n % 7 == 0 or n % 9 == 0)
    assert not caught.value.vectors[list(caught.value.indexes)].any()
    embedder.close()


@pytest.mark.parametrize("status", [400, 500])
def test_a_server_that_refuses_everything_is_to_blame_and_no_text(server, status):
    embedder = ollama(server)
    embedder.embed(["a first text"], "document")
    server.fault_rate, server.fault_names = 1.0, (Reply(status, {"error": "out of memory"}),)
    with pytest.raises(ModelServerError, match="out of memory"):
        embedder.embed(["one text"], "document")
    embedder.close()


def test_a_refusal_that_passes_is_held_against_no_text(server):
    embedder = ollama(server)
    embedder.embed(["a first text"], "document")
    server.faults.append(Reply(400, {"error": "for once"}))
    assert embedder.embed(["one text"], "document").shape == (1, 32)
    embedder.close()


NAMED = {
    "old-server": (Reply(404, b"404 page not found"), OldServerError, "Update"),
    "no-model": (Reply(404, {"error": "model 'tiny' not found"}), ModelNotFoundError, "ollama pull tiny"),
    "unauthorised": (Reply(401, {"error": "unauthorized"}), ModelServerError, "check the key"),
    "forbidden": (Reply(403), ModelServerError, "host name"),
    "redirect": (Reply(301, b"", {"Location": "http://example.invalid/"}), ModelServerError, "redirect"),
    "client-gone": (Reply(499, {"error": "client closed request"}), ModelServerError, "499"),
    "busy-for-long": (Reply(503, {"error": "busy"}, {"Retry-After": "600"}), ModelServerError, "600 s"),
}


@pytest.mark.parametrize(("reply", "kind", "words"), NAMED.values(), ids=NAMED)
def test_what_will_not_pass_is_told_at_once(server, reply, kind, words):
    embedder = ollama(server)
    embedder.embed(["a first text"], "document")
    asked = len(server.asked)
    server.faults.append(reply)
    with pytest.raises(kind, match=words):
        embedder.embed(TEXTS[:3], "document")
    assert len(server.asked) == asked + 1
    embedder.close()


@pytest.mark.parametrize("fault", ["429-with-retry-after", "503-with-retry-after"])
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(server, fault):
    embedder = ollama(server)
    embedder.embed(["a first text"], "document")
    server.faults.append(fault)
    assert embedder.embed(["text"], "document").shape == (1, 32)
    assert server.asked[-1].at - server.asked[-2].at >= 1.0
    embedder.close()


def test_a_date_in_retry_after_is_obeyed_too(server):
    embedder = ollama(server)
    server.faults.append(Reply(429, {"error": "slow down"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    assert embedder.embed(["text"], "query").shape == (1, 32)
    server.faults.append(Reply(429, {"error": "slow down"}, {"Retry-After": "Wed, 21 Oct 2093 07:28:00 GMT"}))
    with pytest.raises(ModelServerError, match="asked again in"):
        embedder.embed(["text"], "query")
    embedder.close()


def test_a_used_up_quota_is_not_asked_for_again(server):
    embedder = ollama(server)
    embedder.embed(["a first text"], "document")
    server.faults.extend([Reply(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), None])
    with pytest.raises(ModelServerError, match="insufficient_quota"):
        embedder.embed(["text"], "document")
    embedder.close()


def test_what_was_made_before_the_server_died_is_kept(server, tmp_path):
    embeddings = service(ollama(server, batch_size=9), tmp_path)
    server.faults.extend([None] * 7)  # the model is met in four
    server.fault_names, server.fault_rate = ("reset",), 1.0
    found = embeddings.resolve(TEXTS, "document")
    assert isinstance(found.error, ModelServerError)
    kept, bad = stored_wrong(embeddings, TEXTS)
    assert (kept, bad) == (24, [])
    assert len(found.left) == 16
    server.fault_rate = 0.0
    again = embeddings.resolve(TEXTS, "document")
    assert (again.cache_hits, again.embedded, wrong(TEXTS, again)) == (24, 16, [])
    embeddings.close()


@pytest.mark.parametrize("fault", ["reversed", "shifted", "all-the-same", "nan", "500", "half", "fewer"])
def test_asynchronous_callers_are_as_safe(server, fault):
    embedder = ollama(server)
    server.faults.extend([None, None, fault, None, None, fault])

    async def embed():
        return await embedder.aembed(TEXTS, "document")

    vectors = asyncio.run(embed())
    assert (vectors == embedder.embed(TEXTS, "document")).all()
    embedder.close()


def test_a_server_that_answers_never_is_given_up_in_time(server):
    embedder = ollama(server, seconds=0.3)
    embedder.embed(["a first text"], "document")
    server.fault_rate, server.fault_names = 1.0, ("silent",)
    with pytest.raises(ModelServerError, match="did not"):
        embedder.embed(["text"], "document")
    with pytest.raises(ModelServerError, match="did not"):
        asyncio.run(embedder.aembed(["text"], "document"))
    embedder.close()


def embed_with_faults(server, requests, folder):
    """Make so many requests, of which a fifth fails, starting again where it stopped; see that nothing is lost."""
    server.models["tiny:latest"].refuses["poison"] = (400, "unsupported value: NaN")
    slow = {"drip", "silent", "huge", "bomb", "429-with-retry-after", "503-with-retry-after"}
    server.fault_rate, server.fault_names = 0.2, tuple(fault for fault in FAULTS if fault not in {*slow, *FINAL})
    embeddings = service(ollama(server, batch_size=8), folder, batch_size=64)
    texts = [f"a text of {n} words{' poison' * (n % 997 == 0)}" for n in range(requests * 7)]
    runs = 0
    while (found := embeddings.resolve(texts, "document")).left:
        assert isinstance(found.error, ModelServerError)
        runs += 1
        assert runs < requests
    assert wrong(texts, found) == []
    assert list(found.unembeddable) == [n for n in range(len(texts)) if n % 997 == 0]
    assert stored_wrong(embeddings, texts) == (len(texts) - len(found.unembeddable), [])
    assert len(server.bodies("/api/embed")) > requests
    embeddings.close()


def test_a_fifth_of_all_requests_may_fail_and_nothing_is_lost(server, tmp_path):
    embed_with_faults(server, 150, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_thousand_requests_of_which_a_fifth_fails_lose_nothing(server, tmp_path):
    embed_with_faults(server, 10_000, tmp_path)


def test_many_threads_share_one_embedder_while_it_fails(server):
    embedder = ollama(server)
    expected = embedder.embed(TEXTS, "document")
    server.fault_rate, server.fault_names = 0.2, ("reset", "500", "reversed", "nan", "not-json")
    results = []

    def work():
        for _ in range(5):
            try:
                results.append(embedder.embed(TEXTS, "document"))
            except EmbedderError:
                results.append(None)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    made = [vectors for vectors in results if vectors is not None]
    assert len(results) == 30
    assert len(made) > 20
    assert all(np.array_equal(vectors, expected) for vectors in made)
    embedder.close()


def test_one_vector_for_all_texts_is_noticed_even_when_it_is_the_one_that_is_known(server, tmp_path):
    embeddings = service(ollama(server), tmp_path)
    embeddings.embed_text("a first text")
    answer = server.answer

    def flat(asked):
        reply = answer(asked)
        known = [place for place, text in enumerate((asked.body or {}).get("input", ())) if text in CANARIES]
        return server.spoil(reply, lambda rows: [rows[known[0]]] * len(rows)) if known else reply

    server.answer = flat
    found = embeddings.resolve(TEXTS, "document")
    assert isinstance(found.error, ModelServerError)
    assert stored_wrong(embeddings, TEXTS) == (0, [])
    embeddings.close()


def test_another_model_under_the_same_name_is_noticed_in_the_middle_of_a_run(server, tmp_path):
    embeddings = service(ollama(server), tmp_path)
    embeddings.embed_batch(TEXTS[:10])
    server.models["tiny:latest"] = FakeModel(salt="other weights", digest="sha256:" + "b" * 64)
    found = embeddings.resolve(TEXTS, "document")
    assert isinstance(found.error, ModelChangedError)
    assert found.left == frozenset(range(10, 40))
    assert stored_wrong(embeddings, TEXTS) == (10, [])
    embeddings.close()
