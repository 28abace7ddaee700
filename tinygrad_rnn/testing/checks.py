"""check_grads: the engine's gradient of a function against numeric derivatives of the same lines.

The engine's side runs the function on Tensors and walks the graph back. The numeric side runs it on
plain arrays (`plain` for the Parameters of modules) and uses no derivative rule at all. Both take
the same random cotangents v, so that what is compared is the gradient of sum(v * f(...)).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np

from ..cells import leaves, map_tree
from ..differentiate import grad
from ..errors import (
    ConversionError,
    DtypeError,
    NoGradientError,
    ShapeError,
    TinygradError,
)
from ..module import Module, Parameter
from ..tensor import Tensor
from .numeric import Derivative, ladder, noise_of
from .parameters import plain

ROUNDING = float(np.finfo(np.float64).eps)
NEAR = (2.0**-43, 2.0**-23)  # spacings at which noise is looked for: float64's, and float32's
observers: list[Callable[[Any], None]] = []  # called with every report
RELIABLE = 1e-6  # a numeric derivative whose error bar is wider than this decides nothing


class GradientError(TinygradError, AssertionError):
    """A gradient is wrong, or could not be decided. `.report` has the details."""

    def __init__(self, report: GradReport) -> None:
        super().__init__(report.text())
        self.report = report


@dataclass
class Finding:
    """One comparison: of an element, or of the derivative along a random direction."""

    argument: str
    index: tuple[int, ...] | None  # None: along a direction through all elements
    backward: float
    numeric: Derivative
    scale: float  # of this argument's gradient: its largest element, or typical along u
    verdict: str = "PASS"

    @property
    def difference(self) -> float:
        """|backward - numeric|."""
        return abs(self.backward - self.numeric.value)

    @property
    def error(self) -> float:
        """The difference relative to the size of the argument's gradient."""
        return self.difference / self.scale if self.scale else self.difference

    def __str__(self) -> str:
        at = "along a direction" if self.index is None else f"element {list(self.index)}"
        value, error, h = self.numeric
        return (
            f"{self.argument}, {at}: backward {self.backward:.12g}, numeric {value:.12g} "
            f"+- {error:.1g} (h = 2**{int(np.log2(h))}), difference {self.difference:.3g}"
        )


