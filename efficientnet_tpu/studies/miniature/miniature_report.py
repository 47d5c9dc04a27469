"""The results of the paper in miniature as files: tables, Figure 8, Figure 7's maps, and the page with all of them."""

import io
import os
import time

import numpy as np

from efficientnet_tpu.data import datasets
from efficientnet_tpu.data.split import SINGLE_HOST
from efficientnet_tpu.model_inspection.compare_maps import draw_maps
from efficientnet_tpu.paper import plots, reproduce
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.studies import grid_search
from efficientnet_tpu.studies.miniature import miniature_page, networks
from efficientnet_tpu.studies.miniature.chain import GRID, LONGER_FACTOR, SCALING, TRANSFER, Chain
from efficientnet_tpu.studies.miniature.hours import as_hours
from efficientnet_tpu.studies.miniature.miniature_page import Page
from efficientnet_tpu.studies.miniature.networks import SINGLE, scaled_name
from efficientnet_tpu.studies.scaling_study import BASE, COMPOUND

PAGE, MAPS = "index.html", "maps.png"
NUM_IMAGES = 6
SIDE = 180  # pixels of an image and of a map


def write(chain: Chain) -> None:
    """Prints and writes the tables of all steps, then the page; every step has ended."""
    output_dir, phi = chain.config.output.output_dir, chain.config.study.study_phi
    rows = {step: chain.rows(step) for step in (GRID, SCALING, TRANSFER)}
    by_name = {one.name: one for one in chain.candidates}
    ranked = [(by_name[row.way], networks.chosen_by(row)) for row in rows[GRID] if row.seed == chain.seeds(GRID)[0]]
    ranked.sort(key=lambda pair: -pair[1])
    grid = grid_search.make_table(ranked, 0, f"{chain.name}: alpha, beta, gamma at phi = 1, one seed each")
    chosen = "the images held out to choose by" if chain.config.data.minival_percent else "the validation images"
    finalists = networks.finalist_table(chain.finalist_rows(), f"{chain.name}: the best candidates, top-1 on {chosen}")
    title = f"{chain.name} scaled to up to {2**phi} times its multiply-adds"
    scaling, figure = (make(rows[SCALING], phi, title) for make in (networks.scaling_table, networks.scaling_figure))
    reproduce.show(finalists, None, output_dir)
    reproduce.show(scaling, figure, output_dir)
    transfer = None
    if chain.transfer_config:
        data_dir = os.path.basename(chain.transfer_config.data.data_dir.rstrip("/"))
        transfer = networks.transfer_table(rows[TRANSFER], f"{chain.name} on {data_dir}: fine-tuned and from scratch")
        reproduce.show(transfer, None, output_dir)
    maps, notes = _maps(chain)
    verdict = networks.verdict(networks.compare_ways(rows[SCALING], phi))
    converged = f"Trained {LONGER_FACTOR} times as long: {networks.convergence(rows[SCALING])}"
    sentences = [*verdict, converged, *finalists.notes[:1], *(transfer.notes if transfer else ())]
    seconds = sum(row.cpu_seconds for found in rows.values() for row in found)
    page = Page(
        title=f"The paper in miniature: {chain.name}",
        facts=[
            f"{sum(map(len, rows.values()))} trainings, {as_hours(seconds)} of CPU time; "
            f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
            f"{chain.config.data.source}; {rows[SCALING][0].recipe}",
        ],
        sentences=sentences,
        grid=grid,
        finalists=finalists,
        scaling=scaling,
        transfer=transfer,
        figure=plots.figure_png(figure),
        figure_note="Bars: 95% intervals of the means, by the spread over seeds of all networks together."
        if figure.panels[0].series[0].errors
        else "One seed each: there is no spread to draw.",
        maps=maps,
        map_notes=notes,
    )
    path = os.path.join(output_dir, PAGE)
    with explained_write_errors(f"--output_dir={output_dir}"):
        write_atomically(os.path.join(output_dir, MAPS), maps)
        write_atomically(path, miniature_page.render(page))
    print("\n".join([*sentences, f"{path}: the page; beside it {MAPS} and the tables"]), flush=True)


def _maps(chain: Chain) -> tuple[bytes, list[str]]:
    """Returns Figure 7 as a PNG file, of the base and the largest networks by the first seed, and lines under it."""
    phi, folder = chain.config.study.study_phi, chain.folder(SCALING)
    names = [BASE, *(scaled_name(way, phi) for way in (*SINGLE, COMPOUND))]
    runs = [(name, os.path.join(folder, f"{name}-0")) for name in names]
    picture, legends = draw_maps(runs, _images(chain), SIDE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue(), legends


def _images(chain: Chain) -> list[tuple[str, bytes]]:
    """Returns the first validation image of each of the first classes: its class, and the content of its file."""
    data = datasets.open_data(chain.config.data)
    split, labels = data.validation, data.validation.labels()
    if labels is None:  # known only by reading: the first images, of whatever class
        positions = list(range(min(NUM_IMAGES, split.num_images)))
    else:
        positions = np.unique(labels.numpy(), return_index=True)[1][:NUM_IMAGES].tolist()
    loaded = [split.load(next(iter(split.handles(SINGLE_HOST, None, position).take(1)))) for position in positions]
    return [(data.label_names[int(label)], content.numpy()) for content, label in loaded]
