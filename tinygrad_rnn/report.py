"""The demo's report: one HTML page that shows what backpropagation through time does."""

from __future__ import annotations

from typing import Any

import numpy as np

from .canvas.charts import lines
from .canvas.page import page
from .canvas.pen import Figure
from .canvas.words import say
from .cells import GRUCell, LSTMCell, RNNCell
from .figures.drawing import draw
from .insight import contributions, gradient_flow, sensitivity
from .losses import cross_entropy
from .recurrent import RNN, BiRNN

Section = tuple[str, str, Figure | None]


def report(model: Any, words: str, losses: list[float], seed: int, lang: str) -> str:
    """The page, as HTML that needs no network.

    model   a CharModel of one RNN that was taught the words; it is run on them once more
    losses  of the model that learnt real text, one for each step of its training
    lang    "en" or "ja"
    """
    sections = [*_words(model, words, lang), *_flows(seed, lang), *_sights(seed, lang)]
    series = {say("loss", lang): np.array(losses)}
    title = say("Nats per character while real text is learnt", lang)
    curve = lines(series, title, say("training step", lang), say("nats", lang), False, lang)
    text = say("The curve of the demo's character RNN.", lang)
    sections.append((say("Learning", lang), text, curve))
    return page(say("Backpropagation through time, made visible", lang), sections, lang)


def _words(model: Any, words: str, lang: str) -> list[Section]:
    """The network on the words that it has learnt: each character predicts the next."""
    read, wanted = words[:-1], words[1:]
    embedding, rnn, readout = model.layers
    out = rnn(embedding(model.codes(read)), return_states=True)
    logits = readout(out.outputs)
    loss = cross_entropy(logits, model.codes(wanted), reduction="sum")
    said = "".join(model.alphabet[k] for k in logits.data.argmax(axis=-1))
    labels = {"inputs": read, "outputs": said, "targets": wanted}
    names = {"E": embedding.W, "readout": readout}
    unrolled = draw(out, loss, **labels, names=names, lang=lang)
    parts = contributions(loss, rnn.cell.V).draw(lang, names=read)
    states = draw(out, kind="states", inputs=read, lang=lang)
    return [
        (
            say("Unrolled in time", lang),
            say(
                "Go through it with the buttons or the arrow keys: forward first, then back. Each "
                "weight is one and the same at every step: its gradient is a sum over the steps.",
                lang,
            ),
            unrolled,
        ),
        (
            say("The sum that BPTT is", lang),
            say(
                "V acts at every time step, and its gradient is the sum of what every step gives. "
                "Filled: a step's share, along the direction of the whole gradient. Hollow: how "
                "large its part is; what points elsewhere cancels.",
                lang,
            ),
            parts,
        ),
        (
            say("What the state holds", lang),
            say("Each row is a unit of the hidden state, each column a character.", lang),
            states,
        ),
    ]


def _flows(seed: int, lang: str) -> list[Section]:
    """How much of a gradient gets back, in four untrained networks."""
    text = say(
        "The loss reads the last state only: how much of its gradient gets back to t? Through tanh "
        "it vanishes, through a linear RNN with a large V it explodes. Where the gates of an LSTM "
        "or a GRU stay open (bias 3), it fades slowly.",
        lang,
    )
    curves = draw(flows(seed, lang=lang), lang=lang)
    return [(say("Vanishing and exploding gradients", lang), text, curves)]


def flows(seed: int = 0, steps: int = 60, lang: str = "en") -> dict[str, Any]:
    """|dL/dh_t| where the loss reads the last state, by kind of network, named in a language.

    flows()["LSTM"]      # 60 numbers
    """
    rng = np.random.default_rng(seed)
    size, inputs = 16, 4
    linear = RNNCell(inputs, size, "identity", rng=rng)
    linear.V.data = 1.1 * linear.V.data  # orthogonal: the gradient grows by 1.1 a step
    gru = GRUCell(inputs, size, rng=rng)
    gru.b.data = np.repeat([0.0, 3.0, 0.0], size)
    cells = {
        say("linear RNN, 1.1 V", lang): linear,
        "tanh RNN": RNNCell(inputs, size, rng=rng),
        "LSTM": LSTMCell(inputs, size, forget_bias=3.0, rng=rng),
        "GRU": gru,
    }
    x, found = rng.standard_normal((steps, 8, inputs)), {}
    for name, cell in cells.items():
        out = RNN(cell)(x, return_states=True)
        found[name] = gradient_flow((out.last**2).mean(), out)
    return found


def _sights(seed: int, lang: str) -> list[Section]:
    """Which outputs depend on which inputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((16, 4, 4))
    ahead, back = (RNNCell(4, 16, rng=rng) for _ in range(2))
    return [
        (
            say("An RNN sees the past", lang),
            say(
                "Rows are times of outputs, columns times of inputs. Above the diagonal all is 0.",
                lang,
            ),
            sensitivity(RNN(ahead), x).draw(lang),
        ),
        (
            say("A BiRNN sees past and future", lang),
            say("Here both sides of the diagonal have values.", lang),
            sensitivity(BiRNN(ahead, back), x).draw(lang),
        ),
    ]
