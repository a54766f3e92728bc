"""Linear layers by themselves: rounded rows give nearly the same products, and what is added is added."""

from __future__ import annotations

import math

import numpy as np
import pytest

from omnimemory.embedders import bert_graph
from omnimemory.embedders.linear_layers import IntegerLinear, float_linear
from omnimemory.embedders.onnx_format import Graph
from omnimemory.embedders.onnx_session import make_session, signed_products_are_exact

DICE = np.random.default_rng(7)
WEIGHT = DICE.standard_normal((24, 96)).astype(np.float32)
BIAS = DICE.standard_normal(24).astype(np.float32)


def product(linear, rows, plus, **given):
    graph = Graph()
    linear(graph, "y", "x", WEIGHT, "more" if isinstance(plus, np.ndarray) and plus.ndim == 2 else plus, **given)
    inputs, values = {"x": ("float32", ("tokens", 96))}, {"x": rows}
    if isinstance(plus, np.ndarray) and plus.ndim == 2:
        inputs["more"], values["more"] = ("float32", ("tokens", 24)), plus
    return make_session(graph.model(inputs, {"y": ("tokens", 24)}), graph.arrays).run(None, values)[0]


def linears():
    yield float_linear, 1e-5
    yield IntegerLinear(signed=signed_products_are_exact()), 0.012
    yield IntegerLinear(signed=False), 0.012


@pytest.mark.parametrize("added", ["nothing", "a bias", "values"])
def test_a_product_is_that_of_the_weights_and_what_is_added(added):
    rows = DICE.standard_normal((40, 96)).astype(np.float32)
    plus = {"nothing": None, "a bias": BIAS, "values": DICE.standard_normal((40, 24)).astype(np.float32)}[added]
    exact = rows @ WEIGHT.T + (0 if plus is None else plus)
    for linear, near in linears():
        assert np.abs(product(linear, rows, plus) - exact).max() < near * np.abs(exact).max()


@pytest.mark.parametrize("most", [0.0, 0.05, 0.7, 3.0, 40.0])
def test_rows_that_are_hardly_negative_keep_what_is_below_zero_and_get_finer_steps(most):
    rows = DICE.uniform(-0.17, most, (40, 96)).astype(np.float32)
    exact = rows @ WEIGHT.T
    wrong = [np.abs(product(linear, rows, None, lowest=-0.17) - exact).max() for linear, _ in linears()]
    assert max(wrong[1:]) < 0.025 * np.abs(exact).max()
    if most > 1:
        usual = [np.abs(product(linear, rows, None) - exact).mean() for linear, _ in linears()]
        finer = [np.abs(product(linear, rows, None, lowest=-0.17) - exact).mean() for linear, _ in linears()]
        assert finer[0] == usual[0]
        assert max(finer[1:]) < min(usual[1:])


def test_no_activation_is_below_what_rows_after_it_are_rounded_for():
    grid = np.arange(-6, 0, 1e-4)
    gelu = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in grid]
    by_tanh = 0.5 * grid * (1 + np.tanh(math.sqrt(2 / math.pi) * (grid + 0.044715 * grid**3)))
    assert min(*gelu, by_tanh.min()) > bert_graph._LOWEST
