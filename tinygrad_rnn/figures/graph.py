"""The computation graph of a small expression, and the layered layout of such pictures.

Three rooms: `recorded` and `traced` read a graph as a list of Parts (leaves, constants, calls);
`Layout` gives boxes and lines their places, layer by layer; `graph` draws. Folded cells (cell.py)
use the first two as well.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..canvas.pen import Figure, Label, Pen, Point, text_width
from ..canvas.words import say
from ..errors import FigureError, description_of, graph_freed
from ..graph import INSIDE, Key, Node, pull
from ..module import Module, Parameter
from ..nests import leaves, map_tree
from ..primitives import ARRAY, Slice
from ..record import recording
from ..scan import trace
from ..scan.trace import Recorder, Var
from ..tensor import Tensor
from ..vjp import OUT, XS

MOST = 60  # boxes in one picture; of a longer graph the youngest
SIGNS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "negative": "−"}
ORDERED = {"subtract", "divide", "matmul", "power", "dot"}  # which operand is first matters


def graph(
    what: Any,
    *args: Any,
    values: bool = False,
    gradients: bool = False,
    names: Any = None,
    title: str = "",
    lang: str = "en",
) -> Figure:
    """The computation graph of an expression: leaves, calls, and which result goes where.

        graph(lambda a, b: np.tanh(a * b) + a, 0.5, 2.0, values=True, gradients=True).save("g.svg")
        graph(loss, names=model)            # what a Tensor's backward would walk

    what       a Tensor: the graph that was recorded behind it; constants are not part of that. Or a
               function: it is run on `args` as Tensors, and every value is known
    args       arrays of any shape, Tensors or numbers (or nests of them) for the function
    values     show values: of numbers 4 digits, of arrays the shape (the first numbers in the
               tooltip). Behind a Tensor only those are known that the way back needs
    gradients  show the gradient of the result with respect to everything (of the sum of the
               result's elements, where it has several). No `.grad` changes, the graph stays
    names      a dict of names and Tensors, or a Module
    lang       "en" or "ja"
    Only the youngest 60 boxes are drawn, the rest is counted. Raises FigureError for a `what` that
    has no graph, GraphFreedError where backward has freed it.
    """
    known = _named(what if isinstance(what, Module) else None, names)
    if isinstance(what, Tensor):
        if args:
            raise FigureError("graph(tensor) takes no arguments: they are for a function")
        found = recorded(what, known)
        name = next((name for name, tensor in known if tensor is what), "")
    elif callable(what):
        found = traced(what, args, known)
        name = getattr(what, "__name__", type(what).__name__).replace("<lambda>", "")
    else:
        raise FigureError(
            f"a graph is drawn of a Tensor, or of a function and its arguments; got {what!r:.60}"
        )
    if gradients:
        _differentiate(found)
    plain = say("Computation graph", lang)
    whole = say("Computation graph of {name}", lang, name=name) if name else plain
    return _picture(found, values, gradients, title, title or whole, lang)


# ----- what a graph is made of -------------------------------------------------------------------


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


def _named(*sources: Any) -> list[tuple[str, Tensor]]:
    """Names, and the Tensors that bear them."""
    found: list[tuple[str, Tensor]] = []
    for source in sources:
        if isinstance(source, Module):
            found += source.named_parameters().items()
        elif isinstance(source, dict):
            found += [(str(name), tensor) for name, tensor in source.items()]
        elif source is not None:
            raise FigureError(f"names: expected a dict of Tensors, or a Module; got {source!r:.60}")
    for name, tensor in found:
        if not isinstance(tensor, Tensor):
            raise FigureError(f"names[{name!r}]: expected a Tensor, got {tensor!r:.60}")
    return found


# ----- a Tensor's own graph ----------------------------------------------------------------------


def recorded(tensor: Tensor, names: Iterable[tuple[str, Tensor]] = ()) -> Found:
    """The nodes behind a Tensor, oldest first; at most MOST of them.

    recorded(np.tanh(x)).parts      # a leaf, and a call of tanh
    """
    if tensor._key is None:
        raise FigureError(
            "this Tensor has no graph: nothing that it was made of requires a gradient. "
            "Draw the function instead, graph(f, x), or use requires_grad=True"
        )
    seen = {tensor._key[0]}
    stack = [tensor._key[0]]
    while stack:
        node = stack.pop()
        if node.edges is None:
            raise graph_freed(node)
        for _, (parent, _), _ in node.edges:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    young = sorted(heapq.nlargest(MOST, seen, key=attrgetter("id")), key=attrgetter("id"))
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
    return Found(list(parts.values()), [result], len(seen) - len(young), frozenset(behind))


def _fill(parts: dict[Node, Part]) -> None:
    """Values that nodes kept for the way back, put where they belong."""
    for node in parts:
        rule: Any = node.rule
        for i, _, kept in (node.edges or ()) if rule else ():
            keys = {j: key for j, key, _ in node.edges or ()}
            asks = rule.asks[0 if rule.shared else i] or ()
            for ask, array in zip(asks, kept, strict=True):
                pairs: list[tuple[Key | None, Any]] = []
                if ask >= 0:
                    pairs = [(keys.get(ask), array)]
                elif ask == XS:
                    pairs = [(keys.get(len(rule.vjps) + k), a) for k, a in enumerate(array)]
                elif ask == OUT:
                    outs = array if node.several else (array,)
                    pairs = [((node, slot), out) for slot, out in enumerate(outs)]
                for key, value in pairs:
                    if key is not None and key[0] in parts:
                        parts[key[0]].outs[key[1]].array = value


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


def _differentiate(found: Found) -> None:
    """Every value's gradient: of the first result that has one, or of the sum of its elements."""
    every = [value for part in found.parts for value in part.outs if value.key]
    results = [part.outs[slot] for part, slot in found.results if part.outs[slot].key]
    if not results:
        raise FigureError("gradients=True: nothing that the result was made of has a gradient")
    result = results[0]
    assert result.key is not None
    ones = np.ones(result.shape, result.key[0].dtypes[result.key[1]])
    with np.errstate(all="ignore"):
        pulled = pull({result.key: ones}, {v.key for v in every if v.key}, retain=True)
    for value in every:
        if value.key is not None:
            value.gradient = pulled.get(value.key, np.zeros(value.shape))


# ----- the layout: layers, few crossings, straight lines -----------------------------------------


class Link(NamedTuple):
    """A line from one box to another: by their numbers, result and argument."""

    source: int
    target: int
    out: int = 0
    into: int = 0
    tip: str = ""


class Segment(NamedTuple):
    """A piece of a line between neighbouring layers, and where on its boxes it leaves and arrives.

    `lean` and `reach` go from -1/2, the beginning of a box's side, to 1/2.
    """

    upper: int
    lower: int
    lean: float
    reach: float


GAP = 18  # between boxes of a layer
APART = 9  # between lines that reach the same box


class Layout:
    """Places for boxes, in layers from the sources on, and ways for the lines between them.

        layout = Layout([(40, 30)] * 3, [Link(0, 1), Link(1, 2), Link(0, 2)])
        layout.at[0], layout.ways[2]      # a box's middle; the points of a line

    Sizes and places are (along, across): along grows from layer to layer. Boxes are numbered so
    that links lead to higher numbers. `first` and `last`: boxes that stand alone in the first and
    in the last layer, in this order. `counts`: how many results a box has; `ordered`: the boxes
    whose lines arrive in the order of their arguments. (Layers: Sugiyama 1981.)
    """

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        links: Sequence[Link],
        first: Sequence[int] = (),
        last: Sequence[int] = (),
        counts: Sequence[int] = (),
        ordered: Iterable[int] = (),
    ) -> None:
        self.sizes, self.links, self.ordered = list(sizes), list(links), set(ordered)
        self.counts = list(counts) or [1] * len(sizes)
        self.rank = _ranks(len(sizes), self.links, first, last)
        self.chains = self._chains()
        self.layers = self._layers(first, last)
        self._uncross(bool(first), bool(last))
        self.across = self._settle()
        self._put()

    def _chains(self) -> list[list[int]]:
        """For each link the items that it passes: the source, a point in each layer, the target.

        Lines of one value share their points as long as they can; parallel ones do not.
        """
        self.items = list(self.rank)  # the layer of each item: boxes, then points
        shared: dict[tuple[int, int, int, int], int] = {}
        twins: dict[tuple[int, int, int], int] = {}
        chains = []
        for link in self.links:
            pair = (link.source, link.out, link.target)
            twin = twins[pair] = twins.get(pair, -1) + 1
            chain = [link.source]
            for layer in range(self.rank[link.source] + 1, self.rank[link.target]):
                key = (link.source, link.out, twin, layer)
                if key not in shared:
                    shared[key] = len(self.items)
                    self.items.append(layer)
                chain.append(shared[key])
            chains.append([*chain, link.target])
        return chains

    def _layers(self, first: Sequence[int], last: Sequence[int]) -> list[list[int]]:
        """The items of each layer, and the segments behind each."""
        count = max(self.items, default=0) + 1
        layers: list[list[int]] = [[] for _ in range(count)]
        for item, layer in enumerate(self.items):
            layers[layer].append(item)
        for fixed, layer in ((first, 0), (last, count - 1)):
            layers[layer] = list(fixed) or layers[layer]
        self.segments: list[list[Segment]] = [[] for _ in layers]
        for link, chain in zip(self.links, self.chains, strict=True):
            lean = (link.out + 1) / (self.counts[link.source] + 1) - 0.5
            reach = 0.2 * min(link.into, 2) - 0.2 if link.target in self.ordered else 0.0
            for a, b in itertools.pairwise(chain):
                ends = lean if a == link.source else 0.0, reach if b == link.target else 0.0
                self.segments[self.items[a]].append(Segment(a, b, *ends))
        return layers

    def _uncross(self, first: bool, last: bool) -> None:
        """Find an order of each layer with few crossings: from several starts, keep the best."""
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        fixed = {0} if first else set()
        fixed |= {len(self.layers) - 1} if last else set()
        few = sum(map(len, self.segments)) < 300
        for start in range(8 if few else 1):
            rng = np.random.default_rng(start)
            if start:
                self.layers = [
                    layer if k in fixed else [layer[i] for i in rng.permutation(len(layer))]
                    for k, layer in enumerate(best)
                ]
            for sweep in range(24):
                if not fewest:
                    break
                self._sweep(sweep, fixed)
                crossings = self._crossings()
                if crossings < fewest:
                    best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers, self.crossings = best, fewest

    def _sweep(self, sweep: int, fixed: set[int]) -> None:
        """Put each item near the middle of what it is joined to in the layer before, or after."""
        count, down = len(self.layers), sweep % 2 == 0
        # every other time equal wishes change places: otherwise some knots never open
        turn = -1 if sweep % 4 > 1 else 1
        for k in range(1, count) if down else range(count - 2, -1, -1):
            if k in fixed:
                continue
            near = self.layers[k - 1 if down else k + 1]
            place = {item: p for p, item in enumerate(near)}
            met: dict[int, list[float]] = {}
            for a, b, lean, reach in self.segments[k - 1 if down else k]:
                shift = lean - reach
                here, there = (b, place[a] + shift) if down else (a, place[b] - shift)
                met.setdefault(here, []).append(there)
            own = {item: float(p) for p, item in enumerate(self.layers[k])}
            wish = {i: sum(met[i]) / len(met[i]) if i in met else own[i] for i in own}
            ordered = sorted((wish[i], turn * own[i], i) for i in own)
            self.layers[k] = [item for _, _, item in ordered]

    def _crossings(self) -> int:
        """How many pairs of segments cross."""
        total = 0
        for k, segments in enumerate(self.segments[:-1]):
            upper = {item: p for p, item in enumerate(self.layers[k])}
            lower = {item: p for p, item in enumerate(self.layers[k + 1])}
            pairs = np.array(
                [(upper[a] + lean, lower[b] + reach) for a, b, lean, reach in segments]
            )
            if len(pairs):
                a, b = pairs.T
                before = (a[:, None] < a) & (b[:, None] > b)
                total += int(before.sum())
        return total

    def _settle(self) -> list[float]:
        """Where the items are, across: near their neighbours, in their order, apart."""
        thick = [self.sizes[i][1] if i < len(self.sizes) else 4 for i in range(len(self.items))]
        at = [0.0] * len(self.items)
        steps: list[list[float]] = []
        for layer in self.layers:
            places = [0.0]
            for a, b in itertools.pairwise(layer):
                places.append(places[-1] + (thick[a] + thick[b]) / 2 + GAP)
            steps.append(places)
            for item, place in zip(layer, places, strict=False):
                at[item] = place - places[-1] / 2
        ahead: list[list[tuple[int, float, float]]] = [[] for _ in self.items]
        back: list[list[tuple[int, float, float]]] = [[] for _ in self.items]
        boxes = len(self.sizes)
        for a, b, lean, _ in itertools.chain(*self.segments):
            weight = 1.0 + 2 * (a >= boxes) + 2 * (b >= boxes)  # long lines want to be straight
            ahead[a].append((b, -lean * thick[a], weight))
            back[b].append((a, lean * thick[a], weight))
        count = len(self.layers)
        for sweep in range(60):
            down, both = sweep % 2 == 0 or sweep >= 40, sweep >= 16
            for k in range(count) if down else range(count - 1, -1, -1):
                wishes, weights = [], []
                for item in self.layers[k]:
                    near = (back[item] if down or both else []) + (
                        ahead[item] if both or not down else []
                    )
                    if sweep >= 40 and item >= boxes:  # level, and one bend at the end
                        near = [(i, s, 20 * w) for i, s, w in back[item]]
                    weight = sum(w for _, _, w in near)
                    wish = sum((at[i] + s) * w for i, s, w in near) / weight if near else at[item]
                    wishes.append(wish)
                    weights.append(weight or 0.1)
                for item, place in zip(
                    self.layers[k], _nearest(wishes, weights, steps[k]), strict=True
                ):
                    at[item] = place
        return at

    def _put(self) -> None:
        """Places along, and the points of every line."""
        boxes = len(self.sizes)
        thick = [max([self.sizes[i][0] for i in layer if i < boxes], default=0)
                 for layer in self.layers]  # fmt: skip
        starts, place = [], 0.0
        for k, size in enumerate(thick):
            starts.append(place)
            moves = [abs(self.across[a] - self.across[b]) for a, b, _, _ in self.segments[k]]
            place += size + min(34 + 0.14 * max(moves, default=0), 90)
        self.length = starts[-1] + thick[-1]
        middle = [start + size / 2 for start, size in zip(starts, thick, strict=True)]
        self.at = [(middle[self.rank[k]], self.across[k]) for k in range(boxes)]
        arrive = self._arrivals()
        self.ways: list[list[Point]] = []
        twins: dict[tuple[int, int, int], int] = {}
        total: dict[tuple[int, int, int], int] = {}
        for link in self.links:
            pair = link.source, link.out, link.target
            total[pair] = total.get(pair, 0) + 1
        for j, (link, chain) in enumerate(zip(self.links, self.chains, strict=True)):
            pair = link.source, link.out, link.target
            twin = twins[pair] = twins.get(pair, -1) + 1
            a, b = link.source, link.target
            spread = self.sizes[a][1] * ((link.out + 1) / (self.counts[a] + 1) - 0.5)
            leave = self.across[a] + spread + (twin - (total[pair] - 1) / 2) * APART
            ka, kb = self.rank[a], self.rank[b]
            points = [
                (self.at[a][0] + self.sizes[a][0] / 2, leave),
                (starts[ka] + thick[ka], leave),
            ]
            for item in chain[1:-1]:
                k = self.items[item]
                points += [(starts[k], self.across[item])]
                points += [(starts[k] + thick[k], self.across[item])]
            points += [(starts[kb], arrive[j]), (self.at[b][0] - self.sizes[b][0] / 2, arrive[j])]
            kept = [p for p, q in itertools.pairwise(points) if abs(q[0] - p[0]) > 0.5]
            self.ways.append([*kept, points[-1]])

    def _arrivals(self) -> list[float]:
        """Where each line reaches its box: side by side, in the order in which they come."""
        arrive = [0.0] * len(self.links)
        reach: dict[int, list[int]] = {}
        for j, link in enumerate(self.links):
            reach.setdefault(link.target, []).append(j)
        for target, lines in reach.items():
            if target in self.ordered:
                lines.sort(key=lambda j: self.links[j].into)
            else:
                lines.sort(key=lambda j: (self.across[self.chains[j][-2]], self.links[j][2:4]))
            size = self.sizes[target][1]
            step = min(APART, 0.8 * size / len(lines))
            for k, j in enumerate(lines):
                arrive[j] = self.across[target] + (k - (len(lines) - 1) / 2) * step
        return arrive


