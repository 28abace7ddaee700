"""A cell's emitted loop on the shell: `python -m tinygrad_rnn source 'cell.py:MyCell(3, 4)'`."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

import numpy as np

from ..cells import Cell
from ..module import dtype_of
from ..nests import map_tree
from ..recurrent import RNN
from ..shell import INPUTS, UsageError, constructed, count, run, widths
from ..tensor import Tensor

OURS = "python -m tinygrad_rnn source 'cell.py:MyCell(3, 4)'"


def main(argv: list[str]) -> int:
    """Print a cell's forward and BPTT as NumPy. 0: printed; 2: not.

    main(["cell.py:MyCell(3, 4)"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn source",
        description="Print a cell's loop over time and its backpropagation through time, as NumPy.",
    )
    parser.add_argument(
        "cell", help="'path/to/file.py:MyCell(3, 4)' or 'package.module:MyCell(3, 4)', quoted"
    )
    parser.add_argument("--inputs", type=widths, help=INPUTS)
    parser.add_argument("--batch", type=count, default=1, metavar="N", help="rows (default 1)")
    parser.add_argument("--float32", action="store_true", help="instead of float64")
    parser.add_argument("--plan", action="store_true", help="a table of what runs where, and why")
    parser.add_argument("--reverse", action="store_true", help="from the last step to the first")
    options = parser.parse_args(argv)
    return run("source", options.cell, OURS, lambda call, module: _printed(call, module, options))


def _printed(call: str, module: ModuleType, options: Any) -> int:
    cell = constructed(call, module)
    if not isinstance(cell, Cell):
        raise UsageError(f"{call} is of type {type(cell).__name__}, not a Cell")
    width = options.inputs or getattr(cell, "inputs", None)
    if width is None:
        raise UsageError(f"{call} does not say the width of x: add --inputs")
    if options.float32:
        cell.astype(np.float32)
    rnn = RNN(cell, scan=True, reverse=options.reverse)
    shape, dtype = (2, options.batch), dtype_of(cell)
    rnn(map_tree(lambda w: Tensor(np.ones((*shape, w), dtype), requires_grad=True), width))
    print(rnn.plan() if options.plan else rnn.source())
    return 0
