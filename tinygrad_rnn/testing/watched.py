"""Watched: an array that notices which branch a function takes, and that carries complex steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

COMPARISONS = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal}
STEPS = {np.floor, np.ceil, np.rint, np.trunc, np.sign, np.signbit, np.floor_divide}
STEPS |= {np.isnan, np.isinf, np.isfinite}  # constant between jumps
CHOICES = {np.maximum, np.minimum, np.fmax, np.fmin}
LOSSY = {np.conjugate, np.real, np.imag, np.angle, np.absolute, np.var, np.std}
LOSSY |= {np.vdot, np.cov, np.corrcoef}
Log = list[tuple[str, bytes]]


class Watched(np.ndarray):
    """A float array that logs every branch taken on the way: comparisons, extremes, signs, orders.

        x = testing.Watched(np.array([1.0, -2.0]))
        np.maximum(x, 0) * 3
        x.branches[0][0]                # 'maximum': and behind it which operand won, and ties

    Arrays computed from it share its log. Two runs with equal logs lie in one smooth piece of a
    function; where the logs differ there is a kink or a jump between the points. Any shape;
    branches: a log to go on with.

    A complex one computes Im f(x + ih) / h, a derivative without any difference: comparisons and
    extremes look at the real part, |x| is x or -x. Raises TypeError where an operation would lose
    the imaginary part. Source: Squire and Trapp 1998.
    """

    branches: Log

    def __new__(cls, array: Any, branches: Log | None = None) -> Watched:
        """Wrap an array; `branches` is a log to go on with."""
        made = np.array(array).view(cls)
        made.branches = [] if branches is None else branches
        return made

    def __array_finalize__(self, source: Any) -> None:
        self.branches = getattr(source, "branches", [])

    def note(self, what: str, branch: Any) -> Any:
        """Log which way was taken; returns the same."""
        self.branches.append((what, np.asarray(branch).tobytes()))
        return branch

    @property
    def _complex(self) -> bool:
        return self.dtype.kind == "c"

    # ----- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [bare(x) for x in inputs]
        if any(out is not None for out in kwargs.get("out", ())):
            kwargs["out"] = tuple(map(bare, kwargs["out"]))
        complex_step = any(is_complex(a) for a in arrays)
        if method == "__call__":
            result = self._call(ufunc, arrays, kwargs, complex_step)
        elif method == "reduce" and ufunc in CHOICES:
            result = self._extreme(ufunc, arrays[0], kwargs)
        elif method == "accumulate" and ufunc in CHOICES and not complex_step:
            result = ufunc.accumulate(*arrays, **kwargs)
            self.note(ufunc.__name__, result == arrays[0])
        else:
            result = getattr(ufunc, method)(*arrays, **kwargs)
        return self._like(result)

    def _call(self, ufunc: np.ufunc, arrays: list[Any], kwargs: Any, complex_step: bool) -> Any:
        reals = [np.real(a) for a in arrays] if complex_step else arrays
        if ufunc in COMPARISONS or ufunc in STEPS:
            return self.note(ufunc.__name__, ufunc(*reals, **kwargs))
        if ufunc in (np.remainder, np.fmod, np.heaviside, np.modf):
            by = reals[1] if ufunc in (np.remainder, np.fmod) else 1.0
            self.note(ufunc.__name__, np.stack([np.floor(reals[0] / by), np.sign(reals[0])]))
        if ufunc in CHOICES:
            a, b = reals
            first = a > b if ufunc in (np.maximum, np.fmax) else a < b
            self.note(ufunc.__name__, np.stack(np.broadcast_arrays(first, a == b)))
            if complex_step:
                return np.where(first | np.isnan(a), *arrays)
        elif ufunc is np.absolute:
            negative = self.note("absolute", np.stack([reals[0] < 0, reals[0] == 0]))[0]
            if complex_step:
                return np.where(negative, -arrays[0], arrays[0])
        elif ufunc.__name__ == "clip":
            low, high = (np.broadcast_to(bound, np.shape(reals[0])) for bound in reals[1:])
            x = reals[0]
            self.note("clip", np.stack([x < low, x == low, x > high, x == high]))
            if complex_step:
                return np.where(x < low, arrays[1], np.where(x > high, arrays[2], arrays[0]))
        if complex_step and ufunc in ANALYTIC:
            return ANALYTIC[ufunc](*arrays)
        if complex_step and ufunc in LOSSY:
            raise TypeError(f"{ufunc.__name__} loses the imaginary part of a complex step")
        return ufunc(*arrays, **kwargs)

    def _extreme(self, ufunc: np.ufunc, x: Any, kwargs: Any) -> Any:
        kwargs = {k: v for k, v in kwargs.items() if k in ("axis", "keepdims", "initial", "where")}
        real = np.real(x)
        top = ufunc.reduce(real, **(kwargs | {"keepdims": True}))
        wins = self.note(ufunc.__name__, real == top)
        if not is_complex(x):
            return ufunc.reduce(x, **kwargs)
        axis, keepdims = kwargs.get("axis", 0), kwargs.get("keepdims", False)
        share = np.sum(np.where(wins, x, 0), axis=axis, keepdims=keepdims)
        return share / np.sum(wins, axis=axis, keepdims=keepdims)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self._complex and function in LOSSY:
            raise TypeError(f"{function.__name__} loses the imaginary part of a complex step")
        if function is np.linalg.norm:  # it looks at plain arrays, where nothing is noticed
            x = bare(args[0])
            if is_complex(x):
                raise TypeError("linalg.norm loses the imaginary part of a complex step")
            self.note("norm", np.stack([np.sign(x), np.abs(x) == np.max(np.abs(x), initial=0)]))
        if function is np.interp:
            self.note("interp", np.searchsorted(bare(args[1]), bare(args[0])))
        return self._like(super().__array_function__(function, types, args, kwargs))

    def _like(self, result: Any) -> Any:
        """Float results are watched too, with this log."""
        if isinstance(result, (tuple, list)):
            return type(result)(map(self._like, result))
        if isinstance(result, (np.ndarray, np.inexact)) and result.dtype.kind in "fc":
            made = np.asarray(result).view(Watched)
            made.branches = self.branches
            return made
        return result

    def __getitem__(self, index: Any) -> Any:
        return self._like(super().__getitem__(index))  # x[0] is watched too, not a NumPy scalar

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    # ----- orders, which NumPy computes below its protocols

    def argsort(self, *args: Any, **kwargs: Any) -> Any:
        """As ndarray's; the order is logged."""
        return self.note("argsort", np.real(bare(self)).argsort(*args, **kwargs))

    def argmax(self, *args: Any, **kwargs: Any) -> Any:
        """As ndarray's; the place is logged."""
        return self.note("argmax", np.real(bare(self)).argmax(*args, **kwargs))

    def argmin(self, *args: Any, **kwargs: Any) -> Any:
        """As ndarray's; the place is logged."""
        return self.note("argmin", np.real(bare(self)).argmin(*args, **kwargs))

    def sort(self, axis: Any = -1, **kwargs: Any) -> None:  # type: ignore[override]
        """As ndarray's; the order is logged, and which elements are equal."""
        array = bare(self)
        order = self.note("sort", np.real(array).argsort(axis=axis, kind="stable"))
        array[...] = np.take_along_axis(array, order, axis)
        self.note("ties", np.diff(np.real(array), axis=axis) == 0)

    def partition(self, kth: Any, axis: Any = -1, **kwargs: Any) -> None:  # type: ignore[override]
        """As ndarray's (np.median asks for it); a full order does as well, and is logged."""
        self.sort(axis=axis)

    # ----- ways out, by which an imaginary part would be lost in silence

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """As ndarray's; a complex array becomes no float array. Integers are a branch."""
        if np.dtype(dtype).kind in "iub":
            return self.note("astype", np.real(bare(self)).astype(dtype, *args, **kwargs))
        if self._complex and np.dtype(dtype).kind == "f":
            dtype = np.result_type(dtype, np.complex64)
        return super().astype(dtype, *args, **kwargs)

    def __float__(self) -> float:
        if self._complex:
            raise TypeError("float() loses the imaginary part of a complex step")
        return float(bare(self))

    @property  # type: ignore[misc]
    def real(self) -> Any:
        """The array itself; of a complex step it may not be asked for."""
        if self._complex:
            raise TypeError(".real loses the imaginary part of a complex step")
        return self

    @property  # type: ignore[misc]
    def imag(self) -> Any:
        """0; of a complex step it may not be asked for."""
        if self._complex:
            raise TypeError(".imag is what a complex step carries: it has no meaning for f")
        return 0 * self


def bare(x: Any) -> Any:
    """The same array, not watched.

    bare(Watched(np.ones(2)))      # array([1., 1.])
    """
    return x.view(np.ndarray) if isinstance(x, Watched) else x


def is_complex(x: Any) -> bool:
    """Whether this is a complex number, or an array of them.

    is_complex(1j)      # True
    """
    return isinstance(x, complex) or getattr(x, "dtype", np.dtype(float)).kind == "c"


def _logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)) from functions that NumPy has for complex numbers too."""
    first = np.real(a) > np.real(b)
    big, small = np.where(first, a, b), np.where(first, b, a)
    return big + np.log1p(np.exp(small - big))


# What NumPy has for real numbers only, from functions that it has for complex ones.
ANALYTIC: dict[np.ufunc, Callable[..., Any]] = {
    np.logaddexp: _logaddexp,
    np.hypot: lambda a, b: np.sqrt(a * a + b * b),
    np.remainder: lambda a, b: a - np.floor(np.real(a) / np.real(b)) * b,
    np.cbrt: lambda x: np.sign(np.real(x)) * np.power(x * np.sign(np.real(x)), 1 / 3),
}
