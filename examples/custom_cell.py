"""A recurrent cell of your own: write it, check its gradients, train it.

Task: many-to-one. A sequence of numbers comes in, with a marker at two of the steps; the answer
is the sum of the two marked numbers (the adding problem, small). Generated data. Time: 3 s.

    python examples/custom_cell.py            # error below 0.01, where guessing gives 0.17
    python examples/custom_cell.py --quick    # a second, for tests
"""

# %% The cell: ten lines of plain NumPy. Everything else comes free.
import sys

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import testing


class GatedCell(tg.Cell):
    """A gate decides how much of the state is replaced: h' = z h + (1 - z) tanh(x U + h V + b)."""

    def __init__(self, inputs, hidden, rng):
        self.gate = tg.Linear(inputs + hidden, hidden, "sigmoid", rng=rng)
        self.new = tg.Linear(inputs + hidden, hidden, "tanh", rng=rng)
        self.state_shape = (hidden,)

    def step(self, x, h):
        xh = np.concatenate([x, h], axis=-1)
        z = self.gate(xh)
        return z * h + (1 - z) * self.new(xh)


# %% Is it right? Everything that a cell must keep to, each law by its name.
print(testing.check_cell(lambda: GatedCell(3, 4, np.random.default_rng(0))).text())

# And the gradients of a network of two: every weight, the input, a ragged batch.
rng = np.random.default_rng(0)
birnn = tg.BiRNN(GatedCell(3, 4, rng), GatedCell(3, 4, rng))
x = rng.normal(size=(6, 2, 3))
report = testing.check_grads(lambda x: birnn(x, lengths=[6, 3]).outputs, x)
print(report.text())


# %% Train it.
def batch(steps, size):
    """Numbers and markers (T, N, 2), and the sums (N, 1)."""
    x = np.stack([rng.random((steps, size)), np.zeros((steps, size))], axis=-1)
    first, second = rng.integers(0, steps // 2, size), rng.integers(steps // 2, steps, size)
    rows = np.arange(size)
    x[first, rows, 1] = x[second, rows, 1] = 1
    return x, (x[first, rows, :1] + x[second, rows, :1])


rnn, readout = tg.RNN(GatedCell(2, 16, rng)), tg.Linear(16, 1, rng=rng)
optimizer = tg.Adam(rnn.parameters() + readout.parameters(), lr=0.01)
steps = 200 if "--quick" in sys.argv else 1500
for step in range(steps):
    x, target = batch(10, 32)
    loss = tg.mse(readout(rnn(x).last), target)
    loss.backward()
    tg.clip_grad_norm(optimizer.parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if (step + 1) % max(1, steps // 5) == 0:
        print(f"step {step + 1}: mean squared error {loss.item():.4f} (guessing: 0.1667)")
