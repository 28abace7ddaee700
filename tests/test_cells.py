"""The cells: their equations, their gradients, and their twins in PyTorch where it is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.nests import leaves, map_tree

MAKERS = {
    "RNN": lambda rng: tg.RNNCell(2, 3, rng=rng),
    "LSTM": lambda rng: tg.LSTMCell(2, 3, rng=rng),
    "GRU": lambda rng: tg.GRUCell(2, 3, rng=rng),
    "GRU before": lambda rng: tg.GRUCell(2, 3, reset_after=False, rng=rng),
}
each_cell = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
seeds = st.integers(0, 2**32 - 1)


def drawn(make, seed):
    """A cell with no parameter at its starting value, a ragged batch and a state."""
    rng = np.random.default_rng(seed)
    cell = make(rng)
    for p in cell.parameters():
        p.data = p.data + rng.normal(size=p.shape) / 2
    steps, size = int(rng.integers(0, 6)), int(rng.integers(1, 4))
    x, lengths = rng.normal(size=(steps, size, 2)), rng.integers(0, steps + 1, size)
    state = map_tree(lambda s: rng.normal(size=s.shape), cell.initial_state((size,)))
    return cell, x, lengths, state


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_lstm_is_its_equations():
    cell, x, _, (h, c) = drawn(MAKERS["LSTM"], 1)
    x = np.ones((len(h), 2))
    U, V, b = (p.data for p in (cell.U, cell.V, cell.b))
    i, f, g, o = (x @ U[:, k : k + 3] + h @ V[:, k : k + 3] + b[k : k + 3] for k in (0, 3, 6, 9))
    new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    new_h = sigmoid(o) * np.tanh(new_c)
    y, (h1, c1) = cell(x, (h, c))
    for ours, expected in ((y, new_h), (h1, new_h), (c1, new_c)):
        np.testing.assert_allclose(ours.data, expected, atol=1e-15)


@pytest.mark.parametrize("after", [True, False])
def test_gru_is_its_equations_both_ways(after):
    cell, _, _, h = drawn(MAKERS["GRU" if after else "GRU before"], 2)
    x = np.ones((len(h), 2))
    U, V, b = (p.data for p in (cell.U, cell.V, cell.b))
    r, z = (sigmoid(x @ U[:, k : k + 3] + h @ V[:, k : k + 3] + b[k : k + 3]) for k in (0, 3))
    if after:
        n = np.tanh(x @ U[:, 6:] + b[6:] + r * (h @ V[:, 6:] + cell.b_n.data))
    else:
        n = np.tanh(x @ U[:, 6:] + b[6:] + (r * h) @ V[:, 6:])
    y, new = cell(x, h)
    np.testing.assert_allclose(y.data, (1 - z) * n + z * h, atol=1e-15)
    assert new is y
    assert (cell.b_n is not None) == after


@each_cell
@given(seed=seeds)
def test_gradients_over_ragged_batches(make, seed):
    cell, x, lengths, state = drawn(make, seed)
    for layer in (tg.RNN(cell), tg.RNN(cell, reverse=True)):

        def run(x, state, layer=layer):
            out = layer(x, state, lengths=lengths)
            return out.outputs, out.last, out.state

        testing.check_grads(run, x, state, wrt=[*([0] if x.size else []), 1, cell], directions=1)


def test_how_parameters_start():
    lstm, gru = tg.LSTMCell(3, 4, rng=0), tg.GRUCell(3, 4, rng=0)
    assert (lstm.U.shape, lstm.V.shape, lstm.b.shape) == ((3, 16), (4, 16), (16,))
    assert lstm.b.data.tolist() == [0] * 4 + [1] * 4 + [0] * 8
    assert (lstm.gates, gru.gates) == (("i", "f", "g", "o"), ("r", "z", "n"))
    for cell, count in ((lstm, 4), (gru, 3)):
        for block in np.split(cell.V.data, count, axis=1):
            np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-14)
    assert np.abs(lstm.U.data).max() <= np.sqrt(6 / 7)
    assert np.abs(lstm.U.data).max() > np.sqrt(6 / 19)  # per gate, not for all gates at once
    with pytest.raises(tg.errors.RngError):
        tg.GRUCell(3, 4)


def test_float32_stays_float32():
    for make in (tg.LSTMCell, tg.GRUCell):
        rnn = tg.RNN(make(2, 3, rng=0, dtype=np.float32))
        out = rnn(np.ones((4, 2, 2), np.float32), lengths=[4, 1])
        assert {a.dtype for a in (out.outputs, *leaves(out.state))} == {np.dtype(np.float32)}


# ----- PyTorch's layers: values and every gradient -----------------------------------------------
