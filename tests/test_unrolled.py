"""The unrolled network as a picture: nothing overlaps, time in order, each weight only once."""

import functools
import itertools
import linecache
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from browser import chrome as chrome  # a fixture
from browser import errors, requests, show
from hypothesis import given
from hypothesis import strategies as st
from networks import NETWORKS, birnn, encoder_decoder, long, rnn, x
from svg_layout import labels, problems

import tinygrad_rnn as tg
from tinygrad_rnn.canvas.words import JAPANESE
from tinygrad_rnn.figures.lanes import Lanes
from tinygrad_rnn.figures.measured import Measured
from tinygrad_rnn.nests import leaves
from tinygrad_rnn.unfold import Unfolded

SVG = "{http://www.w3.org/2000/svg}"


@functools.cache  # a figure does not change
def drawn(name, **more):
    what, options = NETWORKS[name]()
    return tg.draw(what, **options, **more)


def texts(figure):
    """Each label with the place of its anchor, subscripts as h_3."""
    found = []
    for element in ET.fromstring(figure.svg).iter(f"{SVG}text"):
        low = element.find(f"{SVG}tspan")
        text = (element.text or "") + ("" if low is None else f"_{low.text}")
        found.append((text, float(element.get("x")), float(element.get("y"))))
    return found


def named(figure, pattern):
    return [(text, x, y) for text, x, y in texts(figure) if re.fullmatch(pattern, text)]


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_overlaps_and_the_size_is_small(name):
    figure = drawn(name)
    assert problems(figure.svg) == []
    assert len(figure.svg) < 100_000
    assert len(figure.html) < 300_000


@given(
    steps=st.integers(1, 40),
    most=st.integers(1, 20),
    cell=st.sampled_from([tg.RNNCell, tg.LSTMCell, tg.GRUCell]),
    kind=st.sampled_from(["RNN", "reverse", "BiRNN", "stack"]),
    lengths=st.booleans(),
    truncate=st.one_of(st.none(), st.integers(1, 5)),
)
def test_nothing_overlaps_whatever_is_drawn(steps, most, cell, kind, lengths, truncate):
    net = {
        "RNN": lambda: tg.RNN(cell(3, 4, rng=0)),
        "reverse": lambda: tg.RNN(cell(3, 4, rng=0), reverse=True),
        "BiRNN": lambda: tg.BiRNN(cell(3, 4, rng=0), cell(3, 4, rng=1)),
        "stack": lambda: tg.Chain(tg.RNN(cell(3, 4, rng=0)), tg.RNN(cell(4, 2, rng=1))),
    }[kind]()
    out = net(x(steps), lengths=[steps, steps // 2] if lengths else None, truncate=truncate)
    figure = tg.draw((out.outputs**2).sum(), most=most)
    assert problems(figure.svg) == []
    shown = {text for text, _, _ in named(figure, r"x_\d+")}
    assert len(shown) == min(steps, max(3, most))
    assert {"x_0", f"x_{steps - 1}"} <= shown


@pytest.mark.parametrize("name", NETWORKS)
def test_time_runs_from_left_to_right(name):
    figure = drawn(name)
    for symbol in ("h", "→h", "←h", "x", "y"):
        rows = {}
        for text, at, y in named(figure, rf"{symbol}_\d+"):
            rows.setdefault(y, []).append((at, int(text.split("_")[1])))
        for row in rows.values():
            times = [t for _, t in sorted(row)]
            starts = [k for k, t in enumerate(times) if t == 0][1:]  # a decoder begins again
            for part in np.split(times, starts):
                assert list(part) == sorted(set(part.tolist()))


@pytest.mark.parametrize("name", NETWORKS)
def test_each_weight_stands_once(name):
    what, options = NETWORKS[name]()
    graph = Unfolded(what if isinstance(what, tg.Tensor) else what.outputs)
    weights = {key for node in graph.nodes for _, key, _ in graph.edges(node) if not key[0].rule}
    figure = tg.draw(what, **options)
    assert len(named(figure, r"[\w.]+ \([\d, ]+\)")) == len(weights) > 0


def test_the_input_is_no_weight_though_it_needs_a_gradient():
    net = tg.RNN(tg.RNNCell(3, 4, rng=0))
    figure = tg.draw(net(tg.Tensor(x(4), requires_grad=True)).last.sum())
    assert len(named(figure, r"[\w.]+ \([\d, ]+\)")) == 3


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "forward_only"])
def test_the_weight_whose_gradient_is_shown_is_the_one_that_acts_on_the_state(name):
    what, options = NETWORKS[name]()
    # in one step nothing comes from another one; a generated output comes back as the input
    others = {"stacked_cell": "cells.0.V", "one_step": "U", "generated": "U"}
    assert named(tg.draw(what, **options), f"gradient of {others.get(name, 'V')}")


