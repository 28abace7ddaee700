"""grad_property: a hypothesis test that the gradients of a function are right.

`given`, `check_grads` and a target for the search in one: hypothesis looks for arguments on which
a gradient is wrong, and shrinks them.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..vjp import RULES
from . import strategies as _strategies  # noqa: F401  (first: it says what to install)

# isort: split
from hypothesis import Phase, event, given, note, settings, target
from hypothesis.strategies import SearchStrategy

from .checks import check_grads
from .report import GradientError, GradReport

SETTINGS = "_hypothesis_internal_use_settings"  # where hypothesis keeps a test's settings


def grad_property(
    f: Callable[..., Any] | SearchStrategy[Any],
    *positional: SearchStrategy[Any],
    **options: Any,
) -> Any:
    """A test: check_grads passes for f, on all arguments that the strategies give.

        test_matmul = testing.grad_property(np.matmul, strategies.gufunc("(m,k),(k,n)->(m,n)"))

    pytest collects it, like every function named test_...; calling it runs it, too. To assert
    more, decorate a function of the arguments and the report:

        @testing.grad_property(np.linalg.norm, strategies.lattice((3,), exclude=[0]))
        def test_norm(x, report):
            assert report.worst.error < 1e-12

    f           what is differentiated, of arrays of any shape; or a strategy of calls that have
                `.inputs`: programs(), calls(np.tanh)
    positional  one strategy for each argument. One that gives tuples, as gufunc does, gives
                several arguments (an argument that is a tuple is a tuple inside a tuple)
    options     strategies for arguments by f's own names; and the options of check_grads:
                wrt, cotangent, order, rtol, ...

    Hypothesis' own decorators go on top: @settings(max_examples=1000), @example(...) with one
    value for each strategy. The profile's deadline is not applied, since a first call may be slow;
    a different one in @settings is. The error, relative to the one allowed, is hypothesis' target,
    and the verdict an event: `pytest --hypothesis-show-statistics` shows both. Raises TypeError
    without strategies, and when the test runs what check_grads raises.
    """
    named = {k: v for k, v in options.items() if isinstance(v, SearchStrategy)}
    fixed = {k: v for k, v in options.items() if k not in named}
    drawn = {**_names(f, positional, named), **named}
    if isinstance(f, SearchStrategy):
        drawn = {"call": f, **drawn}
    if not drawn:
        raise TypeError(
            "grad_property(f, strategy, ...): expected a strategy for each argument of f, such as "
            "strategies.lattice((2, 3))"
        )
    caller = sys._getframe(1)

    def check(body: Callable[..., Any] | None, values: dict[str, Any]) -> None:
        __tracebackhide__ = True
        call: Any = values.pop("call") if isinstance(f, SearchStrategy) else f
        by_name = {name: values.pop(name) for name in named}
        args = [] if call is f else list(call.inputs)
        for value in values.values():
            args += value if type(value) is tuple else [value]
        report = _checked(*_bound(call, args, by_name), fixed)
        if body:
            body(*args, **by_name, report=report)

    def test_of(body: Callable[..., Any] | None) -> Any:
        def run(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            check(body, {**dict(zip(drawn, args, strict=False)), **kwargs})

        name = str(getattr(body or f, "__name__", "calls")).replace("<lambda>", "f")
        run.__name__ = run.__qualname__ = name if body else f"check_grads_of_{name}"
        run.__doc__ = body.__doc__ if body else f"The gradients of {name} are right."
        run.__module__ = caller.f_globals.get("__name__", __name__)
        vars(run)["__signature__"] = _signature(drawn)
        # From a test's source hypothesis makes its key in the database and, in deterministic
        # profiles, its seed. The source of all properties is the same: this tells them apart.
        key = f"{run.__module__} {_content(f)} {drawn!r} {fixed!r} {_content(body)}"
        key = re.sub(r" at 0x[0-9a-fA-F]+", "", key)  # the same key in the next run
        vars(run)["_hypothesis_internal_add_digest"] = key.encode()
        test = given(**drawn)(run)
        usual = settings.default.deadline if settings.default else None

        def run_or_decorate(body: Any = None) -> Any:
            __tracebackhide__ = True
            if inspect.isfunction(body):
                return test_of(body)
            chosen = getattr(test, SETTINGS, None)
            # A report says more than the lines that only failing examples ran.
            phases = [p for p in chosen.phases if p is not Phase.explain] if chosen else []
            if chosen and chosen.deadline == usual:
                setattr(test, SETTINGS, settings(chosen, deadline=None, phases=phases))
            return test()

        # One dict for both: hypothesis' decorators, and its pytest plugin, leave their marks
        # on the outer function, and the inner one reads them.
        run_or_decorate.__dict__ = test.__dict__
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(run_or_decorate, attribute, getattr(test, attribute))
        return run_or_decorate

    return test_of(None)


def _names(
    f: Any, positional: Sequence[SearchStrategy[Any]], named: dict[str, Any]
) -> dict[str, SearchStrategy[Any]]:
    """The positional strategies by f's own names; `args` where one gives several arguments."""
    count = len(positional)
    known, required = [], 0
    if isinstance(f, np.ufunc):
        known, required = [f"x{i}" for i in range(f.nin)] if f.nin > 1 else ["x"], f.nin
    elif callable(f):
        parameters = [p for p in _parameters(f) if p.name not in named]
        known = [p.name for p in parameters]
        required = sum(p.default is p.empty for p in parameters)
    if not required <= count <= len(known):
        known = ["args"] if count == 1 else [f"args{i}" for i in range(count)]
    return dict(zip(known, positional, strict=False))


