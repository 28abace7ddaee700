"""Tests for a cell of your own. Copy this file, and put your cell in MyCell's place.

pytest examples/test_my_cell.py
"""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import testing


# %% The cell: its parameters, the shape of its state, one step. Plain NumPy, no gradient in sight.
class MyCell(tg.Cell):
    """An update gate: h' = z h + (1 - z) tanh(x U + h V + b), where z = sigmoid(x U_z + b_z)."""

    def __init__(self, inputs, hidden, rng):
        rng = tg.init.generator(rng)
        self.inputs, self.state_shape = inputs, (hidden,)
        self.gate = tg.Linear(inputs, hidden, "sigmoid", rng=rng)
        self.U = tg.Parameter(tg.init.glorot(rng, (inputs, hidden)))
        self.V = tg.Parameter(tg.init.orthogonal(rng, hidden))
        self.b = tg.Parameter(np.zeros(hidden))

    def step(self, x, h):
        z = self.gate(x)
        return z * h + (1 - z) * np.tanh(x @ self.U + h @ self.V + self.b)


# %% Everything that a cell must keep to, in a second: gradients, rows, padding, streams, float32.
def test_it_keeps_the_laws_of_a_cell():
    testing.check_cell(lambda: MyCell(3, 4, rng=0))


# %% What no law can know: that it computes what you meant. Write one step down again, for one row.
def test_it_computes_its_formula():
    cell = MyCell(3, 4, rng=0)
    x, h = np.array([1.0, -2.0, 0.5]), np.full(4, 0.25)
    z = 1 / (1 + np.exp(-(x @ cell.gate.W.data + cell.gate.b.data)))
    n = np.tanh(x @ cell.U.data + h @ cell.V.data + cell.b.data)
    np.testing.assert_allclose(cell.step(x, h).data, z * h + (1 - z) * n, rtol=1e-14)


# %% In a network, both ways, over rows of different lengths.
def test_gradients_in_a_network():
    rng = np.random.default_rng(0)
    birnn = tg.BiRNN(MyCell(3, 4, rng), MyCell(3, 2, rng))
    readout = tg.Linear(6, 5, rng=rng)
    x, lengths = rng.normal(size=(4, 3, 3)), [4, 0, 2]
    targets = rng.integers(0, 5, size=(4, 3))

    def loss(x):
        return tg.cross_entropy(readout(birnn(x, lengths=lengths).outputs), targets, lengths)

    testing.check_grads(loss, x)


# %% Can these tests fail? The fault that nearly everybody makes once: memory in the cell itself.
class Forgetful(MyCell):
    """It keeps h to itself, where padding, batches and streams cannot see it."""

    def step(self, x, h):
        self.h = super().step(x, getattr(self, "h", h))
        return self.h


def test_memory_in_the_cell_is_noticed():
    with pytest.raises(testing.GradientError, match=r"step changed self\.h"):
        testing.check_cell(lambda: Forgetful(3, 4, rng=0))
