"""check_cell: the laws of a recurrent cell, each by its name, on anybody's cell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cells import Cell
from ..differentiate import grad, no_grad
from ..errors import TraceError
from ..module import Parameter, find
from ..nests import leaves, map_tree, refilled
from ..recurrent import RNN
from ..tensor import Tensor
from .checks import grad_report
from .ops import SuiteReport, float32_faults, judged
from .oracle import quiet
from .parameters import plain
from .report import GradReport

Law = Callable[["_Trial"], None]
LAWS: dict[str, Law] = {}
SIZES = [(1, 1), (2, 1), (1, 2), (3, 2), (5, 3)]  # T, N: small ones first, so that they are shown


def check_cell(
    make_cell: Callable[[], Cell],
    inputs: Any = None,
    *,
    seed: int = 0,
    rtol: float = 1e-9,
    only: Any = None,
) -> SuiteReport:
    """Check everything that a recurrent cell must keep to; raise GradientError if it does not.

        testing.check_cell(lambda: tg.zoo.MGU(3, 4, rng=0)).ok      # True

    make_cell  takes no argument and gives a new cell each time
    inputs     the width C of x (T, N, C); a tuple of widths where x is a tuple of arrays (the first
               is drawn with both signs, the others in (0, 1): time gaps, draws). Default:
               cell.inputs, or 3
    only       a law's name or several, instead of all (`testing.cells.LAWS`)
    seed, rtol  as for check_grads

    What is checked: the contract of step and initial_state; that step is pure; gradients of x, the
    state and all parameters, those of a learnt start too, in both orders, also at the initial state
    and where x is 0; rows of a batch do not mix; padding (NaN too) is never seen; chunks and
    streams give what one run gives; time runs one way; derivatives at x = 0 are finite; no
    parameter and no part of the state is dead; scan=True gives the same; float32 stays float32,
    with the gradients of float64; weights load.
    Each broken law is told by name, with the smallest sizes that break it and what to do. Returns
    a SuiteReport; takes about a second. Raises GradientError where a law is broken, ValueError for
    the name of a law that there is not, TypeError for a make_cell that takes arguments.
    """
    report = SuiteReport(what="laws", title="check_cell")
    chosen = [only] if isinstance(only, str) else list(only or LAWS)
    if unknown := [name for name in chosen if name not in LAWS]:
        raise ValueError(f"there is no law {unknown[0]!r}; there are {', '.join(LAWS)}")
    try:
        inspect.signature(make_cell).bind()
    except TypeError:  # a cell, a class that takes sizes, no function at all
        raise TypeError(
            "make_cell takes no argument and returns a new cell: lambda: MyCell(3, 4, rng=0)"
        ) from None
    trial = _Trial(make_cell, inputs, seed, rtol)
    for name in chosen:
        try:
            quiet(LAWS[name])(trial)
        except AssertionError as error:  # a GradientError is one
            report.note(name, "FAIL", f"{error}\n  {_first_line(LAWS[name])}")
        except Exception as error:  # whatever a wrong cell raises
            what = f"{type(error).__name__}: {error}"
            report.note(name, "FAIL", f"{what}\n  {_first_line(LAWS[name])}")
        else:
            report.note(name, "PASS")
        if name == "contract" and not report.ok:
            break  # the other laws would only say the same again
    return judged(report)


def _first_line(law: Law) -> str:
    return f"the law: {(law.__doc__ or '').strip().splitlines()[0]}"


def _law(name: str) -> Callable[[Law], Law]:
    def register(law: Law) -> Law:
        LAWS[name] = law
        return law

    return register


@dataclass
class _Trial:
    """What every law needs: new cells, and inputs for them."""

    make: Callable[[], Cell]
    inputs: Any
    seed: int
    rtol: float

    def cell(self) -> Any:
        """A new cell in float64, each parameter a little off its first value (zeros hide much)."""
        cell = self.make()
        rng = np.random.default_rng(self.seed)
        for p in cell.astype(np.float64).parameters() if isinstance(cell, Cell) else ():
            p.data = p.data + 0.1 * rng.standard_normal(p.shape)
        return cell

    def drawn(self, steps: int, batch: tuple[int, ...]) -> Any:
        """x for so many steps: an array, or a tuple of them."""
        rng = np.random.default_rng([self.seed, steps, *batch])
        widths = self.inputs
        if widths is None:
            widths = getattr(self.make(), "inputs", 3)
        if not isinstance(widths, tuple):
            return rng.standard_normal((steps, *batch, widths))
        first, *others = widths
        rest = [rng.uniform(0.05, 0.95, (steps, *batch, width)) for width in others]
        return (rng.standard_normal((steps, *batch, first)), *rest)

    def state(self, cell: Any, batch: tuple[int, ...]) -> Any:
        """A state that the cell itself came to, in two steps: not 0, and clocks count right."""
        rng = np.random.default_rng([self.seed, 1, *batch])
        warm = map_tree(lambda a: a + 0.1 * rng.uniform(0, 0.4, a.shape), self.drawn(2, batch))
        out = RNN(cell)(warm, cell.initial_state(batch, np.float64))
        return _plain(out.state)

    def told(self, report: GradReport, law: str) -> str:
        """A report's text, with the check to repeat: its function was one of ours."""
        given = {"inputs": self.inputs, "seed": self.seed or None}
        options = "".join(f", {k}={v!r}" for k, v in given.items() if v is not None)
        report.script = lambda: f"testing.check_cell(make_cell{options}, only={law!r})"
        return report.text()

    def runs(self, sizes: Any = SIZES) -> Iterator[tuple[Any, Any, Any, str]]:
        """A cell, x, a state, and what to call the case."""
        for steps, rows in sizes:
            cell, batch = self.cell(), (rows,)
            yield cell, self.drawn(steps, batch), self.state(cell, batch), f"T={steps}, N={rows}"


