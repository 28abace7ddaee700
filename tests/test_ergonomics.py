"""A newcomer's first minutes: names that are not there, what a prompt shows, `info`, no NumPy."""

import json
import os
import pydoc
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import __main__, charmodel, info, testing
from tinygrad_rnn.scan.trace import Recorder
from tinygrad_rnn.testing import mutants

ROOT = Path(tg.__file__).parents[1]

# ----- names


def test_dir_shows_what_is_public():
    shown = set(dir(tg))
    assert set(tg.__all__) | {"testing", "__version__"} <= shown
    assert not {"arrays", "graph", "streaming", "unfold", "vjp"} & shown
    assert all(hasattr(tg, name) for name in shown)  # testing, too: it was imported above


def test_help_starts_with_what_to_type():
    text = pydoc.plain(pydoc.render_doc(tg))
    first = text.index("import numpy as np, tinygrad_rnn as tg")
    assert first < text.index("python -m tinygrad_rnn") < text.index("PACKAGE CONTENTS")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("LSTM", "write tg.RNN(tg.LSTMCell(inputs, hidden, rng=0))"),
        ("nn", "its names are in tg itself: tg.Linear"),
        ("tanh", "np.tanh, which works on Tensors"),
        ("vstack", "np.vstack, which works on Tensors"),
        ("zeros", "it is NumPy's, np.zeros"),
        ("pi", "it is NumPy's, np.pi"),
        ("cat", "it is NumPy's, np.concatenate, which works on Tensors"),
        ("stack", "it is NumPy's, np.stack, which works on Tensors"),
        ("mse_loss", "it is tg.mse(output, target)"),
        ("ModuleList", "a plain list"),
        ("randn", "np.random.default_rng(0).normal(size=shape)"),
        ("Linaer", "Did you mean tg.Linear?"),
        ("rnncell", "Did you mean tg.RNNCell?"),
        ("CrossEntropyLoss", "Did you mean tg.cross_entropy?"),
    ],
)
def test_a_name_that_is_not_there_says_what_to_write(name, advice):
    with pytest.raises(AttributeError, match="tinygrad_rnn has no") as caught:
        getattr(tg, name)
    assert str(caught.value).endswith(advice) or advice in str(caught.value)


@pytest.mark.parametrize("name", ["qqqqq", "__wrapped__", "_private"])
def test_far_from_all_names_there_is_no_advice(name):
    assert not hasattr(tg, name)
    with pytest.raises(AttributeError) as caught:
        getattr(tg, name)
    assert str(caught.value) == f"tinygrad_rnn has no {name!r}"


def test_what_the_advice_names_is_there():
    for advice in tg._INSTEAD.values():
        for word in advice.replace("(", " ").replace(",", " ").split():
            if word.startswith("tg."):
                found = tg
                for part in word.split(".")[1:]:
                    found = getattr(found, part)


def run(*argv, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, env=environment, **options
    )


def test_testing_is_imported_by_name(tmp_path):
    for line in ("from tinygrad_rnn import testing", "import tinygrad_rnn.testing"):
        assert run("-c", f"{line}; import tinygrad_rnn as tg; tg.testing.check_grads").stderr == ""
    told = run("-c", "import tinygrad_rnn as tg; tg.testing").stderr.splitlines()[-1]
    assert told == (
        "AttributeError: tinygrad_rnn has no 'testing': write from tinygrad_rnn import testing"
    )


