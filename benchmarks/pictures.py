"""How long a picture of a long network takes: `python benchmarks/pictures.py`.

Recording the network is not counted. The page is the HTML that steps through it.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy is imported

import argparse
import statistics
import time

import numpy as np

import tinygrad_rnn as tg


def networks(steps):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, 2, 8))
    cells = [cell(8, 16, rng=rng) for cell in (tg.RNNCell, tg.GRUCell, tg.LSTMCell, tg.LSTMCell)]
    upper = tg.GRUCell(16, 16, rng=rng)
    yield "RNN", tg.RNN(cells[0]), x
    yield "GRU, scan", tg.RNN(cells[1], scan=True), x
    yield "BiRNN of LSTMs", tg.BiRNN(*cells[2:]), x
    yield "LSTM below GRU", tg.Chain(tg.RNN(cells[2]), tg.RNN(upper)), x


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print("| network | T | draw, s | SVG, KB | page, KB | contributions, s |")
    print("|---|---|---|---|---|---|")
    for name, layer, x in networks(options.steps):
        loss = (layer(x).outputs ** 2).sum()
        times, sums = [], []
        for _ in range(options.repeat):
            start = time.perf_counter()
            figure = tg.draw(loss)
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
            tg.contributions(loss, layer.parameters()[1])
            sums.append(time.perf_counter() - start)
        sizes = f"{len(figure.svg) / 1000:.0f} | {len(figure.html) / 1000:.0f}"
        seconds = f"{statistics.median(times):.2f} | {sizes} | {statistics.median(sums):.2f}"
        print(f"| {name} | {options.steps} | {seconds} |")


if __name__ == "__main__":
    main()
