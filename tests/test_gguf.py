"""The weights in a GGUF file, from its header: files written here byte by byte, and damaged ones."""

from __future__ import annotations

import contextlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.errors import EmbedderError
from omnimemory.scheduler.footprint import weights_bytes
from omnimemory.scheduler.gguf import gguf_bytes


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(name, kind, raw):
    return text(name) + struct.pack("<I", kind) + raw


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def tensor(name, shape, kind, offset):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ENTRIES = [
    entry("general.architecture", 8, text("bert")),
    entry("general.alignment", 4, struct.pack("<I", 64)),
    entry("bert.layers", 4, struct.pack("<I", 6)),
    entry("bert.epsilon", 6, struct.pack("<f", 1e-12)),
    entry("tokenizer.ggml.tokens", 9, array(8, [text(word) for word in ("the", "quick", "fox")])),
    entry("tokenizer.ggml.scores", 9, array(6, [struct.pack("<f", 1.0)] * 3)),
    entry("nested", 9, array(9, [array(0, [b"a"])])),
    entry("flag", 7, b"\x01"),
]
# 4 x 8 values of float32 (128 bytes), then 64 of Q8_0 in two blocks of 34 bytes.
TENSORS = [tensor("a", (4, 8), 0, 0), tensor("b", (64,), 8, 128)]
HELD = 128 + 68


def gguf(path, *, magic=b"GGUF", version=3, tensors=TENSORS, entries=ENTRIES, held=HELD, alignment=64, count=None):
    head = magic + struct.pack("<IQQ", version, len(tensors) if count is None else count, len(entries))
    head += b"".join(entries) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % alignment) + bytes(held))
    return path


def test_weights_are_the_bytes_behind_the_header(tmp_path):
    path = gguf(tmp_path / "model.gguf")
    assert gguf_bytes(path) == weights_bytes(path) == HELD
    assert gguf_bytes(gguf(tmp_path / "old", version=2, entries=ENTRIES[:1], alignment=32)) == HELD
    assert gguf_bytes(gguf(tmp_path / "bare", tensors=[], held=0)) == 0


def test_only_the_header_is_read(tmp_path):
    size = 1 << 40
    path = gguf(tmp_path / "huge", tensors=[tensor("t", (size,), 24, 0)], held=0)
    start = path.stat().st_size
    os.truncate(path, start + size)  # sparse: reading it would take hours
    assert gguf_bytes(path) == size


def test_a_type_of_tensor_that_is_not_known_does_no_harm(tmp_path):
    assert gguf_bytes(gguf(tmp_path / "new", tensors=[tensor("t", (64,), 99, 0)], held=77)) == 77


DAMAGED = {
    "another-format": {"magic": b"GGML"},
    "version-of-the-future": {"version": 9},
    "big-endian": {"version": 3 << 24},
    "tensors-cut-short": {"held": HELD - 1},
    "more-tensors-than-there-are": {"count": 9},
    "a-billion-tensors": {"count": 1 << 30},
    "a-value-of-unknown-type": {"entries": [entry("x", 77, b"")]},
    "an-endless-text": {"entries": [entry("x", 8, struct.pack("<Q", 1 << 60))]},
    "an-endless-array": {"entries": [entry("x", 9, struct.pack("<IQ", 8, 1 << 62))]},
    "an-endless-array-of-numbers": {"entries": [entry("x", 9, struct.pack("<IQ", 4, 1 << 62))]},
    "arrays-in-arrays": {"entries": [entry("x", 9, struct.pack("<IQ", 9, 1) * 50)]},
    "too-many-dimensions": {"tensors": [tensor("t", (1,) * 40, 0, 0)]},
    "alignment-is-no-power-of-two": {"entries": [entry("general.alignment", 4, struct.pack("<I", 48))]},
}


@pytest.mark.parametrize("how", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused_with_the_file_and_the_fix(tmp_path, how):
    path = gguf(tmp_path / "w.gguf", **how)
    with pytest.raises(EmbedderError, match=r"w\.gguf is no complete GGUF file .*Install the model"):
        weights_bytes(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EmbedderError, match="no weights file"):
        gguf_bytes(tmp_path / "absent.gguf")


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_end_in_a_number_or_the_error(tmp_path_factory, noise, place):
    path = gguf(tmp_path_factory.mktemp("gguf") / "x")
    raw = path.read_bytes()
    path.write_bytes(raw[:place] + noise + raw[place + len(noise) :])
    with contextlib.suppress(EmbedderError):
        assert 0 <= gguf_bytes(path) <= path.stat().st_size