def test_a_type_checker_sees_which_names_there_are(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "own.py").write_text(
        "import tinygrad_rnn as tg\nfrom tinygrad_rnn import testing\ntg.Linaer(2, 3)\n"
        "x: int = tg.RNN\ny: int = testing.check_grads\n",
        encoding="utf-8",
    )
    command = ["-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "own.py"]
    checkout = {"MYPYPATH": str(ROOT)} if (ROOT / "pyproject.toml").exists() else {}
    lines = run(*command, cwd=tmp_path, env=checkout).stdout.splitlines()
    assert 'own.py:3: error: Module has no attribute "Linaer"; maybe "Linear"?' in lines[0]
    assert [line.split(":")[1] for line in lines[:-1]] == ["3", "4", "5"]


# ----- without NumPy


@pytest.fixture
def numpy_is(tmp_path):
    """Run Python with another numpy in front, of this one line."""

    def running(line, *argv):
        (tmp_path / "numpy.py").write_text(line, encoding="utf-8")
        return run(*argv, env={"PYTHONPATH": os.pathsep.join(map(str, [tmp_path, ROOT]))})

    return running


MISSING = 'raise ModuleNotFoundError("No module named \'numpy\'", name="numpy")'


@pytest.mark.parametrize("argv", [[], ["info"], ["train", "book.txt"]])
def test_without_numpy_one_line_says_how_to_install_it(numpy_is, argv):
    done = numpy_is(MISSING, "-m", "tinygrad_rnn", *argv)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "needs NumPy 2.0 or newer: python -m pip install 'numpy>=2.0'" in done.stderr


def test_without_numpy_the_import_says_so_too(numpy_is):
    done = numpy_is(MISSING, "-c", "import tinygrad_rnn")
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: tinygrad_rnn needs NumPy 2.0 or newer: "
        "python -m pip install 'numpy>=2.0'"
    )
    assert "During handling" not in done.stderr


def test_a_numpy_that_is_broken_is_not_called_missing(numpy_is):
    done = numpy_is("import what_numpy_needs", "-c", "import tinygrad_rnn")
    assert "No module named 'what_numpy_needs'" in done.stderr.splitlines()[-1]


# ----- info


@pytest.fixture
def blas(monkeypatch):
    """Set the BLAS's name and the variables of the environment; no others are set."""

    def given(name, cores=4, **variables):
        for variable in info.THREADS:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        config = {"Build Dependencies": {"blas": {"name": name, "version": "1.2"}}}
        monkeypatch.setattr(np, "show_config", lambda mode: config)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        return info.info()

    return given


@pytest.mark.parametrize(
    ("name", "variables", "threads", "variable"),
    [
        ("scipy-openblas", {}, 4, "OPENBLAS_NUM_THREADS"),
        ("scipy-openblas", {"OPENBLAS_NUM_THREADS": "1"}, 1, "OPENBLAS_NUM_THREADS"),
        ("openblas64", {"OMP_NUM_THREADS": "2"}, 2, "OPENBLAS_NUM_THREADS"),
        ("openblas", {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "3"}, 1, None),
        ("openblas", {"MKL_NUM_THREADS": "1"}, 4, None),
        ("mkl-sdl", {"MKL_NUM_THREADS": "1"}, 1, "MKL_NUM_THREADS"),
        ("accelerate", {"VECLIB_MAXIMUM_THREADS": "1"}, 1, "VECLIB_MAXIMUM_THREADS"),
        ("openblas", {"OPENBLAS_NUM_THREADS": "0"}, 4, None),
        ("openblas", {"OPENBLAS_NUM_THREADS": "many"}, 4, None),
    ],
)
def test_info_knows_how_many_threads_blas_will_take(blas, name, variables, threads, variable):
    found = blas(name, **variables)
    assert found["blas"]["threads"] == threads
    assert variable in (None, found["blas"]["variable"])
    text = info.text(found)
    assert ("small matrices are faster with one" in text) == (threads != 1)
    assert all(f"{key}={value}" in text for key, value in variables.items())


def test_one_core_has_one_thread(blas):
    assert "faster" not in info.text(blas("openblas", cores=1))


def test_a_numpy_that_does_not_tell_its_blas(blas, monkeypatch):
    blas("openblas")
    monkeypatch.setattr(np, "show_config", lambda mode: {})
    assert info.blas()["name"] == "unknown"


REQUIRES = [
    "numpy>=2.0",
    "pytest>=8; extra == 'testing'",
    'no-such-package[all] >= 3; python_version < "4" and extra == "onnx"',
    "numpy>=2 ; extra == 'onnx'",
    "tinygrad-rnn[onnx]; extra == 'parity'",
]


