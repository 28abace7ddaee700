"""Who speaks? Nine men said a vowel each, and a network hears whose voice it is.

Task: many-to-one: from 12 numbers per frame of an utterance (7 to 29 frames of 6.4 ms, ragged) to
    the speaker. An RNN has heard all at the end, a BiRNN at both ends
Data: Japanese Vowels (Kudo 1999; UCI), 270 utterances to train, 370 to test; from the package aeon
    (BSD-3): pip install --no-deps aeon
Expect: accuracy: BiGRU at least 0.97 and above GRU; BiRNN above RNN in the mean over seeds (370
    utterances: deviation 0.008). Kudo 1999: 0.941, with a hidden Markov model 0.962. PyTorch, the
    same task, seeds 0 / 1 / 2: RNN 0.949 / 0.949 / 0.973, BiRNN 0.989 / 0.976 / 0.973, GRU 0.968 /
    0.978 / 0.959, BiGRU 0.978 / 0.976 / 0.968
Time: 4 to 10 s

    python examples/speech.py
    python examples/speech.py --quick    # a few steps, for tests

All four networks are trained alike. The learning rate was chosen with every third utterance of the
training set held out, not with the test set.
"""

# %%
from common import finish, folder_of, options  # sets the number of threads: before NumPy

# isort: split
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.charts import lines

HIDDEN, EPOCHS, BATCH, SPEAKERS = 32, 40, 30, 9


# %% The data: one utterance per line, channel:channel:...:speaker, each channel v,v,v,...
def read(part):
    """A list of utterances, each (frames, 12), and the speakers, 0 to 8."""
    folder = folder_of("aeon", "pip install --no-deps aeon")
    path = folder / "datasets" / "data" / "JapaneseVowels" / f"JapaneseVowels_{part}.ts"
    utterances, speakers = [], []
    for line in path.read_text(encoding="utf-8").split("@data\n")[1].splitlines():
        *channels, speaker = line.split(":")
        utterances.append(np.array([c.split(",") for c in channels], float).T)
        speakers.append(int(speaker) - 1)
    return utterances, np.array(speakers)


def padded(utterances):
    """One array (T, N, 12), with zeros where an utterance is over, and the lengths (N,)."""
    lengths = np.array([len(u) for u in utterances])
    x = np.zeros((lengths.max(), len(utterances), 12))
    for n, u in enumerate(utterances):
        x[: len(u), n] = u
    return x, lengths


def data():
    """(x, lengths, speakers) to train and to test, each channel with mean 0 and deviation 1."""
    (train, who), (test, who_test) = read("TRAIN"), read("TEST")
    frames = np.concatenate(train)
    mean, deviation = frames.mean(axis=0), frames.std(axis=0)
    scaled = [[(u - mean) / deviation for u in utterances] for utterances in (train, test)]
    return (*padded(scaled[0]), who), (*padded(scaled[1]), who_test)


def batches(count, epochs, rng):
    """Which utterances go together: in each epoch every one once, in a new order."""
    cuts = range(BATCH, count, BATCH)
    return [n for _ in range(epochs) for n in np.split(rng.permutation(count), cuts)]


# %% The network. `last` is the output at each utterance's own last frame, however much padding
# follows; a BiRNN's joins to it what the backward half says at the first frame.
class Network(tg.Module):
    def __init__(self, Cell, directions, rng):
        cells = [Cell(12, HIDDEN, rng=rng) for _ in range(directions)]
        self.rnn = tg.BiRNN(*cells, scan=True) if directions == 2 else tg.RNN(*cells, scan=True)
        self.readout = tg.Linear(directions * HIDDEN, SPEAKERS, rng=rng)

    def __call__(self, x, lengths):
        return self.readout(self.rnn(x, lengths=lengths).last)


def train(network, x, lengths, speakers, epochs, rng):
    def loss(n):
        return tg.cross_entropy(network(x[:, n], lengths[n]), speakers[n])

    optimizer = tg.Adam(network.parameters(), lr=0.005)
    tg.fit(loss, batches(len(speakers), epochs, rng), optimizer, clip=1.0)


def accuracy(network, x, lengths, speakers):
    with tg.no_grad():
        return np.mean(network(x, lengths).data.argmax(axis=-1) == speakers)


# %% Four networks: two cells, one direction and two. How soon do they know? Utterances cut short.
if __name__ == "__main__":  # benchmarks/torch_real_data.py imports what is above
    given = options(__doc__)
    training, (x, lengths, speakers) = data()
    figures, heard = {}, {}
    for name, Cell in {"RNN": tg.RNNCell, "GRU": tg.GRUCell}.items():
        for kind, directions in {"": 1, "Bi": 2}.items():
            print(f"{kind}{name}")
            rng = np.random.default_rng(given.seed)
            network = Network(Cell, directions, rng)
            train(network, *training, 1 if given.quick else EPOCHS, rng)
            figures[kind + name] = accuracy(network, x, lengths, speakers)
            heard[kind + name] = [
                accuracy(network, x, np.minimum(lengths, frames), speakers)
                for frames in range(len(x) + 1)
            ]
    title = "Who speaks? Share of utterances told right, when only their beginning is heard"
    picture = lines(heard, title, "frames heard", "accuracy")
    finish(picture, given.out / "speech.svg", **figures)
