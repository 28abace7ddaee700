"""Laws: what holds for every program, every layer and every loss, as functions that say so.

    from tinygrad_rnn.testing import laws
    laws.state_splitting()            # returns: it holds. AssertionError with the first case if not

Each law draws shapes and numbers of its own, `count` times from `seed`, and stops at the first case
that breaks it. They need NumPy only. `mutants` shows that each of them can fail.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from .. import losses, rules
from ..cells import Cell, GRUCell, LSTMCell, RNNCell
from ..differentiate import checkpoint, grad, hvp, jvp, no_grad
from ..errors import ConversionError, GraphFreedError, TraceError, UnusedInputError
from ..functions import log_softmax, logsumexp, root_mean_square, sigmoid, softmax, softplus
from ..module import Linear, Parameter
from ..nests import leaves, map_tree, refilled
from ..recurrent import RNN, BiRNN, Chain, generate
from ..rules import primitive
from ..tensor import Tensor
from ..vjp import RULES, Array, defvjp
from ..wrappers import Readout, Residual, Stacked, VariationalDropout, Zoneout
from .checks import check_grads, check_vjp, grad_report
from .report import GradientError, GradReport

Rng = np.random.Generator

__all__ = [
    "accumulation",
    "arrays_are_copied",
    "arrays_are_frozen",
    "batch_permutation",
    "birnn_merges",
    "bptt",
    "broadcasting_is_tiling",
    "causality",
    "chain_is_its_layers",
    "checker_fails_what_is_wrong",
    "checker_knows_float32",
    "checker_knows_kinks",
    "checker_knows_noise",
    "checker_passes_what_is_right",
    "checkpoint_equals_plain",
    "checkpointed_blocks",
    "cross_entropy_by_hand",
    "detach_cuts",
    "errors_by_hand",
    "float32_stays_float32",
    "forward_by_hand",
    "forward_mode",
    "freeing",
    "generation",
    "gradients_are_frozen",
    "hold_rule",
    "how_cells_start",
    "inner_gradients",
    "no_grad_records_nothing",
    "no_overflow",
    "no_steps",
    "products_with_zeros",
    "programs",
    "resets",
    "reverse_is_the_flip",
    "scan_is_the_loop",
    "second_order",
    "several_outputs",
    "square_shapes",
    "state_splitting",
    "streams",
    "ties_are_shared",
    "truncation",
    "vjp_checker_fails_what_is_wrong",
    "wrappers_by_hand",
    "zero_gradients_at_zero",
]


# ----- what the laws are written in --------------------------------------------------------------


def _draws(count: int, seed: int) -> Iterator[Rng]:
    """One generator for each case, so that a case does not depend on those before it."""
    return (np.random.default_rng([seed, k]) for k in range(count))


def _holds(condition: Any, law: str) -> None:
    if not condition:  # not `assert`, which python -O leaves out
        raise AssertionError(law)


def _values(a: Any) -> np.ndarray:
    return np.asarray(a.data if isinstance(a, Tensor) else a)


def _agree(found: Any, expected: Any, law: str, tolerance: float = 1e-11) -> None:
    """Two arrays, or nests of them, are equal: in shape, and in value up to rounding; no NaN."""
    pairs = zip(leaves(found), leaves(expected), strict=True)
    for ours, theirs in ((_values(a), _values(b)) for a, b in pairs):
        _holds(ours.shape == theirs.shape, f"{law}: shape {ours.shape}, expected {theirs.shape}")
        allowed = tolerance * np.maximum(1, np.abs(theirs))
        wrong = ~(np.abs(ours - theirs) <= allowed)  # written so that NaN is wrong
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise AssertionError(f"{law}: {ours[at]} at {list(at)}, expected {theirs[at]}")


def _leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(values, requires_grad=True, dtype=dtype)


def _gradients(total: Any, inputs: Any) -> tuple[np.ndarray, ...]:
    """The gradients of a total, zeros for an input that it does not depend on."""
    if not (isinstance(total, Tensor) and total.requires_grad):
        return tuple(np.zeros(x.shape) for x in inputs)
    found = grad(total, inputs, allow_unused=True, retain_graph=True)
    return tuple(
        np.zeros(x.shape) if g is None else g.data for x, g in zip(inputs, found, strict=True)
    )


def _weighted(outputs: Any, weights: list[np.ndarray]) -> Any:
    """sum(weights * outputs): a loss that no two faults cancel in."""
    return sum((o * w).sum() for o, w in zip(leaves(outputs), weights, strict=True))


def _weights(rng: Rng, outputs: Any) -> list[np.ndarray]:
    return [rng.normal(size=o.shape) for o in leaves(outputs)]


@contextmanager
def _rule(f: Callable[..., Any], *vjps: Any, **options: Any) -> Iterator[Callable[..., Any]]:
    """A function of one's own with its VJPs, for a while."""
    made = primitive(f)
    defvjp(made, *vjps, **options)
    try:
        yield made
    finally:
        del RULES[made]


# ----- the engine --------------------------------------------------------------------------------

