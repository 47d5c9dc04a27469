"""The archives in which ImageNet (ILSVRC 2012) is given out, as a data set: images are read where they lie in them.

ILSVRC2012_img_train.tar holds a tar file of JPEGs for each class, n01440764.tar. ILSVRC2012_img_val.tar holds JPEGs
whose labels are elsewhere: in ILSVRC2012_devkit_t12.tar.gz, or, without it, in the list of TensorFlow Datasets, which
is installed with this program. They are told by what is in them, not by their names.
"""

import importlib.util
import os
import re
import tarfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from efficientnet_tpu.config.data_paths import archives_in
from efficientnet_tpu.data.archives.mat_file import read_structures
from efficientnet_tpu.data.archives.tar_file import TarFile
from efficientnet_tpu.data.sources.labelled_files import ArchivePlace, Example, LabelledFiles, sorted_names
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.texts.printable import shown

TRAIN_TAR, VALIDATION_TAR, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_CLASS_TAR = re.compile(r"(n\d{8})\.tar")
_TRAIN_IMAGE = re.compile(r"n\d{8}_\d+\.jpe?g", re.IGNORECASE)
_VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
_TEST_IMAGE = re.compile(r"ILSVRC2012_test_\d{8}\.jpe?g", re.IGNORECASE)
_GROUND_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_LARGEST_TEXT = 64_000_000  # bytes of what is read out of the devkit
_GZIP = b"\x1f\x8b"
_READERS = 16  # threads, which hide a disk's latency
_SEVERAL_SECONDS = 1 << 32  # bytes of an archive whose listing takes as long


@dataclass(frozen=True)
class Archives:
    """The paths of the archives that --data_dir names; empty for those that it does not."""

    train: str = ""
    validation: str = ""
    devkit: str = ""


def are_archives(data_dir: str) -> bool:
    """Tells by the names whether --data_dir gives archives. A folder may have such a name, too."""
    paths = archives_in(data_dir)
    return bool(paths) and not (len(paths) == 1 and presence.is_local(paths[0]) and os.path.isdir(paths[0]))


def require_archives(data_dir: str) -> Archives:
    """Returns which archive is which, by their first blocks and their last.

    Raises UserError for an archive that is not there, not ImageNet's, or cut off, and for validation images without
    labels.
    """
    named = f"--data_dir={data_dir}"
    found: dict[str, str] = {}
    for path in archives_in(data_dir):
        kind = _kind(path, f"--data_dir: {path}")
        if kind in found:
            raise UserError(f"{named}: {found[kind]} and {path} are both a {kind} archive. Give one of each kind.")
        found[kind] = path
    archives = Archives(**found)
    if not archives.train and not archives.validation:
        raise UserError(f"{named}: has labels and no images. Give {TRAIN_TAR},{VALIDATION_TAR} besides.")
    if archives.validation and not archives.devkit and not _packaged_labels():
        raise UserError(
            f"{named}: the validation images have no labels in their archive. Give {DEVKIT} besides, which has them."
        )
    return archives


def _kind(path: str, named: str) -> str:
    """Returns train, validation or devkit."""
    if not presence.is_local(path):
        raise UserError(f"{named}: archives are read from a disk alone. Copy it there: gcloud storage cp {path} .")
    if not presence.exists(path, named):
        raise UserError(f"{named}: does not exist.")
    require_regular(path, named)
    with TarFile(path, named) as tar:
        if tar.read(0, 2) == _GZIP:
            with _open_devkit(path, named):
                return "devkit"
        kind = _kind_by_names(tar, named)
        tar.require_end()
        return kind


def _kind_by_names(tar: TarFile, named: str) -> str:
    first = next(tar.members(), None)
    name = first.name if first else ""
    if _CLASS_TAR.fullmatch(name):
        return "train"
    if _VALIDATION_IMAGE.fullmatch(name):
        return "validation"
    if tar.num_bytes < _LARGEST_TEXT and any(member.name == _GROUND_TRUTH for member in tar.members()):
        return "devkit"
    if _TEST_IMAGE.fullmatch(name):
        raise UserError(f"{named}: holds the test images, whose labels are kept back. Leave it out.")
    found = f"its first file is {shown(name, 80)}" if name else "it holds no file"
    raise UserError(
        f"{named}: is none of ImageNet's {TRAIN_TAR}, {VALIDATION_TAR} and {DEVKIT}: {found}. Unpack other archives, "
        "and give their folder."
    )


def read(
    data_dir: str, validation_percent: int | None, minival_percent: float = 0, hold_out_by: str = "class"
) -> LabelledFiles:
    """Lists the images in the archives. Without validation images, holds out `validation_percent` of the others.

    Paths are those of archives that are folders of classes: ILSVRC2012_img_train.tar/n01440764/n01440764_10026.JPEG. So
    the order is that of the folder that they are usually unpacked to.
    Raises UserError for damaged archives, and validation images without a label or of unknown classes.
    """
    named = f"--data_dir={data_dir}"
    archives = require_archives(data_dir)
    places: dict[str, ArchivePlace] = {}
    left_out: dict[str, int] = {}
    labelled: dict[str, list[tuple[str, str]]] = {}  # split -> (path, class) of its images
    if archives.train:
        labelled["train"] = _train_images(archives.train, places, left_out)
    if archives.validation:
        numbers = _validation_labels(archives)
        labelled["validation"] = _validation_images(archives.validation, numbers, places, left_out)
    label_names = sorted_names(name for _, name in labelled.get("train") or labelled["validation"])
    if len(label_names) == 1 and archives.train:
        raise UserError(f"{named}: has a single class, {label_names[0]}; a classifier needs two or more.")
    labels = {name: label for label, name in enumerate(label_names)}
    for path, name in labelled.get("validation", []):
        if name not in labels:
            raise UserError(f"{named}: {path} is of the class {name}, of which {archives.train} has no images.")
    splits: dict[str, tuple[Example, ...]] = {
        split: tuple(sorted((path, labels[name]) for path, name in images)) for split, images in labelled.items()
    }
    files = LabelledFiles(label_names, splits, left_out, places=places)
    return files.with_held_out(data_dir, "", validation_percent, minival_percent, hold_out_by)


