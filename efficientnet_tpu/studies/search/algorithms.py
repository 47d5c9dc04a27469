"""The algorithms of the architecture search behind one interface: ask for a network, tell its reward.

An algorithm is a function of its seed and of what it was told, in that order: a search that was killed tells its trials
anew, and goes on as it would have. No TensorFlow here; the paper's controller is in `controller`.
"""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from efficientnet_tpu.studies.search.space import Network, SearchSpace


@dataclass(frozen=True)
class Proposal:
    """A network to train, and what the algorithm has to know again when it is told its reward."""

    network: Network
    notes: Mapping[str, float] = field(default_factory=dict)


class Algorithm(Protocol):
    """The interface of a search algorithm."""

    def ask(self, number: int) -> Proposal:
        """Returns the network of trial `number`, counted from 0. It may be asked before earlier trials are told."""
        ...

    def tell(self, proposal: Proposal, reward: float) -> None:
        """Takes the reward of a trial, in the order in which trials end."""
        ...


class RandomSearch:
    """The control: every network has the same probability, whatever was found."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def ask(self, number: int) -> Proposal:
        """Returns the network of trial `number`."""
        return Proposal(self._space.sample(_generator(self._seed, number)))

    def tell(self, proposal: Proposal, reward: float) -> None:
        """Takes a reward, which changes nothing."""


class RegularizedEvolution:
    """The evolution with an age limit of Real et al. 2019 (algorithm 1), with crossover.

    The best of a random sample of the population has a child; the newest `population_size` networks are the population.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        population_size: int = 30,
        sample_size: int = 8,
        crossover_probability: float = 0.25,
    ) -> None:
        """sample_size: of the networks among which a parent is chosen. crossover_probability: of a second parent."""
        self._space = space
        self._seed = seed
        self._population: deque[tuple[Network, float]] = deque(maxlen=population_size)
        self._population_size = population_size
        self._sample_size = sample_size
        self._crossover_probability = crossover_probability

    def ask(self, number: int) -> Proposal:
        """Returns a random network until the population is full, then a child."""
        generator = _generator(self._seed, number)
        if len(self._population) < self._population_size:
            return Proposal(self._space.sample(generator))
        network = self._parent(generator)
        if generator.random() < self._crossover_probability:
            network = self._space.crossover(network, self._parent(generator), generator)
        return Proposal(self._space.mutate(network, generator))

    def tell(self, proposal: Proposal, reward: float) -> None:
        """Adds a network to the population; the oldest one leaves it."""
        self._population.append((proposal.network, reward))

    def _parent(self, generator: random.Random) -> Network:
        sample = generator.sample(list(self._population), min(self._sample_size, len(self._population)))
        return max(sample, key=lambda member: member[1])[0]


def _generator(seed: int, number: int) -> random.Random:
    """Returns the random numbers of a trial, the same whenever it is asked for."""
    return random.Random(f"{seed} {number}")
