"""The computation graph of a small expression: parts.py reads it, layered.py lays it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..canvas.pen import Figure, Label, Pen, Point, text_width
from ..canvas.words import say
from ..errors import FigureError
from ..graph import pull
from ..module import Module
from ..primitives import ARRAY, Slice
from ..tensor import Tensor
from .layered import Layout, Link
from .parts import Found, Part, recorded, traced

SIGNS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "negative": "−"}
ORDERED = {"subtract", "divide", "matmul", "power", "dot"}  # which operand is first matters


def graph(
    what: Any,
    *args: Any,
    values: bool = False,
    gradients: bool = False,
    names: Any = None,
    title: str = "",
    lang: str = "en",
) -> Figure:
    """The computation graph of an expression: leaves, calls, and which result goes where.

        graph(lambda a, b: np.tanh(a * b) + a, 0.5, 2.0, values=True, gradients=True).save("g.svg")
        graph(loss, names=model)            # what a Tensor's backward would walk

    what       a Tensor: the graph that was recorded behind it; constants are not part of that. Or a
               function: it is run on `args` as Tensors, and every value is known
    args       arrays of any shape, Tensors or numbers (or nests of them) for the function
    values     show values: of numbers 4 digits, of arrays the shape (the first numbers in the
               tooltip). Behind a Tensor only those are known that the way back needs
    gradients  show the gradient of the result with respect to everything (of the sum of the
               result's elements, where it has several). No `.grad` changes, the graph stays
    names      a dict of names and Tensors, or a Module
    lang       "en" or "ja"
    Only the youngest 60 boxes are drawn, the rest is counted. Raises FigureError for a `what` that
    has no graph, GraphFreedError where backward has freed it.
    """
    known = _named(what if isinstance(what, Module) else None, names)
    if isinstance(what, Tensor):
        if args:
            raise FigureError("graph(tensor) takes no arguments: they are for a function")
        found = recorded(what, known)
        name = next((name for name, tensor in known if tensor is what), "")
    elif callable(what):
        found = traced(what, args, known)
        name = getattr(what, "__name__", type(what).__name__).replace("<lambda>", "")
    else:
        raise FigureError(
            f"a graph is drawn of a Tensor, or of a function and its arguments; got {what!r:.60}"
        )
    if gradients:
        _differentiate(found)
    plain = say("Computation graph", lang)
    whole = say("Computation graph of {name}", lang, name=name) if name else plain
    return _picture(found, values, gradients, title, title or whole, lang)


def _named(*sources: Any) -> list[tuple[str, Tensor]]:
    """Names, and the Tensors that bear them."""
    found: list[tuple[str, Tensor]] = []
    for source in sources:
        if isinstance(source, Module):
            found += source.named_parameters().items()
        elif isinstance(source, dict):
            found += [(str(name), tensor) for name, tensor in source.items()]
        elif source is not None:
            raise FigureError(f"names: expected a dict of Tensors, or a Module; got {source!r:.60}")
    for name, tensor in found:
        if not isinstance(tensor, Tensor):
            raise FigureError(f"names[{name!r}]: expected a Tensor, got {tensor!r:.60}")
    return found


def _differentiate(found: Found) -> None:
    """Every value's gradient: of the first result that has one, or of the sum of its elements."""
    every = [value for part in found.parts for value in part.outs if value.key]
    results = [part.outs[slot] for part, slot in found.results if part.outs[slot].key]
    if not results:
        raise FigureError("gradients=True: nothing that the result was made of has a gradient")
    result = results[0]
    assert result.key is not None
    ones = np.ones(result.shape, result.key[0].dtypes[result.key[1]])
    with np.errstate(all="ignore"):
        pulled = pull({result.key: ones}, {v.key for v in every if v.key}, retain=True)
    for value in every:
        if value.key is not None:
            value.gradient = pulled.get(value.key, np.zeros(value.shape))


# ----- drawing -----------------------------------------------------------------------------------


def lettered(name: str) -> Label:
    """A name as mathematics writes it: W_ax with its subscript.

    lettered("W_ax")      # ('W', 'ax')
    """
    match = re.fullmatch(r"([^\W_]+)_(\w{1,2})", name)
    return (match[1], match[2]) if match else name


def short(array: Any) -> str:
    """The first numbers of an array.

    short(np.arange(9.0))      # '0, 1, 2, 3, 4, 5, …'
    """
    flat = np.asarray(array).reshape(-1)
    text = ", ".join(digits(v) for v in flat[:6])
    return text + ", …" if flat.size > 6 else text


def digits(value: Any) -> str:
    """A number in four digits.

    digits(2 / 3)      # '0.6667'
    """
    return f"{value:.4g}" if np.asarray(value).dtype.kind == "f" else str(value)


def sign(part: Part) -> str:
    """What a call's box says: `+`, `tanh`, `[:, 0]`."""
    if part.label:
        return part.label
    if part.what == "getitem":
        index = ", ".join(map(_index, part.static.get("index", ())))
        return f"[{index}]" if len(index) < 14 else "[…]"
    return SIGNS.get(part.what, part.what)


def _index(item: Any) -> str:
    if isinstance(item, Slice):
        start, stop, step = ("" if n is None else str(n) for n in item)
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return "…" if item is Ellipsis or item is ARRAY else str(item)


def _picture(
    found: Found, values: bool, gradients: bool, title: str, name: str, lang: str
) -> Figure:
    """The picture, from left to right."""
    boxes = [_look(part, values, gradients, lang) for part in found.parts]
    number = {part: k for k, part in enumerate(found.parts)}
    ahead = 1 if found.hidden else 0  # the box for the rest is number 0
    links = [
        Link(number[source] + ahead, number[part] + ahead, slot, i, meaning(source, slot))
        for part in found.parts
        for i, source, slot in part.ins
    ]
    if found.hidden:
        links += [Link(0, number[part] + 1) for part in found.parts if part in found.behind]
        rest = say("{count} more", lang, count=f"{found.hidden:,}")
        boxes.insert(0, Look(("…"), [(rest, "faint")], "box dashed", tip=rest))
    weights = [k for k, box in enumerate(boxes) if box.coloured]
    parts: list[Part | None] = [*[None] * ahead, *found.parts]
    layout = Layout(
        [box.size for box in boxes],
        links,
        counts=[1 if part is None else len(part.outs) for part in parts],
        ordered=[k for k, part in enumerate(parts) if part and part.what in ORDERED],
    )
    pen = Pen()
    if title:
        pen.text(0, min(y for _, y in layout.at) - 40, title, "start", 15)
    for link, way in zip(links, layout.ways, strict=True):
        pen.curve(way[0], way[-1], "edge", True, link.tip, through=way[1:-1])
    for k, (box, place) in enumerate(zip(boxes, layout.at, strict=True)):
        box.draw(pen, place, weights.index(k) if box.coloured else None)
    _legend(pen, found, gradients, lang)
    return pen.figure(name, _told(found, lang), lang)


class Look(NamedTuple):
    """How a box looks."""

    label: Label
    lines: Sequence[tuple[str, str]] = ()
    kind: str = "box"
    coloured: bool = False
    tip: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """As wide and high as the text asks for."""
        widest = max([text_width(line, 11) for line, _ in self.lines], default=0)
        return max(
            58 if self.coloured else 34, text_width(self.label) + 16, widest + 12
        ), 28 + 13 * len(self.lines)

    def draw(self, pen: Pen, middle: Point, colour: int | None) -> None:
        """The box around a middle."""
        (x, y), (wide, high) = middle, self.size
        pen.box(x - wide / 2, y - high / 2, self.label, wide, high, "", self.kind, None, self.tip,
                None, colour, self.lines)  # fmt: skip


def _look(part: Part, values: bool, gradients: bool, lang: str) -> Look:
    """The box of a part."""
    first = part.outs[0]
    lines, tips = [], [part.tip]
    label: Label = sign(part) if part.call else lettered(first.name)
    for value in part.outs:
        who = f"{value.name} = " if value.name and (part.call or len(part.outs) > 1) else ""
        if value.array is not None and values and value.array.size:
            tips.append(f"{who or '= '}{short(value.array)}")
        if value.gradient is not None and gradients:
            tips.append(f"{say('gradient', lang)} {short(value.gradient)}")
    named = ", ".join(value.name for value in part.outs if value.name) if part.call else ""
    known = first.array is not None and first.array.size == 1 and len(part.outs) == 1
    number = digits(first.array.reshape(-1)[0]) if known else ""
    if not part.call and not first.name:
        label = number if number and part.what == "constant" else say(part.what, lang)
        number = "" if label == number else number
    shape = str(first.shape) if first.shape and len(part.outs) == 1 else ""
    if len(part.outs) > 1:
        shape = f"{first.shape}" if named else f"{len(part.outs)} × {first.shape}"
    if number and values:
        lines.append((f"{named} = {number}".strip(), "faint"))
    elif named or shape:
        lines.append((f"{named} {shape}".strip(), "faint"))
    gs = [value.gradient for value in part.outs if value.gradient is not None]
    if gradients and gs:
        single = len(gs) == 1 and gs[0].size == 1
        at = gs[0].reshape(-1)[0] if single else max(np.abs(g).max(initial=0) for g in gs)
        lines.append((("∂ " if single else "|∂| ≤ ") + digits(at), "backtext"))
    kind = "box" if part.call else "box dashed" if part.what == "constant" else "box thick"
    return Look(label, lines, kind, part.what == "leaf", "\n".join(tips))


def meaning(part: Part, slot: int) -> str:
    """A line's tooltip: what goes along it.

    meaning(part, 0)      # 'z (2, 4)'
    """
    value = part.outs[slot]
    return f"{value.name or part.label or part.what} {value.shape}".strip()


def _legend(pen: Pen, found: Found, gradients: bool, lang: str) -> None:
    """What frames and signs mean, below the picture."""
    kinds = {part.what for part in found.parts if not part.call}
    told = [say("coloured frame: leaf", lang)] if "leaf" in kinds else []
    told += [say("dashed: constant", lang)] if "constant" in kinds else []
    told += [say("∂: gradient of the result", lang)] if gradients else []
    if gradients and any(value.gradient.size > 1 for part in found.parts for value in part.outs
                         if value.gradient is not None):  # fmt: skip
        told.append(say("|∂| ≤: of arrays, the largest absolute value", lang))
    if told and pen.parts:
        pen.text(pen.left, pen.bottom + 26, " · ".join(told), "start", 11, "faint")


def _told(found: Found, lang: str) -> str:
    """The picture in words."""
    calls = [part for part in found.parts if part.call]
    told = [say("{count} operations", lang, count=len(calls) + found.hidden)]
    for part in calls[:30]:
        names = [source.outs[slot].name or _word(source, lang) for _, source, slot in part.ins]
        into = ", ".join(value.name for value in part.outs if value.name)
        whole = f"{part.what} ({into})" if into else part.what
        listed = say(", ", lang).join(names) or "…"
        told.append(say("{names} lead to {call}", lang, names=listed, call=whole))
    return say("; ", lang).join([*told, *(["…"] if len(calls) > 30 else [])])


def _word(part: Part, lang: str) -> str:
    """What the text calls a result without a name."""
    if part.call:
        return part.what
    if part.what == "constant" and part.outs[0].array is not None and part.outs[0].array.size == 1:
        return digits(part.outs[0].array.reshape(-1)[0])
    return say(part.what, lang)
