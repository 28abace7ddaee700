"""What one thread is doing: whether it records, and where in a network it is.

`apply`, in tensor.py, reads it at each call; the loop in recurrent.py says where it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where in a network an operation runs: the layer, its direction, the time step.

    `call` is what the layer was given this time, or the loop over a Tensor: two calls of one layer
    are two loops.
    """

    path: str = ""
    direction: str = ""
    t: int | None = None
    call: Any = None

    def __str__(self) -> str:
        step = "" if self.t is None else f"t={self.t}"
        return ", ".join(part for part in (self.path, self.direction, step) if part)

    def __repr__(self) -> str:
        return f"Place({self})"


class Record(threading.local):
    """The only state that the engine keeps for a thread; each has its own."""

    tracking = True  # False inside no_grad
    tracing = False  # True while a step is traced: its values must not be read
    place = Place()  # set by the loop over time, and by iterating over a Tensor
    watch: Callable[..., None] | None = None  # sees every call: (function, operands, static, outs)
    check: Callable[[Any, str], None] | None = None  # sees every gradient and what it is

    @property
    def watched(self) -> bool:
        """Whether somebody looks at every operation, or a step is traced."""
        return bool(self.tracing or self.watch or self.check)


record = Record()


@contextmanager
def recording(**changes: Any) -> Iterator[None]:
    """Change this thread's record for a while; put it back whatever happens inside."""
    before = {name: getattr(record, name) for name in changes}
    try:
        vars(record).update(changes)
        yield
    finally:
        vars(record).update(before)


class OwnLoop:
    """One loop of the user's own over time; `reads` tells whether it goes along an array."""

    def __init__(self, reads: bool) -> None:
        self.reads = reads


def each_step(items: Iterable[Any]) -> Iterator[Any]:
    """The items in turn; the outermost such loop is the loop over time, and sets t in the place.

    list(each_step("ab"))      # ['a', 'b'], and while 'b' is out record.place.t is 1
    """
    path, direction, outer, _ = record.place
    if outer is not None:
        yield from items
        return
    loop = OwnLoop(reads=not isinstance(items, range))
    try:
        for t, item in enumerate(items):
            record.place = Place(path, direction, t, loop)
            yield item
    finally:
        record.place = Place(path, direction)
