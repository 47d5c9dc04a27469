"""The machine that a launch asks for: gcloud's flags for it, how long it may live, and what excludes what.

No TensorFlow.
"""

import re

from efficientnet_tpu.config.cloud import LaunchConfig
from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import Tpu, parse_slice
from efficientnet_tpu.plan.answers.prices import list_price, own_price
from efficientnet_tpu.texts.printable import shown

ANY_RESERVATION = "any"
_AS_GIVEN = ("vm_network", "vm_subnetwork", "service_account", "vm_labels")  # gcloud's flags, without vm_
_MAX_FLEX_HOURS = 168  # of a flex-start TPU, by docs.cloud.google.com/tpu/docs


def require_possible(launch: LaunchConfig) -> None:
    """Raises UserError for flags that exclude each other, or that lack another."""
    named = {"spot": launch.spot, "flex_start": launch.flex_start, "reservation": bool(launch.reservation)}
    given = [f"--{name}" for name, is_given in named.items() if is_given]
    if len(given) > 1:
        raise UserError(f"{' '.join(given)}: exclude each other, being three ways to pay for a TPU. Keep one.")
    if needs_alpha(launch) and not launch.queued:
        raise UserError(f"{given[0]}: gcloud has it for queued resources alone. Leave out --noqueued.")
    if launch.flex_start and not 0 < launch.max_hours <= _MAX_FLEX_HOURS:
        raise UserError(f"--flex_start: needs --max_hours, at most {_MAX_FLEX_HOURS}: such a TPU is lent for a time.")


def needs_alpha(launch: LaunchConfig) -> bool:
    """Returns whether gcloud has what is asked for only in its alpha commands."""
    return launch.flex_start or launch.reservation not in ("", ANY_RESERVATION)


def named_values(launch: LaunchConfig) -> list[str]:
    """Returns the flags whose values gcloud gets as they are."""
    return [
        f"--{name}={value}" for name in (*_AS_GIVEN, "reservation", "data_disk") if (value := getattr(launch, name))
    ]


def read_labels(text: str) -> dict[str, str]:
    """Returns the labels of team=vision,cost=research. Raises UserError for another text."""
    pairs = [part.partition("=") for part in text.split(",")]
    labels = {name: value for name, _, value in pairs}
    for name, value in labels.items():
        if not re.fullmatch("[a-z][a-z0-9_-]{0,62}", name) or not re.fullmatch("[a-z0-9_-]{1,63}", value):
            raise UserError(f"--vm_labels={shown(text)}: must be such as team=vision,cost=research.")
    return labels


def creation_flags(launch: LaunchConfig, tpu: Tpu) -> list[str]:
    """Returns gcloud's flags that say what to create."""
    version = "--runtime-version" if launch.queued else "--version"
    flags = [f"--accelerator-type={tpu.accelerator_type}", f"{version}={tpu.image}"]
    if launch.spot:
        flags.append("--spot")
    if launch.flex_start:
        flags += ["--provisioning-model=flex-start", f"--max-run-duration={int(3600 * launch.max_hours)}s"]
    if launch.reservation:
        flags.append("--reserved")
    if launch.reservation not in ("", ANY_RESERVATION):
        flags.append(f"--reservation={launch.reservation}")
    flags += [
        f"--{name.removeprefix('vm_').replace('_', '-')}={value}"
        for name in _AS_GIVEN
        if (value := getattr(launch, name))
    ]
    if launch.internal_ips:
        flags.append("--internal-ips")
    if launch.data_disk:
        flags.append(f"--data-disk=source={launch.data_disk},mode=read-only")
    return flags


def allowed_hours(config: Config) -> float:
    """Returns the hours after which the machine is ended, 0 for none: --max_hours, or what --max_cost pays for.

    Raises UserError for --max_cost without the price.
    """
    launch = config.launch
    if not launch.max_cost:
        return launch.max_hours
    tpu = parse_slice(launch.tpu_type)
    price = own_price(config.plan.price_per_chip_hour, tpu.kind)
    if not price:
        listed = list_price(tpu.kind, config.hardware.tpu_zone)
        known = f" The list price of {listed.read} on demand was {listed.per_chip_hour:g} US$." if listed.read else ""
        raise UserError(
            f"--max_cost={launch.max_cost:g}: needs --price_per_chip_hour, your price of an hour of one chip of "
            f"{tpu.kind}.{known}"
        )
    hours = launch.max_cost / (price * tpu.num_chips)
    return min(hours, launch.max_hours) if launch.max_hours else hours


def describe(launch: LaunchConfig, tpu: Tpu) -> str:
    """Returns '1 host, queued, spot': hosts, and how the TPU is asked for."""
    hosts = f"{tpu.num_hosts} host{'' if tpu.num_hosts == 1 else 's'}"
    manner = "spot" if launch.spot else "flex-start" if launch.flex_start else "on demand"
    if launch.reservation:
        manner = "reserved"
    return f"{hosts}, {'queued, ' if launch.queued else ''}{manner}"


def describe_limit(config: Config) -> str:
    """Returns the words on when the machine is ended in any case, "" without a limit."""
    hours = allowed_hours(config)
    return f", and at most {hours:.2f} hours from when it is there" if hours else ""
