"""Show: a plan for readers, as a NumPy module that runs by itself, and as a table."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from .emit import readable
from .places import Place, Store
from .plan import Half, Plan
from .trace import sum_over_time

WHY = {
    "once": "the same at every step",
    "before": "does not depend on the state: for all steps at once",
    "loop": "leads from state to state, or cannot be done for many steps at once",
    "after": "no later state depends on it: for all steps at once",
    "sum": "part of a sum over all steps",
    "end": "of the sums over all steps",
}


class Text(str):
    r"""A text of several lines, which a prompt and a notebook show as such; pickled, it is a str.

    len(Text("a\nb").splitlines())      # 2, and repr shows two lines
    """

    __repr__ = str.__str__

    def __reduce__(self) -> Any:
        return str, (str(self),)


def source(plan: Plan, title: str) -> str:
    """The traced loop and its BPTT as a module that needs NumPy alone."""
    first, second, step = plan.first, plan.second, plan.step
    states, constants = first.starts, _constants(plan)
    given = [*plan.inputs, *states, *[name for name in plan.fixed_in if name not in constants]]
    outs = [_whole(place) for place in first.program.shown]
    last = [_row(s, not s.up) for s in first.program.states]
    kept: list[str] = []
    functions = dict(first.writer.globals)
    back = ""
    if second is not None and plan.pulled is not None:
        functions |= second.writer.globals
        arriving = second.starts
        ours = {s.name for s in first.program.stores} | set(plan.back_inputs)
        body = [f"{name} = {_array(a)}" for name, a in plan.constants.items()]
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
    fixed = [f"{name} = {text}" for name, text in constants.items()]
    parts = [
        "\n".join(head),
        "import numpy as np",
        "\n".join(fixed),
        *_helpers(functions),
        ahead,
        back,
    ]
    return Text("\n\n".join(filter(None, parts)) + "\n")


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


def _array(a: np.ndarray) -> str:
    """An array as text."""
    if not a.any():
        return f"np.zeros({a.shape}, np.{a.dtype})"
    text = re.sub(r"\b(nan|inf)\b", r"np.\1", repr(a.tolist()))
    return f"np.array({text}, np.{a.dtype})"


def _constants(plan: Plan) -> dict[str, str]:
    """Constant arrays of the cell, by name; large ones are given to forward instead."""
    pairs = zip(plan.fixed_in, plan.step.operands, strict=True)
    return {
        name: _array(v.value)
        for name, v in pairs
        if isinstance(v.value, np.ndarray) and v.value.size <= 100
    }


def _helpers(functions: dict[str, Any]) -> list[str]:
    """The source of functions that are no NumPy, and of what they use."""
    texts: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if name in texts or value is np:
            return
        texts[name], known = "", getattr(value, "__name__", "")
        if isinstance(value, ModuleType):
            texts[name] = f"import {known}" + f" as {name}" * (name != known)
        elif isinstance(value, FunctionType):
            texts[name], uses = _definition(name, value)
            for word, used in uses.items():
                add(word, getattr(used, "on_arrays", used))
            texts[name] = texts.pop(name)  # after what it uses
        elif isinstance(value, np.ndarray) and value.size <= 100:
            texts[name] = f"{name} = {_array(value)}"
        elif known and getattr(np, known, None) is value:
            texts[name] = f"{name} = np.{known}"
        elif value is None or type(value) in (int, float, str, bool, tuple):
            texts[name] = f"{name} = {value!r}"
        else:
            texts[name] = f"{name} = None  # its value, a {type(value).__name__}, goes here"

    for name, value in functions.items():
        add(name, value)
    return [text for text in texts.values() if text]


def _definition(name: str, f: FunctionType) -> tuple[str, dict[str, Any]]:
    """A function's source under this name, without annotations; and what it uses, by name."""
    lost = (
        f'\ndef {name}(*args, **keywords):\n    raise NotImplementedError("its source goes here")'
    )
    try:
        statement = ast.parse(textwrap.dedent(inspect.getsource(f))).body[0]
    except (OSError, SyntaxError):
        return lost, {}
    made = [n for n in ast.walk(statement) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    made = [n for n in made if isinstance(n, ast.Lambda) == (f.__name__ == "<lambda>")]
    if len(made) != 1:
        return lost, {}
    if isinstance(made[0], ast.FunctionDef):
        made[0].decorator_list, made[0].returns = [], None
    for argument in ast.walk(made[0].args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    body = made[0].body if isinstance(made[0].body, list) else [ast.Return(made[0].body)]
    cells = dict(zip(f.__code__.co_freevars, f.__closure__ or (), strict=True))
    inner = {word: cell.cell_contents for word, cell in cells.items()}
    names = {word: f"{name}_{word}" for word in inner}  # another closure may use the same word
    lines = [f"{word} = {names[word]}" for word in inner] + [ast.unparse(line) for line in body]
    text = f"\ndef {name}({ast.unparse(made[0].args)}):\n" + textwrap.indent(
        "\n".join(lines), "    "
    )
    words = {n.id for n in ast.walk(made[0]) if isinstance(n, ast.Name)}
    uses = {word: f.__globals__[word] for word in sorted(words & set(f.__globals__) - set(inner))}
    return text, uses | {names[word]: value for word, value in inner.items()}


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
                if op.function is sum_over_time and all(v in half.program.absorbed for v in op.ins):
                    continue
                if kind == ("sum" if id(op) in sums else kinds[op]):
                    gives = " ".join(f"{v.name} {v.shape}" for v in op.outs)
                    rows.append((name, kind, op.function.__name__, gives, op.line))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    text = [
        "  ".join(c.ljust(w) for c, w in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]
    why = [f"{kind:6}  {reason}" for kind, reason in WHY.items()]
    return Text("\n".join([*text, "", *why, f"What runs does {plan.steps} steps at a time."]))
