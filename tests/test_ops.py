"""The op suite: every op of the library passes, and nothing that is wrong with one does."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import errors
from tinygrad_rnn.testing import GradientError
from tinygrad_rnn.testing.cases import MAKERS, draw, register_cases
from tinygrad_rnn.testing.ops import VALUES_ONLY, check_all_ops, check_op
from tinygrad_rnn.vjp import COMPOSED, RULES

ROOT = Path(__file__).parent.parent
SMOOTH = [f for f, rule in RULES.items() if rule.differentiable]
ALL = [*SMOOTH, *(f for f in COMPOSED if f not in VALUES_ONLY)]


@pytest.fixture(autouse=True)
def _forget(rule_of):
    """Rules and cases made in these tests do not outlive them."""
    before = dict(MAKERS)
    yield
    MAKERS.clear()
    MAKERS.update(before)


@tg.primitive
def cube(x):
    return x * x * x


def make(rng):
    return cube, [rng.integers(1, 20, 5) / 8]


def failure(function, *args, **kwargs):
    with pytest.raises(GradientError) as caught:
        check_op(function, *args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_every_op_of_the_library_passes(function):
    report = check_op(function, count=20, seed=100)
    assert report.ok
    assert report.counts["PASS"] + report.counts["KINK"] == 20
    assert report.text().startswith("gradients: 1 of 1 ops, 20 checks, worst error ")


@pytest.mark.parametrize("function", [np.tanh, np.matmul, np.einsum, np.where, np.std])
def test_second_order(function):
    assert check_op(function, count=5, order=2).ok


def with_a_fault(vjp, error):
    """A VJP whose last element is off by a relative error."""

    @functools.wraps(vjp)
    def wrong(*args, **kwargs):
        found = vjp(*args, **kwargs)
        g = np.array(found[0] if isinstance(found, tuple) else found)
        if g.size:
            g.flat[-1] *= 1 + error
        return (g, *found[1:]) if isinstance(found, tuple) else g

    return wrong


def plant(function, i, error=1e-8):
    """Replace the function's rule by one that is wrong in one element of one argument."""
    rule = RULES[function]
    vjps = [with_a_fault(v, error) if v and k == i else v for k, v in enumerate(rule.vjps)]
    each, joint = (f and with_a_fault(f, error) for f in (rule.each, rule.joint))
    kinds = {"each": each, "joint": joint, "broadcasts": rule.broadcasts, "bind": rule.bind}
    tg.defvjp(function, *vjps, **kinds)


@pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
def test_an_error_of_1e_8_in_one_element_is_caught(function):
    rule, name = RULES[function], function.__name__
    assert rule.vjps or rule.shared
    for i in [i for i, vjp in enumerate(rule.vjps) if vjp] or [0]:
        plant(function, i)
        with pytest.raises(GradientError, match=f"^{name}: FAIL, case of seed ") as caught:
            check_op(function)
        assert caught.value.report.reports[name].verdict == "FAIL"  # by its derivative
        RULES[function] = rule


def test_a_failing_case_can_be_repeated():
    plant(np.maximum, 1, 1e-6)
    text = failure(np.maximum)
    (seed,) = set(re.findall(r"repeat it: testing.check_op\(maximum, seed=(\d+), count=1\)", text))
    again = failure(np.maximum, seed=int(seed), count=1)
    number = lambda lines: [re.sub(r"#\d+", "#", line) for line in lines.splitlines()[:-1]]
    assert number(again) == number(text)
    assert again.splitlines()[-1].startswith("gradients: 0 of 1 ops, 1 checks")


def test_one_wrong_op_of_all_is_named_and_the_others_counted():
    plant(np.arctan2, 0)
    with pytest.raises(GradientError) as caught:
        check_all_ops(count=3)
    text, report = str(caught.value), caught.value.report
    assert list(report.failures) == ["arctan2"]
    assert text.startswith("arctan2: FAIL, case of seed 0: ")
    assert f"gradients: {len(ALL) - 1} of {len(ALL)} ops, {3 * len(ALL)} checks" in text
    assert report.verdict == "FAIL"


def test_an_op_of_the_library_without_cases_fails():
    del MAKERS[np.tanh], MAKERS[np.vstack]
    with pytest.raises(GradientError, match=r"tanh: FAIL, it has no cases") as caught:
        check_all_ops(count=1)
    assert list(caught.value.report.failures) == ["tanh", "vstack"]
    with pytest.raises(errors.NoGradientError, match="nothing says how calls of tanh are drawn"):
        check_op(np.tanh)