def _train_images(path: str, places: dict[str, ArchivePlace], left_out: dict[str, int]) -> list[tuple[str, str]]:
    """Returns (path, class) of the training images, and adds their places, and the numbers of other files."""
    named = f"--data_dir: {path}"
    images: list[tuple[str, str]] = []
    with TarFile(path, named) as tar, ThreadPoolExecutor(_READERS) as readers:
        if tar.num_bytes > _SEVERAL_SECONDS:
            print(f"listing the images in {path}", flush=True)
        classes = [member for member in tar.members() if _CLASS_TAR.fullmatch(member.name)]
        for outer, members in zip(classes, readers.map(lambda one: list(tar.members(one)), classes), strict=True):
            name = outer.name.removesuffix(".tar")
            found = [member for member in members if _TRAIN_IMAGE.fullmatch(member.name)]
            _count_others(left_out, len(members) - len(found), path)
            if not found:
                raise UserError(f"{named}: {outer.name} in it holds no image, such as {name}_10026.JPEG.")
            for member in found:
                image = f"{os.path.basename(path)}/{name}/{member.name}"
                places[image] = ArchivePlace(path, member.offset, member.size)
                images.append((image, name))
    return images


def _validation_images(
    path: str, labels: Sequence[str], places: dict[str, ArchivePlace], left_out: dict[str, int]
) -> list[tuple[str, str]]:
    """Returns (path, class) of the validation images. labels: of image 1, 2, ..., by which they are numbered."""
    named = f"--data_dir: {path}"
    images: list[tuple[str, str]] = []
    with TarFile(path, named) as tar:
        for member in tar.members():
            numbered = _VALIDATION_IMAGE.fullmatch(member.name)
            if not numbered:
                _count_others(left_out, 1, path)
                continue
            number = int(numbered[1])
            if not 1 <= number <= len(labels):
                raise UserError(f"{named}: holds {member.name}, and there are {len(labels):,} labels.")
            name = labels[number - 1]
            image = f"{os.path.basename(path)}/{name}/{member.name}"
            places[image] = ArchivePlace(path, member.offset, member.size)
            images.append((image, name))
    return images


def _count_others(left_out: dict[str, int], count: int, path: str) -> None:
    if count:
        kind = f"other file in {os.path.basename(path)}"
        left_out[kind] = left_out.get(kind, 0) + count


def _validation_labels(archives: Archives) -> list[str]:
    """Returns the classes of the validation images by their numbers: those of the devkit, or of the list that
    TensorFlow Datasets has.
    """
    if not archives.devkit:
        with open(_packaged_labels(), encoding="utf-8") as file:
            return file.read().split()
    named = f"--data_dir: {archives.devkit}"
    with _open_devkit(archives.devkit, named) as tar:
        texts = {name: _text_in(tar, name, named) for name in (_GROUND_TRUTH, _META)}
    try:
        synsets = read_structures(texts[_META], "synsets")
        classes = {int(one["ILSVRC2012_ID"] or 0): one["WNID"] for one in synsets}
        return [str(classes[int(number)]) for number in texts[_GROUND_TRUTH].split()]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{named}: {_META} or {_GROUND_TRUTH} in it: {reason}. Download it again.") from error


def _packaged_labels() -> str:
    """Returns the path of the list in TensorFlow Datasets, which is not imported; empty without one."""
    package = importlib.util.find_spec("tensorflow_datasets")
    folders = (package.submodule_search_locations if package else None) or []
    paths = [os.path.join(folder, "datasets", "imagenet2012", "validation_labels.txt") for folder in folders]
    return next(filter(os.path.isfile, paths), "")


def _open_devkit(path: str, named: str) -> tarfile.TarFile:
    """Opens a devkit. Raises UserError for what is none."""
    try:
        tar = tarfile.open(path, "r:*")  # noqa: SIM115 - the caller's
        if any(name.endswith(_GROUND_TRUTH) for name in tar.getnames()):
            return tar
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{named}: is compressed, and cut off or damaged. Download it again.") from error
    tar.close()
    raise UserError(
        f"{named}: is compressed, and not {DEVKIT}, the one of ImageNet's archives that is. Unpack it: images are read "
        "where they lie in an archive."
    )


def _text_in(tar: tarfile.TarFile, name: str, named: str) -> bytes:
    member = next((one for one in tar.getmembers() if one.name.endswith(f"/{name}") or one.name == name), None)
    file = tar.extractfile(member) if member and member.isreg() and member.size <= _LARGEST_TEXT else None
    if file is None:
        raise UserError(f"{named}: holds no {name}. Download it again.")
    return file.read()
