"""Parts: what a graph is made of, read from a Tensor's nodes or from a run of a function."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FigureError, description_of
from ..graph import INSIDE, Key, Node, _path
from ..module import Parameter
from ..nests import leaves, map_tree
from ..record import recording
from ..scan import trace
from ..scan.trace import Recorder, Var
from ..tensor import Tensor
from ..unfold import kept_by

MOST = 60  # parts in one picture; of a longer graph the youngest


@dataclass(eq=False)
class Value:
    """One result: its shape, and what else is known of it."""

    shape: tuple[int, ...]
    name: str = ""
    array: Any = None
    key: Key | None = None
    gradient: Any = None


@dataclass(eq=False)
class Part:
    """A leaf, a constant or a call; `ins` says for each argument which result of which part."""

    what: str  # "leaf", "constant", or the function's name
    outs: list[Value]
    ins: list[tuple[int, Part, int]] = field(default_factory=list)  # argument, part, its result
    tip: str = ""
    static: dict[str, Any] = field(default_factory=dict)
    call: bool = True
    group: Any = None  # calls of the same group were made by one function of functions.py
    weight: bool = False  # a Parameter, or a product with one
    label: str = ""  # what its box says, where that is something else,
    small: str = ""  # and the line below


class Found(NamedTuple):
    """A graph that was read: parts, sources first; what it leads to; how many were left out."""

    parts: list[Part]
    results: list[tuple[Part, int]]
    hidden: int = 0
    behind: frozenset[Part] = frozenset()  # parts with an input that was left out


# ----- a Tensor's own graph ----------------------------------------------------------------------


def recorded(tensor: Tensor, names: Iterable[tuple[str, Tensor]] = ()) -> Found:
    """The nodes behind a Tensor, oldest first; at most MOST of them.

    recorded(np.tanh(x)).parts      # a leaf, and a call of tanh
    """
    if tensor._key is None:
        raise FigureError(
            "this Tensor has no graph: nothing that it was made of needs a gradient, or it was "
            "made inside tg.no_grad(). Draw the function instead, tg.draw(f, args=(x,)), or use "
            "requires_grad=True"
        )
    nodes = _path({tensor._key: None}, None, cut=False)
    young = nodes[-MOST:]
    parts, behind = dict[Node, Part](), set[Part]()
    for node in young:
        keys = [(node, slot) for slot in range(len(node.shapes))]
        outs = [Value(shape, key=key) for shape, key in zip(node.shapes, keys, strict=True)]
        what = node.rule.name if node.rule else "leaf"
        static = {} if node.rule is None else node.static
        tip = re.sub(r" #\d+", "", description_of(node))  # the number differs from run to run
        part = Part(what, outs, [], tip, static, node.rule is not None)
        for i, (parent, slot), _ in node.edges or ():
            if parent in parts:
                part.ins.append((i, parts[parent], slot))
            else:
                behind.add(part)
        parts[node] = part
    _fill(parts)
    for name, named in [("", tensor), *names]:
        if named._key and named._key[0] in parts:
            value = parts[named._key[0]].outs[named._key[1]]
            value.array, value.name = named._data, name or value.name
    result = (parts[tensor._key[0]], tensor._key[1])
    return Found(list(parts.values()), [result], len(nodes) - len(young), frozenset(behind))


def _fill(parts: dict[Node, Part]) -> None:
    """Values that nodes kept for the way back, put where they belong."""
    for node in parts:
        for (source, slot), value in kept_by(node, node.edges or []):
            if source in parts:
                parts[source].outs[slot].array = value


# ----- a function's graph ------------------------------------------------------------------------

LIBRARY = {str(Path(__file__).parents[1] / f"{name}.py") for name in ("functions", "losses")}


class Notes(Recorder):
    """A Recorder that also keeps every value, and which function of the library made a call."""

    def __init__(self, titles: dict[int, str]) -> None:
        super().__init__(titles)
        self.makers: dict[Var, Any] = {}

    def name(self, operand: Any, var: Var) -> Var:
        """Let an object stand for a Var from now on; its values stay at hand."""
        if var.value is None:
            var.value = operand._data
        self.makers[var] = _maker()
        return super().name(operand, var)


def _maker() -> Any:
    """The frame of the library's function, layer_norm say, that made the call under way."""
    frame, found = sys._getframe(2), None
    while frame.f_code.co_filename in (*INSIDE, trace.__file__) and frame.f_back:
        found = frame if frame.f_code.co_filename in LIBRARY else found
        frame = frame.f_back
    return found


