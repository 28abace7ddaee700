"""What once misled the checker: wrong gradients that hid, right ones that were blamed."""

import collections

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing


@pytest.fixture(autouse=True)
def _forget(rule_of):
    """Rules made in these tests do not outlive them."""


def verdict(f, vjp, *arrays, **options):
    """That of a hand-written gradient, whatever it is."""
    try:
        return testing.check_vjp(f, vjp, *arrays, **options).verdict
    except testing.GradientError as error:
        return error.report.verdict


def doubled_sine(x):
    """sin, with twice its gradient."""
    f = tg.primitive(lambda x: np.sin(x))
    tg.defvjp(f, lambda g, x0: 2 * g * np.cos(x0))
    return f(x)


rng = np.random.default_rng(0)

# ----- wrong gradients that hid ------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0.01, 0.9])
def test_kinks_in_a_large_array_hide_no_other_element(zeros):
    x = rng.standard_normal(2000) * (rng.random(2000) > zeros)
    size = lambda x: np.abs(x).sum() + (x * x).sum()
    right = lambda g, x: g * (np.sign(x) + 2 * x)
    for wrong in (
        lambda g, x: -g * np.sign(x),
        lambda g, x: g * np.sign(x),  # a term forgotten
        lambda g, x: right(g, x) * (np.arange(2000) != np.abs(x).argmax()),
    ):
        assert verdict(size, wrong, x) in ("FAIL", "INCONCLUSIVE")
        assert zeros > 0.5 or verdict(size, wrong, x) == "FAIL"
    assert verdict(size, right, x) != "FAIL"


class Holder:
    """No Module: Parameters in here are not seen."""

    def __init__(self):
        self.W = tg.Parameter(np.ones(3))


def test_a_parameter_that_is_not_seen_is_an_error_also_beside_one_that_is():
    holder, seen = Holder(), tg.Parameter(np.ones(3))
    for f in (
        lambda x: x * holder.W + seen,
        lambda x: x.detach() * holder.W + x,
    ):
        with pytest.raises(errors.ConversionError, match="cannot see"):
            testing.check_grads(f, np.ones(3))
    testing.check_grads(lambda x: x * holder.W + seen, np.ones(3), wrt=[seen])


Pair = collections.namedtuple("Pair", "h c")


def test_nothing_in_a_nest_is_left_out():
    f = lambda s: doubled_sine(s.h[0]) * s.c
    report = testing.grad_report(f, Pair([np.ones(2)], np.ones(2)))
    assert report.verdict == "FAIL"
    assert set(report.wrong) == {"s[0][0]"}


def test_numbers_are_outputs_of_a_plain_function():
    f = lambda x: (np.sin(x), float((x * x).sum()))
    assert verdict(f, lambda g, x: g[0] * np.cos(x), np.ones(3)) == "FAIL"
    assert verdict(f, lambda g, x: g[0] * np.cos(x) + 2 * g[1] * x, np.ones(3)) == "PASS"


@pytest.mark.parametrize("large", [1e8, 1e10, 1e13])
def test_a_huge_output_beside_it_does_not_hide_a_wrong_gradient(large):
    f = lambda x, y: (large * x, y**2)
    wrong = lambda g, x, y: (large * g[0], 3 * g[1] * y)
    assert verdict(f, wrong, np.ones(3), np.ones(3)) == "FAIL"


def test_a_single_float32_kink_does_not_excuse_the_other_elements():
    clip = tg.primitive(lambda a: np.clip(a, -1, 1))

    def vjp(g, x0):
        return g * (5 if x0.dtype == np.float32 else 1) * (np.abs(x0) <= 1)

    tg.defvjp(clip, vjp)
    for seed in range(3):
        x = np.linspace(-1, 1, 20, dtype=np.float32)
        assert testing.grad_report(lambda x: clip(x), x, seed=seed).verdict == "FAIL"


@pytest.mark.parametrize(
    "options",
    [
        {"order": 0},
        {"cotangent": np.zeros(3)},
        {"rtol": np.nan},
        {"directions": "every"},
        {"oracle": "none"},
    ],
)
def test_an_option_that_would_check_nothing_is_an_error(options):
    with pytest.raises((ValueError, errors.NoGradientError), match=r"expected|nothing"):
        testing.check_grads(doubled_sine, np.ones(3), **options)


def test_options_that_are_none_are_named():
    with pytest.raises(TypeError, match=r"check_grads has no option 'slope'.*slope="):
        testing.check_grads(np.tanh, np.ones(3), slope=2)
    with pytest.raises(TypeError, match="check_vjp has no option 'order'"):
        testing.check_vjp(np.tanh, np.tanh, np.ones(3), order=2)


# ----- right gradients that were blamed ----------------------------------------------------------


