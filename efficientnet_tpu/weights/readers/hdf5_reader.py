"""Reads Keras' weight files: .h5 of Keras 2 and 3, .weights.h5, and the one inside a .keras archive.

The reader uses h5py alone and runs no code of the archive, whose config.json may name some. It refuses links out of
the file, data outside of it, and virtual and compressed data sets: weights need none of them, and through them a file
could read others or grow without bound.
"""

import contextlib
import functools
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.storage.temporary_directory import temporary_directory
from efficientnet_tpu.weights.layer_specs import weighted_layers
from efficientnet_tpu.weights.naming_schemes import KERAS_APPLICATIONS
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensor, StoredTensors

KERAS_WEIGHTS, KERAS_CONFIG = "model.weights.h5", "config.json"  # in a .keras archive
_MAX_DESCRIPTION_BYTES = 64 << 20
_MAX_OBJECTS = 50_000
_MAX_DEPTH = 12
# A layer's variables in the order in which Keras numbers them, by the snake-case name of the class.
_NUMBERED_VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", "count"),
}
_CLASS_OF_KIND = {
    "conv": "conv2d",
    "biased_conv": "conv2d",
    "depthwise": "depthwise_conv2d",
    "batch_norm": "batch_normalization",
    "dense": "dense",
}


@contextlib.contextmanager
def unpacked_keras(path: str) -> Iterator[str]:
    """Yields the path of the weights in a .keras archive. Raises ValueError if there are none.

    Unpacks this one entry, into a file with a name of our own, and no more bytes than it claims.
    """
    with zipfile.ZipFile(path) as archive, temporary_directory() as directory:
        if KERAS_WEIGHTS not in archive.namelist():
            raise ValueError(f"there is no {KERAS_WEIGHTS} in it")
        entry = archive.getinfo(KERAS_WEIGHTS)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{KERAS_WEIGHTS} is compressed in another way than Keras does")
        # Keras stores weights as they are; random numbers do not shrink.
        if entry.file_size > 2 * os.path.getsize(path):
            raise ValueError(f"{KERAS_WEIGHTS} claims {entry.file_size:,} bytes, far more than the archive's")
        target = os.path.join(directory, KERAS_WEIGHTS)
        with archive.open(entry) as source, open(target, "wb") as file:
            left = entry.file_size
            while chunk := source.read(min(left, 1 << 20)):
                file.write(chunk)
                left -= len(chunk)
        yield target


def model_description(path: str) -> str | bytes | None:
    """Returns the JSON that describes the model in a .keras archive or .h5 file, None in a file of weights alone."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if KERAS_CONFIG not in archive.namelist():
                return None
            with archive.open(KERAS_CONFIG) as entry:
                return entry.read(_MAX_DESCRIPTION_BYTES)
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    return text if isinstance(text, str | bytes) else None


def read_hdf5(path: str, architecture: Architecture) -> StoredTensors:
    """Returns the weights in an HDF5 file by layer/variable, with keras.applications' names of layers.

    architecture: gives the order of layers in files that number them by class, as early Keras 3 did. Raises ValueError
        or OSError for any other file.
    """
    import h5py

    def read(name: str) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return file[name][()]

    with h5py.File(path, "r") as file:
        data_sets = dict(_data_sets(file, os.path.getsize(path)))
        # Since about 3.8 Keras writes the layer's name beside numbered variables.
        attributes = {
            group: file[group].attrs.get("name") for group in {_vars_group(name) for name in data_sets} - {""}
        }
    layer_names = {group: name for group, name in attributes.items() if isinstance(name, str)}
    named = _names_by_number(architecture)
    tensors = {}
    for name, (shape, dtype) in data_sets.items():
        key = _layer_and_variable(name, layer_names.get(_vars_group(name)), named)
        if key in tensors:
            raise ValueError(f"{name!r:.100}: a second {key!r:.100}")
        tensors[key] = StoredTensor(shape, dtype, functools.partial(read, name))
    return tensors


def _data_sets(file: Any, file_size: int) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
    """Yields name and (shape, type) of everything stored. Raises ValueError for what could reach out of the file."""
    import h5py

    groups = [("", file, 0)]
    seen = 0
    while groups:
        prefix, group, depth = groups.pop()
        for name in group:
            seen += 1
            if seen > _MAX_OBJECTS or depth > _MAX_DEPTH:
                raise ValueError("more groups than a network has")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r:.100} is a link to somewhere else")
            item, full_name = group[name], f"{prefix}{name}"
            if isinstance(item, h5py.Group):
                groups.append((f"{full_name}/", item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                filters = item.id.get_create_plist().get_nfilters()
                if item.external is not None or item.is_virtual or filters or item.shape is None:
                    raise ValueError(f"{full_name!r:.100} is stored outside of the file, compressed, or empty")
                if item.dtype.hasobject or item.dtype.fields or item.nbytes > file_size:
                    raise ValueError(
                        f"{full_name!r:.100} holds no plain numbers, or claims more of them than the file has"
                    )
                yield full_name, (item.shape, item.dtype.name)


def _vars_group(name: str) -> str:
    """Returns layers/conv2d_1/vars for layers/conv2d_1/vars/0, and "" where variables are not numbered."""
    group, _, last = name.rpartition("/")
    return group if last.isdigit() and group.endswith("/vars") else ""


def _layer_and_variable(name: str, layer_name: str | None, named: dict[str, str]) -> str:
    """Returns layer/variable, such as block1a_bn/gamma, for a name in any of Keras' formats, else the name itself."""
    parts = name.split("/")
    if parts[0] in ("optimizer", "optimizer_weights"):
        return f"optimizer/{name}"
    if not _vars_group(name):  # [model_weights/][efficientnetb0/]block1a_bn/[block1a_bn/]gamma:0
        variable = parts[-1].removesuffix(":0")
        # Random layers of several kinds have a generator of one name.
        return name if len(parts) < 2 or variable.startswith("seed_generator") else f"{parts[-2]}/{variable}"
    numbered, index = parts[-3], int(parts[-1])
    kind = re.sub(r"_\d+$", "", numbered)
    variables = _NUMBERED_VARIABLES.get(kind, ())
    if parts[-4:-3] != ["layers"] or index >= len(variables):  # [layers/functional/]layers/conv2d_1/vars/0
        return name
    return f"{layer_name or named.get(numbered, numbered)}/{variables[index]}"


def _names_by_number(architecture: Architecture) -> dict[str, str]:
    """Returns keras.applications' names of layers by class and number in the network, such as conv2d_7."""
    layers = weighted_layers(architecture)
    counts: dict[str, int] = {}
    names = {}
    for layer, name in zip(layers, KERAS_APPLICATIONS.layer_names(layers), strict=True):
        kind = _CLASS_OF_KIND[layer.kind]
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        names[f"{kind}_{number}" if number else kind] = name
    return names
