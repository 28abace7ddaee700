"""The four functions behind a Tensor's own syntax, on arrays: x[index], iteration, cast, detach.

Index arrays are operands, never part of a keyword: a traced step must see them. So an index is
taken apart into a template that can be hashed, and the arrays that belong in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .vjp import Array

ARRAY = "an index array"  # stands in a template where an index array belongs


class Slice(NamedTuple):
    """A slice that can be hashed (Python's own can only since 3.12)."""

    start: Any
    stop: Any
    step: Any


def split_index(index: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """The template of an index, and its index arrays.

    split_index((0, slice(2), [1, 1]))     # ((0, Slice(None, 2, None), ARRAY), [array([1, 1])])
    """
    template: list[Any] = []
    arrays: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, slice):
            template.append(Slice(part.start, part.stop, part.step))
        elif part is None or part is Ellipsis or type(part) is int:
            template.append(part)
        elif isinstance(part, np.integer):
            template.append(int(part))
        else:
            template.append(ARRAY)
            array = part if hasattr(part, "shape") else np.asarray(part)
            if array.dtype.kind in "OUS":
                raise IndexError(f"only integers, slices, None, ... and arrays index; got {part!r}")
            empty = isinstance(part, list) and not part  # x[[]] is allowed
            arrays.append(array.astype(int) if empty else array)
    return tuple(template), arrays


def joined_index(template: tuple[Any, ...], arrays: Any) -> tuple[Any, ...]:
    """The index that NumPy understands: the inverse of split_index."""
    rest = iter(arrays)
    return tuple(
        slice(*part) if type(part) is Slice else next(rest) if part is ARRAY else part
        for part in template
    )


def getitem(x: Array, *arrays: Array, index: tuple[Any, ...]) -> Array:
    """x[index], the index being a template and its arrays."""
    return x[joined_index(index, arrays)]


def unstack(x: Array) -> tuple[Array, ...]:
    """x[0], x[1], ...: all at once, so that a loop over time is linear in T."""
    return tuple(x)


def astype(x: Array, dtype: np.dtype[Any]) -> Array:
    """x converted to another dtype."""
    return x.astype(dtype)


def detach(x: Array) -> Array:
    """The same values; nothing flows back through it."""
    return x
