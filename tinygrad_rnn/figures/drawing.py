"""draw: one door to all pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..canvas.charts import BLANKS, heat
from ..canvas.pen import Figure
from ..canvas.words import say
from ..cells import Cell
from ..errors import FigureError
from ..insight import Contributions, Sensitivity, compare, states_in
from ..module import Module
from ..recurrent import RNN, RNNOutput
from ..tensor import Tensor
from ..unfold import Unfolded
from .cell import folded
from .graph import graph as graph_of
from .tasks import tasks
from .unrolled import unrolled

MEANS = {  # which options mean something for which kind of picture
    "unrolled": ("loss", "inputs", "outputs", "targets", "parameter", "names", "most", "title"),
    "states": ("inputs", "row", "title"),
    "graph": ("args", "names", "values", "gradients", "title"),
    "cell": ("inputs", "title"),
    "tasks": (),
    "curves": ("title",),
    "result": ("inputs",),
}


def draw(
    what: Any, loss: Any = None, *, kind: str | None = None, lang: str = "en", **options: Any
) -> Figure:
    """A picture of a network, a graph, a cell or a result: SVG, by our own code.

        out = rnn(x)
        loss = tg.mse(out.last, target)
        tg.draw(out, loss, inputs="hello").save("unrolled.svg")     # or .html, to step through

    What is drawn, and what else may be said:

        an RNNOutput, a loss   the network unrolled in time: `loss` (gradients are drawn then),
            behind loops       `inputs`, `outputs`, `targets` (a label for each step; of several
                               sequences one after another), `parameter` (whose contributions are
                               shown), `names` (a Module, or a dict of name -> Tensor or Module: of
                               weights outside of layers, and of layers), `most` (so many steps of
                               a loop at most, 12), `title`
        kind="states"          of an RNNOutput: its states as a map, unit by time; `inputs` (a label
                               for each step), `row` (of the batch), `title`
        another Tensor         its computation graph: `values`, `gradients` (True: show them, as far
                               as they are known), `names`, `title`
        a function             its computation graph, run on `args`: all values are known then
        a Cell, an RNN         folded, beside a feed-forward layer; `inputs`: the width of x, where
                               the cell has no `.inputs`; `title`
        "tasks", "many-to-one", ...   the task types, or one of them
        a result               of contributions (`inputs`: a label for each step), gradient_flow,
                               ...; a dict of name -> flow draws them together (`title`)

    options  what else may be said, by the names above
    lang     "en" or "ja"
    Ask before `backward()` frees the graph; nothing is freed here, no `.grad` is touched. Time
    counts from 0, as arrays do. Raises FigureError for what cannot be drawn, GraphFreedError,
    NoTimeError, NotScalarError for a loss that is no single number.
    """
    if isinstance(what, Tensor) and isinstance(loss, RNNOutput):
        what, loss = loss, what
    graph = Unfolded(what) if isinstance(what, Tensor) and what.requires_grad else None
    options = {name: value for name, value in options.items() if value is not None}
    if not isinstance(options.get("title", ""), str):
        raise FigureError(f"title={options['title']!r}: expected a text")
    if loss is not None:
        options["loss"] = loss
    kind = kind or _kind(what, graph, options)
    if kind not in MEANS:
        raise FigureError(f"kind={kind!r}: expected one of {', '.join(MEANS)}")
    fits = {"curves": isinstance(what, Mapping), "tasks": isinstance(what, str)}
    if not fits.get(kind, kind != "result" or hasattr(what, "draw")):
        raise FigureError(f"a {type(what).__name__} is nothing for a picture of kind {kind!r}")
    for name in options:
        if name not in MEANS[kind]:
            known = ", ".join(MEANS[kind]) or "none"
            raise FigureError(
                f"{name}= means nothing for a picture of kind {kind!r}: known: {known}"
            )
    if kind == "unrolled":
        shared = None if "loss" in options and options["loss"] is not what else graph
        return unrolled(what, graph=shared, lang=lang, **options)
    if kind == "states":
        return states_map(what, lang=lang, **options)
    if kind == "graph":
        args = options.pop("args", ())
        if not isinstance(args, (list, tuple)):
            raise FigureError(f"args={args!r}: expected the function's arguments, as a tuple")
        return graph_of(what, *args, lang=lang, **options)
    if kind == "cell":
        return folded(what.cell if isinstance(what, RNN) else what, lang=lang, **options)
    if kind == "tasks":
        return tasks(None if what == "tasks" else what, lang)
    if kind == "curves":
        return compare(what, lang=lang, **options)
    if options and not isinstance(what, (Contributions, Sensitivity)):
        raise FigureError(f"inputs= means nothing for a {type(what).__name__}")
    names = {"names": options["inputs"]} if options else {}
    drawn: Figure = what.draw(lang=lang, **names)
    return drawn


def _kind(what: Any, graph: Unfolded | None, options: Mapping[str, Any]) -> str:
    """What sort of picture a thing asks for."""
    if isinstance(what, Tensor):
        timed = graph is not None and any(node.place.t is not None for node in graph.nodes)
        asked = options.keys() & {"loss", "inputs", "outputs", "targets", "parameter", "most"}
        return "unrolled" if timed or asked else "graph"
    kinds: list[tuple[Callable[[Any], bool], str]] = [
        (lambda w: isinstance(w, RNNOutput), "unrolled"),
        (lambda w: isinstance(w, (Cell, RNN)), "cell"),
        (lambda w: isinstance(w, str), "tasks"),
        (lambda w: isinstance(w, Mapping), "curves"),
        (lambda w: hasattr(w, "draw"), "result"),
        (lambda w: callable(w) and not isinstance(w, Module), "graph"),
    ]
    for fits, kind in kinds:
        if fits(what):
            return kind
    raise FigureError(
        f"a {type(what).__name__} cannot be drawn: expected an RNNOutput, a Tensor, a function, a "
        "Cell, an RNN, 'tasks' or a result. Of other layers and modules draw what they return, "
        "tg.draw(layer(x))"
    )


def states_map(
    output: Any, inputs: Any = None, row: int = 0, title: str = "", lang: str = "en"
) -> Figure:
    """How each unit of the state goes along the sequence: Karpathy's picture of what units learn.

        states_map(rnn(x, return_states=True), inputs="hello world")

    output  an RNNOutput with states: call the layer with return_states=True
    inputs  a label for each time step
    row     of the batch
    Of a state of several arrays (an LSTM's h and c, two directions) all units stand below each
    other, as 0.0, 0.1, ..., 1.0, ... Raises NoTimeError without states.
    """
    arrays = []
    for states in states_in(output):
        array = states.data if isinstance(states, Tensor) else np.asarray(states)
        if array.ndim > 2 and not 0 <= row < array.shape[1]:
            raise FigureError(f"row={row}: this batch has {array.shape[1]} rows")
        array = array[:, row] if array.ndim > 2 else array
        arrays.append(array.reshape(len(array), math.prod(array.shape[1:])).T)
    several = len(arrays) > 1
    units = [f"{k}.{unit}" for k, array in enumerate(arrays) for unit in range(len(array))]
    labels = None if inputs is None else [BLANKS.get(str(c), str(c)) for c in inputs]
    title = title or say("The state along the sequence", lang)
    time, unit = say("time step t", lang), say("unit", lang)
    names = units if several else None
    return heat(np.concatenate(arrays), title, time, unit, names, labels, lang, signed=True)
