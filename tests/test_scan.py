"""scan=True is the plain loop: the same results, the same gradients, whatever is called and when.

Random cells are made in scan_programs.py; `python tests/scan_programs.py 2000` runs many of them.
"""

import copy
import gc
import pickle
import threading
import tracemalloc
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import scan_programs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scan_programs import TOLERANCE, differences

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing
from tinygrad_rnn.graph import Node
from tinygrad_rnn.nests import leaves, map_tree

C, H = 2, 3
seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def values(tree):
    """The arrays of a nest or of an RNNOutput, without what is None."""
    found = [leaf for leaf in leaves(tuple(tree)) if leaf is not None]
    return [leaf.data if isinstance(leaf, tg.Tensor) else leaf for leaf in found]


def weighted(out, seed=0):
    """One number that depends on all that a call returned."""
    rng = np.random.default_rng(seed)
    found = [leaf for leaf in leaves(tuple(out)) if leaf is not None and leaf.dtype.kind == "f"]
    return sum((leaf * rng.normal(size=leaf.shape).astype(leaf.dtype)).sum() for leaf in found)


def drawn(make, seed, dtype=np.float64):
    """A cell with Parameters away from their starting values."""
    cell, rng = make(), np.random.default_rng(seed)
    for p in cell.parameters():
        p.data = p.data + 0.3 * rng.normal(size=p.shape).astype(p.dtype)
    return cell.astype(dtype)


def everything(layer, x, state=None, **options):
    """All results of a call and of the way back, by name; x and state become leaves."""
    leaf = lambda a: tg.Tensor(a, requires_grad=True) if a.dtype.kind == "f" else a
    x = map_tree(leaf, x)
    state = None if state is None else map_tree(leaf, state)
    layer.zero_grad()
    out = layer(x, state, **options)
    weighted(out).backward()
    found = {f"value {k}": a for k, a in enumerate(values(out))}
    inputs = [*leaves(x), *(leaves(state) if state is not None else [])]
    inputs = [a for a in inputs if isinstance(a, tg.Tensor)]
    for name, p in [*layer.named_parameters().items(), *enumerate(inputs)]:
        found[f"d {name}"] = np.zeros(p.shape, p.dtype) if p.grad is None else p.grad
    return found


def scan_everywhere(layer, value):
    """Set scan in a layer, or in every layer of a Chain."""
    for part in getattr(layer, "layers", [layer]):
        if hasattr(part, "scan"):
            part.scan = value
    return layer


def assert_equal_to_the_plain_loop(make_layer, x, state=None, tolerance=None, **options):
    found = everything(scan_everywhere(make_layer(), True), x, state, **options)
    expected = everything(scan_everywhere(make_layer(), False), x, state, **options)
    lines = differences(found, expected, tolerance)
    assert not lines, "\n".join(lines)


# ----- random programs ---------------------------------------------------------------------------

THEMES = {
    "any": (),
    "ragged": ("lengths", "mask", "state"),
    "resets and cuts": ("reset", "truncate", "state", "calls"),
    "reversed and trained": ("reverse", "train_state", "return_states"),
    "float32": ("float32", "lengths"),
    "rows see each other": ("mixes", "lengths"),
    "second derivatives": ("second", "twice"),
    "checkpoints": ("checkpoint", "state"),
}


@pytest.mark.parametrize("theme", THEMES)
@given(seed=seeds, ops=st.integers(1, 14))
def test_a_random_program_gives_what_the_plain_loop_gives(theme, seed, ops):
    always = THEMES[theme]
    wrong = scan_programs.failure(seed, ops, always=always)
    assert wrong is None, f"{wrong}\nCase({seed}, ops={ops}, always={always})"


@given(seeds)
def test_the_programs_are_tame_so_rounding_explains_no_difference(seed):
    case = scan_programs.Case(seed)
    assert case.gain <= scan_programs.GAIN
    assert not differences(scan_programs.run(case, scan=False), case.expected)


@pytest.mark.parametrize("option", ["lengths", "reset", "truncate", "reverse", "state"])
def test_the_comparison_sees_an_option_that_is_ignored(option):
    seen = 0
    for seed in range(20):
        case = scan_programs.Case(seed, 8, always=[option], without=["used"])
        ignored = {"reverse": case.layer, "state": vars(case)}.get(option, case.options)
        ignored[option] = None
        seen += bool(differences(scan_programs.run(case, scan=False), case.expected))
    assert seen >= 5


# ----- the cells of the library ------------------------------------------------------------------


def gru(width=C, rng=0):
    return tg.GRUCell(width, H, rng=rng)


def stack():
    return tg.Stacked(tg.LSTMCell(C, 4, rng=0), tg.GRUCell(4, H, rng=1))


def deep(rng=0):
    rng = np.random.default_rng(rng)
    return tg.Stacked(
        tg.Residual(tg.Zoneout(tg.GRUCell(C, C, rng=rng), 0.4)),
        tg.VariationalDropout(tg.Zoneout(tg.LSTMCell(C, 4, rng=rng), (0.2, 0.6)), 0.3, rng=rng),
        tg.Readout(tg.RNNCell(4, 2, rng=rng), tg.Linear(2, C, "tanh", rng=rng)),
    )


CELLS = {
    **{
        f"RNNCell {name}": lambda name=name: tg.RNNCell(C, H, name, rng=0)
        for name in ("tanh", "relu", "sigmoid", "identity")
    },
    "RNNCell of softplus": lambda: tg.RNNCell(C, H, tg.softplus, rng=0),
    "RNNCell without bias": lambda: tg.RNNCell(C, H, bias=False, rng=0),
    "RNNCell of a square": lambda: tg.RNNCell(H, H, rng=0),
    "LSTMCell": lambda: tg.LSTMCell(C, H, rng=0),
    "LSTMCell of a square": lambda: tg.LSTMCell(H, H, rng=0),
    "GRUCell": gru,
    "GRUCell, reset before": lambda: tg.GRUCell(C, H, reset_after=False, rng=0),
    "Stacked": stack,
    "Readout": lambda: tg.Readout(gru(), tg.Linear(H, 2, "tanh", rng=1)),
    "Residual": lambda: tg.Residual(tg.GRUCell(C, C, rng=0)),
    "Zoneout": lambda: tg.Zoneout(tg.LSTMCell(C, 2, rng=0), (0.3, 0.6)),
    "Zoneout in use": lambda: tg.Zoneout(tg.LSTMCell(C, 2, rng=0), 0.3).eval(),
    "VariationalDropout": lambda: tg.VariationalDropout(gru(), 0.3, rng=0),
    "VariationalDropout in use": lambda: tg.VariationalDropout(gru(), 0.3, rng=0).eval(),
    "a nest": deep,
    "a nest in use": lambda: deep().eval(),
}
EXTRA = {"ProjectionLSTM": (4, 2), "Clockwork": (4, (1, 3))}  # what they take after the inputs
ZOO = [
    cell
    for name, cell in vars(tg.zoo).items()
    if isinstance(cell, type) and cell.__module__ == tg.zoo.__name__ and name[0] != "_"
]
for _cell in ZOO:
    _sizes = EXTRA.get(_cell.__name__, (H,))
    CELLS[_cell.__name__] = lambda cell=_cell, sizes=_sizes: cell(C, *sizes, rng=0)