def _plain(tree: Any) -> Any:
    """The same nest, of arrays: copies."""
    return map_tree(lambda a: np.array(a.data if isinstance(a, Tensor) else a), tree)


def _values(tree: Any) -> list[np.ndarray]:
    return [np.asarray(a.data if isinstance(a, Tensor) else a) for a in leaves(tree)]


def _same(a: Any, b: Any, what: str, tolerance: float = 1e-11) -> None:
    """Two nests of arrays agree; NaN agrees with nothing."""
    for x, y in zip(_values(a), _values(b), strict=True):
        if x.shape != y.shape:
            raise AssertionError(f"{what}: shape {x.shape}, expected {y.shape}")
        wrong = ~(np.abs(x - y) <= tolerance * np.maximum(1, np.abs(y)))
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            if not np.isfinite(y[at]):
                what += " (what is expected is not finite itself: see only='finite at zero')"
            raise AssertionError(f"{what}: {x[at]:.6g} at {list(at)}, expected {y[at]:.6g}")


def _leaf(tree: Any) -> Any:
    def leaf(a: Any) -> Any:
        return a if _learnt(a) else Tensor(a, requires_grad=a.dtype.kind == "f")

    return map_tree(leaf, tree)


def _floats(tree: Any) -> list[Any]:
    """What has gradients in a nest that `_leaf` made."""
    return list(filter(_learnt, leaves(tree)))


def _learnt(a: Any) -> bool:
    """Whether gradients go through it to a Parameter already: a part of a learnt start."""
    return isinstance(a, Tensor) and a.requires_grad


def _cut(tree: Any, *index: Any) -> Any:
    return map_tree(lambda a: a[index], tree)


def _three(out: Any) -> Any:
    return (out.outputs, out.last, out.state)


def _gradients(out: Any, inputs: Any) -> list[np.ndarray]:
    """Those of a sum of everything in out, with fixed weights that are all different."""
    parts = [p for p in leaves(out) if isinstance(p, Tensor) and p.requires_grad]
    total: Any = sum((p * np.cos(np.arange(p.size)).reshape(p.shape)).sum() for p in parts)
    if not isinstance(total, Tensor):
        return [np.zeros(x.shape) for x in inputs]
    found = grad(total, inputs, allow_unused=True)
    return [np.zeros(x.shape) if g is None else g.data for g, x in zip(found, inputs, strict=True)]


