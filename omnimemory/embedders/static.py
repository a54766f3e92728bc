"""The embedded default: one stored vector per token, averaged. No model runtime, no download.

The weights and the tokenizer are those inside the wheel of ``wordllama`` (MIT), read without importing
that package: its import costs half a second, and its loader looks for the tokenizer in a folder that
the wheel does not have and then tries to download it. For texts of up to 8,192 characters the vectors
are those of ``wordllama.embed(norm=True)``: no special tokens, the mean of all token vectors, scaled
to unit length. The mean is taken by adding row after row, text by text, so a text has the same vector
bit for bit in every batch, thread and process, whatever linear algebra library numpy uses.

Longer texts are tokenised in pieces of at most 8,192 characters, see ``pieces.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.base import (
    ModelFootprint,
    Role,
    UnembeddableTextError,
    Vectors,
    check_strings,
    check_texts,
    normalise,
    space_fingerprint,
)
from omnimemory.embedders.pieces import PIECE, ROUND, load_tokenizer, quiet_forks, tokenise
from omnimemory.embedders.short_texts import LONGEST, ShortTextTokenizer
from omnimemory.errors import EmbedderError
from omnimemory.forks import ForkLock

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["STATIC_DIMS", "StaticEmbedder"]

STATIC_DIMS = (256, 128, 64)
"""The sizes the model was trained for."""

_WEIGHTS = Path("weights/l2_supercat_256.safetensors")
_WEIGHTS_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
_TOKENIZER = Path("tokenizers/l2_supercat_tokenizer_config.json")
_TOKENIZER_SHA256 = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
_INSTALL = "Install it with: pip install --force-reinstall 'wordllama>=0.4.0.post1,<0.5'"

_VOCABULARY = 32_000
_FEW_TOKENS = 4_096  # so many are widened to float32 one by one, before the whole table is


class _Model:
    """The (32000, dim) token vectors, float16 as in the file until enough is embedded, and the tokenizer's file."""

    def __init__(self, table: NDArray[np.float16], tokenizer: bytes) -> None:
        self._table: NDArray[Any] = table
        self._asked = 0
        self._file = tokenizer
        self._short: ShortTextTokenizer | None = None
        self._tokenizer: Tokenizer | None = None
        self._lock = ForkLock()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer runtime, loaded when it is first asked for."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = load_tokenizer(self._file)
                self._short = None
            return self._tokenizer

    def tokens(self, texts: Sequence[str]) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (position of the text, token ids of one of its pieces), in order."""
        if len(texts) == 1 and len(texts[0]) <= LONGEST and self._tokenizer is None:
            ids = self._short_tokens(texts[0])
            if ids is not None:
                yield 0, ids
                return
        for position, encoding in tokenise(self.tokenizer, texts):
            yield position, encoding.ids

    def _short_tokens(self, text: str) -> list[int] | None:
        with self._lock:
            if self._short is None:
                self._short = ShortTextTokenizer(self._file)
            return self._short.encode(text)

    def rows(self, ids: Sequence[int]) -> Vectors:
        """Return the float32 vectors of some tokens."""
        if self._asked < _FEW_TOKENS:
            # Widening the whole table takes a tenth of a second, which one question should not pay.
            self._asked += len(ids)
            if self._asked >= _FEW_TOKENS:
                self._table = np.ascontiguousarray(self._table, dtype=np.float32)
        found: Vectors = self._table[ids].astype(np.float32, copy=False)
        return found


class StaticEmbedder:
    """wordllama's 256-d static vectors (or their first 128 or 64 components) behind the Embedder protocol.

    Fast (thousands of texts a second on one core) and blind to word order. ``package`` is the folder
    of the installed wordllama package; found by itself when omitted. Safe to use from several threads.
    """

    instant = True
    """A new question is embedded in less time than it takes to look it up in a cache on disk and keep it there."""

    def __init__(self, dim: int = 256, *, package: Path | None = None) -> None:
        if dim not in STATIC_DIMS:
            raise EmbedderError(f"the static model has no {dim} dimensions: choose {', '.join(map(str, STATIC_DIMS))}")
        self._dim = dim
        self._package = package
        self._model: _Model | None = None
        self._lock = ForkLock()

    @property
    def name(self) -> str:
        """``static:wordllama-`` and the size."""
        return f"static:wordllama-{self._dim}"

    @property
    def dim(self) -> int:
        """Components of a vector: 256, 128 or 64."""
        return self._dim

    @property
    def dims(self) -> tuple[int, ...]:
        """The smaller sizes that its vectors may be cut to."""
        return tuple(size for size in STATIC_DIMS if size < self._dim)

    @property
    def max_tokens(self) -> int | None:
        """``None``: every token of a text counts."""
        return None

    @property
    def fingerprint(self) -> str:
        """The vector space; the digests in it are compared with the files when they are loaded."""
        return space_fingerprint(
            provider="static",
            model="wordllama/l2_supercat_256",
            weights=_WEIGHTS_SHA256,
            tokenizer=_TOKENIZER_SHA256,
            precision="float32",
            dim=self._dim,
            pooling="mean",
            normalisation="l2",
            prompts={"document": "", "query": ""},
            max_tokens=None,
            piece=PIECE,
        )

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return (n, dim) float32 rows of unit length; both roles give the same vector.

        Raises UnembeddableTextError naming blank texts, EmbedderError when the model's files are
        missing or altered.
        """
        check_texts(texts, role)
        model = self._load()
        sums = np.zeros((len(texts), self._dim), dtype=np.float32)
        for position, ids in model.tokens(texts):
            if ids:
                sums[position] += np.add.reduce(model.rows(ids), axis=0)
        empty = np.flatnonzero(~sums.any(axis=1)).tolist()
        if empty:
            raise UnembeddableTextError(f"the static model has no vector for the texts at {empty[:5]}", empty)
        return normalise(sums)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text; 0 for an empty one. Loads the model."""
        check_strings(texts)
        counts = [0] * len(texts)
        for position, encoding in tokenise(self._load().tokenizer, texts):
            counts[position] += len(encoding)
        return counts

    def footprint(self) -> ModelFootprint:
        """Return the bytes for the float32 table, the file it is made from, the tokenizer and a batch.

        ``base`` holds the token vectors of one piece and the tokenizer's records of one round, however
        long the texts are; a token costs the copy of its characters (measured: 2.3 bytes a character for a
        text of 23 MB), an item its vector and the float64 copies that scale it to unit length.
        """
        row = self._dim * 4
        file, tokenizer, records = 16_384_096, 24_000_000, ROUND * 128
        base = _VOCABULARY * row + file + tokenizer + records + PIECE * row
        return ModelFootprint(base, per_token=4, per_item=6 * row)

    def close(self) -> None:
        """Free the weights; the next call loads them again."""
        with self._lock:
            self._model = None

    def _load(self) -> _Model:
        model = self._model
        if model is not None:
            return model
        with self._lock:
            if self._model is None:
                quiet_forks()
                self._model = _read_model(self._package or _installed_package(), self._dim)
            return self._model


def _installed_package() -> Path:
    spec = importlib.util.find_spec("wordllama")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise EmbedderError(f"The static model comes with the package wordllama, which is not here. {_INSTALL}")
    return Path(folders[0])


def _read_model(package: Path, dim: int) -> _Model:
    return _Model(_read_table(package / _WEIGHTS, dim), _read_verified(package / _TOKENIZER, _TOKENIZER_SHA256))


def _read_verified(path: Path, sha256: str) -> bytes:
    return bytes(_map_verified(path, sha256))


def _map_verified(path: Path, sha256: str) -> mmap.mmap:
    """Map a file into memory: shared with every process that uses the model, and never copied."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        reason = error.strerror if isinstance(error, OSError) else error
        raise EmbedderError(f"The static model's file {path} cannot be read ({reason}). {_INSTALL}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EmbedderError(f"The static model's file {path} is not the one this version knows. {_INSTALL}")
    return data


def _read_table(path: Path, dim: int) -> NDArray[np.float16]:
    """Return the (32000, dim) float16 token vectors of a safetensors file.

    The format is eight bytes of header length, a JSON header, then the tensors.
    """
    data = _map_verified(path, _WEIGHTS_SHA256)
    header_size = int.from_bytes(data[:8], "little")
    tensor: dict[str, Any] = json.loads(data[8 : 8 + header_size])["embedding.weight"]
    start, stop = tensor["data_offsets"]
    half = np.frombuffer(data, dtype="<f2", count=(stop - start) // 2, offset=8 + header_size + start)
    table: NDArray[np.float16] = half.reshape(tensor["shape"])[:, :dim]
    return table
