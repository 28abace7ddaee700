"""Lanes: what a recorded graph looks like along time.

The nodes of a graph know their places: which loop made them, at which time step. `lanes` turns that
into rows of a picture, bottom to top: inputs, a row for each loop ("lane"), a row where directions
are merged, a row where a readout makes outputs, with the weights of each and what each row reads.
"""

from __future__ import annotations

import ast
import itertools
import linecache
from dataclasses import dataclass, field
from typing import Any

from ..errors import no_time_steps
from ..graph import Key, Leaf, Node
from ..module import Module
from ..nests import leaves
from ..primitives import unstack
from ..tensor import Tensor
from ..unfold import Unfolded


@dataclass(eq=False)
class Row:
    """One row of the picture: a box for each time step."""

    kind: str  # "input", "lane", "merge" or "head"
    steps: int
    title: str = ""
    reverse: bool = False
    weights: dict[Key, set[int]] = field(default_factory=dict)  # each with the steps that use it
    below: list[Row] = field(default_factory=list)  # read at the same time step
    before: list[tuple[Row, int]] = field(default_factory=list)  # a lane's first step reads these
    everything: list[Row] = field(default_factory=list)  # each step reads all of this row's
    used: set[int] = field(default_factory=set)  # steps that are there
    carried: dict[int, set[Key]] = field(default_factory=dict)  # what other steps read of each
    left: dict[int, set[Key]] = field(default_factory=dict)  # what others than the lane read
    call: Any = None
    offset: int = 0  # columns to the left of the first step
    level: int = 0

    @property
    def travel(self) -> list[int]:
        """The time steps in the order of travel."""
        return list(range(self.steps))[:: -1 if self.reverse else 1]


Source = tuple[Row, int] | Key  # a step of a lane, or a weight


