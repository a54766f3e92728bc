"""Vectors of sequences and of steps: the newest weighs most, no half outweighs the other, order matters."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.errors import EmbedderError
from omnimemory.procedure.vectors import command_sequence, sequence_vector, sequence_weights, transition_vectors


def unit(count: int, dim: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(2, 200), st.floats(0.01, 5))
def test_the_newest_command_weighs_most_and_weights_sum_to_one(count, decay):
    weights = sequence_weights(count, decay)
    assert np.isclose(weights.sum(), 1)
    assert (np.diff(weights) >= 0).all()
    assert weights[-1] > weights[0]


@given(st.integers(1, 12), st.sampled_from([8, 256, 384]), st.floats(0, 3))
def test_sequences_and_steps_are_unit_vectors_of_the_right_shape(count, dim, decay):
    made = command_sequence(unit(count, dim), decay)
    half = min(dim, 256)
    assert made.sequence_embedding.shape == (dim,)
    assert made.transition_embeddings.shape == (count - 1, 2 * half)
    norms = [np.linalg.norm(made.sequence_embedding), *np.linalg.norm(made.transition_embeddings, axis=1)]
    assert np.allclose(norms, 1, atol=1e-5)
    halves = made.transition_embeddings.reshape(-1, 2, half)
    assert np.allclose(np.linalg.norm(halves, axis=2), np.sqrt(0.5), atol=1e-5)


def test_a_step_knows_its_direction():
    a, b = unit(2, 384)
    there, back = transition_vectors(np.stack([a, b]))[0], transition_vectors(np.stack([b, a]))[0]
    assert there @ back < 0.9
    assert np.allclose(there[:256], back[256:])


def test_a_sequence_is_nearest_to_its_newest_command():
    vectors = unit(5, 256)
    assert int(np.argmax(vectors @ sequence_vector(vectors, 0.5))) == 4


def test_the_result_has_the_names_and_shapes_that_were_promised(memory):
    made = memory.embeddings.embed_command_sequence(["cd api", "make test", "git push"])
    dim = memory.embeddings.dim
    assert made.metadata == {
        "num_commands": 3,
        "embedding_dim": dim,
        "uses_mrl": dim > 256,
        "transition_dim": 2 * min(dim, 256),
        "recency_decay_factor": 0.1,
    }
    assert json.loads(json.dumps(made.to_dict()))["metadata"]["num_commands"] == 3
    assert np.allclose(made.command_embeddings, memory.embeddings.embed_batch(["cd api", "make test", "git push"]))
    alone = memory.embeddings.embed_command_sequence(["ls"])
    assert alone.transition_embeddings.shape == (0, made.metadata["transition_dim"])


@pytest.mark.parametrize(
    ("commands", "said"), [([], "at least one command"), ("ls", r"pass \[text\]"), (iter(["ls"]), "pass list")]
)
def test_no_commands_are_refused(memory, commands, said):
    for ask in (memory.embeddings.embed_command_sequence, called(memory.embeddings.aembed_command_sequence)):
        with pytest.raises(EmbedderError, match=said):
            ask(commands)


def test_asynchronous_callers_get_the_same_sequence(memory):
    commands = ["cd api", "make test", "git push"]
    made = called(memory.embeddings.aembed_command_sequence)(commands)
    wanted = memory.embeddings.embed_command_sequence(commands)
    assert made.to_dict() == wanted.to_dict()


def called(method):
    return lambda *arguments: asyncio.run(method(*arguments))
