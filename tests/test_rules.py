"""Every rule and every composed function: random calls, in both orders, in both dtypes."""

import itertools
import math
import warnings
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import graph, primitives, rules, testing
from tinygrad_rnn.nests import leaves
from tinygrad_rnn.testing import cases
from tinygrad_rnn.vjp import COMPOSED, RULES

SMOOTH = [f for f, rule in RULES.items() if rule.differentiable]
MADE_OF_OTHERS = [f for f in COMPOSED if f not in (np.allclose, np.array_equal)]
each_function = pytest.mark.parametrize(
    "function", [*SMOOTH, *MADE_OF_OTHERS], ids=lambda f: f.__name__
)
seeds = st.integers(0, 2**32 - 1)


def case(function, seed):
    return cases.draw(function, np.random.default_rng(seed))


def leaf(values, dtype=np.float64):
    return tg.Tensor(np.array(values, dtype), requires_grad=True)


def gradient_of(call, x):
    """The gradient of the sum of a call's result, as an array."""
    x = leaf(x)
    return plain(tg.grad(call(x).sum(), [x])[0])


def plain(x):
    return x.data if isinstance(x, tg.Tensor) else x


def gradient_function(call, arrays, cotangents):
    """Arguments and cotangents, as one vector, to the gradients of sum(cotangent * call(*xs)).

    On an array that is first order; on a Tensor the walk back is recorded. Also the vector.
    """
    shapes = [np.shape(a) for a in (*arrays, *cotangents)]
    ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()

    def gradients(vector):
        recorded = isinstance(vector, tg.Tensor)
        parts = [vector[i:j].reshape(s) for (i, j), s in zip(pairwise(ends), shapes, strict=True)]
        inputs = parts[: len(arrays)] if recorded else [leaf(x) for x in parts[: len(arrays)]]
        outputs = zip(leaves(call(*inputs)), parts[len(arrays) :], strict=True)
        total = sum((out * v).sum() for out, v in outputs)
        found = tg.grad(total, inputs, create_graph=recorded, allow_unused=True)
        found = [np.zeros(x.shape) if g is None else g for g, x in zip(found, inputs, strict=True)]
        return tuple(found if recorded else map(plain, found))

    return gradients, np.concatenate([np.ravel(a) for a in (*arrays, *cotangents)])


def test_every_rule_has_cases():
    missing = {f.__name__ for f in {*SMOOTH, *MADE_OF_OTHERS} - set(cases.MAKERS)}
    assert not missing, "add a maker to testing/cases.py for the new rule"


