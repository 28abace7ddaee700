"""`rnn.source()` is what scan=True runs, as NumPy for people; `rnn.plan()` says what runs where.

The printed module is executed in a namespace that can import nothing but NumPy. Its arguments are
found by the signature of its `forward`: x, masks, initial states, Parameters and constants, starts.
"""

import ast
import builtins
import inspect
import itertools
import linecache
import math
import os
import pickle
import re
import subprocess
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import pytest
import scan_programs
from scan_programs import differences
from test_scan import CELLS, drawn, inputs_of

import tinygrad_rnn as tg
from tinygrad_rnn import __main__, errors
from tinygrad_rnn.nests import leaves, map_tree
from tinygrad_rnn.record import recording

T, N, C, H = 5, 3, 2, 3
both = pytest.mark.parametrize("dtype", [np.float64, np.float32])


# ----- to run a printed module -------------------------------------------------------------------


def plain(a):
    return a.data if isinstance(a, tg.Tensor) else np.asarray(a)


def leaf(a, needs=True):
    return tg.Tensor(a, requires_grad=needs and np.asarray(a).dtype.kind == "f")


def only_numpy(name, *args):
    assert name == "numpy", f"the printed source imports {name}"
    return __import__(name, *args)


def executed(text):
    """The names of a printed module, run where only NumPy can be imported."""
    names = {"__builtins__": {**vars(builtins), "__import__": only_numpy}, "__name__": "printed"}
    exec(compile(text, "<printed>", "exec"), names)
    return names


class Given(NamedTuple):
    """One argument of the printed forward: its array, and the Tensor that it comes from."""

    array: np.ndarray
    tensor: tg.Tensor | None = None


def operands(rnn, x, state):
    """What one step reads besides x and the state, in order: (the Parameter's name or "", it)."""
    titles = {id(p): re.sub(r"\W", "_", n) for n, p in rnn.cell.named_parameters().items()}
    first = -1 if rnn.reverse else 0
    xs, old = map_tree(lambda a: tg.Tensor(plain(a)[first]), x), map_tree(leaf, state)
    seen = {id(a): a for a in (*leaves(xs), *leaves(old))}
    found = []

    def watch(function, operands, static, outs):
        for a in operands:
            if type(a) not in (int, float, bool) and id(a) not in seen:
                seen[id(a)] = a
                tensor = a if isinstance(a, tg.Tensor) else None
                found.append((titles.get(id(a), ""), Given(plain(a), tensor)))
        seen.update({id(out): out for out in outs})

    with recording(watch=watch), np.errstate(all="ignore"):
        output, _ = rnn.cell(xs, old)
    return [*found, ("", Given(np.zeros((), output.dtype)))]  # the last: what padding puts out


def assignments(names, read):
    """All ways to give each name one of what is read, in order; mostly there is only one."""
    if not names:
        yield []
        return
    for k, (title, given) in enumerate(read):
        wanted = f"{re.escape(title)}_?\\d*" if title else r"(constant|w)\d*"
        anothers = title != names[0] and names[0] in {t for t, _ in read}
        if re.fullmatch(wanted, names[0]) and not anothers:
            for rest in assignments(names[1:], read[k + 1 :]):
                yield [given, *rest]


def arguments(rnn, forward, x, state, valid, reset):
    """Each way to call the printed forward, by its parameters' names."""
    names = list(inspect.signature(forward).parameters)
    tensors = list(leaves(x))
    inputs = [plain(a) for a in tensors]
    if valid is not None:  # what a layer does with what is padding
        inputs = [np.where(valid[..., None], a, np.zeros((), a.dtype)) for a in inputs]
    head = [Given(a, t) for a, t in zip(inputs, tensors, strict=True)]
    head += [Given(a) for a in (valid, reset) if a is not None]
    head += [Given(plain(a), a) for a in leaves(state)]
    rest = names[len(head) :]
    starts = [name for name in rest if reset is not None and re.fullmatch(r"start\d*", name)]
    fixed = rest[: len(rest) - len(starts)]
    first = leaves(rnn.initial_state(inputs[0].shape[1:-1], rnn._dtype(x))) if starts else []
    tail = [Given(plain(first[int(name[5:] or 0)])) for name in starts]
    read = operands(rnn, x, map_tree(plain, state))
    for found in itertools.islice(assignments(fixed, read), 50):
        yield dict(zip(names, [*head, *found, *tail], strict=True))


def results(out):
    """The arrays of a layer's call that a printed forward returns, too: outputs, states, state."""
    every = leaves(out.states) if out.states is not None else []
    return [out.outputs, *every], leaves(out.state)


