"""Optimisers: each replaces a Parameter's array by a new one; nothing is changed in place.

The loop around them is `fit`, in train.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import errors
from .errors import NonFiniteError, ShapeError
from .module import Module, Parameter, matched
from .tensor import Tensor
from .vjp import Array


class Optimizer:
    """What all optimisers share: the Parameters, the learning rate, one step, the state.

        class Signs(tg.optim.Optimizer):          # one of your own
            def change(self, k, g):
                return self.lr * np.sign(g)

        optimizer = Signs(model.parameters(), lr=0.01)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        optimizer.load_state_dict(optimizer.state_dict())

    A subclass that remembers something keeps it in lists, an array or a count for each Parameter,
    and names these attributes in `remembers`. It replaces arrays, and writes into none. Parameters
    may have any shapes. Raises ShapeError for a negative lr, and where no Parameters are given.
    """

    remembers: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter] | Mapping[str, Parameter], lr: float):
        self.named = _named(parameters)
        self.parameters = list(self.named.values())
        if not self.parameters:
            raise errors.no_parameters()
        self.lr = lr

    def __repr__(self) -> str:
        count, total = len(self.parameters), sum(p.size for p in self.parameters)
        return f"{type(self).__name__}(lr={self.lr:g}, {count} Parameters, {total:,} numbers)"

    @property
    def lr(self) -> float:
        """The learning rate; may be set at any time."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        if not value >= 0:
            raise ShapeError(f"lr={value}: a learning rate is not negative")
        self._lr = float(value)  # like all settings: NumPy's float64 times float32 is float64

    def step(self) -> None:
        """Update every Parameter that has a gradient."""
        for k, p in enumerate(self.parameters):
            if p.grad is not None:
                p.data = (p.data - self.change(k, p.grad)).astype(p.dtype, copy=False)

    def change(self, k: int, g: np.ndarray) -> np.ndarray:
        """What to subtract from Parameter number k, given its gradient g."""
        raise NotImplementedError(f"{type(self).__name__} must define change(self, k, g)")

    def zero_grad(self) -> None:
        """Set every gradient to None, before the next backward."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of what a step depends on, beside the Parameters: the lr and what is remembered.

            b = tg.Parameter(np.zeros(2))
            sorted(tg.Adam({"b": b}).state_dict())    # ['lr', 'means.b', 'squares.b', 'steps.b']

        Parameters that were given as a list have numbers for names. What the constructor was given
        is not here, the lr excepted: schedules change that.
        """
        state = {"lr": np.array(self.lr)}
        for kind in self.remembers:
            for name, value in zip(self.named, getattr(self, kind), strict=True):
                state[f"{kind}.{name}"] = np.array(value)
        return state

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Go on from `state_dict()`, to the bit, once the Parameters are loaded too.

        Names and shapes must match exactly. Floats keep the dtype that they come in: after `astype`
        it may be another one than the Parameters'. Raises ShapeError, which lists every difference
        (of another kind of optimiser, another network); nothing has changed then.
        """
        new = matched(self.state_dict(), arrays)
        self.lr = float(new["lr"])
        for kind in self.remembers:
            pairs = zip(self.named, getattr(self, kind), strict=True)
            loaded = [(new[f"{kind}.{name}"], old) for name, old in pairs]
            setattr(self, kind, [int(a) if isinstance(old, int) else a.copy() for a, old in loaded])

    def snapshot(self) -> Any:
        """What a step changes, for `restore`. Nothing is copied, as nothing is written into."""
        return [p.data for p in self.parameters], {k: [*getattr(self, k)] for k in self.remembers}

    def restore(self, snapshot: Any) -> None:
        """Undo all steps since `snapshot` was taken; the lr stays as it is."""
        arrays, remembered = snapshot
        for p, array in zip(self.parameters, arrays, strict=True):
            p.data = array.astype(p.dtype, copy=False)  # `astype` may have come in between
        for kind, values in remembered.items():
            setattr(self, kind, list(values))

    def zeros(self) -> list[Any]:
        """One array of zeros for each Parameter."""
        return [np.zeros(p.shape, p.dtype) for p in self.parameters]


def _fractions(name: str, values: Any, count: int = 1) -> tuple[float, ...]:
    """What running means keep of what was; from 1 on they would grow without end."""
    found = tuple(map(float, np.ravel(values)))
    if len(found) != count or not all(0 <= value < 1 for value in found):
        raise ShapeError(f"{name}={values!r}: {count} expected, at least 0 and below 1")
    return found


class SGD(Optimizer):
    """Gradient descent: v = momentum v + g; p -= lr v.

        optimizer = tg.SGD(model.parameters(), lr=0.1)
        loss.backward(); optimizer.step(); optimizer.zero_grad()

    parameters: a list, or the dict of `named_parameters()`, of any shapes. `.lr` may be set at any
    time. Raises ShapeError for a negative lr, a momentum outside of [0, 1), and where no
    Parameters are given.
    """

    remembers = ("velocity",)

    def __init__(self, parameters: Any, lr: float, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr)
        self.momentum, self.velocity = _fractions("momentum", momentum)[0], self.zeros()

    def change(self, k: int, g: np.ndarray) -> np.ndarray:
        """lr v."""
        self.velocity[k] = self.momentum * self.velocity[k] + g
        return self.lr * self.velocity[k]  # type: ignore[no-any-return]


class Adagrad(Optimizer):
    """s += g**2; p -= lr g / (sqrt(s) + eps). What the classic character RNN uses (Duchi 2011).

        optimizer = tg.Adagrad(model.parameters(), lr=0.1)

    initial_accumulator_value: what s starts with. With `initial_accumulator_value=1e-8, eps=0` this
    is the form with eps inside the root, g / sqrt(s + 1e-8), that the classic character RNN has.
    Parameters, of any shapes, and errors as for SGD. Raises ShapeError.
    """

    remembers = ("squares",)

    def __init__(
        self,
        parameters: Any,
        lr: float,
        eps: float = 1e-10,
        initial_accumulator_value: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.eps = float(eps)
        self.squares: list[Any] = [s + float(initial_accumulator_value) for s in self.zeros()]

    def change(self, k: int, g: np.ndarray) -> np.ndarray:
        """lr g / (sqrt(s) + eps)."""
        self.squares[k] = self.squares[k] + g * g
        return self.lr * g / (np.sqrt(self.squares[k]) + self.eps)  # type: ignore[no-any-return]


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g**2; p -= lr g / (sqrt(s) + eps) (Tieleman and Hinton 2012).

        optimizer = tg.RMSprop(model.parameters(), lr=0.01)

    Adagrad that forgets: s is a mean over about the last 1 / (1 - alpha) steps, so steps do not get
    ever shorter. As in PyTorch: eps stands outside the root, and s starts at zero. Parameters, of
    any shapes, and errors as for SGD. Raises ShapeError.
    """

    remembers = ("mean_squares",)  # not "squares": Adagrad's are sums, and must not be loaded here

    def __init__(
        self, parameters: Any, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        super().__init__(parameters, lr)
        self.alpha, self.eps = _fractions("alpha", alpha)[0], float(eps)
        self.mean_squares = self.zeros()

    def change(self, k: int, g: np.ndarray) -> np.ndarray:
        """lr g / (sqrt(s) + eps)."""
        self.mean_squares[k] = self.alpha * self.mean_squares[k] + (1 - self.alpha) * g * g
        return self.lr * g / (np.sqrt(self.mean_squares[k]) + self.eps)  # type: ignore[no-any-return]


class Adam(Optimizer):
    """Steps of about lr, whatever the gradient's scale (Kingma and Ba 2014).

        optimizer = tg.Adam(model.parameters(), lr=1e-3)

    m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) g**2;  p -= lr m / (sqrt(s) + eps)

    There m and s are divided by 1 - b1**t and 1 - b2**t, since they start at zero; t counts the
    steps, and betas is (b1, b2). Parameters, of any shapes, and errors as for SGD. Raises
    ShapeError for betas outside of [0, 1), too.
    """

    remembers = ("means", "squares", "steps")

    def __init__(
        self,
        parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps = _fractions("betas", betas, 2), float(eps)
        self.means, self.squares = self.zeros(), self.zeros()
        self.steps = [0] * len(self.parameters)

    def change(self, k: int, g: np.ndarray) -> np.ndarray:
        """lr m / (sqrt(s) + eps), both corrected for their start at zero."""
        b1, b2 = self.betas
        self.steps[k] += 1
        self.means[k] = b1 * self.means[k] + (1 - b1) * g
        self.squares[k] = b2 * self.squares[k] + (1 - b2) * g * g
        mean = self.means[k] / (1 - b1 ** self.steps[k])
        square = self.squares[k] / (1 - b2 ** self.steps[k])
        return self.lr * mean / (np.sqrt(square) + self.eps)  # type: ignore[no-any-return]


def clip_grad_norm(parameters: Any, max_norm: float) -> float:
    """Scale all gradients together so that their joint norm is at most max_norm.

        loss.backward()
        norm = tg.clip_grad_norm(model.parameters(), 1.0)      # the norm before

    The direction stays (Pascanu 2013). parameters: a list or dict, of any shapes. Raises
    NonFiniteError that names the Parameter where a gradient is not finite, ShapeError for a
    negative max_norm; nothing changes then.
    """
    if not max_norm >= 0:
        raise ShapeError(f"max_norm={max_norm}: expected a number that is not negative")
    named = _named(parameters)
    grads = _finite_grads(named)
    largest = max((float(np.abs(g).max(initial=0)) for g in grads.values()), default=0.0)
    if largest == 0:
        return 0.0
    squares = [np.sum(np.square(g / largest, dtype=np.float64)) for g in grads.values()]
    relative = float(np.sqrt(np.sum(squares)))  # to the largest, so that squares do not overflow
    norm = largest * relative
    if norm > max_norm:
        for name, g in grads.items():
            named[name].grad = g / largest * (max_norm / relative)
    return norm


def clip_grad_value(parameters: Any, limit: float) -> None:
    """Cut every element of every gradient to [-limit, limit].

        loss.backward()
        tg.clip_grad_value(model.parameters(), 5.0)      # as in the classic character RNN

    The direction changes: `clip_grad_norm` keeps it. parameters: a list or dict, of any shapes.
    Raises NonFiniteError that names the Parameter where a gradient is not finite, ShapeError for a
    negative limit; nothing changes then.
    """
    if not limit >= 0:
        raise ShapeError(f"limit={limit}: expected a number that is not negative")
    named = _named(parameters)
    for name, g in _finite_grads(named).items():
        named[name].grad = np.clip(g, -limit, limit)


def _named(parameters: Any) -> dict[Any, Parameter]:
    """Parameters by name, or by number where a list was given; a shared one is there once."""
    if isinstance(parameters, (Module, Tensor)):
        raise errors.parameters_wanted()
    items = parameters.items() if isinstance(parameters, Mapping) else enumerate(parameters)
    first: dict[int, tuple[Any, Parameter]] = {}
    for name, p in items:
        first.setdefault(id(p), (name, p))
    named = dict(first.values())
    if not all(isinstance(p, Parameter) for p in named.values()):
        raise errors.parameters_wanted()
    if len(set(map(str, named))) < len(named):
        raise ShapeError(f"two Parameters have the same name as text: {list(named)}")
    return named


def _finite_grads(named: dict[Any, Parameter]) -> dict[Any, np.ndarray]:
    """The gradients that there are; NonFiniteError for one that would spoil the rest."""
    grads = {name: p.grad for name, p in named.items() if p.grad is not None}
    for name, g in grads.items():
        if not np.isfinite(g).all():
            hint = "" if isinstance(name, str) else "; named_parameters() shows names here"
            raise NonFiniteError(
                f"the gradient of parameter {name}, shape {g.shape}, is not finite{hint}. Run the "
                "forward and backward pass inside tg.detect_nonfinite() to find the operation"
            )
    return grads
