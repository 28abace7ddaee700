"""Strategies: what they promise of values, shapes and programs; and that failures stay readable."""

import ast
import inspect
import os
import re
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from hypothesis import Phase, example, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import DeadlineExceeded
from hypothesis.internal.reflection import function_digest

import tinygrad_rnn as tg
from tinygrad_rnn import graph, testing
from tinygrad_rnn.testing import strategies
from tinygrad_rnn.testing.properties import grad_property

pytest_plugins = ["pytester"]

few = settings(max_examples=20)
# For properties that a test runs itself: nothing stored, and nothing left to chance.
inner = settings(
    max_examples=100, database=None, derandomize=True, deadline=None, report_multiple_bugs=False
)
seldom = settings(max_examples=2000, database=None, derandomize=True)


def is_found(strategy, condition):
    find(strategy, condition, settings=settings(seldom, phases=[Phase.generate]))  # or it raises
    return True


def simplest(strategy):
    return find(strategy, lambda x: True, settings=inner)


@pytest.fixture(autouse=True)
def _forget(rule_of):
    """Rules made in these tests do not outlive them."""


@pytest.fixture
def elsewhere(pytester, monkeypatch):
    """A directory to run tests in, which imports the package that is tested here."""
    monkeypatch.setenv("PYTHONPATH", str(Path(tg.__file__).parents[1]))
    return pytester


# ----- values ------------------------------------------------------------------------------------


@given(
    st.data(),
    strategies.shapes(zero=True),
    st.sampled_from([1.0, 0.5, 1 / 8, 1 / 32]),
    st.sampled_from([0.0, 1 / 64]),
    st.booleans(),
)
def test_values_lie_on_the_lattice_within_its_bounds_and_not_on_what_is_excluded(
    data, shape, step, offset, distinct
):
    lo, hi = (-2, 2) if not distinct else (-40 * step * 8, 40 * step * 8)
    drawn = strategies.lattice(shape, lo, hi, step, offset, [0, 1], distinct)
    x = data.draw(drawn)
    assert (x.shape, x.dtype) == (shape, np.float64)
    assert np.array_equal((x - offset) / step, np.round((x - offset) / step))
    assert np.all((lo <= x) & (x <= hi))
    assert not np.isin(x, [0, 1]).any()
    if distinct:
        assert len(np.unique(x)) == x.size


def test_every_point_of_a_lattice_is_found_and_no_other():
    points = set()

    @settings(inner, max_examples=500)
    @given(strategies.lattice((4,), lo=-1, hi=0.5, step=0.5, exclude=[-0.5]))
    def collect(x):
        points.update(x.tolist())

    collect()
    assert points == {-1.0, 0.0, 0.5}


@pytest.mark.parametrize("width", [1, 2])
def test_lattices_of_more_than_256_points_are_reached_to_their_ends(width):
    many = strategies.lattice((8,), lo=0, hi=[255, 999][width - 1], step=1)
    assert is_found(many, lambda x: x.max() >= [250, 990][width - 1])


def test_a_lattice_shrinks_to_zeros_or_to_the_simplest_numbers_allowed():
    for allowed, expected in [
        ({}, [0.0, 0.0]),
        ({"exclude": [0]}, [1.0, 1.0]),
        ({"lo": 0.3, "hi": 0.9}, [0.5, 0.5]),
        ({"offset": 1 / 16}, [1 / 16, 1 / 16]),
        ({"distinct": True}, [0.0, 1.0]),
        ({"hi": -1.25}, [-2.0, -2.0]),
    ]:
        assert simplest(strategies.lattice(2, **allowed)).tolist() == expected


