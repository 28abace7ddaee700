"""Module: an object whose Parameters can be found; Linear, y = phi(h W + b); Embedding, W[i].

Cells (cells.py) and layers over time (recurrent.py) are Modules, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from . import errors, init
from .arrays import is_float
from .errors import NonFiniteError, ShapeError, integers_have_no_gradient, whole_output
from .functions import activation as activation_named
from .functions import integers_below
from .tensor import Tensor
from .vjp import Array


class Parameter(Tensor):
    """A Tensor that is learnt: it needs a gradient, and Modules find it.

        b = tg.Parameter(np.zeros(3))
        (b * b + b).sum().backward()
        b.data = b.data - 0.1 * b.grad      # what an optimiser does
        b.data                              # array([-0.1, -0.1, -0.1])

    array   of any shape; copied
    dtype   None: the array's own
    Raises DtypeError for integers, ConversionError for a Tensor with a gradient, and InplaceError
    for `b -= ...`, which would leave the weight as it is.
    """

    __slots__ = ()

    def __init__(self, array: Any, dtype: Any = None) -> None:
        super().__init__(array, requires_grad=True, dtype=dtype)

    def convert(self, dtype: Any) -> None:
        """Change the dtype in place: the one exception to `.data` keeping it (Module.astype)."""
        self._data = self._data.astype(dtype)
        self._data.setflags(write=False)
        leaf = self._leaf
        assert leaf is not None
        # the same leaf: a graph recorded before still brings its gradient here, in the new dtype
        leaf.dtypes, leaf.grad = (self._data.dtype,), None

    def _in_place(self, other: Any) -> NoReturn:
        raise errors.parameter_in_place()

    __iadd__ = __isub__ = __imul__ = __itruediv__ = _in_place
    __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _in_place


class Module:
    """Anything with Parameters: found in attributes, and in lists, tuples and dicts of them.

        class Net(tg.Module):
            def __init__(self, rng):
                self.layers = [tg.Linear(2, 3, "tanh", rng=rng), tg.Linear(3, 1, rng=rng)]

        net = Net(np.random.default_rng(0))
        list(net.named_parameters())  # ['layers.0.W', 'layers.0.b', 'layers.1.W', 'layers.1.b']
        len(net.parameters())         # 4
        net.load_state_dict(net.state_dict())                 # a dict of arrays, by name
        net.eval().training           # False
        net.train().zero_grad()

    Subclasses need not call `super().__init__()`. `.training` is True until `eval()`: what differs
    in training, such as dropout, asks for it. Parameters may have any shapes. Raises ShapeError
    where two of them get the same name, by dots in the key of a dict, and InplaceError where an
    attribute that is a Parameter is set to anything but a Parameter or None.
    """

    training = True

    def __setattr__(self, name: str, value: Any) -> None:
        kept = value is None or isinstance(value, Parameter)
        if not kept and isinstance(vars(self).get(name), Parameter):
            raise errors.parameter_replaced(type(self).__name__, name, value)
        super().__setattr__(name, value)

    def named_parameters(self) -> dict[str, Parameter]:
        """Every Parameter once, by its dotted name; a shared one under the first of its names."""
        found: dict[str, Parameter] = {}
        known: set[int] = set()
        for name, p in find(self, Parameter):
            if id(p) in known:
                continue
            if name in found:
                raise ShapeError(f"two Parameters have the name {name!r}: rename one of the keys")
            known.add(id(p))
            found[name] = p
        return found

    def parameters(self) -> list[Parameter]:
        """Every Parameter once."""
        return list(self.named_parameters().values())

    def zero_grad(self) -> None:
        """Set every Parameter's gradient to None."""
        for p in self.parameters():
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all Parameters' arrays, under the names of `named_parameters`."""
        return {name: p.numpy() for name, p in self.named_parameters().items()}

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Set all Parameters from `state_dict()`'s form.

        Names and shapes must match exactly, and all must be real numbers. Arrays are converted to
        the Parameters' dtypes. Raises ShapeError, which lists every difference, and NonFiniteError
        for a number that such a dtype cannot hold; no Parameter has changed then.
        """
        own = self.named_parameters()
        new = matched(own, arrays)
        converted = {name: narrowed(name, a, own[name].dtype) for name, a in new.items()}
        for name, p in own.items():
            p.data = converted[name]

    def astype(self, dtype: Any) -> Any:
        """Convert every Parameter in place, and return the module itself.

            model.astype(np.float32).layer.cell.V.dtype == np.float32       # True

        They stay the same objects, so optimisers made before go on with them. Gradients become
        None. Arrays that are no Parameters (constants, data) stay as they are. Raises DtypeError
        for what is no float.
        """
        dtype = np.dtype(dtype)
        if not is_float(dtype):
            raise integers_have_no_gradient(dtype)
        for p in self.parameters():
            p.convert(dtype)
        return self

    def train(self) -> Any:
        """Set `.training` here and in all modules below; returns the module itself."""
        return self._set_training(True)

    def eval(self) -> Any:
        """Unset `.training` here and in all modules below; returns the module itself."""
        return self._set_training(False)

    def _set_training(self, value: bool) -> Any:
        for _, module in find(self, Module):
            module.training = value
        return self

    def __repr__(self) -> str:
        modules, shapes = dict(find(self, Module)), dict[str, list[str]]()
        for name, p in self.named_parameters().items():
            owner = max((m for m in modules if f"{name}.".startswith(f"{m}." * bool(m))), key=len)
            shapes.setdefault(owner, []).append(f"{name.removeprefix(f'{owner}.')} {p.shape}")
        parts = []
        for owner, own in shapes.items():
            text = "  ".join([*own[:12], *["..."] * (len(own) > 12)])
            parts.append(f"{owner}: {type(modules[owner]).__name__}({text})" if owner else text)
        name, total = type(self).__name__, f"{sum(p.size for p in self.parameters()):,} numbers"
        if len(parts) < 2:
            return f"{name}({parts[0] if parts else 'no parameters'}; {total})"
        more = [f"and {len(parts) - 7} parts more"] if len(parts) > 8 else parts[7:]
        return "\n  ".join([f"{name}(", *parts[:7], *more, f"{total})"])


def find(value: Any, kind: type[Any], name: str = "") -> list[tuple[str, Any]]:
    """Objects of one kind below a value, with dotted names; each Module and container once.

    [name for name, _ in find(tg.Linear(1, 1, rng=0), Parameter)]      # ['W', 'b']
    """
    found: list[tuple[str, Any]] = []
    _collect(value, kind, name, set(), found)
    return found


def dtype_of(module: Module) -> np.dtype[Any]:
    """What a module computes in: its Parameters' dtypes promoted; float64 where it has none.

    dtype_of(tg.Linear(2, 3, rng=0))      # dtype('float64')
    """
    return np.result_type(*[p.dtype for p in module.parameters()] or [np.dtype(np.float64)])


def matched(own: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """The arrays that go to `own`'s, by name; ShapeError lists every difference.

    matched({"b": np.zeros(2)}, {"b": [1.0, 2.0]})      # {'b': array([1., 2.])}
    """
    if not isinstance(arrays, Mapping):
        instead = "A file is loaded by tg.load(path, module); a module has .state_dict()"
        raise errors.dict_of_arrays_wanted("load_state_dict", arrays, instead)
    given = {name: np.asarray(array) for name, array in arrays.items()}
    if found := differences(own, given):
        raise ShapeError("load_state_dict changed nothing: " + "; ".join(found))
    return {name: given[name] for name in own}


def narrowed(name: str, a: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in another dtype; NonFiniteError for a number that is too large for it.

    narrowed("b", np.array([1e39]), np.float64)      # array([1.e+39]); float32 ends at 3.4e38
    """
    with np.errstate(over="ignore"):
        new = a.astype(dtype)
    if not np.array_equal(np.isfinite(new), np.isfinite(a)):
        raise NonFiniteError(f"{name} has numbers that are too large for {np.dtype(dtype)}")
    return new


