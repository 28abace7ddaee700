"""Run in an environment with NumPy alone: the testing tools work, and say what hypothesis is for.

python tests/without_hypothesis.py
"""

import importlib.util
import sys

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import testing

if importlib.util.find_spec("hypothesis"):
    sys.exit("hypothesis is installed here: this is for an environment without it")

rnn = tg.RNN(tg.GRUCell(3, 4, rng=0))
report = testing.check_grads(rnn, np.random.default_rng(0).normal(size=(5, 2, 3)))
assert report.verdict == "PASS", report.text()
print(testing.check_all_ops(count=2).text())
with testing.mutants.apply("rules.tanh_sign"):
    assert not testing.grad_report(np.tanh, np.ones(3)).ok
for name in ("strategies", "grad_property"):
    try:
        getattr(testing, name)
    except ImportError as error:
        if "tinygrad_rnn[testing]" not in str(error):
            raise
    else:
        sys.exit(f"testing.{name} should need hypothesis")
print("the testing tools work without hypothesis")