@dataclass
class GradReport:
    """What a check found; `print(report.text())`."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    wrong: dict[str, tuple[int, int]] = field(default_factory=dict)  # argument: wrong of how many
    deterministic: bool = True  # f gave the same when called twice

    @property
    def verdict(self) -> str:
        """PASS, FAIL, or INCONCLUSIVE where the numeric derivative is not good enough to tell."""
        verdicts = {f.verdict for f in self.findings}
        if not self.deterministic:
            return "INCONCLUSIVE"
        return next((v for v in ("FAIL", "INCONCLUSIVE") if v in verdicts), "PASS")

    @property
    def ok(self) -> bool:
        """Whether every comparison passed."""
        return self.verdict == "PASS"

    @property
    def worst(self) -> Finding | None:
        """The comparison that decides: the worst of the verdict, single elements first."""
        matching = [f for f in self.findings if f.verdict == self.verdict] or self.findings
        named = [f for f in matching if f.index is not None] if not self.ok else []
        return max(named or matching, key=lambda f: f.error, default=None)

    def text(self) -> str:
        """At most 25 lines: the verdict, the worst element, and what each argument did."""
        arguments = list(dict.fromkeys(f.argument for f in self.findings))
        lines = [f"{self.name}: {self.verdict}, {len(self.findings)} comparisons"]
        if not self.deterministic:
            lines.append("  f is not deterministic: two calls with the same arguments differ")
        if self.worst:
            lines.append(f"  worst: {self.worst}")
        for argument in arguments[:20]:
            own = [f for f in self.findings if f.argument == argument]
            line = f"  {argument}: relative error {max(f.error for f in own):.1e}"
            if argument in self.wrong:
                line += ", wrong in {} of {} elements".format(*self.wrong[argument])
            if argument in self.unused:
                line += ", not used by f"
            lines.append(line)
        if len(arguments) > 20:
            lines.append(f"  and {len(arguments) - 20} arguments more")
        return "\n".join(lines)


def check_grads(f: Callable[..., Any], *args: Any, **options: Any) -> GradReport:
    """Check the gradients of f by numeric derivatives; raise GradientError where one is wrong.

        testing.check_grads(lambda x, W: np.tanh(x @ W), x, W)
        testing.check_grads(rnn, x)                # x, and every Parameter of the layer
        testing.check_grads(lambda x: loss(model(x)), x)      # Modules that f closes over, too

    f        takes and returns arrays, or nests (tuples, dicts) of them; runs on Tensors and on
             plain arrays alike, gives the same result each time, and changes nothing
    args     float64 arrays are checked, other arguments passed on; Modules: all their Parameters
    options  wrt: what to check instead of everything: indices of args, Parameters, Modules
             cotangent: weights of the outputs, in f's own form; default: random
             directions: how many random directions for each argument, or "all" for every element;
             "auto" is every element up to 32 of them, else 3 directions
             rtol: relative tolerance, 1e-9; seed; name

    A difference fails when it exceeds ten times the numeric derivative's own error bar plus rtol
    times its size; where the error bar itself is too wide to tell, the verdict is INCONCLUSIVE.
    The error names the argument, the element and both values. Raises DtypeError for float32 (its
    rounding would hide faults) and ConversionError where f does not run on plain arrays.
    """
    report = grad_report(f, *args, **options)
    for observe in observers:
        observe(report)
    if not report.ok:
        raise GradientError(report)
    return report


def grad_report(
    f: Callable[..., Any],
    *args: Any,
    wrt: Any = None,
    cotangent: Any = None,
    directions: int | str = "auto",
    rtol: float = 1e-9,
    seed: int = 0,
    name: str | None = None,
) -> GradReport:
    """As check_grads, but returns the GradReport whatever the verdict."""
    report = GradReport(name or str(getattr(f, "__name__", type(f).__name__)))
    rng = np.random.default_rng(seed)
    variables = _variables(f, args, wrt)
    chosen = _chosen(variables, wrt)
    weights, gradients = _backward(f, args, chosen, cotangent, rng)
    overall = max((float(np.abs(g).max(initial=0)) for g in gradients if g is not None), default=0)
    with _evaluator(f, args, variables, weights) as (evaluate, arrays):
        report.deterministic = evaluate.repeats()
        for v, g in zip(chosen, gradients, strict=True):
            if g is None:
                report.unused.append(v.name)
            g = np.zeros(v.value.shape) if g is None else g
            compare = _Comparison(v.name, g, arrays[v.key], evaluate, overall, rtol, rng)
            everywhere = directions == "all" or (directions == "auto" and g.size <= 32)
            ways = [] if everywhere else _directions(rng, g.shape, directions)
            found = [compare(u, None) for u in ways]
            if everywhere or any(x.verdict == "FAIL" for x in found):
                single = [compare(_unit(g.shape, at), at) for at in np.ndindex(g.shape)]
                bad = sum(x.verdict == "FAIL" for x in single)
                if bad:
                    report.wrong[v.name] = (bad, len(single))
                found += single
            report.findings += found
    return report


# ----- what is checked ---------------------------------------------------------------------------


@dataclass
class _Variable:
    """A float array that f depends on: an argument (or part of one), or a Parameter."""

    name: str
    key: int  # the Parameter's id, or the argument's place among all leaves
    value: np.ndarray
    argument: int | None  # which of args it belongs to
    owner: Any  # the Parameter, or the Module that led to it
    parameter: Parameter | None


def _variables(f: Callable[..., Any], args: tuple[Any, ...], wrt: Any) -> list[_Variable]:
    found: list[_Variable] = []
    names = _argument_names(f, len(args))
    count = 0
    for i, arg in enumerate(args):
        if isinstance(arg, Module):
            continue
        parts = _leaves(arg)
        for k, part in enumerate(parts):
            value = part.data if isinstance(part, Tensor) else part
            value = np.float64(value) if type(value) is float else value
            if isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f":
                name = names[i] if len(parts) == 1 else f"{names[i]}[{k}]"
                found.append(_Variable(name, count, np.asarray(value), i, None, None))
            count += 1
    for prefix, module, at in _modules(f, args, names, wrt):
        for name, p in module.named_parameters().items():
            if not any(v.parameter is p for v in found):
                full = f"{prefix}.{name}" if prefix else name
                found.append(_Variable(full, id(p), p.data, at, module, p))
    return found


def _argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """The names that f's own signature gives to its positional arguments."""
    names: list[str] = []
    try:
        for p in inspect.signature(f).parameters.values():
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                names.append(p.name)
    except (TypeError, ValueError):
        pass
    return [names[i] if i < len(names) else f"argument {i}" for i in range(count)]


