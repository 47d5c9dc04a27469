"""Records of other people: other keys, other counts, names in place of numbers; what is there is said."""

import pytest

from efficientnet_tpu.errors import UserError
from tests.support.image_files import encode, photo

PNG = encode(photo(4, 4), "PNG")


@pytest.fixture(scope="module")
def keys_of(tf):
    from efficientnet_tpu.data.records.record_keys import RecordKeys

    return RecordKeys.of_flag


def example(tf, **features):
    """A serialized tf.train.Example; a value is a bytes, an int, a float or a list of these."""
    record = tf.train.Example()
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        kind = kinds[type(values[0])] if values else "int64_list"
        getattr(record.features.feature[name.replace("__", "/")], kind).value.extend(values)
    return record.SerializeToString()


@pytest.mark.parametrize(
    ("flag", "image", "label", "base"),
    [
        ("", "image/encoded", "image/class/label", 1),
        ("first_label=0", "image/encoded", "image/class/label", 0),
        ("image=image,label=class", "image", "class", 0),
        ("label=y,first_label=1", "image/encoded", "y", 1),
        ("image=img", "img", "image/class/label", 1),
    ],
)
def test_the_flag(keys_of, flag, image, label, base):
    keys = keys_of(flag)
    assert (keys.image, keys.label, keys.base) == (image, label, base)
    assert keys.flag() == f"--tfrecord_keys={flag}"


@pytest.mark.parametrize(
    "flag", ["picture=image", "image", "image=", "label=a,first_label=2", "first_label=x", "class"]
)
def test_a_wrong_flag(keys_of, flag):
    with pytest.raises(UserError, match=f"^--tfrecord_keys={flag}: "):
        keys_of(flag)


@pytest.mark.parametrize(("flag", "stored", "label"), [("", 3, 2), ("first_label=0", 3, 3)])
def test_a_record_is_parsed(tf, keys_of, flag, stored, label):
    record = example(tf, image__encoded=PNG, image__class__label=stored)
    content, found = keys_of(flag).checked(record, "shard").parse(tf.constant(record))
    assert (content.numpy(), int(found), found.dtype) == (PNG, label, tf.int32)


def test_names_are_labels(tf, keys_of):
    import dataclasses

    keys = keys_of("image=image,label=kind").checked(example(tf, image=PNG, kind=b"dog"), "shard")
    keys = dataclasses.replace(keys, names=("cat", "dog"))
    for name, label in ((b"cat", 0), (b"dog", 1), (b"yak", -1)):
        assert int(keys.parse(tf.constant(example(tf, image=PNG, kind=name)))[1]) == label


@pytest.mark.parametrize(
    ("flag", "features", "words"),
    [
        (
            "", {"image": PNG, "class": 2, "id": b"17"},
            "its records have no image/encoded and no image/class/label; there are class (int64), id (bytes), image "
            "(bytes). Give --tfrecord_keys=image=image,label=class",
        ),
        (
            "", {"image__encoded": PNG, "y": 2},
            "its records have no image/class/label; there are image/encoded (bytes), y (int64). Give "
            "--tfrecord_keys=label=y",
        ),
        (
            "image=img,label=class", {"image": PNG, "height": 4, "label": 1, "label_text": b"dog"},
            "Give --tfrecord_keys=image=image,label=label",
        ),
        (
            "image=img,label=y", {"image__encoded": PNG, "image__class__label": 2},
            "its records have no img and no y; there are image/class/label (int64), image/encoded (bytes). Leave "
            "--tfrecord_keys out",
        ),
        ("", {"image": PNG, "width": 4, "species": b"dog", "class_name": b"dog"}, "image=image,label=class_name"),
        ("", {"image_raw": bytes(48), "label": 2}, "None holds a JPEG, PNG, GIF, BMP or WebP file."),
        ("", {"image": PNG}, "None is a label."),
        ("label=labels", {"image__encoded": PNG, "labels": [1, 2]}, "labels is no class: 2 int64, where one"),
        ("label=share", {"image__encoded": PNG, "share": 0.5}, "share is no class: float, where one"),
        ("", {"image__encoded": 3, "image__class__label": 3}, "image/encoded is no image: int64."),
        ("", {"image__encoded": PNG, "image__class__label": []}, "its records have no image/class/label; there are "),
    ],
)  # fmt: skip
def test_what_is_there_is_said(tf, keys_of, flag, features, words):
    with pytest.raises(UserError) as error:
        keys_of(flag).checked(example(tf, **features), "/shards/train.tfrec")
    message = str(error.value)
    assert message.startswith("/shards/train.tfrec: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("record", [b"", b"no example", bytes(20)])
def test_other_records(tf, keys_of, record):
    with pytest.raises(UserError, match=r"^shard: not a shard of images as "):
        keys_of("").checked(record, "shard")
