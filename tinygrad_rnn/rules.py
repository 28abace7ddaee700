"""The rule table: each NumPy function with one VJP for each array argument.

A VJP ("vector-Jacobian product") takes `g`, the gradient of the loss with respect to the result,
to the gradient with respect to one argument. What its parameters name is what the graph keeps for
it (`defvjp` has the list). Two habits keep every line good for three uses, on arrays (backward),
on Tensors (derivatives of derivatives) and in a traced loop:

- `g * (something without g)` wherever possible: the factor can then be computed for all time
  steps at once;
- only operators and functions that have rules themselves, no branch on an array's values, and g's
  own dtype (`np.sqrt(n)` and `np.prod(shape)` are float64 and would widen float32).

Sums over broadcast axes are undone by the walk, not here. Functions that are made of others, and
so need no VJP, stand in composed.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from . import errors
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
        softsign(tg.Tensor([1.0, -3.0])).data      # array([0.5, -0.75])

    `f` gets ndarrays of any shape and returns an array, or a tuple of them. Array arguments are
    positional; others are keywords, hashable, and named in the VJPs. On plain arrays it runs as it
    is. Raises nothing of its own; the function made does, MissingRuleError on Tensors before
    defvjp.
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
    if isinstance(value, (list, tuple, dict)):
        return any(map(_holds_tensor, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Tensor)


# ----- keywords, rewritten once before the call --------------------------------------------------
# Axes are counted from the end: the same keywords then stay right with a time axis in front.


def last_axes(ndim: int, axis: Any) -> Any:
    """An axis, or several, as negative numbers; NumPy's own AxisError for a wrong one."""
    if axis is None:
        return None
    if isinstance(axis, tuple):
        return tuple(normalize_axis_index(k, ndim) - ndim for k in axis)
    return normalize_axis_index(axis, ndim) - ndim


def one_axis(default: int | None) -> Any:
    """For functions along one axis; None stays None (all elements in a row)."""

    def bind(xs: tuple[Any, ...], static: Static) -> Static:
        return static | {"axis": last_axes(np.ndim(xs[0]), static.get("axis", default))}

    return bind


def new_axis(xs: tuple[Any, ...], static: Static) -> Static:
    """For stack and expand_dims: the axes are the result's."""
    axis = static.get("axis", 0)
    return static | {"axis": last_axes(np.ndim(xs[0]) + np.size(axis), axis)}


def reduced_axes(xs: tuple[Any, ...], static: Static) -> Static:
    """For reductions: None means all axes."""
    axis, ndim = static.get("axis"), np.ndim(xs[0])
    if axis is None or (ndim == 0 and axis in (0, -1)):  # NumPy lets a number have one axis here
        return static | {"axis": tuple(range(-ndim, 0))}
    return static | {"axis": last_axes(ndim, axis)}


def all_axes(xs: tuple[Any, ...], static: Static) -> Static:
    """For transpose: None reverses."""
    axes = static.get("axes")
    axes = range(np.ndim(xs[0]))[::-1] if axes is None else axes
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return static | {"axes": last_axes(np.ndim(xs[0]), axes)}


# ----- arithmetic --------------------------------------------------------------------------------

defvjp(np.add, lambda g: g, lambda g: g)
defvjp(np.subtract, lambda g: g, lambda g: -g)
defvjp(np.multiply, lambda g, x1: g * x1, lambda g, x0: g * x0)
defvjp(np.divide, lambda g, x1: g / x1, lambda g, out, x1: g * (-out / x1))
defvjp(np.remainder, lambda g: g, lambda g, x0, x1: g * -np.floor(x0 / x1))
defvjp(np.negative, lambda g: -g)
defvjp(np.positive, lambda g: g)
defvjp(np.absolute, lambda g, x0: g * np.sign(x0))
defvjp(np.square, lambda g, x0: g * (2 * x0))
defvjp(np.reciprocal, lambda g, out: g * -(out * out))


def power_base(g: Array, x0: Array, x1: Array) -> Array:
    """x1 * x0 ** (x1 - 1), without 0 ** -1 where both are 0."""
    # A Python number is a constant of the call, the same at every step: a branch on it is allowed.
    if isinstance(x1, (int, float)):
        return g * (x1 * x0 ** (x1 - 1)) if x1 else g * np.zeros_like(x0)
    return g * (x1 * np.where((x0 == 0) & (x1 == 0), 1, x0) ** (x1 - 1.0))