def _modules(
    f: Callable[..., Any], args: tuple[Any, ...], names: list[str], wrt: Any
) -> Iterator[tuple[str, Module, int | None]]:
    """Modules that f depends on: f, its owner, arguments, what it closes over, and those in wrt."""
    for owner in (f, getattr(f, "__self__", None)):
        if isinstance(owner, Module):
            yield "", owner, None
    for k, arg in enumerate(args):
        if isinstance(arg, Module):
            yield names[k], arg, k
    if inspect.isfunction(f):
        inner = inspect.getclosurevars(f).nonlocals
        found = {name: f.__globals__.get(name) for name in _global_names(f.__code__)} | dict(inner)
        for name, value in found.items():
            if isinstance(value, Module):
                yield name, value, None
    for item in wrt if isinstance(wrt, (list, tuple)) else [wrt]:
        if isinstance(item, Module):
            yield type(item).__name__, item, None


def _global_names(code: CodeType) -> set[str]:
    """The names that a function looks up, with those of the functions defined inside it."""
    inner = [_global_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)


def _chosen(variables: list[_Variable], wrt: Any) -> list[_Variable]:
    """The variables that shall be checked; an error for anything that cannot be."""
    items = wrt if isinstance(wrt, (list, tuple)) else [wrt]
    chosen = [v for v in variables if wrt is None or any(_is_wanted(v, item) for item in items)]
    for item in items if wrt is not None else []:
        if not any(_is_wanted(v, item) for v in variables):
            raise NoGradientError(
                f"wrt={item!r} is none of f's float arguments or Parameters. Expected indices of "
                "args, Parameters or Modules"
            )
    if not chosen:
        raise NoGradientError(
            "there is nothing to check: f has no float array among its arguments, and no Module "
            "with Parameters. Give float64 arrays, or pass wrt=[module]"
        )
    for v in chosen:
        if v.value.dtype != np.float64:
            raise DtypeError(
                f"{v.name} is {v.value.dtype}: gradients are checked in float64. Convert arrays by "
                ".astype(np.float64), make modules with dtype=np.float64"
            )
    return chosen


def _is_wanted(v: _Variable, item: Any) -> bool:
    if isinstance(item, Module):
        return any(p is v.parameter for p in item.parameters())
    if isinstance(item, Tensor):
        return item is v.parameter
    return isinstance(item, int) and item == v.argument


# ----- the two sides -----------------------------------------------------------------------------


def _outputs(result: Any) -> list[Any]:
    """The float arrays or Tensors that a function returned."""
    found = [out for out in _leaves(result) if getattr(out, "dtype", np.dtype(int)).kind == "f"]
    if not found:
        raise NoGradientError(
            f"f returned no float array to differentiate, but a {type(result).__name__}. Was "
            "`return` forgotten, or a value read by float() or .item()?"
        )
    return found