def test_rules_of_users_are_listed_and_checked_once_they_have_cases():
    others = check_all_ops(count=1).unchecked  # primitives of other test files
    tg.defvjp(cube, lambda g, x0: g * 3 * x0**2)
    report = check_all_ops(count=1)
    assert report.ok
    assert report.unchecked == [*others, "cube"]
    assert report.text().endswith(f"unchecked: {', '.join([*others, 'cube'])}")
    register_cases(cube, make)
    report = check_all_ops(count=1)
    assert (report.unchecked, report.verdicts["cube"]) == (others, "PASS")
    tg.defvjp(cube, lambda g, x0: g * 2 * x0**2)
    with pytest.raises(GradientError, match=r"^cube: FAIL"):
        check_all_ops(count=1)


def test_an_op_needs_no_registration_where_its_cases_are_given():
    tg.defvjp(cube, lambda g, x0: g * 3 * x0**2)
    assert check_op(cube, make, order=2, count=5).counts == {"PASS": 5}
    assert check_op(tg.layer_norm, lambda rng: (tg.layer_norm, [rng.normal(size=4)])).ok
    tg.defvjp(cube, lambda g, x0: g * x0**2)
    assert "repeat it: testing.check_op(cube, make, seed=7, count=1)" in failure(cube, make, seed=7)


def test_ufuncs_of_others_are_users_ops():
    others = check_all_ops(count=1).unchecked
    theirs = np.frompyfunc(lambda x: x, 1, 1)
    tg.defvjp(theirs, lambda g: g)
    assert check_all_ops(count=1).unchecked == [*others, theirs.__name__]


def test_an_own_op_with_a_name_of_the_librarys_is_another_op():
    own = tg.primitive(lambda x: x * x)
    own.__name__ = "vstack"
    tg.defvjp(own, lambda g, x0: g * x0)
    register_cases(own, lambda rng: (own, [np.ones(2)]))
    with pytest.raises(GradientError, match=rf"^{__name__}\.vstack: FAIL") as caught:
        check_all_ops(count=1)
    assert caught.value.report.verdicts["vstack"] == "PASS"


def test_a_check_of_nothing_is_an_error_not_a_pass():
    for check in (check_all_ops, functools.partial(check_op, np.tanh)):
        with pytest.raises(errors.NoGradientError, match="at least 1"):
            check(count=0)


def test_what_cannot_be_decided_is_no_pass():
    tg.defvjp(cube, lambda g, x0: g * 3 * x0**2)
    vague = lambda x: 1e12 + cube(x)
    report = grad_reports_of(vague)
    assert report.verdict == "INCONCLUSIVE"
    assert report.counts == {"INCONCLUSIVE": 3}
    assert "cube: INCONCLUSIVE, case of seed 0: " in report.text()
    assert report.text().endswith("0 at kinks, 3 inconclusive")


def grad_reports_of(call):
    with pytest.raises(GradientError) as caught:
        check_op(cube, lambda rng: (call, [rng.integers(1, 20, 5) / 8]), count=3)
    assert not caught.value.report.ok
    return caught.value.report


def test_the_relative_tolerance_is_the_callers():
    plant(np.tanh, 0)
    assert check_op(np.tanh, rtol=1e-7).ok
    assert "FAIL" in failure(np.tanh, rtol=1e-9)


def test_a_wrong_second_derivative_is_caught():
    hidden = tg.primitive(lambda x: 3 * x * x)
    tg.defvjp(hidden, lambda g, x0: g * 5 * x0)
    tg.defvjp(cube, lambda g, x0: g * hidden(x0))
    assert check_op(cube, make, count=2).ok
    assert "order 2" in failure(cube, make, count=2, order=2)


def test_a_gradient_of_another_dtype_is_caught():
    tg.defvjp(cube, lambda g, x0: g * (3 * x0.astype(np.float64) ** 2))
    assert "the gradient of argument 0 of cube is float64 for float32" in failure(cube, make)
    inside = lambda rng: (lambda x: np.tanh(cube(x)), [rng.integers(1, 20, 5) / 8])
    assert "argument 0 of cube is float64 for float32" in failure(cube, inside)


def test_a_gradient_that_is_wrong_in_float32_only_is_caught():
    power = lambda x0: x0.dtype.type(3 if x0.dtype == np.float64 else 6)
    tg.defvjp(cube, lambda g, x0: g * power(x0) * x0**2)
    text = failure(cube, make, count=2)
    assert text.startswith("cube: FAIL, case of seed 0: x in float32, element [")
    assert "repeat it: testing.check_op(cube, make, seed=0, count=1)" in text


