"""Every weight has one name in every kind of file; what does not fit is refused with both sides named."""

import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import VARIANTS
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.weights import name_mapping, naming_schemes
from efficientnet_tpu.weights.layer_specs import target_shapes, weighted_layers
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensor, in_memory

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"


def test_shapes_are_those_of_the_built_models(weight_files):
    from efficientnet_tpu.models.efficientnet import build_model
    from efficientnet_tpu.weights.assign_weights import weights_by_name

    for name in ("efficientnet-b0", "efficientnet-lite0"):
        architecture = weight_files.tiny(name)
        built = {key: tuple(weight.shape) for key, weight in weights_by_name(build_model(architecture)).items()}
        assert target_shapes(architecture) == built


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_those_of_the_family(name):
    from efficientnet_tpu.models import complexity

    architecture = build_architecture(name)
    sizes = {key: int(np.prod(shape)) for key, shape in target_shapes(architecture).items()}
    trainable = sum(size for key, size in sizes.items() if "/moving_" not in key)
    assert trainable == complexity.count(architecture).trainable_params


@pytest.mark.parametrize("naming_scheme", naming_schemes.NAMING_SCHEMES, ids=lambda naming_scheme: naming_scheme.title)
@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b7", "efficientnet-l2", "efficientnet-lite4"])
def test_every_weight_has_a_name_of_its_own(naming_scheme, name):
    architecture = build_architecture(name)
    stored = naming_scheme.stored_names(architecture)
    assert list(stored) == list(target_shapes(architecture))
    assert len({one.name for one in stored.values()}) == len(stored)
    assert naming_scheme.prefixes(one.name for one in stored.values()) == [""]


TIMM_TENSORS = json.loads((GOLDEN / "timm_tensors.json").read_text())  # by timm itself


@pytest.mark.parametrize("name", TIMM_TENSORS)
def test_timms_names_and_shapes(name):
    tensors = {
        key: StoredTensor(tuple(shape), "int64" if key.endswith("tracked") else "float32", lambda: None)
        for key, shape in TIMM_TENSORS[name].items()
    }
    architecture = build_architecture(name.removeprefix("tf_").replace("_", "-"))
    mapped = name_mapping.match_names("file", tensors, naming_schemes.TIMM, architecture)
    assert len(mapped.pairs) + len(mapped.ignored) == len(tensors)
    assert all(key.endswith("num_batches_tracked") for key in mapped.ignored)
    with pytest.raises(UserError, match=rf"It fits --model={architecture.name}\.$"):
        name_mapping.match_names("file", tensors, naming_schemes.TIMM, build_architecture("efficientnet-b1"))


# As the reference's graph names them; from converters of its published checkpoints.
REFERENCE_NAMES = {
    "stem_conv/kernel": "stem/conv2d/kernel",
    "block_0_depthwise_conv/kernel": "blocks_0/depthwise_conv2d/depthwise_kernel",
    "block_0_project_conv/kernel": "blocks_0/conv2d/kernel",
    "block_0_depthwise_bn/beta": "blocks_0/tpu_batch_normalization/beta",
    "block_0_project_bn/gamma": "blocks_0/tpu_batch_normalization_1/gamma",
    "block_0_se_reduce/bias": "blocks_0/se/conv2d/bias",
    "block_0_se_expand/kernel": "blocks_0/se/conv2d_1/kernel",
    "block_1_expand_conv/kernel": "blocks_1/conv2d/kernel",
    "block_1_project_conv/kernel": "blocks_1/conv2d_1/kernel",
    "block_1_project_bn/moving_variance": "blocks_1/tpu_batch_normalization_2/moving_variance",
    "head_conv/kernel": "head/conv2d/kernel",
    "head_bn/gamma": "head/tpu_batch_normalization/gamma",
    "classifier/kernel": "head/dense/kernel",
}


def test_the_references_names():
    stored = naming_schemes.REFERENCE_CHECKPOINT.stored_names(build_architecture("efficientnet-b0"))
    assert {ours: stored[ours].name for ours in REFERENCE_NAMES} == REFERENCE_NAMES


def _as_stored(naming_scheme, architecture):
    """What a file of this naming holds of this network."""
    shapes = target_shapes(architecture)
    back = {"as it is": None, "conv OIHW": (3, 2, 0, 1), "depthwise C1HW": (2, 3, 0, 1), "dense OI": (1, 0)}
    tensors = {}
    for ours, stored in naming_scheme.stored_names(architecture).items():
        axes = back[stored.layout]
        array = np.zeros(shapes[ours], np.float32)
        tensors[stored.name] = in_memory(array if axes is None else array.transpose(axes))
    return tensors


@pytest.mark.parametrize("naming_scheme", naming_schemes.NAMING_SCHEMES, ids=lambda naming_scheme: naming_scheme.title)
def test_refusals_name_both_sides(naming_scheme):
    architecture = build_architecture("efficientnet-b0", 7)
    whole = _as_stored(naming_scheme, architecture)
    assert len(name_mapping.match_names("file", whole, naming_scheme, architecture).pairs) == len(
        target_shapes(architecture)
    )
    ours = "block_3_project_conv/kernel"
    name = naming_scheme.stored_names(architecture)[ours].name

    def refusal(tensors):
        with pytest.raises(UserError) as caught:
            name_mapping.match_names("file", tensors, naming_scheme, architecture)
        return str(caught.value)

    missing = refusal({key: tensor for key, tensor in whole.items() if key != name})
    assert f"1 of the model's weights are not in the file: {ours} (there {name}). " in missing
    assert "1 of the file's tensors have no place in the model: stranger" in refusal(whole | {"stranger": whole[name]})
    assert "'a\\nb'" in refusal(whole | {"a\nb": whole[name]})
    other_shape = refusal(whole | {name: in_memory(np.zeros((1, 2, 3, 4), np.float32))})
    assert f"1 differ in shape: {name} [1, 2, 3, 4] for {ours} [1, 1, 144, 40]. " in other_shape
    integers = refusal(whole | {name: in_memory(np.zeros(whole[name].shape, np.int8))})
    assert f"{name}, to become {ours}, is stored as int8" in integers
    assert refusal(_as_stored(naming_scheme, build_architecture("efficientnet-b3", 7))).endswith(
        "fits --model=efficientnet-b3."
    )


def test_a_file_without_classifier_maps_onto_the_rest():
    architecture = build_architecture("efficientnet-b0", 7)
    names = naming_schemes.TIMM.stored_names(architecture)
    tensors = _as_stored(naming_schemes.TIMM, architecture)
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    mapped = name_mapping.match_names("file", body, naming_schemes.TIMM, architecture)
    assert names.keys() - mapped.pairs.keys() == {"classifier/kernel", "classifier/bias"}
    assert not mapped.has_classifier
    with pytest.raises(UserError, match="classifier/bias"):
        name_mapping.match_names(
            "file", {**body, "classifier.weight": tensors["classifier.weight"]}, naming_schemes.TIMM, architecture
        )


def test_layers_are_in_the_order_of_the_data():
    names = [layer.name for layer in weighted_layers(build_architecture("efficientnet-b0"))]
    assert names[:5] == ["stem_conv", "stem_bn", "block_0_depthwise_conv", "block_0_depthwise_bn", "block_0_se_reduce"]
    assert names[-3:] == ["head_conv", "head_bn", "classifier"]