def test_large_lattices_shrink_to_the_smallest_number_that_fails():
    whole = strategies.lattice((), lo=0, hi=999, step=1)
    assert find(whole, lambda x: x >= 300, settings=inner) == 300


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_1024_elements_are_drawn_without_rejection_and_are_not_one_constant(dtype):
    seen = []

    @settings(inner, max_examples=20, suppress_health_check=[])
    @given(
        strategies.lattice((32, 32), dtype=dtype),
        strategies.lattice((32, 32), lo=-64, hi=64, distinct=True, dtype=dtype),
        strategies.generic((32, 32)),
    )
    def draw(x, y, z):
        assert (x.dtype, y.dtype) == (dtype, dtype)
        assert len(np.unique(y)) == 1024
        assert len(np.unique(z)) >= 1024 - 3
        seen.append(len(np.unique(x)))

    draw()
    assert len(seen) == 20
    assert np.median(seen) == 33  # every point of -2, -1.875, ..., 2 occurs


def test_what_no_lattice_can_give_is_said():
    for given_, said in [
        ({"step": 0.1}, "power of two"),
        ({"lo": 0, "hi": 0, "exclude": [0]}, "1 points, and .0. is excluded"),
        ({"lo": 1, "hi": 0}, "expected 1 to 65536"),
        ({"lo": 0, "hi": 2**20}, "expected 1 to 65536"),
    ]:
        with pytest.raises(ValueError, match=said):
            strategies.lattice((2,), **given_)
    with pytest.raises(ValueError, match="Widen"):
        simplest(strategies.lattice((40,), distinct=True))


@given(strategies.shapes(max_dims=3, max_side=9, zero=True))
def test_a_generic_array_is_fixed_distinct_in_magnitude_and_never_0(shape):
    x = strategies.generic_array(shape)
    assert np.array_equal(x, strategies.generic_array(shape))
    assert len(np.unique(np.abs(x))) == x.size
    assert np.all((np.abs(x) > 0) & (np.abs(x) <= 2))
    assert np.array_equal(x * 2**10, np.round(x * 2**10))
    if x.size > 1:
        assert x.min() < 0 < x.max()


@given(strategies.generic((5, 4, 3), edits=2))
def test_generic_arrays_differ_from_the_fixed_one_in_few_elements(x):
    assert np.sum(x != strategies.generic_array((5, 4, 3))) <= 2


def test_generic_arrays_print_short():
    @inner
    @given(x=strategies.generic((5, 4, 3)))
    def fails(x):
        assert x.sum() > 1e6

    text = failure_of(fails)
    assert "x=generic_array((5, 4, 3), {})" in text


@given(strategies.cotangents((3, 2)))
def test_cotangents_are_never_0_and_never_all_equal(v):
    assert np.all(v != 0)
    assert len(np.unique(v)) > 1


# ----- shapes, axes, indices ---------------------------------------------------------------------


@given(strategies.shapes(1, 2, 3))
def test_shapes_keep_their_bounds(shape):
    assert 1 <= len(shape) <= 2
    assert all(1 <= n <= 3 for n in shape)


def test_sides_of_1_and_of_0_are_among_the_shapes():
    assert is_found(strategies.shapes(), lambda s: 1 in s and max(s) > 1)
    assert is_found(strategies.shapes(zero=True), lambda s: 0 in s and max(s) > 1)
    assert is_found(strategies.shapes(), lambda s: s == ())


@given(strategies.broadcastable(3))
def test_broadcastable_shapes_broadcast_together(found):
    assert len(found) == 3
    np.broadcast_shapes(*found)


def test_broadcastable_shapes_have_axes_of_size_1_and_missing_axes():
    pairs = strategies.broadcastable(2)
    assert is_found(pairs, lambda s: len(s[0]) == len(s[1]) and s[0] != s[1])
    assert is_found(pairs, lambda s: 0 < len(s[0]) < len(s[1]))


@given(strategies.gufunc("(m,k),(k,n)->(m,n)"), strategies.gufunc("(n), (n) -> ()", max_dims=0))
def test_arrays_fit_their_signature(products, vectors):
    a, b = products
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    assert np.matmul(a, b).shape == (*lead, a.shape[-2], b.shape[-1])
    assert vectors[0].ndim == vectors[1].ndim == 1
    assert len(vectors[0]) == len(vectors[1])


