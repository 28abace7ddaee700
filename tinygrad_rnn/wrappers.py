"""Cells made of cells: Stacked, Readout, Residual, Zoneout, VariationalDropout.

Each is a Cell like any other: it nests, streams, and runs in RNN, BiRNN and Chain. Nothing random
happens in a step. What Zoneout needs at random comes in with x, one array for a whole nest of
wrappers; VariationalDropout's masks are part of the state.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import init
from .cells import Cell
from .errors import CellError, ShapeError, not_a_cell
from .functions import dropout
from .module import dtype_of
from .nests import leaves, refilled
from .vjp import Array


class Wrapper(Cell):
    """A cell around another one, `.cell`: unless told otherwise, it is like that one."""

    def __init__(self, cell: Cell) -> None:
        self.cell: Any = _checked(type(self).__name__, cell)

    @property
    def inputs(self) -> int:
        """The width of x; an AttributeError where the inner cell does not say it."""
        return int(self.cell.inputs)

    @property
    def name(self) -> str:
        """How errors call this cell: Residual(RNNCell)."""
        return f"{type(self).__name__}({_name(self.cell)})"

    @property
    def draw_size(self) -> int:
        """How many draws the Zoneouts in here take in each step of a sequence."""
        return _draw_size(self.cell)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """The inner cell's."""
        return self.cell.initial_state(batch_shape, self._dtype(dtype))

    def draws(
        self, steps: int, batch_shape: tuple[int, ...] = (), rng: Any = None, dtype: Any = None
    ) -> np.ndarray:
        """Numbers in [0, 1) for every Zoneout in here: (steps, *batch_shape, .draw_size).

            tg.Zoneout(tg.RNNCell(3, 4, rng=0), p=0.1).draws(5, (2,), rng=0).shape      # (5, 2, 4)

        rng    an int seed or a numpy Generator, required
        dtype  None: that of the parameters, so that float32 stays float32
        Raises CellError where there is no Zoneout, RngError without rng.
        """
        if not self.draw_size:
            raise CellError(f"{self.name} has no Zoneout, so it takes no draws: give it x alone")
        dtype = self._dtype(dtype)
        shape, step = (steps, *batch_shape, self.draw_size), float(np.finfo(dtype).epsneg)
        # whole multiples of the dtype's step below 1: rounding up to 1 cannot happen
        return np.asarray(np.floor(init.generator(rng).random(shape) / step) * step, dtype)

    def _dtype(self, dtype: Any) -> Any:
        """What was asked for; None: that of the parameters."""
        return dtype_of(self) if dtype is None else dtype

    def _parts(self, x: Any) -> tuple[Any, Any]:
        """The values and the draws of x; draws are None where x is not a tuple."""
        if not isinstance(x, tuple):
            return x, None
        if len(x) != 2 or x[1].shape[-1] != self.draw_size:
            shapes = " and ".join(str(np.shape(a)) for a in leaves(x))
            raise ShapeError(
                f"{self.name}: in x = (values, draws), draws has {self.draw_size} numbers for each "
                f"step of a sequence; got shapes {shapes}. Make them by "
                "cell.draws(T, batch_shape, rng)"
            )
        return x[0], x[1]


