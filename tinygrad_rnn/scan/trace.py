"""Trace: one step of a cell as a list of calls, and the calls that pull its gradient back.

A trace is what `apply` saw while the step ran once, on the first real x_t and state: every call,
with its function, operands and results. Differentiating it needs nothing new either: the rules run
on Tensors, and `apply` sees their calls in turn. So scan has no derivative of its own.
"""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TraceError, value_read, wrong_joint
from ..graph import INSIDE, _fitted, run_vjp
from ..primitives import detach, getitem, unstack
from ..record import record, recording
from ..tensor import Tensor, apply
from ..vjp import RULES, Rule, Static

PACKAGE = str(Path(__file__).parents[1])


class Var:
    """One value of the step. `fixed`: the same at every time step. `value`: where it comes from.

    A Tensor that was there before (a Parameter, say) or a constant array has a value; what the
    step computes, and what comes in at each step, has none.
    """

    __slots__ = ("dtype", "ended", "fixed", "name", "named", "shape", "value")

    def __init__(
        self, name: str, shape: Any, dtype: Any, fixed: bool = False, value: Any = None
    ) -> None:
        self.name, self.shape, self.dtype = name, tuple(shape), np.dtype(dtype)
        self.fixed, self.value = fixed, value
        self.named = False  # the user gave it this name, by an assignment
        self.ended = False  # it needs a sum over all time steps

    def __repr__(self) -> str:
        return f"{self.name}{list(self.shape)}"


class Op:
    """One call: outs = function(*ins, **static). `line` is the user's line that made it."""

    __slots__ = ("function", "ins", "line", "outs", "reads", "several", "static")

    def __init__(
        self,
        function: Any,
        ins: Any,
        static: Static,
        outs: Any,
        line: str = "",
        several: bool = False,
    ) -> None:
        self.function, self.ins, self.static = function, tuple(ins), static
        self.reads = [v for v in self.ins if isinstance(v, Var)]  # the others are numbers
        self.outs, self.line, self.several = tuple(outs), line, several

    @property
    def rule(self) -> Rule:
        """The function's rule."""
        return RULES[self.function]

    @property
    def fixed(self) -> bool:
        """Whether it gives the same at every step."""
        return bool(self.outs[0].fixed)

    def __repr__(self) -> str:
        outs, ins = (", ".join(map(repr, values)) for values in (self.outs, self.ins))
        static = f" {self.static}" if self.static else ""
        return f"{outs} = {self.function.__name__}({ins}){static}"


def sum_over_time(*parts: Any) -> Any:
    """Stands in a list of calls for the sum of these values over all time steps."""
    raise NotImplementedError


