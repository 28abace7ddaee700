"""`python -m tinygrad_rnn train` and `sample`: a character model of somebody's own text."""

import io
import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import charmodel
from tinygrad_rnn.charmodel import CharModel, sample_main, train_main
from tinygrad_rnn.errors import FileFormatError, RngError
from tinygrad_rnn.shell import UsageError

WORDS = "the cat sat on the mat, and the dog sat on the log.\n"
SMALL = "--hidden 6 --steps 3 --chunk 5 --batch 2 --quiet"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to be in, with a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(WORDS * 10, encoding="utf-8")
    return tmp_path


def train(*argv, small=SMALL):
    return train_main([*argv, *small.split()])


def weights(path):
    return {name: a.tobytes() for name, a in tg.load(path).items()}


def model_of(text, **options):
    return CharModel(text, **({"hidden": 6, "rng": 0} | options))


# ----- from a text to a text


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "out"), [(1, "m.npz"), (2, "m.safetensors")])
def test_a_trained_model_writes_text_of_its_alphabet(capsys, cell, layers, out):
    assert train("book.txt", "--out", out, "--cell", cell, "--layers", str(layers)) == 0
    told, err = capsys.readouterr()
    assert err == ""
    assert f"sample {out}" in told
    assert sample_main([out, "--length", "40", "--start", "the c"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("the c")
    assert len(text) == 5 + 40 + 1
    assert text[-1] == "\n"
    assert set(text) <= set(WORDS)
    model = charmodel.load(out)
    assert model.alphabet == "".join(sorted(set(WORDS)))
    cells = [type(layer.cell) for layer in model.layers[1:-1]]
    assert cells == [charmodel.CELLS[cell]] * layers
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}


def test_a_pattern_is_learnt_and_held_out_loss_is_beside_what_guessing_gives(folder, capsys):
    (folder / "abc.txt").write_text("abcd" * 250, encoding="utf-8")
    assert train("abc.txt", small="--hidden 16 --steps 150 --chunk 10 --quiet") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "1,000 characters, 4 different; held out are the last 100\n" in out
    found = re.findall(r"(\S+): +(\S+) nats, (\S+) bits", out)
    assert [name for name, _, _ in found] == ["training", "out", "frequency"]
    for _, nats, bits in found:
        assert float(bits) == pytest.approx(float(nats) / math.log(2), abs=2e-3)
    assert float(found[1][1]) < 0.2
    assert float(found[2][1]) == pytest.approx(math.log(4), abs=1e-3)
    assert sample_main(["abc.npz", "--temperature", "0", "--length", "7", "--start", "c"]) == 0
    assert capsys.readouterr().out == "cdabcdab\n"


def test_what_is_held_out_is_not_trained_on(folder, monkeypatch):
    (folder / "own.txt").write_text("ab" * 45 + "cdcdcdcdcd", encoding="utf-8")
    seen, learn, measure = [], charmodel.learn, charmodel.measure

    def learning(model, codes, *rest):
        seen.append("".join(np.array(list(model.alphabet))[codes]))
        return learn(model, codes, *rest)

    def measuring(model, codes):
        seen.append("".join(np.array(list(model.alphabet))[codes]))
        return measure(model, codes)

    monkeypatch.setattr(charmodel, "learn", learning)
    monkeypatch.setattr(charmodel, "measure", measuring)
    assert train("own.txt", "--out", "own.npz") == 0
    assert seen == ["ab" * 45, "cd" * 5]
    monkeypatch.setattr(charmodel, "HELD", 4)
    assert train("own.txt", "--out", "own.npz") == 0
    assert seen[2:] == ["ab" * 45 + "cdcdcd", "cdcd"]


def test_who_learns_by_heart_is_told(folder, capsys):
    rng = np.random.default_rng(0)
    (folder / "noise.txt").write_text("".join(rng.choice(list("abcdefgh"), 80)), encoding="utf-8")
    assert train("noise.txt", small="--hidden 32 --steps 150 --chunk 20 --quiet") == 0
    assert "by heart" in capsys.readouterr().out
    assert train("book.txt") == 0
    assert "by heart" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(capsys):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train("book.txt", "--out", f"{name}.npz", "--seed", str(seed)) == 0
    assert weights("a.npz") == weights("b.npz") != weights("c.npz")
    capsys.readouterr()
    texts = []
    for seed in ("0", "0", "1"):
        assert sample_main(["a.npz", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 500 + 1


def test_the_model_goes_beside_one_into_this_folder_unless_out_says_where(folder):
    (folder / "in").mkdir()
    (folder / "in" / "a poem.txt").write_text(WORDS * 3, encoding="utf-8")
    assert train("in/a poem.txt") == 0
    assert (folder / "a poem.npz").is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["a poem.npz", "book.txt", "in"]


def test_the_command_that_comes_next_can_be_copied(folder, capsys):
    (folder / "a poem.txt").write_text(WORDS * 3, encoding="utf-8")
    assert train("a poem.txt") == 0
    assert "python -m tinygrad_rnn sample 'a poem.npz'\n" in capsys.readouterr().out


# ----- texts


def test_one_character_over_and_over(folder, capsys):
    (folder / "a.txt").write_text("a" * 100, encoding="utf-8")
    assert train("a.txt") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.findall(r"(\S+) nats", out) == ["0.000"] * 3
    assert sample_main(["a.npz", "--length", "9"]) == 0
    assert capsys.readouterr().out == "a" * 9 + "\n"


@pytest.mark.skipif("utf" not in sys.getfilesystemencoding(), reason="no such file names there")
@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "utf-16"])
def test_japanese(folder, capsys, encoding):
    text = "春はあけぼの。やうやう白くなりゆく山ぎは、すこしあかりて\n" * 5
    (folder / "枕.txt").write_bytes(text.encode(encoding))
    assert train("枕.txt", "--encoding", encoding) == 0
    assert charmodel.load("枕.npz").alphabet == "".join(sorted(set(text)))
    capsys.readouterr()
    assert sample_main(["枕.npz", "--start", "春は"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("春は")
    assert set(out) <= set(text)


def test_characters_beyond_16_bits():
    model = model_of("a𝄞🙂")
    assert model.codes("🙂a𝄞").tolist() == [2, 0, 1]
    assert set("".join(model.text("🙂", 30, 0))) == set("a𝄞🙂")


def test_line_ends_and_byte_order_marks_are_no_characters(folder):
    (folder / "dos.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert charmodel.text_of("dos.txt", "utf-8") == "one\ntwo\nthree\n"


@pytest.mark.parametrize(("chunk", "least"), [(5, 11), (50, 57), (9, 12)])
def test_the_shortest_text(folder, capsys, chunk, least):
    sizes = f"--hidden 4 --steps 3 --chunk {chunk} --quiet"
    (folder / "a.txt").write_text("abcdefgh" * 20, encoding="utf-8")
    for length, status in ((least - 1, 2), (least, 0)):
        (folder / "a.txt").write_text(("abcdefgh" * 20)[:length], encoding="utf-8")
        assert train("a.txt", small=sizes) == status
    err = capsys.readouterr().err
    assert f"a.txt has {least - 1} characters; --chunk {chunk} needs {least}, as a" in err


# ----- what goes wrong is told in one line, before anything is trained


@pytest.fixture
def untrained(monkeypatch):
    monkeypatch.setattr(charmodel, "learn", lambda *_: pytest.fail("it was trained"))


def one_line(capsys, *says):
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    for text in says:
        assert text in err
    return err


FILES = {
    "empty.txt": b"",
    "mark.txt": b"\xef\xbb\xbf",
    "binary.txt": b"plain" + bytes(range(128, 256)),
    "nul.txt": b"abc\0def" * 9,
    "surrogate.txt": b"+2AA-" * 9,
    "half.txt": "a\ud800".encode("utf-16-le", "surrogatepass"),
}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("none.txt", "none.txt: No such file"),
        (".", ".: Is a directory"),
        ("empty.txt", "empty.txt is empty"),
        ("mark.txt", "mark.txt is empty"),
        ("binary.txt", "binary.txt is no utf-8 text: 'utf-8' codec can't decode byte 0x80 in "
                       "position 5"),
        ("binary.txt", "say --encoding"),
        ("nul.txt", "nul.txt is no text: NUL after 3 characters"),
        ("book.txt --encoding klingon", "unknown encoding: klingon"),
        ("book.txt --encoding hex", "not a text encoding"),
        ("half.txt --encoding utf-16-le", "half.txt is no utf-16-le text"),
        ("surrogate.txt --encoding utf-7", "utf-7 text: 'utf-32-le' codec can't encode"),
        ("book.txt --chunk 1000", "book.txt has 520 characters; --chunk 1000 needs 1113"),
        ("book.txt --out m.pt", "--out m.pt: models are kept in .npz or .safetensors files"),
        ("book.txt --out m", "--out m: models are kept"),
        ("book.txt --out nowhere/m.npz", "there is no folder"),
        ("book.txt --out book.txt/m.npz", "there is no folder"),
        ("book.txt --out folder.npz", "--out folder.npz is a folder"),
        ("book.txt --from none.npz", "none.npz: No such file"),
        ("book.txt --from book.txt --out m.npz", "book.txt is no model, but perhaps a text"),
        ("book.txt --from weights.npz", "weights.npz is no model that `train` wrote: it has no al"),
        ("book.txt --from damaged.npz", "FileFormatError: damaged.npz"),
        ("book.txt --from model.npz --hidden 6 --cell gru", "leave out --hidden, --cell"),
        ("odd.txt --from model.npz", "not in the model's alphabet: '\\x07', 'X', 'é', '…'"),
        ("many.txt --from model.npz", "'5', '6', '7', '8', '9', ..."),
    ],
)  # fmt: skip
def test_train_says_what_is_wrong(folder, capsys, untrained, argv, says):
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "folder.npz").mkdir()
    (folder / "odd.txt").write_text(WORDS * 3 + "X\aé…X", encoding="utf-8")
    (folder / "many.txt").write_text(WORDS * 3 + "0123456789ABC", encoding="utf-8")
    (folder / "damaged.npz").write_bytes(b"PK\3\4" + bytes(99))
    tg.save("weights.npz", tg.Linear(2, 3, rng=0))
    charmodel.save("model.npz", model_of(WORDS))
    before = weights("model.npz")
    assert train_main(argv.split()) == 2
    err = one_line(capsys, says)
    assert err.startswith("train: ")
    assert weights("model.npz") == before
    assert not (folder / "m.npz").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may all")
def test_a_folder_that_may_not_be_written_into(folder, capsys, untrained):
    (folder / "locked").mkdir(0o500)
    assert train_main(["book.txt", "--out", "locked/m.npz"]) == 2
    one_line(capsys, "there is no folder", "to write into")


def test_the_folder_is_asked_for_its_permission(capsys, untrained, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert train_main(["book.txt"]) == 2
    one_line(capsys, "to write into")


def test_what_the_system_says_later_is_one_line_too(capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(charmodel, "save", full)
    assert train("book.txt") == 2
    assert capsys.readouterr().err.startswith("train: [Errno 28] No space left on device. ")


def test_too_little_memory_is_one_line(capsys):
    assert train("book.txt", small="--hidden 100000000") == 2
    one_line(capsys, "Unable to allocate", "try a smaller --hidden")


@pytest.mark.parametrize(
    ("main", "argv", "says"),
    [
        (train_main, "", "required: file"),
        (train_main, "book.txt --steps 0", "--steps: 0: expected a whole number, 1 or more"),
        (train_main, "book.txt --hidden -3", "--hidden: -3: expected a whole number, 1 or more"),
        (train_main, "book.txt --layers x", "--layers: x: expected a whole number, 1 or more"),
        (train_main, "book.txt --seed -1", "--seed: -1: expected a whole number, 0 or more"),
        (train_main, "book.txt --cell cnn", "invalid choice: 'cnn'"),
        (sample_main, "", "required: model"),
        (sample_main, "m.npz --length 0", "--length: 0: expected"),
        (sample_main, "m.npz --temperature -1", "--temperature: expected 0 or more, got -1.0"),
        (sample_main, "m.npz --temperature nan", "--temperature: expected 0 or more, got nan"),
        (sample_main, "m.npz --temperature inf", "--temperature: expected 0 or more, got inf"),
    ],
)
def test_options_that_cannot_be(capsys, main, argv, says):
    with pytest.raises(SystemExit) as caught:
        main(argv.split())
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["none.npz"], "none.npz: No such file"),
        (["book.txt"], "`train book.txt` makes a model"),
        (["model.npz", "--start", "the Xé"], "not in the model's alphabet: 'X', 'é'"),
        (["model.npz", "--start", "\udcff"], "not in the model's alphabet: '\\udcff'"),
    ],
)
def test_sample_says_what_is_wrong(capsys, argv, says):
    charmodel.save("model.npz", model_of(WORDS))
    assert sample_main(argv) == 2
    assert one_line(capsys, says).startswith("sample: ")


