"""What TensorBoard shows of a run besides numbers."""

import io
import types

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tensorboard(tf, tmp_path):
    from efficientnet_tpu.run.tracking.tensorboard import TensorBoard

    return TensorBoard(str(tmp_path), ("train", "validation"))


@pytest.fixture
def state(tf):
    import keras

    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
    optimizer = keras.optimizers.RMSprop(momentum=0.9)
    optimizer.build(model.trainable_variables)
    return types.SimpleNamespace(model=model, optimizer=optimizer)


def _found(tf, folder):
    """Returns the summaries below a folder, by tag, and the graphs."""
    summaries, graphs = {}, []
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            summaries |= {value.tag: (event.step, value) for value in event.summary.value}
            graphs += [event.graph_def] if event.graph_def else []
    return summaries, graphs


def test_a_run_begins_with_options_inputs_and_the_network(tf, tensorboard, state, tmp_path):
    images = np.zeros((16, 8, 8, 3), np.uint8)
    tensorboard.start({"base_learning_rate": 0.1, "model": "nano", "steps": None}, images, state.model)
    summaries, [graph] = _found(tf, tmp_path / "tensorboard" / "train")
    assert "_hparams_/session_start_info" in summaries
    encoded = tf.make_ndarray(summaries["augmented inputs"][1].tensor)
    assert len(encoded) == 2 + 16  # width, height, and a PNG file for each
    nodes = tf.compat.v1.GraphDef.FromString(graph).node
    assert any(node.op == "MatMul" for node in nodes)


def test_histograms_of_weights_and_of_the_last_update(tf, tensorboard, state, tmp_path):
    state.optimizer.apply([tf.ones_like(weight) for weight in state.model.trainable_variables])
    tensorboard.weights(7, state.model, state.optimizer)
    summaries, _ = _found(tf, tmp_path / "tensorboard" / "train")
    step, value = next(found for tag, found in summaries.items() if tag.startswith("weights/") and "kernel" in tag)
    buckets = tf.make_ndarray(value.tensor)
    assert (step, buckets[:, 2].sum()) == (7, state.model.weights[0].shape.num_elements())
    updates = [tf.make_ndarray(found[1].tensor) for tag, found in summaries.items() if tag.startswith("updates/")]
    assert len(updates) == 2
    assert all((buckets[:, :2] != 0).any() for buckets in updates)


def test_a_large_tensor_is_sampled(tf):
    import keras

    from efficientnet_tpu.run.tracking import tensorboard

    values = tensorboard._values(keras.Variable(np.arange(300_000, dtype=np.float32)))
    assert len(values) == 60_000
    assert values[-1] > 299_000


def test_the_picture_of_confusions(tf, tensorboard, tmp_path):
    counts = np.array([[9.0, 1.0], [0.0, 5.0]], np.float32)
    tensorboard.confusion("validation", 50, counts, ["Gänseblümchen", "桜"])
    summaries, _ = _found(tf, tmp_path / "tensorboard" / "validation")
    step, value = summaries["confusion"]
    picture = np.asarray(Image.open(io.BytesIO(tf.make_ndarray(value.tensor)[2])).convert("RGB"))
    assert step == 50
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 80).mean()
    assert blue > 0.1  # the diagonal


def test_pictures_are_drawn_when_they_cost_little(tf, monkeypatch):
    from efficientnet_tpu.run.tracking import tensorboard

    clock, calls = [0.0], []
    monkeypatch.setattr(tensorboard.time, "monotonic", lambda: clock[0])
    throttle = tensorboard.Throttle(most_share=0.01)

    def draw():
        calls.append(clock[0])
        clock[0] += 1.0

    for now in (5.0, 50.0, 106.0, 107.5, 300.0):
        clock[0] = now
        throttle.run(draw)
    assert calls == [5.0, 106.0, 300.0]


def test_a_picture_that_fails_ends_no_training(tf, tensorboard, state, capsys):
    from efficientnet_tpu.run.tracking.run_pictures import RunPictures

    calls = []

    def fail():
        calls.append(1)
        raise RuntimeError("no such font")

    pictures = RunPictures(tensorboard, state, "validation", ["a", "b"], {}, fail, lambda: None)
    pictures.on_evaluation(10)
    pictures.on_evaluation(20)
    assert capsys.readouterr().out == "warning: TensorBoard's pictures are left out: no such font\n"
    assert calls == [1]
