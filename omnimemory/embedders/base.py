"""What every embedder promises, and the vector arithmetic that all of them share.

An embedder turns texts into rows of unit length. Everything that changes those rows is part of its
``fingerprint``; caches and collections are keyed by it, so vectors of two spaces never meet. Norms
are taken in float64: components from 1e-30 to 1e30 survive, and a zero row stays zero instead of
turning into NaN.

A vector of a Matryoshka model can be cut to one of the declared sizes, if its length is then set to
1 again (Kusupati et al., "Matryoshka Representation Learning", 2022).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnimemory.errors import EmbedderError, InvalidVectorError

__all__ = [
    "Embedder",
    "ModelFootprint",
    "Role",
    "UnembeddableTextError",
    "Vectors",
    "check_strings",
    "check_texts",
    "check_vectors",
    "cosine_similarity",
    "normalise",
    "space_fingerprint",
    "trained_dims",
    "truncate",
]

Role = Literal["document", "query"]
"""What a text is for: some models put another prompt before a query than before a document."""

Vectors = NDArray[np.float32]
"""Rows of float32, C-contiguous; unit length where an embedder made them."""


class UnembeddableTextError(InvalidVectorError):
    """Some texts have no vector (blank, or the model knows nothing in them).

    ``indexes`` are their positions in the call, so that a caller can embed the others. ``reasons`` say why, where more
    is known; ``vectors`` (n, dim) are those of the others if they were made, with zero rows for these.
    """

    def __init__(
        self,
        message: str,
        indexes: Sequence[int],
        *,
        reasons: Mapping[int, str] | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        super().__init__(message)
        self.indexes = tuple(indexes)
        self.reasons = dict(reasons or {})
        self.vectors = vectors


class ModelFootprint(NamedTuple):
    """The memory a model needs, in bytes.

    ``base`` is held while it is loaded; each batch adds ``per_token`` for each token and ``per_item``
    for each text. An embedder that works through its texts by parts has at most ``at_once`` tokens in work.
    """

    base: int
    per_token: int
    per_item: int
    at_once: int = 1 << 62


@runtime_checkable
class Embedder(Protocol):
    """Texts to vectors of one space. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Provider and model, such as ``static:wordllama-256``."""

    @property
    def dim(self) -> int:
        """Components of a vector."""

    @property
    def max_tokens(self) -> int | None:
        """Tokens that the model reads of one text; ``None`` means all of them."""

    @property
    def fingerprint(self) -> str:
        """The vector space as 32 hex digits; knowing it does not load the model."""

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return (n, dim) float32 rows of unit length, in the order of the texts.

        The first call loads the model. Raises UnembeddableTextError naming the texts that have no
        vector, EmbedderError for everything else that goes wrong.
        """

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text; 0 for an empty one."""

    def footprint(self) -> ModelFootprint:
        """Return the memory it needs; does not load the model."""

    def close(self) -> None:
        """Free the model. The next ``embed`` loads it again."""


def check_strings(texts: Sequence[str]) -> None:
    """Raise EmbedderError unless this is a sequence of str (and not one str, a sequence of its letters)."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise EmbedderError(f"got one {type(texts).__name__} where a list of texts is expected: pass [text]")
    # What can be gone through only once would be used up here, and what has no order gives vectors nobody can place.
    if isinstance(texts, AbstractSet | Mapping) or not hasattr(texts, "__getitem__"):
        raise EmbedderError(f"got a {type(texts).__name__} where a list of texts is expected: pass list(texts)")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise EmbedderError(f"text {position} is a {type(text).__name__}, not a str")


def check_texts(texts: Sequence[str], role: str, tokenless: Callable[[], Collection[int]] = list) -> None:
    """Raise EmbedderError unless this is a sequence of texts that each hold something.

    Blank texts are named by position in an UnembeddableTextError. ``tokenless`` is asked then which others have no
    vector either, so that one error names them all.
    """
    if role not in get_args(Role):
        raise EmbedderError(f"unknown role {role!r}: use one of {', '.join(get_args(Role))}")
    check_strings(texts)
    blank = [position for position, text in enumerate(texts) if not text or text.isspace()]
    if blank:
        others = dict.fromkeys(sorted({*tokenless()} - {*blank}), "the model knows no word of it")
        reasons = {**dict.fromkeys(blank, "it is blank"), **others}
        message = f"{_places('text', blank)} blank: leave blank texts out"
        raise UnembeddableTextError(message, sorted(reasons), reasons=reasons)