def mismatches(rnn, x, state=None, x_needs=True, state_needs=True, tolerance=None, **options):
    """Where the printed source, run alone, and the plain loop differ: a line for each."""
    rng = np.random.default_rng(0)
    steps, *batch = leaves(x)[0].shape[:-1]
    state = rnn.initial_state(tuple(batch), rnn._dtype(x)) if state is None else state
    x = map_tree(lambda a: leaf(a, x_needs), x)
    state = map_tree(lambda a: leaf(plain(a), state_needs), state)
    text = source(rnn, x, state, **options)
    rnn.zero_grad()
    rnn.scan = False
    shown, last = results(rnn(x, state, **options))
    rnn.scan = True
    cotangent = lambda a: rng.normal(size=a.shape).astype(a.dtype)
    d_outputs = [cotangent(a) for a in shown]
    d_state = [cotangent(a) if a.dtype.kind == "f" else None for a in last]
    pairs = zip([*shown, *last], [*d_outputs, *d_state], strict=True)
    total = sum((a * d).sum() for a, d in pairs if a.dtype.kind == "f")
    if total.requires_grad:
        total.backward()

    valid, reset = np.ones((steps, *batch), bool), options.get("reset")
    if options.get("lengths") is not None:
        valid &= (np.arange(steps) < np.asarray(options["lengths"])[..., None]).T
    if options.get("mask") is not None:
        valid &= options["mask"]
    module, lines = executed(text), ["no way to call forward was found"]
    for given in arguments(rnn, module["forward"], x, state, None if valid.all() else valid, reset):
        arrays = [one.array.copy() for one in given.values()]
        with np.errstate(over="ignore"):
            outputs, final, kept = module["forward"](*arrays)
            found = {f"output {k}": np.array(a) for k, a in enumerate([*outputs, *final])}
            gone = {}
            if total.requires_grad:
                d = tuple(d for d in d_state if d is not None)
                gone = module["backward"](tuple(d_outputs), d, kept)
        expected = {f"output {k}": plain(a) for k, a in enumerate([*shown, *last])}
        unknown = [f"a gradient of {n}" for n in gone if n not in given]
        for name, one in given.items():
            if one.tensor is not None and one.tensor.requires_grad:
                zero = np.zeros(one.array.shape, one.array.dtype)  # None is the same answer
                found[f"d {name}"] = np.asarray(gone.get(name, zero))
                expected[f"d {name}"] = zero if one.tensor.grad is None else one.tensor.grad
        wrong = unknown + differences(found, expected, tolerance)
        if not wrong:
            return []
        lines = wrong if lines[0].startswith("no way") else lines
    return lines


def source(rnn, x, state=None, **options):
    """The text that a layer prints after a call."""
    rnn.scan = True
    rnn(map_tree(lambda a: a if isinstance(a, tg.Tensor) else leaf(a), x), state, **options)
    return rnn.source()


def assert_runs_alone(rnn, x, state=None, **options):
    lines = mismatches(rnn, x, state, **options)
    assert not lines, "\n".join(lines)


def batch(seed=0, steps=T, rows=N, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(steps, rows, C)).astype(dtype)


def start_of(cell, rows=(N,), dtype=np.float64):
    """A state away from zero."""
    rng = np.random.default_rng(7)
    near = lambda a: (a + rng.uniform(0.1, 0.6, a.shape)).astype(a.dtype)
    state = cell.initial_state(rows, dtype)
    return map_tree(lambda a: near(a) if a.dtype.kind == "f" else a, state)


def written(body, **attributes):
    """A cell whose step is this text, with these Parameters and arrays."""
    rng = np.random.default_rng(0)
    lines = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    text = f"class Mine(tg.Cell):\n    def step(self, x, h):\n{lines}\n"
    file = f"<{body}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = {**globals(), "bend": scan_programs.bend, "halves": scan_programs.halves}
    exec(compile(text, file, "exec"), names)
    cell = names["Mine"]()
    cell.inputs, cell.state_shape = C, (H,)
    for name, value in {"U": (C, H), "V": (H, H), **attributes}.items():
        value = tg.Parameter(rng.normal(size=value)) if isinstance(value, tuple) else value
        setattr(cell, name, value)
    return cell


# ----- it runs alone, and gives what the layer gives ---------------------------------------------


@both
@pytest.mark.parametrize("name", CELLS)
def test_the_printed_source_of_every_cell_gives_what_the_layer_gives(name, dtype):
    rng = np.random.default_rng(3)
    cell = drawn(CELLS[name], 4, dtype)
    x, state = inputs_of(cell, T, (N,), rng, dtype), start_of(cell, dtype=dtype)
    for reverse, options in (
        (False, {}),
        (True, {"lengths": [T, 2, 0], "return_states": True}),
    ):
        tolerance = 3e-5 if dtype == np.float32 else None
        assert_runs_alone(tg.RNN(cell, reverse=reverse), x, state, tolerance=tolerance, **options)


OPTIONS = {
    "nothing": {},
    "lengths": {"lengths": [T, 2, 0]},
    "a mask": {"mask": batch(1)[..., 0] > -0.3},
    "resets": {"reset": batch(2)[..., 0] > 0.3},
    "all states": {"return_states": True},
    "all of it": {
        "lengths": [4, T, 2],
        "mask": batch(1)[..., 0] > -0.8,
        "reset": batch(2)[..., 0] > 0.3,
        "return_states": True,
    },
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "SLSTM", "Clockwork", "Stacked"])
def test_so_it_does_with_every_option(name, options, reverse):
    cell = drawn(CELLS[name], 2)
    assert_runs_alone(tg.RNN(cell, reverse=reverse), batch(), start_of(cell), **options)


def test_without_a_batch_and_in_one_row_and_in_wide_rows():
    cell = drawn(CELLS["GRUCell"], 2)
    assert_runs_alone(tg.RNN(cell), batch()[:, 0], start_of(cell, ()))
    assert_runs_alone(tg.RNN(cell), batch(rows=1), start_of(cell, (1,)), lengths=[3])
    wide = tg.GRUCell(C, 40, rng=0)
    assert_runs_alone(tg.RNN(wide), batch(rows=60), start_of(wide, (60,)))


