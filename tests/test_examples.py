"""Every example runs, in the short form that it has for tests, and does what its header says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
import table  # noqa: E402

TABLE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
DATA = os.environ.get("EXAMPLES_DATA", ".")  # where archives were downloaded to
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run(name, *arguments, cwd):
    """What an example prints; it must end well."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_to_pytorch_and_back(tmp_path):
    pytest.importorskip("torch")
    printed = run("to_pytorch_and_back.py", "--quick", cwd=tmp_path)
    differences = [float(text) for text in re.findall(r"differ by (\S+)", printed)]
    assert len(differences) == 2
    assert max(differences) < 1e-12
    losses = [float(text) for text in re.findall(r"loss (\S+)", printed)]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("name", table.NAMES)
def test_every_task_runs_in_short(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=DATA, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
    )
    if "the data of this example" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    figures = re.findall(r"^figure: .+ (\S+)$", done.stdout, re.MULTILINE)
    assert figures
    assert np.isfinite([float(text) for text in figures]).all()
    pictures = re.findall(r"^picture: (.+)$", done.stdout, re.MULTILINE)
    assert pictures
    for path in pictures:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", table.NAMES)
def test_every_header_says_what_the_table_needs(name):
    told = table.header(name)
    assert set(told) == {"Task", "Data", "Expect"}
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert re.search(r"^Time: .*\d", source, re.MULTILINE)
    assert source.count("\n# %% ") >= 3
    row = next(line for line in TABLE.splitlines() if line.startswith(f"| `{name}.py`"))
    for text in told.values():
        assert text.replace("|", "/") in row, f"run python examples/table.py {name}"


def test_custom_cell(tmp_path):
    printed = run("custom_cell.py", "--quick", cwd=tmp_path)
    assert "PASS" in printed
    first, last = (float(line.split()[5]) for line in printed.splitlines()[-5::4])
    assert last < first


def test_own_rules(tmp_path):
    printed = run("own_rules.py", cwd=tmp_path)
    assert [line.split()[-1] for line in printed.splitlines()] == ["PASS"] * 6
