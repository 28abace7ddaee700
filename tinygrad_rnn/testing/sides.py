"""The side that is checked: the engine's gradients, or somebody's hand-written VJP.

Both are called with cotangents, one array for each output of f, and give one gradient for each
chosen variable (None where there is none).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import ConversionError, DtypeError, NoGradientError, RuleError, ShapeError
from ..graph import Key, Leaf, Node, pull, pull_node
from ..nests import leaves
from ..tensor import Tensor, seed
from .report import GradReport
from .subject import Subject, filled, float_leaves, tuples


class Engine:
    """The engine's gradients: f runs once on Tensors, and is pulled back for any cotangents."""

    def __init__(self, subject: Subject) -> None:
        inputs: list[Any] = list(subject.values)
        for k in subject.chosen:
            inputs[k] = subject.leaf(k, inputs[k])
        self.subject, self.inputs = subject, inputs
        self.keys = [inputs[k]._key for k in subject.chosen]
        start = Leaf(np.zeros(0)).id
        self.outputs = subject.outputs(inputs)
        if subject.everything:
            known = {x._key[0] for x in inputs if isinstance(x, Tensor) and x._key}
            if any(leaf not in known and leaf.id < start for leaf in _leaves_behind(self.outputs)):
                raise ConversionError(UNSEEN)

    def __call__(self, weights: list[np.ndarray]) -> list[Any]:
        seeds: dict[Key, Any] = {}
        for out, v in zip(self.outputs, weights, strict=True):
            if isinstance(out, Tensor) and out.requires_grad:
                for key, g in seed(out, v).items():
                    seeds[key] = seeds[key] + g if key in seeds else g
        with self.subject.standing_in(self.inputs), _naming_the_writer():
            found = pull(seeds, set(self.keys), retain=True) if seeds else {}
        return [found.get(key) for key in self.keys]


@contextmanager
def _naming_the_writer() -> Iterator[None]:
    """NumPy's error for an array that is frozen does not say which rule wrote into it."""
    try:
        yield
    except ValueError as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        nodes = [frame.f_locals["node"] for frame in frames if frame.f_code is pull_node.__code__]
        if "read-only" not in str(error) or not nodes:
            raise
        raise RuleError(
            f"the VJP of {nodes[-1].rule.name} writes into g, or into what it was given: {error}. "
            f"Others read these arrays, too: work on a copy; the call was {nodes[-1]}"
        ) from error


UNSEEN = (
    "f uses a Parameter, or a Tensor that needs a gradient, which the check cannot see. Pass it as "
    "an argument, or its Module, or name it in wrt; or say by wrt what shall be checked"
)


def _leaves_behind(outputs: list[Any]) -> set[Node]:
    """The leaves that outputs were computed from."""
    stack = [out._key[0] for out in outputs if isinstance(out, Tensor) and out._key]
    seen = set(stack)
    while stack:
        for _, (parent, _), _ in stack.pop().edges or ():
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return {node for node in seen if node.rule is None}


class Hand:
    """A hand-written VJP, watched for what it must not do."""

    def __init__(self, subject: Subject, vjp: Callable[..., Any], report: GradReport) -> None:
        self.subject, self.vjp, self.report = subject, vjp, report
        self.form = subject.result(subject.values)
        subject.numbers = True
        self.outputs = float_leaves(self.form, numbers=True)

    def __call__(self, weights: list[np.ndarray]) -> list[Any]:
        values = self.subject.values
        places = {v.leaf: x for v, x in zip(self.subject.variables, values, strict=True)}
        args, given = filled(self.subject.args, places), [v.copy() for v in weights]
        found = self.vjp(_formed(self.form, iter(given)), *args)
        count = len(self.subject.variables)
        form = [a for a in self.subject.args if _has_float(a)]
        parts = _gradients(_ordered(found, form[0] if len(form) == 1 else tuple(form)), count)
        if any(np.iscomplexobj(g) for g in parts):
            raise DtypeError("vjp returned a complex gradient: only real ones are checked")
        names = [v.name for v in self.subject.variables]
        for name, g, x in zip(names, parts, values, strict=True):
            if g is not None and np.shape(g) != x.shape:
                raise ShapeError(
                    f"vjp returned a gradient of shape {np.shape(g)} for {name}, whose shape is "
                    f"{x.shape}: expected one gradient for each float argument, in its shape"
                )
        self._complain(values, weights, given, parts)
        wanted = [parts[k] for k in self.subject.chosen]
        return [None if g is None else np.array(g, float) for g in wanted]

    def _complain(self, values: Any, weights: Any, given: Any, parts: Any) -> None:
        """What may give wrong numbers elsewhere: arguments written into, one array for two."""
        problems, names = [], [v.name for v in self.subject.variables]
        for name, x, before in zip(names, values, self.subject.values, strict=True):
            if not np.array_equal(x, before, equal_nan=True):
                problems.append(f"vjp changes its argument {name} in place: work on a copy")
        if not all(np.array_equal(a, b) for a, b in zip(given, weights, strict=True)):
            problems.append("vjp changes g in place: work on a copy")
        arrays = [(n, g) for n, g in zip(names, parts, strict=True) if isinstance(g, np.ndarray)]
        for i, (name, g) in enumerate(arrays):
            for other, h in arrays[:i]:
                if g.size and np.may_share_memory(g, h):
                    problems.append(f"vjp returns one array for {other} and {name}: copy one")
            if g.size and any(np.may_share_memory(g, v) for v in given) and g.flags.writeable:
                notes = [*self.report.notes, f"vjp returns g itself (or a view) for {name}"]
                self.report.notes[:] = dict.fromkeys(notes)
        self.report.problems[:] = dict.fromkeys([*self.report.problems, *problems])


