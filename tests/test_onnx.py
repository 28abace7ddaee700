"""Networks as ONNX files: onnx's reference evaluator runs them in float64, onnxruntime in float32.

The evaluator ignores sequence_lens and knows tanh and Affine alone as an RNN's activations;
onnxruntime has no float64. So the first judges the formulas to 1e-12, the second padding too.
"""

import inspect
import re
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import onnx_model
from tinygrad_rnn.errors import (
    CellError,
    DtypeError,
    FileFormatError,
    MissingExtraError,
    NonFiniteError,
    ShapeError,
)
from tinygrad_rnn.nests import leaves, map_tree
from tinygrad_rnn.onnx_model import export_onnx

seeds = st.integers(0, 2**32 - 1)
several = settings(max_examples=2 * settings().max_examples)


def test_without_onnx_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        MissingExtraError, match=r"export_onnx needs .* onnx, .*rnn\[onnx\]"
    ) as error:
        export_onnx(tmp_path / "net.onnx", tg.RNN(tg.RNNCell(3, 4, rng=0)), 3)
    assert error.value.__suppress_context__
    assert not list(tmp_path.iterdir())


# ----- networks of all kinds, and their states under the names in a file --------------------------


def drawn_cell(rng, inputs, phis, depth=0):
    """Any cell that can be exported, and the width of its output."""
    hidden = int(rng.integers(1, 5))
    kind = rng.integers(6 if depth < 2 else 4)
    if kind == 0:
        cell = tg.RNNCell(inputs, hidden, str(rng.choice(phis)), bool(rng.integers(2)), rng=rng)
    elif kind == 1:
        cell = tg.LSTMCell(inputs, hidden, rng=rng)
    elif kind < 4:
        cell = tg.GRUCell(inputs, hidden, reset_after=kind == 2, rng=rng)
    elif kind == 4:
        lower, width = drawn_cell(rng, inputs, phis, depth + 1)
        upper, hidden = drawn_cell(rng, width, phis, depth + 1)
        cell = tg.Stacked(lower, upper)
    else:
        inner, width = drawn_cell(rng, inputs, phis, depth + 1)
        cell = tg.Readout(inner, tg.Linear(width, hidden, "tanh", rng=rng))
    return cell, hidden


LINEAR = (None, "tanh", "relu", "sigmoid", tg.softmax, tg.log_softmax, tg.softplus)


def drawn_layer(rng, kind, width, phis, forward):
    """A Linear, an RNN or a BiRNN, and the width of its output."""
    if kind == "Linear":
        size, phi = int(rng.integers(1, 5)), LINEAR[rng.integers(len(LINEAR))]
        return tg.Linear(width, size, phi, bool(rng.integers(2)), rng=rng), size
    cell, size = drawn_cell(rng, width, phis)
    if kind == "RNN" or forward:
        reverse = not forward and bool(rng.integers(2))
        return tg.RNN(cell, reverse=reverse, train_state=bool(rng.integers(2))), size
    other = cell
    if rng.integers(3):  # else one cell for both directions
        other = drawn_cell(rng, width, phis)[0]
    if rng.integers(2):  # two that are alike
        cell, size = tg.GRUCell(width, size, rng=rng), size
        other = tg.GRUCell(width, size, rng=rng)
    x = np.zeros((1, 1, width))
    sizes = {tg.RNN(c)(x).outputs.shape[-1] for c in (cell, other)}
    merges = ["concat", "sum", "mean", "mul"][: 4 if len(sizes) == 1 else 1]
    layer = tg.BiRNN(cell, other, merge=str(rng.choice(merges)))
    return layer, layer(x).outputs.shape[-1]


