"""A bank of deliberately wrong versions of this library, to prove that tests can fail.

    from tinygrad_rnn.testing import mutants

    def check():                             # your test, or several: it raises where it fails
        out = tg.RNN(tg.RNNCell(2, 3, rng=0))(np.ones((4, 2, 2)))
        assert out.outputs.shape == (4, 2, 3)

    print(mutants.score(check).text())       # which faults it would not see

Each mutant is one fault that somebody could make (a sign, a forgotten transpose, a state that is
not carried), and names the law that must catch it. The groups are the beginnings of the names:
`rules.`, `composed.`, `engine.`, `cells.`, `loop.`, `layers.`, `losses.`, `scan.`, `checker.`.

How it is done: a Python function keeps its compiled body in an attribute. The source is read, one
piece of text replaced, the result compiled and put into that attribute: whoever holds the function
now runs the fault, and putting the old body back undoes it. A fault is there for all threads.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import pkgutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from .. import functions, primitives, recurrent, rules
from ..errors import TinygradError
from ..tensor import Tensor
from ..vjp import RULES, Array, Rule
from . import laws
from .ops import check_op

__all__ = ["Law", "Mutant", "MutantError", "Score", "apply", "law_of", "names", "score"]


class MutantError(TinygradError, ValueError):
    """A mutant that does not exist or changes nothing, or a check that fails without any.

        mutants.law_of("rules.no_such_mutant")        # raises MutantError

    A ValueError, too.
    """


@dataclass(frozen=True)
class Law:
    """A property that holds for the library: its label, and the check, which raises where it fails.

        law = mutants.law_of("loop.state_not_carried")
        law.label                    # 'laws.forward_by_hand'
        law()                        # returns: it holds

    Raises what the check raises, an AssertionError mostly.
    """

    label: str
    check: Callable[[], Any]

    def __repr__(self) -> str:
        return f"Law({self.label})"

    def __call__(self) -> None:
        """Run the check; a fault's own warnings about NaN are not what it is judged by."""
        with np.errstate(all="ignore"):
            self.check()


@dataclass(frozen=True)
class Mutant:
    """One fault: its name, what is wrong in a sentence, the law that must fail, how to install.

        law = mutants.law_of("rules.tanh_sign")
        install = lambda: mutants.apply("rules.tanh_sign")
        mutants.Mutant("mine.tanh", "The derivative of tanh has the wrong sign.", law, install)

    Inside `with mutant.installed():` the fault is there. The bank has one for each of `names()`.
    Raises nothing of its own.
    """

    name: str
    what: str
    law: Law
    installed: Callable[[], AbstractContextManager[None]]

    def __repr__(self) -> str:
        return f"Mutant({self.name}: {self.what})"


@dataclass(frozen=True)
class Score:
    """How many faults a check sees: `print(mutants.score(check).text())`.

        score = mutants.score(lambda: testing.check_op(np.tanh, count=1), only="rules.tanh_sign")
        score.killed, score.survived, score.total     # (['rules.tanh_sign'], [], 1)
        print(score.text())

    killed, survived  names of mutants. Raises nothing of its own.
    """

    killed: list[str]
    survived: list[str]

    def __repr__(self) -> str:
        return f"Score({len(self.killed)} of {self.total} mutants killed; .text())"

    def __str__(self) -> str:
        return self.text()

    @property
    def total(self) -> int:
        """How many mutants the check was run under."""
        return len(self.killed) + len(self.survived)

    def text(self) -> str:
        """The figures, group by group, and a line for each survivor: what it does wrong."""
        dead, alive = (Counter(map(_group, part)) for part in (self.killed, self.survived))
        groups = [g for g in dict.fromkeys(map(_group, _BANK)) if dead[g] + alive[g]]
        figures = ", ".join(f"{g} {dead[g]} of {dead[g] + alive[g]}" for g in groups)
        lines = [f"{len(self.killed)} of {self.total} mutants killed: {figures}"]
        if self.survived:
            width = max(map(len, self.survived))
            lines.append("survived, the check did not see that:")
            lines += [f"  {name:{width}}  {_BANK[name].what}" for name in self.survived]
        return "\n".join(lines)


def names() -> list[str]:
    """All mutants, group by group.

        [name for name in mutants.names() if name.startswith("rules.tanh")]
        # ['rules.tanh_sign', 'rules.tanh_power', 'rules.tanh_second_order']

    Raises nothing of its own.
    """
    return list(_BANK)


def law_of(name: str) -> Law:
    """The law that must kill a mutant.

        mutants.law_of("rules.tanh_sign").label      # 'check_op(np.tanh)'

    Raises MutantError for an unknown name.
    """
    return _mutant(name).law


@contextmanager
def apply(name: str) -> Iterator[None]:
    """Inside, the library has this fault; it is put right at the end, after an exception too.

        with mutants.apply("rules.tanh_sign"):
            x = tg.Tensor(0.0, requires_grad=True)
            np.tanh(x).backward()
            x.grad                                # array(-1.)

    The fault is there for all threads. Raises MutantError for an unknown name, and where the text
    that the mutant replaces is not in the source exactly once: it would then change nothing.
    """
    with _mutant(name).installed():
        yield


def score(check: Callable[[], Any], only: Iterable[str] | None = None) -> Score:
    """Run a check under each mutant: the fault is killed where the check raises anything.

        check = lambda: testing.check_op(np.tanh, count=1)
        score = mutants.score(check, only=["rules.tanh_sign", "rules.cos_sign"])
        score.survived                            # ['rules.cos_sign']: the check does not see it

    check   takes nothing; a test function, or one that calls many
    only    names of mutants, or beginnings such as "loop."; default: all of them, and the check
            runs once for each

    Raises MutantError if the check fails without a mutant already, and for an unknown name.
    """
    wanted = names() if only is None else [only] if isinstance(only, str) else list(only)
    chosen = [n for name in wanted for n in _group_of(name)]
    if error := _failure(check):
        raise MutantError(
            f"the check fails without any mutant, by {type(error).__name__}: {error}. Expected a "
            "check that passes on the library as it is"
        ) from error
    killed: list[str] = []
    survived: list[str] = []
    for name in chosen:
        with apply(name):
            (killed if _failure(check) else survived).append(name)
    return Score(killed, survived)


