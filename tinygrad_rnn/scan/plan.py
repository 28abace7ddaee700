"""Plan: from a cell to two emitted functions, and to their runs on real arrays.

    trace the step -> gates apart -> pull it back -> split both -> join calls -> emit

A plan is for one step's shapes and dtypes; T may change from call to call. It runs on blocks of K
steps, so that what they need together stays in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import frozen_copy
from ..nests import leaves, map_tree
from ..streaming import choose
from ..tensor import Tensor
from . import forms
from .emit import Names, Place, Program, Store, Writer, assign
from .fission import Packer, classes, gates_apart, live, reassociated, tidied, uses
from .trace import Op, Recorder, Var, needing, pull_back, replay, sum_over_time, value_in

BLOCK = 320_000  # bytes of one value over a block of steps


class Given(NamedTuple):
    """What a layer's loop is given, checked: see RNN.__call__."""

    x: Any
    state: Any
    start: Any  # what a reset sets the state to
    valid: Any  # (T, N) booleans, or None
    resets: Any
    truncate: int | None
    states: bool  # whether all states are wanted


class Step:
    """A traced step: what comes in (x, masks, start, old, operands), and what goes out."""

    def __init__(self, layer: Any, given: Given) -> None:
        cell = layer.cell
        titles = {id(p): name for name, p in cell.named_parameters().items()}
        first = -1 if layer.reverse else 0
        x = map_tree(lambda a: _array(a)[first], given.x)
        state, start = map_tree(_array, given.state), map_tree(_array, given.start)
        valid, reset = given.valid is not None, given.resets is not None
        recorder = self.recorder = Recorder(titles)
        batch = leaves(x)[0].shape[:-1]

        def stands(wish: str, tree: Any, fixed: bool = False) -> Any:
            numbers = iter(range(len(leaves(tree))))
            several = len(leaves(tree)) > 1
            name = lambda: f"{wish}{next(numbers)}" if several else wish
            return map_tree(lambda a: recorder.stand_in(name(), a, fixed), tree)

        xs, old = stands("x", x), stands("h", state)
        again = stands("start", start, fixed=True) if reset else ()
        masks = [
            recorder.stand_in(name, np.full(batch, name == "valid"))
            for name, there in (("valid", valid), ("reset", reset))
            if there
        ]
        now = old
        if reset:
            with recorder.recording("restarted", "a reset: the initial state again"):
                now = map_tree(partial(choose, masks[-1]), again, now)
        with recorder.recording():
            output, new = cell(xs, now)
        layer._check_step(output, new, state, batch, 0)
        if valid:
            with recorder.recording("held", "padding: the state is held, the output is 0"):
                new = map_tree(partial(choose, masks[0]), new, now)
                output = choose(masks[0], output)
        each = lambda tree: [recorder.var(a) for a in leaves(tree)]
        self.x, self.old, self.start, self.masks = each(xs), each(old), each(again), each(tuple(masks))
        outs = each((output, new))
        for var, new in zip(self.old, outs[1:], strict=True):
            if new.named:
                var.name = new.name
            else:
                new.name = var.name
        outs[0].name = outs[0].name.strip("_") or "out"
        ops, alias = tidied(recorder.ops, outs, differentiable=True)
        outs = [alias.get(v, v) for v in outs]
        ops, alias = gates_apart(ops, set(outs))
        outs = [alias.get(v, v) for v in outs]
        self.ops, self.output, self.new = live(ops, outs), outs[0], outs[1:]
        reads = {v for op in self.ops for v in op.reads} | set(outs)
        floats = {v.dtype for v in reads if v.dtype.kind == "f"}
        self.precision = max([float(np.finfo(dtype).eps) for dtype in floats], default=0.0)
        self.operands = [v for v in recorder.tensor if v.value is not None and v in reads]
        self.operands += self.start
        self.copies = []  # constant arrays: a trace is good as long as they do not change
        for v in self.operands:
            if isinstance(v.value, np.ndarray):
                self.copies.append((v.value, frozen_copy(v.value)))
                v.value = recorder.known_as(v, self.copies[-1][1])


def _array(a: Any) -> Any:
    return a._data if isinstance(a, Tensor) else a


