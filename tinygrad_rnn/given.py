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
    after: dict[int, list[tuple[Number | None, Number | None]]]  # by time: see `note`

    def place(self) -> Place:
        """The place of this loop, before any step.

        Inside of a step of another layer, time is that one's, and so is the call.
        """
        path, _, t, call = record.place
        path = ".".join(filter(None, [path, self.layer.name]))
        direction = "reverse" if self.layer.reverse else "forward"
        return Place(path, direction, *((t, call) if isinstance(call, Given) else (None, self)))

    def own(self, output: Any, state: Any) -> tuple[Any, Any]:
        """What a step returned, each array of the state made in this step and for itself.

        What was there before (a state that does not change, the input) has a gradient of its own as
        a part of this state. An output that is such an array stays that array.
        """
        if not record.tracking or record.tracing:
            return output, state
        if isinstance(state, Tensor) and _is_new(state):  # nearly always
            return output, state
        made: dict[int, Any] = {}
        known: set[int] = set()

        def own(a: Any) -> Any:
            if getattr(a, "_key", None) is None or (_is_new(a) and id(a) not in known):
                known.add(id(a))
                return a
            made[id(a)] = apply(np.positive, a)
            return made[id(a)]

        state = map_tree(own, state)
        return made.get(id(output), output), state

    def note(self, t: int, state: Any, chosen: bool) -> None:
        """Remember which values are the state after step t; where the loop has chosen between the
        cell's and the one before, row by row, also the cell's own.

        By their numbers: nodes refer to this call, so it must not hold them in turn.
        """
        if record.tracking:
            self.after[t] = [_numbers(a, chosen) for a in leaves(state)]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _is_new(a: Tensor) -> bool:
    """Whether a value was made in the step that runs now."""
    made, now = a._key[0].place if a._key else record.place, record.place
    return made.t == now.t and made.call is now.call


def _numbers(a: Any, chosen: bool) -> tuple[Number | None, Number | None]:
    key = getattr(a, "_key", None)
    if key is None:
        return None, None
    # where(valid, new, old): argument 1 is the cell's own
    new = [(made[0].id, made[1]) for i, made, _ in key[0].edges or () if chosen and i == 1]
    return (key[0].id, key[1]), new[0] if new else None
