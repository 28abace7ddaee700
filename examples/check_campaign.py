"""A campaign of gradient checks: testing.check_cell of one cell for many seeds, on a Dask cluster.

A seed draws the weights, where `{seed}` stands, and all that the check draws. One line for each
seed that fails, as it arrives. Exit status: 0 all passed, 1 some failed, 2 nothing was checked.
Time: a minute of processor time, shared by the workers.

    pip install 'tinygrad-rnn[distributed]'
    python examples/check_campaign.py                   # 100 GRU cells on two workers
    python examples/check_campaign.py 'my_cell.py:MyCell(3, 4, rng={seed})' --seeds 1000
    python examples/check_campaign.py 'my_cell.py:MyCell(3, 4, rng={seed})' --seed 17    # in full
    python examples/check_campaign.py --address tcp://10.0.0.1:8786    # a cluster that is there

Your file goes to the workers with each task. What it imports must be there already: installed, or
beside it on a disk that they share; they import it once, so restart them after a change of that.
What else a cluster needs, and why it is Dask's: see data_parallel.py.
"""

# %% What a worker does: a few seeds of the cell.
import argparse
import os
import shlex
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from data_parallel import connected

from tinygrad_rnn import testing
from tinygrad_rnn.shell import called, constructed, loaded, reported, split

CELL = "tinygrad_rnn:GRUCell(3, 4, rng={seed})"
CHUNK = 4  # seeds in a task: a check takes some tenths of a second, and so a task takes a second


def report_of(module, call, seed):
    """What check_cell finds for one seed."""
    try:
        return testing.check_cell(lambda: constructed(with_seed(call, seed), module), seed=seed)
    except testing.GradientError as error:
        return error.report


def with_seed(call, seed):
    return call.replace("{seed}", str(seed))


@contextmanager
def unpacked(place, content):
    """The module that the call names; a file as it is at the user's, under its own name."""
    if content is None:
        with loaded(place) as module:
            yield module
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, Path(place).name)
        copy.write_bytes(content)
        sys.path.insert(0, str(Path(place).parent))
        try:
            with loaded(str(copy)) as module:
                yield module
        finally:
            sys.path.remove(str(Path(place).parent))


def failures(source, call, seeds):
    """{seed: why, in one line} of those that fail."""
    with unpacked(*source) as module:
        reports = {seed: report_of(module, call, seed) for seed in seeds}
    return {
        seed: next(iter(report.failures.values())).splitlines()[0]
        for seed, report in reports.items()
        if not report.ok
    }


# %% What the driver does. A worker that dies is no end: its tasks are given to another one. A task
# over which one worker after the other dies ends as KilledWorker, and so may one that only waited
# behind it. Which seed it was comes out when each of theirs runs once more, alone on the cluster.
def campaign(client, source, call, seeds):
    """(how many seeds are done, {seed: why} of those that fail) as results arrive."""
    from distributed import KilledWorker, as_completed

    work, suspects = partial(failures, source, call), []
    chunks = [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]
    tasks = client.map(work, chunks, pure=False)
    seeds_of = {task.key: chunk for task, chunk in zip(tasks, chunks, strict=True)}
    for task in as_completed(tasks):
        try:
            yield len(seeds_of[task.key]), task.result()
        except KilledWorker:
            suspects += seeds_of[task.key]
    for seed in suspects:
        try:
            yield 1, client.submit(work, [seed], pure=False).result()
        except KilledWorker as error:
            yield 1, {seed: f"{error.allowed_failures + 1} workers died over it, one by one"}


def told(results, count):
    """Tell each failure as it arrives; returns the seeds that failed."""
    failed, done = [], 0
    progress = partial(print, end="", file=sys.stderr, flush=True) if sys.stderr.isatty() else None
    for more, found in results:
        done, failed = done + more, [*failed, *found]
        if progress and found:
            progress(f"\r{'':40}\r")
        for seed, why in found.items():
            print(f"seed {seed}: {why}", flush=True)
        if progress:
            progress(f"\r{done} of {count} seeds, {len(failed)} failed")
    if progress:
        progress(f"\r{'':40}\r")
    return sorted(failed)


# %% The command line.
def run(args):
    """The exit status. The call is read here, first: a mistake in it is told before all else."""
    place, call = split(args.call)
    with loaded(place) as module:
        called(with_seed(call, args.seed or 0), module)
        if args.seed is not None:
            report = report_of(module, call, args.seed)
            print(report.text())
            return 0 if report.ok else 1
    path = Path(place).resolve()
    source = (str(path), path.read_bytes()) if path.suffix == ".py" else (place, None)
    start = time.perf_counter()
    with connected(args.address, args.workers) as client:
        failed = told(campaign(client, source, call, range(args.seeds)), args.seeds)
    print(f"{args.seeds} seeds, {len(failed)} failed, {time.perf_counter() - start:.1f} s")
    if failed:
        script = shlex.quote(os.path.relpath(__file__))
        again = f"python {script} {shlex.quote(args.call)} --seed {failed[0]}"
        print(f"one of them in full, without a cluster: {again}")
    return 1 if failed else 0


def main(argv=None):
    parser = argparse.ArgumentParser(description="check_cell for many seeds, on a Dask cluster.")
    parser.add_argument("call", nargs="?", default=CELL, help=f"a cell for a {{seed}}; {CELL!r}")
    parser.add_argument("--seeds", type=int, default=100, help="how many, from 0 on")
    parser.add_argument("--seed", type=int, help="only this one, in this process: its whole report")
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--address", help="of a scheduler, instead of processes on this machine")
    args = parser.parse_args(argv)
    if min(args.seeds, args.workers) < 1:
        parser.error("--seeds and --workers: expected 1 or more")
    example = "python examples/check_campaign.py 'my_cell.py:MyCell(3, 4, rng={seed})' --seeds 1000"
    return reported("check_campaign", example, lambda: run(args))


if __name__ == "__main__":  # the processes of a LocalCluster import this file, too
    sys.exit(main())
