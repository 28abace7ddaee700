"""Loop: what `RNN(cell, scan=True)` calls. It finds or makes a plan, and is one node of the graph."""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .. import errors
from ..differentiate import _lifted_vjp, no_grad
from ..graph import Key, Node, pull, zeros
from ..nests import leaves, map_tree, refilled
from ..record import record, recording
from ..tensor import Tensor, apply, wrap
from ..vjp import defvjp, rule_of
from .plan import Plan, Run, Step
from .trace import Var, explained

PLANS = 8  # of one layer: for several shapes, or settings of the cell


class Loop:
    """The plans of one layer. Copies and pickles of the layer start without any."""

    def __init__(self) -> None:
        self.plans: dict[Any, Plan] = {}
        self.last: Plan | None = None

    def __reduce__(self) -> Any:
        return Loop, ()

    def __call__(
        self,
        layer: Any,
        x: Any,
        state: Any,
        start: Any,
        valid: np.ndarray | None,
        resets: np.ndarray | None,
        truncate: int | None,
        states: bool,
    ) -> tuple[Any, Any, Any]:
        """Outputs (T, N, H), the last state, all states: the same as the plain loop's."""
        xs, hs, steps = leaves(x), leaves(state), len(leaves(x)[0])
        masks = [m for m in (valid, resets) if m is not None]
        plan, tensors = self._plan(layer, x, state, start, valid, resets, states)
        step = plan.step
        starts = dict(zip(step.start, leaves(start), strict=False))
        operands = [starts[v] if v in starts else plan.now(v, tensors) for v in step.operands]
        given = dict(zip([*step.x, *step.old, *step.operands], [*xs, *hs, *operands], strict=True))
        with np.errstate(over="ignore"):  # of the exponential in sigmoid
            run = Run(
                plan,
                [*map(_array, xs), *masks],
                [np.asarray(_array(h)) for h in hs],
                [_array(p) for p in operands],
                steps,
                truncate,
                layer.checkpoint,
            )
        outs = [_frozen(a) for a in (*run.outputs(), *run.state)]
        if not plan.compared:
            self._compare(layer, plan, x, state, start, valid, resets, outs)
        self.last = plan
        wanted = {v: a._key for v, a in given.items() if v in plan.returns and _key(a)}
        node = None
        if wanted:
            static = {"run": run, "wanted": wanted, "masks": masks}
            edges = [(i, key, ()) for i, key in enumerate(wanted.values())]
            node = Node(rule_of(scanned), static, edges, outs, several=True)
        results = [wrap(out, node, slot) for slot, out in enumerate(outs)]
        every = refilled(state, results[1 : 1 + len(hs)]) if states else None
        return results[0], refilled(state, results[len(outs) - len(hs) :]), every

    def _compare(
        self, layer: Any, plan: Plan, x: Any, state: Any, start: Any, valid: Any, resets: Any, outs: Any
    ) -> None:
        """The first steps by the plain loop: a step that is no function of x and state shows."""
        steps = len(outs[0])
        span = slice(max(0, steps - 3), steps) if layer.reverse else slice(0, 3)
        cut = lambda a: None if a is None else a[span]
        with no_grad():
            plain = layer._plain(
                map_tree(cut, x), state, start, cut(valid), cut(resets), None, False
            )[0]
        a, b = _array(plain), outs[0][span]
        if a.dtype.kind == "f":
            scale = max(1.0, float(np.max(np.abs(a), initial=0, where=np.isfinite(a))))
            near = np.allclose(a, b, rtol=0, atol=scale * np.finfo(a.dtype).eps ** 0.5, equal_nan=True)
        else:
            near = np.array_equal(a, b)
        if not near or a.dtype != b.dtype:
            raise errors.impure_step(type(layer.cell).__name__, "its first steps differ from a trace")
        plan.compared = True

    def _plan(
        self, layer: Any, x: Any, state: Any, start: Any, valid: Any, resets: Any, states: bool
    ) -> tuple[Plan, list[Tensor]]:
        """The plan for these shapes and this cell as it is now, and the cell's Tensors."""
        inventory = Inventory(layer.cell)
        start = start if resets is not None else ()
        key = (
            *(_signature(x, 1), _signature(state), _signature(start)),
            *(valid is None, resets is None, states, layer.reverse, record.tracking),
            *inventory.key,
        )
        plan = self.plans.get(key)
        if plan is not None and plan.still_holds():
            return plan, inventory.tensors
        plan = self._made(layer, x, state, start, valid is not None, resets is not None, states)
        plan.remember(inventory)
        if Inventory(layer.cell).key != inventory.key:
            raise errors.impure_step(type(layer.cell).__name__, "it changes the cell")
        while len(self.plans) >= PLANS:
            del self.plans[next(iter(self.plans))]
        self.plans[key] = plan
        return plan, inventory.tensors

    def _made(
        self, layer: Any, x: Any, state: Any, start: Any, valid: bool, resets: bool, states: bool
    ) -> Plan:
        first = -1 if layer.reverse else 0
        batch = leaves(x)[0].shape[1:-1]
        with explained(type(layer.cell).__name__):
            step = Step(
                layer.cell,
                map_tree(lambda a: _array(a)[first], x),
                map_tree(_array, state),
                map_tree(_array, start),
                valid,
                resets,
                lambda output, new, old: layer._check_step(output, new, old, batch, 0),
                {id(p): name for name, p in layer.cell.named_parameters().items()},
            )
        ways = [*zip(step.x, leaves(x), strict=True), *zip(step.start, leaves(start), strict=True)]
        ways += [(v, v.value) for v in step.operands if v.value is not None]
        grads = {v for v, a in ways if _key(a)}
        back = record.tracking and (grads or any(map(_key, leaves(state))))
        return Plan(step, states, grads if back else None, layer.reverse)


