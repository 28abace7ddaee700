"""Stream: a layer fed step by step, as data arrives. The layers are in recurrent.py."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import errors
from .differentiate import no_grad
from .functions import as_array
from .module import Embedding, Module, find
from .nests import leaves, map_tree
from .vjp import Array


class Stream:
    """A layer fed step by step; nothing is recorded for gradients.

        stream = tg.Stream(tg.RNN(tg.RNNCell(3, 4, rng=0)), batch_shape=(2,))
        stream.push(np.ones((2, 3))).shape           # (2, 4): the output of one step
        stream.push(np.ones((7, 2, 3))).shape        # (7, 2, 4): of a chunk, time first
        stream.reset([0])                            # this row of the batch starts again

    `layer.stream(batch_shape)` makes the same. A step is (batch_shape..., C), a chunk has T in
    front. `.state` is the state after the last step, None before the first: then it starts from the
    layer's initial state. The same numbers as one run over all steps gives. Raises CellError for a
    layer that reads backwards: it would have to know the future.
    """

    def __init__(self, layer: Any, batch_shape: tuple[int, ...] = (), state: Any = None) -> None:
        if any(getattr(part, "reverse", False) for _, part in find(layer, Module)):
            raise errors.cannot_stream(type(layer).__name__)
        self.layer = layer
        self.batch_shape = (batch_shape,) if isinstance(batch_shape, int) else tuple(batch_shape)
        self.state = state

    def __repr__(self) -> str:
        now = "at the start" if self.state is None else f"state {map_tree(np.shape, self.state)}"
        name = type(self.layer).__name__
        return f"Stream({name}, batch_shape={self.batch_shape}, {now}; .push(x_t))"

    def push(self, x: Array) -> Any:
        """The output of one step, x (batch_shape..., C), or of a chunk with time in front.

        Before an Embedding a step is (batch_shape...) integers. Raises ShapeError.
        """
        x = map_tree(as_array, x)
        shape, batch = leaves(x)[0].shape, self.batch_shape
        axes = len(batch) + (not isinstance(_first(self.layer), Embedding))
        step = len(shape) == axes
        if len(shape) not in (axes, axes + 1) or shape[1 - step :][: len(batch)] != batch:
            raise errors.wrong_push(shape, batch)
        with no_grad():
            chunk = map_tree(lambda a: a[None], x) if step else x
            out = self.layer(chunk, self.state)
        self.state = out.state
        return out.outputs[0] if step else out.outputs

    def reset(self, rows: Array = None) -> None:
        """The initial state again: in these rows of the batch (indices or booleans), or in all.

        Raises NumPy's IndexError for rows that there are not.
        """
        if rows is None or self.state is None:
            self.state = None
            return
        chosen = np.zeros(self.batch_shape, bool)
        chosen[rows] = True
        start = self.layer.initial_state(self.batch_shape, leaves(self.state)[0].dtype)
        with no_grad():
            self.state = map_tree(partial(_restarted, chosen), start, self.state)


def _first(layer: Any) -> Any:
    """The layer that x meets."""
    return _first(layer.layers[0]) if hasattr(layer, "layers") else layer


def _restarted(chosen: np.ndarray, start: Array, now: Array) -> Any:
    return choose(chosen, start.astype(now.dtype), now)


def choose(valid: np.ndarray, new: Array, old: Array = None) -> Any:
    """Rows of `new` where valid, rows of `old` (None: zeros) elsewhere; new's dtype stays.

    choose(np.array([True, False]), np.ones((2, 3)))
    """
    old = np.zeros((), new.dtype) if old is None else old
    return np.where(valid.reshape(valid.shape + (1,) * (new.ndim - valid.ndim)), new, old)