def drawn(rng, phis=("tanh", "identity"), forward=False):
    """A network with no parameter at its starting value, and `inputs`; or the count of ids."""
    inputs = width = int(rng.integers(1, 5))
    kinds = list(rng.choice(["Linear", "RNN", "BiRNN"], int(rng.integers(0, 3))))
    kinds.insert(int(rng.integers(len(kinds) + 1)), rng.choice(["RNN", "BiRNN"]))
    layers, ids = [], not rng.integers(4)
    if ids:
        width = int(rng.integers(1, 4))
        layers.append(tg.Embedding(inputs, width, rng=rng))
    for kind in kinds:
        layer, width = drawn_layer(rng, kind, width, phis, forward)
        layers.append(layer)
    cut = int(rng.integers(len(layers)))
    if hasattr(layers[cut], "initial_state") and rng.integers(2):
        layers[cut:] = [tg.Chain(*layers[cut:])]  # a Chain in a Chain
    net = layers[0] if len(layers) == 1 else tg.Chain(*layers)
    for p in net.parameters():
        p.data = rng.normal(size=p.shape, scale=0.5)
    return net, inputs, ids


def drawn_x(rng, inputs, ids, dtype, steps=None):
    steps = int(rng.integers(1, 7)) if steps is None else steps
    shape = (steps, int(rng.integers(1, 5)))
    return (
        rng.integers(inputs, size=shape) if ids else rng.normal(size=(*shape, inputs)).astype(dtype)
    )


def flat(layer):
    layers = getattr(layer, "layers", None)
    return [layer] if layers is None else [one for part in layers for one in flat(part)]


def flat_states(layer, state):
    """A Chain's nested states as a list, one for each RNN and BiRNN."""
    if hasattr(layer, "layers"):
        layers = [one for one in layer.layers if hasattr(one, "initial_state")]
        return [s for one, part in zip(layers, state, strict=True) for s in flat_states(one, part)]
    return [state]


def parts(cell):
    if isinstance(cell, tg.Stacked):
        return [part for one in cell.cells for part in parts(one)]
    return [*parts(cell.cell), None] if isinstance(cell, tg.Readout) else [cell]


def cell_states(place, cell, state):
    """name -> (N, H)"""
    arrays, found = iter(leaves(state)), {}
    every = parts(cell)
    for k, part in enumerate(every):
        here = place if len(every) == 1 else f"{place}.{k}"
        for name in () if part is None else "hc" if isinstance(part, tg.LSTMCell) else "h":
            a = next(arrays)
            found[f"{here}.{name}"] = np.asarray(getattr(a, "data", a))
    return found


def named_states(net, state, names):
    """A network's state as a file with these names has it: name -> (directions, N, H)."""
    states, found = iter(flat_states(net, state)), {}
    for k, layer in enumerate(flat(net)):
        place = f"layer {k}"
        if isinstance(layer, tg.RNN):
            ways = cell_states(place, layer.cell, next(states))
            found |= {name: a[None] for name, a in ways.items()}
        elif isinstance(layer, tg.BiRNN):
            both = next(states)
            if f"{place}.h" in names:
                ways = [
                    cell_states(place, rnn.cell, s)
                    for rnn, s in zip((layer.forward_rnn, layer.backward_rnn), both, strict=True)
                ]
                found |= {name: np.stack([way[name] for way in ways]) for name in ways[0]}
            else:
                ways = cell_states(f"{place}.forward", layer.forward_rnn.cell, both[0])
                ways |= cell_states(f"{place}.backward", layer.backward_rnn.cell, both[1])
                found |= {name: a[None] for name, a in ways.items()}
    return found


def drawn_state(rng, net, size):
    return map_tree(lambda s: rng.normal(size=s.shape), net.initial_state((size,)))


def close(theirs, ours, tolerance):
    ours = np.asarray(getattr(ours, "data", ours))
    assert theirs.shape == ours.shape
    scale = max(1.0, np.abs(ours).max(initial=0))
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=tolerance * scale)


# ----- the reference evaluator: float64 -----------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx") / "net.onnx"


@pytest.fixture(scope="module")
def reference():
    return pytest.importorskip("onnx.reference").ReferenceEvaluator


