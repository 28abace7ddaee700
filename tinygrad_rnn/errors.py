"""The named errors, and what the engine says when it raises one.

Each error is a TinygradError and also the built-in error that fits. The functions below make the
engine's own errors: all its sentences stand here, each with what was expected and what to do next,
and the code that raises them stays short.
"""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import Any


class TinygradError(Exception):
    """What every error of this package derives from.

        tg.RNNCell(3, 4)                             # raises TinygradError, here an RngError

    Each is also the built-in error that fits, and says what was expected and what to do next.
    """


class ShapeError(TinygradError, ValueError):
    """Shapes, lengths, batch sizes or choices that do not fit.

        tg.Linear(3, 4, rng=0)(np.ones(2))           # raises ShapeError

    A ValueError, too.
    """


class DtypeError(TinygradError, TypeError):
    """A dtype that cannot do what was asked: integers have no gradient.

        tg.Parameter([1, 2])                         # raises DtypeError

    A TypeError, too.
    """


class ConversionError(TinygradError, TypeError):
    """Something would turn a Tensor into a plain array, and so lose its graph.

        np.asarray(tg.Tensor([1.0]))                 # raises ConversionError

    A TypeError, too. `.data` and `.numpy()` are the ways out.
    """


class InplaceError(TinygradError, TypeError):
    """An attempt to change a Tensor in place, or to put an array where a Parameter is.

        x = tg.Tensor([1.0, 2.0])
        x[0] = 3.0                                   # raises InplaceError
        rnn.cell.b = np.zeros(4)                     # raises InplaceError: rnn.cell.b.data = ...

    A TypeError, too.
    """


class MissingRuleError(TinygradError, TypeError):
    """A function, argument or keyword for which no VJP is registered.

        np.fft.fft(tg.Tensor([1.0, 2.0]))            # raises MissingRuleError

    A TypeError, too. `tg.defvjp` registers one.
    """


class RuleError(TinygradError, ValueError):
    """A VJP that is registered wrongly, or that returned the wrong shape.

        tg.defvjp(np.tanh, lambda g, y: g)           # raises RuleError: tanh has no argument y

    A ValueError, too.
    """


class GraphFreedError(TinygradError, RuntimeError):
    """The graph was already walked back, and what it kept was freed.

        loss.backward()
        loss.backward()                              # raises GraphFreedError

    A RuntimeError, too. `backward(retain_graph=True)` keeps the graph.
    """


class NoGradientError(TinygradError, RuntimeError):
    """A gradient was asked of something that has none.

        tg.Tensor(1.0).backward()                    # raises NoGradientError: it is a constant

    A RuntimeError, too.
    """


class NotScalarError(TinygradError, ValueError):
    """A gradient was asked of a Tensor with several elements, and no cotangent was given.

        tg.Parameter([1.0, 2.0]).backward()          # raises NotScalarError

    A ValueError, too.
    """


class UnusedInputError(TinygradError, ValueError):
    """A gradient was asked for an input that the result does not depend on.

        tg.grad(loss, [tg.Parameter(np.ones(2))])    # raises UnusedInputError

    A ValueError, too.
    """


class NonFiniteError(TinygradError, ArithmeticError):
    """A NaN or an infinity appeared where one was looked for.

        b = tg.Parameter(np.ones(2))
        b.grad = np.array([1.0, np.nan])
        tg.clip_grad_norm([b], 1.0)                  # raises NonFiniteError

    An ArithmeticError, too.
    """


class TraceError(TinygradError, TypeError):
    """A value was read while a step was being traced.

        class Reads(tg.RNNCell):
            def step(self, x, h):
                return -h if x.sum() > 0 else h

        tg.RNN(Reads(3, 4, rng=0), scan=True)(tg.Tensor(x))       # raises TraceError

    A TypeError, too. Also raised where `source()` is asked of a loop that was not traced yet.
    """


class CellError(TinygradError, TypeError, ValueError):
    """A cell, or the state given to it, does not keep the contract of a cell.

        tg.RNN(tg.Linear(3, 4, rng=0))               # raises CellError: a Linear is no cell

    A TypeError and a ValueError, too.
    """


