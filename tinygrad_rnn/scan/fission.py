"""Fission: a list of calls is split into what runs before the loop, in it, and after it.

Two walks do it (`classes`). What does not depend on the carried state runs **before**, on many time
steps at once; what lies on a path from carried state to carried state is the **loop**; the rest
runs **after** it. What is the same at every step is done **once**, and what needs a sum over all
steps at the **end**. The same function splits forward and backward. The passes around it put calls
into the form in which the split is worth most; each keeps the values, up to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..primitives import Slice, astype, detach, getitem
from ..vjp import Static
from . import forms
from .trace import Op, Var, sum_over_time

Alias = dict[Var, Var]
Ends = tuple[int, ...]  # where an axis is cut: (0, 4, 8) for two halves of 8


def classes(
    ops: list[Op], carried: Iterable[Var], goals: Iterable[Var], stuck: Callable[[Op], bool]
) -> dict[Op, str]:
    """`once`, `before`, `loop`, `after` or `end` for every call.

    carried  the state that a step gets        goals  the state that it hands on
    stuck    calls that cannot run on many steps at once: they join both walks, and so the loop
    """
    down, up, ended = set(carried), set(goals), set[Var]()
    for op in ops:
        if not op.fixed and (stuck(op) or any(v in down for v in op.reads)):
            down.update(op.outs)
    for op in reversed(ops):
        if not op.fixed and (stuck(op) or any(v in up for v in op.outs)):
            up.update(op.reads)
    found = {}
    for op in ops:
        if op.function is sum_over_time:
            found[op] = "after"
            ended.update(op.outs)
        elif op.fixed:
            late = any(v in ended for v in op.reads)
            ended.update(op.outs if late else ())
            found[op] = "end" if late else "once"
        else:
            below = stuck(op) or any(v in down for v in op.reads)
            above = stuck(op) or any(v in up for v in op.outs)
            found[op] = ("loop" if above else "after") if below else "before"
    return found


# ----- tidying -----------------------------------------------------------------------------------


def uses(ops: Iterable[Op], kept: Iterable[Var] = ()) -> Counter[Var]:
    """How often each value is read; what is kept for others counts too."""
    return Counter([v for op in ops for v in op.reads] + list(kept))


def renamed(op: Op, alias: Alias) -> Op:
    """The same call on other operands."""
    ins = [alias.get(v, v) if isinstance(v, Var) else v for v in op.ins]
    return Op(op.function, ins, op.static, op.outs, op.line, op.several)


def live(ops: list[Op], kept: Iterable[Var]) -> list[Op]:
    """Without the calls that nobody needs."""
    wanted, found = set(kept), []
    for op in reversed(ops):
        if any(v in wanted for v in op.outs):
            wanted.update(op.reads)
            found.append(op)
    return found[::-1]


def tidied(
    ops: list[Op], kept: Iterable[Var], differentiable: bool = False
) -> tuple[list[Op], Alias]:
    """Every value computed once, nothing that changes nothing, and a - b for a + -b.

    What will be differentiated keeps its detach.
    """
    alias: Alias = {}
    seen: dict[Any, Op] = {}
    negated: dict[Var, Any] = {}
    found: list[Op] = []
    for op in ops:
        op = renamed(op, alias)
        f, out = op.function, op.outs[0]
        operand = op.ins[0] if op.ins and isinstance(op.ins[0], Var) else None
        same = operand is not None and (operand.shape, operand.dtype) == (out.shape, out.dtype)
        if (
            same
            and f in (np.positive, detach, astype, np.reshape, np.broadcast_to)
            and not (differentiable and f is detach)
        ):
            alias[out] = operand  # type: ignore[assignment]
            continue
        if f is np.negative and out.dtype.kind == "f":  # integers without a sign wrap around
            negated[out] = operand
        if f is np.add and any(v in negated for v in op.reads):
            k = 0 if op.ins[1] not in negated else 1
            op = Op(np.subtract, (op.ins[1 - k], negated[op.ins[k]]), {}, op.outs, op.line)
        key = (
            op.function,
            tuple(v if isinstance(v, Var) else (type(v), repr(v)) for v in op.ins),
            tuple(sorted(op.static.items(), key=str)),
        )
        before = None if op.function is sum_over_time else seen.setdefault(key, op)
        if before is not None and before is not op:
            alias.update(zip(op.outs, before.outs, strict=True))
            continue
        found.append(op)
    return live(found, [alias.get(v, v) for v in kept]), alias


# ----- gates apart -------------------------------------------------------------------------------


class Pieces:
    """Values in parts along an axis: known already, or by a split of them."""

    def __init__(self) -> None:
        self.made: list[Op] = []
        self.known: dict[Any, list[Var]] = {}

    def of(self, v: Var, ends: Ends, axis: int = -1) -> list[Var]:
        """The parts of a value."""
        if (v, ends, axis) not in self.known:
            shapes = [list(v.shape) for _ in pairwise(ends)]
            for shape, (a, b) in zip(shapes, pairwise(ends), strict=True):
                shape[axis] = b - a
            outs = [Var(f"{v.name}_{k}", shape, v.dtype, v.fixed) for k, shape in enumerate(shapes)]
            static: Static = {"indices_or_sections": ends[1:-1], "axis": axis}
            self.made.append(Op(np.split, [v], static, outs, several=True))
            self.known[v, ends, axis] = outs
        return self.known[v, ends, axis]


def gates_apart(ops: list[Op], kept: set[Var]) -> tuple[list[Op], Alias]:
    """`np.split(x @ U + h @ V + b, 4)` as four sums of their own: each gate is then contiguous.

    A split moves up through elementwise calls to the products, and there into the weights.
    """
    heads, count = _cuts(ops, kept), uses(ops, kept)
    apart: dict[Var, Ends] = {}
    for op in reversed(ops):  # through which calls a split may move up
        out = op.outs[0]
        ends = heads.get(out) or apart.pop(out, None)
        if ends and not out.fixed and (_is_product(op) or forms.is_elementwise(op.function)):
            apart[out] = ends
            for v in op.reads if not _is_product(op) else ():
                if count[v] == 1 and v.shape[-1:] == out.shape[-1:] and not v.fixed:
                    apart[v] = ends
    pieces, alias = Pieces(), Alias()
    for op in (renamed(op, alias) for op in ops):
        out, first = op.outs[0], op.ins[0] if op.ins else None
        if out in apart:
            ends, product = apart[out], _is_product(op)
            columns = [
                pieces.of(v, ends)
                if isinstance(v, Var) and v.shape[-1:] == (ends[-1],) and not (product and k == 0)
                else [v] * (len(ends) - 1)
                for k, v in enumerate(op.ins)
            ]
            outs = []
            for (a, b), ins in zip(pairwise(ends), zip(*columns, strict=True), strict=True):
                name = "_".join(v.name.strip("_") for v in ins) if product else out.name
                outs.append(Var(name, (*out.shape[:-1], b - a), out.dtype))
                pieces.made.append(Op(op.function, ins, op.static, outs[-1:], op.line))
            pieces.known[out, ends, -1] = outs
        elif isinstance(first, Var) and first in heads and first in apart:
            starts = dict(zip(apart[first], pieces.of(first, apart[first]), strict=False))
            for (start, _), var in zip(_spans(op, first) or [], op.outs, strict=True):
                alias[var] = part = starts[start]
                if var.named:
                    part.name, part.named = var.name, True
        else:
            pieces.made.append(op)
    return pieces.made, alias


def _is_product(op: Op) -> bool:
    """A matrix product with a weight: the same matrix at every step."""
    if op.function is not np.matmul or not all(isinstance(v, Var) for v in op.ins):
        return False
    return bool(op.ins[1].fixed and len(op.ins[1].shape) == 2)


def _cuts(ops: list[Op], kept: set[Var]) -> dict[Var, Ends]:
    """Values that are read only by splits and slices which cut their last axis into parts."""
    found = {}
    for v in {v for op in ops for v in op.reads if v not in kept}:
        parts = [_spans(op, v) for op in ops if v in op.reads]
        spans = [span for part in parts for span in part or []]
        ends = tuple(sorted({0, *[end for span in spans for end in span], *v.shape[-1:]}))
        if all(parts) and len(ends) > 2 and set(spans) <= set(pairwise(ends)):
            found[v] = ends
    return found


def _spans(op: Op, v: Var) -> list[tuple[int, int]] | None:
    """Which parts of v's last axis a call takes; None where it does more than that."""
    if op.function is np.split and op.static["axis"] == -1:
        return list(pairwise(forms.split_ends(op)))
    template = op.static["index"] if op.function is getitem and len(op.ins) == 1 else ()
    *others, last = template or (None,)
    every = len(others) == len(v.shape) - 1 and all(part == (None,) * 3 for part in others)
    if not (every or others == [Ellipsis]) or type(last) is not Slice or last.step not in (None, 1):
        return None
    start, stop, _ = slice(last.start, last.stop).indices(v.shape[-1])
    return [(start, stop)]


