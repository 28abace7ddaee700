"""Verdicts: kinks, structure, hand-written gradients, float32, second order."""

import re
import unittest
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing

# ----- kinks -------------------------------------------------------------------------------------

KINKED = [
    (tg.relu, 0.0),
    (np.abs, 0.0),
    (lambda x: np.where(x > 1, 3 * x, x + 2), 1.0),
    (lambda x: np.clip(x, -1, 1), -1.0),
    (lambda x: np.maximum(x, 0.5) * 2, 0.5),
    (lambda x: np.sort(np.stack([x, x * 0 + 1]), axis=0), 1.0),
    (lambda x: np.max(np.stack([x, x * 0 + 1]), axis=0), 1.0),
]
DISTANCES = [0, 1e-12, 1e-10, 1e-8, 3e-7, 1e-6, 1e-5, 1e-4, 1e-3]


def scaled(f, by):
    """tanh(f(x) / 8), its gradient multiplied by a factor."""
    g = tg.primitive(lambda x: x * 1.0)
    tg.defvjp(g, lambda g: g * by)
    return lambda x: np.tanh(g(f(x)) / 8)


def bent_by(f, by):
    """f, its gradient multiplied by a factor."""
    g = tg.primitive(lambda y: y * 1.0)
    tg.defvjp(g, lambda g: g * by)
    return lambda x: g(f(x))


@pytest.fixture(autouse=True)
def _forget(rule_of):
    """Rules made in these tests do not outlive them."""


@pytest.mark.parametrize(("f", "kink"), KINKED)
@given(distance=st.sampled_from(DISTANCES), side=st.sampled_from([-1, 1]), size=st.integers(1, 40))
def test_a_right_gradient_near_a_kink_never_fails(f, kink, distance, side, size):
    x = np.linspace(2.1, 3.9, size)
    x[size // 2] = kink + side * distance
    report = testing.grad_report(scaled(f, 1.0), x)
    assert report.verdict in ("PASS", "KINK"), report.text()
    if distance >= 1e-5:
        assert report.verdict == "PASS"


@pytest.mark.parametrize(("f", "kink"), KINKED)
@given(distance=st.sampled_from(DISTANCES), side=st.sampled_from([-1, 1]))
def test_a_gradient_beyond_both_sides_of_a_kink_fails(f, kink, distance, side):
    x = np.array([kink + side * distance, kink + 0.25])
    slopes = testing.grad_report(scaled(f, 1.0), x)
    assert slopes.ok
    outside = testing.grad_report(lambda x: scaled(f, 1.01)(x) + 0 * x, x)
    assert outside.verdict == "FAIL"


def test_a_kink_is_told_with_both_slopes():
    report = testing.check_grads(tg.relu, np.array([0.0, 1.0]), cotangent=np.ones(2))
    assert report.verdict == "KINK"
    assert report.ok
    assert report.worst.sides == pytest.approx((0, 1))
    assert "1 at kinks" in report.text()


W = np.array([[1.0, -2.0], [0.5, 1.0]])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.abs(x) + 3 * tg.detach(x),
        lambda x: tg.relu(x @ W) + 3 * tg.detach(x @ W),
    ],
)
def test_what_is_detached_at_a_kink_fails(f):
    report = testing.grad_report(f, np.zeros((2, 2)))
    assert report.verdict == "FAIL"
    assert "was something detached" in report.text()
    assert "complex steps" not in report.text()


@pytest.mark.parametrize("at", [np.zeros(1), np.zeros(4), np.zeros((20, 2))])
def test_kinks_that_coincide_are_kinks(at):
    report = testing.check_grads(lambda x: tg.relu(x) - 2 * tg.relu(-x), at)
    assert report.verdict == "KINK"
    assert "several kinks coincide" in report.text()
    assert testing.check_grads(lambda x: tg.relu(x) - 2 * tg.relu(-x), at, order=2).ok