@pytest.mark.parametrize("with_state", [False, True], ids=["", "state"])
@several
@given(seed=seeds)
def test_equal_to_the_reference_evaluator(reference, path, with_state, seed):
    rng = np.random.default_rng(seed)
    net, inputs, ids = drawn(rng)
    export_onnx(path, net, inputs, state=with_state, dtype=np.float64)
    model = reference(str(path))
    x, state, feed = drawn_x(rng, inputs, ids, np.float64), None, {}
    if with_state:
        state = drawn_state(rng, net, x.shape[1])
        feed = named_states(net, state, model.input_names)
    assert model.input_names == ["x", *feed]
    out = net(x, state)
    outputs, last, *ends = model.run(None, {"x": x, **feed})
    close(outputs, out.outputs, 1e-12)
    close(last, out.last, 1e-12)
    expected = named_states(net, out.state, model.input_names) if with_state else {}
    assert model.output_names == ["outputs", "last", *(f"{name}_next" for name in expected)]
    for theirs, ours in zip(ends, expected.values(), strict=True):
        close(theirs, ours, 1e-12)


def test_lengths_want_float32_as_the_evaluator_would_ignore_them(path):
    pytest.importorskip("onnx")
    with pytest.raises(DtypeError, match="reference evaluator, ignores them"):
        export_onnx(path, tg.RNN(tg.GRUCell(3, 4, rng=0)), 3, lengths=True, dtype=np.float64)


def test_a_weight_that_float32_cannot_hold_is_refused(path):
    pytest.importorskip("onnx")
    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
    rnn.cell.b.data = np.array([0, 0, 1e39, 0])
    with pytest.raises(
        NonFiniteError, match=r"layer 0\.B has numbers that are too large for float32"
    ):
        export_onnx(path, rnn, 3)


# ----- onnxruntime: float32 -----------------------------------------------------------------------

ALL_PHIS = ("tanh", "identity", "relu", "sigmoid")


