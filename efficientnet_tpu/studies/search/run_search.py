"""`main.py search`: searches for a network of high accuracy and low cost by training many for a short time.

It writes search.json, trials.jsonl and a directory for each trial into --output_dir. The same command continues a
search that was stopped; a killed one loses what its running trials had not saved.
"""

import os

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.configured import configured_architecture, configured_variant
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.studies import shared_study, trial
from efficientnet_tpu.studies.run_scaling_study import find_num_classes
from efficientnet_tpu.studies.search.cost import cost_function, default_target
from efficientnet_tpu.studies.search.search_files import SEARCH_JSON, SearchFacts, save_facts
from efficientnet_tpu.studies.search.study import SearchStudy, make_algorithm


def run(config: Config) -> None:
    """Runs the trials that have not ended, prints each result, and says what to do with them."""
    url = shared_study.require_usable(config, "search")
    options, output_dir = config.study, config.output.output_dir
    with trial.study_directory(output_dir, shared=bool(url)), shared_study.explained_storage_errors(url):
        search = open_search(config, describe(config, find_num_classes(config)))
        search.take_up_interrupted()
        print("\n".join(_introduction(config, search)), flush=True)
        for _ in trial.run_all([search.work] * options.study_workers, options.study_workers):
            pass
        search.write_trials()
        print(_conclusion(config, search))


def describe(config: Config, num_classes: int) -> SearchFacts:
    """Returns what the flags say of a search on images of so many classes.

    Raises UserError for a network that cannot be the skeleton of a search, and without a target where one is needed.
    """
    options = config.search
    name = configured_architecture(config.model, num_classes).name
    if not configured_variant(config.model).baseline.head_filters:
        raise UserError(f"--model={name}: cannot be searched around; the search is over stages of MBConv blocks.")
    return SearchFacts(
        name=name,
        algorithm=options.search_algorithm,
        seed=options.search_seed,
        form=options.search_objective,
        cost_kind=options.search_cost,
        target=options.search_target or default_target(options.search_cost),
        num_classes=num_classes,
        config=with_options(config, {"train_batch_size": config.train.batch_size}),  # no auto for each network alone
    )


def open_search(config: Config, facts: SearchFacts) -> SearchStudy:
    """Opens or creates the study in --output_dir, and writes search.json. Raises UserError for that of another."""
    cost = cost_function(facts.cost_kind, facts.space, config, facts.num_classes)
    names = ("algorithm", "seed", "form", "cost_kind", "target")
    recipe = " ".join(f"--{name}={value}" for name, value in facts.recipe.items())
    shared = {"recipe": recipe, **{name: str(getattr(facts, name)) for name in names}}
    study = shared_study.open_study(config, "search", shared)
    with explained_write_errors(f"--output_dir={config.output.output_dir}"):
        save_facts(os.path.join(config.output.output_dir, SEARCH_JSON), facts)
    algorithm = make_algorithm(facts.algorithm, facts.space, facts.seed)
    return SearchStudy(config, facts, study, cost, algorithm)


def _introduction(config: Config, search: SearchStudy) -> list[str]:
    facts, form = search.facts, search.facts.objective
    exponents = f"{form.below:g}" if form.below == form.above else f"{form.below:g}, and {form.above:g} beyond it"
    return [
        f"{facts.name}, {facts.describe_cost(search.cost_of_skeleton())}: {facts.space.num_networks:.2g} networks of "
        "its stages",
        f"{config.search.search_trials} trials by {facts.algorithm}, {len(search.ended())} of them have ended; "
        f"{config.study.study_workers} at a time",
        f"reward: top-1 x (cost / {facts.describe_cost(facts.target)}) ^ {exponents}",
    ]


def _conclusion(config: Config, search: SearchStudy) -> str:
    ended = [one for one in search.ended() if not one.is_pruned]
    best = max(ended, key=lambda one: one.reward)
    hours = sum(one.cpu_seconds for one in search.ended()) / 3600
    return (
        f"best of {len(search.ended())} trials, {hours:.2f} CPU hours: trial {best.number}, top-1 "
        f"{best.accuracy:.2%}, {search.facts.describe_cost(best.cost)}, reward {best.reward:.4f}\n"
        f"`{program()} search-report --searches={config.output.output_dir} --output_dir=REPORT` writes tables, "
        "pictures and the best network"
    )
