"""The price of an hour of a chip: as the user says it, else a list price of a date. Nothing here needs TensorFlow.

List prices differ by region and change. Those of list_prices.json have a date and a source, and every figure made of
them says so.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS
from efficientnet_tpu.texts.printable import shown


@dataclass(frozen=True)
class Price:
    """The price of an hour of one chip; 0 where none is known.

    read, region: of a list price, in US dollars, the day it was read and where it holds; "" for a price of the user's.
    """

    per_chip_hour: float = 0.0
    read: str = ""
    region: str = ""

    @property
    def is_listed(self) -> bool:
        """Returns whether it is a list price."""
        return bool(self.read)


def parse_prices(text: str) -> Mapping[str, float]:
    """Returns the price by kind of TPU, all under "" for one price. Raises UserError for what is no price."""
    prices = {}
    for part in text.split(",") if text else ():
        kind, separator, number = part.strip().rpartition("=")
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        known = kind in GENERATIONS if separator else "," not in text
        if not known or not 0 <= price < math.inf or kind in prices:
            raise UserError(
                f"--price_per_chip_hour={shown(text)}: must be a price, as 1.2, or one for each kind of TPU, as "
                f"v5e=1.2,v6e=2.7; there are {', '.join(GENERATIONS)}."
            )
        prices[kind] = price
    return prices


def own_price(text: str, kind: str) -> float | None:
    """Returns the price that --price_per_chip_hour says of a kind, or None."""
    prices = parse_prices(text)
    return prices.get(kind, prices.get(""))


def price_of(text: str, kind: str, zone: str = "") -> Price:
    """Returns the price of a chip of a kind: --price_per_chip_hour's, else the list price.

    zone: where the TPU is; without, the list price is that of the first region of the list. One of another region is
    not taken.
    """
    own = own_price(text, kind)
    return list_price(kind, zone) if own is None else Price(own)


def list_price(kind: str, zone: str = "") -> Price:
    """Returns the list price of a chip of a kind in the region of a zone, or in the first region that has one."""
    listed = _list()
    by_region: Mapping[str, float] = listed["prices"].get(kind, {})
    region = zone.rpartition("-")[0] or next(iter(by_region), "")
    return Price(by_region[region], listed["read"], region) if region in by_region else Price()


@functools.cache
def _list() -> dict:
    return json.loads(Path(__file__).with_name("list_prices.json").read_text())
