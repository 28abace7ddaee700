"""Losses over time, and the functions that they are made of."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import testing
from tinygrad_rnn.errors import DtypeError, RngError, ShapeError
from tinygrad_rnn.functions import root_mean_square

SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.sampled_from([(), (1,), (3,), (2, 2)])  # what follows the time axis
REDUCTIONS = ["mean", "sum", "time_sum"]
LOSSES = [tg.cross_entropy, tg.binary_cross_entropy, tg.mse, tg.rmse]
ELEMENTWISE = {
    tg.sigmoid: lambda v: 1 / (1 + math.exp(-v)),
    tg.relu: lambda v: v if v > 0 else 0.0,
    tg.softplus: lambda v: math.log(1 + math.exp(v)),
}
ALONG_AXIS = {
    tg.softmax: lambda v: [math.exp(a) / sum(map(math.exp, v)) for a in v],
    tg.log_softmax: lambda v: [a - math.log(sum(map(math.exp, v))) for a in v],
}
FUNCTIONS = [*ELEMENTWISE, *ALONG_AXIS, root_mean_square]

each_loss = pytest.mark.parametrize("loss", LOSSES)
each_function = pytest.mark.parametrize("f", FUNCTIONS)
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def off_zero(rng, shape):
    """Numbers of either sign, away from the corners of relu and rmse."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2, shape)


def batch(seed, shape, loss):
    """Output and target of a loss."""
    rng = np.random.default_rng(seed)
    output = rng.standard_normal(shape)
    if loss is tg.cross_entropy:
        return output, rng.integers(0, shape[-1], shape[:-1])
    if loss is tg.binary_cross_entropy:
        return output, rng.uniform(0.25, 0.75, shape)
    return output, output + off_zero(rng, shape)


@st.composite
def cases(draw, loss, padded=False):
    """Output, target and keywords: lengths, mask, both or neither."""
    T, K, seed = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(SEEDS)
    shape = (T, *draw(BATCHES))
    output, target = batch(seed, (*shape, K), loss)
    rng = np.random.default_rng(seed)
    options = {"reduction": draw(st.sampled_from(REDUCTIONS))}
    if padded or draw(st.booleans()):
        options["lengths"] = np.asarray(rng.integers(0, T + 1, shape[1:]))
    if draw(st.booleans()):
        options["mask"] = rng.random(shape) < 0.7
    return output, target, options


def is_valid(t, n, lengths=None, mask=None, **_):
    return (lengths is None or t < lengths[n]) and (mask is None or bool(mask[(t, *n)]))


def by_loops(loss, output, target, reduction, **padding):
    total, count = 0.0, 0
    for t, *n in np.ndindex(output.shape[:-1]):
        if is_valid(t, tuple(n), **padding):
            y, d = output[(t, *n)], target[(t, *n)]
            if loss is tg.cross_entropy:
                total += -math.log(math.exp(y[d]) / sum(math.exp(v) for v in y))
            elif loss is tg.binary_cross_entropy:
                yes = [1 / (1 + math.exp(-v)) for v in y]
                terms = [
                    b * math.log(p) + (1 - b) * math.log(1 - p) for p, b in zip(yes, d, strict=True)
                ]
                total -= sum(terms) / len(terms)
            else:
                square = sum((a - b) ** 2 for a, b in zip(y, d, strict=True)) / len(y)
                total += square if loss is tg.mse else math.sqrt(square)
            count += 1
    batch_size = math.prod(output.shape[1:-1])
    return total / {"mean": max(1, count), "sum": 1, "time_sum": batch_size}[reduction]


def value_and_gradient(loss, output, target, **options):
    x = tg.Tensor(output, requires_grad=True)
    value = loss(x, target, **options)
    value.backward()
    return value.data, x.grad


# ----- losses


@each_loss
@given(data=st.data())
def test_a_loss_equals_the_loops(loss, data):
    output, target, options = data.draw(cases(loss))
    expected = by_loops(loss, output, target, **options)
    np.testing.assert_allclose(loss(output, target, **options), expected, rtol=1e-12, atol=1e-14)


@each_loss
@given(data=st.data())
def test_on_tensors_the_values_are_the_same(loss, data):
    output, target, options = data.draw(cases(loss))
    result = loss(tg.Tensor(output), tg.Tensor(target), **options)
    assert isinstance(result, tg.Tensor)
    assert result.shape == ()
    assert result.item() == loss(output, target, **options)


