"""The traced loop's figures: RNN(cell, scan=True) against its peers, growth, memory.

    pip install -e '.[bench]'
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/recurrent.py     # some minutes
    python benchmarks/recurrent.py --quick     # some seconds, to see that it runs
    python benchmarks/recurrent.py --cells rnn,lstm --sizes 1,2 --parts times --json out.json

Peers that are not installed are skipped with a word. All contenders compute the same: one cell run
over T steps from a zero state in float32, one thread, then the gradients of x and of every
parameter for a fixed random cotangent of the outputs; what they return is compared before anything
is timed. They take turns in random order within a round. Tables have medians, and times as
multiples of ours.
"""

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM", "BLIS"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # before NumPy is imported
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["NPROC"] = "1"  # the size of XLA's pool: with the flags alone it keeps 1.4 cores busy
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np

import tinygrad_rnn as tg

SIZES = [(50, 1, 16, 16), (50, 16, 32, 64), (100, 32, 64, 128), (100, 64, 256, 512)]  # T, N, C, H
SIZES += [(1000, 32, 64, 128)]
TURNS = [(31, 5), (31, 3), (21, 1), (9, 1), (11, 1)]  # for each size: rounds, calls in a turn
FLOAT = np.float32


# ----- cells: ours, and the same step in any library's operations ------------------------------


class GatedCell(tg.Cell):
    """README's cell: x and h joined, then two Linears. A product that mixes input and state."""

    def __init__(self, inputs, hidden, rng, dtype):
        self.gate = tg.Linear(inputs + hidden, hidden, "sigmoid", rng=rng, dtype=dtype)
        self.new = tg.Linear(inputs + hidden, hidden, "tanh", rng=rng, dtype=dtype)
        self.state_shape = (hidden,)

    def step(self, x, h):
        xh = np.concatenate([x, h], axis=-1)
        z = self.gate(xh)
        return z * h + (1 - z) * self.new(xh)


class ApartLSTM(tg.Cell):
    """An LSTM as a textbook writes it: each gate with weights of its own, eight small products."""

    def __init__(self, inputs, hidden, rng, dtype):
        rng = tg.init.generator(rng)
        inward = lambda: tg.Parameter(tg.init.glorot(rng, (inputs, hidden), dtype=dtype))
        around = lambda: tg.Parameter(tg.init.orthogonal(rng, hidden, dtype=dtype))
        bias = lambda: tg.Parameter(np.zeros(hidden, dtype))
        self.Wi, self.Wf, self.Wg, self.Wo = inward(), inward(), inward(), inward()
        self.Vi, self.Vf, self.Vg, self.Vo = around(), around(), around(), around()
        self.bi, self.bf, self.bg, self.bo = bias(), bias(), bias(), bias()
        self.state_shape = ((hidden,), (hidden,))

    def step(self, x, state):
        h, c = state
        i = tg.sigmoid(x @ self.Wi + h @ self.Vi + self.bi)
        f = tg.sigmoid(x @ self.Wf + h @ self.Vf + self.bf)
        g = np.tanh(x @ self.Wg + h @ self.Vg + self.bg)
        o = tg.sigmoid(x @ self.Wo + h @ self.Vo + self.bo)
        c = f * c + i * g
        h = o * np.tanh(c)
        return h, (h, c)


def rnn_step(m, x, state, U, V, b):
    return (m.tanh(x @ U + state[0] @ V + b),)


def lstm_step(m, x, state, U, V, b):
    h, c = state
    i, f, g, o = m.split(x @ U + h @ V + b, 4)
    c = m.sigmoid(f) * c + m.sigmoid(i) * m.tanh(g)
    return m.sigmoid(o) * m.tanh(c), c


def gru_step(m, x, state, U, V, b, b_n):
    h = state[0]
    xr, xz, xn = m.split(x @ U + b, 3)
    hr, hz, hn = m.split(h @ V, 3)
    n = m.tanh(xn + m.sigmoid(xr + hr) * (hn + b_n))
    z = m.sigmoid(xz + hz)
    return ((1 - z) * n + z * h,)


def gated_step(m, x, state, Wz, bz, Wn, bn):
    h = state[0]
    xh = m.join([x, h])
    z = m.sigmoid(xh @ Wz + bz)
    return (z * h + (1 - z) * m.tanh(xh @ Wn + bn),)


def apart_step(m, x, state, *weights):
    h, c = state
    W, V, b = weights[:4], weights[4:8], weights[8:]
    i, f, g, o = (x @ W[k] + h @ V[k] + b[k] for k in range(4))
    c = m.sigmoid(f) * c + m.sigmoid(i) * m.tanh(g)
    return m.sigmoid(o) * m.tanh(c), c


