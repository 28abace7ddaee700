"""For each rule and each composed function: calls with random shapes, values and keywords.

`draw(function, rng)` gives (call, arrays): call(*arrays) is smooth around these arrays, so that
numeric derivatives exist. Values lie on lattices whose gaps are wider than any step of the ladder
(2**-7 times a normal number). A call also runs on plain arrays, where it is NumPy's own.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import differentiate, functions, primitives, rules
from ..cells import Cell
from ..errors import NoGradientError, RuleError
from ..recurrent import RNN
from ..scan import loop
from ..vjp import Array, Rule, vjp_of

Rng = np.random.Generator
Size = tuple[int, ...]
Case = Any  # (call, arrays): a function, and the list of its arguments
Maker = Callable[[Rng], Case]

GAP = 1 / 16
LARGEST = 64  # elements of all arguments together: every one of them is checked
MAKERS: dict[Any, Maker] = {}


def register_cases(function: Callable[..., Any], make: Maker) -> None:
    """Say how calls of your own function are drawn: `check_all_ops` then checks it too.

        @tg.primitive
        def softsign(x):
            return x / (1 + np.abs(x))

        tg.defvjp(softsign, lambda g, x0: g / (1 + np.abs(x0)) ** 2)

        def make(rng):
            return (lambda x: softsign(x)), [rng.integers(1, 20, 5) / 8]

        testing.register_cases(softsign, make)
        testing.check_op(softsign).ok        # True

    function    has a rule (`tg.defvjp`) or is composed of others
    make        make(rng) -> (call, arrays): call(*arrays) uses the function, on Tensors and on
                plain arrays alike; arrays are float64, of any shapes (a few elements are enough:
                every one is checked), and the function is smooth for some 0.05 around them. Draw
                from rng alone. Vary what can break a rule: shapes, broadcasting, keywords

    A second call for the same function replaces the first. Raises MissingRuleError for a function
    without a rule, NoGradientError for one without derivative, RuleError where make gives
    something else.
    """
    rule = vjp_of(function)
    if isinstance(rule, Rule) and not rule.differentiable:
        raise NoGradientError(f"{rule.name} has no derivative: there is nothing to check")
    drawn(function, make, np.random.default_rng(0))
    MAKERS[function] = make


def draw(function: Callable[..., Any], rng: Rng) -> Case:
    """A call, and its arguments: arrays, now and then in Fortran's order.

    call, arrays = draw(np.tanh, np.random.default_rng(0))
    """
    if function not in MAKERS:
        name = getattr(function, "__name__", function)
        raise NoGradientError(
            f"nothing says how calls of {name} are drawn. Give check_op a make(rng) -> (call, "
            "arrays), or register one: testing.register_cases(function, make)"
        )
    return drawn(function, MAKERS[function], rng)


def drawn(function: Callable[..., Any], make: Maker, rng: Rng) -> Case:
    """One case of a maker; a small one, if it makes small ones at all."""
    for _ in range(20):
        case = make(rng)
        if not (isinstance(case, tuple) and len(case) == 2 and callable(case[0])):
            raise _wrong_maker(function, f"{case!r:.80}")
        call, arrays = case
        if not (isinstance(arrays, (list, tuple)) and arrays):
            raise _wrong_maker(function, f"no arrays, but {arrays!r:.80}")
        dtypes = [str(np.asarray(a).dtype) for a in arrays]
        if set(dtypes) != {"float64"}:
            raise _wrong_maker(function, f"arrays of {', '.join(dtypes)}")
        if sum(np.size(a) for a in arrays) <= LARGEST:
            break
    return call, [np.array(a, order=pick(rng, "C", "C", "F")) for a in arrays]


def _wrong_maker(function: Any, got: str) -> RuleError:
    return RuleError(
        f"the cases of {getattr(function, '__name__', function)}: make(rng) must return (call, "
        f"arrays), a function and a list of float64 arrays; it returned {got}"
    )


def cases(*names: Any) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Register make(function, rng) for these functions."""

    def register(make: Callable[..., Case]) -> Callable[..., Case]:
        MAKERS.update({f: partial(make, f) for f in names})
        return make

    return register


