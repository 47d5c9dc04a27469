"""The networks are written for every backend of Keras: on JAX, without TensorFlow, they give the same logits.

The environment is .venv-jax in the project's folder. It is made once, from the package index (a minute).
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-jax" / "bin" / "python"


@pytest.fixture(scope="module")
def jax_python():
    """An interpreter that has Keras in the project's range, and JAX, but no TensorFlow."""
    installed = PYTHON.parent.parent / ".installed"
    if not installed.exists():
        dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        [keras] = [requirement for requirement in dependencies if requirement.startswith("keras")]
        subprocess.run([sys.executable, "-m", "venv", "--clear", PYTHON.parent.parent], check=True)
        install = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", keras, "jax", "numpy"]
        subprocess.run(install, check=True)
        installed.touch()
    return PYTHON


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0"])
def test_logits_on_jax_are_those_on_tensorflow(tf, jax_python, tmp_path, name):
    from efficientnet_tpu.models.build import build_model
    from efficientnet_tpu.models.compound_scaling import build_architecture

    draw = np.random.default_rng(0)
    model = build_model(build_architecture(name, num_classes=10))
    # Weights as after training: none zero or one, moving statistics near the true ones, so that the signal lives on.
    for weight in model.weights:
        if weight.name in ("gamma", "beta", "bias"):
            weight.assign(draw.normal(1.0 if weight.name == "gamma" else 0.0, 0.2, weight.shape))
    images = draw.integers(0, 256, (4, 75, 75, 3), "uint8")  # an odd side: "same" pads unevenly on the way down
    for layer in model.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    tf.function(model)(images, training=True)
    expected = model.predict_on_batch(images)

    weights, logits = tmp_path / "weights.npz", tmp_path / "logits.npy"
    np.savez(weights, images=images, **{weight.path: weight.numpy() for weight in model.weights})
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    script = ROOT / "tests" / "support" / "jax_logits.py"
    result = subprocess.run(
        [jax_python, script, name, weights, logits], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert expected.std() > 0.1
    np.testing.assert_allclose(np.load(logits), expected, rtol=1e-4, atol=1e-4)