def test_a_trained_start_gets_its_gradient_from_the_resets():
    rnn = tg.RNN(drawn(CELLS["GRUCell"], 2), train_state=True)
    reset, x = batch(2)[..., 0] > 0.3, batch()
    state = start_of(rnn.cell)
    given = {"x": x, "reset": reset, "h_0": state, "start": plain(rnn.initial_state((N,)))}
    given |= {name: p.data for name, p in rnn.cell.named_parameters().items()}
    module = executed(source(rnn, x, state, reset=reset))
    names = inspect.signature(module["forward"]).parameters
    (outputs,), _, kept = module["forward"](*[given[name] for name in names])
    found = module["backward"]((np.ones_like(outputs),), (np.zeros((N, H)),), kept)
    rnn.scan = False
    rnn(tg.Tensor(x), state, reset=reset).outputs.sum().backward()
    np.testing.assert_allclose(found["start"].sum(axis=0), rnn.start.grad, atol=1e-12)


@pytest.mark.parametrize("other", [0, 1, 2, 17])
def test_it_takes_any_number_of_steps(other):
    rnn = tg.RNN(drawn(CELLS["RNNCell tanh"], 2))
    module = executed(source(rnn, batch()))
    x, (U, V, b) = batch(1, other), (rnn.cell.U.data, rnn.cell.V.data, rnn.cell.b.data)
    (outputs,), (last,), kept = module["forward"](x, np.zeros((N, H)), U, V, b)
    leaf_x = leaf(x)
    rnn.scan = False
    out = rnn(leaf_x)
    out.outputs.sum().backward()
    gone = module["backward"]((np.ones_like(outputs),), (np.zeros((N, H)),), kept)
    np.testing.assert_allclose(outputs, out.outputs.data, atol=1e-13)
    np.testing.assert_allclose(last, out.state.data, atol=1e-13)
    np.testing.assert_allclose(gone["x"], leaf_x.grad, atol=1e-13)
    grad = rnn.cell.V.grad
    np.testing.assert_allclose(gone["V"], np.zeros((H, H)) if grad is None else grad, atol=1e-12)


def test_a_user_s_own_primitives_are_printed_with_it():
    cell = written(
        """
        a, b = halves(x @ self.U + h @ self.V, power=3)
        return bend(a) + 0.3 * np.tanh(b)
        """
    )
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell), lengths=[T, 1, 2])
    text = source(tg.RNN(cell), batch())
    assert "def bend(x):" in text
    assert "def halves(x, power=2):" in text


@pytest.mark.parametrize(
    "body",
    [
        "return np.tanh(x @ self.U + h * self.k)",
        "return np.tanh(x @ self.U + h * np.full(3, 0.5))",
        "return np.tanh(x @ self.U + h) * np.float32(0.5)",
        "return np.where(h < 9, np.tanh(x @ self.U + h), np.nan)",
        "return np.minimum(np.tanh(x @ self.U + h), np.inf)",
        "return np.einsum('...i,ij->...j', np.tanh(x @ self.U + h), self.V)",
        "return np.cumsum(np.sort(np.tanh(x @ self.U + h), axis=-1), axis=-1) * 0.3",
        "return tg.layer_norm(x @ self.U + h @ self.V)",
        "return x @ self.U + h @ (self.V - self.V.T)",
        "return np.ones_like(h)",
        "return np.tanh(x @ self.U)",
        "return np.tanh(x @ self.U + np.concatenate([h], axis=-1) @ self.V)",
        # not h * (b - c): that would be rounded to float32
        "b, c = np.tanh(z := (x @ self.U).astype(np.float32)), z * z\nreturn h * b - h * c",
        # c needs b: the two relu cannot be one call
        "a = np.tanh(h + x @ self.U)\nb = tg.relu(a)\nc = np.tanh(b)\nd = tg.relu(c)\n"
        "return np.tanh(a @ self.V + c @ self.W + 0.1 * d)",
    ],
)
def test_it_runs_whatever_a_step_calls(body):
    cell = written(body, k=np.array([0.5, -1.0, 2.0]), W=(H, H))
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell), lengths=[T, 1, 2])


def test_weights_that_are_joined_twice_are_joined_once():
    cell = written(
        """
        a = np.tanh(h @ self.V) * tg.sigmoid(h @ self.W) + x @ self.U
        return np.tanh(a @ self.V) * tg.sigmoid(a @ self.W)
        """,
        W=(H, H),
    )
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell))
    forward = source(tg.RNN(cell), batch()).split("def backward")[0]
    assert forward.count("np.stack((W, V))") == 1
    assert forward.count(", W_joined, out=") == 2


class Stateless(tg.Cell):
    state_shape: dict = {}

    def step(self, x, state):
        return np.tanh(x), state


def test_without_a_state_there_is_no_loop():
    rnn = tg.RNN(Stateless())
    assert_runs_alone(rnn, batch(), lengths=[T, 1, 2])
    assert "for t in" not in rnn.source()
    assert {row[1] for row in table(rnn)} == {"before"}


@pytest.mark.parametrize(
    "text", ["[..., self.i]", ".take(self.i, axis=-1)", ".repeat(2, axis=-1)[..., :3]"]
)
def test_it_runs_where_an_array_is_an_index(text):
    call = {"t": "np.take({}, self.i, axis=-1)", "r": "np.repeat({}, 2, axis=-1)[..., :3]"}
    a = "np.tanh(x @ self.U + h)"
    body = call[text[1]].format(a) if text[1] in call else a + text
    cell = written(f"return {body}", i=np.array([0, 0, 2]))
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell))


def test_it_runs_where_a_stack_of_rows_meets_a_vector():
    cell = written("return np.tanh(x @ self.U + np.tanh(h[..., None] * self.p) @ self.p)", p=(H,))
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell))


SLOPE = 3.0


@tg.primitive
def sloped(x):
    return x * SLOPE


def _make(slope):
    @tg.primitive
    def closed(x):
        return x * slope

    tg.defvjp(closed, lambda g: g * slope)
    return closed


