"""What stands around the loop: Chain, Stream, generate, checkpoint, trained states, tuples as x."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing
from tinygrad_rnn.nests import leaves, map_tree

seeds = st.integers(0, 2**32 - 1)
CELLS = [tg.RNNCell, tg.LSTMCell, tg.GRUCell]


def close(a, b, tolerance=1e-13):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        x, y = (v.data if isinstance(v, tg.Tensor) else v for v in (x, y))
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def gradients(layer, x, out):
    """Those of a random sum of everything that a layer returns."""
    rng = np.random.default_rng(0)
    parts = [p for p in leaves(tuple(out)) if p is not None]
    loss = sum((p * rng.standard_normal(p.shape)).sum() for p in parts)
    return tg.grad(loss, [x, *layer.parameters()], allow_unused=True)


def drawn(rng, width=3, **sizes):
    steps, rows = sizes.get("steps", int(rng.integers(1, 8))), int(rng.integers(1, 4))
    x = tg.Tensor(rng.standard_normal((steps, rows, width)), requires_grad=True)
    return x, rng.integers(0, steps + 1, rows)


class Timed(tg.Cell):
    """x is a pair: values, and the time since the last step."""

    def __init__(self, inputs, hidden, rng):
        self.inner = tg.GRUCell(inputs, hidden, rng=rng)
        self.decay = tg.Parameter(np.full(hidden, 0.1))
        self.state_shape = (hidden,)

    def step(self, x, h):
        values, gap = x
        return self.inner.step(values, h * np.exp(-self.decay * gap))


class Memory(NamedTuple):
    """A state with names."""

    h: object
    c: object


class Named(tg.Cell):
    """An LSTM whose state is a NamedTuple inside a dict."""

    def __init__(self, inputs, hidden, rng):
        self.inner = tg.LSTMCell(inputs, hidden, rng=rng)
        self.state_shape = {"memory": Memory((hidden,), (hidden,))}

    def step(self, x, state):
        y, (h, c) = self.inner.step(x, (state["memory"].h, state["memory"].c))
        return y, {"memory": Memory(h, c)}


# ----- checkpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [*CELLS, Named])
@settings(max_examples=15)
@given(seed=seeds, block=st.integers(1, 9), reverse=st.booleans(), states=st.booleans())
def test_checkpoint_changes_no_number(cell, seed, block, reverse, states):
    rng = np.random.default_rng(seed)
    inner = cell(3, 4, rng=rng)
    x, lengths = drawn(rng)
    truncate = [None, 2][int(rng.integers(2))]
    reset = rng.random(x.shape[:2]) < 0.2
    options = {
        "lengths": lengths, "truncate": truncate, "reset": reset, "return_states": states,
    }  # fmt: skip
    plain = tg.RNN(inner, reverse=reverse)
    saving = tg.RNN(inner, checkpoint=block, reverse=reverse)
    a, b = plain(x, **options), saving(x, **options)
    close(a[: 4 if states else 3], b[: 4 if states else 3])
    close(gradients(plain, x, a), gradients(saving, x, b))


def test_checkpoint_keeps_less():
    import tracemalloc

    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8, 16))
    kept = []
    for block in (None, 8):
        rnn = tg.RNN(tg.LSTMCell(16, 32, rng=0), checkpoint=block)
        tracemalloc.start()
        out = rnn(x)
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        out.last.sum().backward()
    assert kept[1] < kept[0] / 3


def test_checkpoint_on_plain_arrays_and_without_recording():
    rnn = tg.RNN(tg.GRUCell(2, 3, rng=0), checkpoint=2)
    x = np.random.default_rng(0).standard_normal((5, 2, 2))
    with tg.no_grad():
        expected = rnn(x).outputs
    with testing.plain(rnn):
        close(rnn(x).outputs, expected)
    with pytest.raises(errors.ShapeError, match="checkpoint=0: expected a number of steps"):
        tg.RNN(tg.GRUCell(2, 3, rng=0), checkpoint=0)


# ----- a trained initial state -------------------------------------------------------------------


@pytest.mark.parametrize("cell", [*CELLS, Named])
def test_a_trained_initial_state_is_a_parameter_and_gets_its_gradient(cell):
    rng = np.random.default_rng(0)
    rnn = tg.RNN(cell(3, 4, rng=rng), train_state=True)
    for p in rnn.parameters():
        p.data = p.data + 0.1 * rng.standard_normal(p.shape)
    assert any(name.startswith("start") for name in rnn.named_parameters())
    x, lengths = rng.standard_normal((4, 3, 3)), [4, 0, 2]
    report = testing.check_grads(lambda x: rnn(x, lengths=lengths).outputs, x)
    assert any("start" in f.argument for f in report.findings)
    rows = map_tree(lambda p: np.broadcast_to(p.data, (3, *p.shape)), rnn.start)
    close(rnn(x).outputs, tg.RNN(rnn.cell)(x, rows).outputs)
    assert rnn(x[:, 0]).outputs.shape == (4, 4)
    assert tg.RNN(cell(3, 4, rng=rng)).start is None


# ----- x as a tuple of arrays --------------------------------------------------------------------


@given(seed=seeds)
@settings(max_examples=20)
def test_x_may_be_a_tuple_values_and_time_gaps(seed):
    rng = np.random.default_rng(seed)
    cell = Timed(3, 4, rng)
    x, lengths = drawn(rng)
    gaps = rng.random((*x.shape[:2], 1))
    for layer in (tg.RNN(cell), tg.BiRNN(cell, Timed(3, 2, rng), merge="concat")):
        out = layer((x, gaps), lengths=lengths)
        for n, length in enumerate(lengths):
            alone = layer((x[:length, n], gaps[:length, n]))
            close(out.outputs[:length, n], alone.outputs)
            assert not out.outputs.data[length:, n].any()
    padded = np.where(np.arange(len(x))[:, None, None] < lengths[:, None], gaps, np.nan)
    again = tg.RNN(cell)((x.data, padded), lengths=lengths).outputs
    close(again, tg.RNN(cell)((x, gaps), lengths=lengths).outputs)


def test_a_tuple_as_x_is_checked():
    rnn = tg.RNN(Timed(3, 4, np.random.default_rng(0)))
    with pytest.raises(errors.ShapeError, match=r"\(4, 2, 3\) and \(5, 2, 1\)"):
        rnn((np.ones((4, 2, 3)), np.ones((5, 2, 1))))
    assert rnn((np.ones((0, 2, 3)), np.ones((0, 2, 1)))).outputs.shape == (0, 2, 4)
    stream = rnn.stream((2,))
    x, gap = np.ones((3, 2, 3)), np.ones((3, 2, 1))
    testing.check_grads(lambda x, gap: rnn((x, gap)).outputs, x, gap)
    pushed = [stream.push((x[t], gap[t])) for t in range(3)]
    close(tuple(pushed), tuple(rnn((x, gap)).outputs))


# ----- Chain -------------------------------------------------------------------------------------


def stack(rng, merge="concat"):
    wide = 4 if merge == "concat" else 2
    return tg.Chain(
        tg.BiRNN(tg.GRUCell(3, 2, rng=rng), tg.GRUCell(3, 2, rng=rng), merge=merge),
        tg.Linear(wide, 5, "tanh", rng=rng),
        tg.RNN(tg.LSTMCell(5, 3, rng=rng)),
        tg.Linear(3, 2, rng=rng),
    )


@given(seed=seeds)
@settings(max_examples=20)
def test_a_chain_is_its_layers_one_after_another(seed):
    rng = np.random.default_rng(seed)
    model = stack(rng)
    birnn, middle, rnn, readout = model.layers
    x, lengths = drawn(rng)
    out = model(x, lengths=lengths, return_states=True)
    first = birnn(x, lengths=lengths)
    second = rnn(middle(first.outputs), lengths=lengths)
    valid = (np.arange(len(x))[:, None] < lengths)[..., None]
    close(out.outputs, np.where(valid, readout(second.outputs).data, 0))
    close(out.last, readout(second.last))
    close(out.state, (first.state, second.state))
    assert len(out.states) == 2
    close(out.states[1][1][-1], out.state[1][1])
    for n, length in enumerate(lengths):
        close(out.outputs[:length, n], model(x[:length, n]).outputs)


def test_a_chains_gradient_and_its_state():
    rng = np.random.default_rng(0)
    model = tg.Chain(*(tg.RNN(cell(3, 3, rng=rng)) for cell in CELLS), tg.Linear(3, 2, rng=rng))
    x = rng.standard_normal((5, 2, 3))
    testing.check_grads(lambda x: model(x, lengths=[5, 3]).outputs, x, directions=2)
    first = model(x[:2])
    close(model(x[2:], first.state).outputs, model(x).outputs[2:])
    assert not any(a.any() for a in leaves(model.initial_state((2,))))
    names = list(model.named_parameters())
    assert names[0] == "layers.0.cell.U"
    assert names[-1] == "layers.3.b"
    with pytest.raises(errors.CellError, match="a tuple, one for each of 3 recurrent layers"):
        model(x, first.state[0])
    with pytest.raises(errors.CellError, match="needs a recurrent layer"):
        tg.Chain(tg.Linear(2, 2, rng=0))


# ----- streams -----------------------------------------------------------------------------------


def streamed():
    rng = np.random.default_rng(0)
    for cell in (*CELLS, Named):
        yield tg.RNN(cell(3, 4, rng=rng))
    yield tg.RNN(tg.GRUCell(3, 4, rng=rng), train_state=True)
    yield tg.Chain(tg.RNN(tg.GRUCell(3, 4, rng=rng)), tg.RNN(tg.LSTMCell(4, 2, rng=rng)))


@pytest.mark.parametrize(
    "layer", list(streamed()), ids=lambda layer: getattr(layer, "name", "Chain")
)
@given(seed=seeds, batch=st.sampled_from([(), (1,), (3,)]))
@settings(max_examples=15)
def test_a_stream_gives_what_one_run_gives(layer, seed, batch):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((9, *batch, 3))
    whole = layer(x)
    stream = layer.stream(batch)
    outputs, t = [], 0
    while t < len(x):
        size = int(rng.integers(0, 4))
        if size:
            outputs += list(stream.push(x[t : t + size]))
        else:
            outputs.append(stream.push(x[t]))
        t += size or 1
    close(tuple(outputs), tuple(whole.outputs))
    close(stream.state, whole.state)
    assert not outputs[0].requires_grad
    middle = layer(x[:4]).state
    close(layer.stream(batch, state=middle).push(x[4:]), whole.outputs[4:])


@given(seed=seeds, as_indices=st.booleans())
@settings(max_examples=15)
def test_rows_of_a_stream_are_reset(seed, as_indices):
    rng = np.random.default_rng(seed)
    layer = tg.RNN(tg.LSTMCell(3, 4, rng=rng), train_state=True)
    x, rows = rng.standard_normal((6, 4, 3)), rng.random(4) < 0.5
    reset = np.zeros((6, 4), bool)
    reset[3] = rows
    stream = layer.stream((4,))
    first = stream.push(x[:3])
    stream.reset(np.flatnonzero(rows) if as_indices else rows)
    close((*first, *stream.push(x[3:])), tuple(layer(x, reset=reset).outputs))
    stream.reset()
    close(stream.push(x), layer(x).outputs)


def test_a_stream_with_a_state_of_another_form_says_what_it_expects():
    stream = tg.RNN(tg.LSTMCell(3, 4, rng=0)).stream((2,), state=np.ones((2, 4)))
    for use in (lambda: stream.push(np.ones((2, 3))), lambda: stream.reset([0])):
        with pytest.raises(errors.CellError, match=r"a tuple of 2, got an array \(2, 4\)"):
            use()


@pytest.mark.parametrize("kind", ["birnn", "reverse", "chain"])
def test_what_reads_backwards_cannot_stream(kind):
    cell = tg.GRUCell(3, 3, rng=0)
    layer = {
        "birnn": tg.BiRNN(cell, cell),
        "reverse": tg.RNN(cell, reverse=True),
        "chain": tg.Chain(tg.RNN(cell), tg.BiRNN(cell, cell)),
    }[kind]
    with pytest.raises(errors.CellError, match="interpreter who waits for the end of the speech"):
        layer.stream()


# ----- free running, and passing a state on ------------------------------------------------------


@pytest.mark.parametrize("cell", [*CELLS, Named])
def test_generate_feeds_outputs_back(cell):
    cell = cell(3, 3, rng=0)
    first = np.array([0.1, -0.2, 0.3])
    out = tg.generate(cell, first, 5, lambda y, rng: 2 * y, rng=0)
    x, state = first, cell.initial_state()
    for t in range(5):
        y, state = cell(x, state)
        close(out.outputs[t], y)
        x = 2 * y
    close(out.last, y)
    close(out.state, state)
    f = lambda first: tg.generate(cell, first, 4, lambda y, rng: np.tanh(y), rng=0).outputs
    testing.check_grads(f, first, wrt=[0, cell])


def test_generate_draws_from_the_given_generator():
    cell, rows = tg.GRUCell(4, 4, rng=0), np.eye(4)

    def sampled(y, rng):
        p = tg.softmax(y)
        return rows[[rng.choice(4, p=row) for row in p.data]]

    one, two, three = (
        tg.generate(cell, rows[[0, 1]], 6, sampled, rng=rng).outputs.data for rng in (1, 1, 2)
    )
    assert one.shape == (6, 2, 4)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    with pytest.raises(errors.RngError):
        tg.generate(cell, rows[0], 3, sampled)
    with pytest.raises(errors.ShapeError, match="steps=0"):
        tg.generate(cell, rows[0], 0, sampled, rng=0)


def test_encoder_and_decoder_by_passing_a_state_on():
    rng = np.random.default_rng(0)
    encoder, decoder = tg.RNN(tg.LSTMCell(3, 4, rng=rng)), tg.RNN(tg.LSTMCell(2, 4, rng=rng))

    def translated(x, y):
        return decoder(y, encoder(x, lengths=[5, 2]).state).outputs

    x, y = rng.standard_normal((5, 2, 3)), rng.standard_normal((4, 2, 2))
    report = testing.check_grads(translated, x, y)
    assert {"encoder.cell.U", "decoder.cell.U", "x", "y"} <= {f.argument for f in report.findings}


def test_float32_layers_compute_in_the_wider_dtype_of_x():
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    for train in (False, True):
        rnn = tg.RNN(tg.LSTMCell(3, 4, rng=0, dtype=np.float32), train_state=train)
        whole = rnn(x)
        assert whole.outputs.dtype == np.float64
        assert rnn(x.astype(np.float32)).outputs.dtype == np.float32
        stream = rnn.stream((2,))
        pushed = [stream.push(x[0]), stream.push(x[1])]
        stream.reset([])
        close((*pushed, *stream.push(x[2:])), tuple(whole.outputs))
        stream.reset([0])
        assert leaves(stream.state)[0].dtype == np.float64


# ----- found by somebody who tried to break it ---------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_a_checkpointed_layer_are_checked_in_both_orders(cell):
    rnn = tg.RNN(cell(3, 2, rng=0), checkpoint=2)
    x = np.random.default_rng(0).normal(size=(4, 2, 3))
    testing.check_grads(lambda x: rnn(x).outputs, x, directions=2)
    testing.check_grads(lambda x: rnn(x).outputs, x[:3, :1], order=2, directions=1)


def test_a_parameter_replaced_before_a_checkpoint_runs_again_is_an_error_not_zeros():
    rnn = tg.RNN(tg.RNNCell(3, 2, rng=0), checkpoint=2)
    y = rnn(np.ones((4, 1, 3))).outputs.sum()
    rnn.cell.U = tg.Parameter(rnn.cell.U.data)
    with pytest.raises(errors.NoGradientError, match="another result"):
        y.backward()


def test_checkpoint_around_a_layer_saves_memory_whatever_its_state():
    import tracemalloc

    x, kept = np.random.default_rng(0).standard_normal((64, 8, 16)), []
    rnn = tg.RNN(tg.LSTMCell(16, 32, rng=0))
    for run in (rnn, tg.checkpoint(rnn)):
        tracemalloc.start()
        out = run(x)
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert isinstance(out.state, tuple)
        out.state[1].sum().backward()
    assert kept[1] < kept[0] / 3


def test_streams_of_a_chain_that_begins_with_an_embedding():
    chain = tg.Chain(tg.Embedding(5, 3, rng=0), tg.RNN(tg.RNNCell(3, 4, rng=0)))
    ids = np.array([[1, 2], [3, 4], [0, 1]])
    stream = chain.stream((2,))
    pushed = [stream.push(ids[0]), *stream.push(ids[1:])]
    close(tuple(pushed), tuple(chain(ids).outputs))
    alone = chain.stream()
    close(tuple([alone.push(2), *alone.push([3])]), tuple(chain(np.array([2, 3])).outputs))  # noqa: C409
    for wrong in (np.ones((3, 3)), np.ones((5, 3)), np.ones((1, 2, 2, 3))):
        with pytest.raises(errors.ShapeError, match="opened with batch_shape"):
            tg.RNN(tg.RNNCell(3, 4, rng=0)).stream((2,)).push(wrong)


@pytest.mark.parametrize("by", ["lengths", "mask"])
def test_nan_in_padding_reaches_no_layer_of_a_chain(by):
    chain = tg.Chain(tg.Linear(3, 3, rng=0), tg.RNN(tg.RNNCell(3, 4, rng=0)))
    x = np.ones((3, 2, 3))
    x[2, 1] = np.nan
    given = {"lengths": [3, 2]} if by == "lengths" else {"mask": ~np.isnan(x[..., 0])}
    chain(x, **given).outputs.sum().backward()
    assert all(np.isfinite(p.grad).all() for p in chain.parameters())


class Flagged(tg.Cell):
    """x has a flag beside the values: where it is set the state starts again."""

    def __init__(self):
        self.a, self.state_shape = tg.Parameter(np.ones(2)), (2,)

    def step(self, x, h):
        values, flag = x
        return np.tanh(values * self.a + h * np.where(~flag, 1.0, 0.0))


def test_padding_changes_no_dtype():
    x = (np.ones((3, 2, 2)), np.zeros((3, 2, 1), bool))
    x[1][1] = True
    rnn = tg.RNN(Flagged())
    close(rnn(x, lengths=[3, 2]).outputs[:2], rnn(x).outputs[:2])
    hot = np.eye(3, dtype=bool)[np.array([[0, 1], [1, 2]])]
    layer = tg.RNN(tg.RNNCell(3, 4, rng=0, dtype=np.float32))
    assert layer(hot, lengths=[2, 1]).outputs.dtype == layer(hot).outputs.dtype == np.float32
    counted = (np.ones((3, 2, 2), np.float32), np.ones((3, 2, 1), int))
    single = Flagged().astype(np.float32)
    single.step = lambda x, h: np.tanh(x[0] * single.a + h)
    assert tg.RNN(single)(counted).outputs.dtype == np.float32


def test_padding_is_0_after_any_merge():
    birnn = tg.BiRNN(*(tg.RNNCell(3, 4, rng=k) for k in (0, 1)), merge=lambda f, b: f + b + 1)
    out = birnn(np.ones((3, 2, 3)), lengths=[3, 1])
    assert not out.outputs.data[1:, 1].any()


class Contract(tg.Cell):
    """initial_state exactly as the contract writes it, without defaults."""

    def __init__(self):
        self.a = tg.Parameter(np.ones(4))

    def initial_state(self, batch_shape, dtype):
        return np.zeros((*batch_shape, 4), dtype)

    def step(self, x, h):
        return np.tanh(x + h * self.a)


def test_initial_state_needs_no_defaults():
    assert tg.RNN(Contract(), train_state=True).start.shape == (4,)
    assert tg.generate(Contract(), [1.0] * 4, 3, lambda y, rng: y, rng=0).outputs.shape == (3, 4)


WRAPPED = {
    "Zoneout": lambda cell: tg.Zoneout(cell, 0.1).eval(),
    "VariationalDropout": lambda cell: tg.VariationalDropout(cell, 0.1, inputs=4, rng=0),
    "Stacked": lambda cell: tg.Stacked(cell),
    "Residual": lambda cell: tg.Residual(cell),
    "Readout": lambda cell: tg.Readout(cell, np.tanh),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_cell_by_the_contract_is_always_given_the_batch_shape_and_a_dtype(name, dtype):
    class Strict(Contract):
        def initial_state(self, batch_shape, dtype):
            assert isinstance(batch_shape, tuple)
            assert dtype is not None
            return super().initial_state(batch_shape, dtype)

    cell = WRAPPED[name](Strict()).astype(dtype)
    for layer in (tg.RNN(Strict()).astype(dtype), tg.RNN(cell), cell):
        for start in leaves(layer.initial_state((2,))):
            assert (start.shape, start.dtype) == ((2, 4), dtype)
    assert tg.RNN(cell)(np.ones((3, 2, 4), dtype)).outputs.shape == (3, 2, 4)
    for drawn in (Strict(), cell):
        assert tg.draw(drawn, inputs=4).svg.startswith("<svg")


def test_a_chain_may_end_in_a_pair_and_a_state_may_be_empty():
    cells = [tg.RNNCell(3, 4, rng=k) for k in (0, 1)]
    pair = tg.Chain(tg.BiRNN(*cells, merge=None))(np.ones((3, 2, 3)), lengths=[3, 1]).outputs
    assert [part.shape for part in pair] == [(3, 2, 4)] * 2

    class Stateless(tg.Cell):
        state_shape: dict = {}

        def step(self, x, state):
            return np.tanh(x), state

    x = tg.Tensor(np.ones((5, 2, 3)), requires_grad=True)
    for states in (False, True):
        out = tg.RNN(Stateless(), checkpoint=2)(x, return_states=states)
        assert out.outputs.shape == (5, 2, 3)


def test_what_is_no_layer_is_refused_at_once():
    cell = tg.RNNCell(3, 4, rng=0)
    for wrong in ((cell, tg.Linear(4, 2, rng=0)), ([tg.RNN(cell)],), (tg.RNN(cell), "tanh")):
        with pytest.raises(errors.CellError, match=r"Chain takes layers.*tg\.RNN\(cell\)"):
            tg.Chain(*wrong)


def test_counts_may_be_numpys_integers():
    x = np.ones((4, 2, 3))
    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0), checkpoint=np.int64(2))
    close(rnn(x, truncate=np.int64(2)).outputs, tg.RNN(rnn.cell)(x).outputs)
    assert rnn.stream(2).push(x[0]).shape == (2, 4)


def test_a_mask_may_be_used_again_before_the_way_back():
    mask = np.ones((4, 2), bool)
    mask[3] = False
    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0), checkpoint=2)
    loss = rnn(np.ones((4, 2, 3)), mask=mask).outputs.sum()
    mask[:] = True
    loss.backward()
    assert rnn.cell.U.grad.any()
