"""Emit: the split calls as NumPy source, a line for each, on buffers made once.

Two spellings of one program: `readable`, a module of its own for people (`rnn.source()`), and the
one that runs, which does K steps at a time and takes the rows of its buffers from lists.
"""

from __future__ import annotations

import itertools
import keyword
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..functions import relu, sigmoid, softplus
from ..primitives import astype, detach, getitem
from ..rules import einsum_product, rows_product, scatter
from ..vjp import RULES
from . import forms
from .fission import Pack, Part, members, products, summed_products, uses
from .trace import Op, Var, sum_over_time

SMALL = 4096  # elements: below, one copy and one product beat a stack of products


class Store:
    """One buffer: temp (a step), block (K steps), kept (all, until backward), fresh (the user's)."""

    def __init__(self, name: str, kind: str, shape: Any, dtype: Any, gates: int = 0) -> None:
        self.name, self.kind, self.shape, self.dtype = name, kind, tuple(shape), np.dtype(dtype)
        self.gates = gates  # how many members, if it is a pack
        self.carried = False  # a state: one row more than there are steps
        self.up = True  # the direction of travel of the program that fills it
        # (T, gates, ..): a step's members side by side, so one call serves them all. Or
        # (gates, T, ..): each member in one piece over time, as large matrix products want it.
        self.time = 0

    def origin(self, lo: int, base: int) -> int:
        """The time of its first row, in a block that begins at lo."""
        return lo if self.kind == "block" else -base if self.kind == "kept" else 0

    def allocate(self, steps: int) -> np.ndarray:
        """The array, for this many steps."""
        shape = [self.gates, *self.shape] if self.gates else list(self.shape)
        if self.kind == "ones":
            return np.ones(steps * self.shape[0], self.dtype)
        if self.kind != "temp":
            shape.insert(self.time, steps + self.carried)
        return np.empty(shape, self.dtype)


class Names:
    """Identifiers, each given once."""

    def __init__(self) -> None:
        self.used: set[str] = {"ones", "np", "t", "lo", "hi", "n", "rows", "S", "C"}

    def new(self, wish: str) -> str:
        """The wish as an identifier, with a number if it is taken."""
        base = re.sub(r"\W+", "_", wish).strip("_") or "t"
        base = f"v{base}" if base[0].isdigit() else base
        base = base + "_" if keyword.iskeyword(base) or base in BUSY else base
        # x_ is what a line's target is called before it is done: x_1, x_2, ...
        count = 1 if wish.endswith("_") and wish.strip("_") else 2
        joint = "_" * (count == 1 or base[-1].isdigit())
        name, numbers = base, itertools.count(count)
        while name in self.used or (count == 1 and name == base):
            name = f"{base}{joint}{next(numbers)}"
        self.used.add(name)
        return name


BUSY = set(np.__all__) | {"len", "list", "range", "zip", "forward", "backward", "prepare", "finish"}


class Program:
    """What is emitted: calls by class, and what comes in, is carried and goes out."""

    def __init__(
        self,
        ops: list[Op],
        kind: dict[Op, str],
        inputs: list[Var],
        carries: list[tuple[Var, Var]],
        outputs: list[Var],
        kept: set[Var],
        at: dict[Var, tuple[Pack, int]],
        absorbed: dict[Var, Op],
        share: bool,
    ) -> None:
        self.ops, self.kind, self.inputs, self.carries = ops, kind, inputs, carries
        self.outputs, self.kept, self.at = outputs, kept, at
        self.absorbed = absorbed  # calls that a sum over time does itself
        self.share = share  # whether a state's rows may be the user's output as well
        self.copies: list[tuple[Store, Var]] = []  # new states that lie elsewhere
        self.extra: list[tuple[Store, Var]] = []  # outputs that lie elsewhere
        self.stores: list[Store] = []
        self.carry_stores: list[Store] = []
        self.output_places: list[Place] = []
        self.maker = {v: op for op in ops for out in op.outs for v in members(out)}

    def kind_of(self, v: Var) -> str:
        """The class of the call that makes a value."""
        return self.kind[self.maker[v]] if v in self.maker else "before"


