"""Everything that reads what people write, with a text of each that can be read."""

import json
import os
import re
from pathlib import Path

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.class_names import read_labels
from efficientnet_tpu.data.datasets import open_splits
from efficientnet_tpu.data.records.record_keys import RecordKeys
from efficientnet_tpu.data.records.tfrecord_layout import DatasetInfo, ShardInfo, SplitInfo
from efficientnet_tpu.data.sources import listed_rows, manifest
from efficientnet_tpu.data.split import ImageData
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting.metadata import ExportMetadata, read_metadata
from efficientnet_tpu.hardware.tf_config import read_tf_config
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.model_inspection.training_curves import training_curves
from efficientnet_tpu.models import stage_table
from efficientnet_tpu.models.complexity import count as count_network
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.plan import table as plan_table
from efficientnet_tpu.run import checkpoint_names, run_record
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.run_log import read_log
from efficientnet_tpu.storage.text_file import decode
from efficientnet_tpu.training.class_weights import read_class_weights
from efficientnet_tpu.training.fine_tuning import frozen_parts
from efficientnet_tpu.weights import timm_models, weight_file
from tests.fuzz.text_damage import damaged, damaged_json, damaged_words

ROOT = Path(__file__).parents[2]
OLD_RUN = ROOT / "tests" / "golden" / "old_runs" / "plain"
WHOLE = json.dumps