# ----- shapes, axes ------------------------------------------------------------------------------


def pick(rng: Rng, *options: Any) -> Any:
    return options[rng.integers(len(options))]


def shape(rng: Rng, low: int = 0, high: int = 3, least: int = 0) -> Size:
    """Some axes, among them often size 1 and now and then size 0 (not below `least`)."""
    sizes = rng.choice(
        [1, 2, 3, 4, 0], p=[0.25, 0.3, 0.25, 0.15, 0.05], size=rng.integers(low, high + 1)
    )
    return tuple(max(least, n) for n in sizes.tolist())


def part_of(rng: Rng, full: Size) -> Size:
    """A shape that broadcasts to the full one: axes missing in front, axes of size 1."""
    first = pick(rng, 0, 0, rng.integers(0, len(full) + 1))
    return tuple(n if rng.random() < 0.7 else 1 for n in full[first:])


def axis_of(rng: Rng, ndim: int) -> int:
    return int(rng.integers(-ndim, ndim))


def axes_of(rng: Rng, ndim: int) -> Any:
    """None, one axis, or several (or none at all) in any order, negative or not."""
    if ndim == 0:
        return pick(rng, None, ())
    several = rng.permutation(ndim)[: rng.integers(0, ndim + 1)].tolist()
    return pick(
        rng, None, axis_of(rng, ndim), tuple(k - ndim * int(rng.integers(2)) for k in several)
    )


def two_axes(rng: Rng, ndim: int) -> Size:
    """Two different axes, negative or not."""
    return tuple(int(k) - ndim * int(rng.integers(2)) for k in rng.permutation(ndim)[:2])


# ----- values ------------------------------------------------------------------------------------


def real(rng: Rng, size: Any) -> Array:
    """Both signs, never 0."""
    return rng.integers(-24, 24, size) / 8 + GAP


def positive(rng: Rng, size: Any) -> Array:
    return rng.integers(0, 24, size) / 8 + 4 * GAP


def away(rng: Rng, size: Any) -> Array:
    """Both signs, far from 0: for functions with a pole or a kink there."""
    return (positive(rng, size) + 0.25) * rng.choice([-1, 1], size)


def unit(rng: Rng, size: Any) -> Array:
    """Inside (-1, 1), away from the ends."""
    return rng.integers(-7, 8, size) / 10 + 1 / 40


def above_one(rng: Rng, size: Any) -> Array:
    return positive(rng, size) + 1


def odd(rng: Rng, size: Any) -> Array:
    return 2.0 * rng.integers(-4, 4, size) + 1


def even(rng: Rng, size: Any) -> Array:
    """An odd number divided by one of these is far from any integer."""
    return rng.choice([-4.0, -2.0, 2.0, 4.0], size)


def distinct(rng: Rng, size: Any) -> Array:
    """No two equal, not even in magnitude: the largest is the largest by far."""
    count = int(np.prod(size))
    return (rng.permutation(count) + 2).reshape(size) / 8 * rng.choice([-1, 1], size)


def with_zeros(rng: Rng, size: Any) -> Array:
    """Now and then one or two zeros: for products."""
    x = np.array(real(rng, size))
    if x.size:
        x.flat[rng.integers(0, x.size, rng.integers(0, 3))] = 0
    return x


def broadcast(rng: Rng, *domains: Callable[..., Array]) -> list[Array]:
    """Operands whose shapes broadcast together, never a tie between two of them."""
    full = shape(rng)
    return [domain(rng, part_of(rng, full)) + k * GAP / 2 for k, domain in enumerate(domains)]


