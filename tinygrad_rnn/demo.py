"""The demo: `python -m tinygrad_rnn`. Four things in half a minute, each with its number.

1. BPTT is right: the gradients of an RNN and a BiRNN against finite differences.
2. It learns real text, character by character, and "hello world" by heart.
3. Where the future decides, a BiRNN answers and an RNN can only guess.
4. BPTT made visible: report.html, to go through step by step. The weights are in a file.

Everything here uses the public names alone: copy what you like.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import files, testing
from .cells import RNNCell
from .charmodel import guessing
from .differentiate import no_grad
from .functions import softmax
from .losses import cross_entropy
from .module import Linear, Module
from .optim import Adam
from .recurrent import RNN, BiRNN
from .report import report
from .train import History, fit

CHUNK = 25  # characters that BPTT goes back over


def run(
    seed: int = 0, quick: bool = False, out: str = "tinygrad_rnn_demo", lang: str = "en"
) -> dict[str, Any]:
    """Run all parts, print as they go, and return the figures.

    run(seed=0, quick=True)["birnn accuracy"]      # 1.0

    quick   fewer training steps, for tests; out: the folder for the files, made if absent
    lang    of the report: "en" or "ja"
    """
    started = time.perf_counter()
    figures: dict[str, Any] = {}
    print("1. Backpropagation through time against finite differences")
    figures |= gradients(seed)
    print("\n2. A character RNN learns real text (the Python reference that ships with Python)")
    model, learnt = characters(seed, 250 if quick else 2500)
    figures |= learnt
    words, recited = hello_world(seed)
    figures |= recited
    print("\n3. The answer at time t is the input at time t + 1")
    figures |= future(seed, 100 if quick else 200)
    print("\n4. Files")
    text = report(words, WORDS, learnt.pop("losses"), seed, lang)
    figures["files"] = [keep(model, Path(out) / "characters.npz")]
    figures["files"].append(write(text, Path(out) / "report.html"))
    print(f"\ndone in {time.perf_counter() - started:.0f} s")
    return figures


# ----- 1 -----------------------------------------------------------------------------------------


def gradients(seed: int) -> dict[str, float]:
    """Every parameter, the input and the initial state, over a ragged batch."""
    rng = np.random.default_rng(seed)
    x, lengths = rng.standard_normal((10, 3, 4)), [10, 7, 0]
    rnn = RNN(RNNCell(4, 5, rng=rng))
    birnn = BiRNN(RNNCell(4, 5, rng=rng), RNNCell(4, 5, rng=rng))
    h = rng.standard_normal((3, 5))
    figures = {}
    for layer, state in ((rnn, h), (birnn, (h, h))):
        report = testing.check_grads(
            lambda x, state, layer=layer: layer(x, state, lengths=lengths).outputs,
            x,
            state,
            wrt=[0, 1, layer],
        )
        name, worst = type(layer).__name__, max(f.error for f in report.findings)
        figures[f"{name} gradient error"] = worst
        print(
            f"   {name:5} T=10, lengths {lengths}: {len(report.findings)} comparisons, "
            f"worst relative error {worst:.1e}"
        )
    return figures


# ----- 2 -----------------------------------------------------------------------------------------


class CharacterModel(Module):
    """h_t = tanh(x_t U + h_{t-1} V + b), y_t = h_t W + b_y: which character comes next?"""

    def __init__(self, alphabet: str, hidden: int, rng: np.random.Generator) -> None:
        self.alphabet = alphabet
        size = len(alphabet)
        self.rnn = RNN(RNNCell(size, hidden, rng=rng, dtype=np.float32))
        self.readout = Linear(hidden, size, rng=rng, dtype=np.float32)
        self.one_hot = np.eye(size, dtype=np.float32)

    def codes(self, text: str) -> np.ndarray:
        """A text as numbers, (T, 1)."""
        return np.array([[self.alphabet.index(c)] for c in text])

    def loss(self, codes: np.ndarray) -> Any:
        """Nats per character for codes (T + 1, N): each character predicts the next."""
        out = self.rnn(self.one_hot[codes[:-1]])
        return cross_entropy(self.readout(out.outputs), codes[1:])

    def sample(
        self, first: str, length: int, rng: np.random.Generator | None, temperature: float = 0.6
    ) -> str:
        """Write on from `first`; without rng always take the likeliest character."""
        text, state = first, self.rnn.initial_state()
        with no_grad():
            for _ in range(length):
                x = self.one_hot[self.alphabet.index(text[-1])]
                h, state = self.rnn.cell(x, state)
                logits = self.readout(h)
                if rng is None:
                    code = int(np.argmax(logits.data))
                else:
                    p = softmax(logits.data.astype(np.float64) / temperature)
                    code = int(rng.choice(len(p), p=p))
                text += self.alphabet[code]
        return text


def corpus() -> str:
    """The topics of Python's help(): about 465,000 characters, on every machine with Python."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def characters(seed: int, steps: int) -> tuple[CharacterModel, dict[str, Any]]:
    """Train on nine tenths of the text, measure on the last tenth."""
    rng = np.random.default_rng(seed)
    text = corpus()
    alphabet = "".join(sorted(set(text)))
    codes = np.searchsorted(list(alphabet), list(text))
    split = len(codes) * 9 // 10
    train, held = codes[:split], codes[split:]
    unigram = guessing(train, held, len(alphabet))
    model = CharacterModel(alphabet, 100, rng)
    windows = np.arange(100 + 1)[:, None] + np.linspace(0, len(held) - 102, 64).astype(int)

    def held_out() -> float:
        with no_grad():
            return float(model.loss(held[windows]))

    before = held_out()
    optimizer = Adam(model.named_parameters(), lr=3e-3)

    def batches() -> Iterator[np.ndarray]:
        while True:
            starts = rng.integers(0, split - CHUNK - 1, 32)
            yield train[starts + np.arange(CHUNK + 1)[:, None]]

    def slower(step: int, _: History) -> None:
        optimizer.lr = 3e-3 * (1 - 0.9 * step / steps)

    history = fit(model.loss, batches(), optimizer, steps, clip=5.0, callback=slower)
    after = held_out()
    sample = model.sample("The ", 160, rng)
    print(f"   {len(text)} characters, {len(alphabet)} different; {steps} steps of {CHUNK} x 32")
    print(f"   nats per character, on text never seen: {before:.3f} before, {after:.3f} after")
    print(f"   the best guess without looking back (unigram entropy): {unigram:.3f}")
    print("   a sample: " + repr(sample))
    figures = {"before": before, "after": after, "unigram": unigram, "sample": sample}
    return model, figures | {"losses": history.loss}


