"""The mapping from the tensors of a file to our weights. It is complete on both sides, or it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import VARIANTS, Architecture
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.weights.layer_specs import target_shapes
from efficientnet_tpu.weights.naming_schemes import NamingScheme, StoredName
from efficientnet_tpu.weights.readers.stored_tensor import FLOAT_TYPES, StoredTensors

CLASSIFIER = "classifier/"
_MAX_NAMES = 3  # of each side in a message


@dataclass(frozen=True)
class NameMapping:
    """The mapping of a file onto a model.

    pairs: our layer/variable -> its name and layout in the file.
    ignored: names in the file that are no weights.
    """

    pairs: dict[str, StoredName]
    ignored: tuple[str, ...]

    @property
    def has_classifier(self) -> bool:
        """Returns whether the file holds a classifier."""
        return any(name.startswith(CLASSIFIER) for name in self.pairs)


@dataclass(frozen=True)
class _Differences:
    """The weights that keep a file from fitting a model."""

    missing: list[str]  # weights of ours that are not in the file
    unexpected: list[str]  # tensors of the file that have no place in our model
    other_shapes: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.other_shapes)

    def __str__(self) -> str:
        texts = (
            (self.missing, "of the model's weights are not in the file"),
            (self.unexpected, "of the file's tensors have no place in the model"),
            (self.other_shapes, "differ in shape"),
        )
        message = ""
        for names, text in texts:
            # Names come from the file, so they are escaped and cut before they are printed.
            shown = [name if name.isprintable() else ascii(name) for name in (name[:120] for name in names)]
            more = ", ..." if len(names) > _MAX_NAMES else ""
            message += f"{len(names)} {text}: {', '.join(shown[:_MAX_NAMES])}{more}. " if names else ""
        return message


def count_classes(tensors: StoredTensors, naming_scheme: NamingScheme, architecture: Architecture) -> int | None:
    """Returns the number of classes of the file's classifier, or None if it has no classifier."""
    stored = naming_scheme.stored_names(architecture)[f"{CLASSIFIER}bias"]
    tensor = tensors.get(stored.name)
    if tensor is None or len(tensor.shape) != 1:
        return None
    return tensor.shape[0]


def match_names(
    path: str, tensors: StoredTensors, naming_scheme: NamingScheme, architecture: Architecture
) -> NameMapping:
    """Returns the mapping of a file onto a model. A file without classifier maps onto all weights but the classifier's.

    Raises UserError, with names of both sides, unless every weight has its tensor, every tensor has its weight, and
    all shapes and types agree.
    """
    mapping, differences = _pair_names(tensors, naming_scheme, architecture)
    if differences:
        fitting = []
        for name, variant in VARIANTS.items():
            other = scale(name, variant, architecture.num_classes)
            if not _pair_names(tensors, naming_scheme, other)[1]:
                fitting.append(name)
        advice = f"It fits --model={fitting[0]}." if fitting else "No model of ours fits it."
        raise UserError(f"{path} ({naming_scheme.title}): does not hold an {architecture.name}. {differences}{advice}")
    for ours, stored in mapping.pairs.items():
        if tensors[stored.name].dtype not in FLOAT_TYPES:
            raise UserError(
                f"{path}: {stored.name}, to become {ours}, is stored as {tensors[stored.name].dtype}; only "
                f"{', '.join(FLOAT_TYPES)} are weights. Quantised files cannot be imported."
            )
    return mapping


def _pair_names(
    tensors: StoredTensors, naming_scheme: NamingScheme, architecture: Architecture
) -> tuple[NameMapping, _Differences]:
    """Returns the mapping by names alone, and where the file and the model differ by it."""
    pairs = naming_scheme.stored_names(architecture)
    heads = {name: stored for name, stored in pairs.items() if name.startswith(CLASSIFIER)}
    if not any(stored.name in tensors for stored in heads.values()):
        pairs = {name: stored for name, stored in pairs.items() if name not in heads}
    ignored = tuple(name for name in tensors if naming_scheme.ignored and naming_scheme.ignored.search(name))
    shapes = target_shapes(architecture)
    missing, other_shapes = [], []
    for ours, stored in pairs.items():
        if stored.name not in tensors:
            missing.append(f"{ours} (there {stored.name})")
        elif stored.keras_shape(tensors[stored.name].shape) != shapes[ours]:
            other_shapes.append(f"{stored.name} {list(tensors[stored.name].shape)} for {ours} {list(shapes[ours])}")
    wanted = {stored.name for stored in pairs.values()} | set(ignored)
    unexpected = [name for name in tensors if name not in wanted]
    return NameMapping(pairs, ignored), _Differences(missing, unexpected, other_shapes)


def describe_mapping(mapping: NameMapping, tensors: StoredTensors, in_file: Mapping[str, str]) -> list[str]:
    """Returns a line for each weight, with our name and the file's name, shape and layout, then the ignored names.

    in_file: the file's own names, where they differ from those of the program that made it.
    """
    lines = []
    for ours, stored in mapping.pairs.items():
        tensor, name = tensors[stored.name], in_file.get(stored.name, stored.name)
        lines.append(f"{ours}  <-  {name}  {list(tensor.shape)} {tensor.dtype}, {stored.layout}")
    return lines + [f"not needed: {in_file.get(name, name)}" for name in mapping.ignored]