class Pulled:
    """The way back: `ops`, gradients that come in (`inputs`, `carries`), gradients that go out."""

    def __init__(self, step: Step, outputs: list[Var], grads: set[Var]) -> None:
        recorder = step.recorder
        recorder.ops = []
        now = {v: recorder.tensor[v] for v in (*step.x, *step.masks, *step.start, *step.old)}
        with recorder.recording("-"):
            replay(step.ops, now, recorder)
        self.steps, recorder.ops = recorder.ops, []
        var = lambda v: recorder.var(now[v]) if v in now else v
        self.new, self.outputs = [var(v) for v in step.new], [var(v) for v in outputs]
        floats = [k for k, v in enumerate(step.old) if v.dtype.kind == "f"]
        need = needing(self.steps, {*grads, *[step.old[k] for k in floats]})
        seeds: dict[Var, Any] = {}

        def arrives(target: Var, like: Var) -> Var:
            """A gradient that comes in at each step."""
            tensor = recorder.stand_in(f"d_{like.name}", np.ones(like.shape, like.dtype))
            if target in need:
                seeds[target] = seeds[target] + tensor if target in seeds else tensor
            return recorder.var(tensor)

        with recorder.recording("d_sum"):
            self.inputs = [arrives(v, v) for v in self.outputs]
            carried = [arrives(self.new[k], step.old[k]) for k in floats]
        found = pull_back(recorder, self.steps, recorder.tensor, seeds, need)
        gone = {v: recorder.var(g) for v, g in found.items()}
        zero = lambda v: Var("zero", v.shape, v.dtype, True, np.zeros(v.shape, v.dtype))
        goals = [gone.get(step.old[k]) or zero(step.old[k]) for k in floats]
        self.goals = [v for v in (*step.x, *step.operands) if v in grads and v in gone]
        ends = [*goals, *[gone[v] for v in self.goals]]
        self.ops, alias = tidied(recorder.ops, ends)
        ends = [alias.get(v, v) for v in ends]
        self.carries = list(zip(carried, ends[: len(goals)], strict=True))
        self.gone = dict(zip(self.goals, ends[len(goals) :], strict=True))
        self.floats, self.ends = floats, ends


class Half:
    """Forward or backward, emitted and compiled."""

    def __init__(
        self,
        program: Program,
        names: Names,
        places: dict[Var, Place],
        fixed: dict[Var, str],
        up: bool,
        constants: dict[str, Any],
    ) -> None:
        assign(program, names, places, up)
        self.program, self.places, self.known = program, places, dict(fixed)
        writer = Writer(program, names, places, fixed, up, readable=False)
        once = writer.once("once")
        block = writer.block()
        self.reads = list(writer.reads_fixed)
        for v in program.ops:
            if v.function is sum_over_time:
                store = places[v.outs[0]].store
                assert store is not None
                fixed[v.outs[0]] = store.name
        end = writer.once("end")
        self.up, self.carried, self.source = up, program.carry_stores, block
        self.stores = list(writer.used.values())
        self.outputs = program.output_places
        self.constants = constants  # what a rule brought in
        scope = {"np": np, "rows": rows, "points": points, **writer.constants}
        self.once = compile("\n".join(once + writer.weights), "<scan: once>", "exec")
        self.end = compile("\n".join(end), "<scan: end>", "exec")
        exec(compile(block, "<scan: block>", "exec"), scope)
        self.block, self.scope = scope["block"], scope

    def run(self, lo: int, hi: int, base: int, arrays: dict[str, Any], env: dict[str, Any],
            lists: Any, carry: list[np.ndarray]) -> list[np.ndarray]:
        """Steps lo..hi-1 from a carried state; returns the state after them."""
        first, last = (lo, hi) if self.up else (hi, lo)
        for store, value in zip(self.carried, carry, strict=True):
            arrays[store.name][first - store.origin(lo, base)] = value
        S = [arrays[store.name] for store in self.stores]
        self.block(lo, hi, base, S, [env[name] for name in self.reads], *lists)
        return [
            np.array(arrays[store.name][last - store.origin(lo, base)]) for store in self.carried
        ]


def rows(known: dict[Any, Any], name: str, at: int, array: np.ndarray) -> list[Any]:
    """The rows of a buffer from `at` on, as a list that is made once."""
    found = known.get((name, at))
    if found is None or len(found) < len(array):
        if len(known) > 500:
            known.clear()
        found = known[name, at] = list(array) if array.ndim > 1 else points(array)
    return found if len(found) == len(array) else found[: len(array)]