# Each takes two (n, m) arrays, b (1, m) and W (m, m), and gives an (n, m) array.
_STEPS: list[Callable[..., Any]] = [
    lambda x, y, b, W: x + y,
    lambda x, y, b, W: y - x,
    lambda x, y, b, W: x * y,
    lambda x, y, b, W: x * b,
    lambda x, y, b, W: np.tanh(x),
    lambda x, y, b, W: sigmoid(x + x),
    lambda x, y, b, W: np.tanh(x @ W),
    lambda x, y, b, W: x - np.sum(y, axis=0, keepdims=True) / 2,
    lambda x, y, b, W: np.mean(x, axis=1, keepdims=True) * y,
    lambda x, y, b, W: np.reshape(np.transpose(x), x.shape),
    lambda x, y, b, W: x[np.arange(len(x)) // 2] + y,  # a row taken twice
    lambda x, y, b, W: np.concatenate([x[1:] * x[:-1], y[:1]]),  # slices that overlap
    lambda x, y, b, W: np.stack(list(x)[::-1]) * y,  # one node with several outputs
    lambda x, y, b, W: np.where(x * x < 0, y, x),  # a condition has no gradient
    lambda x, y, b, W: np.ones_like(x) * y + x,  # nor has this
]


def programs(count: int = 25, seed: int = 0) -> None:
    """Any program has the gradient that numeric derivatives find.

    Drawn at random: four to ten operations, each on results of earlier ones, the same one twice as
    well, so that the graph has diamonds whose sides differ in length.
    """
    for rng in _draws(count, seed):
        n, m = rng.integers(2, 4, size=2)
        plan = [
            (_STEPS[rng.integers(len(_STEPS))], *rng.integers(1, 5, size=2))
            for _ in range(rng.integers(4, 11))
        ]

        def program(a: Array, b: Array, W: Array, plan: Any = plan) -> Any:
            made = [a, a * b]
            for step, i, j in plan:
                made.append(step(made[-min(i, len(made))], made[-min(j, len(made))], b, W))
            return made[-1], made[len(made) // 2]

        arrays = [rng.normal(size=size) / 2 for size in ((n, m), (1, m), (m, m))]
        check_grads(program, *arrays, directions=1, name="a random program")


def accumulation(count: int = 5, seed: int = 0) -> None:
    """backward adds to .grad, and the array there is nobody else's."""
    for rng in _draws(count, seed):
        x, y = (_leaf(rng.normal(size=(2, 3))) for _ in range(2))
        loss = np.sum(np.tanh(x * y) * x)
        expected = _gradients(loss, [x, y])
        loss.backward(retain_graph=True)
        loss.backward()
        found = (x.grad, y.grad)
        _agree(found, tuple(2 * g for g in expected), "backward twice adds the gradient twice")
        a, b, cotangent = _leaf(np.ones(3)), _leaf(np.ones(3)), rng.normal(size=3)
        given = cotangent.copy()
        (a + b + a).backward(cotangent)
        _agree(cotangent, given, "backward does not change the cotangent")
        _agree((a.grad, b.grad), (2 * given, given), "the gradients of a + b + a")
        for g in (a.grad, b.grad):
            _holds(isinstance(g, np.ndarray) and g.flags.writeable, ".grad may be changed")
        _values(a.grad)[...] *= 10
        cotangent *= 10
        _agree(b.grad, given, "changing one .grad, or the cotangent, changes no other .grad")
        # A joint rule may give the same array twice: what is added to one is not the other's.
        with _rule(lambda p, q: p + q, joint=lambda g: (h := g * 2.0, h)) as both:
            p, q = _leaf(np.ones(3)), _leaf(np.ones(3))
            earlier = p * 3.0
            (both(p, q) + earlier).sum().backward()
            _agree(p.grad, np.full(3, 5.0), "two uses add up")
            _agree(q.grad, np.full(3, 2.0), "a gradient that two inputs share is not added into")


def freeing(count: int = 1, seed: int = 0) -> None:
    """A graph is walked once, unless retain_graph=True keeps it; a freed part is never skipped."""
    for rng in _draws(count, seed):
        x = _leaf(rng.normal(size=3))
        h = x * x
        y = np.sum(h)
        try:
            y.backward(retain_graph=True)
            y.backward()
        except GraphFreedError:
            raise AssertionError("retain_graph=True keeps the graph") from None
        before = _values(x.grad)
        for what, total in (("a second walk", y), ("a walk into a freed graph", np.sum(h * x))):
            try:
                total.backward()
            except GraphFreedError:
                _agree(x.grad, before, f"{what} leaves .grad as it is")
            else:
                raise AssertionError(f"{what} raises GraphFreedError")
        try:
            (dh,) = grad(np.sum(h * 3), [h])
        except GraphFreedError:
            raise AssertionError("a freed Tensor may itself be asked for") from None
        _agree(dh, np.full(3, 3.0), "the gradient of a freed Tensor")


def inner_gradients(count: int = 3, seed: int = 0) -> None:
    """grad takes any Tensors, leaves or on the way, and leaves .grad alone."""
    for rng in _draws(count, seed):
        x, W, other = (_leaf(rng.normal(size=(2, 2))) for _ in range(3))
        h = np.tanh(x @ W)
        k = h * x
        found = _gradients((k * k).sum(), [k, h, x, other])
        dk = 2 * k.data
        dh = dk * x.data
        dx = dk * h.data + (dh * (1 - h.data**2)) @ W.data.T
        _agree(found, (dk, dh, dx, np.zeros((2, 2))), "grad of inner Tensors and leaves at once")
        _holds(x.grad is None and W.grad is None, "grad leaves .grad alone")
        _holds(not grad(np.sum(x * x), [x])[0].requires_grad, "a gradient has no graph by default")
        try:
            grad(np.sum(x * x), [x, other])
        except UnusedInputError:
            continue
        raise AssertionError("grad refuses an input that is not used, unless allow_unused=True")


def gradients_are_frozen(count: int = 1, seed: int = 0) -> None:
    """A VJP that writes into g is stopped: g may be another input's gradient, too."""

    def careless(g: Any, x0: Any) -> Any:
        if isinstance(g, np.ndarray):
            g[x0 < 0] = 0
        return g

    for rng in _draws(count, seed):
        x, y = (_leaf(rng.normal(size=5)) for _ in range(2))
        with _rule(lambda a: np.maximum(a, 0), careless) as clipped:
            total = np.sum((clipped(x) + y) * 2.0)
            try:
                total.backward()
            except ValueError:  # NumPy's, for an array that is read-only
                continue
            raise AssertionError("a VJP that writes into g is stopped")


def no_grad_records_nothing(count: int = 1, seed: int = 0) -> None:
    """Inside no_grad nothing is recorded; afterwards everything is, after an exception too."""
    for rng in _draws(count, seed):
        x = _leaf(rng.normal(size=3))
        try:
            with no_grad():
                _holds(not (x * 2).requires_grad, "no_grad records nothing")
                raise KeyError
        except KeyError:
            pass
        _holds((x * 2).requires_grad, "after no_grad calls are recorded again")


def detach_cuts(count: int = 3, seed: int = 0) -> None:
    """A detached Tensor is a constant with the same values."""
    for rng in _draws(count, seed):
        x = _leaf(rng.normal(size=3))
        _agree(x.detach(), x, "detach keeps the values")
        _holds(not x.detach().requires_grad, "a detached Tensor needs no gradient")
        (found,) = _gradients(np.sum(x * np.tanh(x.detach())), [x])
        _agree(found, np.tanh(x.data), "no gradient flows through detach")


def arrays_are_copied(count: int = 2, seed: int = 0) -> None:
    """Changing an array afterwards changes no Tensor and no gradient, and the array stays free."""
    for rng in _draws(count, seed):
        array, factor = rng.normal(size=3), rng.normal(size=3)
        before, kept = array.copy(), factor.copy()
        x = _leaf(array)
        _holds(array.flags.writeable, "an array given to Tensor may still be changed")
        array += 1
        _agree(x, before, "a Tensor holds a copy of what it was made from")
        y = np.sum(x * factor[:])
        factor += 1
        _agree(_gradients(y, [x])[0], kept, "a raw operand is copied when it is needed again")


def arrays_are_frozen(count: int = 1, seed: int = 0) -> None:
    """What a Tensor holds cannot be changed, and it never turns into an array in silence."""
    for rng in _draws(count, seed):
        x = _leaf(rng.normal(size=3))
        made: list[Callable[[Tensor], Any]] = [
            lambda x: x,  # first: detach shares its array, and freezes it
            lambda x: x + 1,
            lambda x: x[1:],
            lambda x: np.stack([x, x]),
            lambda x: x.detach(),
        ]
        for make in made:
            _holds(not make(x).data.flags.writeable, "the values of a Tensor are read-only")
        for convert in (np.asarray, lambda x: np.array([x]), lambda x: np.zeros(3) @ [x]):
            try:
                convert(x)
            except ConversionError:
                continue
            raise AssertionError("a Tensor that would lose its graph raises ConversionError")


def several_outputs(count: int = 5, seed: int = 0) -> None:
    """A node with several outputs gives each its own gradient, and zero for one nobody used."""
    for rng in _draws(count, seed):
        x, v = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
        for used in ((0, 1, 2, 3), (0, 2), (3,)):
            leaf = _leaf(x)
            parts = list(leaf)
            expected = np.zeros((4, 2))
            expected[list(used)] = v[list(used)]
            found = _gradients(sum((parts[k] * v[k]).sum() for k in used), [leaf])
            _agree(found, (expected,), "each row of an iterated Tensor gets its own gradient")
            found = _gradients(sum((np.split(leaf, 4)[k][0] * v[k]).sum() for k in used), [leaf])
            _agree(found, (expected,), "each part of a split Tensor gets its own gradient")
        y, z = (_leaf(rng.normal(size=3)) for _ in range(2))
        with _rule(lambda p, q: p * q, joint=lambda g, x0, x1: (g * x1, g * x0)) as product:
            found = _gradients(product(y, z).sum(), [y, z])
        _agree(found, (z.data, y.data), "a joint rule gives each argument its own gradient")


def broadcasting_is_tiling(count: int = 20, seed: int = 0) -> None:
    """The gradient of a broadcast operand is the sum over its explicit copies.

    All axes have the same size: a sum over the wrong one then has the right shape.
    """
    for rng in _draws(count, seed):
        full = (2, 2, 2)[: rng.integers(1, 4)]
        small = tuple(n if rng.random() < 0.5 else 1 for n in full[rng.integers(0, len(full)) :])
        x, y, v = rng.normal(size=small), rng.normal(size=full), rng.normal(size=full)
        short, tiled = _leaf(x), _leaf(np.broadcast_to(x, full))
        (found,) = _gradients((np.tanh(short * y) * v).sum(), [short])
        (copies,) = _gradients((np.tanh(tiled * y) * v).sum(), [tiled])
        expected = np.zeros(small)
        for at in np.ndindex(full):
            own = at[len(full) - len(small) :]
            one = tuple(k if n > 1 else 0 for k, n in zip(own, small, strict=True))
            expected[one] += copies[at]
        _agree(found, expected, f"{small} broadcast to {full}")


_SQUARE_SHAPES: list[Callable[..., Any]] = [
    lambda x: np.sum(x, axis=1),
    lambda x: np.mean(x, axis=(1, 2)),
    lambda x: np.max(x, axis=2),
    lambda x: np.std(x, axis=(0, 2)),
    lambda x: np.transpose(x, (1, 2, 0)),
    lambda x: np.swapaxes(x, 0, 1),
    lambda x: np.moveaxis(x, 0, 2),
    lambda x: np.rot90(x),
    lambda x: x @ x,
    lambda x: x[0] @ x[1],
    lambda x: softmax(x, axis=0),
    lambda x: np.repeat(x, 2, axis=1),
    lambda x: np.concatenate([x, 2 * x], axis=1),
    lambda x: np.stack([x, 2 * x], axis=1),
]


def square_shapes(count: int = 1, seed: int = 0) -> None:
    """Where all axes have the same size no shape gives a fault away, and gradients are right."""
    for rng in _draws(count, seed):
        x = rng.permutation(np.arange(1.0, 28)).reshape(3, 3, 3) / 8
        for f in _SQUARE_SHAPES:
            check_grads(f, x, directions=1, name="a function of a cube")


def second_order(count: int = 4, seed: int = 0) -> None:
    """With create_graph a gradient is a function like any other, and its gradient is right."""
    for rng in _draws(count, seed):
        W, v = rng.normal(size=(3, 3)) / 2, rng.normal(size=(2, 3))
        functions: list[Callable[..., Any]] = [
            lambda x, W: np.tanh(x @ W) * x,
            lambda x, W: softmax(x @ W) ** 2,
            lambda x, W: np.einsum("ij,jk,ik->ik", x, W, x),
            lambda x, W: sigmoid(x)[np.array([0, 0])] / (2 + np.mean(W * W)),
            lambda x, W: np.stack(list(np.exp(x / 4))[::-1]) * np.concatenate([x[:1], x[1:] ** 3]),
        ]
        for f in functions:

            def gradient(x: Array, W: Array, f: Any = f, v: Any = v) -> Any:
                recorded = isinstance(x, Tensor)
                inputs = [x, W] if recorded else [_leaf(x), _leaf(W)]
                total = (f(*inputs) * v).sum()
                found = grad(total, inputs, create_graph=recorded, allow_unused=True)
                made = tuple(0 * i if g is None else g for i, g in zip(inputs, found, strict=True))
                return made if recorded else tuple(_values(g) for g in made)

            check_grads(gradient, rng.normal(size=(2, 3)), W, directions=1, name="second order")


def forward_mode(count: int = 4, seed: int = 0) -> None:
    """jvp is the transpose of the way back; hvp is the gradient of the gradient, times a vector."""
    for rng in _draws(count, seed):
        x, y, u, w, v = rng.normal(size=(5, 2, 2))

        def f(x: Array, y: Array) -> Any:
            return np.tanh(x @ y) * x

        def total(x: Array, y: Array, f: Any = f, v: Any = v) -> Any:
            return (f(x, y) * v).sum()

        _, along = jvp(f, [x, y], [u, w])
        inputs = [_leaf(x), _leaf(y)]
        dx, dy = _gradients(total(*inputs), inputs)
        adjoint = (dx * u).sum() + (dy * w).sum()
        _agree((_values(along) * v).sum(), adjoint, "jvp is the transpose of the way back")
        first = grad(total(*inputs), inputs, create_graph=True)
        inner = (first[0] * u).sum() + (first[1] * w).sum()
        _agree(hvp(total, [x, y], [u, w]), _gradients(inner, inputs), "hvp, in second order")


def checkpoint_equals_plain(count: int = 4, seed: int = 0) -> None:
    """A checkpointed function has the same gradients: of its arguments, and of what it closes over.

    Its argument depends on a weight that is used inside, too: no path may count twice.
    """
    for rng in _draws(count, seed):
        x, W = _leaf(rng.normal(size=(2, 3))), _leaf(rng.normal(size=(3, 3)))
        v = rng.normal(size=(2, 3))

        def block(h: Array, W: Any = W) -> Any:
            a = np.tanh(h @ W)
            return a * h, a, a  # one of them twice

        totals = []
        for run in (block, checkpoint(block)):
            a, b, c = run(np.tanh(x @ W))
            totals.append((a * v).sum() + (b * b * v).sum() + (c * v).sum())
        expected, found = (_gradients(total, [x, W]) for total in totals)
        _agree(totals[1], totals[0], "a checkpoint's value")
        _agree(found, expected, "a checkpoint's gradients")


def float32_stays_float32(count: int = 2, seed: int = 0) -> None:
    """In float32 all results and gradients are float32, and near those in float64."""
    for k, rng in enumerate(_draws(count, seed)):
        x, targets = rng.normal(size=(4, 2, 2)), rng.integers(0, 3, size=(4, 2))
        for kind in _KINDS.values():
            found: list[Any] = []
            for dtype in (np.float32, np.float64):
                cell = kind(2, 3, rng=k, dtype=dtype)
                leaf = _leaf(x, dtype)
                out = RNN(cell)(leaf, lengths=[4, 2])
                loss = losses.cross_entropy(out.outputs * 2, targets, lengths=[4, 2])
                loss = loss + losses.rmse(out.last, np.zeros((2, 3), dtype)) / 3
                loss.backward()
                found.append((loss.data, out.outputs.data, leaf.grad, cell.U.grad, cell.b.grad))
            _holds(all(a.dtype == np.float32 for a in found[0]), "float32 stays float32")
            _agree(found[0], found[1], "float32 is near float64", 1e-4)
        leaf = _leaf(x, np.float32)
        leaf.astype(np.float64).sum().backward()
        _holds(_values(leaf.grad).dtype == np.float32, "a gradient has its Tensor's dtype")


# ----- points where a derivative is chosen -------------------------------------------------------

_TIED: list[Callable[..., Any]] = [
    lambda x: np.maximum(x[:2], x[2:]),
    lambda x: np.minimum(x[:2], x[2:]),
    lambda x: np.max(x.reshape(2, 2), axis=0, keepdims=True),
    lambda x: np.min(x),
    lambda x: np.sort(x),
    lambda x: np.sort(x.reshape(2, 2), axis=0),
    lambda x: np.clip(x, 0, 1),
    lambda x: np.abs(x),
]


def ties_are_shared(count: int = 8, seed: int = 0) -> None:
    """The gradient at a tie is the average over all ways to break it."""
    ways = np.array(list(itertools.permutations([-3, -1, 1, 3]))) / 1024
    for rng in _draws(count, seed):
        x = rng.integers(-1, 2, size=4).astype(float)
        for f in _TIED:
            weights = rng.permutation(np.arange(1.0, np.size(f(x)) + 1))

            def gradient(at: Any, f: Any = f, weights: Any = weights) -> np.ndarray:
                leaf = _leaf(at)
                return _gradients((f(leaf).reshape(-1) * weights).sum(), [leaf])[0]

            average = np.mean([gradient(x + step) for step in ways], axis=0)
            _agree(gradient(x), average, f"ties are shared evenly, at {x.tolist()}")


_FLAT: list[Callable[..., Any]] = [
    lambda x: np.std(x),
    lambda x: np.std(x.reshape(2, 2), axis=0),
    lambda x: np.var(x),
    lambda x: np.linalg.norm(x),
    lambda x: np.linalg.norm(x.reshape(2, 2), axis=-1),
    lambda x: np.hypot(x[:2], x[2:]),
    lambda x: root_mean_square(x),
    lambda x: x**2,
    lambda x: x**2.5,
    lambda x: x ** np.zeros(4),
    lambda x: np.power(np.zeros(4), x + 1),
    lambda x: np.abs(x),
    lambda x: np.prod(x),
    lambda x: np.cumprod(x)[1:],
]


def zero_gradients_at_zero(count: int = 1, seed: int = 0) -> None:
    """Where a norm, a deviation or a product is 0 its gradient is 0: no NaN, in both orders."""
    for _ in range(count):
        for f in _FLAT:
            x = _leaf(np.zeros(4))
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                (dx,) = grad(f(x).sum(), [x], create_graph=True)
                _agree(dx, np.zeros(4), "the gradient at 0")
                if dx.requires_grad:
                    ddx = _gradients((dx * np.arange(1, 5)).sum(), [x])[0]
                    _holds(np.isfinite(ddx).all(), "the second derivative at 0 is finite")


def products_with_zeros(count: int = 10, seed: int = 0) -> None:
    """The gradient of a product is the product of all others, with zeros among them too."""
    for rng in _draws(count, seed):
        x = rng.integers(-1, 3, size=(2, 4)).astype(float)
        leaf = _leaf(x)
        for out, rows in ((np.prod(leaf, axis=1), x), (np.prod(leaf), x.reshape(1, -1))):
            expected = [[np.prod(np.delete(row, k)) for k in range(len(row))] for row in rows]
            (found,) = _gradients(out.sum(), [leaf])
            _agree(found, np.reshape(expected, x.shape), "the gradient of a product")


def no_overflow(count: int = 1, seed: int = 0) -> None:
    """Far out, functions made of exp have their limits as values, and no NaN on the way back."""
    x = np.array([-1000.0, 0.0, 1000.0])
    expected: list[tuple[Callable[..., Any], Any]] = [
        (sigmoid, [0, 0.5, 1]),
        (softmax, [0, 0, 1]),
        (log_softmax, [-2000, -1000, 0]),
        (logsumexp, 1000),
        (softplus, [0, math.log(2), 1000]),
    ]
    for rng in _draws(count, seed):
        for f, values in expected:
            leaf = _leaf(x)
            _agree(f(leaf), np.asarray(values), f"{f.__name__} far out")
            out = f(leaf)
            (dx,) = _gradients((out * rng.normal(size=out.shape)).sum(), [leaf])
            _holds(np.isfinite(dx).all(), f"the gradient of {f.__name__} far out is finite")


# ----- the loop over time ------------------------------------------------------------------------

_KINDS: dict[str, Callable[..., Any]] = {
    "RNN": RNNCell,
    "LSTM": LSTMCell,
    "GRU": GRUCell,
    "GRU, reset before": partial(GRUCell, reset_after=False),
}


def _cell(rng: Rng, kind: str, inputs: int, hidden: int) -> Any:
    """A cell with no parameter at its starting value."""
    cell = _KINDS[kind](inputs, hidden, rng=rng)
    for p in cell.parameters():
        p.data = p.data + rng.normal(size=p.shape) / 2
    return cell


def _runs(count: int, seed: int) -> Iterator[tuple[Rng, Any, np.ndarray, Any]]:
    """Cells of each kind, with x (T, N, C), T >= 4, and an initial state that is not 0."""
    for rng in _draws(count, seed):
        for kind in _KINDS:
            steps, batch = int(rng.integers(4, 7)), int(rng.integers(2, 4))
            cell = _cell(rng, kind, int(rng.integers(1, 4)), int(rng.integers(2, 4)))
            x = rng.normal(size=(steps, batch, cell.inputs))
            yield rng, cell, x, _state(rng, cell, batch)


def _state(rng: Rng, cell: Any, batch: int) -> Any:
    return map_tree(lambda s: rng.normal(size=s.shape), cell.initial_state((batch,)))


def _ways(cell: Any) -> tuple[RNN, RNN]:
    return RNN(cell), RNN(cell, reverse=True)


def _by_hand(cell: Any, x: np.ndarray, state: Any) -> Any:
    """One step of one row from the equations in the cells' docstrings: the output, the state."""
    U, V, b, H = cell.U.data, cell.V.data, cell.b.data, cell.hidden

    def logistic(z: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-z)))

    def gate(array: np.ndarray, k: int) -> np.ndarray:
        return array[..., k * H : (k + 1) * H]

    if isinstance(cell, LSTMCell):
        h, c = state
        i, f, g, o = (gate(x @ U + h @ V + b, k) for k in range(4))
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(c)
        return h, (h, c)
    h = state
    if isinstance(cell, GRUCell):
        r, z = (logistic(gate(x @ U + h @ V + b, k)) for k in range(2))
        if cell.b_n is not None:
            n = np.tanh(x @ gate(U, 2) + gate(b, 2) + r * (h @ gate(V, 2) + cell.b_n.data))
        else:
            n = np.tanh(x @ gate(U, 2) + gate(b, 2) + (r * h) @ gate(V, 2))
        h = (1 - z) * n + z * h
    else:
        h = np.tanh(x @ U + h @ V + b)
    return h, h