class Kind(NamedTuple):
    title: str
    cell: Callable  # (C, H, rng=, dtype=) to a tg.Cell
    step: Callable  # (operations, x_t, state, *weights) to the new state; the output is its first
    states: int
    gates: int  # how many products h @ V of (N, H) by (H, H) a step has
    torch: str | None = None


KINDS = {
    "rnn": Kind("tanh RNN", tg.RNNCell, rnn_step, 1, 1, "RNN"),
    "lstm": Kind("LSTM", tg.LSTMCell, lstm_step, 2, 4, "LSTM"),
    "gru": Kind("GRU, reset_after", tg.GRUCell, gru_step, 1, 3, "GRU"),
    "gated": Kind("README's GatedCell", GatedCell, gated_step, 1, 2),
    "apart": Kind("LSTM of twelve weights", ApartLSTM, apart_step, 2, 4),
}


class Problem:
    """A kind of cell and a size, with x, weights, the cotangent G, and lengths if it is ragged."""

    def __init__(self, kind, size, ragged=False):
        T, N, C, H = size
        rng = np.random.default_rng(0)
        self.kind, self.size = kind, size
        self.x = rng.normal(size=(T, N, C)).astype(FLOAT)
        self.G = rng.normal(size=(T, N, H)).astype(FLOAT)
        self.lengths = np.linspace(1, T, N).round().astype(int) if ragged else None
        if ragged:
            self.G[np.arange(T)[:, None] >= self.lengths] = 0
        cell = kind.cell(C, H, rng=0, dtype=FLOAT)
        for p in cell.parameters():
            if p.ndim == 1:  # biases start at 0, where a mistake could hide
                p.data = p.data + (0.1 * rng.normal(size=p.shape)).astype(FLOAT)
        self.arrays = cell.state_dict()
        self.weights = list(self.arrays.values())
        self.zeros = [np.zeros((N, H), FLOAT)] * kind.states

    def cell(self):
        cell = self.kind.cell(*self.size[2:], rng=0, dtype=FLOAT)
        cell.load_state_dict(self.arrays)
        return cell


# ----- contenders: each makes a run() of a Problem, which returns gradients, x's first -----------


def taken(wanted):
    grads = [a.grad for a in wanted]
    for a in wanted:
        a.grad = None
    return grads


def ours(p, **options):
    rnn = tg.RNN(p.cell(), **{"scan": True, **options})
    x = tg.Tensor(p.x, requires_grad=True)
    wanted = [x, *rnn.parameters()]

    def run():
        rnn(x, lengths=p.lengths).outputs.backward(p.G)
        return taken(wanted)

    return run


def plain(p):
    return ours(p, scan=False)


def unrolled(m, p, xs, state, weights):
    outputs = []
    for x_t in xs:
        state = p.kind.step(m, x_t, state, *weights)
        outputs.append(state[0])
    return outputs


def pytorch():
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


def torch_nn(p):
    if p.kind.torch is None:
        return None
    torch = pytorch()
    H = p.size[3]
    layer = getattr(torch.nn, p.kind.torch)(*p.size[2:])
    arrays = tg.to_torch(tg.RNN(p.cell()))
    layer.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    x, G = torch.tensor(p.x, requires_grad=True), torch.tensor(p.G)
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    lengths = None if p.lengths is None else torch.tensor(p.lengths)

    def run():
        if lengths is None:
            outputs, _ = layer(x)
        else:
            packed, _ = layer(pack(x, lengths, enforce_sorted=False))
            outputs, _ = pad(packed, total_length=len(x))
        outputs.backward(G)
        u, v, b, second = (a.grad for a in layer.parameters())
        grads = [x.grad, u.T, v.T, b] + [second[2 * H :]] * (p.kind.torch == "GRU")
        x.grad = None
        layer.zero_grad()
        return grads

    return run


def torch_loop(p):
    torch = pytorch()
    split = lambda z, n: z.chunk(n, -1)
    join = lambda parts: torch.cat(parts, -1)
    m = SimpleNamespace(tanh=torch.tanh, sigmoid=torch.sigmoid, split=split, join=join)
    wanted = [torch.tensor(a, requires_grad=True) for a in (p.x, *p.weights)]
    G, zeros = torch.tensor(p.G), [torch.tensor(a) for a in p.zeros]

    def run():
        x, *weights = wanted
        torch.stack(unrolled(m, p, x, zeros, weights)).backward(G)
        return taken(wanted)

    return run


