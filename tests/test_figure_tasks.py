"""The kinds of task: every box stands where it should, and the code in the pictures runs."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from svg_layout import labels, problems

import tinygrad_rnn as tg
from tinygrad_rnn.errors import FigureError
from tinygrad_rnn.figures.tasks import TASKS, tasks


def texts(figure):
    parts = ET.fromstring(figure.svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(part.itertext()) for part in parts]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("which", [None, *TASKS])
def test_nothing_overlaps_and_the_same_bytes_come_again(which, lang):
    figure = tasks(which, lang)
    assert problems(figure.svg) == []
    assert tasks(which, lang).svg == figure.svg


@pytest.mark.parametrize("name", TASKS)
def test_inputs_states_and_outputs_stand_once_where_they_are_used(name):
    task, shown = TASKS[name], texts(tasks(name))
    assert sum(label[0] == "x" and len(label) < 3 for label in shown) == len(task.xs)
    assert sum(label[0] == "y" and len(label) < 3 for label in shown) == len(task.ys)
    states = [label for label in shown if label.strip("→←0123456789") in ("h", "s")]
    assert len(states) == len(set(states)) == task.steps * (2 if task.both else 1)
    assert shown.count(task.code) == 1
    assert shown.count(task.title) == shown.count(task.use) == 1


def test_all_of_them_are_in_the_one_picture():
    shown = texts(tasks())
    for task in TASKS.values():
        assert shown.count(task.title) == shown.count(task.use) == shown.count(task.code) == 1


def test_feedback_is_dashed_and_only_where_outputs_come_back():
    for name, task in TASKS.items():
        assert tasks(name).svg.count('class="line edge dashed"') == (
            len(task.ys) - 1 if task.fed_back else 0
        )


def test_the_results_that_the_pictures_name_are_there():
    rnn, x = tg.RNN(tg.RNNCell(3, 3, rng=0)), np.ones((4, 2, 3))
    out = rnn(x)
    assert out.outputs.shape == (4, 2, 3)
    assert out.last.shape == (2, 3)
    cell, same = tg.RNNCell(3, 3, rng=1), lambda y, rng: y
    assert tg.generate(cell, x[0], 4, same, rng=0).outputs.shape == (4, 2, 3)
    assert tg.generate(cell, x[0], 2, same, state=rnn(x).state, rng=0).outputs.shape == (2, 2, 3)
    both = tg.BiRNN(tg.RNNCell(3, 3, rng=0), tg.RNNCell(3, 3, rng=1))
    assert both(x).outputs.shape == (4, 2, 6)


def test_in_japanese_only_code_is_english():
    code = [task.code for task in TASKS.values()]
    for text in labels(tasks(lang="ja").svg):
        left = text
        for word in code:
            left = left.replace(word, "")
        words = left.replace("→h", "").replace("←h", "").split()
        assert all(not word.isascii() or len(word) < 3 for word in words), text


def test_an_unknown_name_is_told_with_those_that_there_are():
    with pytest.raises(FigureError, match=r"many-to-few.*one-to-one.*bidirectional"):
        tasks("many-to-few")
    with pytest.raises(FigureError, match="lang"):
        tasks(lang="de")


def test_the_text_alternative_tells_what_is_read():
    description = ET.fromstring(tasks("many-to-one").svg)[1].text
    assert "inputs at 1, 2, 3, 4, outputs read at 4" in description
    assert "rnn(x).last" in description
