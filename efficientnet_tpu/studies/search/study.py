"""The study of a search: which trials there are, what the algorithm was told of them, and what each of them does.

Optuna keeps the trials. The algorithm is rebuilt from them: it is told what has ended, in that order, before it is
asked. So a search that is taken up again, and another host's program, ask as the first one would have.
"""

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import DivergedError
from efficientnet_tpu.models.configured import network_options
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.studies import shared_study, trial
from efficientnet_tpu.studies.search.algorithms import Algorithm, Proposal, RandomSearch, RegularizedEvolution
from efficientnet_tpu.studies.search.cost import CostFunction
from efficientnet_tpu.studies.search.search_files import TRIALS_JSONL, SearchFacts, SearchTrial, to_line
from efficientnet_tpu.studies.search.space import Network, SearchSpace, decode, encode

# Attributes of trials. A trial that is taken up again has the number it was asked for by.
_NUMBER, _NETWORK, _NOTES = "number", "network", "notes"
_ACCURACY, _COST, _CPU_SECONDS = "accuracy", "cost", "cpu_seconds"
PRUNING_STARTS_AFTER = 20  # trials without which a median says little


def make_algorithm(name: str, space: SearchSpace, seed: int) -> Algorithm:
    """Returns the algorithm of a name in SEARCH_ALGORITHMS."""
    if name == "random":
        return RandomSearch(space, seed)
    if name == "evolution":
        return RegularizedEvolution(space, seed)
    from efficientnet_tpu.studies.search.controller import Controller

    return Controller(space, seed)


