"""The page of the paper in miniature: one HTML file that needs no other, and no network."""

from collections.abc import Sequence
from dataclasses import dataclass

from efficientnet_tpu.display.html_page import data_uri, document, scrolled
from efficientnet_tpu.paper import paper_table
from efficientnet_tpu.paper.paper_table import PaperTable
from efficientnet_tpu.texts.printable import html_text

STYLE = (
    "li{margin:.4rem 0}.plot{max-width:52rem;width:100%}"
    # A map is to be seen: a narrow window shows a part, and the picture is moved.
    ".wide img{max-width:none;width:auto}"
)


@dataclass(frozen=True)
class Page:
    """Everything that is on the page.

    facts: lines under the title. sentences: what the numbers say. grid, finalists, scaling, transfer: tables; without
    a transfer None. figure, maps: PNG files. figure_note, map_notes: lines under them.
    """

    title: str
    facts: Sequence[str]
    sentences: Sequence[str]
    grid: PaperTable
    finalists: PaperTable
    scaling: PaperTable
    transfer: PaperTable | None
    figure: bytes
    figure_note: str
    maps: bytes
    map_notes: Sequence[str]


def render(page: Page) -> str:
    """Returns the HTML file."""
    facts = "<br>".join(map(html_text, page.facts))
    sentences = "".join(f"<li>{html_text(sentence)}</li>" for sentence in page.sentences)
    sections = [
        f'<h1>{html_text(page.title)}</h1>\n<p class="faint">{facts}</p>',
        f"<h2>What the numbers say</h2>\n<ul>{sentences}</ul>",
        f'<h2>Figure 8: ways of scaling</h2>\n<img class="plot" alt="{html_text(page.scaling.title)}" '
        f'src="{data_uri(page.figure)}">\n<p class="faint">{html_text(page.figure_note)}</p>',
        _section("Step 1: the grid of alpha, beta and gamma", page.grid),
        _section("Step 1: the best, by several seeds", page.finalists),
        _section("Step 2: scaling at equal cost", page.scaling),
        _section("Transfer", page.transfer) if page.transfer else "",
        '<h2>Figure 7: where the networks look</h2>\n<p class="faint">Red is where most speaks for the class that the '
        "network finds most probable, which stands under the map, blue where least does. Images of the validation "
        "set, the first of each class.</p>\n"
        + scrolled(f'<img class="plot" alt="Class activation maps" src="{data_uri(page.maps)}">', "Activation maps")
        + "\n"
        + "".join(f'<p class="faint">{html_text(note)}</p>' for note in page.map_notes),
    ]
    return document(page.title, "<main>" + "\n".join(filter(None, sections)) + "</main>", STYLE)


def _section(title: str, table: PaperTable) -> str:
    return (
        f'<h2>{html_text(title)}</h2>\n<p class="faint">{html_text(table.title)}</p>\n{paper_table.html_table(table)}'
    )
