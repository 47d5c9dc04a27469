"""Feeds damaged texts to everything that reads what people write, in a process that may crash or hang.

python -m tests.fuzz.fuzz_texts COUNT SEED DIRECTORY [NAME...] prints, as JSON, what became of COUNT texts for each
parser, or for those named. DIRECTORY must be new; the text in work is always DIRECTORY/current, to be looked at after a
crash.
"""

import collections
import contextlib
import faulthandler
import io
import json
import os
import random
import re
import sys
import time
import traceback
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from efficientnet_tpu import cli
from efficientnet_tpu.config.config import OPTIONS, Config, with_options
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
from efficientnet_tpu.run.run_log import read_log
from efficientnet_tpu.storage.text_file import decode
from efficientnet_tpu.training.class_weights import read_class_weights
from efficientnet_tpu.training.fine_tuning import frozen_parts
from efficientnet_tpu.weights import timm_models, weight_file

ROOT = Path(__file__).parents[2]
SECONDS_PER_TEXT = 20  # of the clock, after which the process ends: a hang
LONGEST_MESSAGE = 20_000
OLD_RUN = ROOT / "tests" / "golden" / "old_runs" / "plain"
HOSTILE = (
    *(b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b";", b"\t", b"=", b"\\", b"\n", b"\r", b"\0", b"\x1b[2J", b"-"),
    *(b"NaN", b"Infinity", b"-1e400", b"1e400", b"9" * 401, b"9" * 5000, b"true", b"null", b"0.5", b"-1", b"1" * 20),
    *("\u2028".encode(), "\u202e".encode(), "\x85".encode(), "\ufeff".encode(), b"\xff\xfe", b"\xe9", b"\xed\xa0\x80"),
    *(
        rb"\ud800",
        rb"\udfff",
        b"[" * 3000,
        b'{"a":' * 3000,
        b"x" * 200_000,
        b'"a": 1, "a": 2',
        b"--",
        b"/../",
        b"$(id)",
    ),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 10**18, 10**30, 10**299, 0.5, -0.0, 1e308, 1e-308, "", "a", "9" * 4400, "\ud800"),
    *(
        "\x00",
        "a\nb",
        [],
        {},
        [[]],
        {"a": 1},
        ["a"],
        [None],
        [1, "a"],
        "x" * 100_000,
        "nan",
        "1e400",
        "../..",
        "--help",
    ),
)
WHOLE = json.dumps


def damaged(text, generator):
    """A copy of bytes with some changed, cut out, doubled or cut off, or with something hostile put in."""
    content = bytearray(text)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 10))):
        at = generator.randrange(len(content) + 1)
        kind = generator.randrange(6)
        if kind == 0 and content:
            content[at % len(content)] = generator.randrange(256)
        elif kind == 1:
            del content[at : at + generator.choice((1, 2, 8, 50))]
        elif kind == 2:
            content[at:at] = content[at : at + generator.choice((1, 8, 50, 500))]
        elif kind == 3 and generator.random() < 0.3:
            del content[at:]
        else:
            content[at : at + generator.choice((0, 0, 1, 5))] = generator.choice(HOSTILE)
    return bytes(content)


def damaged_json(text, generator):
    """The same, or JSON with a value of another kind in some place, or a key more or less."""
    if generator.random() < 0.4:
        return damaged(text, generator)
    content = json.loads(text)
    for _ in range(generator.choice((1, 1, 2, 4))):
        places = list(_places(content))
        if not places:
            break
        holder, key = generator.choice(places)
        kind = generator.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[generator.choice(("", "a", "x" * 1000, "\ud800", "a\nb", "config"))] = generator.choice(VALUES)
        else:
            holder[key] = generator.choice(VALUES)
    return json.dumps(content).encode()


def _places(content):
    """Every (holder, key) of a JSON value."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def damaged_words(text, generator):
    """Lines, each an argument of the command line: some damaged, one doubled, one gone, one of absl's own."""
    lines = text.split(b"\n")
    for _ in range(generator.choice((1, 1, 2, 3))):
        at = generator.randrange(len(lines))
        kind = generator.randrange(6)
        if kind == 0:
            lines.insert(at, generator.choice(ABSL))
        elif kind == 1:
            lines[at] = b"--" + generator.choice(list(OPTIONS)).encode() + b"=" + generator.choice(HOSTILE)
        elif kind == 2 and len(lines) > 1:
            del lines[at]
        else:
            lines[at] = damaged(lines[at], generator)
    return b"\n".join(lines)