@pytest.fixture(scope="module")
def session():
    """A function: path -> a session in one thread."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    return lambda path: onnxruntime.InferenceSession(path, options, providers=providers)


def input_names(session):
    return [one.name for one in session.get_inputs()]


def output_names(session):
    return [one.name for one in session.get_outputs()]


def single(arrays):
    return {name: a.astype(np.float32) for name, a in arrays.items()}


def spoilt(x, lengths, ids):
    """x with what must not matter in its padding: NaN, and ids that no row has."""
    padding = np.arange(len(x))[:, None] >= lengths
    x = x.copy()
    x[padding] = 10**6 if ids else np.nan
    return x


@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("with_state", [False, True], ids=["", "state"])
@several
@given(seed=seeds)
def test_onnxruntime_gives_the_same_numbers(session, path, with_lengths, with_state, seed):
    rng = np.random.default_rng(seed)
    net, inputs, ids = drawn(rng, ALL_PHIS)
    export_onnx(path, net, inputs, lengths=with_lengths, state=with_state)
    model = session(path)
    x, lengths, state, feed = drawn_x(rng, inputs, ids, np.float32), None, None, {}
    if with_lengths:
        lengths = rng.integers(0, len(x) + 1, x.shape[1]).astype(np.int32)
        x, feed["lengths"] = spoilt(x, lengths, ids), lengths
    if with_state:
        state = drawn_state(rng, net, x.shape[1])
        feed |= single(named_states(net, state, input_names(model)))
    out = net(x, state, lengths)
    outputs, last, *ends = model.run(None, {"x": x, **feed})
    close(outputs, out.outputs, 1e-5)
    close(last, out.last, 1e-5)
    if with_lengths:
        assert not outputs[np.arange(len(x))[:, None] >= lengths].any()
    expected = named_states(net, out.state, input_names(model)) if with_state else {}
    for theirs, ours in zip(ends, expected.values(), strict=True):
        close(theirs, ours, 1e-5)


@several
@given(seed=seeds)
def test_two_chunks_give_what_one_run_gives(session, path, seed):
    """The states that come out are those that go in; a row that has ended keeps its own."""
    rng = np.random.default_rng(seed)
    net, inputs, ids = drawn(rng, ALL_PHIS, forward=True)
    export_onnx(path, net, inputs, lengths=True, state=True)
    model = session(path)
    x = drawn_x(rng, inputs, ids, np.float32)
    size, cut = x.shape[1], int(rng.integers(len(x) + 1))
    lengths = rng.integers(0, len(x) + 1, size)
    start = named_states(net, net.initial_state((size,)), input_names(model))
    state, chunks = single(start), []
    for part, counts in (
        (x[:cut], np.minimum(lengths, cut)),
        (x[cut:], np.maximum(lengths - cut, 0)),
    ):
        feed = {"x": part, "lengths": counts.astype(np.int32), **state}
        out = dict(zip(output_names(model), model.run(None, feed), strict=True))
        state = {name: out[f"{name}_next"] for name in state}
        chunks.append(out["outputs"])
    whole = net(x, lengths=lengths)
    close(np.concatenate(chunks), whole.outputs, 1e-5)
    for name, ours in named_states(net, whole.state, input_names(model)).items():
        close(state[name], ours, 1e-5)


def test_no_step_at_all(session, path):
    """T = 0: with lengths it is defined, and as in the layer."""
    rng = np.random.default_rng(0)
    net = tg.Chain(
        tg.BiRNN(tg.GRUCell(3, 4, rng=rng), tg.GRUCell(3, 4, rng=rng)),
        tg.RNN(tg.LSTMCell(8, 2, rng=rng)),
        tg.RNN(tg.RNNCell(2, 2, rng=rng), reverse=True),
        tg.Linear(2, 3, "sigmoid", rng=rng),
    )
    export_onnx(path, net, 3, lengths=True, state=True)
    model, x, lengths = session(path), np.zeros((0, 2, 3), np.float32), np.zeros(2, np.int32)
    state = drawn_state(rng, net, 2)
    feed = single(named_states(net, state, input_names(model)))
    outputs, last, *ends = model.run(None, {"x": x, "lengths": lengths, **feed})
    out = net(x, state, lengths)
    close(outputs, out.outputs, 1e-7)
    close(last, out.last, 1e-7)
    for theirs, ours in zip(ends, feed.values(), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_the_example_in_the_docstring(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    text = re.search(r"\n\n((?:    .*\n|\n)+)path", inspect.getdoc(export_onnx))[1]
    names = {"tg": tg, "np": np, "onnxruntime": onnxruntime}
    exec(textwrap.dedent(text), names)
    outputs, last = names["outputs"], names["last"]
    assert f"# {outputs.shape}, {last.shape}\n" in text
    out = tg.Chain(names["rnn"], names["readout"])(names["x"], lengths=names["lengths"])
    close(outputs, out.outputs, 1e-6)
    close(last, out.last, 1e-6)


def test_every_argument_is_explained():
    for name in inspect.signature(export_onnx).parameters:
        assert re.search(rf"^{name}  ", inspect.getdoc(export_onnx), re.MULTILINE)


# ----- what stands in a file ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx")


def loaded(onnx, path, *arguments, **options):
    export_onnx(path, *arguments, **options)
    return onnx.load(path)


def ops(model):
    return [node.op_type for node in model.graph.node]


def recurrent_nodes(model):
    return [node for node in model.graph.node if node.op_type in ("RNN", "LSTM", "GRU")]


def twin(make):
    return tg.BiRNN(make(3, 4, rng=0), make(3, 4, rng=1))


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
def test_a_layer_is_one_node_of_its_name(onnx, path, kind):
    net = tg.Chain(twin(kind), tg.RNN(kind(8, 2, rng=2)), tg.BiRNN(*[kind(2, 2, rng=3)] * 2))
    nodes = recurrent_nodes(loaded(onnx, path, net, 3, lengths=True))
    assert [node.name for node in nodes] == ["layer 0", "layer 1", "layer 2"]
    assert {node.op_type for node in nodes} == {kind.__name__.removesuffix("Cell")}


def unlike(**second):
    first = {"hidden": 4, "activation": "tanh"}
    return tg.BiRNN(*[tg.RNNCell(3, rng=0, **form) for form in (first, first | second)])


def before_and_after():
    return tg.BiRNN(*[tg.GRUCell(3, 4, reset_after=after, rng=0) for after in (False, True)])


def turned(forward_reverse, backward_reverse, **options):
    birnn = twin(tg.GRUCell)
    birnn.forward_rnn = tg.RNN(birnn.forward_rnn.cell, reverse=forward_reverse, **options)
    birnn.backward_rnn.reverse = backward_reverse
    return birnn


@pytest.mark.parametrize(
    "net",
    [
        unlike(hidden=5),
        unlike(activation="relu"),
        before_and_after(),
        turned(True, True),
        turned(False, False),
        turned(False, True, train_state=True),
    ],
    ids=["sizes", "activations", "reset", "both back", "both on", "trained"],
)
def test_directions_unlike_each_other_are_two_nodes(onnx, session, path, net):
    for p in net.parameters():
        p.data = np.random.default_rng(p.size).normal(size=p.shape)
    model = loaded(onnx, path, net, 3)
    names = [node.name for node in recurrent_nodes(model)]
    assert names == ["layer 0.forward", "layer 0.backward"]
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    for theirs, ours in zip(session(path).run(None, {"x": x}), net(x), strict=False):
        close(theirs, ours, 1e-5)


def shapes(values):
    return {
        v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in values
    }


def test_a_file_explains_itself(onnx, path):
    net = tg.Chain(
        tg.Linear(3, 4, rng=0), tg.BiRNN(tg.LSTMCell(4, 5, rng=1), tg.LSTMCell(4, 5, rng=2))
    )
    model = loaded(onnx, path, net, 3, readout=tg.Linear(10, 2, rng=3), lengths=True, state=True)
    assert model.producer_name == "tinygrad_rnn"
    assert model.doc_string.startswith("Chain(\n  layers.0.layers.0: Linear(W (3, 4)")
    assert (model.ir_version, model.opset_import[0].version) == (10, 22)
    state = {f"layer 1.{name}": (2, "N", 5) for name in "hc"}
    assert shapes(model.graph.input) == {"x": ("T", "N", 3), "lengths": ("N",), **state}
    assert shapes(model.graph.output) == {
        "outputs": ("T", "N", 2), "last": ("N", 2),
        **{f"{name}_next": shape for name, shape in state.items()},
    }  # fmt: skip
    arrays = {a.name: tuple(a.dims) for a in model.graph.initializer if a.name.startswith("layer")}
    assert arrays == {
        "layer 0.W": (3, 4), "layer 0.b": (4,),
        "layer 1.W": (2, 20, 4), "layer 1.R": (2, 20, 5), "layer 1.B": (2, 40),
        "layer 2.W": (10, 2), "layer 2.b": (2,),
    }  # fmt: skip


def test_onnxruntime_has_nothing_to_say(session, path, capfd):
    """It warns on stderr, of what is unused, say."""
    readout = tg.Readout(tg.RNNCell(4, 3, rng=1), tg.Linear(3, 3, rng=2))
    unlike = tg.BiRNN(tg.LSTMCell(4, 2, rng=0), readout)
    net = tg.Chain(tg.RNN(tg.GRUCell(3, 4, rng=0), train_state=True), unlike)
    for lengths in (False, True):
        for state in (False, True):
            export_onnx(path, net, 3, lengths=lengths, state=state)
            session(path)
    assert capfd.readouterr().err == ""


@several
@given(seed=seeds)
def test_a_file_is_valid_and_nothing_in_it_is_unused_or_has_its_name_twice(onnx, path, seed):
    rng = np.random.default_rng(seed)
    net, inputs, _ = drawn(rng, ALL_PHIS)
    options = {name: bool(rng.integers(2)) for name in ("lengths", "state")}
    model = loaded(onnx, path, net, inputs, **options)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    made = [a.name for a in (*graph.input, *graph.initializer)]
    made += [name for node in graph.node for name in node.output]
    assert len(made) == len(set(made))
    assert len({node.name for node in graph.node}) == len(graph.node)
    used = {name for node in graph.node for name in node.input}
    assert {a.name for a in (*graph.input, *graph.initializer)} <= used


def test_what_the_checker_refuses_is_not_written(onnx, tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    monkeypatch.setattr(onnx_model, "OPSET", 6)  # before there was a Range
    with pytest.raises(onnx.checker.ValidationError):
        export_onnx(path, tg.RNN(tg.GRUCell(3, 4, rng=0)), 3, lengths=True)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_readout_is_what_a_chain_with_it_is(onnx, path):
    rnn, readout = tg.RNN(tg.GRUCell(3, 4, rng=0)), tg.Linear(4, 2, rng=1)
    models = [
        loaded(onnx, path, rnn, 3, readout=readout),
        loaded(onnx, path, tg.Chain(rnn, readout), 3),
    ]
    assert models[0] == models[1]


def test_without_lengths_there_are_no_masks(onnx, path):
    model = loaded(onnx, path, twin(tg.LSTMCell), 3)
    assert ops(model) == ["LSTM", *["Gather"] * 4, *["Concat"] * 2, *["Identity"] * 2]


# ----- what is refused ----------------------------------------------------------------------------


class Twice(tg.RNNCell):
    """A subclass may step otherwise."""

    def step(self, x, state):
        return 2 * super().step(x, state)


def subclass(kind, *arguments, **options):
    """An instance of a subclass, called Other..."""
    return type(f"Other{kind.__name__}", (kind,), {})(*arguments, **options)


def rnn(inputs=3, hidden=2, *more, **options):
    return tg.RNNCell(inputs, hidden, *more, rng=0, **options)


def linear(*more, **options):
    return tg.Linear(2, 2, *more, rng=0, **options)


def with_other_rnn():
    birnn = tg.BiRNN(rnn(), rnn())
    birnn.backward_rnn = subclass(tg.RNN, rnn(), reverse=True)
    return birnn


REFUSED = {
    "a subclass": (lambda: tg.RNN(Twice(3, 2, rng=0)), "layer 0: Twice cannot"),
    "another cell": (
        lambda: tg.Chain(tg.RNN(rnn()), tg.RNN(tg.zoo.PeepholeLSTM(2, 2, rng=0))),
        "layer 1: PeepholeLSTM cannot",
    ),
    "in a stack": (
        lambda: tg.RNN(tg.Stacked(rnn(), tg.Residual(rnn(2)))), "layer 0.1: Residual cannot",
    ),
    "one way": (
        lambda: tg.BiRNN(rnn(), Twice(3, 2, rng=0)), "layer 0.backward: Twice cannot",
    ),
    "activation": (
        lambda: tg.BiRNN(*[rnn(3, 2, np.sin)] * 2), "layer 0: RNNCell with the activation sin",
    ),
    "activation of a Linear": (
        lambda: tg.Chain(tg.RNN(rnn()), linear(np.cos)), "layer 1: Linear with the activation cos",
    ),
    "softmax in a cell": (
        lambda: tg.RNN(rnn(3, 2, tg.softmax)), "layer 0: RNNCell with the activation softmax",
    ),
    "pair": (lambda: tg.BiRNN(rnn(), rnn(), merge=None), "layer 0: BiRNN with merge=None"),
    "merge": (
        lambda: tg.BiRNN(rnn(), rnn(), merge=np.maximum), "layer 0: BiRNN with merge=maximum",
    ),
    "a function": (lambda: tg.Chain(tg.RNN(rnn()), np.tanh), "layer 1: tanh cannot"),
    "a function in a Readout": (lambda: tg.RNN(tg.Readout(rnn(), np.tanh)), "layer 0.1: tanh"),
    "Linear's subclass": (
        lambda: tg.Chain(tg.RNN(rnn()), subclass(tg.Linear, 2, 2, rng=0)), "layer 1: OtherLinear",
    ),
    "Linear's subclass in a Readout": (
        lambda: tg.RNN(tg.Readout(rnn(), subclass(tg.Linear, 2, 2, rng=0))),
        "layer 0.1: OtherLinear",
    ),
    "Embedding's subclass": (
        lambda: tg.Chain(subclass(tg.Embedding, 3, 3, rng=0), tg.RNN(rnn())),
        "layer 0: OtherEmbedding",
    ),
    "Stacked's subclass": (lambda: tg.RNN(subclass(tg.Stacked, rnn())), "layer 0: OtherStacked"),
    "Readout's subclass": (
        lambda: tg.RNN(subclass(tg.Readout, rnn(), linear())), "layer 0: OtherReadout",
    ),
    "Chain's subclass": (lambda: subclass(tg.Chain, tg.RNN(rnn())), "layer 0: OtherChain"),
    "BiRNN's subclass": (lambda: subclass(tg.BiRNN, rnn(), rnn()), "layer 0: OtherBiRNN"),
    "RNN's subclass": (lambda: subclass(tg.RNN, rnn()), "layer 0: OtherRNN cannot"),
    "RNN's subclass in a BiRNN": (with_other_rnn, "layer 0.backward: OtherRNN cannot"),
    "a late Embedding": (
        lambda: tg.Chain(tg.RNN(rnn()), tg.Embedding(2, 2, rng=0)), "layer 1: Embedding cannot",
    ),
    "a cell alone": (rnn, r"layer 0: RNNCell without tg\.RNN around it cannot"),
    "no recurrent layer": (lambda: tg.Linear(3, 2, rng=0), "needs a recurrent layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused_by_name(onnx, tmp_path, name):
    make, text = REFUSED[name]
    with pytest.raises(CellError, match=f"{text}.*RNNCell.*LSTMCell, GRUCell, and Stacked"):
        export_onnx(tmp_path / "net.onnx", make(), 3)
    assert not list(tmp_path.iterdir())


WIDTHS = {
    "inputs": (lambda: tg.RNN(rnn(4)), "inputs=3: layer 0 gets 3 features and expects 4"),
    "Linear": (
        lambda: tg.Chain(tg.RNN(rnn()), tg.Linear(5, 2, rng=0)),
        "layer 1 gets 2 features and expects 5",
    ),
    "RNN": (lambda: tg.Chain(tg.RNN(rnn()), tg.RNN(rnn(4))), "layer 1 gets 2 .* expects 4"),
    "Embedding": (
        lambda: tg.Chain(tg.Embedding(7, 3, rng=0), tg.RNN(rnn())), "layer 0 gets 3 .* expects 7",
    ),
    "one of two": (lambda: tg.BiRNN(rnn(), rnn(4)), "layer 0 gets 3 .* expects 4"),
    "in a stack": (lambda: tg.RNN(tg.Stacked(rnn(), rnn(4))), "layer 0.1 gets 2 .* expects 4"),
    "merge": (
        lambda: tg.BiRNN(rnn(3, 2), rnn(3, 4), merge="sum"),
        r"layer 0 has merge='sum' of widths \(2, 4\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDTHS)
def test_widths_that_do_not_fit_are_named(onnx, tmp_path, name):
    make, text = WIDTHS[name]
    with pytest.raises(ShapeError, match=f"export_onnx.*{text}"):
        export_onnx(tmp_path / "net.onnx", make(), 3)
    assert not list(tmp_path.iterdir())


def test_a_width_of_one_is_merged_as_numpy_does(session, path):
    net = tg.BiRNN(rnn(3, 1), rnn(3, 4), merge="mul")
    export_onnx(path, net, np.int64(3))
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    for theirs, ours in zip(session(path).run(None, {"x": x}), net(x), strict=False):
        close(theirs, ours, 1e-5)


@pytest.mark.parametrize("name", ["net", "net.onnx.gz", "net.npz"])
def test_another_suffix_is_refused(onnx, tmp_path, name):
    with pytest.raises(FileFormatError, match=rf"writes \.onnx files; got .*{name}$"):
        export_onnx(tmp_path / name, tg.RNN(rnn()), 3)


@pytest.mark.parametrize("dtype", [np.float16, np.int32])
def test_another_dtype_is_refused(onnx, path, dtype):
    with pytest.raises(DtypeError, match=r"float32 or float64, not (float16|int32)"):
        export_onnx(path, tg.RNN(rnn()), 3, dtype=dtype)
