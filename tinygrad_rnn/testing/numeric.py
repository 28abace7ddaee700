"""Numeric derivatives with an error bar: differences on a ladder of steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

# From 1e-2 to 4e-5, each about a quarter of the last: large steps suffer from curvature, small ones
# from rounding; which rung is best depends on the function. Multiples of 2**-27, so that x + h and
# x - h are exact; odd ones of no pattern, so that a function with a period of 2**-k, such as
# sin(2 pi 1024 x), does not look like a constant.
STEPS = tuple(n * 2.0**-27 for n in (1293947, 311957, 83227, 19163, 5059))


class Derivative(NamedTuple):
    """A numeric derivative, how far it may be off, the step that gave it, and the method.

        d = testing.directional_derivative(np.sin, [1.0], [1.0])
        d.value, d.method                 # (0.5403..., 'ladder')
        abs(d.value - np.cos(1)) <= d.error         # True

    One number each: value, error, h, and method, a name. Raises nothing of its own.
    """

    value: float
    error: float
    h: float
    method: str = "ladder"

    def __repr__(self) -> str:
        return f"Derivative({self})"

    def __str__(self) -> str:
        return f"{self.value:.12g} +- {self.error:.1g} ({self.method}, h = {self.h:.0e})"


def ladder(
    difference: Callable[[float], float], noise: float = 0.0, unit: float = 1.0
) -> Derivative:
    """The derivative, from differences f(x + h u) - f(x - h u) at the five steps h.

        d = testing.ladder(lambda h: np.sin(1 + h) - np.sin(1 - h), noise=1e-16)
        d.value        # 0.54030230586... = cos(1), to about d.error

    difference  called with a step; where it is not finite that rung is left out
    noise       the rounding error of one evaluation of f
    unit        what the steps are multiplied by, a power of two: the scale on which f changes

    Richardson extrapolation removes the errors in h**2, h**4, h**6 from neighbouring rungs. Of all
    entries of that table the one that agrees best with both entries it was made of is chosen, and
    the larger disagreement plus the rounding noise is its error: a fixed high order would be
    confidently wrong for an unrolled network, whose Taylor series may converge only near the point.
    Raises nothing of its own: where nothing is finite the value is nan, the error inf.
    Source: Richardson 1911; Ridders 1982 for choosing an entry.
    """
    steps = [unit * h for h in STEPS]
    # The error of a central difference shrinks with the square of its step.
    return _extrapolated([difference(h) / (2 * h) for h in steps], steps, 2, noise)


def one_sided(value: Callable[[float], float], noise: float = 0.0, unit: float = 1.0) -> Derivative:
    """The derivative on one side of a point, from values f(x + h u) at positive steps alone.

        one_sided(abs).value      # 1.0: the slope of |h| on the right of 0

    f at the point itself is not asked for, so that a jump there does no harm.
    """
    steps = [unit * h / 4 for h in STEPS]
    return _extrapolated([(value(3 * h) - value(h)) / (2 * h) for h in steps], steps, 1, noise)


def _extrapolated(column: list[float], steps: list[float], power: int, noise: float) -> Derivative:
    """The entry of the Richardson table that agrees best with its neighbours.

    power: the error of the column falls with this power of the steps, and its multiples.
    """
    best = Derivative(float("nan"), float("inf"), steps[0])
    for order in range(1, 4):
        factors = [(a / b) ** power for a, b in zip(steps, steps[order:], strict=False)]
        pairs = zip(factors, pairwise(column), strict=True)
        finer = [(factor * b - a) / (factor - 1) for factor, (a, b) in pairs]
        for k, value in enumerate(finer):
            h = steps[k + order]
            error = max(abs(value - column[k]), abs(value - column[k + 1])) + 2 * noise / h
            if np.isfinite(value) and error < best.error:
                best = Derivative(value, error, h)
        column = finer
    return best


def noise_of(values: list[float]) -> float:
    """The rounding noise of a function, from its values at seven neighbouring points.

        noise_of([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])      # 0.0

    So near to each other (1e-13) a smooth function is a straight line, and what fourth differences
    find is noise: their mean square is 70 times the variance of one value. Source: Hamming 1971;
    More and Wild 2011.
    """
    fourth = np.diff(np.asarray(values), n=4)
    return float(np.sqrt(np.mean(fourth**2) / 70))