def test_a_first_state_that_is_made_of_one_weight_is_not_taken_for_it():
    A, V = tg.Parameter(np.eye(3)), tg.Parameter(np.eye(3) / 2)
    h = None
    for x_t in tg.Tensor(np.ones((3, 1, 3))):
        h = x_t @ A if h is None else np.tanh(h @ V + x_t @ A)
    assert named(tg.draw(h.sum()), "gradient of V")


def ends(path):
    """The corners of a line: every point that its path names."""
    numbers = [float(v) for v in re.findall(r"-?[\d.]+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_lines_run_around_boxes_and_labels(name):
    root = ET.fromstring(drawn(name).svg)
    number = lambda element, key: float(element.get(key))
    boxes = [
        (number(r, "x"), number(r, "y"), number(r, "width"), number(r, "height"))
        for r in root.iter(f"{SVG}rect")
        if (r.get("class") or "").startswith("box")
    ]
    titles = [
        (number(t, "x"), number(t, "y") - 10, 6 * len("".join(t.itertext())), 10)
        for t in root.iter(f"{SVG}text")
        if t.get("text-anchor") == "start"
    ]
    crossed = []
    for path in root.iter(f"{SVG}path"):
        if "line" not in path.get("class") or "dashed" in path.get("class"):
            continue  # what is read from far away passes behind
        corners = ends(path.get("d"))
        for (x0, y0), (x1, y1) in itertools.pairwise(corners):
            for left, top, wide, high in boxes + titles:
                inside = (
                    min(x0, x1) < left + wide - 1
                    and max(x0, x1) > left + 1
                    and min(y0, y1) < top + high - 1
                    and max(y0, y1) > top + 1
                )
                crossed += [path.get("d")] if inside else []
    assert not crossed


def test_arrows_arrive_from_below():
    for name in ("birnn", "stacked_birnns"):
        for path in ET.fromstring(drawn(name).svg).iter(f"{SVG}path"):
            if path.get("class") == "line edge" and "Q" in path.get("d"):
                (x0, _), (x1, _) = ends(path.get("d"))[-2:]
                assert x0 == x1


def test_weights_bear_the_layers_names_and_those_in_the_code():
    assert {t for t, _, _ in named(drawn("own_loop"), r"\w+ \(.*\)")} == {"U (3, 4)", "V (4, 4)"}
    found = {t for t, _, _ in named(drawn("generated"), r"\w+ \(.*\)")}
    assert found == {"U (3, 4)", "V (4, 4)", "b (4)", "W (4, 3)", "b (3)"}
    W = tg.Parameter(np.ones((3, 3)))
    h = np.ones((1, 3))
    for x_t in tg.Tensor(np.ones((2, 1, 3))):
        h = np.tanh(np.matmul(h, W) + x_t)
    loss = h.sum()
    assert named(tg.draw(loss), r"W \(3, 3\)")
    assert named(tg.draw(loss, names={"mine": W}), r"mine \(3, 3\)")


@pytest.mark.parametrize("scan", [False, True])
def test_colour_is_the_gradient_flow_and_bars_are_the_contributions(scan):
    net = tg.RNN(tg.LSTMCell(3, 4, rng=0), scan=scan)
    out = net(x(6), lengths=[6, 4], return_states=True)
    loss = (out.outputs**3).sum()
    figure, flow = tg.draw(loss), tg.gradient_flow(loss, out)
    parts = tg.contributions(loss, net.cell.V)
    below = [text for text, _, _ in sorted(named(figure, r"[\d.e+-]+"), key=lambda t: t[1])]
    for t, norm in enumerate(flow):
        assert f"{norm:.2g}" in below
        assert f"t = {t}\nh[0] = [" in figure.svg or t == 5  # nothing has kept the last one
    shares = [text for text, _, _ in sorted(named(figure, r"-?[\d.]+ %"), key=lambda t: t[1])]
    assert shares == [f"{100 * share:.1f} %".replace("-0.0", "0.0") for share in parts.shares]
    assert "so far: 100.0 %" in figure.frames[-1]
    other = tg.draw(loss, parameter=net.cell.U)
    assert named(other, "gradient of U")
    assert named(figure, "gradient of V")


CELLS = {
    "RNN": lambda: tg.RNNCell(3, 4, rng=0),
    "LSTM": lambda: tg.LSTMCell(3, 4, rng=0),
    "GRU": lambda: tg.GRUCell(3, 4, rng=0),
    "Stacked": lambda: tg.Stacked(tg.LSTMCell(3, 4, rng=0), tg.GRUCell(4, 4, rng=1)),
    "Residual": lambda: tg.Residual(tg.RNNCell(3, 3, rng=0)),
    "Readout": lambda: tg.Readout(tg.RNNCell(3, 4, rng=0), tg.Linear(4, 2, rng=1)),
    "LinearState": lambda: tg.zoo.LinearStateRNN(3, 3, rng=0),
    "MinGRU": lambda: tg.zoo.MinGRU(3, 4, rng=0),
}
HOLES = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 1, 1]], bool)


