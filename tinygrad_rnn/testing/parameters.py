"""plain: a module whose Parameters are, for a while, ordinary NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..module import Module, Parameter


@contextmanager
def plain(*modules: Module) -> Iterator[dict[int, np.ndarray]]:
    """Inside, every Parameter of the modules is an ndarray: they run without the engine.

        with testing.plain(rnn):
            outputs = rnn(x).outputs
        isinstance(outputs, np.ndarray)      # True: not one Tensor was made

    Yields the arrays, of the same shapes, by the id of the Parameter that each stands for; they are
    copies and may be changed. The Parameters are put back at the end, after an exception too.
    Raises nothing of its own.
    """
    arrays: dict[int, np.ndarray] = {}
    with swapped(modules, lambda p: arrays.setdefault(id(p), p.numpy())):
        yield arrays


@contextmanager
def swapped(modules: Any, stand_in: Callable[[Parameter], Any]) -> Iterator[None]:
    """Inside, `stand_in(p)` stands in the place of every Parameter p of the modules.

    with swapped([rnn], lambda p: p.data.astype(complex)):
        rnn(x)
    """

    def replaced(value: Any) -> Any:
        if isinstance(value, Parameter):
            return stand_in(value)
        if isinstance(value, dict):
            return {key: replaced(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            items = [replaced(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    before: list[tuple[dict[str, Any], dict[str, Any]]] = []
    parts = submodules(list(modules))
    named = [{name: stand_in(p) for name, p in m.named_parameters().items()} for m in parts]
    try:
        for part, own in zip(parts, named, strict=True):
            before.append((vars(part), dict(vars(part))))
            vars(part).update({name: replaced(value) for name, value in vars(part).items()})
            if not all(isinstance(x, Parameter) for x in own.values()):  # for f that sums them up
                vars(part)["named_parameters"] = partial(dict, own)
        yield
    finally:
        for attributes, values in reversed(before):
            attributes.clear()  # what f added holds stand-ins
            attributes.update(values)


def submodules(value: Any, seen: set[int] | None = None) -> list[Module]:
    """A module and all modules inside it, each once."""
    seen = set() if seen is None else seen
    items: Any = ()
    found: list[Module] = []
    if isinstance(value, Module) and id(value) not in seen:
        seen.add(id(value))
        found.append(value)
        items = list(vars(value).values())
    elif isinstance(value, dict):
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        found += submodules(item, seen)
    return found
