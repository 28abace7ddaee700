"""Every public name explains itself: what it is, an example that runs, parameters, shapes, errors.

The example is the first indented block of a docstring, and with it all others that are Python; what
is none is a table. It runs with `np`, `tg`, `testing`, `given`,
`strategies`, `mutants`, and with the attributes of `Stage` for what would be long without them. A
comment behind a line, or below it in a line of its own, is

    a value   if it begins with a digit, a sign, a bracket, a quote, True, False, None, array( or a
              class and a bracket: what the line gives must be that. A value ends at `: `, `; `,
              ` = `, and where a word follows `, `. A number must round to what is written; `...`
              stands for more digits, for elements, for anything. What is no Python, such as
              History(3 steps, loss 2.3 -> 0.4), is compared with the repr
    an error  if it is `raises ShapeError`: the line must raise that
    prose     in all other cases
"""

import ast
import builtins
import functools
import html
import inspect
import io
import re
import subprocess
import sys
import tokenize
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.canvas.pen import Figure
from tinygrad_rnn.insight import Contributions, Flow, Jacobians, Sensitivity
from tinygrad_rnn.optim import Optimizer
from tinygrad_rnn.testing import cases, laws, mutants, strategies
from tinygrad_rnn.vjp import Rule

ROOT = Path(__file__).parent.parent


class Stage:
    """What examples may use without making it: small, and new for each example."""

    def __init__(self):
        self.x = np.random.default_rng(0).normal(size=(5, 2, 3))  # (T, N, C)
        self.target = np.zeros((2, 4))
        self.cell = tg.RNNCell(3, 4, rng=0)
        self.rnn = self.layer = tg.RNN(self.cell)
        self.birnn = tg.BiRNN(tg.RNNCell(3, 4, rng=1), tg.RNNCell(3, 4, rng=2))
        self.model = Last(self.rnn)
        self.loss = tg.mse(self.model(self.x), self.target)
        self.batches = [(self.x, self.target)] * 3


class Last(tg.Module):
    """A model: from x (T, N, 3) to a Tensor (N, 4)."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x).last


# ----- the public names --------------------------------------------------------------------------

PLACES = {
    "tg": tg,
    "tg.init": tg.init,
    "tg.zoo": tg.zoo,
    "tg.errors": tg.errors,
    "testing": testing,
    "testing.strategies": strategies,
    "testing.mutants": mutants,
}
# What public functions return, and what one may derive from.
BEHIND = (Contributions, Flow, Jacobians, Sensitivity, Figure, Optimizer, Rule)

NO_DOCSTRING = {
    "tg.Array": "an alias of Any",
    "testing.observers": "a list",
    "tensor.Tensor.flatten": "a lambda: ndarray's own",
    "tensor.Tensor.tolist": "a lambda: ndarray's own",
}
NO_SHAPES = {
    "tg.History": "lists of numbers",
    "tg.detect_nonfinite": "takes nothing",
    "tg.no_grad": "takes nothing",
    "tg.draw": "a picture of anything",
    "tg.vjp_of": "takes a function",
    "tg.vjp.Rule": "made of functions",
    "tg.canvas.pen.Figure": "a picture",
    "testing.Derivative": "numbers",
    "testing.Finding": "numbers",
    "testing.GradReport": "a report",
    "testing.SuiteReport": "a report",
    "testing.NodeVerdict": "a report",
    "testing.check_all_ops": "takes no arrays",
    "testing.ladder": "numbers",
    "testing.strategies.broadcastable": "gives shapes",
    "testing.strategies.shapes": "gives shapes",
    "testing.strategies.gufunc": "the signature says them",
    "testing.strategies.axes": "gives axes",
    "testing.strategies.permutations": "gives axes",
    "testing.strategies.cells": "gives cells",
    "testing.strategies.programs": "gives programs",
    "testing.strategies.Call": "as the case generator draws them",
    "testing.strategies.calls": "as the case generator draws them",
    "testing.mutants.Law": "takes nothing",
    "testing.mutants.Mutant": "holds no arrays",
    "testing.mutants.Score": "names",
    "testing.mutants.apply": "takes a name",
    "testing.mutants.law_of": "takes a name",
    "testing.mutants.names": "takes nothing",
    "testing.mutants.score": "takes a function",
}
INSIDE = {  # methods that have public names, and are called by the package alone
    "module.Parameter.convert": "for Module.astype",
    "optim.Optimizer.snapshot": "for fit",
    "optim.Optimizer.restore": "for fit",
    "optim.Optimizer.zeros": "for constructors",
    "vjp.Rule.arguments": "for Tensor's protocols",
    "vjp.Rule.kept": "for graph.py",
    "testing.locate.NodeVerdict.lines": "for GradReport.text",
    "testing.ops.SuiteReport.note": "for the checks",
    "testing.ops.SuiteReport.add": "for the checks",
    "testing.watched.Watched.note": "for the checks",
}


def members(module):
    """A module's __all__; else what is made there, and not private."""
    if hasattr(module, "__all__"):
        return module.__all__
    names = [name for name, thing in vars(module).items() if made_in(module, thing, name)]
    # the functions of errors.py make the engine's errors, and nobody else calls them
    return [name for name in names if module is not tg.errors or name[0].isupper()]


