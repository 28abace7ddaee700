"""Tensor, and `apply`: the one place where the graph grows.

You write plain NumPy. NumPy hands every ufunc and every function that meets a Tensor to the two
protocol methods below (NEP 13 and 18); they, the operators and the methods all end in `apply`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import errors
from .arrays import as_operand, frozen_copy, is_float, own_results, unmasked
from .graph import Key, Leaf, Node, pull, record_node
from .primitives import astype, detach, getitem, split_index, unstack
from .record import each_step, record
from .vjp import COMPOSED, RULES, XS, rule_of


def _operators(ufunc: np.ufunc) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A binary operator and its reflected form."""
    return (lambda a, b: apply(ufunc, a, b)), (lambda a, b: apply(ufunc, b, a))


def _compared(ufunc: np.ufunc) -> Callable[..., Any]:
    """== and != also meet None and strings (`None in [x]`): there the answer is Python's own."""
    return lambda a, b: NotImplemented if isinstance(b, (str, type(None))) else apply(ufunc, a, b)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function as a method."""
    return functools.wraps(function)(lambda *args, **kwargs: call(function, *args, **kwargs))


class Tensor:
    """An array that remembers how it was computed.

        x = tg.Tensor([[1.0, 2.0]], requires_grad=True)
        y = np.tanh(x @ np.ones((2, 3))).sum()
        y.backward()
        x.grad                      # array([[0.0296, 0.0296]]), rounded

    `array` is copied and frozen: changing an element raises, so no gradient can go wrong later.
    Anything of any shape that NumPy takes; floats keep their dtype, `dtype=` converts. Integers and
    booleans are constants. NumPy's functions, operators and methods work as on ndarrays. Raises
    DtypeError where those ask for a gradient, and for what holds no real numbers; ConversionError
    for a Tensor with a gradient of its own, and for masked arrays.
    """

    __slots__ = ("__weakref__", "_data", "_key")
    _data: np.ndarray
    _key: Key | None  # which output of which node this is; None: a constant

    def __init__(self, array: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        given = isinstance(array, Tensor)
        if given and array.requires_grad:
            raise errors.has_a_graph("making a new Tensor from")
        self._data = np.array(array._data if given else unmasked(array), dtype=dtype)
        if not is_float(self._data.dtype) and requires_grad:
            raise errors.integers_have_no_gradient(self._data.dtype)
        self._data.setflags(write=False)
        self._key = (Leaf(self._data), 0) if requires_grad else None

    # ----- what it holds

    shape = property(lambda self: self._data.shape, doc="The shape, as an ndarray's.")
    ndim = property(lambda self: self._data.ndim, doc="The number of axes.")
    size = property(lambda self: self._data.size, doc="The number of elements.")
    dtype = property(lambda self: self._data.dtype, doc="The dtype, as an ndarray's.")
    T = property(lambda self: call(np.transpose, self), doc="All axes in reverse order.")

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow back through this Tensor."""
        return self._key is not None

    @property
    def data(self) -> np.ndarray:
        """The values, a read-only ndarray. `t.data = new` replaces them (same shape and dtype)."""
        if record.tracing:
            raise errors.value_read("this")
        return self._data

    @data.setter
    def data(self, new: Any) -> None:
        self._data = self._like(new, "data")
        self._data.setflags(write=False)

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient that `backward` has added up here (leaves only), or None; may be set."""
        return self._leaf.grad if self._leaf else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if self._leaf is None:
            raise errors.not_a_leaf()
        self._leaf.grad = None if value is None else self._like(value, "grad", self.dtype)

    @property
    def _leaf(self) -> Leaf | None:
        node = self._key[0] if self._key else None
        return node if isinstance(node, Leaf) else None

    def _like(self, value: Any, what: str, dtype: Any = None) -> np.ndarray:
        """A copy of an array that must have this Tensor's shape and dtype."""
        array = np.array(value, dtype)
        if (array.shape, array.dtype) != (self.shape, self.dtype):
            raise errors.other_array(what, array.shape, array.dtype, (self.shape, self.dtype))
        return array

    def numpy(self) -> np.ndarray:
        """A copy of the values that may be changed.

            values = layer(tg.Tensor(x)).last.numpy()
            values[0, 0] = 1.0        # no Tensor changes

        Raises TraceError while a step is traced.
        """
        return self.data.copy()

    def item(self) -> Any:
        """The value of a Tensor with one element, as a Python number."""
        return self.data.item()

    __bool__ = lambda self: bool(self.data)
    __float__ = lambda self: float(self.item() if self.size == 1 else self.data)
    __int__ = lambda self: int(self.item() if self.size == 1 else self.data)
    __index__ = lambda self: self.data.__index__()
    __format__: Any = lambda self, spec: format(self.item() if spec else str(self), spec)
    __len__ = lambda self: len(self._data)

    def __repr__(self) -> str:
        name, data = type(self).__name__, self._data
        lines = np.array2string(data, separator=", ", prefix=f"{name}(", threshold=100).split("\n")
        values = "\n".join(lines if len(lines) < 10 else [*lines[:4], "...", *lines[-4:]])
        rule = self._key[0].rule if self._key else None
        made = f", made by {rule.name}" if rule else ", requires_grad=True" if self._key else ""
        return f"{name}({values}, shape={self.shape}, {self.dtype}{made})"

    def __getstate__(self) -> Any:
        """Copies and pickles keep values, gradient and frozenness, for leaves and constants."""
        if self.requires_grad and self._leaf is None:
            raise errors.has_a_graph("copying")
        return self._data, self.requires_grad, self.grad

    def __setstate__(self, state: Any) -> None:
        data, requires_grad, g = state
        Tensor.__init__(self, data, requires_grad)
        if g is not None:
            self.grad = g

    # ----- gradients

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `.grad` of every leaf that it depends on.

            loss = ((layer(x).last - target) ** 2).mean()
            loss.backward()
            layer.cell.V.grad.shape   # (4, 4): an ndarray of V's shape

        `gradient` is the cotangent, of this Tensor's shape; it may be left out where there is one
        element. The graph is freed on the way: a second call raises GraphFreedError unless the
        first had `retain_graph=True`. Gradients add up over calls; set `.grad = None` in between.
        Raises NoGradientError where nothing needs a gradient, NotScalarError without a cotangent,
        ShapeError for one of another shape.
        """
        for (leaf, _), g in pull(seed(self, gradient), retain=retain_graph).items():
            assert isinstance(leaf, Leaf)
            # an array of its own, whatever the rules shared; "C": g may be a transposed view
            g = np.array(g, order="C")
            leaf.grad = g if leaf.grad is None else np.asarray(leaf.grad + g)

    def detach(self) -> Any:
        """The same values without their history: no gradient flows through the result.

            layer(tg.Tensor(x)).last.detach().requires_grad      # False

        Raises nothing of its own.
        """
        return apply(detach, self)

    def astype(self, dtype: Any) -> Any:
        """Converted to another dtype; the gradient comes back in the old one."""
        return apply(astype, self, dtype=np.dtype(dtype))

    # ----- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if kwargs or method != "__call__":
            raise errors.ufunc_form(ufunc.__name__, method, list(kwargs))
        return apply(ufunc, *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in _ABOUT_SHAPES:
            return function(*[a._data if isinstance(a, Tensor) else a for a in args], **kwargs)
        return call(function, *args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise errors.value_read("__array__") if record.tracing else errors.plain_array_wanted()

    def __dlpack__(self, **kwargs: Any) -> Any:
        """For other libraries' from_dlpack: a copy, which they may write into."""
        return self.numpy().__dlpack__(**kwargs)

    __dlpack_device__ = lambda self: self._data.__dlpack_device__()

    # ----- indexing and iteration over the first axis

    def __getitem__(self, index: Any) -> Any:
        template, arrays = split_index(index)
        return apply(getitem, self, *arrays, index=template)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise errors.element_set()

    def __iter__(self) -> Iterator[Any]:
        """`for x_t in x`: over the first axis, in one recorded operation, so linear in T."""
        if not self.ndim:
            raise TypeError("iteration over a 0-d Tensor")
        return each_step(apply(unstack, self))

    # ----- operators and methods: NumPy's names, the same rules

    if TYPE_CHECKING:  # the other methods are made below by name; mypy cannot know that

        def __getattr__(self, name: str) -> Any: ...

    __hash__ = object.__hash__
    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __truediv__, __rtruediv__ = _operators(np.divide)
    __matmul__, __rmatmul__ = _operators(np.matmul)
    __pow__, __rpow__ = _operators(np.power)
    __mod__, __rmod__ = _operators(np.remainder)
    __floordiv__, __rfloordiv__ = _operators(np.floor_divide)
    __and__, __rand__ = _operators(np.bitwise_and)
    __or__, __ror__ = _operators(np.bitwise_or)
    __lt__, __gt__ = _operators(np.less)[0], _operators(np.greater)[0]
    __le__, __ge__ = _operators(np.less_equal)[0], _operators(np.greater_equal)[0]
    __eq__, __ne__ = _compared(np.equal), _compared(np.not_equal)

    __neg__ = lambda self: apply(np.negative, self)
    __abs__ = lambda self: apply(np.absolute, self)
    __invert__ = lambda self: apply(np.invert, self)
    flatten = lambda self: call(np.ravel, self)
    tolist = lambda self: self.data.tolist()

    def reshape(self, *shape: Any, **order: Any) -> Any:
        """`x.reshape(2, 3)` or `x.reshape((2, 3))`."""
        return call(np.reshape, self, shape[0] if len(shape) == 1 else shape, **order)

    def transpose(self, *axes: Any) -> Any:
        """`x.transpose()`, `x.transpose(1, 0)` or `x.transpose((1, 0))`."""
        return call(np.transpose, self, axes[0] if len(axes) == 1 else axes or None)


