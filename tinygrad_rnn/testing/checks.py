"""check_grads and check_vjp: a gradient against numeric derivatives of the same function.

One side is the engine (or somebody's hand-written VJP), the other runs the same lines on plain
arrays and uses no derivative rule at all. Both take the same random cotangents v, so what is
compared is the gradient of sum(v * f(...)).
"""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..nests import leaves
from . import script
from .examine import compare_float32, examine, right_in_part
from .locate import first_wrong
from .oracle import quiet
from .report import GradientError, GradReport
from .sides import Engine, Hand, cotangents
from .subject import Gradients, Subject, tuples

observers: list[Callable[[GradReport], None]] = []  # called with every report of a check


OPTIONS = {"wrt", "cotangent", "order", "oracle", "directions", "rtol", "seed", "name"}


def check_grads(
    f: Callable[..., Any], *args: Any, on_inconclusive: str = "raise", **options: Any
) -> GradReport:
    """Check the gradients of f by numeric derivatives; raise GradientError where one is wrong.

        testing.check_grads(lambda x, W: np.tanh(x @ W), np.ones((2, 3)), np.eye(3) / 2)
        testing.check_grads(rnn, x)                # x, and every Parameter of the layer
        testing.check_grads(lambda x: tg.mse(model(x), target), x)    # and of what f closes over

    f        takes and returns arrays, or nests (tuples, lists, dicts) of them; runs on Tensors and
             on plain arrays alike, gives the same result each time, and changes nothing. One that
             only takes Tensors is wrapped, and the report says so
    args     float arrays, of any shape, are checked, other arguments passed on; Modules: all their
             Parameters
    options  wrt: what to check instead of everything: indices of args, Parameters, Modules
             cotangent: weights of the outputs, in f's own form; default: random
             order: 2 checks the gradient's own gradient as well
             oracle: "ladder" of differences, "complex" step, "both", or "auto": complex steps
             once they agreed with the ladder, else the ladder
             directions: how many random directions for each argument, or "all" for every element;
             "auto" is every element up to 32 of them, else 3 directions
             rtol: relative tolerance, 1e-9; seed; name
    on_inconclusive  "raise", "warn", or "skip" (as unittest.SkipTest, which pytest knows)

    A difference fails when it exceeds ten times the numeric derivative's own error bar plus rtol
    times its size; where the error bar itself is too wide to tell, the verdict is INCONCLUSIVE; at
    a kink the gradient must lie between the derivatives on both sides, and the verdict is KINK.
    float32 arguments: the gradient is checked in float64, and the float32 one compared with it.
    The error names the argument, the element and both values, the likely cause, the first wrong
    node and a script. Raises NoGradientError where there is nothing to check, ShapeError for a
    cotangent that does not fit, TypeError and ValueError for options that there are not.
    """
    __tracebackhide__ = True  # pytest shows the report, not these lines
    _known("check_grads", options, OPTIONS)
    return _judged(grad_report(f, *args, **options), on_inconclusive)


@quiet
def grad_report(
    f: Callable[..., Any],
    *args: Any,
    wrt: Any = None,
    cotangent: Any = None,
    order: int = 1,
    oracle: str = "auto",
    directions: int | str = "auto",
    rtol: float = 1e-9,
    seed: int = 0,
    name: str | None = None,
) -> GradReport:
    """As check_grads, but returns the GradReport whatever the verdict.

        report = testing.grad_report(tg.relu, np.array([0.0, 1.0]))
        report.verdict                    # 'KINK'

    Arguments, of any shape, and options as for check_grads. Raises NoGradientError, ShapeError,
    TypeError, ValueError as that, but no GradientError.
    """
    subject = Subject(f, args, wrt)
    report = GradReport(name or str(getattr(f, "__name__", type(f).__name__)))
    report.notes += subject.unchecked()
    rng = np.random.default_rng(seed)
    given = None if cotangent is None else leaves(tuples(cotangent))
    how: dict[str, Any] = {"oracle": oracle, "directions": directions, "rtol": rtol}
    if type(order) is not int or order < 1:
        raise ValueError(f"order={order!r}: expected 1, or 2 for the gradient's own gradient")
    for depth in range(1, order + 1):
        engine = Engine(subject)
        weights = cotangents(engine.outputs, given, rng)
        examine(report, subject, engine, weights, rng=rng, **how)
        if depth == 1 and report.ok:
            compare_float32(report, subject, Engine, weights, rng)
        if not report.ok:
            break
        if depth < order:
            subject, given = Gradients(subject, weights), None
    if report.verdict == "FAIL":
        report.located = first_wrong(subject)
        if report.located is None and not report.problems:
            beside = _beside(subject, rng, how) if _at_kinks_only(report) else "FAIL"
            if beside != "FAIL":
                for finding in report.findings:
                    finding.verdict = finding.verdict.replace("FAIL", "KINK")
                report.wrong, report.causes = {}, []
                report.notes.append("several kinks coincide; every rule is right there: move x")
                if beside == "INCONCLUSIVE":
                    report.doubts.append("several kinks coincide, and beside them nothing is known")
            else:
                alone = "every rule is right alone" + ", to second order, too" * (depth > 1)
                report.notes.append(f"{alone}: was something detached, or read by .data, float()?")
    options = how | {"cotangent": cotangent, "order": order, "seed": seed, "wrt": _said(wrt)}
    node = report.located if depth == 1 else None  # its script alone would check the first order
    report.script = partial(script.of_check, "check_grads", [f], args, options, node)
    return report