def made_in(module, thing, name):
    here = getattr(thing, "__module__", "") == module.__name__
    return callable(thing) and here and name[0] != "_"


def ours(cls):
    return cls.__module__.startswith("tinygrad_rnn")


def short(thing):
    """tinygrad_rnn.module.Module.astype -> module.Module.astype."""
    return f"{thing.__module__}.{thing.__qualname__}".removeprefix("tinygrad_rnn.")


EVERYTHING = {f"{p}.{name}": getattr(m, name) for p, m in PLACES.items() for name in members(m)}
EVERYTHING |= {f"tg.{short(thing)}": thing for thing in BEHIND}
EVERYTHING["testing.grad_property"] = testing.grad_property
MODULES = {name: thing for name, thing in EVERYTHING.items() if inspect.ismodule(thing)}
MODULES |= {"tg": tg, "testing": testing}
NAMES = {n: v for n, v in EVERYTHING.items() if n not in MODULES and n not in NO_DOCSTRING}
CLASSES = {thing: name for name, thing in NAMES.items() if inspect.isclass(thing)}
PLACED = {}  # the last part of a name -> the names
for name in NAMES:
    PLACED.setdefault(name.rpartition(".")[2], []).append(name)


PROPERTIES = (property, functools.cached_property)
KINDS = (types.FunctionType, classmethod, staticmethod, *PROPERTIES)


def methods(classes):
    """Public methods and properties of the classes and their bases: name -> (class, method)."""
    found = {}
    for base in dict.fromkeys(base for cls in classes for base in cls.__mro__ if ours(base)):
        for key, thing in vars(base).items():
            numpys = (getattr(thing, "__module__", "") or "").startswith("numpy")  # Tensor.sum
            if isinstance(thing, KINDS) and not numpys and (key[0] != "_" or key == "__call__"):
                found[f"{short(base)}.{key}"] = (base, thing)
    return found


ALL_METHODS = methods(CLASSES)
METHODS = {name: pair for name, pair in ALL_METHODS.items() if name not in NO_DOCSTRING}


def docstring(thing):
    """Its own: not that of a base, nor what a dataclass makes up."""
    doc = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    doc = inspect.cleandoc(doc or "")
    return "" if doc.startswith(f"{getattr(thing, '__name__', None)}(") else doc


BLOCK = re.compile(r"(?<=\n\n)    .*(?:\n+    .*)*")


def is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def blocks(doc):
    """The indented blocks that are code, as they stand: the first, and others that are Python."""
    found = BLOCK.findall(doc)
    return [b for k, b in enumerate(found) if not k or is_python(inspect.cleandoc("\n" + b))]


def example(doc):
    """The code, with its blank lines."""
    return "\n\n".join(inspect.cleandoc("\n" + block) for block in blocks(doc))


def prose(doc):
    """The rest: text and tables."""
    for block in blocks(doc):
        doc = doc.replace(block, "", 1)
    return doc