def _group_of(name: str) -> list[str]:
    """A mutant's name, or all that begin with "loop.", say."""
    return [n for n in _BANK if name.endswith(".") and n.startswith(name)] or [_mutant(name).name]


def _group(name: str) -> str:
    return name.partition(".")[0]


def _failure(check: Callable[[], Any]) -> BaseException | None:
    try:
        with np.errstate(all="ignore"):
            check()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's own failures are no Exceptions
        return error
    return None


def _mutant(name: str) -> Mutant:
    if name not in _BANK:
        near = [known for known in _BANK if _group(known) == _group(name)] or _BANK
        raise MutantError(f"there is no mutant {name!r}. There are: {', '.join(near)}")
    return _BANK[name]


# ----- ways to install a fault -------------------------------------------------------------------


def _function(name: str, where: str) -> FunctionType:
    try:
        found = pkgutil.resolve_name(f"{__package__.rpartition('.')[0]}.{where}")
    except (ImportError, AttributeError) as error:
        raise MutantError(f"mutant {name}: there is no {where} to change ({error})") from error
    if not isinstance(found, FunctionType):
        raise MutantError(f"mutant {name}: {where} is no function")
    return found


@contextmanager
def _edited(name: str, where: str, old: str, new: str) -> Iterator[None]:
    """A function with one piece of its source replaced."""
    function = _function(name, where)
    try:
        lines, first = inspect.getsourcelines(function)
    except OSError as error:
        raise MutantError(f"mutant {name}: the source of {where} is not there") from error
    source = textwrap.dedent("".join(lines))
    if source.count(old) != 1:
        raise MutantError(
            f"mutant {name}: {old!r} occurs {source.count(old)} times in {where}, expected once. "
            "The function was rewritten: give the mutant the new text"
        )
    tree = ast.parse(source.replace(old, new))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    ast.increment_lineno(tree, first - 1)
    # The same file name and lines: the engine tells its own files from a user's.
    file = function.__code__.co_filename
    flags = __future__.annotations.compiler_flag
    scope = dict(function.__globals__)
    exec(compile(tree, file, "exec", flags=flags), scope)
    made = scope[definition.name]
    parts = ("__code__", "__defaults__", "__kwdefaults__")
    before = [getattr(function, part) for part in parts]
    try:
        for part in parts:
            setattr(function, part, getattr(made, part))
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(function, part, value)


@contextmanager
def _ruled(function: Any, slot: int | str, vjp: Callable[..., Any]) -> Iterator[None]:
    """A rule with another VJP for one argument, or for "each" or "joint"."""
    rule = RULES[function]
    vjps = tuple(vjp if k == slot else own for k, own in enumerate(rule.vjps))
    options: dict[str, Any] = {"each": rule.each, "joint": rule.joint, "into": rule.into}
    if isinstance(slot, str):
        options[slot] = vjp
    RULES[function] = Rule(function, vjps, broadcasts=rule.broadcasts, bind=rule.bind, **options)
    try:
        yield
    finally:
        RULES[function] = rule


@contextmanager
def _put(table: dict[Any, Any], key: Any, value: Any) -> Iterator[None]:
    """Another entry in a table."""
    before = table[key]
    table[key] = value
    try:
        yield
    finally:
        table[key] = before


# ----- laws --------------------------------------------------------------------------------------


def _op(function: Any) -> Law:
    """The law of an operation: random calls against numeric derivatives."""
    name = function.__name__
    prefix = "np." if getattr(np, name, None) is function else ""
    return Law(f"check_op({prefix}{name})", lambda: check_op(function))


def _constant(a: Array) -> Any:
    return a.detach() if isinstance(a, Tensor) else a


def _rounded(a: Array) -> Any:
    return a.astype(np.float32).astype(a.dtype)


# ----- the bank ----------------------------------------------------------------------------------

_BANK: dict[str, Mutant] = {}


def _add(name: str, what: str, law: Any, install: Any, *how: Any) -> None:
    if name in _BANK:
        raise MutantError(f"two mutants have the name {name}")
    named = law if isinstance(law, Law) else Law(f"laws.{law.__name__}", law)
    _BANK[name] = Mutant(name, what, named, lambda: install(*how))


def _edit(name: str, what: str, law: Any, where: str, old: str, new: str) -> None:
    _add(name, what, law, _edited, name, where, old, new)


def _rule(name: str, what: str, law: Any, function: Any, slot: int | str, vjp: Any) -> None:
    _add(name, what, law, _ruled, function, slot, vjp)


# fmt: off
# A row: the name, what is wrong, the law that must fail, where, the old text, the new text.

# rules: the derivative of one function

_rule("rules.tanh_sign", "The derivative of tanh has the wrong sign.",
      _op(np.tanh), np.tanh, 0, lambda g, out: g * (out * out - 1))
_rule("rules.tanh_power", "The derivative of tanh is 1 - out, where it is 1 - out**2.",
      _op(np.tanh), np.tanh, 0, lambda g, out: g * (1 - out))
_rule("rules.tanh_second_order", "The derivative of tanh is right, its own derivative is lost.",
      laws.second_order, np.tanh, 0, lambda g, out: g * (1 - _constant(out) ** 2))
_rule("rules.subtract_sign", "The subtracted operand gets its gradient with the wrong sign.",
      _op(np.subtract), np.subtract, 1, lambda g: g)
_rule("rules.multiply_own_operand", "A factor's gradient is g times itself, not times the other.",
      _op(np.multiply), np.multiply, 0, lambda g, x0: g * x0)
_rule("rules.divide_sign", "The divisor gets its gradient with the wrong sign.",
      _op(np.divide), np.divide, 1, lambda g, out, x1: g * (out / x1))
_rule("rules.square_without_2", "The derivative of x**2 is x.",
      _op(np.square), np.square, 0, lambda g, x0: g * x0)
_rule("rules.sqrt_eps", "1e-8 is added to what sqrt's derivative divides by.",
      _op(np.sqrt), np.sqrt, 0, lambda g, out: g * (0.5 / (out + 1e-8)))
_rule("rules.log_eps", "1e-8 is added to what log's derivative divides by.",
      _op(np.log), np.log, 0, lambda g, x0: g / (x0 + 1e-8))
_rule("rules.sin_float32", "The derivative of sin takes a detour over float32.",
      _op(np.sin), np.sin, 0, lambda g, x0: g * _rounded(np.cos(x0)))
