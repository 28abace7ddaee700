"""The rule table: each NumPy function with one VJP for each array argument.

A VJP ("vector-Jacobian product") takes `g`, the gradient of the loss with respect to the result,
to the gradient with respect to one argument. What its parameters name is what the graph keeps for
it (`defvjp` has the list). Two habits keep every line good for three uses, on arrays (backward),
on Tensors (derivatives of derivatives) and in a traced loop:

- `g * (something without g)` wherever possible: the factor can then be computed for all time
  steps at once;
- only operators and functions that have rules themselves, no branch on a value, and g's own dtype
  (`np.sqrt(n)` and `np.prod(shape)` are float64 and would widen float32).

Sums over broadcast axes are undone by the walk, not here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from .primitives import astype, detach, getitem, joined_index, unstack
from .tensor import Tensor, call
from .vjp import RULES as RULES
from .vjp import Array, Static, defvjp

Axes = tuple[int, ...]


def primitive(f: Callable[..., Any]) -> Callable[..., Any]:
    """Make your own NumPy function recordable; then say how it is differentiated.

        @tg.primitive
        def softsign(x):
            return x / (1 + np.abs(x))

        tg.defvjp(softsign, lambda g, x0: g / (1 + np.abs(x0)) ** 2)

    `f` gets ndarrays and returns an array, or a tuple of them. Array arguments are positional;
    others are keywords, hashable, and named in the VJPs. On plain arrays it runs as it is.
    """

    @functools.wraps(f)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if type(value) is not np.ndarray and _holds_tensor(value):
                return call(recorded, *args, **kwargs)
        return f(*args, **kwargs)

    recorded.on_arrays = f  # type: ignore[attr-defined]
    return recorded


def _holds_tensor(value: Any) -> bool:
    if type(value) in (list, tuple):
        return any(isinstance(item, Tensor) for item in value)
    return isinstance(value, Tensor)


# ----- keywords, rewritten once before the call --------------------------------------------------
# Axes are counted from the end: the same keywords then stay right with a time axis in front.


def last_axes(ndim: int, axis: Any) -> Any:
    """An axis, or several, as negative numbers; NumPy's own AxisError for a wrong one."""
    if isinstance(axis, tuple):
        return tuple(k - ndim for k in normalize_axis_tuple(axis, ndim))
    return normalize_axis_index(axis, ndim) - ndim


def one_axis(default: int) -> Any:
    """For functions along one axis."""
    return lambda xs, static: (
        static | {"axis": last_axes(np.ndim(xs[0]), static.get("axis", default))}
    )


def new_axis(xs: tuple[Any, ...], static: Static) -> Static:
    """For stack and expand_dims: the axes are the result's."""
    axis = static.get("axis", 0)
    return static | {"axis": last_axes(np.ndim(xs[0]) + np.size(axis), axis)}


def reduced_axes(xs: tuple[Any, ...], static: Static) -> Static:
    """For reductions: None means all axes."""
    axis = static.get("axis")
    every = tuple(range(-np.ndim(xs[0]), 0))
    return static | {"axis": every if axis is None else last_axes(np.ndim(xs[0]), axis)}


# ----- arithmetic --------------------------------------------------------------------------------

defvjp(np.add, lambda g: g, lambda g: g)
defvjp(np.subtract, lambda g: g, lambda g: -g)
defvjp(np.multiply, lambda g, x1: g * x1, lambda g, x0: g * x0)
defvjp(np.divide, lambda g, x1: g / x1, lambda g, out, x1: g * (-out / x1))
defvjp(np.negative, lambda g: -g)
defvjp(np.positive, lambda g: g)
defvjp(np.absolute, lambda g, x0: g * np.sign(x0))
defvjp(np.square, lambda g, x0: g * (2 * x0))


def power_base(g: Array, x0: Array, x1: Array) -> Array:
    """x1 * x0 ** (x1 - 1), without 0 ** -1 where the exponent is 0."""
    if isinstance(x1, (int, float)):
        return g * (x1 * x0 ** (x1 - 1)) if x1 else g * np.zeros_like(x0)
    return g * (x1 * x0 ** np.where(x1 == 0, np.ones_like(x1), x1 - 1))


def power_exponent(g: Array, out: Array, x0: Array) -> Array:
    """out * log(x0), and 0 where x0 is 0: the limit for positive exponents."""
    return g * (out * np.log(np.where(x0 == 0, np.ones_like(x0), x0)))


defvjp(np.power, power_base, power_exponent)