twofold, threefold = _make(2.0), _make(3.0)
doubled = tg.primitive(lambda x: x * 2)
tg.defvjp(sloped, lambda g: g * SLOPE)
tg.defvjp(doubled, lambda g: g * 2)


@tg.primitive
def short(x): return x * 2  # fmt: skip


tg.defvjp(short, lambda g: g * 2)
ROW, above = np.array([1.0, -2.0, np.inf]), np.maximum


@tg.primitive
def capped(x, by=(), f=None, to=None):
    return f(above(x, by[0]), np.minimum(ROW, by[1])).astype(to)


tg.defvjp(
    capped,
    lambda g, x0, by, f, to: f(np.where(x0 > by[0], g, 0), np.minimum(ROW, by[1])),
)


@pytest.mark.parametrize(
    "call",
    [
        "sloped({})",
        "threefold(twofold({}))",
        "doubled({})",
        "short({})",
        "capped({}, by=(0.25, 3.0), f=np.multiply, to=np.float64)",
    ],
)
def test_it_runs_however_a_primitive_is_written(call):
    cell = written(f"return np.tanh(x @ self.U + {call.format('h')} * 0.2)")
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell))


class Factor:
    by = 2.0


USED = {"math": math, "mathematics": math, "root": math.sqrt, "factor": Factor()}
PRINTED = {
    "math.sqrt(4) * x": "import math\n",
    "mathematics.sqrt(4) * x": "import math as mathematics\n",
    "root(4) * x": "root = None  # its value, a builtin_function_or_method, goes here\n",
    "factor.by * x": "factor = None  # its value, a Factor, goes here\n",
}


@pytest.mark.parametrize("known", [True, False], ids=["in a file", "in none"])
@pytest.mark.parametrize("body", PRINTED)
def test_what_a_primitive_uses_is_imported_or_has_a_place(body, known, rule_of, monkeypatch):
    text, names = f"def made(x):\n    return {body}\n", dict(USED)
    lines = text.splitlines(keepends=True)
    if known:
        monkeypatch.setitem(linecache.cache, "<made>", (len(text), None, lines, "<made>"))
    exec(compile(text, "<made>", "exec"), names)
    monkeypatch.setitem(globals(), "made", tg.primitive(names["made"]))
    rule_of(globals()["made"], lambda g: g * 2)
    printed = source(tg.RNN(written("return np.tanh(x @ self.U + made(h))")), batch())
    exec(printed, module := {})
    if known:
        assert PRINTED[body] in printed
        module |= {name: USED[name] for name in ("root", "factor")}
        assert module["made"](3.0) == 6.0
    else:
        with pytest.raises(NotImplementedError, match="its source goes here"):
            module["made"](3.0)


def test_of_two_lambdas_in_one_statement_neither_is_printed(rule_of, monkeypatch):
    one, two = tg.primitive(lambda x: x * 2), tg.primitive(lambda x: x * 3)
    monkeypatch.setitem(globals(), "one", one)
    rule_of(one, lambda g: g * 2)
    printed = source(tg.RNN(written("return np.tanh(x @ self.U + one(h))")), batch())
    assert two(1.0) == 3.0
    assert "its source goes here" in printed
    assert "x * 3" not in printed


def test_it_runs_without_rows():
    cell = written("return np.tanh(x @ self.U), 0.5 * np.zeros_like(h) + 0.25")
    assert_runs_alone(tg.RNN(cell), batch(rows=0), start_of(cell, (0,)))


# Whatever the user's names are: those that the loop or the printed module has for itself, too.
NAMES = re.findall(
    r"\w+",
    "T K R S C t n lo hi base rows points block print range reversed len float forward backward "
    "kept gradients d_outputs d_state d_h x_t out ones given valid0 lambda_",
)
MINE = "{} = np.tanh(x @ self.U + h @ self.V)\nz = {} * h\nreturn z + 0.5 * {}"


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_whatever_a_variable_is_called(name):
    cell = written(MINE.format(name, name, name))
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell), lengths=[T, 1, 2])


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_whatever_a_parameter_is_called(name):
    cell = written(f"return np.tanh(x @ self.U + h @ self.{name})", **{name: (H, H)})
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell), lengths=[T, 1, 2])


def run_both(name):
    """Both a variable and a Parameter of this name."""
    variable = written(MINE.format(name, name, name))
    parameter = written(f"return np.tanh(x @ self.U + h @ self.{name})", **{name: (H, H)})
    return variable, parameter


@pytest.mark.parametrize("kind", [0, 1], ids=["variable", "parameter"])
@pytest.mark.parametrize("name", ["h_t", "zip", "list", "np_tanh"])
def test_scan_runs_whatever_the_users_names_are(name, kind):
    found, expected = [], []
    for scan, results in ((True, found), (False, expected)):
        rnn, x = tg.RNN(run_both(name)[kind], scan=scan), leaf(batch())
        out = rnn(x, lengths=[T, 2, 1]).outputs
        (out * np.arange(1.0, H + 1)).sum().backward()
        grads = [p.grad for p in rnn.parameters() if p.grad is not None]
        results += [out.data, x.grad, *grads]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("kind", [0, 1], ids=["variable", "parameter"])
@pytest.mark.parametrize("name", ["h_0", "h_T"])
def test_the_source_runs_whatever_the_users_names_are(name, kind):
    cell = run_both(name)[kind]
    assert_runs_alone(tg.RNN(cell), batch(), start_of(cell))