def _loop(
    cell: Any, x: np.ndarray, state: Any, valid: np.ndarray, reset: np.ndarray, reverse: bool
) -> tuple[np.ndarray, np.ndarray, Any]:
    """The layer written out: one row after the other, one step after the other."""
    outputs = np.zeros((*x.shape[:2], cell.hidden))
    last, ends = np.zeros(outputs.shape[1:]), []
    for n in range(x.shape[1]):
        s = map_tree(lambda a, n=n: a[n], state)
        for t in reversed(range(len(x))) if reverse else range(len(x)):
            if reset[t, n]:
                s = map_tree(np.zeros_like, s)
            if valid[t, n]:
                last[n], s = _by_hand(cell, x[t, n], s)
                outputs[t, n] = last[n]
        ends.append(s)
    return outputs, last, map_tree(lambda *rows: np.stack(rows), *ends)


def forward_by_hand(count: int = 4, seed: int = 0) -> None:
    """A layer computes its cell's equations: both directions, ragged rows, gaps, given states."""
    for rng, cell, x, state in _runs(count, seed):
        steps, batch = x.shape[:2]
        nothing = np.zeros((steps, batch), bool)
        lengths, mask = rng.integers(0, steps + 1, batch), rng.random((steps, batch)) < 0.7
        ragged = np.arange(steps)[:, None] < lengths
        for layer in _ways(cell):
            for given, valid in (
                ({}, ~nothing),
                ({"lengths": lengths}, ragged),
                ({"lengths": lengths, "mask": mask}, ragged & mask),
            ):
                out = layer(x, state, return_states=True, **given)
                expected = _loop(cell, x, state, valid, nothing, layer.reverse)
                name = f"{layer.name}, reverse={layer.reverse}, {', '.join(given) or 'no padding'}"
                _agree(out.outputs, expected[0], f"the outputs of {name}")
                _agree(out.last, expected[1], f"the last output of {name}")
                _agree(out.state, expected[2], f"the final state of {name}")
                end = map_tree(lambda s, at=0 if layer.reverse else -1: s[at], out.states)
                _agree(end, out.state, f"the last of all states of {name}")
            zeros = map_tree(np.zeros_like, state)
            expected = _loop(cell, x, zeros, ~nothing, nothing, layer.reverse)
            _agree(layer(x).outputs, expected[0], f"{layer.name} starts from zeros")


