"""timm's models: which one a file is, and the preprocessing that belongs to it.

The paper's EfficientNets are those that timm calls tf_efficientnet_*. Its other models (efficientnet_b0, ...) have the
same tensors by the same names, but pad convolutions on all sides and add 1e-5 instead of 1e-3 to variances: an import
of them would run and be wrong. AdvProp's weights and Lite's want other pixels than the rest. So the file has to be told
from its surroundings: config.json beside it, a name anywhere in its path, or the user's word.
"""

import os
import re
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD
from efficientnet_tpu.models.compound_scaling import NORMALIZATIONS, find_variant

CONFIG_JSON = "config.json"
_NAME = re.compile(
    r"(?P<name>(?:tf_)?(?:efficientnet_(?:b\d|l2|lite\d|e[slm]|cc|[hx]_b\d)|efficientnetv2_(?:b\d|rw|[sml]|xl)"
    r"|mixnet_(?:[sml]|x*l)|(?:se)?mnasnet_\w+|spnasnet_\d+|fbnet(?:c|v3)_\w+))(?![a-z0-9])"
)
_SUPPORTED = re.compile(r"tf_efficientnet_(b[0-8]|l2|lite[0-4])$")
# What follows the name, as timm calls it today (.ap_in1k) or did before (_ap), and today's word for it.
_TAG = re.compile(r"[._/-](?P<tag>ap|advprop|ns|aa|ra|in1k)(?![a-z0-9])")
_TAGS = {"ap": "ap_in1k", "advprop": "ap_in1k", "ns": "ns_jft_in1k", "aa": "aa_in1k", "ra": "ra_in1k", "in1k": "in1k"}
_ADVPROP_TAG = "ap_in1k"
# Arguments of a model in config.json that do not change what its weights compute.
_HARMLESS_ARGUMENTS = {"num_classes", "img_size", "drop_rate", "drop_path_rate", "bn_momentum"}


@dataclass(frozen=True)
class TimmModel:
    """One of timm's models.

    name, tag: tf_efficientnet_b0 and ap_in1k; the tag says how it was trained, and may be empty.
    told_by: where the name was found, for messages.
    config: what its config.json holds, empty without one.
    """

    name: str
    tag: str
    told_by: str
    config: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}.{self.tag}" if self.tag else self.name

    @property
    def model(self) -> str:
        """Returns our name of the model: efficientnet-b0 for tf_efficientnet_b0."""
        return self.name.removeprefix("tf_").replace("_", "-")

    @property
    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and deviation of the pixels, in units of 0..255, as timm states them."""
        stated = self.stated
        if "mean" in stated or "std" in stated:
            return _numbers(stated, "mean"), _numbers(stated, "std")
        if self.tag == _ADVPROP_TAG or "_lite" in self.name:
            return (127.5,) * 3, (127.5,) * 3
        return IMAGENET_MEAN, IMAGENET_STD

    @property
    def interpolation(self) -> str:
        """Returns how timm resizes images for the model: as stated, else as for the published weights of its name."""
        stated = self.stated.get("interpolation")
        if stated in ("bicubic", "bilinear"):
            return stated
        return "bilinear" if self.name in ("tf_efficientnet_lite3", "tf_efficientnet_lite4") else "bicubic"

    @property
    def stated(self) -> dict[str, Any]:
        """Returns what config.json states of the preprocessing; older ones do so beside the architecture."""
        nested = self.config.get("pretrained_cfg")
        return {**self.config, **nested} if isinstance(nested, dict) else self.config

    @property
    def label_names(self) -> tuple[str, ...]:
        """Returns the names of the classes in config.json, none without them."""
        names = self.stated.get("label_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return ()
        return tuple(names)


def identify(path: str, config: dict[str, Any] | None, source_model: str, expected: str) -> TimmModel:
    """Returns the model that the file or directory at `path` is.

    config: what timm's config.json beside it holds, None without one.
    source_model: --source_model, which decides unless config.json says otherwise.
    expected: our model's name, for the advice. Raises UserError for one that this program does not compute, and where
    nothing says which it is.
    """
    given = parse_name(source_model, f"--source_model={source_model}") if source_model else None
    stated = _from_config(path, config) if config else None
    is_other = given and stated and (given.name != stated.name or (given.tag and not _same_pixels(given, stated)))
    if given and stated and is_other:
        raise UserError(
            f"--source_model={source_model}: {stated.told_by} says that {path} is {stated}, of another network or "
            "other pixels. Leave the flag out, or give the weights without that file."
        )
    found = stated or given or next(filter(None, map(_from_path, links(path))), None)
    if found is None:
        name = f"tf_{expected.replace('-', '_')}"
        raise UserError(
            f"{path}: has the tensors of one of timm's models, and neither a {CONFIG_JSON} beside it nor its path says "
            f"of which: {name}, {name}.{_ADVPROP_TAG} and {name.removeprefix('tf_')} have the same names and shapes "
            f"and compute different things. Say it as timm does: --source_model={name} or another."
        )
    require_computable(found, path)
    return found


def parse_name(text: str, told_by: str, config: dict[str, Any] | None = None) -> TimmModel:
    """Returns the model that a text names. Raises UserError for a text with no or several names of timm's."""
    names = {match["name"]: match.end() for match in _NAME.finditer(text.lower())}
    if len(names) != 1:
        problem = f"names several models, {' and '.join(names)}" if names else "names none of timm's models"
        raise UserError(f"{told_by}: {problem}. Say which by --source_model, as tf_efficientnet_b0.ap_in1k.")
    ((name, end),) = names.items()
    tag = _TAG.search(text.lower(), end)
    return TimmModel(name, _TAGS[tag["tag"]] if tag else "", told_by, config or {})


