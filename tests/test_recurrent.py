"""The laws of the loop over time. Each test's name is the law."""

import pickle
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing
from tinygrad_rnn.nests import leaves

seeds = st.integers(0, 2**32 - 1)
C, H = 2, 3


def cells(seed, activation="tanh", bias=True):
    rng = np.random.default_rng(seed)
    made = [tg.RNNCell(C, H, activation, bias, rng=rng) for _ in range(2)]
    for cell in made:
        if bias:
            cell.b.data = rng.normal(size=H)
    return made


def layers(seed):
    forward, backward = cells(seed)
    return tg.RNN(forward), tg.RNN(forward, reverse=True), tg.BiRNN(forward, backward)


def batch(seed, steps=None, low=0):
    """x (T, N, C), lengths, and the same x with other numbers in the padding."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(low, 6)) if steps is None else steps
    size = int(rng.integers(1, 4))
    x = rng.normal(size=(steps, size, C))
    lengths = rng.integers(0, steps + 1, size)
    return x, lengths, rng


def grads_of(layer, total):
    layer.zero_grad()
    total.backward()
    return [p.grad for p in layer.parameters()]


def hand_written(cell, x, h, valid, reverse=False):
    """The tutorial's equation, one row and one step at a time, in NumPy alone."""
    U, V, b = cell.U.data, cell.V.data, cell.b.data
    steps, size = x.shape[:2]
    outputs, last, h = np.zeros((steps, size, H)), np.zeros((size, H)), h.copy()
    for n in range(size):
        for t in reversed(range(steps)) if reverse else range(steps):
            if valid[t, n]:
                h[n] = np.tanh(x[t, n] @ U + h[n] @ V + b)
                outputs[t, n] = last[n] = h[n]
    return outputs, last, h


# ----- values ------------------------------------------------------------------------------------


@given(seeds, st.booleans())
def test_forward_equals_the_equation(seed, reverse):
    x, lengths, rng = batch(seed)
    cell = cells(seed)[0]
    mask = rng.random(x.shape[:2]) < 0.7
    valid = mask & (np.arange(len(x))[:, None] < lengths)
    h = rng.normal(size=(x.shape[1], H))
    out = tg.RNN(cell, reverse=reverse)(x, h, lengths=lengths, mask=mask, return_states=True)
    outputs, last, state = hand_written(cell, x, h, valid, reverse)
    np.testing.assert_allclose(out.outputs.data, outputs, rtol=0, atol=1e-14)
    np.testing.assert_allclose(out.last.data, last, rtol=0, atol=1e-14)
    np.testing.assert_allclose(out.state.data, state, rtol=0, atol=1e-14)
    if len(x):
        np.testing.assert_array_equal(out.states[0 if reverse else -1].data, out.state.data)
    assert out.states.shape == outputs.shape


@given(seeds)
def test_birnn_is_two_rnns_merged_and_its_last_has_seen_everything(seed):
    x, lengths, _ = batch(seed)
    first, second = cells(seed)
    out = tg.BiRNN(first, second)(x, lengths=lengths)
    forward = tg.RNN(first)(x, lengths=lengths)
    backward = tg.RNN(second, reverse=True)(x, lengths=lengths)
    for field in ("outputs", "last"):
        joined = np.concatenate([getattr(forward, field), getattr(backward, field)], axis=-1)
        np.testing.assert_array_equal(getattr(out, field).data, joined.data)
    for n, length in enumerate(lengths):
        if length:
            np.testing.assert_array_equal(out.last.data[n, :H], out.outputs.data[length - 1, n, :H])
            np.testing.assert_array_equal(out.last.data[n, H:], out.outputs.data[0, n, H:])


@given(seeds)
def test_reverse_is_the_flip_of_the_flipped_sequence(seed):
    x, _, _ = batch(seed, low=1)
    rnn, reverse, _ = layers(seed)
    flipped = rnn(x[::-1])
    out = reverse(x)
    np.testing.assert_array_equal(out.outputs.data, flipped.outputs.data[::-1])
    np.testing.assert_array_equal(out.last.data, flipped.last.data)


