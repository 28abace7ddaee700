"""check_cell: right cells pass, and each fault that people make is caught by the law it breaks."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.testing.cells import LAWS


def gru(width=3, rng=0):
    return tg.GRUCell(width, 3, rng=rng)


LIBRARY = {  # a name: how to make it, and the widths of its x where they are several
    "RNNCell": (lambda: tg.RNNCell(3, 4, rng=0), None),
    "RNNCell relu, no bias": (lambda: tg.RNNCell(2, 3, "relu", bias=False, rng=0), None),
    "RNNCell float32": (lambda: tg.RNNCell(2, 3, rng=0, dtype=np.float32), None),
    "LSTMCell": (lambda: tg.LSTMCell(3, 4, rng=0), None),
    "GRUCell": (lambda: tg.GRUCell(3, 4, rng=0), None),
    "GRUCell, reset before": (lambda: tg.GRUCell(1, 2, reset_after=False, rng=0), None),
    "Stacked": (lambda: tg.Stacked(gru(), tg.LSTMCell(3, 2, rng=1)), None),
    "Readout": (lambda: tg.Readout(gru(), tg.Linear(3, 2, rng=0)), None),
    "Residual": (lambda: tg.Residual(gru()), None),
    "Zoneout": (lambda: tg.Zoneout(tg.LSTMCell(3, 2, rng=0), 0.3), (3, 4)),
    "VariationalDropout": (lambda: tg.VariationalDropout(gru(), 0.3, rng=0), None),
    "a nest": (lambda: tg.Stacked(tg.Residual(tg.Zoneout(gru(), 0.5)), gru(3, 1)), (3, 3)),
}
EXTRA = {"ProjectionLSTM": (4, 2), "CfC": (4,)}  # constructors that take more than two sizes
ZOO = [
    cell
    for name, cell in vars(tg.zoo).items()
    if isinstance(cell, type) and cell.__module__ == tg.zoo.__name__ and name[0] != "_"
]
for _cell in ZOO:
    _sizes = EXTRA.get(_cell.__name__, (4,))
    _make = lambda cell=_cell, sizes=_sizes: cell(3, *sizes, rng=0)
    LIBRARY[_cell.__name__] = (_make, (3, 1) if _cell is tg.zoo.CfC else None)


@pytest.mark.parametrize("name", LIBRARY)
def test_cells_of_the_library_keep_every_law(name):
    report = testing.check_cell(*LIBRARY[name])
    assert report.ok
    assert report.counts["PASS"] == len(LAWS)
    assert "14 of 14 laws" in report.text()


@pytest.mark.skipif(settings().max_examples < 200, reason="of the profile `thorough`")
@pytest.mark.parametrize("name", LIBRARY)
@settings(max_examples=max(1, settings().max_examples // 200))
@given(seed=st.integers(1, 10_000))
def test_they_keep_them_for_any_numbers(name, seed):
    testing.check_cell(*LIBRARY[name], seed=seed)


def test_the_zoo_is_large_enough():
    assert len(ZOO) >= 18


class Good(tg.Cell):
    """What the wrong ones are made of: h' = z h + (1 - z) tanh(x U + h V + b)."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.inputs, self.hidden, self.state_shape = 3, 4, (4,)
        self.U = tg.Parameter(tg.init.glorot(rng, (3, 4)))
        self.V = tg.Parameter(tg.init.orthogonal(rng, 4))
        self.b = tg.Parameter(np.zeros(4))
        self.a = tg.Parameter(np.zeros(4))

    def step(self, x, h):
        z = tg.sigmoid(self.a)
        return z * h + (1 - z) * np.tanh(x @ self.U + h @ self.V + self.b)


def test_the_good_one_is_good():
    testing.check_cell(Good)


# ----- the gallery -------------------------------------------------------------------------------


class StateMutated(Good):
    def step(self, x, h):
        new = super().step(x, h)
        if isinstance(h, np.ndarray):
            h[...] = 0.0
        return new


class MemoryInTheCell(Good):
    def step(self, x, h):
        self.h = super().step(x, h)
        return self.h


