"""Losses over time. Padding never changes a loss, and never sends a gradient back.

What padding is, `valid_steps` says, in functions.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import ShapeError, whole_output, wrong_targets
from .functions import (
    as_array,
    integers_below,
    log_softmax,
    refuse,
    root_mean_square,
    softplus,
    valid_steps,
    values,
)
from .vjp import Array


def cross_entropy(
    logits: Array,
    targets: Array,
    lengths: Array = None,
    mask: Array = None,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy of integer targets, in nats, from unnormalised log-probabilities.

        tg.cross_entropy(np.zeros((5, 2)), np.zeros(5, int))          # 0.6931... = log(2)

    logits      (T, N, K), (N, K), (T, K), ...: any leading axes, K classes
    targets     integers 0..K-1, of the leading shape
    lengths     (N,), steps that count in each sequence of a (T, N, K) batch; or mask (T, N)
    reduction   "mean" over the valid entries, "sum" over all of them (the tutorials' J for one
                sequence), "time_sum": summed over time (the first axis), averaged over the batch

    A loss over no entry at all is 0. Raises ShapeError where shapes, classes or reduction do not
    fit, DtypeError for targets that are no integers.
    """
    targets, shape = values(targets), _shape(logits)
    if targets.shape != shape[:-1]:
        raise wrong_targets(shape, targets.shape)
    valid = _valid(targets.shape, lengths, mask)
    if valid is not None:
        targets = np.where(valid, targets, 0)
        logits = np.where(valid[..., None], logits, 0)  # NaN in padding goes no further
    targets = integers_below(shape[-1], targets, "targets", "class numbers", maskable=True)
    picked = np.take_along_axis(log_softmax(as_array(logits)), targets[..., None], axis=-1)
    return _reduced(-picked[..., 0], valid, reduction)


def binary_cross_entropy(
    logits: Array,
    targets: Array,
    lengths: Array = None,
    mask: Array = None,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy of yes-or-no targets, in nats: K independent questions at each step.

        tg.binary_cross_entropy(np.zeros((5, 1)), np.ones((5, 1)))    # 0.6931... = log(2)

    logits   (T, N, K) or any other shape: the log-odds of yes, so a model needs no sigmoid at its
             end. A single question has K = 1, an axis of its own
    targets  of the same shape, in [0, 1]: integers, booleans, or probabilities

    The mean over the last axis for each step, as in `mse`, then reduced; lengths, mask and
    reduction as for `cross_entropy`. Exact at both ends: log-odds of 1000 make no overflow.
    Raises ShapeError where shapes, targets or reduction do not fit.
    """
    logits, targets, valid = _aligned(logits, targets, lengths, mask)
    read = values(targets)
    refuse(~((read >= 0) & (read <= 1)), read, "targets", "[0, 1]: expected 0, 1 or a probability")
    if read.dtype.kind in "biu":  # 0 and 1 are the same in every dtype: the logits' one is kept
        targets = read.astype(logits.dtype)
    # -log(sigmoid(z)) = softplus(-z), and for "no" the other way round: nothing cancels
    losses = targets * softplus(-logits) + (1 - targets) * softplus(logits)
    return _reduced(np.mean(losses, axis=-1), valid, reduction)


def mse(
    output: Array,
    target: Array,
    lengths: Array = None,
    mask: Array = None,
    reduction: str = "mean",
) -> Any:
    """Mean squared error: the mean over the last axis for each step, then reduced.

        tg.mse(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))        # 2.0

    output, target  (T, N, K) or any other shape, the same for both; lengths, mask and reduction
    as for `cross_entropy`. Raises ShapeError where shapes or reduction do not fit.
    """
    output, target, valid = _aligned(output, target, lengths, mask)
    return _reduced(np.mean(np.square(output - target), axis=-1), valid, reduction)


def rmse(
    output: Array,
    target: Array,
    lengths: Array = None,
    mask: Array = None,
    reduction: str = "mean",
) -> Any:
    """Root mean square error: sqrt(mean over the last axis) for each step, then reduced.

        tg.rmse(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))       # 1.4142...

    Arguments as for `mse`, (T, N, K) or any other shape. The first tutorial's loss:
    `reduction="sum"` adds up the errors of all times. Where an error is exactly 0 its gradient is 0
    (a limit does not exist there). Raises ShapeError as `mse`.
    """
    output, target, valid = _aligned(output, target, lengths, mask)
    return _reduced(root_mean_square(output - target), valid, reduction)


def _aligned(output: Array, target: Array, lengths: Array, mask: Array) -> tuple[Any, Any, Any]:
    """Output and target of one shape, both 0 in padding, and which steps are valid."""
    shape = _shape(output)
    if shape != _shape(target):
        raise ShapeError(f"output {shape} and target {_shape(target)} must have the same shape")
    valid = _valid(shape[:-1], lengths, mask)
    arrays = [as_array(output), as_array(target)]
    if valid is not None:
        arrays = [np.where(valid[..., None], a, 0) for a in arrays]
    return arrays[0], arrays[1], valid


def _shape(output: Array) -> Any:
    """The shape of what a loss is given, which is often a whole RNNOutput by mistake."""
    if isinstance(output, tuple):
        raise whole_output("a loss")
    return np.shape(output)


def _valid(shape: tuple[int, ...], lengths: Array, mask: Array) -> Any:
    if not shape and (lengths is not None or mask is not None):
        raise ShapeError("lengths and mask need a time axis: give (T, N, K) or (T, K)")
    return valid_steps(shape, lengths, mask) if shape else None


def _reduced(losses: Any, valid: Any, reduction: str) -> Any:
    """One number from losses (T, N) or (T,); padding is left out."""
    if valid is not None:
        losses = np.where(valid, losses, 0)
    total = np.sum(losses)
    shape = np.shape(losses)
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / max(1, math.prod(shape) if valid is None else int(valid.sum()))
    if reduction == "time_sum":
        return total / max(1, math.prod(shape[1:]))
    raise ShapeError(f'reduction={reduction!r}: expected "mean", "sum" or "time_sum"')
