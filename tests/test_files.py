"""Weights on disk: what is written comes back, and what is damaged is refused with nothing lost."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_rnn as tg
from tinygrad_rnn import files
from tinygrad_rnn.errors import FileFormatError

ROOT = Path(__file__).parent.parent
SUFFIXES = (".npz", ".safetensors")
each_format = pytest.mark.parametrize("suffix", SUFFIXES)
DTYPES = [np.dtype(d) for d in files.DTYPES.values()]

# Any text but what no file can hold, files.py says which; also names that look like paths
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(["a/b", "../up", "C:\\x", "file", "a.npy", "重み", "λ" * 999, " ", "cell.U"]),
).filter(lambda name: name != "__metadata__")
ARRAYS = st.dictionaries(
    NAMES,
    hnp.arrays(
        st.sampled_from([*DTYPES, *[d.newbyteorder(">") for d in DTYPES]]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    ),
    max_size=4,
)


def gru(seed, dtype=np.float64, hidden=3):
    return tg.RNN(tg.GRUCell(2, hidden, rng=seed, dtype=dtype))


def same(arrays, expected):
    assert arrays.keys() == expected.keys()
    assert all(type(a) is np.ndarray for a in arrays.values())  # without axes, too
    for name, a in expected.items():
        assert arrays[name].dtype == a.dtype.newbyteorder("=")
        assert arrays[name].shape == a.shape
        assert arrays[name].tobytes() == a.astype(a.dtype.newbyteorder("=")).tobytes()


@pytest.fixture
def folder(tmp_path):
    return tmp_path


# ----- there and back -----------------------------------------------------------------------------


@each_format
@given(arrays=ARRAYS)
def test_names_shapes_dtypes_and_bits_come_back(suffix, arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / f"a{suffix}"
    tg.save(path, arrays)
    loaded = tg.load(str(path))
    same(loaded, arrays)
    for a in loaded.values():
        assert a.flags.writeable
        assert a.flags.aligned


@each_format
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_module_comes_back(suffix, dtype, folder):
    one, other = gru(0, dtype), gru(1, dtype)
    parameters = other.parameters()
    tg.save(folder / f"a{suffix}", one)
    assert tg.load(folder / f"a{suffix}", other) is other
    same(other.state_dict(), one.state_dict())
    assert all(p is q for p, q in zip(other.parameters(), parameters, strict=True))


@each_format
def test_tensors_fortran_order_and_no_arrays_at_all(suffix, folder):
    path = folder / f"a{suffix}"
    a = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    tg.save(path, {"t": tg.Tensor([1.0, 2.0]), "f": a, "s": a[:, ::2]})
    same(tg.load(path), {"t": np.array([1.0, 2.0]), "f": a.copy(order="C"), "s": a[:, ::2].copy()})
    tg.save(path, {})
    assert tg.load(path) == {}


@each_format
def test_the_same_weights_give_the_same_bytes(suffix, folder):
    tg.save(folder / f"a{suffix}", gru(0))
    columns_first = {k: np.asfortranarray(a) for k, a in gru(0).state_dict().items()}
    tg.save(folder / f"b{suffix}", columns_first)
    assert (folder / f"a{suffix}").read_bytes() == (folder / f"b{suffix}").read_bytes()


def test_in_safetensors_each_array_starts_at_a_multiple_of_its_elements_size(folder):
    path = folder / "a.safetensors"
    tg.save(path, {"a": np.zeros(3, np.uint8), "b": np.zeros(2), "c": np.zeros(1, np.float32)})
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    starts = [start + header[name]["data_offsets"][0] for name in "bc"]
    assert [n % size for n, size in zip(starts, (8, 4), strict=True)] == [0, 0]


@given(arrays=ARRAYS)
def test_numpy_reads_our_npz_and_we_read_its(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "a.npz"
    tg.save(path, arrays)
    with np.load(path, allow_pickle=False) as theirs:
        same(dict(theirs), arrays)
    arrays.pop("file", None)  # np.savez takes the path under that name
    for order in "CF":
        np.savez(path, **{name: np.asarray(a, order=order) for name, a in arrays.items()})
        same(tg.load(path), arrays)


@settings(max_examples=settings().max_examples // 2)
@given(arrays=ARRAYS)
def test_the_safetensors_package_reads_ours_and_we_read_its(arrays, tmp_path_factory):
    theirs = pytest.importorskip("safetensors.numpy")
    path = tmp_path_factory.mktemp("files") / "a.safetensors"
    tg.save(path, arrays)
    same(theirs.load_file(path), arrays)
    theirs.save_file({k: a.astype(a.dtype.newbyteorder("=")) for k, a in arrays.items()}, path)
    same(tg.load(path), arrays)


def test_pytorch_reads_ours_and_we_read_its_bfloat16(folder):
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("safetensors.torch")
    path = folder / "a.safetensors"
    rnn = gru(0, np.float32)
    tg.save(path, tg.to_torch(rnn))
    twin = torch.nn.GRU(2, 3)
    twin.load_state_dict(theirs.load_file(path))
    x = np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32)
    ours, (outputs, _) = rnn(x).outputs.data, twin(torch.from_numpy(x))
    np.testing.assert_allclose(outputs.detach(), ours, rtol=0, atol=1e-6)

    values = torch.randn(3, 4).bfloat16()
    theirs.save_file({"half": values, "flag": torch.tensor([True])}, path)
    loaded = tg.load(path)
    np.testing.assert_array_equal(loaded["half"], values.float())
    assert (loaded["half"].dtype, loaded["flag"].dtype) == (np.float32, np.bool_)
    theirs.save_file({"eighth": values.to(torch.float8_e4m3fn)}, path)
    with pytest.raises(FileFormatError, match="eighth: not read are arrays of dtype 'F8_E4M3'"):
        tg.load(path)


def test_what_has_a_state_dict_is_a_module_here(folder):
    class Counter:
        value = 0

        def state_dict(self):
            return {"value": np.int64(self.value)}

        def load_state_dict(self, arrays):
            self.value = int(arrays["value"])

    counter = Counter()
    counter.value = 7
    tg.save(folder / "a.npz", counter)
    assert tg.load(folder / "a.npz", Counter()).value == 7


# ----- what is refused ----------------------------------------------------------------------------


@each_format
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (1, 0.0, "1: a name in a file is text"),
        ("a\0b", 0.0, "without NUL"),
        ("\ud800", 0.0, "lone surrogates"),
        ("λ" * 17000, 0.0, "at most 32767 bytes"),
        ("__metadata__", 0.0, "not __metadata__"),
        ("a", 1j, "a: complex128 arrays are not kept, only F64"),
        ("a", "text", "a: <U4 arrays"),
        ("a", None, "a: object arrays"),
        ("a", np.zeros(1, "f8,i4"), "arrays are not kept"),
        ("a", np.longdouble(1), "arrays are not kept"),
        ("a", np.datetime64("2026-01-01"), "arrays are not kept"),
        ("a", [[1.0], [1.0, 2.0]], "a: setting an array element with a sequence"),
        ("a", {"b": 1.0}, "a is a dict: a file is flat, so call its arrays 'a.key'"),
    ],
)
def test_what_no_file_can_hold_is_named_and_the_old_file_stays(suffix, name, value, words, folder):
    path = folder / f"a{suffix}"
    tg.save(path, gru(0))
    with pytest.raises(FileFormatError, match=re.escape(words)):
        tg.save(path, {"fine": np.zeros(2), name: value})
    same(tg.load(path), gru(0).state_dict())
    assert os.listdir(folder) == [path.name]


@pytest.mark.parametrize("name", ["a.pt", "a.pkl", "a.NPZ", "a", "npz"])
def test_another_suffix_is_refused_before_anything_is_written(name, folder):
    for act in (lambda: tg.save(folder / name, gru(0)), lambda: tg.load(folder / name)):
        with pytest.raises(
            FileFormatError, match=r"\.npz or \.safetensors files.*never in a pickle"
        ):
            act()
    assert os.listdir(folder) == []


def test_something_without_weights_is_refused(folder):
    with pytest.raises(FileFormatError, match="a path in the first place; got a RNN"):
        tg.save(gru(0), folder / "a.npz")
    with pytest.raises(FileFormatError, match="a Module, an optimizer or a dict of arrays; got 3"):
        tg.save(folder / "a.npz", 3)
    with pytest.raises(FileFormatError, match="got <class"):
        tg.save(folder / "a.npz", tg.RNN)
    tg.save(folder / "a.npz", gru(0))
    with pytest.raises(FileFormatError, match="got 3"):
        tg.load(folder / "a.npz", 3)


@each_format
def test_a_parameter_in_another_byte_order_comes_back(suffix, folder):
    linear = tg.Linear(1, 2, rng=0)
    linear.b = tg.Parameter(np.array([1.0, 2.0], ">f8"))
    tg.save(folder / f"a{suffix}", linear)
    linear.b.data = np.zeros(2, ">f8")
    tg.load(folder / f"a{suffix}", linear)
    np.testing.assert_array_equal(linear.b.data, [1.0, 2.0])


@each_format
def test_every_difference_is_listed_and_the_module_is_untouched(suffix, folder):
    path = folder / f"a{suffix}"
    arrays = gru(0).state_dict()
    arrays["cell.u"] = arrays.pop("cell.U")
    arrays["cell.V"] = arrays["cell.V"].T
    arrays["cell.b"] = arrays["cell.b"].astype(np.float32)
    tg.save(path, arrays)
    module = gru(1)
    with pytest.raises(FileFormatError) as caught:
        tg.load(path, module)
    assert str(caught.value) == (
        f"{path} does not fit this RNN, which is unchanged: cell.U: missing; cell.u: unknown; "
        "cell.V: shape (9, 3), expected (3, 9); cell.b: dtype float32, expected float64"
    )
    same(module.state_dict(), gru(1).state_dict())


def test_the_two_usual_differences_come_with_what_to_do(folder):
    tg.save(folder / "a.npz", gru(0, np.float32))
    with pytest.raises(FileFormatError, match=r"To convert: load_state_dict\(tg\.load\(path"):
        tg.load(folder / "a.npz", gru(0))
    module = gru(1)
    module.load_state_dict(tg.load(folder / "a.npz"))  # and so it goes
    np.testing.assert_array_equal(module.cell.U.data, gru(0, np.float32).cell.U.data)
    optimizer = tg.Adam([tg.Parameter(np.zeros(2))])  # its count of steps is no float
    tg.save(folder / "c.npz", optimizer.state_dict() | {"steps.0": np.array(1.5)})
    with pytest.raises(FileFormatError, match=r"steps\.0: dtype float64, expected int64$"):
        tg.load(folder / "c.npz", optimizer)
    tg.save(folder / "b.npz", tg.to_torch(gru(0)))
    with pytest.raises(FileFormatError, match=r"PyTorch's: tg\.from_torch\(layer, tg\.load\(path"):
        tg.load(folder / "b.npz", gru(1))


# ----- damage -------------------------------------------------------------------------------------


def refused(path, data, words):
    path.write_bytes(data)
    for target in (gru(1), None):
        with pytest.raises(FileFormatError, match=words) as caught:
            tg.load(path, target)
        assert str(caught.value).startswith(str(path))
        if target is not None:
            same(target.state_dict(), gru(1).state_dict())


@each_format
def test_a_file_cut_anywhere_is_refused(suffix, folder):
    path = folder / f"a{suffix}"
    tg.save(path, gru(0))
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(FileFormatError):
            tg.load(path)


@each_format
def test_a_bit_turned_anywhere_is_refused_or_changes_nothing(suffix, folder):
    path = folder / f"a{suffix}"
    tg.save(path, gru(0))
    data, harmless = path.read_bytes(), 0
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        try:
            same(tg.load(path), gru(0).state_dict())
            harmless += 1  # dates, versions, the metadata's own words
        except FileFormatError:
            pass
    assert 0 < harmless < len(data) / 4


@each_format
def test_a_foreign_file_is_refused(suffix, folder):
    path = folder / f"a{suffix}"
    others = [b"", b"PK", b"\x80\x04K\x01.", b"{}", b"\x93NUMPY\x01\0", "重み".encode() * 99]
    for data in [*others, b"\0" * 8 + b"{}", bytes(range(256)) * 4]:
        refused(path, data, r"a\.")


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(*offsets, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (safetensors({}, length=3), "10 bytes cannot hold a header of 3"),
        (safetensors({}, length=2**63), "cannot hold a header of 9223372036854775808"),
        (safetensors([]), "no JSON object"),
        (safetensors(b"{"), "JSONDecodeError"),
        (safetensors(b"[" * 100_000), "RecursionError"),
        (safetensors(b"\xff\xff"), "UnicodeDecodeError"),
        (safetensors(b'{"a":{},"a":{}}'), "a name is twice"),
        (safetensors(b'{"\\ud800":{}}'), "lone surrogates"),
        (safetensors({"a": 3}), "expected data_offsets, dtype, shape"),
        (safetensors({"a": {**entry(0, 8), "more": 1}}, b"\0" * 8), "expected data_offsets"),
        (safetensors({"__metadata__": 3}), "__metadata__ is no JSON object"),
        (
            safetensors({"a": entry(0, 8, dtype="F80")}, b"\0" * 8),
            "not read are arrays of dtype 'F80'",
        ),
        (safetensors({"a": entry(0, 8, dtype=[1])}, b"\0" * 8), "of dtype .1"),
        (safetensors({"a": entry(0, 8, shape=[-2])}, b"\0" * 8), "a list of counts"),
        (safetensors({"a": entry(0, 8, shape=[2.0])}, b"\0" * 8), "a list of counts"),
        (safetensors({"a": entry(0, 8, shape=[True, 2])}, b"\0" * 8), "a list of counts"),
        (safetensors({"a": entry(0, 4, shape=[1] * 65)}, b"\0" * 4), "65 axes"),
        (safetensors({"a": entry(8)}, b"\0" * 8), "1 data_offsets"),
        (safetensors({"a": entry(0, 9)}, b"\0" * 9), r"\(2,\) F32 is 8 bytes, not \(0, 9\)"),
        (safetensors({"a": entry(8, 0)}, b"\0" * 8), "is 8 bytes"),
        (safetensors({"a": entry(0, 8)}, b"\0" * 7), "ends at byte 8, the file has 7"),
        (safetensors({"a": entry(0, 2**45, shape=[2**43])}), "ends at byte 35184372088832"),
        (safetensors({"a": entry(0, 8)}, b"\0" * 9), "1 bytes belong to no array"),
        (safetensors({"a": entry(4, 12)}, b"\0" * 12), "starts at byte 4, expected 0"),
        (
            safetensors({"a": entry(0, 8), "b": entry(4, 12)}, b"\0" * 12),
            "b: starts at byte 4, expected 8",  # overlapping
        ),
        (safetensors({"a": entry(0, 2, dtype="BOOL")}, b"\1\2"), "neither 0 nor 1"),
    ],
)
def test_a_wrong_safetensors_header_says_what_is_wrong(data, words, folder):
    refused(folder / "a.safetensors", data, words)


def test_the_limits_of_numpy_and_of_the_format_are_kept(folder):
    path = folder / "a.safetensors"
    tg.save(path, {"a": np.zeros((1,) * 64)})
    assert tg.load(path)["a"].ndim == 64
    with open(path, "wb") as file:  # a sparse file: nothing of it is read
        file.write((1 << 30).to_bytes(8, "little"))
        file.truncate(2 << 30)
    with pytest.raises(FileFormatError, match="cannot hold a header of 1073741824"):
        tg.load(path)
    for key in ("crc32", "tinygrad_rnn_version"):  # somebody else's metadata
        path.write_bytes(safetensors({"__metadata__": {key: "1"}, "a": entry(0, 8)}, b"\0" * 8))
        assert tg.load(path)["a"].shape == (2,)


def test_a_bfloat16_without_axes(folder):
    path = folder / "a.safetensors"
    path.write_bytes(safetensors({"a": entry(0, 2, dtype="BF16", shape=[])}, b"\x80\x3f"))
    same(tg.load(path), {"a": np.array(1, np.float32)})


def test_what_is_wrong_with_memory_and_disk_is_not_called_damage(folder, monkeypatch):
    tg.save(folder / "a.npz", gru(0))
    for error in (MemoryError(), OSError(5, "Input/output error")):

        def fails(*_, error=error):
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(files, "_filled", fails)
            with pytest.raises(type(error)):
                tg.load(folder / "a.npz")


def test_a_checksum_is_wanted_where_half_of_its_name_is_left(folder):
    path = folder / "a.safetensors"
    tg.save(path, gru(0))
    data = path.read_bytes()
    for old, new in ((b"tinygrad_rnn.", b"tinygrad-rnn."), (b"crc32", b"crc23")):
        refused(path, data.replace(old, new)[:-1] + b"\1", "checksum that tg.save wrote")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h | {"cell.U": h["cell.U"] | {"dtype": "I64"}}, "checksum"),
        (lambda h: h | {"cell.U": h["cell.U"] | {"shape": [9, 2]}}, "checksum"),
        (lambda h: {"cell.X" if k == "cell.U" else k: v for k, v in h.items()}, "checksum"),
    ],
)
def test_the_checksum_covers_what_the_header_says_of_the_arrays(change, words, folder):
    path = folder / "a.safetensors"
    tg.save(path, gru(0))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = change(json.loads(data[8 : 8 + length]))
    refused(path, safetensors(header, data[8 + length :]), words)


def npy(array, **changes):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), allow_pickle=True)
    data = out.getvalue()
    for old, new in changes.values():
        assert old in data
        data = data.replace(old, new)
    return data


def archive(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive([("a.npy", npy(np.zeros(9)))], zipfile.ZIP_DEFLATED), r"compressed.*np\.savez"),
        (archive([("a.txt", b"")]), "'a.txt' is there twice, or is no array"),
        (archive([("a.npy", b"\x93NUMPY")]), "damaged"),
        (archive([("a.npy", npy(np.array([None])))]), "a: object arrays are not kept"),
        (archive([("a.npy", npy(np.zeros(2, complex)))]), "a: complex128 arrays"),
        (archive([("a.npy", npy(np.zeros(2)) + b"\0")]), r"\(2,\) float64 is not 17 bytes"),
        (archive([("a.npy", npy(np.zeros(2), s=(b"(2,)", b"(9,)")))]), "is not 16 bytes"),
        (archive([("a.npy", npy(np.zeros((1, 2)), s=(b"(1, 2)", b"(-1,2)")))]), "is not 16 bytes"),
        (archive([("a.npy", npy(np.zeros(0), s=(b"(0,)", b"(-1)")))]), "damaged"),
        (
            archive([("a.npy", npy(np.zeros(2), s=(b"\x01\0v", b"\x07\0v")))]),
            r"no version \(7, 0\)",
        ),
        (archive([("a.npy", npy(np.ones(2, bool), s=(b"\1\1", b"\1\2")))]), "neither 0 nor 1"),
        (archive([("a.npy", npy(np.zeros(2)))]) + b"\0", "or other bytes follow it"),
    ],
)
def test_a_wrong_npz_says_what_is_wrong(data, words, folder):
    refused(folder / "a.npz", data, words)


def test_a_file_that_shrinks_while_it_is_read_is_refused():
    with pytest.raises(FileFormatError, match="ends in the middle of an array"):
        files._filled(io.BytesIO(b"\0" * 7), "<f8", (1,))


def test_an_array_written_by_python_2_is_read(folder):
    old = npy(np.ones(2), s=(b"(2,), } ", b"(2L,), }"))
    (folder / "a.npz").write_bytes(archive([("a.npy", old)]))
    with pytest.warns(UserWarning, match="created on Python 2"):
        same(tg.load(folder / "a.npz"), {"a": np.ones(2)})


def patched(data, *fields):
    """An archive with 32-bit fields of its directory's entry changed: (offset in it, number)."""
    bad, at = bytearray(data), data.index(b"PK\1\2")
    for offset, number in fields:
        bad[at + offset : at + offset + 4] = number.to_bytes(4, "little")
    return bytes(bad)


