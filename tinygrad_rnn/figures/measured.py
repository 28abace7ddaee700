"""Measured: the gradients of an unrolled network, step by step, for its picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import FigureError, loss_and_weight, unused_weight
from ..graph import Key, Node
from ..insight import gradients_at, norm_of
from ..tensor import Tensor
from ..unfold import StatePart, Unfolded
from .lanes import Lanes, Row


class Measured:
    """What a loss does to a recorded network.

    norms   |dJ/dh| at each step of each lane, as gradient_flow gives it
    read    the steps that a gradient reaches from outside of the loops: what J reads
    weight  the weight whose gradient is taken apart
    shares  what each step gives to it, by column and time: along its direction, 1 in all
    sizes   the norm of each step's part, in units of the whole gradient's
    outside the share of uses outside of all loops
    """

    def __init__(self, lanes: Lanes, loss: Tensor, parameter: Tensor | None) -> None:
        self.graph = lanes.graph
        self.norms: dict[tuple[Row, int], float] = {}
        self.read: set[tuple[Row, int]] = set()
        self.shares: dict[tuple[int, int], float] = {}
        self.sizes: dict[tuple[int, int], float] = {}
        self.outside = 0.0
        self._states(lanes, loss)
        loops = list(lanes.lanes.values())
        self.weight = recurrent_weight(loops, self.graph)
        if parameter is not None:
            if not isinstance(parameter, Tensor):
                raise loss_and_weight(parameter)
            self.weight = self.graph.real(parameter._key)
            if self.weight is None or self.weight[0].id not in self.graph.numbered:
                raise unused_weight(parameter)
        if self.weight is not None:
            self._parts(loops, loss, self.weight)
        if parameter is not None and not self.shares:
            raise FigureError(
                "parameter=: this weight is used outside of all loops, so no time step has a share "
                "in its gradient"
            )

    def _states(self, lanes: Lanes, loss: Tensor) -> None:
        loops = lanes.lanes
        parts = {
            (row, t): found
            for row in loops.values()
            for t, found in states_of(row, self.graph).items()
        }
        for row in {row: None for row, _ in parts}:  # where nothing arrives, the gradient is 0
            if row.call:
                self.norms |= {(row, t): 0.0 for t in row.used}

        def told(node: Node, key: Key, part: Any) -> None:
            t = key[0].place.t
            if node.place.t is None and t is not None and (part is None or np.any(part)):
                self.read.add((loops[key[0].place.call], t))

        for row in loops.values():  # a loss may be added up inside of the loop
            times = [t for t, keys in row.sums.items() if keys]
            self.read |= {(row, t) for t in [*times, row.travel[-1]] if times}
        for node, _ in self.graph.seeds(loss):
            if node.place.t is not None:
                self.read.add((loops[node.place.call], node.place.t))
        for step, found in gradients_at(self.graph, loss, parts, told).items():
            self.norms[step] = norm_of(found)

    def _parts(self, loops: list[Row], loss: Tensor, weight: Key) -> None:
        found: dict[tuple[int, int | None], Any] = {}
        offsets = {row.loop: row.offset for row in loops}

        def contributed(node: Node, part: Any) -> None:
            at = (offsets.get(node.place.call, 0), node.place.t)
            found[at] = found[at] + part if at in found else np.array(part)

        self.graph.pull(self.graph.seeds(loss), weight, contributed=contributed)
        parts = {at: np.asarray(part, np.float64) for at, part in found.items()}
        total: Any = sum(parts.values())
        square = float(np.sum(total * total)) or 1.0
        for (offset, t), part in parts.items():
            share = float(np.sum(part * total)) / square
            if t is None:
                self.outside += share
            else:
                self.shares[offset, t] = share
                self.sizes[offset, t] = math.sqrt(float(np.sum(part * part)) / square)


def states_of(row: Row, graph: Unfolded) -> dict[int, list[StatePart]]:
    """The state after each step. A layer's call has noted it; of one's own loop it is what later
    steps read. Where none does (the last, or before a detach) it is found by where in the code the
    others were made.
    """
    if row.call:
        return graph.states(row.call)
    keys = {t: sorted(found, key=_number) for t, found in row.carried.items() if found}
    made = {_made(key) for found in keys.values() for key in found}
    for t in row.used - keys.keys() if made else ():
        values = [
            (node, slot) for node in graph.step(row.loop, t) for slot in range(len(node.shapes))
        ]
        keys[t] = [key for key in values if _made(key) in made]
    known = {t: found for t, found in keys.items() if found}
    return {
        t: [StatePart(k, key, ...) for k, key in enumerate(found)] for t, found in known.items()
    }


def _number(key: Key) -> tuple[int, int]:
    return key[0].id, key[1]


def _made(key: Key) -> Any:
    """The place in the code of a step that made a value."""
    return key[0].code, key[0].at, key[0].rule, key[1]


def recurrent_weight(loops: list[Row], graph: Unfolded) -> Key | None:
    """The weight that acts on the state: the first that meets a value of another step."""
    weight: dict[Key, Key] = {}  # of a value that is made of this weight alone
    for row in loops:
        carried = set[Key]().union(*row.carried.values()) if row.carried else set()
        weight |= {key: key for key in row.weights}
        for node in graph.nodes:
            keys = [key for _, key, _ in graph.edges(node)]
            if node.place.t is None or not keys:
                continue
            found = [weight[key] for key in keys if key in weight and key not in carried]
            if found and any(key in carried and key[0].place.t != node.place.t for key in keys):
                return found[0]
            if len(found) == len(keys) and len(set(found)) == 1:
                weight |= {(node, slot): found[0] for slot in range(len(node.shapes))}
    return next((key for row in loops for key in row.weights), None)
