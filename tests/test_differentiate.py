"""jvp, hvp, checkpoint: what is built on the walk back."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing

seeds = st.integers(0, 2**32 - 1)


def smooth(x, y):
    return np.tanh(x @ y) * tg.sigmoid(x[:, :1]) + (x * x).sum()


def arguments(seed):
    rng = np.random.default_rng(seed)
    return rng, [rng.normal(size=(2, 3)), rng.normal(size=(3, 2))]


@given(seeds)
def test_jvp_is_the_derivative_along_the_tangents(seed):
    rng, primals = arguments(seed)
    tangents = [rng.normal(size=p.shape) for p in primals]
    value, tangent = tg.jvp(smooth, primals, tangents)
    np.testing.assert_array_equal(value.data, smooth(*primals))
    cotangent = rng.normal(size=value.shape)

    def along(h):
        plus, minus = (
            smooth(*[p + s * h * t for p, t in zip(primals, tangents, strict=True)])
            for s in (1, -1)
        )
        return ((plus - minus) * cotangent).sum()

    numeric = testing.ladder(along, 1e-15 * np.abs(value.data).sum())
    assert abs((tangent.data * cotangent).sum() - numeric.value) <= 10 * numeric.error + 1e-9


@given(seeds)
def test_jvp_and_vjp_are_adjoint(seed):
    rng, primals = arguments(seed)
    tangents = [rng.normal(size=p.shape) for p in primals]
    _, tangent = tg.jvp(smooth, primals, tangents)
    inputs = [tg.Tensor(p, requires_grad=True) for p in primals]
    v = rng.normal(size=tangent.shape)
    pulled = tg.grad(smooth(*inputs), inputs, v)
    left = (tangent.data * v).sum()
    right = sum((g.data * t).sum() for g, t in zip(pulled, tangents, strict=True))
    assert left == pytest.approx(right, rel=1e-12, abs=1e-12)


@given(seeds)
def test_hvp_is_the_derivative_of_the_gradient_and_symmetric(seed):
    rng, primals = arguments(seed)
    u, v = ([rng.normal(size=p.shape) for p in primals] for _ in range(2))

    def loss(x, y):
        return smooth(x, y).sum()

    hu, hv = tg.hvp(loss, primals, u), tg.hvp(loss, primals, v)
    left = sum((a.data * b).sum() for a, b in zip(hu, v, strict=True))
    right = sum((a.data * b).sum() for a, b in zip(hv, u, strict=True))
    assert left == pytest.approx(right, rel=1e-11, abs=1e-11)

    def gradient(h):
        inputs = [tg.Tensor(p + h * t, requires_grad=True) for p, t in zip(primals, u, strict=True)]
        return [g.data for g in tg.grad(loss(*inputs), inputs)]

    numeric = testing.ladder(
        lambda h: sum(
            ((a - b) * w).sum() for a, b, w in zip(gradient(h), gradient(-h), v, strict=True)
        ),
        1e-14,
    )
    assert abs(left - numeric.value) <= 10 * numeric.error + 1e-8


def test_unused_primals_and_plain_numbers():
    value, tangent = tg.jvp(lambda x, y: x * 2, [3.0, 4], [1.0, 5.0])
    assert (value.item(), tangent.item()) == (6.0, 2.0)
    assert tg.jvp(lambda x: tg.Tensor([1.0]), [3.0], [1.0])[1].data.tolist() == [0.0]
    assert [h.item() for h in tg.hvp(lambda x, y: x * x * x, [2.0, 1.0], [1.0, 1.0])] == [12.0, 0.0]
    assert tg.hvp(lambda x: 2 * x, [2.0], [1.0])[0].item() == 0.0
    with pytest.raises(errors.ShapeError):
        tg.jvp(np.tanh, [np.ones(2)], [np.ones(3)])


# ----- checkpoint --------------------------------------------------------------------------------


def gradients(block, order=1):
    """Of everything that the block uses: its argument, an older result, a weight in its closure."""
    rng = np.random.default_rng(0)
    x, W = (tg.Tensor(rng.normal(size=(3, 3)), requires_grad=True) for _ in range(2))
    h = np.sin(x)
    y = block(x * 1.0, h, W)
    total = sum(((k + 1.0) * out * out).sum() for k, out in enumerate(y)) + h.sum()
    found = tg.grad(total, [x, W], create_graph=order == 2)
    if order == 2:
        found += tg.grad(sum((g * g).sum() for g in found), [x, W])
    return [g.data for g in found]


def wrapped(x, h, W):
    return tg.checkpoint(lambda x: (np.tanh(x @ W + h), np.tanh(x @ W) * h, x))(x)


def direct(x, h, W):
    return np.tanh(x @ W + h), np.tanh(x @ W) * h, x


@pytest.mark.parametrize("order", [1, 2])
def test_checkpoint_gives_the_same_gradients_also_to_what_it_closes_over(order):
    for a, b in zip(gradients(wrapped, order), gradients(direct, order), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_checkpoint_under_backward_with_parameters():
    rnn = tg.RNN(tg.RNNCell(2, 3, rng=0))
    x = np.random.default_rng(1).normal(size=(4, 2, 2))
    rnn(x).outputs.sum().backward()
    expected = [p.grad for p in rnn.parameters()]
    rnn.zero_grad()
    out = tg.checkpoint(lambda: rnn(x))()
    assert isinstance(out, tg.RNNOutput)
    out.outputs.sum().backward()
    for p, g in zip(rnn.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-13)
    constant = tg.checkpoint(lambda x: x * 2)(np.ones(2))
    assert constant.tolist() == [2.0, 2.0]
    with tg.no_grad():
        assert not tg.checkpoint(lambda: rnn(x).outputs)().requires_grad


def test_checkpoint_keeps_less():
    n = 50_000
    x = tg.Tensor(np.ones(n), requires_grad=True)

    def block(x):
        for _ in range(10):
            x = np.tanh(x)
        return x

    def kept(f):
        tracemalloc.start()
        try:
            y = f(x)
            size = tracemalloc.get_traced_memory()[0] / (8 * n)
            y.sum().backward()
            return size
        finally:
            tracemalloc.stop()

    assert kept(block) > 9.5
    assert kept(tg.checkpoint(block)) < 1.5


def test_checkpoint_called_twice_says_freed():
    x = tg.Tensor(np.ones(2), requires_grad=True)
    y = tg.checkpoint(np.tanh)(x).sum()
    y.backward()
    with pytest.raises(errors.GraphFreedError):
        y.backward()


# ----- what is registered ------------------------------------------------------------------------


def test_vjp_of_shows_what_is_registered():
    assert tg.vjp_of(np.tanh).vjps[0](1.0, 0.5) == 0.75
    assert tg.vjp_of(np.vstack).__doc__ == "Rows on top of each other."
    with pytest.raises(errors.MissingRuleError, match="nextafter"):
        tg.vjp_of(np.nextafter)


# ----- nesting, and what cannot work -------------------------------------------------------------


def test_derivatives_inside_derivatives_are_not_confused():
    def outer(a):
        return a * tg.jvp(lambda b: a + b, [a], [1.0])[1]

    assert tg.jvp(outer, [2.0], [1.0])[1].item() == 1.0
    x = tg.Tensor(3.0, requires_grad=True)
    h = x**2
    product = lambda a, b: a * b
    assert tg.jvp(product, [x, x], [1.0, 0.0])[1].item() == 3.0
    assert tg.jvp(product, [x, h], [1.0, 0.0])[1].item() == 9.0
    assert [v.item() for v in tg.hvp(product, [x, x], [1.0, 0.0])] == [0.0, 1.0]
    (through,) = tg.grad(tg.jvp(np.square, [h], [1.0])[1], [x])  # d(2 x^2)/dx
    assert through.item() == 12.0


def test_jvp_and_hvp_inside_no_grad():
    with tg.no_grad():
        assert tg.jvp(np.square, [3.0], [1.0])[1].item() == 6.0
        assert tg.hvp(lambda a: a**3, [2.0], [1.0])[0].item() == 12.0


def test_vectors_of_other_shapes_and_results_that_are_no_tensor_are_refused():
    with pytest.raises(errors.ShapeError):
        tg.hvp(lambda a: (a**3).sum(), [np.ones(3)], [np.ones((3, 1))])
    for result in (lambda a: (a, a), lambda a: 2.0):
        with pytest.raises(errors.NoGradientError, match="must return one Tensor"):
            tg.jvp(result, [1.0], [1.0])


def test_a_checkpoint_that_cannot_be_repeated_raises():
    def makes_a_leaf(a):
        return (a * tg.Tensor(np.ones(2), requires_grad=True)).sum()

    x = tg.Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(errors.NoGradientError, match="Make it outside f"):
        tg.checkpoint(makes_a_leaf)(x)
    p = tg.Parameter(np.array(2.0))
    y = tg.checkpoint(lambda: p * p * p)()
    p.data = np.array(10.0)
    with pytest.raises(errors.NoGradientError, match="another result"):
        y.backward()


def test_a_freed_node_that_no_goal_lies_behind_does_no_harm():
    x = tg.Tensor(1.0, requires_grad=True)
    h = x * 2.0
    h.backward()
    late = tg.Tensor(3.0, requires_grad=True)
    assert tg.grad(h * late, [late])[0].item() == 2.0
    with pytest.raises(errors.GraphFreedError):
        tg.grad(h * late, [x, late])


def test_detach_keeps_the_values_of_a_state_and_cuts_its_graph():
    rnn = tg.RNN(tg.LSTMCell(2, 3, rng=0))
    x = tg.Tensor(np.linspace(-1, 1, 8).reshape(4, 1, 2), requires_grad=True)
    out = rnn(x[:2])
    state = tg.detach({"lstm": out.state, "more": (np.ones(2), out.last)})
    h, c = state["lstm"]
    np.testing.assert_array_equal(h.data, out.state[0].data)
    np.testing.assert_array_equal(c.data, out.state[1].data)
    assert not h.requires_grad
    assert not state["more"][1].requires_grad
    assert type(state["more"][0]) is np.ndarray
    rnn(x[2:], state["lstm"]).last.sum().backward()
    assert not x.grad[:2].any()
    assert x.grad[2:].all()
    assert type(tg.detach(out)) is tg.RNNOutput


def test_tangents_of_other_shapes_are_told_as_tangents():
    with pytest.raises(tg.errors.ShapeError, match=r"of its shape: \[\(2,\)\]; got \[\(3,\)\]"):
        tg.jvp(np.square, [np.ones(2)], [np.ones(3)])
