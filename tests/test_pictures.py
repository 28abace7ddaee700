"""The pictures of README and docs are those that the code makes, and pages show them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from svg_layout import problems

ROOT = Path(__file__).parent.parent
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))


def test_the_pictures_are_up_to_date():
    command = [sys.executable, str(ROOT / "docs" / "pictures.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "all pictures are as made\n")


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_nothing_overlaps_in_them(path):
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", ["README.md", "docs/bptt.md"])
def test_pages_show_pictures_that_exist_and_say_what_they_show(page):
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert shown
    for words, target in shown:
        assert len(words) > 10
        assert ((ROOT / page).parent / target).exists()