EXAMPLES = NAMES | MODULES | {name: thing for name, (_, thing) in METHODS.items()}
EXAMPLES = {n: code for n, thing in EXAMPLES.items() if (code := example(docstring(thing)))}


# ----- examples run ------------------------------------------------------------------------------

VALUE = re.compile(r"[-+\d(\[{'\"]|(True|False|None)\b|array\(|[A-Z]\w*\(")
ERROR = re.compile(r"raises ([A-Z]\w*)")
PROSE = re.compile(r"(:|;| =) |, (?!True|False|None|nan|inf|array\()(?=[^\W\d])")
LAYOUT = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
ERRORS = vars(builtins) | vars(tg.errors) | vars(np.exceptions)
ERRORS |= {"GradientError": testing.GradientError, "MutantError": mutants.MutantError}


def announced(code):
    """Line -> its comment, where that is a value or an error."""
    found, last = {}, 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found.setdefault(last if alone else token.start[0], token.string.strip("# "))
        elif token.type not in LAYOUT:
            last = token.end[0]
    return {k: text for k, text in found.items() if VALUE.match(text) or ERROR.match(text)}


class Telling(ast.NodeTransformer):
    """Lines with such a comment call `_given(line, value)`, or run inside `_raises(line)`."""

    def __init__(self, comments):
        self.comments = comments

    def visit(self, node):
        node = super().generic_visit(node)
        if not isinstance(node, (ast.Expr, ast.Assign)) or node.end_lineno not in self.comments:
            return node
        tell = lambda name, *args: ast.Call(ast.Name(name, ast.Load()), list(args), [])
        line = ast.Constant(node.end_lineno)
        if ERROR.match(self.comments[node.end_lineno]):
            return ast.With([ast.withitem(tell("_raises", line))], [node])
        if isinstance(node, ast.Expr):
            return ast.Expr(tell("_given", line, node.value))
        target = ast.parse(ast.unparse(node.targets[0]), mode="eval").body
        if isinstance(target, ast.Tuple) and len(target.elts) == 1:  # (dx,) = f(x)   # 12
            target = target.elts[0]
        return [node, ast.Expr(tell("_given", line, target))]


def run(code, names):
    """Run an example in a namespace; whatever it announces must come."""
    comments, seen = announced(code), set()

    def given_(line, value):
        seen.add(line)
        assert holds(comments[line], value), f"{comments[line]}\nit is {value!r}"

    def raises(line):
        seen.add(line)
        return pytest.raises(ERRORS[ERROR.match(comments[line])[1]])

    for library in ("torch", "onnxruntime"):
        if re.search(rf"\b{library}\b", code):
            names[library] = pytest.importorskip(library)
    names |= {"_given": given_, "_raises": raises}
    tree = ast.fix_missing_locations(Telling(comments).visit(ast.parse(code)))
    exec(compile(tree, "<example>", "exec"), names)
    for test in [thing for name, thing in names.items() if name.startswith("test_")]:
        settings(max_examples=3, database=None)(test)()  # of hypothesis
    assert seen == set(comments), "lines that announce something did not run"


def holds(comment, value):
    """Whether a value is what a comment says."""
    ends = [m.start() for m in PROSE.finditer(comment)]
    for end in (*ends, len(comment)):
        text = re.sub(r"(?<=\d)\.\.\.", "j", comment[:end])  # 0.69... as an imaginary number
        try:
            return agrees(ast.parse(text, mode="eval").body, text, value)
        except SyntaxError:
            continue
    pattern = re.escape(" ".join(comment.split())).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, " ".join(repr(value).split())) is not None


def agrees(node, text, value):
    """The same, for a part of the comment as Python reads it."""
    match node:
        case ast.Constant(value=constant) if constant is ...:
            return True
        case ast.Constant(value=bool() | str() | None as constant):
            value = bool(value) if isinstance(value, np.bool_) else value
            return type(value) is type(constant) and value == constant
        case ast.Constant():
            return rounds(ast.get_source_segment(text, node), value)
        case ast.UnaryOp(ast.USub(), operand):
            return agrees(operand, text, -value)
        case ast.Name("nan" | "inf" as constant):
            return np.array_equal(value, float(constant), equal_nan=True)
        case ast.Tuple(nodes) | ast.List(nodes):
            kind = tuple if isinstance(node, ast.Tuple) else list
            return isinstance(value, kind) and each(nodes, text, list(value))
        case ast.Dict(keys, nodes):
            keys = [ast.literal_eval(key) for key in keys]
            return list(value) == keys and each(nodes, text, list(value.values()))
        case ast.Call(ast.Name("array"), [inner]):
            return isinstance(value, np.ndarray) and agrees(inner, text, value.tolist())
    raise SyntaxError(text)


