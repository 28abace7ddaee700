"""Loop: what `RNN(cell, scan=True)` calls. It finds or makes a plan, and is one node."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from functools import lru_cache, partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .. import errors
from ..differentiate import no_grad, through
from ..given import Given
from ..graph import Key, Node
from ..module import Module
from ..nests import leaves, map_tree, refilled
from ..record import record, recording
from ..tensor import Tensor, apply, wrap
from ..vjp import defvjp, rule_of
from .plan import Plan, Step, array_of
from .run import Run
from .trace import Var, explained

PLANS = 8  # of one layer: for several shapes, or settings of the cell


class Loop:
    """The plans of one layer. Copies and pickles of the layer start without any."""

    def __init__(self) -> None:
        self.plans: dict[Any, Plan] = {}
        self.last: Plan | None = None

    def __repr__(self) -> str:
        return f"Loop({len(self.plans)} plans)"

    def __reduce__(self) -> Any:
        return Loop, ()

    def plan(self, layer: str) -> Plan:
        """The plan of the last call, or TraceError."""
        if self.last is None:
            raise errors.not_traced(layer)
        return self.last

    def __call__(self, layer: Any, given: Given) -> tuple[Any, Any, Any, Any]:
        """What the plain loop returns (RNN._plain): the same numbers, to rounding."""
        xs, hs = leaves(given.x), leaves(given.state)
        plan, tensors = self._plan(layer, given)
        step, starts = plan.step, leaves(given.start)
        operands = [
            starts[step.start.index(v)] if v in step.start else plan.now(v, tensors)
            for v in step.operands
        ]
        comes_in = zip([*step.x, *step.old, *step.operands], [*xs, *hs, *operands], strict=True)
        wanted = {v: a._key for v, a in comes_in if v in plan.returns and _key(a)}
        masks = [m for m in (given.valid, given.resets) if m is not None]
        run = Run(
            plan,
            [*map(array_of, xs), *masks],
            [np.asarray(array_of(h)) for h in hs],
            [array_of(p) for p in operands],
            given,
        )
        if not plan.compared:
            self._compare(layer, given, plan, run)
            plan.compared = True
        outs = [_frozen(a) for a in (*run.outputs(), *run.state)]
        self.last, node = plan, None
        if wanted:
            edges = [(i, key, ()) for i, key in enumerate(wanted.values())]
            node = Node(rule_of(scanned), {"run": run, "wanted": wanted}, edges, outs, several=True)
        results = [wrap(out, node, slot) for slot, out in enumerate(outs)]
        every = refilled(given.state, results[1 : 1 + len(hs)]) if given.states else None
        outputs, state = results[0], refilled(given.state, results[len(outs) - len(hs) :])
        return outputs, outputs[0 if layer.reverse else -1], state, every

    def _compare(self, layer: Any, given: Given, plan: Plan, run: Run) -> None:
        """Three steps by the plain loop too: a step that is no function of x and state shows."""
        valid = np.ones(run.steps) if given.valid is None else given.valid.reshape(run.steps, -1)
        counts = valid.reshape(run.steps, -1).sum(axis=1)  # in padding, x is 0 and hides much
        order = np.argsort(-counts, kind="stable")
        steps = np.resize(order[: max(1, np.count_nonzero(counts))], 3)
        x = map_tree(lambda a: np.stack([array_of(a)[k] for k in steps]), given.x)
        valid, resets = (
            None if mask is None else np.full((3, *mask.shape[1:]), mask is given.valid)
            for mask in (given.valid, given.resets)
        )
        masks = [m for m in (valid, resets) if m is not None]
        state = map_tree(Tensor, map_tree(array_of, given.state))
        with no_grad():
            some = given._replace(x=map_tree(Tensor, x), state=state, valid=valid, resets=resets)
            some = some._replace(truncate=None, states=False, after={})
            fast = Run(plan, [*leaves(x), *masks], run.starts[0], run.operands, some)
            outputs, _, last, _ = layer._plain(some)
        for a, b in zip(
            map(array_of, (outputs, *leaves(last))), (fast.outputs()[0], *fast.state), strict=True
        ):
            same = a.dtype == b.dtype
            a, b = a.astype(np.float64), b.astype(np.float64)
            axes = tuple(range(a.ndim - 1))  # each feature has a size of its own
            size = np.max(np.abs(a), axis=axes, initial=1, where=np.isfinite(a), keepdims=True)
            with np.errstate(invalid="ignore"):
                near = (np.abs(a - b) <= size * plan.step.precision**0.5) | (a == b)
            if not same or not (near | ((a != a) & (b != b))).all():
                raise errors.impure_step(
                    type(layer.cell).__name__, "run again, it gives something else than its trace"
                )

    def _plan(self, layer: Any, given: Given) -> tuple[Plan, list[Tensor]]:
        """The plan for these shapes and this cell as it is now, and the cell's Tensors."""
        inventory = Inventory(layer.cell)
        key = (
            *(_signature(given.x, 1), _signature(given.state), given.states, layer.reverse),
            None if given.resets is None else _signature(given.start),
            *(given.valid is None, record.tracking, *inventory.key),
        )
        plan = self.plans.get(key)
        if plan is None or not plan.still_holds():
            plan = self._made(layer, given)
            plan.remember(inventory)
            if Inventory(layer.cell).key != inventory.key or not plan.still_holds():
                raise errors.impure_step(type(layer.cell).__name__, "it changes the cell")
            while len(self.plans) >= PLANS:
                del self.plans[next(iter(self.plans))]
            self.plans[key] = plan
        return plan, inventory.tensors

    def _made(self, layer: Any, given: Given) -> Plan:
        with explained(type(layer.cell).__name__):
            step = Step(layer, given)
        known = [*zip(step.x, leaves(given.x), strict=True)]
        known += zip(step.start, leaves(given.start), strict=False)
        known += [(v, v.value) for v in step.operands]
        grads = {v for v, a in known if _key(a)}
        back = record.tracking and (grads or any(map(_key, leaves(given.state))))
        return Plan(step, given.states, grads if back else None, layer.reverse)


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