# ----- elementwise functions ---------------------------------------------------------------------

defvjp(np.exp, lambda g, out: g * out)
defvjp(np.log, lambda g, x0: g / x0)
defvjp(np.sqrt, lambda g, out: g * (0.5 / out))
defvjp(np.tanh, lambda g, out: g * (1 - out * out))
defvjp(np.sin, lambda g, x0: g * np.cos(x0))
defvjp(np.cos, lambda g, x0: g * -np.sin(x0))

# ----- choice: ties are shared evenly ------------------------------------------------------------


def share(wins: Array, ties: Array, dtype: Any) -> Array:
    """1 where an operand wins, 1/2 where it ties, else 0."""
    return wins.astype(dtype) + 0.5 * ties.astype(dtype)


defvjp(
    np.maximum,
    lambda g, x0, x1: g * share(x0 > x1, x0 == x1, g.dtype),
    lambda g, x0, x1: g * share(x1 > x0, x0 == x1, g.dtype),
)
defvjp(
    np.minimum,
    lambda g, x0, x1: g * share(x0 < x1, x0 == x1, g.dtype),
    lambda g, x0, x1: g * share(x1 < x0, x0 == x1, g.dtype),
)
# where(c, g, 0) and not g * c: a branch that was not taken may hold NaN
defvjp(
    np.where,
    None,
    lambda g, x0: np.where(x0, g, 0),
    lambda g, x0: np.where(x0, 0, g),
    broadcasts=True,
)

# ----- no gradient: constant between jumps, or no floats -----------------------------------------

_ONE: list[Any] = [np.sign, np.floor, np.ceil, np.isnan, np.isfinite, np.logical_not]
_ONE += [np.zeros_like, np.ones_like, np.argmax, np.argmin, detach]
_TWO: list[Any] = [np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal]
_TWO += [np.logical_and, np.logical_or]
for _f in _ONE:
    defvjp(_f, None)
for _f in _TWO:
    defvjp(_f, None, None)

# ----- matrix products ---------------------------------------------------------------------------


@primitive
def rows_product(a: Array, g: Array) -> Array:
    """The sum over all leading axes of a[..., :, None] * g[..., None, :]: a weight's gradient.

    (..., I) and (..., J) to (I, J), in one matrix product.
    """
    if a.ndim != 2:
        a, g = a.reshape(-1, a.shape[-1]), g.reshape(-1, g.shape[-1])
    return np.dot(a.T, g)  # 0.3 us less than a.T @ g


defvjp(rows_product, lambda g, x1: x1 @ g.T, lambda g, x0: x0 @ g)


def matmul_left(g: Array, x1: Array, shapes: Any) -> Array:
    """g @ x1.T for matrices; a vector on either side has an axis less."""
    if x1.ndim == 1:
        return np.expand_dims(g, -1) * x1
    if len(shapes[0]) == 1 and x1.ndim > 2:
        return (x1 @ np.expand_dims(g, -1))[..., 0]
    return g @ np.swapaxes(x1, -1, -2)


def matmul_right(g: Array, x0: Array, shapes: Any) -> Array:
    """x0.T @ g for matrices; summed over all rows at once where x1 is a weight (I, J) or (I,)."""
    if len(shapes[1]) == 1:
        return rows_product(x0, np.expand_dims(g, -1))[:, 0]
    if len(shapes[1]) == 2:
        return rows_product(x0, g)
    if x0.ndim == 1:
        return np.expand_dims(x0, -1) * np.expand_dims(g, -2)
    return np.swapaxes(x0, -1, -2) @ g


defvjp(np.matmul, matmul_left, matmul_right)

# ----- reductions --------------------------------------------------------------------------------


