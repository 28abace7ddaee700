"""Hypothesis strategies for NumPy functions, VJPs and cells: shapes, values, calls, programs.

    from tinygrad_rnn.testing import strategies

    @given(strategies.gufunc("(m,k),(k,n)->(m,n)"))
    def test_product(arrays):
        a, b = arrays
        ...

Values lie on lattices of short binary fractions such as 0.5 and -1.25: sums of them are exact, two
different ones are never nearly equal, a kink can be kept out by choice of the lattice instead of
by `assume`, and a counterexample shrinks to numbers that one can read. Uniform floats, or a seed
for a random generator, shrink to neither.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import abc
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from ..cells import Cell, GRUCell, LSTMCell, RNNCell

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as error:
    raise ImportError(
        "tinygrad_rnn.testing.strategies and grad_property need hypothesis: "
        "pip install 'tinygrad_rnn[testing]'"
    ) from error

Shape = tuple[int, ...]
AnyShape = int | Shape | SearchStrategy[Shape]
Values = Callable[[Any], SearchStrategy[np.ndarray]]  # from a shape to arrays: lattice, generic
Range = int | tuple[int, int]  # a number, or the least and the largest one

# ----- values ------------------------------------------------------------------------------------


def lattice(
    shape: AnyShape,
    lo: float = -2.0,
    hi: float = 2.0,
    step: float = 1 / 8,
    offset: float = 0.0,
    exclude: abc.Sequence[float] = (),
    distinct: bool = False,
    dtype: Any = np.float64,
) -> SearchStrategy[np.ndarray]:
    """Arrays whose elements are offset + k * step, from lo to hi.

        lattice((2, 3))                                 # shrinks to np.zeros((2, 3))
        lattice(shapes(), lo=0.5)                       # positive, of any shape
        lattice((4,), exclude=[0])                      # a kink at 0 is never met
        lattice((4,), offset=1 / 16)                    # nor at any multiple of 1/8
        lattice((3, 3), distinct=True)                  # no ties: for max, sort
        lattice(5, lo=-8, hi=8, step=1, dtype=np.float32)

    shape     an int, a tuple, or a strategy of tuples; 32 x 32 is no more work than 2 x 2
    step      a power of two, so that no rounding blurs the lattice
    offset    two operands with offsets 0 and step / 2 are never equal: for maximum
    exclude   values that are left out
    distinct  no value twice
    dtype     of the arrays

    Simple numbers come first: an array shrinks to 0 where that is allowed, else to whole numbers,
    halves, quarters, the small ones first. Raises ValueError for a lattice without points, and for
    a distinct array with more elements than it has points.
    """
    if step <= 0 or math.frexp(step)[0] != 0.5:
        raise ValueError(f"step={step!r}: expected a power of two, such as 1/8 or 0.5")
    first, last = math.ceil((lo - offset) / step), math.floor((hi - offset) / step)
    count = last - first + 1
    left_out = {float(x) for x in exclude}
    values = {offset + k * step for k in range(first, last + 1)} if count <= 2**16 else set()
    points = sorted(values - left_out, key=_simplicity)
    if not points:
        raise ValueError(
            f"lattice(lo={lo!r}, hi={hi!r}, step={step!r}, offset={offset!r}) has {count} points, "
            f"and {exclude!r} is excluded: expected 1 to 65536 that are left"
        )
    return _lattice(_of_tuples(shape), np.array(points, dtype), distinct)


def _simplicity(x: float) -> tuple[int, float, bool]:
    """0 first, then by the denominator, then by size."""
    return (x != 0) * x.as_integer_ratio()[1], abs(x), x < 0


@st.composite
def _lattice(
    draw: DrawFn, shapes: SearchStrategy[Shape], points: np.ndarray, distinct: bool
) -> np.ndarray:
    shape = draw(shapes)
    size = math.prod(shape)
    if distinct and size > len(points):
        raise ValueError(
            f"shape {shape}: {size} distinct values asked for, and the lattice has {len(points)}. "
            "Widen lo and hi, or make step smaller"
        )
    # One draw of bytes for the whole array. Drawn one by one, 1000 elements are too many for
    # hypothesis; and filled up with one constant, as hypothesis' own arrays are, they could not
    # show a transposed or permuted gradient.
    width = 1 if len(points) <= 256 and not distinct else 2
    drawn = draw(st.binary(min_size=width * size, max_size=width * size))
    k = np.frombuffer(drawn, dtype=f">u{width}").astype(int)
    if distinct:
        left = list(range(len(points)))
        k = np.array([left.pop(i % len(left)) for i in k.tolist()], dtype=int)
    x: np.ndarray = points[k % len(points)].reshape(shape)
    return x


def generic(
    shape: AnyShape, edits: int = 3, values: abc.Sequence[float] = (0.0, 1.0, -1.0, 0.5, -2.0)
) -> SearchStrategy[np.ndarray]:
    """Arrays in general position, cheap and short to print at any size.

        generic((5, 4, 3))          # prints as generic_array((5, 4, 3), {})
        generic(shapes(min_dims=2), edits=0)

    All values are distinct but for a few edits, elements that are set to one of `values`. For
    large arrays, and where a shrunk array of zeros would hide what is wrong.

    shape  an int, a tuple, or a strategy of tuples       edits  how many at most
    Raises nothing of its own.
    """
    return _of_tuples(shape).flatmap(
        lambda s: st.builds(generic_array, st.just(s), _edits(s, edits, values))
    )


def _edits(
    shape: Shape, most: int, values: abc.Sequence[float]
) -> SearchStrategy[dict[Shape, float]]:
    if not math.prod(shape):
        return st.just({})
    places = st.tuples(*[st.integers(0, n - 1) for n in shape])
    return st.dictionaries(places, st.sampled_from(values), max_size=most)


def generic_array(shape: Shape, edits: abc.Mapping[Shape, float] | None = None) -> np.ndarray:
    """The array that `generic` draws: the same for the same shape, all values distinct.

        generic_array((2, 2))                       # array([[0.5, -2.0], [1.5, -1.0]])
        generic_array((2, 2), {(0, 1): 0.0})        # array([[0.5, 0.0], [1.5, -1.0]])

    Any shape. Not 0, at most 2 in magnitude, both signs, magnitudes distinct too, in no order.
    edits: index -> the element's value instead. Raises nothing of its own.
    """
    size = math.prod(shape)
    stride = next(m for m in range(round(0.618 * size) + 1, 2 * size + 3) if math.gcd(m, size) == 1)
    k = np.arange(size) * stride % max(size, 1)
    scale = 2.0 ** max(0, math.ceil(math.log2(max(size, 1) / 2)))
    x = ((k + 1) / scale * np.where(k % 2, -1.0, 1.0)).reshape(shape)
    for index, value in (edits or {}).items():
        x[index] = value
    return x


def cotangents(shape: AnyShape) -> SearchStrategy[np.ndarray]:
    """Weights of a function's outputs: distinct, never 0, and not all the same.

        cotangents((3, 2))

    shape  an int, a tuple, or a strategy of tuples
    Equal weights hide faults: the gradient of a sum of a softmax is 0, right or wrong. Raises
    nothing of its own.
    """
    return generic(shape, values=(1.0, -1.0, 0.5, -2.0, 0.125))


# ----- shapes, axes, indices ---------------------------------------------------------------------


def shapes(
    min_dims: int = 0, max_dims: int = 3, max_side: int = 4, zero: bool = False
) -> SearchStrategy[Shape]:
    """Shapes, with sides of size 1 among them, and with `zero` of size 0.

        shapes(min_dims=1, max_dims=2)          # such as (1,), (3, 1)
        shapes(zero=True)                       # such as (2, 0)

    From min_dims to max_dims axes, none longer than max_side.
    Raises nothing of its own (hypothesis' InvalidArgument for bounds that do not fit).
    """
    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=0 if zero else 1, max_side=max_side
    )


def broadcastable(
    n: int, min_dims: int = 0, max_dims: int = 3, max_side: int = 4, zero: bool = False
) -> SearchStrategy[tuple[Shape, ...]]:
    """n shapes that broadcast together: axes of size 1, axes missing in front.

        broadcastable(2)                        # such as ((3, 1), (2,))

    min_dims, max_dims, max_side and zero as for `shapes`.
    Raises nothing of its own (hypothesis' InvalidArgument for bounds that do not fit).
    """
    return hnp.mutually_broadcastable_shapes(
        num_shapes=n,
        min_dims=min_dims,
        max_dims=max_dims,
        min_side=0 if zero else 1,
        max_side=max_side,
    ).map(_inputs)


def _inputs(found: hnp.BroadcastableShapes) -> tuple[Shape, ...]:
    return found.input_shapes


def gufunc(
    signature: str, max_side: int = 4, max_dims: int = 2, values: Values = lattice
) -> SearchStrategy[tuple[np.ndarray, ...]]:
    """Arrays for a signature as NumPy writes them: one for each operand, in a tuple.

        gufunc("(m,k),(k,n)->(m,n)")            # for matmul; in a third of all cases square
        gufunc("(n),(n)->()", values=generic)
        gufunc("(),()->()", max_dims=3)         # for elementwise functions of two operands

    In front there may be more axes, which broadcast together; max_dims=0: none.

    max_side  the longest side          values  from a shape to arrays: lattice, generic, ...
    Raises nothing of its own (hypothesis' InvalidArgument for what is no signature).
    """
    general = signature.replace(" ", "")
    # Faults that only square matrices show need all sides equal, which is rare by chance.
    square = re.sub(r"[A-Za-z]\w*", "n", general)

    def arrays(signature: str) -> SearchStrategy[tuple[np.ndarray, ...]]:
        found = hnp.mutually_broadcastable_shapes(
            signature=signature, min_side=1, max_side=max_side, max_dims=max_dims
        )
        return found.flatmap(lambda drawn: st.tuples(*map(values, drawn.input_shapes)))

    return st.sampled_from([general, general, square]).flatmap(arrays)


def axes(ndim: int | Shape) -> SearchStrategy[int | Shape | None]:
    """What NumPy's `axis` may be: None, one axis, several in any order; negative ones too.

        axes(3)             # such as None, 1, -1, (2, 0), ()
        axes((4, 2, 3))     # the same, for an array of this shape

    ndim: the number of axes, or the shape. Raises nothing of its own (hypothesis' InvalidArgument
    for bounds that do not fit).
    """
    n = ndim if isinstance(ndim, int) else len(ndim)
    if n == 0:
        return st.sampled_from([None, ()])
    one = st.integers(-n, n - 1)
    return st.none() | one | st.lists(one, unique_by=lambda k: k % n, max_size=n).map(tuple)


def permutations(ndim: int) -> SearchStrategy[Shape]:
    """Orders of the axes, for np.transpose.

        permutations(3)         # such as (0, 1, 2), (2, 0, 1)

    ndim: the number of axes. Raises nothing of its own.
    """
    return st.permutations(range(ndim)).map(tuple)


def indices(shape: Shape) -> SearchStrategy[Any]:
    """Everything that may stand in x[...]: slices, integers, None, index arrays, masks.

        indices((3, 2))         # such as (slice(1, None), None), (array([0, 0, 2]), 1), a mask

    shape  of x. Index arrays have repeats: gradients must then be added up. Masks cover the first
           axes or all. Raises nothing of its own
    """
    basic = hnp.basic_indices(shape, allow_newaxis=True)
    return basic if not shape else basic | _fancy(shape) | _masks(shape)


@st.composite
def _fancy(draw: DrawFn, shape: Shape) -> tuple[Any, ...]:
    size = draw(shapes(max_dims=2, max_side=3))  # index arrays broadcast: here all are this large
    certain = draw(st.integers(0, len(shape) - 1))
    index: list[Any] = []
    for k, n in enumerate(shape):
        kind = "array" if k == certain else draw(st.sampled_from(["slice", "array", "integer"]))
        positions = st.integers(-n, n - 1)
        if n == 0 or kind == "slice":
            index.append(draw(st.slices(n)))
        elif kind == "integer":
            index.append(draw(positions))
        else:
            index.append(draw(hnp.arrays(np.intp, size, elements=positions, fill=st.nothing())))
    return tuple(index)


def _masks(shape: Shape) -> SearchStrategy[np.ndarray]:
    covered = st.integers(1, len(shape)).map(lambda k: shape[:k])
    return covered.flatmap(lambda s: hnp.arrays(np.bool_, s, fill=st.nothing()))


# ----- programs ----------------------------------------------------------------------------------

OPS = (
    "{} + {}",
    "{} * {}",
    "{} - {}",
    "np.tanh({})",
    "np.sin({})",
    "{}[..., ::-1]",
    "np.sum({}, axis=-1, keepdims=True)",
)
LARGE = 4.0  # larger values are divided: squares of squares of squares would overflow


class Program:
    """A computation as Python source: callable, and printed as what it is.

        program = Program(["v0 = x0 * x1", "v1 = np.tanh(v0)"], [np.ones(2), np.ones(1)])
        program(*program.inputs)        # on arrays, or on Tensors
        print(program)                  # def program(x0, x1): ..., and the inputs

    lines      assignments, each to a new name; the last one is what is returned
    inputs     arrays for x0, x1, ..., of any shape
    functions  by name: what the lines call beside `np`
    Raises SyntaxError for lines that are no Python.
    """

    def __init__(
        self,
        lines: abc.Sequence[str],
        inputs: abc.Sequence[np.ndarray],
        functions: abc.Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.inputs = tuple(inputs)
        names = ", ".join(f"x{i}" for i in range(len(inputs)))
        last = lines[-1].partition(" = ")[0] if lines else "x0"
        body = "".join(f"    {line}\n" for line in [*lines, f"return {last}"])
        self.source = f"def program({names}):\n{body}"
        namespace: dict[str, Any] = {"np": np, **(functions or {})}
        exec(self.source, namespace)
        self._run: Callable[..., Any] = namespace["program"]
        self.__name__ = "program"
        self.__signature__ = inspect.signature(self._run)  # check_grads names arguments by it

    def __call__(self, *arrays: Any) -> Any:
        """Run the program on arrays in place of its inputs."""
        return self._run(*arrays)

    def __repr__(self) -> str:
        inputs = ", ".join(f"np.{x!r}" for x in self.inputs)
        return f"{self.source}\ninputs = [{inputs}]"


@st.composite
def programs(
    draw: DrawFn,
    ops: abc.Sequence[str | Callable[..., Any]] = OPS,
    max_ops: int = 10,
    max_inputs: int = 3,
    max_dims: int = 2,
    max_side: int = 3,
) -> Program:
    """Random computations: every line leads to the result, values are used again and again.

        @given(programs())
        def test_graphs(program):
            testing.check_grads(program, *program.inputs)

        programs(ops=["{} + {}", "{} * {}", "np.exp({})", tg.sigmoid])

    They contain diamonds, values that are used twice by one operation, and shapes that broadcast.
    Raises ValueError for a lambda among the ops, which has no name.

    ops         Python expressions with {} for each operand, or functions (the operands are their
                positional arguments). Each takes and gives arrays that broadcast with the inputs
    max_ops     fewer than 4 hardly ever show a fault in the order of the walk back
    max_inputs  inputs have 1 to max_dims axes, none longer than max_side; lattice values from -1 to
                1, not 0. Results above 4 in magnitude are divided by a power of two, and lines that
                give inf or nan are left out
    """
    functions = {f.__name__: f for f in ops if callable(f) and not _in_numpy(f)}
    if not all(name.isidentifier() for name in functions):
        raise ValueError(f"ops={list(functions)}: expected functions with names; a lambda has none")
    templates = [op if isinstance(op, str) else _template(op) for op in ops]
    most = max(t.count("{}") for t in templates)
    many = st.integers(1, max_inputs)
    sizes = draw(many.flatmap(lambda n: broadcastable(n, 1, max_dims, max_side)))
    nodes = [_Node(draw(lattice(size, -1, 1, exclude=[0]))) for size in sizes]
    # What makes programs shrink well: operands are chosen by how far back they are, so that a line
    # can be deleted without the others losing their meaning; lines are drawn last; and the list is
    # hardly ever full, as a full one lacks the end mark that a shorter one needs.
    back = st.sampled_from([0, 1] * 5 + list(range(2, max_ops + max_inputs)))
    line = st.tuples(st.sampled_from(templates), _row(back, most))
    drawn = draw(st.lists(line, min_size=1, max_size=3 * max_ops))[:max_ops]
    with np.errstate(all="ignore"):
        for template, backs in drawn:
            # What nothing has used yet stands nearest: few lines then lead nowhere.
            recent = [n for used in (False, True) for n in reversed(nodes) if n.used == used]
            operands = [recent[b % len(nodes)] for b in backs[: template.count("{}")]]
            names = {f"x{i}": node.value for i, node in enumerate(operands)}
            value = eval(template.format(*names), {"np": np, **functions, **names})
            size = float(np.abs(value).max())
            if size > LARGE and math.isfinite(size):
                factor = 2.0 ** math.ceil(math.log2(size / LARGE))
                template, value = f"({template}) / {factor}", value / factor
            if math.isfinite(size):
                nodes.append(_Node(value, template, operands))

    result = nodes[-1]
    live = {id(result)}
    for node in reversed(nodes):  # what uses a node comes after it
        live.update(id(operand) for operand in node.operands if id(node) in live)
    inputs = [n for n in nodes if id(n) in live and not n.template]
    steps = [n for n in nodes if id(n) in live and n.template]
    for letter, numbered in ("x", inputs), ("v", steps):
        for i, node in enumerate(numbered):
            node.name = f"{letter}{i}"
    lines = [f"{n.name} = {n.template.format(*[o.name for o in n.operands])}" for n in steps]
    return Program(lines, [n.value for n in inputs], functions)


class _Node:
    """A line of a program, or an input (no template)."""

    def __init__(self, value: np.ndarray, template: str = "", operands: Any = ()) -> None:
        self.value, self.template, self.operands = value, template, operands
        self.name, self.used = "", False
        for operand in operands:
            operand.used = True


def _in_numpy(f: Callable[..., Any]) -> bool:
    return getattr(np, f.__name__, None) is f


def _template(f: Callable[..., Any]) -> str:
    """A function as an expression: `np.multiply({}, {})`."""
    count = getattr(f, "nin", None)
    if count is None:
        parameters = inspect.signature(f).parameters.values()
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        count = sum(p.kind in positional and p.default is p.empty for p in parameters)
    name = f"np.{f.__name__}" if _in_numpy(f) else f.__name__
    return f"{name}({', '.join(['{}'] * count)})"


# ----- recurrent networks ------------------------------------------------------------------------


class Sequence:
    """A batch of sequences, short to print: `Sequence((3, 2, 1), lengths=[3, 1])`.

        s = Sequence((3, 2, 3), {(0, 0, 0): 1.0}, lengths=[3, 1])
        rnn(s.x, lengths=s.lengths).outputs.shape      # (3, 2, 4)

    shape, edits  of x (T, N, C), as generic_array takes them
    lengths       (N,) integers, or None         mask  (T, N) booleans, or None
    Raises nothing of its own.
    """

    def __init__(
        self,
        shape: Shape,
        edits: abc.Mapping[Shape, float] | None = None,
        lengths: abc.Sequence[int] | None = None,
        mask: Any = None,
    ) -> None:
        self.shape, self.edits = shape, edits or {}
        self.x = generic_array(shape, edits)
        self.lengths = None if lengths is None else np.array(lengths, dtype=int)
        self.mask = None if mask is None else np.array(mask, dtype=bool)

    def __repr__(self) -> str:
        parts = [repr(self.shape)]
        parts += [repr(self.edits)] if self.edits else []
        parts += [] if self.lengths is None else [f"lengths={self.lengths.tolist()}"]
        parts += [] if self.mask is None else [f"mask={self.mask.tolist()}"]
        return f"Sequence({', '.join(parts)})"


@st.composite
def sequences(
    draw: DrawFn,
    T: Range = (1, 6),
    N: Range = (1, 3),
    C: Range = (1, 3),
    lengths: bool = True,
    mask: bool = False,
) -> Sequence:
    """Batches of sequences: .x (T, N, C), .lengths (N,) and .mask (T, N).

        @given(sequences(C=3))
        def test_layer(s):
            rnn(s.x, lengths=s.lengths)

        sequences(T=5, N=(1, 4), lengths=False, mask=True)

    T, N, C  a number, or the least and the largest one
    lengths  draw them, from 0 to T; else None      mask  the same, any pattern
    Raises nothing of its own (hypothesis' InvalidArgument for bounds that do not fit).
    """
    size = tuple(draw(_number(n)) for n in (T, N, C))
    edits = draw(_edits(size, 2, (0.0, 1.0, -2.0)))
    # Drawn as what is missing, so that full length is what shrinking ends with.
    missing = draw(_row(st.integers(0, size[0]), size[1])) if lengths else None
    padded = draw(_row(_row(st.booleans(), size[1]), size[0])) if mask else None
    return Sequence(
        size,
        edits,
        None if missing is None else [size[0] - n for n in missing],
        None if padded is None else ~np.array(padded, dtype=bool).reshape(size[:2]),
    )


def cells(
    kinds: abc.Sequence[Callable[..., Cell]] = (RNNCell, GRUCell, LSTMCell),
    inputs: Range = (1, 3),
    hidden: Range = (1, 3),
) -> SearchStrategy[Any]:
    """Small cells with parameters from a seed.

        cells()                                         # such as RNNCell(1, 2, rng=0)
        cells([tg.zoo.MGU], inputs=3, hidden=(2, 5))    # such as MGU(3, 4, rng=7)

    kinds  classes or functions that are called with (inputs, hidden, rng=...)
    Raises nothing of its own (hypothesis' InvalidArgument for bounds that do not fit).
    """
    kind = st.sampled_from(kinds)
    sizes = _number(inputs), _number(hidden)
    return kind.flatmap(lambda make: st.builds(make, *sizes, rng=st.integers(0, 99)))


def _number(n: Range) -> SearchStrategy[int]:
    return st.just(n) if isinstance(n, int) else st.integers(*n)


def _row(elements: SearchStrategy[Any], n: int) -> SearchStrategy[list[Any]]:
    return st.lists(elements, min_size=n, max_size=n)


# ----- calls of one operation --------------------------------------------------------------------


class Call:
    """A call of one function, from its case generator: `Call(np.tanh, seed=3)`.

        call = Call(np.tanh, seed=3)
        np.array_equal(call(*call.inputs), np.tanh(*call.inputs))      # True

    The generators are those of `tinygrad_rnn.testing.cases`, a function and a seed to each call.
    Raises NoGradientError where there is none.
    """

    def __init__(self, function: Callable[..., Any], seed: int) -> None:
        cases: Any = import_module(f"{__package__}.cases")  # here, as only Call needs it
        self.function, self.seed = function, seed
        self._run, inputs = cases.draw(function, np.random.default_rng(seed))
        self.inputs = tuple(inputs)
        self.__name__ = str(function.__name__)

    def __call__(self, *arrays: Any) -> Any:
        """Run it on arrays, with the shapes and keywords that were drawn."""
        return self._run(*arrays)

    def __repr__(self) -> str:
        return f"Call({self.__name__}, seed={self.seed})"


def calls(function: Callable[..., Any]) -> SearchStrategy[Call]:
    """Calls of one operation of the library, with arguments of every kind that it takes.

        @given(calls(np.concatenate))
        def test_joining(call):
            testing.check_grads(call, *call.inputs)

    They come from a seed, so they do not shrink; `cases` says how those of a function are drawn.
    Raises NoGradientError, when drawn, where nothing says so.
    """
    return st.integers(0, 2**32 - 1).map(lambda seed: Call(function, seed))


def _of_tuples(shape: AnyShape) -> SearchStrategy[Shape]:
    if isinstance(shape, SearchStrategy):
        return shape
    return st.just((shape,) if isinstance(shape, int) else tuple(shape))
