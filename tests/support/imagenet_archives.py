"""Miniatures of the archives in which ImageNet is given out, as the official ones are laid out."""

import io
import random
import tarfile
from pathlib import Path

from PIL import Image

GOLDEN = Path(__file__).parent.parent / "golden"
# IDs 3, 2 and 1 of tests/golden/devkit_meta.mat, which scipy wrote.
CLASSES = ("n01440764", "n02100735", "n02119789")
ID_OF_CLASS = {"n02119789": 1, "n02100735": 2, "n01440764": 3}
NAMES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")


def picture(seed, format="JPEG", mode="RGB", size=(48, 40)):
    """Returns the file of a picture, another for each seed."""
    generator = random.Random(seed)
    small = Image.frombytes("RGB", (4, 4), bytes(generator.randrange(256) for _ in range(48)))
    file = io.BytesIO()
    small.resize(size).convert(mode).save(file, format)
    return file.getvalue()


def tar_bytes(files, compression=""):
    """Returns a tar file. files: (name, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def train_images(per_class=6):
    """Returns class -> (name, content). ImageNet's oddities are among them: a PNG called JPEG, and a CMYK JPEG."""
    images = {}
    for number, name in enumerate(CLASSES):
        images[name] = [(f"{name}_{index}.JPEG", picture(f"{name} {index}")) for index in range(per_class)]
        if number == 0:
            images[name][1] = (images[name][1][0], picture("png", "PNG"))
            images[name][2] = (images[name][2][0], picture("cmyk", mode="CMYK"))
    return images


def validation_images(count=6):
    """Returns (name, content, class), the classes in turn."""
    return [
        (f"ILSVRC2012_val_{number:08d}.JPEG", picture(f"val {number}"), CLASSES[number % len(CLASSES)])
        for number in range(1, count + 1)
    ]


def devkit(labels):
    """Returns a devkit. labels: the class of each validation image."""
    truth = "".join(f"{ID_OF_CLASS[name]}\n" for name in labels).encode()
    data = "ILSVRC2012_devkit_t12/data"
    files = [
        ("ILSVRC2012_devkit_t12/readme.txt", b"read me"),
        (f"{data}/ILSVRC2012_validation_ground_truth.txt", truth),
        (f"{data}/meta.mat", (GOLDEN / "devkit_meta.mat").read_bytes()),
    ]
    return tar_bytes(files, "gz")


def write_archives(folder, per_class=6, validation=6):
    """Writes the three archives. Returns the value of --data_dir."""
    folder.mkdir(parents=True, exist_ok=True)
    inner = [(f"{name}.tar", tar_bytes(files)) for name, files in train_images(per_class).items()]
    images = validation_images(validation)
    contents = (
        tar_bytes(inner),
        tar_bytes([(name, content) for name, content, _ in images]),
        devkit([label for *_, label in images]),
    )
    for name, content in zip(NAMES, contents, strict=True):
        (folder / name).write_bytes(content)
    return ",".join(str(folder / name) for name in NAMES)


def write_folder_of_archives(folder, per_class=6, validation=6):
    """Writes the same images as a folder of classes."""
    files = [
        ("train", name, image, content) for name, images in train_images(per_class).items() for image, content in images
    ]
    files += [("validation", label, image, content) for image, content, label in validation_images(validation)]
    for split, label, image, content in files:
        (folder / split / label).mkdir(parents=True, exist_ok=True)
        (folder / split / label / image).write_bytes(content)
    return str(folder)
