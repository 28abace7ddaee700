"""Weights on disk: npz and safetensors, never pickle; a file is written whole, or not at all.

Both formats are a few named arrays and nothing that runs. A reader must trust no number in a file:
each size is compared with the file's own size before memory is asked for, and a file that differs
in anything is refused with a list of what differs, before a Parameter changes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np

from .arrays import unmasked
from .errors import FileFormatError
from .module import differences
from .tensor import Tensor
from .vjp import Array

Arrays = dict[str, np.ndarray]
PathLike = str | os.PathLike[str]

# The names that safetensors has for NumPy's dtypes; npz files keep to the same ones.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
CHECKSUM = "tinygrad_rnn.crc32"
CHUNK = 1 << 20
LONGEST = 100_000_000  # bytes of a safetensors header: the format's own limit
LOCAL_HEADER = 30  # bytes before each member of a zip archive: a gap this wide may hide one


def save(path: PathLike, module: Any) -> None:
    """Write weights to a file: .npz (NumPy's) or .safetensors (what PyTorch's world reads).

        rnn = tg.RNN(tg.GRUCell(3, 4, rng=0))
        tg.save("rnn.npz", rnn)                             # cell.U, cell.V, cell.b, cell.b_n
        tg.save("twin.safetensors", tg.to_torch(rnn))       # under PyTorch's names

    path     ends with .npz or .safetensors
    module   a Module, an optimizer, or anything else with `state_dict()`; or a dict of arrays of
             any shape, of bool, integers, float16, float32, float64
    The same weights in the same order give the same bytes. A new file takes the old one's place
    only when it is complete: a crash in between loses nothing. safetensors has no checksum, so one
    is written into its metadata (npz has its own). Raises FileFormatError for another suffix, and
    for what a file cannot hold, OSError where nothing can be written. Sources: numpy.lib.format;
    https://huggingface.co/docs/safetensors.
    """
    path = as_path(path)
    _, write = _format(path)
    arrays = module if isinstance(module, Mapping) else _state_dict(module)
    checked = {_checked_name(name): _checked_array(name, a) for name, a in arrays.items()}
    with replacing(path) as file:
        write(file, checked)


@overload
def load(path: PathLike) -> Arrays: ...
@overload
def load(path: PathLike, module: Any) -> Any: ...
def load(path: PathLike, module: Any = None) -> Any:
    """Read weights from a file into a module, or, without one, as a dict of arrays.

        tg.save("rnn.npz", tg.RNN(tg.GRUCell(3, 4, rng=0)))
        rnn = tg.load("rnn.npz", tg.RNN(tg.GRUCell(3, 4, rng=1)))
        sorted(tg.load("rnn.npz"))             # ['cell.U', 'cell.V', 'cell.b', 'cell.b_n']

    path     ends with .npz or .safetensors, whoever wrote it; arrays have any shapes
    module   what has `state_dict()` and `load_state_dict()`; it is changed in place, and returned
    Raises FileFormatError for a file that is damaged, or not what its suffix says; with a module
    also where names, shapes or dtypes differ: all that differs is listed, and the module untouched.
    OSError for a file that is not there, or cannot be read.
    Memory for an array is asked for only once the file is seen to be that long, so compressed npz
    files are refused. safetensors' BF16 comes as float32, which has the same values.
    """
    path = as_path(path)
    read, _ = _format(path)
    own = None if module is None else _state_dict(module)
    with open(path, "rb") as file:
        try:
            arrays = read(file)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from None
        except Exception as error:  # whatever json, zipfile and NumPy raise for nonsense
            disk = isinstance(error, OSError) and error.errno != errno.EINVAL  # not: seek to -5
            if disk or isinstance(error, MemoryError):
                raise
            what = f"{type(error).__name__}: {error}"
            raise FileFormatError(f"{path} is no {path.suffix} file, or damaged: {what}") from error
    if own is None:
        return arrays
    if found := differences(own, arrays, "equiv"):
        raise FileFormatError(
            f"{path} does not fit this {type(module).__name__}, which is unchanged: "
            + "; ".join(found)
            + _advice(found)
        )
    module.load_state_dict(arrays)
    return module


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends; after an error, nothing does.

    with replacing(Path("weights.npz")) as file: ...
    """
    path = as_path(os.path.realpath(path))  # through a link, to what it names
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in")
    new = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with open(new, "xb") as file:
            if path.exists():
                shutil.copymode(path, new)
            yield file
            file.flush()
            os.fsync(file.fileno())  # the bytes are on disk before the name is
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


# ----- what goes in, what comes out --------------------------------------------------------------


def as_path(path: Any) -> Path:
    """A path that may be a file of bytes; FileFormatError for what cannot be one.

    as_path("weights.npz")      # PosixPath('weights.npz')
    """
    if not isinstance(path, (str, os.PathLike)):
        raise FileFormatError(f"expected a path in the first place; got a {type(path).__name__}")
    if Path(path).exists() and not Path(path).is_file():
        raise FileFormatError(f"{path} is not a file of bytes, but a folder or a device")
    return Path(path)