@dataclass
class SearchStudy:
    """The study of a search and its algorithm. Workers, threads of one program, share one."""

    config: Config
    facts: SearchFacts
    study: Any
    cost: CostFunction
    algorithm: Algorithm

    def __post_init__(self) -> None:
        from optuna.pruners import MedianPruner

        self.study.pruner = MedianPruner(n_startup_trials=PRUNING_STARTS_AFTER)

    _told: set[int] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def take_up_interrupted(self) -> None:
        """Enqueues the trials that were asked for and that nobody trains any more."""
        from optuna.trial import TrialState

        trials = [one for one in self.study.get_trials(deepcopy=False) if _NETWORK in one.user_attrs]
        alive = {one.user_attrs[_NUMBER] for one in trials if one.state != TrialState.FAIL}
        for one in trials:
            attributes = {key: one.user_attrs[key] for key in (_NUMBER, _NETWORK, _NOTES)}
            if attributes[_NUMBER] not in alive:
                alive.add(attributes[_NUMBER])
                self.study.enqueue_trial({}, user_attrs=attributes)

    def work(self, stop: Event) -> None:
        """Runs one trial after another until all have ended, and waits while other workers' trials may still fail."""
        import optuna
        from optuna.trial import TrialState

        while not stop.is_set():
            optuna.storages.fail_stale_trials(self.study)
            states = [one.state for one in self.study.get_trials(deepcopy=False)]
            if TrialState.WAITING in states or self._num_asked() < self.config.search.search_trials:
                self.study.optimize(functools.partial(self._run_trial, stop), n_trials=1)
                self.write_trials()
            elif TrialState.RUNNING in states:
                stop.wait(shared_study.HEARTBEAT_SECONDS / 5)
            else:
                return

    def ended(self) -> list[SearchTrial]:
        """Returns the trials that have ended, in the order in which they did."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        found = [one for one in trials if _ACCURACY in one.user_attrs]
        found.sort(key=lambda one: (one.datetime_complete, one.number))
        return [self._as_search_trial(one, order) for order, one in enumerate(found)]

    def write_trials(self) -> None:
        """Writes trials.jsonl, with a line for each trial that has ended."""
        output_dir = self.config.output.output_dir
        with self._lock, explained_write_errors(f"--output_dir={output_dir}"):
            lines = "".join(map(to_line, self.ended()))
            write_atomically(os.path.join(output_dir, TRIALS_JSONL), lines)

    def cost_of_skeleton(self) -> float:
        """Returns the cost of the network that the search changes, in the unit of the target."""
        return self.cost(self.facts.space.skeleton_network())

    def _num_asked(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        return len({one.user_attrs[_NUMBER] for one in trials if _NUMBER in one.user_attrs})

    def _run_trial(self, stop: Event, one: Any) -> float:
        """Runs a trial of Optuna's and returns its reward."""
        import optuna

        network = self.network_of(one)
        known = [before for before in self.ended() if before.network == network and not before.is_pruned]
        if known:
            # The same network trained by the same seed is the same training.
            accuracy, cost, cpu_seconds, is_pruned = known[0].accuracy, known[0].cost, 0.0, False
        else:
            cost = self.cost(network)
            try:
                outcome = self._train(one, network, cost, stop)
                accuracy, cpu_seconds, is_pruned = outcome.chosen_by, outcome.cpu_seconds, outcome.is_pruned
            except DivergedError:  # the worst that a network can do, and no reason to end the search
                accuracy, cpu_seconds, is_pruned = 0.0, 0.0, False
        for name, value in ((_COST, cost), (_CPU_SECONDS, round(cpu_seconds, 1)), (_ACCURACY, accuracy)):
            one.set_user_attr(name, value)
        reward = self.facts.objective.reward(accuracy, cost)
        self._print(one, network, accuracy, cost, reward, "" if known else f"{cpu_seconds:.0f} CPU seconds")
        if is_pruned:
            raise optuna.TrialPruned
        return reward

    def network_of(self, one: Any) -> Network:
        """Returns the network of a trial, which the algorithm is asked for unless the trial is taken up again."""
        import optuna

        with self._lock:
            if _NETWORK not in one.user_attrs:
                if self._num_asked() >= self.config.search.search_trials:  # another worker took the last one
                    raise optuna.TrialPruned
                self._tell_ended()
                proposal = self.algorithm.ask(self._take_number(one))
                one.set_user_attr(_NOTES, dict(proposal.notes))
                one.set_user_attr(_NETWORK, encode(proposal.network))
            return decode(one.user_attrs[_NETWORK], self.facts.space)

    def _take_number(self, one: Any) -> int:
        """Gives a trial the next number, which no other host's trial has or takes, and returns it."""
        number = self._num_asked()
        while True:
            one.set_user_attr(_NUMBER, number)
            others = [other for other in self.study.get_trials(deepcopy=False) if other.number != one.number]
            taken = {other.user_attrs.get(_NUMBER): other.number for other in others}
            if taken.get(number, one.number) >= one.number:
                return number
            number += 1

    def _tell_ended(self) -> None:
        """Tells the algorithm of the trials that have ended since."""
        notes = {one.user_attrs.get(_NUMBER): one.user_attrs.get(_NOTES) for one in self.study.get_trials()}
        for ended in self.ended():
            if ended.number not in self._told:
                self._told.add(ended.number)
                self.algorithm.tell(Proposal(ended.network, notes[ended.number]), ended.reward)

    def _train(self, one: Any, network: Network, cost: float, stop: Event) -> trial.Outcome:
        options = network_options(encode(network), self.facts.space.variant(network))
        model_dir = os.path.join(self.config.output.output_dir, f"trial-{one.user_attrs[_NUMBER]:04d}")

        def is_hopeless(evaluations: Sequence[trial.Evaluation]) -> bool:
            last = evaluations[-1]
            one.report(self.facts.objective.reward(last.top_1, cost), len(evaluations))
            return last.epoch < 0.95 * self.config.train.train_epochs and one.should_prune()

        if not self.config.search.search_pruning:
            return trial.run(with_options(self.config, options), model_dir, stop)
        return trial.run(with_options(self.config, options), model_dir, stop, is_hopeless)

    def _as_search_trial(self, one: Any, order: int) -> SearchTrial:
        from optuna.trial import TrialState

        attributes = one.user_attrs
        network = decode(attributes[_NETWORK], self.facts.space)
        counted = self.facts.space.cost(network)
        return SearchTrial(
            number=attributes[_NUMBER],
            network=network,
            accuracy=attributes[_ACCURACY],
            params=counted.params,
            multiply_adds=counted.multiply_adds,
            cost=attributes[_COST],
            reward=self.facts.objective.reward(attributes[_ACCURACY], attributes[_COST]),
            cpu_seconds=attributes[_CPU_SECONDS],
            is_pruned=one.state == TrialState.PRUNED,
            order=order,
        )

    def _print(self, one: Any, network: Network, accuracy: float, cost: float, reward: float, took: str) -> None:
        ended = self.ended()
        best = max([reward, *(before.reward for before in ended)])
        print(
            f"{time.strftime('%H:%M')}  trial {one.user_attrs[_NUMBER]}, {encode(network)}: top-1 {accuracy:.2%}, "
            f"{self.facts.describe_cost(cost)}, reward {reward:.4f}, best so far {best:.4f}; "
            f"{took or 'trained before'}; {len(ended) + 1} of {self.config.search.search_trials}",
            flush=True,
        )
