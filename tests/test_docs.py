"""README and docs: their code runs, prints what they say, quotes what is there; links resolve.

How a page writes code, by the words after the fence:

    ```python                runs, page by page in one namespace; what a line prints stands in
                             its comment, `print(x)  # 3`
    ```text output           what the block before it prints, line by line, where that is longer
    ```python output         the same, coloured
    ```python source FILE    lines of a file, as they are
    ```python not run        runs only where all that it imports is installed
    ```sh                    for people; the files, subcommands and options that it names exist
    ```sh run                runs, in a folder that has the checkout's files

What does not run everywhere is listed in NOT_RUN.
"""

import ast
import builtins
import contextlib
import importlib.util
import io
import itertools
import linecache
import operator
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from test_structure import LIMITS, ORDER

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = Path(tg.__file__).parent  # elsewhere where the package is installed without the checkout
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
)
FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
TRANSLATED = ["README.ja.md", "docs/from-the-tutorials.ja.md"]
NOT_RUN = {
    "CONTRIBUTING.md": ["sh"],
    "README.md": ["sh", "sh"],
    "README.ja.md": ["sh", "sh"],
    "docs/cells.md": ["sh", "python not run"],
    "docs/notation.md": ["python not run", "python not run"],
    "docs/testing.md": ["python not run", "text"],
    "docs/training.md": ["sh", "python not run"],
}


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """Pairs of what stands after the fence, and the code."""
    return FENCED.findall(read(page))


def prose(page):
    return FENCED.sub("", read(page))


def printed(code, names, file):
    """What it prints. Its lines are known by `file`, as those of a reader's own file are."""
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), np.printoptions(legacy=False):
        exec(compile(code, file, "exec"), names)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def announced(code):
    return re.findall(r"^ *print\(.*\)\s+# (.*)$", code, re.MULTILINE)