def each(nodes, text, values):
    """Element by element; an ellipsis stands for any number of them."""
    for k, node in enumerate(nodes):
        if isinstance(node, ast.Constant) and node.value is ...:
            rest = nodes[k + 1 :]
            start = each(nodes[:k], text, values[:k])
            return start and any(each(rest, text, values[n:]) for n in range(k, len(values) + 1))
    pairs = zip(nodes, values, strict=False)
    return len(nodes) == len(values) and all(agrees(n, text, v) for n, v in pairs)


def rounds(written, value):
    """Whether a number is the written one, to its last digit (cut off there, where j follows)."""
    if isinstance(value, (bool, str)) or np.size(value) != 1 or np.ndim(value):
        return False
    mantissa, _, exponent = written.rstrip("j").partition("e")
    digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
    off = float(value) - float(written.rstrip("j"))
    if written.endswith("j"):
        return 0 <= off + 1e-12 < 10.0**-digits
    return abs(off) <= (0.501 * 10.0**-digits if digits > 0 else 1e-6 * max(1, abs(value)))


@pytest.fixture
def names(tmp_path, monkeypatch, rule_of):
    """Where an example runs; the tables of rules and of cases are then as they were before."""
    monkeypatch.chdir(tmp_path)
    makers = dict(cases.MAKERS)
    yield {"np": np, "tg": tg, "testing": testing, "strategies": strategies, "mutants": mutants}
    cases.MAKERS.clear()
    cases.MAKERS.update(makers)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name, names):
    places = vars(strategies) if name.startswith("testing.strategies.") else {}
    names = vars(Stage()) | {"given": given} | places | names
    run(EXAMPLES[name], names)
    cls = EVERYTHING.get(name)
    if not inspect.isclass(cls) or shows(EXAMPLES[name], cls.__name__):
        return
    comments = announced(EXAMPLES[name]).values()
    if not issubclass(cls, Exception) or cls.__name__ not in " ".join(comments):
        assert any(isinstance(thing, cls) for thing in names.values()), "shows no such object"


def test_many_values_are_compared():
    counts = [len(announced(code)) for code in EXAMPLES.values()]
    assert sum(counts) >= 140
    assert sum(map(bool, counts)) >= 110


def test_the_stage_holds_what_examples_use():
    words = set(re.findall(r"\w+", " ".join(EXAMPLES.values())))
    assert set(vars(Stage())) <= words


@pytest.mark.parametrize(
    ("comment", "value", "expected"),
    [
        ("2", 2, True),
        ("2", 2.4, False),
        ("2", True, False),
        ("0.693... = log(2)", np.log(2), True),
        ("0.694...", np.log(2), False),
        ("0.69: rounded", np.log(2), True),
        ("0.7", np.array([0.7]), False),
        ("-1.5", -1.5, True),
        ("True", np.bool_(True), True),
        ("True", 1, False),
        ("None", None, True),
        ("(5, 2), (3,): shapes", ((5, 2), (3,)), True),
        ("(5, 2), (3,)", ((5, 2), (4,)), False),
        ("(9, 6), as Tensors", (tg.Tensor(9.0), tg.Tensor(6.0)), True),
        ("[1, ..., 4]", [1, 2, 3, 4], True),
        ("[1, ..., 4]", [1, 2, 3], False),
        ("{'x': (2, 2)}", {"x": (2, 2)}, True),
        ("{'x': (2, 2)}", {"y": (2, 2)}, False),
        ("array([0.1, nan]), cut", np.array([0.1, np.nan]), True),
        ("array([0.1])", [0.1], False),
        ("History(0 steps)", tg.History(), True),
        ("History(... steps)", tg.History(), True),
        ("History(1 steps)", tg.History(), False),
        ("50 characters", 50, False),
    ],
)
def test_how_values_are_compared(comment, value, expected):
    assert VALUE.match(comment)
    assert holds(comment, value) == expected


