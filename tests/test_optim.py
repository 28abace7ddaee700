"""Optimisers and the clipping of gradients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.errors import ConversionError, NonFiniteError, ShapeError
from tinygrad_rnn.optim import Optimizer, RMSprop

SEEDS = st.integers(0, 2**32 - 1)


# Each by its closed form, from all the gradients g so far; returns what step number len(g) takes.


def sgd(g, momentum=0.0):
    return 0.1 * sum(momentum**k * v for k, v in enumerate(reversed(g)))


def adagrad(g, eps=1e-10):
    return 0.1 * g[-1] / (math.sqrt(sum(v * v for v in g)) + eps)


def rmsprop(g, alpha=0.99, eps=1e-8):
    square = (1 - alpha) * sum(alpha**k * v * v for k, v in enumerate(reversed(g)))
    return 0.1 * g[-1] / (math.sqrt(square) + eps)


def adam(g, b1=0.9, b2=0.999, eps=1e-8):
    mean = (1 - b1) * sum(b1**k * v for k, v in enumerate(reversed(g)))
    square = (1 - b2) * sum(b2**k * v * v for k, v in enumerate(reversed(g)))
    n = len(g)
    return 0.1 * (mean / (1 - b1**n)) / (math.sqrt(square / (1 - b2**n)) + eps)


CASES = {
    "SGD": (tg.SGD, {}, sgd),
    "momentum": (tg.SGD, {"momentum": 0.9}, lambda g: sgd(g, 0.9)),
    "Adagrad": (tg.Adagrad, {}, adagrad),
    "Adagrad eps": (tg.Adagrad, {"eps": 0.5}, lambda g: adagrad(g, 0.5)),
    "Adagrad inside": (
        tg.Adagrad,
        {"eps": 0, "initial_accumulator_value": 0.25},
        lambda g: 0.1 * g[-1] / math.sqrt(sum(v * v for v in g) + 0.25),
    ),
    "RMSprop": (RMSprop, {}, rmsprop),
    "RMSprop alpha": (RMSprop, {"alpha": 0.5, "eps": 0.1}, lambda g: rmsprop(g, 0.5, 0.1)),
    "Adam": (tg.Adam, {}, adam),
    "Adam betas": (tg.Adam, {"betas": (0.5, 0.8), "eps": 0.1}, lambda g: adam(g, 0.5, 0.8, 0.1)),
}

each_case = pytest.mark.parametrize("case", CASES)
each_optimizer = pytest.mark.parametrize("Optimizer", [tg.SGD, tg.Adagrad, RMSprop, tg.Adam])


def parameters(seed, shapes=((2, 3), (2,), ()), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [tg.Parameter(rng.standard_normal(shape), dtype) for shape in shapes]


def set_gradients(ps, seed, size=1.0):
    rng = np.random.default_rng(seed)
    for p in ps:
        p.grad = (size * rng.standard_normal(p.shape)).astype(p.dtype)


def values(ps):
    return [p.numpy().tolist() for p in ps]


@each_case
@given(seed=SEEDS, present=st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=5))
def test_steps_follow_the_formula(case, seed, present):
    """`present`: which of the three Parameters have a gradient, at each step."""
    Optimizer, options, formula = CASES[case]
    ps = parameters(seed)
    expected = [p.numpy() for p in ps]
    optimizer = Optimizer(ps, lr=0.1, **options)
    seen = [[] for _ in ps]
    for t, flags in enumerate(present):
        set_gradients(ps, [seed, t])
        for k, flag in enumerate(flags):
            if not flag:
                ps[k].grad = None
                continue
            seen[k].append(ps[k].grad)
            for i in np.ndindex(ps[k].shape):
                expected[k][i] -= formula([g[i] for g in seen[k]])
        optimizer.step()
    for p, values_by_hand in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p.data, values_by_hand, rtol=1e-12, atol=1e-12)


@each_case
@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_quadratic_gets_lower(case, seed):
    Optimizer, options, _ = CASES[case]
    (p,) = parameters(seed, [(3,)])
    goal = p.data + np.random.default_rng(seed).choice([-1, 1], 3)
    optimizer, losses = Optimizer([p], lr=0.05, **options), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = ((p - goal) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(3)
    assert losses[-1] < 2


def test_the_first_steps_of_adam_have_the_size_of_the_learning_rate():
    for options, lr in (({}, 1e-3), ({"lr": 0.25}, 0.25)):
        (p,) = parameters(0, [(3,)])
        before = p.data
        set_gradients([p], 0, 100)
        tg.Adam([p], **options).step()
        np.testing.assert_allclose(p.data - before, -lr * np.sign(p.grad), rtol=1e-6)


@each_case
def test_a_parameter_without_gradient_stays(case):
    Optimizer, options, _ = CASES[case]
    ps = parameters(0)
    optimizer = Optimizer(ps, lr=0.1, **options)
    set_gradients(ps, 0)
    optimizer.step()
    ps[0].grad = None
    before = values(ps)
    optimizer.step()
    assert [a == b for a, b in zip(before, values(ps), strict=True)] == [True, False, False]


@each_optimizer
def test_named_parameters_are_accepted(Optimizer):
    results = []
    for form in (tg.Module.named_parameters, tg.Module.parameters, lambda m: iter(m.parameters())):
        model = tg.Linear(2, 3, rng=0)
        optimizer = Optimizer(form(model), lr=0.1)
        set_gradients(model.parameters(), 0)
        optimizer.step()
        results.append(values(model.parameters()))
    assert results[0] == results[1] == results[2]
    assert results[0] != values(tg.Linear(2, 3, rng=0).parameters())


@each_optimizer
def test_the_learning_rate_may_be_set(Optimizer):
    moves = []
    for lr in (0.25, 0.5, 0.0):
        (p,) = parameters(0, [(3,)])
        before = p.data
        optimizer = Optimizer([p], lr=1.0)
        optimizer.lr = lr
        set_gradients([p], 0)
        optimizer.step()
        moves.append(p.data - before)
    np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-12)
    assert moves[0].all()
    assert not moves[2].any()


@each_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_stay_frozen_and_keep_their_dtype(case, dtype):
    Optimizer, options, _ = CASES[case]
    ps = parameters(0, dtype=dtype)
    optimizer = Optimizer(ps, lr=np.float64(0.1), **options)
    for t in range(2):
        set_gradients(ps, t)
        optimizer.step()
    for p in ps:
        assert p.data.dtype == p.grad.dtype == dtype
        assert p.data.flags.writeable is False


@each_case
def test_nothing_is_changed_in_place(case):
    Optimizer, options, _ = CASES[case]
    ps = parameters(0)
    optimizer = Optimizer(ps, lr=0.1, **options)
    set_gradients(ps, 0)
    kept = [p.data for p in ps] + [p.grad for p in ps]
    copies = [a.tolist() for a in kept]
    optimizer.step()
    optimizer.step()
    assert [a.tolist() for a in kept] == copies
    assert values(ps) != copies[:3]


@each_case
@pytest.mark.parametrize(("before", "after"), [("float64", "float32"), ("float32", "float64")])
def test_an_optimizer_goes_on_with_its_moments_after_astype(case, before, after):
    """As if the Parameters had been made in the later dtype, up to what float32 rounds."""
    Optimizer, options, _ = CASES[case]
    results = []
    for dtype in (before, after):
        model = tg.Linear(2, 3, rng=0, dtype=dtype)
        optimizer = Optimizer(model.parameters(), lr=0.1, **options)
        for t in range(6):
            if t == 3:
                model.astype(after)
            set_gradients(model.parameters(), t)
            optimizer.step()
        assert {p.dtype for p in model.parameters()} == {np.dtype(after)}
        results.append(np.concatenate([p.data.ravel() for p in model.parameters()]))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


@each_optimizer
def test_zero_grad_of_an_optimizer(Optimizer):
    ps = parameters(0)
    optimizer = Optimizer(ps, lr=0.1)
    set_gradients(ps, 0)
    optimizer.zero_grad()
    assert [p.grad for p in ps] == [None, None, None]


@each_optimizer
@pytest.mark.parametrize("nothing", [[], {}, ()])
def test_no_parameters_raise(Optimizer, nothing):
    with pytest.raises(ShapeError, match="expected a list or dict of Parameters"):
        Optimizer(nothing, lr=0.1)


@each_optimizer
def test_a_module_without_parameters_says_what_a_weight_must_be(Optimizer):
    class Forgot(tg.Module):
        def __init__(self):
            self.W = tg.Tensor(np.ones(2), requires_grad=True)

    with pytest.raises(ShapeError, match=r"this one is empty.*each weight must be a tg\.Parameter"):
        Optimizer(Forgot().parameters(), lr=0.1)
    with pytest.raises(ShapeError, match=r"pass module\.parameters\(\)$"):
        Optimizer(Forgot(), lr=0.1)


@each_optimizer
def test_a_negative_learning_rate_raises(Optimizer):
    with pytest.raises(ShapeError, match=r"lr=-0\.1: a learning rate is not negative"):
        Optimizer(parameters(0), lr=-0.1)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_those_of_pytorch(case, dtype):
    torch = pytest.importorskip("torch")
    Optimizer, options, _ = CASES[case]
    ps = parameters(0, dtype=dtype)
    theirs = [torch.tensor(p.numpy(), requires_grad=True) for p in ps]
    ours = Optimizer(ps, lr=0.1, **options)
    their = getattr(torch.optim, Optimizer.__name__)(theirs, lr=0.1, **options)
    for t in range(5):
        set_gradients(ps, t)
        for p, q in zip(ps, theirs, strict=True):
            q.grad = torch.tensor(np.asarray(p.grad))
        ours.step()
        their.step()
    rtol = 1e-12 if dtype == "float64" else 1e-5
    for p, q in zip(ps, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=rtol, atol=rtol)


def test_the_first_step_of_rmsprop_without_an_lr_is_that_of_pytorch():
    (p,) = parameters(0, [(3,)])
    before = p.data
    set_gradients([p], 0)
    RMSprop([p]).step()
    np.testing.assert_allclose(p.data - before, -0.01 * np.sign(p.grad) / np.sqrt(0.01), rtol=1e-6)


# ----- the state


def stepped(Optimizer, steps=3, names=("W", "b"), seed=0, dtype=np.float64, **options):
    ps = parameters(seed, [(2, 3), ()], dtype)
    optimizer = Optimizer(dict(zip(names, ps, strict=True)) if names else ps, lr=0.25, **options)
    for t in range(steps):
        set_gradients(ps, t)
        optimizer.step()
    return optimizer


def bits(optimizer):
    arrays = [p.data for p in optimizer.parameters] + list(optimizer.state_dict().values())
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


REMEMBERED = {
    tg.SGD: ["velocity"],
    tg.Adagrad: ["squares"],
    RMSprop: ["mean_squares"],
    tg.Adam: ["means", "squares", "steps"],
}


@each_optimizer
def test_a_state_has_the_lr_and_an_array_for_each_parameter_under_its_name(Optimizer):
    for names in (["layers.0.W", "b"], None):
        state = stepped(Optimizer, names=names).state_dict()
        known = [f"{kind}.{name}" for kind in REMEMBERED[Optimizer] for name in names or (0, 1)]
        assert list(state) == ["lr", *known]
        assert {type(array) for array in state.values()} == {np.ndarray}
        assert (state.pop("lr"), state.pop("steps.b", 3)) == (0.25, 3)
        for name, array in state.items():
            count = name.startswith("steps")
            assert array.dtype == (np.int64 if count else np.float64)
            assert array.shape == (() if count or name[-1] in "b1" else (2, 3))
            assert array.any()


@each_optimizer
def test_a_state_that_is_loaded_holds_copies_and_so_does_the_one_that_is_given(Optimizer):
    source, target = stepped(Optimizer), stepped(Optimizer, seed=1, steps=1)
    before, given = bits(source), source.state_dict()
    target.load_state_dict(given)
    loaded = bits(target)
    assert loaded[2:] == before[2:]
    for array in given.values():
        array += 1
    assert (bits(source), bits(target)) == (before, loaded)


@each_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_optimizer_goes_on_to_the_bit(case, dtype):
    """Also after a change of lr, with a Parameter that had no gradient at first."""
    Optimizer, options, _ = CASES[case]

    def some(optimizer, t):
        optimizer.lr = optimizer.lr / 3
        set_gradients(optimizer.parameters, t)
        if t < 2:
            optimizer.parameters[1].grad = None
        optimizer.step()

    def begin(seed):
        return stepped(Optimizer, 0, seed=seed, dtype=dtype, **options)

    whole, part, fresh = begin(0), begin(0), begin(1)
    for t in range(6):
        some(whole, t)
        some(part if t < 3 else fresh, t)
        if t == 2:
            fresh.load_state_dict(part.state_dict())
            for p, q in zip(fresh.parameters, part.parameters, strict=True):
                p.data = q.data
    assert bits(fresh) == bits(whole)
    assert bits(part) != bits(whole)


@pytest.mark.parametrize("kind", REMEMBERED)
@pytest.mark.parametrize("other", REMEMBERED)
def test_the_state_of_another_kind_is_refused(kind, other):
    target, state = stepped(kind), stepped(other, seed=1).state_dict()
    before = bits(target)
    if kind is other:
        target.load_state_dict(state)
        return
    with pytest.raises(ShapeError, match="load_state_dict changed nothing: ") as caught:
        target.load_state_dict(state)
    mine, theirs = set(REMEMBERED[kind]), set(REMEMBERED[other])
    expected = {f"{part}.{name}: missing" for part in mine - theirs for name in "Wb"}
    expected |= {f"{part}.{name}: unknown" for part in theirs - mine for name in "Wb"}
    assert set(str(caught.value).split("nothing: ")[1].split("; ")) == expected
    assert bits(target) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means.W": np.zeros((3, 2))}, r"means\.W: shape \(3, 2\), expected \(2, 3\)"),
        ({"means.W": np.zeros((2, 3), complex)}, r"means\.W: dtype complex128, expected float64"),
        ({"squares.b": np.array("1")}, r"squares\.b: dtype <U1, expected float64"),
        ({"steps.b": np.array(1.5)}, r"steps\.b: dtype float64, expected int64"),
        ({"lr": np.ones(2), "x": 1}, r"x: unknown; lr: shape \(2,\), expected \(\)"),
        ({"lr": np.array(-1.0)}, "lr=-1.0: a learning rate is not negative"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(changes, message):
    target = stepped(tg.Adam)
    before, state = bits(target), stepped(tg.Adam, steps=1, seed=1).state_dict()
    with pytest.raises(ShapeError, match=message):
        target.load_state_dict(state | changes)
    with pytest.raises(ConversionError):
        target.load_state_dict(state | {"lr": tg.Tensor(1.0)})
    assert bits(target) == before


@each_case
def test_a_state_keeps_its_dtype_after_astype(case):
    """Moments of float64 under weights of float32: rounded, they would go on differently."""
    Optimizer, options, _ = CASES[case]
    model, fresh = tg.Linear(2, 3, rng=0), tg.Linear(2, 3, rng=0).astype(np.float32)
    first = Optimizer(model.parameters(), lr=0.1, **options)
    set_gradients(model.parameters(), 0)
    first.step()
    model.astype(np.float32)
    second = Optimizer(fresh.parameters(), lr=0.1, **options)
    fresh.load_state_dict(model.state_dict())
    second.load_state_dict(first.state_dict())
    for optimizer in (first, second):
        set_gradients(optimizer.parameters, 1)
        optimizer.step()
    assert bits(first) == bits(second)


@each_case
def test_settings_that_are_numpy_numbers_do_not_change_the_dtype(case):
    """np.float64(0.9) times float32 is float64, 0.9 times float32 is not."""
    Optimizer, options, _ = CASES[case]
    wide = {name: np.float64(v) if np.isscalar(v) else np.array(v) for name, v in options.items()}
    plain, other = (stepped(Optimizer, dtype=np.float32, **o) for o in (options, wide))
    other.lr = np.float64(other.lr)
    for optimizer in (plain, other):
        set_gradients(optimizer.parameters, 9)
        optimizer.step()
    assert bits(plain) == bits(other)


@each_optimizer
def test_restore_undoes_every_step_since_the_snapshot(Optimizer):
    optimizer = stepped(Optimizer)
    before, snapshot = bits(optimizer), optimizer.snapshot()
    for _ in range(2):  # a snapshot may serve twice
        for t in range(2):
            set_gradients(optimizer.parameters, t)
            optimizer.step()
        assert bits(optimizer) != before
        optimizer.restore(snapshot)
        assert bits(optimizer) == before


def test_an_optimizer_of_ones_own():
    class Signs(Optimizer):
        remembers = ("last",)

        def __init__(self, parameters, lr):
            super().__init__(parameters, lr)
            self.last = self.zeros()

        def change(self, k, g):
            self.last[k] = np.sign(g)
            return self.lr * self.last[k]

    optimizer = stepped(Signs)
    assert list(optimizer.state_dict()) == ["lr", "last.W", "last.b"]
    other = stepped(Signs, steps=0)
    other.load_state_dict(optimizer.state_dict())
    assert bits(other)[2:] == bits(optimizer)[2:]
    with pytest.raises(NotImplementedError, match=r"Mine must define change\(self, k, g\)"):
        stepped(type("Mine", (Optimizer,), {}))


@each_optimizer
def test_a_negative_learning_rate_cannot_be_set(Optimizer):
    optimizer = stepped(Optimizer)
    for wrong in (-0.5, math.nan):
        with pytest.raises(ShapeError, match=f"lr={wrong}: a learning rate is not negative"):
            optimizer.lr = wrong
    assert optimizer.lr == 0.25


# ----- clip_grad_norm


@given(seed=SEEDS, max_norm=st.floats(0.1, 5), size=st.floats(0.01, 10), missing=st.booleans())
def test_clipping_scales_all_gradients_together(seed, max_norm, size, missing):
    ps = parameters(seed)
    set_gradients(ps, seed, size)
    if missing:
        ps[1].grad = None
    before = [p.grad for p in ps if p.grad is not None]
    norm = math.sqrt(sum(float(v) ** 2 for g in before for v in g.flat))
    assert tg.clip_grad_norm(ps, max_norm) == pytest.approx(norm, rel=1e-12)
    scale = min(1, max_norm / norm)
    after = [p.grad for p in ps if p.grad is not None]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, scale * old, rtol=1e-12)
    assert (ps[1].grad is None) is missing


def test_small_gradients_are_left_alone():
    ps = parameters(0)
    set_gradients(ps, 0)
    before = [p.grad for p in ps]
    assert tg.clip_grad_norm(ps, 1e3) < 1e3
    assert all(p.grad is g for p, g in zip(ps, before, strict=True))


def test_clipping_leaves_float32_and_the_old_array_alone():
    (p,) = parameters(0, [(3,)], np.float32)
    p.grad = old = np.array([3, 0, 4], np.float32)
    assert tg.clip_grad_norm({"W": p}, 1.0) == 5
    assert p.grad.dtype == np.float32
    np.testing.assert_allclose(p.grad, [0.6, 0, 0.8], rtol=1e-6)
    assert old.tolist() == [3, 0, 4]


def test_without_gradients_the_norm_is_zero():
    assert tg.clip_grad_norm(parameters(0), 1.0) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [list, lambda ps: dict(zip(["W", "V", "b"], ps, strict=True))])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_changes(bad, form):
    ps = parameters(0)
    set_gradients(ps, 0, 100)
    ps[1].grad = [1.0, bad]
    before = [p.grad for p in ps]
    name = "1" if form is list else "V"
    with pytest.raises(NonFiniteError, match=rf"parameter {name}, shape \(2,\), is not finite"):
        tg.clip_grad_norm(form(ps), 1.0)
    assert all(p.grad is g for p, g in zip(ps, before, strict=True))


# ----- clip_grad_value


@given(seed=SEEDS, limit=st.floats(0.1, 3), missing=st.booleans())
def test_every_element_is_cut_to_the_limit(seed, limit, missing):
    ps = parameters(seed)
    set_gradients(ps, seed, 2.0)
    if missing:
        ps[1].grad = None
    before = [p.grad for p in ps]
    copies = [g is not None and g.tolist() for g in before]
    assert tg.clip_grad_value(ps, limit) is None
    for p, g in zip(ps, before, strict=True):
        assert (p.grad is None) == (g is None)
        for i in np.ndindex(p.shape) if g is not None else []:
            assert p.grad[i] == min(max(g[i], -limit), limit)
    assert [g is not None and g.tolist() for g in before] == copies  # the old arrays stay


def test_clipping_by_value_keeps_float32_and_takes_a_dict():
    (p,) = parameters(0, [(3,)], np.float32)
    p.grad = np.array([3, 0.5, -4], np.float32)
    tg.clip_grad_value({"W": p}, np.float64(1))
    assert p.grad.dtype == np.float32
    assert p.grad.tolist() == [1, 0.5, -1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [list, lambda ps: dict(zip(["W", "V", "b"], ps, strict=True))])
def test_clipping_by_value_names_a_gradient_that_is_not_finite(bad, form):
    ps = parameters(0)
    set_gradients(ps, 0, 100)
    ps[1].grad = [1.0, bad]
    before = [p.grad for p in ps]
    name = "1" if form is list else "V"
    with pytest.raises(NonFiniteError, match=rf"parameter {name}, shape \(2,\), is not finite"):
        tg.clip_grad_value(form(ps), 1.0)
    assert all(p.grad is g for p, g in zip(ps, before, strict=True))


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_limit_is_not_negative(limit):
    with pytest.raises(ShapeError, match=f"limit={limit}"):
        tg.clip_grad_value(parameters(0), limit)


@pytest.mark.parametrize("clip", [tg.clip_grad_norm, tg.clip_grad_value])
@pytest.mark.parametrize(
    "wrong", [tg.Linear(1, 1, rng=0), tg.Parameter(np.ones(2)), [np.ones(2)]], ids=type
)
def test_clipping_takes_parameters_only(clip, wrong):
    with pytest.raises(ShapeError, match=r"pass module\.parameters\(\)"):
        clip(wrong, 1.0)


# ----- training


def trained(case, seed):
    """Bytes of all parameters after a few steps with clipping, and the losses."""
    Optimizer, options, _ = CASES[case]
    rng = np.random.default_rng(seed)
    rnn, readout = tg.RNN(tg.RNNCell(2, 3, rng=rng)), tg.Linear(3, 2, rng=rng)
    x, target = rng.standard_normal((4, 2, 2)), rng.standard_normal((4, 2, 2))
    ps, losses = rnn.parameters() + readout.parameters(), []
    optimizer = Optimizer(ps, lr=0.01, **options)
    for _ in range(5):
        loss = tg.mse(readout(rnn(x).outputs), target)
        loss.backward()
        tg.clip_grad_norm(ps, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return [p.data.tobytes() for p in ps], losses


@each_case
def test_the_same_seed_trains_the_same_bits(case):
    result, losses = trained(case, 0)
    assert (result, losses) == trained(case, 0)
    assert result != trained(case, 1)[0]
    assert losses[-1] < losses[0]


def test_a_bare_parameter_or_tensor_is_refused_and_a_shared_one_steps_once():
    p = tg.Parameter(np.ones(2))
    for wrong in (p, [tg.Tensor([1.0])]):
        with pytest.raises(ShapeError, match=r"module\.parameters\(\)"):
            tg.SGD(wrong, lr=0.1)
    p.grad = np.ones(2)
    tg.SGD([p, p], lr=0.25).step()
    assert p.data.tolist() == [0.75, 0.75]


def test_huge_gradients_are_clipped_not_erased():
    p = tg.Parameter(np.ones(2))
    p.grad = np.array([3e200, 4e200])
    assert tg.clip_grad_norm([p], 1.0) == pytest.approx(5e200)
    np.testing.assert_allclose(p.grad, [0.6, 0.8])


def test_clipping_counts_a_shared_parameter_once_and_refuses_odd_norms():
    p = tg.Parameter(np.ones(2))
    p.grad = np.array([3.0, 4.0])
    assert tg.clip_grad_norm([p, p], 10.0) == pytest.approx(5.0)
    for odd in (-1.0, float("nan")):
        with pytest.raises(ShapeError, match="max_norm"):
            tg.clip_grad_norm([p], odd)


def test_the_norm_of_huge_gradients_overflows_and_the_clipped_ones_do_not():
    p = tg.Parameter(np.zeros(2))
    p.grad = np.array([1.5e308, 1.5e308])
    assert tg.clip_grad_norm([p], 1.0) == np.inf
    np.testing.assert_allclose(p.grad, np.sqrt([0.5, 0.5]), rtol=1e-15)


def test_names_that_are_the_same_as_text_are_refused():
    p, q = tg.Parameter(np.zeros(1)), tg.Parameter(np.zeros(1))
    with pytest.raises(ShapeError, match="same name as text"):
        tg.Adam({1: p, "1": q})
    assert list(tg.Adam({"first": p, "again": p}).named) == ["first"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: tg.Adam(p, betas=(0.9,)), r"betas=\(0\.9,\): 2 expected"),
        (lambda p: tg.Adam(p, betas=(0.9, 1.0)), "at least 0 and below 1"),
        (lambda p: tg.SGD(p, lr=0.1, momentum=-0.5), "momentum=-0.5: 1 expected"),
        (lambda p: tg.RMSprop(p, lr=0.1, alpha=2), "alpha=2"),
    ],
)
def test_what_would_grow_without_end_is_refused(make, message):
    with pytest.raises(tg.errors.ShapeError, match=message):
        make([tg.Parameter(np.zeros(2))])
