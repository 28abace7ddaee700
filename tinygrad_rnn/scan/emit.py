"""Emit: a split program as NumPy source, a line for each call, on buffers made once.

The lines are written for readers: `np.add(a[t], b, out=h[t + 1])`. `running` spells the same lines
for speed: rows come from lists, functions and small constants have names of their own.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..functions import relu, sigmoid, softplus
from ..primitives import astype, getitem
from ..rules import einsum_product, rows_product, scatter
from . import forms
from .fission import Part, products, summed_products
from .places import LARGE, Names, Place, Program, Store, in_one_piece
from .trace import Op, Var, sum_over_time


class Writer:
    """The text of one program, as lines: `once` and `weights` (made before all steps), `head`
    (views of buffers), `lines` (before, loop, after), `end` (after all steps).

    places and fixed (names of what is the same at every step) are shared by forward and backward.
    """

    def __init__(
        self, program: Program, names: Names, places: dict[Var, Place], fixed: dict[Var, str]
    ) -> None:
        self.program, self.names, self.places, self.fixed = program, names, places, fixed
        self.head: list[str] = []
        self.weights: list[str] = []  # joined weights: made once a call
        self.bound: dict[str, str] = {}  # names of expressions
        self.base: dict[str, Store] = {}  # which buffer a name belongs to
        self.used: dict[str, Store] = {}  # every buffer that the text mentions
        self.globals: dict[str, Any] = {}  # functions and keywords that are no NumPy
        self.reads: dict[str, None] = {}  # fixed values that the text mentions
        self.once = self._once("once")
        self.lines = self._lines()
        for op in program.ops:
            if op.function is sum_over_time:
                fixed[op.outs[0]] = self._store(places[op.outs[0]].store)
        self.in_block = list(self.reads)
        self.end = self._once("end")

    # ----- where values are

    def _store(self, store: Store | None) -> str:
        """A buffer's name; noted, so that the function gets it."""
        assert store is not None
        self.used[store.name] = self.base[store.name] = store
        return store.name

    def _named(self, wish: str, expr: str, store: Store) -> str:
        """A name for a view of a buffer, bound before anything runs."""
        if re.fullmatch(r"\w+", expr):
            return expr
        if expr not in self.bound:
            name = self.bound[expr] = self.names.new(wish)
            self.base[name] = store
            self.head.append(f"{name} = {expr}")
        return self.bound[expr]

    def _fixed(self, v: Var) -> str:
        self.reads[self.fixed[v]] = None
        return self.fixed[v]

    def store_of(self, v: Var) -> Store:
        """The buffer that a value lies in."""
        place = self.places[v.members[0] if isinstance(v, Part) else v]
        if place.view:
            return self.store_of(place.view[0].ins[0])
        assert place.store is not None
        return place.store

    def whole(self, v: Var) -> str:
        """All its steps, time first; the one value of what is fixed."""
        if v in self.fixed:
            return self._fixed(v)
        place, store = self.places[v], self.store_of(v)
        name = self._store(store)
        if place.view:
            op, k = place.view
            return self._named(v.name, str(forms.view(op, k, self.whole(op.ins[0]), True)), store)
        if place.member is not None:
            return self._named(v.name, f"{name}[{':, ' * (store.time == 0)}{place.member}]", store)
        if store.carried:
            wish = f"{name}_{'new' if place.new else 'old'}"
            return self._named(wish, f"{name}[{'1:' if place.new == store.up else ':-1'}]", store)
        return name

    def step(self, v: Any) -> str:
        """This step's value."""
        if isinstance(v, Part):
            return self._part(v)
        if v in self.fixed:
            return self._fixed(v)
        place, store = self.places[v], self.store_of(v)
        if store.kind != "temp":
            row = (
                f"t{' + 1' * (place.new == store.up)}" if store.carried and not place.view else "t"
            )
            name = self._store(store) if store.carried and not place.view else self.whole(v)
            return f"{name}[{row}{', ...' * (not v.shape)}]"
        if place.view:
            op, k = place.view
            return self._named(v.name, str(forms.view(op, k, self.step(op.ins[0]), False)), store)
        name = self._store(store)
        return (
            name if place.member is None else self._named(v.name, f"{name}[{place.member}]", store)
        )

    def _part(self, v: Part, flat: bool = False) -> str:
        """Neighbours in a pack in this step; flat: side by side in one last axis."""
        store = self.store_of(v)
        name, full = self._store(store), len(v.members) == store.gates
        span = f"{v.start}:{v.stop}"
        if store.time == 1:
            return f"{name}[{':' if full else span}, t]"
        temp = store.kind == "temp"
        expr = name if full else f"{name}[{span}]" if temp else f"{name}[:, {span}]"
        if flat:
            shape = [*v.shape[1:-1], v.shape[0] * v.shape[-1]]
            expr += f".reshape({'' if temp else '-1, '}{', '.join(map(str, shape))})"
        return self._named(v.name, expr, store) + "[t]" * (not temp)

    # ----- one call

    def _keyword(self, value: Any) -> str:
        """A keyword's value, or a number, as text."""
        if isinstance(value, np.dtype):
            return f"np.dtype('{value}')"
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        if value is None or type(value) in (bool, int, float, str):
            return repr(value)
        if type(value) is tuple and all(type(v) in (int, tuple) for v in value):
            return f"({''.join(self._keyword(item) + ', ' for item in value)})"
        return self._global("given", value)

    def _global(self, wish: str, value: Any) -> str:
        for name, known in self.globals.items():
            if known is value:
                return name
        name = self.names.new(wish)
        self.globals[name] = value
        return name

    def _expression(self, op: Op, args: list[str], lifted: bool = False) -> str:
        """A call as an expression: what is done once, and what has no form that writes."""
        f, static = op.function, op.static
        if f is astype:
            return f"{args[0]}.astype({self._keyword(static['dtype'])})"
        if f is getitem:
            return f"{args[0]}[{forms.index_text(static['index'], lifted, args[1:])}]"
        if f is rows_product:
            left, right = (
                f"{a}.reshape(-1, {v.shape[-1]})" for a, v in zip(args, op.reads, strict=True)
            )
            return f"{left}.T.dot({right})"
        if f is einsum_product:
            labels = list(static["labels"])
            if lifted:
                t = next(c for c in "tuvwxyzabcdefghijklmnopqrs" if c not in "".join(labels))
                steps = [v not in self.fixed for v in op.ins] + [True]
                labels = [t * step + label for step, label in zip(steps, labels, strict=True)]
            return f"np.einsum('{','.join(labels[:-1])}->{labels[-1]}', {', '.join(args)})"
        name = f"np.{f.__name__}"
        if op.rule.own:
            name = self._global(f.__name__, f.on_arrays)
        if op.rule.each:
            args = [f"({', '.join(args)},)"]
        keywords = [f"{k}={self._keyword(v)}" for k, v in sorted(static.items())]
        return f"{name}({', '.join([*args, *keywords])})"

    def _once(self, kind: str) -> list[str]:
        """The lines of what is done once a call: `once` before all steps, `end` after them."""
        rights = {op.ins[1] for op in self.program.steps if op.function is np.matmul}
        lines = []
        for op in self.program.ops:
            if self.program.kind[op] != kind:
                continue
            args = [self._fixed(v) if isinstance(v, Var) else self._keyword(v) for v in op.ins]
            names = [self.names.new(v.name or "w") for v in op.outs]
            self.fixed.update(zip(op.outs, names, strict=True))
            if op.function is scatter:
                lines.append(f"{names[0]} = np.zeros({op.outs[0].shape}, np.{op.outs[0].dtype})")
                lines += self._scatter(op, names[0], args, lifted=False)[1:]
                continue
            text = None if forms.is_view(op) else self._expression(op, args)
            for k, (v, name) in enumerate(zip(op.outs, names, strict=True)):
                value = text or str(forms.view(op, k, args[0], False))
                value += f"[{k}]" * (op.several and text is not None)
                value = f"np.ascontiguousarray({value})" if v in rights else value
                lines.append(f"{name} = {value}")
        return lines

    def _scatter(self, op: Op, to: str, args: list[str], lifted: bool) -> list[str]:
        """Zeros, and g at an index: where that repeats, the sum."""
        index = forms.index_text(op.static["index"], lifted, args[1:])
        put = f"{to}[{index}] = {args[0]}"
        put = put if len(args) == 1 else f"np.add.at({to}, np.s_[{index}], {args[0]})"
        return [f"{to}[...] = 0", put]

    def _call(self, op: Op, lifted: bool) -> list[str]:
        """The lines of one call, on this step's values or on all steps at once."""
        f: Any = op.function
        out, static = op.outs[0], op.static
        if f in (products, summed_products):
            return self._joined_product(op)
        if f is np.matmul:
            return [self._product(op, lifted)]
        see = self.whole if lifted else self.step
        to = see(out)
        if forms.is_elementwise(f):
            return self._elementwise(op, lifted, to)
        args = [see(v) if isinstance(v, Var) else self._keyword(v) for v in op.ins]
        if f in forms.REDUCED and set(static) <= {"axis", "keepdims"}:
            how = f"axis={self._keyword(static['axis'])}, keepdims={bool(static.get('keepdims'))}"
            lines = [f"np.{forms.REDUCED[f]}.reduce({args[0]}, {how}, out={to})"]
            if f is np.mean:
                count = max(1, forms.size(op.ins[0]) // max(1, forms.size(out)))
                lines.append(f"np.divide({to}, {number(count, out.dtype)}, out={to})")
            return lines
        if f in (np.concatenate, np.stack):
            if lifted:
                n = next(a for a, v in zip(args, op.ins, strict=True) if v not in self.fixed)
                args = [
                    f"np.broadcast_to({a}, (len({n}), *{v.shape}))" if v in self.fixed else a
                    for a, v in zip(args, op.ins, strict=True)
                ]
            return [f"np.{f.__name__}(({', '.join(args)},), axis={static['axis']}, out={to})"]
        if f is np.reshape:
            return [
                f"{to}[...] = {args[0]}.reshape({to}.shape, order={static.get('order', 'C')!r})"
            ]
        if f is scatter:
            return self._scatter(op, to, args, lifted)
        text = self._expression(op, args, lifted)
        if op.several:
            names = [self.names.new(v.name) for v in op.outs]
            pairs = zip(op.outs, names, strict=True)
            return [
                f"{', '.join(names)}, = {text}",
                *[f"{see(v)}[...] = {name}" for v, name in pairs],
            ]
        return [f"{to}[...] = {text}"]

    def _elementwise(self, op: Op, lifted: bool, to: str) -> list[str]:
        f, out = op.function, op.outs[0]
        dtypes, args = [v.dtype for v in op.reads], []
        ufunc = isinstance(f, np.ufunc)
        floats = ufunc and any(dtype.kind == "f" for dtype in dtypes)
        for v in op.ins:
            if not isinstance(v, Var):
                args.append(number(v, np.result_type(*dtypes, v)) if floats else self._keyword(v))
            elif lifted and v not in self.fixed:
                args.append(forms.padded(self.whole(v), len(out.shape) - len(v.shape)))
            else:
                args.append(self.step(v))
        if f is sigmoid:
            one, work = number(1, out.dtype), to
            if (
                not lifted and self.store_of(out).kind != "temp"
            ):  # one write to far memory, not four
                wish = self.names.new(f"{out.name}_work")
                work = self._store(Store(wish, "temp", out.shape, out.dtype))
            return [
                f"np.negative({args[0]}, out={work})",
                f"np.exp({work}, out={work})",
                f"np.add({work}, {one}, out={work})",
                f"np.divide({one}, {work}, out={to})",
            ]
        if f in (relu, softplus):
            name = "maximum" if f is relu else "logaddexp"
            return [f"np.{name}({args[0]}, {number(0, out.dtype)}, out={to})"]
        if ufunc and not op.static:
            return [f"np.{f.__name__}({', '.join(args)}, out={to})"]
        return [f"{to}[...] = {self._expression(op, args)}"]

    def _product(self, op: Op, lifted: bool) -> str:
        (a, b), out = op.ins, op.outs[0]
        see = self.whole if lifted else self.step
        left, right, to = see(a), see(b), see(out)
        same, weight = a.dtype == b.dtype == out.dtype, b in self.fixed and len(b.shape) == 2
        if lifted and weight:
            if same and 0 not in b.shape and in_one_piece(self.places[out]):
                left, to = f"{left}.reshape(-1, {b.shape[0]})", f"{to}.reshape(-1, {b.shape[1]})"
                return f"{left}.dot({right}, out={to})"
        elif lifted:
            rank = max(len(a.shape), len(b.shape))
            left, right = (
                text if v in self.fixed else forms.padded(text, rank - len(v.shape))
                for text, v in ((left, a), (right, b))
            )
        elif same and len(a.shape) <= 2 and len(b.shape) == 2:
            return f"{left}.dot({right}, out={to})"  # a method: 0.25 us less than np.dot
        return f"np.matmul({left}, {right}, out={to})"

    def _joined_product(self, op: Op) -> list[str]:
        """Several products at once, in the form that is fastest for their size (measured)."""
        a, *weights = op.ins
        out, (inner, outer), gates = op.outs[0], weights[0].shape, len(weights)
        rights = f"({', '.join(map(self._fixed, weights))})"
        shape = out.shape[1:] if op.function is products else out.shape
        one_row, axes = math.prod(shape[:-1]) == 1, len(shape) - 2

        def weight(text: str) -> str:
            if text not in self.bound:
                self.bound[text] = self.names.new(f"{weights[0].name}_joined")
                # joining keeps the order in memory, and a transposed weight is twice as slow
                self.weights.append(f"{self.bound[text]} = np.ascontiguousarray({text})")
            self.reads[self.bound[text]] = None
            return self.bound[text]

        stacked = f"np.stack({rights})" + f"[:{', None' * axes}]" * (axes > 0)
        if op.function is products:
            if one_row:
                w = weight(f"np.concatenate({rights}, axis=1)")
                return [f"{self.step(a)}.dot({w}, out={self._part(out, flat=True)})"]
            return [f"np.matmul({self.step(a)}, {weight(stacked)}, out={self.step(out)})"]
        to = self.step(out)
        if one_row:
            return [
                f"{self._part(a, flat=True)}.dot({weight(f'np.concatenate({rights})')}, out={to})"
            ]
        if math.prod(shape) < LARGE and axes == 0:
            side = Store(
                self.names.new(f"{a.name.strip('_')}_side_by_side"),
                "temp",
                (shape[0], gates * inner),
                a.dtype,
            )
            parts = f"{self._store(side)}.reshape({shape[0]}, {gates}, {inner}).swapaxes(0, 1)"
            return [
                f"{self._named(f'{side.name}_parts', parts, side)}[...] = {self.step(a)}",
                f"{side.name}.dot({weight(f'np.concatenate({rights})')}, out={to})",
            ]
        each = Store(
            self.names.new(f"{out.name}_each"), "temp", (gates, *shape[:-1], outer), out.dtype
        )
        return [
            f"np.matmul({self.step(a)}, {weight(stacked)}, out={self._store(each)})",
            f"np.add.reduce({each.name}, axis=0, out={to})",
        ]

    def _sums(self, op: Op) -> list[str]:
        """Add what these steps contribute to a sum over time."""
        name, lines = self._store(self.places[op.outs[0]].store), []
        for v in op.ins:
            made = self.program.absorbed.get(v)
            if made is None:
                lines.append(f"{name} += np.add.reduce({self.whole(v)}, axis=0)")
                continue
            *left, right = (f"{self.whole(u)}.reshape(-1, {u.shape[-1]})" for u in made.ins)
            if left:
                lines.append(f"{name} += {left[0]}.T.dot({right})")
            else:  # ones times a matrix sums its rows, several times faster than np.sum
                count = forms.size(made.ins[0]) // max(1, forms.size(v))
                lines.append(f"{name} += np.ones(T * {count}, np.{v.dtype}).dot({right})")
        return lines

    def _lines(self) -> dict[str, list[str]]:
        """The lines of what runs before, in and after the loop, with the user's as comments."""
        lines: dict[str, list[str]] = {"before": [], "loop": [], "after": []}
        last: dict[str, str] = {}
        for op in self.program.steps:
            if forms.is_view(op):
                continue
            kind = self.program.kind[op]
            if op.line and last.get(kind) != op.line:
                last[kind] = op.line
                lines[kind].append(f"# {op.line}")
            sums = op.function is sum_over_time
            lines[kind] += self._sums(op) if sums else self._call(op, lifted=kind != "loop")
        for store, v in self.program.copies:
            row = f"t{' + 1' * store.up}{', ...' * (not store.shape)}"
            lines["loop"].append(f"{self._store(store)}[{row}][...] = {self.step(v)}")
        for store, v in self.program.extra:
            lines["after"].append(f"{self._store(store)}[...] = {self.whole(v)}")
        return lines


# ----- the spelling that runs --------------------------------------------------------------------


def number(value: Any, dtype: Any) -> str:
    """A number beside arrays: `running` makes it an array without axes, 0.3 us less a call."""
    text = f"float('{value}')" if isinstance(value, float) and not math.isfinite(value) else value
    return f"{text!s}{{{np.dtype(dtype)}}}"


def readable(line: str) -> str:
    """A line for readers: plain numbers."""
    return re.sub(r"\{\w+\}", "", line)


def running(writer: Writer) -> tuple[str, dict[str, Any]]:
    """The function that does the steps lo..hi-1, and the names that it needs.

    _S are the buffers, _C what is fixed; _K and _R keep lists of the rows of buffers.
    """
    scope: dict[str, Any] = {"np": np, "_rows": rows, "_points": points, **writer.globals}
    lists: dict[str, str] = {}
    states: dict[str, str] = {}
    turn = "" if writer.program.up else "[::-1]"

    def row(match: re.Match[str]) -> str:
        """`h[t + 1]` is a name in the loop, that goes through a list of rows."""
        name, span, later, point = match.groups()
        store = writer.base[name]
        text = f"{name}[{span}]" if span and span != ":" else name
        text += ".swapaxes(0, 1)" * bool(span)
        wish = "_".join(["", name, *re.findall(r"\d+", span or ""), "t"])
        if store.kind in ("block", "kept"):
            where = "_K, {!r}, 0" if store.kind == "block" else "_R, {!r}, _base + _lo"
            text = f"_rows({where.format(wish)}, {text})"
        else:
            text = f"{'_points' if point else 'list'}({text})"
        if store.carried and name == store.name:  # one list for the states before and after
            states[f"_{name}_rows"] = text
            wish = f"_{name}{'_next' * bool(later)}_t"
            text = f"_{name}_rows[{'1:' if later else ':-1'}]"
        lists[wish] = text + turn
        return wish

    def constant(match: re.Match[str]) -> str:
        array = np.asarray(eval(match[1], {"float": float}), match[2])
        name = f"_k_{array.tobytes().hex()}_{match[2]}"
        scope[name] = array
        return name

    def function(match: re.Match[str]) -> str:
        name = "_np_" + match[1].replace(".", "_")
        scope[name] = functools.reduce(getattr, match[1].split("."), np)
        return f"{name}("

    def spelled(lines: Iterable[str]) -> list[str]:
        found = []
        for line in lines:
            line = re.sub(r"(float\('-?\w+'\)|-?[\w.+-]+)\{(\w+)\}", constant, line)
            line = re.sub(r"(\w+)\[(?:(:|\d+:\d+), )?t( \+ 1)?(, \.\.\.)?\]", row, line)
            if not re.search(r"imum\(|axis=", line):  # np.maximum insists on out=
                line = line.replace(", out=", ", ")
            line = re.sub(r"\bnp\.([a-z_0-9.]+)\(", function, line)
            found += [line] * (not line.startswith("#"))
        return found

    before, loop, after = (spelled(lines) for lines in writer.lines.values())
    if loop:
        over = (
            f"({', '.join(lists)},) in zip({', '.join(lists.values())})"
            if lists
            else "_ in range(T)"
        )
        given = [f"{name} = {text}" for name, text in states.items()]
        loop = [*given, f"for {over}:", *[f"    {line}" for line in loop]]
    views = []
    for store in writer.used.values():
        front, more = ":, " * store.time, " + 1" * store.carried
        if store.kind == "block":
            views.append(f"{store.name} = {store.name}[{front}:T{more}]")
        elif store.kind not in ("temp", "sum"):
            at = "_base + " * (store.kind == "kept")
            views.append(f"{store.name} = {store.name}[{front}{at}_lo:{at}_hi{more}]")
    given = [
        f"({', '.join(names)},) = {where}"
        for names, where in ((writer.used, "_S"), (writer.in_block, "_C"))
        if names
    ]
    body = ["T = _hi - _lo", *given, *views, *writer.head, *before, *loop, *after]
    if "_np_ones" in scope:
        scope["_np_ones"] = functools.lru_cache(8)(np.ones)
    return "\n    ".join(["def _block(_lo, _hi, _base, _S, _C, _K, _R):", *body]) + "\n", scope


def rows(known: dict[Any, Any], name: str, at: int, array: np.ndarray) -> list[Any]:
    """The rows of a buffer from `at` on, as a list that is made once."""
    found = known.get((name, at))
    if found is None or len(found) < len(array):
        if len(known) > 500:
            known.clear()
        found = known[name, at] = list(array) if array.ndim > 1 else points(array)
    return found if len(found) == len(array) else found[: len(array)]


def points(array: np.ndarray) -> list[Any]:
    """The elements, as arrays without axes that can be written into."""
    return [array[k, ...] for k in range(len(array))]
