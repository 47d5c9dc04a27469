"""Files of other programs: what PyTorch, safetensors and Keras wrote is read as they would, and nothing is executed."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.compound_scaling import build_architecture
from efficientnet_tpu.weights.readers import hdf5_reader, pth_reader, safe_unpickler, safetensors_reader

GOLDEN = Path(__file__).parents[2] / "golden" / "weights"

# What benchmarks/torch_weights.py wrote, by PyTorch.
BASE = np.arange(24)
KINDS = {
    "float32": BASE.reshape(2, 3, 4),
    "part": BASE[6:18].reshape(3, 4),
    "transposed": BASE.reshape(4, 6).T,
    "expanded": np.ones(5),
    "float16": BASE / 8,
    "bfloat16": BASE * 3,
    "float64": BASE / 3,
    "int64": BASE - 5,
    "parameter": BASE[:4] + 0.5,
    "scalar": np.array(7),
}


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (pth_reader.read_zip, "kinds_zip.pth"),
        (pth_reader.read_legacy, "kinds_legacy.pth"),
        (safetensors_reader.read_safetensors, "kinds.safetensors"),
    ],
)
def test_every_kind_of_tensor(read, file):
    tensors = read(str(GOLDEN / file))
    assert set(tensors) == set(KINDS)
    for name, expected in KINDS.items():
        assert tensors[name].shape == expected.shape
        assert tensors[name].dtype == {"part": "float32", "transposed": "float32", "expanded": "float32",
                                       "parameter": "float32", "scalar": "int64"}.get(name, name)  # fmt: skip
        np.testing.assert_array_equal(np.asarray(tensors[name].read(), np.float64), expected.astype(np.float64))


# --- pickles that want more than tensors


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def _zip_of(data, path, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return str(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_a_function_is_refused_and_the_function_not_called(tmp_path, protocol):
    target = tmp_path / "touched"
    data = pickle.dumps({"weight": Evil(target)}, protocol)
    with pytest.raises(safe_unpickler.PickleError):
        pth_reader.read_zip(_zip_of(data, tmp_path / "a.pth"))
    (tmp_path / "b.pth").write_bytes(_legacy_start() + data)
    with pytest.raises(safe_unpickler.PickleError):
        pth_reader.read_legacy(str(tmp_path / "b.pth"))
    assert not target.exists()
    pickle.loads(data)
    assert target.exists()  # it would have been


def _legacy_start():
    parts = (pth_reader.LEGACY_MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    return b"".join(pickle.dumps(part, 2) for part in parts)


def _read_pickle(data):
    return safe_unpickler.read_pickle(io.BytesIO(data), {"a b": lambda *arguments: arguments}, lambda reference: None)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00trueEtR.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",  # INST
        b"\x80\x02(ca b\no.",  # OBJ
        b"\x80\x02ca b\n)\x81.",  # NEWOBJ
        b"\x80\x02ca\nb\n}b.",  # BUILD of a name
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02K\x01(K\x01K\x02u.",
        b"\x80\x02}))s.",  # a tuple as key
        b"\x80\x02(q\x00.",
        b"\x80\x02K\x01",
        b"\x80\x02.",
        b"\x80\x02h\x05.",
        b"\x80\x02e.",
        b"",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    ],
)
def test_instructions_that_no_state_dict_needs(data):
    with pytest.raises(safe_unpickler.PickleError):
        _read_pickle(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        # Multiples of 2^61 - 1 have one hash: to store 500,000 of them would take an hour.
        (b"}(" + b"".join(b"\x8a\x0a%sN" % (i * (2**61 - 1)).to_bytes(10, "little") for i in range(9)) + b"u.", "keys"),
        (b"}G\x40\x09\x21\xfb\x54\x44\x2d\x18Ns.", "keys"),
        (b"ca\nb\n(" + b"N" * 65 + b"tR.", "too many arguments"),
        (b"N" * 101 + b".", "more than 100 instructions"),
    ],
)
def test_what_would_take_minutes_is_refused(monkeypatch, data, reason):
    monkeypatch.setattr(safe_unpickler, "_MOST_INSTRUCTIONS", 100)
    with pytest.raises(safe_unpickler.PickleError, match=reason):
        _read_pickle(b"\x80\x02" + data)


def test_a_memo_number_takes_no_memory():
    # Python's own unpickler in C would make room for all numbers below.
    assert _read_pickle(b"\x80\x02K\x07r\xff\xff\xff\x7fj\xff\xff\xff\x7f0.".replace(b"0.", b".")) == 7


def test_nesting_takes_no_time():
    doubling = b"".join(b"q%ch%ch%c\x86" % (i, i, i) for i in range(200))
    value = _read_pickle(b"\x80\x02)" + doubling + b".")
    assert len(value) == 2
    with pytest.raises(safe_unpickler.PickleError, match="keys"):
        _read_pickle(b"\x80\x02)" + doubling + b"q\xf0}h\xf0K\x01s.")


# --- sizes that are not there


def _tensor_pickle(count, offset, shape, strides, key="0"):
    """A state dict of one tensor by the instructions PyTorch uses."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value[1] if isinstance(value, tuple) and value[:1] == ("reference",) else None

    class Call:
        def __reduce__(self):
            return _rebuild, (
                ("reference", ("storage", _Storage, key, "cpu", count)),
                offset,
                shape,
                strides,
                False,
                {},
            )

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"weight": Call()})
    name = f"c{_rebuild.__module__}\n_rebuild\n".encode()
    storage = f"c{_Storage.__module__}\n_Storage\n".encode()
    data = stream.getvalue()
    assert name in data
    assert storage in data
    return data.replace(name, b"ctorch._utils\n_rebuild_tensor_v2\n").replace(storage, b"ctorch\nFloatStorage\n")


