"""What a layer says when it is used wrongly: what it got, what it expected, and what to do."""

import pickle
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing

C, H = 2, 3
X = np.ones((5, 2, C))  # T = 5, N = 2


class UGRNNCell(tg.Cell):
    """A cell of a user's own, whose step can be replaced by a wrong one."""

    def __init__(self, step=None):
        self.U = tg.Parameter(tg.init.glorot(0, (C, H)))
        self.V = tg.Parameter(tg.init.orthogonal(0, H))
        self.state_shape, self.wrong = (H,), step

    def step(self, x, h):
        return self.wrong(x, h) if self.wrong else np.tanh(x @ self.U + h @ self.V)


def rnn():
    return tg.RNN(tg.RNNCell(C, H, rng=0))


def lstm():
    return tg.RNN(tg.LSTMCell(C, H, rng=0))


def stacked():
    return tg.RNN(tg.Stacked(tg.LSTMCell(C, H, rng=0), tg.LSTMCell(H, H, rng=1)))


def birnn():
    return tg.BiRNN(tg.RNNCell(C, H, rng=0), tg.RNNCell(C, H, rng=1))


def own(step=None):
    return tg.RNN(UGRNNCell(step))


def states(state):
    return state if isinstance(state, tuple) else (state,)


def raises(error, built_in, *parts):
    """The named error, which is also the built-in one, with these parts of its text, in order."""
    assert issubclass(error, built_in)
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))


# ----- x -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "name"), [(rnn, "RNN(RNNCell)"), (lstm, "RNN(LSTMCell)"), (birnn, "RNN(RNNCell)")]
)
def test_other_features(layer, name):
    with raises(
        errors.ShapeError, ValueError, f"{name}: x has 7 features", "(5, 2, 7)", "expects 2"
    ):
        layer()(np.ones((5, 2, 7)))


def test_other_features_for_a_cell_that_does_not_tell_its_width():
    parts = "matmul of shapes (2, 7), (2, 3)", "in RNN(UGRNNCell), forward, t=0"
    with raises(errors.ShapeError, ValueError, *parts):
        own()(np.ones((5, 2, 7)))


@pytest.mark.parametrize("shape", [(), (5,), (5, 2, C, 1)])
@pytest.mark.parametrize("layer", [rnn, lstm, birnn, own])
def test_other_ranks(layer, shape):
    parts = "expects x (T, N, C), time first, or (T, C) for one sequence", f"got shape {shape}"
    with raises(errors.ShapeError, ValueError, *parts):
        layer()(np.ones(shape))


# ----- the state ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "state"),
    [
        (rnn, np.ones((1, H))),
        (rnn, np.ones(H)),
        (lstm, (np.ones((1, H)), np.ones((1, H)))),
        (lstm, (np.ones((2, H)), np.ones((1, H)))),
        (birnn, (np.ones((2, H)), np.ones((1, H)))),
        (own, np.ones((1, H))),
    ],
)
def test_a_state_is_never_broadcast_over_the_batch(layer, state):
    shape = min(part.shape for part in states(state))
    parts = f"the initial state has shape {shape}, expected (2, 3)", "repeat it", "np.broadcast_to"
    with raises(errors.ShapeError, ValueError, "RNN(", *parts):
        layer()(X, state)


ONE = np.ones((2, H))


@pytest.mark.parametrize(
    ("layer", "state", "parts"),
    [
        (lstm, ONE, ("expected a tuple of 2", "got an array (2, 3)")),
        (lstm, [ONE, ONE], ("expected a tuple of 2", "got a list of 2")),
        (lstm, (ONE, ONE, ONE), ("expected a tuple of 2", "got a tuple of 3")),
        (lstm, {"h": ONE, "c": ONE}, ("expected a tuple of 2", "got a dict of c, h")),
        (rnn, (ONE, ONE), ("expected an array (2, 3)", "got a tuple of 2")),
        (own, {"h": ONE}, ("expected an array (2, 3)", "got a dict of h")),
        (birnn, ONE, ("BiRNN: the initial state: expected a pair (forward, backward)",)),
        (birnn, (ONE, ONE, ONE), ("BiRNN", "expected a pair", "got a tuple of 3")),
        (birnn, (ONE, (ONE, ONE)), ("expected an array (2, 3)", "got a tuple of 2")),
        (stacked, ((ONE, ONE), ONE), ("RNN(Stacked): in the initial", "tuple of 2, got an array")),
        (stacked, ((ONE, ONE), (ONE,) * 3), ("Stacked): in the initial", "got a tuple of 3")),
    ],
)
def test_a_state_of_another_structure(layer, state, parts):
    with raises(errors.CellError, TypeError, *parts):
        layer()(X, state)


@pytest.mark.parametrize("dtype", [np.float32, int])
def test_a_state_of_another_dtype_says_how_to_convert_it(dtype):
    name = np.dtype(dtype).name
    parts = f"initial state is {name}, and the layer computes in float64", "astype(np.float64)"
    with raises(errors.ShapeError, ValueError, "RNN(RNNCell)", *parts):
        rnn()(X, ONE.astype(dtype))


