from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from omnimemory.embedders.base import (
    check_vectors,
    cosine_similarity,
    normalise,
    space_fingerprint,
    truncate,
)
from omnimemory.errors import InvalidVectorError

FLOATS = st.floats(min_value=-(2.0**90), max_value=2.0**90, width=32)
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FLOATS)
NAN, INF = float("nan"), float("inf")


@given(MATRICES)
def test_normalised_rows_have_length_one_or_stay_zero(rows):
    unit = normalise(rows)
    assert unit.dtype == np.float32
    lengths = np.linalg.norm(unit.astype(np.float64), axis=1)
    nonzero = rows.any(axis=1)
    assert np.allclose(lengths[nonzero], 1.0, atol=1e-6)
    assert not unit[~nonzero].any()


@given(MATRICES, st.integers(1, 9))
def test_a_cut_vector_points_along_its_first_components(rows, dim):
    assume(dim <= rows.shape[1])
    cut = truncate(rows, dim, force=True)
    assert cut.shape == (len(rows), dim)
    assert cut.flags.c_contiguous
    assert np.array_equal(cut, normalise(rows[:, :dim]))


@pytest.mark.parametrize(
    ("dim", "dims", "force", "allowed"),
    [
        (8, (), False, True),
        (4, (), False, False),
        (4, (2,), False, False),
        (4, (2, 4), False, True),
        (3, (2, 4), True, True),
        (9, (9,), True, False),
        (0, (0,), True, False),
        (-1, (), True, False),
    ],
    ids=["full", "undeclared", "other-declared", "declared", "forced", "too-large", "zero", "negative"],
)
def test_only_declared_sizes_are_cut_unless_forced(dim, dims, force, allowed):
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    if allowed:
        assert truncate(rows, dim, dims=dims, force=force).shape == (2, dim)
    else:
        with pytest.raises(InvalidVectorError, match="dimensions"):
            truncate(rows, dim, dims=dims, force=force)


def test_a_single_vector_is_not_taken_for_rows():
    with pytest.raises(InvalidVectorError, match=r"expected \(n, dim\)"):
        truncate([1.0, 2.0], 1, force=True)


GOOD = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]


def test_good_vectors_come_back_as_contiguous_float32():
    checked = check_vectors(np.asfortranarray(GOOD), 3, 2)
    assert checked.dtype == np.float32
    assert checked.flags.c_contiguous
    assert np.array_equal(checked, np.float32(GOOD))
    assert check_vectors(np.empty((0, 2)), 0, 2).shape == (0, 2)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 0.0], [NAN, 1.0], [0.6, 0.8]], "vector 1 is not finite"),
        ([[INF, 0.0], [0.0, 1.0], [0.6, -INF]], "vectors 0, 2 are not finite"),
        ([[1.0, 0.0], [0.0, 1.0], [1e300, 0.0]], "vector 2 is not finite"),
        ([[1.0, 0.0], [0.0, 0.0], [0.6, 0.8]], "vector 1 is zero"),
        (GOOD[:2], r"shape \(2, 2\); expected \(3, 2\)"),
        ([[1.0], [1.0], [1.0]], r"shape \(3, 1\)"),
        ([1.0, 2.0, 3.0], r"shape \(3,\)"),
        ([[1.0, 0.0], [0.0], [0.6, 0.8]], "expected numbers"),
        ([["a", "b"], ["c", "d"], ["e", "f"]], "expected numbers"),
        (None, r"expected \(3, 2\)"),
    ],
    ids=["nan", "inf", "overflow", "zero", "rows", "dim", "1-d", "ragged", "words", "none"],
)
def test_bad_vectors_are_refused_and_named(vectors, message):
    with pytest.raises(InvalidVectorError, match=message):
        check_vectors(vectors, 3, 2)


def test_many_bad_vectors_are_counted_not_listed():
    with pytest.raises(InvalidVectorError, match="vectors 0, 1, 2, 3, 4 and 95 more are zero"):
        check_vectors(np.zeros((100, 2)), 100, 2)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 0], [1, 0], 1.0),
        ([1, 0], [-2, 0], -1.0),
        ([1, 0], [0, 3], 0.0),
        ([1, 0], [1, 1], math.sqrt(0.5)),
        ([0, 0], [1, 1], 0.0),
        ([0, 0], [0, 0], 0.0),
        ([1e200, 1e200], [1e-200, 1e-200], 1.0),
        ([5e-324, 0], [1, 0], 1.0),
    ],
    ids=["same", "opposite", "orthogonal", "halfway", "zero", "both-zero", "huge-and-tiny", "subnormal"],
)
def test_the_cosine_of_two_vectors_is_a_float(a, b, expected):
    cosine = cosine_similarity(a, b)
    assert type(cosine) is float
    assert cosine == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("left", "right", "shape"),
    [((3, 4), (4,), (3,)), ((4,), (5, 4), (5,)), ((3, 4), (5, 4), (3, 5)), ((0, 4), (5, 4), (0, 5))],
    ids=["n-1", "1-m", "n-m", "none"],
)
def test_cosines_of_many_vectors_have_the_documented_shape(left, right, shape):
    random = np.random.default_rng(0)
    cosines = cosine_similarity(random.standard_normal(left), random.standard_normal(right))
    assert cosines.shape == shape


@given(MATRICES, MATRICES)
def test_each_cosine_of_a_table_is_that_of_its_pair_and_never_nan(a, b):
    dim = min(a.shape[1], b.shape[1])
    a, b = a[:, :dim], b[:, :dim]
    table = cosine_similarity(a, b)
    assert np.isfinite(table).all()
    assert np.abs(table).max() <= 1.0
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            assert table[i, j] == pytest.approx(cosine_similarity(left, right), abs=1e-12)
    np.testing.assert_allclose(cosine_similarity(b, a), table.T, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 2], [1, 2, 3], "2 and 3 dimensions"),
        ([1, NAN], [1, 2], "a holds NaN"),
        ([1, 2], [1, INF], "b holds NaN or infinity"),
        (1.0, [1, 2], "a has shape"),
        ([1, 2], np.ones((1, 1, 2)), "b has shape"),
    ],
    ids=["sizes", "nan", "inf", "scalar", "3-d"],
)
def test_vectors_that_cannot_be_compared_are_refused(a, b, message):
    with pytest.raises(InvalidVectorError, match=message):
        cosine_similarity(a, b)


def test_a_fingerprint_depends_on_every_part_and_not_on_their_order():
    parts = {"model": "m", "dim": 256, "prompts": {"query": "q: ", "document": ""}, "max_tokens": None}
    first = space_fingerprint(**parts)
    assert first == space_fingerprint(**dict(reversed(parts.items())))
    changes = [("model", "n"), ("dim", 255), ("dim", "256"), ("prompts", {"query": "", "document": "q: "})]
    changed = [space_fingerprint(**{**parts, name: value}) for name, value in changes]
    assert len({first, *changed, space_fingerprint(**parts, extra=None)}) == len(changes) + 2
    assert len(bytes.fromhex(first)) == 16


def test_a_fingerprint_is_the_same_for_ever():
    assert space_fingerprint(model="static", dim=256) == "caf9958276990921ef3b5b67051e8fb1"
