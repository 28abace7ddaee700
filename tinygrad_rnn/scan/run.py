"""Run: one call of a traced layer: forward, block by block, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..given import Given
from ..record import record
from .places import Place
from .plan import Plan
from .trace import Var, replay, value_in


class Run:
    """One call of a layer: what it computed, and what the way back needs."""

    def __init__(
        self,
        plan: Plan,
        given: list[np.ndarray],
        state: list[np.ndarray],
        operands: list[np.ndarray],
        call: Given,
    ) -> None:
        self.plan, self.steps, self.call = plan, len(given[0]), call
        self.cut, every = call.truncate, call.layer.checkpoint
        self.given, self.operands = given, operands
        self.env: dict[str, Any] = dict(zip(plan.fixed_in, operands, strict=True))
        exec(plan.first.once, plan.first.scope, self.env)
        self.arrays = dict(zip(plan.inputs, given, strict=True))
        self.arrays |= {s.name: s.allocate(self.steps) for s in plan.first.own["fresh"]}
        size = min(every or self.steps, self.steps)
        self.stretches = [(k, min(k + size, self.steps)) for k in range(0, self.steps, size)]
        self.starts: list[list[np.ndarray]] = []
        kept = plan.take("kept", plan.first.own["kept"], size)
        self.state = state
        for span in self.stretches:
            self.starts.append(self.state)
            self.state = self._ahead(span, self.state, kept)
        self.kept = None if every or plan.pulled is None else kept
        if self.kept is None:
            plan.give("kept", kept)

    def _ahead(self, span: tuple[int, int], state: list[np.ndarray], kept: Any) -> list[np.ndarray]:
        """The steps of a stretch of the way; `kept` gets what the way back needs."""
        plan = self.plan
        scratch = plan.take("scratch", plan.first.own["scratch"], min(plan.steps, self.steps))
        arrays = self.arrays | kept[1] | scratch[1]
        base = -plan.at(span, self.steps)[0]
        with np.errstate(over="ignore"):  # of the exponential in sigmoid
            for part in plan.blocks(*span, self.cut):
                lo, hi = plan.at(part, self.steps)
                lists = scratch[2], kept[2]
                state = plan.first.run(lo, hi, base, arrays, self.env, lists, state)
        plan.give("scratch", scratch)
        return state

    def outputs(self) -> list[np.ndarray]:
        """What was computed for every step: outputs, and states if they were wanted."""
        return [self._output(self.arrays, place) for place in self.plan.first.program.shown]

    def _output(self, arrays: dict[str, np.ndarray], place: Place) -> np.ndarray:
        store = place.store
        assert store is not None
        array = arrays[store.name]
        if not store.carried:
            return array
        return array[1:] if place.new == store.up else array[:-1]

    def backward(self, gs: list[np.ndarray], state: list[np.ndarray]) -> dict[Var, np.ndarray]:
        """Gradients of x, of the initial state and of the operands."""
        plan, steps, half = self.plan, self.steps, self.plan.second
        assert half is not None
        env = self.env | plan.constants
        exec(half.once, half.scope, env)
        scratch = plan.take("back", half.own["scratch"], min(plan.steps, steps))
        fresh = {s.name: s.allocate(steps) for s in half.own["fresh"]}
        sums = {s.name: np.zeros(s.shape, s.dtype) for s in half.own["sum"]}
        given = dict(zip(plan.back_inputs, gs, strict=True))
        for span, start in zip(self.stretches[::-1], self.starts[::-1], strict=True):
            kept = self.kept
            if kept is None:  # a checkpoint: the steps once more
                kept = plan.take("kept", plan.first.own["kept"], span[1] - span[0])
                self._ahead(span, start, kept)
            arrays = self.arrays | kept[1] | scratch[1] | fresh | sums | given
            base = -plan.at(span, steps)[0]
            for part in list(plan.blocks(*span, self.cut))[::-1]:
                if self.cut and part[1] % self.cut == 0 and part[1] < steps:
                    state = [np.zeros_like(g) for g in state]
                lo, hi = plan.at(part, steps)
                state = half.run(lo, hi, base, arrays, env, (scratch[2], kept[2]), state)
            if self.kept is None:
                plan.give("kept", kept)
        plan.give("back", scratch)
        env |= sums
        exec(half.end, half.scope, env)
        gone = {v: np.asarray(env[name]) for v, name in plan.dfixed.items()}
        gone |= {
            v: self._output(fresh, place)
            for v, place in zip(plan.dx, half.program.shown, strict=True)
        }
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
        step, order, place = self.plan.step, range(self.steps), self.call.place()
        state = tuple(inputs[v] for v in step.old)
        outputs: list[list[Any]] = []
        for done, t in enumerate(order if self.plan.up else order[::-1]):
            record.place = place._replace(t=None)  # x_t is no part of the step
            env = inputs | {v: inputs[v][t] for v in (*step.x, *step.masks)}
            record.place = place if place.t is not None else place._replace(t=t)
            if self.cut and done and done % self.cut == 0:
                state = tuple(a.detach() for a in state)
            env |= dict(zip(step.old, state, strict=True))
            replay(step.ops, env)
            made = (value_in(env, v) for v in step.new)
            output, state = self.call.own(t, value_in(env, step.output), tuple(made))
            if self.call.valid is not None:
                self.call.chose(t, state)
            outputs.append([output, *(state if self.plan.states else [])])
        record.place = place._replace(t=None)
        turned = outputs if self.plan.up else outputs[::-1]
        return [*[np.stack(each) for each in zip(*turned, strict=True)], *state]

    def __del__(self) -> None:
        if getattr(self, "kept", None) is not None:
            self.plan.give("kept", self.kept)
