"""`main.py search-report`: tables and pictures of searches, their best networks as files, and what the algorithms do on
a surrogate of training.
"""

import os
from collections.abc import Sequence

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.paper import reproduce
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.studies.search_report import algorithms_compared, networks, searches, surrogate_report, winner
from efficientnet_tpu.studies.search_report.searches import Search


def run(config: Config) -> None:
    """Prints and writes the report of --searches into --output_dir."""
    output_dir, seeds = config.output.output_dir, config.study.surrogate_seeds
    found = searches.load([directory.rstrip("/") for directory in config.output.searches.split(",") if directory])
    if seeds:
        surrogate_report.require_usable(found)
    skeleton = searches.find_skeleton(found, config.run.model_dir)
    name = found[0].facts.name
    title = f"{name}: {', '.join(search.label for search in found)}"
    reproduce.show(
        networks.make_table(found, skeleton, f"best networks of {title}"),
        networks.make_figure(found, skeleton, f"accuracy and cost, {title}"),
        output_dir,
    )
    print()
    reproduce.show(
        algorithms_compared.make_table(found, f"algorithms of {title}"),
        algorithms_compared.make_figure(found, f"reward over trials, {title}"),
        output_dir,
    )
    print()
    _write_files(found, output_dir)
    if seeds:
        print()
        surrogate_report.show(found, seeds, output_dir)


def _write_files(found: Sequence[Search], output_dir: str) -> None:
    """Writes trials.csv and the files of every winner, and prints the commands that take them."""
    files = {"trials.csv": networks.trials_csv(found)}
    commands: list[str] = []
    for search in found:
        made = winner.make_files(search, os.path.join(output_dir, f"winner-{search.label}"))
        files |= {f"{made.name}.json": made.table, f"{made.name}.flags": made.flags}
        commands += [f"\nthe winner of {search.label}: train it, scale it, plan it", *made.commands]
    with explained_write_errors(f"--output_dir={output_dir}"):
        for name, content in files.items():
            write_atomically(os.path.join(output_dir, name), content)
    print(f"written: {', '.join(os.path.join(output_dir, name) for name in files)}")
    print("\n  ".join(commands), flush=True)
