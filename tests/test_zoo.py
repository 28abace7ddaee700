"""The zoo: every cell against its formula written out again, and the laws that all cells obey."""

import inspect
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing, zoo
from tinygrad_rnn.nests import leaves, map_tree

C, H = 2, 4
ZOO = {
    "PeepholeLSTM": lambda **o: zoo.PeepholeLSTM(C, H, **o),
    "CoupledLSTM": lambda **o: zoo.CoupledLSTM(C, H, **o),
    "ProjectionLSTM": lambda **o: zoo.ProjectionLSTM(C, H, 3, **o),
    "MultiplicativeLSTM": lambda **o: zoo.MultiplicativeLSTM(C, H, **o),
    "LayerNormLSTM": lambda **o: zoo.LayerNormLSTM(C, H, **o),
    "SLSTM": lambda **o: zoo.SLSTM(C, H, **o),
    "JANET": lambda **o: zoo.JANET(C, H, **o),
    "LayerNormGRU": lambda **o: zoo.LayerNormGRU(C, H, **o),
    "MGU": lambda **o: zoo.MGU(C, H, **o),
    "UGRNN": lambda **o: zoo.UGRNN(C, H, **o),
    "LiGRU": lambda **o: zoo.LiGRU(C, H, **o),
    "MinGRU": lambda **o: zoo.MinGRU(C, H, **o),
    "MinLSTM": lambda **o: zoo.MinLSTM(C, H, **o),
    "MinimalRNN": lambda **o: zoo.MinimalRNN(C, H, **o),
    "NBRC": lambda **o: zoo.NBRC(C, H, **o),
    "FastGRNN": lambda **o: zoo.FastGRNN(C, H, **o),
    "IRNN": lambda **o: zoo.IRNN(C, H, **o),
    "IndRNN": lambda **o: zoo.IndRNN(C, H, **o),
    "AntisymmetricRNN": lambda **o: zoo.AntisymmetricRNN(C, H, **o),
    "CoRNN": lambda **o: zoo.CoRNN(C, H, **o),
    "LinearStateRNN": lambda **o: zoo.LinearStateRNN(C, H, **o),
    "Clockwork": lambda **o: zoo.Clockwork(C, H, (1, 3), **o),
    "CfC": lambda **o: zoo.CfC(C, H, **o),
}
each_cell = pytest.mark.parametrize("name", ZOO)


def rows_of(name, x, gaps):
    """What the cell takes as x."""
    return (x, gaps) if name == "CfC" else x


def drawn(name, seed, steps=5, dtype=np.float64):
    """A cell with no parameter at its starting value, x, ragged lengths and a state."""
    rng = np.random.default_rng(seed)
    cell = ZOO[name](rng=rng, dtype=dtype)
    for p in cell.parameters():
        p.data = (p.data + rng.normal(size=p.shape) / 2).astype(dtype)
    x = rng.normal(size=(steps, 3, C)).astype(dtype)
    x = rows_of(name, x, rng.uniform(0.1, 2, (steps, 3, 1)).astype(dtype))
    start = cell.initial_state((3,))
    state = map_tree(lambda s: rng.normal(size=s.shape).astype(s.dtype), start)
    if name == "SLSTM":  # weights so far are positive
        state = (*state[:2], np.abs(state[2]) + 1, state[3])
    if name == "Clockwork":  # a whole number, another for each row
        state = (state[0], np.arange(3, dtype=dtype)[:, None])
    return cell, x, np.array([steps, 2, 0]), state


def close(ours, expected, atol=1e-13):
    for a, b in zip(leaves(ours), leaves(expected), strict=True):
        np.testing.assert_allclose(plain(a), plain(b), rtol=1e-12, atol=atol)


def plain(a):
    return a.data if isinstance(a, tg.Tensor) else a


def test_every_cell_of_the_zoo_is_tested():
    found = {n for n, v in vars(zoo).items() if inspect.isclass(v) and v.__module__ == zoo.__name__}
    assert {n for n in found if n[0] != "_"} == set(ZOO)
    assert {type(make(rng=0)).__name__ for make in ZOO.values()} == set(ZOO)


# ----- The formulas, written out again -----------------------------------------------------------


