"""What a training put around a network is taken off: prefixes, and heads of its owner's."""

from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.weights import naming_schemes
from efficientnet_tpu.weights.layer_specs import target_shapes
from efficientnet_tpu.weights.readers.stored_tensor import in_memory
from efficientnet_tpu.weights.wrappings import unwrap
from tests.support.importing import import_weights, imported_logits

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
B0 = build_architecture("efficientnet-b0", 7)
SCHEMES = (naming_schemes.TIMM, naming_schemes.EFFICIENTNET_PYTORCH)


def _file(scheme, prefix=""):
    """Name -> tensor of a network, as a file of this naming holds it."""
    axes = {"as it is": None, "conv OIHW": (3, 2, 0, 1), "depthwise C1HW": (2, 3, 0, 1), "dense OI": (1, 0)}
    shapes = target_shapes(B0)
    return {
        prefix + stored.name: in_memory(
            np.zeros([shapes[ours][axis] for axis in axes[stored.layout] or range(len(shapes[ours]))], np.float32)
        )
        for ours, stored in scheme.stored_names(B0).items()
    }


def _dense(inputs, outputs):
    return in_memory(np.ones((outputs, inputs), np.float32))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.title)
@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "model.module.", "ema.module.", "net.", "backbone.", "_orig_mod."]
)
def test_a_common_prefix_is_taken_off(scheme, prefix):
    metrics = {
        "criterion.weight": in_memory(np.ones(7, np.float32)),
        "acc.confmat": in_memory(np.ones((7, 7), np.int64)),
    }
    unwrapped = unwrap("file", _file(scheme, prefix) | metrics, B0)
    assert unwrapped.naming_scheme is scheme
    assert unwrapped.tensors.keys() == _file(scheme).keys()
    assert {unwrapped.names[name] for name in unwrapped.tensors} == _file(scheme, prefix).keys()
    assert set(unwrapped.not_needed) == metrics.keys()
    assert any(f"begin with {prefix}" in note for note in unwrapped.notes)


def test_of_several_networks_the_average_is_taken():
    timm = naming_schemes.TIMM
    unwrapped = unwrap("file", _file(timm, "model.") | _file(timm, "model_ema.module."), B0)
    assert unwrapped.names["bn1.weight"] == "model_ema.module.bn1.weight"
    with pytest.raises(UserError, match=r"several networks, .*'student\.', 'teacher\.'"):
        unwrap("file", _file(timm, "student.") | _file(timm, "teacher."), B0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.title)
@pytest.mark.parametrize("layer", ["head", "classifier.1", "_fc.0", "fc"])
def test_the_one_layer_behind_the_features_is_the_classifier(scheme, layer):
    names = scheme.stored_names(B0)
    kernel, bias = names["classifier/kernel"].name, names["classifier/bias"].name
    body = {f"net.{name}": tensor for name, tensor in _file(scheme).items() if name not in (kernel, bias)}
    head = {f"{layer}.weight": _dense(1280, 3), f"{layer}.bias": in_memory(np.ones(3, np.float32))}
    unwrapped = unwrap("file", body | head, B0)
    assert unwrapped.tensors[kernel].shape == (3, 1280)
    assert unwrapped.names[kernel] == f"{layer}.weight"
    assert unwrapped.not_needed == ()
    without_bias = unwrap("file", body | {f"{layer}.weight": _dense(1280, 3)}, B0)
    np.testing.assert_array_equal(without_bias.tensors[bias].read(), np.zeros(3))


def test_one_output_becomes_the_second_of_two_classes():
    body = {name: tensor for name, tensor in _file(naming_schemes.TIMM).items() if not name.startswith("classifier")}
    head = {"head.weight": _dense(1280, 1), "head.bias": in_memory(np.full(1, 0.5, np.float32))}
    unwrapped = unwrap("file", body | head, B0)
    assert unwrapped.has_single_output
    np.testing.assert_array_equal(unwrapped.tensors["classifier.bias"].read(), [0, 0.5])
    np.testing.assert_array_equal(unwrapped.tensors["classifier.weight"].read()[:, 7], [0, 1])
    assert unwrapped.tensors["classifier.weight"].shape == (2, 1280)


@pytest.mark.parametrize(
    "head",
    [
        {"fc1.weight": _dense(1280, 64), "fc2.weight": _dense(64, 5)},
        {"fc.weight": _dense(2560, 5)},
        {"fc.weight": _dense(1280, 5), "norm.running_mean": in_memory(np.ones(1280, np.float32))},
        {
            "classifier.weight": _dense(1280, 1000),
            "classifier.bias": in_memory(np.ones(1000, np.float32)),
            "fc.weight": _dense(1000, 5),
        },
    ],
    ids=["two layers", "other features", "batch norm", "a layer behind the classifier"],
)
def test_any_other_head_is_left_out_and_a_line_says_so(head):
    body = {name: tensor for name, tensor in _file(naming_schemes.TIMM).items() if not name.startswith("classifier")}
    unwrapped = unwrap("file", body | head, B0)
    assert unwrapped.tensors.keys() == body.keys()
    assert set(unwrapped.not_needed) == head.keys()
    assert "not one Dense layer over the 1280 pooled features, but " in unwrapped.notes[-1]


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("features.1.0.block.0.0.weight", "torchvision's EfficientNet: its convolutions pad on all sides"),
        ("model.features.1.0.block.0.0.weight", "torchvision"),
        ("efficientnet.embeddings.convolution.weight", "transformers"),
    ],
)
def test_other_programs_are_named(name, program):
    with pytest.raises(UserError, match=program):
        unwrap("file", {name: _dense(3, 3)}, B0)


@pytest.mark.slow
def test_a_wrapped_file_computes_what_the_plain_one_does(tf, weight_files, tmp_path):
    from safetensors.numpy import load_file, save_file

    plain = GOLDEN / "tf_efficientnet_b0_tiny.safetensors"
    tensors = load_file(plain)
    wrapped = {f"model.module.{name}": value for name, value in tensors.items() if not name.startswith("classifier")}
    wrapped |= {"head.1.weight": tensors["classifier.weight"], "head.1.bias": tensors["classifier.bias"]}
    save_file(wrapped, tmp_path / "tf_efficientnet_b0.safetensors")
    import_weights(plain, tmp_path / "plain", *weight_files.TINY_FLAGS)
    import_weights(tmp_path / "tf_efficientnet_b0.safetensors", tmp_path / "wrapped", *weight_files.TINY_FLAGS)
    pixels = weight_files.images()
    expected = imported_logits(tmp_path / "plain", pixels)
    np.testing.assert_array_equal(imported_logits(tmp_path / "wrapped", pixels), expected)
    lines = (tmp_path / "wrapped" / "mapping.txt").read_text()
    assert "classifier/kernel  <-  head.1.weight" in lines
    assert "stem_conv/kernel  <-  model.module.conv_stem.weight" in lines
