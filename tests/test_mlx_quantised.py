"""Weights that were quantised for MLX: what is computed with them is what the numbers they stand for give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders.mlx.embedder import TOLERANCE, MlxEmbedder
from omnimemory.embedders.tensors import Tensors
from omnimemory.errors import EmbedderError
from tools.golden_vectors import TINY_TEXTS
from tools.tiny_encoders import write_tiny_encoder
from tools.tiny_gemma import GEMMA_TEXTS, write_safetensors, write_tiny_gemma

mx = pytest.importorskip("mlx.core", reason="needs MLX: pip install 'omnimemory[mlx]'")

GOLDEN = {
    "gemma": np.load(Path(__file__).with_name("golden_gemma.npz"))["F32-document"][:4],
    "bert": np.load(Path(__file__).with_name("golden_vectors.npz"))["bert"],
}
TEXTS = {"gemma": GEMMA_TEXTS[:4], "bert": TINY_TEXTS}  # on a processor MLX takes long for packed numbers
PLACES = {"gemma": ("model", "2_Dense/model", "3_Dense/model"), "bert": ("model",)}


@pytest.fixture(scope="module", params=["gemma", "bert"])
def original(request, tmp_path_factory):
    """Return (name, folder) of a small model in float32."""
    write = {"gemma": write_tiny_gemma, "bert": write_tiny_encoder}[request.param]
    return request.param, write(tmp_path_factory.mktemp(request.param))


def change(path: Path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def quantised(original, target: Path, bits: int, **own) -> tuple[Path, Path]:
    """Return two folders: one quantised, one with the same numbers as floats, unpacked by hand.

    ``own`` are the bits of single matrices.
    """
    name, folder = original
    packed, plain = shutil.copytree(folder, target / "packed"), shutil.copytree(folder, target / "plain")
    for place in PLACES[name]:
        dense, floats = {}, {}
        for tensor, values in Tensors(folder / f"{place}.safetensors").items():
            stem = tensor.removesuffix(".weight")
            if values.ndim != 2 or values.shape[1] % 32:
                dense[tensor] = floats[tensor] = np.array(values)
                continue
            parts = [np.array(part) for part in mx.quantize(mx.array(values), group_size=32, bits=own.get(stem, bits))]
            dense |= dict(zip((f"{stem}.weight", f"{stem}.scales", f"{stem}.biases"), parts, strict=True))
            floats[tensor] = unpacked(*parts, own.get(stem, bits))
        write_safetensors(packed / f"{place}.safetensors", dense)
        write_safetensors(plain / f"{place}.safetensors", floats)
    single = {stem: {"group_size": 32, "bits": few} for stem, few in own.items()}
    change(
        packed / "config.json", quantization={"group_size": 32, "bits": bits, **single}, quantization_config={"x": 1}
    )
    return packed, plain


def unpacked(weight, scales, biases, bits):
    """Return what packed numbers stand for: so many bits each, the lowest first, ``scale * q + bias`` by groups."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    numbers = (weight[..., None] >> shifts & np.uint32(2**bits - 1)).reshape(len(weight), -1)
    return (numbers * scales.repeat(32, axis=1) + biases.repeat(32, axis=1)).astype(np.float32)


def cosines(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.mark.parametrize(("bits", "least"), [(8, 0.999), (4, 0.9), (2, 0.0)])
def test_the_packed_numbers_count(original, tmp_path, bits, least):
    name, _ = original
    packed, plain = quantised(original, tmp_path, bits)
    made = MlxEmbedder(packed).embed(TEXTS[name], "document")
    assert cosines(made, MlxEmbedder(plain).embed(TEXTS[name], "document")).min() >= 0.99999
    near = cosines(made, GOLDEN[name])
    assert least <= near.min() < 0.99999  # it is another model than the one in float32
    assert (packed / "model.safetensors").stat().st_size < (plain / "model.safetensors").stat().st_size / 2


def test_single_matrices_may_have_bits_of_their_own(original, tmp_path):
    name, folder = original
    stem = next(
        tensor for tensor in Tensors(folder / "model.safetensors") if "0" in tensor and tensor.endswith("weight")
    )
    packed, plain = quantised(original, tmp_path, 4, **{stem.removesuffix(".weight"): 8})
    made = MlxEmbedder(packed).embed(TEXTS[name], "document")
    assert cosines(made, MlxEmbedder(plain).embed(TEXTS[name], "document")).min() >= 0.99999


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_text_has_the_same_vector_alone_and_in_a_batch(original, tmp_path, precision):
    name, _ = original
    packed, _ = quantised(original, tmp_path, 4)
    made = [MlxEmbedder(packed, precision=precision, budget=budget) for budget in (1, 100_000)]
    first, second = (one.embed(TEXTS[name][-3:], "document") for one in made)
    assert cosines(first, second).min() >= TOLERANCE[precision]


DAMAGES = {
    "no-quantization": ({"quantization": None, "quantization_config": None}, "groups of None with None bits"),
    "other-bits": ({"quantization": {"group_size": 32, "bits": 8}}, r"has the shape .*, not"),
    "other-group": ({"quantization": {"group_size": 64, "bits": 4}}, r"(shape .*, not|do not make groups of 64)"),
    "odd-bits": ({"quantization": {"group_size": 32, "bits": 7}}, "with 7 bits"),
    "other-mode": ({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "mode 'mxfp4'"),
    "foreign": ({"quantization": None}, "a way that MLX does not know"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_the_configuration_says_wrongly_is_an_error(original, tmp_path, name):
    values, message = DAMAGES[name]
    packed, _ = quantised(original, tmp_path, 4)
    change(packed / "config.json", **values)
    with pytest.raises(EmbedderError, match=message):
        MlxEmbedder(packed).embed(["git"], "document")


def test_packed_numbers_that_are_floats_are_refused(original, tmp_path):
    packed, _ = quantised(original, tmp_path, 4)
    path = packed / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"U32"', b'"F32"'))
    with pytest.raises(EmbedderError, match="float32, not uint32 numbers"):
        MlxEmbedder(packed).embed(["git"], "document")
