"""What one does with a graph: gradients of Tensors, and whether it is recorded and checked.

The walk back itself is `pull`, in graph.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import errors
from .graph import Key, Leaf, Node, pull, run_vjp, zeros
from .nests import leaves, map_tree
from .record import record, recording
from .tensor import Tensor, apply, seed, wrap
from .vjp import OUT, SHAPES, defvjp, rule_of


def grad(
    y: Tensor,
    inputs: Any = None,
    gradient: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The gradients of y with respect to the inputs, one Tensor for each; `.grad` is not touched.

        x = tg.Tensor(2.0, requires_grad=True)
        (dx,) = tg.grad(x**3, [x], create_graph=True)     # 12
        (ddx,) = tg.grad(dx, [x])                         # 12, the derivative of 3 x**2

    y             a Tensor; `gradient` is its cotangent, of its shape; not needed for one element
    inputs        a Tensor or several of any shapes, leaves or not
    create_graph  record the way back too, so that the gradients have gradients
    retain_graph  keep the graph for another call; None: as create_graph
    allow_unused  None for an input that y does not depend on, instead of UnusedInputError

    Raises NotScalarError without a cotangent, ShapeError for one of another shape, GraphFreedError,
    UnusedInputError, NoGradientError for an input (or a y) that is no Tensor.
    """
    if not isinstance(y, Tensor) or inputs is None:
        raise errors.function_given()
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    for k, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise errors.input_is_no_tensor(k, x)
    wanted = {x._key for x in inputs if x._key is not None}
    found: dict[Key, Any] = {}
    if y._key is not None and wanted:
        retain = create_graph if retain_graph is None else retain_graph
        seeds = seed(y, gradient, lift=create_graph)
        found = pull(seeds, wanted, retain, _lifted_vjp if create_graph else None)
    results = [None if x._key is None else found.get(x._key) for x in inputs]
    for k, (x, g) in enumerate(zip(inputs, results, strict=True)):
        if g is None and not allow_unused:
            raise errors.unused_input(k, x)
    return tuple(g if g is None or isinstance(g, Tensor) else Tensor(g) for g in results)


def _lifted_vjp(node: Node, i: int, g: Any, kept: tuple[Any, ...]) -> Any:
    """The very same rule on Tensors: what the node kept, put back to its place in the graph.

    Calls of the rule are recorded in turn: that is all there is to derivatives of derivatives.
    """
    rule = node.rule
    assert rule is not None
    origin = {j: key for j, key, _ in node.edges or ()}

    def lifted(ask: int, value: Any) -> Any:
        if ask >= 0:
            return _lift(value, origin.get(ask))
        if ask == SHAPES:
            return value
        if ask == OUT and not node.several:
            return _lift(value, (node, 0))
        first = len(rule.vjps)  # xs begin where the arguments with VJPs end
        keys = [(node, k) if ask == OUT else origin.get(first + k) for k in range(len(value))]
        return tuple(map(_lift, value, keys))

    asks = rule.asks[0 if rule.shared else i] or ()
    return run_vjp(node, i, g, [lifted(*pair) for pair in zip(asks, kept, strict=True)])


