"""NumPy functions that are made of others on Tensors, and so need no VJP of their own.

Each has NumPy's own parameters and gives NumPy's own values (`tests/test_rules.py` compares them).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from . import errors
from .primitives import ARRAY
from .rules import einsum_product, euclidean_norm, pad_constant, scatter
from .tensor import Tensor
from .vjp import Array, composed


@composed(np.clip)
def clip(
    a: Array,
    a_min: Array = None,
    a_max: Array = None,
    out: Any = None,
    min: Array = None,
    max: Array = None,
) -> Array:
    """At a bound the gradient is shared, as in maximum."""
    if out is not None:
        raise errors.ufunc_form("clip", "__call__", ["out"])
    low, high = a_min if min is None else min, a_max if max is None else max
    a = a if low is None else np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


@composed(np.select)
def select(condlist: Any, choicelist: Any, default: Array = 0) -> Array:
    """The first choice whose condition holds."""
    if any(np.result_type(condition).kind != "b" for condition in condlist):
        raise TypeError("select: conditions must be boolean arrays")
    result = default
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        result = np.where(condition, choice, result)
    return result.astype(np.result_type(*choicelist, default))


@composed(np.tensordot)
def tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    """One matrix product of the two, with the summed axes brought together."""
    both = (range(-axes, 0), range(axes)) if isinstance(axes, (int, np.integer)) else axes
    mine, its = (
        normalize_axis_tuple(tuple(np.atleast_1d(k).tolist()), np.ndim(x))
        for k, x in zip(both, (a, b), strict=True)
    )
    rows = [k for k in range(np.ndim(a)) if k not in mine]
    columns = [k for k in range(np.ndim(b)) if k not in its]
    shape = [np.shape(a)[k] for k in rows] + [np.shape(b)[k] for k in columns]
    if [np.shape(a)[k] for k in mine] != [np.shape(b)[k] for k in its]:
        raise errors.ShapeError(f"tensordot of {np.shape(a)}, {np.shape(b)}: axes {axes} differ")
    size = math.prod(np.shape(a)[k] for k in mine)
    left = np.transpose(a, (*rows, *mine)).reshape(math.prod(np.shape(a)[k] for k in rows), size)
    right = np.transpose(b, (*its, *columns)).reshape(
        size, math.prod(np.shape(b)[k] for k in columns)
    )
    return (left @ right).reshape(shape)


@composed(np.dot)
def dot(a: Array, b: Array) -> Array:
    """Numbers, vectors, matrices; beyond, the sum over a's last and b's last but one axis."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(a) <= 2 and np.ndim(b) <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, -1 if np.ndim(b) == 1 else -2))


@composed(np.inner)
def inner(a: Array, b: Array) -> Array:
    """The sum over both last axes."""
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else np.tensordot(a, b, (-1, -1))


@composed(np.outer)
def outer(a: Array, b: Array) -> Array:
    """All products of two elements."""
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@composed(np.einsum)
def einsum(subscripts: str, *operands: Array) -> Array:
    """Explicit labels for everything, repeated ones by the diagonal, then one product."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    names, most = [], 0
    if any(name.count("...") > 1 for name in inputs.split(",")):
        raise errors.ShapeError(f"einsum: more than one ellipsis for an operand in {subscripts!r}")
    for name, x in zip(inputs.split(","), operands, strict=True):
        hidden = np.ndim(x) - len(name.replace("...", "")) if "..." in name else 0
        most = max(most, hidden)
        if "..." not in name and len(name) != np.ndim(x):
            raise errors.ShapeError(f"einsum: labels {name!r} for an operand {np.shape(x)}")
        names.append(name.replace("...", "".join(free[:hidden][::-1])))
    if not arrow:
        letters = sorted(set("".join(names)) - set(free))
        result = "..." + "".join(c for c in letters if "".join(names).count(c) == 1)
    if most and "..." not in result:
        raise errors.ShapeError(f"einsum: {subscripts!r} has no ellipsis in its result")
    result = result.replace("...", "".join(free[:most][::-1]))
    arrays = list(operands)
    for k in range(len(names)):
        while len(set(names[k])) < len(names[k]):
            twice = next(c for c in names[k] if names[k].count(c) > 1)
            i, j = names[k].index(twice), names[k].rindex(twice)
            if np.shape(arrays[k])[i] != np.shape(arrays[k])[j]:
                raise errors.ShapeError(f"einsum: {twice!r} has two sizes in {np.shape(arrays[k])}")
            arrays[k] = np.diagonal(arrays[k], 0, i, j)
            names[k] = names[k][:i] + names[k][i + 1 : j] + names[k][j + 1 :] + twice
    return einsum_product(arrays, labels=(*names, result))


@composed(np.diagonal)
def diagonal(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The elements with equal indices on two axes, as a new last axis."""
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = a.shape[-2:]
    k = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return a[..., k - min(offset, 0), k + max(offset, 0)]