class RngError(TinygradError, TypeError):
    """Something is drawn at random, and no seed or generator was given.

        tg.RNNCell(3, 4)                             # raises RngError

    A TypeError, too.
    """


class NoTimeError(TinygradError, ValueError):
    """A question about time steps, of something that has none.

        W = tg.Parameter(np.ones(2))
        tg.contributions((W * W).sum(), W)           # raises NoTimeError: there is no loop

    A ValueError, too.
    """


class FigureError(TinygradError, ValueError):
    """A picture was asked for that cannot be drawn, or saved, like this.

        tg.draw(cell).save("cell.png")               # raises FigureError

    A ValueError, too.
    """


class FileFormatError(TinygradError, ValueError):
    """A file that holds no weights, or other weights than are wanted; or what no file can hold.

        tg.save("weights.pickle", cell)              # raises FileFormatError

    A ValueError, too.
    """


class MissingExtraError(TinygradError, ImportError):
    """A package that NumPy does without, and this function does not.

        try:
            tg.export_onnx("net.onnx", rnn, inputs=3)
        except tg.errors.MissingExtraError as error:
            print(error)                             # where onnx is not installed

    An ImportError, too.
    """


# ----- making a Tensor ---------------------------------------------------------------------------


def not_a_number_type(dtype: Any) -> DtypeError:
    """Complex numbers, strings, objects."""
    return DtypeError(f"a Tensor holds floats, integers or booleans, not {dtype}")


def integers_have_no_gradient(dtype: Any) -> DtypeError:
    """requires_grad=True for integers or booleans."""
    return DtypeError(
        f"{dtype} tensors are constants: only floats have gradients. Give floats, or "
        "dtype=np.float64"
    )


def other_array(what: str, shape: Any, dtype: Any, expected: tuple[Any, Any]) -> TinygradError:
    """`.data` or `.grad` set to an array of another shape or dtype."""
    kind = ShapeError if shape != expected[0] else DtypeError
    return kind(
        f"{what} must stay {expected[0]} {expected[1]}; the new array is {shape} {dtype}. Convert "
        "it, or make a new Tensor"
    )


def not_a_leaf() -> NoGradientError:
    """`.grad` set where no gradient arrives."""
    return NoGradientError("only leaves, made with requires_grad=True, hold a gradient")


# ----- losing the graph --------------------------------------------------------------------------


def plain_array_wanted() -> ConversionError:
    """NumPy called `__array__`."""
    return ConversionError(
        "a Tensor does not turn into a plain array by itself: its graph would be lost without a "
        "word. Use t.data for the values, t.detach() to cut the graph on purpose, np.stack to join "
        "Tensors in one Tensor, and np.* functions on the Tensor itself"
    )


def has_a_graph(doing: str) -> ConversionError:
    """Copying, pickling or wrapping a Tensor that was computed."""
    return ConversionError(
        f"{doing} a Tensor that needs a gradient would lose its graph: use its .detach()"
    )


def ufunc_form(name: str, method: str, keywords: list[str]) -> TinygradError:
    """A ufunc called with out=, where= ..., or by a method such as .at or .reduce."""
    if "out" in keywords or method == "at":
        return InplaceError(
            f"np.{name} cannot write into an array and be differentiated: use its result instead "
            "(a = a + t rather than a += t or out=a)"
        )
    form = f".{method}" if method != "__call__" else f"({', '.join(keywords)}=)"
    return no_form(name, form)


def element_set() -> InplaceError:
    """t[i] = v."""
    return InplaceError(
        "the elements of a Tensor cannot be set: the graph still needs the old ones. Collect the "
        "parts in a list and join them, np.stack(parts), or choose by np.where(mask, a, b)"
    )


def parameter_in_place() -> InplaceError:
    """p -= lr * p.grad, which would only give the name p to another Tensor."""
    return InplaceError(
        "a Parameter is not changed in place: p -= ... would give the name p to a new Tensor, and "
        "leave the weight as it is. To change the weight write p.data = p.data - lr * p.grad, "
        "arrays without a graph; for a new Tensor q = p - ..."
    )


