"""Sunspots: how many will there be next year?

Task: many-to-many, forecasting: from each year's sunspot number to that of the next year
Data: yearly numbers 1700-2008, public domain (NOAA, as in statsmodels): `data/sunspots.csv`, 3 KB
Expect: mean squared error / variance 1700-1979, in 1712-1920 (training), 1921-1955, 1956-1979:
    0.082, 0.105, 0.36. Linear, of 12 years, published and here: 0.132, 0.130, 0.37; a network of
    12 years (Weigend 1990): 0.082, 0.086, 0.35. PyTorch, the same task, seeds 0 / 1 / 2: 0.081 /
    0.083 / 0.084, 0.103 / 0.099 / 0.098, 0.360 / 0.333 / 0.326
Time: 2 s

    python examples/sunspots.py
    python examples/sunspots.py --quick    # a few steps, for tests

220 years are soon learnt by heart: without the weight decay below, the errors are 0.03 in training
and 0.6 and 1.9 in the tests. How much decay, how many steps, GRU or RNN, and the square root were
chosen on years before 1921 alone: each fifth of them held out in turn, and the 40 years after 1840
and after 1880 forecast from what preceded them. (Of earlier recipes the test years had
been seen by then; 1980-2008 had not.) 1957 is hard for all: never were there so many.
"""

# %%
from common import finish, options  # sets the number of threads: before NumPy

# isort: split
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.charts import lines

HIDDEN, STEPS, DECAY, TRAINING = 16, 500, 0.004, 1920
# Training, the two tests of the literature, and what came after it.
SPANS = [(1712, 1920), (1921, 1955), (1956, 1979), (1980, 2008)]


# %% The data, as the network sees them. The square root (Ghaddar and Tong 1981) makes errors at
# high and at low maxima alike; then mean 0 and deviation 1 in the training years.
def read():
    """The years, and the number of sunspots in each."""
    path = Path(__file__).parent / "data" / "sunspots.csv"
    years, numbers = np.loadtxt(path, delimiter=",").T
    return years.astype(int), numbers


class Scale:
    """There, and back."""

    def __init__(self, numbers):
        roots = np.sqrt(numbers + 1)
        self.mean, self.deviation = roots.mean(), roots.std()

    def there(self, numbers):
        return (np.sqrt(numbers + 1) - self.mean) / self.deviation

    def back(self, x):
        return np.maximum(self.mean + self.deviation * x, 1) ** 2 - 1


def relative_variance(years, numbers, forecast):
    """The measure of the literature: mean squared error / variance 1700-1979, for each span.

    0 is perfect, 1 is what always telling the mean gives. `forecast` begins with the second year.
    """
    squares = (forecast - numbers[1:]) ** 2 / numbers[years <= 1979].var()
    return {
        f"{first}-{last}": squares[(years[1:] >= first) & (years[1:] <= last)].mean()
        for first, last in SPANS
    }


# %% The network runs along all years. After each it tells the next, and then sees what really came.
class Forecaster(tg.Module):
    def __init__(self, rng):
        self.rnn = tg.RNN(tg.GRUCell(1, HIDDEN, rng=rng), scan=True)
        self.readout = tg.Linear(HIDDEN, 1, rng=rng)

    def __call__(self, x):
        return self.readout(self.rnn(x).outputs)


def train(network, x, steps):
    def loss(x):
        # large weights, which only fit single years, cost something
        decay = sum((p**2).sum() for p in network.parameters())
        return tg.mse(network(x[:-1]), x[1:]) + DECAY * decay

    tg.fit(loss, [x], tg.Adam(network.parameters(), lr=0.005), steps, clip=1.0)


def linear(years, numbers, order=12):
    """What is to be beaten: next year as a weighted sum of the last twelve (least squares)."""
    past = np.lib.stride_tricks.sliding_window_view(numbers[:-1], order)
    past = np.column_stack([past, np.ones(len(past))])
    known = years[order:] <= TRAINING
    weights = np.linalg.lstsq(past[known], numbers[order:][known], rcond=None)[0]
    return np.concatenate([numbers[: order - 1], past @ weights])


# %% Learn from the years until 1920, then tell each year before it comes.
if __name__ == "__main__":  # benchmarks/torch_real_data.py imports what is above
    given = options(__doc__)
    years, numbers = read()
    scale = Scale(numbers[years <= TRAINING])
    x = scale.there(numbers)[:, None]  # (T, 1): one long sequence
    network = Forecaster(np.random.default_rng(given.seed))
    train(network, x[years <= TRAINING], 5 if given.quick else STEPS)
    with tg.no_grad():
        forecast = scale.back(network(x[:-1]).data[:, 0])

    for way, told in {"as this year": numbers[:-1], "linear": linear(years, numbers)}.items():
        errors = relative_variance(years, numbers, told)
        print(f"{way}: " + ", ".join(f"{span} {error:.3f}" for span, error in errors.items()))
    title = f"Sunspots from 1900 on, and what was told a year before (learnt until {TRAINING})"
    shown = years[1:] >= 1900
    curves = {"sunspots": numbers[1:][shown], "told a year before": forecast[shown]}
    picture = lines(curves, title, "years after 1900", "sunspots")
    finish(picture, given.out / "sunspots.svg", **relative_variance(years, numbers, forecast))
