"""What is an image in a folder, what is passed over, and that links lead nowhere twice."""

import os

import pytest

from efficientnet_tpu.data.sources.folder_walk import Walk, read_folder
from efficientnet_tpu.errors import UserError
from tests.support.labelled_images import touch

JPEG, TIFF, HEIC = b"\xff\xd8\xff\xe0", b"II*\0", b"\0\0\0\x18ftypheic"


def _walk(root, *folders):
    """Names of the images below folders of a root, and what was left out."""
    walk = Walk([str(root)])
    found = walk.images({f"{root}/{name}": os.path.islink(root / name) for name in folders})
    names = {path.removeprefix(f"{root}/"): [image.removeprefix(f"{root}/") for image in found[path]] for path in found}
    return names, walk.left_out()


@pytest.mark.parametrize(
    "name",
    [".hidden.jpg", "._a.jpg", ".thumbnails/a.jpg", "__MACOSX/a.jpg", "@eaDir/a.jpg", "@eaDir/a.jpg/THUMB_M.jpg",
     "lost+found/a.jpg", "$RECYCLE.BIN/a.jpg", "System Volume Information/a.jpg", "Thumbs.db", "DESKTOP.INI"],
)  # fmt: skip
def test_what_systems_leave_is_passed_over_in_silence(tmp_path, name):
    touch(tmp_path, f"cat/{name}", "cat/1.jpg")
    assert _walk(tmp_path, "cat") == ({"cat": ["cat/1.jpg"]}, {})
    top = name.split("/")[0]
    if "/" in name:
        touch(tmp_path, name)
        assert top not in read_folder(str(tmp_path)).folders


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.JFIF", b"", None),
        ("a.jpe", b"", None),
        ("A.JIF", b"", None),
        ("plain", JPEG, None),
        ("img_0.25", JPEG, None),
        ("photo.jpg.orig", JPEG, None),
        ("scan.tif", JPEG, None),
        ("scan.TIF", TIFF, ".tif (TIFF)"),
        ("x.heic", HEIC, ".heic"),
        ("x.heif", HEIC, ".heif (HEIC)"),
        ("plain", TIFF, "without extension (TIFF)"),
        ("README", b"Read me", "without extension"),
        ("x.txt", JPEG, ".txt"),
        ("x.JPG.xml", JPEG, ".xml"),
    ],
)
def test_what_has_no_images_extension_is_known_by_its_content(tmp_path, name, content, kind):
    touch(tmp_path, f"cat/{name}")
    (tmp_path / "cat" / name).write_bytes(content)
    expected = [] if kind else [f"cat/{name}"]
    assert _walk(tmp_path, "cat") == ({"cat": expected}, {kind: 1} if kind else {})


def test_an_entry_that_is_a_folder_is_no_image(tmp_path):
    touch(tmp_path, "cat/a.jpg/b.png", "icon.png/c.jpg")
    assert read_folder(str(tmp_path)).folders == ("cat", "icon.png")
    assert _walk(tmp_path, "cat", "icon.png")[0] == {"cat": ["cat/a.jpg/b.png"], "icon.png": ["icon.png/c.jpg"]}


def test_what_is_no_file_is_named_and_never_opened(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/huge.jpg")
    for name in ("pipe", "pipe.jpg"):
        os.mkfifo(tmp_path / "cat" / name)
    os.truncate(tmp_path / "cat" / "huge.jpg", 2**40)  # no disk is taken for it
    for name, target in (("gone.jpg", "none"), ("proc.jpg", "/proc/self/status"), ("zero.jpg", "/dev/zero")):
        (tmp_path / "cat" / name).symlink_to(target)
    assert _walk(tmp_path, "cat") == (
        {"cat": ["cat/1.jpg", "cat/gone.jpg"]},
        {
            "device (zero.jpg)": 1,
            f"file of more than 512 MiB ({tmp_path}/cat/huge.jpg)": 1,
            "file that the system makes up (proc.jpg)": 1,
            "named pipe (pipe)": 2,
        },
    )


LINKS = {
    "a cycle": ("cat/loop", "cat"),
    "a cycle through the root": ("cat/up", "."),
    "to a folder of another class": ("ant/dogs", "dog"),
    "to a part of another class": ("ant/pups", "dog/pups"),
    "a second name of a class": ("ant2", "dog"),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_a_real_folder_is_read_once(tmp_path, link):
    touch(tmp_path, "ant/1.jpg", "cat/1.jpg", "dog/1.jpg", "dog/pups/2.jpg")
    name, target = link
    os.symlink(tmp_path / target, tmp_path / name)
    classes = ["ant", "cat", "dog", *([name] if "/" not in name else [])]
    found, left_out = _walk(tmp_path, *classes)
    expected = {"ant": ["ant/1.jpg"], "cat": ["cat/1.jpg"], "dog": ["dog/1.jpg", "dog/pups/2.jpg"]}
    assert found == {**expected, **({name: []} if "/" not in name else {})}
    assert left_out == {f"read already under another name ({tmp_path}/{name})": 1}


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    touch(tmp_path, "disk/cats/1.jpg", "disk/cats/more/2.jpg", "set/dog/1.jpg")
    os.symlink(tmp_path / "disk" / "cats", tmp_path / "set" / "cat")
    os.symlink(tmp_path / "disk" / "cats" / "more", tmp_path / "set" / "dog" / "more")
    found, _ = _walk(tmp_path / "set", "cat", "dog")
    assert found["dog"] == ["dog/1.jpg"] + (["dog/more/2.jpg"] if len(found["cat"]) == 1 else [])
    assert sum(map(len, found.values())) == 3


@pytest.mark.parametrize("marker", ["run.json", "training.lock", "saved_model.pb"])
def test_what_the_program_wrote_is_passed_over(tmp_path, marker):
    touch(tmp_path, "cat/1.jpg", "cat/run/pictures/2.png", f"cat/run/{marker}")
    found, left_out = _walk(tmp_path, "cat")
    assert found == {"cat": ["cat/1.jpg"]}
    assert left_out == {f"written by this program ({tmp_path}/cat/run)": 1}


def test_names_that_are_not_utf_8_are_named_and_passed_over(tmp_path):
    touch(tmp_path, "cat/1.jpg")
    for name in (b"caf\xe9.jpg", b"th\xe9"):
        with open(os.path.join(os.fsencode(tmp_path), b"cat", name), "wb"):
            pass
    found, left_out = _walk(tmp_path, "cat")
    assert found == {"cat": ["cat/1.jpg"]}
    assert left_out == {r"with a name that is not UTF-8 (caf\xe9.jpg)": 2}


def test_a_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/none: the folder cannot be listed: No such file"):
        read_folder(f"{tmp_path}/none")