class Stacked(Wrapper):
    """Cells on top of each other: within a step, the output of one is the input of the next.

        cell = tg.Stacked(tg.LSTMCell(3, 4, rng=0), tg.GRUCell(4, 5, rng=1))
        y, (lower, upper) = cell(np.ones((2, 3)), cell.initial_state((2,)))      # y: (2, 5)
        list(cell.named_parameters())                # ['cells.0.U', ..., 'cells.1.U', ...]

    The state is a tuple, one entry for each cell; x (N, C) gives y (N, H) of the last cell. Over
    time it gives the same numbers as a Chain of RNNs; but it is one cell, so it streams, generates
    and nests as one. A cell given twice shares its Parameters (not its state). If x is (values,
    draws), each Zoneout in the stack takes its own columns of the draws. (Any other tuple goes to
    the first cell alone.)

    Raises CellError without cells, ShapeError where a cell's output is too wide or narrow for the
    next. Source: Schmidhuber 1992; Graves 2013.
    """

    def __init__(self, *cells: Cell) -> None:
        if not cells:
            raise CellError("Stacked needs cells: tg.Stacked(tg.RNNCell(3, 4, rng=0), ...)")
        self.cells: list[Any] = [_checked("Stacked", cell) for cell in cells]

    @property
    def inputs(self) -> int:
        """The width of the first cell's x."""
        return int(self.cells[0].inputs)

    @property
    def name(self) -> str:
        """How errors call this cell: Stacked(LSTMCell, GRUCell)."""
        return f"Stacked({', '.join(map(_name, self.cells))})"

    @property
    def draw_size(self) -> int:
        """The sum over the cells."""
        return sum(map(_draw_size, self.cells))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """A tuple of the cells' initial states."""
        dtype = self._dtype(dtype)
        return tuple(cell.initial_state(batch_shape, dtype) for cell in self.cells)

    def step(self, x: Array, state: Any) -> Any:
        """The last cell's output, and the tuple of new states."""
        y, draws = self._parts(x) if self.draw_size else (x, None)
        after, used = [], 0
        for k, (cell, old) in enumerate(zip(self.cells, state, strict=True)):
            if k and y.shape[-1] != getattr(cell, "inputs", y.shape[-1]):
                raise ShapeError(
                    f"{self.name}: cell {k}, {_name(cell)}, expects {cell.inputs} features, and "
                    f"the output of the cell below has {y.shape[-1]} (shape {y.shape})"
                )
            size = _draw_size(cell)
            if size and draws is not None:
                y, used = (y, draws[..., used : used + size]), used + size
            y, new = cell(y, old)
            after.append(new)
        return y, tuple(after)


class Readout(Wrapper):
    """A cell whose output goes through a layer in every step: y = linear(output).

        cell = tg.Readout(tg.RNNCell(2, 8, rng=0), tg.Linear(8, 2, rng=1))
        tg.generate(cell, np.ones(2), 10, lambda y, rng: y, rng=0).outputs.shape      # (10, 2)

    So the output can be fed back, step by step, as the next input. Without feedback a Linear after
    the RNN gives the same numbers, for all times at once; except that a layer's outputs in padding
    are 0, and a Linear of 0 is its bias. The state is the cell's.

    linear  a tg.Linear, or any function of arrays that keeps the batch: (N, H) to (N, K)
    Raises CellError for what is not callable, and for what is no cell. Source: tutorial 1, section
    2.4.1.
    """

    def __init__(self, cell: Cell, linear: Any) -> None:
        super().__init__(cell)
        if not callable(linear):
            raise CellError(
                f"{self.name} takes a layer for the output, tg.Readout(cell, tg.Linear(4, 2, "
                f"rng=0)); got {linear!r}"
            )
        self.linear = linear

    def step(self, x: Array, state: Any) -> Any:
        """linear(output), and the cell's state."""
        output, new = self.cell(x, state)
        return self.linear(output), new


class Residual(Wrapper):
    """A cell that adds to its input: y = x + output.

        deep = tg.Stacked(*[tg.Residual(tg.GRUCell(4, 4, rng=k)) for k in range(3)])
        tg.RNN(deep)(np.ones((5, 2, 4))).outputs.shape          # (5, 2, 4)

    Gradients pass through a deep stack of such cells undiminished. The state is the cell's, the
    output must have x's shape (N, C). If x is a tuple, such as Zoneout's (values, draws), its first
    array is what is added to.
    Raises ShapeError where output and x differ in shape. Source: He 2015; Wu 2016 (section 3.1).
    """

    def step(self, x: Array, state: Any) -> Any:
        """x + output, and the cell's state."""
        output, new = self.cell(x, state)
        values = leaves(x)[0]
        if values.shape != output.shape:
            raise ShapeError(
                f"{self.name} adds x and the cell's output, so their shapes must be the same: x "
                f"has {values.shape}, the output {output.shape}. A tg.Readout inside changes the "
                "output's width"
            )
        return values + output, new