@given(
    cell=st.sampled_from(sorted(CELLS)),
    call=st.sampled_from(
        [
            {}, {"lengths": [5, 3, 2]}, {"lengths": [4, 3, 0]}, {"mask": HOLES}, {"reset": HOLES},
            {"truncate": 1}, {"truncate": 2}, {"lengths": [5, 3, 2], "truncate": 2},
        ]
    ),
    option=st.sampled_from(
        [{}, {"scan": True}, {"checkpoint": 2}, {"checkpoint": 1}, {"train_state": True}]
    ),
    reverse=st.booleans(),
    states=st.booleans(),
    loss=st.sampled_from(["outputs", "last", "state", "all", "one"]),
)  # fmt: skip
def test_the_boxes_have_the_gradient_flow(cell, call, option, reverse, states, loss):
    net = tg.RNN(CELLS[cell](), reverse=reverse, **option)
    out = net(x(5, rows=3), return_states=True, **call)
    flow = tg.gradient_flow(read(out, loss), out)
    again = net(x(5, rows=3), return_states=states, **call)
    total = read(again, loss)
    lanes = Lanes(Unfolded(total), [total])
    norms = Measured(lanes, total, None).norms
    (lane,) = lanes.lanes.values()
    np.testing.assert_allclose([norms[lane, t] for t in range(5)], flow, rtol=1e-9, atol=1e-13)


def read(out, what):
    state = sum((a**2).sum() for a in leaves(out.state))
    parts = {
        "outputs": (out.outputs**2).sum(),
        "last": (out.last**2).sum(),
        "state": state,
        "one": (out.outputs[2] ** 2).sum() + 0 * state,
    }
    return parts["outputs"] + parts["last"] ** 2 + state if what == "all" else parts[what]


def test_a_loss_that_is_added_up_in_the_loop_is_no_state():
    rng = np.random.default_rng(0)
    U, V = (tg.Parameter(rng.normal(size=(n, 4))) for n in (3, 4))
    W = tg.Parameter(rng.normal(size=(4, 2)))
    shifts = [tg.Tensor(np.zeros((1, 4)), requires_grad=True) for _ in range(4)]
    h, J = np.zeros((1, 4)), 0
    for x_t, shift in zip(tg.Tensor(x(4, rows=1)), shifts, strict=True):
        h = np.tanh(x_t @ U + h @ V) + shift
        J = J + ((h @ W) ** 2).sum()
    figure = tg.draw(J, outputs="abcd")
    J.backward()
    assert [text for text, _, _ in named(figure, "[abcd]")] == list("abcd")
    norms = [f"{np.linalg.norm(shift.grad):.2g}" for shift in shifts]
    found = sorted(named(figure, r"[\d.e+-]+"), key=lambda label: label[1])
    rows = {y for text, _, y in found if text == norms[0]}
    assert any([t for t, _, at in found if at == y] == norms for y in rows)
    assert problems(figure.svg) == []


def own_norms(body, cut=None, steps=6):
    """The numbers in the boxes of a loop of one's own, and those of shifts of its state."""
    rng = np.random.default_rng(0)
    U, V = (tg.Parameter(rng.normal(size=(n, 4))) for n in (3, 4))
    shifts = [tg.Tensor(np.zeros((1, 4)), requires_grad=True) for _ in range(steps)]
    h, losses = np.zeros((1, 4)), []
    for t, (x_t, shift) in enumerate(zip(tg.Tensor(x(steps, rows=1)), shifts, strict=True)):
        if cut and t and t % cut == 0:
            h = h.detach()
        h = np.tanh(x_t @ U + h @ V) + shift
        losses.append((h**2).sum() if body == "list" else (losses[-1:] or [0])[0] + (h**2).sum())
    loss = np.stack(losses).sum() if body == "list" else losses[-1]
    lanes = Lanes(Unfolded(loss), [loss])
    norms = Measured(lanes, loss, None).norms
    (lane,) = lanes.lanes.values()
    loss.backward()
    return [norms.get((lane, t)) for t in range(steps)], [np.linalg.norm(s.grad) for s in shifts]