@each_loss
@given(data=st.data(), extra=st.integers(0, 3))
def test_padding_changes_neither_value_nor_gradient(loss, data, extra):
    output, target, options = data.draw(cases(loss, padded=True))
    value, gradient = value_and_gradient(loss, output, target, **options)
    valid = np.zeros((len(output) + extra, *output.shape[1:-1]), bool)
    for t, *n in np.ndindex(output.shape[:-1]):
        valid[(t, *n)] = is_valid(t, tuple(n), **options)
    if "mask" in options:
        longer = np.ones((extra, *output.shape[1:-1]), bool)
        options["mask"] = np.concatenate([options["mask"], longer])
    spoiled = np.full((*valid.shape, output.shape[-1]), np.nan)
    spoiled[valid] = output[valid[: len(output)]]
    if loss is tg.cross_entropy:
        spoiled_target = np.where(np.arange(valid.size).reshape(valid.shape) % 2, -1, 99)
    else:
        spoiled_target = np.full(spoiled.shape, np.nan)
    spoiled_target[valid] = target[valid[: len(output)]]
    new_value, new_gradient = value_and_gradient(loss, spoiled, spoiled_target, **options)
    np.testing.assert_allclose(new_value, value, rtol=1e-12)
    np.testing.assert_allclose(new_gradient[: len(output)], gradient, rtol=1e-12)
    assert (new_gradient[~valid] == 0).all()


@each_loss
@settings(max_examples=25)
@given(data=st.data())
def test_the_gradients_are_right(loss, data):
    output, target, options = data.draw(cases(loss))
    testing.check_grads(lambda x, y: loss(x, y, **options), output, target)


@given(seed=SEEDS, reduction=st.sampled_from(REDUCTIONS))
def test_rmse_without_error_has_gradient_zero(seed, reduction):
    output, target = batch(seed, (4, 3, 2), tg.rmse)
    exact = np.random.default_rng(seed).random((4, 3)) < 0.5
    target[exact] = output[exact]
    gradient = value_and_gradient(tg.rmse, output, target, reduction=reduction)[1]
    assert (gradient[exact] == 0).all()
    assert (gradient[~exact] != 0).all()
    assert np.isfinite(gradient).all()


@each_loss
@each_reduction
@pytest.mark.parametrize("padding", [{"lengths": [0, 0, 0]}, {"mask": np.zeros((2, 3), bool)}])
def test_a_loss_over_no_entry_is_zero(loss, reduction, padding):
    output, target = batch(0, (2, 3, 2), loss)
    value, gradient = value_and_gradient(loss, output, target, reduction=reduction, **padding)
    assert value == 0
    assert not gradient.any()


@each_loss
@each_reduction
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2)])
def test_a_loss_over_no_steps_or_no_sequences_is_zero(loss, reduction, shape):
    value, gradient = value_and_gradient(loss, *batch(0, shape, loss), reduction=reduction)
    assert value == 0
    assert gradient.shape == shape


@given(seed=SEEDS, dtype=st.sampled_from([np.float32, np.float64]))
def test_extreme_outputs_give_finite_losses(seed, dtype):
    rng = np.random.default_rng(seed)
    output = rng.choice([-1000, 0, 1000], (3, 2, 4)).astype(dtype)
    target = rng.choice([-1000, 0, 1000], (3, 2, 4)).astype(dtype)
    targets = {
        tg.cross_entropy: rng.integers(0, 4, (3, 2)),
        tg.binary_cross_entropy: rng.integers(0, 2, (3, 2, 4)),
    }
    for loss in LOSSES:
        found = value_and_gradient(loss, output, targets.get(loss, target))
        assert all(np.isfinite(a).all() for a in found)


def test_cross_entropy_is_exact_where_softmax_rounds_to_zero():
    value, gradient = value_and_gradient(tg.cross_entropy, [[1000.0, -1000.0]], [1])
    assert value == 2000
    assert gradient.tolist() == [[1, -1]]


