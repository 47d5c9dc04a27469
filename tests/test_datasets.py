"""What --dataset and --data_dir may name, and what each source makes of the same images."""

import os
import time

import numpy as np
import pytest

from efficientnet_tpu.config import Config, DataConfig, UserError, with_options
from efficientnet_tpu.data.tfrecord_layout import ENCODED_KEY, LABEL_KEY, shard_name

CLASSES = ("ape", "bee", "cow")
PER_CLASS = {"train": 6, "validation": 2}


@pytest.fixture(scope="module")
def open_data(tf):
    """open_data(data_dir=..., ...) -> ImageData, by the flags of section Data."""
    from efficientnet_tpu.data import datasets

    return lambda **options: datasets.open_data(
        DataConfig(**{name: str(value) if name == "data_dir" else value for name, value in options.items()})
    )


@pytest.fixture
def refusal(open_data):
    """The message of the UserError that flags are refused with."""

    def message(**options):
        with pytest.raises(UserError) as error:
            open_data(**options)
        return str(error.value)

    return message


@pytest.fixture(scope="module")
def contents(tf):
    """split -> [(file content, label)], every content different."""
    generator = np.random.default_rng(0)
    return {
        split: [
            (tf.io.encode_png(generator.integers(0, 256, (6, 5, 3), np.uint8)).numpy(), label)
            for label in range(len(CLASSES))
            for _ in range(count)
        ]
        for split, count in PER_CLASS.items()
    }


