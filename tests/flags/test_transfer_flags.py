"""The recipes for the paper's eight transfer sets: their numbers are those of Table 6, and each runs to the end on a
miniature with the right number of classes.
"""

import csv
import fnmatch
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.commands.table import COMMANDS, Command
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.training.learning_rate import make_schedule

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "efficientnet_tpu" / "paper" / "paper_tables"
# File of flags -> the paper's name of the set.
SETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "birdsnap": "Birdsnap",
    "cars": "Stanford Cars",
    "flowers": "Flowers",
    "aircraft": "FGVC Aircraft",
    "pets": "Oxford-IIIT Pets",
    "food101": "Food-101",
}
# The network of conftest's tiny run, and a run that is over in seconds; everything else is the recipe's.
MINIATURE = (
    "--model=efficientnet-nano", "--depth_coefficient=0.2", "--resolution=16", "--train_batch_size=16",
    "--eval_batch_size=64", "--train_epochs=0.2", "--epochs_per_eval=1",
)  # fmt: skip


def table(number):
    lines = [line for line in (TABLES / f"table{number}.csv").read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


SIZES = {row["dataset"]: row for row in table(6)}


def config_of(name, monkeypatch):
    """What the file of flags asks for: of the command in its first example."""
    path, seen = ROOT / "flags" / f"{name}.flags", []
    command = re.search(r"python main.py (?:([a-z-]+) )?--flagfile", path.read_text()).group(1) or "train_and_eval"
    stand_in = Command(lambda config, arguments: seen.append(config), "", COMMANDS[command].sections)
    monkeypatch.setitem(COMMANDS, command, stand_in)
    place = "model_dir" if command == "train_and_eval" else "output_dir"
    cli.main(["main.py", command, f"--flagfile={path}", f"--{place}=x"])
    return seen[0]


@pytest.mark.parametrize("path", sorted((ROOT / "flags").glob("*.flags")), ids=lambda path: path.stem)
def test_every_file_of_flags_is_understood(path, monkeypatch):
    config = config_of(path.stem, monkeypatch)
    assert configured_architecture(config.model, 10).blocks
    make_schedule(config.train, 1000)


def test_there_is_one_for_each_set():
    assert {path.stem for path in (ROOT / "flags").glob("transfer-*")} == {f"transfer-{name}" for name in SETS}
    assert set(SETS.values()) == set(SIZES)


@pytest.mark.parametrize("name", SETS)
def test_numbers_are_the_papers(name, monkeypatch):
    """20,000 steps of 256 images on what Table 6 says the set has; the network that Table 5 names for it."""
    config = config_of(f"transfer-{name}", monkeypatch)
    sizes = SIZES[SETS[name]]
    num_images = int(sizes["train"])
    schedule = make_schedule(config.train, num_images)
    assert 20_000 <= schedule.total_steps <= 20_003
    assert schedule.initial == 0.01
    steps_per_epoch = num_images / 256
    assert config.model.batch_norm_momentum == pytest.approx(max(1 - 10 / steps_per_epoch, 0.9), abs=1e-4)
    assert config.train.train_epochs / config.eval.epochs_per_eval == pytest.approx(20, rel=0.01)
    [published] = [row for row in table(5) if row["dataset"] == SETS[name] and row["part"] == "public"]
    assert config.model.model == published["ours"]
    text = " ".join((ROOT / "flags" / f"transfer-{name}.flags").read_text().replace("\n#", "").split())
    for said in (
        f"{num_images:,} training",
        f"{int(sizes['test']):,} test images, {sizes['classes']} classes",
        f"Expected top-1: {published['accuracy']}%",
    ):
        assert said in text
    # What TFDS has in the paper's splits comes from there.
    apart = name == "flowers"  # its training and validation images are one there
    assert config.data.dataset == (f"tfds:{sizes['tfds']}" if sizes["tfds"] and not apart else "auto")


def files_of(tf, count, seed):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield tf.io.encode_png(generator.integers(0, 256, (8, 8, 3), np.uint8)).numpy()


def write_folder(tf, root, num_classes):
    for split in ("train", "test"):
        for label in range(num_classes):
            (root / split / f"class {label:03d}").mkdir(parents=True)
            for index, content in enumerate(files_of(tf, 1, label)):
                (root / split / f"class {label:03d}" / f"{index}.png").write_bytes(content)


def write_tfds(tf, root, name, splits, num_classes):
    """A set of that name as TFDS leaves it on disk, with an image of each class in every split."""
    import tensorflow_datasets as tfds

    version = tfds.builder_cls(name).VERSION  # the one that TFDS looks for
    with tfds.core.registered.skip_registration():

        class Small(tfds.core.GeneratorBasedBuilder):
            VERSION = version

            def _info(self):
                features = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="png")}
                features["label"] = tfds.features.ClassLabel(num_classes=num_classes)
                return self.dataset_info_from_configs(
                    features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples() for split in splits}

            def _generate_examples(self):
                for label, content in enumerate(files_of(tf, num_classes, 0)):
                    yield label, {"image": io.BytesIO(content), "label": label}

    Small.name = name
    Small(data_dir=str(root)).download_and_prepare()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_miniature_runs_to_the_end(tf, name, trained, tmp_path, capsys):
    sizes = SIZES[SETS[name]]
    num_classes = int(sizes["classes"])
    flags = (ROOT / "flags" / f"transfer-{name}.flags").read_text()
    if "--dataset=tfds:" in flags:
        held_out = "validation" if name == "food101" else "test"
        write_tfds(tf, tmp_path / "data", sizes["tfds"], ("train", held_out), num_classes)
    else:
        write_folder(tf, tmp_path / "data", num_classes)
    run = ["main.py", f"--flagfile={ROOT}/flags/transfer-{name}.flags", f"--data_dir={tmp_path}/data", *MINIATURE]
    cli.main([*run, f"--model_dir={tmp_path}/run", f"--init_from={trained}"])
    printed = capsys.readouterr().out
    assert f"the classifier of {num_classes} classes is new" in printed
    assert f"{num_classes:,} validation images" in printed
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["label_names"]) == num_classes
    assert (record["config"]["optimizer"], record["config"]["bn_mode"]) == ("momentum", "train")
    assert fnmatch.filter([path.name for path in (tmp_path / "run" / "checkpoints").iterdir()], "ckpt-*.index")