def traced(
    function: Callable[..., Any], args: Sequence[Any], names: Iterable[tuple[str, Tensor]] = ()
) -> Found:
    """The calls that a function makes when it is run on `args` as Tensors.

    traced(lambda a, b: a * b, (2.0, 3.0)).parts      # two leaves, and a call of multiply
    """
    recorder = Notes({id(tensor): name for name, tensor in names})
    inputs: list[Tensor] = []

    def given(name: str, arg: Any) -> Any:
        """Tensors of our own, under the name of the parameter."""
        count = len(leaves(arg))

        def lifted(a: Any) -> Any:
            if isinstance(a, (bool, str)) or a is None or callable(a):
                return a
            array = np.asarray(getattr(a, "_data", a))
            if array.dtype.kind in "OSU":  # a generator, a list of words: not ours
                return a
            tensor = Tensor(array, requires_grad=array.dtype.kind == "f")
            title = f"{name}{len(inputs)}" if count > 1 else name
            recorder.name(tensor, Var(title, tensor.shape, tensor.dtype))
            inputs.append(tensor)
            return tensor

        return map_tree(lifted, arg)

    with recording(watch=recorder.watch, tracking=True), np.errstate(all="ignore"):
        called = [given(name, arg) for name, arg in zip(_parameters(function), args, strict=False)]
        result = function(*called)
    ends = [recorder.known[id(a)] for a in leaves(result) if id(a) in recorder.known]
    found = parts_of(recorder, ends, [recorder.known[id(a)] for a in inputs])
    hidden = max(0, len(found.parts) - MOST)
    shown = set(found.parts[hidden:])
    behind = frozenset(p for p in shown if any(source not in shown for _, source, _ in p.ins))
    for part in shown:
        part.ins = [link for link in part.ins if link[1] in shown]
    return Found(found.parts[hidden:], found.results, hidden, behind)


def _parameters(function: Callable[..., Any]) -> Iterator[str]:
    """The names of a function's positional parameters; x0, x1, ... where there are none."""
    parameters: list[inspect.Parameter] = []
    with suppress(ValueError, TypeError):  # functions written in C may have no signature
        parameters = list(inspect.signature(function).parameters.values())
    for k in itertools.count():
        parameter = parameters[k] if k < len(parameters) else None
        if parameter is None or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            yield from (f"x{j}" for j in itertools.count(k))
        else:
            yield parameter.name


def parts_of(recorder: Notes, ends: Sequence[Var], inputs: Sequence[Var]) -> Found:
    """What a recorder saw, as Parts: the inputs come first, then what leads to the ends."""
    needed, ops = set(ends), []
    for op in reversed(recorder.ops):
        if not ends or needed.intersection(op.outs):
            ops.append(op)
            needed.update(op.reads)
    parts: list[Part] = []
    place: dict[Var, tuple[Part, int]] = {}

    def source(v: Any) -> tuple[Part, int]:
        """What was there before: an input, a weight, a constant."""
        tensor = recorder.tensor[v] if isinstance(v, Var) else v
        leaf = isinstance(tensor, Tensor) and (tensor.requires_grad or v in inputs)
        array = np.asarray(getattr(tensor, "_data", tensor))
        given = v in inputs or id(tensor) in recorder.titles  # others have no name of their own
        name = v.name if isinstance(v, Var) and given else ""
        value = Value(array.shape, name, array, getattr(tensor, "_key", None))
        weight = isinstance(tensor, Parameter)
        tip = f"{name} {array.shape}".strip()
        part = Part("leaf" if leaf else "constant", [value], [], tip, {}, False, None, weight)
        parts.append(part)
        if isinstance(v, Var):
            place[v] = part, 0
        return part, 0

    made = {v for op in ops for v in op.outs}
    for v in (*inputs, *ends):
        if v not in place and v not in made:
            source(v)
    for op in reversed(ops):
        ins = []
        for i, v in enumerate(op.ins):
            ins.append((i, *(place[v] if isinstance(v, Var) and v in place else source(v))))
        outs = []
        for v in op.outs:
            tensor = recorder.tensor[v]
            outs.append(Value(v.shape, v.name if v.named else "", tensor._data, tensor._key))
        shapes = ", ".join(str(v.shape) for v in op.outs)
        tip = f"{op.rule.name} {shapes}: {op.line}"
        part = Part(op.rule.name, outs, ins, tip, op.static, True, recorder.makers[op.outs[0]])
        parts.append(part)
        place.update((v, (part, slot)) for slot, v in enumerate(op.outs))
    return Found(parts, [place[v] for v in ends])