class Place:
    """Where a value lies: in a store (whole, or as a member of a pack), or as a view of another."""

    def __init__(self, store: Store | None = None, member: int | None = None, row: int = 0) -> None:
        self.store, self.member, self.row = store, member, row
        self.view: tuple[Op, int] | None = None


class Writer:
    """The text of one program; `places` and `fixed` are shared by forward and backward.

    up        whether time runs upwards in this program
    readable  for people: all steps in one block, rows as h[t], out= by name
    """

    def __init__(
        self,
        program: Program,
        names: Names,
        places: dict[Var, Place],
        fixed: dict[Var, str],
        up: bool,
        readable: bool,
    ) -> None:
        self.p, self.names, self.places, self.fixed = program, names, places, fixed
        self.up, self.readable = up, readable
        self.head: list[str] = []  # views of buffers, named once
        self.memo: dict[str, str] = {}
        self.rows: dict[str, tuple[str, Store, bool]] = {}  # names in the loop: of which array
        self.used: dict[str, Store] = {}  # every store that the text mentions
        self.constants: dict[str, Any] = {}  # what the text needs that is no array of the plan
        self.weights: list[str] = []  # joined weights: made once a call
        self.helpers: dict[str, Any] = {}
        self.reads_fixed: dict[str, None] = {}

    # ----- where values are

    def store(self, store: Store) -> str:
        """A buffer's name; noted, so that the function gets it."""
        self.used[store.name] = store
        return store.name

    def named(self, wish: str, expr: str) -> str:
        """A name for an expression of buffers, bound before anything runs."""
        if re.fullmatch(r"\w+", expr):
            return expr
        if expr not in self.memo:
            self.memo[expr] = self.names.new(wish)
            self.head.append(f"{self.memo[expr]} = {expr}")
        return self.memo[expr]

    def fix(self, v: Var) -> str:
        """The name of what is the same at every step."""
        name = self.fixed[v]
        self.reads_fixed[name] = None
        return name

    def in_stack(self, v: Var) -> bool:
        """Whether all its steps are there, not only the present one's."""
        if isinstance(v, Part):
            v = v.members[0]
        place = self.places[v]
        if place.view:
            return self.in_stack(place.view[0].ins[0])
        assert place.store is not None
        return place.store.kind != "temp"

    def whole(self, v: Var) -> str:
        """All its steps, time first; the one value of what is fixed."""
        if v in self.fixed:
            return self.fix(v)
        place = self.places[v]
        if place.view:
            op, k = place.view
            text = forms.view(op, k, self.whole(op.ins[0]), True)
            return self.named(v.name, str(text))
        store = place.store
        assert store is not None
        name = self.store(store)
        if place.member is not None:
            return self.named(v.name, f"{name}[{':, ' * (store.time == 0)}{place.member}]")
        if store.carried:
            later = place.row == store.up
            return self.named(f"{name}_{'new' if place.row else 'old'}", f"{name}[{'1:' if later else ':-1'}]")
        return name

    def step(self, v: Any) -> str:
        """This step's value."""
        if isinstance(v, Part):
            return self._step_of_part(v)
        if v in self.fixed:
            return self.fix(v)
        place = self.places[v]
        if self.in_stack(v):
            if place.store is not None and place.store.carried and self.readable:
                later = " + 1" * (place.row == place.store.up)
                return f"{self.store(place.store)}[t{later}{', ...' * (not v.shape)}]"
            return self._row(self.whole(v), self.base(v), not v.shape)
        if place.view:
            op, k = place.view
            return self.named(v.name, str(forms.view(op, k, self.step(op.ins[0]), False)))
        assert place.store is not None
        name = self.store(place.store)
        return name if place.member is None else self.named(v.name, f"{name}[{place.member}]")

    def _row(self, whole: str, store: Store, point: bool = False) -> str:
        if self.readable:
            return f"{whole}[t{', ...' * point}]"
        self.rows.setdefault(f"{whole}_t", (whole, store, point))
        return f"{whole}_t"

    def base(self, v: Var) -> Store:
        """The buffer that a value lies in."""
        place = self.places[v]
        if place.view:
            return self.base(place.view[0].ins[0])
        assert place.store is not None
        return place.store

    def _step_of_part(self, v: Part, flat: bool = False) -> str:
        """Neighbours in a pack in this step; flat: side by side in one last axis."""
        store = self.places[v.members[0]].store
        assert store is not None
        name, full = self.store(store), len(v.members) == store.gates
        span = "" if full else f"{v.start}:{v.stop}"
        shape = [*v.shape[1:-1], v.shape[0] * v.shape[-1]]
        if store.kind == "temp":
            expr = name if full else f"{name}[{span}]"
            return self.named(v.name, f"{expr}.reshape({tuple(shape)})" if flat else expr)
        if store.time == 0:
            expr = name if full else f"{name}[:, {span}]"
            if flat:
                expr = f"{expr}.reshape(len({name}), {', '.join(map(str, shape))})"
            return self._row(self.named(v.name, expr), store)
        if self.readable:
            return f"{name}[{span or ':'}, t]"
        expr = f"{name}.swapaxes(0, 1)" if full else f"{name}[{span}].swapaxes(0, 1)"
        return self._row(self.named(v.name, expr), store)

    # ----- one call

    def number(self, value: Any, dtype: Any = None) -> str:
        """A literal; where it runs, an array without axes, which saves 0.3 us a call."""
        if isinstance(value, float) and not math.isfinite(value):
            text = f"float('{value}')"
        else:
            text = repr(value)
        if self.readable or dtype is None:
            return text
        array = np.asarray(value, dtype)
        for name, known in self.constants.items():
            if type(known) is np.ndarray and known.dtype == array.dtype and known.tobytes() == array.tobytes():
                return name
        name = self.names.new("k")
        self.constants[name] = array
        return name

    def keyword(self, value: Any) -> str:
        """A keyword's value as text."""
        if isinstance(value, np.dtype):
            return f"np.dtype('{value}')"
        if value is None or isinstance(value, (bool, int, float, str)):
            return self.number(value) if isinstance(value, float) else repr(value)
        if type(value) is tuple and all(type(v) in (int, tuple) for v in value):
            return f"({''.join(self.keyword(item) + ', ' for item in value)})"
        name = self.names.new("given")
        self.constants[name] = value
        return name

    def numpy(self, name: str) -> str:
        """A function of NumPy's by its name."""
        return f"np.{name}" if self.readable else self._global(f"np_{name}", name)

    def _global(self, name: str, path: str) -> str:
        value: Any = np
        for part in path.split("."):
            value = getattr(value, part)
        name = name.replace(".", "_")
        self.constants[name] = value
        return name

    def write(self, function: str, args: Iterable[str], out: str) -> str:
        """A call that writes its result into `out`."""
        by_name = "out=" if self.readable or "imum" in function else ""  # np.maximum insists
        return f"{function}({', '.join(args)}, {by_name}{out})"

    def copy(self, out: str, value: str) -> str:
        """An assignment into an array that is there."""
        return f"{out}[...] = {value}"

    def expression(self, op: Op, args: list[str]) -> str:
        """A call as an expression: what is done once, and what has no form that writes."""
        f, static = op.function, op.static
        keywords = [f"{k}={self.keyword(v)}" for k, v in static.items()]
        if f is astype:
            return f"{args[0]}.astype({self.keyword(static['dtype'])})"
        if f is detach:
            return args[0]
        if f is getitem:
            return f"{args[0]}[{forms.index_text(static['index'], False, args[1:])}]"
        if f is einsum_product:
            *inner, out = static["labels"]
            return f"np.einsum('{','.join(inner)}->{out}', {', '.join(args)})"
        if op.rule.each:
            args = [f"({''.join(a + ', ' for a in args)})"]
        if op.rule.own:
            name = self.names_of(f)
            return f"{name}({', '.join([*args, *keywords])})"
        if f is np.split:
            raise NotImplementedError
        module = "" if getattr(np, f.__name__, None) is f else "linalg."
        return f"np.{module}{f.__name__}({', '.join([*args, *keywords])})"

    def names_of(self, f: Any) -> str:
        """A function of the library's or the user's own, by a name of its own."""
        for name, value in self.constants.items():
            if value is f.on_arrays:
                return name
        name = self.names.new(f.__name__)
        self.constants[name] = self.helpers[name] = f.on_arrays
        return name

    def call(self, op: Op, lifted: bool) -> list[str]:
        """The lines of one call, on this step's values or on all steps at once."""
        f, out = op.function, op.outs[0]
        if f in (products, summed_products):
            return self._joined_product(op)
        see = self.whole if lifted else self.step
        target, rank = see(out), len(out.shape)
        if f is np.matmul:
            return [self._product(op, lifted, target)]
        if forms.is_elementwise(f):
            dtypes = [v.dtype for v in op.reads]
            ufunc = isinstance(f, np.ufunc)
            args = []
            for v in op.ins:
                if not isinstance(v, Var):
                    args.append(self.number(v, np.result_type(*dtypes, v) if ufunc else None))
                elif lifted and v not in self.fixed:
                    args.append(forms.padded(see(v), rank - len(v.shape)))
                else:
                    args.append(see(v))
            return self._elementwise(op, args, target, lifted)
        args = [see(v) if isinstance(v, Var) else self.number(v) for v in op.ins]
        if lifted and f in (np.concatenate, np.stack):
            n = see(next(v for v in op.reads if v not in self.fixed))
            args = [
                f"np.broadcast_to({a}, (len({n}), *{v.shape}))" if v in self.fixed else a
                for a, v in zip(args, op.ins, strict=True)
            ]
        if f in forms.REDUCED and set(op.static) <= {"axis", "keepdims"}:
            reduce, axis = forms.REDUCED[f], self.keyword(op.static["axis"])
            keep = bool(op.static.get("keepdims"))
            name = f"{reduce}.reduce"
            if self.readable:
                lines = [f"{name}({args[0]}, axis={axis}, keepdims={keep}, out={target})"]
            else:
                name = self._global(name.replace("np.", "np_"), name.removeprefix("np."))
                lines = [f"{name}({args[0]}, {axis}, None, {target}, {keep})"]
            if f is np.mean:
                axes = op.static["axis"]
                count = math.prod(op.ins[0].shape[k] for k in (axes if isinstance(axes, tuple) else (axes,)))
                n = self.number(max(count, 1), out.dtype)
                lines.append(self.write(self.numpy("divide"), [target, n], target))
            return lines
        if f in (np.concatenate, np.stack):
            return [f"np.{f.__name__}(({''.join(a + ', ' for a in args)}), axis={op.static['axis']}, out={target})"]
        if f is rows_product and not lifted and len(op.ins[0].shape) == 2:
            return [self.write(f"{args[0]}.T.dot", [args[1]], target)]
        if f is np.reshape:
            return [self.copy(target, f"{args[0]}.reshape({target}.shape{self._order(op)})")]
        if f is getitem and lifted:
            return [self.copy(target, f"{args[0]}[{forms.index_text(op.static['index'], True, args[1:])}]")]
        if f is scatter and len(op.ins) == 1:
            index = forms.index_text(op.static["index"], lifted)
            return [f"{target}[...] = 0", f"{target}[{index}] = {args[0]}"]
        if f is einsum_product and lifted:
            *inner, result = op.static["labels"]
            t = next(c for c in "tuvwxyzabcdefghijklmnopqrs" if c not in "".join(op.static["labels"]))
            inner = [name if v in self.fixed else t + name for name, v in zip(inner, op.ins, strict=True)]
            return [self.copy(target, f"np.einsum('{','.join(inner)}->{t}{result}', {', '.join(args)})")]
        if op.several:
            names = [self.names.new(v.name) for v in op.outs]
            pairs = zip(op.outs, names, strict=True)
            copies = [self.copy(see(v), name) for v, name in pairs]
            return [f"{', '.join(names)}, = {self.expression(op, args)}", *copies]
        return [self.copy(target, self.expression(op, args))]

    def _order(self, op: Op) -> str:
        order = op.static.get("order", "C")
        return "" if order == "C" else f", order={order!r}"

    def _elementwise(self, op: Op, args: list[str], out: str, lifted: bool) -> list[str]:
        f = op.function
        dtype = op.outs[0].dtype
        if f is sigmoid:
            one, work = self.number(1, dtype), out
            if not lifted and self.in_stack(op.outs[0]):  # one cold write, not four
                scratch = Store(self.names.new(f"{op.outs[0].name}_work"), "temp", op.outs[0].shape, dtype)
                work = self.store(scratch)
            return [
                self.write(self.numpy("negative"), args, work),
                self.write(self.numpy("exp"), [work], work),
                self.write(self.numpy("add"), [work, one], work),
                self.write(self.numpy("divide"), [one, work], out),
            ]
        if f in (relu, softplus):
            name = "maximum" if f is relu else "logaddexp"
            return [self.write(self.numpy(name), [*args, self.number(0, dtype)], out)]
        if isinstance(f, np.ufunc) and not op.static:
            return [self.write(self.numpy(f.__name__), args, out)]
        if f is astype:
            return [self.copy(out, self.expression(op, args))]
        return [self.copy(out, self.expression(op, args))]

    def _product(self, op: Op, lifted: bool, out: str) -> str:
        a, b = op.ins
        same = a.dtype == b.dtype == op.outs[0].dtype
        flat_out = self._contiguous(op.outs[0])
        left, right = (self.whole(a), self.whole(b)) if lifted else (self.step(a), self.step(b))
        if lifted and b in self.fixed and len(b.shape) == 2 and b.shape[0] and b.shape[1] and same and flat_out:
            left, out = f"{left}.reshape(-1, {b.shape[0]})", f"{out}.reshape(-1, {b.shape[1]})"
            return self.write(f"{left}.dot", [right], out)
        if lifted and not (b in self.fixed and len(b.shape) == 2):
            rank = max(len(a.shape), len(b.shape))
            left = left if a in self.fixed else forms.padded(left, max(0, rank - len(a.shape)))
            right = right if b in self.fixed else forms.padded(right, max(0, rank - len(b.shape)))
        elif not lifted and same and len(a.shape) <= 2 and len(b.shape) == 2:
            return self.write(f"{left}.dot", [right], out)  # a method: 0.25 us less than np.dot
        return self.write(self.numpy("matmul"), [left, right], out)

    def _contiguous(self, v: Var) -> bool:
        store = self.places[v].store
        return store is not None and (not store.gates or store.time == 1)

    def _joined_product(self, op: Op) -> list[str]:
        """Several products at once, in the form that is fastest for their size (measured)."""
        a, *weights = op.ins
        out, rights = op.outs[0], ", ".join(map(self.fix, weights))
        gates, (inner, outer) = len(weights), weights[0].shape
        wish = "_".join([weights[0].name, "joined"])
        shape = out.shape[1:] if op.function is products else out.shape
        one_row = math.prod(shape[:-1]) == 1

        def weight(text: str) -> str:
            name = self.memo.get(text) or self.names.new(wish)
            if text not in self.memo:
                self.memo[text] = name
                self.weights.append(f"{name} = np.ascontiguousarray({text})")
            self.reads_fixed[name] = None
            return name

        stacked = f"np.stack(({rights})){'[:' + ', None' * (len(shape) - 2) + ']' if len(shape) > 2 else ''}"
        matmul = self.numpy("matmul")
        if op.function is products:
            if one_row:
                w = weight(f"np.concatenate(({rights}), axis=1)")
                return [self.write(f"{self.step(a)}.dot", [w], self._step_of_part(out, flat=True))]
            w = weight(stacked)
            return [self.write(matmul, [self.step(a), w], self.step(out))]
        target = self.step(out)
        if one_row:
            w = weight(f"np.concatenate(({rights}))")
            return [self.write(f"{self._step_of_part(a, flat=True)}.dot", [w], target)]
        if math.prod(shape) < SMALL and len(shape) == 2:
            w, name = weight(f"np.concatenate(({rights}))"), self.names.new(f"{a.name}_side_by_side")
            side = Store(name, "temp", (shape[0], gates * inner), a.dtype)
            view = self.named(f"{name}_gates", f"{self.store(side)}.reshape({shape[0]}, {gates}, {inner}).swapaxes(0, 1)")
            return [self.copy(view, self.step(a)), self.write(f"{name}.dot", [w], target)]
        w = weight(stacked)
        each = Store(self.names.new(f"{out.name}_each"), "temp", (gates, *shape[:-1], outer), out.dtype)
        reduce = "np.add.reduce" if self.readable else self._global("np_add_reduce", "add.reduce")
        axis = "axis=0, out=" if self.readable else "0, None, "
        return [
            self.write(matmul, [self.step(a), w], self.store(each)),
            f"{reduce}({each.name}, {axis}{target})",
        ]

    def ones(self, dtype: Any, rows: int) -> str:
        """A row of ones for n steps: times a matrix it sums rows, several times faster than sum."""
        store = Store("ones", "ones", (rows,), dtype)
        store = store if self.readable else self.used.setdefault("ones", store)
        if self.readable or store.dtype != dtype or store.shape != (rows,):
            return f"np.ones({'T' if self.readable else '(hi - lo)'} * {rows}, np.{dtype})"
        return f"ones[:(hi - lo) * {rows}]"

    def sums(self, op: Op) -> list[str]:
        """Add what these steps contribute to a sum over time."""
        name, lines = self.store(self.places[op.outs[0]].store), []  # type: ignore[arg-type]
        for v in op.ins:
            made = self.p.absorbed.get(v)
            if made is not None and made.function is rows_product:
                a, g = made.ins
                left, right = self.whole(a), self.whole(g)
                text = f"{left}.reshape(-1, {a.shape[-1]}).T.dot({right}.reshape(-1, {g.shape[-1]}))"
            elif made is not None:
                g = f"{self.whole(made.ins[0])}.reshape(-1, {v.shape[-1]})"
                ones = math.prod(made.ins[0].shape[:-1])
                text = f"{self.ones(v.dtype, ones)}.dot({g})"
            else:
                text = f"np.add.reduce({self.whole(v)}, axis=0)"
            lines.append(f"{name} += {text}")
        return lines


    # ----- the whole

    def phases(self) -> dict[str, list[str]]:
        """The lines of what runs before, in and after the loop."""
        p, last = self.p, dict[str, str]()
        gone = {id(op) for op in p.absorbed.values()}
        lines: dict[str, list[str]] = {"before": [], "loop": [], "after": []}
        for op in p.ops:
            kind = p.kind[op]
            if kind not in lines or forms.cost_free(op) or id(op) in gone:
                continue
            if self.readable and op.line and last.get(kind) != op.line:
                last[kind] = op.line
                lines[kind].append(f"# {op.line}")
            sums = op.function is sum_over_time
            lines[kind] += self.sums(op) if sums else self.call(op, lifted=kind != "loop")
        for store, v in p.copies:
            lines["loop"].append(self.copy(self.step(self.later(store)), self.step(v)))
        for store, v in p.extra:
            lines["after"].append(self.copy(self.store(store), self.whole(v)))
        return lines

    def block(self) -> str:
        """The function that does the steps lo..hi-1, in the form that runs."""
        lines, loop = self.phases(), []
        if lines["loop"]:
            turn = "" if self.up else "[::-1]"
            lists = [
                f"rows(K, {whole!r}, 0, {whole}){turn}"
                if store.kind == "block"
                else f"rows(R, {whole!r}, base + lo, {whole}){turn}"
                if store.kind == "kept"
                else f"{'points' * point}({whole}{turn})"
                for whole, store, point in self.rows.values()
            ]
            names = "".join(f"{row}, " for row in self.rows)
            over = f"({names}) in zip({', '.join(lists)})" if lists else "_ in range(hi - lo)"
            loop = [f"for {over}:", *[f"    {line}" for line in lines["loop"]]]
        views = []
        for store in self.used.values():
            front, more = ":, " * store.time, " + 1" * store.carried
            if store.kind == "block":
                views.append(f"{store.name} = {store.name}[{front}:hi - lo{more}]")
            elif store.kind not in ("temp", "sum", "ones"):
                at = "base + " if store.kind == "kept" else ""
                views.append(f"{store.name} = {store.name}[{front}{at}lo:{at}hi{more}]")
        given = [
            f"({''.join(f'{name}, ' for name in names)}) = {where}"
            for names, where in ((self.used, "S"), (self.reads_fixed, "C"))
            if names
        ]
        body = [*given, *views, *self.head, *lines["before"], *loop, *lines["after"], "pass"]
        return "\n    ".join(["def block(lo, hi, base, S, C, K, R):", *body]) + "\n"

    def body(self, start: dict[str, str], known: set[str]) -> list[str]:
        """The same for readers: all steps in one block. start: what each state begins as."""
        once, lines = self.once("once"), self.phases()
        made = []
        for store in self.used.values():
            if store.kind == "sum":
                made.append(f"{store.name} = np.zeros({store.shape}, np.{store.dtype})")
            elif store.name not in known:
                shape = [*[store.gates] * (store.gates > 0), *store.shape]
                text = [str(n) for n in shape]
                if store.kind != "temp":
                    text.insert(store.time, "T" + " + 1" * store.carried)
                made.append(f"{store.name} = np.empty(({', '.join(text)}), np.{store.dtype})")
        made += [f"{name}[{0 if self.up else 'T'}] = {value}" for name, value in start.items()]
        over = "range(T)" if self.up else "reversed(range(T))"
        parts = [
            ("# The same at every step.", [*once, *self.weights]),
            ("# Room for the results, and views of it.", [*made, *self.head]),
            ("# Before the loop: what does not depend on the state, for all steps.", lines["before"]),
            ("# The loop: what leads from state to state.", [
                f"for t in {over}:", *[f"    {line}" for line in lines["loop"]]] * bool(lines["loop"])),
            ("# After the loop: what no later state depends on, for all steps.", lines["after"]),
        ]  # fmt: skip
        return [line for title, some in parts if some for line in (title, *some)]

    def later(self, store: Store) -> Var:
        """A value that stands for a state's next row."""
        v = Var(store.name, store.shape, store.dtype)
        self.places[v] = Place(store, row=1)
        return v

    def once(self, kind: str) -> list[str]:
        """The lines of what is done once a call: `once` before all steps, `end` after them."""
        rights = {
            op.ins[1] for op in self.p.ops if op.function is np.matmul and self.p.kind[op] == "loop"
        }
        lines = []
        for op in self.p.ops:
            if self.p.kind[op] != kind:
                continue
            args = [self.fix(v) if isinstance(v, Var) else self.number(v) for v in op.ins]
            for k, v in enumerate(op.outs):
                self.fixed[v] = self.names.new(v.name or "w")
                if op.function is scatter and len(args) == 1:
                    index = forms.index_text(op.static["index"], False)
                    lines.append(f"{self.fixed[v]} = np.zeros({v.shape}, np.{v.dtype})")
                    lines.append(f"{self.fixed[v]}[{index}] = {args[0]}")
                    continue
                text = forms.view(op, k, args[0], False) if op.several else None
                if text is None:
                    text = self.expression(op, args)
                    text += f"[{k}]" * op.several
                if v in rights:
                    text = f"np.ascontiguousarray({text})"
                lines.append(f"{self.fixed[v]} = {text}")
        return lines