def parameter_replaced(module: str, name: str, value: Any) -> InplaceError:
    """module.W = array, where W is a Parameter."""
    return InplaceError(
        f"{module}.{name} is a Parameter; the {type(value).__name__} given in its place would not "
        f"be learnt. For new values write {name}.data = array, of the same shape and dtype; for "
        f"another weight give a tg.Parameter; for a constant, del the attribute {name} first"
    )


def value_read(what: str) -> TraceError:
    """A value was asked for while tracing."""
    return TraceError(
        f"{what} reads the value of a Tensor while a step is traced: the value would be baked into "
        "the traced loop. Use np.where for choices that depend on values, or scan=False"
    )


def impure_step(cell: str, how: str) -> TraceError:
    """A step that does not depend on x and state alone."""
    return TraceError(
        f"{cell}.step is impure: {how}. A traced step runs once, so all memory must be in the "
        "state, and nothing random in a step (draws come in with x). (Rounding can do it too, "
        "where huge numbers cancel.) Or use scan=False"
    )


def not_traced(layer: str) -> TraceError:
    """The source of a loop that has not run yet."""
    return TraceError(
        f"{layer}: no call was traced yet. Set scan=True and call the layer once: what is emitted "
        "is for its shapes and dtypes"
    )


def whole_output(who: str) -> ShapeError:
    """An RNNOutput given to a loss or to Linear."""
    return ShapeError(
        f"{who}: a recurrent layer returns several things; give one of them, its .outputs or .last"
    )


def not_of_the_output(name: str) -> AttributeError:
    """rnn(x).sum(): an attribute of an array, asked of an RNNOutput."""
    return AttributeError(
        f"an RNNOutput has no .{name}: it holds several things; take one of them, its .outputs or "
        ".last"
    )


# ----- rules -------------------------------------------------------------------------------------


def no_rule(function: Any) -> MissingRuleError:
    """A function that is not in the table."""
    name = getattr(function, "__name__", repr(function))
    module = getattr(function, "__module__", None) or "numpy"  # a ufunc has none
    if module.split(".")[0] == "numpy":
        name = f"np{module.removeprefix('numpy')}.{name}"
    return MissingRuleError(
        f"no VJP is registered for {name}, so it does not work on Tensors. Register one, "
        f"tg.defvjp({name}, lambda g, x0: ...), write it in other functions, or call it on "
        "t.detach().data"
    )


def plain_function(name: str) -> RuleError:
    """defvjp for a function that would run on Tensors as it is, past its VJP."""
    return RuleError(
        f"defvjp({name}): a plain Python function is not recorded as one operation, so its VJP "
        f"would never be used. Decorate it first: @tg.primitive above def {name}"
    )


def array_as_keyword(name: str, keyword: str) -> MissingRuleError:
    """An array given by keyword to a primitive, where it is no operand."""
    return MissingRuleError(
        f"{name}: {keyword}= is an array, and arrays take part as operands. Pass it positionally, "
        f"and give it a VJP, or None, in tg.defvjp({name}, ...)"
    )


def not_an_operand(name: str, kind: str) -> ConversionError:
    """A dict or another object where an array should be."""
    return ConversionError(
        f"{name}: operands are Tensors, arrays and numbers; got a {kind}. Take it apart before the "
        "call, so that every array is an argument of its own"
    )


def no_operand(name: str, asked: int, count: int) -> RuleError:
    """A VJP asks for an operand that this call does not have."""
    return RuleError(
        f"a VJP of {name} asks for x{asked}, and this call has {count} operands (x0 is the first)"
    )


def no_form(name: str, form: str) -> MissingRuleError:
    """A ufunc's method or keyword that has no rule."""
    return MissingRuleError(
        f"np.{name}{form} has no VJP on Tensors; use np.sum, np.max, np.cumsum ... for reductions, "
        "np.where for where=, .astype for dtype="
    )


def no_vjp(name: str, i: int) -> MissingRuleError:
    """An argument beyond those that the rule knows."""
    return MissingRuleError(
        f"no VJP of {name} for argument {i}: register it with tg.defvjp({name}, ...), or give that "
        "argument as x.detach()"
    )