each_cell = pytest.mark.parametrize("name", CELLS)


def inputs_of(cell, steps, batch, rng, dtype):
    """x as the cell takes it: values, with gaps or draws where it wants them."""
    x = rng.normal(size=(steps, *batch, cell.inputs)).astype(dtype)
    if isinstance(cell, tg.zoo.CfC):
        return x, rng.uniform(0.1, 2, (steps, *batch, 1)).astype(dtype)
    if getattr(cell, "draw_size", 0) and cell.training:
        return x, cell.draws(steps, batch, rng, dtype)
    return x


def start_of(cell, batch, dtype):
    """A state to start from, drawn once: VariationalDropout draws new masks at each call."""
    return cell.initial_state(batch, dtype)


@both
@each_cell
def test_every_cell_of_the_library_gives_what_the_plain_loop_gives(name, dtype):
    rng = np.random.default_rng(3)
    cell = drawn(CELLS[name], 4, dtype)
    for steps, rows in ((5, 3), (3, 3), (1, 1), (12, 2)):
        x = inputs_of(cell, steps, (rows,), rng, dtype)
        state = start_of(cell, (rows,), dtype)
        lengths = rng.integers(0, steps + 1, rows)
        for reverse in (False, True):
            make = lambda reverse=reverse: tg.RNN(cell, reverse=reverse)
            for options in ({}, {"lengths": lengths, "return_states": True}):
                assert_equal_to_the_plain_loop(make, x, state, **options)


@each_cell
def test_every_cell_of_the_library_without_rows_or_steps_or_batch(name):
    rng = np.random.default_rng(3)
    cell = drawn(CELLS[name], 4)
    for steps, batch in ((0, (2,)), (3, (0,)), (3, ()), (0, ())):
        x = inputs_of(cell, steps, batch, rng, np.float64)
        state = start_of(cell, batch, np.float64)
        assert_equal_to_the_plain_loop(lambda: tg.RNN(cell), x, state, return_states=True)


@both
@pytest.mark.parametrize("name", ["RNNCell tanh", "LSTMCell", "GRUCell", "CoRNN", "Stacked"])
def test_birnn_and_chain(name, dtype):
    rng = np.random.default_rng(5)
    first, second = drawn(CELLS[name], 1, dtype), drawn(CELLS[name], 2, dtype)
    x = rng.normal(size=(5, 3, C)).astype(dtype)
    options = {"lengths": np.array([5, 2, 0]), "return_states": True}
    makers = [
        lambda: tg.BiRNN(first, second),
        lambda: tg.BiRNN(first, first, merge="mul"),
        lambda: tg.Chain(
            tg.BiRNN(first, second),
            tg.Linear(2 * H, C, "tanh", rng=0, dtype=dtype),
            tg.RNN(first),
            tg.Linear(H, 1, rng=1, dtype=dtype),
        ),
    ]
    if name == "CoRNN":
        mask = rng.random((5, 3)) < 0.6
        options |= {"mask": mask, "reset": ~mask[::-1], "truncate": 2}
    for make in makers:
        assert_equal_to_the_plain_loop(make, x, **options)
        assert_equal_to_the_plain_loop(make, x)


def test_without_a_state_the_traced_loop_is_the_plain_one_too():
    make = lambda: tg.RNN(Written(lambda cell, x, state: (np.tanh(x @ cell.U), state), {}))
    assert_equal_to_the_plain_loop(make, batch(), lengths=[5, 2, 0], return_states=True)


def test_a_cut_after_every_step_of_a_long_sequence():
    layers, x, found = twins(), batch(steps=150, rows=1), []
    for layer in layers:
        found.append([everything(layer, x, truncate=1) for _ in range(2)][-1])
    assert not differences(*found)
    kept = [rows for pool in layers[0].traced.last.pools.values() for *_, rows in pool]
    assert max(map(len, kept)) <= 501  # lists of rows, one for each block that was met


def test_scan_in_the_call_of_the_class_is_scan_set_later():
    first, second = drawn(gru, 1), drawn(gru, 2)
    x = np.random.default_rng(0).normal(size=(4, 2, C))
    expected = tg.BiRNN(first, second)(x)
    birnn = tg.BiRNN(first, second, scan=True)
    assert birnn.scan
    assert birnn.forward_rnn.scan
    assert birnn.backward_rnn.scan
    np.testing.assert_allclose(birnn(x).outputs.data, expected.outputs.data, atol=1e-13)
    birnn.scan = False
    assert not birnn.backward_rnn.scan
    np.testing.assert_array_equal(birnn(x).outputs.data, expected.outputs.data)


@pytest.mark.parametrize("name", ["RNNCell tanh", "LSTMCell", "GRUCell", "LayerNormGRU", "LiGRU"])
def test_long_sequences_of_wide_rows_run_in_several_blocks(name):
    kind = type(CELLS[name]())
    rng = np.random.default_rng(1)
    cell = kind(8, 32, rng=rng)
    x, state = rng.normal(size=(150, 24, 8)), cell.initial_state((24,))
    for options in ({}, {"lengths": rng.integers(0, 151, 24)}, {"truncate": 37}):
        assert_equal_to_the_plain_loop(lambda: tg.RNN(cell), x, state, 1e-11, **options)
    assert_equal_to_the_plain_loop(lambda: tg.RNN(cell, reverse=True), x, state, 1e-11)


@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_checkpoints_change_nothing(k):
    rng = np.random.default_rng(1)
    cell, x = drawn(CELLS["LSTMCell"], 2), rng.normal(size=(23, 3, C))
    for options in ({}, {"lengths": [23, 4, 0], "return_states": True}, {"truncate": 4}):
        expected = everything(tg.RNN(cell), x, **options)
        found = everything(tg.RNN(cell, scan=True, checkpoint=k), x, **options)
        assert not differences(found, expected)