def test_at_a_jump_the_gradient_of_either_side_will_do():
    assert testing.grad_report(lambda x: np.floor(x) * x, np.array([2.0])).verdict == "KINK"
    wrong = scaled(lambda x: np.floor(x) * x, 10)
    assert testing.grad_report(wrong, np.array([2.0])).verdict == "FAIL"


def test_a_kink_that_no_branch_shows_is_seen_in_the_values():
    def hidden(x):  # Python's own abs of floats: nothing can be watched
        return np.array([abs(v) for v in np.asarray(x).tolist()])

    sign = lambda g, x: g * np.sign(x)
    assert testing.check_vjp(hidden, sign, np.array([0.0, 2.0]), oracle="ladder").ok
    with pytest.raises(testing.GradientError):
        testing.check_vjp(hidden, lambda g, x: g * 1.5, np.array([0.0, 2.0]))


# ----- tiny arguments, beside which a step moves nothing, or everything --------------------------

SMOOTH = {
    "exp": np.exp,
    "sigmoid": tg.sigmoid,
    "softmax": lambda x: tg.softmax(np.concatenate([x, 0 * x + 1])),
    "cross_entropy": lambda x: tg.cross_entropy(
        np.stack([x, 0 * x + 1], -1), np.ones(x.shape, int)
    ),
    "one more": lambda x: 1 + x,
}
TINY = st.builds(lambda e, s: s * 10.0**e, st.floats(-320, -1), st.sampled_from([-1, 1]))


@pytest.mark.parametrize("name", SMOOTH)
@given(v=st.floats(-500, 500))
def test_a_right_gradient_never_fails_where_f_is_flat(name, v):
    for x in (np.array([v]), np.array([v, -v, 1.0])):
        assert testing.grad_report(SMOOTH[name], x).verdict != "FAIL"
    assert testing.grad_report(lambda x: tg.softmax(np.stack([x, 0 * x])), np.array([v])).ok


@pytest.mark.parametrize("name", SMOOTH)
@given(v=st.floats(-5, 5) | TINY)
def test_a_right_gradient_passes_whatever_the_size_of_x(name, v):
    assert testing.check_grads(SMOOTH[name], np.array([v])).verdict == "PASS"


@pytest.mark.parametrize("name", SMOOTH)
@given(v=st.floats(-5, 5) | TINY)
def test_a_wrong_gradient_fails_whatever_the_size_of_x(name, v):
    f = SMOOTH[name]
    detached = lambda x: f(tg.detach(x)) + 0 * x
    assert testing.grad_report(detached, np.array([v])).verdict == "FAIL"
    assert testing.grad_report(bent_by(f, 1 + 1e-6), np.array([v])).verdict == "FAIL"


@pytest.mark.parametrize("f", [np.log, np.sqrt, np.reciprocal])
@given(v=st.floats(-30, 1).map(lambda e: 10.0**e))
def test_steps_are_as_small_as_x_where_f_changes_on_that_scale(f, v):
    f = (lambda x: 1 / x) if f is np.reciprocal else f
    assert testing.check_grads(f, np.array([v])).verdict == "PASS"
    assert testing.grad_report(bent_by(f, 1 + 1e-6), np.array([v])).verdict == "FAIL"


def test_beyond_its_domain_f_may_raise():
    def root(x):
        if np.min(x.data if isinstance(x, tg.Tensor) else x) < 0:
            raise ValueError("below 0")
        return np.sqrt(x)

    testing.check_grads(root, np.array([1e-8]))
    testing.check_grads(root, np.array([1e-8, 2e-8]))


@given(TINY)
def test_numerical_gradients_of_tiny_arguments(v):
    (slope,) = testing.numerical_gradient(np.exp, np.array([v]))
    assert slope[0] == pytest.approx(np.exp(v), rel=1e-9)


def test_numerical_gradients_look_at_each_element_by_itself():
    x = np.array([1.0, 1e-7, 1e-17])
    (slope,) = testing.numerical_gradient(np.log, x)
    np.testing.assert_allclose(slope, 1 / x, rtol=1e-9)


# ----- structure, before any number --------------------------------------------------------------


