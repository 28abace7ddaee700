"""For each function in the rule table: calls with random shapes, values and keywords.

`draw(function, rng)` gives (call, arrays): call(*arrays) is smooth around these arrays, so that
numeric derivatives exist. Values lie on a lattice with gaps wider than any step of the ladder.
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import functions, primitives, rules

GAP = 1 / 16


def shape(rng, low=0, high=3):
    """Some axes, among them often size 1 and now and then size 0."""
    return tuple(
        rng.choice(
            [1, 2, 3, 4, 0], p=[0.25, 0.3, 0.25, 0.15, 0.05], size=rng.integers(low, high + 1)
        ).tolist()
    )


def real(rng, size):
    """Both signs, never 0."""
    return rng.integers(-24, 24, size) / 8 + GAP


def positive(rng, size):
    return rng.integers(0, 24, size) / 8 + 4 * GAP


def unit(rng, size):
    """Inside (-1, 1), away from the ends."""
    return rng.integers(-7, 8, size) / 10 + 1 / 40


def distinct(rng, size):
    """No two equal: the largest is the largest by far."""
    count = int(np.prod(size))
    return (rng.permutation(count).reshape(size) - count // 2) / 8 + GAP


def broadcast(rng, *domains):
    """Operands whose shapes broadcast together: axes missing, axes of size 1."""
    full = shape(rng)
    arrays = []
    for k, domain in enumerate(domains):
        own = [
            n if rng.random() < 0.7 else 1
            for n in full[rng.integers(0, len(full) + 1) * (rng.random() < 0.4) :]
        ]
        arrays.append(domain(rng, tuple(own)) + k * GAP / 2)  # never a tie between operands
    return arrays


def axis_of(rng, ndim):
    return int(rng.integers(-ndim, ndim))


def axes_of(rng, ndim):
    """None, one axis, or several in any order, negative or not."""
    kind = rng.integers(0, 3) if ndim else 0
    if kind == 0:
        return None
    if kind == 1:
        return axis_of(rng, ndim)
    picked = rng.permutation(ndim)[: rng.integers(1, ndim + 1)]
    return tuple(int(k) - ndim * int(rng.integers(0, 2)) for k in picked)


def elementwise(function, *domains):
    def make(rng):
        if len(domains) == 1:
            return function, [domains[0](rng, shape(rng))]
        arrays = broadcast(rng, *domains)
        if len(domains) == 2 and rng.random() < 0.15:  # the same tensor on both sides
            return (lambda x: function(x, x + GAP / 2)), [domains[0](rng, shape(rng))]
        return function, arrays

    return make


def along(function, domain=real, low=1, **choices):
    """A function with an axis (one), and keywords to choose from."""

    def make(rng):
        x = domain(rng, tuple(max(1, n) for n in shape(rng, low)))
        kwargs = {name: values[rng.integers(len(values))] for name, values in choices.items()}
        if rng.random() < 0.8:
            kwargs["axis"] = axis_of(rng, x.ndim)
        return (lambda x: function(x, **kwargs)), [x]

    return make


def reduction(function, domain=real, nonempty=False):
    def make(rng):
        size = shape(rng)
        if nonempty:
            size = tuple(max(1, n) for n in size)
        x = domain(rng, size)
        axis, keepdims = axes_of(rng, x.ndim), bool(rng.integers(2))
        if rng.random() < 0.3:
            return (lambda x: function(x)), [x]
        return (lambda x: function(x, axis=axis, keepdims=keepdims)), [x]

    return make


def matmul(rng):
    n, k, m = rng.integers(1, 4, 3)
    lead = shape(rng, 0, 2)
    a = [(k,), (n, k), (*lead, n, k), (1, n, k)][rng.integers(4)]
    b = [(k,), (k, m), (*lead, k, m), (k, m)][rng.integers(4)]
    return np.matmul, [real(rng, a), real(rng, b)]


def rows_product(rng):
    lead = shape(rng, 1, 2)
    return rules.rows_product, [real(rng, (*lead, 2)), real(rng, (*lead, 3))]


def reshape(rng):
    x = real(rng, shape(rng))
    flat = (-1,) if x.size else (0, 2)
    return (lambda x: np.reshape(x, flat)), [x]


def transpose(rng):
    x = real(rng, shape(rng))
    axes = None if rng.random() < 0.3 else [int(k) for k in rng.permutation(x.ndim)]
    return (lambda x: np.transpose(x, axes)), [x]


def swapaxes(rng):
    x = real(rng, shape(rng, 1))
    a, b = axis_of(rng, x.ndim), axis_of(rng, x.ndim)
    return (lambda x: np.swapaxes(x, a, b)), [x]


def expand_dims(rng):
    x = real(rng, shape(rng))
    axis = int(rng.integers(-x.ndim - 1, x.ndim + 1)) if rng.random() < 0.7 else (0, -1)
    return (lambda x: np.expand_dims(x, axis)), [x]


def squeeze(rng):
    x = real(rng, (1, *shape(rng, 0, 2), 1))
    axis = [None, 0, -1, (0, -1)][rng.integers(4)]
    return (lambda x: np.squeeze(x, axis)), [x]


def broadcast_to(rng):
    full = shape(rng, 1)
    x = real(rng, tuple(n if rng.random() < 0.5 else 1 for n in full[rng.integers(0, len(full)) :]))
    return (lambda x: np.broadcast_to(x, full)), [x]


def concatenate(rng):
    base = list(shape(rng, 1))
    axis = axis_of(rng, len(base)) if rng.random() < 0.85 else None
    arrays = []
    for _ in range(rng.integers(1, 4)):
        if axis is not None:
            base[axis] = int(rng.integers(0, 4))
        arrays.append(real(rng, tuple(base)))
    return (lambda *xs: np.concatenate(xs, axis=axis)), arrays


def stack(rng):
    size = shape(rng)
    axis = int(rng.integers(-len(size) - 1, len(size) + 1))
    return (lambda *xs: np.stack(xs, axis=axis)), [
        real(rng, size) for _ in range(rng.integers(1, 4))
    ]


def split(rng):
    x = real(rng, (4, *shape(rng, 0, 2)))
    parts = [2, 4, [1, 3], [2]][rng.integers(4)]
    axis = 0 if rng.random() < 0.5 else -x.ndim
    some = rng.random() < 0.5  # not every part is used
    return (
        lambda x: np.split(x, parts, axis=axis)[0] if some else tuple(np.split(x, parts, axis))
    ), [x]


def getitem(rng):
    x = real(rng, (3, 4, 2))
    indices = [
        1,
        -1,
        slice(1, None),
        (slice(None), slice(None, None, -2)),
        (..., 0),
        None,
        (1, None, ..., slice(0, 1)),
        slice(0, 0),
        np.array([0, 2, 0]),  # repeats: gradients add up
        (slice(None), [3, 3]),
        (np.array([[0, 1]]), np.array([[2], [2]])),
        (np.array([0, 0]), slice(1, 3), 1),
        x > 0,
        (np.array([True, False, True]),),
    ]
    index = indices[rng.integers(len(indices))]
    return (lambda x: x[index]), [x]


def scatter(rng):
    x = real(rng, (3, 2))
    if rng.random() < 0.5:
        index = (primitives.Slice(1, 4, None),)
        return (lambda g: rules.scatter(g, shape=(5, 2), index=index)), [x]
    rows = rng.integers(0, 4, 3)
    return (lambda g: rules.scatter(g, rows, shape=(4, 2), index=(primitives.ARRAY,))), [x]


def take_along_axis(rng):
    size = list(shape(rng, 1))
    axis = axis_of(rng, len(size))
    size[axis] = max(1, size[axis])
    x = real(rng, tuple(size))
    size[axis] = int(rng.integers(0, 4))
    picked = rng.integers(0, x.shape[axis], size)
    return (lambda x: np.take_along_axis(x, picked, axis)), [x]


def scatter_along(rng):
    g = real(rng, (2, 3))
    rows = rng.integers(0, 4, (2, 3))
    return (lambda g: rules.scatter_along(g, rows, shape=(2, 4), axis=-1)), [g]


def where(rng):
    x, y = broadcast(rng, real, real)
    c = rng.random(np.broadcast_shapes(x.shape, y.shape)) < 0.5
    return (lambda x, y: np.where(c, x, y)), [x, y]


def power(rng):
    if rng.random() < 0.5:
        n = [0, 1, 2, 3, -1, 0.5, 2.0][rng.integers(7)]
        return (lambda x: x**n), [positive(rng, shape(rng))]
    return np.power, broadcast(rng, positive, real)


MAKERS = {
    np.power: power,
    np.where: where,
    np.matmul: matmul,
    rules.rows_product: rows_product,
    np.reshape: reshape,
    np.transpose: transpose,
    np.swapaxes: swapaxes,
    np.expand_dims: expand_dims,
    np.squeeze: squeeze,
    np.broadcast_to: broadcast_to,
    np.concatenate: concatenate,
    np.stack: stack,
    np.split: split,
    primitives.getitem: getitem,
    rules.scatter: scatter,
    np.take_along_axis: take_along_axis,
    rules.scatter_along: scatter_along,
    primitives.unstack: lambda rng: (
        lambda x: tuple(x),
        [real(rng, (int(rng.integers(1, 4)), *shape(rng, 0, 2)))],
    ),
    primitives.astype: lambda rng: (
        lambda x: x.astype(np.float64) * 2,
        [real(rng, shape(rng))],
    ),
    np.sum: reduction(np.sum),
    np.mean: reduction(np.mean, nonempty=True),
    np.max: reduction(np.max, distinct, nonempty=True),
    np.min: reduction(np.min, distinct, nonempty=True),
    functions.softmax: along(tg.softmax, real),
    functions.log_softmax: along(tg.log_softmax),
    functions.root_mean_square: lambda rng: (
        functions.root_mean_square,
        [positive(rng, (*shape(rng, 0, 2), 3))],
    ),
}
MAKERS |= {
    f: elementwise(f, real)
    for f in (
        np.negative,
        np.positive,
        np.absolute,
        np.square,
        np.exp,
        np.tanh,
        np.sin,
        np.cos,
        tg.sigmoid,
        tg.relu,
        tg.softplus,
    )
}
MAKERS |= {f: elementwise(f, positive) for f in (np.log, np.sqrt)}
MAKERS |= {
    f: elementwise(f, real, real)
    for f in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)
}


def draw(function, rng):
    return MAKERS[function](rng)
