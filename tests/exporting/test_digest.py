"""The digest that every export carries: whatever of it is changed, cut, missing or too much is refused."""

import hashlib
import io
import json
import random
import zipfile

import pytest

from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def digest(tf):
    from efficientnet_tpu.exporting import digest

    return digest


@pytest.fixture(scope="module")
def texts(tf):
    from efficientnet_tpu.exporting.metadata import DIGEST_PROPERTY, ExportMetadata

    return ExportMetadata("m", 1, ("ape", "bee"), 32, 5, digest=DIGEST_PROPERTY).as_texts()


def _zip_file(digest, texts):
    """What the formats that end with an archive have in common, and for a network some bytes."""
    from efficientnet_tpu.exporting.metadata import with_texts

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", '{"class_name": "Functional"}')
    return digest.sealed(with_texts(buffer.getvalue(), texts))


def _onnx_file(digest, texts):
    onnx = pytest.importorskip("onnx", reason="comes with the extra onnx")
    pytest.importorskip("onnxruntime", reason="comes with the extra onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=kinds.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["means"]),
    ]
    given = helper.make_tensor_value_info("pixels", kinds.UINT8, ["batch", 32, 32, 3])
    wanted = helper.make_tensor_value_info("means", kinds.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "m", [given], [wanted]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(model, {**texts, "sha256": digest.PLACE})
    return digest.sealed(model.SerializeToString())


def _flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_last_64_characters_are_the_sha_256_of_the_rest(digest, texts):
    for content in (_zip_file(digest, texts), _onnx_file(digest, texts)):
        assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()
        assert digest.is_sealed(content)
    assert not digest.is_sealed(b"")
    with pytest.raises(ValueError, match="no place"):
        digest.sealed(b"too short")


@pytest.mark.parametrize(
    ("suffix", "make"),
    [("keras", _zip_file), ("tflite", _zip_file), ("onnx", _onnx_file)],
    ids=("keras", "tflite", "onnx"),
)
def test_no_bit_of_a_file_can_change_and_no_end_be_missing(digest, texts, tmp_path, suffix, make):
    from efficientnet_tpu.exporting import formats

    content, path = make(digest, texts), tmp_path / f"model.{suffix}"
    chance = random.Random(0)
    statement = 8 * content.index(b'"digest": "sha256"')
    bits = [chance.randrange(8 * len(content)) for _ in range(60)]
    bits += [statement + chance.randrange(8 * 18) for _ in range(10)]  # where it says that it has a digest
    bits += [8 * len(content) - 1 - chance.randrange(8 * 80) for _ in range(10)]  # the digest, and what is before it
    damaged = [_flipped(content, bit) for bit in bits]
    damaged += [content[: chance.randrange(len(content))] for _ in range(20)] + [content[:-64], content[:-1]]
    damaged += [content + b"\0", content[:-64] + b"0" * 64]
    refused = 0
    for changed in damaged:
        path.write_bytes(changed)
        with pytest.raises(UserError, match=f"--saved_model={path}: (is damaged|was not|cannot be loaded)") as raised:
            formats.load_exported(str(path))
        assert "\n" not in str(raised.value)
        refused += "is damaged, or was changed" in str(raised.value)
    assert refused > 60  # before a runtime saw them


def test_a_file_of_an_earlier_version_has_no_digest_and_that_is_said(digest, texts, tmp_path, capsys, monkeypatch):
    from efficientnet_tpu.exporting import formats

    stated = json.loads(texts["classifier.json"])
    del stated["digest"]
    path = tmp_path / "model.onnx"
    path.write_bytes(_onnx_file(digest, {**texts, "classifier.json": json.dumps(stated)})[:-64] + b"x" * 64)
    assert formats.load_exported(str(path)).label_names == ("ape", "bee")
    assert f"note: --saved_model={path}: an earlier version wrote it, without a digest" in capsys.readouterr().err


@pytest.fixture
def directory(digest, tmp_path):
    """What a SavedModel's directory may look like, with its SHA256SUMS."""
    for name, content in (
        ("saved_model.pb", b"graph" * 50), ("variables/variables.index", b"index"), ("labels.txt", b"ape\n"),
        ("variables/variables.data-00000-of-00001", b""), ("model.onnx", b"another format"),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    digest.write_sums(str(tmp_path))
    return tmp_path


ENTRIES = ("saved_model.pb", "variables", "assets", "labels.txt")


def test_sums_are_those_of_sha256sum(digest, directory):
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    assert f"{hashlib.sha256(b'index').hexdigest()}  variables/variables.index" in lines
    assert len(lines) == 5
    digest.check_sums(str(directory), ENTRIES)
    digest.check_sums(f"{directory}/", ENTRIES)
    (directory / "model.onnx").unlink()  # is taken elsewhere
    digest.check_sums(str(directory), ENTRIES)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "labels.txt", "SHA256SUMS"])
def test_no_bit_of_a_directory_can_change(digest, directory, name):
    (directory / "model.onnx").unlink()
    digest.write_sums(str(directory))
    content = (directory / name).read_bytes()
    chance = random.Random(0)
    changes = [_flipped(content, chance.randrange(8 * len(content))) for _ in range(30)]
    for changed in (*changes, content[:-1], b"", content + b"\n"):
        (directory / name).write_bytes(changed)
        with pytest.raises(UserError, match=f"--saved_model={directory}: is damaged"):
            digest.check_sums(str(directory), ENTRIES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda at: (at / "variables/variables.index").unlink(), "variables/variables.index is missing"),
        (lambda at: (at / "labels.txt").unlink(), "labels.txt is missing"),
        (lambda at: (at / "variables/more").touch(), "variables/more is not in SHA256SUMS"),
        (lambda at: [(at / "assets").mkdir(), (at / "assets/x").touch()], "assets/x is not in SHA256SUMS"),
        (lambda at: (at / "saved_model.pb").rename(at / "variables/x"), "saved_model.pb is missing"),
    ],
)
def test_files_that_are_missing_or_too_many(digest, directory, change, reason):
    change(directory)
    with pytest.raises(UserError, match=f"--saved_model={directory}: is damaged, .*: {reason}"):
        digest.check_sums(str(directory), ENTRIES)
