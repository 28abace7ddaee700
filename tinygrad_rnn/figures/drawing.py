"""draw: one door to all pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..canvas.charts import BLANKS, heat
from ..canvas.pen import Figure
from ..canvas.words import say
from ..cells import Cell
from ..errors import FigureError
from ..insight import compare
from ..nests import leaves
from ..recurrent import RNN, RNNOutput
from ..tensor import Tensor
from ..unfold import Unfolded
from .cell import folded
from .graph import graph
from .tasks import tasks
from .unrolled import unrolled


def draw(
    what: Any,
    loss: Any = None,
    *,
    kind: str | None = None,
    args: Sequence[Any] = (),
    inputs: Any = None,
    outputs: Any = None,
    parameter: Tensor | None = None,
    names: Any = None,
    values: bool = False,
    gradients: bool = False,
    most: int = 12,
    title: str = "",
    lang: str = "en",
) -> Figure:
    """A picture of a network, a graph, a cell or a result: SVG, by our own code.

        out = rnn(x)
        loss = tg.mse(out.last, target)
        tg.draw(out, loss, inputs="hello").save("unrolled.svg")     # or .html, to step through

    What is drawn, and what else may be said:

        an RNNOutput, a loss   the network unrolled in time: `loss` (gradients are drawn then),
            behind loops       `inputs`, `outputs` (a label for each step), `parameter` (whose
                               contributions are shown), `names` (a Module, or name -> Tensor or
                               Module: names of weights outside of layers), `most` (so many steps)
        kind="states"          of an RNNOutput: the state as a map, unit by time; `inputs`
        another Tensor         its computation graph: `values`, `gradients`, `names`
        a function, `args`     its computation graph, with every value
        a Cell, an RNN         folded, beside a feed-forward layer; `inputs`: the width of x, where
                               the cell has no `.inputs`
        "tasks", "many-to-one", ...   the task types, or one of them
        a result               of contributions, gradient_flow, ...; a dict of name -> flow

    title  instead of the picture's own; lang "en" or "ja"
    Ask before `backward()` frees the graph; nothing is freed here, no `.grad` is touched. Raises
    FigureError for what cannot be drawn, GraphFreedError, NoTimeError.
    """
    if isinstance(what, Tensor) and isinstance(loss, RNNOutput):
        what, loss = loss, what
    kind = kind or _kind(what)
    options: dict[str, Any] = {"title": title, "lang": lang}
    if kind == "unrolled":
        return unrolled(what, loss, inputs, outputs, parameter, names, most, **options)
    if kind == "states":
        return states_map(what, inputs, **options)
    if kind == "graph":
        return graph(what, *args, values=values, gradients=gradients, names=names, **options)
    if kind == "cell":
        return folded(what.cell if isinstance(what, RNN) else what, inputs=inputs, **options)
    if kind == "tasks":
        return tasks(None if what == "tasks" else what, lang)
    if kind == "curves":
        return compare(what, **options)
    if kind == "result":
        drawn: Figure = what.draw(lang=lang)
        return drawn
    raise FigureError(
        f"kind={kind!r}: expected 'unrolled', 'states', 'graph', 'cell', 'tasks', 'curves' or "
        "'result'"
    )


def _kind(what: Any) -> str:
    """What sort of picture a thing asks for."""
    if isinstance(what, Tensor):
        timed = any(node.place.t is not None for node in Unfolded(what).nodes)
        return "unrolled" if timed else "graph"
    kinds: list[tuple[Callable[[Any], bool], str]] = [
        (lambda w: isinstance(w, RNNOutput), "unrolled"),
        (lambda w: isinstance(w, (Cell, RNN)), "cell"),
        (lambda w: isinstance(w, str), "tasks"),
        (lambda w: isinstance(w, Mapping), "curves"),
        (lambda w: hasattr(w, "draw"), "result"),
        (lambda w: callable(w) and not hasattr(w, "initial_state"), "graph"),
    ]
    for fits, kind in kinds:
        if fits(what):
            return kind
    raise FigureError(
        f"a {type(what).__name__} cannot be drawn: expected an RNNOutput, a Tensor, a function, a "
        "Cell, an RNN, 'tasks' or a result. Of other layers draw what they return, "
        "tg.draw(layer(x))"
    )


def states_map(
    output: Any, inputs: Any = None, title: str = "", lang: str = "en", row: int = 0
) -> Figure:
    """How each unit of the state goes along the sequence: Karpathy's picture of what units learn.

        states_map(rnn(x, return_states=True), inputs="hello world")

    output  an RNNOutput: its states, or its outputs where it has none; of a batch one `row`
    inputs  a label for each time step
    """
    if not isinstance(output, RNNOutput):
        raise FigureError(f"kind='states' wants an RNNOutput, not a {type(output).__name__}")
    first = leaves(output.outputs if output.states is None else output.states)[0]
    array = first.data if isinstance(first, Tensor) else np.asarray(first)
    array = array[:, row] if array.ndim > 2 else array
    labels = None if inputs is None else [BLANKS.get(str(c), str(c)) for c in inputs]
    title = title or say("The state along the sequence", lang)
    time, unit = say("time step t", lang), say("unit", lang)
    return heat(array.T, title, time, unit, None, labels, lang, signed=True)
