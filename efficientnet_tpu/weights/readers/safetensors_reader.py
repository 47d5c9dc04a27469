"""Reads safetensors files by the library of that name, which checks their header. They can hold no code."""

import functools

import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import install_command
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensor, StoredTensors

_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read_safetensors(path: str) -> StoredTensors:
    """Returns the tensors of a file, each read on demand. Raises ValueError or OSError for any other file."""
    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"{path}: reading safetensors needs a library: {install_command('weights')}") from error
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            heads = {name: (tuple(view.get_shape()), view.get_dtype()) for name, view in views.items()}
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error

    def read(name: str) -> np.ndarray:
        import ml_dtypes  # noqa: F401 (teaches NumPy the name bfloat16; TensorFlow brings it)

        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error

    return {
        name: StoredTensor(shape, _TYPES.get(kind, kind), functools.partial(read, name))
        for name, (shape, kind) in heads.items()
    }
