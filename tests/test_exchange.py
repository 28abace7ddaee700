"""Weights to and from PyTorch; where it is installed, its layers judge values and all gradients."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.errors import CellError, NonFiniteError, ShapeError
from tinygrad_rnn.nests import leaves, map_tree

KINDS = {
    "RNN tanh": tg.RNNCell,
    "RNN tanh, no bias": lambda *sizes, **more: tg.RNNCell(*sizes, bias=False, **more),
    "RNN relu": lambda *sizes, **more: tg.RNNCell(*sizes, "relu", **more),
    "RNN relu, no bias": lambda *sizes, **more: tg.RNNCell(*sizes, "relu", bias=False, **more),
    "LSTM": tg.LSTMCell,
    "GRU": tg.GRUCell,
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_form = pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
each_depth = pytest.mark.parametrize("depth", [1, 2])
seeds = st.integers(0, 2**32 - 1)


def drawn(kind, both, depth, rng, inputs=3, hidden=2, dtype=np.float64):
    """A stack in which no parameter has its starting value."""
    layers = []
    for k in range(depth):
        width = hidden * (1 + both) if k else inputs
        cells = [KINDS[kind](width, hidden, rng=rng, dtype=dtype) for _ in range(1 + both)]
        layers.append(tg.BiRNN(*cells) if both else tg.RNN(*cells))
    stack = tg.Chain(*layers)
    for p in stack.parameters():
        p.data = rng.normal(size=p.shape, scale=0.5).astype(dtype)
    return stack


def other_biases(arrays, rng):
    """As PyTorch draws them: both biases are anything."""
    return {n: rng.normal(size=a.shape) if "bias" in n else a for n, a in arrays.items()}


# ----- without PyTorch ----------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_pytorch():
    arrays = tg.to_torch(drawn("GRU", True, 2, np.random.default_rng(0), inputs=5))
    assert {name: a.shape for name, a in arrays.items()} == {
        f"{name}_l{layer}{suffix}": shape if name != "weight_ih" or not layer else (6, 4)
        for layer in (0, 1)
        for suffix in ("", "_reverse")
        for name, shape in (
            ("weight_ih", (6, 5)), ("weight_hh", (6, 2)), ("bias_ih", (6,)), ("bias_hh", (6,))
        )
    }  # fmt: skip
    no_bias = tg.to_torch(drawn("RNN relu, no bias", False, 1, np.random.default_rng(0)))
    assert list(no_bias) == ["weight_ih_l0", "weight_hh_l0"]


@each_kind
@each_form
@each_depth
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_there_and_back_changes_nothing(kind, both, depth, dtype):
    rng = np.random.default_rng(1)
    one, other = (drawn(kind, both, depth, rng, dtype=dtype) for _ in "12")
    arrays = tg.to_torch(one)
    assert {a.dtype for a in arrays.values()} == {np.dtype(dtype)}
    tg.from_torch(other, arrays)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert p.dtype == q.dtype
        np.testing.assert_array_equal(p.data, q.data)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@each_kind
def test_from_torch_computes_the_formulas_of_pytorchs_documentation(kind):
    rng = np.random.default_rng(2)
    stack = drawn(kind, False, 1, rng)
    cell = stack.layers[0].cell
    arrays = other_biases(tg.to_torch(stack), rng)
    tg.from_torch(stack, arrays)
    x, state = (
        rng.normal(size=3),
        map_tree(lambda s: rng.normal(size=s.shape), cell.initial_state()),
    )
    h = leaves(state)[0]
    from_x = arrays["weight_ih_l0"] @ x + arrays.get("bias_ih_l0", 0)
    from_h = arrays["weight_hh_l0"] @ h + arrays.get("bias_hh_l0", 0)
    if kind == "LSTM":
        i, f, g, o = np.split(from_x + from_h, 4)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        expected = sigmoid(o) * np.tanh(c)
    elif kind == "GRU":
        (xr, xz, xn), (hr, hz, hn) = np.split(from_x, 3), np.split(from_h, 3)
        z = sigmoid(xz + hz)
        expected = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h
    else:
        expected = (tg.relu if "relu" in kind else np.tanh)(from_x + from_h)
    np.testing.assert_allclose(cell(x, state)[0].data, expected, rtol=0, atol=1e-14)


def test_arrays_are_copies_in_both_directions():
    layer = drawn("LSTM", False, 1, np.random.default_rng(3))
    arrays = tg.to_torch(layer)
    before = layer.state_dict()
    tg.from_torch(layer, arrays)
    for a in arrays.values():
        a += 1
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_biases_are_summed_in_the_wider_dtype_and_parameters_keep_theirs():
    rng = np.random.default_rng(4)
    for theirs, own in ((np.float32, np.float64), (np.float64, np.float32)):
        layer = drawn("RNN tanh", False, 1, rng, dtype=own)
        arrays = other_biases(tg.to_torch(layer), rng)
        arrays = {name: a.astype(theirs) for name, a in arrays.items()}
        tg.from_torch(layer, arrays)
        exact = arrays["bias_ih_l0"].astype(float) + arrays["bias_hh_l0"]
        np.testing.assert_array_equal(layer.layers[0].cell.b.data, exact.astype(own))
        assert {p.dtype for p in layer.parameters()} == {np.dtype(own)}


@pytest.mark.parametrize("prefix", ["rnn.", "encoder.rnn."])
def test_a_prefix_of_all_names_is_dropped(prefix):
    layer = drawn("GRU", True, 1, np.random.default_rng(5))
    arrays = tg.to_torch(layer)
    tg.from_torch(layer, {f"{prefix}{name}": 2 * a for name, a in arrays.items()})
    np.testing.assert_array_equal(tg.to_torch(layer)["weight_ih_l0"], 2 * arrays["weight_ih_l0"])


def test_a_stack_in_a_stack_is_one_stack():
    stack = drawn("RNN tanh", False, 2, np.random.default_rng(8))
    nested = tg.Chain(stack.layers[0], tg.Chain(stack.layers[1]))
    arrays, expected = tg.to_torch(nested), tg.to_torch(stack)
    assert list(arrays) == list(expected)
    for name, a in arrays.items():
        np.testing.assert_array_equal(a, expected[name])


def test_every_difference_is_listed_and_nothing_changes():
    layer = drawn("LSTM", True, 1, np.random.default_rng(6))
    arrays = tg.to_torch(layer)
    before = layer.state_dict()
    arrays = {name: a + 1 for name, a in arrays.items()}
    arrays["weight_hr_l0"] = arrays.pop("bias_hh_l0")
    arrays["weight_ih_l0_reverse"] = arrays["weight_ih_l0_reverse"].T
    expected = (
        "from_torch changed nothing: bias_hh_l0: missing; weight_hr_l0: unknown; "
        "weight_ih_l0_reverse: shape (3, 8), expected (8, 3)"
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(expected)}$"):
        tg.from_torch(layer, arrays)
    with pytest.raises(
        ShapeError, match=r"rnn\.weight_ih_l0: unknown; head\.bias: unknown\. .* begins with rnn\.$"
    ):
        tg.from_torch(layer, {"rnn.weight_ih_l0": np.ones(1), "head.bias": np.ones(1)})
    with pytest.raises(ShapeError, match="weight_ih_l0: missing; weight_hh_l0: missing"):
        tg.from_torch(layer, {})
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_cell_that_serves_both_directions_takes_only_equal_weights():
    cell = tg.RNNCell(3, 2, rng=0, dtype=np.float32)
    layer = tg.BiRNN(cell, cell)
    arrays = {name: a + np.float64(1e-3) for name, a in tg.to_torch(layer).items()}
    tg.from_torch(layer, arrays)
    before = layer.state_dict()
    np.testing.assert_array_equal(cell.U.data, arrays["weight_ih_l0"].T.astype(np.float32))
    arrays = {name: a + 1 for name, a in arrays.items()}
    arrays["weight_hh_l0_reverse"][0, 0] += 1
    with pytest.raises(ShapeError, match="l0_reverse: differs from another place"):
        tg.from_torch(layer, arrays)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


class Twice(tg.RNNCell):
    """A subclass may step otherwise."""

    def step(self, x, state):
        return 2 * super().step(x, state)


def with_more(layer):
    layer.start = tg.Parameter(np.zeros(2))
    return layer


def rnn(inputs=3, hidden=2, *more, **options):
    return tg.RNNCell(inputs, hidden, *more, rng=0, **options)


LACKING = {
    "cell": (lambda: tg.RNN(Twice(3, 2, rng=0)), "PyTorch has .* alone; it lacks Twice"),
    "activation": (lambda: tg.RNN(rnn(3, 2, "sigmoid")), "tanh and relu; this cell has sigmoid"),
    "reset before": (
        lambda: tg.RNN(tg.GRUCell(3, 2, reset_after=False, rng=0)),
        "PyTorch's GRU lacks reset_after=False",
    ),
    "reverse": (lambda: tg.RNN(rnn(), reverse=True), "no reverse=True for one direction alone"),
    "merge": (lambda: tg.BiRNN(rnn(), rnn(), merge="sum"), "'concat'; this BiRNN has 'sum'"),
    "pair": (lambda: tg.BiRNN(rnn(), rnn(), merge=None), "'concat'; this BiRNN has None"),
    "sizes": (
        lambda: tg.BiRNN(rnn(), rnn(3, 4)),
        r"l0 is RNNCell\(tanh\), 2 units, bias, .*; l0_reverse is RNNCell\(tanh\), 4 units",
    ),
    "kinds": (lambda: tg.BiRNN(rnn(), tg.LSTMCell(3, 2, rng=0)), "l0_reverse is LSTMCell, 2 units"),
    "activations": (lambda: tg.BiRNN(rnn(), rnn(3, 2, "relu")), r"reverse is RNNCell\(relu\)"),
    "biases": (lambda: tg.Chain(tg.RNN(rnn()), tg.RNN(rnn(2, bias=False))), "l1 is .* no bias"),
    "directions": (
        lambda: tg.Chain(tg.BiRNN(rnn(), rnn()), tg.RNN(rnn(4))),
        "l0 is .* both ways; .*l1 is .* one way",
    ),
    "Linear": (
        lambda: tg.Chain(tg.RNN(rnn()), tg.Linear(2, 1, rng=0)),
        "layer 1: PyTorch's RNN, LSTM and GRU have no place for a Linear, only for RNN",
    ),
    "a cell alone": (rnn, "layer 0: .* no place for a RNNCell"),
    "other Parameters": (lambda: with_more(tg.RNN(rnn())), "no place for the Parameters start"),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_pytorch_lacks_is_refused_by_name(name):
    make, text = LACKING[name]
    with pytest.raises(CellError, match=text):
        tg.to_torch(make())
    with pytest.raises(CellError, match=text):
        tg.from_torch(make(), {})


def test_linear_and_embedding_there_and_back():
    rng = np.random.default_rng(9)
    for layer, shapes in (
        (tg.Linear(3, 2, rng=rng), {"weight": (2, 3), "bias": (2,)}),
        (tg.Linear(3, 2, bias=False, rng=rng), {"weight": (2, 3)}),
        (tg.Embedding(5, 2, rng=rng), {"weight": (5, 2)}),
    ):
        arrays = tg.to_torch(layer)
        assert {name: a.shape for name, a in arrays.items()} == shapes
        before = layer.state_dict()
        tg.from_torch(layer, {f"head.{name}": 2 * a for name, a in arrays.items()})
        for name, a in layer.state_dict().items():
            np.testing.assert_array_equal(a, 2 * before[name])
        with pytest.raises(ShapeError, match="weight: missing"):
            tg.from_torch(layer, {})
    with pytest.raises(CellError, match="Linear has no activation, this one has tanh: apply it"):
        tg.to_torch(tg.Linear(3, 2, "tanh", rng=rng))


def test_a_weight_too_large_for_the_parameters_dtype_changes_nothing():
    layer = drawn("GRU", False, 1, np.random.default_rng(11), dtype=np.float32)
    before = layer.state_dict()
    arrays = {name: a.astype(np.float64) + 1 for name, a in tg.to_torch(layer).items()}
    arrays["bias_ih_l0"][0] = 1e300
    with pytest.raises(NonFiniteError, match="l0 has numbers that are too large for float32"):
        tg.from_torch(layer, arrays)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("given", ["weights.npz", tg.Linear(3, 2, rng=0)])
def test_a_layer_or_a_path_in_the_place_of_its_weights_is_told(given):
    with pytest.raises(
        ShapeError, match=r"from_torch takes a dict .* got .*module\.state_dict\(\)"
    ):
        tg.from_torch(tg.Linear(3, 2, rng=0), given)


def test_linear_and_embedding_compute_what_pytorchs_do():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(10)
    linear, embedding = tg.Linear(3, 2, rng=rng), tg.Embedding(5, 2, rng=rng)
    linear.b.data = rng.normal(size=2)
    pairs = (
        (linear, torch.nn.Linear(3, 2), rng.normal(size=(4, 3))),
        (embedding, torch.nn.Embedding(5, 2), np.array([4, 0, 3])),
    )
    for ours, theirs, x in pairs:
        theirs.double().load_state_dict(
            {name: torch.from_numpy(a) for name, a in tg.to_torch(ours).items()}
        )
        values = theirs(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(ours(x).data, values, rtol=1e-14, atol=1e-14)


# ----- PyTorch's layers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def twin_of(torch, kind, both, depth, stack):
    """PyTorch's layer of the same form, with weights of its own."""
    arrays = tg.to_torch(stack)
    four_h, inputs = arrays["weight_ih_l0"].shape
    hidden = arrays["weight_hh_l0"].shape[1]
    options = {"nonlinearity": "relu"} if "relu" in kind else {}
    twin = getattr(torch.nn, kind[:4].strip())(
        inputs, hidden, depth, bias="no bias" not in kind, bidirectional=both, **options
    )
    assert four_h == hidden * {"R": 1, "L": 4, "G": 3}[kind[0]]
    return twin.double()