def _start(cell: Any, rows: int, dtype: Any) -> Any:
    """The cell's own initial state, which must be of that many rows and of that dtype."""
    state, call = cell.initial_state((rows,), dtype), f"initial_state(({rows},), {dtype.__name__})"
    for s in leaves(state):
        if s.shape[:1] != (rows,):
            raise AssertionError(f"{call} has shape {s.shape}: it must start with the batch shape")
        if s.dtype.kind == "f" and s.dtype != dtype:  # integers count steps, say
            raise AssertionError(f"{call} is {s.dtype}: make it of the dtype that is asked for")
    return state


# ----- the laws ----------------------------------------------------------------------------------


@_law("contract")
def _contract(trial: _Trial) -> None:
    """step gives (output, state), or the state, always (N, ...); what it learns is a Parameter."""
    cell = trial.make()
    if not isinstance(cell, Cell):
        raise AssertionError(f"make_cell() must give a tg.Cell, got {cell!r}")
    if cell is trial.make():
        raise AssertionError("make_cell() must give a new cell each time: use a lambda")
    for name, t in find(cell, Tensor):
        if _learnt(t) and not isinstance(t, Parameter):
            raise AssertionError(
                f"self.{name} needs a gradient and is no Parameter: no optimiser and no file would "
                "find it. Write tg.Parameter(...) for tg.Tensor(..., requires_grad=True)"
            )
    for rows in (1, 2, 3):
        _start(trial.cell(), rows, np.float64)
    for cell, x, state, case in trial.runs():
        out = RNN(cell)(x, state)
        if not isinstance(out.outputs, (Tensor, np.ndarray)):
            raise AssertionError(f"{case}: step's output must be one array")
        for t in _values((out.outputs, out.state)):
            if not np.isfinite(t).all():
                raise AssertionError(f"{case}: a value is not finite for ordinary numbers")


@_law("purity")
def _purity(trial: _Trial) -> None:
    """step changes nothing: no attribute, no argument; the same again gives the same again."""
    for cell, x, state, case in trial.runs([(1, 1), (1, 2)]):
        before = [(vars(m), dict(vars(m))) for _, m in find(cell, Cell)]
        arrays = [(name, p, p.numpy()) for name, p in cell.named_parameters().items()]
        first = _values(cell(_cut(x, 0), state))
        for attributes, old in before:
            changed = [k for k in attributes if k not in old or attributes[k] is not old[k]]
            if changed:
                raise AssertionError(
                    f"{case}: step changed self.{changed[0]}. All memory belongs into the state"
                )
        for name, p, old in arrays:
            if not np.array_equal(p.data, old):
                raise AssertionError(f"{case}: step changed the parameter {name}")
        for _ in range(5):
            if not all(map(np.array_equal, first, _values(cell(_cut(x, 0), state)))):
                raise AssertionError(
                    f"{case}: two calls differ. Nothing random in step: draw in initial_state"
                )
        with plain(cell):
            kept = map_tree(np.array, (_cut(x, 0), state))
            given = map_tree(np.array, (_cut(x, 0), state))
            cell(*given)
            _same(given, kept, f"{case}: step writes into its arguments; work on copies", 0.0)


def _differentiable(cell: Any, x: Any) -> Callable[[Any, Any], Any]:
    """A run from a state; where the cell learns its start, or parts of it, one from there, too."""
    batch = leaves(x)[0].shape[1:-1]
    learnt = [_learnt(s) for s in leaves(cell.initial_state(batch, np.float64))]

    def run(x: Any, state: Any) -> Any:
        rnn = RNN(cell)
        out = rnn(x, state)
        if not any(learnt):
            return out.outputs, out.state
        start = leaves(rnn.initial_state(batch, rnn._dtype(x)))
        parts = [s if own else t for s, t, own in zip(start, leaves(state), learnt, strict=True)]
        begun = rnn(x, refilled(state, parts))
        return out.outputs, out.state, begun.outputs, begun.state

    return run