# ----- random programs ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_the_printed_source_of_a_random_program_gives_what_the_plain_loop_gives(seed):
    # in padding x is 0, which its neighbours see where rows see each other
    one_of = ("mixes",) if seed % 2 else ("lengths", "mask")
    case = scan_programs.Case(seed, without=("truncate", "checkpoint", "second", "T", *one_of))
    rnn = tg.RNN(case.program.cell(case.dtype), **case.layer)
    floats = lambda dtype: lambda a: a.astype(dtype) if a.dtype.kind == "f" else a
    x = map_tree(floats(case.x_dtype), case.x)
    batch_shape = leaves(x)[0].shape[1:-1]
    state = rnn.initial_state(batch_shape) if case.state is None else case.state
    state = map_tree(lambda a: floats(case.dtype)(plain(a)), state)
    options = {name: value for name, value in case.options.items() if name != "truncate"}
    options |= {"x_needs": case.x_needs, "state_needs": case.state_needs}
    try:
        assert_runs_alone(rnn, x, state, tolerance=case.tolerance, **options)
    except Exception as error:
        error.add_note(f"{case}\n{rnn.source()}")
        raise


# ----- with NumPy only, in a Python of its own ---------------------------------------------------

ALONE = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    text, given, d_outputs, d_state = pickle.load(file)
exec(text, module := {"__name__": "printed"})
outputs, state, kept = module["forward"](*given)
gradients = module["backward"](d_outputs, d_state, kept)
assert not any(name.partition(".")[0] == "tinygrad_rnn" for name in sys.modules)
with open(sys.argv[1], "wb") as file:
    pickle.dump((outputs, state, gradients), file)
"""


@pytest.mark.parametrize("name", ["LSTMCell", "LayerNormGRU"])
def test_a_python_that_never_saw_the_package_runs_it(name, tmp_path):
    cell = drawn(CELLS[name], 3)
    rnn, x, state = tg.RNN(cell), leaf(batch()), map_tree(leaf, start_of(cell))
    text = source(rnn, x, state)
    (given,) = arguments(rnn, executed(text)["forward"], x, state, None, None)
    ones = tuple(np.ones((N, H)) for _ in leaves(state))
    handed = text, [one.array for one in given.values()], (np.ones((T, N, H)),), ones
    (tmp_path / "given").write_bytes(pickle.dumps(handed))
    (tmp_path / "alone.py").write_text(ALONE, encoding="utf-8")
    command = [sys.executable, "-I", str(tmp_path / "alone.py"), str(tmp_path / "given")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    outputs, last, gone = pickle.loads((tmp_path / "given").read_bytes())

    rnn.scan = False
    out = rnn(x, state)
    (out.outputs.sum() + sum(a.sum() for a in leaves(out.state))).backward()
    found = dict(enumerate([*outputs, *last])) | {f"d {n}": gone[n] for n in gone}
    expected = dict(enumerate(map(plain, [out.outputs, *leaves(out.state)])))
    expected |= {f"d {n}": one.tensor.grad for n, one in given.items()}
    assert not differences(found, expected)


# ----- the text ----------------------------------------------------------------------------------


def texts():
    """The printed sources of the cells, and of some random programs."""
    for name in CELLS:
        cell = drawn(CELLS[name], 4)
        x = inputs_of(cell, T, (N,), np.random.default_rng(3), np.float64)
        yield name, source(tg.RNN(cell), x, lengths=[T, 2, 0])


@pytest.fixture(scope="module")
def printed():
    return dict(texts())


def test_the_same_cell_gives_the_same_text(printed):
    assert dict(texts()) == printed


TWO_HALVES = "return np.tanh(np.split(x @ self.A, 3, axis=-1)[1] + np.split(h @ self.B, 2, -1)[0])"


def test_the_same_cell_gives_the_same_text_where_rules_bring_in_arrays():
    cell = written(TWO_HALVES, A=(C, 3 * H), B=(H, 2 * H))
    assert len({source(tg.RNN(cell), batch()) for _ in range(30)}) == 1


PRINTS = """
import numpy as np, tinygrad_rnn as tg
for make in (tg.GRUCell, tg.zoo.LayerNormLSTM):
    rnn = tg.RNN(make(2, 3, rng=0), scan=True)
    rnn(tg.Tensor(np.ones((5, 3, 2)), requires_grad=True))
    print(rnn.source(), rnn.plan())
"""


def test_every_python_prints_the_same_text():
    found = set()
    for seed in ("1", "2"):  # of the order of sets of texts
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PRINTS]
        found.add(subprocess.check_output(command, text=True, env=environment))
    assert len(found) == 1


INDEXES = PRINTS.replace("(tg.GRUCell, tg.zoo.LayerNormLSTM)", "[Indexes]").replace(
    "\nfor",
    """
class Indexes(tg.Cell):
    def __init__(self, inputs, hidden, rng):
        self.U, self.state_shape = tg.Parameter(np.ones((inputs, hidden))), (hidden,)
    def step(self, x, h):
        return np.tanh(x @ self.U + h)[..., np.array([0, 0, 2])]
for""",
)


def test_every_python_prints_the_same_keywords_in_the_same_order():
    found = set()
    for seed in "123456":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", INDEXES]
        found.add(subprocess.check_output(command, text=True, env=environment))
    assert len(found) == 1


def test_the_text_is_that_of_the_last_call():
    rnn = tg.RNN(tg.GRUCell(C, H, rng=0))
    first = source(rnn, batch())
    other = source(rnn, batch(rows=4), lengths=[5, 2, 1, 0])
    assert "valid" in other
    assert "valid" not in first
    assert source(rnn, batch()) == first


def test_a_file_that_is_no_longer_python_gives_no_names(monkeypatch):
    """A notebook's cell with a magic, or a file that was changed since."""
    cell = written("z = np.tanh(x @ self.U + h)\nreturn z * 0.25")
    file = cell.step.__code__.co_filename
    lines = ["%time\n", *linecache.cache[file][2]]
    monkeypatch.setitem(linecache.cache, file, (1, None, lines, file))
    assert_runs_alone(tg.RNN(cell), batch())
    assert "z = " not in re.sub("#.*", "", source(tg.RNN(cell), batch()))


