"""Cells made of cells: each test's name is a law of theirs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing
from tinygrad_rnn.nests import leaves, map_tree

C = 3
seeds = st.integers(0, 2**32 - 1)


class Mixed(tg.Cell):
    """A user's cell: no .inputs, a dict as its state, an output that is none of it."""

    def __init__(self, inputs, hidden, rng):
        self.U = tg.Parameter(tg.init.glorot(rng, (inputs, hidden)))
        self.state_shape = {"slow": (hidden,), "fast": (2, hidden)}

    def step(self, x, state):
        fast = np.tanh((x @ self.U)[..., None, :] + state["fast"] / 2)
        slow = 0.9 * state["slow"] + 0.1 * fast[..., 0, :]
        return slow * fast[..., 1, :], {"slow": slow, "fast": fast}


def deep(rng):
    return tg.Stacked(
        tg.Residual(tg.Zoneout(tg.GRUCell(C, C, rng=rng), 0.4)),
        tg.VariationalDropout(tg.Zoneout(tg.LSTMCell(C, 4, rng=rng), (0.2, 0.6)), 0.3, rng=rng),
        tg.Readout(tg.RNNCell(4, 2, rng=rng), tg.Linear(2, C, "tanh", rng=rng)),
    )


MAKERS = {
    "Stacked": lambda rng: tg.Stacked(tg.LSTMCell(C, 4, rng=rng), tg.GRUCell(4, 2, rng=rng)),
    "Readout": lambda rng: tg.Readout(tg.GRUCell(C, 4, rng=rng), tg.Linear(4, 2, rng=rng)),
    "Residual": lambda rng: tg.Residual(tg.LSTMCell(C, C, rng=rng)),
    "Zoneout": lambda rng: tg.Zoneout(tg.LSTMCell(C, 2, rng=rng), (0.3, 0.6)),
    "Zoneout of a user's cell": lambda rng: tg.Zoneout(Mixed(C, 2, rng), 0.5),
    "VariationalDropout": lambda rng: tg.VariationalDropout(
        tg.LSTMCell(C, 4, rng=rng), 0.4, rng=rng
    ),
    "VariationalDropout of a user's cell": lambda rng: tg.VariationalDropout(
        Mixed(C, 2, rng), 0.4, inputs=C, rng=rng
    ),
    "Zoneout of Zoneout": lambda rng: tg.Zoneout(tg.Zoneout(tg.RNNCell(C, 2, rng=rng), 0.3), 0.3),
    "deep": deep,
}
each_wrapper = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def drawn(make, seed, low=0):
    """A cell, a maker of its x from values (T, N, C), the values, lengths, and a state."""
    rng = np.random.default_rng(seed)
    cell = make(rng)
    for p in cell.parameters():
        p.data = p.data + rng.normal(size=p.shape) / 4
    steps, size = int(rng.integers(low, 6)), int(rng.integers(1, 4))
    values, lengths = rng.normal(size=(steps, size, C)), rng.integers(0, steps + 1, size)
    draws = cell.draws(steps, (size,), rng) if cell.draw_size else None

    def x_of(values, steps=slice(None)):
        values = values[steps]
        return values if draws is None else (values, draws[steps])

    state = map_tree(lambda s: s + rng.normal(size=s.shape) / 2, cell.initial_state((size,)))
    return cell, x_of, values, lengths, state


def equal(a, b, atol=0.0):
    for one, other in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(np_of(one), np_of(other), rtol=0, atol=atol)


def np_of(a):
    return a.data if isinstance(a, tg.Tensor) else a


def gradients(module, *outputs):
    module.zero_grad()
    rng = np.random.default_rng(0)
    sum((leaf * rng.normal(size=leaf.shape)).sum() for leaf in leaves(outputs)).backward()
    return tuple(p.grad for p in module.parameters())


# ----- every wrapper -----------------------------------------------------------------------------


def check(cell, x_of, values, lengths, state, **options):
    """The gradients of a layer over a ragged batch: in x, the state and every Parameter."""
    layer = tg.RNN(cell, reverse=options.pop("reverse", False))

    def run(values, state):
        out = layer(x_of(values), state, lengths=lengths)
        return out.outputs, out.last, out.state

    wrt = [*([0] if values.size else []), 1, cell]
    testing.check_grads(run, values, state, wrt=wrt, directions=1, **options)


@each_wrapper
@settings(max_examples=6)
@given(seed=seeds, reverse=st.booleans())
def test_gradients_over_ragged_batches_in_both_directions(make, seed, reverse):
    check(*drawn(make, seed), oracle="ladder", reverse=reverse)


