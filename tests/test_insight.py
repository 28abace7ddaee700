"""What gradients do along time: sums that are exact, and derivatives against finite differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
import tinygrad_rnn.nests

C, H = 2, 3


class Skew(tg.Cell):
    """Its weight is made of another one at each step."""

    def __init__(self, inputs, hidden, rng):
        rng = tg.init.generator(rng)
        self.inputs, self.state_shape = inputs, (hidden,)
        self.U = tg.Parameter(rng.normal(size=(inputs, hidden)))
        self.V = tg.Parameter(rng.normal(size=(hidden, hidden)))

    def step(self, x, h):
        return np.tanh(x @ self.U + h @ (self.V - self.V.T))


def layer(name, scan=False, checkpoint=None, seed=1):
    options = {"scan": scan, "checkpoint": checkpoint}
    if name == "BiRNN":
        cells = tg.GRUCell(C, H, rng=seed), tg.RNNCell(C, H, rng=seed + 1)
        return tg.BiRNN(*cells, scan=scan)
    if name == "shared BiRNN":
        cell = tg.RNNCell(C, H, rng=seed)
        return tg.BiRNN(cell, cell, scan=scan)
    if name == "Chain":
        chain = tg.Chain(layer("GRU", scan, checkpoint), tg.Linear(H, 2, rng=seed), layer("BiRNN"))
        chain.scan = scan
        return chain
    kinds = {"RNN": tg.RNNCell, "LSTM": tg.LSTMCell, "GRU": tg.GRUCell, "custom": Skew}
    return tg.RNN(
        kinds[name.removeprefix("reverse ")](C, H, rng=seed),
        reverse=name.startswith("reverse"),
        train_state=name == "LSTM",
        **options,
    )


LAYERS = ["RNN", "LSTM", "GRU", "reverse GRU", "custom", "BiRNN", "shared BiRNN", "Chain"]
OPTIONS = [
    {},
    {"lengths": [6, 3, 0]},
    {"truncate": 2},
    {"lengths": [6, 4, 1], "truncate": 4},
]


def loss_of(out):
    return (out.outputs**2).sum() + 3 * out.last.sum()


def relative(a, b):
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)


# ----- contributions -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_contributions_sum_to_the_gradient_and_are_the_same_however_the_loop_runs(name, options):
    x = np.random.default_rng(0).normal(size=(6, 3, C))
    steps = {}
    for scan, checkpoint in ((False, None), (True, None), (False, 4), (True, 4)):
        net = layer(name, scan, checkpoint)
        loss = loss_of(net(x, **options))
        found = {n: tg.contributions(loss, p) for n, p in net.named_parameters().items()}
        assert all(p.grad is None for p in net.parameters())
        loss.backward()  # nothing was freed
        for n, p in net.named_parameters().items():
            assert len(found[n].steps) == 6
            assert relative(found[n].total, p.grad) <= 1e-13
            expected = steps.setdefault(n, found[n].steps)
            np.testing.assert_allclose(found[n].steps, expected, rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 100), length=st.integers(1, 6))
def test_each_contribution_is_the_gradient_of_that_steps_own_copy_of_the_weight(seed, length):
    rng = np.random.default_rng(seed)
    x, V = rng.normal(size=(length, 2, C)), rng.normal(size=(H, H))
    U = tg.Parameter(rng.normal(size=(C, H)))

    def run(copies):
        h = rng.normal(size=(2, H)) * 0 + 0.3
        for x_t, W in zip(tg.Tensor(x), copies, strict=True):
            h = np.tanh(x_t @ U + h @ W)
        return (h**3).sum()

    shared, own = tg.Parameter(V), [tg.Parameter(V) for _ in range(length)]
    parts = tg.contributions(run([shared] * length), shared)
    run(own).backward()
    np.testing.assert_allclose(parts.steps, [p.grad for p in own], rtol=1e-13, atol=1e-15)


def test_a_loop_of_ones_own_counts_every_use_in_a_step():
    rng = np.random.default_rng(0)
    W = tg.Parameter(rng.normal(size=(H, H)))
    h, total = np.ones((2, H)), 0
    for x_t in tg.Tensor(rng.normal(size=(4, 2, H))):
        h = np.tanh(x_t @ W + h @ W)  # twice
        total = total + (h * W[0]).sum()  # and by a row of it
    loss = total + (W * W).sum()
    parts = tg.contributions(loss, W)
    loss.backward()
    assert relative(parts.total, W.grad) <= 1e-13
    np.testing.assert_allclose(parts.outside, 2 * W.data)
    assert parts.steps.shape == (4, H, H)
    np.testing.assert_allclose(parts.shares.sum() + parts.outside_share, 1)
    np.testing.assert_allclose(parts.norms, np.sqrt((parts.steps**2).sum(axis=(1, 2))))


def test_a_checkpoint_inside_a_step_belongs_to_the_step():
    rng = np.random.default_rng(0)
    W = tg.Parameter(rng.normal(size=(H, H)))

    def run(around):
        h = np.ones((2, H))
        for x_t in tg.Tensor(rng.normal(size=(3, 2, H)) * 0 + 0.2):
            h = around(lambda x_t, h: np.tanh(x_t + h @ W))(x_t, h)
        return (h**2).sum()

    plain, saved = (tg.contributions(run(f), W) for f in (lambda f: f, tg.checkpoint))
    np.testing.assert_allclose(saved.steps, plain.steps, rtol=1e-13)
    assert saved.steps.any(axis=(1, 2)).all()


def test_steps_that_no_gradient_reaches_are_there_too():
    net = layer("reverse GRU")
    parts = tg.contributions(net(np.ones((6, 1, C)), truncate=2).last.sum(), net.cell.V)
    assert len(parts.steps) == 6
    assert parts.steps.any(axis=(1, 2)).tolist() == [True, True, False, False, False, False]


def test_rows_of_an_embedding_that_is_read_step_by_step():
    embedding, rnn = tg.Embedding(5, C, rng=0), layer("GRU")
    codes, h = np.array([[0, 1], [1, 1], [4, 0]]), np.zeros((2, H))
    for code in tg.Tensor(codes):
        h = rnn.cell(embedding.W[code], h)[0]
    loss = (h**2).sum()
    parts = tg.contributions(loss, embedding.W)
    loss.backward()
    assert relative(parts.total, embedding.W.grad) <= 1e-13
    used = [set(np.flatnonzero(np.abs(part).sum(axis=1))) for part in parts.steps]
    assert used == [{0, 1}, {1}, {0, 4}]


def test_a_readout_over_all_times_at_once_is_outside():
    rnn, readout = layer("RNN"), tg.Linear(H, 2, rng=0)
    loss = (readout(rnn(np.ones((4, 1, C))).outputs) ** 2).sum()
    parts = tg.contributions(loss, readout.W)
    assert not parts.steps.any()
    assert parts.outside_share == pytest.approx(1)
    loss.backward()
    np.testing.assert_allclose(parts.outside, readout.W.grad)


def test_generate_has_time_steps_too():
    cell = tg.RNNCell(H, H, rng=0)
    out = tg.generate(cell, np.ones(H), 5, lambda y, rng: y, rng=0)
    loss = (out.outputs**2).sum()
    parts = tg.contributions(loss, cell.V)
    loss.backward()
    assert len(parts.steps) == 5
    assert relative(parts.total, cell.V.grad) <= 1e-13


def test_contributions_know_the_weights_name():
    rnn = layer("GRU")
    parts = tg.contributions(rnn(np.ones((3, 1, C))).last.sum(), rnn.cell.V)
    assert repr(parts) == "Contributions(3 steps of cell.V, each (3, 9); .draw())"
    assert "cell.V" in parts.draw().title
    assert "cell.V" in parts.draw(lang="ja").title


def test_what_cannot_be_asked():
    rnn, other = layer("RNN"), tg.Parameter(np.ones(2))
    loss = rnn(np.ones((3, 1, C))).last.sum()
    with pytest.raises(tg.errors.UnusedInputError):
        tg.contributions(loss, other)
    with pytest.raises(tg.errors.UnusedInputError):
        tg.contributions(loss, tg.Tensor(np.ones(2)))
    with pytest.raises(tg.errors.NotScalarError):
        tg.contributions(rnn(np.ones((3, 1, C))).outputs, rnn.cell.V)
    with pytest.raises(tg.errors.NoTimeError, match="loop over a Tensor"):
        tg.contributions((other**2).sum(), other)
    with pytest.raises(tg.errors.NoGradientError, match="expected Tensors"):
        tg.contributions(loss, rnn.cell)
    loss.backward()
    with pytest.raises(tg.errors.GraphFreedError):
        tg.contributions(loss, rnn.cell.V)


# ----- gradient flow -----------------------------------------------------------------------------


def shifted(cell, x, shifts):
    """The loop, with something added to each array of the state after each step."""
    state = cell.initial_state(x.shape[1:-1])
    outputs = []
    for x_t, shift in zip(x, shifts, strict=True):
        _, state = cell(x_t, state)
        if isinstance(state, tuple):
            state = tuple(s + d for s, d in zip(state, shift, strict=True))
            outputs.append(state[0])
        else:
            state = state + shift[0]
            outputs.append(state)
    return np.stack(outputs)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "custom"])
def test_gradient_flow_is_the_gradient_of_a_shift_of_the_state(name, scan):
    net = layer(name, scan)
    x = np.random.default_rng(0).normal(size=(5, 2, C))
    parts = 2 if name == "LSTM" else 1
    shifts = [[tg.Tensor(np.zeros((2, H)), requires_grad=True) for _ in range(parts)] for _ in x]
    (shifted(net.cell, x, shifts) ** 3).sum().backward()
    squares = [[0 if s.grad is None else (s.grad**2).sum() for s in shift] for shift in shifts]
    out = net(x, return_states=True)
    flow = tg.gradient_flow((out.outputs**3).sum(), out)
    np.testing.assert_allclose(flow, np.sqrt(np.sum(squares, axis=1)), rtol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_gradient_flow_is_the_same_however_the_loop_runs(name, options):
    x = np.random.default_rng(0).normal(size=(6, 3, C))
    flows = []
    for scan, checkpoint in ((False, None), (True, None), (False, 4), (True, 4)):
        out = layer(name, scan, checkpoint)(x, return_states=True, **options)
        flows.append(tg.gradient_flow(loss_of(out), out))
    for flow in flows[1:]:
        np.testing.assert_allclose(flow, flows[0], rtol=1e-10, atol=1e-13)


def test_padding_does_not_change_the_flow():
    net, x = layer("RNN"), np.random.default_rng(0).normal(size=(4, 1, C))
    out = net(x, return_states=True)
    more = net(np.concatenate([x, x]), lengths=[4], return_states=True)
    flow = tg.gradient_flow(loss_of(more), more)
    np.testing.assert_allclose(flow[:4], tg.gradient_flow(loss_of(out), out), rtol=1e-12)


def test_truncation_cuts_the_flow():
    out = layer("RNN")(np.ones((6, 1, C)), truncate=3, return_states=True)
    flow = tg.gradient_flow(out.last.sum(), out)
    assert not flow[:3].any()
    assert flow[3:].all()


def test_flows_can_be_drawn_together():
    flows = {}
    for name in ("RNN", "LSTM", "GRU"):
        out = layer(name)(np.ones((6, 1, C)), return_states=True)
        flows[name] = tg.gradient_flow(out.last.sum(), out)
    together = tg.draw(flows)
    assert together.svg == flows["RNN"].draw(name="RNN", LSTM=flows["LSTM"], GRU=flows["GRU"]).svg
    assert all(name in together.svg for name in flows)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_gradient_flow_through_padding_and_cuts_against_shifts(name, options):
    class Shifted(tg.Cell):
        """A cell with something added to its state."""

        def __init__(self, cell, shifts):
            self.cell, self.shifts, self.inputs = cell, iter(shifts), cell.inputs
            self.state_shape = cell.state_shape

        def step(self, x, state):
            _, new = self.cell(x, state)
            moved = [a + d for a, d in zip(tg.nests.leaves(new), next(self.shifts), strict=True)]
            return moved[0], tg.nests.refilled(new, moved)

    net = layer(name)
    net = tg.RNN(net.cell)
    x = np.random.default_rng(0).normal(size=(6, 3, C))
    count = len(tg.nests.leaves(net.initial_state()))
    shifts = [[tg.Tensor(np.zeros((3, H)), requires_grad=True) for _ in range(count)] for _ in x]
    loss_of(tg.RNN(Shifted(net.cell, shifts))(x, **options)).backward()
    squares = [[0 if s.grad is None else (s.grad**2).sum() for s in shift] for shift in shifts]
    out = net(x, return_states=True, **options)
    flow = tg.gradient_flow(loss_of(out), out)
    np.testing.assert_allclose(flow, np.sqrt(np.sum(squares, axis=1)), rtol=1e-11, atol=1e-14)


class Wrapped(tg.Cell):
    """A cell whose step is a function of its cell, x and the state."""

    def __init__(self, f, size=H):
        self.f, self.inputs, self.state_shape = f, C, (size,)
        self.cell = tg.RNNCell(C, H, rng=0)
        self.rnn = tg.RNN(tg.RNNCell(C, H, rng=1))

    def step(self, x, state):
        return self.f(self, x, state)


def flow_of(net, x, **options):
    out = net(x, return_states=True, **options)
    return tg.gradient_flow((out.outputs**2).sum(), out)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("checkpoint", [None, 2])
def test_where_a_state_comes_from_does_not_matter(scan, checkpoint):
    """As it is, made anew, of a checkpoint, of an inner loop: the same numbers."""
    x = np.random.default_rng(0).normal(size=(4, 2, C))

    def odd(self, x, h):  # at some steps the state stays as it is
        self.count = (self.count + 1) % 4 if hasattr(self, "count") else 0
        return self.cell(x, h) if self.count % 2 == 0 else (h, h)

    def odd_anew(self, x, h):
        y, new = odd(self, x, h)
        return (new * 1, new * 1) if new is h else (y, new)

    pairs = [
        (
            lambda self, x, h: tg.checkpoint(lambda x, h: self.cell(x, h)[1])(x, h),
            lambda self, x, h: self.cell(x, h)[1],
        ),
        (
            lambda self, x, h: self.rnn(np.stack([x, 2 * x]), h).state,
            lambda self, x, h: self.rnn.cell(2 * x, self.rnn.cell(x, h)[1])[1],
        ),
    ]
    if not scan:  # (a step with a memory cannot be traced)
        pairs.append((odd, lambda self, x, h: odd_anew(self, x, h)[1]))
    for f, plain in pairs:
        net = tg.RNN(Wrapped(f), scan=scan, checkpoint=checkpoint if f is not odd else None)
        found = flow_of(net, x)
        np.testing.assert_allclose(found, flow_of(tg.RNN(Wrapped(plain)), x), rtol=1e-12)


def test_a_state_that_keeps_the_input():
    x = tg.Tensor(np.random.default_rng(0).normal(size=(4, 2, H)), requires_grad=True)

    class Delay(tg.Cell):
        def __init__(self, keep):
            self.keep, self.cell = keep, tg.RNNCell(H, H, rng=0)
            self.state_shape = ((H,), (H,))

        def step(self, x, state):
            h, before = state
            h = self.cell(x + 0.5 * before, h)[0]
            return h, (h, self.keep(x))

    flows = [flow_of(tg.RNN(Delay(f)), x) for f in (lambda x: x, lambda x: x * 1)]
    np.testing.assert_allclose(*flows, rtol=1e-12)
    traced = tg.RNN(Delay(lambda x: x), scan=True)
    np.testing.assert_allclose(flow_of(traced, x), flows[1], rtol=1e-12)


@pytest.mark.parametrize("scan", [False, True])
def test_a_where_of_the_cells_own_is_no_padding(scan):
    class Gate(Wrapped):
        def step(self, x, h):
            new = np.tanh(x @ self.cell.U[:, :1] + h @ self.cell.V[:1, :1])
            return 3 * new, np.where(x[..., :1] > -9, new, 0.5 * h)

    x = np.random.default_rng(0).normal(size=(4, 2, C))
    more = np.concatenate([x, np.zeros((1, 2, C))])
    net = tg.RNN(Gate(None, size=1), scan=scan)
    plain = flow_of(tg.RNN(Gate(None, size=1)), x)
    np.testing.assert_allclose(flow_of(net, more, lengths=[4, 4])[:4], plain, rtol=1e-12)


def test_a_loop_inside_of_a_step_counts_in_the_steps_time():
    x = np.random.default_rng(0).normal(size=(4, 2, C))
    step = lambda self, x, h: self.rnn(np.stack([x, 2 * x, x]), h).state
    steps = []
    for scan in (False, True):
        net = tg.RNN(Wrapped(step), scan=scan)
        parts = tg.contributions((net(x).outputs ** 2).sum(), net.cell.rnn.cell.V)
        steps.append(parts.steps)
    assert len(steps[0]) == 4
    assert steps[0].any(axis=(1, 2)).all()
    np.testing.assert_allclose(*steps, rtol=1e-12)


def test_a_random_initial_state_is_drawn_once():
    cell = tg.VariationalDropout(tg.RNNCell(C, H, rng=0), 0.5, rng=0)
    x = np.random.default_rng(0).normal(size=(4, C))
    state = tg.RNN(cell).initial_state(())
    cell = tg.VariationalDropout(tg.RNNCell(C, H, rng=0), 0.5, rng=0)  # the same draws again
    found = tg.state_jacobians(tg.RNN(cell), x)
    np.testing.assert_allclose(found, tg.state_jacobians(tg.RNN(cell), x, state=state))


def test_small_and_large_float32_gradients_have_norms():
    net = tg.RNN(tg.RNNCell(C, H, rng=0, dtype=np.float32))
    x, scale = np.ones((4, 1, C), np.float32), {}
    for factor in (1.0, 1e-25, 1e25):
        out = net(x, return_states=True)
        loss = out.last.sum() * np.float32(factor)
        parts = tg.contributions(loss, net.cell.V)
        scale[factor] = (tg.gradient_flow(loss, out) / factor, parts.shares)
        assert parts.norms[-1] > 0
    for factor in (1e-25, 1e25):
        for one, other in zip(scale[1.0], scale[factor], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_empty_batch_is_refused():
    for ask in (tg.sensitivity, tg.state_jacobians):
        with pytest.raises(tg.errors.ShapeError, match="an empty batch"):
            ask(layer("RNN"), np.ones((3, 0, C)))


def test_flow_of_another_network_is_refused():
    one, other = (layer("RNN")(np.ones((3, 1, C)), return_states=True) for _ in range(2))
    with pytest.raises(tg.errors.UnusedInputError, match="does not depend on this output"):
        tg.gradient_flow(one.last.sum(), other)


def test_inside_no_grad_the_answers_are_the_same():
    net, x = layer("LSTM"), np.random.default_rng(0).normal(size=(4, 2, C))
    jacobians, square = tg.state_jacobians(net, x), tg.sensitivity(net, x)
    with tg.no_grad():
        assert (tg.state_jacobians(net, x) == jacobians).all()
        assert (tg.sensitivity(net, x) == square).all()


def test_no_steps():
    net = layer("RNN")
    assert tg.state_jacobians(net, np.ones((0, C))).shape == (0,)
    assert tg.sensitivity(net, np.ones((0, 2, C))).shape == (0, 0)
    out = net(np.ones((0, 2, C)), return_states=True)
    assert tg.gradient_flow(out.last.sum(), out).shape == (0,)


def test_what_is_no_layer_over_time_is_refused():
    for thing in (tg.Linear(C, H, rng=0), tg.RNNCell(C, H, rng=0)):
        with pytest.raises(tg.errors.CellError, match="wrap a cell"):
            tg.sensitivity(thing, np.ones((3, C)))
        with pytest.raises(tg.errors.CellError, match="wrap a cell"):
            tg.state_jacobians(thing, np.ones((3, C)))


def test_flow_wants_states():
    out = layer("RNN")(np.ones((3, 1, C)))
    with pytest.raises(tg.errors.NoTimeError, match="return_states=True"):
        tg.gradient_flow(out.last.sum(), out)
    with pytest.raises(tg.errors.NoTimeError, match="no RNNOutput"):
        tg.gradient_flow(out.last.sum(), out.outputs)
    out = layer("RNN")(np.ones((3, 1, C)), return_states=True)
    with pytest.raises(tg.errors.NoTimeError, match="give its result"):
        tg.gradient_flow(out.last.sum(), out._replace(states=2 * out.states))


def test_flow_and_contributions_want_a_loss():
    net = layer("RNN")
    out = net(np.ones((3, 1, C)), return_states=True)
    for ask in (tg.gradient_flow, lambda loss, _: tg.contributions(loss, net.cell.V)):
        with pytest.raises(tg.errors.NoGradientError, match="expected Tensors: a loss"):
            ask(1.5, out)
        with pytest.raises(tg.errors.NotScalarError, match=r"the loss has shape \(1, 3\)"):
            ask(out.last, out)


# ----- Jacobians ---------------------------------------------------------------------------------


def flat(state):
    return np.concatenate([np.ravel(s.data) for s in tg.nests.leaves(state)])


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "reverse GRU", "custom"])
def test_state_jacobians_against_finite_differences(name, scan):
    net, step = layer(name, scan), 1e-6
    x = np.random.default_rng(0).normal(size=(4, C))
    states = net(x, return_states=True).states
    size = sum(s[0].size for s in tg.nests.leaves(states))
    found = tg.state_jacobians(net, x, norm="fro")
    order = [3, 2, 1, 0] if net.reverse else [0, 1, 2, 3]
    for done, t in enumerate(order[:-1]):
        rest = x[: order[done]] if net.reverse else x[order[done] + 1 :]
        state = tg.nests.map_tree(lambda s, t=t: s.data[t], states)
        columns = []
        for k in range(size):
            ends = []
            for sign in (1, -1):
                unit = iter(np.split(sign * step * np.eye(size)[k], size // H))
                moved = tg.nests.map_tree(lambda s, unit=unit: s + next(unit), state)
                ends.append(flat(net(rest, moved).state))
            columns.append((ends[0] - ends[1]) / (2 * step))
        assert found[t] == pytest.approx(np.linalg.norm(columns), rel=1e-7)
    assert tg.state_jacobians(net, x)[order[-1]] == pytest.approx(1)


def test_jacobians_of_a_batch_are_the_mean_over_its_rows():
    net, x = layer("LSTM"), np.random.default_rng(0).normal(size=(5, 3, C))
    rows = [tg.state_jacobians(net, x[:, n]) for n in range(3)]
    np.testing.assert_allclose(tg.state_jacobians(net, x), np.mean(rows, axis=0), rtol=1e-12)


def test_jacobians_stand_still_in_padding_and_stop_at_cuts():
    net, x = layer("GRU"), np.random.default_rng(0).normal(size=(6, 1, C))
    padded = tg.state_jacobians(net, x, lengths=[4])
    np.testing.assert_allclose(padded[3:], 1)
    np.testing.assert_allclose(padded[:4], tg.state_jacobians(net, x[:4]), rtol=1e-12)
    cut = tg.state_jacobians(net, x, truncate=4)
    assert not cut[:4].any()
    reset = np.zeros((6, 1), bool)
    reset[3] = True
    assert not tg.state_jacobians(net, x, reset=reset)[:3].any()


def test_vanishing_and_exploding():
    """With V = s Q, Q orthogonal, an identity cell's Jacobians are exactly s^(T - t)."""
    for scale in (0.5, 1.0, 1.5):
        net = tg.RNN(tg.RNNCell(C, H, "identity", rng=0))
        net.cell.V.data = scale * net.cell.V.data
        found = tg.state_jacobians(net, np.ones((9, C)))
        np.testing.assert_allclose(found, scale ** np.arange(8.0, -1, -1), rtol=1e-10)


