"""Long memory: three classics, whose answers lie many steps back.

Task: many-to-one: the sum of two marked numbers among 50 (adding), the order of three letters
    among 50 (temporal order). Many-to-many, ragged: the next letter of a word (embedded Reber)
Data: generated; Hochreiter and Schmidhuber 1997, experiments 4, 6b and 1, the first two shortened
Expect: adding, mean squared error: at most 0.002 with LSTM and GRU, 0.15 or more with the vanilla
    RNN (0.167: always the mean). Temporal order: at least 0.99 right, with the RNN at most 0.4
    (chance: 1/8). Reber: 1.00, with the RNN, too. PyTorch, the same: adding RNN 0.16, LSTM 0.002
    to 0.004, GRU 0.0002; order RNN 0.1 to 0.3, LSTM 0.1, GRU 1.00; Reber 1.00. (Its LSTM learns the
    order, too, if it starts as here: V orthogonal, the forget gate's bias 1)
Time: 30 s

    python examples/long_memory.py
    python examples/long_memory.py --quick    # a few steps, for tests

Why does the RNN fail, and where? A change of its state is multiplied by tanh'(...) V at each step:
what it was 40 steps ago hardly matters at the end, and hardly gets a gradient. LSTM and GRU have a
second way, on which a gate multiplies, and a gate can learn to stay open. The picture shows both: a
new GRU forgets faster than a new RNN, but then it learns to keep, and the RNN does not.

In a Reber word the second letter comes back after 6 to 20 steps mostly, and the RNN learns that.
Nor are 50 steps impossible for it, only slow: with 8000 updates and a rate that falls from 0.001 to
0 its error in the adding problem gets to 0.01. Of 200 steps it learns nothing in 6000 such updates
(0.164), where 2000 updates at a rate of 0.01 bring LSTM and GRU to 0.0005 and 0.0003.
"""

# %%
from common import finish, options  # sets the number of threads: before NumPy

# isort: split
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.charts import lines

HIDDEN, STEPS, SIZE = 32, 50, 32  # units, the length of a sequence, sequences in a batch


# %% The tasks. Each draws a batch: x (T, N, C), the answers, and lengths where they differ.
def adding(rng, size=SIZE):
    """Numbers in [0, 1), and beside them a mark at one in each half: what is the sum of the two?"""
    x = np.stack([rng.random((STEPS, size)), np.zeros((STEPS, size))], axis=-1)
    first = rng.integers(0, STEPS // 2, size)
    second = rng.integers(STEPS // 2, STEPS, size)
    n = np.arange(size)
    x[first, n, 1] = x[second, n, 1] = 1
    return x, x[first, n, :1] + x[second, n, :1], None


def temporal_order(rng, size=SIZE):
    """Three letters X or Y among many of a, b, c, d: is it XXX, XXY, XYX, ... or YYY?"""
    letters, answer, n = rng.integers(0, 4, (STEPS, size)), np.zeros(size, int), np.arange(size)
    for tenth in (1, 3, 6):  # between the steps 5 and 10, 15 and 20, 30 and 35
        t = rng.integers(tenth * STEPS // 10, (tenth + 1) * STEPS // 10 + 1, size)
        y = rng.integers(0, 2, size)
        letters[t, n] = 4 + y
        answer = 2 * answer + y
    return np.eye(6)[letters], answer, None


# From each node two arrows: (letter, next node), or (letter, next node). Node 5 is the end.
REBER = [("T1", "P2"), ("S1", "X3"), ("T2", "V4"), ("X2", "S5"), ("P3", "V5")]


def embedded_reber(rng, size=SIZE):
    """BT BTXSE TE, BP BPVVE PE, ...: the second letter comes back at the end. Which is next?"""
    words = []
    for outer in rng.choice(["T", "P"], size):
        word, node = "", 0
        while node < 5:
            letter, after = REBER[node][rng.integers(2)]
            word, node = word + letter, int(after)
        words.append(f"B{outer}B{word}E{outer}E")
    lengths = np.array([len(word) for word in words]) - 1  # nothing comes after the last letter
    codes = np.array([["BTSXPVE".index(c) for c in w.ljust(lengths.max() + 1, "E")] for w in words])
    return np.eye(7)[codes.T[:-1]], codes.T[1:], lengths


# name: (a batch of it, the width of x, the width of an answer)
TASKS = {
    "adding": (adding, 2, 1),
    "temporal order": (temporal_order, 6, 8),
    "Reber": (embedded_reber, 7, 7),
}
CELLS = {"RNN": tg.RNNCell, "LSTM": tg.LSTMCell, "GRU": tg.GRUCell}


# %% One network for all of them.
class Network(tg.Module):
    def __init__(self, cell, outputs, rng):
        self.rnn = tg.RNN(cell, scan=True)
        self.readout = tg.Linear(cell.hidden, outputs, rng=rng)

    def __call__(self, x, lengths):
        """An answer at the end; to the ragged task one at each step."""
        out = self.rnn(x, lengths=lengths)
        return self.readout(out.last if lengths is None else out.outputs)


def loss(network, x, answers, lengths):
    y = network(x, lengths)
    if answers.dtype == float:
        return tg.mse(y, answers)
    return tg.cross_entropy(y, answers, lengths=lengths)


def train(draw, network, rng, updates):
    optimizer = tg.Adam(network.parameters(), lr=0.01)

    def slower(update, _):  # towards the end smaller and smaller steps: the last errors go
        optimizer.lr = 0.01 * min(1, 5 * (1 - update / updates))

    batches = (draw(rng) for _ in range(updates))
    tg.fit(lambda b: loss(network, *b), batches, optimizer, updates, clip=1.0, callback=slower)


def score(draw, network, rng):
    """Of 2000 new sequences the error (adding), or the share that is answered right."""
    x, answers, lengths = draw(rng, 2000)
    with tg.no_grad():
        if draw == adding:
            return loss(network, x, answers, lengths).item()
        guess = network(x, lengths).data.argmax(axis=-1)
    if draw == embedded_reber:  # what counts is the last letter but one, the same as the second
        at = lengths - 2, np.arange(2000)
        guess, answers = guess[at], answers[at]
    return np.mean(guess == answers)


# %% Each task with each cell.
if __name__ == "__main__":
    given = options(__doc__)
    rng = np.random.default_rng(given.seed)
    figures, flows = {}, {}
    for task, (draw, inputs, outputs) in TASKS.items():
        for name, cell in CELLS.items():
            print(f"{task}, {name}")
            network, x = Network(cell(inputs, HIDDEN, rng=rng), outputs, rng), draw(rng, 8)[0]
            if task == "adding":  # what is left, at the end, of a small change of the state at t?
                flows[f"{name} at first"] = tg.state_jacobians(network.rnn, x)
            train(draw, network, rng, 10 if given.quick else 1000)
            if task == "adding":
                flows[name] = tg.state_jacobians(network.rnn, x)
            figures[f"{task} {name}"] = score(draw, network, rng)
    title = "Adding problem: how much of a change of the state is left at the end"
    back = {name: flow[::-1] for name, flow in flows.items()}
    picture = lines(back, title, "steps before the end", "norm", log=True)
    finish(picture, given.out / "long_memory.svg", **figures)