def _key(a: Any) -> Any:
    return a._key if isinstance(a, Tensor) else None


PLAIN = (int, float, bool, str, type(None))
# What is not asked whether it has changed.
LIBRARY = {"numpy", "builtins", __package__.partition(".")[0], *sys.stdlib_module_names}
THINGS = 5000  # of a cell, to be looked at; whatever is more counts by identity
HEAP = 1 << 9  # the flag of classes that are written in Python


class Inventory:
    """What a cell consists of: Tensors, and all else that a trace may have read.

    key      numbers and texts by value, other things by identity: a trace is good as long as it
             stays equal (arrays are compared, too: see Plan.still_holds)
    tensors  its Parameters and other Tensors, in order

    Looked at are attributes, classes, what functions close over, and the globals that they name, in
    any depth; of containers with more than 1,000 things the length. Not seen: what only a call can
    find (`os.environ`, a file). For such a change `rnn.traced.plans.clear()` traces anew.
    """

    def __init__(self, cell: Any) -> None:
        self.key: list[Any] = []
        self.tensors: list[Tensor] = []
        self.arrays: list[np.ndarray] = []
        self.alive: list[Any] = []  # an id is good only as long as its object lives
        self.places: dict[int, int] = {}
        self._add(cell)

    def _add(self, value: Any) -> None:
        kind = type(value)
        if kind in PLAIN:
            self.key += (kind, repr(value) if kind is float else value)
        elif kind is Loop:  # a layer that the cell refers to: its plans are no part of the cell
            pass
        elif id(value) in self.places:
            self.key.append(self.places[id(value)])
        else:
            self.places[id(value)] = len(self.places)
            self.alive.append(value)
            parts = self._parts(value) if len(self.alive) < THINGS else [id(value)]
            for item in parts:
                self._add(item)

    def _parts(self, value: Any) -> Iterable[Any]:
        """Notes what a thing is, and returns what it consists of."""
        self.key.append(type(value))
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.key += (value.shape, value.dtype, bool(value._key))
        elif isinstance(value, (list, tuple, set, frozenset, dict, deque)):
            self.key.append(len(value))
            if len(value) > 1000:
                self.key.append(id(value))
            else:
                return [*value, *value.values()] if isinstance(value, dict) else value
        elif isinstance(
            value, (FunctionType, MethodType, partial, property, staticmethod, classmethod)
        ):
            return _parts_of_function(value, self.key)
        elif isinstance(value, np.ndarray):
            self.key.append(id(value))
            self.arrays.append(value)
            return value.ravel().tolist() if value.dtype == object else ()
        elif isinstance(value, type) and not _of_library(value):
            return [
                item for cls in value.__mro__ if not _of_library(cls) for item in vars(cls).values()
            ]
        elif isinstance(value, (Module, Wrapped, SimpleNamespace)) or not (
            isinstance(value, type) or _of_library(value)
        ):
            slots = [n for cls in type(value).__mro__ for n in getattr(cls, "__slots__", ())]
            held = [getattr(value, name, None) for name in slots if name[:2] != "__"]
            around = getattr(value, "__wrapped__", None)
            return [getattr(value, "__dict__", None), *held, around, type(value)]
        else:
            self.key.append(id(value))
        return ()


