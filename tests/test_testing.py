"""The checker: it passes what is right, fails what is wrong, and says where."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import errors, testing
from tinygrad_rnn.testing import shell


def bent(factor, index=None):
    """The identity, with a gradient that is wrong by a factor, everywhere or in one element."""

    @tg.primitive
    def f(x):
        return x * 1.0

    def vjp(g):
        wrong = np.ones(g.shape)
        wrong[... if index is None else index] = factor
        return g * wrong

    tg.defvjp(f, vjp)
    return lambda x: np.tanh(f(x))


@pytest.fixture(autouse=True)
def _forget(rule_of):
    """Rules made in these tests do not outlive them."""


x400 = np.linspace(-2, 2, 400).reshape(20, 20)


def test_a_relative_error_of_1e_6_in_one_element_of_400_is_caught():
    testing.check_grads(np.tanh, x400)
    for seed in range(5):
        with pytest.raises(testing.GradientError):
            testing.check_grads(bent(1 + 1e-6, (10, 10)), x400, seed=seed)


def test_a_failure_names_argument_element_and_both_values():
    f = bent(2.0, (1, 2))
    with pytest.raises(testing.GradientError) as caught:
        testing.check_grads(lambda weight: f(weight), np.ones((2, 3)), name="mine")
    report, text = caught.value.report, str(caught.value)
    assert (report.worst.argument, report.worst.index) == ("weight", (1, 2))
    assert report.worst.backward == pytest.approx(2 * report.worst.numeric.value)
    assert report.wrong == {"weight": (1, 6)}
    for part in ("mine: FAIL", "weight, element [1, 2]", "backward", "numeric", "1 of 6 elements"):
        assert part in text
    assert len(text.splitlines()) <= 25
    assert isinstance(caught.value, AssertionError)


def test_a_failure_along_a_direction_is_traced_to_its_element():
    report = testing.grad_report(bent(3.0, (7, 8)), x400)
    assert report.verdict == "FAIL"
    assert report.worst.index == (7, 8)


@given(st.integers(0, 2**32 - 1))
def test_the_ladder_knows_its_own_error(seed):
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=2)
    for f, df in [
        (np.tanh, lambda t: 1 - np.tanh(t) ** 2),
        (lambda t: np.exp(c * t), lambda t: c * np.exp(c * t)),
        (lambda t: np.sin(30 * t), lambda t: 30 * np.cos(30 * t)),
    ]:
        found = testing.ladder(lambda h, f=f: f(a + h) - f(a - h), abs(f(a)) * 1.1e-16)
        assert abs(found.value - df(a)) <= 10 * found.error
        assert found.error < 1e-9


def test_noise_is_inconclusive_never_a_pass():
    calls = iter(range(10**6))

    def noisy(x):
        return x * 3.0 + 1e-3 * np.sin(1e3 * next(calls))

    report = testing.grad_report(noisy, np.ones(3))
    assert report.verdict == "INCONCLUSIVE"
    with pytest.raises(testing.GradientError, match="INCONCLUSIVE"):
        testing.check_grads(noisy, np.ones(3))


def test_rungs_outside_the_domain_are_left_out():
    testing.check_grads(np.log, np.array([2.0**-8, 1.0]))  # 2**-8 - 2**-7 is negative


def test_nan_gradients_fail(rule_of):
    rule_of(np.square, lambda g, x0: g * np.nan)
    assert testing.grad_report(np.square, np.ones(2)).verdict == "FAIL"


def test_parameters_of_modules_are_found_wherever_they_are():
    layer = tg.Linear(2, 3, rng=0)
    x = np.ones((4, 2))

    class Model(tg.Module):
        def __init__(self):
            self.parts = [layer]

        def loss(self, x):
            return np.tanh(self.parts[0](x))

    model = Model()
    for f, args, prefix in [
        (layer, (x,), ""),
        (lambda x: layer(x), (x,), "layer."),
        (lambda x, m: m(x), (x, layer), "m."),
        (lambda x: (lambda: layer(x))(), (x,), "layer."),
        (model.loss, (x,), "parts.0."),
    ]:
        names = {f.argument for f in testing.check_grads(f, *args).findings}
        assert names == {"x", prefix + "W", prefix + "b"}
    only = testing.check_grads(lambda x: layer(x), x, wrt=[layer.b])
    assert {f.argument for f in only.findings} == {"layer.b"}
    assert isinstance(layer.W, tg.Parameter)


def test_nested_arguments_unused_ones_and_integers():
    def f(x, state, count):
        return {"y": x * state[0] * count, "z": (state[0] + 1,)}

    report = testing.check_grads(f, np.ones(2), (np.ones(2), np.ones(3)), 3)
    assert {f.argument for f in report.findings} == {"x", "state[0]", "state[1]"}
    assert report.unused == ["state[1]"]
    assert "state[1]: relative error 0.0e+00, no gradient came back" in report.text()


class Foreign:
    """A tensor of another library: a dtype of its own, and a way to NumPy."""

    dtype = object()

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_tensors_of_other_libraries_are_arrays():
    report = testing.check_grads(
        lambda x, rest, kind: x * rest[0] * kind(2),
        Foreign(np.ones(2)), [Foreign(np.full(2, 3.0)), Foreign(np.array([1]))], np.float64,
    )  # fmt: skip
    assert {f.argument for f in report.findings} == {"x", "rest[0]"}
    with pytest.raises(testing.GradientError):
        testing.check_grads(wrong, Foreign(np.ones(2)))
    testing.check_vjp(np.sin, lambda g, x: g * np.cos(x), Foreign(np.ones(2)))
    with pytest.raises(errors.DtypeError, match="x is complex"):
        testing.check_grads(lambda x: x, Foreign(np.ones(2, complex)))


def test_a_function_that_returns_a_tensor_of_another_library_is_told():
    with pytest.raises(errors.NoGradientError, match=r"but a .*\.Foreign.*gives one by \.numpy"):
        testing.check_grads(lambda x: Foreign(np.ones(2)), np.ones(2))
    with pytest.raises(errors.NoGradientError, match="but a NoneType"):
        testing.check_grads(lambda x: None, np.ones(2))


def test_tensors_that_f_closes_over_are_checked_too():
    hidden = [tg.Parameter(np.ones(2))]
    report = testing.check_grads(lambda x: x * hidden[0], np.ones(2))
    assert [f.argument for f in report.findings] == ["x", "x", "hidden.0", "hidden.0"]
    assert testing.grad_report(lambda x: wrong(hidden[0]) + x, np.ones(2)).verdict == "FAIL"
    assert hidden[0].data.tolist() == [1, 1]
    only = testing.check_grads(lambda x: x * hidden[0], np.ones(2), wrt=hidden)
    assert {f.argument for f in only.findings} == {"hidden.0"}


class Unseen:
    """Nothing that is looked through for Parameters."""

    p = tg.Parameter(np.ones(2))


def test_a_parameter_that_cannot_be_seen_is_named():
    with pytest.raises(errors.ConversionError, match="Pass it as an argument"):
        testing.check_grads(lambda x: x * Unseen.p, np.ones(2))


def test_other_dtypes_are_refused():
    with pytest.raises(errors.DtypeError, match="float64 and float32"):
        testing.check_grads(np.tanh, np.ones(2, np.float16))
    with pytest.raises(errors.DtypeError, match="x is complex: only real gradients"):
        testing.check_grads(lambda x: x * x, np.ones(2, complex))
    with pytest.raises(errors.DtypeError, match="vjp returned a complex gradient"):
        testing.check_vjp(np.tanh, lambda g, x: g * (1 + 1j), np.ones(2))


def test_cotangents_are_real_and_have_the_outputs_shapes():
    with pytest.raises(errors.DtypeError, match="cotangent is complex"):
        testing.check_grads(np.tanh, np.ones(2), cotangent=np.ones(2, complex))
    with pytest.raises(errors.ShapeError, match=r"shapes \[\(3,\)\].* have \[\(2,\)\]: give one"):
        testing.check_grads(np.tanh, np.ones(2), cotangent=np.ones(3))


def test_plain_swaps_and_restores_after_an_exception():
    class Holder(tg.Module):
        def __init__(self):
            self.p = tg.Parameter(np.ones(1))
            self.nest = {"a": [self.p, tg.Linear(1, 1, rng=0)], "t": (self.p, 5)}

    holder = Holder()
    p, nest = holder.p, holder.nest
    with testing.plain(holder) as arrays:
        assert type(holder.p) is np.ndarray
        assert holder.nest["a"][0] is holder.p is holder.nest["t"][0] is arrays[id(p)]
        assert type(holder.nest["a"][1].W) is np.ndarray
    with pytest.raises(ZeroDivisionError), testing.plain(holder):
        _ = 1 / 0
    assert holder.p is p
    assert holder.nest is nest
    assert holder.named_parameters().keys() == {"p", "nest.a.1.W", "nest.a.1.b"}


def test_the_numeric_side_never_meets_a_tensor():
    seen = []

    def f(x):
        seen.append(type(x))
        return np.tanh(x)

    for oracle in ("ladder", "auto", "both"):
        seen.clear()
        testing.check_grads(f, np.ones(2), oracle=oracle)
        assert seen.count(tg.Tensor) == 1
        assert set(seen[1:]) <= {np.ndarray, testing.Watched}


def wrong(x):
    """x * x, with a gradient of the wrong sign."""
    f = tg.primitive(lambda x: x * x)
    tg.defvjp(f, lambda g, x0: -2 * g * x0)
    return f(x)


@pytest.mark.parametrize(
    ("f", "arguments", "options"),
    [
        (wrong, [np.array([1])], {}),
        (wrong, [np.ones(2)], {"wrt": "y"}),
        (wrong, [np.ones(2)], {"wrt": [1]}),
        (wrong, [np.ones(50)], {"directions": 0}),
        (lambda x: None, [np.ones(2)], {}),
        (lambda x: float(x.sum()), [np.ones(2)], {}),
    ],
)
def test_a_check_of_nothing_is_an_error_not_a_pass(f, arguments, options):
    with pytest.raises(errors.NoGradientError):
        testing.check_grads(f, *arguments, **options)


@pytest.mark.parametrize(
    ("f", "arguments"),
    [
        (wrong, [3.0]),
        (lambda parts: wrong(parts[0]), [[np.ones(2), np.ones(1)]]),
        (lambda x: [wrong(x)], [np.ones(2)]),
        (lambda x: (x, [wrong(x)]), [np.ones(2)]),
        (lambda x: np.concatenate([wrong(x[:1]), 1e10 * x[1:] ** 2]), [np.array([1.0, 2.0])]),
    ],
)
def test_wrong_gradients_fail_wherever_they_are(f, arguments):
    assert testing.grad_report(f, *arguments).verdict == "FAIL"


def test_a_wrong_gradient_below_the_noise_is_never_a_pass():
    assert testing.grad_report(lambda x: 1e12 + wrong(x), np.ones(3)).verdict == "INCONCLUSIVE"
    assert testing.grad_report(lambda x: (wrong(x), x * 0 + 1e12), np.ones(3)).verdict != "PASS"


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e6])
def test_a_right_gradient_is_never_blamed_for_the_functions_own_cancellation(offset):
    x = offset + np.array([0.1, 1.3, -0.8])
    report = testing.grad_report(lambda x: np.mean(x * x, -1) - np.mean(x, -1) ** 2, x)
    assert report.verdict != "FAIL"
    half = testing.grad_report(lambda x: np.tanh(x.astype(np.float32)), np.array([0.3, 0.7]))
    assert half.verdict != "FAIL"


def test_a_function_of_chance_is_named():
    rng = np.random.default_rng(0)
    report = testing.grad_report(lambda x: x * 2 + 1e-9 * rng.normal(), np.ones(2))
    assert report.verdict == "INCONCLUSIVE"
    assert "not deterministic" in report.text()


def test_integer_input_and_parameters_in_plain_mode():
    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
    testing.check_grads(rnn, np.ones((4, 2, 3), int))


@pytest.mark.parametrize("exponent", range(-8, 9))
def test_right_gradients_are_not_blamed_at_any_scale(exponent):
    scale = 10.0**exponent
    x = np.array([0.3, -1.1])
    for f in (np.tanh, lambda t: t / (1 + t * t)):
        assert testing.grad_report(lambda x, f=f: scale * f(x), x).verdict == "PASS"
        report = testing.grad_report(lambda x, f=f: f(x / scale), x * scale)
        assert report.verdict == "PASS" if exponent <= 0 else report.verdict != "FAIL"


def test_a_wrong_gradient_beside_a_huge_one_does_not_pass(rule_of):
    f = tg.primitive(lambda a, b: a * 1e12 + b)
    rule_of(f, lambda g: g * 1e12, lambda g: 0 * g)
    assert testing.grad_report(f, np.ones(2), np.ones(2)).verdict != "PASS"


@pytest.mark.parametrize("scan", [False, True])
def test_a_function_may_sum_up_the_parameters_of_a_module(scan):
    rnn = tg.RNN(tg.RNNCell(2, 3, rng=0), scan=scan)
    x = np.linspace(-1, 1, 8).reshape(4, 1, 2)

    def penalised(x):
        inner = rnn.cell.named_parameters()
        return (rnn(x).last ** 2).sum() + sum((p * p).sum() for p in rnn.parameters()) + inner["U"]

    assert testing.check_grads(penalised, x).verdict == "PASS"
    assert "named_parameters" not in vars(rnn)
    with testing.plain(rnn):
        assert list(rnn.named_parameters()) == ["cell.U", "cell.V", "cell.b"]
        assert all(type(p) is np.ndarray for p in rnn.parameters())


def test_the_shell_says_that_arrays_are_given_by_position(tmp_path, capsys):
    (tmp_path / "own.py").write_text("def f(x): return x * 2", encoding="utf-8")
    call = f"{tmp_path / 'own.py'}:f"
    assert shell.main([f"{call}(np.ones(3))"]) == 0
    assert shell.main([f"{call}(x=np.ones(3))"]) == 2
    assert "give arrays by position, f(np.ones(3))" in capsys.readouterr().err
    assert shell.main([f"{call}(x=3)"]) == 2
    assert "by position" not in capsys.readouterr().err