def _has_float(arg: Any) -> bool:
    return any(
        type(a) is float or getattr(a, "dtype", np.dtype(int)).kind == "f"
        for a in leaves(tuples(arg))
    )


def _ordered(found: Any, form: Any) -> Any:
    """Gradients in the order of the arguments: those in dicts by their keys."""
    if isinstance(form, dict) and isinstance(found, dict) and form.keys() == found.keys():
        return {key: _ordered(found[key], item) for key, item in form.items()}
    both = (found, form)
    if all(isinstance(t, (tuple, list)) for t in both) and len(found) == len(form):
        return tuple(_ordered(a, b) for a, b in zip(found, form, strict=True))
    return found


def _gradients(found: Any, count: int) -> list[Any]:
    """What a vjp returned, as one gradient for each float argument."""
    if isinstance(found, (tuple, list, dict)):
        parts: list[Any] = []
        for item in found.values() if isinstance(found, dict) else found:
            parts += _gradients(item, -1) if isinstance(item, (tuple, list, dict)) else [item]
    else:
        parts = [found]
    if count >= 0 and len(parts) != count:
        raise NoGradientError(
            f"vjp returned {len(parts)} gradients, and f has {count} float arguments: return one "
            "for each, in order (None for zero)"
        )
    return parts


def _formed(form: Any, arrays: Any) -> Any:
    """Cotangents in the form of f's result; None beside what is no float."""
    if isinstance(form, dict):
        return {key: _formed(item, arrays) for key, item in form.items()}
    if isinstance(form, (tuple, list)):
        items = [_formed(item, arrays) for item in form]
        return type(form)(*items) if hasattr(form, "_fields") else type(form)(items)
    real = type(form) is float or getattr(form, "dtype", np.dtype(int)).kind == "f"
    return next(arrays) if real else None


def cotangents(
    outputs: list[Any], given: list[Any] | None, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random weights for the outputs, or those that were given."""
    if given is None:  # none of them near 0: behind such a weight a fault would hide
        return [away_from_zero(rounded_normals(rng, out.shape)) for out in outputs]
    if any(np.iscomplexobj(v) for v in given):
        raise DtypeError("cotangent is complex: weights of real outputs are real")
    weights = [np.asarray(v, dtype=np.float64) for v in given]
    if [v.shape for v in weights] != [out.shape for out in outputs]:
        raise ShapeError(
            f"cotangent has the shapes {[v.shape for v in weights]}, and f's float outputs have "
            f"{[out.shape for out in outputs]}: give one weight for each output element"
        )
    if any(v.size for v in weights) and not any(v.any() for v in weights):
        raise NoGradientError("cotangent is 0 everywhere: nothing would be compared")
    return weights


def rounded_normals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers rounded to 1/64: two wrong elements cannot cancel, as they can with +-1."""
    return np.round(rng.standard_normal(shape) * 64) / 64


def away_from_zero(u: np.ndarray) -> np.ndarray:
    """Every element further from 0 by 1/2.

    away_from_zero(np.array([-1.0, 0.25]))      # array([-1.5 ,  0.75])
    """
    return u + np.where(u < 0, -0.5, 0.5)
