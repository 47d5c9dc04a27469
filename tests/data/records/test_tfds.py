"""Sets of TensorFlow Datasets: prepared ones are read as shards, others are refused at once. Nothing is downloaded."""

import gzip
import io
import itertools
import pathlib
import tarfile

import numpy as np
import pytest

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.errors import UserError

CLASSES = ("ape", "bee", "cow")
SIZES = {"train": 30, "validation": 9, "test": 6}
DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def open_tfds(tf):
    """open_tfds(name, data_dir, ...) -> ImageData."""
    from efficientnet_tpu.data.datasets import open_data

    return lambda name, data_dir, **options: open_data(
        DataConfig(dataset=f"tfds:{name}", data_dir=str(data_dir), **options)
    )


@pytest.fixture
def refusal(open_tfds):
    def message(name, data_dir):
        with pytest.raises(UserError) as error:
            open_tfds(name, data_dir)
        return str(error.value)

    return message


@pytest.fixture(scope="module")
def contents(tf):
    """split -> [(PNG file, label)], every file different."""
    generator = np.random.default_rng(0)
    return {
        split: [
            (tf.io.encode_png(generator.integers(0, 256, (6, 5, 3), np.uint8)).numpy(), index % 3)
            for index in range(count)
        ]
        for split, count in SIZES.items()
    }


def _several_images(tfds, base):
    """Sets with two images and two labels: tiny_pairs, and tiny_supervised, which says which ones are meant."""

    class TinyPairs(base):
        def _info(self):
            image, label = tfds.features.Image(encoding_format="png"), tfds.features.ClassLabel(names=CLASSES)
            features = {"left": image, "right": image, "colour": label, "form": label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _generate_examples(self, examples):
            for key, (content, label) in enumerate(examples):
                yield key, {"left": io.BytesIO(content), "right": io.BytesIO(content), "colour": label, "form": 0}

    class TinySupervised(TinyPairs):
        def _info(self):
            return self.dataset_info_from_configs(
                features=super()._info().features, supervised_keys=("right", "colour")
            )

    return TinyPairs, TinySupervised


@pytest.fixture(scope="module")
def builders(tf, contents):
    """Our own sets, registered with TFDS: tiny_full (train, validation and test), tiny_test, tiny_train, ..."""
    import tensorflow_datasets as tfds

    class TinyFull(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        SPLITS = ("train", "validation", "test")

        def _info(self):
            features = {
                "id": np.int32,
                "image": tfds.features.Image(encoding_format="png"),
                "mask": tfds.features.Image(encoding_format="png"),
                "kind": tfds.features.ClassLabel(names=CLASSES),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(contents[split]) for split in self.SPLITS}

        def _generate_examples(self, examples):
            for key, (content, label) in enumerate(examples):
                yield key, {"id": key, "image": io.BytesIO(content), "mask": io.BytesIO(b"not a PNG"), "kind": label}

    class TinyTest(TinyFull):
        SPLITS = ("train", "test")

    class TinyTrain(TinyFull):
        SPLITS = ("train",)

    class TinyEvaluation(TinyFull):
        SPLITS = ("test",)

    class TinyNumbers(TinyFull):
        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"number": np.int32}))

        def _generate_examples(self, examples):
            yield 0, {"number": 7}

    return TinyFull, TinyTest, TinyTrain, TinyEvaluation, TinyNumbers, *_several_images(tfds, TinyTrain)


@pytest.fixture(scope="module")
def tfds_dir(builders, tmp_path_factory):
    """The sets of `builders`, prepared, in 4 shards a split."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    for builder in builders:
        config = tfds.download.DownloadConfig(num_shards=1 if "Numbers" in builder.__name__ else 4)
        builder(data_dir=str(root)).download_and_prepare(download_config=config)
    return root


def _examples(split, order=None, shard=None):
    from efficientnet_tpu.data.split import SINGLE_HOST

    examples = split.handles(shard or SINGLE_HOST, order).map(split.load)
    return [(content, int(label)) for content, label in examples.as_numpy_iterator()]


@pytest.mark.parametrize(
    ("name", "validation"),
    [
        ("tiny_full", "validation"),
        pytest.param("tiny_test", "test", marks=pytest.mark.slow),
        pytest.param("tiny_full:1.0.0", "validation", marks=pytest.mark.slow),
    ],
)
def test_encoded_images_and_labels_are_those_put_in(open_tfds, tfds_dir, contents, name, validation):
    """The file's own bytes; what else is in a record, here a mask that does not decode, is not touched."""
    from efficientnet_tpu.data.split import SINGLE_HOST

    data = open_tfds(name, tfds_dir)
    assert data.label_names == CLASSES
    assert data.minival is None
    for split, expected in ((data.train, contents["train"]), (data.validation, contents[validation])):
        assert split.num_images == len(expected)
        for order in (None, np.array([0, 5], np.int64)):
            assert sorted(_examples(split, order)) == sorted(expected)
        # Eagerly too, where TensorFlow does not see that the mask is not wanted.
        assert split.load(next(iter(split.handles(SINGLE_HOST, None))))[0].numpy() == _examples(split)[0][0]


