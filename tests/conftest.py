"""Hypothesis profiles, and a guard: no test may leave the engine's state changed."""

import os

# before NumPy is imported: the cores are busy with tests, and a second BLAS thread only waits
for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):
    os.environ.setdefault(f"{name}_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from tinygrad_rnn.record import Place, record
from tinygrad_rnn.rules import RULES

settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=40,  # the suite takes less than four minutes on two cores
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """The record of this thread and the rule table are as before, whatever the test did."""
    rules = dict(RULES)
    yield
    assert (record.tracking, record.tracing) == (True, False)
    assert (record.place, record.watch, record.check) == (Place(), None, None)
    changed = [f.__name__ for f in rules if RULES.get(f) is not rules[f]]
    RULES.clear()
    RULES.update(rules)
    assert not changed, f"rules changed and not put back: {changed}"


@pytest.fixture
def rule_of():
    """Replace a function's rule for one test: `rule_of(np.tanh, lambda g, out: g)`."""
    from tinygrad_rnn import defvjp

    before = dict(RULES)
    yield defvjp
    for function in set(RULES) - set(before):
        del RULES[function]
    RULES.update(before)
