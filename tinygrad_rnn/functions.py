"""What cells and losses need and NumPy lacks: on Tensors and on plain arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ShapeError
from .rules import one_axis, primitive, reduced_axes, spread
from .tensor import Tensor
from .vjp import Array, defvjp


@primitive
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), elementwise, without overflow at either end.

        tg.sigmoid(np.array([-1000.0, 0.0, 1000.0]))      # array([0. , 0.5, 1. ])

    Any shape; the dtype is kept.
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


defvjp(sigmoid, lambda g, out: g * (out * (1 - out)))


@primitive
def relu(x: Array) -> Array:
    """max(x, 0), elementwise. Its derivative at 0 is 0, as everywhere in the field.

    tg.relu(np.array([-1.0, 2.0]))                     # array([0., 2.])
    """
    return np.maximum(x, 0)


defvjp(relu, lambda g, out: g * (out > 0))


@primitive
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), elementwise, without overflow: a smooth relu.

    tg.softplus(np.array([0.0, 1000.0]))               # array([6.93e-01, 1.00e+03])
    """
    return np.logaddexp(x, 0)


defvjp(softplus, lambda g, x0: g * sigmoid(x0))


@primitive
def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along an axis: positive, summing to 1, without overflow.

    tg.softmax(np.array([0.0, 0.0]))                   # array([0.5, 0.5])
    """
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def _softmax_vjp(g: Array, out: Array, axis: int = -1) -> Array:
    return out * (g - np.sum(g * out, axis=axis, keepdims=True))


defvjp(softmax, _softmax_vjp, bind=one_axis(-1))


@primitive
def log_softmax(x: Array, axis: int = -1) -> Array:
    """log(softmax(x)) along an axis, exact where softmax itself would round to 0.

    tg.log_softmax(np.array([0.0, 1000.0]))            # array([-1000.,     0.])
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

    Of nothing but -inf it is -inf, with gradient 0.
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

    gain, bias  arrays that broadcast with x, or None. eps keeps a vector of equal elements finite.
    """
    centred = x - np.mean(x, axis=axis, keepdims=True)
    out = centred / np.sqrt(np.mean(centred * centred, axis=axis, keepdims=True) + eps)
    out = out if gain is None else out * gain
    return out if bias is None else out + bias


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


def _values(a: Any) -> np.ndarray:
    """Lengths, masks and targets are read, not differentiated."""
    return np.asarray(a.data if isinstance(a, Tensor) else a)


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
        lengths = _values(lengths)
        if lengths.shape != batch or lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"lengths must be integers of shape {batch}, one for each sequence of an x "
                f"(T, N, C), time first; got {lengths.dtype} of shape {lengths.shape}"
            )
        for n, length in np.ndenumerate(lengths):
            if not 0 <= length <= steps:
                index = ", ".join(map(str, n))
                raise ShapeError(f"lengths[{index}]={length} is not in 0..T={steps}")
        valid = np.arange(steps).reshape(-1, *[1] * len(batch)) < lengths
    if mask is not None:
        mask = _values(mask)
        if mask.shape != shape or mask.dtype != bool:
            raise ShapeError(
                f"{name} must be booleans of shape {shape}, one for each step; got {mask.dtype} "
                f"of shape {mask.shape}"
            )
        valid = mask if valid is None else valid & mask
    return valid
