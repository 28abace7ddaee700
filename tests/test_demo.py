"""The demo and the examples: they run, and their figures hold."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chrome as chrome  # a fixture
from browser import errors, requests, show

from tinygrad_rnn import __main__, demo
from tinygrad_rnn.report import report

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return demo.run(seed=0, quick=True, out=str(tmp_path_factory.mktemp("demo")))


def test_gradients_agree_with_finite_differences(figures):
    assert figures["RNN gradient error"] < 1e-8
    assert figures["BiRNN gradient error"] < 1e-8


def test_characters_are_learnt(figures):
    assert figures["after"] < figures["unigram"] - 0.5 < figures["before"]
    assert figures["recited"] == "hello world"


def test_only_the_birnn_sees_the_future(figures):
    assert figures["birnn accuracy"] >= 0.99
    assert 0.4 <= figures["rnn accuracy"] <= 0.6


def test_the_model_is_one_that_sample_writes_from(figures, capsys):
    assert __main__.main(["sample", figures["files"][0], "--start", "The ", "--length", "10"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("The ")
    assert set(written) <= set(demo.corpus())


def test_the_report_is_one_page_that_goes_through_hello_world(figures):
    page = Path(figures["files"][1]).read_text(encoding="utf-8")
    assert page.count("<svg ") == 7
    assert page.count('class="steps"') == 1
    assert "so far: 100.0 %" in page
    assert "An RNN sees the past" in page
    assert len(page) < 1_000_000


def test_the_report_in_a_browser(figures, chrome, tmp_path):
    show(chrome, Path(figures["files"][1]).read_text(encoding="utf-8"), tmp_path)
    count = lambda: chrome.find_element("css selector", ".count").text
    assert count() == "21 / 21"
    for button, expected in (("first", "1 / 21"), ("next", "2 / 21"), ("last", "21 / 21")):
        chrome.find_element("css selector", f"[data-go={button}]").click()
        assert count() == expected
    assert errors(chrome) == []
    assert all(address.startswith("file:") for address in requests(chrome))


def test_the_report_in_japanese(figures):
    model, _ = demo.hello_world(0)
    page = report(model, demo.WORDS, [1.0, 0.5], 0, "ja")
    assert '<html lang="ja">' in page
    assert "勾配消失と勾配爆発" in page
    assert "Vanishing" not in page


def test_same_seed_same_numbers():
    once, again = (demo.future(3, 5) for _ in range(2))
    assert once == again
    assert demo.gradients(1) != demo.gradients(2)


def test_the_shell_command(tmp_path):
    run = [sys.executable, "-m", "tinygrad_rnn", "--quick", "--seed", "1", "--out", "here"]
    result = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    for part in (
        "worst relative error",
        "unigram entropy",
        "hello world",
        "BiRNN right in",
        "done",
    ):
        assert part in result.stdout
    assert "step" in result.stderr  # progress
    assert (tmp_path / "here" / "characters.npz").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]


@pytest.mark.parametrize("system", ["posix", "nt"])
def test_it_starts_again_with_one_thread_only_if_needed(system, monkeypatch):
    calls = []

    class Process:
        def __init__(self, command, env):
            calls.append(env)

        def wait(self):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # the other one may be saving
            return 7

    def execve(path, command, env):
        calls.append(env)
        raise SystemExit(7)  # it never comes back

    monkeypatch.setattr(__main__.os, "name", system)
    monkeypatch.setattr(__main__.os, "execve", execve)
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit, match="7"):
            sys.exit(__main__.main(["--quick"]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert [env["OPENBLAS_NUM_THREADS"] for env in calls] == ["1"]


def test_engine_benchmark_runs():
    command = [sys.executable, str(ROOT / "benchmarks" / "engine.py"), "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for part in ("| T, N, C, H | tinygrad_rnn |", "| for x_t in x |", "| all outputs |"):
        assert part in result.stdout