def require_computable(found: TimmModel, path: str) -> None:
    """Raises UserError for a model that computes something else than ours from the same weights."""
    origin = f"{path}: is timm's {found}, says {found.told_by}"
    hint = "" if found.told_by == CONFIG_JSON else " If it is another, --source_model says so."
    if not found.name.startswith("tf_"):
        raise UserError(
            f"{origin}, and not one of timm's tf_efficientnet_*. It pads its convolutions on all sides and adds 1e-5 "
            "to variances; this program computes those that pad as TensorFlow does and add 1e-3, and from these "
            f"weights would compute something else.{hint}"
        )
    if not _SUPPORTED.match(found.name):
        raise UserError(f"{origin}, which is no network of this program; B0 to B8, L2 and Lite0 to Lite4 are.{hint}")
    arguments = found.config.get("model_args")
    unknown = sorted(set(arguments if isinstance(arguments, dict) else {}) - _HARMLESS_ARGUMENTS)
    if unknown or found.stated.get("global_pool", "avg") != "avg":
        what = f"model_args {', '.join(unknown)}" if unknown else f"global_pool {found.stated['global_pool']!r:.40}"
        raise UserError(f"{origin}, changed by {what}: that is no network of this program.")


def read_options(path: str, found: TimmModel) -> dict[str, Any]:
    """Returns the flags of the preprocessing that belongs to a model, where they are not our model's own.

    They are normalization, interpolation and, as config.json states, resolution and eval_crop_padding. Raises UserError
    for pixels that are normalised in a way that has no name here.
    """
    options: dict[str, Any] = {}
    mean, std = found.mean_and_std
    own = find_variant(found.model)
    if not _close((mean, std), (own.mean, own.std)):
        fitting = [name for name, values in NORMALIZATIONS.items() if _close((mean, std), values)]
        if not fitting:
            raise UserError(
                f"{path}: {found.told_by} states that these weights expect pixels from 0 to 255 less {list(mean)}, "
                f"divided by {list(std)}; --normalization has ImageNet's, Lite's and AdvProp's constants."
            )
        options["normalization"] = fitting[0]
    if found.interpolation != own.interpolation:
        options["interpolation"] = found.interpolation
    size, share = found.stated.get("input_size"), found.stated.get("crop_pct")
    resolution = size[-1] if isinstance(size, list) and len(size) == 3 else None
    if type(resolution) is not int or not 16 <= resolution <= 4096:
        return options
    if not isinstance(share, int | float) or not 0.5 <= share <= 1:
        return options
    # timm states the share, in three digits, that TensorFlow's padding of 32 pixels leaves.
    padding = round(resolution / share) - resolution
    return options | {"resolution": resolution, "eval_crop_padding": 32 if abs(padding - 32) <= 2 else padding}


def has_own_pixels(found: TimmModel, mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    """Returns whether timm's own constants for a model's name are these, in units of 0..255."""
    is_stated = bool({"mean", "std"} & found.stated.keys())
    return not is_stated and _close(found.mean_and_std, (mean, std))


def links(path: str) -> list[str]:
    """Returns the whole path, and those that it links to one after the other.

    A hub's cache keeps files by their content, and a link to each in a folder with the model's name and config.json.
    """
    if "://" in path:
        return [path]
    chain = [os.path.abspath(path)]
    while os.path.islink(chain[-1]) and len(chain) < 40:
        chain.append(os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.readlink(chain[-1]))))
    return chain


def _from_config(path: str, config: dict[str, Any]) -> TimmModel:
    """Returns the model that timm's config.json names. Raises UserError for a model that is no EfficientNet."""
    name, nested = str(config.get("architecture")), config.get("pretrained_cfg")
    tag = nested.get("tag") if isinstance(nested, dict) else config.get("tag")
    if not _NAME.match(name.lower()):
        raise UserError(f"{path}: {CONFIG_JSON} beside it says that it is {name!r:.100}, which is no EfficientNet.")
    return parse_name(f"{name}.{tag}" if isinstance(tag, str) else name, CONFIG_JSON, config)


def _from_path(path: str) -> TimmModel | None:
    """Returns the model that a path names, by its innermost part that names one."""
    parts = path.rstrip("/").split("/")
    for index in reversed(range(len(parts))):
        if _NAME.search(parts[index].lower()):
            # The tag may be the name of a folder in it.
            return parse_name("/".join(parts[index:]), f"its path ({parts[index]})")
    return None


def _numbers(stated: dict[str, Any], key: str) -> tuple[float, ...]:
    """Returns three numbers of config.json in units of 0..255. Raises UserError for anything else."""
    value = stated.get(key)
    if isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value):
        return tuple(255.0 * one for one in value)
    raise UserError(f"{CONFIG_JSON}: {key} is {value!r:.100} and not a list of three numbers.")


def _same_pixels(first: TimmModel, second: TimmModel) -> bool:
    return _close(first.mean_and_std, second.mean_and_std)


def _close(values: tuple[Any, Any], wanted: tuple[Any, Any]) -> bool:
    """Returns whether two pairs of mean and deviation, in units of 0..255, are the same."""
    pairs = ((a, b) for ours, theirs in zip(values, wanted, strict=True) for a, b in zip(ours, theirs, strict=True))
    return all(abs(a - b) < 1e-3 for a, b in pairs)
