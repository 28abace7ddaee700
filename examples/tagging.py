"""Tagging words: is it a noun, a verb, ...? A BiRNN knows what comes, an RNN only what was.

Task: many-to-many, ragged: from each word of a sentence to its part of speech. A BiRNN, which reads
    from both ends, against an RNN, and against one that forgets all before each word
Data: Turkish Web Treebank, 4,851 sentences, 81,370 words (derived words are given in parts); from
    the package turkish-treebanks (Apache-2.0): pip install --no-deps turkish-treebanks
Expect: accuracy: BiRNN 0.93, above RNN 0.91, above each word's most frequent tag 0.898. PyTorch,
    the same task, seeds 0 / 1 / 2: BiRNN 0.930 / 0.931 / 0.931, RNN 0.911 / 0.913 / 0.912
Time: 10 to 17 s

    python examples/tagging.py
    python examples/tagging.py --quick    # a few steps, for tests

Every fifth sentence is for the test. Sizes and steps, the same for all networks, were chosen with
another fifth held out. The picture: on which words does the tag of each word depend?
"""

# %%
from common import finish, folder_of, options  # sets the number of threads: before NumPy

# isort: split
from collections import Counter, defaultdict

import numpy as np

import tinygrad_rnn as tg

SIZE, HIDDEN, EPOCHS, BATCH = 32, 32, 3, 32  # SIZE of a word's vector


# %% The data: a line per word, and an empty line after each sentence.
def sentences():
    """All sentences: (words, tags) of each."""
    package = folder_of("turkish_treebanks", "pip install --no-deps turkish-treebanks")
    files = [package.parent / "data" / name for name in ("web.conllu", "wiki.conllu")]
    for block in "\n\n".join(file.read_text("utf-8") for file in files).split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if not line.startswith("#")]
        if rows:
            yield [row[1] for row in rows], [row[3] for row in rows]


def pieces(word):
    """What is known of a word: itself, and its endings. In Turkish, endings tell much."""
    return [word, *("-" + word[-n:] for n in (4, 3, 2, 1))]


def data(step=1):
    """Two lists, training and test: (words, pieces (T, 5), tags (T,)) of each sentence; and names.

    Pieces and tags are numbers. A piece that is there less than three times is number 0.
    """
    known = list(sentences())[::step]
    test, training = known[4::5], [s for k, s in enumerate(known) if k % 5 != 4]
    counts = Counter(piece for words, _ in training for word in words for piece in pieces(word))
    number = {p: k for k, (p, count) in enumerate(counts.most_common(), 1) if count >= 3}
    names = sorted({tag for _, tags in known for tag in tags})

    def numbers(words, tags):
        x = np.array([[number.get(piece, 0) for piece in pieces(word)] for word in words])
        return words, x, np.array([names.index(tag) for tag in tags])

    return [numbers(*s) for s in training], [numbers(*s) for s in test], names


def padded(some):
    """Sentences side by side: pieces (T, N, 5), tags (T, N), lengths (N,)."""
    lengths = np.array([len(words) for words, _, _ in some])
    x = np.zeros((lengths.max(), len(some), 5), int)
    answers = np.zeros(x.shape[:2], int)
    for n, (words, numbers, tags) in enumerate(some):
        x[: len(words), n], answers[: len(words), n] = numbers, tags
    return x, answers, lengths


def batches(training, epochs, rng):
    """In each epoch every sentence once, in a new order."""
    for _ in range(epochs):
        order = rng.permutation(len(training))
        for k in range(0, len(order), BATCH):
            yield padded([training[i] for i in order[k : k + BATCH]])


# %% The network: a word is the sum of its pieces' vectors, then comes the layer over time.
class Tagger(tg.Module):
    def __init__(self, kind, count, tags, rng):
        self.kind, directions = kind, 2 if kind == "BiRNN" else 1
        self.embedding = tg.Embedding(count, SIZE, rng=rng)
        self.embedding.W.data = self.embedding.W.data / 10  # what is hardly trained adds no noise
        cells = [tg.RNNCell(SIZE, HIDDEN, rng=rng) for _ in range(directions)]
        rnn = tg.BiRNN(*cells, scan=True) if kind == "BiRNN" else tg.RNN(*cells, scan=True)
        self.layers = tg.Chain(rnn, tg.Linear(directions * HIDDEN, tags, rng=rng))

    def vectors(self, x):
        return self.embedding(x).sum(axis=-2)

    def __call__(self, x, lengths=None):
        """Logits of the tags, for sentences (T, N, 5), or for a single one (T, 5)."""
        forget = np.ones(x.shape[:-1], bool) if self.kind == "no memory" else None
        return self.layers(self.vectors(x), lengths=lengths, reset=forget).outputs


def trained(kind, training, names, epochs, seed):
    rng = np.random.default_rng(seed)
    count = 1 + max(x.max() for _, x, _ in training)
    tagger = Tagger(kind, count, len(names), rng)

    def loss(batch):
        x, answers, lengths = batch
        return tg.cross_entropy(tagger(x, lengths), answers, lengths=lengths)

    optimizer = tg.Adam(tagger.parameters(), lr=0.005)
    tg.fit(loss, list(batches(training, epochs, rng)), optimizer, clip=1.0)
    return tagger


# %% Four ways to tag the test sentences: at first, without any network, by each word alone.
def most_frequent(training, test, names):
    """For each word the tag that it had most often; for an unknown one NOUN."""
    seen = defaultdict(Counter)
    for words, _, tags in training:
        for word, tag in zip(words, tags, strict=True):
            seen[word][tag] += 1
    best = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
    return [np.array([best.get(word, names.index("NOUN")) for word in s[0]]) for s in test]


if __name__ == "__main__":  # benchmarks/torch_real_data.py imports what is above
    given = options(__doc__)
    training, test, names = data(50 if given.quick else 1)
    guesses = {"most frequent tag": most_frequent(training, test, names)}
    for kind in ("no memory", "RNN", "BiRNN"):
        print(kind)
        tagger = trained(kind, training, names, 1 if given.quick else EPOCHS, given.seed)
        with tg.no_grad():
            guesses[kind] = [tagger(x).data.argmax(axis=-1) for _, x, _ in test]
    right = {
        kind: [guess == tags for guess, (_, _, tags) in zip(found, test, strict=True)]
        for kind, found in guesses.items()
    }
    # Of the sentences with 6 to 12 words, the one for which it helped most to know what comes.
    pairs = zip(right["RNN"], right["BiRNN"], strict=True)
    k = np.argmax([(b.mean() - a.mean()) * (6 <= len(a) <= 12) for a, b in pairs])
    words, x, tags = test[k]
    print(f"{'':16}  truth  RNN    BiRNN")
    for word, *told in zip(words, tags, guesses["RNN"][k], guesses["BiRNN"][k], strict=True):
        print(f"{word:>16}  {'  '.join(f'{names[tag]:5}' for tag in told)}")
    picture = tg.sensitivity(tagger.layers, tagger.vectors(x).data).draw(names=words)
    figures = {kind: np.concatenate(found).mean() for kind, found in right.items()}
    finish(picture, given.out / "tagging.svg", **figures)
