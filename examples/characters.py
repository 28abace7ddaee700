"""Language, character by character: the classic character RNN, then RNN, LSTM and GRU with Adam.

Task: many-to-many, a language model: after each character, which one comes next? Then one-to-many:
    the GRU writes, each character that it draws being its next input
Data: `pydoc_data.topics` of Python's standard library (PSF licence), the text of Python's `help()`:
    465,048 characters in Python 3.11; versions differ, so its length and hash are printed
Expect: nats per character on the last tenth, held out: GRU at most 1.70. PyTorch, the same task,
    seeds 0 / 1 / 2: GRU 1.44 / 1.37 / 1.36, LSTM 1.43 / 1.40 / 1.41, RNN 1.57 / 1.61 / 1.53,
    the classic 2.13 / 2.19 / 2.40. Guessing by frequency: 3.24
Time: 20 s

    python examples/characters.py
    python examples/characters.py --quick    # a few steps, for tests

The text is one sequence, too long to go back over: BPTT covers a chunk of 25 characters, and the
state at its end is where the next chunk starts, as a constant (truncated BPTT, carried state).
"""

# %%
from common import finish, options  # sets the number of threads: before NumPy

# isort: split
import hashlib
from pydoc_data.topics import topics

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.charts import heat

HIDDEN, CHUNK, STREAMS = 100, 25, 16
STEPS, CLASSIC = 2000, 5  # the classic takes five times as many, of a sixteenth of the text each

# %% The text as numbers below K. A character enters as a one-hot vector: x U is then a row of U.
text = "\n".join(topics[name] for name in sorted(topics))
alphabet, codes = np.unique(list(text), return_inverse=True)
K, split = len(alphabet), len(codes) * 9 // 10
train, held_out = codes[:split], codes[split:]
one_hot = np.eye(K, dtype=np.float32)


def streams(codes, count):
    """A text cut into `count` parts that run side by side: (T, count)."""
    length = len(codes) // count
    return codes[: count * length].reshape(count, length).T


def chunks(count):
    """Windows (CHUNK + 1, count) of the text, for ever, and whether one is the first.

    Each character predicts the next one, so the last of a window is the first of the next window.
    """
    parts = streams(train, count)
    while True:
        for t in range(0, len(parts) - CHUNK, CHUNK):
            yield parts[t : t + CHUNK + 1], t == 0


# %% The network: any cell, and y = h W + b_y in each step, so that the output is logits.
def network(Cell, rng):
    cell = Cell(K, HIDDEN, rng=rng, dtype=np.float32)
    return tg.RNN(tg.Readout(cell, tg.Linear(HIDDEN, K, rng=rng, dtype=np.float32)), scan=True)


def surprise(model, codes):
    """-log p of each character but the first, in nats."""
    with tg.no_grad():
        log_p = tg.log_softmax(model(one_hot[codes[:-1]]).outputs).numpy()
    return -np.take_along_axis(log_p, codes[1:, ..., None], axis=-1)[..., 0]


# %% The classic (Karpathy 2015), written out: a tanh RNN, chunk after chunk, the sum of the losses,
# each element of the gradient cut to [-5, 5], Adagrad. (BPTT by hand: tests/test_char_rnn.py.)
def classic(rng, steps):
    model, state = network(tg.RNNCell, rng), None
    for p in model.parameters():  # the weights start small, the biases at zero
        p.data = (0.01 * (p.ndim == 2) * rng.standard_normal(p.shape)).astype(p.dtype)
    optimizer = tg.Adagrad(model.parameters(), lr=0.1, eps=0, initial_accumulator_value=1e-8)
    for _, (window, first) in zip(range(steps), chunks(1), strict=False):
        out = model(one_hot[window[:-1]], None if first else state)
        state = tg.detach(out.state)
        optimizer.zero_grad()
        tg.cross_entropy(out.outputs, window[1:], reduction="sum").backward()
        tg.clip_grad_value(model.parameters(), 5)
        optimizer.step()
    return model


# %% Any cell, with sixteen parts of the text at once, Adam, and tg.fit as the loop.
def trained(Cell, rng, steps, lr=0.01):
    model, state = network(Cell, rng), None
    optimizer = tg.Adam(model.parameters(), lr)

    def loss(batch):
        nonlocal state
        window, first = batch
        out = model(one_hot[window[:-1]], None if first else state)
        state = tg.detach(out.state)
        return tg.cross_entropy(out.outputs, window[1:])

    def slower(step, history):
        optimizer.lr = lr * (1 - 0.9 * step / steps)

    tg.fit(loss, chunks(STREAMS), optimizer, steps, clip=5.0, callback=slower)
    return model


# %% One-to-many: the network hears itself. A temperature below 1 prefers what is likely.
def written(model, start, length, rng, temperature=0.7):
    known, drawn = np.searchsorted(alphabet, list(start)), []

    def next_input(logits, rng):
        p = tg.softmax(logits.numpy().astype(float) / temperature)
        drawn.append(rng.choice(K, p=p))
        return one_hot[drawn[-1]]

    with tg.no_grad():
        state = model(one_hot[known[:-1]]).state
        tg.generate(model.cell, one_hot[known[-1]], length + 1, next_input, state, rng)
    return start + "".join(alphabet[drawn])


# %%
if __name__ == "__main__":  # benchmarks/torch_characters.py imports what is above
    given = options(__doc__)
    steps = 5 if given.quick else STEPS
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"{len(text)} characters, {K} different, sha256 {digest[:16]}...")
    models = {"classic": classic(np.random.default_rng(given.seed), CLASSIC * steps)}
    for name, Cell in (("RNN", tg.RNNCell), ("LSTM", tg.LSTMCell), ("GRU", tg.GRUCell)):
        models[name] = trained(Cell, np.random.default_rng(given.seed), steps)
    print(written(models["GRU"], "The ", 300, given.seed))

    at = text.index("\nThis ", split + 200)  # a sentence that is held out, and what precedes it
    rows = [surprise(model, codes[at - 200 : at + 27])[-26:] for model in models.values()]
    letters, title = list(text[at + 1 : at + 27]), "How surprising each character is: -log p"
    picture = heat(rows, title, "character", "", list(models), letters)
    frequency = (np.bincount(train, minlength=K) + 1) / (len(train) + K)
    figures = {"guessing": -np.log(frequency)[held_out].mean()}
    for name, model in models.items():
        figures[name] = surprise(model, streams(held_out, 64)).mean()
    finish(picture, given.out / "characters.svg", **figures)
