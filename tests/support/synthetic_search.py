"""Searches whose trainings are a formula: accuracy by a network's choices, its cost and chance."""

import math
import random
from pathlib import Path

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.studies.search.algorithms import RandomSearch, RegularizedEvolution
from efficientnet_tpu.studies.search.search_files import (
    SEARCH_JSON,
    TRIALS_JSONL,
    SearchFacts,
    SearchTrial,
    save_facts,
    to_line,
)
from efficientnet_tpu.studies.search.space import CHOICES, to_tokens

OPTIONS = {"resolution": 64, "survival_prob": 0.9, "train_epochs": 3.0, "train_batch_size": 64}


def make_facts(algorithm="evolution", seed=0, num_classes=10, **options):
    config = with_options(Config(), OPTIONS | options)
    return SearchFacts("efficientnet-b0", algorithm, seed, "soft", "multiply_adds", 30e6, num_classes, config)


def true_accuracy(space, network, chance=0.0):
    """0..1. Every choice has a weight of its own, as have two pairs in each block; cost helps."""
    generator = random.Random("truth")
    weights = [[generator.gauss(0, 0.12) for _ in range(number)] for number in space.num_values]
    tokens = to_tokens(network)
    logit = 0.4 + sum(weights[place][token] for place, token in enumerate(tokens))
    for block in range(0, len(tokens), len(CHOICES)):
        logit += 0.15 * (tokens[block] == 3 and tokens[block + 1] == 1) - 0.1 * (
            tokens[block] == 0 == tokens[block + 2]
        )
    logit += 0.3 * math.log(space.cost(network).multiply_adds / 30e6) + chance
    return 1 / (1 + math.exp(-logit))


def make_trials(facts, number, noise=0.05):
    algorithms = {"random": RandomSearch, "evolution": RegularizedEvolution, "ppo": RandomSearch}
    algorithm = algorithms[facts.algorithm](facts.space, facts.seed)
    generator, trials = random.Random(facts.seed), []
    for order in range(number):
        proposal = algorithm.ask(order)
        accuracy = true_accuracy(facts.space, proposal.network, generator.gauss(0, noise))
        counted = facts.space.cost(proposal.network)
        cost = float(getattr(counted, facts.cost_kind))
        trials.append(
            SearchTrial(
                number=order,
                network=proposal.network,
                accuracy=accuracy,
                params=counted.params,
                multiply_adds=counted.multiply_adds,
                cost=cost,
                reward=facts.objective.reward(accuracy, cost),
                cpu_seconds=30.0,
                is_pruned=order % 20 == 19,
                order=order,
            )
        )
        algorithm.tell(proposal, trials[-1].reward)
    return trials


def write(directory: Path, facts, trials):
    """Writes a search as `main.py search` does. Returns the directory as a flag has it."""
    directory.mkdir(parents=True, exist_ok=True)
    save_facts(str(directory / SEARCH_JSON), facts)
    write_atomically(str(directory / TRIALS_JSONL), "".join(map(to_line, trials)))
    return str(directory)
