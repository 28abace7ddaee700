"""PyTorch on the tasks of three examples: long_memory.py, translation.py, sentiment.py.

    pip install torch                                       # its CPU build is enough
    python benchmarks/torch_memory.py memory --seed 1       # half a minute; one thread
    python benchmarks/torch_memory.py translation           # a minute
    python benchmarks/torch_memory.py sentiment --data vaderSentiment-3.3.2.tar.gz
    python benchmarks/torch_memory.py memory --quick        # a second, to see that it runs

The data and the schedule are the examples' own; layers have the same sizes, and start as PyTorch's
layers start, but for one more LSTM in `memory`, which starts as this library's. Beside the GRU for
sentiment there is a bag of words: logistic regression on which words are in a sentence.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import long_memory  # its first import pins the threads, so it stands before NumPy
import sentiment
import translation

# isort: split
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tinygrad_rnn as tg


def train(model, loss, batches, updates, rate, tail):
    """Adam, clipping, and a learning rate that falls in the last `tail` of the updates."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for update, batch in zip(range(1, updates + 1), batches, strict=False):
        optimizer.zero_grad()
        loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = rate * min(1, (1 - update / updates) / tail)


def ragged(layer, x, lengths):
    """A GRU's outputs and last state, padding left out; the two directions side by side."""
    packed = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
    outputs, last = layer(packed)
    return pad_packed_sequence(outputs)[0], torch.cat(list(last), dim=-1)


# ----- long memory -------------------------------------------------------------------------------


class Network(nn.Module):
    def __init__(self, kind, inputs, outputs, rng):
        super().__init__()
        hidden = long_memory.HIDDEN
        self.rnn = getattr(nn, kind.split(",")[0])(inputs, hidden)
        if "as here" in kind:  # V orthogonal, the forget gate's bias 1
            start = tg.to_torch(tg.RNN(tg.LSTMCell(inputs, hidden, rng=rng)))
            self.rnn.load_state_dict({name: torch.from_numpy(a) for name, a in start.items()})
        self.readout = nn.Linear(hidden, outputs)

    def forward(self, x, lengths):
        outputs, _ = self.rnn(torch.from_numpy(x).float())  # what comes after the end is not asked
        return self.readout(outputs[-1] if lengths is None else outputs)

    def loss(self, x, answers, lengths):
        y, answers = self(x, lengths), torch.from_numpy(answers)
        if answers.is_floating_point():
            return F.mse_loss(y, answers.float())
        if lengths is not None:
            valid = torch.arange(len(x))[:, None] < torch.from_numpy(lengths)
            y, answers = y[valid], answers[valid]
        return F.cross_entropy(y, answers)


def memory(given, rng):
    for task, (draw, inputs, outputs) in long_memory.TASKS.items():
        for kind in ("RNN", "LSTM", "LSTM, started as here", "GRU"):
            network, updates = Network(kind, inputs, outputs, rng), 10 if given.quick else 1000
            batches = (draw(rng) for _ in range(updates))
            train(network, network.loss, batches, updates, 0.01, 1 / 5)
            x, answers, lengths = draw(rng, 2000)
            with torch.no_grad():
                if draw == long_memory.adding:
                    yield f"{task} {kind}", network.loss(x, answers, lengths).item()
                    continue
                guess = network(x, lengths).argmax(dim=-1).numpy()
            if draw == long_memory.embedded_reber:
                at = lengths - 2, np.arange(2000)
                guess, answers = guess[at], answers[at]
            yield f"{task} {kind}", np.mean(guess == answers)


# ----- translation -------------------------------------------------------------------------------


