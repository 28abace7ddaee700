"""A page of figures: one HTML document that needs no network and works as a file.

Figures with frames can be gone through step by step; `page.js` does that, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .pen import FONT, Figure, xml
from .words import say

BUTTONS = ("First", "Previous", "Play", "Next", "Last")
SCRIPT = Path(__file__).with_name("page.js")
POLICY = (  # nothing from elsewhere, whatever a text may say
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M2 13L8 3L14 13Z' fill='%23bc4c00'/%3E%3C/svg%3E"
)
CSS = f"""
:root{{color-scheme:light dark;--ink:#1f2328;--faint:#59636e;--page:#ffffff;--edge:#d1d9e0;
--field:#f6f8fa;--mark:#0969da}}
body{{margin:0;background:var(--page);color:var(--ink);font:16px/1.6 {FONT}}}
main{{max-width:84rem;margin:0 auto;padding:1rem}}
h1{{font-size:1.5rem;line-height:1.3}}
h2{{font-size:1.15rem;margin:2rem 0 .25rem}}
section>p{{max-width:42rem;margin:.25rem 0 .75rem;white-space:pre-line}}
h1,h2,p,li{{overflow-wrap:anywhere}}
figure{{margin:0 0 1rem}}
.wide{{overflow-x:auto;border:1px solid var(--edge);border-radius:8px}}
.wide svg{{display:block;margin:0 auto}}
.stepper{{margin:.5rem 0}}
.stepper[hidden]{{display:none}}
.controls{{display:flex;flex-wrap:wrap;gap:.4rem;align-items:center}}
button{{font:inherit;font-size:.9rem;color:inherit;background:var(--field);cursor:pointer;
border:1px solid var(--edge);border-radius:6px;padding:.25rem .7rem;min-height:2.4rem}}
input{{flex:1 1 10rem;min-width:8rem;min-height:2.4rem;accent-color:var(--mark)}}
button:focus-visible,input:focus-visible,.wide:focus-visible{{outline:2px solid var(--mark);
outline-offset:2px}}
.caption{{margin:.4rem 0;min-height:1.6em}}
.count{{color:var(--faint);margin-right:.6rem;font-variant-numeric:tabular-nums}}
.captions.paper{{display:none}}
.tgfig [data-frame]{{transition:opacity .25s}}
.tgfig .later{{opacity:.07}}
.tgfig .now .box,.tgfig .now .line{{stroke-width:2.5}}
.tgfig .now .box{{stroke:var(--mark)}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e6edf3;--faint:#9198a1;--page:#0d1117;
--edge:#3d444d;--field:#151b23;--mark:#58a6ff}}}}
@media(prefers-reduced-motion:reduce){{.tgfig [data-frame]{{transition:none}}}}
@media print{{:root{{color-scheme:light}}.stepper{{display:none}}.captions.paper{{display:block}}
.wide{{overflow:visible;border:0}}.wide svg{{max-width:100%;height:auto}}
figure{{break-inside:avoid}}h2{{break-after:avoid}}.tgfig .later{{opacity:1}}}}
"""


def page(title: str, sections: Sequence[tuple[str, str, Figure | None]], lang: str) -> str:
    """One self-contained HTML document.

        page("My RNN", [("The cell", "One step, drawn.", tg.draw(cell))], "en")

    title     the heading of the page
    sections  (heading, text, figure or None); heading and text are plain text, "" leaves them out
    lang      "en" or "ja": the language of the page and of its buttons

    The same figures give the same bytes. Raises FigureError for another language.
    """
    say("", lang)  # an unknown language is told before anything is built
    body = "".join(_section(*section, lang) for section in sections)
    return (
        f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<link rel="icon" href="{ICON}">\n<title>{xml(title)}</title>\n<style>{CSS}</style>\n'
        f"</head>\n<body>\n<main>\n<h1>{xml(title)}</h1>\n{body}</main>\n"
        f"<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>\n</body>\n</html>\n"
    )


def _section(heading: str, text: str, figure: Figure | None, lang: str) -> str:
    parts = [f"<h2>{xml(heading)}</h2>\n"] if heading else []
    parts += [f"<p>{xml(text)}</p>\n"] if text else []
    parts += [_figure(figure, lang)] if figure else []
    return f"<section>\n{''.join(parts)}</section>\n"


def _figure(figure: Figure, lang: str) -> str:
    """The picture in a frame of its own, which scrolls where the picture is wider than the page."""
    named = f'role="group" aria-label="{xml(figure.title)}"'
    picture = f'<div class="wide" tabindex="0" {named}>\n{figure.svg}</div>\n'
    if not figure.frames:
        return f"<figure>\n{picture}</figure>\n"
    return f'<figure class="steps">\n{picture}{_stepper(figure.frames, lang)}</figure>\n'


def _stepper(frames: Sequence[str], lang: str) -> str:
    """Buttons, a slider, the caption of this step, and all captions for paper."""
    last = len(frames) - 1
    buttons = "".join(_button(name, lang) for name in BUTTONS)
    listed = "".join(f"<li>{xml(caption)}</li>\n" for caption in frames)
    return (
        f'<div class="stepper" role="group" aria-label="{say("Step through the figure", lang)}" '
        f'hidden>\n<div class="controls">{buttons}<input type="range" min="0" max="{last}" '
        f'value="{last}" aria-label="{say("Step", lang)}"></div>\n'
        '<p class="caption" aria-live="polite"><span class="count"></span>'
        f'<span class="text"></span></p>\n</div>\n<ol class="captions">\n{listed}</ol>\n'
    )


def _button(name: str, lang: str) -> str:
    both = ""
    if name == "Play":  # the script changes the word while it plays
        both = f' data-play="{say("Play", lang)}" data-pause="{say("Pause", lang)}"'
    return f'<button type="button" data-go="{name.lower()}"{both}>{say(name, lang)}</button>'
