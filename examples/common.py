"""What the examples share: the command line, data from other packages, the last lines.

Import it before NumPy: with matrices this small a second thread costs more than it brings.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import importlib.util
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()
if hasattr(sys.stdout, "reconfigure"):  # a letter that the terminal does not have is printed as ?
    sys.stdout.reconfigure(errors="replace")


def options(doc, argv=None):
    """--seed, --quick (a few steps, for tests), --out (the folder for the picture)."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=form)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same numbers (default 0)")
    parser.add_argument("--quick", action="store_true", help="a few steps, for tests")
    parser.add_argument("--out", type=Path, default=Path("examples_out"), help="for the picture")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def folder_of(package, install):
    """A package's folder, found without importing it (or what it needs)."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SystemExit(f"the data of this example are in the package {package}: {install}")
    return Path(spec.submodule_search_locations[0])


def finish(picture, path, **figures):
    """Save the picture, and print each figure on a line of its own, and the time."""
    picture.save(path)
    print(f"picture: {path}")
    for name, value in figures.items():
        print(f"figure: {name.replace('_', ' ')} {value:.4g}")
    print(f"time: {time.perf_counter() - STARTED:.0f} s")
