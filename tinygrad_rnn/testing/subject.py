"""What a check looks at: f as a function of a flat list of arrays, each with a name.

The list holds the float arrays among f's arguments (inside nests too), and the Parameters of every
Module that f uses. The same list can be filled with Tensors, with arrays, with complex arrays: so
one function serves both sides of a check.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from ..differentiate import grad, no_grad
from ..errors import ConversionError, DtypeError, NoGradientError
from ..graph import INSIDE
from ..module import Module, Parameter, find
from ..nests import leaves, map_tree
from ..record import recording
from ..tensor import Tensor
from .parameters import swapped

# A node that a check records was made at the line that asked for the check, not in this package.
INSIDE.update(str(file) for file in Path(__file__).parent.glob("*.py"))


@dataclass
class Variable:
    """A float array that f depends on: (part of) an argument, or a Parameter."""

    name: str
    value: np.ndarray
    argument: int | None = None  # which of args it belongs to
    leaf: int | None = None  # its place among the leaves of all args
    parameter: Tensor | None = None
    hidden: bool = False  # a Tensor that f closes over, in no Module: it cannot be replaced


class Subject:
    """f, with the variables it depends on; `outputs(inputs)` runs it on stand-ins for them."""

    numbers = False  # whether Python floats among the results are outputs

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], wrt: Any = None, modules: bool = True
    ) -> None:
        args = filled(args, {})
        self.f, self.args, self.everything = f, args, wrt is None
        names = argument_names(f, len(args))
        self.modules: list[Module] = []
        self.variables = list(_arguments(args, names))
        known: set[int] = set()
        for prefix, owner, at in _owners(f, args, names, wrt) if modules else ():
            if isinstance(owner, Module):
                self.modules.append(owner)
                found: dict[str, Tensor] = dict(owner.named_parameters())
            else:
                found = {"": owner}
            for name, p in found.items():
                if id(p) not in known:
                    known.add(id(p))
                    full = ".".join(filter(None, [prefix, name]))
                    hidden = not isinstance(owner, Module)
                    self.variables.append(Variable(full, p.data, at, None, p, hidden))
        self.chosen = _chosen(self.variables, wrt)

    @property
    def values(self) -> list[np.ndarray]:
        """What the variables are now, in float64."""
        return [np.array(v.value, np.float64) for v in self.variables]

    def unchecked(self) -> list[str]:
        """A note on each array of integers, which may have been meant to be one of floats."""
        notes = []
        for name, arg in zip(argument_names(self.f, len(self.args)), self.args, strict=True):
            for part, x in _named_leaves(name, () if isinstance(arg, Module) else tuples(arg)):
                if self.everything and isinstance(x, np.ndarray) and x.dtype.kind in "iu":
                    notes.append(f"{part} is {x.dtype}: its gradient is not checked")
        return notes

    def moved(self, rng: np.random.Generator) -> Subject:
        """The same a little further: each element by about a thousandth of its size, or of 1."""
        found = copy(self)
        found.variables = []
        for v in self.variables:
            far = 1e-3 * np.maximum(np.abs(v.value), 1) * rng.uniform(-1, 1, v.value.shape)
            value = v.value if v.hidden else np.asarray(v.value + far, v.value.dtype)
            found.variables.append(replace(v, value=value))
        return found

    def leaf(self, k: int, value: np.ndarray) -> Tensor:
        """A Tensor to differentiate with respect to, for variable k."""
        v = self.variables[k]
        if v.hidden:
            assert v.parameter is not None
            return v.parameter
        return Parameter(value) if v.parameter is not None else Tensor(value, requires_grad=True)

    def result(self, inputs: list[Any]) -> Any:
        """What f returns when these stand for the variables."""
        places: dict[Any, Any] = {v.leaf: x for v, x in self._with(inputs)}
        with self.standing_in(inputs):
            return self.f(*filled(self.args, places))

    @contextmanager
    def standing_in(self, inputs: list[Any]) -> Iterator[None]:
        """Inside, the inputs are where the Parameters were: also when a checkpoint runs again."""
        stand_ins = {id(v.parameter): x for v, x in self._with(inputs) if v.parameter is not None}
        with ExitStack() as stack:
            if self.modules:
                known = lambda p: stand_ins.get(id(p), p)
                stack.enter_context(swapped(self.modules, known))
            for v, x in self._with(inputs):
                if v.hidden and x is not v.parameter:
                    stack.enter_context(_holding(v.parameter, x))
                    stack.enter_context(no_grad())
            yield

    def outputs(self, inputs: list[Any]) -> list[Any]:
        """The float arrays, or Tensors, among what f returns."""
        return float_leaves(self.result(inputs), self.numbers)

    def _with(self, inputs: list[Any]) -> Iterator[tuple[Variable, Any]]:
        return zip(self.variables, inputs, strict=True)


class Gradients(Subject):
    """The gradients of another subject, as a function of its variables and its cotangents.

    What they are on arrays is the engine's own first order (checked before); on Tensors the walk
    back is recorded, and a check of this subject is one of second order.
    """

    def __init__(self, inner: Subject, cotangents: list[np.ndarray]) -> None:
        if any(inner.variables[k].hidden for k in inner.chosen):
            raise NoGradientError(
                "order=2 needs every Parameter inside a Module, where it can be replaced: pass the "
                "Tensors that f closes over as arguments"
            )
        self.f, self.args, self.modules, self.inner = inner.f, inner.args, [], inner
        self.everything = False
        count = len(inner.variables)
        self.variables = [replace(v, name=f"{v.name}, order 2") for v in inner.variables] + [
            Variable(f"the cotangent of output {k}", v) for k, v in enumerate(cotangents)
        ]
        self.chosen = [*inner.chosen, *range(count, len(self.variables))]

    def outputs(self, inputs: list[Any]) -> list[Any]:
        """One gradient for each chosen variable of the inner subject."""
        recorded = any(isinstance(x, Tensor) for x in inputs)
        count = len(self.inner.variables)
        xs, cotangents = list(inputs[:count]), inputs[count:]
        for k in self.inner.chosen:
            xs[k] = xs[k] if recorded else self.inner.leaf(k, xs[k])
        with recording(tracking=True):
            outs = self.inner.outputs(xs)
            total = sum((out * v).sum() for out, v in zip(outs, cotangents, strict=True))
            wanted = [xs[k] for k in self.inner.chosen]
            live = isinstance(total, Tensor) and total.requires_grad
            found: Any = [None] * len(wanted)
            if live:
                with self.inner.standing_in(xs):
                    found = grad(total, wanted, create_graph=recorded, allow_unused=True)
        pairs = zip(found, wanted, strict=True)
        every = [np.zeros(x.shape) if g is None else g for g, x in pairs]
        return every if recorded else [g.data if isinstance(g, Tensor) else g for g in every]

    @contextmanager
    def standing_in(self, inputs: list[Any]) -> Iterator[None]:
        """As for the inner subject."""
        with self.inner.standing_in(list(inputs[: len(self.inner.variables)])):
            yield

    def result(self, inputs: list[Any]) -> Any:
        """For the branch log: the gradient takes the branches that the function took."""
        return self.inner.result(inputs[: len(self.inner.variables)])


@contextmanager
def _holding(tensor: Any, array: np.ndarray) -> Iterator[None]:
    """Inside, a Tensor has other values."""
    before = tensor.data
    try:
        tensor.data = array
        yield
    finally:
        tensor.data = before


# ----- finding the variables ---------------------------------------------------------------------


def _arguments(args: tuple[Any, ...], names: list[str]) -> Iterator[Variable]:
    count = itertools.count()
    for i, arg in enumerate(args):
        if isinstance(arg, Module):
            continue
        for name, part in _named_leaves(names[i], tuples(arg)):
            place = next(count)
            value = np.float64(part) if type(part) is float else part
            if _kind(value) == "c":
                raise DtypeError(f"{name} is complex: only real gradients are checked")
            if isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f":
                yield Variable(name, np.asarray(value), i, place)


def _named_leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a nest, in order, each with the expression that gets it."""
    if not isinstance(tree, (dict, tuple)):
        yield name, tree
        return
    for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _named_leaves(f"{name}[{key!r}]", item)


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """The names that f's own signature gives to its positional arguments.

    argument_names(lambda x, W: x @ W, 2)      # ['x', 'W']
    """
    names: list[str] = []
    try:
        for p in inspect.signature(f).parameters.values():
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                names.append(p.name)
    except (TypeError, ValueError):
        pass
    return [names[i] if i < len(names) else f"argument {i}" for i in range(count)]