def cells_states(states, both):
    """Our states, one for each cell, in PyTorch's order."""
    return [s for layer in states for s in (layer if both else (layer,))]


def stacked(torch, states, both):
    """Our states as PyTorch's: h (layers * directions, N, H), or the pair of h and c."""
    ours = [tuple(leaves(s)) for s in cells_states(states, both)]
    parts = [torch.tensor(np.stack([a.data for a in part])) for part in zip(*ours, strict=True)]
    return tuple(part.requires_grad_() for part in parts)


def run_twin(torch, twin, x, start, lengths):
    """Outputs, padded with 0, and the final h or (h, c) as a tuple."""
    start = start if len(start) == 2 else start[0]
    if lengths is None:
        outputs, end = twin(x, start)
    else:
        rnn_tools = torch.nn.utils.rnn
        packed = rnn_tools.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        outputs, end = twin(packed, start)
        outputs, _ = rnn_tools.pad_packed_sequence(outputs, total_length=len(x))
    return outputs, end if isinstance(end, tuple) else (end,)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


@each_kind
@each_form
@each_depth
@pytest.mark.parametrize("packed", [False, True], ids=["full", "packed"])
@settings(max_examples=settings().max_examples // 8)  # of each of 48 forms
@given(seed=seeds)
def test_values_states_and_all_gradients_equal_pytorchs(torch, kind, both, depth, packed, seed):
    rng = np.random.default_rng(seed)
    steps, size, inputs, hidden = (int(n) for n in rng.integers(1, (8, 5, 4, 5)))
    stack = drawn(kind, both, depth, rng, inputs, hidden)
    x = tg.Tensor(rng.normal(size=(steps, size, inputs)), requires_grad=True)
    lengths = rng.integers(1, steps + 1, size) if packed else None
    start = tuple(
        map_tree(
            lambda s: tg.Tensor(rng.normal(size=s.shape), requires_grad=True),
            layer.initial_state((size,)),
        )
        for layer in stack.layers
    )
    outputs, _, ends, _ = stack(x, start, lengths)

    twin = twin_of(torch, kind, both, depth, stack)
    twin.load_state_dict({name: torch.from_numpy(a) for name, a in tg.to_torch(stack).items()})
    their_x, their_start = torch.tensor(x.data, requires_grad=True), stacked(torch, start, both)
    their_outputs, their_ends = run_twin(torch, twin, their_x, their_start, lengths)
    close(outputs.data, their_outputs)
    for ours, theirs in zip(stacked(torch, ends, both), their_ends, strict=True):
        close(ours.detach().numpy(), theirs)

    weights = rng.normal(size=outputs.shape)
    end_weights = [rng.normal(size=tuple(e.shape)) for e in their_ends]
    loss = (outputs * weights).sum()
    for k, state in enumerate(cells_states(ends, both)):
        for part, w in zip(leaves(state), end_weights, strict=True):
            loss = loss + (part * w[k]).sum()
    loss.backward()
    their_loss = (their_outputs * torch.tensor(weights)).sum()
    for end, w in zip(their_ends, end_weights, strict=True):
        their_loss = their_loss + (end * torch.tensor(w)).sum()
    their_loss.backward()

    close(x.grad, their_x.grad)
    for k, state in enumerate(cells_states(start, both)):
        for part, theirs in zip(leaves(state), their_start, strict=True):
            close(part.grad, theirs.grad[k])
    for p in stack.parameters():
        p.data = p.grad
    grads = tg.to_torch(stack)  # a gradient has the layout of its weight
    for name, p in twin.named_parameters():
        ours = grads[name]
        if name.startswith("bias_hh"):  # both biases have the gradient of our one, but for b_n
            shared = 2 * hidden if kind == "GRU" else len(ours)
            ours[:shared] = grads[name.replace("_hh_", "_ih_")][:shared]
        close(ours, p.grad)


@each_kind
@each_form
@each_depth
def test_from_torch_computes_what_a_fresh_pytorch_layer_does(torch, kind, both, depth):
    rng = np.random.default_rng(7)
    stack = drawn(kind, both, depth, rng)
    twin = twin_of(torch, kind, both, depth, stack)
    tg.from_torch(stack, torch.nn.ModuleDict({"rnn": twin}).state_dict())
    x = rng.normal(size=(5, 3, 3))
    close(stack(x).outputs.data, twin(torch.tensor(x))[0])