# ----- docstrings are whole ----------------------------------------------------------------------

ITEM = r"(?:\d*[A-Z]|\w*\.\.\.|\*\w+)"  # of a shape: N, 4H, ..., *shape
SHAPES = re.compile(
    rf"\((?:\w+, )*{ITEM}(?:, (?:{ITEM}|\w+))*,?\)"
    r"|\b([Aa]ny|same|one|that|own|this|argument's|[A-Z]'s) (other )?shapes?\b"
    r"|^shape\b",
    re.MULTILINE,
)
RAISES = re.compile(r"\bRaises (also |NumPy's |what |as |nothing of its own|[A-Z]\w*Error)")


def faults(name, thing, no_shapes=NO_SHAPES):
    """What the docstring of a public name lacks."""
    doc, error = docstring(thing), inspect.isclass(thing) and issubclass(thing, Exception)
    if not doc:
        return ["docstring"]
    code, found = example(doc), style_faults(doc)
    if not code or (not inspect.isclass(thing) and not shows(code, thing.__name__)):
        found.append("example")
    if doc.endswith(code.splitlines()[-1] if code else "\0"):
        found.append("text behind the example: without it, the example is no code")
    if error:
        kinds = {f" {base.__name__}" for base in thing.__bases__ if not ours(base)} - {" Exception"}
        return found + [f"that it is a{kind}" for kind in kinds if kind not in doc]
    if name not in no_shapes and not says_shapes(doc):
        found.append("shapes")
    found += untold(thing, doc) + wrong_rows(thing, doc)
    return found + ["errors"] * (not RAISES.search(" ".join(doc.split())))


def says_shapes(doc):
    text = re.sub(r"\n +", " ", prose(doc))  # lines that go on, joined
    return SHAPES.search(text) is not None


AS_FOR = re.compile(r"\bas for `?(?:tg\.|testing\.)?(\w+)")
ROW = re.compile(r"^(\w+(?:, \w+)*)  +(?=\S)", re.MULTILINE)  # a, b  what they are


def parameters(thing):
    """The names in a signature. An ndarray's own, of a subclass, are NumPy's to explain."""
    if inspect.isclass(thing) and issubclass(thing, np.ndarray):
        return []
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


def untold(thing, doc):
    """Parameters that a docstring does not name, in prose or as a keyword in its example; nor
    does that of another thing, where it says `as for other` (of a method: the other's method)."""
    key, words = thing.__name__, AS_FOR.findall(doc)
    others = [NAMES[name] for word in words for name in PLACED.get(word, ())]
    others += [getattr(other, key) for other in others if hasattr(other, key)]
    docs = [doc, *map(docstring, others)]
    trees = [ast.walk(ast.parse(example(text))) for text in docs]
    said = {node.arg for tree in trees for node in tree if isinstance(node, ast.keyword)}
    said |= set(re.findall(r"\w+", " ".join(map(prose, docs))))
    names = parameters(thing)
    return [f"parameter {name}" for name in names if not {name, name.capitalize()} & said]


def wrong_rows(thing, doc):
    """Rows of a table, `name  what it is`, that are no parameters; nor attributes, of a class."""
    names = {name for names in ROW.findall(prose(doc)) for name in names.split(", ")}
    names -= set(parameters(thing))
    if inspect.isclass(thing):
        names -= {
            name for base in thing.__mro__ for name in (*vars(base), *inspect.get_annotations(base))
        }
        names -= set(re.findall(r"\bself\.(\w+)", inspect.getsource(thing)))
    return sorted(f"{name}: no parameter" for name in names)