def test_merges():
    x, _, _ = batch(0, steps=4)
    pair = tg.BiRNN(*cells(0), merge=None)(x)
    forward, backward = pair.outputs
    for merge, expected in [
        ("sum", forward + backward),
        ("mean", (forward + backward) / 2),
        ("mul", forward * backward),
        (lambda f, b: f - b, forward - backward),
    ]:
        out = tg.BiRNN(*cells(0), merge=merge)(x)
        np.testing.assert_array_equal(out.outputs.data, expected.data)
    assert pair.last[0].shape == (x.shape[1], H)


def test_one_cell_given_twice_shares_its_parameters():
    cell = cells(0)[0]
    assert len(tg.BiRNN(cell, cell).parameters()) == 3


def test_activations():
    x = np.linspace(-2, 2, 6).reshape(3, 1, C)
    for name, phi in [("relu", tg.relu), ("sigmoid", tg.sigmoid), ("identity", lambda z: z)]:
        by_name, by_function = (tg.RNN(cells(1, a)[0])(x).outputs.data for a in (name, phi))
        np.testing.assert_array_equal(by_name, by_function)
        z = x[0] @ cells(1)[0].U.data + cells(1)[0].b.data
        np.testing.assert_allclose(by_name[0], phi(z), atol=1e-15)


# ----- padding -----------------------------------------------------------------------------------


@given(seeds)
def test_padding_changes_nothing(seed):
    x, lengths, rng = batch(seed)
    longer = np.concatenate([x, np.full((2, *x.shape[1:]), np.nan)])
    longer[:-2][np.arange(len(x))[:, None] >= lengths] = np.nan
    for layer in layers(seed):
        short, long = layer(x, lengths=lengths), layer(longer, lengths=lengths)
        np.testing.assert_allclose(long.outputs.data[: len(x)], short.outputs.data, atol=1e-14)
        assert not long.outputs.data[len(x) :].any()
        np.testing.assert_allclose(long.last.data, short.last.data, atol=1e-14)
        v = rng.normal(size=short.outputs.shape)
        u = rng.normal(size=short.last.shape)
        expected = grads_of(layer, (short.outputs * v).sum() + (short.last * u).sum())
        padded = np.concatenate([v, np.ones((2, *v.shape[1:]))])
        found = grads_of(layer, (long.outputs * padded).sum() + (long.last * u).sum())
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@given(seeds)
def test_a_row_in_a_batch_is_the_row_alone(seed):
    x, lengths, _ = batch(seed)
    for layer in layers(seed):
        out = layer(x, lengths=lengths)
        for n, length in enumerate(lengths):
            alone = layer(x[:length, n])
            np.testing.assert_allclose(out.outputs.data[:length, n], alone.outputs.data, atol=1e-13)
            np.testing.assert_allclose(out.last.data[n], alone.last.data, atol=1e-13)


@given(seeds)
def test_a_row_of_length_0_holds_its_state_and_ends_at_0(seed):
    x, _, rng = batch(seed, low=1)
    h = rng.normal(size=(x.shape[1], H))
    out = layers(seed)[0](x, h, lengths=np.zeros(x.shape[1], int))
    np.testing.assert_array_equal(out.state.data, h)
    assert not out.last.data.any()
    assert not out.outputs.data.any()
    out.last.sum().backward()  # it still needs a gradient, of zeros


@given(seeds)
def test_gradients_at_padding_are_exactly_zero(seed):
    values, lengths, _ = batch(seed, low=1)
    padding = np.arange(len(values))[:, None] >= lengths
    for layer in layers(seed):
        x = tg.Tensor(values, requires_grad=True)
        out = layer(x, lengths=lengths)
        (out.outputs.sum() + out.last.sum()).backward()
        assert not x.grad[padding].any()