@pytest.mark.parametrize("z", [-700.0, -40.0, -1e-9, 0.0, 3.0, 40.0, 700.0])
@pytest.mark.parametrize("y", [0, 1])
def test_binary_cross_entropy_keeps_its_digits_however_sure_the_logits(z, y):
    """Near 0 the loss is exp(-|z|), and its gradient too: neither may round to 0."""
    value, gradient = value_and_gradient(tg.binary_cross_entropy, [z], [y])
    away = z if y == 0 else -z  # how far the answer is on the wrong side
    expected = math.log1p(math.exp(away)) if away < 30 else away
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    sign = 1 if y == 0 else -1
    slope = math.exp(away) / (1 + math.exp(away)) if away < 0 else 1 / (1 + math.exp(-away))
    np.testing.assert_allclose(gradient, [sign * slope], rtol=1e-14)


@pytest.mark.parametrize("options", [{}, {"mask": np.array([True, True, False])}])
def test_binary_targets_may_be_numbers_of_any_kind_and_keep_the_logits_dtype(options):
    yes = np.array([[1, 0], [0, 0], [1, 1]])
    logits = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    expected = tg.binary_cross_entropy(logits, yes.astype(np.float32), **options)
    assert expected.dtype == np.float32
    for targets in (yes, yes.astype(bool), yes.astype(np.uint8), yes.tolist(), tg.Tensor(yes)):
        for form in (np.asarray, tg.Tensor):
            found = tg.binary_cross_entropy(form(logits), targets, **options)
            assert found.dtype == np.float32
            assert float(found) == float(expected)


@pytest.mark.parametrize("bad", [-0.5, 1.5, 2.0, np.nan])
def test_binary_targets_outside_0_to_1_raise_except_in_padding(bad):
    logits, targets = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    targets[2, 1, 0] = bad
    with pytest.raises(ShapeError, match=rf"targets\[2, 1, 0\]={bad} is not in \[0, 1\]"):
        tg.binary_cross_entropy(logits, targets)
    tg.binary_cross_entropy(logits, targets, lengths=[3, 2])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_binary_cross_entropy_is_pytorchs(reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 3, 2)) * 10, rng.random((5, 3, 2))
    value, gradient = value_and_gradient(
        tg.binary_cross_entropy, logits, targets, reduction=reduction
    )
    z = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        z, torch.tensor(targets), reduction=reduction
    )
    theirs = theirs / (2 if reduction == "sum" else 1)  # ours is the mean over the last axis
    theirs.backward()
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-13)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-12, atol=1e-16)


def test_a_constant_guess_costs_the_logarithm_of_the_classes():
    assert tg.cross_entropy(np.full((5, 3), 7.0), np.zeros(5, int)) == pytest.approx(math.log(3))


@each_loss
@each_reduction
def test_a_loss_in_float32_stays_float32(loss, reduction):
    output, target = batch(0, (3, 2, 4), loss)
    output = output.astype(np.float32)
    target = target if loss is tg.cross_entropy else target.astype(np.float32)
    options = {"lengths": [3, 1], "reduction": reduction}
    for x in (output, tg.Tensor(output)):
        assert loss(x, target).dtype == np.float32
        assert loss(x, target, **options).dtype == np.float32


@each_loss
@given(data=st.data())
def test_a_loss_of_plain_arrays_is_a_plain_number(loss, data):
    output, target, options = data.draw(cases(loss))
    assert type(loss(output, target, **options)) is np.float64


@each_loss
def test_a_single_vector_is_one_entry(loss):
    output, target = batch(0, (1, 4), loss)
    for reduction in REDUCTIONS:
        assert loss(output[0], target[0], reduction=reduction) == loss(output, target)


def test_targets_lengths_and_mask_may_be_lists_or_tensors():
    output, targets = batch(0, (3, 2, 4), tg.cross_entropy)
    lengths, mask = np.array([3, 1]), np.array([[True, True], [False, True], [True, True]])
    expected = tg.cross_entropy(output, targets, lengths, mask)
    for form in (np.ndarray.tolist, tg.Tensor):
        found = tg.cross_entropy(output, form(targets), form(lengths))
        assert found == tg.cross_entropy(output, targets, lengths)
    assert tg.cross_entropy(output, targets, tg.Tensor(lengths), tg.Tensor(mask)) == expected