def _rebuild(*arguments):
    raise AssertionError


class _Storage:
    pass


def test_the_pickle_made_here_is_as_pytorchs(tmp_path):
    path = _zip_of(
        _tensor_pickle(6, 0, (2, 3), (3, 1)), tmp_path / "a.pth", **{"data/0": np.arange(6, dtype="<f4").tobytes()}
    )
    np.testing.assert_array_equal(pth_reader.read_zip(path)["weight"].read(), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides"),
    [
        (6, 1, (2, 3), (3, 1)),
        (6, 0, (2, 3), (4, 1)),
        (6, -1, (2, 3), (3, 1)),
        (6, 0, (2, -3), (3, 1)),
        (6, 0, (2, 3), (-3, 1)),
        (6, 0, (2, 3), (3,)),
        (7, 0, (2, 3), (3, 1)),
        (5, 0, (2, 3), (3, 1)),
        (6, 0, (2.0, 3), (3, 1)),
        (2**60, 0, (2**60,), (1,)),
        (6, 0, (1,) * 40, (1,) * 40),
    ],
)
def test_tensors_that_reach_beyond_their_storage(tmp_path, count, offset, shape, strides):
    path = _zip_of(
        _tensor_pickle(count, offset, shape, strides),
        tmp_path / "a.pth",
        **{"data/0": np.arange(6, dtype="<f4").tobytes()},
    )
    with pytest.raises(safe_unpickler.PickleError):
        pth_reader.read_zip(path)


def test_a_huge_tensor_of_one_number_is_refused(tmp_path):
    path = _zip_of(_tensor_pickle(1, 0, (2**40,), (0,)), tmp_path / "a.pth", **{"data/0": b"\0\0\0\0"})
    with pytest.raises(safe_unpickler.PickleError, match="larger than its storage"):
        pth_reader.read_zip(path)