@pytest.mark.parametrize(("main", "other"), [(train_main, "sample"), (sample_main, "train")])
def test_help_tells_the_other_command(capsys, main, other):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"usage: {'python -m tinygrad_rnn'}" in out
    assert f"python -m tinygrad_rnn {other} book" in out


# ----- the file


def test_the_file_holds_the_weights_and_the_alphabet():
    model = model_of(WORDS, layers=2)
    charmodel.save("m.npz", model)
    arrays = tg.load("m.npz")
    assert "".join(map(chr, arrays.pop("alphabet"))) == model.alphabet
    assert list(arrays) == list(model.state_dict())
    again = charmodel.load("m.npz")
    codes = model.codes(WORDS)
    assert np.array_equal(again(codes).outputs.data, model(codes).outputs.data)


def changed(**new):
    """A model's file with other arrays; None: without."""
    arrays = {"alphabet": model_of("abc").points, **model_of("abc").state_dict()}
    arrays |= {name.replace("__", "."): value for name, value in new.items()}
    tg.save("m.npz", {name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    "new",
    [
        {"alphabet": None},
        {"alphabet": np.array([97, 99, 98], np.uint32)},  # not in order
        {"alphabet": np.array([97, 98, 98], np.uint32)},
        {"alphabet": np.array([97, 98], np.uint32)},
        {"alphabet": np.zeros(0, np.uint32)},
        {"alphabet": np.array([97, 98, 1 << 30], np.uint32)},
        {"alphabet": np.array([97, 98, 0xD800], np.uint32)},
        {"alphabet": np.array([97.0, 98.0, 99.0])},
        {"alphabet": np.array([[97], [98], [99]], np.uint32)},
        {"alphabet": np.array(97, np.uint32)},
        {"layers__1__cell__V": None},
        {"layers__1__cell__V": np.zeros(6, np.float32)},
        {"layers__1__cell__V": np.zeros((6, 12), np.float32)},
        {"layers__1__cell__V": np.zeros((0, 0), np.float32)},
        {"layers__1__cell__V": np.full((6, 18), np.nan, np.float32)},
        {"layers__1__cell__U": np.zeros((5, 18), np.float32)},
        {"layers__1__cell__b": None},
        {"layers__0__W": np.zeros((3, 65), np.float32)},
        {"layers__2__W": None},
        {"layers__2__W": np.zeros((6, 4), np.float32)},
        {"layers__2__b": np.full(3, np.inf, np.float32)},
        {"layers__3__cell__V": np.zeros((6, 18), np.float32)},
        {"other": np.zeros(1)},
        {"alphabet": np.zeros(0, np.uint32), "layers__0__W": np.zeros((0, 64), np.float32),
         "layers__2__W": np.zeros((6, 0), np.float32), "layers__2__b": np.zeros(0, np.float32)},
        {"layers__1__cell__V": np.zeros((0, 0), np.float32),
         "layers__2__W": np.zeros((0, 3), np.float32)},
    ],
    ids=lambda new: " ".join(new),
)  # fmt: skip
def test_files_of_something_else_are_refused(capsys, new):
    changed()
    assert charmodel.load("m.npz").alphabet == "abc"
    changed(**new)
    with pytest.raises(FileFormatError, match=r"m\.npz is no model that `train` wrote"):
        charmodel.load("m.npz")
    assert sample_main(["m.npz"]) == 2
    one_line(capsys, "FileFormatError: m.npz is no model")


def test_a_file_makes_no_model_that_is_larger_than_itself(monkeypatch):
    """Its alphabet and its matrix are large, what should join them is not; layers are but names."""
    made = []

    def make(*sizes, rng):
        made.append(sizes)
        raise ValueError

    monkeypatch.setattr(charmodel, "CharModel", make)
    alphabet = np.arange(0x10000, 0x10000 + 1000, dtype=np.uint32)
    V = np.zeros((100, 100), np.float32)
    changed(alphabet=alphabet, layers__1__cell__V=V, layers__2__W=np.zeros((1, 1), np.float32))
    with pytest.raises(FileFormatError, match="not of the weights' size"):
        charmodel.load("m.npz")
    names = {f"layers__{k}__cell__V": np.zeros(1, np.float32) for k in range(2, 1000)}
    changed(**names, layers__1000__W=np.zeros((6, 3), np.float32))
    with pytest.raises(FileFormatError):
        charmodel.load("m.npz")
    assert all(layers == 1 for _, _, layers, _ in made)


# ----- --from


def test_from_goes_on(folder, capsys):
    sizes = "--steps 60 --chunk 10 --quiet"
    losses = []
    new = "--out first.npz --hidden 12 --cell lstm --layers 2"
    for options in (new, "--from first.npz", "--from first.npz --out later.npz"):
        before = weights("first.npz") if losses else None
        assert train("book.txt", *options.split(), small=sizes) == 0
        losses.append(float(re.search(r"held out: +(\S+)", capsys.readouterr().out)[1]))
        assert (weights("first.npz") == before) == ("later.npz" in options)
    assert losses[0] > losses[1] + 0.1 > losses[2] + 0.1
    assert len(charmodel.load("later.npz").layers) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["book.txt", "first.npz", "later.npz"]


def test_from_keeps_the_alphabet_of_its_model(folder):
    (folder / "part.txt").write_text("the cat sat on the mat\n" * 5, encoding="utf-8")
    assert train("book.txt") == 0
    assert train("part.txt", "--from", "book.npz", small="--steps 2 --quiet") == 0
    assert charmodel.load("book.npz").alphabet == "".join(sorted(set(WORDS)))


def test_from_a_model_that_goes_nowhere_else_is_found_wrong_first(folder, capsys, untrained):
    charmodel.save("m.npz", model_of("abc"))
    before = weights("m.npz")
    assert train_main(["book.txt", "--from", "m.npz"]) == 2
    one_line(capsys, "not in the model's alphabet: '\\n', ' '")
    assert weights("m.npz") == before


# ----- training: chunks, and the carried state


def test_windows_continue_each_other_and_passes_begin_elsewhere():
    text = np.arange(23)[:, None] + np.array([0, 100])
    windows, firsts = [], set()
    for window, anew in charmodel.chunks(text, 5, np.random.default_rng(0)):
        assert window.shape == (6, 2)
        assert (window[:, 1] - window[:, 0] == 100).all()
        if anew:
            firsts.add(int(window[0, 0]))
            assert not windows or windows[-1] > 22 - 5
        else:
            assert window[0, 0] == windows[-1]
        windows.append(int(window[-1, 0]))
        if len(windows) == 100:
            break
    assert firsts == {0, 1, 2, 3, 4}


def test_pieces_are_side_by_side():
    assert charmodel.side_by_side(np.arange(7), 2).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_state_is_carried_from_chunk_to_chunk(monkeypatch, cell):
    monkeypatch.setattr(charmodel, "RATE", 0.0)  # so that the losses are those of one run
    monkeypatch.setattr(charmodel, "chunks", lambda text, k, rng: CHUNKS(text, k, Zero()))
    model = model_of(WORDS, cell=cell, hidden=20)
    codes = model.codes(WORDS * 2)[:91]
    history = charmodel.learn(model, codes, 6, 10, 2, rng=0, progress=False)
    text = charmodel.side_by_side(codes, 2)
    with tg.no_grad():
        logits = model(text[:40]).outputs
        expected = [
            tg.cross_entropy(logits[t : t + 10], text[t + 1 : t + 11]).item()
            for t in range(0, 40, 10)
        ]
    assert history.loss == pytest.approx([*expected, *expected[:2]], rel=1e-5)


CHUNKS = charmodel.chunks


class Zero:
    def integers(self, high):
        return 0


def test_the_gradient_goes_back_over_the_chunk_only():
    """Otherwise the second step would meet the first one's freed graph."""
    model = model_of(WORDS)
    assert len(charmodel.learn(model, model.codes(WORDS * 3), 5, 4, 2, 0, progress=False)) == 5


def test_the_learning_rate_sinks_to_a_tenth_and_gradients_are_clipped(monkeypatch):
    rates, fit = [], charmodel.fit

    def fitted(loss, parts, optimizer, steps, callback, **options):
        assert options == {"clip": 1.0, "progress": False}

        def told(step, history):
            callback(step, history)
            rates.append(optimizer.lr)

        return fit(loss, parts, optimizer, steps, callback=told, **options)

    monkeypatch.setattr(charmodel, "fit", fitted)
    model = model_of(WORDS)
    charmodel.learn(model, model.codes(WORDS), 4, 10, 2, rng=0, progress=False)
    assert rates == pytest.approx([charmodel.RATE * share for share in (0.775, 0.55, 0.325, 0.1)])


@pytest.mark.parametrize("length", [2, 101, 102, 333, 1733])
def test_what_is_measured_is_the_loss_of_one_run_over_each_piece(length):
    model = model_of(WORDS, hidden=20)
    codes = model.codes((WORDS * 34)[:length])
    text = charmodel.side_by_side(codes, 3 if length == 1733 else 1)
    with tg.no_grad():
        expected = tg.cross_entropy(model(text[:-1]).outputs, text[1:]).item()
    assert charmodel.measure(model, codes) == pytest.approx(expected, rel=1e-5)


def test_guessing_by_frequency():
    train, held = np.array([0, 0, 1]), np.array([0, 2])
    expected = -(math.log(3 / 6) + math.log(1 / 6)) / 2
    assert charmodel.guessing(train, held, 3) == pytest.approx(expected)


# ----- drawing


def sharp(text="abc", scale=1.0):
    """A model whose logits are 0, scale, 2 scale, ... whatever was before."""
    model = model_of(text)
    for p in model.parameters():
        p.data = np.zeros(p.shape, p.dtype)
    model.layers[-1].b.data = scale * np.arange(len(text), dtype=np.float32)
    return model


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_characters_come_as_often_as_the_softmax_says(temperature):
    text = "".join(sharp().text("", 3000, 0, temperature))
    p = np.exp(np.arange(3) / temperature)
    found = np.array([text.count(c) for c in "abc"]) / 3000
    assert found == pytest.approx(p / p.sum(), abs=0.03)


@pytest.mark.parametrize("temperature", [0, 1e-300])
def test_at_temperature_zero_it_is_the_likeliest(temperature):
    assert "".join(sharp(scale=30.0).text("a", 5, 0, temperature)) == "accccc"
    assert "".join(sharp(scale=1e-6).text("a", 5, 0, temperature)) == "accccc"


@pytest.mark.parametrize(("alphabet", "before"), [("\t\n ab", "\n"), ("\t ab", " "), ("ab", "a")])
def test_without_a_start_it_is_as_after_a_line(alphabet, before):
    model = CharModel(alphabet, 6, rng=0)
    assert "".join(model.text("", 20, 0)) == "".join(model.text(before, 20, 0))[1:]


def test_what_was_written_counts_for_what_comes():
    """The text is that of a run over all of it, step by step."""
    model = model_of(WORDS, hidden=20, layers=2)
    text = "".join(model.text("the ", 30, 0, 0))
    with tg.no_grad():
        likeliest = model(model.codes(text)).outputs.data.argmax(axis=-1)
    assert model.codes(text)[4:].tolist() == likeliest[3:-1].tolist()


def test_text_comes_as_it_is_made():
    parts = model_of(WORDS).text("the", 10**9, 0)
    assert [next(parts), len(next(parts)), len(next(parts))] == ["the", 1, 1]


def test_text_is_written_as_it_is_made(monkeypatch):
    flushed = []

    class Out(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    charmodel.save("m.npz", model_of(WORDS))
    monkeypatch.setattr(sys, "stdout", Out())
    assert sample_main(["m.npz", "--length", "3", "--start", "the"]) == 0
    assert [len(text) for text in flushed] == [3, 4, 5, 6, 7]


def test_an_alphabet_may_be_any_text_that_has_it():
    model, sorted_one = model_of("hello"), model_of("ehlo")
    assert model.alphabet == "ehlo"
    assert model.codes("lol").tolist() == [2, 3, 2]
    assert "".join(model.text("he", 9, 0)) == "".join(sorted_one.text("he", 9, 0))


def test_a_seed_is_required():
    with pytest.raises(RngError):
        CharModel("abc")
    with pytest.raises(RngError):
        next(model_of("abc").text("a", 1, None))


def test_unknown_characters_are_named():
    with pytest.raises(UsageError, match=r"alphabet: 'x', 'y'$"):
        model_of("abc").codes("axyax")


# ----- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_sample_now_and_then(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    small = "--hidden 6 --steps 20 --chunk 100 --batch 2"  # some passes over the text
    assert train("book.txt", small=small) == 0
    shown = sys.stderr.getvalue()
    assert re.findall(r"\r\x1b\[K +(\d+) '", shown) == [str(k) for k in range(2, 21, 2)]
    quiet = weights("book.npz")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert train("book.txt", "--quiet", "--out", "book.npz", small=small) == 0
    assert sys.stderr.getvalue() == ""
    assert weights("book.npz") == quiet  # samples have a generator of their own


def test_elsewhere_progress_is_that_of_fit(capsys):
    assert train("book.txt", small=SMALL.removesuffix("--quiet")) == 0
    err = capsys.readouterr().err
    assert [line.split()[1] for line in err.splitlines()] == ["1/3", "2/3", "3/3"]


# ----- Ctrl-C


def test_ctrl_c_keeps_the_weights_of_the_last_whole_step(monkeypatch, capsys):
    losses, kept, learn, cross_entropy = [], [], charmodel.learn, charmodel.cross_entropy

    def interrupted(*arguments, **options):
        losses.append(1)
        if len(losses) == 3:
            raise KeyboardInterrupt
        return cross_entropy(*arguments, **options)

    def learning(model, *rest):
        return learn(model, *rest[:-1], lambda step: kept.append(model.state_dict()))

    monkeypatch.setattr(charmodel, "cross_entropy", interrupted)
    monkeypatch.setattr(charmodel, "learn", learning)
    assert train("book.txt", "--out", "m.npz") == 130
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1:] == [
        "m.npz: the weights after 2 steps, stopped by Ctrl-C. Text from them: "
        "python -m tinygrad_rnn sample m.npz",
        "To go on: python -m tinygrad_rnn train book.txt --from m.npz",
    ]
    assert len(kept) == 2
    found = charmodel.load("m.npz").state_dict()
    assert all(np.array_equal(found[name], a) for name, a in kept[-1].items())


def test_a_model_that_is_there_is_not_replaced_unasked(capsys, folder):
    charmodel.save("book.npz", model_of(WORDS))
    before = weights("book.npz")
    assert train("book.txt") == 2
    err = one_line(capsys, "book.npz is there already: --from book.npz goes on with it")
    assert "--out replaces it" in err
    assert weights("book.npz") == before


def test_ctrl_c_before_the_first_step_saves_nothing(monkeypatch, capsys, folder):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    charmodel.save("book.npz", model_of(WORDS))
    before = weights("book.npz")
    monkeypatch.setattr(charmodel, "cross_entropy", interrupted)
    assert train("book.txt", "--out", "book.npz") == 130
    assert "nothing is saved" in capsys.readouterr().out
    assert weights("book.npz") == before


def test_ctrl_c_while_saving_saves_all_the_same(monkeypatch, capsys):
    save, pressed = charmodel.save, []

    def interrupted(*arguments):
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(charmodel, "save", interrupted)
    assert train("book.txt", "--out", "m.npz") == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().out
    charmodel.load("m.npz")


SCRIPT = """
import sys
from tinygrad_rnn import charmodel

fit = charmodel.fit

def told(*arguments, callback, **options):
    def after(step, history):
        callback(step, history)
        if step == 5:
            print("five steps", flush=True)
    return fit(*arguments, callback=after, **options)

charmodel.fit = told
sys.exit(charmodel.{main}(sys.argv[1:]))
"""


def process(main, *argv):
    command = [sys.executable, "-c", SCRIPT.format(main=main), *argv]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=others | {"PYTHONIOENCODING": "ascii"}, **pipes)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_a_real_ctrl_c(folder):
    argv = "book.txt --out m.npz --hidden 6 --steps 1000000 --chunk 5 --batch 2"
    with process("train_main", *argv.split()) as running:
        assert b"characters" in running.stdout.readline()
        assert running.stdout.readline() == b"five steps\n"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert b"Traceback" not in err
    assert b"stopped by Ctrl-C" in out
    assert b"sample m.npz" in out
    assert sorted(path.name for path in folder.iterdir()) == ["book.txt", "m.npz"]
    assert set("".join(charmodel.load("m.npz").text("the", 9, 0))) <= set(WORDS)


def test_whoever_reads_may_stop_reading():
    charmodel.save("m.npz", model_of(WORDS))
    argv = ["m.npz", "--length", "1000000000", "--start", "the"]
    with process("sample_main", *argv) as running:
        assert running.stdout.read(20)[:3] == b"the"  # while the rest is still to be made
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


def test_whoever_stops_reading_what_train_says_has_the_weights(folder):
    argv = "book.txt --out m.npz --hidden 6 --steps 4 --chunk 5 --batch 2 --quiet"
    with process("train_main", *argv.split()) as running:
        assert b"characters" in running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0
    charmodel.load(folder / "m.npz")


def test_text_is_written_in_utf_8_whatever_the_system_has(folder):
    charmodel.save("m.npz", model_of("春夏秋冬"))
    with process("sample_main", "m.npz", "--length", "9") as running:
        out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, b"")
    assert set(out.decode().strip()) <= set("春夏秋冬")
