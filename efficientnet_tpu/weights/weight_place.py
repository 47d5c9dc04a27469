"""The place of other programs' weights, looked at before they are read: no TensorFlow, but for gs://."""

import re

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence

IMAGENET = "imagenet"  # --from=imagenet: keras.applications' own download
SAFETENSORS = "model.safetensors"  # of Hugging Face, beside its config.json
KINDS = (
    "a Keras file (.h5, .weights.h5, .keras), a TensorFlow 1 checkpoint, a .safetensors or .pth file, or a directory "
    f"with {SAFETENSORS} or a checkpoint in it"
)
_PART_OF_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def named_checkpoint(path: str) -> str:
    """Returns TensorFlow's name of the checkpoint that `path`, the name itself or one of its files, would be of."""
    return _PART_OF_CHECKPOINT.sub("", path)


def require_weight_place(path: str, named: str) -> None:
    """Raises UserError unless there are files at `path`. named: what the user typed, with its flag."""
    checkpoint_index = f"{named_checkpoint(path)}.index"
    if path != IMAGENET and not presence.exists(path, named) and not presence.exists(checkpoint_index, named):
        raise UserError(f"{named}: no such file or directory. Wanted is {KINDS}.")