def test_it_imports_numpy_and_nothing_else(printed):
    for text in printed.values():
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert [ast.unparse(n) for n in nodes] == ["import numpy as np"]


def undefined(text):
    """Names that are read in a function, and set neither there nor before, nor built in."""
    tree, found = ast.parse(text), []
    tops = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)} | {"np"}
    tops |= {n.targets[0].id for n in tree.body if isinstance(n, ast.Assign)}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
        known = (
            tops
            | {a.arg for a in ast.walk(function) if isinstance(a, ast.arg)}
            | set(dir(builtins))
        )
        known |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
        found += [n.id for n in names if n.id not in known]
    return found


def test_every_name_is_defined(printed):
    for name, text in printed.items():
        assert not undefined(text), name


def test_nothing_is_made_that_nobody_uses(printed):
    for name, text in printed.items():
        for function in ast.parse(text).body:
            if isinstance(function, ast.FunctionDef) and function.name in ("forward", "backward"):
                names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
                read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
                made = {n.id for n in names if isinstance(n.ctx, ast.Store)}
                assert made - read <= {"T"}, (name, function.name)


def test_the_lines_are_tidy(printed):
    for text in printed.values():
        lines = text.split("\n")
        assert not [line for line in lines if line != line.rstrip()]
        assert not [line for line in lines if "\t" in line]
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        long = [line for line in lines if len(line) > 120]
        assert len(long) <= 0.05 * len(lines) + 3, "\n".join(long)


def comments(text):
    return {line.strip()[2:] for line in text.splitlines() if line.strip().startswith("# ")}


def test_comments_carry_the_users_own_lines(printed):
    own = {line.strip() for line in inspect.getsource(tg.GRUCell.step).splitlines()}
    assert len(comments(printed["GRUCell"]) & own) >= 4
    text = source(tg.RNN(written(TWO_LINES)), batch())
    assert set(TWO_LINES.splitlines()) <= comments(text)
    for part in re.split(r"^def ", text, flags=re.M)[-2:]:  # and in backward the same
        assert set(TWO_LINES.splitlines()) <= comments(part)


TWO_LINES = """update = tg.sigmoid(x @ self.U + h * h)
return update * h + (1 - update) * np.tanh(h @ self.V)"""


def words(text):
    """The identifiers that a function uses, without a number at the end."""
    names = [n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)]
    return set(names) | {re.sub(r"_?\d+$", "", name) for name in names}


def test_the_users_names_are_the_names(printed):
    for name, own in {
        "GRUCell": "z r n hn xz h U V b b_n d_z d_U d_V d_h",
        "LSTMCell": "i f g o c U V b d_c d_U",
        "RNNCell tanh": "x h U V b",
        "CoRNN": "h",
    }.items():
        missing = set(own.split()) - words(printed[name])
        if name == "LSTMCell":
            missing -= {"i", "f", "g", "o"}  # one call, and one name, for all gates
        assert not missing, (name, missing)
    text = source(tg.RNN(written(TWO_LINES)), batch())
    assert {"update", "d_update", "h", "x"} <= words(text)
    assert "update" in re.findall(r"\w+", text)


def test_parameters_of_parts_bear_their_dotted_names():
    text = source(tg.RNN(CELLS["Stacked"]()), batch())
    names = inspect.signature(executed(text)["forward"]).parameters
    for name in CELLS["Stacked"]().named_parameters():
        assert name.replace(".", "_") in names


def test_the_docstring_says_how_to_call_it():
    rnn = tg.RNN(tg.GRUCell(C, H, rng=0))
    text = source(rnn, batch())
    module = executed(text)
    given = ", ".join(inspect.signature(module["forward"]).parameters)
    doc = ast.get_docstring(ast.parse(text))
    assert f"outputs, state, kept = forward({given})" in doc
    assert "gradients = backward(d_outputs, d_state, kept)" in doc
    assert "RNN(GRUCell)" in doc
    assert list(inspect.signature(module["backward"]).parameters) == [
        "d_outputs",
        "d_state",
        "kept",
    ]


def test_without_gradients_there_is_no_way_back_and_what_needs_none_gets_none():
    rnn = tg.RNN(tg.GRUCell(C, H, rng=0), scan=True)
    with tg.no_grad():
        rnn(batch())
    assert "def backward" not in rnn.source()
    x, h = batch(), np.zeros((N, H))
    rnn(x, h)
    module = executed(rnn.source())
    given = [x, h, *[rnn.cell.named_parameters()[n].data for n in ("U", "b", "V", "b_n")]]
    assert list(inspect.signature(module["forward"]).parameters) == [
        "x",
        "h_0",
        "U",
        "b",
        "V",
        "b_n",
    ]
    _, _, kept = module["forward"](*given)
    gone = module["backward"]((np.ones((T, N, H)),), (np.zeros((N, H)),), kept)
    assert "x" not in gone
    assert {"U", "b", "V", "b_n"} <= set(gone)


# ----- the plan ----------------------------------------------------------------------------------

WHERE = {"once", "before", "loop", "after", "end", "sum"}


