"""Tensor, and `apply`: the one place where the graph grows.

You write plain NumPy. NumPy hands every ufunc and every function that meets a Tensor to the two
protocol methods below (NEP 13 and 18); they, the operators and the methods all end in `apply`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import (
    ConversionError,
    DtypeError,
    InplaceError,
    MissingRuleError,
    NoGradientError,
    NotScalarError,
    ShapeError,
    TraceError,
    UnusedInputError,
)
from .graph import (
    RULES,
    XS,
    Array,
    Key,
    Leaf,
    Node,
    Rule,
    pull,
    record,
    record_node,
)


def _operators(ufunc: np.ufunc) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A binary operator and its reflected form."""

    def operator(self: Tensor, other: Array) -> Any:
        return apply(ufunc, self, other)

    def reflected(self: Tensor, other: Array) -> Any:
        return apply(ufunc, other, self)

    return operator, reflected


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function as a method."""

    @functools.wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return call(function, self, *args, **kwargs)

    return method


class Tensor:
    """An array that remembers how it was computed.

        x = tg.Tensor([[1.0, 2.0]], requires_grad=True)
        y = np.tanh(x @ np.ones((2, 3))).sum()
        y.backward()
        x.grad                      # array([[0.0296, 0.0296]]), rounded

    `array` is copied and frozen: changing an element raises, so no gradient can go wrong later.
    Anything of any shape that NumPy takes; floats keep their dtype, `dtype=` converts. Integers and
    booleans are constants: DtypeError if they ask for a gradient. NumPy's functions, operators and
    methods work as on ndarrays.
    """

    __slots__ = ("_data", "_key", "__weakref__")
    _data: np.ndarray
    _key: Key | None  # which output of which node this is; None: a constant

    def __init__(self, array: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self._data = _frozen(np.array(_plain(array), dtype=dtype))
        if self._data.dtype.kind not in "fiub":
            raise DtypeError(f"a Tensor holds floats, integers or booleans, not {self.dtype}")
        if requires_grad and self._data.dtype.kind != "f":
            raise DtypeError(
                f"{self.dtype} tensors are constants: only floats have gradients. Give floats, or "
                "dtype=np.float64"
            )
        self._key = (Leaf(self._data), 0) if requires_grad else None

    # ----- what it holds

    @property
    def data(self) -> np.ndarray:
        """The values, a read-only ndarray. `t.data = new` replaces them (same shape and dtype)."""
        _reading("data")
        return self._data

    @data.setter
    def data(self, new: Any) -> None:
        array = np.array(_plain(new))
        if array.shape != self.shape:
            raise ShapeError(f"data has shape {self.shape}; the new array has {array.shape}")
        if array.dtype != self.dtype:
            raise DtypeError(f"data is {self.dtype}; the new array is {array.dtype}: convert it")
        self._data = _frozen(array)

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient that `backward` has added up here (leaves only), or None; may be set."""
        leaf = self._key[0] if self._key else None
        return leaf.grad if isinstance(leaf, Leaf) else None

    @grad.setter
    def grad(self, value: Any) -> None:
        leaf = self._key[0] if self._key else None
        if not isinstance(leaf, Leaf):
            raise NoGradientError("only leaves made with requires_grad=True hold a gradient")
        if value is not None:
            value = np.array(value, dtype=self.dtype)
            if value.shape != self.shape:
                raise ShapeError(f"grad must have shape {self.shape}; got {value.shape}")
        leaf.grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow back through this Tensor."""
        return self._key is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as an ndarray's."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype, as an ndarray's."""
        return self._data.dtype

    def numpy(self) -> np.ndarray:
        """A copy of the values that may be changed."""
        return self.data.copy()

    def item(self) -> Any:
        """The value of a Tensor with one element, as a Python number."""
        return self.data.item()

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        values = np.array2string(self._data, separator=", ", prefix="Tensor(", threshold=100)
        made = ""
        if self._key:
            rule = self._key[0].rule
            made = f", made by {rule.name}" if rule else ", requires_grad=True"
        return f"Tensor({values}, shape={self.shape}, {self.dtype}{made})"

    # ----- gradients

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `.grad` of every leaf that it depends on.

            loss = ((layer(x).outputs - target) ** 2).mean()
            loss.backward()
            layer.cell.V.grad         # an ndarray of V's shape

        `gradient` is the cotangent, of this Tensor's shape; it may be left out where there is one
        element. The graph is freed on the way: a second call raises GraphFreedError unless the
        first had `retain_graph=True`. Gradients add up over calls; set `.grad = None` in between.
        Raises NoGradientError where nothing needs a gradient, NotScalarError without a cotangent.
        """
        found = pull(_seed(self, gradient), retain=retain_graph)
        for (leaf, _), g in found.items():
            assert isinstance(leaf, Leaf)
            g = np.array(g, order="C")  # an array of its own, whatever the rules shared
            leaf.grad = g if leaf.grad is None else np.asarray(leaf.grad + g)

    def detach(self) -> Tensor:
        """The same values without their history: no gradient flows through the result."""
        return apply(detach, self)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Tensor:
        """Converted to another dtype; the gradient comes back in the old one."""
        return apply(astype, self, dtype=np.dtype(dtype))  # type: ignore[no-any-return]

    # ----- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None or method == "at":
            raise InplaceError(
                f"np.{ufunc.__name__} cannot write into an array and be differentiated: use its "
                "result instead (a = a + t rather than a += t or out=a)"
            )
        if method != "__call__" or kwargs:
            what = f".{method}" if method != "__call__" else f"({', '.join(kwargs)}=)"
            raise MissingRuleError(
                f"np.{ufunc.__name__}{what} has no VJP on Tensors; use np.sum, np.max, np.cumsum "
                "... for reductions, np.where for where=, .astype for dtype="
            )
        return apply(ufunc, *inputs)

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if function in _ABOUT_SHAPES:
            return function(*[a._data if isinstance(a, Tensor) else a for a in args], **kwargs)
        return call(function, *args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        if record.tracing:
            _reading("__array__")
        raise ConversionError(
            "a Tensor does not turn into a plain array by itself: its graph would be lost without "
            "a word. Use t.data for the values, t.detach() to cut the graph on purpose, np.stack "
            "to join Tensors in one Tensor, and np.* functions on the Tensor itself"
        )

    # ----- indexing and iteration over the first axis

    def __getitem__(self, index: Any) -> Tensor:
        parts: list[Any] = []
        arrays = []
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, slice):
                parts.append(Slice(part.start, part.stop, part.step))
            elif part is None or part is Ellipsis or type(part) is int:
                parts.append(part)
            elif isinstance(part, np.integer):
                parts.append(int(part))
            else:  # index arrays are operands, never keywords: a traced step must see them
                parts.append(ARRAY)
                arrays.append(part if isinstance(part, Tensor) else np.asarray(part))
        return apply(getitem, self, *arrays, index=tuple(parts))  # type: ignore[no-any-return]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise InplaceError(
            "the elements of a Tensor cannot be set: the graph still needs the old ones. Collect "
            "the parts in a list and join them, np.stack(parts), or choose by np.where(mask, a, b)"
        )

    def __iter__(self) -> Iterator[Tensor]:
        """`for x_t in x`: over the first axis, in one recorded operation, so linear in T.

        The outermost such loop is the loop over time: it sets t in the place of what it records.
        """
        if not self.ndim:
            raise TypeError("iteration over a 0-d Tensor")
        outermost = record.place.t is None
        try:
            for t, x_t in enumerate(apply(unstack, self)):
                if outermost:
                    record.place = record.place._replace(t=t)
                yield x_t
        finally:
            if outermost:
                record.place = record.place._replace(t=None)

    # ----- operators and methods: NumPy's names, the same rules

    if TYPE_CHECKING:  # the methods are made below by name; mypy cannot know that

        def __getattr__(self, name: str) -> Any: ...

    __hash__ = object.__hash__
    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __truediv__, __rtruediv__ = _operators(np.divide)
    __matmul__, __rmatmul__ = _operators(np.matmul)
    __pow__, __rpow__ = _operators(np.power)
    __lt__, __gt__ = _operators(np.less)  # Python turns a < b into b > a, so the pair is right
    __le__, __ge__ = _operators(np.less_equal)
    __eq__, __ne__ = _operators(np.equal)[0], _operators(np.not_equal)[0]

    def __neg__(self) -> Any:
        return apply(np.negative, self)

    def __abs__(self) -> Any:
        return apply(np.absolute, self)

    @property
    def T(self) -> Any:
        """All axes in reverse order."""
        return call(np.transpose, self)

    def reshape(self, *shape: Any) -> Any:
        """`x.reshape(2, 3)` or `x.reshape((2, 3))`."""
        return call(np.reshape, self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """`x.transpose()`, `x.transpose(1, 0)` or `x.transpose((1, 0))`."""
        axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return call(np.transpose, self, axes or None)


_ABOUT_SHAPES = {np.shape, np.ndim, np.size, np.result_type}  # read no values, need no graph

for _name in ("sum", "mean", "max", "min", "argmax", "swapaxes", "squeeze"):  # as on ndarrays
    setattr(Tensor, _name, _method(getattr(np, _name)))


def apply(function: Any, *operands: Any, **static: Any) -> Any:
    """Call a function on the values of its operands, and record the call. The graph grows here.

    Every array that takes part is an operand; keywords are hashable and hold no arrays. Operands
    may be Tensors, ndarrays or numbers. The result is a Tensor, or a tuple of them.
    """
    rule = RULES.get(function) or _missing(function)
    arrays, parents, raw = [], [], []
    for i, operand in enumerate(operands):
        if isinstance(operand, Tensor):
            arrays.append(operand._data)
            if operand._key is not None:
                parents.append((i, operand._key))
        else:
            arrays.append(operand)
            if isinstance(operand, np.ndarray):
                raw.append(i)
    try:
        result = rule.run(*arrays, **static)
    except ValueError as error:
        if type(error) is not ValueError or rule.own:
            raise  # AxisError and the like say enough; so do a user's own errors
        raise ShapeError(_misfit(rule.name, arrays, error)) from error
    several = isinstance(result, (tuple, list))
    outs = []
    for out in result if several else (result,):
        outs.append(_frozen(_unshared(out, arrays, raw) if raw else out))
    node = None
    if parents and record.tracking:
        for i in raw:  # a frozen view would still change with the array that it views
            if i in rule.keeps or XS in rule.keeps:
                arrays[i] = _frozen(arrays[i].copy())
        node = record_node(rule, static, parents, arrays, outs)
    outputs = (
        tuple([_wrap(out, node, slot) for slot, out in enumerate(outs)])
        if several
        else (_wrap(outs[0], node),)
    )
    if record.watch is not None:
        record.watch(function, operands, static, outputs)
    return outputs if several else outputs[0]


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call by NumPy's own convention: find what is an operand and what a keyword, then `apply`."""
    rule = RULES.get(function) or _missing(function)
    operands, static = rule.arguments(args, kwargs)
    return apply(function, *operands, **static)