def resets(count: int = 4, seed: int = 0) -> None:
    """Before a reset step the row's state is the initial state again."""
    for rng, cell, x, state in _runs(count, seed):
        everywhere, reset = np.ones(x.shape[:2], bool), rng.random(x.shape[:2]) < 0.4
        for layer in _ways(cell):
            out = layer(x, state, reset=reset)
            expected = _loop(cell, x, state, everywhere, reset, layer.reverse)
            _agree(tuple(out[:3]), expected, f"{layer.name} with resets")


def state_splitting(count: int = 2, seed: int = 0) -> None:
    """A run of k steps, and one of T - k that goes on from its state, are the run of T steps."""
    for rng, cell, values, start in _runs(count, seed):
        for layer in _ways(cell):
            k = int(rng.integers(0, len(values) + 1))
            x, state = _leaf(values), map_tree(_leaf, start)
            whole = tuple(layer(x, state)[:3])
            parts = [x[k:], x[:k]] if layer.reverse else [x[:k], x[k:]]
            first = layer(parts[0], state)
            second = layer(parts[1], first.state)
            pair = (second, first) if layer.reverse else (first, second)
            joined = np.concatenate([part.outputs for part in pair])
            last = second.last if len(parts[1]) else first.last
            found = (joined, last, second.state)
            name = f"{layer.name}, reverse={layer.reverse}, cut at {k} of {len(values)}"
            _agree(found, whole, name)
            v, inputs = _weights(rng, whole), [x, *leaves(state), *layer.parameters()]
            expected = _gradients(_weighted(whole, v), inputs)
            _agree(_gradients(_weighted(found, v), inputs), expected, f"gradients of {name}")