def test_hosts_share_out_the_shards_in_another_order_every_epoch(tf, open_tfds, tfds_dir, contents):
    from efficientnet_tpu.data.split import HostShard

    train = open_tfds("tiny_full", tfds_dir).train
    seen = []
    for epoch in range(2):
        order = tf.constant([0, epoch], tf.int64)
        parts = [_examples(train, order, HostShard(index, 4)) for index in range(4)]
        assert [len(part) for part in parts] == [8, 8, 7, 7]
        assert sorted(itertools.chain(*parts)) == sorted(contents["train"])
        seen.append(parts)
        tail = list(train.handles(HostShard(1, 4), order, 5).map(train.load).as_numpy_iterator())
        assert [(content, int(label)) for content, label in tail] == parts[1][5:]
        assert train.locate(HostShard(1, 4), order, 5).startswith("tiny_full-train.tfrecord-0000")
    assert seen[0] != seen[1]


def test_without_a_validation_split_the_end_is_held_out(open_tfds, tfds_dir, contents):
    data = open_tfds("tiny_train", tfds_dir, validation_percent=20)
    train, validation = _examples(data.train), _examples(data.validation)
    assert (len(train), len(validation)) == (data.train.num_images, data.validation.num_images) == (24, 6)
    assert sorted(train + validation) == sorted(contents["train"])


@pytest.mark.parametrize(("name", "sizes"), [("tiny_full", (28, 9, 2)), ("tiny_train", (22, 6, 2))])
def test_minival(open_tfds, tfds_dir, contents, name, sizes):
    data = open_tfds(name, tfds_dir, validation_percent=20, minival_percent=7.5)
    assert (data.train.num_images, data.validation.num_images, data.minival.num_images) == sizes
    parts = [_examples(split) for split in (data.train, data.validation, data.minival)]
    assert tuple(map(len, parts)) == sizes
    validation = contents["validation"] if name == "tiny_full" else []
    assert sorted(itertools.chain(*parts)) == sorted(contents["train"] + validation)
    assert data.fingerprint != open_tfds(name, tfds_dir, validation_percent=20).fingerprint


def test_a_set_feeds_training(tf, open_tfds, tfds_dir, contents):
    """The stream reads it inside a compiled function, where some of TFDS's own code does not work."""
    from efficientnet_tpu.data.input_pipeline import train_batches

    data = open_tfds("tiny_full", tfds_dir)

    def prepare(encoded, seed):
        return tf.ensure_shape(tf.io.decode_png(encoded), [6, 5, 3])

    batches = train_batches(data.train, prepare, 10, 0).take(3).as_numpy_iterator()
    seen = [
        (image.tobytes(), int(label)) for images, labels in batches for image, label in zip(images, labels, strict=True)
    ]
    expected = [(tf.io.decode_png(content).numpy().tobytes(), label) for content, label in contents["train"]]
    assert sorted(seen) == sorted(expected)


def test_a_set_without_images(refusal, tfds_dir):
    message = refusal("tiny_numbers", tfds_dir)
    assert message == "--dataset=tfds:tiny_numbers: is not a set of images with one class label each."


def test_of_several_images_and_labels_the_supervised_ones(open_tfds, refusal, tfds_dir, contents):
    assert refusal("tiny_pairs", tfds_dir).startswith("--dataset=tfds:tiny_pairs: which is the image: left, right?")
    data = open_tfds("tiny_supervised", tfds_dir, validation_percent=10)
    assert sorted(_examples(data.train) + _examples(data.validation)) == sorted(contents["train"])


def test_a_set_without_training_images(refusal, tfds_dir):
    from efficientnet_tpu.data.datasets import open_splits

    message = refusal("tiny_evaluation", tfds_dir)
    assert message.startswith("--dataset=tfds:tiny_evaluation: has no training images, only ")
    data = open_splits(DataConfig(dataset="tfds:tiny_evaluation", data_dir=str(tfds_dir)))
    assert list(data.splits) == ["test"]


