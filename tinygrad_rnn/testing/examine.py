"""One examination: gradients from the side that is checked, against the numeric side.

First what costs nothing and needs no tolerance (is f pure, the VJP linear, ...), then each variable
along random directions or element by element, with a verdict for each comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import NoGradientError
from ..tensor import Tensor
from .diagnose import diagnose
from .numeric import STEPS, Derivative
from .oracle import ROUNDING, Oracle, power
from .report import Finding, GradReport
from .sides import Engine, away_from_zero, rounded_normals
from .subject import Subject

RELIABLE = 1e-6  # a numeric derivative whose error bar is wider than this decides nothing
EVERY = 512  # up to so many elements are checked one by one to name those that are wrong
SURE = 4
ORACLES = ("auto", "ladder", "complex", "both")

# ----- comparing ---------------------------------------------------------------------------------


def examine(
    report: GradReport,
    subject: Subject,
    backward: Any,
    weights: list[np.ndarray],
    *,
    oracle: str,
    directions: int | str,
    rtol: float,
    rng: np.random.Generator,
) -> None:
    """Structural checks, then numbers; what is found goes into the report."""
    if oracle not in ORACLES:
        raise ValueError(f"oracle={oracle!r}: expected {', '.join(map(repr, ORACLES))}")
    if type(directions) is not int and directions not in ("auto", "all"):
        raise ValueError(f'directions={directions!r}: expected a number, "auto" or "all"')
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol={rtol!r}: expected a relative tolerance such as 1e-9")
    numeric = Oracle(subject, weights)
    if numeric.note:
        report.notes.append(numeric.note)
    gradients = _structure(report, subject, backward, weights, numeric, rng)
    if gradients is None:
        return
    overall = max((float(np.abs(g).max(initial=0)) for g in gradients if g is not None), default=0)
    for k, g in zip(subject.chosen, gradients, strict=True):
        name, shape = subject.variables[k].name, subject.variables[k].value.shape
        if g is None:
            report.unused.append(name)
        g = np.zeros(shape) if g is None else g
        ways = None
        if directions != "all" and (directions != "auto" or g.size > 32):
            ways = _directions(rng, g, directions)
        # For one comparison the ladder alone is cheaper than making sure of complex steps.
        one = (g.size if ways is None else len(ways)) < 2
        way = "one" if oracle == "auto" and one else oracle
        compare = Comparison(numeric, k, name, g, overall, rtol, way, rng, report.notes)
        if ways is None:
            report.findings += _elements(report, compare)
        else:
            report.findings += _ways(report, compare, ways)
        open_ = [f for f in report.findings if f.verdict == "INCONCLUSIVE"]
        if open_ and not report.doubts and oracle != "complex":
            report.doubts += compare.why(open_[0])
    report.notes += _little(report, subject)


def _little(report: GradReport, subject: Subject) -> list[str]:
    """What agrees and yet proves little: nothing was compared, or 0 with 0."""
    chosen = [subject.variables[k] for k in subject.chosen]
    seen = {f.argument for f in report.findings}
    seen -= {f.argument for f in report.findings if f.backward or f.verdict != "PASS"}
    empty = [v.name for v in chosen if not v.value.size]
    zero = [v.name for v in chosen if v.name in seen]
    told = {"no element, nothing was compared": empty}
    told["the gradient is 0 everywhere: this proves little"] = zero
    found = [(", ".join(n[:4]) + ", ..." * (len(n) > 4), what) for what, n in told.items() if n]
    return [f"{names}: {what}" for names, what in found]


def _elements(report: GradReport, compare: Comparison) -> list[Finding]:
    """One element after the other; what is wrong is counted, and its likely cause is named."""
    g, name = compare.g, compare.name
    found = [compare(_unit(g.shape, at), at) for at in np.ndindex(g.shape)]
    bad = sum(f.verdict == "FAIL" for f in found)
    if bad:
        report.wrong[name] = (bad, len(found))
        right = np.array([f.numeric.value for f in found]).reshape(g.shape)
        report.causes += [f"{name} looks like: {cause}" for cause in diagnose(g, right)[:1]]
    return found


def _ways(report: GradReport, compare: Comparison, ways: list[np.ndarray]) -> list[Finding]:
    """Along some directions; where one is in doubt, element by element."""
    found = [compare(u, None) for u in ways]
    along = {id(f): u for f, u in zip(found, ways, strict=True)}
    if found[0].verdict == "PASS":  # then the others are about small elements only
        sure = [f for f in found if f.verdict != "INCONCLUSIVE" or f.difference > f.allowed]
        if len(sure) < len(found):
            report.notes.append(f"{compare.name}: its smallest elements drown in the noise of f")
        found = sure
    doubtful = any(f.verdict in ("FAIL", "KINK") for f in found)
    beyond = [f for f in found if f.verdict == "FAIL" and not f.sides]
    more: list[Finding] = []
    if doubtful and compare.g.size <= EVERY:
        more = _elements(report, compare)
    elif beyond:
        more = [_search(compare, along[id(beyond[0])])]
        report.wrong[compare.name] = (1, compare.g.size)
        report.searched.add(compare.name)
    elif doubtful:  # one kink hides the errors of all other elements along a direction
        more = _beside_kinks(compare, ways[0], report)
    if not beyond and all(f.verdict != "FAIL" for f in more):
        # Of several kinks each has its two slopes; their sum need not lie between two.
        for f in found:
            f.verdict = "KINK" if f.sides else f.verdict
    return found + more


def _structure(
    report: GradReport,
    subject: Subject,
    backward: Any,
    weights: list[np.ndarray],
    numeric: Oracle,
    rng: np.random.Generator,
) -> list[Any] | None:
    """Cheap checks before any number: repeatable, pure, finite, the VJP linear in g."""
    values = subject.values
    again = numeric.outputs(values)
    for v, x, before in zip(subject.variables, values, subject.values, strict=True):
        if not _identical(x, before):
            report.problems.append(f"f changes {v.name} in place: work on a copy")
    if len(backward.outputs) != len(numeric.here):
        report.problems.append(
            f"f gives {len(backward.outputs)} float outputs on Tensors, and {len(numeric.here)} on "
            "plain arrays"
        )
        return None
    if not all(map(_identical, again, numeric.here)):
        report.doubts.append("f is not deterministic: two calls with the same arguments differ")
        report.doubts.append("draw what is random outside f, and pass it in")
    elif not all(_agree(a, out) for a, out in zip(numeric.here, backward.outputs, strict=True)):
        report.problems.append("f gives other values on Tensors than on plain arrays")
    for n, out in enumerate(numeric.here):
        if not np.isfinite(out).all():
            at = np.argwhere(~np.isfinite(out))[0].tolist()
            report.doubts.append(f"output {n} is not finite: {out[tuple(at)]} at {at}")
    gradients: list[Any] = backward(weights)
    second = backward(weights)
    if not all(map(_identical, gradients, second)):
        report.problems.append("the same graph pulled back twice gives two different gradients")
    zero = backward([0.0 * v for v in weights])
    finite = all(g is None or np.isfinite(g).all() for g in gradients)
    if any(g is not None and np.any(g != 0) for g in zero) and finite:
        report.problems.append("the VJP is not linear in g: g = 0 gives a gradient that is not 0")
    else:
        other = [rounded_normals(rng, v.shape) for v in weights]
        both = backward([v + 2 * w for v, w in zip(weights, other, strict=True)])
        for g, h, total in zip(gradients, backward(other), both, strict=True):
            expected = 0.0 if g is None or h is None else g + 2 * h
            if g is None or h is None or total is None or not np.isfinite(expected).all():
                continue
            size = float((np.abs(g) + np.abs(h)).max(initial=0))
            # f may compute in float32, and what is left of g where terms cancel is only rounding.
            rounding = 1e-12 * max(np.abs(v).max(initial=0) for v in weights)
            if np.abs(total - expected).max(initial=0) > 1e-5 * size + rounding:
                report.problems.append("the VJP is not linear in g: vjp(a + b) != vjp(a) + vjp(b)")
                break
        else:
            report.problems += _not_scaled(backward, weights, gradients)
    return gradients


def _not_scaled(backward: Any, weights: list[np.ndarray], gradients: list[Any]) -> list[str]:
    """A clip inside a VJP is only seen far from 1, where a power of two changes no digit."""
    for factor, said in ((2.0**20, "2**20"), (-(2.0**-20), "-2**-20")):
        for g, far in zip(gradients, backward([factor * v for v in weights]), strict=True):
            size = 0.0 if g is None else float(np.abs(g).max(initial=0))
            if far is None or not size > 1e-30 or not np.isfinite(far).all():
                continue
            if not np.abs(far / factor - g).max(initial=0) <= 1e-9 * size:
                what = f"vjp({said} * g) != {said} * vjp(g)"
                return [f"the VJP is not linear in g: {what}: is it clipped, or cut off?"]
    return []


def _identical(a: Any, b: Any) -> bool:
    return (a is None and b is None) or bool(np.array_equal(a, b, equal_nan=True))


def _agree(plain: np.ndarray, out: Any) -> bool:
    values = out.data if isinstance(out, Tensor) else np.asarray(out)
    return plain.shape == values.shape and np.allclose(plain, values, 1e-9, 1e-300, equal_nan=True)


class Comparison:
    """One variable's gradient against numeric derivatives, along one direction after another."""

    def __init__(
        self,
        numeric: Oracle,
        k: int,
        name: str,
        g: np.ndarray,
        overall: float,
        rtol: float,
        oracle: str,
        rng: np.random.Generator,
        notes: list[str],
    ) -> None:
        self.numeric, self.k, self.name, self.g = numeric, k, name, g
        self.overall, self.rtol, self.oracle = overall, rtol, oracle
        largest = float(np.abs(np.nan_to_num(numeric.values[k], posinf=0, neginf=0)).max(initial=0))
        u = away_from_zero(rounded_normals(rng, g.shape))
        self.scales = numeric.scales(k, u, largest)
        self.unit, self.noise = self.scales[0]
        self.rounding = numeric.rounding(k, u, self.unit)
        pairs = zip(numeric.here, numeric.weights, strict=True)
        parts = [np.minimum(1, np.abs(a)) * np.abs(v) for a, v in pairs]
        # Where f is flat, the terms of a VJP cancel, as softmax's do: they are about so large.
        self.terms = max(float(part.max(initial=0)) for part in parts) / 256
        self.sure = 0  # failures with no kink near; after a few, look less closely
        self.notes, wanted = notes, oracle not in ("ladder", "one")
        self.complex_noise = self._trust_complex(u) if wanted else None

    def why(self, finding: Finding) -> list[str]:
        """Why nothing can be said of a comparison, and what can be done."""
        numeric, at = finding.numeric, f"{self.name}: the numeric derivative is not known"
        if not np.isfinite(finding.backward):
            return [f"{self.name}: the gradient is not finite, and f too steep to be checked there"]
        if not np.isfinite(numeric.error):
            return [f"{at}: beside x, f is not finite, or of another shape. Move x"]
        at = f"{at} better than +-{numeric.error:.0e}"
        own = ROUNDING * float(np.abs(self.numeric.values[self.k] * self.g).sum())  # that of x
        drowned = numeric.error <= 200 * self.noise / numeric.h
        if drowned and self.noise > 100 * max(self.rounding, own):
            by = f"by {self.noise:.0e} where rounding makes {self.rounding:.0e}"
            return [
                f"{at}: f is noisy, or oscillates, {by}",
                "a larger rtol is no help: let f compute in float64, fix its seed, or tighten a "
                "tolerance of its own",
            ]
        if drowned:
            return [f"{at}: rounding in f hides it. Take a large constant from f, or x nearer to 1"]
        return [f"{at}: f bends sharply near x, or oscillates. Check it at another x"]

    def _note(self, text: str) -> None:
        self.notes[:] = dict.fromkeys([*self.notes, f"{self.name}: {text}"])

    def _trust_complex(self, u: np.ndarray) -> float | None:
        """The noise of complex steps, once they agreed with the ladder; else None."""
        differ = False
        try:
            noise = self.numeric.complex_noise(self.k, u)
            found = self.numeric.complex(self.k, u, noise)
            ladder = self._ladder(u)
            reliable = ladder.error <= 1e-4 * abs(ladder.value)
            if reliable and abs(found.value - ladder.value) <= 10 * (ladder.error + found.error):
                return noise
            differ = reliable and bool(found.value)  # 0: the imaginary part was lost on the way
            differ = differ and self._clean(u) is not False  # at a kink they may
            why = "they disagree with differences" if reliable else "differences are not reliable"
        except Exception as error:
            why = f"{type(error).__name__}: {str(error)[:80]}"
        if self.oracle in ("complex", "both") or differ:
            self._note(f"no complex steps ({why})")
        return None

    def __call__(self, u: np.ndarray, index: tuple[int, ...] | None) -> Finding:
        """The verdict along u; index names the element where u is a single one."""
        finding = self._judged(u, index)
        if finding.verdict == "FAIL" and not finding.sides and self._complex_says(finding, u, 1e-9):
            finding.verdict = "INCONCLUSIVE"
            self._note("complex steps agree with the gradient, differences do not")
        one = finding.verdict == "PASS" and self.oracle == "one"
        if one and self._complex_says(finding, u, 1e-3) is False:
            self._note("complex steps disagree with differences, which decided")
        return finding

    def _complex_says(self, finding: Finding, u: np.ndarray, close: float) -> bool | None:
        """Whether a complex step that is not trusted agrees; None where f does not carry it."""
        if self.oracle == "ladder" or self.complex_noise is not None:
            return None
        try:
            value = self.numeric.complex(self.k, u, 0.0).value
        except Exception:
            return None
        return abs(value - finding.backward) <= close * abs(value) if value else None

    def _judged(self, u: np.ndarray, index: tuple[int, ...] | None) -> Finding:
        g, numeric, k = self.g, self.numeric, self.k
        typical = float(np.linalg.norm(g * u))
        scale = typical if index is None else float(np.abs(g).max(initial=0.0))
        along = float((g * u).sum() if index is None else g[index])
        finding = Finding(self.name, index, along, Derivative(0, 0, 1), scale)
        self.along = float(np.linalg.norm(u))
        trusted = self.complex_noise is not None
        if trusted:
            assert self.complex_noise is not None
            self._decide(finding, numeric.complex(k, u, self.complex_noise))
            if finding.verdict == "PASS" and self.oracle != "both":
                return finding
        elif self.oracle == "complex":
            finding.numeric, finding.verdict = Derivative(np.nan, np.inf, 1.0), "INCONCLUSIVE"
            return finding
        exact = finding.numeric, finding.verdict, finding.allowed
        if trusted and finding.verdict == "FAIL" and self.sure >= SURE:
            return finding
        self._decide(finding, self._ladder(u))
        if finding.verdict == "PASS" and (not trusted or exact[1] != "FAIL"):
            return finding
        if trusted and finding.verdict == "INCONCLUSIVE" and exact[1] == "PASS":
            finding.numeric, finding.verdict, finding.allowed = exact
            return finding
        if finding.verdict == "INCONCLUSIVE" and self._agrees_elsewhere(finding, u):
            return finding
        # In doubt: is there a kink, or a jump, among the points that were asked?
        if finding.verdict == "FAIL" and self.sure >= SURE:
            return finding
        clean = self._clean(u)
        if clean and trusted:
            finding.numeric, finding.verdict, finding.allowed = exact
        elif clean is False:
            self._near_kink(finding, u)
        elif finding.verdict == "FAIL":
            self._unseen_kink(finding, u)
        self.sure += bool(clean) and finding.verdict == "FAIL"
        return finding

    def _ladder(self, u: np.ndarray) -> Derivative:
        """Differences at the better scale, which is the one to look for kinks at, too."""
        found, (self.unit, self.noise) = self.numeric.best(self.k, u, self.scales)
        return found

    def _clean(self, u: np.ndarray) -> bool | None:
        """Whether all points that were asked lie in one smooth piece; None: it is not known."""
        return self.numeric.clean(self.k, u, [s * self.unit * h for s in (-1, 1) for h in STEPS])

    def _agrees_elsewhere(self, finding: Finding, u: np.ndarray) -> bool:
        """Whether steps of another size decide that the gradient is right: x's own, or smaller.

        They never decide that it is wrong: their error bar knows less of f's noise.
        """
        x, index = np.abs(self.numeric.values[self.k]), finding.index
        own = float(x.max(initial=0.0) if index is None else x[index])
        units = [power(own)] if 32 < own < np.inf else []
        units += [power(32 * own)] if 0 < 32 * own < self.unit else []
        for unit in units + [self.unit / 4**n for n in (2, 4, 6)]:
            found = self.numeric.ladder(self.k, u, self.rounding, unit)
            allowed = 10 * found.error + self.rtol * abs(found.value)
            close = abs(finding.backward - found.value) <= allowed
            if close and found.error <= RELIABLE * abs(found.value):
                if self._complex_says(finding, u, 1e-3) is False:
                    return False
                finding.numeric, finding.verdict, finding.allowed = found, "PASS", allowed
                return True
        return False

    def _decide(self, finding: Finding, numeric: Derivative) -> None:
        """PASS, FAIL, or INCONCLUSIVE where the numeric derivative is not known well enough."""
        finding.numeric = numeric
        size = finding.scale if finding.index is None else abs(finding.backward)
        scale = max(finding.scale, self.terms * self.along)
        finding.allowed = 10 * numeric.error + self.rtol * size + ROUNDING * 1e3 * scale
        known = numeric.error <= RELIABLE * abs(numeric.value)
        # A bar that is narrow beside other elements will do, if it is one of rounding: a bar of
        # another kind (a pole nearer than the smallest step) may be wrong itself.
        rounding = 100 * (2 * self.noise / numeric.h + ROUNDING * finding.scale)
        known |= numeric.error <= min(RELIABLE * finding.scale, rounding)
        # Or so small beside other gradients (an old state's, say) that no numeric derivative could
        # know it well: then it must agree within the error bar itself.
        known |= finding.difference <= numeric.error <= RELIABLE * (self.overall or 1.0)
        if not np.isfinite(finding.backward):
            sure = numeric.error <= 1e-3 * max(1.0, abs(numeric.value))
            finding.verdict = "FAIL" if np.isfinite(numeric.value) and sure else "INCONCLUSIVE"
        elif not known:
            finding.verdict = "INCONCLUSIVE"
        else:
            finding.verdict = "FAIL" if finding.difference > finding.allowed else "PASS"

    def _near_kink(self, finding: Finding, u: np.ndarray) -> None:
        """Branches differ: come so near that they do not, or look at both sides by themselves."""
        numeric, k = self.numeric, self.k
        unit = numeric.clean_unit(k, u, self.unit, (-1, 1))
        if unit:
            self._decide(finding, numeric.ladder(k, u, self.noise, unit))
            if finding.verdict != "INCONCLUSIVE":
                return
        units = [numeric.clean_unit(k, s * u, self.unit, (1,)) or self.unit for s in (-1, 1)]
        self._between(finding, self._sides(u, units))

    def _unseen_kink(self, finding: Finding, u: np.ndarray) -> None:
        """A kink that no branch showed (f left NumPy's arrays): the two sides differ."""
        sides = self._sides(u, [self.unit, self.unit])
        gap, bars = abs(sides[0].value - sides[1].value), sides[0].error + sides[1].error
        if gap > 20 * bars + 1e-7 * max(finding.scale, gap * 1e-3):
            self._between(finding, sides)

    def _sides(self, u: np.ndarray, units: list[float]) -> list[Derivative]:
        """The derivatives along u on its two sides."""
        found = []
        for s, unit in zip((-1, 1), units, strict=True):
            side = self.numeric.one_sided(self.k, s * u, self.noise, unit)
            found.append(side._replace(value=s * side.value))
        return found

    def _between(self, finding: Finding, sides: list[Derivative]) -> None:
        """At a kink every value between the derivatives of both sides is a right gradient."""
        low, high = sorted(sides)
        finding.sides = (low.value, high.value)
        a, tolerance = finding.backward, self.rtol * abs(finding.backward)
        size = max(finding.scale, abs(low.value), abs(high.value))
        tolerance += 10 * max(low.error, high.error) + ROUNDING * 1e3 * size
        finding.numeric = min(sides, key=lambda side: abs(side.value - a))
        finding.allowed = tolerance
        bar = max(low.error, high.error)
        if not np.isfinite(tolerance) or bar > RELIABLE * max(size, self.overall or 1.0):
            finding.verdict = "INCONCLUSIVE"
        else:
            inside = low.value - tolerance <= a <= high.value + tolerance
            finding.verdict = "KINK" if inside else "FAIL"


