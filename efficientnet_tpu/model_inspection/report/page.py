"""The page of a report: one HTML file that needs no other, no network and no script."""

from efficientnet_tpu.display.html_page import Markup, document, html, name, note, section
from efficientnet_tpu.model_inspection import svg_charts
from efficientnet_tpu.model_inspection.report import pictures, results, run
from efficientnet_tpu.model_inspection.report.contents import Report

STYLE = (
    svg_charts.STYLE
    + """
nav{margin:1rem 0 0}nav ul{display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;list-style:none;margin:0;padding:0}
nav a{display:inline-block;padding:.2rem 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.7rem;margin:1.4rem 0 .6rem}
.box{background:var(--panel);border-radius:8px;padding:.7rem .9rem;margin:0}.box dt{color:var(--faint);font-size:.9rem}
.box dd{margin:0;font-size:1.55rem;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.box dd.more{font-size:.85rem;font-weight:400;color:var(--faint)}
.bar{display:block;height:4px;border-radius:2px;background:var(--line);margin-top:.25rem;min-width:3.2rem}
.bar i{display:block;height:100%;border-radius:2px;background:var(--accent)}
.matrix{font-size:.9rem}.matrix td{min-width:2.6rem;padding:.3rem .35rem;text-align:center;vertical-align:middle;
border:1px solid var(--line)}.matrix thead td{border:0}
.matrix thead th{text-align:center;font-weight:400;max-width:7rem;overflow-wrap:anywhere;border:0;padding:.3rem .35rem}
.matrix thead th.upright{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;max-height:9rem}
.matrix tbody th{text-align:right;vertical-align:middle;border:0;padding-right:.6rem;max-width:9rem}
img.heat{width:min(100%,42rem)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.6rem,1fr));gap:1.1rem .9rem;margin:1rem 0;padding:0;
list-style:none}.tiles.trios{grid-template-columns:repeat(auto-fill,minmax(min(100%,16.5rem),1fr))}
figure{margin:0;font-size:.86rem;line-height:1.4}
figure img{display:block;width:100%;aspect-ratio:1;object-fit:contain;
border-radius:6px;background:var(--panel)}img.tiny{image-rendering:pixelated}
.side{display:flex;gap:.3rem}.side>*{flex:1 1 0;min-width:0}
.side span{display:block;color:var(--faint);font-size:.78rem;overflow-wrap:anywhere;line-height:1.3;margin-top:.15rem}
figcaption{margin-top:.3rem;overflow-wrap:anywhere}.where{color:var(--faint);font-size:.78rem;display:block}
.right{color:var(--good);font-weight:600}.wrong{color:var(--bad);font-weight:600}
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.6rem}
@media(max-width:36rem){.tiles{grid-template-columns:repeat(auto-fill,minmax(6.6rem,1fr));gap:.9rem .6rem}
.figures{grid-template-columns:repeat(2,1fr);gap:.5rem}.box{padding:.55rem .65rem}.box dd{font-size:1.3rem}
.bar{min-width:2.2rem}.matrix,.matrix tbody th{font-size:.78rem}.matrix td{min-width:1.55rem;padding:.25rem .1rem}}
@media print{.matrix{break-inside:avoid}.tiles{grid-template-columns:repeat(6,1fr)}
.tiles.trios{grid-template-columns:repeat(3,1fr)}
.figures{grid-template-columns:repeat(4,1fr)}.charts{grid-template-columns:repeat(2,1fr)}
.tiles figure{font-size:8pt}.where,.side span{font-size:7pt}}
"""
)


def page(report: Report) -> str:
    """Returns the HTML file."""
    parts = {
        ("classes", "Classes"): results.classes(report),
        ("confusions", "Confusions"): results.confusions(report),
        ("mistakes", "Most confident mistakes"): pictures.mistakes(report),
        ("ordinary", "Ordinary images"): pictures.ordinary(report),
        ("maps", "Where the network looks"): pictures.maps(report),
        ("calibration", "Calibration"): results.calibration(report),
        ("training", "Training"): run.curves(report),
        ("data", "Data"): run.data(report),
        ("configuration", "Configuration"): run.configuration(report),
        ("environment", "Environment"): run.environment(report),
    }
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in parts)
    facts = "<br>".join(map(html, report.facts))
    files = ", ".join(f"<code>{html(file)}</code>" for file in report.files)
    measured = note(Markup(f'{html(report.measured)} <code class="whole">{html(report.source)}</code>'))
    sections = "\n".join(section(anchor, title, *content) for (anchor, title), content in parts.items())
    return document(
        report.title,
        f'<header>\n<h1>{name(report.title)}</h1>\n<p class="faint">{facts}</p>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{results.figures(report)}\n{measured}\n{sections}\n</main>\n"
        f'<footer><p class="faint">Beside this page, for programs: {files}.</p></footer>',
        STYLE,
    )