def runs(kind, code):
    importlib.invalidate_caches()
    modules = re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
    return kind == "python" or (
        kind == "python not run" and all(map(importlib.util.find_spec, modules))
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of Keras on PyTorch
@pytest.mark.parametrize("page", PAGES)
def test_code_prints_what_the_page_says(page, rule_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # files that the page writes can be imported
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # it writes a file there
    names: dict = {}
    found = [*blocks(page), ("", "")]
    for number, ((kind, code), (next_kind, output)) in enumerate(itertools.pairwise(found), 1):
        if runs(kind, code):
            shown = next_kind in ("text output", "python output")
            expected = output.splitlines() if shown else announced(code)
            assert printed(code, names, f"block{number}.py") == expected, code


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    kinds = {re.sub("(?<=source ).*", "FILE", kind) for kind, _ in blocks(page)}
    known = "text|text output|python|python output|python source FILE|python not run|sh|sh run"
    assert kinds <= set(known.split("|"))
    assert read(page).count("```") == 2 * len(blocks(page))
    assert not re.search(r"^~~~|<pre\b", read(page), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_what_does_not_run_is_listed(page):
    not_run = [kind for kind, _ in blocks(page) if kind in ("sh", "text", "python not run")]
    assert not_run == NOT_RUN.get(page, [])


@pytest.mark.parametrize("page", PAGES)
def test_quoted_lines_are_in_the_file(page):
    for kind, code in blocks(page):
        if kind.startswith("python source "):
            file = kind.removeprefix("python source ")
            text = (PACKAGE.parent / file).read_text(encoding="utf-8")
            assert code in text, f"not in {file}:\n{code}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OPENBLAS_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for kind, code in blocks(page):
        if kind == "sh run":
            for name in ("examples", "benchmarks", "docs", "tests"):
                if not (tmp_path / name).exists():
                    shutil.copytree(ROOT / name, tmp_path / name)
            run = subprocess.run(
                ["sh", "-e", "-c", code],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, f"{code}\n{run.stdout}\n{run.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_subcommands_exist(page):
    text = re.sub("^```text.*\n(?:.*\n)*?```$", "", read(page), flags=re.MULTILINE)
    for word in re.findall(r"python3? -m tinygrad_rnn\s+([a-z]\S*)`?", text):
        assert word.rstrip("`,.;:)") in COMMANDS


COMMAND = re.compile(r"python3? (-m tinygrad_rnn|\w+/\w+\.py)([^`]*?)(?=python|`)")


def program(name, arguments):
    """The text of the program that a command starts."""
    word, *_ = arguments.split() or [""]
    room, *_ = COMMANDS.get(word, ["__main__"])
    own = PACKAGE / f"{room.replace('.', '/')}.py"
    file = own if name == "-m tinygrad_rnn" else ROOT / name
    files = [file, file.parent / "common.py"]  # of the examples
    return "".join(path.read_text(encoding="utf-8") for path in files if path.exists())


def knows(text, option):
    in_a_call, in_a_table = rf'\(\s*"--{option}"', f'^ *"{option}": '
    return option == "help" or re.search(f"{in_a_call}|{in_a_table}", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_a_command_knows_its_options(page):
    for name, arguments in COMMAND.findall(read(page)):
        for option in re.findall(r"(?<!\S)--([\w-]+)", arguments):
            assert knows(program(name, arguments), option), f"{name}{arguments}"


@pytest.mark.parametrize("page", PAGES)
def test_an_option_named_alone_is_known_to_a_program(page):
    folders = (PACKAGE, ROOT / "benchmarks", ROOT / "examples", ROOT / "docs")
    programs = [path.read_text(encoding="utf-8") for f in folders for path in f.rglob("*.py")]
    for option in re.findall(r"`--([\w-]+)", prose(page)):
        assert any(knows(text, option) for text in programs), option


@pytest.mark.parametrize("page", PAGES)
def test_extras_exist(page):
    project = tomllib.loads(read("pyproject.toml"))["project"]
    for extras in re.findall(r"\.\[([\w,]+)\]'", read(page)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def anchor(heading):
    """As GitHub makes it: lower case, no punctuation, spaces to hyphens."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def targets(page):
    """Of all links and pictures, but those in code. There is one way to write them."""
    text = re.sub("`[^`]*`", "", prose(page))
    assert not re.search(r"^\[[^]]+\]: |<(?:a|img)\s", text, re.MULTILINE)
    return re.findall(r"\]\(([^)]*)\)", text)


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    for target in targets(page):
        if target.startswith("https://"):
            continue
        file, _, part = target.partition("#")
        path = ((ROOT / page).parent / file if file else ROOT / page).resolve()
        assert path.exists(), target
        assert path.is_relative_to(ROOT.resolve()), target
        if part:
            headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
            assert part in map(anchor, headings), target


def test_links_lead_from_the_readme_to_every_page():
    reached, new = set(), {"README.md"}
    while new:
        reached |= new
        found = [(ROOT / page).parent / target for page in new for target in targets(page)]
        names = {os.path.relpath(path, ROOT).partition("#")[0] for path in found}
        new = (names & set(PAGES)) - reached
    assert set(PAGES) - reached == {"CHANGELOG.md"}  # known by its name


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`([\w./-]+(?:\.(?:py|md|svg|csv|toml)|/))`", read(page))
    places = (ROOT, PACKAGE.parent, PACKAGE, (ROOT / page).parent)
    houses = [path for path in PACKAGE.iterdir() if path.is_dir()]
    for name in named:
        own = name.startswith(("my_", "path/"))  # the reader's own file
        assert own or any((place / name).exists() for place in (*places, *houses)), name


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_exist(page):
    folders = r"(?:docs|tests|examples|benchmarks|tinygrad_rnn|\.ci)"
    for path in re.findall(rf"(?<![\w./-]){folders}/[\w./*-]*", read(page)):
        name = path.rstrip("./")  # of a sentence, of a folder
        assert any(ROOT.glob(name)) or any(PACKAGE.parent.glob(name)), path


@pytest.mark.parametrize("page", sorted({*PAGES} - {"CHANGELOG.md"}))  # it has names that are gone
def test_names_in_code_exist(page):
    spaces = {"tg": tg, "np": np, "testing": testing}
    for code in re.findall("`([^`]+)`", prose(page)):
        for space, name in re.findall(r"(?<![\w.])(tg|np|testing)\.([\w.]*\w)", code):
            operator.attrgetter(name)(spaces[space])
        for name in re.findall(r"^\w+Error$", code):
            assert any(hasattr(space, name) for space in (tg.errors, testing, builtins)), name


def test_the_translations_are_these():
    assert [page for page in PAGES if page.endswith(".ja.md")] == TRANSLATED


def both(page):
    """A translation and its original."""
    return page, page.replace(".ja.md", ".md")


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_same_code(page):
    here, there = (
        [
            (kind, ast.dump(ast.parse(code)) if kind == "python" else code, announced(code))
            for kind, code in FENCED.findall(read(name).replace(" --lang ja", ""))
        ]
        for name in both(page)
    )
    assert here == there


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_same_headings_and_pictures(page):
    for pattern in ("^(#+) ", r"!\[.*\]\((.*?)(?:\.ja)?\.svg\)"):
        here, there = (re.findall(pattern, prose(name), re.MULTILINE) for name in both(page))
        assert here == there
    assert read(page).count(".svg)") == read(page).count(".ja.svg)")


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_same_links_and_commands(page):
    for pattern in (r"\]\(([\w./:-]+)", "`(python [^`']*)"):
        here, there = (re.findall(pattern, prose(name).replace(".ja.", ".")) for name in both(page))
        assert sorted(here) == sorted(there)


def told(page):
    """The numbers, code and links of each row of its tables."""
    rows = re.findall(r"^\|.*", prose(page).replace(".ja.", "."), re.MULTILINE)
    return [sorted(re.findall(r"`[^`]+`|\]\([^)]*\)|\d[\d.,e-]*\d", row)) for row in rows]


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_same_rows_with_the_same_numbers_code_and_links(page):
    here, there = map(told, both(page))
    assert here == there


@pytest.mark.parametrize("name", ["README.md"])
def test_the_first_example_is_as_short_as_it_says(name):
    code = next(code for kind, code in blocks(name) if kind == "python")
    assert len([line for line in code.splitlines() if line]) == 12


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_the_sizes_promised_are_those_that_are_counted(page):
    promise = read(page).rpartition("tensor.py")[2]
    sizes = [LIMITS[name][1] for name in ("engine", "rules", "recurrent")]
    assert [int(number) for number in re.findall(r"\d+", promise)] == sizes


@pytest.mark.parametrize("page", ["README.md", "README.ja.md", "CHANGELOG.md"])
def test_as_many_cells_are_published_as_it_says(page):
    cells = [c for c in vars(tg.zoo).values() if getattr(c, "__module__", "") == tg.zoo.__name__]
    public = [cell for cell in cells if isinstance(cell, type) and cell.__name__[0] != "_"]
    count = re.search(r"(\d+) (?:published cells|種のセル)", read(page))
    assert int(count[1]) == len(public)


def test_the_rooms_of_the_architecture_are_those_of_the_order():
    table = read("docs/architecture.md").partition("## The rooms")[2].partition("\n## ")[0]
    files = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    rooms = re.findall(r"`(\w+)(?:\.py|/)`", " ".join(files))
    assert [*rooms, "__init__"] == ORDER


def measured(section):
    """The rows of the first table of that section of docs/performance.md, by its heads."""
    part = read("docs/performance.md").partition(f"## {section}\n")[2]
    table = re.findall(r"^\|.*", re.split(r"\|\n\n", part)[0], re.MULTILINE)
    heads, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def ratios(rows, name):
    return [float(row[name].rstrip("x")) for row in rows if row[name]]


def test_the_figures_of_the_readme_are_those_that_were_measured():
    rows = measured("The traced loop")
    cells = [[row for row in rows if row["cell"] == cell] for cell in ("tanh RNN", "GRU", "LSTM")]
    torch = [ratios(cell, "torch.nn") for cell in cells]
    jax = [ratios(cell, "JAX scan")[1:] for cell in cells]  # without the smallest size
    loop = ratios(measured("The eager tape"), "PyTorch loop")
    for figure in (
        ", ".join(f"{min(times):.1f} to {max(times):.1f}" for times in torch),
        ", ".join(f"{statistics.geometric_mean(times):.2f}" for times in jax),
        f"{min(loop):.2f} to {max(loop):.2f}",
    ):
        assert f"| {figure} times as fast |" in read("README.md")


@pytest.mark.parametrize("name", ["MyGrad", "autograd"])
def test_the_speeds_of_the_readme_are_those_that_were_measured(name):
    times = ratios(measured("The eager tape") + measured("The traced loop"), name)
    row = re.search(rf"^\| \[{name}\].*", read("README.md"), re.MULTILINE)[0]
    assert f"{min(times):.1f} to {max(times):.0f} times its speed" in row