@pytest.mark.parametrize("body", ["list", "sum"])
@pytest.mark.parametrize("cut", [None, 2, 3])
def test_own_loops_have_the_right_numbers(body, cut):
    found, expected = own_norms(body, cut)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("body", ["list", "sum"])
def test_where_a_state_is_not_known_no_number_is_drawn(body):
    found, _ = own_norms(body, cut=1)
    assert found == [None] * 6
    assert own_norms(body, steps=1)[0] == [None]


def test_a_last_state_made_elsewhere_in_the_code_has_no_number():
    V, h = tg.Parameter(np.eye(3)), np.ones((1, 3))
    for t, x_t in enumerate(tg.Tensor(x(2, rows=1))):
        h = np.tanh(x_t + h @ V) if t == 0 else np.sin(x_t + h @ V)
    loss = h.sum()
    lanes = Lanes(Unfolded(loss), [loss])
    norms = Measured(lanes, loss, None).norms
    assert [t for _, t in norms] == [0]


def test_two_looks_at_one_graph_do_not_disturb_each_other():
    net = tg.RNN(tg.GRUCell(3, 4, rng=0), checkpoint=2)
    loss = (net(x(4)).outputs ** 2).sum()
    first, second = Unfolded(loss), Unfolded(loss)
    for graph in (first, second):
        (call,) = graph.calls
        assert [len(parts) for parts in graph.states(call).values()] == [1] * 4


def test_what_is_read_twice_stands_once_and_two_inputs_twice():
    a, b = (tg.RNN(tg.GRUCell(3, 4, rng=k)) for k in (0, 1))
    for second, count in ((x(4), 1), (2 * x(4), 2)):
        figure = tg.draw((a(x(4)).last * b(second).last).sum())
        assert len(named(figure, "x_0")) == count


def test_a_weight_of_two_loops_grows_where_each_of_them_is():
    net = tg.RNN(tg.RNNCell(3, 4, rng=0))
    figure = tg.draw((net(x(3), net(x(3)).state).last ** 2).sum())
    back = [frame for frame in figure.frames if frame.startswith("Backward")]
    assert [" 0.0 %" in frame for frame in back] == [False] * 6


def test_no_gradient_goes_back_from_where_none_is():
    out = tg.RNN(tg.RNNCell(3, 4, rng=0))(x(5))
    figure = tg.draw((out.outputs[2] ** 2).sum())
    assert figure.svg.count("the gradient goes back") == 3  # from J to h_2, then to h_1 and h_0


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("tasks", {"title": "mine"}),
        (tg.RNNCell(3, 4, rng=0), {"parameter": 1}),
        (lambda a: a * 2, {"most": 3}),
        ({"flow": np.ones(3)}, {"inputs": "abc"}),
    ],
)
def test_options_that_mean_nothing_are_refused(what, options):
    with pytest.raises(tg.errors.FigureError, match="means nothing"):
        tg.draw(what, **options)


def test_both_arrays_of_an_own_lstm_are_its_state():
    net = tg.RNN(tg.LSTMCell(3, 4, rng=0))
    for steps in (2, 5):
        out = net(x(steps), return_states=True)
        flow = tg.gradient_flow((out.outputs**2).sum(), out)
        state, losses = net.initial_state((2,)), []
        for x_t in tg.Tensor(x(steps)):
            h, state = net.cell(x_t, state)
            losses.append((h**2).sum())
        loss = sum(losses)
        lanes = Lanes(Unfolded(loss), [loss])
        norms = Measured(lanes, loss, None).norms
        (lane,) = lanes.lanes.values()
        np.testing.assert_allclose([norms[lane, t] for t in range(steps)], flow, rtol=1e-12)