def table(rnn):
    """A plan's rows: half, where, call, what it gives, the user's line; by the header's columns."""
    lines = rnn.plan().splitlines()
    head, rows = lines[0], lines[1 : lines.index("")]
    starts = [0, *[head.index(word) for word in ("where", "call", "gives", "of the line")], None]
    spans = list(itertools.pairwise(starts))
    return [tuple(row[a:b].strip() for a, b in spans) for row in rows]


@pytest.mark.parametrize("name", CELLS)
def test_every_call_of_the_plan_runs_somewhere(name):
    cell = drawn(CELLS[name], 4)
    rnn = tg.RNN(cell)
    text = source(rnn, inputs_of(cell, T, (N,), np.random.default_rng(3), np.float64))
    rows = table(rnn)
    assert {row[0] for row in rows} == {"forward", "backward"}
    assert {row[1] for row in rows} <= WHERE
    assert all(row[2].isidentifier() and row[3] for row in rows)
    assert {row[4] for row in rows} - {""} >= comments(text) - {
        c for c in comments(text) if re.match(r"(The|Room|Before|After|Of the)\b", c)
    }
    assert not [row for row in rows if row[0] == "forward" and row[1] in ("sum", "end")]


def test_of_a_gru_the_input_projection_runs_before_the_loop_and_weights_gradients_are_sums():
    rnn = tg.RNN(tg.GRUCell(C, H, rng=0))
    source(rnn, batch())
    rows = table(rnn)
    of = lambda half, line: {
        r[1] for r in rows if r[0] == half and line in r[4] and r[2] != "split"
    }
    assert of("forward", "x @ self.U") == {"before"}
    assert of("forward", "state @ self.V") == {"loop"}
    assert of("forward", "np.tanh(") == {"loop"}
    back = [row for row in rows if row[0] == "backward"]
    for parameter in ("U", "V", "b", "b_n"):
        sums = [r for r in back if re.match(rf"d_{parameter}(_\d)? ", r[3]) and r[1] != "end"]
        sums = [r for r in sums if r[2] != "sum_over_time"]  # what adds them up, after the loop
        assert sums
        assert {r[1] for r in sums} == {"sum"}, parameter
    assert {r[1] for r in back if re.match(r"d_x ", r[3])} <= {"once", "after"}
    assert "loop" in {r[1] for r in back if r[2] in ("summed_products", "products", "matmul")}


def test_the_plan_says_why():
    rnn = tg.RNN(tg.GRUCell(C, H, rng=0))
    source(rnn, batch())
    below = rnn.plan().split("\n\n")[1]
    for where in WHERE:
        assert re.search(rf"^{where}\b", below, re.M)
    assert not [line for line in rnn.plan().split("\n") if line != line.rstrip()]


def test_without_gradients_the_plan_has_no_way_back():
    rnn = tg.RNN(tg.GRUCell(C, H, rng=0), scan=True)
    with tg.no_grad():
        rnn(leaf(batch()))
    assert {row[0] for row in table(rnn)} == {"forward"}


def test_what_does_not_depend_on_the_state_is_not_in_the_loop():
    rnn = tg.RNN(written("a = np.tanh(x @ self.U)\nb = np.tanh(a + h)\nreturn np.exp(-b * b), b"))
    source(rnn, batch())
    where = {(row[2], row[4][:1]): row[1] for row in table(rnn) if row[0] == "forward"}
    assert where["tanh", "a"] == "before"
    assert where["tanh", "b"] == "loop"
    assert where["exp", "r"] == "after"


def test_there_is_neither_before_a_call():
    for ask in (tg.RNN.source, tg.RNN.plan):
        with pytest.raises(errors.TraceError):
            ask(tg.RNN(tg.GRUCell(C, H, rng=0), scan=True))


# ----- the shell ---------------------------------------------------------------------------------

