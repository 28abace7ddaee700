"""The kinds of task: which steps are given an input, which outputs are read."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..canvas.pen import Figure, Label, Pen, Point, text_width
from ..canvas.words import say
from ..errors import FigureError

WIDE, HIGH = 44, 30  # of a box
ACROSS, UP = 76, 64  # from step to step; from row to row
BOTH, LEAN = 104, 16  # from step to step with two directions; how far apart their boxes stand
COLUMNS, GAP = 3, 56  # panels in a row, and between them


class Task(NamedTuple):
    """One kind: its steps, counted from 1; what it is for; how the library gives its result."""

    title: str
    use: str
    code: str  # as one writes it
    steps: int
    xs: tuple[int, ...]
    ys: tuple[int, ...]
    fed_back: bool = False  # each output is the next input
    decoder: int = 0  # from this step on it is another network
    both: bool = False  # a second row of states, from the future


TASKS = {
    "one-to-one": Task(
        "one to one", "an image and its label: no time, no recurrence",
        "tg.Linear(…)(x)", 1, (1,), (1,),
    ),
    "one-to-many": Task(
        "one to many", "writing text or music from a first note",
        "tg.generate(cell, x, 4, …).outputs", 4, (1,), (1, 2, 3, 4), fed_back=True,
    ),
    "many-to-one": Task(
        "many to one", "the sentiment of a sentence", "rnn(x).last", 4, (1, 2, 3, 4), (4,)
    ),
    "many-to-many": Task(
        "many to many, step by step", "tagging words, forecasting a series",
        "rnn(x).outputs", 4, (1, 2, 3, 4), (1, 2, 3, 4),
    ),
    "encoder-decoder": Task(
        "many to many, encoder and decoder", "translation: first read all, then write",
        "tg.generate(…, state=rnn(x).state)", 5, (1, 2, 3), (4, 5), fed_back=True, decoder=4,
    ),
    "bidirectional": Task(
        "many to many, bidirectional", "tagging words with what comes after them",
        "tg.BiRNN(…)(x).outputs", 4, (1, 2, 3, 4), (1, 2, 3, 4), both=True,
    ),
}  # fmt: skip


def tasks(which: str | None = None, lang: str = "en") -> Figure:
    """The kinds of task that a recurrent network is used for, as little unrolled networks.

        tasks().save("tasks.svg")
        tasks("many-to-one", lang="ja")

    which   one-to-one, one-to-many, many-to-one, many-to-many, encoder-decoder or bidirectional;
            None: all of them side by side
    lang    "en" or "ja"
    Each stands with a typical use and with the line that reads its result. Raises FigureError for
    another name.
    """
    if which is not None and which not in TASKS:
        raise FigureError(f"no task {which!r}: expected one of {', '.join(TASKS)}")
    shown = list(TASKS.values()) if which is None else [TASKS[which]]
    pen, top = Pen(), 0.0
    wide = [max(_width(task, lang) for task in shown[k::COLUMNS]) for k in range(len(shown))]
    for row in range(0, len(shown), COLUMNS):
        together = shown[row : row + COLUMNS]
        floor, left = top + 46 + UP * max(map(_top, together)), 0.0
        for task, width in zip(together, wide, strict=False):
            middle = left + width / 2
            pen.text(middle, top, say(task.title, lang), size=15)
            Unrolled(task, middle, floor, lang).draw(pen)
            pen.text(middle, floor + 56, say(task.use, lang), size=11, kind="faint")
            pen.text(middle, floor + 78, task.code)
            left += width + GAP
        top = floor + 78 + 66
    title = say("Kinds of task", lang) if which is None else say(shown[0].title, lang)
    return pen.figure(title, "\n".join(_told(task, lang) for task in shown), lang)


def _top(task: Task) -> int:
    """The row of y: above x and h, or above x and two rows of h."""
    return 3 if task.both else 2


def _width(task: Task, lang: str) -> float:
    """How wide a panel is: its boxes or its words."""
    words = [text_width(say(task.title, lang), 15), text_width(say(task.use, lang), 11)]
    boxes = (task.steps - 1) * (BOTH if task.both else ACROSS) + 2 * WIDE
    return max(boxes, text_width(task.code), *words)


class Unrolled:
    """One little network around `middle`; the row of x stands at `floor`."""

    def __init__(self, task: Task, middle: float, floor: float, lang: str) -> None:
        self.task, self.lang, self.floor = task, lang, floor
        self.across = BOTH if task.both else ACROSS
        self.first = middle - (task.steps - 1) / 2 * self.across  # the middle of step 1

    def at(self, step: int, row: int) -> Point:
        """The middle of a box; with two directions their rows stand to the left and right."""
        lean = {1: -LEAN, 2: LEAN}.get(row, 0) if self.task.both else 0
        return self.first + (step - 1) * self.across + lean, self.floor - row * UP

    def box(
        self, pen: Pen, step: int, row: int, label: Label, tip: str, colour: Any = None
    ) -> None:
        """A box of a step."""
        x, y = self.at(step, row)
        kind = "box" if colour is None else "box thick"
        left, top = x - WIDE / 2, y - HIGH / 2
        pen.box(left, top, label, WIDE, HIGH, "", kind, tip=tip, colour=colour)

    def up(self, pen: Pen, step: int, low: int, high: int) -> None:
        """An arrow straight up to the upper box, or from the lower one: past what is between."""
        (x0, y0), (x1, y1) = self.at(step, low), self.at(step, high)
        x = x0 if low else x1
        pen.line([(x, y0 - HIGH / 2), (x, y1 + HIGH / 2)], arrow=True)

    def draw(self, pen: Pen) -> None:
        """Arrows and boxes of all steps."""
        task = self.task
        for step in range(1, task.steps + 1):
            for row in (1, 2) if task.both else (1,):
                self.hidden(pen, step, row)
                if step in task.xs:
                    self.up(pen, step, 0, row)
                if step in task.ys:
                    self.up(pen, step, row, _top(task))
            if step in task.xs:
                self.box(pen, step, 0, _numbered("x", step, task), say("input", self.lang))
            if step in task.ys:
                place = step - task.ys[0] + 1 if task.decoder else step
                label = _numbered("y", place, task)
                self.box(pen, step, _top(task), label, say("an output that is read", self.lang))
            if task.fed_back and step in task.ys and step + 1 in task.ys:
                self.back(pen, step)

    def hidden(self, pen: Pen, step: int, row: int) -> None:
        """A state, and the arrow that brings it to the next step (or to the one before)."""
        task = self.task
        decoding = 0 < task.decoder <= step
        letter = "s" if decoding else ("→h" if row == 1 else "←h") if task.both else "h"
        place = step - task.decoder + 1 if decoding else step
        tip = say("another network" if decoding or row == 2 else "the same weights", self.lang)
        self.box(pen, step, row, _numbered(letter, place, task), tip, int(decoding or row == 2))
        if step < task.steps:
            (x0, y), (x1, _) = self.at(step, row), self.at(step + 1, row)
            line = [(x0 + WIDE / 2, y), (x1 - WIDE / 2, y)]
            pen.line(line if row == 1 else line[::-1], arrow=True)

    def back(self, pen: Pen, step: int) -> None:
        """An output becomes the next step's input."""
        (x0, y0), (x1, y1) = self.at(step, 2), self.at(step + 1, 1)
        lane, low = (x0 + x1) / 2, y1 + HIGH / 2 + 22
        way = [(x0 + WIDE / 2, y0), (lane, y0), (lane, low), (x1, low), (x1, y1 + HIGH / 2)]
        pen.line(way, "edge dashed", True, tip=say("an output is the next input", self.lang))


def _numbered(letter: str, step: int, task: Task) -> Label:
    """A letter with its step, where there is more than one."""
    return (letter, str(step)) if task.steps > 1 else letter


def _told(task: Task, lang: str) -> str:
    """A panel in words."""
    return say(
        "{title}: {steps} steps, inputs at {xs}, outputs read at {ys}; {use}; {code}", lang,
        title=say(task.title, lang), steps=task.steps, xs=say(", ", lang).join(map(str, task.xs)),
        ys=say(", ", lang).join(map(str, task.ys)), use=say(task.use, lang), code=task.code,
    )  # fmt: skip