def test_signatures_give_square_and_other_matrices_and_axes_that_broadcast():
    products = strategies.gufunc("(m,k),(k,n)->(m,n)")
    assert is_found(products, lambda xs: xs[1].shape[-1] == xs[1].shape[-2] > 1)
    assert is_found(products, lambda xs: len({*xs[0].shape[-2:], *xs[1].shape[-2:]}) == 3)
    assert is_found(products, lambda xs: xs[0].ndim > 2 and xs[0].shape[:-2] != xs[1].shape[:-2])


def test_all_sides_are_equal_in_many_of_the_arrays_for_a_signature():
    square = []

    @inner
    @given(strategies.gufunc("(m,k),(k,n)->(m,n)"))
    def draw(xs):
        square.append(len({*xs[0].shape[-2:], *xs[1].shape[-2:]}) == 1 and xs[0].shape[-1] > 1)

    draw()
    assert sum(square) >= 15


def test_the_values_of_a_signature_may_be_chosen():
    positive = strategies.gufunc("(n),(n)->()", values=lambda s: strategies.lattice(s, lo=0.5))
    assert [x.tolist() for x in simplest(positive)] == [[1.0], [1.0]]


@given(strategies.axes(3), strategies.axes((2, 4)), strategies.axes(0))
def test_axes_are_what_numpy_accepts(three, two, none):
    np.sum(np.ones((2, 1, 3)), axis=three)
    np.sum(np.ones((2, 4)), axis=two)
    np.sum(np.ones(()), axis=none)


def test_axes_are_none_one_or_several_and_negative():
    drawn = strategies.axes(3)
    assert simplest(drawn) is None
    for condition in [
        lambda a: isinstance(a, int) and a < 0,
        lambda a: isinstance(a, int) and a > 0,
        lambda a: isinstance(a, tuple) and len(a) > 1 and min(a) < 0 < max(a),
        lambda a: isinstance(a, tuple) and len(a) > 1 and list(a) != sorted(a),
        lambda a: a == (),
    ]:
        assert is_found(drawn, condition)


@given(st.data(), strategies.shapes(max_side=3, zero=True))
def test_indices_index_and_a_tensor_gives_what_an_array_gives(data, shape):
    index = data.draw(strategies.indices(shape))
    x = strategies.generic_array(shape)
    assert np.array_equal(tg.Tensor(x)[index].data, x[index])


def test_indices_have_repeats_masks_slices_and_new_axes():
    drawn = strategies.indices((3, 2))

    def parts(index):
        return index if isinstance(index, tuple) else (index,)

    def arrays(index, kind):
        return [a for a in parts(index) if isinstance(a, np.ndarray) and a.dtype.kind == kind]

    for condition in [
        lambda i: any(len(np.unique(a % 3)) < a.size for a in arrays(i, "i")),
        lambda i: any(a.ndim == 2 and a.size > 1 for a in arrays(i, "i")),
        lambda i: len(arrays(i, "i")) == 2,
        lambda i: any(a.shape == (3,) and 0 < a.sum() < 3 for a in arrays(i, "b")),
        lambda i: any(a.shape == (3, 2) and 0 < a.sum() < 6 for a in arrays(i, "b")),
        lambda i: any(isinstance(k, slice) and (k.step or 1) < 0 for k in parts(i)),
        lambda i: any(k is None for k in parts(i)),
        lambda i: any(isinstance(k, int) and k < 0 for k in parts(i)),
    ]:
        assert is_found(drawn, condition)


@given(strategies.permutations(4))
def test_permutations_name_every_axis_once(axes):
    assert sorted(axes) == [0, 1, 2, 3]


def test_permutations_shrink_to_the_order_that_changes_nothing():
    assert simplest(strategies.permutations(3)) == (0, 1, 2)


# ----- programs ----------------------------------------------------------------------------------


def assignments(program):
    """The lines of a program, as names and the names that they use."""
    (function,) = ast.parse(program.source).body
    found = []
    for line in function.body[:-1]:
        used = [n.id for n in ast.walk(line.value) if isinstance(n, ast.Name)]
        found.append((line.targets[0].id, [name for name in used if name not in ("np", "cube")]))
    return found, function.body[-1].value.id


def cube(x):
    return x**3


