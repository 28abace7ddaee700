"""Show: a plan for readers, as a NumPy module that runs by itself, and as a table."""

from __future__ import annotations

import inspect
import re
import textwrap
from types import FunctionType
from typing import Any

from .emit import readable
from .places import Place, Store
from .plan import Half, Plan

WHY = {
    "once": "the same at every step",
    "before": "does not depend on the state: for all steps at once",
    "loop": "leads from state to state, or cannot be done for many steps at once",
    "after": "no later state depends on it: for all steps at once",
    "sum": "part of a sum over all steps",
    "end": "of the sums over all steps",
}


def source(plan: Plan, title: str) -> str:
    """The traced loop and its BPTT as a module that needs NumPy alone."""
    first, second, step = plan.first, plan.second, plan.step
    states = [f"{s.name}_0" for s in first.program.states]
    given = [*plan.inputs, *states, *plan.fixed_in]
    outs = [_whole(place) for place in first.program.shown]
    last = [_row(s, not s.up) for s in first.program.states]
    kept: list[str] = []
    functions = dict(first.writer.globals)
    back = ""
    if second is not None and plan.pulled is not None:
        functions |= second.writer.globals
        arriving = [f"{s.name}_T" for s in second.program.states]
        ours = {s.name for s in first.program.stores} | set(plan.back_inputs)
        body = [f"{n} = np.array({a.tolist()!r}, np.{a.dtype})" for n, a in plan.constants.items()]
        body += _body(second, arriving, ours)
        names = dict(zip(step.x, plan.inputs, strict=False)) | dict(
            zip(step.old, states, strict=True)
        )
        names |= dict(zip(step.operands, plan.fixed_in, strict=True))
        gone = dict(zip(plan.dx, map(_whole, second.program.shown), strict=True))
        gone |= {
            v: _row(s, not s.up) for v, s in zip(plan.dstate, second.program.states, strict=True)
        }
        gone |= plan.dfixed
        code = "\n".join(line.split("#")[0] for line in [*body, *gone.values()])
        known = [*(s.name for s in first.program.stores), *first.writer.fixed.values()]
        known += [line.split(" = ")[0] for line in first.writer.weights]
        made = {line.split(" = ")[0].strip() for line in body}
        kept = [
            name
            for name in dict.fromkeys(known)
            if name not in made and re.search(rf"\b{name}\b", code)
        ]
        answer = ", ".join(f"{names[v]!r}: {text}" for v, text in gone.items())
        back = _function(
            "backward",
            ["d_outputs", "d_state", "kept"],
            f"The gradients of {', '.join(names[v] for v in gone)}: the steps again, backwards.",
            [
                f"{_tuple(plan.back_inputs)} = d_outputs",
                f"{_tuple(arriving)} = d_state",
                *[f"{_tuple(kept)} = kept"] * bool(kept),
                f"T = len({plan.back_inputs[0]})",
                *body,
                f"return {{{answer}}}",
            ],
        )
    shapes = [
        f"{name} (T, {', '.join(map(str, v.shape))})"
        for name, v in zip(plan.inputs, step.x, strict=False)
    ]
    ahead = _function(
        "forward",
        given,
        f"{', '.join(shapes)} to outputs, the last state, and what backward needs.",
        [
            f"T = len({plan.inputs[0]})",
            *_body(first, states, set(plan.inputs)),
            f"return {_tuple(outs)}, {_tuple(last)}, {_tuple(kept)}",
        ],
    )
    head = [
        f'"""{title}: one step, traced and looped, and its backpropagation through time.',
        "",
        f"    outputs, state, kept = forward({', '.join(given)})",
        *["    gradients = backward(d_outputs, d_state, kept)"] * bool(back),
        "",
        "outputs, state and kept are tuples, gradients is a dict.",
        'What runs does the same on blocks of steps."""',
    ]
    parts = ["\n".join(head), "import numpy as np", *_helpers(functions), ahead, back]
    return "\n\n".join(filter(None, parts)) + "\n"