def _lift(value: Any, key: Key | None) -> Any:
    return wrap(value, *(key or ())) if isinstance(value, np.ndarray) else value


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f at the primals, and its derivative along the tangents (forward mode).

        tg.jvp(np.square, [3.0], [1.0])       # (9, 6), as Tensors

    primals, tangents  one array each for every argument of f, of the same shapes. f returns one
    Tensor. The way back, v times J, is linear in v, and the derivative of (v J) t with respect to v
    is J t: so no rule of its own is needed. Raises ShapeError where shapes differ, NoGradientError
    where f returns no Tensor.
    """
    with recording(tracking=True):
        inputs = _fresh(primals, tangents)
        value = _one_tensor(f(*inputs))
        cotangent = Tensor(np.zeros(value.shape, value.dtype), requires_grad=True)
        pulled = grad(value, inputs, cotangent, create_graph=True, allow_unused=True)
        along = _inner(pulled, tangents)
        if along is None:
            return value, Tensor(np.zeros(value.shape, value.dtype))
        return value, grad(along, [cotangent], create_graph=True)[0]


def hvp(f: Callable[..., Any], primals: Sequence[Any], vectors: Sequence[Any]) -> tuple[Any, ...]:
    """The second derivatives of f at the primals, times the vectors: one Tensor for each primal.

        (product,) = tg.hvp(lambda x: (x**3).sum(), [[1.0, 2.0]], [[1.0, 0.0]])
        product.data                                      # array([6., 0.])

    primals, vectors  one array each for every argument of f, of the same shapes. f returns one
    number. No matrix of second derivatives is made. Raises ShapeError where shapes differ,
    NotScalarError or NoGradientError where f returns something else.
    """
    with recording(tracking=True):
        inputs = _fresh(primals, vectors)
        first = grad(_one_tensor(f(*inputs)), inputs, create_graph=True, allow_unused=True)
        along = _inner(first, vectors)
        found: Any = [None] * len(inputs)
        if along is not None and along.requires_grad:
            found = grad(along, inputs, create_graph=True, allow_unused=True)
    none = (Tensor(np.zeros(x.shape, x.dtype)) for x in inputs)
    return tuple(zero if g is None else g for g, zero in zip(found, none, strict=True))


def _fresh(primals: Sequence[Any], vectors: Sequence[Any]) -> list[Tensor]:
    """Tensors to differentiate with respect to, each a node of its own.

    A Tensor that has a graph already gets a new node behind it: derivatives inside are then its own
    (the same Tensor may be given twice), and outer derivatives still flow through.
    """
    if [np.shape(v) for v in vectors] != [np.shape(x) for x in primals]:
        raise errors.wrong_vectors([*map(np.shape, vectors)], [*map(np.shape, primals)])
    inputs = []
    for x in primals:
        if isinstance(x, Tensor) and x.requires_grad:
            inputs.append(apply(np.positive, x))
        else:
            array = x.data if isinstance(x, Tensor) else np.asarray(x)
            dtype = None if array.dtype.kind == "f" else np.float64
            inputs.append(Tensor(array, requires_grad=True, dtype=dtype))
    return inputs


def _one_tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise errors.one_tensor_wanted(value)
    return value


def _inner(gradients: Sequence[Any], vectors: Sequence[Any]) -> Any:
    """The sum of all products; None where no gradient is there."""
    pairs = zip(gradients, vectors, strict=True)
    parts = [(g * v).sum() for g, v in pairs if g is not None]
    return sum(parts[1:], parts[0]) if parts else None


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, without keeping what it computes: it runs once more on the way back. Memory for time.

        W = tg.Parameter(np.eye(3))
        block = tg.checkpoint(lambda x: np.tanh(np.tanh(x @ W) @ W))
        block(x).sum().backward()         # W, which f closes over, gets its gradient too
        W.grad.shape                      # (3, 3)

    f takes anything, returns a Tensor or a tuple of any shapes (an RNNOutput, say), and must do the
    same when called again. Gradients reach its arguments and everything older that it uses, under
    backward, grad and create_graph. Raises NoGradientError on the way back where f gives another
    result than before, and at once where f makes a leaf.
    """

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        start = Leaf(np.zeros(0)).id  # node numbers are a clock, and this reads it
        result = f(*args, **kwargs)
        live = _with_history(result)
        if not live or record.tracing:
            return result
        keys = tuple(_boundary([out._key for out in live if out._key], start))
        if any(node.id > start for node, _ in keys):
            raise errors.leaf_inside_checkpoint()
        first = [out._data for out in live]
        static = {"again": lambda: f(*args, **kwargs), "keys": keys, "first": first}
        edges = [(i, key, ()) for i, key in enumerate(keys)]
        node = Node(rule_of(rerun), static, edges, [out._data for out in live], several=True)
        made = {id(out): wrap(out._data, node, slot) for slot, out in enumerate(live)}
        return map_tree(lambda out: made.get(id(out), out), result)

    return run


