"""Modules, Linear, and how parameters are drawn."""

import operator
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.errors import DtypeError, InplaceError, NonFiniteError, RngError, ShapeError

SEEDS = st.integers(0, 2**32 - 1)


class Bag(tg.Module):
    """A module of whatever it is given; it does not call super().__init__()."""

    def __init__(self, **items):
        vars(self).update(items)


def nested(make, keyed):
    """From {key: (value, paths)} to a container of the values and the paths through it."""
    paths = {(key, *path): p for key, (_, inner) in keyed.items() for path, p in inner.items()}
    return make({key: value for key, (value, _) in keyed.items()}), paths


def numbered(parts):
    return {str(k): part for k, part in enumerate(parts)}


def containers(parts):
    keyed = st.dictionaries(st.sampled_from("abc"), parts, max_size=3)
    several = st.lists(parts, max_size=3).map(numbered)
    return st.one_of(
        keyed.map(lambda d: nested(lambda items: Bag(**items), d)),
        keyed.map(lambda d: nested(dict, d)),
        several.map(lambda d: nested(lambda items: list(items.values()), d)),
        several.map(lambda d: nested(lambda items: tuple(items.values()), d)),
    )


def leaf(size):
    p = tg.Parameter(np.zeros(size))
    return p, {(): p}


OTHERS = st.sampled_from([None, "W", 3, np.ones(2), tg.Tensor([1.0], requires_grad=True), np.tanh])
LEAVES = st.integers(0, 3).map(leaf) | OTHERS.map(lambda value: (value, {}))
TREES = st.recursive(LEAVES, containers, max_leaves=8)


class Net(tg.Module):
    def __init__(self, rng, dtype=np.float64):
        rng = tg.init.generator(rng)
        sizes = [(2, 3), (3, 1)]
        self.layers = [tg.Linear(*s, activation="tanh", rng=rng, dtype=dtype) for s in sizes]
        self.scale = tg.Parameter(np.ones(()), dtype)

    def __call__(self, x):
        return self.scale * self.layers[1](self.layers[0](x))


NAMES = ["layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b", "scale"]


def values(module):
    return {name: p.data.tolist() for name, p in module.named_parameters().items()}


# ----- finding parameters


@given(TREES)
def test_every_parameter_is_found_under_its_dotted_name(tree):
    value, paths = tree
    found = Bag(x=value).named_parameters()
    expected = {".".join(("x", *path)): p for path, p in paths.items()}
    assert list(found) == list(expected)
    assert all(found[name] is p for name, p in expected.items())


def test_names_and_parameters_come_in_the_same_order():
    net = Net(0)
    assert list(net.named_parameters()) == NAMES
    for p, named in zip(net.parameters(), net.named_parameters().values(), strict=True):
        assert p is named


def test_a_shared_parameter_is_found_once_under_its_first_name():
    p, q = tg.Parameter(np.zeros(1)), tg.Parameter(np.zeros(1))
    inner = Bag(W=p)
    module = Bag(first=inner, again=[inner, {"W": p}], other=q)
    assert {name: id(x) for name, x in module.named_parameters().items()} == {
        "first.W": id(p),
        "other": id(q),
    }


def test_a_module_may_refer_to_itself_and_to_its_parent():
    root, child = Bag(W=tg.Parameter(np.zeros(1))), Bag(b=tg.Parameter(np.zeros(2)))
    root.me, root.child = root, child
    child.parents, child.me = [root, {"root": root}], (child,)
    assert list(root.named_parameters()) == ["W", "child.b"]
    assert list(child.named_parameters()) == ["b", "parents.0.W"]


@given(TREES)
def test_zero_grad_reaches_every_parameter(tree):
    value, paths = tree
    module, ps = Bag(x=value), list(paths.values())
    for p in ps:
        p.grad = np.ones(p.shape)
    module.zero_grad()
    assert [p.grad for p in ps] == [None] * len(ps)


def test_a_parameter_of_integers_raises():
    with pytest.raises(DtypeError, match="only floats have gradients"):
        tg.Parameter(np.zeros(2, int))
    assert tg.Parameter(np.zeros(2, int), np.float32).dtype == np.float32


def test_repr_shows_names_shapes_and_the_number_of_numbers():
    assert repr(tg.Linear(2, 3, rng=0)) == "Linear(W (2, 3)  b (3,); 9 numbers)"
    assert repr(Bag(a=[tg.Parameter(1.0)])) == "Bag(a.0 (); 1 numbers)"
    assert repr(Bag()) == "Bag(no parameters; 0 numbers)"