class OutputOfTheWrongStep(Good):
    """It gives what it computed one step before."""

    late = None

    def step(self, x, h):
        new = super().step(x, h)
        output = h if self.late is None else self.late
        vars(self)["late"] = new.detach() if isinstance(new, tg.Tensor) else new
        return output, new


class BatchMixed(Good):
    def step(self, x, h):
        new = super().step(x, h)
        return new - np.mean(new, axis=0, keepdims=True) if new.ndim > 1 else new


class BatchSummed(Good):
    def step(self, x, h):
        return super().step(x, h + 0.1 * np.sum(x, axis=0)[..., :1])


class RandomInStep(Good):
    def step(self, x, h):
        return super().step(x, h) * (np.random.default_rng().random(4) < 0.5)


class ForgottenParameter(Good):
    def __init__(self):
        super().__init__()
        self.W = tg.Parameter(np.ones(4))


class DetachedState(Good):
    def step(self, x, h):
        return super().step(x, h.detach() if isinstance(h, tg.Tensor) else h)


class ValueRead(Good):
    def step(self, x, h):
        gate = tg.sigmoid(x @ self.U)
        gate = gate.data if isinstance(gate, tg.Tensor) else gate
        return gate * super().step(x, h)


class Float64Constants(Good):
    def step(self, x, h):
        return super().step(x, h) * np.ones(4)


class NoEpsUnderTheRoot(Good):
    def step(self, x, h):
        return super().step(x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True)), h)


class NotFiniteAtZero(Good):
    def step(self, x, h):
        return super().step(np.sqrt(np.abs(x)), h)


class NotFinite(Good):
    def step(self, x, h):
        return super().step(x, h) + 0 * np.sqrt(-1 - x[..., :1] ** 2)


class ParameterChanged(Good):
    def step(self, x, h):
        self.V.data = 0.9 * self.V.data
        return super().step(x, h)


class DeadState(Good):
    def __init__(self):
        super().__init__()
        self.state_shape = ((4,), (2,))

    def step(self, x, state):
        h, c = state
        h = super().step(x, h)
        return h, (h, c)


class StateGrows(Good):
    def step(self, x, h):
        new = super().step(x, h[..., :4])
        return new, np.concatenate([new, new], axis=-1)


class OneStateOfTwo(Good):
    def __init__(self):
        super().__init__()
        self.state_shape = ((4,), (4,))

    def step(self, x, state):
        return super().step(x, state[0])


class NoReturn(Good):
    def step(self, x, h):
        super().step(x, h)


class WeightsOutsideParameters(Good):
    count = 0

    def __init__(self):
        super().__init__()
        WeightsOutsideParameters.count += 1
        self.mask = np.random.default_rng(WeightsOutsideParameters.count).random(4)

    def step(self, x, h):
        return super().step(x, h) * self.mask


class CountsItsCalls(Good):
    calls = [0]

    def step(self, x, h):
        self.calls[0] += 1
        return super().step(x, h) * (1 + 0.1 * self.calls[0])


class InitialStateOfOneRow(Good):
    def initial_state(self, batch_shape=(), dtype=None):
        return np.zeros(4, dtype)


class WrongRule(Good):
    """A fused activation of its own, whose derivative is wrong."""

    def step(self, x, h):
        return wrong_tanh(super().step(x, h))


class RightOnceWrongTwice(Good):
    """The derivative is right, its own derivative is lost."""

    def step(self, x, h):
        return frozen_tanh(super().step(x, h))


wrong_tanh = tg.primitive(lambda x: np.tanh(x))
frozen_tanh = tg.primitive(lambda x: np.tanh(x))


class WrongWhereItStarts(Good):
    """The derivative is 5 times what it should be where a row of the state is 0."""

    def step(self, x, h):
        return marked_tanh(super().step(x, h), tg.detach(h))


class WrongWhereXIsZero(Good):
    def step(self, x, h):
        return marked_tanh(super().step(x, h), tg.detach(x))


class WrongAtZero(Good):
    """A new cell is there, whose biases are 0: x = 0, h = 0, so tanh'(0) is asked for."""

    def step(self, x, h):
        return marked_tanh(super().step(x, h), tg.detach(x @ self.U + h @ self.V + self.b))