def _with_history(result: Any) -> list[Tensor]:
    """The Tensors among what a function returned that need a gradient."""
    return [out for out in leaves(result) if isinstance(out, Tensor) and out.requires_grad]


def _boundary(keys: list[Key], start: int) -> list[Key]:
    """The outputs of older nodes, and the leaves, that these outputs were computed from."""
    found: dict[Key, None] = {}
    seen, stack = set(keys), list(keys)
    while stack:
        key = stack.pop()
        if key[0].id < start or key[0].rule is None:
            found[key] = None
            continue
        for _, parent, _ in key[0].edges or ():
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return list(found)


def rerun(again: Any = None, keys: Any = None, first: Any = None) -> Any:
    """What a checkpoint's node is called; its VJP runs the function again."""
    raise NotImplementedError


def _rerun_vjp(
    g: tuple[Any, ...], again: Any, keys: tuple[Key, ...], first: list[np.ndarray]
) -> tuple[Any, ...]:
    return through(run_again(again, keys, first), g, keys)


def run_again(again: Any, keys: tuple[Key, ...], first: list[np.ndarray]) -> list[Tensor]:
    """What a checkpoint's function returns when it runs once more, recorded."""
    start = Leaf(np.zeros(0)).id
    with recording(tracking=True):
        live = _with_history(again())
    if set(_boundary([out._key for out in live if out._key], start)) != set(keys):
        raise errors.rerun_differs()  # a Parameter was replaced in between
    pairs = zip([out._data for out in live], first, strict=True)
    if not all(np.array_equal(now, before, equal_nan=True) for now, before in pairs):
        raise errors.rerun_differs()
    return live


def through(outs: list[Tensor], g: tuple[Any, ...], keys: Sequence[Key]) -> tuple[Any, ...]:
    """Gradients at a recorded graph's outs, pulled back to the keys where that graph begins."""
    lift = any(isinstance(part, Tensor) for part in g)
    seeds: dict[Key, Any] = {}
    for out, part in zip(outs, g, strict=True):
        if out._key is not None:
            seeds[out._key] = seeds[out._key] + part if out._key in seeds else part
    found = pull(seeds, set(keys), lift, _lifted_vjp if lift else None, cut=True)
    return tuple(found[key] if key in found else zeros(key) for key in keys)


defvjp(rerun, joint=_rerun_vjp)


def detach(state: Any) -> Any:
    """The same values without what they were computed from: no gradient goes back through them.

        out = rnn(x)
        state = tg.detach(out.state)         # for the next chunk: rnn(x, state)
        tg.mse(rnn(x, state).last, target).backward()

    state  a Tensor, or a nest of Tensors such as a state, of any shape; arrays stay as they are
    A cut in every `truncate` steps of one call is the layer's own `truncate=`. Raises nothing of
    its own.
    """
    return map_tree(lambda a: a.detach() if isinstance(a, Tensor) else a, state)


def no_grad() -> Any:
    """Record nothing inside.

        with tg.no_grad():
            y = layer(x).last
        y.requires_grad           # False

    Also a decorator (`@tg.no_grad()`). The state before is restored on the way out, after an
    exception too. Affects this thread only. Raises nothing of its own.
    """
    return recording(tracking=False)


def detect_nonfinite() -> Any:
    """Stop at the first NaN or infinity, on the way forward or back.

        with tg.detect_nonfinite():
            layer(x).outputs.sum().backward()

    Raises NonFiniteError, which names the operation, its shapes, its place in the network and the
    line that made it. One pass over every array inside the block, nothing outside it.
    """

    def watch(function: Any, operands: Any, static: Any, outs: tuple[Any, ...]) -> None:
        for out in outs:
            check(out, f"the result of {out._key[0] if out._key else function.__name__}")

    def check(values: Any, what: str) -> None:
        array = values._data if isinstance(values, Tensor) else values
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            first = tuple(bad[0].tolist())
            raise errors.not_finite(what, len(bad), array.size, first, array[first])

    return recording(watch=watch, check=check)