def test_repr_of_nested_modules_shows_what_each_part_is_and_counts_shared_ones_once():
    cell = tg.RNNCell(2, 3, rng=0)
    assert repr(Bag(layers=[tg.BiRNN(cell, cell), tg.Linear(6, 1, bias=False, rng=0)])) == (
        "Bag(\n"
        "  layers.0.forward_rnn.cell: RNNCell(U (2, 3)  V (3, 3)  b (3,))\n"
        "  layers.1: Linear(W (6, 1))\n"
        "  24 numbers)"
    )


# ----- saving and loading


@given(one=SEEDS, other=SEEDS)
def test_loading_restores_what_was_saved(one, other):
    net, target = Net(one), Net(other)
    target.load_state_dict(net.state_dict())
    assert values(target) == values(net)
    x = np.random.default_rng(one).standard_normal((4, 2))
    assert target(x).data.tolist() == net(x).data.tolist()


def test_a_state_dict_holds_copies():
    net = Net(0)
    before, state = values(net), net.state_dict()
    for array in state.values():
        array += 1
    assert values(net) == before
    net.load_state_dict(state)
    loaded = values(net)
    assert loaded != before
    for array in state.values():
        array += 1
    assert values(net) == loaded


def test_loading_converts_to_the_own_dtype_and_freezes():
    net = Net(0, np.float32)
    net.load_state_dict(Net(1).state_dict())
    for name, p in net.named_parameters().items():
        assert p.dtype == np.float32
        assert p.data.flags.writeable is False
        np.testing.assert_allclose(p.data, Net(1).state_dict()[name], rtol=1e-6)


@given(
    missing=st.sets(st.sampled_from(NAMES)),
    unknown=st.sets(st.sampled_from(["U", "layers.2.W", "W"])),
    misshapen=st.sets(st.sampled_from(NAMES)),
)
def test_every_difference_is_listed_and_nothing_changes(missing, unknown, misshapen):
    net, state = Net(0), Net(1).state_dict()
    before = values(net)
    misshapen -= missing
    differences = [f"{name}: missing" for name in missing]
    differences += [f"{name}: unknown" for name in unknown]
    for name in misshapen:
        shape = state[name].shape
        state[name] = state[name][None]
        differences.append(f"{name}: shape {state[name].shape}, expected {shape}")
    for name in missing:
        del state[name]
    state |= dict.fromkeys(unknown, np.zeros(1))
    assume(differences)
    with pytest.raises(ShapeError, match="load_state_dict changed nothing: ") as caught:
        net.load_state_dict(state)
    listed = str(caught.value).removeprefix("load_state_dict changed nothing: ").split("; ")
    assert sorted(listed) == sorted(differences)
    assert values(net) == before


# ----- Linear


@given(
    seed=SEEDS,
    lead=st.lists(st.integers(0, 3), max_size=3),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    bias=st.booleans(),
)
def test_linear_equals_the_sums_over_any_leading_axes(seed, lead, inputs, outputs, bias):
    rng = np.random.default_rng(seed)
    layer = tg.Linear(inputs, outputs, bias=bias, rng=rng)
    if bias:
        layer.b.data = rng.standard_normal(outputs)
    x = rng.standard_normal((*lead, inputs))
    expected = np.zeros((*lead, outputs))
    for *n, j in np.ndindex(expected.shape):
        expected[(*n, j)] = sum(x[(*n, i)] * layer.W.data[i, j] for i in range(inputs))
        expected[(*n, j)] += layer.b.data[j] if bias else 0
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12, atol=1e-14)
    assert (layer.b is not None) == bias
    assert list(layer.named_parameters()) == (["W", "b"] if bias else ["W"])


@pytest.mark.parametrize(
    ("activation", "phi"),
    [
        (None, lambda z: z),
        ("identity", lambda z: z),
        ("tanh", np.tanh),
        ("relu", lambda z: np.where(z > 0, z, 0)),
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        (np.sin, np.sin),
        (lambda z: z * z, np.square),
    ],
)
def test_the_activation_comes_by_name_or_as_a_callable(activation, phi):
    x = np.random.default_rng(0).standard_normal((5, 2))
    layer = tg.Linear(2, 3, activation, rng=1)
    z = tg.Linear(2, 3, rng=1)(x).data
    np.testing.assert_allclose(layer(x).data, phi(z), rtol=1e-12)