def _leaves(tree: Any) -> list[Any]:
    """The leaves of a nest in which lists count as tuples."""
    return leaves(_tuples(tree))


def _tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _tuples(item) for key, item in tree.items()}
    if isinstance(tree, list) or type(tree) is tuple:
        return tuple(_tuples(item) for item in tree)
    return tree


def _backward(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    chosen: list[_Variable],
    cotangent: Any,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[Any]]:
    """The engine's gradients of sum(v * f(...)), and the cotangents v."""
    tensors = {v.key: Tensor(v.value, requires_grad=True) for v in chosen if v.parameter is None}
    outputs = _outputs(f(*_filled(args, tensors)))
    if cotangent is None:
        weights = [_rounded_normals(rng, out.shape) for out in outputs]
    else:
        weights = [np.asarray(v, dtype=np.float64) for v in _leaves(cotangent)]
    if [v.shape for v in weights] != [out.shape for out in outputs]:
        raise ShapeError(
            f"cotangent has the shapes {[v.shape for v in weights]}, and f's float outputs have "
            f"{[out.shape for out in outputs]}: give one weight for each output element"
        )
    total: Any = 0.0
    for out, v in zip(outputs, weights, strict=True):
        total = total + (out * v).sum()
    inputs = [v.parameter if v.parameter is not None else tensors[v.key] for v in chosen]
    if not isinstance(total, Tensor) or not total.requires_grad:
        return weights, [None] * len(chosen)
    found = grad(total, inputs, allow_unused=True)
    return weights, [None if g is None else g.data for g in found]


class _Evaluate:
    """sum(v * f(...)) on plain arrays, as differences of outputs."""

    def __init__(self, run: Callable[[], Any], weights: list[np.ndarray]) -> None:
        self.run, self.weights = run, weights

    def outputs(self) -> list[np.ndarray]:
        found = _outputs(self.run())
        if any(isinstance(out, Tensor) for out in found):
            raise ConversionError(
                "f returned a Tensor although it was called on plain arrays: it uses a Tensor or "
                "a Parameter that the check cannot see. Pass it as an argument, or its Module"
            )
        return [np.array(out) for out in found]  # f may return a view of what is changed next

    def repeats(self) -> bool:
        """Whether f gives the same, to the bit, when called again."""
        pairs = zip(self.outputs(), self.outputs(), strict=True)
        return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    def noise(self, array: np.ndarray, u: np.ndarray) -> float:
        """The rounding noise of sum(v * f): seen at neighbouring points, and that of the sum."""
        here, x = self.outputs(), array.copy()
        size = float(sum(np.abs(o * v).sum() for o, v in zip(here, self.weights, strict=True)))
        near = [[self._change(array, x, k * h * u, here) for k in range(7)] for h in NEAR]
        seen = [noise_of(values) for values in near]
        return max([ROUNDING * size, *[n for n in seen if np.isfinite(n)]])

    def _change(self, array: np.ndarray, x: np.ndarray, step: Any, minus: list[Any]) -> float:
        """sum(v * (f(x + step) - minus)): subtracted first, then summed, to lose nothing."""
        try:
            np.copyto(array, x + step)
            parts = zip(self.outputs(), minus, self.weights, strict=True)
            return float(sum(((p - m) * v).sum() for p, m, v in parts))
        finally:
            np.copyto(array, x)

    def difference(self, array: np.ndarray, u: np.ndarray, h: float) -> float:
        """sum(v * (f(x + h u) - f(x - h u)))."""
        x = array.copy()
        try:
            np.copyto(array, x - h * u)
            minus = self.outputs()
        finally:
            np.copyto(array, x)
        return self._change(array, x, h * u, minus)