class Recorder:
    """Writes down what `apply` does between Tensors, as Ops between Vars."""

    def __init__(self, titles: dict[int, str]) -> None:
        self.titles = titles  # of Parameters, by id
        self.ops: list[Op] = []
        self.known: dict[int, Var] = {}
        self.tensor: dict[Var, Any] = {}  # and back
        self.alive: list[Any] = []  # an id is good only as long as its object lives
        self.note: tuple[str, str] | None = None  # name and line, where they are not in a frame
        self.users = False  # while the user's step runs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.ops)} calls)"

    def var(self, operand: Any) -> Any:
        """The Var of an operand; a Python number stays itself."""
        if type(operand) in (int, float, bool):
            return operand
        known = self.known.get(id(operand))
        if known is None:  # it was there before: a Parameter, or a constant array
            tensor = isinstance(operand, Tensor)
            value = operand if tensor else np.asarray(operand)
            name = self.titles.get(id(operand), "w" if tensor else "constant")
            known = self.name(operand, Var(name, value.shape, value.dtype, True, value))
        return known

    def name(self, operand: Any, var: Var) -> Var:
        """Let an object stand for a Var from now on."""
        self.known[id(operand)] = var
        self.tensor[var] = operand
        self.alive.append(operand)
        return var

    def stand_in(self, name: str, array: Any, fixed: bool = False) -> Any:
        """A Tensor that stands for a value that comes in from outside."""
        tensor = Tensor(array)
        self.name(tensor, Var(name, tensor.shape, tensor.dtype, fixed))
        return tensor

    def watch(self, function: Any, operands: Any, static: Static, outs: tuple[Any, ...]) -> None:
        """What `apply` calls after every call of its own."""
        ins = [self.var(operand) for operand in operands]
        found = [v for v in ins if isinstance(v, Var)]
        several = len(outs) != 1 or function in (np.split, unstack)
        masks = ins[1:] if function is getitem else []
        if any(v.dtype == bool and not isinstance(v.value, np.ndarray) for v in masks):
            raise value_read("indexing with a mask, whose result's shape depends on them,")
        if not several and RULES[function].own:  # a tuple of one, perhaps
            arrays = [getattr(a, "_data", a) for a in operands]
            several = isinstance(RULES[function].run(*arrays, **static), tuple)
        if self.note:
            names, hint, line = None, self.note[0], self.note[1]
        else:
            names, hint, line = assigned_names(len(outs))
            if names is None and function is np.matmul and len(found) == 2:
                hint = "_".join(v.name.strip("_") for v in found)
        if self.note and all(v.fixed and not v.ended for v in found):  # no gradient: a weight's
            hint = f"{found[0].name}_T" if function is np.swapaxes else hint
        made = []
        for k, out in enumerate(outs):
            fixed = all(v.fixed for v in found)
            var = Var(names[k] if names else hint, out.shape, out.dtype, fixed)
            var.named, var.ended = bool(names), any(v.ended for v in found)
            made.append(self.name(out, var))
        self.ops.append(Op(function, ins, static, made, line, several))
        if self.users and not record.tracking:  # the user's own no_grad
            for out, var in zip(outs, made, strict=True):
                free = Var(var.name, var.shape, var.dtype, var.fixed)
                self.ops.append(Op(detach, [var], {}, [self.name(out, free)], line))

    def summed(self, v: Var, steps: list[Any]) -> Any:
        """The sum over time of these gradients of a fixed value."""
        tensor = Tensor(np.zeros(v.shape, v.dtype))
        var = self.name(tensor, Var(f"d_{v.name}", v.shape, v.dtype, fixed=True))
        var.ended = True
        self.ops.append(Op(sum_over_time, map(self.var, steps), {}, [var]))
        return tensor

    @contextmanager
    def recording(self, name: str = "", line: str = "") -> Iterator[None]:
        """Inside, calls are written down; with a name they bear it, otherwise the user's own."""
        before = self.note, self.users
        self.note = (name, line) if name or line else None
        self.users = self.note is None
        try:
            with (
                recording(watch=self.watch, tracing=True, tracking=self.users),
                np.errstate(all="ignore"),
            ):
                yield
        finally:
            self.note, self.users = before


# ----- names and lines, from the source of the step ----------------------------------------------


def users_frame() -> Any:
    """The frame of the line of code that led to this call, outside of the engine."""
    frame = sys._getframe(1)
    while frame.f_back and (
        frame.f_code.co_filename in INSIDE or frame.f_code.co_filename == __file__
    ):
        frame = frame.f_back
    return frame


@functools.lru_cache(256)
def _assignments(file: str) -> list[ast.Assign]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]


def assigned_names(count: int) -> tuple[list[str] | None, str, str]:
    """What the user calls the result of this very call, if an assignment says so; a hint; the line.

    In `i, f = np.split(z, 2)` the call's position in the source is that of the assigned value.
    """
    frame = users_frame()
    file = frame.f_code.co_filename
    line = linecache.getline(file, frame.f_lineno).strip()
    at = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    hint = "out_" if line.startswith("return") else ""
    for node in _assignments(file):
        if not node.lineno <= (at[0] or 0) <= (node.end_lineno or 0):
            continue
        target, value = node.targets[0], node.value
        pairs: list[tuple[ast.expr, ast.expr]] = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for name, part in pairs:
            names = [n.id for n in getattr(name, "elts", [name]) if isinstance(n, ast.Name)]
            if (part.lineno, part.end_lineno, part.col_offset, part.end_col_offset) == at:
                if len(names) == count:
                    return names, "", line
            elif part.lineno <= (at[0] or 0) <= (part.end_lineno or 0) and names:
                hint = f"{names[0]}_"
    return None, hint, line