def power_exponent(g: Array, out: Array, x0: Array) -> Array:
    """out * log(x0), and 0 where x0 is 0: the limit for positive exponents."""
    if isinstance(x0, (int, float)):
        return g * (out * (float(np.log(x0)) if x0 else 0.0))
    return g * (out * np.log(np.where(x0 == 0, np.ones_like(x0), x0)))


defvjp(np.power, power_base, power_exponent)


def ratio(x: Array, size: Array) -> Array:
    """x / size, and 0 where size is 0: the gradient of a norm at 0 by convention."""
    return x / np.where(size == 0, np.ones_like(size), size)


defvjp(np.hypot, lambda g, out, x0: g * ratio(x0, out), lambda g, out, x1: g * ratio(x1, out))

# ----- elementwise functions ---------------------------------------------------------------------

defvjp(np.sqrt, lambda g, out: g * (0.5 / out))
defvjp(np.cbrt, lambda g, out: g * (1 / (3 * out * out)))
defvjp(np.exp, lambda g, out: g * out)
defvjp(np.exp2, lambda g, out: g * (out * math.log(2)))
defvjp(np.expm1, lambda g, out: g * (out + 1))
defvjp(np.log, lambda g, x0: g / x0)
defvjp(np.log2, lambda g, x0: g / (x0 * math.log(2)))
defvjp(np.log10, lambda g, x0: g / (x0 * math.log(10)))
defvjp(np.log1p, lambda g, x0: g / (1 + x0))
defvjp(
    np.logaddexp,
    lambda g, out, x0: g * np.exp(x0 - out),
    lambda g, out, x1: g * np.exp(x1 - out),
)
defvjp(np.sin, lambda g, x0: g * np.cos(x0))
defvjp(np.cos, lambda g, x0: g * -np.sin(x0))
defvjp(np.tan, lambda g, out: g * (1 + out * out))
defvjp(np.arcsin, lambda g, x0: g / np.sqrt(1 - x0 * x0))
defvjp(np.arccos, lambda g, x0: -g / np.sqrt(1 - x0 * x0))
defvjp(np.arctan, lambda g, x0: g / (1 + x0 * x0))
defvjp(
    np.arctan2,
    lambda g, x0, x1: g * (x1 / np.hypot(x0, x1) / np.hypot(x0, x1)),
    lambda g, x0, x1: g * (-x0 / np.hypot(x0, x1) / np.hypot(x0, x1)),
)
defvjp(np.sinh, lambda g, x0: g * np.cosh(x0))
defvjp(np.cosh, lambda g, x0: g * np.sinh(x0))
defvjp(np.tanh, lambda g, out: g * (1 - out * out))
defvjp(np.arcsinh, lambda g, x0: g / np.sqrt(x0 * x0 + 1))
defvjp(np.arccosh, lambda g, x0: g / np.sqrt(x0 * x0 - 1))
defvjp(np.arctanh, lambda g, x0: g / (1 - x0 * x0))

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
defvjp(np.nan_to_num, lambda g, x0, **_: np.where(np.isfinite(x0), g, 0))

# ----- no gradient: constant between jumps, or no floats -----------------------------------------

_CONSTANT: list[Any] = [
    np.invert,
    np.sign,
    np.floor,
    np.ceil,
    np.rint,
    np.trunc,
    np.round,
]
_CONSTANT += [np.isnan, np.isinf, np.isfinite, np.any, np.all, np.argmax, np.argmin, np.argsort]
_CONSTANT += [np.zeros_like, np.ones_like, np.count_nonzero, np.logical_not, detach]
_COMPARED: list[Any] = [np.less, np.less_equal, np.greater, np.greater_equal, np.equal]
_COMPARED += [np.not_equal, np.logical_and, np.logical_or, np.logical_xor, np.floor_divide]
_COMPARED += [np.isclose, np.bitwise_and, np.bitwise_or]
for _f in _CONSTANT:
    defvjp(_f, None)
for _f in _COMPARED:
    defvjp(_f, None, None)

# ----- matrix products ---------------------------------------------------------------------------


