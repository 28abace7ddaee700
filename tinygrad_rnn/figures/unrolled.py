"""A recorded network, unrolled in time: the picture that the tutorials describe.

Time runs from left to right, layers from bottom to top. Each weight is drawn once, with a line to
every step that uses it. Colour is the size of the gradient at each state, and below everything is
what each step contributes to one weight's gradient: BPTT, as one picture. Saved as HTML it can be
gone through, step by step, forward and back.

lanes.py reads the graph, measured.py has the gradients, grid.py says where everything stands; here
it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..canvas.charts import BLANKS
from ..canvas.pen import COLOURS, Figure, Pen, text_width
from ..canvas.words import say
from ..errors import FigureError, loss_and_weight, loss_with_several_elements
from ..graph import Key
from ..nests import leaves
from ..recurrent import RNNOutput
from ..tensor import Tensor
from ..unfold import Unfolded, kept_by
from .graph import short
from .grid import BUS, ELLIPSIS, TALL, WIDE, Grid, Item
from .lanes import Lanes, Row
from .measured import Measured, states_of

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
BARS = 56  # height of the tallest contribution
FORTH, BACK = 14, 31  # heights of the arrows between states, from the top of a box


def unrolled(
    what: Any,
    loss: Tensor | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    parameter: Tensor | None = None,
    names: Any = None,
    most: int = 12,
    title: str = "",
    lang: str = "en",
    graph: Unfolded | None = None,
) -> Figure:
    """The network behind an RNNOutput or a loss, unrolled in time.

        out = rnn(x)
        unrolled(out, loss=tg.mse(out.last, target), inputs="hello")

    what       an RNNOutput, or a Tensor computed by loops over time
    loss       a Tensor with one element: gradients are drawn then; None: `what`, if it is one
    inputs     a label for each input step (characters, words), sequence after sequence
    outputs    a label for each output step: what the network says
    targets    and what it should have said
    parameter  the weight whose contributions are shown; None: the one that acts on the state
    names      dict of name -> Tensor or Module, or a Module: names of weights outside of layers
    most       show at most so many steps of a loop; the rest is an ellipsis
    graph      of the loss, where it was unfolded already

    Raises NoTimeError where nothing was recorded along time, FigureError for wrong labels.
    """
    tensors = leaves(what.outputs) if isinstance(what, RNNOutput) else [what]
    roots = [t for t in tensors if isinstance(t, Tensor)]
    if loss is None and isinstance(what, Tensor) and what.size == 1 and what.requires_grad:
        loss = what
    if loss is not None and not isinstance(loss, Tensor):
        raise loss_and_weight(loss)
    roots = roots if loss is None else [loss]
    if not any(t.requires_grad for t in roots):
        raise FigureError(
            "nothing was recorded here: run the layer outside of tg.no_grad(), with Parameters"
        )
    if loss is not None and loss.size != 1:
        raise loss_with_several_elements(loss.shape)
    if not isinstance(most, int):
        raise FigureError(f"most={most!r}: expected a number of steps")
    lanes = Lanes(graph or Unfolded(*roots), roots, names)
    measured = None
    if loss is not None:
        measured = Measured(lanes, loss, parameter)
        lanes.narrow(measured.read)
    picture = _Picture(lanes, loss, measured, lang)
    picture.label(inputs, outputs, targets)
    if isinstance(what, RNNOutput) and isinstance(what.outputs, Tensor):
        picture.know(what.outputs)
    return picture.draw(max(3, most), title)


class _Picture:
    """Draws the rows of Lanes on a Grid."""

    def __init__(
        self, lanes: Lanes, loss: Tensor | None, measured: Measured | None, lang: str
    ) -> None:
        self.lanes, self.loss, self.measured, self.lang = lanes, loss, measured, lang
        self.pen = Pen()
        self.norms = measured.norms if measured else {}
        self.labels: dict[tuple[Row, int], str] = {}
        self.values: dict[tuple[Row, int], np.ndarray] = {}  # of outputs, where they are known
        self.targets: dict[tuple[Row, int], str] = {}
        self.drawn: dict[Key, tuple[float, float]] = {}  # where each weight stands
        self.share_at: dict[int, float] = {}  # what each frame adds to the weight's gradient
        self.both = len({lane.reverse for lane in lanes.lanes.values()}) > 1
        keys = dict.fromkeys(key for row in lanes.rows for key in row.weights)
        self.colours = {key: k for k, key in enumerate(keys)}
        self.known = {
            key: value
            for node in lanes.graph.nodes
            for key, value in kept_by(node, lanes.graph.edges(node))
        }
        self.states = {row: states_of(row, lanes.graph) for row in lanes.lanes.values()}
        sizes = [norm for norm in self.norms.values() if 0 < norm < math.inf]
        high = max(sizes, default=0.0)  # near-equal gradients shall look near-equal, hence / 10
        self.scale = (max(min([*sizes, high / 10]), high * 1e-6), high)

    def label(
        self,
        inputs: Sequence[str] | None,
        outputs: Sequence[str] | None,
        targets: Sequence[str] | None,
    ) -> None:
        """Give the user's labels to the steps; a row of outputs where nothing else shows them."""
        if self.loss is None or outputs is not None or targets is not None:
            self.lanes.add_outputs()
        bottoms = [row for row in self.lanes.rows if row.kind == "input"]
        tops = [row for row, _ in self.lanes.ends]
        self.labels |= _given("inputs", inputs, bottoms) | _given("outputs", outputs, tops)
        self.targets = _given("targets", targets, tops)

    def know(self, outputs: Tensor) -> None:
        """The values of a layer's outputs, for the tooltips of its lane."""
        calls, nodes = set(), [outputs._key[0]] if outputs._key else []
        for node in nodes:  # it grows: down to the loop
            if node.place.t is not None:
                calls.add(node.place.call)
            elif "run" in node.static:
                calls.add(node.static["run"].call)
            else:
                nodes += [key[0] for _, key, _ in node.edges or () if key[0] not in nodes]
        rows = [row for row in self.lanes.lanes.values() if row.loop in calls]
        if len(rows) == 1 == len(calls) and len(outputs) == rows[0].steps:
            self.values = {(rows[0], t): outputs.data[t] for t in range(len(outputs))}

    def draw(self, most: int, title: str) -> Figure:
        """All of it."""
        self.grid = Grid(self.lanes, most, self._weight_label, self._row_title)
        for row in self.lanes.rows:
            self._lines_below(row)
            self._arrows_up(row)
        for row in self.lanes.rows:
            if row.kind == "lane":
                self._states_go_on(row)
            for item in self.grid.shown(row):
                self._box(row, item)
            self._title(row)
        if self.loss is not None:
            self._loss(self.loss)
        if self.measured:
            self._contributions(self.measured)
            self._legend()
        return self._figure(title)

    # ----- boxes

    def _box(self, row: Row, item: Item) -> None:
        grid, pen, tip = self.grid, self.pen, self._tip(row, item)
        x, y, tall, frame = (
            grid.x[row.offset, item],
            grid.top[row.level],
            TALL[row.kind],
            grid.at[row, item],
        )
        if item == ELLIPSIS:
            pen.text(x + WIDE / 2, y + tall / 2 + 4, "…", size=18, tip=tip, frame=frame)
        elif row.kind == "merge":
            pen.box(x, y, say("merge", self.lang), WIDE, tall, tip=tip, frame=frame)
        elif row.kind != "lane":
            symbol = "x" if row.kind == "input" else "y"
            given = _fitting(self.labels.get((row, item), (symbol, str(item))))
            target = self.targets.get((row, item), "")
            below = say("goal: {target}", self.lang, target=_fitting(target, 2)) if target else ""
            pen.box(x, y, given, WIDE, tall, below, tip=tip, frame=frame)
        else:  # its gradient comes later than the box itself, so that is drawn on its own
            pen.box(x, y, "", WIDE, tall, tip=tip, frame=frame)
            norm, middle = self.norms.get((row, item)), x + WIDE / 2
            if norm is not None:
                back, heat = grid.back(row, item), self._heat(norm)
                pen.rect(x + 1, y + 1, WIDE - 2, tall - 2, "heat", heat, tip, back)
                pen.text(middle, y + 34, _two_digits(norm), size=11, frame=back)
            name = (self._symbol(row), str(item))
            pen.text(middle, y + (26 if norm is None else 18), name, frame=frame)

    def _symbol(self, row: Row) -> str:
        """h; with its direction where there are two, with its number where there are several."""
        arrow = ("←" if row.reverse else "→") if self.both else ""
        alike = [lane for lane in self.lanes.lanes.values()
                 if not self.both or lane.reverse == row.reverse]  # fmt: skip
        if not row.carried and row.sums and not row.call:
            return "J"  # nothing but a sum goes from step to step
        number = str(alike.index(row) + 1).translate(RAISED) if len(alike) > 1 else ""
        return f"{arrow}h{number}"

    def _heat(self, norm: float) -> float:
        """0 to 1, on a logarithmic scale from the smallest to the largest gradient."""
        low, high = self.scale
        if not norm or not high:
            return 0.0
        if not math.isfinite(norm):
            return 0.9
        return 0.06 + 0.84 * math.log(max(norm, low) / low) / math.log(high / low)

    def _row_title(self, row: Row) -> list[str]:
        """What stands to the left of a row."""
        words = {"input": "inputs", "head": "outputs", "merge": ""}
        if row.kind != "lane":
            return [say(words[row.kind], self.lang)] if words[row.kind] else []
        name = self.lanes.titles.get(row) or row.title or say("a loop", self.lang)
        if not self.both:
            return [name, say("reverse", self.lang)] if row.reverse else [name]
        return [name, say("reverse" if row.reverse else "forward", self.lang)]

    def _title(self, row: Row) -> None:
        x, y, lines = self.grid.left[row.offset], self.grid.top[row.level], self._row_title(row)
        if any(self.grid.adjacent(row, source) for source in row.before):  # an arrow comes in
            self.pen.text(x, y - 8, say(", ", self.lang).join(lines), "start")
            return
        for k, line in enumerate(lines):
            self.pen.text(x, y + 16 + 16 * k, line, "start", kind="faint" if k else "")

    # ----- lines

    def _states_go_on(self, row: Row) -> None:
        """From state to state: the arrow forward, and the gradient's way back."""
        grid, items, lang = self.grid, self.grid.shown(row), self.lang
        toward, y = -1 if row.reverse else 1, self.grid.top[row.level]
        out, into = (0, WIDE) if row.reverse else (WIDE, 0)  # the sides of a box
        near = [source for source, t in row.before if grid.adjacent(row, (source, t))]
        if not near:
            end = grid.x[row.offset, items[0]] + into
            self.pen.line(
                [(end - 22 * toward, y + FORTH), (end, y + FORTH)], arrow=True,
                tip=say("the initial state", lang), frame=grid.at[row, items[0]],
            )  # fmt: skip
        for source in near:
            start = grid.edge(source, source.steps - 1) + WIDE
            tip = say("the state goes on", lang)
            self._forth_and_back(row, items[0], source, source.steps - 1, start, tip)
        cut = row.call.truncate if row.call else None
        for earlier, later in pairwise(items):
            done = row.travel.index(later) if cut and later != ELLIPSIS else 1
            tip = f"{self._symbol(row)}_{_shown(earlier)} → t = {_shown(later)}"
            a, b = grid.x[row.offset, earlier] + out, grid.x[row.offset, later] + into
            if cut and done % cut == 0:
                words = say("truncated: no gradient goes back further", lang)
                middle = (a + b) / 2
                ends = [(middle, y + BACK - 7), (middle, y + BACK + 7)]
                self.pen.line([(a, y + FORTH), (b, y + FORTH)], arrow=True, tip=tip,
                              frame=grid.at[row, later])  # fmt: skip
                self.pen.line(ends, "back", width=3, tip=words)
            else:
                self._forth_and_back(row, later, row, earlier, a, tip, b)

    def _forth_and_back(
        self, row: Row, later: Item, source: Row, earlier: Item, a: float, tip: str,
        b: float | None = None,
    ) -> None:  # fmt: skip
        """A state's arrow to the next step; back to it its gradient's, unless that is 0."""
        grid, y = self.grid, self.grid.top[row.level]
        b = grid.x[row.offset, later] if b is None else b
        self.pen.line([(a, y + FORTH), (b, y + FORTH)], arrow=True, tip=tip,
                      frame=grid.at[row, later])  # fmt: skip
        norm = self.norms.get((source, earlier))
        if self.loss is None or norm == 0 or self.norms.get((row, later)) == 0:
            return
        told = say("the gradient goes back", self.lang)
        if norm:
            told = say("the gradient goes back: {norm}", self.lang, norm=f"{norm:.3g}")
        self.pen.line([(b, y + BACK), (a, y + BACK)], "back dashed", arrow=True, tip=told,
                      frame=grid.back(source, earlier))  # fmt: skip

    def _arrows_up(self, row: Row) -> None:
        """From the boxes below, around what stands between; beside it the gradient's way down."""
        for source in row.below:
            for item in self.grid.shown(row):
                if (source, item) in self.grid.at and item != ELLIPSIS:
                    way = self.grid.around(source, item, self.grid.bottom(row), row.level)
                    self.pen.line(way, arrow=True, below=True, radius=5,
                                  frame=self.grid.at[row, item])  # fmt: skip
                    if source.kind != "input" and self._flows(row, item):
                        self._way_down(way, self.grid.back(row, item))

    def _flows(self, row: Row, item: Item) -> bool:
        """Whether a gradient comes through a box."""
        if not self.measured or row.kind == "input":
            return False
        if row.kind == "lane":
            return self.norms.get((row, item)) != 0
        above = [other for other in self.lanes.rows if row in other.below]
        read = any(row is end and item in used for end, used in self.lanes.ends)
        return read or any(self._flows(other, item) for other in above)

    def _way_down(self, way: list[tuple[float, float]], frame: int) -> None:
        """The same way, back, a little to the right."""
        inner = [(x + 7, y + 4) for x, y in way[1:-1]]
        back = [(way[-1][0] + 7, way[-1][1]), *reversed(inner), (way[0][0] + 7, way[0][1])]
        self.pen.line(back, "back dashed", arrow=True, below=True, radius=5, frame=frame,
                      tip=say("the gradient goes back", self.lang))  # fmt: skip

    def _lines_below(self, row: Row) -> None:
        """A line from each weight to every step that uses it; further lines to far states."""
        buses = self.grid.buses[row]
        apart = min(8.0, 24 / max(1, len(buses)))
        for k, (kind, source) in enumerate(buses):
            y, dx = self.grid.bottom(row) + 20 + BUS * k, 5 + apart * k
            if kind == "weight":
                self._weight(row, source, y, dx)
            elif kind == "state":
                words = say("the state goes on", self.lang)
                self._far(row, self.grid.shown(row)[:1], source[0], source[1], y, dx, words)
            else:
                words = say("every step reads all of these", self.lang)
                self._far(row, self.grid.shown(row), source, None, y, dx, words)

    def _weight_label(self, key: Key) -> str:
        return f"{self.lanes.names[key]} ({', '.join(map(str, key[0].shapes[key[1]]))})"

    def _weight(self, row: Row, key: Key, y: float, dx: float) -> None:
        grid, pen, colour, times = self.grid, self.pen, self.colours[key], row.weights[key]
        users = [t for t in grid.shown(row) if t in times]
        label = self._weight_label(key)
        tip = say("{name}: one weight, used at {count} steps", self.lang, name=label,
                  count=len(times))  # fmt: skip
        if key in self.drawn:  # it stands elsewhere already: a line comes from there
            x, y0 = self.drawn[key]
            side = min(grid.left.values()) - 12 - 7 * colour
            start = [(x, y0), (side, y0), (side, y)]
        else:
            x = grid.left[row.offset]
            self.drawn[key] = (x, y)
            start = [(x + pen.box(x, y - 10, label, height=20, colour=colour, tip=tip), y)]
        end = max((grid.x[row.offset, t] for t in users), default=x) + dx
        pen.line([*start, (end, y)], colour=colour, tip=tip, below=True, radius=4)
        for t in users:
            at = grid.x[row.offset, t] + dx
            pen.line([(at, y), (at, grid.bottom(row))], colour=colour, below=True,
                     tip=f"{self.lanes.names[key]}, t = {t}", frame=grid.at[row, t])  # fmt: skip

    def _far(
        self, row: Row, readers: list[Item], source: Row, t: int | None, y: float, dx: float,
        tip: str,
    ) -> None:  # fmt: skip
        """A state of another row, or all of them, read from further away."""
        grid, pen = self.grid, self.pen
        items = grid.shown(source) if t is None else [grid.shown_as(source, t)]
        starts = [grid.x[source.offset, item] + WIDE - dx for item in items]
        ends = [grid.x[row.offset, item] + dx for item in readers]
        for x in starts:
            pen.line([(x, grid.bottom(source)), (x, y)], "edge dashed", below=True)
        points = [*starts, *ends]
        pen.line([(min(points), y), (max(points), y)], "edge dashed", below=True, tip=tip)
        for x, item in zip(ends, readers, strict=True):
            pen.line([(x, y), (x, grid.bottom(row))], "edge dashed", arrow=True,
                     frame=grid.at[row, item])  # fmt: skip

    # ----- the loss, and the gradient of one weight

    def _loss(self, loss: Tensor) -> None:
        """The loss above everything, and what it reads."""
        grid, pen = self.grid, self.pen
        xs = [grid.edge(row, t) + WIDE / 2 for row, used in self.lanes.ends for t in used]
        middle, bus = (min(xs) + max(xs)) / 2, min(grid.top.values()) - 24
        value, level = _value(loss), max(grid.top) + 1
        pen.box(middle - 50, bus - 50, f"J = {value}", 100, 30, frame=grid.count,
                tip=say("the loss: {value}", self.lang, value=value))  # fmt: skip
        for row, used in self.lanes.ends:
            for item in grid.shown(row):
                if item in used:
                    way = grid.around(row, item, bus, level)
                    pen.line(way, below=True, radius=5, frame=grid.count)
                    if item != ELLIPSIS and self._flows(row, item):
                        self._way_down(way, grid.back(row, item))
        if len(set(xs)) > 1:
            pen.line([(min(xs), bus), (max(xs), bus)], below=True)
        pen.line([(middle, bus), (middle, bus - 20)], arrow=True, frame=grid.count)

    def _contributions(self, measured: Measured) -> None:
        """Bars below the inputs: what each step gives to the gradient of one weight."""
        grid, pen, weight = self.grid, self.pen, measured.weight
        shares = {at: s for at, s in measured.shares.items() if math.isfinite(s)}
        if weight is None or not shares:
            return
        up, down = max(0.0, *shares.values()), max(0.0, *[-s for s in shares.values()])
        scale = BARS / max(up, down, 1e-300)
        base, x = 40 + up * scale, min(grid.left.values())
        words = say("gradient of {name}", self.lang, name=self._name(weight))
        pen.text(x, base - 14, words, "start", kind=f"f{self.colours[weight] % len(COLOURS)}")
        users = [row for row in self.lanes.lanes.values() if weight in row.weights]
        alike = [key for key in self.colours if self._name(key) == self._name(weight)]
        if len(alike) > 1:
            whose = f"({self._symbol(users[0])})"
            pen.text(x + text_width(words) + 6, base - 14, whose, "start", kind="faint")
        pen.text(x, base + 2, say("share of each step", self.lang), "start", kind="faint")
        if measured.outside:
            told = say("outside of the loops: {share}", self.lang, share=_percent(measured.outside))
            pen.text(x, base + 18, told, "start", 11, "faint", frame=grid.count)
        pen.line([(min(grid.x.values()) - 8, base), (grid.right + 8, base)], "grid", below=True)
        for (offset, item), x in grid.x.items():
            shown = grid.items[offset]
            hidden = [t for t in range(grid.steps(offset)) if t not in shown]
            times = [(offset, t) for t in (hidden if item == ELLIPSIS else [item])]
            given = [shares[at] for at in times if at in shares]
            if not given:
                continue
            share, size = sum(given), max(measured.sizes[at] for at in times if at in shares)
            high = min(abs(share) * scale, BARS)
            tip = say("t = {t}: {share} of the gradient of {name}, size {size}", self.lang,
                      name=self._name(weight), t=_shown(item), share=_percent(share),
                      size=_two_digits(size))  # fmt: skip
            frame = max(
                grid.back(row, item)
                for row in users
                if row.offset == offset and (row, item) in grid.at
            )
            self.share_at[frame] = self.share_at.get(frame, 0.0) + share
            y = base - high if share > 0 else base
            pen.rect(x + 12, y, WIDE - 24, max(high, 0.5), tip=tip, frame=frame)
            text = _percent(share) if item != ELLIPSIS else f"Σ {_percent(share)}"
            pen.text(x + WIDE / 2, base + 14 + down * scale, text, size=11, kind="faint",
                     frame=frame)  # fmt: skip

    def _legend(self) -> None:
        """What the colours mean."""
        low, high = self.scale
        if not high:
            return
        left, y = min(self.grid.left.values()), self.pen.bottom + 20
        words = say("colour: |dJ/dh|", self.lang)
        x = left + text_width(words, 11) + text_width(_two_digits(low), 11) + 24
        x = max(x, min(self.grid.x.values()))
        self.pen.text(left, y + 10, words, "start", 11, "faint")
        self.pen.text(x - 6, y + 10, _two_digits(low), "end", 11, "faint")
        for k in range(6):
            self.pen.rect(x + 16 * k, y, 16, 12, "heat", self._heat(low * (high / low) ** (k / 5)))
        self.pen.text(x + 102, y + 10, _two_digits(high), "start", 11, "faint")

    # ----- words

    def _name(self, key: Key) -> str:
        return self.lanes.names.get(key, "w")

    def _tip(self, row: Row, item: Item) -> str:
        """What is known about a box: its value, and its gradient."""
        if item == ELLIPSIS:
            hidden = row.steps - len([t for t in self.grid.items[row.offset] if t != ELLIPSIS])
            return say("{count} more steps", self.lang, count=hidden)
        if row.kind != "lane":
            return f"{self.labels.get((row, item), '')} t = {item}".strip()
        lines = [say(", ", self.lang).join([*self._row_title(row), f"t = {item}"])]
        found = {p.array: p.key for p in self.states[row].get(item, ()) if p.key in self.known}
        for array, key in found.items():
            which = f"[{array}]" if len({p.array for p in self.states[row][item]}) > 1 else ""
            lines.append(f"{self._symbol(row)}{which} = {_first_row(self.known[key])}")
        if (row, item) in self.values:
            lines.append(f"y = {_first_row(self.values[row, item])}")
        if (row, item) in self.norms:
            lines.append(f"|dJ/dh| = {self.norms[row, item]:.4g}")
        if row.call and row.call.valid is not None:
            padded = np.size(row.call.valid[item]) - np.count_nonzero(row.call.valid[item])
            held = say("padding in {count} rows: the state is held", self.lang, count=padded)
            lines += [held] if padded else []
        return "\n".join(lines)

    def _figure(self, title: str) -> Figure:
        if title:
            self.pen.text(min(self.grid.left.values()), self.pen.top - 12, title, "start", 15)
        lang, loops = self.lang, list(self.lanes.lanes.values())
        names = " + ".join(dict.fromkeys(self._row_title(row)[0] for row in loops))
        comma = say(", ", lang)
        weights = comma.join(map(self._weight_label, self.colours)) or "-"
        told = [
            say("{count} time steps from left to right.", lang, count=max(r.steps for r in loops)),
            say("Each weight stands once and is used at every step: {weights}.", lang,
                weights=weights),
        ]  # fmt: skip
        for row in loops if self.measured else []:
            a, b = min(row.used), max(row.used)
            if (row, a) not in self.norms or (row, b) not in self.norms:
                continue
            told.append(say(
                "{title}: the gradient's norm is {first} at t = {a} and {last} at t = {b}.", lang,
                title=comma.join(self._row_title(row)), a=a, b=b,
                first=_two_digits(self.norms[row, a]), last=_two_digits(self.norms[row, b]),
            ))  # fmt: skip
        title = title or say("{names}, unrolled in time", lang, names=names)
        return self.pen.figure(title, say(" ", lang).join(told), lang, self._captions())

    def _captions(self) -> list[str]:
        """What happens in each frame."""
        lang, n = self.lang, self.grid.count
        captions = [
            say("Forward, {k} of {n}: {what}", lang, k=k + 1, n=n, what=self._reached(k, False))
            for k in range(n)
        ]
        if self.loss is None:
            return captions
        captions.append(say("The loss: J = {value}", lang, value=_value(self.loss)))
        so_far = self.measured.outside if self.measured else 0.0
        for k in range(n):
            what = self._reached(n - 1 - k, True)
            text = say("Backward, {k} of {n}: {what}", lang, k=k + 1, n=n, what=what)
            if self.share_at and self.measured and self.measured.weight:
                so_far += self.share_at.get(n + 1 + k, 0.0)
                name = self._name(self.measured.weight)
                share = _percent(so_far)
                text += say("; dJ/d{name} so far: {share}", lang, name=name, share=share)
            captions.append(text)
        return captions

    def _reached(self, frame: int, back: bool) -> str:
        """The states of one frame, on the way back with the norms of their gradients."""
        found = []
        for (row, item), at in self.grid.at.items():
            if row.kind == "lane" and at == frame:
                name, norm = f"{self._symbol(row)}_{_shown(item)}", self.norms.get((row, item))
                found.append(f"|dJ/d{name}| = {norm:.3g}" if back and norm is not None else name)
        return say(", ", self.lang).join(found)


