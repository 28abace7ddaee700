"""What cells and losses need and NumPy lacks: on Tensors and on plain arrays alike.

The losses made of it are in losses.py; cells.py uses `sigmoid` and `activation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DtypeError, RngError, ShapeError
from .rules import one_axis, primitive, reduced_axes, spread
from .tensor import Tensor
from .vjp import Array, defvjp


@primitive
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), elementwise, without overflow at either end.

        tg.sigmoid(np.array([-1000.0, 0.0, 1000.0]))      # array([0. , 0.5, 1. ])

    Any shape; the dtype is kept. Raises NumPy's TypeError for what is no array of numbers.
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


defvjp(sigmoid, lambda g, out: g * (out * (1 - out)))


@primitive
def relu(x: Array) -> Array:
    """max(x, 0), elementwise. Its derivative at 0 is 0, as everywhere in the field.

        tg.relu(np.array([-1.0, 2.0]))                    # array([0., 2.])

    Any shape; the dtype is kept. Raises NumPy's TypeError for what is no array of numbers.
    """
    return np.maximum(x, 0)


defvjp(relu, lambda g, out: g * (out > 0))


@primitive
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), elementwise, without overflow: a smooth relu.

        tg.softplus(np.array([0.0, 1000.0]))              # array([6.93e-01, 1.00e+03])

    Any shape; the dtype is kept. Raises NumPy's TypeError for what is no array of numbers.
    """
    return np.logaddexp(x, 0)


defvjp(softplus, lambda g, x0: g * sigmoid(x0))


@primitive
def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along an axis: positive, summing to 1, without overflow.

        tg.softmax(np.array([0.0, 0.0]))                  # array([0.5, 0.5])

    Any shape, which stays. Raises NumPy's AxisError for an axis that x does not have, and its
    ValueError where that axis has no elements.
    """
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def _softmax_vjp(g: Array, out: Array, axis: int = -1) -> Array:
    return out * (g - np.sum(g * out, axis=axis, keepdims=True))


defvjp(softmax, _softmax_vjp, bind=one_axis(-1))


@primitive
def log_softmax(x: Array, axis: int = -1) -> Array:
    """log(softmax(x)) along an axis, exact where softmax itself would round to 0.

        tg.log_softmax(np.array([0.0, 1000.0]))           # array([-1000.,     0.])

    Any shape, which stays. Raises as `softmax`: NumPy's AxisError and ValueError.
    """
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _log_softmax_vjp(g: Array, out: Array, axis: int = -1) -> Array:
    return g - np.exp(out) * np.sum(g, axis=axis, keepdims=True)


defvjp(log_softmax, _log_softmax_vjp, bind=one_axis(-1))


@primitive
def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """log(sum(exp(x))) over one axis, several, or all (None), without overflow.

        tg.logsumexp(np.array([1000.0, 1000.0]))           # 1000.6931...

    Any shape; the axes go, or stay with length 1 by keepdims. Of nothing but -inf it is -inf, with
    gradient 0. Raises as `softmax`: NumPy's AxisError and ValueError.
    """
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis)


def _logsumexp_vjp(
    g: Array, out: Array, x0: Array, axis: Any = None, keepdims: bool = False
) -> Array:
    every = spread(out, x0.shape, axis, keepdims)
    share = np.exp(x0 - np.where(np.isfinite(every), every, 0))
    return spread(g, x0.shape, axis, keepdims) * share


defvjp(logsumexp, _logsumexp_vjp, bind=reduced_axes)


def layer_norm(
    x: Array, gain: Array = None, bias: Array = None, axis: Any = -1, eps: float = 1e-5
) -> Any:
    """(x - mean) / sqrt(variance + eps) along an axis, times gain, plus bias (Ba 2016).

        tg.layer_norm(np.array([1.0, 3.0]))                # array([-0.999995,  0.999995])

    x           any shape, which stays
    gain, bias  arrays that broadcast with x, or None. eps keeps a vector of equal elements finite
    Raises ShapeError where Tensors do not broadcast (ValueError of plain arrays), NumPy's
    AxisError.
    """
    centred = x - np.mean(x, axis=axis, keepdims=True)
    out = centred / np.sqrt(np.mean(centred * centred, axis=axis, keepdims=True) + eps)
    out = out if gain is None else out * gain
    return out if bias is None else out + bias


def generator(rng: Any) -> np.random.Generator:
    """A NumPy Generator from a Generator or an int seed; RngError without either.

        generator(0).random()      # 0.6369616873214543

    The same seed draws the same numbers each time it is given: where several things are drawn, make
    one Generator and pass that.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        return np.random.default_rng(int(rng))
    raise RngError(
        f"rng={rng!r}: something is drawn at random here, and runs must be repeatable. Pass an int "
        "seed (rng=0) or a numpy.random.Generator (rng=generator), by name"
    )


