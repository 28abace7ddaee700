"""`python -m tinygrad_rnn`: the demo. `check`, `source`, `draw`, `train`, `sample`: of yours."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
COMMANDS = {  # the room that each is in, and its function there
    "check": ("testing.shell", "main"),
    "source": ("testing.emitted", "main"),
    "draw": ("figures.drawn", "main"),
    "train": ("charmodel", "train_main"),
    "sample": ("charmodel", "sample_main"),
}


def main(argv: list[str] | None = None) -> int:
    """Read the command line, run the demo or a subcommand, return the exit status."""
    given = sys.argv[1:] if argv is None else argv
    name = given[0] if given else ""
    if not name or name.startswith("-"):
        return demo(given)
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(
            f"there is no subcommand {name!r}; there are {known}, or none: the demo",
            file=sys.stderr,
        )
        return 2
    room, function = COMMANDS[name]

    def work() -> int:
        return int(getattr(import_module(f".{room}", __package__), function)(given[1:]))

    return with_one_thread(given, work) if name == "train" else work()


def with_one_thread(given: list[str], work: Callable[[], int]) -> int:
    """Do it in a process in which BLAS has one thread; the exit status.

    with_one_thread(["--quick"], lambda: 0)

    BLAS reads their number when NumPy is loaded, which has happened: so start again. With matrices
    this small a second thread costs more than it brings, and sums in another order.
    """
    if all(os.environ.get(name) == "1" for name in THREADS):
        return work()
    command = [sys.executable, "-m", "tinygrad_rnn", *given]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    if os.name == "posix":  # in the place of this process, so that signals reach it
        os.execve(sys.executable, command, environment)
    process = subprocess.Popen(command, env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other one, which may save
    return process.wait()


def demo(given: list[str]) -> int:
    """The demo, without a subcommand."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn",
        description="The demo: gradients checked, text learnt, a task that needs the future.",
        epilog="Also, each with --help: python -m tinygrad_rnn check (the gradient of a function, "
        "the laws of a cell), source (a cell's forward and BPTT as NumPy), draw (pictures), train "
        "(a character model of your own text), sample (text from it).",
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same numbers (default 0)")
    parser.add_argument("--quick", action="store_true", help="train less: a few seconds in all")
    parser.add_argument(
        "--out", default="tinygrad_rnn_demo", metavar="DIR", help="where the files go"
    )
    parser.add_argument("--lang", choices=("en", "ja"), default="en", help="of report.html")
    arguments = parser.parse_args(given)

    def work() -> int:
        from .demo import run

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # in step with the progress on stderr
        run(arguments.seed, arguments.quick, arguments.out, arguments.lang)
        return 0

    return with_one_thread(given, work)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
