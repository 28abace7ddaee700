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
from typing import Any, NamedTuple

import numpy as np

from ..errors import FigureError, no_time_steps
from ..given import Given
from ..graph import Key, Leaf, Node
from ..module import Module, find
from ..nests import leaves
from ..primitives import getitem, unstack
from ..tensor import Tensor
from ..unfold import Unfolded

# what takes an array's first axis apart, or turns it
TURNING = {getitem, np.flip, np.roll, np.take, np.sort, np.repeat}


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
    sums: dict[int, set[Key]] = field(default_factory=dict)  # the same, but no state: `J = J + ...`
    loop: Any = None  # a layer's call, or a loop of one's own over a Tensor
    number: int = 0  # lanes are numbered in the order of their first step
    offset: int = 0  # columns to the left of the first step
    level: int = 0

    @property
    def call(self) -> Given | None:
        """The layer's call; None for a loop of one's own."""
        return self.loop if isinstance(self.loop, Given) else None

    @property
    def travel(self) -> list[int]:
        """The time steps in the order of travel."""
        return list(range(self.steps))[:: -1 if self.reverse else 1]


class Reach(NamedTuple):
    """What a value was made of, seen from outside of all loops."""

    steps: set[tuple[Row, int]]
    weights: set[Key]

    def ordered(self) -> tuple[list[tuple[Row, int]], list[Key]]:
        """Sets have an order of their own in every run; pictures must not."""
        return (
            sorted(self.steps, key=lambda step: (step[0].number, step[1])),
            sorted(self.weights, key=lambda key: (key[0].id, key[1])),
        )