class WrongForThreeRows(Good):
    def step(self, x, h):
        return three_tanh(super().step(x, h))


class WrongWithoutABatch(Good):
    def step(self, x, h):
        return bare_tanh(super().step(x, h))


class WrongInFloat32(Good):
    def step(self, x, h):
        return single_tanh(super().step(x, h))


single_tanh = tg.primitive(lambda x: np.tanh(x))
marked_tanh = tg.primitive(lambda x, mark: np.tanh(x))
three_tanh = tg.primitive(lambda x: np.tanh(x))
bare_tanh = tg.primitive(lambda x: np.tanh(x))


@pytest.fixture(autouse=True)
def _rules(rule_of):
    value = lambda a: a.data if isinstance(a, tg.Tensor) else a
    rule_of(wrong_tanh, lambda g, out: g * (1 - out))
    rule_of(frozen_tanh, lambda g, out: g * (1 - value(out) ** 2))
    times = lambda mark: np.where((mark == 0).all(axis=-1, keepdims=True), 5, 1)
    rule_of(marked_tanh, lambda g, out, x1: g * (1 - out * out) * times(x1), None)
    rule_of(three_tanh, lambda g, out: g * (1 - out * out) * (2 if len(out) > 2 else 1))
    rule_of(bare_tanh, lambda g, out: g * (1 - out * out) * (2 if out.ndim == 1 else 1))
    double = lambda out: np.asarray(2 if out.dtype == np.float32 else 1, out.dtype)
    rule_of(single_tanh, lambda g, out: g * (1 - out * out) * double(out))


GALLERY = {
    StateMutated: "purity",
    MemoryInTheCell: "purity",
    OutputOfTheWrongStep: "purity",
    BatchMixed: "rows",
    BatchSummed: "rows",
    RandomInStep: "purity",
    ForgottenParameter: "nothing dead",
    DetachedState: "gradients",
    ValueRead: "gradients",
    Float64Constants: "float32",
    NoEpsUnderTheRoot: "finite at zero",
    NotFiniteAtZero: "finite at zero",
    NotFinite: "contract",
    ParameterChanged: "purity",
    DeadState: "nothing dead",
    StateGrows: "contract",
    OneStateOfTwo: "contract",
    NoReturn: "contract",
    WeightsOutsideParameters: "weights load",
    CountsItsCalls: "purity",
    InitialStateOfOneRow: "contract",
    WrongRule: "gradients",
    RightOnceWrongTwice: "second order",
    WrongWhereItStarts: "gradients",
    WrongWhereXIsZero: "gradients",
    WrongAtZero: "gradients",
    WrongForThreeRows: "gradients",
    WrongWithoutABatch: "gradients",
    WrongInFloat32: "float32",
}


@pytest.mark.parametrize("wrong", GALLERY, ids=lambda c: c.__name__)
def test_each_fault_is_caught_by_the_law_that_it_breaks(wrong):
    with pytest.raises(testing.GradientError) as caught:
        testing.check_cell(wrong)
    report = caught.value.report
    assert GALLERY[wrong] in report.failures, str(caught.value)
    assert f"{GALLERY[wrong]}: FAIL" in str(caught.value)
    assert "the law: " in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "only", "text"),
    [
        (NotFinite, "contract", "a value is not finite for ordinary numbers"),
        (ParameterChanged, "purity", "step changed the parameter V"),
        (MemoryInTheCell, "purity", "step changed self.h. All memory belongs into the state"),
        (RandomInStep, "purity", "two calls differ. Nothing random in step"),
    ],
)
def test_what_a_step_does_wrong_is_said(wrong, only, text):
    with pytest.raises(testing.GradientError, match=text), np.errstate(all="ignore"):
        testing.check_cell(wrong, only=only)


def test_every_law_of_a_step_is_broken_by_somebody():
    unbroken = set(LAWS) - set(GALLERY.values())
    assert unbroken == {"padding", "no steps", "splitting", "time runs one way", "scan"}


