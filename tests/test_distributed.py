"""The examples on a cluster: the same numbers as in one process, whatever workers do."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

import dask
from distributed import Event

EXAMPLES = Path(__file__).parent.parent / "examples"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.fixture(scope="module")
def examples():
    """The two files as modules, that workers can import, too; the environment stays as it was."""
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        for name in THREADS:
            patch.delenv(name, raising=False)
        import check_campaign
        import data_parallel

        yield data_parallel, check_campaign
        del sys.modules["check_campaign"], sys.modules["data_parallel"]
    os.environ.clear()
    os.environ.update(before)  # Dask sets variables for its workers, and leaves them


@pytest.fixture(scope="module")
def client(examples):
    """Two workers. A task may lose one worker, not three as usual: those that kill end sooner."""
    data_parallel, _ = examples
    once = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with once, data_parallel.connected(None, 2) as client:
        yield client


@pytest.fixture
def data_parallel(examples):
    return examples[0]


@pytest.fixture
def check_campaign(examples):
    return examples[1]


@pytest.fixture
def workers(client):
    """All of them are there, whoever died in the test before."""
    client.wait_for_workers(2, timeout=60)
    return client.run(os.getpid)


def parts_of(data_parallel, net, shards, k=0):
    x, targets, lengths = data_parallel.batch(0, k)
    return [
        data_parallel.gradients(net.state_dict(), x[:, rows], targets[:, rows], lengths[rows])
        for rows in np.array_split(np.arange(data_parallel.ROWS), shards)
    ]


# ----- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_training_on_workers_is_training_in_one_process(client, data_parallel, shards):
    weights, losses = data_parallel.train(client, 1, 8, shards)
    alone, losses_alone = data_parallel.train_here(1, 8)
    assert data_parallel.difference(weights, alone) < 1e-12  # measured: 5e-16
    np.testing.assert_allclose(losses, losses_alone, rtol=1e-12)
    assert losses[-1] < losses[0]


def test_shards_are_unequal_and_a_mean_of_their_means_would_be_seen(data_parallel):
    parts = parts_of(data_parallel, data_parallel.network(0), 3)
    counts = [count for _, _, count in parts]
    assert counts == sorted(set(counts))
    name = "layers.1.b"
    right = sum(found[name] for _, found, _ in parts) / sum(counts)
    wrong = sum(found[name] / count for _, found, count in parts) / 3
    assert np.abs(right - wrong).max() > 0.01 * np.abs(right).max()


@pytest.mark.parametrize("shards", [2, 3, 25])  # of 25 shards, five have no row
def test_the_gradient_is_that_of_the_whole_batch(data_parallel, shards):
    net, whole = data_parallel.network(0), data_parallel.network(0)
    loss = data_parallel.loss_of(whole, *data_parallel.batch(0, 0))
    loss.backward()

    class Step:
        def step(self):
            self.found = {name: p.grad for name, p in net.named_parameters().items()}

    optimizer = Step()
    mean = data_parallel.update(net, optimizer, parts_of(data_parallel, net, shards))
    assert abs(mean - loss.item()) < 1e-14
    data_parallel.tg.clip_grad_norm(whole.parameters(), 1.0)
    for name, p in whole.named_parameters().items():
        np.testing.assert_allclose(optimizer.found[name], p.grad, rtol=0, atol=1e-14)


# One shard: nobody else has its weights. Three: sums of two would be the same in any order.
@pytest.mark.parametrize("shards", [1, 3])
def test_a_worker_that_dies_changes_nothing(client, data_parallel, workers, shards):
    weights, losses = data_parallel.train(client, 2, 4, shards)
    Event("died", client).clear()
    again, losses_again = data_parallel.train(client, 2, 4, shards, fatal="once")
    client.wait_for_workers(2, timeout=60)
    assert len(set(workers.values()) - set(client.run(os.getpid).values())) == 1
    assert losses == losses_again
    for name in weights:
        np.testing.assert_array_equal(again[name], weights[name], strict=True)


def test_a_shard_that_kills_every_worker_ends_the_run_and_is_told(
    client, data_parallel, workers, capsys
):
    command = ["--quick", "--kill", "always", "--address", client.scheduler.address]
    with pytest.raises(SystemExit) as ended:
        data_parallel.main(command)
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "a task kills each worker that it runs on. Attempted to run task 'gr" in printed.err
    assert "largest difference of weights: " in printed.out


def test_workers_have_one_thread_of_blas_each(client, workers):
    for name in THREADS:
        assert set(client.run(os.environ.get, name).values()) == {"1"}


def test_a_worker_that_dies_again_is_not_given_up(client):
    # with Dask's own 15 s, a cluster of two had no worker left after 16 to 24 deaths in a row
    assert dask.config.get("distributed.deploy.lost-worker-timeout") == "1 day"


def test_the_example_runs_as_a_script():
    command = [sys.executable, "-W", "error", EXAMPLES / "data_parallel.py", "--quick", "--kill"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    steps, times, largest, again = result.stdout.splitlines()
    assert steps.startswith("10 steps: loss 0.822 -> ")
    assert times.startswith("workers: 2, ")
    assert float(largest.split(": ")[1]) < 1e-12
    assert again.startswith("again, and tcp://127.0.0.1:")
    assert again.endswith(" died: difference 0.0e+00")


# ----- the campaign ------------------------------------------------------------------------------

CELL = """
    import os
    import numpy as np
    import tinygrad_rnn as tg
    from beside import WRONG

    @tg.primitive
    def own(x):
        return np.tanh(x)

    tg.defvjp(own, lambda g, out: g * (1 - out))     # (1 - out * out)

    class Own(tg.Cell):
        def __init__(self, inputs, hidden, rng, fatal=None):
            if rng == fatal:
                os._exit(1)
            self.f = own if rng in WRONG else np.tanh
            self.inputs, self.state_shape = inputs, (hidden,)
            self.U = tg.Parameter(tg.init.glorot(rng, (inputs, hidden)))
            self.V = tg.Parameter(tg.init.orthogonal(rng, hidden))

        def step(self, x, h):
            return self.f(x @ self.U + h @ self.V)
