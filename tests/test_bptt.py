"""BPTT falls out of the graph: every gradient of RNN and BiRNN against numeric derivatives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing


@st.composite
def problems(draw):
    """A function of x, the initial state and all weights (U, V, b, W, b_y), and its arguments."""
    steps, size = draw(st.integers(0, 12)), draw(st.integers(1, 3))
    inputs, hidden, outputs = (draw(st.integers(1, 3)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    both = draw(st.booleans())
    cells = [tg.RNNCell(inputs, hidden, rng=rng) for _ in range(1 + both)]
    for cell in cells:
        cell.b.data = rng.normal(size=hidden) / 2
    layer = tg.BiRNN(*cells) if both else tg.RNN(cells[0], reverse=draw(st.booleans()))
    readout = tg.Linear(hidden * (1 + both), outputs, rng=rng)
    readout.b.data = rng.normal(size=outputs)
    lengths = rng.integers(0, steps + 1, size) if draw(st.booleans()) else None
    targets = rng.integers(0, outputs, (steps, size))
    goal = rng.normal(size=(steps, size, outputs)) + 5  # far away: the error is never 0
    at = draw(st.integers(0, max(0, steps - 1)))
    choice = draw(st.sampled_from(["cross_entropy", "rmse", "last", "one step", "state"]))
    reduction = draw(st.sampled_from(["mean", "sum", "time_sum"]))

    def loss(x, state, layer, readout):
        out = layer(x, state, lengths=lengths)
        if choice == "cross_entropy":
            return tg.cross_entropy(readout(out.outputs), targets, lengths, reduction=reduction)
        if choice == "rmse":
            return tg.rmse(readout(out.outputs), goal, lengths, reduction=reduction)
        if choice == "one step" and steps:
            return readout(out.outputs[at])
        return (readout(out.last), out.state) if choice == "state" else readout(out.last)

    h = rng.normal(size=(2, size, hidden))
    state = (h[0], h[1]) if both else h[0]
    return loss, (rng.normal(size=(steps, size, inputs)), state, layer, readout)


@pytest.mark.parametrize("part", range(4))  # 200 cases, for several processes
@settings(max_examples=50)
@given(problem=problems())
def test_every_gradient_of_rnn_and_birnn(part, problem):
    loss, arguments = problem
    report = testing.check_grads(loss, *arguments, directions=1)
    x, _, layer, _ = arguments
    checked = {f.argument for f in report.findings}
    expected = {f"layer.{name}" for name in layer.named_parameters()} | {"readout.W", "readout.b"}
    assert expected | ({"x"} if x.size else set()) <= checked
    assert {"state"} <= checked or {"state[0]", "state[1]"} <= checked
    for f in report.findings:
        assert f.error < 1e-8 or f.difference < 1e-12  # some gradients are tiny


def test_a_long_sequence_to_ten_digits():
    rng = np.random.default_rng(0)
    x, rnn = rng.normal(size=(50, 2, 3)), tg.RNN(tg.RNNCell(3, 6, rng=rng))
    report = testing.check_grads(lambda x: rnn(x).outputs, x)
    assert max(f.error for f in report.findings) < 1e-10


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "identity", lambda z: np.sin(z)])
def test_other_activations(activation):
    rng = np.random.default_rng(1)
    rnn = tg.RNN(tg.RNNCell(2, 3, activation, rng=rng))
    testing.check_grads(lambda x: rnn(x).outputs, rng.normal(size=(6, 2, 2)))


def test_a_shared_weights_gradient_is_the_sum_of_what_each_step_contributes():
    """The second tutorial's central point: give each step a V of its own and add the gradients."""
    rng = np.random.default_rng(2)
    cell, x = tg.RNNCell(2, 3, rng=rng), rng.normal(size=(5, 1, 2))
    tg.RNN(cell)(x).outputs.sum().backward()
    own = [tg.Parameter(cell.V.data) for _ in range(5)]
    h, total = np.zeros((1, 3)), 0
    for x_t, V in zip(x, own, strict=True):
        h = np.tanh(x_t @ cell.U + h @ V + cell.b)
        total = total + h.sum()
    found = tg.grad(total, own)
    np.testing.assert_allclose(sum(g.data for g in found), cell.V.grad, atol=1e-14)
    assert not found[0].data.any()  # h_0 is zero


@pytest.mark.parametrize(
    ("function", "vjps"),
    [
        (np.tanh, [lambda g, out: g * (1 - out)]),  # without its square
        (np.matmul, [lambda g, x1: g @ np.swapaxes(x1, -1, -2), lambda g, x0, shapes: -(x0.T @ g)]),
        (np.add, [lambda g: g, lambda g: 2 * g]),
        (np.tanh, [lambda g, out: g * (1 - out * out) * (1 + 1e-7)]),
    ],
)
def test_a_wrong_rule_is_caught(rule_of, function, vjps):
    rng = np.random.default_rng(3)
    rnn = tg.RNN(tg.RNNCell(2, 3, rng=rng))
    x = rng.normal(size=(4, 2, 2))
    testing.check_grads(lambda x: rnn(x).outputs, x)
    rule_of(function, *vjps)
    with pytest.raises(testing.GradientError, match="FAIL"):
        testing.check_grads(lambda x: rnn(x).outputs, x)