def spread(g: Array, shape: tuple[int, ...], axis: Axes, keepdims: bool) -> Array:
    """Undo a reduction's loss of axes: broadcast back to the operand's shape."""
    return np.broadcast_to(g if keepdims else np.expand_dims(g, axis), shape)


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements each result of a reduction was made of."""
    return math.prod(shape[k] for k in (axis if isinstance(axis, tuple) else (axis,)))


defvjp(
    np.sum,
    lambda g, shapes, axis=None, keepdims=False: spread(g, shapes[0], axis, keepdims),
    bind=reduced_axes,
)
defvjp(
    np.mean,
    lambda g, shapes, axis=None, keepdims=False: spread(
        g / max(1, count(shapes[0], axis)), shapes[0], axis, keepdims
    ),
    bind=reduced_axes,
)


def extreme(g: Array, out: Array, x0: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """To the elements that are the extreme one, evenly."""
    ties = (x0 == spread(out, x0.shape, axis, keepdims)).astype(g.dtype)
    return spread(g, x0.shape, axis, keepdims) * (ties / np.sum(ties, axis=axis, keepdims=True))


defvjp(np.max, extreme, bind=reduced_axes)
defvjp(np.min, extreme, bind=reduced_axes)

# ----- shapes ------------------------------------------------------------------------------------

defvjp(np.reshape, lambda g, shapes, order="C", **_: np.reshape(g, shapes[0], order=order))
defvjp(np.expand_dims, lambda g, shapes, axis: np.reshape(g, shapes[0]), bind=new_axis)
defvjp(np.squeeze, lambda g, shapes, axis=None: np.reshape(g, shapes[0]))
defvjp(np.swapaxes, lambda g, axis1, axis2: np.swapaxes(g, axis1, axis2))
defvjp(np.broadcast_to, lambda g, shape: g, broadcasts=True)
defvjp(astype, lambda g, dtype: g)  # the walk gives every gradient its argument's dtype


def all_axes(xs: tuple[Any, ...], static: Static) -> Static:
    """For transpose: None reverses."""
    ndim = np.ndim(xs[0])
    axes = static.get("axes")
    axes = tuple(range(ndim))[::-1] if axes is None else axes
    return static | {"axes": tuple(k - ndim for k in normalize_axis_tuple(axes, ndim))}


defvjp(
    np.transpose,
    lambda g, axes=None: np.transpose(g, tuple(np.argsort([k % len(axes) for k in axes]).tolist())),
    bind=all_axes,
)

# ----- joining, splitting, indexing --------------------------------------------------------------


def part(g: Array, i: int, shapes: Any, axis: int | None = 0) -> Array:
    """The i-th operand's share of a concatenation."""
    if axis is None:
        start = sum(map(math.prod, shapes[:i]))
        return g[start : start + math.prod(shapes[i])].reshape(shapes[i])
    start = sum(shape[axis] for shape in shapes[:i])
    return g[(..., slice(start, start + shapes[i][axis]), *[slice(None)] * (-1 - axis))]


def joined_axis(xs: tuple[Any, ...], static: Static) -> Static:
    """For concatenate: along one axis, or all elements in a row for None."""
    return static if static.get("axis", 0) is None else one_axis(0)(xs, static)


defvjp(np.concatenate, each=part, bind=joined_axis)
defvjp(np.stack, each=lambda g, i, axis=0: g[(..., i, *[slice(None)] * (-1 - axis))], bind=new_axis)
defvjp(
    np.split,
    lambda g, indices_or_sections, axis=0: np.concatenate(g, axis=axis),
    bind=one_axis(0),
)
defvjp(unstack, lambda g: np.stack(g))


@primitive
def scatter(g: Array, *arrays: Array, shape: tuple[int, ...], index: tuple[Any, ...]) -> Array:
    """Zeros of this shape with g added at [index]: where an index repeats, the sum."""
    total = np.zeros(shape, g.dtype)
    add_at(total, g, arrays, shape, index)
    return total


def add_at(total: Any, g: Array, xs: tuple[Array, ...], shapes: Any, index: Any) -> None:
    """total[index] += g, counting repeated indices."""
    where = joined_index(index, xs)
    if all(x.dtype == bool for x in xs):  # basic indices and masks cannot repeat
        total[where] += g
    else:
        np.add.at(total, where, g)


defvjp(
    getitem,
    lambda g, xs, shapes, index: scatter(g, *xs, shape=shapes[0], index=index),
    into=add_at,
)
defvjp(scatter, lambda g, xs, shape, index: g[joined_index(index, xs)])


@primitive
def scatter_along(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The transpose of np.take_along_axis: adds g where it was taken from."""
    total = np.zeros(shape, g.dtype)
    grid: list[Any] = [
        np.arange(n).reshape(-1, *[1] * (g.ndim - 1 - k)) if shape[k] != 1 else 0
        for k, n in enumerate(g.shape)
    ]
    grid[axis] = indices
    np.add.at(total, tuple(grid), g)
    return total


defvjp(
    np.take_along_axis,
    lambda g, x1, shapes, axis=-1: scatter_along(g, x1, shape=shapes[0], axis=axis),
    None,
    bind=one_axis(-1),
)
defvjp(
    scatter_along,
    lambda g, x1, shape, axis: np.take_along_axis(g, x1, axis=axis),
    None,
)
