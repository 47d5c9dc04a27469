"""The controller of the paper's search: a recurrent network that writes a network token by token, trained by PPO.

MnasNet (Tan et al. 2019, section 3.2) names the controller of Zoph et al. 2018 and proximal policy optimization, and
prints no sizes, rates or batches. The constants here are this program's own.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.studies.search.algorithms import Proposal
from efficientnet_tpu.studies.search.space import SearchSpace, from_tokens, to_tokens

_LOG_PROBABILITY = "log_probability"
_START = 0  # the token before the first


@dataclass(frozen=True)
class PPOConstants:
    """The constants of proximal policy optimization (Schulman et al. 2017).

    batch_size: trials between two updates. epochs: passes over them in an update. clip: how far a pass may change a
    probability. entropy_weight: of the policy's entropy, in nats a token. decay: of the moving average of rewards that
    is subtracted from them.
    """

    batch_size: int = 10
    epochs: int = 5
    learning_rate: float = 3e-3
    clip: float = 0.2
    entropy_weight: float = 1e-2
    decay: float = 0.9


class Policy(keras.layers.Layer):
    """A distribution of token sequences: an LSTM that reads the token before, and a softmax for each place."""

    def __init__(self, num_values: tuple[int, ...], units: int, seed: int) -> None:
        """num_values: the number of values of each token. units: of the LSTM, and of the embedding of a token."""
        super().__init__()
        most = max(num_values)
        seeds = iter(range(seed, seed + 5))
        self._places = len(num_values)
        uniform = keras.initializers.RandomUniform
        self.cell = keras.layers.LSTMCell(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
        )
        # A token has a vector for each place, since it means something else there.
        self.embedding = self.add_weight(
            shape=(1 + self._places * most, units), initializer=uniform(-0.1, 0.1, next(seeds)), name="embedding"
        )
        self.kernels = self.add_weight(
            shape=(self._places, units, most), initializer=uniform(-0.1, 0.1, next(seeds)), name="kernels"
        )
        self.biases = self.add_weight(shape=(self._places, most), initializer="zeros", name="biases")
        # Minus a large number where a place has fewer values.
        self._mask = tf.constant(np.where(np.arange(most) < np.array(num_values)[:, None], 0.0, -1e9), tf.float32)
        self._most = most
        self.cell.build((None, units))

    def sample(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws a sequence. seed: int32 [2]. Returns tokens int32 [places] and log probability float32 []."""
        tokens, log_probability = [], tf.constant(0.0)
        states, rows = self._start(1)
        draws = tf.random.stateless_uniform([self._places, self._most], seed, 1e-20, 1.0)
        for place in range(self._places):
            logits, states = self._step(place, rows, states)
            log_probabilities = tf.nn.log_softmax(logits[0])
            # The largest of logits plus Gumbel noise is a draw from their softmax.
            token = tf.argmax(log_probabilities - tf.math.log(-tf.math.log(draws[place])), output_type=tf.int32)
            log_probability += log_probabilities[token]
            tokens.append(token)
            rows = tf.gather(self.embedding, [1 + place * self._most + token])
        return tf.stack(tokens), log_probability

    def log_probabilities(self, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the log probability and the mean entropy of a token of sequences, float32 [batch], in nats.

        tokens: int32 [batch, places].
        """
        states, rows = self._start(tf.shape(tokens)[0])
        total, entropy = tf.constant(0.0), tf.constant(0.0)
        for place in range(self._places):
            logits, states = self._step(place, rows, states)
            log_probabilities = tf.nn.log_softmax(logits)
            total += tf.gather(log_probabilities, tokens[:, place], batch_dims=1)
            entropy -= tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, axis=1)
            rows = tf.gather(self.embedding, 1 + place * self._most + tokens[:, place])
        return total, entropy / self._places

    def _start(self, batch: int | tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        zeros = tf.zeros([batch, self.cell.units])
        return [zeros, zeros], tf.gather(self.embedding, tf.fill([batch], _START))

    def _step(self, place: int, rows: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        outputs, states = self.cell(rows, states)
        return tf.matmul(outputs, self.kernels[place]) + self.biases[place] + self._mask[place], states


class Controller:
    """The paper's search algorithm: see `algorithms.Algorithm`."""

    def __init__(
        self, space: SearchSpace, seed: int, constants: PPOConstants = PPOConstants(), units: int = 100
    ) -> None:
        """units: of the LSTM; 100 as in Zoph & Le 2017."""
        self._seed = seed
        self._constants = constants
        self._policy = Policy(space.num_values, units, seed)
        self._optimizer = keras.optimizers.Adam(constants.learning_rate)
        self._optimizer.build(self._policy.trainable_variables)
        self._baseline: float | None = None
        self._told: list[tuple[tuple[int, ...], float, float]] = []
        self._sample = tf.function(self._policy.sample, autograph=False)
        self._update = tf.function(self._make_step, autograph=False)

    def ask(self, number: int) -> Proposal:
        """Returns a network that the policy draws now."""
        tokens, log_probability = self._sample(tf.constant([self._seed, number]))
        return Proposal(from_tokens(tokens.numpy().tolist()), {_LOG_PROBABILITY: float(log_probability)})

    def tell(self, proposal: Proposal, reward: float) -> None:
        """Takes a reward; when `batch_size` are together, the policy is trained by them."""
        self._told.append((to_tokens(proposal.network), proposal.notes[_LOG_PROBABILITY], reward))
        if len(self._told) == self._constants.batch_size:
            self._learn()
            self._told.clear()

    def _learn(self) -> None:
        tokens, before, rewards = (np.array(column) for column in zip(*self._told, strict=True))
        mean = float(rewards.mean())
        decay = self._constants.decay
        advantages = rewards - (mean if self._baseline is None else self._baseline)
        self._baseline = mean if self._baseline is None else decay * self._baseline + (1 - decay) * mean
        # Accuracies that differ by little must teach as much as others.
        advantages = advantages / (rewards.std() + 1e-8)
        for _ in range(self._constants.epochs):
            self._update(
                tf.constant(tokens, tf.int32), tf.constant(before, tf.float32), tf.constant(advantages, tf.float32)
            )

    def _make_step(self, tokens: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor) -> None:
        """Makes a step of PPO's clipped objective.

        tokens: int32 [batch, places]. before, advantages: float32 [batch], the log probabilities when they were drawn.
        """
        clip = self._constants.clip
        with tf.GradientTape() as tape:
            now, entropy = self._policy.log_probabilities(tokens)
            ratio = tf.exp(now - before)
            gain = tf.minimum(ratio * advantages, tf.clip_by_value(ratio, 1 - clip, 1 + clip) * advantages)
            loss = -tf.reduce_mean(gain + self._constants.entropy_weight * entropy)
        variables = self._policy.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
