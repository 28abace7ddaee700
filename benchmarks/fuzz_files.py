"""Damaged weight files: what does tg.load do with them?

    python benchmarks/fuzz_files.py                    # 10,000 files, half a minute
    python benchmarks/fuzz_files.py --count 500 --seed 7

Each file is one that tg.save wrote, npz or safetensors, with one to three faults put in: bits
turned, bytes overwritten, left out or doubled, the end cut off or added to, numbers and words of
the header replaced (sizes, offsets, dtypes, names), or another file's half behind its own. It is
loaded into a module and as a dict. Counted are:

    refused     FileFormatError, and the module untouched
    harmless    loaded, and every array is as it was saved (the fault sits where nothing is kept)
    wrong       loaded, and something differs; or refused with the module changed
    crashed     any other exception

and measured are the longest time, and the most memory asked for beyond the file's own size. Exit
status 1 where anything was wrong or crashed, took a second, or asked for 1 MiB more than the file.
"""

import argparse
import random
import re
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.errors import FileFormatError

EXTREMES = [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"[" * 2000, b"PK\1\2", b"PK\5\6", b"{}"]
NUMBERS = [b"0", b"-1", b"1", b"7", b"96", b"999999999999", b"1e9", b"true", b"9" * 5000, b"null"]
WORDS = [b"F64", b"F32", b"I64", b"BF16", b"<f4", b"|O8", b">f8", b"data_offsets", b"shape", b""]


def make_model(seed):
    """Several names and shapes."""
    rng = np.random.default_rng(seed)
    return tg.Chain(tg.BiRNN(tg.GRUCell(2, 3, rng=rng), tg.LSTMCell(2, 3, rng=rng)),
                    tg.Linear(6, 1, rng=rng))  # fmt: skip


def other_arrays(seed):
    """Several dtypes, no axes and no elements."""
    rng = np.random.default_rng(seed)
    return {
        "λ": rng.normal(size=(2, 0, 3)), "steps": np.int64(rng.integers(99)),
        "half": rng.normal(size=5).astype(np.float16), "on": rng.random((2, 2)) < 0.5,
        "bytes": rng.integers(0, 255, 7, np.uint8), "f": np.asfortranarray(rng.normal(size=(2, 3))),
    }  # fmt: skip


def damaged(data, others, rng):
    """A copy of a file's bytes with one fault."""
    b, n = bytearray(data), len(data)
    at, end = sorted((rng.randrange(n), rng.randrange(n)))
    kind = rng.randrange(9)
    if kind == 0:
        b[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        b[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 2:
        del b[at : min(end, at + rng.choice([1, 8, 64, n]))]
    elif kind == 3:
        b[at:at] = b[at:end]
    elif kind == 4:
        b = b[: rng.randrange(n)] if rng.random() < 0.7 else b + rng.randbytes(rng.randrange(1, 99))
    elif kind == 5:
        extreme = rng.choice(EXTREMES)
        b[at : at + len(extreme) * rng.randrange(2)] = extreme
    elif kind == 6:
        return data[: rng.randrange(n)] + (o := rng.choice(others))[rng.randrange(1, len(o)) :]
    else:  # in the text: a number or a word becomes another one
        pattern, new = (rb"\d+", NUMBERS) if kind == 7 else (rb"[A-Za-z_<|]\w*", WORDS)
        found = rng.choice([*re.finditer(pattern, data), *re.finditer(b"^", data)])
        b[found.start() : found.end()] = rng.choice(new)
    return bytes(b)


def same(arrays, expected):
    """Names, dtypes, shapes and bits."""
    return arrays.keys() == expected.keys() and all(
        (a := arrays[k]).dtype == e.dtype and a.shape == e.shape and a.tobytes() == e.tobytes()
        for k, e in expected.items()
    )


def outcome(path, saved, module):
    """What loading a file once does; with a module, or None."""
    before = None if module is None else module.state_dict()
    try:
        loaded = tg.load(path) if module is None else tg.load(path, module).state_dict()
    except FileFormatError:
        untouched = module is None or same(module.state_dict(), before)
        return "refused" if untouched else "wrong"
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "crashed"
    return "harmless" if same(loaded, saved) else "wrong"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="files (default 10,000)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    rng, counts, longest, most = random.Random(arguments.seed), Counter(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        sources = []  # path, arrays, bytes, and whether a module takes them
        for suffix in ("npz", "safetensors"):
            for k, what in enumerate((make_model(0), other_arrays(0))):
                path = Path(folder, f"{k}.{suffix}")
                tg.save(path, what)
                sources.append((path, tg.load(path), path.read_bytes(), k == 0))
        tracemalloc.start()
        for number in range(arguments.count):
            path, saved, data, fits = sources[number % len(sources)]
            others, bad = [other[2] for other in sources], data
            for _ in range(rng.choice([1, 1, 2, 3])):
                bad = damaged(bad, others, rng) or data
            path.write_bytes(bad)
            for module in (None, make_model(1)) if fits else (None,):
                tracemalloc.clear_traces()
                start = time.perf_counter()
                result = outcome(path, saved, module)
                longest = max(longest, time.perf_counter() - start)
                most = max(most, tracemalloc.get_traced_memory()[1] - len(bad))
                counts[result] += 1
                if result in ("wrong", "crashed"):
                    Path(f"fuzz-{number}{path.suffix}").write_bytes(bad)
                    print(f"file {number}: {result}, kept as fuzz-{number}{path.suffix}")
    loads = sum(counts.values())
    print(f"{arguments.count:,} damaged files, {loads:,} loads (seed {arguments.seed})")
    for name in ("refused", "harmless", "wrong", "crashed"):
        print(f"  {name:9} {counts[name]:6,}")
    print(f"  longest load {longest * 1e3:.0f} ms, at most {most >> 10} KiB beyond the file's size")
    return int(counts["wrong"] + counts["crashed"] > 0 or longest > 1 or most > 1 << 20)


if __name__ == "__main__":
    sys.exit(main())
