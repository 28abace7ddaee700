"""Charts of arrays: `bars` (contributions), `lines` (curves), `heat` (matrices).

Each is a pure function of arrays and gives a Figure. Whatever the arrays hold, the picture can be
read: NaN and inf are marked, never dropped in silence, and long arrays are thinned out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FigureError
from .pen import COLOURS, Figure, Pen, text_width
from .words import say

Floats = NDArray[np.float64]

WIDE, HIGH = 560, 220  # of a plot itself, in pixels
BOTTOM = 290  # of a bar chart with its two panels
SMALL_TEXT = 11
LONGEST = 90  # letters of a title
COLUMNS = 1000  # of a bar chart; more time steps are put together
POINTS = 800  # of a curve
CELLS = 4096  # of a heat map; larger ones are reduced to SIDE x SIDE
SIDE = 64
HUGE, TINY = 1e300, 1e-280  # drawn as if they were these (or zero); tooltips tell the value
POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
BLANKS = {" ": "␣", "\n": "↵", "\r": "↵", "\t": "⇥"}


# ----- bars --------------------------------------------------------------------------------------


def bars(
    shares: ArrayLike,
    norms: ArrayLike,
    outside: float,
    names: Sequence[str] | None = None,
    title: str = "",
    lang: str = "en",
) -> Figure:
    """How much each time step gave to a gradient: one column per step.

        bars([0.1, 0.3, 0.6], [0.2, 0.4, 0.7], outside=0.0)

    A filled bar is the step's share (downwards where it is negative), a hollow one the size of what
    it gave. A line above them is the running sum of the shares, which ends at 100 %.

    shares   (T,) parts of the gradient that add up to 1, together with `outside`
    norms    (T,) norm of each contribution, divided by the norm of the whole gradient
    outside  the share that comes from outside of the loop; 0: no column for it
    names    T texts below the columns, characters for instance; otherwise the numbers of the steps
    title    "" for the usual one
    lang     "en" or "ja"

    More than 1000 steps are put together: their shares are added, of norms the largest is shown.
    Raises FigureError for arrays that are not (T,).
    """
    shares, norms = _one_axis(shares, "shares"), _one_axis(norms, "norms")
    if shares.shape != norms.shape:
        raise FigureError(f"norms has shape {norms.shape}, shares {shares.shape}")
    steps = _step_names(names, len(shares), "names")
    title = title or say("What each time step gave to the gradient", lang)
    told = _told_bars(shares, float(outside), lang)

    parts = np.arange(0, len(shares), -(-len(shares) // COLUMNS) or 1)
    notes = []
    if len(parts) < len(shares):
        text = "{n} time steps to a column: shares are added, of norms the largest is shown"
        notes.append(say(text, lang, n=parts[1]))
        shares, norms = np.add.reduceat(_tame(shares), parts), np.maximum.reduceat(norms, parts)

    pen, column = Pen(), max(1, min(44, WIDE // max(len(parts), 1)))
    used, label = float(column * len(parts)), say("outside", lang)
    right = max(used, 180.0) if len(parts) else 0.0
    end = right if not outside else right + 36 + text_width(label, SMALL_TEXT)
    lefts = column * np.arange(len(parts), dtype=float)
    middle = right + 20, end - 16  # of the outside column, below which its label fits

    whole = max(end, 180.0)
    _running(pen, [0.0, *(lefts + column), right, end, whole], shares, outside, lang)
    seen = 100 * _tame(np.concatenate([shares, norms, [0.0, outside]]))
    y = _linear(seen[np.isfinite(seen)], BOTTOM, BOTTOM - 180, " %")
    _grid(pen, y, 0, whole, say("share of the gradient", lang))
    pen.line([(0, y.at(0)), (whole, y.at(0))])
    _outlines(pen, y, lefts, column, norms)
    for left, share, norm in zip(lefts.tolist(), shares.tolist(), norms.tolist(), strict=True):
        _bar(pen, y, left, column, share, norm)
    centres = [left + column / 2 for left in lefts.tolist()]
    _below(
        pen, centres, [steps[k] for k in parts], say("time step t", lang), right or whole, BOTTOM
    )
    if outside:
        _bar(pen, y, middle[0], middle[1] - middle[0], outside)
        pen.text(sum(middle) / 2, BOTTOM + 17, label, "middle", SMALL_TEXT, "faint")

    for k, left in enumerate(lefts.tolist()):
        step = _step(int(parts[k]), names, steps)
        words = {"share": _percent(shares[k]), "norm": _percent(norms[k])}
        tip = say("{step}: share {share}, norm {norm}", lang, step=step, **words)
        pen.rect(left, 0, column, BOTTOM, "hover", tip=tip)
    if outside:
        tip = say("outside of the loop: share {share}", lang, share=_percent(outside))
        pen.rect(right + 4, 0, end - right - 4, BOTTOM, "hover", tip=tip)
    entries = [("bar", say("share", lang)), ("outline", say("norm (whole gradient: 100 %)", lang))]
    if not np.isfinite([*shares, *norms, outside]).all():
        entries.append(("lost", say("not finite", lang)))
    _legend(pen, 0, -38, entries)
    if not len(shares):
        notes.append(say("There is no time step.", lang))
    _head(pen, title, -62)
    _notes(pen, notes, BOTTOM + 58)
    return pen.figure(title, told, lang)


def _running(pen: Pen, edges: Sequence[float], shares: Floats, outside: float, lang: str) -> None:
    """The upper panel: the sum so far after each column, as far as all shares are numbers.

    edges  the left edge, the right edge of each column, of all, of the outside column, of the plot
    """
    sums = 100 * np.cumsum(_tame(np.concatenate([[0.0], shares, [0.0, outside, 0.0]])))
    known = int(np.isfinite(sums).argmin()) or len(sums)
    y = _linear(np.concatenate([[0.0, 100.0], sums[:known]]), 64, 0, " %", count=2)
    _grid(pen, y, edges[0], edges[-1], say("running sum", lang))
    points = [(x, y.at(value)) for x, value in zip(edges, sums[:known].tolist(), strict=False)]
    if known > 1:
        pen.line(points, radius=0, colour=0)
    if known == len(sums):
        text = _digits(float(sums[-1])) + " %"
        pen.text(edges[-1] + 8, points[-1][1] + 4, text, "start", SMALL_TEXT, "f0")


def _bar(pen: Pen, y: Scale, left: float, column: float, share: float, norm: float = 0.0) -> None:
    """The filled bar of one column; a mark at the upper edge where there is no number."""
    inset = 0.25 * column if column >= 5 else 0
    if not (math.isfinite(share) and math.isfinite(norm)):
        pen.rect(left + inset, y.end, column - 2 * inset, 7, "lost")
    if math.isfinite(share) and share:
        ends = sorted((y.at(0), y.at(100 * _tamed(share))))
        pen.rect(left + inset, ends[0], column - 2 * inset, max(ends[1] - ends[0], 0.5), "bar")


def _outlines(pen: Pen, y: Scale, lefts: Floats, column: float, norms: Floats) -> None:
    """Hollow bars; where columns are thin, one outline for all of them."""
    inset = 0.1 * column if column >= 5 else 0
    contour: list[tuple[float, float]] = []
    for left, norm in zip(lefts.tolist(), norms.tolist(), strict=True):
        a, b = left + inset, left + column - inset
        top = y.at(100 * _tamed(norm)) if math.isfinite(norm) else y.at(0)
        if not inset:
            contour += [(a, top), (b, top)]
        elif norm and math.isfinite(norm):
            pen.line([(a, y.at(0)), (a, top), (b, top), (b, y.at(0))], "outline", radius=0)
    if contour:
        pen.line(contour, "outline", radius=0, width=1)


def _told_bars(shares: Floats, outside: float, lang: str) -> str:
    known = np.flatnonzero(np.isfinite(shares))
    sentences = [say("{n} time steps.", lang, n=len(shares))]
    if known.size:
        most, least = (int(known[f(shares[known])]) for f in (np.argmax, np.argmin))
        text = "The largest share is {high} at t = {most}, the smallest {low} at t = {least}."
        high, low = _percent(shares[most]), _percent(shares[least])
        sentences.append(say(text, lang, high=high, most=most, low=low, least=least))
    if outside:
        sentences.append(say("From outside of the loop: {share}.", lang, share=_percent(outside)))
    return _with_lost(sentences, len(shares) - known.size, lang)


# ----- lines -------------------------------------------------------------------------------------


def lines(
    series: Mapping[str, ArrayLike],
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
    lang: str = "en",
) -> Figure:
    """One or several curves over 0, 1, 2, ..., each with its name at its end.

        lines({"train": [2.3, 1.1, 0.4], "test": [2.4, 1.5, 1.2]}, "Loss", "epoch", "loss")

    series   arrays (T,), by name; they may differ in length
    x_label  what the position in the arrays means, y_label: what the values are
    log      powers of ten upwards; zeros and what is below them have no place there: the curve is
             broken, and they are marked at the lower edge
    lang     "en" or "ja": the language of the words that are not yours

    NaN and inf are marked at the upper edge (-inf at the lower one). Of more than 800 points the
    smallest and the largest of each short stretch are drawn. Raises FigureError for arrays that are
    not (T,).
    """
    curves = [_Curve(_short(n, 32), _one_axis(v, n), log) for n, v in series.items()]
    kept = [curve.values[curve.drawable] for curve in curves]
    values = np.concatenate([*kept, np.zeros(0)])
    high = max(HIGH, 17 * len(curves))
    y = _powers(values, high, 0) if log else _linear(_tame(values), high, 0)
    steps = max((len(curve.values) for curve in curves), default=0)
    span = [0.0, steps - 1.0] if steps > 1 else [-1.0, 0.0]  # a single point stands by its name
    x = _linear(np.array(span), 0, WIDE, whole=True)
    positions = [(x.at(value), text) for value, text in x.ticks if value >= 0]

    pen = Pen()
    _grid(pen, y, 0, WIDE, y_label)
    pen.line([(0, high), (WIDE, high)])
    places, names = [at for at, _ in positions], [text for _, text in positions]
    _below(pen, places, names, x_label, WIDE, high)
    for k, curve in enumerate(curves):
        _curve(pen, curve, k, x, y, x_label, lang)
    _ends(pen, curves, x, y, lang)
    _head(pen, title, -38)
    notes = [] if values.size else [say("There is nothing to draw.", lang)]
    if not all(curve.drawable.all() for curve in curves):
        text = (
            "marks at the edges: zero or less, or not finite"
            if log
            else "marks at the edges: not finite"
        )
        notes.append(say(text, lang))
    _notes(pen, notes, high + 58)
    told = say(" ", lang).join(_told_curve(curve, x_label, lang) for curve in curves[:6])
    if len(curves) > 6:
        told += say(" ", lang) + say("And {n} more curves.", lang, n=len(curves) - 6)
    return pen.figure(title, told or notes[0], lang)


class _Curve:
    """A named array, and which of its values have a place on the axis."""

    def __init__(self, name: str, values: Floats, log: bool) -> None:
        self.name, self.values = name, values
        self.drawable = np.isfinite(values) & ((values > 0) if log else True)
        self.low = ~self.drawable & (values <= 0)  # marked at the lower edge, others at the upper

    def thinned(self) -> NDArray[np.intp]:
        """Positions to draw, in order: of each short stretch the extremes, and one of a gap."""
        count = len(self.values)
        if count <= POINTS:
            return np.arange(count)
        kept = {0, count - 1}
        edges = np.linspace(0, count, POINTS // 2 + 1).astype(int).tolist()
        for a, b in pairwise(edges):
            inside, gap = (a + np.flatnonzero(m[a:b]) for m in (self.drawable, ~self.drawable))
            if inside.size:
                part = self.values[inside]
                kept |= {int(inside[part.argmin()]), int(inside[part.argmax()])}
            kept |= set(gap[:1].tolist())
        return np.array(sorted(kept))


def _curve(pen: Pen, curve: _Curve, k: int, x: Scale, y: Scale, x_label: str, lang: str) -> None:
    """The line itself, dots where they can be told apart, and marks for what has no place."""
    style = "dashed" if k >= len(COLOURS) else ""  # colours are used again, then with dashes
    picked = curve.thinned()
    seen = curve.drawable[picked]
    breaks = np.flatnonzero(seen[1:] != seen[:-1]) + 1
    for part in np.split(picked, breaks):
        if not part.size or not curve.drawable[part[0]]:
            continue
        points = [(x.at(float(t)), y.at(float(curve.values[t]))) for t in part]
        if len(points) > 1:
            pen.line(points, style, radius=0, colour=k)
        if len(points) == 1 or len(curve.values) <= 60:
            for t, (px, py) in zip(part, points, strict=True):
                tip = _tip(curve.name, [curve.values[t]], _position(x_label, t), lang)
                pen.rect(px - 2.5, py - 2.5, 5, 5, f"f{k % len(COLOURS)}", tip=tip)
    for mask, edge in ((curve.low, y.start - 6), (~curve.drawable & ~curve.low, y.end)):
        _marks(pen, curve, k, np.flatnonzero(mask), x, edge, x_label, lang)


def _marks(
    pen: Pen, curve: _Curve, k: int, where: NDArray[np.intp], x: Scale, edge: float,
    x_label: str, lang: str,
) -> None:  # fmt: skip
    """Small bars at an edge for values without a place; near ones are one bar."""
    places = np.array([x.at(float(t)) for t in where])
    for run in np.split(np.arange(len(where)), np.flatnonzero(np.diff(places) > 8) + 1):
        if run.size:
            first, last = int(where[run[0]]), int(where[run[-1]])
            at = _position(x_label, first, last)
            tip = _tip(curve.name, curve.values[where[run]].tolist(), at, lang)
            a, b = places[run[0]] - 3, places[run[-1]] + 3
            pen.rect(a, edge, b - a, 6, f"f{k % len(COLOURS)}", tip=tip)


def _ends(pen: Pen, curves: Sequence[_Curve], x: Scale, y: Scale, lang: str) -> None:
    """Names at the ends of curves, pushed apart; a thin line leads there where need be."""
    ends: list[tuple[float, float] | None] = []
    for curve in curves:
        drawn = np.flatnonzero(curve.drawable)
        last = int(drawn[-1]) if drawn.size else -1
        ends.append((x.at(last), y.at(float(curve.values[last]))) if drawn.size else None)
    wanted = [y.start if end is None else end[1] for end in ends]
    heights = _apart(wanted, 16, y.end, y.start)
    for k, (curve, end, height) in enumerate(zip(curves, ends, heights, strict=True)):
        name = curve.name if end else say("{name}: nothing to draw", lang, name=curve.name)
        if end and (end[0] < x.end - 1 or abs(end[1] - height) > 3):
            pen.line([end, (x.end + 14, height)], "dashed", radius=0, width=0.75, colour=k)
        pen.text(x.end + 18, height + 4, name, "start", 12, f"f{k % len(COLOURS)}")


def _apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights as wanted, but at least `gap` apart and between low and high.

    _apart([5, 5, 90], 10, 0, 100)      # [5, 15, 90]
    """
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    placed, floor = list(wanted), low
    for k in order:
        floor = placed[k] = max(placed[k], floor)
        floor += gap
    ceiling = high
    for k in reversed(order):
        ceiling = placed[k] = min(placed[k], ceiling)
        ceiling -= gap
    return placed