def _owners(
    f: Callable[..., Any], args: tuple[Any, ...], names: list[str], wrt: Any
) -> Iterator[tuple[str, Any, int | None]]:
    """Modules (and bare leaves) that f depends on: f, its owner, arguments, closure, and wrt."""
    for owner in (f, getattr(f, "__self__", None)):
        if isinstance(owner, Module):
            yield "", owner, None
    for k, arg in enumerate(args):
        if isinstance(arg, Module):
            yield names[k], arg, k
    bare: list[tuple[str, Tensor]] = []
    for name, value in _used(f):
        for path, module in find(value, Module, name):
            yield path, module, None
        bare += list(find(value, Tensor, name))
    for item in wrt if isinstance(wrt, (list, tuple)) else [wrt]:
        if isinstance(item, Module):
            yield type(item).__name__, item, None
        elif isinstance(item, Tensor):
            bare.append(("Parameter", item))
    for name, tensor in bare:
        if tensor.requires_grad and tensor._leaf is not None:
            yield name, tensor, None


def _used(f: Any, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """What a function closes over and what it takes from its module, with their names.

    Functions among these are looked through in turn, but for those of NumPy and this package.
    """
    seen = set() if seen is None else seen
    f = getattr(f, "func", f)  # of functools.partial
    f = getattr(f, "__func__", f)  # of a method
    if not inspect.isfunction(f) or id(f) in seen:
        return
    seen.add(id(f))
    enclosed = dict(inspect.getclosurevars(f).nonlocals)
    used = {name: f.__globals__.get(name) for name in _global_names(f.__code__)}
    for name, value in (used | enclosed).items():
        yield name, value
        if str(getattr(value, "__module__", "")).split(".")[0] not in ("numpy", "tinygrad_rnn"):
            yield from _used(value, seen)


def _global_names(code: CodeType) -> set[str]:
    """The names that a function looks up, with those of the functions defined inside it."""
    inner = [_global_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)


def _chosen(variables: list[Variable], wrt: Any) -> list[int]:
    """Which variables shall be checked; an error for anything that cannot be."""
    items = wrt if isinstance(wrt, (list, tuple)) else [wrt]
    chosen = [
        k for k, v in enumerate(variables) if wrt is None or any(_wanted(v, i) for i in items)
    ]
    for item in items if wrt is not None else []:
        if not any(_wanted(v, item) for v in variables):
            raise NoGradientError(
                f"wrt={item!r} is none of f's float arguments or Parameters. Expected indices of "
                "args, names, Parameters or Modules"
            )
    if not chosen:
        raise NoGradientError(
            "there is nothing to check: f has no float array among its arguments, and no Module "
            "with Parameters. Give float64 arrays, or pass wrt=[module]"
        )
    for k in chosen:
        if variables[k].value.dtype not in (np.float64, np.float32):
            raise DtypeError(
                f"{variables[k].name} is {variables[k].value.dtype}: gradients are checked in "
                "float64 and float32. Convert arrays by .astype(np.float64), make modules with "
                "dtype=np.float64"
            )
    return chosen


def _wanted(v: Variable, item: Any) -> bool:
    if isinstance(item, Module):
        return any(p is v.parameter for p in item.parameters())
    if isinstance(item, Tensor):
        return item is v.parameter
    if isinstance(item, str):
        return re.fullmatch(rf"{re.escape(item)}([.\[].*)?", v.name) is not None
    return isinstance(item, int) and item == v.argument


# ----- nests -------------------------------------------------------------------------------------


def float_leaves(result: Any, numbers: bool = False) -> list[Any]:
    """The float arrays or Tensors that a function returned; an error where there are none.

        float_leaves((np.ones(2), 3))      # [array([1., 1.])]

    numbers: Python's floats count too (on Tensors one is a value that was read: no output)
    """
    bare = isinstance(result, (np.ndarray, Tensor))  # nearly always; no nest to walk
    every = [result] if bare else leaves(tuples(result))
    every = [np.asarray(out) if numbers and type(out) is float else out for out in every]
    found = [out for out in every if _kind(out) in ("f", "c")]
    if not found:
        kind = type(result)
        name = f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
        raise NoGradientError(
            f"f returned no float array to differentiate, but a {name}. Was `return` forgotten, or "
            "a value read by float() or .item()? (A tensor of PyTorch's gives one by .numpy())"
        )
    return found


def tuples(tree: Any) -> Any:
    """A nest in which lists have become tuples.

    tuples([1, {"a": [2]}])      # (1, {'a': (2,)})
    """
    if isinstance(tree, dict):
        return {key: tuples(item) for key, item in tree.items()}
    if hasattr(tree, "_fields"):
        return type(tree)(*map(tuples, tree))
    if isinstance(tree, (list, tuple)):
        return tuple(tuples(item) for item in tree)
    return tree


def filled(args: tuple[Any, ...], values: dict[Any, Any]) -> tuple[Any, ...]:
    """args with some of their leaves replaced, by number; Modules are not counted.

    filled((1, (2, 3)), {2: 4})      # (1, (2, 4))
    """
    count = itertools.count()

    def fill(leaf: Any) -> Any:
        k = next(count)
        return values[k] if k in values else _plain(leaf)

    def replaced(arg: Any) -> Any:
        if isinstance(arg, Module):
            return arg
        nest = isinstance(arg, (tuple, list, dict))
        return _like(arg, map_tree(fill, tuples(arg))) if nest else fill(arg)

    return tuple([replaced(arg) for arg in args])


def _kind(value: Any) -> Any:
    """NumPy's letter for what an array holds; None for what is no array, or not NumPy's."""
    return getattr(getattr(value, "dtype", None), "kind", None)


def _plain(leaf: Any) -> Any:
    """A Tensor's array, and a tensor of PyTorch's as an array; anything else as it is."""
    if isinstance(leaf, Tensor):
        return leaf.data
    own = isinstance(leaf, (np.ndarray, np.generic, type))
    return np.asarray(leaf) if hasattr(leaf, "__array__") and not own else leaf


def _like(original: Any, filled: Any) -> Any:
    """Tuples back to lists where the original had lists."""
    if isinstance(original, dict):
        return {key: _like(item, filled[key]) for key, item in original.items()}
    if hasattr(original, "_fields"):
        return type(original)(*map(_like, original, filled))
    if isinstance(original, (list, tuple)):
        return type(original)(map(_like, original, filled))
    return filled


# ----- the numeric side --------------------------------------------------------------------------


def on_arrays(subject: Subject) -> tuple[Callable[[list[Any]], list[np.ndarray]], str]:
    """The subject on plain arrays, and a note where it had to be wrapped.

    A function that only takes Tensors (it uses .detach(), say) runs on Tensors without recording:
    its values come from the engine then, its derivatives still do not.
    """

    def plainly(values: list[Any]) -> list[np.ndarray]:
        found = subject.outputs(values)
        if any(isinstance(out, Tensor) and out.requires_grad for out in found):
            raise ConversionError(
                "f returned a Tensor that needs a gradient although it was called on plain arrays: "
                "it uses a Parameter that the check cannot see. Pass it as an argument, or its "
                "Module, or name it in wrt"
            )
        return [out.data if isinstance(out, Tensor) else np.asarray(out) for out in found]

    def wrapped(values: list[Any]) -> list[np.ndarray]:
        tensors = [
            x if v.hidden else (Parameter if v.parameter is not None else Tensor)(x)
            for v, x in zip(subject.variables, values, strict=True)
        ]
        with no_grad():
            found = subject.outputs(tensors)
        return [out.data if isinstance(out, Tensor) else out for out in found]

    try:
        plainly(subject.values)
        return plainly, ""
    except (ConversionError, NoGradientError):
        raise
    except Exception as error:
        try:
            wrapped(subject.values)
        except Exception:
            raise error from None
        what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return wrapped, f"f only takes Tensors, and was wrapped (on plain arrays: {what})"[:150]