_rule("rules.cos_sign", "The derivative of cos has the wrong sign.",
      _op(np.cos), np.cos, 0, lambda g, x0: g * np.sin(x0))
_rule("rules.exp2_constant", "The derivative of 2**x lacks the factor log(2).",
      _op(np.exp2), np.exp2, 0, lambda g, out: g * out)
_rule("rules.arctan2_swapped", "The two gradients of arctan2 are exchanged.",
      _op(np.arctan2), np.arctan2, 0,
      lambda g, x0, x1: g * (x0 / np.hypot(x0, x1) / np.hypot(x0, x1)))
_edit("rules.power_factor", "The derivative of x**n with a number n lacks the factor n.",
      _op(np.power), "rules:power_base", "(x1 * x0 ** (x1 - 1)) if", "(x0 ** (x1 - 1)) if")
_edit("rules.maximum_ties", "At a tie both operands of maximum get the whole gradient.",
      laws.ties_are_shared, "rules:share", "0.5 * ties", "ties")
_rule("rules.where_swapped", "The first branch of where gets the other one's gradient.",
      _op(np.where), np.where, 1, lambda g, x0: np.where(x0, 0, g))
_edit("rules.matmul_untransposed", "The gradient of a in a @ b is g @ b: seen if b is square only.",
      laws.square_shapes, "rules:matmul_left", "g @ x1.swapaxes(-1, -2)", "g @ x1")
_edit("rules.matmul_mean", "A weight's gradient is the mean over all rows, not the sum.",
      _op(np.matmul), "rules:rows_product.on_arrays",
      "np.dot(a.T, g)", "np.dot(a.T, g) / max(1, len(g))")
_edit("rules.matmul_first_of_batch", "A weight's gradient comes from the first of a batch only.",
      _op(np.matmul), "rules:rows_product.on_arrays",
      "a, g = a.reshape", "a = a * (np.arange(len(a)) == 0).reshape(-1, *[1] * (a.ndim - 1))\n"
      "        a, g = a.reshape")
_edit("rules.einsum_operand_dropped", "Of three operands one is missing in a gradient of einsum.",
      _op(rules.einsum_product), "rules:einsum_part", "if k != i]", "if k != i][:1]")
_edit("rules.einsum_mean", "An axis that einsum sums over alone gets the mean's gradient.",
      _op(np.einsum), "rules:einsum_part",
      "np.ones(size, g.dtype)", "np.ones(size, g.dtype) / size")
_edit("rules.keepdims_forgotten", "A reduction's gradient is spread without its lost axes.",
      laws.square_shapes, "rules:spread", "g if keepdims else np.expand_dims(g, axis)", "g")
_edit("rules.mean_without_n", "The gradient of a mean is not divided by n.",
      _op(np.mean), "rules:mean_vjp", "g / max(1, count(shapes[0], axis))", "g")
_edit("rules.var_default", "The keyword ddof of var is 1 by default in the gradient.",
      _op(np.var), "rules:var_vjp", "ddof: int = 0", "ddof: int = 1")
_edit("rules.var_wrong_mean", "The gradient of var subtracts the mean of all, not along the axis.",
      _op(np.var), "rules:var_vjp", "np.mean(x0, axis=axis, keepdims=True)", "np.mean(x0)")
_edit("rules.std_nan_at_0", "The gradient of std is NaN where all elements are equal.",
      laws.zero_gradients_at_zero, "rules:std_vjp", "ratio(g, 2 * out)", "g / (2 * out)")
_edit("rules.norm_nan_at_0", "The gradient of a norm is NaN at 0.",
      laws.zero_gradients_at_zero, "rules:ratio",
      "np.where(size == 0, np.ones_like(size), size)", "size")
_edit("rules.max_ties", "All elements that are the maximum get the whole gradient.",
      laws.ties_are_shared, "rules:extreme_vjp",
      "ties / np.sum(ties, axis=axis, keepdims=True)", "ties")
_edit("rules.prod_divides", "The gradient of a product divides by the element, also by zeros.",
      laws.products_with_zeros, "rules:prod_vjp",
      "np.moveaxis(others.reshape(moved.shape), last, axes)",
      "np.prod(x0, axis=axis, keepdims=True) / x0")
_edit("rules.cumsum_not_reversed", "The gradient of cumsum runs forward, not back.",
      _op(np.cumsum), "rules:cumsum_vjp",
      "np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis)", "np.cumsum(g, axis=axis)")
_edit("rules.cumprod_neighbour", "The gradient of cumprod takes x_j where x_{j+1} is meant.",
      _op(np.cumprod), "rules:cumprod_vjp", "x[..., j + 1] *", "x[..., j] *")
_edit("rules.transpose_inverse", "A transpose is undone by itself, not by its inverse.",
      laws.square_shapes, "rules:transpose_vjp",
      "sorted(range(len(axes)), key=lambda k: axes[k])", "list(axes)")
_rule("rules.swapaxes_not_undone", "swapaxes passes its gradient on as it is.",
      laws.square_shapes, np.swapaxes, 0, lambda g, axis1, axis2: g)
_rule("rules.reshape_fortran", "The gradient of reshape is read in Fortran's order.",
      _op(np.reshape), np.reshape, 0,
      lambda g, shapes, order="C", **_: np.reshape(g, shapes[0], order="F"))
_rule("rules.flip_all", "The gradient of flip is flipped along all axes.",
      _op(np.flip), np.flip, 0, lambda g, axis=None: np.flip(g))
_rule("rules.rot90_again", "rot90 is undone by turning on in the same direction.",
      laws.square_shapes, np.rot90, 0, lambda g, k=1, axes=(0, 1): np.rot90(g, k, axes))
_edit("rules.roll_on", "roll is undone by rolling on in the same direction.",
      _op(np.roll), "rules:roll_vjp", "else -shift", "else shift")
_edit("rules.concatenate_offset", "Every part of a concatenation gets the gradient of its front.",
      _op(np.concatenate), "rules:part", "sum(shape[axis] for shape in shapes[:i])", "0")
_rule("rules.stack_swapped", "The parts of a stack get each other's gradients, in reverse.",
      _op(np.stack), np.stack, "each",
      lambda g, i, axis=0: g[(..., -1 - i, *[slice(None)] * (-1 - axis))])
