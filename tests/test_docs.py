"""README and docs: their code runs, prints what they say, quotes what is there; links resolve.

How a page writes code, by the words after the fence:

    ```python                runs, page by page in one namespace; what a line prints stands in
                             its comment, `print(x)  # 3`
    ```text output           what the block before it prints, line by line, where that is longer
    ```python output         the same, coloured
    ```python source FILE    lines of a file, as they are
    ```python not run        does not run here (needs another library, or minutes)
    ```sh                    for people; files that it names exist, `python -m tinygrad_rnn` has
                             the subcommand
    ```sh run                runs, in a folder that has the checkout's files
"""

import ast
import contextlib
import io
import itertools
import linecache
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = Path(tg.__file__).parent  # elsewhere where the package is installed without the checkout
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
)
FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
TRANSLATED = [page for page in PAGES if page.endswith(".ja.md")]


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """Pairs of what stands after the fence, and the code."""
    return FENCED.findall(read(page))


def printed(code, names, file):
    """What it prints. Its lines are known by `file`, as those of a reader's own file are."""
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), np.printoptions(legacy=False):
        exec(compile(code, file, "exec"), names)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def announced(code):
    return re.findall(r"^ *print\(.*\)\s+# (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_code_prints_what_the_page_says(page, rule_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    found = [*blocks(page), ("", "")]
    for number, ((kind, code), (next_kind, output)) in enumerate(itertools.pairwise(found), 1):
        if kind == "python":
            shown = next_kind in ("text output", "python output")
            expected = output.splitlines() if shown else announced(code)
            assert printed(code, names, f"block{number}.py") == expected, code


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    kinds = {re.sub("(?<=source ).*", "FILE", kind) for kind, _ in blocks(page)}
    known = "text|text output|python|python output|python source FILE|python not run|sh|sh run"
    assert kinds <= set(known.split("|"))
    assert read(page).count("```") == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_quoted_lines_are_in_the_file(page):
    for kind, code in blocks(page):
        if kind.startswith("python source "):
            file = kind.removeprefix("python source ")
            text = (PACKAGE.parent / file).read_text(encoding="utf-8")
            assert code in text, f"not in {file}:\n{code}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
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


def anchor(heading):
    """As GitHub makes it: lower case, no punctuation, spaces to hyphens."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    text = FENCED.sub("", read(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, part = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", FENCED.sub("", read(path)), re.MULTILINE)
            assert part in map(anchor, headings), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    text = read(page)
    named = re.findall(r"`([\w./-]+\.(?:py|md|svg|csv|toml))`", text)
    named += re.findall(r"python3? ((?:examples|benchmarks|docs|tests)/[\w./]+\.py)", text)
    places = (ROOT, PACKAGE.parent, PACKAGE, (ROOT / page).parent)
    houses = [path for path in PACKAGE.iterdir() if path.is_dir()]
    for name in named:
        own = name.startswith(("my_", "path/"))  # the reader's own file
        assert own or any((place / name).exists() for place in (*places, *houses)), name


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_same_code_and_pictures(page):
    original = page.replace(".ja.md", ".md")
    here, there = (
        [
            (kind, ast.dump(ast.parse(code)) if kind == "python" else code, announced(code))
            for kind, code in blocks(name)
            if not kind.startswith("sh")
        ]
        for name in (page, original)
    )
    assert here == there
    headings, pictures = "^(#+) ", r"!\[.*\]\((.*?)(?:\.ja)?\.svg\)"
    for pattern in (headings, pictures):
        here, there = (
            re.findall(pattern, FENCED.sub("", read(name)), re.MULTILINE)
            for name in (page, original)
        )
        assert here == there


@pytest.mark.parametrize("name", ["README.md"])
def test_the_first_example_is_as_short_as_it_says(name):
    code = next(code for kind, code in blocks(name) if kind == "python")
    assert len([line for line in code.splitlines() if line]) == 12
