"""check_grads, check_cell on the shell: `python -m tinygrad_rnn check 'file.py:f(np.ones(3))'`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np

from ..cells import Cell
from ..errors import NoGradientError
from ..nests import leaves
from ..shell import INPUTS, UsageError, called, run, seed, widths
from .cells import LAWS, check_cell
from .checks import grad_report
from .report import GradientError
from .subject import tuples

EXAMPLE = "python -m tinygrad_rnn check 'cell.py:step(np.ones(3), h=np.zeros(4))'"
CELL = "python -m tinygrad_rnn check 'cell.py:MyCell(3, 4)' --only gradients"
Flags = dict[str, tuple[Any, str]]
BOTH: Flags = {
    "rtol": (float, "relative tolerance"),
    "seed": (seed, "of the random directions and cotangents"),
}
FUNCTION: Flags = {
    "order": (int, "2: the gradient's own gradient, too"),
    "oracle": (str, "numeric derivatives: auto, ladder, complex or both"),
    "directions": (lambda text: int(text) if text.isdigit() else text, "a number, or all"),
    "name": (str, "what the report calls the function"),
}
CELLS: Flags = {
    "inputs": (widths, INPUTS),
    "only": (lambda text: text.split(","), f"some laws, with commas between: {', '.join(LAWS)}"),
}


def main(argv: list[str]) -> int:
    """Check one call, print the report. 0: right; 1: wrong or inconclusive; 2: nothing checked.

    main(["cell.py:step(np.ones(3))"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn check",
        description="Check a function's gradient by numeric derivatives, or the laws of a cell.",
        epilog=f"Examples: {EXAMPLE}; {CELL}. "
        "Exit status: 0 right, 1 wrong or inconclusive, 2 not checked.",
    )
    parser.add_argument(
        "call",
        help="'path/to/file.py:f(np.ones(3))' or 'package.module:f(np.ones(3))', quoted: a call "
        "in the names of that file, and np, tg, testing. Float arrays among the positional "
        "arguments are checked, keywords are passed on. Or a cell, 'cell.py:MyCell(3, 4)'",
    )
    groups: list[tuple[Any, Flags]] = [
        (parser, BOTH),
        (parser.add_argument_group("for a function alone"), FUNCTION),
        (parser.add_argument_group("for a cell alone"), CELLS),
    ]
    for group, flags in groups:
        for flag, (kind, text) in flags.items():
            group.add_argument(f"--{flag}", type=kind, default=argparse.SUPPRESS, help=text)
    options = vars(parser.parse_args(argv))

    def work(call: str, module: ModuleType) -> int:
        report = check(call, module, options)
        print(report.text())
        return 0 if report.ok else 1

    return run("check", options.pop("call"), EXAMPLE, work)


def check(call: str, module: ModuleType, options: dict[str, Any]) -> Any:
    """The report for a call that is written as in the module's own code."""
    text, f, args, kwargs = called(call, module, testing=sys.modules[__package__])
    cell = isinstance(f, type) and issubclass(f, Cell)
    own, other = (CELLS, FUNCTION) if cell else (FUNCTION, CELLS)
    if wrong := [flag for flag in options if flag in other]:
        one, others = ("cell", "functions") if cell else ("function", "cells")
        known = ", ".join(f"--{flag}" for flag in ("seed", "rtol", *own))
        raise UsageError(f"--{wrong[0]} is for {others}; a {one}'s check takes {known}")
    if cell:
        try:
            return check_cell(lambda: f(*args, **kwargs), **options)
        except GradientError as error:
            return error.report
    try:
        return grad_report(_with_keywords(f, kwargs), *args, **{"name": text, **options})
    except NoGradientError as error:
        if any(a.dtype.kind == "f" for a in leaves(tuples(kwargs)) if isinstance(a, np.ndarray)):
            what = "what is given by name is passed on, not checked: give arrays by position"
            raise NoGradientError(f"{error}. Here {what}, {text}(np.ones(3))") from None
        raise


def _with_keywords(f: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """f with its keywords; a closure, in which the check finds f if it is a Module."""
    return wraps(f, updated=())(lambda *args: f(*args, **kwargs)) if kwargs else f
