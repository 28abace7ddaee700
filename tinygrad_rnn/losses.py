"""Losses over time. Padding never changes a loss, and never sends a gradient back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError
from .functions import log_softmax, root_mean_square, valid_steps
from .tensor import Tensor
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

    A loss over no entry at all is 0. Raises ShapeError, DtypeError.
    """
    targets = np.asarray(targets.data if isinstance(targets, Tensor) else targets)
    if targets.dtype.kind not in "iu":
        raise DtypeError(f"targets must be integer class numbers, not {targets.dtype}")
    shape = np.shape(logits)
    if targets.shape != shape[:-1]:
        raise ShapeError(
            f"cross_entropy: logits {shape} need targets of shape {shape[:-1]}, got {targets.shape}"
        )
    valid = _valid(targets.shape, lengths, mask)
    if valid is not None:
        targets = np.where(valid, targets, 0)
        logits = np.where(valid[..., None], logits, 0)  # NaN in padding goes no further
    wrong = (targets < 0) | (targets >= shape[-1])
    if wrong.any():
        index = tuple(int(k) for k in np.argwhere(wrong)[0])
        raise ShapeError(
            f"targets[{', '.join(map(str, index))}]={targets[index]} is not in 0..{shape[-1] - 1}, "
            f"the {shape[-1]} classes of the logits"
        )
    picked = np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)
    return _reduced(-picked[..., 0], valid, reduction)


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
    as for `cross_entropy`. Raises ShapeError.
    """
    error, valid = _error(output, target, lengths, mask)
    return _reduced(np.mean(np.square(error), axis=-1), valid, reduction)


def rmse(
    output: Array,
    target: Array,
    lengths: Array = None,
    mask: Array = None,
    reduction: str = "mean",
) -> Any:
    """Root mean square error: sqrt(mean over the last axis) for each step, then reduced.

        tg.rmse(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))       # 1.4142...

    Arguments as for `mse`. The first tutorial's loss: `reduction="sum"` adds up the errors of all
    times. Where an error is exactly 0 its gradient is 0 (a limit does not exist there).
    """
    error, valid = _error(output, target, lengths, mask)
    return _reduced(root_mean_square(error), valid, reduction)


def _error(output: Array, target: Array, lengths: Array, mask: Array) -> tuple[Any, Any]:
    """output - target, 0 in padding, and which steps are valid."""
    if isinstance(output, tuple):
        raise ShapeError("a layer returns several things: give its .outputs or .last to the loss")
    if np.shape(output) != np.shape(target):
        raise ShapeError(
            f"output {np.shape(output)} and target {np.shape(target)} must have the same shape"
        )
    valid = _valid(np.shape(output)[:-1], lengths, mask)
    error = output - target
    return (error if valid is None else np.where(valid[..., None], error, 0)), valid


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
