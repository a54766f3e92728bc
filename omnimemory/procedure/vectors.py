"""Vectors of what was done: one for a sequence of commands, one for each step from a command to the next.

A sequence is the mean of its commands' vectors with weights exp(-decay * age): the newest command is the heaviest. A
transition is both vectors side by side, each cut to its first ``min(dim, 256)`` components and of unit length again,
the whole of unit length: neither half can outweigh the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HALF",
    "CommandSequence",
    "command_sequence",
    "halves",
    "sequence_vector",
    "sequence_weights",
    "transition_vectors",
]

HALF = 256
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class CommandSequence:
    """Vectors of a sequence of n commands: of all of it (dim,), of each (n, dim), of each step (n - 1, 2 * half)."""

    sequence_embedding: NDArray[np.float32]
    command_embeddings: NDArray[np.float32]
    transition_embeddings: NDArray[np.float32]
    metadata: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready data."""
        return {
            "sequence_embedding": self.sequence_embedding.tolist(),
            "command_embeddings": self.command_embeddings.tolist(),
            "transition_embeddings": self.transition_embeddings.tolist(),
            "metadata": dict(self.metadata),
        }


def command_sequence(vectors: NDArray[np.float32], decay: float) -> CommandSequence:
    """Return the vectors of a sequence whose commands have the unit ``vectors`` (n, dim), oldest first."""
    count, dim = vectors.shape
    half = min(dim, HALF)
    metadata = {
        "num_commands": count,
        "embedding_dim": dim,
        "uses_mrl": half < dim,
        "transition_dim": 2 * half,
        "recency_decay_factor": decay,
    }
    return CommandSequence(sequence_vector(vectors, decay), vectors, transition_vectors(vectors), metadata)


def sequence_weights(count: int, decay: float) -> NDArray[np.float64]:
    """Return the weights (n,) of the commands of a sequence, oldest first; they sum to 1."""
    weights = np.exp(-decay * np.arange(count - 1, -1, -1, dtype=np.float64))
    made: NDArray[np.float64] = weights / weights.sum()
    return made


def sequence_vector(vectors: NDArray[np.float32], decay: float) -> NDArray[np.float32]:
    """Return the vector (dim,) of a sequence of commands with the unit ``vectors`` (n, dim), oldest first."""
    # No matrix product: where memory is limited, OpenBLAS ends the process when it finds none for its buffers.
    return _unit((sequence_weights(len(vectors), decay)[:, np.newaxis] * vectors).sum(axis=0))


def transition_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors (n - 1, 2 * half) of the steps between commands with the unit ``vectors`` (n, dim)."""
    sides = _unit(vectors[:, :HALF].astype(np.float64))
    return _unit(np.concatenate([sides[:-1], sides[1:]], axis=1))


def halves(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a transition keeps of the vectors (..., dim) of its commands: (..., half), of unit length."""
    return _unit(vectors[..., :HALF].astype(np.float64))


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    made: NDArray[np.float32] = (vectors / np.maximum(norms, _TINY)).astype(np.float32)
    return made