def users_line(error: BaseException) -> str:
    """`cell.py:12: return h if h.sum() > 0 else x`: where in the user's code an error arose."""
    found, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE) or Path(file).name in ("cells.py", "zoo.py"):
            line = linecache.getline(file, trace.tb_lineno).strip().rstrip(":")
            found = f"{Path(file).name}:{trace.tb_lineno}: {line}"
        trace = trace.tb_next
    return found


@contextmanager
def explained(cell: str) -> Iterator[None]:
    """A value that was read while tracing: the error names the line that read it."""
    try:
        yield
    except TraceError as error:
        raise TraceError(f"{cell}.step, {users_line(error)}: {error}") from error


# ----- a list of calls, run again and pulled back ------------------------------------------------


def replay(ops: Iterable[Op], env: dict[Var, Any], recorder: Recorder | None = None) -> None:
    """Run calls once more through `apply`, on what `env` holds; it gets all their results."""
    for op in ops:
        if recorder is not None:
            recorder.note = (op.outs[0].name, op.line)
        outs = apply(op.function, *[value_in(env, v) for v in op.ins], **op.static)
        outs = outs if isinstance(outs, tuple) else (outs,)
        for var, out in zip(op.outs, outs, strict=True):
            env[var] = out
            if recorder is not None:
                recorder.var(out).name, recorder.var(out).named = var.name, var.named


def value_in(env: dict[Var, Any], v: Any) -> Any:
    """An operand: from env, or itself."""
    return env.get(v, v.value) if isinstance(v, Var) else v


def needing(ops: Iterable[Op], wanted: set[Var]) -> set[Var]:
    """All values through which a gradient flows to the wanted ones."""
    need = set(wanted)
    for op in ops:
        rule = op.rule
        for i, v in enumerate(op.ins):
            if v in need and (rule.shared or (i < len(rule.vjps) and rule.vjps[i] is not None)):
                need.update(out for out in op.outs if out.dtype.kind == "f")
    return need


def pull_back(
    recorder: Recorder, ops: list[Op], env: dict[Var, Any], seeds: dict[Var, Any], need: set[Var]
) -> dict[Var, Any]:
    """Differentiate a list of calls: its rules run on Tensors, and the recorder writes them down.

    Gradients of what a step computes are of that step. What is fixed gets one from every step: they
    are summed over time where the walk leaves the steps behind, and the rest happens once.
    """
    parts: dict[Var, list[Any]] = {v: [g] for v, g in seeds.items()}

    def total(v: Var) -> Any:
        found = parts.pop(v, [])
        with recorder.recording("d_" + v.name):
            steps = [g for g in found if v.fixed and not recorder.var(g).ended]
            if steps:
                found = [g for g in found if recorder.var(g).ended]
                found.insert(0, recorder.summed(v, steps))
            return functools.reduce(np.add, found) if found else None

    with recorder.recording("-"):
        for op in sorted(ops, key=lambda op: not op.fixed)[::-1]:  # steps first, then what is fixed
            live = [v in need and v in parts for v in op.outs]
            if not any(live):
                continue
            gs = [total(v) if on else None for v, on in zip(op.outs, live, strict=True)]
            with recorder.recording("d_", op.line):
                for v, part in _vjps(op, gs, env, need, recorder):
                    parts.setdefault(v, []).append(part)
        return {v: total(v) for v in list(parts)}


def _vjps(
    op: Any, gs: list[Any], env: dict[Var, Any], need: set[Var], recorder: Recorder
) -> Iterator[tuple[Var, Any]]:
    """The gradient of each operand that needs one, in the operand's shape and dtype."""
    rule = op.rule
    arrays, outs = [value_in(env, v) for v in op.ins], [env[v] for v in op.outs]
    gs = [np.zeros(v.shape, v.dtype) if g is None else g for g, v in zip(gs, op.outs, strict=True)]
    g, together = (tuple(gs) if op.several else gs[0]), None
    for i, v in enumerate(op.ins):
        kept = rule.kept(i, arrays, outs, op.several) if v in need else None
        if kept is None:
            continue
        recorder.note = (f"d_{v.name}", op.line)
        if together is None or not rule.joint:
            together = run_vjp(op, i, g, kept)  # an Op has what it needs of a Node
        if rule.joint and (not isinstance(together, tuple) or len(together) < len(op.ins)):
            raise wrong_joint(op, together)
        part = together[i] if rule.joint else together
        yield v, _fitted(part, op, i, v.shape, v.dtype)
