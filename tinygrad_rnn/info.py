"""What is installed, and how many threads BLAS takes: `python -m tinygrad_rnn info`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

# by a part of the BLAS's name: the variables that it reads, the first that is set decides
VARIABLES = {
    "openblas": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "accelerate": ("VECLIB_MAXIMUM_THREADS",),
}
THREADS = tuple(dict.fromkeys(name for names in VARIABLES.values() for name in names))
NEXT = "Next: python -m tinygrad_rnn, the demo; --help tells what else there is."


def main(argv: list[str]) -> int:
    """Print it. 0.

    main(["--json"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn info",
        description="Versions, BLAS and its threads, extras: for a first look, and a bug report.",
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    options = parser.parse_args(argv)
    found = info()
    print(json.dumps(found, indent=2) if options.json else text(found))
    return 0


def info() -> dict[str, Any]:
    """Versions by name, `blas` with its threads, `extras` with the version of each package or None.

    info()["numpy"]      # '2.4.6', say
    """
    package: Any = sys.modules[__package__]
    return {
        "tinygrad_rnn": package.__version__,
        "place": str(Path(__file__).parent),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "numpy": np.__version__,
        "platform": platform.platform(),
        "blas": blas(),
        "extras": extras(),
    }


def blas() -> dict[str, Any]:
    """NumPy's BLAS, the variables that are set for its threads, and how many it will likely take.

    blas()["threads"]      # 1, where OPENBLAS_NUM_THREADS=1 was set
    """
    build: Any = np.show_config(mode="dicts")
    built = build.get("Build Dependencies", {}).get("blas", {})
    name = str(built.get("name", "unknown"))
    read = next((names for part, names in VARIABLES.items() if part in name.lower()), THREADS)
    given = {variable: os.environ[variable] for variable in THREADS if variable in os.environ}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = next((given[variable] for variable in read if variable in given), "")
    threads = int(wanted) if wanted.isdecimal() and int(wanted) else cores
    return {
        "name": name,
        "version": built.get("version"),
        "set": given,
        "cores": cores,
        "threads": threads,
        "variable": read[0],
    }


def extras(name: str = "tinygrad-rnn") -> dict[str, dict[str, str | None]]:
    """The packages of each extra with their versions, None for one that is not installed.

        extras()["testing"]["pytest"]      # '9.0.2', say

    It is read from the package's metadata: empty where that was not installed.
    """
    found: dict[str, dict[str, str | None]] = {}
    for line in metadata.requires(name) or () if _version(name) else ():
        asked = re.match(r"""([\w.-]+)[^;]*;.*\bextra\s*==\s*['"]([\w.-]+)['"]""", line)
        if asked and asked[1] != name:
            found.setdefault(asked[2], {})[asked[1]] = _version(asked[1])
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def text(found: dict[str, Any]) -> str:
    """What `info` found, in lines to read.

    print(text(info()))
    """
    used = found["blas"]
    lines = [f"{name:14}{found[name]}" for name in ("tinygrad_rnn", "python", "numpy", "platform")]
    lines.insert(1, f"{'in':14}{found['place']}")
    lines.append(f"{'BLAS':14}{used['name']} {used['version'] or ''}".rstrip())
    given = ", ".join(f"{name}={value}" for name, value in used["set"].items()) or "nothing set"
    lines.append(f"{'threads':14}{used['threads']} likely ({given}; {used['cores']} cores)")
    if used["threads"] != 1:
        command = "export" if os.name == "posix" else "set"
        lines += [
            f"{'':14}small matrices are faster with one: {command} {used['variable']}=1",
            f"{'':14}(before Python starts; the demo and train do so by themselves)",
        ]
    for extra, packages in found["extras"].items():
        there = [f"{name} {version}" for name, version in packages.items() if version]
        missing = [name for name, version in packages.items() if not version]
        if missing:
            there.append(f"not installed: {', '.join(missing)}: pip install '.[{extra}]'")
        lines.append(f"{f'[{extra}]':14}{', '.join(there)}")
    if not found["extras"]:
        lines.append(
            f"{'extras':14}not known: this package is not installed by pip, but only found"
        )
    return "\n".join([*lines, "", NEXT])
