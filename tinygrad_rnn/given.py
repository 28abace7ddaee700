"""Given: one call of a layer, as its loop sees it; the nodes of its graph refer to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .nests import leaves, map_tree
from .record import Place, record
from .tensor import Tensor, apply

Number = tuple[int, int]  # of a value: its node's, and which of the results


class Given(NamedTuple):
    """What a layer's loop is given, checked: see RNN.__call__. Each is equal to itself alone."""

    layer: Any
    x: Any
    state: Any
    start: Any  # what a reset sets the state to
    valid: Any  # (T, N) booleans, or None
    resets: Any
    truncate: int | None
    states: bool  # whether all states are wanted
    after: dict[int, list[tuple[Number | None, Number | None]]]  # by time: see `own`, `chose`

    def __repr__(self) -> str:
        return f"Given({self.layer.name}, x {map_tree(np.shape, self.x)})"

    def place(self) -> Place:
        """The place of this loop, before any step.

        Inside of a step of another layer, time is that one's, and so is the call.
        """
        path, _, t, call = record.place
        path = ".".join(filter(None, [path, self.layer.name]))
        direction = "reverse" if self.layer.reverse else "forward"
        return Place(path, direction, *((t, call) if isinstance(call, Given) else (None, self)))

    def own(self, t: int, output: Any, state: Any) -> tuple[Any, Any]:
        """What step t returned, each array of the state made in this step and for itself; which
        values these are is noted in `after`.

        What was there before (a state that does not change, the input) has a gradient of its own as
        a part of this state. An output that is such an array stays that array.
        """
        if not record.tracking or record.tracing:
            return output, state
        now = record.place
        key = state._key if type(state) is Tensor else None
        if key is not None and key[0].place.t == now.t and key[0].place.call is now.call:
            self.after[t] = [((key[0].id, key[1]), None)]  # nearly always, and so without detours
            return output, state
        made: dict[int, Any] = {}
        known: set[int] = set()

        def own(a: Any) -> Any:
            key = _key(a)
            place = key[0].place if key else now
            if place.t == now.t and place.call is now.call and id(a) not in known:
                known.add(id(a))
                return a
            made[id(a)] = apply(np.positive, a) if key else a
            return made[id(a)]

        state = map_tree(own, state)
        self.after[t] = [(_number(key) if key else None, None) for key in map(_key, leaves(state))]
        return made.get(id(output), output), state

    def chose(self, t: int, state: Any) -> None:
        """The loop has chosen, row by row, between what step t returned and the state before."""
        if record.tracking:
            self.after[t] = [_chosen(_key(a)) for a in leaves(state)]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _key(a: Any) -> Any:
    return getattr(a, "_key", None)


def _number(key: Any) -> Number:
    return key[0].id, key[1]


def _chosen(key: Any) -> tuple[Number | None, Number | None]:
    """The number of where(valid, new, old), and that of its argument 1, the cell's own."""
    if key is None:
        return None, None
    new = [_number(made) for i, made, _ in key[0].edges or () if i == 1]
    return _number(key), new[0] if new else None