@pytest.mark.parametrize("name", ["tiny_full", pytest.param("tiny_train", marks=pytest.mark.slow)])
def test_the_directory_of_a_version_is_read_as_the_set(open_tfds, tfds_dir, name):
    from efficientnet_tpu.data.datasets import open_data

    by_name = open_tfds(name, tfds_dir)
    data = open_data(DataConfig(data_dir=f"{tfds_dir}/{name}/1.0.0"))
    assert (data.label_names, data.fingerprint) == (by_name.label_names, by_name.fingerprint)
    for split, images in by_name.splits.items():
        assert _examples(data.splits[split]) == _examples(images)


def test_the_directory_above_is_told_what_to_type(tfds_dir, tmp_path, builders):
    from efficientnet_tpu.data.datasets import open_data

    builders[2](data_dir=str(tmp_path)).download_and_prepare()
    with pytest.raises(UserError, match=f"the records are further down. Give --data_dir={tmp_path}/tiny_train/1.0.0$"):
        open_data(DataConfig(data_dir=str(tmp_path)))


def test_shards_without_what_tfds_writes_of_them_are_told_how_they_are_read(refusal, builders, tmp_path):
    builders[2](data_dir=str(tmp_path)).download_and_prepare()
    version = tmp_path / "tiny_train" / "1.0.0"
    (version / "features.json").unlink()
    message = refusal("tiny_train", tmp_path)
    assert f"{version} has shards, but no features.json and no dataset_info.json, " in message
    assert message.endswith(f"--data_dir={version}")


def test_nothing_is_held_out_of_a_set_to_measure_on(tfds_dir):
    from efficientnet_tpu.data.datasets import open_splits

    config = DataConfig(dataset="tfds:tiny_train", data_dir=str(tfds_dir))
    held_out, whole = open_splits(config), open_splits(config, hold_out=False)
    assert (list(held_out.splits), held_out.held_out) == (["train", "validation"], ("validation",))
    assert (list(whole.splits), whole.held_out) == (["train"], ())
    assert whole.train.num_images == held_out.train.num_images + held_out.validation.num_images


def test_a_missing_shard_is_named(refusal, builders, tmp_path):
    builders[2](data_dir=str(tmp_path)).download_and_prepare()
    shard = next((tmp_path / "tiny_train" / "1.0.0").glob("*.tfrecord*"))
    shard.unlink()
    message = refusal("tiny_train", tmp_path)
    assert message.startswith(f"--dataset=tfds:tiny_train: {shard.parent} lacks {shard.name}.")


def test_a_set_in_another_file_format(refusal, builders, tmp_path):
    builders[2](data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    message = refusal("tiny_train", tmp_path)
    assert message.startswith(
        f"--dataset=tfds:tiny_train: {tmp_path}/tiny_train/1.0.0 is prepared in the format array_record"
    )
    assert "file_format='tfrecord'" in message


@pytest.fixture
def no_network(monkeypatch):
    """Whatever opens a connection fails the test."""
    import socket

    def connect(*arguments):
        pytest.fail(f"asked the network: {arguments}")

    for function in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, function, connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.mark.parametrize("name", ["cifar10", "oxford_flowers102", "imagenet2012", "tiny_test"])
def test_a_set_that_is_not_prepared_is_refused_at_once(refusal, builders, tmp_path, no_network, name):
    message = refusal(name, tmp_path)
    assert message.startswith(f"--dataset=tfds:{name}: not prepared in {tmp_path}/{name}/")
    assert f"tfds.builder('{name}', data_dir='{tmp_path}').download_and_prepare()" in message
    assert ("fetch yourself before: https://" in message) == (name == "imagenet2012")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar11", "TFDS has no such set. Did you mean cifar1"),
        ("", ""),
        ("a/b/c", "Parsing builder name string a/b/c failed."),
        ("cifar10/grey", "BuilderConfig grey not found"),
        ("cifar10:9.9.9", "9.9.9"),
        ("huggingface:mnist", "sets of other packages are not read."),
        ("kaggle:cats/dogs", "sets of other packages are not read."),
    ],
)
def test_a_name_that_tfds_does_not_know_is_refused_at_once(refusal, tmp_path, no_network, name, words):
    message = refusal(name, tmp_path)
    assert message.startswith(f"--dataset=tfds:{name}: ")
    assert words in message


