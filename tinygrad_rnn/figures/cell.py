"""A recurrent cell, folded, beside a feed-forward layer: what goes back, and what does not.

The cell's step runs once; `simplified` makes what it did fit for a textbook (a product with a
weight is the weight's box, a sum of several terms is one +); the layout is that of graphs, turned
so that the input comes from below.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..canvas.pen import Figure, Label, Pen, Point, text_width
from ..canvas.words import say
from ..cells import Cell
from ..errors import FigureError, TinygradError, TraceError, not_a_cell
from ..module import Linear, Module, dtype_of, find
from ..nests import leaves, map_tree
from ..record import recording
from .graph import ORDERED, Look, digits, lettered, meaning, sign
from .layered import Layout, Link
from .parts import MOST, Notes, Part, Value, parts_of

ROW, LANE, AIR = 38, 14, 24  # between states that come in; between their loops; around the frame


def folded(cell: Any, lang: str = "en", title: str = "", inputs: Any = None) -> Figure:
    """A cell with its state going back in, beside a feed-forward layer of the same size.

        folded(tg.RNNCell(3, 4, rng=0)).save("rnn.svg")
        folded(tg.zoo.CfC(3, 4, rng=0), inputs=(3, 1))      # x is a pair, of these widths

    cell    any Cell: one step of it is run, on ones and on its initial state
    inputs  the width of x, or a nest of widths where x is a nest; None: `cell.inputs`, and for
            wrappers that take draws also those
    lang    "en" or "ja"
    Every weight stands there once, by name and shape. A step of more than 60 calls is one box.
    Raises FigureError where the width of x is not known or the step does not take such an x,
    CellError for what is no cell.
    """
    if not isinstance(cell, Cell):
        raise not_a_cell("folded", cell)
    name = str(getattr(cell, "name", type(cell).__name__))
    right = _scene(cell, cell, _x(cell, name, inputs), name)
    wide, high = leaves(_x(cell, name, inputs))[0].shape[-1], right.width
    phi = getattr(cell, "activation", None)
    linear = Linear(wide, high, phi if callable(phi) else np.tanh, rng=0)
    left = _scene(linear, lambda x, _: (linear(x), ()), np.ones((1, wide)), "")
    heads = [
        (left, say("Feed-forward layer", lang), say("nothing goes back", lang)),
        (right, name, say("the state goes back in, one step later", lang)),
    ]
    pen, edge, middles = Pen(), 0.0, []
    for scene, head, _ in heads:
        panel = Panel(scene, edge, lang, max(text_width(head, 15), 180))
        panel.draw(pen)
        middles.append((panel.frame + panel.right) / 2)
        edge = panel.right + 70
    top, bottom = pen.top, pen.bottom
    for (_, head, told), middle in zip(heads, middles, strict=True):
        pen.text(middle, top - 34, head, "middle", 15)
        pen.text(middle, top - 15, told, "middle", 11, "faint")
    if right.reads:
        told = say("The step reads values: this is its way for x = 1.", lang)
        pen.text(pen.left, bottom + 24, told, "start", 11, "faint")
    if right.unused:
        listed = say(", ", lang).join(right.unused)
        left_edge, low = pen.left, pen.bottom + 24
        pen.text(left_edge, low, say("not used: {names}", lang, names=listed), "start", 11, "faint")
    if title:
        pen.text(pen.left, pen.top - 16, title, "start", 15)
    whole = title or say("{name}, folded, beside a feed-forward layer", lang, name=name)
    return pen.figure(whole, _told(right, name, lang), lang)


# ----- one step, run and read --------------------------------------------------------------------


class State(NamedTuple):
    """One array of the state: its name, where it comes in, which result it becomes."""

    name: str
    old: Part
    new: tuple[Part, int]


class Scene(NamedTuple):
    """One step: what it does, what comes in, what goes out."""

    parts: list[Part]
    xs: list[tuple[str, Part]]
    states: list[State]
    output: tuple[Part, int]
    width: int
    reads: bool  # values were read, so another x may go another way
    calls: int
    unused: list[str]  # Parameters that lead to nothing

    @property
    def carried(self) -> bool:
        """Whether the output is one of the new state's arrays."""
        return any(state.new == self.output for state in self.states)


