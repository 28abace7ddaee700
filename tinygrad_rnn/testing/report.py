"""What a check found, and how it is told: at most 25 lines, and a reproduction to paste."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import TinygradError
from .numeric import Derivative


class GradientError(TinygradError, AssertionError):
    """A gradient is wrong, or could not be decided. `.report` has the details.

        try:
            testing.check_vjp(lambda x: np.sin(x), lambda g, x: g, np.array([0.3, -2.0]))
        except testing.GradientError as error:
            error.report.wrong       # {'x': (2, 2)}

    An AssertionError, too, so pytest shows it as a failed test.
    """

    def __init__(self, report: Any) -> None:
        super().__init__(report.text())
        self.report = report


@dataclass(repr=False)
class Finding:
    """One comparison: of an element, or of the derivative along a random direction.

        finding = testing.grad_report(lambda x: np.tanh(x), np.array([0.1, -2.0])).worst
        finding.argument, finding.verdict                     # 'x', 'PASS'
        finding.difference < finding.allowed                  # True

    argument, index    where: index of the element, None along a direction through all of them
    backward, numeric  the two derivatives; numeric is a Derivative, with its error bar
    scale              the size of this argument's gradient; allowed, what may be between the two
    sides              at a kink: the derivatives on its two sides
    verdict            PASS, KINK, INCONCLUSIVE or FAIL
    Raises nothing of its own.
    """

    argument: str
    index: tuple[int, ...] | None  # None: along a direction through all elements
    backward: float
    numeric: Derivative
    scale: float  # of this argument's gradient: its largest element, or typical along u
    verdict: str = "PASS"
    allowed: float = 0.0
    sides: tuple[float, float] | None = None  # at a kink: the derivatives on its two sides

    @property
    def difference(self) -> float:
        """|backward - numeric|."""
        return abs(self.backward - self.numeric.value)

    @property
    def error(self) -> float:
        """The difference relative to the size of the argument's gradient."""
        return self.difference / self.scale if self.scale else self.difference

    def __repr__(self) -> str:
        return f"Finding({self.verdict}: {self})"

    def __str__(self) -> str:
        at = "along a direction" if self.index is None else f"element {list(self.index)}"
        text = f"{self.argument}, {at}: backward {self.backward:.12g}, numeric {self.numeric}"
        if self.sides:
            return f"{text}; a kink, between {self.sides[0]:.6g} and {self.sides[1]:.6g}"
        return f"{text}, difference {self.difference:.3g}, allowed {self.allowed:.1g}"


@dataclass(repr=False)
class GradReport:
    """What a check found; `print(report)`.

        report = testing.grad_report(lambda x: np.tanh(x) ** 2, np.array([0.1, -2.0]))
        report.verdict, report.ok         # ('PASS', True)
        report.worst.error < 1e-9         # True
        print(report.text())
        print(report.repro())             # a script

    findings          the comparisons, a Finding each
    wrong             argument -> (how many elements are wrong, of how many)
    unused            arguments to which no gradient came back
    problems, doubts  why the verdict is FAIL, or INCONCLUSIVE, where no comparison says so
    causes, notes     what a wrong gradient looks like; what else there is to say
    located           the first wrong node, a NodeVerdict, or None
    name              of what was checked
    searched          arguments too large for a count of all their wrong elements
    script            writes what repro() returns
    Raises nothing of its own.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    wrong: dict[str, tuple[int, int]] = field(default_factory=dict)  # argument: wrong of how many
    searched: set[str] = field(default_factory=set)  # too large to count them all
    problems: list[str] = field(default_factory=list)  # faults of another kind: the verdict is FAIL
    doubts: list[str] = field(default_factory=list)  # why nothing can be said: INCONCLUSIVE
    notes: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)  # what the wrong gradient looks like
    located: Any = None  # the first wrong node of the graph, a NodeVerdict
    script: Callable[[], str] = str  # writes the reproduction

    def __repr__(self) -> str:
        count = len(self.findings)
        return f"GradReport({self.name}: {self.verdict}, {count} comparisons; .text())"

    def __str__(self) -> str:
        return self.text()

    @property
    def verdict(self) -> str:
        """The worst of all comparisons.

        FAIL          a gradient is wrong, or the function breaks a rule that gradients need
        INCONCLUSIVE  the numeric derivative is not good enough to tell
        KINK          some comparison sat on a kink; the gradient lies between both sides there
        PASS          all agree
        """
        verdicts = {f.verdict for f in self.findings}
        if self.problems:
            return "FAIL"
        if self.doubts and "FAIL" not in verdicts:
            return "INCONCLUSIVE"
        return next((v for v in ("FAIL", "INCONCLUSIVE", "KINK") if v in verdicts), "PASS")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong: PASS, or KINK."""
        return self.verdict in ("PASS", "KINK")

    @property
    def worst(self) -> Finding | None:
        """The comparison that decides: the worst of the verdict, single elements first."""
        matching = [f for f in self.findings if f.verdict == self.verdict] or self.findings
        named = [f for f in matching if f.index is not None] if not self.ok else []
        return max(named or matching, key=lambda f: f.error, default=None)

    def text(self) -> str:
        """At most 25 lines: the verdict, the worst element, the likely cause, how to repeat it."""
        arguments = list(dict.fromkeys(f.argument for f in self.findings))
        kinks = sum(f.verdict == "KINK" for f in self.findings)
        at = f", {kinks} at kinks" if kinks else ""
        lines = [f"{self.name}: {self.verdict}, {len(self.findings)} comparisons{at}"]
        lines += [f"  {what}" for what in (self.problems + self.doubts)[:4]]
        if self.worst:
            lines.append(f"  worst: {self.worst}")
        for argument in arguments[:6]:
            own = [f for f in self.findings if f.argument == argument]
            line = f"  {argument}: relative error {max(f.error for f in own):.1e}"
            if argument in self.wrong:
                some, size = self.wrong[argument]
                least = "at least " if argument in self.searched else ""
                line += f", wrong in {least}{some} of {size} elements"
            if argument in self.unused:
                line += ", no gradient came back"
            lines.append(line)
        if len(arguments) > 6:
            lines.append(f"  and {len(arguments) - 6} arguments more")
        lines += [f"  {cause}" for cause in self.causes[:3]]
        if self.located is not None:
            node, alone = self.located.lines()
            lines += [f"  first wrong node: {node}", f"    {alone}"]
        lines += [f"  note: {note}" for note in self.notes[:3]]
        large = sum(f.index is not None for f in self.findings) > 200 or self.searched
        script = [] if self.ok else ["", ""] if large else self.repro().splitlines()
        if script and not large and len(script) <= 5 and max(map(len, script)) <= 300:
            lines += ["  reproduce:", *(f"    {line}" for line in script)]
        elif script:
            lines.append("  print(report.repro()) shows a script that repeats this")
        return "\n".join(lines)

    def repro(self) -> str:
        """A script that repeats the check: paste it, run it."""
        return self.script()