def only_problem(report, text):
    assert not report.ok
    assert text in report.text()


def test_a_function_that_changes_its_argument_is_named():
    def f(x):
        x += 1.0
        return x * x

    report = testing.grad_report(lambda x: f(x) if isinstance(x, np.ndarray) else x * x, np.ones(2))
    only_problem(report, "f changes x in place: work on a copy")


def test_other_values_on_tensors_than_on_arrays_are_named():
    f = lambda x: x * 2 if isinstance(x, np.ndarray) else x * 3
    only_problem(testing.grad_report(f, np.ones(2)), "other values on Tensors than on plain arrays")


def test_a_vjp_that_is_not_linear_in_g_is_named(rule_of):
    f = tg.primitive(lambda x: x * 1.0)
    rule_of(f, lambda g: g + 1e-9)
    only_problem(testing.grad_report(f, np.ones(2)), "g = 0 gives a gradient that is not 0")
    rule_of(f, lambda g: g * g)
    only_problem(testing.grad_report(f, np.ones(2)), "vjp(a + b) != vjp(a) + vjp(b)")


def test_what_cancels_in_a_vjp_is_linear_all_the_same():
    f = lambda x: tg.cross_entropy(np.stack([x, 2 * x, 0 * x], -1), np.zeros(x.shape, int))
    for x in (2.4e-15, 3.2e-13, 8.5e-21):
        report = testing.grad_report(f, np.array([x]))
        assert report.verdict != "FAIL"
        assert not report.problems


def test_a_clip_inside_a_rule_is_named(rule_of):
    f = tg.primitive(lambda x: x * 1.0)
    rule_of(f, lambda g: np.clip(g, -10, 10))
    only_problem(testing.grad_report(f, np.ones(2)), "is it clipped")
    assert not testing.grad_report(f, np.ones(2)).ok
    half = np.ones(2, np.float32)
    assert testing.check_vjp(np.sin, lambda g, x: g * np.cos(x), half * 1e-3).ok


@pytest.mark.parametrize(
    "vjp", [lambda g, x0: np.multiply(g, x0, out=g), lambda g, x0: np.multiply(g, x0, out=x0)]
)
def test_a_rule_that_writes_into_what_it_was_given_is_named(rule_of, vjp):
    f = tg.primitive(lambda x: x * x / 2)
    rule_of(f, vjp)
    for order in (1, 2):
        with pytest.raises(errors.RuleError, match=r"the VJP of .* writes into g.*work on a copy"):
            testing.check_grads(lambda x: np.tanh(f(x)), np.ones(2), order=order)


def test_a_vjp_that_remembers_is_named(rule_of):
    f = tg.primitive(lambda x: x * 1.0)
    calls = []

    def vjp(g):
        calls.append(1)
        return g * len(calls)

    rule_of(f, vjp)
    only_problem(testing.grad_report(f, np.ones(2)), "pulled back twice gives two different")


def test_a_value_that_is_not_finite_is_inconclusive():
    report = testing.grad_report(np.log, np.array([1.0, -1.0]))
    assert report.verdict == "INCONCLUSIVE"
    assert "output 0 is not finite: nan at [1]" in report.text()


def test_a_function_that_only_takes_tensors_is_wrapped_and_the_report_says_so():
    f = lambda x: (x * x.detach()) + x * 0
    report = testing.grad_report(f, np.array([1.0, 2.0]))
    assert report.verdict == "FAIL"  # detach hides half of it
    assert "f only takes Tensors" in report.text()
    assert "was something detached" in report.text()
    right = testing.check_grads(lambda x: np.tanh(x) + 0 * x.detach(), np.array([1.0, 2.0]))
    assert "f only takes Tensors" in right.text()