@each_function
@given(seed=seeds)
def test_forward_values_are_numpys(function, seed):
    call, arrays = case(function, seed)
    ours = leaves(call(*[tg.Tensor(a, requires_grad=True) for a in arrays]))
    numpys = leaves(call(*arrays))
    rounding = 1e-13 if function in COMPOSED else 0  # other functions may add in another order
    for out, expected in zip(ours, numpys, strict=True):
        assert (out.dtype, out.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(out.data, expected, rtol=rounding, atol=0)


@each_function
@given(seed=seeds)
def test_first_order(function, seed):
    call, arrays = case(function, seed)
    testing.check_grads(call, *arrays, directions=1, seed=seed)


@each_function
@settings(max_examples=settings().max_examples // 2)
@given(seed=seeds)
def test_second_order(function, seed):
    """The gradient's own gradient, with respect to the arguments and to the cotangents."""
    call, arrays = case(function, seed)
    rng = np.random.default_rng(seed)
    cotangents = [rng.standard_normal(np.shape(out)) for out in leaves(call(*arrays))]
    gradients, vector = gradient_function(call, arrays, cotangents)
    testing.check_grads(gradients, vector, directions=1, seed=seed)


@contextmanager
def casts():
    """Collects the gradients that the walk has to convert to their argument's dtype."""
    found, fitted = [], graph._fitted

    def recorded(g, node, i, shape, dtype):
        if np.result_type(g) != dtype:
            found.append(f"argument {i} of {node}: {np.result_type(g)} for {dtype}")
        return fitted(g, node, i, shape, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_fitted", recorded)
        yield found


# number ** float32: the logarithm of the number is a float64
CASTING = (primitives.astype,)


@each_function
@given(seed=seeds)
def test_float32_stays_float32_without_a_cast(function, seed):
    call, arrays = case(function, seed)
    inputs = [leaf(a, np.float32) for a in arrays]
    outputs = leaves(call(*inputs))
    dtypes = [np.asarray(e).dtype for e in leaves(call(*[np.float32(a) for a in arrays]))]
    assert [out.dtype for out in outputs] == dtypes
    with casts() as found:
        for out in outputs:
            if out.requires_grad:
                out.backward(np.ones(out.shape, out.dtype), retain_graph=True)
    if set(dtypes) == {np.dtype(np.float32)} and function not in CASTING:
        assert not found
    for x in inputs:
        assert x.grad is None or x.grad.dtype == np.float32


# ----- points where the derivative is chosen -----------------------------------------------------

KINKS = [
    lambda x: np.maximum(x[:2], x[2:]),
    lambda x: np.minimum(x[:2], x[2:]),
    lambda x: np.max(x),
    lambda x: np.amax(x.reshape(2, 2), axis=0, keepdims=True),
    lambda x: np.min(x.reshape(2, 2), axis=(-1,)),
    lambda x: np.amin(x),
    lambda x: np.sort(x),
    lambda x: np.sort(x.reshape(2, 2), axis=0),
    lambda x: np.sort(x.reshape(2, 2), axis=None),
    lambda x: np.clip(x, 0, 1),
    lambda x: np.clip(1, x, None),
    lambda x: np.absolute(x),
    lambda x: np.linalg.norm(x, ord=1),
]


@pytest.mark.parametrize("call", KINKS)
@given(x=st.lists(st.integers(-1, 2), min_size=4, max_size=4), seed=seeds)
def test_ties_are_shared_evenly(call, x, seed):
    """The gradient at a tie is the average over all ways to break it."""
    weights = np.random.default_rng(seed).permutation(np.arange(1.0, np.size(call(np.ones(4))) + 1))
    weighted = lambda x: (call(x).reshape(-1) * weights).sum()
    steps = np.array(list(itertools.permutations([-3, -1, 1, 3]))) / 1024
    broken = [gradient_of(weighted, x + step) for step in steps]
    np.testing.assert_allclose(gradient_of(weighted, x), np.mean(broken, axis=0), atol=1e-12)


def products_of_others(row, g):
    """The gradients of sum(g * cumprod(row)), term by term."""
    dx = np.zeros(len(row))
    for k, j in itertools.combinations_with_replacement(range(len(row)), 2):
        dx[k] += g[j] * np.prod(np.delete(row[: j + 1], k))
    return dx


@given(seed=seeds)
def test_products_with_zeros(seed):
    rng = np.random.default_rng(seed)
    x = cases.with_zeros(rng, cases.shape(rng, 1, least=1))
    axis = cases.axis_of(rng, x.ndim)
    g = rng.integers(-3, 4, x.shape).astype(float)
    rows = lambda a: np.moveaxis(a, axis, -1).reshape(-1, x.shape[axis])
    expected = [products_of_others(*pair) for pair in zip(rows(x), rows(g), strict=True)]
    found = gradient_of(lambda x: np.cumprod(x, axis=axis) * g, x)
    np.testing.assert_allclose(rows(found), expected, rtol=1e-13, atol=0)
    last = np.where(np.arange(x.shape[axis]) == x.shape[axis] - 1, 1.0, 0.0)
    expected = [products_of_others(row, last) for row in rows(x)]
    found = gradient_of(lambda x: np.prod(x, axis=axis), x)
    np.testing.assert_allclose(rows(found), expected, rtol=1e-13, atol=0)
    flat = gradient_of(np.prod, x)
    expected = [np.prod(np.delete(x, j)) for j in range(x.size)]
    np.testing.assert_allclose(flat.ravel(), expected, rtol=1e-13, atol=0)


ZEROS = [
    lambda x: np.std(np.zeros(3) + x[:1]),
    lambda x: np.std(x, axis=0, keepdims=True),
    lambda x: np.std(x[:1]),
    lambda x: np.var(x),
    lambda x: np.linalg.norm(x),
    lambda x: np.linalg.norm(x.reshape(2, 2), axis=0),
    lambda x: np.linalg.norm(x, 2, axis=-1, keepdims=True),
    lambda x: np.linalg.norm(x.reshape(2, 2), "fro"),
    lambda x: rules.euclidean_norm(x),
    lambda x: np.hypot(x[:2], x[2:]),
    lambda x: np.hypot(x, 0.0),
    lambda x: tg.functions.root_mean_square(x),
    lambda x: x**0,
    lambda x: x**2,
    lambda x: x**2.5,
    lambda x: x ** np.zeros(4),
    lambda x: x ** np.array([2, 2, 0, 0]),
    lambda x: np.power(x, x),
    lambda x: np.power(np.zeros(4), x),
    lambda x: np.power(0.0, x + 1),
    lambda x: np.abs(x),
    lambda x: np.prod(x),
    lambda x: np.cumprod(x)[1:],
]


@pytest.mark.parametrize("call", ZEROS)
def test_gradients_at_zero_are_zero(call):
    """No NaN and no warning, in both orders."""
    x = leaf([0.0, 0.0, 0.0, 0.0])
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        (dx,) = tg.grad(call(x).sum(), [x], create_graph=True)
        assert dx.data.tolist() == [0, 0, 0, 0]
        if dx.requires_grad:
            (ddx,) = tg.grad((dx * np.arange(1, 5)).sum(), [x], allow_unused=True)
            assert ddx is None or np.isfinite(ddx.data).all()


def test_elements_taken_along_no_axis_are_those_of_the_flattened_array():
    x, at = np.random.default_rng(0).normal(size=(2, 3)), np.array([5, 0, 5])
    for order in (1, 2):
        testing.check_grads(lambda x: np.take_along_axis(x, at, axis=None) ** 3, x, order=order)


def test_integer_constants_do_not_wrap():
    c = tg.Tensor([2.0, 0.0, 3.0], requires_grad=True)
    for big in (np.array([200] * 3, "u1"), np.array([2**40] * 3)):
        (g,) = tg.grad(np.arctan2(c, big).sum(), [c])
        expected = float(big[0]) / (float(big[0]) ** 2 + c.data**2)
        np.testing.assert_allclose(g.data, expected)
    base = tg.Tensor([100.0, 2000.0], requires_grad=True)
    for zero in (np.array([0, 0], "u1"), np.uint8(0), tg.Tensor(np.array([0, 0], "u8"))):
        assert not tg.grad((base**zero).sum(), [base])[0].data.any()


def test_a_variance_without_freedom_is_nan_on_the_way_back_too():
    x = tg.Tensor(np.ones((2, 1)), requires_grad=True)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        y = np.var(x[0], ddof=1)
    assert np.isnan(tg.grad(y, [x])[0].data[0])
