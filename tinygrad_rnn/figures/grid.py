"""Grid: where everything stands in an unrolled network: columns of time, rows of boxes, frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..canvas.pen import text_width
from ..graph import Key
from .lanes import Lanes, Row

WIDE, PITCH = 60, 112  # of a box, and from one to the next
TALL = {"lane": 42, "input": 30, "head": 36, "merge": 24}  # boxes of each kind of row
BUS = 24  # from the line of one weight to the next
GAP = 34  # between rows, besides those lines
ELLIPSIS = -1  # stands for the steps that are left out

Item = int  # a time step that is shown, or ELLIPSIS


class Grid:
    """Rows and columns of a picture, in pixels; y grows downwards, and the inputs stand at 0.

    items  the steps shown of the loops that begin at a column (`offset`)
    x      the left side of each shown step's box, by offset and item
    left   where the weights of an offset stand
    top    of each level's boxes
    buses  lines under a row: its weights, and what it reads from far away
    at     in which frame each box is reached, `count` frames in all
    """

    def __init__(
        self,
        lanes: Lanes,
        most: int,
        label: Callable[[Key], str],
        title: Callable[[Row], list[str]],
    ) -> None:
        self.rows = lanes.rows
        self.items: dict[int, list[Item]] = {}
        self.x: dict[tuple[int, Item], float] = {}
        self.left: dict[int, float] = {}
        self.top: dict[int, float] = {}
        self.buses: dict[Row, list[Any]] = {}
        self.at: dict[tuple[Row, Item], int] = {}
        self._columns(most, label, title)
        self._heights()
        self._frames()

    def _columns(
        self, most: int, label: Callable[[Key], str], title: Callable[[Row], list[str]]
    ) -> None:
        """From left to right: the weights of the loops that begin here, then their steps."""
        x = 0.0
        for offset in sorted({row.offset for row in self.rows}):
            rows = [row for row in self.rows if row.offset == offset]
            steps = self.steps(offset)
            shown = list(range(steps))
            if steps > most:
                shown = [*shown[: most // 2], ELLIPSIS, *shown[steps - (most - most // 2) :]]
            self.items[offset], self.left[offset] = shown, x
            wide = [text_width(label(key)) + 14 for row in rows for key in row.weights]
            for row in rows:  # two lines, or one where an arrow comes in from the left
                lines = title(row)
                wide += [text_width(", ".join(lines))] if row.before else map(text_width, lines)
            x += max([*wide, 60]) + 64
            for item in shown:
                self.x[offset, item] = x
                x += PITCH
        self.right = x - PITCH + WIDE

    def _heights(self) -> None:
        """From the bottom up: boxes, and above them room for the lines under the next row."""
        for row in self.rows:
            far = [("state", source) for source in row.before if not self.adjacent(row, source)]
            whole = [("all", source) for source in row.everything]
            self.buses[row] = [("weight", key) for key in row.weights] + far + whole
        y = 0.0
        for level in range(max(row.level for row in self.rows) + 1):
            y -= max([TALL[row.kind] for row in self.rows if row.level == level], default=0)
            self.top[level] = y
            above = [len(self.buses[row]) for row in self.rows if row.level == level + 1]
            y -= GAP + BUS * max(above, default=0)

    def _frames(self) -> None:
        """A box is reached when all that it reads is there; an input when it is needed."""
        for row in self.rows:
            start = [self.at[other, self.shown_as(other, t)] for other, t in row.before]
            whole = [self.at[other, item] for other in row.everything for item in self.shown(other)]
            before = max([-1, *start, *whole])
            for item in self.shown(row):
                below = max([self.at.get((other, item), -1) for other in row.below], default=-1)
                if row.kind == "lane":
                    below = before = 1 + max(before, below)
                self.at[row, item] = below
        self.count = 1 + max(self.at.values())
        for row in self.rows:
            if row.kind == "input":
                readers = [other for other in self.rows if row in other.below]
                for item in self.shown(row):
                    times = [self.at[r, item] for r in readers if (r, item) in self.at]
                    self.at[row, item] = min(times, default=0)

    def back(self, row: Row, item: Item) -> int:
        """The frame in which the gradient arrives: after all frames forward, and the loss."""
        return 2 * self.count - self.at[row, item]

    def steps(self, offset: int) -> int:
        """The number of time steps of the loops that begin at a column."""
        return max(row.steps for row in self.rows if row.offset == offset)

    def shown(self, row: Row) -> list[Item]:
        """The items of a row, in the order of travel."""
        items = [t for t in self.items[row.offset] if t == ELLIPSIS or t in row.used]
        return items[:: -1 if row.reverse else 1]

    def shown_as(self, row: Row, t: int) -> Item:
        """The item that stands for a time step."""
        return t if (row.offset, t) in self.x else ELLIPSIS

    def edge(self, row: Row, t: int) -> float:
        """The left side of a time step's box."""
        return self.x[row.offset, self.shown_as(row, t)]

    def bottom(self, row: Row) -> float:
        """Where a row's boxes end."""
        return self.top[row.level] + TALL[row.kind]

    def adjacent(self, row: Row, source: tuple[Row, int]) -> bool:
        """Whether a state is handed over between neighbours: an arrow from box to box will do."""
        other, t = source
        ends = other.offset + other.steps == row.offset
        return other.level == row.level and ends and t == other.steps - 1 and not row.reverse

    def around(self, row: Row, item: Item, y: float, level: int) -> list[tuple[float, float]]:
        """The way from the top of a box up to height y, around boxes below `level` in the way."""
        x, top = self.x[row.offset, item], self.top[row.level]
        middle = x + WIDE / 2
        between = [
            other
            for other in self.rows
            if row.level < other.level < level
            and other.offset == row.offset
            and (other, item) in self.at
        ]
        if not between:
            return [(middle, top), (middle, y)]
        side = x - 10 if row.kind == "input" else x + WIDE + 10 + 4 * row.level
        turn = y + 9 if level in self.top else y
        way = [(middle, top), (middle, top - 10), (side, top - 10), (side, turn), (middle, turn)]
        return [*way, (middle, y)] if turn != y else way
