"""The page, as text and in a real browser: steps, keys, no network, nothing that overlaps."""

import re

import numpy as np
import pytest
from browser import chrome as chrome  # a fixture
from browser import errors, requests, show

from tinygrad_rnn.canvas.charts import bars, heat, lines
from tinygrad_rnn.canvas.page import page
from tinygrad_rnn.canvas.pen import Pen, text_width
from tinygrad_rnn.errors import FigureError

STEPS = 4


def stepped(lang="en", gap=120):
    """A figure with four frames: a box each, and an arrow that belongs to no frame."""
    pen = Pen()
    pen.line([(0, -20), (60, -20)], arrow=True)
    for k in range(STEPS):
        pen.box(gap * k, 0, ("h", str(k)), width=60, below="(N, H)", frame=k)
    captions = [f"Step <{k}> & more." for k in range(STEPS)]
    return pen.figure("A loop", "Four boxes.", lang, captions)


def two_figures(lang="en"):
    sections = [
        ("First & foremost", "One\ntwo <b>", stepped(lang)),
        ("", "only text", None),
        ("Third", "", stepped(lang, gap=400)),
    ]
    return page("A <page>", sections, lang)


# ----- as text -----------------------------------------------------------------------------------


def test_the_page_is_the_same_each_time():
    assert two_figures() == two_figures()
    assert stepped().html == stepped().html


def test_texts_are_escaped():
    html = two_figures()
    assert "<h1>A &lt;page&gt;</h1>" in html
    assert "<p>One\ntwo &lt;b&gt;</p>" in html
    assert "<li>Step &lt;0&gt; &amp; more.</li>" in html
    assert "<b>" not in html