class Lanes:
    """The rows of a recorded graph, and the names of the weights.

    rows   bottom to top: those that read come after those that they read
    names  of each weight, with its shape
    ends   which rows the drawn Tensor itself reads, and at which steps
    """

    def __init__(self, graph: Unfolded, roots: list[Tensor], names: Any = None) -> None:
        self.graph = graph
        self.lanes: dict[Any, Row] = {}
        self.reach: dict[Node, set[Source]] = {}  # untimed nodes: what they were made of
        self.slices: dict[Node, dict[int | None, set[Source]]] = {}
        self.cross: dict[Row, dict[int, set[tuple[bool, Source]]]] = {}
        self.heads: list[tuple[set[Key], set[tuple[Row, int]]]] = []
        self.uses: dict[Key, tuple[Node, int]] = {}  # of weights: where first
        for node in graph.nodes:
            if node.place.t is None:
                self._outside(node)
            else:
                self._inside(node)
        if not self.lanes:
            raise no_time_steps()
        for lane in self.lanes.values():
            self._complete(lane)
        self._named(names)
        self.rows: list[Row] = []
        for lane in self.lanes.values():
            self._placed(lane)
        ends = [self._sources(graph.real(root._key)) for root in roots]
        self.ends = self._top({s for end in ends for s in end})

    # ----- reading the graph

    def _lane(self, node: Node) -> Row:
        place = node.place
        key = place.call or (place.path, place.direction)
        if key not in self.lanes:
            reverse = place.direction == "reverse"
            title = ", ".join(part for part in (place.path, place.direction) if part)
            steps = len(leaves(place.call.x)[0]) if place.call else 0
            self.lanes[key] = Row("lane", steps, title, reverse, call=place.call)
        return self.lanes[key]

    def _inside(self, node: Node) -> None:
        """A node of a step: which weights it uses, what it reads from other steps and rows."""
        row, t = self._lane(node), node.place.t
        assert t is not None
        row.used.add(t)
        row.steps = max(row.steps, t + 1)
        for i, key, _ in self.graph.edges(node):
            parent = key[0]
            if isinstance(parent, Leaf):
                row.weights.setdefault(key, set()).add(t)
                self.uses.setdefault(key, (node, i))
            elif parent.place.t is not None and self._lane(parent) is row:
                if parent.place.t != t:
                    row.carried.setdefault(parent.place.t, set()).add(key)
            else:
                along = bool(parent.rule and parent.rule.function is unstack)
                found = self._slice(parent, key[1]) if along else self._sources(key)
                here = self.cross.setdefault(row, {}).setdefault(t, set())
                here.update((along, source) for source in found)

    def _outside(self, node: Node) -> None:
        """A node of no step: what it was made of."""
        edges = self.graph.edges(node)
        found: set[Source] = set()
        for i, key, _ in edges:
            found |= self._sources(key)
            if isinstance(key[0], Leaf):
                self.uses.setdefault(key, (node, i))
        self.reach[node] = found
        steps = {s for s in found if isinstance(s[0], Row)}
        weights = {key for _, key, _ in edges if isinstance(key[0], Leaf)}
        if steps and weights:
            self.heads.append((weights, steps))

    def _complete(self, lane: Row) -> None:
        """A layer has run all its steps, those before a truncation too: no gradient gets there."""
        if lane.call:
            lane.used = set(range(lane.steps))
            if lane.call.truncate:
                for times in lane.weights.values():
                    times |= lane.used

    def _slice(self, node: Node, slot: int) -> set[Source]:
        """What one step of an iterated array was made of: if it can be told, of the same step."""
        if node not in self.slices:
            self.slices[node] = {}
            for source in self.reach[node]:
                at = source[1] if isinstance(source[0], Row) else None
                self.slices[node].setdefault(at, set()).add(source)
        same, weights = (self.slices[node].get(k, set()) for k in (slot, None))
        if node.edges and isinstance(node.edges[0][1][0], Leaf):
            return set()  # x itself
        return same | weights if same else self.reach[node]

    def _sources(self, key: Key | None) -> set[Source]:
        """The steps of lanes and the weights that a value was made of, seen from outside."""
        if key is None:
            return set()
        node = key[0]
        if isinstance(node, Leaf):
            return {key}
        if node.place.t is not None:
            self._lane(node).left.setdefault(node.place.t, set()).add(key)
            return {(self._lane(node), node.place.t)}
        return self.reach[node]

    def _order(self, item: tuple[bool, Source]) -> tuple[bool, int, int]:
        """Sets have an order of their own in every run; pictures must not."""
        along, (first, second) = item
        if isinstance(first, Row):
            return along, list(self.lanes.values()).index(first), second
        return along, -first.id, second

    # ----- arranging the rows

    def _placed(self, lane: Row) -> None:
        """Find a lane's place: above what it reads along time, to the right of what it goes on."""
        aligned: set[Row] = set()
        first = lane.travel[0]
        for t, sources in self.cross.get(lane, {}).items():
            whole: dict[Row, set[int]] = {}
            for along, source in sorted(sources, key=self._order):
                if not isinstance(source[0], Row):  # a weight, seen through other operations
                    lane.weights.setdefault(source, set()).add(t)
                elif along:
                    aligned.add(source[0])
                else:
                    whole.setdefault(source[0], set()).add(source[1])
            for row, times in whole.items():
                if t == first and len(times) == 1:
                    lane.before += [(row, k) for k in times]
                elif row not in lane.everything:
                    lane.everything.append(row)
        if aligned:
            lane.below = [self._merged(sorted(aligned, key=self.rows.index))]
            lane.offset = lane.below[0].offset
        else:
            earlier = [row for row, _ in lane.before] + lane.everything
            lane.offset = max((row.offset + row.steps for row in earlier), default=0)
            lane.below = [self._inputs(lane)]
        self._add(lane, max(row.level for row in lane.below) + 1)

    def _inputs(self, lane: Row) -> Row:
        """The row of inputs below a lane; lanes over the same steps share it."""
        for row in self.rows:
            if row.kind == "input" and (row.offset, row.steps) == (lane.offset, lane.steps):
                return row
        row = Row("input", lane.steps, used=set(range(lane.steps)), offset=lane.offset)
        self.rows.append(row)
        return row

    def _merged(self, rows: list[Row]) -> Row:
        """One row that stands for several: where both directions come together."""
        if len(rows) == 1:
            return rows[0]
        for row in self.rows:
            if row.kind == "merge" and row.below == rows:
                return row
        used = set[int]().union(*[row.used for row in rows])
        merged = Row("merge", max(row.steps for row in rows), used=used, below=rows)
        merged.offset = rows[0].offset
        self._add(merged, max(row.level for row in rows) + 1)
        return merged

    def _add(self, row: Row, level: int) -> None:
        """Put a row at the lowest free level from `level` on."""
        columns = set(range(row.offset, row.offset + row.steps))
        taken = {
            other.level
            for other in self.rows
            if columns & set(range(other.offset, other.offset + other.steps))
        }
        row.level = next(k for k in itertools.count(level) if k not in taken)
        self.rows.append(row)

    def _top(self, sources: set[Source]) -> list[tuple[Row, set[int]]]:
        """Rows for the readouts; what the drawn Tensor reads: rows, and their steps."""
        ends: dict[Row, set[int]] = {}
        for _, source in sorted([(True, source) for source in sources], key=self._order):
            if isinstance(source[0], Row):
                ends.setdefault(source[0], set()).add(source[1])
        heads: dict[frozenset[Row], Row] = {}
        for weights, steps in self.heads:
            lanes = frozenset(row for row, _ in steps)
            if not lanes & ends.keys():
                continue  # between two lanes: it is a weight of the upper one
            if lanes not in heads:
                below = self._merged(sorted(lanes, key=self.rows.index))
                heads[lanes] = Row("head", below.steps, below=[below], offset=below.offset)
            for weight in sorted(weights, key=lambda key: self._order((True, key))):
                heads[lanes].weights.setdefault(weight, set()).update(t for _, t in steps)
            heads[lanes].used |= {t for _, t in steps}
        for lanes, head in heads.items():
            self._add(head, max(row.level for row in lanes) + 1)
            for lane in lanes:
                ends.pop(lane, None)
            ends[head] = head.used
        bare = sorted((row for row in ends if row.kind == "lane"), key=self.rows.index)
        same = [row for row in bare if row.offset == bare[0].offset and row.steps == bare[0].steps]
        if len(same) > 1:
            merged = self._merged(same)
            ends[merged] = set[int]().union(*[ends.pop(row) for row in same])
        return list(ends.items())

    def add_outputs(self) -> None:
        """A row of outputs above what is read, where no readout is there already."""
        for k, (row, used) in enumerate(self.ends):
            if row.kind != "head":
                head = Row("head", row.steps, below=[row], offset=row.offset, used=set(used))
                self._add(head, row.level + 1)
                self.ends[k] = (head, used)

    # ----- names

    def _named(self, given: Any) -> None:
        """Names of weights: what is given, the layers' own, what the source calls them."""
        self.names: dict[Key, str] = {}
        own = [row.call.layer for row in self.lanes.values() if row.call]
        modules = list(own)
        for name, t in ({"": given} if isinstance(given, Module) else given or {}).items():
            if isinstance(t, Module):
                modules.append(t)
            elif isinstance(t, Tensor) and t._key:
                self.names.setdefault(t._key, str(name))
        for module in modules:
            for name, p in module.named_parameters().items():
                if p._key:
                    short = name.removeprefix("cell.") if module in own else name.split(".")[-1]
                    self.names.setdefault(p._key, short)
        for row in self.lanes.values():  # in the order of the layer's own names
            place = {key: k for k, key in enumerate(self.names)}
            row.weights = dict(sorted(row.weights.items(), key=lambda w: place.get(w[0], -1)))
        for key, (node, i) in self.uses.items():
            if key not in self.names:
                self.names[key] = named_in_source(node, i) or "w"


def named_in_source(node: Node, argument: int) -> str:
    """What the line of code that made a node calls one of its operands; "" where it has no name.

    In `h @ self.V` argument 1 is V.
    """
    spot = next(itertools.islice(node.code.co_positions(), node.at // 2, None), None)
    if spot is None or None in spot:
        return ""
    first, last, start, end = spot
    assert first is not None
    assert last is not None
    lines = linecache.getlines(node.code.co_filename)[first - 1 : last]
    if not lines:
        return ""
    # columns count bytes
    lines[-1] = lines[-1].encode()[:end].decode(errors="ignore")
    lines[0] = lines[0].encode()[start:].decode(errors="ignore")
    try:
        tree = ast.parse("(" + "".join(lines) + ")", mode="eval").body
    except SyntaxError:
        return ""
    operands: list[Any] = [getattr(tree, "left", None), getattr(tree, "right", None)]
    if isinstance(tree, ast.Call):
        operands = list(tree.args)
    if isinstance(tree, ast.Subscript):
        operands = [tree.value]
    operand = operands[argument] if argument < len(operands) else None
    if isinstance(operand, ast.Attribute):
        return operand.attr
    return operand.id if isinstance(operand, ast.Name) else ""
