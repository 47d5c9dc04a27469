"""The place of a data set, looked at before anything is opened there: no TensorFlow, but for gs://."""

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.sources import image_folder, manifest
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence


def require_data_place(config: DataConfig) -> None:
    """Raises UserError where --data_dir has to name a place, and names none or one that is not there."""
    if config.dataset != "auto":
        return
    if not config.data_dir:
        raise UserError(
            "--data_dir is missing: a folder of images, a manifest or TFRecord shards; or --dataset=sample for the "
            "embedded one."
        )
    if not manifest.is_manifest(config.data_dir):
        image_folder.require_folder(config.data_dir.rstrip("/") or "/")
    elif not presence.exists(config.data_dir, config.source):
        raise UserError(f"{config.source}: does not exist. Name the file that lists the images.")
