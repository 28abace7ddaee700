"""Folded cells as pictures: every cell can be drawn, with each weight once and a loop per state."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from svg_layout import labels, problems
from test_zoo import ZOO, C

import tinygrad_rnn as tg
from tinygrad_rnn.errors import CellError, FigureError
from tinygrad_rnn.figures.cell import folded
from tinygrad_rnn.nests import leaves
from tinygrad_rnn.record import record


def lstm(seed=0):
    return tg.LSTMCell(3, 4, rng=seed)


CELLS = {name: (lambda make=make: make(rng=0)) for name, make in ZOO.items()} | {
    "RNNCell": lambda: tg.RNNCell(3, 4, rng=0),
    "RNNCell without bias": lambda: tg.RNNCell(3, 4, "relu", bias=False, rng=0),
    "RNNCell of one unit": lambda: tg.RNNCell(1, 1, rng=0),
    "LSTMCell": lstm,
    "GRUCell": lambda: tg.GRUCell(3, 4, rng=0),
    "GRUCell before": lambda: tg.GRUCell(3, 4, reset_after=False, rng=0),
    "Stacked": lambda: tg.Stacked(lstm(), tg.GRUCell(4, 5, rng=1)),
    "Readout": lambda: tg.Readout(lstm(), tg.Linear(4, 2, rng=1)),
    "Residual": lambda: tg.Residual(tg.GRUCell(4, 4, rng=0)),
    "Zoneout": lambda: tg.Zoneout(lstm(), p=(0.05, 0.5)),
    "Zoneout, eval": lambda: tg.Zoneout(lstm(), p=0.1).eval(),
    "VariationalDropout": lambda: tg.VariationalDropout(lstm(), p=0.5, rng=1),
    "deep": lambda: tg.Stacked(*[tg.Residual(tg.LSTMCell(4, 4, rng=k)) for k in range(6)]),
}
NO_WIDTH = {"CfC": (C, 1)}  # x is a pair


def draw(name, **options):
    return folded(CELLS[name](), inputs=NO_WIDTH.get(name), **options)


def kept():
    """What this thread is doing."""
    return record.tracking, record.tracing, record.place, record.watch, record.check


def texts(figure):
    parts = ET.fromstring(figure.svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(part.itertext()) for part in parts]


def bold(figure):
    """The labels in coloured boxes, in the right panel: the text after such a box."""
    parts = list(ET.fromstring(figure.svg).iter())
    return [
        "".join(after.itertext())
        for part, after in itertools.pairwise(parts)
        if part.get("class", "").startswith("box thick c")
    ]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_drawn_without_overlaps_and_in_the_same_bytes(name, lang):
    figure = draw(name, lang=lang)
    assert problems(figure.svg) == []
    assert draw(name, lang=lang).svg == figure.svg


@pytest.mark.parametrize("name", [name for name in CELLS if name != "deep"])
def test_every_weight_stands_there_once(name):
    shown = bold(draw(name))
    assert shown[:2] == ["W", "b"]  # those of the feed-forward layer
    parameters = CELLS[name]().named_parameters()
    expected = sorted(key if "." in key else key.replace("_", "") for key in parameters)
    assert sorted(label if "." in label else label.replace("_", "") for label in shown[2:]) == (
        expected
    )


def test_a_long_step_is_one_box_with_all_weights():
    figure = draw("deep")
    shown = texts(figure)
    for key, parameter in CELLS["deep"]().named_parameters().items():
        assert shown.count(f"{key} {parameter.shape}") == 1
    assert "90 operations" in shown


@pytest.mark.parametrize("name", CELLS)
def test_every_state_has_one_loop(name):
    figure = draw(name)
    count = len(leaves(CELLS[name]().initial_state((1,))))
    assert figure.svg.count('stroke-width:2"') == count  # only loops are drawn so thick
    shown = texts(figure)
    old = [label[:-3] for label in shown if label.endswith("t-1")]
    assert len(old) == len(set(old)) == count
    assert all(shown.count(f"{label}t") == 1 for label in old)


def test_the_plain_cell_is_the_textbook_picture():
    """x from below, h above and out, the loop to the left of it all, the weights between."""
    figure = draw("RNNCell")
    root = ET.fromstring(figure.svg)
    at = {}
    for part in root.iter("{http://www.w3.org/2000/svg}text"):
        at["".join(part.itertext())] = float(part.get("x")), float(part.get("y"))
    up = [at[label][1] for label in ("xt", "ht-1", "U", "+", "tanh", "ht", "output")]
    assert sorted(up, reverse=True) == up
    assert abs(at["xt"][0] - at["U"][0]) < 3
    assert abs(at["xt"][0] - at["ht"][0]) < 3
    assert at["ht-1"][0] < at["V"][0] < at["U"][0]
    assert {"z + b", "(3, 4)", "(4, 4)", "(4,)", "one step later"} <= set(at)


def test_the_users_names_are_in_the_picture():
    class Tutorial(tg.Cell):
        def __init__(self):
            self.inputs, self.state_shape = 3, (4,)
            self.W_ax = tg.Parameter(np.ones((3, 4)))
            self.W_aa = tg.Parameter(np.eye(4))
            self.b_a = tg.Parameter(np.zeros(4))
            self.spare, self.idle = tg.Parameter(np.zeros(2)), tg.Parameter(np.zeros(4))

        def step(self, x, a):
            np.tanh(a + self.idle)  # leads to nothing
            a_hat = x @ self.W_ax + a @ self.W_aa + self.b_a
            return np.tanh(a_hat)

    figure = folded(Tutorial())
    shown = texts(figure)
    assert {"at", "at-1", "xt", "Wax", "Waa", "ba", "a_hat", "tanh"} <= set(shown)
    assert "not used: spare (2,), idle (4,)" in shown
    assert shown.count("+") == 2  # one in each panel: a sum of three is one sum
    assert problems(figure.svg) == []


def test_a_step_that_reads_values_is_drawn_too():
    class Reader(tg.Cell):
        inputs, state_shape = 2, (2,)

        def step(self, x, h):
            y = np.tanh(x + h) if float(x.sum()) > 0 else h
            return y[y > -5].reshape(h.shape)

    figure = folded(Reader())
    assert "The step reads values: this is its way for x = 1." in texts(figure)
    assert problems(figure.svg) == []
    assert "The step reads values" not in draw("LSTMCell").svg


def test_functions_of_the_library_are_one_box():
    assert texts(draw("LayerNormLSTM")).count("layer_norm") == 3


def test_the_state_that_is_the_output_stands_highest():
    root = ET.fromstring(draw("LSTMCell").svg)
    parts = root.iter("{http://www.w3.org/2000/svg}text")
    at = {"".join(part.itertext()): (float(part.get("x")), float(part.get("y"))) for part in parts}
    assert at["output"][1] < at["ht"][1] < at["ct"][1]
    assert at["ct"][0] < at["ht"][0] < at["output"][0]


def test_an_output_that_is_not_the_state_has_its_own_box():
    assert "yt" in texts(draw("LinearStateRNN"))
    assert "yt" not in texts(draw("LSTMCell"))


def test_a_state_that_stays_as_it_is_and_one_that_is_not_used():
    class Still(tg.Cell):
        inputs, state_shape = 2, ((2,), (3,), (2,))

        def step(self, x, state):
            a, b, _ = state
            return x, (a, b, x)

    figure = folded(Still())
    assert problems(figure.svg) == []
    assert figure.svg.count('stroke-width:2"') == 3


def test_a_cell_without_a_width_asks_for_it():
    class Plain(tg.Cell):
        state_shape = (2,)

        def step(self, x, h):
            return np.tanh(x + h)

    with pytest.raises(FigureError, match="inputs="):
        folded(Plain())
    assert problems(folded(Plain(), inputs=2).svg) == []
    with pytest.raises(FigureError, match="Pass inputs="):
        folded(Plain(), inputs=3)
    with pytest.raises(FigureError, match=r"pair.*tuple of widths"):
        folded(CELLS["CfC"]())
    with pytest.raises(CellError, match="takes a cell"):
        folded(tg.Linear(2, 3, rng=0))
    with pytest.raises(FigureError, match="lang"):
        folded(lstm(), lang="fr")


def test_nothing_changes_by_drawing():
    cell = CELLS["VariationalDropout"]()
    for parameter in cell.parameters():
        parameter.grad = np.ones(parameter.shape)
    before, rng = kept(), cell.rng.bit_generator.state
    folded(cell)
    assert kept() == before
    assert cell.rng.bit_generator.state == rng
    assert all((parameter.grad == 1).all() for parameter in cell.parameters())


def test_in_japanese_only_code_is_english():
    code = {"tanh", "sigmoid", "split", "RNNCell", "LSTMCell", "matmul", "add", "multiply"}
    for name in ("RNNCell", "LSTMCell"):
        for text in labels(draw(name, lang="ja").svg):
            if ": " in text:  # a line of code, in a tooltip
                continue
            letters = "".join(c if c.isascii() and c.isalpha() else " " for c in text)
            words = {word for word in letters.split() if len(word) > 2}
            assert words <= code, text


def test_the_text_alternative_tells_the_cell():
    description = ET.fromstring(draw("RNNCell").svg)[1].text
    assert "h go back in" in description
    assert "U (3, 4)" in description
    assert "tanh" in description


STEPS = [
    lambda cell, a, c: a + c,
    lambda cell, a, c: a * c,
    lambda cell, a, c: a @ cell.A,
    lambda cell, a, c: a @ cell.B + cell.b,
    lambda cell, a, c: 1 - a,
    lambda cell, a, c: tg.layer_norm(a, cell.b),
    lambda cell, a, c: np.concatenate(np.split(a, 3, axis=-1)[::-1], axis=-1),
]


@st.composite
def cells(draw):
    """A cell with a random step: a few states, weights of several kinds, calls between them."""
    states, calls = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    plan = [
        (
            draw(st.integers(0, 6)),
            draw(st.integers(0, states + k)),
            draw(st.integers(0, states + k)),
        )
        for k in range(calls)
    ]

    class Random(tg.Cell):
        inputs, state_shape = 3, ((3,),) * states

        def __init__(self):
            self.A, self.B = tg.Parameter(np.eye(3)), tg.Parameter(np.eye(3))
            self.b = tg.Parameter(np.zeros(3))

        def step(self, x, state):
            known = [x, *state]
            for kind, i, j in plan:
                known.append(STEPS[kind](self, known[i], known[j]))
            return known[-1], tuple(known[-states:])

    return Random()


@given(cells())
def test_random_cells_are_drawn(cell):
    figure = folded(cell)
    assert problems(figure.svg) == []
    names = bold(figure)[2:]
    spare = [text for text in texts(figure) if text.startswith("not used")]
    missing = spare[0].count("(") if spare else 0
    assert len(names) == len(set(names)) == 3 - missing
    assert folded(cell).svg == figure.svg