def jax_scan(p):
    """jax.jit of a VJP through lax.scan; run.seconds: of tracing and lowering, of compiling.

    x @ U stays in the step, as in the cell: before the scan, for all steps, it is no faster (100,
    32, 64, 128: tanh RNN 4.9 ms for 4.7, LSTM 34 for 19; 100, 64, 256, 512: 143 for 121)."""
    jax = importlib.import_module("jax")
    split = lambda z, n: jax.numpy.split(z, n, -1)
    join = lambda parts: jax.numpy.concatenate(parts, -1)
    m = SimpleNamespace(tanh=jax.numpy.tanh, sigmoid=jax.nn.sigmoid, split=split, join=join)
    args = jax.device_put((p.x, *p.weights))
    G, zeros = jax.device_put((p.G, tuple(p.zeros)))

    def outputs(x, *weights):
        def body(state, x_t):
            state = p.kind.step(m, x_t, state, *weights)
            return state, state[0]

        return jax.lax.scan(body, zeros, x)[1]

    def gradients(G, *args):
        out, pull = jax.vjp(outputs, *args)
        return out, pull(G)

    start = time.perf_counter()
    lowered = jax.jit(gradients).lower(G, *args)
    middle = time.perf_counter()
    compiled = lowered.compile()
    seconds = middle - start, time.perf_counter() - middle
    run = lambda: jax.block_until_ready(compiled(G, *args))[1]
    run.seconds = seconds
    return run


def too_slow(p):
    """Where MyGrad and autograd would take most of the time: long, large, and custom cells."""
    T, N, _, H = p.size
    return p.kind.torch is None or T * N * H > 100 * 32 * 128


def mygrad_loop(p):
    if too_slow(p):
        return None
    mg = importlib.import_module("mygrad")
    sigmoid = importlib.import_module("mygrad.nnet.activations").sigmoid
    H = p.size[3]
    split = lambda z, n: [z[:, k * H : (k + 1) * H] for k in range(n)]  # there is no mg.split
    m = SimpleNamespace(tanh=mg.tanh, sigmoid=sigmoid, split=split)

    def run():
        xs = [mg.tensor(x_t) for x_t in p.x]  # x[t] of one tensor would cost O(T) for each step
        weights = [mg.tensor(a) for a in p.weights]
        zeros = [mg.tensor(a, constant=True) for a in p.zeros]
        mg.stack(unrolled(m, p, xs, zeros, weights)).backward(p.G)
        return [np.stack([x_t.grad for x_t in xs]), *[a.grad for a in weights]]

    return run


def autograd_loop(p):
    if too_slow(p):
        return None
    numpy, autograd = (importlib.import_module(name) for name in ("autograd.numpy", "autograd"))
    sigmoid = lambda x: 0.5 * numpy.tanh(0.5 * x) + 0.5
    split = lambda z, n: numpy.split(z, n, -1)
    m = SimpleNamespace(tanh=numpy.tanh, sigmoid=sigmoid, split=split)

    def outputs(args):
        x, *weights = args
        steps = [x[t] for t in range(len(p.x))]
        return numpy.stack(unrolled(m, p, steps, p.zeros, weights))

    return lambda: autograd.make_vjp(outputs)((p.x, *p.weights))[0](p.G)


# ----- BPTT by hand: one product for all inputs, out= in the loop, one product for each weight ----


def new(*shape):
    return np.empty(shape, FLOAT)


def rows(a):
    return a.reshape(a.shape[0] * a.shape[1], -1)


def after(x, h, dz, U):
    """Gradients of x, U, V and b, of all steps at once."""
    dz = rows(dz)
    return [(dz @ U.T).reshape(x.shape), rows(x).T @ dz, rows(h[:-1]).T @ dz, dz.sum(axis=0)]


def hand_rnn(p):
    (T, N, _, H), (U, V, b), x = p.size, p.weights, p.x
    z, product, dh = new(T, N, H), new(N, H), new(N, H)  # the outputs, h, are new in each call

    def run():
        h = new(T + 1, N, H)
        h[0] = dh[...] = 0
        np.matmul(rows(x), U, out=rows(z))
        np.add(z, b, out=z)
        for z_t, h_old, h_new in zip(z, h, h[1:], strict=False):
            np.matmul(h_old, V, out=product)
            np.add(z_t, product, out=product)
            np.tanh(product, out=h_new)
        np.multiply(h[1:], h[1:], out=z)
        dz = np.subtract(1, z, out=z)
        W = V.T.copy()
        for G_t, dz_t in zip(p.G[::-1], dz[::-1], strict=True):
            np.add(G_t, dh, out=dh)
            np.multiply(dz_t, dh, out=dz_t)
            np.matmul(dz_t, W, out=dh)
        return after(x, h, dz, U)

    return run


