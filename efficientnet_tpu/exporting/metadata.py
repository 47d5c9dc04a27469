"""The facts that a program needs of an exported model besides its tensors, and how files of each kind carry them.

They are two texts: the labels, one a line, for people and other programs, and a JSON object for this program. A .keras
file is a zip archive and holds them as members. A .tflite file ends with such an archive, as TensorFlow Lite's metadata
require. An ONNX model has properties.
"""

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.config import OPTIONS
from efficientnet_tpu.data.class_names import are_names, labels_text
from efficientnet_tpu.data.kernels.kernel_calls import INTERPOLATIONS
from efficientnet_tpu.data.split import LABELS_TXT
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import digest
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown

METADATA_JSON = "classifier.json"
DIGEST_PROPERTY = "sha256"
# The statement of a file that it ends with its digest, as METADATA_JSON has it. No file compresses that text.
STATES_DIGEST = f'"digest": "{DIGEST_PROPERTY}"'.encode()
_LARGEST_TEXT = 64 << 20  # bytes; a file is not ours to trust


@dataclass(frozen=True)
class ExportMetadata:
    """A model's name, step and labels, and its preprocessing: side and padding of the crop, in pixels, and how files
    are read, in the words of the flags.

    digest: the kind of the digest at the file's end.
    Defaults are what the first versions did, whose files do not state it.
    """

    model: str
    step: int
    label_names: tuple[str, ...]
    resolution: int
    eval_crop_padding: int
    exif_orientation: bool = False
    background: str = "none"
    interpolation: str = "bicubic"
    digest: str = ""
    downscale: str = "reference"

    def as_texts(self) -> dict[str, str]:
        """Returns the texts by the names of their files."""
        return {
            LABELS_TXT: labels_text(self.label_names),
            METADATA_JSON: json.dumps(dataclasses.asdict(self), indent=1) + "\n",
        }


def read_metadata(texts: Mapping[str, str], path: str) -> ExportMetadata:
    """Inverts `as_texts`. path: for messages. Raises UserError for a file that was not written by `export`."""
    try:
        content: dict[str, Any] = read_json(texts[METADATA_JSON])
        has_names = are_names(content["label_names"])
        metadata = ExportMetadata(**{**content, "label_names": tuple(content["label_names"])})
    except (KeyError, TypeError, ValueError) as error:
        raise foreign_file(path, f"it has no {METADATA_JSON} of this version") from error
    if not has_names:
        raise foreign_file(path, f"its {METADATA_JSON} has no names of classes")
    if not isinstance(metadata.model, str) or metadata.interpolation not in [*INTERPOLATIONS]:
        raise foreign_file(path, f"its {METADATA_JSON} has interpolation={shown(metadata.interpolation)}")
    if metadata.digest not in ("", DIGEST_PROPERTY):
        raise foreign_file(path, f"its {METADATA_JSON} has digest={shown(metadata.digest)}")
    numbers = (metadata.step, metadata.resolution, metadata.eval_crop_padding)
    if not all(type(number) is int and number >= 0 for number in numbers) or not 0 < metadata.resolution <= 4096:
        raise foreign_file(path, f"its {METADATA_JSON} has numbers out of range")
    try:
        for name in ("exif_orientation", "background", "downscale"):
            OPTIONS[name].check(getattr(metadata, name))
    except UserError as error:
        raise foreign_file(path, f"its {METADATA_JSON} has another value than a flag: {error}") from error
    return metadata


def with_texts(content: bytes, texts: Mapping[str, str]) -> bytes:
    """Adds the texts to the content of a .keras or .tflite file, and the place for its digest."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        archive.comment = digest.PLACE.encode()
    return buffer.getvalue()


def texts_in(content: bytes, path: str) -> dict[str, str]:
    """Returns what `with_texts` put into a file. path: for messages."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename in (LABELS_TXT, METADATA_JSON)]
            if any(member.file_size > _LARGEST_TEXT for member in members):
                raise foreign_file(path, "its labels are too large")
            return {member.filename: archive.read(member).decode() for member in members}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, UnicodeDecodeError, NotImplementedError, EOFError) as error:
        raise foreign_file(path, "it holds no labels") from error


def foreign_file(path: str, why: str) -> UserError:
    """Makes the error for a model of other origin, or a damaged file."""
    return UserError(f"--saved_model={path}: was not written by `{program()} export`: {why}.")


def forbidden(path: str, what: str) -> UserError:
    """Makes the error for a model that could do more than compute."""
    return UserError(
        f"--saved_model={path}: {what}: it could read, change or send your files. It was not loaded. "
        "If you trust whoever made it, add --trust."
    )