class Zoneout(Wrapper):
    """In training, elements of the state keep their old values at random, with probability p.

        cell = tg.Zoneout(tg.LSTMCell(3, 4, rng=0), p=(0.05, 0.5))        # for h and for c
        x = np.ones((5, 2, 3))
        draws = cell.draws(5, (2,), rng=0)
        draws.shape                                                # (5, 2, 8): (T, N, D)
        tg.RNN(cell)((x, draws)).outputs.shape                     # (5, 2, 4)
        tg.RNN(cell.eval())(x).outputs.shape                       # (5, 2, 4): no draws needed

    In training, x is (values, draws): an element keeps its old value where its draw is below p. The
    draws come from outside, so a run can be repeated, and its gradient checked. D is the number of
    elements in one sequence's state, in the order of its arrays; `.draws` makes them, also for a
    nest of wrappers with Zoneouts in it (`stacked.draws(...)`: one array for all of them).
    In eval mode the state is the expectation, p old + (1 - p) new; draws may stay, unused.

    p  in [0, 1]: 0 is the cell itself, 1 never changes the state. Or a tuple, one for each array of
       the state
    Where the cell's output is one of the new state's arrays (h, mostly), it is that of the state
    with zoneout, as in the paper; any other output is left as it is, so put Residual and Readout
    around Zoneout, not inside. Raises ShapeError (p, draws), CellError (draws missing in training).
    Source: Krueger 2016, arXiv 1606.01305.
    """

    def __init__(self, cell: Cell, p: Any) -> None:
        super().__init__(cell)
        self.sizes: list[int] = [prod(s.shape) for s in leaves(self.initial_state())]
        each = list(p) if isinstance(p, (tuple, list)) else [p] * len(self.sizes)
        if len(each) != len(self.sizes):
            raise ShapeError(
                f"{self.name}: p={p} has {len(each)} numbers, the state {len(self.sizes)} arrays"
            )
        self.p = [_probability(self.name, "p", p, 1) for p in each]

    @property
    def draw_size(self) -> int:
        """One for each element of the state, and what the cell itself takes."""
        return sum(self.sizes) + _draw_size(self.cell)

    def step(self, x: Array, state: Any) -> Any:
        """The cell's step, with some of the state as before."""
        values, draws = self._parts(x)
        if draws is None and self.training:
            raise CellError(
                f"{self.name}: in training, x is a tuple (values, draws); got one array. Make the "
                "draws by cell.draws(T, batch_shape, rng), or call .eval() for use without them"
            )
        own = sum(self.sizes)
        if draws is not None and own < self.draw_size:
            values = values, draws[..., own:]
        output, new = self.cell(values, state)
        zoned, end = [], 0
        for old, fresh, p, size in zip(leaves(state), leaves(new), self.p, self.sizes, strict=True):
            end += size
            if self.training:
                keep = draws[..., end - size : end].reshape(old.shape) < p
                zoned.append(np.where(keep, old, fresh))
            else:
                zoned.append(p * old + (1 - p) * fresh)
            if output is fresh:
                output = zoned[-1]
        return output, refilled(new, zoned)