def _x(cell: Any, name: str, inputs: Any) -> Any:
    """Ones of the widths that x has."""
    if inputs is None:
        inputs = getattr(cell, "inputs", None)
        if inputs is None:
            raise FigureError(
                f"{name} does not say how wide its x is (no .inputs): pass inputs=, as inputs=3"
            )
        draws = getattr(cell, "draw_size", 0)
        inputs = (inputs, draws) if draws and cell.training else inputs
    return map_tree(lambda width: np.ones((1, int(width))), inputs)


def _scene(module: Module, step: Any, x: Any, name: str) -> Scene:
    """Run a step once and read what it did."""
    try:
        try:
            recorder, ins, ends, xs = _run(module, step, x, tracing=True)
            reads = False
        except TraceError:
            recorder, ins, ends, xs = _run(module, step, x, tracing=False)
            reads = True
    except (TinygradError, ValueError, TypeError, IndexError) as error:
        raise FigureError(
            f"{name}.step fails for x of shape {', '.join(str(a.shape) for a in leaves(x))}: "
            f"{error}. Pass inputs=, the width of x, or a tuple of widths where x is a tuple"
        ) from error
    found = parts_of(recorder, ends, ins)
    named = [v.name if v.named else "" for v in ends[1:]]
    titles = _titles(module, named, len(xs))
    calls = sum(part.call for part in found.parts)
    width = ends[0].shape[-1] if ends[0].shape else 1
    sources = found.parts[: len(ins)]
    parts, (output, *news) = simplified(found.parts, found.results)
    if sum(part.call for part in parts) > MOST:
        parts, (output, *news) = _one_box(parts, len(ins), (output, *news), calls)
    states = [
        State(title, old, new)
        for title, old, new in zip(titles[len(xs) :], sources[len(xs) :], news, strict=True)
    ]
    states.sort(key=lambda state: state.new == output)  # the one that is the output stands last
    inner = parts[len(ins) :]
    seen = {part.outs[0].name for part in found.parts if part.weight}
    every = module.named_parameters().items()
    unused = [f"{key} {p.shape}" for key, p in every if key not in seen]
    named_xs = list(zip(titles, sources[: len(xs)], strict=False))
    return Scene(inner, named_xs, states, output, width, reads, calls, unused)


def _run(module: Module, step: Any, x: Any, tracing: bool) -> Any:
    """One step: the recorder that saw it; Vars of what came in, of output and new state; the xs."""
    titles: dict[int, str] = {id(p): name for name, p in module.named_parameters().items()}
    titles |= {id(array): name for name, array in find(module, np.ndarray)}
    recorder = Notes(titles)
    with _same_draws(module):
        state: Any = ()
        if isinstance(module, Cell):
            state = module.initial_state((1,), dtype_of(module))
    xs = map_tree(lambda a: recorder.stand_in("x", a), x)
    olds = map_tree(lambda a: recorder.stand_in("h", getattr(a, "_data", a)), state)
    if tracing:
        with recorder.recording():
            output, new = step(xs, olds)
    else:
        with recording(watch=recorder.watch, tracking=True), np.errstate(all="ignore"):
            output, new = step(xs, olds)
    ins = [recorder.var(a) for a in (*leaves(xs), *leaves(olds))]
    ends = [recorder.var(a) for a in (output, *leaves(new))]
    return recorder, ins, ends, leaves(xs)


@contextmanager
def _same_draws(module: Module) -> Iterator[None]:
    """Generators in a module are as before afterwards: a picture changes no later draw."""
    states = [(rng, rng.bit_generator.state) for _, rng in find(module, np.random.Generator)]
    try:
        yield
    finally:
        for rng, state in states:
            rng.bit_generator.state = state


