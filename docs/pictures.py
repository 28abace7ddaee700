"""Makes the pictures of README and docs: `python docs/pictures.py`; `--check`: are they as made?"""

import argparse
import contextlib
import io
import sys
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.report import flows

FOLDER = Path(__file__).parent / "pictures"
LANGUAGES = {"en": "", "ja": ".ja"}


def x(*shape):
    return np.random.default_rng(0).normal(size=shape)


def rnn(lang):
    """An RNN over eight characters, each to predict the next: the first block of bptt.md."""
    page = (Path(__file__).parent / "bptt.md").read_text(encoding="utf-8")
    block = page.split("```python\n")[1].split("```")[0]
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(block, names)
    drawn = [names[name] for name in ("out", "loss")]
    return tg.draw(*drawn, **names["labels"], names=names["readout"], lang=lang)


def birnn(lang):
    net, readout = (
        tg.BiRNN(tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1)),
        tg.Linear(8, 2, rng=2),
    )
    loss = (readout(net(x(6, 2, 3)).outputs) ** 2).sum()
    return tg.draw(loss, names=readout, lang=lang)


def encoder_decoder(lang):
    encoder, decoder = (tg.RNN(tg.GRUCell(3, 4, rng=k)) for k in (0, 1))
    readout = tg.Linear(4, 3, rng=2)
    out = decoder(x(3, 1, 3), state=encoder(x(4, 1, 3)).state)
    words = {"en": ("encoder", "decoder"), "ja": ("符号化器", "復号化器")}[lang]
    names = dict(zip((*words, "W"), (encoder, decoder, readout), strict=True))
    return tg.draw((readout(out.outputs) ** 2).sum(), names=names, lang=lang)


def graph(lang):
    """The graph of a small expression: a is used twice, so its gradient is a sum."""
    return tg.draw(
        lambda a, b: np.tanh(a * b) + a, args=(0.5, 2.0), values=True, gradients=True, lang=lang
    )


def contributions(lang):
    net = tg.RNN(tg.RNNCell(3, 4, rng=0))
    loss = (net(x(12, 1, 3)).last ** 2).sum()
    return tg.contributions(loss, net.cell.V).draw(lang)


def sensitivity(lang):
    net = tg.BiRNN(tg.RNNCell(3, 8, rng=0), tg.RNNCell(3, 8, rng=1))
    return tg.sensitivity(net, x(12, 4, 3)).draw(lang)


PICTURES = {
    "rnn": rnn,
    "birnn": birnn,
    "encoder_decoder": encoder_decoder,
    "cell": lambda lang: tg.draw(tg.RNNCell(3, 4, rng=0), lang=lang),
    "gru": lambda lang: tg.draw(tg.GRUCell(3, 4, rng=0), lang=lang),
    "tasks": lambda lang: tg.draw("tasks", lang=lang),
    "graph": graph,
    "contributions": contributions,
    "flows": lambda lang: tg.draw(flows(lang=lang), lang=lang),
    "sensitivity": sensitivity,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="make nothing, say what differs")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    old = []
    for name, make in PICTURES.items():
        for lang, suffix in LANGUAGES.items():
            path = FOLDER / f"{name}{suffix}.svg"
            svg = make(lang).svg
            if not path.exists() or path.read_text(encoding="utf-8") != svg:
                old.append(path.name)
                if not check:
                    path.write_text(svg, encoding="utf-8", newline="\n")
    print("\n".join(old) or "all pictures are as made")
    return 1 if old and check else 0


if __name__ == "__main__":
    sys.exit(main())
