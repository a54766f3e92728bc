"""One contract, every embedder: a new one joins by a line in ``CASES``."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from omnimemory.embedders.base import Embedder, Role, UnembeddableTextError, Vectors, normalise
from omnimemory.errors import EmbedderError, MissingExtraError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """How to make an embedder, and how far its vectors may move with the batch (0: not at all)."""

    name: str
    module: str
    cls: str
    arguments: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    unknown: frozenset[str] = frozenset()
    """Which of STRANGE hold nothing that the model knows."""
    trained: bool = True

    def given(self) -> dict[str, Any]:
        """Return the arguments; those that are functions (they start a server) are called."""
        return {name: value() if callable(value) else value for name, value in self.arguments.items()}

    def make(self) -> Embedder:
        try:
            return getattr(importlib.import_module(self.module), self.cls)(**self.given())
        except MissingExtraError as error:
            pytest.skip(str(error))


@cache
def ollama_url() -> str:
    """Start an Ollama of our own whose model is the static one."""
    from fake_ollama import FakeModel, FakeOllama

    from omnimemory.embedders.static import StaticEmbedder

    static = StaticEmbedder(256)
    model = FakeModel(256, context=2048, vector=lambda text: static.embed([text], "document")[0].tolist())
    return FakeOllama({"static:latest": model}).start().url


@cache
def openai_url() -> str:
    """Start an OpenAI-compatible server of our own whose model is the static one, and which normalises nothing."""
    from fake_openai import FakeOpenAI

    from omnimemory.embedders.static import StaticEmbedder

    static = StaticEmbedder(128)
    return FakeOpenAI(vector=lambda text: (5.8 * static.embed([text], "document")[0]).tolist()).start().url


@cache
def tiny_folder() -> str:
    """Write an encoder with random weights."""
    from tools.tiny_encoders import write_tiny_encoder

    return str(write_tiny_encoder(Path(tempfile.mkdtemp(prefix="omnimemory-tiny-"))))


NOT_WORDS = frozenset(
    {"only-nul", "surrogate-pair", "emoji-family", "zero-width", "one-long-line", "long-unbroken-multibyte"}
)
ONNX = {"tolerance": 2e-6, "unknown": NOT_WORDS, "trained": False}

CASES = [
    Case("static-256", "omnimemory.embedders.static", "StaticEmbedder", {"dim": 256}),
    Case("static-128", "omnimemory.embedders.static", "StaticEmbedder", {"dim": 128}),
    Case("static-64", "omnimemory.embedders.static", "StaticEmbedder", {"dim": 64}),
    Case("ollama", "omnimemory.embedders.ollama", "OllamaEmbedder", {"model": "static", "host": ollama_url}),
    Case("onnx", "omnimemory.embedders.onnx", "OnnxEmbedder", {"folder": tiny_folder, "name": "a"}, **ONNX),
    Case(
        "onnx-int8",
        "omnimemory.embedders.onnx",
        "OnnxEmbedder",
        {"folder": tiny_folder, "name": "b", "precision": "int8"},
        **ONNX,
    ),
    Case("openai", "omnimemory.embedders.openai", "OpenAIEmbedder", {"model": "static", "url": openai_url}),
]

TEXTS = [
    "git commit --amend --no-edit",
    "The quick brown fox jumps over the lazy dog.",
    "rm -rf build/",
    "Überraschung: 東京 🦄 naïve café",
    "a",
    "word " * 3000,
    "SELECT name\nFROM users\nWHERE id = 1;",
]
STRANGE = {
    "nul": "before\x00after",
    "only-nul": "\x00",
    "lone-surrogate": "a \ud800 b",
    "surrogate-pair": "\ud83e\udd84",
    "right-to-left": "\u202eevil\u202c",
    "combining": "e" + "\u0301" * 500,
    "emoji-family": "👩‍👩‍👧‍👦",
    "zero-width": "\u200b",
    "control": "\x1b[31mred\x1b[0m",
    "special-tokens": "<s> </s> <unk>",
    "one-long-line": "x" * 1_000_000,
    "long-unbroken-multibyte": "é" * 100_000,
}
QUESTIONS = [
    ("delete a file", "rm removes files and directories from disk"),
    ("show who wrote each line", "git blame annotates every line with its author and commit"),
    ("compress a folder", "tar creates an archive and gzip makes it smaller"),
    ("list running processes", "ps shows the programs that are currently executing"),
    ("download a web page", "curl fetches a URL over HTTP"),
    ("search text inside files", "grep prints lines matching a pattern"),
    ("change file permissions", "chmod sets read, write and execute bits for owner and group"),
    ("how much disk space is left", "df reports free and used storage of each filesystem"),
    ("cook pasta for dinner", "boil noodles in salted water and serve with tomato sauce"),
    ("my dog is ill", "take a sick puppy to the veterinarian"),
    ("weather tomorrow", "the forecast predicts rain and wind on Tuesday"),
    ("buy a new car", "the dealer sells used vehicles and trucks at low prices"),
]
LEAST_QUALITY = 0.7
"""Mean reciprocal rank over QUESTIONS that understanding reaches and hashing does not."""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def embedder(case: Case) -> Iterator[Embedder]:
    made = case.make()
    yield made
    made.close()


def quality(queries: Vectors, documents: Vectors) -> float:
    """Mean reciprocal rank of the document that answers each query."""
    scores = queries @ documents.T
    ranks = (scores >= np.diagonal(scores)[:, None]).sum(axis=1)
    return float(np.mean(1.0 / ranks))


def hash_embed(texts: Sequence[str], dim: int = 256) -> Vectors:
    """What a fake does: a reproducible random direction for each text."""
    seeds = [int.from_bytes(hashlib.blake2b(text.encode()).digest()[:8], "big") for text in texts]
    return normalise([np.random.default_rng(seed).standard_normal(dim) for seed in seeds])


def hash_words(texts: Sequence[str], dim: int = 256) -> Vectors:
    """What a better fake does: a random direction for each word, added up."""
    return normalise([hash_embed(text.lower().split(), dim).sum(axis=0) for text in texts])


def test_it_satisfies_the_protocol(embedder):
    assert isinstance(embedder, Embedder)


@pytest.mark.parametrize("role", get_args(Role))
def test_vectors_are_contiguous_unit_float32_rows(embedder, role):
    vectors = embedder.embed(TEXTS, role)
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.flags.owndata
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("role", get_args(Role))
def test_no_texts_give_no_rows(embedder, role):
    vectors = embedder.embed([], role)
    assert vectors.shape == (0, embedder.dim)
    assert vectors.dtype == np.float32


def test_a_text_has_the_same_vector_alone_and_in_any_batch(case, embedder):
    together = embedder.embed(TEXTS, "document")
    alone = np.concatenate([embedder.embed([text], "document") for text in TEXTS])
    twice = embedder.embed([*TEXTS, *TEXTS], "document")
    np.testing.assert_allclose(alone, together, rtol=0, atol=case.tolerance)
    np.testing.assert_allclose(twice, np.concatenate([together, together]), rtol=0, atol=case.tolerance)


def test_rows_come_in_the_order_of_the_texts(case, embedder):
    order = np.random.default_rng(7).permutation(len(TEXTS))
    shuffled = embedder.embed([TEXTS[place] for place in order], "document")
    np.testing.assert_allclose(shuffled, embedder.embed(TEXTS, "document")[order], rtol=0, atol=case.tolerance)


def test_different_texts_have_different_vectors(embedder):
    cosines = np.tril(embedder.embed(TEXTS, "document") @ embedder.embed(TEXTS, "document").T, -1)
    assert cosines.max() < 0.999


def test_another_process_with_other_threads_computes_the_same(case, embedder):
    if case.tolerance:
        pytest.skip(f"{case.name} promises equal vectors only within {case.tolerance}")
    here = hashlib.sha256(embedder.embed(TEXTS, "document").tobytes()).hexdigest()
    script = (
        "import hashlib, json, sys\n"
        f"from {case.module} import {case.cls} as Made\n"
        "arguments, texts = json.load(sys.stdin)\n"
        "made = Made(**arguments)\n"
        "before = (made.fingerprint, made.loaded)\n"
        "print(*before, hashlib.sha256(made.embed(texts, 'document').tobytes()).hexdigest())\n"
    )
    for threads in ("1", "3"):
        assert child(script, [case.given(), TEXTS], threads).split() == [embedder.fingerprint, "False", here]


def child(script: str, data: Any, threads: str) -> str:
    import json

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(names, threads)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(data),
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("blank", ["", " ", "\n\t \r\n", "\u3000\u00a0"], ids=["empty", "space", "lines", "wide"])
def test_a_blank_text_is_an_error_that_names_its_place(embedder, blank):
    with pytest.raises(UnembeddableTextError, match="texts 1, 3 are") as caught:
        embedder.embed(["fine", blank, "also fine", blank], "document")
    assert caught.value.indexes == (1, 3)


@pytest.mark.parametrize(
    ("texts", "role", "message"),
    [
        ("a single text", "document", r"pass \[text\]"),
        (["fine", None], "document", "text 1 is a NoneType"),
        (["fine", b"bytes"], "query", "text 1 is a bytes"),
        (["fine"], "passage", "document, query"),
    ],
    ids=["one-str", "none", "bytes", "unknown-role"],
)
def test_a_wrong_call_is_an_error_that_says_what_is_wrong(embedder, texts, role, message):
    with pytest.raises(EmbedderError, match=message):
        embedder.embed(texts, role)


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
def test_strange_text_gets_a_proper_vector_and_spoils_no_neighbour(case, embedder, text):
    if text in {STRANGE[name] for name in case.unknown}:
        with pytest.raises(UnembeddableTextError) as caught:
            embedder.embed(["an ordinary text", text], "document")
        assert caught.value.indexes == (1,)
        return
    vectors = embedder.embed(["an ordinary text", text], "document")
    assert abs(float(np.linalg.norm(vectors[1])) - 1.0) < 1e-6
    np.testing.assert_allclose(
        vectors[:1], embedder.embed(["an ordinary text"], "document"), rtol=0, atol=case.tolerance
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(), min_size=1, max_size=60), max_size=6))
@example([" ", "\u2603", "a"])
def test_any_text_gets_a_unit_vector_or_is_named(embedder, texts):
    try:
        vectors = embedder.embed(texts, "document")
    except UnembeddableTextError as error:
        kept = [text for place, text in enumerate(texts) if place not in error.indexes]
        assert len(kept) < len(texts)
        vectors = embedder.embed(kept, "document")
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1.0).max(initial=0.0) < 1e-6


def test_tokens_are_counted(embedder):
    counts = embedder.count_tokens(["", "one", "one two three four", "word " * 3000])
    assert counts[0] == 0
    assert 0 < counts[1] < counts[2] < counts[3]
    assert counts[3] >= 3000
    assert embedder.count_tokens([]) == []


def test_fingerprints_name_one_space_each():
    fingerprints = [case.make().fingerprint for case in CASES]
    assert len(set(fingerprints)) == len(CASES)
    assert all(len(bytes.fromhex(one)) == 16 for one in fingerprints)
    assert fingerprints == [case.make().fingerprint for case in CASES]


def test_names_are_provider_and_model(embedder):
    provider, _, model = embedder.name.partition(":")
    assert provider
    assert model
    assert len({case.make().name for case in CASES}) == len(CASES)


def test_the_footprint_is_known_without_loading(case):
    fresh = case.make()
    footprint = fresh.footprint()
    assert not fresh.loaded
    assert all(type(part) is int and part > 0 for part in footprint)
    assert footprint.base >= fresh.dim * 4


def test_it_loads_on_first_use_and_again_after_close(case):
    fresh = case.make()
    assert not fresh.loaded
    first = fresh.embed(["text"], "document")
    assert fresh.loaded
    fresh.close()
    fresh.close()
    assert not fresh.loaded
    np.testing.assert_allclose(fresh.embed(["text"], "document"), first, rtol=0, atol=case.tolerance)


def test_eight_threads_get_the_same_vectors(case):
    fresh, gate, results = case.make(), threading.Barrier(8), []

    def work() -> None:
        gate.wait(timeout=30)
        results.extend(fresh.embed(TEXTS, "document") for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 24
    for vectors in results:
        np.testing.assert_allclose(vectors, results[0], rtol=0, atol=case.tolerance)


def test_questions_find_their_answers(case, embedder):
    if not case.trained:
        pytest.skip(f"{case.name} has random weights here; test_onnx_quality asks a trained one")
    queries = embedder.embed([question for question, _ in QUESTIONS], "query")
    documents = embedder.embed([answer for _, answer in QUESTIONS], "document")
    assert quality(queries, documents) >= LEAST_QUALITY


@pytest.mark.parametrize("fake", [hash_embed, hash_words])
@pytest.mark.parametrize("dim", [64, 256])
def test_a_hash_does_not_find_the_answers(fake, dim):
    queries = fake([question for question, _ in QUESTIONS], dim)
    documents = fake([answer for _, answer in QUESTIONS], dim)
    assert quality(queries, documents) < LEAST_QUALITY - 0.1