@given(strategies.programs())
def test_a_program_runs_from_what_it_prints_and_gives_the_same_numbers(program):
    namespace = {"np": np}
    exec(str(program), namespace)
    for x, y in zip(namespace["inputs"], program.inputs, strict=True):
        assert np.array_equal(x, y)
    result = program(*program.inputs)
    assert np.array_equal(namespace["program"](*namespace["inputs"]), result)
    assert np.array_equal(program(*map(tg.Tensor, program.inputs)).data, result)
    assert np.all(np.abs(result) <= strategies.LARGE)


@given(strategies.programs(max_ops=3))
def test_a_program_has_no_dead_lines_and_no_unused_inputs(program):
    lines, result = assignments(program)
    used = {name for _, names in lines for name in names} | {result}
    assert {name for name, _ in lines} | set(inspect.signature(program).parameters) == used
    assert len(lines) <= 3


def test_programs_have_diamonds_and_the_same_value_twice_and_shapes_that_broadcast():
    def operands(program):
        return [names for _, names in assignments(program)[0]]

    def diamond(program):
        """A value that two lines use: both lead to the result, so the paths meet again."""
        names = [name for used in operands(program) for name in set(used)]
        return len(names) > len(set(names))

    drawn = strategies.programs()
    assert is_found(drawn, diamond)
    assert is_found(drawn, lambda p: any(len(ns) == 2 and ns[0] == ns[1] for ns in operands(p)))
    assert is_found(drawn, lambda p: len({x.shape for x in p.inputs}) > 1)
    assert is_found(drawn, lambda p: len(operands(p)) >= 8)
    assert is_found(drawn, lambda p: len(p.inputs) == 3)


def test_a_program_shrinks_to_the_lines_that_matter():
    program = find(strategies.programs(), lambda p: "sin" in p.source, settings=seldom)
    assert program.source == "def program(x0):\n    v0 = np.sin(x0)\n    return v0\n"
    assert repr(program) == program.source + "\ninputs = [np.array([1.])]"


@few
@given(strategies.programs(ops=[cube, np.multiply, "np.exp({})"], max_ops=4))
def test_programs_of_other_functions(program):
    assert re.search(r"= \(?(cube\(|np\.multiply\(|np\.exp\()", program.source)
    testing.check_grads(program, *program.inputs)


@given(strategies.programs(ops=["3.0 * {}"]))
def test_large_results_are_divided(program):
    assert np.abs(program(*program.inputs)).max() <= strategies.LARGE


@few
@given(strategies.programs(ops=["np.exp(np.exp({}))", "{} * {}", "np.log(-np.abs({}))"]))
def test_programs_never_overflow(program):
    assert np.isfinite(program(*program.inputs)).all()


def test_an_operation_without_a_name_is_refused():
    with pytest.raises(ValueError, match="names"):
        simplest(strategies.programs(ops=[lambda x: x]))


@given(strategies.programs())
def test_gradients_of_random_programs(program):
    testing.check_grads(program, *program.inputs)


def overwriting(monkeypatch):
    """An engine in which a second gradient replaces the first instead of being added."""
    add = lambda sums, key, part: sums.totals.update({key: part})
    monkeypatch.setattr(graph.Sums, "add", add)


def depth_first(monkeypatch):
    """An engine that walks back depth first: a node may come before all its uses have reported."""
    path = graph._path

    def walk(seeds, wanted, cut):
        members, found = set(path(seeds, wanted, cut)), []

        def visit(node):
            if node in members and node not in found:
                found.append(node)
                for _, (parent, _), _ in node.edges or ():
                    visit(parent)

        for node, _ in seeds:
            visit(node)
        return found[::-1]

    monkeypatch.setattr(graph, "_path", walk)


@pytest.mark.parametrize(("fault", "lines"), [(overwriting, 1), (depth_first, 2)])
def test_random_programs_find_faults_of_the_walk_back_and_show_them_in_few_lines(
    monkeypatch, fault, lines
):
    fault(monkeypatch)
    text = failure_of(inner(grad_property(strategies.programs())))

    assert "FAIL" in text
    assert 1 <= len(re.findall(r"^\s*v\d+ = ", text, re.MULTILINE)) <= lines


