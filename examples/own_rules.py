"""Derivatives of your own: every way to tell the engine about a function, each checked.

python examples/own_rules.py        # prints PASS six times, in a second
"""

# %% One VJP for each array argument. Its parameters name what it needs; nothing else is kept.
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import testing

rng = np.random.default_rng(0)


def check(name, f, *arrays):
    print(f"{name:28} {testing.check_grads(f, *arrays).verdict}")


@tg.primitive
def softsign(x):
    return x / (1 + np.abs(x))


tg.defvjp(softsign, lambda g, x0: g / (1 + np.abs(x0)) ** 2)
check("one argument", softsign, rng.normal(size=5))


# %% Keywords are named with their defaults. Broadcasting is undone for you where you ask for it.
@tg.primitive
def leaky(x, slope, *, below=0.0):
    return np.where(x > below, x, slope * x)


tg.defvjp(
    leaky,
    lambda g, x0, x1, below=0.0: g * np.where(x0 > below, 1.0, x1),
    lambda g, x0, below=0.0: g * np.where(x0 > below, 0.0, x0),
    broadcasts=True,
)
check(
    "keywords, broadcasting",
    lambda x, s: leaky(x, s, below=0.5),
    rng.normal(size=(3, 4)),
    rng.normal(size=4),
)


# %% `joint`: all arguments at once, where they share work. A fused step of a recurrent network:
@tg.primitive
def fused_step(x, h, U, V, b):
    return np.tanh(x @ U + h @ V + b)


def fused_vjp(g, out, x0, x1, x2, x3):
    dz = g * (1 - out * out)  # computed once, used five times
    return dz @ x2.T, dz @ x3.T, x0.T @ dz, x1.T @ dz, np.sum(dz, axis=0)


tg.defvjp(fused_step, joint=fused_vjp)
shapes = [(2, 3), (2, 4), (3, 4), (4, 4), (4,)]
check("joint: a fused step", fused_step, *[rng.normal(size=shape) for shape in shapes])


# %% `each`: functions of a sequence of arrays.
@tg.primitive
def weighted_sum(arrays, *, weights):
    return sum(w * a for w, a in zip(weights, arrays, strict=True))


tg.defvjp(weighted_sum, each=lambda g, i, weights: g * weights[i])
check(
    "each: of a sequence",
    lambda a, b: weighted_sum([a, b], weights=(2.0, 3.0)),
    *rng.normal(size=(2, 3)),
)


# %% Several outputs: g and out are tuples.
@tg.primitive
def polar(x, y):
    return np.hypot(x, y), np.arctan2(y, x)


def polar_vjp(g, out, x0, x1):
    (dr, da), (r, _) = g, out
    return dr * x0 / r - da * x1 / r**2, dr * x1 / r + da * x0 / r**2


tg.defvjp(polar, joint=polar_vjp)
check("several outputs", polar, *rng.normal(size=(2, 3)))

# %% All of them have second derivatives too: the same lines run on Tensors.
x = tg.Tensor(0.5, requires_grad=True)
(first,) = tg.grad(softsign(x), [x], create_graph=True)
(second,) = tg.grad(first, [x])
print(f"{'second derivative':28} {'PASS' if np.isclose(second.item(), -2 / 1.5**3) else 'FAIL'}")
