"""The bank of faults: each is killed by the law that it names, and leaves nothing behind."""

import gc
import inspect
from types import FunctionType

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import recurrent, testing
from tinygrad_rnn.testing import laws, mutants
from tinygrad_rnn.vjp import COMPOSED, RULES

NAMES = mutants.names()
LAWS = [getattr(laws, name) for name in laws.__all__]
FUNCTIONS = [
    f
    for f in gc.get_objects()
    if isinstance(f, FunctionType) and (f.__module__ or "").startswith("tinygrad_rnn")
]


def state_of_the_library():
    """Everything that a fault may have changed: function bodies, rules, tables."""
    bodies = [(f.__code__, f.__defaults__, f.__kwdefaults__) for f in FUNCTIONS]
    tables = [list(table.items()) for table in (RULES, COMPOSED, recurrent.MERGES)]
    return bodies, tables, [rule.vjps for rule in RULES.values()]


def toy_check():
    """It sees a wrong value of tanh's derivative at one point, and nothing else."""
    x = tg.Tensor(1.0, requires_grad=True)
    np.tanh(x).backward()
    assert abs(x.grad - (1 - np.tanh(1.0) ** 2)) < 1e-12


# ----- the bank ----------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=laws.__all__)
def test_every_law_holds(law):
    law(seed=1)


@pytest.mark.parametrize("name", NAMES)
def test_every_mutant_is_killed_by_its_law(name):
    """By the law's own AssertionError: not by a crash, and not by a warning."""
    law = mutants.law_of(name)
    with mutants.apply(name), pytest.raises(AssertionError) as caught:
        law()
    assert caught.type in (AssertionError, testing.GradientError)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("label", sorted({mutants.law_of(name).label for name in NAMES}))
def test_the_laws_of_the_bank_hold_without_a_mutant(label):
    law = next(law for law in map(mutants.law_of, NAMES) if law.label == label)
    law()


def test_every_law_can_fail():
    labels = {mutants.law_of(name).label for name in NAMES}
    without = {f"laws.{law.__name__}" for law in LAWS} - labels
    assert not without, "a law that no mutant breaks"


def test_there_are_enough_of_each_kind():
    assert len(set(NAMES)) == len(NAMES) >= 70
    groups = {group: sum(n.startswith(f"{group}.") for n in NAMES) for group in GROUPS}
    assert sum(groups.values()) == len(NAMES)
    assert groups["checker"] >= 6
    assert min(groups.values()) >= 5


GROUPS = ("rules", "composed", "engine", "cells", "loop", "layers", "losses", "scan", "checker")


# ----- applying and taking back ------------------------------------------------------------------


def test_apply_changes_something_and_puts_it_back():
    before = state_of_the_library()
    for name in NAMES:
        with mutants.apply(name):
            assert state_of_the_library() != before, name
        assert state_of_the_library() == before, name


def test_rules_and_sources_are_the_same_objects_afterwards_also_after_an_exception():
    rules = {f: id(rule) for f, rule in RULES.items()}
    before = state_of_the_library()
    for name in NAMES:
        with pytest.raises(ZeroDivisionError), mutants.apply(name):
            raise ZeroDivisionError
        assert {f: id(rule) for f, rule in RULES.items()} == rules
        assert state_of_the_library() == before


def test_mutants_nest():
    before = state_of_the_library()
    with mutants.apply("loop.truncate_ignored"):
        one = state_of_the_library()
        with mutants.apply("loop.state_not_held"), mutants.apply("rules.tanh_sign"):
            assert state_of_the_library() != one
        assert state_of_the_library() == one
    assert state_of_the_library() == before


def test_a_fault_reaches_code_that_imported_the_function_by_name():
    from tinygrad_rnn.losses import valid_steps

    assert not valid_steps((2,), np.array(1))[1]
    with mutants.apply("loop.lengths_off_by_one"):
        assert valid_steps((2,), np.array(1))[1]


def test_a_mutated_function_keeps_its_file_and_its_name():
    """The engine tells its own files from a user's by their names."""
    step = tg.LSTMCell.step
    before = (step.__code__.co_filename, step.__name__, inspect.signature(step))
    with mutants.apply("cells.lstm_gate_order"):
        assert (step.__code__.co_filename, step.__name__, inspect.signature(step)) == before


def test_unknown_names_are_refused_with_those_that_exist():
    for call in (mutants.law_of, lambda name: mutants.apply(name).__enter__()):
        with pytest.raises(mutants.MutantError, match=r"no mutant .loop.x.*state_not_carried"):
            call("loop.x")
    with pytest.raises(mutants.MutantError, match="no mutant 'typo'"):
        mutants.score(lambda: None, only=["typo"])


@pytest.mark.parametrize(
    ("where", "old", "text"),
    [
        ("rules:share", "no such text", "occurs 0 times in rules:share, expected once"),
        ("rules:share", "dtype", "occurs 3 times"),
        ("rules:no_such_function", "x", "mutant rotten: there is no rules:no_such_function"),
        ("no_such_file:f", "x", "there is no no_such_file:f"),
        ("rules:RULES", "x", "is no function"),
    ],
)
def test_a_mutant_that_changes_nothing_any_more_is_an_error(where, old, text):
    with pytest.raises(mutants.MutantError, match=text), mutants._edited("rotten", where, old, ""):
        pass


def test_a_name_is_given_once():
    with pytest.raises(mutants.MutantError, match="two mutants"):
        mutants._edit(NAMES[0], "", laws.programs, "rules:share", "x", "y")


# ----- score -------------------------------------------------------------------------------------


def test_score_names_what_a_check_does_not_see():
    only = ["rules.tanh_sign", "rules.cos_sign", "rules.tanh_power", "engine.grad_alias"]
    before = state_of_the_library()
    score = mutants.score(toy_check, only=only)
    assert score.killed == ["rules.tanh_sign", "rules.tanh_power"]
    assert score.survived == ["rules.cos_sign", "engine.grad_alias"]
    assert score.total == 4
    assert state_of_the_library() == before
    text = score.text()
    assert text.startswith("2 of 4 mutants killed: rules 2 of 3, engine 0 of 1\n")
    assert "rules.cos_sign     The derivative of cos has the wrong sign." in text
    assert len(text.splitlines()) == 4
    everything = mutants.score(toy_check, only=["rules.tanh_sign"]).text()
    assert everything == "1 of 1 mutants killed: rules 1 of 1"


def test_score_runs_all_mutants_unless_told_otherwise():
    score = mutants.score(toy_check)
    assert score.total == len(NAMES)
    assert sorted(score.killed + score.survived) == sorted(NAMES)
    assert "rules.tanh_sign" in score.killed
    assert "loop.reset_late" in score.survived


def test_score_refuses_a_check_that_fails_already():
    def broken():
        assert 1 == 2, "one is not two"

    with pytest.raises(mutants.MutantError, match=r"without any mutant.*one is not two"):
        mutants.score(broken)


def test_pytests_own_failures_kill_and_an_interrupt_stops():
    def check():
        if toy_fails():
            pytest.fail("seen")

    assert mutants.score(check, only=["rules.tanh_sign"]).killed == ["rules.tanh_sign"]

    def interrupted():
        if toy_fails():
            raise KeyboardInterrupt

    before = state_of_the_library()
    with pytest.raises(KeyboardInterrupt):
        mutants.score(interrupted, only=["rules.tanh_sign"])
    assert state_of_the_library() == before


def toy_fails():
    try:
        toy_check()
    except AssertionError:
        return True
    return False