def hold_rule(count: int = 2, seed: int = 0) -> None:
    """What stands in padding is never seen: a row in a batch is its valid steps alone.

    Outputs there are 0 and so is x's gradient, exactly; the state is held; NaN does no harm. Left
    padding, gaps, and rows without any valid step are all of this kind.
    """
    for rng, cell, values, start in _runs(count, seed):
        steps, batch = values.shape[:2]
        lengths = rng.integers(0, steps + 1, batch)
        left = np.arange(steps)[:, None] >= rng.integers(1, steps + 1, batch)
        options: list[tuple[Any, np.ndarray]] = [
            ({"lengths": lengths}, np.arange(steps)[:, None] < lengths),
            ({"mask": left}, left),
        ]
        gaps = rng.random((steps, batch)) < 0.6
        options.append(({"mask": gaps}, gaps))
        for layer, (given, valid) in itertools.product(_ways(cell), options):
            name = f"{layer.name}, reverse={layer.reverse}, {', '.join(given)}"
            x, state = _leaf(np.where(valid[..., None], values, np.nan)), map_tree(_leaf, start)
            out = layer(x, state, **given)
            v = _weights(rng, out[:3])
            inputs = [x, *leaves(state), *layer.parameters()]
            found = _gradients(_weighted(tuple(out[:3]), v), inputs)
            _holds(not out.outputs.data[~valid].any(), f"{name}: an output in padding is 0")
            _holds(not found[0][~valid].any(), f"{name}: the gradient of padding is 0")
            total: Any = 0.0
            x, state = _leaf(values), map_tree(_leaf, start)
            inputs[: 1 + len(leaves(state))] = [x, *leaves(state)]
            for n in range(batch):
                at = np.flatnonzero(valid[:, n])
                alone = layer(x[at, n], map_tree(lambda s, n=n: s[n], state))
                row = (out.outputs[at, n], out.last[n], map_tree(lambda s, n=n: s[n], out.state))
                _agree(row, tuple(alone[:3]), f"{name}: a row is its valid steps alone")
                own = [v[0][at, n], *(w[n] for w in v[1:])]
                total = total + _weighted(tuple(alone[:3]), own)
            _agree(found, _gradients(total, inputs), f"{name}: the sum of all rows' gradients")


def reverse_is_the_flip(count: int = 3, seed: int = 0) -> None:
    """Running backwards is running over the flipped sequence, outputs flipped back."""
    for _, cell, x, state in _runs(count, seed):
        forward, backward = _ways(cell)
        flipped, out = forward(x[::-1], state), backward(x, state)
        _agree(out.outputs, flipped.outputs[::-1], "the outputs of reverse=True")
        _agree((out.last, out.state), (flipped.last, flipped.state), "the end of reverse=True")


def birnn_merges(count: int = 2, seed: int = 0) -> None:
    """BiRNN is two RNNs; `last` joins what each has after the whole of its way."""
    merges: dict[Any, Callable[[Any, Any], Any]] = {
        "concat": lambda f, b: np.concatenate([f, b], axis=-1),
        "sum": lambda f, b: f + b,
        "mean": lambda f, b: 0.5 * f + 0.5 * b,
        "mul": lambda f, b: f * b,
        None: lambda f, b: (f, b),
    }
    for rng, cell, x, state in _runs(count, seed):
        other = type(cell)(cell.inputs, cell.hidden, rng=rng)
        pair = (state, _state(rng, other, x.shape[1]))
        lengths = rng.integers(1, len(x) + 1, x.shape[1])
        options: dict[str, Any] = {"lengths": lengths, "return_states": True}
        f, b = RNN(cell)(x, pair[0], **options), RNN(other, reverse=True)(x, pair[1], **options)
        for merge, both in merges.items():
            out = BiRNN(cell, other, merge=merge)(x, pair, **options)
            _agree(out.outputs, both(f.outputs, b.outputs), f"BiRNN's outputs, merge={merge}")
            _agree(out.last, both(f.last, b.last), f"BiRNN's last, merge={merge}")
            _agree(out.state, (f.state, b.state), "BiRNN's state")
            _agree(out.states, (f.states, b.states), "BiRNN's states")


def truncation(count: int = 2, seed: int = 0) -> None:
    """Truncated BPTT is the loss in which every k-th state is a constant; values do not change."""
    for rng, cell, x, state in _runs(count, seed):
        steps = len(x)
        lengths = rng.integers(1, steps + 1, x.shape[1])
        valid = np.arange(steps)[:, None] < lengths
        for layer, k in itertools.product(_ways(cell), (1, 2, 3)):
            inputs = [*leaves(start := map_tree(_leaf, state)), *layer.parameters()]
            whole, cut = layer(x, start, lengths), layer(x, start, lengths, truncate=k)
            _agree(tuple(cut[:3]), tuple(whole[:3]), f"values with truncate={k}")
            v, total, carried = rng.normal(size=whole.outputs.shape), 0.0, start
            order = range(steps)[::-1] if layer.reverse else range(steps)
            for chunk in (sorted(order[i : i + k]) for i in range(0, steps, k)):
                out = layer(x[chunk], carried, mask=valid[chunk])
                total = total + (out.outputs * v[chunk]).sum()
                carried = map_tree(_values, out.state)
            expected = _gradients(total, inputs)
            found = _gradients((cut.outputs * v).sum(), inputs)
            _agree(found, expected, f"gradients of {layer.name} with truncate={k}")


def no_steps(count: int = 1, seed: int = 0) -> None:
    """T = 0: the state comes back, `last` is 0, and every Parameter has a gradient of zeros."""
    for _, cell, x, state in _runs(count, seed):
        for layer in _ways(cell):
            layer.zero_grad()
            out = layer(x[:0], state, return_states=True)
            empty = map_tree(lambda s: np.zeros((0, *s.shape)), state)
            _agree(out.states, empty, "no steps: all states")
            _agree(out.outputs, np.zeros((0, x.shape[1], cell.hidden)), "no steps: the outputs")
            _agree(out.last, np.zeros((x.shape[1], cell.hidden)), "no steps: last")
            _agree(out.state, state, "no steps: the state")
            total = out.outputs.sum() + out.last.sum()
            _holds(isinstance(total, Tensor), "no steps: every Parameter gets a gradient")
            total.backward()
            for p in layer.parameters():
                _holds(p.grad is not None, "no steps: every Parameter gets a gradient")
                _agree(p.grad, np.zeros(p.shape), "no steps: the gradient is 0")


def causality(count: int = 1, seed: int = 0) -> None:
    """Output t depends on all steps up to t and on the initial state, and on nothing later."""
    for _, cell, values, start in _runs(count, seed):
        for layer in _ways(cell):
            x, state = _leaf(values), map_tree(_leaf, start)
            outputs = layer(x, state).outputs
            for t in range(len(values)):
                dx, *dstate = _gradients(outputs[t].sum(), [x, *leaves(state)])
                seen, unseen = (dx[t:], dx[:t]) if layer.reverse else (dx[: t + 1], dx[t + 1 :])
                _holds(not unseen.any(), f"output {t} depends on no later step")
                _holds((seen != 0).any(axis=2).all(), f"output {t} depends on all earlier steps")
                _holds(all(g.any() for g in dstate), f"output {t} depends on the initial state")


