"""The page that a report is put into: a plain frame and one hand-written style sheet, nothing from outside."""

from __future__ import annotations

import base64
import html

CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1f2933; --soft: #5b6875;
  --line: #dde2e8; --accent: #1f6fb4; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --page: #12161b; --card: #1b2128; --text: #e4e8ec; --soft: #9aa7b4;
  --line: #323b45; --accent: #6cb4ee; --bad: #ff8a75; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem;
  margin: 0 0 1rem; }
p { margin: 0 0 .8rem; max-width: 75ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem; margin: 0 0 1rem; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .7rem; }
.tile b { font-size: 1.4rem; font-weight: 650; color: var(--accent); font-variant-numeric: tabular-nums; }
.tile .unit { margin-left: .2rem; font-size: .8rem; color: var(--soft); }
.tile p { margin: 0; color: var(--soft); font-size: .85rem; line-height: 1.3; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th:first-child { text-align: left; font-weight: 500; }
tr.sub th, .note, figcaption { color: var(--soft); }
tr.group th { font-weight: 650; padding-top: .7rem; }
td.text { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: .9rem; }
.gallery.small { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.gallery.cards { grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
figcaption { overflow-wrap: anywhere; font-size: .85rem; padding-top: .25rem; }
figcaption b { color: var(--text); }
.bad { color: var(--bad); font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 1rem; }
.pair section { margin: 0; }
.pair { margin: 0 0 1rem; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere; }
[hidden] { display: none !important; }
.bar { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; max-width: none; font-size: .88rem; }
.bar label, .bar output { color: var(--soft); }
.bar select, .bar input { font: inherit; color: var(--text); background: var(--page); border: 1px solid var(--line);
  border-radius: 6px; padding: .15rem .3rem; max-width: 15rem; }
.tall { max-height: 34rem; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; background: var(--card); }
td.name, th.name { text-align: left; }
td.bad { white-space: nowrap; }
a { color: var(--accent); }
.stack { position: relative; display: block; aspect-ratio: 1; background: var(--page); border-radius: 6px; }
.stack img { position: absolute; width: 100%; height: 100%; object-fit: contain; }
.stack:hover img + img, .stack:focus img + img { opacity: 0; }
.word { display: inline-block; max-width: 100%; }
"""


def page(title: str, body: str, script: str = "") -> str:
    """A whole HTML document; `title` is text, `body` is HTML, `script` is JavaScript that runs at its end."""
    name = html.escape(title)
    code = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{name}</h1>\n{body}\n</main>\n{code}</body>\n</html>\n"
    )


def data_uri(data: bytes) -> str:
    """A PNG or JPEG file as text that stands for it in a page."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
