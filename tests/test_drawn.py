"""`python -m tinygrad_rnn draw`: what is drawn, what is said, and the exit status."""

import textwrap

import pytest
from svg_layout import problems

from tinygrad_rnn import __main__

FILE = """
    import tinygrad_rnn as tg

    class Mine(tg.Cell):
        def __init__(self, hidden):
            self.W = tg.Linear(3 + hidden, hidden, "tanh", rng=0)
            self.state_shape = (hidden,)

        def step(self, x, h):
            import numpy as np
            return self.W(np.concatenate([x, h], axis=-1))

    class Broken(Mine):
        def step(self, x, h):
            raise KeyError("in the step")

    class Timed(tg.RNNCell):
        def step(self, x, h):
            values, gap = x
            return super().step(values, h / (1 + gap))

    def both():
        return tg.BiRNN(tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1))
"""


@pytest.fixture
def draw(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = __main__.main(["draw", *words])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mine.py:Mine(4)", "--inputs", "3"], "Mine, folded"),
        (["mine.py:Mine(4)", "--inputs", "3", "--steps", "3"], "RNN(Mine), unrolled in time"),
        (["mine.py:Timed(3, 4, rng=0)", "--inputs", "3,4"], "Timed, folded"),
        (["mine.py:Timed(3, 4, rng=0)", "--inputs", "3,1", "--steps", "2"], "RNN(Timed), unrolled"),
        (["mine.py:both()"], "unrolled in time"),
        (["mine.py:both()", "--text", "hello"], ">h</text>"),
        (["mine.py:tg.GRUCell(3, 4, rng=0)", "--lang", "ja"], "（展開前）"),
        (["tasks"], "Kinds of task"),
        (["many-to-one", "--lang", "ja"], "多対一"),
    ],
)
def test_a_picture_goes_to_the_standard_output(draw, words, says):
    status, out, err = draw(*words)
    assert (status, err) == (0, "")
    assert says in out
    assert problems(out) == []


def test_or_into_a_file(draw, tmp_path):
    status, out, _ = draw("mine.py:both()", "--steps", "4", "--out", "both.html")
    assert (status, out) == (0, "both.html: RNN(RNNCell), unrolled in time\n")
    assert (tmp_path / "both.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mine.py:Mine(4)"], "does not say the width of x: add --inputs"),
        (["mine.py:Mine(4)", "--inputs", "3", "--out", "x.png"], "saved as .svg or .html"),
        (["mine.py:Mine(4)", "--inputs", "3", "--out", "no/x.svg"], "no/x.svg cannot be written"),
        (["tasks", "--out", "x.pdf"], "saved as .svg or .html"),
        (["many_to_one"], "no call and no task type: tasks, one-to-one"),
        (["mine.py:tg.Linear(3, 4, rng=0)"], "no cell and no layer"),
        (["none.py:Mine(4)"], "there is no file none.py"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_status_2(draw, words, says):
    status, out, err = draw(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_an_error_in_the_users_own_lines_is_shown_where_it_happened(draw):
    status, out, err = draw("mine.py:Broken(4)", "--inputs", "3", "--steps", "2")
    assert (status, out) == (2, "")
    assert err.startswith("draw: KeyError: 'in the step' (")
    assert "mine.py, line 15: " in err
    assert err.endswith(': raise KeyError("in the step"))\n')
    status, _, err = draw("mine.py:Timed(3, 4, rng=0)", "--steps", "3")
    assert status == 2
    assert err.startswith("draw: ValueError: not enough values to unpack")
    assert err.count("\n") == 1


def test_numbers_are_counts(draw, capsys):
    with pytest.raises(SystemExit):
        draw("mine.py:both()", "--steps", "0")
    assert "expected a whole number, 1 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        draw("mine.py:both()", "--seed", "-1")
    assert "--seed: -1: expected a whole number, 0 or more" in capsys.readouterr().err
