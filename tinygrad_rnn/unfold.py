"""A graph unfolded in time: its nodes in order, with their time steps, and gradients on the way.

A traced loop and a checkpoint are one node each in the graph that was recorded. Here the calls that
they stand for are run once more, and take the node's place: every step is there to be looked at.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import errors
from .differentiate import rerun
from .differentiate import run_again as checkpoint_again
from .given import Given
from .graph import Edges, Key, Leaf, Node, Sums, pull_node
from .record import recording
from .scan.loop import run_again as loop_again
from .scan.loop import scanned
from .tensor import Tensor, seed, wrap
from .vjp import OUT, XS, Array

Told = Callable[[Node, Key, Any], None]


class StatePart(NamedTuple):
    """Where a state is in the graph: which of its arrays, the value, in which rows of the batch."""

    array: Any
    key: Key
    rows: Any


class Unfolded:
    """What some Tensors were computed from.

    nodes  oldest first: each after all that it depends on
    calls  the layers' calls that are in it, in the order in which they ran
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.inner: dict[Node, list[Key | None]] = {}  # of a node that stands for a graph
        self.spans: list[tuple[int, int, tuple[int, ...]]] = []  # numbers of nodes made here
        self.by_step: dict[Any, list[Node]] = {}
        found: dict[Node, tuple[int, ...]] = {}
        stack = [t._key[0] for t in tensors if t._key]
        while stack:
            node = stack.pop()
            if node in found:
                continue
            if node.edges is None:
                raise errors.graph_freed(node)
            found[node] = self._order(node)
            parents = [key for _, key, _ in node.edges]
            if node.rule and node.rule.function in (rerun, scanned):
                parents = [key for key in self._written_out(node, found[node]) if key]
            stack += [parent for parent, _ in parents]
        self.nodes = sorted(found.keys() - self.inner.keys(), key=found.__getitem__)
        self.numbered = {node.id: node for node in found}
        places = dict.fromkeys(node.place.call for node in self.nodes)
        self.calls = [call for call in places if isinstance(call, Given)]
        # another look at the same graph runs loops once more, and then other numbers are noted
        self.after = {call: dict(call.after) for call in self.calls}

    def _order(self, node: Node) -> tuple[int, ...]:
        """A node's number; what was run once more comes where it was run first."""
        at = bisect(self.spans, (node.id,)) - 1
        if at >= 0 and node.id <= self.spans[at][1]:
            return (*self.spans[at][2], node.id)
        return (node.id,)

    def _written_out(self, node: Node, order: tuple[int, ...]) -> list[Key | None]:
        """Run once more what a node stands for: the keys of its results."""
        start = Leaf(np.zeros(0)).id  # numbers are a clock: what comes later is made here
        if node.rule and node.rule.function is rerun:
            with recording(place=node.place):
                outs = checkpoint_again(**node.static)
        else:
            run, wanted = node.static["run"], node.static["wanted"]
            given = run.inputs()
            own = {v: wrap(given[v], *key) for v, key in wanted.items()}
            outs = loop_again(run, own, node.place)
        self.spans.append((start, Leaf(np.zeros(0)).id, order))
        self.inner[node] = [out._key for out in outs]
        return self.inner[node]

    def real(self, key: Key | None) -> Key | None:
        """The value itself, where a node only stands for the graph that made it; None: constant."""
        while key and key[0] in self.inner:
            key = self.inner[key[0]][key[1]]
        return key

    def states(self, call: Given) -> dict[int, list[StatePart]]:
        """The state after each step of a call: its parts, as far as this graph has them.

        With padding, the loop chooses row by row between what the cell returned and the state
        before. A cell's output often *is* its new state: a row that was not held has that one's
        gradient, as it would without padding.
        """
        found: dict[int, list[StatePart]] = {}
        for t, arrays in self.after[call].items():
            found[t] = []
            for k, (state, own) in enumerate(arrays):
                valid = None if own is None else call.valid[t]
                rows = [(state, ...)] if valid is None else [(own, valid), (state, ~valid)]
                for number, which in rows:
                    if number and number[0] in self.numbered:
                        key = self.real((self.numbered[number[0]], number[1]))
                        found[t] += [StatePart(k, key, which)] if key else []
        return found

    def edges(self, node: Node) -> Edges:
        """A node's edges, to the values themselves."""
        real = [(i, self.real(key), kept) for i, key, kept in node.edges or ()]
        return [(i, key, kept) for i, key, kept in real if key]

    def seeds(self, loss: Tensor) -> dict[Key, Any]:
        """What the way back starts from: 1, at a Tensor with one element."""
        real = [(self.real(key), g) for key, g in seed(loss, None).items()]
        return {key: g for key, g in real if key}

    def pull(
        self,
        seeds: dict[Key, Any],
        goal: Key | None = None,
        see: Callable[[Node, Any], None] | None = None,
        contributed: Callable[[Node, Any], None] | None = None,
        told: Told | None = None,
        within: Node | None = None,
    ) -> None:
        """Pull gradients back to the goal (None: to everything); nothing is freed, nothing kept.

        see(node, g)             each node on the way, and its gradient (several outputs: a tuple)
        contributed(node, part)  what one node adds to the gradient of the goal
        told(node, key, part)    what any node adds to any gradient (None: it added it by itself)
        within                   stay in the time step of this node, and do not walk through a seed
        """
        leads = set() if goal is None else {goal[0]}
        nodes = self.nodes if within is None else self.step(within.place.call, within.place.t)
        for node in nodes:
            if goal is None or any(key[0] in leads for _, key, _ in self.edges(node)):
                leads.add(node)
        sums = _Parts(seeds, goal if contributed else None, told)
        with recording(tracking=False):
            for node in reversed(nodes):
                sums.node = node
                g = sums.take(node, set(), {}) if node in leads else None  # nothing to be found
                if g is None:
                    continue
                if see:
                    see(node, g)
                edges = [edge for edge in self.edges(node) if edge[1][0] in leads]
                if within:
                    edges = [edge for edge in edges if edge[1] not in seeds]
                if edges:
                    pull_node(node, edges, g, sums, None)
                if contributed and goal in sums.own.totals:
                    contributed(node, sums.own.totals.pop(goal))
                    sums.own.owned.clear()  # that array is the caller's now

    def step(self, call: Any, t: int | None) -> list[Node]:
        """The nodes of one time step of one loop, in order."""
        if not self.by_step:
            for node in self.nodes:
                self.by_step.setdefault((node.place.call, node.place.t), []).append(node)
        return self.by_step.get((call, t), [])


