"""MyGrad's one recurrent layer, a GRU compiled by Numba, against the traced loop of the same cell.

    pip install mygrad numba scipy
    python benchmarks/mygrad_gru.py          # half a minute; one thread

Forward and backward with the gradients of x and of every weight, float32. What both return is
compared first. They take turns; medians, and the ratio of each pair's median.
"""

import os
import statistics
import time

for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM", "NUMBA"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # before NumPy is imported

import mygrad
import numpy as np
from mygrad.nnet.layers.gru import gru

import tinygrad_rnn as tg

SIZES = [(50, 1, 16, 16), (50, 16, 32, 64), (100, 32, 64, 128)]  # T, N, C, H
REPEAT = 30


def contenders(T, N, C, H):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, N, C)).astype(np.float32)
    G = rng.normal(size=(T, N, H)).astype(np.float32)
    rnn = tg.RNN(tg.GRUCell(C, H, reset_after=False, rng=rng, dtype=np.float32), scan=True)
    cell = rnn.cell
    parts = [np.split(p.data, 3, axis=-1) for p in (cell.U, cell.V, cell.b)]
    order = [cell.gates.index(gate) for gate in ("z", "r", "n")]
    weights = [np.ascontiguousarray(part[k]) for k in order for part in parts]

    def ours():
        inputs = [tg.Tensor(x, requires_grad=True), *rnn.parameters()]
        dx, dU, dV, db = tg.grad(rnn(inputs[0]).outputs, inputs, G)
        parts = [np.split(d.data, 3, axis=-1) for d in (dU, dV, db)]
        return [dx.data, *[part[k] for k in order for part in parts]]

    def theirs():
        inputs = [mygrad.tensor(a) for a in (x, *weights)]
        gru(*inputs)[1:].backward(G)  # [0] is the state before the first step
        return [t.grad for t in inputs]

    return ours, theirs


def main():
    print(f"mygrad {mygrad.__version__}, NumPy {np.__version__}")
    for size in SIZES:
        runs = contenders(*size)
        for a, b in zip(*(run() for run in runs), strict=True):
            assert np.abs(a - b).max() < 1e-3 * np.abs(a).max(), "they compute different gradients"
        seconds = [[], []]
        for _ in range(REPEAT):
            for run, found in zip(runs, seconds, strict=True):
                start = time.perf_counter()
                run()
                found.append(time.perf_counter() - start)
        ours, theirs = map(statistics.median, seconds)
        print(f"{size}: scan {1e3 * ours:.2f} ms, MyGrad's layer {theirs / ours:.2f} times as long")


if __name__ == "__main__":
    main()