_rule("rules.split_swapped", "The gradients of split's parts are joined in reverse.",
      _op(np.split), np.split, 0,
      lambda g, indices_or_sections, axis=0: np.concatenate(g[::-1], axis=axis))
_rule("rules.iteration_swapped", "The gradients of x[0], x[1], ... are stacked in reverse.",
      laws.several_outputs, primitives.unstack, 0, lambda g: np.stack(g[::-1]))
_edit("rules.index_repeats_lost", "Of an index that occurs twice only one gradient arrives.",
      _op(primitives.getitem), "rules:add_at", "np.add.at(total, where, g)", "total[where] += g")
_edit("rules.index_overwrites", "x[a:b] overwrites what other uses of x have sent back.",
      laws.programs, "rules:add_at", "total[where] += g", "total[where] = g")
_edit("rules.take_along_axis_repeats", "take_along_axis assigns where it should add.",
      _op(np.take_along_axis), "rules:scatter_along.on_arrays",
      "np.add.at(total, tuple(grid), g)", "total[tuple(grid)] = g")
_edit("rules.sort_inverse", "The gradient of sort goes by the order, not by the ranks.",
      _op(np.sort), "rules:sort_vjp",
      'np.argsort(np.argsort(x0, axis=axis, kind="stable"), axis=axis)',
      'np.argsort(x0, axis=axis, kind="stable")')
_edit("rules.sort_ties", "Equal elements of sort do not share their gradients.",
      laws.ties_are_shared, "rules:sort_vjp", "average_ties(g, out, axis=axis)", "g")
_edit("rules.pad_offset", "The gradient of pad is cut from the front, padding included.",
      _op(rules.pad_constant), "rules:pad_vjp", "slice(k, k + n)", "slice(0, n)")
_edit("rules.softmax_without_sum", "The gradient of softmax lacks the sum.",
      _op(functions.softmax), "functions:_softmax_vjp",
      "(g - np.sum(g * out, axis=axis, keepdims=True))", "g")
_edit("rules.log_softmax_without_sum", "The gradient of log_softmax does not sum g.",
      _op(functions.log_softmax), "functions:_log_softmax_vjp",
      "np.sum(g, axis=axis, keepdims=True)", "g")
_rule("rules.sigmoid_factor", "The derivative of sigmoid lacks the factor 1 - out.",
      _op(functions.sigmoid), functions.sigmoid, 0, lambda g, out: g * out)
_rule("rules.relu_everywhere", "relu passes its gradient on where it is 0.",
      _op(functions.relu), functions.relu, 0, lambda g, out: g * (out >= 0))
_edit("rules.rmse_nan_at_0", "The gradient of a root mean square is NaN at 0.",
      laws.zero_gradients_at_zero, "functions:_root_mean_square_vjp",
      "np.where(out == 0, np.ones_like(out), out)", "out")

_edit("rules.softmax_overflow", "softmax does not subtract the maximum.",
      laws.no_overflow, "functions:softmax.on_arrays",
      "x - np.max(x, axis=axis, keepdims=True)", "x")
_edit("rules.sigmoid_overflow", "sigmoid is exp(x) / (1 + exp(x)), which overflows.",
      laws.no_overflow, "functions:sigmoid.on_arrays",
      "np.where(x >= 0, 1, e) / (1 + e)", "np.exp(x) / (1 + np.exp(x))")
_edit("rules.logsumexp_overflow", "logsumexp does not subtract the maximum.",
      laws.no_overflow, "functions:logsumexp.on_arrays",
      "np.where(np.isfinite(top), top, 0)", "np.zeros_like(top)")

# composed: functions made of others, that then compute something else than NumPy

_edit("composed.clip_upper", "clip on Tensors has no upper bound.",
      _op(np.clip), "composed:clip", "a if high is None else np.minimum(a, high)", "a")
_edit("composed.tril_diagonal", "tril on Tensors drops its diagonal.",
      _op(np.tril), "composed:tril", "_lower(m, k)", "_lower(m, k - 1)")
_edit("composed.diag_side", "diag on Tensors puts a vector on the wrong side.",
      _op(np.diag), "composed:diag", "(at - min(k, 0), at + max(k, 0))",
      "(at + max(k, 0), at - min(k, 0))")
_edit("composed.repeat_order", "repeat on Tensors gives its elements in reverse.",
      _op(np.repeat), "composed:repeat", "repeats), axis", "repeats)[::-1], axis")
_edit("composed.diff_sign", "diff on Tensors subtracts the wrong way round.",
      _op(np.diff), "composed:diff", "a[1:] - a[:-1]", "a[:-1] - a[1:]")

# engine: the graph and the walk back

_edit("engine.sums_overwrite", "A second use of a value overwrites the gradient of the first.",
      laws.programs, "graph:Sums.add", "if total is None:", "if True:")
_edit("engine.sums_alias", "Gradients are added into an array that another input holds too.",
      laws.accumulation, "graph:Sums.add", "self.totals[key] = part  #",
      "self.owned |= {key} if self.in_place and part.flags.writeable else set()\n"
      "        self.totals[key] = part  #")
_edit("engine.unbroadcast_mean", "A broadcast operand gets the mean over its copies.",
      laws.broadcasting_is_tiling, "graph:unbroadcast", "g.sum(axis=axes)", "g.mean(axis=axes)")
_edit("engine.unbroadcast_axes", "The sum over an operand's copies runs over the wrong axes.",
      laws.broadcasting_is_tiling, "graph:unbroadcast", "_repeated_axes(g.shape, shape)",
      "tuple(-1 - g.ndim - k for k in _repeated_axes(g.shape, shape))")
_edit("engine.walk_order", "The graph is walked breadth first: a node may come before a use.",
      laws.programs, "graph:_path", 'order = sorted(seen, key=attrgetter("id"))',
      "order = list(dict.fromkeys(node for node, _ in seeds))\n"
      "    for node in order:\n"
      "        found = [edge[1][0] for edge in node.edges or ()]\n"
      "        order += [x for x in dict.fromkeys(found) if x not in order]\n"
      "    order.reverse()")
_edit("engine.slots_swapped", "The gradients of a node's outputs are taken in reverse.",
      laws.several_outputs, "graph:Sums.take", "self.totals.pop((node, slot), None)",
      "self.totals.pop((node, len(node.shapes) - 1 - slot), None)")