@each_wrapper
def test_gradients_by_complex_steps(make):
    check(*drawn(make, 1, low=2), oracle="complex")


@each_wrapper
def test_gradients_in_birnn_and_chain_by_the_ladder(make):
    cell, x_of, values, lengths, state = drawn(make, 1, low=2)
    chain = tg.Chain(tg.BiRNN(cell, drawn(make, 2)[0]), np.tanh)
    backward = map_tree(lambda s: s / 2, state)

    def run(values):
        return chain(x_of(values), ((state, backward),), lengths=lengths).outputs

    testing.check_grads(run, values, wrt=[0, chain], oracle="ladder", directions=1)


@each_wrapper
@settings(max_examples=10)
@given(seed=seeds)
def test_streamed_is_whole_and_chunks_are_whole(make, seed):
    cell, x_of, values, _, state = drawn(make, seed, low=1)
    rnn = tg.RNN(cell)
    whole = rnn(x_of(values), state)
    stream = rnn.stream((values.shape[1],), state)
    steps = [stream.push(x_of(values, t)) for t in range(len(values))]
    equal(np.stack(steps), whole.outputs, 1e-14)
    equal(stream.state, whole.state, 1e-14)
    cut = len(values) // 2
    first = rnn(x_of(values, slice(cut)), state)
    second = rnn(x_of(values, slice(cut, None)), first.state)
    equal(np.concatenate([first.outputs, second.outputs]), whole.outputs, 1e-14)
    equal(second.state, whole.state, 1e-14)


@each_wrapper
@settings(max_examples=10)
@given(seed=seeds)
def test_checkpoints_and_plain_arrays_give_the_same_numbers(make, seed):
    cell, x_of, values, lengths, state = drawn(make, seed, low=1)
    rnn, saving = tg.RNN(cell), tg.RNN(cell, checkpoint=2)
    out = rnn(x_of(values), state, lengths=lengths, return_states=True)
    again = saving(x_of(values), state, lengths=lengths, return_states=True)
    equal(again, out)
    equal(
        gradients(cell, again.outputs, again.state), gradients(cell, out.outputs, out.state), 1e-12
    )
    with testing.plain(cell):
        plain = rnn(x_of(values), state, lengths=lengths, return_states=True)
    assert all(type(leaf) is np.ndarray for leaf in leaves(tuple(plain)))
    equal(tuple(plain), tuple(out), 1e-14)


@each_wrapper
def test_padding_changes_nothing_even_if_it_is_nan(make):
    cell, x_of, values, _, state = drawn(make, 4, low=3)
    lengths = np.array([len(values) - 1] * values.shape[1])
    spoilt = values.copy()
    spoilt[-1] = np.nan
    rnn = tg.RNN(cell)
    short = rnn(x_of(values, slice(-1)), state)
    padded = rnn(x_of(spoilt), state, lengths=lengths)
    equal((padded.outputs[:-1], padded.last, padded.state), short[:1] + short[1:3], 1e-14)
    assert not padded.outputs.data[-1].any()
    equal(gradients(cell, padded.last), gradients(cell, short.last), 1e-13)


@each_wrapper
def test_a_reset_row_starts_again(make):
    cell, _, values, _, state = drawn(make, 5, low=4)
    cell.eval()  # so that the initial state is the same each time it is asked for
    reset = np.zeros(values.shape[:2], bool)
    reset[2, 0] = True
    out = tg.RNN(cell)(values, state, reset=reset)
    equal(out.outputs[2:, 0], tg.RNN(cell)(values[2:]).outputs[:, 0], 1e-14)
    equal(out.outputs[:, 1:], tg.RNN(cell)(values, state).outputs[:, 1:], 1e-14)


@each_wrapper
def test_one_sequence_is_a_batch_of_one_and_no_steps_are_steps(make):
    cell, x_of, values, _, state = drawn(make, 6, low=2)
    row = map_tree(lambda s: s[0], state)
    x = map_tree(lambda a: a[:, 0], x_of(values))
    equal(tg.RNN(cell)(x, row).outputs, tg.RNN(cell)(x_of(values), state).outputs[:, 0], 1e-14)
    none = tg.RNN(cell)(x_of(values, slice(0)), state)
    assert none.outputs.shape[:2] == (0, values.shape[1])
    equal(none.state, state)


