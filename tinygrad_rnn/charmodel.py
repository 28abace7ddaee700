"""A character model of your own text: `python -m tinygrad_rnn train FILE.txt`, then `sample`.

`learn` is truncated BPTT with a carried state: the text is cut into pieces that run side by side, a
chunk of each is one step of training, and the next chunk starts from the state after this one, as
from a constant.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import files, init
from .cells import GRUCell, LSTMCell, RNNCell
from .differentiate import detach, no_grad
from .errors import FileFormatError
from .functions import softmax
from .losses import cross_entropy
from .module import Embedding, Linear
from .optim import Adam
from .recurrent import RNN, Chain
from .shell import UsageError, count, reported, seed
from .train import History, fit

CELLS: dict[str, Any] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}
SIZE = 64  # of the vector as which a character enters
RATE = 5e-3  # Adam's lr at the start; it sinks to a tenth
HELD = 100_000  # no more characters than these are held out
TRAIN = "python -m tinygrad_rnn train book.txt --out book.npz"
SAMPLE = "python -m tinygrad_rnn sample book.npz --start 'The '"


class CharModel(Chain):
    """Which character comes next? Codes (T, N) to logits (T, N, K), for an alphabet of K.

        model = CharModel("abc", hidden=8, rng=0)
        "".join(model.text("ab", 10, rng=0))        # 'ab', and ten characters more

    alphabet  a text in which each character is: number k of them, sorted, is code k
    hidden    units in each layer
    cell      "rnn", "gru" or "lstm"; layers: how many, one on the other
    rng       an int seed or a numpy Generator, required
    """

    def __init__(
        self, alphabet: str, hidden: int = 128, layers: int = 1, cell: str = "gru", rng: Any = None
    ) -> None:
        self.alphabet = "".join(sorted(set(alphabet)))
        self.points = points_of(self.alphabet)
        options: Any = {"rng": init.generator(rng), "dtype": np.float32}
        widths = [SIZE, *[hidden] * (layers - 1)]
        rnns = [RNN(CELLS[cell](width, hidden, **options), scan=True) for width in widths]
        size = len(self.alphabet)
        super().__init__(Embedding(size, SIZE, **options), *rnns, Linear(hidden, size, **options))

    def codes(self, text: str) -> np.ndarray:
        """A text as numbers, (T,). UsageError names the characters that are not in the alphabet."""
        if unknown := sorted(set(text) - set(self.alphabet)):
            names = ", ".join(map(repr, unknown[:10])) + (", ..." if unknown[10:] else "")
            raise UsageError(f"it knows what it learnt from; not in the model's alphabet: {names}")
        return np.searchsorted(self.points, points_of(text))

    def text(self, start: str, length: int, rng: Any, temperature: float = 1.0) -> Iterator[str]:
        """`start`, and then `length` characters, each as it is drawn.

            print("".join(model.text("The ", 200, rng=0, temperature=0.8)))

        start        "": as at the start of a line
        temperature  below 1: rather what is likely; 0: always the likeliest
        """
        rng, stream = init.generator(rng), self.stream()
        before = start or next((c for c in "\n " if c in self.alphabet), self.alphabet[0])
        logits = stream.push(self.codes(before))[-1]
        yield start
        for _ in range(length):
            p = softmax(logits.data / max(temperature, 1e-9))
            code = rng.choice(len(p), p=p)
            yield self.alphabet[code]
            logits = stream.push(np.array(code))


def points_of(text: str) -> np.ndarray:
    """The numbers that Unicode has for characters.

    points_of("aé")      # array([ 97, 233], dtype=uint32)
    """
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


# ----- its file: the weights, and the alphabet. Sizes are those of the weights -------------------


def save(path: Path | str, model: CharModel) -> None:
    """Write a model to a .npz or .safetensors file: its weights, and `alphabet` as code points.

    save("book.npz", model)
    """
    files.save(path, {"alphabet": model.points, **model.state_dict()})


def load(path: Path | str) -> CharModel:
    """The model in a file that `save` wrote. Raises FileFormatError for any other file.

    model = load("book.npz")
    """
    if Path(path).suffix not in files.FORMATS:
        raise UsageError(f"{path} is no model, but perhaps a text: `train {path}` makes a model")
    arrays = files.load(path)
    try:
        if "alphabet" not in arrays:
            raise ValueError("it has no alphabet")
        alphabet = "".join(map(chr, arrays.pop("alphabet").tolist()))
        hidden, width = (V := arrays["layers.1.cell.V"]).shape
        layers = sum(name.endswith(".cell.V") and a.shape == V.shape for name, a in arrays.items())
        # shapes first: no model is made that is larger than the file
        ends = [arrays[f"layers.{k}.W"].shape for k in (0, layers + 1)]
        sound = ends == [(len(alphabet), SIZE), (hidden, len(alphabet))]
        if not (sound and alphabet and list(alphabet) == sorted(set(alphabet))):
            raise ValueError("its alphabet is not in order, or not of the weights' size")
        if not all(np.isfinite(a).all() for a in arrays.values()):
            raise ValueError("a weight is not finite")
        cell = {1: "rnn", 3: "gru", 4: "lstm"}[width / hidden]
        model = CharModel(alphabet, hidden, layers, cell, rng=0)
        model.load_state_dict(arrays)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise FileFormatError(f"{path} is no model that `train` wrote: {error}") from None
    return model


# ----- training ----------------------------------------------------------------------------------


def learn(
    model: CharModel, codes: np.ndarray, steps: int = 2000, chunk: int = 50, batch: int = 32,
    rng: Any = None, progress: Any = True, callback: Callable[[int], Any] = lambda step: None,
) -> History:  # fmt: skip
    """Train on a text: `fit`, with the state carried from chunk to chunk.

        learn(model, model.codes(text), steps=500, rng=0)

    codes     (T,), of chunk + 1 characters or more
    batch     how many pieces of the text run side by side, at most
    callback  callback(step) after each step
    """
    optimizer, state = Adam(model.named_parameters(), lr=RATE), None
    text = side_by_side(codes, max(1, min(batch, len(codes) // (chunk + 1))))

    def loss(part: tuple[np.ndarray, bool]) -> Any:
        nonlocal state
        window, anew = part
        out = model(window[:-1], None if anew else state)
        state = detach(out.state)
        return cross_entropy(out.outputs, window[1:])

    def after(step: int, _: History) -> None:
        optimizer.lr = RATE * (1 - 0.9 * step / steps)
        callback(step)

    parts = chunks(text, chunk, init.generator(rng))
    return fit(loss, parts, optimizer, steps, clip=1.0, progress=progress, callback=after)


def side_by_side(codes: np.ndarray, count: int) -> np.ndarray:
    """A text in `count` pieces of one length, (T, count); what is over is left out.

    side_by_side(np.arange(7), 2)      # [[0, 3], [1, 4], [2, 5]]
    """
    length = len(codes) // count
    return codes[: count * length].reshape(count, length).T


def chunks(text: np.ndarray, length: int, rng: np.random.Generator) -> Iterator[Any]:
    """For ever: parts of length + 1, each beginning where the last ended, and whether it is new.

        next(chunks(side_by_side(codes, 32), 50, rng))      # (51, 32) codes, True

    Each pass begins at another place, so that not always the same parts come.
    """
    end = len(text) - length
    while True:
        first = int(rng.integers(min(length, end)))
        for start in range(first, end, length):
            yield text[start : start + length + 1], start == first


def measure(model: CharModel, codes: np.ndarray) -> float:
    """Nats per character on a text (T,), in pieces of about 500 characters or more.

    measure(model, model.codes(text))
    """
    text, total, state = side_by_side(codes, min(64, max(1, len(codes) // 500))), 0.0, None
    with no_grad():
        for start in range(0, len(text) - 1, 100):
            window = text[start : start + 101]
            out = model(window[:-1], state)
            total += float(cross_entropy(out.outputs, window[1:], reduction="sum"))
            state = out.state
    return total / text[1:].size


def guessing(train: np.ndarray, held: np.ndarray, count: int) -> float:
    """Nats per character for who only knows how often each of `count` characters comes.

    guessing(np.array([0, 1]), np.array([1]), 2)      # 0.6931... = log(2)
    """
    frequency = np.bincount(train, minlength=count) + 1  # none is impossible
    return float(np.log(frequency.sum() / frequency)[held].mean())


# ----- python -m tinygrad_rnn train --------------------------------------------------------------


def train_main(argv: list[str]) -> int:
    """Train on a text file. 0: done; 2: it could not be; 130: Ctrl-C, and the weights are saved.

    train_main(["book.txt", "--out", "book.npz"])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn train",
        description="Train a character model on a text; its last tenth is held out. Ctrl-C ends "
        "the training, and the weights are kept.",
        epilog=f"Example: {TRAIN}. Then: {SAMPLE}",
    )
    add: Any = parser.add_argument
    add("file", help="the text: 100,000 characters make words, more is better")
    add("--out", help=".npz or .safetensors; default: the text's name with .npz, or --from's file")
    add("--from", dest="source", metavar="MODEL", help="go on with its weights; Adam starts anew")
    add("--hidden", type=count, help="units in a layer (default 128)")
    add("--layers", type=count, help="recurrent layers (default 1)")
    add("--cell", choices=CELLS, help="default gru")
    add("--steps", type=count, default=2000, help="of training (default 2000)")
    add("--chunk", type=count, default=50, help="characters that BPTT goes back over (default 50)")
    add("--batch", type=count, default=32, help="chunks in a step (default 32)")
    add("--encoding", default="utf-8", help="of the text (default utf-8)")
    add("--seed", type=seed, default=0, help="same seed, same numbers (default 0)")
    add("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(argv)
    return reported("train", TRAIN, lambda: _careful(_train, options))


def _train(options: argparse.Namespace) -> int:
    text, rng = text_of(options.file, options.encoding), np.random.default_rng(options.seed)
    out = _place(options.out or options.source or f"{Path(options.file).stem}.npz")
    if not options.out and not options.source and out.exists():
        raise UsageError(f"{out} is there already: --from {out} goes on with it, --out replaces it")
    least, held = max(11, -(-10 * (options.chunk + 1) // 9)), min(-(-len(text) // 10), HELD)
    if len(text) < least:
        needed = f"--chunk {options.chunk} needs {least}, as a tenth is held out"
        raise UsageError(f"{options.file} has {len(text)} characters; {needed}")
    model = _model(options, text, rng)
    train, rest = np.split(model.codes(text), [-held])
    different = f"{len(text):,} characters, {len(set(text))} different"
    print(f"{options.file}: {different}; held out are the last {held:,}", flush=True)

    def show(step: int) -> None:
        if not options.quiet and sys.stderr.isatty() and step % -(-options.steps // 10) == 0:
            line = "".join(model.text("", 60, options.seed, 0.8))
            print(f"\r\x1b[K{step:>7} {line!r}", file=sys.stderr)  # over the bar, which comes back

    sizes = options.steps, options.chunk, options.batch
    history = learn(model, train, *sizes, rng, not options.quiet, show)
    if not history:
        print("stopped before the first step was done: nothing is saved")
        return 130
    stopped = history.interrupted
    try:
        save(out, model)
    except KeyboardInterrupt:  # while saving, perhaps for the second time
        stopped = True
        save(out, model)
    done = f"{len(history)} steps{', stopped by Ctrl-C' * stopped}"
    name, text_name = shlex.quote(str(out)), shlex.quote(options.file)
    print(f"{out}: the weights after {done}. Text from them: python -m tinygrad_rnn sample {name}")
    print(f"To go on: python -m tinygrad_rnn train {text_name} --from {name}", flush=True)
    if stopped:
        return 130
    in_training, held_out = float(np.mean(history.loss[-20:])), measure(model, rest)
    _tell("a character, in training", in_training)
    _tell("held out", held_out)
    _tell("guessed by letter frequency", guessing(train, rest, len(model.alphabet)))
    if held_out > 2 * in_training:
        print("It knows the text by heart: more text, fewer --steps or a smaller --hidden help.")
    return 0


def _tell(what: str, nats: float) -> None:
    print(f"{what + ':':<28} {nats:.3f} nats, {nats / math.log(2):.3f} bits", flush=True)


def _careful(work: Callable[[Any], int], options: argparse.Namespace) -> int:
    """Do it; what the system says of files and of memory becomes one line, too."""
    try:
        return work(options)
    except BrokenPipeError:  # who reads has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
        return 0
    except OSError as error:
        place = error.filename and f"{error.filename}: {error.strerror}"
        raise UsageError(place or str(error)) from None
    except MemoryError as error:
        raise UsageError(f"{error}: try a smaller --hidden, --batch or --chunk") from None


def _place(name: str) -> Path:
    """Where the model will go: what speaks against it is said before there is one."""
    path, folder = Path(name), Path(os.path.realpath(name)).parent
    if path.suffix not in files.FORMATS:
        raise UsageError(f"--out {name}: models are kept in {' or '.join(files.FORMATS)} files")
    if path.is_dir():
        raise UsageError(f"--out {name} is a folder")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageError(f"--out {name}: there is no folder {folder} to write into")
    return path


def _model(options: argparse.Namespace, text: str, rng: np.random.Generator) -> CharModel:
    """A new one for the text's alphabet, or that of --from."""
    sizes = {name: getattr(options, name) for name in ("hidden", "layers", "cell")}
    given = {name: value for name, value in sizes.items() if value is not None}
    if options.source and given:
        raise UsageError(f"--from has sizes of its own: leave out --{', --'.join(given)}")
    if options.source:
        return load(options.source)
    return CharModel(text, rng=rng, **given)


def text_of(path: str, encoding: str) -> str:
    r"""A file's text, its lines ended by "\n" alone; UsageError for what is no text.

    text_of("book.txt", "utf-8")
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
        points_of(text)  # no half characters, which some encodings let pass
    except (LookupError, UnicodeError) as error:
        advice = "If it is a text in another encoding, say --encoding cp932, latin-1, utf-16"
        raise UsageError(f"{path} is no {encoding} text: {error}. {advice}") from None
    if not text:
        raise UsageError(f"{path} is empty")
    if "\0" in text:
        raise UsageError(f"{path} is no text: NUL after {text.index(chr(0))} characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# ----- python -m tinygrad_rnn sample -------------------------------------------------------------


def sample_main(argv: list[str]) -> int:
    """Write text from a model to the standard output, as it is made. 0: done; 2: it could not be.

    sample_main(["book.npz", "--start", "The "])
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn sample",
        description="Text from a model that `train` wrote, character by character.",
        epilog=f"Example: {SAMPLE} --temperature 0.5. Where models come from: {TRAIN}",
    )
    add: Any = parser.add_argument
    add("model", help=".npz or .safetensors, written by train")
    add("--length", type=count, default=500, help="characters to add (default 500)")
    add("--seed", type=seed, default=0, help="another one, another text (default 0)")
    add("--temperature", type=float, default=0.8, help="0: likeliest; 1: as learnt (default 0.8)")
    add("--start", default="", help="what the text starts with")
    options = parser.parse_args(argv)
    if not 0 <= options.temperature < math.inf:
        parser.error(f"--temperature: expected 0 or more, got {options.temperature}")
    return reported("sample", SAMPLE, lambda: _careful(_sample, options))


def _sample(options: argparse.Namespace) -> int:
    model = load(options.model)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as texts are read
    for part in model.text(options.start, options.length, options.seed, options.temperature):
        print(part, end="", flush=True)
    print(flush=True)
    return 0
