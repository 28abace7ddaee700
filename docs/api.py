"""The API reference, made of the docstrings by pdoc: `python docs/api.py` writes api/index.html."""

import ast
import re
import sys
import warnings
from importlib import import_module
from itertools import groupby, takewhile
from pathlib import Path
from textwrap import dedent

import pdoc

PAGES = {  # module -> what it shows beside its __all__; * is all that is made there
    **dict.fromkeys(["init", "errors", "testing.strategies"], "*"),
    **dict.fromkeys(["rules", "testing.laws", "testing.mutants"], ""),
    "zoo": "* _Gated",
    "recurrent": "Layer Layers",
    "wrappers": "Wrapper",
    "optim": "Optimizer",
    "insight": "Contributions Flow Jacobians Sensitivity",
    "vjp": "Rule",
    "canvas.pen": "Figure",
    "canvas": "pen",
    "testing": "grad_property strategies",
    "": "testing recurrent wrappers optim insight vjp canvas",
}
STAGE = "In examples np is NumPy, tg is tinygrad_rnn, x an array (5, 2, 3) that rnn and model take."
FORMULA = re.compile(r"[^.:]{1,30}? = |.*;  ")
ROW = re.compile(r"(\S.*?)  +(\S.*)", re.DOTALL)  # a term, and what it is


def show(page, names):
    """Tell pdoc what to show of a module."""
    module = import_module(f"tinygrad_rnn.{page}".rstrip("."))
    made = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
    made = [v.__name__ for v in made if v.__name__[0] != "_"]
    if page == "errors":  # its functions make the engine's errors
        made = [name for name in made if name[0].isupper()]
    names = names.replace("*", " ".join(made)).split()
    module.__all__ = [*getattr(module, "__all__", ()), *names]
    for name in module.__all__:
        vars(module).setdefault(name, getattr(module, name))  # some are made when asked for


def markdown(docstring, *_):
    """Examples as Python, the rest paragraph by paragraph."""
    summary, *rest = docstring.split("\n\n")
    parts = [prose(summary)]
    for example, group in groupby(rest, lambda block: block.startswith("    ")):
        blocks = list(group)
        parts += [fenced(dedent("\n\n".join(blocks)))] if example else map(paragraph, blocks)
    return "\n\n".join(parts)


def paragraph(block):
    """Formulas as they are; terms and what they are as a list; prose."""
    lines = joined(re.sub(r"(?<=\S) {3,}(?=\w+  +\S)", "\n", block).split("\n"))
    formulas = list(takewhile(FORMULA.match, lines))
    parts = [fenced("\n".join(formulas))] if formulas else []
    for listed, group in groupby(lines[len(formulas) :], lambda line: bool(ROW.match(line))):
        run = list(group)
        parts.append("\n".join(map(row, run)) if listed else prose(" ".join(run)))
    return "\n\n".join(parts)


def joined(lines):
    """A line that is set in belongs to the one before; each of several options has its own."""
    found = []
    for line in lines:
        if line.startswith(" "):
            option = found[-1].startswith("options ") and re.match(r" +\w+: ", line)
            found[-1] += ("  \n  " if option else " ") + line.strip()
        else:
            found.append(line)
    return found


def row(line):
    term, text = ROW.fullmatch(line).groups()
    return f"* **{prose(term)}** {prose(text)}"


def prose(text):
    """What Markdown would read as marks, apart from `code`, stays what it is."""
    return re.sub(r"`.*?`|[*<]", lambda m: {"*": r"\*", "<": "&lt;"}.get(m[0], m[0]), text)


def fenced(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return f"```text\n{text}\n```"
    return f"```python\n{text}\n```"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Error parsing type annotation")  # of NamedTuples
    for page, names in PAGES.items():
        show(page, names)
    pdoc.docstrings.convert = markdown
    pdoc.render.configure(footer_text=STAGE)
    pdoc.pdoc(
        "tinygrad_rnn", "!.*(diagnose|locate)$", output_directory=Path(*sys.argv[1:] or ["api"])
    )