class Parsers:
    """The parsers by name: (text to damage, how, function that reads the damaged bytes)."""

    def __init__(self, directory):
        self.directory = directory
        self.run = directory / "run"
        self.timm = directory / "timm"
        self.checkpoints = directory / "checkpoints"
        for folder in (self.run, self.timm, self.checkpoints):
            folder.mkdir()
        stages = [
            {"repeats": 1, "kernel_size": 3, "strides": 2, "expand_ratio": 4, "filters": 16, "block": "mbconv"},
            {"repeats": 2, "kernel_size": 5, "strides": 1, "expand_ratio": 6, "filters": 24, "se_ratio": 0.25},
        ]
        table = {"name": "mine", "resolution": 64, "dropout_rate": 0.2, "activation": "silu", "stages": stages}
        shards = {
            split: SplitInfo(5, (ShardInfo(f"{split}-00000-of-00002", 3, 99, 7), ShardInfo(f"{split}-1", 2)))
            for split in ("train", "validation")
        }
        rows = (
            "path,label,split",
            'a/1.jpg,"a cat",train',
            "a/2.jpg,dog,train",
            "b/1.jpg,dog,val",
            "c d.png,a cat,val",
        )
        lines = [
            WHOLE(dict(zip(("path", "label", "split"), row.replace('"', "").split(","), strict=True)))
            for row in rows[1:]
        ]
        metadata = ExportMetadata("efficientnet-b0", 7, ("a", "b"), 224, 32).as_texts()["classifier.json"]
        cluster = {"cluster": {"chief": ["a:1"], "worker": ["b:22", "[::1]:3"]}, "task": {"type": "worker", "index": 1}}
        config = {"architecture": "tf_efficientnet_b0", "num_classes": 2, "label_names": ["a", "b"],
                  "pretrained_cfg": {"tag": "in1k", "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.875,
                                     "input_size": [3, 224, 224], "interpolation": "bicubic"}}  # fmt: skip
        flags = ("train_and_eval", "--model=efficientnet-b0", "--seed=3", "--noexif_orientation", "--lr_end=0.1",
                 "--train_epochs", "3", "--data_dir=a b", "--augment=randaugment", "--format=csv")  # fmt: skip
        log = [WHOLE({"kind": "train", "step": 3, "epoch": 0.5, "loss": 2.5, "top_1_accuracy": 0.5})] * 2
        self.parsers = {
            "manifest.csv": ("\n".join(rows), damaged, self.manifest_csv),
            "manifest.tsv": ("\n".join(rows).replace(",", "\t"), damaged, self.manifest_tsv),
            "manifest.jsonl": ("\n".join(lines), damaged, self.manifest_jsonl),
            "list without a header": ("a.jpg\tcat\t0\t1\nb.jpg\tdog\t1\t2\n", damaged, self.headless),
            "one column a class": ("id,cat,dog\na,1,0\nb,0,1.0\nc,1,0\nd,0,1\n", damaged, self.manifest_csv),
            "dataset.json": (DatasetInfo(("a", "b"), shards).to_json(), damaged_json, self.dataset_json),
            "labels.txt": ("cat\ndog\ngrey owl\n", damaged, lambda text: read_labels(decode(text, "f"), "f")),
            "run.json": ((OLD_RUN / "run.json").read_text(), damaged_json, self.run_json),
            "classifier.json": (metadata, damaged_json, self.classifier_json),
            "class weights.json": ('{"cat": 1, "dog": 2.5}', damaged_json, self.class_weights_json),
            "class weights.csv": ("label,weight\ncat,1\ndog,2.5\n", damaged, self.class_weights_csv),
            "TF_CONFIG": (WHOLE(cluster), damaged_json, self.tf_config),
            "stage_table.json": (WHOLE(table), damaged_json, self.stage_table_json),
            "stage_table.csv": (
                "\n".join([",".join(stages[0]), "1,3,2,4,16,mbconv", "2,5,1,6,24,"]), damaged, self.stage_table_csv
            ),
            "timm's config.json": (WHOLE(config), damaged_json, self.timm_config),
            "plan table": (plan_table.SHIPPED.read_text().split("\n")[0], damaged_json, self.plan_table),
            "a checkpoint's evaluations": (EarlyStopping().after(3, 0.5).to_json(), damaged_json, self.evaluations),
            "log.jsonl": ("\n".join(log), damaged, self.log),
            "flags": ("\n".join(flags), damaged_words, self.flags),
            "flag file": ("\n".join(["# recipe", *flags[1:4], "", "// more", *flags[7:]]), damaged, self.flag_file),
            "values": ("efficientnet-phi1.5\nv5e-8\nimage=a,label=b,first_label=1\nblocks:3\nfake:3:20:10\n#ffcc00",
                       damaged, self.values),
            "checkpoint names": ("ckpt-5.index\nckpt-54.1.index\nbest.json", damaged, self.names_of_checkpoints),
        }  # fmt: skip

    def _file(self, name, text):
        path = self.directory / name
        path.write_bytes(text)
        return str(path)

    def manifest_csv(self, text):
        manifest.read(self._file("list.csv", text), 10)

    def manifest_tsv(self, text):
        manifest.read(self._file("list.tsv", text), 10)

    def manifest_jsonl(self, text):
        manifest.read(self._file("list.jsonl", text), 10)

    def headless(self, text):
        listed_rows.read(self._file("val_annotations.txt", text), "list", has_header=False)

    def dataset_json(self, text):
        info = DatasetInfo.from_json(decode(text, "dataset.json"))
        info.to_json().encode()
        [shard.num_images + (shard.bytes or 0) for split in info.splits.values() for shard in split.shards]

    def run_json(self, text):
        (self.run / "run.json").write_bytes(text)
        record = run_record.load(str(self.run))
        configured_architecture(record.config.model, len(record.label_names))
        "".join(record.label_names).encode()
        WHOLE(record.starts)

    def classifier_json(self, text):
        metadata = read_metadata({"classifier.json": decode(text, "f")}, "f")
        assert metadata.resolution + metadata.eval_crop_padding > 0

    def class_weights_json(self, text):
        read_class_weights(self._file("w.json", text), ImageData(("cat", "dog"), None, None, ""))

    def class_weights_csv(self, text):
        read_class_weights(self._file("w.csv", text), ImageData(("cat", "dog"), None, None, ""))

    def tf_config(self, text):
        read_tf_config({"TF_CONFIG": text.decode(errors="surrogateescape")})

    def stage_table_json(self, text):
        self._build(stage_table.inline(self._file("net.json", text)))

    def stage_table_csv(self, text):
        self._build(stage_table.inline(self._file("net.csv", text)))

    def _build(self, table):
        config = with_options(Config(), {"stage_table": table})
        count_network(configured_architecture(config.model, 10))

    def timm_config(self, text):
        path = self.timm / "model.safetensors"
        (self.timm / "config.json").write_bytes(text)
        try:
            found = weight_file.identify_timm(str(path), "", "efficientnet-b0")
            timm_models.read_options(str(path), found)
            "".join(found.label_names).encode()
        except UserError:
            raise
        except ValueError as error:  # as `open_weight_file` does
            raise UserError(str(error)) from error

    def plan_table(self, text):
        for row in plan_table.load(self._file("table.jsonl", text)):
            plan_table.to_json(row)

    def evaluations(self, text):
        EarlyStopping.from_json(text, "ckpt-3").after(4, 0.25).to_json()

    def log(self, text):
        training_curves(read_log(self._file("log.jsonl", text)).entries)

    def flags(self, text):
        line = cli.parse(text.decode(errors="surrogateescape").split("\n"))
        with_options(Config(), line.options)

    def flag_file(self, text):
        line = cli.parse([f"--flagfile={self._file('a.flags', text)}"])
        with_options(Config(), line.options)

    def values(self, text):
        values = text.decode(errors="surrogateescape").split("\n")
        model, tpu, keys, freeze, dataset, color = (values + [""] * 6)[:6]
        network = configured_architecture(Config().model, 10)
        tries = [
            lambda: configured_architecture(with_options(Config(), {"model": model}).model, 10),
            lambda: parse_slice(tpu),
            lambda: RecordKeys.of_flag(keys),
            lambda: frozen_parts(freeze, network),
            lambda: with_options(Config(), {"background": color}),
            lambda: with_options(Config(), {"export_format": keys, "augment": freeze, "data_dir": dataset}),
        ]
        if not re.fullmatch("fake(:[0-9]{1,9}){0,3}", dataset) and not dataset.startswith(("auto", "tfds")):
            tries.append(lambda: open_splits(with_options(Config(), {"dataset": dataset}).data))
        wrong = 0
        for one in tries:
            try:
                one()
            except UserError:
                wrong += 1
        if wrong > 1:  # the first is always wrong: they are not the values of one flag
            raise UserError(f"{wrong} of the values")

    def names_of_checkpoints(self, text):
        names = [os.fsdecode(name[:200]) for name in re.split(rb"[\n/\0]", text)]
        folder = self.checkpoints / "checkpoints"
        folder.mkdir(exist_ok=True)
        for name in names:
            if name not in ("", ".", ".."):
                (folder / name).write_bytes(b"")
        try:
            checkpoint_names.checkpoint_paths(str(self.checkpoints), "last")
            checkpoint_names.unused_path(
                str(self.checkpoints), "last", checkpoint_names.newest_step(str(self.checkpoints))
            )
        finally:
            for path in folder.iterdir():
                path.unlink()