def _titles(module: Module, named: list[str], count: int) -> list[str]:
    """Names of the inputs and of the states, each once: the user's own where there are some."""
    step: Any = getattr(module, "step", module)
    parameters = list(inspect.signature(step).parameters)
    x = parameters[0] if parameters else "x"
    h = parameters[1] if len(parameters) > 1 and len(parameters[1]) < 3 else "h"
    wishes = [x] * count + [name or h for name in named]
    found: list[str] = []
    for wish in wishes:
        free = (f"{wish}{k or ''}" for k in range(len(wishes) + 1))
        found.append(next(name for name in free if name not in found))
    return found


# ----- made fit for a textbook -------------------------------------------------------------------


Results = list[tuple[Part, int]]


def simplified(parts: list[Part], results: Results) -> tuple[list[Part], Results]:
    """The same step in fewer boxes.

    x @ U becomes U's own box, a + b + c one +, 1 - z a box `1 −`, and layer_norm is layer_norm.
    """
    parts, results = list(parts), list(results)
    _group(parts, results)
    _write_numbers(parts, results)
    _put_weights(parts, results)
    _add_up(parts, results)
    return parts, results


def _uses(parts: list[Part], results: Results) -> dict[Part, int]:
    """How often each part is used."""
    uses: dict[Part, int] = {}
    for part, _ in [(part, slot) for user in parts for _, part, slot in user.ins] + results:
        uses[part] = uses.get(part, 0) + 1
    return uses


def _group(parts: list[Part], results: Results) -> None:
    """Calls that one function of the library made become one."""
    groups: dict[int, list[Part]] = {}
    for part in parts:
        if part.group is not None:
            groups.setdefault(id(part.group), []).append(part)
    for members in groups.values():
        inside = set(members)
        wanted = [(p, k) for user in parts if user not in inside for _, p, k in user.ins]
        outs = [end for end in dict.fromkeys(wanted + results) if end[0] in inside]
        came = [(p, k) for part in members for _, p, k in part.ins if p not in inside]
        came = [(p, k) for p, k in dict.fromkeys(came) if not _plain_number(p)]
        what = members[0].group.f_code.co_name
        values = [part.outs[k] for part, k in outs]
        line = members[0].tip.partition(": ")[2]
        whole = Part(what, values, _numbered(came), f"{what} {values[0].shape}: {line}")
        parts[parts.index(members[-1])] = whole
        parts[:] = [part for part in parts if part not in inside]
        moves = {end: (whole, k) for k, end in enumerate(outs)}
        for part in parts:
            part.ins = [(i, *moves.get((p, k), (p, k))) for i, p, k in part.ins]
        results[:] = [moves.get(end, end) for end in results]
    _drop_unused(parts, results)


def _numbered(ends: Results) -> list[tuple[int, Part, int]]:
    """Arguments, in this order."""
    return [(i, part, slot) for i, (part, slot) in enumerate(ends)]


def _plain_number(part: Part) -> bool:
    return part.what == "constant" and not part.outs[0].shape and not part.outs[0].name


def _drop_unused(parts: list[Part], results: Results) -> None:
    """Constants that nothing uses any more go."""
    uses = _uses(parts, results)
    parts[:] = [part for part in parts if part.what != "constant" or uses.get(part)]


def _write_numbers(parts: list[Part], results: Results) -> None:
    """A number is written into the box of the call that it belongs to: `1 −`, `× 0.5`."""
    for part in parts:
        numbers = [(i, source) for i, source, _ in part.ins if _plain_number(source)]
        if len(part.ins) == 2 and len(numbers) == 1:
            i, source = numbers[0]
            number = digits(source.outs[0].array[()])
            part.label = f"{number} {sign(part)}" if i == 0 else f"{sign(part)} {number}"
            part.ins = [link for link in part.ins if link[1] is not source]
    _drop_unused(parts, results)


def _put_weights(parts: list[Part], results: Results) -> None:
    """A product with a weight that is used nowhere else stands there as the weight."""
    uses = _uses(parts, results)
    for part in list(parts):
        weights = [p for _, p, _ in part.ins if p.weight and not p.call and uses[p] == 1]
        if part.what == "matmul" and len(weights) == 1 and len(part.ins) == 2:
            value = weights[0].outs[0]
            part.label, part.small, part.weight = value.name, str(value.shape), True
            part.ins = [link for link in part.ins if link[1] is not weights[0]]
            parts.remove(weights[0])


