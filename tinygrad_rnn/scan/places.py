"""Places: where each value of a program lies, so that most calls write where they should at once.

A value is in a buffer of its own, beside others in a pack, or a view of another value. A buffer has
one step (temp), K steps (block), or all of them: kept for the way back, or fresh, the user's own.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import forms
from .fission import Pack, Part, members, uses
from .trace import Op, Var, sum_over_time

LARGE = 4096  # elements of a value from which large matrix products decide, not calls


@dataclass(eq=False)
class Store:
    """One buffer. kind: temp, block, kept, fresh, input (it comes in), sum (over all steps)."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    gates: int = 0  # how many members, if it is a pack
    up: bool = True  # whether time runs upwards in the program that fills it
    carried: bool = False  # a state: it has one row more than there are steps
    # 0: (T, gates, ..), a step's members side by side, so that one call serves them all.
    # 1: (gates, T, ..), each member in one piece over time, as large matrix products want it.
    time: int = 0

    def sizes(self, steps: Any) -> list[Any]:
        """Its shape, for this many steps."""
        shape = [*[self.gates] * (self.gates > 0), *self.shape]
        if self.kind not in ("temp", "sum"):
            shape.insert(self.time, steps)
        return shape

    def allocate(self, steps: int) -> np.ndarray:
        """The array, for this many steps."""
        return np.empty(self.sizes(steps + self.carried), self.dtype)

    def origin(self, lo: int, base: int) -> int:
        """The time of its first row, in a block that begins at lo."""
        return lo if self.kind == "block" else -base if self.kind == "kept" else 0


@dataclass(eq=False)
class Place:
    """In a store (a pack's member; a state before or after the step), or a view of a value."""

    store: Store | None = None
    member: int | None = None
    new: bool = False  # of a state: the one that the step makes
    view: tuple[Op, int] | None = None


class Names:
    """Identifiers, each given once."""

    def __init__(self) -> None:
        # No name begins with _: such names are free for what runs.
        self.used = {*np.__all__, *dir(builtins), "np", "T", "t", "out", "forward", "backward"}
        self.used |= {"d_outputs", "d_state", "kept"}

    def new(self, wish: str) -> str:
        """The wish as an identifier, with a number if it is taken."""
        base = re.sub(r"\W+", "_", wish).strip("_") or "t"
        base = f"v{base}" if base[0].isdigit() else base
        # z_ is what goes into z: z_1, z_2, ...
        part = wish.endswith("_") and wish.strip("_") != ""
        joint = "_" * (part or base[-1].isdigit() or keyword.iskeyword(base))
        name, numbers = base, itertools.count(1 if part else 2)
        while name in self.used or keyword.iskeyword(name) or (part and name == base):
            name = f"{base}{joint}{next(numbers)}"
        self.used.add(name)
        return name


@dataclass(eq=False)
class Program:
    """What is emitted: calls by class, and what comes in, is carried, and goes out."""

    ops: list[Op]
    kind: dict[Op, str]
    inputs: list[Var]
    carries: list[tuple[Var, Var]]
    outputs: list[Var]
    kept: set[Var]  # what the way back reads
    packs: dict[Var, tuple[Pack, int]]
    absorbed: dict[Var, Op]  # calls that a sum over time does itself
    share: bool  # whether a state's rows may be the user's output as well
    up: bool
    stores: list[Store] = field(default_factory=list)
    states: list[Store] = field(default_factory=list)
    copies: list[tuple[Store, Var]] = field(default_factory=list)  # new states that lie elsewhere
    extra: list[tuple[Store, Var]] = field(default_factory=list)  # outputs that lie elsewhere
    shown: list[Place] = field(default_factory=list)  # where the outputs are

    def __post_init__(self) -> None:
        self.maker = {v: op for op in self.ops for out in op.outs for v in members(out)}
        gone = {id(op) for op in self.absorbed.values()}
        self.steps = [
            op
            for op in self.ops
            if self.kind[op] in ("before", "loop", "after") and id(op) not in gone
        ]

    def kind_of(self, v: Var) -> str:
        """The class of the call that makes a value."""
        return self.kind[self.maker[v]] if v in self.maker else "before"


