"""A check written down as a script that somebody else can run."""

from __future__ import annotations

import inspect
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..module import Module
from ..primitives import astype, getitem, joined_index, unstack
from ..tensor import Tensor
from ..vjp import rule_of

DEFAULTS = {"cotangent": None, "order": 1, "oracle": "auto", "directions": "auto", "rtol": 1e-9}
DEFAULTS |= {"seed": 0}


def of_check(
    check: str, functions: list[Any], args: tuple[Any, ...], options: Any, located: Any = None
) -> str:
    """The script that repeats a check; of the first wrong node alone where f cannot be named.

    of_check("check_grads", [np.tanh], (np.ones(2),), {})
    """
    lines: list[str] = []
    names = [_named(f, lines) for f in functions]
    if None in names and located is not None and (call := _of_node(located, lines)) is not None:
        what = "the first wrong node, alone"
        return _script([*lines, f"# {what}: {located.node}"], f"testing.check_grads({call})")
    for k, f in enumerate(functions):
        if names[k] is None:
            names[k] = ["f", "vjp"][k]
            lines.append(f"{names[k]} = ...  # {_whereabouts(f)}")
    given = [written(a) for a in args]
    given += [f"{k}={written(v)}" for k, v in options.items() if not _is_default(k, v)]
    return _script(lines, f"testing.{check}({', '.join([*map(str, names), *given])})")


def _script(lines: list[str], call: str) -> str:
    header = ["import numpy as np"]
    if re.search(r"\b(nan|inf)\b", call):
        header.append("from numpy import inf, nan")
    if "tg." in call:
        header.append("import tinygrad_rnn as tg")
    return "\n".join([*header, "from tinygrad_rnn import testing", *lines, call])


def _is_default(name: str, value: Any) -> bool:
    return value is None or (np.ndim(value) == 0 and value == DEFAULTS.get(name))


def _named(f: Any, lines: list[str]) -> str | None:
    """How to say f in a new interpreter; lines get the import that it needs."""
    name = getattr(f, "__name__", "")
    for owner, prefix in ((np, "np"), (np.linalg, "np.linalg")):
        if getattr(owner, name, None) is f:
            return f"{prefix}.{name}"
    module = sys.modules.get(getattr(f, "__module__", None) or "")
    if module is None or getattr(f, "__qualname__", "") != name:
        return None
    if getattr(module, name, None) is not f:
        return None
    file = getattr(module, "__file__", None)
    if module.__name__.startswith("tinygrad_rnn"):
        lines.append(f"from {module.__name__} import {name}")
    elif file is None:
        return None
    elif (Path(file).parent / "__init__.py").exists():
        lines.append(f"from {module.__name__} import {name}")
    else:
        lines += ["import runpy", f"{name} = runpy.run_path({str(file)!r})[{name!r}]"]
    return name


def _whereabouts(f: Any) -> str:
    """Where a function that cannot be imported is written."""
    while isinstance(f, partial):
        f = f.func
    f = getattr(f, "on_arrays", f)  # of a primitive
    try:
        source = inspect.getsource(f).strip().splitlines()[0]
        file, line = inspect.getsourcefile(f), inspect.getsourcelines(f)[1]
        return f"{Path(str(file)).name}:{line}: {source}"
    except (TypeError, OSError):
        return f"your function {f!r}"


def _of_node(located: Any, lines: list[str]) -> str | None:
    """The arguments of check_grads for one recorded call; None where it has no name."""
    function, arrays, static = located.function, located.operands, located.static
    if function is getitem:
        index = written(joined_index(static["index"], arrays[1:]))
        return f"lambda x: x[{index}], {written(arrays[0])}"
    if function is unstack:
        return f"lambda x: tuple(x), {written(arrays[0])}"
    if function is astype:
        return f"lambda x: x.astype({static['dtype'].name!r}), {written(arrays[0])}"
    name = _named(function, lines)
    if name is None:
        return None
    keywords = "".join(f", {k}={written(v)}" for k, v in static.items())
    if rule_of(function).each:
        name = f"lambda *xs: {name}(xs{keywords})"
    elif keywords:
        name = f"lambda *xs: {name}(*xs{keywords})"
    return ", ".join([name, *map(written, arrays)])


def written(value: Any) -> str:
    """A value as Python source that gives it back.

    written((np.ones(2), 3))      # '(np.array([1., 1.]), 3)'
    """
    if isinstance(value, Tensor):
        return f"tg.Tensor({written(value.data)})"
    if isinstance(value, (np.ndarray, np.generic)):
        usual = value.dtype in (np.float64, np.int64, bool)
        dtype = "" if usual else f", dtype={value.dtype.name!r}"
        if not value.size:
            return f"np.zeros({value.shape}, dtype={value.dtype.name!r})"
        if not np.ndim(value):
            return f"np.array({value.item()!r}{dtype})"
        if value.size > 1000:  # array2string takes hours for a million
            return f"np.array({value.tolist()!r}{dtype})"
        text = np.array2string(
            np.asarray(value), separator=", ", threshold=sys.maxsize, floatmode="unique",
            max_line_width=sys.maxsize,
        )  # fmt: skip
        return f"np.array({' '.join(text.split())}{dtype})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, slice):
        return f"slice({value.start!r}, {value.stop!r}, {value.step!r})"
    if value is Ellipsis:
        return "..."
    if isinstance(value, Module) or callable(value):
        return f"...  # {value!r}\n"
    return repr(value)
