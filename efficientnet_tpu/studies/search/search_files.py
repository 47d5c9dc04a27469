"""The files of an architecture search: search.json with what it searches, and trials.jsonl with a line for each trial.

Whoever has both has the search: they are what is committed as data, and what the report is made of. No TensorFlow.
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.config.studies import SEARCH_ALGORITHMS, SEARCH_COSTS
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.configured import configured_variant
from efficientnet_tpu.run.run_record import read_options
from efficientnet_tpu.storage import json_lines
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.studies.run_scaling_study import recipe_options
from efficientnet_tpu.studies.search.objective import EXPONENTS, Objective, make_objective
from efficientnet_tpu.studies.search.space import Cost, Network, SearchSpace, decode, encode
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown

SEARCH_JSON = "search.json"
TRIALS_JSONL = "trials.jsonl"


@dataclass(frozen=True)
class SearchFacts:
    """The facts of a search, all of which its trials share.

    name: of the skeleton. algorithm: one of SEARCH_ALGORITHMS. form: of the objective, a key of EXPONENTS. cost_kind:
    what it counts, one of SEARCH_COSTS. target: in the unit of that. config: how a trial is trained, with the skeleton
    in the place of its network; of it only what `recipe_options` returns belongs to the search.
    """

    name: str
    algorithm: str
    seed: int
    form: str
    cost_kind: str
    target: float
    num_classes: int
    config: Config

    @property
    def skeleton(self) -> Variant:
        """Returns the network whose stages are changed."""
        return configured_variant(self.config.model)

    @property
    def objective(self) -> Objective:
        """Returns the objective that gives a trial its reward."""
        return make_objective(self.form, self.target)

    @functools.cached_property
    def space(self) -> SearchSpace:
        """Returns the space that the trials are points of."""
        return SearchSpace(self.skeleton, self.num_classes)

    def describe_cost(self, cost: float) -> str:
        """Formats a cost with its unit."""
        if self.cost_kind in ("latency", "tpu_step"):
            return f"{1e3 * cost:.4g} ms"
        return f"{cost / 1e6:.4g} M {self.cost_kind.replace('_', '-')}"

    @property
    def recipe(self) -> dict[str, Any]:
        """Returns the options that say how a trial is trained and what the skeleton is, by flag name."""
        return recipe_options(self.config)


@dataclass(frozen=True)
class SearchTrial:
    """A trial that has ended.

    number: its place in the order in which trials were asked for, from 0. order: that in which they ended, from 0.
    accuracy: 0..1, on the images to choose by. cost: in the unit of the objective's target. is_pruned: whether its
    training was ended early, so that its accuracy is none of the network's.
    """

    number: int
    network: Network
    accuracy: float
    params: int
    multiply_adds: int
    cost: float
    reward: float
    cpu_seconds: float
    is_pruned: bool
    order: int


def to_line(trial: SearchTrial) -> str:
    """Returns the line of a file of JSON lines with a trial."""
    values = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    return json_lines.line(values | {"network": encode(trial.network)})


def from_json(value: Mapping[str, Any], space: SearchSpace) -> SearchTrial:
    """Returns the trial in the value of a line of `to_line`.

    Raises TypeError, KeyError or ValueError for another value: a network that is none of the space's, counts that are
    not its own, or numbers that no trial has.
    """
    names = {field.name for field in dataclasses.fields(SearchTrial)}
    if value.keys() != names:
        raise ValueError(f"has {', '.join(value)}, and not {', '.join(sorted(names))}")
    wrong = [name for name, kinds in _KINDS.items() if type(value[name]) not in kinds]
    if wrong:
        raise TypeError(f"{wrong[0]} is {value[wrong[0]]!r}")
    try:
        network = decode(value["network"], space)
    except UserError as error:
        raise ValueError(error) from error
    trial = SearchTrial(**{**value, "network": network})
    real = trial.accuracy, trial.cost, trial.reward, trial.cpu_seconds
    if not all(map(math.isfinite, real)) or not 0 <= trial.accuracy <= 1 or trial.cost <= 0 or trial.cpu_seconds < 0:
        raise ValueError("has a number out of range")
    if min(trial.number, trial.order) < 0 or space.cost(network) != Cost(trial.params, trial.multiply_adds):
        raise ValueError("has counts that are not the network's")
    return trial


_REAL = (int, float)
_KINDS = {
    "number": (int,), "network": (str,), "accuracy": _REAL, "params": (int,), "multiply_adds": (int,), "cost": _REAL,
    "reward": _REAL, "cpu_seconds": _REAL, "is_pruned": (bool,), "order": (int,),
}  # fmt: skip


def save_facts(path: str, facts: SearchFacts) -> None:
    """Writes search.json at `path`. Raises OSError."""
    values = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    write_atomically(path, json.dumps(values | {"config": facts.recipe}, indent=1) + "\n")


def load_facts(path: str) -> SearchFacts:
    """Returns what `save_facts` wrote. Raises UserError for a file that cannot be read or holds something else."""
    try:
        content = read_json(read_text(path, path))
        config = read_options(path, content.pop("config"))
        facts = SearchFacts(**content, config=config)
        kinds = {"name": (str,), "seed": (int,), "target": _REAL, "num_classes": (int,)}
        wrong = [name for name, allowed in kinds.items() if type(getattr(facts, name)) not in allowed]
        choices = {"algorithm": SEARCH_ALGORITHMS, "form": EXPONENTS, "cost_kind": SEARCH_COSTS}
        wrong += [name for name, known in choices.items() if getattr(facts, name) not in known]
        wrong += [name for name in ("target", "num_classes") if not wrong and getattr(facts, name) <= 0]
        if wrong:
            raise ValueError(f"{wrong[0]} is {content[wrong[0]]!r}")
        facts.space  # noqa: B018 - raises for a skeleton that is none
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else shown(error)
        raise UserError(f"{path}: does not describe an architecture search: {reason}") from error
    return facts


def load_search(directory: str) -> tuple[SearchFacts, list[SearchTrial]]:
    """Returns the facts of the search in a directory and its trials in the order in which they ended.

    Prints a line about what is damaged. Of lines about one trial the first counts: a program that was killed between
    writing it and noting that may have written it again. Raises UserError where there is no search.
    """
    path = os.path.join(directory, TRIALS_JSONL)
    facts = load_facts(os.path.join(directory, SEARCH_JSON))
    found = json_lines.read(path, functools.partial(from_json, space=facts.space))
    if found.damaged:
        print(found.damage(path), flush=True)
    trials: dict[int, SearchTrial] = {}
    for trial in found.entries:
        trials.setdefault(trial.number, trial)
    return facts, sorted(trials.values(), key=lambda trial: trial.order)
