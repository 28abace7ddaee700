"""Promises to readers: imports run one way, sizes hold."""

import ast
import io
import tokenize
from inspect import ismodule
from pathlib import Path

import pytest

import tinygrad_rnn as tg

PACKAGE = Path(tg.__file__).parent

# Bottom first: a file imports only from those before it.
ORDER = """
    errors nests arrays vjp record primitives graph tensor differentiate rules composed functions
    losses init module cells wrappers zoo streaming given scan recurrent exchange optim train unfold
    shell canvas insight figures files onnx_model testing charmodel report demo info __main__
    __init__
""".split()  # noqa: SIM905

LIMITS = {
    "engine": (["tensor.py", "graph.py"], 400),
    "rules": (["rules.py"], 500),
    "composed": (["composed.py"], 240),
    "below the engine": (["arrays.py", "vjp.py", "record.py", "primitives.py"], 280),
    "on the engine": (["differentiate.py"], 175),
    "wrappers": (["wrappers.py"], 200),
    "recurrent": (["cells.py", "recurrent.py"], 450),
    "streaming": (["streaming.py"], 60),
    "training": (["optim.py", "train.py"], 360),
    "files": (["files.py", "exchange.py", "onnx_model.py"], 680),
    "charmodel": (["charmodel.py"], 260),
    "insight": (["given.py", "unfold.py", "insight.py"], 470),
    "canvas": ([f"canvas/{name}.py" for name in ("pen", "charts", "page", "words")], 1000),
    "figures, networks": (
        [f"figures/{name}.py" for name in ("lanes", "measured", "grid", "unrolled")],
        1040,
    ),
    "figures, cells and graphs": (
        [f"figures/{name}.py" for name in ("parts", "layered", "graph", "cell", "tasks")],
        1180,
    ),
    "scan, the program": (["scan/trace.py", "scan/forms.py", "scan/fission.py"], 800),
    "scan, the text": (["scan/places.py", "scan/emit.py", "scan/show.py"], 800),
    "scan, the run": (["scan/plan.py", "scan/run.py", "scan/loop.py"], 660),
}


def files():
    return sorted(PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_run_one_way():
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            outside = node.level == len(path.relative_to(PACKAGE).parts)
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names if outside else []:
                target = name.split(".")[0]
                assert ORDER.index(target) < ORDER.index(room(path)), f"{path.name} imports {name}"
                if target == "testing":
                    assert room(path) in ("demo", "__main__")


def test_every_file_has_its_place_in_the_order():
    assert {room(path) for path in files()} <= set(ORDER)


def code_lines(path):
    """Lines of code: no blanks, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    docs = set()
    for node in ast.walk(ast.parse(text)):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            docs.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    skipped = (
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE,
        tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    )  # fmt: skip
    used = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used - docs)


@pytest.mark.parametrize("name", LIMITS)
def test_size_promise(name):
    parts, limit = LIMITS[name]
    total = sum(code_lines(PACKAGE / part) for part in parts)
    assert total <= limit, f"{name}: {total} lines of code, {limit} promised"


ALLOWED = {
    "strategies.py": "hypothesis",
    "properties.py": "hypothesis",
    "pytest_plugin.py": "pytest",
}


def test_only_numpy_and_the_standard_library_are_imported():
    import sys

    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                root = name.split(".")[0]
                known = root == "numpy" or root in sys.stdlib_module_names
                assert known or ALLOWED.get(path.name) == root, f"{path.name}: {name}"


def test_all_lists_exactly_what_is_imported():
    public = {name for name, value in vars(tg).items() if name[0] != "_" and not ismodule(value)}
    assert sorted(tg.__all__) == sorted(public | {"errors", "init", "rules", "zoo"})
