"""The place of a data set, looked at before anything is opened there: no TensorFlow, but for gs://."""

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.archives.imagenet_archives import are_archives, require_archives
from efficientnet_tpu.data.records.tfrecord_layout import DATASET_JSON, has_journal
from efficientnet_tpu.data.sources import image_folder, manifest
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
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
    if are_archives(config.data_dir):
        require_archives(config.data_dir)
    elif not manifest.is_manifest(config.data_dir):
        _require_finished(config.data_dir.rstrip("/"), config.source)
        image_folder.require_folder(config.data_dir.rstrip("/") or "/")
    elif not presence.exists(config.data_dir, config.source):
        raise UserError(f"{config.source}: does not exist. Name the file that lists the images.")


def _require_finished(data_dir: str, named: str) -> None:
    """Raises UserError for shards of make-tfrecords that are not all written, or not verified."""
    names = presence.names_in(data_dir, named)
    partial_dir = f"{data_dir.removesuffix('.partial')}.partial"
    if DATASET_JSON in names:
        return
    beside = presence.names_in(partial_dir, named) if partial_dir != data_dir else []
    if has_journal(names) or has_journal(beside):
        raise UserError(
            f"{named}: make-tfrecords has not finished these shards; {partial_dir} keeps what is done. Give its "
            f"command again. Those of --shards=K/N are complete after `{program()} make-tfrecords "
            f"--output_dir={partial_dir.removesuffix('.partial')} --shards=verify`."
        )
