"""Pictures speak English and Japanese: every label has a translation, with the same fields."""

import ast
import re
import string
from pathlib import Path

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.page import BUTTONS
from tinygrad_rnn.canvas.words import JAPANESE, say

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
