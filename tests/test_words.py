"""Pictures speak English and Japanese: every label has a translation, with the same fields."""

import ast
import re
import string
from pathlib import Path

import numpy as np
import pytest
from svg_layout import labels

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.page import BUTTONS
from tinygrad_rnn.canvas.words import JAPANESE, say
from tinygrad_rnn.report import flows

PACKAGE = Path(tg.__file__).parent
FILES = [
    *sorted(PACKAGE.glob("canvas/*.py")),
    *sorted(PACKAGE.glob("figures/*.py")),
    PACKAGE / "insight.py",
    PACKAGE / "report.py",
]


def said():
    """What the code passes to `say`, and texts that reach it through the name `text`."""
    found = set(BUTTONS)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            told = None
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                told = node.args[0]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "text":
                told = node.value if isinstance(node.value, (ast.Constant, ast.IfExp)) else None
            if isinstance(told, ast.IfExp):  # its condition is no label
                told = ast.Tuple([told.body, told.orelse])
            for part in ast.walk(told) if told else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.add(part.value)
    return sorted(text for text in found if re.search("[a-z]{2}", text))


@pytest.mark.parametrize("text", said())
def test_every_label_has_a_translation_with_the_same_fields(text):
    def fields(template):
        return sorted(name for _, name, _, _ in string.Formatter().parse(template) if name)

    assert fields(JAPANESE[text]) == fields(text)


def test_other_languages_are_refused():
    with pytest.raises(tg.errors.FigureError, match="expected 'en' or 'ja'"):
        say("gradient", "de")


def pictures():
    x = np.random.default_rng(0).normal(size=(3, 2, 3))
    birnn = tg.BiRNN(tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1))
    loss = (birnn(x, lengths=[3, 2]).outputs ** 2).sum()
    yield tg.draw(loss, lang="ja")
    yield tg.draw(lambda a, b: np.tanh(a * b) + a, args=(0.5, 2.0), gradients=True, lang="ja")
    yield tg.draw(birnn.forward_rnn.cell, lang="ja")
    yield tg.draw("tasks", lang="ja")
    yield tg.draw(flows(lang="ja"), lang="ja")
    yield tg.contributions(loss, birnn.forward_rnn.cell.V).draw("ja")
    yield tg.sensitivity(birnn, x).draw("ja")


def test_japanese_texts_have_japanese_punctuation():
    for figure in pictures():
        texts = [*labels(figure.svg), *figure.frames]
        western = r"。\s|[ぁ-んァ-ヶ一-龠][:;] |^\(\d+, \d+\): "
        assert not [text for text in texts if re.search(western, text)]


def test_the_weight_whose_gradient_is_shown_is_told_from_its_namesake():
    unrolled = next(pictures())
    assert {"V の勾配", "(→h)"} <= set(labels(unrolled.svg))
    alone = tg.draw(tg.RNN(tg.RNNCell(3, 4, rng=0))(np.ones((3, 1, 3))).last.sum(), lang="ja")
    assert "V の勾配" in labels(alone.svg)
    assert "(h)" not in labels(alone.svg)


def test_no_label_of_the_report_stays_english():
    assert list(flows(lang="ja")) == ["線形 RNN、1.1 V", "tanh RNN", "LSTM", "GRU"]
