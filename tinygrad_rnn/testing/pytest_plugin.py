"""A pytest plugin: counts the gradient checks of a test run, and can be strict about doubtful ones.

In conftest.py:

    pytest_plugins = ["tinygrad_rnn.testing.pytest_plugin"]

and then, at the end of the run:

    gradients: 5210 checks, worst error 3e-13 (softmax), 41 at kinks, 0 inconclusive, 0 failed

What counts: each call of check_grads and check_vjp (grad_property calls one for each example), each
op of check_op and check_all_ops (their worst case), each law of check_cell. grad_report raises
nothing, and is not counted.

Options: `--grad-strict` fails checks that are inconclusive or sit on a kink, whatever the test
asked for; `--grad-report=FILE.json` writes one record for each check. Works with pytest-xdist.
Needs pytest, but not hypothesis.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from . import checks
from .report import GradientError, GradReport

KEY = "tinygrad_rnn.gradients"  # of the plugin, and of what a worker sends to the controller


def pytest_addoption(parser: pytest.Parser) -> None:
    """--grad-strict and --grad-report."""
    group = parser.getgroup("gradients", "gradient checks (tinygrad_rnn.testing)")
    group.addoption(
        "--grad-strict",
        action="store_true",
        help="checks that are INCONCLUSIVE, or decided at a kink, fail as wrong gradients do: "
        "of check_grads, check_vjp, grad_property, check_op and check_all_ops",
    )
    group.addoption(
        "--grad-report",
        metavar="FILE.json",
        help="write a record of each check (one for each op of check_op, and law of check_cell): "
        "test, name, verdict, worst error and its argument",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Listen to the checks from now on."""
    config.pluginmanager.register(GradientChecks(config), KEY)


class GradientChecks:
    """What the checks of one run, or of one of its workers, have reported."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.strict: bool = config.getoption("--grad-strict")
        self.records: list[dict[str, Any]] = []
        self.passed: set[str] = set()  # tests
        self.test = ""  # the one that is running
        checks.observers.append(self.observe)

    def pytest_unconfigure(self) -> None:
        """Listen no longer."""
        checks.observers.remove(self.observe)

    def observe(self, report: GradReport) -> None:
        """Called with every report, before check_grads (check_op, ...) raises, warns or returns."""
        worst = report.worst
        error = float(worst.error) if worst else 0.0
        record = {
            "test": self.test,
            "name": report.name,
            "verdict": report.verdict,
            "error": error if math.isfinite(error) else None,  # JSON has neither inf nor nan
            "argument": worst.argument if worst else None,
        }
        self.records.append(record)
        if self.strict and report.verdict in ("INCONCLUSIVE", "KINK"):
            failure = GradientError(report)
            failure.add_note(f"{report.verdict} fails because of --grad-strict")
            raise failure

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Checks from here on belong to this test."""
        self.test = item.nodeid
        try:
            return (yield)
        finally:
            self.test = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which tests passed."""
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    # ----- pytest-xdist: what happens in a worker goes to the controller -----------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """In a worker: send the records."""
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[KEY] = self.records

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """In the controller: a worker has finished; one that crashed has sent nothing."""
        self.records += getattr(node, "workeroutput", {}).get(KEY, [])

    # ----- the end of the run ----------------------------------------------------------------

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """One line; and the file, if asked for."""
        path = self.config.getoption("--grad-report")
        if path:
            (self.config.invocation_params.dir / path).write_text(
                json.dumps(self.records, indent=1) + "\n", encoding="utf-8"
            )
        if self.records:
            terminalreporter.write_line(self.summary())

    def summary(self) -> str:
        """`gradients: 12 checks, worst error 3e-13 (softmax), 1 at kinks, ...`"""
        count = Counter(r["verdict"] for r in self.records)
        parts = [f"{len(self.records)} checks"]
        right = [r for r in self.records if r["verdict"] == "PASS" and r["error"] is not None]
        if right:
            worst = max(right, key=lambda r: r["error"])
            parts.append(f"worst error {worst['error']:.0e} ({worst['name']})")
        # A test that passes although a check in it failed has expected it.
        expected = sum(r["verdict"] == "FAIL" and r["test"] in self.passed for r in self.records)
        parts += [
            f"{count['KINK']} at kinks",
            f"{count['INCONCLUSIVE']} inconclusive",
            f"{count['FAIL'] - expected} failed",
        ]
        return f"gradients: {', '.join(parts)}" + (
            f" (and {expected} as expected)" * bool(expected)
        )