def unknown_keyword(name: str, keyword: str, value: Any, known: Any) -> MissingRuleError:
    """A keyword that no VJP of the rule names."""
    return MissingRuleError(
        f"{name} on Tensors: the rule knows nothing of {keyword}={value!r}, and leaving it out "
        f"would give a wrong gradient. Known keywords: {', '.join(sorted(known)) or 'none'}. For "
        f"more, register a rule whose VJPs name it: tg.defvjp({name}, ...)"
    )


def operand_by_name(function: str, name: str, k: int) -> RuleError:
    """A VJP that calls an array argument by the function's own name for it."""
    return RuleError(
        f"defvjp({function}): {name} is an array argument of {function}, and VJPs know those by "
        f"their position, x0, x1, ...: call it x{k}"
    )


def no_vjps(function: str) -> RuleError:
    """defvjp(f) and nothing else."""
    return RuleError(
        f"defvjp({function}): expected a VJP for each array argument, such as lambda g, x0: ...; "
        "None for one through which no gradient flows"
    )


def unknown_parameter(name: str, parameter: str, known: Any) -> RuleError:
    """A VJP's parameter that is neither an operand nor a keyword."""
    return RuleError(
        f"defvjp({name}): unknown parameter {parameter!r} in a VJP; use g, out, x0, x1, ..., xs, "
        f"shapes, or a keyword of {name} ({', '.join(known) or 'it has none'})"
    )


def wrong_gradient_shape(node: Any, i: int, returned: Any, expected: Any) -> RuleError:
    """A VJP returned something that its argument does not fit."""
    returned = "None (was `return` forgotten?)" if returned is None else returned
    return RuleError(
        f"the VJP of {node.rule.name} for argument {i} returned {returned}, expected shape "
        f"{expected}; the call was {node}"
    )


# ----- calls and walks ---------------------------------------------------------------------------


def misfit(name: str, operands: list[Any], place: Any, error: Exception) -> ShapeError:
    """NumPy found that operands do not fit together."""
    shapes = ", ".join(str(getattr(a, "shape", a)) for a in operands)
    return ShapeError(f"{name} of shapes {shapes}{f', in {place}' if str(place) else ''}: {error}")


def graph_freed(node: Any) -> GraphFreedError:
    """The walk met a node whose edges are gone."""
    return GraphFreedError(
        f"the graph behind {node} was already walked back, wholly or in part, and freed. For a "
        "second gradient of the same result, pass retain_graph=True to the first. If this is a "
        "recurrent state carried from one chunk to the next, cut it between the chunks, state = "
        "tg.detach(out.state), or give the layer the whole sequence at once, with truncate="
    )


def needs_no_gradient() -> NoGradientError:
    """backward or grad of a constant."""
    return NoGradientError(
        "this Tensor needs no gradient: nothing that it was computed from has requires_grad=True, "
        "or it was computed inside no_grad or detached"
    )


def function_given() -> NoGradientError:
    """tg.grad(f) instead of tg.grad(y, inputs)."""
    return NoGradientError(
        "tg.grad takes the result of a function and its inputs. Type: y = f(x); tg.grad(y, [x])"
    )


def needs_a_cotangent(shape: Any) -> NotScalarError:
    """Several elements, and no cotangent."""
    return NotScalarError(
        f"the gradient of a Tensor of shape {shape} needs a cotangent: reduce it to one number "
        "first (.sum(), .mean(), a loss), or pass gradient= of that shape"
    )


def wrong_cotangent(shape: Any, expected: Any) -> ShapeError:
    """gradient= of another shape than y."""
    return ShapeError(f"gradient must have the shape {expected} of the Tensor; got {shape}")


def wrong_vectors(shapes: Any, expected: Any) -> ShapeError:
    """jvp's tangents, hvp's vectors."""
    return ShapeError(
        f"one tangent (of hvp: vector) for each primal, of its shape: {expected}; got {shapes}"
    )


