"""Measured: the gradients of an unrolled network, step by step, for its picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Key, Node
from ..insight import gradients_at, held
from ..tensor import Tensor
from ..unfold import Unfolded
from .lanes import Lanes, Row


class Measured:
    """What a loss does to a recorded network.

    norms   |dJ/dh| at each step of each lane, as gradient_flow gives it
    weight  the weight whose gradient is taken apart
    shares  what each step gives to it, by column and time: along its direction, 1 in all
    sizes   the norm of each step's part, in units of the whole gradient's
    """

    def __init__(self, lanes: Lanes, loss: Tensor, parameter: Tensor | None) -> None:
        self.graph = lanes.graph
        self.norms: dict[tuple[Row, int], float] = {}
        self.shares: dict[tuple[int, int], float] = {}
        self.sizes: dict[tuple[int, int], float] = {}
        loops = list(lanes.lanes.values())
        self._states(loops, loss)
        given = None if parameter is None else self.graph.real(parameter._key)
        self.weight = given or recurrent_weight(loops, self.graph)
        if self.weight is not None:
            self._parts(loops, loss, self.weight)

    def _states(self, loops: list[Row], loss: Tensor) -> None:
        parts = {
            (row, t): [part for k, key in enumerate(keys) for part in held(self.graph, k, key, t)]
            for row in loops
            for t, keys in state_keys(row, self.graph).items()
        }
        for row in loops:  # where nothing arrives, the gradient is 0
            self.norms |= {(row, t): 0.0 for t in row.used}
        for step, found in gradients_at(self.graph, loss, parts).items():
            self.norms[step] = math.sqrt(sum(float(np.sum(g * g)) for _, _, g in found))

    def _parts(self, loops: list[Row], loss: Tensor, weight: Key) -> None:
        found: dict[tuple[int, int | None], Any] = {}
        offsets = {row.call: row.offset for row in loops}

        def contributed(node: Node, part: Any) -> None:
            at = (offsets.get(node.place.call, 0), node.place.t)
            found[at] = found[at] + part if at in found else np.array(part)

        self.graph.pull(self.graph.seeds(loss), weight, contributed=contributed)
        total: Any = sum(found.values())
        square = float(np.sum(total * total)) or 1.0
        for (offset, t), part in found.items():
            if t is not None:
                self.shares[offset, t] = float(np.sum(part * total)) / square
                self.sizes[offset, t] = math.sqrt(float(np.sum(part * part)) / square)


def state_keys(row: Row, graph: Unfolded) -> dict[int, list[Key]]:
    """What the state after each step is: what other steps read of it.

    Nothing reads the last one, so it is found by where in the step the others were made.
    """
    keys = {t: sorted(found, key=_number) for t, found in row.carried.items()}
    made = {_made(key) for found in keys.values() for key in found}
    last = row.travel[-1]
    if last not in keys:
        same = [
            (node, slot)
            for node in graph.nodes
            if (node.place.call, node.place.t) == (row.call, last)
            for slot in range(len(node.shapes))
            if _made((node, slot)) in made
        ]
        keys[last] = sorted(same or row.left.get(last, set()), key=_number)
    return keys


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
