"""`python -m tinygrad_rnn`: the demo, and subcommands, which `COMMANDS` lists."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from .info import THREADS
from .shell import seed

COMMANDS = {  # the room that each is in, its function there, what it is for
    "check": ("testing.shell", "main", "the gradient of a function, the laws of a cell"),
    "source": ("testing.emitted", "main", "a cell's forward and its BPTT, as NumPy to read"),
    "draw": ("figures.drawn", "main", "a cell, a layer unrolled in time, the task types"),
    "train": ("charmodel", "train_main", "a character model of your own text"),
    "sample": ("charmodel", "sample_main", "text from such a model"),
    "info": ("info", "main", "versions, BLAS and its threads, what is installed beside"),
}
HELP = """subcommands, each with --help:
{rows}

Without a subcommand it is the demo, half a minute: start there. Then, with your own text:
python -m tinygrad_rnn train book.txt"""


def main(argv: list[str] | None = None) -> int:
    """Read the command line, run the demo or a subcommand, return the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if not given or given[0].startswith("-"):
        return demo(given)
    name, *rest = given
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        guess = f", did you mean {near[0]}?" if near else ":"
        known = f"there are {', '.join(COMMANDS)}, or none: the demo (--help says what each is for)"
        print(f"there is no subcommand {name!r}{guess} {known}", file=sys.stderr)
        return 2
    room, function, _ = COMMANDS[name]

    def work() -> int:
        return int(getattr(import_module(f".{room}", __package__), function)(rest))

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
        usage="%(prog)s [options of the demo]\n       %(prog)s SUBCOMMAND ...",
        description="The demo: gradients checked, text learnt, a task that needs the future.",
        epilog=HELP.format(rows="\n".join(f"  {k:8}{what}" for k, (*_, what) in COMMANDS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = getattr(sys.modules[__package__], "__version__", "")
    parser.add_argument("--version", action="version", version=f"tinygrad_rnn {version}")
    parser.add_argument("--seed", type=seed, default=0, help="same seed, same numbers (default 0)")
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
    status = 1  # of a command whose reader left before it came to its end
    try:
        try:
            status = main()
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # who reads has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
    sys.exit(status)
