"""The loop over time: RNN runs a cell along the first axis, BiRNN runs two in both directions.

There is no BPTT in this file. The loop records one node for each operation of each step, all
steps share the cell's Parameters, and walking that graph back *is* backpropagation through time.

Padding follows the **hold rule**: at an invalid step x is zeroed before the cell sees it (so a NaN
in padding reaches neither values nor gradients), the state is held, and the output is 0. That one
rule serves lengths, masks with gaps, left padding, rows of length 0, and the reverse direction,
which runs backwards over the same steps: nothing is ever flipped. It asks one thing of a cell, a
derivative that is finite at x = 0. (One that divides by the norm of x has none: 0 * inf is NaN.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .cells import Cell, leaves, map_tree
from .differentiate import no_grad
from .errors import CellError, NotBuiltError, ShapeError
from .functions import valid_steps
from .module import Module, find
from .record import Place, record, recording
from .tensor import Tensor
from .vjp import Array


class RNNOutput(NamedTuple):
    """What a layer returns, always these four."""

    outputs: Any  # (T, N, H), in the order of the input's time; 0 in padding
    last: Any  # (N, H), the output at the last valid step in the direction of travel
    state: Any  # the final state, as the cell's: give it to the next call to go on
    states: Any = None  # (T, ...) all states, where asked for


class RNN(Module):
    """A cell run along time, the first axis.

        rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
        out = rnn(np.ones((5, 2, 3)), lengths=[5, 2])
        out.outputs.shape, out.last.shape         # (5, 2, 4), (2, 4)

    cell     any Cell
    scan     True is for a traced, faster loop; it is not there yet and raises NotBuiltError
    reverse  True runs from the last step to the first; outputs stay aligned with x
    The layer holds no hidden state: state goes in and comes out.
    """

    def __init__(self, cell: Cell, scan: bool = False, *, reverse: bool = False) -> None:
        if not isinstance(cell, Cell):
            raise CellError(
                f"{type(self).__name__} takes a cell, an instance of a subclass of tg.Cell such as "
                f"tg.RNNCell(3, 4, rng=0); got {cell!r}"
            )
        self.cell, self.scan, self.reverse = cell, scan, reverse

    @property
    def scan(self) -> bool:
        """Whether the loop is traced; only False works yet."""
        return False

    @scan.setter
    def scan(self, value: bool) -> None:
        if value:
            raise NotBuiltError("scan=True, the traced loop, is not there yet: use scan=False")

    @property
    def name(self) -> str:
        """How errors call this layer: RNN(RNNCell)."""
        return f"{type(self).__name__}({type(self.cell).__name__})"

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """The state before the first step: the cell's, zeros by default."""
        return self.cell.initial_state(batch_shape, dtype)

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Array = None,
        mask: Array = None,
        truncate: int | None = None,
        reset: Array = None,
        return_states: bool = False,
    ) -> RNNOutput:
        """Run over a sequence or a batch of them.

        x              (T, N, C), or (T, C) for one sequence without a batch; T = 0 and N = 0 work
        state          as the cell's, (N, H) for each array; None: `initial_state`
        lengths        (N,) integers in 0..T, where the rest of a row is padding
        mask           (T, N) booleans, any pattern; with lengths, both must hold
        truncate       cut the graph after every k steps: gradients go back no further (truncated
                       BPTT), as if the state there were a constant; values do not change
        reset          (T, N) booleans: before such a step the row's state is `initial_state` again
        return_states  also keep the state after every step

        Raises ShapeError (x, lengths, mask, the state's batch), CellError (what step returned).
        """
        x = x if hasattr(x, "shape") else np.asarray(x)
        if x.ndim not in (2, 3):
            raise ShapeError(
                f"{self.name} expects x (T, N, C), time first, or (T, C) for one sequence; got "
                f"shape {x.shape}"
            )
        width = getattr(self.cell, "inputs", x.shape[-1])
        if x.shape[-1] != width:
            raise ShapeError(
                f"{self.name}: x has {x.shape[-1]} features (shape {x.shape}), the cell expects "
                f"{width}"
            )
        steps, batch = x.shape[0], x.shape[1:-1]
        valid = valid_steps(x.shape[:-1], lengths, mask)
        resets = valid_steps(x.shape[:-1], mask=reset, name="reset")
        if truncate is not None and (not isinstance(truncate, int) or truncate < 1):
            raise ShapeError(f"truncate={truncate!r}: expected a number of steps, 1 or more")
        parameters = self.parameters()
        dtype = self._dtype(x)
        start = self.initial_state(batch, dtype)
        state = start if state is None else self._checked_state(state, start)
        if any(isinstance(a, Tensor) for a in (x, *parameters, *leaves(state))):
            # one frozen copy now, instead of one of each slice that the graph keeps
            x, state = _tensor(x), map_tree(_tensor, state)
        else:  # on plain arrays, too, a step that writes into x or the state is an error
            x, state = _read_only(x), map_tree(_read_only, state)
        if valid is not None and valid.all():
            valid = None
        if valid is not None:
            x = np.where(valid[..., None], x, 0)
        if not steps:
            return self._no_steps(x, state, batch, return_states)

        outputs: list[Any] = [None] * steps
        states: list[Any] = [None] * steps
        path = ".".join(filter(None, [record.place.path, self.name]))
        direction = "reverse" if self.reverse else "forward"
        x_steps = list(x)
        with recording(place=record.place):
            for done, t in enumerate(reversed(range(steps)) if self.reverse else range(steps)):
                record.place = Place(path, direction, t)
                if truncate and done and done % truncate == 0:
                    state = map_tree(_detached, state)
                if resets is not None and resets[t].any():
                    state = map_tree(partial(_choose, resets[t]), start, state)
                output, new = self.cell(x_steps[t], state)
                self._check_step(output, new, state, batch, t)
                if valid is not None and not valid[t].all():
                    new = map_tree(partial(_choose, valid[t]), new, state)
                outputs[t] = output
                states[t] = state = map_tree(_read_only, new)
        joined = np.stack(outputs)
        if valid is None:
            last = outputs[0 if self.reverse else -1]
        else:
            joined = _choose(valid, joined, 0)
            # rows without a valid step end at an invalid one, whose output is 0: as they should
            at = valid.argmax(axis=0) if self.reverse else steps - 1 - valid[::-1].argmax(axis=0)
            last = joined[(at, np.arange(len(at)))] if batch else joined[int(at)]
        every = map_tree(lambda *a: np.stack(a), *states) if return_states else None
        return RNNOutput(joined, last, state, every)

    def _dtype(self, x: Array) -> np.dtype[Any]:
        """What the layer computes in: x and the Parameters promoted, a float in any case."""
        found = self.parameters() or [a for _, a in find(self, np.ndarray) if a.dtype.kind in "fc"]
        dtype = np.result_type(x.dtype, *[p.dtype for p in found])
        return dtype if dtype.kind in "fc" else np.dtype(np.float64)  # complex: in gradient checks

    def _checked_state(self, state: Any, expected: Any) -> Any:
        """A state given by the caller: the same nest, the same shapes; never broadcast."""

        def check(zeros: np.ndarray, given: Any) -> Any:
            given = given if hasattr(given, "shape") else np.asarray(given)
            if given.shape != zeros.shape:
                raise ShapeError(
                    f"{self.name}: the initial state has shape {given.shape}, expected "
                    f"{zeros.shape} for this x. A state is not broadcast over the batch: repeat it "
                    "yourself, np.broadcast_to(state, shape)"
                )
            if np.result_type(given.dtype, zeros.dtype) != given.dtype:
                raise ShapeError(
                    f"{self.name}: the initial state is {given.dtype}, and the layer computes in "
                    f"{zeros.dtype}: convert it, state.astype(np.{zeros.dtype})"
                )
            return given

        return map_tree(check, expected, state)

    def _check_step(self, output: Any, new: Any, old: Any, batch: tuple[int, ...], t: int) -> None:
        """The new state must be like the old one, and the output must keep the batch."""
        cell = type(self.cell).__name__

        def check(n: Any, o: Any) -> None:
            if n.shape != o.shape or n.dtype != o.dtype:
                raise CellError(
                    f"{cell}.step returned a state {n.shape} {n.dtype} at t={t}; it must stay "
                    f"{o.shape} {o.dtype}"
                )

        map_tree(check, new, old)
        if getattr(output, "shape", (None,))[: len(batch)] != batch:
            raise CellError(
                f"{cell}.step must return an output that starts with the batch shape {batch} at "
                f"t={t}; got {getattr(output, 'shape', type(output).__name__)}"
            )

    def _no_steps(
        self, x: Any, state: Any, batch: tuple[int, ...], return_states: bool
    ) -> RNNOutput:
        """T = 0: nothing runs, but shapes are right and Parameters still get a (zero) gradient."""
        with no_grad():  # only to learn the output's width
            output, _ = self.cell(np.zeros((*batch, x.shape[-1]), x.dtype), state)
        zero = np.zeros((), output.dtype)
        for a in (x, *self.parameters(), *leaves(state)):
            zero = zero + np.where(False, np.sum(a), 0).astype(output.dtype)
        last = np.zeros(output.shape, output.dtype) + zero
        none = np.zeros((0, *output.shape), output.dtype) + zero
        empty = map_tree(lambda s: np.stack([s])[:0], state) if return_states else None
        return RNNOutput(none, last, state, empty)


MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "concat": lambda f, b: np.concatenate([f, b], axis=-1),
    "sum": lambda f, b: f + b,
    "mean": lambda f, b: (f + b) / 2,
    "mul": lambda f, b: f * b,
}


class BiRNN(Module):
    """Two cells over the same sequence, one in each direction: y_t sees past and future.

        birnn = tg.BiRNN(tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1))
        out = birnn(np.ones((5, 2, 3)))
        out.outputs.shape, out.last.shape        # (5, 2, 8), (2, 8)

    forward_cell, backward_cell  any two cells; one cell given twice shares its Parameters
    merge     "concat" (the tutorial's [forward; backward]), "sum", "mean", "mul", None for a pair,
              or a callable of the two
    The state is a pair (forward, backward). `last` merges the forward output at the last valid step
    with the backward output at the first: each has then seen the whole sequence. (`outputs[-1]` is
    something else: its backward half has seen one step.) Source: tutorial 1, section 2.4.3.
    """

    def __init__(
        self, forward_cell: Cell, backward_cell: Cell, merge: Any = "concat", scan: bool = False
    ) -> None:
        if not (merge is None or callable(merge) or (isinstance(merge, str) and merge in MERGES)):
            raise ShapeError(
                f"merge={merge!r}: expected {', '.join(MERGES)}, None or a callable of two outputs"
            )
        self.forward_rnn = RNN(forward_cell, scan)
        self.backward_rnn = RNN(backward_cell, scan, reverse=True)
        self.merge = merge

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """The pair of initial states."""
        return tuple(
            rnn.initial_state(batch_shape, dtype) for rnn in (self.forward_rnn, self.backward_rnn)
        )

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Array = None,
        mask: Array = None,
        truncate: int | None = None,
        reset: Array = None,
        return_states: bool = False,
    ) -> RNNOutput:
        """Both directions, merged. Arguments as for RNN; state is a pair, states too."""
        if state is not None and not (isinstance(state, tuple) and len(state) == 2):
            raise CellError("BiRNN: the state is a pair, (forward state, backward state)")
        forward, backward = (
            rnn(x, s, lengths, mask, truncate, reset, return_states)
            for rnn, s in zip(
                (self.forward_rnn, self.backward_rnn), state or (None, None), strict=True
            )
        )
        merge = MERGES.get(self.merge, self.merge) or (lambda f, b: (f, b))
        return RNNOutput(
            merge(forward.outputs, backward.outputs),
            merge(forward.last, backward.last),
            (forward.state, backward.state),
            (forward.states, backward.states) if return_states else None,
        )


def _detached(a: Array) -> Any:
    return a.detach() if isinstance(a, Tensor) else a


def _tensor(a: Array) -> Tensor:
    return a if isinstance(a, Tensor) else Tensor(a)


def _read_only(a: Array) -> Any:
    """A view that cannot be written into; Tensors are frozen already."""
    if isinstance(a, Tensor):
        return a
    view = a[...]
    view.setflags(write=False)
    return view


def _choose(valid: np.ndarray, new: Array, old: Array) -> Any:
    """Rows of `new` where valid, rows of `old` (an array or 0) elsewhere."""
    return np.where(valid.reshape(valid.shape + (1,) * (new.ndim - valid.ndim)), new, old)
