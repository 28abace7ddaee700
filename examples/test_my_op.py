"""Tests for an op of your own. Copy this file, and put your function in elu's place.

pytest examples/test_my_op.py        # hypothesis is used where it is installed
"""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import testing


# %% The op, and its derivative. `out` is what elu returned: nothing else is kept for the way back.
@tg.primitive
def elu(x, *, alpha=1.0):
    """x above 0, alpha (exp(x) - 1) below (Clevert 2016)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


tg.defvjp(elu, lambda g, out, alpha=1.0: g * np.where(out > 0, 1.0, out + alpha))


# %% One call: every element of the gradient against a numeric derivative of elu itself.
def test_one_call():
    testing.check_grads(lambda x: elu(x, alpha=0.5), np.array([[-2.0, -0.1], [0.3, 4.0]]))


# %% Many calls, drawn at random: values, derivatives, the same in float32; then second derivatives.
def calls(rng):
    """A call and its arguments: any shape, any alpha; not nearer to the kink than 1/16."""
    shape = tuple(rng.integers(1, 4, size=rng.integers(0, 3)))
    x = rng.integers(-16, 16, shape) / 8 + 1 / 16
    alpha = float(rng.integers(1, 9)) / 4
    return (lambda x: elu(x, alpha=alpha)), [x]


def test_many_calls():
    testing.check_op(elu, calls)


def test_second_order():
    testing.check_op(elu, calls, count=10, order=2)


# %% At the kink there are two slopes. Say which one you give.
def test_at_the_kink_it_is_the_slope_from_below():
    x = tg.Tensor(0.0, requires_grad=True)
    (slope,) = tg.grad(elu(x, alpha=0.5), [x])
    assert slope.item() == 0.5


# %% In a network: the op, its keyword, and backpropagation through time.
def test_in_a_network():
    cell = tg.RNNCell(3, 4, activation=lambda z: elu(z, alpha=0.5), rng=0)
    x = np.random.default_rng(1).normal(size=(5, 2, 3))
    testing.check_grads(tg.RNN(cell), x)


# %% Can these tests fail? A gradient with a mistake in it shows that they can.
def test_a_forgotten_alpha_is_noticed():
    wrong = tg.primitive(elu.on_arrays)
    tg.defvjp(wrong, lambda g, out, alpha=1.0: g * np.where(out > 0, 1.0, out + 1.0))
    with pytest.raises(testing.GradientError, match="element"):
        testing.check_grads(lambda x: wrong(x, alpha=0.5), np.array([0.7, -0.7]))


# %% With hypothesis: a failing example is made as small as it can be.
try:
    from hypothesis import given
    from hypothesis import strategies as st
except ImportError:
    pass
else:
    eighths = st.integers(-80, 80).filter(bool).map(lambda n: n / 8)

    @given(st.lists(eighths, min_size=1), st.sampled_from([0.25, 1.0, 2.0]))
    def test_any_values(x, alpha):
        testing.check_grads(lambda x: elu(x, alpha=alpha), np.array(x))