def inputs_apart(ops: list[Op]) -> list[Op]:
    """`np.concatenate([x, h]) @ W` as x W_0 + h W_1: the part with x can leave the loop."""
    joins = {op.outs[0]: op for op in ops if op.function is np.concatenate}
    for v, op in list(joins.items()):
        whole = [o for o in ops if v in o.reads and not (_is_product(o) and o.ins[0] is v)]
        alike = all(isinstance(u, Var) and u.dtype == v.dtype for u in op.ins)
        if whole or not alike or op.static.get("axis") != -1:
            del joins[v]
    pieces = Pieces()
    for op in ops:
        join = joins.get(op.ins[0]) if _is_product(op) else None
        if join is None:
            pieces.made.append(op)
            continue
        ends = tuple(accumulate((v.shape[-1] for v in join.ins), initial=0))
        terms = []
        for v, w in zip(join.ins, pieces.of(op.ins[1], ends, axis=-2), strict=True):
            terms.append(Var(f"{v.name}_{w.name}", op.outs[0].shape, op.outs[0].dtype))
            pieces.made.append(Op(np.matmul, [v, w], {}, terms[-1:], op.line))
        if len(terms) == 1:
            pieces.made[-1].outs = op.outs
        else:
            pieces.made += _chain(Op(np.add, [], {}, op.outs, op.line), terms)
    return pieces.made


