"""Numeric derivatives to look at: each method by itself, and two tests that need no tolerance.

The ladder of steps is in numeric.py; what a check makes of it, in oracle.py and examine.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..nests import leaves
from ..vjp import Array
from .numeric import Derivative
from .oracle import Oracle, quiet
from .sides import Engine, cotangents, rounded_normals
from .subject import Subject, tuples

METHODS = ("ladder", "complex", "central", "five", "forward")
STEP = {"central": 2.0**-18, "five": 2.0**-10, "forward": 2.0**-26}  # near the best for f'' ~ 1


@quiet
def directional_derivative(
    f: Callable[..., Any],
    args: Sequence[Any],
    direction: Sequence[Any],
    *,
    cotangent: Any = None,
    method: str = "ladder",
    h: float | None = None,
) -> Derivative:
    """The derivative of sum(cotangent * f(args)) along a direction, from values of f alone.

        testing.directional_derivative(np.sin, [1.0], [1.0]).value      # 0.5403... = cos(1)

    args, direction  one array each for every argument, of the same shapes
    cotangent        weights of the outputs, in f's form; default: ones
    method           "ladder" (the default, with an honest error bar), "complex" (one step, nothing
                     cancels; f must carry complex numbers), or with a step h that you may choose:
                     "central", "five" (points), "forward". Their error bar is what rounding
                     alone can do, so that one sees how far a single step can be trusted
    Raises ShapeError for directions and cotangents that do not fit, ValueError for another method,
    TypeError where f cannot carry a complex step.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected {', '.join(map(repr, METHODS))}")
    if [np.shape(u) for u in direction] != [np.shape(x) for x in args]:
        raise ShapeError("direction needs one array for each argument, of the same shape")
    arrays = [np.asarray(x, np.float64) for x in args]
    along = [np.asarray(u, np.float64) for u in direction]

    def moved(t: Any) -> Any:  # all arguments at once, as a function of one number
        return f(*[x + t * u for x, u in zip(arrays, along, strict=True)])

    subject = Subject(moved, (np.zeros(()),), modules=False)
    outs = subject.outputs([np.zeros(())])
    if cotangent is None:
        cotangent = tuple(np.ones(np.shape(out)) for out in outs)
    weights = cotangents(outs, leaves(tuples(cotangent)), np.random.default_rng(0))
    numeric = Oracle(subject, weights)
    one = np.ones(())
    if method == "complex":
        return numeric.complex(0, one, numeric.complex_noise(0, one))
    if method == "ladder":
        pairs = zip(arrays, along, strict=True)
        largest = max((float(np.abs(x[u != 0]).max(initial=0)) for x, u in pairs), default=0.0)
        return numeric.best(0, one, numeric.scales(0, one, largest))[0]
    noise = numeric.noise(0, one)
    step = h or STEP[method]
    at = {n: numeric.change(0, n * step) for n in (-2, -1, 0, 1, 2)}
    value = {
        "central": (at[1] - at[-1]) / (2 * step),
        "five": (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step),
        "forward": (at[1] - at[0]) / step,
    }[method]
    return Derivative(value, 2 * noise / step, step, method)


@quiet
def numerical_gradient(
    f: Callable[..., Any], *args: Any, cotangent: Any = None, method: str = "ladder"
) -> tuple[np.ndarray, ...]:
    """The gradient of sum(cotangent * f(args)), one array for each argument, element by element.

        testing.numerical_gradient(lambda x: x**2, np.array([1.0, 2.0]))      # (array([2., 4.]),)

    args               arrays of any shape
    cotangent, method  as for directional_derivative
    Raises ShapeError for a cotangent that does not fit, ValueError for another method, TypeError
    where f cannot carry a complex step.
    """
    arrays = [np.asarray(x, np.float64) for x in args]
    found = [np.zeros(x.shape) for x in arrays]
    for i, x in enumerate(arrays):
        for at in np.ndindex(x.shape):
            direction = [np.zeros(a.shape) for a in arrays]
            direction[i][at] = 1.0
            d = directional_derivative(f, arrays, direction, cotangent=cotangent, method=method)
            found[i][at] = d.value
    return tuple(found)


@quiet
def adjoint_gap(f: Callable[..., Any], args: Sequence[Any], u: Sequence[Any], v: Any) -> float:
    """|<v, J u> - <J^T v, u>| relative to its terms: 0 but for rounding, if the gradient is right.

        testing.adjoint_gap(np.tanh, [np.ones(3)], [np.array([1.0, 2.0, 3.0])], np.ones(3))

    args, u  one array each for every argument, of any shape; v: the cotangent, in f's form. J u
    comes from a complex step, J^T v from the engine: no step size, no tolerance to choose. Raises
    TypeError where f cannot carry a complex step, ShapeError for a v that does not fit. Source: the
    dot-product test of adjoint models.
    """
    subject = Subject(f, tuple(np.asarray(x, np.float64) for x in args), modules=False)
    engine = Engine(subject)
    weights = cotangents(engine.outputs, leaves(tuples(v)), np.random.default_rng(0))
    pairs = list(zip(engine(weights), u, strict=True))
    back = sum(float((g * w).sum()) for g, w in pairs if g is not None)
    size = sum(float(np.abs(g * w).sum()) for g, w in pairs if g is not None)
    ahead = directional_derivative(f, args, u, cotangent=v, method="complex").value
    return float(abs(ahead - back) / (max(size, abs(ahead)) or 1.0))


@quiet
def taylor_rates(
    f: Callable[..., Any],
    args: Sequence[Any],
    direction: Sequence[Any] | None = None,
    gradients: Sequence[Array] | None = None,
    steps: int = 5,
) -> list[float]:
    """How fast f(x + h u) - f(x) - h <gradient, u> vanishes as h halves: 2 for a right gradient.

        testing.taylor_rates(lambda x: np.sin(x).sum(), [np.ones(3)])      # [2.0, 2.0, 2.0, 2.0]

    args       arrays of any shape; direction and gradients, of the same shapes. gradients: of
               sum(f), default the engine's
    steps      how many h, from 1/64 on; a rate for each pair of neighbours
    A rate of 1 says that they are wrong. Where f is linear along u nothing is left but rounding,
    and the rates mean nothing (nan where it is 0). Raises NoGradientError where f returns no float
    array, NumPy's ValueError for shapes that do not fit.
    """
    arrays = [np.asarray(x, np.float64) for x in args]
    rng = np.random.default_rng(0)
    along = [rounded_normals(rng, x.shape) for x in arrays] if direction is None else direction
    if gradients is None:
        engine = Engine(Subject(f, tuple(arrays), modules=False))
        gradients = engine([np.ones(out.shape) for out in engine.outputs])
    pairs = zip(gradients, along, strict=True)
    slope = sum(float((g * u).sum()) for g, u in pairs if g is not None)

    def total(h: float) -> float:
        moved = [x + h * u for x, u in zip(arrays, along, strict=True)]
        return sum(float(np.sum(out)) for out in leaves(tuples(f(*moved))))

    left = [abs(total(h) - total(0.0) - h * slope) for h in 2.0 ** -np.arange(6, 6 + steps)]
    return [float(np.log2(a / b)) if a and b else float("nan") for a, b in pairwise(left)]