Wrapped = type(lru_cache(lambda: None))  # a function behind lru_cache


def _parts_of_function(value: Any, key: list[Any]) -> list[Any]:
    """What a function's result may depend on besides its arguments."""
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    key.append(id(value.__code__))
    if _of_library(value):
        return (
            [value] if value.__closure__ is None else [c.cell_contents for c in value.__closure__]
        )
    codes, names = [value.__code__], list[str]()
    for code in codes:  # it grows: lambdas and comprehensions have code of their own
        names += code.co_names
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    found = [value.__globals__[name] for name in names if name in value.__globals__]
    modules = [thing for thing in found if isinstance(thing, ModuleType)]
    found += [vars(m).get(n) for m in modules if not _of_library(m) for n in names]
    cells = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
    found = [thing for thing in found if not isinstance(thing, ModuleType)]
    return [*found, *cells, value.__defaults__, value.__kwdefaults__]


def _of_library(thing: Any) -> bool:
    """Whether something is NumPy's, Python's or this library's."""
    if isinstance(thing, (FunctionType, ModuleType)):
        name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    else:
        kind = thing if isinstance(thing, type) else type(thing)
        name = kind.__module__  # "builtins" also where code was run without a name
        if name == "builtins" and kind.__flags__ & HEAP:
            return False
    return _is_installed(str(name).partition(".")[0])


@lru_cache(1000)
def _is_installed(name: str) -> bool:
    """Whether a package is no part of the user's own code."""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return name in LIBRARY or "site-packages" in file or "dist-packages" in file


def scanned(run: Any = None, wanted: Any = None) -> Any:
    """What a traced loop's node is called."""
    raise NotImplementedError


def _scanned_vjp(g: tuple[Any, ...], run: Run, wanted: dict[Var, Key]) -> tuple[Any, ...]:
    pulled = run.plan.pulled
    assert pulled is not None
    if any(isinstance(part, Tensor) for part in g):
        given = run.inputs()
        with recording(tracking=True):  # a node each: the same Tensor may come in twice
            own = {v: apply(np.positive, wrap(given[v], *key)) for v, key in wanted.items()}
        return through(run_again(run, own, record.place), g, [t._key for t in own.values()])
    outs = len(g) - len(run.plan.step.old)
    gone = run.backward(list(g[:outs]), [g[outs + k] for k in pulled.floats])
    return tuple(gone[v] for v in wanted)


def run_again(run: Run, given: dict[Var, Tensor], place: Any) -> list[Any]:
    """The step's calls once more, one by one, on what the run had and on what is given instead.

    Outputs, all states where they were wanted, the last state: recorded, each at its own place.
    """
    with recording(tracking=True, place=place):
        return run.replay({v: wrap(a) for v, a in run.inputs().items()} | given)


defvjp(scanned, joint=_scanned_vjp)
