"""Bytes of weights, batches and the index, against real files and measured peaks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from omnimemory.errors import EmbedderError
from omnimemory.scheduler.footprint import (
    NUMPY,
    ONNX,
    TORCH,
    Footprint,
    Request,
    encoder_footprint,
    index_bytes,
    weights_bytes,
)

MIB = 1 << 20
MINILM = {"hidden": 384, "inner": 1536, "heads": 12}


def safetensors(path: Path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def test_weights_are_the_bytes_of_all_tensors(tmp_path):
    tensors = {"a": np.ones((300, 7), np.float32), "b": np.ones(5, np.float16), "empty": np.ones((0, 4), np.int64)}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "np"})
    assert weights_bytes(tmp_path / "w.safetensors") == sum(t.nbytes for t in tensors.values())
    assert weights_bytes(tmp_path / "w.safetensors", value_bytes=4) == 4 * (300 * 7 + 5)


def test_only_the_header_of_the_weights_is_read(tmp_path):
    size = 1 << 40
    path = safetensors(tmp_path / "huge", {"t": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    os.truncate(path, path.stat().st_size + size)  # sparse: reading it would take hours
    assert weights_bytes(path) == size


def tensor(start=0, end=4, shape=(1,)):
    return {"t": {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}}


CORRUPT = {
    "header-is-no-json": (b"{not json", b"", None),
    "header-is-a-list": ([], b"", None),
    "header-longer-than-the-file": (tensor(), b"", 1 << 20),
    "header-length-absurd": (tensor(), b"", (1 << 64) - 1),
    "header-empty": (b"", b"", 0),
    "header-is-not-utf8": (b"\xff\xfe{}", b"", None),
    "header-nested-too-deep": (b"[" * 200_000, b"", None),
    "data-cut-short": (tensor(end=4), b"123", None),
    "tensor-ends-before-it-starts": (tensor(start=4, end=0), b"1234", None),
    "tensor-starts-below-zero": (tensor(start=-4), b"1234", None),
    "offsets-missing": ({"t": {"shape": [1]}}, b"1234", None),
    "offsets-are-words": ({"t": {"shape": [1], "data_offsets": ["0", "4"]}}, b"1234", None),
    "tensor-is-a-word": ({"t": "x"}, b"1234", None),
    "shape-is-negative": (tensor(shape=(-1,)), b"1234", None),
}


@pytest.mark.parametrize(("header", "data", "length"), CORRUPT.values(), ids=CORRUPT)
def test_damaged_weights_are_refused_with_the_file_and_the_fix(tmp_path, header, data, length):
    path = safetensors(tmp_path / "w.safetensors", header, data, length)
    with pytest.raises(EmbedderError, match=r"w\.safetensors is no complete safetensors file .*Install the model"):
        weights_bytes(path, value_bytes=4)


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "fifo"])
def test_what_is_no_weights_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "w"
    {"missing": lambda: None, "empty": path.touch, "folder": path.mkdir, "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(EmbedderError, match="Install the model again"):
        weights_bytes(path)


# Peaks of all-MiniLM-L6-v2 (float32) over the memory of the loaded model, in MiB, one process per point.
MEASURED = [
    (ONNX, 8, 64, 9.8),
    (ONNX, 32, 64, 49),
    (ONNX, 32, 128, 96.5),
    (ONNX, 32, 256, 252),
    (ONNX, 8, 512, 236),
    (ONNX, 16, 512, 472),
    (NUMPY, 8, 64, 22.7),
    (NUMPY, 32, 64, 90.2),
    (NUMPY, 32, 128, 168),
    (NUMPY, 8, 512, 217),
    (TORCH, 8, 64, 47.7),
    (TORCH, 32, 64, 95.5),
    (TORCH, 32, 256, 248),
    (TORCH, 8, 512, 140),
]


@pytest.mark.parametrize(("runtime", "items", "tokens", "peak"), MEASURED)
def test_the_prior_is_near_the_measured_peak(runtime, items, tokens, peak):
    model = encoder_footprint(91_000_000, runtime, **MINILM)
    request = model.request("minilm", items, tokens, loaded=True)
    assert 0.85 * peak <= request.need(items) / MIB <= 1.3 * peak


def test_a_runtime_adds_a_constant_to_the_weights_not_a_factor():
    small, large = (encoder_footprint(weights, ONNX, **MINILM).base for weights in (10 * MIB, 1000 * MIB))
    assert large - small == 990 * MIB
    assert small > 10 * MIB


@pytest.mark.parametrize("loaded", [False, True], ids=["absent", "loaded"])
def test_a_loaded_model_is_not_charged_again(loaded):
    request = Footprint(1000, 10, 5, per_batch=7).request("m", 3, 20, loaded=loaded, growth_per_item=100)
    assert request == Request("m", 3, 0 if loaded else 1000, 205, 100, 7)
    assert request.need(2) == request.base + 7 + 2 * 305


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_longer_texts_never_need_less(one, other):
    model = encoder_footprint(0, ONNX, **MINILM)
    assert (model.item_bytes(one) <= model.item_bytes(other)) == (one <= other)


def test_long_texts_pay_for_attention_where_its_scores_are_written_out():
    flash, written = (encoder_footprint(0, r, **MINILM) for r in (TORCH, ONNX))
    assert written.item_bytes(2000) > 3 * written.item_bytes(1000)
    assert flash.item_bytes(2000) < 2.01 * flash.item_bytes(1000)


def test_the_index_grows_by_what_was_measured():
    grown = index_bytes(100_000, 256)
    assert 1.7 * 102.4e6 <= grown <= 2.2 * 102.4e6
    assert index_bytes(0, 256) == 0
    assert grown - 100_000 * 200 == 1.75 * 100_000 * 256 * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": 0}, "at least one text"),
        ({"items": -3}, "at least one text"),
        ({"base": -1}, "cannot be negative"),
        ({"per_item": -1}, "cannot be negative"),
        ({"growth_per_item": -1}, "cannot be negative"),
    ],
)
def test_a_senseless_request_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Request(**{"model": "m", "items": 1, "base": 0, "per_item": 0, **changes})
