"""Computation graphs as pictures: everything there once, nothing on top of anything else."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from svg_layout import labels, problems

import tinygrad_rnn as tg
from tinygrad_rnn.errors import FigureError, GraphFreedError
from tinygrad_rnn.figures.graph import graph
from tinygrad_rnn.figures.layered import Layout, Link
from tinygrad_rnn.figures.parts import MOST, recorded, traced
from tinygrad_rnn.graph import Leaf
from tinygrad_rnn.record import record

UNARY = [np.tanh, np.exp, np.negative, tg.sigmoid, lambda a: a.sum(), lambda a: a * 2.0]
BINARY = [np.add, np.subtract, np.multiply, lambda a, b: a / (2.0 + b * b)]


@st.composite
def programs(draw):
    """A random expression of named leaves, as a list of steps, and how many leaves it has."""
    count = draw(st.integers(1, 5))
    steps = []
    for k in range(draw(st.integers(1, 25))):
        a, b = (draw(st.integers(0, count + k - 1)) for _ in range(2))
        steps.append((draw(st.sampled_from(UNARY + BINARY)), a, b))
    return count, steps


def run(program, leaves):
    """The value of a program: its last result, and every leaf that led nowhere."""
    _, steps = program
    values = list(leaves)
    for function, a, b in steps:
        args = (values[a],) if function in UNARY else (values[a], values[b])
        values.append(function(*args))
    total = values[-1].sum()
    for leaf in leaves:
        total = total + 0.001 * leaf.sum()
    return total


def kept():
    """What this thread is doing."""
    return record.tracking, record.tracing, record.place, record.watch, record.check


def texts(figure):
    return [part.text for part in ET.fromstring(figure.svg).iter() if part.tag.endswith("text")]


def boxes(figure):
    found = ET.fromstring(figure.svg).iter("{http://www.w3.org/2000/svg}rect")
    return [part for part in found if "box" in part.get("class", "").split()]


@np.errstate(all="ignore")  # random programs overflow
@given(programs(), st.booleans(), st.booleans(), st.sampled_from(["en", "ja"]))
def test_random_expressions_have_no_overlaps_and_every_leaf_once(program, values, gradients, lang):
    leaves = [tg.Tensor(np.full(2, 0.1 * k), requires_grad=True) for k in range(program[0])]
    names = {f"p{k}": leaf for k, leaf in enumerate(leaves)}
    loss = run(program, leaves)
    figure = graph(loss, names=names, values=values, gradients=gradients, lang=lang)
    assert problems(figure.svg) == []
    shown = texts(figure)
    if len(recorded(loss).parts) < MOST:
        assert all(shown.count(name) == 1 for name in names)
    assert [leaf.grad for leaf in leaves] == [None] * len(leaves)
    again = graph(loss, names=names, values=values, gradients=gradients, lang=lang)
    assert again.svg == figure.svg
    loss.backward()  # the graph is still there
    assert all(leaf.grad is not None for leaf in leaves)


@np.errstate(all="ignore")  # random programs overflow
@given(programs())
def test_gradients_in_the_picture_are_those_of_backward(program):
    leaves = [tg.Tensor(np.full(2, 0.1 * k), requires_grad=True) for k in range(program[0])]
    from tinygrad_rnn.figures.graph import _differentiate

    loss = run(program, leaves)
    found = recorded(loss)
    _differentiate(found)
    loss.backward()
    for part in found.parts:
        node = part.outs[0].key[0]
        if isinstance(node, Leaf):
            np.testing.assert_array_equal(part.outs[0].gradient, node.grad)


@np.errstate(all="ignore")  # random programs overflow
@given(programs())
def test_a_function_is_drawn_as_its_tensor_is(program):
    leaves = [tg.Tensor(np.full(2, 0.1 * k), requires_grad=True) for k in range(program[0])]
    known = recorded(run(program, leaves))
    found = traced(lambda *leaves: run(program, leaves), leaves)
    calls = [part.what for part in found.parts if part.call]
    if not known.hidden and not found.hidden:
        assert sorted(calls) == sorted(part.what for part in known.parts if part.call)
    figure = graph(lambda *leaves: run(program, leaves), *leaves, values=True, gradients=True)
    assert problems(figure.svg) == []


def test_values_that_nodes_keep_are_those_of_the_run():
    x = tg.Tensor([0.5, -1.0], requires_grad=True)
    y = np.tanh(x) * np.exp(x)
    parts = {part.what: part for part in recorded(y.sum()).parts}
    np.testing.assert_array_equal(parts["tanh"].outs[0].array, np.tanh(x.data))
    np.testing.assert_array_equal(parts["exp"].outs[0].array, np.exp(x.data))
    assert parts["multiply"].outs[0].array is None  # nobody needs it, so nobody kept it


def test_values_of_every_rule_that_keeps_some():
    """What _fill reads off the nodes is what the function computed, for joined arrays too."""
    a, b = (tg.Tensor(np.arange(3.0) + k, requires_grad=True) for k in (1, 5))
    p, q = np.exp(a), np.exp(b)
    total = np.concatenate([p, q]).sum() + np.prod(p) + np.where(q > 1, p, q).sum() + (p / q).sum()
    for part in recorded(total).parts:
        if part.what == "exp":
            data = [np.exp(t.data) for t in (a, b)]
            assert any(np.array_equal(part.outs[0].array, d) for d in data)


def diamond(a):
    b = a + a
    c = b + b
    return c


def test_a_diamond_is_three_boxes_and_four_lines():
    figure = graph(diamond, 3.0, values=True, gradients=True)
    assert len(boxes(figure)) == 3
    assert figure.svg.count('class="line edge"') == 4
    lines = texts(figure)
    for label in ("a", "= 3", "b = 6", "c = 12", "∂ 4", "∂ 2", "∂ 1"):
        assert lines.count(label) == 1, label


def test_parallel_lines_are_drawn_apart():
    for links in ([Link(0, 1), Link(0, 1)], [Link(0, 1), Link(1, 2), Link(0, 2), Link(0, 2)]):
        layout = Layout([(40, 30)] * 3, links)
        first, second = layout.ways[-2:]
        assert all(abs(p[1] - q[1]) > 3 for p, q in zip(first, second, strict=True))


def test_lines_arrive_in_the_order_of_the_arguments_where_it_matters():
    """a - b: the upper line is a's, wherever a stands."""
    for into in ((0, 1), (1, 0)):
        links = [Link(0, 2, 0, into[0]), Link(1, 2, 0, into[1])]
        layout = Layout([(40, 30)] * 3, links, first=[0, 1], ordered=[2])
        ends = [way[-1][1] for way in layout.ways]
        assert (ends[0] < ends[1]) == (into == (0, 1))