# ----- what is asked of the result ---------------------------------------------------------------


def twins(make=gru, seed=1):
    """The same cell in two layers: one that scans, one that does not."""
    return tg.RNN(drawn(make, seed), scan=True), tg.RNN(drawn(make, seed))


def batch(seed=0, steps=5, rows=3):
    return np.random.default_rng(seed).normal(size=(steps, rows, C))


class Sides(NamedTuple):
    h: object
    c: object


class Nested(tg.Cell):
    """A dict with a NamedTuple inside, x a pair, ranks that differ."""

    def __init__(self):
        self.linear = tg.Linear(C + 1 + H, 2 * H, rng=0)
        self.inputs = C
        self.state_shape = {"sides": Sides((H,), (2, H)), "count": ()}

    def step(self, x, state):
        x, gap = x
        (h, c), count = state["sides"], state["count"]
        a, b = np.split(self.linear(np.concatenate([x, gap, h], axis=-1)), 2, axis=-1)
        c = np.stack([np.tanh(a), c[..., 0, :]], axis=-2)
        h = 0.5 * h + 0.5 * np.tanh(b * c[..., 1, :]) / (1 + count[..., None])
        return c, {"sides": Sides(h, c), "count": count + 1}


def test_nests_of_states_and_tuples_of_inputs_keep_their_form():
    cell = drawn(Nested, 0)
    x = (batch(), np.abs(batch(1))[..., :1])
    for options in ({}, {"lengths": [5, 2, 0]}, {"reset": batch()[..., 0] > 0}):
        options["return_states"] = True
        assert_equal_to_the_plain_loop(lambda: tg.RNN(cell), x, **options)
        out = tg.RNN(cell, scan=True)(x, **options)
        assert type(out.state["sides"]) is Sides
        assert type(out.states["sides"]) is Sides
        assert out.outputs.shape == (5, 3, 2, H)


def test_the_result_is_the_plain_loops_in_all_but_the_time_it_takes():
    for options in ({}, {"return_states": True}):
        scan, plain = (layer(batch(), **options) for layer in twins())
        assert type(scan) is type(plain) is tg.RNNOutput
        for a, b in zip(leaves(tuple(scan)), leaves(tuple(plain)), strict=True):
            assert type(a) is type(b)
            if a is not None:
                assert (a.shape, a.dtype, a.requires_grad) == (b.shape, b.dtype, b.requires_grad)
                assert not a.data.flags.writeable