WORDS = "hello world"


def hello_world(seed: int) -> tuple[CharacterModel, dict[str, str]]:
    """The tutorial's words, learnt by heart."""
    model = CharacterModel("".join(sorted(set(WORDS))), 16, np.random.default_rng(seed))
    codes = model.codes(WORDS)
    fit(model.loss, [codes], Adam(model.named_parameters(), lr=0.02), 100, progress=False)
    recited = model.sample("h", len(WORDS) - 1, None)
    print(f"   given 'h', after 100 steps it recites: {recited!r}")
    return model, {"recited": recited}


# ----- 3 -----------------------------------------------------------------------------------------


def future(seed: int, steps: int) -> dict[str, float]:
    """Random bits: what comes next cannot be known from the past, only seen from behind."""
    figures = {}
    for name in ("RNN", "BiRNN"):
        rng = np.random.default_rng(seed)
        cells = [RNNCell(2, 16, rng=rng) for _ in range(2)]
        layer: Any = BiRNN(cells[0], cells[1]) if name == "BiRNN" else RNN(cells[0])
        readout = Linear(32 if name == "BiRNN" else 16, 2, rng=rng)
        parameters = layer.parameters() + readout.parameters()
        optimizer = Adam(parameters, lr=0.01)

        def answers(bits: np.ndarray, layer: Any = layer, readout: Linear = readout) -> Any:
            return readout(layer(np.eye(2)[bits]).outputs)[:-1]

        def loss(bits: np.ndarray, answers: Any = answers) -> Any:
            return cross_entropy(answers(bits), bits[1:])

        fit(loss, (rng.integers(0, 2, (12, 32)) for _ in range(steps)), optimizer, steps)
        bits = rng.integers(0, 2, (12, 1000))
        with no_grad():
            right = np.argmax(answers(bits).data, axis=-1) == bits[1:]
        figures[f"{name.lower()} accuracy"] = float(right.mean())
        print(f"   {name:5} right in {100 * right.mean():5.1f} % of {right.size} answers")
    print("   (chance is 50 %: the past says nothing about the next bit)")
    return figures


# ----- 4 and helpers -----------------------------------------------------------------------------


def write(text: str, path: Path) -> str:
    """A page, to be opened in any browser."""
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"   report:  {path}  (open it in a browser)")
    return str(path)


def keep(model: Module, path: Path) -> str:
    """The weights in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.save(path, model)
    print(f"   weights: {path}  (tg.load(path, model) reads them back)")
    return str(path)