@pytest.mark.parametrize("size", [0, 2])
def test_no_steps_and_no_rows(size):
    for layer, width in zip(layers(0), (H, H, 2 * H), strict=True):
        h = np.ones((size, H))
        state = (h, h) if width == 2 * H else h
        out = layer(np.zeros((0, size, C)), state, return_states=True)
        assert out.outputs.shape == (0, size, width)
        assert out.last.shape == (size, width)
        assert not out.last.data.any()
        np.testing.assert_array_equal(np.asarray(tg.cells.leaves(out.state)[0].data), h)
        grads = grads_of(layer, out.outputs.sum() + out.last.sum())
        assert all(g is not None and not g.any() for g in grads)
        assert layer(np.zeros((3, size, C))).outputs.shape == (3, size, width)
        assert layer(np.zeros((0, C))).outputs.shape == (0, width)


# ----- state -------------------------------------------------------------------------------------


@given(seeds, st.integers(0, 5))
def test_a_run_cut_in_two_is_the_whole_run(seed, cut):
    x, _, rng = batch(seed)
    rnn = layers(seed)[0]
    whole = rnn(x)
    first = rnn(x[:cut])
    second = rnn(x[cut:], first.state)
    joined = np.concatenate([first.outputs, second.outputs])
    np.testing.assert_allclose(joined.data, whole.outputs.data, atol=1e-14)
    v = rng.normal(size=whole.outputs.shape)
    expected = grads_of(rnn, (whole.outputs * v).sum())
    for a, b in zip(grads_of(rnn, (joined * v).sum()), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


@given(seeds)
def test_outputs_depend_on_the_past_only_and_reversed_on_the_future_only(seed):
    values, _, _ = batch(seed, steps=4)
    for layer, upper in zip(layers(seed)[:2], (True, False), strict=True):
        for t in range(4):
            x = tg.Tensor(values, requires_grad=True)
            layer(x).outputs[t].sum().backward()
            unseen = x.grad[t + 1 :] if upper else x.grad[:t]
            assert not unseen.any()


def test_float32_stays_float32_and_zero_states_take_the_promoted_dtype():
    cell = tg.RNNCell(C, H, rng=0, dtype=np.float32)
    x = np.ones((3, 2, C), np.float32)
    out = tg.RNN(cell)(x, lengths=[3, 1])
    out.outputs.sum().backward()
    assert {out.outputs.dtype, out.last.dtype, out.state.dtype, cell.V.grad.dtype} == {
        np.dtype(np.float32)
    }
    assert tg.RNN(cell)(x.astype(np.float64)).state.dtype == np.float64
    assert tg.RNN(cell)(x[:0]).outputs.dtype == np.float32


def test_a_layer_holds_no_state_and_runs_on_plain_arrays():
    rnn = layers(0)[2]
    x, lengths, _ = batch(3, steps=4)
    before = set(vars(rnn))
    out = rnn(x, lengths=lengths)
    assert set(vars(rnn)) == before
    np.testing.assert_array_equal(rnn(x, lengths=lengths).outputs.data, out.outputs.data)
    with testing.plain(rnn):
        plain = rnn(x, lengths=lengths)
        assert type(plain.outputs) is np.ndarray
        assert type(plain.last) is np.ndarray
    np.testing.assert_array_equal(plain.outputs, out.outputs.data)
    assert isinstance(rnn.forward_rnn.cell.U, tg.Parameter)


class Pair(NamedTuple):
    h: object
    c: object


class Nested(tg.Cell):
    """A state of a dict with a NamedTuple inside, and an output of another width."""

    def __init__(self, rng):
        self.linear = tg.Linear(C + H, 2 * H, rng=rng)
        self.out = tg.Linear(H, 1, rng=rng)
        self.state_shape = {"pair": Pair((H,), (H,)), "count": ()}

    def step(self, x, state):
        (h, c), count = state["pair"], state["count"]
        a, b = np.split(self.linear(np.concatenate([x, h], axis=-1)), 2, axis=-1)
        c = tg.sigmoid(a) * c + np.tanh(b)
        return self.out(c), {"pair": Pair(np.tanh(c), c), "count": count + 1}


def test_states_may_nest_and_outputs_may_have_another_width():
    layer = tg.RNN(Nested(0))
    x, lengths, _ = batch(5, steps=4)
    out = layer(x, lengths=lengths, return_states=True)
    assert out.outputs.shape == (4, x.shape[1], 1)
    assert type(out.state["pair"]) is Pair
    assert out.state["count"].data.tolist() == lengths.tolist()
    assert out.states["pair"].c.shape == (4, x.shape[1], H)
    testing.check_grads(lambda x: layer(x, lengths=lengths).outputs, x)
    assert layer(x[:0]).outputs.shape == (0, x.shape[1], 1)


class Writes(tg.LSTMCell):
    """An LSTM whose step writes into the dict that its state is, or holds."""

    def __init__(self, depth):
        super().__init__(C, H, rng=0)
        self.depth, self.state_shape = depth, {"h": (H,), "c": (H,)}
        for _ in range(depth):
            self.state_shape = (self.state_shape,)

    def step(self, x, state):
        inner = state
        for _ in range(self.depth):
            (inner,) = inner
        h, (inner["h"], inner["c"]) = super().step(x, (inner["h"], inner["c"]))
        return h, state


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_a_step_may_write_into_the_dict_of_its_state(depth, scan, reverse, padded):
    x, lengths, _ = batch(3, steps=5)
    lengths[0] = 2
    some = {"lengths": lengths, "reset": np.eye(5, len(lengths)) > 0}
    options = {"return_states": True} | (some if padded else {})
    expected = tg.RNN(tg.LSTMCell(C, H, rng=0), reverse=reverse)(x, **options)
    for checkpoint in (None, 2):
        layer = tg.RNN(Writes(depth), scan=scan, checkpoint=checkpoint, reverse=reverse)
        for start in (None, layer.initial_state((x.shape[1],))):
            out = layer(x, start, **options)
            for got, right in zip(leaves((*out,)), leaves((*expected,)), strict=True):
                np.testing.assert_allclose(got.data, right.data, atol=1e-14)
            assert start is None or not any(a.any() for a in leaves(start))


def test_a_key_that_a_step_adds_to_its_state_is_an_error():
    class Adds(Writes):
        def step(self, x, state):
            state["more"] = state["h"]
            return state["h"], state

    with pytest.raises(
        errors.CellError, match=r"got a dict of c, h .* returned a dict of c, h, more"
    ):
        tg.RNN(Adds(0))(np.ones((3, 1, C)))


# ----- truncation and resets ---------------------------------------------------------------------


@given(seeds, st.integers(1, 4))
def test_truncated_bptt_is_the_gradient_with_the_boundary_states_held(seed, k):
    """Chunks of k steps, each started from the (constant) state that the one before ended in."""
    x, lengths, rng = batch(seed, steps=5)
    for layer in layers(seed)[:2]:
        whole = layer(x, lengths=lengths)
        v = rng.normal(size=whole.outputs.shape)
        cut = layer(x, lengths=lengths, truncate=k)
        np.testing.assert_array_equal(cut.outputs.data, whole.outputs.data)
        found = grads_of(layer, (cut.outputs * v).sum())
        order = range(5)[::-1] if layer.reverse else range(5)
        chunks = [sorted(order[i : i + k]) for i in range(0, 5, k)]
        state, total = np.zeros((x.shape[1], H)), 0.0
        valid = np.arange(5)[:, None] < lengths
        for steps in chunks:
            out = layer(x[steps], state, mask=valid[steps])
            total = total + (out.outputs * v[steps]).sum()
            state = out.state.data
        for a, b in zip(found, grads_of(layer, total), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-13)


def test_a_truncated_gradient_is_checkable_and_does_not_reach_the_initial_state():
    x, _, rng = batch(7, steps=5)
    rnn, h = layers(7)[0], rng.normal(size=(x.shape[1], H))
    state = tg.Tensor(h, requires_grad=True)
    rnn(x, state, truncate=2).outputs[3:].sum().backward()
    assert state.grad is None or not state.grad.any()
    rnn(x, state, truncate=5).outputs[3:].sum().backward()
    assert state.grad.any()


@given(seeds)
def test_a_reset_row_starts_anew(seed):
    x, _, rng = batch(seed, steps=5)
    h = rng.normal(size=(x.shape[1], H))
    reset = rng.random(x.shape[:2]) < 0.4
    for layer in layers(seed)[:2]:
        out = layer(x, h, reset=reset)
        order = range(5)[::-1] if layer.reverse else range(5)
        for n in range(x.shape[1]):
            state = h[n]
            for t in order:
                state = np.zeros(H) if reset[t, n] else state
                state = layer.cell(x[t, n], state)[1].data
                np.testing.assert_allclose(out.outputs.data[t, n], state, atol=1e-14)
    birnn = layers(seed)[2]
    assert birnn(x, (h, h), reset=reset).outputs.shape == (5, x.shape[1], 2 * H)


def test_scan_may_be_set_at_any_time_and_birnn_sets_both():
    rnn, birnn = tg.RNN(cells(0)[0], scan=True), tg.BiRNN(*cells(0), scan=True)
    assert (rnn.scan, birnn.scan, birnn.backward_rnn.scan) == (True, True, True)
    rnn.scan = birnn.scan = False
    assert (rnn.scan, birnn.scan, birnn.backward_rnn.scan) == (False, False, False)
    chain = tg.Chain(birnn, tg.Linear(2 * H, C, rng=0), rnn)
    chain.scan = True
    assert (chain.scan, rnn.scan, birnn.forward_rnn.scan) == (True, True, True)
    rnn.scan = False
    assert chain.scan is False


# ----- places ------------------------------------------------------------------------------------


def test_operations_know_their_layer_direction_and_time():
    x = tg.Tensor(np.ones((3, 1, C)))
    for layer, direction in zip(layers(0)[:2], ("forward", "reverse"), strict=True):
        node = layer(x, return_states=True).last._key[0]
        t = 2 if direction == "forward" else 0
        assert node.place[:3] == ("RNN(RNNCell)", direction, t)
        assert (node.place.call.layer, node.place.call.x) == (layer, x)


# ----- errors: what was expected, and what to do -------------------------------------------------


X = np.ones((5, 2, C))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda r: r(np.ones(5)), r"RNN\(RNNCell\) expects x \(T, N, C\)"),
        (lambda r: r(np.ones((3, 2, 7))), "x has 7 features.*expects 2"),
        (lambda r: r(X, np.ones((1, H))), r"\(1, 3\), expected \(2, 3\).*not broadcast"),
        (lambda r: r(X, lengths=[9, 1]), r"lengths\[0\]=9 is not in 0\.\.T=5"),
        (lambda r: r(X, lengths=[1, -1]), r"lengths\[1\]=-1"),
        (lambda r: r(X, lengths=[1.0, 2.0]), "integers.*float64"),
        (lambda r: r(X, lengths=[1]), r"of shape \(2,\)"),
        (lambda r: r(X, mask=np.ones((5, 2))), "mask must be booleans"),
        (lambda r: r(X, reset=np.ones((5, 3), bool)), "reset must be booleans"),
        (lambda r: r(X, truncate=0), "truncate=0: expected a number of steps"),
        (lambda r: tg.BiRNN(r.cell, r.cell, merge="add"), "concat, sum, mean, mul"),
        (lambda r: tg.RNNCell(2, 3, "than", rng=0), "tanh, relu"),
    ],
)
def test_wrong_calls(call, text):
    with pytest.raises(errors.ShapeError, match=text):
        call(tg.RNN(cells(0)[0]))