FILE = """
import numpy as np
import tinygrad_rnn as tg

class MyCell(tg.Cell):
    def __init__(self, inputs, hidden):
        self.inputs, self.state_shape = inputs, (hidden,)
        self.U = tg.Parameter(np.ones((inputs, hidden)))
        self.V = tg.Parameter(np.eye(hidden))

    def step(self, x, h):
        update = tg.sigmoid(x @ self.U)
        return update * h + (1 - update) * np.tanh(h @ self.V)

class Unsaid(MyCell):
    def __init__(self, inputs, hidden):
        super().__init__(inputs, hidden)
        del self.inputs

class Reading(MyCell):
    def step(self, x, h):
        h = np.tanh(x @ self.U + h)
        return h if h.sum() > 0 else -h

class Broken(MyCell):
    def step(self, x, h):
        raise KeyError("in the step")

class Counting(MyCell):
    def initial_state(self, batch_shape=(), dtype=None):
        return {"count": np.zeros(batch_shape, int), "h": np.zeros((*batch_shape, 4), dtype)}

    def step(self, x, state):
        h = super().step(x, state["h"])
        return h, {"count": state["count"] + 1, "h": h}

def no_cell(n):
    return n
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def shell(capsys, *argv):
    status = __main__.main(["source", *argv])
    return status, *capsys.readouterr()


def test_the_shell_prints_what_the_layer_prints(folder, capsys):
    status, out, err = shell(capsys, "tinygrad_rnn:GRUCell(3, 4, rng=0)")
    assert (status, err) == (0, "")
    assert out == source(tg.RNN(tg.GRUCell(3, 4, rng=0)), np.ones((2, 1, 3))) + "\n"


@pytest.mark.parametrize(
    ("flags", "there", "x"),
    [
        ("", "np.float64", (2, 1, 3)),
        ("--batch 5", "np.empty((T, 5, 4), np.float64)", (2, 5, 3)),
        ("--float32", "np.float32", (2, 1, 3)),
        ("--float32 --batch 2", "np.empty((T, 2, 4), np.float32)", (2, 2, 3)),
        ("--reverse", "for t in reversed(range(T)):\n        np.", (2, 1, 3)),
        ("--inputs 3", "x (T, 1, 3)", (2, 1, 3)),
    ],
)
def test_flags_of_the_shell(folder, capsys, flags, there, x):
    status, out, err = shell(capsys, "own.py:MyCell(3, 4)", *flags.split())
    assert (status, err) == (0, "")
    module = executed(out)
    assert there.split("\n")[0] in out
    assert ("float32" in out, "float64" in out) == ("32" in flags, "32" not in flags)
    forward, backward = out.split("\ndef ")[-2:]
    assert ("reversed" in forward, "reversed" in backward) == (
        ("--reverse" in flags),
        ("--reverse" not in flags),
    )
    assert "# update = tg.sigmoid(x @ self.U)" in out
    dtype = np.float32 if "32" in flags else np.float64
    h = np.ones((x[1], 4), dtype)
    names = list(inspect.signature(module["forward"]).parameters)
    given = {"x": np.ones(x, dtype), "U": np.ones((3, 4), dtype), "V": np.eye(4, dtype=dtype)}
    outputs, state, kept = module["forward"](*[given.get(name, h) for name in names])
    gone = module["backward"](outputs, state, kept)
    assert gone["x"].shape == x
    assert gone["U"].dtype == dtype


def test_the_width_is_needed_where_the_cell_does_not_say_it(folder, capsys):
    status, out, err = shell(capsys, "own.py:Unsaid(3, 4)")
    assert (status, out) == (2, "")
    assert "--inputs" in err
    assert len(err.splitlines()) == 1
    status, out, err = shell(capsys, "own.py:Unsaid(3, 4)", "--inputs", "3")
    assert (status, err) == (0, "")
    assert "x (T, 1, 3)" in out


def test_the_shell_prints_the_plan(folder, capsys):
    status, out, err = shell(capsys, "own.py:MyCell(3, 4)", "--plan")
    assert (status, err) == (0, "")
    assert re.search(r"^forward +before +matmul .* update = tg\.sigmoid", out, re.M)
    assert "def forward" not in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none.py:MyCell(3, 4)", "there is no file none.py"),
        ("no_such:MyCell(3, 4)", "there is no module no_such"),
        ("own.py:MyCell", "'MyCell' is not a call"),
        ("own.py:MyCell(3, ", "is not a call"),
        ("own.py:Missing(3, 4)", "name 'Missing' is not defined"),
        ("own.py:no_cell(3)", "not a Cell"),
        ("own.py:tg.RNN(MyCell(3, 4))", "is of type RNN, not a Cell"),
        ("own.py:Unsaid(3, 4)", "add --inputs"),
        ("own.py:tg.GRUCell(3, 4)", "RngError"),
        ("own.py:Reading(3, 4)", "TraceError: Reading.step, own.py:"),
        ("own.py:tg.zoo.CfC(2, 3, rng=0)", "takes a pair of arrays"),
    ],
)
def test_what_cannot_be_printed_is_one_line_and_status_2(folder, capsys, text, says):
    status, out, err = shell(capsys, text)
    assert (status, out) == (2, "")
    assert err.startswith("source: ")
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_step_that_reads_values_is_shown_with_its_line_and_a_way_out(folder, capsys):
    _, _, err = shell(capsys, "own.py:Reading(3, 4)")
    assert "return h if h.sum() > 0 else -h" in err
    assert "scan=False" in err
    assert "np.where" in err


def test_a_width_that_the_cell_does_not_take_is_refused(folder, capsys):
    status, out, err = shell(capsys, "own.py:MyCell(3, 4)", "--inputs", "2")
    assert (status, out) == (2, "")
    assert "ShapeError" in err


def test_an_error_in_the_users_own_lines_is_shown_where_it_happened(folder, capsys):
    status, out, err = shell(capsys, "own.py:Broken(3, 4)")
    assert (status, out) == (2, "")
    assert 'raise KeyError("in the step")' in err


def test_a_state_that_begins_with_a_counter_is_printed(folder, capsys):
    status, out, _ = shell(capsys, "own.py:Counting(3, 4)")
    assert status == 0
    assert "def backward" in out


def test_the_example_in_an_error_is_one_of_this_command(folder, capsys):
    _, _, err = shell(capsys, "own.py:MyCell")
    assert "python -m tinygrad_rnn source" in err


@pytest.mark.parametrize("flag", ["--inputs", "--batch"])
@pytest.mark.parametrize("value", ["-1"])
def test_sizes_are_whole_numbers(folder, capsys, flag, value):
    with pytest.raises(SystemExit) as caught:
        shell(capsys, "own.py:Unsaid(3, 4)", "--inputs", "3", flag, value)
    assert caught.value.code == 2
    assert "expected a whole number, 1 or more" in capsys.readouterr().err


def test_without_a_cell_the_usage_is_shown(capsys):
    for argv, status in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as caught:
            __main__.main(["source", *argv])
        assert caught.value.code == status
        out, err = capsys.readouterr()
        assert "usage: python -m tinygrad_rnn source" in out + err


@pytest.mark.parametrize(("text", "status"), [("MyCell(3, 4)", 0), ("Reading(3, 4)", 2)])
def test_the_exit_status_of_the_command(folder, text, status):
    command = [sys.executable, "-m", "tinygrad_rnn", "source", f"own.py:{text}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    assert bool(done.stdout) == (status == 0)
    assert len(done.stderr.splitlines()) == (status != 0)