# ----- recurrent networks, calls -----------------------------------------------------------------


@given(strategies.sequences(T=(2, 4), N=3, C=(1, 2), mask=True))
def test_sequences_have_the_sizes_asked_for(s):
    steps, batch, inputs = s.x.shape
    assert 2 <= steps <= 4
    assert batch == 3
    assert 1 <= inputs <= 2
    assert s.lengths.shape == (3,)
    assert np.all((s.lengths >= 0) & (s.lengths <= steps))
    assert (s.mask.shape, s.mask.dtype) == ((steps, 3), bool)
    same = eval(repr(s), {"Sequence": strategies.Sequence})
    for name in ("x", "lengths", "mask"):
        assert np.array_equal(getattr(same, name), getattr(s, name))


def test_lengths_reach_from_0_to_the_full_length_to_which_they_shrink():
    drawn = strategies.sequences(T=4, N=2)
    assert is_found(drawn, lambda s: s.lengths.min() == 0 and 0 < s.lengths.max() < 4)
    assert repr(simplest(drawn)) == "Sequence((4, 2, 1), lengths=[4, 4])"
    assert repr(simplest(strategies.sequences(lengths=False))) == "Sequence((1, 1, 1))"
    masked = simplest(strategies.sequences(T=2, lengths=False, mask=True))
    assert repr(masked) == "Sequence((2, 1, 1), mask=[[True], [True]])"


@few
@given(strategies.cells(inputs=2), strategies.sequences(T=(1, 3), C=2))
def test_gradients_of_small_cells(cell, s):
    rnn = tg.RNN(cell)
    testing.check_grads(lambda x: rnn(x, lengths=s.lengths).outputs, s.x)


def test_cells_are_of_all_kinds_and_the_same_for_the_same_seed():
    for kind in (tg.RNNCell, tg.LSTMCell, tg.GRUCell):
        assert is_found(strategies.cells(), lambda c, kind=kind: type(c) is kind)
    a, b = (simplest(strategies.cells(hidden=3)) for _ in range(2))
    assert np.array_equal(a.V.data, b.V.data)


@few
@given(st.data())
def test_calls_of_one_operation(data):
    call = data.draw(strategies.calls(np.concatenate))
    testing.check_grads(call, *call.inputs)
    again = eval(repr(call), {"Call": strategies.Call, "concatenate": np.concatenate})
    assert all(map(np.array_equal, call.inputs, again.inputs))


# ----- grad_property -----------------------------------------------------------------------------


