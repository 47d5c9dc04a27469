"""Gradients of a batch that does not fit into memory: micro-batches, one after the other, whose gradients are added.

The loop is inside the step of a replica. A step is still one batch of the stream: the order of images,
resuming, the learning rate and the average do not change. Shapes are static, as TPUs require.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import placement

# (images [batch, height, width, 3], targets float32 [batch, num_classes], seed int32 [2]) -> gradients, losses float32
# [batch], logits float32 [batch, num_classes]
GradientsOf = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]]


def require_even_micro_batches(train_config: TrainConfig, num_replicas: int) -> None:
    """Raises UserError unless --gradient_accumulation_steps divides a device's share of the batch."""
    count, share = train_config.gradient_accumulation_steps, train_config.batch_size // num_replicas
    # Equal slices only: the shapes of a compiled loop are static.
    if share % count == 0:
        return
    fitting = [number for number in range(1, share + 1) if share % number == 0]
    nearest = [max(number for number in fitting if number < count), *(number for number in fitting if number > count)]
    devices = "the device" if num_replicas == 1 else f"each of {num_replicas} devices"
    raise UserError(
        f"--gradient_accumulation_steps={count}: does not divide the {share} images that --train_batch_size="
        f"{train_config.batch_size} gives to {devices}. Use {' or '.join(map(str, nearest[:2]))}."
    )


def require_no_collective(strategy: tf.distribute.Strategy, train_config: TrainConfig, group_size: int) -> None:
    """Raises UserError where batch norm would reduce over devices inside the loop.

    Only TPUStrategy allows a collective in a while loop.
    """
    count, reduces = train_config.gradient_accumulation_steps, group_size > 1 and train_config.bn_mode != "frozen"
    if count > 1 and reduces and not placement.is_tpu(strategy):
        raise UserError(
            f"--gradient_accumulation_steps={count}: not with batch norm over groups of {group_size} devices, except "
            "on TPUs. Use at most 8 devices, or --bn_mode=frozen."
        )


def in_micro_batches(gradients_of: GradientsOf, weights: Sequence[keras.Variable], count: int) -> GradientsOf:
    """Returns a function that applies `gradients_of`, the gradients of `weights`, to `count` equal slices of a batch.

    Gradients are summed in float32, as the weights are, so the loss of a micro-batch must be its share of the batch's.
    Every micro-batch has a seed of its own. With a count of one, `gradients_of` itself is returned, without a loop.
    """
    if count == 1:
        return gradients_of

    def gradients_in_micro_batches(
        images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        size = images.shape[0] // count
        slices = [tf.reshape(x, [count, size, *x.shape[1:]]) for x in (images, targets)]

        def add_micro_batch(
            index: tf.Tensor, sums: list[tf.Tensor], losses: tf.TensorArray, logits: tf.TensorArray
        ) -> tuple[tf.Tensor, list[tf.Tensor], tf.TensorArray, tf.TensorArray]:
            # A seed for each micro-batch: with the same one all would drop the same units.
            micro_seed = tf.random.experimental.stateless_fold_in(seed, index)
            gradients, micro_losses, micro_logits = gradients_of(*(tf.gather(x, index) for x in slices), micro_seed)
            sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
            return index + 1, sums, losses.write(index, micro_losses), logits.write(index, micro_logits)

        start = (
            tf.constant(0),
            [tf.zeros(weight.shape) for weight in weights],
            tf.TensorArray(tf.float32, count, element_shape=[size]),
            tf.TensorArray(tf.float32, count, element_shape=[size, targets.shape[1]]),
        )
        # One at a time, so that memory holds the activations of one micro-batch only.
        _, sums, losses, logits = tf.while_loop(
            lambda index, *_: index < count, add_micro_batch, start, parallel_iterations=1, maximum_iterations=count
        )
        return sums, tf.reshape(losses.stack(), [-1]), tf.reshape(logits.stack(), [-1, targets.shape[1]])

    return gradients_in_micro_batches
