"""Fission: a list of calls is split into what runs before the loop, in it, and after it.

Two walks do it. What does not depend on the carried state runs **before**, on many time steps at
once; what lies on a path from carried state to carried state is the **loop**; the rest runs
**after** it. The same function splits forward and backward. The passes around it put calls into
the form in which the split is worth most; each keeps the values, up to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
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
        if f is np.negative:
            negated[out] = operand
        if f is np.add and any(v in negated for v in op.reads):
            k = 0 if op.ins[1] not in negated else 1
            op = Op(np.subtract, (op.ins[1 - k], negated[op.ins[k]]), {}, op.outs, op.line)
        key = (
            op.function,
            tuple((type(v), v) for v in op.ins),
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


def reassociated(
    ops: list[Op], kind: dict[Op, str], carried: Iterable[Var], kept: Iterable[Var]
) -> list[Op]:
    """(x U + h V) + b as (x U + b) + h V; (c a) b as c (a b): what is known before comes first."""
    count, maker = uses(ops, kept), {v: op for op in ops for v in op.outs}
    late = set(carried) | {v for op in ops if kind[op] == "loop" for v in op.outs}

    def flat(op: Op) -> tuple[list[Any], list[Op]]:
        """The terms of a sum (or factors of a product), and the inner sums that they come from."""
        terms: list[Any] = []
        inner: list[Op] = []
        for v in op.ins:
            made = maker.get(v) if isinstance(v, Var) and count[v] == 1 else None
            if made is not None and made.function is op.function and kind[made] == "loop":
                more, deeper = flat(made)
                terms, inner = terms + more, [*inner, made, *deeper]
            else:
                terms.append(v)
        return terms, inner

    dropped: set[Op] = set()
    found: list[list[Op]] = []
    for op in reversed(ops):  # the outermost first
        if op in dropped:
            continue
        found.append([op])
        if op.function not in (np.add, np.multiply) or kind[op] != "loop":
            continue
        terms, inner = flat(op)
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
        super().__init__(members[0].name, (len(members), *members[0].shape), members[0].dtype)
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
    one call of it.
    """

    def __init__(
        self, ops: list[Op], kind: dict[Op, str], pinned: set[Var], known: dict[Var, Any]
    ) -> None:
        self.kind, self.pinned = kind, pinned
        self.loop = [op for op in ops if kind[op] == "loop"]
        self.before = {
            v for op in ops if kind[op] == "before" and not forms.is_view(op) for v in op.outs
        }
        self.at: dict[Var, tuple[Pack, int]] = dict(known)
        self.count = uses(ops, pinned)
        self.maker = {v: op for op in self.loop for v in op.outs}
        for op in list(self.loop):
            if op in self.loop and op.function is np.add:
                self._sum_of_products(op)
        groups: dict[Any, list[Op]] = {}
        for op in self.loop:
            if self._is_product(op):
                groups.setdefault((op.ins[0], op.ins[1].shape, op.ins[1].dtype), []).append(op)
        for group in groups.values():
            self._products(group)
        todo = list({id(pack): pack for pack, _ in self.at.values()}.values())
        while todo:
            todo += self._along(todo.pop(0))

    def _is_product(self, op: Op | None) -> bool:
        return (
            op is not None
            and op.function is np.matmul
            and self.kind.get(op) == "loop"
            and op.ins[1].fixed
            and len(op.ins[1].shape) == 2
            and op.ins[0].dtype == op.ins[1].dtype
            and op.ins[0].shape != ()
        )

    def _free(self, vs: list[Var]) -> bool:
        """Whether these may get a place in a new pack."""
        return (
            len(set(vs)) == len(vs)
            and len({(v.shape, v.dtype) for v in vs}) == 1
            and not any(v in self.at or v in self.pinned for v in vs)
        )

    def _pack(self, vs: list[Var]) -> Part | None:
        """The part of a pack that these are, an old one or a new one."""
        places = [self.at.get(v) for v in vs]
        if all(places):
            pack, start = places[0]  # type: ignore[misc]
            if [(pack, start + k) for k in range(len(vs))] == places:
                return Part(pack, start, start + len(vs))
        if not self._free(vs):
            return None
        pack = Pack(list(vs))
        self.at.update((v, (pack, k)) for k, v in enumerate(vs))
        return Part(pack, 0, len(vs))

    def _products(self, group: list[Op]) -> None:
        outs = [op.outs[0] for op in group]
        if len(group) < 2 or not self._free(outs):
            return
        group.sort(key=lambda op: self._fate(op.outs[0]))
        part = self._pack([op.outs[0] for op in group])
        assert part is not None
        weights = [op.ins[1] for op in group]
        self._replace(group, Op(products, [group[0].ins[0], *weights], {}, [part], group[0].line))

    def _fate(self, v: Var, depth: int = 3) -> tuple[str, ...]:
        """The functions that a value goes through next: what goes the same way lies together."""
        readers = [op for op in self.loop if v in op.reads]
        if len(readers) != 1 or not depth:
            return ()
        return (readers[0].function.__name__, *self._fate(readers[0].outs[0], depth - 1))

    def _sum_of_products(self, top: Op) -> None:
        terms: list[Op] = []
        rest: list[Any] = []
        inner: list[Op] = []

        def walk(op: Op) -> None:
            for v in op.ins:
                made = self.maker.get(v) if isinstance(v, Var) and self.count[v] == 1 else None
                if made is not None and made.function is np.add and made in self.loop:
                    inner.append(made)
                    walk(made)
                elif made is not None and self._is_product(made):
                    terms.append(made)
                else:
                    rest.append(v)

        walk(top)
        if self.count[top.outs[0]] == 1:
            readers = [op for op in self.loop if top.outs[0] in op.reads]
            if readers and readers[0].function is np.add:
                return  # the sum goes on: its end will be met
        shapes = {(op.ins[0].shape, op.ins[1].shape) for op in terms}
        lefts = [op.ins[0] for op in terms]
        made = [self.maker.get(v) for v in lefts]
        if len(terms) < 2 or len(shapes) > 1 or not all(made) or not self._free(lefts):
            return
        if any(forms.is_view(op) or len(op.outs) > 1 for op in made if op):
            return
        order = {key: k for k, key in enumerate(dict.fromkeys(map(self._origin, lefts)))}
        terms.sort(key=lambda op: order[self._origin(op.ins[0])])
        part = self._pack([op.ins[0] for op in terms])
        assert part is not None
        out = top.outs[0]
        total = Var(out.name, terms[0].outs[0].shape, out.dtype) if rest else out
        joined = Op(summed_products, [part, *[op.ins[1] for op in terms]], {}, [total], top.line)
        adds = _chain(top, [*rest, total]) if rest else []
        self._replace([*terms, *inner, top], joined, *adds)

    def _origin(self, v: Var) -> Any:
        op = self.maker[v]
        return op.function, tuple(u for u in op.reads if u in self.maker)

    def _replace(self, old: list[Op], *new: Op) -> bool:
        """Put calls in the place of others; False, and nothing changed, if no order allows it."""
        at = min(self.loop.index(op) for op in old)
        loop = [op for op in self.loop if op not in old]
        loop[at:at] = new
        ordered = in_order(loop)
        if ordered is None:
            return False
        self.loop = ordered
        for op in new:
            self.kind[op] = "loop"
            for out in op.outs:
                self.maker.update((v, op) for v in members(out))
        return True

    def _along(self, pack: Pack) -> list[Pack]:
        """Join the calls that read, or make, neighbours of a pack; the packs that this made."""
        known = {id(p) for p, _ in self.at.values()}
        for makes in (True, False):
            runs: dict[Any, list[tuple[int, Op]]] = {}
            for k, v in enumerate(pack.members):
                for op in self.loop:
                    if not forms.is_elementwise(op.function) or len(op.outs) != 1:
                        continue
                    places = [None] if makes else range(len(op.ins))
                    for p in places:
                        if (op.outs[0] if makes else op.ins[p]) is v:  # type: ignore[index]
                            key = (op.function, tuple(sorted(op.static.items(), key=str)), p)
                            runs.setdefault(key, []).append((k, op))
            for run in runs.values():
                self._runs(run)
        fresh = {id(p): p for p, _ in self.at.values() if id(p) not in known}
        return list(fresh.values())

    def _runs(self, run: list[tuple[int, Op]]) -> None:
        """Join the longest stretches of neighbours that can be joined."""
        start = 0
        while start < len(run):
            for stop in range(len(run), start + 1, -1):
                some = run[start:stop]
                following = [k for k, _ in some] == list(range(some[0][0], some[0][0] + len(some)))
                if following and self._join([op for _, op in some]):
                    break
            else:
                stop = start + 1
            start = stop

    def _join(self, group: list[Op]) -> bool:
        """One call for several of the same function; False where their operands do not match."""
        outs = [op.outs[0] for op in group]
        rank, before = len(outs[0].shape), dict(self.at)
        there = len(set(group)) == len(group) and all(op in self.loop for op in group)
        if not there or any(v in self.pinned for v in outs):
            return False
        ins: list[Any] = []
        for column in zip(*[op.ins for op in group], strict=True):
            first = column[0]
            if all(type(v) is type(first) and v == first for v in column):
                ins.append(first)
                continue
            ok = all(isinstance(v, Var) and len(v.shape) == rank for v in column)
            ok = ok and all(v in self.at or v in self.before for v in column)
            ins.append(self._pack(list(column)) if ok else None)
        part = None if any(v is None for v in ins) else self._pack(outs)
        if part is not None and not all(
            isinstance(v, (Part, Var)) or type(v) in (int, float) for v in ins
        ):
            part = None
        if part is None or not self._replace(
            group, Op(group[0].function, ins, group[0].static, [part], group[0].line)
        ):
            self.at = before
            return False
        return True


def in_order(ops: list[Op]) -> list[Op] | None:
    """The calls in an order in which everything is made before it is read; None where none is."""
    makers = {v: op for op in ops for out in op.outs for v in members(out)}
    done: set[Op] = set()
    found: list[Op] = []
    for root in ops:
        stack = [(root, False)]
        open_: set[Op] = set()
        while stack:
            op, ready = stack.pop()
            if ready:
                open_.discard(op)
                if op not in done:
                    done.add(op)
                    found.append(op)
                continue
            if op in done:
                continue
            if op in open_:
                return None
            open_.add(op)
            stack.append((op, True))
            needed = [makers[v] for u in op.reads for v in members(u) if v in makers]
            if any(n in open_ for n in needed):
                return None
            stack += [(n, False) for n in reversed(needed) if n not in done]
    return found
