"""Which tensor of a file becomes which weight of ours: all of both sides, or nothing at all."""

from collections.abc import Iterable
from dataclasses import dataclass

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import VARIANTS, Architecture
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.weights.layer_specs import target_shapes
from efficientnet_tpu.weights.naming_schemes import Naming, StoredName
from efficientnet_tpu.weights.readers.stored_tensor import FLOAT_TYPES, Tensors

CLASSIFIER = "classifier/"
_SHOWN = 3  # names of each side in a message


@dataclass(frozen=True)
class Mapping:
    """`pairs`: our layer/variable -> where it is stored. `ignored`: names of the file that are no weights."""

    pairs: dict[str, StoredName]
    ignored: tuple[str, ...]

    @property
    def has_classifier(self) -> bool:
        return any(name.startswith(CLASSIFIER) for name in self.pairs)


@dataclass(frozen=True)
class _Differences:
    missing: list[str]  # of ours: not in the file
    left_over: list[str]  # of the file: without a place in ours
    other_shapes: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.other_shapes)


def num_classes(tensors: Tensors, naming: Naming, architecture: Architecture) -> int | None:
    """Classes that the file's classifier tells apart; None when it has none."""
    stored = naming.stored_names(architecture)[f"{CLASSIFIER}bias"]
    tensor = tensors.get(stored.name)
    if tensor is None or len(tensor.shape) != 1:
        return None
    return tensor.shape[0]


def match(path: str, tensors: Tensors, naming: Naming, architecture: Architecture) -> Mapping:
    """The mapping of a file onto a model. A file without any classifier maps onto all but the classifier.

    Raises UserError, naming both sides, unless every weight has its tensor, every tensor its weight, and all shapes
    and types agree.
    """
    mapping = _pairs(tensors, naming, architecture)
    differences = _compare(tensors, mapping, architecture)
    if differences:
        fitting = _fitting_models(tensors, naming, architecture)
        advice = f"It fits --model={fitting[0]}." if fitting else "No model of ours fits it."
        raise UserError(f"{path} ({naming.title}): does not hold an {architecture.name}. {_words(differences)}{advice}")
    for ours, stored in mapping.pairs.items():
        if tensors[stored.name].dtype not in FLOAT_TYPES:
            raise UserError(
                f"{path}: {stored.name}, to become {ours}, is stored as {tensors[stored.name].dtype}; only "
                f"{', '.join(FLOAT_TYPES)} are weights. Quantised files cannot be imported."
            )
    return mapping


def _pairs(tensors: Tensors, naming: Naming, architecture: Architecture) -> Mapping:
    pairs = naming.stored_names(architecture)
    heads = {name: stored for name, stored in pairs.items() if name.startswith(CLASSIFIER)}
    if not any(stored.name in tensors for stored in heads.values()):
        pairs = {name: stored for name, stored in pairs.items() if name not in heads}
    ignored = tuple(name for name in tensors if naming.ignored and naming.ignored.search(name))
    return Mapping(pairs, ignored)


def _compare(tensors: Tensors, mapping: Mapping, architecture: Architecture) -> _Differences:
    shapes = target_shapes(architecture)
    wanted = {stored.name for stored in mapping.pairs.values()} | set(mapping.ignored)
    missing, other_shapes = [], []
    for ours, stored in mapping.pairs.items():
        if stored.name not in tensors:
            missing.append(f"{ours} (there {stored.name})")
        elif stored.shape_as_ours(tensors[stored.name].shape) != shapes[ours]:
            other_shapes.append(f"{stored.name} {list(tensors[stored.name].shape)} for {ours} {list(shapes[ours])}")
    return _Differences(missing, [name for name in tensors if name not in wanted], other_shapes)


def _fitting_models(tensors: Tensors, naming: Naming, architecture: Architecture) -> list[str]:
    return [
        name
        for name, variant in VARIANTS.items()
        if not _compare(
            tensors, _pairs(tensors, naming, other := scale(name, variant, architecture.num_classes)), other
        )
    ]


def _words(differences: _Differences) -> str:
    texts = []
    if differences.missing:
        texts.append(f"{len(differences.missing)} of the model's weights are not in the file: ")
        texts.append(_few(differences.missing))
    if differences.left_over:
        texts.append(f"{len(differences.left_over)} of the file's tensors have no place in the model: ")
        texts.append(_few(differences.left_over))
    if differences.other_shapes:
        texts.append(f"{len(differences.other_shapes)} differ in shape: ")
        texts.append(_few(differences.other_shapes))
    return "".join(texts)


def _few(names: Iterable[str]) -> str:
    # Names come from the file: shown as Python would write them, and not at any length.
    names = [name if name.isprintable() else ascii(name) for name in (name[:120] for name in names)]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") + ". "


def mapping_lines(mapping: Mapping, tensors: Tensors) -> list[str]:
    """A line for each weight, for people: ours, the file's, its shape and layout there; then what was not needed."""
    lines = []
    for ours, stored in mapping.pairs.items():
        tensor = tensors[stored.name]
        lines.append(f"{ours}  <-  {stored.name}  {list(tensor.shape)} {tensor.dtype}, {stored.layout}")
    return lines + [f"not needed: {name}" for name in mapping.ignored]
