"""The demo: `python -m tinygrad_rnn`. Four things in half a minute, each with its number.

1. BPTT is right: the gradients of an RNN and a BiRNN against finite differences.
2. It learns real text, character by character, and "hello world" by heart.
3. Where the future decides, a BiRNN answers and an RNN can only guess.
4. BPTT made visible: report.html, to go through step by step. The character model is in a file.

The character model is charmodel.py's, which `python -m tinygrad_rnn train` makes of your own text;
all else uses the public names alone: copy what you like.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import testing
from .cells import RNNCell
from .charmodel import CharModel, guessing, learn, measure, save
from .differentiate import no_grad
from .losses import cross_entropy
from .module import Linear
from .optim import Adam
from .recurrent import RNN, BiRNN
from .report import report
from .train import fit

CHUNK, ROWS = 25, 32  # characters that BPTT goes back over; pieces of the text side by side


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
    print(f"\ndone in {time.perf_counter() - started:.0f} s. Text from the model:")
    print(f"python -m tinygrad_rnn sample {shlex.quote(figures['files'][0])} --start 'The '")
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


def corpus() -> str:
    """The topics of Python's help(): about 465,000 characters, on every machine with Python."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def characters(seed: int, steps: int) -> tuple[CharModel, dict[str, Any]]:
    """Train on nine tenths of the text, measure on the last tenth."""
    text, rng = corpus(), np.random.default_rng(seed)
    model = CharModel(text, 100, cell="rnn", rng=rng)
    codes, size = model.codes(text), len(model.alphabet)
    train, held = np.split(codes, [len(codes) * 9 // 10])
    unigram, before = guessing(train, held, size), measure(model, held)
    history = learn(model, train, steps, CHUNK, ROWS, rng)
    after = measure(model, held)
    sample = "".join(model.text("The ", 160, rng, temperature=0.6))
    print(f"   {len(text)} characters, {size} different; {steps} steps of {CHUNK} x {ROWS}")
    print(f"   nats per character, on text never seen: {before:.3f} before, {after:.3f} after")
    print(f"   the best guess without looking back (unigram entropy): {unigram:.3f}")
    print("   a sample: " + repr(sample))
    figures = {"before": before, "after": after, "unigram": unigram, "sample": sample}
    return model, figures | {"losses": history.loss}


WORDS = "hello world"


def hello_world(seed: int) -> tuple[CharModel, dict[str, str]]:
    """The tutorial's words, learnt by heart."""
    model, steps = CharModel(WORDS, 16, cell="rnn", rng=seed), len(WORDS) - 1
    learn(model, model.codes(WORDS), 100, chunk=steps, rng=seed, progress=False)
    recited = "".join(model.text(WORDS[0], steps, seed, temperature=0))
    print(f"   given {WORDS[0]!r}, after 100 steps it recites: {recited!r}")
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


def keep(model: CharModel, path: Path) -> str:
    """The model in a file, from which `sample` writes text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, model)
    print(f"   model:   {path}")
    return str(path)