def test_the_same_computation_gives_the_same_bytes_each_time():
    def loss():
        x = tg.Tensor(np.ones(3), requires_grad=True)
        return (np.tanh(x) * x).sum()

    first = graph(loss(), values=True, gradients=True).svg
    assert first == graph(loss(), values=True, gradients=True).svg
    assert "tanh (3,), made at test_figure_graph.py" in first


def test_a_box_with_several_results_is_one_box():
    def f(z):
        i, g = np.split(z, 2)
        return i * g

    figure = graph(f, np.arange(4.0))
    assert len(boxes(figure)) == 3
    assert "i, g (2,)" in texts(figure)


def test_constants_and_names_of_a_function():
    def f(x, w):
        z = x * w + 1.5
        return np.tanh(z)

    figure = graph(f, np.ones(2), np.ones(2), values=True)
    lines = texts(figure)
    assert [lines.count(label) for label in ("x", "w", "1.5", "z (2,)", "tanh")] == [1] * 5
    assert "x and w" not in figure.svg
    assert "x, w lead to multiply" in figure.svg
    assert "tanh(z)" in figure.svg  # the line of code, in a tooltip


def test_an_unused_input_stands_there_alone():
    figure = graph(lambda a, b: a * 2.0, 1.0, 2.0)
    assert texts(figure).count("b") == 1


def test_what_a_function_leaves_aside_is_not_drawn():
    def f(x):
        np.exp(x)
        return x * x

    assert "exp" not in texts(graph(f, 1.0))


def test_modules_arguments_that_are_no_arrays_and_nests():
    linear = tg.Linear(2, 3, "tanh", rng=0)
    assert {"W", "b"} <= set(texts(graph(linear, np.ones((1, 2)))))
    figure = graph(
        lambda pair, rng, how: pair[0] * pair[1], (1.0, 2.0), np.random.default_rng(0), "x"
    )
    assert {"pair0", "pair1"} <= set(texts(figure))


def test_a_long_graph_is_cut():
    x = tg.Tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    figure = graph(y)
    assert len(boxes(figure)) == MOST + 1
    assert f"{100_001 - MOST:,} more" in texts(figure)
    assert problems(figure.svg) == []


def test_a_long_function_is_cut():
    def f(x):
        for _ in range(200):
            x = np.tanh(x)
        return x

    figure = graph(f, 1.0, gradients=True, values=True)
    assert len(boxes(figure)) == MOST + 1
    assert "141 more" in texts(figure)


