"""How exact backpropagation through time is: every parameter's gradient after T = 50 steps.

    python benchmarks/bptt_figures.py                    # a minute; one thread
    python benchmarks/bptt_figures.py --cells RNNCell    # a part of it

The gradient of a random weighting of all outputs and the last state, in RNN and BiRNN, against two
numeric derivatives that know nothing of the engine: the ladder of differences (relative error at
most 1e-10) and the complex step, which has no rounding of its own (at most 1e-12). The error is
that of the worst element, relative to the largest element of that parameter's gradient. The exit
status is 1 where one is beyond its limit, or where a derivative could not be known.
"""

import argparse
import os
import sys

for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # before NumPy is imported

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import testing

STEPS, BATCH, INPUTS, HIDDEN = 50, 2, 3, 4
LIMITS = {"ladder": 1e-10, "complex": 1e-12}
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]


def layers(name, rng):
    """A cell in both layers, with biases that are not 0."""
    for kind, count in ((tg.RNN, 1), (tg.BiRNN, 2)):
        cells = [getattr(tg, name)(INPUTS, HIDDEN, rng=rng) for _ in range(count)]
        for p in [p for cell in cells for p in cell.parameters() if p.ndim == 1]:
            p.data = p.data + rng.normal(size=p.shape) / 2
        yield f"{kind.__name__}({name})", kind(*cells)


def errors(layer, x, oracle, seed):
    """The worst relative error of each parameter; infinite where the check does not pass."""

    def run(x):
        out = layer(x)
        return out.outputs, out.state

    how = {"oracle": oracle, "directions": "all", "seed": seed}
    report = testing.grad_report(run, x, wrt=[layer], **how)
    worst = {}
    for name in layer.named_parameters():
        own = [f for f in report.findings if f.argument == f"layer.{name}"]
        sure = own and all(f.verdict == "PASS" for f in own)
        worst[name] = max(f.error for f in own) if sure else np.inf
    return worst, report


def main(cells, steps, seed):
    """Print the table; how many errors are beyond their limits."""
    beyond, rng = 0, np.random.default_rng(seed)
    print(f"T = {steps}, N = {BATCH}, C = {INPUTS}, H = {HIDDEN}; relative errors of gradients\n")
    print(f"{'':36}" + "".join(f"{oracle:>12}" for oracle in LIMITS))
    for cell in cells:
        for name, layer in layers(cell, rng):
            x = rng.normal(size=(steps, BATCH, INPUTS))
            found = {oracle: errors(layer, x, oracle, seed) for oracle in LIMITS}
            for parameter in layer.named_parameters():
                row = f"{name + ' ' + parameter:36}"
                for oracle, limit in LIMITS.items():
                    error = found[oracle][0][parameter]
                    beyond += not error <= limit
                    row += f"{error:10.1e}" + ("  " if error <= limit else " !")
                print(row.rstrip(), flush=True)
            for _, report in found.values():
                if not report.ok:
                    print(report.text())
    limits = ", ".join(f"{oracle} {limit:g}" for oracle, limit in LIMITS.items())
    print(f"\nbeyond the limits ({limits}): {beyond}")
    return beyond


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=CELLS, choices=CELLS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(1 if main(options.cells, options.steps, options.seed) else 0)