_edit("engine.unused_output_is_1", "An output that nobody used has a gradient of ones.",
      laws.several_outputs, "graph:zeros", "np.zeros(", "np.ones(")
_edit("engine.joint_first", "A joint rule's first gradient goes to all arguments.",
      laws.several_outputs, "graph:pull_node", "part = together[i]", "part = together[0]")
_edit("engine.each_first", "The rule of a sequence is always asked for the first part.",
      _op(np.stack), "graph:run_vjp", "rule.each(g, i,", "rule.each(g, 0,")
_edit("engine.not_freed", "A graph is never freed, so no second walk is refused.",
      laws.freeing, "graph:pull", "if not retain:", "if False:")
_edit("engine.retain_ignored", "retain_graph=True is ignored.",
      laws.freeing, "graph:pull", "if not retain:", "if True:")
_edit("engine.freed_skipped", "A part of the graph that was freed already is passed over.",
      laws.freeing, "graph:_path", "raise errors.graph_freed(node)", "continue")
_edit("engine.inner_gradient_stops", "What lies behind a Tensor that grad was asked for gets none.",
      laws.inner_gradients, "graph:pull",
      "{node for node, _ in wanted or ()} if cut else set()", "{node for node, _ in wanted or ()}")
_edit("engine.unused_input_silent", "An input that is not used gives None without a word.",
      laws.inner_gradients, "differentiate:grad", "if g is None and not allow_unused:", "if False:")
_edit("engine.g_not_frozen", "A VJP may write into g, which other inputs share.",
      laws.gradients_are_frozen, "graph:Sums.take", "g.setflags(write=False)", "pass")
_edit("engine.dtype_not_restored", "A gradient keeps the dtype in which it was computed.",
      laws.float32_stays_float32, "graph:_fitted",
      "g if g.dtype == dtype else g.astype(dtype)", "g")
_edit("engine.grad_overwritten", "backward replaces .grad, where it should add to it.",
      laws.accumulation, "tensor:Tensor.backward", "np.asarray(leaf.grad + g)", "g")
_edit("engine.grad_alias", "What arrives in .grad is the engine's own array, not a copy.",
      laws.accumulation, "tensor:Tensor.backward", 'np.array(g, order="C")', "g")
_edit("engine.tensor_not_copied", "A Tensor is a view of the array that it was made from.",
      laws.arrays_are_copied, "tensor:Tensor.__init__",
      "np.array(array._data if given else unmasked(array), dtype=dtype)",
      "np.asarray(array._data if given else unmasked(array), dtype=dtype)[...]")
_edit("engine.data_not_frozen", "The values of a new Tensor can be changed.",
      laws.arrays_are_frozen, "tensor:Tensor.__init__", "self._data.setflags(write=False)", "pass")
_edit("engine.result_not_frozen", "The values of a result can be changed.",
      laws.arrays_are_frozen, "tensor:apply", "result.setflags(write=False)", "pass")
_edit("engine.silent_array", "NumPy turns a Tensor into an array in silence: its graph is lost.",
      laws.arrays_are_frozen, "tensor:Tensor.__array__",
      'raise errors.value_read("__array__") if record.tracing else errors.plain_array_wanted()',
      "return self._data")
_edit("engine.operand_not_copied", "A raw array that the way back needs is not copied.",
      laws.arrays_are_copied, "tensor:apply", "arrays[i] = frozen_copy(arrays[i])", "pass")
_edit("engine.no_grad_ignored", "Inside no_grad everything is recorded.",
      laws.no_grad_records_nothing, "differentiate:no_grad",
      "recording(tracking=False)", "recording()")
_rule("engine.detach_leaks", "A gradient flows back through detach.",
      laws.detach_cuts, primitives.detach, 0, lambda g: g)
_edit("engine.create_graph_operands", "With create_graph, operands that a rule kept are constants.",
      laws.second_order, "differentiate:_lifted_vjp",
      "origin = {j: key for j, key, _ in node.edges or ()}", "origin = dict()")
_edit("engine.create_graph_result", "With create_graph, the result that a rule kept is a constant.",
      laws.second_order, "differentiate:_lifted_vjp",
      "_lift(value, (node, 0))", "_lift(value, None)")
_edit("engine.jvp_first", "jvp and hvp forget all tangents but the first.",
      laws.forward_mode, "differentiate:_inner", "sum(parts[1:], parts[0])", "parts[0]")
_edit("engine.checkpoint_weights", "A checkpoint gives no gradient to the leaves behind it.",
      laws.checkpoint_equals_plain, "differentiate:through",
      "found[key] if key in found else", "found[key] if key in found and key[0].rule else")
_edit("engine.checkpoint_walks_on", "A checkpoint's second run walks on into the graph around it.",
      laws.checkpoint_equals_plain, "differentiate:through", "cut=True", "cut=False")

# cells: one step

_edit("cells.rnn_bias", "RNNCell forgets its bias.",
      laws.forward_by_hand, "cells:RNNCell.step", "z + self.b", "z")
_edit("cells.lstm_gate_order", "LSTMCell takes its gates in the order i, f, o, g.",
      laws.forward_by_hand, "cells:LSTMCell.step", "i, f, g, o =", "i, f, o, g =")
_edit("cells.lstm_memory_tanh", "LSTMCell reads its memory without tanh.",
      laws.forward_by_hand, "cells:LSTMCell.step", "* np.tanh(c)", "* c")
_edit("cells.lstm_forget_bias", "The bias of the forget gate starts at 0.",
      laws.how_cells_start, "cells:LSTMCell.__init__", "[0, forget_bias, 0, 0]", "[0, 0, 0, 0]")
_edit("cells.lstm_bias_gate", "The forget gate's starting bias lands in the input gate.",
      laws.how_cells_start, "cells:LSTMCell.__init__",
      "[0, forget_bias, 0, 0]", "[forget_bias, 0, 0, 0]")
_edit("cells.gru_z_swapped", "GRUCell keeps where it should renew: z and 1 - z are exchanged.",
      laws.forward_by_hand, "cells:GRUCell.step",
      "(1 - z) * n + z * state", "z * n + (1 - z) * state")
_edit("cells.gru_reset_bias", "GRUCell's reset gate does not act on b_n.",
      laws.forward_by_hand, "cells:GRUCell.step", "r * (hn + self.b_n)", "r * hn + self.b_n")