ABSL = (
    *(b"--", b"-", b"---", b"--=", b"-=x", b"--no", b"--no=x", b"--nono", b"--undefok=a", b"--undefok", b"--helpxml"),
    *(b"--only_check_args", b"--pdb", b"--nohelp", b"--help=maybe", b"--noseed", b"--seed", b"-h", b"--h"),
    *(b"--version=3", b"--flagfile", b"--flagfile=", b"--noflagfile", b"--helpshort", b"-seed=1", b"--seed =1"),
    *(b"--seed= 1", b"--" + b"s" * 9999, b"--flagfile=/", b"--flagfile=quickstart", b"predict", b"x" * 9999),
)  # fmt: skip


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
        rows = ("path,label,split", 'a/1.jpg,"a cat",train', "a/2.jpg,dog,train", "b/1.jpg,dog,val", "c d.png,cat,val")
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
            "one column a class": ("id,cat,dog\na.jpg,1,0\nb.jpg,0,1.0\n", damaged, self.manifest_csv),
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
            "log.jsonl": ("\n".join(log), damaged, self.log),
            "flags": ("\n".join(flags), damaged_words, self.flags),
            "flag file": ("\n".join(["# recipe", *flags[1:4], "", "// more", *flags[6:]]), damaged, self.flag_file),
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
        tries = (
            lambda: configured_architecture(with_options(Config(), {"model": model}).model, 10),
            lambda: parse_slice(tpu),
            lambda: RecordKeys.of_flag(keys),
            lambda: frozen_parts(freeze, network),
            lambda: with_options(Config(), {"background": color}),
            lambda: open_splits(with_options(Config(), {"dataset": dataset}).data),
            lambda: with_options(Config(), {"export_format": keys, "augment": freeze, "seed": len(text)}),
        )
        wrong = 0
        for one in tries[: -2 if dataset == "fake:3:20:10" else None]:
            try:
                one()
            except UserError:
                wrong += 1
        if wrong:
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


def _megabytes(name):
    """VmRSS or VmHWM, the peak, of this process."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def main(count, seed, directory, *wanted):
    """Fuzzes each parser in turn, and prints the outcome."""
    directory = Path(directory)
    directory.mkdir()
    parsers = Parsers(directory).parsers
    for text, _, read in parsers.values():
        with contextlib.redirect_stdout(io.StringIO()):
            read(text.encode())  # as it is, it can be read
    outcomes, faults = {}, {}
    for name in wanted or parsers:
        text, damage, read = parsers[name]
        generator = random.Random(f"{seed} {name}")
        found = collections.Counter()
        before, slowest, start = _megabytes("VmRSS"), 0.0, time.monotonic()
        for _ in range(count):
            changed = damage(text.encode(), generator)
            (directory / "current").write_bytes(changed)
            faulthandler.dump_traceback_later(SECONDS_PER_TEXT, exit=True)
            text_start = time.process_time()
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    read(changed)
                found["read"] += 1
            except UserError as error:
                found["refused"] += 1
                if len(str(error)) > LONGEST_MESSAGE:
                    faults.setdefault(f"{name}: a message of {len(str(error)):,} characters", str(error)[:300])
            except Exception as error:  # noqa: BLE001 - what is looked for
                found["failed"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                kind = f"{name}: {type(error).__name__} at {os.path.basename(place.filename)}:{place.lineno}"
                if kind not in faults:
                    faults[kind] = f"{str(error)[:200]!a} {changed[:300]!a}"
                    print(kind, faults[kind], traceback.format_exc()[-1500:], sep="\n", file=sys.stderr)
            slowest = max(slowest, time.process_time() - text_start)
        faulthandler.cancel_dump_traceback_later()
        outcomes[name] = {
            **found,
            "seconds": round(time.monotonic() - start, 1),
            "slowest_cpu_seconds": round(slowest, 2),
            "megabytes": round(max(_megabytes("VmHWM") - before, 0)),
        }
    print(json.dumps({"outcomes": outcomes, "faults": faults}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