def _points(trial: _Trial) -> Iterator[tuple[Any, Any, Any, str]]:
    """Ordinary numbers, in batches and without a batch axis."""
    yield from trial.runs([(1, 1)])
    cell = trial.cell()
    yield cell, trial.drawn(2, ()), trial.state(cell, ()), "T=2, no batch axis"
    yield from trial.runs([(4, 3)])


def _starts(trial: _Trial) -> Iterator[tuple[Any, Any, Any, str]]:
    """Where every run starts, often at 0: of a cell off its first values, and of a new one."""
    for steps, cell in ((2, trial.cell()), (1, trial.make().astype(np.float64))):
        x = map_tree(lambda a: a * [[0.0], [1.0]], trial.drawn(steps, (2,)))
        state = _plain(cell.initial_state((2,), np.float64))
        yield cell, x, state, f"T={steps}, N=2, from the initial state, row 0 of x is 0"


@_law("gradients")
def _gradients_law(trial: _Trial) -> None:
    """The gradients of x, the state and every parameter are what numeric derivatives find."""
    for points in (_points, _starts):
        for cell, x, state, case in points(trial):
            run, wrt = _differentiable(cell, x), [0, 1, *cell.parameters()]
            ways: Any = "auto" if case == "T=1, N=1" else 1
            report = grad_report(
                run, x, state, wrt=wrt, rtol=trial.rtol, seed=trial.seed, directions=ways
            )
            # At a start numbers may be so near to a pole that no numeric derivative is good there.
            if report.verdict == "FAIL" or (points is _points and not report.ok):
                raise AssertionError(f"{case}: {trial.told(report, 'gradients')}")


@_law("second order")
def _second_order(trial: _Trial) -> None:
    """The gradients' own gradients are right, too: only functions that have rules, no `.data`."""
    cell, x, state, case = next(trial.runs([(2, 1)]))
    run, wrt = _differentiable(cell, x), [0, 1, *cell.parameters()]
    report = grad_report(run, x, state, wrt=wrt, order=2, directions=1, seed=trial.seed)
    if not report.ok:
        raise AssertionError(f"{case}: {trial.told(report, 'second order')}")


@_law("rows")
def _rows(trial: _Trial) -> None:
    """Rows of a batch do not mix, and a sequence alone is a row: no broadcast, no mean over N."""
    for cell, x, state, case in trial.runs([(1, 2), (3, 3)]):
        out = RNN(cell)(x, state)
        for n in range(leaves(state)[0].shape[0]):
            one = _three(RNN(cell)(_cut(x, slice(None), [n]), _cut(state, [n])))
            row = (out.outputs[:, [n]], out.last[[n]], _cut(out.state, [n]))
            _same(row, one, f"{case}: row {n} of a batch and the same row alone")
            bare = _three(RNN(cell)(_cut(x, slice(None), n), _cut(state, n)))
            row = (out.outputs[:, n], out.last[n], _cut(out.state, n))
            _same(bare, row, f"{case}: row {n} without a batch axis")