_edit("cells.gru_reset_after", "GRUCell resets after the product where it should before it.",
      laws.forward_by_hand, "cells:GRUCell.step",
      "(r * state) @ self.V[:, 2 * self.hidden :]", "r * (state @ self.V[:, 2 * self.hidden :])")
_edit("cells.orthogonal", "A recurrent matrix does not start orthogonal.",
      laws.how_cells_start, "init:orthogonal", "q * np.where", "r * np.where")

# loop: the layer over time

_CALL, _LOOP = "recurrent:RNN.__call__", "recurrent:RNN._plain"
_edit("loop.state_not_carried", "Every step starts from the initial state.",
      laws.forward_by_hand, _LOOP, "state = map_tree(_read_only, new)",
      "state = map_tree(_read_only, state)")
_edit("loop.initial_state_ignored", "The state that the caller gives is ignored.",
      laws.forward_by_hand, _CALL,
      "start if state is None else self._checked_state(state, start)", "start")
_edit("loop.initial_state_detached", "No gradient reaches the initial state.",
      laws.state_splitting, _CALL,
      "map_tree(_tensor, x), map_tree(_tensor, state)",
      "map_tree(_tensor, x), detach(map_tree(_tensor, state))")
_edit("loop.carry_detached", "The gradient stops at every step: nothing flows through the state.",
      laws.bptt, _LOOP, "self.cell(map_tree(itemgetter(t), x_steps), state)",
      "self.cell(map_tree(itemgetter(t), x_steps), detach(state) if done else state)")
_edit("loop.weights_not_shared", "After the first step the weights are copies, never learnt.",
      laws.bptt, _LOOP, "*self.cell(map_tree(",
      "*(__import__('copy').deepcopy(self.cell) if done else self.cell)(map_tree(")
_edit("loop.truncate_ignored", "truncate does not cut the graph.",
      laws.truncation, _LOOP, "if truncate and done and", "if False and")
_edit("loop.truncate_shifted", "truncate cuts the graph one step late.",
      laws.truncation, _LOOP, "done % truncate == 0",
      "done > 1 and done % truncate == 1 % truncate")
_edit("loop.truncate_forgets", "truncate starts anew at each cut: the state is not carried over.",
      laws.truncation, _LOOP, "state = detach(state)", "state = start")
_edit("loop.state_not_held", "In padding the state goes on changing.",
      laws.hold_rule, _LOOP, "if valid is not None and not valid[t].all():", "if False:")
_edit("loop.padding_seen", "The cell sees what stands in padding: a NaN there spoils gradients.",
      laws.hold_rule, _CALL, "x = map_tree(partial(choose, valid), x)", "pass")
_edit("loop.padding_output", "Outputs in padding are not 0.",
      laws.hold_rule, _LOOP,
      "np.stack(outputs) if valid is None else choose(valid, np.stack(outputs))",
      "np.stack(outputs)")
_edit("loop.last_is_outputs_end", "`last` is outputs[-1], padding or not.",
      laws.hold_rule, _CALL,
      "outputs[(at, np.arange(len(at)))] if batch else outputs[int(at)]",
      "outputs[-1]")
_edit("loop.last_reverse", "`last` of the reverse direction is its first output.",
      laws.reverse_is_the_flip, _LOOP, "outputs[0 if self.reverse else -1]", "outputs[-1]")
_edit("loop.last_reverse_padded", "`last` of the reverse direction is taken from the wrong end.",
      laws.hold_rule, _CALL, "valid.argmax(axis=0) if self.reverse else ", "")
_edit("loop.reverse_order", "The reverse direction gives its outputs in the order of its travel.",
      laws.reverse_is_the_flip, _LOOP, "outputs, states = outputs[::-1], states[::-1]",
      "states = states[::-1]")
_edit("loop.reverse_ignored", "reverse=True runs forward.",
      laws.reverse_is_the_flip, _LOOP,
      "[:: -1 if self.reverse else 1]", "")
_edit("loop.reset_late", "A reset comes one step late.",
      laws.resets, _LOOP,
      "if resets is not None and resets[t].any():\n"
      "                    state = map_tree(partial(choose, resets[t]), start, state)",
      "back = t + 1 if self.reverse else t - 1\n"
      "                if resets is not None and done and resets[back].any():\n"
      "                    state = map_tree(partial(choose, resets[back]), start, state)")
_edit("loop.reset_all", "A reset of one row resets all rows.",
      laws.resets, _LOOP, "map_tree(partial(choose, resets[t]), start, state)", "start")
_edit("loop.padding_of_other_row", "The state is held where another row has its padding.",
      laws.batch_permutation, _LOOP,
      "partial(choose, valid[t]), new", "partial(choose, valid[t][::-1]), new")
_edit("loop.future_seen", "x is centred over all of time, so that every step sees the future.",
      laws.causality, _LOOP, "x_steps = map_tree(list, x)",
      "x_steps = list(x - np.mean(x, axis=0))")
_edit("loop.lengths_off_by_one", "Rows are one step longer than their lengths say.",
      laws.hold_rule, "functions:valid_steps",
      "* len(batch)) < lengths", "* len(batch)) <= lengths")
_edit("loop.mask_or_lengths", "A step counts where mask or lengths say so, not both.",
      laws.forward_by_hand, "functions:valid_steps", "valid & mask", "valid | mask")
_edit("loop.no_steps_state", "With no steps the state comes back as zeros.",
      laws.no_steps, "recurrent:RNN._no_steps", "RNNOutput(outputs, last, state, states)",
      "RNNOutput(outputs, last, map_tree(lambda s: 0 * s, state), states)")
_edit("loop.no_steps_gradient", "With no steps the weights get no gradient at all.",
      laws.no_steps, "recurrent:RNN._no_steps",
      "in (*leaves(x), *self.parameters(), *leaves(state))", "in ()")
_edit("loop.birnn_last", "BiRNN's `last` takes the backward direction's output at the end.",
      laws.birnn_merges, "recurrent:BiRNN.__call__",
      "merge(forward.last, backward.last)", "merge(forward.last, backward.outputs[-1])")
_edit("loop.birnn_one_cell", "BiRNN runs its forward cell in both directions.",
      laws.birnn_merges, "recurrent:BiRNN.__init__", "RNN(backward_cell,", "RNN(forward_cell,")