# ----- what step returns -------------------------------------------------------------------------

WRONG_STEPS = {
    "shape": (lambda x, h: h[:, :2], "returned a state (2, 2) float64 at t=0; it must stay (2, 3)"),
    "dtype": (
        lambda x, h: h.astype(np.float32),
        "returned a state (2, 3) float32 at t=0; it must stay (2, 3) float64",
    ),
    "structure": (
        lambda x, h: (h, (h, h)),
        "got an array (2, 3) as its state and returned a tuple of 2 as the new one. It returns "
        "(output, new state)",
    ),
    "three things": (
        lambda x, h: (h, h, h),
        "must return (output, new state), a tuple of two; got a tuple of 3",
    ),
    "nothing": (lambda x, h: None, "must return arrays, got a NoneType; was `return` forgotten?"),
    "no batch": (
        lambda x, h: (h.sum(), h),
        "must return an output that starts with the batch shape (2,) at t=0; got ()",
    ),
}


@pytest.mark.parametrize("plain", [False, True], ids=["tensors", "arrays"])
@pytest.mark.parametrize(("step", "text"), WRONG_STEPS.values(), ids=WRONG_STEPS)
def test_a_step_that_breaks_the_contract(step, text, plain):
    layer = own(step)
    with raises(errors.CellError, TypeError, f"UGRNNCell.step {text}"):
        if plain:
            with testing.plain(layer):
                layer(X)
        else:
            layer(X)


def test_the_step_at_fault_is_named():
    def later(x, h):
        return h + 1 if np.max(h) < 2 else h[:, :1]

    with raises(errors.CellError, ValueError, "UGRNNCell.step returned a state (2, 1)", "at t=2"):
        own(later)(X)


# ----- lengths, mask -----------------------------------------------------------------------------

each_layer = pytest.mark.parametrize("layer", [rnn, lstm, birnn, own])


@each_layer
@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ([9, 1], "lengths[0]=9 is not in 0..T=5, where T is the first axis of x"),
        ([5, -1], "lengths[1]=-1 is not in 0..T=5"),
        ([5.0, 1.0], "lengths must be integers of shape (2,), one for each sequence"),
        ([5.0, 1.0], "got float64 of shape (2,)"),
        ([True, False], "got bool of shape (2,)"),
        ([5, 1, 1], "integers of shape (2,), one for each sequence of an x (T, N, C), time first"),
        ([[5, 1]], "of shape (1, 2)"),
        (3, "of shape ()"),
    ],
)
def test_lengths_out_of_range_or_of_another_kind(layer, lengths, text):
    with raises(errors.ShapeError, ValueError, text):
        layer()(X, lengths=lengths)


@each_layer
def test_a_length_of_one_sequence_without_a_batch(layer):
    with raises(errors.ShapeError, ValueError, "lengths=9 is not in 0..T=5"):
        layer()(X[:, 0], lengths=9)


@each_layer
def test_a_mask_of_another_shape_or_kind(layer):
    for mask, got in ((np.ones((2, 5), bool), "bool of shape (2, 5)"), (X[..., 0], "float64")):
        parts = "mask must be booleans of shape (5, 2), one for each step", f"got {got}"
        with raises(errors.ShapeError, ValueError, *parts):
            layer()(X, mask=mask)


# ----- changing things in place ------------------------------------------------------------------


def set_state(x, h):
    h[0] = 0
    return h


def set_x(x, h):
    x[0] = 0
    return h


def add_to_state(x, h):
    return np.add(h, 1, out=h)


@pytest.mark.parametrize("step", [set_state, set_x])
def test_setting_elements_of_the_state_or_of_x_says_what_to_do_instead(step):
    parts = "the elements of a Tensor cannot be set", "np.stack", "np.where(mask, a, b)"
    with raises(errors.InplaceError, TypeError, *parts):
        own(step)(X)


def test_writing_a_result_into_the_state_says_what_to_do_instead():
    parts = "np.add cannot write into an array", "use its result instead (a = a + t"
    with raises(errors.InplaceError, TypeError, *parts):
        own(add_to_state)(X)


@pytest.mark.parametrize("step", [set_state, set_x, add_to_state])
def test_on_plain_arrays_nothing_is_written_into_either(step):
    layer, x, h = own(step), X.copy(), ONE.copy()
    with testing.plain(layer), pytest.raises(ValueError, match="read-only"):
        layer(x, h)
    assert (x == X).all()
    assert (h == ONE).all()


# ----- states that a cell learns, tensors of other libraries -------------------------------------


class LearntStart(UGRNNCell):
    def __init__(self):
        super().__init__()
        self.h0 = tg.Parameter(np.zeros(H))

    def initial_state(self, batch_shape, dtype):
        return np.broadcast_to(self.h0, (*batch_shape, H))


@pytest.mark.parametrize("wrap", [lambda cell: cell, lambda cell: tg.Stacked(cell)])
def test_a_cell_that_learns_its_start_needs_no_train_state(wrap):
    with raises(errors.CellError, TypeError, "learns its start already", "train_state=True"):
        tg.RNN(wrap(LearntStart()), train_state=True)
    assert "cell.h0" in tg.RNN(LearntStart()).named_parameters()