def test_no_grad_records_nothing_and_gives_the_same():
    scan, plain = twins()
    with tg.no_grad():
        out, expected = scan(batch()), plain(batch())
    assert not any(leaf.requires_grad for leaf in (out.outputs, out.last, out.state))
    for a, b in zip(values(out), values(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)
    assert scan(batch()).last.requires_grad


def test_on_plain_arrays_a_layer_gives_plain_arrays():
    scan, plain = twins()
    expected = plain(batch())
    with testing.plain(scan):
        out = scan(batch())
    assert type(out.outputs) is type(out.state) is np.ndarray
    np.testing.assert_allclose(out.outputs, expected.outputs.data, atol=1e-13)


def test_frozen_parameters_and_inputs_that_need_none_get_no_gradient():
    scan, plain = twins()
    for layer in (scan, plain):
        values = layer.cell.V.data
        del layer.cell.V
        layer.cell.V = tg.Tensor(values)  # a constant now
    x, constant = tg.Tensor(batch(), requires_grad=True), tg.Tensor(batch())
    for put_in in (x, constant, batch()):
        results = []
        for layer in (scan, plain):
            layer.zero_grad()
            x.grad = None
            weighted(layer(put_in)).backward()
            results.append([p.grad for p in layer.parameters()] + [x.grad])
        same(*results)
    assert constant.grad is None


@pytest.mark.parametrize("name", ["RNNCell tanh", "LSTMCell", "GRUCell", "AntisymmetricRNN"])
def test_second_derivatives(name):
    results = []
    for layer in twins(CELLS[name]):
        x = tg.Tensor(batch(), requires_grad=True)
        inputs = [x, *layer.parameters()]
        first = tg.grad(weighted(layer(x, lengths=[5, 2, 0])), inputs, create_graph=True)
        second = tg.grad(sum((g * g).sum() for g in first), inputs, allow_unused=True)
        results.append(dict(enumerate(g.data for g in (*first, *second))))
    assert not differences(*results)


def test_grad_stops_at_what_is_wanted_and_leaves_grad_alone():
    results = []
    for layer in twins():
        x = tg.Tensor(batch(), requires_grad=True)
        total = weighted(layer(x))
        (dx,) = tg.grad(total, [x], retain_graph=True)
        (dV,) = tg.grad(total, [layer.cell.V])
        assert x.grad is None
        assert layer.cell.V.grad is None
        results.append({"dx": dx.data, "dV": dV.data})
    assert not differences(*results)


def test_jvp_and_hvp_go_through():
    x, v = batch(), batch(1)
    results = []
    for layer in twins():
        along = tg.jvp(lambda x, layer=layer: layer(x).outputs, [x], [v])[1]
        (second,) = tg.hvp(lambda x, layer=layer: weighted(layer(x)), [x], [v])
        results.append({"jvp": along.data, "hvp": second.data})
    assert not differences(*results)


def test_backward_twice_needs_the_graph_to_be_kept():
    scan, plain = twins()
    for layer in (scan, plain):
        total = weighted(layer(batch()))
        total.backward(retain_graph=True)
        once = [p.grad.copy() for p in layer.parameters()]
        total.backward()
        for p, g in zip(layer.parameters(), once, strict=True):
            np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-14)
        with pytest.raises(errors.GraphFreedError):
            total.backward()
    for a, b in zip(scan.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(a.grad, b.grad, atol=1e-12)


def test_detect_nonfinite_finds_what_it_finds_in_the_plain_loop():
    bad = batch()
    bad[3, 1, 0] = np.inf
    for layer in twins():
        with tg.detect_nonfinite():
            weighted(layer(batch())).backward()
        with tg.detect_nonfinite(), pytest.raises(errors.NonFiniteError), np.errstate(all="ignore"):
            layer(bad)


def test_nan_in_padding_reaches_neither_values_nor_gradients():
    x = batch()
    x[2:, 1] = np.nan
    for name in ("GRUCell", "LSTMCell", "LayerNormGRU", "LiGRU"):
        cell = drawn(CELLS[name], 1)
        found = everything(tg.RNN(cell, scan=True), x, lengths=[5, 2, 5])
        assert all(np.isfinite(a).all() for a in found.values())
        assert not found["d 0"][2:, 1].any()


def test_the_checker_finds_the_gradients_right():
    scan, _ = twins()
    run = lambda x, h: scan(x, h, lengths=[4, 2]).outputs
    h = np.random.default_rng(1).normal(size=(2, H))
    report = testing.check_grads(run, batch(steps=4, rows=2), h, wrt=[0, 1, scan.cell])
    assert report.verdict == "PASS"


# ----- any order of calls ------------------------------------------------------------------------


class Changing(tg.Cell):
    """Every kind of attribute that a step may read."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.state_shape = ((H,), (H,))
        self.U = tg.Parameter(rng.normal(size=(C, H)))
        self.V = tg.Parameter(0.7 * tg.init.orthogonal(rng, H))
        self.b = tg.Parameter(rng.normal(size=H))
        self.rate, self.scale, self.activation = 0.5, rng.uniform(0.5, 1, H), np.tanh
        self.settings = {"power": 1, "gates": [0.25, 1.0]}

    def step(self, x, state):
        h, c = state
        turned = h @ (self.V - self.V.T) * self.scale
        new = self.activation(x @ self.U + turned + self.b)
        c = self.rate * c + self.settings["gates"][0] * new ** self.settings["power"]
        return (c if self.training else new), (np.tanh(new + c), c)


class Kept(NamedTuple):
    """What one call gave, on both sides, and what it gave when it was new."""

    scan: tg.RNNOutput
    plain: tg.RNNOutput
    x_scan: tg.Tensor
    x_plain: tg.Tensor
    first: list


class AnyOrder(RuleBasedStateMachine):
    """One layer that scans and its twin, through the same random life."""

    @initialize(seed=seeds)
    def start(self, seed):
        self.rng = np.random.default_rng(seed)
        cell = Changing()
        self.scan, self.plain = tg.RNN(cell, scan=True), tg.RNN(copy.deepcopy(cell))
        self.kept, self.backwards = [], 0

    def both(self):
        return self.scan.cell, self.plain.cell

    @rule(
        steps=st.sampled_from([0, 1, 2, 4, 7]),
        rows=st.sampled_from([0, 1, 2, 3]),
        ragged=st.booleans(),
        cut=st.sampled_from([None, None, 2]),
        reset=st.booleans(),
        every=st.booleans(),
    )
    def call(self, steps, rows, ragged, cut, reset, every):
        options = {"truncate": cut, "return_states": every}
        if ragged:
            options["lengths"] = self.rng.integers(0, steps + 1, rows)
        if reset:
            options["reset"] = self.rng.random((steps, rows)) < 0.3
        x = self.rng.normal(size=(steps, rows, C))
        xs = [tg.Tensor(x, requires_grad=True) for _ in range(2)]
        outs = [rnn(x, **options) for rnn, x in zip((self.scan, self.plain), xs, strict=True)]
        same(values(outs[0]), values(outs[1]))
        self.kept.append(Kept(*outs, *xs, [a.copy() for a in values(outs[0])]))

    @rule(which=seeds, go_on=st.booleans())
    def call_from_a_kept_state(self, which, go_on):
        assume(self.kept)
        kept = self.kept[which % len(self.kept)]
        rows = kept.plain.last.shape[0]
        x = self.rng.normal(size=(3, rows, C))
        xs = [tg.Tensor(x, requires_grad=True) for _ in range(2)]
        # not into the graph of the earlier call, which may be freed already
        states = [map_tree(lambda s: s.detach(), k.state) for k in (kept.scan, kept.plain)]
        outs = [
            rnn(x, state) for rnn, x, state in zip((self.scan, self.plain), xs, states, strict=True)
        ]
        same(values(outs[0]), values(outs[1]))
        if go_on:
            self.kept.append(Kept(*outs, *xs, [a.copy() for a in values(outs[0])]))

    @rule(which=seeds, retain=st.booleans(), part=st.sampled_from(["all", "last", "outputs"]))
    def backward(self, which, retain, part):
        assume(self.kept)
        kept = self.kept[which % len(self.kept)]
        for out in (kept.scan, kept.plain):
            total = weighted(out) if part == "all" else (getattr(out, part) ** 2).sum()
            total.backward(retain_graph=retain)
        self.backwards += 1
        if not retain:  # the graph is gone
            self.kept = [k for k in self.kept if k is not kept]
        same([kept.x_scan.grad], [kept.x_plain.grad])

    @rule()
    def without_a_graph(self):
        x = self.rng.normal(size=(4, 2, C))
        with tg.no_grad():
            same(values(self.scan(x)), values(self.plain(x)))

    @rule()
    def update_the_parameters(self):
        for a, b in zip(self.scan.parameters(), self.plain.parameters(), strict=True):
            a.data = b.data = b.data * 0.9 + 0.1 * self.rng.normal(size=b.shape)

    @rule()
    def replace_a_parameter(self):
        new = self.rng.normal(size=H)
        for cell in self.both():
            cell.b = tg.Parameter(new)

    @rule(rate=st.sampled_from([0.5, 0.25, 0.0]), power=st.sampled_from([1, 2]))
    def change_numbers(self, rate, power):
        for cell in self.both():
            cell.rate, cell.settings["power"] = rate, power

    @rule(gate=st.sampled_from([0.25, 0.75]))
    def change_a_number_in_a_list_in_a_dict(self, gate):
        for cell in self.both():
            cell.settings["gates"][0] = gate

    @rule(in_place=st.booleans())
    def change_an_array(self, in_place):
        new = self.rng.uniform(0.5, 1, H)
        for cell in self.both():
            if in_place:
                cell.scale[...] = new
            else:
                cell.scale = new.copy()

    @rule(activation=st.sampled_from([np.tanh, tg.sigmoid, tg.softplus, np.sin]))
    def change_a_function(self, activation):
        for cell in self.both():
            cell.activation = activation

    @rule()
    def toggle_training(self):
        for cell in self.both():
            cell.eval() if cell.training else cell.train()

    @rule()
    def toggle_scan(self):
        self.scan.scan = not self.scan.scan

    @rule()
    def toggle_reverse(self):
        for rnn in (self.scan, self.plain):
            rnn.reverse = not rnn.reverse

    @rule(which=seeds)
    def drop_an_output(self, which):
        if self.kept:
            del self.kept[which % len(self.kept)]

    @rule()
    def drop_all_outputs(self):
        self.kept.clear()
        gc.collect()

    @rule()
    def zero_the_gradients(self):
        for layer in (self.scan, self.plain):
            layer.zero_grad()

    @invariant()
    def outputs_are_as_they_were(self):
        for kept in getattr(self, "kept", []):
            for now, first in zip(values(kept.scan), kept.first, strict=True):
                np.testing.assert_array_equal(now, first)

    @invariant()
    def gradients_are_the_twins(self):
        if hasattr(self, "scan"):
            both = [[p.grad for p in layer.parameters()] for layer in (self.scan, self.plain)]
            same(*both)


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:  # nothing arrived, and that is 0
            assert not np.any(a if b is None else b)
            continue
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max(initial=0)))


AnyOrder.TestCase.settings = settings(
    max_examples=max(20, settings().max_examples // 4), stateful_step_count=40
)


class TestAnyOrderOfCallsAndChangesGivesWhatTheTwinGives(AnyOrder.TestCase):
    """hypothesis prints the shortest life that fails, as a program."""


def test_gradients_after_an_update_are_those_of_the_forward():
    found = []
    for layer in twins():
        total = weighted(layer(batch()))
        for p in layer.parameters():
            p.data = p.data * 3
        total.backward()
        found.append({name: p.grad for name, p in layer.named_parameters().items()})
    untouched = twins()[1]
    weighted(untouched(batch())).backward()
    expected = {name: p.grad for name, p in untouched.named_parameters().items()}
    assert not differences(found[0], expected)
    assert not differences(found[1], expected)


def test_second_derivatives_after_an_update_are_those_of_the_forward():
    results = []
    for layer in twins():
        x = tg.Tensor(batch(), requires_grad=True)
        total = weighted(layer(x))
        for p in layer.parameters():
            p.data = p.data * 3
        (first,) = tg.grad(total, [x], create_graph=True)
        (second,) = tg.grad((first * first).sum(), [x])
        results.append({"first": first.data, "second": second.data})
    assert not differences(*results)


class Stepping(tg.Cell):
    """A cell whose step is given: step(cell, x, h)."""

    state_shape = (2,)

    def __init__(self, step):
        rng = np.random.default_rng(0)
        self.W, self.V = (tg.Parameter(rng.normal(size=(2, 4))) for _ in range(2))
        self.own, self.act = step, partial(scaled, by=0.5)

    def step(self, x, h):
        return self.own(self, x, h)


def scaled(z, by):
    return by * z


def detached_gates(cell, x, h):
    a, b = np.split(x @ cell.W + h @ cell.V, 2, axis=-1)
    a, b = np.tanh(a).detach(), np.tanh(b).detach()
    return np.tanh(a) + tg.sigmoid(b) * h


def under_no_grad(cell, x, h):
    with tg.no_grad():
        norm, gate = np.sqrt((cell.V**2).sum()), np.tanh(h @ cell.V)[..., :2]
    return np.tanh(x @ cell.W + h @ (cell.V / norm))[..., :2] * gate


def unsigned(cell, x, h):
    return (h @ cell.V)[..., :2] * 0.1 + -x + np.where(x > -1, 1.0, 2.0)


@pytest.mark.parametrize("step", [detached_gates, under_no_grad, unsigned])
@pytest.mark.parametrize("padded", [0, 3])
def test_what_once_gave_wrong_numbers(step, padded):
    mask = np.arange(6)[:, None] >= [padded] * 2
    x = np.random.default_rng(1).normal(size=(6, 2, 2))
    if step is unsigned:
        x = np.repeat(np.array([0, 0, 0, 5, 5, 1], np.uint8), 4).reshape(6, 2, 2)
    results = []
    for scan in (True, False):
        cell = Stepping(step)
        out = tg.RNN(cell, scan=scan)(x, mask=mask).outputs
        total = (out * np.arange(1.0, 3)).sum()
        grads = tg.grad(total, cell.parameters(), allow_unused=True)
        grads = [np.zeros((2, 4)) if g is None else g.data for g in grads]
        results.append([out.data, *grads] if total.requires_grad else [out.data])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_shape_that_depends_on_values_is_an_error():
    for step in (
        lambda cell, x, h: h + 0.1 * x[x > 0].sum(),
        lambda cell, x, h: h + cell.W[cell.W > 0].sum(),
    ):
        with pytest.raises(errors.TraceError, match="mask"):
            tg.RNN(Stepping(step), scan=True)(np.ones((3, 1, 2)))


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("mask", [None, "padded"])
def test_noise_is_found_in_one_step_in_padding_and_in_the_state(steps, mask):
    mask = None if mask is None else np.arange(steps)[:, None] >= [steps - 1]
    rng = np.random.default_rng(0)
    for step in (
        lambda cell, x, h: (x @ cell.W)[..., :2] * rng.random(),
        lambda cell, x, h: (x, np.tanh(x) * rng.random()),
        lambda cell, x, h: (np.stack([1e9 * x, x * rng.random()], -1), h),
    ):
        with pytest.raises(errors.TraceError, match="impure"):
            tg.RNN(Stepping(step), scan=True)(np.ones((steps, 1, 2)), mask=mask)


class Slots:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


SETTINGS, SLOTS, HELD = SimpleNamespace(by=0.5), Slots(0.5), tg.Linear(2, 2, rng=0)


class Settled(Stepping):
    """A cell with a setting that it works out."""

    @property
    def rate(self):
        return 2 * SETTINGS.by


def test_settings_anywhere_may_change_between_calls():
    steps = {
        "property": lambda cell, x, h: x * cell.rate,
        "partial": lambda cell, x, h: cell.act(x),
        "namespace": lambda cell, x, h: x * SETTINGS.by,
        "slots": lambda cell, x, h: x * SLOTS.by,
        "nested": lambda cell, x, h: sum([x * SETTINGS.by for _ in range(2)]),
        "layer": lambda cell, x, h: HELD(x),
        "keyword": lambda cell, x, h, *, by=SETTINGS: x * by.by,
    }
    kinds = {"property": Settled}  # each cell sees one change only: its own
    cells = {name: kinds.get(name, Stepping)(step) for name, step in steps.items()}
    scans = {name: tg.RNN(cell, scan=True) for name, cell in cells.items()}
    x, before = np.ones((3, 1, 2)), (SETTINGS.by, SLOTS.by, HELD.W)
    try:
        for _ in range(2):
            for name, cell in cells.items():
                found, expected = scans[name](x).outputs.data, tg.RNN(cell)(x).outputs.data
                np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=name)
            cells["partial"].act = partial(scaled, by=0.9)
            SETTINGS.by, SLOTS.by, HELD.W = 0.9, 0.9, tg.Parameter(np.eye(2))
    finally:
        SETTINGS.by, SLOTS.by, HELD.W = before


def test_large_tables_of_a_cell_may_change_between_calls():
    """Arrays are compared bit by bit, lists of more than 1,000 things by identity."""
    cell = Stepping(lambda cell, x, h: np.tanh(x * cell.table[1, 1].item() + cell.list[0] * h))
    cell.table, cell.list = np.arange(600.0).reshape(30, 20) / 40, [0.5] * 2000
    cell.table[2:] = np.nan
    scan, plain, x, last = tg.RNN(cell, scan=True), tg.RNN(cell), np.ones((3, 1, 2)), None
    for change in range(5):
        if change == 2:
            cell.table[1, 1] = -1.0
        elif change == 3:
            cell.list = [0.25] * 2000
        elif change == 4:
            cell.table.resize((60, 10), refcheck=False)  # the same numbers, in other rows
        found, expected = scan(x).outputs.data, plain(x).outputs.data
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"change {change}")
        assert (scan.traced.last is last) == (change == 1)  # traced anew where that is needed
        last = scan.traced.last


def test_a_cell_that_knows_its_layer_is_traced_once():
    rnn = tg.RNN(Stepping(detached_gates), scan=True)
    rnn.cell.layer = rnn
    for _ in range(3):
        rnn(np.ones((3, 1, 2)))
    assert len(rnn.traced.plans) == 1


FACTOR = 0.5
TABLE = np.ones(H)


def helped(z):
    return FACTOR * z * TABLE


class Around(tg.Cell):
    """A step that reads what is neither x, state nor an attribute: globals, its class, closures."""

    state_shape = (H,)
    share = 0.25

    def __init__(self, bend):
        self.W = tg.Parameter(np.eye(H))
        self.bend = bend

    def step(self, x, h):
        return np.tanh(self.share * h @ self.W + helped(self.bend(x[..., :1])))


def test_what_a_step_reads_around_it_may_change_between_calls():
    global FACTOR
    slope, x = [1.0], batch()
    cell = Around(lambda z: slope[0] * z)
    scan, plain = tg.RNN(cell, scan=True), tg.RNN(cell)
    before = (FACTOR, Around.share, TABLE.copy())
    try:
        for change in range(5):
            if change == 1:
                FACTOR = 2.0
            elif change == 2:
                Around.share = 0.75
            elif change == 3:
                slope[0] = 3.0
            elif change == 4:
                TABLE[1] = -1.0
            found, expected = scan(x).outputs.data, plain(x).outputs.data
            np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"change {change}")
    finally:
        FACTOR, Around.share, TABLE[:] = before


def test_attributes_changed_before_the_way_back_change_nothing():
    results = []
    for scan in (True, False):
        rnn = tg.RNN(Changing(), scan=scan)
        x = tg.Tensor(batch(), requires_grad=True)
        total = weighted(rnn(x))
        rnn.cell.rate, rnn.cell.activation = 0.9, tg.relu
        rnn.cell.scale[...] = 7
        rnn(batch(1, steps=3, rows=2))
        total.backward()
        results.append({"dx": x.grad, "dV": rnn.cell.V.grad, "dU": rnn.cell.U.grad})
    assert not differences(*results)


def test_a_layer_called_twice_in_one_loss_adds_both_up():
    results = []
    for layer in twins():
        x = tg.Tensor(batch(), requires_grad=True)
        first = layer(x)
        second = layer(first.outputs[..., :C], first.state)
        (weighted(first) * weighted(second, 1)).backward()
        results.append({"dx": x.grad, "dU": layer.cell.U.grad, "dV": layer.cell.V.grad})
    assert not differences(*results)


# ----- results belong to the user ----------------------------------------------------------------


def test_no_result_changes_when_the_layer_is_called_again():
    scan, _ = twins(CELLS["LSTMCell"])
    x = tg.Tensor(batch(), requires_grad=True)
    out = scan(x, return_states=True)
    weighted(out).backward()
    kept = [*values(out), x.grad, *(p.grad for p in scan.parameters())]
    before = [a.copy() for a in kept]
    del out  # its buffers may be used again; the arrays that the user holds may not
    for k in range(4):
        weighted(scan(batch(k + 1), return_states=True)).backward()
        if k == 0:
            scan.zero_grad()
    for now, then in zip(kept, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_changed_input_array_does_not_change_gradients():
    results = []
    for layer in twins():
        x, h = batch(), np.ones((3, H))
        total = weighted(layer(x, h))
        x[...], h[...] = 9, 9
        total.backward()
        results.append({name: p.grad for name, p in layer.named_parameters().items()})
    assert not differences(*results)


def test_outputs_are_frozen():
    scan, _ = twins(CELLS["LSTMCell"])
    x = tg.Tensor(batch(), requires_grad=True)
    out = scan(x, return_states=True)
    for leaf in leaves(tuple(out)):
        with pytest.raises(ValueError, match="read-only"):
            leaf.data[...] = 0
    weighted(out).backward()
    x.grad[...] = 0  # a leaf's gradient is the user's own


def memory_after(layer, calls, steps=60, rows=50):
    """Bytes and nodes that are left when all that the calls gave has been dropped."""
    lengths = np.arange(rows) % steps
    for k in range(calls):
        out = layer(batch(k, steps + k % 3, rows), lengths=lengths)
        weighted(out).backward()
        del out
        layer.zero_grad()
    nodes = sum(issubclass(type(thing), Node) for thing in gc.get_objects())
    return tracemalloc.get_traced_memory()[0], nodes


@pytest.mark.parametrize("name", ["GRUCell", "LSTMCell"])
def test_repeated_calls_leave_nothing_behind_and_need_no_collector(name):
    scan, _ = twins(CELLS[name])
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        size, nodes = memory_after(scan, 6)  # plans are made, pools filled
        again, nodes_again = memory_after(scan, 12)
        one_buffer = 60 * 50 * H * 8
        assert again - size < one_buffer
        assert nodes_again == nodes
    finally:
        tracemalloc.stop()
        gc.enable()


def test_the_pool_keeps_no_buffers_for_each_length_that_it_has_seen():
    scan, _ = twins()
    gc.collect()
    tracemalloc.start()
    try:
        small, _ = memory_after(scan, 3, steps=3, rows=50)
        first = memory_after(scan, 3, steps=150)[0] - small
        later = memory_after(scan, 8, steps=141)[0] - small
        later = max(later, memory_after(scan, 8, steps=146)[0] - small)
        assert later < 1.5 * first + 100_000
    finally:
        tracemalloc.stop()


def test_a_layer_dies_with_its_last_reference_and_its_outputs_live_on():
    scan, plain = twins()
    x, y = (tg.Tensor(batch(), requires_grad=True) for _ in range(2))
    out, expected = scan(x), plain(y)
    del scan, plain
    gc.collect()
    weighted(out).backward()
    weighted(expected).backward()
    np.testing.assert_allclose(x.grad, y.grad, atol=1e-12)


def test_threads_that_share_a_layer_do_not_disturb_each_other():
    scan, plain = twins(CELLS["LSTMCell"])
    work = [(batch(k, steps=3 + k % 4), [3, 1, 0]) for k in range(8)]

    def gradients(layer, x, lengths):
        x = tg.Tensor(x, requires_grad=True)
        inputs = [x, *layer.parameters()]
        return [g.data for g in tg.grad(weighted(layer(x, lengths=lengths)), inputs)]

    expected = [gradients(plain, *item) for item in work]
    wrong, gate = [], threading.Barrier(2)

    def run(order):
        gate.wait()
        for _ in range(4):
            for k in order:
                try:
                    same(gradients(scan, *work[k]), expected[k])
                except Exception as error:
                    wrong.append(error)

    orders = range(8), range(7, -1, -1)
    threads = [threading.Thread(target=run, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


def test_backward_in_another_thread_than_forward():
    scan, plain = twins()
    totals = [weighted(layer(batch())) for layer in (scan, plain)]
    for total in totals:
        thread = threading.Thread(target=total.backward)
        thread.start()
        thread.join()
    same([p.grad for p in scan.parameters()], [p.grad for p in plain.parameters()])


@pytest.mark.parametrize("used", [False, True], ids=["new", "traced"])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda rnn: pickle.loads(pickle.dumps(rnn))])
def test_copies_and_pickles_are_layers_of_their_own(again, used):
    scan, _ = twins()
    if used:
        weighted(scan(batch())).backward()
        scan.zero_grad()
    twin = again(scan)
    assert twin.scan
    before = scan(batch()).outputs.data
    np.testing.assert_array_equal(twin(batch()).outputs.data, before)
    for p in twin.parameters():
        p.data = p.data * 0.5
    np.testing.assert_array_equal(scan(batch()).outputs.data, before)
    weighted(twin(batch())).backward()
    assert scan.cell.V.grad is None
    plain = again(twin)
    plain.scan = False
    np.testing.assert_allclose(
        twin(batch()).outputs.data, plain(batch()).outputs.data, rtol=0, atol=1e-13
    )


def test_state_dicts_go_round_and_hold_parameters_only():
    (scan, plain), (other, _) = twins(), twins(seed=2)
    assert scan.state_dict().keys() == plain.state_dict().keys()
    scan(batch())
    assert scan.state_dict().keys() == plain.state_dict().keys()
    other(batch())
    other.load_state_dict(scan.state_dict())
    np.testing.assert_array_equal(other(batch()).outputs.data, scan(batch()).outputs.data)


def test_astype_converts_a_traced_layer():
    results = []
    for layer in twins():
        layer(batch())
        layer.astype(np.float32)
        results.append(everything(layer, batch().astype(np.float32)))
    assert not differences(*results)
    assert results[0]["value 0"].dtype == np.float32


def test_a_stream_of_a_scanning_layer_gives_the_same_steps():
    scan, plain = twins()
    streams = [layer.stream((3,)) for layer in (scan, plain)]
    for x in batch():
        first, second = (stream.push(x) for stream in streams)
        np.testing.assert_allclose(first.data, second.data, atol=1e-13)


def test_a_training_run_ends_where_the_plain_loops_ends():
    scan, plain = twins()
    for layer in (scan, plain):
        adam = tg.Adam(layer.parameters(), 0.01)
        for k in range(8):
            layer.zero_grad()
            out = layer(batch(k, rows=1 + k % 3))
            (out.last**2).mean().backward()
            adam.step()
    for a, b in zip(scan.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-11)


# ----- what cannot be traced ---------------------------------------------------------------------


class Written(tg.Cell):
    """A cell whose step is a function."""

    def __init__(self, step, state_shape=(H,)):
        self.run, self.state_shape = step, state_shape
        self.U = tg.Parameter(np.random.default_rng(0).normal(size=(C, H)))
        self.count, self.seen = 0, []

    def step(self, x, state):
        return self.run(self, x, state)


def chosen_by_data(cell, x, h):
    h = np.tanh(x @ cell.U + h)
    return h if h.data.sum() > 0 else -h


def chosen_by_comparison(cell, x, h):
    h = np.tanh(x @ cell.U + h)
    if (h > 0).all():
        return h
    return -h


def read_as_float(cell, x, h):
    h = np.tanh(x @ cell.U + h)
    return h * float(h.sum())


def read_by_item(cell, x, h):
    h = np.tanh(x @ cell.U + h)
    return h * h.sum().item()


def read_as_array(cell, x, h):
    h = np.tanh(x @ cell.U + h)
    return h * np.asarray(h)


def parameter_read(cell, x, h):
    return np.tanh(x @ cell.U + h) * cell.U.data.sum()


READING = [
    (chosen_by_data, "if h.data.sum"),
    (chosen_by_comparison, "if (h > 0)"),
    (read_as_float, "float(h.sum"),
    (read_by_item, "h.sum().item"),
    (read_as_array, "np.asarray(h"),
    (parameter_read, "cell.U.data"),
]
cases = pytest.mark.parametrize(("step", "line"), READING, ids=[s.__name__ for s, _ in READING])


@cases
def test_a_step_that_reads_values_raises_with_its_line_and_works_without_scan(step, line):
    rnn = tg.RNN(Written(step), scan=True)
    number = step.__code__.co_firstlineno
    for _ in range(2):  # the second call is no better
        with pytest.raises(errors.TraceError, match=r"scan=False") as caught:
            rnn(batch())
        text = str(caught.value)
        places = [f"test_scan.py:{k}" for k in range(number, number + 6)]
        assert line in text or any(place in text for place in places), text
    rnn.scan = False
    if step is read_as_array:  # not possible in the plain loop either
        with pytest.raises(errors.TinygradError):
            rnn(batch())
    else:
        weighted(rnn(batch())).backward()
    rnn.cell.run = lambda cell, x, h: np.tanh(x @ cell.U + h)
    rnn.scan = True
    assert_equal_to_the_plain_loop(lambda: tg.RNN(rnn.cell), batch())


def counts(cell, x, h):
    cell.count += 1
    return np.tanh(x @ cell.U + h) * (1 + cell.count)


def counts_aside(cell, x, h):
    cell.count += 1
    return np.tanh(x @ cell.U + h)


def appends(cell, x, h):
    cell.seen.append(1)
    return np.tanh(x @ cell.U + h) * len(cell.seen)


def remembers(cell, x, h):
    cell.late = np.tanh(x @ cell.U + h)
    return cell.late


def draws(cell, x, h):
    return np.tanh(x @ cell.U + h) * (np.random.default_rng().random(H) < 0.5)


def draws_globally(cell, x, h):
    return np.tanh(x @ cell.U + h + np.random.random(H))  # noqa: NPY002


@pytest.mark.parametrize("step", [counts, counts_aside, appends, remembers, draws, draws_globally])
def test_a_step_that_is_not_pure_raises_and_says_so(step):
    rnn = tg.RNN(Written(step), scan=True)
    says = r"(?i)pure|chang|random|differ|attribute"
    with pytest.raises(errors.TraceError, match=says) as caught:
        rnn(batch())
    assert "scan=False" in str(caught.value)
    rnn.scan = False
    rnn(batch())


@pytest.mark.parametrize(
    "step",
    [
        lambda cell, x, h: np.tanh(x @ cell.U + h)[..., :1],
        lambda cell, x, h: np.tanh(x @ cell.U + h).astype(np.float32),
        lambda cell, x, h: (h, h, h),
        lambda cell, x, h: (h.sum(), h),
        lambda cell, x, h: None,
        lambda cell, x, h: (h, None),
        lambda cell, x, h: x @ cell.U.T + h,
        lambda cell, x, h: np.concatenate([x, h[..., None]], axis=-1),
        lambda cell, x, h: cell.nothing,
        lambda cell, x, h: np.linalg.svd(h),
    ],
)
def test_a_wrong_step_raises_what_it_raises_in_the_plain_loop(step):
    raised = []
    for scan in (True, False):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            tg.RNN(Written(step), scan=scan)(batch())
        raised.append(type(caught.value))
    assert raised[0] is raised[1]


@pytest.mark.parametrize("by", ["shape", "nothing", "one of two", "right"])
def test_a_wrong_rule_is_the_same_error_as_in_the_plain_loop(by, rule_of):
    product = tg.primitive(lambda a, b: a * b)
    if by in ("shape", "nothing"):
        right = lambda g, x0: g * x0
        wrong = (lambda g, x1: g[..., :1]) if by == "shape" else (lambda g, x1: None)
        rule_of(product, wrong, right)
    else:
        count, calls = 1 + (by == "right"), []
        rule_of(product, joint=lambda g, x0, x1: calls.append(1) or (g * x1, g * x0)[:count])
    make = lambda: tg.RNN(Written(lambda cell, x, h: np.tanh(product(h, x @ cell.U) + h)))
    if by == "right":
        assert_equal_to_the_plain_loop(make, batch())
        assert len(calls) == 1 + 5  # once for all steps, and once in each step of the plain loop
        return
    raised = []
    for scan in (True, False):
        with pytest.raises(errors.RuleError) as caught:
            everything(scan_everywhere(make(), scan), batch())
        raised.append(str(caught.value).partition("; the call was ")[0])
    assert raised[0] == raised[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r(np.ones(5)),
        lambda r: r(np.ones((3, 2, 7))),
        lambda r: r(batch(), np.ones((1, H))),
        lambda r: r(batch(), (np.ones((3, H)),)),
        lambda r: r(batch(), np.zeros((3, H), np.float32)),
        lambda r: r(batch(), lengths=[9, 1, 1]),
        lambda r: r(batch(), lengths=[1.0, 2.0, 1.0]),
        lambda r: r(batch(), mask=np.ones((5, 3))),
        lambda r: r(batch(), reset=np.ones((5, 2), bool)),
        lambda r: r(batch(), truncate=0),
    ],
)
@pytest.mark.parametrize("used", [False, True], ids=["new", "traced"])
def test_a_wrong_call_raises_what_it_raises_in_the_plain_loop(call, used):
    raised = []
    for layer in twins():
        if used:
            layer(batch())
        with pytest.raises(errors.TinygradError) as caught:
            call(layer)
        raised.append((type(caught.value), str(caught.value)))
        assert layer(batch()).outputs.shape == (5, 3, H)
    assert raised[0] == raised[1]


def test_an_error_in_a_step_leaves_the_layer_and_the_thread_as_they_were():
    rnn = tg.RNN(Written(lambda cell, x, h: 1 / 0), scan=True)
    with pytest.raises(ZeroDivisionError):
        rnn(batch())
    tg.Tensor(1.0).item()  # nothing is being traced
    rnn.cell.run = lambda cell, x, h: np.tanh(x @ cell.U + h)
    assert rnn(batch()).last.requires_grad


def test_there_is_no_source_before_a_call():
    scan, plain = twins()
    for layer in (scan, plain):
        with pytest.raises(errors.TinygradError, match=r"(?i)call"):
            layer.source()


def test_shapes_may_be_branched_on():
    def step(cell, x, h):
        z = x @ cell.U + h
        return np.tanh(z) if x.ndim > 1 and len(x) > 2 else z / 2

    cell = Written(step)
    for rows in (3, 2, 3, 1):
        assert_equal_to_the_plain_loop(lambda: tg.RNN(cell), batch(rows=rows))
    assert_equal_to_the_plain_loop(lambda: tg.RNN(cell), batch()[:, 0])


@given(seeds)
@settings(max_examples=max(10, settings().max_examples // 20))
def test_one_layer_takes_any_sequence_of_shapes(seed):
    rng = np.random.default_rng(seed)
    scan, plain = twins(CELLS["LSTMCell"], seed=seed)
    for _ in range(4):
        steps, rows = int(rng.integers(0, 8)), int(rng.integers(0, 4))
        x, options = batch(rng.integers(99), steps, rows), {}
        if rng.random() < 0.5:
            options["lengths"] = rng.integers(0, steps + 1, rows)
        found, expected = (everything(layer, x, **options) for layer in (scan, plain))
        lines = differences(found, expected, TOLERANCE[np.dtype(np.float64)])
        assert not lines, (seed, lines)
