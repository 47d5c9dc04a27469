"""The sections of the studies: what they ask beside the runs that they train. They are never stored."""

from dataclasses import dataclass

from efficientnet_tpu.config.option import option

SEARCH_ALGORITHMS = ("ppo", "evolution", "random")
SEARCH_OBJECTIVES = ("soft", "hard")
SEARCH_COSTS = ("multiply_adds", "params", "latency", "tpu_step")


@dataclass(frozen=True)
class StudyConfig:
    """Studies of the paper"""

    table: int | None = option(None, "The paper's table, 1 to 8.", minimum=1, maximum=8, commands=("reproduce",))
    figure: int | None = option(None, "The paper's figure: 1, 3, 4, 5 or 8.", minimum=1, commands=("reproduce",))
    budget_flops: float | None = option(
        None, "Multiply-adds of an image that may be spent; 1.5e9.", above=0, commands=("scale",)
    )
    budget_params: float | None = option(None, "Parameters that may be spent; 10e6.", above=0, commands=("scale",))
    budget_latency_ms: float | None = option(
        None, "Milliseconds that one image may take, measured on this machine.", above=0, commands=("scale",)
    )
    alpha: float = option(
        1.2, "Factor of the depth for each phi.", minimum=1, maximum=10, commands=("scale", "scaling-study")
    )
    beta: float = option(
        1.1, "Factor of the width for each phi.", minimum=1, maximum=10, commands=("scale", "scaling-study")
    )
    gamma: float = option(
        1.15, "Factor of the resolution for each phi.", minimum=1, maximum=10, commands=("scale", "scaling-study")
    )
    study_flops_factor: float = option(
        4.0,
        "Multiply-adds of the scaled networks, as a multiple of the base's.",
        above=1,
        maximum=100,
        commands=("scaling-study",),
    )
    study_seeds: int = option(
        3,
        "Trainings of each network, with seeds 0, 1, ...",
        minimum=1,
        maximum=1000,
        commands=("scaling-study", "paper-miniature"),
    )
    surrogate_seeds: int = option(
        0,
        "Fit a surrogate of training to the trials, and run every search algorithm on it with seeds 0, 1, ...",
        minimum=0,
        maximum=1000,
        commands=("search-report",),
    )
    study_workers: int = option(
        1,
        "Trainings at a time, on this machine.",
        minimum=1,
        maximum=1000,
        commands=("scaling-study", "grid-search", "search", "paper-miniature"),
    )
    grid_step: float = option(
        0.05,
        "Distance of two values of alpha, beta or gamma.",
        minimum=0.005,
        maximum=1,
        commands=("grid-search", "paper-miniature"),
    )
    grid_tolerance: float = option(
        0.1,
        "How far alpha * beta^2 * gamma^2 may be from 2.",
        minimum=0,
        below=1,
        commands=("grid-search", "paper-miniature"),
    )
    grid_counted: bool = option(
        False,
        "Hold the network's multiply-adds, as a multiple of the base's, to --grid_tolerance, in place of the formula: "
        "a small network rounds so coarsely that they differ much.",
        commands=("grid-search", "paper-miniature"),
    )
    resolution_step: int = option(
        8,
        "Scaled resolutions are the base's and a multiple of so many pixels; 1 for small images.",
        minimum=1,
        maximum=64,
        commands=("grid-search", "scale", "paper-miniature"),
    )
    largest_resolution: int | None = option(
        None,
        "Leaves out coefficients by which images grow larger than this at the largest phi: the pixels there are.",
        minimum=16,
        commands=("paper-miniature",),
    )
    grid_finalists: int = option(
        5,
        "Best candidates of the grid that are trained by --study_seeds seeds.",
        minimum=1,
        commands=("paper-miniature",),
    )
    study_phi: int = option(
        2,
        "Largest phi: networks of 2, 4, ... 2^phi times the base's multiply-adds are compared.",
        minimum=1,
        maximum=6,
        commands=("paper-miniature",),
    )
    transfer_data_dir: str = option(
        "",
        "Images, as --data_dir, that the base and the largest compound network are fine-tuned on. Left out: none are.",
        path="archives",
        commands=("paper-miniature",),
    )
    transfer_epochs: float = option(
        20.0, "Passes over the images of --transfer_data_dir.", above=0, commands=("paper-miniature",)
    )
    transfer_learning_rate: float = option(
        0.016, "Learning rate of fine-tuning, per 256 images of the batch.", above=0, commands=("paper-miniature",)
    )
    transfer_resolution_factor: float = option(
        1.0,
        "Side of the images of --transfer_data_dir, as a multiple of the side that the network was trained on.",
        minimum=0.5,
        maximum=8,
        commands=("paper-miniature",),
    )
    study_storage: str = option(
        "",
        "Database that workers on many hosts share, as Optuna takes it, or env:NAME: the environment variable that has "
        "it, so that nobody sees its password in the list of processes. Left out: a file in --output_dir.",
        secret=True,
        commands=("grid-search", "search"),
    )
    study_name: str = option(
        "", "Name of the study in its storage. Left out: the command's.", commands=("grid-search", "search")
    )


@dataclass(frozen=True)
class SearchConfig:
    """Architecture search"""

    search_algorithm: str = option(
        "ppo",
        "ppo: the paper's controller, an LSTM trained by proximal policy optimization. evolution: regularized "
        "evolution. random: the control.",
        choices=SEARCH_ALGORITHMS,
        commands=("search",),
    )
    search_trials: int = option(
        150, "Networks to train. A search can be continued with more.", minimum=1, commands=("search",)
    )
    search_seed: int = option(
        0, "Seed of the algorithm; --seed is that of the trainings.", minimum=0, maximum=2**31 - 1, commands=("search",)
    )
    search_objective: str = option(
        "soft",
        "Reward of a network, top-1 x (cost / target)^w. soft: w is -0.07, as in the paper. hard: w is 0 up to the "
        "target, and -1 beyond it.",
        choices=SEARCH_OBJECTIVES,
        commands=("search",),
    )
    search_cost: str = option(
        "multiply_adds",
        "Cost of a network. multiply_adds, params: counted. latency: of one image on one core, measured here. "
        "tpu_step: of a training step on --tpu_type, modeled as by plan.",
        choices=SEARCH_COSTS,
        commands=("search",),
    )
    search_target: float | None = option(
        None,
        "Target of the cost, in its unit; times are in seconds. Left out: the paper's 400e6 multiply-adds.",
        above=0,
        commands=("search",),
    )
    search_pruning: bool = option(
        False,
        "End trainings whose reward at an evaluation is below the median of earlier ones there.",
        commands=("search",),
    )