def style_faults(doc):
    """Of any docstring: a summary, and errors and names of this package that there are."""
    summary, _, rest = doc.partition("\n")
    found = [] if summary[-1:] in tuple(".?:)") and rest[:1] in ("", "\n") else ["summary"]
    unknown = set(re.findall(r"\b[A-Z]\w*Error\b", doc)) - set(ERRORS)
    found += [f"an error called {word}" for word in unknown]
    paths = re.findall(r"(?<![\w.])(?:tg|testing)(?:\.[^\W\d]\w*)+", doc)
    return found + [f"a name {path}" for path in dict.fromkeys(paths) if not resolves(path)]


def resolves(path):
    """Whether there is such a name: tg.optim.Optimizer."""
    first, *rest = path.split(".")
    try:
        return functools.reduce(getattr, rest, {"tg": tg, "testing": testing}[first]) is not None
    except AttributeError:
        return False


def shows(code, name):
    """Whether code uses a name; to be in a comment or a text is no use."""
    parts = [vars(node) for node in ast.walk(ast.parse(code))]
    return any(name in (part.get("id"), part.get("attr"), part.get("name")) for part in parts)


def method_faults(name, cls, thing, inside=INSIDE):
    """What a method lacks. One line is enough for a property, for what ndarrays have, and for what
    a base explains; all others are shown, here or in the example of a class that has them."""
    thing = getattr(thing, "__func__", thing)  # of a classmethod, a staticmethod
    doc, key = docstring(thing), name.split(".")[-1]
    if not doc:
        return ["docstring"]
    found = style_faults(doc)
    explained = any(key in vars(base) for base in cls.__mro__[1:] if ours(base))
    if isinstance(thing, PROPERTIES) or hasattr(np.ndarray, key) or explained or name in inside:
        return found
    whole = docstring(cls)
    codes = [example(doc), *(example(docstring(c)) for c in CLASSES if issubclass(c, cls))]
    if key != "__call__" and not any(shows(code, key) for code in codes):
        found.append("example")
    if parameters(thing) and not RAISES.search(" ".join(f"{doc} {whole}".split())):
        found.append("errors")
    return found + untold(thing, f"{doc}\n{prose(whole)}") + wrong_rows(thing, doc)


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_is_whole(name):
    assert faults(name, NAMES[name]) == []


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_explained(name):
    assert method_faults(name, *METHODS[name]) == []


LINES = {f"laws.{law}": getattr(laws, law) for law in laws.__all__}
LINES |= {f"rules.{n}": f for n, f in vars(tg.rules).items() if made_in(tg.rules, f, n)}


@pytest.mark.parametrize("name", sorted(MODULES | LINES))
def test_modules_laws_and_rules_say_what_they_are(name):
    assert style_faults(docstring((MODULES | LINES)[name])) == []


@pytest.mark.parametrize("name", MODULES)
def test_the_files_that_a_module_speaks_of_are_there(name):
    there = {path.name for path in Path(tg.__file__).parent.rglob("*.py")}
    assert set(re.findall(r"\w+\.py\b", docstring(MODULES[name]))) <= there


def test_the_version_is_that_of_the_package():
    file = ROOT / "pyproject.toml"
    if not file.exists():
        pytest.skip("no pyproject.toml beside the tests")
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    assert project["version"] == tg.__version__


@pytest.mark.parametrize("name", [*NO_DOCSTRING, *NO_SHAPES, *INSIDE])
def test_exceptions_are_needed(name):
    """No list above names what is not there, or what has all that it is excused from."""
    if name in NO_DOCSTRING:
        if name in ALL_METHODS:
            assert method_faults(name, *ALL_METHODS[name])
        else:
            assert not callable(EVERYTHING[name]) or faults(name, EVERYTHING[name])
    elif name in INSIDE:
        assert method_faults(name, *METHODS[name], inside=())
    if name in NO_SHAPES:
        assert "shapes" in faults(name, NAMES[name], no_shapes=())