def points(array: np.ndarray) -> list[Any]:
    """The elements, as arrays without axes that can be written into."""
    return [array[k, ...] for k in range(len(array))]


def _program(
    ops: list[Op],
    inputs: list[Var],
    carries: list[tuple[Var, Var]],
    outputs: list[Var],
    kept: set[Var],
    at: dict[Var, Any],
    share: bool,
) -> Program:
    """Split the calls, put them in order, and join them."""
    old, goals = [o for o, _ in carries], [n for _, n in carries]
    pinned = {*goals, *outputs}
    count = uses(ops, pinned)
    maker = {v: op for op in ops for v in op.outs}
    absorbed = {}
    for op in ops:
        for v in op.ins if op.function is sum_over_time else ():
            made = maker.get(v)
            if made is not None and count[v] == 1:
                if forms.is_rows_product(made) or forms.sums_rows(made):
                    absorbed[v] = made
    free = {id(op) for op in absorbed.values()}
    stuck = lambda op: not (
        op.function is sum_over_time or id(op) in free or forms.liftable(op)
    )
    kind = classes(ops, old, goals, stuck)
    ops = reassociated(ops, kind, old, {*pinned, *kept})
    kind = classes(ops, old, goals, stuck)
    packer = Packer(ops, kind, pinned, at)
    rest = [op for op in ops if kind[op] != "loop"]
    places = {v: place for v, place in packer.at.items() if v not in at}
    return Program(
        [*rest, *packer.loop], packer.kind, inputs, carries, outputs, kept, places, absorbed, share
    )