def _format(path: Path) -> tuple[Callable[[BinaryIO], Arrays], Callable[[BinaryIO, Arrays], None]]:
    if path.suffix not in FORMATS:
        raise FileFormatError(
            f"{path}: weights are kept in .npz or .safetensors files, not in {path.suffix or '?'!r}"
            " (and never in a pickle, which can run anything)"
        )
    return FORMATS[path.suffix]


def _state_dict(module: Any) -> Mapping[str, Any]:
    if isinstance(module, type) or not hasattr(module, "state_dict"):
        raise FileFormatError(
            f"expected a Module, an optimizer or a dict of arrays; got {module!r}"
        )
    return {name: np.asarray(a) for name, a in module.state_dict().items()}


def _checked_name(name: Any) -> str:
    """Names that both formats keep: neither an end-of-string byte nor half a character."""
    try:
        if not isinstance(name, str) or "\0" in name or name == "__metadata__":
            raise ValueError
        if len(name.encode()) < 1 << 15:
            return name
    except ValueError:
        pass
    raise FileFormatError(
        f"{name!r:.50}: a name in a file is text of at most {(1 << 15) - 1} bytes, without NUL and "
        "lone surrogates, and not __metadata__"
    )


def _checked_array(name: str, a: Array) -> np.ndarray:
    """An array as files keep it: row by row, little-endian."""
    if isinstance(a, Mapping):
        raise FileFormatError(f"{name} is a dict: a file is flat, so call its arrays '{name}.key'")
    try:
        a = np.asarray(a.data if isinstance(a, Tensor) else unmasked(a))
    except (ValueError, TypeError) as error:  # ragged lists, and what is no array at all
        raise FileFormatError(f"{name}: {error}") from None
    if a.dtype.newbyteorder("<") not in NAMES:
        raise FileFormatError(f"{name}: {a.dtype} arrays are not kept, only {', '.join(DTYPES)}")
    return np.asarray(a, a.dtype.newbyteorder("<"), order="C")


def _advice(found: list[str]) -> str:
    if any(text.endswith(("_l0: unknown", "weight: unknown")) for text in found):
        return ". The names are PyTorch's: tg.from_torch(layer, tg.load(path))"
    if all(": dtype float" in text and "expected float" in text for text in found):
        return ". To convert: load_state_dict(tg.load(path))"
    return ""


def _filled(file: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The next bytes of a file as an array. Its size must have been compared with the file's."""
    a = np.empty(prod(shape) * np.dtype(dtype).itemsize, np.uint8)
    for start in range(0, a.size, CHUNK):  # a zip member reads into a buffer of its own
        part = a[start : start + CHUNK]
        if file.readinto(part) != part.size:
            raise FileFormatError("the file ends in the middle of an array")
    if np.dtype(dtype) == bool and a.max(initial=0) > 1:
        raise FileFormatError("a boolean is neither 0 nor 1")
    return a.view(dtype).reshape(shape)


# ----- safetensors: u64 length of the header, the header in JSON, the arrays' bytes ---------------


def _write_safetensors(file: BinaryIO, arrays: Arrays) -> None:
    entries, end = {}, 0
    # wide elements first, so that each array starts at a multiple of its elements' size
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    for name in order:
        a, start = arrays[name], end
        end += a.nbytes
        entries[name] = {"dtype": NAMES[a.dtype], "shape": a.shape, "data_offsets": (start, end)}
    metadata = {"format": "np", CHECKSUM: f"{_crc(entries, [arrays[n] for n in order]):08x}"}
    header = {"__metadata__": metadata, **{name: entries[name] for name in arrays}}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(arrays[name].reshape(-1).view(np.uint8).data)


def _crc(entries: Mapping[str, Any], arrays: list[np.ndarray]) -> int:
    """Of names, dtypes, shapes and places, then of the arrays in the order of their places."""
    value = zlib.crc32(json.dumps(entries, sort_keys=True).encode())
    for a in arrays:
        value = zlib.crc32(a.reshape(-1).view(np.uint8).data, value)
    return value


def _read_safetensors(file: BinaryIO) -> Arrays:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LONGEST):
        raise FileFormatError(f"{size} bytes cannot hold a header of {length}: no safetensors file")
    header = _parsed(file.read(length))
    metadata = header.pop("__metadata__", {})
    places = {_checked_name(name): _entry(name, entry) for name, entry in header.items()}
    order = sorted(places, key=lambda name: places[name][2:])
    ends = [0, *(places[name][3] for name in order)]
    for name, (before, end) in zip(order, pairwise(ends), strict=True):
        if places[name][2] != before:  # bytes of two arrays, or of none
            raise FileFormatError(f"{name}: starts at byte {places[name][2]}, expected {before}")
        if end > size - 8 - length:
            raise FileFormatError(f"{name}: ends at byte {end}, the file has {size - 8 - length}")
    if ends[-1] != size - 8 - length:
        raise FileFormatError(f"{size - 8 - length - ends[-1]} bytes belong to no array")
    found = {name: _filled(file, *places[name][:2]) for name in order}
    if not isinstance(metadata, dict):
        raise FileFormatError("__metadata__ is no JSON object")
    # a key that is half like ours may be ours, damaged: then, too, the checksum must be right
    kept = [v for key, v in metadata.items() if "tinygrad_rnn." in key or ".crc32" in key]
    if kept and kept != [f"{_crc(header, list(found.values())):08x}"]:
        raise FileFormatError(
            "the contents do not match the checksum that tg.save wrote: the file is damaged, or "
            f"was changed by a tool that kept the metadata ({CHECKSUM})"
        )
    return {name: _widened(found[name], header[name]["dtype"]) for name in places}


