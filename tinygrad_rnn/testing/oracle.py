"""The numeric side of a check: derivatives of sum(v * f) from values of f alone.

Three ways, none of which uses a rule of the engine: differences on a ladder of steps, complex steps
(trusted only where they agree with the ladder first), and one-sided differences at kinks. Kinks are
recognised by the branches that f takes on the way (`Watched`), at all points of the stencil.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .numeric import STEPS, Derivative, ladder, noise_of, one_sided
from .subject import Subject, on_arrays
from .watched import Log, Watched

ROUNDING = float(np.finfo(np.float64).eps)
NEAR = (2.0**-43, 2.0**-23)  # spacings at which noise is looked for: float64's, and float32's
POOR = 1e-9  # a relative error bar from which on another scale of steps is tried, too
TINY = 1e-30  # the complex step: its square is far below any rounding


class Oracle:
    """sum(v * f) of a subject on plain arrays, and its derivatives along directions u."""

    def __init__(self, subject: Subject, weights: list[np.ndarray]) -> None:
        self.subject, self.weights = subject, weights
        self.values = subject.values
        self.run, self.note = on_arrays(subject)
        self.here = self.outputs(self.values)

    def outputs(self, values: list[Any]) -> list[np.ndarray]:
        """What f gives, copied: f may return a view of what it changes next."""
        return [np.array(out) for out in self.run(values)]

    def moved(self, k: int, step: Any) -> list[Any]:
        """The variables, the k-th one a step further."""
        return [*self.values[:k], self.values[k] + step, *self.values[k + 1 :]]

    def change(self, k: int, step: Any, minus: list[np.ndarray] | None = None) -> float:
        """sum(v * (f(x + step) - minus)): subtracted first, then summed, to lose nothing."""
        minus = self.here if minus is None else minus
        there = self.outputs(self.moved(k, step))
        if [a.shape for a in there] != [a.shape for a in minus]:
            return float("nan")  # x[x > 0], say: as if f were not defined there
        parts = zip(there, minus, self.weights, strict=True)
        return float(sum(((p - m) * v).sum() for p, m, v in parts))

    def scales(self, k: int, u: np.ndarray, largest: float) -> list[tuple[float, float]]:
        """Units for the steps along u, and the noise of f beside each, for an x of some size.

        Steps of the size of x where x is small: a function may change on that scale. Or it may not
        (1 + x does not), so 1 is the other unit. And no steps so small beside a large x that x + h
        rounds to x.
        """
        unit = max(min(1.0, power(32 * largest)), power(largest / 2**24)) if largest else 1.0
        found = [(unit, self.noise(k, u, unit))]
        if unit < 1:
            with suppress(Exception):  # so far from x, f may raise: then it has one scale
                found.append((1.0, self.noise(k, u, 1.0)))
        return found

    def noise(self, k: int, u: np.ndarray, unit: float = 1.0) -> float:
        """The rounding noise of sum(v * f): seen at neighbouring points, and that of the sum.

        Only outputs that change at all count: 1e13 beside them adds no noise to a difference.
        """
        noise, along = self.rounding(k, u, unit), unit * u
        largest = float(np.abs(self.values[k]).max(initial=0) / (np.abs(along).max(initial=0) or 1))
        return self._seen(
            lambda step: self.change(k, step * along), k, along, noise, NEAR[1] * max(1.0, largest)
        )

    def _seen(
        self, f: Callable[[float], float], k: int, u: np.ndarray, noise: float, far: float
    ) -> float:
        """The largest noise at two spacings. Curvature is none: it falls with the fourth power."""
        for h in (NEAR[0], far):
            steps = np.arange(1, 8) * h  # not x itself: f may have a kink there, or a jump
            seen = noise_of([f(s) for s in steps])
            while seen > noise or not np.isfinite(seen):
                nearer = noise_of([f(s) for s in steps / 4])
                if not nearer < seen / 50 or steps[0] < 2.0**-60:
                    break
                seen, steps = nearer, steps / 4
            if np.isfinite(seen) and seen > noise and self.clean(k, u, list(steps)) is not False:
                noise = seen
        return noise

    def rounding(self, k: int, u: np.ndarray, unit: float = 1.0) -> float:
        """What rounding alone makes of sum(v * f), over the outputs that change along u.

        Whether they do is asked far away: beside 1, a step of 1e-17 changes nothing, and where a
        softmax is flat its largest output hardly moves.
        """
        try:
            there = self.outputs(self.moved(k, max(unit, 1.0) * u))
        except Exception:  # f may raise outside its domain
            there = []
        if [a.shape for a in there] != [a.shape for a in self.here]:
            return ROUNDING * float(sum(map(np.sum, map(np.abs, self._weighed(self.here)))))
        pairs = zip(self.here, there, self._weighed(self.here), strict=True)
        return ROUNDING * float(sum(np.abs(w)[a != b].sum() for a, b, w in pairs))

    def _weighed(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [a * v for a, v in zip(outputs, self.weights, strict=True)]

    def best(
        self, k: int, u: np.ndarray, scales: list[tuple[float, float]]
    ) -> tuple[Derivative, tuple[float, float]]:
        """The ladder at the scale of x; where its bar is poor, a wider one that lies inside it."""
        best = self.ladder(k, u, scales[0][1], scales[0][0]), scales[0]
        for unit, noise in scales[1:] if not best[0].error <= POOR * abs(best[0].value) else ():
            try:
                wider = self.ladder(k, u, noise, unit)
            except Exception:  # f may raise outside its domain
                continue
            apart = abs(wider.value - best[0].value)  # as where its steps leap over a pole
            if wider.error < best[0].error and apart <= 10 * best[0].error:
                best = wider, (unit, noise)
        return best

    def ladder(self, k: int, u: np.ndarray, noise: float, unit: float) -> Derivative:
        """From central differences."""

        def difference(h: float) -> float:
            return self.change(k, h * u, self.outputs(self.moved(k, -h * u)))

        return ladder(difference, noise, unit)

    def one_sided(self, k: int, u: np.ndarray, noise: float, unit: float) -> Derivative:
        """From points in the direction of u only."""
        return one_sided(lambda h: self.change(k, h * u), noise, unit)

    # ----- complex steps

    def complex_values(self, k: int, u: np.ndarray, shift: Any = 0.0) -> list[np.ndarray]:
        """f's outputs, with a small imaginary step along u; raises where f cannot carry it."""
        branches: Log = []
        inputs: list[Any] = [Watched(x.astype(complex), branches) for x in self.values]
        inputs[k] = Watched(self.values[k] + shift + 1j * TINY * u, branches)
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            found = self.subject.outputs(inputs)
        if not all(isinstance(out, (np.ndarray, np.complexfloating)) for out in found):
            raise TypeError("f returned something else than arrays")
        return [np.asarray(out).view(np.ndarray) for out in found]

    def complex(self, k: int, u: np.ndarray, noise: float) -> Derivative:
        """Im sum(v * f(x + ih u)) / h: no difference is taken, so nothing cancels."""
        value = self._imaginary(self.complex_values(k, u))
        return Derivative(value, noise + 4 * ROUNDING * abs(value), TINY, "complex step")

    def complex_noise(self, k: int, u: np.ndarray) -> float:
        """The rounding noise of complex steps, seen at neighbouring points."""

        def f(step: float) -> float:
            return self._imaginary(self.complex_values(k, u, step * u))

        return self._seen(f, k, u, 8 * ROUNDING * abs(f(0.0)), NEAR[1])

    def _imaginary(self, outputs: list[np.ndarray]) -> float:
        pairs = zip(outputs, self.weights, strict=True)
        return float(sum((out.imag / TINY * v).sum() for out, v in pairs))

    # ----- branches

    def branches(self, k: int, step: Any) -> Log | None:
        """The branches that f takes at a step from x; None where it cannot be watched."""
        log: Log = []
        inputs = [Watched(x, log) for x in self.moved(k, step)]
        try:
            self.subject.result(inputs)
        except Exception:  # f takes only Tensors, say; then kinks are seen in the values only
            return None
        return log

    def clean(self, k: int, u: np.ndarray, steps: list[float]) -> bool | None:
        """Whether f takes the same branches at all these steps; None where that is not known."""
        logs = [self.branches(k, h * u) for h in steps]
        return None if None in logs else all(log == logs[0] for log in logs[1:])

    def clean_unit(self, k: int, u: np.ndarray, unit: float, sides: tuple[int, ...]) -> float:
        """The largest unit, 1/4 of the last at a time, whose stencil lies in one piece; or 0."""
        reach = {2: (1.0,), 1: (3 / 4, 1 / 4)}[len(sides)]
        for _ in range(18):
            steps = [s * unit * h * r for s in sides for h in STEPS for r in reach]
            if self.clean(k, u, steps):
                return unit
            unit /= 4
        return 0.0


def power(size: float) -> float:
    """The power of two that is not below a size, nor so small that steps of it round to 0.

    power(3.0)      # 4.0
    """
    return max(float(2.0 ** np.ceil(np.log2(size))), 2.0**-1040) if size > 0 else 1.0


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without NumPy's warnings: a rung outside f's domain is left out, without a word."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return function(*args, **kwargs)

    return run