def test_extras_are_read_from_the_metadata(blas, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(info, "_version", lambda name: None if "no-such" in name else "1.0")
    found = blas("openblas")
    assert found["extras"] == {
        "testing": {"pytest": "1.0"},
        "onnx": {"no-such-package": None, "numpy": "1.0"},
    }
    lines = info.text(found).splitlines()
    assert "[testing]     pytest 1.0" in lines
    assert "[onnx]        numpy 1.0, not installed: no-such-package: pip install '.[onnx]'" in lines


def test_without_metadata_extras_are_not_known():
    assert info.extras("no-such-package") == {}
    assert "extras        not known" in info.text(info.info() | {"extras": {}})


def test_info_on_the_shell(capsys):
    assert __main__.main(["info"]) == 0
    told = capsys.readouterr().out
    for part in (tg.__version__, np.__version__, sys.version.split()[0], "BLAS", "Next: "):
        assert part in told
    assert __main__.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == info.info()


def test_info_loads_nothing_that_is_large():
    code = "import sys; from tinygrad_rnn.info import main; main([]); print(*sys.modules)"
    loaded = set(run("-c", code).stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "onnx", "onnxruntime", "keras", "pytest", "hypothesis"}


# ----- what a prompt shows


def held():
    """Everything that a user holds, by the name of its class."""
    rng = np.random.default_rng(0)
    cell, x = tg.RNNCell(2, 3, rng=0), rng.normal(size=(40, 5, 2))
    rnn, birnn = tg.RNN(cell), tg.BiRNN(tg.LSTMCell(2, 3, rng=0), tg.GRUCell(2, 3, rng=0))
    fast = tg.RNN(tg.GRUCell(2, 3, rng=0), scan=True, train_state=True)
    fast(x)
    out = rnn(x, return_states=True)
    loss = (out.last**2).sum()
    stream = birnn.forward_rnn.stream((5,))
    stream.push(x)
    report = testing.grad_report(rnn, x[:3])
    by_hand = lambda g, x: 2 * g
    with pytest.raises(testing.GradientError) as caught:
        testing.check_vjp(np.tanh, by_hand, np.ones(3))
    yield from (tg.Tensor(1.0), tg.Tensor(x), tg.Tensor(np.ones(2, int)), x @ cell.U, loss)
    yield from (tg.Tensor(np.zeros((0, 3))), tg.Tensor(rng.normal(size=(9, 11))), cell.U)
    yield from (
        cell,
        tg.Parameter(x),
        tg.Linear(2, 3, rng=0),
        tg.Embedding(5, 3, rng=0),
        rnn,
        birnn,
    )
    yield from (make(2, 3, rng=0) for make in (tg.LSTMCell, tg.GRUCell, tg.zoo.LayerNormLSTM))
    yield from (fast, tg.Chain(birnn, tg.Linear(6, 2, rng=0)), charmodel.CharModel("ab", rng=0))
    yield from (tg.Stacked(cell, tg.GRUCell(3, 4, rng=0)), tg.Residual(tg.RNNCell(3, 3, rng=0)))
    yield from (tg.Readout(cell, tg.Linear(3, 2, rng=0)), tg.Zoneout(cell, 0.1))
    yield tg.VariationalDropout(cell, 0.1, rng=0)
    yield tg.Chain(*[tg.Linear(2, 2, rng=0) for _ in range(30)], tg.RNN(tg.RNNCell(2, 2, rng=0)))
    yield from (out, birnn(x, return_states=True), rnn.stream(), stream)
    yield from (make(rnn.parameters(), lr=0.1) for make in (tg.SGD, tg.Adagrad, tg.RMSprop))
    adam = tg.Adam(rnn.named_parameters())
    history = tg.fit(lambda x: (rnn(x).last ** 2).mean(), [x] * 3, adam, progress=False)
    yield from (adam, history, tg.History())
    yield from (tg.contributions(loss, cell.V), tg.gradient_flow(loss, out))
    yield from (tg.state_jacobians(rnn, x), tg.sensitivity(rnn, x), tg.sensitivity(rnn, x[:5]))
    yield from (tg.draw(out, loss), report, report.findings[0], caught.value.report)
    yield from (testing.check_op(np.tanh), testing.locate(rnn, x[:3])[0])
    yield testing.check_cell(lambda: tg.RNNCell(3, 4, rng=0))
    yield testing.ladder(lambda h: np.sin(1 + h) - np.sin(1 - h))
    yield from (mutants.law_of("loop.reset_all"), mutants._BANK["loop.reset_all"])
    yield mutants.Score(mutants.names(), mutants.names())
    yield from (tg.vjp_of(f) for f in (np.tanh, np.where, np.sum, np.concatenate, np.argmax))
    node = rnn(x).outputs._key[0].edges[0][1][0]
    yield from (node, node.place, node.place.call, cell.U._key[0], fast.traced, Recorder({}))


def test_what_a_prompt_shows_is_short_and_says_what_it_is():
    names = set()
    for thing in held():
        text, name = repr(thing), type(thing).__name__
        names.add(name)
        assert text.startswith(f"{name}("), text
        assert " at 0x" not in text, text
        assert text.count("\n") < 10, text
        assert len(text) < 900, text
    public = {v.__name__ for v in map(tg.__dict__.get, tg.__all__) if isinstance(v, type)}
    assert public - names <= {"Any", "Cell", "Module"}  # bases, of which no user makes one


def test_a_layer_shows_its_parts():
    birnn = tg.BiRNN(tg.RNNCell(2, 3, rng=0), tg.GRUCell(2, 3, rng=0))
    assert repr(tg.RNN(tg.RNNCell(2, 3, rng=0))) == (
        "RNN(cell: RNNCell(U (2, 3)  V (3, 3)  b (3,)); 18 numbers)"
    )
    assert repr(tg.Chain(birnn, tg.Linear(6, 200, rng=0))).splitlines() == [
        "Chain(",
        "  layers.0.forward_rnn.cell: RNNCell(U (2, 3)  V (3, 3)  b (3,))",
        "  layers.0.backward_rnn.cell: GRUCell(U (2, 9)  V (3, 9)  b (9,)  b_n (3,))",
        "  layers.1: Linear(W (6, 200)  b (200,))",
        "  1,475 numbers)",
    ]
    many = tg.Module()
    many.layers = [tg.Linear(1, 1, rng=0) for _ in range(20)]
    assert repr(many).splitlines()[-3:] == [
        "  layers.6: Linear(W (1, 1)  b (1,))",
        "  and 13 parts more",
        "  40 numbers)",
    ]


def test_a_result_shows_its_shapes():
    rnn = tg.RNN(tg.LSTMCell(2, 3, rng=0))
    assert repr(rnn(np.ones((5, 4, 2)))) == (
        "RNNOutput(outputs (5, 4, 3), last (4, 3), state ((4, 3), (4, 3)))"
    )
    stream = rnn.stream((4,))
    assert repr(stream) == "Stream(RNN, batch_shape=(4,), at the start; .push(x_t))"
    stream.push(np.ones((4, 2)))
    assert repr(stream) == ("Stream(RNN, batch_shape=(4,), state ((4, 3), (4, 3)); .push(x_t))")
    assert repr(tg.vjp_of(np.where)) == "Rule(where: None, (g, x0), (g, x0))"
    assert repr(tg.Adam(rnn.parameters(), lr=0.01)) == "Adam(lr=0.01, 3 Parameters, 72 numbers)"


def test_reports_print_in_full():
    report = testing.check_op(np.tanh)
    assert str(report) == report.text() != repr(report)
    score = mutants.Score(["rules.tanh_sign"], ["loop.reset_all"])
    assert str(score) == score.text()
    assert repr(score) == "Score(1 of 2 mutants killed; .text())"


def test_source_and_plan_are_shown_line_by_line_and_are_texts():
    import pickle

    rnn = tg.RNN(tg.RNNCell(2, 3, rng=0), scan=True)
    rnn(np.ones((4, 2, 2)))
    for text in (rnn.source(), rnn.plan()):
        assert repr(text) == str(text) == text
        assert type(pickle.loads(pickle.dumps(text))) is str