def test_jacobians_are_not_drawn_as_gradients():
    found = tg.state_jacobians(layer("GRU"), np.ones((5, C)))
    assert "is left at the end" in found.draw().title
    assert tg.draw({"a": found, "b": found}).title == found.draw().title
    assert "最後にどれだけ残るか" in found.draw(lang="ja").title


def test_jacobians_want_one_loop():
    for name in ("BiRNN", "Chain"):
        with pytest.raises(tg.errors.CellError, match="takes one RNN"):
            tg.state_jacobians(layer(name), np.ones((3, C)))


# ----- sensitivity -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_sensitivity_against_finite_differences(name):
    net, step = layer(name), 1e-6
    x = np.random.default_rng(0).normal(size=(4, C))
    found = tg.sensitivity(net, x, norm="fro")
    square = np.zeros((4, 4))
    for s in range(4):
        for c in range(C):
            moved = [x.copy(), x.copy()]
            moved[0][s, c] += step
            moved[1][s, c] -= step
            with tg.no_grad():
                a, b = (np.asarray(net(m).outputs.data) for m in moved)
            square[:, s] += (((a - b) / (2 * step)) ** 2).sum(axis=1)
    np.testing.assert_allclose(found, np.sqrt(square), rtol=1e-6, atol=1e-9)


def test_an_rnn_sees_the_past_and_a_birnn_everything():
    x = np.random.default_rng(0).normal(size=(5, 2, C))
    past = tg.sensitivity(layer("GRU"), x)
    assert not np.triu(past, 1).any()
    assert np.tril(past).any()
    assert not np.tril(tg.sensitivity(layer("reverse GRU"), x), -1).any()
    assert (tg.sensitivity(layer("BiRNN"), x) > 0).all()
    lengths = tg.sensitivity(layer("GRU"), x, lengths=[3, 3])
    assert not lengths[3:].any()
    assert ">a<" in past.draw(names="abcde").svg
    assert "入力の時刻" in past.draw(lang="ja").svg


def test_sensitivity_to_integers_is_refused():
    chain = tg.Chain(tg.Embedding(5, C, rng=0), layer("RNN"))
    with pytest.raises(tg.errors.DtypeError, match="Embedding"):
        tg.sensitivity(chain, np.zeros((3, 2), int))


def test_no_graph_of_the_users_is_touched():
    net, x = layer("RNN"), np.ones((3, 1, C))
    loss = net(x).last.sum()
    tg.state_jacobians(net, x)
    tg.sensitivity(net, x)
    assert all(p.grad is None for p in net.parameters())
    loss.backward()
