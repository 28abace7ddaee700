"""A network as an ONNX file, which onnxruntime and others run without this package or Python.

ONNX's RNN, LSTM and GRU take all time steps in one node. They keep weights transposed, the gates in
orders of their own, and two biases where one would do, as PyTorch does. What they leave open, what
stands in the outputs of padding, and which state a row of length 0 ends in, the graph decides here.

Every value is called by its place, by what it is, and by the operator that made it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from . import errors
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .errors import CellError, DtypeError, FileFormatError, ShapeError
from .files import as_path, replacing
from .functions import identity, log_softmax, relu, sigmoid, softmax, softplus
from .module import Embedding, Linear, narrowed
from .nests import leaves
from .recurrent import RNN, BiRNN, Chain
from .wrappers import Readout, Stacked

OPSET, IR_VERSION = 22, 10  # published together, in onnx 1.17
GATES = {RNNCell: "h", LSTMCell: "iofg", GRUCell: "zrn"}  # ONNX's order, in our letters
MERGES = {"concat": "Concat", "sum": "Sum", "mean": "Mean", "mul": "Mul"}
ACTIVATIONS = {
    np.tanh: "Tanh", relu: "Relu", sigmoid: "Sigmoid", identity: "Identity",
    softmax: "Softmax", log_softmax: "LogSoftmax", softplus: "Softplus",
}  # fmt: skip
# inside a recurrent node; identity is alpha x + beta
IN_CELLS = {"Tanh": "Tanh", "Relu": "Relu", "Sigmoid": "Sigmoid", "Identity": "Affine"}

CAN = (
    "export_onnx takes RNN, BiRNN (merge concat, sum, mean, mul) and Chain; of RNNCell (tanh, "
    "relu, sigmoid, identity), LSTMCell, GRUCell, and Stacked and Readout of these; Linear; and an "
    "Embedding as the first layer. It takes no subclass of them, which may step otherwise"
)


def export_onnx(
    path: str | os.PathLike[str],
    layer: Any,
    inputs: int,
    readout: Any = None,
    lengths: bool = False,
    state: bool = False,
    dtype: Any = np.float32,
) -> None:
    """Write a network to a .onnx file; a checked one, or none.

        rnn, readout = tg.RNN(tg.GRUCell(3, 4, rng=0)), tg.Linear(4, 2, rng=1)
        tg.export_onnx("net.onnx", rnn, inputs=3, readout=readout, lengths=True)

        session = onnxruntime.InferenceSession("net.onnx")
        x, lengths = np.ones((5, 2, 3), np.float32), np.array([5, 2], np.int32)
        outputs, last = session.run(None, {"x": x, "lengths": lengths})
        outputs.shape, last.shape       # (5, 2, 2), (2, 2)

    path     ends with .onnx
    layer    an RNN or BiRNN (merge "concat", "sum", "mean", "mul") of RNNCell (tanh, relu, sigmoid,
             identity), LSTMCell or GRUCell, or of Stacked and Readout of these; or a Chain of such
             layers and Linears, the first of which may be an Embedding. Subclasses are not taken,
             since they may step otherwise
    inputs   C, the width of x; before an Embedding the count of its rows
    readout  a Linear: the file then holds tg.Chain(layer, readout)
    lengths  True gives the file an input "lengths" (N,) int32, each in 0..T
    state    True gives it all initial states as inputs and all final ones as outputs, so that a
             stream can go on: "layer 0.h" and "layer 0.h_next", of an LSTM "layer 0.c" too. Both
             are (directions, N, H). Start with zeros, or with the trained `.start`
    dtype    float32; or, without lengths, float64, which onnx's reference evaluator runs (an
             RNNCell only with tanh or identity) and onnxruntime does not

    Inputs are "x" (T, N, C), or (T, N) int64 before an Embedding; outputs are "outputs" (T, N, K)
    and "last" (N, K): the numbers of `layer(x, lengths=lengths)`, in padding too. Layers count from
    0 along a Chain, "layer 0.1.h" is of part 1 of its cell (Stacked and Readout have parts), and
    "layer 0.backward.h" of one direction, where two unlike cells make a BiRNN two nodes. Weights
    are copied: what is learnt later is not in the file.

    Limits of runtimes: without lengths, what T = 0 gives is not defined; onnxruntime (1.32) ends
    the whole process when an LSTM or GRU gets N = 0; and before an Embedding a negative number
    counts from its end, where ours is an error.

    Raises CellError for other layers and cells, ShapeError where widths do not fit,
    FileFormatError for another suffix, DtypeError, NonFiniteError for a weight that float32 cannot
    hold, and MissingExtraError where onnx is not installed. Source: ONNX's operators RNN,
    LSTM and GRU, https://onnx.ai/onnx/operators; opset 22, for onnxruntime 1.21 and later.
    """
    try:
        onnx: Any = import_module("onnx")  # by name, so that mypy need not find it installed
    except ImportError:
        raise errors.missing_extra("export_onnx", "onnx", "onnx") from None
    path = as_path(path)
    if path.suffix != ".onnx":
        raise FileFormatError(f"export_onnx writes .onnx files; got {path}")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise DtypeError(f"export_onnx: dtype is float32 or float64, not {np.dtype(dtype)}")
    if lengths and np.dtype(dtype) == np.float64:
        raise DtypeError(
            "export_onnx: with lengths the dtype is float32. What runs float64, onnx's reference "
            "evaluator, ignores them, and its numbers would be wrong"
        )
    net = layer if readout is None else Chain(layer, readout)
    graph = _Graph(onnx, np.dtype(dtype), inputs, state)
    graph.network(_flat(net), lengths)
    parts = graph.inputs, graph.outputs, graph.arrays
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, type(net).__name__, *parts),
        producer_name="tinygrad_rnn",
        doc_string=repr(net),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as file:
        file.write(model.SerializeToString())


class _Flow(NamedTuple):
    """What goes from layer to layer: names of values, and their width."""

    outputs: str  # (T, N, width)
    last: str  # (N, width); "" before the first recurrent layer
    width: int


class _Graph:
    """An ONNX graph as it grows."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any], width: int, state: bool) -> None:
        self.onnx, self.dtype, self.width, self.state = onnx, dtype, int(width), state
        self.make_node = onnx.helper.make_node
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.lengths = self.valid = self.started = ""  # (N,), (T, N, 1) and (N, 1), if asked for
        self.known: set[str] = set()

    # ----- what a graph is made of: each method adds something, and returns its name -----

    def node(self, op: str, place: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, called place.op."""
        name = f"{place}.{op}"
        self.nodes.append(self.make_node(op, inputs, [name], name, **attributes))
        return name

    def array(self, name: str, values: Any, dtype: Any = None) -> str:
        """An initialiser."""
        array = narrowed(name, np.asarray(values), dtype or self.dtype)
        self.arrays.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def integers(self, values: Any) -> str:
        """An initialiser of integers, called what it is: 0, [1]."""
        name = str(values)
        if name not in self.known:
            self.known.add(self.array(name, values, np.int64))
        return name

    def input(self, name: str, shape: list[Any], dtype: Any) -> str:
        """An input of the whole graph."""
        self.inputs.append(self._described(name, shape, dtype))
        return name

    def output(self, name: str, value: str, shape: list[Any]) -> None:
        """An output of the whole graph."""
        self.nodes.append(self.make_node("Identity", [value], [name], name))
        self.outputs.append(self._described(name, shape, self.dtype))

    def _described(self, name: str, shape: list[Any], dtype: Any) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def where(self, mask: str, place: str, value: str, other: str) -> str:
        """value where the mask is set, else other; with no mask, value."""
        return self.node("Where", place, mask, value, other) if mask else value

    # ----- what a network is made of -----

    def network(self, layers: list[Any], lengths: bool) -> None:
        """All layers, one after another."""
        ids = type(layers[0]) is Embedding
        shape = ["T", "N"] if ids else ["T", "N", self.width]
        x = self.input("x", shape, np.int64 if ids else self.dtype)
        if lengths:
            valid = self.masks()
            mask, zero = (valid, "0") if ids else (self.valid, "zero")
            x = self.where(mask, "x", x, zero)
        flow = _Flow(x, "", self.width)
        for k, layer in enumerate(layers):
            place, kind = f"layer {k}", type(layer)
            if kind is Embedding and not k:
                self.fits(place, layer, flow)
                rows = self.node("Gather", place, self.array(f"{place}.W", layer.W.data), x)
                flow = _Flow(rows, "", layer.W.shape[1])
            elif kind is Linear:
                flow = self.linear(place, layer, flow)
            elif kind is RNN or kind is BiRNN:
                flow = self.recurrent(place, layer, flow)
            else:
                alone = " without tg.RNN around it" if isinstance(layer, Cell) else ""
                raise _refused(place, f"{_name(layer)}{alone}")
            # ONNX does not say what an RNN puts in padding, and a Linear of 0 is its bias
            outputs = self.where(self.valid, f"{place}.outputs", flow.outputs, "zero")
            flow = flow._replace(outputs=outputs)
        if not flow.last:
            raise CellError(f"export_onnx needs a recurrent layer. {CAN}")
        states, self.outputs = self.outputs, []
        self.output("outputs", flow.outputs, ["T", "N", flow.width])
        self.output("last", flow.last, ["N", flow.width])
        self.outputs += states

    def masks(self) -> str:
        """Which rows have a valid step, and which steps are valid: (T, N, 1), and also (T, N)."""
        self.array("zero", 0)
        self.lengths = self.input("lengths", ["N"], np.int32)
        lengths = self.node("Cast", "lengths", self.lengths, to=self.onnx.TensorProto.INT64)
        steps = self.node("Squeeze", "steps", self.node("Shape", "steps", "x", end=1))
        times = self.node("Range", "times", self.integers(0), steps, self.integers(1))
        times = self.node("Unsqueeze", "times", times, self.integers([1]))
        valid = self.node("Less", "valid", times, lengths)
        self.valid = self.node("Unsqueeze", "valid", valid, self.integers([2]))
        started = self.node("Greater", "started", lengths, "0")
        self.started = self.node("Unsqueeze", "started", started, "[1]")
        return valid

    def fits(self, place: str, part: Any, flow: _Flow) -> None:
        """ShapeError where a part expects another width than it gets."""
        width = len(part.W if hasattr(part, "W") else part.U)
        if width != flow.width:
            raise ShapeError(
                f"export_onnx, inputs={self.width}: {place} gets {flow.width} features and "
                f"expects {width}"
            )

    def linear(self, place: str, layer: Any, flow: _Flow) -> _Flow:
        """A Linear, on all outputs and on the last ones."""
        op = _activation(layer.activation)
        if not op:
            raise _refused(place, f"Linear with the activation {_name(layer.activation)}")
        self.fits(place, layer, flow)
        w = self.array(f"{place}.W", layer.W.data)
        b = "" if layer.b is None else self.array(f"{place}.b", layer.b.data)

        def applied(place: str, x: str) -> str:
            z = self.node("MatMul", place, x, w)
            z = self.node("Add", place, z, b) if b else z
            return z if op == "Identity" else self.node(op, place, z)

        outputs = applied(f"{place}.outputs", flow.outputs)
        last = flow.last and applied(f"{place}.last", flow.last)
        return _Flow(outputs, last, layer.W.shape[1])

    def recurrent(self, place: str, layer: Any, flow: _Flow) -> _Flow:
        """An RNN or a BiRNN."""
        if type(layer) is RNN:
            out = self.along(place, layer, flow)
        else:
            merge = layer.merge if isinstance(layer.merge, str) else ""
            if merge not in MERGES:
                raise _refused(place, f"BiRNN with merge={layer.merge and _name(layer.merge)}")
            both = layer.forward_rnn, layer.backward_rnn
            if _alike(place, both):
                ways = self.cells(place, [rnn.cell for rnn in both], "bidirectional", [], flow)
            else:
                names = f"{place}.forward", f"{place}.backward"
                ways = [self.along(*way, flow) for way in zip(names, both, strict=True)]
            out = self.merged(place, merge, ways)
        # a row without a valid step has last 0, whatever a Readout makes of its state
        return out._replace(last=self.where(self.started, f"{place}.last", out.last, "zero"))

    def merged(self, place: str, merge: str, ways: list[_Flow]) -> _Flow:
        """Both directions as one: outputs, and what each has seen last."""
        outputs, lasts, widths = zip(*ways, strict=True)
        options = {"axis": -1} if merge == "concat" else {}
        if not options and len({*widths} - {1}) > 1:
            raise ShapeError(f"export_onnx: {place} has merge={merge!r} of widths {widths}")
        return _Flow(
            self.node(MERGES[merge], f"{place}.outputs", *outputs, **options),
            self.node(MERGES[merge], f"{place}.last", *lasts, **options),
            sum(widths) if options else max(widths),
        )

    def along(self, place: str, rnn: Any, flow: _Flow) -> _Flow:
        """A cell's parts over time, one after another: the same numbers as step by step."""
        if type(rnn) is not RNN:
            raise _refused(place, _name(rnn))
        parts, starts = _parts(rnn.cell), [] if rnn.start is None else leaves(rnn.start)
        direction = "reverse" if rnn.reverse else "forward"
        for k, part in enumerate(parts):
            here = place if len(parts) == 1 else f"{place}.{k}"
            if type(part) is Linear:
                flow = self.linear(here, part, flow)
            else:
                (flow,) = self.cells(here, [part], direction, starts, flow)
        return flow

    def cells(
        self, place: str, cells: list[Any], direction: str, starts: list[Any], flow: _Flow
    ) -> list[_Flow]:
        """One node for a cell, or for two alike in both directions: what comes out of each.

        Trained initial states are taken from the front of starts.
        """
        op, options = _operator(place, cells[0])
        for cell in cells:
            self.fits(place, cell, flow)
        count, hidden = len(cells), len(cells[0].V)
        weights = [
            self.array(f"{place}.{name}", np.stack(arrays))
            for name, *arrays in zip("WRB", *map(_weights, cells), strict=True)
        ]
        names = ("h", "c") if op == "LSTM" else ("h",)
        shape = [count, "N", hidden]
        before = [self.start(f"{place}.{name}", shape, starts) for name in names]
        after = [f"{place}.Y_{name}" for name in names]
        operands = [flow.outputs, *weights, self.lengths, *before]
        options |= {name: count * v for name, v in options.items() if isinstance(v, list)}
        y = f"{place}.Y"
        self.nodes.append(
            self.make_node(op, operands, [y, *after], place, direction=direction, **options)
        )
        for name, old, new in zip(names, before, after, strict=True) if self.state else ():
            # a row without a valid step ends where it started; ONNX does not say so
            new = self.where(self.started, f"{place}.{name}", new, old)
            self.output(f"{place}.{name}_next", new, shape)
        ways = [place] if count == 1 else [f"{place}.forward", f"{place}.backward"]
        return [
            _Flow(
                self.node("Gather", f"{way}.outputs", y, self.integers(k), axis=1),
                self.node("Gather", f"{way}.last", after[0], self.integers(k), axis=0),
                hidden,
            )
            for k, way in enumerate(ways)
        ]

    def start(self, name: str, shape: list[Any], starts: list[Any]) -> str:
        """The initial state: an input, or the trained one for each row, or "", which is zeros."""
        trained = starts.pop(0) if starts else None
        if self.state:
            return self.input(name, shape, self.dtype)
        if trained is None:
            return ""
        one, rows = self.integers([1]), self.node("Shape", f"{name}.rows", "x", start=1, end=2)
        rows = self.node("Concat", f"{name}.rows", one, rows, one, axis=0)
        return self.node("Expand", name, self.array(f"{name}.start", [[trained.data]]), rows)


def _flat(layer: Any) -> list[Any]:
    """The layers of a Chain, and of Chains in it, in order."""
    if type(layer) is not Chain:
        return [layer]
    return [one for part in layer.layers for one in _flat(part)]


def _parts(cell: Any) -> list[Any]:
    """The cells and Linears that a cell is made of, from x on."""
    if type(cell) is Stacked:
        return [part for one in cell.cells for part in _parts(one)]
    return [*_parts(cell.cell), cell.linear] if type(cell) is Readout else [cell]


def _alike(place: str, both: Any) -> bool:
    """Whether one bidirectional node can be both RNNs."""
    plain = all(type(r) is RNN and r.start is None and type(r.cell) in GATES for r in both)
    if not plain or [r.reverse for r in both] != [False, True]:
        return False
    forward, backward = (_operator(place, r.cell) for r in both)
    return forward == backward


def _operator(place: str, cell: Any) -> tuple[str, dict[str, Any]]:
    """ONNX's operator for a cell, and its options; those in a list are for each direction."""
    if type(cell) not in GATES:
        raise _refused(place, _name(cell))
    op = type(cell).__name__.removesuffix("Cell")
    options: dict[str, Any] = {"hidden_size": len(cell.V)}
    if op == "GRU":
        options["linear_before_reset"] = int(cell.reset_after)
    if op == "RNN":
        phi = _activation(cell.activation)
        if phi not in IN_CELLS:
            raise _refused(place, f"RNNCell with the activation {_name(cell.activation)}")
        options["activations"] = [IN_CELLS[phi]]
        if phi == "Identity":
            options |= {"activation_alpha": [1.0], "activation_beta": [0.0]}
    return op, options


def _weights(cell: Any) -> list[np.ndarray]:
    """ONNX's W (kH, C), R (kH, H) and B (2kH,): the biases beside x's product and beside h's."""
    v, gates = cell.V.data, getattr(cell, "gates", "h")
    b = np.zeros(v.shape[1]) if cell.b is None else cell.b.data
    second = np.zeros_like(b)
    if getattr(cell, "b_n", None) is not None:
        second[-len(v) :] = cell.b_n.data

    def ordered(a: np.ndarray) -> np.ndarray:
        blocks = dict(zip(gates, np.split(a, len(gates), axis=-1), strict=True))
        return np.concatenate([blocks[gate] for gate in GATES[type(cell)]], axis=-1).T

    return [ordered(cell.U.data), ordered(v), np.concatenate([ordered(b), ordered(second)])]


def _activation(f: Any) -> str:
    """ONNX's operator for a function, or ""."""
    return next((op for known, op in ACTIVATIONS.items() if known is f), "")


def _name(thing: Any) -> str:
    """A function's own name, or its kind."""
    return str(getattr(thing, "__name__", type(thing).__name__))


def _refused(place: str, what: str) -> CellError:
    return CellError(f"{place}: {what} cannot be exported. {CAN}")
