"""`python -m tinygrad_rnn check`: what is read, what is checked, and the exit status."""

import os
import subprocess
import sys
import textwrap
from importlib import import_module

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import __main__, testing
from tinygrad_rnn.shell import split
from tinygrad_rnn.testing import shell

FILE = """
    from __future__ import annotations
    from dataclasses import dataclass

    import numpy
    import tinygrad_rnn
    from neighbour import slope

    assert __name__ != "__main__"
    start = numpy.array([0.5, -1.0])
    layer = tinygrad_rnn.Linear(2, 3, rng=0)
    rnn = tinygrad_rnn.RNN(tinygrad_rnn.RNNCell(2, 3, rng=0))

    @dataclass
    class Two:
        factor: float

        def times(self, x):
            return self.factor * x ** 2

    def right(x, *, power=2):
        import neighbour_late
        return slope * x ** power

    def powers(x, *, power):
        return x ** power

    def through_layer(x):
        return numpy.tanh(layer(x))

    @tinygrad_rnn.primitive
    def wrong(x):
        return x ** 2

    tinygrad_rnn.defvjp(wrong, lambda g, x0: g * x0)

    def vague(x):
        return (1e12 + x) ** 2 * 1e-12

    def broken(x):
        raise KeyError("in the file")

    class Timed(tinygrad_rnn.RNNCell):
        def step(self, x, h):
            values, gap = x
            return super().step(values, h * numpy.exp(-gap))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, rule_of):
    (tmp_path / "own.py").write_text(textwrap.dedent(FILE), encoding="utf-8")
    (tmp_path / "neighbour.py").write_text("slope = 3.0", encoding="utf-8")
    (tmp_path / "neighbour_late.py").write_text("", encoding="utf-8")
    (tmp_path / "bad.py").write_text("import no_such_module", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does
    modules, path = dict(sys.modules), list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


def run(*argv):
    return __main__.main(["check", *argv])


@pytest.mark.parametrize(
    ("call", "compared"),
    [
        ("right(start)", ["x"]),
        ("right(np.ones(3))", ["x"]),
        ("powers(np.ones(3), power=3)", ["x"]),
        (" right(*[start], **{'power': 4}) ", ["x"]),
        ("Two(2.0).times(start)", ["x"]),
        ("through_layer(np.ones((1, 2)))", ["x", "layer.W", "layer.b"]),
        ("rnn(np.ones((4, 1, 2)), lengths=np.array([3]))", ["cell.U", "cell.V", "cell.b"]),
        ("np.tanh(start)", []),
        ("tg.sigmoid(start)", ["x"]),
        ("(lambda x, y: x * y)(start, 2.0)", ["x", "y"]),
    ],
)
def test_a_call_is_checked_in_the_names_of_its_file(folder, capsys, call, compared):
    status = run(f"own.py:{call}")
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert "PASS" in out
    for name in compared:
        assert f"{name}: " in out


def test_wrong_and_inconclusive_gradients_give_status_1(folder, capsys):
    assert run("own.py:wrong(start)") == 1
    assert "wrong: FAIL" in capsys.readouterr().out
    assert run("own.py:vague(start)") == 1
    assert "vague: INCONCLUSIVE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none.py:f(1.0)", "there is no file none.py"),
        ("own.py:right", "'right' is not a call"),
        ("own.py:", "'' is not a call"),
        ("own.py:right(", "'right(' is not a call"),
        ("own.py", "'' is not a call"),
        ("right(start)", "'right(start)' is no file and no module"),
        ("own:right", "'right' is not a call"),
        ("own.py:missing(start)", "name 'missing' is not defined"),
        ("own.py:right(missing)", "name 'missing' is not defined"),
        ("own.py:np.onse(3)", "has no attribute 'onse'"),
        ("own.py:slope(start)", "slope is a float, not a function"),
        ("no.such.module:f(1.0)", "there is no module no.such.module"),
        ("own.py:right(x=start)", "NoGradientError: there is nothing to check"),
        ("own.py:right(np.ones(2, 'f2'))", "DtypeError: x is float16"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_status_2(folder, capsys, text, says):
    assert run(text) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1
    if "Error:" not in says and "not a function" not in says:
        assert shell.EXAMPLE in err


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("own.py:broken(start)", 'raise KeyError("in the file")'),
        ("bad.py:f(1.0)", "import no_such_module"),
        ("bad:f(1.0)", "import no_such_module"),
        ("own.py:right(np.ones(-1))", "negative dimensions"),
    ],
)
def test_an_error_in_the_users_own_lines_is_shown_where_it_happened(folder, capsys, text, line):
    assert run(text) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert line in err


def test_the_users_own_line_stands_in_brackets(folder, capsys):
    assert run("own.py:broken(start)") == 2
    line = 1 + textwrap.dedent(FILE).splitlines().index('    raise KeyError("in the file")')
    assert capsys.readouterr().err == (
        f"check: KeyError: 'in the file' ({folder / 'own.py'}, line {line}: "
        'raise KeyError("in the file"))\n'
    )


def test_modules_by_name(folder):
    assert run("own:right(start)") == 0
    assert run("tinygrad_rnn.functions:softmax(np.ones(3))") == 0


def test_a_file_imports_its_neighbours_and_may_be_called_as_a_module_is(folder):
    inner = folder / "inner"
    inner.mkdir()
    (inner / "random.py").write_text("from beside import f", encoding="utf-8")
    (inner / "beside.py").write_text("def f(x): return x * x", encoding="utf-8")
    before = sys.modules["random"]
    assert run(f"{inner / 'random.py'}:f(np.ones(2))") == 0
    assert sys.modules["random"] is before


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (r"C:\own\cell.py:f(x[1:2])", (r"C:\own\cell.py", "f(x[1:2])")),
        ("own/cell.py:f({'a': 1})", ("own/cell.py", "f({'a': 1})")),
        ("a.py:b.py:f()", ("a.py:b.py", "f()")),
        ("own.cell:f(x[1:2])", ("own.cell", "f(x[1:2])")),
        ("own.cell", ("own.cell", "")),
    ],
)
def test_the_file_ends_at_py(text, parts):
    assert split(text) == parts


def test_options_reach_the_check(folder, capsys, monkeypatch):
    seen = {}

    def grad_report(f, *args, rtol=None, seed=None, name=None, directions=None, **rest):
        seen.update(rtol=rtol, seed=seed, name=name, directions=directions)
        return testing.grad_report(f, *args)

    monkeypatch.setattr(shell, "grad_report", grad_report)
    flags = "--rtol 1e-7 --seed 3 --name mine --directions all"
    assert run("own.py:right(start)", *flags.split()) == 0
    assert seen == {"rtol": 1e-7, "seed": 3, "name": "mine", "directions": "all"}
    assert run("own.py:right(start)", "--directions", "2") == 0
    assert seen == {"rtol": None, "seed": None, "name": "right", "directions": 2}


def test_options_reach_the_check_of_a_cell(folder, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(
        shell, "check_cell", lambda make, **rest: calls.append(rest) or FakeReport()
    )
    run("own.py:tg.RNNCell(3, 4, rng=0)", "--seed", "3", "--rtol", "1e-7")
    run("own.py:tg.RNNCell(3, 4, rng=0)", "--inputs", "3,1", "--only", "no steps,rows")
    run("own.py:tg.RNNCell(3, 4, rng=0)", "--inputs", "3")
    assert calls == [
        {"seed": 3, "rtol": 1e-7},
        {"inputs": (3, 1), "only": ["no steps", "rows"]},
        {"inputs": 3},
    ]
    assert run("own.py:tg.RNNCell(3, 4, rng=0)", "--order", "2") == 2
    assert (
        "--order is for functions; a cell's check takes --seed, --rtol" in capsys.readouterr().err
    )


def test_a_cell_is_checked_as_a_cell(folder, capsys):
    assert run("own.py:tg.RNNCell(3, 4, rng=0)") == 0
    assert "14 of 14 laws" in capsys.readouterr().out
    with testing.mutants.apply("loop.no_steps_state"):
        assert run("own.py:tg.GRUCell(3, 4, rng=0)") == 1
    assert "no steps: FAIL" in capsys.readouterr().out


def test_some_laws_of_a_cell_and_its_widths(folder, capsys):
    assert run("own.py:tg.RNNCell(3, 4, rng=0)", "--only", "gradients") == 0
    assert "1 of 1 laws" in capsys.readouterr().out
    assert run("own.py:Timed(3, 4, rng=0)") == 1
    assert "contract: FAIL, ValueError: not enough values" in capsys.readouterr().out
    assert run("own.py:Timed(3, 4, rng=0)", "--inputs", "3,4", "--only", "rows,float32") == 0
    assert "2 of 2 laws" in capsys.readouterr().out


def test_the_source_of_a_cell_whose_x_is_a_tuple(folder, capsys):
    assert __main__.main(["source", "own.py:Timed(3, 4, rng=0)", "--inputs", "3,4"]) == 0
    out = capsys.readouterr().out
    assert "'x0': d_x0, 'x1': d_x1" in out
    assert __main__.main(["source", "own.py:Timed(3, 4, rng=0)"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("source: ValueError: not enough values to unpack")
    assert ": values, gap = x)" in err


def test_flags_of_the_other_kind_and_laws_that_there_are_not(folder, capsys):
    assert run("own.py:right(start)", "--only", "rows") == 2
    assert "--only is for cells; a function's check takes --seed, --rtol, --order," in (
        capsys.readouterr().err
    )
    assert run("own.py:tg.RNNCell(3, 4, rng=0)", "--only", "magic") == 2
    err = capsys.readouterr().err
    assert err.startswith("check: ValueError: there is no law 'magic'; there are contract, ")
    assert err.count("\n") == 1
    with pytest.raises(SystemExit):
        run("own.py:Timed(3, 4, rng=0)", "--inputs", "3,x")
    assert "--inputs: x: expected a whole number, 1 or more" in capsys.readouterr().err


class FakeReport:
    ok = True

    def text(self):
        return "cell: PASS"


@pytest.mark.parametrize(("call", "status"), [("right(start)", 0), ("wrong(start)", 1)])
def test_the_exit_status_of_the_command(folder, call, status):
    command = [sys.executable, "-m", "tinygrad_rnn", "check", f"{folder / 'own.py'}:{call}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == status
    assert result.stderr == ""
    assert call[:5] in result.stdout


def test_without_a_call_the_usage_is_shown(capsys):
    for argv in ([], ["--help"]):
        with pytest.raises(SystemExit) as caught:
            run(*argv)
        assert caught.value.code == (2 if not argv else 0)
        out, err = capsys.readouterr()
        assert "usage: python -m tinygrad_rnn check" in out + err
    assert "np.ones(3)" in out
    told = " ".join(out.split())
    for part in (
        "or the laws of a cell",
        "for a function alone: --order",
        "for a cell alone: --inputs INPUTS the width of x; its widths, as 3,1, where x is a tuple",
        "some laws, with commas between: contract, purity",
        "--only gradients. Exit status",
    ):
        assert part in told


@pytest.mark.skipif(os.name != "posix", reason="a pipe without a reader is POSIX")
@pytest.mark.parametrize(
    ("words", "unbuffered", "status"),
    [
        (["source", "tinygrad_rnn:GRUCell(3, 4, rng=0)"], "", 0),
        (["source", "tinygrad_rnn:GRUCell(3, 4, rng=0)"], "1", 1),
        (["check", "own.py:wrong(start)"], "", 1),
        (["draw", "tasks"], "1", 1),
        (["check", "--help"], "", 1),
    ],
)
def test_a_reader_that_leaves_is_no_error_to_tell(folder, words, unbuffered, status):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tinygrad_rnn", *words]
    others = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    if unbuffered:
        others["PYTHONUNBUFFERED"] = unbuffered
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=others)
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, b"")


def test_check_is_only_a_subcommand_in_front(monkeypatch):
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--quick", "check"])
    assert caught.value.code == 2


def test_an_unknown_subcommand_is_named_with_those_that_there_are(capsys):
    assert __main__.main(["trian", "book.txt"]) == 2
    err = capsys.readouterr().err
    assert err == (
        "there is no subcommand 'trian', did you mean train? there are check, source, draw, train, "
        "sample, info, or none: the demo (--help says what each is for)\n"
    )
    assert __main__.main(["xyz"]) == 2
    assert capsys.readouterr().err.startswith("there is no subcommand 'xyz': there are check, ")


def test_help_has_a_line_for_each_subcommand_and_says_where_to_start(capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (room, function, what) in __main__.COMMANDS.items():
        assert f"  {name:8}{what}" in lines
        assert callable(getattr(import_module(f"tinygrad_rnn.{room}"), function))
    assert "start there" in lines[-2]
    assert max(map(len, lines)) <= 100


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"tinygrad_rnn {tg.__version__}\n"


@pytest.mark.parametrize("command", [["draw", "tasks"], []])
@pytest.mark.parametrize("text", ["-1", "x", "1.5"])
def test_a_seed_is_a_whole_number(capsys, command, text):
    with pytest.raises(SystemExit) as caught:
        __main__.main([*command, "--seed", text])
    assert caught.value.code == 2
    assert f"--seed: {text}: expected a whole number, 0 or more" in capsys.readouterr().err