@primitive
def rows_product(a: Array, g: Array) -> Array:
    """The sum over all leading axes of a[..., :, None] * g[..., None, :]: a weight's gradient.

    (..., I) and (..., J) to (I, J), in one matrix product.
    """
    if a.ndim != 2:
        rows = math.prod(a.shape[:-1])
        a, g = a.reshape(rows, a.shape[-1]), g.reshape(rows, g.shape[-1])
    return np.dot(a.T, g)  # 0.3 us less than a.T @ g


defvjp(rows_product, lambda g, x1: x1 @ g.T, lambda g, x0: x0 @ g)


def matmul_left(g: Array, x1: Array) -> Array:
    """g @ x1.T for matrices; a vector on either side has an axis less."""
    if x1.ndim == 1:
        return np.expand_dims(g, -1) * x1
    if g.ndim < x1.ndim and x1.ndim > 2:  # x0 was a vector
        return (x1 @ np.expand_dims(g, -1))[..., 0]
    return g @ x1.swapaxes(-1, -2)


def matmul_right(g: Array, x0: Array, shapes: Any) -> Array:
    """x0.T @ g for matrices; summed over all rows at once where x1 is a weight (I, J) or (I,)."""
    if len(shapes[1]) == 1:
        return rows_product(x0, np.expand_dims(g, -1))[:, 0]
    if len(shapes[1]) == 2:
        return rows_product(x0, g)
    if x0.ndim == 1:
        return np.expand_dims(x0, -1) * np.expand_dims(g, -2)
    return x0.swapaxes(-1, -2) @ g


defvjp(np.matmul, matmul_left, matmul_right)


@primitive
def einsum_product(operands: Sequence[Array], labels: tuple[str, ...]) -> Array:
    """np.einsum with one label string for each operand and one for the result, none repeated."""
    return np.einsum(",".join(labels[:-1]) + "->" + labels[-1], *operands)


def einsum_part(g: Array, i: int, xs: Any, labels: tuple[str, ...]) -> Array:
    """The product of g with all other operands, summed over what operand i does not have."""
    others = [k for k in range(len(xs)) if k != i]
    parts, names = [g, *(xs[k] for k in others)], [labels[-1], *(labels[k] for k in others)]
    for label, size in zip(labels[i], np.shape(xs[i]), strict=True):
        if not any(label in name for name in names):  # summed over alone: every element gets g
            parts.append(np.ones(size, g.dtype))
            names.append(label)
    part = einsum_product(parts, labels=(*names, labels[i]))
    return np.broadcast_to(part, np.broadcast_shapes(np.shape(part), np.shape(xs[i])))


defvjp(einsum_product, each=einsum_part, broadcasts=True)

# ----- reductions --------------------------------------------------------------------------------