GOOD = """Double an array.

    double(np.ones(2))      # array([2., 2.])

x  of any shape
Raises TypeError for text.
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", []),
        ("Double an array.\n", "Double\nan array.\n", ["summary"]),
        ("double(", "twice(", ["example"]),
        ("    double", "double", ["example"]),
        ("double(np.ones(2)) ", "np.ones(2)  # double", ["example"]),
        ("double(np.ones(2)) ", "'double' ", ["example"]),
        ("x  of any shape", "x  an array", ["shapes"]),
        ("x  of any shape", "x  (N, C)", []),
        ("x  of any shape", "Any shape.", ["parameter x"]),
        ("x  of any shape", "Any shape, as for mse.", ["parameter x"]),
        ("x  of any shape", "Any shape, as for `tg.sigmoid`.", []),
        ("x  of any shape", "x, y  of any shape", ["y: no parameter"]),
        ("Double an array.", "Half of tg.twice.", ["a name tg.twice"]),
        ("Raises TypeError", "TypeError", ["errors"]),
        ("TypeError", "TextError", ["an error called TextError"]),
        ("Raises TypeError for text.", "Raises nothing of its own.", []),
    ],
)
def test_faults_are_found(old, new, expected):
    def double(x):
        return 2 * x

    double.__doc__ = GOOD.replace(old, new, 1)
    assert faults("double", double) == expected
    double.__doc__ = None
    assert faults("double", double) == ["docstring"]


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (None, ["docstring"]),
        ("Turn it.", ["example", "errors", "parameter times"]),
        (
            "Turn it.\n\n    thing.turn(2)\n\nRaises NoError, many times.",
            ["an error called NoError"],
        ),
        ("Turn it.\n\n    thing.turn(2)\n\nRaises ValueError for 0.", ["parameter times"]),
        ("Turn it.\n\n    thing.turn(2)\n\nRaises ValueError for 0 times.", []),
        (
            "Turn it.\n\n    thing.turn(2)\n\ntimes  Raises ValueError for 0\nn  n",
            ["n: no parameter"],
        ),
    ],
)
def test_faults_of_methods_are_found(doc, expected):
    class Thing:
        def turn(self, times):
            return self

        copy = turn  # as ndarray's

    Thing.turn.__doc__ = doc
    assert method_faults("Thing.turn", Thing, Thing.turn) == expected
    Thing.copy.__doc__ = "Turn it."
    assert method_faults("Thing.copy", Thing, Thing.copy) == []


def test_methods_of_all_kinds_are_found():
    class Thing:
        @classmethod
        def made(cls):
            return cls()

        @staticmethod
        def plain(x):
            return x

        @functools.cached_property
        def once(self):
            return 1

    Thing.__module__, Thing.__qualname__ = "tinygrad_rnn.things", "Thing"
    found = methods([Thing])
    assert list(found) == ["things.Thing.made", "things.Thing.plain", "things.Thing.once"]
    assert [method_faults(name, *pair) for name, pair in found.items()] == [["docstring"]] * 3
    Thing.plain.__doc__ = "It is."
    assert method_faults("plain", *found["things.Thing.plain"]) == [
        "example",
        "errors",
        "parameter x",
    ]


@pytest.mark.parametrize(
    ("second", "runs"), [("assert 1 == 2", True), ("x  a table\ny  of names", False)]
)
def test_a_second_block_is_an_example_where_it_is_python(second, runs):
    doc = f"What.\n\n    1 + 1     # 2\n\nMore:\n\n    {second}\n\nEnd."
    assert (second in example(doc), second in prose(doc)) == (runs, not runs)


# ----- the API reference -------------------------------------------------------------------------


def words(text):
    return " ".join(re.findall(r"\w+", text))


def test_the_api_reference_has_every_public_name_with_its_docstring(tmp_path):
    pytest.importorskip("pdoc")
    command = [sys.executable, str(ROOT / "docs" / "api.py"), str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    shown = {path: words(html.unescape(re.sub("<.*?>", "", page))) for path, page in pages.items()}
    for name, thing in NAMES.items():
        place, _, last = re.sub("^tg|^(?=testing)", "tinygrad_rnn.", name).rpartition(".")
        path = tmp_path / f"{place.replace('..', '.').strip('.').replace('.', '/')}.html"
        assert f'<section id="{last}">' in pages[path]
        assert words(docstring(thing)) in shown[path], name
    for path, page in pages.items():
        for file, part in re.findall(r'href="([\w./]*)#([\w.]+)"', page):
            there = pages[(path.parent / file).resolve() if file else path]
            assert f'id="{part}"' in there, f"{path.name}: {file}#{part}"
