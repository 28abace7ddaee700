"""Makes examples/README.md: what every example prints, with three seeds, in a table.

    python examples/table.py                        # all of them, about half an hour
    python examples/table.py sunspots speech        # only these; the other rows stay as they are

The task, the data and what is to be expected are read in each example's header.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
README, SEEDS = HERE / "README.md", (0, 1, 2)
NAMES = [
    "characters", "sentiment", "speech", "tagging", "sunspots", "translation", "long_memory"
]  # fmt: skip
HEAD = """# Examples

Each is a script to read from top to bottom, in `# %%` cells that editors run one by one.

Real work, one for each task type. These take `--seed`, `--quick` (a few steps, for tests), `--out`
(the folder for the picture). The figures are those of seeds 0, 1 and 2, one thread, on two shared
cores; `python examples/table.py` makes this table. What to expect comes with its source: PyTorch's
figures are those of the same network, data and number of steps (`benchmarks/torch_*.py`).

| example | task | data | reached here, over 3 seeds | expect | time |
|---|---|---|---|---|---|
"""
TAIL = """
The others:

| example | what it shows |
|---|---|
| `custom_cell.py`, `test_my_cell.py` | a cell of your own, checked, trained; its tests |
| `own_rules.py`, `test_my_op.py` | derivatives of your own functions; their tests |
| `check_handwritten_bptt.py` | a backward pass written by hand, checked |
| `to_pytorch_and_back.py` | train here, go on in PyTorch, come back |
| `data_parallel.py` | one model trained on several workers, with the result of one process |
| `check_campaign.py` | a cell's checks over many seeds, on several workers |
"""


def header(name):
    """Task, Data, Expect of an example's docstring, each on one line."""
    doc = (HERE / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
    found = re.findall(r"^(Task|Data|Expect):(.*(?:\n    .*)*)", doc, re.MULTILINE)
    return {key: " ".join(text.split()) for key, text in found}


def run(name, seed):
    """The figures that an example prints, and its time."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(HERE / f"{name}.py"), "--seed", str(seed), "--out", out]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = re.findall(r"^figure: (.+) (\S+)$", done.stdout, re.MULTILINE)
    seconds = re.search(r"^time: (\d+) s$", done.stdout, re.MULTILINE)[1]
    return {key: float(value) for key, value in figures}, int(seconds)


def row(name):
    """A line of the table."""
    runs = [run(name, seed) for seed in SEEDS]
    print(name, json.dumps(runs), file=sys.stderr, flush=True)
    figures = "; ".join(
        f"{key} " + " / ".join(f"{figures[key]:.3g}" for figures, _ in runs) for key in runs[0][0]
    )
    told = header(name)
    time = f"{statistics.median(seconds for _, seconds in runs):.0f} s"
    cells = [f"`{name}.py`", told["Task"], told["Data"], figures, told["Expect"], time]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main(wanted):
    """Run what is wanted, keep the other rows, write the file."""
    if unknown := [name for name in wanted if name not in NAMES]:
        raise SystemExit(f"there is no example {unknown[0]!r} in the table: {', '.join(NAMES)}")
    old = README.read_text(encoding="utf-8") if README.exists() else ""
    rows = {
        name: line
        for line in old.splitlines()
        for name in NAMES
        if line[2:].startswith(f"`{name}.py")
    }
    rows |= {name: row(name) for name in wanted or NAMES}
    README.write_text(
        HEAD + "\n".join(rows[name] for name in NAMES if name in rows) + "\n" + TAIL,
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
