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
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import errors, init
from .cells import Cell
from .differentiate import checkpoint, detach, no_grad
from .errors import CellError, ShapeError
from .functions import as_array, valid_steps
from .given import Given
from .module import Module, Parameter, dtype_of, find
from .nests import leaves, map_tree, refilled, summary, unlike
from .record import Place, each_step, record, recording
from .scan import show
from .scan.loop import Loop
from .streaming import Stream, choose
from .tensor import Tensor
from .vjp import Array


class RNNOutput(NamedTuple):
    """What a layer returns, always these four.

        out = rnn(x, lengths=[5, 2], return_states=True)
        out.outputs.shape, out.last.shape, out.state.shape, out.states.shape
        # (5, 2, 4), (2, 4), (2, 4), (5, 2, 4)
        type(out).__name__                        # 'RNNOutput'

    outputs  (T, N, H), in the order of the input's time; 0 in padding
    last     (N, H), the output at the last valid step in the direction of travel
    state    the final state, as the cell's: give it to the next call to go on
    states   (T, ...), the state after every step, where return_states asked for it; else None
    A loss, or a Linear, takes one of them: it raises ShapeError for the whole, as arithmetic does.
    Raises AttributeError for what only its parts have, such as .sum.
    """

    outputs: Any  # (T, N, H), in the order of the input's time; 0 in padding
    last: Any  # (N, H), the output at the last valid step in the direction of travel
    state: Any  # the final state, as the cell's: give it to the next call to go on
    states: Any = None  # (T, ...) all states, where asked for

    def __repr__(self) -> str:
        there = (f"{k} {map_tree(np.shape, v)}" for k, v in self._asdict().items() if v is not None)
        return f"RNNOutput({', '.join(there)})"

    # (a type checker would take every attribute for one that there is)
    if not TYPE_CHECKING:  # type: ignore[misc]

        def __getattr__(self, name):
            raise errors.not_of_the_output(name)

        def _whole(self, other):
            raise errors.whole_output("an operator")

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _whole
        __pow__ = __truediv__ = __matmul__ = _whole


class Layer(Module):
    """What RNN, BiRNN and Chain have in common."""

    def stream(self, batch_shape: tuple[int, ...] = (), state: Any = None) -> Stream:
        """A Stream: give steps as they arrive, and get each output at once.

            stream = rnn.stream(batch_shape=(2,))
            stream.push(x[0]).shape                   # (2, 4)

        batch_shape and state as for `Stream`. Raises CellError where a part reads backwards: it
        would have to know the future.
        """
        return Stream(self, batch_shape, state)


