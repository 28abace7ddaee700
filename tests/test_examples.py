"""Every example runs, in the short form that it has for tests, and does what its header says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
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
