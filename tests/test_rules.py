"""Every rule in the table, with random shapes, in both orders, in both dtypes."""

import numpy as np
import op_cases
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.cells import leaves
from tinygrad_rnn.rules import RULES

SMOOTH = [f for f, rule in RULES.items() if rule.differentiable]
each_rule = pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
seeds = st.integers(0, 2**32 - 1)


def case(function, seed):
    return op_cases.draw(function, np.random.default_rng(seed))


def gradient_function(call, weights):
    """x to the gradients of sum(weights * call(x)): on arrays first order, on Tensors recorded."""

    def gradients(*xs):
        recorded = isinstance(xs[0], tg.Tensor)
        inputs = xs if recorded else [tg.Tensor(x, requires_grad=True) for x in xs]
        total = sum((out * v).sum() for out, v in zip(leaves(call(*inputs)), weights, strict=True))
        found = tg.grad(total, inputs, create_graph=recorded, allow_unused=True)
        return tuple(
            np.zeros(x.shape) if g is None else g if recorded else g.data
            for g, x in zip(found, inputs, strict=True)
        )

    return gradients


def test_every_rule_has_cases():
    assert set(SMOOTH) <= set(op_cases.MAKERS), "add a maker to op_cases.py for the new rule"


@each_rule
@given(seed=seeds)
def test_forward_values_are_numpys(function, seed):
    call, arrays = case(function, seed)
    ours = leaves(call(*[tg.Tensor(a, requires_grad=True) for a in arrays]))
    numpys = leaves(call(*arrays))
    for out, expected in zip(ours, numpys, strict=True):
        assert out.dtype == expected.dtype
        np.testing.assert_array_equal(out.data, expected)


@each_rule
@given(seed=seeds)
def test_first_order(function, seed):
    call, arrays = case(function, seed)
    testing.check_grads(call, *arrays, directions=2, seed=seed)


@each_rule
@given(seed=seeds)
def test_second_order(function, seed):
    call, arrays = case(function, seed)
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(np.shape(out)) for out in leaves(call(*arrays))]
    testing.check_grads(gradient_function(call, weights), *arrays, directions=2, seed=seed)


@each_rule
@given(seed=seeds)
def test_float32_stays_float32_without_a_cast(function, seed):
    call, arrays = case(function, seed)
    inputs = [tg.Tensor(a, requires_grad=True, dtype=np.float32) for a in arrays]
    outputs = leaves(call(*inputs))
    expected = leaves(call(*[a.astype(np.float32) for a in arrays]))
    assert [out.dtype for out in outputs] == [e.dtype for e in expected]
    for out in outputs:
        if out.requires_grad and out.dtype == np.float32:
            out.backward(np.ones(out.shape, np.float32), retain_graph=True)
    for x in inputs:
        assert x.grad is None or x.grad.dtype == np.float32
