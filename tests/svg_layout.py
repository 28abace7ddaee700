"""Does anything in a picture cover what it should not? `problems(svg)` says so, in words.

    assert problems(figure.svg) == []

Labels are measured with the pen's own estimate; tests/test_page.py measures some in a browser.
"""

import re
import xml.etree.ElementTree as ET
from typing import NamedTuple

from tinygrad_rnn.canvas.pen import SIZE, text_width

NEAR = 0.5  # things may touch: coordinates are rounded


class Area(NamedTuple):
    name: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Area") -> bool:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide > NEAR and high > NEAR

    def within(self, other: "Area", near: float = NEAR) -> bool:
        return (
            self.left >= other.left - near
            and self.top >= other.top - near
            and self.right <= other.right + near
            and self.bottom <= other.bottom + near
        )

    def __str__(self) -> str:
        return f"{self.name} at ({self.left:.0f}, {self.top:.0f})"


def problems(svg: str, allow: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with the layout of a picture made by Pen, a sentence for each finding.

        problems(figure.svg)      # ['label "x" at (3, 4) lies partly on box at (0, 0)']

    Found are: boxes that overlap, labels that overlap, labels partly on a box, things outside the
    picture, and elements that this function cannot measure. A finding that contains one of the
    strings in `allow` is left out.
    """
    root = ET.fromstring(svg)
    x, y, wide, high = map(float, root.attrib["viewBox"].split())
    view = Area("the picture", x, y, x + wide, y + high)
    rects, labels, paths, found = _parts(root)
    boxes = [area for classes, area in rects if "box" in classes]

    found += [f"{a} and {b} overlap" for a, b in _meeting(boxes)]
    found += [f"{a} and {b} overlap" for a, b in _meeting(labels)]
    for label in labels:
        for box in boxes:
            if label.meets(box) and not label.within(box):
                found.append(f"{label} lies partly on {box}")
    for area in [*(area for _, area in rects), *labels, *paths]:
        if not area.within(view):
            found.append(f"{area} reaches outside the picture")
    return [line for line in found if not any(word in line for word in allow)]


def labels(svg: str) -> list[str]:
    """All texts in a picture: labels, tooltips, title and description."""
    texts = ("".join(part.itertext()) for part in ET.fromstring(svg).iter() if _text_like(part))
    return list(texts)


def _text_like(part: ET.Element) -> bool:
    return _name(part) in ("text", "title", "desc")


def _meeting(areas: list[Area]) -> list[tuple[Area, Area]]:
    """Pairs that overlap; sorted by their left edge, so that far ones need not be compared."""
    found, areas = [], sorted(areas, key=lambda area: area.left)
    for k, a in enumerate(areas):
        for b in areas[k + 1 :]:
            if b.left > a.right:
                break
            if a.meets(b):
                found.append((a, b))
    return found


def _parts(root: ET.Element) -> tuple[list[tuple[list[str], Area]], list[Area], list[Area], list]:
    rects, texts, paths, unknown = [], [], [], []
    for part in root.iter():
        name = _name(part)
        if "transform" in part.attrib:
            unknown.append(f"{name} has a transform: not measured")
        if name == "rect":
            classes = part.get("class", "").split()
            x, y, wide, high = (float(part.get(n, 0)) for n in ("x", "y", "width", "height"))
            rects.append((classes, Area(classes[0] if classes else name, x, y, x + wide, y + high)))
        elif name == "text":
            texts.append(_label(part))
        elif name == "path":
            paths.append(_path(part))
        elif name not in ("svg", "g", "title", "desc", "style", "tspan"):
            unknown.append(f"{name}: an element that is not measured")
    return rects, texts, paths, unknown


def _label(part: ET.Element) -> Area:
    size = _size(part, SIZE)
    wide = text_width(part.text or "", size)
    for span in part:
        wide += text_width(span.text or "", _size(span, size)) + text_width(span.tail or "", size)
    x, y = float(part.get("x", 0)), float(part.get("y", 0))
    left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[part.get("text-anchor", "start")]
    text = "".join(part.itertext())
    # Letters reach less far up than the size says; a hanging g or a subscript is a quarter of it.
    return Area(f'label "{text}"', left, y - 0.75 * size, left + wide, y + 0.25 * size)


def _path(part: ET.Element) -> Area:
    numbers = [float(n) for n in re.findall(r"-?[\d.]+(?:e-?\d+)?", part.get("d", ""))]
    xs, ys = numbers[0::2], numbers[1::2]
    return Area("path", min(xs), min(ys), max(xs), max(ys))


def _size(part: ET.Element, otherwise: float) -> float:
    found = re.search(r"font-size:\s*([\d.]+)px", part.get("style", ""))
    return float(found.group(1)) if found else float(part.get("font-size", otherwise))


def _name(part: ET.Element) -> str:
    return part.tag.rsplit("}", 1)[-1]
