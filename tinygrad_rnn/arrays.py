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


def unmasked(array: Any) -> Any:
    """What was given, if it is no masked array, whose mask would be lost.

    unmasked([1, 2])      # [1, 2]
    """
    if type(array).__name__ == "MaskedArray":  # by name: looking at np.ma would import it
        raise errors.masked_array()
    return array


def as_operand(name: str, operand: Any) -> np.ndarray:
    """An operand of `name` that is neither Tensor nor number, as an array.

    as_operand("add", [1, 2])      # array([1, 2])
    """
    array: np.ndarray = np.asarray(unmasked(operand))
    if array.dtype.kind in "OUS":
        raise errors.not_an_operand(name, type(operand).__name__)
    return array


def frozen_copy(array: np.ndarray) -> np.ndarray:
    """A read-only copy.

    frozen_copy(np.ones(2)).flags.writeable      # False
    """
    array = array.copy()
    array.setflags(write=False)
    return array


def own_results(result: Any, raw: list[Any], users: bool) -> tuple[list[np.ndarray], bool]:
    """What a function returned as frozen arrays, and whether it returned several.

    A view of somebody else's array is copied before it is frozen: of an operand in `raw`, which the
    caller may change, or of a buffer that a user's own function (`users`) may use again.
    """
    several = isinstance(result, (tuple, list))
    outs = []
    for out in result if several else (result,):
        array: np.ndarray = np.asarray(out)
        base = array.base
        again = users and isinstance(base, np.ndarray) and base.flags.writeable
        view = any(array is a or (base is not None and np.may_share_memory(array, a)) for a in raw)
        array = array.copy() if again or view else array
        array.setflags(write=False)
        outs.append(array)
    return outs, several
