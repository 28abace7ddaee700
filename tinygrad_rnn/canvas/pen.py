"""Pen draws boxes, lines and labels; Figure is the finished picture: `.svg`, `.save`.

Everything is plain SVG: no ids (several pictures may stand in one page), no scripts, no fonts or
images from elsewhere. Numbers are rounded, so that the same picture has the same bytes. Colours are
classes with a light and a dark form, and every picture has a background of its own: it is readable
wherever it is shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FigureError

Point = tuple[float, float]
Label = str | tuple[str, str]  # a text, or a text and its subscript: ("h", "3")

SIZE = 13  # of letters, in pixels
MARGIN = 16  # around everything
COLOURS = (  # of weights: light, dark
    ("#0969da", "#58a6ff"), ("#1a7f37", "#3fb950"), ("#8250df", "#bc8cff"),
    ("#bf3989", "#f778ba"), ("#0e7490", "#22d3ee"), ("#7d4e00", "#d4a72c"),
)  # fmt: skip
FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # in XML
FONT = (
    "system-ui,-apple-system,'Segoe UI','Noto Sans','Hiragino Sans','Noto Sans CJK JP',sans-serif"
)


def _style() -> str:
    """Classes: light, then what differs in the dark."""
    both: list[list[str]] = [[], []]
    for side, rules in enumerate(both):
        ink, faint, ground, box, edge, heat = (
            ("#1f2328", "#59636e", "#ffffff", "#f6f8fa", "#818b98", "#fb8f44"),
            ("#e6edf3", "#9198a1", "#0d1117", "#161b22", "#656c76", "#b4501b"),
        )[side]
        back = ("#bc4c00", "#f0883e")[side]
        rules += [
            f"text{{fill:{ink}}}",
            f".faint{{fill:{faint}}}",
            f".ground{{fill:{ground}}}",
            f".box{{fill:{box};stroke:{edge}}}",
            f".frame{{fill:none;stroke:{edge}}}",
            f".edge{{stroke:{edge}}}",
            f".tip{{fill:{edge}}}",
            f".back{{stroke:{back}}}",
            f".backtip,.backtext,.bar{{fill:{back}}}",
            f".heat{{fill:{heat}}}",
            f".grid{{stroke:{edge};stroke-opacity:.3}}",
            f".outline{{stroke:{ink};stroke-opacity:.6}}",
            f".cold{{fill:{('#218bff', '#1f6feb')[side]}}}",
            f".lost{{fill:{edge};stroke:{ink}}}",
            f".hover{{fill:{ink}}}",
        ]
        for k, pair in enumerate(COLOURS):
            rules += [f".c{k}{{stroke:{pair[side]}}}", f".f{k}{{fill:{pair[side]}}}"]
    plain = [
        f"text{{font-family:{FONT};font-size:{SIZE}px}}",
        ".line{fill:none;stroke-width:1.5}",
        ".box{stroke-width:1}",
        ".frame{stroke-dasharray:5 4}",
        ".dashed{stroke-dasharray:4 4}",
        ".thick{stroke-width:2}",
        ".outline{fill:none}",
        ".lost{stroke-dasharray:2 2}",
        ".hover{fill-opacity:0}",
        ".hover:hover{fill-opacity:.08}",
    ]
    light = "".join(f".tgfig {rule}" for rule in plain + both[0])
    dark = "".join(f".tgfig {rule}" for rule in both[1])
    light, dark = (css.replace(",.b", ",.tgfig .b") for css in (light, dark))
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}"


STYLE = _style()


class Figure(NamedTuple):
    """A finished picture.

        figure = tg.draw(tg.RNNCell(3, 4, rng=0))
        figure.save("cell.svg")            # or .html
        figure.svg                         # the text; notebooks show the picture
        figure.title                       # 'RNNCell, folded, beside a feed-forward layer'

    svg     the picture, self-contained; the same bytes for the same run
    title   what it shows, in one line; also inside the picture, for screen readers
    lang    "en" or "ja"
    frames  captions, one for each step that the HTML page can go through; may be empty
    Raises nothing of its own.
    """

    svg: str
    title: str
    lang: str = "en"
    frames: tuple[str, ...] = ()

    @property
    def html(self) -> str:
        """A page of its own, without network: it steps through the frames, where there are any."""
        from .page import page

        return page(self.title, [("", "", self)], self.lang)

    def save(self, path: Any) -> None:
        """Write the picture to a path `x.svg`, or the page to `x.html`.

        Raises FigureError for another ending, OSError where nothing can be written.
        """
        target = Path(path)
        if target.suffix not in (".svg", ".html"):
            raise FigureError(f"{target.name}: a figure is saved as .svg or .html")
        text = self.svg if target.suffix == ".svg" else self.html
        target.write_text(text, encoding="utf-8", newline="\n")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure({self.title}; {len(self.svg):,} bytes of SVG; .save('x.svg' or 'x.html'))"


class Pen:
    """Draws, and remembers how far the drawing reaches.

        pen = Pen()
        pen.box(0, 0, "x", width=40, height=30)
        pen.line([(40, 15), (90, 15)], arrow=True)
        pen.figure("an arrow leaves a box", "x and an arrow to the right")

    Coordinates are pixels, y grows downwards. `frame=k`: on the page, the thing is reached at step
    k of the figure's frames. `tip` is shown when the pointer rests on it.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.left = self.top = float("inf")
        self.right = self.bottom = float("-inf")

    def box(
        self,
        x: float,
        y: float,
        label: Label = "",
        width: float = 0,
        height: float = 30,
        below: str = "",
        kind: str = "box",
        heat: float | None = None,
        tip: str = "",
        frame: int | None = None,
        colour: int | None = None,
        more: Sequence[tuple[str, str]] = (),
    ) -> float:
        """A box with its upper left corner at (x, y), and a label in it; returns its width.

        width   0: as wide as the label asks for; never narrower than that
        below   a second, smaller line
        heat    0 to 1: filled so strongly with the colour of gradients
        colour  0, 1, ...: of a weight
        more    further smaller lines, each with its class: [("0.25", "backtext")]
        """
        small = [*([(below, "faint")] if below else []), *more]
        widest = max([text_width(line, 11) for line, _ in small], default=0)
        width = max(width, text_width(label) + 14, widest + 10)
        self._reach(x, y, x + width, y + height)
        tinted = "" if colour is None else f" c{colour % len(COLOURS)}"
        inner = [f'<rect class="{kind}{tinted}"{_place(x, y, width, height)} rx="5"/>']
        if heat is not None:
            strength = number(min(max(heat, 0), 1) * 0.9)
            spot = _place(x + 1, y + 1, width - 2, height - 2)
            inner.append(f'<rect class="heat"{spot} rx="4" fill-opacity="{strength}"/>')
        middle = x + width / 2
        at = y + height / 2 + 4.5 - (6.5 * len(small) - 0.5 if small else 0)
        apart = min(max(height / 2 - 16.5, 0), 1.5) if below else 0  # a blank's mark hangs low
        if label:
            inner.append(_text(middle, at - apart, label, "middle", SIZE, ""))
        for k, (line, named) in enumerate(small):
            inner.append(_text(middle, at + apart + 13 * (k + 1), line, "middle", 11, named))
        self.parts.append(_group(inner, tip, frame))
        return width

    def rect(
        self, x: float, y: float, width: float, height: float,
        kind: str = "bar", opacity: float = 1, tip: str = "", frame: int | None = None,
    ) -> None:  # fmt: skip
        """A filled rectangle without a label: a bar, a field of a map."""
        self._reach(x, y, x + width, y + height)
        faded = "" if opacity == 1 else f' fill-opacity="{number(opacity)}"'
        rect = f'<rect class="{kind}"{_place(x, y, width, height)}{faded}/>'
        self.parts.append(_group([rect], tip, frame))

    def text(
        self, x: float, y: float, label: Label, anchor: str = "middle", size: float = SIZE,
        kind: str = "", tip: str = "", frame: int | None = None,
    ) -> None:  # fmt: skip
        """A label on its own; y is its baseline, anchor start, middle or end."""
        wide = text_width(label, size)
        left = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        self._reach(left, y - size, left + wide, y + size / 3)
        self.parts.append(_group([_text(x, y, label, anchor, size, kind)], tip, frame))

    def line(
        self, points: Sequence[Point], kind: str = "edge", arrow: bool = False, radius: float = 7,
        width: float | None = None, tip: str = "", frame: int | None = None,
        colour: int | None = None, below: bool = False,
    ) -> None:  # fmt: skip
        """A line along points, with round corners; `arrow` puts a head at its end.

        below: under everything that is drawn otherwise.
        """
        for x, y in points:
            self._reach(x, y, x, y)
        name, head = (
            (kind, "backtip" if kind.startswith("back") else "tip")
            if colour is None
            else (f"c{colour % len(COLOURS)}", f"f{colour % len(COLOURS)}")
        )
        if colour is not None and "dashed" in kind:
            name += " dashed"
        thick = "" if width is None else f' style="stroke-width:{number(width)}"'
        inner = [f'<path class="line {name}" d="{_rounded(points, radius)}"{thick}/>']
        if arrow:
            inner.append(f'<path class="{head}" d="{_head(points[-2], points[-1])}"/>')
        group = _group(inner, tip, frame)
        self.parts.insert(0, group) if below else self.parts.append(group)

    def curve(
        self, start: Point, end: Point, kind: str = "edge", arrow: bool = False,
        tip: str = "", frame: int | None = None, down: bool = False,
        through: Sequence[Point] = (),
    ) -> None:  # fmt: skip
        """A smooth line that leaves and arrives sideways (or downwards), also at points between."""
        points, b = [start, *through, end], start
        d = f"M{_xy(start)}"
        for (x0, y0), (x1, y1) in pairwise(points):
            self._reach(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            if down:
                a, b = (x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)
            else:
                a, b = ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)
            d += f"C{_xy(a)} {_xy(b)} {_xy((x1, y1))}"
        inner = [f'<path class="line {kind}" d="{d}"/>']
        if arrow:
            name = "backtip" if kind.startswith("back") else "tip"
            inner.append(f'<path class="{name}" d="{_head(b, end)}"/>')
        self.parts.append(_group(inner, tip, frame))

    def figure(
        self, title: str, description: str, lang: str = "en", frames: Sequence[str] = ()
    ) -> Figure:
        """The picture, with a margin; `description` is its text alternative."""
        if not self.parts:
            self._reach(0, 0, 0, 0)
        x, y = self.left - MARGIN, self.top - MARGIN
        wide, high = self.right + MARGIN - x, self.bottom + MARGIN - y
        box = " ".join(map(number, (x, y, wide, high)))
        size = f'width="{number(wide)}" height="{number(high)}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tgfig" viewBox="{box}" {size} '
            f'role="img" lang="{lang}" aria-label="{xml(title)}">'
            f"<title>{xml(title)}</title><desc>{xml(description)}</desc>"
            f"<style>{STYLE}</style>"
            f'<rect class="ground"{_place(x, y, wide, high)} rx="8"/>'
        )
        return Figure("\n".join([head, *self.parts, "</svg>\n"]), title, lang, tuple(frames))

    def _reach(self, left: float, top: float, right: float, bottom: float) -> None:
        self.left, self.top = min(self.left, left), min(self.top, top)
        self.right, self.bottom = max(self.right, right), max(self.bottom, bottom)