def dropout(x: Array, p: float, rng: Any = None) -> Any:
    """Inverted dropout: each element becomes 0 with probability p; the others grow by 1 / (1 - p).

        rng = np.random.default_rng(0)
        tg.dropout(np.ones(4), 0.5, rng)                   # array([2., 0., 0., 0.])

    The mean stays, so nothing is to be done in use: `if self.training: x = tg.dropout(...)`.

    x    any shape; the dtype is kept
    p    in [0, 1); at 0 the result is x itself
    rng  a numpy Generator; an int seed draws the same mask each time. Every call draws a new mask
         from a Generator, so a cell's step must not: what it does may depend on x and state alone.
    Raises ShapeError for p, RngError without rng. Source: Srivastava 2014.
    """
    rng = generator(rng)
    p = float(p)
    if not 0 <= p < 1:
        raise ShapeError(f"dropout: p={p}, the probability to become 0, must be in [0, 1)")
    return np.where(rng.random(np.shape(x)) >= p, x, 0) / (1 - p) if p else x


@primitive
def root_mean_square(x: Array) -> Array:
    """sqrt(mean(x**2)) over the last axis. At x = 0 its gradient is 0, not NaN."""
    return np.sqrt(np.mean(np.square(x), axis=-1))


def _root_mean_square_vjp(g: Array, out: Array, x0: Array) -> Array:
    safe = x0.shape[-1] * np.where(out == 0, np.ones_like(out), out)
    return np.expand_dims(g, -1) * (x0 / np.expand_dims(safe, -1))


defvjp(root_mean_square, _root_mean_square_vjp)


def identity(x: Array) -> Array:
    """x itself: the activation of a linear layer.

    identity(3)      # 3
    """
    return x


ACTIVATIONS = {"tanh": np.tanh, "relu": relu, "sigmoid": sigmoid, "identity": identity}


def activation(phi: Any) -> Any:
    """An activation function by its name (tanh, relu, sigmoid, identity); callables as they are."""
    if phi is None or callable(phi):
        return phi or identity
    if phi not in ACTIVATIONS:
        raise ShapeError(f"activation={phi!r}: expected {', '.join(ACTIVATIONS)} or a callable")
    return ACTIVATIONS[phi]


def values(a: Any) -> np.ndarray:
    """The plain array of what is read and not differentiated: lengths, masks, class numbers.

    values(tg.Tensor([1, 2]))      # array([1, 2])
    """
    return np.asarray(a.data if isinstance(a, Tensor) else a)


def as_array(a: Any) -> Any:
    """Tensors and arrays as they are; anything else, such as PyTorch's tensors, as an array.

    as_array([1, 2])      # array([1, 2])
    """
    return a if isinstance(a, (np.ndarray, Tensor)) else np.asarray(a)


def integers_below(
    count: int, array: Any, what: str, meaning: str, maskable: bool = False
) -> np.ndarray:
    """A plain array of integers 0..count-1, or an error that names the first that is not.

        integers_below(3, [0, 2], "targets", "class numbers")      # array([0, 2])

    maskable: there is a mask=, which leaves out what a negative number shall (PyTorch's -100).
    Raises DtypeError, ShapeError.
    """
    read: np.ndarray = values(array)
    if read.dtype.kind not in "iu":
        raise DtypeError(f"{what} must be integer {meaning}, not {read.dtype}")
    wrong = (read < 0) | (read >= count)
    allowed = f"0..{count - 1}, the {meaning} that there are"
    if maskable and wrong.any() and (first := read[wrong][0]) < 0:
        allowed += f"; leave it out by mask={what} != {first}"
    refuse(wrong, read, what, allowed)
    return read


def refuse(wrong: np.ndarray, array: np.ndarray, what: str, allowed: str) -> None:
    """ShapeError for the first element marked as wrong.

    refuse(np.array([False, False]), np.array([1, 0]), "targets", "0..1")      # nothing is wrong
    """
    if wrong.any():
        at = tuple(int(k) for k in np.argwhere(wrong)[0])
        where = f"[{', '.join(map(str, at))}]" if at else ""
        raise ShapeError(f"{what}{where}={array[at]} is not in {allowed}")


def valid_steps(
    shape: tuple[int, ...], lengths: Array = None, mask: Array = None, name: str = "mask"
) -> np.ndarray | None:
    """Which entries of (T, N) or (T,) are data and which are padding; None: all are data.

    lengths (N,) integers in 0..T; mask (T, N) booleans; an entry is valid where both say so.
    Raises ShapeError.
    """
    steps, batch = shape[0], shape[1:]
    valid = None
    if lengths is not None:
        lengths = values(lengths)
        if lengths.shape != batch or lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"lengths must be integers of shape {batch}, one for each sequence of an x "
                f"(T, N, C), time first; got {lengths.dtype} of shape {lengths.shape}"
            )
        wrong = (lengths < 0) | (lengths > steps)
        refuse(wrong, lengths, "lengths", f"0..T={steps}, where T is the first axis of x")
        valid = np.arange(steps).reshape(-1, *[1] * len(batch)) < lengths
    if mask is not None:
        mask = values(mask)
        if mask.shape != shape or mask.dtype != bool:
            raise ShapeError(
                f"{name} must be booleans of shape {shape}, one for each step; got {mask.dtype} "
                f"of shape {mask.shape}"
            )
        valid = mask.copy() if valid is None else valid & mask
    return valid