def _beside_kinks(compare: Comparison, u: np.ndarray, report: GradReport) -> list[Finding]:
    """A large array, some of whose elements sit on kinks: those alone, and all others together."""
    numeric, k = compare.numeric, compare.k
    kinks: list[tuple[int, ...]] = []
    parts = [np.argwhere(np.ones(u.shape, bool))]
    while parts and len(kinks) <= 64:
        at = parts.pop()
        half = np.zeros(u.shape)
        half[tuple(at.T)] = u[tuple(at.T)]
        if numeric.clean(k, half, [-(2.0**-34), 2.0**-34]) is not False:
            continue
        if len(at) == 1:
            kinks.append(tuple(at[0].tolist()))
        else:
            parts += [at[: len(at) // 2], at[len(at) // 2 :]]
    rest = np.array(u)
    rest[tuple(np.array(kinks, int).reshape(-1, u.ndim).T)] = 0.0
    found = [compare(_unit(u.shape, at), at) for at in kinks] + [compare(rest, None)]
    if parts or found[-1].verdict == "KINK":
        report.doubts.append(
            f"{compare.name} sits on too many kinks to be checked: move it a little"
        )
    return found


def _search(compare: Comparison, u: np.ndarray) -> Finding:
    """One wrong element of a large array, by halving the direction that failed."""
    at = np.argwhere(u)
    while len(at) > 1:
        first, second = at[: len(at) // 2], at[len(at) // 2 :]
        half = np.zeros(u.shape)
        half[tuple(first.T)] = u[tuple(first.T)]
        at = first if compare(half, None).verdict == "FAIL" else second
    index = tuple(at[0].tolist())
    return compare(_unit(u.shape, index), index)


def right_in_part(
    subject: Subject, backward: Any, weights: list[np.ndarray], seed: int
) -> list[str]:
    """For which outputs, or which steps along the first axis of the only one, a VJP is right.

    The loss of one step alone tells where a backward pass over time goes wrong.
    """
    only = len(weights) == 1
    size = len(weights[0]) if only and weights[0].ndim else len(weights)
    what = "index {} along axis 0 of the output" if only else "output {}"
    right: list[int] = []
    wrong: list[int] = []
    for k in range(size if 1 < size <= 64 else 0):
        part = [np.zeros(v.shape) for v in weights]
        part[0 if only else k][k if only else ...] = weights[0 if only else k][k if only else ...]
        (right if _agrees(subject, backward, part, seed) else wrong).append(k)
    if not right or not wrong:
        return []
    some = [", ".join(map(str, part[:6])) + ", ..." * (len(part) > 6) for part in (right, wrong)]
    return [f"for a loss on {what.format(some[0])} alone it is right, wrong on {some[1]}"]


def _agrees(subject: Subject, backward: Any, weights: list[np.ndarray], seed: int) -> bool:
    """Whether all gradients agree along one random direction each."""
    numeric, gradients = Oracle(subject, weights), backward(weights)
    rng = np.random.default_rng(seed)
    overall = max((float(np.abs(g).max(initial=0)) for g in gradients if g is not None), default=0)
    for k, g in zip(subject.chosen, gradients, strict=True):
        g = np.zeros(subject.variables[k].value.shape) if g is None else g
        compare = Comparison(numeric, k, "", g, overall, 1e-7, "ladder", rng, [])
        if compare(away_from_zero(rounded_normals(rng, g.shape)), None).verdict == "FAIL":
            return False
    return True


def compare_float32(
    report: GradReport,
    subject: Subject,
    side: Callable[[Subject], Any],
    weights: list[np.ndarray],
    rng: np.random.Generator,
) -> None:
    """The float32 gradient against that of the same side in float64, which was checked just now.

    Differences inside float32 would lose half the digits. How far rounding may move an element is
    measured: by the float64 gradient where x differs in float32's last digit. And results are
    rounded, on the way too: of 1 - tanh(x)**2 no digit may be left.
    """
    if all(subject.variables[k].value.dtype != np.float32 for k in subject.chosen):
        return

    def pulled(subject: Subject) -> list[Any]:
        made = side(subject)
        pairs = zip(weights, made.outputs, strict=True)
        found: list[Any] = made([v.astype(out.dtype) for v, out in pairs])
        return found

    gradients, exact = pulled(_At32(subject)), pulled(subject)
    pairs = zip(weights, side(subject).outputs, strict=True)
    sizes = [(v, out.data if isinstance(out, Tensor) else out) for v, out in pairs]
    largest = max(float(np.abs(v * np.maximum(1, np.abs(a))).max(initial=0)) for v, a in sizes)
    eps = float(np.finfo(np.float32).eps)
    digit = lambda x: x * (1 + eps * rng.choice([-1, 1], x.shape))
    nearby = [pulled(_At32(subject, digit)) for _ in range(3)]
    for n, (k, g, right) in enumerate(zip(subject.chosen, gradients, exact, strict=True)):
        v = subject.variables[k]
        if v.value.dtype != np.float32 or right is None or not right.size:
            continue
        if g is None or (side is Engine and g.dtype != np.float32):
            report.problems.append(f"{v.name} is float32, its gradient {getattr(g, 'dtype', None)}")
            continue
        scale = float(np.abs(right).max())
        spread = np.max([np.abs(right if m[n] is None else m[n] - right) for m in nearby], axis=0)
        allowed = eps * (64 * scale + 8 * largest) + 16 * spread
        index = np.unravel_index(int((np.abs(g - right) - allowed).argmax()), g.shape)
        at = tuple(map(int, index))
        bar = Derivative(float(right[at]), float(allowed[at]), eps, "the float64 gradient")
        finding = Finding(f"{v.name} in float32", at, float(g[at]), bar, scale)
        finding.allowed = bar.error
        finding.verdict = "PASS" if finding.difference <= bar.error else "FAIL"
        report.findings.append(finding)


class _At32(Subject):
    """A subject in its variables' own dtypes, or moved by their last digit (in float64)."""

    def __init__(self, inner: Subject, move: Callable[..., Any] | None = None) -> None:
        vars(self).update(vars(inner))
        self.move = move

    @property
    def values(self) -> list[np.ndarray]:
        if self.move is None:
            return [np.array(v.value) for v in self.variables]
        return [self.move(np.array(v.value, np.float64)) for v in self.variables]


# ----- directions --------------------------------------------------------------------------------


def _directions(rng: np.random.Generator, g: np.ndarray, directions: int | str) -> list[np.ndarray]:
    """The first is random; along the others every element of g counts alike, however small it is.

    In a plain random direction the error of an element that is a hundredth of the others' size
    would have to be a hundred times as large to be seen.
    """
    count = 3 if isinstance(directions, str) else directions
    if count < 1:
        raise NoGradientError(f"directions={directions}: at least one is needed to check anything")
    size = np.abs(np.where(np.isfinite(g), g, 0))
    size = np.maximum(size, size.max(initial=0) / 4096) + (not size.any())
    found = [rounded_normals(rng, g.shape)]
    while len(found) < count:
        u = away_from_zero(rounded_normals(rng, g.shape))
        found.append(u * (size.min(initial=np.inf) / size))
    return found


def _unit(shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    u = np.zeros(shape)
    u[index] = 1.0
    return u