def text_width(label: Label, size: float = SIZE) -> float:
    """About how wide a label is, in pixels; rather too wide, since fonts differ.

    text_width("時刻") > text_width("ab")      # True
    """
    if isinstance(label, tuple):
        return text_width(label[0], size) + text_width(label[1], size * 0.75)
    return sum(map(_em, label)) * size


def _em(letter: str) -> float:
    """The width of a letter in units of its size."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if letter in "il.,:;'|!()[]jtfr I":
        return 0.42
    if letter in "mwMW@%—…→\ufffd" or FORBIDDEN.match(letter):
        return 1.03
    if letter in "+=<>#^~&−±×÷↵⇥∇":
        return 0.84
    return 0.79 if letter.isupper() else 0.64


def number(value: float) -> str:
    """A coordinate with at most one decimal (small ones: two).

    number(3.04), number(0.123)      # '3', '0.12'
    """
    text = f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def xml(text: str) -> str:
    """Text as it may stand in XML; characters that XML does not know become a question mark.

    xml("a < b\\x00")      # 'a &lt; b\ufffd'
    """
    return escape(FORBIDDEN.sub("\ufffd", text))


def _xy(point: Point) -> str:
    return f"{number(point[0])},{number(point[1])}"


def _place(x: float, y: float, width: float, height: float) -> str:
    names = ("x", "y", "width", "height")
    values = map(number, (x, y, width, height))
    return "".join(f' {n}="{v}"' for n, v in zip(names, values, strict=True))


def _text(x: float, y: float, label: Label, anchor: str, size: float, kind: str) -> str:
    sized = "" if size == SIZE else f' style="font-size:{number(size)}px"'
    named = f' class="{kind}"' if kind else ""
    if isinstance(label, tuple):
        low = f'<tspan dy="3" style="font-size:{number(size * 0.75)}px">{xml(label[1])}</tspan>'
        inside = xml(label[0]) + low
    else:
        inside = xml(label)
    at = f'x="{number(x)}" y="{number(y)}"'
    return f'<text {at} text-anchor="{anchor}"{named}{sized}>{inside}</text>'


def _group(inner: list[str], tip: str, frame: int | None) -> str:
    reached = "" if frame is None else f' data-frame="{frame}"'
    told = f"<title>{xml(tip)}</title>" if tip else ""
    return f"<g{reached}>{told}{''.join(inner)}</g>" if reached or told else "".join(inner)


def _rounded(points: Sequence[Point], radius: float) -> str:
    """The path along points; corners are rounded as far as the segments allow."""
    parts = [f"M{_xy(points[0])}"]
    if not radius:
        return "".join([*parts, *(f"L{_xy(point)}" for point in points[1:])])
    for (x0, y0), (x1, y1), (x2, y2) in zip(points, points[1:], points[2:], strict=False):
        before, after = abs(x1 - x0) + abs(y1 - y0), abs(x2 - x1) + abs(y2 - y1)
        r = min(radius, before / 2, after / 2)
        a = (x1 + (x0 - x1) * r / (before or 1), y1 + (y0 - y1) * r / (before or 1))
        b = (x1 + (x2 - x1) * r / (after or 1), y1 + (y2 - y1) * r / (after or 1))
        parts.append(f"L{_xy(a)}Q{_xy((x1, y1))} {_xy(b)}")
    return "".join([*parts, f"L{_xy(points[-1])}"])


def _head(before: Point, tip: Point, size: float = 7) -> str:
    """A triangle at the end of a line."""
    dx, dy = tip[0] - before[0], tip[1] - before[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1
    dx, dy = dx / length * size, dy / length * size
    base = (tip[0] - dx, tip[1] - dy)
    a, b = (base[0] - dy / 2, base[1] + dx / 2), (base[0] + dy / 2, base[1] - dx / 2)
    return f"M{_xy(tip)}L{_xy(a)}L{_xy(b)}Z"
