"""The keys of a record's image and label: the reference's, or those of --tfrecord_keys."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.data.decoding.image_header import READABLE, format_of
from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY
from efficientnet_tpu.errors import UserError, nearest
from efficientnet_tpu.installation import program

_FLAG = "--tfrecord_keys"
_PARTS = ("image", "label", "first_label")
_LABEL_WORDS = ("label", "class", "target", "category")  # in the name of a key, the likeliest first
_LONGEST_NAME = 200  # bytes of a class's name


@dataclass(frozen=True)
class RecordKeys:
    """The keys of image and label in a tf.train.Example.

    first_label: the label of the first class; None where nobody said so: 1 for the reference's key, which keeps 0 for a
    background class, else 0.
    names: the classes in the order of their labels, where records hold names instead of numbers.
    """

    image: str = ENCODED_KEY
    label: str = LABEL_KEY
    first_label: int | None = None
    has_names: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def of_flag(cls, value: str) -> "RecordKeys":
        """Reads image=KEY,label=KEY,first_label=0; each part may be left out."""
        keys: dict[str, str | int] = {}
        for part in filter(None, value.split(",")):
            name, _, key = part.partition("=")
            if name not in _PARTS or not key:
                raise UserError(
                    f"{_FLAG}={value}: {part} is not image=KEY, label=KEY or first_label=NUMBER.{nearest(name, _PARTS)}"
                )
            keys[name] = key
        first = str(keys.pop("first_label", "0"))
        if first not in ("0", "1"):
            raise UserError(f"{_FLAG}={value}: first_label must be 0 or 1, the label of the first class.")
        return cls(**keys, first_label=int(first) if "first_label=" in value else None)

    @property
    def base(self) -> int:
        """The label of the first class in the files."""
        if self.first_label is None:
            return 1 if self.label == LABEL_KEY else 0
        return self.first_label

    def flag(self, **changes: object) -> str:
        """Returns the flag that says these keys, with changes."""
        keys = dataclasses.replace(self, **changes)
        parts = [f"image={keys.image}"] * (keys.image != ENCODED_KEY) + [f"label={keys.label}"] * (
            keys.label != LABEL_KEY
        )
        if keys.first_label is not None:
            parts.append(f"first_label={keys.first_label}")
        return f"{_FLAG}={','.join(parts)}"

    def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Parses a serialized tf.train.Example, string [].

        Returns (content of the image file string [], label int32 []). Labels count from 0; a name which is no class has
        -1.
        """
        image, label = self.parse_stored(record)
        if self.has_names:
            found = tf.equal(tf.constant(self.names), label)
            return image, tf.where(tf.reduce_any(found), tf.argmax(found, output_type=tf.int32), -1)
        return image, tf.cast(label - self.base, tf.int32)

    def parse_stored(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Parses as `parse`, string []; the label is as it is stored, int64 [] or string []."""
        features = {
            self.image: tf.io.FixedLenFeature([], tf.string),
            self.label: tf.io.FixedLenFeature([], tf.string if self.has_names else tf.int64),
        }
        example = tf.io.parse_single_example(record, features)
        return example[self.image], example[self.label]

    def checked(self, record: bytes, path: str) -> "RecordKeys":
        """Returns the keys with what a record of the shard `path` shows: whether labels are names.

        Raises UserError, with what is there, for a record that lacks them.
        """
        try:
            features = _features(record)
        except ValueError as error:
            raise UserError(
                f"{path}: not a shard of images as `{program()} make-tfrecords` writes them: its records are no "
                "tf.train.Example."
            ) from error
        missing = [key for key in (self.image, self.label) if key not in features]
        if missing:
            raise UserError(f"{path}: its records have no {' and no '.join(missing)}{self._instead(features)}")
        if features[self.image].kind != "bytes":
            raise UserError(f"{path}: {self.image} is no image: {features[self.image]}.{self._instead(features)}")
        label = features[self.label]
        if label.count != 1 or label.kind == "float":
            raise UserError(
                f"{path}: {self.label} is no class: {label}, where one int64 or one name is wanted."
                f"{self._instead(features)}"
            )
        return dataclasses.replace(self, has_names=label.kind == "bytes")

    def _instead(self, features: Mapping[str, "_Feature"]) -> str:
        """Returns what a record has, and the flag for it where that can be told."""
        found = ", ".join(f"{name} ({feature})" for name, feature in sorted(features.items())) or "nothing"
        images = [name for name, feature in features.items() if feature.is_image]
        labels = sorted(
            (name for name, feature in features.items() if feature.may_be_label),
            key=lambda name: (_place(name), features[name].kind != "int64", name),
        )
        if not images:
            return f"; there are {found}. None holds a JPEG, PNG, GIF, BMP or WebP file."
        image = self.image if self.image in images else sorted(images)[0]
        if not labels:
            return f"; there are {found}. None is a label."
        label = self.label if self.label in labels else labels[0]
        flag = self.flag(image=image, label=label)
        return f"; there are {found}. {f'Leave {_FLAG} out' if flag == f'{_FLAG}=' else f'Give {flag}'}"


@dataclass(frozen=True)
class _Feature:
    """The values that a record has under one key."""

    kind: str  # bytes, int64 or float
    count: int
    first: object

    def __str__(self) -> str:
        return self.kind if self.count == 1 else f"{self.count:,} {self.kind}"

    @property
    def is_image(self) -> bool:
        return self.kind == "bytes" and self.count == 1 and format_of(self.first) in READABLE

    @property
    def may_be_label(self) -> bool:
        """Returns whether it is one whole number or one short text."""
        if self.count != 1 or self.kind == "float":
            return False
        return self.kind == "int64" or (len(self.first) <= _LONGEST_NAME and self.first.isascii())


def _features(record: bytes) -> dict[str, _Feature]:
    """Returns what a serialized tf.train.Example has, by key. Raises ValueError where it is none."""
    try:
        example = tf.train.Example.FromString(record)
    except Exception as error:  # google.protobuf.message.DecodeError, whose package is TensorFlow's own affair
        raise ValueError(str(error)) from error
    if not example.features.feature:
        raise ValueError("no features")
    features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = getattr(feature, kind).value if kind else ()
        if len(values):
            features[name] = _Feature(kind.removesuffix("_list"), len(values), values[0])
    return features


def _place(name: str) -> int:
    """Returns how likely a key is that of the label, by its name: the lower, the likelier."""
    words = [index for index, word in enumerate(_LABEL_WORDS) if word in name.lower()]
    return words[0] if words else len(_LABEL_WORDS)
