"""The smallest relative error of a gradient that each gradient checker catches, side by side.

    pip install -e '.[bench]'
    python benchmarks/smallest_error.py             # a minute and a half; one thread
    python benchmarks/smallest_error.py --quick     # a few seconds, to see that it runs

f = tanh on R^N has a VJP of its own in each library, wrong by the relative error e: in all
elements, or in one. Each seed draws x from N(0, 1), and which element is wrong. Of e = 10, 1, 0.1,
..., 1e-11 the table has the smallest that is caught with every seed, and with half of them: an
unlucky seed puts the error where the gradient is nearly 0, and little of it is to be seen. A check
that refuses right gradients is no judge, so false alarms at e = 0 are counted too. Peers run with
the tolerances they come with; one that is not installed is named with the line to get it.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import statistics
import time

for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # before NumPy is imported
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import testing

SIZES = (10, 100, 400)
DECADES = range(1, -12, -1)  # errors of 10, 1, 0.1, ..., 1e-11


# ----- tanh with a gradient of one's own, and the check, in each library -------------------------
# Each gives make(factor) -> f, whose gradient is the right one times factor, and
# caught(f, x, seed) -> whether the check refuses f's gradient at x.


def refuses(check, *args, **options):
    """Whether a check raises; AssertionError is what all but PyTorch's raise."""
    try:
        check(*args, **options)
    except AssertionError:
        return True
    return False


def ours(**options):
    def make(factor):
        f = tg.primitive(lambda x: np.tanh(x))
        tg.defvjp(f, lambda g, out: g * (1 - out * out) * factor)
        return f

    return make, lambda f, x, seed: refuses(testing.check_grads, f, x, seed=seed, **options)


def pytorch(**options):
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)

    def make(factor):
        factor = torch.tensor(factor)

        class Tanh(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                out = torch.tanh(x)
                ctx.save_for_backward(out)
                return out

            @staticmethod
            def backward(ctx, g):
                (out,) = ctx.saved_tensors
                return g * (1 - out * out) * factor

        return Tanh.apply

    def caught(f, x, seed):
        torch.manual_seed(seed)
        x = torch.tensor(x, requires_grad=True)
        return not torch.autograd.gradcheck(f, x, raise_exception=False, **options)

    return make, caught


def jax():
    jax, numpy, test_util = map(importlib.import_module, ("jax", "jax.numpy", "jax.test_util"))
    jax.config.update("jax_enable_x64", True)

    def make(factor):
        f = jax.custom_vjp(numpy.tanh)

        def forward(x):
            out = numpy.tanh(x)
            return out, out

        f.defvjp(forward, lambda out, g: (g * (1 - out * out) * factor,))
        return f

    def caught(f, x, seed):  # its random numbers are the same in each call
        x = numpy.asarray(x)
        return refuses(test_util.check_grads, f, (x,), order=1, modes=("rev",))

    return make, caught


def autograd():
    extend, test_util = map(importlib.import_module, ("autograd.extend", "autograd.test_util"))

    def make(factor):
        f = extend.primitive(lambda x: np.tanh(x))
        extend.defvjp(f, lambda out, x: lambda g: g * (1 - out * out) * factor)
        return f

    def caught(f, x, seed):
        np.random.seed(seed)  # noqa: NPY002 (it draws from the global generator)
        return refuses(test_util.check_grads(f, modes=["rev"], order=1), x)

    return make, caught


CHECKERS = {
    "tinygrad_rnn check_grads": (ours, {}),
    "  rtol=1e-11": (ours, {"rtol": 1e-11}),
    "torch gradcheck": (pytorch, {}),
    "  rtol=1e-8, atol=1e-10": (pytorch, {"rtol": 1e-8, "atol": 1e-10}),
    "  fast_mode=True": (pytorch, {"fast_mode": True}),
    "jax check_grads, rev": (jax, {}),
    "autograd check_grads, rev": (autograd, {}),
}
PIP = {pytorch: "torch", jax: "jax", autograd: "autograd"}


# ----- the search --------------------------------------------------------------------------------


def problem(size, seed, error, everywhere):
    """x, and by what the gradient is multiplied."""
    rng = np.random.default_rng((size, seed))
    x = rng.normal(size=size)
    factor = np.ones(size)
    factor[... if everywhere else rng.integers(size)] += error
    return x, factor


def smallest(make, caught, size, everywhere, seed):
    """The last decade, from the largest error down, that is caught with this seed."""
    last = DECADES[0] + 1  # not even the largest
    for decade in DECADES:
        x, factor = problem(size, seed, 10.0**decade, everywhere)
        if not caught(make(factor), x, seed):
            return last
        last = decade
    return last


def shown(decade):
    return f"{f'1e{decade:+03d}' if decade in DECADES else '> 10':>9}"


def false_alarms(make, caught, seeds):
    """How often a right gradient is refused, of how often."""
    found = []
    for size in SIZES:
        for seed in range(seeds):
            x, factor = problem(size, seed, 0.0, True)
            found.append(caught(make(factor), x, seed))
    return f"{sum(found)}/{len(found)}"


def milliseconds(make, caught, rounds):
    """The median time of a check of a right gradient at the largest size."""
    times = []
    for seed in range(rounds + 1):  # the first is a warm-up
        x, factor = problem(SIZES[-1], seed, 0.0, True)
        f = make(factor)
        start = time.perf_counter()
        caught(f, x, seed)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main(seeds, rounds):
    heads = [f"N={size}" for size in SIZES] * 2 + ["alarms", f"N={SIZES[-1]}"]
    print(f"{'':26}{'all elements wrong':>27}{'one element wrong':>27}{'false':>9}{'ms at':>9}")
    print(f"{'':26}" + "".join(f"{head:>9}" for head in heads))
    for name, (library, options) in CHECKERS.items():
        print(f"{name:26}", end="", flush=True)
        try:
            checker = library(**options)
        except ImportError:
            print(f"  not installed: pip install {PIP[library]}")
            continue
        halves = []
        for everywhere in (True, False):
            for size in SIZES:
                found = [smallest(*checker, size, everywhere, seed) for seed in range(seeds)]
                halves.append(shown(statistics.median_high(found)))
                print(shown(max(found)), end="", flush=True)
        print(f"{false_alarms(*checker, seeds):>9}", end="", flush=True)
        print(f"{milliseconds(*checker, rounds):9.2f}")
        print(f"{'    with half of the seeds':26}" + "".join(halves))
    print(f"\nf = tanh, x from N(0, 1), {seeds} seeds; '> 10': not even an error of 10 is caught")
    print("alarms: right gradients refused; ms: median time of a check of a right gradient")
    print(f"Python {platform.python_version()}", end="")
    for package in ("tinygrad-rnn", "numpy", *PIP.values()):
        try:
            print(f", {package} {importlib.metadata.version(package)}", end="")
        except importlib.metadata.PackageNotFoundError:
            print(f", {package} not installed", end="")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    main(*(2, 3) if quick else (20, 20))
