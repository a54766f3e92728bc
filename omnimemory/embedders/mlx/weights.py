"""The weights of a model as MLX arrays: floats of every precision and quantised ones, computed with in one precision.

Matrices are brought to the precision that is computed in; tables of words stay as they are in the file and only the
rows that are asked for are widened. Every tensor is checked against the shape the configuration says.

A quantised matrix (MLX's "affine" mode) has three tensors: ``weight`` with numbers of a few bits packed into uint32,
``scales`` and ``biases`` for each group of columns; a number q stands for ``scale * q + bias``. How many bits and
columns is in the configuration's ``quantization``, for all matrices or by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.embedders.tensors import Tensors
from omnimemory.errors import EmbedderError

__all__ = ["Apply", "Weights"]

Apply = Callable[[Any], Any]
"""What makes an array of an array."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """``x @ weight.T + bias``; the weight is kept transposed."""

    mx: Any
    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        if self.bias is None:
            return x @ self.weight
        return self.mx.addmm(self.bias, x, self.weight)


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a matrix by their numbers."""

    weight: Any
    dtype: Any

    def __call__(self, ids: Any) -> Any:
        return self.weight[ids].astype(self.dtype)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A quantised (rows, columns) matrix."""

    mx: Any
    weight: Any
    scales: Any
    biases: Any
    group: int
    bits: int

    def product(self, x: Any) -> Any:
        """Return ``x @ matrix.T``."""
        return self.mx.quantized_matmul(
            x, self.weight, self.scales, self.biases, transpose=True, group_size=self.group, bits=self.bits
        )

    def rows(self, ids: Any) -> Any:
        """Return some rows."""
        parts = (self.weight[ids], self.scales[ids], self.biases[ids])
        return self.mx.dequantize(*parts, group_size=self.group, bits=self.bits)


@dataclass(frozen=True, slots=True)
class _PackedLinear:
    """The same as a linear layer."""

    matrix: _Packed
    bias: Any

    def __call__(self, x: Any) -> Any:
        product = self.matrix.product(x)
        return product if self.bias is None else product + self.bias


class Weights:
    """The tensors of one safetensors file. Raises :class:`EmbedderError` for a file that is missing or cut off.

    ``quantisation`` is what the configuration says of quantised matrices.
    """

    def __init__(self, mx: Any, path: Path, precision: str, quantisation: Mapping[str, Any] | None = None) -> None:
        Tensors(path)  # says what is wrong with a file; MLX says little
        self.mx = mx
        self.dtype = getattr(mx, precision)
        self._path = path
        self._quantisation = quantisation or {}
        self._prefix = ""
        self._used: list[Any] = []
        try:
            self._found: dict[str, Any] = mx.load(str(path))
        except Exception as error:
            # It raises whatever it meets: RuntimeError, ValueError, OSError.
            raise EmbedderError(f"MLX cannot read {path} ({error}). Pull the model again.") from error

    @property
    def names(self) -> Collection[str]:
        """The tensors there are."""
        return self._found.keys()

    def read(self) -> None:
        """Read from the file what was asked for, which until now was only planned, and let go of all else."""
        self.mx.eval(self._used)
        self._found = {}

    def below(self, prefix: str) -> None:
        """Look for all tensors below this prefix from now on."""
        self._prefix = prefix

    def has(self, name: str) -> bool:
        """Return whether there is such a tensor."""
        return self._prefix + name in self._found

    def array(self, name: str, *sizes: int) -> Any:
        """Return a tensor in the precision that is computed in."""
        found = self._checked(name, *sizes).astype(self.dtype)
        self._used.append(found)
        return found

    def linear(self, name: str, n: int, k: int, *, biased: bool = True) -> Apply:
        """Return the linear layer of a (n, k) weight."""
        bias = self.array(f"{name}.bias", n) if biased else None
        if self.has(f"{name}.scales"):
            return _PackedLinear(self._packed(name, n, k), bias)
        return _Linear(self.mx, self.array(f"{name}.weight", n, k).T, bias)

    def table(self, name: str, columns: int) -> tuple[Apply, int]:
        """Return what looks up rows of so many columns, and how many rows there are."""
        found = self._found.get(f"{self._prefix}{name}.weight")
        rows = 0 if found is None else found.shape[0]
        if self.has(f"{name}.scales"):
            return self._packed(name, rows, columns).rows, rows
        table = self._checked(f"{name}.weight", rows, columns)
        self._used.append(table)
        return _Table(table, self.dtype), rows

    def _packed(self, name: str, rows: int, columns: int) -> _Packed:
        group, bits = self._grouping(name)
        if columns % group or columns * bits % 32:
            raise EmbedderError(
                f"{self._path}: {columns} columns of {self._prefix}{name} do not make groups of {group} with {bits} "
                "bits (quantization in config.json). Pull the model again."
            )
        groups = (rows, columns // group)
        weight = self._checked(f"{name}.weight", rows, columns * bits // 32, kind="uint32")
        self._used.append(weight)
        scales, biases = (self.array(f"{name}.{part}", *groups) for part in ("scales", "biases"))
        return _Packed(self.mx, weight, scales, biases, group, bits)

    def _grouping(self, name: str) -> tuple[int, int]:
        """Return the columns of a group, and the bits of a number, of one quantised matrix."""
        given = self._quantisation
        own = given.get(self._prefix + name)
        said = {**given, **own} if isinstance(own, Mapping) else given
        group, bits, mode = said.get("group_size"), said.get("bits"), said.get("mode", "affine")
        if group not in (32, 64, 128) or bits not in (2, 3, 4, 5, 6, 8) or mode != "affine":
            raise EmbedderError(
                f"{self._path}: {self._prefix}{name} is quantised by groups of {group!r} with {bits!r} bits, mode "
                f"{mode!r} (quantization in config.json). Known are groups of 32, 64 or 128, 2 to 8 bits, mode "
                "'affine'."
            )
        return group, bits

    def _checked(self, name: str, *sizes: int, kind: str = "floating") -> Any:
        name = self._prefix + name
        found = self._found.get(name)
        if found is None:
            raise EmbedderError(f"{self._path} has no tensor {name}: it is not of this kind of model.")
        if found.shape != sizes:
            raise EmbedderError(f"{self._path}: the tensor {name} has the shape {found.shape}, not {sizes}.")
        if not self.mx.issubdtype(found.dtype, getattr(self.mx, kind)):
            raise EmbedderError(f"{self._path}: the tensor {name} holds {found.dtype}, not {kind} numbers.")
        return found