def test_an_unknown_activation_raises_and_lists_the_names():
    text = "activation='tanx': expected tanh, relu, sigmoid, identity or a callable"
    with pytest.raises(ShapeError, match=text):
        tg.Linear(2, 3, "tanx", rng=0)


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (2, 4)])
def test_x_of_another_width_raises(shape):
    text = re.escape(f"Linear: x has shape {shape}, W expects (..., 2)")
    with pytest.raises(ShapeError, match=text):
        tg.Linear(2, 3, rng=0)(np.ones(shape))


@pytest.mark.parametrize("activation", [None, "tanh", "sigmoid"])
def test_the_gradients_of_linear_are_right(activation):
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    report = testing.check_grads(tg.Linear(3, 2, activation, rng=1), x)
    assert {f.argument for f in report.findings} == {"x", "W", "b"}


def test_linear_keeps_float32():
    layer = tg.Linear(2, 3, "tanh", rng=0, dtype=np.float32)
    assert layer(np.ones((4, 2), np.float32)).dtype == np.float32


def test_linear_starts_with_a_glorot_matrix_and_no_bias():
    layer = tg.Linear(2, 3, rng=7)
    assert layer.W.data.tolist() == tg.init.glorot(7, (2, 3)).tolist()
    assert layer.b.data.tolist() == [0, 0, 0]


# ----- Embedding


@given(seed=SEEDS, shape=st.lists(st.integers(0, 3), max_size=3), size=st.integers(1, 3))
def test_an_embedding_is_one_hot_vectors_times_its_matrix(seed, shape, size):
    rng = np.random.default_rng(seed)
    embedding, codes = tg.Embedding(5, size, rng=rng), rng.integers(0, 5, shape)
    weights = rng.normal(size=(*shape, size))
    y = embedding(codes)
    assert y.shape == (*shape, size)
    (y * weights).sum().backward()
    W = tg.Parameter(embedding.W.data)
    product = np.eye(5)[codes] @ W
    (product * weights).sum().backward()
    assert y.tolist() == product.tolist()
    np.testing.assert_allclose(embedding.W.grad, W.grad, rtol=1e-13, atol=1e-15)


def test_uses_of_a_row_add_up_and_unused_rows_get_zero():
    embedding = tg.Embedding(4, 2, rng=0)
    embedding(np.array([[1, 1], [3, 1]])).sum().backward()
    assert embedding.W.grad.tolist() == [[0, 0], [3, 3], [0, 0], [1, 1]]


def test_the_gradients_of_an_embedding_are_right():
    embedding, codes = tg.Embedding(4, 2, rng=0), np.array([[0, 2, 2], [3, 0, 2]])
    report = testing.check_grads(lambda m: np.tanh(m(codes)), embedding)
    assert report.findings


