"""Data parallel training: the shards of each batch go to several workers, by Dask.

Task: many-to-many, on rows of 1 to 30 numbers. At each step: is the sum so far more than the sum of
all that is still to come? A BiRNN of GRUs, generated data. The same training runs in one process on
the whole batches, too, and the weights at the end are the same to 1e-12. Time: 10 s.

    pip install 'tinygrad-rnn[distributed]'
    python examples/data_parallel.py                 # loss 0.822 -> 0.139, difference 1e-15
    python examples/data_parallel.py --quick         # a few steps, for tests
    python examples/data_parallel.py --kill          # and a worker dies in the middle of a step
    python examples/data_parallel.py --address tcp://10.0.0.1:8786     # a cluster that is there

Why Dask and not Ray. Weight: `pip download distributed` brings 21 wheels of 5.4 MB in all, 20 MB
unpacked (2026.8.0, Python 3.11 on Linux); ray 2.60.0 alone is 79 MB, 202 MB unpacked. Upkeep: dask
and distributed are pure Python, one wheel for all; Ray's is built for each Python and system.
Arrays: the memory of an array goes to the socket as it is, beside the pickle (protocol 5, out of
band), not as a copy in it. Death: the tasks of a dead worker are given to others, and its nanny
starts a new one; a task over which four died is given up (`allowed-failures: 3`, KilledWorker).

On several machines: the same versions of Python, NumPy, distributed and this package on each, also
at the scheduler; workers by `dask worker tcp://10.0.0.1:8786 --nthreads 1`. Where processors
differ, last bits may, too. This network is too small to gain from workers: see the times it prints.
"""

# %% The network, and its data: batches of ragged rows, sorted by length.
import argparse
import os
import time
from contextlib import ExitStack, contextmanager

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.errors import MissingExtraError, missing_extra
from tinygrad_rnn.shell import UsageError

try:
    import dask
    from distributed import Client, Event, KilledWorker, LocalCluster
except ImportError:
    Client = None

ROWS, STEPS, HIDDEN = 20, 30, 16


def network(seed):
    rng = np.random.default_rng(seed)
    birnn = tg.BiRNN(tg.GRUCell(1, HIDDEN, rng=rng), tg.GRUCell(1, HIDDEN, rng=rng))
    return tg.Chain(birnn, tg.Linear(2 * HIDDEN, 2, rng=rng))


def batch(seed, k):
    """x (T, N, 1), targets (T, N), lengths (N,) of the k-th batch."""
    rng = np.random.default_rng([seed, k])
    x, lengths = rng.normal(size=(STEPS, ROWS, 1)), np.sort(rng.integers(1, STEPS + 1, ROWS))
    valid = np.arange(STEPS)[:, None] < lengths
    past = np.cumsum(np.where(valid, x[..., 0], 0), axis=0)
    return x, (past > past[-1] - past).astype(int), lengths


def loss_of(net, x, targets, lengths, reduction="mean"):
    return tg.cross_entropy(net(x, lengths=lengths).outputs, targets, lengths, reduction=reduction)


# %% What a worker does with a shard. A fatal one kills, when all work is done and nothing told:
# "always" each worker that takes it, "once" the first (all workers see the same Event of Dask's).
def gradients(weights, x, targets, lengths, fatal=None):
    """The SUM of the losses, the gradients of that sum, and how many entries it is the sum of."""
    net = network(0)
    net.load_state_dict(weights)
    loss = loss_of(net, x, targets, lengths, "sum")
    loss.backward()
    if fatal == "always" or (fatal == "once" and not Event("died").is_set()):
        Event("died").set()
        os._exit(1)
    found = {name: p.grad for name, p in net.named_parameters().items()}
    return loss.item(), found, int(lengths.sum())


# %% What the driver does. The mean of the shards' means would be wrong: shards have as many rows,
# but not as many valid entries, and an entry in a shard of short rows would count for more than
# others. So sums and counts are added, and divided once. They are added in the order of the shards,
# whoever was ready first: in another order, the last bit of a sum may be another.
def update(net, optimizer, parts):
    """One step of the optimizer. The loss before it: the mean over all valid entries."""
    losses, found, counts = zip(*parts, strict=True)
    for name, p in net.named_parameters().items():
        p.grad = sum(gradient[name] for gradient in found) / sum(counts)
    tg.clip_grad_norm(net.named_parameters(), 1.0)
    optimizer.step()
    return sum(losses) / sum(counts)


