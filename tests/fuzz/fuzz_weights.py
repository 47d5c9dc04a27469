"""Feeds damaged weight files to the readers, in a process that may crash or hang.

python -m tests.fuzz.fuzz_weights COUNT SEED DIRECTORY prints, as JSON, what became of them. DIRECTORY must be new; the
file in work is always there, to be looked at after a crash.
"""

import collections
import faulthandler
import json
import os
import random
import re
import struct
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["KERAS_BACKEND"] = "tensorflow"

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.weights.name_mapping import match_names
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS
from efficientnet_tpu.weights.weight_file import open_weight_file
from tests.support import weight_files

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
SECONDS_PER_FILE = 60  # of the clock, after which the process ends: a hang
LITE, B0 = weight_files.tiny("efficientnet-lite0"), weight_files.tiny()


def make_files(directory):
    """Kind -> (path to damage, path to open, network)."""
    directory.mkdir()
    files = {"tf_efficientnet_b0.safetensors": B0, "legacy.pth": LITE}
    (directory / "tf_efficientnet_b0.safetensors").write_bytes(
        (GOLDEN / "tf_efficientnet_b0_tiny.safetensors").read_bytes()
    )
    (directory / "legacy.pth").write_bytes((GOLDEN / "lite_tiny.pth").read_bytes())
    (directory / "zip.pth").write_bytes((GOLDEN / "kinds_zip.pth").read_bytes())
    model = weight_files.keras_applications()
    for name in ("keras.h5", "keras.keras"):
        model.save(directory / name)
        files[name] = B0
    model.save_weights(directory / "keras.weights.h5")
    weight_files.save_tf1(
        {f"efficientnet-b0/{name}": value for name, value in weight_files.reference_variables(B0).items()},
        str(directory / "tf1"),
    )
    made = {name: (directory / name, directory / name, network) for name, network in files.items()}
    made |= {name: (directory / name, directory / name, B0) for name in ("zip.pth", "keras.weights.h5")}
    for part in ("index", "data-00000-of-00001"):
        made[f"tf1.{part}"] = (directory / f"tf1.{part}", directory / "tf1", B0)
    return made


def damaged(content, generator):
    """A copy with bytes changed, numbers made huge, parts cut out, doubled or cut off; mostly where headers are."""
    content = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 5, 30))):
        reach = (
            len(content) if generator.random() < 0.4 else min(len(content), generator.choice((16, 200, 4000, 20000)))
        )
        at = generator.randrange(reach)
        if generator.random() < 0.3:  # archives have their directory at the end
            at = len(content) - 1 - at
        kind = generator.randrange(7)
        if kind <= 1:
            content[at] = generator.randrange(256)
        elif kind == 2:
            content[at] ^= 1 << generator.randrange(8)
        elif kind == 3:
            number = generator.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
            raw = struct.pack(generator.choice("<>") + "Q", number)[: generator.choice((2, 4, 8))]
            content[at : at + len(raw)] = raw
        elif kind == 4:
            del content[at : at + generator.choice((1, 8, 100, 5000))]
        elif kind == 5:
            content[at:at] = content[at : at + generator.choice((1, 8, 100, 5000))]
        elif generator.random() < 0.3:
            del content[at:]
        if not content:
            return b"\0"
    return bytes(content)


def read_all(path, network):
    """Everything that an import reads: names, shapes, and then each tensor."""
    with open_weight_file(str(path), network) as weight_file:
        mapped = match_names(str(path), weight_file.tensors, weight_file.naming_scheme, network)
        for stored in mapped.pairs.values():
            try:
                stored.to_keras_layout(weight_file.tensors[stored.name].read())
            except READ_ERRORS as error:  # as `assign_weights` does
                raise UserError(str(error)) from error


def _megabytes(name):
    """VmRSS or VmHWM, the peak, of this process."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def main(count, seed, directory):
    """Damages each kind in turn."""
    generator = random.Random(seed)
    files = make_files(Path(directory))
    originals = {name: damage.read_bytes() for name, (damage, _, _) in files.items()}
    for name, (_, path, network) in files.items():
        if name != "zip.pth":  # which holds other tensors
            read_all(path, network)
    outcomes = {name: collections.Counter() for name in files}
    before, slowest = _megabytes("VmRSS"), (0.0, "")
    for number in range(count):
        name = list(files)[number % len(files)]
        damage, path, network = files[name]
        damage.write_bytes(damaged(originals[name], generator))
        faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True)
        start = time.process_time()
        try:
            read_all(path, network)
            outcomes[name]["read"] += 1
        except UserError:
            outcomes[name]["refused"] += 1
        slowest = max(slowest, (time.process_time() - start, name))
        damage.write_bytes(originals[name])
    faulthandler.cancel_dump_traceback_later()
    print(
        json.dumps(
            {
                "outcomes": outcomes,
                "slowest_cpu_seconds": slowest,
                "megabytes": round(max(_megabytes("VmHWM") - before, 0)),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
