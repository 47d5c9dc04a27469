"""The section of the images of a run. run.json stores it."""

from dataclasses import dataclass

from efficientnet_tpu.config.color import WORDS, read_color
from efficientnet_tpu.config.option import option

AUGMENTATIONS = ("none", "autoaugment", "autoaugment-cifar10", "autoaugment-svhn", "randaugment")
AUGMENT_SEMANTICS = ("reference", "pil")
DOWNSCALES = ("mean", "reference")
HOLD_OUTS = ("class", "name")

# What --dataset may be. The rows of data.datasets.SOURCES have these names, up to the colon.
DATASETS = {
    "auto": "look at data_dir",
    "sample": "the embedded Fashion-MNIST",
    "tfds:NAME": "TensorFlow Datasets",
    "fake or fake:CLASSES:TRAIN:VALIDATION": "made-up images for dry runs, as many as ImageNet has or as said",
}
DATASETS_WITHOUT_A_PLACE = ("sample", "fake")  # --data_dir is nothing to them


@dataclass(frozen=True)
class DataConfig:
    """Data"""

    data_dir: str = option(
        "",
        "Images: a folder root/<class>/*.jpg or root/{train,validation,test}/<class>/*.jpg; a manifest, FILE.csv, "
        "FILE.tsv or FILE.jsonl, with the columns path, label, perhaps split; a directory of TFRecord shards (train-*, "
        "validation-*, or train/*.tfrec ...), compressed or not; what TFDS has prepared; or the TFDS data directory. "
        "Local or gs://. Or ImageNet's archives, on a local disk: ILSVRC2012_img_train.tar,ILSVRC2012_img_val.tar.",
        path="archives",
        per_host=True,
    )
    dataset: str = option(
        "auto",
        " ".join(f"{form}: {meaning}." for form, meaning in DATASETS.items()),
    )
    tfrecord_keys: str = option(
        "",
        "TFRecords of others: what they call image and label, as image=KEY,label=KEY; a label is a number or the name "
        "of a class. Numbers count from 0, with first_label=1 from 1. Left out: the reference's image/encoded and "
        "image/class/label, from 1.",
    )
    validation_percent: int | None = option(
        None,
        "Folder, manifest or TFDS set without a validation split: hold out this share. Left out: 10, and 20 of fewer "
        "than 1,000 images.",
        minimum=1,
        maximum=50,
        before=(10,),
    )
    minival_percent: float = option(
        0.0,
        "Hold out this share of the training images, to choose by, so that the validation images stay unseen: whole "
        "shards of TFRecords, one at least. The paper used 20 of ImageNet's 1024 shards, which is 2.",
        minimum=0,
        maximum=50,
    )
    hold_out_by: str = option(
        "class",
        "Folders and manifests: class, the share of every class, those of its images whose names have the lowest "
        "hashes; name, all images whose names have low hashes, as runs of earlier versions did.",
        choices=HOLD_OUTS,
        before=("name",),
    )
    exif_orientation: bool = option(
        True,
        "Turn pictures as their EXIF data say, which cameras and telephones write; --noexif_orientation takes them as "
        "they are stored, as the reference does.",
        before=(False,),
        commands=("predict",),
    )
    background: str = option(
        "white",
        f"What transparent pictures are laid on: {WORDS}, which drops the opacities and shows whatever is stored below "
        "them.",
        parse=read_color,
        before=("none",),
        commands=("predict",),
    )
    downscale: str = option(
        "mean",
        "Crops of at least twice the model's image side, as of cameras and telephones: mean, they are first reduced by "
        "averaging, to less than twice; reference, the kernel takes single pixels of them, as the reference does.",
        choices=DOWNSCALES,
        before=("reference",),
        commands=("predict",),
    )
    crop_min_area: float = option(0.08, "Training crop: smallest share of the image's area.", above=0, maximum=1)
    horizontal_flip: bool = option(True, "Mirror half of the training images; --nohorizontal_flip does not.")
    augment: str = option("none", "Augmentation policy; autoaugment is ImageNet's.", choices=AUGMENTATIONS)
    augment_semantics: str = option(
        "reference",
        "How the policies' operations compute: as in the program that trained the published weights, its three slips "
        "included (docs/augmentation.md), or pil: as Pillow does.",
        choices=AUGMENT_SEMANTICS,
    )
    randaug_num_layers: int = option(2, "randaugment: operations applied to an image.", minimum=1, maximum=16)
    randaug_magnitude: float = option(10.0, "randaugment: strength; 10 is the nominal highest.", minimum=0, maximum=100)
    max_unreadable_percent: float = option(
        1.0,
        "Training goes on without images that cannot be read, and lists them in model_dir; it stops when there are "
        "more than this share (and more than 5). 0: stops at the first.",
        minimum=0,
        maximum=100,
    )
    input_timeout: int = option(
        600,
        "Seconds to wait for the next batch of images: a place on the network may stop answering. Then the run ends; 0 "
        "waits on.",
        minimum=0,
    )
    eval_crop_padding: int | None = option(
        None,
        "Evaluation crop: the centre square of side size / (size + padding) of the shorter side. Left out: 32, as the "
        "published figures were measured, and less for images under 224 pixels, so that 7/8 remain.",
        minimum=0,
        commands=("predict", "import-weights"),
    )
    shuffle_buffer: int = option(
        4096, "Encoded images shuffled among each other (TFRecord, TFDS); memory holds two such blocks.", minimum=1
    )

    @property
    def source(self) -> str:
        """The flag that named the images, as it was given."""
        return f"--data_dir={self.data_dir}" if self.dataset == "auto" else f"--dataset={self.dataset}"
