"""`main.py reproduce --table=2` or `--figure=5`: prints and writes the paper's table or figure beside our figures."""

import os

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.paper import figures, paper_table, run_results, tables
from efficientnet_tpu.paper.figures import Figure
from efficientnet_tpu.paper.paper_table import PaperTable
from efficientnet_tpu.paper.run_results import RunResult
from efficientnet_tpu.storage.write_errors import explained_write_errors

NOT_REPRODUCED = {
    2: "is a drawing of the ways to scale; docs/paper.md says where each is",
    6: "plots Table 5's accuracies over parameters: --table=5",
    7: "shows class activation maps of Table 7's models: --table=7",
}

WITHOUT_RUNS = (1, 4, 5, 6)


def reproduce(config: Config) -> None:
    """Prints the requested table or figure; with --output_dir also writes it as CSV, HTML and PNG."""
    number, figure_number, output_dir = config.study.table, config.study.figure, config.output.output_dir
    if (number is None) == (figure_number is None):
        raise UserError("reproduce: name one: --table=1 to 8, or --figure=1, 3, 4, 5 or 8.")
    if figure_number is not None and figure_number not in figures.FIGURES:
        reason = NOT_REPRODUCED.get(figure_number, "is not in the paper")
        raise UserError(f"--figure={figure_number}: {reason}. Figures: 1, 3, 4, 5, 8.")
    if number in WITHOUT_RUNS and config.run.model_dir:
        raise UserError(f"--model_dir={config.run.model_dir}: Table {number} has nothing that a run would fill in.")
    runs: list[RunResult] = []
    if config.run.model_dir:
        tensorflow_startup.import_tensorflow()
        runs = run_results.load_runs(config.run.model_dir)
    if figure_number is not None:
        figure = figures.FIGURES[figure_number](runs)
        table = figures.as_table(figure)
    elif number == 4:
        tensorflow_startup.import_tensorflow()
        from efficientnet_tpu.paper import latency

        figure, table = None, latency.table_4()
    else:
        figure, table = None, tables.TABLES[number or 0](runs)
    show(table, figure, output_dir)


def show(table: PaperTable, figure: Figure | None, output_dir: str) -> None:
    """Prints a table; with `output_dir` also writes it as CSV, HTML and PNG.

    figure: the figure whose points the table lists, which is then drawn instead of the table.
    """
    print(paper_table.as_text(table), flush=True)
    if not output_dir:
        return
    from efficientnet_tpu.paper import plots

    picture = plots.figure_png(figure) if figure else plots.table_png(table)
    tensorflow_startup.import_tensorflow()  # for gs://
    from efficientnet_tpu.storage.atomic_write import write_atomically
    from efficientnet_tpu.storage.durable import make_directories

    files: dict[str, str | bytes] = {
        "csv": paper_table.as_csv(table),
        "html": paper_table.as_html(table, picture if figure else b""),
        "png": picture,
    }
    paths = [os.path.join(output_dir, f"{table.name}.{suffix}") for suffix in files]
    with explained_write_errors(f"--output_dir={output_dir}"):
        make_directories(output_dir)
        for path, content in zip(paths, files.values(), strict=True):
            write_atomically(path, content)
    print(f"\nwritten: {', '.join(paths)}")