def primitive(f: Callable[..., Any]) -> Callable[..., Any]:
    """Make your own NumPy function recordable; then say how it is differentiated.

        @tg.primitive
        def softsign(x):
            return x / (1 + np.abs(x))

        tg.defvjp(softsign, lambda g, x0: g / (1 + np.abs(x0)) ** 2)

    `f` gets ndarrays and returns an array, or a tuple of them. Array arguments are positional;
    others are keywords, hashable, and named in the VJPs. On plain arrays it runs as it is.
    """

    @functools.wraps(f)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if type(value) is not np.ndarray and _holds_tensor(value):
                return call(recorded, *args, **kwargs)
        return f(*args, **kwargs)

    recorded.on_arrays = f  # type: ignore[attr-defined]
    return recorded


def grad(
    y: Tensor,
    inputs: Any = None,
    gradient: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The gradients of y with respect to the inputs, one Tensor for each; `.grad` is not touched.

        x = tg.Tensor(2.0, requires_grad=True)
        (dx,) = tg.grad(x**3, [x], create_graph=True)     # 12
        (ddx,) = tg.grad(dx, [x])                         # 12, the derivative of 3 x**2

    y             a Tensor; `gradient` is its cotangent, which one element may leave out
    inputs        a Tensor or several, leaves or not
    create_graph  record the way back too, so that the gradients have gradients
    retain_graph  keep the graph for another call; None: as create_graph
    allow_unused  None for an input that y does not depend on, instead of UnusedInputError

    Raises NotScalarError, GraphFreedError, UnusedInputError.
    """
    if not isinstance(y, Tensor) or inputs is None:
        raise NoGradientError(
            "tg.grad takes the result of a function and its inputs. Type: y = f(x); tg.grad(y, [x])"
        )
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    found: dict[Key, Any] = {}
    wanted = {x._key for x in inputs if x._key is not None}
    if y._key is not None and wanted:
        found = pull(
            _seed(y, gradient),
            wanted,
            create_graph if retain_graph is None else retain_graph,
            _lift if create_graph else None,
        )
    results: list[Tensor | None] = []
    for k, x in enumerate(inputs):
        g = None if x._key is None else found.get(x._key)
        if g is None and not allow_unused:
            why = "needs no gradient" if x._key is None else "is not used by y"
            raise UnusedInputError(
                f"input {k}, of shape {x.shape}, {why}. Pass allow_unused=True to get None for it"
            )
        results.append(g if g is None or isinstance(g, Tensor) else Tensor(g))
    return tuple(results)


# ----- three primitives that the Tensor's own syntax needs (their rules stand in rules.py) --------


class Slice(NamedTuple):
    """A slice that can be hashed (Python's own can only since 3.12)."""

    start: Any
    stop: Any
    step: Any


class _Array:
    def __repr__(self) -> str:
        return "ARRAY"


ARRAY = _Array()  # stands in an index where an index array, an operand, belongs


def numpy_index(index: tuple[Any, ...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index that NumPy understands."""
    rest = iter(arrays)
    return tuple(
        slice(*part) if type(part) is Slice else next(rest) if part is ARRAY else part
        for part in index
    )


@primitive
def getitem(x: Array, *arrays: Array, index: tuple[Any, ...]) -> Array:
    """x[index], where index holds ARRAY in place of each index array."""
    return x[numpy_index(index, arrays)]


@primitive
def unstack(x: Array) -> tuple[Array, ...]:
    """x[0], x[1], ...: all at once."""
    return tuple(x)


@primitive
def detach(x: Array) -> Array:
    """The same values, without history; `tg.detach` works on plain arrays too."""
    return x


@primitive
def astype(x: Array, dtype: np.dtype[Any]) -> Array:
    """x converted to another dtype."""
    return x.astype(dtype)


# ----- helpers -----------------------------------------------------------------------------------


def _wrap(data: np.ndarray, node: Node | None = None, slot: int = 0) -> Tensor:
    """A Tensor around an array that is frozen already."""
    tensor: Tensor = object.__new__(Tensor)
    tensor._data = data
    tensor._key = None if node is None or data.dtype.kind != "f" else (node, slot)
    return tensor


def _lift(value: Any, key: Key | None) -> Any:
    """What a node kept, as a Tensor with its place in the graph; numbers stay numbers."""
    return _wrap(value, *(key or ())) if isinstance(value, np.ndarray) else value


def _frozen(out: Any) -> np.ndarray:
    array = out if type(out) is np.ndarray else np.asarray(out)
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"Tensors hold floats, integers or booleans; this is {array.dtype}")
    array.setflags(write=False)
    return array


def _unshared(out: Any, arrays: list[Any], raw: list[int]) -> Any:
    """A copy where a result is a view of the caller's own array, which must not be frozen."""
    for i in raw:
        if out is arrays[i] or (
            getattr(out, "base", None) is not None and np.may_share_memory(out, arrays[i])
        ):
            return out.copy()
    return out


def _plain(array: Any) -> Any:
    if isinstance(array, Tensor):
        if array.requires_grad:
            raise ConversionError("a Tensor that needs a gradient: cut its graph with .detach()")
        return array._data
    return array


def _holds_tensor(value: Any) -> bool:
    if type(value) in (list, tuple):
        return any(isinstance(item, Tensor) for item in value)
    return isinstance(value, Tensor)


def _reading(what: str) -> None:
    if record.tracing:
        raise TraceError(
            f"{what} reads the value of a Tensor while a step is traced: the value would be baked "
            "into the traced loop. Use np.where for choices that depend on values, or scan=False"
        )


def _seed(y: Tensor, gradient: Any) -> dict[Key, Any]:
    """What the walk back starts from."""
    if y._key is None:
        raise NoGradientError(
            "this Tensor needs no gradient: nothing that it was computed from has "
            "requires_grad=True, or it was computed inside no_grad or detached"
        )
    if gradient is None:
        if y.size != 1:
            raise NotScalarError(
                f"the gradient of a Tensor of shape {y.shape} needs a cotangent: reduce it to one "
                "number first (.sum(), .mean(), a loss), or pass gradient= of that shape"
            )
        gradient = np.ones(y.shape, y.dtype)
    elif not isinstance(gradient, Tensor):
        gradient = np.asarray(gradient, dtype=y.dtype)
    if gradient.shape != y.shape:
        raise ShapeError(f"gradient must have the shape {y.shape}; got {gradient.shape}")
    return {y._key: gradient}


def _missing(function: Any) -> Rule:
    name = getattr(function, "__name__", repr(function))
    raise MissingRuleError(
        f"no VJP is registered for {name}: differentiating through it is not possible. Register "
        f"one, tg.defvjp({name}, lambda g, x0: ...), or call it on t.detach().data"
    )


def _misfit(name: str, arrays: Sequence[Any], error: ValueError) -> str:
    shapes = ", ".join(str(np.shape(a)) for a in arrays)
    place = f", in {record.place}" if str(record.place) else ""
    return f"{name} of shapes {shapes}{place}: {error}"
