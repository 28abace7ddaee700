"""What a rule is: how one function is differentiated, and how its call is written down.

`rules.py` is the table of them all; your own functions join it by `defvjp`. A rule holds the VJPs,
what their parameter names say, and how the function is called.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from . import errors

# Operands of steps, rules and functions may be ndarrays, Tensors or Python numbers. NumPy's own
# stubs know nothing of Tensors and reject them, so the alias is Any; the name tells the reader.
Array = Any
VJP = Callable[..., Any]
Static = dict[str, Any]  # the keywords of a call: hashable, no arrays
Bind = Callable[[tuple[Any, ...], Static], Static]

OUT, SHAPES, XS = -1, -2, -3  # beside 0, 1, ... for x0, x1, ...: what a VJP may ask to be kept
_ASKS = {"out": OUT, "shapes": SHAPES, "xs": XS}


class Rule:
    """How one function is differentiated. Made by `defvjp`, kept in `RULES[function]`.

        rule = tg.vjp_of(np.sum)     # its only VJP has (g, shapes, axis=None, keepdims=False)
        rule.asks                    # [(-2,)]: what a node keeps for each VJP; -2 is SHAPES
        rule.names                   # [('axis', 'keepdims')]: the keywords that each VJP gets

    keeps, accepts  the same for all VJPs together
    Arguments as for `defvjp`. Raises RuleError for a parameter name that means nothing.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        vjps: tuple[VJP | None, ...] = (),
        each: VJP | None = None,
        joint: VJP | None = None,
        broadcasts: bool | None = None,
        bind: Bind | None = None,
        into: Callable[..., None] | None = None,
    ) -> None:
        self.function, self.name = function, function.__name__
        self.vjps, self.each, self.joint, self.bind, self.into = vjps, each, joint, bind, into
        self.broadcasts = isinstance(function, np.ufunc) if broadcasts is None else broadcasts
        self.shared = bool(each or joint)  # one function for all arguments
        self.differentiable = self.shared or any(vjps)
        self.own = hasattr(function, "on_arrays")  # made by @primitive, not NumPy's
        run: Callable[..., Any] = getattr(function, "on_arrays", function)
        self.run: Callable[..., Any] = (lambda *xs, **kw: run(xs, **kw)) if each else run
        known = _parameters(function)
        self.defaults = {name: p.default for name, p in (known or {}).items()}
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in (known or {}).values())
        # Parameter names are read here, once: they say what a node keeps for the way back.
        functions = self.functions = [each or joint] if self.shared else vjps
        read = [self._read(vjp, known is None) for vjp in functions]
        self.asks = [asks if vjp else None for vjp, (asks, _) in zip(functions, read, strict=True)]
        self.names = [names for _, names in read]
        self.keeps = frozenset(ask for asks in self.asks for ask in asks or ())
        self.accepts = frozenset(name for names in self.names for name in names)
        if known is None:
            positions = [f"x{j}" for j in range(max(1, len(vjps)))]
            self.defaults = dict.fromkeys(positions + [n for names in self.names for n in names])

    def __repr__(self) -> str:
        names = [vjp and ", ".join(inspect.signature(vjp).parameters) for vjp in self.functions]
        return f"Rule({self.name}: {', '.join(f'({n})' if n else 'None' for n in names)})"

    def _read(self, vjp: VJP | None, hidden: bool) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Split a VJP's parameter names after g into what it asks to be kept, and keywords."""
        if vjp is None:
            return (), ()
        asks: list[int] = []
        names: list[str] = []
        parameters = list(inspect.signature(vjp).parameters.values())
        for p in parameters[2 if vjp is self.each else 1 :]:  # after g, or after g and i
            name = p.name
            if p.kind is p.VAR_KEYWORD:  # all parameters after the operands
                names += list(self.defaults)[len(self.vjps) :]
            elif name in _ASKS or re.fullmatch(r"x\d+", name):
                asks.append(_ASKS[name] if name in _ASKS else int(name[1:]))
            elif name in (operands := list(self.defaults)[: len(self.vjps)]):
                raise errors.operand_by_name(self.name, name, operands.index(name))
            elif hidden or name in self.defaults:
                names.append(name)
            else:
                raise errors.unknown_parameter(self.name, name, self.defaults)
        return tuple(asks), tuple(names)

    def arguments(self, args: tuple[Any, ...], kwargs: Static) -> tuple[tuple[Any, ...], Static]:
        """NumPy's calling convention to ours: array operands first, all else keywords.

        `np.concatenate([a, b], 1)` becomes operands (a, b) and {"axis": -1}.
        """
        names = list(self.defaults)
        if self.each:
            sequence = args[0] if args else kwargs.pop(names[0])
            operands, rest, names = tuple(sequence), args[1:], names[1:]
        elif self.joint or self.variadic:
            operands, rest = args, ()
        else:
            count = len(self.vjps)
            operands, rest = args[:count], args[count:]
            missing = names[len(operands) : count]
            last = max((k for k, name in enumerate(missing) if name in kwargs), default=-1)
            for name in missing if self.own else missing[: last + 1]:  # by keyword, or by default
                value = kwargs.pop(name, self.defaults[name])
                if value is inspect.Parameter.empty:
                    raise TypeError(f"{self.name}: missing argument {name!r}")
                operands += (value,)
            names = names[count:]
        if len(rest) > len(names):
            raise TypeError(f"{self.name}: {len(args)} positional arguments are too many")
        # The VJPs of NumPy's functions repeat NumPy's defaults; of your own they need not, and get
        # those of the function.
        static = {k: self.defaults[k] for k in self.accepts if self.own and k in self.defaults}
        given = dict(zip(names, rest, strict=False))
        for name, value in [*given.items(), *kwargs.items()]:
            if name not in self.defaults or (name in given and name in kwargs):
                what = "got several values for" if name in given else "does not know"
                raise TypeError(f"{self.name} {what} the argument {name!r}")
            if name in self.accepts or not self.differentiable:
                # NumPy's own take small arrays here (np.roll's shift), which become tuples. A
                # Tensor, or an array for your own function, would be hidden from the graph.
                array = hasattr(value, "shape") and not isinstance(value, (np.generic, type))
                if array and (self.own or not isinstance(value, np.ndarray)):
                    raise errors.array_as_keyword(self.name, name)
                static[name] = _hashable(value)
            elif value is not self.defaults.get(name):  # the default may be spelled out
                raise errors.unknown_keyword(self.name, name, value, self.accepts)
        return operands, self.bind(operands, static) if self.bind else static

    def kept(
        self, i: int, arrays: list[Any], outs: list[np.ndarray], several: bool
    ) -> tuple[Any, ...] | None:
        """What a node keeps for the VJP of argument i; None where that argument has no VJP."""
        if i >= len(self.asks) and not self.shared:
            raise errors.no_vjp(self.name, i)
        asks = self.asks[0 if self.shared else i]
        if not asks:
            return asks
        if len(asks) == 1 and 0 <= asks[0] < len(arrays):
            return (arrays[asks[0]],)
        if asks == (OUT,) and not several:
            return (outs[0],)
        if max(asks) >= len(arrays):
            raise errors.no_operand(self.name, max(asks), len(arrays))
        shapes = tuple([getattr(a, "shape", ()) for a in arrays])
        special = {OUT: tuple(outs) if several else outs[0], SHAPES: shapes}
        xs = tuple(arrays[len(self.vjps) :])  # with `each` there are no vjps, and these are all
        return tuple([arrays[ask] if ask >= 0 else special.get(ask, xs) for ask in asks])


