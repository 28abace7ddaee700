"""Coverage by rooms, to be run after `python -m pytest --cov=tinygrad_rnn --cov-branch`.

Missing are lines, and branches that were never taken (12->15). The exit status is 1 where engine,
recurrent or scan is below 98 %, of its branches or of lines and branches together. What no test
reaches, and why, is at the end of docs/architecture.md.
"""

import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from coverage import Coverage, CoverageException

LEAST = 98
CORE = {"scan": "scan", "recurrent": "cells wrappers streaming given recurrent"}
CORE["engine"] = """errors nests arrays vjp record primitives graph tensor differentiate rules
                    composed functions losses init module"""
KEYS = "covered_lines", "covered_branches", "num_statements", "num_branches"
data, sums, missing = Coverage(), defaultdict(Counter), defaultdict(list)
data.load()
with tempfile.TemporaryDirectory() as folder:
    try:
        data.json_report(outfile=f"{folder}/report.json")
    except CoverageException as error:
        sys.exit(f"{error} First: python -m pytest --cov=tinygrad_rnn --cov-branch")
    files = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))["files"]
for path, file in files.items():
    name = path.replace("\\", "/").partition("tinygrad_rnn/")[2]
    first, lines = name.split("/")[0].removesuffix(".py"), file["missing_lines"]
    room = next((room for room, names in CORE.items() if first in names.split()), first)
    lines = lines + [f"{a}->{b}" for a, b in file["missing_branches"] if b not in lines]
    missing[room] += [f"{name} {', '.join(map(str, lines))}"] if lines else []
    sums[room].update({key: file["summary"][key] for key in KEYS})
few = not set(CORE) <= set(sums)
print(f"{'room':12} {'all':>8} {'branches':>8}  missing")
for room in sorted(sums, key=lambda room: (room not in CORE, room)):
    lines, branches, statements, ways = (sums[room][key] for key in KEYS)
    pairs = (lines + branches, statements + ways), (branches, ways)
    every, forks = (100 * done / total if total else 100.0 for done, total in pairs)
    few |= room in CORE and min(every, forks) < LEAST
    print(f"{room:12} {every:6.2f} % {forks:6.2f} %  {'; '.join(missing[room])}")
sys.exit(few)
