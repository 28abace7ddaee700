"""Given: one call of a layer, as its loop sees it; the nodes of its graph refer to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .nests import leaves, map_tree
from .record import Place, record
from .tensor import apply

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
    after: dict[int, list[tuple[Number | None, Number | None]]]  # by time: see `note`

    def place(self) -> Place:
        """The place of this loop, before any step.

        Inside of a step of another layer, time is that one's, and so is the call.
        """
        path, _, t, call = record.place
        path = ".".join(filter(None, [path, self.layer.name]))
        direction = "reverse" if self.layer.reverse else "forward"
        return Place(path, direction, *((t, call) if isinstance(call, Given) else (None, self)))

    def note(self, t: int, state: Any, chosen: bool) -> Any:
        """Remember which values are the state after step t; where the loop has chosen between the
        cell's and the one before, row by row, also the cell's own.

        By their numbers: nodes refer to this call, so it must not hold them in turn. Returns the
        state, each of its arrays made in this step and for itself: what was there before (a state
        that did not change, the input) has a gradient of its own as a part of this state.
        """
        if not record.tracking or record.tracing:
            return state
        known: set[int] = set()

        def own(a: Any) -> Any:
            key = getattr(a, "_key", None)
            if key is None:
                return a
            made, now = key[0].place, record.place
            if made.call is not now.call or made.t != now.t or id(a) in known:
                a = apply(np.positive, a)
            known.add(id(a))
            return a

        state = map_tree(own, state)
        self.after[t] = [_numbers(a, chosen) for a in leaves(state)]
        return state

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _numbers(a: Any, chosen: bool) -> tuple[Number | None, Number | None]:
    key = getattr(a, "_key", None)
    if key is None:
        return None, None
    # where(valid, new, old): argument 1 is the cell's own
    new = [(made[0].id, made[1]) for i, made, _ in key[0].edges or () if chosen and i == 1]
    return (key[0].id, key[1]), new[0] if new else None