def sig(a):
    return 1 / (1 + np.exp(-a))


def norm(a):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)


def gate(p, k):
    """a -> (a U + h V + b)[gate number k], for one gate at a time."""
    cut = slice(k * H, (k + 1) * H)
    return lambda x, h: x @ p["U"][:, cut] + h @ p["V"][:, cut] + p["b"][cut]


def gates(p, x, h, count):
    return [gate(p, k)(x, h) for k in range(count)]


def peephole(p, x, state):
    h, c = state
    i, f, g, o = gates(p, x, h, 4)
    pi, pf, po = p["p"][:H], p["p"][H : 2 * H], p["p"][2 * H :]
    new = sig(f + pf * c) * c + sig(i + pi * c) * np.tanh(g)
    y = sig(o + po * new) * np.tanh(new)
    return y, (y, new)


def coupled(p, x, state):
    h, c = state
    i, g, o = gates(p, x, h, 3)
    new = c + sig(i) * (np.tanh(g) - c)
    y = sig(o) * np.tanh(new)
    return y, (y, new)


def lstm(p, x, m, c):
    i, f, g, o = gates(p, x, m, 4)
    new = sig(f) * c + sig(i) * np.tanh(g)
    return sig(o) * np.tanh(new), new


def projection(p, x, state):
    y, c = lstm(p, x, *state)
    return y @ p["P"], (y @ p["P"], c)


def multiplicative(p, x, state):
    y, c = lstm(p, x, (x @ p["U_m"]) * (state[0] @ p["V_m"]), state[1])
    return y, (y, c)


def layer_norm_lstm(p, x, state):
    h, c = state
    a = norm(x @ p["U"]) * p["gain_x"] + norm(h @ p["V"]) * p["gain_h"] + p["b"]
    i, f, g, o = a[:, :H], a[:, H : 2 * H], a[:, 2 * H : 3 * H], a[:, 3 * H :]
    c = sig(f) * c + sig(i) * np.tanh(g)
    y = sig(o) * np.tanh(norm(c) * p["gain_c"] + p["b_c"])
    return y, (y, c)


def layer_norm_gru(p, x, h):
    xs, hs, cut = x @ p["U"], h @ p["V"], 2 * H
    both = norm(xs[:, :cut]) * p["gain_x"][:cut] + norm(hs[:, :cut]) * p["gain_h"][:cut]
    r, z = sig(both + p["b"][:cut])[:, :H], sig(both + p["b"][:cut])[:, H:]
    n = norm(xs[:, cut:]) * p["gain_x"][cut:] + p["b"][cut:]
    n = np.tanh(n + r * (norm(hs[:, cut:]) * p["gain_h"][cut:] + p["b_n"]))
    h = n + z * (h - n)
    return h, h


def slstm(p, x, state):
    h, c, n, m = state
    i, f, z, o = gates(p, x, h, 4)
    c, n = c * np.exp(m), n * np.exp(m)  # as if nothing had to be kept small
    c, n = sig(f) * c + np.exp(i) * np.tanh(z), sig(f) * n + np.exp(i)
    m = np.where(state[2] == 0, i, np.maximum(np.log(sig(f)) + m, i))
    y = sig(o) * c / n
    return y, (y, c / np.exp(m), n / np.exp(m), m)


def janet(p, x, h):
    f, g = gates(p, x, h, 2)
    h = sig(f) * h + (1 - sig(f - 1)) * np.tanh(g)
    return h, h


def mgu(p, x, h):
    f = sig(gate(p, 0)(x, h))
    h = h + f * (np.tanh(gate(p, 1)(x, f * h)) - h)
    return h, h


def ugrnn(p, x, h):
    g, c = gates(p, x, h, 2)
    h = sig(g) * h + sig(-g) * np.tanh(c)
    return h, h


def li_gru(p, x, h):
    z, n = gates(p, x, h, 2)
    h = sig(z) * h + sig(-z) * np.maximum(n, 0)
    return h, h


def min_gru(p, x, h):
    a = x @ p["U"] + p["b"]
    h = sig(-a[:, :H]) * h + sig(a[:, :H]) * a[:, H:]
    return h, h