_edit("loop.birnn_one_direction", "BiRNN runs forward twice.",
      laws.birnn_merges, "recurrent:BiRNN.__init__", "reverse=True", "reverse=False")
_edit("loop.birnn_states_swapped", "BiRNN returns its two states exchanged.",
      laws.birnn_merges, "recurrent:BiRNN.__call__",
      "(forward.state, backward.state)", "(backward.state, forward.state)")
_add("loop.birnn_mean", "BiRNN's merge=\"mean\" is the sum.",
     laws.birnn_merges, _put, recurrent.MERGES, "mean", lambda f, b: f + b)

# losses

_edit("losses.mean_over_padding", "The mean divides by all steps, padding included.",
      laws.cross_entropy_by_hand, "losses:_reduced", "int(valid.sum())", "math.prod(shape)")
_edit("losses.nothing_is_nan", "The mean over no step at all is 0 / 0.",
      laws.cross_entropy_by_hand, "losses:_reduced",
      "max(1, math.prod(shape) if valid is None else int(valid.sum()))",
      "(math.prod(shape) if valid is None else int(valid.sum()))")
_edit("losses.padding_counts", "The loss of padding is added in.",
      laws.cross_entropy_by_hand, "losses:_reduced", "np.where(valid, losses, 0)", "losses")
_edit("losses.padding_gradient", "Logits in padding are not masked: a NaN there spreads.",
      laws.cross_entropy_by_hand, "losses:cross_entropy",
      "np.where(valid[..., None], logits, 0)", "logits")
_edit("losses.error_padding", "Errors in padding are not masked: a NaN there spreads.",
      laws.errors_by_hand, "losses:_aligned", "if valid is not None:", "if False:")
_edit("losses.target_off_by_one", "Cross-entropy picks the class after the target.",
      laws.cross_entropy_by_hand, "losses:cross_entropy",
      "targets[..., None], axis=-1", "(targets[..., None] + 1) % shape[-1], axis=-1")
_edit("losses.time_sum_divisor", 'reduction="time_sum" divides by the steps, not the batch.',
      laws.errors_by_hand, "losses:_reduced", "math.prod(shape[1:])", "math.prod(shape[:1])")
_edit("losses.mse_sum", "mse sums over the last axis, where it should average.",
      laws.errors_by_hand, "losses:mse", "np.mean(np.square(output - target), axis=-1)",
      "np.sum(np.square(output - target), axis=-1)")
_edit("losses.rmse_root_of_mean", "rmse has no root.",
      laws.errors_by_hand, "functions:root_mean_square.on_arrays",
      "np.sqrt(np.mean(np.square(x), axis=-1))", "np.mean(np.square(x), axis=-1)")
_edit("losses.target_sign", "The error is the sum of output and target.",
      laws.errors_by_hand, "losses:rmse", "output - target", "output + target")
_edit("losses.yes_for_no", "Binary cross-entropy takes yes for no.",
      laws.errors_by_hand, "losses:binary_cross_entropy",
      "targets * softplus(-logits)", "targets * softplus(logits)")

# layers: what stands around the loop

_edit("layers.checkpoint_forgets", "Every block of a checkpointed loop starts anew.",
      laws.checkpointed_blocks, _LOOP, "go(states[-1], first,", "go(state, first,")
_edit("layers.chain_padding", "A Linear after a recurrent layer writes its bias into padding.",
      laws.chain_is_its_layers, "recurrent:Chain.__call__",
      "x if valid is None else choose(valid, x)", "x")
_edit("layers.chain_last", "A Chain's `last` does not pass through the Linears.",
      laws.chain_is_its_layers, "recurrent:Chain.__call__",
      "None if last is None else layer(last)", "last")
_edit("layers.chain_state", "A Chain ignores the states that it is given.",
      laws.chain_is_its_layers, "recurrent:Chain.__call__",
      "next(given), lengths", "(next(given), None)[1], lengths")
_edit("layers.stream_forgets", "A stream starts from its first state with every push.",
      laws.streams, "streaming:Stream.push", "self.state = out.state", "pass")
_edit("layers.stream_reset", "Resetting some rows of a stream resets all.",
      laws.streams, "streaming:Stream.reset",
      "chosen[rows] = True", "chosen[...] = True")
_edit("layers.generate_input", "generate gives every step the first input.",
      laws.generation, "recurrent:generate", "if outputs else first", "if not steps else first")

_edit("layers.stacked_input", "Every cell of a Stacked gets x, not the output below it.",
      laws.wrappers_by_hand, "wrappers:Stacked.step",
      "y, new = cell(y, old)", "y, new = cell(x, old)")
_edit("layers.residual_lost", "Residual does not add x.",
      laws.wrappers_by_hand, "wrappers:Residual.step", "values + output", "output")
_edit("layers.zoneout_inverted", "Zoneout keeps what it should replace.",
      laws.wrappers_by_hand, "wrappers:Zoneout.step",
      "np.where(keep, old, fresh)", "np.where(keep, fresh, old)")
_edit("layers.zoneout_expectation", "Zoneout's expectation has p and 1 - p exchanged.",
      laws.wrappers_by_hand, "wrappers:Zoneout.step",
      "p * old + (1 - p) * fresh", "(1 - p) * old + p * fresh")
_edit("layers.dropout_mask_of_h", "VariationalDropout does not mask h.",
      laws.wrappers_by_hand, "wrappers:VariationalDropout.step", "h * h_mask", "h")

# scan: the loop that is traced, split and emitted

_SCAN = laws.scan_is_the_loop
_edit("scan.after_is_before", "Fission puts what needs the state, but not the way back, before it.",
      _SCAN, "scan.fission:classes", '("loop" if above else "after") if below',
      '"loop" if below and above')
_edit("scan.mask_frozen", "The padding of the first call is that of all later ones.",
      _SCAN, "scan.loop:Loop.__call__", "masks = [",
      "masks = self.masks = getattr(self, 'masks', None) or [")
_edit("scan.mask_forgotten", "The state is not held in padding.",
      _SCAN, "scan.plan:Step.__init__",
      "new = map_tree(partial(choose, masks[0]), new, now)", "pass")
_edit("scan.stale_buffer", "A call gets buffers that an earlier one still needs.",
      _SCAN, "scan.run:Run.__init__", "if self.kept is None:", "if True:")
