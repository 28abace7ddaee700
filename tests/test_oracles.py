"""The numeric side: branches, complex steps, one-sided derivatives, and the teaching tools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.testing.numeric import one_sided
from tinygrad_rnn.testing.watched import Watched

# ----- which branch was taken --------------------------------------------------------------------

BRANCHING = {
    "abs": np.abs,
    "sign": lambda x: np.sign(x) * x,
    "maximum": lambda x: np.maximum(x, 0),
    "minimum": lambda x: np.minimum(0, x),
    "fmax": lambda x: np.fmax(x, 0),
    "greater": lambda x: np.where(x > 0, x, 2 * x),
    "python if": lambda x: x if x[0] < 0 else 2 * x,
    "clip": lambda x: np.clip(x, 0, 5),
    "clip method": lambda x: x.clip(0, 5),
    "max": lambda x: np.max(np.stack([x, 0 * x]), axis=0),
    "min method": lambda x: np.stack([x, 0 * x]).min(axis=0, keepdims=True),
    "sort": lambda x: np.sort(np.stack([x, 0 * x]), axis=0),
    "argsort": lambda x: np.take_along_axis(y := np.stack([x, 0 * x]), np.argsort(y, 0), 0),
    "argmax": lambda x: np.stack([x, 0 * x])[np.argmax(np.stack([x, 0 * x]))],
    "argmin": lambda x: np.stack([x, 0 * x])[np.stack([x, 0 * x]).argmin()],
    "accumulate": lambda x: np.maximum.accumulate(np.stack([0 * x, x]), axis=0),
    "astype": lambda x: x * (x + 8).astype(int),
    "median": lambda x: np.median(np.stack([x, 0 * x, 1 + x]), axis=0),
    "floor": np.floor,
    "remainder": lambda x: x % 2,
    "relu": tg.relu,
    "norm": lambda x: np.linalg.norm(x, ord=1),
    "in a nest": lambda x: np.concatenate([np.abs(x)[None], x[None]]).reshape(-1),
}


@pytest.mark.parametrize("name", BRANCHING)
def test_a_kink_between_two_points_shows_in_the_branches(name):
    f = BRANCHING[name]

    def log(x):
        watched = Watched(np.array([x]))
        f(watched)
        return watched.branches

    assert log(1e-9) == log(0.25)
    assert log(-1e-9) != log(1e-9)
    assert log(-1e-9)


@pytest.mark.parametrize("name", [n for n in BRANCHING if n not in ("norm",)])
@given(x=st.sampled_from([-1.25, -0.5, 0.75, 1.5]))
def test_complex_steps_see_the_derivative_of_the_branch_taken(name, x):
    f = BRANCHING[name]
    d = testing.directional_derivative
    exact = d(f, [np.array([x])], [np.ones(1)], method="complex")
    numeric = d(f, [np.array([x])], [np.ones(1)])
    assert exact.value == pytest.approx(numeric.value, abs=1e-9)


@pytest.mark.parametrize(
    "lossy",
    [
        lambda x: np.var(x),
        lambda x: x.std(),
        lambda x: x * float(x[0]),
        lambda x: x * x.real,
        lambda x: x + x.imag,
        lambda x: np.conj(x) * x,
        lambda x: np.linalg.norm(x),
    ],
)
def test_what_would_lose_the_imaginary_part_raises(lossy):
    x = np.array([0.5, 2.0])
    assert np.isfinite(lossy(x)).all()
    with pytest.raises(TypeError, match=r"loses the imaginary part|complex"):
        testing.directional_derivative(lossy, [x], [np.ones(2)], method="complex")


def test_an_assignment_that_drops_the_imaginary_part_is_not_believed():
    def f(x):
        y = np.zeros(2)
        y[:] = x * x
        return y

    report = testing.check_vjp(f, lambda g, x: 2 * g * x, np.array([1.0, 2.0]), oracle="auto")
    assert report.verdict == "PASS"
    assert report.worst.numeric.method == "ladder"


def test_watched_arrays_give_numpys_values():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4))
    for f in (np.sort, np.median, np.max, np.abs, np.tanh, np.cumsum, tg.softmax, tg.sigmoid):
        np.testing.assert_array_equal(np.asarray(f(Watched(x))), f(x))
    for f in (tg.softplus, tg.logsumexp, tg.sigmoid, np.cbrt, lambda x: np.hypot(x, 1.5)):
        found = np.asarray(f(Watched(x.astype(complex)))).real
        np.testing.assert_allclose(found, f(x), rtol=1e-14)


# ----- how exact ---------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_one_sided_derivatives_know_their_error(seed):
    a, c = np.random.default_rng(seed).normal(size=2)
    for f, df in [
        (lambda t: np.tanh(a + c * t) + abs(t), c * (1 - np.tanh(a) ** 2) + 1),
        (lambda t: np.exp(a * t) if t > 0 else 99.0, a),  # a jump at 0 itself does no harm
    ]:
        found = one_sided(f, 1.1e-16 * (1 + abs(a)))
        assert abs(found.value - df) <= 10 * found.error
        assert found.error < 1e-7


@pytest.mark.parametrize("cell", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
def test_bptt_over_50_steps_agrees_to_1e_12_with_complex_steps(cell):
    rng = np.random.default_rng(1)
    rnn, x = tg.RNN(cell(3, 4, rng=rng)), rng.standard_normal((50, 2, 3))
    options = {"directions": 2, "wrt": [rnn]}
    exact = testing.check_grads(rnn, x, oracle="complex", rtol=1e-12, **options)
    assert {f.numeric.method for f in exact.findings} == {"complex step"}
    assert exact.worst.error < 1e-12
    assert testing.check_grads(rnn, x, oracle="ladder", **options).worst.error < 1e-10


def test_both_oracles_judge_where_both_are_asked_for():
    x = np.linspace(-2, 2, 6)
    for oracle, method in [("ladder", "ladder"), ("complex", "complex step"), ("both", "ladder")]:
        report = testing.check_grads(np.tanh, x, oracle=oracle)
        assert {f.numeric.method for f in report.findings} == {method}
    with pytest.raises(ValueError, match="'auto', 'ladder', 'complex', 'both'"):
        testing.check_grads(np.tanh, x, oracle="magic")


def test_a_complex_step_that_is_not_possible_is_inconclusive_or_left_out():
    f, x = lambda x: np.arctan2(x, 2.0), np.array([0.5, 1.0])
    assert testing.check_grads(f, x, oracle="auto").verdict == "PASS"
    both = testing.check_grads(f, x, oracle="both")
    assert any("no complex steps" in note for note in both.notes)
    report = testing.grad_report(f, x, oracle="complex")
    assert report.verdict == "INCONCLUSIVE"
    assert "no complex steps" in report.text()


@pytest.mark.parametrize(("factor", "caught"), [(1 + 1e-12, False), (1 + 1e-10, True)])
def test_a_tiny_error_below_the_ladders_bar_is_seen_by_complex_steps(rule_of, factor, caught):
    rule_of(np.tanh, lambda g, out: g * (1 - out * out) * factor)
    x = np.random.default_rng(3).standard_normal(10)
    report = testing.grad_report(np.tanh, x, rtol=1e-11, oracle="both")
    assert (report.verdict == "FAIL") == caught


@pytest.mark.parametrize("size", [1, 2, 40])
@given(p=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def test_a_period_of_a_power_of_two_deceives_nobody(size, p, seed):
    f = lambda x: np.sin(2 * np.pi * 2.0**p * x)
    x = np.random.default_rng(seed).uniform(-1, 1, size)
    right = testing.grad_report(f, x, seed=seed)
    assert right.verdict in ("PASS", "INCONCLUSIVE"), right.text()
    assert right.verdict == "PASS" or p > 12
    wrong = testing.grad_report(lambda x: f(tg.detach(x)) + x, x, seed=seed)
    assert wrong.verdict in ("FAIL", "INCONCLUSIVE") or (p > 25 and wrong.notes)
    assert wrong.verdict == "FAIL" or p > 6


def test_a_complex_step_that_differences_contradict_is_told():
    f = lambda x: np.sin(2 * np.pi * 2.0**34 * x)
    report = testing.grad_report(f, np.array([0.3]))
    assert report.verdict == "INCONCLUSIVE"
    assert "complex steps agree with the gradient, differences do not" in report.text()
    half = lambda x: x * x + 0 * np.linalg.eigvalsh(np.eye(2) * x.sum())  # loses an imaginary part
    assert testing.check_vjp(half, lambda g, x: 2 * g * x, np.array([1.0, 2.0])).ok


# ----- the teaching tools ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "bound"),
    [("ladder", 1e-12), ("complex", 1e-15), ("central", 1e-9), ("five", 1e-11), ("forward", 1e-7)],
)
def test_directional_derivatives_by_every_method(method, bound):
    x, u = np.array([0.3, -1.0]), np.array([1.0, 2.0])
    found = testing.directional_derivative(
        lambda x, y: (np.sin(x) * y, x), [x, x + 1], [u, -u], cotangent=(u, u), method=method
    )
    exact = (u * (np.cos(x) * (x + 1) * u - np.sin(x) * u)).sum() + (u * u).sum()
    assert abs(found.value - exact) < bound * 10
    assert found.method.split()[0] == method


def test_numerical_gradient_has_the_arguments_shapes():
    x, y = np.arange(6.0).reshape(2, 3), np.array(2.0)
    dx, dy = testing.numerical_gradient(lambda x, y: x * y * y, x, y, method="complex")
    np.testing.assert_allclose(dx, np.full((2, 3), 4.0))
    np.testing.assert_allclose(dy, 4 * x.sum())


def test_the_adjoint_gap_is_rounding_for_right_gradients_only(rule_of):
    rng = np.random.default_rng(0)
    x, W, u, w, v = (rng.standard_normal(s) for s in [(4, 3), (3, 2), (4, 3), (3, 2), (4, 2)])
    f = lambda x, W: np.tanh(x @ W)
    assert testing.adjoint_gap(f, [x, W], [u, w], v) < 1e-14
    rule_of(np.tanh, lambda g, out: g * (1 - out))
    assert testing.adjoint_gap(f, [x, W], [u, w], v) > 1e-3


def test_taylor_rates_are_2_for_right_gradients_and_1_for_wrong_ones():
    x = [np.array([0.3, -1.0, 2.0])]
    f = lambda x: np.sin(x) * x
    np.testing.assert_allclose(testing.taylor_rates(f, x), 2, atol=0.1)
    wrong = testing.taylor_rates(f, x, gradients=[1.1 * (np.cos(x[0]) * x[0] + np.sin(x[0]))])
    np.testing.assert_allclose(wrong, 1, atol=0.2)


def test_directions_and_methods_that_do_not_fit_are_named():
    with pytest.raises(tg.errors.ShapeError, match="direction"):
        testing.directional_derivative(np.sin, [np.ones(2)], [np.ones(3)])
    with pytest.raises(ValueError, match="'ladder', 'complex'"):
        testing.directional_derivative(np.sin, [np.ones(2)], [np.ones(2)], method="best")