def min_lstm(p, x, h):
    a = x @ p["U"] + p["b"]
    f, i = sig(a[:, :H]), sig(a[:, H : 2 * H])
    h = f / (f + i) * h + i / (f + i) * a[:, 2 * H :]
    return h, h


def minimal(p, x, h):
    z = np.tanh(x @ p["U"] + p["b_z"])
    u = sig(h @ p["V"] + z @ p["W"] + p["b"])
    return z + u * (h - z), z + u * (h - z)


def nbrc(p, x, h):
    inputs = x @ p["U"] + p["b"]
    a = 1 + np.tanh(inputs[:, :H] + h @ p["V"][:, :H])
    c = sig(inputs[:, H : 2 * H] + h @ p["V"][:, H:])
    n = np.tanh(inputs[:, 2 * H :] + a * h)
    return n + c * (h - n), n + c * (h - n)


def fast_grnn(p, x, h):
    a = x @ p["U"] + h @ p["V"]
    z, n = sig(a + p["b_z"]), np.tanh(a + p["b_n"])
    h = (sig(p["zeta"]) * (1 - z) + sig(p["nu"])) * n + z * h
    return h, h


def irnn(p, x, h):
    h = np.maximum(x @ p["U"] + h @ p["V"] + p["b"], 0)
    return h, h


def ind_rnn(p, x, h):
    h = np.maximum(x @ p["U"] + h @ np.diag(p["v"]) + p["b"], 0)
    return h, h


def antisymmetric(p, x, h):
    V = p["V"] - p["V"].T - 0.01 * np.eye(H)
    h = h + 0.1 * np.tanh(x @ p["U"] + h @ V + p["b"])
    return h, h


def co_rnn(p, x, state):
    y, z = state
    force = np.tanh(x @ p["U"] + y @ p["V"] + z @ p["W"] + p["b"]) - y - z
    return y + 0.1 * (z + 0.1 * force), (y + 0.1 * (z + 0.1 * force), z + 0.1 * force)


def linear_state(p, x, z):
    z = x @ p["U"] + z @ p["V"] + p["b"]
    return np.tanh(z), z


