"""The README's code, and that of the guides, runs and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "count"), [("README.md", 8), ("docs/gradient-testing.md", 5), ("docs/bptt.md", 5)]
)
def test_every_block_prints_what_its_comments_say(name, count, rule_of):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert len(blocks) == count
    names: dict = {}
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), np.printoptions(legacy=False):
            exec(block, names)
        expected = re.findall(r"^ *print\(.*\)\s+# (.*)$", block, re.MULTILINE)
        assert printed.getvalue().splitlines() == expected


def test_the_first_example_is_as_short_as_it_says():
    block = re.search(r"## Twelve lines\n\n```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in block[1].splitlines() if line]) == 12


@pytest.mark.parametrize("name", re.findall(r"`([\w./]+\.(?:py|md))`", README))
def test_files_that_the_readme_names_exist(name):
    assert (ROOT / name).exists() or (ROOT / "tinygrad_rnn" / name).exists()