class VariationalDropout(Wrapper):
    """Dropout of x and of h with the same mask at every time step of a sequence.

        cell = tg.VariationalDropout(tg.LSTMCell(3, 4, rng=0), p=0.5, rng=1)
        start = cell.initial_state((2,))             # the cell's, mask of x (2, 3), of h (2, 4)
        tg.RNN(cell)(np.ones((5, 2, 3)), start).outputs.shape                       # (5, 2, 4)
        tg.RNN(cell.eval())(np.ones((5, 2, 3))).outputs.shape                       # no dropout

    `initial_state` draws the masks, one for each sequence, and they are carried in the state, a
    tuple (the cell's state, mask of x (N, C), mask of h (N, H)). So a layer that is called without
    a state draws new ones; a stream keeps its masks, and a row that is reset gets those of the
    call's initial state. To repeat a run, or to check its gradient, draw the state once and give it
    to each run. A mask's elements are 0 with probability p, else 1 / (1 - p). In eval mode they are
    1, and masks of a state drawn in training are not applied.

    p        in [0, 1): for the elements of x (the first array, if x is a tuple)
    p_state  the same for h, the first array of the cell's state; None: p. The cell gets the masked
             h wherever it reads it. A GRU also carries h over, and so lets masked elements grow:
             p_state=0 is safer there
    inputs   the width of x; needed only where the cell does not say it (`cell.inputs`)
    rng      an int seed or a numpy Generator, required
    Not for RNN(train_state=True), which would learn the masks: Parameters are made of all of the
    state. Raises ShapeError (p, x's width), RngError, CellError (width of x unknown).
    Source: Gal and Ghahramani 2016, arXiv 1512.05287.
    """

    def __init__(
        self,
        cell: Cell,
        p: float,
        p_state: float | None = None,
        inputs: int | None = None,
        rng: Any = None,
    ) -> None:
        super().__init__(cell)
        self.p = _probability(self.name, "p", p, 1 - 2**-53)
        self.p_state = _probability(
            self.name, "p_state", p if p_state is None else p_state, 1 - 2**-53
        )
        width = getattr(cell, "inputs", inputs)
        if width is None:
            raise CellError(
                f"{self.name}: the mask of x needs its width, and {_name(cell)} has no .inputs: "
                "pass inputs="
            )
        self.width = int(width)
        self.rng = init.generator(rng)

    @property
    def inputs(self) -> int:
        """The width of x."""
        return self.width

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """(The cell's initial state, mask of x, mask of h); the masks are new in each call."""
        state = super().initial_state(batch_shape, dtype)
        h = leaves(state)[0]
        x_mask = np.ones((*batch_shape, self.inputs), h.dtype)
        h_mask = np.ones(h.shape, h.dtype)
        if not self.training:
            return state, x_mask, h_mask
        return state, dropout(x_mask, self.p, self.rng), dropout(h_mask, self.p_state, self.rng)

    def step(self, x: Array, state: Any) -> Any:
        """The cell's step on x and h times their masks, which stay as they are."""
        inner, x_mask, h_mask = state
        if self.training:
            values, *others = leaves(x)
            if values.shape != x_mask.shape:
                raise ShapeError(
                    f"{self.name}: x has shape {values.shape}, its mask {x_mask.shape}: the width "
                    f"must be {self.inputs}"
                )
            x = refilled(x, [values * x_mask, *others])
            h, *rest = leaves(inner)
            inner = refilled(inner, [h * h_mask, *rest])
        output, new = self.cell(x, inner)
        return output, (new, x_mask, h_mask)


def _checked(wrapper: str, cell: Any) -> Any:
    if not isinstance(cell, Cell):
        raise not_a_cell(wrapper, cell)
    return cell


def _name(cell: Any) -> str:
    return cell.name if isinstance(cell, Wrapper) else type(cell).__name__


def _draw_size(cell: Any) -> int:
    return cell.draw_size if isinstance(cell, Wrapper) else 0


def _probability(cell: str, name: str, p: Any, largest: float) -> float:
    if not isinstance(p, (int, float, np.number)) or not 0 <= p <= largest:
        raise ShapeError(
            f"{cell}: {name}={p!r}, a probability, must be in [0, 1{']' if largest == 1 else ')'}"
        )
    return float(p)