def _tip(name: str, values: Sequence[float], at: str, lang: str) -> str:
    different = list(dict.fromkeys(map(_digits, values[:1000])))
    text = ", ".join(different[:3]) + (", …" if len(different) > 3 else "")
    return say("{name}: {value} at {place}", lang, name=name, value=text, place=at)


def _position(x_label: str, first: int, last: int | None = None) -> str:
    """Where on the x axis: "t = 3", "t = 3…7"."""
    numbers = str(first) if last in (None, first) else f"{first}…{last}"
    return f"{_short(x_label, 30)} = {numbers}" if x_label else numbers


def _told_curve(curve: _Curve, x_label: str, lang: str) -> str:
    values, last = curve.values, len(curve.values) - 1
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        sentences = [say("{name}: nothing to draw", lang, name=curve.name) + say(".", lang)]
        return _with_lost(sentences, len(values), lang)
    text = "{name}: from {a} at {start} to {b} at {end}; smallest {low}, largest {high}."
    extremes = values[known].min(), values[known].max()
    low, high = (_digits(float(value)) for value in extremes)
    start, end = _position(x_label, 0), _position(x_label, last)
    a, b = _digits(float(values[0])), _digits(float(values[-1]))
    words = {"a": a, "start": start, "b": b, "end": end, "low": low, "high": high}
    sentences = [say(text, lang, name=curve.name, **words)]
    return _with_lost(sentences, len(values) - known.size, lang)


