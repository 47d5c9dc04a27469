"""A function for each command, which imports the work when it runs."""

from collections.abc import Sequence

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError


def train_and_eval(config: Config, arguments: Sequence[str]) -> None:
    """Trains a model, evaluating as it goes (the default command).

    A run continues from the newest checkpoint in --model_dir.
    """
    from efficientnet_tpu import train

    train.train_and_eval(config)


def evaluate(config: Config, arguments: Sequence[str]) -> None:
    """Measures a trained model on the validation images.

    --report writes the page of `report` too, into a folder of its own.
    """
    if config.output.report:
        from efficientnet_tpu.model_inspection import evaluation_report

        evaluation_report.evaluate_and_report(config)
        return
    from efficientnet_tpu import evaluate

    evaluate.evaluate_run(config)


def report(config: Config, arguments: Sequence[str]) -> None:
    """Writes a page on a trained model: results, mistakes, curves.

    It evaluates the run as `evaluate` does, and goes into RUN/report, or --output_dir.
    """
    from efficientnet_tpu.model_inspection import evaluation_report

    evaluation_report.evaluate_and_report(config)


def predict(config: Config, arguments: Sequence[str]) -> None:
    """Classifies images with a trained or an exported model.

    An IMAGE is a file, a folder or a glob; - reads a list of files from stdin.
    """
    from efficientnet_tpu import predict

    predict.predict_paths(config, arguments)


def export(config: Config, arguments: Sequence[str]) -> None:
    """Writes a trained model as SavedModel, Keras, TFLite or ONNX.

    Every format is read back and compared with the run.
    """
    from efficientnet_tpu import export

    export.export_run(config)


def import_weights(config: Config, arguments: Sequence[str]) -> None:
    """Turns weights of Keras, TF1, timm or PyTorch into a model_dir.

    The sources are keras.applications, the TensorFlow 1 reference, timm and EfficientNet-PyTorch.
    """
    from efficientnet_tpu.weights import import_weights

    import_weights.import_weights(config)


def models(config: Config, arguments: Sequence[str]) -> None:
    """Lists all models: parameters, multiply-adds, resolution.

    With flags of section Model, that model is listed too; --layers lists its layers.
    """
    from efficientnet_tpu.models.layer_costs import layers_text
    from efficientnet_tpu.models.models_table import models_table

    form = config.output.format
    if config.output.layers:
        print(layers_text(config.model, form))
        return
    if form != "text":
        raise UserError(f"--format={form}: is a form of --layers. Add that, or leave --format out.")
    print(models_table(config.model))


def check_data(config: Config, arguments: Sequence[str]) -> None:
    """Reads every image and reports the unreadable and the duplicate.

    It looks for images in two splits too. The exit status is 1 if there is something to report.
    """
    from efficientnet_tpu.data_inspection import check_data

    check_data.check_data(config)


def preview(config: Config, arguments: Sequence[str]) -> None:
    """Draws the training images as the model sees them.

    --picture shows them as they are prepared, and each augmentation operation by itself.
    """
    from efficientnet_tpu.data_inspection import preview

    preview.preview(config)


def make_tfrecords(config: Config, arguments: Sequence[str]) -> None:
    """Converts a folder, a manifest or archives to TFRecord shards.

    The shards are laid out like ImageNet's; an interrupted conversion continues. Several machines may write them.
    """
    from efficientnet_tpu.data.conversion import make_tfrecords

    make_tfrecords.convert(config)


def benchmark(config: Config, arguments: Sequence[str]) -> None:
    """Measures training steps, inference or the input pipeline.

    input: where the time of images goes, and which accelerators it feeds. train, inference: milliseconds of a call,
    images a second and memory by batch, of a model, a run or an export.
    """
    if list(arguments) == ["input"]:
        from efficientnet_tpu.hardware import tensorflow_startup

        tensorflow_startup.import_tensorflow()
        from efficientnet_tpu.data_inspection import input_benchmark

        input_benchmark.benchmark_input(config)
        return
    from efficientnet_tpu.speed import benchmark

    {"train": benchmark.benchmark_train, "inference": benchmark.benchmark_inference}[arguments[0]](config)