@each_wrapper
def test_float32_stays_float32(make):
    cell, *_ = drawn(make, 7)
    cell.astype(np.float32)
    values = np.ones((3, 2, C), np.float32)
    x = (values, cell.draws(3, (2,), rng=0)) if cell.draw_size else values
    for training in (True, False):
        cell._set_training(training)
        out = tg.RNN(cell)(x, lengths=[3, 1])
        found = [*leaves(out.outputs), *leaves(out.state), *leaves(cell.initial_state())]
        assert {a.dtype for a in found} == {np.dtype(np.float32)}


@each_wrapper
def test_state_dict_goes_round(make):
    cell, x_of, values, _, state = drawn(make, 8, low=2)
    other = drawn(make, 9)[0]
    other.load_state_dict(cell.state_dict())
    equal(tg.RNN(other)(x_of(values), state)[:3], tg.RNN(cell)(x_of(values), state)[:3])
    assert list(other.named_parameters()) == list(cell.named_parameters())


def test_parameters_are_found_by_dotted_names():
    assert list(deep(np.random.default_rng(0)).named_parameters()) == [
        *[f"cells.0.cell.cell.{name}" for name in ("U", "V", "b", "b_n")],
        *[f"cells.1.cell.cell.{name}" for name in "UVb"],
        *[f"cells.2.cell.{name}" for name in "UVb"],
        *[f"cells.2.linear.{name}" for name in "Wb"],
    ]


@each_wrapper
def test_the_width_of_x_is_checked_by_the_layer(make):
    cell = drawn(make, 0)[0].eval()
    if not hasattr(cell, "inputs"):  # a user's cell that does not say it
        return
    assert cell.inputs == C
    with pytest.raises(errors.ShapeError, match=r"x has 7 features .* the cell expects 3"):
        tg.RNN(cell)(np.ones((2, 2, 7)))


# ----- Stacked -----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds)
def test_stacked_is_a_chain_of_rnns(seed):
    cell, _, values, lengths, state = drawn(MAKERS["Stacked"], seed)
    stacked, chain = tg.RNN(cell), tg.Chain(*[tg.RNN(each) for each in cell.cells])
    one = stacked(values, state, lengths=lengths)
    two = chain(values, state, lengths=lengths)
    equal(one[:3], two[:3], 1e-14)
    equal(gradients(cell, one[:3]), gradients(cell, two[:3]), 1e-12)
    streams = [layer.stream((values.shape[1],)) for layer in (stacked, chain)]
    for x in values:
        equal(*[stream.push(x) for stream in streams], 1e-14)


def test_a_cell_given_twice_shares_its_parameters_and_not_its_state():
    cell = tg.RNNCell(C, C, rng=0)
    twice = tg.Stacked(cell, cell)
    assert len(twice.parameters()) == 3
    first, second = tg.RNN(twice)(np.ones((2, 1, C))).state
    assert (first.data != second.data).all()


# ----- Readout and Residual ----------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds)
def test_readout_is_linear_after_the_rnn_except_in_padding(seed):
    cell, _, values, lengths, state = drawn(MAKERS["Readout"], seed)
    out = tg.RNN(cell)(values, state, lengths=lengths)
    inner = tg.RNN(cell.cell)(values, state, lengths=lengths)
    valid = np.arange(len(values))[:, None] < lengths
    after = cell.linear(inner.outputs) * valid[..., None]
    equal((out.outputs, out.state), (after, inner.state), 1e-14)
    equal(gradients(cell, out.outputs, out.state), gradients(cell, after, inner.state), 1e-12)


def test_generate_feeds_readouts_output_back():
    rng = np.random.default_rng(0)
    cell = tg.Readout(tg.Stacked(tg.GRUCell(2, 4, rng=rng), tg.RNNCell(4, 5, rng=rng)),
                      tg.Linear(5, 2, rng=rng))  # fmt: skip
    out = tg.generate(cell, np.ones((3, 2)), 4, lambda y, rng: y, rng=0)
    x, state = np.ones((3, 2)), cell.initial_state((3,))
    for t in range(4):
        x, state = cell(x, state)
        equal(out.outputs[t], x)
    equal(out.state, state)


@settings(max_examples=20)
@given(seeds)
def test_residual_adds_x_and_leaves_the_state(seed):
    cell, _, values, lengths, state = drawn(MAKERS["Residual"], seed)
    out = tg.RNN(cell)(values, state, lengths=lengths)
    inner = tg.RNN(cell.cell)(values, state, lengths=lengths)
    valid = np.arange(len(values))[:, None] < lengths
    equal(out.outputs, inner.outputs.data + values * valid[..., None], 1e-15)
    equal(out.state, inner.state)