def _add_up(parts: list[Part], results: Results) -> None:
    """Sums of sums become one: of z = x @ U + h @ V, and z + b, a + that is called z + b."""
    for part in list(parts):
        uses = _uses(parts, results)
        if part.what != "add" or part.label:
            continue
        for link in list(part.ins):
            inner = link[1]
            others = [other[1] for other in part.ins if other is not link]
            bias = all(other.weight and not other.call for other in others)
            name = inner.small or inner.outs[0].name
            if inner.what != "add" or inner.label or uses[inner] > 1 or (name and not bias):
                continue
            if name and not part.outs[0].name:
                part.small = " + ".join([name, *[other.outs[0].name for other in others]])
            at = part.ins.index(link)
            part.ins[at : at + 1] = inner.ins
            part.tip += f"\n{inner.tip}"
            parts.remove(inner)
    for part in parts:
        if part.what == "add" and not part.label:
            part.ins = _numbered([(source, slot) for _, source, slot in part.ins])
            terms = [source.outs[slot].name for _, source, slot in part.ins]
            biases = [source.weight and not source.call for _, source, _ in part.ins]
            if not part.small and not part.outs[0].name and biases == [False, True] and terms[0]:
                part.small = " + ".join(terms)


def _one_box(parts: list[Part], count: int, results: Any, calls: int) -> tuple[list[Part], Results]:
    """A step that is too long to be read: one box, in which the weights are listed."""
    weights = [part for part in parts if part.weight]
    whole = Part("", [Value(part.outs[slot].shape) for part, slot in results], static={"all": []})
    whole.ins = _numbered([(source, 0) for source in parts[:count]])
    whole.static["all"] = [
        (part.label or part.outs[0].name, part.small or str(part.outs[0].shape)) for part in weights
    ]
    whole.static["calls"] = calls
    output, *news = range(len(results))
    places = dict.fromkeys([*news, output])  # the output leaves on the right
    slots = {results[k]: slot for slot, k in reversed(list(enumerate(places)))}
    ends = [end if end[0] in parts[:count] else (whole, slots[end]) for end in results]
    return [*parts[:count], whole], ends


# ----- drawing -----------------------------------------------------------------------------------


def _look(part: Part, lang: str) -> Look:
    """The box of a part."""
    first = part.outs[0]
    if "all" in part.static:
        lines = [(f"{name} {shape}", f"f{k % 6}") for k, (name, shape) in
                 enumerate(part.static["all"])]  # fmt: skip
        return Look(say("{count} operations", lang, count=part.static["calls"]), lines)
    if part.call and not part.weight:
        named = part.small or ", ".join(value.name for value in part.outs if value.name)
        return Look(sign(part), [(named, "faint")] if named else [], tip=part.tip)
    name = part.label or first.name
    label: Label = lettered(name) if name else say(part.what, lang)
    if not name and first.array is not None and first.array.size == 1:
        label = digits(first.array.reshape(-1)[0])
    shape = part.small or str(first.shape)
    kind = "box thick" if part.weight else "box" if part.what == "leaf" else "box dashed"
    tip = part.tip if part.call else f"{name} {first.shape}".strip()
    return Look(label, [(shape, "faint")], kind, part.weight, tip)