@each_loss
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lengths": [3, 4]}, "lengths[1]=4 is not in 0..T=3"),
        ({"lengths": [-1, 3]}, "lengths[0]=-1 is not in 0..T=3"),
        ({"lengths": [3]}, "lengths must be integers of shape (2,)"),
        ({"lengths": 3}, "lengths must be integers of shape (2,)"),
        ({"lengths": [3.0, 2.0]}, "got float64 of shape (2,)"),
        ({"mask": np.ones((3, 2))}, "mask must be booleans of shape (3, 2)"),
        ({"mask": np.ones((2, 3), bool)}, "got bool of shape (2, 3)"),
        ({"reduction": "none"}, 'reduction=\'none\': expected "mean", "sum" or "time_sum"'),
    ],
)
def test_wrong_options_raise(loss, options, text):
    output, target = batch(0, (3, 2, 4), loss)
    with pytest.raises(ShapeError) as caught:
        loss(output, target, **options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "error", "text"),
    [
        (np.zeros(3, int), ShapeError, "need targets of shape (3, 2), got (3,)"),
        (np.zeros((2, 3), int), ShapeError, "need targets of shape (3, 2), got (2, 3)"),
        (np.zeros((3, 2, 4), int), ShapeError, "logits (3, 2, 4) need targets"),
        (np.zeros((3, 2, 4)), ShapeError, "class numbers, targets.argmax(-1)"),
        (np.zeros((3, 4), int), ShapeError, "classes are on the last axis"),
        ([[0, 0], [-100, 0], [0, 9]], ShapeError, "leave it out by mask=targets != -100"),
        (np.zeros((3, 2)), DtypeError, "integer class numbers, not float64"),
        (np.zeros((3, 2), bool), DtypeError, "integer class numbers, not bool"),
        ([[0, 0], [0, 4], [0, 0]], ShapeError, "targets[1, 1]=4 is not in 0..3"),
        ([[0, 0], [0, 0], [-1, 0]], ShapeError, "targets[2, 0]=-1 is not in 0..3"),
    ],
)
def test_wrong_targets_raise(targets, error, text):
    with pytest.raises(error) as caught:
        tg.cross_entropy(np.zeros((3, 2, 4)), targets)
    assert text in str(caught.value)


def test_the_advice_for_wrong_targets_works():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 2, 4)), rng.integers(0, 4, (3, 2))
    right = tg.cross_entropy(logits, targets)
    assert tg.cross_entropy(logits, np.eye(4)[targets].argmax(-1)) == right
    assert tg.cross_entropy(np.moveaxis(np.moveaxis(logits, -1, 1), 1, -1), targets) == right
    targets[1:] = -100
    masked = tg.cross_entropy(logits, targets, mask=targets != -100)
    assert masked == pytest.approx(tg.cross_entropy(logits[:1], targets[:1]))
    with pytest.raises(ShapeError, match=r"=4 is not in 0\.\.3, the class numbers that there are$"):
        tg.cross_entropy(logits, np.full((3, 2), 4))


@pytest.mark.parametrize("loss", LOSSES[1:])
def test_output_and_target_of_different_shapes_raise(loss):
    with pytest.raises(ShapeError, match=r"output \(3, 2\) and target \(3, 1\) must have the same"):
        loss(np.zeros((3, 2)), np.zeros((3, 1)))


@each_loss
def test_a_whole_layers_output_is_refused_with_what_to_give(loss):
    out = tg.RNN(tg.RNNCell(2, 3, rng=0))(np.ones((4, 1, 2)))
    with pytest.raises(ShapeError, match=r"give one of them, its \.outputs or \.last"):
        loss(out, np.zeros((4, 1, 3)))


@pytest.mark.parametrize("loss", LOSSES[1:])
def test_lists_are_arrays(loss):
    assert loss([[0.5, 2.0]], [[0.0, 1.0]]) == loss(np.array([[0.5, 2.0]]), np.array([[0.0, 1.0]]))


@each_loss
def test_lengths_without_a_time_axis_raise(loss):
    output, target = batch(0, (4,), loss)
    with pytest.raises(ShapeError, match="need a time axis"):
        loss(output, target, lengths=1)


# ----- functions


