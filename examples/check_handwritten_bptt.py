"""Backpropagation through time by hand, in NumPy only, and the check that tells right from wrong.

python examples/check_handwritten_bptt.py      # PASS, and the report of a wrong one, in a second
"""

# %% Somebody's recurrent network: not a line of this package in it.
import numpy as np


def forward(x, U, V, b):
    """All states (T, N, H) of h_t = tanh(x_t U + h_{t-1} V + b), from h = 0."""
    h, states = np.zeros((x.shape[1], len(b))), []
    for x_t in x:
        h = np.tanh(x_t @ U + h @ V + b)
        states.append(h)
    return np.stack(states)


def bptt(g, x, U, V, b):
    """The gradients of x, U, V and b, where g is that of the states (T, N, H)."""
    states = forward(x, U, V, b)
    dx, dU, dV, db = (np.zeros(a.shape) for a in (x, U, V, b))
    carry = np.zeros(g[0].shape)  # what arrives from the step after this one
    for t in reversed(range(len(x))):
        before = states[t - 1] if t else np.zeros(g[0].shape)
        dz = (g[t] + carry) * (1 - states[t] ** 2)
        dx[t] = dz @ U.T
        dU += x[t].T @ dz
        dV += before.T @ dz
        db += dz.sum(axis=0)
        carry = dz @ V.T
    return dx, dU, dV, db


# %% Somebody else's, with the classic mistake: what arrives from the next step is forgotten. It is
# the gradient of every step alone, and right at the last step only.
def forgetful_bptt(g, x, U, V, b):
    """As bptt, without carry."""
    states = forward(x, U, V, b)
    before = np.concatenate([np.zeros((1, *g.shape[1:])), states[:-1]])
    dz = g * (1 - states**2)
    steps = lambda a: a.reshape(-1, a.shape[-1])  # (T, N, ...) to (T N, ...)
    return dz @ U.T, steps(x).T @ steps(dz), steps(before).T @ steps(dz), steps(dz).sum(axis=0)


# %% The judge: numeric derivatives of `forward`. Tensors are nowhere in sight.
from tinygrad_rnn import testing

rng = np.random.default_rng(0)
T, N, C, H = 5, 2, 3, 4
arguments = [rng.normal(size=shape) for shape in [(T, N, C), (C, H), (H, H), (H,)]]

print(testing.check_vjp(forward, bptt, *arguments).text())
try:
    testing.check_vjp(forward, forgetful_bptt, *arguments)
except testing.GradientError as error:
    print(f"\n{error}")
