"""The pytest plugin: it counts, is strict where asked, writes its file, and works with xdist."""

import json
from pathlib import Path

import pytest

from tinygrad_rnn.testing import checks

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["tinygrad_rnn.testing.pytest_plugin"]'

RIGHT = """
    import numpy as np
    from tinygrad_rnn import testing

    def test_right():
        testing.check_grads(lambda x: np.tanh(x), np.ones(3), name="tanh")
        testing.check_grads(lambda y: np.sin(y), np.ones(3), name="my sine")
"""

WRONG = """
    import numpy as np
    import pytest
    import tinygrad_rnn as tg
    from tinygrad_rnn import testing

    @tg.primitive
    def f(weight):
        return weight * 1.0

    tg.defvjp(f, lambda g: 2 * g)

    def test_wrong():
        testing.check_grads(f, np.ones(3))

    def test_expected():
        with pytest.raises(testing.GradientError):
            testing.check_grads(f, np.ones(3))
"""

SUITES = """
    import numpy as np
    import pytest
    import tinygrad_rnn as tg
    from tinygrad_rnn import testing

    at = lambda *x: lambda rng: (tg.relu, [np.array(x)])

    def test_kink():
        testing.check_op(tg.relu, at(0.0, 1.0), count=2)

    def test_smooth():
        testing.check_op(np.tanh, count=3)

    def test_cell():
        testing.check_cell(lambda: tg.RNNCell(1, 1, tg.relu, rng=0), only=["rows", "gradients"])

    def test_wrong():
        wrong = tg.primitive(lambda x: 2.0 * x)
        tg.defvjp(wrong, lambda g: g)
        wrong.__name__ = "double"
        with pytest.raises(testing.GradientError):
            testing.check_op(wrong, lambda rng: (wrong, [np.ones(2)]), count=2)
        with pytest.raises(testing.GradientError, match="must give a tg.Cell"):
            testing.check_cell(lambda: 3)
"""

# Reports as the checks of later days may give them, whatever they depend on.
OTHERS = """
    import pytest
    from types import SimpleNamespace
    from tinygrad_rnn.testing import checks

    @pytest.mark.parametrize("verdict", ["KINK", "INCONCLUSIVE", "PASS"])
    def test_of(verdict):
        report = checks.GradReport("relu")
        report.__class__ = type("Report", (checks.GradReport,), {"verdict": verdict})
        for observe in checks.observers:
            observe(report)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run these tests, with the plugin, in a process of their own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(checks.__file__).parents[2]))

    def run(*options, conftest=CONFTEST, **files):
        pytester.makeconftest(conftest)
        pytester.makepyfile(**files)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)

    return run


def summary(result):
    (line,) = [line for line in result.outlines if line.startswith("gradients: ")]
    return line


def test_the_last_line_counts_checks_and_names_the_worst_of_those_that_passed(run):
    result = run(test_right=RIGHT)
    result.assert_outcomes(passed=1)
    first, worst, *rest = summary(result).split(", ")
    assert first == "gradients: 2 checks"
    assert worst.startswith("worst error ")
    assert worst.endswith(("(tanh)", "(my sine)"))
    assert float(worst.split()[2]) < 1e-9
    assert rest == ["0 at kinks", "0 inconclusive", "0 failed"]


def test_wrong_gradients_are_counted_apart_from_those_that_a_test_expects(run):
    result = run(test_wrong=WRONG)
    result.assert_outcomes(passed=1, failed=1)
    line = "gradients: 2 checks, 0 at kinks, 0 inconclusive, 1 failed (and 1 as expected)"
    assert summary(result) == line


def test_without_checks_there_is_no_line_and_without_the_plugin_no_options(run):
    nothing = {"test_nothing": "def test_nothing(): pass"}
    result = run(**nothing)
    result.assert_outcomes(passed=1)
    assert "gradients:" not in str(result.stdout)
    result = run("--grad-strict", conftest="", **nothing)
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_strict_fails_what_is_inconclusive_or_at_a_kink(run):
    result = run(test_others=OTHERS)
    result.assert_outcomes(passed=3)
    assert "3 checks, worst error 0e+00 (relu), 1 at kinks, 1 inconclusive" in summary(result)
    result = run("--grad-strict", test_others=OTHERS)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*GradientError: relu: KINK*", "*because of --grad-strict*"])
    assert "1 at kinks, 1 inconclusive" in summary(result)


def test_ops_and_laws_of_cells_count_too(run, pytester):
    result = run("--grad-report=found.json", test_suites=SUITES)
    result.assert_outcomes(passed=4)
    assert summary(result).startswith("gradients: 6 checks, worst error ")
    assert summary(result).endswith("1 at kinks, 0 inconclusive, 0 failed (and 2 as expected)")
    records = json.loads((pytester.path / "found.json").read_text())
    assert [(r["name"].split(", case")[0], r["verdict"]) for r in records] == [
        ("relu", "KINK"),
        ("tanh", "PASS"),
        ("check_cell: rows", "PASS"),
        ("check_cell: gradients", "PASS"),
        ("double", "FAIL"),
        ("check_cell: contract", "FAIL"),
    ]
    result = run("--grad-strict", test_suites=SUITES)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*GradientError: relu, case of seed 0: KINK*"])
    assert "test_suites.py::test_kink" in str(result.stdout)


@pytest.mark.parametrize("options", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_file_has_one_record_for_each_check_and_workers_send_theirs(run, pytester, options):
    result = run("--grad-report=found.json", *options, test_right=RIGHT, test_wrong=WRONG)
    result.assert_outcomes(passed=2, failed=1)
    assert "4 checks" in summary(result)
    assert "1 failed (and 1 as expected)" in summary(result)
    records = json.loads((pytester.path / "found.json").read_text(encoding="utf-8"))
    found = {(r["test"], r["name"], r["verdict"], r["argument"]) for r in records}
    assert len(records) == 4
    assert found == {
        ("test_right.py::test_right", "tanh", "PASS", "x"),
        ("test_right.py::test_right", "my sine", "PASS", "y"),
        ("test_wrong.py::test_wrong", "f", "FAIL", "weight"),
        ("test_wrong.py::test_expected", "f", "FAIL", "weight"),
    }
    errors = {r["verdict"]: r["error"] for r in records}
    assert errors["PASS"] < 1e-9
    assert errors["FAIL"] == pytest.approx(0.5)


def test_a_worker_that_crashes_takes_only_its_own_numbers_along(run):
    crash = "import os\ndef test_crash(): os._exit(3)"
    result = run("-n2", test_right=RIGHT, test_crash=crash)
    result.assert_outcomes(passed=1, failed=1)
    assert "2 checks" in summary(result)


def test_nothing_listens_after_the_run(pytester):
    before = list(checks.observers)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_right=RIGHT)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "2 checks" in summary(result)
    assert checks.observers == before
