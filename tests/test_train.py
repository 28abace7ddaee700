"""fit: the loop of a training, what ends it, and what is there then."""

import contextlib
import io
import itertools
import math
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import optim, record, train
from tinygrad_rnn.errors import (
    NoGradientError,
    NonFiniteError,
    NotScalarError,
    ShapeError,
    UnusedInputError,
)
from tinygrad_rnn.optim import RMSprop
from tinygrad_rnn.train import History, fit

OPTIMIZERS = {
    "SGD": (tg.SGD, {}),
    "momentum": (tg.SGD, {"momentum": 0.9}),
    "Adagrad": (tg.Adagrad, {}),
    "RMSprop": (RMSprop, {}),
    "Adam": (tg.Adam, {}),
}


class Net(tg.Module):
    def __init__(self, rng, dtype=np.float64, scan=False):
        rng = np.random.default_rng(rng)
        self.rnn = tg.RNN(tg.GRUCell(2, 3, rng=rng, dtype=dtype), scan=scan)
        self.readout = tg.Linear(3, 1, rng=rng, dtype=dtype)

    def loss(self, batch):
        x, target = batch
        return tg.mse(self.readout(self.rnn(x).outputs), target)


def batches(count, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda width: rng.standard_normal((4, 2, width)).astype(dtype)
    return [(draw(2), draw(1)) for _ in range(count)]


def state(optimizer):
    """All that a step depends on, as bytes."""
    arrays = dict(enumerate(p.data for p in optimizer.parameters)) | optimizer.state_dict()
    return {name: (a.dtype.str, a.tobytes()) for name, a in arrays.items()}


def small(Optimizer=tg.SGD, **options):
    """An optimizer of two Parameters, and a loss of them: the batch is a factor."""
    ps = [tg.Parameter(np.array([1.0, -2.0])), tg.Parameter(np.array(0.5))]
    options = {"lr": 0.01} | options
    return Optimizer(ps, **options), lambda batch: ((ps[0] * ps[1]) ** 2).sum() * batch


def trajectory(count, **options):
    """The states after 0, 1, 2, ... steps."""
    optimizer, loss = small(**options)
    states = [state(optimizer)]
    fit(loss, [1.0], optimizer, count, None, False, lambda *_: states.append(state(optimizer)))
    return states


# ----- the loop


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_fit_is_the_loop_by_hand(name, clip):
    Optimizer, options = OPTIMIZERS[name]
    nets = Net(0), Net(0)
    hand, ours = (Optimizer(net.parameters(), lr=0.01, **options) for net in nets)
    losses, norms = [], []
    for batch in batches(5):
        loss = nets[0].loss(batch)
        loss.backward()
        norms.append(tg.clip_grad_norm(hand.parameters, math.inf if clip is None else clip))
        hand.step()
        hand.zero_grad()
        losses.append(loss.item())
    history = fit(nets[1].loss, batches(5), ours, clip=clip, progress=False)
    assert (history.loss, history.grad_norm) == (losses, norms)
    assert state(ours) == state(hand)
    assert {type(v) for v in history.loss + history.grad_norm} == {float}
    assert min(norms) > 0.1  # the norm is the one before clipping


@given(count=st.integers(1, 4), steps=st.none() | st.integers(0, 9), once=st.booleans())
def test_a_list_is_gone_through_again_a_generator_once(count, steps, once):
    optimizer, loss = small(lr=0.0)
    seen, some = [], list(range(1, count + 1))
    some = iter(some) if once else some
    history = fit(lambda b: seen.append(b) or loss(b), some, optimizer, steps, progress=False)
    expected = count if steps is None else min(steps, count) if once else steps
    assert seen == [k % count + 1 for k in range(expected)]
    assert len(history) == expected
    if once:  # read no further than it was used
        assert list(some) == list(range(expected + 1, count + 1))


def test_each_pass_over_a_data_set_may_have_another_order():
    class Shuffled:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __iter__(self):
            return iter(self.rng.permutation(8))

    (optimizer, loss), seen = small(lr=0.0), []
    fit(lambda b: seen.append(b) or loss(1.0), Shuffled(), optimizer, 16, progress=False)
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert seen[:8] != seen[8:]


def test_gradients_are_new_at_each_step_there_in_the_callback_and_none_at_the_end():
    optimizer, loss = small()
    optimizer.parameters[0].grad = np.array([100.0, 100.0])  # left by somebody
    norms = []

    def callback(step, history):
        squares = [np.sum(p.grad**2) for p in optimizer.parameters]
        norms.append(math.sqrt(sum(squares)))

    history = fit(loss, [1.0], optimizer, 3, clip=0.5, progress=False, callback=callback)
    assert norms == pytest.approx([0.5] * 3)
    assert history.grad_norm[0] == pytest.approx(math.sqrt(0.5**2 + 1 + 5**2))
    assert [p.grad for p in optimizer.parameters] == [None, None]


def test_the_callback_sees_each_step_sets_the_lr_and_ends_the_training():
    optimizer, loss = small()
    seen = []

    def callback(step, history):
        seen.append((step, len(history), optimizer.lr))
        optimizer.lr = 0.5 * optimizer.lr
        return np.True_ if step == 3 else 1.5  # what is no answer ends nothing

    history = fit(loss, [1.0], optimizer, 9, progress=False, callback=callback)
    assert seen == [(1, 1, 0.01), (2, 2, 0.005), (3, 3, 0.0025)]
    assert len(history) == 3
    assert not history.interrupted


def test_a_history_says_how_it_went():
    history = History([2.3026, 1.0, 0.4519], [1.0, 1.0, 1.0])
    assert repr(history) == "History(3 steps, loss 2.303 -> 0.4519)"
    assert len(history) == 3
    assert repr(History([1], [1], True)) == "History(1 steps, loss 1 -> 1, interrupted)"
    assert repr(History()) == "History(0 steps)"


# ----- the same to the bit


@pytest.mark.parametrize(("scan", "suffix"), [(False, "npz"), (True, "safetensors")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stopped_saved_loaded_and_continued_is_as_if_nothing_had_been(
    name, dtype, scan, suffix, tmp_path
):
    """With an lr that changes at each step, and is not set again."""
    Optimizer, options = OPTIMIZERS[name]

    def begin(seed):
        net = Net(seed, dtype, scan)
        return net, Optimizer(net.named_parameters(), lr=0.05, **options)

    def go(net, optimizer, some):
        def callback(step, history):
            optimizer.lr = np.float64(0.9) * optimizer.lr

        return fit(net.loss, some, optimizer, None, 0.5, False, callback)

    def run(*parts):
        (net, optimizer), losses = begin(0), []
        for k, part in enumerate(parts):
            if k:
                tg.save(tmp_path / f"net.{suffix}", net)
                tg.save(tmp_path / f"optimizer.{suffix}", optimizer)
                net, optimizer = begin(k)
                tg.load(tmp_path / f"net.{suffix}", net)
                tg.load(tmp_path / f"optimizer.{suffix}", optimizer)
            losses += go(net, optimizer, part).loss
        return state(optimizer), losses

    data = batches(6, dtype)
    whole = run(data)
    assert run(data) == whole
    assert run(data[:1], data[1:4], data[4:]) == whole
    assert run(data[1:], data[:1]) != whole
    assert begin(0)[1].state_dict().keys() == whole[0].keys() - set(range(9))


# ----- what is not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_loss_that_is_not_finite_brings_back_the_last_good_weights(bad, step):
    """The weights with which the loss was last finite: they made the loss before this one."""
    states = trajectory(5, Optimizer=tg.Adam)
    optimizer, loss = small(tg.Adam)
    factors = [1.0] * (step - 1) + [bad]
    with pytest.raises(NonFiniteError) as caught:
        fit(loss, factors, optimizer, progress=False)
    message = str(caught.value)
    assert message.startswith(f"fit, step {step}: the loss is {bad}. Call fit inside tg.detect")
    kept = max(0, step - 2)
    expected = f"after {kept} steps, the last with a finite loss. Lower lr, clip"
    assert (expected if step > 1 else "look at the first batch") in message
    assert state(optimizer) == states[kept]
    assert len(caught.value.history) == len(caught.value.history.loss) == step - 1
    assert [p.grad for p in optimizer.parameters] == [None, None]
    fit(loss, [1.0], optimizer, 2, progress=False)  # and it can go on from there
    assert state(optimizer) == states[kept + 2]


def infinite_slope(p, step_of):
    """A finite loss whose gradient is not finite from step 3 on."""

    def loss(batch):
        return (p**2).sum() + (np.sqrt(p * 0.0) if next(step_of) == 3 else p * 0.0).sum()

    return loss


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_gradient_that_is_not_finite_is_named_and_no_step_made(clip):
    p = tg.Parameter(np.array([1.0, 2.0]))
    optimizer, states = tg.SGD({"W": p}, lr=0.1), []
    loss = infinite_slope(p, itertools.count(1))
    with pytest.raises(
        NonFiniteError, match=r"step 3: the gradient of parameter W, .*after 2 st"
    ) as e:
        fit(loss, [0], optimizer, 9, clip, False, lambda *_: states.append(state(optimizer)))
    assert len(e.value.history) == 2
    assert state(optimizer) == states[-1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_inside_detect_nonfinite_the_operation_is_named():
    p = tg.Parameter(np.array([1.0, 2.0]))
    with tg.detect_nonfinite(), pytest.raises(NonFiniteError, match=r"fit, step 3: .* sqrt #") as e:
        fit(infinite_slope(p, itertools.count(1)), [0], tg.SGD([p], lr=0.1), 9, progress=False)
    assert isinstance(e.value.__cause__, NonFiniteError)  # whose traceback leads to the line
    assert len(e.value.history) == 2


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_that_the_last_step_spoilt_are_not_handed_out(steps):
    optimizer, loss = small(momentum=0.5)
    states = trajectory(steps, momentum=0.5)

    def last(batch):
        optimizer.lr = batch
        return loss(1.0)

    with pytest.raises(NonFiniteError, match=f"step {steps}: it left .* after {steps - 1} steps"):
        fit(last, [0.01] * (steps - 1) + [math.inf], optimizer, progress=False)
    optimizer.lr = 0.01
    assert state(optimizer) == states[steps - 1]


def test_a_weight_that_one_step_spoils_and_no_loss_reads_is_found_at_once():
    table = tg.Parameter(np.zeros(2))
    optimizer = tg.SGD([table], lr=100.0)
    with (
        pytest.raises(NonFiniteError, match=r"step 1: it left .* after 0 steps"),
        np.errstate(all="ignore"),
    ):
        fit(lambda batch: (table[batch] * 1e308).sum(), [1, 0, 1], optimizer, steps=3)
    assert np.isfinite(table.data).all()


def test_a_parameter_that_is_not_finite_from_the_start_may_stay_so():
    mask, w = tg.Parameter(np.array([-np.inf, 0.0])), tg.Parameter(np.ones(2))
    optimizer = tg.SGD({"mask": mask, "w": w}, lr=0.1)
    history = fit(lambda x: (x * w + tg.softmax(mask.detach())).sum(), [1.0], optimizer, steps=3)
    assert len(history) == 3


def test_what_astype_changes_on_the_way_does_not_hide_the_error():
    net = tg.Linear(1, 1, rng=0)

    def loss(x):
        if x < 0:
            net.astype(np.float32)
            raise ValueError("mine")
        return net(np.ones((1, 1))).sum()

    with pytest.raises(ValueError, match="mine"):
        fit(loss, [1, 1, -1], tg.Adam(net.parameters()), progress=False)
    assert net.W.dtype == np.float32


def test_steps_without_end_and_a_length_that_is_not_known():
    class Loader:
        def __iter__(self):
            return iter([1.0, 2.0])

        def __len__(self):
            raise TypeError("not known")

    optimizer, loss = small()
    assert len(fit(loss, Loader(), optimizer, progress=False)) == 2
    history = fit(loss, [1.0], optimizer, steps=sys.maxsize, callback=lambda step, _: step == 3)
    assert len(history) == 3


def test_progress_1_is_progress_true(capsys):
    optimizer, loss = small()
    fit(loss, [1.0], optimizer, progress=1)
    assert capsys.readouterr().err.startswith("step 1/1")


def test_the_bar_is_gone_before_an_error_speaks(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    optimizer, loss = small()
    try:
        fit(lambda x: loss(x) if x else None, [1.0, 1.0, 0.0], optimizer)
    except NoGradientError:
        written = terminal.getvalue()
    assert "step 1/3" in written
    assert re.search(r"\r *\r$", written)


# ----- Ctrl-C


def spoilt_step(optimizer, at, error=KeyboardInterrupt):
    """Make `optimizer` raise in the middle of step `at`: one Parameter has changed."""
    plain, calls = optimizer.change, itertools.count(1)

    def change(k, g):
        result = plain(k, g)
        if k == 1 and next(calls) == at:
            raise error
        return result

    optimizer.change = change


@pytest.mark.parametrize("where", ["loss", "step", "callback", "batches", "progress"])
def test_ctrl_c_returns_what_is_there(where):
    optimizer, loss = small(tg.Adam)

    def interrupt(at):
        for k in itertools.count(1):
            if k == at:
                raise KeyboardInterrupt
            yield 1.0

    pulse, options = interrupt(3), {"progress": False}
    if where == "step":
        spoilt_step(optimizer, 3)
    if where == "callback":
        options["callback"] = lambda *_: next(pulse) and None
    if where == "progress":
        options["progress"] = lambda steps: zip(steps, pulse, strict=False)
    history = fit(
        lambda b: loss(next(pulse) if where == "loss" else b),
        pulse if where == "batches" else [1.0],
        optimizer,
        9,
        **options,
    )
    assert history.interrupted
    count = 3 if where == "callback" else 2
    assert len(history) == len(history.loss) == count
    assert state(optimizer) == trajectory(count, Optimizer=tg.Adam)[-1]
    assert [p.grad for p in optimizer.parameters] == [None, None]


def test_any_other_error_in_a_step_leaves_whole_steps_too():
    optimizer, loss = small(tg.Adam)
    spoilt_step(optimizer, 3, MemoryError)
    with pytest.raises(MemoryError):
        fit(loss, [1.0], optimizer, 9, progress=False)
    assert state(optimizer) == trajectory(2, Optimizer=tg.Adam)[-1]
    assert [p.grad for p in optimizer.parameters] == [None, None]


def interrupted_at(event, count=2):
    """Run with Ctrl-C before one of all the byte codes in these files; did it come?"""
    optimizer, loss = small(momentum=0.5)
    files, left = {m.__file__ for m in (train, optim, record, contextlib)}, [event]

    def trace(frame, kind, argument):
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if kind == "opcode":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return trace

    before, history = sys.gettrace(), None
    try:
        sys.settrace(trace)
        history = fit(loss, [1.0], optimizer, count, progress=False)
    except KeyboardInterrupt:  # at the very beginning or end
        pass
    finally:
        sys.settrace(before)
    return left[0] <= 0, history, state(optimizer)


def test_ctrl_c_at_any_moment_leaves_whole_steps():
    states, returned, engine = trajectory(2, momentum=0.5), 0, vars(record.record).copy()
    for event in itertools.count(1, 3):
        came, history, found = interrupted_at(event)
        if not came:
            break
        assert found in states
        assert vars(record.record) == engine
        if history is not None:
            returned += 1
            assert found == states[len(history)]
            assert len(history.loss) == len(history)
            assert history.interrupted
    assert event > 1000
    assert returned > 0.8 * event / 3


SCRIPT = """
import itertools, sys
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn.train import fit

def run(steps, callback=None):
    rnn = tg.RNN(tg.GRUCell(2, 8, rng=0), scan=True)
    x = np.random.default_rng(0).standard_normal((9, 4, 2))
    optimizer = tg.Adam(rnn.parameters(), lr=1e-3)
    loss = lambda batch: (rnn(batch).last ** 2).sum()
    history = fit(loss, itertools.repeat(x), optimizer, steps, progress=False, callback=callback)
    return history, [p.data.tobytes() for p in rnn.parameters()]

history, weights = run(None, lambda step, _: print("started", flush=True) if step == 3 else None)
print(history.interrupted, len(history) >= 3, weights == run(len(history))[1])
"""


def test_a_real_signal():
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "started\n"
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=60)[0] == "True True True\n"
    assert run.returncode == 0


# ----- progress


class Clock:
    """perf_counter, a little later at each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(monkeypatch, stream, some, steps=None, tick=0.01, clock=None, **options):
    monkeypatch.setattr(train, "perf_counter", clock or Clock(tick))
    monkeypatch.setattr(sys, "stderr", stream)
    optimizer, loss = small(lr=0.0)
    fit(loss, some, optimizer, steps, **options)
    return stream.getvalue()


def screen(text):
    """What one line of a terminal shows in the end."""
    shown = {}
    column = 0
    for c in text:
        shown, column = (shown, 0) if c == "\r" else (shown | {column: c}, column + 1)
    return "".join(shown[k] for k in sorted(shown)).rstrip()


def test_on_a_terminal_one_line_is_drawn_over_and_over_and_then_cleared(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = written(monkeypatch, Terminal(), [1.0], 200, tick=1 / 64)
    drawn = text.split("\r")[1:-2]
    assert len(drawn) == 200 // 7 + 1  # ten times a second, at most
    assert "\n" not in text
    assert screen(text) == ""
    last = drawn[-1].rstrip()
    assert screen(text[: text.index(last) + len(last)]) == last
    shown = "step 71/200 [###       ]  loss 1.250  |grad| 5.12  64/s  0:00:02 left"
    assert drawn[10].rstrip() == shown


def test_nothing_is_left_of_a_longer_line(monkeypatch):
    """Here steps/s fall from 1,000 to 5."""
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock, wrong = Terminal(), Clock(0.001), []

    def callback(step, history):
        clock.step *= 1.3
        last = stream.getvalue().split("\r")[-1]
        if screen(stream.getvalue()) != last.rstrip():
            wrong.append(last)

    text = written(monkeypatch, stream, [1.0], 40, clock=clock, callback=callback)
    assert wrong == []
    lengths = [len(line.rstrip()) for line in text.split("\r")[1:-2]]
    assert min(b - a for a, b in itertools.pairwise(lengths)) < 0


def test_the_line_fits_into_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text = written(monkeypatch, Terminal(), [1.0], 2000)
    assert max(map(len, text.split("\r"))) == 29


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        (200, range(20, 201, 20)),
        (7, range(1, 8)),
        (21, [*range(3, 22, 3)]),
        (11, [2, 4, 6, 8, 10, 11]),
    ],
)
def test_elsewhere_about_ten_lines(monkeypatch, steps, lines):
    for some, given_ in (([1.0], steps), ([1.0] * steps, None), (itertools.repeat(1.0), steps)):
        text = written(monkeypatch, io.StringIO(), some, given_)
        assert [line.split()[1] for line in text.splitlines()] == [f"{k}/{steps}" for k in lines]
        assert "\r" not in text
        assert text.endswith("  0:00:00 left\n")


def test_where_nobody_knows_the_end_lines_get_rarer_and_the_last_step_has_one(monkeypatch):
    text = written(monkeypatch, io.StringIO(), iter([1.0] * 123), tick=0.4)
    steps = [line.split("  ")[0] for line in text.splitlines()]
    assert steps == [f"step {k}" for k in (1, 2, 5, 10, 20, 50, 100, 123)]
    assert "left" not in text
    assert "2.5/s" in text
    stop = lambda step, history: step == 10
    text = written(monkeypatch, io.StringIO(), [1.0], 200, callback=stop)
    assert [line.split("  ")[0] for line in text.splitlines()] == ["step 10/200"]


def test_the_loss_shown_is_the_mean_of_the_last_ones():
    history = History([100.0] + [1.0] * 10 + [3.0] * 10, [1.0] * 21)
    assert "loss 2.000" in train._text(history, None, 1.0, False)


@pytest.mark.parametrize("progress", [False, None])
def test_silence(monkeypatch, progress):
    assert written(monkeypatch, Terminal(), [1.0], 200, progress=progress) == ""


def test_without_a_stderr_it_trains_silently(monkeypatch):
    optimizer, loss = small()
    monkeypatch.setattr(sys, "stderr", None)
    assert len(fit(loss, [1.0], optimizer, 3)) == 3


def test_progress_may_be_any_callable_around_the_steps(monkeypatch):
    optimizer, loss = small()
    got, ends = [], []

    def bar(steps):
        got.append(steps)
        try:
            yield from steps
        finally:
            ends.append(True)

    fit(loss, iter([1.0] * 3), optimizer, 5, progress=bar)
    fit(loss, [1.0] * 4, optimizer, progress=bar)
    fit(loss, iter([1.0] * 3), optimizer, progress=bar)
    fit(loss, [1.0], optimizer, 5, progress=bar, callback=lambda *_: True)
    assert [type(steps) for steps in got] == [range, range, itertools.count, range]
    assert [len(steps) for steps in got if isinstance(steps, range)] == [5, 4, 5]
    assert ends == [True] * 4
    assert len(fit(loss, [1.0], optimizer, 5, progress=lambda steps: steps)) == 5


def test_progress_by_tqdm():
    tqdm = pytest.importorskip("tqdm").tqdm
    optimizer, loss = small()
    file = io.StringIO()
    fit(loss, [1.0], optimizer, 5, progress=lambda steps: tqdm(steps, file=file))
    assert "5/5" in file.getvalue()


# ----- arguments


def constant(batch):
    return tg.Tensor(1.0)


def without_record(batch):
    with tg.no_grad():
        return tg.Parameter(1.0) * 2.0


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda b: None, NoGradientError, "got a NoneType .was `return` forgotten"),
        (lambda b: 1.0, NoGradientError, r"without float\(\) or .item\(\) on it; got a float"),
        (lambda b: tg.Parameter(np.ones(2)) * 1.0, NotScalarError, r"shape \(2,\)"),
        (constant, NoGradientError, "needs no gradient"),
        (without_record, NoGradientError, "inside no_grad"),
        (lambda b: tg.Parameter(1.0) * 2.0, UnusedInputError, "none of the optimizer's Parameters"),
    ],
)
def test_a_loss_that_cannot_train_says_why(loss, error, message):
    optimizer, _ = small()
    with pytest.raises(error, match=message):
        fit(loss, [1.0], optimizer, 3, progress=False)


def test_one_parameter_may_be_unused():
    optimizer, _ = small()
    before = state(optimizer)
    fit(lambda b: optimizer.parameters[1] ** 2, [1.0], optimizer, 1, progress=False)
    assert [state(optimizer)[k] == before[k] for k in (0, 1)] == [True, False]


def never_called():
    yield 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": never_called}, "a function that yields batches must be called"),
        ({"batches": 3}, r"got 3\. For one batch give \[batch\]"),
        ({"optimizer": [tg.Parameter(1.0)]}, r"expected an optimizer, tg\.SGD"),
        ({"steps": -1}, "steps=-1: expected a whole number"),
        ({"steps": 1.5}, r"steps=1\.5"),
        ({"loss": [1.0]}, "loss and batches in the wrong order"),
        ({"batches": [], "steps": 2}, "gave no batch"),
        ({"batches": iter([]), "steps": 2}, "gave no batch"),
        ({"batches": iter([])}, "gave no batch"),  # a generator that was used up before
        ({"clip": -1.0}, "clip=-1"),
        ({"clip": math.nan}, "clip=nan"),
        ({"batches": {"x": 1}}, "a dict, and so its keys"),
        ({"progress": iter([])}, "True, False, or a callable"),
    ],
)
def test_arguments_that_do_not_fit(changes, message):
    optimizer, loss = small()
    own = {"loss": loss, "batches": [1.0], "optimizer": optimizer, "progress": False}
    with pytest.raises(ShapeError, match=message):
        fit(**own | changes)


def test_nothing_to_do_is_no_error():
    optimizer, loss = small()
    before = state(optimizer)
    for some, steps in (([], None), ([1.0], 0), (iter([1.0]), np.int64(0))):
        assert len(fit(loss, some, optimizer, steps)) == 0
    assert state(optimizer) == before
    optimizer.parameters[0].data = [1.0, math.nan]
    assert len(fit(loss, [1.0], optimizer, 0)) == 0