def _given(what: str, labels: Any, rows: list[Row]) -> dict[tuple[Row, int], str]:
    """The user's labels, for all rows or for the first; blanks are made visible."""
    if labels is None:
        return {}
    places = [(row, t) for row in rows for t in sorted(row.used)]
    if isinstance(labels, (int, float)) or not hasattr(labels, "__len__"):
        raise FigureError(f"{what}={labels!r}: expected a label for each step, a text or a list")
    if len(labels) not in (len(places), len(rows[0].used) if rows else 0):
        raise FigureError(
            f"{what}: {len(labels)} labels for {len(places)} steps: give one for each"
        )
    visible = ["".join(BLANKS.get(c, c) for c in str(label)) for label in labels]
    return dict(zip(places, visible, strict=False))


def _fitting(label: Any, most: int = 6) -> Any:
    """A label that fits into its box."""
    if isinstance(label, str) and len(label) > most:
        return label[: most - 1] + "…"
    return label


def _shown(item: Item) -> str:
    return "…" if item == ELLIPSIS else str(item)


def _percent(share: float) -> str:
    text = f"{100 * share:.1f} %"
    return "0.0 %" if text == "-0.0 %" else text


def _value(loss: Tensor) -> str:
    return f"{loss.data.item():.4g}"


def _two_digits(value: float) -> str:
    """A number in few characters: 0.12, 3.4e-05."""
    return f"{value:.2g}"


def _first_row(array: np.ndarray) -> str:
    """The first numbers of an array; of a batch its first row."""
    batch = array.ndim > 1 and len(array) > 1
    return f"[{short(array[0] if batch else array)}]" + (f" (1/{len(array)})" if batch else "")