def beside(call: Callable[..., Any]) -> Callable[..., Any]:
    """Beside the result the first operand's square: gradients of 0 have a scale to be compared."""
    return lambda *xs: (call(*xs), xs[0] * xs[0])


# ----- elementwise functions ---------------------------------------------------------------------

UNARY: dict[Any, list[Any]] = {
    real: [
        *(np.negative, np.positive, np.absolute, np.square, np.exp, np.exp2, np.expm1),
        *(np.sin, np.cos, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh),
        *(functions.sigmoid, functions.relu, functions.softplus),
    ],
    positive: [np.sqrt, np.log, np.log2, np.log10],
    away: [np.reciprocal, np.cbrt],
    unit: [np.tan, np.arcsin, np.arccos, np.arctanh, np.log1p],
    above_one: [np.arccosh],
}
BINARY: dict[Any, list[Any]] = {
    (real, real): [np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.logaddexp],
    (real, away): [np.divide, np.hypot, np.arctan2],
    (odd, even): [np.remainder],
    (positive, real): [np.power],
}


def unary(domain: Any, f: Any, rng: Rng) -> Case:
    return f, [domain(rng, shape(rng))]


def binary(domains: Any, f: Any, rng: Rng) -> Case:
    """Two operands that broadcast, the same Tensor twice, or a Python number on either side."""
    left, right = domains
    before, after, size = float(left(rng, ())), float(right(rng, ())) + GAP / 2, shape(rng)
    kind = rng.random()
    if kind < 0.7:
        return f, broadcast(rng, left, right)
    if kind < 0.8:
        return beside(lambda x: f(x, x)), [(positive if left is positive else right)(rng, size)]
    if kind < 0.9:
        return (lambda x: f(x, after)), [left(rng, size)]
    return (lambda x: f(before, x)), [right(rng, size) + GAP / 2]


for _domain, _functions in UNARY.items():
    cases(*_functions)(partial(unary, _domain))
for _domains, _functions in BINARY.items():
    cases(*_functions)(partial(binary, _domains))


@cases(np.power)
def power(f: Any, rng: Rng) -> Case:
    n = pick(rng, 0, 1, 2, 3, -1, -2, 2.0, 0.5, -1.5)
    x = (away if n == int(n) else positive)(rng, shape(rng))
    return pick(rng, binary((positive, real), f, rng), ((lambda x: beside(f)(x, n)), [x]))


@cases(np.nan_to_num)
def nan_to_num(f: Any, rng: Rng) -> Case:
    x = np.array(real(rng, shape(rng)))
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.1] = np.inf
    return (lambda x: f(x, nan=0.5, posinf=2.0)), [x]


@cases(np.where)
def where(f: Any, rng: Rng) -> Case:
    full = shape(rng)
    c = rng.random(part_of(rng, full)) < 0.5
    return (lambda x, y: f(c, x, y)), [real(rng, part_of(rng, full)) for _ in range(2)]


@cases(np.select)
def select(f: Any, rng: Rng) -> Case:
    full = shape(rng)
    conditions = [rng.random(part_of(rng, full)) < 0.4 for _ in range(2)]
    arrays = [real(rng, part_of(rng, full)) for _ in range(3)]
    return pick(
        rng,
        ((lambda *xs: f(conditions, xs)), arrays[:2]),
        ((lambda x, y, z: f(conditions, [x, y], default=z)), arrays),
    )


@cases(np.clip)
def clip(f: Any, rng: Rng) -> Case:
    x, low, high = broadcast(rng, real, real, real)
    return pick(
        rng,
        (f, [x, low, high]),
        ((lambda x: f(x, -1, 1)), [x]),
        (lambda x, high: f(x, None, high), [x, high]),
        ((lambda x: f(x, a_min=low, a_max=None)), [x]),
    )


# ----- reductions, and functions along an axis ---------------------------------------------------