def train(client, seed, steps, shards, fatal=None):
    """The weights after so many steps on a cluster, and all losses. `fatal` is a shard half way.

    One message takes the weights to the scheduler, which keeps what a task was given until it is
    done, and so can give it to another worker. (client.scatter would put them into the memory of a
    worker alone, and they may be lost with it; Dask's warning from 10 MB on advises it all the
    same.) pure=False: no hash of all arrays, to look for a task that is the same.
    """
    net = network(seed)
    optimizer, losses = tg.Adam(net.parameters(), lr=0.01), []
    for k in range(steps):
        x, targets, lengths = batch(seed, k)
        rows = np.array_split(np.arange(ROWS), shards)
        shard = [x[:, r] for r in rows], [targets[:, r] for r in rows], [lengths[r] for r in rows]
        fate = [fatal if k == steps // 2 else None] + [None] * (shards - 1)
        tasks = client.map(gradients, [net.state_dict()] * shards, *shard, fate, pure=False)
        losses.append(update(net, optimizer, client.gather(tasks)))
    return net.state_dict(), losses


# %% The same without a cluster, as anybody would write it.
def train_here(seed, steps):
    net = network(seed)
    optimizer, losses = tg.Adam(net.parameters(), lr=0.01), []
    for k in range(steps):
        loss = loss_of(net, *batch(seed, k))
        loss.backward()
        tg.clip_grad_norm(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return net.state_dict(), losses


# %% The cluster: one that is there, or processes on this machine that end with the block. Dask
# itself gives its workers one thread of BLAS each (OMP_NUM_THREADS and its like, set before they
# start, where the user has not set them): they would fight for cores, and another number of threads
# may add in another order.
@contextmanager
def connected(address, workers):
    if Client is None:
        raise missing_extra("this example", "distributed", "distributed")
    with ExitStack() as stack:
        if address:
            try:
                client = stack.enter_context(Client(address, timeout=10))
                client.wait_for_workers(1, timeout=10)
            except (OSError, ValueError) as error:
                raise UsageError(f"no cluster with workers at {address}: {error}") from None
        else:
            # 15 s after a death Dask looks whether the worker is back, and gives it up for ever if
            # it has just died again: here it may. Of all servers none can be seen from outside.
            patience = {"distributed.deploy.lost-worker-timeout": "1 day"}
            stack.enter_context(dask.config.set(patience))
            local = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
            cluster = stack.enter_context(LocalCluster(n_workers=workers, **local))
            client = stack.enter_context(Client(cluster))
        yield client


# %% Both, and how far apart they are.
def difference(a, b):
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Data parallel training on a Dask cluster.")
    parser.add_argument("--quick", action="store_true", help="10 steps instead of 100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--address", help="of a scheduler, instead of processes on this machine")
    parser.add_argument("--kill", nargs="?", const="once", choices=["once", "always"])
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error("--workers: expected 1 or more")
    steps = 10 if args.quick else 100
    try:
        with connected(args.address, args.workers) as client:
            shards = len(client.nthreads())  # one for each worker
            start = time.perf_counter()
            weights, losses = train(client, args.seed, steps, shards)
            cluster_time = time.perf_counter() - start
            alone, _ = train_here(args.seed, steps)
            here_time = time.perf_counter() - start - cluster_time
            print(f"{steps} steps: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
            print(f"workers: {shards}, {cluster_time:.1f} s; one process: {here_time:.1f} s")
            print(f"largest difference of weights: {difference(weights, alone):.1e}")
            assert difference(weights, alone) < 1e-12
            if args.kill:
                before = client.nthreads().keys()
                Event("died", client).clear()
                again, _ = train(client, args.seed, steps, shards, args.kill)
                died = ", ".join(before - client.nthreads().keys())
                print(f"again, and {died} died: difference {difference(again, weights):.1e}")
                assert difference(again, weights) < 1e-12
    except (MissingExtraError, UsageError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KilledWorker as error:
        parser.exit(1, f"{parser.prog}: a task kills each worker that it runs on. {error}\n")


if __name__ == "__main__":  # the processes of a LocalCluster import this file, too
    main()
