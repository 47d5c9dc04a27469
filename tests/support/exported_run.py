"""The measure of an exported model: image files of every class, and the run's own probabilities of them."""

CLASSES = ["circle", "square", "triangle"]


def class_files(shapes):
    """Paths of a PNG and a JPEG file of every class."""
    return [shapes / "validation" / name / file for name in CLASSES for file in ("00.png", "01.jpg")]


def run_probabilities(trained, files):
    """Returns the run's own probabilities of the files: float32 [files, classes]."""
    from efficientnet_tpu.exporting import classifier
    from efficientnet_tpu.run import run_record

    run = classifier.make_classifier(classifier.load_serving(run_record.load(str(trained)).config))
    return run.probabilities([path.read_bytes() for path in files]).numpy()