@pytest.mark.parametrize("law", ["padding", "splitting", "no steps", "time runs one way", "scan"])
def test_laws_of_the_loop_fail_where_the_loop_is_wrong(law):
    mutant = {
        "padding": "loop.padding_output",
        "splitting": "layers.stream_forgets",
        "no steps": "loop.no_steps_state",
        "time runs one way": "loop.future_seen",
        "scan": "scan.backward_runs_forward",
    }[law]
    with testing.mutants.apply(mutant), pytest.raises(testing.GradientError, match=law):
        testing.check_cell(Good, only=law)


class Reading(Good):
    def step(self, x, h):
        return super().step(x, h) if np.asarray(getattr(h, "data", h)).size else h


def test_a_step_that_reads_values_is_a_cell_all_the_same():
    testing.check_cell(Reading, only="scan")


# ----- what a cell may be, too -------------------------------------------------------------------


class Start(tg.GRUCell):
    """It learns where it starts; float32 with its parameters, whatever is asked for."""

    def __init__(self, inputs=3, hidden=4):
        super().__init__(inputs, hidden, rng=0)
        self.start = tg.Parameter(np.zeros(hidden))

    def initial_state(self, batch_shape=(), dtype=None):
        return np.broadcast_to(self.start, (*batch_shape, self.hidden))


class HalfLearnt(tg.LSTMCell):
    """The memory's start goes through a function; that of h is 0."""

    function = np.tanh

    def __init__(self):
        super().__init__(3, 4, rng=0)
        self.start = tg.Parameter(np.zeros(4))

    def initial_state(self, batch_shape=(), dtype=None):
        h, c = super().initial_state(batch_shape, dtype)
        return h, np.broadcast_to(type(self).function(self.start), c.shape).astype(c.dtype)


class Sum(tg.Cell):
    inputs, state_shape = 3, (3,)

    def step(self, x, h):
        return h + x


class Counts(Good):
    """A part of its state is an integer."""

    def initial_state(self, batch_shape=(), dtype=None):
        return np.zeros((*batch_shape, 1), int), np.zeros((*batch_shape, 4), dtype)

    def step(self, x, state):
        n, h = state
        h = super().step(x * (1 + n.astype(x.dtype)), h)
        return h, (n + 1, h)


class NearlyNormalised(Good):
    """At h = 0 it changes within 1e-6: numeric derivatives decide nothing there."""

    def step(self, x, h):
        return super().step(x, h / np.sqrt(np.sum(h * h, axis=-1, keepdims=True) + 1e-12))


RIGHT = {
    "learnt start": Start,
    "learnt in part": HalfLearnt,
    "stacked": lambda: tg.Stacked(Start(3, 4), Start(4, 2)),
    "readout": lambda: tg.Readout(Start(), tg.Linear(4, 2, rng=0)),
    "dropped": lambda: tg.VariationalDropout(Start(), 0.3, rng=0),
    "no parameters": Sum,
    "an integer in the state": Counts,
    "a kink where it starts": lambda: tg.RNNCell(3, 4, tg.relu, rng=0),
    "a pole near where it starts": NearlyNormalised,
}


@pytest.mark.parametrize("name", RIGHT)
def test_these_keep_every_law_too(name):
    assert testing.check_cell(RIGHT[name]).counts["PASS"] == len(LAWS)


class StartOfAWrongRule(HalfLearnt):
    function = wrong_tanh


class StartWithoutGradient(HalfLearnt):
    function = tg.detach


class StartUnderARoot(HalfLearnt):
    function = staticmethod(lambda c: np.sqrt(c * c))


class StartInFloat64(tg.GRUCell):
    def initial_state(self, batch_shape=(), dtype=None):
        return np.ones((*batch_shape, self.hidden))


class StartInFloat32(tg.GRUCell):
    def initial_state(self, batch_shape=(), dtype=None):
        return np.ones((*batch_shape, self.hidden), np.float32)


class StartOfOneRow(tg.GRUCell):
    def initial_state(self, batch_shape=(), dtype=None):
        return np.zeros(self.hidden, dtype)


class NoParameter(Sum):
    def __init__(self):
        self.W = tg.Tensor(np.eye(3) / 2, requires_grad=True)

    def step(self, x, h):
        return np.tanh(x + h @ self.W)