@composed(np.trace)
def trace(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The sum of the diagonal."""
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@composed(np.diag)
def diag(v: Array, k: int = 0) -> Array:
    """A matrix's diagonal, or a matrix with this diagonal."""
    if np.ndim(v) not in (1, 2):
        raise errors.ShapeError(f"diag: expected a vector or a matrix, got shape {np.shape(v)}")
    if np.ndim(v) == 2:
        return np.diagonal(v, k)
    size = len(v) + abs(k)
    at = np.arange(len(v))
    index = (at - min(k, 0), at + max(k, 0))
    return scatter(v, *index, shape=(size, size), index=(ARRAY, ARRAY))


def _lower(m: Array, k: int) -> np.ndarray:
    """Where a matrix is on or below its k-th diagonal; a vector counts as a matrix of itself."""
    rows, columns = np.shape(m)[-2:][0], np.shape(m)[-1]
    return np.tri(rows, columns, k, dtype=bool)


@composed(np.tril)
def tril(m: Array, k: int = 0) -> Array:
    """Zeros above the k-th diagonal."""
    return np.where(_lower(m, k), m, np.zeros((), m.dtype))


@composed(np.triu)
def triu(m: Array, k: int = 0) -> Array:
    """Zeros below the k-th diagonal."""
    return np.where(_lower(m, k - 1), np.zeros((), m.dtype), m)


@composed(np.linalg.norm)
def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """Euclidean (also of a matrix, "fro"), or any p of vectors; 0 at 0."""
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    vector = np.ndim(x) == 1 if axis is None else np.size(axis) == 1
    if ord is None or (ord == 2 and vector) or (ord == "fro" and not vector):
        return euclidean_norm(x, axis=axis, keepdims=keepdims)
    if not vector or isinstance(ord, str):
        raise errors.no_form(
            "linalg.norm", f"(ord={ord!r}) of a {'vector' if vector else 'matrix'}"
        )
    size = np.abs(x)
    if ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if ord < 0:  # one 0 makes it 0
        gone = np.any(size == 0, axis=axis, keepdims=True)
        total = np.sum(np.where(gone, 1, size) ** ord, axis=axis, keepdims=keepdims)
        return np.where(np.any(size == 0, axis=axis, keepdims=keepdims), 0, total ** (1 / ord))
    powers = np.where(size == 0, 0, np.where(size == 0, 1, size) ** ord)
    total = np.sum(powers, axis=axis, keepdims=keepdims)
    return np.where(total == 0, 0, np.where(total == 0, 1, total) ** (1 / ord))


@composed(np.diff)
def diff(a: Array, n: int = 1, axis: int = -1) -> Array:
    """Neighbours subtracted, n times."""
    if n < 0:
        raise ValueError(f"diff: order must be non-negative, got n={n}")
    a = np.moveaxis(a, axis, 0)
    for _ in range(n):
        a = a[1:] - a[:-1]
    return np.moveaxis(a, 0, axis)


@composed(np.moveaxis)
def moveaxis(a: Array, source: Any, destination: Any) -> Array:
    """Some axes to new positions, the others in their order."""
    src, dst = (normalize_axis_tuple(k, np.ndim(a)) for k in (source, destination))
    order = [k for k in range(np.ndim(a)) if k not in src]
    for to, k in sorted(zip(dst, src, strict=True)):
        order.insert(to, k)
    return np.transpose(a, order)


@composed(np.ravel)
def ravel(a: Array, order: Any = "C") -> Array:
    """All elements in a row."""
    return np.reshape(a, -1, order=order)


def _at_least(function: Any, shape_of: Any) -> None:
    @composed(function)
    def at_least(*arys: Array) -> Any:
        made = tuple(np.reshape(a, shape_of(np.shape(a))) for a in arys)
        return made[0] if len(made) == 1 else made


_at_least(np.atleast_1d, lambda s: s or (1,))
_at_least(np.atleast_2d, lambda s: s if len(s) > 1 else (1, *(s or (1,))))


@composed(np.append)
def append(arr: Array, values: Array, axis: int | None = None) -> Array:
    """concatenate of two."""
    return np.concatenate([arr, values], axis=axis)


@composed(np.vstack)
def vstack(tup: Any) -> Array:
    """Rows on top of each other."""
    return np.concatenate([np.atleast_2d(a) for a in tup], axis=0)


@composed(np.hstack)
def hstack(tup: Any) -> Array:
    """Side by side: along the second axis, or the only one."""
    arrays = [np.atleast_1d(a) for a in tup]
    return np.concatenate(arrays, axis=0 if arrays[0].ndim == 1 else 1)


@composed(np.column_stack)
def column_stack(tup: Any) -> Array:
    """Vectors as columns."""
    return np.concatenate([a if np.ndim(a) > 1 else np.reshape(a, (-1, 1)) for a in tup], axis=1)


@composed(np.array_split)
def array_split(ary: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    """split, where the parts need not be equal."""
    ends = indices_or_sections
    if isinstance(ends, (int, np.integer)):
        if ends < 1:
            raise ValueError("array_split: the number of sections must be larger than 0")
        small, rest = divmod(ary.shape[axis], int(ends))
        ends = np.cumsum([small + 1] * rest + [small] * (int(ends) - rest))[:-1]
    return np.split(ary, list(ends), axis=axis)


@composed(np.tile)
def tile(A: Array, reps: Any) -> Array:
    """Copies along each axis: broadcast over a new axis in front of each, and joined."""
    counts = tuple(np.atleast_1d(reps).tolist())
    ndim = max(np.ndim(A), len(counts))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - np.ndim(A)) + np.shape(A)
    apart = [n for size in shape for n in (1, size)]
    copied = [n for pair in zip(counts, shape, strict=True) for n in pair]
    whole = [n * size for n, size in zip(counts, shape, strict=True)]
    return np.broadcast_to(np.reshape(A, apart), tuple(copied)).reshape(whole)


@composed(np.take)
def take(a: Array, indices: Any, axis: int | None = None) -> Array:
    """Elements by number, along an axis or of all in a row."""
    if not isinstance(indices, Tensor):
        indices = np.asarray(indices, None if np.size(indices) else int)
    if indices.dtype == bool:  # the elements 0 and 1: here it is no mask
        indices = indices.astype(int)
    if axis is None:
        return np.reshape(a, -1)[indices]
    return a[(slice(None),) * normalize_axis_index(axis, np.ndim(a)) + (indices,)]


@composed(np.repeat)
def repeat(a: Array, repeats: Any, axis: int | None = None) -> Array:
    """Each element several times."""
    a = np.reshape(a, -1) if axis is None else a
    axis = 0 if axis is None else normalize_axis_index(axis, np.ndim(a))
    return np.take(a, np.repeat(np.arange(np.shape(a)[axis]), repeats), axis=axis)


@composed(np.pad)
def pad(array: Array, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Array:
    """A constant around, or copies of the array's own elements (edge, reflect, wrap, symmetric)."""
    widths = np.broadcast_to(np.asarray(pad_width), (np.ndim(array), 2)).tolist()
    if mode == "constant":
        widths = tuple(map(tuple, widths))
        value = 0 if constant_values is None else constant_values
        return pad_constant(array, pad_width=widths, constant_values=value)
    if mode in ("empty", "linear_ramp", "maximum", "mean", "median", "minimum"):
        raise errors.no_form("pad", f"(mode={mode!r})")
    if constant_values is not None:
        raise ValueError(f"pad: mode {mode!r} takes no constant_values")
    for axis, width in enumerate(widths):
        index = np.pad(np.arange(np.shape(array)[axis]), width, mode=mode)  # type: ignore[call-overload]
        array = np.take(array, index, axis=axis)
    return array


@composed(np.allclose)
def allclose(a: Array, b: Array, **tolerances: Any) -> bool:
    """Reads values, as bool() does."""
    return bool(np.all(np.isclose(a, b, **tolerances)))


@composed(np.array_equal)
def array_equal(a1: Array, a2: Array) -> bool:
    """Reads values, as bool() does."""
    return np.shape(a1) == np.shape(a2) and bool(np.all(a1 == a2))
