"""The training loop: step, log, evaluate, save. Everything before the first step is in run_setup.py."""

import functools

import tensorflow as tf

from efficientnet_tpu import run_setup
from efficientnet_tpu.config.config import Config
from efficientnet_tpu.evaluate import Evaluator
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.run.checkpoint import restore_average
from efficientnet_tpu.run.early_stopping import describe_delivery
from efficientnet_tpu.run.reports.log_entries import summary
from efficientnet_tpu.training.precise_batch_norm import make_precise_batch_norm
from efficientnet_tpu.training.stream import TrainStream
from efficientnet_tpu.training.train_step import make_train_loop, make_train_step


def train_and_eval(config: Config) -> dict[str, float]:
    """Trains to the end of the run, from the newest checkpoint in model_dir if there is one.

    Returns the results of the last evaluation (see `evaluate.Evaluator`); with a minival, those of the best checkpoint
    on the validation images. Raises StoppedError when the process is told to stop; the training state is saved then.
    """
    with run_setup.open_run(config) as run:
        config, strategy = run.config, run.strategy  # the run's own config has no `auto` left
        evaluate = Evaluator(strategy, run.evaluated_models, run.architecture, run.evaluated_split, config)
        if not run.evaluation_steps:
            return report_ended_run(run, evaluate())
        num_replicas = strategy.num_replicas_in_sync
        train_step = make_train_step(run.state, config.train, config.run.seed, num_replicas, run.class_weights)
        update_batch_norm = make_precise_batch_norm(
            strategy, run.evaluated_models.values(), run.architecture, run.data.train, config
        )
        stream = TrainStream(strategy, run.data.train, run.architecture, config, run.step)
        train_loop = make_train_loop(strategy, train_step, stream.clock)
        monitor, step = run_setup.make_monitor(run, lambda: evaluate.confusion), run.step
        with monitor.shown():
            for next_evaluation in run.evaluation_steps:
                while step < next_evaluation:
                    num_steps = monitor.steps_to_make(step, next_evaluation)
                    with stream.explained_errors():
                        seconds_waited = float(train_loop(stream.batches, tf.constant(num_steps)))
                    step += num_steps
                    monitor.on_steps(step, num_steps, seconds_waited)  # logs; saves when it is time
                update_batch_norm()
                results = evaluate(on_progress=functools.partial(monitor.stop_if_asked, step))
                results = monitor.on_evaluation(step, results)  # logs and saves
                if run.stops_early():
                    break
        monitor.on_end(step, results)
        if run.data.minival:
            results = validate_best(run)
            monitor.on_validation_of_best(results)
        return results


def report_ended_run(run: run_setup.Run, results: dict[str, float]) -> dict[str, float]:
    """Prints and returns the results of a run that has no steps left."""
    how, flag = run.ending
    line = f"this run has {how}: {summary(results, run.architecture.num_classes)}; raise --{flag} to train on"
    best = run.checkpoints.early_stopping
    distribution.print_on_chief(run.strategy, "\n".join([line, *describe_delivery(run.config, best)]))
    if run.data.minival:
        results = validate_best(run)
        best_step = run.checkpoints.early_stopping.best_step
        text = summary(results, run.architecture.num_classes)
        line = f"validation of the best checkpoint, step {best_step}: {text}"
        distribution.print_on_chief(run.strategy, line)
    return results


def validate_best(run: run_setup.Run) -> dict[str, float]:
    """Evaluates the average of the best checkpoint on the validation images. It replaces the average in the state."""
    restore_average(run.state.average, run.config.run.model_dir, "best")
    return Evaluator(run.strategy, {"": run.state.average}, run.architecture, run.data.validation, run.config)()
