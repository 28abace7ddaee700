"""Charts: readable whatever the arrays hold, and true to them."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from svg_layout import labels, problems

from tinygrad_rnn.canvas import charts
from tinygrad_rnn.canvas.charts import bars, heat, lines
from tinygrad_rnn.errors import FigureError

anything = st.floats(width=64)  # NaN, inf, denormal and huge ones as well
rows = st.lists(anything, max_size=30)
langs = st.sampled_from(["en", "ja"])
SVG = "{http://www.w3.org/2000/svg}"


def sound(figure):
    """Valid XML, a tidy layout, title and description; returns the tree."""
    assert problems(figure.svg) == []
    root = ET.fromstring(figure.svg)
    assert root.find(f"{SVG}title").text
    assert root.find(f"{SVG}desc").text
    assert root.get("lang") == figure.lang
    assert "nan" not in re.sub(r"<desc>.*?</desc>", "", figure.svg)  # no coordinate is NaN
    figure.svg.encode("utf-8")
    return root


def rects(figure, kind):
    found = [r for r in ET.fromstring(figure.svg).iter(f"{SVG}rect") if r.get("class") == kind]
    return [[float(r.get(n)) for n in ("x", "y", "width", "height")] for r in found]


def paths(figure, kind):
    """The points of all paths of a class."""
    found = [p for p in ET.fromstring(figure.svg).iter(f"{SVG}path") if kind in p.get("class")]
    numbers = [list(map(float, re.findall(r"-?[\d.]+", p.get("d")))) for p in found]
    return [np.reshape(row, (-1, 2)) for row in numbers]


def tips(figure):
    return [g.find(f"{SVG}title").text for g in ET.fromstring(figure.svg).iter(f"{SVG}g")]


def described(figure):
    return ET.fromstring(figure.svg).find(f"{SVG}desc").text


# ----- any floats --------------------------------------------------------------------------------


@given(st.lists(st.tuples(anything, anything), max_size=30), anything, langs)
def test_bars_are_sound_for_any_floats(pairs, outside, lang):
    shares, norms = np.reshape(pairs, (-1, 2)).T
    figure = bars(shares, norms, outside, lang=lang)
    sound(figure)
    assert figure == bars(shares, norms, outside, lang=lang)


@given(st.lists(rows, max_size=8), st.booleans(), langs)
def test_lines_are_sound_for_any_floats(arrays, log, lang):
    series = {f"curve {k}": array for k, array in enumerate(arrays)}
    figure = lines(series, "T", "t", "value", log, lang)
    sound(figure)
    assert figure == lines(series, "T", "t", "value", log, lang)


@given(
    st.integers(0, 7).flatmap(lambda n: st.lists(st.lists(anything, min_size=n, max_size=n))),
    st.booleans(),
    langs,
)
def test_heat_is_sound_for_any_floats(matrix, signed, lang):
    values = np.reshape(matrix, (len(matrix), len(matrix[0]) if matrix else 0))
    figure = heat(values, "T", "to", "from", lang=lang, signed=signed)
    sound(figure)
    assert figure == heat(values, "T", "to", "from", lang=lang, signed=signed)


@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=3, max_size=3), langs)
def test_any_text_of_the_user_can_be_drawn(title, names, lang):
    sound(bars([0.2, 0.3, 0.5], [1, 1, 1], 0.0, names, title, lang))
    sound(lines({name: [1, 2] for name in names}, title or "t", title, title, lang=lang))
    sound(heat(np.eye(3), title or "t", title, title, names, names, lang))


EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 1e-300, 1e300, 1.7e308, -1.7e308, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("a", EXTREMES)
@pytest.mark.parametrize("b", EXTREMES)
def test_extremes_side_by_side(a, b):
    sound(bars([a, b], [b, a], a))
    sound(lines({"a": [a, b], "b": [b] * 3, "c": [a]}, "T", "t", "y"))
    sound(lines({"a": [a, b], "b": [b] * 3, "c": [a]}, "T", "t", "y", log=True))
    sound(heat([[a, b], [b, a]], "T", "to", "from", signed=True))


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 13, 60, 250, 1000, 1001, 5000])
def test_bars_of_all_lengths(steps):
    shares = np.full(steps, 0.8 / max(steps, 1))
    for outside in (0.0, 0.2):
        figure = bars(shares, 1.5 * shares, outside)
        sound(figure)
        assert len(figure.svg) < 230_000
        assert len(rects(figure, "bar")) <= 1000 + 2  # with the legend's and the outside column


# ----- bars --------------------------------------------------------------------------------------


def test_bars_show_the_shares():
    shares = np.array([0.1, -0.2, 0.4, 0.5])
    figure = bars(shares, [0.2, 0.3, 0.6, 0.5], outside=0.2)
    *drawn, legend = rects(figure, "bar")
    assert legend[2:] == [12, 12]
    heights = np.array([height for _, _, _, height in drawn])
    np.testing.assert_allclose(heights / heights[3], [0.2, 0.4, 0.8, 1.0, 0.4], atol=0.01)
    zero = drawn[0][1] + drawn[0][3]
    assert drawn[1][1] == pytest.approx(zero, abs=0.1)  # a negative one hangs down from zero
    assert drawn[3][1] + drawn[3][3] == pytest.approx(zero, abs=0.1)
    hollow = np.array([np.ptp(points[:, 1]) for points in paths(figure, "outline")])
    np.testing.assert_allclose(hollow / heights[3], [0.4, 0.6, 1.2, 1.0], atol=0.01)


def test_the_running_sum_reaches_the_whole():
    figure = bars([0.25, 0.25, 0.25], [1, 1, 1], outside=0.25)
    (points,) = paths(figure, "c0")
    climbed = points[0, 1] - points[:, 1]
    np.testing.assert_allclose(climbed / climbed[-1], [0, 0.25, 0.5, 0.75, 0.75, 1, 1], atol=0.01)
    assert climbed[-1] == pytest.approx(64)  # from 0 % to 100 %, the height of its panel
    assert "100 %" in labels(figure.svg)


def test_the_running_sum_stops_at_nan():
    figure = bars([0.5, np.nan, 0.5], [1, 1, 1], outside=0.0)
    (points,) = paths(figure, "c0")
    assert len(points) == 2
    assert len(rects(figure, "lost")) == 2  # the column's mark, and the legend's
    assert "not finite" in labels(figure.svg)
    assert described(figure).endswith("Not finite: 1.")
    assert "not finite" not in labels(bars([1.0], [1.0], 0.0).svg)


def test_bars_tell_their_values():
    figure = bars([0.12345, 0.87655], [0.2, 1.0], 0.0, names="a\n")
    assert tips(figure) == [
        "t = 0 “a”: share 12.3 %, norm 20 %",
        "t = 1 “↵”: share 87.7 %, norm 100 %",
    ]
    assert {"a", "↵"} <= set(labels(figure.svg))
    assert described(figure) == (
        "2 time steps. The largest share is 87.7 % at t = 1, the smallest 12.3 % at t = 0."
    )


def test_only_a_share_from_outside_has_a_column():
    assert "outside" not in labels(bars([1.0], [1.0], 0.0).svg)
    figure = bars([0.75], [1.0], 0.25)
    assert "outside" in labels(figure.svg)
    assert "outside of the loop: share 25 %" in tips(figure)


def test_many_steps_are_put_together():
    shares = np.zeros(3000)
    shares[[0, 1, 2]] = 0.25, 0.25, 0.5
    figure = bars(shares, shares, 0.0)
    assert "t = 0: share 100 %, norm 50 %" in tips(figure)
    assert any("3 time steps to a column" in text for text in labels(figure.svg))


# ----- lines -------------------------------------------------------------------------------------


def test_a_curve_is_where_its_values_are():
    values = np.array([0.0, 1.0, 4.0, 2.0])
    (points,) = paths(lines({"a": values}, "T", "t", "y"), "c0")
    np.testing.assert_allclose(points[:, 0], 560 * np.arange(4) / 3, atol=0.06)
    np.testing.assert_allclose(points[:, 1], 220 * (1 - values / 4), atol=0.06)


def test_a_log_axis_has_powers_of_ten():
    figure = lines({"a": 10.0 ** -np.arange(4)}, "T", "t", "y", log=True)
    (points,) = paths(figure, "c0")
    np.testing.assert_allclose(points[:, 1], 220 * np.arange(4) / 3, atol=0.06)
    assert {"10⁰", "10⁻¹", "10⁻²", "10⁻³"} <= set(labels(figure.svg))


@pytest.mark.parametrize(
    ("value", "edge", "told"),
    [(0.0, 214, "0"), (-1.0, 214, "-1"), (np.nan, 0, "NaN"), (np.inf, 0, "inf")],
)
def test_what_has_no_place_on_a_log_axis_breaks_the_curve_and_is_marked(value, edge, told):
    figure = lines({"a": [1, 0.1, value, 0.1, 1]}, "T", "t", "y", log=True)
    assert [len(points) for points in paths(figure, "c0")] == [2, 2]
    assert f"a: {told} at t = 2" in tips(figure)
    marks = [rect for rect in rects(figure, "f0") if rect[2] == 6]
    assert marks == [[277, edge, 6, 6]]
    assert any(text.startswith("marks at the edges") for text in labels(figure.svg))


def test_neighbouring_marks_are_one():
    figure = lines({"a": [1] + [0] * 900 + [1]}, "T", "t", "y", log=True)
    assert "a: 0 at t = 1…900" in tips(figure)
    assert len(rects(figure, "f0")) == 3  # that, and two single points


def test_a_single_point_is_seen():
    figure = lines({"a": [3.0]}, "T", "t", "y")
    ((x, y, wide, high),) = rects(figure, "f0")
    assert (x + wide / 2, y + high / 2) == (560, 0)


def test_long_curves_keep_their_extremes():
    values = np.sin(np.arange(100_000) / 3000)
    values[77_777], values[12_345] = 9.0, -9.0
    figure = lines({"a": values}, "T", "t", "y")
    (points,) = paths(figure, "c0")
    assert 500 < len(points) <= 802
    assert points[points[:, 1].argmin(), 0] == pytest.approx(560 * 0.77777, abs=0.1)
    assert points[points[:, 1].argmax(), 0] == pytest.approx(560 * 0.12345, abs=0.1)
    assert len(figure.svg) < 30_000


def test_long_curves_keep_their_gaps():
    values = np.ones(100_000)
    values[50_000] = np.nan
    figure = lines({"a": values}, "T", "t", "y")
    assert len(paths(figure, "c0")) == 2
    assert "a: NaN at t = 50000" in tips(figure)


def test_each_curve_has_its_name_and_its_colour():
    figure = lines({f"curve {k}": [0, k] for k in range(8)}, "T", "t", "y")
    found = {t.text: t.get("class") for t in ET.fromstring(figure.svg).iter(f"{SVG}text")}
    assert [found[f"curve {k}"] for k in range(8)] == [f"f{k % 6}" for k in range(8)]
    dashed = [len(points) for points in paths(figure, "dashed") if points[0, 0] == 0]
    assert len(dashed) == 2  # the seventh and eighth, whose colours were there before


@given(st.lists(st.floats(0, 100), max_size=10))
def test_names_are_pushed_apart_in_their_order(wanted):
    placed = charts._apart(wanted, 10, 0, 100)
    assert all(0 <= at <= 100 for at in placed)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= 10 - 1e-9).all()
    if len(wanted) > 1 and (np.diff(np.sort(wanted)) >= 10).all():
        assert placed == wanted


def test_lines_tell_their_values():
    figure = lines({"grad": [1.2e-5, 3.0, 0.83, np.nan, 0.5]}, "T", "t", "y")
    assert described(figure) == (
        "grad: from 1.2e-05 at t = 0 to 0.5 at t = 4; smallest 1.2e-05, largest 3. Not finite: 1."
    )
    assert "grad: 0.83 at t = 2" in tips(figure)


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [np.nan] * 3}])
def test_nothing_to_draw_is_said(series):
    assert "There is nothing to draw." in labels(lines(series, "T", "t", "y").svg)
    assert "There is nothing to draw." not in labels(lines({**series, "b": [1]}, "T", "", "").svg)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.integers(-12, 12))
def test_ticks_are_even_differ_and_cover_the_values(values, power):
    scale = charts._linear(charts._tame(np.array(values) * 10.0**power), 100, 0)
    ticks = [value for value, _ in scale.ticks]
    assert 1 <= len(ticks) <= 12
    assert len({text for _, text in scale.ticks}) == len(ticks)
    gaps = np.diff(ticks)
    np.testing.assert_allclose(gaps, gaps[:1].repeat(len(gaps)), rtol=1e-6)
    assert all(-0.01 <= scale.at(value * 10.0**power) <= 100.01 for value in values)
    for value, text in scale.ticks:
        assert float(text) == pytest.approx(value, abs=1e-6 * max(np.abs(ticks)))


# ----- heat --------------------------------------------------------------------------------------


def test_colours_are_as_strong_as_the_values():
    figure = heat([[1.0, -0.5], [0.25, 0.0]], "T", "to", "from", signed=True)
    groups = [g.find(f"{SVG}rect") for g in ET.fromstring(figure.svg).iter(f"{SVG}g")]
    found = [(r.get("class"), float(r.get("fill-opacity", 1))) for r in groups]
    assert found == [("heat", 1.0), ("cold", 0.5), ("heat", 0.25), ("heat", 0.0)]
    assert tips(figure) == ["(0, 0): 1", "(0, 1): -0.5", "(1, 0): 0.25", "(1, 1): 0"]
    assert {"-1", "1"} <= set(labels(figure.svg))
    assert not rects(heat([[1.0, -0.5]], "T", "to", "from"), "cold")


def test_nan_is_marked_and_in_the_legend():
    figure = heat([[1.0, np.nan], [np.inf, 2.0]], "T", "to", "from")
    assert len(rects(figure, "lost")) == 3
    assert "not finite (NaN, inf)" in labels(figure.svg)
    assert {"(0, 1): NaN", "(1, 0): inf"} <= set(tips(figure))
    assert described(figure) == (
        "2 × 2 values. From 1 at (0, 0) to 2 at (1, 1) (row, column). Not finite: 2."
    )
    assert "not finite (NaN, inf)" not in labels(heat([[1.0]], "T", "to", "from").svg)


@pytest.mark.parametrize("shape", [(300, 500), (65, 64), (1, 5000), (5000, 1), (64, 513)])
def test_large_matrices_keep_what_is_largest(shape):
    values = np.full(shape, 0.1)
    values[-1, -1], values[0, 0] = -8.0, np.nan
    figure = heat(values, "T", "to", "from", signed=True)
    sound(figure)
    assert tips(figure) == []
    fields = [r for kind in ("heat", "lost", "cold") for r in rects(figure, kind)]
    fields = [r for r in fields if r[1] < max(r[1] for r in fields)]  # without the legend
    assert len({r[0] for r in fields}) <= 64
    assert len({r[1] for r in fields}) <= 64
    strong = re.findall(r'class="cold"[^>]*height="\d+"/>', figure.svg)
    assert len(strong) == 2  # the value itself, and the legend's strongest
    assert len(rects(figure, "lost")) == 2
    assert any("largest magnitude" in text for text in labels(figure.svg))
    assert len(figure.svg) < 350_000


def test_a_matrix_of_4096_values_is_whole():
    figure = heat(np.arange(4096.0).reshape(64, 64), "T", "to", "from")
    assert len(tips(figure)) == 4096
    sound(figure)


def test_names_of_rows_and_columns_are_thinned_out():
    names = [f"name {k}" for k in range(40)]
    figure = heat(np.ones((40, 40)), "T", "to", "from", names, names)
    sound(figure)
    printed = [text for text in labels(figure.svg) if text.startswith("name")]
    assert 10 <= len(printed) < 80
    assert "(name 39, name 39): 1" in tips(figure)


# ----- languages, errors -------------------------------------------------------------------------


def japanese_figures():
    nan, outside = np.nan, 0.25
    yield bars([0.1, nan, 0.6], [1, 1, nan], outside, lang="ja")
    yield bars(np.ones(2000), np.ones(2000), 0.0, lang="ja")
    yield bars([], [], 0.0, lang="ja")
    many = {f"曲線{k}": [1.0, nan, 0.0] for k in range(8)}
    yield lines({**many, "空": []}, "題", "時刻", "値", log=True, lang="ja")
    yield lines({"空": [nan]}, "題", "時刻", "値", lang="ja")
    yield lines({}, "題", "時刻", "値", lang="ja")
    yield heat([[1.0, nan]], "題", "列", "行", lang="ja")
    yield heat(np.zeros((2, 2)), "題", "列", "行", lang="ja")
    yield heat(np.ones((100, 100)), "題", "列", "行", lang="ja", signed=True)
    yield heat(np.ones((0, 3)), "題", "列", "行", lang="ja")


def test_no_english_is_left_in_a_japanese_figure():
    for figure in japanese_figures():
        sound(figure)
        for text in labels(figure.svg):
            words = set(re.findall("[A-Za-z]{2,}", text))
            assert words <= {"NaN", "inf"}, text


def test_wrong_shapes_are_errors():
    with pytest.raises(FigureError, match=r"shares has shape \(1, 1\)"):
        bars([[1.0]], [1.0], 0.0)
    with pytest.raises(FigureError, match=r"norms has shape \(2,\), shares \(1,\)"):
        bars([1.0], [1.0, 2.0], 0.0)
    with pytest.raises(FigureError, match="names holds 2 texts for 1 places"):
        bars([1.0], [1.0], 0.0, names="ab")
    with pytest.raises(FigureError, match="loss has shape"):
        lines({"loss": np.ones((2, 2))}, "T", "t", "y")
    with pytest.raises(FigureError, match=r"values has shape \(2,\), expected \(R, C\)"):
        heat([1.0, 2.0], "T", "to", "from")
    with pytest.raises(FigureError, match="column_names holds 1 texts"):
        heat(np.eye(2), "T", "to", "from", column_names=["a"])
    with pytest.raises(FigureError, match="lang='fr'"):
        bars([1.0], [1.0], 0.0, lang="fr")
