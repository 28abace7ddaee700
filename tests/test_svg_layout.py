"""The judge of layouts: each kind of problem is found, and a tidy picture has none."""

import pytest
from svg_layout import labels, problems

from tinygrad_rnn.canvas.pen import Pen


def drawn(pen: Pen) -> str:
    return pen.figure("a title", "a description").svg


def tidy() -> Pen:
    """Boxes with a subscript and a second line, nested in a frame, an arrow, a free label."""
    pen = Pen()
    pen.box(-10, -30, width=300, height=90, kind="frame")
    pen.box(0, 0, ("h", "3"), width=50, below="(N, H)", heat=0.5)
    pen.box(90, 0, "tanh", height=30, colour=1)
    pen.line([(50, 15), (90, 15)], arrow=True)
    pen.text(0, -10, "forward", "start")
    return pen


def test_a_tidy_picture_has_no_problem():
    assert problems(drawn(tidy())) == []
    assert problems(drawn(Pen())) == []


def shifted(svg: str) -> str:
    """The same drawing, looked at through a window that is too far to the right."""
    start = svg.index('viewBox="') + len('viewBox="')
    end = svg.index(" ", start)
    return svg[:start] + str(float(svg[start:end]) + 60) + svg[end:]


def box_on_box(pen: Pen) -> None:
    pen.box(60, 20, "x", width=60)


def box_in_box(pen: Pen) -> None:
    pen.box(92, 2, width=20, height=20)


def label_on_label(pen: Pen) -> None:
    pen.text(20, -8, "backward", "start")


def subscript_on_label(pen: Pen) -> None:
    pen.text(-12, -10, ("", "0000"), "start")


def label_on_an_edge(pen: Pen) -> None:
    pen.text(85, 20, "sum", "middle", size=9)


def label_ends_on_an_edge(pen: Pen) -> None:
    pen.text(140, 20, "of", "end")


def label_above_an_edge(pen: Pen) -> None:
    pen.text(25, 2, "ab", size=8)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (box_on_box, 'box at (60, 20)'),
        (box_in_box, "box at (90, 0) and box at (92, 2) overlap"),
        (label_on_label, '"forward"'),
        (subscript_on_label, 'label "0000"'),
        (label_on_an_edge, 'label "sum" at (75, 13) lies partly on box'),
        (label_ends_on_an_edge, 'label "of"'),
        (label_above_an_edge, 'label "ab"'),
    ],
)  # fmt: skip
def test_each_kind_of_problem_is_found(spoil, said):
    pen = tidy()
    spoil(pen)
    found = problems(drawn(pen))
    assert any(said in line for line in found), found
    assert problems(drawn(pen), allow=(" ",)) == []  # all are sentences, and all can be allowed


@pytest.mark.parametrize("kind", ["frame", "heat", "bar", "ground"])
def test_what_is_no_box_may_overlap(kind):
    pen = tidy()
    pen.rect(40, 5, 70, 20, kind)
    assert problems(drawn(pen)) == []
    pen.rect(40, 5, 70, 20, "box")
    assert problems(drawn(pen)) != []


@pytest.mark.parametrize(
    "draw",
    [
        lambda pen: pen.box(0, 0, width=20, height=20),
        lambda pen: pen.rect(0, 0, 20, 20, "bar"),
        lambda pen: pen.text(0, 0, "a", "start"),
        lambda pen: pen.line([(0, 0), (20, 20)]),
    ],
)
def test_everything_is_within_the_picture(draw):
    pen = Pen()
    draw(pen)
    pen.text(200, 0, "far", "end")
    svg = drawn(pen)
    assert problems(svg) == []
    assert any("outside" in line for line in problems(shifted(svg)))


def test_what_cannot_be_measured_is_said():
    svg = drawn(tidy())
    assert problems(svg.replace("</svg>", '<circle r="3"/></svg>')) != []
    assert problems(svg.replace("<text ", '<text transform="rotate(90)" ', 1)) != []


def test_labels_are_all_texts():
    found = labels(drawn(tidy()))
    assert {"a title", "a description", "h3", "(N, H)", "forward"} <= set(found)
