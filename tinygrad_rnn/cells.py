"""Cells: one step of a recurrent network, as plain NumPy. Layers over time are in recurrent.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import errors, init
from .errors import CellError
from .functions import activation as activation_named
from .functions import identity, sigmoid
from .module import Module, Parameter, dtype_of
from .nests import form, leaves, map_tree, summary, unlike
from .vjp import Array


class Cell(Module):
    """One step of a recurrent network: give it a state's shape and a step, in plain NumPy.

        class Decay(tg.Cell):
            def __init__(self, inputs, hidden, rng):
                self.U = tg.Parameter(tg.init.glorot(rng, (inputs, hidden)))
                self.a = tg.Parameter(np.zeros(hidden))
                self.state_shape = (hidden,)

            def step(self, x, h):
                return tg.sigmoid(self.a) * h + np.tanh(x @ self.U)

        tg.RNN(Decay(3, 4, rng=0))(np.ones((5, 2, 3))).outputs.shape        # (5, 2, 4)

    state_shape   the shape of one sequence's state: a tuple of ints, or a tuple or dict of such.
                  Or define `initial_state(batch_shape, dtype)` yourself.
    step(x, state)  x is (N, C), or (C,) for one sequence without a batch; state likewise. Returns
                  (output, new state), or just the new state where it is one bare array (it is then
                  the output too). Nothing random, no attribute changed: all memory is in the state.
    Raises CellError where step or the state's shape is missing, or step returns anything else.
    """

    state_shape: Any

    def step(self, x: Array, state: Any) -> Any:
        """One time step; every cell defines its own."""
        raise CellError(f"{type(self).__name__} must define step(self, x, state)")

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """Zeros of `state_shape` for a batch; dtype None: that of the parameters."""
        shape = getattr(self, "state_shape", None)
        if shape is None:
            raise errors.no_state_shape(type(self).__name__)
        if dtype is None:
            dtype = dtype_of(self)
        return _zeros(shape, tuple(batch_shape), dtype)

    def __call__(self, x: Array, state: Any) -> tuple[Any, Any]:
        """One step: (output, new state), whichever form `step` returns."""
        # a step may write into a dict that its state is or holds: it gets a nest of its own
        own = map_tree(identity, state) if _holds_dict(state) else state
        result, name = self.step(x, own), type(self).__name__
        if isinstance(result, tuple) and len(result) == 2:
            output, new = result
        elif form(state) is None and not isinstance(result, (tuple, dict)):
            output = new = result
        else:
            raise errors.not_output_and_state(name, summary(result))
        if differ := unlike(state, new):
            part = differ[0] is not state
            raise errors.state_form_changed(name, *map(summary, differ), part=part)
        for value in (output, *leaves(new)):
            if not (hasattr(value, "shape") and hasattr(value, "dtype")):
                raise errors.not_arrays(name, summary(value))
        return output, new


def _holds_dict(tree: Any) -> bool:
    return isinstance(tree, dict) or (isinstance(tree, tuple) and any(map(_holds_dict, tree)))


def _zeros(shape: Any, batch: tuple[int, ...], dtype: Any) -> Any:
    """Zeros in the form of a state_shape: an int, a tuple of ints, or a nest of those."""
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    if isinstance(shape, dict):
        return {key: _zeros(item, batch, dtype) for key, item in shape.items()}
    if not isinstance(shape, tuple):
        raise errors.wrong_state_shape_form(shape)
    if all(isinstance(item, (int, np.integer)) for item in shape):
        return np.zeros((*batch, *shape), dtype)
    items = [_zeros(item, batch, dtype) for item in shape]
    return type(shape)(*items) if hasattr(shape, "_fields") else tuple(items)


class RNNCell(Cell):
    """The tutorials' cell: h' = phi(x U + h V + b).

        cell = tg.RNNCell(3, 4, rng=0)
        cell                            # RNNCell(U (3, 4)  V (4, 4)  b (4,); 32 numbers)
        y, h = cell(np.ones((2, 3)), cell.initial_state((2,)))      # y is h: (2, 4)

    inputs, hidden  the widths C of x and H of the state ("units")
    activation      tanh, relu, sigmoid, identity, or any callable on arrays
    bias            False leaves b out (it is None)
    rng             an int seed or a numpy Generator, required
    dtype           that of the Parameters
    Parameters: U (C, H), V (H, H), b (H,), the weights that every time step shares (the second
    tutorial's W_ax, W_aa, b_a). Raises RngError without rng, ShapeError for another activation, and
    for x of another width.
    Source: Elman 1990; tutorial 1, section 2.4.1.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        activation: Any = "tanh",
        bias: bool = True,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.activation = activation_named(activation)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), dtype=dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, dtype=dtype))
        self.b = Parameter(np.zeros(hidden, dtype)) if bias else None

    def step(self, x: Array, state: Array) -> Any:
        """h' = phi(x U + h V + b)."""
        z = x @ self.U + state @ self.V
        return self.activation(z if self.b is None else z + self.b)


