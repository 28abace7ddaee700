"""PyTorch on the tasks of three examples: speech.py, tagging.py, sunspots.py.

    pip install torch                                     # its CPU build is enough
    python benchmarks/torch_real_data.py speech --seed 1  # 10 s; one thread
    python benchmarks/torch_real_data.py tagging          # 10 s
    python benchmarks/torch_real_data.py sunspots         # a GRU, and an RNN; 20 s
    python benchmarks/torch_real_data.py speech --quick   # a second, to see that it runs

Data, batches, sizes, steps, optimiser and clipping are the examples' own; layers start as PyTorch's
layers start, and compute in float32.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import speech  # its first import pins the threads, so it stands before NumPy
import sunspots
import tagging

# isort: split
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def train(model, loss, batches, rate):
    """Adam with clipping."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for batch in batches:
        optimizer.zero_grad()
        loss(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def ragged(layer, x, lengths):
    """Outputs and each last state, padding left out; the two directions side by side."""
    packed = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
    outputs, last = layer(packed)
    return pad_packed_sequence(outputs)[0], torch.cat(list(last), dim=-1)


# ----- speech ------------------------------------------------------------------------------------


class Speech(nn.Module):
    def __init__(self, kind, directions):
        super().__init__()
        self.rnn = getattr(nn, kind)(12, speech.HIDDEN, bidirectional=directions == 2)
        self.readout = nn.Linear(directions * speech.HIDDEN, speech.SPEAKERS)

    def forward(self, x, lengths):
        return self.readout(ragged(self.rnn, torch.from_numpy(x).float(), lengths)[1])


def speakers(quick, seed):
    (x, lengths, who), (x_test, lengths_test, who_test) = speech.data()
    for kind in ("RNN", "GRU"):
        for directions in (1, 2):
            started, network = time.perf_counter(), Speech(kind, directions)

            def loss(n, network=network):
                return F.cross_entropy(network(x[:, n], lengths[n]), torch.from_numpy(who[n]))

            epochs, rng = 1 if quick else speech.EPOCHS, np.random.default_rng(seed)
            train(network, loss, speech.batches(len(who), epochs, rng), 0.005)
            with torch.no_grad():
                guess = network(x_test, lengths_test).argmax(dim=-1).numpy()
            accuracy = np.mean(guess == who_test)
            report(("Bi" if directions == 2 else "") + kind, {"accuracy": accuracy}, started)


# ----- tagging -----------------------------------------------------------------------------------


class Tagger(nn.Module):
    def __init__(self, count, tags, directions):
        super().__init__()
        self.embedding = nn.Embedding(count, tagging.SIZE)
        self.embedding.weight.data /= 10
        self.rnn = nn.RNN(tagging.SIZE, tagging.HIDDEN, bidirectional=directions == 2)
        self.readout = nn.Linear(directions * tagging.HIDDEN, tags)

    def forward(self, x, lengths):
        words = self.embedding(torch.from_numpy(x)).sum(dim=-2)
        return self.readout(ragged(self.rnn, words, lengths)[0])


def tags(quick, seed):
    training, test, names = tagging.data(50 if quick else 1)
    count = 1 + max(x.max() for _, x, _ in training)
    for directions in (1, 2):
        started, tagger = time.perf_counter(), Tagger(count, len(names), directions)

        def valid(batch, tagger=tagger):
            x, answers, lengths = batch
            inside = torch.arange(len(x))[:, None] < torch.from_numpy(lengths)
            return tagger(x, lengths)[inside], torch.from_numpy(answers)[inside]

        rng = np.random.default_rng(seed)
        batches = tagging.batches(training, 1 if quick else tagging.EPOCHS, rng)
        train(tagger, lambda batch, valid=valid: F.cross_entropy(*valid(batch)), batches, 0.005)
        with torch.no_grad():
            logits, answers = valid(tagging.padded(test))
        accuracy = (logits.argmax(dim=-1) == answers).double().mean().item()
        report("BiRNN" if directions == 2 else "RNN", {"accuracy": accuracy}, started)


# ----- sunspots ----------------------------------------------------------------------------------


class Forecaster(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = getattr(nn, kind)(1, sunspots.HIDDEN)
        self.readout = nn.Linear(sunspots.HIDDEN, 1)

    def forward(self, x):
        return self.readout(self.rnn(x)[0])


def forecasts(quick, seed):
    years, numbers = sunspots.read()
    scale = sunspots.Scale(numbers[years <= sunspots.TRAINING])
    x = torch.from_numpy(scale.there(numbers)[:, None]).float()
    known = x[: np.sum(years <= sunspots.TRAINING)]
    # an RNN learns by heart sooner: the same choice, made for it, gives a decay of 0.01
    for kind, strength in {"GRU": sunspots.DECAY, "RNN": 0.01}.items():
        started, network = time.perf_counter(), Forecaster(kind)

        def loss(x, network=network, strength=strength):
            decay = sum((p**2).sum() for p in network.parameters())
            return F.mse_loss(network(x[:-1]), x[1:]) + strength * decay

        train(network, loss, [known] * (5 if quick else sunspots.STEPS), 0.005)
        with torch.no_grad():
            told = scale.back(network(x[:-1])[:, 0].double().numpy())
        report(kind, sunspots.relative_variance(years, numbers, told), started)


# ----- all ---------------------------------------------------------------------------------------


def report(name, figures, started):
    told = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
    print(f"{name}: {told}  ({time.perf_counter() - started:.0f} s)", flush=True)


TASKS = {"speech": speakers, "tagging": tags, "sunspots": forecasts}

if __name__ == "__main__":
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    TASKS[given.task](given.quick, given.seed)
