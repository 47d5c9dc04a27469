"""The checks of a launch's flags, before anything is printed. No TensorFlow."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from efficientnet_tpu.config.config import OPTIONS, Config, options_of
from efficientnet_tpu.config.data_paths import archives_in
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.printable import is_printable, shown

Parsed = TypeVar("Parsed")
_NAMES = {
    "tpu_name": (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "efficientnet-b0"),
    "tpu_zone": (r"[a-z]+-[a-z]+\d+-[a-z]", "us-west4-a"),
    "gcp_project": (r"[a-z][-a-z0-9.:]*[a-z0-9]", "my-project"),
    # A container image: name parts, a tag or a digest.
    "image": (r"[a-z0-9][a-zA-Z0-9._/:@-]*[a-zA-Z0-9]", "us-docker.pkg.dev/my-project/images/efficientnet:tpu"),
    "service_account": (r"[a-z0-9]([a-z0-9.@-]*[a-z0-9])?", "trainer"),
    "reservation": (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "ours"),
    "partition": (r"[A-Za-z0-9_][A-Za-z0-9_.,-]*", "gpu"),
}


def require_print(config: Config) -> None:
    """Raises UserError without --print, and for a --tpu, which the launch says itself."""
    if not config.launch.print:
        raise UserError("launch: add --print. It prints a script to read, and to run by bash; nothing runs by itself.")
    if config.hardware.tpu:
        raise UserError(f"--tpu={config.hardware.tpu}: launch makes a TPU and says --tpu itself. Leave it out.")


def require_given(config: Config, names: Iterable[str]) -> None:
    """Raises UserError for flags that are missing."""
    options = options_of(config)
    for name in names:
        if not options[name]:
            raise UserError(f"--{name} is missing. {OPTIONS[name].help}")


def require_names(config: Config, names: Iterable[str]) -> None:
    """Raises UserError for a value that no cloud takes as a name. An empty one is left to `require_given`."""
    options = options_of(config)
    for name in names:
        pattern, example = _NAMES[name]
        if options[name] and not re.fullmatch(pattern, options[name], re.ASCII):
            raise UserError(f"--{name}={shown(options[name])}: is no such name as {example}.")


def one_accelerator(config: Config, parse: Callable[[str], Parsed]) -> Parsed:
    """Returns what --gpus, or else --tpu_type, says, parsed. Raises UserError for none, and for both."""
    launch = config.launch
    if launch.gpus and launch.tpu_type:
        both = f"--gpus={shown(launch.gpus)} --tpu_type={shown(launch.tpu_type)}"
        raise UserError(f"{both}: exclude each other. Keep one.")
    if not (launch.gpus or launch.tpu_type):
        raise UserError(f"--on={launch.on}: name the accelerator, by --tpu_type=v5e-8 or --gpus=A100:4.")
    return parse(launch.gpus or launch.tpu_type)


def require_buckets(config: Config) -> None:
    """Raises UserError for directories that a machine of the cloud does not see, or that go with it."""
    model_dir, data = config.run.model_dir, config.data
    if not model_dir.startswith("gs://"):
        raise UserError(f"--model_dir={model_dir}: must be gs://BUCKET/...: a TPU VM's disk goes when it goes.")
    if any("://" in path for path in archives_in(data.data_dir)):
        raise UserError(
            f"--data_dir={data.data_dir}: archives are read from a disk alone. Write shards with `{program()} "
            "make-tfrecords --output_dir=gs://BUCKET/...`, and give that directory."
        )
    on_disk = config.launch.data_disk and data.data_dir.startswith("/mnt/data")
    for flag, path in (("data_dir", "" if on_disk else data.data_dir), ("init_from", config.train.init_from)):
        if path and not path.startswith("gs://"):
            raise UserError(f"--{flag}={path}: must be gs://BUCKET/...: the TPU VM does not see this machine.")
    require_images(config)


def require_images(config: Config) -> None:
    """Raises UserError where no images are named."""
    data = config.data
    if not data.data_dir and (data.dataset == "auto" or data.dataset.startswith("tfds:")):
        raise UserError("--data_dir is missing: gs://BUCKET/...; or --dataset=fake, or sample, for a dry run.")


def require_printable(flags: Iterable[str]) -> None:
    """Raises UserError for a value that is something else to a terminal than what it says, as a line's end is."""
    for flag in flags:
        if not is_printable(flag):
            name, _, value = flag.partition("=")
            raise UserError(f"{name}={shown(value)}: a script takes no line's end or control character. Rename it.")
