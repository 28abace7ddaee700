"""How each function runs on many time steps at once: what the emitter must know beside the rules.

Axes are counted from the end since a rule's `bind`, so most calls stay right with time in front.
What is not known here stays in the loop: slower, never wrong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..functions import log_softmax, logsumexp, relu, sigmoid, softmax, softplus
from ..primitives import ARRAY, Slice, astype, detach, getitem, unstack
from ..rules import einsum_product, euclidean_norm, rows_product, scatter
from .trace import Op, Var, sum_over_time

ELEMENTWISE: set[Any] = {sigmoid, relu, softplus, np.where, astype, detach, np.nan_to_num}
ELEMENTWISE |= {np.zeros_like, np.ones_like}
_ALONG: set[Any] = {softmax, log_softmax, logsumexp, euclidean_norm, np.var, np.std}
_ALONG |= {np.sum, np.mean, np.max, np.amax, np.min, np.amin, np.prod, np.cumsum, np.cumprod}
_ALONG |= {np.sort, np.argsort, np.argmax, np.argmin, np.any, np.all, np.flip}
_JOINS: set[Any] = {np.concatenate, np.stack}
REDUCED: dict[Any, str] = {np.sum: "add", np.mean: "add", np.prod: "multiply"}
REDUCED |= {np.max: "maximum", np.amax: "maximum"}
REDUCED |= {np.min: "minimum", np.amin: "minimum"}


def is_elementwise(function: Any) -> bool:
    """Whether each element of the result depends on the operands' same elements alone."""
    return function in ELEMENTWISE or (isinstance(function, np.ufunc) and not function.signature)


def liftable(op: Op) -> bool:
    """Whether a call can run on all time steps at once (`lifted`, see `emit.Writer._call`)."""
    f, static = op.function, op.static
    if is_elementwise(f) or view(op, 0, "", True) is not None:
        return True
    if f is np.matmul:
        a, b = op.reads
        weight = b.fixed and len(b.shape) == 2
        return bool(len(a.shape) >= (1 if weight else 2) and len(b.shape) >= 2)
    if f in _ALONG or f in _JOINS:
        axis = static.get("axis")
        axes = axis if isinstance(axis, tuple) else (axis,)
        return bool(op.ins[0].shape) and all(isinstance(k, int) and k < 0 for k in axes)
    if f is np.reshape:
        return bool(static.get("order", "C") == "C")
    if f in (getitem, scatter):
        arrays, template = op.ins[1:], static["index"]
        if not arrays:
            return True
        one = len(arrays) == 1 and arrays[0].fixed
        return f is getitem and one and not any(type(part) is int for part in template)
    return f is einsum_product


def view(op: Op, k: int, expr: str, lifted: bool) -> str | None:
    """The text of output k as a view of the first operand's text; None where it is no view."""
    f, static, shape = op.function, op.static, op.outs[k].shape
    if f in (detach, np.positive) or (f is astype and op.outs[0].dtype == op.ins[0].dtype):
        return expr
    if f is np.split:
        ends, axis = split_ends(op), static["axis"]
        return f"{expr}[..., {ends[k]}:{ends[k + 1]}{', :' * (-1 - axis)}]"
    if f is unstack:
        return f"{expr}[:, {k}]" if lifted else f"{expr}[{k}, ...]"
    if f is getitem and len(op.ins) == 1:
        return f"{expr}[{index_text(static['index'], lifted)}]"
    if f in (np.expand_dims, np.squeeze, np.reshape):
        ones = [n for n in op.ins[0].shape if n != 1] == [n for n in shape if n != 1]
        if not ones:  # anything but moving 1s may copy
            return None
        sizes = [f"len({expr})"] * lifted + [str(n) for n in shape]
        return f"{expr}.reshape({', '.join(sizes) or '()'})"
    if f is np.swapaxes:
        return f"{expr}.swapaxes({static['axis1']}, {static['axis2']})"
    if f is np.transpose:
        return f"{expr}.transpose({', '.join(map(str, [0] * lifted + list(static['axes'])))})"
    if f is np.broadcast_to:
        if not lifted:
            return f"np.broadcast_to({expr}, {shape})"
        missing = len(shape) - len(op.ins[0].shape)
        return f"np.broadcast_to({padded(expr, missing)}, (len({expr}), *{shape}))"
    return None


def split_ends(op: Op) -> list[int]:
    """Where np.split cuts, with 0 and the size: [0, 4, 8] for two halves of 8."""
    cut, size = op.static["indices_or_sections"], op.ins[0].shape[op.static["axis"]]
    if isinstance(cut, int):
        return list(range(0, size + 1, max(1, size // cut))) if size else [0] * (cut + 1)
    clipped = [min(size, k if k >= 0 else max(0, size + k)) for k in cut]
    return [0, *clipped, size]


def padded(expr: str, missing: int) -> str:
    """A stack with 1s after the time axis, up to another operand's rank."""
    return f"{expr}[:{', None' * missing}]" if missing > 0 else expr


def index_text(template: tuple[Any, ...], lifted: bool, arrays: list[str] | None = None) -> str:
    """An index as text; with time in front when lifted."""
    rest, parts = iter(arrays or []), [":"] * lifted
    for part in template:
        if type(part) is Slice:
            bounds = ["" if k is None else str(k) for k in part]
            parts.append(":".join(bounds[:2] if part.step is None else bounds))
        elif part is ARRAY:
            parts.append(next(rest))
        else:
            parts.append("..." if part is Ellipsis else str(part))
    if not arrays and Ellipsis not in template:
        parts.append("...")  # an array, never a number
    return ", ".join(parts)


def sums_rows(op: Op) -> bool:
    """A weight's or a bias's gradient in one step: over all steps, one product of all rows."""
    if op.function is rows_product:
        return True
    if op.function is not np.sum or op.static.get("keepdims"):
        return False
    rank, axes = len(op.ins[0].shape), op.static["axis"]
    axes = axes if isinstance(axes, tuple) else (axes,)
    return sorted(axes) == list(range(-rank, -rank + len(axes))) and rank - len(axes) == 1


def is_view(op: Op) -> bool:
    """A view: no line is emitted for it."""
    return op.function is not sum_over_time and view(op, 0, "", False) is not None


def size(v: Var) -> int:
    """The number of elements in one step."""
    return math.prod(v.shape)