def batch_permutation(count: int = 2, seed: int = 0) -> None:
    """Rows know nothing of each other: in another order they give the same, in that order."""
    for rng, cell, values, state in _runs(count, seed):
        at = rng.permutation(values.shape[1])
        lengths: np.ndarray = rng.integers(0, len(values) + 1, len(at))
        for layer in _ways(cell):
            x = _leaf(values)
            out = layer(x, state, lengths)
            mixed = layer(x[:, at], map_tree(lambda s, at=at: s[at], state), lengths[at])
            _agree(mixed.outputs, out.outputs[:, at], "outputs of permuted rows")
            v, inputs = rng.normal(size=out.outputs.shape), [x, *layer.parameters()]
            found = _gradients((mixed.outputs * v[:, at]).sum(), inputs)
            expected = _gradients((out.outputs * v).sum(), inputs)
            _agree(found, expected, "gradients of permuted rows")


def bptt(count: int = 1, seed: int = 0) -> None:
    """Backpropagation through time is what numeric derivatives find.

    With respect to x, the initial state (not 0) and every weight; for a loss on all steps and for
    one on the last step only.
    """
    seen: list[Callable[[Any], Any]] = [
        lambda out: (out.outputs, out.last),
        lambda out: out.last,
        lambda out: out.state,
    ]
    for n, (rng, cell, x, state) in enumerate(_runs(count, seed)):
        lengths = np.append(len(x), rng.integers(1, len(x) + 1, x.shape[1] - 1))
        for k, see in enumerate(seen):
            layer = _ways(cell)[(n + k) % 2]

            def run(x: Array, h: Any, layer: Any = layer, see: Any = see, at: Any = lengths) -> Any:
                return see(layer(x, h, lengths=at))

            check_grads(run, x, state, wrt=[0, 1, cell], directions=1, name=layer.name)


def checkpointed_blocks(count: int = 1, seed: int = 0) -> None:
    """A loop that keeps a few steps' graph at a time gives the same numbers and gradients."""
    for rng, cell, values, start in _runs(count, seed):
        x, state = _leaf(values), map_tree(_leaf, start)
        whole = tuple(RNN(cell)(x, state)[:3])
        blocks = tuple(RNN(cell, checkpoint=2)(x, state)[:3])
        _agree(blocks, whole, "a checkpointed loop")
        v, inputs = _weights(rng, whole), [x, *leaves(state), *cell.parameters()]
        expected = _gradients(_weighted(whole, v), inputs)
        _agree(_gradients(_weighted(blocks, v), inputs), expected, "gradients of such a loop")


class _Mixed(Cell):
    """A step with all that a trace must tell apart: see `scan_is_the_loop`."""

    state_shape = ((3,), (3,))

    def __init__(self, rng: Rng) -> None:
        self.W, self.V = (Parameter(rng.normal(size=size) / 2) for size in ((2, 3), (3, 3)))
        self.scale, self.shift = 0.5, rng.normal(size=3)

    def step(self, x: Array, state: Any) -> Any:
        h, c = state
        turn = self.V - self.V.T
        z = np.tanh(x @ self.W + h @ turn + c @ self.V + self.shift * h)
        c = self.scale * c + np.maximum(z, 0.1 * x[..., :1])
        return z * c, (np.tanh(c), z)


def scan_is_the_loop(count: int = 1, seed: int = 0) -> None:
    """RNN(cell, scan=True) gives the plain loop's numbers and gradients, whatever comes between."""
    for rng in _draws(count, seed):
        cells = [make(2, 3, rng=rng) for make in (RNNCell, LSTMCell, GRUCell)]
        for cell in (*cells, _Mixed(rng)):
            for p in cell.parameters():
                p.data = rng.normal(size=p.shape) / 2
            for every in (None, 2):
                _alike(cell, RNN(cell), RNN(cell, scan=True, checkpoint=every), rng)
            _alike(cell, RNN(cell, reverse=True), RNN(cell, scan=True, reverse=True), rng)


def _alike(cell: Any, plain: RNN, fast: RNN, rng: Rng) -> None:
    """Several calls, of which all are alive when the first one is pulled back."""
    calls = []
    for k, steps in enumerate((5, 5, 5, 5, 7)):
        x, lengths = rng.normal(size=(steps, 2, 2)), rng.permutation([steps, 2 + k % 2])
        options: dict[str, Any] = {"lengths": lengths, "truncate": 2 if k == 1 else None}
        options = options if k < 4 else {"reset": rng.random((steps, 2)) < 0.4}
        start, v = _state(rng, cell, 2), rng.normal(size=(steps, 2, 3))
        both = []
        for layer in (plain, fast):
            inputs = [_leaf(x), *map(_leaf, leaves(start)), *cell.parameters()]
            try:
                out = layer(inputs[0], refilled(start, inputs[1:]), return_states=True, **options)
            except TraceError as error:
                raise AssertionError(f"a step without a fault: {error}") from None
            both.append((out, inputs))
        calls.append((both, v))
        _agree(both[1][0], both[0][0], "a traced loop")
        if isinstance(cell, _Mixed):  # attributes and Parameters may change between calls
            cell.scale += 0.25 * (k == 0)
            cell.shift += 0.5 * (k == 1)
            cell.V = Parameter(cell.V.data * 0.5) if k == 2 else cell.V
    for both, v in calls:
        expected, found = (
            _gradients((out.outputs * v).sum() + (leaves(out.states)[0] ** 2).sum(), inputs)
            for out, inputs in both
        )
        _agree(found, expected, "gradients of a traced loop")


def chain_is_its_layers(count: int = 1, seed: int = 0) -> None:
    """A Chain is its layers one after another: padding stays 0, `last` goes through all of them."""
    for rng, cell, x, state in _runs(count, seed):
        between, after = Linear(cell.hidden, 2, "tanh", rng=rng), Linear(3, 2, rng=rng)
        for p in (between.b, after.b):
            assert p is not None
            p.data = rng.normal(size=2)
        layers: list[Any] = [RNN(cell), between, RNN(GRUCell(2, 3, rng=rng)), after]
        other = rng.normal(size=(x.shape[1], 3))
        lengths = rng.integers(0, len(x), x.shape[1])
        valid = (np.arange(len(x))[:, None] < lengths)[..., None]
        first = layers[0](x, state, lengths)
        second = layers[2](between(first.outputs), other, lengths)
        expected = (np.where(valid, after(second.outputs).data, 0), after(second.last))
        out = Chain(*layers)(x, (state, other), lengths)
        _agree((out.outputs, out.last), expected, "a Chain")
        _agree(out.state, (first.state, second.state), "the state of a Chain")


def streams(count: int = 1, seed: int = 0) -> None:
    """Steps and chunks pushed one after another give what one run gives; rows can start again."""
    for rng, cell, x, state in _runs(count, seed):
        k, rows = int(rng.integers(1, len(x) - 1)), np.arange(x.shape[1]) == 0
        stream = RNN(cell).stream(x.shape[1:-1], state)
        outputs = [*stream.push(x[:k]), stream.push(x[k])]
        stream.reset(rows)
        outputs += [*stream.push(x[k + 1 :])]
        reset = np.zeros(x.shape[:2], bool)
        reset[k + 1] = rows
        whole = RNN(cell)(x, state, reset=reset)
        _agree(np.stack([_values(out) for out in outputs]), whole.outputs, "a stream")
        _agree(stream.state, whole.state, "the state of a stream")


def generation(count: int = 1, seed: int = 0) -> None:
    """Running free, each output makes the next input."""
    for rng, cell, x, state in _runs(count, seed):
        back = rng.normal(size=(cell.hidden, cell.inputs))

        def next_input(y: Array, rng: Rng, back: np.ndarray = back) -> Any:
            return y @ back

        out = generate(cell, x[0], 4, next_input, state, rng=0)
        given, outputs = x[0], []
        for _ in range(4):
            y, state = cell(given, state)
            outputs.append(_values(y))
            given = outputs[-1] @ back
        _agree(out.outputs, np.stack(outputs), "what is generated")
        _agree(out.state, state, "the state after generating")


