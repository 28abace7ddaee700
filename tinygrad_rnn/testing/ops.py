"""check_op and check_all_ops: every rule against its own function, on cases drawn at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import NoGradientError
from ..graph import Node, run_vjp
from ..nests import leaves
from ..tensor import Tensor
from ..vjp import COMPOSED, RULES
from .cases import MAKERS, Maker, draw, drawn
from .checks import grad_report, observers
from .examine import compare_float32
from .oracle import quiet
from .report import GradientError, GradReport
from .sides import Engine, cotangents
from .subject import Subject

VERDICTS = ("PASS", "KINK", "INCONCLUSIVE", "FAIL")  # from good to bad
VALUES_ONLY = (np.allclose, np.array_equal)  # composed functions that have no derivative


@dataclass(repr=False)
class SuiteReport:
    """What a suite of checks found; `print(report.text())`.

        report = testing.check_op(np.tanh, count=5)
        report.ok, report.counts["PASS"], report.unchecked      # (True, 5, [])
        print(report.text())

    verdicts    name -> the worst verdict of its checks: PASS, KINK, INCONCLUSIVE or FAIL
    reports     name -> the worst GradReport
    failures    name -> what went wrong first, and how to repeat it
    counts      verdict -> how many checks
    unchecked   names of what has no cases
    title, what of the text: "gradients: 3 of 3 ops"
    Raises nothing of its own.
    """

    what: str = "ops"
    title: str = "gradients"
    verdicts: dict[str, str] = field(default_factory=dict)
    reports: dict[str, GradReport] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unchecked: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"SuiteReport({self.verdict}; {self.text().splitlines()[-1]}; .text())"

    def __str__(self) -> str:
        return self.text()

    @property
    def verdict(self) -> str:
        """FAIL, INCONCLUSIVE (a numeric derivative was not good enough to tell), or PASS."""
        return next((v for v in ("FAIL", "INCONCLUSIVE") if v in self.verdicts.values()), "PASS")

    @property
    def ok(self) -> bool:
        """Whether every check of everything passed."""
        return not self.failures

    def note(self, name: str, verdict: str, why: str = "") -> None:
        """Count one check. `why` is kept for the first of the worst; its first line says it all."""
        self.counts[verdict] += 1
        known = self.verdicts.get(name)
        if known is None or VERDICTS.index(verdict) > VERDICTS.index(known):
            self.verdicts[name] = verdict
            if verdict in ("INCONCLUSIVE", "FAIL"):
                self.failures[name] = f"{name}: {verdict}, {why}"

    def add(self, name: str, report: GradReport, case: str, repeat: str) -> None:
        """Count a GradReport."""
        self.note(name, report.verdict, f"{case}: {report.worst}\n{report.text()}\n{repeat}")
        known = self.reports.get(name)
        if known is None or _badness(report) > _badness(known):
            self.reports[name] = report

    def text(self) -> str:
        """A line for each name that failed, the first failure in full, and a line for all."""
        first, *others = self.failures.values() or [""]
        lines = [*first.splitlines(), *(why.splitlines()[0] for why in others[:20])]
        if len(others) > 20:
            lines.append(f"and {len(others) - 20} {self.what} more")
        passed = len(self.verdicts) - len(self.failures)
        parts = [
            f"{self.title}: {passed} of {len(self.verdicts)} {self.what}",
            f"{self.counts.total()} checks",
            f"{self.counts['KINK']} at kinks",
            f"{self.counts['INCONCLUSIVE']} inconclusive",
        ]
        if self.reports:
            worst = max(self.reports, key=lambda name: _badness(self.reports[name]))
            parts.insert(2, f"worst error {_badness(self.reports[worst])[1]:.0e} ({worst})")
        if self.unchecked:
            parts.append(f"unchecked: {', '.join(self.unchecked)}")
        return "\n".join([*lines, ", ".join(parts)])


def _badness(report: GradReport) -> tuple[int, float]:
    return VERDICTS.index(report.verdict), report.worst.error if report.worst else 0.0


def check_op(
    function: Callable[..., Any],
    make: Maker | None = None,
    count: int = 30,
    seed: int = 0,
    rtol: float = 1e-11,
    order: int = 1,
) -> SuiteReport:
    """Check one function on `count` random calls: values, gradients, float32. Raise on failure.

        testing.check_op(np.tanh)
        testing.check_op(tg.sigmoid, lambda rng: (tg.sigmoid, [rng.integers(-20, 20, 5) / 8]))

    function    NumPy's, this package's, or your own with a rule (`tg.defvjp`)
    make        make(rng) -> (call, arrays), of any shape, as for `register_cases`; default: the
                registered one
    seed        case k is drawn with seed + k: a failing case is repeated by its seed and count=1
    rtol        relative tolerance of every element of every gradient
    order       2: derivatives of the gradients, too

    On Tensors the call must give what it gives on plain arrays (to the bit for functions with a
    rule, to 1e-13 for others); every element of every gradient must agree with numeric derivatives;
    where NumPy gives float32 for float32, no VJP may return another dtype; and the gradient at the
    same arguments in float32 must be that of float64, to rounding. Raises GradientError, which
    names the first failing case, NoGradientError where nothing says how calls are drawn.
    """
    report = SuiteReport()
    if make is None:
        draw(function, np.random.default_rng(seed))
    seeds = range(seed, seed + count)
    name = getattr(function, "__name__", type(function).__name__)
    cause = _check(report, name, function, make or MAKERS[function], seeds, rtol, order)
    return judged(report, cause)


def check_all_ops(
    count: int = 30, seed: int = 0, rtol: float = 1e-11, order: int = 1
) -> SuiteReport:
    """check_op for every function that has a derivative. Raise GradientError if any fails.

        print(testing.check_all_ops(count=1).text())

    count, seed, rtol and order as for check_op. All rules of this package have cases; one without
    fails. Your own rules are checked where `register_cases` says how, else listed as `unchecked`.
    Raises also NoGradientError for count=0.
    """
    report = SuiteReport()
    everything = dict.fromkeys([*RULES, *COMPOSED])
    for function in sorted(everything, key=_is_ours, reverse=True):
        if function in VALUES_ONLY or (function in RULES and not RULES[function].differentiable):
            continue
        name = function.__name__
        if name in report.verdicts:  # somebody's own softmax beside the library's
            name = f"{function.__module__}.{name}"
        if function in MAKERS:
            seeds = range(seed, seed + count)
            _check(report, name, function, MAKERS[function], seeds, rtol, order)
        elif _is_ours(function):
            report.note(name, "FAIL", "it has no cases: add a maker to testing/cases.py")
        else:
            report.unchecked.append(name)
    return judged(report)


def _is_ours(function: Any) -> bool:
    """Whether a function is NumPy's or this package's. Other packages make ufuncs, too."""
    if isinstance(function, np.ufunc):
        return getattr(np, function.__name__, None) is function
    return function.__module__.split(".")[0] in ("numpy", __package__.split(".")[0])


def judged(report: SuiteReport, cause: Exception | None = None) -> SuiteReport:
    """The report, or the error that it deserves; who listens hears of each op or law before."""
    if not report.counts:
        raise NoGradientError("there is nothing to check: count must be at least 1")
    strict: GradientError | None = None  # an observer may refuse what passes here
    for name, verdict in report.verdicts.items():
        found = report.reports.get(name)
        if found is None or found.verdict != verdict:
            problems = [report.failures[name]] if verdict == "FAIL" else []
            found = GradReport(f"{report.title}: {name}", problems=problems)
        for observer in observers:
            try:
                observer(found)
            except GradientError as error:
                strict = strict or error
    if not report.ok:
        raise GradientError(report) from cause
    if strict:
        raise strict
    return report


# ----- one op ------------------------------------------------------------------------------------


def _check(
    report: SuiteReport,
    name: str,
    function: Any,
    make: Maker,
    seeds: range,
    rtol: float,
    order: int,
) -> Exception | None:
    """Add the cases of one op to the report; the first exception, if there was one."""
    cause: Exception | None = None
    given = name if MAKERS.get(function) is make else f"{name}, make"
    for seed in seeds:
        case = f"case of seed {seed}"
        repeat = f"  repeat it: testing.check_op({given}, seed={seed}, count=1)"
        try:
            call, arrays = drawn(function, make, np.random.default_rng(seed))
            faults = [*_wrong_values(call, arrays, function in RULES)]
            if not faults:
                found = grad_report(
                    call, *arrays, oracle="both", directions="all", order=order, rtol=rtol,
                    seed=seed, name=f"{name}, {case}",
                )  # fmt: skip
                faults = [*_casts(call, arrays)]
                if not faults and found.ok:
                    arrays = [a.astype(np.float32) for a in arrays]
                    faults = float32_faults(call, arrays, seed=seed)
        except Exception as error:  # whatever a wrong rule raises; the other ops are still checked
            faults, cause = [f"{type(error).__name__}: {error}"], cause or error
        if faults:
            report.note(name, "FAIL", f"{case}: {faults[0]}\n{repeat}")
        else:
            report.add(name, found, case, repeat)
    return cause


def _outputs(result: Any) -> list[Any]:
    """The arrays or Tensors that a call returned."""
    return leaves(tuple(result) if isinstance(result, list) else result)


def _wrong_values(call: Callable[..., Any], arrays: list[Any], exact: bool) -> Iterator[str]:
    """Where values on Tensors are not those on plain arrays."""
    ours = _outputs(call(*[Tensor(a, requires_grad=True) for a in arrays]))
    numpys = _outputs(call(*arrays))
    if len(ours) != len(numpys):
        yield f"{len(ours)} results on Tensors, {len(numpys)} on arrays"
    for a, b in zip(ours, map(np.asarray, numpys), strict=False):
        a = np.asarray(a.data if isinstance(a, Tensor) else a)
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            yield f"{a.dtype} {a.shape} on Tensors, {b.dtype} {b.shape} on arrays"
            continue
        near = 0.0  # composed functions may add in another order
        if not exact:
            near = 1e-13 * float(np.max(np.abs(b), initial=0, where=np.isfinite(b)))
        for at in np.argwhere(~np.isclose(a, b, rtol=0, atol=near, equal_nan=True)).tolist():
            values = f"{a[tuple(at)]!r} on Tensors, {b[tuple(at)]!r} on arrays"
            yield f"wrong value: element {at} is {values}"


@quiet
def float32_faults(f: Callable[..., Any], args: Any, wrt: Any = None, seed: int = 0) -> list[str]:
    """Where gradients at these float32 arguments are not those of float64, which are right."""
    report, rng = GradReport("float32"), np.random.default_rng(seed)
    subject = Subject(f, tuple(args), wrt)
    weights = cotangents(Engine(subject).outputs, None, rng)
    compare_float32(report, subject, Engine, weights, rng)
    return report.problems + [str(found) for found in report.findings if found.verdict == "FAIL"]


def _casts(call: Callable[..., Any], arrays: list[Any]) -> Iterator[str]:
    """VJPs that return another dtype than float32, although all else is float32."""
    arrays = [a.astype(np.float32) for a in arrays]
    if any(np.asarray(out).dtype != np.float32 for out in _outputs(call(*arrays))):
        return  # NumPy itself converts here
    outs = _outputs(call(*[Tensor(a, requires_grad=True) for a in arrays]))
    nodes: list[Node] = list({out._key[0]: None for out in outs if out.requires_grad})
    for node in nodes:  # the list grows: each node's inputs follow
        gs = tuple([np.ones(*like) for like in zip(node.shapes, node.dtypes, strict=True)])
        for i, (parent, slot), kept in node.edges or ():
            part = run_vjp(node, i, gs if node.several else gs[0], kept)
            part = part[i] if node.rule and node.rule.joint else part
            if np.result_type(part) != parent.dtypes[slot]:
                op = node.rule.name if node.rule else ""
                dtypes = f"{np.result_type(part)} for {parent.dtypes[slot]}"
                yield f"the gradient of argument {i} of {op} is {dtypes}"
            if parent not in nodes:
                nodes.append(parent)