def hand_lstm(p):
    (T, N, _, H), (U, V, b), x = p.size, p.weights, p.x
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], FLOAT), H)  # sigmoid(z) = tanh(z / 2) / 2 + 1/2
    shift = 1 - scale
    gates, d, c, tanh_c, keep = new(T, N, 4, H), new(T, N, 4, H), *(new(T, N, H) for _ in "cth")
    i, f, g, o = (gates[:, :, k] for k in range(4))
    flat, product, write, dh, dc, zero = rows(gates), new(N, 4 * H), *(new(N, H) for _ in "whcz")
    zero[...] = 0

    def run():
        h = new(T + 1, N, H)
        h[0] = dh[...] = dc[...] = 0
        np.matmul(rows(x), U * scale, out=flat)
        np.add(flat, b * scale, out=flat)
        W, c_old = V * scale, zero
        steps = zip(flat.reshape(T, N, 4 * H), i, f, g, o, c, tanh_c, h, h[1:], strict=False)
        for a, i_t, f_t, g_t, o_t, c_t, tanh_t, h_old, h_new in steps:
            np.matmul(h_old, W, out=product)
            np.add(a, product, out=a)
            np.tanh(a, out=a)
            np.multiply(a, scale, out=a)
            np.add(a, shift, out=a)
            np.multiply(i_t, g_t, out=write)
            np.multiply(f_t, c_old, out=c_t)
            np.add(c_t, write, out=c_t)
            np.tanh(c_t, out=tanh_t)
            np.multiply(o_t, tanh_t, out=h_new)
            c_old = c_t
        np.subtract(1, gates, out=d)  # what each gate's gradient is multiplied by
        np.multiply(d, gates, out=d)
        np.multiply(g, g, out=d[:, :, 2])
        np.subtract(1, d[:, :, 2], out=d[:, :, 2])
        d[:, :, 0] *= g
        d[1:, :, 1] *= c[:-1]
        d[0, :, 1] = 0
        d[:, :, 2] *= i
        d[:, :, 3] *= tanh_c
        np.multiply(tanh_c, tanh_c, out=keep)
        np.subtract(1, keep, out=keep)
        np.multiply(keep, o, out=keep)
        W = V.T.copy()
        for G_t, d_t, keep_t, f_t in zip(p.G[::-1], d[::-1], keep[::-1], f[::-1], strict=True):
            np.add(G_t, dh, out=dh)
            np.multiply(dh, keep_t, out=write)
            np.add(dc, write, out=dc)
            np.multiply(d_t[:, :3], dc[:, None], out=d_t[:, :3])
            np.multiply(d_t[:, 3], dh, out=d_t[:, 3])
            np.matmul(d_t.reshape(N, 4 * H), W, out=dh)
            np.multiply(dc, f_t, out=dc)
        return after(x, h, d, U)

    return run


def hand_gru(p):
    (T, N, _, H), (U, V, b, b_n), x = p.size, p.weights, p.x
    scale = np.repeat(np.array([0.5, 0.5, 1], FLOAT), H)
    gates, d, hn, dh_all = new(T, N, 3, H), new(T, N, 3, H), new(T, N, H), new(T, N, H)
    (r, z, n), both = (gates[:, :, k] for k in range(3)), gates[:, :, :2]
    flat, product, difference, carry = rows(gates), new(N, 3, H), new(N, H), new(N, H)
    start = product.reshape(N, 3 * H), product[:, :2], product[:, 2]

    def run():
        h = new(T + 1, N, H)
        h[0] = carry[...] = 0
        np.matmul(rows(x), U * scale, out=flat)
        np.add(flat, b * scale, out=flat)
        W, (whole, two, third) = V * scale, start
        steps = zip(both, r, z, n, hn, h, h[1:], strict=False)
        for both_t, r_t, z_t, n_t, hn_t, h_old, h_new in steps:
            np.matmul(h_old, W, out=whole)
            np.add(both_t, two, out=both_t)
            np.tanh(both_t, out=both_t)
            np.multiply(both_t, 0.5, out=both_t)
            np.add(both_t, 0.5, out=both_t)
            np.add(third, b_n, out=hn_t)
            np.multiply(r_t, hn_t, out=difference)
            np.add(n_t, difference, out=n_t)
            np.tanh(n_t, out=n_t)
            np.subtract(h_old, n_t, out=difference)
            np.multiply(z_t, difference, out=difference)
            np.add(n_t, difference, out=h_new)
        candidate = (1 - z) * (1 - n * n)  # what dh is multiplied by on its way to each gate
        np.subtract(1, both, out=d[:, :, :2])
        np.multiply(d[:, :, :2], both, out=d[:, :, :2])
        np.multiply(candidate, r, out=d[:, :, 2])
        np.multiply(hn, candidate, out=hn)
        d[:, :, 0] *= hn
        d[:, :, 1] *= np.subtract(h[:-1], n, out=hn)
        W = V.T.copy()
        backwards = zip(p.G[::-1], d[::-1], z[::-1], dh_all[::-1], strict=True)
        for G_t, d_t, z_t, dh in backwards:
            np.add(G_t, carry, out=dh)
            np.multiply(d_t, dh[:, None], out=d_t)
            np.matmul(d_t.reshape(N, 3 * H), W, out=carry)
            np.multiply(dh, z_t, out=difference)
            np.add(carry, difference, out=carry)
        dV, db_n = rows(h[:-1]).T @ rows(d), d[:, :, 2].sum(axis=(0, 1))
        np.multiply(dh_all, candidate, out=d[:, :, 2])  # for x, r does not come in between
        dz = rows(d)
        return [(dz @ U.T).reshape(x.shape), rows(x).T @ dz, dV, dz.sum(axis=0), db_n]

    return run