def failure_of(test):
    """The message of a failing property, and its falsifying example."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        test()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def product(right):
    """matmul with this gradient of its second operand: right(g, a) -> gradient."""

    @tg.primitive
    def product(a, b):
        return np.matmul(a, b)

    tg.defvjp(product, lambda g, x1: g @ np.swapaxes(x1, -1, -2), lambda g, x0: right(g, x0))
    return product


def transposed_where_square(g, a):
    right = np.swapaxes(a, -1, -2) @ g
    return np.swapaxes(right, -1, -2) if right.shape[-1] == right.shape[-2] else right


def operands_swapped(g, a):
    right = np.swapaxes(a, -1, -2) @ g
    swapped = g @ np.swapaxes(a, -1, -2) if g.shape[-1] == a.shape[-1] else right
    return swapped if swapped.shape == right.shape else right


def test_the_planted_products_are_right_but_for_what_was_planted():
    right = product(lambda g, a: np.swapaxes(a, -1, -2) @ g)
    inner(grad_property(right, strategies.gufunc("(m,k),(k,n)->(m,n)", max_dims=0)))()


@pytest.mark.parametrize("wrong", [transposed_where_square, operands_swapped])
def test_a_shrunk_counterexample_is_small_and_its_numbers_can_be_read(wrong):
    """Two wrong gradients that only square matrices show."""
    signature = strategies.gufunc("(m,k),(k,n)->(m,n)", max_dims=0)
    f = product(wrong)

    def matmul(a, b):
        return f(a, b)

    text = failure_of(inner(grad_property(matmul, signature)))
    message, _, shown = text.partition("check_grads_of_matmul(")
    shown = re.split("Explanation|You can reproduce", shown)[0]  # the latter where CI is set
    found = eval(f"dict({shown.partition('Highest')[0]}", {"array": np.array})
    a, b = found["args"]
    assert b.shape == (2, 2)
    assert a.shape in [(1, 2), (2, 2)]
    for x in (a, b):
        assert np.array_equal(x * 8, np.round(x * 8))
        assert np.sum(x != 0) <= 2
    assert len(shown) <= 400
    assert "FAIL" in message
    assert "b, element [" in message
    assert "wrong in" in message
    with pytest.raises(testing.GradientError):
        testing.check_grads(f, a, b)


def test_a_property_of_right_gradients_passes_and_runs_every_example():
    calls = []

    @settings(inner, max_examples=30)
    @grad_property(np.matmul, strategies.gufunc("(m,k),(k,n)->(m,n)"))
    def test(a, b, report):
        """Its text."""
        calls.append((a.shape, b.shape))
        assert report.ok
        assert report.name == "matmul"

    test()
    assert len(calls) == 30
    assert len(set(calls)) > 5
    assert (test.__name__, test.__doc__) == ("test", "Its text.")


def test_what_the_body_asserts_is_shrunk_too_and_shown_with_the_report():
    @inner
    @grad_property(np.tanh, strategies.lattice((2, 3)))
    def test_small(x, report):
        assert np.abs(x).max() < 1.5

    text = failure_of(test_small)
    assert "test_small(\n    x=array([[" in text
    (array,) = re.findall(r"x=(array\(.*?\))", text, re.DOTALL)
    assert np.sum(eval(array, {"array": np.array}) != 0) == 1
    assert "tanh: PASS" in text


def test_arguments_may_be_named_in_any_order_and_by_keyword_only():
    def f(x, power=2.0, *, shift):
        return x**power + shift

    seen = []

    @few
    @grad_property(f, shift=strategies.lattice(2), x=strategies.lattice((3, 1), lo=0.5))
    def test(x, shift, report):
        seen.append(report)
        assert {finding.argument for finding in report.findings} == {"x", "shift"}

    test()
    assert seen


def test_keywords_of_check_grads_are_passed_on():
    def f(x, y):
        return np.tanh(x) * y

    @few
    @grad_property(f, strategies.lattice(2), strategies.lattice(2), wrt=[1], name="mine")
    def test(x, y, report):
        assert report.name == "mine"
        assert {finding.argument for finding in report.findings} == {"y"}

    test()


def test_a_tuple_as_an_argument_is_a_tuple_inside_a_tuple():
    pair = strategies.gufunc("(),()->()", max_dims=1)
    few(grad_property(lambda pair: pair[0] * pair[1], st.tuples(pair)))()


def test_programs_and_calls_bring_their_own_function():
    seen = []

    @few
    @grad_property(strategies.programs(max_inputs=1))
    def test(x, report):
        seen.append(report.name)

    test()
    assert set(seen) == {"program"}


def test_a_property_without_strategies_is_refused():
    with pytest.raises(TypeError, match="strategy for each argument"):
        grad_property(np.tanh)


def test_settings_and_examples_stacked_on_a_property_are_used():
    seen = []

    @example(np.array([0.25, 0.5]))
    @example(x=np.array([3.0]))
    @settings(max_examples=7, database=None, phases=[Phase.explicit, Phase.generate])
    @grad_property(lambda x: np.tanh(x), strategies.lattice(2))
    def test(x, report):
        seen.append(x.tolist())

    test()
    assert seen[:2] == [[0.25, 0.5], [3.0]]
    assert len(seen) == 2 + 7
    seen.clear()
    alone = grad_property(lambda x: seen.append(x) or np.tanh(x), strategies.lattice(2))
    example(np.array([7.0]))(settings(max_examples=1, database=None)(alone))()
    assert any(np.shape(x) == (1,) for x in seen)


def test_the_profiles_deadline_is_not_applied_but_one_that_is_stated_is():
    def slow(x):
        sleep(0.02)
        return np.tanh(x)

    def property_of_slow():
        return grad_property(slow, strategies.lattice(()), directions=1)

    settings.register_profile(
        "hasty", deadline=10, max_examples=1, database=None, phases=[Phase.generate]
    )
    try:
        settings.load_profile("hasty")
        property_of_slow()()
        settings(max_examples=2)(property_of_slow())()
        with pytest.raises(DeadlineExceeded):
            settings(deadline=11)(property_of_slow())()
    finally:
        settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))  # conftest.py's


def keys_of(tests):
    return {function_digest(test.hypothesis.inner_test) for test in tests}


def times(k):
    return lambda x: k * x


def test_each_property_has_a_database_key_of_its_own():
    def make(f, strategy, **options):
        return grad_property(f, strategy, **options)

    two, three = strategies.lattice(2), strategies.lattice(3)
    tests = [
        make(np.tanh, two),
        make(np.sin, two),
        make(np.tanh, three),
        make(np.tanh, two, rtol=1),
    ]
    assert len(keys_of(tests)) == 4
    assert len(keys_of([make(np.tanh, two), make(np.tanh, two)])) == 1
    assert len(keys_of([make(lambda x: x + 1, two), make(lambda x: x + 2, two)])) == 2
    assert len(keys_of([make(lambda x, k=k: x + k, two) for k in (1, 2)])) == 2
    assert len(keys_of([make(times(k), two) for k in (1, 2)])) == 2
    places = [object(), object()]  # where in memory something lies is no part of a key
    assert len(keys_of([make(times(place), two) for place in places])) == 1
    with_bodies = [tests[0](body) for body in (cube, failure_of)]
    assert len(keys_of([*with_bodies, tests[0]])) == 3


def test_pytest_collects_a_property_and_shows_verdicts_and_target(elsewhere):
    elsewhere.makepyfile(
        test_it="""
        import numpy as np
        from hypothesis import settings
        from tinygrad_rnn.testing import strategies
        from tinygrad_rnn.testing.properties import grad_property

        test_matmul = grad_property(np.matmul, strategies.gufunc("(m,k),(k,n)->(m,n)"))

        @settings(max_examples=5)
        @grad_property(np.tanh, strategies.lattice(3))
        def test_tanh(x, report):
            assert x.shape == (3,)

        class TestMethods:
            test_sin = grad_property(np.sin, strategies.lattice(3))

        @grad_property(np.sin, strategies.lattice(3))
        def test_fails(x, report):
            assert x[0] < 1
        """
    )
    result = elsewhere.runpytest_subprocess("--hypothesis-show-statistics")
    result.assert_outcomes(passed=3, failed=1)
    for line in ["*verdict: PASS*", "*log10 of error / tolerance*", "*x=array*"]:
        result.stdout.fnmatch_lines([line])


# ----- the package -------------------------------------------------------------------------------


def test_without_hypothesis_the_error_says_what_to_install(elsewhere):
    elsewhere.makepyfile(
        alone="""
        import sys
        sys.modules["hypothesis"] = None
        import tinygrad_rnn.testing
        for name in ("strategies", "properties"):
            try:
                __import__(f"tinygrad_rnn.testing.{name}")
            except ImportError as error:
                print(error)
        """
    )
    lines = elsewhere.runpython("alone.py").outlines
    assert len(lines) == 2
    assert all("need hypothesis: pip install 'tinygrad_rnn[testing]'" in line for line in lines)


def test_an_ops_keyword_is_drawn_and_passed_on(rule_of):
    seen = set()

    @tg.primitive
    def bend(x, y, slope=1.0):
        seen.add(slope)
        return np.where(x > 0, x, slope * x) * y

    rule_of(
        bend,
        lambda g, x0, x1, slope=1.0: g * x1 * np.where(x0 > 0, 1.0, slope),
        lambda g, x0, slope=1.0: g * np.where(x0 > 0, x0, slope * x0),
    )
    values = strategies.lattice((2,), exclude=[0])
    slopes = st.sampled_from([0.25, 0.5])
    testing.grad_property(bend, values, values, slope=slopes)()
    assert seen == {0.25, 0.5}
