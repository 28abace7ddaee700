"""Layered: places for boxes and lines of a graph: layers, few crossings, straight lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..canvas.pen import Point


class Link(NamedTuple):
    """A line from one box to another: by their numbers, result and argument."""

    source: int
    target: int
    out: int = 0
    into: int = 0
    tip: str = ""


class Segment(NamedTuple):
    """A piece of a line between neighbouring layers, and where on its boxes it leaves and arrives.

    `lean` and `reach` go from -1/2, the beginning of a box's side, to 1/2.
    """

    upper: int
    lower: int
    lean: float
    reach: float


GAP = 18  # between boxes of a layer
APART = 9  # between lines that reach the same box


class Layout:
    """Places for boxes, in layers from the sources on, and ways for the lines between them.

        layout = Layout([(40, 30)] * 3, [Link(0, 1), Link(1, 2), Link(0, 2)])
        layout.at[0], layout.ways[2]      # a box's middle; the points of a line

    Sizes and places are (along, across): along grows from layer to layer. Boxes are numbered so
    that links lead to higher numbers. `first` and `last`: boxes that stand alone in the first and
    in the last layer, in this order. `counts`: how many results a box has; `ordered`: the boxes
    whose lines arrive in the order of their arguments. (Layers: Sugiyama 1981.)
    """

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        links: Sequence[Link],
        first: Sequence[int] = (),
        last: Sequence[int] = (),
        counts: Sequence[int] = (),
        ordered: Iterable[int] = (),
    ) -> None:
        self.sizes, self.links, self.ordered = list(sizes), list(links), set(ordered)
        self.counts = list(counts) or [1] * len(sizes)
        self.rank = _ranks(len(sizes), self.links, first, last)
        self.chains = self._chains()
        self.layers = self._layers(first, last)
        self._uncross(bool(first), bool(last))
        self.across = self._settle()
        self._put()

    def _chains(self) -> list[list[int]]:
        """For each link the items that it passes: the source, a point in each layer, the target.

        Lines of one value share their points as long as they can; parallel ones do not.
        """
        self.items = list(self.rank)  # the layer of each item: boxes, then points
        shared: dict[tuple[int, int, int, int], int] = {}
        twins: dict[tuple[int, int, int], int] = {}
        chains = []
        for link in self.links:
            pair = (link.source, link.out, link.target)
            twin = twins[pair] = twins.get(pair, -1) + 1
            chain = [link.source]
            for layer in range(self.rank[link.source] + 1, self.rank[link.target]):
                key = (link.source, link.out, twin, layer)
                if key not in shared:
                    shared[key] = len(self.items)
                    self.items.append(layer)
                chain.append(shared[key])
            chains.append([*chain, link.target])
        return chains

    def _layers(self, first: Sequence[int], last: Sequence[int]) -> list[list[int]]:
        """The items of each layer, and the segments behind each."""
        count = max(self.items, default=0) + 1
        layers: list[list[int]] = [[] for _ in range(count)]
        for item, layer in enumerate(self.items):
            layers[layer].append(item)
        for fixed, layer in ((first, 0), (last, count - 1)):
            layers[layer] = list(fixed) or layers[layer]
        self.segments: list[list[Segment]] = [[] for _ in layers]
        for link, chain in zip(self.links, self.chains, strict=True):
            lean = (link.out + 1) / (self.counts[link.source] + 1) - 0.5
            reach = 0.2 * min(link.into, 2) - 0.2 if link.target in self.ordered else 0.0
            for a, b in itertools.pairwise(chain):
                ends = lean if a == link.source else 0.0, reach if b == link.target else 0.0
                self.segments[self.items[a]].append(Segment(a, b, *ends))
        return layers

    def _uncross(self, first: bool, last: bool) -> None:
        """Find an order of each layer with few crossings: from several starts, keep the best."""
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        fixed = {0} if first else set()
        fixed |= {len(self.layers) - 1} if last else set()
        few = sum(map(len, self.segments)) < 300
        for start in range(8 if few else 1):
            rng = np.random.default_rng(start)
            if start:
                self.layers = [
                    layer if k in fixed else [layer[i] for i in rng.permutation(len(layer))]
                    for k, layer in enumerate(best)
                ]
            for sweep in range(24):
                if not fewest:
                    break
                self._sweep(sweep, fixed)
                crossings = self._crossings()
                if crossings < fewest:
                    best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers, self.crossings = best, fewest

    def _sweep(self, sweep: int, fixed: set[int]) -> None:
        """Put each item near the middle of what it is joined to in the layer before, or after."""
        count, down = len(self.layers), sweep % 2 == 0
        # every other time equal wishes change places: otherwise some knots never open
        turn = -1 if sweep % 4 > 1 else 1
        for k in range(1, count) if down else range(count - 2, -1, -1):
            if k in fixed:
                continue
            near = self.layers[k - 1 if down else k + 1]
            place = {item: p for p, item in enumerate(near)}
            met: dict[int, list[float]] = {}
            for a, b, lean, reach in self.segments[k - 1 if down else k]:
                shift = lean - reach
                here, there = (b, place[a] + shift) if down else (a, place[b] - shift)
                met.setdefault(here, []).append(there)
            own = {item: float(p) for p, item in enumerate(self.layers[k])}
            wish = {i: sum(met[i]) / len(met[i]) if i in met else own[i] for i in own}
            ordered = sorted((wish[i], turn * own[i], i) for i in own)
            self.layers[k] = [item for _, _, item in ordered]

    def _crossings(self) -> int:
        """How many pairs of segments cross."""
        total = 0
        for k, segments in enumerate(self.segments[:-1]):
            upper = {item: p for p, item in enumerate(self.layers[k])}
            lower = {item: p for p, item in enumerate(self.layers[k + 1])}
            pairs = np.array(
                [(upper[a] + lean, lower[b] + reach) for a, b, lean, reach in segments]
            )
            if len(pairs):
                a, b = pairs.T
                before = (a[:, None] < a) & (b[:, None] > b)
                total += int(before.sum())
        return total

    def _settle(self) -> list[float]:
        """Where the items are, across: near their neighbours, in their order, apart."""
        thick = [self.sizes[i][1] if i < len(self.sizes) else 4 for i in range(len(self.items))]
        at = [0.0] * len(self.items)
        steps: list[list[float]] = []
        for layer in self.layers:
            places = [0.0]
            for a, b in itertools.pairwise(layer):
                places.append(places[-1] + (thick[a] + thick[b]) / 2 + GAP)
            steps.append(places)
            for item, place in zip(layer, places, strict=False):
                at[item] = place - places[-1] / 2
        ahead: list[list[tuple[int, float, float]]] = [[] for _ in self.items]
        back: list[list[tuple[int, float, float]]] = [[] for _ in self.items]
        boxes = len(self.sizes)
        for a, b, lean, _ in itertools.chain(*self.segments):
            weight = 1.0 + 2 * (a >= boxes) + 2 * (b >= boxes)  # long lines want to be straight
            ahead[a].append((b, -lean * thick[a], weight))
            back[b].append((a, lean * thick[a], weight))
        count = len(self.layers)
        for sweep in range(60):
            down, both = sweep % 2 == 0 or sweep >= 40, sweep >= 16
            for k in range(count) if down else range(count - 1, -1, -1):
                wishes, weights = [], []
                for item in self.layers[k]:
                    near = (back[item] if down or both else []) + (
                        ahead[item] if both or not down else []
                    )
                    if sweep >= 40 and item >= boxes:  # level, and one bend at the end
                        near = [(i, s, 20 * w) for i, s, w in back[item]]
                    weight = sum(w for _, _, w in near)
                    wish = sum((at[i] + s) * w for i, s, w in near) / weight if near else at[item]
                    wishes.append(wish)
                    weights.append(weight or 0.1)
                for item, place in zip(
                    self.layers[k], _nearest(wishes, weights, steps[k]), strict=True
                ):
                    at[item] = place
        return at

    def _put(self) -> None:
        """Places along, and the points of every line."""
        boxes = len(self.sizes)
        thick = [max([self.sizes[i][0] for i in layer if i < boxes], default=0)
                 for layer in self.layers]  # fmt: skip
        starts, place = [], 0.0
        for k, size in enumerate(thick):
            starts.append(place)
            moves = [abs(self.across[a] - self.across[b]) for a, b, _, _ in self.segments[k]]
            place += size + min(34 + 0.14 * max(moves, default=0), 90)
        self.length = starts[-1] + thick[-1]
        middle = [start + size / 2 for start, size in zip(starts, thick, strict=True)]
        self.at = [(middle[self.rank[k]], self.across[k]) for k in range(boxes)]
        arrive = self._arrivals()
        self.ways: list[list[Point]] = []
        twins: dict[tuple[int, int, int], int] = {}
        total: dict[tuple[int, int, int], int] = {}
        for link in self.links:
            pair = link.source, link.out, link.target
            total[pair] = total.get(pair, 0) + 1
        for j, (link, chain) in enumerate(zip(self.links, self.chains, strict=True)):
            pair = link.source, link.out, link.target
            twin = twins[pair] = twins.get(pair, -1) + 1
            a, b = link.source, link.target
            spread = self.sizes[a][1] * ((link.out + 1) / (self.counts[a] + 1) - 0.5)
            leave = self.across[a] + spread + (twin - (total[pair] - 1) / 2) * APART
            ka, kb = self.rank[a], self.rank[b]
            points = [
                (self.at[a][0] + self.sizes[a][0] / 2, leave),
                (starts[ka] + thick[ka], leave),
            ]
            for item in chain[1:-1]:
                k = self.items[item]
                points += [(starts[k], self.across[item])]
                points += [(starts[k] + thick[k], self.across[item])]
            points += [(starts[kb], arrive[j]), (self.at[b][0] - self.sizes[b][0] / 2, arrive[j])]
            kept = [p for p, q in itertools.pairwise(points) if abs(q[0] - p[0]) > 0.5]
            self.ways.append([*kept, points[-1]])

    def _arrivals(self) -> list[float]:
        """Where each line reaches its box: side by side, in the order in which they come."""
        arrive = [0.0] * len(self.links)
        reach: dict[int, list[int]] = {}
        for j, link in enumerate(self.links):
            reach.setdefault(link.target, []).append(j)
        for target, lines in reach.items():
            if target in self.ordered:
                lines.sort(key=lambda j: self.links[j].into)
            else:
                lines.sort(key=lambda j: (self.across[self.chains[j][-2]], self.links[j][2:4]))
            size = self.sizes[target][1]
            step = min(APART, 0.8 * size / len(lines))
            for k, j in enumerate(lines):
                arrive[j] = self.across[target] + (k - (len(lines) - 1) / 2) * step
        return arrive


def _ranks(count: int, links: list[Link], first: Sequence[int], last: Sequence[int]) -> list[int]:
    """Layers by the longest path; what depends on no input waits until it is used."""
    start = set(first)
    into: list[list[Link]] = [[] for _ in range(count)]
    out: list[list[Link]] = [[] for _ in range(count)]
    for link in links:
        into[link.target].append(link)
        out[link.source].append(link)
    rank = [0 if k in start else 1 if first else 0 for k in range(count)]
    loose = [False] * count
    for k in range(count):
        rank[k] = max([rank[k], *[rank[link.source] + 1 for link in into[k]]])
        loose[k] = k not in start and all(
            loose[link.source] and (len(out[link.source]) == 1 or not into[link.source])
            for link in into[k]
        )
    end = max(rank, default=0)
    if last:
        end = max([rank[k] for k in range(count) if k not in last], default=0) + 1
    for k in reversed(range(count)):
        if k in last:
            rank[k] = end
        elif loose[k] and out[k]:
            rank[k] = min(rank[link.target] for link in out[k]) - 1
    return rank


def _nearest(wishes: list[float], weights: list[float], steps: list[float]) -> list[float]:
    """The places nearest to the wishes that keep order and distances: pool adjacent violators."""
    blocks: list[list[float]] = []  # weighted sum, weight, how many
    for wish, weight, step in zip(wishes, weights, steps, strict=False):
        blocks.append([(wish - step) * weight, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [x + y for x, y in zip(blocks[-1], last, strict=True)]
    flat = [total / weight for total, weight, count in blocks for _ in range(int(count))]
    return [place + step for place, step in zip(flat, steps, strict=False)]
