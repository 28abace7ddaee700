"""Random cells, and random calls of them: with scan=True they must give what the plain loop gives.

    python tests/scan_programs.py 2000          # 0 failures in 2,000 cases
    python tests/scan_programs.py --seed 17     # one case: its program, its options, what differs

A cell's step is a random program, written as Python source: its lines stand in errors, in what scan
emits, and in the report of a failure. A case is a program, its sizes and the options of a call.
Only tame cases count: where a relative change of all that is given by 1e-9 changes results by at
most 5e-8, a difference of 1e-12 cannot be rounding.
"""

import itertools
import linecache
import re
import sys
import warnings
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.nests import leaves, refilled

TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
GAIN = 50  # the largest response to a change of the data, relative to it


@tg.primitive
def bend(x):
    """A user's own function: scan knows nothing of it but its derivative."""
    return x / (1 + np.abs(x))


tg.defvjp(bend, lambda g, x0: g / (1 + np.abs(x0)) ** 2)


@tg.primitive
def halves(x, power=2):
    """Another one, of two results and with a keyword."""
    return x / power, x * x / (power * 2)


def _halves_vjp(g, x0, power=2):
    return g[0] / power + g[1] * (x0 / power)


tg.defvjp(halves, _halves_vjp)


def cut(x):
    """No gradient; where the loop runs on plain arrays (T = 0), there is none to cut."""
    return x.detach() if isinstance(x, tg.Tensor) else x


def untracked(x):
    """No gradient, by no_grad."""
    with tg.no_grad():
        return np.tanh(x)


class Pair(NamedTuple):
    """One of the forms that a state may have."""

    slow: Any
    fast: Any


# ----- a program ---------------------------------------------------------------------------------


class V(NamedTuple):
    """A value in a program: its name, the shape of one row, a bound, what it depends on."""

    name: str
    shape: tuple[int, ...]
    bound: float
    on: frozenset[str]

    def __format__(self, spec):
        return self.name