def _tar(members):
    """A tar archive of (name, content) as bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _picture(tf, label, number):
    """A JPEG whose grey levels tell label and number: 10 bits in two rows."""
    bits = [(label >> bit) & 1 for bit in range(10)] + [(number >> bit) & 1 for bit in range(10)]
    pixels = np.kron(np.reshape(bits, (2, 10, 1)), np.full((8, 8, 3), 255)).astype(np.uint8)
    return tf.io.encode_jpeg(pixels, quality=95).numpy()


def _told(tf, content):
    pixels = tf.io.decode_jpeg(content).numpy()[4::8, 4::8, 0] > 127
    return tuple(sum(int(bit) << place for place, bit in enumerate(row)) for row in pixels)


def test_the_genuine_imagenet2012_from_miniature_archives(tf, open_tfds, tmp_path):
    """TFDS labels validation images by their position, whatever their names: picture i is drawn for line i."""
    import tensorflow_datasets as tfds

    package = pathlib.Path(tfds.__file__).parent / "datasets" / "imagenet2012"
    synsets = (package / "labels.txt").read_text().split()
    by_position = (package / "validation_labels.txt").read_text().split()[:40]
    labels = {synset: synsets.index(synset) for synset in sorted(set(by_position))}
    manual = tmp_path / "manual"
    manual.mkdir()
    (manual / "ILSVRC2012_img_train.tar").write_bytes(
        _tar(
            (f"{synset}.tar", _tar((f"{synset}_{number}.JPEG", _picture(tf, label, number)) for number in range(5)))
            for synset, label in labels.items()
        )
    )
    (manual / "ILSVRC2012_img_val.tar").write_bytes(
        _tar(
            (f"ILSVRC2012_val_{number + 1:08d}.JPEG", _picture(tf, labels[synset], number))
            for number, synset in enumerate(by_position)
        )
    )
    builder = tfds.builder("imagenet2012", data_dir=str(tmp_path / "data"))
    config = tfds.download.DownloadConfig(manual_dir=str(manual))
    builder.download_and_prepare(download_config=config)
    data = open_tfds("imagenet2012", tmp_path / "data")
    assert data.label_names == tuple(synsets)
    for split, expected in (
        (data.train, [(label, number) for label in labels.values() for number in range(5)]),
        (data.validation, [(labels[synset], number) for number, synset in enumerate(by_position)]),
    ):
        assert split.num_images == len(expected)
        examples = _examples(split, np.array([0, 0], np.int64))
        assert all(_told(tf, content)[0] == label for content, label in examples)
        assert sorted(_told(tf, content) for content, _ in examples) == sorted(expected)


def _original(path, time_written):
    """The file as its makers published it; Debian took name and time out of its gzip header."""
    content = path.read_bytes()
    assert content[:4] == b"\x1f\x8b\x08\x00"
    return (
        b"\x1f\x8b\x08\x08"
        + time_written.to_bytes(4, "little")
        + b"\x00\x03"
        + path.stem.encode()
        + b"\0"
        + content[10:]
    )


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian package dataset-fashion-mnist is not installed")
def test_the_genuine_fashion_mnist(tf, open_tfds, tmp_path):
    """TFDS checks the SHA-256 of the original files; its images are those of the sample and of the files."""
    import tensorflow_datasets as tfds

    from efficientnet_tpu.data.datasets import open_data

    manual = tmp_path / "manual"
    manual.mkdir()
    for path in DEBIAN.glob("*.gz"):
        time_written = 1504176606 if path.name.startswith("train") else 1504176627
        (manual / path.name).write_bytes(_original(path, time_written))
    config = tfds.download.DownloadConfig(manual_dir=str(manual))
    tfds.builder("fashion_mnist", data_dir=str(tmp_path / "data")).download_and_prepare(download_config=config)
    data = open_tfds("fashion_mnist", tmp_path / "data")
    assert (data.train.num_images, data.validation.num_images) == (60_000, 10_000)
    assert data.label_names[0] == "T-shirt/top"

    def pixels(split):
        """(pixels, label) of every image, and its file."""
        return {tf.io.decode_png(content).numpy().tobytes(): label for content, label in _examples(split)}

    ours = pixels(data.validation)
    sample = open_data(DataConfig(dataset="sample"))
    names = {label: name.lower().replace("/", "-or-").replace(" ", "-") for label, name in enumerate(data.label_names)}
    assert {image: names[label] for image, label in ours.items()} == {
        image: sample.label_names[label] for image, label in pixels(sample.validation).items()
    }
    raw = gzip.decompress((DEBIAN / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert {raw[start : start + 784] for start in range(0, len(raw), 784)} == set(ours)