@pytest.mark.parametrize("f", ELEMENTWISE)
@given(x=st.floats(-30, 30))
def test_an_elementwise_function_equals_its_formula(f, x):
    np.testing.assert_allclose(f(np.array([x])), [ELEMENTWISE[f](x)], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("f", ALONG_AXIS)
@given(seed=SEEDS, ndim=st.integers(1, 3), data=st.data())
def test_softmax_goes_along_its_axis(f, seed, ndim, data):
    axis = data.draw(st.integers(-ndim, ndim - 1))
    x = np.random.default_rng(seed).standard_normal((2, 3, 4)[:ndim])
    expected = np.apply_along_axis(ALONG_AXIS[f], axis, x)
    np.testing.assert_allclose(f(x, axis=axis), expected, rtol=1e-12)
    np.testing.assert_allclose(f(tg.Tensor(x), axis).data, expected, rtol=1e-12)
    testing.check_grads(lambda x: f(x, axis=axis), x)


@pytest.mark.parametrize("f", ALONG_AXIS)
@pytest.mark.parametrize("form", [np.asarray, tg.Tensor])
def test_softmax_along_no_such_axis_raises(f, form):
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
        f(form(np.zeros((2, 3))), axis=2)


@given(seed=SEEDS)
def test_root_mean_square_equals_its_formula(seed):
    x = np.random.default_rng(seed).standard_normal((2, 3))
    expected = [math.sqrt(sum(v * v for v in row) / 3) for row in x]
    np.testing.assert_allclose(root_mean_square(x), expected, rtol=1e-12)


@each_function
@settings(max_examples=25)
@given(seed=SEEDS)
def test_the_gradients_of_functions_are_right(f, seed):
    testing.check_grads(f, off_zero(np.random.default_rng(seed), (2, 3)))


@pytest.mark.parametrize("f", [tg.relu, root_mean_square])
def test_the_derivative_at_the_corner_is_zero(f):
    x = tg.Tensor(np.zeros((2, 3)), requires_grad=True)
    f(x).sum().backward()
    assert x.grad.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (tg.sigmoid, [0, 0.5, 1]),
        (tg.relu, [0, 0, 1000]),
        (tg.softplus, [0, math.log(2), 1000]),
        (tg.softmax, [0, 0, 1]),
        (tg.log_softmax, [-2000, -1000, 0]),
        (root_mean_square, math.sqrt(2e6 / 3)),
    ],
)
def test_extreme_inputs_give_the_limits(f, expected, dtype):
    x = tg.Tensor([-1000, 0, 1000], requires_grad=True, dtype=dtype)
    y = f(x)
    np.testing.assert_allclose(y.data, expected, rtol=1e-6)
    y.sum().backward()
    assert np.isfinite(x.grad).all()


@each_function
def test_float32_stays_float32(f):
    x = np.ones((2, 3), np.float32)
    assert f(x).dtype == f(tg.Tensor(x)).dtype == np.float32


@each_function
def test_plain_arrays_stay_plain(f):
    assert type(f(np.ones((2, 3)))) is np.ndarray
    assert isinstance(f(np.ones(3)), np.ndarray | np.floating)


@each_function
@given(seed=SEEDS)
def test_tensors_give_tensors_of_the_same_values(f, seed):
    x = np.random.default_rng(seed).standard_normal((2, 3))
    y = f(tg.Tensor(x))
    assert isinstance(y, tg.Tensor)
    assert y.data.tolist() == f(x).tolist()


def test_a_mask_without_a_time_axis_is_refused():
    for loss in LOSSES[1:]:
        with pytest.raises(ShapeError, match="need a time axis"):
            loss(np.ones(3), np.zeros(3), mask=np.array(True))


# ----- functions that cells and models use -------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)])
def test_layer_norm_is_its_formula(axis):
    rng = np.random.default_rng(0)
    x, gain, bias = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4)
    centred = x - x.mean(axis=axis, keepdims=True)
    expected = centred / np.sqrt(x.var(axis=axis, keepdims=True) + 1e-5) * gain + bias
    np.testing.assert_allclose(tg.layer_norm(x, gain, bias, axis=axis), expected, rtol=1e-13)
    testing.check_grads(lambda x, g, b: tg.layer_norm(x, g, b, axis=axis), x, gain, bias)


def test_layer_norm_of_equal_elements_is_0_and_finite():
    x = tg.Tensor(np.zeros((2, 3)), requires_grad=True)
    y = tg.layer_norm(x)
    (y * np.arange(6.0).reshape(2, 3)).sum().backward()
    assert not y.data.any()
    assert np.isfinite(x.grad).all()
    assert tg.layer_norm(np.ones(3, np.float32)).dtype == np.float32


