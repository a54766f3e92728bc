"""Every setting of models on this machine changes something."""

import threading

import pytest
from settings_cases import matters

from omnimemory.embedders.model_sources import FolderSource
from omnimemory.embedders.models import ModelCard
from omnimemory.embedders.pull import pull_model
from omnimemory.errors import EmbedderError
from omnimemory.memory import Memory
from tools.tiny_encoders import write_tiny_encoder

FILES = dict.fromkeys(("model.safetensors", "tokenizer.json", "config.json"), "")


@pytest.fixture
def pulled(settings, tmp_path):
    card = ModelCard("tiny", "onnx", 64, 1, "MIT", files=FILES)
    pull_model(card, tmp_path / "models", [FolderSource(write_tiny_encoder(tmp_path / "origin"))])
    return settings.with_values({"models.path": tmp_path / "models", "embedding.model": "tiny"})


@matters("models.path")
def test_models_are_where_the_setting_says(pulled, tmp_path):
    with Memory(settings=pulled) as memory:
        assert memory.embeddings.embed_text("undo").shape == (64,)
    with pytest.raises(EmbedderError, match=r"no embedding model|not been pulled"):
        Memory(settings=pulled.with_values({"models.path": tmp_path / "elsewhere", "embedding.model": "minilm"}))


@matters("models.table")
def test_the_users_table_names_models(settings, tmp_path):
    table = tmp_path / "own.toml"
    table.write_text('[mine]\nprovider = "onnx"\ndim = 64\nbytes = 1\nlicence = "MIT"\n')
    with pytest.raises(EmbedderError, match="mine has not been pulled yet"):
        Memory(settings=settings.with_values({"models.table": table, "embedding.model": "mine"}))


@matters("embedding.precision")
def test_the_precision_of_a_model(pulled):
    vectors = []
    for precision in ("float32", "int8"):
        changed = pulled.with_values({"embedding.precision": precision, "store.path": pulled.store.path / precision})
        with Memory(settings=changed) as memory:
            vectors.append(memory.embeddings.embed_text("undo the last commit"))
    assert 0.99 < float(vectors[0] @ vectors[1]) < 1 - 1e-7


@matters("embedding.threads")
@pytest.mark.parametrize("threads", [1, 3])
def test_so_many_threads_compute(pulled, threads):
    with Memory(settings=pulled.with_values({"embedding.threads": threads})) as memory:
        memory.embeddings.embed_text("undo")
        model = memory.embeddings.embedder._model
        seen, gate, real = set(), threading.Barrier(threads), model.compute

        def compute(batch):
            seen.add(threading.get_ident())
            if len(seen) <= threads and not gate.broken:
                gate.wait(timeout=30)  # all of them must be at work at the same time
            return real(batch)

        object.__setattr__(model, "compute", compute)
        memory.embeddings.embedder.budget = 1
        memory.embeddings.embed_batch([f"word {'a' * n}" for n in range(1, 3 * threads + 1)])
        assert len(seen) == threads