class Plan:
    """Forward and backward of one step, emitted; `forward` and `backward` run them.

    step     the traced step
    states   whether all states are wanted, not only the last
    grads    which of x and of the operands need a gradient; None: no way back is wanted
    reverse  whether the layer runs from the last step to the first
    """

    def __init__(self, step: Step, states: bool, grads: set[Var] | None, reverse: bool) -> None:
        self.step, self.up, self.states = step, not reverse, states
        outputs, ops, new = [step.output, *(step.new if states else [])], step.ops, step.new
        names, places, fixed = Names(), dict[Var, Place](), dict[Var, str]()
        kept, pulled = set[Var](), None
        if grads is not None:
            pulled = Pulled(step, outputs, grads)
            ops, new, outputs = pulled.steps, pulled.new, pulled.outputs
            ops = live(ops, [*new, *outputs, *[v for op in pulled.ops for v in op.reads]])
            mine = {v for op in ops for v in op.outs} | {*step.x, *step.masks, *step.old}
            read = {v for op in pulled.ops for v in op.reads} | set(pulled.ends)
            kept = {v for v in read & mine if not v.fixed}
        self.compared = False  # with the plain loop
        for k, v in enumerate(step.operands):
            fixed[v] = names.new(v.name if v.name != "constant" else f"constant{k}")
        self.fixed_in = [fixed[v] for v in step.operands]
        inputs = [*step.x, *step.masks]
        pairs = list(zip(step.old, new, strict=True))
        program = _program(ops, inputs, pairs, outputs, kept, {}, share=True)
        self.first = Half(program, names, places, fixed, self.up, {})
        self.inputs = [places[v].store.name for v in inputs]  # type: ignore[union-attr]
        self.fresh = [s for s in program.stores if s.kind == "fresh"]
        self.kept = [s for s in program.stores if s.kind == "kept"]
        self.scratch = [s for s in self.first.stores if s.kind in ("temp", "block")]
        self.scratch += [s for s in program.carry_stores if s.kind == "block"]
        self.steps = self._block_size(step)
        self.pools: dict[str, list[Any]] = {"kept": [], "scratch": [], "back": []}
        self.pulled, self.second = pulled, None
        if pulled is None:
            return
        constants = {}
        for v in {v for op in pulled.ops for v in op.reads} | set(pulled.ends):
            if v.value is not None and v not in fixed:  # what a rule brought in
                fixed[v] = names.new("constant")
                constants[fixed[v]] = np.asarray(v.value)
        dx = [pulled.gone[v] for v in step.x if v in pulled.gone]
        back = _program(
            pulled.ops, pulled.inputs, pulled.carries, dx, set(), program.at, share=False
        )
        self.second = Half(back, names, places, fixed, not self.up, constants)
        self.back_inputs = [places[v].store.name for v in pulled.inputs]  # type: ignore[union-attr]
        self.back_fresh = [s for s in back.stores if s.kind == "fresh"]
        self.sums = [s for s in back.stores if s.kind == "sum"]
        own = {id(s) for s in back.stores}
        self.back_scratch = [
            s for s in self.second.stores if s.kind in ("temp", "block", "ones") and (id(s) in own or s.kind in ("temp", "ones"))
        ]
        self.back_scratch += [s for s in back.carry_stores if s not in self.back_scratch]
        self.dfixed = {v: fixed[pulled.gone[v]] for v in step.operands if v in pulled.gone}
        self.dx = [v for v in step.x if v in pulled.gone]
        self.dx_names = [name for name, v in zip(self.inputs, step.x, strict=False) if v in self.dx]
        self.dstate = [step.old[k] for k in pulled.floats]

    @property
    def returns(self) -> set[Var]:
        """Which inputs get a gradient."""
        return set() if self.pulled is None else {*self.dfixed, *self.dx, *self.dstate}

    def remember(self, inventory: Any) -> None:
        """What the cell consisted of: kept alive, and compared at each call."""
        self.inventory = inventory
        self.copies = self.step.copies + [(a, frozen_copy(a)) for a in inventory.arrays]
        self.index = {id(t): k for k, t in enumerate(inventory.tensors)}
        self.flags = [(v.value, v.value.requires_grad) for v in self.step.operands if isinstance(v.value, Tensor)]

    def still_holds(self) -> bool:
        """Whether arrays that the trace has read are as they were."""
        same = all(
            a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
            for a, b in self.copies
        )
        return same and all(t.requires_grad == flag for t, flag in self.flags)

    def now(self, v: Var, tensors: list[Tensor]) -> Any:
        """An operand at this call: a Parameter may have been replaced by another."""
        k = self.index.get(id(v.value))
        return v.value if k is None else tensors[k]

    def _block_size(self, step: Step) -> int:
        largest = max((math.prod(v.shape) * v.dtype.itemsize for v in step.old), default=1)
        return max(8, min(4096, BLOCK // max(1, largest)))

    def _take(self, pool: str, stores: list[Store], steps: int) -> Any:
        """Buffers for this many steps, with the lists of their rows: used ones if there are any."""
        try:
            found = self.pools[pool].pop()
            if found[0] >= steps:
                return found
        except IndexError:
            pass
        return steps, {s.name: s.allocate(steps) for s in stores}, {}

    def _give(self, pool: str, buffers: Any) -> None:
        if len(self.pools[pool]) < 2:
            self.pools[pool].append(buffers)

    def blocks(self, first: int, last: int, cut: int | None, steps: int) -> Iterator[tuple[int, int]]:
        """Blocks of at most K steps, by their places on the way; none crosses a cut."""
        while first < last:
            stop = min(first + self.steps, last)
            stop = min(stop, (first // cut + 1) * cut) if cut else stop
            yield first, stop
            first = stop

    def at(self, span: tuple[int, int], steps: int) -> tuple[int, int]:
        """Times lo, hi of a stretch of the way."""
        return span if self.up else (steps - span[1], steps - span[0])


class Run:
    """One call of a layer: what it computed, and what the way back needs."""

    def __init__(
        self,
        plan: Plan,
        given: list[np.ndarray],
        state: list[np.ndarray],
        operands: list[np.ndarray],
        cut: int | None,
        every: int | None,
    ) -> None:
        self.plan, self.steps, self.cut = plan, len(given[0]), cut
        steps = self.steps
        self.given, self.operands = given, operands
        self.env: dict[str, Any] = dict(zip(plan.fixed_in, operands, strict=True))
        exec(plan.first.once, plan.first.scope, self.env)
        self.arrays = dict(zip(plan.inputs, given, strict=True))
        self.arrays |= {s.name: s.allocate(steps) for s in plan.fresh}
        size = min(every or steps, steps)
        self.stretches = [(k, min(k + size, steps)) for k in range(0, steps, size)]
        self.starts: list[list[np.ndarray]] = []
        self.kept = plan._take("kept", plan.kept, size)
        self.state = state
        for span in self.stretches:
            self.starts.append(self.state)
            self.state = self._ahead(span, self.state)
        if every or plan.pulled is None:
            plan._give("kept", self.kept)
            self.kept = None
        self.whole = plan.pulled is None or bool(every)

    def _ahead(self, span: tuple[int, int], state: list[np.ndarray]) -> list[np.ndarray]:
        plan = self.plan
        scratch = plan._take("scratch", plan.scratch, min(plan.steps, self.steps))
        arrays = self.arrays | self.kept[1] | scratch[1]
        base = -plan.at(span, self.steps)[0]
        for part in plan.blocks(*span, self.cut, self.steps):
            lo, hi = plan.at(part, self.steps)
            state = plan.first.run(
                lo, hi, base, arrays, self.env, (scratch[2], self.kept[2]), state
            )
        plan._give("scratch", scratch)
        return state

    def outputs(self) -> list[np.ndarray]:
        """What was computed for every step: outputs, and states if they were wanted."""
        return [self._output(self.arrays, place) for place in self.plan.first.outputs]

    def _output(self, arrays: dict[str, np.ndarray], place: Place) -> np.ndarray:
        store = place.store
        assert store is not None
        array = arrays[store.name]
        if not store.carried:
            return array
        return array[1:] if place.row == store.up else array[:-1]

    def backward(self, gs: list[np.ndarray], state: list[np.ndarray]) -> dict[Var, np.ndarray]:
        """Gradients of x, of the initial state and of the operands."""
        plan, steps = self.plan, self.steps
        half = plan.second
        env = self.env | half.constants
        exec(half.once, half.scope, env)
        scratch = plan._take("back", plan.back_scratch, min(plan.steps, steps))
        fresh = {s.name: s.allocate(steps) for s in plan.back_fresh}
        sums = {s.name: np.zeros(s.shape, s.dtype) for s in plan.sums}
        given = dict(zip(plan.back_inputs, gs, strict=True))
        for k in range(len(self.stretches))[::-1]:
            span = self.stretches[k]
            if self.whole:
                self.kept = plan._take("kept", plan.kept, span[1] - span[0])
                self._ahead(span, self.starts[k])
            arrays = self.arrays | self.kept[1] | scratch[1] | fresh | sums | given
            base = -plan.at(span, steps)[0]
            for part in list(plan.blocks(*span, self.cut, steps))[::-1]:
                if self.cut and part[1] % self.cut == 0 and part[1] < steps:
                    state = [np.zeros_like(g) for g in state]
                lo, hi = plan.at(part, steps)
                state = half.run(lo, hi, base, arrays, env, (scratch[2], self.kept[2]), state)
            if self.whole:
                plan._give("kept", self.kept)
                self.kept = None
        plan._give("back", scratch)
        env |= sums
        exec(half.end, half.scope, env)
        gone = {v: np.asarray(env[name]) for v, name in plan.dfixed.items()}
        gone |= {v: self._output(fresh, place) for v, place in zip(plan.dx, half.outputs, strict=True)}
        return gone | dict(zip(plan.dstate, state, strict=True))

    def inputs(self) -> dict[Var, np.ndarray]:
        """What came in, by its Vars: for `replay`."""
        step = self.plan.step
        names = [*step.x, *step.masks, *step.old, *step.operands]
        return dict(zip(names, [*self.given, *self.starts[0], *self.operands], strict=True))

    def replay(self, inputs: dict[Var, Any]) -> list[Any]:
        """The plain loop of the traced calls through `apply`: outputs, states, the last state.

        On Tensors of what the run had, and not of what Parameters are now.
        """
        step, order = self.plan.step, range(self.steps)
        state = [inputs[v] for v in step.old]
        outputs: list[list[Any]] = []
        for done, t in enumerate(order if self.plan.up else order[::-1]):
            if self.cut and done and done % self.cut == 0:
                state = [a.detach() for a in state]
            env = inputs | {v: inputs[v][t] for v in (*step.x, *step.masks)}
            env |= dict(zip(step.old, state, strict=True))
            replay(step.ops, env)
            state = [value_in(env, v) for v in step.new]
            outputs.append([value_in(env, step.output), *(state if self.plan.states else [])])
        turned = outputs if self.plan.up else outputs[::-1]
        return [*[np.stack(each) for each in zip(*turned, strict=True)], *state]

    def __del__(self) -> None:
        if getattr(self, "kept", None) is not None:
            self.plan._give("kept", self.kept)