def reduction(domain: Any, least: int, f: Any, rng: Rng) -> Case:
    x = domain(rng, shape(rng, least=least))
    kwargs = {} if rng.random() < 0.3 else {"axis": axes_of(rng, x.ndim)}
    kwargs |= pick(rng, {}, {"keepdims": True}, {"keepdims": False})
    if f in (np.var, np.std) and x.size > np.size(np.sum(x, kwargs.get("axis"))):
        kwargs["ddof"] = int(rng.integers(2))
    return beside(lambda x: f(x, **kwargs)), [x]


cases(np.sum)(partial(reduction, real, 0))
cases(np.prod)(partial(reduction, with_zeros, 0))
cases(rules.euclidean_norm)(partial(reduction, away, 0))
cases(np.mean, np.var)(partial(reduction, real, 1))
cases(np.max, np.amax, np.min, np.amin)(partial(reduction, distinct, 1))
cases(functions.logsumexp)(partial(reduction, real, 1))
cases(np.std)(partial(reduction, lambda *args: 4 * distinct(*args), 1))


def along(domain: Any, low: int, choices: list[Any], f: Any, rng: Rng) -> Case:
    """A function along one axis, or with one of the choices."""
    x = domain(rng, shape(rng, low, least=int(f not in (np.cumsum, np.cumprod, np.sort))))
    one = {"axis": axis_of(rng, x.ndim)} if x.ndim else choices[0]
    kwargs = pick(rng, one, one, *choices)
    return beside(lambda x: f(x, **kwargs)), [x]


cases(functions.softmax, functions.log_softmax)(partial(along, real, 1, [{}]))
cases(np.cumsum)(partial(along, real, 0, [{}, {"axis": None}]))
cases(np.cumprod)(partial(along, with_zeros, 0, [{}, {"axis": None}]))
cases(np.sort)(partial(along, distinct, 1, [{}, {"axis": None}, {"kind": "stable"}]))


@cases(functions.root_mean_square)
def root_mean_square(f: Any, rng: Rng) -> Case:
    return f, [away(rng, (*shape(rng, 0, 2), 3))]


@cases(np.linalg.norm)
def norm(f: Any, rng: Rng) -> Case:
    x = distinct(rng, shape(rng, 1, least=1))
    vectors = {"ord": pick(rng, None, 1, 2, 3, 1.5, np.inf, -np.inf), "axis": axis_of(rng, x.ndim)}
    options = [{}, vectors, vectors]
    if x.ndim == 1:
        options += [{"ord": vectors["ord"]}]
    else:
        options += [{"ord": pick(rng, None, "fro"), "axis": two_axes(rng, x.ndim)}]
    kwargs = pick(rng, *options) | pick(rng, {}, {"keepdims": True})
    return (lambda x: f(x, **kwargs)), [x]


@cases(rules.average_ties)
def average_ties(f: Any, rng: Rng) -> Case:
    g = real(rng, shape(rng, 1))
    axis = axis_of(rng, g.ndim)
    ordered = np.sort(rng.integers(0, 3, g.shape), axis)
    return (lambda g: f(g, ordered, axis=axis)), [g]


@cases(np.diff)
def diff(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 1))
    n, axis = int(rng.integers(0, 4)), axis_of(rng, x.ndim)
    return pick(rng, (f, [x]), ((lambda x: f(x, n, axis)), [x]))


# ----- products ----------------------------------------------------------------------------------


@cases(np.matmul)
def matmul(f: Any, rng: Rng) -> Case:
    n, k, m = shape(rng, 3)
    lead = shape(rng, 0, 2)
    a = pick(rng, (k,), (n, k), (*part_of(rng, lead), n, k), (1, n, k))
    b = pick(rng, (k,), (k, m), (*part_of(rng, lead), k, m), (k, m))
    twice = (lambda x: f(x, x)), [real(rng, (*lead, n, n))]
    return pick(rng, *[(f, [real(rng, a), real(rng, b)])] * 7, twice)


