"""The cost of a network of a search: counted, measured on this machine, or modeled for a TPU."""

import os
from collections.abc import Callable

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware.tpu_specs import parse_slice
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.configured import network_options
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.plan.planner import Planner, require_even
from efficientnet_tpu.plan.table import load_tables
from efficientnet_tpu.studies.search.objective import TARGET_MULTIPLY_ADDS
from efficientnet_tpu.studies.search.space import Network, SearchSpace, encode

CostFunction = Callable[[Network], float]


def default_target(kind: str) -> float:
    """Returns the paper's target. Raises UserError for a kind of cost that the paper has none of."""
    if kind == "multiply_adds":
        return TARGET_MULTIPLY_ADDS
    raise UserError(f"--search_cost={kind}: has no usual target. Give --search_target, {_UNITS[kind]}.")


_UNITS = {
    "params": "a number of parameters, as 4e6",
    "latency": "seconds of an image, as 0.05",
    "tpu_step": "seconds of a training step, as 0.3",
}


def cost_function(kind: str, space: SearchSpace, config: Config, num_classes: int) -> CostFunction:
    """Returns the function that gives a network's cost, of one of SEARCH_COSTS.

    Raises UserError where other options do not fit.
    """
    if kind == "latency":
        if config.study.study_workers != 1 or config.study.study_storage:
            raise UserError(
                "--search_cost=latency: what is measured beside other trainings is not the network's. Take "
                "--study_workers=1, and no --study_storage."
            )
        return lambda network: _measured_latency(scale("", space.variant(network), num_classes), config)
    if kind == "tpu_step":
        return _modeled_step(space, config, num_classes)
    return lambda network: float(getattr(space.cost(network), kind))


def _modeled_step(space: SearchSpace, config: Config, num_classes: int) -> CostFunction:
    """Returns a function that gives the seconds of a training step on --tpu_type, as `plan` models it."""
    if not config.launch.tpu_type:
        raise UserError("--search_cost=tpu_step: needs --tpu_type, whose step is modeled.")
    tpu, rows = parse_slice(config.launch.tpu_type), load_tables(config)
    require_even(tpu, config.train.batch_size)

    def seconds(network: Network) -> float:
        variant = space.variant(network)
        named = with_options(config, network_options(encode(network), variant))
        planner = Planner(named, scale("", variant, num_classes), rows)
        return planner.plan(tpu, config.train.batch_size).time.lower_bound

    return seconds


def _measured_latency(architecture: Architecture, config: Config) -> float:
    """Returns the median of the seconds for one image on one core of this machine."""
    from efficientnet_tpu.studies import trial_process

    output = os.path.join(config.output.output_dir, "latency.txt")
    process = trial_process.start(measure_latency, architecture, output=output)
    while not process.wait(1.0):
        pass

    def failed(status: int) -> float:
        raise UserError(f"a latency could not be measured: status {status}; {output} says why")

    return process.returned(otherwise=failed)


def measure_latency(architecture: Architecture) -> float:
    """Returns the median of the seconds for one image, in a process of its own."""
    from efficientnet_tpu.paper import latency

    print(latency.use_one_core(), flush=True)
    return latency.measure_architecture(architecture, latency.RUNS).median