def differences(
    own: Mapping[str, Any], given: Mapping[str, Any], casting: Any = "same_kind"
) -> list[str]:
    """What differs between arrays by name, each as a text.

        differences({"b": np.zeros(2)}, {"b": np.zeros(3)})      # ['b: shape (3,), expected (2,)']

    casting  dtypes differ where NumPy would not cast like this. With "same_kind" a float is a
             float; not so where one holds no real numbers, or where floats would be cut to integers
    """
    found = [f"{name}: missing" for name in own if name not in given]
    found += [f"{name}: unknown" for name in given if name not in own]
    for name in own:
        if name in given and (a := given[name]).shape != own[name].shape:
            found.append(f"{name}: shape {a.shape}, expected {own[name].shape}")
        elif name in given and not np.can_cast(a.dtype, own[name].dtype, casting):
            found.append(f"{name}: dtype {a.dtype}, expected {own[name].dtype}")
    return found


_LEAVES = {int, float, bool, str, type(None)}  # most attributes: nothing is below them


def _collect(value: Any, kind: Any, name: str, seen: set[int], found: list[Any]) -> None:
    if isinstance(value, kind):
        found.append((name, value))
    if not isinstance(value, (Module, dict, list, tuple)) or id(value) in seen:
        return
    seen.add(id(value))
    value = vars(value) if isinstance(value, Module) else value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if type(item) not in _LEAVES:
            _collect(item, kind, f"{name}.{key}" if name else str(key), seen, found)