# ----- sums and products in their best order -----------------------------------------------------


class Flat:
    """Sums and products of the loop, flattened: (a + b) + c as the terms a, b, c.

    Only through values that nobody else reads: they vanish.
    """

    def __init__(self, ops: Iterable[Op], kept: Iterable[Var]) -> None:
        ops = list(ops)
        self.count, self.maker = uses(ops, kept), {v: op for op in ops for v in op.outs}

    def alone(self, v: Any) -> Op | None:
        """The call that makes a value, if the value is read only once."""
        return self.maker.get(v) if isinstance(v, Var) and self.count[v] == 1 else None

    def terms(self, op: Op, among: Container[Op]) -> tuple[list[Any], list[Op]]:
        """The terms of a sum (or factors of a product), and the inner sums that they come from."""
        terms: list[Any] = []
        inner: list[Op] = []
        for v in op.ins:
            made = self.alone(v)
            if made is not None and made.function is op.function and made in among:
                more, deeper = self.terms(made, among)
                terms, inner = terms + more, [*inner, made, *deeper]
            else:
                terms.append(v)
        return terms, inner


def factored(
    ops: list[Op], kind: dict[Op, str], carried: Iterable[Var], kept: Iterable[Var]
) -> list[Op]:
    """a b - a c as a (b - c), where b and c are known before the loop (a GRU's d h and d n)."""
    flat, loop = Flat(ops, kept), {op for op in ops if kind[op] == "loop"}
    late = set(carried) | {v for op in loop for v in op.outs}
    found: list[Op] = []
    for op in ops:
        found.append(op)
        made = [m for m in map(flat.alone, op.ins) if m in loop and m.function is np.multiply]
        if op.function not in (np.add, np.subtract) or op not in loop or len(set(made)) < 2:
            continue
        common = [v for v in made[0].reads if v in late and v in made[1].reads]
        others = [[v for v in m.reads if v not in late] for m in made]
        if len(common) == 1 and [len(vs) for vs in others] == [1, 1]:
            (b,), (c,), out = *others, op.outs[0]
            if b.dtype == c.dtype == out.dtype:
                part = Var(out.name, np.broadcast_shapes(b.shape, c.shape), out.dtype)
                found[-1] = Op(op.function, [b, c], {}, [part], op.line)
                found.append(Op(np.multiply, [common[0], part], {}, [out], op.line))
    return live(found, kept)