def wrappers_by_hand(count: int = 2, seed: int = 0) -> None:
    """Cells made of cells do what their names say, step by step."""
    for rng, cell, values, start in _runs(count, seed):
        x, h = values[0], start
        y, new = map_tree(_values, cell(x, h))
        wide = GRUCell(cell.hidden, cell.hidden, rng=rng)
        for p in wide.parameters():
            p.data = p.data + rng.normal(size=p.shape) / 2
        above = rng.normal(size=y.shape)
        over = map_tree(_values, wide(y, above))
        _agree(Stacked(cell, wide)(x, (h, above)), (over[0], (new, over[1])), "Stacked")
        _agree(Residual(wide)(y, above)[0], y + over[0], "Residual")
        linear = Linear(cell.hidden, 2, rng=rng)
        _agree(Readout(cell, linear)(x, h)[0], linear(y), "Readout")
        zoned = Zoneout(cell, 0.4)
        draws = zoned.draws(1, x.shape[:1], rng)[0]
        ends = np.cumsum([s.shape[-1] for s in leaves(h)])[:-1]
        kept = [
            np.where(d < 0.4, old, now)
            for d, old, now in zip(np.split(draws, ends, -1), leaves(h), leaves(new), strict=True)
        ]
        found = leaves(zoned((x, draws), h)[1])
        _agree(tuple(found), tuple(kept), "Zoneout keeps old values where a draw is below p")
        mean = [0.4 * old + 0.6 * now for old, now in zip(leaves(h), leaves(new), strict=True)]
        _agree(tuple(leaves(zoned.eval()(x, h)[1])), tuple(mean), "Zoneout's expectation")
        dropped = VariationalDropout(cell, 0.5, rng=rng)
        _, x_mask, h_mask = first = dropped.initial_state(x.shape[:1])
        masked = [leaves(h)[0] * h_mask, *leaves(h)[1:]]
        expected = cell(x * x_mask, refilled(h, masked))
        output, after = dropped(x, (h, *first[1:]))
        _agree((output, after[0]), map_tree(_values, expected), "VariationalDropout")
        _holds(after[1] is x_mask and after[2] is h_mask, "its masks stay the same over time")


def how_cells_start(count: int = 2, seed: int = 0) -> None:
    """An LSTM starts remembering: its forget gate's bias is 1, all others are 0; states are 0."""
    for rng in _draws(count, seed):
        for make in _KINDS.values():
            cell = make(2, 3, rng=rng)
            gates = len(getattr(cell, "gates", "h"))
            bias = np.zeros((gates, 3))
            if isinstance(cell, LSTMCell):
                bias[cell.gates.index("f")] = 1
            _agree(cell.b, bias.reshape(-1), f"the bias of a new {type(cell).__name__}")
            for V in np.split(cell.V.data, gates, axis=1):
                _agree(V @ V.T, np.eye(3), "a recurrent matrix starts orthogonal, gate by gate")
            for s in leaves(cell.initial_state((2,))):
                _agree(s, np.zeros((2, 3)), "the state starts at 0")


# ----- losses ------------------------------------------------------------------------------------


def _loss_law(
    rng: Rng,
    loss: Callable[..., Any],
    values: np.ndarray,
    target: np.ndarray,
    by_hand: Callable[[np.ndarray, Any], float],
    anything: Any,
) -> None:
    """A loss over ragged rows is the sum written out; its gradient that sum's, 0 in padding."""
    steps, batch = values.shape[:2]
    one = np.eye(1, batch, dtype=int)[0]  # a single step that counts, and none at all
    names = ("mean", "sum", "time_sum")
    for name, lengths in itertools.product(
        names, (rng.integers(0, steps + 1, batch), np.full(batch, steps), one, 0 * one)
    ):
        padding = np.arange(steps)[:, None] >= lengths
        pairs = [(t, n) for n in range(batch) for t in range(lengths[n])]
        size = {"mean": len(pairs), "sum": 1, "time_sum": batch}[name]

        def written(x: np.ndarray, pairs: Any = pairs, size: int = size) -> float:
            return sum(by_hand(x[t, n], target[t, n]) for t, n in pairs) / max(1, size)

        padded, other = values.copy(), target.copy()
        padded[padding], other[padding] = np.nan, anything
        x = _leaf(padded)
        found = loss(x, other, lengths=lengths, reduction=name)
        law = f'{loss.__name__}, reduction="{name}", lengths {lengths.tolist()}'
        _agree(found, written(values), law)
        _agree(loss(padded, other, mask=~padding, reduction=name), found, f"{law}, as a mask")
        (dx,) = _gradients(found, [x])
        _holds(not dx[padding].any(), f"{law}: padding has gradient 0")
        numeric = np.zeros(values.shape)
        for at in np.ndindex(values.shape):
            step = np.zeros(values.shape)
            step[at] = 2.0**-13
            numeric[at] = (written(values + step) - written(values - step)) / 2.0**-12
        _agree(dx, numeric, f"the gradient of {law}", 1e-6)
        if not padding.any():
            _agree(loss(x, target, reduction=name), found, f"{law}: all steps, without lengths")


def cross_entropy_by_hand(count: int = 3, seed: int = 0) -> None:
    """Cross-entropy is -log of the target's probability, over the steps that count."""
    for rng in _draws(count, seed):
        shape = tuple(rng.integers([3, 1, 2], [5, 3, 4]))  # more steps than rows
        _loss_law(
            rng,
            losses.cross_entropy,
            rng.normal(size=shape),
            rng.integers(0, shape[-1], size=shape[:-1]),
            lambda z, k: float(np.log(np.sum(np.exp(z))) - z[k]),
            -1,
        )


def _mean_square(x: np.ndarray, y: np.ndarray) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x))


def _surprise(z: np.ndarray, p: np.ndarray) -> float:
    """The mean of -log of what came, yes (with probability p) or no; z are the log-odds of yes."""
    yes = 1 / (1 + np.exp(-z))
    return float(np.mean(-p * np.log(yes) - (1 - p) * np.log(1 - yes)))


def errors_by_hand(count: int = 3, seed: int = 0) -> None:
    """mse, rmse and binary cross-entropy are what their names say, over the steps that count."""
    for rng in _draws(count, seed):
        values, target = rng.normal(size=(2, *rng.integers([3, 1, 2], [5, 3, 4])))
        _loss_law(rng, losses.mse, values, target, _mean_square, np.nan)
        root = lambda x, y: math.sqrt(_mean_square(x, y))
        _loss_law(rng, losses.rmse, values, target, root, np.nan)
        x = _leaf(target)
        (dx,) = _gradients(losses.rmse(x, target), [x])
        _holds(not dx.any(), "where an error is exactly 0, rmse has gradient 0")
        chances = rng.random(values.shape)
        _loss_law(rng, losses.binary_cross_entropy, values, chances, _surprise, np.nan)


# ----- the checker -------------------------------------------------------------------------------


def _cumulative(x: np.ndarray) -> np.ndarray:
    """A small recurrent network: h_t = tanh(h_{t-1} + x_t), all of them."""
    out, h = np.zeros_like(x), 0.0
    for t in range(len(x)):
        out[t] = h = np.tanh(h + x[t])
    return out


def _one_in_400(g: Array, factor: float) -> np.ndarray:
    factors = np.ones(g.shape)
    factors.flat[210] = factor
    return np.asarray(g * factors)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - np.max(x))
    return np.asarray(e / np.sum(e))


