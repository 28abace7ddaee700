"""The graph: nodes, the rules that differentiate them, and the walk back through time.

Only arrays and nodes live here: `tensor.py` grows the graph (in `apply`), `rules.py` fills RULES.
A node is one recorded call of one NumPy function:

    h = np.tanh(x @ U)        matmul #7  <-  tanh #8        (edges point from a node to its inputs)

It knows its inputs, never its output, so there are no reference cycles: a graph dies with the last
Tensor that leads to it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from .errors import GraphFreedError, MissingRuleError, NonFiniteError, RuleError

# Operands of steps, rules and functions may be ndarrays, Tensors or Python numbers. NumPy's own
# stubs know nothing of Tensors and reject them, so the alias is Any; the name tells the reader.
Array = Any
VJP = Callable[..., Any]
Static = dict[str, Any]


# ----- what one thread is doing ------------------------------------------------------------------


class Place(NamedTuple):
    """Where in a network an operation runs: the layer, its direction, the time step."""

    path: str = ""
    direction: str = ""
    t: int | None = None

    def __str__(self) -> str:
        step = "" if self.t is None else f"t={self.t}"
        return ", ".join(part for part in (self.path, self.direction, step) if part)


class Record(threading.local):
    """The engine's mutable state, one for each thread."""

    tracking = True  # False inside no_grad
    tracing = False  # True while a step is traced: its values must not be read
    nonfinite = False  # True inside detect_nonfinite
    place = Place()  # set by the loop over time, and by iterating over a Tensor
    watch: Callable[..., None] | None = None  # sees every call: (function, operands, static, outs)


record = Record()


