"""all-MiniLM-L6-v2 itself, from the published weights: parity with sentence-transformers, and what int8 costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.memory import Memory
from tools.golden_vectors import TEXTS

GOLDEN = np.load(Path(__file__).with_name("golden_vectors.npz"))["minilm"]
QUESTIONS = 200


@pytest.fixture(scope="module", params=["float32", "int8"])
def embedder(request, minilm) -> OnnxEmbedder:
    return OnnxEmbedder.of_installed(minilm, precision=request.param)


def test_vectors_are_those_of_sentence_transformers(embedder):
    cosines = (embedder.embed(TEXTS, "document").astype(np.float64) * GOLDEN).sum(axis=1)
    if "int8" in embedder.name:
        assert cosines.mean() >= 0.99
        assert cosines.min() >= 0.98
    else:
        assert cosines.min() >= 0.99999


def test_a_text_has_the_same_vector_alone_and_in_any_batch(embedder):
    together = embedder.embed(TEXTS, "document")
    alone = np.concatenate([embedder.embed([text], "document") for text in TEXTS])
    np.testing.assert_allclose(alone, together, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_integers_find_as_much_as_floats(minilm, shared_data):
    lines = (shared_data / "tldr" / "dev.tsv").read_text("utf-8").splitlines()[1:]
    pairs = [line.split("\t")[1:] for line in lines[:: max(1, len(lines) // QUESTIONS)]]
    ranks = {}
    for precision in ("float32", "int8"):
        made = OnnxEmbedder.of_installed(minilm, precision=precision)
        scores = (
            made.embed([text for text, _ in pairs], "query") @ made.embed([text for _, text in pairs], "document").T
        )
        ranks[precision] = 1.0 / (scores >= np.diagonal(scores)[:, None]).sum(axis=1)
    assert ranks["float32"].mean() > 0.6
    difference = ranks["int8"] - ranks["float32"]
    assert difference.mean() >= -max(0.015, 1.96 * difference.std() / len(pairs) ** 0.5)


def test_a_memory_with_minilm_ingests_and_searches(settings, minilm, tmp_path):
    chosen = settings.with_values({"models.path": minilm.folder.parent, "embedding.model": "minilm"})
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pets.md").write_text("The vet treats sick puppies.\n")
    (tmp_path / "docs" / "kitchen.md").write_text("Boil the noodles in salted water.\n")
    with Memory(settings=chosen) as memory:
        assert memory.embeddings.embedder.name == "onnx:all-MiniLM-L6-v2@int8"
        assert memory.ingest(tmp_path / "docs").added == 2
        assert "puppies" in memory.search("my dog is ill", mode="vector", k=1)[0].text
        assert "noodles" in memory.search("how to cook pasta", k=1)[0].text
