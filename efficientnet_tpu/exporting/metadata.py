"""What a program must know of an exported model besides its tensors, and how files of each kind carry it.

Two texts: the labels, one a line, for people and other programs; and a JSON object for this one. A .keras file is a
zip archive and holds them as members; a .tflite file ends with such an archive, as files with TensorFlow Lite's
metadata do; an ONNX model has properties.
"""

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.errors import UserError

LABELS_TXT, CARD_JSON = "labels.txt", "classifier.json"
_LARGEST_TEXT = 64 << 20  # bytes; a file is not ours to trust


@dataclass(frozen=True)
class Card:
    """resolution: side in pixels of the images that the model takes. eval_crop_padding: of their crop."""

    model: str
    step: int
    label_names: tuple[str, ...]
    resolution: int
    eval_crop_padding: int

    def as_texts(self) -> dict[str, str]:
        """The texts by the names of their files."""
        labels = "".join(f"{name}\n" for name in self.label_names)
        return {LABELS_TXT: labels, CARD_JSON: json.dumps(dataclasses.asdict(self), indent=1) + "\n"}


def card_of(texts: Mapping[str, str], path: str) -> Card:
    """The inverse of `as_texts`. path: for messages. Raises UserError for a file that was not written by `export`."""
    try:
        content: dict[str, Any] = json.loads(texts[CARD_JSON])
        card = Card(**{**content, "label_names": tuple(content["label_names"])})
    except (KeyError, TypeError, ValueError) as error:
        raise foreign(path, f"it has no {CARD_JSON} of this version") from error
    numbers = (card.step, card.resolution, card.eval_crop_padding)
    if not all(type(number) is int and number >= 0 for number in numbers) or not 0 < card.resolution <= 4096:
        raise foreign(path, f"its {CARD_JSON} has numbers out of range")
    if not card.label_names or not all(isinstance(name, str) for name in card.label_names):
        raise foreign(path, f"its {CARD_JSON} has no names of classes")
    return card


def with_texts(content: bytes, texts: Mapping[str, str]) -> bytes:
    """A .keras or .tflite file with the texts in it."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def texts_in(content: bytes, path: str) -> dict[str, str]:
    """What `with_texts` put into a file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename in (LABELS_TXT, CARD_JSON)]
            if any(member.file_size > _LARGEST_TEXT for member in members):
                raise foreign(path, "its labels are too large")
            return {member.filename: archive.read(member).decode() for member in members}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, UnicodeDecodeError, NotImplementedError, EOFError) as error:
        raise foreign(path, "it holds no labels") from error


def foreign(path: str, why: str) -> UserError:
    """For a model of other origin, or a damaged file."""
    return UserError(f"--saved_model={path}: was not written by `main.py export`: {why}.")