# ----- where everything goes ---------------------------------------------------------------------


def assign(p: Program, names: Names, places: dict[Var, Place], up: bool) -> None:
    """Give every value of a program its place: views, states, packs, then the rest."""

    def store(v: Var, kind: str, gates: int = 0, name: str = "") -> Store:
        made = Store(names.new(name or v.name), kind, v.shape, v.dtype, gates)
        made.up = up
        p.stores.append(made)
        return made

    def root(v: Var) -> Var:
        place = places.get(v)
        return root(place.view[0].ins[0]) if place is not None and place.view else v

    steps = [op for op in p.ops if p.kind[op] in ("before", "loop", "after")]
    for op in steps:
        if forms.cost_free(op):
            for k, v in enumerate(op.outs):
                places[v] = Place()
                places[v].view = (op, k)
    for v in p.inputs:
        places[v] = Place(store(v, "input"))
    gone = {id(op) for op in p.absorbed.values()}
    outs = {v for op in steps if not forms.cost_free(op) and id(op) not in gone for v in op.outs}
    stacked = {root(v) for v in (*p.kept, *p.outputs)}
    for op in steps:
        if p.kind[op] != "loop" and not forms.cost_free(op):
            stacked.update(root(v) for u in op.reads for v in members(u))
    flat = {root(v) for op in p.absorbed.values() for v in op.reads}
    flat |= {root(op.ins[0]) for op in steps if op.function is np.matmul and p.kind[op] != "loop"}
    kept = {root(v) for v in p.kept}
    for old, new in p.carries:
        direct = new in outs and p.kind_of(new) == "loop" and new not in p.at and new not in places
        shown = direct and p.share and new in p.outputs
        kind = "fresh" if shown else "kept" if old in kept or (direct and new in kept) else "block"
        made = store(old, kind, name=new.name if new.named else old.name)
        made.carried = True
        p.carry_stores.append(made)
        places[old] = Place(made, row=0)
        if direct:
            places[new] = Place(made, row=1)
        else:
            p.copies.append((made, new))
    for pack in {id(pack): pack for pack, _ in p.at.values()}.values():
        if pack.members[0] in places:
            continue
        late = any(p.kind_of(v) != "loop" or v in stacked for v in pack.members)
        kind = "kept" if kept & set(pack.members) else "block" if late else "temp"
        made = store(pack.members[0], kind, len(pack.members))
        made.time = int(kind != "temp" and math.prod(made.shape[:-1]) != 1 and (bool(flat & set(pack.members)) or math.prod(made.shape) >= SMALL))
        for k, v in enumerate(pack.members):
            places[v] = Place(made, member=k)
    count = uses(p.ops, [*p.outputs, *p.kept, *[n for _, n in p.carries]])
    for op in reversed(steps):
        if forms.cost_free(op) or id(op) in gone:
            continue
        for v in op.outs:
            if v in places or isinstance(v, Part):
                continue
            late = p.kind[op] != "loop" or v in stacked
            kind = "fresh" if v in p.outputs else "kept" if v in kept else "block"
            places[v] = Place(store(v, kind if late or kind != "block" else "temp"))
            if op.function is sum_over_time:
                places[v].store.kind = "sum"  # type: ignore[union-attr]
        out = op.outs[0]
        if not forms.is_elementwise(op.function) or isinstance(out, Part):
            continue
        for v in op.reads:  # what dies here is computed where the result will be
            fits = v in outs and v not in places and (v.shape, v.dtype) == (out.shape, out.dtype)
            if fits and count[v] == 1 and p.kind_of(v) == p.kind[op]:
                place = places[out]
                strided = place.member is not None and place.store.time == 0  # type: ignore[union-attr]
                if not (strided and p.maker[v].function is np.matmul and p.kind[op] != "loop"):
                    places[v] = place
                    break
    for v in p.outputs:
        place = places.get(v)
        if place is None or place.store is None or place.store.kind != "fresh":
            place = Place(store(v, "fresh", name=f"{v.name}_out"))
            p.extra.append((place.store, v))  # type: ignore[arg-type]
        p.output_places.append(place)