@cases(rules.rows_product)
def rows_product(f: Any, rng: Rng) -> Case:
    lead = shape(rng, 1, 2)
    return f, [real(rng, (*lead, 2)), real(rng, (*lead, 3))]


@cases(np.dot)
def dot(f: Any, rng: Rng) -> Case:
    k = int(rng.integers(0, 4))
    a = pick(rng, (), (k,), (*shape(rng, 1, 2), k))
    b = pick(rng, (), (k,), (*shape(rng, 0, 1), k, *shape(rng, 1, 1)))
    return f, [real(rng, a), real(rng, b)]


@cases(np.inner)
def inner(f: Any, rng: Rng) -> Case:
    k = int(rng.integers(0, 4))
    a, b = (pick(rng, (), (*shape(rng, 0, 2), k), (*shape(rng, 0, 2), k)) for _ in range(2))
    return f, [real(rng, a), real(rng, b)]


@cases(np.outer)
def outer(f: Any, rng: Rng) -> Case:
    return f, [real(rng, shape(rng, 0, 2)), real(rng, shape(rng, 0, 2))]


@cases(np.tensordot)
def tensordot(f: Any, rng: Rng) -> Case:
    m, k, j, n = shape(rng, 4, 4)
    a, b, axes = pick(
        rng,
        ((m, k), (k, n), 1),
        ((m, k, j), (k, j), 2),
        ((m, k, j), (k, j, n), None),  # NumPy's default: 2
        ((m,), (n, k), 0),
        ((k, m), (n, k), (0, 1)),
        ((m, k), (k,), ([-1], [0])),
        ((k, m, j), (j, n, k), ((0, -1), (2, 0))),
    )
    kwargs = {} if axes is None else {"axes": axes}
    return (lambda x, y: f(x, y, **kwargs)), [real(rng, a), real(rng, b)]


SUBSCRIPTS = """
    ij,jk->ik  ij,jk  i,i  i,i->  i,j->ji  ij->ji  ji  ij->  ij->i  ij  ,i->i  ,->
    ii  ii->i  ii->  iij->ji  iij,jk  iii->i  ii,ii->i  iijj->ij  ij,k->i  i,j->  ij,ij->ij
    bij,bjk->bik  ba  aB,Bc  i,ij,j  i,ij,j->  ij,jk,kl  ij,jk,kl->li  i,j,k->kij  ijk,jk,k->i
    ...ij,...jk->...ik  ...ij,jk->...ik  ...i,i  ...i->...  i...->...i  i...j  ...ii->...i
    ...,...  ...i,...i->...  i,...  ...i,...j,k->...ijk  i...i->...
""".split()  # noqa: SIM905


@cases(np.einsum)
def einsum(f: Any, rng: Rng) -> Case:
    subscripts = pick(rng, *SUBSCRIPTS)
    sizes = dict(zip(string.ascii_letters, rng.permutation([0, *[1, 2, 3] * 20]), strict=False))
    lead = shape(rng, 0, 2, least=1)
    arrays = []
    for name in subscripts.partition("->")[0].split(","):
        before, dots, after = name.partition("...")
        hidden = part_of(rng, lead) if dots else ()
        size = *(sizes[c] for c in before), *hidden, *(sizes[c] for c in after)
        arrays.append(real(rng, size))
    subscripts = pick(rng, subscripts, subscripts.replace(",", " , ").replace("->", " ->  "))
    return (lambda *xs: f(subscripts, *xs)), arrays


@cases(rules.einsum_product)
def einsum_product(f: Any, rng: Rng) -> Case:
    labels = pick(rng, ("ij", "jk", "ik"), ("ij", "k", "i"), ("i", "ij", "j", ""), ("ijk", "kj"))
    sizes = dict(zip("ijk", shape(rng, 3), strict=True))
    arrays = [real(rng, [sizes[c] for c in name]) for name in labels[:-1]]
    return (lambda *xs: f(xs, labels=labels)), arrays