def _content(f: Any) -> str:
    """What a function does: its name, its code, and the values that it closes over."""
    code = getattr(f, "__code__", None)
    if code is None:
        return repr(f)
    closed = inspect.getclosurevars(f).nonlocals
    values = code.co_consts, f.__defaults__, f.__kwdefaults__, closed
    return f"{f.__qualname__} {code.co_code!r} {code.co_names} {values!r}"


def _signature(names: Iterable[str]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in names])


def _parameters(f: Callable[..., Any]) -> list[inspect.Parameter]:
    """f's parameters that may be given by position."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:  # functions written in C
        return []
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _bound(
    f: Callable[..., Any], args: list[Any], by_name: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """A function and its arguments, all by position, as check_grads wants them."""
    rule = RULES.get(f)
    if rule is not None:  # an op's keywords are no operands: nothing is differentiated there
        operands = list(rule.defaults)[: len(rule.vjps)]
        static = {name: value for name, value in by_name.items() if name not in operands}
        by_name = {name: value for name, value in by_name.items() if name in operands}
        name, f = rule.name, functools.partial(f, **static)
        vars(f)["__name__"] = name
    if not by_name:
        return f, args
    bound = inspect.signature(f).bind(*args, **by_name)
    if not bound.kwargs:
        return f, list(bound.args)
    names = [*inspect.signature(f).bind_partial(*args).arguments, *by_name]

    def by_position(*xs: Any) -> Any:
        return f(*xs[: len(args)], **dict(zip(by_name, xs[len(args) :], strict=True)))

    if len(names) == len(args) + len(by_name):  # not so with *args: then the names stay x0, x1
        vars(by_position)["__signature__"] = _signature(names)
    by_position.__name__ = getattr(f, "__name__", type(f).__name__)
    return by_position, [*args, *by_name.values()]


def _checked(f: Callable[..., Any], args: list[Any], fixed: dict[str, Any]) -> GradReport:
    """check_grads, and what hypothesis shall know of it."""
    __tracebackhide__ = True
    try:
        report = check_grads(f, *args, **fixed)
    except GradientError as error:
        _tell(error.report)
        raise
    _tell(report)
    note(report.text())  # a GradientError carries its report itself
    return report


def _tell(report: GradReport) -> None:
    """The verdict as an event; as target how large the largest error is beside its tolerance."""
    event(f"verdict: {report.verdict}")
    ratios = [x.difference / x.allowed for x in report.findings if x.allowed > 0]
    worst = max((r for r in ratios if math.isfinite(r)), default=0.0)
    target(math.log10(min(max(worst, 1e-6), 1e6)), label="log10 of error / tolerance")
