"""The price of an hour of a chip, as the user says it. Nothing here needs TensorFlow.

No list prices ship with the program: they differ by region and change, and what public pages say of them disagrees.
"""

import math
from collections.abc import Mapping

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import GENERATIONS
from efficientnet_tpu.texts.printable import shown


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


def price_of(text: str, kind: str) -> float:
    """Returns the price of an hour of a chip of a kind, 0 where --price_per_chip_hour does not say it."""
    prices = parse_prices(text)
    return prices.get(kind, prices.get("", 0.0))