@_law("padding")
def _padding(trial: _Trial) -> None:
    """Padding is never seen, whatever stands in it: values, gradients, lengths of 0."""
    for cell, x, state, case in trial.runs([(1, 1), (3, 2), (4, 3)]):
        steps, rows = leaves(x)[0].shape[:2]
        lengths = np.arange(rows)[::-1] % (steps + 1)
        valid = np.arange(steps)[:, None] < lengths
        padded = map_tree(lambda a, v=valid: np.where(v[..., None], a, np.nan), x)
        given, start = _leaf(padded), _leaf(state)
        out = RNN(cell)(given, start, lengths=lengths)
        _same(out.outputs.data[~valid], 0 * out.outputs.data[~valid], f"{case}: output in padding")
        found = _gradients(_three(out), [*leaves(given), *cell.parameters()])
        for g, a in zip(found, leaves(x), strict=False):
            _same(g[~valid], np.zeros(a[~valid].shape), f"{case}: the gradient of x in padding")
        blank = _leaf(map_tree(lambda a, v=valid: np.where(v[..., None], a, 0.0), x))
        again = RNN(cell)(blank, start, lengths=lengths)
        other = _gradients(_three(again), [*leaves(blank), *cell.parameters()])
        _same(tuple(found), tuple(other), f"{case}: gradients with NaN in padding, and with 0")
        for n, length in enumerate(lengths):
            one = RNN(cell)(_leaf(_cut(x, slice(0, length), [n])), _leaf(_cut(state, [n])))
            row = (out.outputs[:length, [n]], out.last[[n]], _cut(out.state, [n]))
            _same(row, _three(one), f"{case}, lengths {lengths.tolist()}: row {n} and it alone")


@_law("no steps")
def _no_steps(trial: _Trial) -> None:
    """T = 0 gives empty outputs and the state as it was given."""
    cell = trial.cell()
    x, state = trial.drawn(0, (2,)), trial.state(cell, (2,))
    out, one = RNN(cell)(x, state), RNN(cell)(trial.drawn(1, (2,)), state)
    if out.outputs.shape != (0, *one.outputs.shape[1:]):
        raise AssertionError(f"outputs of no steps have shape {out.outputs.shape}")
    _same(out.state, state, "the state after no steps", 0.0)


@_law("splitting")
def _splitting(trial: _Trial) -> None:
    """A run in chunks, or as a stream, is the run in one: all memory is in the state."""
    for cell, x, state, case in trial.runs([(2, 1), (5, 2)]):
        steps, rows = leaves(x)[0].shape[:2]
        whole = RNN(cell)(x, state)
        first = RNN(cell)(_cut(x, slice(0, 1)), state)
        second = RNN(cell)(_cut(x, slice(1, None)), first.state)
        parts = np.concatenate([first.outputs.data, second.outputs.data])
        _same((parts, second.state), (whole.outputs, whole.state), f"{case}: two chunks")
        stream = RNN(cell).stream((rows,), state)
        pushed = np.stack([_values(stream.push(_cut(x, t)))[0] for t in range(steps)])
        _same((pushed, stream.state), (whole.outputs, whole.state), f"{case}: as a stream")


@_law("time runs one way")
def _causality(trial: _Trial) -> None:
    """An output depends on no later input; reversed is the same loop from the end."""
    for cell, x, state, case in trial.runs([(2, 1), (4, 2)]):
        out = RNN(cell)(x, state)
        changed = map_tree(lambda a: np.concatenate([a[:-1], a[-1:] * 0.5]), x)
        other = RNN(cell)(changed, state)
        _same(other.outputs[:-1], out.outputs[:-1], f"{case}: outputs before a change of x", 0.0)
        back = RNN(cell, reverse=True)(_cut(x, slice(None, None, -1)), state)
        _same((back.outputs[::-1], back.state), (out.outputs, out.state), f"{case}: reversed")


@_law("finite at zero")
def _at_zero(trial: _Trial) -> None:
    """Derivatives are finite at x = 0 and at the initial state: padding puts every cell there."""
    cell = trial.make().astype(np.float64)
    x = _leaf(map_tree(np.zeros_like, trial.drawn(2, (2,))))
    state = _leaf(cell.initial_state((2,), np.float64))
    out = RNN(cell)(x, state)
    xs, states = leaves(x), _floats(state)
    inputs = [*xs, *states, *cell.parameters()]
    names = [*["x"] * len(xs), *["the state"] * len(states), *cell.named_parameters()]
    for name, g in zip(names, _gradients(_three(out), inputs), strict=True):
        if not np.isfinite(g).all():
            raise AssertionError(
                f"the gradient of {name} is not finite at x = 0: a root, a norm or a division "
                "needs an eps"
            )