def _signature(tree: Any, first: int = 0) -> Any:
    """What a plan depends on: the form of a nest, and its arrays' shapes, dtypes and needs."""
    if isinstance(tree, dict):
        return tuple((key, _signature(item, first)) for key, item in tree.items())
    if isinstance(tree, tuple):
        return (type(tree), *[_signature(item, first) for item in tree])
    return tree.shape[first:], tree.dtype, record.tracking and bool(_key(tree))


def _frozen(a: np.ndarray) -> np.ndarray:
    """What the user gets: read-only. A checkpoint's second run writes the same numbers again."""
    view = a[...]
    view.setflags(write=False)
    return view


def _array(a: Any) -> Any:
    return a._data if isinstance(a, Tensor) else a


def _key(a: Any) -> Any:
    return a._key if isinstance(a, Tensor) else None


class Inventory:
    """What a cell consists of: Tensors, and all else that a trace may have read.

    key      numbers and texts by value, other things by identity: a trace is good as long as it
             stays equal (arrays are compared, too: see Plan.still_holds)
    tensors  its Parameters and other Tensors, in order
    """

    def __init__(self, cell: Any) -> None:
        self.key: list[Any] = []
        self.tensors: list[Tensor] = []
        self.arrays: list[np.ndarray] = []
        self.alive: list[Any] = []
        self.places: dict[int, int] = {}
        self._add(cell)

    def _add(self, value: Any) -> None:
        kind = type(value)
        if kind in (int, float, bool, str, type(None)):
            self.key += (kind, value if value == value else "nan")
        elif id(value) in self.places:
            self.key.append(self.places[id(value)])
        else:
            self.places[id(value)] = len(self.places)
            self.alive.append(value)
            self._add_object(value)

    def _add_object(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.key += ("tensor", value.shape, value.dtype, bool(value._key))
        elif isinstance(value, np.ndarray):
            self.arrays.append(value)
            self.key.append(id(value))
        elif isinstance(value, (list, tuple, set, frozenset)):
            self.key += (type(value), len(value))
            for item in value:
                self._add(item)
        elif isinstance(value, dict):
            self.key += (type(value), len(value))
            for name, item in value.items():
                self._add(name)
                self._add(item)
        elif isinstance(value, FunctionType):
            self.key.append(id(value.__code__))
            for item in (*[c.cell_contents for c in value.__closure__ or ()], value.__defaults__):
                self._add(item)
        elif isinstance(value, MethodType):
            self._add(value.__func__)
            self._add(value.__self__)
        elif hasattr(value, "__dict__") and not isinstance(
            value, (type, ModuleType, BuiltinFunctionType, np.ufunc)
        ):
            self.key.append(type(value))
            self._add(vars(value))
        else:
            self.key.append(id(value))


def scanned(run: Any = None, wanted: Any = None, masks: Any = None) -> Any:
    """What a traced loop's node is called."""
    raise NotImplementedError


def _scanned_vjp(
    g: tuple[Any, ...], run: Run, wanted: dict[Var, Key], masks: list[np.ndarray]
) -> tuple[Any, ...]:
    plan = run.plan
    assert plan.pulled is not None
    if any(isinstance(part, Tensor) for part in g):
        return _recorded_vjp(g, run, wanted)
    outs = len(g) - len(plan.step.old)
    gone = run.backward(list(g[:outs]), [g[outs + k] for k in plan.pulled.floats])
    return tuple(gone[v] for v in wanted)


def _recorded_vjp(g: tuple[Any, ...], run: Run, wanted: dict[Var, Key]) -> tuple[Any, ...]:
    """Derivatives of derivatives: the step's calls once more, one by one, on what the run had."""
    given: dict[Var, Any] = run.inputs()
    with recording(tracking=True):
        for v, key in wanted.items():  # a node each: the same Tensor may come in twice
            given[v] = apply(np.positive, wrap(given[v], *key))
        outs = run.replay({v: a if isinstance(a, Tensor) else wrap(a) for v, a in given.items()})
    seeds: dict[Key, Any] = {}
    for out, part in zip(outs, g, strict=True):
        if out._key is not None:
            seeds[out._key] = seeds[out._key] + part if out._key in seeds else part
    keys = [given[v]._key for v in wanted]
    found = pull(seeds, set(keys), True, _lifted_vjp, cut=True)
    return tuple(found[key] if key in found else zeros(key) for key in keys)


defvjp(scanned, joint=_scanned_vjp)