# ----- shapes ------------------------------------------------------------------------------------


@cases(np.reshape)
def reshape(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng))
    flat = -1 if x.size else 0
    new = pick(rng, flat, (flat, 1), (1, *x.shape[::-1]), x.size)
    order = pick(rng, "C", "F")
    return (lambda x: f(x, new, order=order)), [x]


@cases(np.ravel)
def ravel(f: Any, rng: Rng) -> Case:
    order = pick(rng, "C", "F")
    return (lambda x: f(x, order)), [real(rng, shape(rng))]


@cases(np.atleast_1d, np.atleast_2d)
def at_least(f: Any, rng: Rng) -> Case:
    return f, [real(rng, shape(rng)) for _ in range(rng.integers(1, 3))]


@cases(np.transpose)
def transpose(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng))
    axes = [int(k) - x.ndim * int(rng.integers(2)) for k in rng.permutation(x.ndim)]
    return pick(rng, (f, [x]), ((lambda x: f(x, axes)), [x]))


@cases(np.swapaxes)
def swapaxes(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 1))
    a, b = axis_of(rng, x.ndim), axis_of(rng, x.ndim)
    return (lambda x: f(x, a, b)), [x]


@cases(np.moveaxis)
def moveaxis(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 2))
    a, b = (two_axes(rng, x.ndim) for _ in range(2))
    one = (lambda x: f(x, a[0], b[0])), [x]
    return pick(rng, one, ((lambda x: f(x, a, b)), [x]))


@cases(np.expand_dims)
def expand_dims(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng))
    axis = pick(rng, int(rng.integers(-x.ndim - 1, x.ndim + 1)), (0, -1), (1,))
    axis = 0 if axis == (1,) and not x.ndim else axis
    return (lambda x: f(x, axis)), [x]


@cases(np.squeeze)
def squeeze(f: Any, rng: Rng) -> Case:
    x = real(rng, (1, *shape(rng, 0, 2), 1))
    axis = pick(rng, None, 0, -1, (0, -1), ())
    return (lambda x: f(x, axis)), [x]


@cases(np.broadcast_to)
def broadcast_to(f: Any, rng: Rng) -> Case:
    full = shape(rng, 1)
    x = real(rng, part_of(rng, full))
    return (lambda x: f(x, full)), [x]


@cases(np.tile)
def tile(f: Any, rng: Rng) -> Case:
    reps = pick(rng, 2, 0, (2,), (2, 3), (1, 2, 1), (2, 1, 1, 2), ())
    return (lambda x: f(x, reps)), [real(rng, shape(rng))]


@cases(np.repeat)
def repeat(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, least=1))
    axis = axis_of(rng, x.ndim) if x.ndim and rng.random() < 0.7 else None
    count = x.size if axis is None else x.shape[axis]
    repeats = pick(rng, 2, 0, rng.integers(0, 3, count), rng.integers(0, 3, count).tolist())
    return (lambda x: f(x, repeats, axis=axis)), [x]


@cases(np.flip)
def flip(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng))
    axis = axes_of(rng, x.ndim)
    return pick(rng, (f, [x]), ((lambda x: f(x, axis)), [x]))


@cases(np.rot90)
def rot90(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 2))
    k, axes = int(rng.integers(-3, 6)), two_axes(rng, x.ndim)
    return pick(rng, (f, [x]), ((lambda x: f(x, k, axes)), [x]))


@cases(np.roll)
def roll(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 1))
    n, m, axis = int(rng.integers(-4, 5)), int(rng.integers(-4, 5)), axis_of(rng, x.ndim)
    several = tuple(range(x.ndim))
    shift, axis = pick(rng, (n, None), (n, axis), ((n, m), (axis, 0)), (n, several))
    return (lambda x: f(x, shift, axis=axis)), [x]


