"""What the subcommands share: a call on the shell, `'path/to/file.py:MyCell(3, 4)'`.

The file is loaded, the call is evaluated in its names, and errors become one line: `run`. Numbers
that options take are read by `count`, `seed` and `widths`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .errors import TinygradError

INPUTS = "the width of x; its widths, as 3,1, where x is a tuple; default: the cell's .inputs"


class UsageError(TinygradError, ValueError):
    """The command line says something that cannot be done."""


def run(command: str, text: str, example: str, work: Callable[[str, ModuleType], int]) -> int:
    """Load the file that the text names, and let work(call, module) do its part: an exit status.

    run("draw", "cell.py:MyCell(3, 4)", "...", lambda call, module: 0)

    Errors are one line on stderr, with an example where the command line is wrong, and with the
    user's own line where that raised. All give 2.
    """

    def loading() -> int:
        place, call = split(text)
        with loaded(place) as module:
            return work(call, module)

    return reported(command, example, loading)


def reported(command: str, example: str, work: Callable[[], int]) -> int:
    """Do a command's work, and tell its errors: see `run`."""
    try:
        return work()
    except UsageError as error:
        print(f"{command}: {error}. Expected, for example: {example}", file=sys.stderr)
    except TinygradError as error:
        print(f"{command}: {type(error).__name__}: {error}", file=sys.stderr)
    except BrokenPipeError:
        raise  # no error of the command: __main__ ends it
    except Exception as error:
        said = " ".join(str(error).split())
        print(f"{command}: {type(error).__name__}: {said}{_where(error)}", file=sys.stderr)
    return 2


def _where(error: Exception) -> str:
    """The last of the user's own lines on the way to an error, in brackets."""
    ours = (str(Path(__file__).parent), str(Path(np.__file__).parent), "<")
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if frame.line and not frame.filename.startswith(ours)]
    return f" ({users[-1].filename}, line {users[-1].lineno}: {users[-1].line})" if users else ""


def count(text: str, least: int = 1) -> int:
    """The number that an option takes, 1 or more.

    count("3")      # 3
    """
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, {least} or more")
    return int(text)


def seed(text: str) -> int:
    """A seed, 0 or more.

    seed("0")      # 0
    """
    return count(text, 0)


def widths(text: str) -> Any:
    """The width of x, or its widths where x is a tuple of arrays.

    widths("3,1")      # (3, 1)
    """
    found = tuple(map(count, text.split(",")))
    return found if len(found) > 1 else found[0]


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
        raise UsageError(f"there is no file {place}")
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
        raise UsageError(f"{name!r} is no file and no module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise UsageError(f"there is no module {name} that can be imported from here") from None


def constructed(call: str, module: ModuleType) -> Any:
    """What a call gives that is written as in the module's own code."""
    _, f, args, kwargs = called(call, module)
    return f(*args, **kwargs)


def called(call: str, module: ModuleType, **extra: Any) -> tuple[str, Any, Any, Any]:
    """A function's name, the function, its positional arguments and its keywords."""
    try:
        node = ast.parse(call.strip(), mode="eval").body
    except SyntaxError:
        node = None
    if not isinstance(node, ast.Call):
        raise UsageError(f"{call!r} is not a call")
    text = ast.unparse(node.func)
    known = {"np": np, "tg": sys.modules[__package__], **extra}
    try:
        f, args, kwargs = _evaluated(node, known | vars(module))
    except (NameError, AttributeError) as error:
        raise UsageError(
            f"{error}; known are the names of {module.__name__}, and {', '.join(known)}"
        ) from None
    if not callable(f):
        raise UsageError(f"{text} is a {type(f).__name__}, not a function")
    return text, f, args, kwargs


def _evaluated(node: ast.Call, names: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The function, its positional arguments, and its keywords."""
    names["(arguments)"] = lambda *args, **kwargs: (args, kwargs)  # no name in code is like that
    collect = ast.copy_location(ast.Name("(arguments)", ast.Load()), node)
    arguments = ast.copy_location(ast.Call(collect, node.args, node.keywords), node)
    f, (args, kwargs) = (
        eval(compile(ast.Expression(part), "the call", "eval"), names)
        for part in (node.func, arguments)
    )
    return f, args, kwargs