def test_logsumexp_at_the_ends():
    assert tg.logsumexp(np.array([1000.0, 1000.0])) == pytest.approx(1000 + np.log(2))
    x = tg.Tensor(np.full(2, -np.inf), requires_grad=True)
    y = tg.logsumexp(x)
    y.backward()
    assert y.item() == -np.inf
    assert x.grad.tolist() == [0.0, 0.0]


# ----- dropout -----------------------------------------------------------------------------------

FORMS = [np.asarray, tg.Tensor]
each_form = pytest.mark.parametrize("form", FORMS)


def plain(x):
    return x.data if isinstance(x, tg.Tensor) else x


@each_form
@given(seed=SEEDS, p=st.floats(0, 0.95), dtype=st.sampled_from([np.float32, np.float64]))
def test_dropout_zeroes_some_elements_and_scales_the_others(form, seed, p, dtype):
    x = off_zero(np.random.default_rng(seed), (4, 3)).astype(dtype)
    y = tg.dropout(form(x), p, seed)
    assert type(y) is type(form(x))
    assert y.dtype == dtype
    kept = plain(y) != 0
    np.testing.assert_allclose(plain(y), np.where(kept, x / (1 - p), 0), rtol=1e-6)
    assert plain(tg.dropout(form(x), p, np.random.default_rng(seed))).tolist() == y.tolist()


@settings(max_examples=10)
@given(seed=SEEDS, p=st.floats(0.05, 0.9))
def test_dropout_drops_the_share_p_and_keeps_the_mean(seed, p):
    y = tg.dropout(np.ones((200, 200)), p, seed)
    deviation = (p * (1 - p) / y.size) ** 0.5
    assert abs((y == 0).mean() - p) < 6 * deviation
    assert abs(y.mean() - 1) < 6 * deviation / (1 - p)


def test_each_call_of_dropout_draws_a_new_mask_from_a_generator():
    rng, x = np.random.default_rng(0), np.ones(50)
    assert (tg.dropout(x, 0.5, rng) != tg.dropout(x, 0.5, rng)).any()
    assert (tg.dropout(x, 0.5, 7) == tg.dropout(x, 0.5, 7)).all()


@each_form
def test_dropout_of_nothing_is_x_itself(form):
    x = form(np.ones((2, 3)))
    assert tg.dropout(x, 0, np.random.default_rng(0)) is x
    assert tg.dropout(form(np.ones((0, 3))), 0.5, 0).shape == (0, 3)


@settings(max_examples=20)
@given(seed=SEEDS)
def test_dropouts_gradient_is_right_and_0_where_dropped_whatever_was_there(seed):
    x = np.random.default_rng(seed).normal(size=(3, 4))
    testing.check_grads(lambda x: np.sin(tg.dropout(x, 0.4, seed)), x)
    dropped = tg.dropout(np.ones((3, 4)), 0.4, seed) == 0
    spoiled = tg.Tensor(np.where(dropped, np.nan, x), requires_grad=True)
    np.square(tg.dropout(spoiled, 0.4, seed)).sum().backward()
    assert (spoiled.grad[dropped] == 0).all()
    assert np.isfinite(spoiled.grad).all()


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_dropout_needs_a_probability_below_1(p):
    with pytest.raises(ShapeError, match=rf"p={float(p)}.* must be in \[0, 1\)"):
        tg.dropout(np.ones(3), p, 0)


@pytest.mark.parametrize("p", [0, 0.5])
def test_dropout_without_a_seed_raises(p):
    for call in (lambda: tg.dropout(np.ones(3), p), lambda: tg.dropout(np.ones(3), p, None)):
        with pytest.raises(RngError, match=r"Pass an int seed \(rng=0\)"):
            call()


@pytest.mark.parametrize("loss", [tg.mse, tg.rmse, tg.binary_cross_entropy])
def test_a_whole_output_as_the_target_is_told(loss):
    out = tg.RNN(tg.RNNCell(1, 2, rng=0))(np.ones((3, 1, 1)))
    with pytest.raises(tg.errors.ShapeError, match=r"its \.outputs or \.last"):
        loss(np.zeros((3, 1, 2)), out)