@pytest.mark.parametrize(
    ("make", "law", "says"),
    [
        (StartOfAWrongRule, "gradients", "worst: cell.start, element"),
        (StartOfAWrongRule, "second order", "worst: cell.start"),
        (StartWithoutGradient, "nothing dead", "start never gets a gradient: is it used in step, "),
        (StartUnderARoot, "finite at zero", "the gradient of start is not finite"),
        (
            lambda: StartInFloat64(3, 4, rng=0),
            "float32",
            "initial_state((2,), float32) is float64: make it of the dtype that is asked for",
        ),
        (
            lambda: StartInFloat32(3, 4, rng=0),
            "contract",
            "initial_state((1,), float64) is float32: make it of the dtype that is asked for",
        ),
        (
            lambda: StartOfOneRow(3, 4, rng=0),
            "contract",
            "initial_state((1,), float64) has shape (4,): it must start with the batch shape",
        ),
        (NoParameter, "contract", "self.W needs a gradient and is no Parameter"),
        (NoParameter, "contract", "Write tg.Parameter(...) for tg.Tensor(..., requires_grad=True)"),
    ],
)
def test_what_a_start_does_wrong_is_said(make, law, says):
    with pytest.raises(testing.GradientError) as caught:
        testing.check_cell(make)
    failures = caught.value.report.failures
    assert says in failures[law]
    assert "returned a state" not in str(caught.value)


# ----- the call ----------------------------------------------------------------------------------


def test_one_law_alone_and_what_is_unknown():
    assert testing.check_cell(Good, only="rows").counts == {"PASS": 1}
    with pytest.raises(ValueError, match="there is no law 'magic'; there are contract, purity"):
        testing.check_cell(Good, only="magic")


def test_a_cell_that_is_none_or_always_the_same():
    cell = Good()
    for make, says in ((lambda: 3, "must give a tg.Cell"), (lambda: cell, "a new cell each time")):
        with pytest.raises(testing.GradientError, match=says):
            testing.check_cell(make)


@pytest.mark.parametrize("made", [tg.GRUCell(3, 4, rng=0), tg.GRUCell, lambda rng: Good(), 3])
def test_make_cell_takes_no_argument(made):
    with pytest.raises(TypeError, match=r"make_cell takes no argument and returns a new cell: lam"):
        testing.check_cell(made, only="rows")


def test_the_parameters_of_the_given_cell_stay_as_they_are():
    kept = []

    def make():
        kept.append(Good())
        return kept[-1]

    testing.check_cell(make)
    fresh = Good().state_dict()
    again = copy.deepcopy(make()).state_dict()
    assert all(np.array_equal(fresh[name], again[name]) for name in fresh)


class Gaps(tg.Cell):
    """x is a pair: values, and the time since the last step."""

    def __init__(self):
        self.inner, self.state_shape = Good(), (4,)
        self.rate = tg.Parameter(np.full(4, 0.5))

    def step(self, x, h):
        values, gap = x
        return self.inner.step(values, h * np.exp(-self.rate * gap))


def test_inputs_may_be_a_tuple_of_widths():
    testing.check_cell(Gaps, inputs=(3, 1))


class Detaches(tg.Cell):
    """No gradient goes back to the state before."""

    def __init__(self):
        self.U = tg.Parameter(np.ones((3, 2)) / 3)
        self.state_shape, self.inputs = (2,), 3

    def step(self, x, h):
        return np.tanh(x @ self.U + tg.detach(h))


def test_a_wrong_gradient_is_to_be_repeated_by_the_check_itself():
    with pytest.raises(testing.GradientError) as caught:
        testing.check_cell(Detaches, seed=3, only=["gradients", "second order"])
    text = str(caught.value)
    assert "testing.check_cell(make_cell, seed=3, only='gradients')" in text
    assert "f = ..." not in text


class DividesByTheNorm(Detaches):
    def step(self, x, h):
        return np.tanh(x / np.sqrt((x * x).sum(axis=-1, keepdims=True)) @ self.U + h)


def test_nan_that_is_expected_is_told_with_the_law_that_says_why():
    with pytest.raises(testing.GradientError, match="see only='finite at zero'"):
        testing.check_cell(DividesByTheNorm, only="padding")