def normalise(vectors: ArrayLike) -> Vectors:
    """Return the (n, dim) rows scaled to unit length as float32; zero rows stay zero."""
    rows = np.asarray(vectors, dtype=np.float64)
    norms = np.sqrt(np.add.reduce(rows * rows, axis=-1, keepdims=True))
    norms[norms == 0] = 1.0
    return np.ascontiguousarray(rows / norms, dtype=np.float32)


def truncate(vectors: ArrayLike, dim: int, *, dims: Collection[int] = (), force: bool = False) -> Vectors:
    """Keep the first ``dim`` components of (n, d) vectors and scale the rows to unit length again.

    ``dims`` are the sizes the model was trained for; another size is refused unless forced, because
    the first components of an ordinary model mean little by themselves. Zero rows stay zero.
    Raises InvalidVectorError for a size that is refused or larger than the vectors, and for what is no numbers.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise InvalidVectorError(f"vectors have shape {rows.shape} and type {rows.dtype}; expected (n, dim) numbers")
    if not np.isfinite(rows).all():
        raise InvalidVectorError("vectors hold NaN or infinity")
    full = rows.shape[1]
    if not isinstance(dim, int | np.integer) or not 1 <= dim <= full:
        raise InvalidVectorError(f"cannot cut vectors of {full} dimensions to {dim}: choose 1 to {full}")
    if dim != full and dim not in dims and not force:
        known = ", ".join(map(str, sorted(dims))) or "none"
        raise InvalidVectorError(f"the model was not trained for {dim} dimensions (declared: {known}); force=True cuts")
    return normalise(rows[:, :dim])


def trained_dims(embedder: Embedder) -> tuple[int, ...]:
    """Return the smaller sizes that an embedder says its vectors may be cut to (``dims``); none if it says nothing."""
    return tuple(getattr(embedder, "dims", ()))


def check_vectors(vectors: ArrayLike, n: int, dim: int) -> Vectors:
    """Return the vectors as contiguous (n, dim) float32, or raise InvalidVectorError naming the bad rows."""
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is refused below
            rows = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidVectorError(f"expected numbers of shape ({n}, {dim}): {error}") from error
    if rows.shape != (n, dim):
        raise InvalidVectorError(f"vectors have shape {rows.shape}; expected ({n}, {dim})")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InvalidVectorError(f"{_places('vector', np.flatnonzero(~finite).tolist())} not finite (NaN or infinity)")
    nonzero = rows.any(axis=1)
    if not nonzero.all():
        raise InvalidVectorError(f"{_places('vector', np.flatnonzero(~nonzero).tolist())} zero")
    return rows


def cosine_similarity(a: ArrayLike, b: ArrayLike) -> float | NDArray[np.float64]:
    """Return the cosine of the angle between vectors, in [-1, 1]; 0.0 where one of them is zero.

    Two vectors (d,) and (d,) give a float; (n, d) and (d,) give (n,); (d,) and (m, d) give (m,);
    (n, d) and (m, d) give (n, m). Raises InvalidVectorError for NaN, infinity or sizes that differ.
    """
    left, right = _directions(a, "a"), _directions(b, "b")
    if left.shape[-1] != right.shape[-1]:
        raise InvalidVectorError(f"vectors of {left.shape[-1]} and {right.shape[-1]} dimensions cannot be compared")
    cosines = np.clip(left @ right.T, -1.0, 1.0)
    return float(cosines) if cosines.ndim == 0 else cosines


def space_fingerprint(**parts: Any) -> str:
    """Return 32 hex digits that name a vector space: BLAKE2b-128 over the parts as canonical JSON.

    The parts are all that changes a vector: provider, model, weights digest, precision, dim, pooling,
    normalisation, prompts, max tokens, server options.
    """
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(canonical.encode("ascii"), digest_size=16).hexdigest()


def _directions(vectors: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return float64 vectors of unit length; zero ones stay zero."""
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim not in (1, 2):
        raise InvalidVectorError(f"{name} has shape {rows.shape}; expected (dim,) or (n, dim)")
    if not np.isfinite(rows).all():
        raise InvalidVectorError(f"{name} holds NaN or infinity")
    # Dividing by the largest component first keeps its square inside the range of a float64.
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0.0)
    rows = rows / np.where(largest == 0, 1.0, largest)
    norms = np.sqrt(np.add.reduce(rows * rows, axis=-1, keepdims=True))
    return rows / np.where(norms == 0, 1.0, norms)


def _places(noun: str, positions: Sequence[int]) -> str:
    """Return 'vector 3 is' or 'vectors 3, 8 and 40 more are'."""
    shown = ", ".join(map(str, positions[:5]))
    if len(positions) == 1:
        return f"{noun} {shown} is"
    more = f" and {len(positions) - 5} more" if len(positions) > 5 else ""
    return f"{noun}s {shown}{more} are"
