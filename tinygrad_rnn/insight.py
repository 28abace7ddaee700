"""What happens to gradients on their way through time, as numbers; each result can draw itself.

`contributions` takes a shared weight's gradient apart, time step by time step: the sum that
backpropagation through time is. `gradient_flow`, `state_jacobians` and `sensitivity` show how far
back a loss, a state and an output can see. |.| is the 2-norm unless you say otherwise: of a matrix
the largest factor by which it stretches a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from . import errors
from .canvas.charts import bars, heat, lines
from .canvas.pen import Figure
from .canvas.words import say
from .cells import Cell
from .differentiate import grad, no_grad
from .functions import valid_steps, values
from .graph import Key, Node
from .nests import leaves, map_tree
from .record import recording
from .recurrent import RNN, RNNOutput
from .tensor import Tensor
from .unfold import StatePart, Told, Unfolded
from .vjp import Array


class Contributions:
    """The gradient of one shared weight, as the sum of what each time step contributes.

        parts = tg.contributions(loss, rnn.cell.V)
        parts                        # Contributions(5 steps of cell.V, each (4, 4); .draw())
        parts.steps.shape            # (5, 4, 4)
        parts.shares.sum() + parts.outside_share         # 1.0
        parts.draw(names="abcde").save("parts.svg")

    steps    (T, *shape): what the uses of the weight at step t contribute
    outside  (*shape): what its uses outside of all loops contribute (a readout's, say)
    total    their sum: the gradient, to rounding
    name     the weight's, for pictures
    Raises nothing of its own.
    """

    def __init__(self, steps: np.ndarray, outside: np.ndarray, name: str = "") -> None:
        self.steps, self.outside, self.name = steps, outside, name

    @property
    def total(self) -> np.ndarray:
        """The gradient: the sum of everything."""
        return np.asarray(self.steps.sum(axis=0) + self.outside)

    @property
    def norms(self) -> np.ndarray:
        """(T,): the size of each step's contribution."""
        return _norms(self.steps)

    @property
    def shares(self) -> np.ndarray:
        """(T,): how much of the gradient each step makes, along its direction.

        With `outside_share` they add up to 1. Negative: it pulls the other way.
        """
        return self._shares(self.steps)

    @property
    def outside_share(self) -> float:
        """The share of the uses outside of all loops."""
        return float(self._shares(self.outside[None])[0])

    def _shares(self, parts: np.ndarray) -> np.ndarray:
        total = self.total.ravel().astype(np.float64)
        along = parts.reshape(len(parts), -1).astype(np.float64) @ total
        return np.asarray(along / (total @ total or 1.0))

    def draw(self, lang: str = "en", names: Any = None) -> Figure:
        """Bars: each step's share of the gradient, and its size beside it.

        names  what to write below each step, characters say; None: its number
        Raises FigureError for another number of names, and for a lang that there is not.
        """
        title = say("What each time step contributes to the gradient of {name}", lang,
                    name=self.name or say("the weight", lang))  # fmt: skip
        size = float(_norms(self.total[None])[0]) or 1.0
        return bars(self.shares, self.norms / size, self.outside_share, names, title, lang)

    def __repr__(self) -> str:
        name = f" of {self.name}" if self.name else ""
        return f"Contributions({len(self.steps)} steps{name}, each {self.total.shape}; .draw())"


def contributions(loss: Tensor, parameter: Tensor) -> Contributions:
    """Take the gradient of a weight that all time steps share apart, step by step.

        out = rnn(x)
        loss = tg.mse(out.last, target)
        parts = tg.contributions(loss, rnn.cell.V)
        parts.steps.shape                  # (5, 4, 4): (T, H, H)
        parts.total                        # what loss.backward() puts into rnn.cell.V.grad
        parts.draw()                       # a bar for each step

    loss       a Tensor with one element, whose graph was not freed: ask before `backward()`, or
               after `backward(retain_graph=True)`. Nothing is freed, no `.grad` is touched
    parameter  a Parameter, or any Tensor that the loss depends on

    A step's uses add up, also over layers and calls that share the weight; so do the directions of
    a BiRNN, at the time of their input. A loop inside of a cell's step counts in that step. T is
    that of the longest loop. Works with scan, checkpoint, truncation and lengths, and with a loop
    of your own over a Tensor, `for x_t in x` (there T is the last step that the loss sees). The
    result's steps are (T, *shape). Raises UnusedInputError, GraphFreedError, NotScalarError,
    NoGradientError for what is no Tensor, and NoTimeError where there is no loop.
    Source: tutorial 2, "RNNの展開": W_aa acts on every step, so its gradient is a sum over them.
    """
    if not isinstance(parameter, Tensor):
        raise errors.loss_and_weight(parameter)
    graph = Unfolded(_one_number(loss))
    length = steps_of(graph)
    goal = graph.real(parameter._key)
    if goal is None or goal[0].id not in graph.numbered:
        raise errors.unused_weight(parameter)
    if not length:
        raise errors.no_time_steps()
    parts: dict[int | None, np.ndarray] = {}

    def contributed(node: Node, part: np.ndarray) -> None:
        t = node.place.t
        parts[t] = parts[t] + part if t in parts else np.array(part)

    graph.pull(graph.seeds(loss), goal, contributed=contributed)
    steps = np.zeros((length, *parameter.shape), parameter.dtype)
    for t in parts.keys() - {None}:
        steps[t] = parts[t]
    outside = parts.get(None, np.zeros(parameter.shape, parameter.dtype))
    return Contributions(steps, outside, name_of(graph, goal))


def steps_of(graph: Unfolded) -> int:
    """The number of time steps of the longest loop in a graph."""
    lengths = [len(leaves(call.x)[0]) for call in graph.calls]
    times = [node.place.t + 1 for node in graph.nodes if node.place.t is not None]
    return max([*lengths, *times], default=0)


def name_of(graph: Unfolded, goal: Key) -> str:
    """What a layer calls its weight, or nothing."""
    for call in graph.calls:
        for name, p in call.layer.named_parameters().items():
            if p._key == goal:
                return str(name)
    return ""


def _shown(found: Any) -> str:
    with np.printoptions(precision=3, threshold=30, edgeitems=2):
        return f"{np.array_repr(found).removesuffix(')')}; .draw())"


class Flow(np.ndarray):
    """One number for each time step, as an array (T,); `.draw()` shows it.

        out = rnn(x, return_states=True)
        flow = tg.gradient_flow((out.last**2).sum(), out)
        flow.shape                   # (5,)
        flow.draw(name="tanh RNN").save("flow.svg")

    Raises nothing of its own.
    """

    shows = "How large the gradient is at each time step"
    __repr__ = _shown

    def draw(self, lang: str = "en", name: str = "", **others: Any) -> Figure:
        """A curve over time, on a logarithmic axis; others (name=Flow) go into the same picture.

            out = tg.RNN(tg.LSTMCell(3, 4, rng=0))(x, return_states=True)
            lstm_flow = tg.gradient_flow((out.last**2).sum(), out)
            lstm_flow.draw(name="LSTM", identical=lstm_flow)

        Raises FigureError for a lang that there is not.
        """
        return compare({name: self, **others}, lang=lang)


class Jacobians(Flow):
    """|dh_T/dh_t| for each time step t, as an array (T,); `.draw()` shows it.

        sizes = tg.state_jacobians(rnn, x)
        sizes.shape, sizes[-1]       # (5,), 1.0

    Raises nothing of its own.
    """

    shows = "How much of a change of the state at t is left at the end"


def compare(flows: Mapping[str, Array], title: str = "", lang: str = "en") -> Figure:
    """Several curves over time in one picture: who vanishes, who explodes.

    tg.draw({"tanh RNN": flow, "LSTM": lstm_flow})
    """
    kinds = {getattr(flow, "shows", Flow.shows) for flow in flows.values()}
    title = title or say(kinds.pop() if len(kinds) == 1 else Flow.shows, lang)
    series = {str(name): np.asarray(flow) for name, flow in flows.items()}
    return lines(series, title, say("time step t", lang), say("norm", lang), True, lang)


def gradient_flow(loss: Tensor, output: RNNOutput) -> Flow:
    """|dL/dh_t| for each time step t: does the gradient vanish, or explode, on its way back?

        out = rnn(x, return_states=True)
        loss = tg.mse(out.last, target)
        tg.gradient_flow(loss, out).shape      # (5,): one number for each step
        tg.gradient_flow(loss, out).draw()

    loss    a Tensor with one element, whose graph was not freed (nothing is freed here)
    output  an RNNOutput with states: call the layer with return_states=True

    h_t is the whole state after step t, of all rows of the batch: of an LSTM h and c side by side,
    of a BiRNN both directions', of a Chain each layer's. Its gradient is the total one: through
    what the step makes of it (its output) and through all later steps. Where a row is padding its
    state is held, and the held state counts; a constant, such as zeros to start from, has none.
    Returns a Flow (T,). Raises NoTimeError without states, UnusedInputError for another network's
    output, GraphFreedError, NotScalarError, NoGradientError for a loss that is a constant.
    """
    graph = Unfolded(_one_number(loss), *states_in(output))
    values, parts = set(_values(graph, output)), dict[int, list[StatePart]]()
    for k, call in enumerate(graph.calls):
        found = graph.states(call)
        if any(part.key in values for some in found.values() for part in some):
            for t, some in found.items():
                parts.setdefault(t, []).extend(p._replace(array=(k, p.array)) for p in some)
    gradients = gradients_at(graph, loss, parts)
    if parts and not any(gradients.values()):
        raise errors.unrelated()
    norms = np.zeros(len(states_in(output)[0]))
    for t, gs in gradients.items():
        norms[t] = norm_of(gs)
    return norms.view(Flow)


def _values(graph: Unfolded, output: RNNOutput) -> Iterator[Key]:
    """The values that an output's states consist of."""
    for stacked in states_in(output):
        key = graph.real(stacked._key) if isinstance(stacked, Tensor) else None
        if key is not None and key[0].rule is not None:
            if key[0].rule.function is not np.stack:
                raise errors.no_states(False)
            yield from (each for _, each, _ in graph.edges(key[0]))


def state_jacobians(
    layer: RNN, x: Array, state: Any = None, norm: Any = 2, **options: Any
) -> Jacobians:
    """|dh_T/dh_t| for each time step t, h_T being the last state: what is left of a change of h_t.

        sizes = tg.state_jacobians(tg.RNN(tg.RNNCell(3, 4, rng=0)), x)
        sizes.shape, sizes[-1]       # (5,), 1.0: T numbers

    layer, x  an RNN and its input, (T, N, C) or (T, C)
    state, options  as for the layer: lengths, mask, truncate, reset
    norm      of the Jacobian, as NumPy's norm takes it: 2 (the largest factor by which a change can
              grow), "fro", ...
    The mean over the rows of a batch. The state is the whole one (an LSTM's h and c side by side).
    Exact: each step's Jacobian, and their product. Time is the input's: a reverse RNN ends at
    t = 0. Returns Jacobians (T,). Raises CellError for layers with several loops, ShapeError for an
    x that does not fit, or has no rows. Source: Pascanu 2013.
    """
    if not isinstance(layer, RNN):
        raise errors.one_direction(type(layer).__name__)
    options.pop("return_states", None)
    state = _start(layer, x) if state is None else state
    size = sum(math.prod(np.shape(a)[len(_batch(x)) :]) for a in leaves(state))
    x, state, options, rows = _repeated(size, x, state, options)
    steps, *batch = leaves(x)[0].shape[:2]
    valid = valid_steps((steps, *batch), options.get("lengths"), options.get("mask"))
    reset, cut = options.get("reset"), options.get("truncate")
    product = np.broadcast_to(np.eye(size), (rows, size, size))
    order = list(range(steps))[:: -1 if layer.reverse else 1]
    jacobians = np.zeros((steps, rows, size, size))
    with no_grad():
        states = layer(x, state, return_states=True, **options).states if steps else None
    for done in range(steps - 1, -1, -1):
        t = order[done]
        jacobians[t] = product
        if not done:
            break
        if cut and done % cut == 0:  # nothing goes back over it
            product = np.zeros(product.shape)
            continue
        before = map_tree(partial(_leaf, order[done - 1]), states)
        with recording(tracking=True):
            after = layer(
                map_tree(lambda a, t=t: values(a)[t : t + 1], x),
                before,
                mask=None if valid is None else valid[t : t + 1],
                reset=None if reset is None else reset[t : t + 1],
            ).state
            product = product @ _jacobian(leaves(after), leaves(before), rows, size)
    sizes: Any = np.linalg.norm(jacobians, norm, axis=(-2, -1)).mean(axis=1)
    found: Jacobians = sizes.view(Jacobians)
    return found


def _leaf(t: int, states: Array) -> Tensor:
    """The state after step t, to differentiate by."""
    array = values(states)[t]
    return Tensor(array, requires_grad=array.dtype.kind == "f")


def _jacobian(after: list[Any], before: list[Tensor], rows: int, size: int) -> np.ndarray:
    """(rows, size, size): how the state after a step depends on the state before it.

    Row (n, k) of the repeated batch asks for element k of the whole state.
    """
    flat: Any = np.concatenate([a.reshape(rows * size, -1) for a in after], axis=-1)
    unit = np.tile(np.eye(size, dtype=flat.dtype), (rows, 1))
    none = [np.zeros(a.shape) for a in before]
    found: Any = grad(flat, before, unit, allow_unused=True) if flat.requires_grad else none
    parts = [
        np.zeros(b.shape) if g is None else values(g) for g, b in zip(found, before, strict=True)
    ]
    return np.concatenate([g.reshape(rows, size, -1) for g in parts], axis=-1)


class Sensitivity(np.ndarray):
    """(T, T): row t, column s is |dy_t/dx_s|, as an array; `.draw()` shows it.

        seen = tg.sensitivity(rnn, x)
        seen.shape, seen[0, 1:].max()       # (5, 5), 0.0: outputs see the past alone
        seen.draw(names="abcde").save("seen.svg")

    Raises nothing of its own.
    """

    __repr__ = _shown

    def draw(self, lang: str = "en", names: Any = None) -> Figure:
        """A heat map: an RNN fills a triangle, since it sees the past; a BiRNN fills the square.

        names  a label for each time step, characters say; None: its number
        Raises FigureError for another number of names, and for a lang that there is not.
        """
        title = say("How strongly output t depends on input s", lang)
        x, y = say("input at s", lang), say("output at t", lang)
        return heat(np.asarray(self), title, x, y, names, names, lang)


def sensitivity(layer: Any, x: Array, state: Any = None, norm: Any = 2, **options: Any) -> Any:
    """|dy_t/dx_s| for each output t and each input s: who sees what?

        seen = tg.sensitivity(rnn, x)
        seen.shape, seen[0, 1:].max()      # (5, 5), 0.0: zeros above the diagonal
        tg.sensitivity(birnn, x).draw()    # no zeros: a full square

    layer  RNN, BiRNN or Chain; x (T, N, C) or (T, C), floats
    state, options, norm  as for `state_jacobians`; the mean over the rows of a batch
    Exact Jacobians, by one pull for each t. Returns a Sensitivity (T, T), for an RNN with zeros
    above the diagonal. Raises DtypeError where x holds no floats, ShapeError for an x that does not
    fit, or has no rows, CellError for what is no layer over time.
    """
    if not hasattr(layer, "initial_state") or isinstance(layer, Cell):
        raise errors.no_layer_over_time(type(layer).__name__)
    if not any(values(a).dtype.kind == "f" for a in leaves(x)):
        raise errors.no_float_input(type(layer).__name__)
    with no_grad():
        first = layer(x, state, **options).outputs
    state = _start(layer, x) if state is None else state
    size = sum(math.prod(np.shape(a)[1 + len(_batch(x)) :]) for a in leaves(first))
    x, state, options, rows = _repeated(size, x, state, options)
    inputs = [a for a in leaves(x) if a.requires_grad]
    with recording(tracking=True):
        outputs = leaves(layer(x, state, **options).outputs)
    steps = len(outputs[0])
    if not steps:
        return np.zeros((0, 0)).view(Sensitivity)
    with recording(tracking=True):
        joined: Any = np.concatenate([y.reshape(steps, rows, size, -1) for y in outputs], axis=-1)
    found = np.zeros((steps, steps))
    for t in range(steps):
        unit = np.zeros(joined.shape, joined.dtype)
        unit[t] = np.eye(size)
        gs = grad(joined, inputs, unit, retain_graph=True, allow_unused=True)
        each = [g.data.reshape(steps, rows, size, -1) for g in gs if g is not None]
        if each:
            jacobians = np.concatenate(each, axis=-1)
            found[t] = np.linalg.norm(jacobians, norm, axis=(-2, -1)).mean(axis=1)
    return found.view(Sensitivity)


# ----- helpers -----------------------------------------------------------------------------------


def _one_number(loss: Any) -> Tensor:
    """A loss must be a Tensor with one element."""
    if not isinstance(loss, Tensor):
        raise errors.loss_and_weight(loss)
    if loss.size != 1:
        raise errors.loss_with_several_elements(loss.shape)
    return loss


def _norms(steps: np.ndarray) -> np.ndarray:
    """The 2-norm of each entry along the first axis, all its numbers taken as one vector."""
    wide = steps.reshape(len(steps), -1).astype(np.float64)  # squares of float32 may not fit in
    return np.asarray(np.linalg.norm(wide, axis=1))


def states_in(output: Any) -> list[Any]:
    """The states of all steps, time first: one Tensor for each array of the state."""
    if not isinstance(output, RNNOutput) or output.states is None:
        raise errors.no_states(isinstance(output, RNNOutput) and output.states)
    return leaves(output.states)


def gradients_at(
    graph: Unfolded, loss: Tensor, parts: Mapping[Any, list[StatePart]], told: Told | None = None
) -> dict[Any, Any]:
    """The gradients at states, which are given by their parts: a list of arrays for each state."""
    wanted = {part.key for some in parts.values() for part in some}
    total: dict[Key, Any] = {}

    def see(node: Node, g: Any) -> None:
        for slot, part in enumerate(g if node.several else (g,)):
            if (node, slot) in wanted:
                total[node, slot] = part

    graph.pull(graph.seeds(loss), see=see, told=told)
    found: dict[Any, Any] = {}
    for step, some in parts.items():
        there = [part for part in some if part.key in total]
        found[step] = []
        for array, key, rows in there:
            others = {other.key: total[other.key] for other in there if other.array != array}
            found[step].append((total[key] - _through_others(graph, others, key))[rows])
    return found


def norm_of(gs: list[Any]) -> float:
    """The 2-norm of several arrays, taken as one vector."""
    wide = [np.asarray(g, np.float64) for g in gs]  # squares of float32 may not fit in
    return float(np.sqrt(sum(float(np.sum(g * g)) for g in wide)))


def _through_others(graph: Unfolded, others: dict[Key, Any], key: Key) -> Any:
    """What reaches one array of the state through the others of the same step.

    An LSTM's h is made of its c. As a state they are two arrays side by side: what c does to h in
    the same step is no way through time.
    """
    found: list[Any] = []
    younger = {o: g for o, g in others.items() if o[0].id > key[0].id}
    if younger:
        graph.pull(younger, key, contributed=lambda node, part: found.append(part), within=key[0])
    return sum(found) if found else 0


def _batch(x: Any) -> tuple[int, ...]:
    """(N,) or (): the rows of the batch, none of which may be missing."""
    batch = tuple(np.shape(leaves(x)[0])[1:-1])
    if not math.prod(batch):
        raise errors.no_rows(np.shape(leaves(x)[0]))
    return batch


def _start(layer: Any, x: Any) -> Any:
    """The initial state of the batch: drawn once, where it is random, and not for each copy."""
    arrays = [values(a) for a in leaves(x)] + [p.data for p in layer.parameters()]
    floats = [a.dtype for a in arrays if a.dtype.kind == "f"] or [np.dtype(np.float64)]
    return layer.initial_state(_batch(x), np.result_type(*floats))


def _repeated(size: int, x: Array, state: Any, options: Any) -> tuple[Any, Any, Any, int]:
    """Every row of a batch `size` times: one row for each element that is differentiated.

    Returns x (floats need a gradient), state and options, and how many rows there were.
    """
    batch = _batch(x)
    # without a batch, time has no axis of rows behind it yet
    spread = partial(_rows, size, batched=bool(batch))
    arrays = map_tree(lambda a: spread(1, values(a)), x)
    x = map_tree(lambda a: Tensor(a, requires_grad=a.dtype.kind == "f"), arrays)
    state = None if state is None else map_tree(lambda a: spread(0, values(a)), state)
    axes = {"lengths": 0, "mask": 1, "reset": 1}
    given = {k: v for k, v in options.items() if v is not None}
    return (
        x,
        state,
        {k: spread(axes[k], np.asarray(v)) if k in axes else v for k, v in given.items()},
        math.prod(batch),
    )


def _rows(size: int, axis: int, a: np.ndarray, batched: bool) -> np.ndarray:
    return np.repeat(a if batched else np.expand_dims(a, axis), size, axis)
