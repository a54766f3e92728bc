"""The weights of a model as MLX arrays: float32, half precision and bfloat16, computed with in one precision.

Matrices are brought to the precision that is computed in; tables of words stay as they are in the file and only the
rows that are asked for are widened. Every tensor is checked against the shape the configuration says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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


class Weights:
    """The tensors of one safetensors file. Raises :class:`EmbedderError` for a file that is missing or cut off."""

    def __init__(self, mx: Any, path: Path, precision: str) -> None:
        Tensors(path)  # says what is wrong with a file; MLX says little
        self.mx = mx
        self.dtype = getattr(mx, precision)
        self._path = path
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
        weight = self.array(f"{name}.weight", n, k)
        return _Linear(self.mx, weight.T, self.array(f"{name}.bias", n) if biased else None)

    def table(self, name: str, columns: int) -> tuple[Apply, int]:
        """Return what looks up rows of so many columns, and how many rows there are."""
        found = self._found.get(self._prefix + name)
        rows = 0 if found is None else found.shape[0]
        table = self._checked(name, rows, columns)
        self._used.append(table)
        return _Table(table, self.dtype), rows

    def _checked(self, name: str, *sizes: int) -> Any:
        name = self._prefix + name
        found = self._found.get(name)
        if found is None:
            raise EmbedderError(f"{self._path} has no tensor {name}: it is not of this kind of model.")
        if found.shape != sizes:
            raise EmbedderError(f"{self._path}: the tensor {name} has the shape {found.shape}, not {sizes}.")
        if not self.mx.issubdtype(found.dtype, self.mx.floating):
            raise EmbedderError(f"{self._path}: the tensor {name} holds {found.dtype}, not floats.")
        return found