def _body(half: Half, start: list[str], known: set[str]) -> list[str]:
    """The lines of a half, all steps in one block. start: what each state begins as."""
    writer, p = half.writer, half.program
    rooms = []
    for store in {s.name: s for s in [*p.states, *half.stores]}.values():
        sizes = ", ".join(map(str, store.sizes("T" + " + 1" * store.carried)))
        comma = "," * (len(store.sizes("T")) == 1)
        if store.name not in known:
            make = "zeros" if store.kind == "sum" else "empty"
            rooms.append(f"{store.name} = np.{make}(({sizes}{comma}), np.{store.dtype})")
    rooms += [f"{_row(s, s.up)} = {value}" for s, value in zip(p.states, start, strict=True)]
    over = "range(T)" if p.up else "reversed(range(T))"
    loop = [f"    {line}" for line in writer.lines["loop"]]
    parts = {
        "The same at every step.": [*writer.once, *writer.weights],
        "Room for the results, and views of it.": [*rooms, *writer.head],
        "Before the loop: what does not depend on the state, for all steps.": writer.lines[
            "before"
        ],
        "The loop: what leads from state to state.": [f"for t in {over}:", *loop] if loop else [],
        "After the loop: what no later state depends on, for all steps.": writer.lines["after"],
        "Of the sums over all steps.": writer.end,
    }
    return [
        readable(line) for title, some in parts.items() if some for line in (f"# {title}", *some)
    ]


def _row(store: Store, early: bool) -> str:
    """A state's first row in time, or its last."""
    return f"{store.name}[{0 if early else 'T'}{', ...' * (not store.shape)}]"


def _whole(place: Place) -> str:
    """A value for all steps, as text."""
    store = place.store
    assert store is not None
    if not store.carried:
        return store.name
    return f"{store.name}[{'1:' if place.new == store.up else ':-1'}]"


def _tuple(names: list[str]) -> str:
    return f"({', '.join(names)}{',' * (len(names) == 1)})"


def _function(name: str, given: list[str], doc: str, lines: list[str]) -> str:
    body = textwrap.indent("\n".join([f'"""{doc}"""', *lines]), "    ")
    return f"\ndef {name}({', '.join(given)}):\n{body}"


def _helpers(functions: dict[str, Any]) -> list[str]:
    """The source of functions that are no NumPy, and of those that they call."""
    texts: dict[str, str] = {}

    def add(name: str, f: Any) -> None:
        if name in texts or not isinstance(f, FunctionType):
            return
        texts[name] = ""
        for inner in f.__code__.co_names:
            value = f.__globals__.get(inner)
            add(inner, getattr(value, "on_arrays", value))
        text = textwrap.dedent(inspect.getsource(f))
        body = text[text.index("\n", re.search(r"\)[^()]*:\n", text).end() - 1) + 1 :]  # type: ignore[union-attr]
        given = [p.replace(annotation=p.empty) for p in inspect.signature(f).parameters.values()]
        texts[name] = f"\ndef {name}({', '.join(map(str, given))}):\n{body}".rstrip()

    for name, f in functions.items():
        add(name, f)
    constants = [f"{n} = {v!r}" for n, v in functions.items() if not isinstance(v, FunctionType)]
    return [*constants, *texts.values()]


def table(plan: Plan) -> str:
    """Each call, where it runs and why."""
    rows = [("", "where", "call", "gives", "of the line")]
    for name, half in (("forward", plan.first), ("backward", plan.second)):
        if half is None:
            continue
        sums = {id(op) for op in half.program.absorbed.values()}
        kinds = half.program.kind
        for kind in WHY:
            for op in half.program.ops:
                if kind == ("sum" if id(op) in sums else kinds[op]):
                    gives = " ".join(f"{v.name} {v.shape}" for v in op.outs)
                    rows.append((name, kind, op.function.__name__, gives, op.line))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    text = [
        "  ".join(c.ljust(w) for c, w in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]
    why = [f"{kind:6}  {reason}" for kind, reason in WHY.items()]
    return "\n".join([*text, "", *why, f"What runs does {plan.steps} steps at a time."])
