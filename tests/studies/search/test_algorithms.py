"""Search algorithms on a problem with a known answer: the share of choices that are a hidden network's."""

import statistics
from dataclasses import replace

import pytest

from efficientnet_tpu.models.architecture import VARIANTS
from efficientnet_tpu.studies.search.algorithms import RandomSearch, RegularizedEvolution
from efficientnet_tpu.studies.search.space import SearchSpace, to_tokens

B0 = VARIANTS["efficientnet-b0"]
WHOLE = SearchSpace()
SMALL = SearchSpace(replace(B0, baseline=replace(B0.baseline, stages=B0.baseline.stages[1:2])))
HIDDEN = {WHOLE: to_tokens(WHOLE.skeleton_network()), SMALL: to_tokens(SMALL.skeleton_network())}


def reward(space, network):
    pairs = zip(to_tokens(network), HIDDEN[space], strict=True)
    return statistics.mean(token == hidden for token, hidden in pairs)


def search(algorithm, space, trials):
    """Tells each trial before the next is asked for. Returns the proposals and their rewards."""
    proposals, rewards = [], []
    for number in range(trials):
        proposals.append(algorithm.ask(number))
        rewards.append(reward(space, proposals[-1].network))
        algorithm.tell(proposals[-1], rewards[-1])
    return proposals, rewards


def controller(tf, space, seed):
    from efficientnet_tpu.studies.search.controller import Controller

    return Controller(space, seed)


MAKERS = {
    "random": lambda tf, space, seed: RandomSearch(space, seed),
    "evolution": lambda tf, space, seed: RegularizedEvolution(space, seed, population_size=10, sample_size=4),
    "ppo": controller,
}


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_was_told_is_told_anew_and_the_search_goes_on_as_it_would_have(tf, make):
    straight, _ = search(make(tf, SMALL, 3), SMALL, 45)
    taken_up = make(tf, SMALL, 3)
    for proposal in straight[:25]:
        taken_up.tell(proposal, reward(SMALL, proposal.network))
    for number in range(25, 45):
        proposal = taken_up.ask(number)
        assert proposal.network == straight[number].network
        taken_up.tell(proposal, reward(SMALL, proposal.network))
    assert make(tf, SMALL, 4).ask(0).network != straight[0].network


def test_random_search_does_not_learn():
    _, rewards = search(RandomSearch(WHOLE, 1), WHOLE, 400)
    expected = statistics.mean(1 / number for number in WHOLE.num_values)
    assert statistics.mean(rewards[:200]) == pytest.approx(expected, abs=0.02)
    assert statistics.mean(rewards[200:]) == pytest.approx(expected, abs=0.02)


def test_evolution_finds_more_than_random_search():
    for seed in range(5):
        _, rewards = search(RegularizedEvolution(WHOLE, seed), WHOLE, 300)
        _, control = search(RandomSearch(WHOLE, seed), WHOLE, 300)
        assert max(rewards) > max(control) + 0.15
        assert statistics.mean(rewards[-50:]) > 0.7


def test_evolution_forgets_the_oldest():
    evolution = RegularizedEvolution(WHOLE, 1, population_size=5, sample_size=5, crossover_probability=0)
    proposals, _ = search(evolution, WHOLE, 5)
    best = proposals[0]
    evolution.tell(best, 100.0)
    for number in range(5, 20):
        child = to_tokens(evolution.ask(number).network)
        assert sum(a != b for a, b in zip(child, to_tokens(best.network), strict=True)) == 1
    for proposal in proposals:
        evolution.tell(proposal, 0.0)
    children = [to_tokens(evolution.ask(number).network) for number in range(20, 40)]
    parents = {to_tokens(proposal.network) for proposal in proposals}
    assert all(any(sum(a != b for a, b in zip(child, one, strict=True)) == 1 for one in parents) for child in children)


@pytest.mark.slow
def test_ppo_finds_the_hidden_network_of_one_block(tf):
    """A policy that learns nothing has 0.39 in the mean; one that has learnt is near 1."""
    _, rewards = search(controller(tf, SMALL, 1), SMALL, 300)
    assert statistics.mean(rewards[:50]) < 0.6
    assert statistics.mean(rewards[-50:]) > 0.85


@pytest.mark.slow
def test_ppo_finds_more_than_random_search(tf):
    _, rewards = search(controller(tf, WHOLE, 1), WHOLE, 300)
    _, control = search(RandomSearch(WHOLE, 1), WHOLE, 300)
    assert max(rewards) > max(control)
    assert statistics.mean(rewards[-50:]) > statistics.mean(control[-50:]) + 0.2


def test_a_draw_has_the_probability_that_the_policy_gives_it(tf):
    import numpy as np

    from efficientnet_tpu.studies.search.controller import Policy

    policy = Policy(SMALL.num_values, 16, seed=1)
    sample, probabilities = tf.function(policy.sample), tf.function(policy.log_probabilities)
    for number in range(50):
        tokens, log_probability = sample(tf.constant([1, number]))
        again, entropy = probabilities(tokens[tf.newaxis])
        np.testing.assert_allclose(again[0], log_probability, rtol=1e-5)
        assert all(token < number for token, number in zip(tokens.numpy(), SMALL.num_values, strict=True))
    # Nearly uniform at the start: the mean of the logarithms of the numbers of values.
    assert float(entropy[0]) == pytest.approx(statistics.mean(map(float, np.log(SMALL.num_values))), rel=0.01)
