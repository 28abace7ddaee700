"""Sentiment: does a sentence about a film praise it?

Task: many-to-one, ragged: the words of a sentence, one yes or no after the last
Data: 10,605 short texts from film reviews (Pang and Lee's, from Rotten Tomatoes), each with the
    mean rating by 20 readers, -4 to 4 (Hutto and Gilbert 2014): in the source archive of the
    package vaderSentiment 3.3.2 (MIT; the texts are others'), where they are read, and not copied
Expect: 0.79 to 0.81 right (the readers' mean as the truth). PyTorch, the same network: 0.80 to
    0.81; a bag of words (logistic regression): 0.78. On such texts with the critic's verdict as the
    truth, words learnt from them alone: 0.761 (Kim 2014, CNN-rand), 0.794 (Wang and Manning 2012)
Time: 25 s

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2    # 2.5 MB, not installed
    python examples/sentiment.py
    python examples/sentiment.py --data elsewhere/vaderSentiment-3.3.2.tar.gz
    python examples/sentiment.py --quick    # a few steps, for tests

Read the picture with care: "not" lowers the belief, as it stands more often in what blames, so "not
good" comes out lower than "good". But "not bad" comes out lower than "bad": words add up here, and
8057 texts are too few to learn that "not" turns a meaning round. (Socher 2013 had each part of each
sentence rated for that, 215,154 in all.) Sentences with a negation are harder than others, for the
bag of words (0.71) as for the network.
"""

# %%
from common import finish, options  # sets the number of threads: before NumPy

# isort: split
import argparse
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.charts import lines

ARCHIVE = Path("vaderSentiment-3.3.2.tar.gz")
INSIDE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


# %% The data.
def rated(archive):
    """Texts and ratings, read inside of an archive in an archive."""
    if not archive.is_file():
        install = "pip download --no-deps --no-binary :all: vaderSentiment==3.3.2"
        raise SystemExit(
            f"the data of this example are in {archive}, which is not there: {install}"
        )
    with tarfile.open(archive) as outer, tarfile.open(fileobj=outer.extractfile(INSIDE)) as inner:
        rows = inner.extractfile(SNIPPETS).read().decode().split("\r\n")
    return [(text, float(rating)) for _, rating, text in (row.split("\t") for row in rows if row)]


def words_of(text):
    """Words in small letters; n't, 's and the like, and ! ? . , are words, too."""
    return re.findall(r"n't|'\w+|\w+?(?=n't)|\w+|[!?.,]", text.lower())


def prepared(archive):
    """Sentences as (words, yes or no) to train with, and to test with; a number for each word."""
    texts = rated(archive)
    kept = [(words_of(text), rating > 0) for text, rating in texts if abs(rating) >= 0.5]
    train, test = [s for k, s in enumerate(kept) if k % 5], kept[::5]  # the same in every run
    counts = Counter(word for words, _ in train for word in words)
    numbers = {
        word: k + 1 for k, (word, n) in enumerate(counts.most_common()) if n > 1
    }  # 0: others
    print(f"{len(texts)} sentences, without {len(texts) - len(kept)} that are neutral (below 0.5)")
    print(f"{len(train)} to train with, {len(test)} to test with; {len(numbers)} words known")
    return train, test, numbers


def batch(sentences, numbers):
    """Numbers of words (T, N), lengths (N,), 1 for praise and 0 for blame (N, 1)."""
    lengths = np.array([len(words) for words, _ in sentences])
    codes = np.zeros((max(lengths), len(sentences)), int)
    for n, (words, _) in enumerate(sentences):
        codes[: len(words), n] = [numbers.get(word, 0) for word in words]
    return codes, lengths, np.array([[praise] for _, praise in sentences], int)


def epoch(sentences, numbers, rng):
    """All sentences once, in a new order, as batches of 64."""
    order = rng.permutation(len(sentences))
    for k in range(0, len(order), 64):
        yield batch([sentences[n] for n in order[k : k + 64]], numbers)


# %% The network: it reads from left to right. Log-odds of praise: above 0, yes.
class Reader(tg.Module):
    def __init__(self, words, rng):
        self.embedding = tg.Embedding(words, 64, rng=rng)
        # A rare word stays about where it starts, so that must be small: it should say little.
        self.embedding.W.data = 0.3 * self.embedding.W.data
        self.rnn = tg.RNN(tg.GRUCell(64, 32, rng=rng), scan=True)
        self.readout = tg.Linear(32, 1, rng=rng)
        self.rng = rng

    def __call__(self, codes, lengths):
        if self.training:  # one word in five is hidden: so the code of unknown words is learnt, too
            codes = np.where(self.rng.random(codes.shape) < 0.2, 0, codes)
        x = self.embedding(codes)
        if self.training:
            x = tg.dropout(x, 0.6, self.rng)
        return self.readout(self.rnn(x, lengths=lengths).last)

    def loss(self, batch):
        codes, lengths, praise = batch
        return tg.binary_cross_entropy(self(codes, lengths), praise)


def right(model, sentences, numbers):
    """The share of sentences that the network, asked after the last word, gets right."""
    codes, lengths, praise = batch(sentences, numbers)
    with tg.no_grad():
        return np.mean((model(codes, lengths).data > 0) == praise)


def belief(model, words, numbers):
    """How probable praise is after no word, after one, after two, ..."""
    codes, _, _ = batch([(words, 0)] * (len(words) + 1), numbers)
    with tg.no_grad():
        return tg.sigmoid(model(codes, np.arange(len(words) + 1)).data[:, 0])


# %% Eight times through the sentences, then 2015 others.
if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", type=Path, default=ARCHIVE)
    own, others = parser.parse_known_args()
    given = options(__doc__, others)
    rng = np.random.default_rng(given.seed)
    train, test, numbers = prepared(own.data)
    model = Reader(len(numbers) + 1, rng).astype(np.float32)
    optimizer = tg.Adam(model.parameters(), lr=0.005)
    updates = 10 if given.quick else 8 * -(-len(train) // 64)

    def slower(update, _):
        optimizer.lr = 0.005 * (1 - update / updates)

    batches = (b for _ in range(8) for b in epoch(train, numbers, rng))
    tg.fit(model.loss, batches, optimizer, updates, clip=1.0, callback=slower)

    model.eval()  # nothing is hidden any more
    nots = {"not", "n't", "no", "never"}
    negated = [(words, praise) for words, praise in test if nots & set(words)]
    figures = {"right": right(model, test, numbers)}
    figures["right of those with a negation"] = right(model, negated, numbers)
    texts = ["the film is good", "the film is not good", "the film is bad", "the film is not bad"]
    beliefs = {text: belief(model, words_of(text), numbers) for text in texts}
    title = "What the network believes while it reads"
    picture = lines(beliefs, title, "words read", "probability of praise")
    finish(picture, given.out / "sentiment.svg", **figures)
