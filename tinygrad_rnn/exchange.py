"""Weights to and from PyTorch's layers, as dicts of plain arrays: no torch is needed.

PyTorch keeps its weights transposed, (kH, C) for our (C, kH), with the gates in the same order, and
adds two biases where one would do. Only the second bias of a GRU's candidate says something of its
own, since r multiplies it: our `b_n`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .errors import CellError, ShapeError, dict_of_arrays_wanted
from .functions import identity, relu
from .module import Embedding, Linear, Module, Parameter, differences, narrowed
from .recurrent import RNN, BiRNN
from .vjp import Array

FLAT = (Linear, Embedding)  # exact types, here and below: a subclass may compute otherwise


def to_torch(layer: Module) -> dict[str, np.ndarray]:
    """A layer's weights under PyTorch's names and in its layout; copies, in the same dtypes.

        rnn = tg.RNN(tg.GRUCell(3, 4, rng=0))
        arrays = tg.to_torch(rnn)               # weight_ih_l0 (12, 3), weight_hh_l0 (12, 4), ...
        twin = torch.nn.GRU(3, 4).double()      # the same function of the same x (T, N, C)
        twin.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})

    layer   an RNN or BiRNN of RNNCell (tanh or relu), LSTMCell or GRUCell, or a stack of such with
            a list `.layers`; in PyTorch a stack is num_layers=, and relu nonlinearity="relu". Or a
            Linear without activation, or an Embedding
    Our U (C, kH) becomes weight_ih (kH, C), V weight_hh, b bias_ih. bias_hh is 0 but for a GRU's
    candidate, where it is b_n. PyTorch's state stacks ours, (layers * directions, N, H): layer by
    layer, the forward one first. Raises CellError for what PyTorch cannot express. Source: the
    documentation of torch.nn.GRU.
    """
    if type(layer) in FLAT:
        bias = getattr(layer, "b", None)
        return {"weight": _weight(layer)} | ({} if bias is None else {"bias": bias.numpy()})
    arrays = {}
    for place, cell in _cells(layer).items():
        arrays[f"weight_ih_{place}"] = cell.U.data.T.copy()
        arrays[f"weight_hh_{place}"] = cell.V.data.T.copy()
        if cell.b is not None:
            arrays[f"bias_ih_{place}"] = cell.b.numpy()
            arrays[f"bias_hh_{place}"] = second = np.zeros_like(cell.b.data)
            if hasattr(cell, "b_n"):
                second[2 * cell.hidden :] = cell.b_n.data
    return arrays


def from_torch(layer: Module, arrays: Mapping[str, Array]) -> None:
    """Set a layer's Parameters from PyTorch's weights; the inverse of `to_torch`.

        twin = torch.nn.LSTM(3, 4)
        rnn = tg.RNN(tg.LSTMCell(3, 4, rng=0))
        tg.from_torch(rnn, twin.state_dict())   # rnn computes what twin does
        np.allclose(rnn.cell.U.data.T, twin.weight_ih_l0.detach().numpy())      # True

    layer   as for to_torch; it is changed in place, and its Parameters keep their dtypes
    arrays  by PyTorch's names, arrays or tensors that need no gradient, such as a state_dict();
            a prefix that all names share, as in "encoder.rnn.weight_ih_l0", is dropped
    Shapes are PyTorch's: weight_ih (kH, C) for our U (C, kH). The two biases are added, since only
    their sum matters.
    Raises CellError as to_torch, ShapeError with every name or shape that differs, NonFiniteError
    for a number that a Parameter's dtype cannot hold; nothing has changed then.
    Source: the documentation of torch.nn.GRU.
    """
    expected = to_torch(layer)
    if not isinstance(arrays, Mapping):
        raise dict_of_arrays_wanted("from_torch", arrays, "Give it module.state_dict()")
    prefixes = {name.rpartition(".")[0] for name in arrays}
    start = len(min(prefixes)) + 1 if len(prefixes) == 1 and "" not in prefixes else 0
    given = {name[start:]: np.asarray(array) for name, array in arrays.items()}
    found = differences(expected, given)
    new: dict[int, tuple[Parameter, np.ndarray]] = {}
    parts = {"": layer} if type(layer) in FLAT else _cells(layer)
    for place, cell in {} if found else parts.items():
        for p, values in _values(cell, place, given):
            array = narrowed(place, np.asarray(values), p.dtype)
            if id(p) in new and not np.array_equal(new[id(p)][1], array):
                found.append(f"{place}: differs from another place with the same Parameter")
            new[id(p)] = p, array
    if found:
        # a whole model was given, perhaps: which part has this layer's names?
        fitting = [p for p in prefixes if f"{p}.{next(iter(expected))}" in arrays]
        advice = [f". Give it the part that begins with {p}." for p in fitting if len(prefixes) > 1]
        raise ShapeError("from_torch changed nothing: " + "; ".join(found) + "".join(advice))
    for p, array in new.values():
        p.data = array


def _values(
    cell: Any, place: str, given: Mapping[str, np.ndarray]
) -> Iterator[tuple[Parameter, np.ndarray]]:
    """A cell's or a Linear's Parameters, each with what PyTorch's arrays say it is."""
    if type(cell) in FLAT:
        yield cell.W, given["weight"].T if isinstance(cell, Linear) else given["weight"]
        if "bias" in given:
            yield cell.b, given["bias"]
        return
    yield cell.U, given[f"weight_ih_{place}"].T
    yield cell.V, given[f"weight_hh_{place}"].T
    if cell.b is not None:
        first, second = given[f"bias_ih_{place}"], given[f"bias_hh_{place}"]
        if hasattr(cell, "b_n"):
            yield cell.b_n, second[2 * cell.hidden :]
            second = np.where(np.arange(len(second)) < 2 * cell.hidden, second, 0)
        # in the wider of the dtypes, so that float64 Parameters get no float32 sum
        yield cell.b, np.add(first, second, dtype=np.result_type(first, second, cell.b.dtype))