def reassociated(
    ops: list[Op], kind: dict[Op, str], carried: Iterable[Var], kept: Iterable[Var]
) -> list[Op]:
    """(x U + h V) + b as (x U + b) + h V; (c a) b as c (a b): what is known before comes first."""
    flat, loop = Flat(ops, kept), {op for op in ops if kind[op] == "loop"}
    late = set(carried) | {v for op in loop for v in op.outs}
    dropped: set[Op] = set()
    found: list[list[Op]] = []
    for op in reversed(ops):  # the outermost first
        if op in dropped:
            continue
        found.append([op])
        if op.function not in (np.add, np.multiply) or op not in loop:
            continue
        terms, inner = flat.terms(op, loop)
        early = [t for t in terms if t not in late]
        dtypes = {v.dtype for v in (*terms, *[o.outs[0] for o in inner]) if isinstance(v, Var)}
        if inner and len(early) > 1 and any(isinstance(t, Var) for t in early) and len(dtypes) == 1:
            early.sort(key=lambda t: 2 if not isinstance(t, Var) else not t.fixed)
            found[-1] = _chain(op, [*early, *[t for t in terms if t in late]])
            dropped.update(inner)
    return [op for chain in reversed(found) for op in chain]


def _chain(op: Op, terms: list[Any]) -> list[Op]:
    """The sum (or product) of these terms, from left to right, in place of a call."""
    made: list[Op] = []
    head = terms[0]
    for k, term in enumerate(terms[1:], 2):
        found = [v for v in (head, term) if isinstance(v, Var)]
        shape = np.broadcast_shapes(*[v.shape for v in found])
        fixed = all(v.fixed for v in found)
        out = op.outs[0] if k == len(terms) else Var(op.outs[0].name, shape, head.dtype, fixed)
        made.append(Op(op.function, [head, term], {}, [out], op.line))
        head = out
    return made


# ----- calls that can be one ---------------------------------------------------------------------


class Pack:
    """Values of one shape, side by side in memory: (how many, *shape)."""

    def __init__(self, members: list[Var]) -> None:
        self.members = members


class Part(Var):
    """Neighbours in a pack, as one value: (how many, *shape)."""

    __slots__ = ("pack", "start", "stop")

    def __init__(self, pack: Pack, start: int, stop: int) -> None:
        members = pack.members[start:stop]
        name = "_".join(dict.fromkeys(v.name.strip("_") for v in members))
        name = name if len(name) < 16 else members[0].name
        super().__init__(name, (len(members), *members[0].shape), members[0].dtype)
        self.pack, self.start, self.stop = pack, start, stop

    @property
    def members(self) -> list[Var]:
        """The values that it stands for."""
        return self.pack.members[self.start : self.stop]


def products(a: Any, *weights: Any) -> Any:
    """Stands for a @ w for each w, at once."""
    raise NotImplementedError