class RNN(Layer):
    """A cell run along time, the first axis.

        rnn = tg.RNN(tg.RNNCell(3, 4, rng=0))
        out = rnn(np.ones((5, 2, 3)), lengths=[5, 2])
        out.outputs.shape, out.last.shape         # (5, 2, 4), (2, 4)

    cell         any Cell
    scan         True: one step is traced, split and emitted as NumPy, and that runs: the same
                 numbers to rounding, several times faster. May be set at any time, and cells may
                 change: what a step reads around it is compared at each call (attributes, classes,
                 closures, globals; not what only a call can find, such as a file). Raises
                 TraceError for a step that reads values or has a memory of its own
    checkpoint   k: keep the graph of k steps at a time only, and run each k steps once more on the
                 way back. Memory for time: the same numbers
    reverse      True runs from the last step to the first; outputs stay aligned with x
    train_state  True makes the initial state a Parameter, `.start`, shared by all rows of a batch
    The layer holds no hidden state: state goes in and comes out. Shapes, and what a call raises,
    are said at the call: x (T, N, C) to outputs (T, N, H). Raises CellError for what is no cell,
    and for train_state with a cell that learns its start already.
    """

    def __init__(
        self,
        cell: Cell,
        scan: bool = False,
        checkpoint: int | None = None,
        reverse: bool = False,
        train_state: bool = False,
    ) -> None:
        if not isinstance(cell, Cell):
            raise errors.not_a_cell(type(self).__name__, cell)
        self.cell, self.scan, self.reverse = cell, scan, reverse
        self.checkpoint, self.traced = _count("checkpoint", checkpoint), Loop()
        self.start = None
        if train_state:
            start = cell.initial_state((), self._dtype(()))
            if any(getattr(a, "requires_grad", False) for a in leaves(start)):
                raise errors.learns_its_start(self.name)
            self.start = map_tree(Parameter, start)

    @property
    def name(self) -> str:
        """How errors call this layer: RNN(RNNCell)."""
        return f"{type(self).__name__}({type(self.cell).__name__})"

    def source(self) -> str:
        """The emitted forward and BPTT of the last traced call: a module that needs NumPy alone.

            rnn = tg.RNN(tg.GRUCell(3, 4, rng=0), scan=True)
            rnn(np.ones((5, 2, 3)))
            print(rnn.source())

        Raises TraceError where no call was traced yet.
        """
        return show.source(self.traced.plan(self.name), self.name)

    def plan(self) -> str:
        """A table of the last traced call: each operation, where it runs, and why.

            rnn = tg.RNN(tg.GRUCell(3, 4, rng=0), scan=True)
            rnn(np.ones((5, 2, 3)))
            print(rnn.plan())         # once, before, in or after the loop

        Raises TraceError where no call was traced yet.
        """
        return show.table(self.traced.plan(self.name))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """The state before the first step: the cell's (zeros by default), or the trained one.

            rnn.initial_state((2,)).shape             # (2, 4)

        batch_shape  (N,), or () for one sequence; dtype None: that of the parameters
        Raises as the cell's own: CellError where it defines no state.
        """
        if self.start is None:
            return self.cell.initial_state(batch_shape, dtype_of(self) if dtype is None else dtype)
        rows = map_tree(lambda p: np.broadcast_to(p, (*batch_shape, *p.shape)), self.start)
        return rows if dtype is None else map_tree(lambda p: p.astype(dtype), rows)

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

        x              (T, N, C), or (T, C) for one sequence without a batch; T = 0 and N = 0 work.
                       Or a tuple of such (values and time gaps, say), if the cell takes one
        state          as the cell's, (N, H) for each array; None: `initial_state`
        lengths        (N,) integers in 0..T, where the rest of a row is padding
        mask           (T, N) booleans, any pattern; with lengths, both must hold
        truncate       cut the graph after every k steps: gradients go back no further (truncated
                       BPTT), as if the state there were a constant; values do not change
        reset          (T, N) booleans: before such a step the row's state is `initial_state` again
        return_states  also keep the state after every step

        Raises ShapeError (x, lengths, mask, reset, the state's shapes and dtypes), CellError (the
        state's form, what step returned), TraceError (with scan, a step that reads values).
        """
        if isinstance(x, RNNOutput):
            raise errors.whole_output(self.name)
        x = map_tree(as_array, x)
        shape = self._checked_shape(x)
        steps, batch = shape[0], shape[1:]
        valid = valid_steps(shape, lengths, mask)
        resets = valid_steps(shape, mask=reset, name="reset")
        _count("truncate", truncate)
        parameters = self.parameters()
        start = self.initial_state(batch, self._dtype(x, parameters))
        state = start if state is None else self._checked_state(state, start)
        if any(isinstance(a, Tensor) for a in (*leaves(x), *parameters, *leaves(state))):
            # one frozen copy now, instead of one of each slice that the graph keeps
            x, state = map_tree(_tensor, x), map_tree(_tensor, state)
        else:  # on plain arrays, too, a step that writes into x or the state is an error
            x, state = map_tree(_read_only, x), map_tree(_read_only, state)
        if valid is not None and valid.all():
            valid = None
        if valid is not None:
            x = map_tree(partial(choose, valid), x)
        if not steps:
            return self._no_steps(x, state, batch, return_states)

        given = Given(self, x, state, start, valid, resets, truncate, return_states, {})
        # (what watches operations wants each of them)
        fast = self.scan and not record.watched and isinstance(leaves(x)[0], Tensor)
        outputs, last, state, states = self.traced(self, given) if fast else self._plain(given)
        if valid is not None:
            # rows without a valid step end at an invalid one, whose output is 0: as they should
            at = valid.argmax(axis=0) if self.reverse else steps - 1 - valid[::-1].argmax(axis=0)
            last = outputs[(at, np.arange(len(at)))] if batch else outputs[int(at)]
        return RNNOutput(outputs, last, state, states)

    def _plain(self, given: Given) -> tuple[Any, Any, Any, Any]:
        """The loop as it is defined: outputs, the last, the last state, all states if wanted."""
        _, x, state, start, valid, resets, truncate, return_states, _ = given
        steps, *batch, _ = leaves(x)[0].shape
        x_steps = map_tree(list, x)
        times = list(range(steps))[:: -1 if self.reverse else 1]
        path, direction, outer, call = given.place()

        def run(state: Any, first: int, end: int) -> tuple[list[Any], list[Any]]:
            """Steps number first, ..., end - 1 of the way: outputs, and states (or the last)."""
            outputs, states = [], []
            with recording(place=record.place):
                for done, t in enumerate(times[first:end], first):
                    record.place = Place(path, direction, t if outer is None else outer, call)
                    if truncate and done and done % truncate == 0:
                        state = detach(state)
                    if resets is not None and resets[t].any():
                        state = map_tree(partial(choose, resets[t]), start, state)
                    output, new = given.own(t, *self.cell(map_tree(itemgetter(t), x_steps), state))
                    self._check_step(output, new, state, tuple(batch), t)
                    if valid is not None and not valid[t].all():
                        new = map_tree(partial(choose, valid[t]), new, state)
                        given.chose(t, new)
                    state = map_tree(_read_only, new)
                    outputs.append(output)
                    states.append(state)
            return outputs, states if return_states else [state]

        outputs: list[Any] = []
        states: list[Any] = [state]
        block = self.checkpoint or steps
        for first in range(0, steps, block):
            go = _checkpointed(run) if self.checkpoint else run
            some, after = go(states[-1], first, min(first + block, steps))
            outputs, states = outputs + some, states + after
        state, states = states[-1], states[1:]
        if self.reverse:
            outputs, states = outputs[::-1], states[::-1]
        every = map_tree(lambda *a: np.stack(a), *states) if return_states else None
        joined = np.stack(outputs) if valid is None else choose(valid, np.stack(outputs))
        return joined, outputs[0 if self.reverse else -1], state, every

    def _checked_shape(self, x: Any) -> tuple[int, ...]:
        """(T, N) or (T,), of x or of every array in it."""
        shape: tuple[int, ...] = leaves(x)[0].shape
        for a in leaves(x):
            if a.ndim not in (2, 3) or a.shape[:-1] != shape[:-1]:
                raise errors.wrong_input(self.name, [a.shape for a in leaves(x)])
        width = getattr(self.cell, "inputs", shape[-1])
        if not isinstance(x, (tuple, dict)) and shape[-1] != width:
            raise errors.wrong_width(self.name, shape, width)
        return shape[:-1]

    def _dtype(self, x: Array, parameters: Any = ()) -> np.dtype[Any]:
        """What the layer computes in: x and the Parameters promoted, a float in any case."""
        found = parameters or self.parameters()
        found = found or [a for _, a in find(self, np.ndarray) if a.dtype.kind in "fc"]
        given = [a for a in leaves(x) if a.dtype.kind in "fc"] if isinstance(x, tuple) else [x]
        dtype = np.result_type(*[a.dtype for a in (*given, *found)] or [np.float64])
        return dtype if dtype.kind in "fc" else np.dtype(np.float64)  # complex: in gradient checks

    def _checked_state(self, state: Any, expected: Any) -> Any:
        """A state given by the caller: the same nest, the same shapes; never broadcast."""

        def check(zeros: np.ndarray, given: Any) -> Any:
            given = as_array(given)
            if given.shape != zeros.shape:
                raise errors.wrong_state_shape(self.name, given.shape, zeros.shape)
            if np.result_type(given.dtype, zeros.dtype) != given.dtype:
                raise errors.wrong_state_dtype(self.name, given.dtype, zeros.dtype)
            return given

        if differ := unlike(expected, state):
            part = differ[0] is not expected
            raise errors.wrong_state_form(self.name, *map(summary, differ), part=part)
        return map_tree(check, expected, state)

    def _check_step(self, output: Any, new: Any, old: Any, batch: tuple[int, ...], t: int) -> None:
        """The new state must be like the old one, and the output must keep the batch."""
        cell = type(self.cell).__name__

        def check(n: Any, o: Any) -> None:
            if n.shape != o.shape or n.dtype != o.dtype:
                raise errors.state_changed(cell, t, n, o)

        map_tree(check, new, old)
        if getattr(output, "shape", (None,))[: len(batch)] != batch:
            raise errors.batch_lost(cell, t, output, batch)

    def _no_steps(
        self, x: Any, state: Any, batch: tuple[int, ...], return_states: bool
    ) -> RNNOutput:
        """T = 0: nothing runs, but shapes are right and Parameters still get a (zero) gradient."""
        with no_grad():  # only to learn the output's width
            none = map_tree(lambda a: np.zeros((*batch, a.shape[-1]), a.dtype), x)
            output, _ = self.cell(none, state)
        zero = np.zeros((), output.dtype)
        for a in (*leaves(x), *self.parameters(), *leaves(state)):
            zero = zero + np.where(False, np.sum(a), 0).astype(output.dtype)
        last = np.zeros(output.shape, output.dtype) + zero
        outputs = np.zeros((0, *output.shape), output.dtype) + zero
        states = map_tree(lambda s: np.stack([s])[:0], state) if return_states else None
        return RNNOutput(outputs, last, state, states)


class Layers(Layer):
    """What BiRNN and Chain have in common: RNNs inside."""

    @property
    def scan(self) -> bool:
        """Whether all loops in here are traced; may be set, for all of them."""
        return all(rnn.scan for _, rnn in find(self, RNN))

    @scan.setter
    def scan(self, value: bool) -> None:
        for _, rnn in find(self, RNN):
            rnn.scan = value


MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "concat": lambda f, b: np.concatenate([f, b], axis=-1),
    "sum": lambda f, b: f + b,
    "mean": lambda f, b: (f + b) / 2,
    "mul": lambda f, b: f * b,
}


class BiRNN(Layers):
    """Two cells over the same sequence, one in each direction: y_t sees past and future.

        birnn = tg.BiRNN(tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1))
        out = birnn(np.ones((5, 2, 3)))
        out.outputs.shape, out.last.shape        # (5, 2, 8), (2, 8)

    forward_cell, backward_cell  any two cells; one cell given twice shares its Parameters
    scan      traced loops in both directions, as RNN's; `.scan` may be set at any time
    merge     "concat" (the tutorial's [forward; backward]), "sum", "mean", "mul", None for a pair,
              or a callable of the two
    The state is a pair (forward, backward). `last` merges the forward output at the last valid step
    with the backward output at the first: each has then seen the whole sequence. (`outputs[-1]` is
    something else: its backward half has seen one step.) `reset` counts in each direction of
    travel; for sequences packed one after another use lengths. Shapes: x (T, N, C) to outputs
    (T, N, 2H), or (T, N, H) where they are not joined. Raises ShapeError for merge, and where merge
    finds unequal widths, CellError for what is no cell. Source: tutorial 1, section 2.4.3.
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
        """The pair of initial states. Arguments as for RNN's.

            forward, backward = birnn.initial_state((2,))
            forward.shape, backward.shape             # (2, 4), (2, 4)

        Raises as that.
        """
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
        """Both directions, merged. Arguments and errors as for RNN; state is a pair, states too."""
        if state is not None and not (isinstance(state, tuple) and len(state) == 2):
            raise errors.wrong_state_form("BiRNN", "a pair (forward, backward)", summary(state))
        forward, backward = (
            rnn(x, s, lengths, mask, truncate, reset, return_states)
            for rnn, s in zip(
                (self.forward_rnn, self.backward_rnn), state or (None, None), strict=True
            )
        )
        merge = MERGES.get(self.merge, self.merge) or (lambda f, b: (f, b))
        outputs: Any = merge(forward.outputs, backward.outputs)
        if callable(self.merge):  # the others leave padding 0
            valid = valid_steps(outputs.shape[:-1], lengths, mask)
            outputs = outputs if valid is None else choose(valid, outputs)
        return RNNOutput(
            outputs,
            merge(forward.last, backward.last),
            (forward.state, backward.state),
            (forward.states, backward.states) if return_states else None,
        )


class Chain(Layers):
    """Layers one after another: stacked RNNs, stacked BiRNNs, and Linears between or after them.

        rng = np.random.default_rng(0)
        model = tg.Chain(tg.RNN(tg.GRUCell(3, 4, rng=rng)), tg.Linear(4, 2, rng=rng))
        model(np.ones((5, 2, 3)), lengths=[5, 2]).outputs.shape         # (5, 2, 2)

    A layer with `initial_state` is recurrent; any other callable is applied to all steps at once.
    The state is a tuple, one entry for each recurrent layer. Outputs in padding are 0 after every
    layer from the first recurrent one on. `last` is that of the last recurrent layer, passed
    through what follows it. `chain.scan = True` sets all loops in it. Shapes: x (T, N, C) to
    outputs (T, N, K) of the last layer. Raises CellError without a recurrent layer, and for what is
    no layer.
    """

    def __init__(self, *layers: Any) -> None:
        self.layers = list(layers)
        for layer in layers:
            if isinstance(layer, Cell) or not callable(layer):
                raise errors.no_layer(layer)
        if not self._recurrent:
            raise CellError("Chain needs a recurrent layer, such as tg.RNN(cell)")

    @property
    def _recurrent(self) -> list[Any]:
        return [layer for layer in self.layers if hasattr(layer, "initial_state")]

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        """A tuple of the recurrent layers' initial states. Arguments as for RNN's.

            (state,) = tg.Chain(rnn, tg.Linear(4, 2, rng=0)).initial_state((2,))
            state.shape                               # (2, 4)

        Raises as that.
        """
        return tuple(layer.initial_state(batch_shape, dtype) for layer in self._recurrent)

    def __call__(
        self, x: Array, state: Any = None, lengths: Array = None, mask: Array = None, **options: Any
    ) -> RNNOutput:
        """All layers in turn. Arguments and errors as for RNN; state is a tuple, states too."""
        count = len(self._recurrent)
        if state is not None and not (isinstance(state, tuple) and len(state) == count):
            expected = f"a tuple, one for each of {count} recurrent layers"
            raise errors.wrong_state_form("Chain", expected, summary(state))
        given, after, every = iter(state or (None,) * count), [], []
        valid: Any = None
        last: Any = None
        if lengths is not None or mask is not None:  # NaN in padding goes into no layer
            x = map_tree(as_array, x)
            at = leaves(x)[0].shape[:1] + np.shape(lengths) if mask is None else np.shape(mask)
            valid = valid_steps(at, lengths, mask)
            x = map_tree(partial(choose, valid), x)
        for layer in self.layers:
            if not hasattr(layer, "initial_state"):
                x, last = layer(x), None if last is None else layer(last)
                x = x if valid is None else choose(valid, x)
                continue
            out = layer(x, next(given), lengths, mask, **options)
            x, last = out.outputs, out.last
            after.append(out.state)
            every.append(out.states)
        states = tuple(every) if options.get("return_states") else None
        return RNNOutput(x, last, tuple(after), states)


def generate(
    cell: Cell,
    first: Array,
    steps: int,
    next_input: Callable[[Any, Any], Any],
    state: Any = None,
    rng: Any = None,
) -> RNNOutput:
    """Free running, one to many: each output makes the next input.

        cell = tg.RNNCell(4, 4, rng=0)
        tg.generate(cell, np.ones(4), 10, lambda y, rng: y, rng=0).outputs.shape       # (10, 4)

    first       the first input, (C,) or (N, C)
    next_input  next_input(output, rng) gives the next input: a sample's one-hot vector, say
    state       to start from (an encoder's, say); None: the cell's initial state
    rng         an int seed or a numpy Generator, required: handed to next_input

    Returns an RNNOutput of all steps. Raises ShapeError (steps, and inputs that do not fit the
    cell), CellError for what is no cell, RngError without rng.
    """
    rng = init.generator(rng)
    _count("steps", steps or 0)
    first = map_tree(as_array, first)
    if state is None:
        state = RNN(cell).initial_state(leaves(first)[0].shape[:-1], RNN(cell)._dtype(first))
    outputs: list[Any] = []
    for _ in each_step(range(steps)):
        x = next_input(outputs[-1], rng) if outputs else first
        output, state = cell(x, state)
        outputs.append(output)
    return RNNOutput(np.stack(outputs), outputs[-1], state)


def _checkpointed(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same steps, whose graph is built once more on the way back."""

    def go(state: Any, first: int, end: int) -> tuple[list[Any], list[Any]]:
        def flat(state: Any) -> tuple[Any, ...]:
            outputs, states = run(state, first, end)
            return (*outputs, *[leaf for after in states for leaf in leaves(after)])

        parts = list(checkpoint(flat)(state))
        outputs, rest = parts[: end - first], iter(parts[end - first :])
        count = len(outputs) if len(parts) > len(outputs) + len(leaves(state)) else 1
        return outputs, [refilled(state, rest) for _ in range(count)]

    return go


def _count(name: str, value: Any) -> Any:
    """A number of steps, or None."""
    if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
        raise ShapeError(f"{name}={value!r}: expected a number of steps, 1 or more")
    return value


def _tensor(a: Array) -> Tensor:
    return a if isinstance(a, Tensor) else Tensor(a)


def _read_only(a: Array) -> Any:
    """A view that cannot be written into; Tensors are frozen already."""
    if isinstance(a, Tensor):
        return a
    view = a[...]
    view.setflags(write=False)
    return view