@contextmanager
def _evaluator(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    variables: list[_Variable],
    weights: list[np.ndarray],
) -> Iterator[tuple[_Evaluate, dict[int, np.ndarray]]]:
    """The plain side, and the arrays that it computes with: changing one changes f's input."""
    arrays = {v.key: np.array(v.value) for v in variables if v.parameter is None}
    with plain(*{id(v.owner): v.owner for v in variables if v.owner is not None}.values()) as swaps:
        plain_args = _filled(args, arrays)
        with np.errstate(all="ignore"):  # a rung outside the domain is left out, without a word
            yield _Evaluate(lambda: f(*plain_args), weights), arrays | swaps


def _filled(args: tuple[Any, ...], values: dict[int, Any]) -> tuple[Any, ...]:
    """args with some of their leaves replaced."""
    count = iter(range(10**9))

    def fill(leaf: Any) -> Any:
        k = next(count)
        return values.get(k, leaf.data if isinstance(leaf, Tensor) else leaf)

    return tuple(a if isinstance(a, Module) else _like(a, map_tree(fill, _tuples(a))) for a in args)


def _like(original: Any, filled: Any) -> Any:
    """Tuples back to lists where the original had lists."""
    if isinstance(original, dict):
        return {key: _like(item, filled[key]) for key, item in original.items()}
    if isinstance(original, list) or type(original) is tuple:
        return type(original)(map(_like, original, filled))
    return filled


class _Comparison:
    """One argument's gradient against numeric derivatives, along one direction after another."""

    def __init__(
        self,
        name: str,
        g: np.ndarray,
        array: np.ndarray,
        evaluate: _Evaluate,
        overall: float,
        rtol: float,
        rng: np.random.Generator,
    ) -> None:
        self.name, self.g, self.array, self.evaluate = name, g, array, evaluate
        self.overall, self.rtol = overall, rtol  # the largest gradient of all arguments
        # Steps of the size of x where x is small: a function may change on that scale.
        largest = float(np.abs(array).max(initial=0.0))
        self.unit = min(1.0, 2.0 ** np.ceil(np.log2(32 * largest))) if largest else 1.0
        self.noise = evaluate.noise(array, self.unit * _rounded_normals(rng, g.shape))

    def __call__(self, u: np.ndarray, index: tuple[int, ...] | None) -> Finding:
        g = self.g
        numeric = ladder(
            lambda h: self.evaluate.difference(self.array, u, h), self.noise, self.unit
        )
        typical = float(np.linalg.norm(g) * np.linalg.norm(u)) / max(1.0, g.size**0.5)
        scale = typical if index is None else float(np.abs(g).max(initial=0.0))
        finding = Finding(self.name, index, float((g * u).sum()), numeric, scale)
        size = scale if index is None else abs(finding.backward)
        known = numeric.error <= RELIABLE * max(scale, abs(numeric.value))
        # Or so small beside other gradients (an old state's, say) that no numeric derivative could
        # know it well: then it must agree within the error bar itself.
        known |= finding.difference <= numeric.error <= RELIABLE * (self.overall or 1.0)
        if not np.isfinite(finding.backward):
            finding.verdict = "FAIL" if np.isfinite(numeric.value) else "INCONCLUSIVE"
        elif not known:
            finding.verdict = "INCONCLUSIVE"
        elif finding.difference > 10 * numeric.error + self.rtol * size + ROUNDING * 1e3 * scale:
            finding.verdict = "FAIL"
        return finding


# ----- directions --------------------------------------------------------------------------------


def _rounded_normals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers rounded to 1/64: two wrong elements cannot cancel, as they can with +-1."""
    return np.round(rng.standard_normal(shape) * 64) / 64


def _directions(
    rng: np.random.Generator, shape: tuple[int, ...], directions: int | str
) -> list[np.ndarray]:
    count = 3 if isinstance(directions, str) else directions
    if count < 1:
        raise NoGradientError(f"directions={directions}: at least one is needed to check anything")
    return [_rounded_normals(rng, shape) for _ in range(count)]


def _unit(shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    u = np.zeros(shape)
    u[index] = 1.0
    return u
