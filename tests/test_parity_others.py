"""The same numbers from Keras (masks too, with all gradients) and from ONNX's reference operators.

Both store their gates in orders of their own; the conversion stands here, in `permuted`. What they
do otherwise is not compared: Keras gives a layer that runs backwards in reversed time, so it is
flipped, and the ONNX reference ignores sequence_lens, so each row is run alone, cut to its length.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.nests import leaves, map_tree

CELLS = {
    "RNN": tg.RNNCell,
    "RNN, no bias": lambda *sizes, rng: tg.RNNCell(*sizes, bias=False, rng=rng),
    "LSTM": tg.LSTMCell,
    "GRU": tg.GRUCell,
    "GRU, reset before": lambda *sizes, rng: tg.GRUCell(*sizes, reset_after=False, rng=rng),
}
each_cell = pytest.mark.parametrize("kind", CELLS)
seeds = st.integers(0, 2**32 - 1)
a_few = settings(max_examples=settings().max_examples // 8)


def drawn(kind, count, rng):
    """Cells with no parameter at its starting value, x and a state for each cell."""
    steps, size, inputs, hidden = (int(n) for n in rng.integers(1, (8, 5, 4, 5)))
    cells = [CELLS[kind](inputs, hidden, rng=rng) for _ in range(count)]
    for p in [p for cell in cells for p in cell.parameters()]:
        p.data = rng.normal(size=p.shape)
    states = [
        map_tree(lambda s: rng.normal(size=s.shape), cell.initial_state((size,))) for cell in cells
    ]
    return cells, rng.normal(size=(steps, size, inputs)), states


def permuted(a, order):
    """The gates' blocks of the last axis in another order."""
    blocks = np.split(a, len(order), axis=-1)
    return np.concatenate([blocks[k] for k in order], axis=-1)


def close(ours, theirs):
    np.testing.assert_allclose(getattr(ours, "data", ours), theirs, rtol=1e-12, atol=1e-12)


# ----- ONNX -------------------------------------------------------------------------------------

ONNX_GATES = {
    "R": (0,),
    "L": (0, 3, 1, 2),
    "G": (1, 0, 2),
}  # our i f g o as i o f g, r z n as z r n


def onnx_weights(kind, cells):
    """W (directions, kH, C), R (directions, kH, H) and B (directions, 2kH)."""
    order, parts = ONNX_GATES[kind[0]], []
    for cell in cells:
        b = np.zeros(cell.V.shape[1]) if cell.b is None else cell.b.data
        second = np.zeros_like(b)
        if getattr(cell, "b_n", None) is not None:
            second[-cell.hidden :] = cell.b_n.data
        b = np.concatenate([permuted(b, order), permuted(second, order)])
        parts.append((permuted(cell.U.data, order).T, permuted(cell.V.data, order).T, b))
    return dict(zip("WRB", (np.stack(part) for part in zip(*parts, strict=True)), strict=True))


@each_cell
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@a_few
@given(seed=seeds)
def test_equal_to_the_onnx_reference_row_by_row(kind, direction, seed):
    helper = pytest.importorskip("onnx.helper")
    reference = pytest.importorskip("onnx.reference")
    rng = np.random.default_rng(seed)
    both = direction == "bidirectional"
    cells, x, states = drawn(kind, 1 + both, rng)
    lengths = rng.integers(1, len(x) + 1, x.shape[1])
    if both:
        out = tg.BiRNN(*cells)(x, tuple(states), lengths=lengths)
    else:
        out = tg.RNN(cells[0], reverse=direction == "reverse")(x, states[0], lengths=lengths)

    name = kind.partition(",")[0]
    state_names = ["h", "c"] if name == "LSTM" else ["h"]
    node = helper.make_node(
        name,
        ["X", "W", "R", "B", "", *state_names],
        ["Y", *(f"last {s}" for s in state_names)],
        direction=direction,
        hidden_size=cells[0].hidden,
        **({"linear_before_reset": int(kind == "GRU")} if name == "GRU" else {}),
    )
    evaluator = reference.ReferenceEvaluator(node)
    weights = onnx_weights(kind, cells)
    starts = [np.stack(parts) for parts in zip(*map(leaves, states), strict=True)]
    ends = zip(*map(leaves, out.state if both else [out.state]), strict=True)
    ends = [np.stack([a.data for a in parts]) for parts in ends]
    for n, length in enumerate(lengths):
        row = {"X": x[:length, n : n + 1], **weights}
        row |= {s: start[:, n : n + 1] for s, start in zip(state_names, starts, strict=True)}
        outputs, *finals = evaluator.run(None, row)
        assert outputs.dtype == np.float64
        close(out.outputs.data[:length, n], outputs.reshape(length, -1))  # (T, directions, 1, H)
        for ours, theirs in zip(ends, finals, strict=True):
            close(ours[:, n], theirs[:, 0])
        close(out.last.data[n], finals[0].reshape(-1))


# ----- Keras ------------------------------------------------------------------------------------

