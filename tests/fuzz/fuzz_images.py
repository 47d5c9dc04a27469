"""Feeds damaged image files to training's preprocessing and to check-data, in a process that may crash or hang.

python -m tests.fuzz.fuzz_images COUNT SEED DIRECTORY prints, as JSON, what became of them. DIRECTORY must be new; the
file in work is always DIRECTORY/current, to be looked at after a crash.
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
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data import preprocessing
from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data_inspection import check_data
from tests.support import image_files

SECONDS_PER_FILE = 60  # of the clock, after which the process ends: a hang


def _files():
    """Small ones of every kind, some of a usual size, and fewer bad ones: their damage hides further damage."""
    usual = image_files.photo(260, 340)
    return [
        *list(image_files.good().values()) * 4,
        *(encoded for encoded, _ in image_files.bad().values() if encoded),
        *(image_files.encode(usual, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")),
    ]


def _megabytes(name):
    """VmRSS or VmHWM, the peak, of this process."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def _train(encoded, seed):
    return preprocessing.train_image(encoded, seed, preprocessing.Preparation(64, 9), crop_min_area=0.08, flip=True)


def fuzz_training(count, seed, directory):
    """Training's preprocessing of `count` files, which are left in `directory`, and the decoding of all of each."""
    generator = random.Random(seed)
    files = _files()
    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)]
    train = tf.function(_train, input_signature=signature)
    decode = tf.function(image_format.decode, input_signature=signature[:1])
    for encoded in files:  # compiled before the clock runs
        with contextlib.suppress(tf.errors.OpError):
            train(tf.constant(encoded), [0, 0])
        with contextlib.suppress(tf.errors.OpError):
            decode(tf.constant(encoded))
    outcomes = collections.Counter()
    slowest, start, before = 0.0, time.monotonic(), _megabytes("VmRSS")
    for number in range(count):
        encoded = image_files.mutated(generator, files)
        (directory.parent / "current").write_bytes(encoded)
        (directory / "ab"[number % 2] / f"{number:06d}.jpg").write_bytes(encoded)
        faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True)
        file_start = time.process_time()
        for what, function in (("trained on", lambda file, seed=number: train(file, [seed, 0])), ("decoded", decode)):
            try:
                outcomes[what] += function(tf.constant(encoded)).shape[-1] == 3
            except tf.errors.InvalidArgumentError:
                outcomes[f"not {what}"] += 1
        slowest = max(slowest, time.process_time() - file_start)
    faulthandler.cancel_dump_traceback_later()
    return {
        **outcomes,
        "seconds": round(time.monotonic() - start, 1),
        "slowest_cpu_seconds": round(slowest, 2),
        "megabytes": round(max(_megabytes("VmHWM") - before, 0)),
    }


def fuzz_check_data(count, directory):
    """check-data of the same files."""
    faulthandler.dump_traceback_later(60 + count * SECONDS_PER_FILE / 100, exit=True)
    before, start = _megabytes("VmRSS"), time.monotonic()
    report = directory.parent / "report.json"
    config = with_options(Config(), {"data_dir": str(directory), "report": str(report), "validation_percent": 50})
    status = 0
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            check_data.check_data(config)
        except SystemExit as stopped:
            status = stopped.code
    faulthandler.cancel_dump_traceback_later()
    splits = json.loads(report.read_text())["splits"].values()
    return {
        "status": status,
        "decoded": sum(split["num_images"] - split["num_unreadable"] for split in splits),
        "not decoded": sum(split["num_unreadable"] for split in splits),
        "seconds": round(time.monotonic() - start, 1),
        "megabytes": round(max(_megabytes("VmHWM") - before, 0)),
    }


def main(count, seed, directory):
    """Fuzzes both, and prints the outcome."""
    images = Path(directory) / "images"
    for name in "ab":
        (images / name).mkdir(parents=True)
    training = fuzz_training(count, seed, images)
    print(json.dumps({"training": training, "check-data": fuzz_check_data(count, images)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