def _ranks(count: int, links: list[Link], first: Sequence[int], last: Sequence[int]) -> list[int]:
    """Layers by the longest path; what depends on no input waits until it is used."""
    start = set(first)
    into: list[list[Link]] = [[] for _ in range(count)]
    out: list[list[Link]] = [[] for _ in range(count)]
    for link in links:
        into[link.target].append(link)
        out[link.source].append(link)
    rank = [0 if k in start else 1 if first else 0 for k in range(count)]
    loose = [False] * count
    for k in range(count):
        rank[k] = max([rank[k], *[rank[link.source] + 1 for link in into[k]]])
        loose[k] = k not in start and all(
            loose[link.source] and (len(out[link.source]) == 1 or not into[link.source])
            for link in into[k]
        )
    end = max(rank, default=0)
    if last:
        end = max([rank[k] for k in range(count) if k not in last], default=0) + 1
    for k in reversed(range(count)):
        if k in last:
            rank[k] = end
        elif loose[k] and out[k]:
            rank[k] = min(rank[link.target] for link in out[k]) - 1
    return rank


def _nearest(wishes: list[float], weights: list[float], steps: list[float]) -> list[float]:
    """The places nearest to the wishes that keep order and distances: pool adjacent violators."""
    blocks: list[list[float]] = []  # weighted sum, weight, how many
    for wish, weight, step in zip(wishes, weights, steps, strict=False):
        blocks.append([(wish - step) * weight, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [x + y for x, y in zip(blocks[-1], last, strict=True)]
    flat = [total / weight for total, weight, count in blocks for _ in range(int(count))]
    return [place + step for place, step in zip(flat, steps, strict=False)]


# ----- drawing -----------------------------------------------------------------------------------


def lettered(name: str) -> Label:
    """A name as mathematics writes it: W_ax with its subscript.

    lettered("W_ax")      # ('W', 'ax')
    """
    match = re.fullmatch(r"([^\W_]+)_(\w{1,2})", name)
    return (match[1], match[2]) if match else name


def short(array: Any) -> str:
    """The first numbers of an array.

    short(np.arange(9.0))      # '0, 1, 2, 3, 4, 5, …'
    """
    flat = np.asarray(array).reshape(-1)
    text = ", ".join(digits(v) for v in flat[:6])
    return text + ", …" if flat.size > 6 else text


def digits(value: Any) -> str:
    """A number in four digits.

    digits(2 / 3)      # '0.6667'
    """
    return f"{value:.4g}" if np.asarray(value).dtype.kind == "f" else str(value)


def sign(part: Part) -> str:
    """What a call's box says: `+`, `tanh`, `[:, 0]`."""
    if part.label:
        return part.label
    if part.what == "getitem":
        index = ", ".join(map(_index, part.static.get("index", ())))
        return f"[{index}]" if len(index) < 14 else "[…]"
    return SIGNS.get(part.what, part.what)


def _index(item: Any) -> str:
    if isinstance(item, Slice):
        start, stop, step = ("" if n is None else str(n) for n in item)
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return "…" if item is Ellipsis or item is ARRAY else str(item)


def _picture(
    found: Found, values: bool, gradients: bool, title: str, name: str, lang: str
) -> Figure:
    """The picture, from left to right."""
    boxes = [_look(part, values, gradients, lang) for part in found.parts]
    number = {part: k for k, part in enumerate(found.parts)}
    ahead = 1 if found.hidden else 0  # the box for the rest is number 0
    links = [
        Link(number[source] + ahead, number[part] + ahead, slot, i, meaning(source, slot))
        for part in found.parts
        for i, source, slot in part.ins
    ]
    if found.hidden:
        links += [Link(0, number[part] + 1) for part in found.parts if part in found.behind]
        rest = say("{count} more", lang, count=f"{found.hidden:,}")
        boxes.insert(0, Look(("…"), [(rest, "faint")], "box dashed", tip=rest))
    weights = [k for k, box in enumerate(boxes) if box.coloured]
    parts: list[Part | None] = [*[None] * ahead, *found.parts]
    layout = Layout(
        [box.size for box in boxes],
        links,
        counts=[1 if part is None else len(part.outs) for part in parts],
        ordered=[k for k, part in enumerate(parts) if part and part.what in ORDERED],
    )
    pen = Pen()
    if title:
        pen.text(0, min(y for _, y in layout.at) - 40, title, "start", 15)
    for link, way in zip(links, layout.ways, strict=True):
        pen.curve(way[0], way[-1], "edge", True, link.tip, through=way[1:-1])
    for k, (box, place) in enumerate(zip(boxes, layout.at, strict=True)):
        box.draw(pen, place, weights.index(k) if box.coloured else None)
    _legend(pen, found, gradients, lang)
    return pen.figure(name, _told(found, lang), lang)


class Look(NamedTuple):
    """How a box looks."""

    label: Label
    lines: Sequence[tuple[str, str]] = ()
    kind: str = "box"
    coloured: bool = False
    tip: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """As wide and high as the text asks for."""
        widest = max([text_width(line, 11) for line, _ in self.lines], default=0)
        return max(
            58 if self.coloured else 34, text_width(self.label) + 16, widest + 12
        ), 28 + 13 * len(self.lines)

    def draw(self, pen: Pen, middle: Point, colour: int | None) -> None:
        """The box around a middle."""
        (x, y), (wide, high) = middle, self.size
        pen.box(x - wide / 2, y - high / 2, self.label, wide, high, "", self.kind, None, self.tip,
                None, colour, self.lines)  # fmt: skip


def _look(part: Part, values: bool, gradients: bool, lang: str) -> Look:
    """The box of a part."""
    first = part.outs[0]
    lines, tips = [], [part.tip]
    label: Label = sign(part) if part.call else lettered(first.name)
    for value in part.outs:
        who = f"{value.name} = " if value.name and (part.call or len(part.outs) > 1) else ""
        if value.array is not None and values and value.array.size:
            tips.append(f"{who or '= '}{short(value.array)}")
        if value.gradient is not None and gradients:
            tips.append(f"{say('gradient', lang)} {short(value.gradient)}")
    named = ", ".join(value.name for value in part.outs if value.name) if part.call else ""
    known = first.array is not None and first.array.size == 1 and len(part.outs) == 1
    number = digits(first.array.reshape(-1)[0]) if known else ""
    if not part.call and not first.name:
        label = number if number and part.what == "constant" else say(part.what, lang)
        number = "" if label == number else number
    shape = str(first.shape) if first.shape and len(part.outs) == 1 else ""
    if len(part.outs) > 1:
        shape = f"{first.shape}" if named else f"{len(part.outs)} × {first.shape}"
    if number and values:
        lines.append((f"{named} = {number}".strip(), "faint"))
    elif named or shape:
        lines.append((f"{named} {shape}".strip(), "faint"))
    gs = [value.gradient for value in part.outs if value.gradient is not None]
    if gradients and gs:
        single = len(gs) == 1 and gs[0].size == 1
        at = gs[0].reshape(-1)[0] if single else max(np.abs(g).max(initial=0) for g in gs)
        lines.append((("∂ " if single else "|∂| ≤ ") + digits(at), "backtext"))
    kind = "box" if part.call else "box dashed" if part.what == "constant" else "box thick"
    return Look(label, lines, kind, part.what == "leaf", "\n".join(tips))


def meaning(part: Part, slot: int) -> str:
    """A line's tooltip: what goes along it.

    meaning(part, 0)      # 'z (2, 4)'
    """
    value = part.outs[slot]
    return f"{value.name or part.label or part.what} {value.shape}".strip()


def _legend(pen: Pen, found: Found, gradients: bool, lang: str) -> None:
    """What frames and signs mean, below the picture."""
    kinds = {part.what for part in found.parts if not part.call}
    told = [say("coloured frame: leaf", lang)] if "leaf" in kinds else []
    told += [say("dashed: constant", lang)] if "constant" in kinds else []
    told += [say("∂: gradient of the result", lang)] if gradients else []
    if gradients and any(value.gradient.size > 1 for part in found.parts for value in part.outs
                         if value.gradient is not None):  # fmt: skip
        told.append(say("|∂| ≤: of arrays, the largest absolute value", lang))
    if told and pen.parts:
        pen.text(pen.left, pen.bottom + 26, " · ".join(told), "start", 11, "faint")


def _told(found: Found, lang: str) -> str:
    """The picture in words."""
    calls = [part for part in found.parts if part.call]
    told = [say("{count} operations", lang, count=len(calls) + found.hidden)]
    for part in calls[:30]:
        names = [source.outs[slot].name or _word(source, lang) for _, source, slot in part.ins]
        into = ", ".join(value.name for value in part.outs if value.name)
        whole = f"{part.what} ({into})" if into else part.what
        listed = say(", ", lang).join(names) or "…"
        told.append(say("{names} lead to {call}", lang, names=listed, call=whole))
    return "; ".join(told) + ("; …" if len(calls) > 30 else "")


def _word(part: Part, lang: str) -> str:
    """What the text calls a result without a name."""
    if part.call:
        return part.what
    if part.what == "constant" and part.outs[0].array is not None and part.outs[0].array.size == 1:
        return digits(part.outs[0].array.reshape(-1)[0])
    return say(part.what, lang)