def test_what_rounding_does_in_float32_is_no_fault():
    for x in (4.0, 6.0, 9.0, 12.0):  # 1 - tanh(x)**2 has lost its digits
        assert check_op(np.tanh, lambda rng, x=x: (np.tanh, [np.array([x, 0.1])]), count=1).ok


def test_a_wrong_value_is_caught(monkeypatch):
    def off(by):
        monkeypatch.setitem(
            COMPOSED, np.vstack, lambda tup: np.concatenate([np.atleast_2d(a) for a in tup]) * by
        )

    off(1 + 1e-15)  # another order of adding
    check_op(np.vstack)
    off(1 + 1e-12)
    assert "wrong value: element [" in failure(np.vstack)
    monkeypatch.setitem(COMPOSED, np.vstack, lambda tup: np.stack([*tup, *tup]))
    assert " on Tensors, float64 (" in failure(np.vstack)
    half = lambda tup: np.concatenate([np.atleast_2d(a) for a in tup]).astype(np.float32)
    monkeypatch.setitem(COMPOSED, np.vstack, half)
    assert ": float32 (" in failure(np.vstack)
    assert "wrong value: element" not in failure(
        np.tanh, lambda rng: (lambda x: x * np.nan, [np.ones(2)])
    )
    monkeypatch.setitem(COMPOSED, np.array_split, lambda ary, parts, axis: [ary] * 9)
    assert "results on Tensors, " in failure(np.array_split)


def test_values_of_rules_are_compared_to_the_bit():
    calls = [lambda x: np.tanh(x), lambda x: np.tanh(x) * (1 + isinstance(x, tg.Tensor) * 1e-15)]
    results = [lambda rng, call=call: (call, [rng.normal(size=50)]) for call in calls]
    assert check_op(np.tanh, results[0]).ok
    assert "wrong value" in failure(np.tanh, results[1])


def test_a_rule_that_raises_is_a_failure_of_that_rule():
    tg.defvjp(np.cbrt, lambda g, out: None)
    with pytest.raises(GradientError, match=r"^cbrt: FAIL, case of seed 1: RuleError: ") as caught:
        check_all_ops(count=1, seed=1)
    assert list(caught.value.report.failures) == ["cbrt"]
    with pytest.raises(GradientError) as caught:
        check_op(np.cbrt)
    assert isinstance(caught.value.__cause__, errors.RuleError)


@pytest.mark.parametrize(
    ("function", "make", "error", "says"),
    [
        (lambda x: x, make, errors.MissingRuleError, "defvjp"),
        (np.sign, make, errors.NoGradientError, "sign has no derivative"),
        (np.tanh, lambda rng: np.ones(2), errors.RuleError, r"make\(rng\) must return \(call"),
        (np.tanh, lambda rng: (np.tanh, np.ones(2)), errors.RuleError, "no arrays, but array"),
        (np.tanh, lambda rng: (np.tanh, []), errors.RuleError, "no arrays, but"),
        (np.tanh, lambda rng: (np.tanh, [np.ones(2, "f4")]), errors.RuleError, "of float32"),
        (np.tanh, lambda rng: (3, [np.ones(2)]), errors.RuleError, "it returned"),
    ],
)
def test_registering_what_cannot_be_checked_raises(function, make, error, says):
    before = MAKERS.get(function)
    with pytest.raises(error, match=says):
        register_cases(function, make)
    assert MAKERS.get(function) is before


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_cases_are_small_and_the_same_for_the_same_seed(function):
    for seed in range(50):
        (_, arrays), (_, again) = (draw(function, np.random.default_rng(seed)) for _ in range(2))
        assert len(arrays) > 0
        assert sum(a.size for a in arrays) <= 64
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays, again, strict=True))


# ----- the examples ------------------------------------------------------------------------------


def run_example(*command):
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT / "examples", capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_my_cell_example():
    out = run_example("-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "test_my_cell.py")
    assert "4 passed" in out


def test_my_op_example():
    out = run_example("-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "test_my_op.py")
    assert "7 passed" in out


def test_handwritten_bptt_example():
    right, wrong = run_example("check_handwritten_bptt.py").split("\n\n", 1)
    assert "PASS" in right
    assert "FAIL" in wrong
    assert "wrong in 24 of 30 elements" in wrong  # of x: only the last step is right