class Writer:
    """Writes a random step, line by line, and collects the arrays that it reads."""

    def __init__(self, rng, rows, inputs, hidden, mixes):
        self.rng, self.rows, self.mixes = rng, rows, mixes
        self.lines, self.values, self.attributes = [], [], {}
        self.count = itertools.count()
        self.inputs, self.hidden = inputs, hidden

    # what it reads

    def chance(self, p):
        return self.rng.random() < p

    def choice(self, *items):
        return items[self.rng.integers(len(items))]

    def attribute(self, prefix, value):
        name = f"{prefix}{len(self.attributes)}"
        self.attributes[name] = value
        return f"self.{name}"

    def weights(self, *shape):
        array = self.rng.normal(size=shape)
        if len(shape) == 2 and array.size:
            return array * (self.rng.uniform(0.5, 1.3) / np.linalg.norm(array, 2))
        return np.clip(array, -1.5, 1.5)

    def parameter(self, *shape):
        """A Parameter of this shape, an old one if there is one, or an expression of some."""
        old = [
            f"self.{name}"
            for name, p in self.attributes.items()
            if isinstance(p, tg.Parameter) and p.shape == shape
        ]
        name = self.choice(*old) if old and self.chance(0.5) else None
        name = name or self.attribute("p", tg.Parameter(self.weights(*shape)))
        if not self.chance(0.3):
            return name
        if len(shape) == 2 and shape[0] == shape[1] and self.chance(0.5):
            return self.choice(
                f"({name} - {name}.T)",
                f"{name}.T",
                f"({name} * np.eye({shape[0]}, dtype=x0.dtype))",
                f"({name} @ {self.parameter(*shape)})",
            )
        if len(shape) == 2 and self.chance(0.4):
            wide = self.attribute("w", tg.Parameter(self.weights(shape[0], 4 * shape[1])))
            k = self.rng.integers(4)
            cut = f"[:, {k * shape[1]} : {(k + 1) * shape[1]}]"
            return self.choice(f"np.split({wide}, 4, axis=-1)[{k}]", f"{wide}{cut}")
        return self.choice(
            f"np.tanh({name})",
            f"({name} / np.sqrt(({name} * {name}).sum() + 1))",
            f"({name} * {self.constant(*shape)})",
            f"tg.softmax({name})" if shape and shape[-1] else f"tg.sigmoid({name})",
            f"{name}.detach()",
            f"(0.5 + 0.5 * {name})",
        )

    def constant(self, *shape):
        """A raw array: an attribute, or made in the step."""
        if self.chance(0.2):
            return self.choice(f"np.ones({shape}, x0.dtype)", f"np.full({shape}, 0.5, x0.dtype)")
        return self.attribute("k", self.weights(*shape))

    def operand(self, *shape):
        """What may stand beside a value with rows of this shape, and is none itself."""
        kind = self.rng.integers(6)
        shape = self.choice(shape, shape[-1:], ())
        if kind == 0:
            return self.choice("0.5", "2", "-1.25", "np.float32(0.5)")
        return self.constant(*shape) if kind == 1 else self.parameter(*shape)

    def indices(self, size, count=None):
        count = int(self.rng.integers(1, 5)) if count is None else count
        return self.attribute("i", self.rng.integers(-size, size, count)), count

    # what it writes

    def put(self, text, shape, bound, *parents, keep=True):
        """One line, and one more where the bound grows too large."""
        name = f"v{next(self.count)}"
        on = frozenset().union(*[p.on for p in parents])
        self.lines.append(f"{name} = {text}")
        if bound > 3:
            squash = self.choice(
                "np.tanh({0})", "tg.sigmoid({0})", "np.sin({0})", "bend({0})", "cut(np.tanh({0}))"
            )
            squash = self.choice(squash, f"{{0}} * {2 / bound:.3f}")
            self.lines.append(f"{name} = {squash.format(name)}")
            bound = 2.0
        value = V(name, tuple(shape), bound, on)
        if keep:
            self.values.append(value)
        return value

    def pick(self, rank=None, least=0, only=None, but=None):
        """A value that is there already, mostly a late one; of this rank, if it is given."""
        found = [
            v
            for v in self.values
            if (rank is None or len(v.shape) == rank)
            and (not v.shape or v.shape[-1] >= least)
            and (only is None or v.on <= only)
            and v != but
        ]
        if not found:
            shape = [(), (self.hidden,), (2, self.hidden)][rank or 1]
            shape = (*shape[:-1], max(least, *shape[-1:])) if shape else shape
            return self.fit(self.choice(*[v for v in self.values if v.on <= (only or v.on)]), shape)
        if self.chance(0.6):  # what nobody has read yet, so that most lines matter
            found = [v for v in found if not self.read(v)] or found[-4:]
        return self.choice(*found)

    def read(self, v):
        """Whether a later line has it."""
        others = [line.partition("=") for line in self.lines]
        return any(re.search(rf"\b{v}\b", b) for a, _, b in others if a.strip() != v.name)

    def everything(self, shape, most=12):
        """What nobody has read yet, added up, with rows of this shape."""
        loose = [v for v in self.values if not self.read(v)][-most:] or [self.pick()]
        parts = [self.fit(v, shape) for v in loose]
        text = " + ".join(part.name for part in parts)
        return self.put(text, shape, sum(part.bound for part in parts), *parts)

    def fit(self, v, shape):
        """A value of rows of this shape, made of v."""
        if v.shape and not shape:
            axes = tuple(range(-len(v.shape), 0))
            return self.put(f"np.{self.choice('mean', 'max')}({v}, axis={axes})", (), v.bound, v)
        if shape and not v.shape:
            factor = self.parameter(shape[-1])
            v = self.put(f"{v}[..., None] * {factor}", shape[-1:], 1.5 * v.bound, v)
        if shape and v.shape[-1] != shape[-1]:
            size = v.shape[-1]
            new = (*v.shape[:-1], shape[-1])
            bound = 1.3 * v.bound * size**0.5
            v = self.put(f"{v} @ {self.parameter(size, shape[-1])}", new, bound, v)
        if len(v.shape) > len(shape):
            v = self.put(f"np.mean({v}, axis=-2)", shape, v.bound, v)
        if len(v.shape) < len(shape):
            copies = ", ".join(self.choice(f"{v}", f"-{v}") for _ in range(shape[0]))
            text = self.choice(
                f"np.stack([{copies}], axis=-2)",
                f"{v}[..., None, :] * {self.parameter(shape[0], 1)}",
                f"np.broadcast_to({v}[..., None, :], {v}.shape[:-1] + {shape})",
            )
            v = self.put(text, shape, 1.5 * v.bound, v)
        if v.shape != shape:
            text = f"{self.parameter(shape[0], v.shape[0])} @ {v}"
            v = self.put(text, shape, 1.3 * v.bound * v.shape[0] ** 0.5, v)
        return v

    def two(self):
        """Two values whose rows broadcast together, as texts, their shape and bounds."""
        a = self.pick()
        b = self.pick(but=a)
        last = {v.shape[-1] for v in (a, b) if v.shape}
        if len(last) == 2 and 1 not in last:
            b = self.fit(b, a.shape)
        if len(a.shape) == len(b.shape) == 2 and a.shape[0] != b.shape[0]:
            b = self.fit(b, a.shape)
        texts, rank = [], max(len(a.shape), len(b.shape))
        for v in (a, b):
            missing = rank - len(v.shape)
            index = ", ".join(["..."] + ["None"] * missing + [":"] * len(v.shape))
            texts.append(f"{v}[{index}]" if missing else f"{v}")
        return (*texts, np.broadcast_shapes(a.shape, b.shape), a, b)

    # the kinds of lines

    def unary(self):
        v = self.pick()
        text, bound = self.choice(
            ("np.tanh({0})", 1),
            ("np.tanh({0})", 1),
            ("tg.sigmoid({0})", 1),
            ("tg.sigmoid({0})", 1),
            ("tg.relu({0})", v.bound),
            ("tg.softplus({0})", v.bound + 0.7),
            ("np.exp(-np.abs({0}))", 1),
            ("np.exp(np.minimum({0}, 0.5))", 1.7),
            ("np.square({0})", v.bound**2),
            ("{0} ** 2", v.bound**2),
            ("{0} ** 3", v.bound**3),
            ("np.abs({0})", v.bound),
            ("-{0}", v.bound),
            ("np.sqrt({0} * {0} + 0.3)", v.bound + 0.6),
            ("np.log1p(np.abs({0}))", v.bound),
            ("np.arctan({0})", 1.6),
            ("np.clip({0}, -0.8, 1.1)", 1.1),
            ("np.where({0} > 0, {0}, 0.1 * {0})", v.bound),
            ("np.where({0} < 9, {0}, np.nan)", v.bound),
            ("np.maximum({0}, 0.2)", v.bound + 0.2),
            ("{0} * ({0} > 0.1)", v.bound),
            ("bend({0})", 1),
            ("cut({0})", v.bound),
            ("untracked({0})", 1),
            ("np.sign({0}) + 0.5 * {0}", 1 + v.bound / 2),
            ("np.tanh({0}.astype(np.float64)).astype({0}.dtype)", 1),
            ("np.round({0} * 0.01) + {0}", v.bound + 1),
            ("{0} - np.ones_like({0})", v.bound + 1),
            ("1 - {0}", v.bound + 1),
            ("2 / (1.5 + {0} * {0})", 1.4),
        )
        self.put(text.format(v), v.shape, bound, v)

    def binary(self):
        a, b, shape, v, w = self.two()
        text, bound = self.choice(
            ("{0} + {1}", v.bound + w.bound),
            ("{0} - {1}", v.bound + w.bound),
            ("{0} * {1}", v.bound * w.bound),
            ("{0} * {1}", v.bound * w.bound),
            ("{0} / (1.5 + {1} * {1})", v.bound),
            ("{0} / (1.5 + np.abs({1}))", v.bound),
            ("np.maximum({0}, {1})", max(v.bound, w.bound)),
            ("np.minimum({0}, {1})", max(v.bound, w.bound)),
            ("np.where({0} > {1}, {0}, {1} * {0})", v.bound * max(1, w.bound)),
            ("np.where({0} > 0, {1}, -{1})", w.bound),
            ("np.logaddexp({0}, {1})", max(v.bound, w.bound) + 0.7),
            ("np.arctan2({0}, 1.5 + {1} * {1})", 1.6),
            ("tg.sigmoid({0}) * {0} + (1 - tg.sigmoid({0})) * {1}", v.bound + w.bound),
        )
        self.put(text.format(a, b), shape, bound, v, w)

    def with_operand(self):
        v = self.pick()
        if not v.shape and self.chance(0.5):
            v = self.fit(v, (self.hidden,))
        other = self.operand(*v.shape)
        text = self.choice(
            "{0} + {1}", "{1} + {0}", "{0} - {1}", "{1} - {0}", "{0} * {1}", "{1} * {0}",
            "{0} / (1.5 + {1} * {1})", "np.maximum({0}, {1})", "np.where({0} > 0, {1}, {0})",
            "np.where({1} > 0, {0}, 0)", "np.add({0}, {1})", "{1} / (1.5 + {0} * {0})",
        )  # fmt: skip
        self.put(text.format(v, other), v.shape, 1.5 * v.bound + 2, v)

    def affine(self):
        """The usual x U + h V + b."""
        a, size = self.pick(rank=1), self.choice(self.hidden, 2, 3)
        b = self.pick(rank=1, but=a)
        U, W = self.parameter(a.shape[-1], size), self.parameter(b.shape[-1], size)
        text = f"{a} @ {U} + {b} @ {W}"
        text += self.choice("", f" + {self.parameter(size)}")
        bound = 1.3 * (a.bound * a.shape[-1] ** 0.5 + b.bound * b.shape[-1] ** 0.5) + 1.5
        self.put(text, (size,), bound, a, b)

    def product(self):
        v = self.pick(rank=self.choice(1, 1, 2))
        size, rest = v.shape[-1], v.shape[:-1]
        new = self.choice(self.hidden, self.inputs, 2)
        bound = 1.3 * v.bound * size**0.5
        kind = self.rng.integers(7)
        if kind == 0:
            self.put(f"{v} @ {self.parameter(size)}", rest, 1.5 * v.bound * size, v)
        elif kind == 1:
            text = f'np.einsum("...i,ij->...j", {v}, {self.parameter(size, new)})'
            self.put(text, (*rest, new), bound, v)
        elif kind == 2:
            layer = tg.Linear(size, new, self.choice(None, "tanh", "sigmoid"), rng=self.rng)
            layer.W.data, layer.b.data = self.weights(size, new), self.weights(new)
            self.put(f"{self.attribute('linear', layer)}({v})", (*rest, new), bound + 1.5, v)
        elif kind == 3 and len(v.shape) == 2:
            text = f"{self.parameter(3, v.shape[0])} @ {v}"
            self.put(text, (3, size), 1.3 * v.bound * v.shape[0] ** 0.5, v)
        else:
            self.put(f"{v} @ {self.parameter(size, new)}", (*rest, new), bound, v)

    def products_of_values(self):
        a = self.pick(rank=1)
        b = self.pick(rank=1, but=a)
        kind = self.rng.integers(4)
        if kind == 0:  # outer
            text = f"{a}[..., :, None] * {b}[..., None, :]"
            self.put(text, (a.shape[-1], b.shape[-1]), a.bound * b.bound, a, b)
            return
        if kind == 1:  # a vector's matrix
            m = self.pick(rank=2)
            a = self.fit(a, m.shape[-1:])
            text = f"({m} @ {a}[..., None])[..., 0]"
            self.put(text, m.shape[:1], m.bound * a.bound * a.shape[-1], m, a)
            return
        b = self.fit(b, a.shape)
        text = self.choice(
            f"({a}[..., None, :] @ {b}[..., :, None])[..., 0, 0]",
            f'np.einsum("...i,...i->...", {a}, {b})',
            f"np.sum({a} * {b}, axis=-1)",
        )
        self.put(text, (), a.bound * b.bound * a.shape[-1], a, b)

    def reduction(self):
        v = self.pick(rank=self.choice(1, 1, 2))
        name = self.choice("sum", "mean", "max", "min", "var", "prod")
        size = max(1, v.shape[-1])
        bound = {"sum": v.bound * size, "var": v.bound**2, "prod": max(1, v.bound) ** size}
        bound = bound.get(name, v.bound)
        kind = self.rng.integers(4)
        if kind == 0:
            self.put(f"np.{name}({v}, axis=-1)", v.shape[:-1], bound, v)
        elif kind == 1:
            text = f"{v} - np.{name}({v}, axis=-1, keepdims=True)"
            self.put(text, v.shape, bound + v.bound, v)
        elif kind == 2:
            text = f"{v}.mean(axis=-1, keepdims=True)"
            self.put(text, (*v.shape[:-1], 1), v.bound, v)
        else:
            axis = self.choice(-1, -2) if len(v.shape) == 2 else -1
            shape = list(v.shape)
            shape.pop(axis)
            self.put(f"tg.logsumexp({v}, axis={axis})", shape, v.bound + 2, v)

    def normalised(self):
        v = self.pick(rank=self.choice(1, 1, 2), least=2)
        gain, bias = self.parameter(v.shape[-1]), self.parameter(v.shape[-1])
        text, bound = self.choice(
            (f"tg.softmax({v})", 1),
            (f"tg.softmax({v}, axis=-1)", 1),
            (f"tg.log_softmax({v})", 2 * v.bound + 1.5),
            (f"tg.layer_norm({v}, eps=0.2)", 2),
            (f"tg.layer_norm({v}, {gain}, {bias}, eps=0.2)", 4),
            (f"{v} / np.sqrt(np.sum({v} * {v}, axis=-1, keepdims=True) + 0.5)", 1),
        )
        self.put(text, v.shape, bound, v)

    def joined(self):
        a = self.pick(rank=1)
        b = self.pick(rank=1, but=a)
        if self.chance(0.5):
            parts, shape = [f"{a}", f"{b}"], (a.shape[-1] + b.shape[-1],)
            if self.chance(0.2):
                parts, shape = [*parts, f"{a}"], (shape[0] + a.shape[-1],)
            text = f"np.concatenate([{', '.join(parts)}], axis=-1)"
            self.put(text, shape, max(a.bound, b.bound), a, b)
            return
        b = self.fit(b, a.shape)
        axis = self.choice(-1, -2)
        shape = (2, a.shape[-1]) if axis == -2 else (a.shape[-1], 2)
        self.put(f"np.stack([{a}, {b}], axis={axis})", shape, max(a.bound, b.bound), a, b)

    def split(self):
        v = self.pick(rank=1)
        size = v.shape[-1]
        if self.chance(0.5):
            gates, width = int(self.choice(2, 3, 4)), self.hidden
            text = f"np.split({v} @ {self.parameter(size, gates * width)}, {gates}, axis=-1)"
            self.unpack(text, [width] * gates, 1.3 * v.bound * size**0.5, v)
        elif self.chance(0.3):
            names = [self.new_name() for _ in range(2)]
            self.lines.append(f"{', '.join(names)} = halves({v}, power=2)")
            self.values += [V(n, v.shape, v.bound, v.on) for n in names]
        else:
            v = self.fit(v, (5,))
            self.unpack(f"np.split({v}, [1, 3], axis=-1)", [1, 2, 2], v.bound, v)

    def new_name(self):
        return f"v{next(self.count)}"

    def unpack(self, text, widths, bound, v):
        names = [self.new_name() for _ in widths]
        self.lines.append(f"{', '.join(names)} = {text}")
        for name, width in zip(names, widths, strict=True):
            self.put(f"np.tanh({name})" if bound > 3 else name, (width,), min(bound, 1), v)

    def view(self):
        v = self.pick(rank=self.choice(1, 1, 2), least=1)
        size, rest = v.shape[-1], v.shape[:-1]
        k = int(self.rng.integers(size))
        index, count = self.indices(size)
        mask = self.rng.random(size) < 0.6
        mask[k] = True
        text, shape = self.choice(
            (f"{v}[..., {k}]", rest),
            (f"{v}[..., {k} : {k + 1}]", (*rest, 1)),
            (f"{v}[..., : {k + 1}]", (*rest, k + 1)),
            (f"{v}[..., {k} :]", (*rest, size - k)),
            (f"{v}[..., ::-1]", v.shape),
            (f"{v}[..., ::2]", (*rest, (size + 1) // 2)),
            (f"{v}[..., {index}]", (*rest, count)),
            (f"np.take({v}, {index}, axis=-1)", (*rest, count)),
            (f"{v}[..., {self.attribute('m', mask)}]", (*rest, int(mask.sum()))),
            (f"np.flip({v}, -1)", v.shape),
            (f"np.roll({v}, 1, axis=-1)", v.shape),
            (f"np.repeat({v}, 2, axis=-1)", (*rest, 2 * size)),
            (f"np.cumsum({v}, axis=-1) * 0.5", v.shape),
            (f"np.sort({v}, axis=-1)", v.shape),
            (f"np.take_along_axis({v}, np.argsort({v}, axis=-1), axis=-1)", v.shape),
            (f"np.squeeze(np.expand_dims({v}, -1), -1)", v.shape),
            (f"np.pad({v}, [(0, 0)] * ({v}.ndim - 1) + [(1, 0)])", (*rest, size + 1)),
            (f"{v}.reshape({v}.shape[:-1] + ({size}, 1))[..., 0]", v.shape),
        )
        self.put(text, shape, v.bound * (size if "cumsum" in text else 1), v)

    def matrix_view(self):
        v = self.pick(rank=2)
        p, q = v.shape
        text, shape = self.choice(
            (f"np.swapaxes({v}, -1, -2)", (q, p)),
            (f"np.moveaxis({v}, -1, -2)", (q, p)),
            (f"{v}.reshape({v}.shape[:-2] + ({p * q},))", (p * q,)),
            (f"{v}.reshape({v}.shape[:-2] + ({q}, {p}))", (q, p)),
            (f"{v}[..., 0, :]", (q,)),
            (f"{v}[..., ::-1, :]", (p, q)),
            (f"{v}[..., 0]", (p,)),
            (f"np.mean({v}, axis=-2)", (q,)),
            (f"np.max({v}, axis=(-2, -1))", ()),
            (f"np.mean({v}, axis=-2, keepdims=True)", (1, q)),
            (f"np.sort({v}, axis=-2)", (p, q)),
            (f"np.cumsum({v}, axis=-2) * {1 / p}", (p, q)),
            (f"tg.softmax({v}, axis=-2)", (p, q)),
        )
        self.put(text, shape, max(1, v.bound), v)

    def repeated(self):
        """The same lines several times."""
        v = self.fit(self.pick(rank=1), (self.hidden,))
        weight, name = self.parameter(self.hidden, self.hidden), self.new_name()
        self.lines += [f"{name} = {v}", "for _ in range(2):"]
        self.lines.append(f"    {name} = np.tanh({name} @ {weight} + {v})")
        self.values.append(V(name, v.shape, 1.0, v.on))

    def across_rows(self):
        """Positive axes, and rows that see each other: scan knows no batch."""
        v = self.pick(rank=1)
        size = v.shape[-1]
        order = self.attribute("i", self.rng.permutation(self.rows))
        column = self.attribute("i", self.rng.integers(0, size, self.rows))
        w = self.fit(self.pick(), (2, self.hidden))
        u = self.fit(self.pick(), ())
        options = [
            (f"{v}[:, 0]", (), v.bound, v),
            (f"{v}[:, ::-1]", v.shape, v.bound, v),
            (f"np.mean({v}, axis=1)", (), v.bound, v),
            (f"np.max({v}, axis=1, keepdims=True)", (1,), v.bound, v),
            (f"{v} - np.mean({v}, axis=0, keepdims=True)", v.shape, 2 * v.bound, v),
            (f"{v} - np.mean({v}, axis=0)", v.shape, 2 * v.bound, v),
            (f"{v} / (1 + np.abs(np.mean({v})))", v.shape, v.bound, v),
            (f"{v} - np.max({v})", v.shape, 2 * v.bound, v),
            (f"tg.softmax({v} @ {v}.T) @ {v}", v.shape, v.bound, v),
            (f"{v}[{order}]", v.shape, v.bound, v),
            (f"{v}[np.arange({self.rows}), {column}]", (), v.bound, v),
            (f"np.sort({v}, axis=0)", v.shape, v.bound, v),
            (f"np.cumsum({v}, axis=0) * {1 / self.rows}", v.shape, v.bound, v),
            (f"np.cumsum({v}).reshape({v}.shape) * {1 / self.rows / size}", v.shape, v.bound, v),
            (f"np.stack([{v}, -{v}], axis=1)", (2, size), v.bound, v),
            (f"np.concatenate([{v}, {v}], axis=1)", (2 * size,), v.bound, v),
            (f"np.transpose({w}, (0, 2, 1))", w.shape[::-1], w.bound, w),
            (f"np.transpose({w})[:, 0].T", w.shape[-1:], w.bound, w),
            (f"{w}.reshape(len({w}), {2 * self.hidden})", (2 * self.hidden,), w.bound, w),
            (f"np.sum({w}, axis=1)", w.shape[-1:], 2 * w.bound, w),
            (f"np.squeeze({u}[:, None], 1)", (), u.bound, u),
        ]
        if size == self.rows:  # it broadcasts along the rows' other axis: NumPy's rule, and ours
            options += 4 * [(f"{v} * {u}", v.shape, v.bound * u.bound, v)]
            options += 2 * [(f"np.swapaxes({v}, 0, 1)", v.shape, v.bound, v)]
        text, shape, bound, source = self.choice(*options)
        self.put(text, shape, bound, source, u)

    KINDS = (
        [unary] * 4 + [binary] * 4 + [with_operand] * 3 + [affine] * 3 + [product] * 3
        + [products_of_values, reduction, reduction, normalised, joined, joined, split, split]
        + [view] * 3 + [matrix_view, repeated]
    )  # fmt: skip

    def line(self):
        kinds = self.KINDS + [Writer.across_rows] * (5 if self.mixes else 0)
        self.choice(*kinds)(self)

    # the end

    def new_state(self, k, old, whole):
        """The expression of state k after the step."""
        me = old[k]
        if whole[k] == "count":
            return f"{me} + 1"
        if whole[k] == "seen":
            return f"{me} | ({self.fit(self.pick(), ())} > 0)"
        same = [s for j, s in enumerate(old) if j != k and s.shape == me.shape and not whole[j]]
        kind = self.rng.integers(10) if self.chance(0.5 if k else 0.2) else None
        if kind == 0:
            return f"{me}"
        if kind == 1 and same:
            return f"{self.choice(*same)}"
        if kind == 2:
            v = self.fit(self.pick(only=frozenset("x")), me.shape)
            return f"np.tanh({v})"
        if kind == 3:
            return f"np.broadcast_to({self.parameter(*me.shape)}, {me}.shape)"
        if kind == 4:
            return self.choice(f"np.ones_like({me})", f"0.5 * np.zeros_like({me}) + 0.25")
        if kind == 5 and me.shape:
            return f"{me}[..., ::-1]"
        if kind == 6 and me.shape:
            return f"{me}.astype({me}.dtype)[..., :]"
        if kind == 7:
            return f"{self.choice('0.9', '0.5')} * {me}"
        v = self.everything(me.shape) if self.chance(0.9) else self.fit(self.pick(), me.shape)
        return self.choice(
            f"np.tanh({v})", f"0.7 * np.tanh({v})", f"0.5 * {me} + 0.5 * np.tanh({v})",
            f"{v} * 0.3", f"np.clip({v}, -1, 1)", f"{v} - {me} * 0.25",
        )  # fmt: skip

    def output(self, old, new):
        kind = self.rng.integers(16)
        if kind == 0:
            return f"{self.choice(*old)}"
        if kind == 1:
            return f"{self.pick(only=frozenset('x'))}"
        if kind == 2:
            return f"np.broadcast_to({self.parameter(*new[0].shape)}, {new[0]}.shape)"
        if kind == 3:
            return "x0"
        if kind == 4:
            return f"{self.pick(rank=self.choice(0, 1, 2))}"
        if kind < 7:
            return f"{self.choice(*new)}"
        mixed = self.everything((self.hidden,))
        return self.choice(
            f"{mixed}",
            f"{mixed} @ {self.parameter(self.hidden, 2)}",
            f"np.concatenate([{mixed}, x0], axis=-1)",
        )


FORMS = {  # how the state is spelt, for so many arrays
    1: ["{0}", "({0},)", '{{"h": {0}}}'],
    2: ["({0}, {1})", '{{"a": {0}, "b": {1}}}', "Pair({0}, {1})", "({0}, ({1},))"],
    3: ["({0}, {1}, {2})", '{{"p": Pair({0}, {1}), "q": {2}}}', "({0}, ({1}, {2}))"],
}


class Program:
    """A random step as source text, and the arrays that it reads. `cell(dtype)` makes a cell."""

    def __init__(self, rng, rows, inputs, hidden, ops, mixes, casts, name="program"):
        w = self.writer = Writer(rng, rows, inputs, hidden, mixes)
        H = hidden
        self.inputs = (inputs, 1) if w.chance(0.15) else (inputs,)
        count = int(rng.choice([1, 1, 2, 2, 3]))
        shapes = [w.choice((H,), (H,), (H,), (H,), (), (2, H), (H + 1,), (H, H))]
        shapes += [w.choice(shapes[0], shapes[0], (), (H,), (2, H)) for _ in range(count - 1)]
        self.kinds = [""] * count  # "count" and "seen" are of integers and booleans
        if count > 1 and w.chance(0.2):
            self.kinds[-1], shapes[-1] = w.choice("count", "seen"), ()
        self.shapes, self.form = shapes, w.choice(*FORMS[count])
        xs = [V(f"x{k}", (n,), 2.0, frozenset("x")) for k, n in enumerate(self.inputs)]
        w.lines.append(f"{', '.join(x.name for x in xs)}{',' * (len(xs) > 1)} = x")
        old = [V(f"s{k}", s, 1.5, frozenset("s")) for k, s in enumerate(shapes)]
        w.lines.append(f"{', '.join(s.name for s in old)}, = leaves(state)")
        w.values += xs + [s for s, kind in zip(old, self.kinds, strict=True) if not kind]
        if any(self.kinds) and w.chance(0.7):
            w.put(f"np.sin({old[-1]}.astype(x0.dtype) + x0[..., 0])", (), 1, xs[0], old[-1])
        for _ in range(ops):
            w.line()
        if w.chance(0.2):  # so that there is always something learnt
            w.affine()
        new = []
        for k in range(count):
            text = w.new_state(k, old, self.kinds)
            if k and new and w.chance(0.1) and shapes[k] == shapes[0] and not self.kinds[k]:
                text = w.choice("n0", "n0[...]")
            cast = f".astype(s{k}.dtype)" if casts and not self.kinds[k] else ""
            w.lines.append(f"n{k} = ({text}){cast}" if cast else f"n{k} = {text}")
            new.append(V(f"n{k}", shapes[k], 1.5, frozenset("xs")))
        bare = count == 1 and self.form == "{0}" and w.chance(0.3)
        result = self.form.format(*[n.name for n in new])
        if not bare:
            result = f"{w.output(old, new)}, {result}"
        body = "\n".join(f"        {line}" for line in [*w.lines, f"return {result}"])
        self.text = f"class Written(tg.Cell):\n    def step(self, x, state):\n{body}\n"
        for name in [n for n in w.attributes if not re.search(rf"self\.{n}\b", body)]:
            if not w.chance(0.05):  # now and then a Parameter that is not used
                del w.attributes[name]
        if not any(isinstance(a, tg.Parameter) for a in w.attributes.values()):
            w.parameter(hidden)
        self.file = f"<{name}>"

    def cell(self, dtype=np.float64, scale=0.0, rng=None):
        """A new cell. `scale`: every Parameter changed by so much, relative to itself."""
        lines = self.text.splitlines(keepends=True)
        linecache.cache[self.file] = (len(self.text), None, lines, self.file)
        names = {
            "np": np,
            "tg": tg,
            "leaves": leaves,
            "Pair": Pair,
            "bend": bend,
            "halves": halves,
            "cut": cut,
            "untracked": untracked,
        }
        exec(compile(self.text, self.file, "exec"), names | {"__name__": "program"}, found := {})
        cell = found["Written"]()
        for name, value in self.writer.attributes.items():
            setattr(cell, name, _converted(value, dtype))
        for p in cell.parameters():
            p.data = changed(p.data, scale, rng)
        cell.initial_state = self.initial_state
        return cell

    def initial_state(self, batch_shape=(), dtype=None):
        """Zeros; of integers or booleans where the state counts."""
        dtypes = {"count": np.int64, "seen": np.bool_, "": dtype or np.float64}
        arrays = [
            np.zeros((*batch_shape, *shape), dtypes[kind])
            for shape, kind in zip(self.shapes, self.kinds, strict=True)
        ]
        return self.nest(arrays)

    def nest(self, arrays):
        """Arrays in the form of the state."""
        names = {f"a{k}": a for k, a in enumerate(arrays)}
        return eval(self.form.format(*names), {"Pair": Pair}, names)


def _converted(value, dtype):
    """An attribute for another cell, in this dtype: new Parameters, the same numbers."""
    if isinstance(value, tg.Parameter):
        return tg.Parameter(value.data.astype(dtype))
    if isinstance(value, tg.Linear):
        twin = tg.Linear(*value.W.shape, value.activation, rng=0, dtype=dtype)
        twin.load_state_dict(value.state_dict())
        return twin
    return value.astype(dtype) if value.dtype.kind == "f" else value


def changed(array, scale, rng):
    """The array, each element changed by about `scale`, relative to itself."""
    if not scale or array.dtype.kind != "f":
        return array
    return np.asarray(array * (1 + scale * rng.normal(size=array.shape)), array.dtype)


# ----- a case ------------------------------------------------------------------------------------


class Case:
    """A program, sizes and the options of a call, all drawn from a seed.

    ops      how many lines; None: drawn too
    without  names of options to leave out: what a failure does not need
    always   names of options to have in any case
    """

    def __init__(self, seed, ops=None, without=(), always=()):
        self.seed, self.without, self.always = seed, set(without), set(always)
        for attempt in itertools.count():
            self._draw(np.random.default_rng([seed, attempt]), ops)
            try:
                self.expected = run(self, scan=False)
            except (FloatingPointError, RuntimeWarning):
                continue
            if self._tame():
                self.attempt = attempt
                return

    def _draw(self, rng, ops):
        def maybe(name, p, value, otherwise=None):
            drawn = value() if rng.random() < (1 if name in self.always else p) else otherwise
            return otherwise if name in self.without else drawn

        self.dtype = np.dtype(maybe("float32", 0.2, lambda: np.float32, np.float64))
        self.x_dtype = np.dtype(maybe("x of float32", 0.1, lambda: np.float32, self.dtype))
        small = lambda: int(rng.integers(1, 5))
        if rng.random() < 0.4:
            T = N = C = H = 3
        else:
            T, N, C, H = int(rng.integers(1, 7)), small(), small(), small()
            T, N = maybe("T", 0.05, lambda: 0, T), maybe("N", 0.05, lambda: 0, N)
            T, N = maybe("T", 0.05, lambda: 12, T), maybe("N", 0.2, lambda: 1, N)
        mixes = bool(N) and maybe("mixes", 0.25, lambda: True, False)
        single = not mixes and maybe("single", 0.1, lambda: True, False)
        ops = int(rng.integers(1, 15)) if ops is None else ops
        casts = self.x_dtype != self.dtype
        self.program = Program(rng, N, C, H, ops, mixes, casts, f"program {self.seed}")
        batch = () if single else (N,)
        self.sizes = {"T": T, "N": None if single else N, "C": C, "H": H, "ops": ops}
        # floats that float32 holds exactly, so that both dtypes see the same numbers
        exact = lambda *shape: np.clip(rng.normal(size=shape), -2, 2).astype(np.float32)
        xs = tuple(exact(T, *batch, n) for n in self.program.inputs)
        self.x = xs if len(xs) > 1 else xs[0]
        self.options = {
            "lengths": maybe("lengths", 0.3, lambda: rng.integers(0, T + 1, batch)),
            "mask": maybe("mask", 0.2, lambda: rng.random((T, *batch)) < 0.7),
            "reset": maybe("reset", 0.2, lambda: rng.random((T, *batch)) < 0.3),
            "truncate": maybe("truncate", 0.2, small),
            "return_states": maybe("return_states", 0.4, lambda: True, False),
        }
        self.layer = {"reverse": maybe("reverse", 0.3, lambda: True, False)}
        self.layer["train_state"] = not any(self.program.kinds) and maybe(
            "train_state", 0.15, lambda: True, False
        )
        self.checkpoint = maybe("checkpoint", 0.15, small)
        start = self.program.initial_state(batch)
        filled = [
            exact(*s.shape) if s.dtype.kind == "f" else rng.integers(0, 2, s.shape).astype(s.dtype)
            for s in leaves(start)
        ]
        self.state = maybe("state", 0.6, lambda: refilled(start, filled))
        self.state_needs = rng.random() < 0.8  # a gradient
        self.x_needs = maybe("x is an array", 0.2, lambda: False, True)
        self.calls = maybe("calls", 0.15, lambda: 2, 1)
        self.twice = maybe("twice", 0.1, lambda: True, False)
        self.second = maybe("second", 0.1, lambda: True, False)
        used = rng.random(4) < 0.75
        used[rng.integers(3)] = True
        self.used = np.ones(4, bool) if "used" in self.without else used

    def _tame(self):
        """Whether results hardly depend on the last digits of what is given."""
        (dtype, x_dtype), self.dtype = (self.dtype, self.x_dtype), np.dtype(np.float64)
        self.x_dtype, wide = self.dtype, dtype == x_dtype == np.float64
        base = self.expected if wide else run(self, scan=False)
        near = run(self, scan=False, scale=1e-9)
        self.dtype, self.x_dtype = dtype, x_dtype
        gain = GAIN if wide else GAIN / 5
        self.gain = max(_distance(near[name], base[name]) / 1e-9 for name in base)
        return all(_distance(near[name], base[name]) <= 1e-9 * gain for name in base)

    @property
    def tolerance(self):
        """That of the narrower dtype: what is computed of x alone is in x's."""
        return max(TOLERANCE[self.dtype], TOLERANCE[self.x_dtype])

    def __str__(self):
        given = {name: np.asarray(v).tolist() for name, v in self.options.items() if v is not None}
        also = {"state": self.state is not None, "state_needs": self.state_needs}
        also |= {"checkpoint": self.checkpoint, "x_needs": self.x_needs, "calls": self.calls}
        also |= {"twice": self.twice, "second": self.second, "used": self.used.tolist()}
        also |= dict(dtype=self.dtype.name, x_dtype=self.x_dtype.name, **self.sizes)
        arrays = {n: getattr(v, "shape", v) for n, v in self.program.writer.attributes.items()}
        return (
            f"seed {self.seed}\n{self.program.text}{arrays}\nstate {self.program.form} of "
            f"{self.program.shapes}\n{self.layer}\n{given}\n{also}"
        )


def run(case, scan, scale=0.0):
    """All results of a case by name: outputs, last, state, states, and every gradient."""
    rng = np.random.default_rng(case.seed)
    cell = case.program.cell(case.dtype, scale, rng)
    rnn = tg.RNN(cell, scan=scan, checkpoint=case.checkpoint if scan else None, **case.layer)
    weights = np.random.default_rng(case.seed)
    if rnn.start is not None:
        for p in leaves(rnn.start):
            p.data = (weights.normal(size=p.shape) / 2).astype(p.dtype)
    inputs = {f"d {name}": p for name, p in rnn.named_parameters().items()}
    total, results = 0.0, {}
    for call in range(case.calls):

        def given(a, name, needs, call=call):
            dtype = case.x_dtype if name[2] == "x" else case.dtype
            a = np.asarray(a * 0.5**call, dtype) if a.dtype.kind == "f" else a
            a = changed(a, scale, rng)
            if not needs or a.dtype.kind != "f":
                return a
            inputs[name] = tg.Tensor(a, requires_grad=True)
            return inputs[name]

        def nest(tree, name, needs, given=given):
            made = [given(a, f"d {name} {k}", needs) for k, a in enumerate(leaves(tree))]
            return refilled(tree, made)

        x = nest(case.x, f"x{call}", case.x_needs)
        state = case.state
        state = None if state is None else nest(state, f"state{call}", case.state_needs)
        out = rnn(x, state, **case.options)
        for field, used in zip(out._fields, case.used, strict=True):
            for k, leaf in enumerate(leaves(getattr(out, field))):
                if leaf is None:
                    continue
                results[f"{field}{call} {k}"] = leaf
                v = weights.normal(size=leaf.shape).astype(case.dtype)
                if used and isinstance(leaf, tg.Tensor) and leaf.dtype.kind == "f":
                    total = total + (leaf * v).sum()
    if isinstance(total, tg.Tensor) and total.requires_grad:
        if case.second:
            first = tg.grad(total, inputs.values(), create_graph=True, allow_unused=True)
            parts = [(g * g).sum() for g in first if g is not None]
            total = total + sum(parts) * 0.25
        if case.twice:
            total.backward(retain_graph=True)
        total.backward()
    # None and zeros are the same answer: nothing arrives
    for name, t in inputs.items():
        results[name] = np.zeros(t.shape, t.dtype) if t.grad is None else t.grad
    return {name: a.data if isinstance(a, tg.Tensor) else a for name, a in results.items()}


def _distance(found, expected):
    """The largest difference, relative to the size of the array where that is above 1."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if not expected.size:
        return 0.0
    found, expected = (np.asarray(a, np.float64) for a in (found, expected))
    worst = np.abs(found - expected).max()
    return np.inf if np.isnan(worst) else worst / max(1.0, np.abs(expected).max())


def differences(found, expected, tolerance=None):
    """What differs between two dicts of arrays by more than the rule allows: one line for each."""
    lines = [f"{name}: only on one side" for name in sorted(set(found) ^ set(expected))]
    for name in expected:
        if name not in found:
            continue
        a, b = found[name], expected[name]
        allowed = tolerance or TOLERANCE.get(b.dtype, 0.0)
        distance = _distance(a, b)
        if not distance <= allowed:
            what = f"{name}: {distance:.1e} apart, {allowed:.0e} allowed"
            shapes = (a.shape, a.dtype, b.shape, b.dtype)
            lines.append(f"{what}; scan {shapes[0]} {shapes[1]}, plain {shapes[2]} {shapes[3]}")
    return lines


def failure(seed, ops=None, without=(), always=()):
    """What is wrong with a case, as a text; None where scan equals the plain loop."""
    case = Case(seed, ops, without, always)
    try:
        lines = differences(run(case, scan=True), case.expected, case.tolerance)
    except Exception as error:
        lines = [f"{type(error).__name__}: {error}"]
    return "\n".join([*lines, str(case)]) if lines else None


SIMPLER = """float32,x of float32,mixes,single,lengths,mask,reset,truncate,return_states,reverse,
train_state,checkpoint,state,x is an array,calls,twice,second,used,T,N""".replace("\n", "")


def smaller(seed):
    """A failure's text for the shortest program and the fewest options that still fail."""
    found = failure(seed)
    for ops in range(1, 15):
        shorter = failure(seed, ops)
        if shorter:
            break
    ops = ops if shorter else None
    found, without = shorter or found, []
    for name in SIMPLER.split(","):
        simpler = failure(seed, ops, [*without, name])
        if simpler:
            found, without = simpler, [*without, name]
    return found and f"{found}\nCase({seed}, ops={ops}, without={without})"


def main(arguments):
    """`2000`: that many cases. `--seed 17`: one of them, in full."""
    warnings.simplefilter("error")
    if arguments[:1] == ["--seed"]:
        print(smaller(int(arguments[1])) or "no failure")
        return
    count = int(arguments[0]) if arguments else 2000
    failing = [seed for seed in range(count) if failure(seed)]
    print(f"{len(failing)} failures in {count:,} cases")
    if failing:
        print(f"seeds: {failing}\nthe first:\n{smaller(failing[0])}")
    sys.exit(bool(failing))


if __name__ == "__main__":
    main(sys.argv[1:])
