"""A folder of images: which files, which classes, which split. Reads names only; works on gs:// too.

Two layouts: root/<class>/*.jpg, from which a share is held out for validation, and root/{train,validation}/<class>/*.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from efficientnet_tpu.config import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")  # what tf.io.decode_image reads
VALIDATION_FOLDERS = ("validation", "val", "test")  # the first that exists is the validation split
_MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
# Folders of these names only are splits, not classes: reading them as classes would train nonsense.
_SPLIT_WORDS = {"train", "training", "validation", "valid", "val", "test", "testing"}
_LAYOUTS = "Lay the images out as {root}/<class>/*.jpg, or {root}/train/<class>/*.jpg and {root}/validation/<class>/*."

Example = tuple[str, int]  # path and 0-based label


@dataclass(frozen=True)
class ImageFolder:
    """Class names in the order of the labels, and the sorted examples of the splits train and validation."""

    label_names: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]


@dataclass(frozen=True)
class _Listing:
    """One folder: names of the folders and of the images in it, sorted, hidden ones left out."""

    folders: tuple[str, ...]
    images: tuple[str, ...]


def scan(root: str, validation_percent: int) -> ImageFolder:
    """The images under `root`. Without a validation folder, `validation_percent` of the training images become one.

    Raises UserError, before any image is read, when the layout is not one of the two.
    """
    import tensorflow as tf

    try:
        exists = tf.io.gfile.exists(root)
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--data_dir={root}: cannot be reached: {error.message}") from error
    if not tf.io.gfile.isdir(root):
        problem = "is a file, not a folder" if exists else "does not exist"
        raise UserError(f"--data_dir={root}: {problem}. {_layouts(root)}")
    train_root, validation_root = _split_roots(root)
    train_classes = _read_classes(train_root, root)
    label_names = tuple(train_classes)
    if len(label_names) == 1:
        raise UserError(
            f"--data_dir={root}: {train_root} has a single class, {label_names[0]}; a classifier needs two or more. "
            f"{_layouts(root)}"
        )
    train = _examples(train_classes, label_names)
    if validation_root is None:
        return ImageFolder(label_names, _hold_out(root, train, validation_percent))
    validation_classes = _read_classes(validation_root, root)
    strangers = sorted(validation_classes.keys() - train_classes.keys())
    if strangers:
        raise UserError(
            f"--data_dir={root}: {validation_root} has the class {strangers[0]}, {train_root} does not. Give the class "
            f"training images, or remove {_join(validation_root, strangers[0])}."
        )
    return ImageFolder(label_names, {"train": train, "validation": _examples(validation_classes, label_names)})


def check_readable(examples: Sequence[Example], sample: int = 16) -> None:
    """Looks at the first bytes of up to `sample` images, evenly spread; raises UserError when not one is an image."""
    step = max(1, len(examples) // sample)
    paths = [path for path, _ in examples[::step][:sample]]
    if not any(_starts_like_an_image(path) for path in paths):
        raise UserError(
            f"--data_dir has no readable image: {len(paths)} files looked at, none is a JPEG, PNG, GIF or BMP inside, "
            f"for example {', '.join(paths[:3])}. Convert them to JPEG or PNG."
        )


def _starts_like_an_image(path: str) -> bool:
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(8).startswith(_MAGIC_NUMBERS)
    except tf.errors.OpError:  # gone, or not ours to read
        return False


def _layouts(root: str) -> str:
    return _LAYOUTS.format(root=root.rstrip("/"))


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _list(folder: str) -> _Listing:
    import tensorflow as tf

    # gs:// gives the names of folders a trailing slash.
    try:
        names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise UserError(f"--data_dir: {folder} cannot be listed: {error.message}") from error
    visible = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
    images = tuple(name for name in visible if name.lower().endswith(EXTENSIONS))
    # Only other names are asked for their kind: a request each on gs://, for a million images hours of them.
    others = (name for name in visible if not name.lower().endswith(EXTENSIONS))
    return _Listing(tuple(name for name in others if tf.io.gfile.isdir(_join(folder, name))), images)


def _split_roots(root: str) -> tuple[str, str | None]:
    """The folders that hold the classes of the training and of the validation split; None: to be held out."""
    folders = _list(root).folders
    if "train" in folders:
        train_root = _join(root, "train")
        validation_names = [name for name in VALIDATION_FOLDERS if name in folders]
        if validation_names:
            return train_root, _join(root, validation_names[0])
        train = _list(train_root)
        if train.folders and not train.images:
            return train_root, None
        # Otherwise a class is called train: it holds images, and has other classes beside it.
    elif folders and {name.lower() for name in folders} <= _SPLIT_WORDS:
        raise UserError(f"--data_dir={root}: holds {', '.join(folders)} but no folder called train. {_layouts(root)}")
    return root, None


def _read_classes(folder: str, root: str) -> dict[str, list[str]]:
    """Class name -> paths of its images, in the order of the names. Raises UserError unless each class has some."""
    listing = _list(folder)
    if not listing.folders:
        found = f"images ({listing.images[0]}, ...) but no class folders" if listing.images else "no class folders"
        raise UserError(f"--data_dir={root}: {folder} has {found}. {_layouts(root)}")
    classes = {name: _walk(_join(folder, name)) for name in listing.folders}
    empty = [name for name, paths in classes.items() if not paths]
    if len(empty) == len(classes):
        raise UserError(
            f"--data_dir={root}: {folder} has {len(classes)} class folders but no image in them; readable extensions "
            f"are {' '.join(EXTENSIONS)}."
        )
    if empty:
        raise UserError(
            f"--data_dir={root}: no image ({' '.join(EXTENSIONS)}) in the class folder {_join(folder, empty[0])}"
            f"{f' and {len(empty) - 1} more' if len(empty) > 1 else ''}. Remove it, or put images into it."
        )
    return classes


def _walk(folder: str) -> list[str]:
    """Paths of the images in a folder and in the folders below it."""
    listing = _list(folder)
    paths = [_join(folder, name) for name in listing.images]
    for name in listing.folders:
        paths += _walk(_join(folder, name))
    return paths


def _examples(classes: dict[str, list[str]], label_names: Sequence[str]) -> tuple[Example, ...]:
    labels = {name: label for label, name in enumerate(label_names)}
    return tuple(sorted((path, labels[name]) for name, paths in classes.items() for path in paths))


def _hold_out(root: str, examples: Sequence[Example], percent: int) -> dict[str, tuple[Example, ...]]:
    """Splits by a hash of the path below `root`: an image stays where it is when others come or go.

    About `percent` of the images, but at least one of every class and never a class's last: of a class too small for
    the hash to decide, the image that it would take first.
    """
    classes: dict[int, list[tuple[int, Example]]] = {}
    for path, label in examples:
        bucket = zlib.crc32(path[len(root.rstrip("/")) + 1 :].encode()) % 100
        classes.setdefault(label, []).append((bucket, (path, label)))
    held_out: set[Example] = set()
    for hashed in classes.values():
        hashed.sort()
        chosen = sum(bucket < percent for bucket, _ in hashed)
        held_out.update(example for _, example in hashed[: min(max(chosen, 1), len(hashed) - 1)])
    if not held_out:
        raise UserError(
            f"--data_dir={root}: {len(examples)} images, one of each class, leave none to validate on. Add images. "
            f"{_layouts(root)}"
        )
    train = tuple(example for example in examples if example not in held_out)
    return {"train": train, "validation": tuple(sorted(held_out))}
