"""fit: the loop that every training is, with the care that one does not take each time.

The steps that it makes are the optimisers', in optim.py.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from datetime import timedelta
from operator import index
from shutil import get_terminal_size
from time import perf_counter
from typing import Any

import numpy as np

from . import errors
from .errors import NoGradientError, NonFiniteError, ShapeError, UnusedInputError
from .optim import Optimizer, clip_grad_norm
from .record import record
from .tensor import Tensor


@dataclass(repr=False)
class History:
    """What `fit` saw: one number for each finished step.

        w = tg.Parameter(np.ones(2))
        optimizer = tg.SGD([w], lr=0.1)
        history = tg.fit(lambda batch: (w * w).sum(), range(3), optimizer, progress=False)
        history                      # History(3 steps, loss 2 -> 0.8192)
        len(history)                 # 3

    loss         of each batch, before the step that it led to
    grad_norm    the norm of all gradients together, before clipping
    interrupted  whether Ctrl-C ended it
    Raises nothing of its own.
    """

    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.grad_norm)

    def __repr__(self) -> str:
        losses = f", loss {self.loss[0]:.4g} -> {self.loss[-1]:.4g}" if self.loss else ""
        return f"History({len(self)} steps{losses}{', interrupted' if self.interrupted else ''})"


def fit(
    loss: Callable[[Any], Any],
    batches: Iterable[Any],
    optimizer: Optimizer,
    steps: int | None = None,
    clip: float | None = None,
    progress: Any = True,
    callback: Callable[[int, History], Any] | None = None,
) -> History:
    """Train: for each batch a loss, its gradient, and a step of the optimiser.

        optimizer = tg.Adam(rnn.named_parameters(), lr=1e-3)

        def loss(batch):
            x, target = batch
            return tg.mse(rnn(x).last, target)

        history = tg.fit(loss, batches, optimizer, steps=100, clip=1.0)
        len(history)              # 100

    loss       loss(batch) is a Tensor with one element, of any shape
    batches    anything to loop over: a list, a generator; what a batch is, only `loss` knows
    steps      how many. A list starts over when it ends, and with each call of fit; a generator is
               read no further than that, and ends the training if it ends earlier. None: each batch
               once, as far as they go
    clip       scale the gradients to at most this norm, as `clip_grad_norm` does
    progress   True: a bar on a terminal, some ten lines elsewhere, on stderr. False: nothing. Or a
               callable around the steps, such as tqdm: it is given range(steps), or a count without
               end where nobody knows how many, and what it returns is looped over
    callback   callback(step, history) after each step, counted from 1 in each call of fit; if it
               returns True, the training ends. Weights are new, gradients (clipped) still there,
               and `optimizer.lr` may be set, for the steps to come

    Whatever ends it, the weights and the optimiser's state are those after a whole step, and their
    gradients None. (Those of Parameters that the optimiser was not given add up, as ever.) Ctrl-C
    returns the History, with `.interrupted` set. Where the loss, a gradient or a new weight is not
    finite, weights and state go back to where the loss was last finite (the lr stays), and
    NonFiniteError says at which step, and has the History as `.history`.
    Raises also NoGradientError, NotScalarError and UnusedInputError for a loss that cannot train
    these Parameters, ShapeError for arguments that do not fit.
    """
    total = _checked_total(loss, batches, optimizer, steps)
    if clip is not None and not clip >= 0:
        raise ShapeError(f"fit: clip={clip}: expected a number that is not negative, or None")
    if not callable(progress) and progress not in (True, False, None):
        raise ShapeError(f"fit: progress={progress!r}: expected True, False, or a callable (tqdm)")
    history, limit = History(), math.inf if clip is None else clip
    finite = [p for p in optimizer.parameters if np.isfinite(p.data).all()]  # no masks of -inf
    shown: Any = itertools.count() if total is None else range(total)
    own = progress and not callable(progress) and sys.stderr
    bar = _shown(shown, total, history) if own else None
    shown = progress(shown) if callable(progress) else bar or shown
    # After how many steps, and what was there. Nothing is copied, as nobody writes into an array:
    # it costs the memory of an older set of weights and of the optimiser's state, and no time.
    before = good = 0, optimizer.snapshot()
    engine = {name: getattr(record, name) for name in ENGINE}
    try:
        # first the count: at its end the batches must not be asked for one more
        for _, batch in zip(shown, batches if steps is None else _again(batches), strict=False):
            before = len(history), optimizer.snapshot()
            optimizer.zero_grad()
            try:
                value = _one_number(loss(batch))
                if not math.isfinite(number := float(value)):
                    raise NonFiniteError(f"the loss is {number}{FIND}")
                good = before
                value.backward()
                norm = clip_grad_norm(optimizer.named, limit)
            except NonFiniteError as error:
                optimizer.restore(good[1])
                before = good
                raise _not_finite(error, len(history) + 1, good[0], history) from error
            if not history and all(p.grad is None for p in optimizer.parameters):
                raise UnusedInputError(
                    "fit: the loss depends on none of the optimizer's Parameters: was it made for "
                    "another network, or before layers were replaced?"
                )
            optimizer.step()
            history.loss.append(number)
            history.grad_norm.append(norm)  # with this, the step is finished
            if not all(np.isfinite(p.data).all() for p in finite):
                optimizer.restore(good[1])
                what = "it left weights that are not finite"
                raise _not_finite(what, len(history), good[0], history)
            stop = None if callback is None else callback(len(history), history)
            if isinstance(stop, (bool, np.bool_)) and stop:  # not: a loss that it returned
                break
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        vars(record).update(engine)  # Ctrl-C may come between the lines of a clean-up, too
        if len(history) == before[0]:  # half a step, at most
            optimizer.restore(before[1])
            del history.loss[len(history) :]
        optimizer.zero_grad()
        if bar is not None:
            bar.close()  # the line ends before what an error has to say
    if total != 0 and not history and not history.interrupted:
        raise ShapeError(
            "fit: batches gave no batch. A generator serves once: make a new one, or give a list"
        )
    return history


# ----- what is asked of the arguments ------------------------------------------------------------

ENGINE = ("tracking", "tracing", "place", "watch", "check")  # what a thread is doing
FIND = ". Call fit inside tg.detect_nonfinite() to find the operation"


def _checked_total(loss: Any, batches: Any, optimizer: Any, steps: Any) -> int | None:
    """How many steps there will be, where one can know; an error for arguments that do not fit."""
    if not callable(loss):
        raise ShapeError(
            f"fit(loss, batches, optimizer): loss is a function of a batch; got {loss!r:.60}. Are "
            "loss and batches in the wrong order?"
        )
    if not isinstance(batches, Iterable):
        raise ShapeError(
            f"fit: expected a list of batches, or a generator; got {batches!r}. For one batch give "
            "[batch]; a function that yields batches must be called"
        )
    if isinstance(batches, Mapping):
        raise ShapeError(
            "fit: batches is a dict, and so its keys would be the batches: for one "
            "batch give [batch]"
        )
    if not isinstance(optimizer, Optimizer):
        raise ShapeError(
            f"fit: expected an optimizer, tg.SGD(module.parameters(), lr=0.1); got {optimizer!r}"
        )
    if steps is None:
        try:
            return len(batches) if isinstance(batches, Sized) else None
        except TypeError:  # it has a length that it does not know
            return None
    try:
        total = index(steps)
    except TypeError:
        total = -1
    if total < 0:
        raise ShapeError(f"fit: steps={steps!r}: expected a whole number that is not negative")
    return total


def _one_number(value: Any) -> Tensor:
    """The loss, if it can be one."""
    if not isinstance(value, Tensor):
        forgotten = " (was `return` forgotten?)" if value is None else ""
        raise NoGradientError(
            f"fit: loss(batch) must return a Tensor, without float() or .item() on it; got a "
            f"{type(value).__name__}{forgotten}"
        )
    if value.size != 1:
        raise errors.loss_with_several_elements(value.shape)
    if not value.requires_grad:
        raise errors.needs_no_gradient()
    return value


def _not_finite(what: Any, step: int, kept: int, history: History) -> NonFiniteError:
    """The error that ends a training; `kept` is after how many steps the weights were good."""
    then = "No step was made: look at the first batch, and at how the weights start"
    if history:
        then = (
            f"The weights and what the optimizer remembers are again those after {kept} steps, the "
            "last with a finite loss. Lower lr, clip the gradient (clip=1.0), or look at this batch"
        )
    error: Any = NonFiniteError(f"fit, step {step}: {what}. {then}")
    error.history = history
    return error  # type: ignore[no-any-return]


def _again(batches: Iterable[Any]) -> Iterator[Any]:
    """Pass after pass, until one is empty: the second already, where batches is an iterator."""
    some = True
    while some:
        some = False
        for batch in batches:
            some = True
            yield batch


# ----- progress ----------------------------------------------------------------------------------


def _shown(steps: Iterable[int], total: int | None, history: History) -> Generator[int, None, None]:
    """The steps; what there is to say comes out between them."""
    terminal = sys.stderr.isatty()
    started, drawn, width, said = perf_counter(), -math.inf, 0, 0
    try:
        for k in steps:
            yield k
            now = perf_counter()
            if (now - drawn >= 0.1) if terminal else _due(k + 1, total):
                text, drawn, said = _text(history, total, now - started, terminal), now, k + 1
                _write(f"\r{text:<{width}}" if terminal else text + "\n")
                width = len(text)
    finally:
        if terminal:
            _write(f"\r{'':{width}}\r")
        elif said < len(history):  # it ended between two lines
            _write(_text(history, total, perf_counter() - started, terminal) + "\n")


def _write(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _due(step: int, total: int | None) -> bool:
    """Whether a line is due: ten in all, or at 1, 2, 5, 10, 20, 50, ... where none knows the end.

    [step for step in range(1, 100) if _due(step, None)]      # [1, 2, 5, 10, 20, 50]
    """
    if total is None:
        return str(step).rstrip("0") in ("1", "2", "5")
    return step % -(-total // 10) == 0


def _text(history: History, total: int | None, seconds: float, bar: bool) -> str:
    """One line: the step, the mean of the last losses, the gradient's norm, steps/s, time left."""
    step, recent = len(history), history.loss[-20:]
    rate = step / max(seconds, 1e-9)
    parts = [
        f"step {step}" if total is None else f"step {step}/{total}",
        f"loss {sum(recent) / len(recent):#.4g}",
        f"|grad| {history.grad_norm[-1]:#.3g}",
        f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s",
    ]
    if total is not None:
        left = min((total - step) / rate, 1e12)  # timedelta knows no more
        parts.append(f"{timedelta(seconds=round(left))} left")
        if bar:
            parts[0] += f" [{'#' * (10 * step // total):<10}]"
    text = "  ".join(parts)
    return text[: get_terminal_size().columns - 1] if bar else text
