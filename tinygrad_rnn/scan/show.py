"""Show: a plan for readers, as a NumPy module that runs by itself, and as a table."""

from __future__ import annotations

import inspect
import re
import textwrap
from types import FunctionType
from typing import Any

import numpy as np

from .emit import Names, Place, Writer
from .plan import Half, Plan

WHY = {
    "once": "the same at every step",
    "before": "does not depend on the state: all steps at once",
    "loop": "leads from state to state, or cannot be done for many steps at once",
    "after": "no later state depends on it: all steps at once",
    "end": "of sums over all steps",
}


def source(plan: Plan, title: str) -> str:
    """The traced loop and its BPTT as a module that needs NumPy alone."""
    first, second = plan.first, plan.second
    names = Names()
    ahead = _writer(first, names)
    step, states = plan.step, [f"{s.name}_0" for s in first.carried]
    given = [*plan.inputs, *states, *plan.fixed_in]
    begins = dict(zip([s.name for s in first.carried], states, strict=True))
    lines = ahead.body(begins, set(plan.inputs))
    outs = [_text(place) for place in first.outputs]
    last = [f"{s.name}[{'T' if first.up else 0}]" for s in first.carried]
    kept: list[str] = []
    back = ""
    helpers = dict(ahead.helpers)
    shapes = ", ".join(f"{name} (T, {', '.join(map(str, v.shape))})" for name, v in zip(plan.inputs, step.x, strict=False))
    if second is not None:
        behind = _writer(second, names)
        behind.fixed |= {v: name for v, name in ahead.fixed.items() if v in first.known or v.fixed}
        arriving = [f"{s.name}_T" for s in second.carried]
        ours = {s.name for s in first.program.stores} | set(plan.back_inputs)
        body = behind.body(dict(zip([s.name for s in second.carried], arriving, strict=True)), ours)
        for v, name in second.constants.items():
            body.insert(0, f"{v} = np.array({name.tolist()!r}, np.{name.dtype})")
        for op in second.program.ops:
            if second.program.kind[op] == "after" and op.outs[0].ended:
                behind.fixed[op.outs[0]] = second.places[op.outs[0]].store.name  # type: ignore[union-attr]
        ends = behind.once("end")
        body += ["# Of the sums over all steps.", *ends] if ends else []
        pulled = plan.pulled
        assert pulled is not None
        gone = {name: _text(place) for name, place in zip(plan.dx_names, second.outputs, strict=True)}
        gone |= {
            states[k]: f"{s.name}[{'T' if second.up else 0}]"
            for k, s in zip(pulled.floats, second.carried, strict=True)
        }
        gone |= {
            name: behind.fixed[pulled.gone[v]]
            for name, v in zip(plan.fixed_in, step.operands, strict=True)
            if v in pulled.gone
        }
        answer = ", ".join(f"{name!r}: {text}" for name, text in gone.items())
        code = [line.split("#")[0] for line in [*body, *gone.values()]]
        words = set(re.findall(r"\w+", "\n".join(code)))
        ours = {s.name for s in first.program.stores} | set(ahead.fixed.values())
        ours |= {line.split(" = ")[0] for line in ahead.weights}
        kept = sorted(words & ours)
        helpers |= behind.helpers
        d = _tuple(plan.back_inputs)
        back = _function(
            "backward",
            ["d_outputs", "d_state", "kept"],
            f'"""The gradients of {", ".join(gone)}: the steps again, from the last to the first."""',
            [f"{d} = d_outputs", f"{_tuple(arriving)} = d_state", f"{_tuple(kept)} = kept", f"T = len({plan.back_inputs[0]})",
             *body, f"return {{{answer}}}"],
        )  # fmt: skip
    text = _function(
        "forward",
        given,
        f'"""{shapes}: outputs, the last state, and what backward needs."""',
        [f"T = len({plan.inputs[0]})", *lines, f"return {_tuple(outs)}, {_tuple(last)}, {_tuple(kept)}"],
    )
    used = "\n".join([text, back])
    head = (
        f'"""{title}: one step, traced and looped, and its backpropagation through time.\n\n'
        "    outputs, state, kept = forward(" + ", ".join(given) + ")\n"
        + ("    gradients = backward(d_outputs, d_state, kept)\n" if back else "")
        + '\nAll are tuples; gradients is a dict. What runs is this on blocks of K steps.\n"""\n'
    )
    return "\n\n".join(filter(None, [f"{head}\nimport numpy as np", _helpers(helpers), text, back])) + "\n"


def _writer(half: Half, names: Names) -> Writer:
    names.used |= {s.name for s in half.program.stores} | set(half.known.values())
    places = {v: place for v, place in half.places.items()}
    return Writer(half.program, names, places, dict(half.known), half.up, readable=True)


def _text(place: Place) -> str:
    """A value for all steps, as text."""
    store = place.store
    assert store is not None
    if not store.carried:
        return store.name
    return f"{store.name}[{'1:' if place.row == store.up else ':-1'}]"


def _tuple(names: list[str]) -> str:
    return f"({''.join(f'{name}, ' for name in names)})".replace(", )", ",)")


def _function(name: str, given: list[str], doc: str, lines: list[str]) -> str:
    body = textwrap.indent("\n".join([doc, *lines]), "    ")
    return f"def {name}({', '.join(given)}):\n{body}"


def _helpers(functions: dict[str, Any]) -> str:
    """The source of functions that are no NumPy, and of those that they call."""
    texts: dict[str, str] = {}

    def add(name: str, f: Any) -> None:
        if name in texts:
            return
        texts[name] = ""
        for inner in f.__code__.co_names:
            value = f.__globals__.get(inner)
            if isinstance(value, FunctionType):
                add(inner, getattr(value, "on_arrays", value))
        text = textwrap.dedent(inspect.getsource(f))
        text = text[text.index("def ") :]
        text = re.sub(r"^def \w+", f"def {name}", text)
        texts[name] = re.sub(r": (Array|Any|Sequence\[Array\])\b|: (tuple|np)[\w\[\], .]*(?=[,)])| -> [\w\[\], .]+(?=:)", "", text)

    for name, f in functions.items():
        add(name, f)
    return "\n\n".join(text.strip() for text in texts.values())


def table(plan: Plan) -> str:
    """Each call, where it runs and why."""
    rows = [("", "where", "call", "gives", "of the line")]
    for name, half in (("forward", plan.first), ("backward", plan.second)):
        if half is None:
            continue
        program = half.program
        gone = {id(op): "sum" for op in program.absorbed.values()}
        for kind in WHY:
            for op in program.ops:
                if program.kind[op] == kind:
                    shape = " ".join(f"{v.name} {v.shape}" for v in op.outs)
                    rows.append((name, gone.get(id(op), kind), op.function.__name__, shape, op.line))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    text = ["  ".join([*[c.ljust(w) for c, w in zip(row, widths, strict=False)], row[4]]) for row in rows]
    why = [f"{kind}: {reason}" for kind, reason in WHY.items()]
    return "\n".join([*text, "", f"blocks of {plan.steps} steps", *why, "sum: done by the sum over time itself"])