def test_what_a_lane_reads_along_time_and_what_it_does_not():
    first, second = (tg.RNN(tg.GRUCell(n, 4, rng=k)) for k, n in enumerate((3, 4)))

    def lane(y):
        loss = (second(y).last ** 2).sum()
        upper = list(Lanes(Unfolded(loss), [loss]).lanes.values())[-1]
        return [row.kind for row in upper.below], len(upper.everything)

    y = first(x(4)).outputs
    assert lane(y) == (["lane"], 0)
    assert lane(np.tanh(y) * 2) == (["lane"], 0)
    assert lane(y[::2]) == (["input"], 1)
    assert lane(y[::-1]) == (["input"], 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b, W: (a(x(5)).last * b(x(3)).last).sum(),  # different lengths, side by side
        lambda a, b, W: (a(x(4)).last * a(2 * x(4)).last).sum(),  # one layer, two inputs
        lambda a, b, W: (W(np.concatenate([a(x(4)).outputs, b(x(3)).outputs])) ** 2).sum(),
        lambda a, b, W: (b(x(3), (o := a(x(4))).state).last * b(x(2), o.state).last).sum(),
        lambda a, b, W: sum((y**2).sum() for y in a(x(4)).outputs),
        lambda a, b, W: tg.generate(a.cell, np.ones((1, 3)), 1, lambda y, r: y, rng=0).last.sum(),
    ],
)  # fmt: skip
def test_other_ways_to_put_loops_together(make):
    a, b = (tg.RNN(tg.GRUCell(3, 4, rng=k)) for k in (0, 1))
    figure = tg.draw(make(a, b, tg.Linear(4, 2, rng=2)))
    assert problems(figure.svg) == []
    assert not named(figure, "nan|inf")


def test_a_joint_readout_has_an_output_for_each_step():
    a, b, W = *(tg.RNN(tg.GRUCell(3, 4, rng=k)) for k in (0, 1)), tg.Linear(4, 2, rng=2)
    out = a(x(4))
    figure = tg.draw((W(np.concatenate([out.outputs, b(x(3), out.state).outputs])) ** 2).sum())
    assert len(named(figure, r"y_\d")) == 7


def test_a_reversed_loop_inside_of_a_step_does_not_turn_its_layer():
    class Inner(tg.Cell):
        def __init__(self):
            self.rnn = tg.RNN(tg.RNNCell(3, 4, rng=0), reverse=True)
            self.inputs, self.state_shape = 3, (4,)

        def step(self, x, h):
            return self.rnn(np.stack([x, 2 * x]), h).state

    figure = tg.draw((tg.RNN(Inner())(x(3)).last ** 2).sum())
    assert figure.title == "RNN(Inner), unrolled in time"
    assert [t for t, _, _ in named(figure, r"h_\d")] == ["h_0", "h_1", "h_2"]
    assert not named(figure, "reverse")


def test_loops_that_read_each_other_are_refused_by_name():
    rnn, V, h = tg.RNN(tg.RNNCell(3, 3, rng=0)), tg.Parameter(np.eye(3)), np.zeros((1, 3))
    for x_t in tg.Tensor(x(3, rows=1)):
        h = np.tanh(rnn(np.stack([x_t, x_t]), h @ V).last)
    with pytest.raises(tg.errors.FigureError, match="loops that read each other"):
        tg.draw(h.sum())


def test_what_is_used_outside_has_a_share_too():
    net = tg.RNN(tg.RNNCell(3, 4, rng=0))
    figure = tg.draw((net(x(4)).last ** 2).sum() + (net.cell.V**2).sum())
    outside = named(figure, "outside of the loops: .*")[0][0]
    shares = [float(t[:-2]) for t, _, _ in named(figure, r"-?[\d.]+ %")]
    assert sum(shares) + float(outside.split(": ")[1][:-2]) == pytest.approx(100, abs=0.3)
    assert figure.frames[-1].endswith("so far: 100.0 %")


def test_two_loops_of_ones_own_are_two_lanes():
    rng = np.random.default_rng(0)
    weights = [tg.Parameter(rng.normal(size=(3, 3))) for _ in range(2)]
    h = np.zeros((1, 3))
    for W, steps in zip(weights, (3, 2), strict=True):
        for x_t in tg.Tensor(x(steps, rows=1)):
            h = np.tanh(x_t + h @ W)
    figure = tg.draw((h**2).sum())
    assert [t for t, _, _ in named(figure, r"h[¹²]_\d")] == ["h¹_0", "h¹_1", "h¹_2", "h²_0", "h²_1"]
    heights = {y for _, _, y in named(figure, r"h[¹²]_\d")}
    assert len(heights) == 1  # the second goes on where the first ends


