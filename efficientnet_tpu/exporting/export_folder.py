"""The folder of an export: what is in it, whether more can be added, and versions counted up for serving.

TensorFlow is needed for gs:// alone.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.json_text import read_json

EXPORT_JSON = "export.json"


@dataclass(frozen=True)
class ExportRecord:
    """Describes what an export holds.

    weights: SHA-256 of the exported weights, by which another format is known to be of the same ones. formats: those
    that are in the folder, in the words of --export_format.
    """

    model: str
    step: int
    weights: str
    formats: tuple[str, ...]

    def as_text(self) -> str:
        """Returns the content of export.json."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_record(folder: str) -> ExportRecord | None:
    """Returns the record of the export in a folder; None where there is none. Raises UserError for a damaged one."""
    path = f"{folder}/{EXPORT_JSON}"
    named = f"--output_dir={folder}: {EXPORT_JSON}"
    if not presence.exists(path, named):
        return None
    try:
        content = read_json(read_text(path, named))
        record = ExportRecord(**{**content, "formats": tuple(content["formats"])})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{named}: is damaged. Export into a new directory.") from error
    texts = (record.model, record.weights, *record.formats)
    if type(record.step) is not int or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{named}: is damaged. Export into a new directory.")
    return record


def require_room(folder: str, formats: Iterable[str]) -> None:
    """Raises UserError where a folder is there already, unless it is an export without these formats."""
    record = read_record(folder)
    if record is None:
        presence.check_absent(folder, "output_dir")
    elif there := [name for name in formats if name in record.formats]:
        raise UserError(
            f"--output_dir={folder}: holds {', '.join(there)} already. Choose a new directory, remove it first, or add "
            "another --export_format."
        )


def export_place(output_dir: str, versioned: bool) -> str:
    """Returns the folder that an export fills: --output_dir, or in it the version after the newest, from 1.

    Raises UserError for versions in a file.
    """
    folder = output_dir.rstrip("/")
    if not versioned:
        return folder
    named = f"--output_dir={folder}"
    if presence.exists(folder, named) and not presence.is_folder(folder, named):
        raise UserError(f"{named}: is a file. Choose a directory.")
    return f"{folder}/{max(_versions(folder, named), default=0) + 1}"


def newest_version(path: str) -> str:
    """Returns the highest version in a folder of them, the value of --saved_model; any other path as it is."""
    named = f"--saved_model={path}"
    if not presence.is_folder(path, named) or presence.exists(f"{path}/saved_model.pb", named):
        return path
    versions = _versions(path, named)
    return f"{path.rstrip('/')}/{max(versions)}" if versions else path


def _versions(folder: str, named: str) -> list[int]:
    names = [name.rstrip("/") for name in presence.names_in(folder, named)]
    return [int(name) for name in names if name.isascii() and name.isdecimal()]