def test_a_width_alone_is_a_shape_of_one_axis():
    for shape in (H, np.int64(H), (H,)):
        out = tg.RNN(Wrong(lambda x, h: np.tanh(x[..., :1] + h), shape))(X)
        assert out.state.shape == (2, H)
    nest = tg.RNN(Wrong(lambda x, s: (s["h"], s), {"h": H, "c": (H, (H, 2))}))(X).state
    assert nest["h"].shape == nest["c"][0].shape == (2, H)
    assert nest["c"][1].shape == (2, H, 2)


def test_wrong_states_and_seeds():
    rnn, birnn = layers(0)[::2]
    with pytest.raises(errors.CellError, match=r"expected an array .*, got a tuple of 2"):
        rnn(X, (np.ones((2, H)), np.ones((2, H))))
    with pytest.raises(errors.CellError, match="pair"):
        birnn(X, np.ones((2, H)))
    with pytest.raises(errors.RngError, match="rng=0"):
        tg.RNNCell(2, 3)


INNER = (((H,), (H,)), (H,))  # a nest in a nest


class Unfinished(tg.Cell):
    state_shape = (H,)


class Wrong(tg.Cell):
    def __init__(self, step, state_shape=(H,)):
        self.run = step
        if state_shape is not None:
            self.state_shape = state_shape

    def step(self, x, state):
        return self.run(x, state)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Wrong(lambda x, h: h[:, :1]), r"a state \(2, 1\) float64 at t=0; it must stay \(2, 3\)"),
        (Wrong(lambda x, h: h.astype(np.float32)), "float32 at t=0; it must stay .* float64"),
        (Wrong(lambda x, h: (h, h, h)), "a tuple of two; got a tuple of 3"),
        (Wrong(lambda x, s: s, ((H,), (H,))), "returned an array"),
        (Wrong(lambda x, s: s[0], ((H,), (H,))), "a tuple of two; got an array"),
        (Wrong(lambda x, h: (h.sum(), h)), "starts with the batch shape"),
        (Wrong(lambda x, h: h, None), r"must set state_shape.*initial_state"),
        (tg.Cell(), "state_shape"),
        (Unfinished(), r"Unfinished must define step\(self, x, state\)"),
        (Wrong(lambda x, h: None), "got a NoneType; was `return` forgotten"),
        (Wrong(lambda x, h: 0.0), "must return arrays, got a float"),
        (Wrong(lambda x, h: (h, None)), "NoneType"),
        (Wrong(lambda x, h: h, "h"), "state_shape='h': expected a tuple of ints"),
        (Wrong(lambda x, s: (x, {"c": s["h"]}), {"h": (H,)}), "a dict of h .* a dict of c"),
        (Wrong(lambda x, s: (x, ((s[0][0],), s[1])), INNER), "tuple of 2 as a part .* tuple of 1"),
        (Wrong(lambda x, s: (x, (s[0][0], s[1])), INNER), "tuple of 2 as a part .* an array"),
    ],
)
def test_wrong_cells(cell, text):
    with pytest.raises(errors.CellError, match=text):
        tg.RNN(cell)(np.ones((3, 2, C)))


