"""Plan: from a cell to two emitted functions, and to their runs on real arrays.

    trace the step -> gates apart -> pull it back -> split both -> join calls -> emit

A plan is for one step's shapes and dtypes; T may change from call to call. It runs on blocks of K
steps, so that what they need together stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..arrays import frozen_copy
from ..given import Given
from ..nests import leaves, map_tree
from ..streaming import choose
from ..tensor import Tensor
from . import forms
from .emit import Writer, running
from .fission import (
    Packer,
    classes,
    factored,
    gates_apart,
    inputs_apart,
    live,
    reassociated,
    tidied,
    uses,
)
from .places import Names, Place, Program, Store, assign
from .trace import Op, Recorder, Var, needing, pull_back, replay, sum_over_time

BLOCK = 320_000  # bytes of one value over a block of steps


class Step:
    """A traced step: what comes in (x, masks, start, old, operands), and what goes out."""

    def __init__(self, layer: Any, given: Given) -> None:
        cell = layer.cell
        titles = {id(p): name for name, p in cell.named_parameters().items()}
        first = -1 if layer.reverse else 0
        x = map_tree(lambda a: array_of(a)[first], given.x)
        state, start = map_tree(array_of, given.state), map_tree(array_of, given.start)
        valid, reset = given.valid is not None, given.resets is not None
        recorder = Recorder(titles)
        self.recorder: Recorder | None = recorder
        batch = leaves(x)[0].shape[:-1]

        def stands(wish: str, tree: Any, fixed: bool = False) -> Any:
            several = len(leaves(tree)) > 1
            names = iter([f"{wish}{k}" if several else wish for k in range(len(leaves(tree)))])
            return map_tree(lambda a: recorder.stand_in(next(names), a, fixed), tree)

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

        def each(tree: Any) -> list[Any]:
            return [recorder.var(a) for a in leaves(tree)]

        self.x, self.masks, self.old = each(xs), each(tuple(masks)), each(old)
        self.start = each(again)
        outs = each((output, new))
        for var, new in zip(self.old, outs[1:], strict=True):
            if new.named:
                var.name = new.name
            else:
                new.name = var.name
        outs[0].name = outs[0].name.strip("_") or "out"
        ops, alias = tidied(recorder.ops, outs, differentiable=True)
        outs = [alias.get(v, v) for v in outs]
        ops, alias = gates_apart(inputs_apart(ops), set(outs))
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
                v.value = self.copies[-1][1]
                recorder.name(v.value, v)


def array_of(a: Any) -> Any:
    """The array in a Tensor; an array as it is."""
    return a._data if isinstance(a, Tensor) else a


class Pulled:
    """The way back: `ops`, gradients that come in (`inputs`, `carries`), gradients that go out."""

    def __init__(self, step: Step, outputs: list[Var], grads: set[Var]) -> None:
        recorder = step.recorder
        assert recorder is not None
        recorder.ops = []
        now = {v: recorder.tensor[v] for v in (*step.x, *step.masks, *step.start, *step.old)}
        with recorder.recording("-"):
            replay(step.ops, now, recorder)
        self.steps, recorder.ops = recorder.ops, []
        self.new, self.outputs = (
            [recorder.var(now[v]) if v in now else v for v in vs] for vs in (step.new, outputs)
        )
        floats = [k for k, v in enumerate(step.old) if v.dtype.kind == "f"]
        need = needing(self.steps, {*grads, *[step.old[k] for k in floats]})
        seeds: dict[Var, Any] = {}

        def arrives(target: Var, like: Var, wish: str) -> Var:
            """A gradient that comes in at each step."""
            tensor = recorder.stand_in(wish, np.ones(like.shape, like.dtype))
            if target in need:
                seeds[target] = seeds[target] + tensor if target in seeds else tensor
            return recorder.known[id(tensor)]

        with recorder.recording("d_sum"):
            self.inputs = [arrives(v, v, f"g_{v.name}") for v in self.outputs]
            carried = [arrives(self.new[k], step.old[k], f"d_{step.old[k].name}") for k in floats]
        found = pull_back(recorder, self.steps, recorder.tensor, seeds, need)
        gone = {v: recorder.var(g) for v, g in found.items()}
        old = [step.old[k] for k in floats]
        zeros = [Var("zero", v.shape, v.dtype, True, np.zeros(v.shape, v.dtype)) for v in old]
        goals = [gone.get(v) or zero for v, zero in zip(old, zeros, strict=True)]
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
        self, p: Program, names: Names, places: dict[Var, Place], fixed: dict[Var, str]
    ) -> None:
        assign(p, names, places)
        ends = "0" if p.share else "T"  # what readers call the state that comes in
        self.starts = [names.new(f"{s.name}_{ends}") for s in p.states]
        self.program, self.writer = p, Writer(p, names, places, fixed)
        self.block_text, self.scope = running(self.writer)
        self.stores, self.reads = list(self.writer.used.values()), self.writer.in_block
        self.once = compile("\n".join([*self.writer.once, *self.writer.weights]), "<scan>", "exec")
        self.end = compile("\n".join(self.writer.end), "<scan>", "exec")
        exec(compile(self.block_text, "<scan>", "exec"), self.scope)
        self.block: Any = self.scope["_block"]
        mine = {id(s) for s in p.stores}
        every = {s.name: s for s in [*p.stores, *self.stores]}.values()
        self.own: dict[str, list[Store]] = {"scratch": [], "kept": [], "fresh": [], "sum": []}
        for s in every:
            kind = "scratch" if s.kind in ("temp", "block") else s.kind
            if kind in self.own and (s.kind == "temp" or id(s) in mine):
                self.own[kind].append(s)

    def names(self, vs: Iterable[Var]) -> list[str]:
        """The buffers that these come in."""
        return [self.writer.store_of(v).name for v in vs]

    def run(
        self,
        lo: int,
        hi: int,
        base: int,
        arrays: dict[str, Any],
        env: dict[str, Any],
        lists: Any,
        carry: list[np.ndarray],
    ) -> list[np.ndarray]:
        """Steps lo..hi-1 from a carried state; returns the state after them."""
        first, last = (lo, hi) if self.program.up else (hi, lo)
        for store, value in zip(self.program.states, carry, strict=True):
            arrays[store.name][first - store.origin(lo, base)] = value
        S = [arrays[store.name] for store in self.stores]
        self.block(lo, hi, base, S, [env[name] for name in self.reads], *lists)
        return [
            np.array(arrays[store.name][last - store.origin(lo, base)])
            for store in self.program.states
        ]


def split(
    ops: list[Op],
    inputs: list[Var],
    carries: list[tuple[Var, Var]],
    outputs: list[Var],
    kept: set[Var],
    packs: dict[Var, Any],
    up: bool,
    share: bool,
) -> Program:
    """Put calls in their classes, into a good order, and join them."""
    old, goals = [o for o, _ in carries], [n for _, n in carries]
    pinned = {*goals, *outputs}
    count, maker = uses(ops, pinned), {v: op for op in ops for v in op.outs}
    absorbed = {
        v: maker[v]
        for op in ops
        if op.function is sum_over_time
        for v in op.ins
        if v in maker and count[v] == 1 and forms.sums_rows(maker[v])
    }
    free = {id(op) for op in absorbed.values()}
    ended = {v for op in ops if op.outs[0].ended for v in op.outs}
    stuck = lambda op: (
        op.function is not sum_over_time and id(op) not in free and not forms.liftable(op)
    )
    for better in (factored, reassociated):
        ops = better(ops, classes(ops, old, goals, stuck), old, {*pinned, *kept, *ended})
    packer = Packer(ops, classes(ops, old, goals, stuck), pinned, packs)
    rest = [op for op in ops if packer.kind[op] != "loop"]
    mine = {v: place for v, place in packer.at.items() if v not in packs}
    return Program(
        [*rest, *packer.loop],
        packer.kind,
        inputs,
        carries,
        outputs,
        kept,
        mine,
        absorbed,
        share,
        up,
    )


class Plan:
    """Forward and backward of one step, emitted, with a pool of buffers: what a Run runs.

    step     the traced step
    states   whether all states are wanted, not only the last
    grads    which of x and of the operands need a gradient; None: no way back is wanted
    reverse  whether the layer runs from the last step to the first
    """

    def __init__(self, step: Step, states: bool, grads: set[Var] | None, reverse: bool) -> None:
        self.step, self.up, self.states = step, not reverse, states
        self.compared = False  # with the plain loop
        outputs, ops, new = [step.output, *(step.new if states else [])], step.ops, step.new
        names, places, fixed = Names(), dict[Var, Place](), dict[Var, str]()
        kept, pulled = set[Var](), None
        if grads is not None:
            pulled = Pulled(step, outputs, grads)
            ops, new, outputs = pulled.steps, pulled.new, pulled.outputs
            read = {v for op in pulled.ops for v in op.reads} | set(pulled.ends)
            ops = live(ops, [*new, *outputs, *read])
            mine = {v for op in ops for v in op.outs} | {*step.x, *step.masks, *step.old}
            kept = {v for v in read & mine if not v.fixed}
        for k, v in enumerate(step.operands):
            fixed[v] = names.new(v.name if v.name != "constant" else f"constant{k}")
        self.fixed_in = [fixed[v] for v in step.operands]
        inputs, pairs = [*step.x, *step.masks], list(zip(step.old, new, strict=True))
        program = split(ops, inputs, pairs, outputs, kept, {}, self.up, share=True)
        self.first, self.second, self.pulled = Half(program, names, places, fixed), None, pulled
        self.inputs = self.first.names(inputs)
        largest = max((forms.size(v) * v.dtype.itemsize for v in step.old), default=1)
        self.steps = max(8, min(4096, BLOCK // max(1, largest)))
        self.pools: dict[str, list[Any]] = {"kept": [], "scratch": [], "back": []}
        self.dx, self.dstate, self.dfixed = list[Var](), list[Var](), dict[Var, str]()
        self.constants: dict[str, np.ndarray] = {}  # what a rule brought in
        step.recorder = None  # it holds the values of the traced step
        if pulled is None:
            return
        for v in dict.fromkeys([*[v for op in pulled.ops for v in op.reads], *pulled.ends]):
            if v.value is not None and v not in fixed:
                fixed[v] = names.new("constant")
                self.constants[fixed[v]] = np.asarray(v.value)
        dx = [pulled.gone[v] for v in step.x if v in pulled.gone]
        back = split(
            pulled.ops, pulled.inputs, pulled.carries, dx, set(), program.packs, not self.up, False
        )
        self.second = Half(back, names, places, fixed)
        self.back_inputs = self.second.names(pulled.inputs)
        self.dx = [v for v in step.x if v in pulled.gone]
        self.dstate = [step.old[k] for k in pulled.floats]
        self.dfixed = {v: fixed[pulled.gone[v]] for v in step.operands if v in pulled.gone}

    @property
    def returns(self) -> set[Var]:
        """Which inputs get a gradient."""
        return {*self.dfixed, *self.dx, *self.dstate}

    def remember(self, inventory: Any) -> None:
        """What the cell consisted of: kept alive, and compared at each call."""
        self.inventory = inventory  # its ids are good as long as it lives
        self.copies = self.step.copies + [(a, frozen_copy(a)) for a in inventory.arrays]
        self.index = {id(t): k for k, t in enumerate(inventory.tensors)}
        self.flags = [
            (v.value, v.value.requires_grad)
            for v in self.step.operands
            if isinstance(v.value, Tensor)
        ]

    def still_holds(self) -> bool:
        """Whether arrays that the trace has read are as they were."""
        same = all(same_bits(a, b) for a, b in self.copies)
        return same and all(t.requires_grad == flag for t, flag in self.flags)

    def now(self, v: Var, tensors: list[Tensor]) -> Any:
        """An operand at this call: a Parameter may have been replaced by another."""
        k = self.index.get(id(v.value))
        return v.value if k is None else tensors[k]

    def take(self, pool: str, stores: list[Store], steps: int) -> Any:
        """Buffers for this many steps, with the lists of their rows: used ones if there are any."""
        try:
            found = self.pools[pool].pop()
            if found[0] >= steps:
                return found
        except IndexError:
            pass
        return steps, {s.name: s.allocate(steps) for s in stores}, {}

    def give(self, pool: str, buffers: Any) -> None:
        if len(self.pools[pool]) < 2:
            self.pools[pool].append(buffers)

    def blocks(self, first: int, last: int, cut: int | None) -> Iterator[tuple[int, int]]:
        """Blocks of at most K steps, by their places on the way; none crosses a cut."""
        while first < last:
            stop = min(first + self.steps, last)
            stop = min(stop, (first // cut + 1) * cut) if cut else stop
            yield first, stop
            first = stop

    def at(self, span: tuple[int, int], steps: int) -> tuple[int, int]:
        """Times lo, hi of a stretch of the way."""
        return span if self.up else (steps - span[1], steps - span[0])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same, NaN and all."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.nbytes < 4096 or not a.flags.c_contiguous or a.nbytes % 8:
        return a.tobytes() == b.tobytes()
    return bool((a.reshape(-1).view(np.uint64) == b.reshape(-1).view(np.uint64)).all())