KERAS_GATES = {"R": (0,), "L": (0, 1, 2, 3), "G": (1, 0, 2)}  # i f g o, as ours; z r n


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on PyTorch, the backend whose gradients can be asked for directly, in float64.

    Except on TensorFlow, Keras computes products of float64 in float32, to be like JAX, and has no
    option against it; the table that says so is emptied while these tests run.
    """
    torch = pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))  # it writes a file there
        module = pytest.importorskip("keras")
        if module.backend.backend() != "torch":
            pytest.skip("Keras was imported before, with another backend")
        table = "keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE"
        patch.setattr(table, {}, raising=False)
        one = torch.ones(1, 1, dtype=torch.float64)
        if module.ops.matmul(one, one).dtype != torch.float64:
            pytest.skip("this Keras computes in float32 whatever it is given")
        yield module


def keras_layer(keras, kind, hidden, **options):
    name = kind.partition(",")[0].replace("RNN", "SimpleRNN")
    if name == "GRU":
        options["reset_after"] = kind == "GRU"
    return getattr(keras.layers, name)(
        hidden, use_bias="no bias" not in kind, dtype="float64", return_state=True, **options
    )


def keras_layout(kind, cell, arrays):
    """A cell's arrays, in the order U, V, b (, b_n), as Keras keeps them."""
    order = KERAS_GATES[kind[0]]
    u, v, *biases = (permuted(a, order) for a in arrays[:3])
    if kind == "GRU":  # two biases, of which the second counts in the candidate alone
        second = np.zeros_like(biases[0])
        second[-cell.hidden :] = arrays[3]
        biases = [np.stack([biases[0], second])]
    return [u, v, *biases]


def assigned(kind, layer, cells):
    """Give a built Keras layer the cells' weights."""
    values = [a for c in cells for a in keras_layout(kind, c, [p.data for p in c.parameters()])]
    for variable, value in zip(layer.trainable_weights, values, strict=True):
        variable.assign(value)


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@a_few
@given(seed=seeds)
def test_equal_to_keras_under_any_mask_with_all_gradients(keras, kind, reverse, masked, seed):
    import torch

    rng = np.random.default_rng(seed)
    (cell,), x, (start,) = drawn(kind, 1, rng)
    mask = rng.random(x.shape[:2]) < 0.6 if masked else None  # gaps, left padding, empty rows
    x = tg.Tensor(x, requires_grad=True)
    start = map_tree(lambda s: tg.Tensor(s, requires_grad=True), start)
    out = tg.RNN(cell, reverse=reverse)(x, start, mask=mask)

    options = {"go_backwards": reverse, "zero_output_for_mask": masked}
    layer = keras_layer(keras, kind, cell.hidden, return_sequences=True, **options)
    their_x = torch.tensor(x.data.swapaxes(0, 1), requires_grad=True)  # (N, T, C)
    their_start = [torch.tensor(a.data, requires_grad=True) for a in leaves(start)]
    layer.build(their_x.shape)
    assigned(kind, layer, [cell])
    their_mask = None if mask is None else torch.tensor(mask.T)
    outputs, *ends = layer(their_x, mask=their_mask, initial_state=their_start)
    outputs = outputs.swapaxes(0, 1)
    if reverse:
        outputs = outputs.flip(0)
    close(out.outputs, outputs.detach().numpy())
    for ours, theirs in zip(leaves(out.state), ends, strict=True):
        close(ours, theirs.detach().numpy())

    ours = [out.outputs, *leaves(out.state)]
    weights = [rng.normal(size=a.shape) for a in ours]
    sum((a * w).sum() for a, w in zip(ours, weights, strict=True)).backward()
    theirs = zip([outputs, *ends], weights, strict=True)
    sum((a * torch.tensor(w)).sum() for a, w in theirs).backward()
    close(x.grad.swapaxes(0, 1), their_x.grad.numpy())
    for mine, end in zip(leaves(start), their_start, strict=True):
        close(mine.grad, end.grad.numpy())
    grads = keras_layout(kind, cell, [p.grad for p in cell.parameters()])
    for mine, variable in zip(grads, layer.trainable_weights, strict=True):
        if kind == "GRU" and variable.name == "bias":  # (2, 3H): biases that Keras has twice
            mine[1, : -cell.hidden] = mine[0, : -cell.hidden]
        close(mine, variable.value.grad.numpy())


@each_cell
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@a_few
@given(seed=seeds)
def test_last_is_what_keras_returns_without_sequences(keras, kind, seed):
    import torch

    rng = np.random.default_rng(seed)
    (cell,), x, (start,) = drawn(kind, 1, rng)
    mask = rng.random(x.shape[:2]) < 0.6
    layer = keras_layer(keras, kind, cell.hidden)
    theirs = torch.tensor(x.swapaxes(0, 1))
    layer.build(theirs.shape)
    assigned(kind, layer, [cell])
    start = [torch.tensor(a) for a in leaves(start)]
    last, *_ = layer(theirs, mask=torch.tensor(mask.T), initial_state=start)
    start = start[0].numpy() if len(start) == 1 else tuple(a.numpy() for a in start)
    close(tg.RNN(cell)(x, start, mask=mask).last, last.detach().numpy())


@each_cell
@pytest.mark.parametrize(
    ("merge", "theirs"), [("concat", "concat"), ("sum", "sum"), ("mean", "ave"), ("mul", "mul")]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@a_few
@given(seed=seeds)
def test_both_directions_and_their_merges_equal_keras(keras, kind, merge, theirs, seed):
    import torch

    rng = np.random.default_rng(seed)
    cells, x, _ = drawn(kind, 2, rng)
    mask = rng.random(x.shape[:2]) < 0.6
    options = {"return_sequences": True, "zero_output_for_mask": True}
    layer = keras.layers.Bidirectional(
        keras_layer(keras, kind, cells[0].hidden, **options), merge_mode=theirs, dtype="float64"
    )
    their_x = torch.tensor(x.swapaxes(0, 1))
    layer.build(their_x.shape)
    assigned(kind, layer, cells)
    outputs, *ends = layer(their_x, mask=torch.tensor(mask.T))
    out = tg.BiRNN(*cells, merge=merge)(x, mask=mask)
    close(out.outputs, outputs.detach().numpy().swapaxes(0, 1))
    ours = [a for state in out.state for a in leaves(state)]
    for mine, end in zip(ours, ends, strict=True):
        close(mine, end.detach().numpy())