# ----- heat --------------------------------------------------------------------------------------


def heat(
    values: ArrayLike,
    title: str,
    x_label: str,
    y_label: str,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    lang: str = "en",
    signed: bool = False,
) -> Figure:
    """A matrix as a map: the larger the magnitude, the stronger the colour.

        heat(np.eye(3), "Weights", "to", "from", signed=True)

    values        (R, C), row 0 on top
    x_label       what the columns are, y_label: what the rows are
    row_names     R texts, column_names: C texts; otherwise numbers from 0
    lang          "en" or "ja": the language of the words that are not yours
    signed        negative values have a colour of their own; otherwise only the magnitude counts

    NaN and inf are marked. A matrix of more than 4096 values, or with a side above 512, is reduced
    to at most 64 by 64 fields, each the value of largest magnitude in its block; smaller ones tell
    their values as tooltips. Raises FigureError for an array that is not (R, C).
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise FigureError(f"values has shape {matrix.shape}, expected (R, C)")
    rows = _step_names(row_names, matrix.shape[0], "row_names", 24)
    columns = _step_names(column_names, matrix.shape[1], "column_names")
    told = _told_matrix(matrix, lang)
    notes = [] if matrix.size else [say("There is nothing to draw.", lang)]
    reduced = matrix.size > CELLS or max(matrix.shape) > 512
    if reduced and matrix.size:
        size = " × ".join(map(str, matrix.shape))
        matrix, tops, lefts = _blocks(matrix)
        rows, columns = [rows[k] for k in tops], [columns[k] for k in lefts]
        text = "{size} values: of each block the one of largest magnitude is shown"
        notes.append(say(text, lang, size=size))

    pen = Pen()
    (count, across), finite = matrix.shape, np.isfinite(matrix)
    wide, high = (max(6, min(most, 480 // max(n, 1))) for n, most in ((across, 36), (count, 26)))
    tame = _tame(np.where(finite, matrix, 0.0))
    peak = float(np.abs(tame).max(initial=0.0))
    gap = 1 if min(wide, high) >= 12 else 0
    for i, j in np.ndindex(matrix.shape):
        words = {"row": rows[i], "column": columns[j], "value": _digits(float(matrix[i, j]))}
        tip = "" if reduced else say("({row}, {column}): {value}", lang, **words)
        strength = round(float(abs(tame[i, j])) / (peak or 1.0), 2)
        place = (j * wide, i * high, wide - gap, high - gap)
        if not finite[i, j]:
            pen.rect(*place, "lost", tip=tip)
        elif tip or strength:
            pen.rect(*place, "cold" if signed and tame[i, j] < 0 else "heat", strength, tip)
    right, bottom = wide * across, high * count
    pen.line([(0, 0), (right, 0), (right, bottom), (0, bottom), (0, 0)], "grid", radius=0)
    at = [high * (k + 0.5) for k in range(count)]
    for k in _thin([15.0] * count, high):
        pen.text(-8, at[k] + 4, rows[k], "end", SMALL_TEXT, "faint")
    centres = [wide * (k + 0.5) for k in range(across)]
    _below(pen, centres, columns, x_label, right, bottom)
    pen.text(0, -12, _short(y_label), "start", 12, "faint")
    _head(pen, title, -38)
    if matrix.size:
        _ramp(pen, bottom + 66, peak, signed, not finite.all(), lang)
    _notes(pen, notes, bottom + (88 if matrix.size else 66))
    return pen.figure(title, told, lang)


def _blocks(matrix: Floats) -> tuple[Floats, list[int], list[int]]:
    """At most SIDE by SIDE blocks, each its value of largest magnitude, NaN if not all are finite.

    Also the first row and the first column of each block.
    """
    tops, lefts = (np.arange(0, n, -(-n // SIDE)) for n in matrix.shape)
    finite = np.isfinite(matrix)
    known = np.where(finite, matrix, 0.0)
    largest = np.maximum.reduceat(np.maximum.reduceat(known, tops, axis=0), lefts, axis=1)
    smallest = np.minimum.reduceat(np.minimum.reduceat(known, tops, axis=0), lefts, axis=1)
    whole = np.logical_and.reduceat(np.logical_and.reduceat(finite, tops, axis=0), lefts, axis=1)
    values = np.where(largest >= -smallest, largest, smallest)
    return np.where(whole, values, np.nan), tops.tolist(), lefts.tolist()


def _ramp(pen: Pen, y: float, peak: float, signed: bool, lost: bool, lang: str) -> None:
    """The legend of a heat map: what the strongest colours stand for."""
    x = 0.0
    if peak:
        first = _digits(-peak) if signed else "0"
        shades = [k / 5 for k in (range(-5, 6) if signed else range(6))]
        pen.text(x, y, first, "start", SMALL_TEXT, "faint")
        x += text_width(first, SMALL_TEXT) + 6
        for k, shade in enumerate(shades):
            kind = "cold" if shade < 0 else "heat"
            pen.rect(x + 14 * k, y - 10, 14, 12, kind, abs(shade))
        outline = [(x, y - 10), (x + 14 * len(shades), y - 10)]
        pen.line([*outline, *((a, y + 2) for a, _ in outline[::-1]), outline[0]], "grid", radius=0)
        x += 14 * len(shades) + 6
        last = _digits(peak) if signed else say("{peak} (magnitude)", lang, peak=_digits(peak))
        pen.text(x, y, last, "start", SMALL_TEXT, "faint")
        x += text_width(last, SMALL_TEXT) + 22
    else:
        text = say("No value is other than zero.", lang)
        pen.text(x, y, text, "start", SMALL_TEXT, "faint")
        x += text_width(text, SMALL_TEXT) + 22
    if lost:
        _legend(pen, x, y, [("lost", say("not finite (NaN, inf)", lang))])


def _told_matrix(matrix: Floats, lang: str) -> str:
    size = " × ".join(map(str, matrix.shape))
    finite = np.isfinite(matrix)
    sentences = [say("{size} values.", lang, size=size)]
    if finite.any():
        low = np.unravel_index(np.where(finite, matrix, np.inf).argmin(), matrix.shape)
        high = np.unravel_index(np.where(finite, matrix, -np.inf).argmax(), matrix.shape)
        text = "From {low} at ({a}, {b}) to {high} at ({c}, {d}) (row, column)."
        numbers = {"low": _digits(matrix[low]), "high": _digits(matrix[high])}
        (a, b), (c, d) = low, high
        sentences.append(say(text, lang, **numbers, a=a, b=b, c=c, d=d))
    return _with_lost(sentences, int((~finite).sum()), lang)


# ----- axes --------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """From values to pixels: `low` is drawn at `start`, `high` at `end`.

    On a log scale low, high and the ticks are exponents of ten.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.place(math.log10(value) if self.log else _tamed(value))

    def place(self, unit: float) -> float:
        """The pixel of a tick."""
        return self.start + (self.end - self.start) * (unit - self.low) / (self.high - self.low)