def input_is_no_tensor(k: int, x: Any) -> NoGradientError:
    """tg.grad(y, [array])."""
    return NoGradientError(
        f"input {k} is a {type(x).__name__}: gradients are taken with respect to Tensors that y "
        "was computed from. Make it one first: x = tg.Tensor(array, requires_grad=True)"
    )


def one_tensor_wanted(value: Any) -> NoGradientError:
    """jvp or hvp of a function that returns something else."""
    return NoGradientError(
        f"f must return one Tensor, computed from its arguments; it returned a "
        f"{type(value).__name__}. For several results, differentiate one at a time"
    )


def leaf_inside_checkpoint() -> NoGradientError:
    """A checkpointed function made a leaf."""
    return NoGradientError(
        "checkpoint(f): f makes a Tensor with requires_grad=True, another one each time it runs, "
        "so no gradient can arrive there. Make it outside f"
    )


def rerun_differs() -> NoGradientError:
    """A checkpointed function gave another result on the way back."""
    return NoGradientError(
        "checkpoint(f): run again on the way back, f gave another result than before. Has a "
        "Parameter's .data changed in between, or is something in f random?"
    )


def wrong_joint(node: Any, returned: Any) -> RuleError:
    """A joint rule returned something else than a tuple of all gradients."""
    got = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
    return RuleError(
        f"the joint VJP of {node.rule.name} must return a tuple with one gradient for each "
        f"argument; it returned {got}; the call was {node}"
    )


def masked_array() -> ConversionError:
    """numpy.ma."""
    return ConversionError(
        "a masked array's mask would be lost: give array.filled(value), and choose by "
        "np.where(mask, a, b)"
    )


def unused_input(k: int, x: Any) -> UnusedInputError:
    """grad of an input that y does not use."""
    why = "is not used by y" if x.requires_grad else "needs no gradient"
    return UnusedInputError(
        f"input {k}, of shape {x.shape}, {why}. Pass allow_unused=True to get None for it"
    )


def not_finite(what: str, count: int, size: int, index: Any, value: Any) -> NonFiniteError:
    """detect_nonfinite found one."""
    return NonFiniteError(
        f"{count} of {size} elements of {what} are not finite; the first is {value} at index "
        f"{index}"
    )