class Foreign:
    """A tensor of another library: a shape, a dtype of its own, and a way to NumPy."""

    dtype = object()

    def __init__(self, array):
        self.array, self.shape, self.ndim = array, array.shape, array.ndim

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __getitem__(self, index):
        return Foreign(self.array[index])


def test_tensors_of_other_libraries_are_arrays():
    other = np.random.default_rng(0).normal(size=X.shape)
    for layer in (rnn(), lstm(), birnn(), tg.Chain(rnn(), tg.Linear(H, 1, rng=0))):
        expected = layer(other, lengths=[5, 2])
        out = layer(Foreign(other), lengths=[5, 2])
        np.testing.assert_array_equal(out.outputs.data, expected.outputs.data)
    layer = rnn()
    given = layer(Foreign(other), Foreign(ONE)).last.data
    np.testing.assert_array_equal(given, layer(other, ONE).last.data)
    assert layer.stream((2,)).push(Foreign(other[0])).shape == (2, H)
    made = tg.generate(layer.cell, Foreign(ONE[:, :C]), 3, lambda y, rng: y[:, :C], rng=0)
    assert made.outputs.shape == (3, 2, H)
    with raises(errors.ShapeError, ValueError, "the initial state has shape (3,)"):
        layer(Foreign(other), Foreign(ONE[0]))
    target = Foreign(np.zeros((2, H)))
    assert tg.mse(layer(other).last, target).data == tg.mse(layer(other).last, target.array).data
    logits = Foreign(np.zeros((2, 4)))
    assert tg.cross_entropy(logits, [0, 1]) == pytest.approx(np.log(4))


# ----- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [rnn, lstm, own])
def test_backward_through_the_chunk_before_says_to_detach_or_to_truncate(layer):
    layer = layer()
    first = layer(X)
    first.last.sum().backward()
    second = layer(X, first.state).last.sum()
    parts = (
        f"in {layer.name}, forward, t=4",
        "walked back",
        "recurrent state carried from one chunk to the next",
        "state = tg.detach(out.state)",
        "truncate=",
    )
    with raises(errors.GraphFreedError, RuntimeError, *parts):
        second.backward()


@pytest.mark.parametrize("layer", [rnn, lstm, own])
def test_both_cures_of_a_carried_state_work_and_give_the_same_gradient(layer):
    layer, x = layer(), np.random.default_rng(0).normal(size=(10, 2, C))
    first = layer(x[:5])
    first.outputs.sum().backward()
    held = tuple(s.detach() for s in states(first.state))
    layer(x[5:], held if isinstance(first.state, tuple) else held[0]).outputs.sum().backward()
    expected = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    layer(x, truncate=5).outputs.sum().backward()
    for p, g in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("clip", [tg.clip_grad_norm, tg.clip_grad_value])
def test_clipping_names_the_parameter_whose_gradient_is_not_finite(clip):
    layer = birnn()
    layer(X).last.sum().backward()
    layer.backward_rnn.cell.V.grad = np.full((H, H), np.inf)
    parts = "backward_rnn.cell.V, shape (3, 3), is not finite", "tg.detect_nonfinite()"
    with raises(errors.NonFiniteError, ArithmeticError, *parts):
        clip(layer.named_parameters(), 1.0)
    parts = "parameter 4, shape (3, 3), is not finite", "named_parameters() shows names here"
    with raises(errors.NonFiniteError, ArithmeticError, *parts):
        clip(layer.parameters(), 1.0)


# ----- what comes after a layer ------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        tg.Linear(H, 1, rng=0),
        lambda out: tg.mse(out, X),
        lambda out: tg.cross_entropy(out, [0]),
        lambda out: rnn()(out),
        lambda out: tg.Chain(birnn(), tg.Linear(2 * H, 1, rng=0))(out),
    ],
)
def test_a_whole_output_given_on_says_which_part_to_give(use):
    for layer in (rnn(), birnn()):
        with raises(errors.ShapeError, ValueError, "returns several things", ".outputs or .last"):
            use(layer(X))


@pytest.mark.parametrize(
    "use",
    [
        lambda out: out**2,
        lambda out: out * 2,
        lambda out: 2 * out,
        lambda out: out + X,
        lambda out: out - 1,
        lambda out: 1 - out,
        lambda out: out / 2,
        lambda out: out @ np.ones((H, 1)),
    ],
)
def test_arithmetic_of_a_whole_output_says_which_part_to_take(use):
    with raises(errors.ShapeError, ValueError, "returns several things", ".outputs or .last"):
        use(rnn()(X))


@pytest.mark.parametrize("name", ["sum", "mean", "shape", "backward", "data", "output"])
def test_an_attribute_of_an_array_asked_of_a_whole_output(name):
    out = rnn()(X)
    with pytest.raises(AttributeError, match=rf"no \.{name}: .* its \.outputs or \.last"):
        getattr(out, name)
    assert not hasattr(out, name)
    with tg.no_grad():
        assert pickle.loads(pickle.dumps(rnn()(X)))._fields == out._fields