def test_zip_entries_that_are_compressed_or_missing(tmp_path):
    pickled = _tensor_pickle(2**20, 0, (2**20,), (1,))
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(2**22))
    with pytest.raises(safe_unpickler.PickleError, match="compressed"):
        pth_reader.read_zip(str(tmp_path / "bomb.pth"))
    with pytest.raises(safe_unpickler.PickleError, match="missing"):
        pth_reader.read_zip(_zip_of(pickled, tmp_path / "a.pth"))


def test_a_legacy_storage_that_is_cut_off(tmp_path):
    whole = (GOLDEN / "kinds_legacy.pth").read_bytes()
    for missing in (1, 40, 300):
        (tmp_path / "cut.pth").write_bytes(whole[:-missing])
        with pytest.raises((safe_unpickler.PickleError, struct.error)):
            pth_reader.read_legacy(str(tmp_path / "cut.pth"))


@pytest.mark.parametrize("data", [pickle.dumps([1, 2], 2), pickle.dumps({"epoch": 3}, 2), pickle.dumps({1: 2}, 2)])
def test_pickles_that_are_no_state_dict(tmp_path, data):
    with pytest.raises(safe_unpickler.PickleError, match="state dict"):
        pth_reader.read_zip(_zip_of(data, tmp_path / "a.pth"))


# --- HDF5


TINY = build_architecture("efficientnet-b0", 3, width_coefficient=0.1, depth_coefficient=0.1)


def _hdf5(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return str(path)


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path):
    secret = _hdf5(tmp_path / "secret.h5", lambda file: file.create_dataset("x", data=np.arange(3.0)))

    def external_link(file):
        file["a"] = h5py.ExternalLink(secret, "x")

    def soft_link(file):
        file["a"] = h5py.SoftLink("/b")

    def external_data(file):
        file.create_dataset("a", (3,), "f4", external=[(secret, 0, 12)])

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(secret, "x", (3,))
        file.create_virtual_dataset("a", layout)

    for fill in (external_link, soft_link, external_data, virtual):
        with pytest.raises(ValueError, match=r"link to somewhere|stored outside"):
            hdf5_reader.read_hdf5(_hdf5(tmp_path / "a.h5", fill), TINY)


def test_hdf5_data_larger_than_the_file_is_refused(tmp_path):
    def claims(file):
        file.create_dataset("a", (2**40,), "f4")

    def compressed(file):
        file.create_dataset("a", data=np.zeros(10**6, "f4"), compression="gzip")

    def loop(file):
        file["group/loop"] = file.create_group("other")
        file["other/back"] = file["group"]

    def text(file):
        file.create_dataset("a", data=["x"], dtype=h5py.string_dtype())

    for fill in (claims, compressed, loop, text):
        with pytest.raises(ValueError, match=r"claims more|compressed|more groups|no plain numbers"):
            hdf5_reader.read_hdf5(_hdf5(tmp_path / "a.h5", fill), TINY)


def test_a_keras_archive_gives_its_weights_and_nothing_else(tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", "x")
        archive.writestr("config.json", json.dumps({"class_name": "Lambda"}))
        archive.writestr("model.weights.h5", b"weights")
    with hdf5_reader.unpacked_keras(str(path)) as unpacked:
        assert Path(unpacked).read_bytes() == b"weights"
        assert [file.name for file in Path(unpacked).parent.iterdir()] == ["model.weights.h5"]
    assert not Path(unpacked).exists()
    assert [file.name for file in tmp_path.iterdir()] == ["a.keras"]


def test_a_keras_archive_that_would_grow_is_refused(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**7))
    with pytest.raises(ValueError, match="claims 10,000,000 bytes"), hdf5_reader.unpacked_keras(str(path)):
        pass


# --- safetensors


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{]",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}      ',
        struct.pack("<Q", 70)
        + b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'.ljust(70)
        + bytes(4),
    ],
)
def test_safetensors_with_a_bad_header(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        safetensors_reader.read_safetensors(str(tmp_path / "a.safetensors"))
    assert not isinstance(caught.value, UserError)