def test_an_embedding_takes_lists_tensors_and_every_integer_dtype():
    embedding, codes = tg.Embedding(4, 2, rng=0, dtype=np.float32), np.array([[0, 2], [3, 0]])
    expected = embedding.W.data[codes]
    for form in (np.asarray, np.ndarray.tolist, tg.Tensor, lambda c: c.astype(np.uint8)):
        y = embedding(form(codes))
        assert y.dtype == np.float32
        assert y.tolist() == expected.tolist()
    assert embedding(3).tolist() == embedding.W.data[3].tolist()
    with testing.plain(embedding):
        assert type(embedding(codes)) is np.ndarray
        assert embedding(codes).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("indices", "error", "text"),
    [
        ([[0, 1], [4, 0]], ShapeError, "Embedding: indices[1, 0]=4 is not in 0..3, the row num"),
        ([0, -1], ShapeError, "Embedding: indices[1]=-1 is not in 0..3"),
        (4, ShapeError, "Embedding: indices=4 is not in 0..3"),
        ([0.0, 1.0], DtypeError, "indices must be integer row numbers, not float64"),
        ([True, False], DtypeError, "not bool"),
    ],
)
def test_indices_that_are_no_rows_raise(indices, error, text):
    with pytest.raises(error, match=re.escape(text)):
        tg.Embedding(4, 2, rng=0)(indices)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_embedding_is_pytorchs(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    embedding = tg.Embedding(6, 3, rng=rng, dtype=dtype)
    theirs = torch.nn.Embedding(6, 3, _weight=torch.tensor(embedding.W.numpy()))
    codes, weights = rng.integers(0, 6, (4, 5)), rng.normal(size=(4, 5, 3)).astype(dtype)
    y, z = embedding(codes), theirs(torch.tensor(codes))
    assert y.tolist() == z.tolist()
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(
        embedding.W.grad, theirs.weight.grad.numpy(), rtol=1e-5 if dtype == "float32" else 1e-13
    )


def test_an_embedding_starts_with_rows_of_variance_1():
    W = tg.Embedding(300, 40, rng=7).W.data
    assert abs(W.std() - 1) < 0.05
    assert abs(W.mean()) < 0.05
    assert W.tolist() == tg.init.normal(7, (300, 40)).tolist()


# ----- astype, train, eval


def test_astype_converts_the_same_parameters_and_forgets_gradients():
    net = Net(0)
    ps, before = net.parameters(), values(net)
    net(np.ones((4, 2))).sum().backward()
    assert net.astype(np.float32) is net
    assert all(p is q for p, q in zip(ps, net.parameters(), strict=True))
    for name, p in net.named_parameters().items():
        assert p.dtype == p.data.dtype == np.float32
        assert p.grad is None
        assert p.data.flags.writeable is False
        assert p.tolist() == np.array(before[name]).astype(np.float32).tolist()
    y = net(np.ones((4, 2), np.float32))
    y.sum().backward()
    assert y.dtype == np.float32
    assert {p.grad.dtype for p in ps} == {np.dtype(np.float32)}
    assert {p.dtype for p in net.astype(np.float64).parameters()} == {np.dtype(np.float64)}


def test_after_astype_the_gradients_are_right():
    net = Net(0, np.float32).astype(np.float64)
    testing.check_grads(net, np.random.default_rng(0).normal(size=(3, 2)))


def test_a_dtype_changes_in_no_other_way():
    net = Net(0)
    with pytest.raises(DtypeError, match="must stay"):
        net.scale.data = np.ones((), np.float32)
    net.astype("float32")
    with pytest.raises(DtypeError, match="must stay"):
        net.scale.data = np.ones((), np.float64)


def test_a_shared_parameter_stays_shared_through_astype():
    cell = tg.RNNCell(2, 3, rng=0)
    birnn = tg.BiRNN(cell, cell).astype(np.float32)
    assert len(birnn.parameters()) == 3
    assert birnn.forward_rnn.cell.V is birnn.backward_rnn.cell.V
    assert birnn(np.ones((4, 1, 2), np.float32)).outputs.dtype == np.float32


def test_a_graph_recorded_before_astype_still_brings_its_gradient():
    p = tg.Parameter(np.array([1.0, 2.0]))
    y = (p * p).sum()
    Bag(p=p).astype(np.float32)
    y.backward()
    assert p.grad.dtype == np.float32
    assert p.grad.tolist() == [2, 4]


@pytest.mark.parametrize("dtype", [int, bool, complex])
def test_astype_to_what_is_no_float_raises_and_changes_nothing(dtype):
    net = Net(0)
    before = values(net)
    with pytest.raises(DtypeError):
        net.astype(dtype)
    assert values(net) == before
    assert net.scale.dtype == np.float64


@given(TREES)
def test_train_and_eval_reach_every_module_below(tree):
    module = Bag(x=tree[0])

    def below(value):
        if isinstance(value, Bag):
            yield value
            value = vars(value)
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(inner, tuple | list) or isinstance(value, dict):
            for item in inner:
                yield from below(item)

    assert all(m.training is True for m in below(module))  # without super().__init__()
    assert module.eval() is module
    assert all(m.training is False for m in below(module))
    assert module.train() is module
    assert all(m.training is True for m in below(module))


def test_training_changes_no_name_and_no_other_module():
    net, other = Net(0), Net(0)
    net.eval()
    assert list(net.named_parameters()) == NAMES
    assert other.training
    assert tg.Module.training is True


def test_dropout_in_a_module_asks_whether_it_is_training():
    class Noisy(tg.Module):
        def __init__(self, rng):
            self.rng, self.readout = rng, tg.Linear(4, 2, rng=rng)

        def __call__(self, h):
            return self.readout(tg.dropout(h, 0.5, self.rng) if self.training else h)

    model, h = Noisy(np.random.default_rng(0)), np.ones((3, 4))
    assert (model(h).data != model(h).data).any()
    model.eval()
    assert (model(h).data == model(h).data).all()
    testing.check_grads(model, h)


# ----- changing a weight

IN_PLACE = [
    getattr(operator, f"i{name}")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
]


@pytest.mark.parametrize("change", IN_PLACE)
def test_a_parameter_is_not_changed_in_place_but_by_its_data(change):
    linear = tg.Linear(2, 2, rng=0)
    before = values(linear)
    for p in linear.parameters():
        with tg.no_grad(), pytest.raises(InplaceError, match=r"p\.data = p\.data - lr \* p\.grad"):
            change(p, np.ones((2, 2)))
    assert values(linear) == before


def test_a_plain_tensor_in_place_is_a_new_tensor_under_the_same_name():
    h = first = tg.Tensor([1.0, 2.0])
    h *= 2
    assert (h.data.tolist(), first.data.tolist()) == ([2.0, 4.0], [1.0, 2.0])


def minus(p):
    return p - 0.1


@pytest.mark.parametrize("value", [np.ones((2, 1)), minus, lambda p: p.data, lambda p: [p], 0.0])
def test_in_the_place_of_a_parameter_stands_no_array(value):
    linear = tg.Linear(2, 1, rng=0)
    with tg.no_grad(), pytest.raises(InplaceError, match=r"Linear\.W is a Param.*W\.data = array"):
        linear.W = value(linear.W) if callable(value) else value
    with pytest.raises(InplaceError, match="not changed in place"):
        linear.W -= 0.1
    assert list(linear.named_parameters()) == ["W", "b"]


def test_in_the_place_of_a_parameter_stands_another_or_none():
    one, other = tg.Linear(2, 2, rng=0), tg.Linear(2, 2, rng=1)
    one.W, one.b = other.W, None
    assert one.parameters() == [other.W]
    one.b = np.ones(2)  # where none is, anything may stand
    del one.W
    one.W = tg.Tensor(np.ones((2, 2)))
    assert one.parameters() == []


# ----- init


@pytest.mark.parametrize("rng", [None, True, 0.5, "0", np.random])
@pytest.mark.parametrize(
    "draw",
    [
        tg.init.generator,
        lambda rng: tg.init.uniform(rng, (2,), 1.0),
        lambda rng: tg.init.glorot(rng, (2, 3)),
        lambda rng: tg.init.orthogonal(rng, 2),
        lambda rng: tg.Linear(2, 3, rng=rng),
        lambda rng: tg.Embedding(2, 3, rng=rng),
        lambda rng: tg.init.normal(rng, (2,)),
        lambda rng: tg.RNNCell(2, 3, rng=rng),
    ],
)
def test_nothing_is_random_without_a_seed(rng, draw):
    with pytest.raises(RngError, match="Pass an int seed"):
        draw(rng)


@pytest.mark.parametrize("make", [tg.RNNCell, tg.LSTMCell, tg.GRUCell, tg.Linear])
@pytest.mark.parametrize("third", [0, np.random.default_rng(0)])
def test_a_seed_given_by_position_is_told_to_come_by_name(make, third):
    with pytest.raises(RngError, match=r"rng=None.*rng=0.*rng=generator\), by name"):
        make(3, 4, third)


@given(seed=SEEDS)
def test_a_seed_and_its_generator_draw_the_same(seed):
    numbers = np.random.default_rng(seed).random(3).tolist()
    for rng in (seed, np.int64(seed), np.random.default_rng(seed)):
        assert tg.init.generator(rng).random(3).tolist() == numbers


def test_a_generator_is_used_and_moves_on():
    rng = np.random.default_rng(0)
    assert tg.init.generator(rng) is rng
    assert (tg.init.uniform(rng, (3,), 1.0) != tg.init.uniform(rng, (3,), 1.0)).all()


@given(seed=SEEDS, limit=st.floats(0.01, 10))
def test_uniform_fills_its_bounds(seed, limit):
    draws = tg.init.uniform(seed, (50, 40), limit)
    assert draws.shape == (50, 40)
    assert np.abs(draws).max() <= limit
    assert draws.max() > 0.9 * limit
    assert draws.min() < -0.9 * limit


@given(seed=SEEDS, scale=st.floats(0.01, 10))
def test_normal_has_its_standard_deviation(seed, scale):
    draws = tg.init.normal(seed, (50, 40), scale)
    assert draws.shape == (50, 40)
    assert abs(draws.mean()) < 0.15 * scale
    assert 0.9 * scale < draws.std() < 1.1 * scale


@given(seed=SEEDS, inputs=st.integers(20, 60), outputs=st.integers(20, 60))
def test_glorot_is_uniform_up_to_its_limit(seed, inputs, outputs):
    draws = tg.init.glorot(seed, (inputs, outputs))
    limit = (6 / (inputs + outputs)) ** 0.5
    assert draws.shape == (inputs, outputs)
    assert 0.9 * limit < draws.max() <= limit
    assert -limit <= draws.min() < -0.9 * limit


@given(seed=SEEDS, size=st.integers(1, 5), gates=st.integers(1, 4))
def test_each_gate_is_an_orthogonal_matrix_of_its_own(seed, size, gates):
    V = tg.init.orthogonal(seed, size, gates)
    assert V.shape == (size, gates * size)
    blocks = np.split(V, gates, axis=1)
    for Q in blocks:
        np.testing.assert_allclose(Q @ Q.T, np.eye(size), atol=1e-12)
    if size > 1:
        assert len({Q.tobytes() for Q in blocks}) == gates


def test_sizes_that_init_does_not_take_are_named():
    with pytest.raises(tg.errors.ShapeError, match=r"one int.*got \(4, 4\)"):
        tg.init.orthogonal(0, (4, 4))
    with pytest.raises(tg.errors.ShapeError, match=r"a pair \(inputs, outputs\); got 4"):
        tg.init.glorot(0, 4)


def test_orthogonal_matrices_of_both_orientations_are_drawn():
    """Without the sign correction the first element would never be positive."""
    first = [tg.init.orthogonal(seed, 3)[0, 0] for seed in range(40)]
    assert min(first) < 0 < max(first)


@pytest.mark.parametrize(
    "draw",
    [
        lambda dtype: tg.init.uniform(0, (2,), 1.0, dtype),
        lambda dtype: tg.init.normal(0, (2,), 1.0, dtype),
        lambda dtype: tg.init.glorot(0, (2, 3), dtype=dtype),
        lambda dtype: tg.init.orthogonal(0, 2, 2, dtype),
    ],
)
def test_numbers_are_drawn_in_float64_or_the_dtype_asked_for(draw):
    single = draw(np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, draw(np.float64), rtol=1e-6)


def test_names_that_collide_are_refused():
    module = tg.Module()
    module.parts = {"a.b": tg.Parameter(np.ones(1)), "a": {"b": tg.Parameter(np.ones(1))}}
    with pytest.raises(ShapeError, match=r"parts\.a\.b"):
        module.parameters()


def test_containers_and_modules_that_hold_each_other_end():
    modules = [tg.Module() for _ in range(30)]
    for module in modules:
        module.others = [modules, module]
        module.others.append(module.others)
    modules[-1].p = tg.Parameter(np.ones(1))
    assert list(modules[0].named_parameters().values()) == [modules[-1].p]


def test_load_state_dict_changes_nothing_when_one_array_is_unusable():
    linear = tg.Linear(1, 1, rng=0)
    before = linear.state_dict()
    for bad in (np.array(["x"]), tg.Parameter(np.ones(1))):
        with pytest.raises((ValueError, TypeError)):
            linear.load_state_dict({"W": np.full((1, 1), 7.0), "b": bad})
    assert linear.W.data == before["W"]


def test_a_number_too_large_for_the_parameters_dtype_is_refused():
    linear = tg.Linear(1, 1, rng=0, dtype=np.float32)
    before = linear.state_dict()
    with pytest.raises(NonFiniteError, match="W has numbers that are too large for float32"):
        linear.load_state_dict({"W": [[1e39]], "b": [1.0]})
    np.testing.assert_array_equal(linear.b.data, before["b"])
    linear.load_state_dict({"W": [[np.inf]], "b": [np.nan]})  # what is not finite already may be so


@pytest.mark.parametrize("given", ["weights.npz", tg.Linear(1, 1, rng=0), [np.ones((1, 1))]])
def test_what_is_no_dict_of_arrays_is_told_where_to_go(given):
    linear = tg.Linear(1, 1, rng=0)
    for module in (linear, tg.Adam(linear.parameters())):
        with pytest.raises(
            ShapeError, match=r"a dict of arrays by name; got .*tg\.load\(path, mod"
        ):
            module.load_state_dict(given)