def _linear(
    values: Floats, start: float, end: float, unit: str = "", whole: bool = False, count: int = 5
) -> Scale:
    """A scale for values, which are finite, with round ticks; `whole`: only at whole numbers.

    It begins at zero, unless all that is to be seen happens far from there. It ends at a tick if
    one is near.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if not 1e-9 * size < high - low < 0.3 * size:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0
    step = _round_step((high - low) / count)
    if whole:
        step = max(step, 1.0)
    else:
        below, above = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
        low = below if low - below < 0.6 * step else low
        high = above if above - high < 0.6 * step else high
    counts = range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)
    ticks = tuple((k * step, _tick(k * step, step, size) + unit) for k in counts)
    return Scale(low, high, start, end, ticks)


def _powers(values: Floats, start: float, end: float) -> Scale:
    """A scale in powers of ten for values, which are positive and finite."""
    exponents = np.round(np.log10(values), 9) if values.size else np.zeros(1)
    low, high = math.floor(exponents.min()), math.ceil(exponents.max())
    high = max(high, low + 1)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200) if (high - low) / s <= 6)
    counts = range(-(-low // step) * step, high + 1, step)
    ticks = tuple((float(k), "10" + str(k).translate(POWERS)) for k in counts)
    return Scale(low, high, start, end, ticks, log=True)


def _round_step(size: float) -> float:
    """The smallest of 1, 2, 5, 10, ... (times a power of ten) that is not below size."""
    power = 10.0 ** math.floor(math.log10(size))
    return next((m * power for m in (1, 2, 5) if m * power >= size * (1 - 1e-9)), 10 * power)


def _tick(value: float, step: float, size: float) -> str:
    """A number with as many digits as neighbours need to differ."""
    if value == 0:
        return "0"
    if step >= 1e-4 and max(size, step) < 1e6:
        return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
    digits = math.floor(math.log10(abs(value))) - math.floor(math.log10(step) + 1e-9)
    return f"{value:.{max(0, digits)}e}"


def _grid(pen: Pen, y: Scale, left: float, right: float, label: str) -> None:
    """Horizontal lines with their numbers at the left; the label stands above them."""
    for value, text in y.ticks:
        at = y.place(value)
        pen.line([(left, at), (right, at)], "grid")
        pen.text(left - 8, at + 4, text, "end", SMALL_TEXT, "faint")
    pen.text(left, y.end - 12, _short(label), "start", 12, "faint")


def _below(
    pen: Pen, places: Sequence[float], names: Sequence[str], label: str, right: float, bottom: float
) -> None:
    """Names below a plot, as many as there is room for, and the label of the axis."""
    gap = places[1] - places[0] if len(places) > 1 else 1.0
    for k in _thin([text_width(name, SMALL_TEXT) + 8 for name in names], gap):
        pen.text(places[k], bottom + 17, names[k], "middle", SMALL_TEXT, "faint")
    pen.text(right / 2, bottom + 37, _short(label), "middle", 12, "faint")


def _thin(sizes: Sequence[float], gap: float) -> range:
    """Which of evenly spaced labels to print, so that none touch: every one, every second, ...

    _thin([20, 20, 20, 20], gap=15)      # range(0, 4, 2)
    """
    need = max(sizes, default=0) / gap
    steps = (m * 10**power for power in range(12) for m in (1, 2, 5))
    return range(0, len(sizes), next(step for step in steps if step >= need))


def _legend(pen: Pen, x: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
    """Patches of colour with words, from left to right."""
    for kind, text in entries:
        pen.rect(x + 2, y - 10, 12, 12, kind)
        pen.text(x + 21, y, text, "start", SMALL_TEXT, "faint")
        x += 21 + text_width(text, SMALL_TEXT) + 18


def _head(pen: Pen, title: str, y: float) -> None:
    if title:
        pen.text(0, y, _short(title), "start", 15)


def _notes(pen: Pen, notes: Sequence[str], y: float) -> None:
    for k, note in enumerate(notes):
        pen.text(0, y + 16 * k, note, "start", SMALL_TEXT, "faint")


# ----- arrays and numbers ------------------------------------------------------------------------


def _one_axis(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise FigureError(f"{name} has shape {array.shape}, expected one axis")
    return array


def _step_names(names: Sequence[str] | None, count: int, what: str, most: int = 12) -> list[str]:
    """Labels for positions: the names, short and visible, or the numbers 0, 1, ..."""
    if names is None:
        return [str(k) for k in range(count)]
    if len(names) != count:
        raise FigureError(f"{what} holds {len(names)} texts for {count} places")
    return [_short(str(name), most) for name in names]


def _step(k: int, names: Any, steps: Sequence[str]) -> str:
    return f"t = {k}" if names is None else f"t = {k} “{steps[k]}”"


def _short(text: str, most: int = LONGEST) -> str:
    """A text on one line, of at most so many letters; blanks alone are made visible."""
    if text and not text.strip():
        text = "".join(BLANKS.get(letter, "␣") for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _tame(values: Floats) -> Floats:
    """Values that arithmetic cannot overflow with: huge ones are clipped, tiny ones zero.

    NaN and inf become NaN.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    return np.where(np.abs(known) < TINY, 0.0, np.clip(known, -HUGE, HUGE))


def _tamed(value: float) -> float:
    """The same for one number."""
    if not math.isfinite(value):
        return math.nan
    return 0.0 if abs(value) < TINY else min(max(value, -HUGE), HUGE)


def _digits(value: float) -> str:
    """Three significant digits: '0.123', '1.2e-05', 'NaN', 'inf'."""
    return "NaN" if math.isnan(value) else f"{value:.3g}"


def _percent(share: float) -> str:
    """A share as people read it: '12.3 %'."""
    return f"{_digits(100 * float(share))} %"


def _with_lost(sentences: list[str], lost: int, lang: str) -> str:
    if lost:
        sentences.append(say("Not finite: {n}.", lang, n=lost))
    return say(" ", lang).join(sentences)