def by_hand(p):
    makers = {"RNN": hand_rnn, "LSTM": hand_lstm, "GRU": hand_gru}
    return makers[p.kind.torch](p) if p.kind.torch else None


def gemms(p):
    """The products that no method can avoid, each in its fastest form: gates joined or stacked."""
    (T, N, C, H), k = p.size, p.kind.gates
    draw = lambda *shape: np.random.default_rng(0).normal(size=shape).astype(FLOAT)
    x, h, dz, stacked = rows(p.x), draw(T, N, H), draw(T, N, k * H), draw(T, k, N, H)
    flat, apart = rows(dz), draw(k, T * N, H)

    def product(a, b):
        out = np.matmul(a, b)
        return lambda: np.matmul(a, b, out=out)

    def loop(steps, b):
        out = np.matmul(steps[0], b)

        def run():
            for a in steps:
                np.matmul(a, b, out=out)

        return run

    choices = [
        (loop(h, draw(H, k * H)), loop(h, draw(k, H, H))),
        (loop(dz, draw(k * H, H)), loop(stacked, draw(k, H, H))),
        (product(x, draw(C, k * H)), product(x, draw(k, C, H))),
        (product(flat, draw(k * H, C)), product(apart, draw(k, H, C))),
        (product(x.T, flat), product(x.T, apart)),
        (product(rows(h).T, flat), product(rows(h).T, apart)),
    ]
    chosen = [min(forms, key=lambda run: min(seconds(run) for _ in range(4))) for forms in choices]

    def run():
        for form in chosen:
            form()

    return run


CONTENDERS = {  # and the package that each needs
    "scan": (ours, "numpy"),
    "plain loop": (plain, "numpy"),
    "torch.nn": (torch_nn, "torch"),
    "PyTorch loop": (torch_loop, "torch"),
    "jax.jit(lax.scan)": (jax_scan, "jax"),
    "MyGrad": (mygrad_loop, "mygrad"),
    "autograd": (autograd_loop, "autograd"),
    "by hand": (by_hand, "numpy"),
    "GEMMs alone": (gemms, "numpy"),
}


# ----- measuring ---------------------------------------------------------------------------------


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def check(runs):
    """All must return what the first does; also the first warm-up."""
    reference, *_ = results = [run() for run in runs.values()]
    for name, result in zip(runs, results, strict=True):
        for a, b in zip(result or (), reference if result else (), strict=True):
            bound = 1e-3 * np.abs(b).max()
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-3, atol=bound, err_msg=name)


def take_turns(runs, rounds, calls=1):
    """Seconds of each run, one figure for each round. Short runs are called several times in one
    turn, after one call that is not counted: the others have emptied the caches."""
    times, order, rng = {name: [] for name in runs}, list(runs), np.random.default_rng(0)
    gc.collect()
    gc.disable()
    for number in range(rounds + 1):  # the first is a warm-up
        rng.shuffle(order)
        for name in order:
            if calls > 1:
                runs[name]()
            start = time.perf_counter()
            for _ in range(calls):
                runs[name]()
            if number:
                times[name].append((time.perf_counter() - start) / calls)
        gc.collect(0)  # not every library frees its graphs without the collector
    gc.enable()
    return times


def summary(times):
    low, median, high = np.quantile(times, [0.1, 0.5, 0.9])
    return {"median": median, "spread": (high - low) / median, "seconds": list(times)}