@pytest.fixture(scope="module")
def folder(contents, tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for split, examples in contents.items():
        for number, (content, label) in enumerate(examples):
            path = root / split / CLASSES[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def _write_shard(tf, path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content, label in examples:
            example = tf.train.Example()
            example.features.feature[ENCODED_KEY].bytes_list.value.append(content)
            example.features.feature[LABEL_KEY].int64_list.value.append(label + 1)
            writer.write(example.SerializeToString())


@pytest.fixture
def shards(tf, contents, tmp_path):
    """3 training and 2 validation shards as a foreign converter writes them: no dataset.json, labels from 1 on."""
    for split, count in (("train", 3), ("validation", 2)):
        for index in range(count):
            _write_shard(tf, tmp_path / shard_name(split, index, count), contents[split][index::count])
    return tmp_path


@pytest.fixture
def converted(tf, folder, tmp_path):
    """The folder as make-tfrecords writes it."""
    from efficientnet_tpu.data import make_tfrecords

    options = {"data_dir": str(folder), "output_dir": f"{tmp_path}/out", "train_shards": 3, "validation_shards": 2}
    make_tfrecords.convert_folder(with_options(Config(), options))
    return tmp_path / "out"


def _examples(split, order=None):
    return [(content, int(label)) for content, label in split.read(order).as_numpy_iterator()]


def _check(data, contents, label_names=CLASSES):
    """`data` is `contents`: every image once with its label from 0 on, in a stored and in a shuffled order."""
    assert data.label_names == label_names
    for split in (data.train, data.validation):
        expected = contents["train" if split is data.train else "validation"]
        assert split.num_images == len(expected)
        stored = _examples(split)
        assert sorted(stored) == sorted(expected)
        for epoch in range(2):
            shuffled = _examples(split, np.array([1, epoch], np.int64))
            assert sorted(shuffled) == sorted(expected)
        assert split is data.validation or shuffled != stored
        content, label = split.read(None).element_spec
        assert (content.dtype.name, label.dtype.name) == ("string", "int32")


def test_folder_with_both_splits(open_data, folder, contents):
    _check(open_data(data_dir=folder), contents)


def test_folder_of_classes_holds_out_a_share(open_data, folder, contents):
    data = open_data(data_dir=folder / "train", validation_percent=30)
    assert data.label_names == CLASSES
    train, validation = _examples(data.train), _examples(data.validation)
    assert (len(train), len(validation)) == (data.train.num_images, data.validation.num_images)
    assert sorted(train + validation) == sorted(contents["train"])
    assert 0 < len(validation) < len(train)


def test_a_class_whose_name_begins_like_a_shards(open_data, folder, tmp_path):
    for name in ("train-station", "bus-stop"):
        os.symlink(folder / "train" / "ape", tmp_path / name)
    assert open_data(data_dir=tmp_path, validation_percent=30).label_names == ("bus-stop", "train-station")


def test_tfrecords_with_dataset_json(open_data, converted, contents, capsys):
    _check(open_data(data_dir=converted), contents)
    assert "counting" not in capsys.readouterr().out


def test_tfrecords_without_dataset_json_are_counted_and_their_classes_numbered(open_data, shards, contents, capsys):
    _check(open_data(data_dir=shards), contents, ("class 0", "class 1", "class 2"))
    assert f"counting the images in {shards}" in capsys.readouterr().out


def test_labels_txt_names_the_classes(open_data, shards, contents):
    (shards / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    _check(open_data(data_dir=shards), contents)


@pytest.mark.parametrize("names", [CLASSES[:2], (*CLASSES, "dog")])
def test_labels_txt_of_another_length_is_refused(refusal, shards, names):
    (shards / "labels.txt").write_text("\n".join(names))
    assert refusal(data_dir=shards) == f"{shards}/labels.txt: has {len(names)} names, the images have 3 classes."


@pytest.mark.parametrize("source", ["shards", "converted"])
@pytest.mark.parametrize(("split", "index", "count"), [("train", 0, 3), ("train", 2, 3), ("validation", 1, 2)])
def test_a_missing_shard_is_named(refusal, request, source, split, index, count):
    root = request.getfixturevalue(source)
    name = shard_name(split, index, count)
    (root / name).unlink()
    message = refusal(data_dir=root)
    assert message.startswith(f"--data_dir={root}: {count - 1} of {count} {split} shards are there; {name} is missing.")


@pytest.mark.parametrize("source", ["shards", "converted"])
def test_without_validation_shards(refusal, request, source):
    root = request.getfixturevalue(source)
    for path in root.glob("validation-*"):
        path.unlink()
    assert refusal(data_dir=root) == f"--data_dir={root}: has train-* shards but no validation-* shards."


def test_empty_shards(tf, refusal, shards):
    for index in range(3):
        _write_shard(tf, shards / shard_name("train", index, 3), [])
    assert refusal(data_dir=shards) == f"--data_dir={shards}: the train shards hold no image."


def test_shards_of_a_single_class(tf, refusal, shards, contents):
    for split in ("train", "validation"):
        for path in shards.glob(f"{split}-*"):
            _write_shard(tf, path, [(content, 0) for content, _ in contents[split]])
    assert refusal(data_dir=shards) == f"--data_dir={shards}: has one class, class 0; training needs two."


def test_imagenet_is_recognised_by_its_shards_without_reading_them(open_data, tmp_path, capsys):
    for split, count in (("train", 1024), ("validation", 128)):
        for index in range(count):
            (tmp_path / shard_name(split, index, count)).touch()
    data = open_data(data_dir=tmp_path)
    assert (data.train.num_images, data.validation.num_images) == (1_281_167, 50_000)
    assert len(data.label_names) == 1000
    assert "counting" not in capsys.readouterr().out


def test_sample(open_data):
    data = open_data(dataset="sample")
    assert (len(data.label_names), data.train.num_images, data.validation.num_images) == (10, 17_700, 10_000)
    labels = [int(label) for _, label in data.validation.read(None).take(200)]
    assert set(labels) == set(range(10))


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [("sampel", " Did you mean sample?"), ("tdfs:cifar10", " Did you mean tfds?"), ("imagenet", ""), ("", "")],
)
def test_unknown_dataset(refusal, dataset, advice):
    assert refusal(dataset=dataset) == f"--dataset={dataset}: must be auto, sample or tfds:NAME.{advice}"


def test_a_bucket_that_cannot_be_reached(tf, refusal, monkeypatch):
    def isdir(path):
        raise tf.errors.FailedPreconditionError(None, None, "could not resolve host")

    monkeypatch.setattr(tf.io.gfile, "isdir", isdir)
    message = refusal(data_dir="gs://bucket/images")
    assert message == "--data_dir=gs://bucket/images: cannot be reached: could not resolve host"


def test_without_any_data(refusal):
    assert refusal().startswith("--data_dir is missing: ")


def test_the_fingerprint_tells_data_apart_but_not_where_it_lies(open_data, folder, converted, tmp_path):
    before = open_data(data_dir=folder).fingerprint
    moved = tmp_path / "moved"
    os.symlink(folder, moved)
    assert open_data(data_dir=moved).fingerprint == before
    assert open_data(data_dir=folder / "train", validation_percent=30).fingerprint != before
    converted_fingerprint = open_data(data_dir=converted).fingerprint
    assert converted_fingerprint != before
    os.symlink(converted, tmp_path / "converted")
    assert open_data(data_dir=tmp_path / "converted").fingerprint == converted_fingerprint


@pytest.fixture(scope="module")
def tfds_dir(tf, contents, tmp_path_factory):
    """Sets prepared there: tiny_split, tiny_train (no validation split) and tiny_numbers (no image)."""
    import tensorflow_datasets as tfds

    class TinySplit(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        SPLITS = ("train", "validation")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="png"),
                "kind": tfds.features.ClassLabel(names=CLASSES),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(contents[split]) for split in self.SPLITS}

        def _generate_examples(self, examples):
            for key, (content, label) in enumerate(examples):
                yield key, {"image": tf.io.decode_png(content).numpy(), "kind": label}

    class TinyTrain(TinySplit):
        SPLITS = ("train",)

    class TinyNumbers(TinySplit):
        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"number": np.int32}))

        def _generate_examples(self, examples):
            yield 0, {"number": 7}

    root = tmp_path_factory.mktemp("tfds")
    for builder in (TinySplit, TinyTrain, TinyNumbers):
        builder(data_dir=str(root)).download_and_prepare()
    return root


