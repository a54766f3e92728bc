"""A memory that is told to use MLX does, keeps to it, and none does so unasked."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from omnimemory.embedders.model_sources import FolderSource
from omnimemory.embedders.models import find_card, known_models
from omnimemory.embedders.pull import pull_model
from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.memory import Memory
from omnimemory.model_choice import choose_embedder
from tools.tiny_encoders import write_tiny_encoder

FILES = dict.fromkeys(("model.safetensors", "tokenizer.json", "config.json"), "")


@pytest.fixture
def chosen(settings, tmp_path):
    return settings.with_values({"models.path": tmp_path / "models", "models.table": tmp_path / "models.toml"})


@pytest.fixture
def origin(tmp_path):
    return write_tiny_encoder(tmp_path / "origin")


@pytest.fixture
def pulled(chosen, origin):
    """Install a tiny encoder under the name of MiniLM."""
    card = replace(find_card("minilm", known_models()), dim=64, dims=(32,), files=FILES)
    return pull_model(card, chosen.models.path, [FolderSource(origin)])


def name_of(settings, **values) -> str:
    return choose_embedder(settings.with_values({f"embedding.{key}": value for key, value in values.items()})).name


def test_mlx_is_taken_when_it_is_asked_for_by_name_and_never_else(chosen, pulled, origin):
    assert name_of(chosen) == name_of(chosen, model="minilm") == "onnx:all-MiniLM-L6-v2@int8"
    assert name_of(chosen, model="mlx:minilm") == "mlx:all-MiniLM-L6-v2@float32"
    assert name_of(chosen, model="mlx:minilm", precision="bfloat16", dim=32) == "mlx:all-MiniLM-L6-v2@bfloat16:32"
    assert name_of(chosen, model="mlx:minilm@bfloat16:32") == "mlx:all-MiniLM-L6-v2@bfloat16:32"
    assert name_of(chosen, model=f"mlx:{origin}") == f"mlx:{origin}@float32"
    assert name_of(chosen, model=str(origin)) == f"onnx:{origin}@float32"


def test_whether_it_can_be_loaded_is_told_before(chosen, pulled):
    with Memory(settings=chosen) as memory:
        can, reason = memory.models.can_load("mlx:minilm")
        assert can == (importlib.util.find_spec("mlx") is not None)
        assert ("pip install 'omnimemory[mlx]'" in reason) == (not can)
        assert [one["name"] for one in memory.models.available()] == ["onnx:all-MiniLM-L6-v2@int8"]


def test_a_card_may_name_mlx(chosen, origin):
    table = (
        '[tiny]\nprovider = "mlx"\ndim = 64\nbytes = 1\nlicence = "MIT"\nprecision = "bfloat16"\n'
        "[tiny.files]\n" + "".join(f'"{name}" = ""\n' for name in FILES)
    )
    chosen.models.table.write_text(table)
    pull_model(known_models(chosen.models.table)["tiny"], chosen.models.path, [FolderSource(origin)])
    assert name_of(chosen, model="tiny") == "mlx:tiny@bfloat16"
    assert name_of(chosen, model="onnx:tiny") == "onnx:tiny@float32"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mlx:bge-small", EmbedderError, "omnimemory models pull bge-small"),
        ("mlx:static", ConfigError, "no model that mlx could run"),
        ("mlx:nonsense", ConfigError, "no embedding model 'nonsense'"),
        ("mlx:", ConfigError, "no embedding model 'mlx:'"),
        ("onnx:", ConfigError, "no embedding model 'onnx:'"),
        ("mlx:/nowhere/at/all", EmbedderError, "no model folder"),
        ("mlx:minilm@int8", ConfigError, "computes in float32 or bfloat16, not 'int8'"),
        ("minilm@bfloat16", ConfigError, "no precision 'bfloat16'"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_the_fix(chosen, pulled, name, error, message):
    with pytest.raises(error, match=message):
        choose_embedder(chosen.with_values({"embedding.model": name}))


def test_a_memory_is_filled_searched_and_opened_again_with_it(chosen, origin, tmp_path):
    pytest.importorskip("mlx.core", reason="needs MLX: pip install 'omnimemory[mlx]'")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("undo the last commit\n")
    (tmp_path / "docs" / "two.md").write_text("docker list the folder\n")
    for number in range(6):
        (tmp_path / "docs" / f"{number}.md").write_text(f"file {number} of the folder\n")
    small = chosen.with_values({"embedding.batch_size": 2})  # several batches: the next is read beside the model
    with Memory(settings=small, model=f"mlx:{origin}") as memory:
        report = memory.ingest(tmp_path / "docs")
        assert (report.added, report.embedded, report.pending) == (8, 8, 0)
        assert "undo" in memory.search("undo the last commit", mode="vector", k=1)[0].text
    with Memory(settings=chosen) as memory:
        assert memory.embeddings.embedder.name == f"mlx:{origin}@float32"
        assert "docker" in memory.search("docker list the folder", mode="vector", k=1)[0].text