@contextmanager
def recording(**changes: Any) -> Iterator[None]:
    """Change this thread's record for a while; put it back whatever happens inside."""
    before = {name: getattr(record, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(record, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(record, name, value)


def no_grad() -> Any:
    """Record nothing inside.

        with tg.no_grad():
            y = layer(x)          # y.requires_grad is False

    Also a decorator (`@tg.no_grad()`). The state before is restored on the way out, after an
    exception too. Affects this thread only.
    """
    return recording(tracking=False)


def detect_nonfinite() -> Any:
    """Stop at the first NaN or infinity, on the way forward or back.

        with tg.detect_nonfinite():
            layer(x).outputs.sum().backward()

    Raises NonFiniteError that names the operation, its shapes, its place in the network and the
    line that made it. One pass over every array inside the block, nothing outside it.
    """

    def watch(function: Any, operands: Any, static: Any, outs: tuple[Any, ...]) -> None:
        for out in outs:
            check_finite(out, f"the result of {out._key[0] if out._key else function.__name__}")

    return recording(nonfinite=True, watch=watch)


# ----- rules -------------------------------------------------------------------------------------

OUT, SHAPES, XS = -1, -2, -3  # beside 0, 1, ... for x0, x1, ...: what a VJP may ask to be kept
_ASKS = {"out": OUT, "shapes": SHAPES, "xs": XS}


class Rule:
    """How one function is differentiated. Made by `defvjp`, kept in `RULES[function]`."""

    def __init__(
        self,
        function: Callable[..., Any],
        vjps: tuple[VJP | None, ...],
        each: VJP | None,
        joint: VJP | None,
        broadcasts: bool | None,
        bind: Callable[[tuple[Any, ...], Static], Static] | None,
        into: Callable[..., None] | None,
    ) -> None:
        self.function, self.name = function, function.__name__
        self.own = hasattr(function, "on_arrays")  # made by @primitive, not NumPy's
        run: Callable[..., Any] = getattr(function, "on_arrays", function)
        self.run: Callable[..., Any] = (lambda *xs, **kw: run(xs, **kw)) if each else run
        self.vjps, self.each, self.joint, self.bind, self.into = vjps, each, joint, bind, into
        self.broadcasts = isinstance(function, np.ufunc) if broadcasts is None else broadcasts
        self.shared = bool(each or joint)  # one function for all arguments
        self.differentiable = self.shared or any(vjps)
        self.defaults, hidden = _defaults(function)
        # Parameter names are read here, once: they say what a node keeps for the way back.
        read = [self._read(vjp, hidden) for vjp in ([each or joint] if self.shared else vjps)]
        self.asks = [asks for asks, _ in read]
        self.names = [names for _, names in read]
        if hidden:
            positions = [f"x{j}" for j in range(max(1, len(vjps)))]
            self.defaults = dict.fromkeys(positions + [n for names in self.names for n in names])
        self.keeps = frozenset(ask for asks in self.asks for ask in asks)
        self.accepts = frozenset(name for names in self.names for name in names)

    def _read(self, vjp: VJP | None, hidden: bool) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Split a VJP's parameter names after g into what it asks to be kept, and keywords."""
        if vjp is None:
            return (), ()
        asks, names = [], []
        for name in list(inspect.signature(vjp).parameters)[2 if vjp is self.each else 1 :]:
            if name in _ASKS or re.fullmatch(r"x\d+", name):
                asks.append(_ASKS.get(name, 0) or int(name[1:]))
            elif not hidden and (isinstance(self.function, np.ufunc) or name not in self.defaults):
                raise RuleError(
                    f"defvjp({self.name}): unknown parameter {name!r} in a VJP; use g, out, x0, "
                    f"x1, ..., xs, shapes, or a keyword of {self.name} "
                    f"({', '.join(self.defaults) or 'it has none'})"
                )
            else:
                names.append(name)
        return tuple(asks), tuple(names)

    def arguments(self, args: tuple[Any, ...], kwargs: Static) -> tuple[tuple[Any, ...], Static]:
        """NumPy's calling convention to ours: array operands first, all else keywords.

        `np.concatenate([a, b], 1)` becomes operands (a, b) and {"axis": -1}.
        """
        names = list(self.defaults)
        if self.each:
            operands, rest, names = tuple(args[0]), args[1:], names[1:]
        elif self.joint:
            operands, rest = args, ()
        else:
            count = len(self.vjps)
            operands, rest = args[:count], args[count:]
            for name in names[len(operands) : count]:
                if name in kwargs:
                    operands += (kwargs.pop(name),)
            names = names[count:]
        if len(rest) > len(names):
            raise TypeError(f"{self.name}: {len(args)} positional arguments are too many")
        given = dict(zip(names, rest, strict=False)) | kwargs
        static = {}
        for name, value in given.items():
            if name in self.accepts or not self.differentiable:
                static[name] = _hashable(value)
            elif value is not self.defaults.get(name):
                raise MissingRuleError(
                    f"{self.name} on Tensors: the rule knows nothing of {name}={value!r}, and "
                    f"leaving it out would give a wrong gradient. Known keywords: "
                    f"{', '.join(sorted(self.accepts)) or 'none'}. For more, register a rule whose "
                    f"VJPs name it: tg.defvjp({self.name}, ...)"
                )
        return operands, self.bind(operands, static) if self.bind else static


RULES: dict[Any, Rule] = {}


def defvjp(
    function: Callable[..., Any],
    *vjps: VJP | None,
    each: VJP | None = None,
    joint: VJP | None = None,
    broadcasts: bool | None = None,
    bind: Callable[[tuple[Any, ...], Static], Static] | None = None,
    into: Callable[..., None] | None = None,
) -> None:
    """Say how a function is differentiated: one VJP for each array argument.

        tg.defvjp(np.tanh, lambda g, out: g * (1 - out * out))
        tg.defvjp(np.multiply, lambda g, x1: g * x1, lambda g, x0: g * x0)

    A VJP gets `g`, the gradient of the loss with respect to the result, and returns the gradient
    with respect to its argument, in that argument's shape. It is plain NumPy: it runs on ndarrays,
    and on Tensors where derivatives of derivatives are wanted. What its parameters name is kept
    for it, and nothing else is:

        out             the result (a tuple, as `g` is, where the function returns several)
        x0, x1, ...     the operands        shapes   the shapes of all operands
        xs              the operands without a VJP of their own (with `each`: all of them)
        anything else   keywords of the call, by NumPy's names and with NumPy's defaults

    A keyword that no VJP names is refused when the function is called: the gradient could not
    depend on it. Name it even if you do not need it.

    vjps        one for each array argument; None where no gradient flows (a condition, an index)
    each        `each(g, i, ...)`: functions of a sequence of arrays (stack, concatenate)
    joint       `joint(g, ...) -> tuple`: all arguments at once, where they share work
    broadcasts  the operands broadcast together, and the walk shall sum the gradient over what was
                repeated. Default: True for ufuncs
    bind        `bind(operands, keywords) -> keywords`: rewrites the keywords, once, before the call
    into        `into(total, g, ...)`: adds the first argument's gradient into an array (indexing)

    A second call for the same function replaces the first. Raises RuleError for a parameter name
    that means nothing.
    """
    RULES[function] = Rule(function, vjps, each, joint, broadcasts, bind, into)


def _defaults(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """A function's parameters with their defaults, in order; and whether NumPy hides them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # functions written in C, before NumPy 2.4
        return {}, not isinstance(function, np.ufunc)
    return {p.name: p.default for p in parameters}, False


def _hashable(value: Any) -> Any:
    """Keywords are part of a traced program's key: lists and small arrays become tuples."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


# ----- nodes -------------------------------------------------------------------------------------

_next_id = itertools.count(1).__next__
_ENGINE = {  # a call made in these files is shown at the line that led to it
    str(Path(__file__).with_name(f"{name}.py"))
    for name in ("graph", "tensor", "rules", "functions", "losses")
}

Key = tuple["Node", int]  # one output of one node: what a gradient belongs to


class Node:
    """One recorded call. `edges` is None once the graph was freed."""

    __slots__ = ("id", "rule", "static", "edges", "shapes", "dtypes", "place", "code", "at")

    id: int
    rule: Rule | None  # None: a leaf
    static: Static
    edges: list[tuple[int, Key, tuple[Any, ...]]] | None  # (argument, where from, what is kept)
    shapes: tuple[tuple[int, ...], ...]  # one for each output
    dtypes: tuple[np.dtype[Any], ...]
    place: Place
    code: CodeType
    at: int

    def __init__(
        self,
        rule: Rule | None,
        static: Static,
        edges: list[tuple[int, Key, tuple[Any, ...]]],
        outs: list[np.ndarray],
    ) -> None:
        self.id = _next_id()
        self.rule = rule
        self.static = static
        self.edges = edges
        if len(outs) == 1:
            self.shapes, self.dtypes = (outs[0].shape,), (outs[0].dtype,)
        else:
            self.shapes = tuple([out.shape for out in outs])
            self.dtypes = tuple([out.dtype for out in outs])
        self.place = record.place
        # The line of code is looked up only when an error shows it: two fields, no formatting.
        frame = sys._getframe(2)
        while frame.f_code.co_filename in _ENGINE and frame.f_back:
            frame = frame.f_back
        self.code = frame.f_code
        self.at = frame.f_lasti

    def __str__(self) -> str:
        """`tanh #12 (2, 3), RNN(RNNCell), forward, t=4, made at cell.py:88: h = np.tanh(z)`"""
        shapes = ", ".join(map(str, self.shapes))
        text = f"{self.rule.name if self.rule else 'leaf'} #{self.id} {shapes}"
        if str(self.place):
            text += f", in {self.place}"
        line = list(self.code.co_positions())[self.at // 2][0] or self.code.co_firstlineno
        source = linecache.getline(self.code.co_filename, line).strip()
        name = self.code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
        return f"{text}, made at {name}:{line}: {source}"


class Leaf(Node):
    """A Tensor made with requires_grad=True: where gradients arrive."""

    __slots__ = ("grad",)
    grad: np.ndarray | None

    def __init__(self, data: np.ndarray) -> None:
        super().__init__(None, {}, [], [data])
        self.grad = None


def record_node(
    rule: Rule,
    static: Static,
    parents: list[tuple[int, Key]],
    arrays: list[Any],
    outs: list[np.ndarray],
) -> Node | None:
    """A node for this call, or None where no argument that needs a gradient has a VJP."""
    edges = []
    for i, key in parents:
        if rule.shared:
            asks = rule.asks[0]
        elif i >= len(rule.vjps):
            raise MissingRuleError(
                f"no VJP of {rule.name} for argument {i}: register it with "
                f"tg.defvjp({rule.name}, ...), or give that argument as x.detach()"
            )
        elif rule.vjps[i] is None:
            continue
        else:
            asks = rule.asks[i]
        edges.append((i, key, _kept(rule, asks, arrays, outs) if asks else ()))
    return Node(rule, static, edges, outs) if edges else None


def _kept(
    rule: Rule, asks: tuple[int, ...], arrays: list[Any], outs: list[np.ndarray]
) -> tuple[Any, ...]:
    """What a VJP asked for by its parameters' names."""
    kept: list[Any] = []
    for ask in asks:
        if ask >= 0:
            kept.append(arrays[ask])
        elif ask == OUT:
            kept.append(outs[0] if len(outs) == 1 else tuple(outs))
        elif ask == SHAPES:
            kept.append(tuple(map(np.shape, arrays)))
        else:
            kept.append(tuple(arrays[len(rule.vjps) :]))
    return tuple(kept)


# ----- the walk back -----------------------------------------------------------------------------


@functools.lru_cache(4096)
def _repeated_axes(g: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of g, counted from the end, along which an operand of this shape was repeated."""
    lead = len(g) - len(shape)
    return tuple(
        k - len(g) for k in range(len(g)) if k < lead or (shape[k - lead] == 1 and g[k] != 1)
    )


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an operand of this shape was repeated."""
    axes = _repeated_axes(g.shape, shape)
    return g.sum(axis=axes).reshape(shape) if axes else g


def _path(roots: list[Node], wanted: set[Node] | None) -> list[Node]:
    """The nodes that a gradient passes from the roots to the wanted nodes, oldest first.

    Why any order is needed: in `b = a + a; c = b + b` a naive walk from c would pull b back twice,
    once for each use, a four times, and a chain of n such steps 2^n times. A node must wait until
    all its uses have reported. Inputs are always made before outputs, so the number a node got
    when it was made is such an order; no depth-first search, and no recursion, is needed.
    """
    seen, stack = set(roots), list(roots)
    while stack:
        node = stack.pop()
        if node.edges is None:
            # A freed node may be the goal itself, but nothing behind it can be reached any more.
            if wanted is None or node not in wanted or any(w.id < node.id for w in wanted):
                raise GraphFreedError(
                    f"the graph behind {node} was already walked back and freed. For a second "
                    "gradient, pass retain_graph=True to the first; for a recurrent state carried "
                    "from one chunk to the next, detach it (state.detach()) between the chunks"
                )
            continue
        for _, (parent, _), _ in node.edges:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    order = sorted(seen, key=attrgetter("id"))
    if wanted is None:
        return order
    leads = set(wanted)  # only nodes on a path to what is wanted are worth walking
    for node in order:
        if any(parent in leads for _, (parent, _), _ in node.edges or ()):
            leads.add(node)
    return [node for node in order if node in leads]


Lift = Callable[[Any, "Key | None"], Any]


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
    order = _path(
        [node for node, _ in seeds], None if wanted is None else {node for node, _ in wanted}
    )
    leads = None if wanted is None else set(order)
    grads, found = dict(seeds), dict[Key, Array]()
    owned = set[Key]()  # sums that nobody else holds: these may be added to in place
    with recording(tracking=lift is not None, place=record.place):
        while order:
            node = order.pop()  # the youngest; let go of, so that its arrays die when it is done
            g = _arrived(node, grads, found, wanted)
            if g is None or node.rule is None:
                continue
            rule, record.place = node.rule, node.place
            for i, key, kept in node.edges or ():
                if leads is not None and key[0] not in leads:
                    continue
                if rule.into and lift is None:  # x[t] in a loop: no array of x's size for each t
                    if key not in owned:
                        grads[key] = _own_copy(key, grads.get(key))
                        owned.add(key)
                    rule.into(grads[key], g, *kept, **node.static)
                    continue
                vjp = rule.vjps[i] if not rule.shared else None
                if vjp and not node.static and lift is None:
                    part = vjp(g, *kept)
                else:
                    part = _vjp(node, rule, i, g, kept, lift)
                part = _fitted(part, node, i, key)
                total = grads.get(key)
                if total is None:
                    grads[key] = part  # by reference: others may hold the same array
                elif key in owned:
                    np.add(total, part, out=total)
                else:
                    grads[key] = total + part
                    if lift is None and part.ndim:
                        owned.add(key)
            if not retain:
                node.edges = None
    return found


def _arrived(
    node: Node, grads: dict[Key, Array], found: dict[Key, Array], wanted: set[Key] | None
) -> Any:
    """The gradient that a node has received: all its uses have reported by now. None: nothing.

    A node with several outputs gets a tuple, with zeros for the outputs that nothing used.
    """
    slots = []
    for slot in range(len(node.shapes)):
        key = (node, slot)
        g = grads.pop(key, None)
        slots.append(g)
        if g is not None and (node.rule is None if wanted is None else key in wanted):
            found[key] = g
    if len(slots) == 1:
        return slots[0]
    if all(g is None for g in slots):
        return None
    return tuple(
        np.zeros(shape, dtype) if g is None else g
        for g, shape, dtype in zip(slots, node.shapes, node.dtypes, strict=True)
    )


def _own_copy(key: Key, total: Array | None) -> np.ndarray:
    """A gradient's sum so far in an array of its own."""
    (node, slot) = key
    if total is None:
        return np.zeros(node.shapes[slot], node.dtypes[slot])
    return np.array(total)


def _vjp(node: Node, rule: Rule, i: int, g: Any, kept: tuple[Any, ...], lift: Lift | None) -> Any:
    """The gradient of argument i, from the rule."""
    column = 0 if rule.shared else i
    if lift:
        asks = rule.asks[column]
        kept = tuple(_lifted(node, ask, value, lift) for ask, value in zip(asks, kept, strict=True))
    static = {name: node.static[name] for name in rule.names[column] if name in node.static}
    if rule.each:
        return rule.each(g, i, *kept, **static)
    if rule.joint:
        return rule.joint(g, *kept, **static)[i]
    return rule.vjps[i](g, *kept, **static)  # type: ignore[misc]


def _lifted(node: Node, ask: int, value: Any, lift: Lift) -> Any:
    """What was kept under one name, with its place in the graph."""
    assert node.rule is not None
    assert node.edges is not None
    if ask == SHAPES:
        return value
    if ask == OUT:
        if isinstance(value, tuple):
            return tuple(lift(v, (node, k)) for k, v in enumerate(value))
        return lift(value, (node, 0))
    origin = {i: key for i, key, _ in node.edges}
    if ask == XS:
        first = len(node.rule.vjps)
        return tuple(lift(v, origin.get(first + k)) for k, v in enumerate(value))
    return lift(value, origin.get(ask))


def _fitted(g: Any, node: Node, i: int, key: Key) -> Any:
    """A VJP's result in the shape and dtype of its argument, or a RuleError."""
    parent, slot = key
    shape, dtype = parent.shapes[slot], parent.dtypes[slot]
    if not hasattr(g, "dtype"):
        g = np.asarray(g)
    if g.shape != shape:
        returned = g.shape
        with suppress(ValueError):
            g = unbroadcast(g, shape) if node.rule and node.rule.broadcasts else g
        if g.shape != shape:
            raise RuleError(
                f"the VJP of {node.rule and node.rule.name} for argument {i} returned shape "
                f"{returned}, expected {shape}; the call was {node}"
            )
    if g.dtype != dtype:
        g = g.astype(dtype)
    if record.nonfinite:
        check_finite(g, f"the gradient of argument {i} of {node}")
    return g


def check_finite(values: Any, what: str) -> None:
    """Raise NonFiniteError if an array (or a Tensor) holds a NaN or an infinity."""
    array = getattr(values, "_data", values)
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(k) for k in np.argwhere(bad)[0])
        raise NonFiniteError(
            f"{int(bad.sum())} of {bad.size} elements of {what} are not finite; the first is "
            f"{array[first]} at index {first}"
        )