def _decoded(tf, examples):
    return sorted((tf.io.decode_png(content).numpy().tobytes(), label) for content, label in examples)


def test_tfds_set_with_a_validation_split(tf, open_data, tfds_dir, contents):
    data = open_data(dataset="tfds:tiny_split", data_dir=tfds_dir)
    assert data.label_names == CLASSES
    for split, name in ((data.train, "train"), (data.validation, "validation")):
        assert split.num_images == len(contents[name])
        for order in (None, np.array([0, 5], np.int64)):
            assert _decoded(tf, _examples(split, order)) == _decoded(tf, contents[name])


def test_tfds_set_without_a_validation_split_holds_out_a_share(tf, open_data, tfds_dir, contents):
    data = open_data(dataset="tfds:tiny_train", data_dir=tfds_dir, validation_percent=25)
    train, validation = _examples(data.train), _examples(data.validation)
    assert (len(train), len(validation)) == (data.train.num_images, data.validation.num_images) == (14, 4)
    assert _decoded(tf, train + validation) == _decoded(tf, contents["train"])


def test_tfds_set_feeds_training(tf, open_data, tfds_dir, contents):
    """The stream reads it inside a compiled function, where some of TFDS's own code does not work."""
    from efficientnet_tpu.data.input_pipeline import Shard, train_batches

    data = open_data(dataset="tfds:tiny_split", data_dir=tfds_dir)

    def prepare(encoded, seed):
        return tf.ensure_shape(tf.io.decode_png(encoded), [6, 5, 3])

    batches = train_batches(data.train, prepare, 6, 0, 0, Shard()).take(3).as_numpy_iterator()
    seen = [
        (image.tobytes(), int(label)) for images, labels in batches for image, label in zip(images, labels, strict=True)
    ]
    assert sorted(seen) == _decoded(tf, contents["train"])


def test_tfds_set_without_images(refusal, tfds_dir):
    message = refusal(dataset="tfds:tiny_numbers", data_dir=tfds_dir)
    assert message == "--dataset=tfds:tiny_numbers: is not a set of images with one class label each."


def test_tfds_set_that_is_not_prepared_is_refused_at_once(refusal, tmp_path):
    started = time.monotonic()
    message = refusal(dataset="tfds:cifar10", data_dir=tmp_path)
    assert time.monotonic() - started < 10
    assert message.startswith(f"--dataset=tfds:cifar10: not prepared in {tmp_path}/cifar10/")
    assert "download_and_prepare()" in message
    assert not list(tmp_path.iterdir())


def test_tfds_set_that_does_not_exist(refusal, tmp_path):
    message = refusal(dataset="tfds:cifar11", data_dir=tmp_path)
    assert message.startswith("--dataset=tfds:cifar11: TFDS has no such set. Did you mean cifar1")