@cases(rules.pad_constant)
def pad_constant(f: Any, rng: Rng) -> Case:
    width = pick(rng, 2, (1, 2), ((0, 3), (1, 0)), 0)
    value = pick(rng, 0, 2.5)
    return (lambda x: f(x, pad_width=width, constant_values=value)), [real(rng, shape(rng, 2, 2))]


@cases(np.pad)
def pad(f: Any, rng: Rng) -> Case:
    width = pick(rng, 2, (1, 5), ((0, 3), (1, 0)))
    mode = pick(rng, "edge", "reflect", "symmetric", "wrap")
    kwargs = pick(rng, {}, {"constant_values": 2.5}, {"mode": mode}, {"mode": mode})
    return (lambda x: f(x, width, **kwargs)), [real(rng, shape(rng, 2, 2, least=1))]


# ----- joining and splitting ---------------------------------------------------------------------


@cases(np.concatenate, np.append)
def concatenate(f: Any, rng: Rng) -> Case:
    base = list(shape(rng, 1))
    axis = pick(rng, None, *[axis_of(rng, len(base))] * 4)
    arrays = []
    for _ in range(rng.integers(1, 4) if f is np.concatenate else 2):
        base = list(shape(rng, f is np.concatenate)) if axis is None else base
        if axis is not None:
            base[axis] = int(rng.integers(0, 4))
        arrays.append(real(rng, tuple(base)))
    if f is np.append:
        return (lambda x, y: f(x, y, axis)), arrays
    return (lambda *xs: f(xs, axis=axis)), arrays


@cases(np.stack)
def stack(f: Any, rng: Rng) -> Case:
    size = shape(rng)
    axis = int(rng.integers(-len(size) - 1, len(size) + 1))
    arrays = [real(rng, size) for _ in range(rng.integers(1, 4))]
    twice = (lambda x: f([x, x, 2 * x], axis)), arrays[:1]
    return pick(rng, ((lambda *xs: f(xs, axis=axis)), arrays), twice)


@cases(np.vstack, np.hstack, np.column_stack)
def joined(f: Any, rng: Rng) -> Case:
    n, k, m = shape(rng, 3)
    columns = [(n, k), (n, m)]
    mixed = {
        np.vstack: [(k, n), (n,)],
        np.hstack: [(), (n,), ()],
        np.column_stack: [(n,), (n, k), (n,)],
    }
    matrices = [size[::-1] for size in columns] if f is np.vstack else columns
    sizes = pick(rng, [(n,), (n,)], [(n,)], matrices, mixed[f])
    return (lambda *xs: f(xs)), [real(rng, size) for size in sizes]


@cases(np.split, np.array_split)
def split(f: Any, rng: Rng) -> Case:
    x = real(rng, (4, *shape(rng, 0, 2)))
    parts = pick(
        rng, 2, 4, [1, 3], [2], np.array([0, 3, 3]), *([3, 5] if f is np.array_split else [])
    )
    axis = pick(rng, 0, -x.ndim)
    some = pick(rng, slice(None), slice(1), slice(1, None))  # not every part is used
    return (lambda x: tuple(f(x, parts, axis=axis))[some]), [x]


@cases(primitives.unstack)
def unstack(f: Any, rng: Rng) -> Case:
    return (lambda x: tuple(x)), [real(rng, (int(rng.integers(1, 4)), *shape(rng, 0, 2)))]


@cases(differentiate.rerun)
def checkpoint(f: Any, rng: Rng) -> Case:
    block = differentiate.checkpoint(lambda x, y: (np.tanh(x * y) * x, x + y))
    return block, broadcast(rng, real, real)


class _Mix(Cell):
    state_shape = (2,)

    def step(self, x: Any, state: Any) -> Any:
        return np.tanh(x * state + 0.5 * x)


@cases(loop.scanned)
def scanned(f: Any, rng: Rng) -> Case:
    rnn = RNN(_Mix(), scan=True, reverse=bool(rng.integers(2)))
    return (lambda x, h: rnn(x, h).outputs), [real(rng, (3, 1, 2)), real(rng, (1, 2))]