_ABOUT_SHAPES = {np.shape, np.ndim, np.size, np.result_type}  # read no values, need no graph

_METHODS = """sum mean prod var std max min cumsum cumprod argmax argmin argsort all any clip dot
    take repeat diagonal trace ravel swapaxes squeeze round"""
for _name in _METHODS.split():  # the same signatures as on ndarrays
    setattr(Tensor, _name, _method(getattr(np, _name)))


def apply(function: Any, *operands: Any, **static: Any) -> Any:
    """Call a function on the values of its operands, and record the call. The graph grows here.

    Every array that takes part is an operand; keywords are hashable and hold no arrays. Operands
    may be Tensors, ndarrays or numbers. The result is a Tensor, or a tuple of them.
    """
    rule = RULES.get(function) or rule_of(function)
    arrays, keys, raw = [], [], []
    for operand in operands:
        if isinstance(operand, Tensor):
            arrays.append(operand._data)
            keys.append(operand._key)
        else:
            if not isinstance(operand, (int, float, np.generic)):
                operand = as_operand(rule.name, operand)
                raw.append(len(arrays))
            arrays.append(operand)
            keys.append(None)
    try:
        result = rule.run(*arrays, **static)
    except ValueError as error:
        if type(error) is not ValueError or rule.own:
            raise  # AxisError and the like say enough; so do a user's own errors
        raise errors.misfit(rule.name, arrays, record.place, error) from error
    if type(result) is np.ndarray and not raw and not rule.own:  # nearly always
        result.setflags(write=False)
        outs, several = [result], False
    else:
        outs, several = own_results(result, [arrays[i] for i in raw], rule.own)
    node = None
    if record.tracking and any(keys):
        for i in raw:  # a frozen view would still change with the array that it views
            if i in rule.keeps or XS in rule.keeps:
                arrays[i] = frozen_copy(arrays[i])
        node = record_node(rule, static, keys, arrays, outs, several)
    if not several and record.watch is None:
        return wrap(outs[0], node)
    tensors = tuple([wrap(out, node, slot) for slot, out in enumerate(outs)])
    if record.watch is not None:
        record.watch(function, operands, static, tensors)
    return tensors if several else tensors[0]


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call by NumPy's own convention: find what is an operand and what a keyword, then `apply`."""
    if function in COMPOSED:
        return COMPOSED[function](*args, **kwargs)
    operands, static = rule_of(function).arguments(args, kwargs)
    return apply(function, *operands, **static)


# ----- helpers -----------------------------------------------------------------------------------


def wrap(data: np.ndarray, node: Node | None = None, slot: int = 0) -> Tensor:
    """A Tensor around an array that is frozen already."""
    tensor: Tensor = object.__new__(Tensor)
    tensor._data = data
    dtype = data.dtype
    tensor._key = (node, slot) if (dtype.kind == "f" or is_float(dtype)) and node else None
    return tensor


def seed(y: Tensor, gradient: Any, lift: bool = False) -> dict[Key, Any]:
    """What the walk back starts from: the cotangent of y, 1 where there is one element."""
    if y._key is None:
        raise errors.needs_no_gradient()
    if gradient is None:
        if y.size != 1:
            raise errors.needs_a_cotangent(y.shape)
        gradient = np.ones(y.shape, y.dtype)
    elif not (lift and isinstance(gradient, Tensor)):
        # a view: it is frozen on its way, and the caller's array is not
        gradient = np.asarray(getattr(gradient, "_data", gradient), y.dtype)[...]
    if gradient.shape != y.shape:
        raise errors.wrong_cotangent(gradient.shape, y.shape)
    return {y._key: gradient}