class Panel:
    """One step on the paper: its layout, and where things stand around it.

    Inside the frame everything is in layers, from below. States come in from the left, each on a
    row of its own, and leave above, each on a level of its own: so no two loops cross.
    """

    def __init__(self, scene: Scene, left: float, lang: str, least: float) -> None:
        self.lang = lang
        others, last = scene.states[:-1], scene.states[-1:]
        orders = itertools.permutations(others) if len(others) < 4 else [tuple(others)]
        # of the orders of the states the one whose picture has the fewest crossings
        tries = [scene._replace(states=[*order, *last]) for order in orders]
        crossings = [self._arrange(tried) for tried in tries]
        self._arrange(tries[crossings.index(min(crossings))])
        self._place(left, least)

    def _arrange(self, scene: Scene) -> int:
        """The labels around the frame, and the layout inside; returns how many lines cross."""
        self.scene = scene
        states, xs, parts = scene.states, scene.xs, scene.parts
        self.looks = [_look(part, self.lang) for part in parts]
        self.olds = [_at(state.name, "t-1", states) for state in states]
        self.xs = [_at(name, "t", states) for name, _ in xs]
        self.outs = [(_at(state.name, "t", states), state.new) for state in states]
        if not scene.carried:
            taken = {state.name for state in states}
            name = next(name for name in ("y", "out", "output") if name not in taken)
            self.outs.append((_at(name, "t", states), scene.output))
        self.layout, self.links = self._layered()
        return self.layout.crossings

    def _layered(self) -> tuple[Layout, list[Link]]:
        """States and inputs first, then the calls, then what goes out."""
        parts, states = self.scene.parts, self.scene.states
        sources = [*[state.old for state in states], *[part for _, part in self.scene.xs]]
        self.ahead, self.end = len(sources), len(sources) + len(parts)
        number = {part: k for k, part in enumerate([*sources, *parts])}
        links = [
            Link(number[source], number[part], slot, i, meaning(source, slot))
            for part in parts
            for i, source, slot in part.ins
        ]
        for k, (_, (part, slot)) in enumerate(self.outs):
            links.append(Link(number[part], self.end + k, slot, 0, meaning(part, slot)))
        self.sizes = [
            *[(0.0, 10.0)] * len(states),
            *[(0.0, _wide(label)) for label in self.xs],
            *[(look.size[1], look.size[0]) for look in self.looks],
            *[(0.0, _wide(label)) for label, _ in self.outs],
        ]
        counts = [len(part.outs) for part in parts]
        layout = Layout(
            self.sizes,
            links,
            first=range(self.ahead),
            last=range(self.end, len(self.sizes)),
            counts=[*[1] * self.ahead, *counts, *[1] * len(self.outs)],
            ordered=[self.ahead + k for k, part in enumerate(parts) if part.what in ORDERED],
        )
        return layout, links

    def _place(self, left: float, least: float) -> None:
        """From the left: the loops, the old states, the frame; from below: rows, the frame."""
        count = len(self.scene.states)
        ends = [y for way in self.layout.ways for _, y in way]
        for (_, y), (_, wide) in zip(self.layout.at, self.sizes, strict=True):
            ends += [y - wide / 2, y + wide / 2]
        low, high = min(ends), max(ends)
        self.lane = left + LANE * max(count - 1, 0)  # of the innermost loop
        self.old_left = self.lane + 26
        self.old_wide = max(map(_wide, self.olds), default=0)
        self.frame = self.old_left + self.old_wide + 26 if count else left
        if count:  # room for the words on the loops
            first = self.layout.at[self.end][1] - self.sizes[self.end][1] / 2 - low
            words = text_width(say("one step later", self.lang), 11)
            self.frame += max(0.0, self.lane + words + 24 - (self.frame + AIR + first))
        else:
            self.frame += max(0.0, least - (high - low) - 2 * AIR) / 2
        self.shift = self.frame + AIR - low
        self.right = self.shift + high + AIR
        self.rise = ROW * count + (10 if count else 18)  # from the floor to the first layer
        self.ceiling = -self.layout.length - self.rise - 14

    def put(self, point: Point) -> Point:
        """From the layout's (along, across) to the paper."""
        return self.shift + point[1], -point[0] - self.rise

    def draw(self, pen: Pen) -> None:
        """Everything, the frame first."""
        pen.box(self.frame, self.ceiling, "", self.right - self.frame, -self.ceiling, kind="frame")
        for link, way in zip(self.links, self.layout.ways, strict=True):
            points = [self.put(point) for point in way]
            inside = link.target < self.end
            pen.curve(
                points[0], points[-1], "edge", inside, link.tip, down=True, through=points[1:-1]
            )
        coloured = [look for look in self.looks if look.coloured]
        for k, look in enumerate(self.looks):
            colour = coloured.index(look) if look.coloured else None
            look.draw(pen, self.put(self.layout.at[self.ahead + k]), colour)
        for k, label in enumerate(self.xs):
            self._input(pen, k, label)
        for k in range(len(self.scene.states)):
            self._loop(pen, k)
        for k in range(len(self.outs)):
            self._output(pen, k)

    def _input(self, pen: Pen, k: int, label: Label) -> None:
        """x comes from below."""
        x, y = self.put(self.layout.at[len(self.scene.states) + k])
        shape = self.scene.xs[k][1].outs[0].shape[1:]
        pen.line([(x, 30), (x, y)])
        wide = _wide(label)
        pen.box(x - wide / 2, 30, label, wide, tip=f"{say('input', self.lang)} {shape}")

    def _loop(self, pen: Pen, k: int) -> None:
        """A state goes from above round the left side, and comes in below."""
        x, y = self.put(self.layout.at[k])
        row, level = 24 - self.rise + ROW * k, self._level(k)
        shape = self.scene.states[k].old.outs[0].shape[1:]
        pen.line([(self.old_left + self.old_wide, row), (x, row), (x, y)])
        tip = f"{say('the state before', self.lang)} {shape}"
        pen.box(self.old_left, row - 15, self.olds[k], self.old_wide, tip=tip)
        out = self.put(self.layout.at[self.end + k])[0] - self.sizes[self.end + k][1] / 2
        lane = self.lane - LANE * k
        hint = say("one step later", self.lang)
        way = [(out, level), (lane, level), (lane, row), (self.old_left, row)]
        pen.line(way, "edge", True, 12, 2, tip=hint)
        if len(self.olds) < 4 or k == len(self.olds) - 1:
            pen.text(lane + 10, level - 6, hint, "start", 11, "faint")

    def _level(self, k: int) -> float:
        """The height of what goes out, the later the higher."""
        return self.ceiling - 45 - ROW * min(k, max(len(self.olds) - 1, 0))

    def _output(self, pen: Pen, k: int) -> None:
        """What goes out above; an arrow leads on from what is the output."""
        label, end = self.outs[k]
        x, y = self.put(self.layout.at[self.end + k])
        level, wide = self._level(k), self.sizes[self.end + k][1]
        shape = end[0].outs[end[1]].shape[1:]
        word = say("the new state" if k < len(self.olds) else "output", self.lang)
        pen.line([(x, y), (x, level + 15)], "edge", True)
        pen.box(x - wide / 2, level - 15, label, wide, tip=f"{word} {shape}")
        if end == self.scene.output and k == len(self.outs) - 1:
            pen.line([(x, level - 15), (x, level - 41)], "edge", True)
            if self.olds:
                pen.text(x + 10, level - 28, say("output", self.lang), "start", 11, "faint")


def _at(name: str, time: str, states: list[State]) -> Label:
    """A name at a time: h with the subscript t-1. Without states there is no time."""
    return (name, time) if states else name


def _wide(label: Label) -> float:
    return max(44.0, text_width(label) + 16)


def _told(scene: Scene, name: str, lang: str) -> str:
    """The picture in words."""
    weights = [
        f"{part.label or part.outs[0].name} {part.small or part.outs[0].shape}"
        for part in scene.parts
        if part.weight
    ]
    comma = say(", ", lang)
    calls = [part.what or str(scene.calls) for part in scene.parts if part.call]
    for part in scene.parts:
        weights += [f"{name} {shape}" for name, shape in part.static.get("all", ())]
    told = [
        say(
            "{name}: {states} go back in, one step later",
            lang,
            name=name,
            states=comma.join(state.name for state in scene.states),
        ),
        say("weights: {names}", lang, names=comma.join(weights) or say("none", lang)),
        say("calls: {names}", lang, names=comma.join(calls)),
    ]
    return say("; ", lang).join(told)