_X = np.linspace(-1.5, 2, 6).reshape(2, 3)
_SQUARE = np.linspace(-1, 2, 9).reshape(3, 3)
_MANY = np.linspace(-2, 2, 400).reshape(20, 20)
_WRONG: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[np.ndarray, ...]]] = {
    "a sign": (np.tanh, (lambda g, out: -g * (1 - out * out),), (_X,)),
    "a factor of 1 + 1e-6 in one element of 400": (
        lambda x: x * 2.0,
        (lambda g: _one_in_400(2 * g, 1 + 1e-6),),
        (_MANY,),
    ),
    "a factor of 1 + 1e-4 in all": (np.exp, (lambda g, out: g * out * (1 + 1e-4),), (_X,)),
    "a transposed gradient": (lambda x: x * 1.0, (lambda g: g.T,), (_SQUARE,)),
    "a forgotten carry": (_cumulative, (lambda g, out: g * (1 - out * out),), (_X[0],)),
    "NaN in one element": (lambda x: x * 1.0, (lambda g: _one_in_400(g, np.nan),), (_MANY,)),
    "no gradient, where cotangents of ones have none": (
        _softmax,
        (lambda g, out: 0.0 * g,),
        (_X[0],),
    ),
    "a gradient for an argument that is not used": (
        lambda x, y: x * 2.0,
        (lambda g: 2.0 * g, lambda g, x1: g * 0.5),
        (_X, _X),
    ),
    "none for one that is": (lambda x, y: x + y, (lambda g: g, None), (_X, _X)),
    "the last of three arguments": (
        lambda x, y, z: x * y * z,
        (lambda g, x1, x2: g * x1 * x2, lambda g, x0, x2: g * x0 * x2, lambda g, x0: g * x0),
        (_X, _X + 1, _X + 2),
    ),
    "a detour over float32": (
        np.sin,
        (lambda g, x0: g * np.cos(x0.astype(np.float32)).astype(np.float64),),
        (_X,),
    ),
}
_RIGHT: list[tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = [
    (lambda x: np.tanh(x) ** 2, (_X,)),
    (lambda x, y: x @ y.T, (_X, _X + 1)),
    (lambda x: np.exp(40 * np.tanh(x)), (_X,)),
    (lambda x: (x * 1e-9, np.sin(x)), (_MANY,)),
    (lambda x, y: x * 3, (_X, _X)),
    (lambda x: softmax(x * 1.0), (_MANY[:3],)),
    (lambda x: logsumexp(x), (_X,)),
    (lambda x: rules.euclidean_norm(x), (_X,)),
    (lambda x: x / 3 + 1e3, (_X,)),
]


def checker_fails_what_is_wrong(count: int = 3, seed: int = 0) -> None:
    """check_grads raises for every kind of wrong gradient, and says FAIL."""
    ways = itertools.product(_WRONG.items(), ("auto", "ladder"), range(count))
    for (name, (f, vjps, arrays)), oracle, k in ways:
        with _rule(f, *vjps) as planted:
            try:
                verdict = check_grads(planted, *arrays, oracle=oracle, seed=seed + k).verdict
            except GradientError as error:
                verdict = error.report.verdict + ", raised"
        _holds(verdict == "FAIL, raised", f"the checker ({oracle}) fails {name}: {verdict}")


def checker_passes_what_is_right(count: int = 2, seed: int = 0) -> None:
    """check_grads passes right gradients: large and small, many and few, of unused arguments."""
    for (f, arrays), k in itertools.product(_RIGHT, range(count)):
        report = grad_report(f, *arrays, seed=seed + k)
        _holds(report.ok, f"the checker passes what is right: {report.text()}")


def checker_knows_noise(count: int = 2, seed: int = 0) -> None:
    """Where f is noisy no numeric derivative decides, and the checker says INCONCLUSIVE."""
    clock = itertools.count()
    drifting = lambda x: x * 3.0 + 1e-13 * next(clock)  # so little that differences are fine
    for k in range(count):
        _holds(
            grad_report(drifting, np.ones(3), seed=seed + k).verdict == "INCONCLUSIVE",
            "a function that gives something else each time is INCONCLUSIVE",
        )
        with _rule(lambda x: x + 1e-4 * np.sin(1e14 * x), lambda g: g) as rough:
            verdict = grad_report(rough, _X, seed=seed + k).verdict
            _holds(verdict == "INCONCLUSIVE", f"a rough function is INCONCLUSIVE, not {verdict}")


def checker_knows_kinks(count: int = 3, seed: int = 0) -> None:
    """At a kink, or near one, right gradients pass and gradients beyond both slopes fail."""
    for k, distance in itertools.product(range(count), (0.0, 1e-12, 1e-8, 1e-5)):
        x = np.array([1.5, distance, -2.0, -distance])
        for f, slope in (
            (lambda x: np.maximum(x, 0) * x + np.maximum(x, 0), lambda x: (2 * x + 1) * (x > 0)),
            (lambda x: np.abs(x) + x, lambda x: np.sign(x) + 1),
        ):
            right = lambda g, x, slope=slope: g * slope(x)
            wrong = lambda g, x, slope=slope: g * (slope(x) + 3.0 * (np.abs(x) < 1e-4))
            report = _vjp_report(f, right, x, seed=seed + k)
            _holds(report.ok, f"a right gradient at {distance} from a kink: {report.text()}")
            report = _vjp_report(f, wrong, x, seed=seed + k)
            _holds(report.verdict == "FAIL", f"a wrong one fails there: {report.text()}")


def _vjp_report(f: Any, vjp: Any, *arrays: Any, **options: Any) -> GradReport:
    """check_vjp's report, whatever the verdict."""
    try:
        return check_vjp(f, vjp, *arrays, **options)
    except GradientError as error:
        return error.report  # type: ignore[no-any-return]


def checker_knows_float32(count: int = 2, seed: int = 0) -> None:
    """A gradient whose float32 form has half the digits fails; float32's own rounding passes."""
    x = np.linspace(0.1, 1.0, 8, dtype=np.float32)

    def coarse(g: Array, out: Array) -> Any:
        right = g * (1 - out * out)
        return right if right.dtype == np.float64 else right.astype(np.float16).astype(g.dtype)

    for k in range(count):
        with _rule(np.tanh, lambda g, out: g * (1 - out * out)) as tanh:
            _holds(grad_report(tanh, x, seed=seed + k).ok, "float32's own rounding passes")
        with _rule(np.tanh, coarse) as tanh:
            verdict = grad_report(tanh, x, seed=seed + k).verdict
            _holds(verdict == "FAIL", f"half of float32's digits fail, not {verdict}")


def vjp_checker_fails_what_is_wrong(count: int = 2, seed: int = 0) -> None:
    """check_vjp, for gradients written by hand, raises for wrong ones and passes right ones."""
    arrays = (_X, _SQUARE)

    def f(x: Array, W: Array) -> Any:
        return np.tanh(x @ W)

    def right(g: Array, x: Array, W: Array) -> Any:
        dz = g * (1 - f(x, W) ** 2)
        return dz @ W.T, x.T @ dz

    def wrong(factors: tuple[float, float]) -> Callable[..., Any]:
        return lambda g, *xs: tuple(a * k for a, k in zip(right(g, *xs), factors, strict=True))

    def lossy(x: Array) -> Any:
        return x * np.array(np.asarray(x).tolist()).real  # half of a complex step is lost here

    for k in range(count):
        check_vjp(f, right, *arrays, seed=seed + k)
        check_vjp(lossy, lambda g, x: 2 * g * x, _X, seed=seed + k)
        for vjp in (
            wrong((-1, 1)),
            wrong((1, 1 + 1e-6)),
            wrong((1, np.nan)),
            lambda g, x, W: (right(g, x, W)[0] * 0, right(g, x, W)[1]),
            lambda g, x, W: (right(g, x, W.T)[0], right(g, x, W)[1]),
            lambda g, x, W: (right(g, x, W)[0], np.multiply(right(g, x, W)[1], 1, out=W).copy()),
        ):
            try:
                check_vjp(f, vjp, *arrays, seed=seed + k)
            except GradientError:
                continue
            raise AssertionError("check_vjp raises for a wrong gradient")
