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
import linecache
import sys
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from . import errors
from .record import record, recording
from .vjp import OUT, SHAPES, XS, Array, Rule, Static

# ----- nodes -------------------------------------------------------------------------------------

_next_id = itertools.count(1).__next__
_ENGINE = {  # a call made in these files is shown at the line that led to it
    str(Path(__file__).with_name(f"{name}.py"))
    for name in ("graph", "tensor", "differentiate", "rules", "functions", "losses")
}

Key = tuple["Node", int]  # one output of one node: what a gradient belongs to
Edges = list[tuple[int, Key, tuple[Any, ...]]]  # argument, where from, what its VJP asked to keep
Outs = list[np.ndarray]
Lift = Callable[[Any, "Key | None"], Any]


class Node:
    """One recorded call. `edges` is None once the graph was freed; a leaf has no rule."""

    __slots__ = (
        "id", "rule", "static", "several", "edges", "shapes", "dtypes", "place", "code", "at"
    )  # fmt: skip

    def __init__(
        self, rule: Rule | None, static: Static, edges: Edges, outs: Outs, several: bool
    ) -> None:
        self.id: int = _next_id()
        self.rule, self.static, self.several = rule, static, several
        self.edges: Edges | None = edges
        self.shapes = (outs[0].shape,) if len(outs) == 1 else tuple([out.shape for out in outs])
        self.dtypes = (outs[0].dtype,) if len(outs) == 1 else tuple([out.dtype for out in outs])
        self.place = record.place
        # The line of code is looked up only when an error shows it: two fields, no formatting.
        frame = sys._getframe(2)
        while frame.f_code.co_filename in _ENGINE and frame.f_back:
            frame = frame.f_back
        self.code, self.at = frame.f_code, frame.f_lasti

    def __str__(self) -> str:
        """`tanh #12 (2, 3), in RNN(RNNCell), forward, t=4, made at cell.py:88: h = np.tanh(z)`"""
        name = self.rule.name if self.rule else "leaf"
        shapes = ", ".join(map(str, self.shapes))
        place = f", in {self.place}" if str(self.place) else ""
        file = self.code.co_filename
        line = list(self.code.co_positions())[self.at // 2][0] or self.code.co_firstlineno
        source = linecache.getline(file, line).strip()
        return f"{name} #{self.id} {shapes}{place}, made at {Path(file).name}:{line}: {source}"


class Leaf(Node):
    """A Tensor made with requires_grad=True: where gradients arrive."""

    __slots__ = ("grad",)

    def __init__(self, data: np.ndarray) -> None:
        super().__init__(None, {}, [], [data], several=False)
        self.grad: np.ndarray | None = None


def record_node(
    rule: Rule, static: Static, parents: list[Any], arrays: list[Any], outs: Outs, several: bool
) -> Node | None:
    """A node for this call, or None where no argument that needs a gradient has a VJP."""
    edges: Edges = []
    out = tuple(outs) if several else outs[0]
    for i, key in parents:
        if not rule.shared and i >= len(rule.vjps):
            raise errors.no_vjp(rule.name, i)
        if rule.shared or rule.vjps[i]:
            asks = rule.asks[0 if rule.shared else i]
            edges.append((i, key, _kept(rule, asks, arrays, out) if asks else ()))
    return Node(rule, static, edges, outs, several) if edges else None


def _kept(rule: Rule, asks: tuple[int, ...], arrays: list[Any], out: Any) -> tuple[Any, ...]:
    """What a VJP asked for by its parameters' names."""
    if len(asks) == 1 and asks[0] >= OUT:  # nearly always
        return (out if asks[0] == OUT else arrays[asks[0]],)
    rest = {OUT: out, SHAPES: tuple(map(np.shape, arrays)), XS: tuple(arrays[len(rule.vjps) :])}
    return tuple([arrays[ask] if ask >= 0 else rest[ask] for ask in asks])


# ----- the walk back -----------------------------------------------------------------------------


def pull(
    seeds: dict[Key, Array],
    wanted: set[Key] | None = None,
    retain: bool = False,
    lift: Lift | None = None,
) -> dict[Key, Array]:
    """Pull gradients back from the seeds to the wanted outputs (None: to all leaves).

    Without `lift` everything is an ndarray. With it, what the nodes kept becomes Tensors again
    (`lift(array, key)`), the very same rules run on those, and their calls are recorded in turn:
    that is all there is to derivatives of derivatives.
    """
    order = _path(seeds, wanted)
    leads = set(order)
    if wanted is None:
        wanted = {(node, 0) for node in order if node.rule is None}
    grads, found = dict(seeds), dict[Key, Array]()
    owned = set[Key]()  # sums that nobody else holds: these may be added to in place
    with recording(tracking=lift is not None, place=record.place):
        while order:
            node = order.pop()  # the youngest; let go of, so that its arrays die when it is done
            g = _arrived(node, grads, found, wanted)
            if g is None or node.rule is None:
                continue
            rule, static, record.place = node.rule, node.static, node.place
            for i, key, kept in node.edges or ():
                if key[0] not in leads:
                    continue
                if rule.into and lift is None:  # x[t] in a loop: no array of x's size for each t
                    if key not in owned:
                        grads[key] = _own(key, grads.get(key))
                        owned.add(key)
                    rule.into(grads[key], g, *kept, **static)
                    continue
                if static or rule.shared or lift:
                    part = _vjp(node, rule, i, g, kept, lift)
                else:
                    part = rule.vjps[i](g, *kept)  # type: ignore[misc]
                part = _fitted(part, node, i, key)
                if key in owned:
                    np.add(grads[key], part, out=grads[key])
                elif key in grads:
                    grads[key] = grads[key] + part
                    if lift is None and part.ndim:
                        owned.add(key)
                else:
                    grads[key] = part  # by reference: others may hold the same array
            if not retain:
                node.edges = None
    return found


def _path(seeds: dict[Key, Array], wanted: set[Key] | None) -> list[Node]:
    """The nodes that a gradient passes from the seeds to the wanted outputs, oldest first.

    Why any order is needed: in `b = a + a; c = b + b` a naive walk from c would pull b back twice,
    once for each use, a four times, and a chain of n such steps 2^n times. A node must wait until
    all its uses have reported. Inputs are always made before outputs, so the number a node got
    when it was made is such an order; no depth-first search, and no recursion, is needed.
    """
    leads = set() if wanted is None else {node for node, _ in wanted}
    seen = {node for node, _ in seeds}
    stack = list(seen)
    while stack:
        node = stack.pop()
        if node.edges is None:
            # A freed node may be the goal itself, but nothing behind it can be reached any more.
            if node not in leads or any(goal.id < node.id for goal in leads):
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


def _arrived(node: Node, grads: dict[Key, Any], found: dict[Key, Any], wanted: set[Key]) -> Any:
    """The gradient that a node has received: all its uses have reported by now. None: nothing.

    A node with several outputs gets a tuple, with zeros for the outputs that nothing used.
    """
    keys = [(node, slot) for slot in range(len(node.shapes))]
    gs = [grads.pop(key, None) for key in keys]
    found.update({k: g for k, g in zip(keys, gs, strict=True) if g is not None and k in wanted})
    if not node.several:
        return gs[0]
    if all(g is None for g in gs):
        return None
    return tuple(_own(key, g) if g is None else g for key, g in zip(keys, gs, strict=True))


def _own(key: Key, total: Array | None) -> np.ndarray:
    """A gradient's sum so far, or zeros, in an array of its own."""
    (node, slot) = key
    return np.zeros(node.shapes[slot], node.dtypes[slot]) if total is None else np.array(total)


def _vjp(node: Node, rule: Rule, i: int, g: Any, kept: Any, lift: Lift | None) -> Any:
    """The gradient of argument i, from the rule."""
    column = 0 if rule.shared else i
    if lift:
        asks = rule.asks[column]
        kept = [_lifted(node, ask, value, lift) for ask, value in zip(asks, kept, strict=True)]
    static = {name: node.static[name] for name in rule.names[column] if name in node.static}
    if rule.joint:
        return rule.joint(g, *kept, **static)[i]
    vjp = rule.each or rule.vjps[i]
    return vjp(g, *([i] if rule.each else []), *kept, **static)  # type: ignore[misc]


def _lifted(node: Node, ask: int, value: Any, lift: Lift) -> Any:
    """What was kept under one name, with its place in the graph."""
    origin = {i: key for i, key, _ in node.edges or ()}
    if ask >= 0 or ask == SHAPES:
        return lift(value, origin.get(ask))
    if ask == OUT and not node.several:
        return lift(value, (node, 0))
    first = len(node.rule.vjps) if node.rule else 0
    keys = [(node, k) if ask == OUT else origin.get(first + k) for k in range(len(value))]
    return tuple(map(lift, value, keys))


def _fitted(g: Any, node: Node, i: int, key: Key) -> Any:
    """A VJP's result in the shape and dtype of its argument, or a RuleError."""
    parent, slot = key
    shape = parent.shapes[slot]
    g = g if hasattr(g, "dtype") else np.asarray(g)
    if g.shape != shape:
        returned = g.shape
        if node.rule and node.rule.broadcasts:
            with suppress(ValueError):
                g = unbroadcast(g, shape)
        if g.shape != shape:
            raise errors.wrong_gradient_shape(node, i, returned, shape)
    if g.dtype != parent.dtypes[slot]:
        g = g.astype(parent.dtypes[slot])
    if record.check is not None:
        record.check(g, f"the gradient of argument {i} of {node}")
    return g


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an operand of this shape was repeated."""
    axes = _repeated_axes(g.shape, shape)
    return g.sum(axis=axes).reshape(shape) if axes else g


@functools.lru_cache(4096)
def _repeated_axes(long: tuple[int, ...], short: tuple[int, ...]) -> tuple[int, ...]:
    """Axes, counted from the end, that are missing or of size 1 in the short shape."""
    padded = (None,) * (len(long) - len(short)) + short
    pairs = zip(range(-len(long), 0), long, padded, strict=True)
    return tuple(k for k, n, m in pairs if m is None or (m == 1 and n != 1))