def summed_products(parts: Any, *weights: Any) -> Any:
    """Stands for the sum of part @ w."""
    raise NotImplementedError


def members(v: Any) -> list[Var]:
    """The values that an operand consists of."""
    return v.members if isinstance(v, Part) else [v] if isinstance(v, Var) else []


class Packer:
    """Joins calls of the loop: products with one operand, sums of products, equal functions.

    A call costs half a microsecond however small its arrays, and a larger matrix product is faster
    than several. So the gates of a step become one product, and where gates have the same function
    one call of it. `loop` is the result, `at` says which values lie side by side.
    """

    def __init__(
        self, ops: list[Op], kind: dict[Op, str], pinned: set[Var], known: dict[Var, Any]
    ) -> None:
        self.kind, self.pinned, self.at = kind, pinned, dict[Var, tuple[Pack, int]](known)
        self.loop = [op for op in ops if kind[op] == "loop"]
        early = [op for op in ops if kind[op] == "before" and not forms.is_view(op)]
        self.before = {v for op in early for v in op.outs}
        self.flat = Flat(ops, pinned)
        for op in list(self.loop):
            if op in self.loop and op.function is np.add:
                self._sum_of_products(op)
        groups: dict[Any, list[Op]] = {}
        for op in filter(self._in_loop, self.loop):
            groups.setdefault((op.ins[0], op.ins[1].shape, op.ins[1].dtype), []).append(op)
        for group in groups.values():
            self._products(group)
        todo = list(dict.fromkeys(pack for pack, _ in self.at.values()))
        for pack in todo:  # it grows
            self._along(pack)
            todo += [p for p in dict.fromkeys(p for p, _ in self.at.values()) if p not in todo]

    def _in_loop(self, op: Op | None) -> bool:
        """Whether this is a product with a weight that can be joined with others."""
        if op is None or op not in self.loop or not _is_product(op):
            return False
        return bool(op.ins[0].dtype == op.ins[1].dtype and op.ins[0].shape)

    def _pack(self, vs: list[Var]) -> Part | None:
        """The part of a pack that these are, an old one or a new one; None if that cannot be."""
        places = [self.at.get(v) for v in vs]
        if places[0] and places == [(places[0][0], places[0][1] + k) for k in range(len(vs))]:
            return Part(*places[0], places[0][1] + len(vs))
        alike = len({(v.shape, v.dtype) for v in vs}) == 1 and len(set(vs)) == len(vs)
        if len(vs) < 2 or not alike or any(places) or not self.pinned.isdisjoint(vs):
            return None
        pack = Pack(vs)
        self.at.update((v, (pack, k)) for k, v in enumerate(vs))
        return Part(pack, 0, len(vs))

    def _products(self, group: list[Op]) -> None:
        """h @ V_1, h @ V_2, ...: what goes the same way afterwards lies together."""
        group = sorted(group, key=lambda op: self._fate(op.outs[0]))
        part = self._pack([op.outs[0] for op in group]) if len(group) > 1 else None
        if part is not None:
            ins = [group[0].ins[0], *[op.ins[1] for op in group]]
            self._replace(group, Op(products, ins, {}, [part], _lines(group)))

    def _fate(self, v: Var, depth: int = 3) -> tuple[str, ...]:
        """The functions that a value goes through next."""
        readers = [op for op in self.loop if v in op.reads]
        if len(readers) != 1 or not depth:
            return ()
        return (readers[0].function.__name__, *self._fate(readers[0].outs[0], depth - 1))

    def _sum_of_products(self, top: Op) -> None:
        """d_1 @ W_1 + d_2 @ W_2 + ...: what comes the same way lies together."""
        out = top.outs[0]
        if self.flat.count[out] == 1 and any(
            op.function is np.add and out in op.reads for op in self.loop
        ):
            return  # the sum goes on: its end will be met
        every, inner = self.flat.terms(top, self.loop)
        made = [op for op in map(self.flat.alone, every) if op is not None and self._in_loop(op)]
        rest = [t for t in every if self.flat.alone(t) not in made]
        makers = {op: self.flat.maker.get(op.ins[0]) for op in made}
        origin = {
            op: (m.function, *[v for v in m.reads if v in self.flat.maker])
            for op, m in makers.items()
            if m is not None and m in self.loop and not forms.is_view(m) and not m.several
        }
        order = list(dict.fromkeys(origin.values()))
        shapes = {(op.ins[0].shape, op.ins[1].shape) for op in made}
        if len(made) < 2 or len(shapes) > 1 or len(origin) < len(made):
            return
        made.sort(key=lambda op: order.index(origin[op]))
        part = self._pack([op.ins[0] for op in made])
        if part is not None:
            total = Var(out.name, made[0].outs[0].shape, out.dtype) if rest else out
            joined = Op(summed_products, [part, *[op.ins[1] for op in made]], {}, [total], top.line)
            self._replace([*made, *inner, top], joined, *_chain(top, [*rest, total]))

    def _along(self, pack: Pack) -> None:
        """Join the calls that make, or read, neighbours of a pack."""
        runs: dict[Any, list[tuple[int, Op]]] = {}
        for k, v in enumerate(pack.members):
            for op in self.loop:
                if forms.is_elementwise(op.function) and not forms.is_view(op):
                    static = tuple(sorted(op.static.items(), key=str))
                    for p, operand in enumerate((*op.outs, *op.ins)):
                        if operand is v:
                            runs.setdefault((op.function, static, p), []).append((k, op))
        for run in runs.values():
            start = 0
            while start < len(run):  # the longest stretches of neighbours that can be joined
                ends = range(len(run), start + 1, -1)
                start = next((end for end in ends if self._join(run[start:end])), start + 1)

    def _join(self, run: list[tuple[int, Op]]) -> bool:
        """One call for several of the same function; False where their operands do not match."""
        group, before = [op for _, op in run], dict(self.at)
        neighbours = [k for k, _ in run] == list(range(run[0][0], run[0][0] + len(run)))
        if not neighbours or len(set(group)) < len(group) or not set(group) <= set(self.loop):
            return False
        outs = [op.outs[0] for op in group]
        ins: list[Any] = []
        for column in zip(*[op.ins for op in group], strict=True):
            if all(type(v) is type(column[0]) and v == column[0] for v in column):
                ins.append(column[0])
            elif all(v in self.at or v in self.before for v in column) and {
                len(v.shape) for v in column
            } == {len(outs[0].shape)}:
                ins.append(self._pack(list(column)))
            else:
                ins.append(None)
        part = self._pack(outs) if None not in ins and self.pinned.isdisjoint(outs) else None
        if part is not None and self._replace(
            group, Op(group[0].function, ins, group[0].static, [part], _lines(group))
        ):
            return True
        self.at = before
        return False

    def _replace(self, old: list[Op], *new: Op) -> bool:
        """Put calls in the place of others; False, and nothing changed, if no order allows it."""
        at = min(self.loop.index(op) for op in old)
        loop = [op for op in self.loop if op not in old]
        ordered = in_order([*loop[:at], *new, *loop[at:]])
        if ordered is None:
            return False
        self.loop = ordered
        self.kind.update(dict.fromkeys(new, "loop"))
        self.flat.maker.update((v, op) for op in new for out in op.outs for v in members(out))
        return True


def _lines(group: list[Op]) -> str:
    return "; ".join(dict.fromkeys(op.line for op in group))


def in_order(ops: list[Op]) -> list[Op] | None:
    """The calls so that everything is made before it is read; None where no order does that."""
    missing = {v for op in ops for out in op.outs for v in members(out)}
    waiting, found = list(ops), list[Op]()
    while waiting:
        for op in waiting:
            if missing.isdisjoint(v for u in op.reads for v in members(u)):
                break
        else:
            return None
        waiting.remove(op)
        found.append(op)
        missing.difference_update(v for out in op.outs for v in members(out))
    return found