@_law("nothing dead")
def _dead(trial: _Trial) -> None:
    """Every parameter gets a gradient, and every part of the state makes a difference."""
    cell = trial.cell()
    x, state = trial.drawn(4, (3,)), trial.state(cell, (3,))
    out = (_three(RNN(cell)(x, state)), _three(RNN(cell)(x)))  # its own start may be learnt
    names = cell.named_parameters()
    for name, g in zip(names, _gradients(out, list(names.values())), strict=True):
        if not g.any():
            raise AssertionError(
                f"the parameter {name} never gets a gradient: is it used in step, or initial_state?"
            )
    with no_grad():
        before = _three(RNN(cell)(x, state))
        for k in range(len(leaves(state))):
            parts = [s + float(n == k) for n, s in enumerate(leaves(state))]
            after = _three(RNN(cell)(x, refilled(state, parts)))
            *others, moved = _apart(_values(after), k, len(parts))
            *same, unmoved = _apart(_values(before), k, len(parts))
            forgotten = np.array_equal(moved, unmoved) or np.array_equal(moved, unmoved + 1)
            if forgotten and all(map(np.array_equal, others, same)):
                raise AssertionError(f"part {k} of the state makes no difference: leave it out")


def _apart(arrays: list[Any], k: int, count: int) -> list[Any]:
    """The k-th of the last `count` arrays put at the end."""
    at = len(arrays) - count + k
    return [*arrays[:at], *arrays[at + 1 :], arrays[at]]


@_law("scan")
def _scan(trial: _Trial) -> None:
    """scan=True gives the plain loop's numbers and gradients (unless a step reads values)."""
    for cell, x, state, case in trial.runs([(1, 1), (3, 2)]):
        found = []
        for scan in (False, True):
            xs, hs = _leaf(x), _leaf(state)
            try:
                three = _three(RNN(cell, scan=scan)(xs, hs))
            except TraceError as error:
                if "reads the value" in str(error):
                    return
                raise
            inputs = [*leaves(xs), *_floats(hs), *cell.parameters()]
            found.append((three, tuple(_gradients(three, inputs))))
        _same(found[1], found[0], f"scan=True, {case}")


@_law("float32")
def _float32(trial: _Trial) -> None:
    """float32 in, float32 out, with the gradients of float64: no constant of step is float64."""
    cell = trial.make().astype(np.float32)
    x = map_tree(_single, trial.drawn(2, (2,)))
    state = _start(cell, 2, np.float32)
    output, new = cell(_cut(x, 0), state)
    for what, a in [("output", output), *[("new state", s) for s in leaves(new)]]:
        if a.dtype.kind == "f" and a.dtype != np.float32:
            raise AssertionError(
                f"step's {what} is {a.dtype} for float32: np.ones(3), np.sqrt(n) and np.float64 "
                "numbers are float64; use Python numbers, or x.dtype"
            )
    cell = trial.cell()
    given = map_tree(_single, (trial.drawn(2, (2,)), trial.state(cell, (2,))))
    cell.astype(np.float32)
    run, wrt = _differentiable(cell, given[0]), [0, 1, *cell.parameters()]
    for fault in float32_faults(run, given, wrt, trial.seed):
        raise AssertionError(fault)


def _single(a: np.ndarray) -> np.ndarray:
    """Floats in float32; integers, which count steps, stay."""
    return a.astype(np.float32) if a.dtype.kind == "f" else a


@_law("weights load")
def _weights_load(trial: _Trial) -> None:
    """state_dict and load_state_dict carry everything over: no random array beside Parameters."""
    cell, other = trial.cell(), trial.make().astype(np.float64)
    other.load_state_dict(cell.state_dict())
    x, state = trial.drawn(2, (2,)), trial.state(cell, (2,))
    _same(
        _three(RNN(other)(x, state)),
        _three(RNN(cell)(x, state)),
        "another cell with the same weights. Arrays that are drawn must be Parameters",
    )