RULES: dict[Any, Rule] = {}


def rule_of(function: Any) -> Rule:
    """The rule of a function, or MissingRuleError.

    rule_of(np.tanh).names      # what its VJPs name
    """
    if function not in RULES:
        raise errors.no_rule(function)
    return RULES[function]


def defvjp(
    function: Callable[..., Any],
    *vjps: VJP | None,
    each: VJP | None = None,
    joint: VJP | None = None,
    broadcasts: bool | None = None,
    bind: Bind | None = None,
    into: Callable[..., None] | None = None,
) -> None:
    """Say how a function is differentiated: one VJP for each array argument.

        tg.defvjp(np.tanh, lambda g, out: g * (1 - out * out))
        tg.defvjp(np.multiply, lambda g, x1: g * x1, lambda g, x0: g * x0)

    A VJP gets `g`, the gradient of the loss with respect to the result, and returns the gradient
    with respect to its argument, in that argument's shape. It is plain NumPy: it runs on ndarrays,
    and on Tensors where derivatives of derivatives are wanted. What its parameters name is kept
    for it, and nothing else is:

        out             the result (a tuple, as `g` is, where the function returns several)
        x0, x1, ...     the operands        shapes   the shapes of all operands
        xs              the operands beyond the VJPs given here, where a None counts as one (with
                        `each`: all of them)
        anything else   keywords of the call, by NumPy's names and with NumPy's defaults

    A keyword that no VJP names is refused when the function is called: the gradient could not
    depend on it. Name it even if you do not need it; `**_` names them all.

    vjps        one for each array argument; None where no gradient flows (a condition, an index)
    each        `each(g, i, ...)`: functions of a sequence of arrays (stack, concatenate)
    joint       `joint(g, ...) -> tuple`: all arguments at once, where they share work
    broadcasts  the operands broadcast together, and the walk shall sum the gradient over what was
                repeated. Default: True for ufuncs
    bind        `bind(operands, keywords) -> keywords`: rewrites the keywords, once, before the call
    into        `into(total, g, ...)`: adds the first argument's gradient into an array (indexing)

    What a VJP returns becomes the engine's, and read-only; so is g. A second call for the same
    function replaces the first. Raises RuleError for a parameter name that means nothing, without
    VJPs, and for a plain function, which `primitive` makes recordable.
    """
    recorded = not isinstance(function, FunctionType) or hasattr(function, "on_arrays")
    if not recorded and not function.__module__.startswith(__package__):
        raise errors.plain_function(function.__name__)
    if not (vjps or each or joint):
        raise errors.no_vjps(function.__name__)
    RULES[function] = Rule(function, vjps, each, joint, broadcasts, bind, into)


COMPOSED: dict[Any, Callable[..., Any]] = {}


def composed(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what a NumPy function is on Tensors, in other NumPy functions: it then needs no VJP.

    @composed(np.vstack)
    def vstack(tup):
        return np.concatenate([np.atleast_2d(a) for a in tup])
    """

    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        COMPOSED[function] = f
        return f

    return register


def vjp_of(function: Callable[..., Any]) -> Rule | Callable[..., Any]:
    """What is registered for a function: its Rule (with .vjps, .each, .joint), or its composition.

        rule = tg.vjp_of(np.multiply)
        rule.vjps[0](2.0, 3.0)        # 6.0: the first argument's VJP, of g and x1

    Raises MissingRuleError where there is neither.
    """
    return COMPOSED.get(function) or rule_of(function)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """A function's parameters by name, in order; None where NumPy hides them."""
    if isinstance(function, np.ufunc):
        return {}  # out=, where= and the like are not differentiated
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:  # functions written in C, before NumPy 2.4
        return None


def _hashable(value: Any) -> Any:
    """Keywords are part of a traced program's key: lists and small arrays become tuples."""
    if isinstance(value, (np.ndarray, np.integer, np.bool_)):
        value = value.tolist()
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
