"""What one does with a graph: gradients of Tensors, and whether it is recorded and checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import errors
from .graph import Key, pull
from .record import recording
from .tensor import Tensor, seed, wrap


def grad(
    y: Tensor,
    inputs: Any = None,
    gradient: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The gradients of y with respect to the inputs, one Tensor for each; `.grad` is not touched.

        x = tg.Tensor(2.0, requires_grad=True)
        (dx,) = tg.grad(x**3, [x], create_graph=True)     # 12
        (ddx,) = tg.grad(dx, [x])                         # 12, the derivative of 3 x**2

    y             a Tensor; `gradient` is its cotangent, which one element may leave out
    inputs        a Tensor or several, leaves or not
    create_graph  record the way back too, so that the gradients have gradients
    retain_graph  keep the graph for another call; None: as create_graph
    allow_unused  None for an input that y does not depend on, instead of UnusedInputError

    Raises NotScalarError, GraphFreedError, UnusedInputError.
    """
    if not isinstance(y, Tensor) or inputs is None:
        raise errors.function_given()
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = {x._key for x in inputs if x._key is not None}
    found: dict[Key, Any] = {}
    if y._key is not None and wanted:
        retain = create_graph if retain_graph is None else retain_graph
        found = pull(seed(y, gradient), wanted, retain, _lift if create_graph else None)
    results = [None if x._key is None else found.get(x._key) for x in inputs]
    for k, (x, g) in enumerate(zip(inputs, results, strict=True)):
        if g is None and not allow_unused:
            raise errors.unused_input(k, x)
    return tuple(g if g is None or isinstance(g, Tensor) else Tensor(g) for g in results)


def _lift(value: Any, key: Key | None) -> Any:
    """What a node kept, as a Tensor with its place in the graph; numbers stay numbers."""
    return wrap(value, *(key or ())) if isinstance(value, np.ndarray) else value


def no_grad() -> Any:
    """Record nothing inside.

        with tg.no_grad():
            y = layer(x)          # y.requires_grad is False

    Also a decorator (`@tg.no_grad()`). The state before is restored on the way out, after an
    exception too. Affects this thread only.
    """
    return recording(tracking=False)


def detect_nonfinite() -> Any:
    """Stop at the first NaN or infinity, on the way forward or back.

        with tg.detect_nonfinite():
            layer(x).outputs.sum().backward()

    Raises NonFiniteError that names the operation, its shapes, its place in the network and the
    line that made it. One pass over every array inside the block, nothing outside it.
    """

    def watch(function: Any, operands: Any, static: Any, outs: tuple[Any, ...]) -> None:
        for out in outs:
            check(out, f"the result of {out._key[0] if out._key else function.__name__}")

    def check(values: Any, what: str) -> None:
        array = values._data if isinstance(values, Tensor) else values
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            first = tuple(bad[0].tolist())
            raise errors.not_finite(what, len(bad), array.size, first, array[first])

    return recording(watch=watch, check=check)
