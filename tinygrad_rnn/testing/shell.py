"""check_grads on the shell: `python -m tinygrad_rnn check 'file.py:f(np.ones(3))'`."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..cells import Cell
from ..errors import TinygradError
from .cells import check_cell
from .checks import grad_report
from .report import GradientError

EXAMPLE = "python -m tinygrad_rnn check 'cell.py:step(np.ones(3), h=np.zeros(4))'"
FLAGS: dict[str, tuple[Any, str]] = {
    "rtol": (float, "relative tolerance"),
    "seed": (int, "of the random directions and cotangents"),
    "order": (int, "2: the gradient's own gradient, too"),
    "oracle": (str, "numeric derivatives: auto, ladder, complex or both"),
    "directions": (lambda text: int(text) if text.isdigit() else text, "a number, or all"),
    "name": (str, "what the report calls the function"),
}


class UsageError(TinygradError, ValueError):
    """The command line says something that cannot be checked."""


def main(argv: list[str]) -> int:
    """Check one call, print the report. 0: right; 1: wrong or inconclusive; 2: nothing checked.

    main(["cell.py:step(np.ones(3))"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn check",
        description="Check the gradient of a function by numeric derivatives.",
        epilog=f"Example: {EXAMPLE}. Exit status: 0 right, 1 wrong or inconclusive, 2 not checked.",
    )
    parser.add_argument(
        "call",
        help="'path/to/file.py:f(np.ones(3))' or 'package.module:f(np.ones(3))', quoted: a call "
        "in the names of that file, and np, tg, testing. Float arrays among the positional "
        "arguments are checked, keywords are passed on",
    )
    for flag, (kind, text) in FLAGS.items():
        parser.add_argument(f"--{flag}", type=kind, default=argparse.SUPPRESS, help=text)
    options = vars(parser.parse_args(argv))
    place, call = split(options.pop("call"))
    try:
        with loaded(place) as module:
            report = check(call, module, options)
    except TinygradError as error:
        print(f"check: {one_line(error)}", file=sys.stderr)
        return 2
    except Exception:  # of the user's own lines: the traceback shows where
        traceback.print_exc()
        return 2
    print(report.text())
    return 0 if report.ok else 1


def one_line(error: TinygradError) -> str:
    """An error of ours for the shell; what was asked wrongly needs no class name.

    one_line(UsageError("no such file"))      # 'no such file'
    """
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"


def split(text: str) -> tuple[str, str]:
    r"""The file or module, and the call: a drive's colon (C:\cell.py:f(1.0)) is no separator."""
    head, separator, call = text.rpartition(".py:")
    if separator:
        return f"{head}.py", call
    head, _, call = text.partition(":")
    return head, call


@contextmanager
def loaded(place: str) -> Iterator[ModuleType]:
    """The module of a file or of that name; while it is used, the file's folder is importable."""
    path = Path(place)
    if path.suffix == ".py" and not path.is_file():
        raise UsageError(f"there is no file {place}. Expected, for example: {EXAMPLE}")
    before = list(sys.path)
    try:
        if path.suffix == ".py":
            sys.path.insert(0, str(path.parent.resolve()))
            yield _run(path)
        else:
            yield _imported(place)
    finally:
        sys.path[:] = before


def _run(path: Path) -> ModuleType:
    """A file as a module: not __main__, so that what it does when run as a script is not done."""
    name = path.stem if path.stem not in sys.modules else f"{path.stem} (checked)"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _imported(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is no file and no module. Expected, for example: {EXAMPLE}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise UsageError(
            f"there is no module {name}. Expected a module that can be imported from here, or a "
            f"file: {EXAMPLE}"
        ) from None


def check(call: str, module: ModuleType, options: dict[str, Any]) -> Any:
    """The report for a call that is written as in the module's own code."""
    text, f, args, kwargs = _called(call, module)
    if isinstance(f, type) and issubclass(f, Cell):
        try:
            return check_cell(lambda: f(*args, **kwargs))
        except GradientError as error:
            return error.report
    return grad_report(_with_keywords(f, kwargs), *args, **{"name": text, **options})


def constructed(call: str, module: ModuleType) -> Any:
    """What a call gives that is written as in the module's own code."""
    _, f, args, kwargs = _called(call, module)
    return f(*args, **kwargs)


def _called(call: str, module: ModuleType) -> tuple[str, Any, Any, Any]:
    """A function's name, the function, its positional arguments and its keywords."""
    try:
        node = ast.parse(call.strip(), mode="eval").body
    except SyntaxError:
        node = None
    if not isinstance(node, ast.Call):
        raise UsageError(f"{call!r} is not a call. Expected, for example: {EXAMPLE}")
    text = ast.unparse(node.func)
    package, _, _ = __package__.partition(".")
    tg, testing = sys.modules[package], sys.modules[__package__]
    names = {"np": np, "tg": tg, "testing": testing, **vars(module)}
    f, args, kwargs = _evaluated(node, names, module)
    if not callable(f):
        raise UsageError(f"{text} is a {type(f).__name__}, not a function")
    return text, f, args, kwargs


def _evaluated(node: ast.Call, names: dict[str, Any], module: ModuleType) -> tuple[Any, Any, Any]:
    """The function, its positional arguments, and its keywords."""
    names["(arguments)"] = lambda *args, **kwargs: (args, kwargs)  # no name in code is like that
    collect = ast.copy_location(ast.Name("(arguments)", ast.Load()), node)
    arguments = ast.copy_location(ast.Call(collect, node.args, node.keywords), node)
    try:
        f, (args, kwargs) = (
            eval(compile(ast.Expression(part), "the call", "eval"), names)
            for part in (node.func, arguments)
        )
    except (NameError, AttributeError) as error:
        raise UsageError(
            f"{error}. Expected names of {module.__name__}, np, tg and testing, as in: {EXAMPLE}"
        ) from None
    return f, args, kwargs


def _with_keywords(f: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """f with its keywords; a closure, in which the check finds f if it is a Module."""
    return wraps(f, updated=())(lambda *args: f(*args, **kwargs)) if kwargs else f