def doctor(config: Config, arguments: Sequence[str]) -> None:
    """Says why this machine does not train, and what to do.

    Give it the flags of a training, to look at what that needs. The exit status is 1 if there is an error.
    """
    from efficientnet_tpu.doctor import doctor

    doctor.doctor(config)


def plan(config: Config, arguments: Sequence[str]) -> None:
    """Estimates memory, speed and cost of a training on a TPU.

    It needs no TPU.
    """
    from efficientnet_tpu.plan.plan import plan

    plan(config)


def launch(config: Config, arguments: Sequence[str]) -> None:
    """Prints what trains on a TPU VM, GKE, SkyPilot, Slurm or Vertex.

    A script that makes the TPU VM, trains on it through preemptions and deletes it; or the file of another engine.
    """
    from efficientnet_tpu.launch import engines

    print(engines.launch_text(config), end="")


def verify_resume(config: Config, arguments: Sequence[str]) -> None:
    """Proves that a killed run loses nothing.

    Trains briefly, straight and killed at random steps, and compares the two to the bit.
    """
    from efficientnet_tpu.run import verify_resume

    verify_resume.verify_resume(config)


def scale(config: Config, arguments: Sequence[str]) -> None:
    """Finds the largest network that a budget pays for.

    The network is --model, or a table of your own, with compound scaling.
    """
    from efficientnet_tpu.studies import scale_to_budget

    scale_to_budget.scale_to_budget(config)


def reproduce(config: Config, arguments: Sequence[str]) -> None:
    """Prints a table or figure of the paper beside our numbers.

    --output_dir writes files of it too.
    """
    from efficientnet_tpu.paper import reproduce

    reproduce.reproduce(config)


def grid_search(config: Config, arguments: Sequence[str]) -> None:
    """Trains a grid of alpha, beta and gamma: the paper's step 1.

    The grid holds all with alpha * beta^2 * gamma^2 about 2; the result is a ranking.
    """
    from efficientnet_tpu.studies import run_grid_search

    run_grid_search.run(config)


def scaling_study(config: Config, arguments: Sequence[str]) -> None:
    """Compares networks scaled in depth, width, resolution and all.

    All are scaled from one base network to equal cost, trained with several seeds, and compared.
    """
    from efficientnet_tpu.studies import run_scaling_study

    run_scaling_study.run(config)


def search(config: Config, arguments: Sequence[str]) -> None:
    """Searches for a network: the paper's search for EfficientNet-B0.

    Trains many networks of one search space for a short time; what is accurate and cheap has a high reward.
    """
    from efficientnet_tpu.studies.search import run_search

    run_search.run(config)


def paper_miniature(config: Config, arguments: Sequence[str]) -> None:
    """Trains the paper in small: grid, scaling, transfer, a page.

    Every step trains; the same command continues what was stopped.
    """
    from efficientnet_tpu.studies.miniature import run_miniature

    run_miniature.run(config)


def search_report(config: Config, arguments: Sequence[str]) -> None:
    """Reports architecture searches: networks, curves, the best one.

    The best network of each becomes files that other commands train, scale and plan.
    """
    from efficientnet_tpu.studies.search_report import report

    report.run(config)


def compare_maps(config: Config, arguments: Sequence[str]) -> None:
    """Draws where several runs look in the same images.

    Class activation maps side by side, as in the paper's Figure 7.
    """
    from efficientnet_tpu.model_inspection import compare_maps

    compare_maps.compare_maps(config, arguments)


def compare(config: Config, arguments: Sequence[str]) -> None:
    """Lays runs side by side: options, curves, results.

    Says what differs, and whether the accuracies differ by more than chance; --output_dir writes files of it too.
    """
    from efficientnet_tpu.comparison import compare

    compare.compare(config, arguments)


def finished(config: Config) -> str:
    """Returns the results of a run that has nothing left to train, from its files, else ""."""
    from efficientnet_tpu.run.finished_run import describe_finished

    return describe_finished(config)
