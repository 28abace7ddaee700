"""Arrays at the border: what comes in is checked, what goes out is the engine's own to freeze."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import errors


def is_float(dtype: np.dtype[Any]) -> bool:
    """Floats may have gradients; integers and booleans are constants; nothing else is allowed.

    is_float(np.dtype(int))      # False
    """
    if dtype.kind not in "fiub":
        raise errors.not_a_number_type(dtype)
    return dtype.kind == "f"


def as_operand(name: str, operand: Any) -> np.ndarray:
    """An operand of `name` that is neither Tensor nor number, as an array.

    as_operand("add", [1, 2])      # array([1, 2])
    """
    array: np.ndarray = np.asarray(operand)
    if array.dtype.kind in "OUS":
        raise errors.not_an_operand(name, type(operand).__name__)
    return array


def own_result(out: Any, raw: list[np.ndarray], users: bool) -> np.ndarray:
    """A result as an array that may be frozen: a copy, where it is a view of somebody else's.

    raw    operands that belong to the caller
    users  whether the function is a user's own, which may return a view of a buffer that it keeps
    """
    array: np.ndarray = np.asarray(out)
    base = array.base
    kept = users and isinstance(base, np.ndarray) and base.flags.writeable
    shared = any(array is a or (base is not None and np.may_share_memory(array, a)) for a in raw)
    return array.copy() if kept or shared else array
