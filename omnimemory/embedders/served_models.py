"""What is remembered of a server's model, so that another one behind the same name is noticed.

A server says which model it is asked for by a name, and a name can be given to other weights: by ``ollama pull``, by a
new ``--model`` of whatever else listens on the port. So two texts are embedded when a model is first met (canaries, as
miners took them along), and its vectors of them are kept with the digest the server tells, if it does. A face is one
model that was met behind a name: same canaries, same face, whatever the digest says (it changes with a licence text,
too); other canaries, another face, whose vectors must not be mixed with those of the first.

What is kept allows a store to be opened, and searched by keywords, while the server is down. It holds nothing of the
user's texts, and can be deleted: the model is then met anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CANARIES", "Face", "KnownModel", "is_same"]

CANARIES = (
    "seven copper lanterns hang over the old harbour wall",
    "for n in range(17): print(n * n, end=';')",
)
"""Two texts that nobody else asks for and that are nothing alike."""

_SAME_MODEL = 0.999
_SAME_TEXT = 0.99
"""Least cosines. A model's vectors of one text differ by 1e-3 at most between processors, batches and precisions of
16 bits and more; other weights are far beyond that. Inside a batch only a mix-up has to be noticed."""

_LOG = logging.getLogger("omnimemory")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Face:
    """A model as it was met.

    ``identity`` names it in fingerprints, ``context`` is how many tokens it reads (``None``: nobody said), ``canaries``
    are its vectors (2, dim) of those.
    """

    identity: str
    digests: tuple[str, ...]
    context: int | None
    canaries: NDArray[np.float64]

    @property
    def dim(self) -> int:
        """Components of its vectors."""
        return int(self.canaries.shape[1])

    def looks_like(self, canaries: NDArray[np.float64]) -> bool:
        """Return whether these are its vectors of the canaries."""
        if canaries.shape != self.canaries.shape:
            return False
        return bool(((canaries * self.canaries).sum(axis=1) >= _SAME_MODEL).all())


def is_same(vector: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    """Return whether a unit vector (d,) is the expected one (D,), or that cut to d components."""
    cut = expected[: vector.size]
    return float(vector @ cut) >= _SAME_TEXT * float(np.sqrt(cut @ cut))


class KnownModel:
    """The faces met behind one name, kept as a file in ``folder`` (``None``: only in this object)."""

    def __init__(self, provider: str, model: str, folder: Path | None) -> None:
        self._name = f"{provider}:{model}"
        readable = re.sub(r"[^a-z0-9._-]+", "-", self._name.lower())[:60]
        digest = hashlib.blake2b(self._name.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        self._path = folder / f"{readable}-{digest}.json" if folder is not None else None
        self._faces: list[Face] = []

    def current(self) -> Face | None:
        """Return the face that was met last, or ``None`` if none ever was."""
        faces = self._load()
        return faces[-1] if faces else None

    def meet(self, digest: str | None, context: int | None, canaries: NDArray[np.float64]) -> Face:
        """Return the face that these canaries belong to, a new one if need be, and remember it as the current one.

        ``digest`` is what the server calls the model's weights, if it tells.
        """
        faces = self._load()
        found = next((face for face in faces if face.looks_like(canaries)), None)
        if found is None:
            # A digest names weights in any place; without one the first model of a name is the one everybody means.
            identity = digest or ""
            if identity in {face.identity for face in faces}:
                identity = f"{identity}+{len(faces)}"
            found = Face(identity, (), context, canaries)
        if digest is not None and digest not in found.digests:
            found = replace(found, digests=(*found.digests, digest))
        self._save([*(face for face in faces if face.identity != found.identity), found])
        return found

    def _load(self) -> list[Face]:
        if self._path is None or not self._path.exists():
            return self._faces
        try:
            data = json.loads(self._path.read_bytes())
            return [_face(entry) for entry in data["faces"] if (data["format"], data["model"]) == (_FORMAT, self._name)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _LOG.warning("What was known of %s cannot be read (%s): it is met anew.", self._name, error)
            return self._faces

    def _save(self, faces: list[Face]) -> None:
        self._faces = faces
        if self._path is None:
            return
        entries = [
            {
                "identity": face.identity,
                "digests": face.digests,
                "context": face.context,
                "canaries": face.canaries.tolist(),
            }
            for face in faces
        ]
        try:
            _write(self._path, json.dumps({"format": _FORMAT, "model": self._name, "faces": entries}).encode())
        except OSError as error:
            _LOG.warning("What is known of %s cannot be kept in %s: %s.", self._name, self._path.parent, error.strerror)


def _face(entry: dict[str, Any]) -> Face:
    canaries = np.array(entry["canaries"], dtype=np.float64)
    if canaries.ndim != 2 or len(canaries) != len(CANARIES) or not np.isfinite(canaries).all() or not canaries.size:
        raise ValueError("its vectors are no vectors")
    context = entry["context"]
    if not (context is None or (type(context) is int and context > 0)) or not isinstance(entry["identity"], str):
        raise ValueError("it is malformed")
    return Face(entry["identity"], tuple(map(str, entry["digests"])), context, canaries)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
