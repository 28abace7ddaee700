"""locate: which operation of a graph has the wrong rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..errors import TinygradError
from ..record import recording
from ..tensor import Tensor, apply
from ..vjp import rule_of
from .examine import examine
from .oracle import quiet
from .report import GradReport
from .sides import Engine, cotangents
from .subject import Gradients, Subject


@dataclass(repr=False)
class NodeVerdict:
    """One recorded call, its rule checked alone at the operands that it had.

        (verdict,) = testing.locate(np.tanh, np.ones(3))
        verdict.function is np.tanh, verdict.ok          # (True, True)

    function, operands, static  the call: arrays, and keywords
    node                        the operation, its shapes, its place in the network and its line
    report                      of its rule alone, a GradReport
    Raises nothing of its own.
    """

    function: Any
    operands: list[Any]
    static: dict[str, Any]
    node: str  # the operation, its shapes, its place in the network and its line
    report: GradReport

    def __repr__(self) -> str:
        return f"NodeVerdict({self.report.verdict}: {self.node})"

    @property
    def ok(self) -> bool:
        """Whether the rule is right there."""
        return self.report.ok

    def lines(self) -> list[str]:
        """For a report: where it is, and which of its arguments fails."""
        wrong = dict.fromkeys(f.argument for f in self.report.findings if f.verdict == "FAIL")
        what = ", ".join([*wrong, *self.report.problems]) or self.report.verdict
        return [self.node, f"checked alone: {what} wrong"]


def locate(f: Callable[..., Any], *args: Any, wrt: Any = None) -> list[NodeVerdict]:
    """Check the rule of every operation that f records, each alone, in the order they ran.

        verdicts = testing.locate(lambda x: np.tanh(x) ** 2, np.array([0.1, -2.0]))
        [v.node for v in verdicts if not v.ok]           # []: tanh and power are right

    f, args, wrt  as for check_grads, arrays of any shape. Rules are checked at the operands they
    had, along random directions or element by element; an operation that records nothing is left
    out. Raises NoGradientError where there is nothing to check.
    """
    return list(_verdicts(Subject(f, args, wrt)))


def first_wrong(subject: Subject) -> NodeVerdict | None:
    """The first operation whose rule is wrong alone; None where all are right.

    first_wrong(Subject(np.tanh, (np.ones(2),)))      # None

    Of gradients, which are wrong at second order, the rules of f are tried to second order, too.
    """
    twice = _verdicts(subject.inner, order=2) if isinstance(subject, Gradients) else ()
    return next((v for v in chain(_verdicts(subject), twice) if v.report.verdict == "FAIL"), None)


def _verdicts(subject: Subject, order: int = 1) -> Iterator[NodeVerdict]:
    calls: list[tuple[Any, ...]] = []
    with recording(watch=lambda *call: calls.append(call)):
        Engine(subject)
    for function, operands, static, outs in calls:
        if any(out.requires_grad for out in outs):
            arrays = [a.data if isinstance(a, Tensor) else a for a in operands]
            tracked = [isinstance(a, Tensor) and a.requires_grad for a in operands]
            report = quiet(_alone)(function, arrays, tracked, static, order)
            node = next(str(out._key[0]) for out in outs if out._key)
            yield NodeVerdict(function, arrays, static, node, report)


def _alone(
    function: Any, arrays: list[Any], tracked: list[bool], static: dict[str, Any], order: int
) -> GradReport:
    """One call, as a function of the operands that have a VJP."""
    rule = rule_of(function)
    report = GradReport(rule.name)
    wrt = [i for i, yes in enumerate(tracked) if yes and (rule.shared or rule.vjps[i])]

    def call(*xs: Any) -> Any:
        if any(isinstance(x, Tensor) for x in xs):
            return apply(function, *xs, **static)
        return rule.run(*xs, **static)

    try:
        subject = Subject(call, tuple(arrays), wrt, modules=False)
        how: dict[str, Any] = {"oracle": "auto", "directions": "auto", "rtol": 1e-9}
        rng, weights = np.random.default_rng(0), list[np.ndarray]()
        for depth in range(order):
            subject = Gradients(subject, weights) if depth else subject
            engine = Engine(subject)
            weights = cotangents(engine.outputs, None, rng)
            examine(report, subject, engine, weights, rng=rng, **how)
    except TinygradError as error:
        report.problems.append(f"{type(error).__name__}: {error}")
    return report