def clockwork(p, x, state):
    h, clock = state
    new = h.copy()
    for row in range(len(h)):
        for unit in range(H):
            period = (1, 3)[unit >= H // 2]
            if int(clock[row, 0]) % period == 0:
                a = x[row] @ p["U"][:, unit] + p["b"][unit]
                for other in range(H):
                    if (1, 3)[other >= H // 2] >= period:
                        a = a + h[row, other] * p["V"][other, unit]
                new[row, unit] = np.tanh(a)
    return new, (new, (clock + 1) % 3)


def cfc(p, x, h):
    f, g, a, d = gates(p, x[0], h, 4)
    u = sig(a * x[1] + d)
    h = np.tanh(f) + u * (np.tanh(g) - np.tanh(f))
    return h, h


FORMULAS = {
    "PeepholeLSTM": peephole, "CoupledLSTM": coupled, "ProjectionLSTM": projection,
    "MultiplicativeLSTM": multiplicative, "LayerNormLSTM": layer_norm_lstm, "SLSTM": slstm,
    "JANET": janet, "LayerNormGRU": layer_norm_gru, "MGU": mgu, "UGRNN": ugrnn, "LiGRU": li_gru,
    "MinGRU": min_gru, "MinLSTM": min_lstm, "MinimalRNN": minimal, "NBRC": nbrc,
    "FastGRNN": fast_grnn, "IRNN": irnn, "IndRNN": ind_rnn, "AntisymmetricRNN": antisymmetric,
    "CoRNN": co_rnn, "LinearStateRNN": linear_state, "Clockwork": clockwork, "CfC": cfc,
}  # fmt: skip


@each_cell
def test_step_is_its_formula(name):
    for seed in range(3):
        cell, x, _, state = drawn(name, seed)
        for t in range(len(leaves(x)[0])):  # on, from the state the formula gave
            x_t = map_tree(lambda a, t=t: a[t], x)
            expected = FORMULAS[name](cell.state_dict(), x_t, state)
            close(cell(x_t, state), expected)
            state = expected[1]


# ----- Laws of all cells -------------------------------------------------------------------------


@each_cell
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_over_ragged_batches(name, seed):
    cell, x, lengths, state = drawn(name, seed, steps=5 - 2 * seed)
    layer = tg.RNN(cell, reverse=bool(seed))

    def run(x, state):
        out = layer(x, state, lengths=lengths)
        return out.outputs, out.last, out.state

    testing.check_grads(run, x, state, directions=2)


@each_cell
def test_streamed_is_whole(name):
    cell, x, _, _ = drawn(name, 2)
    layer = tg.RNN(cell)
    whole, stream = layer(x), layer.stream((3,))
    pushed = [stream.push(map_tree(lambda a, t=t: a[t], x)) for t in range(2)]
    rest = stream.push(map_tree(lambda a: a[2:], x))
    close(np.concatenate([np.stack(pushed), rest]), whole.outputs)
    close(stream.state, whole.state)


@each_cell
def test_rows_of_a_batch_are_independent(name):
    cell, x, lengths, state = drawn(name, 3)
    layer = tg.RNN(cell)
    together = layer(x, state, lengths=lengths)
    for n, length in enumerate(lengths):
        row = map_tree(lambda a, n=n, k=length: a[:k, n], x)
        alone = layer(row, map_tree(lambda s, n=n: s[n], state))
        close(alone.outputs, together.outputs[:length, n])
        close(alone.state, map_tree(lambda s, n=n: s[n], together.state))


@each_cell
def test_float32_stays_float32_and_shapes_stay(name):
    cell, x, lengths, state = drawn(name, 4, dtype=np.float32)
    for start in (None, state):
        out = tg.RNN(cell)(x, start, lengths=lengths)
        assert {a.dtype for a in (*out[:2], *leaves(out.state))} == {np.dtype(np.float32)}
        assert [a.shape for a in leaves(out.state)] == [a.shape for a in leaves(state)]
        width = 3 if name == "ProjectionLSTM" else H
        assert (out.outputs.shape, out.last.shape) == ((5, 3, width), (3, width))
    wide = map_tree(lambda a: a.astype(np.float64), (x, state))
    close(out.outputs, tg.RNN(cell.astype(np.float64))(*wide, lengths=lengths).outputs, atol=2e-5)


def gradients(cell, x, **options):
    """Of the inputs and Parameters, as one list."""
    x = map_tree(lambda a: tg.Tensor(a, requires_grad=True), x)
    out = tg.RNN(cell)(x, **options)
    cell.zero_grad()
    np.sum(out.outputs).backward()
    return [a.grad for a in (*leaves(x), *cell.parameters())]


@each_cell
def test_derivatives_are_finite_at_zero_and_far_out(name):
    for dtype in (np.float64, np.float32):
        cell = ZOO[name](rng=0, dtype=dtype)
        for scale in (0, 1, -3000):
            x = np.full((4, 2, C), scale, dtype)
            x = rows_of(name, x, np.abs(x[..., :1]))
            assert all(np.isfinite(g).all() for g in gradients(cell, x)), scale


@each_cell
def test_nan_in_padding_reaches_nothing(name):
    cell, x, lengths, _ = drawn(name, 5)
    padding = np.arange(5)[:, None, None] >= lengths[:, None]
    dirty = map_tree(lambda a: np.where(padding, np.nan, a), x)
    for ours, expected in zip(
        gradients(cell, dirty, lengths=lengths), gradients(cell, x, lengths=lengths), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


@each_cell
def test_the_same_seed_makes_the_same_cell_and_none_is_an_error(name):
    first, second = (ZOO[name](rng=7).state_dict() for _ in range(2))
    assert all((first[key] == second[key]).all() for key in first)
    with pytest.raises(errors.RngError):
        ZOO[name]()
    with pytest.raises(TypeError):
        ZOO[name](rng=0, forgetbias=1)


@each_cell
def test_each_gate_starts_orthogonal_and_gates_have_names(name):
    cell = ZOO[name](rng=0)
    count = len(getattr(cell, "gates", "-"))
    assert cell.U.shape == (C, count * H)
    assert cell.inputs == C
    if hasattr(cell, "V"):
        for block in np.split(cell.V.data, cell.V.shape[1] // H, axis=1):
            np.testing.assert_allclose(block @ block.T, np.eye(len(block)), atol=1e-14)


@each_cell
def test_docstring_has_formula_parameters_and_paper(name):
    text = inspect.getdoc(getattr(zoo, name))
    assert "Parameters: " in text or "parameters as for" in text
    assert "arXiv:" in text or "tutorial" in text
    for parameter in ZOO[name](rng=0).named_parameters():
        assert re.search(rf"\b{parameter}\s\(", text), parameter
    assert "State: " in text


# ----- What single cells promise -----------------------------------------------------------------


def closed(keep, write, h0):
    """h_T = prod keep_t h_0 + sum_t (prod of the keeps after t) write_t, without a recurrence."""
    after = [np.prod(keep[t + 1 :], axis=0) for t in range(len(keep))]
    return np.prod(keep, axis=0) * h0 + sum(a * w for a, w in zip(after, write, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_min_gru_and_min_lstm_have_closed_forms(seed):
    cell, x, _, h0 = drawn("MinGRU", seed)
    a = x @ cell.U.data + cell.b.data
    z, n = sig(a[..., :H]), a[..., H:]
    close(tg.RNN(cell)(x, h0).last, closed(1 - z, z * n, h0))

    cell, x, _, h0 = drawn("MinLSTM", seed)
    a = x @ cell.U.data + cell.b.data
    f, i, n = sig(a[..., :H]), sig(a[..., H : 2 * H]), a[..., 2 * H :]
    close(tg.RNN(cell)(x, h0).last, closed(f / (f + i), i / (f + i) * n, h0))


def test_slstm_is_the_average_of_what_exponentials_weigh():
    cell, x, _, _ = drawn("SLSTM", 6)
    out = tg.RNN(cell)(x)
    h, c, n = np.zeros((3, H)), 0, 0
    for t in range(5):
        i, f, z, o = gates(cell.state_dict(), x[t], h, 4)
        c, n = sig(f) * c + np.exp(i) * np.tanh(z), sig(f) * n + np.exp(i)
        h = sig(o) * c / n
        close(out.outputs[t], h)
    assert (out.state[2].data >= 1).all()


def test_slstm_overrules_what_came_before_however_large():
    cell = zoo.SLSTM(1, 1, rng=0)
    cell.U.data, cell.V.data = np.array([[1.0, 0, 0, 0]]), np.zeros((1, 4))
    cell.b.data = np.array([0, 5.0, 0.5, 0])
    x = np.array([-900.0, 900, 1800])[:, None, None]
    outputs = tg.RNN(cell)(x).outputs.data  # sigmoid(0) tanh(0.5) each time
    np.testing.assert_allclose(outputs, np.full((3, 1, 1), np.tanh(0.5) / 2))


def test_the_clock_has_no_gradient_and_starts_over():
    cell, x, _, _ = drawn("Clockwork", 7)
    layer = tg.RNN(cell, train_state=True)
    out = layer(x)
    np.testing.assert_array_equal(out.state[1].data, np.full((3, 1), 5 % 3))
    (np.sum(out.outputs) + np.sum(out.state[1])).backward()
    h, clock = layer.start
    assert clock.grad is None
    assert np.abs(h.grad).max() > 0


def test_slow_clockwork_units_keep_still_between_their_steps():
    cell, x, _, _ = drawn("Clockwork", 8, steps=7)
    h = tg.RNN(cell)(x).outputs.data
    changed = (np.diff(h, axis=0) != 0).all(axis=1)
    assert changed[:, :2].all()
    assert changed[:, 2:].all(axis=1).tolist() == [False, False, True, False, False, True]
    assert not changed[[0, 1, 3, 4], 2:].any()


def test_nbrc_keeps_a_bit_where_it_feeds_itself_strongly():
    cell = zoo.NBRC(1, 1, rng=0)
    cell.U.data, cell.V.data = np.zeros((1, 3)), np.zeros((1, 2))
    x, start = np.zeros((500, 2, 1)), np.array([[0.1], [-0.1]])
    for a, kept in ((0.5, False), (1.5, True)):
        cell.b.data = np.array([np.arctanh(a - 1), 0, 0])
        h = tg.RNN(cell)(x, start).last.data
        assert (np.sign(h) == np.sign(start)).all()
        assert (np.abs(h) > 0.5).all() if kept else (np.abs(h) < 1e-9).all()


def test_irnn_starts_by_remembering():
    cell, h = zoo.IRNN(C, H, rng=0), np.arange(4.0)
    close(tg.RNN(cell)(np.zeros((9, 1, C)), h[None]).last, h[None])


def test_linear_state_rnn_carries_what_has_seen_no_phi():
    cell, x, _, z0 = drawn("LinearStateRNN", 9)
    U, V, b = (p.data for p in (cell.U, cell.V, cell.b))
    power = np.linalg.matrix_power
    z = z0 @ power(V, 5) + sum((x[t] @ U + b) @ power(V, 4 - t) for t in range(5))
    out = tg.RNN(cell)(x, z0)
    close(out.state, z)
    close(out.last, np.tanh(z))


def test_layer_norm_cells_do_not_see_the_size_of_their_input():
    for name in ("LayerNormLSTM", "LayerNormGRU"):
        cell, x, _, state = drawn(name, 10)
        close(tg.RNN(cell)(1e8 * x, state).last, tg.RNN(cell)(1e9 * x, state).last)


def test_gates_that_remember_start_open():
    for name in ("PeepholeLSTM", "ProjectionLSTM", "MultiplicativeLSTM", "LayerNormLSTM", "SLSTM",
                 "JANET", "MinLSTM"):  # fmt: skip
        cell = ZOO[name](rng=0)
        starts = dict(zip(cell.gates, np.split(cell.b.data, len(cell.gates)), strict=True))
        assert {key: set(b) for key, b in starts.items()} == {
            key: {1.0 if key == "f" else 0.0} for key in cell.gates
        }
    assert zoo.CoupledLSTM(C, H, 2.0, rng=0).b.data.tolist() == [-2.0] * H + [0.0] * 2 * H


def test_errors_say_what_to_give():
    with pytest.raises(errors.ShapeError, match=r"periods=.*equal groups"):
        zoo.Clockwork(C, 5, (1, 2), rng=0)
    for periods in ((), (0, 1)):
        with pytest.raises(errors.ShapeError, match="periods="):
            zoo.Clockwork(C, 4, periods, rng=0)
    for projected in (0, 5):
        with pytest.raises(errors.ShapeError, match=r"projected=.*1\.\.4"):
            zoo.ProjectionLSTM(C, H, projected, rng=0)
    with pytest.raises(errors.CellError, match="pair of arrays"):
        tg.RNN(zoo.CfC(C, H, rng=0))(np.ones((5, 2, C)))
    with pytest.raises(errors.ShapeError, match="MGU"):
        tg.RNN(zoo.MGU(C, H, rng=0))(np.ones((5, 2, C + 1)))


def test_projection_lstm_is_pytorchs():
    torch = pytest.importorskip("torch")
    cell, x, _, (h, c) = drawn("ProjectionLSTM", 11)
    theirs = torch.nn.LSTM(C, H, proj_size=3).double()
    pairs = (("weight_ih_l0", cell.U.data.T), ("weight_hh_l0", cell.V.data.T),
             ("bias_ih_l0", cell.b.data), ("bias_hh_l0", 0 * cell.b.data),
             ("weight_hr_l0", cell.P.data.T))  # fmt: skip
    with torch.no_grad():
        for name, array in pairs:
            getattr(theirs, name).copy_(torch.tensor(array.copy()))
    x_t = torch.tensor(x, requires_grad=True)
    outputs, (h_t, c_t) = theirs(x_t, (torch.tensor(h[None]), torch.tensor(c[None])))
    x = tg.Tensor(x, requires_grad=True)
    out = tg.RNN(cell)(x, (h, c))
    (outputs**2).sum().backward()
    np.sum(out.outputs**2).backward()
    close((out.outputs, *out.state), tuple(a.detach().numpy() for a in (outputs, h_t[0], c_t[0])))
    close(x.grad, x_t.grad.numpy())
    for name, p in (("weight_ih_l0", cell.U), ("weight_hh_l0", cell.V), ("weight_hr_l0", cell.P)):
        close(p.grad.T, getattr(theirs, name).grad.numpy())
    close(cell.b.grad, theirs.bias_ih_l0.grad.numpy())
