"""The searches of a report: read, held against each other, and what is said about their networks. No TensorFlow."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_tpu.config.config import OPTIONS
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Stage
from efficientnet_tpu.models.complexity import count
from efficientnet_tpu.models.configured import configured_variant
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.paper.run_results import is_same_network
from efficientnet_tpu.run import run_record
from efficientnet_tpu.studies import trial
from efficientnet_tpu.studies.run_scaling_study import recipe_options
from efficientnet_tpu.studies.search.objective import pareto_front
from efficientnet_tpu.studies.search.search_files import SearchFacts, SearchTrial, load_search
from efficientnet_tpu.studies.search.space import OPERATIONS, Cost, Network

COUNTED_COSTS = ("multiply_adds", "params")  # that a network has without being built


@dataclass(frozen=True)
class Search:
    """A search with at least one network that was trained to its end. trials: in the order in which they ended."""

    directory: str
    facts: SearchFacts
    trials: tuple[SearchTrial, ...]

    @property
    def label(self) -> str:
        """Returns what the report calls the search: evolution-3."""
        return f"{self.facts.algorithm}-{self.facts.seed}"

    @functools.cached_property
    def trained(self) -> list[SearchTrial]:
        """Returns the trials that were trained to their end."""
        return [one for one in self.trials if not one.is_pruned]

    @property
    def winner(self) -> SearchTrial:
        """Returns the trained trial of the highest reward, of equals the first."""
        return max(self.trained, key=lambda one: one.reward)


def load(directories: Sequence[str]) -> list[Search]:
    """Returns the searches in the directories.

    Raises UserError for a directory without a search or without a trained network, and for searches that cannot be
    compared.
    """
    if not directories:
        raise UserError("--searches=: name the --output_dir of a search, or of several with commas between.")
    found: list[Search] = []
    for directory in directories:
        facts, trials = load_search(directory)
        one = Search(directory, facts, tuple(trials))
        if not one.trained:
            raise UserError(
                f"--searches={directory}: none of its {len(trials)} trials is whole and trained to its end. Let the "
                "search go on, or leave it out."
            )
        for other in found:
            _require_comparable(other, one)
        found.append(one)
    return found


def _require_comparable(one: Search, other: Search) -> None:
    """Raises UserError for two searches whose rewards are not of one kind, or which are one search."""
    named = f"--searches={one.directory},{other.directory}"
    fields = ("form", "cost_kind", "target", "num_classes")
    before, after = ({name: getattr(of, name) for name in fields} | of.recipe for of in (one.facts, other.facts))
    changed = [name for name, value in before.items() if value != after.get(name)]
    if changed:
        first, second = _shortened(before[changed[0]]), _shortened(after.get(changed[0]))
        raise UserError(
            f"{named}: {changed[0]} is {first} in the one and {second} in the other, so that their rewards cannot be "
            "compared. Report them one by one."
        )
    if one.label == other.label:
        raise UserError(
            f"{named}: both are {one.facts.algorithm} with seed {one.facts.seed}, which would count one search twice. "
            "Name one of them."
        )


def _shortened(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def best_trials(searches: Iterable[Search], number: int) -> list[tuple[Search, SearchTrial]]:
    """Returns the winner of every search and the best trained trials besides, `number` in all where there are so many,
    by falling reward. A network that is there already is left out.
    """
    searches = list(searches)
    chosen = [(search, search.winner) for search in searches]
    networks = {search.facts.space.stages(one.network) for search, one in chosen}
    others = [(search, one) for search in searches for one in search.trained]
    for search, one in sorted(others, key=lambda pair: -pair[1].reward):
        stages = search.facts.space.stages(one.network)
        if len(chosen) < number and stages not in networks:
            networks.add(stages)
            chosen.append((search, one))
    return sorted(chosen, key=lambda pair: -pair[1].reward)


def front(searches: Iterable[Search]) -> list[tuple[Search, SearchTrial]]:
    """Returns the trained trials that no other beats in accuracy or cost without losing in the other."""
    points = [((search, one), one.accuracy, one.cost) for search in searches for one in search.trained]
    return [item for item, _, _ in pareto_front(points)]


@dataclass(frozen=True)
class Skeleton:
    """The result of the skeleton itself. source: the trial or the run that has it, and how it was trained otherwise."""

    accuracy: float
    params: int
    multiply_adds: int
    cost: float
    reward: float
    source: str


def find_skeleton(searches: Sequence[Search], model_dir: str = "") -> Skeleton | None:
    """Returns the result of the skeleton: of the run in `model_dir`, or of a trial that was it; None without either.

    Raises UserError for a run of another network, one without an evaluation, or a cost that a run does not have.
    """
    if model_dir:
        return _skeleton_of_run(searches[0].facts, model_dir)
    for search in searches:
        for one in search.trained:
            if not describe_changes(search.facts, one.network):
                source = f"trial {one.number} of {search.label}"
                return Skeleton(one.accuracy, one.params, one.multiply_adds, one.cost, one.reward, source)
    return None


def _skeleton_of_run(facts: SearchFacts, model_dir: str) -> Skeleton:
    config = run_record.load(model_dir).config
    if not is_same_network(configured_variant(config.model), facts.skeleton):
        raise UserError(f"--model_dir={model_dir}: is a run of another network than {facts.name}, the skeleton.")
    if facts.cost_kind not in COUNTED_COSTS:
        raise UserError(f"--model_dir={model_dir}: a run does not know its {facts.cost_kind}. Leave the flag out.")
    evaluations = trial.read_evaluations(config, model_dir)
    if not evaluations:
        raise UserError(f"--model_dir={model_dir}: the run has not been evaluated. Train it to its end.")
    recipe = recipe_options(config)
    others = [
        f"--{name}={value}"
        for name, value in facts.recipe.items()
        if OPTIONS[name].section != "model" and recipe.get(name) != value
    ]
    source = model_dir + (f", trained otherwise than the trials, with their {' '.join(others)}" if others else "")
    counted = count(scale("", facts.skeleton, facts.num_classes))
    kept = Cost(counted.trainable_params, counted.multiply_adds)
    cost, accuracy = float(getattr(kept, facts.cost_kind)), evaluations[-1].top_1
    return Skeleton(accuracy, kept.params, kept.multiply_adds, cost, facts.objective.reward(accuracy, cost), source)


def describe_changes(facts: SearchFacts, network: Network) -> str:
    """Returns how a network differs from the skeleton: 'stage 2: mbconv3, 5 x 5, 24 -> 32 filters; stage 4: ...'.

    Empty for the skeleton itself.
    """
    names = {made: operation for operation, made in OPERATIONS.items()}
    lines = []
    pairs = zip(facts.skeleton.baseline.stages, facts.space.stages(network), strict=True)
    for number, (before, after) in enumerate(pairs, start=1):
        words = _changed_words(before, after, facts.skeleton.se_ratio)
        if (before.block, before.expand_ratio) != (after.block, after.expand_ratio):
            words.insert(0, names[after.block, after.expand_ratio])
        if words:
            lines.append(f"stage {number}: {', '.join(words)}")
    return "; ".join(lines)


def _changed_words(before: Stage, after: Stage, se_ratio: float) -> list[str]:
    words = []
    if before.kernel_size != after.kernel_size:
        words.append(f"{after.kernel_size} x {after.kernel_size}")
    if (se_ratio if before.se_ratio is None else before.se_ratio) != after.se_ratio:
        words.append(f"SE {after.se_ratio:g}" if after.se_ratio else "no SE")
    if before.skip != after.skip:
        words.append("no skip" if after.skip == "none" else f"skip {after.skip}")
    if before.filters != after.filters:
        words.append(f"{before.filters} -> {after.filters} filters")
    if before.repeats != after.repeats:
        words.append(f"{before.repeats} -> {after.repeats} layers")
    return words