def test_a_recurrent_network_of_many_steps_has_no_overlaps():
    cell = tg.LSTMCell(2, 3, rng=0)
    loss = (tg.RNN(cell)(np.ones((12, 2, 2))).last ** 2).sum()
    figure = graph(loss, names=cell, gradients=True)
    assert problems(figure.svg) == []


def test_nothing_of_the_thread_changes():
    before = kept()
    graph(diamond, 3.0, gradients=True)
    with pytest.raises(ZeroDivisionError):
        graph(lambda x: 1 / 0, 1.0)
    assert kept() == before


def test_arguments_that_are_tensors_keep_their_gradients():
    x = tg.Tensor([1.0], requires_grad=True)
    x.grad = np.array([7.0])
    graph(lambda a: a * a, x, gradients=True)
    assert x.grad.tolist() == [7.0]
    y = x * x
    graph(y, gradients=True)
    assert x.grad.tolist() == [7.0]
    assert "∂ 4" in texts(graph(lambda a: a * a, tg.Tensor(2.0), gradients=True))  # a constant


def test_what_is_not_finite_is_drawn_without_warnings():
    figure = graph(lambda a: np.log(a) * a, 0.0, values=True, gradients=True)
    assert {"= -inf", "= nan"} <= set(texts(figure))


def test_errors():
    x = tg.Tensor(2.0, requires_grad=True)
    y = x * x
    y.backward()
    with pytest.raises(GraphFreedError):
        graph(y)
    with pytest.raises(FigureError, match="no graph"):
        graph(tg.Tensor(1.0))
    with pytest.raises(FigureError, match="takes no arguments"):
        graph(x * x, 1.0)
    with pytest.raises(FigureError, match="a Tensor, or of a function"):
        graph(3)
    with pytest.raises(FigureError, match="expected a Tensor"):
        graph(x * x, names={"x": 1})
    with pytest.raises(FigureError, match="a dict of Tensors"):
        graph(x * x, names=[x])
    with pytest.raises(FigureError, match="gradients=True"):
        graph(lambda k: k + 1, 1, gradients=True)
    with pytest.raises(FigureError, match="lang"):
        graph(x * x, lang="fr")


def test_in_japanese_only_code_is_english():
    x = tg.Tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(80):
        y = y * x
    figures = [
        graph(y, lang="ja", gradients=True, values=True),
        graph(lambda a: a * 2.0, np.ones(2), lang="ja", gradients=True),
        graph(lambda a: a * np.ones(2), np.ones(2), lang="ja"),
    ]
    for figure in figures:
        shown = [text for text in texts(figure) if text]
        shown += [text for text in labels(figure.svg) if "演算" in text]
        code = ("multiply", "x", "a", "2", "(2,)")
        for text in shown:
            left = text
            for word in code:
                left = left.replace(word, "")
            assert not any(letter.isascii() and letter.isalpha() for letter in left), text


def test_the_text_alternative_tells_the_graph():
    description = ET.fromstring(graph(diamond, 1.0).svg)[1].text
    assert description == "2 operations; a, a lead to add (b); b, b lead to add (c)"


@given(st.data())
def test_layouts_keep_boxes_apart_and_lines_run_forward(data):
    count = data.draw(st.integers(1, 25))
    sizes = [(data.draw(st.integers(10, 90)), data.draw(st.integers(10, 90))) for _ in range(count)]
    links = []
    for k in range(1, count):
        for _ in range(data.draw(st.integers(0, 3))):
            links.append(Link(data.draw(st.integers(0, k - 1)), k))
    layout = Layout(sizes, links)
    for a in range(count):
        for b in range(a):
            (x0, y0), (x1, y1) = layout.at[a], layout.at[b]
            wide = abs(x0 - x1) >= (sizes[a][0] + sizes[b][0]) / 2 - 1e-6
            high = abs(y0 - y1) >= (sizes[a][1] + sizes[b][1]) / 2 - 1e-6
            assert wide or high
    for link, way in zip(links, layout.ways, strict=True):
        assert all(p[0] < q[0] for p, q in itertools.pairwise(way))
        start, end = layout.at[link.source], layout.at[link.target]
        assert abs(way[0][0] - start[0] - sizes[link.source][0] / 2) <= 0.5
        assert abs(way[-1][0] - end[0] + sizes[link.target][0] / 2) <= 0.5
        for (x, y), (long, high) in zip(layout.at, sizes, strict=True):
            for (ax, ay), (bx, by) in itertools.pairwise(way):  # no line passes through a box
                apart = ay == by and abs(ay - y) >= high / 2 - 1e-6
                assert apart or ax >= x + long / 2 - 0.5 or bx <= x - long / 2 + 0.5
