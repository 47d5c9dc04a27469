"""A page as one HTML file that needs no other, no network and no script: its style, its tables, its pictures.

It brings along the letters of Chinese, Japanese and Korean names, for readers whose system has none.
Every page of the program has this style: light and dark as the reader's system is, readable at the width of a phone,
on paper and by a screen reader.
"""

import base64
from collections.abc import Collection, Sequence

from efficientnet_tpu.display.page_font import font_for
from efficientnet_tpu.texts.printable import html_text

# Colors have a contrast of at least 4.5 to 1 to the paper, for text, and 3 to 1 for lines.
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--faint:#59636e;--line:#d9dee4;--rule:#848d97;--panel:#f3f5f8;
--ours:#e8f3e9;--accent:#1f5fa8;--good:#15703a;--bad:#b3261e;--s0:#1f5fa8;--s1:#c2410c;--s2:#15803d;--s3:#7c3aed}
@media screen and (prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e4e8ec;--faint:#9aa5b1;--line:#333a42;
--rule:#707a85;--panel:#20252b;--ours:#1c3122;--accent:#79b3f0;--good:#6fcf8e;--bad:#ff8f85;--s0:#79b3f0;--s1:#ff9d5c;
--s2:#6fcf8e;--s3:#c4a4ff}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif,"Names of the page";
margin:0 auto;max-width:74rem;
padding:1.5rem clamp(.75rem,3vw,1.75rem) 3rem;color:var(--ink);background:var(--paper);overflow-wrap:break-word}
h1{font-size:1.75rem;line-height:1.25;margin:.2rem 0 .4rem}h2{font-size:1.3rem;line-height:1.3;margin:3rem 0 .5rem;
padding-bottom:.25rem;border-bottom:1px solid var(--line)}h3{font-size:1.05rem;margin:1.6rem 0 .4rem}
a{color:var(--accent)}p{margin:.5rem 0;max-width:60rem}.faint,caption{color:var(--faint)}
code,pre{font:.875em/1.45 ui-monospace,"SF Mono",Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
pre{background:var(--panel);border-radius:6px;padding:.7rem .9rem;white-space:pre-wrap}
img,svg{max-width:100%;height:auto}img.plot{background:#fff;border-radius:6px}
.wide{overflow-x:auto;max-width:100%}.wide:focus-visible,summary:focus-visible{outline:2px solid var(--accent)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4rem 0 1rem}
caption{text-align:left;padding:0 0 .45rem}th,td{padding:.3rem .75rem;text-align:right;vertical-align:top;
border-bottom:1px solid var(--line)}thead th{border-bottom:2px solid var(--rule);vertical-align:bottom}
th:first-child,td:first-child,th.words,td.words{text-align:left}th:first-child,td:first-child{padding-left:0}
th:last-child,td:last-child{padding-right:0}tbody th{font-weight:400;min-width:6rem;max-width:26rem;
overflow-wrap:anywhere}td.words{overflow-wrap:anywhere}
td small,th small{display:block;color:var(--faint);font-size:.8rem;font-weight:400}
.here{background:var(--ours)}th.here,td.here{padding-left:.75rem;padding-right:.75rem}
code.whole{display:inline-block;max-width:100%}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--accent);padding:.2rem 0}
@media(max-width:36rem){body{font-size:15px}th,td{padding:.28rem .25rem}thead th{font-size:.8rem}td{font-size:.86rem}
tbody th{min-width:4.5rem;font-size:.9rem}td small,th small{font-size:.74rem}h2{margin-top:2.2rem}}
@page{margin:1.4cm}
@media print{body{max-width:none;padding:0;font-size:9.5pt}th,td{padding:.2rem .5rem}
h2{break-after:avoid}figure,tr,svg,.box{break-inside:avoid}
.wide{overflow:visible}nav{display:none}a{color:inherit}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


class Markup(str):
    """HTML, which is not escaped again."""


def document(title: str, body: str, style: str = "") -> str:
    """Returns the HTML file. body: HTML; style: CSS beside that of every page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Whatever a class or a file is called: the page loads nothing and runs nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:; font-src data:">'
        f"<title>{html_text(title)}</title><style>{_font_face(title + body)}{STYLE}{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _font_face(text: str) -> str:
    font = font_for(text)
    if not font:
        return ""
    address = f"data:font/woff;base64,{base64.b64encode(font).decode()}"
    return f'@font-face{{font-family:"Names of the page";src:url({address}) format("woff")}}'


def data_uri(picture: bytes) -> str:
    """Returns an address that holds a PNG or JPEG file."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def name(text: str) -> Markup:
    """Returns a name that others chose, of any script: it does not turn the words around it."""
    return Markup(f"<bdi>{html_text(text)}</bdi>")


def html(text: str) -> str:
    """Returns a text for an element of a page; Markup as it is, other scripts as names."""
    if isinstance(text, Markup):
        return text
    # A cell's own text is never laid out again by Chromium 156 once the page's font is there; an element in it is.
    return html_text(text) if text.isascii() else name(text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str, words: Collection[int] = ()) -> str:
    """Returns a table whose first column names the rows; a narrow window moves it, not the page.

    caption: what it shows. words: columns of words, which stand to the left, as the first one does.
    """

    def mark(column: int) -> str:
        return ' class="words"' if column in words else ""

    head = "".join(f'<th scope="col"{mark(column)}>{html(text)}</th>' for column, text in enumerate(heads))
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{mark(column)}>{html(text)}</td>" for column, text in enumerate(others, start=1))
        lines.append(f'<tr><th scope="row">{html(first)}</th>{cells}</tr>')
    return scrolled(
        f"<table><caption>{html(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table>",
        caption,
    )


def scrolled(content: str, label: str) -> str:
    """Returns content that may be wider than the window, in a region that a keyboard reaches. label: what it is."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{html_text(label)}">{content}</div>'


def folded(summary: str, content: str) -> str:
    """Returns content that opens when its summary is chosen."""
    return f"<details><summary>{html(summary)}</summary>\n{content}</details>"


def section(identifier: str, title: str, *parts: str) -> str:
    """Returns a part of a page with a heading of the second level, which links find by `identifier`."""
    body = "\n".join(filter(None, parts))
    return f'<section aria-labelledby="{identifier}">\n<h2 id="{identifier}">{html(title)}</h2>\n{body}\n</section>'


def note(text: str) -> str:
    """Returns a paragraph beside what matters."""
    return f'<p class="faint">{html(text)}</p>'
