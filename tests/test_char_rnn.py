"""The classic character RNN, written from its equations, and the same model from this package.

The equations (Karpathy 2015), for one chunk of T characters, where h_0 is the last chunk's h_T:

    h_t = tanh(Wxh x_t + Whh h_{t-1} + bh)      y_t = Why h_t + by      p_t = softmax(y_t)
    J = -sum_t log p_t[the next character]

The gradient goes back through the chunk only; each element is cut to [-5, 5], and Adagrad takes
m += g**2, p -= lr g / sqrt(m + 1e-8). Column vectors there, row vectors here: weights transpose.

At the classic learning rate 0.1 the first updates multiply rounding errors by about ten each: a
last digit changed in one weight gives another run after 20 updates (a test below shows it). So two
programs can only be compared there update by update, from the same weights; at 0.01 whole runs are.
"""

import numpy as np
import pytest

import tinygrad_rnn as tg

HIDDEN, CHUNK, UPDATES = 100, 25, 200


def text(length=3000):
    """Words of a small random language: the same on every machine, and something to learn."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(60)]
    chosen = words[0]
    while len(chosen) < length:
        chosen += str(rng.choice([" ", " ", " ", ", ", ".\n"])) + words[rng.geometric(0.1) % 60]
    return chosen


def codes():
    """The text as numbers, and how many different characters it has."""
    alphabet, numbers = np.unique(list(text()), return_inverse=True)
    return numbers, len(alphabet)


def chunks(numbers):
    """The chunk of each update, and whether the text starts there (h is zero again)."""
    start = 0
    for _ in range(UPDATES):
        start = 0 if start + CHUNK + 1 > len(numbers) else start
        yield numbers[start : start + CHUNK + 1], start == 0
        start += CHUNK


def start(size):
    """Small normal weights, zero biases."""
    rng = np.random.default_rng(1)
    shapes = {"Wxh": (HIDDEN, size), "Whh": (HIDDEN, HIDDEN), "Why": (size, HIDDEN)}
    weights = {name: 0.01 * rng.standard_normal(shape) for name, shape in shapes.items()}
    return weights | {"bh": np.zeros((HIDDEN, 1)), "by": np.zeros((size, 1))}


# ----- from the equations, in NumPy alone --------------------------------------------------------


class ByHand:
    def __init__(self, weights, lr):
        self.lr, self.size = lr, len(weights["by"])
        self.W = {name: value.copy() for name, value in weights.items()}
        self.m = {name: np.zeros_like(value) for name, value in weights.items()}
        self.h = np.zeros((HIDDEN, 1))

    def update(self, chunk, anew):
        """One step; returns the loss and the gradients, before they are cut."""
        h = np.zeros((HIDDEN, 1)) if anew else self.h
        loss, g, self.h = loss_and_gradient(self.W, chunk, h, self.size)
        for name in self.W:
            cut = np.clip(g[name], -5, 5)
            self.m[name] = self.m[name] + cut * cut
            self.W[name] = self.W[name] - self.lr * cut / np.sqrt(self.m[name] + 1e-8)
        return loss, g


def loss_and_gradient(W, chunk, h_start, size):
    """J, dJ/dW and the last h. d_x stands for dJ/dx."""
    x = [np.eye(size)[:, [c]] for c in chunk]
    h, p, loss = [h_start], [], 0.0
    for t in range(CHUNK):
        h.append(np.tanh(W["Wxh"] @ x[t] + W["Whh"] @ h[-1] + W["bh"]))
        y = W["Why"] @ h[-1] + W["by"]
        e = np.exp(y - y.max())
        p.append(e / e.sum())
        loss -= np.log(p[t][chunk[t + 1], 0])
    g = {name: np.zeros_like(value) for name, value in W.items()}
    d_later = np.zeros((HIDDEN, 1))  # what h_t receives from the steps after t
    for t in reversed(range(CHUNK)):
        d_y = p[t] - x[t + 1]
        d_h = W["Why"].T @ d_y + d_later
        d_z = (1 - h[t + 1] ** 2) * d_h
        g["Why"] += d_y @ h[t + 1].T
        g["by"] += d_y
        g["Wxh"] += d_z @ x[t].T
        g["Whh"] += d_z @ h[t].T
        g["bh"] += d_z
        d_later = W["Whh"].T @ d_z
    return loss, g, h[-1]


# ----- from this package -------------------------------------------------------------------------


class ByPackage:
    """The same by public names: BPTT comes from the graph."""

    def __init__(self, weights, lr):
        self.size = len(weights["by"])
        self.rnn = tg.RNN(tg.RNNCell(self.size, HIDDEN, rng=0))
        self.readout = tg.Linear(HIDDEN, self.size, rng=0)
        cell, readout = self.rnn.cell, self.readout
        self.named = {
            "Wxh": cell.U, "Whh": cell.V, "bh": cell.b, "Why": readout.W, "by": readout.b
        }  # fmt: skip
        for name, p in self.named.items():
            p.data = weights[name].T.reshape(p.shape)
        # m + 1e-8 inside the root is an m that starts with 1e-8, and no eps outside
        self.optimizer = tg.Adagrad(self.named, lr, eps=0, initial_accumulator_value=1e-8)
        self.state = None

    def update(self, chunk, anew):
        out = self.rnn(np.eye(self.size)[chunk[:-1]], None if anew else self.state)
        loss = tg.cross_entropy(self.readout(out.outputs), chunk[1:], reduction="sum")
        self.optimizer.zero_grad()
        loss.backward()
        g = {name: column(p.grad) for name, p in self.named.items()}
        tg.clip_grad_value(self.named, 5)
        self.optimizer.step()
        self.state = out.state.detach()
        return loss.item(), g

    @property
    def W(self):
        return {name: column(p.numpy()) for name, p in self.named.items()}

    @property
    def h(self):
        return column(self.state.numpy())


def column(a):
    """An array of this package in the form of the equations."""
    return a.T if a.ndim == 2 else a[:, None]


# ----- both --------------------------------------------------------------------------------------


def relative_error(ours, theirs):
    """Of a whole array, by its norm."""
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def compare(lr, same_start):
    """Both side by side; every update must agree. Returns the losses, and how many were cut."""
    numbers, size = codes()
    hand, package = ByHand(start(size), lr), ByPackage(start(size), lr)
    losses, cut = [], 0
    for k, (chunk, anew) in enumerate(chunks(numbers)):
        loss, g = hand.update(chunk, anew)
        our_loss, our_g = package.update(chunk, anew)
        assert our_loss == pytest.approx(loss, rel=1e-10), k
        for name in g:
            assert relative_error(our_g[name], g[name]) < 1e-10, (k, name)
            assert relative_error(package.W[name], hand.W[name]) < 1e-10, (k, name)
        assert relative_error(package.h, hand.h) < 1e-10, k
        if same_start:
            hand.W, hand.h = package.W, package.h
        losses.append(loss)
        cut += any((abs(v) > 5).any() for v in g.values())
    return losses, cut


def test_a_run_of_200_updates_is_that_of_the_equations():
    losses, _ = compare(lr=0.01, same_start=False)
    assert np.mean(losses[-20:]) < 0.85 * np.mean(losses[:20])  # it learns


def test_at_the_classic_rate_each_of_200_updates_is_that_of_the_equations():
    losses, cut = compare(lr=0.1, same_start=True)
    assert np.mean(losses[-20:]) < 0.85 * np.mean(losses[:20])
    assert cut > 20  # the clipping has something to do


def test_at_the_classic_rate_the_last_digit_of_one_weight_decides_the_run():
    numbers, size = codes()
    one, other = ByHand(start(size), 0.1), ByHand(start(size), 0.1)
    other.W["Whh"][0, 0] = np.nextafter(other.W["Whh"][0, 0], 1)
    for chunk, anew in chunks(numbers):
        first, second = one.update(chunk, anew)[1], other.update(chunk, anew)[1]
    assert relative_error(first["Whh"], second["Whh"]) > 0.1


def test_the_text_starts_anew_within_the_run():
    assert sum(anew for _, anew in chunks(codes()[0])) > 1
