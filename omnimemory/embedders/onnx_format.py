"""ONNX models written as the bytes they are, without the ``onnx`` package.

A model is one protocol buffer, and what an encoder needs of the format is a dozen messages: numbers and strings in
fields. Writing those takes a page; the ``onnx`` package would take 60 MB on disk, and the runtime does not need it.
Field numbers are those of onnx.proto (github.com/onnx/onnx, IR version 8); the encoding is that of
protobuf.dev/programming-guides/encoding.

Initializers are declared as external data: their bytes are handed to the runtime beside the model, straight from the
mapped weights, so a model is a few kilobytes and nothing is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Graph"]

_IR_VERSION = 8
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
Attribute = int | float | Sequence[int]


class Graph:
    """Nodes and initializers, added one after the other; :meth:`model` makes the bytes.

    ``arrays`` are the initializers that have to be handed to the runtime, by name.
    """

    def __init__(self, opset: int = 17) -> None:
        self._opset = opset
        self._nodes: list[bytes] = []
        self._initializers: dict[str, bytes] = {}
        self.arrays: dict[str, NDArray[np.generic]] = {}

    def array(self, name: str, array: NDArray[np.generic]) -> str:
        """Declare an initializer whose bytes are handed over beside the model; return its name."""
        if name not in self._initializers:
            place = b"".join(
                _message(13, _text(1, key) + _text(2, value))
                for key, value in (("location", "weights"), ("offset", "0"), ("length", str(array.nbytes)))
            )
            self._initializers[name] = _message(5, _tensor_head(name, array) + place + _number(14, 1))
            self.arrays[name] = array
        return name

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Declare a small initializer inside the model; return its name."""
        self._initializers.setdefault(name, _message(5, _tensor_head(name, value) + _message(9, value.tobytes())))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Attribute) -> str:
        """Add a node with one output; return the output's name. An input that is left out is ``""``."""
        body = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(3, output) + _text(4, kind)
        body += b"".join(_message(5, _attribute(name, value)) for name, value in attributes.items())
        self._nodes.append(_message(1, body + (_text(7, domain) if domain else b"")))
        return output

    def model(
        self, inputs: Mapping[str, tuple[str, Sequence[int | str]]], outputs: Mapping[str, Sequence[int | str]]
    ) -> bytes:
        """Return the model. ``inputs`` maps names to (type, shape), ``outputs`` names to the shape of float32."""
        parts = [*self._nodes, _text(2, "encoder"), *self._initializers.values()]
        parts += [_message(11, _value(name, kind, shape)) for name, (kind, shape) in inputs.items()]
        parts += [_message(12, _value(name, "float32", shape)) for name, shape in outputs.items()]
        opsets = _message(8, _text(1, "") + _number(2, self._opset)) + _message(
            8, _text(1, "com.microsoft") + _number(2, 1)
        )
        return _number(1, _IR_VERSION) + _text(2, "omnimemory") + _message(7, b"".join(parts)) + opsets


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as their two's complement
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    return _text(1, name) + b"".join(_number(8, item) for item in value) + _number(20, 7)


def _tensor_head(name: str, array: NDArray[np.generic]) -> bytes:
    return b"".join(_number(1, size) for size in array.shape) + _number(2, _TYPES[array.dtype.name]) + _text(8, name)


def _value(name: str, kind: str, shape: Sequence[int | str]) -> bytes:
    sizes = b"".join(_message(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _message(2, _message(1, _number(1, _TYPES[kind]) + _message(2, sizes)))