class Lanes:
    """The rows of a recorded graph, and the names of the weights.

    rows   bottom to top: those that read come after those that they read
    lanes  the rows that are loops, by the call that ran them (of one's own loop: its place)
    names  of each weight
    ends   which rows the drawn Tensor itself reads, and at which steps
    """

    def __init__(self, graph: Unfolded, roots: list[Tensor], names: Any = None) -> None:
        self.graph = graph
        self.lanes: dict[Any, Row] = {}
        self.rows: list[Row] = []
        self.open: set[Row] = set()  # lanes whose place is being looked for
        self.reached: dict[Node, Reach] = {}  # of nodes outside of loops, where it was asked for
        self.iterated: dict[Row, dict[Node, None]] = {}  # arrays that a lane reads step by step
        self.cross: dict[Row, dict[int, set[Key]]] = {}  # what else its steps read, by time
        self.heads: list[tuple[set[Key], Node]] = []  # weights used outside, and where
        self.uses: dict[Key, tuple[Node, int]] = {}  # of weights: where first
        for node in graph.nodes:
            if node.place.t is None:
                self._outside(node)
            else:
                self._inside(node, node.place.t)
        if not self.lanes:
            raise no_time_steps()
        for lane in self.lanes.values():
            self._complete(lane)
        self._sums_apart()
        self._named(names)
        for lane in self.lanes.values():
            self._placed(lane)
        self.ends = self._top(self.reach(*[graph.real(root._key) for root in roots]))

    # ----- reading the graph

    def _lane(self, node: Node) -> Row:
        loop = node.place.call
        if loop not in self.lanes:
            lane = Row("lane", 0, loop=loop, number=len(self.lanes))
            if lane.call:
                layer, x = lane.call.layer, lane.call.x
                lane.title, lane.reverse, lane.steps = layer.name, layer.reverse, len(leaves(x)[0])
            self.lanes[loop] = lane
        return self.lanes[loop]

    def _inside(self, node: Node, t: int) -> None:
        """A node of a step: which weights it uses, what it reads from other steps and rows."""
        row = self._lane(node)
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
            elif parent.rule and parent.rule.function is unstack:
                self.iterated.setdefault(row, {})[parent] = None
            else:
                self.cross.setdefault(row, {}).setdefault(t, set()).add(key)

    def _outside(self, node: Node) -> None:
        """A node of no step: which weights it uses."""
        weights = set()
        for i, key, _ in self.graph.edges(node):
            if isinstance(key[0], Leaf):
                self.uses.setdefault(key, (node, i))
                weights.add(key)
        if weights:
            self.heads.append((weights, node))

    def reach(self, *keys: Key | None) -> Reach:
        """What values were made of: down to the loops and the weights."""
        found, seen = Reach(set(), set()), set[Node]()
        stack = [key for key in keys if key]
        while stack:
            key = stack.pop()
            node = key[0]
            if isinstance(node, Leaf):
                found.weights.add(key)
            elif node.place.t is not None:
                found.steps.add((self._lane(node), node.place.t))
            elif node not in seen:
                seen.add(node)
                stack += [parent for _, parent, _ in self.graph.edges(node)]
        return found

    def _reach(self, key: Key) -> Reach:
        """The same of one value, which many steps may ask for."""
        if key[0] not in self.reached:
            self.reached[key[0]] = self.reach(key)
        return self.reached[key[0]]

    def _complete(self, lane: Row) -> None:
        """A layer has run all its steps, those before a truncation too: no gradient gets there."""
        if lane.call:
            lane.used = set(range(lane.steps))
            if lane.call.truncate:
                for times in lane.weights.values():
                    times |= lane.used

    def _sums_apart(self) -> None:
        """In a loop of one's own, `J = J + loss_t` goes from step to step too, and is no state.

        Later steps only add to a sum. Besides states with axes a single number is one in any case.
        """
        states: set[Key] = set()
        for node in self.graph.nodes:
            if node.rule and node.rule.function is not np.add:
                states.update(key for _, key, _ in self.graph.edges(node)
                              if key[0].place[2:] != node.place[2:])  # fmt: skip
        for lane in self.lanes.values():
            carried = [key for keys in lane.carried.values() for key in keys]
            axes = any(key[0].shapes[key[1]] for key in carried)
            if lane.call or (axes and not any(key in states for key in carried)):
                continue
            for t, keys in lane.carried.items():
                lane.sums[t] = {
                    key for key in keys
                    if key not in states or (axes and not key[0].shapes[key[1]])
                }  # fmt: skip
                keys -= lane.sums[t]
            lane.carried = {t: keys for t, keys in lane.carried.items() if keys}

    # ----- arranging the rows

    def _placed(self, lane: Row) -> None:
        """Find a lane's place: above what it reads along time, to the right of what it goes on."""
        if lane in self.rows:
            return
        if lane in self.open:
            raise FigureError(
                "loops that read each other cannot be unrolled in one picture: draw what the inner "
                "one returns"
            )
        self.open.add(lane)
        aligned: set[Row] = set()
        for node in self.iterated.get(lane, ()):
            if node.edges and isinstance(node.edges[0][1][0], Leaf):
                continue  # x itself
            steps, weights = self._reach((node, 0)).ordered()
            rows = {row for row, _ in steps}
            for key in weights:  # an Embedding, say
                lane.weights.setdefault(key, set()).update(lane.used)
            if self._straight(node) and all(row.steps == lane.steps for row in rows):
                aligned |= rows
            else:
                lane.everything += [row for row in rows if row not in lane.everything]
        for t, keys in self.cross.get(lane, {}).items():
            found = [self._reach(key) for key in Reach(set(), keys).ordered()[1]]
            for reach in found:
                for key in reach.ordered()[1]:
                    lane.weights.setdefault(key, set()).add(t)
            times: dict[Row, set[int]] = {}
            for reach in found:
                for row, k in reach.ordered()[0]:
                    times.setdefault(row, set()).add(k)
            for row in sorted(times, key=lambda row: row.number):
                if t == lane.travel[0] and len(times[row]) == 1:
                    lane.before.append((row, min(times[row])))
                elif row not in lane.everything:
                    lane.everything.append(row)
        for row in [*aligned, *[row for row, _ in lane.before], *lane.everything]:
            self._placed(row)
        if aligned:
            lane.below = [self._merged(sorted(aligned, key=self.rows.index))]
            lane.offset = lane.below[0].offset
        else:
            earlier = [row for row, _ in lane.before] + lane.everything
            lane.offset = max((row.offset + row.steps for row in earlier), default=0)
            reads = lane.call or lane.loop.reads  # tg.generate makes its inputs itself
            lane.below = [self._inputs(lane)] if reads else []
        self._add(lane, max([row.level for row in lane.below], default=0) + 1)

    def _straight(self, node: Node) -> bool:
        """Whether an array that is iterated has the times of the loops that it comes from."""
        seen, stack = set[Node](), [node]
        while stack:
            node = stack.pop()
            if node.place.t is not None or node in seen:
                continue
            if node.rule and node.rule.function in TURNING:
                return False
            seen.add(node)
            stack += [key[0] for _, key, _ in self.graph.edges(node)]
        return True

    def _inputs(self, lane: Row) -> Row:
        """The row of inputs below a lane; lanes over the same x share it."""
        for row in self.rows:
            same = row.kind == "input" and (row.offset, row.steps) == (lane.offset, lane.steps)
            if same and _equal(row.loop, lane.loop):
                return row
        row = Row("input", lane.steps, used=set(range(lane.steps)), loop=lane.loop)
        row.offset = lane.offset
        self._add(row, 0)
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

    def _top(self, reach: Reach) -> list[tuple[Row, set[int]]]:
        """Rows for the readouts; what the drawn Tensor reads: rows, and their steps."""
        ends: dict[Row, set[int]] = {}
        for row, t in reach.ordered()[0]:
            ends.setdefault(row, set()).add(t)
        for row in ends:  # a loss may be added up on the way
            ends[row].update(t for t, keys in row.sums.items() if keys)
        heads: dict[tuple[Row, ...], Row] = {}
        for weights, node in self.heads:
            found: dict[tuple[int, int], dict[Row, set[int]]] = {}
            for row, t in self.reach((node, 0)).ordered()[0]:
                found.setdefault((row.offset, row.steps), {}).setdefault(row, set()).add(t)
            for lanes in found.values():  # side by side, each its own
                if not lanes.keys() & ends.keys():
                    continue  # between two lanes: it is a weight of the upper one
                rows = tuple(sorted(lanes, key=self.rows.index))
                if rows not in heads:
                    below = self._merged(list(rows))
                    heads[rows] = Row("head", below.steps, below=[below], offset=below.offset)
                times = set[int]().union(*lanes.values())
                for key in Reach(set(), weights).ordered()[1]:
                    heads[rows].weights.setdefault(key, set()).update(times)
                heads[rows].used |= times
        for rows, head in heads.items():
            self._add(head, max(row.level for row in rows) + 1)
            for lane in rows:
                ends.pop(lane, None)
            ends[head] = set(head.used)
        bare = sorted((row for row in ends if row.kind == "lane"), key=self.rows.index)
        same = [row for row in bare if (row.offset, row.steps) == (bare[0].offset, bare[0].steps)]
        if len(same) > 1:
            ends[self._merged(same)] = set[int]().union(*[ends.pop(row) for row in same])
        return list(ends.items())

    def narrow(self, read: set[tuple[Row, int]]) -> None:
        """Of what is drawn as read, keep the steps from which a gradient comes back."""
        for k, (row, used) in enumerate(self.ends):
            below = [row]
            for other in below:  # it grows: down to the loops
                below += other.below if other.kind != "lane" else []
            times = used & {t for lane, t in read if lane in below}
            if times:
                self.ends[k] = (row, times)
            if times and row.kind == "head":
                row.used &= times
                for each in row.weights.values():
                    each &= times

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
        self.titles: dict[Row, str] = {}  # of lanes whose layer or cell has a name
        if not isinstance(given, (dict, Module, type(None))):
            raise FigureError(f"names={given!r}: expected a Module, or a dict of them and Tensors")
        own = [row.call.layer for row in self.lanes.values() if row.call]
        modules = list(own)
        for name, named in ({"": given} if isinstance(given, Module) else given or {}).items():
            if isinstance(named, Module):
                modules.append(named)
                inside = {id(module) for _, module in find(named, Module)}
                for row in self.lanes.values():
                    if name and row.call and id(row.call.layer) in inside | {id(named)}:
                        self.titles[row] = str(name)
            elif isinstance(named, Tensor):
                if named._key:
                    self.names.setdefault(named._key, str(name))
            else:
                raise FigureError(f"names[{name!r}]: expected a Tensor or a Module")
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


def _equal(one: Any, other: Any) -> bool:
    """Whether two loops go over the same x, as far as that can be seen."""
    if not (isinstance(one, Given) and isinstance(other, Given)):
        return one is other
    pairs = zip(leaves(one.x), leaves(other.x), strict=False)
    arrays = [[getattr(a, "_data", a) for a in pair] for pair in pairs]
    return all(np.array_equal(a, b) for a, b in arrays)


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
