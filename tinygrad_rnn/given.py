"""Given: one call of a layer, as its loop sees it; the nodes of its graph refer to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .nests import leaves
from .record import Place, record

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
        """The place of this loop, before any step."""
        path = ".".join(filter(None, [record.place.path, self.layer.name]))
        return Place(path, "reverse" if self.layer.reverse else "forward", None, self)

    def note(self, t: int, state: Any) -> None:
        """Remember which values are the state after step t; of a padded step also the cell's own.

        By their numbers: nodes refer to this call, so it must not hold them in turn.
        """
        if record.tracking:
            self.after[t] = [self._numbers(t, a) for a in leaves(state)]

    def _numbers(self, t: int, a: Any) -> tuple[Number | None, Number | None]:
        key = getattr(a, "_key", None)
        if key is None:
            return None, None
        node, own = key[0], None
        if self.valid is not None and node.rule and node.rule.function is np.where:
            for i, new, (mask, *_) in node.edges or ():  # where(valid, new, old), in the loop
                if (
                    i == 1
                    and mask.size == self.valid[t].size
                    and (mask.ravel() == self.valid[t].ravel()).all()
                ):
                    own = (new[0].id, new[1])
        return (node.id, key[1]), own

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)
