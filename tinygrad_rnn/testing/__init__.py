"""Gradient testing: is this gradient right?

    from tinygrad_rnn import testing
    testing.check_grads(lambda x: np.tanh(x) ** 2, np.array([0.1, -2.0]))      # raises if wrong

Needs NumPy only. The numeric side never touches the engine: functions run on plain arrays.
`testing.strategies` and `testing.grad_property` need hypothesis; these, `testing.laws` and
`testing.mutants` are loaded when they are used. To read: checks.py, then examine.py and oracle.py.
"""

from typing import Any

from .cases import register_cases
from .cells import check_cell
from .checks import check_grads, check_vjp, grad_report, observers
from .derivatives import adjoint_gap, directional_derivative, numerical_gradient, taylor_rates
from .diagnose import diagnose
from .locate import NodeVerdict, locate
from .numeric import Derivative, ladder
from .ops import SuiteReport, check_all_ops, check_op
from .parameters import plain
from .report import Finding, GradientError, GradReport
from .watched import Watched


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for."""
    import importlib

    if name in ("strategies", "laws", "mutants"):
        return importlib.import_module(f".{name}", __name__)
    if name == "grad_property":
        return importlib.import_module(".properties", __name__).grad_property
    raise AttributeError(f"module {__name__} has no attribute {name!r}")


__all__ = [
    "Derivative",
    "Finding",
    "GradReport",
    "GradientError",
    "NodeVerdict",
    "SuiteReport",
    "Watched",
    "adjoint_gap",
    "check_all_ops",
    "check_cell",
    "check_grads",
    "check_op",
    "check_vjp",
    "diagnose",
    "directional_derivative",
    "grad_report",
    "ladder",
    "laws",
    "locate",
    "mutants",
    "numerical_gradient",
    "observers",
    "plain",
    "register_cases",
    "taylor_rates",
]