def assign(p: Program, names: Names, places: dict[Var, Place]) -> None:
    """Give every value of a program its place: views, states, packs, then the rest."""

    def store(v: Var, kind: str, name: str = "", **how: Any) -> Store:
        p.stores.append(Store(names.new(name or v.name), kind, v.shape, v.dtype, up=p.up, **how))
        return p.stores[-1]

    def root(v: Var) -> Var:
        place = places.get(v)
        return root(place.view[0].ins[0]) if place is not None and place.view else v

    for op in p.steps:
        if forms.is_view(op):
            places.update((v, Place(view=(op, k))) for k, v in enumerate(op.outs))
    places.update((v, Place(store(v, "input"))) for v in p.inputs)
    made = [op for op in p.steps if not forms.is_view(op)]
    own = {v for op in made for v in op.outs}
    # What is read outside the loop must be there for all steps.
    stacked = {root(v) for v in (*p.kept, *p.outputs)}
    stacked |= {
        root(v) for op in made if p.kind[op] != "loop" for u in op.reads for v in members(u)
    }
    stacked |= {root(v) for op in p.absorbed.values() for v in op.reads}
    flat = {root(op.ins[0]) for op in made if op.function is np.matmul and p.kind[op] != "loop"}
    flat |= {root(v) for op in p.absorbed.values() for v in op.reads}
    kept = {root(v) for v in p.kept}
    for old, new in p.carries:
        direct = (
            new in own and p.kind_of(new) == "loop" and new not in p.packs and new not in places
        )
        kind = "kept" if old in kept or (direct and new in kept) else "block"
        kind = "fresh" if direct and p.share and new in p.outputs else kind
        state = store(old, kind, name=new.name if new.named else old.name, carried=True)
        p.states.append(state)
        places[old] = Place(state)
        if direct:
            places[new] = Place(state, new=True)
        else:
            p.copies.append((state, new))
    for pack in {id(pack): pack for pack, _ in p.packs.values()}.values():
        late = any(p.kind_of(v) != "loop" or v in stacked for v in pack.members)
        kind = "kept" if kept & set(pack.members) else "block" if late else "temp"
        name = "_".join(dict.fromkeys(v.name.strip("_").removeprefix("d_") for v in pack.members))
        name = name if len(name) < 16 else pack.members[0].name
        made_for = store(pack.members[0], kind, name, gates=len(pack.members))
        one_row = math.prod(made_for.shape[:-1]) == 1
        large = math.prod(made_for.shape) >= LARGE or flat & set(pack.members)
        made_for.time = int(kind != "temp" and not one_row and bool(large))
        places.update((v, Place(made_for, member=k)) for k, v in enumerate(pack.members))
    count = uses(p.ops, [*p.outputs, *p.kept, *[new for _, new in p.carries]])
    for op in reversed(made):
        for v in op.outs:
            if v in places or isinstance(v, Part):
                continue
            kind = "fresh" if v in p.outputs else "kept" if v in kept else "block"
            if kind == "block" and p.kind[op] == "loop" and v not in stacked:
                kind = "temp"
            places[v] = Place(store(v, "sum" if op.function is sum_over_time else kind))
        out = op.outs[0]
        if not forms.is_elementwise(op.function) or isinstance(out, Part):
            continue
        for v in op.reads:  # what dies here is computed where the result will be
            fits = v in own and v not in places and (v.shape, v.dtype) == (out.shape, out.dtype)
            if fits and count[v] == 1 and p.kind_of(v) == p.kind[op]:
                blas = p.maker[v].function is np.matmul and p.kind[op] != "loop"
                if not blas or in_one_piece(places[out]):
                    places[v] = places[out]
                    break
    for v in p.outputs:
        place = places.get(v)
        if place is None or place.store is None or place.store.kind != "fresh":
            place = Place(store(v, "fresh", name=f"{v.name}_out"))
            p.extra.append((place.store, v))  # type: ignore[arg-type]
        p.shown.append(place)


def in_one_piece(place: Place) -> bool:
    """Whether all steps of a value are contiguous: only then does ndarray.dot write there."""
    return place.store is not None and (place.member is None or place.store.time == 1)