def test_an_array_that_claims_to_be_longer_than_the_file_gets_no_memory(folder):
    claims = npy(np.zeros(2), s=(b"(2,), }" + b" " * 8, b"(500000000,), }"[:15]))
    data = archive([("a.npy", claims)])
    for fields in ([(20, 4_000_000_128), (24, 4_000_000_128)], [(24, 4_000_000_128)]):
        refused(folder / "a.npz", patched(data, *fields), "4000000128 bytes so far, in a file of")


def test_a_member_within_another_is_refused(folder):
    inner = archive([("b.npy", npy(np.ones(2)))])
    record, entry = inner[: inner.index(b"PK\1\2")], inner[inner.index(b"PK\1\2") : -22]
    data = archive([("a.npy", npy(np.frombuffer(record, np.uint8)))])
    entry = entry[:42] + data.index(record).to_bytes(4, "little") + entry[46:]
    end = bytearray(data[-22:])
    size = len(data) - 22 - data.index(b"PK\1\2", data.index(record) + len(record)) + len(entry)
    end[12:16] = size.to_bytes(4, "little")
    words = "belong to two arrays, or to none|Overlapped entries"  # ours, or a newer zipfile's
    refused(folder / "a.npz", data[:-22] + entry + bytes(end), words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_and_an_array_that_the_directory_has_lost_are_refused(folder):
    member = ("a.npy", npy(np.zeros(2)))
    refused(folder / "a.npz", archive([member, member]), "twice")
    data = archive([member, ("b.npy", npy(np.ones(2)))])
    at = data.rindex(b"PK\1\2")  # the second entry of the directory goes, and the end says so
    end = bytearray(data[-22:])
    end[12:16] = (at - data.index(b"PK\1\2")).to_bytes(4, "little")
    refused(folder / "a.npz", data[:at] + bytes(end), "belong to two arrays, or to none")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_crash_nothing_and_change_nothing(seed, folder):
    command = [sys.executable, str(ROOT / "benchmarks/fuzz_files.py"), "--count", "400"]
    done = subprocess.run(
        [*command, "--seed", str(seed)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^  (\w+) +(\d+)$", done.stdout, re.MULTILINE))
    assert int(counts["refused"]) > 500
    assert (counts["wrong"], counts["crashed"]) == ("0", "0")


# ----- writing ------------------------------------------------------------------------------------


@each_format
def test_a_crash_while_writing_leaves_the_old_file(suffix, folder, monkeypatch):
    path = folder / f"a{suffix}"
    tg.save(path, gru(0))

    def full(*_):
        raise OSError(28, "No space left on device")

    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(files.os, broken, full)
            with pytest.raises(OSError, match="No space left"):
                tg.save(path, gru(1))
        same(tg.load(path), gru(0).state_dict())
        assert os.listdir(folder) == [path.name]


def test_a_process_killed_while_writing_leaves_the_old_file(folder):
    tg.save(folder / "a.npz", gru(0))
    code = (
        "import os, tinygrad_rnn as tg\n"
        "os.fsync = lambda n: os._exit(9)\n"
        "tg.save('a.npz', tg.RNN(tg.GRUCell(2, 3, rng=1)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=False)
    assert done.returncode == 9
    same(tg.load(folder / "a.npz"), gru(0).state_dict())


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as POSIX has them")
def test_permissions_and_links_are_kept(folder):
    before = os.umask(0o027)
    try:
        tg.save(folder / "a.npz", gru(0))
    finally:
        os.umask(before)
    assert (folder / "a.npz").stat().st_mode & 0o777 == 0o640  # as open() would make it
    (folder / "a.npz").chmod(0o600)
    (folder / "link.npz").symlink_to("a.npz")
    tg.save(folder / "link.npz", gru(1))
    assert (folder / "link.npz").is_symlink()
    assert (folder / "a.npz").stat().st_mode & 0o777 == 0o600
    same(tg.load(folder / "a.npz"), gru(1).state_dict())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_folders_and_pipes_are_no_files(folder):
    (folder / "a.npz").mkdir()
    os.mkfifo(folder / "b.npz")
    for name in "ab":
        for act in (lambda path: tg.save(path, gru(0)), tg.load):
            with pytest.raises(FileFormatError, match="not a file of bytes, but a folder or a dev"):
                act(folder / f"{name}.npz")


@each_format
def test_a_masked_array_is_refused(suffix, folder):
    with pytest.raises(FileFormatError, match="mask would be lost"):
        tg.save(folder / f"a{suffix}", {"a": np.ma.masked_array([1.0, 2.0], [False, True])})


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_while_it_is_written_nobody_reads_what_they_could_not_read_before(folder, monkeypatch):
    path, modes = folder / "a.npz", []
    tg.save(path, gru(0))
    path.chmod(0o600)
    fsync = os.fsync

    def looked(number):
        modes.append(os.fstat(number).st_mode & 0o777)
        fsync(number)

    monkeypatch.setattr(files.os, "fsync", looked)
    tg.save(path, gru(1))
    assert modes == [0o600]


def test_a_folder_that_is_not_there_and_a_file_that_is_not_there(folder):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to save a\.npz in"):
        tg.save(folder / "nowhere" / "a.npz", gru(0))
    with pytest.raises(FileNotFoundError, match=r"a\.npz"):
        tg.load(folder / "a.npz")
