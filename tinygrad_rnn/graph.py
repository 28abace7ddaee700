"""The graph: nodes, and the walk back through time.

Only arrays and nodes live here; `tensor.py` grows the graph (in `apply`). A node is one recorded
call of one NumPy function:

    h = np.tanh(x @ U)        matmul #7  <-  tanh #8        (edges point from a node to its inputs)

It knows its inputs, never its output, so there are no reference cycles: a graph dies with the last
Tensor that leads to it.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from . import errors
from .record import record, recording
from .vjp import Array, Rule, Static

# ----- nodes -------------------------------------------------------------------------------------

_next_id = itertools.count(1).__next__
INSIDE = {  # a call made in these files is shown at the line that led to it
    str(Path(__file__).with_name(f"{name}.py"))
    for name in ("graph", "tensor", "differentiate", "rules", "composed", "functions", "losses")
}

Key = tuple["Node", int]  # one output of one node: what a gradient belongs to
Edges = list[tuple[int, Key, tuple[Any, ...]]]  # argument, where from, what its VJP asked to keep


class Node:
    """One recorded call. `edges` is None once the graph was freed; a leaf has no rule."""

    __slots__ = (
        "id", "rule", "static", "several", "edges", "shapes", "dtypes", "place", "code", "at"
    )  # fmt: skip

    def __init__(
        self, rule: Rule | None, static: Static, edges: Edges, outs: list[Any], several: bool
    ) -> None:
        self.id: int = _next_id()
        self.rule = rule
        self.static = static
        self.several = several
        self.edges: Edges | None = edges
        if several:
            self.shapes = tuple([out.shape for out in outs])
            self.dtypes = tuple([out.dtype for out in outs])
        else:
            self.shapes, self.dtypes = (outs[0].shape,), (outs[0].dtype,)
        self.place = record.place
        # The line of code is looked up only when an error shows it: two fields, no formatting.
        frame = sys._getframe(2)  # 0 is this function, 1 who makes the node: never the user
        while frame.f_code.co_filename in INSIDE and frame.f_back:
            frame = frame.f_back
        self.code, self.at = frame.f_code, frame.f_lasti

    # `tanh #12 (2, 3), in RNN(RNNCell), forward, t=4, made at cell.py:88: h = np.tanh(z)`
    __str__ = errors.description_of
    __repr__ = lambda self: f"{type(self).__name__}({self})"


class Leaf(Node):
    """A Tensor made with requires_grad=True: where gradients arrive."""

    __slots__ = ("grad",)

    def __init__(self, data: np.ndarray) -> None:
        super().__init__(None, {}, [], [data], several=False)
        self.grad: np.ndarray | None = None


def record_node(
    rule: Rule, static: Static, keys: list[Any], arrays: list[Any], outs: list[Any], several: bool
) -> Node | None:
    """A node for this call, or None where no argument that needs a gradient has a VJP."""
    edges: Edges = []
    for i, key in enumerate(keys):
        if key is not None and (kept := rule.kept(i, arrays, outs, several)) is not None:
            edges.append((i, key, kept))
    return Node(rule, static, edges, outs, several) if edges else None


# ----- the walk back -----------------------------------------------------------------------------


def pull(
    seeds: dict[Key, Array],
    wanted: set[Key] | None = None,
    retain: bool = False,
    run: Callable[..., Any] | None = None,
    cut: bool = False,
) -> dict[Key, Array]:
    """Pull gradients back from the seeds to the wanted outputs (None: to all leaves).

    Everything is an ndarray, unless `run` calls the rules on Tensors, in `run_vjp`'s place. With
    `cut` what is wanted counts as the graph's beginning: what is run again, by a checkpoint or in
    scan's replay, must not walk on into the graph around it.
    """
    order = _path(seeds, wanted, cut)
    leads = set(order)
    stops = {node for node, _ in wanted or ()} if cut else set()
    sums, found = Sums(seeds, in_place=run is None), dict[Key, Array]()
    with recording(tracking=run is not None, place=record.place):
        while order:
            node = order.pop()  # the youngest: all its uses have reported
            g = sums.take(node, wanted, found)
            edges = node.edges or []
            if wanted is not None:
                edges = [edge for edge in edges if edge[1][0] in leads]
            if g is not None and edges and node not in stops:
                if run is not None:  # only then are calls recorded
                    record.place = node.place
                pull_node(node, edges, g, sums, run)
                if not retain:  # what it kept dies here, while the walk goes on
                    node.edges, node.static = None, {}
    return found


def pull_node(node: Node, edges: Edges, g: Any, sums: Sums, run: Callable[..., Any] | None) -> None:
    """One step back: from a node's gradient to its inputs' gradients."""
    rule: Any = node.rule
    check, together = record.check, None
    for i, key, kept in edges:
        if rule.into and run is None:  # x[t] in a loop: no array of x's size for each t
            rule.into(sums.buffer(key), g, *kept, **node.static)
            continue
        if rule.joint:  # gives all arguments' gradients: called once for the node
            together = together or (run or run_vjp)(node, i, g, kept)
            if not isinstance(together, tuple) or len(together) <= edges[-1][0]:
                raise errors.wrong_joint(node, together)
            part = together[i]
        elif node.static or rule.each or run:
            part = (run or run_vjp)(node, i, g, kept)
        else:
            part = rule.vjps[i](g, *kept)
        shape, dtype = key[0].shapes[key[1]], key[0].dtypes[key[1]]
        # `is not`: quick; equal dtypes may be two objects, and _fitted compares them
        if type(part) is not np.ndarray or part.shape != shape or part.dtype is not dtype:
            part = _fitted(part, node, i, shape, dtype)
        if check is not None:
            check(part, f"the gradient of argument {i} of {node}")
        sums.add(key, part)


class Sums:
    """The gradients on their way: what each output of each node has received so far.

    The first part is stored as it came (add's VJP gives the same g to both inputs), so a second one
    makes a new array. Only that one is ours, and further parts are added into it.
    """

    def __init__(self, seeds: dict[Key, Array], in_place: bool) -> None:
        self.totals, self.in_place = dict(seeds), in_place
        self.owned: set[Key] = set()  # sums that nobody else holds: these may be added to in place

    def add(self, key: Key, part: Array) -> None:
        total = self.totals.get(key)
        if total is None:
            self.totals[key] = part  # as it is: others may hold the same array
        elif key in self.owned:
            np.add(total, part, out=total)
        else:
            self.totals[key] = total + part  # a new array, which only we hold
            if self.in_place and part.ndim:  # without axes it is a NumPy scalar: no place for out=
                self.owned.add(key)

    def buffer(self, key: Key) -> np.ndarray:
        """The sum in an array of our own, zeros at first, to be added to."""
        if key not in self.owned:
            total = self.totals.get(key)
            self.totals[key] = zeros(key) if total is None else np.array(total)
            self.owned.add(key)
        return self.totals[key]  # type: ignore[no-any-return]

    def take(self, node: Node, wanted: set[Key] | None, found: dict[Key, Array]) -> Any:
        """The gradient of a node, whose uses have all reported; None where nothing has arrived.

        A node with several outputs gets a tuple, with zeros for the outputs that nothing used. What
        is wanted goes into `found`. The arrays are shared, so they are frozen: a VJP that writes
        into g raises.
        """
        gs = []
        for slot in range(len(node.shapes)):
            g = self.totals.pop((node, slot), None)
            if g is not None:
                if self.in_place:
                    g.setflags(write=False)
                asked_for = node.rule is None if wanted is None else (node, slot) in wanted
                if asked_for:
                    found[node, slot] = g
            gs.append(g)
        if not node.several:
            return gs[0]
        if all(g is None for g in gs):
            return None
        return tuple([zeros((node, k)) if g is None else g for k, g in enumerate(gs)])


def zeros(key: Key) -> np.ndarray:
    """Zeros like one output of a node."""
    return np.zeros(key[0].shapes[key[1]], key[0].dtypes[key[1]])


def _path(seeds: dict[Key, Array], wanted: set[Key] | None, cut: bool) -> list[Node]:
    """The nodes that a gradient passes from the seeds to the wanted outputs, oldest first.

    A node must wait until all its uses have reported (docs/engine.md has what happens otherwise).
    Inputs are made before outputs, so the number that a node got when it was made is such an order.
    """
    leads = set() if wanted is None else {node for node, _ in wanted}
    seen = {node for node, _ in seeds}
    stack = list(seen)
    while stack:
        node = stack.pop()
        if cut and node in leads:
            continue
        if node.edges is None:
            # Nothing behind a freed node can be reached: does it matter, is a goal older than it?
            if wanted is None or any(goal.id < node.id for goal in leads):
                raise errors.graph_freed(node)
            continue
        for _, (parent, _), _ in node.edges:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    order = sorted(seen, key=attrgetter("id"))
    if wanted is None:
        return order
    for node in order:  # only nodes on a path to what is wanted are worth walking
        if any(parent in leads for _, (parent, _), _ in node.edges or ()):
            leads.add(node)
    return [node for node in order if node in leads]


def run_vjp(node: Node, i: int, g: Any, kept: Any) -> Any:
    """The gradient of argument i, from the rule; of all of them, where the rule is a joint one."""
    rule: Any = node.rule
    named = rule.names[0 if rule.shared else i]
    static = {name: node.static[name] for name in named if name in node.static}
    if rule.each:
        return rule.each(g, i, *kept, **static)
    return (rule.joint or rule.vjps[i])(g, *kept, **static)


def _fitted(g: Any, node: Node, i: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """A VJP's result in the shape and dtype of its argument, or a RuleError."""
    g = g if g is None or hasattr(g, "dtype") else np.asarray(g)
    returned = None if g is None else g.shape
    if node.rule and node.rule.broadcasts and returned not in (shape, None):
        with suppress(ValueError):
            g = unbroadcast(g, shape)
    if g is None or g.shape != shape:
        raise errors.wrong_gradient_shape(node, i, returned, shape)
    return g if g.dtype == dtype else g.astype(dtype)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an operand of this shape was repeated."""
    axes = _repeated_axes(g.shape, shape)
    g = g.sum(axis=axes) if axes else g
    return g if g.shape == shape else g.reshape(shape)


@functools.lru_cache(4096)
def _repeated_axes(long: tuple[int, ...], short: tuple[int, ...]) -> tuple[int, ...]:
    """Axes, counted from the end, that are missing or of size 1 in the short shape."""
    padded = (None,) * (len(long) - len(short)) + short
    pairs = zip(range(-len(long), 0), long, padded, strict=True)
    return tuple(k for k, n, m in pairs if m is None or (m == 1 and n != 1))