@cases(primitives.astype)
def astype(f: Any, rng: Rng) -> Case:
    return (lambda x: x.astype(np.float64) * 2), [real(rng, shape(rng))]


# ----- indexing ----------------------------------------------------------------------------------


@cases(primitives.getitem)
def getitem(f: Any, rng: Rng) -> Case:
    x = real(rng, (3, 4, 2))
    index = pick(
        rng,
        1,
        np.int64(-1),
        slice(1, None),
        (slice(None), slice(None, None, -2)),
        (..., 0),
        None,
        ...,
        (),
        (1, None, ..., slice(0, 1)),
        slice(0, 0),
        np.array([0, 2, 0]),  # repeats: gradients add up
        np.array(2),
        (slice(None), [3, 3]),
        (np.array([[0, 1]]), np.array([[2], [2]])),
        (np.array([0, 0]), slice(1, 3), 1),
        (0, slice(None), [1, 1, 0]),  # axes of arrays that are apart come first
        (None, [-1, 2], ..., np.array([[True, False], [True, True]])[0]),
        x > 0,
        (x > 0)[..., 0],
        (np.array([True, False, True]),),
        np.zeros(3, bool),
        np.zeros(0, int),
        True,
    )
    return (lambda x: x[index]), [x]


@cases(np.take)
def take(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 1, least=1))
    axis = pick(rng, None, *[axis_of(rng, x.ndim)] * 2)
    count = x.size if axis is None else x.shape[axis]
    rows = rng.integers(-count, count, shape(rng, 0, 2))
    rows = pick(rng, rows, rows.tolist())
    return (lambda x: f(x, rows, axis=axis)), [x]


@cases(rules.scatter)
def scatter(f: Any, rng: Rng) -> Case:
    array = primitives.ARRAY
    rows, all_of_it = rng.integers(0, 4, 3), primitives.Slice(None, None, None)
    size, new, index, arrays = pick(
        rng,
        ((3, 2), (5, 2), (primitives.Slice(1, 4, None),), ()),
        ((3, 2), (4, 2), (array,), (rows,)),
        ((3,), (4, 4), (array, array), (rows, rows)),
        ((2, 3), (2, 4), (all_of_it, array), (rows,)),
        ((2,), (3,), (array,), (np.array([True, False, True]),)),
    )
    return (lambda g: f(g, *arrays, shape=new, index=index)), [real(rng, size)]


@cases(np.take_along_axis)
def take_along_axis(f: Any, rng: Rng) -> Case:
    full = shape(rng, 1)
    axis = axis_of(rng, len(full))
    size, rows = ([n if rng.random() < 0.8 else 1 for n in full] for _ in range(2))
    size[axis], rows[axis] = max(1, full[axis]), int(rng.integers(0, 4))
    picked = rng.integers(0, size[axis], rows)
    return (lambda x: f(x, picked, axis)), [real(rng, size)]


@cases(rules.scatter_along)
def scatter_along(f: Any, rng: Rng) -> Case:
    rows = rng.integers(0, 4, (2, 3))
    return (lambda g: f(g, rows, shape=(2, 4), axis=-1)), [real(rng, (2, 3))]


@cases(np.diagonal, np.trace)
def diagonal(f: Any, rng: Rng) -> Case:
    x = real(rng, shape(rng, 2))
    offset, (i, j) = int(rng.integers(-3, 4)), two_axes(rng, x.ndim)
    return pick(rng, (f, [x]), ((lambda x: f(x, offset, i, j)), [x]))


@cases(np.diag, np.tril, np.triu)
def triangles(f: Any, rng: Rng) -> Case:
    k = int(rng.integers(-3, 4))
    return (lambda x: f(x, k)), [real(rng, shape(rng, 1, 2 if f is np.diag else 3))]