# ----- Zoneout -----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds, st.booleans())
def test_zoneout_keeps_what_is_drawn_below_p_and_takes_the_rest(seed, user):
    make = MAKERS["Zoneout of a user's cell" if user else "Zoneout"]
    cell, x_of, values, _, state = drawn(make, seed, low=1)
    _, draws = x = x_of(values, 0)
    output, new = cell(x, state)
    inner_output, inner = cell.cell(values[0], state)
    size = len(values[0])
    kept = np.concatenate([np.reshape(s, (size, -1)) for s in leaves(state)], axis=1)
    fresh = np.concatenate([np.reshape(s.data, (size, -1)) for s in leaves(inner)], axis=1)
    zoned = np.concatenate([np.reshape(s.data, (size, -1)) for s in leaves(new)], axis=1)
    p = np.repeat(cell.p, cell.sizes)
    np.testing.assert_array_equal(zoned, np.where(draws < p, kept, fresh))
    # LSTM's output is its h, so it is h after zoneout; the user's is not part of the state
    equal(output, inner_output if user else new[0])


@given(seeds)
@settings(max_examples=20)
def test_zoneout_with_p_0_is_the_cell_and_with_p_1_never_moves(seed):
    for p, training in [(0, True), (0, False), (1, True), (1, False)]:
        make = lambda rng, p=p: tg.Zoneout(tg.LSTMCell(C, 2, rng=rng), p)
        cell, x_of, values, lengths, state = drawn(make, seed)
        cell._set_training(training)
        out = tg.RNN(cell)(x_of(values), state, lengths=lengths)
        if p:
            equal(out.state, state)
        else:
            equal(out[:3], tg.RNN(cell.cell)(values, state, lengths=lengths)[:3])


def test_zoneout_in_eval_mode_is_the_mean_over_draws():
    cell, _, values, _, state = drawn(MAKERS["Zoneout"], 1, low=1)
    rng, count = np.random.default_rng(0), 40_000
    x, row = values[0, :1].repeat(count, 0), map_tree(lambda s: s[:1].repeat(count, 0), state)
    _, new = cell((x, cell.draws(1, (count,), rng)[0]), row)
    cell.eval()
    _, expected = cell(x[:1], map_tree(lambda s: s[:1], row))
    equal(map_tree(lambda s: s.data.mean(0), new), map_tree(lambda s: s.data[0], expected), 0.02)
    ignored = cell((x[:1], np.zeros((1, 4))), map_tree(lambda s: s[:1], row))[1]
    equal(ignored, expected)