def description_of(node: Any) -> str:
    """A node in an error: `tanh #12 (2, 3), in RNN(RNNCell), forward, t=4, made at cell.py:88`"""
    name = node.rule.name if node.rule else "leaf"
    shapes = ", ".join(map(str, node.shapes))
    place = f", in {node.place}" if str(node.place) else ""
    file = node.code.co_filename
    line = list(node.code.co_positions())[node.at // 2][0] or node.code.co_firstlineno
    source = linecache.getline(file, line).strip()
    return f"{name} #{node.id} {shapes}{place}, made at {Path(file).name}:{line}: {source}"


# ----- layers over time --------------------------------------------------------------------------


def wrong_size(call: str, wanted: str, got: Any) -> ShapeError:
    """A function of `init` is asked for a matrix in the other function's way."""
    return ShapeError(f"tg.init.{call} takes {wanted}; got {got!r}")


def not_a_cell(layer: str, cell: Any) -> CellError:
    """RNN of something that is no cell."""
    return CellError(
        f"{layer} takes a cell, an instance of a subclass of tg.Cell such as "
        f"tg.RNNCell(3, 4, rng=0); got {cell!r}"
    )


def no_state_shape(cell: str) -> CellError:
    """A cell that does not say what its state is."""
    return CellError(
        f"{cell} must set state_shape, the shape of its state, such as (hidden,), or define "
        "initial_state(self, batch_shape, dtype)"
    )


def wrong_state_shape_form(shape: Any) -> CellError:
    """A state_shape that is no nest of tuples of ints."""
    return CellError(
        f"state_shape={shape!r}: expected a tuple of ints such as (hidden,), or a tuple or a dict "
        "of such"
    )


def not_output_and_state(cell: str, got: str) -> CellError:
    """A step that returns something else than a pair."""
    return CellError(f"{cell}.step must return (output, new state), a tuple of two; got {got}")


def not_arrays(cell: str, got: str) -> CellError:
    """A step whose output, or a part of whose state, is no array."""
    hint = "; was `return` forgotten?" if got == "a NoneType" else ""
    return CellError(f"{cell}.step must return arrays, got {got}{hint}")


def learns_its_start(layer: str) -> CellError:
    """train_state=True, of a cell whose initial_state has a Parameter in it."""
    return CellError(
        f"{layer}: the cell learns its start already, as its initial_state has a gradient: leave "
        "out train_state=True"
    )


def wrong_input(layer: str, shapes: Any) -> ShapeError:
    """x without a time axis, or arrays of different lengths in time."""
    return ShapeError(
        f"{layer} expects x (T, N, C), time first, or (T, C) for one sequence; got shape "
        f"{' and '.join(map(str, shapes))}"
    )


def wrong_width(layer: str, shape: Any, width: int) -> ShapeError:
    """x of another width than the cell's."""
    return ShapeError(
        f"{layer}: x has {shape[-1]} features (shape {shape}), the cell expects {width}"
    )


def wrong_state_form(layer: str, expected: str, got: str, *, part: bool = False) -> CellError:
    """A given state that is nested in another way than the layer's."""
    return CellError(
        f"{layer}: {'in ' * part}the initial state: expected {expected}, got {got}. It has the "
        "form of layer.initial_state(), and of the .state that a call returns"
    )


def wrong_state_shape(layer: str, shape: Any, expected: Any) -> ShapeError:
    """A given state that does not fit this batch."""
    return ShapeError(
        f"{layer}: the initial state has shape {shape}, expected {expected} for this x. A state is "
        "not broadcast over the batch: repeat it yourself, np.broadcast_to(state, shape)"
    )


def wrong_state_dtype(layer: str, dtype: Any, expected: Any) -> ShapeError:
    """A given state of a narrower dtype."""
    return ShapeError(
        f"{layer}: the initial state is {dtype}, and the layer computes in {expected}: convert it, "
        f"state.astype(np.{expected})"
    )


def state_changed(cell: str, t: int, new: Any, old: Any) -> CellError:
    """A step whose new state is not like the old one."""
    return CellError(
        f"{cell}.step returned a state {new.shape} {new.dtype} at t={t}; it must stay "
        f"{old.shape} {old.dtype}"
    )


def state_form_changed(cell: str, old: str, new: str, *, part: bool) -> CellError:
    """A step whose new state is nested in another way than the old one."""
    return CellError(
        f"{cell}.step got {old} as {'a part of ' * part}its state and returned {new} as the new "
        "one. It returns (output, new state)"
    )


def batch_lost(cell: str, t: int, output: Any, batch: Any) -> CellError:
    """A step whose output lost the batch."""
    return CellError(
        f"{cell}.step must return an output that starts with the batch shape {batch} at t={t}; got "
        f"{getattr(output, 'shape', type(output).__name__)}"
    )


def cannot_stream(layer: str) -> CellError:
    """A stream of a layer that reads backwards."""
    return CellError(
        f"{layer}: a layer that reads backwards cannot stream. Its first output needs the last "
        "input: it is an interpreter who waits for the end of the speech. Stream the forward "
        "layer alone, or run the layer over chunks that are long enough"
    )


def wrong_push(shape: Any, batch: Any) -> ShapeError:
    """A stream given something else than a step or a chunk for its batch."""
    return ShapeError(
        f"push: got shape {shape}, and this stream was opened with batch_shape={batch}: expected a "
        "step (batch_shape..., C), or a chunk (T, batch_shape..., C); before an Embedding without C"
    )


def no_layer(layer: Any) -> CellError:
    """A Chain of something that is no layer."""
    return CellError(
        f"Chain takes layers one after the other, Chain(tg.RNN(cell), tg.Linear(4, 2, rng=0)); got "
        f"{layer!r}. A cell becomes a layer by tg.RNN(cell)"
    )


# ----- training ----------------------------------------------------------------------------------


def wrong_targets(logits: Any, targets: Any) -> ShapeError:
    """cross_entropy of targets that are not one class number for each entry."""
    hint = ""
    if targets == logits:
        hint = ". For one-hot targets give their class numbers, targets.argmax(-1)"
    elif targets == logits[:1] + logits[2:]:
        hint = ". Here classes are on the last axis: from axis 1, np.moveaxis(logits, 1, -1)"
    return ShapeError(
        f"cross_entropy: logits {logits} need targets of shape {logits[:-1]}, got {targets}{hint}"
    )


def dict_of_arrays_wanted(function: str, got: Any, instead: str) -> ShapeError:
    """A file's name, or a module, where what it holds is wanted."""
    return ShapeError(
        f"{function} takes a dict of arrays by name; got {type(got).__name__}. {instead}"
    )


def parameters_wanted() -> ShapeError:
    """An optimiser, or clipping, of something else."""
    return ShapeError("expected a list or dict of Parameters: pass module.parameters()")


def no_parameters() -> ShapeError:
    """An optimiser of an empty list."""
    return ShapeError(
        "expected a list or dict of Parameters, and this one is empty. If it is that of "
        "module.parameters(), the module has none: each weight must be a tg.Parameter (no Tensor, "
        "no array) in an attribute of a Module, or in a list, tuple or dict there"
    )


# ----- questions about time ----------------------------------------------------------------------


def no_time_steps() -> NoTimeError:
    """A graph in which nothing belongs to a time step."""
    return NoTimeError(
        "nothing in this graph belongs to a time step. Run a layer such as tg.RNN(cell), or loop "
        "over a Tensor (`for x_t in x`, also in enumerate and zip): the engine cannot see a loop "
        "over an ndarray, a list or a range, nor x[t]"
    )


def loss_and_weight(value: Any) -> NoGradientError:
    """contributions(loss, cell)."""
    return NoGradientError(
        "expected Tensors: a loss, and a weight such as rnn.cell.V where one is asked for; got a "
        f"{type(value).__name__}"
    )


def loss_with_several_elements(shape: Any) -> NotScalarError:
    """contributions(outputs, weight)."""
    return NotScalarError(
        f"the loss has shape {shape}: it must be one number. Add it up, as loss.sum() does"
    )


def unused_weight(weight: Any) -> UnusedInputError:
    """contributions(loss, a weight of another network)."""
    return UnusedInputError(
        f"the loss does not depend on this weight {weight.shape}: it belongs to another network, "
        "it is a constant, or the network ran inside tg.no_grad()"
    )


def unrelated() -> UnusedInputError:
    """gradient_flow(loss, the output of another network)."""
    return UnusedInputError(
        "the loss does not depend on this output: give the RNNOutput that the loss was made of"
    )


def no_states(states: Any) -> NoTimeError:
    """An RNNOutput without the states of every step, or something else in its place."""
    what = "no RNNOutput" if states is False else "an RNNOutput without states"
    return NoTimeError(f"this is {what}: call the layer with return_states=True, give its result")


def one_direction(layer: Any) -> CellError:
    """Jacobians from state to state, of something else than one loop."""
    return CellError(
        f"state_jacobians takes one RNN, not a {layer}: wrap a cell, tg.RNN(cell); of layers with "
        "several loops give one, such as birnn.forward_rnn or chain.layers[0]"
    )


def no_layer_over_time(layer: Any) -> CellError:
    """sensitivity(linear, x)."""
    return CellError(f"expected a layer over time, not a {layer}: wrap a cell, tg.RNN(cell)")


def no_rows(shape: Any) -> ShapeError:
    """sensitivity of an empty batch."""
    return ShapeError(f"x has shape {shape}: an empty batch has no derivatives to look at")


def no_float_input(layer: str) -> DtypeError:
    """Sensitivity to an input without gradient."""
    return DtypeError(
        f"{layer}: x holds no floats, so outputs cannot be differentiated by it. Give the layers "
        "behind the Embedding what it returns"
    )


# ----- files -------------------------------------------------------------------------------------


def missing_extra(what: str, package: str, extra: str) -> MissingExtraError:
    """A function that stands on another package, where that is not installed."""
    return MissingExtraError(
        f"{what} needs the package {package}, which is not installed: pip install "
        f"'tinygrad-rnn[{extra}]', or pip install {package}"
    )