def test_a_loss_reads_what_it_reads():
    net, readout = tg.RNN(tg.GRUCell(3, 4, rng=0)), tg.Linear(4, 2, rng=1)
    for scan in (False, True):
        net.scan = scan
        out = net(x(5), lengths=[5, 4])
        for y, times in ((out.outputs[-1], [4]), (out.outputs[1:3], [1, 2]), (out.last, [3, 4])):
            figure = tg.draw((readout(y) ** 2).sum(), names=readout)
            assert [text for text, _, _ in named(figure, r"y_\d")] == [f"y_{t}" for t in times]
            assert f"W (4, 2): one weight, used at {len(times)} steps" in figure.svg


def test_the_gradient_comes_down_from_the_loss():
    figure = drawn("rnn")
    downs = [p for p in figure.svg.split("\n") if "the gradient goes back" in p]
    assert len(downs) == 8 + 8 + 7  # from J, from the outputs, from state to state


def test_targets_stand_below_outputs():
    net, readout = tg.RNN(tg.RNNCell(3, 4, rng=0)), tg.Linear(4, 2, rng=1)
    loss = (readout(net(x(3)).outputs) ** 2).sum()
    figure = tg.draw(loss, outputs="abc", targets=["x", "y", "longer"])
    assert problems(figure.svg) == []
    goals = [text for text, _, _ in named(figure, "goal: .*")]
    assert goals == ["goal: x", "goal: y", "goal: l…"]


def test_layers_bear_the_names_that_they_are_given():
    encoder, decoder = (tg.RNN(tg.GRUCell(3, 4, rng=k)) for k in (0, 1))
    out = decoder(x(2), state=encoder(x(3)).state)
    figure = tg.draw((out.last**2).sum(), names={"encoder": encoder, "decoder": decoder})
    assert named(figure, "encoder")
    assert named(figure, "decoder")


def test_bars_grow_when_their_lane_is_reached():
    loss, _ = birnn()
    figure = tg.draw(loss)
    shares = [re.search(r"so far: (.*) %", f) for f in figure.frames]
    found = [float(match[1]) for match in shares if match]
    assert found[0] != 0
    assert len(set(found)) == 5  # every step adds its part in a frame of its own, t = 0 nothing


def test_values_in_the_tooltips_are_those_of_the_run():
    net = tg.RNN(tg.RNNCell(3, 4, rng=0))
    out = net(x(3, rows=1))
    svg = tg.draw(out, (out.last**2).sum()).svg
    for t in range(3):
        first = ", ".join(f"{v:.4g}" for v in out.outputs.data[t, 0])
        assert f"h = [{first}]\ny = [{first}]" in svg


