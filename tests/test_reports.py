"""What a failure says: the likely cause, the first wrong node, a script that repeats it."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.testing import script
from tinygrad_rnn.testing.script import written

# ----- the likely cause --------------------------------------------------------------------------

rng = np.random.default_rng(0)
right = rng.standard_normal((3, 4))
square = rng.standard_normal((3, 3))


def edited(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("wrong", "numeric", "cause"),
    [
        (-right, right, "the sign is wrong"),
        (2 * right, right, "counted twice"),
        (right / 3, right, "axis 0 has 3 elements: a mean for a sum"),
        (right / 5, right, "a mean for a sum, over an axis of 5?"),
        (right * 7, right, "a sum for a mean, over an axis of 7?"),
        (right * (1 + 1e-6), right, "an iteration that stopped early"),
        (right * 12, right, "there are 12 elements: a sum for a mean"),
        (1.7 * right, right, "1.7 times the right gradient"),
        (right * (1 + 1e-6), right, "1.000001 times the right gradient: a float32 detour"),
        (0 * right, right, "all zero: is the argument detached"),
        (right, 0 * right, "f does not depend on this argument"),
        (square.T, square, "axes (1, 0): is a transpose missing"),
        (right.reshape(-1).reshape((3, 4), order="F"), right, "in Fortran's order"),
        (right[::-1], right, "reversed along axis 0"),
        (np.roll(right, 1, 1), right, "shifted by 1 along axis 1"),
        (np.broadcast_to(right.sum(0), (3, 4)), right, "summed along axis 0 and repeated"),
        (edited(right, 2, 7.0), right, "only index 2 along axis 0 (of 3) is wrong"),
        (
            edited(rng.standard_normal((3, 4)), 2, right[2]),
            right,
            "right only at index 2 along axis 0",
        ),
        (edited(edited(right, (0, 1), 7.0), (2, 2), 0), right, "only [[0, 1], [2, 2]] wrong"),
        (
            right * (np.eye(3, 4) + np.eye(3, 4, 1) == 0),
            right,
            "zero in 6 of 12 elements where it should not be",
        ),
        (right + 1e-7 * rng.standard_normal((3, 4)), right, "a float32 detour, an eps"),
        (edited(right, (0, 0), np.nan), right, "1 of 12 elements are not finite"),
    ],
)
def test_causes_are_named(wrong, numeric, cause):
    assert any(cause in text for text in testing.diagnose(wrong, numeric))


def test_no_cause_is_guessed_where_there_is_none():
    assert testing.diagnose(right, right) == []
    assert testing.diagnose(rng.standard_normal((3, 4)), right) == []
    assert testing.diagnose(right, square) == []


# ----- the first wrong node ----------------------------------------------------------------------


def wrong_matmul(rule_of):
    rule_of(np.matmul, lambda g, x1: g @ x1.swapaxes(-1, -2), lambda g, x0: 1.01 * (x0.T @ g))


def test_the_first_wrong_node_is_found_with_its_place_and_line(rule_of):
    wrong_matmul(rule_of)
    rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
    report = testing.grad_report(lambda x: rnn(x).last, rng.standard_normal((3, 2, 3)))
    assert report.located.function is np.matmul
    text = report.text()
    assert "first wrong node: matmul" in text
    assert "in RNN(RNNCell), forward, t=0" in text
    assert "x @ self.U" in text
    assert "checked alone: argument 1 wrong" in text
    assert len(text.splitlines()) <= 25


def test_locate_checks_every_node_alone(rule_of):
    f = lambda x: np.tanh(x * 2).sum() + np.exp(x[1:]).mean()
    verdicts = testing.locate(f, np.array([0.5, 1.0, -1.0]))
    assert [v.function.__name__ for v in verdicts] == [
        "multiply", "tanh", "sum", "getitem", "exp", "mean", "add",
    ]  # fmt: skip
    assert all(v.ok for v in verdicts)
    rule_of(np.exp, lambda g, out: -g * out)
    verdicts = testing.locate(f, np.array([0.5, 1.0, -1.0]))
    assert [v.function.__name__ for v in verdicts if not v.ok] == ["exp"]


def test_a_rule_of_the_wrong_shape_is_located(rule_of):
    rule_of(np.sort, lambda g, out: g)
    verdicts = testing.locate(lambda x: np.sort(np.tanh(x)), np.array([0.5, 1.0, -1.0]))
    assert [v.ok for v in verdicts] == [True, False]


# ----- a script that repeats it ------------------------------------------------------------------


def run_again(report):
    """Execute the report's script in this process, where the same rule is wrong."""
    with pytest.raises(testing.GradientError) as caught:
        exec(report.repro(), {})
    return caught.value.report


def named(x):
    """A function that a script can import."""
    return np.tanh(x @ np.ones((2, 2)))


def test_scripts_repeat_the_failure(rule_of):
    wrong_matmul(rule_of)
    report = testing.grad_report(named, np.array([[0.5, 1.0]]), seed=3, rtol=1e-8)
    assert report.verdict == "PASS"
    rule_of(np.tanh, lambda g, out: g)
    for f in (named, np.tanh, lambda x: np.tanh(x) * 2):
        report = testing.grad_report(f, np.array([[0.1, 1 / 3]]), seed=3)
        again = run_again(report)
        assert again.verdict == "FAIL"
        assert again.worst.argument[0] in "xa"
    assert "# the first wrong node, alone: tanh" in report.repro()


CALLS = [
    lambda x: np.sum(x, axis=0, keepdims=True),
    lambda x: x[1:, [0, 0]],
    lambda x: next(iter(x)) * 2,
    lambda x: np.concatenate([x, x], axis=1),
    lambda x: np.stack([x, x], axis=-1),
    lambda x: np.where(np.array([[True, False, True]]), x, 0),
    lambda x: x.astype(np.float64),
    lambda x: tg.softmax(x, axis=0),
    lambda x: x.T,
]


@pytest.mark.parametrize("call", CALLS)
def test_scripts_of_single_nodes_run_for_every_kind_of_call(call):
    verdicts = testing.locate(call, np.arange(6.0).reshape(2, 3))
    assert verdicts
    for verdict in verdicts:
        text = script.of_check("check_grads", [call], (np.ones(2),), {}, verdict)
        assert "# the first wrong node, alone" in text
        exec(text, {})  # the rule is right: it passes


def test_values_are_written_so_that_they_come_back():
    scope = {"np": np, "tg": tg, "nan": np.nan, "inf": np.inf}
    for value in [
        rng.standard_normal((2, 3)), np.float64(1 / 3), np.array([np.nan, np.inf]),
        np.zeros((0, 3)), np.arange(3), np.array([True, False]), np.ones(2, np.float32),
        np.linspace(0, 1, 3000),
        {"a": [1, (np.ones(1),)], "b": None}, slice(1, None, 2), Ellipsis, 1e-9, "text",
    ]:  # fmt: skip
        back = eval(written(value), scope)
        if isinstance(value, (np.ndarray, np.generic)):
            np.testing.assert_array_equal(back, value)
            assert back.dtype == value.dtype
            assert back.shape == value.shape
        else:
            assert str(back) == str(value)


def test_a_function_without_a_name_is_shown_by_its_line():
    report = testing.grad_report(lambda x: np.tanh(x), np.ones(2))
    assert "f = ...  # test_reports.py:" in report.repro()


def test_a_script_runs_in_a_new_interpreter():
    text = testing.grad_report(named, np.array([[0.5, 1.0]])).repro()
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