class LSTMCell(Cell):
    """Long short-term memory: a memory c that gates write, keep and read.

        cell = tg.LSTMCell(3, 4, rng=0)
        y, (h, c) = cell(np.ones((2, 3)), cell.initial_state((2,)))      # y is h: (2, 4)

    i, f, o = sigmoid(...), g = tanh(...), each of x U + h V + b;  c' = f c + i g;  h' = o tanh(c')

    inputs, hidden  the widths C of x and H of h and c
    forget_bias     what b starts with for gate f, visible there: at 1 the memory lasts from the
                    first update on (Jozefowicz 2015)
    rng             an int seed or a numpy Generator, required
    dtype           that of the Parameters
    Parameters: U (C, 4H), V (H, 4H), b (4H,), the gates side by side in the order of `.gates`.
    State: (h, c). Raises RngError without rng, ShapeError for x of another width.
    Source: Hochreiter and Schmidhuber 1997; Gers 2000.
    """

    gates = ("i", "f", "g", "o")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        forget_bias: float = 1.0,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, ((hidden,), (hidden,))
        self.U = Parameter(init.glorot(rng, (inputs, hidden), 4, dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, 4, dtype))
        self.b = Parameter(np.repeat(np.array([0, forget_bias, 0, 0], dtype), hidden))

    def step(self, x: Array, state: Any) -> Any:
        """Output h', state (h', c')."""
        h, c = state
        i, f, g, o = np.split(x @ self.U + h @ self.V + self.b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, (h, c)


class GRUCell(Cell):
    """Gated recurrent unit: h' = (1 - z) n + z h, where z keeps and r forgets.

        cell = tg.GRUCell(3, 4, rng=0)
        y, h = cell(np.ones((2, 3)), cell.initial_state((2,)))      # y is h: (2, 4)

    r, z = sigmoid(x U + h V + b), each with its gate's columns, and the candidate
    reset_after=True   n = tanh(x U[n] + b[n] + r (h V[n] + b_n)), as in PyTorch and Keras
    reset_after=False  n = tanh(x U[n] + b[n] + (r h) V[n]), as in the paper's last version

    inputs, hidden  the widths C of x and H of h
    rng             an int seed or a numpy Generator, required
    dtype           that of the Parameters
    Parameters: U (C, 3H), V (H, 3H), b (3H,), the gates side by side in the order of `.gates`, and
    b_n (H,) with reset_after. Raises RngError without rng, ShapeError for x of another width.
    Source: Cho 2014.
    """

    gates = ("r", "z", "n")

    def __init__(
        self,
        inputs: int,
        hidden: int,
        reset_after: bool = True,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = init.generator(rng)
        self.inputs, self.hidden, self.state_shape = inputs, hidden, (hidden,)
        self.U = Parameter(init.glorot(rng, (inputs, hidden), 3, dtype))
        self.V = Parameter(init.orthogonal(rng, hidden, 3, dtype))
        self.b = Parameter(np.zeros(3 * hidden, dtype))
        self.reset_after = reset_after
        self.b_n = Parameter(np.zeros(hidden, dtype)) if reset_after else None

    def step(self, x: Array, state: Array) -> Any:
        """h' = (1 - z) n + z h."""
        xr, xz, xn = np.split(x @ self.U + self.b, 3, axis=-1)
        if self.reset_after:
            hr, hz, hn = np.split(state @ self.V, 3, axis=-1)
            r = sigmoid(xr + hr)
            n = np.tanh(xn + r * (hn + self.b_n))
        else:
            hr, hz = np.split(state @ self.V[:, : 2 * self.hidden], 2, axis=-1)
            r = sigmoid(xr + hr)
            n = np.tanh(xn + (r * state) @ self.V[:, 2 * self.hidden :])
        z = sigmoid(xz + hz)
        return (1 - z) * n + z * state