"""


@pytest.fixture
def own_cell(tmp_path, monkeypatch):
    """A file in a folder that workers do not know, and one that it imports."""
    (tmp_path / "own_cell.py").write_text(textwrap.dedent(CELL), encoding="utf-8")
    (tmp_path / "beside.py").write_text("WRONG = (1, 4)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield "own_cell.py:Own(3, 4, rng={seed})"
    for name in ("own_cell", "own_cell (checked)", "beside"):
        sys.modules.pop(name, None)


WHY = "gradients: FAIL, T=1, N=1: run: FAIL, 35 comparisons"


def test_a_campaign_tells_each_seed_that_fails(client, check_campaign, own_cell, workers, capsys):
    assert (
        check_campaign.main([own_cell, "--seeds", "6", "--address", client.scheduler.address]) == 1
    )
    printed = capsys.readouterr()
    *lines, summary, again = printed.out.splitlines()
    assert sorted(lines) == [f"seed 1: {WHY}", f"seed 4: {WHY}"]
    assert summary.startswith("6 seeds, 2 failed, ")
    assert again.endswith(f"check_campaign.py '{own_cell}' --seed 1")
    assert printed.err == ""


def test_one_seed_is_checked_here_and_told_in_full(check_campaign, own_cell, capsys):
    assert check_campaign.main([own_cell, "--seed", "1"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(WHY)
    assert "first wrong node: own" in printed
    assert check_campaign.main([own_cell, "--seed", "2"]) == 0
    assert "14 of 14 laws" in capsys.readouterr().out


def test_a_seed_over_which_workers_die_is_a_line_too(
    client, check_campaign, own_cell, workers, capsys
):
    call = own_cell.replace(")", ", fatal=5)")
    assert check_campaign.main([call, "--seeds", "6", "--address", client.scheduler.address]) == 1
    *lines, summary, _ = capsys.readouterr().out.splitlines()
    expected = [f"seed 1: {WHY}", f"seed 4: {WHY}", "seed 5: 2 workers died over it, one by one"]
    assert sorted(lines) == expected
    assert summary.startswith("6 seeds, 3 failed, ")


def test_the_campaign_runs_as_a_script(client, workers):
    command = [sys.executable, "-W", "error", EXAMPLES / "check_campaign.py", "--seeds", "2"]
    command += ["--address", client.scheduler.address]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("2 seeds, 0 failed, ")
    assert result.stderr == ""


def test_a_file_goes_to_workers_that_do_not_have_it(client, check_campaign, workers):
    text = textwrap.dedent(CELL).replace("from beside import WRONG", "WRONG = (1,)")
    source = "/nowhere/own_cell.py", text.encode()
    results = check_campaign.campaign(client, source, "Own(3, 4, rng={seed})", range(2))
    assert list(results) == [(2, {1: WHY})]


def test_the_seed_draws_what_the_check_draws_too(check_campaign, monkeypatch):
    seen = []
    note = lambda make, seed: seen.append((make(), seed))
    monkeypatch.setattr(check_campaign.testing, "check_cell", note)
    check_campaign.report_of(textwrap, "int({seed})", 7)
    assert seen == [(7, 7)]


def test_progress_goes_over_its_own_line_on_a_terminal(check_campaign, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert check_campaign.told(iter([(4, {}), (2, {5: "why"})]), 6) == [5]
    printed = capsys.readouterr()
    assert printed.out == "seed 5: why\n"
    shown = [line for line in printed.err.split("\r") if line.strip()]
    assert shown == ["4 of 6 seeds, 0 failed", "6 of 6 seeds, 1 failed"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["no_file.py:Own(3)"], "check_campaign: there is no file no_file.py. Expected, for exam"),
        (["tinygrad_rnn:NoCell(3, 4)"], "check_campaign: name 'NoCell' is not defined; known are"),
        (["tinygrad_rnn:GRUCell"], "check_campaign: 'GRUCell' is not a call. Expected, for examp"),
        (["--seed", "0", "tinygrad_rnn:GRUCell(3, 4, {seed}"], "check_campaign: 'GRUCell(3, 4, "),
    ],
)
def test_a_call_that_cannot_be_read_is_told_before_a_cluster_starts(
    check_campaign, monkeypatch, capsys, argv, message
):
    monkeypatch.setattr(check_campaign, "connected", None)
    assert check_campaign.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(message)
    assert printed.out == ""


def test_numbers_below_one_are_told(data_parallel, check_campaign, capsys):
    for main, argv in [
        (data_parallel.main, ["--workers", "0"]),
        (check_campaign.main, ["--workers", "0"]),
        (check_campaign.main, ["--seeds", "0"]),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        assert "expected 1 or more" in capsys.readouterr().err


# ----- what is not there -------------------------------------------------------------------------


def test_an_address_where_nobody_is(data_parallel, check_campaign, monkeypatch, capsys):
    def refused(address, timeout):
        raise OSError("Timed out")

    monkeypatch.setattr(data_parallel, "Client", refused)
    with pytest.raises(SystemExit) as ended:
        data_parallel.main(["--address", "tcp://127.0.0.1:1"])
    assert ended.value.code == 2
    assert check_campaign.main(["--address", "tcp://127.0.0.1:1"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert ": no cluster with workers at tcp://127.0.0.1:1: Timed out" in line


ABSENT = """
import runpy, sys
sys.modules["distributed"] = None
folder, name = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv = [name]
runpy.run_path(f"{folder}/{name}", run_name="__main__")
"""


@pytest.mark.parametrize("name", ["data_parallel.py", "check_campaign.py"])
def test_without_the_package_there_is_one_line(name):
    command = [sys.executable, "-c", ABSENT, EXAMPLES, name]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "needs the package distributed, which is not installed: pip install 'tiny" in line
