"""Reads PyTorch's .pth files without PyTorch, in both formats, by `safe_unpickler`, which executes nothing.

The newer format is a zip archive of a pickle and a file for each storage. The older one, which PyTorch wrote until
1.5, is a sequence of five pickles followed by the storages.
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from efficientnet_tpu.weights.readers.safe_unpickler import MAX_BYTES, Name, PickleError, read_pickle
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensor, StoredTensors, decode_numbers

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
_MAX_ENTRIES = 20_000
_STORAGE_TYPES = {
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch DoubleStorage": "float64",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
_ITEM_SIZES = {"bfloat16": 2, **{name: np.dtype(name).itemsize for name in set(_STORAGE_TYPES.values()) - {"bfloat16"}}}


@dataclass(frozen=True)
class _Storage:
    """A storage: the numbers of one or more tensors, one after the other."""

    key: str
    dtype: str
    count: int  # of numbers

    @property
    def num_bytes(self) -> int:
        return self.count * _ITEM_SIZES[self.dtype]


@dataclass(frozen=True)
class _View:
    """A tensor as part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers, not bytes


def read_zip(path: str) -> StoredTensors:
    """Returns the state dict of a .pth of PyTorch 1.6 or later. Raises ValueError or OSError for any other file."""
    with zipfile.ZipFile(path) as archive:
        # PyTorch never compresses, so an archive that claims to hold more than its own size is damaged or hostile.
        stored, size = archive.infolist(), os.path.getsize(path)
        if len(stored) > _MAX_ENTRIES:
            raise PickleError(f"{len(stored)} entries are more than a state dict has")
        for entry in stored:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
                raise PickleError(f"the entry {entry.filename!r:.100} is compressed or larger than the file")
        entries = {entry.filename: entry for entry in stored}
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1 or entries[pickles[0]].file_size > MAX_BYTES:
            raise PickleError("no state dict: there is no data.pkl, or it is too large")
        folder = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
        if order != b"little":
            raise PickleError("stored in big-endian order")
        state = _state_dict(io.BytesIO(archive.read(pickles[0])))

    def read_storage(storage: _Storage) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read(f"{folder}data/{storage.key}")

    def stored_bytes(storage: _Storage) -> int:
        entry = entries.get(f"{folder}data/{storage.key}")
        return -1 if entry is None else entry.file_size

    return _tensors(state, stored_bytes, read_storage)


def read_legacy(path: str) -> StoredTensors:
    """Returns the state dict of a .pth of PyTorch up to 1.5. Raises ValueError or OSError for any other file."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(MAX_BYTES))
    no_reference = _refusing("a reference to a storage where none belongs")
    magic, _, system = (read_pickle(head, {}, no_reference) for _ in range(3))
    if magic != LEGACY_MAGIC or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleError("not PyTorch's format, or stored in big-endian order")
    state = _state_dict(head)
    keys = read_pickle(head, {}, no_reference)
    storages = {view.storage.key: view.storage for view in state.values()}
    offsets = {}
    position = head.tell()
    with open(path, "rb") as file:
        for key in keys if isinstance(keys, list) else ():
            if not isinstance(key, str) or key not in storages or key in offsets:
                raise PickleError("the list of storages is not that of the tensors")
            file.seek(position)
            (count,) = struct.unpack("<q", file.read(8))
            if count != storages[key].count or position + 8 + storages[key].num_bytes > size:
                raise PickleError(f"the storage {key!r:.100} is incomplete")
            offsets[key] = position + 8
            position += 8 + storages[key].num_bytes

    def read_storage(storage: _Storage) -> bytes:
        with open(path, "rb") as file:
            file.seek(offsets[storage.key])
            return file.read(storage.num_bytes)

    return _tensors(state, lambda storage: storage.num_bytes if storage.key in offsets else -1, read_storage)


def _state_dict(stream: io.BytesIO) -> dict[str, _View]:
    content = read_pickle(stream, _CALLS, _parse_storage)
    for key in ("state_dict", "model"):  # a training checkpoint holds more
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise PickleError("not a state dict, but an object of another kind; save model.state_dict()")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, _View):
            raise PickleError("not a state dict: it holds more than named tensors; save model.state_dict()")
    return content


def _parse_storage(reference: Any) -> _Storage:
    """Parses PyTorch's reference to a storage: ("storage", type, key, device, number of elements)."""
    if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
        raise PickleError("damaged reference to a storage")
    _, kind, key, _, count = reference[:5]
    if not (isinstance(kind, Name) and kind.text in _STORAGE_TYPES and isinstance(key, str) and _is_count(count)):
        raise PickleError("damaged reference to a storage")
    return _Storage(key, _STORAGE_TYPES[kind.text], count)


def _make_view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    """Replaces torch._utils._rebuild_tensor_v2."""
    # The lengths first: a long tuple may be given to each of many tensors.
    fits = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 8
    if not (fits and isinstance(storage, _Storage) and all(map(_is_count, [offset, *shape, *strides]))):
        raise PickleError("damaged tensor")
    # A tensor may have no more numbers than its storage: with strides of zero, one number could fill any memory.
    if math.prod(shape) > storage.count:
        raise PickleError("a tensor is larger than its storage")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise PickleError("a tensor reaches beyond its storage")
    return _View(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _refusing(message: str) -> Callable[..., Any]:
    """Returns a function that raises PickleError with this message, whatever it is called with."""

    def refuse(*_: Any) -> None:
        raise PickleError(message)

    return refuse


_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda *_: {},
    "torch._utils _rebuild_tensor_v2": _make_view,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    **dict.fromkeys(_STORAGE_TYPES, _refusing("damaged pickle: a storage's type is called")),
}


def _tensors(
    state: dict[str, _View], stored_bytes: Callable[[_Storage], int], read_storage: Callable[[_Storage], bytes]
) -> StoredTensors:
    for name, view in state.items():
        if stored_bytes(view.storage) != view.storage.num_bytes:
            raise PickleError(f"the numbers of {name!r:.100} are missing or incomplete")

    def reader(view: _View) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            raw = read_storage(view.storage)
            if len(raw) != view.storage.num_bytes:  # or memory beyond it would be read
                raise PickleError("the file has become shorter")
            numbers = decode_numbers(raw, view.storage.dtype)[view.offset :]
            strides = [stride * numbers.itemsize for stride in view.strides]
            return np.lib.stride_tricks.as_strided(numbers, view.shape, strides, writeable=False).copy()

        return read

    # An empty tensor has no numbers to point at.
    return {
        name: StoredTensor(view.shape, view.storage.dtype, reader(view))
        for name, view in state.items()
        if math.prod(view.shape)
    }