class Translator(nn.Module):
    def __init__(self, attention):
        super().__init__()
        outputs = len(translation.OUTPUTS)
        self.read = nn.Embedding(len(translation.INPUTS), 32)
        self.encoder = nn.GRU(32, 32, bidirectional=True)
        self.write = nn.Embedding(outputs, 32)
        self.decoder = nn.GRU(32, 64)
        self.look = nn.Linear(64, 64, bias=False) if attention else None
        self.readout = nn.Linear(128 if attention else 64, outputs)

    def logits(self, h, memory, lengths):
        if self.look:
            scores = torch.einsum("unh,tnh->nut", self.look(h), memory)
            padding = torch.arange(len(memory)) >= torch.from_numpy(lengths)[:, None, None]
            weights = scores.masked_fill(padding, -np.inf).softmax(dim=-1)
            h = torch.cat([h, torch.einsum("nut,tnh->unh", weights, memory)], dim=-1)
        return self.readout(h)

    def loss(self, x, lengths, answers):
        memory, last = ragged(self.encoder, self.read(torch.from_numpy(x)), lengths)
        answers = torch.from_numpy(answers)
        before = torch.cat([torch.full((1, len(lengths)), translation.START), answers[:-1]])
        h, _ = self.decoder(self.write(before), last[None])
        return F.cross_entropy(self.logits(h, memory, lengths).flatten(0, 1), answers.flatten())

    def translate(self, x, lengths):
        with torch.no_grad():
            memory, state = ragged(self.encoder, self.read(torch.from_numpy(x)), lengths)
            state, codes = state[None], [torch.full((len(lengths),), translation.START)]
            for _ in range(10):
                h, state = self.decoder(self.write(codes[-1])[None], state)
                codes.append(self.logits(h, memory, lengths)[0].argmax(dim=-1))
        return torch.stack(codes[1:]).numpy()


def dates(given, rng):
    days = rng.permutation(len(translation.DAYS))
    unseen, days = days[:2000], days[2000:]
    x, lengths, answers = translation.batch(unseen, rng)
    for name in ("without attention", "with attention"):
        model, updates = Translator(name == "with attention"), 10 if given.quick else 3000
        batches = (translation.batch(rng.choice(days, 64), rng) for _ in range(updates))
        train(model, model.loss, batches, updates, 0.005, 1 / 3)
        yield f"right {name}", (model.translate(x, lengths) == answers).all(axis=0).mean()


# ----- sentiment ---------------------------------------------------------------------------------


class Reader(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.embedding = nn.Embedding(words, 64)
        self.embedding.weight.data *= 0.3
        self.rnn, self.readout = nn.GRU(64, 32), nn.Linear(32, 1)

    def forward(self, codes, lengths):
        codes = torch.from_numpy(codes)
        if self.training:
            codes = torch.where(torch.rand(codes.shape) < 0.2, 0, codes)
        x = F.dropout(self.embedding(codes), 0.6, self.training)
        return self.readout(ragged(self.rnn, x, lengths)[1])

    def loss(self, codes, lengths, praise):
        answers = torch.from_numpy(praise).float()
        return F.binary_cross_entropy_with_logits(self(codes, lengths), answers)


def bag_of_words(train_set, test, numbers, updates):
    """Logistic regression: a weight for each word, however often it is in the sentence."""
    weights = nn.EmbeddingBag(len(numbers) + 1, 1, mode="sum")
    nn.init.zeros_(weights.weight)
    bias = torch.zeros(1, requires_grad=True)
    parameters = [*weights.parameters(), bias]
    optimizer = torch.optim.SGD(parameters, lr=2.0, momentum=0.9, weight_decay=1e-4)

    def logits(sentences):
        bags = [sorted({numbers.get(w, 0) for w in words}) for words, _ in sentences]
        starts = np.cumsum([0] + [len(bag) for bag in bags[:-1]])
        return weights(torch.tensor(np.concatenate(bags)), torch.from_numpy(starts))[:, 0] + bias

    answers = torch.tensor([float(praise) for _, praise in train_set])
    for _ in range(updates):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits(train_set), answers).backward()
        optimizer.step()
    with torch.no_grad():
        return np.mean((logits(test) > 0).numpy() == [praise for _, praise in test])


def films(given, rng):
    sentences, test, numbers = sentiment.prepared(given.data)
    model, updates = Reader(len(numbers) + 1), 10 if given.quick else 8 * -(-len(sentences) // 64)
    batches = (b for _ in range(8) for b in sentiment.epoch(sentences, numbers, rng))
    train(model, model.loss, batches, updates, 0.005, 1)
    model.eval()
    codes, lengths, praise = sentiment.batch(test, numbers)
    with torch.no_grad():
        yield "right", np.mean((model(codes, lengths).numpy() > 0) == praise)
    yield "right, bag of words", bag_of_words(sentences, test, numbers, 4 if given.quick else 400)


TASKS = {"memory": memory, "translation": dates, "sentiment": films}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--data", type=Path, default=sentiment.ARCHIVE, help="for sentiment")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    started = time.perf_counter()
    for name, value in TASKS[given.task](given, np.random.default_rng(given.seed)):
        print(f"{name}: {value:.4g}", flush=True)
    print(f"time: {time.perf_counter() - started:.0f} s")