def _at_kinks_only(report: GradReport) -> bool:
    return all(finding.sides for finding in report.findings if finding.verdict == "FAIL")


def _beside(subject: Subject, rng: np.random.Generator, how: dict[str, Any]) -> str:
    """The verdict a little off the kinks, where a value that was detached is seen, too."""
    near, report = subject.moved(rng), GradReport("")
    engine = Engine(near)
    examine(report, near, engine, cotangents(engine.outputs, None, rng), rng=rng, **how)
    return "KINK" if report.verdict == "FAIL" and _at_kinks_only(report) else report.verdict


def check_vjp(
    f: Callable[..., Any],
    vjp: Callable[..., Any],
    *args: Any,
    on_inconclusive: str = "raise",
    **options: Any,
) -> GradReport:
    """Check a gradient that somebody wrote by hand, in NumPy: the engine takes no part.

        testing.check_vjp(np.sin, lambda g, x: g * np.cos(x), np.array([0.3, -2.0]))

    f        takes and returns plain arrays (or nests of them)
    vjp      vjp(g, *args): g in the form of f's result; returns one gradient for each float
             argument, in order and in its form (a bare array where there is one; None for zero)
    options  as for check_grads, but for order; on_inconclusive as there

    float32 arguments: checked in float64, and what vjp gives for float32 compared with that. Also
    tells of a vjp that writes into its arguments, returns the same array twice, is not linear in g,
    or gives another result the second time. Raises GradientError, and as check_grads
    NoGradientError, TypeError, ValueError; ShapeError for a gradient that has not its argument's
    shape.
    """
    __tracebackhide__ = True
    _known("check_vjp", options, OPTIONS - {"order"})
    return _judged(_vjp_report(f, vjp, *args, **options), on_inconclusive)


@quiet
def _vjp_report(
    f: Callable[..., Any],
    vjp: Callable[..., Any],
    *args: Any,
    wrt: Any = None,
    cotangent: Any = None,
    oracle: str = "auto",
    directions: int | str = "auto",
    rtol: float = 1e-9,
    seed: int = 0,
    name: str | None = None,
) -> GradReport:
    subject = Subject(f, args, wrt, modules=False)
    report = GradReport(name or str(getattr(vjp, "__name__", type(vjp).__name__)))
    report.notes += subject.unchecked()
    rng = np.random.default_rng(seed)
    hand = Hand(subject, vjp, report)
    given = None if cotangent is None else leaves(tuples(cotangent))
    weights = cotangents(hand.outputs, given, rng)
    how: dict[str, Any] = {"oracle": oracle, "directions": directions, "rtol": rtol}
    examine(report, subject, hand, weights, rng=rng, **how)
    if report.verdict == "FAIL":
        report.notes += right_in_part(subject, hand, weights, seed)
    elif report.ok:
        side = partial(Hand, vjp=vjp, report=GradReport(""))  # what it complains of it said before
        compare_float32(report, subject, side, weights, rng)
    options = how | {"cotangent": cotangent, "seed": seed, "wrt": _said(wrt)}
    report.script = partial(script.of_check, "check_vjp", [f, vjp], args, options)
    return report


def _known(check: str, options: dict[str, Any], known: set[str]) -> None:
    """TypeError for an option that is none, which is often meant for f."""
    for name in options.keys() - known:
        raise TypeError(
            f"{check} has no option {name!r}; there are {', '.join(sorted(known))}. To give f a "
            f"keyword: {check}(lambda x: f(x, {name}=...), x)"
        )


def _said(wrt: Any) -> Any:
    """wrt where a script can say it: indices and names."""
    items = wrt if isinstance(wrt, (list, tuple)) else [wrt]
    return wrt if all(isinstance(item, (int, str)) for item in items) else None


def _judged(report: GradReport, on_inconclusive: str) -> GradReport:
    """The report, or the error that it deserves."""
    __tracebackhide__ = True
    for observer in observers:
        observer(report)
    if on_inconclusive not in ("raise", "warn", "skip"):
        raise ValueError(f'on_inconclusive={on_inconclusive!r}: expected "raise", "warn" or "skip"')
    if report.verdict == "INCONCLUSIVE" and on_inconclusive == "skip":
        raise unittest.SkipTest(report.text())
    if report.verdict == "INCONCLUSIVE" and on_inconclusive == "warn":
        warnings.warn(report.text(), stacklevel=3)
    elif not report.ok:
        raise GradientError(report)
    return report