def test_the_picture_is_the_same_with_scan_and_in_every_run(tmp_path):
    assert tg.draw(rnn(False)[0]).frames == tg.draw(rnn(True)[0]).frames
    for make in (birnn, encoder_decoder):
        assert tg.draw(make()[0]).svg == tg.draw(make()[0]).svg
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from networks import *; import hashlib\n"
        "for make in NETWORKS.values():\n"
        "    what, options = make()\n"
        "    print(hashlib.sha256(tg.draw(what, **options).html.encode()).hexdigest())"
    )
    folder = __file__.rpartition("/")[0] or "."
    runs = {
        subprocess.run(
            [sys.executable, "-c", code, folder],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": folder + "/..", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in "123"
    }  # fmt: skip
    assert len(runs) == 1
    assert len(runs.pop().split()) == len(NETWORKS)


def test_drawing_leaves_everything_as_it_was():
    net = tg.RNN(tg.GRUCell(3, 4, rng=0), scan=True)
    out = net(x(4), return_states=True)
    loss = (out.outputs**2).sum()
    tg.draw(out, loss)
    tg.draw(loss, out)  # either order
    assert all(p.grad is None for p in net.parameters())
    loss.backward()
    with pytest.raises(tg.errors.GraphFreedError):
        tg.draw(loss)


def test_a_truncated_gradient_is_seen_to_stop():
    figure = drawn("truncated")
    assert figure.svg.count("<title>truncated: no gradient goes back further</title>") == 2
    assert [t for t, _, _ in named(figure, r"h_\d+")] == [f"h_{t}" for t in range(8)]
    assert len(named(figure, "0")) == 6  # steps that no gradient reaches
    assert figure.svg.count("the gradient goes back") == 2  # from J, and one step
    assert {f"<title>V, t = {t}</title>" in figure.svg for t in range(8)} == {True}


def test_many_steps_are_folded():
    figure = tg.draw(long()[0])
    assert [t for t, _, _ in named(figure, r"h_\d+")] == [
        *[f"h_{t}" for t in range(6)], *[f"h_{t}" for t in range(994, 1000)],
    ]  # fmt: skip
    assert len(named(figure, "…")) == 2
    assert "988 more steps" in figure.svg
    shares = [float(text[:-2]) for text, _, _ in named(figure, r"-?[\d.]+ %")]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_labels_are_the_users_and_must_fit():
    figure = drawn("rnn")
    shown = [text for text, _, _ in texts(figure)]
    assert [c for c in shown if len(c) == 1 and c != "0"] == list("hello␣wo") + list("ello␣wor")
    for options in ({"inputs": "hell"}, {"outputs": "helloworlds"}):
        with pytest.raises(tg.errors.FigureError, match="labels for 8 steps"):
            tg.draw(rnn()[0], **options)
    both = tg.draw(encoder_decoder()[0], inputs=["a", "b", "c", "d", "<s>", "e", "f"])
    assert named(both, "<s>")


def test_forward_only_has_no_gradient():
    figure = drawn("forward_only")
    assert "dJ" not in figure.svg
    assert len(figure.frames) == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_in_japanese(name):
    figure = drawn(name, lang="ja")
    assert problems(figure.svg) == []
    english = [key for key in JAPANESE if len(key) > 8 and "{" not in key]
    assert not [text for text in (*labels(figure.svg), *figure.frames) if text in english]
    assert any(re.search("[ぁ-ん一-龠]", frame) for frame in figure.frames)


def test_the_text_alternative_tells_what_is_seen():
    description = ET.fromstring(drawn("birnn").svg).find(f"{SVG}desc").text
    assert "6 time steps" in description
    assert "U (3, 12), V (4, 12)" in description
    assert "reverse: the gradient's norm is" in description


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(tg.errors.FigureError, match="ndarray cannot be drawn"):
        tg.draw(np.ones(3))
    with pytest.raises(tg.errors.FigureError, match="draw what they return"):
        tg.draw(tg.BiRNN(tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1)))
    with pytest.raises(tg.errors.FigureError, match="expected one of unrolled"):
        tg.draw(rnn()[0], kind="unroled")
    with pytest.raises(tg.errors.NoTimeError):
        tg.draw(tg.Parameter(np.ones(())) * 2, kind="unrolled")
    with pytest.raises(tg.errors.FigureError, match=r"\.svg or \.html"):
        drawn("one_step").save("x.png")
    with pytest.raises(tg.errors.FigureError, match="nothing was recorded"), tg.no_grad():
        tg.draw(tg.RNN(tg.RNNCell(3, 4, rng=0))(x(3)))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"title": 3}, tg.errors.FigureError, "title=3: expected a text"),
        ({"kind": "curves"}, tg.errors.FigureError, "RNNOutput is nothing for a picture of kind"),
        ({"kind": "result"}, tg.errors.FigureError, "RNNOutput is nothing for a picture of kind"),
        ({"kind": "states", "row": 5}, tg.errors.FigureError, "row=5: this batch has 2 rows"),
        ({"names": 3}, tg.errors.FigureError, "names=3: expected a Module, or a dict"),
        ({"names": {"W": 3}}, tg.errors.FigureError, r"names\['W'\]: expected a Tensor"),
        ({"most": 2.5}, tg.errors.FigureError, "most=2.5: expected a number of steps"),
        ({"inputs": 5}, tg.errors.FigureError, "inputs=5: expected a label for each step"),
        ({"loss": 3}, tg.errors.NoGradientError, "expected Tensors: a loss.* got an? int"),
        ({"parameter": 3}, tg.errors.NoGradientError, "a weight such as .* got an? int"),
        ({"parameter": tg.Parameter(np.ones(2))}, tg.errors.UnusedInputError, "another network"),
        ({"parameter": "after"}, tg.errors.FigureError, "outside of all loops"),
        ({"loss": "several"}, tg.errors.NotScalarError, "it must be one number"),
    ],
)
def test_options_that_are_wrong_are_named_with_what_is_expected(options, error, text):
    out = tg.RNN(tg.RNNCell(3, 4, rng=0))(x(3), return_states=True)
    readout = tg.Linear(4, 1, rng=0)
    loss = readout(out.last).sum()
    named = {"after": readout.W, "several": out.last}
    options = {name: named.get(str(value), value) for name, value in options.items()}
    loss = {} if {"loss", "kind"} & set(options) else {"loss": loss}
    with pytest.raises(error, match=text):
        tg.draw(out, **loss, **options)


