"""The command that prints how exact BPTT is: it runs, and its exit status tells."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = ["--cells", "RNNCell", "--steps", "4"]


def test_the_command_prints_an_error_for_every_parameter_and_oracle():
    command = [sys.executable, str(BENCHMARKS / "bptt_figures.py"), *SMALL]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in result.stdout.splitlines() if "RNN(RNNCell)" in line]
    assert len(rows) == 3 + 6
    for _, _, ladder, exact in rows:
        assert 0 <= float(ladder) <= 1e-10
        assert 0 <= float(exact) <= 1e-12
    assert result.stdout.endswith("beyond the limits (ladder 1e-10, complex 1e-12): 0\n")


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):  # it sets these: put them back
        monkeypatch.setenv(f"{name}_NUM_THREADS", "1")
    import bptt_figures

    yield bptt_figures
    del sys.modules["bptt_figures"]


def test_errors_beyond_a_limit_are_counted(figures, monkeypatch, capsys):
    monkeypatch.setitem(figures.LIMITS, "complex", -1.0)
    assert figures.main(["RNNCell"], steps=3, seed=0) == 9
    assert " !" in capsys.readouterr().out


def test_a_wrong_gradient_is_beyond_every_limit(figures, rule_of, capsys):
    import numpy as np

    rule_of(np.tanh, lambda g, out: g * (1 - out * out) * (1 + 1e-6))
    assert figures.main(["RNNCell"], steps=3, seed=0) == 18
    assert "FAIL" in capsys.readouterr().out
