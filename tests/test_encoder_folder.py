"""What is wrong with a model folder is said with the file and the fix, before any vector is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders.encoder_folder import read_encoder_folder
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedders.tensors import Tensors
from omnimemory.errors import ConfigError, EmbedderError
from tools.tiny_encoders import write_tiny_encoder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_tiny_encoder(tmp_path / "tiny")


def change(path: Path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGES = {
    "no-folder": (shutil.rmtree, "There is no model folder"),
    "no-config": (lambda f: (f / "config.json").unlink(), "There is no .*config.json"),
    "config-cut": (lambda f: (f / "config.json").write_text('{"model_type": "be'), "config.json cannot be read"),
    "config-list": (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
    "other-architecture": (
        lambda f: change(f / "config.json", model_type="gemma3"),
        "of the kind 'gemma3'.*model.onnx",
    ),
    "no-weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no-tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "heads": (lambda f: change(f / "config.json", num_attention_heads=5), "64 dimensions cannot be shared by 5 heads"),
    "size": (lambda f: change(f / "config.json", hidden_size="64"), "no sensible hidden_size"),
    "activation": (lambda f: change(f / "config.json", hidden_act="swiglu"), "activation is 'swiglu'"),
    "positions": (lambda f: change(f / "config.json", position_embedding_type="relative_key"), "'relative_key'"),
    "pooling": (
        lambda f: change(f / "1_Pooling/config.json", pooling_mode_max_tokens=True),
        "pools by max_tokens, mean",
    ),
    "no-pooling": (lambda f: shutil.rmtree(f / "1_Pooling"), "names a pooling, and .*1_Pooling/config.json is missing"),
    "prompt": (lambda f: change(f / "1_Pooling/config.json", include_prompt=False), "leaves its prompt out"),
    "dense": (lambda f: (f / "modules.json").write_text('[{"type": "a.models.Dense"}]'), "not known here: Dense"),
    "modules": (lambda f: (f / "modules.json").write_text("[1]"), "modules.json cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_folder_that_is_not_understood_is_refused(folder, name):
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(EmbedderError, match=message):
        OnnxEmbedder(folder)


LATER = {
    "weights-empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "it is empty"),
    "weights-cut": (lambda f: _cut(f / "model.safetensors", 1000), "no complete safetensors file"),
    "weights-header": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "no complete safetensors file"),
    "weights-folder": (lambda f: _folder(f / "model.safetensors"), "is missing"),
    "tokenizer-cut": (lambda f: _cut(f / "tokenizer.json", 50), "tokenizer .* cannot be read"),
    "more-layers": (lambda f: change(f / "config.json", num_hidden_layers=4), "no tensor encoder.layer.3"),
    "other-inner": (lambda f: change(f / "config.json", intermediate_size=80), r"shape \(160, 64\).*says \(80, 64\)"),
    "small-vocabulary": (lambda f: _drop_words(f / "model.safetensors"), "not of one model"),
}


@pytest.mark.parametrize("name", LATER)
def test_files_that_do_not_fit_are_refused_when_they_are_loaded(folder, name):
    damage, message = LATER[name]
    damage(folder)
    with pytest.raises(EmbedderError, match=message):
        OnnxEmbedder(folder).embed(["undo"], "document")


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:-size])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _drop_words(path: Path) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["embeddings.word_embeddings.weight"]["shape"][0] -= 1
    header["embeddings.word_embeddings.weight"]["data_offsets"][1] -= 4 * 64
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def save(path: Path, **tensors):
    """Write tensors given as (dtype of the file, shape, bytes)."""
    header, body = {}, b""
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_half_precision_is_widened(tmp_path):
    values = np.array([[1.5, -2.0, 0.0], [3e-5, 65504.0, 0.1]], dtype=np.float32)
    bits = values.view(np.uint32)
    bf16 = (bits >> 16).astype("<u2").tobytes()
    save(
        tmp_path / "w",
        odd=("I8", [1], b"\x01"),  # moves the others to an address that is no multiple of four
        full=("F32", [2, 3], values.astype("<f4").tobytes()),
        half=("F16", [2, 3], values.astype("<f2").tobytes()),
        brain=("BF16", [2, 3], bf16),
    )
    tensors = Tensors(tmp_path / "w")
    assert list(tensors) == ["odd", "full", "half", "brain"]
    np.testing.assert_array_equal(tensors["full"], values)
    np.testing.assert_array_equal(tensors["half"], values.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(tensors["brain"], (bits & 0xFFFF0000).view(np.float32))
    assert {tensors[name].dtype for name in ("full", "half", "brain")} == {np.dtype(np.float32)}
    with pytest.raises(EmbedderError, match="odd holds I8"):
        tensors["odd"]
    tensors.release()
    np.testing.assert_array_equal(tensors["full"], values)


@pytest.mark.parametrize(
    "entry",
    [("F32", [2, 2], b"\0" * 12), ("F32", [-1], b"\0" * 4), ("F32", [True], b"\0" * 4), ("F32", ["2"], b"\0" * 8)],
    ids=["short", "negative", "boolean", "text"],
)
def test_a_tensor_whose_bytes_do_not_fill_its_shape_is_refused(tmp_path, entry):
    save(tmp_path / "w", t=entry)
    with pytest.raises(EmbedderError, match="no complete safetensors"):
        Tensors(tmp_path / "w")


def test_a_ready_graph_computes_the_same_as_the_written_one(folder, tmp_path):
    from tools.ready_model import write_ready_graph

    for pooled in (False, True):
        ready = tmp_path / f"ready-{pooled}"
        shutil.copytree(folder, ready)
        write_ready_graph(folder, ready / "onnx" / "model.onnx", pooled=pooled)
        (ready / "model.safetensors").unlink()
        texts = ["git commit", "undo the last commit", "a", "who wrote the line " * 20]
        found = read_encoder_folder(ready)
        assert found.graph == ready / "onnx" / "model.onnx"
        made = OnnxEmbedder(ready)
        np.testing.assert_allclose(
            made.embed(texts, "document"), OnnxEmbedder(folder).embed(texts, "document"), atol=2e-6
        )
        assert made.fingerprint != OnnxEmbedder(folder).fingerprint
        with pytest.raises(ConfigError, match="precision it was made with"):
            OnnxEmbedder(ready, precision="int8")
    (ready / "onnx" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EmbedderError, match="cannot be loaded by ONNX Runtime"):
        OnnxEmbedder(ready).embed(["a"], "document")