_edit("scan.step_off_by_one", "A step reads the state that it makes, not the one before.",
      _SCAN, "scan.emit:running", "'1:' if later else ':-1'", "'1:'")
_edit("scan.backward_runs_forward", "The way back takes the steps from first to last.",
      _SCAN, "scan.emit:running", 'turn = "" if writer.program.up else "[::-1]"', 'turn = ""')
_edit("scan.carry_not_cut", "truncate does not cut the gradient.",
      _SCAN, "scan.run:Run.backward", "np.zeros_like(g) for g in state", "g for g in state")
_edit("scan.reset_forgotten", "A reset changes nothing.",
      _SCAN, "scan.plan:Step.__init__", "now = map_tree(partial(choose, masks[-1]), again, now)",
      "pass")
_edit("scan.checkpoint_starts_anew", "Each stretch of a checkpoint is run again from the start.",
      _SCAN, "scan.run:Run.__init__", "self.starts.append(self.state)", "self.starts.append(state)")
_edit("scan.term_forgotten", "What is added to a joined sum of products is lost.",
      _SCAN, "scan.fission:Packer._sum_of_products",
      "rest = [t for t in every", "rest = [t for t in []")
_edit("scan.joined_in_wrong_order", "Joined products get their weights in another order.",
      _SCAN, "scan.fission:Packer._products", "[op.ins[1] for op in group]",
      "[op.ins[1] for op in group[::-1]]")
_edit("scan.factor_forgotten", "A product of three factors loses one when it is put in order.",
      _SCAN, "scan.fission:reassociated", "[*early, *[t for t in terms if t in late]]",
      "[*early[1:], *[t for t in terms if t in late]]")
_edit("scan.sum_of_last_block", "A weight's gradient is that of one block of steps.",
      _SCAN, "scan.emit:Writer._sums", '"{name} += {left[0]}.T', '"{name}[...] = {left[0]}.T')
_edit("scan.number_baked", "A number in the cell stays what it was at the first call.",
      _SCAN, "scan.loop:Inventory._add", "repr(value) if kind is float else value", "0")
_edit("scan.array_baked", "An array in the cell stays what it was at the first call.",
      _SCAN, "scan.plan:Plan.still_holds", "all(same_bits(a, b) for", "all(True for")
_edit("scan.parameter_baked", "A Parameter that was replaced is still the one that is used.",
      _SCAN, "scan.plan:Plan.now", "v.value if k is None else tensors[k]", "v.value")
_edit("scan.new_written_over_old", "A value that is read later is computed over.",
      _SCAN, "scan.places:assign", "fits and count[v] == 1 and", "fits and")

# checker: a checker that lets wrong gradients pass

_edit("checker.never_raises", "check_grads raises for nothing.",
      laws.checker_fails_what_is_wrong, "testing.checks:_judged",
      "elif not report.ok:", "elif False:")
_edit("checker.last_argument", "The last of several arguments is not checked.",
      laws.checker_fails_what_is_wrong, "testing.subject:_chosen",
      "return chosen", "return chosen[: max(1, len(chosen) - 1)]")
_edit("checker.wide_tolerance", "Relative differences of 1e-3 pass.",
      laws.checker_fails_what_is_wrong, "testing.examine:Comparison._decide",
      "self.rtol * size", "1e-3 * size")
_edit("checker.wide_error_bar", "The numeric derivative claims an error bar of 1e-7.",
      laws.checker_fails_what_is_wrong, "testing.numeric:_extrapolated",
      "+ 2 * noise / h", "+ 2 * noise / h + 1e-7")
_edit("checker.cotangent_of_ones", "All outputs have the same weight, so that faults cancel.",
      laws.checker_fails_what_is_wrong, "testing.sides:cotangents",
      "away_from_zero(rounded_normals(rng, out.shape))", "np.ones(out.shape)")
_edit("checker.nan_passes", "A NaN in a gradient passes.",
      laws.checker_fails_what_is_wrong, "testing.examine:Comparison._decide",
      '"FAIL" if np.isfinite(numeric.value)', '"PASS" if np.isfinite(numeric.value)')
_edit("checker.unused_not_compared", "An argument without a gradient is not compared.",
      laws.checker_fails_what_is_wrong, "testing.examine:examine",
      "report.unused.append(name)", "continue")
_edit("checker.no_error_bar", "An error bar that is too wide to decide counts as a failure.",
      laws.checker_knows_noise, "testing.examine:Comparison._decide",
      "elif not known:", "elif False:")
_edit("checker.repeats_not_seen", "That f gives something else each time is not noticed.",
      laws.checker_knows_noise, "testing.examine:_structure",
      "if not all(map(_identical, again, numeric.here)):", "if False:")
_edit("checker.exact_only", "The numeric derivative's own error is not allowed for.",
      laws.checker_passes_what_is_right, "testing.examine:Comparison._decide",
      "10 * numeric.error + self.rtol * size + ROUNDING * 1e3 * scale", "1e-15 * size")
_edit("checker.any_kink", "At a kink every gradient is right.",
      laws.checker_knows_kinks, "testing.examine:Comparison._between",
      '"KINK" if inside else "FAIL"', '"KINK"')
_edit("checker.no_kinks", "Branches are not compared, so that right gradients fail at kinks.",
      laws.checker_knows_kinks, "testing.oracle:Oracle.clean",
      "return None if None in logs else all(log == logs[0] for log in logs[1:])", "return True")
_edit("checker.complex_always", "Complex steps are believed although they lose what they carry.",
      laws.vjp_checker_fails_what_is_wrong, "testing.examine:Comparison._trust_complex",
      "if reliable and abs(found.value - ladder.value) <= 10 * (ladder.error + found.error):",
      "if True:")
_edit("checker.impure_passes", "That a VJP writes into its arguments is not noticed.",
      laws.vjp_checker_fails_what_is_wrong, "testing.sides:Hand._complain",
      "self.report.problems[:] = dict.fromkeys([*self.report.problems, *problems])", "pass")
_edit("checker.float32_ignored", "float32 gradients are not compared with float64's.",
      laws.checker_knows_float32, "testing.examine:compare_float32",
      '"PASS" if finding.difference <= bar.error else "FAIL"', '"PASS"')
# fmt: on