def _weight(layer: Any) -> Any:
    """PyTorch's weight: (outputs, inputs) of a Linear, (count, size) of an Embedding."""
    if isinstance(layer, Linear) and layer.activation is not identity:
        phi = getattr(layer.activation, "__name__", repr(layer.activation))
        raise CellError(f"PyTorch's Linear has no activation, this one has {phi}: apply it after")
    return layer.W.data.T.copy() if isinstance(layer, Linear) else layer.W.numpy()


def _cells(layer: Module) -> dict[str, Any]:
    """Each cell under the end of its names in PyTorch (l0, l0_reverse, l1, ...), or CellError."""
    cells: dict[str, Any] = {}
    forms: dict[str, str] = {}
    for k, one in enumerate(_flat(layer)):
        if type(one) is RNN and not one.reverse:
            here = {f"l{k}": one.cell}
        elif type(one) is BiRNN and isinstance(one.merge, str) and one.merge == "concat":
            here = {f"l{k}": one.forward_rnn.cell, f"l{k}_reverse": one.backward_rnn.cell}
        else:
            raise CellError(f"layer {k}: {_why_not(one)}")
        cells |= here
        ways = "both ways" if len(here) == 2 else "one way"
        forms |= {place: f"{_form(cell)}, {ways}" for place, cell in here.items()}
    if len(set(forms.values())) > 1:
        raise CellError(
            "in PyTorch all layers and directions are of one kind and size; here "
            + "; ".join(f"{place} is {form}" for place, form in forms.items())
        )
    held = {id(p) for cell in cells.values() for p in cell.parameters()}
    rest = [name for name, p in layer.named_parameters().items() if id(p) not in held]
    if rest:
        raise CellError(f"PyTorch's layers have no place for the Parameters {', '.join(rest)}")
    return cells


def _flat(layer: Any) -> list[Any]:
    """The layers of a stack, and of stacks in it, in order."""
    inner = getattr(layer, "layers", None)
    return [layer] if inner is None else [one for part in inner for one in _flat(part)]


def _why_not(layer: Any) -> str:
    """What PyTorch lacks for a layer that is no forward RNN and no BiRNN with merge="concat"."""
    if type(layer) is RNN:
        return "PyTorch has no reverse=True for one direction alone; it has both, a BiRNN"
    if type(layer) is BiRNN:
        return f"PyTorch joins both directions as merge='concat'; this BiRNN has {layer.merge!r}"
    return (
        f"PyTorch's RNN, LSTM and GRU have no place for a {type(layer).__name__}, only for RNN, "
        "BiRNN and stacks of them. Convert those alone"
    )


def _form(cell: Cell) -> str:
    """What must agree between cells, as text; CellError where PyTorch lacks it."""
    kind, units = type(cell), f"{getattr(cell, 'hidden', '?')} units"
    if isinstance(cell, RNNCell) and kind is RNNCell:
        phi = getattr(cell.activation, "__name__", repr(cell.activation))
        if cell.activation is np.tanh or cell.activation is relu:
            return f"RNNCell({phi}), {units}, {'no ' if cell.b is None else ''}bias"
        raise CellError(f"PyTorch's RNN has the activations tanh and relu; this cell has {phi}")
    if isinstance(cell, GRUCell) and not cell.reset_after:
        raise CellError("PyTorch's GRU lacks reset_after=False: r acts after the product with V")
    if kind in (LSTMCell, GRUCell):
        return f"{kind.__name__}, {units}"
    raise CellError(f"PyTorch has RNNCell, LSTMCell and GRUCell alone; it lacks {kind.__name__}")