class Linear(Module):
    """y = phi(x W + b), over any leading axes: the tutorials' readout, for all times at once.

        readout = tg.Linear(8, 3, rng=0)
        readout(np.ones((5, 2, 8))).shape        # (5, 2, 3)

    inputs, outputs  x (..., inputs) gives (..., outputs); .W is (inputs, outputs), .b (outputs,) or
                     None with bias=False
    activation       tanh, relu, sigmoid, identity or a callable; None: identity
    rng              an int seed or a numpy Generator, required
    dtype            that of W and b
    Raises RngError without rng, ShapeError for x of another width.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Any = None,
        bias: bool = True,
        rng: Any = None,
        dtype: Any = np.float64,
    ) -> None:
        self.W = Parameter(init.glorot(rng, (inputs, outputs), dtype=dtype))
        self.b = Parameter(np.zeros(outputs, dtype)) if bias else None
        self.activation = activation_named(activation)

    def __call__(self, x: Array) -> Any:
        """x (..., inputs) to (..., outputs)."""
        if isinstance(x, tuple):
            raise whole_output("Linear")
        if np.shape(x)[-1:] != self.W.shape[:1]:
            raise ShapeError(f"Linear: x has shape {np.shape(x)}, W expects (..., {len(self.W)})")
        z = x @ self.W
        return self.activation(z if self.b is None else z + self.b)


class Embedding(Module):
    """A learnt vector for each of `count` things: row i of W stands for number i.

        embedding = tg.Embedding(50, 8, rng=0)           # of 50 characters, 8 features each
        embedding(np.array([[3, 3], [7, 0]])).shape      # (2, 2, 8)

    The same as one-hot vectors times W, without making them: (...) integers give (..., size). In
    the gradient the uses of a row add up, and rows not used get 0. W (count, size) starts normally
    distributed, with variance 1.

    rng    an int seed or a numpy Generator, required
    dtype  that of W
    Raises RngError without rng, DtypeError for indices that are not integers, ShapeError for one
    that is not in 0..count-1, in padding too: give 0 there.
    """

    def __init__(self, count: int, size: int, rng: Any = None, dtype: Any = np.float64) -> None:
        self.W = Parameter(init.normal(rng, (count, size), dtype=dtype))

    def __call__(self, indices: Array) -> Any:
        """Integers of any shape (...) to (..., size)."""
        return self.W[integers_below(len(self.W), indices, "Embedding: indices", "row numbers")]