def test_coinciding_kinks_of_right_rules_are_kinks():
    net = [tg.Linear(3, 8, "relu", rng=0), tg.Linear(8, 2, rng=1)]
    x = np.vstack([rng.standard_normal((3, 3)), np.zeros((2, 3))])  # rows of padding
    assert testing.check_grads(lambda x: net[1](net[0](x)), x).verdict == "KINK"
    report = testing.check_grads(lambda x: tg.relu(x) - tg.relu(-x), np.array([0.0]))
    assert "several kinks coincide" in report.text()


STEEP = [
    (np.log, [1e-12, 1.0]),
    (np.sqrt, [1e-12, 1.0]),
    (lambda x: 1 / x, [1e-6, 0.5]),
    (lambda x: 1 / x, [1e-3, 1.0]),
    (np.arcsin, [0.9999]),
    (np.log, [1e7]),
    (np.sqrt, [1e7]),
    (lambda x: 1 / x, [1e7]),
    (lambda x: x - 1e14, [1e14]),
    (lambda x: x - 1e17, [1e17]),
]


@pytest.mark.parametrize(("f", "x"), STEEP)
def test_steps_suit_the_size_of_x(f, x):
    assert testing.grad_report(f, np.array(x)).verdict == "PASS"


def test_what_no_step_can_resolve_is_inconclusive_not_wrong():
    steep = lambda x: np.tanh(1e12 * x)
    assert testing.grad_report(steep, np.array([0.0])).verdict == "INCONCLUSIVE"


def test_a_shape_that_depends_on_values_is_no_crash():
    x = np.random.default_rng(0).standard_normal(300)
    assert testing.grad_report(lambda x: x[x > 0] ** 2, x).ok
    assert testing.grad_report(lambda x: x[x > 0] ** 2, np.array([1e-9, 1.0])).verdict != "FAIL"


@pytest.mark.parametrize("distance", [1e-8, 1e-5, 1e-4])
def test_kinks_of_interpolation_are_seen(distance):
    slope = lambda g, x: g * np.where(x < 1, 1.0, 4.0)
    f = lambda x: np.interp(x, [0, 1, 2.0], [0, 1, 5.0])
    assert verdict(f, slope, np.array([1 + distance, 0.5])) == "PASS"


def test_gradients_in_dicts_are_found_by_their_keys():
    f = lambda p: p["W"] * np.sin(p["b"])
    vjp = lambda g, p: {"b": g * p["W"] * np.cos(p["b"]), "W": g * np.sin(p["b"])}
    assert verdict(f, vjp, {"W": np.ones(2), "b": np.array([0.3, 0.5])}) == "PASS"


def test_float32_inside_f_at_a_large_x_is_noise():
    f = lambda x: np.sin(x.astype(np.float32)).astype(float)
    assert testing.grad_report(f, np.array([100.0, 101.3])).verdict != "FAIL"


# ----- and no crash, nothing left behind ---------------------------------------------------------


def test_a_failure_of_a_large_array_is_told_at_once():
    report = testing.grad_report(lambda x: doubled_sine(x).sum(), rng.standard_normal(100_000))
    assert report.verdict == "FAIL"
    assert "at least 1 of 100000" in report.text()
    assert len(report.repro()) > 100_000


def test_what_f_leaves_in_a_module_is_gone_afterwards():
    class Model(tg.Module):
        def __init__(self):
            self.W = tg.Parameter(np.ones(2))

        def __call__(self, x):
            self.doubled = self.W * 2
            return x * self.doubled

    model = Model()
    testing.check_grads(model, np.ones(2))
    assert vars(model).keys() == {"W"}


def test_another_number_of_outputs_on_tensors_is_named():
    f = lambda x: (x, x) if isinstance(x, tg.Tensor) else x
    text = testing.grad_report(f, np.ones(2)).text()
    assert "2 float outputs on Tensors, and 1 on plain arrays" in text


def test_a_loss_on_single_steps_tells_where_a_backward_pass_goes_wrong():
    def cumulative(x):
        h, states = 0.0, []
        for x_t in x:
            h = np.tanh(h + x_t)
            states.append(h)
        return np.stack(states)

    forgetful = lambda g, x: g * (1 - cumulative(x) ** 2)
    with pytest.raises(testing.GradientError) as caught:
        testing.check_vjp(cumulative, forgetful, rng.standard_normal((4, 2)))
    text = str(caught.value)
    assert "for a loss on index 0 along axis 0 of the output alone it is right" in text
    assert "wrong on 1, 2, 3" in text
    assert "x looks like: right only at index 3 along axis 0 (of 4)" in text


def test_the_second_derivatives_wrong_rule_is_located():
    inner, square = tg.primitive(lambda d: 2 * d), tg.primitive(lambda x: x * x)
    tg.defvjp(inner, lambda g, x0: g * 3.0)
    tg.defvjp(square, lambda g, x0: g * inner(x0))
    report = testing.grad_report(square, np.array([0.5, -1.0]), order=2)
    assert report.located.function is inner