def test_each_zoneout_in_a_nest_has_its_own_draws():
    cell, x_of, values, _, state = drawn(MAKERS["deep"], 3, low=1)
    assert cell.draw_size == 3 + (4 + 4)
    _, draws = x_of(values, 0)
    result = cell((values[0], draws), state)[1]
    for column in range(cell.draw_size):  # 0 is below every p, and 1 above
        low, high = draws.copy(), draws.copy()
        low[:, column], high[:, column] = 0, 1
        kept, moved = (cell((values[0], d), state)[1] for d in (low, high))
        flat = [np.concatenate([np_of(a) for a in leaves(s)[:3]], axis=1) for s in (kept, moved)]
        assert (flat[0] != flat[1])[:, column].all()
        other = leaves(result)[1 if column < 3 else 0].shape
        assert other[0] == len(values[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_draws_are_in_0_1_repeatable_and_of_the_parameters_dtype(dtype):
    cell = tg.Zoneout(tg.LSTMCell(C, 4, rng=0, dtype=dtype), 0.5)
    draws = cell.draws(500, (20,), rng=1)
    assert (draws.shape, draws.dtype) == ((500, 20, 8), np.dtype(dtype))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean(dtype=float) - 0.5) < 0.005
    np.testing.assert_array_equal(draws, cell.draws(500, (20,), rng=np.random.default_rng(1)))


def test_a_draw_equal_to_p_takes_the_new_value():
    cell = tg.Zoneout(tg.RNNCell(C, 4, rng=0), 0.5)
    x, state = np.ones((2, C)), cell.initial_state((2,))
    equal(cell((x, np.full((2, 4), 0.5)), state), cell.cell(x, state))


def test_a_zoneout_in_a_zoneout_takes_the_columns_after_the_outer_ones():
    cell = tg.Zoneout(tg.Zoneout(tg.RNNCell(C, 4, rng=0), 0.5), 0.5)
    x, state = np.ones((2, C)), cell.initial_state((2,)) + 0.5
    draws = np.ones((2, 8))
    draws[:, 4:6] = 0  # the inner one keeps two elements, the outer one none
    _, new = cell((x, draws), state)
    np.testing.assert_array_equal(new.data == 0.5, [[True, True, False, False]] * 2)


def test_without_zoneout_a_tuple_goes_to_the_first_cell_as_it_is():
    class Gaps(tg.Cell):
        state_shape = (C,)

        def step(self, x, state):
            values, gap = x
            return np.tanh(values) + state * np.exp(-gap)

    cell = tg.Stacked(Gaps(), tg.RNNCell(C, 2, rng=0, dtype=np.float32))
    assert [s.dtype for s in cell.initial_state()] == [np.float32] * 2  # though Gaps has none
    x = np.ones((4, 2, C)), np.ones((4, 2, 1))
    first = tg.RNN(cell.cells[0])(x).outputs
    equal(tg.RNN(cell)(x).outputs, tg.RNN(cell.cells[1])(first).outputs, 1e-14)


# ----- VariationalDropout ------------------------------------------------------------------------


@settings(max_examples=20)
@given(seeds)
def test_dropout_multiplies_x_and_h_by_the_same_masks_at_all_steps(seed):
    cell, _, values, _, (_, x_mask, h_mask) = drawn(MAKERS["VariationalDropout"], seed, low=1)
    h, c = cell.cell.initial_state((values.shape[1],))
    start = ((h, c), x_mask, h_mask)
    out = tg.RNN(cell)(values, start, return_states=True)
    for t, x in enumerate(values):
        y, (h, c) = cell.cell(x * x_mask, (h * h_mask, c))
        equal((out.outputs[t], out.states[0][0][t], out.states[0][1][t]), (y, h, c), 1e-14)
        equal((out.states[1][t], out.states[2][t]), (x_mask, h_mask))


def test_masks_are_new_in_each_initial_state_and_the_same_for_the_same_rng():
    def two(rng):
        cell = tg.VariationalDropout(tg.GRUCell(20, 30, rng=0), 0.25, p_state=0.5, rng=rng)
        return cell.initial_state((40,))[1:], cell.initial_state((40,))[1:]

    first, second = two(1)
    assert all((a != b).any() for a, b in zip(first, second, strict=True))
    equal((first, second), two(np.random.default_rng(1)))
    for mask, p in zip(first, (0.25, 0.5), strict=True):
        assert set(np.unique(mask)) == {0, 1 / (1 - p)}
        assert abs((mask == 0).mean() - p) < 0.06


def test_a_reset_row_gets_the_masks_of_the_calls_initial_state():
    make = lambda: tg.VariationalDropout(tg.RNNCell(20, 30, rng=0), 0.5, rng=1)
    cell, same = make(), make()
    given_state, fresh = cell.initial_state((2,)), [same.initial_state((2,)) for _ in range(2)][1]
    reset = np.array([[False, False], [False, True]])
    out = tg.RNN(cell)(np.ones((2, 2, 20)), given_state, reset=reset)
    for mask, before, after in zip(out.state[1:], given_state[1:], fresh[1:], strict=True):
        equal((mask[0], mask[1]), (before[0], after[1]))
        assert (before[1] != after[1]).any()


def test_in_eval_mode_there_is_no_dropout_whatever_the_state():
    cell, _, values, _, masked = drawn(MAKERS["VariationalDropout"], 2, low=2)
    cell.eval()
    expected = tg.RNN(cell.cell)(values).outputs
    _, x_mask, h_mask = cell.initial_state((values.shape[1],))
    assert (x_mask == 1).all()
    assert (h_mask == 1).all()
    equal(tg.RNN(cell)(values).outputs, expected)
    equal(tg.RNN(cell)(values, (cell.cell.initial_state((len(x_mask),)), *masked[1:])).outputs,
          expected)  # fmt: skip


def test_truncation_cuts_the_state_and_keeps_the_masks():
    cell, _, values, _, state = drawn(MAKERS["VariationalDropout"], 3, low=4)
    whole, cut = (tg.RNN(cell)(values, state, truncate=k) for k in (None, 2))
    equal(cut[:3], whole[:3])
    grads = [gradients(cell, out.last) for out in (whole, cut)]
    assert (grads[0][1] != grads[1][1]).any()


# ----- errors ------------------------------------------------------------------------------------

RNN3 = tg.RNNCell(C, 4, rng=0)
SHAPE, CELL = errors.ShapeError, errors.CellError
MISUSES = [
    (CELL, r"Stacked needs cells: tg\.Stacked\(", lambda: tg.Stacked()),
    (CELL, r"Stacked takes a cell, .*got \[RNNCell", lambda: tg.Stacked([RNN3])),
    (CELL, r"Readout takes a cell", lambda: tg.Readout(tg.RNN(RNN3), tg.Linear(4, 2, rng=0))),
    (CELL, r"Readout\(RNNCell\) takes a layer for the output.*got 3", lambda: tg.Readout(RNN3, 3)),
    (SHAPE, r"Stacked\(RNNCell, RNNCell\): cell 1, RNNCell, expects 3 features, and .* has 4",
     lambda: tg.RNN(tg.Stacked(RNN3, RNN3))(np.ones((2, 2, C)))),
    (SHAPE, r"Residual\(RNNCell\) adds x .*x has \(2, 3\), the output \(2, 4\)",
     lambda: tg.RNN(tg.Residual(RNN3))(np.ones((2, 2, C)))),
    (SHAPE, r"Residual\(RNNCell\).*x has \(2, 1\), the output \(2, 4\)",
     lambda: tg.RNN(tg.Residual(tg.RNNCell(1, 4, rng=0)))(np.ones((2, 2, 1)))),
    (SHAPE, r"Zoneout\(RNNCell\): p=1\.5, a probability, must be in \[0, 1\]",
     lambda: tg.Zoneout(RNN3, 1.5)),
    (SHAPE, r"p='a', a prob", lambda: tg.Zoneout(RNN3, "a")),
    (SHAPE, r"p=nan, a prob", lambda: tg.Zoneout(RNN3, float("nan"))),
    (SHAPE, r"p=\(0\.1, 0\.2\) has 2 numbers, the state 1 arrays",
     lambda: tg.Zoneout(RNN3, (0.1, 0.2))),
    (CELL, r"Zoneout\(RNNCell\): in training, x is a tuple \(values, draws\).*\.eval\(\)",
     lambda: tg.RNN(tg.Zoneout(RNN3, 0.5))(np.ones((2, 2, C)))),
    (SHAPE, r"Zoneout\(RNNCell\): .*draws has 4 numbers.*got shapes \(2, 3\) and \(2, 3\)\. Make",
     lambda: tg.RNN(tg.Zoneout(RNN3, 0.5))((np.ones((2, 2, C)), np.ones((2, 2, 3))))),
    (SHAPE, r"Zoneout\(RNNCell\): in x = \(values, draws\)",
     lambda: tg.Zoneout(RNN3, 0.5)((np.ones((2, C)), np.ones((2, 4)), 0), np.ones((2, 4)))),
    (SHAPE, r"Stacked\(Zoneout\(RNNCell\)\): .*draws has 4 numbers.*\(2, 5\)",
     lambda: tg.RNN(tg.Stacked(tg.Zoneout(RNN3, 0.5)))((np.ones((2, 2, C)), np.ones((2, 2, 5))))),
    (CELL, r"Residual\(RNNCell\) has no Zoneout", lambda: tg.Residual(RNN3).draws(2, (), 0)),
    (errors.RngError, "rng=None", lambda: tg.Zoneout(RNN3, 0.5).draws(2, (3,))),
    (errors.RngError, "rng=None", lambda: tg.VariationalDropout(RNN3, 0.5)),
    (SHAPE, r"VariationalDropout\(RNNCell\): p=1, a probability, must be in \[0, 1\)",
     lambda: tg.VariationalDropout(RNN3, 1, rng=0)),
    (SHAPE, r"p_state=-1", lambda: tg.VariationalDropout(RNN3, 0.5, -1, rng=0)),
    (CELL, r"VariationalDropout\(Mixed\): the mask of x needs its width, .*pass inputs=",
     lambda: tg.VariationalDropout(Mixed(C, 2, 0), 0.5, rng=0)),
    (SHAPE, r"VariationalDropout\(Mixed\): x has shape \(2, 3\), its mask \(2, 1\)",
     lambda: tg.VariationalDropout(Mixed(C, 2, 0), 0.5, inputs=1, rng=0)(
         np.ones((2, C)), tg.VariationalDropout(Mixed(C, 2, 0), 0.5, inputs=1, rng=0)
         .initial_state((2,)))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "misuse"), MISUSES)
def test_errors_say_which_cell_and_what_to_do(kind, text, misuse):
    with pytest.raises(kind, match=text):
        misuse()
