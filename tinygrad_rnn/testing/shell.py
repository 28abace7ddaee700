"""check_grads on the shell: `python -m tinygrad_rnn check 'file.py:f(np.ones(3))'`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from ..cells import Cell
from ..shell import UsageError, called, run, seed
from .cells import check_cell
from .checks import grad_report
from .report import GradientError

EXAMPLE = "python -m tinygrad_rnn check 'cell.py:step(np.ones(3), h=np.zeros(4))'"
FLAGS: dict[str, tuple[Any, str]] = {
    "rtol": (float, "relative tolerance"),
    "seed": (seed, "of the random directions and cotangents"),
    "order": (int, "2: the gradient's own gradient, too"),
    "oracle": (str, "numeric derivatives: auto, ladder, complex or both"),
    "directions": (lambda text: int(text) if text.isdigit() else text, "a number, or all"),
    "name": (str, "what the report calls the function"),
}


def main(argv: list[str]) -> int:
    """Check one call, print the report. 0: right; 1: wrong or inconclusive; 2: nothing checked.

    main(["cell.py:step(np.ones(3))"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn check",
        description="Check the gradient of a function by numeric derivatives.",
        epilog=f"Example: {EXAMPLE}. Exit status: 0 right, 1 wrong or inconclusive, 2 not checked.",
    )
    parser.add_argument(
        "call",
        help="'path/to/file.py:f(np.ones(3))' or 'package.module:f(np.ones(3))', quoted: a call "
        "in the names of that file, and np, tg, testing. Float arrays among the positional "
        "arguments are checked, keywords are passed on",
    )
    for flag, (kind, text) in FLAGS.items():
        parser.add_argument(f"--{flag}", type=kind, default=argparse.SUPPRESS, help=text)
    options = vars(parser.parse_args(argv))

    def work(call: str, module: ModuleType) -> int:
        report = check(call, module, options)
        print(report.text())
        return 0 if report.ok else 1

    return run("check", options.pop("call"), EXAMPLE, work)


def check(call: str, module: ModuleType, options: dict[str, Any]) -> Any:
    """The report for a call that is written as in the module's own code."""
    text, f, args, kwargs = called(call, module, testing=sys.modules[__package__])
    if isinstance(f, type) and issubclass(f, Cell):
        if others := [flag for flag in options if flag not in ("seed", "rtol")]:
            raise UsageError(f"--{others[0]} is for functions; a cell's check takes --seed, --rtol")
        try:
            return check_cell(lambda: f(*args, **kwargs), **options)
        except GradientError as error:
            return error.report
    return grad_report(_with_keywords(f, kwargs), *args, **{"name": text, **options})


def _with_keywords(f: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """f with its keywords; a closure, in which the check finds f if it is a Module."""
    return wraps(f, updated=())(lambda *args: f(*args, **kwargs)) if kwargs else f