def spread(g: Array, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Array:
    """Undo a reduction's loss of axes: broadcast back to the operand's shape."""
    return np.broadcast_to(g if keepdims else np.expand_dims(g, axis), shape)


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements each result of a reduction was made of."""
    return math.prod(shape[k] for k in (axis if isinstance(axis, tuple) else (axis,)))


def sum_vjp(g: Array, shapes: Any, axis: Any = None, keepdims: bool = False) -> Array:
    """g to every element that was added."""
    return spread(g, shapes[0], axis, keepdims)


def mean_vjp(g: Array, shapes: Any, axis: Any = None, keepdims: bool = False) -> Array:
    """g / n to every element."""
    return spread(g / max(1, count(shapes[0], axis)), shapes[0], axis, keepdims)


def var_vjp(g: Array, x0: Array, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """2 (x - mean) / (n - ddof)."""
    freedom = (count(x0.shape, axis) - ddof) or math.nan
    factor = (x0 - np.mean(x0, axis=axis, keepdims=True)) * (2 / freedom)
    return spread(g, x0.shape, axis, keepdims) * factor


def std_vjp(
    g: Array, out: Array, x0: Array, axis: Any = None, ddof: int = 0, keepdims: bool = False
) -> Array:
    """The variance's, through the square root; 0 where all elements are equal."""
    return var_vjp(ratio(g, 2 * out), x0, axis, ddof, keepdims)


def extreme_vjp(g: Array, out: Array, x0: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """To the elements that are the extreme one, evenly."""
    ties = (x0 == spread(out, x0.shape, axis, keepdims)).astype(g.dtype)
    return spread(g, x0.shape, axis, keepdims) * (ties / np.sum(ties, axis=axis, keepdims=True))


def others_product(x: Array) -> Array:
    """For each element along the last axis the product of all others, right with zeros too."""
    one = np.ones_like(x[..., :1])
    before = np.cumprod(np.concatenate([one, x[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([one, x[..., :0:-1]], axis=-1), axis=-1)
    return before * after[..., ::-1]


def prod_vjp(g: Array, x0: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """g times the product of all other elements."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not x0.size or not axes:
        return spread(g, x0.shape, axis, keepdims) * np.ones_like(x0)
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(x0, axes, last)
    others = others_product(moved.reshape(*moved.shape[: x0.ndim - len(axes)], -1))
    factor = np.moveaxis(others.reshape(moved.shape), last, axes)
    return spread(g, x0.shape, axis, keepdims) * factor


for _f in (np.sum, np.mean, np.var, np.std, np.max, np.amax, np.min, np.amin, np.prod):
    _vjps: dict[Any, Any] = {np.sum: sum_vjp, np.mean: mean_vjp, np.var: var_vjp, np.std: std_vjp}
    defvjp(_f, _vjps.get(_f, prod_vjp if _f is np.prod else extreme_vjp), bind=reduced_axes)


@primitive
def euclidean_norm(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """sqrt(sum(x * x)); its gradient at 0 is 0."""
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def euclidean_norm_vjp(
    g: Array, out: Array, x0: Array, axis: Any = None, keepdims: bool = False
) -> Array:
    """x / |x|."""
    factor = ratio(x0, spread(out, x0.shape, axis, keepdims))
    return spread(g, x0.shape, axis, keepdims) * factor


defvjp(euclidean_norm, euclidean_norm_vjp, bind=reduced_axes)


def cumsum_vjp(g: Array, shapes: Any, axis: Any = None) -> Array:
    """Every element is part of all later sums."""
    return np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis).reshape(shapes[0])


def cumprod_vjp(g: Array, x0: Array, axis: Any = None) -> Array:
    """dx_j = (x_0 ... x_{j-1}) s_j, where s_j = g_j + x_{j+1} s_{j+1}: a loop over the axis.

    Nothing is divided by x, so zeros are fine.
    """
    x = x0.reshape(-1) if axis is None else np.moveaxis(x0, axis, -1)
    g = g if axis is None else np.moveaxis(g, axis, -1)
    if not x.size:
        return np.zeros_like(x0)
    sums = [g[..., -1]]
    for j in range(x.shape[-1] - 2, -1, -1):
        sums.append(g[..., j] + x[..., j + 1] * sums[-1])
    before = np.cumprod(np.concatenate([np.ones_like(x[..., :1]), x[..., :-1]], axis=-1), axis=-1)
    dx = before * np.stack(sums[::-1], axis=-1)
    return dx.reshape(x0.shape) if axis is None else np.moveaxis(dx, -1, axis)


defvjp(np.cumsum, cumsum_vjp, bind=one_axis(None))
defvjp(np.cumprod, cumprod_vjp, bind=one_axis(None))

# ----- shapes ------------------------------------------------------------------------------------


def c_or_f(xs: tuple[Any, ...], static: Static) -> Static:
    """For reshape: "A" and "K" read the layout in memory, which the gradient does not share."""
    order = static.get("order", "C")
    if order in ("A", "K"):
        raise errors.unknown_keyword("reshape", "order", order, ['order="C"', 'order="F"'])
    return static


def named_axes(*names: str) -> Any:
    """For functions that call their axes by other names than axis."""
    return lambda xs, static: (
        static | {n: last_axes(np.ndim(xs[0]), static[n]) for n in names if n in static}
    )


defvjp(
    np.reshape,
    lambda g, shapes, order="C", **_: np.reshape(g, shapes[0], order=order),
    bind=c_or_f,
)
defvjp(np.expand_dims, lambda g, shapes, axis: np.reshape(g, shapes[0]), bind=new_axis)
defvjp(np.squeeze, lambda g, shapes, axis=None: np.reshape(g, shapes[0]), bind=one_axis(None))
defvjp(
    np.swapaxes,
    lambda g, axis1, axis2: np.swapaxes(g, axis1, axis2),
    bind=named_axes("axis1", "axis2"),
)
defvjp(np.broadcast_to, lambda g, shape: g, broadcasts=True)
defvjp(astype, lambda g, dtype: g)  # the walk gives every gradient its argument's dtype


def transpose_vjp(g: Array, axes: Axes) -> Array:
    """The inverse permutation."""
    order = sorted(range(len(axes)), key=lambda k: axes[k])
    return np.transpose(g, tuple(order))


defvjp(np.transpose, transpose_vjp, bind=all_axes)
defvjp(np.flip, lambda g, axis=None: np.flip(g, axis), bind=reduced_axes)
defvjp(np.rot90, lambda g, k=1, axes=(0, 1): np.rot90(g, -k, axes), bind=named_axes("axes"))


def roll_vjp(g: Array, shift: Any, axis: Any = None) -> Array:
    """Back again."""
    return np.roll(g, tuple(-k for k in shift) if isinstance(shift, tuple) else -shift, axis)


defvjp(np.roll, roll_vjp, bind=named_axes("axis"))

# ----- joining, splitting, indexing --------------------------------------------------------------


def part(g: Array, i: int, shapes: Any, axis: int | None = 0) -> Array:
    """The i-th operand's share of a concatenation."""
    if axis is None:
        start = sum(map(math.prod, shapes[:i]))
        return g[start : start + math.prod(shapes[i])].reshape(shapes[i])
    start = sum(shape[axis] for shape in shapes[:i])
    return g[(..., slice(start, start + shapes[i][axis]), *[slice(None)] * (-1 - axis))]


defvjp(np.concatenate, each=part, bind=one_axis(0))
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
    add_at(total, g, arrays, (shape,), index)
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


def take_along_axis_vjp(g: Array, x1: Array, shapes: Any, axis: int | None = -1) -> Array:
    """Back to where it was taken from; with axis None that is a row of all elements."""
    if axis is None:
        flat = scatter_along(g, x1, shape=(math.prod(shapes[0]),), axis=0)
        return flat.reshape(shapes[0])
    return scatter_along(g, x1, shape=shapes[0], axis=axis)


defvjp(np.take_along_axis, take_along_axis_vjp, None, bind=one_axis(-1))
defvjp(
    scatter_along,
    lambda g, x1, shape, axis: np.take_along_axis(g, x1, axis=axis),
    None,
)


@primitive
def average_ties(g: Array, ordered: Array, axis: int) -> Array:
    """g averaged over runs of equal values in an array that is sorted along the axis."""
    g, ordered = np.moveaxis(g, axis, -1), np.moveaxis(ordered, axis, -1)
    new = np.ones(ordered.shape, bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    run = np.cumsum(new).reshape(new.shape) - 1
    totals = np.bincount(run.ravel(), g.ravel()) / np.bincount(run.ravel())
    return np.moveaxis(totals[run].astype(g.dtype), -1, axis)


defvjp(average_ties, lambda g, x1, axis: average_ties(g, x1, axis=axis), None)


def sort_vjp(g: Array, out: Array, x0: Array, axis: int | None = -1, kind: Any = None) -> Array:
    """Back to where each element came from; equal elements share evenly."""
    if axis is None:
        return sort_vjp(g, out, x0.reshape(-1), -1).reshape(x0.shape)
    rank = np.argsort(np.argsort(x0, axis=axis, kind="stable"), axis=axis)
    return np.take_along_axis(average_ties(g, out, axis=axis), rank, axis=axis)


defvjp(np.sort, sort_vjp, bind=one_axis(-1))


@primitive
def pad_constant(x: Array, pad_width: Any, constant_values: Any = 0) -> Array:
    """np.pad with a constant."""
    return np.pad(x, pad_width, constant_values=constant_values)


def pad_vjp(g: Array, shapes: Any, pad_width: Any, constant_values: Any = 0) -> Array:
    """What was not added."""
    before = np.broadcast_to(pad_width, (len(shapes[0]), 2))[:, 0].tolist()
    return g[tuple(slice(k, k + n) for k, n in zip(before, shapes[0], strict=True))]


defvjp(pad_constant, pad_vjp)
