"""The base, the candidates and the images of the paper in miniature, before its first training."""

import os
from dataclasses import dataclass, replace

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.models.architecture import Variant
from efficientnet_tpu.models.configured import configured_architecture, configured_variant
from efficientnet_tpu.studies import run_grid_search, run_scaling_study, scaling_study
from efficientnet_tpu.studies.grid_search import Candidate
from efficientnet_tpu.studies.miniature import networks
from efficientnet_tpu.studies.scaling_study import BASE, TrialResult

GRID, SCALING, TRANSFER = "grid", "scaling", "transfer"  # the steps, and their folders in --output_dir
FIRST_GRID_SEED = 1000  # above all of --study_seeds
LONGER_FACTOR = 2  # how many times as long the base is trained, to see whether it has converged


@dataclass(frozen=True)
class Chain:
    """The chain's inputs, which do not depend on what is trained.

    base: the network that is scaled. candidates: those of STEP 1. num_classes, num_images: of --data_dir, the images
    those to train on. transfer_config: how networks are fine-tuned; None without images. transfer_classes,
    transfer_images: of --transfer_data_dir.
    """

    config: Config
    base: Variant
    name: str
    candidates: tuple[Candidate, ...]
    num_classes: int
    num_images: int
    transfer_config: Config | None
    transfer_classes: int
    transfer_images: int

    def folder(self, step: str) -> str:
        """Returns the directory of a step's trainings."""
        return os.path.join(self.config.output.output_dir, step)

    def rows(self, step: str) -> list[TrialResult]:
        """Returns the results of a step that are the chain's: other ones may be from before flags were changed."""
        seeds, candidates = self.seeds(step), {one.name for one in self.candidates}
        rows = run_scaling_study.load(self.folder(step))
        return [row for row in rows if row.seed in seeds and (step != GRID or row.way in candidates)]

    def seeds(self, step: str) -> range:
        """Returns the seeds of a step's trainings.

        STEP 1's are its own: no training that chose the coefficients is counted where they are compared.
        """
        first = FIRST_GRID_SEED if step == GRID else 0
        return range(first, first + self.config.study.study_seeds)

    def finalist_rows(self) -> list[TrialResult]:
        """Returns the results of STEP 1's best candidates, of which all seeds are trained."""
        groups = scaling_study.group_by_way(self.rows(GRID)).values()
        return [row for group in groups if len(group) == self.config.study.study_seeds for row in group]

    def classes(self, step: str) -> int:
        """Returns the number of classes of the images that a step trains on."""
        return self.transfer_classes if step == TRANSFER else self.num_classes

    def images(self, step: str, way: str = BASE) -> float:
        """Returns the number of images that a training of a step sees, each as often as it is seen."""
        if step == TRANSFER:
            return self.transfer_images * self.config.study.transfer_epochs
        return self.num_images * self.config.train.train_epochs * (LONGER_FACTOR if way == networks.LONGER else 1)


def open_chain(config: Config) -> Chain:
    """Returns the inputs of the chain. Raises UserError for those that would stop it later."""
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.data import datasets

    study = config.study
    data = datasets.open_data(config.data)
    num_classes, base = len(data.label_names), configured_variant(config.model)
    found = run_grid_search.find_candidates(config)
    usable = networks.usable_candidates(found, base, study.study_phi, study.largest_resolution, num_classes)
    if not usable:
        raise UserError(
            f"--study_phi={study.study_phi} --largest_resolution={study.largest_resolution}: none of the {len(found)} "
            "candidates of the grid can be scaled so far. Take a smaller phi, a larger resolution, or smaller steps."
        )
    # The ways that need no coefficients are possible or not by the base alone.
    networks.scaled_networks(base, usable[0].coefficients[0], study.study_phi, num_classes)
    num_images = data.splits["train"].num_images
    name = configured_architecture(config.model, num_classes).name
    chain = Chain(config, base, name, tuple(usable), num_classes, num_images, None, 0, 0)
    if not study.transfer_data_dir:
        return chain
    transfer_config = _transfer_config(config)
    other = datasets.open_data(transfer_config.data)
    return replace(
        chain,
        transfer_config=transfer_config,
        transfer_classes=len(other.label_names),
        transfer_images=other.splits["train"].num_images,
    )


def _transfer_config(config: Config) -> Config:
    """Returns how networks are trained on --transfer_data_dir: as on --data_dir, but for what has flags of its own."""
    study = config.study
    return with_options(
        config,
        {
            "dataset": "auto",
            "data_dir": study.transfer_data_dir,
            "minival_percent": 0.0,  # nothing is chosen
            "train_epochs": study.transfer_epochs,
            "epochs_per_eval": study.transfer_epochs,
            "lr_warmup_epochs": None,  # chosen by the number of epochs
        },
    )
