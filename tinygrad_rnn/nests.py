"""Nests: states and inputs are arrays, or tuples, NamedTuples and dicts of them, in any depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import CellError


def map_tree(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply f to the arrays of a nest of tuples, NamedTuples and dicts; other nests must match.

    map_tree(np.shape, (np.ones(2), {"c": np.ones(3)}))      # ((2,), {'c': (3,)})
    """
    if not others and not isinstance(tree, (tuple, dict)):  # nearly always
        return f(tree)
    if any(form(other) != form(tree) for other in others):
        raise CellError(f"expected {summary(tree)}, got {', '.join(map(summary, others))}")
    if isinstance(tree, dict):
        return {key: map_tree(f, tree[key], *[other[key] for other in others]) for key in tree}
    if isinstance(tree, tuple):
        items = [map_tree(f, *item) for item in zip(tree, *others, strict=True)]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    return f(tree, *others)


def form(tree: Any) -> Any:
    """What must agree between nests: a dict's keys, a tuple's length, None for an array.

    form((1, 2))      # 2
    """
    if isinstance(tree, dict):
        return set(tree)
    return len(tree) if isinstance(tree, tuple) else None


def unlike(tree: Any, other: Any) -> tuple[Any, Any] | None:
    """The first parts of two nests that differ in form, or None.

    unlike((1, (2, 3)), (1, (2,)))      # ((2, 3), (2,))
    """
    if form(tree) != form(other):
        return tree, other
    if not isinstance(tree, (tuple, dict)):
        return None
    keys = tree if isinstance(tree, dict) else range(len(tree))
    return next(filter(None, (unlike(tree[key], other[key]) for key in keys)), None)


def leaves(tree: Any) -> list[Any]:
    """The arrays of a nest, in order.

    leaves((1, {"c": 2}))      # [1, 2]
    """
    found: list[Any] = []
    map_tree(found.append, tree)
    return found


def refilled(tree: Any, arrays: Any) -> Any:
    """A nest of the same form, of other arrays.

    refilled((1, {"c": 2}), [3, 4])      # (3, {'c': 4})
    """
    rest = iter(arrays)
    return map_tree(lambda _: next(rest), tree)


def summary(value: Any) -> str:
    """What somebody gave, for an error: `a tuple of 3`, `a dict of c, h`, `an array (2, 4)`.

    summary((1, 2, 3))      # 'a tuple of 3'
    """
    if isinstance(value, dict):
        return f"a dict of {', '.join(sorted(map(str, value)))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an array {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