@pytest.mark.parametrize("cell", [tg.RNNCell, 3, lambda x, h: h])
def test_what_is_no_cell_is_refused(cell):
    with pytest.raises(errors.CellError, match=r"an instance of a subclass of tg\.Cell"):
        tg.RNN(cell)


def test_states_of_another_dtype_are_refused_with_the_conversion():
    rnn = layers(0)[0]
    with pytest.raises(errors.ShapeError, match=r"int64.*state\.astype\(np\.float64\)"):
        rnn(X, np.zeros((2, H), int))
    with pytest.raises(errors.ShapeError, match="float32"):
        rnn(X, np.zeros((2, H), np.float32))


def test_a_step_that_writes_into_x_or_the_state_raises_on_plain_arrays_too():
    def step(x, h):
        h += x.sum(axis=-1, keepdims=True)
        return h

    x = np.ones((3, 2, C))
    with testing.plain(tg.RNN(Wrong(step))) as _, pytest.raises(ValueError, match="read-only"):
        tg.RNN(Wrong(step))(x)
    assert (x == 1).all()


def test_layers_can_be_pickled():
    linear = pickle.loads(pickle.dumps(tg.Linear(2, 3, rng=0)))
    rnn = pickle.loads(pickle.dumps(tg.RNN(cells(0, "identity")[0])))
    assert linear(np.ones((1, 2))).shape == (1, 3)
    assert rnn(np.ones((3, 1, C))).last.shape == (1, H)


def test_losses_say_what_a_layer_returns():
    with pytest.raises(errors.ShapeError, match=r"\.outputs or \.last"):
        tg.mse(layers(0)[0](X), np.ones(3))