def head(*names):
    print("\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))


def row(*values):
    print("| " + " | ".join(map(str, values)) + " |", flush=True)


def label(size):
    return ", ".join(map(str, size))


def compare(cells, sizes, quick):
    """Medians of scan in ms, the others' as times that; then all in ms, with their spread."""
    found, names, wide = {}, list(CONTENDERS), []
    for cell in cells:
        found[cell] = {}
        print(f"\n### {KINDS[cell].title}\n\nTimes as multiples of ours:")
        head("T, N, C, H", *names)
        for index in sizes:
            p = Problem(KINDS[cell], SIZES[index])
            runs = {name: make(p) for name, (make, _) in CONTENDERS.items()}
            runs = {name: run for name, run in runs.items() if run}
            check(runs)
            turns = take_turns(runs, *((3, 1) if quick else TURNS[index]))
            of = found[cell][index] = {name: summary(times) for name, times in turns.items()}
            for name in of.keys() & {"jax.jit(lax.scan)"}:
                of[name]["compile"] = runs[name].seconds[1]
            ratios = {name: s["median"] / of["scan"]["median"] for name, s in of.items()}
            texts = [f"{ratios[name]:.2f}x" if name in of else "" for name in names[1:]]
            row(label(p.size), f"{1e3 * of['scan']['median']:.3g} ms", *texts)
            del p, runs  # before the next are made
            gc.collect()
        print("\nMedians in ms, and from the 10 % to the 90 % quantile as a part of the median:")
        head("T, N, C, H", *names)
        for index, of in found[cell].items():
            texts = {n: f"{1e3 * s['median']:.3g}, {s['spread']:.0%}" for n, s in of.items()}
            row(label(SIZES[index]), *[texts.get(name, "") for name in names])
            at = f"{KINDS[cell].title} {label(SIZES[index])}"
            wide += [f"{at}: {n} {s['spread']:.0%}" for n, s in of.items() if s["spread"] > 0.3]
    print("\nSpread over 30 %:", "; ".join(wide) or "none")
    return found


def first_gradient(cells, sizes, quick):
    """Before a layer's first gradient: trace and emit (a first run less a later one), or XLA's
    tracing and lowering, and its compilation."""
    size, found = SIZES[1 if quick else 2], {}
    print(f"\n### Before the first gradient, {label(size)}, in ms")
    head("cell", "scan: trace, emit", "slowest of 5", "JAX: trace, lower", "XLA: compile", "ratio")
    for cell in cells[: 2 if quick else None]:
        p, mine = Problem(KINDS[cell], size), []
        gc.collect()
        gc.disable()
        for _ in range(5):  # fresh layers
            run = ours(p)
            mine.append(seconds(run) - min(seconds(run) for _ in range(4)))
        of = found[cell] = {"scan": mine, "typical": float(np.median(mine))}
        texts = [f"{1e3 * of['typical']:.1f}", f"{1e3 * max(mine):.1f}"]
        if "jax.jit(lax.scan)" in CONTENDERS:
            compilations = [jax_scan(p).seconds for _ in range(1 if quick else 3)]
            traced, compiled = np.median(compilations, axis=0)
            of |= {"traced": float(traced), "compiled": float(compiled)}
            ratio = of["ratio"] = float(compiled) / of["typical"]
            texts += [f"{1e3 * traced:.0f}", f"{1e3 * compiled:.0f}", f"{ratio:.0f}x"]
        gc.enable()
        row(KINDS[cell].title, *texts)
    return found


def ragged(cells, sizes, quick):
    """Lengths from 1 to T, evenly spread: half is padding."""
    if "torch.nn" not in CONTENDERS:
        return {}
    print("\n### A ragged batch, GRU, against packed torch.nn.GRU")
    head("T, N, C, H", "scan, lengths=", "pack, torch.nn.GRU, pad", "spreads")
    found = {}
    for index in [1] if quick else [1, 2]:
        p = Problem(KINDS["gru"], SIZES[index], ragged=True)
        runs = {"scan": ours(p), "packed": torch_nn(p)}
        check(runs)
        turns = take_turns(runs, *((3, 1) if quick else TURNS[index]))
        found[index] = of = {name: summary(t) for name, t in turns.items()}
        base, other = of["scan"]["median"], of["packed"]["median"]
        spreads = ", ".join(f"{s['spread']:.0%}" for s in of.values())
        row(label(p.size), f"{1e3 * base:.3g} ms", f"{other / base:.2f}x", spreads)
    return found


# ----- memory and growth ---------------------------------------------------------------------


def resident(field):
    """Bytes of this process now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def peak_of(cell, contender, size):
    """In a fresh process: bytes that the first run needs at its peak, beyond what is there before.

    Not ru_maxrss: a child inherits its parent's. What is loaded lazily is loaded by two steps."""
    make, _ = CONTENDERS[contender]
    make(Problem(KINDS[cell], (2, *size[1:])))()
    run = make(Problem(KINDS[cell], size))  # compiled, if it is
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is counted from here
    before = resident("VmRSS")
    run()
    print(resident("VmHWM") - before)


def memory(cells, sizes, quick):
    """Each contender in a process of its own; the collector is on, as it is for users."""
    size, found = SIZES[1 if quick else 4], {}
    if not os.access("/proc/self/clear_refs", os.W_OK):
        print("\nPeak memory: left out, since only Linux tells a process its own peak")
        return found
    names = [name for name in CONTENDERS if name not in ("MyGrad", "autograd", "GEMMs alone")]
    unit = math.prod(size) // size[2] * 4
    print(f"\n### Peak memory of one forward and backward, {label(size)}")
    print(f"\nMB; one array of outputs, T*N*H*itemsize, is {unit / 1e6:.1f} MB")
    head("cell", *names)
    cells = [cell for cell in cells if KINDS[cell].torch]
    for cell in cells[: 1 if quick else None]:
        found[cell] = {}
        for name in names:
            command = [sys.executable, __file__, "--peak-of", cell, name, *map(str, size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[cell][name] = int(done.stdout)
        row(KINDS[cell].title, *[f"{found[cell][name] / 1e6:.1f}" for name in names])
    return found


def growth(cells, sizes, quick):
    """Seconds and bytes as T grows tenfold; the collector is off."""
    print("\n### Growth of scan with T: GRU, N = 2, C = H = 16\n")
    print("Kept after forward, and the peak of forward and backward; in brackets: of a tenth of T")
    head("checkpoint", "T", "seconds", "kept, MB", "peak, MB")
    found = []
    for root in (False, True):
        last = 0, 0, 0
        for T in [100, 1_000] if quick else [100, 1_000, 10_000, 100_000]:
            k = math.isqrt(T) if root else None
            p = Problem(KINDS["gru"], (T, 2, 16, 16))
            rnn, x = tg.RNN(p.cell(), scan=True, checkpoint=k), tg.Tensor(p.x, requires_grad=True)
            rnn(tg.Tensor(p.x[:2], requires_grad=True)).outputs.backward(p.G[:2])  # traced now
            gc.collect()
            gc.disable()
            tracemalloc.start()  # before anything of this T has run, which might leave buffers
            outputs = rnn(x).outputs
            kept = tracemalloc.get_traced_memory()[0]
            outputs.backward(p.G)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            del outputs
            run = ours(p, checkpoint=k)
            run()
            took = float(np.median([seconds(run) for _ in range(5)]))
            gc.enable()
            now = took, kept / 1e6, peak / 1e6
            pairs = zip(now, last, strict=True)
            texts = [f"{a:.3g}" + (f" ({a / b:.1f}x)" if b else "") for a, b in pairs]
            row(f"k = {k}" if k else "no", f"{T:,}", *texts)
            found.append({"T": T, "checkpoint": k, "seconds": took, "kept": kept, "peak": peak})
            last = now
    return found


# ----- where the time goes -----------------------------------------------------------------------


def timed(text):
    """An emitted function's text with a clock around each line, and its time by kind."""
    found = []
    for line in text.splitlines():
        code = line.strip()
        indent = line[: len(line) - len(code)]
        kind = "loop" if len(indent) > 4 else "other"
        kind = "products" if "dot(" in code or "matmul(" in code else kind
        clocked = [
            f"{indent}_start = _clock()",
            line,
            f"{indent}_shares[{kind!r}] += _clock() - _start",
        ]
        found += [line] if not code or code.startswith(("def ", "for ")) else clocked
    return "\n".join(found)


def profile(cells, sizes, quick):
    """What part of a call is matrix products, calls in the loop, work on all steps, the rest."""
    print("\n### Where the time of scan goes (with a clock around each line), in percent\n")
    head("cell", "T, N, C, H", "products", "calls in the loop", "for all steps at once", "around")
    found = []
    for cell in [c for c in cells if c in ("rnn", "lstm", "gru")]:
        for k in sizes:
            p = Problem(KINDS[cell], SIZES[k])
            rnn, x = tg.RNN(p.cell(), scan=True), tg.Tensor(p.x, requires_grad=True)
            call = lambda rnn=rnn, x=x, p=p: rnn(x).outputs.backward(p.G)
            call()
            shares = dict.fromkeys(("products", "loop", "other"), 0.0)
            plan = rnn.traced.plan(rnn.name)
            for half in (plan.first, plan.second):
                scope = half.scope | {"_shares": shares, "_clock": time.perf_counter}
                exec(timed(half.block_text), scope)
                half.block = scope["_block"]
            call()
            shares.update(dict.fromkeys(shares, 0.0))
            total = sum(seconds(call) for _ in range(3 if quick else 15))
            parts = [*shares.values(), total - sum(shares.values())]
            row(KINDS[cell].title, label(SIZES[k]), *[f"{100 * a / total:.0f}" for a in parts])
            found.append({"cell": cell, "size": SIZES[k], "parts": parts})
    return found


# ----- what was aimed at -------------------------------------------------------------------------

AIMS = [  # against whom, cell, and for each size: their time / scan's time is at least
    ("torch.nn", "rnn", [2.0] * 5),
    ("torch.nn", "gru", [1.8] * 5),
    ("torch.nn", "lstm", [1.0, 0.95, 0.85, 0.9, 1.2]),
    *[("PyTorch loop", cell, [2.0] * 5) for cell in KINDS],
    ("GEMMs alone", "rnn", [None, None, 0.75, 0.9, 0.75]),
    *[("GEMMs alone", cell, [None, None, 0.65, 0.9, 0.65]) for cell in ("lstm", "gru")],
    *[("by hand", cell, [0.8, 1.0, 1.0, 1.0, 1.0]) for cell in ("rnn", "lstm", "gru")],
]


def aims(found):
    """The table of what was aimed at and what is reached, of all that was measured."""
    print("\n### Aimed at, and reached\n\nRatios: their time / scan's, sizes in the order above.")
    head("scan against", "cell", "aimed at", "reached", "met")
    result, times = [], found.get("times", {})

    def tell(who, cell, aimed, reached, shown="{:.2f}"):
        texts = [" / ".join(shown.format(a) for a in values) for values in (aimed, reached)]
        met = all(r >= a for a, r in zip(aimed, reached, strict=True))
        row(who, cell, *texts, "yes" if met else "no")
        result.append({"who": who, "cell": cell, "aimed": aimed, "reached": reached, "met": met})

    def ratios(who, cell, wanted):
        of = times.get(cell, {})
        pairs = [(i, of[i][who]["median"] / of[i]["scan"]["median"]) for i in of if who in of[i]]
        return {i: ratio for i, ratio in pairs if wanted[i] is not None}

    for who, cell, wanted in AIMS:
        reached = ratios(who, cell, wanted)
        if reached:
            tell(who, KINDS[cell].title, [wanted[i] for i in reached], list(reached.values()))
    who, mean = "jax.jit(lax.scan)", lambda values: math.exp(np.mean(np.log(values)))
    four = [None, 1.0, 1.0, 1.0, 1.0]
    by_cell = [[*ratios(who, cell, four).values()] for cell in ("rnn", "lstm")]
    for title, values in zip(("tanh RNN", "LSTM"), by_cell, strict=True):
        if values:
            tell(f"{who}, geometric mean of {len(values)} sizes", title, [1.0], [mean(values)])
    if all(by_cell):
        tell(f"{who}, geometric mean", "both", [1.0], [mean(by_cell[0] + by_cell[1])])
    for cell, of in found.get("first", {}).items():
        if "ratio" in of:
            tell("XLA's compile time", KINDS[cell].title, [50], [of["ratio"]], "{:.0f}")
    packed = [s["packed"]["median"] / s["scan"]["median"] for s in found.get("ragged", {}).values()]
    if packed:
        tell("packed torch.nn.GRU, ragged", "GRU", [2.0] * len(packed), packed)
    return result


# "first" comes first: nothing has been traced or compiled yet, and "slowest" shows what that adds
PARTS = {"first": first_gradient, "times": compare, "ragged": ragged}
PARTS |= {"memory": memory, "growth": growth, "profile": profile}


def machine():
    """What the figures depend on."""
    cpu = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    packages = sorted({"numpy"} | {package for _, package in CONTENDERS.values()})
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
        "blas": {k: v for k, v in os.environ.items() if k.startswith("OPENBLAS")},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds of two small sizes")
    parser.add_argument("--cells", default=",".join(KINDS), help="default: %(default)s")
    parser.add_argument("--sizes", help=f"indices, from 0, of {SIZES}")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write everything measured")
    parser.add_argument("--peak-of", nargs=6, help=argparse.SUPPRESS)  # used by memory()
    args = parser.parse_args()
    if args.peak_of:
        cell, contender, *size = args.peak_of
        return peak_of(cell, contender, tuple(map(int, size)))
    for name, (_, package) in list(CONTENDERS.items()):
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed, skipped")
            del CONTENDERS[name]
    if "OPENBLAS_CORETYPE" in os.environ:
        print("Warning: OPENBLAS_CORETYPE is set, which forces a BLAS kernel, maybe a slower one")
    sizes = args.sizes or ("0,1" if args.quick else ",".join(map(str, range(len(SIZES)))))
    sizes = [int(index) for index in sizes.split(",")]
    found = {"machine": machine(), "sizes": SIZES}
    print(*[f"{key}: {value}" for key, value in found["machine"].items()], sep="\n")
    for part in args.parts.split(","):
        found[part] = PARTS[part](args.cells.split(","), sizes, args.quick)
    found["aims"] = aims(found)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