def test_nothing_comes_from_elsewhere():
    html = two_figures()
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert f'"{policy}; img-src data:"' in html
    addresses = set(re.findall(r"https?://[^\s\"'>]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG, never asked for
    assert not re.search(r'src="|@import|url\(', html)
    assert re.findall(r'href="(.{5})', html) == ["data:"]


def test_only_figures_with_frames_have_a_stepper():
    assert two_figures().count('<figure class="steps">') == 2
    plain = page("T", [("", "", bars([1.0], [1.0], 0.0))], "en")
    assert '<figure class="steps">' not in plain
    assert "<button" not in plain
    assert "<figure>" in plain


def test_the_page_speaks_japanese():
    html = page("題", [("見出し", "文", stepped("ja"))], "ja")
    assert '<html lang="ja">' in html
    words = re.sub(r"<(script|style|ol)\b.*?</\1>", "", html, flags=re.DOTALL)
    buttons = re.findall(r"<button[^>]*>(.*?)</button>", words)
    assert buttons == ["最初", "前へ", "再生", "次へ", "最後"]
    named = re.findall(r'aria-label="([^"]*)"', words)
    assert named == ["A loop", "A loop", "図を順に見る", "ステップ"]
    assert 'data-pause="一時停止"' in words


def test_an_unknown_language_is_an_error():
    with pytest.raises(FigureError, match="'fr'"):
        page("T", [], "fr")


# ----- in the browser ----------------------------------------------------------------------------


@pytest.fixture
def opened(chrome, tmp_path):
    """The page with two figures, just opened; afterwards: no errors, and no requests but itself."""
    address = show(chrome, two_figures(), tmp_path)
    yield chrome
    assert errors(chrome) == []
    asked = [url for url in requests(chrome) if not url.startswith("data:image/svg+xml,")]
    assert asked == [address]


def state(chrome, figure=0):
    """(count, caption, slider, classes of the parts) of a figure."""
    return tuple(
        chrome.execute_script(
            """
            const figure = document.querySelectorAll("figure.steps")[arguments[0]];
            const classes = [...figure.querySelectorAll("[data-frame]")].map((part) =>
              part.classList.contains("later") ? "later" :
              part.classList.contains("now") ? "now" : "drawn");
            const text = (name) => figure.querySelector(name).textContent;
            return [text(".count"), text(".text"), Number(figure.querySelector("input").value),
              classes.join(" ")];
            """,
            figure,
        )
    )


def at(step):
    parts = ["drawn"] * step + ["now"] + ["later"] * (STEPS - 1 - step)
    return f"{step + 1} / {STEPS}", f"Step <{step}> & more.", step, " ".join(parts)


def press(chrome, key, target="body"):
    """A key, as it reaches the page when `target` has the focus. Was it taken by the script?"""
    return chrome.execute_script(
        """
        const target = document.querySelector(arguments[1]);
        const event = new KeyboardEvent("keydown",
          { key: arguments[0], bubbles: true, cancelable: true });
        target.dispatchEvent(event);
        return event.defaultPrevented;
        """,
        key,
        target,
    )


def click(chrome, name, figure=0):
    chrome.find_elements("css selector", f"[data-go={name}]")[figure].click()


def test_the_whole_figure_is_there_at_first(opened):
    assert state(opened, 0) == at(3)
    assert state(opened, 1) == at(3)
    assert opened.find_element("css selector", ".stepper").is_displayed()
    assert not opened.find_element("css selector", ".captions").is_displayed()


def test_buttons_step(opened):
    for name, step in [
        ("previous", 2), ("previous", 1), ("next", 2), ("first", 0), ("previous", 0),
        ("last", 3), ("next", 3),
    ]:  # fmt: skip
        click(opened, name)
        assert state(opened) == at(step), name
    assert state(opened, 1) == at(3)  # the other figure stands still


def test_what_comes_later_is_faded(opened):
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    click(opened, "first")
    seen = opened.execute_script(
        'return [...document.querySelectorAll("figure.steps")[0].querySelectorAll("[data-frame]")]'
        ".map((part) => [Number(getComputedStyle(part).opacity),"
        'getComputedStyle(part.querySelector(".box")).strokeWidth])'
    )
    assert [opacity < 0.2 for opacity, _ in seen] == [False, True, True, True]  # at once
    assert [width for _, width in seen] == ["2.5px", "1px", "1px", "1px"]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_slider_steps_by_its_own_keys(opened):
    slider = opened.find_element("css selector", "input")
    slider.send_keys("\ue012")  # arrow left
    assert state(opened) == at(2)
    slider.send_keys("\ue011")  # Home
    assert state(opened) == at(0)
    assert slider.get_attribute("aria-valuetext") == "Step <0> & more."
    assert not press(opened, "ArrowRight", "input")


def test_keys_step_the_first_figure_then_the_one_touched_last(opened):
    for key, step in [("ArrowLeft", 2), ("Home", 0), ("ArrowRight", 1), ("End", 3)]:
        assert press(opened, key)
        assert state(opened) == at(step), key
    click(opened, "first", figure=1)
    press(opened, "ArrowRight")
    assert (state(opened, 0), state(opened, 1)) == (at(3), at(1))
    assert not press(opened, "a")


def test_keys_are_left_to_what_uses_them(opened):
    assert not press(opened, " ", "button")  # space presses the button
    assert press(opened, "ArrowLeft", "button")
    assert press(opened, "ArrowLeft", ".wide")  # this picture fits
    third = "section:last-of-type .wide"
    assert not press(opened, "ArrowLeft", third)  # this one scrolls
    assert press(opened, " ", third)


def test_it_plays_to_the_end_and_stops(opened):
    opened.execute_script(
        "window.queue = []; window.setInterval = (f) => { queue.push(f); return queue.length; };"
        "window.clearInterval = (k) => { if (k) queue[k - 1] = null; };"
    )
    tick = "const f = queue[queue.length - 1]; if (f) f(); return f !== null"
    play = opened.find_element("css selector", "[data-go=play]")
    press(opened, " ")
    assert (state(opened), play.text) == (at(0), "Pause")  # from the end it begins again
    assert opened.execute_script(tick)
    play.click()
    assert (state(opened), play.text) == (at(1), "Play")
    assert not opened.execute_script(tick)
    play.click()
    assert opened.execute_script(tick)
    assert (state(opened), play.text) == (at(2), "Pause")
    assert opened.execute_script(tick)
    assert (state(opened), play.text) == (at(3), "Play")
    assert not opened.execute_script(tick)


def test_a_narrow_picture_is_brought_into_view(opened):
    first, last = "[data-frame='0']", "[data-frame='3']"
    inside = """
        const figure = document.querySelectorAll("figure.steps")[1];
        const view = figure.querySelector(".wide").getBoundingClientRect();
        const box = figure.querySelector(arguments[0]).getBoundingClientRect();
        return box.left >= view.left && box.right <= view.right;
    """
    assert opened.execute_script(inside, first)
    assert not opened.execute_script(inside, last)
    click(opened, "last", figure=1)
    assert opened.execute_script(inside, last)
    click(opened, "first", figure=1)
    assert opened.execute_script(inside, first)


def test_there_are_no_globals(chrome, tmp_path):
    names = "return Object.getOwnPropertyNames(window).sort()"
    show(chrome, "<!doctype html><title>empty</title>", tmp_path)
    before = chrome.execute_script(names)
    show(chrome, two_figures(), tmp_path)
    after = set(chrome.execute_script(names)) - set(before)
    assert {name for name in after if not name.isdigit()} == set()


def test_a_phone_need_not_scroll_the_page(chrome, tmp_path):
    size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        show(chrome, two_figures("ja"), tmp_path)
        wide = chrome.execute_script("return document.documentElement.scrollWidth")
        picture = chrome.execute_script(
            "const wide = document.querySelector('.wide');"
            "return [wide.scrollWidth, wide.clientWidth]"
        )
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 360
    assert picture[0] > picture[1]  # the picture keeps its size and scrolls


# ----- real letters ------------------------------------------------------------------------------


def charts():
    values = np.sin(np.arange(40) / 3) + 1.1
    shares = np.array([0.01, -0.06, 0.05, 0.2, 0.5])
    for lang in ("en", "ja"):
        yield bars(shares, abs(shares) + 0.1, 0.3, lang=lang)
        yield bars(np.full(500, 0.002), np.full(500, 0.01), 0.0, lang=lang)
        yield bars([np.nan, 1.0], [1, 1], 0.0, names=["Wide name", "名前"], lang=lang)
        series = {f"GRU, run {k}": values[: 40 - k] * k for k in range(9)}
        yield lines(series, "Losses", "epoch", "loss", lang=lang)
        yield lines(series, "Losses", "epoch", "loss", log=True, lang=lang)
        yield lines({"a": 1e5 + values * 1e-4}, "Losses", "epoch", "loss", lang=lang)
        yield heat(np.outer(values, values), "Weights", "to", "from", lang=lang, signed=True)
        names = [f"layer {k}" for k in range(6)]
        yield heat(np.diag([1, 2, 3, 4, np.nan, -6]), "W", "to", "from", names, names, lang)
    yield stepped()


BOXES = """
return [...document.querySelectorAll("svg.tgfig")].map((svg) => {
  const places = (name) => [...svg.querySelectorAll(name)].map((part) => {
    const box = part.getBBox();
    return [part.textContent, box.x, box.y, box.width, box.height];
  });
  const view = svg.viewBox.baseVal;
  return { labels: places("text"), boxes: places("rect.box"),
    view: ["", view.x, view.y, view.width, view.height] };
});
"""


def overlap(a, b):
    """How far two boxes reach into each other, the smaller of both directions."""
    (_, ax, ay, aw, ah), (_, bx, by, bw, bh) = a, b
    wide = min(ax + aw, bx + bw) - max(ax, bx)
    high = min(ay + ah, by + bh) - max(ay, by)
    return min(wide, high)


def inside(a, b):
    (_, ax, ay, aw, ah), (_, bx, by, bw, bh) = a, b
    across = bx - 0.5 <= ax and ax + aw <= bx + bw + 0.5
    return across and by - 0.5 <= ay and ay + ah <= by + bh + 0.5


def letters(label):
    """A label's box without the room for accents above and tails below, which fonts add."""
    text, x, y, wide, high = label
    return text, x, y + high * 0.2, wide, high * 0.6


def misplaced(picture):
    """What overlaps in one picture, by the browser's own measures."""
    found = []
    labels = [letters(label) for label in picture["labels"] if label[0]]
    for k, label in enumerate(labels):
        found += [(label, other) for other in labels[k + 1 :] if overlap(label, other) > 0.5]
        found += [(label, "outside")] if not inside(label, picture["view"]) else []
        for box in picture["boxes"]:
            if overlap(label, box) > 0.5 and not inside(label, box):
                found.append((label, box))
    return found


def test_labels_neither_overlap_nor_leave_their_boxes(chrome, tmp_path):
    figures = list(charts())
    show(chrome, page("Charts", [("", "", figure) for figure in figures], "en"), tmp_path)
    pictures = chrome.execute_script(BOXES)
    assert len(pictures) == len(figures)
    assert sum(len(picture["labels"]) for picture in pictures) > 200
    for figure, picture in zip(figures, pictures, strict=True):
        assert misplaced(picture) == [], figure.title
    assert errors(chrome) == []


def test_misplaced_labels_are_found(chrome, tmp_path):
    pen = Pen()
    pen.box(0, 0, "inside", width=80)
    pen.text(100, 20, "across", "end")
    pen.text(120, 60, "one")
    pen.text(125, 64, "two")
    pen.text(200, 64, "three")
    pen.right -= 40  # the picture ends too early
    show(chrome, page("T", [("", "", pen.figure("T", "D"))], "en"), tmp_path)
    (picture,) = chrome.execute_script(BOXES)
    named = [(a[0], b if b == "outside" else b[0]) for a, b in misplaced(picture)]
    assert ("across", "") in named
    assert ("one", "two") in named
    assert ("three", "outside") in named
    assert ("inside", "") not in named


def test_labels_are_not_wider_than_the_pen_thinks(chrome, tmp_path):
    words = [
        "tanh", "h_t", "W_h @ h", "MMMWWW", "0123456789", "-1.23e-05", "(N, H)", "100 %",
        "What each time step gave to the gradient", "10⁻¹²", "勾配に占める割合", "x + y = z",
        "“↵”", "⊙ × ∂L/∂h", "ﬁ…→", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    ]  # fmt: skip
    pen = Pen()
    for k, word in enumerate(words):
        pen.text(0, 20 * k, word, "start")
    show(chrome, pen.figure("T", "D").html, tmp_path)
    (picture,) = chrome.execute_script(BOXES)
    for text, _, _, wide, _ in picture["labels"]:
        assert wide <= text_width(text) + 1, text
        assert text_width(text) <= 1.6 * wide + 8, text
