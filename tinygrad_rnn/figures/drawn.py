"""Pictures on the shell: `python -m tinygrad_rnn draw 'cell.py:MyCell(3, 4)'`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..canvas.pen import Figure
from ..cells import Cell
from ..nests import leaves, refilled
from ..recurrent import RNN
from ..shell import INPUTS, UsageError, constructed, count, reported, run, seed, widths
from ..tensor import Tensor
from .drawing import draw
from .tasks import TASKS

EXAMPLE = "python -m tinygrad_rnn draw 'cell.py:MyCell(3, 4)'"


def main(argv: list[str]) -> int:
    """Draw a cell, folded or unrolled, or the task types. 0: drawn; 2: not.

    main(["cell.py:MyCell(3, 4)", "--out", "cell.svg"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn draw",
        description="Draw a cell beside a feed-forward layer, or a layer unrolled in time.",
        epilog=f"Example: {EXAMPLE} --steps 8 --out mine.html",
    )
    parser.add_argument(
        "what",
        help="'path/to/file.py:MyCell(3, 4)' or 'package.module:MyCell(3, 4)', quoted: a cell or a "
        "layer; or a task type: tasks, " + ", ".join(TASKS),
    )
    parser.add_argument("--steps", type=count, metavar="T", help="unrolled in so many time steps; "
                        "layers of several loops always are (default 6)")  # fmt: skip
    parser.add_argument("--inputs", type=widths, help=INPUTS)
    parser.add_argument("--text", help="labels of the steps, one character each; sets --steps")
    parser.add_argument("--seed", type=seed, default=0, help="of the inputs (default 0)")
    parser.add_argument("--lang", choices=("en", "ja"), default="en", help="of the labels")
    parser.add_argument("--out", help="x.svg or x.html; default: SVG to the standard output")
    options = parser.parse_args(argv)
    if options.what == "tasks" or options.what in TASKS:
        return reported("draw", EXAMPLE, lambda: _task(options))
    if ":" not in options.what and not options.what.endswith(".py"):
        known = ", ".join(TASKS)
        print(f"draw: {options.what!r} is no call and no task type: tasks, {known}. Expected, for "
              f"example: {EXAMPLE}", file=sys.stderr)  # fmt: skip
        return 2
    return run("draw", options.what, EXAMPLE, lambda call, module: _drawn(call, module, options))


def _task(options: Any) -> int:
    return _given_out(draw(options.what, lang=options.lang), options.out)


def _drawn(call: str, module: ModuleType, options: Any) -> int:
    thing = constructed(call, module)
    if not isinstance(thing, Cell) and not hasattr(thing, "initial_state"):
        raise UsageError(f"{call} is of type {type(thing).__name__}, no cell and no layer")
    layer = RNN(thing) if isinstance(thing, Cell) else thing
    width = options.inputs or _width(layer)
    if width is None:
        raise UsageError(f"{call} does not say the width of x: add --inputs")
    steps = len(options.text) if options.text else options.steps
    if steps is None and isinstance(layer, RNN):
        return _given_out(draw(layer, inputs=width, lang=options.lang), options.out)
    rng, shape = np.random.default_rng(options.seed), (steps or 6, 1)
    first, *others = leaves(width)  # of a tuple the others in (0, 1): time gaps, draws
    arrays = [rng.standard_normal((*shape, first)), *(rng.random((*shape, w)) for w in others)]
    out = layer(refilled(width, [Tensor(a, requires_grad=True) for a in arrays]))
    loss = sum((last * last).sum() for last in leaves(out.last))
    return _given_out(draw(out, loss, inputs=options.text, lang=options.lang), options.out)


def _width(layer: Any) -> int | None:
    """The width of x, from the first cell in a layer."""
    for part in (getattr(layer, "layers", [None])[0], getattr(layer, "forward_rnn", None)):
        if part is not None:
            return _width(part)
    return getattr(getattr(layer, "cell", None), "inputs", None)


def _given_out(figure: Figure, out: str | None) -> int:
    if out is None:
        sys.stdout.flush()
        raw = getattr(sys.stdout, "buffer", None)  # UTF-8, whatever the terminal's encoding
        raw.write(figure.svg.encode()) if raw else sys.stdout.write(figure.svg)
        return 0
    try:
        figure.save(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    print(f"{Path(out)}: {figure.title}")
    return 0
