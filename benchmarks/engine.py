"""The engine's figures: the eager tape against its peers, growth, memory.

    pip install -e '.[bench]'
    python benchmarks/engine.py             # half a minute; one thread, whatever the machine has
    python benchmarks/engine.py --quick     # a few seconds, to see that it runs

Peers that are not installed are skipped with a word. All libraries run the same tanh RNN, written
as a plain loop in each one's own operations, forward and backward with respect to U, V and b, in
float32. They take turns within one run; the table has medians, and ratios to this package.
"""

import argparse
import gc
import importlib
import os
import statistics
import time
import tracemalloc

for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # before NumPy is imported

import numpy as np

import tinygrad_rnn as tg

SIZES = [(50, 1, 16, 16), (50, 16, 32, 64), (100, 32, 64, 128)]  # T, N, C, H


def problem(T, N, C, H):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return (
        draw(T, N, C),
        draw(C, H) / C**0.5,
        draw(H, H) / H**0.5,
        draw(H),
        np.zeros((N, H), np.float32),
    )


# ----- one tanh RNN in each library ------------------------------------------------------------


def ours(T, N, C, H):
    x, *weights, h0 = problem(T, N, C, H)
    x, h0 = tg.Tensor(x), tg.Tensor(h0)
    U, V, b = (tg.Tensor(w, requires_grad=True) for w in weights)

    def run():
        h, outputs = h0, []
        for x_t in x:
            h = np.tanh(x_t @ U + h @ V + b)
            outputs.append(h)
        np.stack(outputs).sum().backward()
        grads = U.grad, V.grad, b.grad
        U.grad = V.grad = b.grad = None
        return grads

    return run


def layer(T, N, C, H):
    """RNN(RNNCell): the loop of the library, with its checks."""
    x, U, V, b, _ = problem(T, N, C, H)
    rnn = tg.RNN(tg.RNNCell(C, H, rng=0, dtype=np.float32))
    rnn.cell.U.data, rnn.cell.V.data, rnn.cell.b.data = U, V, b
    x = tg.Tensor(x)

    def run():
        rnn(x).outputs.sum().backward()
        grads = [p.grad for p in rnn.parameters()]
        rnn.zero_grad()
        return grads

    return run


def torch_loop(T, N, C, H):
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    x, *weights, h0 = problem(T, N, C, H)
    x, h0 = torch.tensor(x), torch.tensor(h0)
    U, V, b = (torch.tensor(w, requires_grad=True) for w in weights)

    def run():
        h, outputs = h0, []
        for x_t in x:
            h = torch.tanh(x_t @ U + h @ V + b)
            outputs.append(h)
        torch.stack(outputs).sum().backward()
        grads = U.grad.numpy(), V.grad.numpy(), b.grad.numpy()
        U.grad = V.grad = b.grad = None
        return grads

    return run


def mygrad_loop(T, N, C, H):
    mg = importlib.import_module("mygrad")
    x, *weights, h0 = problem(T, N, C, H)

    def run():
        U, V, b = (mg.tensor(w) for w in weights)
        h, outputs = mg.tensor(h0, constant=True), []
        for x_t in x:
            h = mg.tanh(x_t @ U + h @ V + b)
            outputs.append(h)
        mg.stack(outputs).sum().backward()
        return U.grad, V.grad, b.grad

    return run


def autograd_loop(T, N, C, H):
    numpy, grad = (importlib.import_module(name) for name in ("autograd.numpy", "autograd"))
    x, *weights, h0 = problem(T, N, C, H)

    def loss(weights):
        U, V, b = weights
        h, outputs = h0, []
        for x_t in x:
            h = numpy.tanh(numpy.dot(x_t, U) + numpy.dot(h, V) + b)
            outputs.append(h)
        return numpy.sum(numpy.stack(outputs))

    gradient = grad.grad(loss)
    return lambda: gradient(tuple(weights))


