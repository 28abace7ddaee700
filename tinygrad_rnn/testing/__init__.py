"""Gradient testing: is this gradient right?

    from tinygrad_rnn import testing
    testing.check_grads(lambda x: np.tanh(x) ** 2, np.array([0.1, -2.0]))      # raises if wrong

Needs NumPy only. The numeric side never touches the engine: functions run on plain arrays.
"""

from .checks import GradientError, GradReport, check_grads, grad_report
from .numeric import ladder
from .parameters import plain

__all__ = ["GradReport", "GradientError", "check_grads", "grad_report", "ladder", "plain"]