def kept_by(node: Node, edges: Edges) -> Iterator[tuple[Key, Any]]:
    """What a node has kept for the way back: values, and whose they are.

    A rule's `asks` say what each kept thing is: see vjp.Rule.
    """
    rule, keys = node.rule, {i: key for i, key, _ in edges}
    for i, _, kept in edges if rule else ():
        assert rule is not None
        for ask, value in zip(rule.asks[0 if rule.shared else i] or (), kept, strict=True):
            pairs: list[tuple[Key | None, Any]] = [(keys.get(ask), value)]
            if ask == XS:
                pairs = [(keys.get(len(rule.vjps) + k), x) for k, x in enumerate(value)]
            elif ask == OUT:
                outs = value if node.several else (value,)
                pairs = [((node, slot), out) for slot, out in enumerate(outs)]
            yield from ((key, value) for key, value in pairs if key is not None)


class _Parts(Sums):
    """Sums in which the parts of one gradient, the goal's, are kept apart."""

    def __init__(self, seeds: dict[Key, Any], goal: Key | None, told: Told | None) -> None:
        super().__init__(seeds, in_place=True)
        self.goal, self.told, self.own = goal, told, Sums({}, in_place=True)
        self.node: Any = None  # whose parts are coming

    def add(self, key: Key, part: Array) -> None:
        if self.told:
            self.told(self.node, key, part)
        if key == self.goal:
            self.own.add(key, part)
        else:
            super().add(key, part)

    def buffer(self, key: Key) -> Any:
        if self.told:
            self.told(self.node, key, None)
        return self.own.buffer(key) if key == self.goal else super().buffer(key)
