"""`python -m tinygrad_rnn`: the demo. `check`, `source`, `draw`: of what is yours."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main(argv: list[str] | None = None) -> int:
    """Read the command line, run the demo or a check, return the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["check"]:
        from .testing import shell

        return shell.main(given[1:])
    if given[:1] == ["source"]:
        from .testing import emitted

        return emitted.main(given[1:])
    if given[:1] == ["draw"]:
        from .figures import drawn

        return drawn.main(given[1:])
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn",
        description="The demo: gradients checked, text learnt, a task that needs the future.",
        epilog="Also: python -m tinygrad_rnn check --help (the gradient of a function of yours), "
        "source --help (a cell's forward and BPTT as NumPy), draw --help (pictures).",
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same numbers (default 0)")
    parser.add_argument("--quick", action="store_true", help="train less: a few seconds in all")
    parser.add_argument(
        "--out", default="tinygrad_rnn_demo", metavar="DIR", help="where the files go"
    )
    parser.add_argument("--lang", choices=("en", "ja"), default="en", help="of report.html")
    arguments = parser.parse_args(given)
    if any(os.environ.get(name) != "1" for name in THREADS):
        # BLAS reads these when NumPy is loaded, which has happened: start again. With matrices
        # this small a second thread costs more than it brings, and sums in another order.
        command = [sys.executable, "-m", "tinygrad_rnn", *given]
        return subprocess.call(command, env=os.environ | dict.fromkeys(THREADS, "1"))
    from .demo import run

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in step with the progress on stderr
    run(arguments.seed, arguments.quick, arguments.out, arguments.lang)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
