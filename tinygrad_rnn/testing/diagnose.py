"""What a wrong gradient looks like: simple relations between it and the right one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from ..vjp import Array

SMALL = "a float32 detour, an eps added somewhere, or an iteration that stopped early?"


def diagnose(backward: Array, numeric: Array, tolerance: float = 1e-7) -> list[str]:
    """Sentences that say how a wrong gradient is related to the right one; none where it is not.

        testing.diagnose([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [2.0, 4.0]])
        # ['the right gradient with axes (1, 0): is a transpose missing?']

    backward, numeric  arrays of one shape; tolerance is relative to the largest element
    A guess is only made where the relation holds exactly: "no simple relation" is the empty list,
    and so is what arrays of two shapes have. Raises nothing of its own.
    """
    a, b = np.asarray(backward, float), np.asarray(numeric, float)
    size = float(np.abs(b).max(initial=0))

    def near(x: np.ndarray, y: np.ndarray) -> bool:
        return bool(np.abs(x - y).max(initial=0) <= tolerance * max(size, 1e-300))

    if a.shape != b.shape or not a.size or (np.isfinite(a).all() and near(a, b)):
        return []
    if not np.isfinite(a).all():
        return [f"{int((~np.isfinite(a)).sum())} of {a.size} elements are not finite"]
    if not a.any():
        return ["all zero: is the argument detached, or its VJP missing a term?"]
    if not b.any():
        return ["not zero, and f does not depend on this argument"]
    return list(itertools.islice(_relations(a, b, near), 2)) or list(_partial(a, b, size))


def _relations(a: np.ndarray, b: np.ndarray, close: Callable[..., bool]) -> Iterator[str]:
    factor = float((a * b).sum() / (b * b).sum())
    if close(a, factor * b):
        sizes = {n: f"axis {k} has {n} elements" for k, n in enumerate(a.shape) if n > 1}
        sizes |= {a.size: f"there are {a.size} elements"} if a.size > 1 else {}
        known = {-1.0: "the sign is wrong", 2.0: "counted twice?", 0.5: "a factor 2 missing?"}
        why = known.get(round(factor, 9), "")
        if (b == b.flat[0]).all() and factor > 0:
            return  # any two constants are proportional: that says nothing
        for n, what in sizes.items():
            why = why or (f"{what}: a mean for a sum?" if abs(factor * n - 1) < 1e-6 else "")
            why = why or (f"{what}: a sum for a mean?" if abs(factor / n - 1) < 1e-6 else "")
        for n, what in ((1 / factor, "a mean for a sum"), (factor, "a sum for a mean")):
            if not why and n > 1.5 and abs(n - round(n)) < 1e-6:  # of an axis that is gone: a bias
                why = f"{what}, over an axis of {n:.0f}?"
        if not why and abs(factor - 1) < 1e-3:
            why = SMALL
        yield f"{factor:.9g} times the right gradient" + (f": {why}" if why else "")
        return
    for axes in itertools.islice(itertools.permutations(range(a.ndim)), 1, 24):
        if b.transpose(axes).shape == a.shape and close(a, b.transpose(axes)):
            yield f"the right gradient with axes {axes}: is a transpose missing?"
            return
    if a.ndim > 1 and close(a, b.reshape(-1).reshape(a.shape, order="F")):
        yield "the right elements in Fortran's order: reshape with another order?"
        return
    for axis in range(a.ndim):
        if close(a, np.flip(b, axis)):
            yield f"the right gradient reversed along axis {axis}"
            return
        for shift in range(1, a.shape[axis]):
            if close(a, np.roll(b, shift, axis)):
                yield f"the right gradient shifted by {shift} along axis {axis}"
                return
    for axis in range(a.ndim):
        total = b.sum(axis, keepdims=True)
        if a.shape[axis] > 1 and close(a, np.broadcast_to(total, a.shape)):
            yield f"the right gradient summed along axis {axis} and repeated"
            return


def _partial(a: np.ndarray, b: np.ndarray, size: float) -> Iterator[str]:
    """Right in part: where, or how nearly."""
    bad = np.abs(a - b) > 1e-9 * size
    if 0 < bad.sum() < bad.size:
        for axis in range(a.ndim):
            lines = bad.any(tuple(k for k in range(a.ndim) if k != axis))
            if a.shape[axis] > 1 and lines.sum() == 1:
                k = int(lines.argmax())
                yield f"only index {k} along axis {axis} (of {a.shape[axis]}) is wrong"
                return
        lines = bad.any(tuple(range(1, a.ndim)))
        right = np.flatnonzero(~lines & b.any(tuple(range(1, a.ndim))))
        if a.ndim > 1 and len(lines) > 2 and len(right) == 1 and right[0] in (0, len(lines) - 1):
            yield (
                f"right only at index {right[0]} along axis 0 (of {len(lines)}): if that is time, "
                "is what arrives from the next step (the carry) forgotten?"
            )
            return
        if bad.sum() <= 3:
            yield f"only {[list(map(int, at)) for at in np.argwhere(bad)]} wrong"
            return
        for axis in range(a.ndim):
            at = np.flatnonzero(bad.any(tuple(k for k in range(a.ndim) if k != axis)))
            first, last, size = at[0], at[-1], a.shape[axis]
            if len(at) == last - first + 1 and 2 * len(at) <= size:
                yield f"only indices {first} to {last} along axis {axis} (of {size}) are wrong"
                return
        zero = bad & (a == 0)
        if (zero == bad).all():
            yield f"zero in {int(bad.sum())} of {a.size} elements where it should not be"
            return
    worst = float(np.abs(a - b).max() / size)
    if worst < 1e-4:
        yield f"right to {worst:.0e}: {SMALL}"