LIBRARIES = {
    "tinygrad_rnn": ours,
    "RNN(RNNCell)": layer,
    "PyTorch loop": torch_loop,
    "MyGrad": mygrad_loop,
    "autograd": autograd_loop,
}


def compare(rounds):
    """Medians in ms; peers' as times ours."""
    available = {}
    for name, make in LIBRARIES.items():
        try:
            make(1, 1, 1, 1)()
            available[name] = make
        except ImportError as error:
            print(f"{name}: not installed ({error.name}), skipped")
    print("\n| T, N, C, H | " + " | ".join(available) + " |")
    print("|---" * (len(available) + 1) + "|")
    for size in SIZES:
        runs = {name: make(*size) for name, make in available.items()}
        reference = runs["tinygrad_rnn"]()
        for name, run in runs.items():  # also a warm-up, and all must compute the same
            for a, b in zip(run(), reference, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3, err_msg=name)
        times = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(t) for name, t in times.items()}
        base = medians["tinygrad_rnn"]
        cells = [f"{1e3 * base:.2f} ms"]
        cells += [f"{medians[n] / base:.2f}x" for n in available if n != "tinygrad_rnn"]
        print(f"| {', '.join(map(str, size))} | " + " | ".join(cells) + " |")


# ----- growth and memory -----------------------------------------------------------------------


def chain(n):
    x = tg.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(n):
        y = y * 1.0
    y.backward()
    assert x.grad == 1.0


def indexed(n):
    x = tg.Tensor(np.ones((n, 2)), requires_grad=True)
    h = 0.0
    for t in range(n):
        h = h * 0.5 + x[t]
    h.sum().backward()
    assert x.grad[-1, 0] == 1.0


def iterated(n):
    x = tg.Tensor(np.ones((n, 2)), requires_grad=True)
    h = 0.0
    for x_t in x:
        h = h * 0.5 + x_t
    h.sum().backward()
    assert x.grad[-1, 0] == 1.0


def growth(quick):
    """Seconds as n grows tenfold, and what is left in memory; the collector is off."""
    print("\n| program | n | seconds | of the tenth of n | bytes left |")
    print("|---|---|---|---|---|")
    gc.collect()
    gc.disable()
    for name, program, largest in [
        ("chain of n multiplications", chain, 1_000_000),
        ("x[t] for t in range(n)", indexed, 100_000),
        ("for x_t in x", iterated, 100_000),
    ]:
        last = None
        for n in [largest // 100, largest // 10] + ([] if quick else [largest]):
            start = time.perf_counter()
            program(n)
            seconds = time.perf_counter() - start
            tracemalloc.start()
            program(n // 100)
            before = tracemalloc.get_traced_memory()[0]
            program(n // 100)
            left = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            ratio = f"{seconds / last:.1f}x" if last else ""
            print(f"| {name} | {n:,} | {seconds:.3f} | {ratio} | {left} |")
            last = seconds
    gc.enable()


def kept(select, T=50, N=32, H=256, lengths=None):
    """Bytes that a forward pass leaves behind, in units of T * N * H * itemsize."""
    x = problem(T, N, 8, H)[0]
    rnn = tg.RNN(tg.RNNCell(8, H, rng=0, dtype=np.float32))
    x = tg.Tensor(x)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = select(rnn(x, lengths=lengths))
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert result is not None
    return size / (T * N * H * 4)


def memory():
    print("\n| kept after forward, tanh RNN, T=50, N=32, H=256 | of T*N*H*itemsize |")
    print("|---|---|")
    half = np.linspace(0, 50, 32).astype(int)
    print(f"| the last state only | {kept(lambda out: out.last):.2f} |")
    print(f"| all outputs | {kept(lambda out: out):.2f} |")
    print(f"| all outputs, ragged lengths | {kept(lambda out: out, lengths=half):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    compare(3 if quick else 40)
    growth(quick)
    memory()