def test_arguments_and_labels_of_other_pictures():
    with pytest.raises(tg.errors.FigureError, match=r"args=3: expected .* as a tuple"):
        tg.draw(np.tanh, args=3)
    out = tg.RNN(tg.RNNCell(3, 4, rng=0))(x(3), return_states=True)
    flow = tg.gradient_flow((out.last**2).sum(), out)
    assert tg.draw(flow).svg == flow.draw().svg
    with pytest.raises(tg.errors.FigureError, match="inputs= means nothing for a Flow"):
        tg.draw(flow, inputs="abc")


LOOP = "h = np.zeros((2, 4))\nfor x_t in x:\n    h = np.tanh(x_t @ U + h @ V)\n"
SOURCES = {
    "in a file": (LOOP, ["U (3, 4)", "V (4, 4)"]),
    "at a prompt": (None, ["w (3, 4)", "w (4, 4)"]),
    "changed since": (LOOP.replace("tanh(", "tanh(((("), ["w (3, 4)", "w (4, 4)"]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_weights_are_named_as_in_the_source_where_that_can_be_read(kind, monkeypatch):
    source, names = SOURCES[kind]
    if source:
        entry = (len(source), None, source.splitlines(keepends=True), kind)
        monkeypatch.setitem(linecache.cache, kind, entry)
    draw = np.random.default_rng(0).normal
    scope = {"np": np, "x": tg.Tensor(x(3)), "U": tg.Parameter(draw(size=(3, 4)))}
    scope["V"] = tg.Parameter(draw(size=(4, 4)))
    exec(compile(LOOP, kind, "exec"), scope)
    figure = tg.draw((scope["h"] ** 2).sum())
    assert set(re.findall(r"(\w+ \(\d, \d\)): one weight", figure.svg)) == set(names)
    assert problems(figure.svg) == []


def test_a_title_of_ones_own_is_at_the_top():
    out = tg.RNN(tg.RNNCell(3, 4, rng=0))(x(3))
    for figure in (
        tg.draw(out, title="Mine"),
        tg.draw((out.last**2).sum(), kind="graph", title="Mine"),
        tg.draw(tg.RNNCell(3, 4, rng=0), title="Mine"),
    ):
        assert (figure.title, figure._repr_svg_()) == ("Mine", figure.svg)
        assert re.search(">Mine</text>", figure.svg)
        assert problems(figure.svg) == []


def test_states_as_a_map():
    out = tg.RNN(tg.GRUCell(3, 4, rng=0))(x(5), return_states=True)
    figure = tg.draw(out, kind="states", inputs="a b c")
    assert problems(figure.svg) == []
    assert named(figure, "␣")
    assert len(re.findall('<rect class="(?:heat|cold)"', figure.svg)) >= 20


# ----- in a browser ------------------------------------------------------------------------------


def test_going_through_the_steps(chrome, tmp_path):
    figure = drawn("rnn")
    show(chrome, figure.html, tmp_path)
    find = lambda css: chrome.find_elements("css selector", css)
    assert "so far: 100.0 %" in find(".caption .text")[0].text
    faded = lambda: len(find(".tgfig .later"))
    assert faded() == 0
    key = lambda name: find("body")[0].send_keys(name)
    from selenium.webdriver.common.keys import Keys

    key(Keys.HOME)
    counts = [faded()]
    for _ in figure.frames[1:]:
        key(Keys.ARROW_RIGHT)
        counts.append(faded())
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    assert errors(chrome) == []
    assert all(address.startswith("file:") for address in requests(chrome))


@pytest.mark.parametrize("name", ["rnn", "birnn", "encoder_decoder", "stacked_birnns"])
def test_labels_as_the_browser_sets_them(chrome, tmp_path, name):
    show(chrome, drawn(name).html, tmp_path)
    boxes = chrome.execute_script(
        "return [...document.querySelectorAll('.tgfig text')].map(t => {"
        "const b = t.getBBox(); return [t.textContent, b.x, b.y, b.x + b.width, b.y + b.height]})"
    )
    for k, (a, left, top, right, bottom) in enumerate(boxes):
        for b, *other in boxes[k + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            near = min(bottom, other[3]) - max(top, other[1]) < 4  # lines above each other
            assert apart or near, (a, b)