def _parsed(text: bytes) -> dict[str, Any]:
    """The header: an object, in which no name is there twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise FileFormatError("a name is twice in the header")
        return dict(pairs)

    header = json.loads(text.decode(), object_pairs_hook=once)
    if not isinstance(header, dict):
        raise FileFormatError("the header is no JSON object")
    return header


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, first and last byte + 1 of an array, which agree with each other."""
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise FileFormatError(f"{name}: expected {', '.join(sorted(keys))} in the header")
    dtype = {**DTYPES, "BF16": "<u2"}.get(str(entry["dtype"]))
    if dtype is None:
        raise FileFormatError(f"{name}: not read are arrays of dtype {entry['dtype']!r:.50}")
    shape, offsets = (_counts(name, entry[key]) for key in ("shape", "data_offsets"))
    if len(offsets) != 2 or len(shape) > 64:  # what NumPy can have
        raise FileFormatError(f"{name}: {len(shape)} axes, {len(offsets)} data_offsets")
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    if offsets[1] - offsets[0] != nbytes:
        raise FileFormatError(f"{name}: {shape} {entry['dtype']} is {nbytes} bytes, not {offsets}")
    return dtype, shape, *offsets


def _counts(name: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in values):
        return tuple(values)
    raise FileFormatError(f"{name}: {values!r:.50} should be a list of counts")


def _widened(a: np.ndarray, name: str) -> np.ndarray:
    """BF16, which NumPy lacks, is the upper half of a float32."""
    return np.asarray(a.astype("<u4") << 16).view("<f4") if name == "BF16" else a


# ----- npz: a zip archive of .npy files, stored as they are --------------------------------------


def _write_npz(file: BinaryIO, arrays: Arrays) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, a in arrays.items():
            # ZipInfo's own date is fixed, so that the same weights give the same bytes
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, a, allow_pickle=False)


def _read_npz(file: BinaryIO) -> Arrays:
    size, arrays, total = os.fstat(file.fileno()).st_size, {}, 0
    file.seek(max(0, size - 22))
    if file.read(4) != b"PK\5\6":  # zipfile would look for a directory further up
        raise FileFormatError("no zip archive, or its end is missing, or other bytes follow it")
    ranges = [(0, 0)]  # of the file's bytes, from ... to, that belong to a member
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in arrays:
                raise FileFormatError(f"{info.filename!r} is there twice, or is no array (.npy)")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise FileFormatError(
                    f"{name} is compressed or encrypted, so its size cannot be trusted. Store it "
                    "plainly: np.savez(path, **np.load(path))"
                )
            total += info.file_size
            if info.file_size != info.compress_size or total > size:
                raise FileFormatError(f"{name}: {total} bytes so far, in a file of {size}")
            with archive.open(info) as member:
                arrays[name] = _read_npy(name, member, info.file_size)
            ranges.append((info.header_offset, file.tell()))
        ranges.append((archive.start_dir, size))
    for (_, end), (start, _) in pairwise(sorted(ranges)):
        if (
            not 0 <= start - end < LOCAL_HEADER
        ):  # zipfile would not miss what the directory has lost
            raise FileFormatError(f"bytes {end} to {start} belong to two arrays, or to none")
    return arrays


def _read_npy(name: str, member: Any, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(member)
    if version not in READERS:
        raise FileFormatError(f"{name}: the .npy format has no version {version} for such arrays")
    shape, fortran, dtype = READERS[version](member)
    little = dtype.newbyteorder("<")
    if little not in NAMES:
        raise FileFormatError(f"{name}: {dtype} arrays are not kept, only {', '.join(DTYPES)}")
    if prod(shape) * dtype.itemsize != size - member.tell():
        raise FileFormatError(f"{name}: {shape} {dtype} is not {size - member.tell()} bytes")
    if fortran:
        return _filled(member, dtype, shape[::-1]).T.astype(little, copy=False)
    return _filled(member, dtype, shape).astype(little, copy=False)


READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
FORMATS = {
    ".npz": (_read_npz, _write_npz),
    ".safetensors": (_read_safetensors, _write_safetensors),
}