def test_an_error_of_f_itself_comes_through():
    with pytest.raises(ZeroDivisionError):
        testing.check_grads(lambda x: x / (1 // 0), np.ones(2))


# ----- inconclusive ------------------------------------------------------------------------------


def test_what_inconclusive_does_can_be_chosen():
    noisy = tg.primitive(lambda x: 3 * x + 1e-4 * np.sin(1e14 * x))
    tg.defvjp(noisy, lambda g: 3 * g)
    x = np.array([0.3, 0.7])
    with pytest.raises(testing.GradientError, match="INCONCLUSIVE"):
        testing.check_grads(noisy, x)
    with pytest.warns(UserWarning, match="INCONCLUSIVE"):
        assert not testing.check_grads(noisy, x, on_inconclusive="warn").ok
    with pytest.raises(unittest.SkipTest):
        testing.check_grads(noisy, x, on_inconclusive="skip")
    with pytest.raises(ValueError, match='"raise", "warn" or "skip"'):
        testing.check_grads(noisy, x, on_inconclusive="pass")
    with pytest.raises(testing.GradientError), warnings.catch_warnings():
        testing.check_grads(scaled(np.tanh, 2.0), x, on_inconclusive="skip")


# ----- what proves little ------------------------------------------------------------------------


def test_an_array_of_integers_is_told():
    report = testing.check_grads(lambda x, W: x * W, np.ones(3), np.arange(3))
    assert report.notes == ["W is int64: its gradient is not checked"]
    report = testing.check_vjp(lambda x, W: x * W, lambda g, x, W: g * W, np.ones(3), np.arange(3))
    assert "note: W is int64" in report.text()
    assert not testing.check_grads(lambda x, k: x * k, np.ones(3), np.arange(3), wrt=0).notes
    assert not testing.check_grads(lambda x, k: x * k, np.ones(3), 3).notes


def test_a_gradient_that_is_0_everywhere_is_told():
    readout = lambda h, W: np.tanh(h) @ W
    report = testing.check_grads(readout, np.ones((2, 3)), np.zeros((3, 2)))
    assert report.notes == ["h: the gradient is 0 everywhere: this proves little"]
    for f, x in [(tg.relu, -np.ones(2)), (np.tanh, np.full(40, 50.0)), (np.tanh, np.full(2, 50.0))]:
        report = testing.check_grads(lambda x, f=f: f(x), x)
        assert "x: the gradient is 0 everywhere" in report.text()
    assert not testing.check_grads(np.tanh, np.array([0.0, 50.0])).notes
    wrong = testing.grad_report(lambda x: tg.detach(x), np.ones(2))
    assert wrong.verdict == "FAIL"
    assert "proves little" not in wrong.text()


def test_an_empty_argument_is_told():
    report = testing.check_grads(np.sin, np.ones(0))
    assert report.verdict == "PASS"
    assert "no element, nothing was compared" in report.text()


NOISY = lambda x: np.sin(x) + 1e-7 * np.sin(1e14 * x)


@pytest.mark.parametrize(
    ("f", "g", "x", "why"),
    [
        (NOISY, np.cos, 0.7, "f is noisy, or oscillates, by"),
        (NOISY, np.cos, 0.7, "tighten a tolerance of its own"),
        (lambda x: 1e9 + x, lambda x: 1, 0.7, "rounding in f hides it"),
        (lambda x: np.sin(1e8 * x), lambda x: 2e8 * np.cos(1e8 * x), 0.7, "or oscillates"),
        (lambda x: 1 / x, lambda x: -1 / x / x, 1e-300, "the gradient is not finite"),
    ],
)
def test_inconclusive_has_a_reason_and_a_next_step(f, g, x, why):
    op = tg.primitive(lambda x: f(x))
    tg.defvjp(op, lambda v, x0: v * g(x0))
    for size in (1, 3, 40):
        report = testing.grad_report(op, np.full(size, x))
        assert report.verdict == "INCONCLUSIVE"
        assert why in report.text()


# ----- gradients written by hand -----------------------------------------------------------------


def rnn(x, U, V, h):
    """The tutorials' recurrence, outputs of all steps."""
    outputs = []
    for x_t in x:
        h = np.tanh(x_t @ U + h @ V)
        outputs.append(h)
    return np.stack(outputs)


def bptt(g, x, U, V, h, carry=1.0):
    """Its gradient by hand; carry=0 forgets what comes back from the next step."""
    outputs = [h, *rnn(x, U, V, h)]
    dx, dU, dV, back = np.zeros_like(x), np.zeros_like(U), np.zeros_like(V), np.zeros_like(h)
    for t in reversed(range(len(x))):
        dz = (g[t] + carry * back) * (1 - outputs[t + 1] ** 2)
        dx[t], back = dz @ U.T, dz @ V.T
        dU += x[t].T @ dz
        dV += outputs[t].T @ dz
    return dx, dU, dV, back


rng = np.random.default_rng(0)
ARGUMENTS = [rng.standard_normal(s) for s in [(4, 2, 3), (3, 5), (5, 5), (2, 5)]]


def test_hand_written_bptt_is_checked_without_the_engine(monkeypatch):
    monkeypatch.setattr(tg.graph, "pull", None)
    monkeypatch.setattr(tg.Tensor, "__init__", None)
    report = testing.check_vjp(rnn, bptt, *ARGUMENTS, directions="all")
    assert {f.argument for f in report.findings} == {"x", "U", "V", "h"}


def test_a_forgotten_carry_is_found():
    forgetful = lambda g, *args: bptt(g, *args, carry=0.0)
    with pytest.raises(testing.GradientError) as caught:
        testing.check_vjp(rnn, forgetful, *ARGUMENTS, name="bptt")
    report = caught.value.report
    assert set(report.wrong) == {"x", "U", "V", "h"}
    assert report.wrong["h"][0] == 10
    last = [f for f in report.findings if f.argument == "x" and f.index and f.index[0] == 3]
    assert all(f.verdict == "PASS" for f in last)  # nothing comes back to the last step


def test_gradients_in_nests_and_none_for_zero():
    f = lambda state, k, x: {"y": state[0] * state[1], "n": k, "z": (x,)}
    vjp = lambda g, state, k, x: ((g["y"] * state[1], g["y"] * state[0]), g["z"][0].copy())
    testing.check_vjp(f, vjp, (np.ones(2), np.arange(2.0)), 3, np.ones(1))
    testing.check_vjp(lambda x, y: x * 2, lambda g, x, y: (2 * g, None), np.ones(2), np.ones(3))
    only_problem_of = lambda vjp: testing.check_vjp(lambda x, y: x * y, vjp, np.ones(2), np.ones(2))
    with pytest.raises(errors.NoGradientError, match="returned 1 gradients, and f has 2"):
        only_problem_of(lambda g, x, y: g * y)
    with pytest.raises(errors.ShapeError, match=r"shape \(\) for y, whose shape is \(2,\)"):
        only_problem_of(lambda g, x, y: (g * y, (g * x).sum()))


@pytest.mark.parametrize(
    ("vjp", "problem"),
    [
        (lambda g, x, y: (np.multiply(g, y, out=y), g * x), "vjp changes its argument y in place"),
        (lambda g, x, y: (np.multiply(g, y, out=g), g * x), "vjp changes g in place"),
        (lambda g, x, y: (z := g * 1.0, z[:]), "vjp returns one array for x and y"),
        (lambda g, x, y: (g * y + 1e-9, g * x), "the VJP is not linear in g"),
        (lambda g, x, y: (g * y, np.clip(g * x, -10, 10)), "linear in g: vjp(2**20 * g)"),
        (lambda g, x, y: (np.where(abs(g) < 1e-4, 0, g * y), g * x), "linear in g: vjp(-2**-20 *"),
    ],
)
def test_what_a_hand_written_vjp_must_not_do(vjp, problem):
    with pytest.raises(testing.GradientError, match=re.escape(problem)):
        testing.check_vjp(np.multiply, vjp, np.ones(2), 2 * np.ones(2))


# ----- float32 -----------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_float32_is_compared_with_our_own_float64(seed):
    rng = np.random.default_rng(seed)
    rnn = tg.RNN(tg.GRUCell(3, 4, rng=rng, dtype=np.float32))
    x = rng.standard_normal((6, 2, 3)).astype(np.float32)
    report = testing.check_grads(rnn, x, seed=seed)
    methods = {f.numeric.method for f in report.findings}
    assert "the float64 gradient" in methods
    assert rnn.cell.U.dtype == np.float32


def test_a_float32_gradient_of_half_the_digits_fails(rule_of):
    x = np.linspace(0.1, 1, 8, dtype=np.float32)

    def coarse(g, out):
        right = g * (1 - out * out)
        return right if right.dtype == np.float64 else right.astype(np.float16).astype(g.dtype)

    rule_of(np.tanh, coarse)
    report = testing.grad_report(np.tanh, x)
    assert report.verdict == "FAIL"
    assert "in float32" in report.worst.argument


def test_a_hand_written_vjp_runs_on_float32_too():
    x = np.linspace(0.1, 1, 8, dtype=np.float32)
    right = lambda g, x: g * np.cos(x)
    assert "in float32" in str(testing.check_vjp(np.sin, right, x).findings)
    wrong = lambda g, x: right(g, x) * (2 if x.dtype == np.float32 else 1)
    coarse = lambda g, x: right(g, x).astype(np.float16 if g.dtype == np.float32 else float)
    for vjp in (wrong, coarse):
        with pytest.raises(testing.GradientError, match="in float32, element"):
            testing.check_vjp(np.sin, vjp, x)
        assert testing.check_vjp(np.sin, vjp, x.astype(float)).ok
    mixed = lambda g, x, W: (g @ W.T, x.T @ g)
    assert testing.check_vjp(np.matmul, mixed, x[None], np.ones((8, 3))).ok


@pytest.mark.parametrize("x", [0.1, 4.0, 6.0, 9.0, 12.0, 20.0, 100.0])
def test_what_rounding_does_to_a_result_in_float32_is_no_fault(x):
    x = np.array([x], np.float32)
    two = lambda x: np.stack([x, 0 * x], -1)
    for f in (np.tanh, tg.sigmoid, lambda x: np.tanh(x) ** 2, lambda x: tg.softmax(two(x))):
        assert testing.grad_report(f, x).verdict != "FAIL"
    right = lambda g, x: g * (1 - np.tanh(x) ** 2)
    wrong = lambda g, x: right(g, x) + (x.dtype == np.float32) * 1e-3 * g
    for vjp, fails in ((right, False), (wrong, True)):
        try:
            testing.check_vjp(np.tanh, vjp, np.append(x, np.float32(0.1)))
        except testing.GradientError:
            assert fails


# ----- second order ------------------------------------------------------------------------------


def test_second_order_catches_what_first_order_cannot(rule_of):
    right = lambda g, out: g * (1 - out * out)
    constant = lambda g, out: g * (1 - np.square(out.data if isinstance(out, tg.Tensor) else out))
    x = np.array([0.3, -1.0])
    rule_of(np.tanh, right)
    report = testing.check_grads(lambda x: np.tanh(x), x, order=2)
    names = {f.argument for f in report.findings}
    assert names == {"x", "x, order 2", "the cotangent of output 0"}
    rule_of(np.tanh, constant)
    testing.check_grads(np.tanh, x)
    for f in (np.tanh, lambda x: np.tanh(2 * x) * x):
        report = testing.grad_report(f, x, order=2)
        assert report.verdict == "FAIL"
        assert "first wrong node: tanh" in report.text()
        assert "checked alone: argument 0, order 2 wrong" in report.text()
        assert "order=2" in report.repro()


def test_second_order_of_layers():
    rng = np.random.default_rng(0)
    for cell in (tg.RNNCell(2, 3, rng=rng), tg.LSTMCell(2, 2, rng=rng)):
        x = rng.standard_normal((3, 2, 2))
        assert testing.check_grads(tg.RNN(cell), x, order=2, directions=1).ok
    hidden = tg.Parameter(np.ones(2))
    with pytest.raises(errors.NoGradientError, match="order=2"):
        testing.check_grads(lambda x: x * hidden, np.ones(2), order=2)
